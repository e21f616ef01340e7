"""Failed deliveries that outlived the retention and are then given up give their space back within a minute. given_up_space.py [--control]

With --control they are given up before the retention is over, and go with their segments."""

import os
import time

import ground
from ground import NOWHERE, Relay, noise, promise

COUNT = 60000


def case():
    retention = 300 if ground.CONTROL else 60
    queue = 'retention = "%ds"\ndedup_window = "1m"'
    relay = Relay(ground.folder + "/data", [("gone", NOWHERE, 'max_age = "1m"')], queue % retention)
    relay.must_start()
    relay.must("POST", "/endpoints/gone/pause")
    for n in range(COUNT // 1000):
        body = "".join('{"id":"k_%d_%d","type":"lead.created","data":{"x":"%s"}}\n' % (n, i, noise(750)) for i in range(1000))
        promise(relay.post(body)[0] == 200, "events are refused")
    end = time.monotonic() + 200
    while relay.endpoint("gone")["failed"] < COUNT:
        promise(time.monotonic() < end, "of %d deliveries %d have failed" % (COUNT, relay.endpoint("gone")["failed"]))
        time.sleep(1)
    if not ground.CONTROL:
        time.sleep(75)  # the retention is over, the failed deliveries are carried
    promise(relay.must("GET", "/stats")["queue"]["events"] >= COUNT, "the events are not kept: the case shows nothing")
    began = time.monotonic()
    answer = relay.must("DELETE", "/endpoints/gone/failed")
    took = time.monotonic() - began
    promise(relay.endpoint("gone")["failed"] == 0, "after DELETE %s are failed: %s" % (relay.endpoint("gone")["failed"], answer))
    if ground.CONTROL:
        relay.stop()
        relay.head = relay.head.replace('retention = "300s"', 'retention = "60s"')
        relay.configure(relay.endpoints)
        relay.must_start()
    end = time.monotonic() + (60 if not ground.CONTROL else 180)
    while relay.must("GET", "/stats")["queue"]["events"] > COUNT // 20:
        promise(time.monotonic() < end, "%d of %d events are still kept" % (relay.must("GET", "/stats")["queue"]["events"], COUNT))
        time.sleep(1)
    gone = time.monotonic() - began
    relay.stop()
    return "DELETE of %d took %.1f s; the events were gone after %.0f s, the log has %d MiB" % (COUNT, took, gone, size(relay.directory + "/log") >> 20)


def size(directory):
    return sum(os.path.getsize(os.path.join(directory, one)) for one in os.listdir(directory))


ground.main(case)
