"""IPv4, IPv6 and unix sockets on both sides, and several frontends in one process."""

import pathlib
import socket
import tempfile
import unittest

from harness import LASTACK, Leak, Process, Proxy, Server, connect, main, receive_all, wait_for


def echo(connection):
    connection.sendall(receive_all(connection))


class Addresses(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def echoes(self, address):
        data = bytes(range(256)) * 1000
        with connect(address) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), data)

    def test_ipv6_to_ipv6(self):
        with Server(echo, family=socket.AF_INET6) as server, Proxy(server.address, listen="[::1]:0") as proxy:
            self.assertTrue(proxy.address.startswith("[::1]:"))
            self.echoes(proxy.address)
            self.assertTrue(proxy.wait_for_sessions(1)[0]["client"].startswith("[::1]:"))

    def test_ipv4_to_ipv6(self):
        with Server(echo, family=socket.AF_INET6) as server, Proxy(server.address) as proxy:
            self.echoes(proxy.address)

    def test_unix_to_unix(self):
        path = str(self.directory / "backend.sock")
        with Server(echo, path=path) as server, \
                Proxy(server.address, listen=f"unix:{self.directory}/front.sock") as proxy:
            self.echoes(proxy.address)
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["backend"]), ("closed", server.address))

    def test_a_unix_socket_left_behind_is_taken_over(self):
        path = self.directory / "front.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        with Server(echo) as server, Proxy(server.address, listen=f"unix:{path}") as proxy:
            self.echoes(proxy.address)

    def test_a_unix_backend_that_leaks_gets_its_deadline(self):
        def never_close(connection):
            receive_all(connection)
            while connection.send(b"x"):  # until the abort is seen
                pass

        with Server(never_close, path=str(self.directory / "b.sock")) as server, \
                Proxy(server.address, "--half-close", "1s") as proxy:
            server.expect_errors(OSError)
            connect(proxy.address).close()
            self.assertIn(proxy.wait_for_sessions(1)[0]["reason"], ("half_close", "client_reset"))

    def test_several_frontends(self):
        with Leak("healthy") as first, Leak("healthy") as second:
            text = f"""\
frontends:
  - {{name: one, listen: ['127.0.0.1:0', 'unix:{self.directory}/one.sock'], mode: tcp, backend: a}}
  - {{name: two, listen: ['127.0.0.1:0', '[::1]:0'], mode: tcp, backend: b}}
backends:
  - {{name: a, servers: ['{first.address}']}}
  - {{name: b, servers: ['{second.address}']}}
"""
            with Proxy.from_file(text) as proxy:
                listening = wait_for(lambda: proxy.listening if len(proxy.listening) == 4 else None,
                                     lambda: f"four listeners, got {proxy.listening}")
                for _, address in listening:
                    self.echoes(address)
                ended = {(s["frontend"], s["backend"]) for s in proxy.wait_for_sessions(4)}
                self.assertEqual(ended, {("one", first.address), ("two", second.address)})

    def test_an_address_in_use_is_refused_with_a_reason(self):
        with Leak("healthy") as leak, \
                Process([LASTACK, "run", "--listen", leak.address, "--backend", "192.0.2.1:9000"]) as proxy:
            self.assertEqual(proxy.wait(), 1)
            self.assertRegex("\n".join(proxy.lines), f"{leak.address}.*in use")


if __name__ == "__main__":
    main()
