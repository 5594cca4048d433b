"""Clients that connect and close at once, before a service that never closes."""

import contextlib
import socket
import threading
import time
import unittest

from harness import Leak, Proxy, close_wait, connect, main, wait_for

PROBES = 20
SESSIONS = 100


class Attack:
    """Connects and closes, as fast as it can or so often a second, until the end of the with block."""

    def __init__(self, address, rate=None):
        self.address = address
        self.pause_s = 1 / rate if rate else 0
        self.count = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._ends.is_set():
            with contextlib.suppress(OSError):
                connect(self.address, timeout_s=1).close()
                self.count += 1
            if self.pause_s:
                time.sleep(self.pause_s)

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self.count >= 2 * SESSIONS, "the attack to have begun")
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()


def probe(proxy):
    """What a client gets that asks and finishes."""
    with proxy.connect() as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        return receive_some(client)


def receive_some(client):
    with contextlib.suppress(ConnectionResetError):
        return client.recv(4096)
    return b""


class EmptyClients(unittest.TestCase):
    def attack(self, rate, *options):
        with Leak("never-close") as leak, \
                Proxy(leak.address, "--max-connections", str(SESSIONS), "--log-normal", "off", *options) as proxy, \
                Attack(proxy.address, rate):
            served = sum(bool(probe(proxy)) for _ in range(PROBES))
            left = close_wait(leak.port)
        return served, left, proxy

    def test_as_fast_as_it_goes_they_never_reach_the_service(self):
        served, left, _ = self.attack(None, "--connect-on", "first_byte")
        self.assertEqual(served, PROBES)
        self.assertLessEqual(len(left), PROBES)  # the probes' own, which half_close ends

    def test_each_holds_its_place_for_a_second_at_most(self):
        served, _, proxy = self.attack(SESSIONS / 2, "--half-close-empty", "1s")
        self.assertEqual(served, PROBES)
        self.assertNotIn("half_close", {session["reason"] for session in proxy.sessions
                                        if session["request_bytes"] == "0"})


if __name__ == "__main__":
    main()
