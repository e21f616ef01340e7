"""A bit flips in the table of the store that has the lanes while the relay runs: it is noticed, or does no harm, and nothing is lost. flipped_running.py [--control]"""

import time

import ground
from ground import Relay, find, flip, flood, promise


def case():
    directory = ground.folder + "/data"
    relay = Relay(directory)
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked = flood(relay, "a", 3)
    promise(relay.stop() == 0, "the relay did not stop")  # then the lanes are in a table
    relay.must_start()
    acked += flood(relay, "b", 2)
    hit = find(directory, b"held")
    promise(hit, "no table has the lane's record: the case shows nothing")
    if not ground.CONTROL:
        flip(hit[0], hit[1] + 2)
    for n in range(2):
        acked += flood(relay, "c%d" % n, 4)
        time.sleep(1)
    relay.must_hold("held", "while running", pending=len(acked), state="paused")
    relay.must_have(acked, "while running")
    promise(relay.stop() == 0, "the relay did not stop")
    relay.must_start()
    relay.must_hold("held", "after a restart", pending=len(acked), state="paused")
    relay.must_have(acked, "after a restart")
    return "%d acknowledged, all pending and the endpoint paused; told %d lines" % (len(acked), len(relay.told()))


ground.main(case)
