#!/usr/bin/env python3
"""A VLAN switch port in user space, for kernels without 802.1Q: frames from PLAIN leave TRUNK tagged, and back.

usage: tagger.py PLAIN TRUNK VLAN [INNER_VLAN]
"""
import select
import socket
import struct
import sys

SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 8, 23, 3
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6


def port(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.bind((name, 0))
    # Promiscuous: the inner hosts' addresses are not this interface's.
    s.setsockopt(SOL_PACKET, 1, struct.pack("IHH8s", socket.if_nametoindex(name), 1, 0, b""))
    return s


def receive(s):
    """A frame with the tag that the kernel keeps beside it put back."""
    frame, aux, _, _ = s.recvmsg(70000, 1000)
    for level, kind, data in aux:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
            if status & VLAN_VALID:
                frame = frame[:12] + struct.pack("!HH", tpid if status & TPID_VALID else 0x8100, tci) + frame[12:]
    return frame


plain, trunk = port(sys.argv[1]), port(sys.argv[2])
ids = [int(v) for v in sys.argv[3:]]
tags = b"".join(struct.pack("!HH", 0x88A8 if len(ids) == 2 and i == 0 else 0x8100, v) for i, v in enumerate(ids))
print("ready", flush=True)
while True:
    for s in select.select([plain, trunk], [], [])[0]:
        frame = receive(s)
        if s is plain:
            trunk.send(frame[:12] + tags + frame[12:])
        elif frame[12 : 12 + len(tags)] == tags:
            plain.send(frame[:12] + frame[12 + len(tags) :])
