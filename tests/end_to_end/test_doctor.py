"""`lastack doctor`: names what is wrong, with evidence, and what helps."""

import contextlib
import json
import os
import pathlib
import resource
import socket
import subprocess
import unittest

from harness import BOUND_S, LASTACK, main, wait_for
from leaks import Owner, as_nobody, enter_namespace, lastack, older_than, scan

SETTINGS = ["tcp_fin_timeout", "tcp_tw_reuse", "tcp_tw_recycle", "tcp_keepalive_time", "tcp_keepalive_intvl",
            "tcp_keepalive_probes", "tcp_max_orphans", "tcp_orphan_retries", "somaxconn",
            "nf_conntrack_tcp_timeout_close_wait", "nofile (ulimit -n)"]


def doctor_all(*options, before=()):
    """The report as it is, with the status."""
    result = lastack("doctor", "--json", *options, before=before)
    report = result.json
    report["status"] = result.status
    for row in report["ports"]:
        row["helps"] = {setting["name"]: setting["helps"] for setting in row["settings"]}
        row["evidence"] = "\n".join(line for verdict in row["verdicts"] for line in verdict["evidence"])
    return report


def doctor(port, *options, before=()):
    """The report of one port."""
    report = doctor_all("--port", port, "--for", "300ms", *options, before=before)
    assert [row["port"] for row in report["ports"]] == [port]
    assert report["diagnosis"] == report["ports"][0]["diagnosis"]
    return {**report, **report["ports"][0]}


def wait_channel(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/wchan").read_text()
    return ""


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
            owner.leak(30, close=True)
            older_than(1, owner.port, 30)
            report = doctor(owner.port)
            self.assertEqual((report["diagnosis"], report["status"], report["close_wait"]), ("program-error", 1, 30))
            self.assertIn(f"(pid {owner.pid}) holds 30", report["evidence"])
            self.assertEqual(report["next"], f"lastack reap --port {owner.port} --older-than 2m --action finish")

    def test_a_client_that_still_waits_is_no_leak(self):
        with Owner() as owner:
            owner.leak(5)
            older_than(1, owner.port, 5)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "client-waits")
            self.assertIn(f"One of those clients is {pathlib.Path('/proc/self/comm').read_text().strip()} "
                          f"(pid {os.getpid()})", report["evidence"])
            self.assertNotIn("reap", report["next"])
            owner.leak(6, close=True)
            older_than(1, owner.port, 11)
            report = doctor(owner.port)
            self.assertEqual([row["diagnosis"] for row in report["verdicts"]], ["program-error", "client-waits"])
            self.assertIn("have nothing left to read", report["evidence"])

    def test_forgotten_by_a_program_that_serves_others(self):
        with Owner() as owner:
            others = owner.connect(4)
            fds = owner.accept(4)
            owner.leak(9, read=False, data=b"x", close=True)
            older_than(1, owner.port, 9)
            self.assertEqual(doctor(owner.port)["diagnosis"], "stuck")
            command = [LASTACK, "doctor", "--port", str(owner.port), "--for", "1s", "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                while process.poll() is None:
                    for client in others:
                        client.sendall(b"?")
                    owner.echo(fds)
                row = json.loads(process.communicate(timeout=BOUND_S)[0])["ports"][0]
            self.assertEqual(row["diagnosis"], "forgotten", row)
            self.assertIn("read or sent on 4: it runs", "\n".join(row["verdicts"][0]["evidence"]))

    def test_all_stopped_processes_are_named(self):
        owners = [Owner(shared=True)]
        owners += [Owner(port=owners[0].port, shared=True) for _ in range(2)]
        try:
            port = owners[0].port
            while not all(owner.accept_waiting() for owner in owners):
                owners[0].connect(8)
            for client in owners[0].clients:
                client.close()
            for owner in owners:
                owner.stop()
            wait_for(lambda: all(row["age_ms"] >= 1000 for row in scan("--port", port).values()), "they are old")
            report = doctor(port)
            self.assertEqual(report["diagnosis"], "stuck")
            self.assertEqual(sorted(report["next"].split()[2:]), sorted(str(owner.pid) for owner in owners))
            self.assertIn("3 processes are stopped", report["evidence"])
        finally:
            for owner in owners:
                owner.end()

    def test_a_stopped_program(self):
        with Owner() as owner:
            owner.leak(10, read=False)
            owner.leak(2, accept=False)
            owner.stop()
            older_than(1, owner.port, 12)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "stuck")
            self.assertIn("SIGCONT", report["evidence"])
            self.assertIn("2 of 12 sockets in CLOSE_WAIT were never accepted", report["evidence"])
            self.assertEqual(report["next"], f"kill -CONT {owner.pid}")

    def test_a_program_that_does_not_read(self):
        with Owner() as owner:
            owner.leak(10, read=False, data=b"request")
            older_than(1, owner.port, 10)
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "stuck")
            self.assertIn("10 of them also data", report["evidence"])
            self.assertIn(f"py-spy dump --pid {owner.pid}", report["next"])

    def test_a_program_that_does_not_accept(self):
        for backlog, fill in ((8, 9), (4096, 3)):  # the kernel's bound is backlog + 1
            with Owner(backlog=backlog) as owner:
                owner.leak(fill, accept=False)
                older_than(1, owner.port, fill)
                report = doctor(owner.port)
                self.assertEqual(report["diagnosis"], "stuck")
                self.assertIn(f"{fill} of {fill} sockets in CLOSE_WAIT were never accepted", report["evidence"])
                self.assertIn(f"The accept queue of port {owner.port} holds {fill} of {backlog};", report["evidence"])
                self.assertIn("None of them left the queue", report["evidence"])
                self.assertEqual(report["owner"]["pid"], owner.pid)
                self.assertIn(f"py-spy dump --pid {owner.pid}", report["next"])

    def test_load(self):
        with Owner(backlog=8) as owner:
            owner.leak(9, accept=False)
            older_than(1, owner.port, 9)
            command = [LASTACK, "doctor", "--port", str(owner.port), "--for", "2s", "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                while process.poll() is None:  # it accepts and closes, and for each that it takes another comes
                    owner.close(owner.accept(1))
                    owner.leak(1, accept=False)
                row = json.loads(process.communicate(timeout=BOUND_S)[0])["ports"][0]
            self.assertEqual(row["diagnosis"], "load", row)
            self.assertEqual(row["backlog_size"], 8)
            self.assertIn(row["backlog_used"], (8, 9))
            self.assertIn(f"The accept queue of port {owner.port} holds", "\n".join(row["verdicts"][0]["evidence"]))
            somaxconn = next(setting for setting in row["settings"] if setting["name"] == "somaxconn")
            self.assertRegex(somaxconn["helps"], "^(No. A longer queue|Partly. Bursts)")

    def test_one_client_that_never_says_a_word(self):
        subprocess.run(["ip", "address", "add", "198.51.100.7/32", "dev", "lo"], check=True)
        try:
            with Owner("0.0.0.0") as owner:
                owner.leak(30, source="198.51.100.7", close=True)
                older_than(1, owner.port, 30)
                report = doctor(owner.port)
                self.assertEqual(report["diagnosis"], "program-error")  # a gateway would look the same
                self.assertIn("30 of 30 sockets in CLOSE_WAIT come from 198.51.100.0/24.", report["evidence"])
                self.assertIn("30 of them closed without having sent a byte", report["evidence"])
                self.assertIn("client", [verdict["diagnosis"] for verdict in report["verdicts"]])
        finally:
            subprocess.run(["ip", "address", "delete", "198.51.100.7/32", "dev", "lo"], check=True)

    def test_growth_while_the_load_is_the_same(self):
        with Owner() as owner:
            owner.connect(20)
            owner.accept(20)
            owner.leak(3, close=True)
            older_than(1, owner.port, 3)
            self.assertRegex(doctor(owner.port)["evidence"], r"did not become more within 0\.\d+ s: 0 came, 0 went")
            command = [LASTACK, "doctor", "--port", str(owner.port), "--for", "3s", "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                wait_for(lambda: wait_channel(process.pid) == "hrtimer_nanosleep", "it has looked once")
                owner.leak(2, close=True)
                row = json.loads(process.communicate(timeout=BOUND_S)[0])["ports"][0]
            evidence = "\n".join(row["verdicts"][0]["evidence"])
            self.assertRegex(evidence, r"2 came and 0 went within \S+ s, while 20 connections")
            self.assertIn("it is not the load that grows", evidence)


class Ports(unittest.TestCase):
    def test_each_has_its_own_process_cause_and_advice(self):
        with Owner() as leaky, Owner() as stopped, Owner() as healthy:
            leaky.leak(30, close=True)
            stopped.leak(4, read=False)
            stopped.stop()
            healthy.connect(2)
            healthy.accept(2)
            older_than(1, leaky.port, 30)
            older_than(1, stopped.port, 4)
            for ports in ([leaky.port, stopped.port, healthy.port], []):
                asked = ["--port", ",".join(map(str, ports))] if ports else []
                report = doctor_all("--for", "300ms", *asked)
                self.assertEqual((report["diagnosis"], report["status"]), ("program-error", 1))
                rows = {row["port"]: row for row in report["ports"]}
                expected = {leaky.port: ("program-error", 30, leaky.pid), stopped.port: ("stuck", 4, stopped.pid)}
                for port, (diagnosis, count, pid) in expected.items():
                    row = rows[port]
                    self.assertEqual((row["diagnosis"], row["close_wait"], row["owner"]["pid"]),
                                     (diagnosis, count, pid))
                    self.assertIn(f"(pid {pid})", row["evidence"])
                    self.assertEqual({setting["name"] for setting in row["settings"]}, set(SETTINGS))
                self.assertEqual(rows[leaky.port]["next"],
                                 f"lastack reap --port {leaky.port} --older-than 2m --action finish")
                self.assertEqual(rows[stopped.port]["next"], f"kill -CONT {stopped.pid}")
                self.assertNotIn(f"pid {stopped.pid}", rows[leaky.port]["evidence"])
                self.assertNotIn(f"pid {leaky.pid}", rows[stopped.port]["evidence"])
                # Nobody asked after the healthy one the second time.
                self.assertEqual(rows.get(healthy.port, {}).get("diagnosis"), "nothing" if ports else None)

    def test_the_text_has_a_part_and_a_command_a_port(self):
        with Owner() as leaky, Owner() as stopped:
            leaky.leak(5, close=True)
            stopped.leak(3, read=False)
            stopped.stop()
            older_than(1, leaky.port, 5)
            older_than(1, stopped.port, 3)
            result = lastack("doctor", "--port", f"{leaky.port},{stopped.port}", "--for", "300ms")
            self.assertIn(f"Port {leaky.port}: A program error", result.output)
            self.assertIn(f"Port {stopped.port}: A stuck program", result.output)
            self.assertEqual([line for line in result.output.splitlines() if line.startswith("Run next: ")],
                             [f"Run next: lastack reap --port {leaky.port} --older-than 2m --action finish",
                              f"Run next: kill -CONT {stopped.pid}"])
            self.assertIn("Of the 11 settings that people change for this, none helps", result.output)
            self.assertNotIn("helps here", result.output)
            result = lastack("doctor", "--port", f"{leaky.port},{stopped.port}", "--for", "300ms", "--remedies")
            self.assertIn(f"Port {stopped.port}: helps here? No. It only puts off the end", result.output)

    def test_what_this_host_opened_is_told_by_the_port_that_it_went_to(self):
        with socket.create_server(("127.0.0.1", 0)) as service, Owner() as client:
            port = service.getsockname()[1]
            for _ in range(3):
                client.open(port)
                connection, _ = service.accept()
                connection.close()
            wait_for(lambda: doctor_all("--for", "100ms")["diagnosis"] != "nothing", "they are old")
            row = doctor_all("--for", "100ms")["ports"][0]
            self.assertEqual((row["port"], row["side"], row["close_wait"]), (port, "client", 3))
            self.assertEqual(row["owner"]["pid"], client.pid)
            self.assertIn("This host opened them", row["evidence"])
            result = lastack("doctor", "--for", "100ms")
            self.assertIn(f"Connections of this host to port {port}: A stuck program", result.output)


class Descriptors(unittest.TestCase):
    def test_a_reap_is_no_cure(self):
        with Owner() as owner:
            owner.leak(30, close=True)
            older_than(1, owner.port, 30)
            lastack("reap", "--port", owner.port, "--older-than", "0s", "--between", "50ms", "--action", "destroy", "--yes")
            self.assertEqual(owner.in_close_wait(), set())
            report = doctor(owner.port)
            self.assertEqual((report["diagnosis"], report["status"]), ("descriptors", 1))
            self.assertEqual(report["descriptors_dead"], 30)
            self.assertIn("30 of them are dead", report["evidence"])
            self.assertEqual(doctor_all("--for", "100ms")["diagnosis"], "descriptors")  # nobody has named the port

    def test_when_they_are_out_and_what_a_higher_limit_buys(self):
        with Owner() as owner:
            owner.leak(30, close=True)
            older_than(1, owner.port, 30)
            used = len(os.listdir(f"/proc/{owner.pid}/fd"))
            hard = resource.prlimit(owner.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(owner.pid, resource.RLIMIT_NOFILE, (used, hard))
            report = doctor(owner.port)
            self.assertEqual(report["diagnosis"], "descriptors")
            self.assertIn(f"{used} of {used} descriptors open", report["evidence"])
            self.assertIn("It has none left", report["evidence"])
            self.assertTrue(report["next"].startswith(f"prlimit --pid {owner.pid} --nofile={hard}:"), report["next"])
            resource.prlimit(owner.pid, resource.RLIMIT_NOFILE, (used + 100, hard))
            command = [LASTACK, "doctor", "--port", str(owner.port), "--for", "1s", "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                wait_for(lambda: wait_channel(process.pid) == "hrtimer_nanosleep", "it has looked once")
                owner.leak(20, close=True)
                row = json.loads(process.communicate(timeout=BOUND_S)[0])["ports"][0]
            evidence = "\n".join(line for verdict in row["verdicts"] for line in verdict["evidence"])
            self.assertRegex(evidence, r"20 more within \S+ s: at that pace it is out in \d+ s\.")


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
            owner.leak(close=True)
            older_than(1, owner.port, 1)
            result = lastack("doctor", "--port", owner.port, "--for", "100ms")
            self.assertEqual(result.status, 1)
            self.assertTrue(result.output.startswith(f"Port {owner.port}: A program error"), result)
            self.assertIn(f"\nRun next: lastack reap --port {owner.port} --older-than 2m --action finish\n",
                          result.output)

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
                                 (["80", "a", "b"], "one program")):
            result = lastack("doctor", *arguments)
            self.assertEqual(result.status, 2)
            self.assertIn(words, result.errors)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to drop rights from")
    def test_an_owner_that_is_not_visible(self):
        with Owner() as owner:
            owner.leak(3, close=True)
            wait_for(lambda: all(row["age_ms"] >= 1000 for row in scan("--port", owner.port).values()), "they are old")
            report = doctor(owner.port, before=as_nobody())
            self.assertEqual((report["diagnosis"], report["not_visible"]), ("program-error", 3))
            self.assertIn("not visible to this user", report["evidence"])


if __name__ == "__main__":
    enter_namespace()
    main()
