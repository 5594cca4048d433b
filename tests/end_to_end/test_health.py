"""The health of servers: set aside when they refuse, down and up by checks, and used anyway when nobody is left."""

import contextlib
import socket
import tempfile
import threading
import time
import unittest

from harness import (BOUND_S, MODES, Leak, Proxy, Server, close_wait, connect, main, parse_log_line, receive_all,
                     receive_exactly, silent_address, sockets, unused_port, wait_for)

FILE = """\
workers: {workers}
log: {{level: debug}}
deadlines: {{connect: {connect}, message_grace: 100ms}}
frontends:
  - name: main
    listen: ['127.0.0.1:0']
    mode: {mode}
    backend: service
backends:
  - name: service
    servers: [{servers}]
    {settings}
"""

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def proxy_with(servers, *settings, mode="tcp", workers=1, connect_after="5s"):
    quoted = ", ".join(f"'{server}'" for server in servers)
    return Proxy.from_file(FILE.format(servers=quoted, mode=mode, workers=workers, connect=connect_after,
                                       settings="\n    ".join(settings)))


def lines(proxy, message):
    return [fields for fields in map(parse_log_line, list(proxy.lines)) if fields.get("msg") == message]


def is_served(proxy, mode):
    """Whether one client gets what it asked for."""
    with contextlib.suppress(ConnectionError), connect(proxy.address) as client:
        client.sendall(GET if mode == "http" else b"x")
        if mode == "http":
            return receive_all(client).startswith(b"HTTP/1.1 200 ")
        return receive_exactly(client, 1) == b"x"
    return False


def servers_used(proxy, count):
    """Who served the last so many clients; they have all ended."""
    return [session["backend"] for session in proxy.sessions[-count:]]


class Late:
    """A port that refuses until listen() is called, and is served by nobody else meanwhile."""

    def __init__(self):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # without listen() it refuses
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.accepted = 0

    def listen(self, answer):
        self._socket.listen(64)
        threading.Thread(target=self._serve, args=(answer,), daemon=True).start()

    def _serve(self, answer):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                with connection:
                    connection.settimeout(BOUND_S)
                    if connection.recv(4096):
                        connection.sendall(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class SetAside(unittest.TestCase):
    def serve(self, proxy, mode, count):
        before = len(proxy.sessions)
        for _ in range(count):
            self.assertTrue(is_served(proxy, mode))
        proxy.wait_for_sessions(before + count)
        return servers_used(proxy, count)

    def test_one_client_finds_out_and_no_other_has_to(self):
        for mode in ("tcp", "http"):
            for balance in ("roundrobin", "leastconn", "source"):
                options = ["--http"] if mode == "http" else []
                with self.subTest(mode=mode, balance=balance), Late() as late, Leak("healthy", *options) as leak, \
                        proxy_with([late.address, leak.address], f"balance: {balance}", "set_aside: 1h",
                                   "set_aside_max: 1h", mode=mode) as proxy:
                    self.assertEqual(set(self.serve(proxy, mode, 30)), {leak.address})
                    self.assertLessEqual(len(lines(proxy, "connect_failed")), 1)
                    if balance == "source":  # it may be nobody's
                        continue
                    (aside,) = lines(proxy, "server_set_aside")
                    self.assertEqual((aside["backend"], aside["server"], aside["error"], aside["for_ms"]),
                                     ("service", late.address, "connection refused", "3600000"))

    def test_it_comes_back_when_it_listens_again(self):
        for mode in ("tcp", "http"):
            options = ["--http"] if mode == "http" else []
            with self.subTest(mode), Late() as late, Leak("healthy", *options) as leak, \
                    proxy_with([late.address, leak.address], "set_aside: 10ms", "set_aside_max: 100ms",
                               mode=mode) as proxy:
                wait_for(lambda: is_served(proxy, mode) and len(lines(proxy, "server_set_aside")) >= 3,
                         "the third time that it is set aside")
                late.listen(OK if mode == "http" else b"x")
                wait_for(lambda: is_served(proxy, mode) and late.accepted >= 3, "sessions for the server that is back")
                times = [int(aside["for_ms"]) for aside in lines(proxy, "server_set_aside")]
                self.assertEqual(times, ([10, 20, 40, 80] + [100] * len(times))[:len(times)])
                (back,) = lines(proxy, "server_back")
                self.assertEqual((back["backend"], back["server"]), ("service", late.address))

    def test_a_silent_server_costs_one_client_its_patience(self):
        for mode in ("tcp", "http"):
            options = ["--http"] if mode == "http" else []
            with self.subTest(mode), silent_address() as address, Leak("healthy", *options) as leak, \
                    proxy_with([address, leak.address], "set_aside: 1h", "set_aside_max: 1h", mode=mode,
                               connect_after="1s") as proxy:
                self.assertEqual(set(self.serve(proxy, mode, 20)), {leak.address})
                (aside,) = lines(proxy, "server_set_aside")
                self.assertEqual((aside["server"], aside["error"]), (address, "connection timed out"))
                self.assertEqual(sum(int(session["age_ms"]) >= 1000 for session in proxy.sessions), 1)

    def test_a_silent_single_server_ends_as_ever_and_is_tried_again(self):
        for mode in ("tcp", "http"):
            with self.subTest(mode), silent_address() as address, \
                    proxy_with([address], "set_aside: 1h", "set_aside_max: 1h", mode=mode,
                               connect_after="100ms") as proxy:
                for _ in range(3):
                    self.assertFalse(is_served(proxy, mode))
                self.assertEqual({session["reason"] for session in proxy.wait_for_sessions(3)}, {"connect"})
                self.assertEqual(len(lines(proxy, "server_set_aside")), 1)

    def test_when_all_refuse_all_are_tried_each_time_and_the_first_to_listen_serves(self):
        for mode in ("tcp", "http"):
            with self.subTest(mode), Late() as one, Late() as two, Late() as three, \
                    proxy_with([one.address, two.address, three.address], "set_aside: 1h", "set_aside_max: 1h",
                               mode=mode) as proxy:
                for _ in range(4):
                    self.assertFalse(is_served(proxy, mode))
                proxy.wait_for_sessions(4)
                for session in range(4):
                    tried = [line["backend"] for line in lines(proxy, "connect_failed")[3 * session:3 * session + 3]]
                    self.assertEqual(set(tried), {one.address, two.address, three.address})
                self.assertEqual(len(lines(proxy, "server_set_aside")), 3)
                two.listen(OK if mode == "http" else b"x")
                self.assertTrue(is_served(proxy, mode))

    def test_what_one_worker_finds_out_all_know(self):
        with Late() as late, Leak("healthy") as leak, \
                proxy_with([late.address, leak.address], "set_aside: 1h", "set_aside_max: 1h", workers=4) as proxy:
            self.serve(proxy, "tcp", 4)
            wait_for(lambda: is_served(proxy, "tcp") and lines(proxy, "server_set_aside"), "the failure")
            before = len(lines(proxy, "connect_failed"))
            self.assertEqual(set(self.serve(proxy, "tcp", 40)), {leak.address})
            self.assertEqual(len(lines(proxy, "connect_failed")), before)
            self.assertEqual(len(lines(proxy, "server_set_aside")), 1)

    def test_off_sets_nobody_aside(self):
        with Late() as late, Leak("healthy") as leak, \
                proxy_with([late.address, leak.address], "set_aside: off") as proxy:
            self.assertEqual(set(self.serve(proxy, "tcp", 10)), {leak.address})
            self.assertEqual(len(lines(proxy, "connect_failed")), 5)
            self.assertEqual(lines(proxy, "server_set_aside"), [])


class Answering:
    """An HTTP server whose answer can be changed; it tells its requests apart from those of checks."""

    def __init__(self, answer=OK, **options):
        self.answer = answer  # None: says nothing and holds the connection
        self.checks = []
        self.asked = 0
        self._gate = threading.Event()
        self._server = Server(self._handle, **options)
        self._server.expect_errors(ConnectionError, TimeoutError)
        self.address = self._server.address

    def _handle(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(4096)
            if not piece:
                return
            request += piece
        if b"User-Agent: lastack\r\n" in request:
            self.checks.append(request)
        else:
            self.asked += 1
        if self.answer is None:
            connection.recv(1)
        else:
            connection.sendall(self.answer)

    def __enter__(self):
        self._server.__enter__()
        return self

    def __exit__(self, *details):
        self._server.__exit__(*details)


# Three answers in a row that take so long would be taken for none.
CHECK = ("check_interval: 300ms", "rise: 2", "fall: 3")


def wait_for_lines(proxy, message, count=1):
    wait_for(lambda: len(lines(proxy, message)) >= count, lambda: f"{count} lines {message}; {proxy.lines[-20:]}")
    return lines(proxy, message)


class Checks(unittest.TestCase):
    def test_http_takes_a_server_out_that_answers_500_and_brings_it_back(self):
        for mode in ("http", "tcp"):
            with self.subTest(mode), Answering() as good, Answering() as bad, \
                    proxy_with([good.address, bad.address], "check: http GET /health?x=1", *CHECK, mode=mode,
                               workers=3) as proxy:
                wait_for(lambda: bad.checks and good.checks, "checks")
                self.assertEqual(bad.checks[0], b"GET /health?x=1 HTTP/1.1\r\nHost: " + bad.address.encode() +
                                 b"\r\nUser-Agent: lastack\r\nAccept: */*\r\nConnection: close\r\n\r\n")
                bad.answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
                (down,) = wait_for_lines(proxy, "server_down")
                self.assertEqual((down["backend"], down["server"], down["status"], down["level"]),
                                 ("service", bad.address, "500", "warning"))
                asked = bad.asked
                for _ in range(12):
                    self.assertTrue(self.ask(proxy))
                self.assertEqual(bad.asked, asked)
                bad.answer = OK
                (up,) = wait_for_lines(proxy, "server_up")
                self.assertEqual((up["backend"], up["server"]), ("service", bad.address))
                wait_for(lambda: self.ask(proxy) and bad.asked > asked, "sessions for the server that is back")
                self.assertEqual(len(lines(proxy, "server_down")), 1)
                count = good.asked + bad.asked
                self.assertEqual(len(proxy.wait_for_sessions(count)), count)  # checks are none

    def ask(self, proxy):
        with connect(proxy.address) as client:
            client.sendall(GET)
            answered = receive_all(client) == OK
        return answered

    def takes_down(self, answer, error, status):
        interval = "1h" if answer is not None else "100ms"  # the first one is made at once
        with Answering(answer) as server, \
                proxy_with([server.address], "check: http GET /", f"check_interval: {interval}", "fall: 1") as proxy:
            down = wait_for_lines(proxy, "server_down")[0]
            self.assertEqual((down.get("error"), down.get("status")), (error, status))

    def brings_up(self, answer, check="http GET /"):
        with Answering(b"HTTP/1.1 500 No\r\n\r\n") as server, \
                proxy_with([server.address], f"check: {check}", "check_interval: 500ms", "rise: 1", "fall: 1") as proxy:
            wait_for_lines(proxy, "server_down")
            server.answer = answer
            wait_for_lines(proxy, "server_up")

    def test_what_is_no_good_answer(self):
        for answer, error, status in (
                (None, "no answer within check_interval", None),
                (b"", "closed without an answer", None),
                (b"HTTP/1.1 20", "closed without an answer", None),
                (b"HTTP/1.1 100 Continue\r\n\r\n", "closed without an answer", None),
                (b"SSH-2.0-x\r\n\r\n", "a malformed answer", None),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "a malformed answer", None),
                (b"HTTP/1.1 200 OK\r\nX: " + 20000 * b"x" + b"\r\n\r\n", "a malformed answer", None),
                (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, "404"),
                (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\n\r\nlater", None, "503"),
                (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "a malformed answer", None)):
            with self.subTest(answer and answer[:60]):
                self.takes_down(answer, error, status)

    def test_what_is_a_good_answer(self):
        for answer in (OK,
                       b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                       b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
                       b"HTTP/1.1 204 No Content\r\n\r\n",
                       b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                       b"5\r\nhello\r\n0\r\n\r\n",
                       b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3000000)):
            with self.subTest(answer[:60]):
                self.brings_up(answer)

    def test_an_answer_to_head_has_no_body(self):
        self.brings_up(OK[:-2], check="http HEAD /")

    def test_a_server_that_does_not_answer_at_all_is_taken_out_and_brought_back(self):
        for mode in ("http", "tcp"):
            with self.subTest(mode), Answering() as good, Answering(None) as silent, \
                    proxy_with([good.address, silent.address], "check: http HEAD /", *CHECK, mode=mode) as proxy:
                (down,) = wait_for_lines(proxy, "server_down")
                self.assertEqual(down["error"], "no answer within check_interval")
                for _ in range(6):
                    self.assertTrue(self.ask(proxy))
                self.assertEqual(silent.asked, 0)
                silent.answer = OK
                wait_for_lines(proxy, "server_up")
                wait_for(lambda: self.ask(proxy) and silent.asked > 0, "sessions for the server that is back")

    def test_tcp_finds_who_does_not_listen_before_a_client_does(self):
        with Late() as late, Leak("healthy") as leak, \
                proxy_with([late.address, leak.address], "check: tcp", *CHECK, workers=3) as proxy:
            down = wait_for_lines(proxy, "server_down")[0]
            self.assertEqual((down["server"], down["error"]), (late.address, "connection refused"))
            for _ in range(10):
                self.assertTrue(is_served(proxy, "tcp"))
            self.assertEqual(lines(proxy, "connect_failed"), [])
            late.listen(b"x")
            wait_for_lines(proxy, "server_up")
            self.assertEqual(len(lines(proxy, "server_down")), 1)
            self.assertEqual(lines(proxy, "server_set_aside"), [])

    def test_a_good_check_ends_what_set_it_aside(self):
        with Late() as late, Leak("healthy") as leak, \
                proxy_with([late.address, leak.address], "set_aside: 1h", "set_aside_max: 1h", "check: tcp",
                           *CHECK) as proxy:
            wait_for(lambda: is_served(proxy, "tcp") and
                     (lines(proxy, "server_set_aside") or lines(proxy, "server_down")), "its failure")
            late.listen(b"x")
            wait_for(lambda: is_served(proxy, "tcp") and late.address in servers_used(proxy, 100),
                     "sessions for the server that is back")

    def test_when_all_are_down_they_are_used_anyway(self):
        with Answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") as one, \
                proxy_with([one.address, f"127.0.0.1:{unused_port()}"], "check: http GET /", *CHECK,
                           mode="http") as proxy:
            wait_for_lines(proxy, "server_down", 2)
            for _ in range(3):
                with connect(proxy.address) as client:
                    client.sendall(GET)
                    self.assertTrue(receive_all(client).startswith(b"HTTP/1.1 500 "))

    def test_every_family_can_be_checked(self):
        with tempfile.TemporaryDirectory() as folder:
            for options, host in (({"path": f"{folder}/socket"}, b"localhost"),
                                  ({"family": socket.AF_INET6}, None), ({}, None)):
                with self.subTest(host), Answering(**options) as server:
                    address = server.address if options else server.address.replace("127.0.0.1", "localhost")
                    with proxy_with([address], "check: http GET /", *CHECK, "resolve_interval: 1s") as proxy:
                        wait_for(lambda: len(server.checks) >= 3, "checks")
                        self.assertIn(b"\r\nHost: " + (host or address.encode()) + b"\r\n", server.checks[0])
                        if options:
                            self.assertEqual(lines(proxy, "server_down"), [])
                        server.answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
                        wait_for(lambda: any(line.get("status") == "500" for line in lines(proxy, "server_down")),
                                 "its failure")

    def test_one_worker_checks_for_all(self):
        with Answering() as server, \
                proxy_with([server.address], "check: http GET /", "check_interval: 1h", workers=4) as proxy:
            self.assertTrue(self.ask(proxy))
            wait_for(lambda: server.checks, "a check")
            for _ in range(20):
                self.assertTrue(self.ask(proxy))
            self.assertEqual(len(server.checks), 1)

    def test_checks_do_not_leak_before_a_leaky_server(self):
        for mode in MODES:
            for check in ("tcp", "http GET /"):
                with self.subTest(mode=mode, check=check), Leak(mode, "--http") as leak, \
                        proxy_with([leak.address], f"check: {check}", "check_interval: 100ms") as proxy:
                    peers = set()

                    def several():  # which the kernel remembers if they ended in order, and we see if they did not
                        peers.update(row.local for row in sockets(f"dport = :{leak.port}"))
                        peers.update(row.peer for row in sockets(f"sport = :{leak.port}"))
                        return len(peers) >= 6

                    wait_for(several, "connections of checks")
                    proxy.stop()
                    wait_for(lambda: not close_wait(leak.port), lambda: f"{close_wait(leak.port)}")
                    self.assertEqual(proxy.sessions, [])

    def test_checks_keep_nobody_from_ending(self):
        with Answering(None) as server, \
                proxy_with([server.address], "check: http GET /", "check_interval: 1h") as proxy:
            wait_for(lambda: server.checks, "a check under way")
            began_s = time.monotonic()
            proxy.process.terminate()
            self.assertEqual(proxy.wait(), 0)
            self.assertLess(time.monotonic() - began_s, BOUND_S / 2)
            self.assertEqual(lines(proxy, "server_down"), [])


if __name__ == "__main__":
    main()
