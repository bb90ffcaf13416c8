"""A node that comes back with a disk that is not as it was.  SPDX-License-Identifier: Apache-2.0"""
import glob
import os
import random
import shutil
import subprocess
import time

from api_cases import READ, ask, with_api
from basic_cases import topic
from cluster_cases import PATIENCE, acked, again, connected, subscribed, three_voters

KEPT = dict(clean=False, p=[(0x11, 3600)])


class Sessions:
    """Persistent sessions, each with a topic of its own, and what was acknowledged for them."""

    def __init__(self, node, count):
        self.t = topic("dm")
        self.names = ["dm-%d-%d" % (i, random.getrandbits(30)) for i in range(count)]
        self.sent = {name: [] for name in self.names}
        self.read_count = {name: 0 for name in self.names}
        for name in self.names:
            subscribed(node, self.t + "/" + name, 1, name, **KEPT).disconnect()

    def send(self, node, body):
        p = connected(node)
        for name in self.names:
            acked(p, self.t + "/" + name, body)
            self.sent[name].append(body)
        p.disconnect()

    def read(self, name, node):
        """All that was sent since the last time, in order; what a killed node had not yet told of may come again before."""
        def once():
            c = connected(node, name, **KEPT)
            got = []
            while not got or got[-1] != self.sent[name][-1]:
                m = c.message(PATIENCE)
                assert m[0] == self.t + "/" + name
                got.append(m[1])
            c.disconnect()
            return got
        got, sent = once(), self.sent[name]
        new = [b for i, b in enumerate(got) if b not in got[:i]]  # QoS 1 may repeat
        first = sent.index(new[0])
        assert new == sent[first:] and first <= self.read_count[name], (name, got, sent, self.read_count[name])
        self.read_count[name] = len(sent)


def data_of(n):
    return os.path.join(n.dir, "data")


def flip(paths, rng, count):
    """Turns bits of these files, where something was written."""
    written = {}
    for path in paths:
        with open(path, "rb") as f:
            written[path] = len(f.read().rstrip(b"\0"))  # segments of the log are allocated before they are needed
    paths = sorted(p for p in written if written[p])
    for _ in range(count):
        path = rng.choice(paths)
        with open(path, "r+b") as f:
            at = rng.randrange(written[path])
            f.seek(at)
            b = f.read(1)
            f.seek(at)
            f.write(bytes([b[0] ^ 1 << rng.randrange(8)]))


def log_text(n):
    with open(os.path.join(n.dir, "log"), errors="replace") as f:
        return f.read()


def bring_up(n):
    """Starts it; when it refuses its data it says why, and gets an empty disk as OPERATE has it.  True: with its data."""
    before = len(log_text(n))
    n.launch()
    try:
        n.wait()
        return True
    except RuntimeError:
        assert n.process.poll() is not None, "neither up nor ended"
    said = log_text(n)[before:]
    assert n.process.returncode > 0 and any(x in said for x in ("damaged", "cannot be opened")), (n.process.returncode, said)
    shutil.rmtree(data_of(n))
    n.start()
    return False


def play(w, spoil):
    """The third node comes back twice with the disk that spoil(node, round) leaves it; nothing that was acknowledged is
    missing, and it serves as before."""
    nodes = w.cluster(3)
    s = Sessions(nodes[0], 9)
    three_voters(nodes)
    s.send(nodes[1], "first")
    for i in range(2):
        nodes[2].kill()
        spoil(nodes[2], i)
        s.send(nodes[i % 2], "while it was away %d" % i)
        bring_up(nodes[2])
        s.send(nodes[(i + 1) % 2], "when it was back %d" % i)
        s.read(s.names[i], nodes[2])
    for i, name in enumerate(s.names):
        if s.read_count[name] < len(s.sent[name]):
            s.read(name, nodes[i % 3])


def test_an_old_copy_of_the_disk_spoils_nothing(w):
    def spoil(n, i):
        if i == 0:
            shutil.copytree(data_of(n), n.dir + "/copy")
        else:
            shutil.rmtree(data_of(n))
            shutil.copytree(n.dir + "/copy", data_of(n))
    play(w, spoil)


def test_flipped_bytes_in_the_raft_log_spoil_nothing(w):
    seed = random.getrandbits(30)
    print("seed %d" % seed)
    rng = random.Random(seed)
    play(w, lambda n, i: flip(glob.glob(data_of(n) + "/log/*.rlog"), rng, 5))


def test_flipped_bytes_in_the_rows_spoil_nothing(w):
    seed = random.getrandbits(30)
    print("seed %d" % seed)
    rng = random.Random(seed)
    play(w, lambda n, i: flip(glob.glob(data_of(n) + "/state/*/*"), rng, 5))


def test_an_empty_disk_spoils_nothing(w):
    play(w, lambda n, i: shutil.rmtree(data_of(n)))


def test_a_full_disk_refuses_writes_reads_on_and_loses_nothing(w):
    """One node alone: PUBACK says no while there is no space, subscribers and readers are served, then all goes on.
    (The largest queue that can be configured, so that only the disk sets the limit.)"""
    n = w.node(data=True, config="tenants : { default : { SessionInboxSize = 65535; }; };\n")
    port = with_api(n)
    data = data_of(n)
    os.mkdir(data)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", data], capture_output=True, check=False).returncode:
        raise w.skip("may not mount")
    try:
        n.start()
        t = topic("full")
        p, live, keeper = connected(n), connected(n), "keeper-%d" % random.getrandbits(30)
        again(lambda: live.subscribe((t + "/live", 0)))
        subscribed(n, t + "/kept", 1, keeper, **KEPT).disconnect()
        acked(p, t + "/kept", "first")

        def retained():
            reason = p.publish(t + "/retained", "kept", 1, retain=True)
            assert reason in (0, 0x10), reason
        again(retained)

        def not_ready():
            assert ask(port, "GET", "/readyz")[0] == 503

        def fill(f):
            try:
                while f.write(b"x" * 65536):
                    pass
            except OSError:
                pass
        refused, sent, end = 0, ["first"], time.monotonic() + 120
        with open(os.path.join(data, "filler"), "wb", buffering=0) as f:
            while not refused:  # a batch that is held or fits into the log still goes through
                assert time.monotonic() < end
                fill(f)
                body = "%d " % len(sent) + "x" * 60000
                reason = p.publish(t + "/kept", body, 1)
                if reason == 0:
                    sent.append(body)
                refused = reason >= 0x80
        assert reason in (0x80, 0x83, 0x97), reason
        assert "no space left for" in log_text(n), log_text(n)
        p.publish(t + "/live", "through", 0)
        assert live.message(PATIENCE) == (t + "/live", "through")
        status, said = ask(port, "GET", "/retain", token=READ, tenant_id="default", topic_filter=t + "/#")
        assert status == 200 and t + "/retained" in said, said
        again(not_ready)
        os.unlink(os.path.join(data, "filler"))
        again(lambda: acked(p, t + "/kept", "last"), within=120)
        assert "there is space again" in log_text(n), log_text(n)
        n.kill()
        n.start()
        c, got = connected(n, keeper, **KEPT), []
        while not got or got[-1] != "last":
            got.append(c.message(PATIENCE)[1])
        assert [x for x in got if x in sent] == sent, [x[:9] for x in got]  # one that was refused may have come later
    finally:
        n.kill()
        subprocess.run(["umount", data], capture_output=True, check=False)
