"""Another program fills the disk while the store merges tables: nothing that was acknowledged goes. disk_filled.py [tmpfs|ext4] [--control]"""

import os
import random
import time

import ground
from ground import Flood, Relay, fill, mount, needs, promise

ROUNDS = 4


def case():
    needs("mount", root=True)
    disk = os.path.join(ground.folder, "disk")
    mount(disk, (ground.ARGUMENTS or ["tmpfs"])[0], "2G")
    relay = Relay(disk + "/queue", queue='min_free = "128MiB"')
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked, filled, endings = [], 0, 0
    for n in range(ROUNDS):
        some = Flood(relay, "f%d" % n, 7)
        time.sleep(random.uniform(1.5, 4))
        if not ground.CONTROL:
            fill(disk + "/fill")
            there = os.statvfs(disk)
            filled += there.f_bavail * there.f_frsize < 16 << 20
            time.sleep(2)
            os.remove(disk + "/fill")
        acked += some.wait()
        time.sleep(1.5)
        if not relay.runs():  # it may end, and must be as it was when it is started again
            endings += 1
            relay.must_start(answers=(200, 503))
        relay.must_have(acked, "round %d" % n)
    promise(ground.CONTROL or filled == ROUNDS, "the disk was full in %d of %d rounds only" % (filled, ROUNDS))
    relay.must_hold("held", "at the end", pending=len(acked), state="paused")
    relay.kill()
    relay.must_start()
    relay.must_have(acked, "after a kill")
    relay.must_hold("held", "after a kill", pending=len(acked), state="paused")
    return "%d acknowledged, all there; the disk was full %d times, the relay ended %d times" % (len(acked), filled, endings)


ground.main(case)
