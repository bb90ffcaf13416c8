"""A small MQTT client for tests: it says exactly what it is told to, also what is wrong.
SPDX-License-Identifier: Apache-2.0"""
import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
DEADLINE = 60.0

BYTE, TWO, FOUR, VARINT, STRING, BINARY, PAIR = range(7)
PROPS = {0x01: BYTE, 0x02: FOUR, 0x03: STRING, 0x08: STRING, 0x09: BINARY, 0x0B: VARINT, 0x11: FOUR, 0x12: STRING,
         0x13: TWO, 0x15: STRING, 0x16: BINARY, 0x17: BYTE, 0x18: FOUR, 0x19: BYTE, 0x1A: STRING, 0x1C: STRING,
         0x1F: STRING, 0x21: TWO, 0x22: TWO, 0x23: TWO, 0x24: BYTE, 0x25: BYTE, 0x26: PAIR, 0x27: FOUR, 0x28: BYTE,
         0x29: BYTE, 0x2A: BYTE}


def varint(n):
    out = b""
    while True:
        out += bytes([n % 128 | (0x80 if n > 127 else 0)])
        n //= 128
        if n == 0:
            return out


def text(s):
    b = s.encode() if isinstance(s, str) else s
    return struct.pack(">H", len(b)) + b


def props(pairs):
    """[(id, value)...] as a property block."""
    out = b""
    for key, v in pairs:
        kind = PROPS[key]
        out += bytes([key]) + {BYTE: lambda: bytes([v]), TWO: lambda: struct.pack(">H", v),
                               FOUR: lambda: struct.pack(">I", v), VARINT: lambda: varint(v), STRING: lambda: text(v),
                               BINARY: lambda: text(v), PAIR: lambda: text(v[0]) + text(v[1])}[kind]()
    return varint(len(out)) + out


class Reader:
    def __init__(self, b):
        self.b, self.at = b, 0

    def take(self, n):
        assert self.at + n <= len(self.b), "short packet"
        self.at += n
        return self.b[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def varint(self):
        n = shift = 0
        while True:
            x = self.number(1)
            n |= (x & 127) << shift
            shift += 7
            if x < 128:
                return n

    def text(self):
        return self.take(self.number(2))

    def props(self):
        end, out = self.varint(), []
        end += self.at
        while self.at < end:
            key = self.number(1)
            kind = PROPS[key]
            out.append((key, {BYTE: lambda: self.number(1), TWO: lambda: self.number(2), FOUR: lambda: self.number(4),
                              VARINT: self.varint, STRING: lambda: self.text().decode(), BINARY: self.text,
                              PAIR: lambda: (self.text().decode(), self.text().decode())}[kind]()))
        return out

    def rest(self):
        return self.take(len(self.b) - self.at)


class Packet:
    def __init__(self, kind, flags, body, version):
        r = Reader(body)
        self.kind, self.flags, self.props, self.reason, self.pid = kind, flags, [], 0, 0
        if kind == CONNACK:
            self.present, self.reason = r.number(1) == 1, r.number(1)
        elif kind == PUBLISH:
            self.qos, self.retain, self.dup = flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
            self.topic = r.text().decode()
            if self.qos:
                self.pid = r.number(2)
            if version == 5:
                self.props = r.props()
            self.payload = r.rest()
            return
        elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK):
            self.pid = r.number(2)
            if kind in (SUBACK, UNSUBACK):
                self.props = r.props() if version == 5 else []
                self.codes = list(r.rest())
                return
            if r.at < len(body):
                self.reason = r.number(1)
        elif kind in (DISCONNECT, AUTH) and body:
            self.reason = r.number(1)
        if version == 5 and r.at < len(body):
            self.props = r.props()

    def prop(self, key):
        return next((v for k, v in self.props if k == key), None)


def gather(clients, count, within=DEADLINE):
    """Waits until these clients have got so many messages in all; each keeps its own in .inbox."""
    end = time.monotonic() + within
    while sum(len(c.inbox) for c in clients) < count:
        assert time.monotonic() < end, "%d of %d messages" % (sum(len(c.inbox) for c in clients), count)
        for c in clients:
            p = c.recv(0.02)
            if p is not None:
                assert p.kind == PUBLISH and p.qos < 2, "packet of kind %d" % p.kind
                c.inbox.append(p)
                if p.qos == 1:
                    c.send(PUBACK, 0, struct.pack(">H", p.pid))


class Closed(Exception):
    pass


class Client:
    """One connection.  Receives are bounded by a deadline; nothing sleeps."""

    def __init__(self, port, version=4, host="127.0.0.1"):
        self.version, self.buf, self.pid, self.acks = version, b"", 0, True
        self.inbox = []
        self.s = socket.create_connection((host, port), timeout=DEADLINE)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def raw(self, b):
        self.s.sendall(b)

    def send(self, kind, flags, body):
        self.raw(bytes([kind << 4 | flags]) + varint(len(body)) + body)

    def recv(self, within=DEADLINE):
        """The next packet, or None when the deadline passes; Closed when the broker hung up."""
        end = time.monotonic() + within
        while True:
            r = Reader(self.buf)
            try:
                first, n = r.number(1), r.varint()
                body = r.take(n)
                self.buf = self.buf[r.at:]
                return Packet(first >> 4, first & 15, body, self.version)
            except AssertionError:
                pass
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.s.settimeout(left)
            try:
                got = self.s.recv(65536)
            except socket.timeout:
                return None
            except ConnectionError:
                raise Closed
            if not got:
                raise Closed
            self.buf += got

    def expect(self, kind, within=DEADLINE):
        """The next packet of this kind; publishes that come before it are kept, and acknowledged."""
        end = time.monotonic() + within
        while True:
            if kind == PUBLISH and self.inbox:
                return self.inbox.pop(0)
            p = self.recv(max(0.0, end - time.monotonic()))
            assert p is not None, "no packet of kind %d within %.1f s" % (kind, within)
            if p.kind == PUBLISH and self.acks and p.qos == 1:
                self.send(PUBACK, 0, struct.pack(">H", p.pid))
            if p.kind == PUBLISH and self.acks and p.qos == 2:
                self.send(PUBREC, 0, struct.pack(">H", p.pid))
            if p.kind == PUBREL and self.acks:
                self.send(PUBCOMP, 0, struct.pack(">H", p.pid))
            if p.kind == kind:
                return p
            if p.kind == PUBLISH:
                self.inbox.append(p)
            elif p.kind != PUBREL:
                assert False, "packet of kind %d instead of %d, reason 0x%02x" % (p.kind, kind, p.reason)

    def nothing(self, within=0.3):
        """Asserts that no PUBLISH comes before the answer to a PINGREQ."""
        self.send(PINGREQ, 0, b"")
        self.expect(PINGRESP, DEADLINE)
        assert not self.inbox, "unexpected publish on %s" % self.inbox[0].topic
        del within

    def closed(self, within=DEADLINE):
        """Reads until the broker closes; the last DISCONNECT's reason, or None."""
        end, reason = time.monotonic() + within, None
        try:
            while time.monotonic() < end:
                p = self.recv(end - time.monotonic())
                if p is not None and p.kind in (DISCONNECT, CONNACK):
                    reason = p.reason
        except Closed:
            return reason
        assert False, "not closed within %.1f s" % within

    def connect(self, cid="", clean=True, keepalive=60, will=None, user=None, password=None, p=(), ok=True):
        flags = 2 if clean else 0
        tail = text(cid)
        if will:
            topic, payload, qos, retain, wp = (list(will) + [0, False, ()][len(will) - 2:])[:5]
            flags |= 4 | qos << 3 | (32 if retain else 0)
            tail += (props(wp) if self.version == 5 else b"") + text(topic) + text(payload)
        if user is not None:
            flags |= 128
            tail += text(user)
        if password is not None:
            flags |= 64
            tail += text(password)
        head = text("MQIsdp" if self.version == 3 else "MQTT") + bytes([self.version, flags])
        head += struct.pack(">H", keepalive) + (props(p) if self.version == 5 else b"")
        self.send(CONNECT, 0, head + tail)
        if not ok:
            return None
        ack = self.expect(CONNACK)
        assert ack.reason == 0, "CONNACK 0x%02x" % ack.reason
        return ack

    def next_pid(self):
        self.pid = self.pid % 65535 + 1
        return self.pid

    def subscribe(self, *filters, p=()):
        """filters: (filter, options) pairs, options: QoS | no-local 4 | as-published 8 | retain handling << 4."""
        body = struct.pack(">H", self.next_pid()) + (props(p) if self.version == 5 else b"")
        for f, o in filters:
            body += text(f) + bytes([o])
        self.send(SUBSCRIBE, 2, body)
        ack = self.expect(SUBACK)
        assert ack.pid == self.pid
        return ack.codes

    def unsubscribe(self, *filters):
        body = struct.pack(">H", self.next_pid()) + (props(()) if self.version == 5 else b"")
        self.send(UNSUBSCRIBE, 2, body + b"".join(text(f) for f in filters))
        return self.expect(UNSUBACK).codes

    def publish(self, topic, payload, qos=0, retain=False, dup=False, p=(), pid=None, wait=True):
        body = text(topic)
        if qos:
            pid = pid or self.next_pid()
            body += struct.pack(">H", pid)
        if self.version == 5:
            body += props(p)
        body += payload.encode() if isinstance(payload, str) else payload
        self.send(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body)
        if not wait or qos == 0:
            return None
        ack = self.expect(PUBACK if qos == 1 else PUBREC)
        assert ack.pid == pid
        if qos == 2 and ack.reason < 0x80:
            self.send(PUBREL, 2, struct.pack(">H", pid))
            assert self.expect(PUBCOMP).pid == pid
        return ack.reason

    def message(self, within=DEADLINE):
        p = self.expect(PUBLISH, within)
        return p.topic, p.payload.decode()

    def disconnect(self, reason=0, p=()):
        self.send(DISCONNECT, 0, bytes([reason]) + props(p) if self.version == 5 and (reason or p) else b"")
        self.s.close()

    def drop(self):
        """Leaves without a word."""
        self.s.close()
