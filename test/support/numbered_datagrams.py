#!/usr/bin/env python3
"""Numbered datagrams of one stream, in frames of all lengths: lone ones, and trains that travel as one super-frame (UDP_SEGMENT).

usage: numbered_datagrams.py send ADDRESS PORT SECONDS
       numbered_datagrams.py receive PORT   # until a datagram says that it is the last; prints {"received", "sent", "late"} as JSON
"""
import json
import socket
import struct
import sys
import time

SOL_UDP, UDP_SEGMENT, SEGMENT = 17, 103, 1200
TRAINS = [1, 2, 40, 1, 9, 1, 1, 13, 30, 1, 3]
LAST = 1 << 31


def send(address, port, seconds):
    out = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(SOL_UDP, UDP_SEGMENT, SEGMENT)
    out.connect((address, port))
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for train in TRAINS:
            parts = [struct.pack("!I", number + i).ljust(SEGMENT, b".") for i in range(train)]
            parts[-1] = parts[-1][: 100 + 37 * (number % 29)]  # the last of a train may be shorter
            number += train
            out.send(b"".join(parts))
        time.sleep(0.002)
    out.settimeout(0.05)
    for _ in range(20):
        try:
            out.send(struct.pack("!I", LAST | number))
            out.recv(1)
        except TimeoutError:  # it may be lost as any datagram may
            continue
        except ConnectionRefusedError:  # the receiver has it, and is gone
            break


def receive(port):
    bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    bound.bind(("::", port))
    bound.settimeout(60)
    print("ready", flush=True)
    received, late, highest = 0, 0, -1
    while True:
        number = struct.unpack("!I", bound.recv(2048)[:4])[0]
        if number & LAST:
            print(json.dumps({"received": received, "sent": number & ~LAST, "late": late}), flush=True)
            return
        received += 1
        late += number < highest
        highest = max(highest, number)


if sys.argv[1] == "send":
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
else:
    receive(int(sys.argv[2]))
