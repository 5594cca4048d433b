#!/usr/bin/env python3
"""How many system calls a proxied request or connection costs: lastack beside its peers.

Counts do not depend on how busy the machine is. Each contestant of compare.py stands before the same nginx
backend while strace(1) counts the calls of its process and threads; clients ask in lockstep, CLIENTS at a time, so
that the proxy meets the same batches in every run. Printed are calls a unit; with --calls also which ones.

    count.py --lastack .build/release/lastack [--http] [--only short,lastack] [--calls]

Needs strace, haproxy and nginx with its stream module. Exit status: 0; 1 when a contestant failed at a row; 2 for
wrong usage.
"""

import argparse
import collections
import contextlib
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import compare

CLIENTS = 16


def receive_answer(client):
    """One response to its end: its head says how long it is."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = client.recv(65536)
        if not more:
            raise RuntimeError("cut short: no head")
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    left = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1]) - len(body)
    while left > 0:
        more = client.recv(left)
        if not more:
            raise RuntimeError("cut short: no body")
        left -= len(more)


def connect_all(port, count):
    return [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]


def keep_alive(port, units):
    """Requests over connections that stay. Yields when the clients are connected and warm, and at the end."""
    request = b"GET /small HTTP/1.1\r\nHost: backend\r\nUser-Agent: count\r\nAccept: */*\r\n\r\n"
    clients = connect_all(port, CLIENTS)
    for part in (1, units // CLIENTS):
        for _ in range(part):
            for client in clients:
                client.sendall(request)
            for client in clients:
                receive_answer(client)
        yield part * CLIENTS
    for client in clients:
        client.close()


def short(port, units):
    """A connection a request, closed by the client once it has its answer."""
    request = b"GET /small HTTP/1.0\r\nHost: backend\r\nUser-Agent: count\r\nAccept: */*\r\n\r\n"
    for part in (1, units // CLIENTS):
        for _ in range(part):
            clients = connect_all(port, CLIENTS)
            for client in clients:
                client.sendall(request)
            for client in clients:
                receive_answer(client)
                if client.recv(1):
                    raise RuntimeError("bytes behind the response")
            for client in clients:
                client.close()
        yield part * CLIENTS


ROWS = {"small": ("a keep-alive request", keep_alive), "short": ("a connection", short)}


@contextlib.contextmanager
def traced(pid, path):
    """strace attached to every process of the proxy; its summary is in the file once this is over."""
    pids = [argument for member in compare.family(pid) for argument in ("-p", str(member))]
    tracer = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-o", str(path), *pids],
                              stderr=subprocess.PIPE, text=True)
    for _ in compare.family(pid):
        while "attached" not in (line := tracer.stderr.readline()):
            if not line:
                raise RuntimeError("strace could not attach")
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)


def counted(path):
    """{call: count} of strace's summary."""
    found = re.findall(r"^\s*([a-z_0-9]+)\s+(\d+)\s*$", path.read_text(), re.M)
    return {name: int(count) for name, count in found if name != "total"}


def measure(contestant, work, units, directory):
    summary = directory / "strace.out"
    with compare.running(contestant.fill(contestant.command, directory), contestant.port,
                         directory / (contestant.name + ".log")) as pid:
        steps = work(contestant.port, units)
        next(steps)
        with traced(pid, summary):
            done = next(steps)
        for _ in steps:
            pass
    return {call: count / done for call, count in counted(summary).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lastack", type=compare.program, help="path of the binary")
    parser.add_argument("--http", action="store_true", help="count what follows HTTP instead of TCP")
    parser.add_argument("--only", default="", help="names of contestants and rows, comma-separated")
    parser.add_argument("--units", type=int, default=1600, help="requests or connections a row")
    parser.add_argument("--port", type=int, default=24000, help="first port")
    parser.add_argument("--calls", action="store_true", help="say which calls")
    parser.set_defaults(shape=None, also=[])
    arguments = parser.parse_args()
    missing = [tool for tool in ("strace", "haproxy", "nginx") if not shutil.which(tool)]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    everything = compare.contestants(arguments)
    only = set(filter(None, arguments.only.split(",")))
    known = {contestant.name for contestant in everything} | set(ROWS)
    if only - known:
        parser.error(f"--only: {', '.join(sorted(only - known))} is unknown; allowed are {', '.join(sorted(known))}")
    chosen = [contestant for contestant in everything if contestant.name in only] or everything
    rows = [name for name in ROWS if name in only] or list(ROWS)
    failed = False
    with tempfile.TemporaryDirectory(prefix="count.") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        for number, contestant in enumerate(chosen):
            contestant.backend, contestant.port = arguments.port, arguments.port + 1 + number
            (directory / (contestant.name + ".conf")).write_text(contestant.fill(contestant.config, directory))
        backend_conf = directory / "backend.conf"
        backend_conf.write_text(compare.NGINX_BACKEND.format(dir=directory, backend=arguments.port))
        with compare.running(f"nginx -p {directory} -c {backend_conf}", arguments.port, directory / "backend.out"):
            for row in rows:
                unit, work = ROWS[row]
                print(f"{row}: system calls {unit}")
                for contestant in chosen:
                    try:
                        calls = measure(contestant, work, arguments.units, directory)
                    except (RuntimeError, OSError) as error:
                        print(f"count: {contestant.name}, {row}: {error}", file=sys.stderr)
                        failed = True
                        continue
                    print(f"       {contestant.name:<18}{sum(calls.values()):7.2f}")
                    for call, count in collections.Counter(calls).most_common() if arguments.calls else []:
                        if count >= 0.005:
                            print(f"              {call:<18}{count:7.2f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
