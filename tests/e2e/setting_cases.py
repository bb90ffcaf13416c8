"""The settings of a tenant: each has an effect, shown beside a tenant that has not set it.  SPDX-License-Identifier: Apache-2.0

Every case is a tenant with a listener of its own, all in one node.  A case gets two ports: its tenant's and one of a
tenant with the defaults."""
import os
import re
import signal
import struct
import time

from api_cases import READ, ask
from basic_cases import topic
from mqtt import CONNACK, PUBACK, PUBLISH, PUBREC, SUBSCRIBE, Client, Closed, props, text
from ports import free_port
from process_cases import log_has
from protocol_cases import connected
from stored_cases import name

CASES = {}
LIVE_ONLY = {"MinSendPerSec": {"MinSendPerSec": "12"}}  # it takes long: the clients of setting_live are enough
METRICS = {}


def case(**settings):
    """A tenant with these settings, for the function that follows; the first names it."""
    def put(f):
        CASES[next(iter(settings))] = (settings, f)
        return f
    return put


def connack(port, version=5, p=(), **kw):
    c = Client(port, version)
    c.connect(kw.pop("cid", name()), ok=False, p=p, **kw)
    return c, c.expect(CONNACK)


def told(port, key, **kw):
    return connack(port, **kw)[1].prop(key)


def subscribe(port, *filters, version=5, **kw):
    return connected(port, version).subscribe(*filters, **kw)


def published(port, t, payload="x", qos=1, **kw):
    return connected(port, 5).publish(t, payload, qos, **kw)


def ended(port, *args, **kw):
    c = connected(port, 5)
    c.publish(*args, wait=False, **kw)
    return c.closed()


def stored(port, cid=None, **kw):
    c = Client(port, 5)
    c.connect(cid or name(), clean=False, p=[(0x11, 600)], **kw)
    return c


def seconds(f):
    began = time.monotonic()
    f()
    return time.monotonic() - began


def event(tenant_event):
    _, body = ask(METRICS["port"], "GET", "/metrics", READ)
    return int(re.search(r'event="%s"} (\d+)' % tenant_event, body).group(1))


@case(MQTT3Enabled="false")
def version_31(port, other):
    assert (connack(port, 3)[1].reason, connack(other, 3)[1].reason) == (1, 0)


@case(MQTT4Enabled="false")
def version_311(port, other):
    assert (connack(port, 4)[1].reason, connack(other, 4)[1].reason) == (1, 0)


@case(MQTT5Enabled="false")
def version_5(port, other):
    assert (connack(port, 5)[1].reason, connack(other, 5)[1].reason) == (0x84, 0)


@case(DebugModeEnabled="true")
def debug_mode(port, other):
    for p, is_told in ((other, False), (port, True)):
        before = [event("DISTED"), event("QOS1_PUSHED")]
        t, s = topic("d"), connected(p, 5)
        s.subscribe((t, 1))
        s.publish(t, "x", 1)
        s.expect(PUBLISH)
        assert ([event("DISTED"), event("QOS1_PUSHED")] != before) == is_told


@case(ForceTransient="true")
def force_transient(port, other):
    for p, is_kept in ((port, False), (other, True)):
        cid = name()
        c, ack = connack(p, cid=cid, clean=False, p=[(0x11, 100)])
        assert ack.prop(0x11) == (None if is_kept else 0)
        c.disconnect()
        assert connack(p, cid=cid, clean=False, p=[(0x11, 100)])[1].present == is_kept


@case(ByPassPermCheckError="true", aclFile='"@DIR@/acl"')
def by_pass(port, other):
    c = Client(port, 5)
    c.connect("a/b")  # its name cannot stand for %c in a rule
    assert c.publish("else/where", "x", 1) in (0, 0x10)
    assert c.subscribe(("else/#", 1)) == [1]
    assert c.publish("secret", "x", 1) == 0x87  # a rule says no


@case(Strict="", aclFile='"@DIR@/acl"')
def by_pass_default(port, other):
    c = Client(port, 5)
    c.connect("a/b")
    assert c.publish("else/where", "x", 1) == 0x87
    assert c.subscribe(("else/#", 1)) == [0x87]


@case(PayloadFormatValidationEnabled="false")
def payload_format(port, other):
    assert published(port, topic("f"), b"\xff", p=[(0x01, 1)]) in (0, 0x10)
    assert published(other, topic("f"), b"\xff", p=[(0x01, 1)]) == 0x99


@case(RetainEnabled="false")
def retain_enabled(port, other):
    assert (told(port, 0x25), told(other, 0x25)) == (0, None)
    assert ended(port, topic("r"), "x", 1, retain=True) == 0x9A


@case(WildcardSubscriptionEnabled="false")
def wildcards(port, other):
    assert (told(port, 0x28), subscribe(port, ("a/+", 0)), subscribe(other, ("a/+", 0))) == (0, [0xA2], [0])


@case(SubscriptionIdentifierEnabled="false")
def subscription_ids(port, other):
    got = [subscribe(p, ("a/b", 0), p=[(0x0B, 7)]) for p in (port, other)]
    assert (told(port, 0x29), got) == (0, [[0xA1], [0]])


@case(SharedSubscriptionEnabled="false")
def shared(port, other):
    got = [subscribe(p, ("$share/g/a", 0)) for p in (port, other)]
    assert (told(port, 0x2A), got) == (0, [[0x9E], [0]])


@case(MaximumQoS="1")
def maximum_qos(port, other):
    assert (told(port, 0x24), told(other, 0x24)) == (1, None)
    assert ended(port, topic("q"), "x", 2) == 0x9B
    assert subscribe(port, ("a", 2)) == [1]


@case(MaxTopicLevelLength="3")
def level_length(port, other):
    assert (published(port, "abcd"), published(port, "abc/abc"), published(other, "abcd")) == (0x90, 0x10, 0x10)
    assert subscribe(port, ("abcd", 0)) == [0x8F]


@case(MaxTopicLevels="2")
def levels(port, other):
    assert (published(port, "a/b/c"), published(port, "a/b"), published(other, "a/b/c")) == (0x90, 0x10, 0x10)


@case(MaxTopicLength="5")
def topic_length(port, other):
    assert (published(port, "a/bcde"), published(port, "a/bcd"), published(other, "a/bcde")) == (0x90, 0x10, 0x10)


@case(MaxTopicAlias="3")
def topic_alias(port, other):
    assert (told(port, 0x22), told(other, 0x22)) == (3, 10)
    assert ended(port, topic("a"), "x", p=[(0x23, 4)]) == 0x94


@case(MaxSharedGroupMembers="1")
def group_members(port, other):
    for p, code in ((port, 0x97), (other, 0)):
        first = connected(p, 5)
        assert first.subscribe(("$share/members/a", 0)) == [0]
        assert subscribe(p, ("$share/members/a", 0)) == [code]


@case(MaxTopicFiltersPerInbox="2")
def filters_per_inbox(port, other):
    for p, code in ((port, 0x97), (other, 0)):
        for c in (connected(p, 5), stored(p)):
            assert c.subscribe(("a", 0), ("b", 0)) == [0, 0]
            assert c.subscribe(("c", 0)) == [code]
            assert c.subscribe(("a", 0)) == [0]  # that is no new one


@case(MsgPubPerSec="10")
def publish_rate(port, other):
    def send(p):
        c = connected(p)
        for _ in range(30):
            c.publish("rate", "x", 1)
    assert seconds(lambda: send(other)) < 1 < seconds(lambda: send(port))


@case(ReceivingMaximum="7")
def receiving_maximum(port, other):
    assert (told(port, 0x21), told(other, 0x21)) == (7, 200)


@case(InBoundBandWidth="100000")
def bandwidth_in(port, other):
    def send(p):
        c = connected(p)
        for _ in range(20):
            c.publish("in", b"x" * 10000, 1)
    assert seconds(lambda: send(other)) < 1 < seconds(lambda: send(port))


@case(OutBoundBandWidth="100000")
def bandwidth_out(port, other):
    def take(p):
        s, c, t = connected(p), connected(p), topic("out")
        s.subscribe((t, 0))
        for _ in range(20):
            c.publish(t, b"x" * 10000)
        for _ in range(20):
            s.expect(PUBLISH)
    assert seconds(lambda: take(other)) < 1 < seconds(lambda: take(port))


@case(MaxLastWillBytes="20")
def will_bytes(port, other):
    assert [connack(p, will=("t", "x" * 30, 0, False))[1].reason for p in (port, other)] == [0x95, 0]
    assert connack(port, will=("t", "x" * 5, 0, False))[1].reason == 0


@case(MaxUserPayloadBytes="100")
def payload_bytes(port, other):
    assert told(port, 0x27) < told(other, 0x27)
    assert published(port, "t", "x" * 100) == 0x10
    assert ended(port, "t", "x" * 101, 1) == 0x95
    assert published(other, "t", "x" * 101) == 0x10


def stalled_after(port):
    """Seconds until a client that does not acknowledge is called stalled; at most 4."""
    before, began, t = event("SUB_STALLED"), time.monotonic(), topic("st")
    s = connected(port, 5)
    s.acks = False
    s.subscribe((t, 1))
    connected(port).publish(t, "x", 1)
    while event("SUB_STALLED") == before and time.monotonic() - began < 4:
        time.sleep(0.05)
    return time.monotonic() - began


@case(MaxResendTimes="1", ResendTimeoutSeconds="1")
def resend_times(port, other):
    assert 0.9 < stalled_after(port) < 2


@case(ResendTimeoutSeconds="1")
def resend_timeout(port, other):  # three times by default
    assert 2.5 < stalled_after(port) < 4


@case(MaxTopicFiltersPerSub="2")
def filters_per_sub(port, other):
    three = [("a", 0), ("b", 0), ("c", 0)]
    assert subscribe(other, *three) == [0, 0, 0]
    c = connected(port, 5)
    c.send(SUBSCRIBE, 2, b"\x00\x09" + props(()) + b"".join(text(f) + b"\x00" for f, _ in three))
    assert c.closed() == 0x98


def fan_made(port, makers, t):
    return [make(port, t) for make in makers]


def fan_sent(clients, t, publisher, payload="x"):
    """How many of these subscribers get one message, and what its publisher is told."""
    code, got = publisher.publish(t, payload, 1), 0
    for c in clients:
        c.send(12, 0, b"")
        c.expect(13)
        end = time.monotonic() + 0.3
        while not c.inbox and time.monotonic() < end:
            p = c.recv(0.1)
            if p is not None:
                c.inbox.append(p)
        for p in c.inbox:
            c.send(PUBACK, 0, struct.pack(">H", p.pid))
        got += len(c.inbox)
        c.inbox = []
    return got, code


def fanout(port, makers, payload="x"):
    t = topic("fan")
    return fan_sent(fan_made(port, makers, t), t, connected(port, 5), payload)


def member(group):
    def make(port, t):
        c = connected(port, 5)
        c.subscribe(("$share/%s/%s" % (group, t), 1))
        return c
    return make


def keeper(port, t):
    c = stored(port)
    c.subscribe((t, 1))
    return c


@case(MaxGroupFanout="1")
def group_fanout(port, other):
    two = [member("g1"), member("g2")]
    assert (fanout(port, two), fanout(other, two)) == ((1, 0x97), (2, 0))


@case(MaxPersistentFanout="1")
def persistent_fanout(port, other):
    two = [keeper, keeper]
    assert (fanout(port, two), fanout(other, two)) == ((1, 0x97), (2, 0))


@case(MaxPersistentFanoutBytes="1000")
def persistent_fanout_bytes(port, other):
    two = [keeper, keeper]
    assert fanout(port, two) == (2, 0)
    assert (fanout(port, two, "x" * 600), fanout(other, two, "x" * 600)) == ((1, 0x97), (2, 0))


@case(MaxSessionExpirySeconds="50")
def expiry_max(port, other):
    assert [told(p, 0x11, p=[(0x11, 100)]) for p in (port, other)] == [50, None]


@case(MinSessionExpirySeconds="30")
def expiry_min(port, other):
    assert [told(p, 0x11, p=[(0x11, 5)]) for p in (port, other)] == [30, None]


@case(MinKeepAliveSeconds="30")
def keep_alive_min(port, other):
    assert [told(p, 0x13, keepalive=5) for p in (port, other)] == [30, None]


def waited(port, qos):
    """What of ten messages a client finds that was away."""
    t, cid = topic("wait"), name()
    c = stored(port, cid)
    c.subscribe((t, qos))
    c.disconnect()
    p = connected(port)
    for i in range(10):
        p.publish(t, str(i), 1)
    c = stored(port, cid)
    got = []
    m = c.recv(1)
    while m is not None:
        got.append(int(m.payload))
        m = c.recv(0.3)
    return got


@case(SessionInboxSize="3")
def inbox_size(port, other):
    assert (waited(port, 1), waited(other, 1)) == ([0, 1, 2], list(range(10)))
    assert waited(port, 0) == [0, 1, 2]
    # a publisher hears that queues were full: its message is acknowledged, dropped for those sessions, and counted
    t, told_of = topic("full"), []
    before = of_tenant("t-SessionInboxSize", "mqtt_drop_overflow_count_total")
    for i in range(2):
        c = stored(port, name())
        c.subscribe((t, 1))
        c.disconnect()
    p, old = connected(port, 5), connected(port, 4)
    for client, qos in ((p, 1), (p, 1), (p, 1), (p, 1), (old, 1), (p, 2)):
        client.publish(t, "x", qos, wait=False)
        ack = client.expect(PUBACK if qos == 1 else PUBREC)
        assert ack.reason == 0
        told_of.append([v for k, v in ack.props if k == 0x26] if client is p else None)
    assert told_of == [[], [], [], [("queue_full", "2")], None, [("queue_full", "2")]], told_of
    assert of_tenant("t-SessionInboxSize", "mqtt_drop_overflow_count_total") - before == 6


@case(QoS0DropOldest="true", SessionInboxSize="3")
def drop_oldest(port, other):
    assert (waited(port, 0), waited(port, 1)) == ([7, 8, 9], [0, 1, 2])


@case(RetainMessageMatchLimit="2")
def retain_match(port, other):
    for q, want in ((port, 2), (other, 5)):
        base, p = topic("rm"), connected(q)
        for i in range(5):
            p.publish("%s/%d" % (base, i), "x", 1, retain=True)
        s = connected(q)
        s.subscribe((base + "/+", 1))
        got = 0
        while s.inbox or s.recv(0.5) is not None:
            got += 1
            s.inbox = s.inbox[1:]
        assert got == want


def of_tenant(tenant, metric):
    _, body = ask(METRICS["port"], "GET", "/metrics", READ)
    return int(re.search(r'^%s\{tenantId="%s"\} (\d+)' % (metric, tenant), body, re.M).group(1))


@case(Durability="2", DurabilityInPubAck="true")
def durability(port, other):
    """The level in force is in the acknowledgement, in the metrics and in the log; what was acknowledged from memory arrives.
    A node without a disk gives nobody more than the memory of a quorum (durability_cases.py has the pairs)."""
    for q, level in ((port, "memory"), (other, None)):
        t = topic("du")
        s = keeper(q, t)
        for version in (5, 4):
            p = connected(q, version)
            for qos, kind in ((1, PUBACK), (2, PUBREC)):
                p.publish(t, "x", qos, wait=False)
                ack = p.expect(kind)
                assert (ack.reason, ack.prop(0x26)) == (0, ("durability", level) if level and version == 5 else None)
                assert s.message() == (t, "x")
    assert (of_tenant("t-Durability", "mqtt_durability_gauge"), of_tenant("plain", "mqtt_durability_gauge")) == (2, 1)
    assert of_tenant("t-Durability", "mqtt_durability_memory_count_total") >= 2
    assert of_tenant("plain", "mqtt_durability_memory_count_total") == 0


@case(Limits="", maxRetained="2", maxRetainedBytes="1000")
def retained_limits(port, other):
    """No setting, a limit of the tenant: topics with a retained message, and their bytes."""
    base, p = topic("rl"), connected(port, 5)
    assert [p.publish("%s/%d" % (base, i), "x", 1, retain=True) for i in range(3)] == [0x10, 0x10, 0x97]
    assert p.publish(base + "/0", "y" * 2000, 1, retain=True) == 0x97
    assert p.publish(base + "/0", "", 1, retain=True) == 0x10
    assert p.publish(base + "/2", "x", 1, retain=True) == 0x10


def slow(port):
    """A client that may be sent 32 and answers its first message at once."""
    c, p, t = Client(port, 5), connected(port), topic("window")
    c.connect(p=[(0x21, 32)])
    c.subscribe((t, 1))
    p.publish(t, "x", 1)
    c.expect(PUBLISH)
    c.acks = False
    for i in range(300):
        p.publish(t, "x", 1, wait=False)
    return c, p


def slow_least(two, enough):
    """Who holds its acknowledgements back is sent less and less at once, down to the floor: the least of each."""
    least = [99, 99]
    for _ in range(8):
        wait = time.monotonic() + 1.1
        got = []
        for c, _ in two:
            got.append([c.expect(PUBLISH).pid])
            while (m := c.recv(max(0.01, wait - time.monotonic()))) is not None:
                got[-1].append(m.pid)
        least = [min(a, len(g)) for a, g in zip(least, got)]
        if least == enough:
            break
        for (c, _), pids in zip(two, got):
            for pid in pids:
                c.send(4, 0, struct.pack(">H", pid))
    return least


def test_every_setting_has_an_effect(w):
    """The tenants begin with the defaults and get their settings by a reload: for clients that connect after it, for those
    that are connected where that makes sense, and where it was agreed at CONNECT not for them."""
    from setting_live import CHANGED, KEPT, OWN_TEST, table
    api = METRICS["port"] = free_port()
    when, tenants, port = table(), {}, {}
    settings_of = {**{key: s for key, (s, _) in CASES.items()}, **LIVE_ONLY}
    for key, settings in settings_of.items():
        tenants["t-" + key] = [" ".join("%s = %s;" % s for s in settings.items() if s[1] and (is_new or s[0] not in when))
                               for is_new in (False, True)]

    def of_tenants(is_new):
        return "tenants : { plain : { }; %s };" % " ".join('%s : { %s };' % (t, s[is_new]) for t, s in tenants.items())
    n = w.node(config=of_tenants(False) + "\n")
    n.file("acl", "pattern readwrite own/%c/#\npattern deny secret\n")
    n.edit("@DIR@", n.dir) if "@DIR@" in open(n.conf).read() else None
    tokens = n.file("tokens", "read %s\n" % READ)
    n.edit('apiServerConfig : { enable = false; unixSocket = ""; };',
           'apiServerConfig: { httpPort = %d; unixSocket = ""; tokenFile = "%s"; };' % (api, tokens))
    for t in ["plain", *tenants]:
        port[t] = n.listen_also("tcp", 'tenant = "%s";' % t)
    n.start()
    wrong = []

    def attempt(key, what, *args):
        try:
            return what(*args)
        except (AssertionError, Closed, OSError) as e:
            at = e.__traceback__
            while at.tb_next and os.path.dirname(at.tb_next.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
                at = at.tb_next
            wrong.append("%s: %s line %d: %r" % (key, os.path.basename(at.tb_frame.f_code.co_filename), at.tb_lineno, e))
            return None
    live = {k: attempt(k, f, port["t-" + k], port["plain"]) for k, f in {**CHANGED, **KEPT}.items()}
    n.edit(of_tenants(False).replace("@DIR@", n.dir), of_tenants(True).replace("@DIR@", n.dir))
    n.process.send_signal(signal.SIGHUP)
    log_has(n, "the configuration is in effect", 60)
    for key, check in live.items():
        if check:
            attempt(key, check)
    for key, (_, check) in CASES.items():
        attempt(key, check, port["t-" + key], port["plain"])
    assert not wrong, "\n" + "\n".join(wrong)
    covered = set().union(*settings_of.values()) | OWN_TEST
    assert not set(when) - covered, "no case for %s" % (set(when) - covered)
    both = {"Durability": "DurabilityInPubAck"}
    told = set(CHANGED) | OWN_TEST | {both.get(k) for k in CHANGED}
    assert {k for k in when if when[k] == "LIVE"} - told == set(), "no connected client for %s" % when
    assert {k for k in when if when[k] == "CONNECT"} == set(KEPT)


def test_wills_when_the_server_stops(w):
    """NoLWTWhenServerShuttingDown: the will is kept back, or sent; it is retained here, to be seen after the restart."""
    told = ["NoLWTWhenServerShuttingDown = %s;" % x for x in ("false", "true")]
    for is_kept_back in (True, False):
        n = w.node(data=True, config="tenants : { default : { %s }; };\n" % told[not is_kept_back]).start()
        t = topic("stop")
        c = Client(n.port, 5)
        c.connect(name(), will=(t, "gone", 1, True))
        n.edit(told[not is_kept_back], told[is_kept_back])
        n.process.send_signal(signal.SIGHUP)
        log_has(n, "the configuration is in effect", 60)
        n.process.send_signal(signal.SIGTERM)
        assert c.closed() == 0x8B
        assert n.process.wait(20) == 0
        n.start()
        s = connected(n.port)
        s.subscribe((t, 1))
        if is_kept_back:
            s.nothing()
        else:
            assert s.message() == (t, "gone")
