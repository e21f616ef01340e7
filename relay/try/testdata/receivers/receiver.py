# A receiver that verifies the bytes as they were received. Start: PORT=3000 SECRET=… python3 receiver.py
import hashlib
import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["SECRET"].encode()
if not SECRET:
    raise SystemExit("SECRET is empty")  # an empty key would let anyone sign


def signed(header, body):
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(header.encode(), expected.encode())


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the relay's connection open

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ok = signed(self.headers.get("X-RealtorBot-Signature", ""), body)
        print("ok " + json.loads(body)["id"] if ok else "bad", flush=True)
        self.send_response(200 if ok else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Receiver)
print("listening on", server.server_port, flush=True)
server.serve_forever()
