"""PROXY protocol v1 and v2, towards clients and towards servers, and connect_on: first_byte."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from harness import BOUND_S, Proxy, Server, connect, main, receive_all, receive_exactly, unused_port, wait_for

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11" + struct.pack(">H", 12) + socket.inet_aton("192.0.2.7") \
    + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 56324, 443)
V2_INET6 = SIGNATURE + b"\x21\x21" + struct.pack(">H", 36) + socket.inet_pton(socket.AF_INET6, "2001:db8::7") \
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack(">HH", 56324, 443)
V2_LOCAL = SIGNATURE + b"\x20\0\0\0"
V2_UNIX = SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")

NAMED = "192.0.2.7:56324"
TRUSTED = ("--trusted", "127.0.0.0/8", "--accept-proxy", "required")


def echo(connection):
    while chunk := connection.recv(4096):
        connection.sendall(chunk)


def speak(proxy, pieces, pause_s=0.0, receive=b"hello"):
    with proxy.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause_s)
        got = receive_exactly(client, len(receive))
    assert got == receive, got


class Accept(unittest.TestCase):
    def clients(self, header, count=1):
        with Server(echo) as server, Proxy(server.address, *TRUSTED) as proxy:
            for _ in range(count):
                speak(proxy, [header + b"hello"])
            return [session["client"] for session in proxy.wait_for_sessions(count)]

    def test_the_address_is_the_clients(self):
        self.assertEqual(self.clients(V1), [NAMED])
        self.assertEqual(self.clients(V2), [NAMED])
        self.assertEqual(self.clients(V2_INET6), ["[2001:db8::7]:56324"])

    def test_unknown_and_local_leave_the_client_as_it_is(self):
        for header in V1_UNKNOWN, V2_LOCAL:
            self.assertRegex(self.clients(header)[0], r"^127\.0\.0\.1:")
        self.assertEqual(self.clients(V2_UNIX), ["unix"])

    def test_every_split_of_every_header(self):
        headers = V1, V1_UNKNOWN, V2, V2_INET6, V2_LOCAL
        with Server(echo) as server, Proxy(server.address, *TRUSTED) as proxy:
            count = 0
            for header in headers:
                for at in range(1, len(header) + 1):
                    speak(proxy, [header[:at], header[at:] + b"hello"], 0.001)
                    count += 1
            speak(proxy, [bytes([byte]) for byte in V2_UNIX + b"hello"])
            self.assertEqual({session["reason"] for session in proxy.wait_for_sessions(count + 1)}, {"closed"})

    def test_what_is_no_header_is_reset_and_said(self):
        cut = "a FIN before its end"
        bad = {b"GET / HTTP/1.1\r\n\r\n": "neither", V1[:20]: cut, V2[:20]: cut, V1[:-2] + b"\n\n": "CR LF",
               SIGNATURE + b"\x31\x11\0\0": "version"}
        for first, why in bad.items():
            with Server(echo) as server, Proxy(server.address, *TRUSTED) as proxy:
                with proxy.connect() as client:
                    client.sendall(first)
                    with contextlib.suppress(OSError):  # it may have been reset by now
                        client.shutdown(socket.SHUT_WR)
                    with self.assertRaises(ConnectionResetError):
                        client.recv(1)
                (session,) = proxy.wait_for_sessions(1)
                self.assertEqual((session["reason"], session["backend"]), ("bad_preface", "none"))
                self.assertIn(why, session["why"])
                self.assertEqual(server.accepted_count, 0)

    def test_a_header_that_does_not_come_is_bounded(self):
        with Server(echo) as server, Proxy(server.address, *TRUSTED, "--preface", "300ms") as proxy, \
                proxy.connect() as client:
            client.sendall(V2[:-1])
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], server.accepted_count), ("preface", 0))

    def test_who_is_not_trusted_is_refused_or_taken_for_himself(self):
        with Server(echo) as server:
            with Proxy(server.address, "--trusted", "192.0.2.1", "--accept-proxy", "required") as proxy:
                with proxy.connect() as client, self.assertRaises(ConnectionError):
                    client.sendall(V1)
                    client.recv(1)
                proxy.wait_for_line(r"msg=refused .*reason=untrusted count=1")
            with Proxy(server.address, "--trusted", "192.0.2.1", "--accept-proxy", "optional") as proxy:
                speak(proxy, [V1], receive=V1)  # bytes as any others
                (session,) = proxy.wait_for_sessions(1)
                self.assertRegex(session["client"], r"^127\.0\.0\.1:")

    def test_optional_takes_both(self):
        with Server(echo) as server, \
                Proxy(server.address, "--trusted", "127.0.0.1", "--accept-proxy", "optional") as proxy:
            speak(proxy, [V2 + b"hello"])
            speak(proxy, [b"hello"])
            speak(proxy, [b"PRO", b"FIT"], 0.01, b"PROFIT")
            clients = [session["client"] for session in proxy.wait_for_sessions(3)]
            self.assertEqual(clients.count(NAMED), 1)

    def forwarded(self, header, fields=b""):
        """The head that the server gets behind that header, in small letters."""
        def answer(connection):
            heads.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        heads = []
        with Server(answer) as server, Proxy(server.address, *TRUSTED, "--mode", "http") as proxy, \
                proxy.connect() as client:
            client.sendall(header + b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"Connection: close\r\n\r\n")
            self.assertIn(b"200 OK", receive_all(client))
        return heads[0].lower()

    def test_http_forwards_it(self):
        self.assertRegex(self.forwarded(V2), rb"x-forwarded-for: 192\.0\.2\.7\r\n")

    def test_a_header_that_names_nobody_vouches_for_nobody(self):
        for header in V1_UNKNOWN, V2_LOCAL, V2_UNIX:
            head = self.forwarded(header, b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n")
            self.assertNotIn(b"9.9.9.9", head)
            self.assertNotIn(b"https", head)


class Send(unittest.TestCase):
    def header(self, how, *options, first=b"", send=b"hello", path=None):
        """What the server is sent when the client has sent that."""
        got = []

        def note(connection):
            got.append(receive_all(connection))

        with Server(note) as server, Proxy(server.address, "--send-proxy", how, *options) as proxy:
            with proxy.connect() as client:
                name = client.getsockname()
                client.sendall(first + send)
            (session,) = proxy.wait_for_sessions(1)
            wait_for(lambda: got, "what the server got")
        self.assertEqual(session["request_bytes"], str(len(send)))
        return got[0], name, proxy.port, session["id"]

    def test_v1(self):
        got, (host, port), listen, _ = self.header("v1")
        self.assertEqual(got, f"PROXY TCP4 {host} 127.0.0.1 {port} {listen}\r\nhello".encode())

    def test_v2_with_the_id_of_the_log(self):
        got, (_, port), listen, id_ = self.header("v2")
        length = 12 + 3 + len(id_)
        self.assertEqual(got, SIGNATURE + b"\x21\x11" + struct.pack(">H", length) + b"\x7f\0\0\1\x7f\0\0\1"
                         + struct.pack(">HH", port, listen) + b"\x05" + struct.pack(">H", len(id_))
                         + id_.encode() + b"hello")

    def test_what_came_in_goes_on(self):
        for header, how, out in (V1, "v1", V1), (V1_UNKNOWN, "v1", V1_UNKNOWN), (V2_LOCAL, "v1", V1_UNKNOWN), \
                (V2, "v1", V1):
            got, *_ = self.header(how, *TRUSTED, first=header)
            self.assertEqual(got, out + b"hello")
        self.assertTrue(self.header("v2", *TRUSTED, first=V1)[0].startswith(V2[:14]))
        self.assertTrue(self.header("v2", *TRUSTED, first=V2_LOCAL)[0].startswith(V2_LOCAL[:13]))
        self.assertIn(V2_UNIX[16:], self.header("v2", *TRUSTED, first=V2_UNIX)[0])

    def test_a_server_that_speaks_first_gets_it_at_once(self):
        def greet(connection):
            self.assertEqual(receive_exactly(connection, 6), b"PROXY ")
            connection.sendall(b"220 ready")

        with Server(greet) as server, Proxy(server.address, "--send-proxy", "v1") as proxy, \
                proxy.connect() as client:
            self.assertEqual(receive_exactly(client, 9), b"220 ready")

    def test_a_chain_of_two(self):
        with Server(echo) as server, \
                Proxy(server.address, *TRUSTED) as inner, \
                Proxy(inner.address, "--send-proxy", "v2-crc32c") as outer:
            with outer.connect() as client:
                name = "{}:{}".format(*client.getsockname())
                client.sendall(b"hello")
                receive_exactly(client, 5)
            self.assertEqual(inner.wait_for_sessions(1)[0]["client"], name)

    def test_checks_say_that_nobody_is_behind_them(self):
        for how, check, expected in ("v2", "tcp", V2_LOCAL), ("v1", "'http GET /'", b"PROXY TCP4 127.0.0.1 127.0.0.1 "):
            got = []

            def note(connection, got=got):
                got.append(connection.recv(4096))

            with Server(note) as server, Proxy.from_file(
                    "frontends: [{name: f, listen: '127.0.0.1:0', backend: b}]\n"
                    f"backends: [{{name: b, servers: '{server.address}', send_proxy: {how}, check: {check}}}]\n"):
                wait_for(lambda got=got: got and got[0].startswith(expected), f"{expected}")
                if how == "v1":
                    self.assertIn(b"\r\nGET / HTTP/1.1\r\n", got[0])

    def test_beside_reuse_it_is_refused(self):
        out = subprocess.run([os.environ["LASTACK"], "run", "--mode", "http", "--reuse", "safe", "--send-proxy", "v2",
                              "--listen", "127.0.0.1:0", "--backend", "127.0.0.1:1"],
                             capture_output=True, text=True, timeout=BOUND_S, check=False)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("one header names one client", out.stderr)


class FirstByte(unittest.TestCase):
    def test_a_client_that_says_nothing_never_reaches_the_server(self):
        with Server(echo) as server, Proxy(server.address, "--connect-on", "first_byte") as proxy:
            for _ in range(20):
                proxy.connect().close()
            sessions = proxy.wait_for_sessions(20)
            self.assertEqual({session["backend"] for session in sessions}, {"none"})
            self.assertEqual(server.accepted_count, 0)
            speak(proxy, [b"hello"])
            self.assertEqual(server.accepted_count, 1)


class Peer(unittest.TestCase):
    def start(self, command, text, port):
        """Somebody else's proxy with that configuration, `{folder}` in it being a folder of its own."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(text.replace("{folder}", directory.name))
        process = subprocess.Popen([*command, path], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def listens():
            with socket.socket() as trial:
                return trial.connect_ex(("127.0.0.1", port)) == 0
        wait_for(listens, f"{command[0]} to listen")
        return f"127.0.0.1:{port}"


NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


@unittest.skipUnless(shutil.which("nginx"), "needs nginx")
class Nginx(Peer):
    def run_nginx(self, part, port):
        module = f"load_module {NGINX_MODULE};\n" if part.startswith("stream") else ""
        return self.start(["nginx", "-e", "stderr", "-c"], module + "daemon off;\nmaster_process off;\n"
                          "pid {folder}/pid;\nevents {}\n" + part, port)

    @unittest.skipUnless(os.path.exists(NGINX_MODULE), "needs nginx's stream module")
    def test_what_it_sends_is_read(self):
        port = unused_port()
        with Server(echo) as server, Proxy(server.address, *TRUSTED) as proxy:
            server.expect_errors(ConnectionResetError)  # of the look whether the peer listens
            address = self.run_nginx(f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass {proxy.address}; "
                                     "proxy_protocol on; } }\n", port)
            with connect(address) as client:
                name = "{}:{}".format(*client.getsockname())
                client.sendall(b"hello")
                self.assertEqual(receive_exactly(client, 5), b"hello")
            wait_for(lambda: name in [s["client"] for s in proxy.sessions], f"a session of {name}")

    def test_it_reads_what_is_sent(self):
        port = unused_port()
        address = self.run_nginx("http { access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};"
                                 " fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};"
                                 f" server {{ listen 127.0.0.1:{port} proxy_protocol; "
                                 "return 200 $proxy_protocol_addr:$proxy_protocol_port; } }\n", port)
        for mode in "tcp", "http":
            for how in "v1", "v2", "v2-crc32c":
                with Proxy(address, "--mode", mode, "--send-proxy", how) as proxy, proxy.connect() as client:
                    name = "{}:{}".format(*client.getsockname())
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    self.assertTrue(receive_all(client).endswith(b"\r\n\r\n" + name.encode()))


@unittest.skipUnless(shutil.which("haproxy"), "needs haproxy")
class Haproxy(Peer):
    def run_haproxy(self, bind, server):
        port = unused_port()
        return self.start(["haproxy", "-db", "-f"],
                          "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
                          f"listen l\n bind 127.0.0.1:{port} {bind}\n server s {server}\n", port)

    def test_what_it_sends_is_read(self):
        with Server(echo) as server, Proxy(server.address, *TRUSTED) as proxy:
            server.expect_errors(ConnectionResetError)  # of the look whether the peer listens
            for option in "send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id":
                address = self.run_haproxy("", f"{proxy.address} {option}")
                with connect(address) as client:
                    name = "{}:{}".format(*client.getsockname())
                    client.sendall(b"hello")
                    self.assertEqual(receive_exactly(client, 5), b"hello")
                wait_for(lambda name=name: name in [s["client"] for s in proxy.sessions], f"a session of {name}")

    def test_it_reads_what_is_sent(self):
        with Server(echo) as server:
            server.expect_errors(ConnectionResetError)  # of the look whether the peer listens
            address = self.run_haproxy("accept-proxy", f"{server.address} send-proxy")
            for how in "v1", "v2", "v2-crc32c":
                with Proxy(address, "--send-proxy", how) as proxy, proxy.connect() as client:
                    host, port = client.getsockname()
                    client.sendall(b"hello")
                    line = f"PROXY TCP4 {host} 127.0.0.1 {port} {proxy.port}\r\nhello".encode()
                    self.assertEqual(receive_exactly(client, len(line)), line)


if __name__ == "__main__":
    main()
