"""Nothing outlives its session: after 50,000 of them descriptors and memory are where they began."""

import multiprocessing
import os
import socket
import unittest

from harness import Leak, Proxy, connect, descriptor_count, main, memory_kib, receive_exactly, reset, wait_for

SESSIONS = 50000
WARM_UP = 4000
CLIENTS = 2
# Pages that an allocator keeps of one high-water mark or another; not what 50,000 sessions would leave.
SLACK_KIB = 1024
IS_SANITIZED = bool(os.environ.get("LASTACK_SANITIZE"))  # whose allocator keeps what was freed, on purpose


def one_session(address, number):
    """A session that ends in one of the ways in which clients end them."""
    client = connect(address)
    way = number % 4
    if way != 0:
        client.sendall(b"x" * (1 + number % 3000))
        receive_exactly(client, 1 + number % 3000)
    if way == 1:
        reset(client)
        return
    if way == 2:
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
    client.close()


def many_sessions(address, first, count):
    for number in range(first, first + count):
        one_session(address, number)


def run_sessions(address, count):
    context = multiprocessing.get_context("spawn")
    share = count // CLIENTS
    workers = [context.Process(target=many_sessions, args=(address, index * share, share))
               for index in range(CLIENTS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            raise AssertionError("a client failed")


class Soak(unittest.TestCase):
    def test_descriptors_and_memory_return(self):
        with Leak("healthy") as leak, Proxy(leak.address, "--half-close", "2s", "--workers", "2") as proxy:
            idle = descriptor_count(proxy.pid)
            run_sessions(proxy.address, WARM_UP)
            proxy.wait_for_sessions(WARM_UP)
            wait_for(lambda: descriptor_count(proxy.pid) == idle, "descriptors return after the warm-up")
            before_kib = memory_kib(proxy.pid)
            run_sessions(proxy.address, SESSIONS)
            proxy.wait_for_sessions(WARM_UP + SESSIONS, bound_s=300)
            wait_for(lambda: descriptor_count(proxy.pid) == idle,
                     lambda: f"{idle} descriptors, there are {descriptor_count(proxy.pid)}")
            after_kib = memory_kib(proxy.pid)
            print(f"{SESSIONS} sessions: {idle} descriptors before and after, "
                  f"memory {before_kib} KiB before, {after_kib} KiB after")
            if not IS_SANITIZED:
                self.assertLessEqual(after_kib, before_kib + SLACK_KIB)
            self.assertEqual(len(proxy.sessions) + proxy.dropped_lines, WARM_UP + SESSIONS)
            reasons = {session["reason"] for session in proxy.sessions}
            self.assertLessEqual(reasons, {"closed", "client_reset"})

    def test_a_thousand_at_once_leave_no_more_behind_than_one(self):
        with Leak("never-close") as leak, Proxy(leak.address, "--half-close", "1s") as proxy:
            idle = descriptor_count(proxy.pid)
            for _ in range(5):
                clients = [connect(proxy.address) for _ in range(1000)]
                for client in clients:
                    client.sendall(b"x")
                for client in clients:
                    receive_exactly(client, 1)
                    client.close()
            proxy.wait_for_sessions(5000)
            wait_for(lambda: descriptor_count(proxy.pid) == idle,
                     lambda: f"{idle} descriptors, there are {descriptor_count(proxy.pid)}")


if __name__ == "__main__":
    main()
