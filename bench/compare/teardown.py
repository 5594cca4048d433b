#!/usr/bin/env python3
"""The scoreboard of teardown: `lastack conform` and `lastack bench teardown` on every proxy that Debian 12 has.

Each contestant is started by hand with the configuration that stands below (and is written beside the results),
must pass a few whole exchanges, and then meets the same backend and the same load, in interleaved rounds: healthy
clients that ask, get their answer and close, and the same before a backend that never closes. The conformance
suite is run once on each, several at a time, since it mostly waits.

    teardown.py --lastack .build/release/lastack [--rounds 3] [--only haproxy,nginx-http] [--results DIR]
    teardown.py --results DIR --print          # tables and picture again, from an earlier run

Results, configurations and logs go to --results; --readme writes the section of bench/README.md, and the picture
bench/teardown.svg. Wants to be root in a network namespace of its own (unshare -n, lo up), as some contestants
change their user. What is not installed is left out and said so. Everything started is ended, by its process
group. Exit status: 0; 1 when a contestant failed; 2 for wrong usage.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import getpass
import html
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
README = HERE.parent / "README.md"
PICTURE = HERE.parent / "teardown.svg"
MARKS = ("<!-- teardown.py writes from here -->", "<!-- to here -->")
CLIENTS, RATE, WATCH_S = 200, 100, 4

# --- configurations -----------------------------------------------------------------------------------------

LASTACK = """
log: {{level: error}}
deadlines: {{connect: 2s, response: 6s{deadlines}}}
frontends:
  - {{name: front, listen: ['127.0.0.1:{port}'], mode: {mode}, backend: service}}
backends:
  - {{name: service, servers: ['127.0.0.1:{backend}']}}
"""

HAPROXY = """
global
    maxconn 4000
defaults
    mode {mode}
    timeout connect 2s
    timeout client 5m
    timeout server 5m
    {option}
listen proxy
    bind 127.0.0.1:{port}
    server backend 127.0.0.1:{backend}
"""

NGINX_STREAM = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_rlimit_nofile 20000; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 8000; }}
stream {{
    server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{backend};
              proxy_connect_timeout 2s; {option} }}
}}
"""

NGINX_HTTP = """
worker_rlimit_nofile 20000; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 8000; }}
http {{
    access_log off; client_max_body_size 0; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    upstream service {{ server 127.0.0.1:{backend}; {upstream} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://service; proxy_connect_timeout 2s; proxy_read_timeout 6s; {option} }}
    }}
}}
"""

APACHE = """
ServerRoot {dir}
ServerName lastack.test
Listen 127.0.0.1:{port}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
User www-data
Group www-data
ServerLimit 40
MaxRequestWorkers 1000
ProxyTimeout 6
ProxyPass / http://127.0.0.1:{backend}/ connectiontimeout=2 {option}
"""

SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=lastack.test no-vhost
cache_peer 127.0.0.1 parent {backend} 0 no-query no-digest no-netdb-exchange originserver connect-timeout=2
pinger_enable off
http_access allow all
cache deny all
access_log none
cache_log {dir}/cache.log
pid_filename {dir}/squid.pid
coredump_dir {dir}
shutdown_lifetime 0 seconds
read_timeout 6 seconds
http_upgrade_request_protocols websocket allow all
{option}
"""

VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{backend}"; .connect_timeout = 2s; .first_byte_timeout = 6s; }}
sub vcl_recv {{
    if (req.http.upgrade) {{ return (pipe); }}
    return (pass);
}}
sub vcl_pipe {{
    if (req.http.upgrade) {{ set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = req.http.connection; }}
}}
"""

STUNNEL = """
foreground = yes
pid =
debug = err
output = {dir}/stunnel.log
TIMEOUTclose = 2
[in]
client = yes
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{extra}
[out]
accept = 127.0.0.1:{extra}
connect = 127.0.0.1:{backend}
cert = {dir}/key.pem
TIMEOUTconnect = 2
"""

XINETD = """
service redirect
{{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    wait = no
    user = root
    bind = 127.0.0.1
    port = {port}
    redirect = 127.0.0.1 {backend}
    instances = UNLIMITED
    per_source = UNLIMITED
    cps = 100000 1
}}
"""

SSHD = """
Port {extra}
ListenAddress 127.0.0.1
HostKey {dir}/host
AuthorizedKeysFile {dir}/user.pub
StrictModes no
UsePAM no
PermitRootLogin yes
MaxSessions 2000
PidFile none
AllowTcpForwarding yes
"""

CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lastack.test -keyout {dir}/key -out {dir}/crt"
SSH_KEYS = ["ssh-keygen -q -t ed25519 -N '' -f {dir}/host", "ssh-keygen -q -t ed25519 -N '' -f {dir}/user",
            "mkdir -p /run/sshd"]
SSH = ("ssh -N -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes "
       "-o ConnectTimeout=2 -i {dir}/user -p {extra} -L 127.0.0.1:{port}:127.0.0.1:{backend} {user}@127.0.0.1")


@dataclasses.dataclass
class Contestant:
    """A proxy with one setting."""
    name: str
    mode: str
    setting: str              # a word or two for the table
    program: str
    commands: list            # run in the foreground, in this order
    config: str = ""
    values: dict = dataclasses.field(default_factory=dict)
    prepare: list = dataclasses.field(default_factory=list)
    version: str = ""         # the command that prints it
    headline: bool = False    # has a curve in the picture
    port: int = 0

    def fill(self, text, directory):
        return text.format(dir=directory, config=directory / "config", port=self.port, backend=self.port + 1,
                           extra=self.port + 2, user=getpass.getuser(), mode=self.mode, **self.values)


def lastacks(path):
    def one(name, mode, setting, deadlines, headline=True):
        return Contestant(name, mode, setting, path, [f"{path} run -c {{config}}"], LASTACK,
                          {"deadlines": deadlines}, version=f"{path} --version", headline=headline)
    return [
        one("lastack", "tcp", "half_close 2s", ", half_close: 2s"),
        one("lastack-verify", "tcp", "half_close 2s, verify on", ", half_close: 2s, verify: on"),
        one("lastack-http", "http", "default", ""),
    ]


def haproxies():
    def one(name, mode, setting, option="", headline=False):
        return Contestant(name, mode, setting, "haproxy", ["haproxy -db -f {config}"], HAPROXY, {"option": option},
                          version="haproxy -v", headline=headline)
    return [
        one("haproxy", "tcp", "default", headline=True),
        one("haproxy-fin", "tcp", "client-fin, server-fin 2s", "timeout client-fin 2s\n    timeout server-fin 2s", True),
        one("haproxy-nolinger", "tcp", "nolinger", "option nolinger"),
        one("haproxy-http", "http", "default", headline=True),
        one("haproxy-http-close", "http", "httpclose", "option httpclose"),
        one("haproxy-http-abort", "http", "abortonclose", "option abortonclose"),
        one("haproxy-http-nolinger", "http", "nolinger", "option nolinger"),
    ]


def nginxes():
    def one(name, mode, setting, config, headline=False, **values):
        return Contestant(name, mode, setting, "nginx", ["nginx -p {dir} -c {config}"], config,
                          {"option": "", "upstream": "", **values}, version="nginx -v", headline=headline)
    return [
        one("nginx-stream", "tcp", "default", NGINX_STREAM, True),
        one("nginx-stream-half", "tcp", "proxy_half_close on", NGINX_STREAM, option="proxy_half_close on;"),
        one("nginx-http", "http", "default", NGINX_HTTP, True),
        one("nginx-http-keepalive", "http", "upstream keepalive", NGINX_HTTP, upstream="keepalive 64;",
            option='proxy_http_version 1.1; proxy_set_header Connection "";'),
        one("nginx-http-tuned", "http", "1.1, Upgrade, proxy_ignore_client_abort", NGINX_HTTP,
            option="proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
                   "proxy_set_header Connection $http_connection; proxy_ignore_client_abort on; "
                   "proxy_request_buffering off;"),
    ]


def others():
    return [
        Contestant("socat", "tcp", "-t 2", "socat",
                   ["socat -t 2 TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=1024,nodelay "
                    "TCP:127.0.0.1:{backend},nodelay,connect-timeout=2"],
                   version="socat -V", headline=True),
        Contestant("pen", "tcp", "default", "pen",
                   ["pen -f -r -b 1 -c 4096 -x 2000 127.0.0.1:{port} 127.0.0.1:{backend}"],
                   version="dpkg-query -W -f ${{Version}} pen"),
        Contestant("redir", "tcp", "default", "redir", ["redir -n -l none 127.0.0.1:{port} 127.0.0.1:{backend}"],
                   version="redir --version"),
        Contestant("rinetd", "tcp", "default", "rinetd", ["rinetd -f -c {config}"],
                   "127.0.0.1 {port} 127.0.0.1 {backend}\n", version="rinetd --version"),
        Contestant("simpleproxy", "tcp", "default", "simpleproxy",
                   ["simpleproxy -L 127.0.0.1:{port} -R 127.0.0.1:{backend}"], version="simpleproxy -V"),
        Contestant("xinetd", "tcp", "redirect", "xinetd", ["xinetd -dontfork -f {config}"], XINETD,
                   version="xinetd -version"),
        Contestant("systemd-socket-proxyd", "tcp", "default", "systemd-socket-activate",
                   ["systemd-socket-activate -l 127.0.0.1:{port} /lib/systemd/systemd-socket-proxyd "
                    "--connections-max=2000 127.0.0.1:{backend}"],
                   version="systemd-socket-activate --version", headline=True),
        Contestant("ssh-L", "tcp", "default", "sshd", ["/usr/sbin/sshd -D -e -f {config}", SSH], SSHD,
                   prepare=SSH_KEYS, version="ssh -V", headline=True),
        Contestant("stunnel", "tcp", "a pair, TIMEOUTclose 2", "stunnel4", ["stunnel4 {config}"], STUNNEL,
                   prepare=[CERTIFICATE, "sh -c 'cat {dir}/key {dir}/crt >{dir}/key.pem'"],
                   version="dpkg-query -W -f ${{Version}} stunnel4"),
        Contestant("apache", "http", "mod_proxy_http, upgrade=websocket", "apache2", ["apache2 -d {dir} -f {config} -DFOREGROUND"],
                   APACHE, {"option": "upgrade=websocket"}, version="apache2 -v", headline=True),
        Contestant("apache-noreuse", "http", "mod_proxy_http, disablereuse=On", "apache2",
                   ["apache2 -d {dir} -f {config} -DFOREGROUND"], APACHE, {"option": "disablereuse=On upgrade=websocket"},
                   version="apache2 -v"),
        Contestant("squid", "http", "accelerator", "squid", ["squid -N -f {config}"], SQUID, {"option": ""},
                   version="squid -v", headline=True),
        Contestant("squid-half", "http", "half_closed_clients on", "squid", ["squid -N -f {config}"], SQUID,
                   {"option": "half_closed_clients on"}, version="squid -v"),
        Contestant("varnish", "http", "pass, pipe for upgrades", "varnishd",
                   ["varnishd -F -j none -n {dir}/varnish -a 127.0.0.1:{port} -f {config} -s malloc,64m"], VARNISH,
                   version="varnishd -V", headline=True),
    ]


# --- running ------------------------------------------------------------------------------------------------

def is_open(port):
    """Asked of the kernel's table, so that no contestant sees a connection without a client."""
    listening = subprocess.run(["ss", "-Htln", f"sport = :{port}"], capture_output=True, text=True, check=False)
    return bool(listening.stdout.strip())


def end(process):
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
    # Children of a leader that is gone are in its group still.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(contestant, results):
    directory = results / contestant.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    (directory / "config").write_text(contestant.fill(contestant.config, directory))
    commands = [contestant.fill(text, directory) for text in contestant.commands]
    (directory / "command").write_text("\n".join(commands) + "\n")
    for text in contestant.prepare:
        subprocess.run(shlex.split(contestant.fill(text, directory)), check=True, capture_output=True)
    processes = []
    with open(directory / "output", "ab") as out:
        try:
            for number, text in enumerate(commands):
                processes.append(subprocess.Popen(shlex.split(text), stdout=out, stderr=out,
                                                  stdin=subprocess.DEVNULL, start_new_session=True))
                wanted = contestant.port if number == len(commands) - 1 else contestant.port + 2
                until = time.monotonic() + 15
                while not is_open(wanted):
                    if processes[-1].poll() is not None or time.monotonic() > until:
                        raise RuntimeError(f"{text.split()[0]} does not listen: "
                                           + (directory / "output").read_text(errors="replace")[-300:])
                    time.sleep(0.05)
            yield processes
        finally:
            for process in reversed(processes):
                end(process)


def lastack(arguments, contestant, command, *options):
    text = [str(arguments.lastack), *command, "--mode", contestant.mode, "--json", "--target",
            f"127.0.0.1:{contestant.port}", "--backend-listen", f"127.0.0.1:{contestant.port + 1}", *map(str, options)]
    done = subprocess.run(text, capture_output=True, text=True, timeout=600, check=False)
    if not done.stdout:
        raise RuntimeError(f"{' '.join(text)}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def teardown(arguments, contestant, *options):
    return lastack(arguments, contestant, ["bench", "teardown"], "--no-direct", *options)


def check_works(arguments, contestant):
    """Ten whole exchanges. Some hold it against a backend for a while that it was not there when they began."""
    for _ in range(5):
        report = teardown(arguments, contestant, "--connections", 10, "--rate", 20, "--watch", "500ms")
        if report["harm"]["exchanges"] == 10:
            return
    raise RuntimeError(f"only {report['harm']['exchanges']} of 10 exchanges were whole")


def measure(arguments, contestant):
    load = ["--connections", CLIENTS, "--rate", RATE, "--watch", f"{WATCH_S}s"]
    check_works(arguments, contestant)
    return {"healthy": teardown(arguments, contestant, *load, "--client-close", "full"),
            "leaky": teardown(arguments, contestant, *load, "--leak", "never-close")}


def run_rounds(arguments, contestants, results):
    failed = False
    figures = {contestant.name: [] for contestant in contestants}
    for number in range(arguments.rounds):
        first = number * 5 % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            try:
                with running(contestant, results):
                    figures[contestant.name].append(measure(arguments, contestant))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"teardown: {contestant.name}: {error}", file=sys.stderr)
                failed = True
        print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
    return figures, failed


def run_direct(arguments):
    text = [str(arguments.lastack), "bench", "teardown", "--direct", "--json", "--connections", str(CLIENTS), "--rate",
            str(RATE), "--client-close", "full"]
    return [{"healthy": json.loads(subprocess.run(text, capture_output=True, text=True, check=True).stdout)}
            for _ in range(arguments.rounds)]


def conform_one(arguments, contestant, results):
    try:
        with running(contestant, results) as processes:
            check_works(arguments, contestant)
            report = lastack(arguments, contestant, ["conform"], "--quick", "--leak-bound", "12s")
            report["died"] = any(process.poll() is not None for process in processes)
            return report
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"teardown: {contestant.name}: {error}", file=sys.stderr)
        return None


def run_conform(arguments, contestants, results):
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        reports = pool.map(lambda contestant: conform_one(arguments, contestant, results), contestants)
        return {contestant.name: report for contestant, report in zip(contestants, reports) if report}


def version_of(contestant):
    done = subprocess.run(shlex.split(contestant.version.replace("{{", "{").replace("}}", "}")), capture_output=True,
                          text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)*(p\d+)?|systemd \d+", done.stdout + done.stderr)
    return found[0].replace("systemd ", "") if found else "?"


# --- tables -------------------------------------------------------------------------------------------------

def spread(values, digits):
    """The median, and least and most where they differ; None counts as never."""
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    middle = statistics.median(known)
    text = f"{middle:.{digits}f}"
    low, high = f"{min(known):.{digits}f}", f"{max(known):.{digits}f}"
    return text if low == high else f"{text} ({low} to {high})"


def microseconds(values):
    """A FIN that is answered by a reset, or comes before the client's own, is none that was relayed."""
    known = [1000 * value for value in values if value is not None]
    return spread(known, 0) if known else "none relayed"


def pick(runs, kind, *keys):
    values = []
    for run in runs:
        value = run[kind]
        for key in keys:
            value = value[key]
        values.append(value)
    return values


def bench_row(name, row, runs):
    ended = [run["healthy"]["ended"]["backend"] for run in runs]
    resets = [run["healthy"]["harm"]["per_10000"] for run in runs]
    cells = [f"{row['title']} {row['version']}", row["setting"],
             microseconds(pick(runs, "healthy", "fin_relay_ms", "p50")),
             microseconds(pick(runs, "healthy", "fin_relay_ms", "p99"))]
    if name == "direct":
        return cells + ["", "", "0"]
    kept = statistics.median(end["kept"] for end in ended)
    still = statistics.median(pick(runs, "leaky", "leaks", "still"))
    leaked = pick(runs, "leaky", "leak_residency_ms", "count")
    residency = [run["leaky"]["leak_residency_ms"]["p50"] for run in runs]
    if not any(leaked):
        time_text = "never" if still else "kept, not in CLOSE_WAIT"
    else:
        time_text = spread([value / 1000 if value is not None else None for value in residency], 3)
    return cells + [time_text, f"{still:.0f}", spread(resets, 0) + (" (kept for others)" if kept else "")]


def markdown(rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def bench_table(data, mode):
    head = ["proxy", "setting", "FIN relay p50, us", "p99", "leak leaves CLOSE_WAIT after, s",
            f"still leaking of {CLIENTS}", "harm per 10,000"]
    rows = [head, ["---"] * len(head)]
    for name, row in data["contestants"].items():
        if row["mode"] == mode and data["figures"].get(name):
            rows.append(bench_row(name, row, data["figures"][name]))
    if mode == "tcp":
        rows.append(bench_row("direct", {"title": "no proxy", "version": "", "setting": ""}, data["figures"]["direct"]))
    return markdown(rows)


def conform_table(data, mode):
    verdicts = ["pass", "fail", "destroys-data", "opinion", "skip"]
    head = ["proxy", "setting", *verdicts, "what it fails"]
    rows = [head, ["---"] * len(head)]
    for name, row in data["contestants"].items():
        report = data["conform"].get(name)
        if row["mode"] != mode or not report:
            continue
        bad = [("**" + case["name"] + "**" if case["verdict"] == "destroys-data" else case["name"])
               for case in report["cases"] if case["verdict"] in ("fail", "destroys-data")]
        counts = [str(report["counts"][verdict]) for verdict in verdicts]
        if report.get("died"):
            counts, bad = [""] * len(verdicts), ["its process ended while the suite ran"]
        rows.append([f"{row['title']} {row['version']}", row["setting"], *counts, ", ".join(bad)])
    return markdown(rows)


def section(data):
    return f"""{MARKS[0]}

{data['machine']}, {data['date']}.
Printed by `bench/compare/teardown.py --lastack .build/release/lastack --readme`, which holds every configuration.
{CLIENTS} clients at {RATE} a second ask, get their answer and call close(); {data['rounds']} rounds, interleaved; medians, and least and most of the rounds where they differ. Harm: healthy exchanges of 10,000 in which
an end was reset, cut, or got a wrong byte. A leak is a backend that reads EOF and never closes. None relayed: a reset
came in its place, the backend's connection is kept, or it was ended before its client's. "kept for others" is how the
healthy backend's connection ends. What the yardstick adds by itself is the row without a proxy.

What `lastack` loses: its FIN relay is not the fastest by some microseconds, and the machine had other work, which the
spread of p99 shows. In mode tcp it waits for `half_close`, because a client that has sent FIN may still read; HAProxy
with `nolinger` does not wait, and resets every healthy backend instead.

![Backend's sockets in CLOSE_WAIT over time, behind each proxy](teardown.svg)

### What follows bytes

{bench_table(data, 'tcp')}

### What follows HTTP

{bench_table(data, 'http')}

### Conformance

`lastack conform --quick --leak-bound 12s`, bold: destroys data.

{conform_table(data, 'tcp')}

{conform_table(data, 'http')}

{MARKS[1]}"""


def write_readme(data):
    text = README.read_text()
    if MARKS[0] in text:
        before, rest = text.split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
    else:
        before, after = text.rstrip("\n") + "\n\n## Teardown: the scoreboard\n\n", "\n"
    README.write_text(before + section(data) + after)


# --- the picture --------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 470, 60, 380, 70, 50
COLOURS = [("#0969da", "#58a6ff"), ("#1a7f37", "#3fb950"), ("#8250df", "#bc8cff"), ("#cf222e", "#ff7b72"),
           ("#bc4c00", "#f0883e"), ("#9a6700", "#d29922"), ("#bf3989", "#f778ba"), ("#57606a", "#8b949e"),
           ("#116329", "#7ee787"), ("#0a3069", "#a5d6ff"), ("#82071e", "#ffa198"), ("#5e4c00", "#e3b341"),
           ("#24292f", "#c9d1d9")]


def curves(data):
    found = []
    for name, row in data["contestants"].items():
        runs = data["figures"].get(name)
        if row["headline"] and runs:
            middle = sorted(runs, key=lambda run: run["leaky"]["leaks"]["still"])[len(runs) // 2]
            mode = " http" if row["mode"] == "http" and "http" not in name else ""
            setting = "" if row["setting"] in ("default", "redirect") else f", {row['setting'].split(', ')[-1]}"
            resets = statistics.median(run["healthy"]["harm"]["per_10000"] for run in runs) > 100
            title = name + mode + setting + (", resets healthy ones too" if resets else "")
            found.append((title, middle["leaky"]["close_wait"]))
    return sorted(found, key=lambda curve: (curve[1][-1][1], sum(count for _, count in curve[1])))


def picture(data):
    found = curves(data)
    last_ms = max(points[-1][0] for _, points in found)
    most = max(count for _, points in found for _, count in points)

    def at(ms, count):
        return (f"{LEFT + ms / last_ms * (WIDTH - LEFT - RIGHT):.1f} "
                f"{HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM):.1f}")
    light = "".join(f".c{i}{{stroke:{colour}}}text.c{i}{{fill:{colour};stroke:none}}" for i, (colour, _) in enumerate(COLOURS))
    dark = "".join(f".c{i}{{stroke:{colour}}}text.c{i}{{fill:{colour};stroke:none}}" for i, (_, colour) in enumerate(COLOURS))
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
             "<style>text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:16px;font-weight:600}"
             ".back{fill:#fff}path{fill:none;stroke-width:2}.axis{stroke:#8c959f;stroke-width:1}"
             f"{light}@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.back{{fill:#0d1117}}{dark}}}</style>",
             f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
             f'<text class="title" x="{LEFT}" y="28">{CLIENTS} clients come and go before a backend that never closes</text>',
             f'<text x="{LEFT}" y="50">its sockets in CLOSE_WAIT over time, behind each proxy</text>',
             f'<path class="axis" d="M{at(0, most)}L{at(0, 0)}L{at(last_ms, 0)}"/>']
    for count in (0, most // 2, most):
        lines.append(f'<text x="{LEFT - 8}" y="{float(at(0, count).split()[1]) + 4:.1f}" text-anchor="end">{count}</text>')
    for second in range(0, int(last_ms / 1000) + 1):
        lines.append(f'<text x="{at(second * 1000, 0).split()[0]}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{second} s</text>')
    for number, (title, points) in enumerate(found):
        dashes = ' stroke-dasharray="6 4"' if number % 2 else ""
        path = "M" + "L".join(at(*point) for point in points)
        y = TOP + 14 + number * 22
        lines.append(f'<path class="c{number % len(COLOURS)}"{dashes} d="{path}"/>')
        lines.append(f'<path class="c{number % len(COLOURS)}"{dashes} d="M{WIDTH - RIGHT + 14} {y - 4}h24"/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 44}" y="{y}">{html.escape(title)}: {points[-1][1]}</text>')
    return "\n".join(lines + ["</svg>", ""])


# --- main ---------------------------------------------------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lastack", type=pathlib.Path, help="path of the binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of contestants, comma-separated")
    parser.add_argument("--results", type=pathlib.Path, help="folder for what comes out (default: a new one)")
    parser.add_argument("--port", type=int, default=24000, help="first port")
    parser.add_argument("--jobs", type=int, default=4, help="conformance runs at a time")
    parser.add_argument("--no-conform", action="store_true")
    parser.add_argument("--no-bench", action="store_true")
    parser.add_argument("--print", action="store_true", help="from results.json of an earlier run")
    parser.add_argument("--readme", action="store_true", help="write bench/README.md's section and the picture")
    arguments = parser.parse_args()
    if not arguments.print and not arguments.lastack:
        parser.error("--lastack or --print is needed")
    if arguments.print and not arguments.results:
        parser.error("--print wants --results")
    return parser, arguments


def choose(parser, arguments):
    everything = lastacks(arguments.lastack.resolve()) + haproxies() + nginxes() + others()
    only = set(filter(None, arguments.only.split(",")))
    unknown = only - {contestant.name for contestant in everything}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is unknown")
    chosen = []
    for number, contestant in enumerate(everything):
        contestant.port = arguments.port + 10 * number
        if only and contestant.name not in only:
            continue
        if not shutil.which(str(contestant.program), path=os.environ["PATH"] + ":/usr/sbin"):
            print(f"teardown: {contestant.name}: not installed, left out", file=sys.stderr)
            continue
        chosen.append(contestant)
    return chosen


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = pathlib.Path("/etc/os-release").read_text()
    return (f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}), Linux {platform.release().split('-')[0]}, "
            + re.search(r'PRETTY_NAME="([^"]*)"', name)[1])


def collect(parser, arguments, results):
    contestants = choose(parser, arguments)
    failed = False
    data = {"date": datetime.date.today().isoformat(), "machine": machine(), "rounds": arguments.rounds,
            "figures": {}, "conform": {},
            "contestants": {c.name: {"title": c.name, "mode": c.mode, "setting": c.setting, "version": version_of(c),
                                     "headline": c.headline} for c in contestants}}
    earlier = results / "results.json"
    if earlier.exists():
        before = json.loads(earlier.read_text())
        data["figures"], data["conform"] = before["figures"], before["conform"]
        data["contestants"] = {**before["contestants"], **data["contestants"]}
    if not arguments.no_bench:
        figures, failed = run_rounds(arguments, contestants, results)
        data["figures"].update(figures, direct=run_direct(arguments))
        earlier.write_text(json.dumps(data, indent=1))
    if not arguments.no_conform:
        data["conform"].update(run_conform(arguments, contestants, results))
    earlier.write_text(json.dumps(data, indent=1))
    return data, failed


def main():
    parser, arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("teardown: ended by SIGTERM"))  # through every finally
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    socket.setdefaulttimeout(10)
    if arguments.print:
        data, failed = json.loads((arguments.results / "results.json").read_text()), False
    else:
        results = arguments.results or pathlib.Path(tempfile.mkdtemp(prefix="teardown."))
        results.mkdir(parents=True, exist_ok=True)
        results.chmod(0o755)
        data, failed = collect(parser, arguments, results.resolve())
        print(f"results, configurations and logs: {results}", file=sys.stderr)
    print(section(data))
    if arguments.readme:
        write_readme(data)
        PICTURE.write_text(picture(data))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
