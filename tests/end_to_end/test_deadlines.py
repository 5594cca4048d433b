"""Deadlines outside the half-close: each fires with its reason, and none of them fakes a clean end."""

import threading
import time
import unittest

from harness import Leak, Proxy, Server, connect, main, receive_all, receive_exactly


class Deadlines(unittest.TestCase):
    def test_idle_sends_fin_and_waits_for_theirs(self):
        with Leak("healthy") as leak, Proxy(leak.address, "--idle", "1s") as proxy, \
                connect(proxy.address) as client:
            client.sendall(b"x")
            self.assertEqual(receive_all(client), b"x")
            client.close()
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["client_close"], session["backend_close"]),
                             ("idle", "fin", "fin"))
            self.assertEqual(session["first_fin"], "none")  # both only answered the proxy's
            self.assertGreaterEqual(int(session["age_ms"]), 1000)

    def test_idle_resets_who_does_not_close_within_grace(self):
        with Leak("never-close") as leak, Proxy(leak.address, "--idle", "1s", "--grace", "500ms") as proxy, \
                connect(proxy.address) as client:
            client.sendall(b"x")
            self.assertEqual(receive_exactly(client, 1), b"x")
            self.assertEqual(client.recv(1), b"")
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["client_close"], session["backend_close"]),
                             ("idle", "rst", "rst"))

    def test_idle_is_no_clean_end_for_who_waits_for_an_answer(self):
        with Leak("queued") as leak, Proxy(leak.address, "--idle", "1s") as proxy, \
                connect(proxy.address) as client:
            client.sendall(b"x")
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "idle")

    def test_progress_in_one_half_keeps_both_from_being_idle(self):
        def send_slowly(connection):
            for _ in range(12):
                time.sleep(0.5)
                connection.sendall(b"x")

        with Server(send_slowly) as server, Proxy(server.address, "--idle", "4s") as proxy, \
                connect(proxy.address) as client:
            self.assertEqual(receive_all(client), b"x" * 12)
            client.close()
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "closed")

    def test_write_stall_resets_both(self):
        over = threading.Event()
        with Server(lambda connection: over.wait()) as server, \
                Proxy(server.address, "--write-stall", "2s") as proxy, connect(proxy.address) as client:
            with self.assertRaises(ConnectionResetError):
                while True:
                    client.sendall(bytes(1 << 20))
            over.set()
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["client_close"], session["backend_close"]),
                             ("write_stall", "rst", "rst"))

    def test_lifetime_ends_a_session_at_rest_in_order(self):
        with Leak("healthy") as leak, Proxy(leak.address, "--lifetime", "1s") as proxy, \
                connect(proxy.address) as client:
            client.sendall(b"x")
            self.assertEqual(receive_all(client), b"x")
            client.close()
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["client_close"]), ("lifetime", "fin"))

    def test_lifetime_is_no_clean_end_in_mid_transfer(self):
        def endless(connection):
            while True:
                connection.sendall(bytes(1000))
                time.sleep(0.01)

        with Server(endless) as server, Proxy(server.address, "--lifetime", "1s", "--grace", "1s") as proxy, \
                connect(proxy.address) as client:
            server.expect_errors(ConnectionResetError, BrokenPipeError)
            with self.assertRaises(ConnectionResetError):
                receive_all(client)
            self.assertEqual(proxy.wait_for_sessions(1)[0]["reason"], "lifetime")


if __name__ == "__main__":
    main()
