"""A bump's own answer: whoever opens a connection to PORT by way of DEVICE gets a RST in the name of the other end.

resetting_bump.py DEVICE PORT      says `ready`; the box itself has to drop what it answers
"""
import socket
import struct
import sys

SYN, RST_ACK = 2, 0x14


def total(data):
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xFFFF) + (n >> 16)
    return n


device, port = sys.argv[1], int(sys.argv[2])
# Of all protocols: those of one are asked behind the bridge, which has taken the frame by then.
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((device, 0))
print("ready", flush=True)
while True:
    frame, (_, _, kind, *_) = s.recvfrom(65536)
    if kind == socket.PACKET_OUTGOING or len(frame) < 54 or frame[12:15] != b"\x08\0\x45" or frame[23] != 6:
        continue
    source, destination, sequence = *struct.unpack("!HH", frame[34:38]), struct.unpack("!I", frame[38:42])[0]
    if destination != port or frame[47] & 0x17 != SYN:
        continue
    ends = frame[30:34] + frame[26:30]
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, ends)
    ip = ip[:10] + struct.pack("!H", ~total(ip) & 0xFFFF) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", destination, source, 0, (sequence + 1) & 0xFFFFFFFF, 5 << 4, RST_ACK, 0, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", ~total(ends + struct.pack("!HH", 6, 20) + tcp) & 0xFFFF) + tcp[18:]
    s.send(frame[6:12] + frame[0:6] + frame[12:14] + ip + tcp)
