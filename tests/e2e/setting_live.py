"""What a reload changes for clients that are connected, and what it does not: for setting_cases.
SPDX-License-Identifier: Apache-2.0

Each function gets a port of its tenant (which has the defaults) and of one that keeps them, connects its clients, shows
how things are, and returns what is to be seen by the same clients after the reload."""
import os
import re
import struct
import time

from basic_cases import topic
from mqtt import PUBACK, PUBLISH, SUBSCRIBE, props, text
from protocol_cases import connected
from setting_cases import event, fan_made, fan_sent, keeper, member, name, seconds, slow, slow_least, stored

CHANGED, KEPT = {}, {}
OWN_TEST = {"NoLWTWhenServerShuttingDown"}


def table():
    """The settings by their names: LIVE or CONNECT."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/session/settings.def")
    with open(path) as f:
        return dict(re.findall(r"^X\((\w+),.*?, (LIVE|CONNECT),", f.read(), re.M))


def changed(key):
    return lambda f: CHANGED.setdefault(key, f)


def kept(key):
    return lambda f: KEPT.setdefault(key, f)


def codes(port, ask, before, after):
    """One client asks the same twice."""
    c = connected(port, 5)
    assert ask(c) == before, ask

    def check():
        assert ask(c) == after
    return check


def published(t, payload="x", qos=1, p=()):
    return lambda c: {0x10: 0}.get(*[c.publish(t, payload, qos, p=p)] * 2)


@changed("DebugModeEnabled")
def debug_mode(port, other):
    c, t = connected(port, 5), topic("d")
    c.subscribe((t, 1))

    def check():
        before = event("QOS1_PUSHED")
        c.publish(t, "x", 1)
        c.expect(PUBLISH)
        assert event("QOS1_PUSHED") > before
    return check


@changed("ByPassPermCheckError")
def by_pass(port, other):
    c = connected(port, 5, cid="a/b")
    assert c.publish("else/where", "x", 1) == 0x87

    def check():
        assert c.publish("else/where", "x", 1) in (0, 0x10)
    return check


@changed("PayloadFormatValidationEnabled")
def payload_format(port, other):
    return codes(port, published(topic("f"), b"\xff", p=[(0x01, 1)]), 0x99, 0)


@changed("MaxTopicLevelLength")
def level_length(port, other):
    return codes(port, published("abcd"), 0, 0x90)


@changed("MaxTopicLevels")
def levels(port, other):
    return codes(port, published("a/b/c"), 0, 0x90)


@changed("MaxTopicLength")
def topic_length(port, other):
    return codes(port, published("a/bcde"), 0, 0x90)


@changed("MaxSharedGroupMembers")
def group_members(port, other):
    three, f = [connected(port, 5) for _ in range(3)], "$share/live/a"
    assert [c.subscribe((f, 1)) for c in three[:2]] == [[1], [1]]

    def check():
        assert three[2].subscribe((f, 1)) == [0x97]
    return check


@changed("MaxTopicFiltersPerInbox")
def filters_per_inbox(port, other):
    two = [connected(port, 5), stored(port)]
    for c in two:
        assert c.subscribe(("a", 0), ("b", 0), ("c", 0)) == [0, 0, 0]

    def check():
        for c in two:
            assert c.subscribe(("d", 0)) == [0x97]
            assert c.subscribe(("a", 0)) == [0]
    return check


@changed("MaxTopicFiltersPerSub")
def filters_per_sub(port, other):
    c = connected(port, 5)
    assert c.subscribe(("a", 0), ("b", 0), ("c", 0)) == [0, 0, 0]

    def check():
        c.send(SUBSCRIBE, 2, b"\x00\x09" + props(()) + b"".join(text(f) + b"\x00" for f in "abc"))
        assert c.closed() == 0x98
    return check


@changed("MsgPubPerSec")
def publish_rate(port, other):
    c = connected(port)

    def check():
        assert seconds(lambda: [c.publish("rate", "x", 1) for _ in range(30)]) > 1
    return check


@changed("InBoundBandWidth")
def bandwidth_in(port, other):
    c = connected(port)

    def check():
        assert seconds(lambda: [c.publish("in", b"x" * 10000, 1) for _ in range(20)]) > 1
    return check


@changed("OutBoundBandWidth")
def bandwidth_out(port, other):
    s, c, t = connected(port), connected(port), topic("out")
    s.subscribe((t, 0))

    def take():
        for _ in range(20):
            c.publish(t, b"x" * 10000)
        for _ in range(20):
            s.expect(PUBLISH)

    def check():
        assert seconds(take) > 1
    return check


def stalling(port, count):
    """A client that does not acknowledge; later one more than before, or so many more, are called stalled."""
    before, s, t = event("SUB_STALLED"), connected(port, 5), topic("st")
    s.acks = False
    s.subscribe((t, 1))
    connected(port).publish(t, "x", 1)

    def check():
        end = time.monotonic() + 20  # by default it would be 30 s
        while event("SUB_STALLED") < before + count:
            assert s.version and time.monotonic() < end  # s must stay connected
            time.sleep(0.05)
    return check


@changed("MaxResendTimes")
def resend_times(port, other):
    return stalling(port, 1)


@changed("ResendTimeoutSeconds")
def resend_timeout(port, other):
    return stalling(port, 2)


@changed("MinSendPerSec")
def min_send(port, other):
    two = [slow(port), slow(other)]

    def check():
        least = slow_least(two, [12, 8])
        assert least == [12, 8], least
    return check


def fans(port, makers, payload="x"):
    t, p = topic("fan"), connected(port, 5)
    clients = fan_made(port, makers, t)
    assert fan_sent(clients, t, p, payload) == (2, 0)

    def check():
        assert fan_sent(clients, t, p, payload) == (1, 0x97)
    return check


@changed("MaxGroupFanout")
def group_fanout(port, other):
    return fans(port, [member("g1"), member("g2")])


@changed("MaxPersistentFanout")
def persistent_fanout(port, other):
    return fans(port, [keeper, keeper])


@changed("MaxPersistentFanoutBytes")
def persistent_fanout_bytes(port, other):
    return fans(port, [keeper, keeper], "x" * 600)


@changed("Durability")
def durability(port, other):
    """And DurabilityInPubAck: what the acknowledgement names is what is in force."""
    t, p, s = topic("du"), connected(port, 5), None
    s = keeper(port, t)

    def named():
        p.publish(t, "x", 1, wait=False)
        user = p.expect(PUBACK).prop(0x26)
        s.message()
        return user
    assert named() is None

    def check():
        assert named() == ("durability", "memory")
    return check


@changed("RetainMessageMatchLimit")
def retain_match(port, other):
    base, c = topic("rm"), connected(port)
    for i in range(5):
        c.publish("%s/%d" % (base, i), "x", 1, retain=True)

    def got():
        c.subscribe((base + "/+", 1))
        n = 0
        while c.inbox or c.recv(0.5) is not None:
            n += 1
            c.inbox = c.inbox[1:]
        return n
    assert got() == 5

    def check():
        assert got() == 2
    return check


def waiting(port, qos):
    """A stored session has the queue that its client connected with."""
    t, cid = topic("wait"), name()
    c, p = stored(port, cid), connected(port)
    c.subscribe((t, qos))

    def check():
        c.disconnect()
        for i in range(10):
            p.publish(t, str(i), 1)
        again = stored(port, cid)
        assert [again.message() for _ in range(10)] == [(t, str(i)) for i in range(10)]
    return check


@changed("SessionInboxSize")
def inbox_size(port, other):
    return waiting(port, 1)


@changed("QoS0DropOldest")
def drop_oldest(port, other):
    """Which one a queue that is full drops now cannot be seen in time; its client is served on."""
    return stays(port, 5)


@kept("RetainEnabled")
def retained(port, other):
    return codes(port, lambda c: c.publish("kept", "", 1, retain=True), 0x10, 0x10)


@kept("WildcardSubscriptionEnabled")
def wildcards(port, other):
    return codes(port, lambda c: c.subscribe(("a/+", 0)), [0], [0])


@kept("SubscriptionIdentifierEnabled")
def subscription_ids(port, other):
    return codes(port, lambda c: c.subscribe(("a/b", 0), p=[(0x0B, 7)]), [0], [0])


@kept("SharedSubscriptionEnabled")
def shared(port, other):
    return codes(port, lambda c: c.subscribe(("$share/g/a", 0)), [0], [0])


@kept("MaximumQoS")
def maximum_qos(port, other):
    return codes(port, lambda c: c.subscribe(("a", 2)), [2], [2])


@kept("MaxTopicAlias")
def topic_alias(port, other):
    return codes(port, published("kept", p=[(0x23, 4)]), 0, 0)


@kept("MaxUserPayloadBytes")
def payload_bytes(port, other):
    return codes(port, published("kept", "x" * 101), 0, 0)


@kept("ReceivingMaximum")
def receiving_maximum(port, other):
    """Nine in progress, where a newcomer may have seven."""
    c = connected(port, 5)

    def check():
        for i in range(9):
            c.send(3, 4, text("kept") + struct.pack(">H", 100 + i) + props(()) + b"x")
        for i in range(9):
            assert c.expect(5).reason in (0, 0x10)
    return check


def stays(port, version):
    """Nothing else to be seen: it is connected and served."""
    c, t = connected(port, version), topic("kept")
    c.subscribe((t, 1))

    def check():
        c.publish(t, "x", 1)
        assert c.message() == (t, "x")
    return check


VERSIONS = {"MQTT3Enabled": 3, "MQTT4Enabled": 4}
for _key, _when in table().items():
    if _when == "CONNECT" and _key not in KEPT:
        KEPT[_key] = lambda port, other, v=VERSIONS.get(_key, 5): stays(port, v)
