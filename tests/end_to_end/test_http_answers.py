"""Mode http, answers of the proxy's own: from files, at the limit of connections, to clients that do not read. Runs in
a network namespace of its own, whose buffers it makes small."""

import contextlib
import hashlib
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import BOUND_S, LASTACK, Proxy, Server, connect, main, parse_log_line, receive_all, receive_exactly, \
    sockets, unused_port, wait_for
from leaks import enter_namespace

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DATE = rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"
SURPLUS_MAX = 64


def serve(connection):
    """Answers one request after the other."""
    data = b""
    while piece := connection.recv(4096):
        data += piece
        while b"\r\n\r\n" in data:
            data = data.partition(b"\r\n\r\n")[2]
            connection.sendall(OK)


def requests_of(proxy):
    return [fields for fields in map(parse_log_line, proxy.lines) if fields.get("msg") == "request"]


def ask(client, request=GET):
    """Everything up to the end of the connection."""
    client.sendall(request)
    return receive_all(client)


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def file(self, name, content):
        path = self.directory / name
        path.write_bytes(content)
        return path

    def configuration(self, backend, answers, frontend="", deadlines="", http=""):
        answers = ", ".join(f"{status}: '{path}'" for status, path in answers.items())
        return (f"workers: 2\ndeadlines: {{{deadlines}}}\n"
                f"frontends:\n- {{name: f, listen: '127.0.0.1:0', backend: b, mode: http, {frontend}\n"
                f"   http: {{answers: {{{answers}}}, {http}}}}}\n"
                f"backends:\n- {{name: b, servers: '{backend}'}}\n")

    def proxy(self, *arguments, **options):
        return self.enterContext(Proxy.from_file(self.configuration(*arguments, **options)))


class Files(Case):
    def test_a_file_replaces_the_answer_of_its_status_alone(self):
        path = self.file("502.http", b"Content-Type: text/html\nX-A: b\n\n<h1>no\r\n</h1>\n")
        proxy = self.proxy(f"127.0.0.1:{unused_port()}", {502: path})
        expected = rb"HTTP/1.1 502 Bad Gateway\r\n" + DATE + \
            rb"Content-Length: 14\r\nConnection: close\r\nContent-Type: text/html\r\nX-A: b\r\n\r\n"
        with proxy.connect() as client:
            self.assertRegex(ask(client), rb"^" + expected + rb"<h1>no\r\n</h1>\n$")
        with proxy.connect() as client:
            self.assertRegex(ask(client, HEAD), rb"^" + expected + rb"$")
        with proxy.connect() as client:
            own = ask(client, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n")
        self.assertTrue(own.startswith(b"HTTP/1.1 505 "), own)
        self.assertIn(b"\r\nContent-Type: text/plain", own)
        proxy.wait_for_sessions(3)
        self.assertEqual(sorted(line["status"] for line in requests_of(proxy)), ["502", "502", "505"])

    def test_504_and_408_and_400(self):
        answers = {status: self.file(f"{status}.http", b"Content-Type: a/b\r\n\r\nmy %d" % status)
                   for status in (400, 408, 504)}
        with Server(receive_all) as server:
            server.expect_errors(ConnectionResetError)
            proxy = self.proxy(server.address, answers, deadlines="response: 200ms, request_head: 300ms")
            for status, request in ((504, GET), (408, b"GET / HTTP/1.1\r\n"), (400, b"GET / HTTP/1.1\r\n : \r\n\r\n")):
                with proxy.connect() as client:
                    answer = ask(client, request)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
                    self.assertTrue(answer.endswith(b"\r\n\r\nmy %d" % status), answer)

    def test_what_the_file_gives_is_not_said_twice(self):
        path = self.file("502.http", b"date: then\nretry-after: 77\n\n")
        proxy = self.proxy(f"127.0.0.1:{unused_port()}", {502: path})
        with proxy.connect() as client:
            self.assertEqual(ask(client), b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n"
                                          b"date: then\r\nretry-after: 77\r\n\r\n")

    def test_a_file_is_read_once(self):
        path = self.file("502.http", b"Content-Type: a/b\n\nbefore")
        proxy = self.proxy(f"127.0.0.1:{unused_port()}", {502: path})
        path.unlink()
        with proxy.connect() as client:
            self.assertTrue(ask(client).endswith(b"\r\n\r\nbefore"))

    def test_a_bad_file_is_refused_by_check_and_run(self):
        path = self.file("503.http", b"Retry-After: 1\nContent-Length: 5\n\nhello")
        text = self.configuration("127.0.0.1:1", {503: path})
        file = self.file("lastack.yaml", text.encode())
        for command in ("check", "run"):
            done = subprocess.run([LASTACK, command, "-c", file], capture_output=True, text=True, timeout=BOUND_S)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"{path}:2:1: found Content-Length, which is the proxy's to write; allowed: ", done.stderr)


class SlowClients(Case):
    """A file of the largest size, towards a client whose window is as small as they get."""

    def setUp(self):
        super().setUp()
        head = b"Content-Type: a/b\r\n\r\n"
        self.body = bytes(i * i % 251 for i in range(64 * 1024 - len(head)))
        self.answer = self.file("502.http", head + self.body)
        buffers = pathlib.Path("/proc/sys/net/ipv4/tcp_wmem")
        self.addCleanup(buffers.write_text, buffers.read_text())
        buffers.write_text("4096 4096 4096")

    def connect(self, proxy):
        client = self.enterContext(socket.socket())
        client.settimeout(BOUND_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", proxy.port))
        client.sendall(GET)
        return client

    def wait_until_held(self, proxy):
        """The kernel has some of the answer, and not all of it."""
        def queued():
            row = sockets("state established", f"sport = :{proxy.port}")
            return row and row[0].send_queue
        wait_for(queued, "the answer has begun")
        peer = sockets("state established", f"dport = :{proxy.port}")[0]
        self.assertLess(queued() + peer.receive_queue, len(self.body))

    def test_a_slow_client_gets_all_of_it(self):
        proxy = self.proxy(f"127.0.0.1:{unused_port()}", {502: self.answer})
        client = self.connect(proxy)
        self.wait_until_held(proxy)
        head, _, body = receive_all(client).partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Length: %d\r\n" % len(self.body), head)
        self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(self.body).digest())
        client.close()
        fields = proxy.wait_for_sessions(1)[0]
        self.assertEqual(fields["client_close"], "fin")

    def test_one_that_never_reads_is_reset(self):
        proxy = self.proxy(f"127.0.0.1:{unused_port()}", {502: self.answer}, deadlines="write_stall: 300ms")
        client = self.connect(proxy)
        self.wait_until_held(proxy)
        fields = proxy.wait_for_sessions(1)[0]
        self.assertEqual((fields["reason"], fields["client_close"]), ("write_stall", "rst"))
        with self.assertRaises(ConnectionResetError):
            receive_all(client)


class OverLimit(Case):
    def limited(self, backend, most, answers=None, **options):
        return self.proxy(backend, answers or {}, frontend=f"max_connections: {most},",
                          http="over_limit: refuse", **options)

    def client(self, proxy):
        return self.enterContext(connect(proxy.address))

    def assert_served(self, client):
        client.sendall(GET)
        self.assertEqual(receive_exactly(client, len(OK)), OK)

    def assert_refused(self, client):
        answer = ask(client)
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), answer)
        self.assertIn(b"\r\nRetry-After: 5\r\n", answer)
        client.close()

    def waiting(self, proxy):
        return sum(row.receive_queue for row in sockets("state listening", f"sport = :{proxy.port}"))

    def test_those_beyond_are_refused_and_those_within_are_served_on(self):
        with Server(serve) as server:
            proxy = self.limited(server.address, 3)
            served = [self.client(proxy) for _ in range(3)]
            for client in served:
                self.assert_served(client)
            for _ in range(5):
                self.assert_refused(self.client(proxy))
                for client in served:
                    self.assert_served(client)
            self.assertEqual(server.accepted_count, 3)
            served.pop().close()
            proxy.wait_for_sessions(6)  # its place is free once its line is there
            served.append(self.client(proxy))
            self.assert_served(served[-1])
            self.assert_refused(self.client(proxy))
            for client in served:
                client.close()
            proxy.wait_for_sessions(10)
        refused = [line for line in requests_of(proxy) if line["status"] == "503"]
        self.assertEqual([(line["answered_for"], line["backend"]) for line in refused], [("limit", "none")] * 6)
        self.assertEqual(sorted(session["reason"] for session in proxy.sessions), ["closed"] * 4 + ["limit"] * 6)
        said = [line for line in map(parse_log_line, proxy.lines) if line.get("msg") == "refused"]
        self.assertEqual((said[0]["level"], said[0]["reason"], said[0]["count"]), ("warning", "limit", "1"))
        self.assertLessEqual(sum(int(line["count"]) for line in said), 6)

    def test_the_answer_may_be_a_file(self):
        path = self.file("503.http", b"Content-Type: a/b\nRetry-After: 60\n\nfull")
        with Server(serve) as server:
            proxy = self.limited(server.address, 1, {503: path})
            first = self.client(proxy)
            self.assert_served(first)
            answer = ask(self.client(proxy))
            self.assertTrue(answer.endswith(b"\r\nContent-Type: a/b\r\nRetry-After: 60\r\n\r\nfull"), answer)
            self.assertEqual(len(re.findall(rb"(?i)retry-after", answer)), 1)
            first.close()

    def test_a_refusal_waits_for_the_head_of_a_request(self):
        with Server(serve) as server:
            proxy = self.limited(server.address, 1)
            first = self.client(proxy)
            self.assert_served(first)
            second = self.client(proxy)
            second.sendall(GET[:-2])
            second.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                second.recv(1)
            second.settimeout(BOUND_S)
            second.sendall(GET[-2:])
            self.assertTrue(receive_all(second).startswith(b"HTTP/1.1 503 "))
            first.close()

    def test_one_who_uploads_learns_of_it_too(self):
        with Server(serve) as server:
            proxy = self.limited(server.address, 1)
            first = self.client(proxy)
            self.assert_served(first)
            size = 20 * 1000 * 1000
            for request in (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, GET * 3):
                with proxy.connect() as client:
                    self.assertEqual(ask(client, request).count(b"HTTP/1.1 503 "), 1)
            self.assert_served(first)
            first.close()

    def test_the_surplus_is_bounded_and_the_rest_waits(self):
        with Server(serve) as server, contextlib.ExitStack() as stack:
            proxy = self.limited(server.address, 2)
            served = [self.client(proxy) for _ in range(2)]
            for client in served:
                self.assert_served(client)
            crowd = [stack.enter_context(connect(proxy.address)) for _ in range(SURPLUS_MAX + 10)]
            wait_for(lambda: self.waiting(proxy) == 10, lambda: f"10 wait, not {self.waiting(proxy)}")
            for client in served:
                self.assert_served(client)
            # Whether one is of the surplus or waits is the workers' business; each has its answer in the end.
            for client in crowd:
                client.sendall(GET)
            for client in crowd:
                self.assertTrue(receive_all(client).startswith(b"HTTP/1.1 503 "))
                client.close()
            for client in served:
                self.assert_served(client)
                client.close()
            proxy.wait_for_sessions(SURPLUS_MAX + 12)
            last = self.client(proxy)
            self.assert_served(last)
            last.close()

    def test_a_silent_surplus_takes_no_place_of_those_to_be_served(self):
        with Server(serve) as server, contextlib.ExitStack() as stack:
            proxy = self.limited(server.address, 1)
            first = self.client(proxy)
            self.assert_served(first)
            silent = [stack.enter_context(connect(proxy.address)) for _ in range(SURPLUS_MAX)]
            wait_for(lambda: len(sockets("state established", f"sport = :{proxy.port}")) == SURPLUS_MAX + 1 and
                     self.waiting(proxy) == 0, "the surplus is full")
            first.close()
            proxy.wait_for_sessions(1)
            second = self.client(proxy)
            self.assert_served(second)
            second.close()
            for client in silent:
                client.close()

    def test_by_default_they_wait(self):
        with Server(serve) as server:
            proxy = self.proxy(server.address, {}, frontend="max_connections: 1,")
            first = self.client(proxy)
            self.assert_served(first)
            second = self.client(proxy)
            second.sendall(GET)
            second.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                second.recv(1)
            first.close()
            second.settimeout(BOUND_S)
            self.assertEqual(receive_exactly(second, len(OK)), OK)
            second.close()

    def test_places_are_counted_exactly(self):
        """Eight threads come and go; then just as many are served at a time as at the start."""
        inside, most = 0, 0
        lock = threading.Lock()

        def count(connection):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            serve(connection)
            with lock:
                inside -= 1

        def come_and_go():
            for _ in range(50):
                with proxy.connect() as client:
                    client.sendall(GET)
                    status = receive_exactly(client, len(b"HTTP/1.1 503"))[-3:]
                    answers.append(status)
                    if status == b"200":
                        receive_exactly(client, len(OK) - 12)
                    else:
                        receive_all(client)

        answers = []
        with Server(count) as server:
            proxy = self.limited(server.address, 4)
            threads = [threading.Thread(target=come_and_go) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(BOUND_S)
            self.assertEqual(len(answers), 400)
            self.assertEqual(set(answers), {b"200", b"503"})
            proxy.wait_for_sessions(400)
            served = [self.client(proxy) for _ in range(4)]
            for client in served:
                self.assert_served(client)
            self.assert_refused(self.client(proxy))
            for client in served:
                client.close()
        # A place is free when its session ends, a moment before the backend's thread has noticed.
        self.assertLessEqual(most, 4 + 8)

class RequestId(Case):
    def test_the_log_has_the_id_that_went_to_the_backend(self):
        heads = []

        def keep(connection):
            while head := connection.recv(4096):
                heads.append(head)
                connection.sendall(OK)

        with Server(keep) as server:
            proxy = self.proxy(server.address, {}, http="request_id: on")
            with proxy.connect() as client:
                for request in (GET, GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: mine-1\r\n\r\n")):
                    client.sendall(request)
                    receive_exactly(client, len(OK))
            proxy.wait_for_sessions(1)
        sent = [re.search(rb"X-Request-Id: (\S+)", head).group(1).decode() for head in heads]
        self.assertEqual(sent[1], "mine-1")
        self.assertEqual([line["request_id"] for line in requests_of(proxy)], sent)


if __name__ == "__main__":
    enter_namespace()
    main()
