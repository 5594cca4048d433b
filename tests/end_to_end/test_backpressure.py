"""A sink that does not read stops its source, in bounded memory, and no byte is lost when it goes on."""

import contextlib
import hashlib
import re
import subprocess
import threading
import time
import unittest

from harness import Proxy, Server, connect, descriptor_count, main, memory_kib, receive_exactly, wait_for

SESSIONS = 40
PIECE = bytes(range(256)) * 256
# What a half may hold; generous, the proxy's own bound is lower. Not what the kernel holds for it.
HELD_KIB = 512


class Flood:
    """Sends until it can't: `stuck` is true when not a byte was taken for a second."""

    def __init__(self, connection):
        self.connection = connection
        self.sent_bytes = 0
        self.digest = hashlib.sha256()
        self.stop = False
        self.changed_at = time.monotonic()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stop:
            self.connection.sendall(PIECE)
            self.digest.update(PIECE)
            self.sent_bytes += len(PIECE)
            self.changed_at = time.monotonic()
        self.connection.shutdown(1)

    @property
    def stuck(self):
        return self.sent_bytes > 0 and time.monotonic() - self.changed_at > 1


def digest_of_all(connection):
    digest, length = hashlib.sha256(), 0
    while piece := connection.recv(1 << 18):
        digest.update(piece)
        length += len(piece)
    return digest.digest(), length


class Backpressure(unittest.TestCase):
    def check(self, backend_reads):
        """Many floods towards a side that does not read yet; then it reads everything."""
        go_on = threading.Event()
        floods, results, lock = [], [], threading.Lock()

        def flood(connection):
            flood_now = Flood(connection)
            with lock:
                floods.append(flood_now)
            return flood_now

        def read_late(connection):
            go_on.wait()
            result = digest_of_all(connection)
            with lock:
                results.append(result)

        def backend(connection):
            if backend_reads:
                read_late(connection)
            else:
                flood(connection).thread.join()

        def client(connection):
            if backend_reads:
                flood(connection).thread.join()
            else:
                read_late(connection)

        with Server(backend) as server, Proxy(server.address, "--write-stall", "off") as proxy:
            before_kib = memory_kib(proxy.pid)
            clients = [connect(proxy.address, receive_buffer=16384) for _ in range(SESSIONS)]
            threads = [threading.Thread(target=client, args=(each,)) for each in clients]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(floods) == SESSIONS and all(each.stuck for each in floods),
                     "backpressure reaches every source")
            grown_kib = memory_kib(proxy.pid) - before_kib
            print(f"{SESSIONS} halves held: {grown_kib} KiB of user memory, "
                  f"{descriptor_count(proxy.pid)} descriptors, {floods[0].sent_bytes >> 10} KiB taken of one flood")
            self.assertLess(grown_kib, SESSIONS * HELD_KIB)
            for each in floods:
                each.stop = True
            go_on.set()
            for thread in threads:
                thread.join()
            wait_for(lambda: len(results) == SESSIONS, "every half is read to its end")
            for each in clients:
                each.close()
            self.assertEqual(sorted(results), sorted((f.digest.digest(), f.sent_bytes) for f in floods))
            self.assertEqual({session["reason"] for session in proxy.wait_for_sessions(SESSIONS)}, {"closed"})

    def test_of_a_backend_that_does_not_read(self):
        self.check(backend_reads=True)

    def test_of_clients_that_do_not_read(self):
        self.check(backend_reads=False)


CONFIG = """\
frontends: [{{name: main, listen: ['127.0.0.1:0'], backend: service, tcp: {tcp}}}]
backends: [{{name: service, servers: ['{server}'], tcp: {tcp}}}]
"""
READ_FIRST = 64 << 20
# Of one session, in both legs' queues: what receive_buffer and send_buffer below allow, and half as much again, for a
# receive buffer may overflow by what was on its way, and a send queue also has what is not acknowledged.
QUEUED_KIB = (512 + 256) * 3 // 2


def queued_kib(pid):
    """What the kernel holds for the established sockets of the process (skmem in ss(8))."""
    text = subprocess.run(["ss", "-Htnmp", "state", "established"], check=True, capture_output=True, text=True).stdout
    rows = re.findall(rf"pid={pid},.*?skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f\d+,w(\d+),", text, re.S)
    return sum(int(size) for row in rows for size in row) >> 10


class KernelMemory(unittest.TestCase):
    def test_of_a_client_that_read_fast_and_then_no_more(self):
        """Its windows are open as far as they go when it stops."""
        def serve(connection):
            with contextlib.suppress(ConnectionError):
                while True:
                    connection.sendall(PIECE)

        tcp = "{receive_buffer: 524288, send_buffer: 262144}"
        with Server(serve) as server, Proxy.from_file(CONFIG.format(server=server.address, tcp=tcp)) as proxy, \
                connect(proxy.address) as client:
            receive_exactly(client, READ_FIRST)
            seen = []

            def settled():
                seen.append(queued_kib(proxy.pid))
                return len(seen) > 20 and len(set(seen[-20:])) == 1

            wait_for(settled, "the queues do not grow any more")
            print(f"{seen[-1]} KiB in the queues of a session whose client does not read")
            self.assertGreater(seen[-1], 0)
            self.assertLess(seen[-1], QUEUED_KIB)


if __name__ == "__main__":
    main()
