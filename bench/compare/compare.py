#!/usr/bin/env python3
"""What a proxied byte, request, connection and idle session cost: lastack beside its peers.

Each contestant in turn stands before the same nginx backend (one worker) and is given the same work; the
turns are repeated in rounds, so that a disturbance of the machine falls on all of them. Counted is the CPU
time of the proxy's own processes (user and system, workers included) per unit of work, and the anonymous
memory of an idle session. Printed are the medians of the rounds, and the median of the ratios to HAProxy's
default within each round. Of all but the throughput, less is better.

    compare.py --lastack .build/release/lastack [--http] [--rounds 5] [--only small,haproxy]

Needs haproxy, nginx with its stream module, wrk, ab and curl. Everything listens on 127.0.0.1, at ports
counted up from --port; everything started is ended, by pid. Exit status: 0; 1 when a contestant failed at a
row; 2 for wrong usage; 3 with --check when lastack misses a target.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

REFERENCE = "haproxy"
TICKS = os.sysconf("SC_CLK_TCK")
BULK_BYTES = 10_000_000
NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

NGINX_BACKEND = """
worker_processes 1; worker_rlimit_nofile 20000; daemon off;
pid {dir}/backend.pid; error_log {dir}/backend.log;
events {{ worker_connections 15000; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_header_timeout 600s; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{backend} backlog=4096;
        location = /small {{ return 200 "sixteen bytes ok"; }}
        location / {{ root {dir}; }}
    }}
}}
"""

NGINX_STREAM = """
load_module {module};
worker_processes 1; worker_rlimit_nofile 20000; daemon off;
pid {dir}/stream.pid; error_log {dir}/stream.log;
events {{ worker_connections 15000; }}
stream {{
    server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{backend}; }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    {option}
listen proxy
    bind 127.0.0.1:{port}
    server backend 127.0.0.1:{backend}
"""

LASTACK = """
workers: 1
frontends:
  - name: front
    listen: ['127.0.0.1:{port}']
    backend: service
backends:
  - name: service
    servers: ['127.0.0.1:{backend}']
"""

# What follows messages. None of them logs a request.
NGINX_HTTP = """
worker_processes 1; worker_rlimit_nofile 20000; daemon off;
pid {dir}/http.pid; error_log {dir}/http.log;
events {{ worker_connections 15000; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; proxy_max_temp_file_size 0;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    upstream service {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

HAPROXY_HTTP = HAPROXY.replace("mode tcp", "mode http\n    option forwardfor\n    timeout http-keep-alive 10m")
# Also a client's first request goes over a connection that has served others; the keepalive of nginx does that.
HAPROXY_REUSE = HAPROXY_HTTP.replace("mode http", "mode http\n    http-reuse always")

LASTACK_HTTP = LASTACK.replace("    backend: service", "    mode: http\n    backend: service") + """
log: {{level: warning}}
deadlines: {{keepalive: 10m}}
"""
LASTACK_REUSE = LASTACK_HTTP.replace("  - name: service", "  - name: service\n    reuse: safe\n    reuse_max: 64")


@dataclasses.dataclass
class Contestant:
    """A proxy: its configuration file and the command that runs it in the foreground."""
    name: str
    command: str
    config: str = ""
    port: int = 0
    backend: int = 0
    pid: int = 0

    def fill(self, text, directory):
        return text.format(dir=directory, port=self.port, backend=self.backend, module=NGINX_STREAM_MODULE,
                           option="option splice-auto" if "splice" in self.name else "",
                           config=directory / (self.name + ".conf"))


@dataclasses.dataclass
class Row:
    """One kind of work; run() returns {column: figure}, the first column being the one that is compared."""
    name: str
    unit: str
    run: object
    figures: dict = dataclasses.field(default_factory=dict)


# --- processes ----------------------------------------------------------------------------------------------

def family(pid):
    """The process and its descendants."""
    pids, found = [pid], []
    while pids:
        parent = pids.pop()
        found.append(parent)
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid):
    total = 0
    for member in family(pid):
        fields = pathlib.Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return total / TICKS


def anonymous_bytes(pid):
    total = 0
    for member in family(pid):
        rollup = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        total += int(re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.M)[1]) * 1024
    return total


def wait_until_listening(port, process):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"compare: {shlex.join(process.args)} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"compare: nothing listens on port {port} after 10 s")


def insist_on_free(port):
    """With SO_REUSEPORT, which HAProxy sets, a second listener would silently take half of the work."""
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
        sys.exit(f"compare: somebody else listens on port {port}; give another --port")


@contextlib.contextmanager
def running(command, port, log):
    insist_on_free(port)
    with open(log, "ab") as out:
        process = subprocess.Popen(shlex.split(command), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(*command):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed: {(result.stderr or result.stdout).strip()[-200:]}")
    return result.stdout


# --- work ---------------------------------------------------------------------------------------------------

def small_requests(contestant, arguments):
    url = f"http://127.0.0.1:{contestant.port}/small"
    before, began = cpu_seconds(contestant.pid), time.monotonic()
    out = output_of("wrk", "-t1", "-c64", f"-d{arguments.seconds}s", url)
    took, used = time.monotonic() - began, cpu_seconds(contestant.pid) - before
    count = int(re.search(r"(\d+) requests in", out)[1])
    if re.search(r"Non-2xx|Socket errors", out):
        raise RuntimeError(out)
    return {"us CPU": used / count * 1e6, "1000/s": count / took / 1e3}


def bulk(contestant, arguments):
    count = arguments.bulk
    url = f"http://127.0.0.1:{contestant.port}/bulk?[1-{count}]"
    before, began = cpu_seconds(contestant.pid), time.monotonic()
    out = output_of("curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{size_download}\n", url)
    took, used = time.monotonic() - began, cpu_seconds(contestant.pid) - before
    if sum(map(int, out.split())) != count * BULK_BYTES:
        raise RuntimeError("bytes are missing")
    gigabytes = count * BULK_BYTES / 1e9
    return {"s CPU": used / gigabytes, "GB/s": gigabytes / took}


def bulk_flows(contestant, arguments):
    """32 flows at once to a client that reads 8 KiB at a time: the sinks are the narrow place."""
    url = f"http://127.0.0.1:{contestant.port}/bulk"
    before, began = cpu_seconds(contestant.pid), time.monotonic()
    out = output_of("wrk", "-t1", "-c32", f"-d{arguments.seconds}s", url)
    took, used = time.monotonic() - began, cpu_seconds(contestant.pid) - before
    number, unit = re.search(r"requests in [\d.]+m?s, ([\d.]+)([MG])B read", out).groups()
    gigabytes = float(number) * {"M": 1 << 20, "G": 1 << 30}[unit] / 1e9
    return {"s CPU": used / gigabytes, "GB/s": gigabytes / took}


def short_connections(contestant, arguments):
    count = arguments.connections
    before = cpu_seconds(contestant.pid)
    out = output_of("ab", "-q", "-c", 32, "-n", count, f"http://127.0.0.1:{contestant.port}/small")
    time.sleep(0.05)  # the last closes
    used = cpu_seconds(contestant.pid) - before
    if int(re.search(r"Failed requests:\s+(\d+)", out)[1]):
        raise RuntimeError(out)
    rate = float(re.search(r"Requests per second:\s+([\d.]+)", out)[1])
    return {"us CPU": used / count * 1e6, "1000/s": rate / 1e3}


def connect_and_ask(port):
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
    if not client.recv(4096).startswith(b"HTTP/1.1 200"):
        raise RuntimeError("no answer on an idle session")
    return client


def idle_sessions(contestant, arguments):
    """Sessions that each carried one request and its response, then rest."""
    warm = [connect_and_ask(contestant.port) for _ in range(64)]
    before = anonymous_bytes(contestant.pid)
    clients = [connect_and_ask(contestant.port) for _ in range(arguments.idle)]
    after = anonymous_bytes(contestant.pid)
    for client in warm + clients:
        client.close()
    return {"bytes": (after - before) / arguments.idle}


def rows():
    return [
        Row("small", "keep-alive request, 64 connections", small_requests),
        Row("bulk", "GB in responses of 10 MB, one flow", bulk),
        Row("flows", "GB in responses of 10 MB, 32 flows", bulk_flows),
        Row("short", "connection, 32 at a time", short_connections),
        Row("idle", "idle session, user memory", idle_sessions),
    ]


# --- contestants --------------------------------------------------------------------------------------------

SHAPES = {
    "shape-poll": "--loop poll",
    "shape-nested": "--loop nested",
    "shape-bare": "--loop bare",
    "shape-drain": "--loop nested --drain",
    "shape-16K": "--loop nested --scratch 16K",
    "shape-256K": "--loop nested --scratch 256K",
    "shape-1M": "--loop nested --scratch 1M",
    "shape-splice": "--loop nested --splice-after 256K",
    "shape-splice-64K": "--loop nested --splice-after 256K --pipe 64K",
}


def program(text):
    if not os.access(text, os.X_OK):
        raise argparse.ArgumentTypeError(f"there is no program {text}")
    return pathlib.Path(text).resolve()


def http_contestants(arguments):
    found = [
        Contestant("haproxy", "haproxy -db -f {config}", HAPROXY_HTTP),
        Contestant("haproxy-reuse", "haproxy -db -f {config}", HAPROXY_REUSE),
        Contestant("nginx-reuse", "nginx -p {dir} -c {config}", NGINX_HTTP),
    ]
    if arguments.lastack:
        command = f"{arguments.lastack} run -c {{config}}"
        found += [Contestant("lastack", command, LASTACK_HTTP),
                  Contestant("lastack-reuse", command, LASTACK_REUSE)]
    return found + [Contestant(*text.split("=", 1)) for text in arguments.also]


def contestants(arguments):
    if arguments.http:
        return http_contestants(arguments)
    found = [
        Contestant("haproxy", "haproxy -db -f {config}", HAPROXY),
        Contestant("haproxy-splice", "haproxy -db -f {config}", HAPROXY),
        Contestant("nginx-stream", "nginx -p {dir} -c {config}", NGINX_STREAM),
    ]
    if arguments.lastack:
        found.append(Contestant("lastack", f"{arguments.lastack} run -c {{config}}", LASTACK))
    if arguments.shape:
        command = f"{arguments.shape} --listen {{port}} --backend {{backend}} "
        found += [Contestant(name, command + flags) for name, flags in SHAPES.items()]
    found += [Contestant(*text.split("=", 1)) for text in arguments.also]
    return found


def measure(contestant, row, arguments, directory):
    with running(contestant.fill(contestant.command, directory), contestant.port,
                 directory / (contestant.name + ".log")) as contestant.pid:
        connect_and_ask(contestant.port).close()
        return row.run(contestant, arguments)


def run_rounds(chosen, table, arguments, directory):
    """Rounds outermost, each begun by another contestant: what else the machine does falls on all alike."""
    failed = False
    for number in range(arguments.rounds):
        first = number % len(chosen)
        for row in table:
            for contestant in chosen[first:] + chosen[:first]:
                try:
                    figures = measure(contestant, row, arguments, directory)
                except (RuntimeError, OSError) as error:
                    print(f"compare: {contestant.name}, {row.name}: {error}", file=sys.stderr)
                    failed = True
                    continue
                row.figures.setdefault(contestant.name, {})[number] = figures
        print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
    return failed


# --- the table ----------------------------------------------------------------------------------------------

def columns_of(row):
    return next((list(figures) for runs in row.figures.values() for figures in runs.values()), [])


def values(row, name, column):
    return [figures[column] for figures in row.figures[name].values()]


def ratio(row, name, column):
    """Median of the ratios to the reference within one round; None without any."""
    mine, reference = row.figures[name], row.figures.get(REFERENCE, {})
    ratios = [mine[number][column] / reference[number][column] for number in mine.keys() & reference.keys()]
    return statistics.median(ratios) if ratios else None


def print_table(chosen, table):
    print(f"{'':<7}{'contestant':<18}{'median':>9} {'least':>9} {'most':>9} {'ratio':>6}  throughput")
    for row in filter(columns_of, table):
        cost, *rate = columns_of(row)
        print(f"\n{row.name}: {cost} a {row.unit}")
        for name in (contestant.name for contestant in chosen if contestant.name in row.figures):
            costs, relative = values(row, name, cost), ratio(row, name, cost)
            print(f"{'':<7}{name:<18}{statistics.median(costs):9.3f} {min(costs):9.3f} {max(costs):9.3f} "
                  f"{'-' if relative is None else format(relative, '.2f'):>6}"
                  + "".join(f"{statistics.median(values(row, name, c)):8.2f} {c}" for c in rate))


def missed_targets(table):
    """What is promised: no row worse than HAProxy's default, bulk at most half, idle at most 1 KiB."""
    bounds, missed = {"bulk": 0.5, "flows": 0.5}, []
    for row in table:
        if "lastack" not in row.figures or REFERENCE not in row.figures:
            continue
        cost = columns_of(row)[0]
        relative, bound = ratio(row, "lastack", cost), bounds.get(row.name, 1.0)
        if relative > bound:
            missed.append(f"{row.name}: {relative:.2f} of {REFERENCE}'s, to reach: {bound:.2f}")
        if row.name == "idle" and statistics.median(values(row, "lastack", cost)) > 1024:
            missed.append("idle: more than 1024 bytes")
    return missed


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lastack", type=program, help="path of the binary")
    parser.add_argument("--http", action="store_true", help="compare what follows HTTP instead of TCP")
    parser.add_argument("--shape", type=program, help="path of the experiment's binary")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=COMMAND",
                        help="another proxy, run in the foreground; {port} is where it listens and {backend} "
                             "the backend's port, both on 127.0.0.1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="names of contestants and rows, comma-separated")
    parser.add_argument("--port", type=int, default=23000, help="first port")
    parser.add_argument("--seconds", type=int, default=3, help="a wrk run")
    parser.add_argument("--bulk", type=int, default=200, help="10 MB responses a run")
    parser.add_argument("--connections", type=int, default=10000, help="short connections a run")
    parser.add_argument("--idle", type=int, default=2000, help="idle sessions a run")
    parser.add_argument("--check", action="store_true", help="exit 3 when lastack misses a target")
    return parser, parser.parse_args()


def choose(parser, arguments):
    everything, table = contestants(arguments), rows()
    only = set(filter(None, arguments.only.split(",")))
    known = {entry.name for entry in everything + table}
    if only - known:
        unknown, allowed = ", ".join(sorted(only - known)), ", ".join(sorted(known))
        parser.error(f"--only: {unknown} is unknown; allowed are {allowed}")
    chosen = [c for c in everything if c.name in only] or everything
    table = [row for row in table if row.name in only] or table
    for number, contestant in enumerate(chosen):
        contestant.backend, contestant.port = arguments.port, arguments.port + 1 + number
    return chosen, table


def main():
    parser, arguments = parse_arguments()
    if not all("=" in text for text in arguments.also):
        parser.error("--also: NAME=COMMAND is needed")
    missing = [tool for tool in ("haproxy", "nginx", "wrk", "ab", "curl") if not shutil.which(tool)]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    chosen, table = choose(parser, arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20000, hard), hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compare: ended by SIGTERM"))  # through every finally
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with tempfile.TemporaryDirectory(prefix="compare.") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # nginx's worker reads the bulk file as another user
        (directory / "bulk").write_bytes(b"\0" * BULK_BYTES)
        for contestant in chosen:
            config = directory / (contestant.name + ".conf")
            config.write_text(contestant.fill(contestant.config, directory))
        backend_conf = directory / "backend.conf"
        backend_conf.write_text(NGINX_BACKEND.format(dir=directory, backend=arguments.port))
        with running(f"nginx -p {directory} -c {backend_conf}", arguments.port, directory / "backend.out"):
            failed = run_rounds(chosen, table, arguments, directory)
    print_table(chosen, table)
    missed = missed_targets(table)
    for line in missed:
        print(f"missed: {line}")
    return 1 if failed else 3 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
