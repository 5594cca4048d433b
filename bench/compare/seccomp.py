#!/usr/bin/env python3
"""What the filters of system calls cost: the proxy's CPU time for a connection with one request, with
`seccomp: on` and off in turn. Noise only adds to it, so the least of all rounds are compared. LASTACK names the binary.

    unshare -n sh -c 'ip link set lo up; python3 bench/compare/seccomp.py'
"""

import os
import pathlib
import socket
import statistics
import subprocess
import threading

LASTACK = os.environ.get("LASTACK", ".build/release/lastack")
ROUNDS = 24
CONNECTIONS = 2000


def serve(server):
    while True:
        leg, _ = server.accept()
        with leg:
            leg.sendall(leg.recv(64))


def exchange(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"ping")
        assert client.recv(64) == b"ping"


def cpu_ns(pid):
    """Time on a processor of all its threads, /proc/PID/task/TID/schedstat."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def measure(seccomp, backend):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = subprocess.Popen([LASTACK, "run", "--workers=1", "--log-normal=off", f"--seccomp={seccomp}",
                              f"--listen=127.0.0.1:{port}", f"--backend=127.0.0.1:{backend}"],
                             stderr=subprocess.PIPE, text=True)
    while "msg=listening" not in proxy.stderr.readline():
        pass
    for _ in range(200):
        exchange(port)
    before = cpu_ns(proxy.pid)
    for _ in range(CONNECTIONS):
        exchange(port)
    used = cpu_ns(proxy.pid) - before
    proxy.terminate()
    proxy.communicate()
    return used / CONNECTIONS / 1000


def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    backend = server.getsockname()[1]
    used = {"on": [], "off": []}
    for number in range(ROUNDS):
        for seccomp in ("on", "off") if number % 2 else ("off", "on"):
            used[seccomp].append(measure(seccomp, backend))
    for seccomp, each in used.items():
        print(f"{seccomp}: least {min(each):.1f} us, median {statistics.median(each):.1f} us")
    print(f"on / off: least {min(used['on']) / min(used['off']):.3f}, "
          f"median {statistics.median(used['on']) / statistics.median(used['off']):.3f}")



main()
