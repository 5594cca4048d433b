"""`lastack bench teardown`: its figures agree with what tcpdump saw, and what it calls harm is harm."""

import collections
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import unittest

from harness import LASTACK, ROOT, Process, Proxy, main, unused_port, wait_for
from leaks import enter_namespace

BROKEN = ROOT / "tests" / "conform" / "broken_proxy.py"
FIN, RST, TAG = 1, 4, b"LASTACK"


def bench(*arguments):
    done = subprocess.run([LASTACK, "bench", "teardown", *arguments, "--json"], capture_output=True, text=True,
                          timeout=120, check=False)
    if done.returncode != 0:
        raise AssertionError(f"status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


Packet = collections.namedtuple("Packet", "at_s source target flags payload")


def packets(path):
    """IPv4 TCP of a capture of the loopback, by https://wiki.wireshark.org/Development/LibpcapFileFormat."""
    data = pathlib.Path(path).read_bytes()
    magic, linktype = struct.unpack("=I", data[:4])[0], struct.unpack("=I", data[20:24])[0]
    unit = {0xa1b23c4d: 1e-9, 0xa1b2c3d4: 1e-6}[magic]
    assert linktype == 1, linktype  # Ethernet
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, length, _ = struct.unpack("=IIII", data[at:at + 16])
        if at + 16 + length > len(data):
            return  # it is being written
        frame = data[at + 16:at + 16 + length]
        at += 16 + length
        ip = frame[14:]
        tcp = ip[(ip[0] & 15) * 4:struct.unpack(">H", ip[2:4])[0]]
        source, target = struct.unpack(">HH", tcp[:4])
        yield Packet(seconds + fraction * unit, source, target, tcp[13], tcp[(tcp[12] >> 4) * 4:])


class Look:
    """What went over the wire on the client's and on the backend's side, put together by the tag."""

    def __init__(self, path, front, back):
        self.tags, self.fin, self.reset = {front: {}, back: {}}, {}, {}
        for packet in packets(path):
            for port in (front, back):
                if packet.target == port:
                    self.take((port, packet.source), packet, port)
        self.pairs = [((front, client), (back, self.tags[back][tag]))
                      for tag, client in self.tags[front].items() if tag in self.tags[back]]

    def take(self, leg, packet, port):
        if TAG in packet.payload:
            at = packet.payload.index(TAG)
            self.tags[port][packet.payload[at:at + 15]] = leg[1]
        if packet.flags & RST:
            self.reset.setdefault(leg, packet.at_s)
        if packet.flags & FIN:
            self.fin.setdefault(leg, packet.at_s)

    def relays_ms(self):
        return [1000 * (self.fin[back] - self.fin[front]) for front, back in self.pairs if back in self.fin]

    def residencies_ms(self):
        return [1000 * (self.reset[back] - self.fin[front]) for front, back in self.pairs if back in self.reset]


class Bench(unittest.TestCase):
    def captured(self, mode, *arguments):
        """A run through lastack, and the look that tcpdump had at it."""
        backend = unused_port()
        text = f"""
deadlines: {{half_close: 1s}}
frontends: [{{name: f, listen: ['127.0.0.1:0'], mode: {mode}, backend: b}}]
backends: [{{name: b, servers: ['127.0.0.1:{backend}']}}]
"""
        with tempfile.TemporaryDirectory() as name, Proxy.from_file(text) as proxy:
            path = f"{name}/capture"
            command = ["tcpdump", "-i", "lo", "-nn", "-U", "--immediate-mode", "-B", "65536", "-s", "200", "-Z", "root",
                       "--time-stamp-precision=nano", "-w", path, f"tcp port {proxy.port} or tcp port {backend}"]
            with Process(command) as capture:
                capture.wait_for_line("listening on")
                report = bench("--target", proxy.address, "--backend-listen", f"127.0.0.1:{backend}", "--mode",
                               mode, "--connections", "200", "--rate", "100", *arguments)
                ends = "residencies_ms" if "--leak" in arguments else "relays_ms"
                wait_for(lambda: len(getattr(Look(path, proxy.port, backend), ends)()) == 200,
                         "tcpdump to write down what it saw")
                return report, Look(path, proxy.port, backend)

    def test_fin_relay_is_what_tcpdump_saw(self):
        report, look = self.captured("tcp", "--no-direct")
        relays = look.relays_ms()
        self.assertEqual(report["fin_relay_ms"]["count"], 200)
        self.assertEqual(report["ended"]["backend"], {"fin": 200, "rst": 0, "never": 0, "kept": 0, "unseen": 0})
        self.assertEqual(report["harm"]["per_10000"], 0)
        # On top of the wire comes what it takes this process to be woken: it is bounded by its own measure.
        seen, told = statistics.median(relays), report["fin_relay_ms"]["p50"]
        self.assertGreater(told * 1.002 + 0.03, seen)
        self.assertLess(told, seen + 50)

    def test_residency_is_what_tcpdump_saw(self):
        for mode, least_ms in (("tcp", 990), ("http", 240)):
            report, look = self.captured(mode, "--leak", "never-close")
            residencies = sorted(look.residencies_ms())
            told = report["leak_residency_ms"]
            self.assertEqual(told["count"], 200)
            self.assertEqual(report["leaks"], {"leaked": 200, "still": 0, "verified": 200})
            self.assertGreater(told["p50"], least_ms)
            self.assertLess(abs(told["p50"] - statistics.median(residencies)), 50, mode)
            self.assertLess(abs(told["max"] - residencies[-1]), 500, mode)
            self.assertGreater(report["direct"]["fin_relay_ms"]["count"], 0)
            self.assertGreater(max(count for _, count in report["close_wait"]), 10)
            self.assertEqual(report["close_wait"][-1][1], 0)

    def broken(self, bug, *arguments):
        port, backend = unused_port(), unused_port()
        with Process([sys.executable, str(BROKEN), str(port), str(backend), bug]) as proxy:
            proxy.wait_for_line("listening on")
            return bench("--target", f"127.0.0.1:{port}", "--backend-listen", f"127.0.0.1:{backend}", "--no-direct",
                         "--connections", "50", "--rate", "200", "--watch", "2s", "--response", "8KiB", *arguments)

    def test_harm(self):
        resets = self.broken("rst-for-fin")
        self.assertEqual((resets["harm"]["reset"], resets["harm"]["per_10000"]), (50, 10000))
        self.assertEqual(resets["ended"]["backend"]["rst"], 50)
        wrong = self.broken("flips-a-bit")
        self.assertEqual((wrong["harm"]["wrong"], wrong["harm"]["exchanges"]), (50, 0))
        never = self.broken("swallows-fin")
        self.assertEqual(never["ended"]["backend"]["never"], 50)
        self.assertEqual(never["fin_relay_ms"], {"count": 0, **dict.fromkeys(["p50", "p90", "p99", "p99.9", "max"])})
        leaks = self.broken("never-reaps", "--leak", "never-close")
        self.assertEqual(leaks["leaks"], {"leaked": 50, "still": 50, "verified": 0})

    def test_forms(self):
        with tempfile.NamedTemporaryFile("r", suffix=".svg") as picture:
            command = [LASTACK, "bench", "teardown", "--direct", "--connections", "20", "--plot", picture.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            for word in ("FIN relay", "full teardown", "p99.9", "100.00 % FIN", "harm", "####"):
                self.assertIn(word, done.stdout)
            svg = picture.read()
        self.assertTrue(svg.startswith("<svg ") and svg.endswith("</svg>\n"))
        for wrong in ([], ["speed", "--direct"], ["teardown"], ["teardown", "--direct", "--leak", "x"],
                      ["teardown", "--direct", "--rate", "0"], ["teardown", "--direct", "--who-closes", "me"],
                      ["teardown", "--direct", "--leak", "never-close", "--who-closes", "backend"],
                      ["teardown", "--target", "127.0.0.1:1"]):
            done = subprocess.run([LASTACK, "bench", *wrong], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 2, wrong)


if __name__ == "__main__":
    enter_namespace()
    main()
