#!/usr/bin/env python3
"""What stands before several dispatchers, as a router with many equal paths would: frames from HOST leave by one of PORTS each, at random, packets of
one stream too; what comes back by any of them goes to HOST.

usage: spreader.py [--probe MS] HOST PORT...

With --probe the spreaders at both ends send each other a frame through each path so often, and leave out a path by which three were missed.
It prints "ready", and with --probe a line "paths N" whenever their number changes.
"""
import random
import select
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 23, 3
PROBE = b"\x02\x00\x00\x00\x00\xfe" + b"\x02\x00\x00\x00\x00\xfd" + b"\x88\xb5" + bytes(46)


def port(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    s.bind((name, 0))
    # Promiscuous: the hosts' addresses are not this interface's.
    s.setsockopt(SOL_PACKET, 1, struct.pack("IHH8s", socket.if_nametoindex(name), 1, 0, b""))
    s.setblocking(False)
    return s


args = sys.argv[1:]
every = None
if args[0] == "--probe":
    every = float(args[1]) / 1000
    args = args[2:]
host, paths = port(args[0]), [port(name) for name in args[1:]]
heard = {s: time.monotonic() for s in paths}
alive, due = list(paths), 0.0
poll = select.epoll()
by_fd = {s.fileno(): s for s in [host, *paths]}
for fd in by_fd:
    poll.register(fd, select.EPOLLIN)


def send(s, frame):
    try:
        s.send(frame)
    except OSError:
        pass  # its queue is full, or the other end is gone: lost, as on a wire


print("ready", flush=True)
while True:
    for fd, _ in poll.poll(-1 if every is None else every / 2):
        s = by_fd[fd]
        for _ in range(64):
            try:
                frame = s.recv(70000)
            except OSError:
                break
            if s is host:
                if alive:
                    send(random.choice(alive), frame)
            elif frame[12:14] == b"\x88\xb5":
                heard[s] = time.monotonic()
            else:
                send(host, frame)
    if every is None:
        continue
    now = time.monotonic()
    if now >= due:
        due = now + every
        for s in paths:
            send(s, PROBE)
    there = [s for s in paths if now - heard[s] < 3.5 * every]
    if len(there) != len(alive):
        print("paths", len(there), flush=True)
    alive = there
