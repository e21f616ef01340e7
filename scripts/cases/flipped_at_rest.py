"""A bit flips in the table of the store that has the lanes: nothing is lost, no pause, no retry, no failed delivery. flipped_at_rest.py [small|slow] [--control]

With slow the disk does not give the whole store at once (strace stands in for it)."""

import time

import ground
from ground import NOWHERE, Receiver, Relay, find, flip, flood, needs, promise, slow_tables


def case():
    slow = "slow" in ground.ARGUMENTS
    if slow:
        needs("strace")
    directory = ground.folder + "/data"
    receiver = Receiver()
    # An answer that refuses one event: several 500s in a row would be an endpoint that is down and gets nothing any more.
    receiver.answers["/retrying"] = receiver.answers["/failing"] = lambda event: 422 if fails(event) else 200
    endpoints = [
        ("held", NOWHERE, ""),
        ("orphan", NOWHERE, ""),
        ("retrying", receiver.url("/retrying"), 'retry = ["10h"]\nconcurrency = 32'),
        ("failing", receiver.url("/failing"), "retry = []\nconcurrency = 32"),
    ]
    relay = Relay(directory, endpoints)
    relay.must_start()
    for name in ("held", "orphan"):
        relay.must("POST", "/endpoints/%s/pause" % name)
    acked = flood(relay, "a", 1, size=300, threads=2, count=20)
    for name in ("retrying", "failing"):
        relay.must_hold(name, "before", pending=0, delivered=sum(not fails(one) for one in acked))
    for name in ("retrying", "failing"):
        relay.must("POST", "/endpoints/%s/pause" % name)
    promise(relay.stop() == 0, "the relay did not stop")
    relay.configure([one for one in endpoints if one[0] != "orphan"])
    relay.must_start()
    for n in range(2):
        acked += flood(relay, "b%d" % n, 2)
        time.sleep(1)
    names = ("held", "orphan", "retrying", "failing")
    want = {}
    for name in names:
        has = relay.endpoint(name)
        want[name] = {k: has[k] for k in ("state", "pending", "retrying", "failed")}
    promise(want["held"]["pending"] == len(acked), "before: held has %s of %d" % (want["held"], len(acked)))
    promise(want["retrying"]["retrying"] > 0 and want["failing"]["failed"] > 0, "before: %s shows nothing" % want)
    promise(relay.stop() == 0, "the relay did not stop")
    hit = find(directory, b"held")
    promise(hit, "no table has the lane's record: the case shows nothing")
    if not ground.CONTROL:
        flip(hit[0], hit[1] + 2)
    relay.must_start(wrap=slow_tables(directory) if slow else ())
    for name in names:
        relay.must_hold(name, "after", **want[name])
    relay.must_have(acked, "after")
    if not ground.CONTROL:
        promise(any("made again from the log" in one for one in relay.told()), "what was damaged is not told: %s" % relay.told())
        promise(relay.damaged() > 0, "nothing is counted as damaged")
    failed = relay.must("GET", "/endpoints/failing/failed?limit=1000")["deliveries"]
    promise(len(failed) == min(1000, want["failing"]["failed"]), "%d failed deliveries are listed, want %d" % (len(failed), want["failing"]["failed"]))
    return "%d acknowledged; %d retrying and %d failed are as they were" % (len(acked), want["retrying"]["retrying"], want["failing"]["failed"])


def fails(event):
    return int(event.rpartition("_")[2]) % 5 == 0


ground.main(case)
