"""What the end-to-end tests share: processes, sockets as the kernel lists them, and waiting for a condition.

A test starts `lastack` as a user does, waits until the kernel shows what was promised, and never sleeps for a
time that it hopes to be long enough. Ports are the kernel's choice. LASTACK names the binary to test.
"""

import collections
import contextlib
import errno
import json
import os
import pathlib
import re
import resource
import select
import shlex
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LASTACK = os.environ.get("LASTACK") or str(ROOT / ".build" / "debug" / "lastack")
MODES = ["never-close", "never-read", "stopped", "never-accept", "zero-byte",
         "keep-alive", "forked", "queued", "trickle", "healthy"]

COMPLAINT = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: "
                       r"|(refused|forbidden)_syscall")

TCP_CLOSE = 7  # include/net/tcp_states.h

# Long enough for any machine that is only slow; a test that needs it has failed.
BOUND_S = 120


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


raise_descriptor_limit()


def wait_for(condition, what, bound_s=BOUND_S):
    """Waits until condition() is true and returns its value; fails the test with `what` after bound_s."""
    end = time.monotonic() + bound_s
    pause_s = 0.01
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {bound_s} s: {what() if callable(what) else what}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.2)


# --- the kernel's view -------------------------------------------------------------------------------------

Socket = collections.namedtuple("Socket", "state receive_queue send_queue local peer inode")


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def sockets(*filters):
    """Rows of `ss -Htane` that match the filter, e.g. sockets("state close-wait", "sport = :80")."""
    words = [word for text in filters for word in text.split()]
    output = subprocess.run(["ss", "-Htane", *words], check=True, capture_output=True, text=True).stdout
    rows = []
    state_is_shown = "state" not in words  # ss leaves the column out when one state was asked for
    for line in output.splitlines():
        fields = line.split()
        if not state_is_shown:
            fields.insert(0, words[words.index("state") + 1].upper())
        inode = re.search(r"\bino:(\d+)", line)
        rows.append(Socket(fields[0], int(fields[1]), int(fields[2]), fields[3], fields[4],
                           int(inode.group(1)) if inode else 0))
    return rows


def close_wait(port):
    """The sockets of the service on this port that got a FIN and sent none."""
    return sockets("state close-wait", f"sport = :{port}")


def inodes_of(pid):
    """Inodes of the sockets that the process has open."""
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if link.startswith("socket:["):
                held.add(int(link[8:-1]))
    return held


def children_of(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def process_state(pid):
    """One letter as in /proc/PID/stat, or None when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_gone(pid):
    return process_state(pid) in (None, "Z")


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kib(pid):
    """Memory of the process alone: its private pages, resident or swapped out."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^(?:Private_\w+|Swap):\s+(\d+) kB", rollup, re.MULTILINE))


# --- processes ---------------------------------------------------------------------------------------------

class Process:
    """A child process whose output is read by the line as it comes."""

    def __init__(self, command, before=(), **options):
        self.command = [*before, *command]
        self.lines = []
        self._arrived = threading.Condition()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace", **options)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._arrived:
                self.lines.append(line.rstrip("\n"))
                self.line_arrived(self.lines[-1])
                self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def line_arrived(self, line):
        """For subclasses."""

    @property
    def log_lines(self):
        """The lines but for what was said of the configuration before the log was opened."""
        return [line for line in self.lines if not line.startswith("warning: ")]

    @property
    def pid(self):
        return self.process.pid

    def wait_for_line(self, pattern, bound_s=BOUND_S):
        """The match of the first line, past or to come, that has the pattern."""
        expression = re.compile(pattern)
        end = time.monotonic() + bound_s
        seen = 0
        with self._arrived:
            while True:
                for line in self.lines[seen:]:
                    match = expression.search(line)
                    if match:
                        return match
                seen = len(self.lines)
                ended = not self._reader.is_alive() or self.process.poll() is not None
                if time.monotonic() > end or ended:
                    raise AssertionError(f"no line with {pattern!r} from {shlex.join(self.command)}; "
                                         f"it said:\n" + "\n".join(self.lines[-20:]))
                self._arrived.wait(0.2)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, bound_s=BOUND_S):
        """The exit status, after all output has been read."""
        status = self.process.wait(bound_s)
        self._reader.join(bound_s)
        return status

    def stop(self):
        """Ends it; raises when a sanitizer has complained, or the filter of system calls."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(BOUND_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.wait()
        self.process.stdout.close()
        complaint = next((index for index, line in enumerate(self.lines) if COMPLAINT.search(line)), None)
        if complaint is not None:
            raise AssertionError("\n".join(self.lines[complaint:complaint + 100]))

    def terminate(self):
        self.process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Leak(Process):
    """`lastack leak`, listening."""

    def __init__(self, mode, *options, listen="127.0.0.1:0", before=()):
        super().__init__([LASTACK, "leak", "--listen", listen, "--mode", mode, *options], before=before)
        self.address = self.wait_for_line(r"listening on (\S+) mode ").group(1)
        self.port = port_of(self.address)

    @property
    def server_pid(self):
        """The child that has the listening socket."""
        listening = {row.inode for row in sockets("state listening", f"sport = :{self.port}")}
        return next(pid for pid in children_of(self.pid) if inodes_of(pid) & listening)


def parse_log_line(line):
    """The fields of a line of the log, JSON or logfmt; what is neither has none."""
    if line.startswith("{"):
        return json.loads(line)
    fields = {}
    for key, quoted, bare in re.findall(r'([^\s=]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line):
        fields[key] = re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
    return fields


class Proxy(Process):
    """`lastack run`, listening: `listening` has (frontend, address) of each listener so far, `sessions` the
    lines of ended sessions as dictionaries, `dropped_lines` how many the proxy says are missing, as when the
    test reads too slowly."""

    def __init__(self, backend, *options, listen="127.0.0.1:0", before=()):
        self._start(["--listen", listen, "--backend", backend, *options], before)

    @classmethod
    def from_file(cls, text, before=()):
        """With a configuration file of that text."""
        proxy = cls.__new__(cls)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            proxy._start(["-c", file.name], before)
        return proxy

    def _start(self, arguments, before):
        self.sessions = []
        self.listening = []
        self.dropped_lines = 0
        super().__init__([LASTACK, "run", *arguments], before=before)
        try:
            self.wait_for_line(r"\bmsg\W+listening\b")
        except AssertionError:
            self.stop()
            raise
        self.address = self.listening[0][1]
        self.port = port_of(self.address) if not self.address.startswith("unix:") else None

    def line_arrived(self, line):
        fields = parse_log_line(line)
        if fields.get("msg") == "session":
            self.sessions.append(fields)
        elif fields.get("msg") == "log_dropped":
            self.dropped_lines += int(fields["lines"])
        elif fields.get("msg") == "listening":
            self.listening.append((fields["frontend"], fields["address"]))

    def terminate(self):
        """Drains, and aborts what would take long."""
        super().terminate()
        with contextlib.suppress(AssertionError):
            self.wait_for_line(r"\bmsg\W+(draining|stopped)\b", 10)
        super().terminate()

    def wait_for_sessions(self, count, bound_s=BOUND_S):
        """The lines of the ended sessions, at least `count` with those that were read too slowly and counted."""
        wait_for(lambda: len(self.sessions) + self.dropped_lines >= count,
                 lambda: f"{count} ended sessions, there are {len(self.sessions)} and {self.dropped_lines} dropped",
                 bound_s)
        return list(self.sessions)

    def connect(self, **options):
        return connect(self.address, **options)


# --- clients and servers -----------------------------------------------------------------------------------

def connect(address, timeout_s=BOUND_S, receive_buffer=None):
    """A blocking client socket to "127.0.0.1:80", "[::1]:80" or "unix:/path"."""
    if address.startswith("unix:"):
        family, target = socket.AF_UNIX, address[5:]
    else:
        host, port = address.rsplit(":", 1)
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        target = (host.strip("[]"), int(port))
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        if family == socket.AF_UNIX:
            client.connect(target)
        else:
            shake_hands(client, target, timeout_s)
    except OSError:
        client.close()
        raise
    return client


def shake_hands(client, target, timeout_s):
    """Connects, and leaves it to the next recv() to say that the peer has reset what it had accepted. connect()
    would say so itself where this thread comes late to look."""
    client.setblocking(False)
    error = client.connect_ex(target)
    if error == errno.EINPROGRESS:
        waiting = select.poll()
        waiting.register(client, select.POLLOUT)
        if not waiting.poll(timeout_s * 1000):
            raise TimeoutError("timed out")
        state, options = struct.unpack("B4xB", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 6))
        refused = state == TCP_CLOSE and options == 0  # nothing was agreed on
        error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if refused else 0
    if error:
        raise OSError(error, os.strerror(error))
    client.settimeout(timeout_s)


@contextlib.contextmanager
def silent_address():
    """An address that answers no SYN: a listener whose backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.5)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def reset(connection):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def receive_exactly(connection, length):
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise AssertionError(f"end after {len(data)} of {length} bytes")
        data += piece
    return bytes(data)


def receive_all(connection):
    """Everything up to FIN; RST raises ConnectionResetError."""
    pieces = []
    while piece := connection.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


class Server:
    """A backend of the test's own: a thread a connection runs handler(connection). Errors of the handler are
    kept and raised at the end of the with block."""

    def __init__(self, handler, family=socket.AF_INET, path=None, backlog=1024):
        self._handler = handler
        self.errors = []
        self._expected = ()
        self._threads = []
        self.listener = socket.socket(socket.AF_UNIX if path else family, socket.SOCK_STREAM)
        self.listener.bind(path or ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.listener.listen(backlog)
        if path:
            self.address = f"unix:{path}"
        else:
            self.port = self.listener.getsockname()[1]
            self.address = f"[::1]:{self.port}" if family == socket.AF_INET6 else f"127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(BOUND_S)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()  # first: join() takes what is in the list for started
            self._threads.append(thread)

    def _serve(self, connection):
        with connection:
            try:
                self._handler(connection)
            except Exception as error:  # pylint: disable=broad-except
                self.errors.append(error)

    @property
    def accepted_count(self):
        return len(self._threads)

    def expect_errors(self, *kinds):
        """Errors of these kinds are what the handlers are to end with."""
        self._expected = kinds

    def join(self):
        """Waits for the handlers that were started."""
        for thread in list(self._threads):
            thread.join(BOUND_S)
            if thread.is_alive():
                raise AssertionError("a handler of the test's backend has not returned")
        for error in self.errors:
            if not isinstance(error, self._expected):
                raise error

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # shutdown() wakes the thread in accept(); close() alone does not.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if kind is None:
            self.join()


def unused_port():
    """A port of 127.0.0.1 that nobody listens on: bound a moment ago and given back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    unittest.main(verbosity=2)
