"""Bits flip among the ids in the footers of the log: no id in its window is accepted again. flipped_ids.py [--control]"""

import os
import random
import struct

import ground
from ground import Relay, flip, flood, promise, segments


def case():
    directory = ground.folder + "/data"
    relay = Relay(directory)
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked = []
    while len(segments(directory)) < 3:
        promise(len(acked) < 2000000, "no segment is sealed")
        acked += flood(relay, "f%d" % len(acked), 4)
    promise(relay.stop() == 0, "the relay did not stop")
    flipped = 0
    for name in segments(directory)[:-1]:
        path = os.path.join(directory, "log", name)
        begin, length = ids_of(path)
        for _ in range(1 if ground.CONTROL else 3):
            if not ground.CONTROL:
                flip(path, begin + random.randrange(length))
                flipped += 1
    relay.must_start()
    twice = 0
    for at in range(0, len(acked), 2000):
        body = "".join('{"id":"%s","type":"lead.created","data":{}}\n' % one for one in acked[at:at + 2000])
        status, answer = relay.post(body)
        promise(status == 200, "posted again, events are answered %d: %s" % (status, answer))
        twice += answer["accepted"]
    promise(twice == 0, "%d of %d ids were accepted twice; damaged %d, told %s" % (twice, len(acked), relay.damaged(), relay.told()))
    status, answer = relay.post('{"id":"%s","type":"lead.created","data":{}}' % ground.NEVER_SENT)
    promise(status == 200 and answer.get("status") == "accepted", "a new id is answered %d, %s: the case shows nothing" % (status, answer))
    relay.must_hold("held", "afterwards", pending=len(acked) + 1)
    return "%d ids posted again, none accepted; %d bits flipped in %d footers" % (len(acked), flipped, len(segments(directory)) - 1)


IDS_AT = 124  # of place and length of the ids in the trailer; see queue/log/segment.go


def ids_of(path):
    """Where the pages of ids of a sealed segment lie, as its trailer says."""
    with open(path, "rb") as f:
        f.seek(-192, os.SEEK_END)
        trailer = f.read(192)
    begin, length = struct.unpack_from("<QQ", trailer, IDS_AT)
    return begin, length


ground.main(case)
