"""Servers that are names: whom a silent name service holds up, and names that lead back to the proxy."""
import contextlib
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BOUND_S, Proxy, main, wait_for

# Takes the port of the name service and says nothing; becomes the proxy then.
SILENT = ("import os, socket, sys; port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
          "port.bind(('127.0.0.1', 53)); port.set_inheritable(True); os.execv(sys.argv[1], sys.argv[1:])")


@contextlib.contextmanager
def files(hosts, switch):
    """A command that runs another with these names, in a network and with files of its own."""
    with contextlib.ExitStack() as stack:
        paths = []
        for text in (hosts, switch, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n"):
            file = stack.enter_context(tempfile.NamedTemporaryFile("w"))
            file.write(text)
            file.flush()
            paths.append(file.name)
        setup = ("ip link set lo up && " +
                 " && ".join(f"mount --bind {path} /etc/{name}"
                             for path, name in zip(paths, ("hosts", "nsswitch.conf", "resolv.conf"))) +
                 " && exec \"$@\"")
        yield ["unshare", "--net", "--mount", "sh", "-c", setup, "sh"]


def inside(proxy, program, *arguments):
    """What a Python program prints that runs in the proxy's network."""
    run = subprocess.run(["nsenter", "--net", "--target", str(proxy.process.pid), sys.executable, "-c", program,
                          *map(str, arguments)], capture_output=True, text=True, timeout=4 * BOUND_S, check=False)
    return run.stdout.strip() or run.stderr.strip()


ASK = """
import socket, sys, time
began = time.monotonic()
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.settimeout(60)
try:
    client.sendall(b"x")
    said = client.recv(1)
    print("answered" if said else "closed", time.monotonic() - began)
except ConnectionError:
    print("refused", time.monotonic() - began)
"""

SERVE = """
import socket, sys
port = socket.create_server(("127.0.0.1", 9000))
print("listens", flush=True)
while True:
    client, _ = port.accept()
    client.sendall(client.recv(1))
    client.close()
"""


class Names(unittest.TestCase):
    def skip_unless_possible(self, command):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            self.skipTest("files can't be mounted over others here")

    def test_a_silent_name_service_holds_up_no_other_frontend_and_its_own_not_for_ever(self):
        text = """
frontends:
  - {name: named, listen: ['127.0.0.1:8001'], backend: named}
  - {name: plain, listen: ['127.0.0.1:8002'], backend: plain}
backends:
  - {name: named, servers: ['service.test:9000'], resolve_interval: off}
  - {name: plain, servers: ['127.0.0.1:9000']}
"""
        with files("127.0.0.1 localhost\n", "hosts: dns\n") as command:
            self.skip_unless_possible(command)
            with Proxy.from_file(text, before=[*command, sys.executable, "-c", SILENT]) as proxy:
                service = subprocess.Popen(["nsenter", "--net", "--target", str(proxy.process.pid), sys.executable,
                                            "-c", SERVE], stdout=subprocess.PIPE, text=True)
                self.addCleanup(service.stdout.close)
                self.addCleanup(service.wait)
                self.addCleanup(service.kill)
                self.assertEqual(service.stdout.readline(), "listens\n")
                self.assertEqual(inside(proxy, ASK, 8002).split()[0], "answered")
                self.assertFalse([line for line in proxy.lines if "not_resolved" in line], "it came later")
                self.assertEqual(inside(proxy, ASK, 8001).split()[0], "refused")
                proxy.wait_for_line(r"\bmsg\W+not_resolved\b")
                wait_for(lambda: [each for each in proxy.sessions if each["frontend"] == "named"
                                  and each["reason"] == "connect_failed"], "the session's line")

    def test_silent_names_hold_up_no_name_that_is_answered(self):
        silent = ", ".join(f"'silent{number}.test:9000'" for number in range(3))
        text = f"""
frontends: [{{name: known, listen: ['127.0.0.1:8001'], backend: known}},
            {{name: silent, listen: ['127.0.0.1:8002'], backend: silent}}]
backends:
  - {{name: silent, servers: [{silent}]}}
  - {{name: known, servers: ['known.test:9000']}}
"""
        with files("127.0.0.1 known.test\n", "hosts: files dns\n") as command:
            self.skip_unless_possible(command)
            with Proxy.from_file(text, before=[*command, sys.executable, "-c", SILENT]) as proxy:
                self.assertEqual(inside(proxy, ASK, 8001).split()[0], "refused")  # nobody serves, so it was tried
                self.assertFalse([line for line in proxy.lines if "not_resolved" in line], "it came later")

    def test_a_name_that_leads_back_is_not_used_and_that_is_said_once(self):
        text = """
frontends: [{name: main, listen: ['127.0.0.1:8001'], backend: main}]
backends: [{name: main, servers: ['me.test:8001'], resolve_interval: 1s}]
"""
        with files("127.0.0.1 me.test\n", "hosts: files\n") as command:
            self.skip_unless_possible(command)
            with Proxy.from_file(text, before=command) as proxy:
                proxy.wait_for_line(r"\bmsg\W+leads_back\b")
                self.assertEqual(inside(proxy, ASK, 8001).split()[0], "refused")
                wait_for(lambda: proxy.sessions, "the session ends")
                time.sleep(2.5)  # the name is asked for again meanwhile
                self.assertEqual(len(proxy.sessions), 1)
                self.assertEqual(len([line for line in proxy.lines if "leads_back" in line]), 1)

    def test_an_address_of_this_host_behind_a_listener_on_all_of_them_does_not_take_all_descriptors(self):
        text = """
workers: 1
frontends: [{name: main, listen: ['0.0.0.0:8001'], backend: main}]
backends: [{name: main, servers: ['10.77.0.1:8001']}]
"""
        with files("127.0.0.1 localhost\n", "hosts: files\n") as command:
            self.skip_unless_possible(command)
            given = ["sh", "-c", "ip address add 10.77.0.1/32 dev lo && exec \"$@\"", "sh"]
            with Proxy.from_file(text, before=[*command, *given]) as proxy:
                self.assertEqual(inside(proxy, ASK, 8001).split()[0], "refused")
                proxy.wait_for_line(r"\bmsg\W+leads_back\b")
                self.assertEqual(inside(proxy, ASK, 8001).split()[0], "refused")
                wait_for(lambda: len(proxy.sessions) >= 3, "the sessions end")
                self.assertLess(len(proxy.sessions), 10)


if __name__ == "__main__":
    main()
