"""Each file of conf/recipes is fine, and real software, where it is at hand, goes through it unharmed."""

import glob
import importlib.util
import os
import pathlib
import pwd
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import (BOUND_S, LASTACK, ROOT, Process, Proxy, Server, connect, main, receive_all,
                     unused_port, wait_for)

RECIPES = {path.stem: path for path in sorted((ROOT / "conf" / "recipes").glob("*.yaml"))}
MINIMAL = ROOT / "conf" / "minimal.yaml"


def accepts(port):
    try:
        connect(f"127.0.0.1:{port}", timeout_s=5).close()
        return True
    except OSError:
        return False


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout[-2000:]!r} {done.stderr[-2000:]!r}")
    return done.stdout


class Files(unittest.TestCase):
    def test_all_are_fine_without_a_warning(self):
        self.assertEqual(set(RECIPES), {"event-stream", "grpc", "http", "postgresql", "redis", "smtp", "ssh", "websocket"})
        for path in [MINIMAL, *RECIPES.values()]:
            done = subprocess.run([LASTACK, "check", "-c", str(path), "--user", "daemon"], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), path)

    def test_the_smallest_has_eight_lines(self):
        self.assertEqual(len(MINIMAL.read_text(encoding="utf-8").splitlines()), 8)


class Exchanges(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def proxy(self, name, port):
        """The recipe before that port of this host, on a port of the kernel's choice."""
        text = RECIPES[name].read_text(encoding="utf-8")
        text = re.sub(r"listen: \[.*?\]", "listen: ['127.0.0.1:0']", text)
        return self.enterContext(Proxy.from_file(re.sub(r"servers: \[.*?\]", f"servers: ['127.0.0.1:{port}']", text)))

    def service(self, command, port):
        process = self.enterContext(Process(command))
        wait_for(lambda: accepts(port) or process.process.poll() is not None, f"{command[0]} accepts")
        self.assertIsNone(process.process.poll(), process.lines)
        return process

    def test_redis_subscribers_wait_and_are_told(self):
        port = unused_port()
        self.service(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)],
                     port)
        proxy = self.proxy("redis", port)
        here = ["redis-cli", "-p", str(proxy.port)]
        with Process([*here, "SUBSCRIBE", "news"]) as subscriber:
            subscriber.wait_for_line("subscribe")
            self.assertEqual(run(*here, "PUBLISH", "news", "hello").strip(), b"1")
            subscriber.wait_for_line("hello")

    def test_http_by_nginx_and_curl(self):
        port = unused_port()
        (self.folder / "page").write_text("a page", encoding="ascii")
        configuration = self.folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(f"daemon off; {user} pid {self.folder}/pid; events {{}} http {{ access_log off; "
                                 f"client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; "
                                 f"fastcgi_temp_path {self.folder}/f; scgi_temp_path {self.folder}/s; "
                                 f"uwsgi_temp_path {self.folder}/u; "
                                 f"server {{ listen 127.0.0.1:{port}; root {self.folder}; }} }}", encoding="ascii")
        self.service(["nginx", "-e", "stderr", "-c", str(configuration)], port)
        url = f"http://127.0.0.1:{self.proxy('http', port).port}/page"
        self.assertEqual(run("curl", "-sS", "--fail", url, url), b"a page" * 2)

    def test_an_event_stream_is_silent_and_goes_on_and_ends_with_its_client(self):
        gone, more = threading.Event(), threading.Event()

        def stream(connection):
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            more.wait(BOUND_S)
            connection.sendall(b"data: 2\n\n")
            try:
                receive_all(connection)
            except ConnectionResetError:
                pass
            gone.set()

        with Server(stream) as server:
            proxy = self.proxy("event-stream", server.port)
            client = connect(proxy.address)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            head = b""
            while b"data: 1" not in head:
                head += client.recv(4096)
            more.set()
            while b"data: 2" not in head:
                head += client.recv(4096)
            client.close()
            self.assertTrue(gone.wait(BOUND_S), "the backend is told that its client has left")

    def test_postgresql_and_a_query_in_silence(self):
        port, cluster = unused_port(), self.folder / "cluster"
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.folder.chmod(0o755)
        cluster.mkdir()
        as_user = []
        if os.geteuid() == 0:  # which the server refuses to be run by
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(cluster, "postgres", "postgres")
        run(*as_user, f"{programs}/initdb", "-D", str(cluster), "-U", "tester", "-A", "trust", "-N", cwd="/")
        self.service([*as_user, f"{programs}/postgres", "-D", str(cluster), "-p", str(port), "-k", "", "-h", "127.0.0.1",
                      "-F"], port)
        proxy = self.proxy("postgresql", port)
        psql = ["psql", "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "tester", "-d", "postgres", "-At", "-c"]
        wait_for(lambda: subprocess.run([*psql, "select 1"], capture_output=True, check=False).returncode == 0, "it is up")
        self.assertEqual(run(*psql, "select 'slept' from pg_sleep(1)").strip(), b"slept")

    def test_smtp(self):
        if not importlib.util.find_spec("smtpd"):
            self.skipTest("this Python has no smtpd any more")
        port = unused_port()
        server = self.service([sys.executable, "-W", "ignore", "-u", "-m", "smtpd", "-n", "-c", "DebuggingServer",
                               f"127.0.0.1:{port}"], port)
        with smtplib.SMTP("127.0.0.1", self.proxy("smtp", port).port, timeout=BOUND_S) as client:
            client.sendmail("a@example.org", ["b@example.org"], "Subject: x\r\n\r\nHello there\r\n")
        server.wait_for_line("Hello there")

    def test_ssh_and_git(self):
        port, key, host_key = unused_port(), self.folder / "key", self.folder / "host_key"
        user = pwd.getpwuid(os.geteuid()).pw_name
        for path in (key, host_key):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
        (self.folder / "keys").write_text(key.with_suffix(".pub").read_text(encoding="ascii"), encoding="ascii")
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # as its unit does
        options = [f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={host_key}", "StrictModes=no", "UsePAM=no",
                   f"AuthorizedKeysFile={self.folder}/keys", "PidFile=none", "PermitRootLogin=yes"]
        self.service(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *[f"-o{option}" for option in options]], port)
        proxy = self.proxy("ssh", port)
        ssh = ["ssh", "-F", "/dev/null", "-p", str(proxy.port), "-i", str(key), "-oStrictHostKeyChecking=no", "-oBatchMode=yes",
               "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR"]
        try:
            self.assertEqual(run(*ssh, f"{user}@127.0.0.1", "cat", input=b"x" * 100000), b"x" * 100000)
        except AssertionError as error:
            if "account is locked" in str(error) or "Permission denied" in str(error):
                self.skipTest("nobody may log in here")
            raise
        source, copy = self.folder / "source", self.folder / "copy"
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        run("git", "init", "-q", str(source))
        run("git", *who, "-C", str(source), "commit", "-q", "--allow-empty", "-m", "first")
        run("git", "clone", "-q", f"ssh://{user}@127.0.0.1{source}", str(copy),
            env=os.environ | {"GIT_SSH_COMMAND": " ".join(ssh)})
        self.assertEqual(run("git", "-C", str(copy), "log", "--format=%s").strip(), b"first")


if __name__ == "__main__":
    main()
