"""Peers that move, but too slowly, are ended by short settings; a healthy slow download is not."""

import time
import unittest

from harness import BOUND_S, Proxy, Server, connect, main, receive_all

BODY = 3 << 20


def swallow(connection):
    """Until the end, which may be a reset."""
    try:
        receive_all(connection)
    except OSError:
        pass


class SlowPeers(unittest.TestCase):
    def reason_of(self, proxy):
        (session,) = proxy.wait_for_sessions(1)
        return session["reason"]

    def trickle(self, mode, server, flags, first):
        """A client that sends `first`, then a byte now and then, for as long as it is let."""
        with Server(server) as backend, Proxy(backend.address, "--mode", mode, *flags) as proxy, \
                connect(proxy.address) as client:
            client.sendall(first)
            stop = time.monotonic() + BOUND_S
            try:
                while time.monotonic() < stop:
                    client.sendall(b"x")
                    time.sleep(0.1)
            except OSError:
                pass
            self.assertLess(time.monotonic(), stop, "it was let")
            return self.reason_of(proxy)

    def test_a_slow_head_has_a_total(self):
        reason = self.trickle("http", swallow, ["--request-head", "1s"],
                              b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        self.assertEqual(reason, "request_head")

    def test_a_slow_body_is_refused(self):
        reason = self.trickle("http", swallow, ["--request-body", "1s", "--request-body-rate", "512B/s"],
                              b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        self.assertEqual(reason, "request_body_rate")

    def test_a_slow_chunk_extension_is_refused(self):
        reason = self.trickle("http", swallow, ["--request-body", "1s", "--request-body-rate", "512B/s"],
                              b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=")
        self.assertIn(reason, ("request_body", "request_body_rate"))

    def test_two_open_halves_that_trickle_end_where_a_rate_is_set(self):
        reason = self.trickle("tcp", swallow,
                              ["--idle", "1s", "--idle-rate", "100B/s"], b"x")
        self.assertEqual(reason, "idle_rate")

    def read(self, mode, size, chunk, pause_s):
        """A client with little room that reads so: what it got before it was ended, and the reason."""
        def answer(connection):
            connection.recv(100)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size if mode == "http" else b""
            try:
                connection.sendall(head + bytes(size))
            except OSError:
                pass

        with Server(answer) as backend, \
                Proxy(backend.address, "--mode", mode, "--write-stall", "1s", "--write-stall-rate", "64KiB/s") as proxy, \
                connect(proxy.address, receive_buffer=4096) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got, stop = 0, time.monotonic() + BOUND_S
            try:
                while time.monotonic() < stop and got < size:
                    data = client.recv(chunk)
                    if not data:
                        break
                    got += len(data)
                    time.sleep(pause_s)
            except OSError:
                pass
            client.close()
            return got, self.reason_of(proxy)

    def test_a_slow_read_is_reset(self):
        for mode in ("tcp", "http"):
            with self.subTest(mode):
                got, reason = self.read(mode, 64 << 20, 4000, 0.5)
                self.assertLess(got, 64 << 20)
                self.assertEqual(reason, "write_stall_rate")

    def test_a_healthy_slow_download_is_untouched(self):
        for mode in ("tcp", "http"):
            with self.subTest(mode):
                got, reason = self.read(mode, BODY, 65536, 0.05)
                self.assertGreaterEqual(got, BODY)
                self.assertIn(reason, ("closed", "client_closed"))


if __name__ == "__main__":
    main()
