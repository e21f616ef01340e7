"""Tables of the store are gone, or the whole of it, or a segment of the log: what the log has is all there, what it had not is counted and told by its numbers. store_gone.py [--control]"""

import glob
import os
import re
import shutil
import time

import ground
from ground import Relay, flood, promise, segments, tables


def remove(pattern):
    for path in glob.glob(pattern):
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def case():
    relay = Relay(ground.folder + "/data")
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked = flood(relay, "a", 3, threads=3)
    promise(relay.stop() == 0, "the relay did not stop")
    relay.must_start()
    while len(segments(relay.directory)) < 3:
        promise(len(acked) < 2000000, "no segment is sealed")
        acked += flood(relay, "b%d" % len(acked), 4, threads=3)
    time.sleep(1)
    promise(relay.stop() == 0, "the relay did not stop")
    first = segments(relay.directory)[0]
    promise(tables(relay.directory), "the store has no table: the case shows nothing")
    cases = [("nothing", "nothing-at-all", 0)] if ground.CONTROL else [
        ("one table", "store/" + tables(relay.directory)[-1], 0),
        ("all tables", "store/*.sst", 0),
        ("the store", "store", 0),
        ("store and mark", "[sm]*[ek]", 0),
        ("the first segment", "log/" + first, 1),
    ]
    lost = 0
    for n, (name, what, loses) in enumerate(cases):
        directory = ground.folder + "/copy"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(relay.directory, directory)
        promise(ground.CONTROL or glob.glob(directory + "/" + what), "there is no %s: the case shows nothing" % name)
        remove(directory + "/" + what)
        one = Relay(directory, name="copy%d" % n)
        one.must_start(answers=(200, 503))
        if not loses:
            one.must_have(acked, "without " + name)
            one.must_hold("held", "without " + name, pending=len(acked), state="paused")
            promise(ground.CONTROL or one.damaged() > 0 and one.told(), "without %s: nothing is told" % name)
        else:
            gone = one.missing(acked)
            promise(gone, "without %s nothing is gone: the case shows nothing" % name)
            promise(one.damaged() >= len(gone), "without %s %d events are gone and %d are counted: %s" % (name, len(gone), one.damaged(), one.told()))
            ranges = [int(b) - int(a) + 1 for line in one.told() for a, b in re.findall(r"events (\d+) to (\d+)", line)]
            promise(sum(ranges) >= len(gone), "without %s %d events are gone and the lines tell of %s: %s" % (name, len(gone), ranges, one.told()))
            lost = len(gone)
        one.kill()
    return "%d acknowledged; a segment that is gone had %d, which are counted and told" % (len(acked), lost)


ground.main(case)
