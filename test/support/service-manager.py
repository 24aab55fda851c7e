# Stands for systemd: prints each message that comes to its notification socket as JSON, with the pid of the sender.
import json
import socket
import struct
import sys

s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 16, 1)  # SO_PASSCRED
name = sys.argv[1]
s.bind('\0' + name[1:] if name[0] == '@' else name)
print('ready', flush=True)
while True:
    data, control, _, _ = s.recvmsg(65536, 256)
    print(json.dumps([struct.unpack('3i', control[0][2])[0], data.decode()]), flush=True)
