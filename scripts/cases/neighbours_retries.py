"""Another endpoint's retries, however many, even an orphan's, hold up no endpoint whose receiver is well. neighbours_retries.py [--control]

With --control the neighbour has 1,000."""

import asyncio
import os
import signal
import socket
import time

import ground
from ground import Relay, promise

LOTS, RETRIES = 264000, 131000


def receiver(n):
    """A fast receiver in a process of its own: it answers 200 to even events, 500 to odd ones, and writes how many were even."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(512)
    s.setblocking(False)
    file = ground.folder + "/received%d" % n
    child = os.fork()
    if child:
        return "http://127.0.0.1:%d/" % s.getsockname()[1], file, child
    count = [0]

    class Connection(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.buffer = transport, b""

        def data_received(self, data):
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            low = self.buffer.lower()
            at = low.find(b"content-length: ")
            if end < 0 or len(self.buffer) < end + 4 + int(self.buffer[at + 16:].split(b"\r\n", 1)[0]):
                return
            at = low.find(b"webhook-id: ")
            number = int(self.buffer[at + 12:].split(b"\r\n", 1)[0].split(b"_")[-1])
            self.buffer = b""
            count[0] += number % 2 == 0
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (500 if number % 2 else 200))

    async def serve():
        await asyncio.get_running_loop().create_server(Connection, sock=s)
        while os.getppid() == parent:
            await asyncio.sleep(0.2)
            with open(file + ".new", "w") as f:
                f.write(str(count[0]))
            os.rename(file + ".new", file)

    asyncio.run(serve())
    os._exit(0)


parent = os.getpid()


def case():
    x_url, _, x = receiver(0)
    y_url, received, y = receiver(1)
    try:
        return play(x_url, y_url, received)
    finally:
        for child in (x, y):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def play(x_url, y_url, received):
    x, y = ("x", x_url, 'retry = ["24h"]\nconcurrency = 32'), ("y", y_url, 'retry = ["10m"]')
    relay = Relay(ground.folder + "/data", [x])
    relay.must_start()
    lots = 2000 if ground.CONTROL else LOTS
    for n in range(0, lots, 2000):
        body = "".join('{"id":"x_%d","type":"lead.created","data":{}}\n' % (n + i) for i in range(2000))
        promise(relay.post(body)[0] == 200, "events are refused")
    end = time.monotonic() + 300
    while relay.endpoint("x")["pending"] and relay.endpoint("x")["retrying"] < RETRIES and time.monotonic() < end:
        time.sleep(1)
    has = relay.endpoint("x")
    promise(has["retrying"] >= min(RETRIES, lots // 2), "x has %d retries: the case shows nothing" % has["retrying"])
    relay.configure([y])  # x is an orphan
    relay.must("POST", "/reload")
    for prefix, numbers in (("y", range(2400)), ("z", range(0, 2000, 2))):
        body = "".join('{"id":"%s_%d","type":"lead.created","data":{}}\n' % (prefix, n) for n in numbers)
        promise(relay.post(body)[0] == 200, "events are refused")
        time.sleep(3)
    end = time.monotonic() + 40
    while True:
        with open(received) as f:
            got = int(f.read())
        if got >= 2200:
            return "y got all of its 2200 good events beside %d retries of x" % has["retrying"]
        promise(time.monotonic() < end, "y, whose receiver is well, got %d of 2200; it has %s" % (got, relay.endpoint("y")))
        time.sleep(0.5)


ground.main(case)
