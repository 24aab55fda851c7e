# Numbered datagrams, for tests: `send ADDRESS PORT SOURCE_PORT PER_SECOND` until it is ended, or `receive ADDRESS PORT`, which prints
# each missing number's range and what arrived as JSON when it is ended, or `many ADDRESS PORT FIRST_SOURCE_PORT STREAMS PER_SECOND`: that many
# streams, each of so many datagrams a second, or `fresh ADDRESS PORT FIRST_SOURCE_PORT PER_SECOND`: each datagram is a stream of its own.
import json, signal, socket, struct, sys, time

kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if kind == 'send':
    s.bind(('', int(sys.argv[4])))
    pause, n, due = 1 / float(sys.argv[5]), 0, time.monotonic()
    print('ready', flush=True)
    while True:
        s.sendto(struct.pack('!I', n) + b'x' * 60, (address, port))
        n += 1
        due += pause
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        elif wait < -0.1:
            due = time.monotonic()  # kept from running: no burst
elif kind == 'fresh':
    first, pause, n, due = int(sys.argv[4]), 1 / float(sys.argv[5]), 0, time.monotonic()
    print('ready', flush=True)
    while True:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(('', first + n % 20000))
        one.sendto(struct.pack('!I', n) + b'x' * 60, (address, port))
        one.close()
        n += 1
        due += pause
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        elif wait < -0.1:
            due = time.monotonic()
elif kind == 'many':
    first, streams, per_second = int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    sockets = []
    for i in range(streams):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(('', first + i))
        sockets.append(one)
    n = 0
    while True:
        for one in sockets:
            one.sendto(struct.pack('!I', n) + b'x' * 60, (address, port))
        n += 1
        if n == 1:
            print('ready', flush=True)
        time.sleep(1 / per_second)
else:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind((address, port))
    seen, twice, last, gap = set(), 0, None, 0.0
    def end(*_):
        highest = max(seen, default=-1)
        lowest = min(seen, default=0)
        print(json.dumps({'received': len(seen), 'twice': twice, 'missing': highest - lowest + 1 - len(seen) if seen else 0, 'longest_gap_ms': gap * 1000}), flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print('ready', flush=True)
    while True:
        data = s.recv(2048)
        now = time.monotonic()
        n = struct.unpack('!I', data[:4])[0]
        if n in seen:
            twice += 1
        seen.add(n)
        if last is not None:
            gap = max(gap, now - last)
        last = now
