"""What leaks in real software, and what `lastack doctor` says of it: each the right verdict, and the right next command.

Node, Java, PostgreSQL and Python from Debian; a service that isn't installed is skipped, and named.
"""

import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from harness import BOUND_S, main, sockets, wait_for
from leaks import enter_namespace, lastack, older_than

NODE = """
const server = require('net').createServer({allowHalfOpen: true}, socket => {
  socket.on('error', () => {});
  socket.on('end', () => {});
  socket.resume();
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""

# Its main thread waits in a futex while others accept, and answer who sends something; who closes is forgotten.
JAVA = """
import java.net.*;
public class Leak {
    static java.util.List<Socket> kept = new java.util.concurrent.CopyOnWriteArrayList<>();
    public static void main(String[] arguments) throws Exception {
        ServerSocket listener = new ServerSocket(0, 100, InetAddress.getByName("127.0.0.1"));
        Thread acceptor = new Thread(() -> {
            try {
                while (true) {
                    Socket socket = listener.accept();
                    kept.add(socket);
                    new Thread(() -> {
                        try {
                            for (int i = 0; i < 1000000 && socket.getInputStream().read() >= 0; i++)
                                socket.getOutputStream().write('!');
                        } catch (Exception error) {
                        }
                    }).start();
                }
            } catch (Exception error) {
            }
        });
        acceptor.start();
        System.out.println(listener.getLocalPort());
        acceptor.join();
    }
}
"""

# A worker that asks another service before it answers, and reads nothing meanwhile.
ASKS = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(connection):
    connection.recv(1024)
    behind = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    behind.sendall(b"question")
    connection.sendall(behind.recv(1024))
    connection.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],)).start()
"""

SILENT = """
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(listener.accept()[0])
"""


def installed(name):
    return unittest.skipUnless(shutil.which(name), f"{name} is not installed; tests/install.sh names it")


class Service(unittest.TestCase):
    """Programs that print their port, in a folder that goes with the test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, *command):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, process)
        return process, int(process.stdout.readline())

    def end(self, process):
        process.kill()
        process.wait(BOUND_S)
        process.stdout.close()

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def leave(self, port, count, data=b""):
        """Clients that say something, and close."""
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for client in clients:
            client.sendall(data)
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
            client.close()

    def judged(self, port, *options):
        report = lastack("doctor", "--port", port, "--json", "--for", "500ms", *options).json["ports"][0]
        report["evidence"] = "\n".join(line for verdict in report["verdicts"] for line in verdict["evidence"])
        return report


class Runtimes(Service):
    @installed("node")
    def test_node_that_keeps_half_open_sockets(self):
        process, port = self.start("node", self.file("leak.js", NODE))
        self.leave(port, 5, b"x")
        older_than(1, port, 5)
        report = self.judged(port)
        self.assertEqual((report["diagnosis"], report["owner"]["pid"]), ("program-error", process.pid))
        self.assertIn("leak.js", report["owner"]["known_as"])
        self.assertTrue(report["next"].startswith(f"lastack reap --port {port}"), report["next"])

    @installed("java")
    def test_java_that_serves_others_is_not_stuck(self):
        process, port = self.start("java", self.file("Leak.java", JAVA))
        self.leave(port, 4)
        live = socket.create_connection(("127.0.0.1", port))
        self.addCleanup(live.close)
        older_than(1, port, 4)
        report = self.judged(port)
        self.assertEqual((report["diagnosis"], report["close_wait"]), ("program-error", 4))
        self.assertNotIn("futex", report["evidence"])
        self.assertIn("Leak.java", report["owner"]["known_as"])
        process.send_signal(signal.SIGSTOP)
        report = self.judged(port)
        self.assertEqual((report["diagnosis"], report["next"]), ("stuck", f"kill -CONT {process.pid}"))
        process.send_signal(signal.SIGCONT)

    def test_python_that_waits_for_another_service(self):
        silent, behind = self.start(sys.executable, "-c", SILENT)
        asks, port = self.start(sys.executable, "-c", ASKS, behind)
        self.leave(port, 5, b"GET / HTTP/1.0\r\n\r\n")
        older_than(2, port, 5)
        report = self.judged(port)
        self.assertEqual((report["diagnosis"], report["owner"]["pid"]), ("upstream", asks.pid), report)
        self.assertIn(f"5 of its own connections to 127.0.0.1:{behind}", report["evidence"])
        self.assertIn(f"(pid {silent.pid}, sleeping)", report["evidence"])
        self.assertEqual(report["next"], f"lastack doctor --port {behind}")

    def test_python_that_does_not_read_is_looked_at_with_py_spy(self):
        process, port = self.start(sys.executable, "-c", SILENT)
        self.leave(port, 3, b"x")
        older_than(1, port, 3)
        report = self.judged(port)
        self.assertEqual((report["diagnosis"], report["next"]), ("stuck", f"py-spy dump --pid {process.pid}"))


PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]


@unittest.skipUnless(PROGRAMS and os.geteuid() == 0, "postgresql is not installed, or this is not root")
class PostgreSql(Service):
    def setUp(self):
        super().setUp()
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.folder.chmod(0o755)
        cluster = self.folder / "cluster"
        cluster.mkdir()
        shutil.chown(cluster, "postgres", "postgres")
        subprocess.run([*self.as_user, f"{PROGRAMS[0]}/initdb", "-D", str(cluster), "--auth=trust", "--no-sync"],
                       check=True, capture_output=True, timeout=BOUND_S)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        server = subprocess.Popen([*self.as_user, f"{PROGRAMS[0]}/postgres", "-D", str(cluster), "-p", str(self.port),
                                   "-k", str(cluster), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
                                  stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait, BOUND_S)
        self.addCleanup(server.send_signal, signal.SIGQUIT)
        wait_for(lambda: self.psql("select 1").returncode == 0, "it serves")

    def command(self, query):
        return ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-At", "-c", query]

    def psql(self, query):
        return subprocess.run(self.command(query), capture_output=True, check=False, timeout=BOUND_S)

    def backends(self):
        output = self.psql("select pid from pg_stat_activity where query like 'select pg_sleep%'").stdout
        return sorted(map(int, output.split()))

    def test_abandoned_queries_and_stopped_backends(self):
        clients = [subprocess.Popen(self.command("select pg_sleep(600)")) for _ in range(3)]
        pids = wait_for(lambda: len(self.backends()) == 3 and self.backends(), "they run")
        for client in clients:
            client.kill()
            client.wait(BOUND_S)
        older_than(1, self.port, 3)
        report = self.judged(self.port)
        self.assertEqual(report["diagnosis"], "abandoned-query", json.dumps(report))
        self.assertIn("client_connection_check_interval", report["evidence"])
        self.assertTrue(all(f"pg_terminate_backend({pid})" in report["next"] for pid in pids), report["next"])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        report = self.judged(self.port)
        self.assertEqual(report["diagnosis"], "stuck")
        self.assertEqual(sorted(map(int, report["next"].removeprefix("kill -CONT ").split())), pids)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not sockets("state close-wait", f"sport = :{self.port}"), "they end")


if __name__ == "__main__":
    enter_namespace()
    main()
