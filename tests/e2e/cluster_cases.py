"""Three nodes that are one broker.  SPDX-License-Identifier: Apache-2.0"""
import os
import random
import re
import subprocess
import time

from basic_cases import topic
from mqtt import CONNACK, PUBACK, Client, Closed, gather

STORES = ("dist.worker", "inbox.store", "retain.store")
PATIENCE = 30.0  # for what the cluster does by itself: joining, electing, noticing a death


def again(action, within=PATIENCE):
    """Repeats what may be refused while ranges find their leaders; its result."""
    end = time.monotonic() + within
    while True:
        try:
            return action()
        except (AssertionError, Closed, OSError):
            if time.monotonic() > end:
                raise


def connected(node, cid="", **kw):
    def once():
        c = Client(node.port, 5)
        c.connect(cid, **kw)
        return c
    return again(once)


def subscribed(node, flt, qos, cid="", **kw):
    def once():
        c = connected(node, cid, **kw)
        assert c.subscribe((flt, qos)) == [qos]
        return c
    return again(once)


def acked(client, t, body, qos=1):
    """Until it is accepted and the publisher's node knows of the subscription, which may have been made on another."""
    def once():
        assert client.publish(t, body, qos) == 0
    again(once)


def test_the_first_of_the_same_seeds_founds(w):
    nodes = w.cluster(3, same_seeds=True)
    t = topic("founded")
    c = subscribed(nodes[2], t, 1, "keeps", clean=False, p=[(0x11, 300)])
    acked(c, t, "x")

    def said():  # readiness waits for the ranges that there are, not for a store that is still to be founded
        found = [logged(n, "founded by this node") for n in nodes]
        assert found == [3, 0, 0], found
    again(said)


def logged(node, what):
    node.log.flush()
    with open(node.log.name) as f:
        return f.read().count(what)


def three_voters(nodes):
    """Each store's range has its three voters, as some node has said when the change was made."""
    def once():
        said = "".join(open(n.log.name).read() for n in nodes)
        for store in STORES:
            assert re.search(r"range %s \S+: 3 voters" % re.escape(store), said), store
    again(once, 2 * PATIENCE)


def reaches(p, t, *subs):
    """Until what p publishes to t comes to all of these, who subscribed on other nodes; what came before it they have read."""
    def once():
        mark = "probe-%d" % random.getrandbits(40)
        p.publish(t, mark, 1)
        for s in subs:
            while s.message(2) != (t, mark):
                pass
    again(once, 2 * PATIENCE)


def test_three_nodes_exchange_messages(w):
    nodes = w.cluster(3)
    t = topic("c3")
    subs = [subscribed(n, t + "/#", 2) for n in nodes]
    pubs = [connected(n) for n in nodes]
    for p in pubs:
        reaches(p, t + "/probe", *subs)
    for q in (0, 1, 2):
        for k, p in enumerate(pubs):
            for i in range(20):
                p.publish(t + "/%d" % k, "%d" % i, q)
            for s in subs:
                for i in range(20):
                    assert s.message() == (t + "/%d" % k, "%d" % i)
    members = [subscribed(n, "$share/g/" + t + "/s", 1) for n in nodes]
    for i in range(60):
        acked(pubs[i % 3], t + "/s", str(i))
    gather(members, 60)
    assert sorted(int(m.payload) for c in members for m in c.inbox) == list(range(60))
    acked(pubs[0], t + "/r", "kept")
    pubs[0].publish(t + "/r", "kept", 1, retain=True)
    late = subscribed(nodes[2], t + "/r", 1)
    assert late.message() == (t + "/r", "kept")
    pubs[0].publish(t + "/r", "", 1, retain=True)


def test_a_share_skips_a_persistent_member_that_is_away_from_all_nodes(w):
    """Whichever node the publisher is on, those who are there get all, of QoS 0 and 1; those who are away wait."""
    nodes = w.cluster(3)
    t, kept = topic("cs"), dict(clean=False, p=[(0x11, 600)])
    flt = "$share/g/" + t
    away = [subscribed(n, flt, 1, "away-%d-%d" % (i, random.getrandbits(30)), **kept) for i, n in enumerate(nodes)]
    pubs = [connected(n) for n in nodes]
    for c in away:
        c.disconnect()
    acked(pubs[0], t, "nobody else")  # it waits for one of them
    here = [subscribed(nodes[0], flt, 1), subscribed(nodes[2], flt, 1, "here-%d" % random.getrandbits(30), **kept)]

    def got():
        for c in here:  # all that is there already: waiting for one would keep the other's from being read
            for m in iter(lambda: c.recv(0.02), None):
                c.inbox.append(m)
                c.send(PUBACK, 0, m.pid.to_bytes(2, "big")) if m.qos else None
        return {m.payload.decode() for c in here for m in c.inbox}

    def until(what, action):
        def once():
            action()
            missing = what - got()
            assert not missing, missing
        again(once)
    for k, p in enumerate(pubs):  # each node knows of somebody who is there
        until({"probe-%d" % k}, lambda: acked(p, t, "probe-%d" % k))
    for i in range(60):
        acked(pubs[i % 3], t, "1-%d" % i)
        pubs[i % 3].publish(t, "0-%d" % i, 0)
    until({"%d-%d" % (q, i) for q in (0, 1) for i in range(60)}, lambda: None)
    assert all(len(c.inbox) >= 10 for c in here), [len(c.inbox) for c in here]


def test_a_share_finds_the_one_member_that_is_there(w):
    """However many are away, and however long each takes to say so."""
    nodes = w.cluster(3)
    t, kept = topic("co"), dict(clean=False, p=[(0x11, 600)])
    names = ["only-%d-%d" % (i, random.getrandbits(30)) for i in range(14)]
    for i, name in enumerate(names):
        subscribed(nodes[i % 3], "$share/g/" + t, 1, name, **kept).disconnect()
    here = connected(nodes[1], names[7], **kept)
    pubs = [connected(n) for n in nodes]
    got = set()
    for k, p in enumerate(pubs):
        acked(p, t, "1-%d" % k)
        p.publish(t, "0-%d" % k, 0)
    while not got >= {"%d-%d" % (q, k) for q in (0, 1) for k in range(3)}:
        got.add(here.message(PATIENCE)[1])


def test_takeover_and_session_move_between_nodes(w):
    nodes = w.cluster(3)
    t, cid = topic("mv"), "mv-%d" % random.getrandbits(30)
    a = subscribed(nodes[0], t, 1, cid, clean=False, p=[(0x11, 600)])
    p = connected(nodes[1])
    b = Client(nodes[2].port, 5)
    assert b.connect(cid, clean=False, p=[(0x11, 600)]).present
    assert a.closed() == 0x8E
    for i in range(30):
        acked(p, t, str(i))
    for i in range(30):
        assert b.message() == (t, str(i))


def test_a_client_that_comes_back_during_failover_is_told_to_wait_or_finds_its_session(w):
    nodes = w.cluster(3)
    t = topic("over")
    names = ["fo-%d-%d" % (i, random.getrandbits(30)) for i in range(12)]
    for i, name in enumerate(names):
        subscribed(nodes[i % 3], t + "/" + name, 1, name, clean=False, p=[(0x11, 600)]).disconnect()
    p = connected(nodes[1])
    for name in names:
        acked(p, t + "/" + name, "kept")
    three_voters(nodes)
    nodes[0].kill()  # it founded the ranges and leads them
    refused, waiting, end = set(), list(enumerate(names)), time.monotonic() + 2 * PATIENCE
    while waiting:
        i, name = waiting.pop(0)
        assert time.monotonic() < end, refused
        c = Client(nodes[1 + i % 2].port, 5 if i % 4 < 2 else 4)
        c.connect(name, clean=False, ok=False, p=[(0x11, 600)] if c.version == 5 else ())
        try:
            ack = c.recv(PATIENCE)
        except Closed:
            ack = None
        if ack is not None and ack.reason == 0:
            assert ack.present, name
            assert c.message(PATIENCE) == (t + "/" + name, "kept")
        else:
            refused.add((c.version, ack.reason if ack else None))
            waiting.append((i, name))
    assert refused <= {(5, 0x88), (5, 0x89), (4, 3)}, refused


def test_nothing_acknowledged_is_lost_when_a_node_is_killed(w):
    nodes = w.cluster(3)
    t, cid = topic("kill"), "kill-%d" % random.getrandbits(30)
    s = subscribed(nodes[1], t + "/#", 1, cid, clean=False, p=[(0x11, 600)])
    s.disconnect()
    watch = subscribed(nodes[1], t + "-will", 1)
    victim = connected(nodes[0], "victim-%d" % random.getrandbits(30), will=(t + "-will", "died", 1, False))
    p, sent = connected(nodes[2]), 0
    while sent < 400:  # fewer than SessionInboxSize, while ranges get their three voters
        acked(p, t + "/x", str(sent))
        sent += 1
    three_voters(nodes)
    nodes[0].kill()
    for _ in range(50):
        acked(p, t + "/x", str(sent))
        sent += 1
    back = connected(nodes[1], cid, clean=False, p=[(0x11, 600)])
    got = set()
    while len(got) < sent:
        got.add(int(back.message(PATIENCE)[1]))
    assert watch.message(PATIENCE) == (t + "-will", "died")
    del victim


def test_memory_is_what_a_tenant_accepts_and_nobody_else(w):
    """Without a quorum: a tenant with Durability 2 is acknowledged from memory, another is not; with it the message arrives."""
    ports = []

    def prepare(n):
        with open(n.conf, "a") as f:
            f.write('tenants : { quick : { Durability = 2; DurabilityInPubAck = true; }; };\n')
        ports.append(n.listen_also("tcp", 'tenant = "quick";'))
    nodes = w.cluster(3, prepare=prepare)
    t, cid = topic("dura"), "du-%d" % random.getrandbits(30)

    def quick(port, cid="", **kw):
        def once():
            c = Client(port, 5)
            c.connect(cid, **kw)
            return c
        return again(once)
    again(lambda: quick(ports[0], cid, clean=False, p=[(0x11, 600)]).subscribe((t, 1)))
    subscribed(nodes[0], t, 1, cid, clean=False, p=[(0x11, 600)]).disconnect()
    p, safe = quick(ports[0]), connected(nodes[0])
    again(lambda: p.publish(t, "before", 1) == 0)
    acked(safe, t, "before")
    three_voters(nodes)
    for n in nodes[1:]:
        n.kill()
    p.publish(t, "meanwhile", 1, wait=False)
    safe.publish(t, "meanwhile", 1, wait=False)
    ack = p.expect(PUBACK, PATIENCE)
    assert (ack.reason, ack.prop(0x26)) == (0, ("durability", "memory"))
    assert safe.expect(PUBACK, PATIENCE).reason >= 0x80


def said(n, what):
    """Until the journal of this node has a line with all of these."""
    def once():
        with open(os.path.join(n.dir, "log")) as f:
            lines = f.readlines()
        found = [line for line in lines if all(x in line for x in what)]
        if not found:
            time.sleep(0.05)
        assert found, (what, "".join(x for x in lines if "_ERROR" not in x)[-4000:])
        return found
    return again(once, 2 * PATIENCE)


def tells_why(w, nodes):
    """The journal and the screen of the one that is left name each range and who is missing."""
    ctl = os.path.join(os.path.dirname(os.path.abspath(w.args.broker)), "bilrostctl")
    for store in STORES:
        said(nodes[0], ["range " + store, "no quorum: 1 of 3 voters are alive; missing: node "])

    def once():
        r = subprocess.run([ctl, "-H", "unix:%s/api.sock" % nodes[0].dir, "status"], capture_output=True, text=True,
                           timeout=60, check=False)
        assert "3 without quorum" in r.stdout, r.stdout + r.stderr
        for store in STORES:
            assert re.search(r"critical: range %s \S+: no quorum: 1 of 3 voters are alive; missing: node" % store, r.stdout), r.stdout
    if os.path.exists(ctl):
        again(once)


def test_without_a_quorum_nothing_is_acknowledged_that_may_vanish(w):
    from api_cases import with_api  # which needs this file
    nodes = w.cluster(3, prepare=with_api)
    t, cid = topic("quorum"), "q-%d" % random.getrandbits(30)
    subscribed(nodes[0], t + "/kept", 1, cid, clean=False, p=[(0x11, 600)]).disconnect()
    live = subscribed(nodes[0], t + "/live", 1)
    p5, p4 = connected(nodes[0]), Client(nodes[0].port, 4)
    again(lambda: p4.connect())
    acked(p5, t + "/kept", "before")
    three_voters(nodes)
    for n in nodes[1:]:
        n.kill()
    p4.publish(t + "/kept", "v4", 1, wait=False)
    p5.publish(t + "/kept", "v5", 1, wait=False)
    ack = p5.expect(PUBACK, PATIENCE)
    assert ack.reason >= 0x80, "0x%02x" % ack.reason
    try:
        p4.expect(PUBACK, PATIENCE)
        assert False, "a PUBACK without a quorum"
    except Closed:
        pass  # MQTT 3.1.1 has no other way to say no
    assert p5.publish(t + "/live", "clean sessions go on", 1) == 0
    assert live.message() == (t + "/live", "clean sessions go on")
    late = connected(nodes[0])
    assert late.publish(t + "/live", "also from a new client", 1) == 0
    assert live.message() == (t + "/live", "also from a new client")
    refused = Client(nodes[0].port, 5)
    refused.connect(cid, clean=False, ok=False)
    assert refused.expect(CONNACK, PATIENCE).reason in (0x88, 0x89)
    tells_why(w, nodes)
    nodes[1].launch()
    for store in STORES:
        said(nodes[0], ["range " + store, "has a leader again"])
    back = connected(nodes[0], cid, clean=False, p=[(0x11, 600)])
    assert back.message(PATIENCE) == (t + "/kept", "before")
