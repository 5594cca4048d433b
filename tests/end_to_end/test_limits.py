"""Limits: max_connections, and running out of descriptors without spinning or dropping what is established."""

import contextlib
import os
import pathlib
import selectors
import subprocess
import time
import unittest

from harness import BOUND_S, Leak, Proxy, connect, descriptor_count, main, sockets, wait_for


def is_answered(client, timeout_s=None):
    """Whether the echo comes; a session that was refused is reset."""
    if timeout_s:
        client.settimeout(timeout_s)
    try:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError, TimeoutError):
        return False


def cpu_s(pid):
    """CPU time that the process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class MaxConnections(unittest.TestCase):
    def test_bounds_what_reaches_the_backend_and_room_is_used_again(self):
        with Leak("healthy") as leak, Proxy(leak.address, "--max-connections", "5", "--workers", "2") as proxy, \
                contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(proxy.address)) for _ in range(5)]
            for client in clients:
                self.assertTrue(is_answered(client))
            surplus = [stack.enter_context(connect(proxy.address)) for _ in range(10)]
            self.assertFalse(any(is_answered(client, timeout_s=0.2) for client in surplus))
            self.assertEqual(len(sockets("state established", f"sport = :{leak.port}")), 5)
            for client in clients + surplus:
                client.close()
            wait_for(lambda: not sockets("state established", f"sport = :{leak.port}"), "all have left")
            with connect(proxy.address) as client:
                self.assertTrue(is_answered(client))


def waiting(proxy):
    """Connections in the proxy's backlogs."""
    return sum(row.receive_queue for row in sockets("state listening", f"sport = :{proxy.port}"))


class OutOfDescriptors(unittest.TestCase):
    def check(self, leak, proxy, run_out):
        with contextlib.ExitStack() as stack:
            established = [stack.enter_context(connect(proxy.address)) for _ in range(10)]
            for client in established:
                self.assertTrue(is_answered(client))
            run_out()
            flood = []
            for _ in range(300):
                with contextlib.suppress(ConnectionResetError):  # accepted, with no descriptor left for more
                    flood.append(stack.enter_context(connect(proxy.address)))
            wait_for(lambda: waiting(proxy) or len(flood) < 300, "the limit is met")
            before = cpu_s(proxy.pid)
            time.sleep(3)  # no condition to wait for: the test is that nothing happens
            self.assertLess(cpu_s(proxy.pid) - before, 1.5, "it spins")
            for client in established:
                self.assertTrue(is_answered(client), "an established session was dropped")
            for client in flood:
                client.close()
            for client in established:
                self.assertTrue(is_answered(client))
            wait_for(lambda: self.answers(proxy), "new sessions are served again")

    @staticmethod
    def answers(proxy):
        try:
            with connect(proxy.address) as client:
                return is_answered(client, timeout_s=5)
        except ConnectionResetError:
            return False

    def test_a_low_limit_leaves_established_sessions_alone(self):
        with Leak("healthy") as leak, \
                Proxy(leak.address, "--workers", "2", before=["prlimit", "--nofile=80:80"]) as proxy:
            self.check(leak, proxy, run_out=lambda: None)

    def test_a_limit_met_unawares_leaves_established_sessions_alone(self):
        """The limit is lowered behind the proxy's back, as a descriptor leak elsewhere would: real EMFILE."""
        with Leak("healthy") as leak, Proxy(leak.address, "--workers", "2") as proxy:
            def lower():
                # A new descriptor is the lowest free number; leave room for three.
                limit = descriptor_count(proxy.pid) + 3
                subprocess.run(["prlimit", "--pid", str(proxy.pid), f"--nofile={limit}:{limit}"], check=True)
            self.check(leak, proxy, run_out=lower)

    def test_few_descriptors_are_not_spent_on_refusing(self):
        file = ("frontends:\n- {{name: f, listen: '127.0.0.1:0', backend: b, mode: http, http: {{over_limit: refuse}}}}\n"
                "backends:\n- {{name: b, servers: ['{}']}}\n")
        with Leak("healthy", "--http") as leak, \
                Proxy.from_file(file.format(leak.address), before=["prlimit", "--nofile=80:80"]) as proxy, \
                contextlib.ExitStack() as stack:
            sessions = int(proxy.wait_for_line(r"msg=started .*sessions_max=(\d+)").group(1))
            self.assertEqual(sessions, 20)
            clients = [stack.enter_context(connect(proxy.address)) for _ in range(100)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for client in clients:
                self.assertTrue(client.recv(12).startswith(b"HTTP/1.1 200"))
            proxy.wait_for_line(r"msg=accept_paused .*reason=descriptors")

    def test_waiting_clients_are_served_as_room_comes(self):
        with Leak("healthy") as leak, Proxy(leak.address, before=["prlimit", "--nofile=80:80"]) as proxy, \
                selectors.DefaultSelector() as selector:
            clients = [connect(proxy.address) for _ in range(200)]
            for client in clients:
                client.sendall(b"x")
                selector.register(client, selectors.EVENT_READ)
            served = 0
            while selector.get_map():
                ready = selector.select(BOUND_S)
                self.assertTrue(ready, f"{len(selector.get_map())} clients wait for ever")
                for key, _ in ready:
                    self.assertEqual(key.fileobj.recv(1), b"x")
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    served += 1
            self.assertEqual({session["reason"] for session in proxy.wait_for_sessions(served)}, {"closed"})


if __name__ == "__main__":
    main()
