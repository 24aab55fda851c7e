# Many TCP connections that talk all the time, for tests of failures: `serve ADDRESS PORT` echoes; `talk ADDRESS PORT STREAMS PER_SECOND` opens
# that many, sends numbered lines on each, and checks that each comes back in order. A line on standard input asks it: it answers with a JSON
# line of {"streams": [lines that came back, by stream], "reset": [stream, why], "wrong": lines that differ}. It ends with its input.
import json, random, selectors, socket, sys, time

kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
selector = selectors.DefaultSelector()

if kind == 'serve':
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1024)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    print('ready', flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                one, _ = listener.accept()
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(one, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(data)  # lines are short, and waited for
                    continue
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()

streams, pause = int(sys.argv[4]), 1 / float(sys.argv[5])
back, expected, due, reset, wrong = [0] * streams, [b''] * streams, [0.0] * streams, {}, 0
sockets = []
TOGETHER = 64  # connections that are made at once: one after the other takes long where each packet does
opening = selectors.DefaultSelector()
end = time.monotonic() + 60
while len(sockets) < streams or opening.get_map():
    while len(sockets) < streams and len(opening.get_map()) < TOGETHER:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((address, port))
        sockets.append(one)
        opening.register(one, selectors.EVENT_WRITE)
    if time.monotonic() > end:
        sys.exit(f'{len(opening.get_map())} connections could not be made')
    for key, _ in opening.select(1):
        failed = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            sys.exit(f'a connection could not be made: {failed}')
        opening.unregister(key.fileobj)
for i, one in enumerate(sockets):
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(one, selectors.EVENT_READ, i)
selector.register(sys.stdin, selectors.EVENT_READ, 'ask')
print('ready', flush=True)


def lost(i, why):
    reset[i] = why
    selector.unregister(sockets[i])


while True:
    now = time.monotonic()
    next_due = now + pause / 4
    for i in range(streams):
        if i in reset or expected[i]:
            continue
        if now < due[i]:
            next_due = min(next_due, due[i])
            continue
        line = b'%d %d\n' % (i, back[i])
        try:
            sockets[i].sendall(line)
            expected[i] = line
            due[i] = now + pause * random.uniform(0.5, 1.5)  # or they would all speak at once after all have waited
        except OSError as error:
            lost(i, str(error))
    # Not only when some line comes back: while an instance is gone, none does.
    for key, _ in selector.select(max(0, next_due - time.monotonic())):
        i = key.data
        if i == 'ask':
            if not sys.stdin.readline():
                sys.exit(0)
            print(json.dumps({'streams': back, 'reset': sorted(reset.items()), 'wrong': wrong}), flush=True)
            continue
        try:
            data = sockets[i].recv(65536)
        except (BlockingIOError, InterruptedError):
            continue
        except OSError as error:
            lost(i, str(error))
            continue
        if not data:
            lost(i, 'closed')
        elif not expected[i].startswith(data):
            wrong += 1
            expected[i] = b''
        else:
            expected[i] = expected[i][len(data):]
            if not expected[i]:
                back[i] += 1
