"""A second relay on the same directory is refused before it looks at anything, also when the file lock is gone. second_relay.py [--control]"""

import os
import time

import ground
from ground import Flood, Relay, promise

SECONDS = 20


def case():
    directory = ground.folder + "/data"
    first = Relay(directory)
    first.must_start()
    first.must("POST", "/endpoints/held/pause")
    acked = Flood(first, "a", SECONDS, threads=3)
    time.sleep(2)
    if not ground.CONTROL:
        os.remove(directory + "/lock")
    second, tries = Relay(directory, name="second"), 0
    while any(t.is_alive() for t in acked.threads):
        tries += 1
        promise(not second.start(wait=10), "a second relay runs beside the first: %s" % second.told()[-2:])
        promise(not second.runs(), "a second relay waits and does not say why")
    acked = acked.wait()
    promise(tries > 5, "a second relay was started %d times only" % tries)
    promise(not os.path.exists(directory + "/aside"), "the second relay set something of the first aside: %s" % second.told()[-2:])
    promise(any("use" in one for one in second.told()), "the second relay does not say why it ends: %s" % second.told()[-2:])
    promise(first.runs() and first.damaged() == 0, "the first relay suffered: %s" % first.told()[-3:])
    first.must_have(acked, "afterwards")
    promise(first.stop() == 0, "the first relay did not stop")
    first.must_start()
    first.must_hold("held", "after a restart", pending=len(acked), state="paused")
    first.must_have(acked, "after a restart")
    return "%d second starts were refused beside %d acknowledged events" % (tries, len(acked))


ground.main(case)
