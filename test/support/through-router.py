"""Sends frames one by one into a router's two sides and says which of them came out at the other side.

Standard input: a line for each frame, `0 HEX` or `1 HEX` (side, frame). Arguments: the two devices and the router's two MACs.
A marker (UDP to port 65000, which the router lets through) follows each frame; when it arrives, the frame has, or never will.
Standard output: a line for each frame, `1` if it came through."""
import select, socket, sys

devices, macs = sys.argv[1:3], [bytes.fromhex(m.replace(':', '')) for m in sys.argv[3:5]]
sockets = []
for device in devices:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    s.bind((device, 3))
    sockets.append(s)


def checksum(data):
    total = sum(int.from_bytes(data[i:i + 2], 'big') for i in range(0, len(data), 2))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def marker(number, side):
    ends = [bytes([10, 1, 0, 250]), bytes([10, 2, 0, 250])]
    source, destination = ends[side], ends[1 - side]
    payload = b'marker' + number.to_bytes(4, 'big')
    udp = (65001).to_bytes(2, 'big') + (65000).to_bytes(2, 'big') + (8 + len(payload)).to_bytes(2, 'big') + bytes(2) + payload
    header = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, 'big') + bytes(4) + bytes([64, 17, 0, 0]) + source + destination
    return header[:10] + checksum(header).to_bytes(2, 'big') + header[12:] + udp


def same(packet):
    """What a router leaves alone."""
    p = bytearray(packet)
    if p[0] >> 4 == 4:
        p[8] = p[10] = p[11] = 0
        return bytes(p[:int.from_bytes(p[2:4], 'big')])
    p[7] = 0
    return bytes(p[:40 + int.from_bytes(p[4:6], 'big')])


for number, line in enumerate(sys.stdin):
    side, text = line.split()
    side, frame = int(side), bytes.fromhex(text)
    packet = frame[14:]
    head = macs[side] + b'\x02\0\0\0\0\x07'
    sockets[side].send(head + frame[12:])
    mark = marker(number, side)
    sockets[side].send(head + b'\x08\0' + mark)
    came = False
    while True:
        ready, _, _ = select.select([sockets[1 - side]], [], [], 10)
        if not ready:
            sys.exit('the marker of frame %d did not arrive' % number)
        got = sockets[1 - side].recv(65536)[14:]
        if len(got) < 20:
            continue
        if same(got) == same(mark):
            break
        came = came or same(got) == same(packet)
    print(int(came), flush=True)
