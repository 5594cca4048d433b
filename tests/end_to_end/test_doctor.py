"""`lastack doctor`: names what is wrong, with evidence, and what helps."""

import os
import subprocess
import unittest

from harness import main, wait_for
from leaks import Owner, as_nobody, enter_namespace, lastack, older_than, scan

SETTINGS = ["tcp_fin_timeout", "tcp_tw_reuse", "tcp_tw_recycle", "tcp_keepalive_time", "tcp_keepalive_intvl",
            "tcp_keepalive_probes", "tcp_max_orphans", "tcp_orphan_retries", "somaxconn",
            "nf_conntrack_tcp_timeout_close_wait", "nofile (ulimit -n)"]


def doctor(port, *options, before=()):
    result = lastack("doctor", "--port", port, "--for", "300ms", "--json", *options, before=before)
    report = result.json
    report["status"] = result.status
    report["helps"] = {row["name"]: row["helps"] for row in report["settings"]}
    report["evidence"] = "\n".join(line for verdict in report["verdicts"] for line in verdict["evidence"])
    return report


class Diagnoses(unittest.TestCase):
    def test_nothing(self):
        with Owner() as owner:
            owner.connect(5)
            owner.accept(5)
            report = doctor(owner.port)
            self.assertEqual((report["diagnosis"], report["status"]), ("nothing", 0))
            self.assertIn("5 connections are established", report["evidence"])
            self.assertEqual(report["next"], f"lastack scan --port {owner.port} --watch")

    def test_a_program_error(self):
        with Owner() as owner:
            owner.leak(30)
            older_than(1, owner.port, 30)
            report = doctor(owner.port)
            self.assertEqual((report["diagnosis"], report["status"], report["close_wait"]), ("program-error", 1, 30))
            self.assertIn(f"(pid {owner.pid}) holds 30", report["evidence"])
            self.assertEqual(report["next"], f"lastack reap --port {owner.port} --older-than 2m --action finish")

    def test_a_stopped_program(self):
        with Owner() as owner:
            owner.leak(10, read=False)
            owner.leak(2, accept=False)
            owner.stop()
            older_than(1, owner.port, 12)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "stuck")
            self.assertIn("SIGCONT", report["evidence"])
            self.assertIn("2 more wait to be accepted", report["evidence"])
            self.assertEqual(report["next"], f"kill -CONT {owner.pid}")

    def test_a_program_that_does_not_read(self):
        with Owner() as owner:
            owner.leak(10, read=False, data=b"request")
            older_than(1, owner.port, 10)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "stuck")
            self.assertIn("10 of them also data", report["evidence"])
            self.assertIn(f"gdb -p {owner.pid}", report["next"])

    def test_load(self):
        with Owner(backlog=8) as owner:
            owner.leak(9, accept=False)  # the kernel's bound is backlog + 1
            older_than(1, owner.port, 9)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "load")
            self.assertIn(f"The accept queue of port {owner.port} holds 9 of 8.", report["evidence"])
            self.assertTrue(report["helps"]["somaxconn"].startswith("No. A longer queue"))

    def test_one_client_that_never_says_a_word(self):
        subprocess.run(["ip", "address", "add", "198.51.100.7/32", "dev", "lo"], check=True)
        try:
            with Owner("0.0.0.0") as owner:
                owner.leak(30, source="198.51.100.7")
                older_than(1, owner.port, 30)
                report = doctor(owner.port)
                self.assertEqual(report["diagnosis"], "client")
                self.assertIn("30 of 30 sockets in CLOSE_WAIT come from 198.51.100.0/24.", report["evidence"])
                self.assertIn("30 of them closed without having sent a byte", report["evidence"])
                self.assertIn("program-error", [verdict["diagnosis"] for verdict in report["verdicts"]])
        finally:
            subprocess.run(["ip", "address", "delete", "198.51.100.7/32", "dev", "lo"], check=True)

    def test_growth_while_the_load_is_the_same(self):
        with Owner() as owner:
            owner.connect(20)
            owner.accept(20)
            owner.leak(3)
            older_than(1, owner.port, 3)
            owner.leak(2)  # younger than a second at the first look, older at the second
            report = doctor(owner.port, "--for", "2s")
            self.assertIn("2 more of them within 2 s, while 20 connections", report["evidence"])
            self.assertIn("it is not the load that grows", report["evidence"])


class Settings(unittest.TestCase):
    def test_each_is_explained_and_judged(self):
        with Owner() as owner:
            owner.leak(3)
            older_than(1, owner.port, 3)
            report = doctor(owner.port)
            self.assertEqual([row["name"] for row in report["settings"]], SETTINGS)
            for row in report["settings"]:
                self.assertRegex(row["helps"], r"^(No|Yes|Partly)\. ")
                self.assertTrue(row["does"].endswith("."))
            values = {row["name"]: row["value"] for row in report["settings"]}
            self.assertEqual(values["tcp_fin_timeout"], "60")
            self.assertEqual(values["tcp_tw_recycle"], "not here")
            for name in ("tcp_fin_timeout", "tcp_tw_reuse", "tcp_max_orphans", "tcp_orphan_retries", "somaxconn"):
                self.assertIn("nothing for CLOSE_WAIT", report["helps"][name])
            self.assertIn("None of these sockets has SO_KEEPALIVE", report["helps"]["tcp_keepalive_time"])

    def test_keepalive_helps_where_the_program_uses_it(self):
        with Owner() as owner:
            _, _, fds = owner.leak(3)
            owner.keepalive(fds[:2])
            older_than(1, owner.port, 3)
            self.assertTrue(doctor(owner.port)["helps"]["tcp_keepalive_time"].startswith("Partly. 2 of 3"))

    def test_fin_timeout_clears_the_other_ends_only(self):
        with Owner() as owner:
            owner.leak(3, close=True)
            older_than(1, owner.port, 3)
            self.assertIn("clears the other ends of 3", doctor(owner.port)["helps"]["tcp_fin_timeout"])


class Answers(unittest.TestCase):
    def test_the_text_ends_with_the_command_to_run_next(self):
        with Owner() as owner:
            owner.leak()
            older_than(1, owner.port, 1)
            result = lastack("doctor", "--port", owner.port, "--for", "100ms")
            self.assertEqual(result.status, 1)
            self.assertTrue(result.output.startswith("Diagnosis: A program error"), result)
            self.assertEqual(result.output.splitlines()[-1],
                             f"Run next: lastack reap --port {owner.port} --older-than 2m --action finish")

    def test_nothing_is_changed(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(3)
            older_than(1, owner.port, 3)
            before = {port: row["cookie"] for port, row in scan("--port", owner.port).items()}
            doctor(owner.port)
            self.assertEqual({port: row["cookie"] for port, row in scan("--port", owner.port).items()}, before)
            self.assertEqual(owner.in_close_wait(), set(ports))

    def test_a_port_that_does_not_exist(self):
        result = lastack("doctor", "--port", 1, "--for", "100ms")
        self.assertEqual(result.status, 1)
        self.assertIn("listens on port 1", result.errors)
        self.assertEqual(result.output, "")

    def test_wrong_usage_says_what_is_allowed(self):
        for arguments, words in ((["--for", "1ms"], "100ms"), (["--port", "http"], "1 to 65535"),
                                 (["help"], "options only")):
            result = lastack("doctor", *arguments)
            self.assertEqual(result.status, 2)
            self.assertIn(words, result.errors)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to drop rights from")
    def test_an_owner_that_is_not_visible(self):
        with Owner() as owner:
            owner.leak(3)
            wait_for(lambda: all(row["age_ms"] >= 1000 for row in scan("--port", owner.port).values()), "they are old")
            report = doctor(owner.port, before=as_nobody())
            self.assertEqual((report["diagnosis"], report["not_visible"]), ("program-error", 3))
            self.assertIn("not visible to this user", report["evidence"])


if __name__ == "__main__":
    enter_namespace()
    main()
