"""docs/OPERATE.md, played on real nodes.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import re
import subprocess
from types import SimpleNamespace

from cluster_cases import again
from damage_cases import Sessions
from net_cases import Nodes, expect

HERE = os.path.dirname(os.path.abspath(__file__))
BOOK = os.path.join(HERE, "../../docs/OPERATE.md")


def chapters():
    """Title -> the indented blocks of the chapter, each a script."""
    with open(BOOK) as f:
        parts = re.split(r"^## (.*)\n", f.read(), flags=re.M)
    return {title: ["\n".join(line[4:] for line in block.splitlines())
                    for block in re.findall(r"(?:^    .*\n)+", body, flags=re.M)]
            for title, body in zip(parts[1::2], parts[2::2])}


class Desk:
    """Somebody at node 1 with the book."""

    def __init__(self, w, n):
        self.n, self.names = n, {}
        tool = os.path.join(os.path.dirname(os.path.abspath(w.args.broker)), "bilrostctl")
        self.bin = os.path.join(n.dir, "bin")
        os.mkdir(self.bin)
        wrapper = os.path.join(self.bin, "bilrostctl")
        with open(wrapper, "w") as f:
            f.write('#!/bin/sh\nexec "%s" -H "unix:%s/api.sock" "$@"\n' % (tool, n.home(1)))
        os.chmod(wrapper, 0o755)

    def sh(self, script):
        r = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=120, check=False,
                           stdin=subprocess.DEVNULL,
                           env=dict(os.environ, PATH=self.bin + ":" + os.environ["PATH"], **self.names))
        assert r.returncode == 0, (script, r.stdout, r.stderr)
        return r.stdout

    def local(self, i):
        """The id of node i."""
        return again(lambda: json.loads(self.sh("bilrostctl -H unix:%s/api.sock --json cluster" % self.n.home(i)))["local"])

    def members(self):
        return {m["id"]: m for m in json.loads(self.sh("bilrostctl --json cluster"))["nodes"]}

    def is_well(self):
        """Every range has three living voters."""
        for store in ("dist.worker", "inbox.store", "retain.store"):
            ranges = json.loads(self.sh("bilrostctl --json range " + store))
            assert ranges and all(r["liveVoters"] == r["voterCount"] == 3 for r in ranges), ranges
        self.sh("bilrostctl status && bilrostctl ready")


def test_the_runbook_is_true(w):
    """And nothing is missing of what was acknowledged for sessions that were away, before, while and after each chapter;
    when a majority is lost: of what the node that is left had."""
    book = chapters()
    with Nodes(w) as n:
        d = Desk(w, n)
        again(d.is_well, 120)
        id_of = {i: d.local(i) for i in (1, 2, 3)}
        place = {i: SimpleNamespace(port=int(n.mqtt[i].split(":")[1])) for i in (1, 2, 3)}
        s = Sessions(place[1], 5)

        def read():
            for i, name in enumerate(s.names):
                s.read(name, place[i % 3 + 1])

        d.names = {"NODE": id_of[2], "LOST": id_of[3]}

        def play(title, then=None):
            for block in book.pop(title):
                again(lambda b=block: d.sh(b), 120)
            if then:
                again(then, 120)

        s.send(place[2], "at first")
        play("Every day")
        play("A node is stopped, restarted or upgraded", d.is_well)
        assert "A node more, a node less" in book and book.pop("A node more, a node less") == []  # hosts: make lab
        s.send(place[3], "after the stop")
        n.run("kill", "3")
        s.send(place[2], "one is lost")
        n.run("wipe", "3")
        n.run("start", "3")
        again(lambda: expect(sum(m["state"] == "alive" for m in d.members().values()) == 3), 60)
        play("A node is lost for good", d.is_well)
        s.send(place[3], "by its successor")
        read()
        assert id_of[3] not in d.members() or d.members()[id_of[3]]["state"] != "alive"
        play("Balancers")
        play("Keys and certificates")
        # not while the majority lives
        r = json.loads(d.sh("bilrostctl --json range inbox.store"))[0]["id"]
        assert "majority" in d.sh("bilrostctl --yes store recover inbox.store %s 2>&1 || true" % r)
        s.send(place[2], "all are well")
        again(lambda: expect(json.loads(d.sh("bilrostctl --json status"))["ranges"]["lagMax"] == 0), 60)
        d.names["GONE"] = " ".join(d.local(i) for i in (2, 3))
        n.run("kill", "2")
        n.run("kill", "3")
        again(lambda: expect(subprocess.run([os.path.join(d.bin, "bilrostctl"), "ready"], capture_output=True,
                                            check=False).returncode != 0), 60)
        play("A majority is lost")
        for i in ("2", "3"):
            n.run("wipe", i)
            n.run("start", i)
        again(d.is_well, 120)
        s.send(place[3], "and again")
        read()
        assert all(blocks == [] for blocks in book.values()), book  # nothing in it that is not played
