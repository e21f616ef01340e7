"""A full btrfs, which writes anew what was reserved once, ends no relay by SIGBUS, and nothing that was acknowledged goes. btrfs_full.py [--control]"""

import os
import random
import time

import ground
from ground import Flood, Relay, fill, mount, needs, promise

ROUNDS = 4


def case():
    needs("mkfs.btrfs", root=True)
    disk = ground.folder + "/disk"
    mount(disk, "btrfs", "2G")
    relay = Relay(disk + "/queue", queue='min_free = "128MiB"')
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked, full = [], 0
    for n in range(ROUNDS):
        some = Flood(relay, "f%d" % n, 6)
        time.sleep(random.uniform(1, 3))
        if not ground.CONTROL:
            fill(disk + "/fill")
            full += os.path.getsize(disk + "/fill") > 0
            time.sleep(2)
            os.remove(disk + "/fill")
        acked += some.wait()
        promise(relay.runs() or relay.process.returncode == 1, "round %d: the relay ended with %s: %s" % (n, relay.process.returncode, bus(relay)))
        promise(not bus(relay), "round %d: %s" % (n, bus(relay)))
        if not relay.runs():
            relay.must_start(answers=(200, 503))
        relay.must_have(acked, "round %d" % n)
    promise(ground.CONTROL or full == ROUNDS, "the disk was full in %d of %d rounds only" % (full, ROUNDS))
    relay.kill()
    relay.must_start()
    relay.must_have(acked, "after a kill")
    relay.must_hold("held", "after a kill", pending=len(acked), state="paused")
    return "%d acknowledged, all there; the disk was full %d times" % (len(acked), full)


def bus(relay):
    with open(relay.log, errors="replace") as f:
        return [line.strip() for line in f if "SIGBUS" in line or "unexpected fault" in line][:2]


ground.main(case)
