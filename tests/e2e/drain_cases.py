"""Nodes that go and come back: nothing is refused, nothing lost, nobody left alone.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import random
import subprocess
import time

from basic_cases import topic
from cluster_cases import acked, again, connected, subscribed
from mqtt import DISCONNECT, Client, Closed

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/bilrost-bench")
PATIENCE = 60.0


def logged(node, what):
    node.log.flush()
    with open(node.log.name) as f:
        return f.read().count(what)


def voters_are(nodes, stores=3):
    """All ranges have their three voters: each store said so once."""
    def once():
        assert sum(logged(n, "3 of them vote") for n in nodes) >= stores
    again(once, PATIENCE)


def good_bye(client):
    """The DISCONNECT with which the node closes: its packet, or None."""
    last, end = None, time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            p = client.recv(1)
            if p is not None and p.kind == DISCONNECT:
                last = p
    except Closed:
        return last
    assert False, "not closed"


def test_a_node_that_stops_sends_its_clients_to_others(w):
    nodes = w.cluster(3)
    voters_are(nodes)
    new = [connected(nodes[0], "away-%d" % i) for i in range(6)]
    old = Client(nodes[0].port, 4)
    old.connect("old")
    assert nodes[0].terminate(PATIENCE) == 0
    others, said = {"127.0.0.1:%d" % n.port for n in nodes[1:]}, set()
    for c in new:
        p = good_bye(c)
        assert p is not None and p.reason == 0x9C, p and p.reason
        said.add(p.prop(0x1C))
    assert said == others, said  # each in its turn
    assert good_bye(old) is None
    # nobody is left for the last ones to be sent to
    alone = connected(nodes[1], "last")
    assert nodes[2].terminate(PATIENCE) == 0
    nodes[1].process.terminate()
    p = good_bye(alone)
    assert p is not None and p.reason == 0x8B, p and p.reason


def test_a_rolling_restart_loses_and_doubles_nothing(w):
    if not os.path.exists(BENCH):
        raise w.skip("bilrost-bench is not built")
    nodes = w.cluster(3)
    voters_are(nodes)
    hosts = [x for n in nodes for x in ("--host", "127.0.0.1:%d" % n.port)]
    loads = [w.spawn(BENCH, "failover", "--json", "--qos", str(q), "--mqtt", "5", "--publishers", "10", "--rate", "200",
                     "--prefix", "roll%d" % q, "--seconds", "30", "--drain", "60", *hosts) for q in (1, 2)]
    for n in nodes:
        time.sleep(2)  # of load
        assert n.terminate(PATIENCE) == 0
        n.start()
    for q, load in zip((1, 2), loads):
        out, _ = load.communicate(timeout=150)
        r = json.loads(out[out.index("{"):])
        assert r["ok"] and r["lost"] == 0 and r["sessions_lost"] == 0, r
        assert r["acknowledged"] == r["published"], r
        assert q == 1 or r["duplicate"] == 0, r
        assert r["outage_max_ms"] < 5000, r  # nobody waited for an election, nor for a node to come back
    assert sum(logged(n, "they learn first") for n in nodes) == 3  # the beginning: a restart moves no data
