"""Mode http with `reuse`: which requests share a backend connection, which never do, and how idle ones end."""

import collections
import contextlib
import hashlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BOUND_S, Leak, Proxy, Server, close_wait, main, parse_log_line, receive_all, receive_exactly, \
    sockets, wait_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Request = collections.namedtuple("Request", "connection method path head body")


def read_head(connection):
    """The head of the next message, or None at the end before it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            if head:
                raise AssertionError(f"end inside a head: {head!r}")
            return None
        head += byte
    return head


def length_of(head):
    found = re.search(rb"\r\ncontent-length: (\d+)\r\n", head.lower())
    return int(found.group(1)) if found else 0


class Origin:
    """A backend that numbers its connections and keeps what came over each: `requests`, and in `ends` the number of
    each connection whose FIN came between requests. answer(request, connection) sends what it likes and returns
    whether the connection goes on."""

    def __init__(self, answer=None):
        self.requests = []
        self.ends = []
        self._answer = answer or self._ok
        self._lock = threading.Lock()
        self._count = 0
        self.server = Server(self._serve)
        self.server.expect_errors(ConnectionResetError, BrokenPipeError)
        self.address = self.server.address
        self.port = self.server.port

    @staticmethod
    def _ok(request, connection):
        connection.sendall(OK.split(b"ok")[0] if request.method == "HEAD" else OK)
        return True

    def _serve(self, connection):
        with self._lock:
            number = self._count
            self._count += 1
        while head := read_head(connection):
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            body = receive_exactly(connection, length_of(head))
            request = Request(number, method, path, head, body)
            with self._lock:
                self.requests.append(request)
            if not self._answer(request, connection):
                return
        self.ends.append(number)

    @property
    def over(self):
        """The number of the connection of each request."""
        return [request.connection for request in self.requests]

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        self.server.__exit__(*exception)


def request(method, path="/", body=b"", *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *fields]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def receive_answer(client, method="GET"):
    """Status, head and body of the next answer."""
    head = read_head(client)
    if head is None:
        raise AssertionError("end instead of an answer")
    body = b"" if method == "HEAD" else receive_exactly(client, length_of(head))
    return int(head.split(b" ")[1]), head, body


def ask(client, method, path="/", body=b"", *fields):
    client.sendall(request(method, path, body, *fields))
    return receive_answer(client, method)


def requests_of(proxy):
    return [fields for fields in map(parse_log_line, proxy.lines) if fields.get("msg") == "request"]


FILE = """
workers: {workers}
drain: 2s
frontends: [{{name: main, listen: '127.0.0.1:0', mode: http, backend: main}}]
backends: [{{name: main, servers: '{servers}', reuse: {reuse}, reuse_max: {most}, reuse_idle: {idle}}}]
"""


class Reuse(unittest.TestCase):
    def proxy(self, backend, reuse, most=32, idle="1h", workers=1):
        proxy = Proxy.from_file(FILE.format(servers=backend, reuse=reuse, most=most, idle=idle, workers=workers))
        self.addCleanup(proxy.stop)
        return proxy

    def both(self, reuse, answer=None, **options):
        """An origin and a proxy before it."""
        origin = self.enterContext(Origin(answer))
        return origin, self.proxy(origin.address, reuse, **options)

    def legs(self, proxy, count):
        wait_for(lambda: len(requests_of(proxy)) >= count, "the lines of the requests")
        return [fields["leg"] for fields in requests_of(proxy)]


class Shared(Reuse):
    METHODS = [("GET", b""), ("OPTIONS", b""), ("DELETE", b""), ("POST", b"x"), ("PUT", b"y"), ("DELETE", b"z"), ("GET", b"")]

    def alternate(self, reuse):
        """Two clients ask in turn. The connections that their requests went over."""
        origin, proxy = self.both(reuse)
        with proxy.connect() as first, proxy.connect() as second:
            for method, body in self.METHODS:
                for client in (first, second):
                    self.assertEqual(ask(client, method, "/", body)[0], 200)
        return origin.over, self.legs(proxy, 2 * len(self.METHODS))

    def test_off_gives_each_client_its_own(self):
        over, legs = self.alternate("off")
        self.assertEqual(over, [0, 1] * len(self.METHODS))
        self.assertEqual(legs, ["new"] * 2 + ["kept"] * (2 * len(self.METHODS) - 2))

    def test_safe_gives_what_can_not_be_repeated_a_new_one(self):
        over, legs = self.alternate("safe")
        self.assertEqual(over[:6], [0] * 6)  # GET, OPTIONS, DELETE without a body
        self.assertEqual(over[6:12], [1, 2, 3, 4, 5, 6])
        self.assertEqual(over[12:], [6, 6])  # the newest
        self.assertEqual(legs, ["new"] + ["pooled"] * 5 + ["new"] * 6 + ["pooled"] * 2)

    def test_always_shares_one_for_everything(self):
        over, legs = self.alternate("always")
        self.assertEqual(over, [0] * 14)
        self.assertEqual(legs, ["new"] + ["pooled"] * 13)

    def test_clients_that_come_for_one_request(self):
        ways = [request("GET"), request("GET", "/", b"", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n",
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]
        origin, proxy = self.both("safe")
        for number, way in enumerate(ways):
            with proxy.connect() as client:
                client.sendall(way)
                client.shutdown(socket.SHUT_WR)
                self.assertTrue(receive_all(client).endswith(b"\r\n\r\nok"))
            session = proxy.wait_for_sessions(number + 1)[number]
            self.assertEqual([session[key] for key in ("reason", "client_close", "backend_close")],
                             ["closed", "fin", "pooled"])
        self.assertEqual(origin.over, [0] * 4)
        # The backend is never asked to close.
        self.assertEqual([b"Connection: close" in r.head for r in origin.requests], [False] * 4)
        self.assertEqual([b"Connection: keep-alive" in r.head for r in origin.requests], [False, False, True, True])

    def test_the_next_request_of_the_same_client_is_there_already(self):
        origin, proxy = self.both("safe")
        with proxy.connect() as client:
            client.sendall(request("GET", "/0") + request("GET", "/1") + request("POST", "/2", b"x") + request("GET", "/3"))
            for _ in range(4):
                receive_answer(client)
        self.assertEqual(origin.over, [0, 0, 1, 1])
        self.assertEqual(self.legs(proxy, 4), ["new", "kept", "new", "kept"])

    def test_answers_never_cross(self):
        def answer(request, connection):
            _, size, seed = request.path.split("/")
            self.assertEqual(hashlib.sha256(request.body).hexdigest(),
                             re.search(rb"X-Sum: (\w+)", request.head).group(1).decode())
            body = random.Random(seed).randbytes(int(size))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return True

        def client(number, wrong):
            rng = random.Random(number)
            for _ in range(8):
                with proxy.connect() as connection:
                    asked = []
                    for _ in range(rng.randrange(1, 6)):
                        size, seed = rng.choice([0, 1, 500, 20000, 300000]), rng.randrange(1 << 30)
                        body = rng.randbytes(rng.choice([0, 0, 100, 50000]))
                        asked.append((size, seed))
                        connection.sendall(request("POST" if body else "GET", f"/{size}/{seed}", body,
                                                   f"X-Sum: {hashlib.sha256(body).hexdigest()}"))
                    for size, seed in asked:
                        if receive_answer(connection)[2] != random.Random(str(seed)).randbytes(size):
                            wrong.append((number, size, seed))

        for reuse in ("safe", "always"):
            with self.subTest(reuse=reuse):
                origin, proxy = self.both(reuse, answer, workers=2)
                wrong = []
                threads = [threading.Thread(target=client, args=(i, wrong)) for i in range(12)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(BOUND_S)
                self.assertEqual(wrong, [])
                self.assertEqual(origin.server.errors, [])
                self.assertIn("pooled", self.legs(proxy, len(origin.requests)))


class Private(Reuse):
    """Connections that nobody else may use."""

    def shared_after(self, first, answer=None, reuse="always"):
        """Whether another client's request goes over the connection of the first one's."""
        origin, proxy = self.both(reuse, answer)
        with proxy.connect() as client, proxy.connect() as other:
            client.sendall(first)
            receive_answer(client)
            self.assertEqual(ask(other, "GET", "/other")[0], 200)
        return origin.over[-1] == origin.over[0]

    @staticmethod
    def with_field(field):
        return lambda request, connection: connection.sendall(
            OK if request.path == "/other" else OK.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")) is None

    def test_what_is_not_bound_to_a_client_is_shared(self):
        self.assertTrue(self.shared_after(request("GET")))
        self.assertTrue(self.shared_after(request("GET", "/", b"", "Authorization: Basic bnRsbQ==")))
        for field in (b'WWW-Authenticate: Basic realm="ntlm"', b"Authentication-Info: NTLM"):
            self.assertTrue(self.shared_after(request("GET"), self.with_field(field)))

    def test_a_request_that_authenticates_its_connection(self):
        for field in ("Authorization: NTLM TlRMTVNTUAAB", "authorization: negotiate YII", "Authorization: Kerberos x",
                      "Proxy-Authorization: NTLM TlRMTVNTUAAB"):
            with self.subTest(field=field):
                self.assertFalse(self.shared_after(request("GET", "/", b"", field)))

    def test_an_answer_that_asks_for_such_an_authentication(self):
        for field in (b"WWW-Authenticate: NTLM", b'WWW-Authenticate: Basic realm="a", Negotiate',
                      b"Proxy-Authenticate: Kerberos", b"Persistent-Auth: true"):
            with self.subTest(field=field):
                self.assertFalse(self.shared_after(request("GET"), self.with_field(field)))

    def test_an_ntlm_handshake_keeps_its_connection_to_the_end(self):
        def answer(request, connection):
            authorized = b"Authorization: NTLM" in request.head
            connection.sendall(OK if authorized or request.path == "/other" else
                               b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
            return True

        origin, proxy = self.both("safe", answer)
        with proxy.connect() as client, proxy.connect() as other:
            self.assertEqual(ask(client, "GET")[0], 401)
            for method, body in (("GET", b""), ("POST", b"x"), ("GET", b"")):
                self.assertEqual(ask(client, method, "/", body, "Authorization: NTLM x")[0], 200)
                self.assertEqual(ask(other, "GET", "/other")[0], 200)
        self.assertEqual(origin.over, [0, 0, 1, 0, 1, 0, 1])
        wait_for(lambda: 0 in origin.ends, "the end of the private connection with its client")
        self.assertIn("fin", [session["backend_close"] for session in proxy.wait_for_sessions(2)])

    def test_more_than_was_asked_for(self):
        def more(request, connection):
            connection.sendall(OK if request.path == "/other" else OK + OK)
            return True
        self.assertFalse(self.shared_after(request("GET"), more))

    def test_an_answer_before_the_request_is_whole(self):
        def answer(connection):
            read_head(connection)
            connection.sendall(OK)
            receive_all(connection)

        early = self.enterContext(Server(answer))
        early.expect_errors(ConnectionResetError)
        proxy = self.proxy(early.address, "always")
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
            receive_answer(client)
            self.assertNotEqual(proxy.wait_for_sessions(1)[0]["backend_close"], "pooled")

    def test_a_late_body_where_there_is_none_reaches_nobody_else(self):
        """A server that sends one behind HEAD, 204 or 304, 2 ms after the head, shaped like an answer."""
        heads = {"/head": OK.split(b"ok")[0], "/204": b"HTTP/1.1 204 None\r\n\r\n", "/304": b"HTTP/1.1 304 Same\r\n\r\n"}

        def answer(request, connection):
            connection.sendall(heads.get(request.path, OK))
            if request.path in heads:
                time.sleep(0.002)
                connection.sendall(OK.replace(b"ok", b"no"))
            return True

        def ask_for_none(proxy, path, over):
            while not over.is_set():
                with proxy.connect() as client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    client.sendall(request("HEAD" if path == "/head" else "GET", path, b"", "Connection: close"))
                    receive_all(client)

        for reuse in ("safe", "always"):
            _, proxy = self.both(reuse, answer)
            over = threading.Event()
            threads = [threading.Thread(target=ask_for_none, args=(proxy, path, over)) for path in heads]
            for thread in threads:
                thread.start()
            bodies = collections.Counter()
            with self.subTest(reuse):
                try:
                    with proxy.connect() as client:
                        for _ in range(500):
                            bodies[ask(client, "GET", "/good")[2]] += 1
                finally:
                    over.set()
                    for thread in threads:
                        thread.join(BOUND_S)
                self.assertEqual(bodies, {b"ok": 500})

    def test_an_upgrade_and_a_cut_answer(self):
        def answer(request, connection):
            if request.path == "/up":
                connection.sendall(b"HTTP/1.1 101 Up\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
                connection.sendall(receive_all(connection))
                return False
            connection.sendall(OK if request.path == "/other" else OK.replace(b"2", b"9"))
            return request.path == "/other"

        origin, proxy = self.both("always", answer)
        with proxy.connect() as client:
            client.sendall(request("GET", "/up", b"", "Upgrade: websocket", "Connection: upgrade"))
            self.assertIn(b"101", read_head(client))
            with proxy.connect() as other:
                self.assertEqual(ask(other, "GET", "/other")[0], 200)
            client.sendall(b"opaque")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"opaque")
        with proxy.connect() as client:
            client.sendall(request("GET", "/cut"))
            self.assertTrue(receive_all(client).endswith(b"\r\n\r\nok"))  # of nine bytes
        with proxy.connect() as other:
            self.assertEqual(ask(other, "GET", "/other")[0], 200)
        self.assertEqual(origin.over, [0, 1, 1, 2])


class Races(Reuse):
    """A backend that closes, or speaks, while its connection waits."""

    @staticmethod
    def closes(request, connection):
        connection.sendall(OK)
        return False

    def test_no_client_sees_a_backend_close_behind_each_answer(self):
        for reuse in ("safe", "always"):
            origin, proxy = self.both(reuse, self.closes)
            with proxy.connect() as client:
                for _ in range(100):
                    self.assertEqual(ask(client, "GET")[0], 200)
            for _ in range(100):
                with proxy.connect() as client:
                    self.assertEqual(ask(client, "GET", "/", b"", "Connection: close")[0], 200)
            self.assertEqual(len(origin.requests), 200)

    def test_what_can_not_be_repeated_arrives_at_most_once(self):
        origin, proxy = self.both("always", self.closes)
        statuses = collections.Counter()
        with contextlib.ExitStack() as stack:
            client = None
            for number in range(200):
                client = client or stack.enter_context(proxy.connect())
                status, head, _ = ask(client, "POST", f"/{number}", b"x")
                statuses[status] += 1
                if b"Connection: close" in head:
                    client = None
        arrived = collections.Counter(request.path for request in origin.requests)
        self.assertEqual([path for path, count in arrived.items() if count > 1], [])
        self.assertEqual(statuses[200] + statuses[502], 200)
        self.assertEqual(len(arrived), statuses[200])

    def test_safe_never_risks_a_request_that_can_not_be_repeated(self):
        origin, proxy = self.both("safe", self.closes)
        with proxy.connect() as client:
            for number in range(100):
                self.assertEqual(ask(client, "POST", "/", b"x")[0], 200)
                self.assertEqual(ask(client, "GET")[0], 200)
        self.assertEqual(len(origin.requests), 200)

    def test_a_request_is_sent_a_second_time_over_a_new_connection(self):
        """The backend closes when the request has come over a used one: GET again, POST 502."""
        def answer(request, connection):
            if request.connection == 0 and request.path == "/now":
                return False
            connection.sendall(OK)
            return True

        for method, status, over in (("GET", 200, [0, 0, 1]), ("POST", 502, [0, 0])):
            with self.subTest(method=method):
                origin, proxy = self.both("always", answer)
                with proxy.connect() as client, proxy.connect() as other:
                    self.assertEqual(ask(client, "GET")[0], 200)
                    self.assertEqual(ask(other, method, "/now")[0], status)
                self.assertEqual(origin.over, over)

    def test_a_second_time_is_the_last(self):
        """Two used connections, and neither answers: the second attempt is not made over the other one."""
        barrier = threading.Barrier(2, timeout=BOUND_S)

        def answer(request, connection):
            if request.path == "/both":
                barrier.wait()
            if request.path == "/now" and request.connection < 2:
                return False
            connection.sendall(OK)
            return True

        origin, proxy = self.both("safe", answer)
        with proxy.connect() as client, proxy.connect() as other:
            for each in (client, other):
                each.sendall(request("GET", "/both"))
            for each in (client, other):
                receive_answer(each)
            self.assertEqual(ask(client, "GET", "/now")[0], 200)
        self.assertEqual(origin.over[2:], [origin.over[2], 2])

    def test_a_backend_that_speaks_unasked_is_left(self):
        speak = threading.Event()

        def answer(request, connection):
            connection.sendall(OK)
            if request.connection == 0:
                speak.wait(BOUND_S)
                connection.sendall(OK)
            return True

        origin, proxy = self.both("always", answer)
        with proxy.connect() as client:
            self.assertEqual(ask(client, "GET")[0], 200)
            speak.set()
            wait_for(lambda: origin.ends == [0], "the end of the connection that spoke")
            self.assertEqual(ask(client, "GET")[0], 200)
        self.assertEqual(origin.over, [0, 1])


class Idle(Reuse):
    """How connections end that nobody uses."""

    def established(self, port):
        return len(sockets("state established", f"dport = :{port}"))

    def test_an_idle_one_ends_in_order(self):
        origin, proxy = self.both("safe", idle="300ms")
        with proxy.connect() as client:
            ask(client, "GET")
            wait_for(lambda: origin.ends == [0], "the FIN of the proxy")
            ask(client, "GET")
        self.assertEqual(origin.over, [0, 1])

    def test_a_leaky_backend_leaks_nothing(self):
        with Leak("never-close", "--http") as leak:
            proxy = self.proxy(leak.address, "safe", idle="300ms")
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
                for client in clients:
                    client.sendall(request("GET"))
                for client in clients:
                    self.assertEqual(receive_answer(client)[0], 200)
            wait_for(lambda: not sockets("state established", f"sport = :{leak.port}") and not close_wait(leak.port),
                     "the end of the leaky backend's sockets")

    def test_the_pool_is_bounded(self):
        barrier = threading.Barrier(6, timeout=BOUND_S)

        def answer(request, connection):
            barrier.wait()
            connection.sendall(OK)
            return True

        origin, proxy = self.both("safe", answer, most=2)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect()) for _ in range(6)]
            for client in clients:
                client.sendall(request("GET"))
            for client in clients:
                receive_answer(client)
            wait_for(lambda: len(origin.ends) == 4, "the end of four of six")
            self.assertEqual(self.established(origin.port), 2)

    def test_they_give_way_when_descriptors_run_out(self):
        """40 places: 13 idle connections have one each, and then 20 clients need two each."""
        barrier = threading.Barrier(13, timeout=BOUND_S)

        def answer(request, connection):
            if request.path == "/together":
                barrier.wait()
            connection.sendall(OK)
            return True

        origin = self.enterContext(Origin(answer))
        text = FILE.format(servers=origin.address, reuse="safe", most=32, idle="1h", workers=1)
        proxy = Proxy.from_file(text, before=["prlimit", "--nofile=80:80"])
        self.addCleanup(proxy.stop)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect()) for _ in range(13)]
            for client in clients:
                client.sendall(request("GET", "/together"))
            for client in clients:
                receive_answer(client)
        proxy.wait_for_sessions(13)
        self.assertEqual(self.established(origin.port), 13)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\n")
            wait_for(lambda: len(origin.ends) >= 13, "the end of all idle ones")
            for client in clients:
                client.sendall(b"Host: a\r\n\r\n")
            for client in clients:
                self.assertEqual(receive_answer(client)[0], 200)

    def test_one_over_a_unix_socket(self):
        def serve(connection):
            count = 0
            while read_head(connection):
                count += 1
                connection.sendall(OK.replace(b"ok", b"%02d" % count))

        with tempfile.TemporaryDirectory() as directory, Server(serve, path=f"{directory}/s") as server:
            proxy = self.proxy(server.address, "safe", idle="300ms")
            for count in range(1, 4):
                with proxy.connect() as client:
                    self.assertEqual(ask(client, "GET")[2], b"%02d" % count)
                proxy.wait_for_sessions(count)
            server.join()  # the idle one has ended
            with proxy.connect() as client:
                self.assertEqual(ask(client, "GET")[2], b"01")

    def test_draining_empties_the_pool(self):
        for mode in ("healthy", "never-close"):
            with self.subTest(mode=mode), Leak(mode, "--http") as leak:
                proxy = self.proxy(leak.address, "always")
                with proxy.connect() as client:
                    self.assertEqual(ask(client, "GET")[0], 200)
                proxy.wait_for_sessions(1)
                self.assertEqual(self.established(leak.port), 1)
                began_s = time.monotonic()
                proxy.signal(signal.SIGTERM)
                self.assertEqual(proxy.wait(), 0)
                self.assertLess(time.monotonic() - began_s, 30)
                wait_for(lambda: not close_wait(leak.port), "no CLOSE_WAIT")

    def test_ending_at_once_does_not_wait_for_the_pool(self):
        with Leak("never-close", "--http") as leak:
            proxy = self.proxy(leak.address, "always")
            with proxy.connect() as client, proxy.connect() as other:
                ask(client, "GET")
                other.sendall(b"GET /")  # inside a request: draining waits for it
                proxy.signal(signal.SIGTERM)
                proxy.wait_for_line("draining")
                proxy.signal(signal.SIGTERM)
                self.assertEqual(proxy.wait(), 0)
            wait_for(lambda: not close_wait(leak.port), "no CLOSE_WAIT")


class RealClients(Reuse):
    def connections_and_requests(self, *command):
        with Leak("healthy", "--http") as leak:
            proxy = self.proxy(leak.address, "always", workers=2)
            out = subprocess.run([*command, f"http://{proxy.address}/"], capture_output=True, timeout=BOUND_S, check=True,
                                 text=True).stdout
            proxy.signal(signal.SIGTERM)
            proxy.wait()
            legs = collections.Counter(fields["leg"] for fields in requests_of(proxy))
        print(command[0], dict(legs))
        self.assertNotIn("Non-2xx", out)
        self.assertNotIn("Socket errors", out)
        self.assertGreater(legs.total(), 100)
        self.assertLess(legs["new"], legs.total() / 5)

    @unittest.skipUnless(shutil.which("wrk"), "needs wrk")
    def test_wrk(self):
        self.connections_and_requests("wrk", "-t2", "-c10", "-d1")

    @unittest.skipUnless(shutil.which("ab"), "needs ab")
    def test_ab(self):
        self.connections_and_requests("ab", "-q", "-n", "500", "-c", "10")


if __name__ == "__main__":
    main()
