"""`lastack conform`: passes whole without a proxy, on lastack itself but for what is said, and finds in each
deliberately broken proxy the cases that are about its bug, and no others."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import LASTACK, ROOT, Process, Proxy, main, unused_port

BROKEN = ROOT / "tests" / "conform" / "broken_proxy.py"
sys.path.insert(0, str(BROKEN.parent))

LEAKS = {"leak-never-close", "leak-never-read", "leak-stopped", "leak-queued", "leak-forked", "leak-zero-byte",
         "leak-never-accept"}
ORDERLY = {"fin-client-first", "fin-backend-first", "no-reset-to-healthy", "fin-crossing", "fin-crossing-bulk",
           "fin-behind-request", "fin-behind-answer", "close-behind-answer", "backpressure-request",
           "backpressure-answer", "zero-window-fin", "fin-prompt", "one-half-only", "other-half-only",
           "half-close-1s", "half-close-10s", "half-close-backend-1s", "half-close-backend-10s",
           "half-close-thinks-1s", "half-close-bulk", "trickle-request", "trickle-answer", "idle-5s",
           "urgent-fin", "urgent-amid", "nothing-said", "fin-then-reset-client", "fin-then-reset-backend"}
RESETS = {"reset-client-idle", "reset-backend-idle", "reset-client-amid", "reset-backend-amid",
          "reset-client-queued", "reset-backend-queued", "fin-then-reset-client", "fin-then-reset-backend",
          "nothing-said-reset"}
HALF_CLOSED = {"one-half-only", "other-half-only", "half-close-1s", "half-close-10s", "half-close-backend-1s",
               "half-close-backend-10s", "half-close-thinks-1s", "half-close-bulk", "fin-then-reset-client",
               "fin-then-reset-backend", "fin-behind-request", "fin-crossing-bulk", "zero-window-fin"}
SAYS_4096 = {"fin-client-first", "fin-backend-first", "no-reset-to-healthy", "fin-crossing", "fin-crossing-bulk",
             "fin-behind-request", "fin-behind-answer", "close-behind-answer", "backpressure-request",
             "backpressure-answer", "zero-window-fin", "one-half-only", "other-half-only", "half-close-1s",
             "half-close-10s", "half-close-backend-1s", "half-close-backend-10s", "half-close-thinks-1s",
             "half-close-thinks-10s", "half-close-bulk", "idle-5s", "urgent-fin", "urgent-amid",
             "reset-client-idle", "reset-backend-idle", "reset-client-amid", "reset-backend-amid",
             "reset-client-queued", "reset-backend-queued", "fin-then-reset-client", "fin-then-reset-backend",
             "close-amid-answer", "close-amid-stream", "reset-crossing", "leak-never-close", "leak-never-read",
             "leak-forked", "leak-trickle"}

# Each bug: the cases that must not pass, and those that pass or not as the machine schedules.
EXPECTED = {
    "none": (set(), set()),
    "swallows-fin": (ORDERLY | {"leak-client"}, {"half-close-thinks-10s"}),
    "late-fin": ({"fin-prompt"}, {"zero-window-fin"}),
    "closes-both": (HALF_CLOSED | LEAKS | {"leak-client"}, {"nothing-said"}),
    "rst-for-fin": (ORDERLY | {"leak-client"}, {"half-close-thinks-10s"}),
    "rst-behind-fin": (set(), {"fin-crossing-bulk", "half-close-bulk", "zero-window-fin", "backpressure-answer",
                               "fin-crossing", "backpressure-request"}),
    "fin-for-rst": (RESETS, {"reset-at-accept"}),
    "loses-tail": (set(), ORDERLY | {"half-close-thinks-10s", "leak-client"}),
    "never-reaps": (LEAKS | {"leak-client"}, set()),
    "caps-half-close": ({"half-close-10s", "half-close-backend-10s"}, {"half-close-bulk", "zero-window-fin"}),
    "hoards": ({"trickle-request", "trickle-answer"}, set()),
    "flips-a-bit": (SAYS_4096, set()),
    "deaf-behind-fin": ({"close-amid-stream", "leak-trickle"}, {"close-amid-answer", "fin-then-reset-client",
                                                                "fin-then-reset-backend"}),
    "deaf-under-pressure": ({"zero-window-reset"}, {"reset-client-queued", "reset-backend-queued",
                                                    "close-amid-answer"}),
    "impatient": ({"idle-5s"}, {"backpressure-request", "backpressure-answer", "zero-window-fin", "zero-window-reset",
                                "reset-client-queued", "reset-backend-queued"}),
    "afraid-of-urgency": ({"urgent-fin", "urgent-amid"}, set()),
    "silent-when-refused": ({"connect-refused", "connect-timeout"}, {"reset-at-accept"}),
    "fin-when-refused": (set(), {"reset-at-accept"}),
}
# Of these at least one.
SOME = {
    "rst-behind-fin": {"fin-crossing-bulk", "half-close-bulk", "zero-window-fin"},
    "loses-tail": {"backpressure-request", "backpressure-answer", "fin-crossing-bulk", "fin-crossing",
                   "fin-behind-request", "fin-behind-answer", "half-close-1s", "one-half-only"},
}
OPINIONS = {
    "never-reaps": set(),
    "fin-when-refused": {"connect-refused", "connect-timeout", "half-close-thinks-10s"},
}


def conform(*arguments):
    """The report, and the exit status."""
    done = subprocess.run([LASTACK, "conform", *arguments, "--json"], capture_output=True, text=True,
                          timeout=240, check=False)
    if not done.stdout:
        raise AssertionError(f"status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout), done.returncode


def by_verdict(report, *verdicts):
    return {case["name"] for case in report["cases"] if case["verdict"] in verdicts}


def whys(report, names):
    return "\n".join(f"{case['name']}: {case['verdict']}, {case['why']}" for case in report["cases"]
                     if case["name"] in names)


class InParallel:
    """Calls that mostly wait, all at once; the first error is raised when all are over."""

    def __init__(self):
        self.threads, self.errors = [], []

    def start(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except BaseException as error:  # pylint: disable=broad-except
                self.errors.append(error)
        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)

    def finish(self):
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise AssertionError("\n\n".join(str(error) for error in self.errors))


class Conform(unittest.TestCase):
    def direct(self, mode):
        report, status = conform("--direct", "--mode", mode, "--quick", "--bound", "30s")
        self.assertEqual(by_verdict(report, "fail", "destroys-data", "opinion"), set(),
                         whys(report, by_verdict(report, "fail", "destroys-data", "opinion")))
        self.assertEqual(status, 0)
        self.assertTrue(report["direct"])

    def broken(self, bug):
        port, backend = unused_port(), unused_port()
        with Process([sys.executable, str(BROKEN), str(port), str(backend), bug]) as proxy:
            proxy.wait_for_line("listening on")
            report, status = conform("--target", f"127.0.0.1:{port}", "--backend-listen", f"127.0.0.1:{backend}",
                                     "--quick", "--bound", "30s" if bug == "none" else "8s", "--leak-bound", "12s")
        bad = by_verdict(report, "fail", "destroys-data")
        must, may = EXPECTED[bug]
        self.assertEqual(must - bad, set(), f"{bug}: not found")
        self.assertEqual(bad - must - may, set(), f"{bug}:\n" + whys(report, bad - must - may))
        self.assertTrue(bug not in SOME or bad & SOME[bug], f"{bug}: nothing found")
        opinions = by_verdict(report, "opinion") - may - must
        self.assertEqual(opinions, OPINIONS.get(bug, opinions & {"half-close-thinks-10s"}),
                         f"{bug}:\n" + whys(report, opinions))
        self.assertEqual(status, 1 if bad else 0)

    def lastack(self, mode):
        backend = unused_port()
        text = f"""
deadlines: {{half_close: 4s, connect: 2s, response: 6s, message_grace: 5s}}
frontends:
  - {{name: f, listen: ['127.0.0.1:0'], mode: {mode}, backend: b}}
backends:
  - {{name: b, servers: ['127.0.0.1:{backend}']}}
"""
        with Proxy.from_file(text) as proxy:
            report, status = conform("--target", proxy.address, "--backend-listen", f"127.0.0.1:{backend}",
                                     "--mode", mode, "--quick", "--bound", "30s", "--leak-bound", "20s")
        bad = by_verdict(report, "fail", "destroys-data")
        self.assertEqual(bad, set(), whys(report, bad))
        self.assertLessEqual(by_verdict(report, "opinion"), {"half-close-thinks-10s", "http-leave-before-answer"})
        self.assertEqual(status, 0)

    def unix(self):
        with tempfile.TemporaryDirectory() as name:
            with Proxy(f"unix:{name}/b", listen=f"unix:{name}/p") as proxy:
                report, _ = conform("--target", proxy.address, "--backend-listen", f"unix:{name}/b", "--quick")
        bad = by_verdict(report, "fail", "destroys-data")
        self.assertEqual(bad, set(), whys(report, bad))
        self.assertGreater(len(by_verdict(report, "pass")), 20)

    def test_table(self):
        """All at once: nearly all the time is spent in waiting for what a broken proxy does not do."""
        from broken_proxy import BUGS  # pylint: disable=import-outside-toplevel
        self.assertEqual(set(BUGS), set(EXPECTED))
        parallel = InParallel()
        for bug in EXPECTED:
            parallel.start(self.broken, bug)
        for mode in ("tcp", "http"):
            parallel.start(self.direct, mode)
            parallel.start(self.lastack, mode)
        parallel.start(self.unix)
        parallel.finish()

    def run_one(self, *arguments):
        return subprocess.run([LASTACK, "conform", "--direct", "--case", "fin-crossing", "--case",
                               "leak-never-close", *arguments], capture_output=True, text=True, timeout=60,
                              check=False)

    def test_forms(self):
        tap = self.run_one("--tap")
        self.assertEqual(tap.returncode, 0, tap.stderr)
        self.assertEqual(tap.stdout.splitlines()[:3], ["TAP version 13", "1..2", "ok 1 - fin-crossing"])
        self.assertRegex(tap.stdout, r"ok 2 - leak-never-close # SKIP \w")
        text = self.run_one()
        self.assertIn("2 cases, 1 pass, 0 fail, 0 destroys-data, 0 opinion, 1 skip", text.stdout)
        with tempfile.NamedTemporaryFile("r", suffix=".html") as page:
            self.assertEqual(self.run_one("--html", page.name).returncode, 0)
            html = page.read()
        self.assertIn("<code>fin-crossing</code>", html)
        self.assertNotRegex(html, r"<script|http://")

    def test_usage(self):
        def status(*arguments):
            return subprocess.run([LASTACK, "conform", *arguments], capture_output=True, text=True, timeout=60,
                                  check=False)
        for wrong in (["--mode", "udp"], [], ["--target", "127.0.0.1:1"], ["--direct", "--case", "no-such"],
                      ["--direct", "--mode", "http", "--case", "fin-crossing"],
                      ["--direct", "--target", "127.0.0.1:1"], ["--direct", "--json", "--tap"], ["word"],
                      ["--direct", "--leak-bound", "0s"]):
            self.assertEqual(status(*wrong).returncode, 2, wrong)
        listed = status("--list")
        self.assertEqual(listed.returncode, 0)
        names = [line.split()[0] for line in listed.stdout.splitlines() if line[0] != " "]
        self.assertGreaterEqual(len(names), 60)
        self.assertEqual(len(names), len(set(names)))
        for line in listed.stdout.splitlines():
            if line[0] != " ":
                self.assertRegex(line, r"^\S+ +(tcp|http|both) +[A-Z0-9].*\. \[.+\]$")
        taken = re.escape("cannot listen where the backend is to be")
        with Process([sys.executable, str(BROKEN), str(port := unused_port()), "9", "none"]) as proxy:
            proxy.wait_for_line("listening on")
            failed = status("--target", "127.0.0.1:9", "--backend-listen", f"127.0.0.1:{port}")
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, taken)


if __name__ == "__main__":
    main()
