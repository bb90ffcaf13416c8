"""A node that comes back with a disk that is not as it was.  SPDX-License-Identifier: Apache-2.0"""
import glob
import os
import random
import shutil

from basic_cases import topic
from cluster_cases import PATIENCE, acked, connected, subscribed, three_voters

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
    three_voters(nodes[0])
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
