#!/usr/bin/env python3
"""What the proxy gives up once it serves, and what it may do no more, as /proc shows it for each thread."""

import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from harness import LASTACK, Process, wait_for

USER = "daemon"  # every Debian has it
CAPABILITIES = {"dac_read_search": 2, "net_admin": 12, "sys_ptrace": 19}
IS_SANITIZED = bool(os.environ.get("LASTACK_SANITIZE"))


def threads(pid):
    """Of each thread, what its status says: {"CapEff": ..., ...}."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        rows = (task / "status").read_text().splitlines()
        found.append({key: value.strip() for key, value in (row.split(":", 1) for row in rows)})
    return found


def mask(*names):
    return f"{sum(1 << CAPABILITIES[name] for name in names):016x}"


@unittest.skipIf(os.geteuid() != 0, "only root has something to give up")
class Privileges(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, top="", before=(), listen="127.0.0.1:0"):
        """A proxy before the test's server, once it listens; top: rows for the top of its file."""
        port = self.server.getsockname()[1]
        text = (f"{top}\nfrontends: [{{name: web, listen: ['{listen}'], backend: service}}]\n"
                f"backends: [{{name: service, servers: ['127.0.0.1:{port}']}}]\n")
        pathlib.Path(self.path("conf.yaml")).write_text(text)
        proxy = Process([LASTACK, "run", "-c", self.path("conf.yaml")], before=before)
        self.addCleanup(proxy.stop)
        self.port = int(proxy.wait_for_line(r"msg=listening .*address=\S+:(\d+)").group(1))
        return proxy

    def serve_one(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"ping")
            leg, _ = self.server.accept()
            with leg:
                self.assertEqual(leg.recv(4), b"ping")
                leg.sendall(b"pong")
                self.assertEqual(client.recv(4), b"pong")

    def check(self, proxy, kept):
        """Ids, groups and capabilities of every thread: `kept` for all but the workers, who keep none."""
        user = pwd.getpwnam(USER)
        workers = 0
        for status in threads(proxy.pid):
            self.assertEqual(status["Uid"].split(), [str(user.pw_uid)] * 4)
            self.assertEqual(status["Gid"].split(), [str(user.pw_gid)] * 4)
            self.assertEqual(status["Groups"], "")
            self.assertEqual(status["CapInh"], mask())
            self.assertEqual(status["CapBnd"], mask())
            self.assertEqual(status["CapAmb"], mask())
            self.assertEqual(status["CapPrm"], status["CapEff"])
            self.assertIn(status["CapEff"], (kept, mask()))
            self.assertEqual(status["NoNewPrivs"], "1")
            if not IS_SANITIZED:
                self.assertEqual(status["Seccomp"], "2")
                is_worker = status.get("Seccomp_filters", "2") == "2"
                workers += is_worker
                self.assertEqual(status["CapEff"], mask() if is_worker else kept)
        self.assertTrue(IS_SANITIZED or workers > 0)

    def test_report_keeps_nothing(self):
        proxy = self.start(f"user: {USER}")
        line = proxy.wait_for_line("msg=privileges .*").group(0)
        self.assertRegex(line, rf'user={USER} kept=none unseen="which programs of other users')
        self.serve_one()
        self.check(proxy, mask())

    def test_each_action_keeps_what_it_needs(self):
        look = ("dac_read_search", "sys_ptrace")
        for action, kept in (("finish", look), ("destroy", (*look, "net_admin")), ("ladder", (*look, "net_admin"))):
            with self.subTest(action):
                proxy = self.start(f"user: {USER}\nreaper: {{action: {action}}}")
                self.assertIn(f"kept={','.join(kept)}", proxy.wait_for_line("msg=privileges .*").group(0))
                self.serve_one()
                self.check(proxy, mask(*kept))
                proxy.stop()

    def test_a_leak_of_another_user_is_finished_after_the_drop(self):
        """Under the filter, and by what is kept: one user's proxy ends what another user's program leaks."""
        leak = Process([LASTACK, "leak", "--mode=never-close", "--listen=127.0.0.1:0"],
                       before=["setpriv", "--reuid=bin", "--regid=bin", "--clear-groups"])
        self.addCleanup(leak.stop)
        port = int(leak.wait_for_line(r"127\.0\.0\.1:(\d+)").group(1))
        socket.create_connection(("127.0.0.1", port)).close()
        proxy = self.start(f"user: {USER}\nreaper: {{watch: [{port}], interval: 100ms, older_than: 200ms, "
                           "action: finish}")
        proxy.wait_for_line(r"msg=leak_ended .*rung=finish verified=gone")
        proxy.stop()

    def test_nothing_is_kept_when_nothing_is_watched(self):
        proxy = self.start(f"user: {USER}\nreaper: {{watch: off, action: ladder}}")
        self.assertTrue(proxy.wait_for_line("msg=privileges .*").group(0).endswith("kept=none"))
        self.check(proxy, mask())

    def test_a_low_port_is_served_after_the_drop(self):
        """In a network namespace of the test's own, where nobody else has the port."""
        script = ("ip link set lo up && echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start && "
                  "exec env INNER=1 \"$@\"")
        if not os.environ.get("INNER"):
            subprocess.run(["unshare", "-n", "sh", "-c", script, "sh", sys.executable, __file__, self.id()[9:]],
                           check=True)
            return
        proxy = self.start(f"user: {USER}", listen="127.0.0.1:80")
        self.assertEqual(self.port, 80)
        self.serve_one()
        self.check(proxy, mask())

    def test_root_that_stays_root_is_warned_of(self):
        proxy = self.start()
        proxy.wait_for_line("warning: the proxy would stay root; `user: lastack`")
        proxy.wait_for_line("level=warning msg=privileges user=root kept=all")
        self.serve_one()

    def test_another_user_hears_nothing_of_it(self):
        proxy = self.start(before=["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
                                   "--inh-caps=-all", "--bounding-set=-all"])
        self.serve_one()
        proxy.stop()
        self.assertNotRegex("\n".join(proxy.lines), "privileges|root|capab" + ("" if IS_SANITIZED else "|seccomp"))

    def test_capabilities_of_another_user_are_given_up(self):
        proxy = self.start(before=["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
                                   "--inh-caps=+net_admin,+net_bind_service",
                                   "--ambient-caps=+net_admin,+net_bind_service"])
        self.assertRegex(proxy.wait_for_line("msg=privileges .*").group(0), r"user=\d+ kept=none")
        for status in threads(proxy.pid):
            self.assertEqual((status["CapEff"], status["CapPrm"], status["CapInh"], status["CapAmb"]), (mask(),) * 4)

    def test_a_user_that_is_not_there_is_refused(self):
        proxy = Process([LASTACK, "run", "--user=nosuchuser", "--listen=127.0.0.1:0", "--backend=127.0.0.1:9"])
        self.assertEqual(proxy.wait(), 1)
        proxy.wait_for_line("this host has no user nosuchuser; make it by adduser")

    def test_nobody_and_root_are_no_users(self):
        for name, why in (("nobody", "other programs run as nobody too"), ("root", "gives nothing up")):
            done = subprocess.run([LASTACK, "check", f"--user={name}", "--listen=127.0.0.1:0",
                                   "--backend=127.0.0.1:9"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn(why, done.stderr)

    def test_the_log_is_the_users_and_is_opened_again(self):
        target = self.path("lines")
        pathlib.Path(target).touch()
        os.chown(target, pwd.getpwnam(USER).pw_uid, -1)
        proxy = self.start_logging(target)
        os.rename(target, target + ".1")
        pathlib.Path(target).touch()
        os.chown(target, pwd.getpwnam(USER).pw_uid, -1)
        proxy.signal(signal.SIGHUP)
        inode = os.stat(target).st_ino
        wait_for(lambda: inode in {os.stat(fd).st_ino for fd in pathlib.Path(f"/proc/{proxy.pid}/fd").iterdir()},
                 "the new file in use")
        proxy.terminate()
        self.assertEqual(proxy.wait(), 0)
        self.assertIn("msg=stopped", pathlib.Path(target).read_text())

    def test_a_new_log_belongs_to_the_user(self):
        target = self.path("lines")
        self.start_logging(target)
        self.assertEqual(os.stat(target).st_uid, pwd.getpwnam(USER).pw_uid)
        self.assertNotIn("log_not_reopenable", pathlib.Path(target).read_text())

    def test_a_log_that_can_not_be_opened_again_is_said(self):
        target = self.path("lines")
        pathlib.Path(target).touch(0o600)
        self.start_logging(target)
        wait_for(lambda: "msg=log_not_reopenable" in pathlib.Path(target).read_text(), "a warning")

    def start_logging(self, target):
        proxy = Process([LASTACK, "run", f"--user={USER}", f"--log-target={target}", "--listen=127.0.0.1:0",
                         "--backend=127.0.0.1:9"])
        self.addCleanup(proxy.stop)
        wait_for(lambda: os.path.exists(target) and "msg=listening" in pathlib.Path(target).read_text(), "a start")
        return proxy

    def test_a_log_is_not_opened_through_a_link_of_others(self):
        shared = self.path("shared")
        os.mkdir(shared)
        os.chmod(shared, 0o1777)
        os.symlink(self.path("elsewhere"), os.path.join(shared, "lines"))
        proxy = Process([LASTACK, "run", f"--log-target={shared}/lines", "--listen=127.0.0.1:0",
                         "--backend=127.0.0.1:9"])
        self.assertEqual(proxy.wait(), 1)
        proxy.wait_for_line("a symbolic link is not followed out of a folder that others may write to")
        self.assertFalse(os.path.exists(self.path("elsewhere")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
