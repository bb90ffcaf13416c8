"""Statements of the standards that need two clients, a store or a socket to be seen.  SPDX-License-Identifier: Apache-2.0"""
import socket
import struct
import time

from basic_cases import VERSIONS, topic
from mqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Client, gather
from process_cases import websocket_upgrade
from stored_cases import name, persistent


def ack(c, kind, pid, flags=0):
    c.send(kind, flags, struct.pack(">H", pid))


def connected(port, version=4, **kw):
    c = Client(port, version)
    c.connect(**{"cid": name() if version == 3 else "", **kw})
    return c


def test_a_will_is_retained_when_it_says_so(w):
    for v in VERSIONS:
        for is_retained in (True, False):
            t, seen = topic("rw"), connected(w.port)
            seen.subscribe((t, 1))
            c = connected(w.port, v, cid=name(), will=(t, "gone", 1, is_retained))
            c.drop()
            assert seen.message() == (t, "gone")
            late = connected(w.port)
            late.subscribe((t, 1))
            if is_retained:
                m = late.expect(PUBLISH)
                assert m.payload == b"gone" and m.retain
            late.nothing()


def test_without_retain_nothing_is_stored_or_removed(w):
    for v in VERSIONS:
        t, p = topic("nr"), connected(w.port, v)
        p.publish(t, "plain", 1)
        late = connected(w.port)
        late.subscribe((t, 1))
        late.nothing()
        p.publish(t, "kept", 1, retain=True)
        assert late.message() == (t, "kept")
        for body in ("plain", ""):
            p.publish(t, body, 1)
            assert late.message() == (t, body)
        after = connected(w.port)
        after.subscribe((t, 1))
        assert after.message() == (t, "kept")


def test_retained_messages_outlive_the_session_of_their_publisher(w):
    t = topic("ro")
    for clean in (True, False):
        cid = name()
        p = connected(w.port, cid=cid, clean=clean)
        p.publish(t, "kept", 1, retain=True)
        p.disconnect()
        connected(w.port, cid=cid, clean=True).disconnect()
        s = connected(w.port)
        s.subscribe((t, 1))
        assert s.message() == (t, "kept")


def test_a_subscription_that_is_replaced_loses_no_message(w):
    """The publisher never stops; the subscription is made again and again with other options."""
    for v in (4, 5):
        for is_kept in (False, True):
            t, p, cid = topic("re"), connected(w.port), name()
            s = persistent(w, cid, v)[0] if is_kept else connected(w.port, v)
            s.subscribe((t, 1))
            for i in range(100):
                for _ in range(3):
                    p.publish(t, "%d.%d" % (i, _), 1, wait=False)
                s.subscribe((t, 1 + i % 2))
            for i in range(100):
                for _ in range(3):
                    assert s.message() == (t, "%d.%d" % (i, _))
            connected(w.port).publish(t, "once", 1)
            assert s.message() == (t, "once")  # one subscription, not a hundred
            s.nothing()


def test_what_has_begun_is_finished_after_an_unsubscribe(w):
    for v in (4, 5):
        for is_kept in (False, True):
            t, p, cid = topic("un"), connected(w.port), name()
            s = persistent(w, cid, v)[0] if is_kept else connected(w.port, v)
            s.acks = False
            s.subscribe((t, 2))
            p.publish(t, "one", 1)
            p.publish(t, "two", 2)
            one, two = s.expect(PUBLISH), s.expect(PUBLISH)
            s.unsubscribe(t)
            p.publish(t, "never", 2)
            if is_kept:  # also over a reconnect
                s.drop()
                s = persistent(w, cid, v)[0]
                s.acks = False
                again = [s.expect(PUBLISH), s.expect(PUBLISH)]
                assert [(m.pid, m.payload, m.dup) for m in again] == [(one.pid, b"one", True), (two.pid, b"two", True)]
            ack(s, PUBACK, one.pid)
            ack(s, PUBREC, two.pid)
            assert s.expect(PUBREL).pid == two.pid
            ack(s, PUBCOMP, two.pid)
            s.nothing()


def test_a_session_that_has_expired_is_gone(w):
    n = w.node(config="tenants : { default : { MinSessionExpirySeconds = 1; MaxSessionExpirySeconds = 1; }; };\n").start()
    t, p = topic("ex"), connected(n.port)
    for v in (4, 5):  # 3.1.1 gets the tenant's longest
        cid = name()
        c = Client(n.port, v)
        c.connect(cid, clean=False, p=[(0x11, 1)] if v == 5 else ())
        c.subscribe((t, 1))
        c.disconnect()
        back = Client(n.port, v)
        assert back.connect(cid, clean=False, p=[(0x11, 1)] if v == 5 else ()).present
        back.drop()
        end, is_present = time.monotonic() + 8, True
        while is_present and time.monotonic() < end:  # each look lets it live for a second again
            time.sleep(1.3)
            c = Client(n.port, v)
            is_present = c.connect(cid, clean=False, p=[(0x11, 1)] if v == 5 else ()).present
            if is_present:
                c.drop()
        assert not is_present
        p.publish(t, "nobody", 1)
        c.nothing()


def test_members_of_a_share_get_the_qos_they_were_granted(w):
    for q in (0, 1, 2):
        t, p = topic("sq"), connected(w.port)
        s = connected(w.port, 5)
        k, _ = persistent(w, name(), 5)
        assert s.subscribe(("$share/a/" + t, q)) == [q]
        assert k.subscribe(("$share/b/" + t, q)) == [q]
        for published in (0, 1, 2):
            p.publish(t, "m", published)
            assert s.expect(PUBLISH).qos == min(q, published)
            assert k.expect(PUBLISH).qos == min(q, published)


def test_a_qos2_message_begun_with_a_member_is_given_to_no_other(w):
    t, p, cids = topic("s2"), connected(w.port), [name(), name()]
    members = [persistent(w, cid, 5)[0] for cid in cids]
    for m in members:
        m.acks = False
        m.subscribe(("$share/g/" + t, 2))
    p.publish(t, "begun", 2)
    taker = next(i for i, m in enumerate(members) if m.recv(1) is not None)
    other = members[1 - taker]
    members[taker].drop()
    c = connected(w.port, 5, cid=cids[taker], clean=True)  # ends the session that had it
    c.nothing()
    other.nothing()


def test_overlapping_subscriptions_give_the_highest_qos(w):
    for v in VERSIONS:
        for is_kept in (False, True):
            base, p = topic("ov"), connected(w.port)
            s = persistent(w, name(), v)[0] if is_kept else connected(w.port, v)
            s.subscribe((base + "/+", 0), (base + "/a", 2), (base + "/#", 1))
            for q in (0, 1, 2):
                p.publish(base + "/a", "m%d" % q, q)
                m = s.expect(PUBLISH)
                assert (m.payload, m.qos) == (b"m%d" % q, q)
            s.nothing()


def test_dup_is_only_on_what_was_sent_before(w):
    """What waited for a client that was away, and what its window had no room for, comes for the first time."""
    for v in (4, 5):
        cid, t, p = name(), topic("dup"), connected(w.port)
        c = Client(w.port, v)
        c.acks = False
        p.subscribe((t + "-gone", 0))
        c.connect(cid, clean=False, will=(t + "-gone", "", 0, False), p=[(0x11, 3600), (0x21, 3)] if v == 5 else ())
        c.subscribe((t, 1))
        p.publish(t, "sent", 1)
        assert c.expect(PUBLISH).payload == b"sent"
        c.drop()
        p.expect(PUBLISH)  # the broker knows that it is gone
        for i in range(6):
            p.publish(t, "new%d" % i, 1)
        c = Client(w.port, v)
        c.connect(cid, clean=False, p=[(0x11, 3600)] if v == 5 else ())
        got = [c.expect(PUBLISH) for _ in range(7)]
        assert [m.payload for m in got] == [b"sent"] + [b"new%d" % i for i in range(6)]
        assert [m.dup for m in got] == [True] + [False] * 6


def test_websocket_takes_binary_frames_only(w):
    n = w.node()
    ws_port = n.listen_also("ws")
    n.start()
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
    for opcode, is_taken in ((0x82, True), (0x81, False)):
        with socket.create_connection(("127.0.0.1", ws_port), timeout=5) as s:
            websocket_upgrade(s)
            s.sendall(bytes([opcode, 0x80 | len(connect)]) + b"\0\0\0\0" + connect)
            got = s.recv(64)
            if is_taken:
                assert got == b"\x82\x04\x20\x02\x00\x00"
            else:
                assert got[:4] == b"\x88\x02\x03\xeb", got  # 1003: a kind of data it cannot accept
                assert s.recv(64) == b""


def test_a_share_skips_a_persistent_member_that_is_away(w):
    t, p, cid = topic("aw"), connected(w.port), name()
    away, _ = persistent(w, cid, 5)
    away.subscribe(("$share/g/" + t, 1))
    away.disconnect()
    p.publish(t, "kept", 1)  # nobody else: it waits for the one that is away
    here, stored = connected(w.port, 5), persistent(w, name(), 5)[0]
    here.subscribe(("$share/g/" + t, 1))
    stored.subscribe(("$share/g/" + t, 1))
    for i in range(20):
        p.publish(t, str(i), 1)
    gather([here, stored], 20)
    assert len(here.inbox) >= 5 and len(stored.inbox) >= 5
    back, _ = persistent(w, cid, 5)
    assert back.message() == (t, "kept")
    back.nothing()
    p.publish(t, "x", 1)
    p.publish(t, "y", 1)
    p.publish(t, "z", 1)
    assert back.message()[1] in "xyz"  # it is back in turn


def test_clean_start_0_without_expiry_takes_up_a_stored_session(w):
    """It goes on with what there is, and ends with this connection."""
    cid, t, p = name(), topic("c0"), connected(w.port)
    c = persistent(w, cid, 5)[0]
    c.subscribe((t, 1))
    c.disconnect()
    p.publish(t, "waited", 1)
    c = Client(w.port, 5)
    assert c.connect(cid, clean=False).present
    assert c.message() == (t, "waited")
    p.publish(t, "live", 1)
    assert c.message() == (t, "live")
    c.disconnect()
    assert not persistent(w, cid, 5)[1]
