"""Nodes that prove themselves to each other, and those that do not fit.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from basic_cases import topic
from mqtt import CONNACK, Client
from net_cases import said_at
from cluster_cases import acked, connected, reaches, subscribed
from ports import free_port
from process_cases import BARE, TCP, refused


def log_of(node):
    with open(os.path.join(node.dir, "log")) as f:
        return f.read()


def until_logged(node, text, within=60):
    end = time.monotonic() + within
    while text not in log_of(node):
        assert time.monotonic() < end, "no %r in the log of %d:\n%s" % (text, node.port, log_of(node)[-2000:])
        time.sleep(0.02)


def gossip_port(node):
    with open(node.conf) as f:
        return int(f.read().split("port = ")[1].split(";")[0])


def openssl(*argv, **kw):
    subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=20, **kw)


def make_ca(path):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=cluster",
            "-keyout", path + ".key", "-out", path + ".pem")


def certify(node, uuid, ca):
    """node.pem and node.key in its directory: its uuid as DNS name and as URI."""
    at = os.path.join(node.dir, "node")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=node", "-keyout", at + ".key",
            "-out", at + ".csr")
    ext = node.file("ext", "subjectAltName=DNS:%s,URI:node:%s\n" % (uuid, uuid))
    openssl("x509", "-req", "-in", at + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", ext, "-out", at + ".pem")



def secure_node(w, env, seed, ca, keys, host="127.0.0.1", port=None):
    n = w.node(data=True, config='clusterConfig : { enable = true; env = "%s"; host = "%s"; port = %d; '
               'seedEndpoints = [%s]; keyFile = "@DIR@/keys"; };\n'
               'rpcConfig : { host = "127.0.0.1"; port = %d; enableSSL = true; sslConfig : { certFile = "@DIR@/node.pem"; '
               'keyFile = "@DIR@/node.key"; trustCertsFile = "%s.pem"; }; };\n'
               % (env, host, port or free_port(), ", ".join('"127.0.0.1:%d"' % s for s in seed), free_port(), ca))
    n.file("keys", keys)
    # the identity comes with the data directory; the certificate is made for it
    with open(n.conf) as f:
        text = f.read()
    bare = n.file("bare.conf", text[:text.index("clusterConfig")])
    r = subprocess.run([w.args.broker, "-c", bare, "--node-id"], capture_output=True, text=True, timeout=10, check=True)
    n.uuid = r.stdout.strip()
    certify(n, n.uuid, ca)
    return n


def secure_cluster(w, count, env):
    if shutil.which("openssl") is None:
        raise w.skip("openssl is not installed")
    seed, nodes = free_port(), []
    place = w.node(data=False)  # keeps the files of the CA
    ca = os.path.join(place.dir, "ca")
    make_ca(ca)
    key = os.urandom(32).hex() + "\n"
    for i in range(count):
        nodes.append(secure_node(w, env, [seed] if i else [], ca, key, port=None if i else seed).start())
    return nodes, ca, key


def test_three_nodes_under_tls_with_keys(w):
    nodes, ca, key = secure_cluster(w, 3, "tls3")
    t = topic("tls")
    subs = [subscribed(n, t + "/#", 1) for n in nodes]
    for k, n in enumerate(nodes):
        reaches(connected(n), t + "/%d" % k, *subs)
    for n in nodes:
        assert "cluster.link.failed" not in log_of(n), log_of(n)
    # new certificates and a new key, one node after the other, while they run
    fresh = os.urandom(32).hex() + "\n"
    for n in nodes:
        certify(n, n.uuid, ca)
        n.file("keys", key + fresh)
        n.process.send_signal(signal.SIGHUP)
    for n in nodes:
        until_logged(n, "reload")
    for step in (fresh + key, fresh):
        for n in nodes:
            n.file("keys", step)
            n.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)  # each reads it by itself
    end = time.monotonic() + 4
    p, sent = connected(nodes[0]), 0
    while time.monotonic() < end:
        acked(p, t + "/x", str(sent))
        for s in subs:
            assert s.message() == (t + "/x", str(sent))
        sent += 1
    for n in nodes:
        text = log_of(n)
        for bad in ("cluster.foreign", "cluster.member.dead"):
            assert bad not in text, text
    # one whose certificate is of another CA is a member of gossip, and no link to it opens
    other = os.path.join(nodes[0].dir, "other")
    make_ca(other)
    seed = gossip_port(nodes[0])
    bad = secure_node(w, "tls3", [seed], other, fresh)
    bad.launch()
    until_logged(bad, "cluster.link.failed", 20)
    assert "unknown ca" in log_of(bad) or "certificate" in log_of(bad), log_of(bad)
    bad.kill()  # alone it would wait for the ranges that it cannot reach


def test_a_node_of_another_cluster_is_told_within_a_second(w):
    first = w.cluster(1)[0]
    seed = gossip_port(first)
    other = w.node(data=True, config='clusterConfig : { enable = true; env = "another"; host = "127.0.0.1"; port = %d; '
                   'seedEndpoints = ["127.0.0.1:%d", "127.0.0.1:%d"]; };\nrpcConfig : { host = "127.0.0.1"; port = %d; };\n'
                   % (free_port(), seed, free_port(), free_port()))
    other.launch()
    until_logged(other, "joined 0 of 2 seeds: ")
    until_logged(first, "belongs to another cluster")
    said = log_of(other)
    assert 'ours "another"' in said and "cluster.joined" not in said, said
    # with the first exchange, not with a report, the first of which comes 3 s after the start
    assert 0 <= said.find("refused us: its clusterConfig.env is ") < said.find("joined 0 of 2 seeds: "), said
    other.kill()


def metric(node, name):
    text = said_at(node.dir, "/metrics")[1]
    return float(re.search(r"^%s (\S+)" % re.escape(name), text, re.M).group(1))


class Translator:
    """Stands between a node and who joins through it, and makes each say to the other that it speaks the next version."""

    def __init__(self, to):
        self.to = to
        self.ear = socket.create_server(("127.0.0.1", 0))
        self.port = self.ear.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            guest = self.ear.accept()[0]
            try:
                host = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            for a, b in ((guest, host), (host, guest)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    @staticmethod
    def carry(a, b):
        """Frames: a length of 32 bits, and a packet whose third byte is the version."""
        try:
            with a.makefile("rb") as f:
                while len(head := f.read(4)) == 4:
                    p = f.read(int.from_bytes(head, "big"))
                    b.sendall(head + p[:2] + bytes([p[2] + 1]) + p[3:])
            b.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_bad_packets_change_nothing_and_are_counted(w):
    """Packets of a node that is really there, again and changed; noise; another key and another env at the same port."""
    def node(seed, env, key, port=None):
        n = w.node(data=True, config='clusterConfig : { enable = true; env = "%s"; host = "127.0.0.1"; port = %d; '
                   'seedEndpoints = [%s]; keyFile = "@DIR@/keys"; };\nrpcConfig : { host = "127.0.0.1"; port = %d; };\n'
                   % (env, port or free_port(), '"127.0.0.1:%d"' % seed if seed else "", free_port()))
        n.edit('enable = false; unixSocket = ""', 'httpPort = %d; unixSocket = "%s/api.sock"' % (free_port(), n.dir))
        n.file("keys", key)
        n.launch()
        return n

    def state_of(n):
        said = json.loads(said_at(n.dir, "/cluster")[1])  # its own incarnation grows when it says something new of itself
        return [(m["id"], m["epoch"], m["id"] != said["local"] and m["incarnation"], m["state"]) for m in said["nodes"]]

    def until(done, within=60):
        end = time.monotonic() + within
        while not done():
            assert time.monotonic() < end, log_of(a)
            time.sleep(0.05)
    key = os.urandom(32).hex() + "\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        a = node(None, "one", key)
        until_logged(a, "node.ready", 60)
        port = gossip_port(a)
        b = node(port, "one", key)
        until_logged(a, "is alive", 60)
        # b dies, and somebody else hears what a sends to it: packets of a real sender
        b.kill()
        ear.bind(("127.0.0.1", gossip_port(b)))
        ear.settimeout(60)
        heard = [ear.recv(2048) for _ in range(3)]
        ear.close()
        until(lambda: [s[3] for s in state_of(a)].count("dead") == 1)
        was, refutes = state_of(a), metric(a, "bilrost_gossip_refutes_total")
        mouth.setblocking(False)

        def shoot(packet):
            mouth.sendto(packet, ("127.0.0.1", port))
        # a's own packets back to it, changed in each byte, cut at each length; then noise
        dropped = {r: metric(a, 'bilrost_gossip_dropped_total{reason="%s"}' % r)
                   for r in ("junk", "foreign", "unkeyed", "forged", "replayed", "flooded")}
        for p in heard[:1]:
            for k in range(min(len(p), 200)):
                shoot(p[:k])
                shoot(p[:k] + bytes([p[k] ^ 1]) + p[k + 1:])

        def counted():  # the kernel drops what comes too fast for us: more until enough have arrived
            for _ in range(200):
                shoot(os.urandom(random.randrange(1, 1400)))
            return sum(metric(a, 'bilrost_gossip_dropped_total{reason="%s"}' % r) - v for r, v in dropped.items()) >= 5000
        until(counted)
        for p in heard:
            shoot(p)
        assert state_of(a) == was, (state_of(a), was)
        # others that do not fit: each is told, mine and theirs, and is no member
        c = node(port, "one", os.urandom(32).hex() + "\n")
        until_logged(c, "refused us: it has the keys number ", 60)
        until_logged(a, "uses a key that we do not have", 60)
        d = node(port, "two", key)
        until_logged(d, 'refused us: its clusterConfig.env is "one", ours "two"', 60)
        junk, between = metric(a, 'bilrost_gossip_dropped_total{reason="junk"}'), Translator(port)
        e = node(between.port, "one", key)
        until_logged(e, "refused us: it speaks version 2 of our packets, we version 1", 60)
        until_logged(a, "speaks another version of our packets", 60)
        assert metric(a, 'bilrost_gossip_dropped_total{reason="junk"}') > junk
        for n in (c, d, e):
            until_logged(n, "joined 0 of 1 seeds: ", 60)
            assert "cluster.joined" not in log_of(n), log_of(n)
            n.kill()
        assert state_of(a) == was, (state_of(a), was)
        assert metric(a, 'bilrost_gossip_dropped_total{reason="foreign"}') > 0
        assert metric(a, 'bilrost_gossip_dropped_total{reason="unkeyed"}') > 0
        assert metric(a, "bilrost_cluster_live_members") == 1 and metric(a, "bilrost_gossip_refutes_total") == refutes
        try:
            raise AssertionError("it answered: %r" % mouth.recv(2048))
        except BlockingIOError:
            pass
        a.kill()


def test_an_open_address_needs_keys_and_tls(w):
    conf = BARE + TCP % ("127.0.0.1:%d" % free_port()) + 'clusterConfig : { enable = true; env = "x"; host = "192.0.2.1"; %s };\n'
    refused(w, 78, "needs cluster keys and TLS between the nodes", conf % "")
    # written down: it goes on, to an address that is not ours
    code_says = "192.0.2.1"
    try:
        refused(w, 69, code_says, conf % "insecure = true;")
    except AssertionError as e:
        assert "needs cluster keys" not in str(e) and code_says in str(e), e


def test_a_data_directory_runs_once(w):
    first = w.cluster(1)[0]
    seed = gossip_port(first)
    # the same directory
    with open(first.conf) as f:
        text = f.read()
    again_conf = first.file("again.conf", text.replace(":%d" % first.port, ":%d" % free_port()))
    r = subprocess.run([w.args.broker, "-c", again_conf], capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode != 0 and "another process" in r.stdout + r.stderr, (r.returncode, r.stdout + r.stderr)
    # a copy of it: the older one stops, and says why
    copy = w.node(data=True, config='clusterConfig : { enable = true; env = "e2e%d"; host = "127.0.0.1"; port = %d; '
                  'seedEndpoints = "127.0.0.1:%d"; };\nrpcConfig : { host = "127.0.0.1"; port = %d; };\n'
                  % (seed, free_port(), seed, free_port()))
    shutil.copytree(os.path.join(first.dir, "data"), os.path.join(copy.dir, "data"))
    copy.launch()
    end = time.monotonic() + 60
    while first.process.poll() is None and copy.process.poll() is None:
        assert time.monotonic() < end, log_of(first) + log_of(copy)
        time.sleep(0.05)
    gone, stays = (first, copy) if first.process.poll() is not None else (copy, first)
    assert gone.process.returncode != 0
    assert log_of(gone).count("cluster.identity.duplicate") == 1 and "was the data directory copied?" in log_of(gone), log_of(gone)
    c = Client(stays.port, 60)  # it is there for clients, be it to refuse them while it is alone
    c.connect("who", ok=False)
    c.expect(CONNACK)
    assert stays.process.poll() is None, log_of(stays)
