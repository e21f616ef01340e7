"""Whatever happens to files that hold no event, the relay starts, or says each time the same and what to do, and nothing is lost. odd_files.py [--control]"""

import os
import shutil
import time

import ground
from ground import Relay, flip, flood, promise, segments, tables


def put(path, raw):
    with open(path, "wb") as f:
        f.write(raw)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def garbage_behind(path):
    put(path, get(path) + os.urandom(100))


def newest(directory, suffix):
    store = os.path.join(directory, "store")
    return os.path.join(store, sorted(one for one in os.listdir(store) if one.endswith(suffix))[-1])


# What is done, and whether the relay must serve afterwards: a queue whose format nobody can tell is not touched.
CASES = [
    ("nothing", lambda d: None, True),
    ("a bit of KEYREGISTRY", lambda d: flip(d + "/store/KEYREGISTRY", 24), True),
    ("garbage behind KEYREGISTRY", lambda d: garbage_behind(d + "/store/KEYREGISTRY"), True),
    ("a bit of MANIFEST", lambda d: flip(d + "/store/MANIFEST", 20), True),
    ("no MANIFEST", lambda d: os.remove(d + "/store/MANIFEST"), True),
    ("header of the newest value log", lambda d: put(newest(d, ".vlog"), os.urandom(20) + get(newest(d, ".vlog"))[20:]), True),
    ("one table over another", lambda d: shutil.copyfile(d + "/store/" + tables(d)[0], d + "/store/" + tables(d)[-1]), True),
    ("a table is empty", lambda d: put(newest(d, ".sst"), b""), True),
    ("a bit of the mark", lambda d: flip(d + "/mark", 20), True),
    ("no mark", lambda d: os.remove(d + "/mark"), True),
    ("no lock", lambda d: os.remove(d + "/lock"), True),
    ("no ballast", lambda d: os.path.exists(d + "/ballast") and os.remove(d + "/ballast"), True),
    ("a file of no name that is known", lambda d: put(d + "/log/odd", b"x"), True),
    ("a segment that was being written anew", lambda d: put(d + "/log/" + segments(d)[-1] + ".new", os.urandom(5000)), True),
    ("a bit of FORMAT", lambda d: flip(d + "/FORMAT", 20), False),
    ("FORMAT is empty", lambda d: put(d + "/FORMAT", b""), False),
    ("no FORMAT", lambda d: os.remove(d + "/FORMAT"), False),
]


def case():
    relay = Relay(ground.folder + "/data")
    relay.must_start()
    relay.must("POST", "/endpoints/held/pause")
    acked = flood(relay, "a", 1.5)
    promise(relay.stop() == 0, "the relay did not stop")
    relay.must_start()  # a second table
    acked += flood(relay, "b", 1.5)
    time.sleep(1)
    promise(relay.stop() == 0, "the relay did not stop")
    before = tables(relay.directory)
    promise(len(before) > 1, "the store has the tables %s only: the case shows less than it says" % before)
    refused = 0
    for n, (name, change, serves) in enumerate(CASES[:1] if ground.CONTROL else CASES):
        directory = ground.folder + "/copy"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(ground.folder + "/data", directory)
        change(directory)
        one = Relay(directory, name="copy%d" % n)
        for round_ in range(2):
            if not one.start(wait=30):
                promise(not serves and not one.runs(), "%s: the relay does not start in round %d: %s" % (name, round_, one.told()[-2:]))
                promise(one.told(), "%s: the relay does not start and does not say why" % name)
                refused += 1
                continue
            one.must_have(acked, name)
            one.must_hold("held", name, pending=len(acked), state="paused")
            promise(one.stop() == 0, "%s: the relay did not stop" % name)
    return "%d acknowledged, all there after each of %d; %d starts were refused with the reason" % (len(acked), len(CASES), refused)


ground.main(case)
