#!/usr/bin/python3
"""A TCP proxy that does everything right but for one bug, which is named on its command line.

    broken_proxy.py LISTEN_PORT BACKEND_PORT BUG

Without a bug ("none") it relays bytes, FINs and resets as they should be, and resets a half-closed session that
makes no progress for four seconds. It is what shows that `lastack conform` finds a bug, and no other one.
"""

import errno
import select
import socket
import struct
import sys
import threading
import time

BUGS = {
    "none": "",
    "swallows-fin": "a FIN is never passed on",
    "late-fin": "a FIN is passed on four seconds later",
    "closes-both": "a FIN from either side closes both, once its bytes are delivered",
    "rst-for-fin": "a reset takes the place of a FIN",
    "rst-behind-fin": "when both FINs have been passed on, both sides are reset",
    "fin-for-rst": "a FIN takes the place of a reset",
    "loses-tail": "the bytes that a FIN comes with, and those that its sink has not taken yet, are lost",
    "never-reaps": "a half-closed session may last for ever",
    "caps-half-close": "a half-closed session is reset after four seconds, whatever moves",
    "hoards": "bytes are passed on by 16 at least",
    "flips-a-bit": "byte 3000 of either direction is changed",
    "deaf-behind-fin": "a reset behind a FIN is not noticed",
    "deaf-under-pressure": "a reset of a side that takes no bytes is not noticed",
    "impatient": "three silent seconds end a session, by FIN to both",
    "afraid-of-urgency": "urgent data ends the session",
    "silent-when-refused": "a client whose backend can't be reached is left waiting",
    "fin-when-refused": "a client whose backend can't be reached gets FIN",
}

BUFFER = 65536
REAP_S = 4.0
CONNECT_S = 2.0


def abort(leg):
    leg.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    leg.close()


class Half:
    """One direction: what was read from `source` and not yet taken by `sink`."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.buffer = b""
        self.read_bytes = 0
        self.eof_at = None
        self.is_shut = False


class Session:
    """Both halves, in a thread of their own."""

    def __init__(self, client, backend, bug):
        self.legs = (client, backend)
        self.bug = bug
        self.halves = (Half(client, backend), Half(backend, client))
        self.progress_at = time.monotonic()
        self.is_over = False

    def end(self, how):
        self.is_over = True
        for leg in self.legs:
            if how == "reset":
                abort(leg)
            else:
                leg.close()

    def reset_by_peer(self):
        self.end("fin" if self.bug == "fin-for-rst" else "reset")

    def read(self, half):
        try:
            data = half.source.recv(BUFFER)
        except BlockingIOError:
            return
        self.progress_at = time.monotonic()
        if not data:
            half.eof_at = time.monotonic()
            if self.bug == "loses-tail":
                half.buffer = b""
            return
        if self.bug == "loses-tail" and self.is_last(half):
            data = b""
        at = 3000 - half.read_bytes
        half.read_bytes += len(data)
        if self.bug == "flips-a-bit" and 0 <= at < len(data):
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        half.buffer += data

    @staticmethod
    def is_last(half):
        """Whether nothing but a FIN follows."""
        try:
            return not half.source.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False

    def is_due(self, half):
        return half.buffer and (self.bug != "hoards" or len(half.buffer) >= 16 or half.eof_at)

    def write(self, half):
        try:
            sent = half.sink.send(half.buffer)
        except BlockingIOError:
            return
        if sent:
            self.progress_at = time.monotonic()
        half.buffer = half.buffer[sent:]

    def fin(self, half):
        """The source has sent FIN and all before it is delivered."""
        if self.bug == "swallows-fin":
            return
        if self.bug == "late-fin" and time.monotonic() < half.eof_at + 4:
            return
        half.is_shut = True
        if self.bug == "rst-for-fin":
            self.end("reset")
        elif self.bug == "closes-both":
            self.end("fin")
        else:
            half.sink.shutdown(socket.SHUT_WR)

    def deadlines(self):
        now = time.monotonic()
        eof_at = min((half.eof_at for half in self.halves if half.eof_at), default=None)
        if eof_at is None:
            if self.bug == "impatient" and now > self.progress_at + 3:
                self.end("fin")
        elif self.bug == "caps-half-close" and now > eof_at + 4:
            self.end("reset")
        elif self.bug != "never-reaps" and now > max(eof_at, self.progress_at) + REAP_S + \
                (4 if self.bug == "late-fin" else 0):
            self.end("reset")

    def wanted(self, leg):
        events = 0
        for half in self.halves:
            if half.source is leg and not half.eof_at and len(half.buffer) < BUFFER:
                events |= select.POLLIN
            if half.sink is leg and self.is_due(half):
                events |= select.POLLOUT
        if self.bug == "afraid-of-urgency":
            events |= select.POLLPRI
        return events

    def hears_reset(self, leg):
        mine = next(half for half in self.halves if half.source is leg)
        other = next(half for half in self.halves if half.sink is leg)
        if self.bug == "deaf-behind-fin" and mine.eof_at:
            return False
        return not (self.bug == "deaf-under-pressure" and other.buffer)

    def serve_leg(self, leg, events):
        if events & select.POLLPRI:
            self.end("reset")
            return
        if events & select.POLLERR and leg.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            if self.hears_reset(leg):
                self.reset_by_peer()
            else:
                self.deaf.add(leg)
            return
        for half in self.halves:
            if half.source is leg and events & (select.POLLIN | select.POLLHUP) and not half.eof_at:
                self.read(half)
            if half.sink is leg and self.is_due(half) and events & select.POLLOUT:
                self.write(half)

    def turn(self):
        poll = select.poll()
        names = {}
        for leg in self.legs:
            if leg not in self.deaf:
                wanted = self.wanted(leg)
                both_over = all(half.is_shut for half in self.halves if half.sink is leg) and \
                    all(half.eof_at for half in self.halves if half.source is leg)
                if wanted or not both_over:
                    poll.register(leg, wanted)
                    names[leg.fileno()] = leg
        for number, events in poll.poll(50):
            if not self.is_over:
                self.serve_leg(names[number], events)
        if self.is_over:
            return
        for half in self.halves:
            if half.eof_at and not half.buffer and not half.is_shut and not self.is_over:
                self.fin(half)
        if self.is_over:
            return
        if all(half.is_shut for half in self.halves):
            self.end("reset" if self.bug == "rst-behind-fin" else "fin")
        else:
            self.deadlines()

    def run(self):
        self.deaf = set()
        while not self.is_over:
            try:
                self.turn()
            except OSError as error:
                if self.is_over:
                    return
                if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                    self.reset_by_peer()
                else:
                    raise


def serve(client, backend_port, bug):
    backend = socket.socket()
    backend.settimeout(CONNECT_S)
    try:
        backend.connect(("127.0.0.1", backend_port))
    except OSError:
        backend.close()
        if bug == "silent-when-refused":
            threading.Event().wait()
        if bug == "fin-when-refused":
            client.recv(BUFFER)  # unread bytes would turn close() into a reset
            client.close()
        else:
            abort(client)
        return
    for leg in (client, backend):
        leg.setblocking(False)
        leg.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    Session(client, backend, bug).run()


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in BUGS:
        sys.exit(__doc__ + "\nBugs:\n" + "".join(f"  {name:<20} {text}\n" for name, text in BUGS.items()))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(512)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, int(sys.argv[2]), sys.argv[3]), daemon=True).start()


if __name__ == "__main__":
    main()
