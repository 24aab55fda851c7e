"""Long and short TCP connections that come and go, each byte echoed and compared.

    tcp-churn.py serve PORT
    tcp-churn.py run ADDRESS PORT RATES FIRST_PORT LONG_FROM LONG_TO

`run` opens as many connections a second as the file RATES says (`LONG SHORT`, read ten times a second). A long one lives for LONG_FROM to
LONG_TO seconds and says something four times a second; a short one asks once. Each has a source port of its own. SIGTERM: no new ones
come, and when the last one has ended, the last line is JSON.
"""
import heapq
import json
import random
import selectors
import signal
import socket
import sys
import time

EVERY_S = 0.25
GIVE_UP_S = 30.0


def serve(port):
    poller = selectors.DefaultSelector()
    listener = socket.create_server(("0.0.0.0", port), backlog=1024)
    listener.setblocking(False)
    poller.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in poller.select():
            if key.fileobj is listener:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    continue
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poller.register(connection, selectors.EVENT_READ)
                continue
            connection = key.fileobj
            try:
                said = connection.recv(65536)
                if said:
                    connection.sendall(said)
                    continue
            except OSError:
                pass
            poller.unregister(connection)
            connection.close()


class Connection:
    def __init__(self, sock, lifetime, now):
        self.sock, self.until, self.is_long = sock, now + lifetime, lifetime > 0
        self.since = now  # what is waited for
        self.sent, self.got = b"", b""
        self.state = "connecting"
        self.worst = 0.0


class Churn:
    def __init__(self, address, port, rates, first_port, long_from, long_to):
        self.to, self.rates_file = (address, port), rates
        self.next_port, self.long = first_port, (long_from, long_to)
        self.poller = selectors.DefaultSelector()
        self.due = []  # (time, number, connection): when it speaks again, or is given up
        self.live, self.number = set(), 0
        self.ending = False
        self.opened = {"long": 0, "short": 0}
        self.failed = {}
        self.completed, self.worst, self.over_1s = 0, 0.0, 0
        self.pattern = random.Random(1).randbytes(4096)

    def at(self, when, connection):
        self.number += 1
        heapq.heappush(self.due, (when, self.number, connection))

    def open(self, lifetime):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(("0.0.0.0", self.next_port))
        self.next_port += 1
        connection = Connection(sock, lifetime, time.monotonic())
        self.opened["long" if lifetime > 0 else "short"] += 1
        try:
            sock.connect(self.to)
        except BlockingIOError:
            pass
        self.live.add(connection)
        self.poller.register(sock, selectors.EVENT_WRITE, connection)
        self.at(connection.since + GIVE_UP_S, connection)

    def over(self, connection, failure=None):
        self.poller.unregister(connection.sock)
        connection.sock.close()
        self.live.discard(connection)
        connection.state = "over"
        self.worst = max(self.worst, connection.worst)
        if connection.worst > 1:
            self.over_1s += 1
        if failure is None:
            self.completed += 1
        else:
            self.failed[failure] = self.failed.get(failure, 0) + 1

    def waited(self, connection, now):
        connection.worst = max(connection.worst, now - connection.since)

    def speak(self, connection, now):
        size = random.randrange(16, 2048)
        at = random.randrange(0, 2048)
        connection.sent, connection.got, connection.since, connection.state = self.pattern[at:at + size], b"", now, "asked"
        connection.sock.send(connection.sent)
        self.at(now + GIVE_UP_S, connection)

    def ready(self, connection, now):
        try:
            if connection.state == "connecting":
                error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "connect")
                self.waited(connection, now)
                self.poller.modify(connection.sock, selectors.EVENT_READ, connection)
                return self.speak(connection, now)
            said = connection.sock.recv(65536)
            if not said:
                return self.over(connection, None if connection.state == "ending" else "ended early")
            connection.got += said
            if connection.got != connection.sent[:len(connection.got)]:
                return self.over(connection, "wrong")
            if len(connection.got) < len(connection.sent):
                return
            self.waited(connection, now)
            if connection.is_long and now < connection.until:
                connection.state = "resting"
                self.at(now + EVERY_S * random.uniform(0.5, 1.5), connection)
            else:
                connection.state, connection.since = "ending", now
                connection.sock.shutdown(socket.SHUT_WR)
                self.at(now + GIVE_UP_S, connection)
        except ConnectionResetError:
            self.over(connection, "reset")
        except OSError as error:
            self.over(connection, error.strerror or "error")

    def look(self, now):
        while self.due and self.due[0][0] <= now:
            _, _, connection = heapq.heappop(self.due)
            if connection.state == "resting":
                try:
                    self.speak(connection, now)
                except OSError as error:
                    self.over(connection, error.strerror or "error")
            elif connection.state != "over" and now - connection.since >= GIVE_UP_S:
                self.waited(connection, now)
                self.over(connection, "timeout")

    def run(self):
        print("ready", flush=True)
        rates, read_at, last = [0.0, 0.0], 0.0, time.monotonic()
        owed = [0.0, 0.0]
        while not self.ending or self.live:
            for key, _ in self.poller.select(0.01):
                self.ready(key.data, time.monotonic())
            now = time.monotonic()
            self.look(now)
            if now >= read_at:
                read_at = now + 0.1
                try:
                    rates = [float(word) for word in open(self.rates_file).read().split()]
                except (OSError, ValueError):
                    pass
            # After a pause not all of them at once.
            passed, last = min(now - last, 0.2), now
            if self.ending:
                continue
            for i in (0, 1):
                owed[i] += rates[i] * passed
                while owed[i] >= 1:
                    owed[i] -= 1
                    self.open(random.uniform(*self.long) if i == 0 else 0)
        print(json.dumps({"opened": self.opened, "completed": self.completed, "failed": self.failed, "longest_wait_ms": round(self.worst * 1000), "over_1s": self.over_1s}), flush=True)


def main():
    if sys.argv[1] == "serve":
        return serve(int(sys.argv[2]))
    address, port, rates, first_port, long_from, long_to = sys.argv[2:8]
    churn = Churn(address, int(port), rates, int(first_port), float(long_from), float(long_to))

    def end(*_):
        churn.ending = True

    signal.signal(signal.SIGTERM, end)
    churn.run()


main()
