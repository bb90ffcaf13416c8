"""Publish and subscribe with clean sessions.  SPDX-License-Identifier: Apache-2.0"""
import random
import struct

from mqtt import (PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBSCRIBE, Client, Closed, gather, props, text)

VERSIONS = (3, 4, 5)


def topic(name):
    return "e2e/%d/%s" % (random.getrandbits(40), name)


def test_versions_exchange_messages_at_every_qos(w):
    for vs in VERSIONS:
        for vp in VERSIONS:
            t = topic("x")
            s, p = Client(w.port, vs), Client(w.port, vp)
            s.connect("s-%d" % random.getrandbits(40))
            p.connect("p-%d" % random.getrandbits(40))
            for q in (0, 1, 2):
                assert s.subscribe((t, q)) == [q]
                for k in (0, 1, 2):
                    p.publish(t, "m%d%d" % (q, k), k)
                    got = s.expect(PUBLISH)
                    assert (got.topic, got.payload, got.qos) == (t, b"m%d%d" % (q, k), min(q, k))
                    assert not got.retain and not got.dup
            s.disconnect()
            p.disconnect()


def test_wildcards(w):
    s = Client(w.port)
    s.connect()
    base = topic("w")
    assert s.subscribe((base + "/+/b", 0), (base + "/#", 0)) == [0, 0]
    p = Client(w.port)
    p.connect()
    p.publish(base + "/a/b", "both")
    p.publish(base, "hash alone")
    p.publish(base + "/a/c", "hash")
    assert s.message() == (base + "/a/b", "both")  # one copy for two matching filters
    assert s.message() == (base, "hash alone")
    assert s.message() == (base + "/a/c", "hash")
    s.nothing()


def test_unsubscribe_stops_delivery(w):
    s, p, t = Client(w.port, 5), Client(w.port), topic("u")
    s.connect()
    p.connect()
    s.subscribe((t, 1))
    assert s.unsubscribe(t, t + "/none") == [0, 0x11]
    p.publish(t, "x", 1)
    s.nothing()


def test_order_of_a_publisher_is_kept(w):
    s, p, t = Client(w.port), Client(w.port), topic("o")
    s.connect()
    p.connect()
    s.subscribe((t, 2))
    for i in range(150):
        p.publish(t, str(i), 1, wait=False)
    for i in range(150):
        assert s.message() == (t, str(i))


def test_retained(w):
    p, t = Client(w.port), topic("r")
    p.connect()
    p.publish(t, "old", 1, retain=True)
    p.publish(t, "kept", 1, retain=True)
    s = Client(w.port, 5)
    s.connect()
    s.subscribe((t, 1))
    m = s.expect(PUBLISH)
    assert m.payload == b"kept" and m.retain
    p.publish(t, "live", 1, retain=True)
    m = s.expect(PUBLISH)
    assert m.payload == b"live" and not m.retain
    s.subscribe((t, 1 | 8))  # again: retain handling 0 sends it again, from now on RETAIN as published
    m = s.expect(PUBLISH)
    assert m.payload == b"live" and m.retain
    p.publish(t, "as published", 1, retain=True)
    assert s.expect(PUBLISH).retain
    s.subscribe((t, 1 | 1 << 4))  # only if the subscription is new
    s.subscribe((t, 1 | 2 << 4))  # never
    s.nothing()
    p.publish(t, "", 1, retain=True)
    s.expect(PUBLISH)
    n = Client(w.port)
    n.connect()
    n.subscribe((t, 1))
    n.nothing()


def test_retained_keeps_properties_and_wildcards_find_it(w):
    p, base = Client(w.port, 5), topic("rp")
    p.connect()
    p.publish(base + "/1", "v", 1, retain=True, p=[(0x03, "text/x"), (0x26, ("k", "v")), (0x08, "re/ply"), (0x09, b"co")])
    for i in range(2, 102):
        p.publish("%s/%d" % (base, i), "v", 1, retain=True)
    s = Client(w.port, 5)
    s.connect()
    s.subscribe((base + "/+", 1))
    seen = {}
    for _ in range(101):
        m = s.expect(PUBLISH)
        seen[m.topic] = m
    assert len(seen) == 101 and all(m.retain for m in seen.values())
    m = seen[base + "/1"]
    assert (m.prop(0x03), m.prop(0x26), m.prop(0x08), m.prop(0x09)) == ("text/x", ("k", "v"), "re/ply", b"co")
    for i in range(1, 102):
        p.publish("%s/%d" % (base, i), "", 0, retain=True)


def test_shared_members_get_each_message_once(w):
    t, got = topic("s"), []
    members = [Client(w.port, v) for v in (4, 5, 4)]
    for m in members:
        m.connect()
        assert m.subscribe(("$share/g/" + t, 1)) == [1]
    plain, p = Client(w.port), Client(w.port)
    plain.connect()
    plain.subscribe((t, 0))
    p.connect()
    for i in range(90):
        p.publish(t, str(i), 1)
    gather(members, 90)
    for m in members:
        got.append([int(x.payload) for x in m.inbox])
    assert sorted(sum(got, [])) == list(range(90)), got
    assert all(len(g) >= 15 for g in got), [len(g) for g in got]
    for i in range(90):
        assert plain.message() == (t, str(i))


def test_ordered_share_sticks_to_a_member(w):
    t = topic("os")
    members = [Client(w.port, 5) for _ in range(4)]
    for m in members:
        m.connect()
        assert m.subscribe(("$oshare/g/" + t, 1)) == [1]
    for k in range(3):
        p = Client(w.port)
        p.connect("publisher-%d-%d" % (k, random.getrandbits(30)))
        for i in range(20):
            p.publish(t, str(i), 1)
        gather(members, 20)
        takers = [m for m in members if m.inbox]
        assert len(takers) == 1
        assert [x.payload for x in takers[0].inbox] == [b"%d" % i for i in range(20)]
        takers[0].inbox = []


def test_will_is_sent_when_the_connection_breaks_only(w):
    s, t = Client(w.port), topic("will")
    s.connect()
    s.subscribe((t, 1))
    for v in VERSIONS:
        c = Client(w.port, v)
        c.connect("w%d" % random.getrandbits(40), will=(t, "gone", 1, False))
        c.disconnect()
        s.nothing()
        c = Client(w.port, v)
        c.connect("w%d" % random.getrandbits(40), will=(t, "gone%d" % v, 1, False))
        c.drop()
        assert s.message() == (t, "gone%d" % v)
    c = Client(w.port, 5)
    c.connect("w%d" % random.getrandbits(40), will=(t, "asked for", 1, False))
    c.disconnect(0x04)
    assert s.message() == (t, "asked for")


def test_takeover_ends_the_older_connection(w):
    for v in (4, 5):
        cid, t = "take-%d" % random.getrandbits(40), topic("t")
        a = Client(w.port, v)
        a.connect(cid)
        a.subscribe((t, 0))
        b = Client(w.port, v)
        assert not b.connect(cid).present
        assert a.closed() == (0x8E if v == 5 else None)
        b.publish(t, "x", 1)
        b.nothing()


def test_no_local_and_subscription_identifiers(w):
    c, t = Client(w.port, 5), topic("nl")
    c.connect()
    c.subscribe((t, 1 | 4))
    c.publish(t, "own", 1)
    c.nothing()
    s = Client(w.port, 5)
    s.connect()
    s.subscribe((t, 0), p=[(0x0B, 7)])
    s.subscribe((t[:-2] + "+", 1), p=[(0x0B, 300000)])
    c.publish(t, "both", 1)
    m = s.expect(PUBLISH)
    assert sorted(v for k, v in m.props if k == 0x0B) == [7, 300000] and m.qos == 1
    s.nothing()


def test_topic_alias_and_message_properties(w):
    s, p, t = Client(w.port, 5), Client(w.port, 5), topic("alias")
    s.connect()
    s.subscribe((t, 1))
    assert p.connect().prop(0x22) >= 1
    p.publish(t, "first", 1, p=[(0x23, 1)])
    p.publish("", "second", 1, p=[(0x23, 1), (0x26, ("a", "1")), (0x26, ("a", "2")), (0x02, 100)])
    assert s.message() == (t, "first")
    m = s.expect(PUBLISH)
    assert m.topic == t and [v for k, v in m.props if k == 0x26] == [("a", "1"), ("a", "2")]
    assert 95 <= m.prop(0x02) <= 100 and m.prop(0x23) is None
    s2 = Client(w.port, 5)
    s2.connect(p=[(0x22, 5)])
    s2.subscribe((t, 0))
    for i in range(3):
        p.publish(t, str(i))
        s2.expect(PUBLISH)


def test_receive_maximum_is_obeyed(w):
    s, p, t = Client(w.port, 5), Client(w.port), topic("rm")
    s.acks = False
    s.connect(p=[(0x21, 3)])
    s.subscribe((t, 1))
    p.connect()
    for i in range(10):
        p.publish(t, str(i), 1)
    first = [s.expect(PUBLISH) for _ in range(3)]
    s.nothing()
    assert [m.payload for m in first] == [b"0", b"1", b"2"]
    for k in range(7):
        s.send(PUBACK, 0, struct.pack(">H", first[k].pid))
        first.append(s.expect(PUBLISH))
        assert first[-1].payload == b"%d" % (k + 3)


def test_qos2_duplicate_is_routed_once(w):
    s, p, t = Client(w.port), Client(w.port), topic("q2")
    s.connect()
    s.subscribe((t, 2))
    p.connect()
    for _ in range(3):
        p.send(PUBLISH, 4 | (8 if _ else 0), text(t) + struct.pack(">H", 77) + b"once")
        assert p.expect(PUBREC).pid == 77
    p.send(PUBREL, 2, struct.pack(">H", 77))
    assert p.expect(PUBCOMP).pid == 77
    assert s.message() == (t, "once")
    s.nothing()


def test_keep_alive_ends_a_silent_connection(w):
    c = Client(w.port, 5)
    ack = c.connect(keepalive=1)
    keep = ack.prop(0x13) or 1
    if keep > 3:
        raise w.skip("MinKeepAliveSeconds is %d here" % keep)
    assert c.recv(keep * 1.3) is None
    assert c.closed(keep * 1.5 + 2) == 0x8D


def test_bad_packets_close_the_connection_and_hurt_nobody(w):
    other = Client(w.port)
    other.connect()
    bad = [b"\x00\x00", b"\xf0\xff\xff\xff\xff\xff", b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00",
           b"\x30\x03\x00\x01a", b"\x10\x02\x00\x04", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))]
    for b in bad:
        c = Client(w.port)
        c.raw(b)
        c.version = 4
        c.closed()
    for b in (b"\x82\x00", b"\x30\x04\x00\x02a#", b"\x32\x05\x00\x01a\x00\x00", b"\x80\x05\x00\x01\x00\x00\x00",
              b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", b"\x36\x05\x00\x01a\x00\x01", b"\x20\x02\x00\x00"):
        for v in (4, 5):
            c = Client(w.port, v)
            c.connect()
            c.raw(b)
            c.closed()
    rng = random.Random(7)
    for _ in range(200):
        c = Client(w.port)
        try:
            c.raw(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60))))
        except OSError:
            pass
        c.drop()
    other.send(PINGREQ, 0, b"")
    other.expect(PINGRESP)


def test_large_messages(w):
    s, p, t = Client(w.port), Client(w.port), topic("big")
    s.connect()
    s.subscribe((t, 1))
    p.connect()
    for n in (1, 127, 128, 16383, 16384, 65536, 200000):
        body = bytes(i % 251 for i in range(n))
        p.publish(t, body, 1)
        assert s.expect(PUBLISH).payload == body


def test_a_stalled_subscriber_does_not_stop_the_others(w):
    t = topic("stall")
    stalled, alive, p = Client(w.port), Client(w.port), Client(w.port)
    for c in (stalled, alive, p):
        c.connect()
    stalled.subscribe((t, 0))
    alive.subscribe((t, 0))
    body = b"x" * 20000
    for i in range(600):  # more than all buffers between us and the stalled one
        p.publish(t, body)
        assert alive.expect(PUBLISH).payload == body
    n = 0
    while stalled.recv(0.5) is not None:
        n += 1
    assert 0 < n <= 600


def test_many_filters_of_one_client(w):
    c, base = Client(w.port), topic("many")
    c.connect()
    refused = 0
    for i in range(0, 100, 5):
        refused += sum(x == 0x80 for x in c.subscribe(*[("%s/%d" % (base, i + k), 1) for k in range(5)]))
    assert refused == 0
    for i in (0, 50, 99):
        c.publish("%s/%d" % (base, i), "x", 1)
        assert c.message() == ("%s/%d" % (base, i), "x")


def test_pipelined_subscribe_publish_disconnect(w):
    t = topic("pipe")
    s = Client(w.port)
    s.connect()
    s.subscribe((t, 0))
    c = Client(w.port)
    head = text("MQTT") + b"\x04\x02\x00\x3c" + text("pipe-%d" % random.getrandbits(40))
    pkt = b"\x10" + bytes([len(head)]) + head
    sub = struct.pack(">H", 1) + text(t) + b"\x00"
    pkt += bytes([SUBSCRIBE << 4 | 2, len(sub)]) + sub
    body = text(t) + b"hello"
    pkt += bytes([PUBLISH << 4, len(body)]) + body + b"\xe0\x00"
    c.raw(pkt)
    assert s.message() == (t, "hello")
    try:
        c.closed()
    except Closed:
        pass


def test_v5_connack_tells_the_limits(w):
    c = Client(w.port, 5)
    ack = c.connect()
    assert ack.prop(0x12), "an assigned client identifier"
    assert ack.prop(0x21) is None or ack.prop(0x21) > 0
    assert len(props(())) == 1
    assert PUBREL == 6
