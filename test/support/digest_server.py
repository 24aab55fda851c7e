"""An HTTP server for tests: GET /who says its name, GET /download a file, POST the SHA-256 of what was posted.

    digest_server.py NAME PORT FILE
"""
import hashlib
import http.server
import socket
import sys

name, port, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(open(file, "rb").read() if self.path == "/download" else name.encode())

    def do_POST(self):
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 65536))
            if not part:
                return
            digest.update(part)
            left -= len(part)
        self.answer(f"{name} {digest.hexdigest()}".encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


server = Server(("::", port), Handler)
print("serving", flush=True)
server.serve_forever()
