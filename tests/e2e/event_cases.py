"""Every event and every metric of the tables is raised.  SPDX-License-Identifier: Apache-2.0

One node sees a little of everything.  What is not seen here is named by another test (what a store that does not answer
brings about: tests/unit/silent), or says itself that it is not raised."""
import glob
import os
import re
import socket
import struct
import time

from api_cases import READ, ask
from basic_cases import topic
from mqtt import PINGREQ, PINGRESP, PUBLISH, Client, text
from overload_cases import metrics_node
from ports import free_port
from protocol_cases import connected
from stored_cases import name

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.join(HERE, "../../src/broker")
NO_CHANCE = {"mqtt.read.paused.count", "mqtt.drop.link.count", "mqtt.route.cache.evict.count", "mqtt.ex.stalled.count",
             "mqtt.drop.resource.count", "mqtt.memory.slowed.count", "mqtt.memory.shed.count", "mqtt.memory.refused.count",
             "mqtt.session.mem.gauge", "mqtt.drop.expired.count", "mqtt.drop.closed.count",
             "mqtt.drop.memory.count"}
# NO_CHANCE: what overload_cases is about, what only load brings about, what a fault loses


def table(file, macro):
    """Name (the second field of a metric) and meaning of each row."""
    with open(os.path.join(SRC, file)) as f:
        rows = re.findall(macro + r'\((\w+), (?:"([\w.]+)", )?.*"(.*)"\)$', f.read(), re.M)
    return {second or first: what for first, second, what in rows}


def stored(n, cid, **kw):
    c = Client(n.port, 5)
    c.connect(cid, clean=False, p=[(0x11, 600)], **kw)
    return c


def ordinary(n):
    """Connect, subscribe, publish, retain, leave: all three QoS, sessions of both kinds."""
    t, c = topic("ev"), connected(n.port, 5)
    c.publish(t + "/r", "kept", 1, retain=True)
    c.subscribe((t + "/#", 2))
    assert c.message()[1] == "kept"
    for q in (0, 1, 2):
        c.publish(t + "/x", "x", q)
        c.message()
    c.publish(t + "/r", "", 1, retain=True)
    c.message()
    c.unsubscribe(t + "/#")
    c.send(PINGREQ, 0, b"")
    c.expect(PINGRESP)
    s, cid = stored(n, "kept"), "kept"
    s.acks = False
    s.subscribe((t + "/s", 2))
    c.publish(t + "/s", "once", 1)
    assert not s.expect(PUBLISH).dup
    s.drop()
    s = stored(n, cid)
    assert s.expect(PUBLISH).dup
    s.unsubscribe(t + "/s")
    s.disconnect()
    will = connected(n.port)
    will.subscribe((t + "/will", 0))
    d = Client(n.port, 5)
    d.connect(name(), will=(t + "/will", "gone", 0, False))
    d.drop()
    assert will.message()[1] == "gone"
    shared = connected(n.port, 5)
    shared.subscribe(("$share/g/" + t + "/g", 1))
    c.publish(t + "/g", "g", 1)
    shared.message()
    still = stored(n, "still")
    still.subscribe((t + "/still", 1))
    return c, s, will, shared, still


def refused(n):
    """What limits and rules refuse."""
    t, c = topic("re"), connected(n.port, 5)
    assert c.publish("secret", "x", 1) == 0x87
    assert c.subscribe(("secret", 1)) == [0x87]
    odd = Client(n.odd, 5)
    odd.connect("a/b")
    odd.publish("own/x/y", "x", 1)
    small = Client(n.port, 5)
    small.connect(p=[(0x27, 60)])
    small.subscribe((t, 2))
    for q in (0, 1, 2):
        c.publish(t, "x" * 100, q)
    groups = []
    for i in range(2):
        stored(n, "away-%d" % i).subscribe((t + "/p", 1))
        stored(n, "away-%d" % i).disconnect()
        groups.append(connected(n.port, 5))
        groups[-1].subscribe(("$share/g%d/%s/p" % (i, t), 1))
    assert c.publish(t + "/p", "x", 1) == 0x97
    assert c.publish(t + "/p", "x" * 900, 1) == 0x97
    stored(n, "full").subscribe((t + "/f", 1))
    stored(n, "full").disconnect()
    for i in range(2):
        c.publish(t + "/f", str(i), 1)
    c.publish(t + "/r1", "x", 1, retain=True)
    assert c.publish(t + "/r2", "x", 1, retain=True) >= 0x80
    quick = connected(n.port)
    for i in range(300):
        quick.publish(t + "/q", "x", 0)
    bad = Client(n.port, 5)
    bad.send(1, 0, text("MQTT") + b"\5\6\0\0\0" + text("w") + b"\0" + b"\0\2\xff\xff" + text("x"))
    bad.closed()
    one = [Client(port, 5) for port in (n.one, n.tiny)]
    one[1].connect()
    for port in (n.one, n.tiny):
        more = Client(port, 5)
        try:
            more.send(1, 0, text("MQTT") + b"\5\2\0\0\0" + text("more"))
        except OSError:
            continue  # a listener that is full closes at once
        more.closed()
    locked = Client(n.locked, 5)
    locked.connect(user="u", password="p", ok=False)
    locked.closed()
    early = Client(n.port, 5)
    early.raw(b"\x10")
    early.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    early.s.close()


def prepare(n):
    n.file("acl", "topic deny secret\ntopic readwrite #\n")
    n.one = n.listen_also("tcp", "maxConnections = 1;")
    n.tiny = n.listen_also("tcp", 'tenant = "tiny";')
    n.odd = n.listen_also("tcp", 'tenant = "odd";')
    n.file("odd", "pattern readwrite own/%c/#\n")
    n.locked = free_port()
    n.edit("listeners = ( ", 'listeners = ( { kind = "tcp"; address = "127.0.0.1:%d"; auth = "password"; }, ' % n.locked)
    n.file("passwords", "")


def test_every_event_and_metric_is_raised(w):
    n, _ = metrics_node(w, """auth : { password_file = "@DIR@/passwords"; };
        tenants : { default : { aclFile = "@DIR@/acl"; DebugModeEnabled = true; MaxPersistentFanout = 1;
                                MaxGroupFanout = 1; SessionInboxSize = 1; maxRetained = 1;
                                MaxPersistentFanoutBytes = 500; MsgPubPerSec = 200; }; tiny : { maxConnections = 1; };
            odd : { aclFile = "@DIR@/odd"; }; };""", prepare=prepare)
    kept = ordinary(n)
    refused(n)
    assert kept
    events, metrics = table("event.def", "EVENT"), table("metric.def", "METRIC")
    elsewhere = ""
    for path in glob.glob(os.path.join(HERE, "../**/*.*"), recursive=True):
        if path != os.path.abspath(__file__) and path.endswith((".py", ".c", ".txt")):
            with open(path, errors="replace") as f:
                elsewhere += f.read()
    named = {e for e in events if re.search(r"\b%s\b" % e, elsewhere)}

    def missing():
        body = ask(int(n.api), "GET", "/metrics", READ)[1]
        seen = {e for e, k in re.findall(r'event="(\w+)"} (\d+)', body) if int(k)}
        seen_metrics = {m for m in metrics if re.search(r"^%s(_total|_count|)(\{[^}]*\})? (?!0$)" % m.replace(".", "_"), body, re.M)}
        excused = {e for e, what in events.items() if what.startswith("not raised: ")}
        assert not excused & seen, excused & seen
        seen_metrics |= {m for m in metrics if m.replace(".", "_") in elsewhere}
        return (set(events) - seen - named - excused) | (set(metrics) - seen_metrics - NO_CHANCE)
    end = time.monotonic() + 20
    while left := missing():
        assert time.monotonic() < end, sorted(left)
