#!/usr/bin/env python3
"""A file in datagrams that may not be fragmented (DF, or IPv6 as it is), each asked for until it comes.

usage: whole_datagrams.py serve PORT FILE ADDRESS...
       whole_datagrams.py fetch ADDRESS PORT LENGTH   # payload of each; prints {"sha256", "bytes", "asked", "datagrams"} as JSON
"""
import hashlib
import json
import select
import socket
import struct
import sys

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
            question, who = s.recvfrom(100)
            number, length = struct.unpack("!II", question)
            size = length - 8
            s.sendto(struct.pack("!II", number, len(content)) + content[number * size : (number + 1) * size], who)


def fetch(address, port, length):
    s = whole(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.connect((address, port))
    s.settimeout(PATIENCE_S)
    parts, asked, wanted, waiting, silent = {}, 0, 1, set(), 0
    while len(parts) < wanted:
        for number in range(wanted):
            if len(waiting) == AT_ONCE:
                break
            if number not in parts and number not in waiting:
                s.send(struct.pack("!II", number, length))
                waiting.add(number)
                asked += 1
        try:
            answer = s.recv(65536)
        except TimeoutError:
            waiting.clear()
            silent += 1
            if silent == PATIENCE_TIMES:
                sys.exit(f"{address}: {len(parts)} of {wanted} datagrams came")
            continue
        number, total = struct.unpack("!II", answer[:8])
        waiting.discard(number)
        parts[number] = answer[8:]
        wanted = -(-total // (length - 8))
    content = b"".join(parts[i] for i in range(wanted))
    print(json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "asked": asked, "datagrams": wanted}))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
else:
    fetch(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
