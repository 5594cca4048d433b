"""`verify` asks the peers' kernels: those that answer are never taken for dead, however many are asked at once."""

import collections
import contextlib
import socket
import threading
import time
import unittest

from harness import Leak, Proxy, Server, connect, main, receive_all, receive_exactly, reset

CLIENTS = 1000


class ManyAtOnce(unittest.TestCase):
    """Clients that live, half-close together and are due together, before a backend that leaks."""

    def reasons(self, *options):
        with Leak("never-close") as leak, Proxy(leak.address, *options) as proxy, \
                contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(proxy.address)) for _ in range(CLIENTS)]
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            sessions = proxy.wait_for_sessions(CLIENTS)
            return collections.Counter(session["reason"] for session in sessions)

    def test_none_that_answers_is_called_lost(self):
        reasons = self.reasons("--half-close", "3s", "--verify", "on")
        # What the service answers to the client's byte may come before or after the FIN.
        self.assertEqual(reasons["half_close"] + reasons["half_close_rate"], CLIENTS, reasons)

    def test_none_that_answers_is_cut_before_half_close_max(self):
        reasons = self.reasons("--half-close", "3s", "--half-close-max", "12s", "--verify", "extend")
        self.assertEqual(reasons["half_close_max"], CLIENTS, reasons)


class Gone(unittest.TestCase):
    """A client that is gone: its backend learns of it when it next says something, as it would from the client
    itself, and not when a timer looks (50 ms, and 40 for an acknowledgement that is delayed)."""

    TRIES = 20
    SOON_S = 0.03

    def lateness_s(self, leave, *options):
        """From the client's leaving to the first write of its backend that fails."""
        left = threading.Event()
        late = {}

        def talks(connection):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            receive_exactly(connection, 5)
            connection.sendall(b"x")
            left.wait(60)
            start = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() < start + 60:
                    connection.sendall(b"x")
                    time.sleep(0.001)
            late["s"] = time.monotonic() - start

        with Server(talks) as server, Proxy(server.address, *options) as proxy:
            client = connect(proxy.address)
            client.sendall(b"hello")
            receive_exactly(client, 1)
            client.sendall(b"more")
            leave(client)
            left.set()
            proxy.wait_for_sessions(1)
        return late["s"]

    def check(self, leave, *options):
        tries = 0
        while self.lateness_s(leave, *options) > self.SOON_S:
            tries += 1
            self.assertLess(tries, self.TRIES, "a machine may be slow, but not each time")

    def test_a_reset_reaches_a_backend_that_talks_at_once(self):
        self.check(reset)

    def test_with_verify_so_does_a_close(self):
        self.check(lambda client: client.close(), "--verify", "on")

    def test_a_backend_that_closes_when_its_client_does_is_not_reset(self):
        ends = []

        def closes_late(connection):
            receive_all(connection)
            time.sleep(0.02)
            connection.shutdown(socket.SHUT_WR)
            ends.append(receive_all(connection))

        with Server(closes_late) as server, Proxy(server.address, "--verify", "on") as proxy:
            for _ in range(20):
                with connect(proxy.address) as client:
                    client.sendall(b"x")
            sessions = proxy.wait_for_sessions(20)
        self.assertIn(("closed", "fin"), {(s["reason"], s["backend_close"]) for s in sessions})
        for session in sessions:
            if session["backend_close"] != "fin":  # a machine may be slower than message_grace
                self.assertGreaterEqual(int(session["age_ms"]), 250)


if __name__ == "__main__":
    main()
