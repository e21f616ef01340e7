"""The queue's directory is removed or moved while the relay runs: nothing is answered 200 any more, and it is told. directory_gone.py [removed|moved] [--control]"""

import os
import shutil
import time

import ground
from ground import Relay, promise

SECONDS = 10


def case():
    os.chdir(ground.folder)
    relay = Relay("data", queue="create = false")
    os.mkdir("data")
    promise(not relay.start(wait=20), "with create = false an empty directory is taken for a queue")
    promise(any("mount" in one for one in relay.told()), "an empty directory is refused without naming the mount: %s" % relay.told())
    relay = Relay("data")
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    before = []
    for n in range(100):
        before.append("before_%d" % n)
        promise(relay.post(event(before[-1]))[0] == 200, "an event is refused before anything happened")
    time.sleep(1.5)
    if not ground.CONTROL:
        if ground.ARGUMENTS == ["moved"]:
            os.rename("data", "data.old")
        else:
            shutil.rmtree("data")
    acked, refused, end = [], 0, time.monotonic() + SECONDS
    while time.monotonic() < end and relay.runs():
        one = "after_%d" % len(acked)
        if relay.post(event(one))[0] == 200:
            acked.append(one)
        else:
            refused += 1
        if ground.CONTROL and len(acked) > 100:
            break
        time.sleep(0.02)
    if ground.CONTROL:
        relay.must_have(before + acked, "nothing was done")
        return "%d acknowledged, all there" % len(before + acked)
    promise(not acked, "%d events were answered 200 for a directory that is gone; told %s" % (len(acked), relay.told()[-3:]))
    promise(refused > 0 or not relay.runs(), "nothing was refused: the case shows nothing")
    promise(any("data" in one for one in relay.told()), "nothing is told of the directory: %s" % relay.told())
    status, health = relay.api("GET", "/health")
    promise(status in (0, 503), "health is answered %d, %s" % (status, health))
    if relay.runs():
        relay.stop()
    if ground.ARGUMENTS == ["moved"]:
        shutil.rmtree("data", ignore_errors=True)
        os.rename("data.old", "data")
        relay.must_start()
        relay.must_have(before, "the directory is back")
        relay.must_hold("held", "the directory is back", pending=len(before), state="paused")
    else:
        relay.must_start()
        promise(any("new queue" in one for one in relay.told()), "a new queue is made without a word: %s" % relay.told())
    return "%d posts were refused, none was answered 200" % refused


def event(name):
    return '{"id":"%s","type":"lead.created","data":{}}' % name


ground.main(case)
