"""`lastack reap`: what is due goes, what has a guard stays, and nothing beside the target is touched."""

import os
import socket
import struct
import threading
import unittest

from harness import main, receive_all, sockets, wait_for
from leaks import Owner, as_nobody, enter_namespace, kill_quietly, lastack, older_than, scan

BYSTANDERS = 10000
# Everything is due that no other guard protects; the test's clients are half-closed, as those are who wait for an answer.
NOW = ["--older-than", "0s", "--between", "50ms", "--even-waiting"]


def reap(port, *arguments, before=()):
    result = lastack("reap", "--port", port, "--json", *arguments, before=before)
    if result.status == 2 or not result.output:
        raise AssertionError(f"{result}")
    report = result.json
    report["status"] = result.status
    report["rows"] = {int(row["peer"].rsplit(":", 1)[1]): row for row in report["sockets"]}
    return report


def is_reset(client):
    try:
        client.recv(1)
    except ConnectionResetError:
        return True
    return False


def acted(row):
    return row if "outcome" in row else None


class Acting(unittest.TestCase):
    def test_without_yes_nothing_happens(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(3)
            for action in ("report", "finish", "destroy", "ladder"):
                report = reap(owner.port, *NOW, "--action", action)
                self.assertEqual((report["status"], report["due"], report["done"]), (1, 3, False))
                self.assertEqual(owner.in_close_wait(), set(ports))
            text = lastack("reap", "--port", owner.port, *NOW, "--action", "finish")
            self.assertIn("3 due. Nothing was done; add --yes to do it (--action=finish).", text.output)

    def test_finish_sends_what_is_queued_and_then_fin(self):
        with Owner() as owner:
            (client,), (port,), (fd,) = owner.leak(data=b"question")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            owner.send(fd, "the answer")
            wait_for(lambda: not sockets("state close-wait", f"sport = :{owner.port}")[0].send_queue, "it is sent")
            report = reap(owner.port, *NOW, "--action", "finish", "--yes")
            self.assertEqual((report["status"], report["due"], report["gone"]), (0, 1, 1))
            row = report["rows"][port]
            self.assertEqual((row["rung"], row["error"], row["outcome"]), ("finish", None, "gone"))
            self.assertEqual(row["fd_held_by"], [{"pid": owner.pid, "fd": fd}])
            self.assertEqual(receive_all(client), b"the answer")
            self.assertEqual(owner.send_error(fd), "BrokenPipeError")

    def test_finish_waits_for_a_peer_that_does_not_read(self):
        with Owner() as owner:
            (client,), (port,), (fd,) = owner.leak()
            sent = owner.send(fd, "x" * 8_000_000)
            wait_for(lambda: sockets("state close-wait", f"sport = :{owner.port}")[0].send_queue, "the queue is full")
            # It is left alone, for its progress, until the client's buffer is full.
            row = wait_for(lambda: acted(reap(owner.port, *NOW, "--action", "finish", "--yes")["rows"][port]), "it acts")
            self.assertEqual(row["outcome"], "last-ack")
            self.assertEqual(len(receive_all(client)), sent)

    def test_destroy_resets(self):
        with Owner() as owner:
            (client,), (port,), (fd,) = owner.leak()
            report = reap(owner.port, *NOW, "--action", "destroy", "--yes")
            row = report["rows"][port]
            self.assertEqual((row["rung"], row["outcome"], report["status"]), ("destroy", "gone", 0))
            self.assertEqual(row["fd_held_by"], [{"pid": owner.pid, "fd": fd}])
            self.assertTrue(is_reset(client))

    def test_every_cause_and_family_but_never_accepted(self):
        for host in ("127.0.0.1", "::1", "::"):
            for action in ("finish", "destroy", "ladder"):
                with Owner(host) as owner:
                    gone = owner.leak()[1] + owner.leak(read=False)[1] + owner.leak(read=False, data=b"x")[1]
                    gone += owner.leak(close=True)[1]
                    _, (queued,), _ = owner.leak(accept=False)
                    report = reap(owner.port, *NOW, "--action", action, "--yes")
                    self.assertEqual((report["due"], report["gone"], report["status"]), (4, 4, 0), (host, action))
                    self.assertEqual(owner.in_close_wait(), {queued})
                    self.assertEqual(report["rows"][queued]["guard"], "never-accepted")
                    self.assertEqual({report["rows"][port]["outcome"] for port in gone}, {"gone"})

    def test_a_stopped_owner(self):
        for action in ("finish", "destroy"):
            with Owner() as owner:
                _, ports, fds = owner.leak(2, read=False)
                owner.stop()
                report = reap(owner.port, *NOW, "--action", action, "--yes")
                self.assertEqual((report["gone"], report["fds_held"]), (2, 2))
                self.assertEqual(owner.in_close_wait(), set())
                owner.resume()

    def test_a_forked_owner(self):
        with Owner() as owner:
            _, (port,), (fd,) = owner.leak()
            child = owner.fork()
            try:
                owner.close([fd])
                report = reap(owner.port, *NOW, "--action", "finish", "--yes")
                self.assertEqual(report["rows"][port]["outcome"], "gone")
                self.assertEqual(report["rows"][port]["fd_held_by"], [{"pid": child, "fd": fd}])
            finally:
                kill_quietly(child)

    def test_the_table_and_its_sums(self):
        with Owner() as owner:
            owner.leak(2)
            owner.leak(accept=False)
            result = lastack("reap", "--port", owner.port, *NOW, "--action", "ladder", "--yes")
            self.assertEqual(result.status, 0, result)
            self.assertIn("2 due: 2 gone, 0 in last-ack, 0 still in close-wait.", result.output)
            self.assertIn("2 descriptors stay open", result.output)
            self.assertIn("1 left alone, never-accepted", result.output)


class Guards(unittest.TestCase):
    def untouched(self, owner, ports, guard, *arguments):
        report = reap(owner.port, "--action", "ladder", "--yes", "--between", "50ms", "--even-waiting", *arguments)
        self.assertEqual((report["due"], report["status"]), (0, 0), report)
        self.assertEqual({report["rows"][port]["guard"] for port in ports}, {guard})
        self.assertEqual(owner.in_close_wait(), set(ports))

    def test_young_ones(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(2)
            self.untouched(owner, ports, "too-young", "--older-than", "1h")
            self.untouched(owner, ports, "too-young")  # two minutes by default

    def test_that_all_are_young_is_said_with_the_oldest(self):
        with Owner() as owner:
            owner.leak(3, close=True)
            older_than(1, owner.port, 3)
            result = lastack("reap", "--port", owner.port, "--between", "50ms", "--older-than", "90m")
            self.assertEqual(result.status, 0)
            self.assertIn("3 found, 0 due. Nothing was done.\n3 left alone, too-young: ", result.output)
            self.assertRegex(result.output, r"The oldest of these is \d+m?\d*s, --older-than is 1h30m\.\n")
            report = reap(owner.port, "--between", "50ms", "--older-than", "90m")
            self.assertEqual((report["found"], report["due"]), (3, 0))
            result = lastack("reap", "--port", owner.port, "--between", "50ms", "--older-than", "1s")
            self.assertIn("3 found, 3 due. Nothing was done; to do something add", result.output)
            self.assertNotIn("The oldest", result.output)

    def test_those_that_keepalive_makes_young_are_watched_first(self):
        with Owner() as owner:
            _, (port,), (fd,) = owner.leak(close=True)
            owner.keepalive([fd])
            result = lastack("reap", "--port", owner.port, "--between", "50ms", "--older-than", "1h")
            self.assertIn("1 of them have keepalive", result.output)
            self.assertIn("--watch-for 1h00m", result.output)
            report = reap(owner.port, "--older-than", "2s", "--between", "100ms", "--watch-for", "2s", "--action",
                          "finish", "--yes")
            self.assertEqual((report["rows"][port]["outcome"], report["gone"]), ("gone", 1))

    def test_only_the_old_among_young(self):
        with Owner() as owner:
            _, old, _ = owner.leak(2, close=True)
            older_than(3, owner.port, 2)
            _, young, _ = owner.leak(2)
            report = reap(owner.port, "--older-than", "3s", "--between", "50ms", "--action", "finish", "--yes")
            self.assertEqual({report["rows"][port].get("outcome") for port in old}, {"gone"})
            self.assertEqual(owner.in_close_wait(), set(young))

    def test_those_that_make_progress(self):
        with Owner() as owner:
            (client,), ports, (fd,) = owner.leak()
            ended = threading.Event()
            reader = threading.Thread(target=lambda: receive_all(client), daemon=True)
            reader.start()

            def talk():
                while not ended.wait(0.02):
                    owner.send(fd, "x")

            talker = threading.Thread(target=talk)
            talker.start()
            report = reap(owner.port, "--older-than", "0s", "--between", "1s", "--action", "ladder", "--yes", "--even-waiting")
            ended.set()
            talker.join()
            self.assertEqual(report["rows"][ports[0]]["guard"], "progress")
            self.assertEqual(owner.in_close_wait(), set(ports))

    def test_client_side_ones_unless_named(self):
        with Owner() as server, Owner() as pool:
            fd = pool.open(server.port)
            port = sockets(f"dport = :{server.port}")[0].local.rsplit(":", 1)[1]
            server.close(server.accept(1))
            wait_for(lambda: sockets("state close-wait", f"dport = :{server.port}"), "the pool's socket leaks")
            report = reap(port, *NOW, "--action", "ladder", "--yes")
            self.assertEqual(report["rows"][server.port]["guard"], "client-side")
            self.assertTrue(sockets("state close-wait", f"dport = :{server.port}"))
            report = reap(port, *NOW, "--action", "finish", "--yes", "--client-side")
            self.assertEqual(report["rows"][server.port]["outcome"], "gone")
            self.assertEqual(report["rows"][server.port]["fd_held_by"], [{"pid": pool.pid, "fd": fd}])

    def test_other_processes_than_the_named_one(self):
        with Owner() as owner:
            _, (first,), (fd,) = owner.leak()
            child = owner.fork()
            try:
                _, (second,), _ = owner.leak()
                report = reap(owner.port, *NOW, "--action", "finish", "--yes", "--pid", child)
                self.assertEqual(set(report["rows"]), {first})
                self.assertEqual(owner.in_close_wait(), {second})
            finally:
                kill_quietly(child)

    def test_other_ports(self):
        with Owner() as target, Owner() as other:
            target.leak(5)
            _, ports, _ = other.leak(5)
            reap(target.port, *NOW, "--action", "ladder", "--yes")
            self.assertEqual(target.in_close_wait(), set())
            self.assertEqual(other.in_close_wait(), set(ports))

    def test_an_owner_that_ends_meanwhile(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(3)
            timer = threading.Timer(0.3, owner.signal, [9])
            timer.start()
            report = reap(owner.port, "--older-than", "0s", "--between", "2s", "--action", "ladder", "--yes")
            self.assertEqual((report["due"], report["sockets"]), (0, []))
            timer.join()


class Bystanders(unittest.TestCase):
    def test_ten_thousand_healthy_ones_are_not_harmed(self):
        with Owner(backlog=4096) as owner:
            clients, fds = [], []
            for _ in range(BYSTANDERS // 1000):
                clients += owner.connect(1000)
                fds += owner.accept(1000)
            for action in ("finish", "destroy"):
                _, leaks, _ = owner.leak(50)
                report = reap(owner.port, *NOW, "--action", action, "--yes")
                self.assertEqual((report["due"], report["gone"], report["status"]), (50, 50, 0))
                self.assertEqual(set(report["rows"]), set(leaks))
            self.assertEqual(len(sockets("state established", f"sport = :{owner.port}")), BYSTANDERS)
            for start in range(0, BYSTANDERS, 1000):
                for client in clients[start:start + 1000]:
                    client.sendall(b"?")
                owner.echo(fds[start:start + 1000])
                for client in clients[start:start + 1000]:
                    self.assertEqual(client.recv(1), b"?")
            owner.connect(1)
            self.assertEqual(len(owner.accept(1)), 1)  # the listening socket lives
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@unittest.skipUnless(os.geteuid() == 0, "needs root to drop rights from")
class WithoutRights(unittest.TestCase):
    def test_none_at_all(self):
        with Owner() as owner:
            _, ports, _ = owner.leak(2)
            for action, lost in (("destroy", "destroy: it takes CAP_NET_ADMIN"), ("ladder", "cap_sys_ptrace")):
                result = lastack("reap", "--port", owner.port, *NOW, "--action", action, "--yes", before=as_nobody())
                self.assertEqual(result.status, 1)
                self.assertIn(lost, result.errors)
                self.assertEqual(owner.in_close_wait(), set(ports))

    def test_whose_owner_is_not_seen_is_left_alone_and_that_is_no_success(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            for action in ("destroy", "ladder"):
                report = reap(owner.port, *NOW, "--action", action, "--yes", before=as_nobody("net_admin"))
                self.assertEqual(report["rows"][port]["guard"], "unseen")
                self.assertEqual((report["due"], report["status"]), (0, 1))
                self.assertEqual(owner.in_close_wait(), {port})

    def test_finish_of_anothers_process(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            report = reap(owner.port, *NOW, "--action", "finish", "--yes", "--even-unseen",
                          before=as_nobody("net_admin"))
            if "error" in report["rows"][port]:  # where Yama leaves no rung at all, nothing is tried
                self.assertEqual(report["rows"][port]["error"], "ERROR_NOT_VISIBLE")
            self.assertEqual(report["status"], 1)
            self.assertEqual(owner.in_close_wait(), {port})

    def test_the_ladder_climbs_past_the_lost_rung(self):
        with Owner() as owner:
            _, (port,), _ = owner.leak()
            result = lastack("reap", "--port", owner.port, *NOW, "--action", "ladder", "--yes", "--even-unseen",
                             before=as_nobody("net_admin"))
            self.assertEqual(result.status, 0, result)
            self.assertIn("lastack reap: finish: ", result.errors)
            self.assertIn("destroy", result.output)
            self.assertEqual(owner.in_close_wait(), set())

    def test_ptrace_alone_finishes(self):
        with Owner() as owner:
            owner.leak()
            report = reap(owner.port, *NOW, "--action", "ladder", "--yes",
                          before=as_nobody("sys_ptrace", "dac_read_search"))
            self.assertIn("CAP_NET_ADMIN", report["destroy_lost"])
            self.assertEqual((report["gone"], report["sockets"][0]["rung"]), (1, "finish"))


class BadInput(unittest.TestCase):
    def test_a_port_that_does_not_exist(self):
        result = lastack("reap", "--port", 1, *NOW, "--action", "ladder", "--yes")
        self.assertEqual(result.status, 1)
        self.assertIn("listens on port 1", result.errors)

    def test_wrong_usage_says_what_is_allowed(self):
        for arguments, words in (([], "--port is missing"), (["--port", "80", "--yes"], "--yes does nothing"),
                                 (["--port", "80", "--action", "kill"], "report, finish, destroy, ladder"),
                                 (["--port", "80", "--pid", "-1"], "from 1"), (["--port", "80", "all"], "the whole name"),
                                 (["--port", "80", "--older-than", "2"], "2m")):
            result = lastack("reap", *arguments)
            self.assertEqual(result.status, 2, arguments)
            self.assertIn(words, result.errors)

    def test_the_cookie_is_that_of_the_owners_descriptor(self):
        with Owner() as owner:
            _, (port,), (fd,) = owner.leak()
            self.assertEqual(scan("--port", owner.port)[port]["cookie"], owner.cookie(fd))


if __name__ == "__main__":
    enter_namespace()
    main()
