"""SIGTERM and SIGINT: stop accepting, let what is under way finish, bounded; a second one ends at once."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import ExitStack

from harness import (LASTACK, Leak, Process, Proxy, Server, connect, main, port_of, receive_all, receive_exactly, sockets,
                     unused_port, wait_for)

ANSWER = bytes(range(256)) * 4096

FILE = """\
drain: 1s
frontends:
  - name: main
    listen: ['127.0.0.1:0']
    mode: tcp
    backend: service
backends:
  - name: service
    servers: ['{address}']
"""


def refuses(proxy):
    try:
        connect(proxy.address, timeout_s=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


class Drain(unittest.TestCase):
    def check_in_order(self, number):
        may_answer = threading.Event()

        def answer(connection):
            if not connection.recv(1):
                return  # only asked whether anybody still accepts
            may_answer.wait()
            connection.sendall(ANSWER)
            connection.shutdown(1)
            receive_all(connection)

        with Server(answer) as server, Proxy(server.address) as proxy, connect(proxy.address) as client:
            host, port = client.getsockname()
            client.sendall(b"?")
            wait_for(lambda: server.accepted_count == 1, "the backend has the request")
            proxy.signal(number)
            wait_for(lambda: refuses(proxy), "it stops accepting")
            may_answer.set()
            self.assertEqual(receive_all(client), ANSWER)
            client.close()
            self.assertEqual(proxy.wait(), 0)
            (session,) = [each for each in proxy.sessions if each["client"] == f"{host}:{port}"]
            self.assertEqual(session["response_bytes"], str(len(ANSWER)))

    def test_sigterm_lets_an_answer_finish(self):
        self.check_in_order(signal.SIGTERM)

    def test_sigint_lets_an_answer_finish(self):
        self.check_in_order(signal.SIGINT)

    def test_sends_fin_to_idle_sessions(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy, connect(proxy.address) as client:
            client.sendall(b"x")
            receive_exactly(client, 1)
            proxy.signal(signal.SIGTERM)
            self.assertEqual(client.recv(1), b"")
            client.close()
            self.assertEqual(proxy.wait(), 0)
            self.assertEqual(proxy.sessions[0]["reason"], "drain")

    def test_without_sessions_ends_at_once(self):
        with Leak("healthy") as leak, Proxy(leak.address) as proxy:
            proxy.signal(signal.SIGTERM)
            self.assertEqual(proxy.wait(), 0)

    def test_is_bounded(self):
        with Leak("queued") as leak, Proxy.from_file(FILE.format(address=leak.address)) as proxy, \
                connect(proxy.address) as client:
            client.sendall(b"x")
            proxy.signal(signal.SIGTERM)
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            proxy.wait()
            self.assertEqual(proxy.sessions[0]["reason"], "drain")

    def test_a_second_signal_ends_at_once(self):
        with Leak("queued") as leak, Proxy(leak.address) as proxy, connect(proxy.address) as client:
            client.sendall(b"x")
            proxy.signal(signal.SIGTERM)
            wait_for(lambda: refuses(proxy), "it stops accepting")
            proxy.signal(signal.SIGTERM)
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            proxy.wait()
            self.assertEqual(proxy.sessions[0]["reason"], "shutdown")

    def test_a_second_signal_loses_no_line_of_thousands(self):
        count = 6000
        with Leak("queued") as leak, Proxy(leak.address, "--workers", "1") as proxy, ExitStack() as clients:
            ours = set()
            for _ in range(count):
                client = clients.enter_context(connect(proxy.address))
                client.sendall(b"x")
                ours.add("%s:%d" % client.getsockname())
            wait_for(lambda: len(sockets("state established", f"dport = :{leak.port}")) == count, "all open")
            proxy.signal(signal.SIGTERM)
            wait_for(lambda: refuses(proxy), "it stops accepting")
            proxy.signal(signal.SIGTERM)
            proxy.wait()
            logged = {each["client"] for each in proxy.sessions if each["reason"] == "shutdown"}
            self.assertEqual(len(ours - logged), 0)

    def test_a_signal_while_the_last_lines_are_written_loses_none(self):
        """A pipe that nobody reads keeps the log from being closed for a second."""
        with tempfile.TemporaryDirectory() as folder, Leak("healthy") as leak:
            path = os.path.join(folder, "log")
            os.mkfifo(path)
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
            address = f"127.0.0.1:{unused_port()}"
            with Process([LASTACK, "run", "--listen", address, "--backend", leak.address, "--log-target", path]) as proxy:
                wait_for(lambda: sockets("state listening", f"sport = :{port_of(address)}"), "it listens")
                for _ in range(50):
                    with connect(address) as client:
                        client.shutdown(1)
                        receive_all(client)
                proxy.signal(signal.SIGTERM)
                wait_for(lambda: not sockets("state listening", f"sport = :{port_of(address)}"), "it drains")
                status = None
                while status is None:
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                        proxy.signal(number)
                    status = proxy.process.poll()
                    time.sleep(0.01)
                self.assertEqual(status, 0)
                self.assertEqual(proxy.wait(), 0)
                self.assertRegex(proxy.lines[-1], "the end of the log is lost .*lines: [0-9]+")
            os.close(reader)

    def test_a_fifo_without_a_reader_keeps_nobody_from_ending(self):
        with tempfile.TemporaryDirectory() as folder, Leak("healthy") as leak:
            path = os.path.join(folder, "log")
            os.mkfifo(path)
            address = f"127.0.0.1:{unused_port()}"
            with Process([LASTACK, "run", "--listen", address, "--backend", leak.address, "--log-target", path]) as proxy:
                wait_for(lambda: sockets("state listening", f"sport = :{port_of(address)}"), "it listens")
                proxy.signal(signal.SIGHUP)
                proxy.signal(signal.SIGTERM)
                self.assertEqual(proxy.wait(), 0)

    def test_does_not_wait_for_a_name_server(self):
        """The resolver asks one that never answers and waits for half a minute; nothing can stop it."""
        with tempfile.NamedTemporaryFile("w") as resolver, tempfile.NamedTemporaryFile("w") as switch:
            resolver.write("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
            switch.write("hosts: dns\n")
            resolver.flush()
            switch.flush()
            setup = (f"ip link set lo up && mount --bind {resolver.name} /etc/resolv.conf && "
                     f"mount --bind {switch.name} /etc/nsswitch.conf && exec \"$@\"")
            inside = ["unshare", "--net", "--mount", "sh", "-c", setup, "sh"]
            if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
                self.skipTest("files can't be mounted over others here")
            silent = ("import os, socket, sys; port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                      "port.bind(('127.0.0.1', 53)); port.set_inheritable(True); "
                      "os.execv(sys.argv[1], sys.argv[1:])")
            with Proxy("service.test:80", before=[*inside, sys.executable, "-c", silent]) as proxy:
                began = time.monotonic()
                proxy.signal(signal.SIGTERM)
                self.assertEqual(proxy.wait(), 0)
                self.assertLess(time.monotonic() - began, 20)
                self.assertIn("msg=stopped", proxy.lines[-1])


if __name__ == "__main__":
    main()
