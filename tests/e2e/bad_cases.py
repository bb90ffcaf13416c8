"""Bad input of every kind: one event of the right name, the right reason or a close, and nobody else notices.
SPDX-License-Identifier: Apache-2.0"""
import os
import re
import socket
import struct
import time

from api_cases import READ, ask
from basic_cases import topic
from mqtt import (CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Client, props,
                  text, varint)
from overload_cases import metrics_node
from protocol_cases import connected

WITHIN = 60  # s
HERE = os.path.dirname(os.path.abspath(__file__))
PID = struct.pack(">H", 1)
BAD = b"\0\1\xff"         # a string that is not UTF-8
SURROGATE = b"\0\3\xed\xa0\x80"


def packet(kind, flags, *body):
    b = b"".join(body)
    return bytes([kind << 4 | flags]) + varint(len(b)) + b


def hello(version=5, flags=2, cid=text("bad"), tail=b"", p=b"\0"):
    """A CONNECT of these parts."""
    return packet(CONNECT, 0, text("MQTT"), bytes([version, flags]), b"\0\x3c", p if version == 5 else b"", cid, tail)


def publish(t, p=b"\0", qos=0, more=b"x"):
    return packet(PUBLISH, qos << 1, t, PID if qos else b"", p, more)


# What comes first on a connection: what, bytes, event, reason in CONNACK (None: closed without a word).
FIRST = (
    ("a reserved flag in CONNECT", hello(flags=3), "PROTOCOL_ERROR", 0x81),
    ("will QoS 3", hello(flags=0x1e, tail=b"\0" + text("w") + text("x")), "PROTOCOL_ERROR", 0x81),
    ("an unknown property", hello(p=b"\2\x7f\1"), "PROTOCOL_ERROR", 0x81),
    ("a property twice", hello(p=props([(0x21, 1), (0x21, 1)])), "PROTOCOL_ERROR", 0x82),
    ("Receive Maximum 0", hello(p=props([(0x21, 0)])), "PROTOCOL_ERROR", 0x82),
    ("a string that goes on behind the packet", hello(cid=b"\0\x20bad"), "PROTOCOL_ERROR", 0x81),
    ("bytes behind the last field", hello(tail=b"xx"), "PROTOCOL_ERROR", 0x81),
    ("a CONNECT longer than any", b"\x10\xff\xff\xff\x7f", "PROTOCOL_ERROR", None),
    ("a length of five bytes", b"\x10\xff\xff\xff\xff\1", "PROTOCOL_ERROR", None),
    ("another protocol's first bytes", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROTOCOL_ERROR", None),
    ("PUBLISH before CONNECT", publish(text("t")), "PROTOCOL_ERROR", None),
    ("PINGREQ before CONNECT", b"\xc0\0", "PROTOCOL_ERROR", None),
    ("a client identifier that is not UTF-8", hello(cid=BAD), "MALFORMED_CLIENT_IDENTIFIER", 0x85),
    ("a user name that is not UTF-8", hello(flags=0x82, tail=SURROGATE), "MALFORMED_USERNAME", 0x81),
    ("a will topic that is not UTF-8", hello(flags=6, tail=b"\0" + BAD + text("x")), "MALFORMED_WILL_TOPIC", 0x81),
    ("a will to a filter", hello(flags=6, tail=b"\0" + text("a/+") + text("x")), "INVALID_TOPIC", 0x90),
    ("an unknown version", hello(version=6), "UNACCEPTED_PROTOCOL_VER", 0x84),
)

# On an open connection of MQTT 5: what, bytes, event, reason in DISCONNECT.
OPEN = (
    ("packet type 0", b"\0\0", "BAD_PACKET", 0x81),
    ("reserved flags", b"\xc1\0", "BAD_PACKET", 0x81),
    ("a length of five bytes", b"\x30\xff\xff\xff\xff\1", "BAD_PACKET", 0x81),
    ("QoS 3", packet(PUBLISH, 6, text("t"), PID, b"\0"), "BAD_PACKET", 0x81),
    ("DUP with QoS 0", packet(PUBLISH, 8, text("t"), b"\0"), "PROTOCOL_VIOLATION", 0x82),
    ("packet identifier 0", packet(PUBLISH, 2, text("t"), b"\0\0", b"\0"), "PROTOCOL_VIOLATION", 0x82),
    ("a topic that goes on behind the packet", packet(PUBLISH, 0, b"\0\x20t"), "BAD_PACKET", 0x81),
    ("properties that go on behind the packet", publish(text("t"), p=b"\x7f"), "BAD_PACKET", 0x81),
    ("SUBSCRIBE without a filter", packet(SUBSCRIBE, 2, PID, b"\0"), "PROTOCOL_VIOLATION", 0x82),
    ("SUBSCRIBE with options of tomorrow", packet(SUBSCRIBE, 2, PID, b"\0", text("f"), b"\xc0"), "BAD_PACKET", 0x81),
    ("UNSUBSCRIBE without a filter", packet(UNSUBSCRIBE, 2, PID, b"\0"), "PROTOCOL_VIOLATION", 0x82),
    ("a packet longer than the largest", b"\x30\xff\xff\xff\x7f", "BAD_PACKET", 0x95),
    ("CONNECT again", hello(), "PROTOCOL_VIOLATION", 0x82),
    ("a server's packet", packet(SUBACK, 0, PID, b"\0\0"), "PROTOCOL_VIOLATION", 0x82),
    ("AUTH without a method", b"\xf0\0", "PROTOCOL_VIOLATION", 0x82),
    ("a reason PUBACK does not have", packet(PUBACK, 0, PID, b"\x55"), "PROTOCOL_VIOLATION", 0x82),
    ("a reason PUBREL does not have", packet(PUBREL, 2, PID, b"\x10"), "PROTOCOL_VIOLATION", 0x82),
    ("a reason DISCONNECT does not have", packet(DISCONNECT, 0, b"\x55"), "PROTOCOL_VIOLATION", 0x82),
    *(("DISCONNECT with a server's reason, %02X" % r, packet(DISCONNECT, 0, bytes([r])), "PROTOCOL_VIOLATION", 0x82)
      for r in (0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2)),
    ("session expiry from 0 at the end", packet(DISCONNECT, 0, b"\0", props([(0x11, 5)])), "PROTOCOL_VIOLATION", 0x82),
    ("a topic that is not UTF-8", publish(BAD), "MALFORMED_TOPIC", 0x81),
    ("a topic with a surrogate", publish(SURROGATE), "MALFORMED_TOPIC", 0x81),
    ("a topic with NUL", publish(text("a\0b")), "MALFORMED_TOPIC", 0x81),
    ("a filter that is not UTF-8", packet(SUBSCRIBE, 2, PID, b"\0", BAD, b"\0"), "MALFORMED_TOPIC_FILTER", 0x81),
    ("an UNSUBSCRIBE that is not UTF-8", packet(UNSUBSCRIBE, 2, PID, b"\0", BAD), "MALFORMED_TOPIC_FILTER", 0x81),
    ("a user property that is not UTF-8", publish(text("t"), p=b"\x07\x26\0\1a" + BAD), "BAD_PACKET", 0x81),
    ("a topic with a wildcard", publish(text("a/+/b")), "INVALID_TOPIC", 0x90),
    ("an empty topic", publish(text("")), "PROTOCOL_VIOLATION", 0x82),
    ("a response topic with a wildcard", publish(text("t"), p=props([(0x08, "a/#")])), "PROTOCOL_VIOLATION", 0x82),
    ("a subscription identifier from a client", publish(text("t"), p=props([(0x0b, 1)])), "PROTOCOL_VIOLATION", 0x82),
    ("alias 0", publish(text("t"), p=props([(0x23, 0)])), "PROTOCOL_VIOLATION", 0x94),
    ("an alias above the maximum", publish(text("t"), p=props([(0x23, 11)])), "PROTOCOL_VIOLATION", 0x94),
    ("an alias nobody set", publish(text(""), p=props([(0x23, 3)])), "PROTOCOL_VIOLATION", 0x82),
    ("an alias twice", publish(text("t"), p=b"\6\x23\0\1\x23\0\1"), "PROTOCOL_VIOLATION", 0x82),
)

# On an open connection of MQTT 3.1.1, which has no word for it: what, bytes, event.
OPEN_V4 = (
    ("QoS 3", packet(PUBLISH, 6, text("t"), PID), "BAD_PACKET"),
    ("SUBSCRIBE with QoS 3", packet(SUBSCRIBE, 2, PID, text("f"), b"\3"), "BAD_PACKET"),
    ("CONNECT again", hello(4), "PROTOCOL_VIOLATION"),
    ("AUTH", b"\xf0\0", "BAD_PACKET"),
    ("a topic that is not UTF-8", packet(PUBLISH, 0, BAD), "MALFORMED_TOPIC"),
    ("a topic with a wildcard", packet(PUBLISH, 0, text("a/#")), "INVALID_TOPIC"),
    ("a packet longer than the largest", b"\x30\xff\xff\xff\x7f", "BAD_PACKET"),
)

# What is answered, and its connection goes on: what, version, bytes, the answer, event.
STAYS = (
    ("# in the middle", 5, packet(SUBSCRIBE, 2, PID, b"\0", text("a/#/b"), b"\0"), packet(SUBACK, 0, PID, b"\0\x8f"), "INVALID_TOPIC_FILTER"),
    ("+ within a level", 4, packet(SUBSCRIBE, 2, PID, text("a+"), b"\0"), packet(SUBACK, 0, PID, b"\x80"), "INVALID_TOPIC_FILTER"),
    ("an empty filter", 4, packet(SUBSCRIBE, 2, PID, text(""), b"\0"), packet(SUBACK, 0, PID, b"\x80"), "INVALID_TOPIC_FILTER"),
    ("a share without a filter", 5, packet(SUBSCRIBE, 2, PID, b"\0", text("$share/g"), b"\0"), packet(SUBACK, 0, PID, b"\0\x8f"), "INVALID_TOPIC_FILTER"),
    ("an UNSUBSCRIBE of no filter", 5, packet(UNSUBSCRIBE, 2, PID, b"\0", text("a/#/b")), packet(UNSUBACK, 0, PID, b"\0\x8f"), "INVALID_TOPIC_FILTER"),
    ("PUBREL of nothing", 5, packet(PUBREL, 2, PID), packet(PUBCOMP, 0, PID, b"\x92"), None),
    ("PUBREC of nothing", 5, packet(PUBREC, 0, PID), packet(PUBREL, 2, PID, b"\x92"), None),
    ("PUBACK of nothing", 5, packet(PUBACK, 0, PID) + b"\xc0\0", b"\xd0\0", None),
)


def endings():
    """The events of connections that end, by the table of the broker."""
    with open(os.path.join(HERE, "../../src/session/end.def")) as f:
        return set(re.findall(r"^X\((\w+),", f.read(), re.M)) | {"CHANNEL_ERROR"}


class Watch:
    """Counts the endings on a node, and talks over it as somebody else."""

    def __init__(self, n):
        self.n, self.names, self.topic = n, endings(), topic("bystander")
        self.bystander = connected(n.port, 5)
        self.bystander.subscribe((self.topic, 1))
        self.was = self.count()

    def count(self):
        body = ask(self.n.api, "GET", "/metrics", READ)[1]
        return {e: int(k) for e, k in re.findall(r'event="(\w+)"} (\d+)', body) if e in self.names}

    def saw(self, what, event):
        end = time.monotonic() + WITHIN
        while (now := self.count()) == self.was:
            assert time.monotonic() < end, "%s: no event" % what
        more = {e: k - self.was[e] for e, k in now.items() if k != self.was[e]}
        self.was = now
        assert more == {event: 1}, (what, event, more)
        assert self.bystander.publish(self.topic, what, 1) == 0
        assert self.bystander.message() == (self.topic, what), what


def test_bad_input_hurts_only_who_sends_it(w):
    n, _ = metrics_node(w, "")
    watch = Watch(n)
    for what, data, event, reason in FIRST:
        c = Client(n.port, 5)
        c.raw(data)
        assert (got := c.closed(WITHIN)) == reason, (what, got)
        watch.saw(what, event)
    for version, table in ((5, OPEN), (4, [row + (None,) for row in OPEN_V4])):
        for what, data, event, reason in table:
            c = connected(n.port, version)
            c.raw(data)
            assert (got := c.closed(WITHIN)) == reason, (what, got)
            watch.saw(what, event)


def answer(c, n):
    """So many bytes from the broker."""
    c.s.settimeout(WITHIN)
    got = b""
    while len(got) < n:
        more = c.s.recv(n - len(got))
        assert more, got
        got += more
    return got


def test_what_is_wrong_and_answered_ends_nothing(w):
    n, _ = metrics_node(w, "")
    watch = Watch(n)
    for what, version, data, want, event in STAYS:
        c = connected(n.port, version)
        c.raw(data)
        assert (got := answer(c, len(want))) == want, (what, got)
        c.nothing()
        if event:
            watch.saw(what, event)
        c.disconnect()
        watch.saw(what, "BY_CLIENT")


def slowly(c, data):
    """A byte now and then, until it is closed."""
    end = time.monotonic() + WITHIN
    for b in data:
        c.s.settimeout(0.2)
        try:
            c.raw(bytes([b]))
            if not c.s.recv(100):
                return
        except socket.timeout:
            pass
        except ConnectionError:
            return
        assert time.monotonic() < end, "still open"
    assert False, "it waited for the last byte"


def test_who_stops_halfway_is_let_go(w):
    """Half-open sockets, half packets, and one byte at a time."""
    n, _ = metrics_node(w, "", prepare=lambda n: setattr(n, "hasty", n.listen_also("tcp", "connTimeoutSec = 1;")))
    watch = Watch(n)
    assert Client(n.hasty, 5).closed(WITHIN) is None
    watch.saw("not a word", "CONNECT_TIMEOUT")
    slowly(Client(n.hasty, 5), hello(tail=b"", p=props([(0x26, ("a", "b" * 2000))])))
    watch.saw("a CONNECT, byte by byte", "CONNECT_TIMEOUT")
    c = Client(n.hasty, 5)
    c.raw(hello()[:9])
    assert c.closed(WITHIN) is None
    watch.saw("half a CONNECT", "CONNECT_TIMEOUT")
    c = Client(n.port, 5)
    c.raw(hello()[:9])
    c.s.shutdown(socket.SHUT_WR)
    assert c.closed(WITHIN) is None
    watch.saw("half a CONNECT and the end", "BY_CLIENT")
    c = connected(n.port, 5)
    c.raw(publish(text("t"))[:4])
    c.s.shutdown(socket.SHUT_WR)
    assert c.closed(WITHIN) is None
    watch.saw("half a PUBLISH and the end", "BY_CLIENT")
    for c, data, event in ((Client(n.port, 5), hello()[:9], "CHANNEL_ERROR"), (connected(n.port, 5), publish(text("t"))[:4], "CLIENT_CHANNEL_ERROR")):
        c.raw(data)
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.s.close()  # with a reset
        watch.saw("half a packet and a reset", event)
    for version, reason in ((5, 0x8d), (4, None)):
        c = Client(n.port, version)
        c.connect(keepalive=1)
        assert c.closed(WITHIN) == reason
        watch.saw("nothing more from it", "IDLE")
    c = Client(n.port, 5)
    c.connect(keepalive=1)
    c.raw(b"\x30\x7f")  # the beginning of a packet is not one
    assert c.closed(WITHIN) == 0x8d
    watch.saw("half a packet and no more", "IDLE")
