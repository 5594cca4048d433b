"""A healthy half-closer is never cut: what is still making progress is delivered to the last byte."""

import hashlib
import socket
import threading
import time
import unittest

from harness import Leak, Proxy, Server, connect, main, receive_all, receive_exactly

MIB = 1 << 20
SMALL = bytes(range(256)) * 4096
LARGE_MIB = 64
PACE_S = 10.0
HALF_CLOSE_S = 1.0


def large_piece(index):
    return hashlib.sha256(index.to_bytes(4, "big")).digest() * (MIB // 32)


def large_digest():
    digest = hashlib.sha256()
    for index in range(LARGE_MIB):
        digest.update(large_piece(index))
    return digest.hexdigest()


class Paced:
    """Sends the large stream over about ten seconds and notes the longest silence it made."""

    def __init__(self):
        self.longest_gap_s = 0.0

    def send(self, connection):
        start = last = time.monotonic()
        for index in range(LARGE_MIB):
            time.sleep(max(0.0, start + index * PACE_S / LARGE_MIB - time.monotonic()))
            connection.sendall(large_piece(index))
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last)
            last = now


def digest_of_all(connection):
    digest = hashlib.sha256()
    while piece := connection.recv(MIB):
        digest.update(piece)
    return digest.hexdigest()


class LongAnswers(unittest.TestCase):
    """half_close is 1 s, the large stream takes ten. A machine that stalls the sender for longer than the
    deadline has not run this test: then it is run again."""

    def exchange(self, first, second):
        """`first` sends 1 MiB and half-closes; `second` receives it, then sends 64 MiB."""
        received = {}
        paced = Paced()

        def speaks_first(connection):
            connection.sendall(SMALL)
            connection.shutdown(socket.SHUT_WR)
            received["large"] = digest_of_all(connection)

        def speaks_second(connection):
            received["small"] = hashlib.sha256(receive_all(connection)).hexdigest()
            paced.send(connection)

        roles = {first: speaks_first, second: speaks_second}
        with Server(roles["backend"]) as server, Proxy(server.address, "--half-close", "1s") as proxy:
            with connect(proxy.address) as client:
                try:
                    roles["client"](client)
                except OSError as error:
                    received["error"] = error
            (session,) = proxy.wait_for_sessions(1)
        return received, paced, session

    def check(self, first, second):
        for _ in range(5):
            try:
                received, paced, session = self.exchange(first, second)
            except OSError:
                continue
            if paced.longest_gap_s < HALF_CLOSE_S * 0.9:
                break
        self.assertEqual(received, {"small": hashlib.sha256(SMALL).hexdigest(), "large": large_digest()}, session)
        self.assertEqual((session["reason"], session["first_fin"]), ("closed", first))
        self.assertEqual((session["client_close"], session["backend_close"]), ("fin", "fin"))
        self.assertEqual({int(session["request_bytes"]), int(session["response_bytes"])}, {MIB, LARGE_MIB * MIB})
        self.assertGreaterEqual(int(session["half_closed_ms"]), 9000)

    def test_client_half_closes_and_receives_for_ten_seconds(self):
        self.check("client", "backend")

    def test_backend_half_closes_and_receives_for_ten_seconds(self):
        self.check("backend", "client")


class HalfClose(unittest.TestCase):
    def test_zero_aborts_as_soon_as_the_bytes_and_the_fin_are_out(self):
        over = threading.Event()

        def never_close(connection):
            self.assertEqual(receive_all(connection), SMALL)
            over.wait()

        with Server(never_close) as server, Proxy(server.address, "--half-close", "0s") as proxy, \
                connect(proxy.address) as client:
            client.sendall(SMALL)
            client.shutdown(socket.SHUT_WR)
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            over.set()
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], int(session["request_bytes"])), ("half_close", len(SMALL)))

    def test_off_waits_for_ever(self):
        release = threading.Event()

        def answer_late(connection):
            receive_all(connection)
            release.wait()
            connection.sendall(b"late")

        flags = ("--half-close", "off", "--half-close-empty", "off")
        with Server(answer_late) as server, Proxy(server.address, *flags) as proxy, \
                connect(proxy.address) as client:
            client.shutdown(socket.SHUT_WR)
            client.settimeout(3)
            with self.assertRaises(TimeoutError):
                client.recv(1)
            release.set()
            client.settimeout(60)
            self.assertEqual(receive_all(client), b"late")

    def test_both_fins_cross(self):
        def close_at_once(connection):
            connection.shutdown(socket.SHUT_WR)
            receive_all(connection)

        with Server(close_at_once) as server, Proxy(server.address) as proxy:
            for _ in range(200):
                with connect(proxy.address) as client:
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive_all(client), b"")
            self.assertEqual({session["reason"] for session in proxy.wait_for_sessions(200)}, {"closed"})

    def test_no_fin_passes_a_byte(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy:
            for size in (1, 1000, 65535, 65536, 65537, 300000, 4 * MIB):
                data = (SMALL * 4)[:size]
                with connect(proxy.address, receive_buffer=4096) as client:
                    sender = threading.Thread(
                        target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
                    sender.start()
                    self.assertEqual(receive_all(client), data)
                    sender.join()

    def test_half_close_max_cuts_what_makes_progress(self):
        def endless(connection):
            receive_all(connection)
            while True:
                connection.sendall(bytes(1000))
                time.sleep(0.05)

        server = Server(endless)
        with server, Proxy(server.address, "--half-close-max", "1s") as proxy, connect(proxy.address) as client:
            client.shutdown(socket.SHUT_WR)
            with self.assertRaises(ConnectionResetError):
                receive_all(client)
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual(session["reason"], "half_close_max")
            server.expect_errors(ConnectionResetError, BrokenPipeError)

    def test_a_client_that_closed_fully_does_not_hold_up_the_backend(self):
        ended = threading.Event()

        def read_to_the_end(connection):
            receive_exactly(connection, 1)
            receive_all(connection)
            ended.set()

        with Server(read_to_the_end) as server, Proxy(server.address) as proxy:
            with connect(proxy.address) as client:
                client.sendall(b"x")
            self.assertTrue(ended.wait(60))
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["first_fin"]), ("closed", "client"))


if __name__ == "__main__":
    main()
