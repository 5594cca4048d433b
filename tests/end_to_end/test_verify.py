"""`verify` asks the peers' kernels: those that answer are never taken for dead, however many are asked at once."""

import collections
import contextlib
import socket
import unittest

from harness import Leak, Proxy, connect, main

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


if __name__ == "__main__":
    main()
