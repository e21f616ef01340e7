"""What the cases stand on: a relay, a receiver, floods of events, and what may be said of them afterwards.

A case is a script beside this file: NAME.py [--control]. It breaks something under a relay that runs on loopback, in a
directory of its own, and asserts what is promised. Exit codes: 0 the promise holds, 1 it does not, 3 this machine can't
run the case. With --control nothing is broken, and the same assertions must hold. Each case also asserts that what it
breaks was broken, and that an event which was never sent would be missed. RELAY names the binary.
"""

import http.server
import json
import os
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

BINARY = os.environ.get("RELAY", "")
CONTROL = "--control" in sys.argv[1:]
ARGUMENTS = [one for one in sys.argv[1:] if one != "--control"]
NEVER_SENT = "evt_that_nobody_sent"

folder = ""
processes = []
mounts = []


def say(text):
    print(text, flush=True)


class Broken(Exception):
    """A promise that does not hold."""


class Unable(Exception):
    """This machine can't run the case."""


def promise(holds, text):
    if not holds:
        raise Broken(text)


def needs(*tools, root=False):
    if root and os.geteuid() != 0:
        raise Unable("it mounts file systems, which needs root")
    for tool in tools:
        if not shutil.which(tool):
            raise Unable("%s isn't installed" % tool)


def main(case):
    """Runs a case in a directory of its own, and leaves nothing behind."""
    global folder
    if not BINARY:
        sys.exit("RELAY names no binary: use scripts/cases/run")
    folder = tempfile.mkdtemp(prefix="case-")
    code = 0
    try:
        say(case() or "all promises hold")
    except Unable as e:
        code = 3
        say(str(e))
    except Broken as e:
        code = 1
        say(str(e))
    finally:
        for p in processes:
            if p.poll() is None:
                p.kill()
                p.wait()
        for at in reversed(mounts):
            for _ in range(50):
                if subprocess.run(["umount", at], stderr=subprocess.DEVNULL).returncode == 0:
                    break
                time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def shell(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def mount(at, kind, size):
    """Mounts an empty file system; tmpfs, ext4 or btrfs."""
    os.mkdir(at)
    if kind == "tmpfs":
        shell("mount -t tmpfs -o size=%s tmpfs %s" % (size, at))
    else:
        make = {"ext4": "mkfs.ext4 -q -F -m 0", "btrfs": "mkfs.btrfs -q"}[kind]
        try:
            shell("truncate -s %s %s.image && %s %s.image && mount -o loop %s.image %s" % (size, at, make, at, at, at))
        except subprocess.CalledProcessError:
            raise Unable("%s can't be mounted here" % kind)
    mounts.append(at)


def start(command, **how):
    p = subprocess.Popen(command, **how)
    processes.append(p)
    return p


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(method, url, body=None, headers=None, timeout=60):
    """Returns the status, 0 when there was no answer, and the body, read as JSON where it is."""
    if isinstance(body, str):
        body = body.encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}, method=method), timeout=timeout) as r:
            status, raw = r.status, r.read()
    except urllib.error.HTTPError as e:
        status, raw = e.code, e.read()
    except Exception as e:
        return 0, str(e).encode()
    try:
        return status, json.loads(raw)
    except ValueError:
        return status, raw


class Receiver:
    """Answers 200, or what answers[path] says of an id. got[path][id] counts what was answered 200."""

    def __init__(self):
        self.got, self.answers, self.lock = {}, {}, threading.Lock()
        receiver = self

        class Request(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                event = self.headers["webhook-id"]
                answer = receiver.answers.get(self.path, 200)
                if callable(answer):
                    answer = answer(event)
                if answer == 200:
                    with receiver.lock:
                        got = receiver.got.setdefault(self.path, {})
                        got[event] = got.get(event, 0) + 1
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self.server = Server(("127.0.0.1", 0), Request)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.server.server_port, path)


NOWHERE = "http://127.0.0.1:1/"
HELD = [("held", NOWHERE, "")]


class Relay:
    """A relay with a configuration of its own. endpoints: name, url, further lines."""

    def __init__(self, directory, endpoints=HELD, queue="", name="relay"):
        self.directory, self.endpoints, self.process = directory, endpoints, None
        self.intake, self.admin = "127.0.0.1:%d" % free_port(), "127.0.0.1:%d" % free_port()
        self.log, self.file = os.path.join(folder, name + ".log"), os.path.join(folder, name + ".toml")
        self.head = (
            '[server]\nlisten = "%s"\nmax_body = "4MiB"\n[admin]\nlisten = "%s"\n[queue]\ndir = "%s"\n%s\n'
            '[log]\nlevel = "warn"\nformat = "json"\n' % (self.intake, self.admin, directory, queue))
        self.configure(endpoints)

    def configure(self, endpoints):
        self.endpoints, text = endpoints, self.head
        for name, url, lines in endpoints:
            text += '[[endpoint]]\nname = "%s"\nurl = "%s"\nevents = ["*"]\nsecret = "secret-0123456789abcdef"\n%s\n' % (name, url, lines)
        with open(self.file, "w") as f:
            f.write(text)
        os.chmod(self.file, 0o600)

    def start(self, wrap=(), answers=(200,), wait=90):
        """Starts the relay and says whether it became ready."""
        with open(self.log, "ab") as f:
            self.process = start(list(wrap) + [BINARY, "serve", "-config", self.file], stdout=f, stderr=f)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if ask("GET", "http://%s/health" % self.admin)[0] in answers:
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def must_start(self, **how):
        promise(self.start(**how), "the relay does not start: %s" % self.told()[-3:])

    def runs(self):
        return self.process.poll() is None

    def pid(self):
        """The relay's process, also below strace or prlimit."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            children = f.read().split()
        return int(children[0]) if children else self.process.pid

    def end(self, how):
        if self.runs():
            try:
                os.kill(self.pid(), how)
            except ProcessLookupError:
                pass
        return self.process.wait()

    def kill(self):
        return self.end(signal.SIGKILL)

    def stop(self):
        return self.end(signal.SIGTERM)

    def api(self, method, path, body=None):
        return ask(method, "http://%s%s" % (self.admin, path), body)

    def must(self, method, path, body=None):
        status, answer = self.api(method, path, body)
        promise(200 <= status < 300, "%s %s is answered %d: %s" % (method, path, status, answer))
        return answer

    def post(self, body):
        kind = "application/x-ndjson" if "\n" in body else "application/json"
        return ask("POST", "http://%s/events" % self.intake, body, {"Content-Type": kind})

    def endpoint(self, name):
        for one in self.must("GET", "/stats")["endpoints"]:
            if one["name"] == name:
                return one
        raise Broken("endpoint %s is not in the answer of /stats" % name)

    def damaged(self):
        return self.must("GET", "/stats")["queue"]["damaged"]

    def kept(self):
        """The ids that the relay lists."""
        ids, after = set(), ""
        while True:
            page = self.must("GET", "/events?limit=1000" + after)
            ids.update(one["id"] for one in page["events"])
            if not page.get("next"):
                return ids
            after = "&after=" + page["next"]

    def missing(self, acked):
        """Which of the acknowledged ids are not in the log any more."""
        kept = self.kept()
        gone = [one for one in acked + [NEVER_SENT] if one not in kept]
        promise(NEVER_SENT in gone, "an event that was never sent is not missed: the case shows nothing")
        gone.remove(NEVER_SENT)
        return gone

    def must_have(self, acked, when):
        gone = self.missing(acked)
        promise(not gone, "%s: %d of %d acknowledged events are not in the log any more, %s first; told %s" % (
            when, len(gone), len(acked), gone[0] if gone else "", self.told()[-3:]))

    def must_hold(self, name, when, **counts):
        """The endpoint's counts are the truth, and may be late for a moment."""
        self.must_hold_within(20, name, when, **counts)

    def must_hold_within(self, seconds, name, when, **counts):
        end = time.monotonic() + seconds
        while True:
            has = self.endpoint(name)
            wrong = {k: (has[k], v) for k, v in counts.items() if has[k] != v}
            if not wrong:
                return
            if time.monotonic() > end:
                raise Broken("%s: endpoint %s has %s; told %s" % (
                    when, name, ", ".join("%s %s, want %s" % (k, a, b) for k, (a, b) in wrong.items()), self.told()[-3:]))
            time.sleep(0.2)

    def told(self):
        """What the relay said of its queue."""
        words = ("damaged", "missing", "can't be", "queue", "no space", "disk")
        lines = []
        with open(self.log, errors="replace") as f:
            for line in f:
                if line.startswith("{"):
                    one = json.loads(line)
                    text = "%s %s" % (one.get("message", ""), one.get("error", ""))
                    if any(word in text for word in words):
                        lines.append(text.strip()[:300])
        return lines


def noise(size):
    """Text that does not get shorter."""
    return "%0*x" % (size, random.getrandbits(size * 4)) if size else ""


def batch(prefix, count, size):
    ids = ["%s_%d" % (prefix, i) for i in range(count)]
    body = "".join('{"id":"%s","type":"lead.created","data":{"x":"%s"}}\n' % (one, noise(size)) for one in ids)
    return ids, body


class Flood:
    """Posts batches from several threads for some seconds. acked are the ids that were answered 200."""

    def __init__(self, relay, prefix, seconds, size=1500, threads=6, count=150):
        self.acked, self.lock, self.end = [], threading.Lock(), time.monotonic() + seconds
        self.threads = [threading.Thread(target=self.run, args=(relay, "%s_%d" % (prefix, k), size, count)) for k in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, relay, prefix, size, count):
        n = 0
        while time.monotonic() < self.end:
            n += 1
            ids, body = batch("%s_%d" % (prefix, n), count, size)
            if relay.post(body)[0] == 200:
                with self.lock:
                    self.acked.extend(ids)
            else:
                time.sleep(0.05)

    def wait(self):
        for t in self.threads:
            t.join()
        return self.acked


def flood(relay, prefix, seconds, **how):
    acked = Flood(relay, prefix, seconds, **how).wait()
    promise(acked, "nothing was acknowledged: the case shows nothing")
    return acked


def flip(path, at):
    """Flips a bit, in place."""
    with open(path, "r+b") as f:
        f.seek(at)
        one = f.read(1)[0]
        f.seek(at)
        f.write(bytes([one ^ 1]))


def tables(directory):
    return sorted(one for one in os.listdir(os.path.join(directory, "store")) if one.endswith(".sst"))


def find(directory, text):
    """The newest table of the store that holds a text, and where; None when none does."""
    for name in reversed(tables(directory)):
        path = os.path.join(directory, "store", name)
        with open(path, "rb") as f:
            at = f.read().find(text)
        if at >= 0:
            return path, at
    return None


def segments(directory):
    return sorted(one for one in os.listdir(os.path.join(directory, "log")) if one.endswith(".seg"))


def fill(path):
    """Fills the disk that path is on."""
    with open(path, "wb", 0) as f:
        try:
            while True:
                f.write(b"z" * (8 << 20))
        except OSError:
            pass


def slow_tables(directory, milliseconds=20):
    """A wrapper under which each read of a table of the store takes its time."""
    wrap = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=read,pread64"]
    for one in tables(directory):
        wrap += ["-P", os.path.join(directory, "store", one)]
    return wrap + ["-e", "inject=read,pread64:delay_exit=%d" % (milliseconds * 1000)]
