#!/usr/bin/env python3
"""Numbered datagrams of many streams at a steady rate, and who counts them at the other end.

  udp-streams.py send ADDRESS PORT FIRST_SOURCE_PORT STREAMS PACKETS_A_SECOND
  udp-streams.py receive PORT

Each prints `ready`, and at SIGTERM a line of JSON. The receiver takes the kernel's time of arrival (SO_TIMESTAMPNS), so that its
own delays are not counted.
"""
import json
import signal
import socket
import struct
import sys
import time

over = False


def end(*_):
    global over
    over = True


signal.signal(signal.SIGTERM, end)


def send(address, port, first, streams, rate):
    sockets = []
    for i in range(streams):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(('', first + i))
        s.connect((address, port))
        sockets.append(s)
    print('ready', flush=True)
    number, errors, begin = 0, 0, time.monotonic()
    while not over:
        due = int((time.monotonic() - begin) * rate)
        # After a pause of the scheduler no burst that nobody asked for.
        if due - number > rate // 50:
            begin += (due - number) / rate
            continue
        while number < due:
            try:
                sockets[number % streams].send(struct.pack('>Q', number).ljust(64, b'.'))
            except OSError:
                errors += 1
            number += 1
        time.sleep(0.0005)
    print(json.dumps({'sent': number, 'errors': errors}), flush=True)


def receive(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    s.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    s.bind(('', port))
    s.settimeout(0.1)
    print('ready', flush=True)
    seen, twice, disorder, gap, last, last_of = set(), 0, 0, 0, None, {}
    quiet = 0
    while not over or quiet < 3:
        try:
            data, control, _, peer = s.recvmsg(2048, 128)
        except socket.timeout:
            quiet += 1
            continue
        quiet = 0
        number = struct.unpack('>Q', data[:8])[0]
        for level, kind, value in control:
            if level == socket.SOL_SOCKET and kind == 35:
                seconds, nanoseconds = struct.unpack('qq', value[:16])
                at = seconds * 10**9 + nanoseconds
                if last is not None:
                    gap = max(gap, at - last)
                last = at
        if number in seen:
            twice += 1
        seen.add(number)
        if number < last_of.get(peer, 0):
            disorder += 1
        last_of[peer] = number
    highest = max(seen, default=-1)
    missing = [n for n in range(highest) if n not in seen]
    holes = [n for i, n in enumerate(missing) if i == 0 or missing[i - 1] != n - 1]
    print(json.dumps({'received': len(seen), 'twice': twice, 'disorder': disorder, 'gap_ms': gap / 1e6, 'highest': highest, 'holes': holes[:20]}), flush=True)


if sys.argv[1] == 'send':
    send(sys.argv[2], *(int(a) for a in sys.argv[3:7]))
else:
    receive(int(sys.argv[2]))
