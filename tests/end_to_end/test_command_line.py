"""What every command says of itself, and of what it can't do: where, what was found, what is allowed."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import unittest

from harness import BOUND_S, LASTACK, Proxy, Server, inodes_of, main, receive_all, sockets, unused_port, wait_for

COMMANDS = ["run", "check", "demo", "bench", "conform", "leak", "scan", "reap", "doctor"]
ROUTE = ["--listen", "127.0.0.1:0", "--backend", "127.0.0.1:9000"]

GOOD = """\
deadlines: {half_close: 10s}
frontends:
  - name: api
    listen: ['127.0.0.1:8080', '[::1]:8080']
    backend: service
    deadlines: {idle: off}
backends:
  - name: service
    servers: ['127.0.0.1:9000', '127.0.0.1:9001']
"""


def lastack(*arguments, **options):
    return subprocess.run([LASTACK, *arguments], capture_output=True, text=True, timeout=BOUND_S, check=False,
                          stdin=subprocess.DEVNULL, **options)


def messages(log):
    return re.findall(r"msg=(\w+)", log.read_text())


# `check` warns of a proxy that would stay root.
NOT_ROOT = ["--user", "daemon"] if os.geteuid() == 0 else []


class Case(unittest.TestCase):
    def refused(self, status, words, *arguments):
        """Ends with that status and nothing on stdout; stderr has the words."""
        result = lastack(*arguments)
        self.assertEqual((result.returncode, result.stdout), (status, ""), (arguments, result))
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, result.stderr, arguments)
        return result

    def file(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "lastack.yaml"
        path.write_text(text)
        return str(path)


class Program(Case):
    def test_version_is_the_one_that_cmake_has(self):
        result = lastack("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^lastack \d+\.\d+\.\d+\n$")

    def test_help_lists_every_command(self):
        for word in ("--help", "help"):
            result = lastack(word)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(re.findall(r"^  (\w+) ", result.stdout, re.MULTILINE), COMMANDS)

    def test_without_a_command_it_says_which_there_are(self):
        self.refused(2, COMMANDS)

    def test_a_command_that_there_is_not(self):
        self.refused(2, "there is no command 'restart'", "restart")

    def test_every_command_has_help(self):
        for command in COMMANDS:
            result = lastack(command, "--help")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertTrue(result.stdout.startswith(f"Usage: lastack {command} "), result.stdout)
            if command != "leak":  # which runs until it is told to end
                self.assertIn("Exit status:", result.stdout)

    def test_every_command_refuses_what_is_no_option_of_its(self):
        for command in COMMANDS:
            self.refused(2, [f"lastack {command}: ", "--frobnicate"], command, "--frobnicate")
            if command in ("scan", "doctor"):  # takes a port or a program
                self.refused(1, [f"lastack {command}: ", "'stray'"], command, "stray")
            elif command != "reap":  # takes one too, and wants a port first
                self.refused(2, [f"lastack {command}: ", "'stray'"], command, "stray")

    def test_output_that_cannot_be_written_is_a_failure(self):
        doctor = ["doctor", "--for", "100ms"]
        for command in (["scan"], ["scan", "--json"], doctor, [*doctor, "--json"]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                run = subprocess.run([LASTACK, *command], stdout=full, stderr=subprocess.PIPE, text=True,
                                     timeout=BOUND_S, check=False)
            self.assertEqual(run.returncode, 1, command)


class Run(Case):
    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            says = f"lastack run: {address}: address already in use; {self.name()} (pid {os.getpid()}) listens there\n"
            self.refused(1, says, "run", "--listen", address, "--backend", "127.0.0.1:9000")

    def test_a_port_that_is_used_on_any_address_is_named(self):
        with socket.create_server(("", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            self.refused(1, f"(pid {os.getpid()}) listens there", "run", "--listen", address,
                         "--backend", "127.0.0.1:9000")

    def test_a_path_in_use_is_named(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as other:
            other.bind(f"{folder}/socket")
            other.listen()
            self.refused(1, f"address already in use; {self.name()} (pid {os.getpid()}) listens there\n",
                         "run", "--listen", f"unix:{folder}/socket", "--backend", "127.0.0.1:9000")

    @staticmethod
    def name():
        return pathlib.Path("/proc/self/comm").read_text(encoding="ascii").strip()

    def test_a_backend_that_nobody_serves_is_said(self):
        with socket.create_server(("127.0.0.1", 0)) as served, socket.create_server(("::1", 0), family=socket.AF_INET6) as v6:
            good = [f"127.0.0.1:{served.getsockname()[1]}", f"[::1]:{v6.getsockname()[1]}", "192.0.2.1:80"]
            bad = f"127.0.0.1:{unused_port()}"
            with Proxy(",".join([*good, bad])) as proxy:
                proxy.wait_for_line(f"level=warning msg=nobody_listens backend=main server={bad}")
                self.assertEqual([line for line in proxy.lines if "nobody_listens" in line and bad not in line], [])

    def test_a_port_in_use_leaves_none_of_the_others_open(self):
        with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as free:
            taken, ours = other.getsockname()[1], free.getsockname()[1]
            free.close()
            self.refused(1, f"127.0.0.1:{taken}", "run", "--listen", f"127.0.0.1:{ours},127.0.0.1:{taken}",
                         "--backend", "127.0.0.1:9000")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", ours))

    def test_an_address_that_this_host_does_not_have(self):
        self.refused(1, "lastack run: 192.0.2.1:8080: ", "run", "--listen", "192.0.2.1:8080",
                     "--backend", "127.0.0.1:9000")

    def test_a_file_that_cannot_be_read(self):
        self.refused(2, "/nonexistent.yaml: cannot be read: No such file", "run", "-c", "/nonexistent.yaml")
        self.refused(2, "/tmp: cannot be read: Is a directory", "run", "-c", "/tmp")

    def test_a_configuration_is_refused_whole_with_all_its_places(self):
        path = self.file(GOOD.replace("backend: service", "backend: elsewhere").replace("idle: off", "idel: 3s"))
        for command in ("run", "check"):
            self.refused(2, [f"{path}:5:14: frontends[0].backend: found 'elsewhere'",
                             f"{path}:6:17: frontends[0].deadlines.idel: found an unknown key; did you mean 'idle'?"],
                         command, "-c", path)

    def test_options_say_what_is_allowed(self):
        for arguments, words in ((["--listen", "here"], ["--listen: found 'here'; allowed: ", "127.0.0.1:8080"]),
                                 (["--half-close", "30"], ["--half-close: found '30'; allowed: ", "30s"]),
                                 (["--mode", "ftp"], ["--mode: found 'ftp'; allowed: tcp or http"]),
                                 (["--workers", "0"], ["--workers: found '0'; allowed: "])):
            self.refused(2, words, "run", *ROUTE, *arguments)

    def test_an_option_of_the_file_is_no_flag_and_says_so(self):
        for flag, path in (("--check", "backends[].check"), ("--balance=leastconn", "backends[].balance"),
                           ("--set-aside", "backends[].set_aside"), ("--over-limit", "frontends[].http.over_limit")):
            self.refused(2, [f"{flag.partition('=')[0]} is no flag; it stands in a file, as {path}: lastack run -c FILE"],
                         "run", *ROUTE, flag)
        self.refused(2, "unrecognized option '--nonsense'", "run", *ROUTE, "--nonsense")

    def test_a_url_is_no_address(self):
        for flag in ("--listen", "--backend"):
            self.refused(2, "an address has no scheme and no path; what is spoken there is said by mode: http or tcp",
                         "run", *ROUTE, flag, "http://127.0.0.1:9000/")

    def test_without_a_route_it_says_what_is_missing(self):
        self.refused(2, ["--listen: found nothing", "--backend: found nothing"], "run")

    def test_a_log_that_cannot_be_opened(self):
        self.refused(1, "log.target: /nonexistent/log: no such file", "run", *ROUTE, "--log-target", "/nonexistent/log")

    def test_too_few_descriptors_are_said_and_no_abort(self):
        for limit in range(5, 30):
            before = ["prlimit", f"--nofile={limit}:{limit}", LASTACK, "run", *ROUTE, "--workers", "1", *NOT_ROOT]
            with subprocess.Popen(before, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                said = process.stderr.readline()
                process.terminate()
                said += process.stderr.read()
            self.assertIn(process.returncode, (0, 1, -signal.SIGTERM), (limit, said))
            if re.search("^lastack run: .*too many open files", said):
                self.assertIn("raise the limit of open files (ulimit -n, LimitNOFILE=)", said)
            if limit <= 16:
                self.assertIn(f"may open no more than {limit} files", said)

    def test_without_0_1_and_2_nothing_is_taken_for_them(self):
        shell = f"exec {LASTACK} run --listen 127.0.0.1:0 --backend 127.0.0.1:9 <&- >&- 2>&-"
        with subprocess.Popen(["sh", "-c", shell]) as process:
            def opened():
                return [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]

            def listens():
                return inodes_of(process.pid) & {row.inode for row in sockets("state listening")}

            wait_for(listens, "it listens")
            self.assertEqual(opened(), ["/dev/null"] * 3)
            process.terminate()
            self.assertEqual(process.wait(BOUND_S), 0)

    def test_a_hangup_before_there_is_a_log_ends_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "lastack.yaml"
            os.mkfifo(path)
            command = [LASTACK, "run", "-c", str(path)]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                with path.open("w", encoding="ascii") as file:  # it has begun to read
                    process.send_signal(signal.SIGHUP)
                    file.write("frontends: [{name: f, listen: '127.0.0.1:0', backend: b}]\n"
                               "backends: [{name: b, servers: '127.0.0.1:9'}]\n")
                said = []
                while not said or (said[-1] and "msg=listening" not in said[-1]):
                    said.append(process.stderr.readline())
                process.terminate()
                process.stderr.read()
            self.assertEqual(process.returncode, 0)
            self.assertIn("msg=started", "".join(said))

    def test_a_log_that_is_rotated_is_opened_again(self):
        with tempfile.TemporaryDirectory() as folder, Server(lambda connection: connection.sendall(b"x")) as server:
            path, old = pathlib.Path(folder) / "log", pathlib.Path(folder) / "log.1"
            route = ["--listen", "127.0.0.1:0", "--backend", server.address]
            command = [LASTACK, "run", *route, "--log-target", str(path)]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
                try:
                    found = wait_for(lambda: path.exists() and re.search(r"127\.0\.0\.1:(\d+) back", path.read_text()),
                                     "it listens")
                    for file in (old, path):
                        with socket.create_connection(("127.0.0.1", int(found.group(1)))) as client:
                            client.shutdown(socket.SHUT_WR)
                            self.assertEqual(receive_all(client), b"x")
                        wait_for(lambda: "msg=session" in path.read_text(), "the session is in the log")
                        if file == old:
                            path.rename(old)
                            process.send_signal(signal.SIGHUP)
                            wait_for(path.exists, "there is a new log")
                finally:
                    process.terminate()
                self.assertEqual(process.wait(BOUND_S), 0)
            said = [message for message in messages(old) if message not in ("privileges", "seccomp_off")]
            self.assertEqual(said, ["started", "listening", "session"])
            self.assertEqual(messages(path), ["session", "draining", "stopped"])


class Check(Case):
    def test_what_is_fine_is_summed_up(self):
        result = lastack("check", "-c", self.file(GOOD), *NOT_ROOT)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, "fine: api: 127.0.0.1:8080 [::1]:8080 -> service: 127.0.0.1:9000 "
                                        "127.0.0.1:9001; idle off; half_close 10s\n")

    def test_what_it_prints_is_a_configuration_that_says_the_same(self):
        printed = lastack("check", "--print", "-c", self.file(GOOD))
        self.assertEqual(printed.returncode, 0)
        path = self.file(printed.stdout)
        again = lastack("check", "--print", "-c", path)
        self.assertEqual((again.returncode, again.stdout), (0, printed.stdout))
        self.assertEqual(lastack("check", "-c", path).stdout, lastack("check", "-c", self.file(GOOD)).stdout)

    def test_what_it_prints_can_be_run(self):
        with Server(lambda connection: connection.sendall(b"hello")) as server:
            printed = lastack("check", "--print", "--listen", "127.0.0.1:0", "--backend", server.address)
            with Proxy.from_file(printed.stdout) as proxy, proxy.connect() as client:
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), b"hello")

    def test_a_warning_is_no_refusal(self):
        path = self.file(GOOD + "  - name: spare\n    servers: ['127.0.0.1:9002']\n")
        result = lastack("check", "-c", path, *NOT_ROOT)
        self.assertEqual(result.returncode, 0)
        self.assertIn("fine: api:", result.stdout)
        self.assertEqual(result.stderr, "warning: backend spare: no frontend uses it\n")

    def test_options_are_checked_as_run_does(self):
        for command in ("run", "check"):
            self.refused(2, "--idle: found 'soon'; allowed: ", command, *ROUTE, "--idle", "soon")

    def test_a_file_given_as_a_word_is_told_how(self):
        self.refused(2, "a file is given as -c lastack.yaml", "check", "lastack.yaml")


class Leak(Case):
    def test_wrong_usage_says_what_is_allowed(self):
        for arguments, words in ((["--mode", "leaky"], "--mode: found 'leaky'"),
                                 (["--listen", "9000x"], "allowed: HOST:PORT"),
                                 (["--listen", "unix:/tmp/x"], "only TCP leaks"),
                                 (["--backlog", "-1"], "a number from 0 to 65535"),
                                 (["--interval", "1"], "30s"), (["--interval", "2h"], "--interval: found '2h'"),
                                 (["--response", "big"], "16KiB")):
            self.refused(2, words, "leak", *arguments)

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            self.refused(1, f"lastack leak: cannot listen on {address}: Address already in use",
                         "leak", "--listen", address)


class Demo(Case):
    def test_wrong_usage_says_what_is_allowed(self):
        for arguments, words in ((["--clients", "0"], "a number from 1 to"), (["--duration", "long"], "30s"),
                                 (["--duration", "1ms"], "--duration: found '1ms'"),
                                 (["--duration", "10m", "--clients", "500"], "--duration times --clients")):
            self.refused(2, words, "demo", *arguments)


class Survey(Case):
    """What scan, reap and doctor share they say in the same words."""

    def test_no_option_may_be_cut_short_and_none_is_hidden(self):
        """`--program java` was taken for argp's hidden --program-name, and selected everybody's sockets."""
        for arguments in (["reap", "--program-nam", "java", "--port", "80"], ["reap", "--act", "finish", "--port", "80"],
                          ["reap", "--program-name=x", "--port", "80"], ["scan", "--HANG=1"], ["scan", "--stat=listen"],
                          ["doctor", "--js"], ["check", "--conf", "x"], ["run", "--list", "127.0.0.1:0"]):
            name = arguments[1].partition("=")[0]
            self.refused(2, [f"unrecognized option '{name}'", "none may be cut short"], *arguments)

    def test_ports(self):
        for command in ("scan", "reap", "doctor"):
            for port in ("0", "65536", "http", "80,", "1" * 40):
                self.refused(2, [f"lastack {command}: --port: found ", "allowed: a number from 1 to 65535"],
                             command, "--port", port)
            many = ",".join(map(str, range(1, 258)))
            self.refused(2, f"lastack {command}: --port: at most 256 ports", command, "--port", many)

    def test_ages(self):
        for command in ("scan", "reap"):
            self.refused(2, "--older-than: found '400d'; allowed: at most 365d", command, "--older-than", "400d")


if __name__ == "__main__":
    main()
