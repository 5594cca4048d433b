"""The main job: a thousand connections through `lastack run` to each kind of leak, and none is left."""

import collections
import socket
import time
import unittest

from harness import (MODES, Leak, Proxy, close_wait, connect, main, receive_exactly, sockets, wait_for)

COUNT = 1000
REQUEST = b"hello, are you there?"

# What the clients do before they close.
SILENT, UNANSWERED, ANSWERED = "silent", "unanswered", "answered"
TRAFFIC = collections.defaultdict(lambda: ANSWERED, {
    "zero-byte": SILENT, "never-accept": UNANSWERED, "queued": UNANSWERED})

# Why the sessions end. A trickle's next byte meets a client that is gone, whose kernel answers with RST.
REASONS = collections.defaultdict(lambda: {"half_close"}, {
    "healthy": {"closed"}, "trickle": {"client_reset", "half_close_rate"}})


def clients_come(address, traffic):
    clients = [connect(address) for _ in range(COUNT)]
    if traffic != SILENT:
        for client in clients:
            client.sendall(REQUEST)
    if traffic == ANSWERED:
        for client in clients:
            receive_exactly(client, len(REQUEST))
    return clients


def left_by_the_proxy(leak, proxy):
    """Sockets of the proxy, connected ones and orphans, save TIME-WAIT, which has its own end."""
    rows = sockets(f"( dport = :{leak.port} or sport = :{proxy.port} )")
    return [row for row in rows if row.state not in ("LISTEN", "TIME-WAIT")]


class NoLeakIsLeft(unittest.TestCase):
    def check(self, mode):
        with Leak(mode) as leak, Proxy(leak.address, "--half-close", "2s", "--workers", "2") as proxy:
            clients = clients_come(proxy.address, TRAFFIC[mode])
            wait_for(lambda: len(sockets("state established", f"sport = :{leak.port}")) >= COUNT,
                     "every session reaches the backend")
            for client in clients:
                client.close()
            closed_at = time.monotonic()
            sessions = proxy.wait_for_sessions(COUNT)
            wait_for(lambda: not left_by_the_proxy(leak, proxy),
                     lambda: f"no socket of the proxy, there are {left_by_the_proxy(leak, proxy)[:5]}")
            # What was never accepted is the backlog's own; it has no inode. No other is excused.
            wait_for(lambda: not [row for row in close_wait(leak.port) if row.inode],
                     lambda: f"no CLOSE-WAIT, there are {close_wait(leak.port)[:5]}")
            print(f"{mode}: {COUNT} finished {time.monotonic() - closed_at:.2f} s after the clients closed, "
                  f"{len(close_wait(leak.port))} left in the backlog")
            self.check_log(mode, sessions)

    def check_log(self, mode, sessions):
        self.assertEqual(len(sessions), COUNT)
        self.assertLessEqual({session["reason"] for session in sessions}, REASONS[mode])
        self.assertEqual({session["first_fin"] for session in sessions}, {"client"})
        if mode == "healthy":
            self.assertEqual({(s["client_close"], s["backend_close"]) for s in sessions}, {("fin", "fin")})
            return
        self.assertEqual({session["backend_close"] for session in sessions}, {"rst"})
        for session in sessions:
            if session["reason"] == "half_close":
                self.assertGreaterEqual(int(session["half_closed_ms"]), 2000)


for each in MODES:
    setattr(NoLeakIsLeft, f"test_{each.replace('-', '_')}", lambda self, mode=each: self.check(mode))


class Trickle(unittest.TestCase):
    def test_is_ended_by_its_rate_while_the_client_still_listens(self):
        with Leak("trickle", "--interval", "1s") as leak, \
                Proxy(leak.address, "--half-close", "3s") as proxy, connect(proxy.address) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            with self.assertRaises(ConnectionResetError):
                while client.recv(100):
                    pass
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual(session["reason"], "half_close_rate")
            self.assertEqual((session["client_close"], session["backend_close"]), ("rst", "rst"))
            self.assertGreaterEqual(int(session["half_closed_ms"]), 3000)
            wait_for(lambda: not close_wait(leak.port), "no CLOSE-WAIT")


if __name__ == "__main__":
    main()
