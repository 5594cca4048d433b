"""Real HTTP clients before mode http: curl, wrk, ab, Node's http client and a WebSocket client. Every session that
they leave has ended in order."""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

from harness import BOUND_S, Process, Proxy, main, receive_exactly

SERVER = r"""
const http = require('http'), crypto = require('crypto');
const server = http.createServer((request, response) => {
  if (request.url === '/echo') { response.writeHead(200); request.pipe(response); }
  else if (request.url === '/old') { response.setHeader('Connection', 'close'); response.end('old'); }
  else { response.setHeader('Content-Length', 6); response.end('hello\n'); }
});
server.keepAliveTimeout = 60000;
server.on('upgrade', (request, socket) => {
  const key = crypto.createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
               `Sec-WebSocket-Accept: ${key}\r\n\r\n`);
  socket.on('data', frame => {          // small, masked frames only: the same one goes back without its mask
    const length = frame[1] & 0x7f, mask = frame.subarray(2, 6), body = frame.subarray(6, 6 + length);
    socket.write(Buffer.concat([Buffer.from([frame[0], length]), body.map((byte, i) => byte ^ mask[i % 4])]));
    if ((frame[0] & 0x0f) === 8) socket.end();
  });
  socket.on('error', () => {});
});
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
"""

CLIENT = r"""
const http = require('http');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
const ask = (method, path, body) => new Promise((done, failed) => {
  const request = http.request({port: process.argv[2], agent, method, path}, response => {
    let text = ''; response.on('data', part => text += part); response.on('end', () => done(text));
  });
  request.on('error', failed); request.end(body);
});
(async () => {
  const answers = await Promise.all([...Array(200).keys()].map(
    i => i % 3 ? ask('GET', '/') : ask('POST', '/echo', 'x'.repeat(i))));
  console.log(JSON.stringify(answers.map(answer => answer.length)));
  agent.destroy();
})();
"""


@unittest.skipUnless(shutil.which("node"), "needs node")
class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.directory / "server.js").write_text(SERVER)
        (cls.directory / "client.js").write_text(CLIENT)
        cls.server = cls.enterClassContext(Process(["node", str(cls.directory / "server.js")]))
        cls.backend = "127.0.0.1:" + cls.server.wait_for_line(r"port (\d+)").group(1)

    def setUp(self):
        self.proxy = self.enterContext(Proxy(self.backend, "--mode", "http", "--workers", "2"))
        self.url = f"http://{self.proxy.address}"

    def run_command(self, *command):
        done = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assert_ended_in_order(self, at_least=1):
        sessions = self.proxy.wait_for_sessions(at_least)
        # A connection without a request has no backend.
        ends = {(s["reason"], s["backend_close"]) for s in sessions if s["requests"] != "0"}
        self.assertEqual(ends, {("closed", "fin")})

    def test_curl_keep_alive(self):
        self.assertEqual(self.run_command("curl", "-sS", *[f"{self.url}/{i}" for i in range(5)]), b"hello\n" * 5)
        self.assert_ended_in_order()
        self.assertEqual(self.proxy.sessions[0]["requests"], "5")

    def test_curl_uploads(self):
        body = self.directory / "body"
        body.write_bytes(os.urandom(5_000_000))
        for options in ((), ("-H", "Expect: 100-continue"), ("-H", "Transfer-Encoding: chunked"),
                        ("-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue")):
            with self.subTest(options=options):
                echo = self.run_command("curl", "-sS", *options, "--data-binary", f"@{body}", f"{self.url}/echo")
                self.assertEqual(hashlib.sha256(echo).digest(), hashlib.sha256(body.read_bytes()).digest())
        self.assert_ended_in_order(4)

    def test_curl_http_1_0_and_a_closing_backend(self):
        self.assertEqual(self.run_command("curl", "-sS", "-0", self.url), b"hello\n")
        self.assertEqual(self.run_command("curl", "-sS", f"{self.url}/old", f"{self.url}/old"), b"oldold")
        self.assert_ended_in_order(2)

    @unittest.skipUnless(shutil.which("wrk"), "needs wrk")
    def test_wrk(self):
        out = self.run_command("wrk", "-t2", "-c20", "-d1", self.url).decode()
        self.assertNotIn("Socket errors", out)
        self.assertNotIn("Non-2xx", out)

    @unittest.skipUnless(shutil.which("ab"), "needs ab")
    def test_ab(self):
        for options in ((), ("-k",)):
            with self.subTest(options=options):
                out = self.run_command("ab", "-q", *options, "-n", "500", "-c", "10", f"{self.url}/").decode()
                self.assertRegex(out, r"Complete requests:\s+500\n")
                self.assertRegex(out, r"Failed requests:\s+0\n")
                self.assertNotIn("Non-2xx", out)
        self.assert_ended_in_order()

    def test_node(self):
        lengths = json.loads(self.run_command("node", str(self.directory / "client.js"), str(self.proxy.port)))
        self.assertEqual(lengths, [i if i % 3 == 0 else 6 for i in range(200)])
        self.assert_ended_in_order()

    def test_websocket(self):
        key = base64.b64encode(os.urandom(16)).decode()
        with self.proxy.connect() as client:
            client.sendall(f"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += receive_exactly(client, 1)
            accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
            self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
            self.assertEqual(re.search(rb"Sec-WebSocket-Accept: (\S+)", head).group(1), accept)
            for i in range(50):
                body = b"message %d" % i
                self.send_frame(client, 1, body)
                self.assertEqual(receive_exactly(client, 2 + len(body)), bytes([0x81, len(body)]) + body)
            self.send_frame(client, 8, struct.pack("!H", 1000))
            self.assertEqual(receive_exactly(client, 4), b"\x88\x02\x03\xe8")
        self.assert_ended_in_order()

    @staticmethod
    def send_frame(client, opcode, body):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
        client.sendall(bytes([0x80 | opcode, 0x80 | len(body)]) + mask + masked)


if __name__ == "__main__":
    main()
