#!/usr/bin/env python3
"""Minutes of mixed traffic through `lastack run`: healthy, half-closing, leaky, trickling, stalling, silent
and hostile peers at once, with every byte and every ending checked.

    soak.py --lastack .build/release/lastack --minutes 5 [--clients 100] [--seed N]

Clients and backend are in this one process, the proxy is its child. Each session is one scenario, chosen at
random (the seed is printed); the client's first bytes tell the backend its part. Checked are: every byte of
both directions; that a session cut short never looks like a clean end; that each session ends once, with a
reason its scenario allows (from the log); how long after its deadline each reaped peer saw the end; memory
and descriptors of the proxy before and after. A session that went wrong while this process was late itself is
excused: its own healthy peers may have been too slow. Exit status: 0; 1 when a check failed; 2 for wrong
usage.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import resource
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

HEADER = struct.Struct("!16sIII")  # scenario, request and response bytes, offset into NOISE
NOISE = random.Random(1).randbytes(1 << 20)
CHUNK = 64 << 10
FAR_MS = 30_000  # nothing may take longer than this
RESET = struct.pack("ii", 1, 0)

# Short, so that a run sees many of each. Milliseconds, as given to `lastack run`.
DEADLINES_MS = {"idle": 4000, "half-close": 2000, "write-stall": 3000, "grace": 1000}
EARLY_MS = 20   # clocks are read in two processes; the proxy's has a resolution of 1 ms
LATE_MS = 1000  # besides what this process itself was late
LAG_MS = DEADLINES_MS["half-close"] / 8  # later than this, its own peers may have been too slow to live


class Wrong(Exception):
    """What a peer saw is not what it was promised."""


# --- sockets -----------------------------------------------------------------------------------------------

def now_ms():
    return time.monotonic() * 1000


class Hangups:
    """Tells when a socket is dead both ways, also after its EOF was read: an epoll set that asks for nothing
    still reports EPOLLHUP and EPOLLERR."""

    def __init__(self, loop):
        self.waiting, self.epoll = {}, select.epoll()
        loop.add_reader(self.epoll.fileno(), self.collect)

    def collect(self):
        for fd, _ in self.epoll.poll(0):
            self.epoll.unregister(fd)
            future = self.waiting.pop(fd)
            if not future.done():
                future.set_result(now_ms())

    async def of(self, sock):
        """The moment of the hang-up, ms."""
        future = asyncio.get_running_loop().create_future()
        self.waiting[sock.fileno()] = future
        self.epoll.register(sock.fileno(), 0)
        try:
            return await asyncio.wait_for(future, FAR_MS / 1000)
        except asyncio.TimeoutError:
            self.epoll.unregister(sock.fileno())
            del self.waiting[sock.fileno()]
            raise Wrong(f"still not ended after {FAR_MS} ms") from None


class Lag:
    """How late this process is itself: on a busy machine its healthy peers are slow, it sees ends late."""

    def __init__(self):
        self.late = collections.deque(maxlen=10000)  # (moment, ms), above LAG_MS
        self.most_ms = 0.0

    async def watch(self):
        while True:
            due_ms = now_ms() + 20
            await asyncio.sleep(0.02)
            lag_ms = now_ms() - due_ms
            self.most_ms = max(self.most_ms, lag_ms)
            if lag_ms > LAG_MS:
                self.late.append((now_ms(), lag_ms))

    def since(self, moment_ms):
        """Whether it was late after this moment."""
        return bool(self.late) and self.late[-1][0] >= moment_ms


class Peer:
    """One end of a session: a non-blocking socket and what it has still to see."""

    def __init__(self, sock, soak):
        self.sock, self.soak, self.loop = sock, soak, asyncio.get_running_loop()

    async def recv(self, limit=CHUNK):
        return await asyncio.wait_for(self.loop.sock_recv(self.sock, limit), FAR_MS / 1000)

    async def send(self, data):
        await asyncio.wait_for(self.loop.sock_sendall(self.sock, data), FAR_MS / 1000)

    async def send_noise(self, count, offset, pause_s=0.0):
        for at in range(0, count, CHUNK):
            await self.send(noise(offset + at, min(CHUNK, count - at)))
            if pause_s:
                await asyncio.sleep(pause_s)

    async def expect_noise(self, count, offset):
        at = 0
        while at < count:
            data = await self.recv(min(CHUNK, count - at))
            if not data:
                raise Wrong(f"a clean end after {at} of {count} bytes")
            if data != noise(offset + at, len(data)):
                raise Wrong(f"other bytes at {at} of {count}")
            at += len(data)
        self.soak.checked_bytes += count

    async def expect_eof(self):
        if await self.recv(1):
            raise Wrong("bytes after the last one")

    async def expect_reset(self, or_eof=False):
        """Reads on until the connection is reset; EOF is wrong unless or_eof."""
        with contextlib.suppress(ConnectionError):
            while await self.recv():
                pass
            if not or_eof:
                raise Wrong("a clean end where a reset was due")

    def fin(self):
        with contextlib.suppress(OSError):  # reset meanwhile
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    async def reaped(self, deadline, job, since_ms):
        """Waits for the proxy's RST and notes how late it came."""
        self.soak.ended(deadline, job, since_ms, await self.soak.hangups.of(self.sock))


def noise(offset, count):
    start = offset % len(NOISE)
    data = NOISE[start:start + count]
    return data + NOISE[:count - len(data)]


# --- scenarios ---------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Job:
    """What the two ends of one session agree on. Moments are stored before the call that causes them, so that
    a deadline counted from them can look late, never early."""
    scenario: object
    request: int
    response: int
    offset: int
    fin_ms: float = 0.0   # the client's FIN, or close
    last_ms: float = 0.0  # the last bytes either end sent


@dataclasses.dataclass
class Scenario:
    weight: int
    reasons: set     # which the log may give
    client: object   # coroutine functions of (peer, job)
    backend: object
    request: tuple = (1, 1 << 18)  # sizes, least and most
    response: tuple = (1, 1 << 20)
    late_ms: int = LATE_MS


SCENARIOS = {}


def scenario(weight, reasons, **options):
    """Decorates a class with the coroutines `client` and `backend`; its name is the scenario's."""
    def register(cls):
        SCENARIOS[cls.__name__] = Scenario(weight, set(reasons.split()), cls.client, cls.backend, **options)
        return cls
    return register


async def answer(peer, job):
    await peer.expect_noise(job.request, job.offset)
    job.last_ms = now_ms()
    await peer.send_noise(job.response, job.offset + 1)


async def ask(peer, job):
    await peer.send_noise(job.request, job.offset)
    await peer.expect_noise(job.response, job.offset + 1)


async def ask_and_close(peer, job):
    await ask(peer, job)
    job.fin_ms = now_ms()


async def answer_and_see_eof(peer, job):
    await answer(peer, job)
    await peer.expect_eof()


async def both_ways(peer, send_count, send_offset, expect_count, expect_offset):
    await asyncio.gather(peer.send_noise(send_count, send_offset),
                         peer.expect_noise(expect_count, expect_offset))


async def reaped_after_fin(peer, job):
    await peer.reaped("half-close", job, job.fin_ms)


@scenario(40, "closed")
class exchange:
    """Request, response, close."""
    client = ask_and_close
    backend = answer_and_see_eof


@scenario(6, "closed", request=(1, 4 << 20), response=(1, 4 << 20))
class duplex:
    """Both directions at once."""
    async def client(peer, job):
        await both_ways(peer, job.request, job.offset, job.response, job.offset + 1)
        peer.fin()
        await peer.expect_eof()

    async def backend(peer, job):
        await both_ways(peer, job.response, job.offset + 1, job.request, job.offset)
        await peer.expect_eof()


@scenario(6, "closed", response=(600_000, 900_000))
class client_half_closes:
    """The response comes in pauses, for longer than the half_close deadline: all of it must arrive."""
    async def client(peer, job):
        await peer.send_noise(job.request, job.offset)
        peer.fin()
        await peer.expect_noise(job.response, job.offset + 1)
        await peer.expect_eof()

    async def backend(peer, job):
        await peer.expect_noise(job.request, job.offset)
        await peer.expect_eof()
        await peer.send_noise(job.response, job.offset + 1, pause_s=0.25)


@scenario(6, "closed", request=(600_000, 900_000))
class backend_half_closes:
    """The same with the backend first."""
    async def client(peer, job):
        await peer.expect_noise(job.response, job.offset + 1)
        await peer.expect_eof()
        await peer.send_noise(job.request, job.offset, pause_s=0.25)

    async def backend(peer, job):
        await peer.send_noise(job.response, job.offset + 1)
        peer.fin()
        await peer.expect_noise(job.request, job.offset)
        await peer.expect_eof()


@scenario(10, "half_close")
class leaky_backend:
    """Reads EOF and never closes."""
    client = ask_and_close

    async def backend(peer, job):
        await answer_and_see_eof(peer, job)
        await reaped_after_fin(peer, job)


@scenario(5, "half_close", request=(1, 1000))
class unread_eof:
    """The backend stops reading, so the client's FIN waits behind bytes in its queue."""
    async def client(peer, job):
        await peer.send_noise(job.request, job.offset)
        job.fin_ms = now_ms()

    async def backend(peer, job):
        while not job.fin_ms:
            await asyncio.sleep(0.01)
        await reaped_after_fin(peer, job)


@scenario(5, "half_close half_close_rate", late_ms=LATE_MS + DEADLINES_MS["half-close"])
class trickle:
    """The backend answers a half-closed client with a byte now and then, for ever. Bytes of the request that
    are acknowledged after the FIN are progress too, and may buy the deadline once more."""
    async def client(peer, job):
        await peer.send_noise(job.request, job.offset)
        job.fin_ms = now_ms()
        peer.fin()
        await peer.expect_reset()
        peer.soak.ended("half-close", job, job.fin_ms, now_ms())

    async def backend(peer, job):
        await peer.expect_noise(job.request, job.offset)
        await peer.expect_eof()
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.send(b"x")
                await asyncio.sleep(0.1)


@scenario(1, "write_stall", response=(64 << 20, 64 << 20), late_ms=LATE_MS + DEADLINES_MS["write-stall"])
class stalled_client:
    """Asks for much and reads nothing. Its lateness includes the time it takes to fill the buffers."""
    async def client(peer, job):
        await peer.send_noise(job.request, job.offset)
        await peer.soak.hangups.of(peer.sock)

    async def backend(peer, job):
        await peer.expect_noise(job.request, job.offset)
        began_ms = now_ms()
        with contextlib.suppress(ConnectionError):
            await peer.send_noise(job.response, job.offset + 1)
            raise Wrong("a client that reads nothing took everything")
        peer.soak.ended("write-stall", job, began_ms, now_ms())


@scenario(5, "idle")
class idle:
    """Both ends fall silent and close when they are told."""
    async def client(peer, job):
        await ask(peer, job)
        await peer.expect_eof()
        peer.soak.ended("idle", job, job.last_ms, now_ms())

    backend = answer_and_see_eof


@scenario(3, "idle")
class silent:
    """Both ends fall silent and do not close when they are told."""
    async def client(peer, job):
        await ask(peer, job)
        await peer.expect_eof()
        await peer.reaped("grace", job, job.last_ms + DEADLINES_MS["idle"])

    async def backend(peer, job):
        await answer_and_see_eof(peer, job)
        await peer.reaped("grace", job, job.last_ms + DEADLINES_MS["idle"])


@scenario(5, "client_reset", request=(1000, 1 << 18))
class client_resets:
    """In mid-request: the backend sees a reset, not an end."""
    async def client(peer, job):
        await peer.send_noise(job.request // 2, job.offset)
        peer.abort()

    async def backend(peer, job):
        await peer.expect_reset()


@scenario(5, "backend_reset", response=(1000, 1 << 20))
class backend_resets:
    """In mid-response: the client sees a reset, not an end."""
    async def client(peer, job):
        await peer.send_noise(job.request, job.offset)
        await peer.expect_reset()

    async def backend(peer, job):
        await peer.expect_noise(job.request, job.offset)
        await peer.send_noise(job.response // 2, job.offset + 1)
        peer.abort()


@scenario(4, "closed", request=(1, 40), response=(1, 40))
class dribble:
    """A byte at a time."""
    async def client(peer, job):
        for at in range(job.request):
            await peer.send(noise(job.offset + at, 1))
            await asyncio.sleep(0.005)
        await peer.expect_noise(job.response, job.offset + 1)

    async def backend(peer, job):
        await peer.expect_noise(job.request, job.offset)
        for at in range(job.response):
            await peer.send(noise(job.offset + 1 + at, 1))
        await peer.expect_eof()


@scenario(4, "closed")
class half_a_request:
    """The client ends in the middle; the backend gives up."""
    async def client(peer, job):
        await peer.send_noise(job.request // 2, job.offset)
        peer.fin()
        await peer.expect_eof()

    async def backend(peer, job):
        await peer.expect_noise(job.request // 2, job.offset)
        await peer.expect_eof()


# --- the run -----------------------------------------------------------------------------------------------

class Soak:
    def __init__(self, arguments):
        self.arguments, self.random = arguments, random.Random(arguments.seed)
        self.jobs = {}     # by offset: for the backend
        self.by_port = {}  # the client's: scenario, for the log
        self.next_offset = 0
        self.sessions, self.reasons = collections.Counter(), collections.Counter()
        self.lateness = collections.defaultdict(list)
        self.checked_bytes = self.unlogged = 0
        self.wrong, self.wrong_texts = collections.Counter(), []
        self.excused, self.lag = collections.Counter(), Lag()
        self.tasks, self.listening = set(), asyncio.Event()

    def note_wrong(self, name, text, began_ms=None):
        """Excused when this process was late itself meanwhile."""
        if began_ms is not None and self.lag.since(began_ms):
            self.excused[name] += 1
            return
        self.wrong[name] += 1
        if len(self.wrong_texts) < 20:
            self.wrong_texts.append(f"{name}: {text}")

    def ended(self, deadline, job, since_ms, seen_ms):
        late = seen_ms - since_ms - DEADLINES_MS[deadline]
        self.lateness[deadline, job.scenario].append(late)
        if late < -EARLY_MS:
            raise Wrong(f"{deadline} fired {-late:.0f} ms early")

    def new_job(self):
        names = list(SCENARIOS)
        name = self.random.choices(names, [SCENARIOS[n].weight for n in names])[0]
        chosen = SCENARIOS[name]
        self.next_offset += 1
        job = Job(name, self.random.randint(*chosen.request), self.random.randint(*chosen.response),
                  self.next_offset)
        self.jobs[job.offset] = job
        return job

    async def guarded(self, name, coroutine, sock):
        """Runs one end of a session; whatever it did not expect is noted."""
        began_ms = now_ms()
        try:
            await coroutine
        except Wrong as error:
            self.note_wrong(name, error, began_ms)
        except (OSError, asyncio.TimeoutError) as error:
            self.note_wrong(name, f"{type(error).__name__} {error}", began_ms)
        finally:
            sock.close()

    async def client_session(self, port):
        job = self.new_job()
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        self.sessions[job.scenario] += 1
        self.by_port[sock.getsockname()[1]] = job.scenario
        self.unlogged += 1
        peer = Peer(sock, self)

        async def talk():
            await peer.send(HEADER.pack(job.scenario.encode()[:16], job.request, job.response, job.offset))
            await SCENARIOS[job.scenario].client(peer, job)
        await self.guarded(job.scenario, talk(), sock)

    async def backend_session(self, sock):
        peer, header = Peer(sock, self), b""
        while len(header) < HEADER.size:
            try:
                data = await peer.recv(HEADER.size - len(header))
            except ConnectionError:
                return  # its client's reset overtook everything
            if not data:
                raise Wrong("an end before the header")
            header += data
        job = self.jobs.pop(HEADER.unpack(header)[3])
        await SCENARIOS[job.scenario].backend(peer, job)

    async def serve(self, listener):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            task = loop.create_task(self.guarded("backend", self.backend_session(sock), sock))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def client(self, port, until):
        while time.monotonic() < until:
            await self.client_session(port)

    async def follow_log(self, stream):
        line_form = re.compile(r"client=\S*:(\d+) .*\breason=(\w+)")
        async for raw in stream:
            found = line_form.search(raw.decode(errors="replace"))
            if not found:
                self.read_message(raw.decode(errors="replace").rstrip())
                continue
            port, reason = int(found[1]), found[2]
            self.unlogged -= 1
            self.reasons[reason] += 1
            name = self.by_port.pop(port, None)
            if name and reason not in SCENARIOS[name].reasons:
                self.note_wrong(name, "logged as " + reason, now_ms() - FAR_MS)

    def read_message(self, line):
        """A line that is not about a session."""
        if "msg=listening" in line:
            self.listening.set()
        elif "level=info" not in line:
            self.note_wrong("log", line)

    async def settle(self):
        """Until every session has ended at all three: clients, backend, log."""
        for _ in range(FAR_MS // 50):
            if not self.tasks and self.unlogged == 0:
                return
            await asyncio.sleep(0.05)
        self.note_wrong("log", f"{self.unlogged} sessions without a line, {len(self.tasks)} backends at work")


# --- the proxy ---------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Holdings:
    """What the proxy's process holds."""
    anonymous_kib: int
    sockets: int
    pipes: int

    @classmethod
    def of(cls, pid):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        names = []
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(os.readlink(fd).partition(":")[0])
        return cls(int(re.search(r"^Anonymous:\s+(\d+)", rollup, re.M)[1]), names.count("socket"),
                   names.count("pipe"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def start_proxy(arguments, port, backend_port):
    flags = [f"--{name}={value}ms" for name, value in DEADLINES_MS.items()]
    return await asyncio.create_subprocess_exec(
        arguments.lastack, "run", f"--listen=127.0.0.1:{port}", f"--backend=127.0.0.1:{backend_port}",
        f"--workers={arguments.workers}", *flags, stderr=subprocess.PIPE, limit=1 << 20)


async def end_proxy(proxy):
    proxy.send_signal(signal.SIGTERM)
    try:
        return await asyncio.wait_for(proxy.wait(), 20)
    except asyncio.TimeoutError:
        proxy.kill()
        await proxy.wait()
        return "not within 20 s of SIGTERM"


async def run_clients(soak, port, seconds):
    until = time.monotonic() + seconds
    await asyncio.gather(*(soak.client(port, until) for _ in range(soak.arguments.clients)))
    await soak.settle()


async def run(arguments):
    """The finished soak, what the proxy held before and after, its exit status, and the seconds it took."""
    soak = Soak(arguments)
    soak.hangups = Hangups(asyncio.get_running_loop())
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    server = asyncio.create_task(soak.serve(listener))
    lag = asyncio.create_task(soak.lag.watch())
    port = free_port()
    proxy = await start_proxy(arguments, port, listener.getsockname()[1])
    log = asyncio.create_task(soak.follow_log(proxy.stderr))
    try:
        await asyncio.wait_for(soak.listening.wait(), FAR_MS / 1000)
        await run_clients(soak, port, arguments.warm_up)
        before, began = Holdings.of(proxy.pid), time.monotonic()
        await run_clients(soak, port, arguments.minutes * 60)
        after, took = Holdings.of(proxy.pid), time.monotonic() - began
    finally:
        status = await end_proxy(proxy)
        server.cancel()
        lag.cancel()
        await log
    return soak, before, after, status, took


# --- the table ---------------------------------------------------------------------------------------------

def percentile(sorted_values, part):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))]


def judge(soak, before, after, status):
    """What is wrong with the run as a whole."""
    faults = [f"{count} sessions of {name} went wrong" for name, count in soak.wrong.items()]
    if status != 0:
        faults.append(f"the proxy's exit status: {status}")
    if after.sockets != before.sockets:
        faults.append(f"the proxy held {before.sockets} sockets before and {after.sockets} after")
    if after.anonymous_kib > before.anonymous_kib * 1.25 + 1024:
        faults.append(f"the proxy's memory grew from {before.anonymous_kib} to {after.anonymous_kib} KiB")
    for (deadline, name), late in soak.lateness.items():
        if max(late) > SCENARIOS[name].late_ms + 4 * soak.lag.most_ms:
            faults.append(f"{deadline} fired up to {max(late):.0f} ms late in {name}")
    return faults


def print_tables(soak, before, after, took):
    total = sum(soak.sessions.values())
    print(f"{total} sessions in {took:.0f} s, {soak.checked_bytes / 1e9:.2f} GB checked.")
    print(f"This process was late itself by {soak.lag.most_ms:.0f} ms at most, "
          f"{len(soak.lag.late)} times by more than {LAG_MS:.0f} ms.\n")
    print(f"{'scenario':<22}{'sessions':>9}{'wrong':>7}{'excused':>9}")
    for name in [*SCENARIOS, "backend"]:
        print(f"{name:<22}{soak.sessions[name] or '':>9}{soak.wrong[name]:>7}{soak.excused[name]:>9}")
    print(f"\n{'ended by reason':<22}{'sessions':>9}")
    for reason, count in soak.reasons.most_common():
        print(f"{reason:<22}{count:>9}")
    print(f"\n{'lateness, ms':<28}{'reaped':>9}{'p50':>8}{'p99':>8}{'max':>8}")
    for names, late in sorted(soak.lateness.items()):
        late.sort()
        figures = statistics.median(late), percentile(late, 0.99), late[-1]
        print(f"{', '.join(names):<28}{len(late):>9}" + "".join(f"{figure:8.1f}" for figure in figures))
    print(f"\n{'the proxy holds':<22}{'before':>9}{'after':>8}")
    for field in dataclasses.fields(Holdings):
        name = field.name.replace("_kib", " memory, KiB")
        print(f"{name:<22}{getattr(before, field.name):>9}{getattr(after, field.name):>8}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lastack", required=True, help="path of the binary")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--clients", type=int, default=100, help="sessions at a time")
    parser.add_argument("--workers", type=int, default=2, help="of the proxy")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--warm-up", type=float, default=5, help="seconds before memory is first read")
    arguments = parser.parse_args()
    if not os.access(arguments.lastack, os.X_OK):
        parser.error(f"--lastack: there is no program {arguments.lastack}")
    if not (arguments.minutes > 0 and 1 <= arguments.clients <= 4000 and arguments.workers >= 1):
        parser.error("allowed are minutes above 0, 1 to 4000 clients, and 1 worker or more")
    return arguments


def main():
    arguments = parse_arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20000, hard), hard))
    print(f"seed {arguments.seed}", flush=True)
    soak, before, after, status, took = asyncio.run(run(arguments))
    print_tables(soak, before, after, took)
    for text in soak.wrong_texts:
        print("wrong:", text)
    faults = judge(soak, before, after, status)
    for fault in faults:
        print("FAULT:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
