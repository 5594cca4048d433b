#!/usr/bin/env python3
"""What a client that does not read costs in kernel memory, and what bounding that costs bulk over a long path.

    bench/slow_reader.py --lastack .build/release/lastack [--delay 25] [--megabytes 200] [--peers] [tcp options...]

1. Clients ask for an endless answer and never read, or read 200 MB at full speed and then no more. The memory of all
   sockets on the way (`skmem` of ss(8)) is added up, and that of the proxy's two legs by itself.
2. Bulk goes through the proxy over a path whose round trip takes --delay ms, first on the leg to the server, then on the
   leg to the client, and with --delay 0 on both.

Each in network namespaces of its own, so as root. The path is a process that carries packets from one TUN device to
another, each after its delay. Behind the options: `key=value` for `tcp:` of both sides, as `receive_buffer=off`.
"""

import argparse
import collections
import contextlib
import ctypes
import fcntl
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
MTU = 9000


def sh(command):
    subprocess.run(["sh", "-ec", command], check=True)


def new_namespace():
    """Moves this thread into a network namespace of its own; a descriptor of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare: needs root")
    sh("ip link set lo up")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter(namespace):
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def tun(name, address):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    sh(f"ip addr add {address} dev {name}; ip link set {name} up mtu {MTU} txqueuelen 20000")
    return fd


def carry(ends, delay_s):
    """Each packet that one end gives goes into the other after the delay. Ends with its parent."""
    poll = select.poll()
    queues = (collections.deque(), collections.deque())
    for fd in ends:
        poll.register(fd, select.POLLIN)
    while os.getppid() != 1:
        now = time.monotonic()
        due = [queue[0][0] for queue in queues if queue]
        wait_ms = 1000 if not due else max(0.0, (min(due) - now) * 1000)
        poll.poll(wait_ms)
        now = time.monotonic()
        for i in range(2):
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    queues[i].append((now + delay_s, os.read(ends[i], MTU + 100)))
            while queues[i] and queues[i][0][0] <= now:
                with contextlib.suppress(OSError):
                    os.write(ends[1 - i], queues[i].popleft()[1])


class LongPath:
    """Two namespaces and a path between them: 10.9.0.1 in `near`, 10.9.0.2 in `far`."""

    def __init__(self, delay_ms):
        self.far = new_namespace()
        far_end = tun("path", "10.9.0.2/24")
        self.near = new_namespace()
        near_end = tun("path", "10.9.0.1/24")
        self.pid = os.fork()
        if self.pid == 0:
            carry((near_end, far_end), delay_ms / 2000)
            os._exit(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        # The namespaces go with their last descriptor.


class Source:
    """Sends `size` bytes to whoever connects, None without end, and closes."""

    def __init__(self, host, size=None):
        self.listener = socket.create_server((host, 0), backlog=512)
        self.address = "%s:%d" % self.listener.getsockname()
        self.size = size
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        piece = b"x" * (1 << 18)
        left = self.size
        with connection, contextlib.suppress(OSError):
            while left is None or left > 0:
                left = None if left is None else left - len(piece)
                connection.sendall(piece)


@contextlib.contextmanager
def lastack(program, listen, server, options):
    tcp = "{" + ", ".join("%s: %s" % tuple(option.split("=", 1)) for option in options) + "}"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(f"workers: 1\nlog: {{level: warning}}\n"
                   f"frontends: [{{name: f, listen: '{listen}', backend: b, tcp: {tcp}}}]\n"
                   f"backends: [{{name: b, servers: ['{server}'], tcp: {tcp}}}]\n")
        file.flush()
        process = subprocess.Popen([program, "run", "-c", file.name], stderr=subprocess.DEVNULL)
        try:
            yield wait_listening(listen)
        finally:
            process.kill()
            process.wait()


HAPROXY = """\
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen l
  bind {listen}
  server s {server}
"""
NGINX = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so; daemon off; master_process off; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 4000; }}
stream {{ server {{ listen {listen}; proxy_pass {server}; }} }}
"""


@contextlib.contextmanager
def peer(command, text, listen, server):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.format(listen=listen, server=server, folder=folder))
        process = subprocess.Popen([word.format(path=path) for word in command], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            yield wait_listening(listen)
        finally:
            process.kill()
            process.wait()


def wait_listening(address):
    host, port = address.rsplit(":", 1)
    for _ in range(500):
        found = subprocess.run(["ss", "-Htln", f"sport = :{port}"], capture_output=True, text=True, check=True)
        if found.stdout:
            return address
        time.sleep(0.01)
    raise AssertionError(f"nobody listens on {address}")


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 20)


def read(client, size):
    buffer = bytearray(1 << 20)
    while size > 0:
        n = client.recv_into(buffer)
        if n == 0:
            raise AssertionError(f"{size} bytes are missing")
        size -= n


def kernel_memory():
    """Bytes that the kernel holds for each established socket of this namespace: (local, peer) -> (read, write)."""
    text = subprocess.run(["ss", "-Htnmp", "state", "established"], capture_output=True, text=True, check=True).stdout
    found = {}
    for row in re.finditer(r"^\s*\d+\s+\d+\s+(\S+)\s+(\S+).*?\n\s*skmem:\((\S+?)\)", text, re.M):
        fields = dict(re.findall(r"([a-z]+)(\d+)", row.group(3)))
        found[row.group(1), row.group(2)] = (int(fields["r"]), int(fields["w"]) + int(fields["t"]))
    return found


def settled():
    """Once it does not grow any more."""
    before = -1
    for _ in range(200):
        rows = kernel_memory()
        total = sum(map(sum, rows.values()))
        if total == before:
            return rows
        before = total
        time.sleep(0.5)
    return rows


def slow_readers(front, count, proxied, server, first):
    """MB a client: on the whole way, and in the proxy's legs by itself. Each reads `first` bytes, then no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            read(stack.enter_context(connect(front)), first)
        rows = settled()
    whole = sum(map(sum, rows.values()))
    legs = [sum(size) for (local, remote), size in rows.items() if proxied and (local == front or remote == server)]
    return whole / count / 1e6, sum(legs) / count / 1e6


def print_slow_readers(arguments):
    new_namespace()
    source = Source("127.0.0.1")
    contestants = [("direct", None)]
    contestants.append(("lastack", lambda: lastack(arguments.lastack, "127.0.0.1:21000", source.address, arguments.tcp)))
    if arguments.peers:
        contestants.append(("haproxy", lambda: peer(["haproxy", "-db", "-f", "{path}"], HAPROXY, "127.0.0.1:21001",
                                                    source.address)))
        contestants.append(("nginx", lambda: peer(["nginx", "-c", "{path}"], NGINX, "127.0.0.1:21002",
                                                  source.address)))
    print(f"{'a client that does not read':32}{'all sockets, MB':>16}{'the proxy, MB':>16}")
    for name, start in contestants:
        with start() if start else contextlib.nullcontext(source.address) as front:
            for title, first in (("", 0), (", then read", 200 << 20)):
                whole, legs = slow_readers(front, arguments.clients, start is not None, source.address, first)
                print(f"{name + title:32}{whole:16.2f}{legs:16.2f}", flush=True)
                time.sleep(1)


def bulk(address, size):
    """Seconds that it takes to receive so many bytes."""
    begin = time.monotonic()
    with connect(address) as client:
        read(client, size)
    return time.monotonic() - begin


def long_path(arguments, which):
    """Seconds, direct and through the proxy; `which` leg is long."""
    size = arguments.megabytes << 20
    with LongPath(arguments.delay) as path:
        enter(path.far)
        source = Source("10.9.0.2", size)
        enter(path.near if which == "server" else path.far)
        listen = "10.9.0.1:21000" if which == "server" else "10.9.0.2:21000"
        with lastack(arguments.lastack, listen, source.address, arguments.tcp) as front:
            enter(path.near)
            direct, proxied = [], []
            for _ in range(arguments.rounds):
                direct.append(bulk(source.address, size))
                proxied.append(bulk(front, size))
    return sorted(direct)[arguments.rounds // 2], sorted(proxied)[arguments.rounds // 2]


def print_long_paths(arguments):
    print(f"\nround trip of {arguments.delay} ms{'direct, MB/s':>36}{'through, MB/s':>16}")
    for which in ("server", "client"):
        direct, proxied = long_path(arguments, which)
        size = arguments.megabytes << 20
        print(f"{'the leg to the ' + which + ' is long':38}{size / direct / 1e6:16.1f}{size / proxied / 1e6:16.1f}",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lastack", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--delay", type=float, default=25, help="ms, there and back")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="HAProxy and nginx too")
    parser.add_argument("tcp", nargs="*", help="key=value of `tcp:`, both sides")
    arguments = parser.parse_args()
    arguments.lastack = os.path.abspath(arguments.lastack)
    print_slow_readers(arguments)
    print_long_paths(arguments)


if __name__ == "__main__":
    sys.exit(main())
