"""`lastack leak`: each mode leaves in the kernel what it promises."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import unittest

from harness import (MODES, Leak, Process, LASTACK, children_of, close_wait, connect, inodes_of, is_gone, main,
                     process_state, receive_all, receive_exactly, sockets, wait_for)

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
COUNT = 50


def receive_answer(client):
    """An echo of the request, or an HTTP answer with its six zeroes."""
    answer = b""
    while answer != REQUEST and not answer.endswith(bytes(6)):
        answer += receive_exactly(client, 1)


def clients_come_and_go(leak, count=COUNT, answered=True):
    """Opens `count` connections, has each answered, and closes them all: the server's sockets get FINs."""
    clients = [connect(leak.address) for _ in range(count)]
    for client in clients:
        client.sendall(REQUEST)
    for client in clients:
        if answered:
            receive_answer(client)
    for client in clients:
        client.close()


def exactly(count, rows, *conditions):
    return len(rows) == count and all(condition(row) for row in rows for condition in conditions)


def accepted(row):
    return row.inode != 0


def eof_read(row):
    return row.receive_queue == 0


def eof_unread(row):
    return row.receive_queue == 1  # the FIN counts one


def request_unread(row):
    return row.receive_queue == len(REQUEST) + 1


class EachModeLeavesItsState(unittest.TestCase):
    def leaves(self, mode, *conditions, options=(), **traffic):
        with Leak(mode, *options) as leak:
            clients_come_and_go(leak, **traffic)
            wait_for(lambda: exactly(COUNT, close_wait(leak.port), *conditions),
                     lambda: f"{mode}: {COUNT} in CLOSE-WAIT, got {close_wait(leak.port)[:3]}")
            return leak

    def test_never_close_has_read_the_fin(self):
        self.leaves("never-close", accepted, eof_read)

    def test_never_close_in_http(self):
        self.leaves("never-close", accepted, eof_read, options=["--http"])

    def test_never_read_has_the_fin_unread(self):
        self.leaves("never-read", accepted, eof_unread)

    def test_never_read_in_http(self):
        self.leaves("never-read", accepted, eof_unread, options=["--http"])

    def test_never_accept_fills_the_backlog(self):
        self.leaves("never-accept", lambda row: row.inode == 0, request_unread, answered=False)

    def test_keep_alive_stays_open(self):
        self.leaves("keep-alive", accepted, eof_read, options=["--http"])

    def test_queued_has_everything_unread(self):
        self.leaves("queued", accepted, request_unread, answered=False)

    def test_trickle_never_sends_its_fin(self):
        with Leak("trickle", "--interval", "100ms") as leak, connect(leak.address) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_exactly(client, 6), b"x.....")
            self.assertTrue(exactly(1, close_wait(leak.port), accepted, eof_read))

    def test_zero_byte_leaks_only_the_silent(self):
        with Leak("zero-byte") as leak:
            for _ in range(COUNT):
                connect(leak.address).close()
            clients_come_and_go(leak)
            wait_for(lambda: exactly(COUNT, close_wait(leak.port), accepted, eof_read), "the silent ones leak")
            with connect(leak.address) as client:
                client.sendall(b"x")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), b"x")

    def test_stopped_is_stopped_and_can_go_on(self):
        with Leak("stopped") as leak:
            server = leak.server_pid
            clients_come_and_go(leak)
            wait_for(lambda: exactly(COUNT, close_wait(leak.port), accepted, eof_unread), "all FINs unread")
            self.assertEqual(process_state(server), "T")
            clients_come_and_go(leak, answered=False)
            wait_for(lambda: len(close_wait(leak.port)) == 2 * COUNT, "newcomers leak in the backlog")
            os.kill(server, signal.SIGCONT)
            wait_for(lambda: not close_wait(leak.port), "it goes on and closes")

    def test_forked_leaves_the_socket_to_the_child(self):
        with Leak("forked") as leak:
            server = leak.server_pid
            (holder,) = [pid for pid in children_of(leak.pid) if pid != server]
            clients_come_and_go(leak)
            wait_for(lambda: exactly(COUNT, close_wait(leak.port), accepted, eof_read), "FIN read, never closed")
            leaked = {row.inode for row in close_wait(leak.port)}
            wait_for(lambda: not leaked & inodes_of(server), "the server has closed them")
            self.assertTrue(leaked <= inodes_of(holder))

    def test_healthy_closes(self):
        for options in ([], ["--http"]):
            with Leak("healthy", *options) as leak:
                clients_come_and_go(leak)
                wait_for(lambda: {row.state for row in sockets(f"sport = :{leak.port}")} == {"LISTEN"},
                         "no socket is left")


class Healthy(unittest.TestCase):
    def test_echoes_under_backpressure(self):
        data = bytes(range(256)) * 4096 * 8
        with Leak("healthy") as leak, connect(leak.address) as client:
            def send():
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            sender = threading.Thread(target=send)
            sender.start()
            self.assertEqual(receive_all(client), data)
            sender.join()

    def test_listens_on_ipv6(self):
        with Leak("healthy", listen="[::1]:0") as leak, connect(leak.address) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"x")


class Http(unittest.TestCase):
    def setUp(self):
        self.leak = self.enterContext(Leak("healthy", "--http", "--response", "100000B"))

    def ask(self, request):
        with connect(self.leak.address) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return receive_all(client)

    def test_keeps_alive_until_told_to_close(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.leak.port)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("POST", "/", body=iter([b"a" * 70000, b"b"]), encode_chunked=True,
                               headers={"Transfer-Encoding": "chunked"})
            response = connection.getresponse()
            self.assertEqual((response.status, len(response.read())), (200, 100000))
            self.assertIs(connection.sock, first)
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        self.assertEqual(response.getheader("Connection"), "close")
        self.assertEqual(len(response.read()), 100000)
        self.assertIsNone(connection.sock)

    def test_connection_close_sends_a_fin(self):
        with connect(self.leak.address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(receive_all(client).endswith(b"\0"))

    def test_answers_pipelined_requests_in_order(self):
        answer = self.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST +
                          b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + REQUEST)
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK\r\n"), 4)
        self.assertEqual(answer.count(b"\0"), 300000)

    def test_http_1_0_closes(self):
        self.assertIn(b"Connection: close\r\n", self.ask(b"GET / HTTP/1.0\r\n\r\n"))

    def test_refuses_what_is_not_http(self):
        self.assertTrue(self.ask(b"\x16\x03\x01 hello").startswith(b"HTTP/1.1 400 "))


class TheProcess(unittest.TestCase):
    def test_holds_ten_thousand(self):
        with Leak("never-close") as leak, contextlib.ExitStack() as stack:
            for _ in range(10000):
                client = stack.enter_context(connect(leak.address))
                client.sendall(REQUEST)
                receive_answer(client)
                # Not closed: a port that is free again could be given to a client behind it, whose SYN would
                # meet the leaked socket and have it reset (RFC 5961, 4).
                client.shutdown(socket.SHUT_WR)
            wait_for(lambda: len(close_wait(leak.port)) == 10000,
                     lambda: f"10,000 leaked sockets, there are {len(close_wait(leak.port))}")

    def test_goes_on_after_running_out_of_descriptors(self):
        with Leak("healthy", before=["prlimit", "--nofile=20:20"]) as leak:
            clients = [connect(leak.address) for _ in range(COUNT)]
            for client in clients:
                client.sendall(b"x")
                client.shutdown(socket.SHUT_WR)
            for client in clients:
                self.assertEqual(receive_all(client), b"x")
                client.close()

    def test_sigterm_ends_it_and_its_children_in_every_mode(self):
        for mode in MODES:
            with self.subTest(mode), Leak(mode) as leak:
                children = children_of(leak.pid)
                self.assertTrue(children)
                clients_come_and_go(leak, 3, answered=False)
                leak.signal(signal.SIGTERM)
                self.assertEqual(leak.wait(), 0)
                wait_for(lambda: all(is_gone(child) for child in children), "the children are gone")

    def test_its_children_do_not_survive_it(self):
        with Leak("forked") as leak:
            children = children_of(leak.pid)
            leak.signal(signal.SIGKILL)
            leak.wait()
            wait_for(lambda: all(is_gone(child) for child in children), "the children are gone")

    def test_refuses_a_wrong_command_line(self):
        for arguments in (["--mode", "sometimes"], ["--listen", "here"], ["--interval", "0s"], ["--interval", "soon"], ["--listen", "unix:/x"], ["--backlog", "-1"]):
            with Process([LASTACK, "leak", *arguments]) as process:
                self.assertEqual(process.wait(), 2, arguments)

    def test_says_why_it_cannot_listen(self):
        with Leak("healthy") as leak, Process([LASTACK, "leak", "--listen", leak.address]) as second:
            self.assertEqual(second.wait(), 1)
            self.assertIn("Address already in use", "\n".join(second.lines))


if __name__ == "__main__":
    main()
