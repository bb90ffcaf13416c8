"""What brokers commonly get wrong, each as a client would meet it.  SPDX-License-Identifier: Apache-2.0

docs/CONFORMANCE.md lists them, with the tests that show the others."""
import socket
import struct
import time

from basic_cases import topic
from mqtt import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, Client, Closed,
                  props, text)
from protocol_cases import connected
from stored_cases import name

WITHIN = 60  # s: nothing here takes long, but the machine may be busy


def stored(port, cid, expiry=600, version=5, **kw):
    c = Client(port, version)
    ack = c.connect(cid, clean=False, p=[(0x11, expiry)] if version == 5 else (), **kw)
    return c, ack.present


def test_a_will_is_published_although_its_broker_was_killed(w):
    """Also one without a delay, of a session that ends with its connection."""
    n = w.node(data=True).start()
    t, cid = topic("kw"), name()
    heir, _ = stored(n.port, cid)
    heir.subscribe((t + "/#", 1))
    heir.disconnect()
    clean, kept, left = Client(n.port, 5), Client(n.port, 5), Client(n.port, 5)
    clean.connect(name(), will=(t + "/clean", "gone", 1, False))
    kept.connect(name(), clean=False, p=[(0x11, 600)], will=(t + "/kept", "gone", 1, False))
    left_id = name()
    left.connect(left_id, will=(t + "/left", "gone", 1, False))
    left.disconnect()
    Client(n.port, 5).connect(left_id)  # answered when all that is left of the one before is done
    n.kill()
    n.start()
    heir, present = stored(n.port, cid)
    assert present
    got = {heir.message(WITHIN)[0] for _ in range(2)}
    assert got == {t + "/clean", t + "/kept"}, got
    heir.nothing()


def test_a_delayed_will_is_published_although_its_broker_was_killed(w):
    """Of a client that was connected, and of one whose delay had begun."""
    n = w.node(data=True).start()
    t, cid = topic("dw"), name()
    heir, _ = stored(n.port, cid)
    heir.subscribe((t + "/#", 1))
    heir.disconnect()
    there, left = Client(n.port, 5), Client(n.port, 5)
    for c, leaf in ((there, "/there"), (left, "/left")):
        c.connect(name(), clean=False, p=[(0x11, 600)], will=(t + leaf, "gone", 1, False, [(0x18, 5)]))
    left.send(DISCONNECT, 0, b"\4" + props(()))  # with its will
    assert left.closed(WITHIN) is None
    n.kill()
    n.start()
    heir, present = stored(n.port, cid)
    assert present
    got = {heir.message(WITHIN) for _ in range(2)}
    assert got == {(t + "/there", "gone"), (t + "/left", "gone")}, got
    heir.nothing()


def test_what_expires_after_pubrec_is_finished(w):
    """The expiry of a message ends with its PUBREC: PUBREL is owed, also to the next connection."""
    t, cid = topic("xp"), name()
    c, _ = stored(w.port, cid)
    c.acks = False
    c.subscribe((t + "/m", 2))
    p = connected(w.port, 5)
    p.publish(t + "/m", "brief", 2, p=[(0x02, 2)])
    pid = c.expect(PUBLISH, WITHIN).pid
    c.send(PUBREC, 0, struct.pack(">H", pid))
    assert c.expect(PUBREL, WITHIN).pid == pid
    c.drop()
    p.publish(t + "/r", "brief", 1, retain=True, p=[(0x02, 2)])
    end = time.monotonic() + WITHIN
    while True:  # until what came later has expired
        s = connected(w.port, 5)
        s.subscribe((t + "/r", 0))
        s.send(PINGREQ, 0, b"")
        s.expect(PINGRESP, WITHIN)
        if not s.inbox:
            break
        s.disconnect()
        assert time.monotonic() < end
    c, present = stored(w.port, cid)
    c.acks = False
    assert present and c.expect(PUBREL, WITHIN).pid == pid
    c.send(PUBCOMP, 0, struct.pack(">H", pid))
    c.nothing()


def test_a_session_expires_although_its_broker_was_killed(w):
    n = w.node(data=True).start()
    short, long = name(), name()
    for cid, sec in ((short, 1), (long, 3600)):
        c, _ = stored(n.port, cid, sec)
        c.subscribe((topic("ex"), 1))
    n.kill()
    n.start()
    assert stored(n.port, long)[1]
    end = time.monotonic() + WITHIN
    while True:  # its owner is dead from the start on; its second begins then
        c = Client(n.port, 5)
        if not c.connect(short, clean=False, p=[(0x11, 1)]).present:
            break
        assert time.monotonic() < end
        c.disconnect()
        time.sleep(1.5)


def test_what_a_client_announces_is_never_too_much(w):
    c = Client(w.port, 5)
    ack = c.connect(name(), p=[(0x27, 0xffffffff), (0x22, 65535), (0x21, 65535)])
    assert ack.reason == 0
    c = Client(w.port, 5)
    assert c.connect("", clean=False).prop(0x12), "no client identifier was assigned"


def test_odd_but_legal_publishes(w):
    """The longest expiry; four-byte UTF-8; an alias that changes its topic; QoS 0 beyond Receive Maximum."""
    t, c = topic("odd"), Client(w.port, 5)
    limit = c.connect(name()).prop(0x21) or 65535
    c.subscribe((t + "/#", 1))
    c.publish(t + "/e", "x", 1, p=[(0x02, 0xffffffff)])
    assert c.expect(PUBLISH, WITHIN).prop(0x02) >= 0xffffff00
    wide = t + "/\U0001f600\U00020000"
    c.publish(wide, "\U0001f600", 1)
    assert c.message(WITHIN) == (wide, "\U0001f600")
    for at in ("a", "b"):
        c.publish(t + "/" + at, at, 1, p=[(0x23, 1)])
        assert c.message(WITHIN) == (t + "/" + at, at)
        c.publish("", at + "2", 1, p=[(0x23, 1)])
        assert c.message(WITHIN) == (t + "/" + at, at + "2")
    p = connected(w.port, 5)
    for i in range(limit + 50):
        p.publish(topic("none"), "x", 0)
    p.nothing()
    bad = connected(w.port, 5)
    bad.publish("x", "x", 0, p=[(0x23, 0)])
    assert bad.closed(WITHIN) == 0x94


def test_subscriptions_keep_to_the_letter(w):
    t, c = topic("sub"), connected(w.port, 5)
    c.publish(t + "/r", "kept", 1, retain=True)
    s, _ = stored(w.port, name())
    for present in (False, True):  # Retain Handling 1 only for a new subscription, also of a stored session
        assert s.subscribe((t + "/#", 1 | 1 << 4)) == [1]
        if present:
            s.nothing()
        else:
            assert s.message(WITHIN)[1] == "kept"
    assert s.subscribe((t + "/x", 1), ("bad/#/filter", 1), (t + "/y", 2), p=()) == [1, 0x8f, 2]
    assert s.unsubscribe(t + "/x", t + "/never", t + "/y") == [0, 0x11, 0]
    c.publish(t + "/r", "", 1, retain=True)
    bad = connected(w.port, 5)
    bad.send(SUBSCRIBE, 2, struct.pack(">H", 1) + props(()) + text("$share/g/" + t) + bytes([4]))
    assert bad.closed(WITHIN) == 0x82


def test_at_the_limit_of_filters_an_old_one_may_be_replaced(w):
    n = w.node(config="tenants : { default : { MaxTopicFiltersPerInbox = 2; }; };\n").start()
    for c in (connected(n.port, 5), stored(n.port, name())[0]):
        assert c.subscribe(("a", 0), ("b", 0)) == [0, 0]
        assert c.subscribe(("c", 0)) == [0x97]
        assert c.subscribe(("a", 2), ("b", 1)) == [2, 1]
        assert c.unsubscribe("a") == [0]
        assert c.subscribe(("c", 0)) == [0]


def test_limits_count_characters_and_the_payload_alone(w):
    n = w.node(config="tenants : { default : { MaxTopicLevelLength = 3; MaxTopicLength = 5; MaxUserPayloadBytes = 100; }; };\n").start()
    c = connected(n.port, 5)
    wide = "\U0001f600"
    assert c.publish(wide * 3 + "/" + wide, b"x" * 100, 1, p=[(0x26, ("a", "b" * 50))]) in (0, 0x10)
    assert c.publish(wide * 4, "x", 1) == 0x90
    assert c.publish(wide * 3 + "/" + wide * 2, "x", 1) == 0x90
    c.publish("t", b"x" * 101, 1, wait=False)
    assert c.closed(WITHIN) == 0x95


def test_acknowledgements_of_the_wrong_kind(w):
    """PUBREC for nothing is answered 0x92 and the connection stays; so is PUBREL; PUBACK does not end a QoS 2 exchange."""
    t = topic("ack")
    c = Client(w.port, 5)
    c.connect(name(), clean=False, p=[(0x11, 600)])
    c.acks = False
    c.send(PUBREC, 0, struct.pack(">H", 77))
    p = c.recv(WITHIN)
    assert (p.kind, p.pid, p.reason) == (PUBREL, 77, 0x92), (p.kind, p.reason)
    c.send(PUBREL, 2, struct.pack(">H", 78))
    p = c.recv(WITHIN)
    assert (p.pid, p.reason) == (78, 0x92), (p.kind, p.reason)
    c.subscribe((t, 2))
    connected(w.port).publish(t, "two", 2)
    m = c.expect(PUBLISH, WITHIN)
    assert m.qos == 2
    c.send(PUBACK, 0, struct.pack(">H", m.pid))
    try:
        c.send(PUBREC, 0, struct.pack(">H", m.pid))
        p = c.recv(WITHIN)
        assert (p.kind == PUBREL and p.reason == 0) or p.kind == DISCONNECT, (p.kind, p.reason)
    except (Closed, OSError):
        pass  # a protocol error: whichever way, the exchange is not over


def test_what_is_sent_to_a_client_does_not_keep_it_alive(w):
    c, p, t = Client(w.port, 5), connected(w.port, 5), topic("ka")
    c.connect(name(), keepalive=1)
    c.subscribe((t, 0))
    reason, end = None, time.monotonic() + WITHIN
    try:
        while time.monotonic() < end:
            p.publish(t, "x", 0)
            got = c.recv(0.1)
            reason = got.reason if got and got.kind == DISCONNECT else reason
    except Closed:
        assert reason == 0x8d
        return
    assert False, "never closed"


def test_an_unknown_version_is_told_so(w):
    for level, code in ((6, 0x84), (7, 0x84), (2, 0x01), (0, None)):
        c = Client(w.port, 4)
        c.send(CONNECT, 0, text("MQTT") + bytes([level, 2]) + b"\0\0" + (b"\0" if level > 4 else b"") + text("x"))
        assert c.closed(WITHIN) == code, level


def test_a_disconnect_says_what_becomes_of_will_and_session(w):
    t, seen = topic("dw"), connected(w.port, 5)
    seen.subscribe((t, 1))
    cid = name()
    c = Client(w.port, 5)
    c.connect(cid, clean=False, p=[(0x11, 600)], will=(t, "will", 1, False))
    c.disconnect(0x04, p=[(0x11, 300)])
    assert seen.message(WITHIN) == (t, "will")
    c, present = stored(w.port, cid)
    assert present
    c.disconnect(0, p=[(0x11, 0)])
    assert not stored(w.port, cid)[1]
    c = Client(w.port, 5)
    c.connect(name(), will=(t, "late", 1, False, [(0x18, 3600)]))  # the delay ends with the session: at once
    c.drop()
    assert seen.message(WITHIN) == (t, "late")


def test_no_words_for_who_wants_none(w):
    c = Client(w.port, 5)
    c.connect(name(), p=[(0x17, 0)])
    c.send(SUBSCRIBE, 2, struct.pack(">H", 1) + props(()) + text("bad/#/x") + b"\1")
    p = c.expect(SUBACK, WITHIN)
    assert p.codes == [0x8f] and p.prop(0x1f) is None and p.prop(0x26) is None


def test_the_shortest_connect_comes_through_a_proxy_listener(w):
    """Fourteen bytes are fewer than a PROXY header has: nobody waits for more."""
    n = w.node()
    port = n.listen_also("tcp", 'proxyFrom = [ "10.0.0.0/8" ];')
    n.start()
    c = Client(port, 4)
    c.send(CONNECT, 0, text("MQTT") + b"\4\2\0\0" + text(""))
    assert c.expect(CONNACK, WITHIN).reason == 0
    c.send(PINGREQ, 0, b"")
    c.expect(PINGRESP, WITHIN)


def test_a_websocket_path_may_have_a_query(w):
    n = w.node()
    port = n.listen_also("ws", 'path = "/mqtt";')
    n.start()
    for target, status in ((b"/mqtt", b" 101 "), (b"/mqtt?token=1&x=%20", b" 101 "), (b"/mqttx", b" 404 ")):
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as s:
            s.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
            assert status in s.recv(100), target
