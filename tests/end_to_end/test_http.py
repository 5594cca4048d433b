"""Mode http: what goes over the wire in both directions, byte for byte, and how each message's end ends the
connections."""

import contextlib
import re
import socket
import time
import unittest

from harness import Proxy, Server, connect, main, parse_log_line, receive_all, receive_exactly, reset, unused_port, \
    wait_for

CHAIN = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
GET_ON = b"GET /a?b HTTP/1.1\r\nHost: a\r\n" + CHAIN + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKS = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
# As they go on: nothing stands behind a size.
CHUNKS_ON = CHUNKS.replace(b";x=y", b"")


class Script:
    """A backend that plays one list of steps a connection: bytes to expect, then bytes to send; None: wait for the
    proxy's FIN. When the steps end it closes. `seen` has what differed from what was expected."""

    def __init__(self, *connections):
        self._connections = list(connections)
        self.seen = []
        self.server = Server(self._play)

    def _play(self, connection):
        for step in self._connections.pop(0):
            if step is None:
                self.seen.append(("fin", receive_all(connection)))
            elif isinstance(step, tuple):
                got = receive_exactly(connection, len(step[0]))
                if got != step[0]:
                    self.seen.append(("differs", got))
            else:
                connection.sendall(step)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        self.server.__exit__(*exception)


def expect(data):
    return (data,)


def answering(answer):
    """A server's handler: answers what comes, and waits for however the proxy ends the connection."""
    def handler(connection):
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                connection.sendall(answer)
    return handler


def requests_of(proxy):
    return [fields for fields in map(parse_log_line, proxy.lines) if fields.get("msg") == "request"]


class Http(unittest.TestCase):
    def proxy(self, backend, *options):
        proxy = Proxy(backend, "--mode", "http", "--workers", "1", *options)
        self.addCleanup(proxy.stop)
        return proxy

    def proxy_with(self, backend, http):
        """One that has what no flag can say."""
        proxy = Proxy.from_file(
            f"frontends:\n- {{name: f, listen: '127.0.0.1:0', backend: b, mode: http, http: {{{http}}}}}\n"
            f"backends:\n- {{name: b, servers: '{backend}'}}\n")
        self.addCleanup(proxy.stop)
        return proxy

    def relay(self, sent, steps, received, *options, http=None, client_fin=False, closes=False):
        """Sends, and receives exactly that; the backend has to see exactly its steps."""
        with Script(steps) as script:
            proxy = self.proxy_with(script.server.address, http) if http else self.proxy(script.server.address, *options)
            with proxy.connect() as client:
                client.sendall(sent)
                if client_fin:
                    client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_exactly(client, len(received)), received)
                if closes or client_fin:
                    self.assertEqual(receive_all(client), b"")
            fields = proxy.wait_for_sessions(1)[0]
        self.assertEqual([seen for seen in script.seen if seen != ("fin", b"")], [])
        return fields


class Boundaries(Http):
    def test_a_request_and_its_response(self):
        fields = self.relay(GET, [expect(GET_ON), OK, None], OK)
        self.assertEqual((fields["reason"], fields["client_close"], fields["backend_close"]), ("closed", "fin", "fin"))

    def test_a_half_closed_client_gets_its_response(self):
        fields = self.relay(GET, [expect(GET_ON), OK, None], OK, client_fin=True)
        self.assertEqual((fields["client_close"], fields["backend_close"]), ("fin", "fin"))

    def test_pipelined_requests_are_answered_in_order(self):
        answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % i for i in range(5)]
        steps = [step for answer in answers for step in (expect(GET_ON), answer)]
        self.relay(GET * 5, [*steps, None], b"".join(answers), client_fin=True)

    def test_a_body_with_a_length(self):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        self.relay(head + b"\r\nhello", [expect(head + CHAIN + b"\r\nhello"), OK, None], OK)

    def test_a_body_and_the_next_request_in_one_piece(self):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        self.relay(head + b"\r\nhello" + GET,
                   [expect(head + CHAIN + b"\r\nhello"), OK, expect(GET_ON), OK, None], OK + OK)

    def test_a_chunked_body_with_trailers(self):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        self.relay(head + b"\r\n" + CHUNKS + GET,
                   [expect(head + CHAIN + b"\r\n" + CHUNKS_ON), OK, expect(GET_ON), OK, None], OK + OK)

    def test_a_chunked_response_with_trailers(self):
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        self.relay(GET + GET, [expect(GET_ON), response, expect(GET_ON), OK, None],
                   response.replace(CHUNKS, CHUNKS_ON) + OK)

    def test_a_response_byte_by_byte(self):
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        self.relay(GET, [expect(GET_ON), *(bytes([byte]) for byte in response), None],
                   response.replace(CHUNKS, CHUNKS_ON))

    def test_head_has_no_body(self):
        head = GET.replace(b"GET", b"HEAD")
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        self.relay(head + GET, [expect(GET_ON.replace(b"GET", b"HEAD")), response, expect(GET_ON), OK, None],
                   response + OK)

    def test_204_and_304_have_no_body(self):
        first, second = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
        self.relay(GET * 3, [expect(GET_ON), first, expect(GET_ON), second, expect(GET_ON), OK, None],
                   first + second + OK)

    def test_interim_responses_go_on(self):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        with Script([expect(head + CHAIN + b"\r\n"), interim, expect(b"hello"),
                     b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(head + b"\r\n")
                self.assertEqual(receive_exactly(client, len(interim)), interim)
                client.sendall(b"hello")
                rest = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK
                self.assertEqual(receive_exactly(client, len(rest)), rest)
            proxy.wait_for_sessions(1)

    def test_a_response_that_ends_with_the_connection(self):
        response = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100000
        told = response.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        fields = self.relay(GET, [expect(GET_ON), response], told, closes=True)
        self.assertEqual((fields["reason"], fields["client_close"], fields["backend_close"]), ("closed", "fin", "fin"))

    def test_http_1_0_ends_with_its_response(self):
        request = b"GET / HTTP/1.0\r\n"
        told = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.relay(request + b"\r\n",
                   [expect(request + CHAIN + b"Connection: close\r\n\r\n"), OK.replace(b"1.1", b"1.0"), None],
                   told, closes=True)

    def test_http_1_0_that_is_kept_alive(self):
        request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        on = b"GET / HTTP/1.0\r\n" + CHAIN + b"Connection: keep-alive\r\n\r\n"
        answer = OK.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        self.relay(request * 2, [expect(on), answer, expect(on), answer, None], answer * 2)

    def test_connection_close_ends_with_its_response(self):
        request = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        on = GET_ON.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        told = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.relay(request, [expect(on), told, None], told, closes=True)

    def test_an_upgrade_becomes_opaque(self):
        request = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        on = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" + CHAIN + b"Connection: upgrade\r\n\r\n"
        switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        self.relay(request + b"\0no message\n",
                   [expect(on), switching + b"\r\n\r\n\xff", expect(b"\0no message\n"), b"last", None],
                   switching + b"\r\n\r\n\xfflast", client_fin=True)

    def test_an_upgrade_that_is_refused(self):
        request = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        on = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" + CHAIN + b"Connection: upgrade\r\n\r\n"
        self.relay(request + GET, [expect(on), OK, expect(GET_ON), OK, None], OK + OK)

    def test_connect_becomes_opaque(self):
        request = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n"
        established = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.relay(request + b"\r\n", [expect(request + CHAIN + b"\r\n"), established, b"\x16\x03", None],
                   established + b"\x16\x03", http="connect: on", client_fin=True)

    def test_connect_is_refused_unless_it_is_on(self):
        with Server(lambda connection: self.fail("it reached the backend")) as server:
            proxy = self.proxy(server.address)
            with proxy.connect() as client:
                client.sendall(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
                answer = receive_all(client)
            proxy.wait_for_sessions(1)
        self.assertTrue(answer.startswith(b"HTTP/1.1 405 "), answer)
        self.assertIn(b"\r\nAllow:\r\n", answer)
        self.assertEqual(requests_of(proxy)[0]["why"], "CONNECT is off")

    def test_an_upgrade_to_what_is_not_listed_is_an_ordinary_request(self):
        request = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        on = b"GET /ws HTTP/1.1\r\nHost: a\r\n" + CHAIN + b"\r\n"
        self.relay(request + GET, [expect(on), OK, expect(GET_ON), OK, None], OK + OK)
        on = on.replace(b"Host: a\r\n", b"Host: a\r\nUpgrade: x\r\n").replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\n\r\n")
        self.relay(request + GET, [expect(on), OK, expect(GET_ON), OK, None], OK + OK, http="upgrade: [websocket, x]")

    def test_chunks_are_taken_off_for_http_1_0(self):
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        on = b"GET / HTTP/1.0\r\n" + CHAIN + b"Connection: close\r\n\r\n"
        self.relay(b"GET / HTTP/1.0\r\n\r\n", [expect(on), response, None],
                   b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world", closes=True)

    def test_lines_that_end_in_lf_go_on_with_cr_lf(self):
        self.relay(GET.replace(b"\r\n", b"\n"), [expect(GET_ON), OK.replace(b"\r\n", b"\n"), None], OK)

    def test_a_chunk_that_is_none_does_not_reach_the_client(self):
        bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno size\r\n"
        with Server(answering(bad)) as server:
            proxy = self.proxy(server.address)
            with proxy.connect() as client:
                client.sendall(GET)
                answer = receive_all(client)
            proxy.wait_for_sessions(1)
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
        self.assertNotIn(b"hello", answer)
        self.assertEqual(requests_of(proxy)[0]["why"], "a chunk's size is no number")

    def test_a_flaw_is_answered_before_the_head_ends(self):
        with Server(receive_all) as server:
            proxy = self.proxy(server.address)
            with proxy.connect() as client:
                client.sendall(b"GET  / HTTP/1.1\r\n")
                self.assertTrue(receive_exactly(client, 13).startswith(b"HTTP/1.1 400 "))
            proxy.wait_for_sessions(1)
        self.assertEqual(requests_of(proxy)[0]["why"], "the version is not HTTP/digit.digit")

    def test_a_client_that_goes_away_while_its_answer_runs_is_noticed(self):
        """Without `verify`: an event stream that is silent."""
        stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
        chunks = stream.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n") + b"\r\n"
        for answer in (stream, chunks, b""):
            with self.subTest(answer=answer), Server(answering(answer)) as server:
                proxy = self.proxy(server.address, "--response", "1h")
                with proxy.connect() as client:
                    client.sendall(GET)
                    wait_for(lambda: server.accepted_count, "the request's connection")
                    received = b""
                    while not received.endswith(answer[-8:]):
                        received += client.recv(4096)
                fields = proxy.wait_for_sessions(1)[0]
                self.assertEqual(fields["reason"], "client_closed")

    def test_a_large_body_both_ways(self):
        body = bytes(range(256)) * 40000
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % len(body)
        response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.relay(head + b"\r\n" + body + GET,
                   [expect(head + CHAIN + b"\r\n" + body), response, expect(GET_ON), OK, None], response + OK)

    def test_hop_by_hop_fields_stay_behind(self):
        request = GET.replace(b"\r\n\r\n", b"\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: x\r\n\r\n")
        response = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\n")
        self.relay(request, [expect(GET_ON), response, None], OK)


class Teardown(Http):
    def test_an_early_response_reaches_a_client_that_still_uploads(self):
        early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n"
        with Script([expect(head + CHAIN + b"\r\n"), early]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(head + b"\r\n")
                with contextlib.suppress(ConnectionError, TimeoutError):
                    client.settimeout(2)
                    for _ in range(40):
                        client.sendall(b"x" * 65536)
                told = early.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                self.assertEqual(receive_exactly(client, len(told)), told)
            proxy.wait_for_sessions(1)

    def test_a_client_that_leaves_inside_a_request_aborts_it(self):
        gone = []

        def handler(connection):
            receive_exactly(connection, 5)
            try:
                receive_all(connection)
            except ConnectionResetError:
                gone.append("reset")

        with Server(handler) as server:
            proxy = self.proxy(server.address)
            with proxy.connect() as client:
                client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhel")
                time.sleep(0)
            fields = proxy.wait_for_sessions(1)[0]
        self.assertEqual((fields["reason"], gone), ("request_cut", ["reset"]))

    def test_a_response_that_is_cut_short_does_not_end_like_a_whole_one(self):
        """By FIN where its framing shows the cut, else by RST."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        for response in (head + b"hello", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"):
            with self.subTest(response=response), Script([expect(GET_ON), response]) as script:
                proxy = self.proxy(script.server.address)
                with proxy.connect() as client:
                    client.sendall(GET)
                    self.assertEqual(receive_all(client), response)
                self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "response_cut")
        request = b"GET / HTTP/1.0\r\n\r\n"
        on = b"GET / HTTP/1.0\r\n" + CHAIN + b"Connection: close\r\n\r\n"
        told = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhel"
        with self.subTest("to HTTP/1.0"), Script([expect(on), response]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(request)
                self.assertEqual(receive_exactly(client, len(told)), told)
                with self.assertRaises(ConnectionResetError):
                    receive_all(client)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "response_cut")

    def test_a_backend_that_closes_between_requests_is_replaced(self):
        with Script([expect(GET_ON), OK], [expect(GET_ON), OK], [expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                for i in range(3):
                    client.sendall(GET)
                    self.assertEqual(receive_exactly(client, len(OK)), OK)
                    wait_for(lambda n=i: script.server.accepted_count > n, "the backend's connection")
            self.assertEqual(proxy.wait_for_sessions(1)[0]["requests"], "3")

    def test_a_client_keeps_its_server_when_a_connection_is_replaced(self):
        closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        names = []

        def handler(name):
            def answer(connection):
                receive_exactly(connection, len(GET_ON))
                names.append(name)
                connection.sendall(closing)
            return answer

        with Server(handler("a")) as first, Server(handler("b")) as second:
            proxy = Proxy.from_file(
                "frontends:\n- {name: f, listen: '127.0.0.1:0', backend: b, mode: http}\n"
                f"backends:\n- {{name: b, servers: ['{first.address}', '{second.address}'], balance: source}}\n")
            self.addCleanup(proxy.stop)
            with proxy.connect() as client:
                for _ in range(4):
                    client.sendall(GET)
                    self.assertEqual(receive_exactly(client, len(OK)), OK)
        self.assertEqual((len(names), len(set(names))), (4, 1))

    def test_a_safe_request_that_crosses_a_close_is_sent_again(self):
        with Script([expect(GET_ON), OK, expect(GET_ON)], [expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET + GET)
                self.assertEqual(receive_exactly(client, 2 * len(OK)), OK + OK)
            proxy.wait_for_sessions(1)
            self.assertEqual([request.get("resent") for request in requests_of(proxy)], [None, "yes"])

    def test_an_unsafe_request_that_crosses_a_close_is_not(self):
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        on = post + CHAIN + b"\r\nx"
        with Script([expect(GET_ON), OK, expect(on)]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET + post + b"\r\nx")
                receive_exactly(client, len(OK))
                self.assertTrue(receive_all(client).startswith(b"HTTP/1.1 502 "))
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "no_response")

    def test_a_backend_that_says_close_is_left_while_the_client_goes_on(self):
        closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        with Script([expect(GET_ON), closing, None], [expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET + GET)
                self.assertEqual(receive_exactly(client, 2 * len(OK)), OK + OK)
            proxy.wait_for_sessions(1)

    def test_more_than_was_asked_for_never_reaches_the_client(self):
        with Script([expect(GET_ON), OK + b"HTTP/1.1 200 Poisoned\r\n\r\n", None],
                    [expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET)
                self.assertEqual(receive_exactly(client, len(OK)), OK)
                client.sendall(GET)
                self.assertEqual(receive_exactly(client, len(OK)), OK)
            proxy.wait_for_sessions(1)

    def test_a_client_that_resets_ends_its_request(self):
        def handler(connection):
            receive_exactly(connection, len(GET_ON))
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)

        with Server(handler) as server:
            proxy = self.proxy(server.address)
            client = proxy.connect()
            client.sendall(GET)
            wait_for(lambda: server.accepted_count == 1, "the backend's connection")
            reset(client)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "client_reset")

    def test_a_client_that_closed_is_not_waited_for_with_verify(self):
        gone = []

        def handler(connection):
            receive_exactly(connection, len(GET_ON))
            try:
                receive_all(connection)
            except ConnectionResetError:
                gone.append("reset")

        with Server(handler) as server:
            proxy = self.proxy(server.address, "--verify", "on")
            with proxy.connect() as client:
                client.sendall(GET)
                wait_for(lambda: server.accepted_count == 1, "the backend's connection")
            self.assertEqual(proxy.wait_for_sessions(1, 20)[0]["reason"], "client_closed")
        self.assertEqual(gone, ["reset"])

    def test_a_client_that_closed_only_its_half_is_waited_for_with_verify(self):
        def handler(connection):
            receive_exactly(connection, len(GET_ON))
            time.sleep(0.5)
            connection.sendall(OK)
            receive_all(connection)

        with Server(handler) as server:
            proxy = self.proxy(server.address, "--verify", "on")
            with proxy.connect() as client:
                client.sendall(GET)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), OK)

    def test_draining_finishes_the_response_and_closes(self):
        answer = []
        with Server(lambda connection: (receive_exactly(connection, len(GET_ON)),
                                        wait_for(lambda: answer, "the drain"),
                                        connection.sendall(OK), receive_all(connection))) as server:
            proxy = self.proxy(server.address)
            with proxy.connect() as client, proxy.connect() as idle:
                client.sendall(GET)
                wait_for(lambda: server.accepted_count == 1, "the backend's connection")
                proxy.process.terminate()
                proxy.wait_for_line("msg=draining")
                answer.append(True)
                told = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                self.assertEqual(receive_all(client), told)
                idle.close()
            self.assertEqual(proxy.wait(), 0)


class Answers(Http):
    def answer(self, proxy, request, client_fin=False):
        with proxy.connect() as client:
            client.sendall(request)
            if client_fin:
                client.shutdown(socket.SHUT_WR)
            return receive_all(client)

    def assert_answer(self, answer, status):
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertIn(b"\r\nDate: ", head)
        self.assertIn(b"\r\nConnection: close", head)
        length = re.search(rb"Content-Length: (\d+)", head)
        self.assertEqual(int(length.group(1)), len(body))

    def test_malformed_requests_never_reach_the_backend(self):
        with Server(lambda connection: None) as server:
            proxy = self.proxy(server.address)
            for request, status in (
                    (b"GET / HTTP/1.1\r\n\r\n", 400),
                    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
                    (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
                    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
                    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
                    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 17000 + b"\r\n\r\n", 431),
                    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
                    (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501)):
                with self.subTest(request=request[:40]):
                    self.assert_answer(self.answer(proxy, request), status)
            self.assert_answer(self.answer(proxy, b"GET / HTTP/1.1\r\nHo", client_fin=True), 400)
            proxy.wait_for_sessions(9)
            self.assertEqual(server.accepted_count, 0)

    def test_a_backend_that_speaks_something_else_is_found_out_at_once(self):
        """It says so in its first byte and waits: `response` is a minute."""
        for greeting in (b"-ERR unknown command\r\n", b"SSH-2.0-OpenSSH\r\n", b"<html>hi", b"HTTP/2.0 200 OK\r\n"):
            with self.subTest(greeting), Script([expect(GET_ON), greeting]) as script:
                proxy = self.proxy(script.server.address)
                self.assert_answer(self.answer(proxy, GET), 502)
                self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "bad_response")

    def test_half_a_head_of_a_response_is_no_missing_one(self):
        with Script([expect(GET_ON), b"HTTP/1.1 200 OK\r\nConte"]) as script:
            proxy = self.proxy(script.server.address)
            self.assert_answer(self.answer(proxy, GET), 502)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "response_cut")

    def test_who_sends_fin_first(self):
        half = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
        with Server(receive_all) as server:
            server.expect_errors(ConnectionResetError)
            proxy = self.proxy(server.address)
            with proxy.connect() as client:
                client.sendall(half)
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    receive_all(client)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["first_fin"], "client")
            self.answer(proxy, b"get / HTTP/1.1\r\nHost: a\r\n\r\n")  # the proxy does
            self.assertEqual(proxy.wait_for_sessions(2)[1]["first_fin"], "none")
            proxy.connect().close()
            self.assertEqual(proxy.wait_for_sessions(3)[2]["first_fin"], "client")

    def test_broken_chunks_are_400_and_reset_the_backend(self):
        def handler(connection):
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)

        with Server(handler) as server:
            proxy = self.proxy(server.address)
            request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX"
            with proxy.connect() as client:
                client.sendall(request[:-6])
                wait_for(lambda: server.accepted_count == 1, "the backend's connection")
                client.sendall(request[-6:])
                self.assert_answer(receive_all(client), 400)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["backend_close"], "rst")

    def test_a_backend_that_refuses_is_502(self):
        proxy = self.proxy(f"127.0.0.1:{unused_port()}")
        self.assert_answer(self.answer(proxy, GET), 502)
        html = self.answer(proxy, GET.replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n"))
        self.assertIn(b"<h1>502 Bad Gateway</h1>", html)
        json = self.answer(proxy, GET.replace(b"\r\n\r\n", b"\r\nAccept: application/json\r\n\r\n"))
        self.assertIn(b'"status": 502', json)
        head = self.answer(proxy, GET.replace(b"GET", b"HEAD"))
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_a_backend_that_resets_or_closes_or_talks_nonsense_is_502(self):
        def nothing(connection):
            receive_exactly(connection, len(GET_ON))

        def resets(connection):
            receive_exactly(connection, len(GET_ON))
            reset(connection)

        def nonsense(connection):
            receive_exactly(connection, len(GET_ON))
            connection.sendall(b"SSH-2.0-x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)

        for handler in (nothing, resets, nonsense):
            with self.subTest(handler=handler.__name__), Server(handler) as server:
                proxy = self.proxy(server.address)
                self.assert_answer(self.answer(proxy, GET), 502)

    def test_slow_requests_are_408(self):
        with Server(lambda connection: contextlib.suppress(ConnectionResetError).__enter__()) as server:
            proxy = self.proxy(server.address, "--request-head", "200ms", "--request-body", "200ms")
            self.assert_answer(self.answer(proxy, b"GET / HTTP/1.1\r\nHost: a\r\nX: "), 408)
            self.assertEqual(self.answer(proxy, b""), b"")

    def test_a_slow_body_is_408(self):
        def handler(connection):
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)

        with Server(handler) as server:
            proxy = self.proxy(server.address, "--request-body", "200ms")
            self.assert_answer(self.answer(proxy, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"), 408)

    def test_a_slow_response_is_504_and_a_slow_rest_is_reset(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"

        def silent(connection):
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)

        def begins(connection):
            receive_exactly(connection, len(GET_ON))
            connection.sendall(head)
            silent(connection)

        with Server(silent) as server:
            proxy = self.proxy(server.address, "--response", "200ms")
            self.assert_answer(self.answer(proxy, GET), 504)
        with Server(begins) as server:
            proxy = self.proxy(server.address, "--response", "200ms")
            with proxy.connect() as client:
                client.sendall(GET)
                self.assertEqual(receive_exactly(client, len(head)), head)
                with self.assertRaises(ConnectionResetError):
                    receive_all(client)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "response")

    def test_a_silent_keep_alive_is_closed_in_order(self):
        with Script([expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address, "--keepalive", "200ms")
            with proxy.connect() as client:
                client.sendall(GET)
                self.assertEqual(receive_all(client), OK)
            fields = proxy.wait_for_sessions(1)[0]
        self.assertEqual((fields["reason"], fields["backend_close"]), ("keepalive", "fin"))


class Log(Http):
    def test_each_request_has_a_line_without_its_query(self):
        with Script([expect(GET_ON), OK, expect(GET_ON), OK.replace(b"200 OK", b"404 No"), None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET + GET)
                receive_exactly(client, 2 * len(OK))
            proxy.wait_for_sessions(1)
        lines = requests_of(proxy)
        self.assertEqual([(line["method"], line["path"], line["status"]) for line in lines],
                         [("GET", "/a", "200"), ("GET", "/a", "404")])
        self.assertTrue(all(int(line["request_ms"]) >= 0 and int(line["response_ms"]) >= 0 for line in lines))

    def test_the_durations_of_a_refused_request_are_its_own(self):
        with Script([expect(GET_ON), OK, None]) as script:
            proxy = self.proxy(script.server.address)
            with proxy.connect() as client:
                client.sendall(GET)
                receive_exactly(client, len(OK))
                time.sleep(0.05)  # so that what is left of the first request is told from the second's
                client.sendall(b"GET  / HTTP/1.1\r\n\r\n")
                receive_all(client)
            proxy.wait_for_sessions(1)
        self.assertLess(int(requests_of(proxy)[1]["request_ms"]), 10000)


class Heads(Http):
    def test_trusted_clients_are_appended_to(self):
        request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
        on = GET_ON.replace(b"For: 127", b"For: 1.1.1.1, 127")
        self.relay(request, [expect(on), OK, None], OK, "--trusted", "127.0.0.0/8")

    def test_untrusted_clients_are_replaced(self):
        request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\r\n")
        self.relay(request, [expect(GET_ON), OK, None], OK, "--trusted", "10.0.0.0/8,::1")

    def test_the_standard_field(self):
        on = GET_ON.replace(CHAIN, b"Forwarded: for=127.0.0.1;proto=http\r\nX-Forwarded-Proto: http\r\n")
        self.relay(GET, [expect(on), OK, None], OK, "--forwarded", "forwarded")

    def test_no_field(self):
        request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
        self.relay(request, [expect(request), OK, None], OK, "--forwarded", "off")

    def test_request_id_and_via_from_a_file(self):
        heads = []

        def handler(connection):
            heads.append(connection.recv(4096))
            connection.sendall(OK)
            receive_all(connection)

        with Server(handler) as server:
            proxy = Proxy.from_file(
                "frontends:\n- {name: f, listen: '127.0.0.1:0', backend: b, mode: http,"
                " http: {request_id: on, via: on, forwarded: off}}\n"
                f"backends:\n- {{name: b, servers: '{server.address}'}}\n")
            self.addCleanup(proxy.stop)
            with proxy.connect() as client:
                client.sendall(GET)
                head = client.recv(4096)
            proxy.wait_for_sessions(1)
        self.assertRegex(heads[0], rb"\r\nX-Request-Id: [0-9a-f]{32}\r\nVia: 1.1 lastack\r\n\r\n$")
        self.assertIn(b"\r\nVia: 1.1 lastack\r\n", head)


if __name__ == "__main__":
    main()
