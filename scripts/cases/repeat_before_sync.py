"""A repeat is not answered before the event that it repeats is on disk: the relay dies between write and sync, is started on a slow disk, the client posts
again, and then the power goes. repeat_before_sync.py [--control]"""

import json
import os
import subprocess
import time

import ground
from ground import Relay, mounts, needs, promise, shell


def case():
    needs("strace", "mkfs.xfs", "mkfs.ext4", "mount", root=True)
    host, disk = ground.folder + "/host", ground.folder + "/disk"
    os.mkdir(host)
    os.mkdir(disk)
    # The disk's image lies on a file system that copies it in an instant: that is the power cut.
    shell("truncate -s 6G {0}.image && mkfs.xfs -q {0}.image && mount -o loop {0}.image {0}".format(host))
    mounts.append(host)
    shell("truncate -s 1G {0}/image && mkfs.ext4 -q -F {0}/image && mount -o loop {0}/image {1}".format(host, disk))
    mounts.append(disk)
    relay = Relay(disk + "/queue", [("held", ground.NOWHERE, "enabled = false")])
    # A record of the journal is written, and the process dies when it asks for the sync.
    sync = "io_submit"
    relay.must_start(wrap=["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + sync, "-e", "inject=%s:signal=SIGKILL:when=%d" % (sync, 60)])
    last = None
    for n in range(400):
        one = "evt_%d" % n
        status, _ = relay.post(event(one))
        if status != 200:
            last = one
            break
        time.sleep(0.002)
    promise(last, "the relay did not die: the case shows nothing")
    relay.process.wait()
    slow = [] if ground.CONTROL else ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,msync", "-e", "inject=fdatasync,fsync,msync:delay_enter=1000000"]
    relay.must_start(wrap=slow)
    status, again = relay.post(event(last))
    promise(status == 200 and again.get("status") in ("accepted", "duplicate"), "posted again, the event is answered %d, %s" % (status, again))
    if ground.CONTROL:
        time.sleep(2)
    shell("cp --reflink=always %s/image %s/cut" % (host, host))
    relay.kill()
    for _ in range(100):
        if subprocess.run(["umount", disk], stderr=subprocess.DEVNULL).returncode == 0:
            break
        time.sleep(0.1)
    mounts.remove(disk)
    shell("mount -o loop %s/cut %s" % (host, disk))
    mounts.append(disk)
    relay.must_start()
    status, once_more = relay.post(event(last))
    relay.kill()
    promise(status == 200 and once_more.get("status") == "duplicate",
            "%s was answered %s, and after the power cut the same post is answered %s: it is lost" % (last, json.dumps(again), json.dumps(once_more)))
    return "%s was answered %s before the power cut and %s after it" % (last, json.dumps(again), json.dumps(once_more))


def event(name):
    return '{"id":"%s","type":"lead.created","data":{}}' % name


ground.main(case)
