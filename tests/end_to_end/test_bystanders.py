"""Nobody who has done nothing wrong is harmed by the reaper: each way in which somebody could be, by `reap` and by `run`.

Every test leaves a true leak beside the bystander. That it goes shows that the reaper was at work."""

import os
import unittest

from harness import Proxy, main, receive_all, sockets, wait_for
from leaks import Owner, enter_namespace, lastack

NOW = ["--older-than", "0s", "--between", "50ms"]
REMOTE = "192.0.2.77"  # not an address of this host (RFC 5737)


def reap(port, *arguments, action="ladder", before=()):
    result = lastack("reap", "--port", port, "--json", *NOW, "--action", action, "--yes", *arguments, before=before)
    if not result.output:
        raise AssertionError(f"{result}")
    return {int(row["peer"].rsplit(":", 1)[1]): row for row in result.json["sockets"]}


def watch(servers, reaper):
    """A proxy that ends what leaks beside it at once."""
    return Proxy.from_file(f"""
reaper: {{{reaper}, interval: 100ms, older_than: 200ms, action: ladder}}
frontends:
  - {{name: front, listen: "127.0.0.1:0", backend: back}}
backends:
  - {{name: back, servers: {servers}}}
""")


class APeerThatWaits(unittest.TestCase):
    """It has shut its writing side and waits for a long answer."""

    def test_is_not_cut_off_by_reap(self):
        for action in ("finish", "destroy", "ladder"):
            with Owner() as owner:
                (client,), (waiting,), (fd,) = owner.leak(data=b"question")
                _, (leak,), _ = owner.leak(close=True)
                rows = reap(owner.port, action=action)
                self.assertEqual((rows[waiting]["guard"], rows[leak].get("outcome")), ("waiting", "gone"))
                owner.send(fd, "the answer")
                owner.close([fd])
                self.assertEqual(receive_all(client), b"the answer")

    def test_is_not_cut_off_by_the_reaper_of_run(self):
        with Owner() as owner:
            (client,), _, (fd,) = owner.leak(data=b"question")
            owner.leak(close=True)
            with watch(f'["127.0.0.1:{owner.port}"]', "watch: backends"):
                wait_for(lambda: len(owner.in_close_wait()) == 1, "the leak is ended")
                owner.send(fd, "the answer")
                owner.close([fd])
                self.assertEqual(receive_all(client), b"the answer")

    def test_is_cut_off_when_told_to(self):
        with Owner() as owner:
            _, (waiting,), _ = owner.leak()
            self.assertEqual(reap(owner.port, "--even-waiting")[waiting]["outcome"], "gone")

    def test_is_said_in_words(self):
        with Owner() as owner:
            owner.leak()
            result = lastack("reap", "--port", owner.port, *NOW, "--action", "finish", "--yes")
            self.assertIn("1 left alone, waiting: its peer on this host has only shut its writing side", result.output)
            self.assertIn("--even-waiting", result.output)


class ThePortOfARemoteBackend(unittest.TestCase):
    def test_is_another_programs_here(self):
        with Owner() as service, Owner() as other:
            service.leak(2, close=True)
            _, ports, _ = other.leak(20, close=True)
            servers = f'["127.0.0.1:{service.port}", "{REMOTE}:{other.port}"]'
            with watch(servers, "watch: backends") as proxy:
                wait_for(lambda: not service.in_close_wait(), "the service's leaks are ended")
                proxy.wait_for_line("msg=leaks count=0")
            self.assertEqual(other.in_close_wait(), set(ports))

    def test_is_looked_up_where_it_has_a_name(self):
        with Owner() as service:
            service.leak(2, close=True)
            with watch(f'["localhost:{service.port}"]', "watch: backends"):
                wait_for(lambda: not service.in_close_wait(), "its leaks are ended")

    def test_is_watched_when_the_port_is(self):
        with Owner() as other:
            other.leak(2, close=True)
            with watch(f'["{REMOTE}:{other.port}"]', f"watch: [{other.port}]"):
                wait_for(lambda: not other.in_close_wait(), "they are ended")


class AClientsSocket(unittest.TestCase):
    def test_is_not_a_servers_because_somebody_listens_on_its_port_at_another_address(self):
        for host in ("127.0.0.1", "::1"):
            with Owner(host) as listener, Owner() as server, Owner() as pool:
                pool.open(server.port, "127.0.0.2", listener.port)
                server.close(server.accept(1))
                leak = wait_for(lambda: sockets("state close-wait", f"dport = :{server.port}"), "it is there")
                self.assertEqual(leak[0].local, f"127.0.0.2:{listener.port}")
                _, (true_leak,), _ = listener.leak(close=True)
                rows = reap(listener.port)
                self.assertEqual(rows[server.port]["guard"], "client-side")
                self.assertEqual(rows[true_leak]["outcome"], "gone")
                self.assertTrue(sockets("state close-wait", f"dport = :{server.port}"))


class ADescriptorOnItsWay(unittest.TestCase):
    def test_to_another_process_is_not_ended(self):
        for action in ("finish", "destroy", "ladder"):
            with Owner() as owner:
                _, (away,), fds = owner.leak(close=True)
                owner.send_away(fds)
                _, (leak,), _ = owner.leak(close=True)
                rows = reap(owner.port, action=action)
                self.assertEqual((rows[away]["guard"], rows[leak].get("outcome")), ("unseen", "gone"))
                self.assertEqual(owner.in_close_wait(), {away})

    def test_is_not_ended_by_the_reaper_of_run(self):
        with Owner() as owner:
            _, (away,), fds = owner.leak(close=True)
            owner.send_away(fds)
            owner.leak(close=True)
            with watch(f'["127.0.0.1:{owner.port}"]', "watch: backends"):
                wait_for(lambda: owner.in_close_wait() == {away}, "the leak is ended, and it alone")

    def test_is_ended_when_told_to(self):
        with Owner() as owner:
            _, (away,), fds = owner.leak(close=True)
            owner.send_away(fds)
            self.assertEqual(reap(owner.port, "--even-unseen")[away]["outcome"], "gone")


@unittest.skipUnless(os.geteuid() == 0, "needs root for a pid namespace")
class AnOwnerInAnotherPidNamespace(unittest.TestCase):
    def test_is_not_judged_by_those_who_do_not_see_it(self):
        blind = ["unshare", "--pid", "--fork", "--mount-proc"]
        with Owner() as owner:
            _, ports, _ = owner.leak(2, close=True)
            rows = reap(owner.port, before=blind)
            self.assertEqual({row["guard"] for row in rows.values()}, {"unseen"})
            self.assertEqual(owner.in_close_wait(), set(ports))


class TwoProgramsOnOnePort(unittest.TestCase):
    """SO_REUSEPORT: the kernel deals connections out to both."""

    def pair(self, leaky, sound):
        """A connection of each, whose client has closed; the leaky one has read EOF, the sound one has not yet."""
        leaks, others = set(), set()
        while not leaks or not others:
            leaky.connect(1)[0].close()
            for fd in leaky.accept_waiting():
                leaky.read_eof([fd])
                leaks.add(leaky.peer_port(fd))
            others.update(sound.peer_port(fd) for fd in sound.accept_waiting())
        wait_for(lambda: leaky.in_close_wait() == leaks | others, "the kernel shows them")
        return leaks, others

    def test_the_sound_one_is_left_alone_by_reap(self):
        with Owner(shared=True) as leaky, Owner(port=leaky.port, shared=True) as sound:
            leaks, others = self.pair(leaky, sound)
            rows = reap(leaky.port)
            self.assertEqual({rows[port].get("outcome") for port in leaks}, {"gone"})
            self.assertEqual({rows[port]["guard"] for port in others}, {"sound-owner"})
            self.assertEqual(leaky.in_close_wait(), others)
            rows = reap(leaky.port, "--pid", sound.pid)
            self.assertEqual({rows[port].get("outcome") for port in others}, {"gone"})

    def test_the_sound_one_is_left_alone_by_the_reaper_of_run(self):
        with Owner(shared=True) as leaky, Owner(port=leaky.port, shared=True) as sound:
            _, others = self.pair(leaky, sound)
            with watch(f'["127.0.0.1:{leaky.port}"]', "watch: backends"):
                wait_for(lambda: leaky.in_close_wait() == others, "the leaks are ended, and they alone")


class TheTable(unittest.TestCase):
    def test_explains_each_guard_and_what_overrides_it(self):
        result = lastack("reap", "--explain")
        self.assertEqual((result.status, result.errors), (0, ""))
        for words in ("waiting", "--even-waiting", "unseen", "--even-unseen", "client-side", "--client-side",
                      "sound-owner", "--pid PID", "too-young", "--older-than", "never-accepted"):
            self.assertIn(words, result.output)


if __name__ == "__main__":
    enter_namespace()
    main()
