"""A node that does not have the subscriptions asks those that have them.  SPDX-License-Identifier: Apache-2.0"""
import json

from basic_cases import topic
from cluster_cases import STORES, acked, again, connected, logged, subscribed
from drain_cases import asked, operated
from mqtt import PUBACK, gather

RULES = {"store_name": "dist.worker", "balancer_factory_class": "ReplicaCntBalancer"}
ASKING = "other nodes are asked who wants what is published here"


def table(n, store="dist.worker"):
    """The one range of a store, as this node knows it; not every node does at once."""
    def once():
        ranges = json.loads(asked(n, "GET", "/store/ranges", store_name=store)[1])
        assert len(ranges) == 1, ranges
        return ranges[0]
    return again(once)


def ruled(nodes, voters, learners):
    """So many have the subscriptions from now on; the nodes that have them, and the others."""
    body = json.dumps({"votersPerRange": voters, "learnersPerRange": learners}).encode()
    assert asked(nodes[0], "PUT", "/store/balancer/rules", body=body, **RULES)[0] == 200
    want = (voters, learners if learners >= 0 else len(nodes) - voters)

    def members(n):
        c = table(n)["clusterConfig"]
        assert (len(c["voters"]), len(c["learners"]), c["nextVoters"]) == (*want, []), c
        return c["voters"] + c["learners"]
    for n in nodes:
        again(lambda: members(n), within=60)
    name = {json.loads(asked(n, "GET", "/cluster")[1])["local"]: n for n in nodes}
    has = [name[x] for x in members(nodes[0])]
    return has, [n for n in nodes if n not in has]


def three_voters(r):
    assert len(r["clusterConfig"]["voters"]) == 3 and not r["clusterConfig"]["nextVoters"], r


def taken(p, t, body, qos):
    """Published once, to somebody, and not refused."""
    reason = p.publish(t, body, qos)
    assert reason in (0, None), (t, body, qos, reason)


def both_get(subscribers, t, body):
    for s in subscribers:
        assert s.message() == (t, body)


def test_a_node_without_subscriptions_asks_the_others(w):
    nodes = operated(w, 4)
    (*_, full), (bare,) = ruled(nodes, 3, 0)
    t = topic("lookup")
    note = t + "/note"
    clean, stored = subscribed(bare, note + "/+", 2), subscribed(full, note + "/#", 2, "s", clean=False, p=[(0x11, 300)])
    here = subscribed(bare, t + "/here", 1, "h", clean=False, p=[(0x11, 300)])
    members = [subscribed(n, "$share/g/%s/job" % t, 1) for n in (bare, full)]
    p, far = connected(bare), connected(full)
    for qos in (0, 1, 2):
        taken(p, note + "/x", "here %d" % qos, qos)
        both_get((clean, stored), note + "/x", "here %d" % qos)
        acked(far, note + "/x", "far %d" % qos, qos or 1)
        both_get((clean, stored), note + "/x", "far %d" % qos)
    taken(p, t + "/here", "1", 1)
    assert here.message() == (t + "/here", "1")
    assert p.publish(topic("nobody"), "x", 1) == 0x10
    # members of a group in turn, here and there, each message once
    jobs = ["job %d" % i for i in range(8)]
    for body in jobs:
        taken(p, t + "/job", body, 1)
    gather(members, len(jobs))
    got = [[m.payload.decode() for m in c.inbox] for c in members]
    assert sorted(sum(got, [])) == jobs and all(got), got
    # in order, however many are on their way
    row = [str(i) for i in range(200)]
    for body in row:
        p.publish(note + "/row", body, 1, wait=False)
    assert [p.expect(PUBACK).reason for _ in row] == [0] * len(row)
    for s in (clean, stored):
        assert [s.message()[1] for _ in row] == row
    # whom nobody wants to reach any more is not found
    clean.unsubscribe(note + "/+")
    stored.disconnect()
    taken(p, note + "/x", "kept for the one who left", 1)
    clean.nothing()
    assert logged(bare, ASKING) > 0 and logged(full, ASKING) == 0
    # it gets the subscriptions, and loses them: its subscribers notice nothing
    assert clean.subscribe((note + "/+", 1)) == [1]
    for learners in (-1, 0):
        ruled(nodes, 3, learners)
        for c in (p, far):
            acked(c, note + "/y", "again")
            assert clean.message() == (note + "/y", "again")


def test_a_node_without_subscriptions_outlives_their_leader(w):
    nodes = operated(w, 4)
    _, (bare,) = ruled(nodes, 3, 0)
    t = topic("orphan")
    stored, p = subscribed(bare, t, 1, "stored", clean=False, p=[(0x11, 300)]), connected(bare)
    taken(p, t, "before", 1)
    assert stored.message() == (t, "before")
    for store in STORES:
        again(lambda: three_voters(table(bare, store)), within=60)
    leader = table(nodes[0])["leader"]
    next(n for n in nodes if json.loads(asked(n, "GET", "/cluster")[1])["local"] == leader).kill()
    acked(p, t, "after")
    assert stored.message() == (t, "after")
