"""Errors of the system while the store makes and merges tables cost nothing that was acknowledged. error_while_merging.py [msync|openat|files] [--control]

msync, openat: EIO now and then, injected by strace from the start to the stop; files: a process that may open few files only."""

import os
import random

import ground
from ground import Relay, flood, needs, promise

ROUNDS = 4


def wrap(kind, seen):
    if ground.CONTROL:
        return []
    if kind == "files":
        return ["prlimit", "--nofile=%d:%d" % (random.randint(24, 64), 64)]
    # strace counts for each thread by itself: few of them open many files, and what any process opens first must go well. So
    # only the tables of the store are looked at, those there are and those to come.
    tables = ["-P" + os.path.join(ground.folder, "data/store/%06d.sst" % n) for n in range(1, 1000)] if kind == "openat" else []
    when = "%d+%d" % (1 + random.randrange(2 if tables else 10), random.randint(2, 9))
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-o", seen, "-e", "trace=" + kind, "-e", "inject=%s:error=EIO:when=%s" % (kind, when)] + tables


def case():
    kind = (ground.ARGUMENTS or ["msync"])[0]
    needs("prlimit" if kind == "files" else "strace")
    seen = ground.folder + "/seen"
    relay = Relay(ground.folder + "/data")
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked, injected, refused, ended = flood(relay, "first", 2), 0, 0, 0
    relay.stop()
    for n in range(ROUNDS):
        if relay.start(wrap=wrap(kind, seen), answers=(200, 503), wait=30):
            acked += ground.Flood(relay, "f%d" % n, 4, threads=4).wait()
            ended += not relay.runs()
        else:
            refused += 1  # it said why, and starts when it is over
        relay.stop()
        if kind != "files" and not ground.CONTROL:
            with open(seen, errors="replace") as f:
                injected += f.read().count("(INJECTED)")
        relay.must_start()
        relay.must_have(acked, "round %d" % n)
        relay.must_hold("held", "round %d" % n, pending=len(acked), state="paused")
        relay.stop()
    promise(ground.CONTROL or kind == "files" or injected > 0, "no error was injected: the case shows nothing")
    return "%d acknowledged, all there; %d errors injected, %d starts refused, the relay ended %d times" % (len(acked), injected, refused, ended)


ground.main(case)
