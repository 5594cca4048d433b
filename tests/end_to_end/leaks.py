"""Leaks made to order, in a network namespace of the test's own: for the tests of scan, reap and doctor.

An Owner is a process that has sockets and does with them just what it is told, so that it can be stopped, forked or
run as another user while the test holds the clients' ends.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

from harness import BOUND_S, LASTACK, sockets, wait_for

NOBODY = 65534


def enter_namespace():
    """Starts the test again in a network namespace whose loopback is up, unless it is in one already."""
    own = os.readlink("/proc/self/ns/net")
    if os.environ.get("LASTACK_TEST_NAMESPACE") == own:
        return
    setup = 'ip link set lo up && export LASTACK_TEST_NAMESPACE=$(readlink /proc/self/ns/net) && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", setup, "sh", sys.executable, *sys.argv]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    os.execvp(command[0], command)


class Result:
    """What a run of lastack printed and how it ended."""

    def __init__(self, command):
        run = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)
        self.status, self.output, self.errors = run.returncode, run.stdout, run.stderr

    @property
    def json(self):
        return json.loads(self.output)

    def __repr__(self):
        return f"status {self.status}\n{self.output}\n{self.errors}"


def lastack(*arguments, before=()):
    return Result([*before, LASTACK, *map(str, arguments)])


def as_nobody(*capabilities):
    """Command words that drop all rights but these, for example as_nobody("net_admin")."""
    words = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    kept = ",".join(f"+{name}" for name in capabilities)
    return [*words, "--inh-caps", f"-all,{kept}" if kept else "-all", "--ambient-caps",
            f"-all,{kept}" if kept else "-all"]


def scan(*arguments, before=()):
    """Rows of `scan --json`, by the peer's port."""
    report = lastack("scan", "--json", *arguments, before=before).json
    return {int(row["peer"].rsplit(":", 1)[1]): row for row in report["sockets"]}


class Owner:
    """A process with a listening socket; it answers what it is asked with the _do_ methods, until it is stopped."""

    def __init__(self, host="127.0.0.1", backlog=4096, uid=None, port=0, shared=False):
        """`shared`: others may listen on the port as well (SO_REUSEPORT)."""
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            with contextlib.suppress(BaseException):
                self._serve(theirs, (host, port), backlog, uid, shared)
            os._exit(0)
        theirs.close()
        self._control = ours.makefile("rw")
        ours.close()
        self.clients = []
        self.port = self._ask("port")
        self.host = host

    # --- the owner's side ---

    def _serve(self, control, address, backlog, uid, shared):
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        self.listener.bind(address)
        self.listener.listen(backlog)
        self.connections = {}
        lines = control.makefile("rw")
        for line in lines:
            name, arguments = json.loads(line)
            lines.write(json.dumps(getattr(self, "_do_" + name)(*arguments)) + "\n")
            lines.flush()

    def _do_port(self):
        return self.listener.getsockname()[1]

    def _do_accept_waiting(self):
        """Accepts what waits in the queue."""
        self.listener.setblocking(False)
        fds = []
        with contextlib.suppress(BlockingIOError):
            while True:
                fds += self._do_accept(1)
        self.listener.setblocking(True)
        for fd in fds:
            self.connections[fd].setblocking(True)
        return fds

    def _do_accept(self, count):
        fds = []
        for _ in range(count):
            connection, _ = self.listener.accept()
            self.connections[connection.fileno()] = connection
            fds.append(connection.fileno())
        return fds

    def _do_read_eof(self, fds):
        for fd in fds:
            while self.connections[fd].recv(65536):
                pass

    def _do_echo(self, fds):
        for fd in fds:
            self.connections[fd].sendall(self.connections[fd].recv(1))

    def _do_send(self, fd, text):
        return self.connections[fd].send(text.encode(), socket.MSG_DONTWAIT)

    def _do_send_error(self, fd):
        """The name of the error that a write meets."""
        try:
            self.connections[fd].send(b"x")
        except OSError as error:
            return type(error).__name__
        return None

    def _do_close(self, fds):
        for fd in fds:
            self.connections.pop(fd).close()

    def _do_keepalive(self, fds):
        for fd in fds:
            self.connections[fd].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _do_peer_port(self, fd):
        return self.connections[fd].getpeername()[1]

    def _do_cookie(self, fd):
        return int.from_bytes(self.connections[fd].getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)

    def _do_rename(self, name):
        """`name`: bytes as numbers; what is no UTF-8 can't be sent otherwise."""
        with open("/proc/self/comm", "wb") as comm:
            comm.write(bytes(name))

    def _do_fork(self):
        child = os.fork()
        if child == 0:
            while True:
                signal.pause()
        return child

    def _do_send_away(self, fds):
        """Puts them on their way to another process, which has not received them yet, and closes them here."""
        self.away = socket.socketpair()
        socket.send_fds(self.away[0], [b"x"], fds)
        self._do_close(fds)

    def _do_open(self, port, source="", source_port=0):
        connection = socket.create_connection(("127.0.0.1", port), source_address=(source, source_port))
        self.connections[connection.fileno()] = connection
        return connection.fileno()

    # --- the test's side ---

    def _ask(self, name, *arguments):
        self._control.write(json.dumps([name, arguments]) + "\n")
        self._control.flush()
        return json.loads(self._control.readline())

    def __getattr__(self, name):
        if not hasattr(type(self), "_do_" + name):
            raise AttributeError(name)
        return lambda *arguments: self._ask(name, *arguments)

    def connect(self, count=1, source=None, data=b""):
        """That many clients, connected and not accepted."""
        clients = []
        family = socket.AF_INET6 if ":" in self.host and self.host != "::" else socket.AF_INET
        host = {"::": "127.0.0.1"}.get(self.host, self.host)
        for _ in range(count):
            client = socket.socket(family, socket.SOCK_STREAM)
            client.settimeout(BOUND_S)
            if source:
                client.bind((source, 0))
            client.connect((host, self.port))
            if data:
                client.sendall(data)
            clients.append(client)
        self.clients += clients
        return clients

    def leak(self, count=1, accept=True, read=True, close=False, **options):
        """Leaks of one cause: returns the clients' ends (closed ones if `close`), their ports, and our fds."""
        clients = self.connect(count, **options)
        ports = [client.getsockname()[1] for client in clients]
        fds = self.accept(count) if accept else []
        for client in clients:
            client.close() if close else client.shutdown(socket.SHUT_WR)
        if accept and read:
            self.read_eof(fds)
        wait_for(lambda: self.in_close_wait().issuperset(ports), "the kernel shows the leaks")
        return clients, ports, fds

    def in_close_wait(self):
        """The peers' ports of its sockets in CLOSE_WAIT."""
        return {int(row.peer.rsplit(":", 1)[1]) for row in sockets("state close-wait", f"sport = :{self.port}")}

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        self.signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self):
        self.signal(signal.SIGCONT)

    def end(self):
        self.signal(signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._control.close()
        for client in self.clients:
            client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def older_than(seconds, port, count):
    """Waits until that many leaks of the port are known to be that old."""
    wait_for(lambda: sum(row["age_ms"] >= seconds * 1000 for row in scan("--port", port).values()) >= count,
             f"{count} leaks are {seconds} s old")


def kill_quietly(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
