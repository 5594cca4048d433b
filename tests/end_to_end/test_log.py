"""One line per ended session, in logfmt and JSON."""

import json
import tempfile
import unittest

from harness import (LASTACK, Leak, Process, Proxy, connect, main, parse_log_line, receive_all, receive_exactly,
                     unused_port, wait_for)

FIELDS = {"id", "frontend", "client", "backend", "reason", "first_fin", "age_ms", "half_closed_ms",
          "request_bytes", "response_bytes", "client_close", "backend_close"}


class Log(unittest.TestCase):
    def one_session(self, proxy):
        with connect(proxy.address) as client:
            host, port = client.getsockname()
            client.sendall(b"hello")
            client.shutdown(1)
            self.assertEqual(receive_all(client), b"hello")
        return f"{host}:{port}"

    def check(self, session, client, backend):
        self.assertLessEqual(FIELDS, set(session))
        self.assertEqual((session["frontend"], session["client"], session["backend"]), ("main", client, backend))
        self.assertEqual((session["reason"], session["first_fin"]), ("closed", "client"))
        self.assertEqual((int(session["request_bytes"]), int(session["response_bytes"])), (5, 5))
        self.assertEqual((session["client_close"], session["backend_close"]), ("fin", "fin"))
        self.assertLessEqual(int(session["half_closed_ms"]), int(session["age_ms"]))

    def test_logfmt(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy:
            clients = [self.one_session(proxy) for _ in range(3)]
            sessions = proxy.wait_for_sessions(3)
            self.assertEqual(len({session["id"] for session in sessions}), 3)
            by_client = {session["client"]: session for session in sessions}
            for client in clients:
                self.check(by_client[client], client, leak.address)

    def test_json(self):
        with Leak("healthy") as leak, \
                Proxy(leak.address, "--log-format", "json") as proxy:
            client = self.one_session(proxy)
            (session,) = proxy.wait_for_sessions(1)
            self.check(session, client, leak.address)
            self.assertIsInstance(session["age_ms"], int)
            for text in proxy.log_lines:
                json.loads(text)

    def test_what_ended_well_can_be_left_out(self):
        options = ["--log-normal", "off", "--mode", "http"]
        with Leak("never-close", "--http", "--response", "3B") as leak, Proxy(leak.address, *options) as proxy, \
                Leak("healthy", "--http", "--response", "3B") as healthy:
            with Proxy(healthy.address, *options) as quiet:
                for each in (quiet, proxy):
                    with each.connect() as client:
                        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                        answer = b""
                        while len(answer.partition(b"\r\n\r\n")[2]) < 3:
                            answer += receive_exactly(client, 1)
                (session,) = proxy.wait_for_sessions(1)
                self.assertEqual((session["reason"], session["level"]), ("message_grace", "warning"))
                quiet.signal(15)
                self.assertEqual(quiet.wait(), 0)
                said = {parse_log_line(line).get("msg") for line in quiet.log_lines}
                self.assertEqual(said & {"session", "request"}, set())

    def test_a_path_that_is_long_is_cut_and_its_status_is_there(self):
        with Leak("healthy", "--http") as leak, Proxy(leak.address, "--mode", "http") as proxy:
            with proxy.connect() as client:
                client.sendall(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                client.recv(4096)
            proxy.wait_for_sessions(1)
            (request,) = [parse_log_line(line) for line in proxy.lines if "msg=request" in line]
            self.assertEqual((request["status"], request["path"]), ("200", "/" + "a" * 1020 + "..."))

    def test_a_summary_counts_sessions_and_leaks_and_the_descriptors_of_a_service(self):
        with Leak("never-close") as leak, tempfile.TemporaryDirectory() as folder:
            file = f"""
log: {{summary: 1s}}
deadlines: {{half_close: 100ms}}
frontends: [{{name: main, listen: '127.0.0.1:0', backend: service}}]
backends: [{{name: service, servers: ['{leak.address}', 'unix:{folder}/nobody']}}]
"""
            with Proxy.from_file(file) as proxy:
                with proxy.connect():
                    for _ in range(5):
                        with proxy.connect() as client:
                            client.sendall(b"x")
                            receive_exactly(client, 1)
                    proxy.wait_for_line("msg=summary sessions=6 open=1 oldest_s=[1-9][0-9]* ended_badly=5 ")
                proxy.wait_for_sessions(6)
                leaked = len([each for each in proxy.sessions if each["reason"] == "half_close"])
                self.assertEqual(leaked, 6)
                proxy.wait_for_line("msg=summary sessions=6 open=0 ended_badly=6 requests=0 cleared=6 uncleared=0 ")
                proxy.wait_for_line("msg=backend backend=service sessions=6 open=0 ended_badly=6 leaked=6$")
                proxy.wait_for_line(f"msg=service backend=service server={leak.address} listens=yes established=0 "
                                    f"close_wait=0 program=lastack pid={leak.server_pid} descriptors=[0-9]+ limit=[0-9]+$")

    def test_a_level_above_info_is_silent_about_sessions(self):
        # Without the line that it listens the port has to be chosen here.
        with Leak("healthy") as leak:
            address = f"127.0.0.1:{unused_port()}"
            with Process([LASTACK, "run", "--listen", address, "--backend", leak.address,
                          "--log-level", "error"]) as proxy:
                def served():
                    try:
                        with connect(address) as client:
                            client.shutdown(1)
                            return receive_all(client) == b""
                    except ConnectionRefusedError:
                        return False
                wait_for(served, "it serves")
                proxy.signal(15)
                self.assertEqual(proxy.wait(), 0)
                self.assertEqual(proxy.log_lines, [])


if __name__ == "__main__":
    main()
