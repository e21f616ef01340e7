"""An endpoint goes on whatever another one has to attempt again. retries_of_others.py [--control]

The other one, whose endpoint is not configured any more, has 132,000 deliveries waiting; with --control it has 1,000."""

import asyncio
import os
import signal
import socket
import time

import ground
from ground import Relay, promise

COUNT = 2000 if ground.CONTROL else 264000  # of which every second one is attempted again
OWN, GOOD = 2400, 1000


def receiver():
    """A process that refuses events with an odd number by 422, and writes into a file how many it took. Returns its url and that file."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    port = listener.getsockname()[1]
    file = os.path.join(ground.folder, "taken-%d" % port)
    child = os.fork()
    if child:
        listener.close()
        return "http://127.0.0.1:%d/" % port, file, child
    taken = set()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.buffer = transport, b""

        def data_received(self, data):
            self.buffer += data
            head, _, body = self.buffer.partition(b"\r\n\r\n")
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
            if b"\r\n\r\n" not in self.buffer or len(body) < int(fields[b"content-length"]):
                return
            self.buffer, event = b"", fields[b"webhook-id"]
            refused = int(event.rpartition(b"_")[2]) % 2
            if not refused:
                taken.add(event)
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (422 if refused else 200))

    async def serve():
        await asyncio.get_running_loop().create_server(Connection, sock=listener)
        while os.getppid() != 1:
            with open(file + ".new", "w") as f:
                f.write(str(len(taken)))
            os.rename(file + ".new", file)
            await asyncio.sleep(0.2)

    try:
        listener.setblocking(False)
        asyncio.run(serve())
    finally:
        os._exit(0)


def post(relay, prefix, count, step=1):
    for at in range(0, count, 2000):
        body = "".join('{"id":"%s_%d","type":"lead.created","data":{}}\n' % (prefix, i * step) for i in range(at, min(at + 2000, count)))
        promise(relay.post(body)[0] == 200, "events are refused")


def case():
    other, _, first = receiver()
    own, file, second = receiver()
    try:
        both = [("other", other, 'retry = ["24h"]\nconcurrency = 32'), ("own", own, 'retry = ["10m"]')]
        relay = Relay(os.path.join(ground.folder, "data"), both[:1])
        relay.must_start()
        post(relay, "x", COUNT)
        relay.must_hold_within(240, "other", "all is attempted once", pending=0, retrying=COUNT // 2)
        relay.configure(both[1:])
        relay.must("POST", "/reload")
        post(relay, "y", OWN)
        post(relay, "z", GOOD, 2)
        relay.must_hold_within(30, "own", "beside %d of another" % (COUNT // 2), pending=0, retrying=OWN // 2, delivered=OWN // 2 + GOOD)
        time.sleep(0.5)
        with open(file) as f:
            promise(int(f.read()) == OWN // 2 + GOOD, "its receiver has not what it is said to have")
        promise(relay.endpoint("other")["retrying"] == COUNT // 2, "the other one lost what it had")
        relay.stop()
        return "%d good events came beside %d retries of another" % (OWN // 2 + GOOD, COUNT // 2)
    finally:
        for child in (first, second):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


ground.main(case)
