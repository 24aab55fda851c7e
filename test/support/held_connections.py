"""TCP connections that stay: held_connections.py serve PORT | hold ADDRESS PORT COUNT

`hold` prints "open N", and for each line that it reads then sends a word on every connection, waits for it to come back on each,
and prints how many answered. `serve` sends back what it gets.
"""
import resource
import select
import socket
import sys

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def serve(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", int(port)))
    listener.listen(4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    held = {}
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                s, _ = listener.accept()
                held[s.fileno()] = s
                poll.register(s, select.EPOLLIN)
                continue
            try:
                data = held[fd].recv(4096)
                if data:
                    held[fd].sendall(data)
                    continue
            except OSError:
                pass
            poll.unregister(fd)
            held.pop(fd).close()


def hold(address, port, count):
    held = []
    for _ in range(int(count)):
        s = socket.create_connection((address, int(port)), 30)
        held.append(s)
    print(f"open {len(held)}", flush=True)
    for line in sys.stdin:
        word = line.encode()
        answered = 0
        for s in held:
            try:
                s.sendall(word)
            except OSError:
                pass
        for s in held:
            try:
                answered += s.recv(4096) == word
            except OSError:
                pass
        print(f"answered {answered}", flush=True)


{"serve": serve, "hold": hold}[sys.argv[1]](*sys.argv[2:])
