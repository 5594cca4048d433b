"""Real clients and servers of Debian's packages go through unharmed."""

import contextlib
import filecmp
import glob
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BOUND_S, Leak, Process, Proxy, connect, main, unused_port, wait_for

MIB = 1 << 20
GIB_MIB = 1024
POSTGRES_PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]


def run(*command, **options):
    """The standard output of a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, timeout=5 * BOUND_S, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]!r}\n"
                             f"{done.stderr[-2000:]!r}")
    return done.stdout


def accepts(port):
    try:
        connect(f"127.0.0.1:{port}", timeout_s=5).close()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def service(command, port, **options):
    """A server in the foreground, once it accepts."""
    with Process(command, **options) as process:
        wait_for(lambda: accepts(port) or process.process.poll() is not None, f"{command[0]} accepts")
        if process.process.poll() is not None:
            raise AssertionError(f"{command} ended:\n" + "\n".join(process.lines))
        yield process


class RealClients(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.directory.chmod(0o755)

    def proxy(self, port):
        """A proxy before that port, whose sessions at the end are all found to have ended in order."""
        proxy = self.enterContext(Proxy(f"127.0.0.1:{port}", "--half-close", "10s"))
        self.addCleanup(self.all_ended_in_order, proxy)
        return proxy

    def all_ended_in_order(self, proxy):
        reasons = {session["reason"] for session in proxy.sessions}
        self.assertLessEqual(reasons, {"closed", "client_reset", "backend_reset", "drain"})

    def a_file(self, size):
        path = self.directory / f"file-{size}"
        path.write_bytes(os.urandom(size))
        return path


class NetcatAndCurl(RealClients):
    def test_nc_half_closes_and_gets_its_answer(self):
        data = self.a_file(20 * MIB)
        with Leak("healthy") as leak:
            proxy = self.proxy(leak.port)
            with data.open("rb") as source:
                echo = run("nc", "-N", "127.0.0.1", str(proxy.port), stdin=source)
            self.assertEqual(echo, data.read_bytes())
            (session,) = proxy.wait_for_sessions(1)
            self.assertEqual((session["reason"], session["first_fin"]), ("closed", "client"))

    def test_curl(self):
        with Leak("healthy", "--http", "--response", "100000B") as leak:
            url = f"http://127.0.0.1:{self.proxy(leak.port).port}/"
            upload = f"@{self.a_file(20 * MIB)}"
            for arguments in ([url], ["--http1.0", url], ["-H", "Connection: close", url], [url, url, url],
                              ["--data-binary", upload, url], ["-T", upload[1:], url],
                              ["-H", "Transfer-Encoding: chunked", "-T", upload[1:], url]):
                output = run("curl", "-sS", "--fail", *arguments)
                self.assertEqual(len(output), 100000 * arguments.count(url), arguments)
            self.assertIn(b"Content-Length: 100000", run("curl", "-sS", "--head", url))


class Nginx(RealClients):
    def test_download_of_one_gib(self):
        port = unused_port()
        content = self.directory / "content"
        content.mkdir()
        digest = hashlib.sha256()
        with (content / "large").open("wb") as large:
            for index in range(GIB_MIB):  # mostly holes; a piece that is lost, doubled or misplaced shows
                stamp = index.to_bytes(8, "big")
                large.seek(index * MIB)
                large.write(stamp)
                digest.update(stamp + bytes(MIB - len(stamp)))
            large.truncate(GIB_MIB * MIB)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(f"""\
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
pid {self.directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {self.directory}/b; proxy_temp_path {self.directory}/p;
  fastcgi_temp_path {self.directory}/f; scgi_temp_path {self.directory}/s; uwsgi_temp_path {self.directory}/u;
  server {{ listen 127.0.0.1:{port}; root {content}; }}
}}
""")
        with service(["nginx", "-e", "stderr", "-c", str(configuration)], port):
            url = f"http://127.0.0.1:{self.proxy(port).port}/large"
            with subprocess.Popen(["curl", "-sS", "--fail", url], stdout=subprocess.PIPE) as curl:
                received = hashlib.sha256()
                while piece := curl.stdout.read(MIB):
                    received.update(piece)
            self.assertEqual(curl.returncode, 0)
            self.assertEqual(received.hexdigest(), digest.hexdigest())
            self.assertEqual(len(run("curl", "-sS", "--fail", "-r", "1048570-1048589", url)), 20)


class Redis(RealClients):
    def test_cli_and_benchmark(self):
        port = unused_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
                   "--dir", str(self.directory)]
        with service(command, port):
            through = ("-h", "127.0.0.1", "-p", str(self.proxy(port).port))
            value = self.a_file(5 * MIB).read_bytes()
            self.assertEqual(run("redis-cli", *through, "ping"), b"PONG\n")
            run("redis-cli", *through, "-x", "set", "key", input=value)
            self.assertEqual(run("redis-cli", *through, "get", "key"), value + b"\n")
            piped = b"".join(b"SET key%d %d\r\n" % (number, number) for number in range(20000))
            self.assertIn(b"replies: 20000", run("redis-cli", *through, "--pipe", input=piped))
            report = run("redis-benchmark", *through, "-q", "-n", "20000", "-c", "50", "-t", "set,get,lrange_100")
            self.assertEqual(len(re.findall(rb"requests per second", report)), 4, report)
            run("redis-benchmark", *through, "-q", "-n", "20000", "-P", "16", "-t", "get")
            run("redis-benchmark", *through, "-q", "-n", "500", "-k", "0", "-t", "ping")


class Postgres(RealClients):
    def setUp(self):
        super().setUp()
        self.assertTrue(POSTGRES_PROGRAMS, "postgresql is not installed; tests/install.sh names it")
        # The server refuses to be run by root.
        self.as_user = []
        if os.geteuid() == 0:
            self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.cluster = self.directory / "cluster"
        self.cluster.mkdir()
        if self.as_user:
            shutil.chown(self.cluster, "postgres", "postgres")

    def program(self, name):
        return f"{POSTGRES_PROGRAMS[0]}/{name}"

    def test_psql_and_pgbench(self):
        port = unused_port()
        run(*self.as_user, self.program("initdb"), "-D", str(self.cluster), "-U", "tester", "-A", "trust", "-N",
            cwd="/")
        command = [*self.as_user, self.program("postgres"), "-D", str(self.cluster), "-p", str(port),
                   "-k", "", "-h", "127.0.0.1", "-F"]
        with service(command, port, cwd="/"):
            proxy = self.proxy(port)
            through = ("-h", "127.0.0.1", "-p", str(proxy.port), "-U", "tester")
            wait_for(lambda: subprocess.run(["psql", *through, "-d", "postgres", "-c", "select 1"],
                                            capture_output=True, check=False).returncode == 0, "it is up")
            run("pgbench", *through, "-i", "-s", "2", "-q", "postgres")
            report = run("pgbench", *through, "-c", "8", "-t", "200", "postgres")
            self.assertIn(b"number of transactions actually processed: 1600/1600", report)
            report = run("pgbench", *through, "-C", "-c", "4", "-t", "25", "-S", "postgres")
            self.assertIn(b"number of transactions actually processed: 100/100", report)
            rows = run("psql", *through, "-d", "postgres", "-c", "copy pgbench_accounts to stdout")
            self.assertEqual(rows.count(b"\n"), 200000)
            copied = run("psql", *through, "-d", "postgres", "-c", "create table copy (like pgbench_accounts)",
                         "-c", "copy copy from stdin", input=rows)
            self.assertIn(b"COPY 200000", copied)


class Rsync(RealClients):
    def test_daemon_up_and_down(self):
        port = unused_port()
        module, source, back = (self.directory / name for name in ("module", "source", "back"))
        for directory in (module, source, back):
            directory.mkdir()
        for number in range(300):
            (source / f"small-{number}").write_bytes(os.urandom(number * 37))
        (source / "large").write_bytes(os.urandom(50 * MIB))
        configuration = self.directory / "rsyncd.conf"
        owner = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
        configuration.write_text(f"use chroot = no\npid file = {self.directory}/rsyncd.pid\n{owner}"
                                 f"[data]\npath = {module}\nread only = no\n")
        command = ["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}",
                   f"--config={configuration}", "--log-file=/dev/stderr"]
        with service(command, port):
            url = f"rsync://127.0.0.1:{self.proxy(port).port}/data/"
            run("rsync", "-a", f"{source}/", url)
            run("rsync", "-a", url, f"{back}/")
            with (source / "large").open("r+b") as large:
                large.seek(10 * MIB)
                large.write(b"changed")
            run("rsync", "-a", "--checksum", f"{source}/", url)
            run("rsync", "-az", "--checksum", url, f"{back}/")
            names = os.listdir(source)
            self.assertEqual(filecmp.cmpfiles(source, back, names, shallow=False), (names, [], []))


if __name__ == "__main__":
    main()
