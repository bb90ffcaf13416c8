"""Persistent sessions: what waits for a client, and what it finds when it comes back.  SPDX-License-Identifier: Apache-2.0"""
import random
import struct
import time

from mqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Client
from basic_cases import topic


def persistent(w, cid, version=4):
    c = Client(w.port, version)
    ack = c.connect(cid, clean=False, p=[(0x11, 3600)] if version == 5 else ())
    return c, ack.present


def name():
    return "ps-%d" % random.getrandbits(40)


def test_offline_messages_wait_in_order(w):
    for v in (4, 5):
        cid, t = name(), topic("off")
        c, present = persistent(w, cid, v)
        assert not present
        assert c.subscribe((t, 1)) == [1]
        c.disconnect()
        p = Client(w.port)
        p.connect()
        for i in range(300):
            p.publish(t, str(i), 1)
        c, present = persistent(w, cid, v)
        assert present
        for i in range(300):
            assert c.message() == (t, str(i))
        for i in range(50):
            p.publish(t, "live%d" % i, 1)
            assert c.message() == (t, "live%d" % i)
        c.nothing()
        c.disconnect()


def test_unacknowledged_messages_come_again_with_their_packet_id(w):
    cid, t = name(), topic("again")
    c, _ = persistent(w, cid)
    c.acks = False
    c.subscribe((t, 1))
    p = Client(w.port)
    p.connect()
    for i in range(5):
        p.publish(t, str(i), 1)
    first = [c.expect(PUBLISH) for _ in range(5)]
    c.send(PUBACK, 0, struct.pack(">H", first[0].pid))
    c.nothing()
    c.drop()
    c, present = persistent(w, cid)
    assert present
    c.acks = False
    again = [c.expect(PUBLISH) for _ in range(4)]
    assert [m.pid for m in again] == [m.pid for m in first[1:]]
    assert [m.payload for m in again] == [b"1", b"2", b"3", b"4"]
    assert all(m.dup for m in again)


def test_qos2_goes_on_with_pubrel_after_a_reconnect(w):
    cid, t = name(), topic("rel")
    c, _ = persistent(w, cid)
    c.acks = False
    c.subscribe((t, 2))
    p = Client(w.port)
    p.connect()
    p.publish(t, "twice never", 2)
    m = c.expect(PUBLISH)
    c.send(PUBREC, 0, struct.pack(">H", m.pid))
    assert c.expect(PUBREL).pid == m.pid
    c.drop()
    c, present = persistent(w, cid)
    assert present
    c.acks = False
    assert c.expect(PUBREL).pid == m.pid
    c.send(PUBCOMP, 0, struct.pack(">H", m.pid))
    c.nothing()
    c.disconnect()
    c, _ = persistent(w, cid)
    c.nothing()


def test_inbound_qos2_is_remembered_over_a_reconnect(w):
    cid, t = name(), topic("in2")
    s = Client(w.port)
    s.connect()
    s.subscribe((t, 2))
    c, _ = persistent(w, cid)
    c.send(PUBLISH, 4, struct.pack(">H", len(t)) + t.encode() + struct.pack(">H", 9) + b"x")
    assert c.expect(PUBREC).pid == 9
    assert s.message() == (t, "x")
    c.drop()
    c, present = persistent(w, cid)
    assert present
    c.send(PUBLISH, 4 | 8, struct.pack(">H", len(t)) + t.encode() + struct.pack(">H", 9) + b"x")
    assert c.expect(PUBREC).pid == 9
    c.send(PUBREL, 2, struct.pack(">H", 9))
    assert c.expect(PUBCOMP).pid == 9
    s.nothing()


def test_clean_start_forgets(w):
    cid, t = name(), topic("forget")
    c, _ = persistent(w, cid)
    c.subscribe((t, 1))
    c.disconnect()
    c = Client(w.port)
    assert not c.connect(cid, clean=True).present
    c.disconnect()
    p = Client(w.port)
    p.connect()
    p.publish(t, "nobody", 1)
    c, present = persistent(w, cid)
    assert not present
    c.nothing()


def test_takeover_hands_the_session_over(w):
    cid, t = name(), topic("over")
    a, _ = persistent(w, cid, 5)
    a.acks = False
    a.subscribe((t, 1))
    p = Client(w.port)
    p.connect()
    p.publish(t, "m", 1)
    a.expect(PUBLISH)
    b, present = persistent(w, cid, 5)
    assert present
    assert a.closed() == 0x8E
    m = b.expect(PUBLISH)
    assert m.payload == b"m" and m.dup


def test_delayed_will_is_cancelled_by_a_return(w):
    cid, t = name(), topic("dwill")
    s = Client(w.port)
    s.connect()
    s.subscribe((t, 1))
    c = Client(w.port, 5)
    c.connect(cid, clean=False, p=[(0x11, 100)], will=(t, "late", 1, False, [(0x18, 2)]))
    c.drop()
    back, _ = persistent(w, cid, 5)
    s.nothing()
    back.disconnect()
    c = Client(w.port, 5)
    c.connect(cid, clean=False, p=[(0x11, 100)], will=(t, "late", 1, False, [(0x18, 1)]))
    c.drop()
    s.nothing()
    assert s.message(6) == (t, "late")


def test_unsubscribe_of_a_persistent_session(w):
    cid, t = name(), topic("pu")
    c, _ = persistent(w, cid, 5)
    c.subscribe((t, 1), (t + "/#", 1))
    assert c.unsubscribe(t, t + "/no") == [0, 0x11]
    p = Client(w.port)
    p.connect()
    p.publish(t + "/x", "yes", 1)
    assert c.message() == (t + "/x", "yes")


def test_shared_with_a_persistent_member(w):
    cid, t = name(), topic("psh")
    c, _ = persistent(w, cid, 5)
    assert c.subscribe(("$share/g/" + t, 1)) == [1]
    p = Client(w.port)
    p.connect()
    for i in range(5):
        p.publish(t, str(i), 1)
    for i in range(5):
        assert c.message() == (t, str(i))


def test_a_client_that_is_taken_over_while_it_attaches(w):
    """The inbox answers an attach after the disk has it; a takeover before that must not cost anything twice."""
    n = w.node(data=True).start()
    cids, clients = [name() for _ in range(4)], []
    for i in range(120):
        clients.append(Client(n.port, 5))
        clients[-1].connect(cids[i % 4], clean=i % 3 == 0, p=[(0x11, 3600)], ok=False)
        if i % 4 == 3:
            time.sleep(random.random() / 200)
    for c in clients:
        c.drop()
    for cid in cids:
        c = Client(n.port, 5)
        c.connect(cid, clean=False, p=[(0x11, 3600)])
        c.disconnect()
    assert n.process.poll() is None
