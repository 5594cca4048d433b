"""`lastack scan`: every leak is found, explained and attributed, and nothing else is shown."""

import json
import os
import pathlib
import socket
import subprocess
import unittest

from harness import BOUND_S, LASTACK, Process, main, port_of, sockets, wait_for
from leaks import NOBODY, Owner, as_nobody, enter_namespace, kill_quietly, lastack, older_than, scan


class CausesAndOwners(unittest.TestCase):
    def test_each_cause_is_named(self):
        with Owner() as owner:
            cases = {
                "read-eof": owner.leak(data=b"request"),
                "eof-unread": owner.leak(read=False),
                "data-unread": owner.leak(read=False, data=b"request"),
                "never-accepted": owner.leak(accept=False),
            }
            rows = scan("--port", owner.port)
            self.assertEqual(len(rows), len(cases))
            for cause, (_, (port,), fds) in cases.items():
                row = rows[port]
                self.assertEqual(row["cause"], cause)
                self.assertEqual(row["side"], "server")
                self.assertEqual(row["peer_end"], "half-closed")
                self.assertEqual([holder["pid"] for holder in row["holders"]], [owner.pid])
                self.assertEqual(row["holders"][0]["program"], pathlib.Path(f"/proc/{owner.pid}/comm").read_text().strip())
                if fds:
                    self.assertEqual(row["holders"][0]["fd"], fds[0])
                    self.assertEqual(row["cookie"], owner.cookie(fds[0]))

    def test_the_table_shows_the_same_as_json(self):
        with Owner() as owner:
            _, (first, second), fds = owner.leak(2)
            result = lastack("scan", "--port", owner.port)
            self.assertEqual(result.status, 1, result)
            lines = result.output.splitlines()
            for port, fd in zip((first, second), fds):
                line = next(line for line in lines if f"127.0.0.1:{port} " in line)
                self.assertRegex(line, rf"127\.0\.0\.1:{owner.port} .* read-eof +server +half-closed +{owner.pid} "
                                       rf"+\S+ +{fd}$")
            self.assertIn("2 in close-wait.", lines)
            self.assertEqual(lines[0], "2 in close-wait.")
            self.assertTrue(any(line.split()[:3] == ["2", str(owner.port), str(owner.pid)] for line in lines), result)

    def test_all_holders_of_a_forked_socket_are_shown(self):
        with Owner() as owner:
            _, (port,), (fd,) = owner.leak()
            child = owner.fork()
            try:
                self.assertEqual(self.holders(owner, port), [(owner.pid, fd), (child, fd)])
                owner.close([fd])
                self.assertEqual(self.holders(owner, port), [(child, fd)])
            finally:
                kill_quietly(child)

    def holders(self, owner, port):
        return sorted((holder["pid"], holder["fd"]) for holder in scan("--port", owner.port)[port]["holders"])

    def test_a_stopped_owner_is_called_stopped(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak(read=False)
            owner.stop()
            row = scan("--port", owner.port)[port]
            self.assertEqual(row["cause"], "eof-unread")
            self.assertEqual(row["holders"][0]["process_state"], "stopped")

    def test_ipv6_and_ipv4_in_ipv6(self):
        for host, local in (("::1", "[::1]"), ("::", "127.0.0.1")):
            with Owner(host) as owner:
                _, (port,), _ = owner.leak()
                row = scan("--port", owner.port)[port]
                self.assertEqual(row["local"], f"{local}:{owner.port}")
                self.assertEqual(row["side"], "server")

    def test_what_a_peer_on_this_host_did(self):
        pathlib.Path("/proc/sys/net/ipv4/tcp_fin_timeout").write_text("2")
        with Owner() as owner:
            half_closed, (half_port,), _ = owner.leak()
            _, (closed_port,), _ = owner.leak(close=True)
            rows = scan("--port", owner.port)
            self.assertEqual(rows[half_port]["peer_end"], "half-closed")
            self.assertEqual(rows[closed_port]["peer_end"], "closed")
            wait_for(lambda: not sockets("state fin-wait-2", f"sport = :{closed_port}"), "the orphan expires")
            rows = scan("--port", owner.port)
            self.assertEqual(rows[closed_port]["peer_end"], "forgotten")
            self.assertEqual(rows[half_port]["peer_end"], "half-closed")
            half_closed[0].close()
        pathlib.Path("/proc/sys/net/ipv4/tcp_fin_timeout").write_text("60")

    def test_a_socket_that_this_host_opened_is_the_client_side(self):
        with Owner() as server, Owner() as pool:
            fd = pool.open(server.port)
            (accepted,) = server.accept(1)
            server.close([accepted])
            wait_for(lambda: sockets("state close-wait", f"dport = :{server.port}"), "the pool's socket leaks")
            rows = scan()
            row = rows[server.port]
            self.assertEqual(row["side"], "client")
            self.assertEqual((row["holders"][0]["pid"], row["holders"][0]["fd"]), (pool.pid, fd))
            self.assertEqual(scan("--port", server.port), {})


class WhatIsAskedFor(unittest.TestCase):
    def test_nothing_found_is_status_zero(self):
        with Owner() as owner:
            owner.connect(3)
            owner.accept(3)
            result = lastack("scan", "--port", owner.port)
            self.assertEqual(result.status, 0, result)
            self.assertEqual(result.output, "0 in close-wait.\n")
            self.assertEqual(result.errors, "")

    def test_only_the_ports_that_are_named(self):
        with Owner() as one, Owner() as two, Owner() as three:
            ports = [owner.leak()[1][0] for owner in (one, two, three)]
            self.assertEqual(set(scan("--port", one.port)), {ports[0]})
            self.assertEqual(set(scan("--port", f"{one.port},{two.port}")), set(ports[:2]))
            self.assertEqual(set(scan("-p", two.port, "-p", three.port)), set(ports[1:]))
            self.assertEqual(set(scan()), set(ports))

    def test_younger_ones_are_left_out(self):
        with Owner() as owner:
            _, (old,), _ = owner.leak()
            result = lastack("scan", "--port", owner.port, "--older-than", "1h")
            self.assertEqual(result.status, 0, result)
            older_than(2, owner.port, 1)
            _, (young,), _ = owner.leak()
            result = lastack("scan", "--port", owner.port, "--older-than", "2s", "--json")
            self.assertEqual(result.status, 1)
            self.assertEqual([int(row["peer"].rsplit(":", 1)[1]) for row in result.json["sockets"]][:1], [old])
            self.assertIn(young, scan("--port", owner.port))

    def test_the_age_is_a_lower_bound_and_says_so(self):
        with Owner() as owner:
            _, (port,), (fd,) = owner.leak()
            _, (kept_alive,), (other,) = owner.leak()
            owner.keepalive([other])
            rows = scan("--port", owner.port)
            self.assertTrue(rows[port]["age_exact"])
            self.assertFalse(rows[kept_alive]["age_exact"])
            owner.send(fd, "late answer")
            self.assertFalse(scan("--port", owner.port)[port]["age_exact"])

    def test_another_state(self):
        with Owner() as owner:
            keep = owner.connect(2)
            owner.accept(2)
            rows = scan("--port", owner.port, "--state", "established")
            self.assertEqual(set(rows), {client.getsockname()[1] for client in keep})
            self.assertEqual({row["cause"] for row in rows.values()}, {"-"})

    def test_brief_leaves_out_owners_and_peers(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            row = scan("--port", owner.port, "--brief")[port]
            self.assertEqual((row["cause"], row["side"]), ("read-eof", "server"))
            self.assertNotIn("holders", row)
            self.assertNotIn("peer_end", row)
            result = lastack("scan", "--port", owner.port, "--brief")
            self.assertEqual(result.status, 1)
            self.assertEqual(result.output.splitlines()[:2], ["1 in close-wait.", ""])
            self.assertEqual(result.output.splitlines()[2].split(), ["LOCAL", "PEER", "AGE", "CAUSE", "SIDE"])
            self.assertEqual(len(result.output.splitlines()), 4)

    def test_a_port_that_does_not_exist(self):
        result = lastack("scan", "--port", 1)
        self.assertEqual(result.status, 1)
        self.assertIn("listens on port 1", result.errors)

    def test_wrong_usage_says_what_is_allowed(self):
        for arguments, words in ((["--port", "0"], "1 to 65535"), (["--port", "x"], "1 to 65535"),
                                 (["--port", "80,"], "1 to 65535"), (["--older-than", "30"], "30s"),
                                 (["--state", "closed"], "close-wait"), (["80", "x", "y"], "one program"),
                                 (["--peer", "10.0.0.7:80"], "without port"), (["--to", "0"], "1 to 65535"),
                                 (["--watch=1ms"], "100ms"), (["--count", "0"], "from 1")):
            result = lastack("scan", *arguments)
            self.assertEqual(result.status, 2, arguments)
            self.assertIn(words, result.errors)

    def test_thousands_of_rows_are_counted_once(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(3000)
            report = lastack("scan", "--port", owner.port, "--json").json
            self.assertEqual(report["count"], 3000)
            self.assertEqual({int(row["peer"].rsplit(":", 1)[1]) for row in report["sockets"]}, set(ports))
            self.assertEqual(report["owners"][0]["sockets"], 3000)
            self.assertEqual(report["owners"][0]["causes"]["read-eof"], 3000)


class Watching(unittest.TestCase):
    def test_growth_is_shown(self):
        with Owner() as owner:
            owner.leak()
            with Process([LASTACK, "scan", "--port", str(owner.port), "--watch=100ms", "--json"]) as watch:
                watch.wait_for_line(r'"count":1,"per_minute":0\.0')
                owner.leak(2)
                watch.wait_for_line(r'"count":3,"per_minute":[1-9]')
                growing = next(json.loads(line) for line in watch.lines if '"count":3' in line)
                self.assertEqual(growing["owners"][0]["pid"], owner.pid)
                self.assertGreater(growing["owners"][0]["per_minute"], 0)

    def test_it_ends_after_the_count(self):
        with Owner() as owner:
            owner.leak()
            result = lastack("scan", "--port", owner.port, "--watch=100ms", "--count", 3)
            self.assertEqual(result.status, 1)
            self.assertEqual(result.output.count("1 in close-wait, +0.0 per minute."), 3, result)
            self.assertIn("PER MINUTE", result.output)


class WithManyRows(unittest.TestCase):
    """A hundred thousand rows; in TIME_WAIT, where they need neither descriptors nor memory to speak of."""
    ROWS, LISTENERS = 100000, 5

    def setUp(self):
        for name, value in (("tcp_tw_reuse", "0"), ("tcp_max_tw_buckets", "200000"),
                            ("ip_local_port_range", "10000 60999")):
            setting = pathlib.Path("/proc/sys/net/ipv4") / name
            self.addCleanup(setting.write_text, setting.read_text())
            setting.write_text(value)

    def test_each_is_shown_once(self):
        for number in range(self.LISTENERS):
            with socket.create_server((f"127.0.0.{number + 1}", 0)) as listener:
                for _ in range(self.ROWS // self.LISTENERS):
                    client = socket.create_connection(listener.getsockname())
                    connection, _ = listener.accept()
                    client.close()  # who closes first has the TIME_WAIT, and its port stays taken
                    connection.close()
        report = lastack("scan", "--brief", "--state", "time-wait", "--json").json
        self.assertGreaterEqual(report["count"], self.ROWS)
        self.assertEqual(len({(row["local"], row["peer"]) for row in report["sockets"]}), report["count"])


@unittest.skipUnless(os.path.exists("/proc/1/fd") and os.geteuid() == 0, "needs root to drop rights from")
class WithoutRights(unittest.TestCase):
    def test_sockets_of_others_are_listed_without_their_owner(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            report = lastack("scan", "--port", owner.port, "--json", before=as_nobody()).json
            self.assertEqual(report["sockets"][0]["holders"], [])
            self.assertEqual(report["sockets"][0]["uid"], 0)
            self.assertEqual(report["not_visible"], 1)
            self.assertGreater(report["processes_refused"], 0)
            result = lastack("scan", "--port", owner.port, before=as_nobody())
            self.assertEqual(result.status, 1)
            self.assertIn("uid 0", result.output)
            self.assertIn("may look into", result.output)
            self.assertIn("CAP_SYS_PTRACE", result.output)

    def test_ones_own_are_attributed(self):
        with Owner(uid=NOBODY) as owner:
            _, (port,), _ = owner.leak()
            row = scan("--port", owner.port, before=as_nobody())[port]
            self.assertEqual(row["uid"], NOBODY)

    def test_hidepid_hides_the_owner_and_nothing_else(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            hide = ["unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
            probe = subprocess.run([*hide, "true"], capture_output=True, check=False)
            if probe.returncode:
                self.skipTest("proc can't be mounted here")
            report = lastack("scan", "--port", owner.port, "--json", before=[*hide, *as_nobody()]).json
            self.assertEqual(report["sockets"][0]["holders"], [])
            self.assertEqual(report["not_visible"], 1)


class OfOneProgram(unittest.TestCase):
    def test_only_its_sockets_are_shown_and_ended(self):
        with Owner(shared=True) as java, Owner() as node:
            java.rename(list(b"java"))
            node.rename(list(b"node"))
            _, (leak,), _ = java.leak(close=True)
            _, (other,), _ = node.leak(close=True)
            older_than(1, java.port, 1)
            self.assertEqual(set(scan("--program", "java")), {leak})
            self.assertEqual(lastack("scan", "--program", "jav").output, "0 in close-wait.\n")
            ports = f"{java.port},{node.port}"
            report = lastack("doctor", "--port", ports, "--program", "java", "--for", "100ms", "--json").json
            self.assertEqual({row["port"]: row["close_wait"] for row in report["ports"]}, {java.port: 1, node.port: 0})
            lastack("reap", "--port", ports, "--program", "java", "--older-than", "0s", "--between", "50ms",
                    "--action", "ladder", "--yes")
            self.assertEqual((java.in_close_wait(), node.in_close_wait()), (set(), {other}))

    def test_needs_a_look_at_who_holds_them(self):
        result = lastack("scan", "--brief", "--program", "java")
        self.assertEqual(result.status, 2)
        self.assertIn("--program", result.errors)


class TheAnswerFirst(unittest.TestCase):
    def test_the_sum_stands_before_twenty_rows(self):
        with Owner() as owner:
            owner.leak(25)
            lines = lastack("scan", "--port", owner.port).output.splitlines()
            self.assertEqual(lines[0], "25 in close-wait.")
            self.assertEqual(lines[2].split()[:3], ["SOCKETS", "PORT", "PID"])
            self.assertEqual(lines[3].split()[:3], ["25", str(owner.port), str(owner.pid)])
            self.assertEqual(sum(line.startswith(f"127.0.0.1:{owner.port} ") for line in lines), 20)
            self.assertEqual(lines[-1], "... and 5 more: --all shows them, --json has them.")
            lines = lastack("scan", "--port", owner.port, "--all").output.splitlines()
            self.assertEqual(sum(line.startswith(f"127.0.0.1:{owner.port} ") for line in lines), 25)
            lines = lastack("reap", "--port", owner.port, "--between", "50ms").output.splitlines()
            self.assertTrue(lines[0].startswith("25 found, 0 due."), lines)
            self.assertEqual(sum(line.startswith(f"127.0.0.1:{owner.port} ") for line in lines), 20)

    def test_what_several_processes_hold_counts_once(self):
        with Owner() as owner:
            owner.leak(3)
            child = owner.fork()
            try:
                owner.leak(2)
                report = lastack("scan", "--port", owner.port, "--json").json
                self.assertEqual([(row["sockets"], row["held_by"], row["pid"]) for row in report["owners"]],
                                 [(3, 2, min(owner.pid, child)), (2, 1, owner.pid)])
                self.assertIn(f"{min(owner.pid, child)} and 1 more", lastack("scan", "--port", owner.port).output)
            finally:
                kill_quietly(child)

    def test_a_port_and_a_program_as_words(self):
        with Owner() as java, Owner() as node:
            java.rename(list(b"javaws"))
            node.rename(list(b"node"))
            _, (leak,), _ = java.leak()
            _, (other,), _ = node.leak()
            self.assertEqual(set(scan(java.port)), {leak})
            self.assertEqual(set(scan("java")), {leak})
            self.assertEqual(set(scan("node", node.port)), {other})
            for word, said in (("a", None), ("perl", "no program that is seen here has 'perl'"),
                               ("", "more than one program has ''")):
                result = lastack("scan", word)
                self.assertEqual(result.status, 1)
                if said:
                    self.assertIn(said, result.errors)
                    self.assertIn("node", result.errors)
            result = lastack("reap", "--port", java.port, "java")
            self.assertEqual(result.status, 2)
            self.assertIn("the whole name", result.errors)


class BothEndsOfAPort(unittest.TestCase):
    def test_remote_ports_and_addresses(self):
        with Owner() as server, Owner("127.0.0.2") as other, Owner() as pool:
            pool.open(server.port)
            port = port_of(sockets(f"dport = :{server.port}")[0].local)
            server.close(server.accept(1))
            wait_for(lambda: sockets("state close-wait", f"dport = :{server.port}"), "the pool's socket leaks")
            _, (leak,), _ = other.leak(source="127.0.0.3")
            self.assertEqual(set(scan("--to", server.port)), {server.port})
            self.assertEqual(set(scan("--to", server.port, "--port", port)), {server.port})
            self.assertEqual(scan("--to", server.port, "--port", port + 1 if port < 65535 else port - 1), {})
            self.assertEqual(scan("--to", leak)[leak]["side"], "server")
            self.assertEqual(set(scan("--peer", "127.0.0.3")), {leak})
            self.assertEqual(set(scan("--peer", "127.0.0.3", "--peer", "127.0.0.1")), {leak, server.port})
            report = lastack("doctor", "--to", server.port, "--for", "100ms", "--json").json
            self.assertEqual([(row["port"], row["side"]) for row in report["ports"]], [(server.port, "client")])
            reap = lastack("reap", "--to", server.port, "--between", "50ms", "--older-than", "0s", "--client-side")
            self.assertIn("1 found, 1 due.", reap.output)

    def test_what_goes_there_is_told_where_nothing_is_here(self):
        with socket.create_server(("127.0.0.1", 0)) as service, Owner() as pool:
            port = service.getsockname()[1]
            pool.open(port)
            connection, _ = service.accept()
            connection.close()
            wait_for(lambda: sockets("state close-wait", f"dport = :{port}"), "the pool's socket leaks")
            service.close()
            result = lastack("scan", "--port", port)
            self.assertIn(f"1 sockets of this host in close-wait go to that port elsewhere: lastack scan --to {port}",
                          result.output)
            self.assertEqual(result.errors, "")
            result = lastack("doctor", "--port", port, "--for", "100ms")
            self.assertIn(f"lastack doctor --to {port}", result.output)
            self.assertEqual(result.status, 1)


class NamesOfProcesses(unittest.TestCase):
    """Any user gives its process any name, and root looks at it: with an escape sequence, a C1 control character as
    UTF-8 and as one byte, and what is no UTF-8."""

    NAME = b"\033[2J\xc2\x9b\x9b\xff\xc3z"
    CLEAN = "?[2J????z"

    def look(self, *arguments):
        result = subprocess.run([LASTACK, *map(str, arguments)], capture_output=True, timeout=BOUND_S, check=False)
        self.assertIn(self.CLEAN.encode(), result.stdout)
        for byte in (b"\033", b"\x9b", b"\xff"):
            self.assertNotIn(byte, result.stdout + result.stderr)
        return result.stdout

    def test_reach_neither_a_terminal_nor_json(self):
        with Owner() as owner:
            owner.rename(list(self.NAME))
            _, (port,), _ = owner.leak()
            older_than(1, owner.port, 1)
            for command in (["scan"], ["reap"], ["doctor", "--for", "100ms"], ["scan", "--watch=100ms", "--count=2"]):
                self.look(*command, "--port", owner.port)
            for command in (["scan"], ["reap"], ["doctor", "--for", "100ms"]):
                json.loads(self.look(*command, "--port", owner.port, "--json").decode())
            self.assertEqual(scan("--port", owner.port)[port]["holders"][0]["program"], self.CLEAN)


if __name__ == "__main__":
    enter_namespace()
    main()
