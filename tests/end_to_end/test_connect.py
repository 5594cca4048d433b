"""Connecting to the backend: refused, silent, unreachable, by name, and the next server."""

import unittest

from harness import Leak, Proxy, connect, main, receive_exactly, silent_address, unused_port

FILE = """\
frontends:
  - name: main
    listen: ['127.0.0.1:0']
    mode: tcp
    backend: service
    deadlines: {{connect: {connect}}}
backends:
  - name: service
    servers: [{servers}]
    balance: {balance}
"""


def proxy_with(servers, balance="roundrobin", connect_after="1s"):
    quoted = ", ".join(f"'{server}'" for server in servers)
    return Proxy.from_file(FILE.format(servers=quoted, balance=balance, connect=connect_after))


class Connecting(unittest.TestCase):
    def is_reset(self, proxy):
        # The reset may come before connect() has returned.
        with self.assertRaises(ConnectionResetError), connect(proxy.address) as client:
            client.recv(1)

    def fails(self, proxy, reason):
        self.is_reset(proxy)
        (session,) = proxy.wait_for_sessions(1)
        self.assertEqual((session["reason"], session["client_close"], session["backend_close"]),
                         (reason, "rst", "none"))

    def is_served(self, proxy, times=1):
        for _ in range(times):
            with connect(proxy.address) as client:
                client.sendall(b"x")
                self.assertEqual(receive_exactly(client, 1), b"x")

    def test_refused_is_a_reset_and_the_proxy_lives(self):
        with proxy_with([f"127.0.0.1:{unused_port()}"]) as proxy:
            self.fails(proxy, "connect_failed")
            self.assertIsNone(proxy.process.poll())

    def test_silence_is_bounded_by_the_connect_deadline(self):
        with silent_address() as address, proxy_with([address]) as proxy:
            self.fails(proxy, "connect")
            self.assertGreaterEqual(int(proxy.sessions[0]["age_ms"]), 1000)

    def test_unreachable_is_a_reset(self):
        # The discard-only prefix, RFC 6666. Without a route to it the kernel says so; with one, nobody answers.
        with proxy_with(["[100::1]:9"]) as proxy:
            self.is_reset(proxy)
            self.assertIn(proxy.wait_for_sessions(1)[0]["reason"], ("connect_failed", "connect"))

    def test_after_a_refusal_the_next_server_serves(self):
        with Leak("healthy") as leak:
            for balance in ("roundrobin", "leastconn", "source"):
                servers = [f"127.0.0.1:{unused_port()}", leak.address]
                with self.subTest(balance), proxy_with(servers, balance) as proxy:
                    self.is_served(proxy, times=6)
                    self.assertEqual({session["backend"] for session in proxy.wait_for_sessions(6)}, {leak.address})

    def test_after_silence_the_next_server_serves(self):
        with silent_address() as address, Leak("healthy") as leak, \
                proxy_with([address, leak.address]) as proxy:
            self.is_served(proxy, times=2)

    def test_round_robin_takes_turns(self):
        with Leak("healthy") as first, Leak("healthy") as second, \
                proxy_with([first.address, second.address]) as proxy:
            self.is_served(proxy, times=10)
            backends = [session["backend"] for session in proxy.wait_for_sessions(10)]
            self.assertGreaterEqual(backends.count(first.address), 1)
            self.assertGreaterEqual(backends.count(second.address), 1)

    def test_source_stays_with_its_server(self):
        with Leak("healthy") as first, Leak("healthy") as second, \
                proxy_with([first.address, second.address], "source") as proxy:
            self.is_served(proxy, times=10)
            self.assertEqual(len({session["backend"] for session in proxy.wait_for_sessions(10)}), 1)

    def test_a_name_is_resolved(self):
        with Leak("healthy") as leak, proxy_with([f"localhost:{leak.port}"]) as proxy:
            self.is_served(proxy)

    def test_a_client_that_leaves_while_connecting_is_forgotten(self):
        with silent_address() as address, proxy_with([address], connect_after="2s") as proxy:
            with connect(proxy.address):
                pass
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual(session["backend_close"], "none")


if __name__ == "__main__":
    main()
