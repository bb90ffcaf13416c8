"""Clients that do not read, do not finish, or take too much: what it costs them and what it does not cost the others.
SPDX-License-Identifier: Apache-2.0"""
import socket
import time

from api_cases import READ, ask
from basic_cases import topic
from mqtt import PUBLISH, Client, Closed
from ports import free_port
from protocol_cases import connected


def narrow(port):
    """A connection whose kernel buffer is small, so that a client that does not read is noticed soon."""
    c = Client.__new__(Client)
    c.version, c.buf, c.pid, c.acks, c.inbox = 4, b"", 0, True, []
    c.s = socket.socket()
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.s.settimeout(8)
    c.s.connect(("127.0.0.1", port))
    return c


def metrics_node(w, config, prepare=None):
    port = free_port()
    n = w.node(config=config)
    tokens = n.file("tokens", "read %s\n" % READ)
    n.edit('apiServerConfig : { enable = false; unixSocket = ""; };',
           'apiServerConfig: { httpPort = %d; unixSocket = ""; tokenFile = "%s"; };' % (port, tokens))
    n.api = port
    if prepare:
        prepare(n)
    n.start()

    def metric(name):
        status, text = ask(port, "GET", "/metrics", READ)
        assert status == 200
        return sum(float(line.split()[-1]) for line in text.split("\n") if line.startswith(name + "{") or line.startswith(name + " "))
    return n, metric


def rss(n):
    with open("/proc/%d/status" % n.process.pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024


def test_who_reads_again_gets_what_waited(w):
    """After a stall of any length the queue flows again, also when nothing new comes."""
    n = w.node(config="tenants : { default : { SessionInboxSize = 65535; }; };\n").start()
    for size in (300, 3000, 30000, 300000 // 2):
        for q in (0, 1):
            t = topic("again")
            s, p = narrow(n.port), connected(n.port)
            s.connect()
            s.subscribe((t, q))
            count = max(40, 4000000 // size)
            for i in range(count):
                p.publish(t, b"%08d" % i + b"x" * size, q, wait=False)
            p.nothing() if q == 0 else None
            for i in range(count):
                m = s.expect(PUBLISH)
                assert int(m.payload[:8]) == i, "message %d instead of %d of %d bytes" % (int(m.payload[:8]), i, size)


def test_memory_is_bounded_by_its_budget(w):
    """Clients that take QoS 0 and never read: first publishers are slowed, then who has most waiting loses it, then nobody
    new comes in; each step is counted, the others go on, and the process stays near its budget."""
    budget = 32 << 20
    n, metric = metrics_node(w, "memory_max = %d;\ntenants : { default : { SessionInboxSize = 65535; }; };\n" % budget)
    t, body = topic("mem"), b"x" * 20000
    before = rss(n)
    stalled = [narrow(n.port) for _ in range(12)]
    for c in stalled:
        c.connect()
        c.subscribe((t + "/stalled", 0))
    alive, p = connected(n.port), connected(n.port)
    alive.subscribe((t + "/alive", 1))
    worst = 0.0
    for i in range(300):
        for _ in range(16):
            p.publish(t + "/stalled", body, 0)
        if i % 20 == 0:
            began = time.monotonic()
            try:
                connected_now = connected(n.port)
                connected_now.publish(t + "/alive", "%d" % i, 1)
                assert alive.message()[1] == "%d" % i
                worst = max(worst, time.monotonic() - began)
                connected_now.disconnect()
            except (Closed, OSError):
                pass  # refused: counted below
        p.nothing()
        assert "/san-" in w.args.broker or rss(n) - before < 2 * budget  # a sanitizer keeps what was freed
    assert worst < 2, "others waited %.1f s" % worst
    assert metric("mqtt_memory_slowed_count_total") > 0
    assert metric("mqtt_memory_shed_count_total") > 0
    assert metric("mqtt_drop_resource_count_total") > 0
    assert 0 < metric("mqtt_session_mem_gauge") <= budget
    for c in stalled:
        c.drop()
    end = time.monotonic() + 8
    while metric("mqtt_session_mem_gauge") > 0 and time.monotonic() < end:
        pass
    assert metric("mqtt_session_mem_gauge") == 0
    p.publish(t + "/alive", "after", 1)
    assert alive.message()[1] == "after"


def test_when_memory_is_full_newcomers_are_refused(w):
    """QoS 1 that waits for clients which do not acknowledge is not shed: the door closes instead, until it is taken."""
    n, metric = metrics_node(w, "memory_max = 4000000;\ntenants : { default : { SessionInboxSize = 65535; }; };\n")
    t, s, p = topic("full"), Client(n.port, 5), connected(n.port)
    s.acks = False
    s.connect(p=[(0x21, 1)])
    s.subscribe((t, 1))
    for i in range(60):
        p.publish(t, b"%02d" % i + b"y" * 80000, 1, wait=False)
    end, is_refused = time.monotonic() + 8, False
    while not is_refused and time.monotonic() < end:
        try:
            connected(n.port, cid="late").disconnect()
        except (Closed, OSError):
            is_refused = True
    assert is_refused and metric("mqtt_memory_refused_count_total") > 0 and metric("mqtt_memory_slowed_count_total") > 0
    s.acks = True
    count = 0
    m = s.recv(8)
    while m is not None:  # one after the other: Receive Maximum is 1
        count += m.kind == PUBLISH
        s.send(4, 0, m.pid.to_bytes(2, "big"))
        m = s.recv(0.5)
    assert count + metric("mqtt_drop_resource_count_total") == 60
    connected(n.port, cid="late").disconnect()


def test_half_a_connect_is_closed_and_holds_nobody_up(w):
    """Slow loris: many connections that never finish, or finish byte by byte, end when connTimeoutSec is over."""
    n = w.node(config="mqttServiceConfig : { server : { connTimeoutSec = 2; }; };\n").start()
    packet = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab"
    slow = [socket.create_connection(("127.0.0.1", n.port), timeout=8) for _ in range(300)]
    began = time.monotonic()
    for i, s in enumerate(slow):
        s.sendall(packet[:i % len(packet)])
    drip, at = socket.create_connection(("127.0.0.1", n.port), timeout=8), 0
    is_open = True
    while is_open:
        connected(n.port).disconnect()
        assert time.monotonic() - began < 10
        try:
            if at < len(packet) - 1:
                drip.sendall(packet[at:at + 1])
                at += 1
            drip.settimeout(0.3)
            is_open = drip.recv(1) != b""
        except socket.timeout:
            pass
        except OSError:
            is_open = False
    assert time.monotonic() - began > 1
    for s in slow:
        s.settimeout(8)
        try:
            assert s.recv(16) == b""
        except ConnectionResetError:
            pass
        s.close()
