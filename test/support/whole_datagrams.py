#!/usr/bin/env python3
"""A file in datagrams that may not be fragmented (DF, or IPv6 as it is), each asked for until it comes.

usage: whole_datagrams.py serve PORT FILE ADDRESS...
       whole_datagrams.py fetch ADDRESS PORT LENGTH [STREAMS]
       whole_datagrams.py take PORT ADDRESS
       whole_datagrams.py send ADDRESS PORT LENGTH FILE

`fetch` asks for datagrams with LENGTH bytes of payload, and prints {"sha256", "bytes", "asked", "datagrams"} as JSON; with STREAMS again and again, by
so many sockets in turn, a line each time, and its questions are as long as the answers. `take` and `send` are for where no answer comes back: `send` says
everything until it is ended, and `take` prints the same when it has heard everything.
"""
import hashlib
import json
import select
import socket
import struct
import sys
import time

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, DO = 10, 23, 2
AT_ONCE, PATIENCE_S, PATIENCE_TIMES = 16, 1, 15


def whole(family):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, DO)
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DO)
    return s


def serve(port, file, addresses):
    content = open(file, "rb").read()
    sockets = []
    for address in addresses:  # one each, so that answers come from the address that was asked
        sockets.append(whole(socket.AF_INET6 if ":" in address else socket.AF_INET))
        sockets[-1].bind((address, port))
    print("ready", flush=True)
    while True:
        for s in select.select(sockets, [], [])[0]:
            question, who = s.recvfrom(65536)
            number, length = struct.unpack("!II", question[:8])
            size = length - 8
            s.sendto(struct.pack("!II", number, len(content)) + content[number * size : (number + 1) * size], who)


def connected(address, port):
    s = whole(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.connect((address, port))
    s.settimeout(PATIENCE_S)
    return s


def tell(parts, wanted, asked):
    content = b"".join(parts[i] for i in range(wanted))
    print(json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "asked": asked, "datagrams": wanted}), flush=True)


def fetch(s, length, asking=8):
    parts, asked, wanted, waiting, silent = {}, 0, 1, set(), 0
    while len(parts) < wanted:
        for number in range(wanted):
            if len(waiting) == AT_ONCE:
                break
            if number not in parts and number not in waiting:
                s.send(struct.pack("!II", number, length).ljust(asking, b"?"))
                waiting.add(number)
                asked += 1
        try:
            answer = s.recv(65536)
        except TimeoutError:
            waiting.clear()
            silent += 1
            if silent == PATIENCE_TIMES:
                sys.exit(f"{s.getpeername()}: {len(parts)} of {wanted} datagrams came")
            continue
        number, total = struct.unpack("!II", answer[:8])
        waiting.discard(number)
        parts[number] = answer[8:]
        wanted = -(-total // (length - 8))
    tell(parts, wanted, asked)


def take(port, address):
    s = whole(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.bind((address, port))
    print("ready", flush=True)
    parts, wanted, heard = {}, 1, 0
    while len(parts) < wanted:
        datagram = s.recv(65536)
        heard += 1
        number, wanted = struct.unpack("!II", datagram[:8])
        parts[number] = datagram[8:]
    tell(parts, wanted, heard)


def send(address, port, length, file):
    content = open(file, "rb").read()
    s, size = connected(address, port), length - 8
    wanted = -(-len(content) // size)
    while True:
        for number in range(wanted):
            try:
                s.send(struct.pack("!II", number, wanted) + content[number * size : (number + 1) * size])
            except ConnectionRefusedError:  # it has heard everything, and is gone
                pass
            time.sleep(0.001)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
elif sys.argv[1] == "take":
    take(int(sys.argv[2]), sys.argv[3])
elif sys.argv[1] == "send":
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
else:
    address, port, length = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if len(sys.argv) == 5:
        fetch(connected(address, port), length)
    else:
        sockets = [connected(address, port) for _ in range(int(sys.argv[5]))]
        while True:
            for s in sockets:
                fetch(s, length, length)
