"""A reset arrives as a reset, a FIN as a FIN, on either side and in every state of the session."""

import socket
import threading
import unittest

from harness import Proxy, Server, connect, main, receive_all, receive_exactly, reset


class Backend(Server):
    """Hands its connections to the test."""

    def __init__(self):
        self.accepted = []
        self._arrived = threading.Condition()
        self._over = threading.Event()
        super().__init__(self._keep)

    def _keep(self, connection):
        with self._arrived:
            self.accepted.append(connection)
            self._arrived.notify()
        self._over.wait()

    def take(self):
        with self._arrived:
            self._arrived.wait_for(lambda: self.accepted, 60)
            return self.accepted.pop(0)

    def __exit__(self, *exception):
        self._over.set()
        super().__exit__(*exception)


class Resets(unittest.TestCase):
    def setUp(self):
        self.backend = self.enterContext(Backend())
        self.proxy = self.enterContext(Proxy(self.backend.address, "--half-close", "30s"))
        self.client_leg = self.enterContext(self.proxy.connect())
        self.backend_leg = self.backend.take()

    def legs(self, side):
        """(the one that resets, the one that is to see it)"""
        both = (self.client_leg, self.backend_leg)
        return both if side == "client" else both[::-1]

    def ends_with(self, side):
        (session,) = self.proxy.wait_for_sessions(1)
        self.assertEqual(session["reason"], f"{side}_reset")
        other = "backend" if side == "client" else "client"
        self.assertEqual((session[f"{side}_close"], session[f"{other}_close"]), ("reset", "rst"))

    def exchange(self):
        self.client_leg.sendall(b"request")
        receive_exactly(self.backend_leg, 7)
        self.backend_leg.sendall(b"answer")
        receive_exactly(self.client_leg, 6)

    def check_idle(self, side):
        self.exchange()
        resets, sees = self.legs(side)
        reset(resets)
        with self.assertRaises(ConnectionResetError):
            sees.recv(1)
        self.ends_with(side)

    def check_half_closed_by_the_other(self, side):
        """The one that sees the reset has sent its FIN and is only listening."""
        resets, sees = self.legs(side)
        sees.shutdown(socket.SHUT_WR)
        self.assertEqual(resets.recv(1), b"")
        reset(resets)
        with self.assertRaises(ConnectionResetError):
            sees.recv(1)
        self.ends_with(side)

    def check_half_closed_by_itself(self, side):
        """The one that resets has sent its FIN before; nothing of the proxy reads from it any more."""
        resets, sees = self.legs(side)
        resets.shutdown(socket.SHUT_WR)
        self.assertEqual(sees.recv(1), b"")
        reset(resets)
        # What saw the FIN has everything; it learns of the reset by its own reading or writing.
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            while True:
                sees.sendall(bytes(1000))
        (session,) = self.proxy.wait_for_sessions(1)
        self.assertEqual(session["reason"], f"{side}_reset")

    def check_data_before_it_arrives(self, side):
        resets, sees = self.legs(side)
        data = bytes(range(256)) * 400
        sender = threading.Thread(target=lambda: (resets.sendall(data), reset(resets)))
        sender.start()
        received = b""
        with self.assertRaises(ConnectionResetError):
            while piece := sees.recv(65536):
                received += piece
        sender.join()
        # RST may overtake bytes in the resetting kernel; what does arrive is the beginning of what was sent.
        self.assertEqual(received, data[:len(received)])
        self.ends_with(side)

    def check_behind_backpressure(self, side):
        """The proxy holds bytes of the one that resets, for one that does not read."""
        resets, sees = self.legs(side)
        resets.settimeout(2)
        with self.assertRaises(TimeoutError):
            while True:
                resets.sendall(bytes(1 << 20))
        reset(resets)
        with self.assertRaises(ConnectionResetError):
            while sees.recv(1 << 20):
                pass
        self.ends_with(side)

    def check_fin_is_no_reset(self, side):
        closes, sees = self.legs(side)
        self.exchange()
        closes.close()
        self.assertEqual(sees.recv(1), b"")
        sees.close()
        (session,) = self.proxy.wait_for_sessions(1)
        self.assertEqual((session["reason"], session["first_fin"]), ("closed", side))


for name in [name for name in dir(Resets) if name.startswith("check_")]:
    for each in ("client", "backend"):
        setattr(Resets, f"test_{each}_{name[6:]}",
                lambda self, check=name, side=each: getattr(self, check)(side))


class WhatWasDelivered(unittest.TestCase):
    def test_a_backend_that_answers_and_closes_over_unread_bytes_is_heard(self):
        """An early answer: the backend closes with bytes of the request unread, which its kernel makes a RST.
        What it had sent before is delivered, and then the reset."""
        answer = b"413 too much"

        def answer_early(connection):
            receive_exactly(connection, 1)
            connection.sendall(answer)

        with Server(answer_early) as server, Proxy(server.address) as proxy, connect(proxy.address) as client:
            client.sendall(bytes(100000))
            try:
                self.assertEqual(receive_all(client), answer)
            except ConnectionResetError:
                pass  # the kernel's RST may destroy the answer before the proxy can read it
            (session,) = proxy.wait_for_sessions(1)
            self.assertIn(session["reason"], ("backend_reset", "closed"))


if __name__ == "__main__":
    main()
