"""What goes wrong around a proxy: backends that die or stop, queues, descriptors and ports that run out, clients
that vanish, thousands of deadlines at once, and a proxy that was stopped itself. After each fault traffic flows
again, and sessions and descriptors are where they were. Runs in a network namespace of its own, and fails where
it gets none."""

import collections
import contextlib
import ctypes
import itertools
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import (BOUND_S, Leak, Proxy, Server, close_wait, connect, main, receive_all,
                     receive_exactly, reset, sockets, wait_for)
from leaks import enter_namespace

MIB = 1 << 20
NOISE = random.Random(1).randbytes(MIB)
PIECE = 1 << 16


class Flow:
    """A client of an echo that sends noise without end and compares what comes back, until finish() or a fault.

    `received_bytes` were right and in order; `send_error` and `receive_error` are what the two halves ended with."""

    def __init__(self, address):
        self.connection = connect(address)
        self.sent_bytes = 0
        self.received_bytes = 0
        self.send_error = self.receive_error = None
        self._last = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        try:
            while not self._last.is_set():
                start = self.sent_bytes % MIB
                self.sent_bytes += self.connection.send(NOISE[start:start + PIECE])
            self.connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.send_error = error

    def _receive(self):
        try:
            while piece := self.connection.recv(PIECE):
                start = self.received_bytes % MIB
                expected = NOISE[start:start + len(piece)]
                if piece != expected + NOISE[:len(piece) - len(expected)]:
                    raise ValueError(f"other bytes at {self.received_bytes}")
                self.received_bytes += len(piece)
        except (OSError, ValueError) as error:
            self.receive_error = error

    def has_moved(self, since_bytes=0):
        """Whether another MiB has come back; raises what the flow ended with."""
        for error in filter(None, (self.receive_error, self.send_error)):
            raise error
        return self.received_bytes >= since_bytes + MIB

    def join(self):
        """Waits until both halves have ended."""
        for thread in self._threads:
            thread.join(BOUND_S)
            if thread.is_alive():
                raise AssertionError(f"a flow has not ended: {self.sent_bytes} sent, {self.received_bytes} received")
        self.connection.close()

    def finish(self):
        """Sends FIN and takes the rest; fails unless every byte came back."""
        self._last.set()
        self.join()
        errors = [error for error in (self.send_error, self.receive_error) if error]
        if errors or self.received_bytes != self.sent_bytes:
            raise AssertionError(f"{self.received_bytes} of {self.sent_bytes} bytes came back; {errors}")


def start_flows(address, count=8):
    """That many flows, each in mid-transfer."""
    flows = [Flow(address) for _ in range(count)]
    wait_for(lambda: all(flow.has_moved() for flow in flows), "the transfers are under way")
    return flows


def check_flows(address):
    """Traffic flows."""
    for flow in start_flows(address, count=3):
        flow.finish()


def echo(connection):
    while piece := connection.recv(PIECE):
        connection.sendall(piece)


def is_answered(client):
    """Whether the echo comes; a session that was refused is reset."""
    try:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError):
        return False


def serves(address):
    """Whether a new session is answered."""
    try:
        with connect(address) as client:
            return is_answered(client)
    except ConnectionResetError:
        return False


def held(pid):
    """Descriptors of the process without its pipes, of which it keeps a bounded stock."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(f"/proc/{pid}/fd/{name}").startswith("pipe:")
    return count


@contextlib.contextmanager
def everything_returns(proxy):
    """At the end of the block the proxy has as many descriptors as at its beginning, and so as many sessions."""
    before = held(proxy.pid)
    yield
    wait_for(lambda: held(proxy.pid) == before, lambda: f"{before} descriptors, there are {held(proxy.pid)}")


def reasons(proxy):
    return {session["reason"] for session in proxy.sessions}


class Backend(unittest.TestCase):
    def test_killed_in_mid_transfer(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy, everything_returns(proxy):
            flows = start_flows(proxy.address)
            os.kill(leak.server_pid, signal.SIGKILL)
            for flow in flows:
                flow.join()
                self.assertIsInstance(flow.send_error, (ConnectionResetError, BrokenPipeError))
                self.assertNotIsInstance(flow.receive_error, ValueError)
            proxy.wait_for_sessions(len(flows))
            self.assertEqual(reasons(proxy), {"backend_reset"})
            self.assertFalse(serves(proxy.address))
            with Leak("healthy", listen=leak.address):
                check_flows(proxy.address)

    def test_stopped_and_continued_in_mid_transfer(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy, everything_returns(proxy):
            flows = start_flows(proxy.address)
            server = leak.server_pid
            os.kill(server, signal.SIGSTOP)
            try:
                self.wait_for_silence(flows)
            finally:
                os.kill(server, signal.SIGCONT)
            stopped_at = [flow.received_bytes for flow in flows]
            wait_for(lambda: all(map(Flow.has_moved, flows, stopped_at)), "the transfers go on")
            for flow in flows:
                flow.finish()
            proxy.wait_for_sessions(len(flows))
            self.assertEqual(reasons(proxy), {"closed"})

    @staticmethod
    def wait_for_silence(flows):
        """Everything is full: nothing was sent or received for half a second."""
        seen = []

        def is_silent():
            seen.append([(flow.sent_bytes, flow.received_bytes) for flow in flows])
            time.sleep(0.5)
            return len(seen) > 1 and seen[-1] == seen[-2]

        wait_for(is_silent, "the transfers stall")

    def test_backlog_full(self):
        """Who may wait is served as soon as there is room, and who may not is reset by then."""
        config = """
            frontends:
              - {{name: hasty, listen: ['127.0.0.1:0'], backend: service, deadlines: {{connect: 1s}}}}
              - {{name: patient, listen: ['127.0.0.1:0'], backend: service, deadlines: {{connect: off}}}}
            backends:
              - {{name: service, servers: ['{}']}}
        """
        with LateServer(echo, backlog=0) as server, Proxy.from_file(config.format(server.address)) as proxy, \
                everything_returns(proxy), contextlib.ExitStack() as stack:
            addresses = dict(proxy.listening)

            def clients(name):
                connections = [stack.enter_context(connect(addresses[name])) for _ in range(5)]
                for connection in connections:
                    connection.sendall(b"x")
                return connections

            patient = clients("patient")
            wait_for(lambda: sockets("state syn-sent", f"dport = :{server.port}"), "the backlog is full")
            for connection in clients("hasty"):
                with self.assertRaises(ConnectionResetError):
                    connection.recv(1)
            self.assertEqual([session["reason"] for session in proxy.wait_for_sessions(5)], ["connect"] * 5)
            server.listener.listen(1024)
            server.begin.set()
            for connection in patient:
                self.assertEqual(receive_exactly(connection, 1), b"x")
                connection.close()
            check_flows(addresses["hasty"])


class LateServer(Server):
    """Accepts nobody until `begin` is set."""

    def __init__(self, handler, backlog):
        self.begin = threading.Event()
        super().__init__(handler, backlog=backlog)

    def _accept(self):
        self.begin.wait()
        super()._accept()


class Exhausted(unittest.TestCase):
    def test_descriptors_for_seconds(self):
        """The limit is lowered behind the proxy's back, as a leak elsewhere in it would, and lifted again."""
        with Leak("healthy") as leak, Proxy(leak.address, "--workers", "2") as proxy, \
                everything_returns(proxy), contextlib.ExitStack() as stack:
            established = [stack.enter_context(connect(proxy.address)) for _ in range(10)]
            self.assertTrue(all(map(is_answered, established)))
            soft, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
            # A new descriptor is the lowest free number: room for two sessions and a half.
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{proxy.pid}/fd")) + 5, hard))
            crowd = []
            for _ in range(100):
                with contextlib.suppress(ConnectionResetError):  # accepted, with no descriptor left for more
                    crowd.append(stack.enter_context(connect(proxy.address)))
            proxy.wait_for_line("accept_paused")
            end = time.monotonic() + 2
            while time.monotonic() < end:
                self.assertTrue(all(map(is_answered, established)), "an established session was dropped")
                time.sleep(0.1)
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (soft, hard))
            refused = 100 - sum(map(is_answered, crowd))
            self.assertLess(refused, 50, "who can wait is not turned away")
            for client in established + crowd:
                client.close()
            ended = collections.Counter(session["reason"] for session in proxy.wait_for_sessions(110))
            self.assertEqual(ended, +collections.Counter(closed=110 - refused, no_descriptors=refused))
            check_flows(proxy.address)

    def test_ports_towards_the_backend(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy, everything_returns(proxy), \
                contextlib.ExitStack() as stack:
            def answered_client():
                """A client that is served, or None."""
                with contextlib.suppress(ConnectionResetError):
                    client = stack.enter_context(connect_apart(proxy.port))
                    return client if is_answered(client) else None

            with local_ports("40000 40009"):
                served = [answered_client() for _ in range(10)]
                self.assertTrue(all(served))
                self.assertFalse(any(answered_client() for _ in range(5)))
                self.assertEqual([session["reason"] for session in proxy.wait_for_sessions(5)], ["no_ports"] * 5)
                self.assertTrue(all(map(is_answered, served)), "an established session was dropped")
                for connection in served[:5]:
                    reset(connection)
                wait_for(answered_client, "ports that became free are used again")
            for connection in served[5:]:
                connection.close()
            check_flows(proxy.address)

    def test_a_port_that_is_the_servers_own(self):
        """The kernel gives the proxy the port that the proxy connects to, on which nobody listens yet."""
        config = ("frontends: [{name: main, listen: '127.0.0.1:20000', backend: service}]\n"
                  "backends: [{name: service, servers: ['127.0.0.1:40000'], check: tcp, check_interval: 1s, fall: 1,\n"
                  "            rise: 1}]\n")

        def is_served():
            with contextlib.suppress(ConnectionResetError), connect_apart(proxy.port) as client:
                return is_answered(client)
            return False

        with local_ports("40000 40000"), Proxy.from_file(config) as proxy:
            proxy.wait_for_line("server_down")
            self.assertFalse(is_served())
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["request_bytes"]), ("connect_failed", "0"))
            # The server can have its port, and the proxy has others.
            with Leak("healthy", listen="127.0.0.1:40000"), local_ports("40000 40009"):
                proxy.wait_for_line("server_up")
                self.assertTrue(is_served())


PORTS_APART = itertools.count(20001)


def connect_apart(port):
    """From a port that is not of those that run out, and that no test of this namespace has used: the kernel keeps
    what was closed there for a minute."""
    return socket.create_connection(("127.0.0.1", port), BOUND_S, source_address=("127.0.0.2", next(PORTS_APART)))


@contextlib.contextmanager
def local_ports(bounds):
    """Only those ports, "LOW HIGH", for connections that are opened from this namespace."""
    setting = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
    before = setting.read_text()
    setting.write_text(bounds)
    try:
        yield
    finally:
        setting.write_text(before)


class OtherHost:
    """A network namespace at the other end of a cable. Clients there vanish without a word when it is cut."""

    HERE, THERE = "10.9.0.1", "10.9.0.2"
    CLONE_NEWNET = 0x40000000

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._call("unshare", self.CLONE_NEWNET)
        self._away = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._call("setns", self._home, self.CLONE_NEWNET)
        self._ip(f"link add cable type veth peer name cable netns /proc/{os.getpid()}/fd/{self._away}")
        self._ip(f"address add {self.HERE}/24 dev cable")
        self._ip("link set cable up")
        with self.entered():
            self._ip(f"address add {self.THERE}/24 dev cable")
        self.mend()

    def _call(self, name, *arguments):
        if getattr(self._libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    @staticmethod
    def _ip(command):
        subprocess.run(["ip", *command.split()], check=True)

    @contextlib.contextmanager
    def entered(self):
        """What this thread opens within the block belongs to the other host."""
        self._call("setns", self._away, self.CLONE_NEWNET)
        try:
            yield
        finally:
            self._call("setns", self._home, self.CLONE_NEWNET)

    def connect(self, address):
        with self.entered():
            return connect(address)

    def cut(self):
        with self.entered():
            self._ip("link set cable down")

    def mend(self):
        with self.entered():
            self._ip("link set cable up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ip("link delete cable")
        os.close(self._away)
        os.close(self._home)


def act(connection):
    """A backend that does what its first byte says."""
    what = connection.recv(1)
    if what == b"s":  # streams for ever
        while True:
            connection.sendall(NOISE)
    if what == b"f":  # answers, and waits for the client's FIN
        connection.sendall(b"f")
        connection.shutdown(socket.SHUT_WR)
        receive_all(connection)
    connection.sendall(what)
    echo(connection)


class Clients(unittest.TestCase):
    # The deadline or option of a frontend, which is its name too; what its clients ask of the backend; the reason.
    BOUNDS = [("write_stall", b"s", "write_stall"), ("user_timeout", b"s", "client_lost"),
              ("half_close", b"f", "half_close"), ("idle", b"e", "idle")]

    @staticmethod
    def config(backend):
        frontends = ""
        for name, _, _ in Clients.BOUNDS:
            setting = f"tcp: {{{name}: 2s}}" if name == "user_timeout" else f"deadlines: {{{name}: 2s}}"
            frontends += f"  - {{name: {name}, listen: ['{OtherHost.HERE}:0'], backend: service, {setting}}}\n"
        return (f"deadlines: {{grace: 1s}}\nfrontends:\n{frontends}"
                f"backends:\n  - {{name: service, servers: ['{backend}']}}\n")

    def test_that_vanish_are_bounded_in_every_way(self):
        with OtherHost() as host, Server(act) as server, Proxy.from_file(self.config(server.address)) as proxy, \
                everything_returns(proxy), contextlib.ExitStack() as stack:
            server.expect_errors(ConnectionResetError, BrokenPipeError)
            addresses = dict(proxy.listening)
            clients = []
            for name, ask, _ in self.BOUNDS:
                for _ in range(5):
                    clients.append(stack.enter_context(host.connect(addresses[name])))
                    clients[-1].sendall(ask)
                    receive_exactly(clients[-1], 1)
            readers = [threading.Thread(target=self.read_on, args=(client,)) for client in clients]
            for reader in readers:
                reader.start()
            host.cut()
            sessions = proxy.wait_for_sessions(len(clients))
            for name, _, reason in self.BOUNDS:
                with self.subTest(name):
                    self.assertEqual([session["reason"] for session in sessions if session["frontend"] == name],
                                     [reason] * 5)
            for client, reader in zip(clients, readers):
                client.shutdown(socket.SHUT_RDWR)
                reader.join(BOUND_S)
            host.mend()
            for address in addresses.values():
                with host.connect(address) as client:
                    client.sendall(b"e")
                    self.assertEqual(receive_exactly(client, 1), b"e")
                    self.assertTrue(is_answered(client))

    @staticmethod
    def read_on(client):
        with contextlib.suppress(OSError):
            receive_all(client)


class Deadlines(unittest.TestCase):
    SESSIONS = 9000
    AFTER_MS = 3000
    LATE_MS = 20000  # generous: what is tested is that none is forgotten

    def test_nine_thousand_at_once(self):
        """The proxy is stopped while the clients send FIN, so that it sees all of them in one moment."""
        with Leak("never-close") as leak, Proxy(leak.address, "--half-close", f"{self.AFTER_MS}ms") as proxy, \
                everything_returns(proxy), contextlib.ExitStack() as stack:
            bystander = stack.enter_context(connect(proxy.address))
            clients = [stack.enter_context(connect(proxy.address)) for _ in range(self.SESSIONS)]
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                self.assertEqual(client.recv(1), b"x")
            with stopped(proxy):
                for client in clients:
                    client.shutdown(socket.SHUT_WR)
            wait_for(lambda: len(proxy.sessions) + proxy.dropped_lines >= self.SESSIONS,
                     lambda: f"{self.SESSIONS} ended sessions, there are {len(proxy.sessions)}")
            # The test may read the log too slowly; but the sessions do not end all in one turn of the loop, which
            # would neither leave time to write lines nor to serve others.
            self.assertLess(proxy.dropped_lines, self.SESSIONS // 2)
            sessions = list(proxy.sessions)
            self.assertEqual({(session["reason"], session["client_close"], session["backend_close"],
                               session["verified"]) for session in sessions}, {("half_close", "rst", "rst", "gone")})
            late_ms = [int(session["half_closed_ms"]) - self.AFTER_MS for session in sessions]
            print(f"{len(sessions)} half-closed sessions ended {min(late_ms)} to {max(late_ms)} ms after half_close")
            self.assertGreaterEqual(min(late_ms), 0)
            self.assertLess(max(late_ms), self.LATE_MS)
            self.assertEqual(close_wait(leak.port), [])
            self.assertTrue(is_answered(bystander), "a session that is not half-closed was dropped")
            self.assertTrue(serves(proxy.address))

    def test_silence_that_queued_traffic_disproves(self):
        """The proxy is stopped for longer than its deadlines; meanwhile both sides go on sending."""
        go_on, end = threading.Event(), threading.Event()
        answer = NOISE[:100000]
        queued = threading.Semaphore(0)

        def answer_slowly(connection):
            if connection.recv(1) == b"e":
                connection.sendall(b"e")
                echo(connection)
                return
            receive_all(connection)
            connection.sendall(b"h")
            go_on.wait()
            connection.sendall(answer)
            queued.release()
            end.wait()

        with Server(answer_slowly) as server, \
                Proxy(server.address, "--idle", "2s", "--half-close", "2s") as proxy, \
                everything_returns(proxy), contextlib.ExitStack() as stack:
            stack.callback(end.set)  # whatever happens, the backend's handlers return
            stack.callback(go_on.set)
            asking = [stack.enter_context(connect(proxy.address)) for _ in range(50)]
            listening = [stack.enter_context(connect(proxy.address)) for _ in range(50)]
            with connect(proxy.address) as silent:
                for client in [*asking, silent]:
                    client.sendall(b"e")
                for client in listening:
                    client.sendall(b"h")
                    client.shutdown(socket.SHUT_WR)
                for client in [*asking, *listening, silent]:
                    receive_exactly(client, 1)
                with stopped(proxy):
                    for client in asking:
                        client.sendall(b"xyz")
                    go_on.set()
                    for _ in listening:
                        self.assertTrue(queued.acquire(timeout=BOUND_S))
                    time.sleep(3)  # longer than both deadlines
                for client in asking:
                    self.assertEqual(receive_exactly(client, 3), b"xyz")
                    client.close()
                end.set()
                for client in listening:
                    self.assertEqual(receive_all(client), answer)
                self.assertEqual(silent.recv(1), b"")
            sessions = proxy.wait_for_sessions(len(asking) + len(listening) + 1)
            self.assertEqual(sorted(session["reason"] for session in sessions), ["closed"] * 100 + ["idle"])
            with connect(proxy.address) as client:
                client.sendall(b"e")
                self.assertEqual(receive_exactly(client, 1), b"e")
                self.assertTrue(is_answered(client))


def has_stopped(pid):
    """Whether each thread has: a signal takes its time to all of them."""
    threads = pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
    return {thread.read_text().rsplit(")", 1)[1].split()[0] for thread in threads} == {"T"}


@contextlib.contextmanager
def stopped(process):
    """The process does nothing during the block."""
    process.signal(signal.SIGSTOP)
    try:
        wait_for(lambda: has_stopped(process.pid), "the process has stopped")
        yield
    finally:
        process.signal(signal.SIGCONT)


if __name__ == "__main__":
    enter_namespace()
    main()
