"""A sink that does not read stops its source, in bounded memory, and no byte is lost when it goes on."""

import hashlib
import threading
import time
import unittest

from harness import Proxy, Server, connect, descriptor_count, main, memory_kib, wait_for

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


if __name__ == "__main__":
    main()
