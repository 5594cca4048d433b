"""Mode http, answers of the proxy's own: from files, and to clients that do not read. Runs in
a network namespace of its own, whose buffers it makes small."""

import hashlib
import pathlib
import socket
import subprocess
import tempfile
import unittest

from harness import BOUND_S, LASTACK, Proxy, Server, main, parse_log_line, receive_all, sockets, unused_port, wait_for
from leaks import enter_namespace

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
DATE = rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"


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


if __name__ == "__main__":
    enter_namespace()
    main()
