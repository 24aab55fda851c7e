"""Sends frames as whoever it likes.

spoof.py frames DEVICE                                  frames in hex, one a line, from standard input
spoof.py syn DEVICE TO_MAC DESTINATION PORT STREAMS     SYNs of so many streams, each from another address and port (IPv4)
"""
import errno
import socket
import struct
import sys
import time


def opened(device):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((device, 0))
    return s


def frames(device):
    s = opened(device)
    sent = 0
    for line in sys.stdin:
        s.send(bytes.fromhex(line.strip()))
        sent += 1
    print(f"sent {sent}")


def total(data):
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xFFFF) + (n >> 16)
    return n


def syn(device, to_mac, destination, port, streams):
    s = opened(device)
    own = open(f"/sys/class/net/{device}/address").read().strip().replace(":", "")
    frame = bytearray(bytes.fromhex(to_mac.replace(":", "") + own + "0800"))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0x4000, 64, 6, 0, b"\0\0\0\0", socket.inet_aton(destination))
    tcp = struct.pack("!HHIIBBHHH", 0, int(port), 1, 0, 5 << 4, 2, 65535, 0, 0)
    frame += ip + tcp
    base_ip = total(bytes(ip))
    base_tcp = total(tcp) + total(socket.inet_aton(destination)) + 6 + 20
    for n in range(int(streams)):
        # 198.18.0.0/15 is for benchmarks (RFC 2544): 131,072 addresses, each with other ports.
        address, source = 0xC6120000 | (n & 0x1FFFF), 1024 + (n >> 17)
        high, low = address >> 16, address & 0xFFFF
        checks = []
        for start in (base_ip + high + low, base_tcp + high + low + source):
            while start >> 16:
                start = (start & 0xFFFF) + (start >> 16)
            checks.append(~start & 0xFFFF)
        struct.pack_into("!H", frame, 24, checks[0])
        struct.pack_into("!I", frame, 26, address)
        struct.pack_into("!H", frame, 34, source)
        struct.pack_into("!H", frame, 50, checks[1])
        while True:
            try:
                s.send(frame)
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the receiver's backlog is full
                    raise
                time.sleep(0.001)
    print(f"sent {streams}")


{"frames": frames, "syn": syn}[sys.argv[1]](*sys.argv[2:])
