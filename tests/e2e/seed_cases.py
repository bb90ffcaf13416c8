"""Where a node looks for the others: names, records, addresses that nobody holds.

SPDX-License-Identifier: Apache-2.0"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

from cluster_cases import again, three_voters
from net_cases import said_at
from secure_cases import log_of, until_logged

HERE = os.path.dirname(os.path.abspath(__file__))


class Island:
    """A network and name server of its own, whose only address is loopback; root."""

    def __init__(self, w):
        if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
            raise w.skip("needs root, unshare and nsenter")
        self.w, self.nodes = w, []
        self.place = w.node()  # keeps the files
        self.zone = self.place.file("zone", "")
        resolv = self.place.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        self.holder = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", "mount --bind %s /etc/resolv.conf && "
                                        "ip link set lo up && { for i in 1 2 3 4; do ip -6 address add fd00::$i/128 dev lo nodad; "
                                        "done; } && echo ready && exec cat" % resolv], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise w.skip("namespaces are not allowed here")
        self.inside = ["nsenter", "-n", "-m", "-t", str(self.holder.pid)]
        self.server = subprocess.Popen([*self.inside, sys.executable, os.path.join(HERE, "dns.py"), "127.0.0.1", "53", self.zone],
                                       stdout=subprocess.PIPE, text=True)
        assert self.server.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for n in self.nodes:
            n.kill()
        for p in (self.server, self.holder):
            p.kill()
            p.wait()

    def names(self, *lines):
        """From now on these exist."""
        with open(self.zone + ".new", "w") as f:
            f.write("\n".join(lines) + "\n")
        os.rename(self.zone + ".new", self.zone)

    def node(self, host, port, seeds):
        n = self.w.node(data=True, listeners='{ kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }' %
                        (1883 + len(self.nodes)), config='clusterConfig : { enable = true; env = "dns"; host = "%s"; port = %d; '
                        '%s };\nrpcConfig : { host = "%s"; port = 8898; };\n' % (host, port, seeds, host))
        n.edit('enable = false; unixSocket = ""', 'host = "%s"; unixSocket = "%s/api.sock"' % (host, n.dir))
        n.process = subprocess.Popen([*self.inside, self.w.args.broker, "-c", n.conf], stdout=n.sink, stderr=n.sink,
                                     start_new_session=True)
        self.nodes.append(n)
        return n

    def until_members(self, count, within=60):
        """Each counts so many as alive."""
        end = time.monotonic() + within
        while True:
            try:
                if all(sum(m["state"] == "alive" for m in json.loads(said_at(n.dir, "/cluster")[1])["nodes"]) == count
                       for n in self.nodes):
                    return
            except (OSError, ValueError):
                pass
            assert time.monotonic() < end, "\n\n".join("\n".join(x for x in log_of(n).splitlines() if "cluster" in x)[-1500:] for n in self.nodes)
            time.sleep(0.05)


def test_a_cluster_finds_itself_by_names(w):
    """By SRV records of different ports, by the addresses of one name, by seeds that are names; all of it wrong at first."""
    with Island(w) as i:
        i.names("elsewhere.test A 127.0.0.9")
        srv = 'clusterDomainName = "_gossip._udp.cluster.test";'
        a = i.node("127.0.0.1", 7001, srv)
        b = i.node("127.0.0.2", 7002, srv)
        for n in (a, b):
            until_logged(n, "joined 0 of 1 seeds: _gossip._udp.cluster.test no address", 60)
            assert "cluster.joined" not in log_of(n), log_of(n)
        # only itself, and an address that nobody holds: no success either
        i.names("_gossip._udp.cluster.test SRV 7001 one.test", "_gossip._udp.cluster.test SRV 7001 gone.test",
                "one.test A 127.0.0.1", "gone.test A 127.0.0.9")
        c = i.node("127.0.0.3", 7001, 'clusterDomainName = "nodes.test";')
        until_logged(c, "joined 0 of 1 seeds: nodes.test no address", 60)
        assert "cluster.joined" not in log_of(c), log_of(c)
        i.names("_gossip._udp.cluster.test SRV 7001 one.test", "_gossip._udp.cluster.test SRV 7002 two.test",
                "one.test A 127.0.0.1", "two.test A 127.0.0.2", "nodes.test A 127.0.0.9", "nodes.test A 127.0.0.1",
                "nodes.test A 127.0.0.3")
        i.until_members(3)
        for n in (a, b, c):
            until_logged(n, "cluster.joined", 60)
        i.node("127.0.0.4", 7004, 'seedEndpoints = "two.test:7002";')
        i.until_members(4)


def test_seeds_that_do_not_resolve_are_no_success(w):
    with Island(w) as i:
        i.names("here.test A 127.0.0.9")
        n = i.node("127.0.0.1", 7001, 'seedEndpoints = ["nowhere.test:7001", "here.test:7001"];')
        until_logged(n, "joined 0 of 2 seeds: ", 60)
        said = re.search("joined 0 of 2 seeds: (.*)", log_of(n)).group(1)
        assert re.match("nowhere.test:7001 no address .*; here.test:7001 [^;]+$", said), said
        assert "cluster.joined" not in log_of(n), log_of(n)


def ready(nodes):
    for n in nodes:
        assert said_at(n.dir, "/readyz")[0] == 200, said_at(n.dir, "/readyz")


def heard(island, sub):
    """Publishes on the first node; whether the subscriber has ended with a message."""
    subprocess.run([*island.inside, "mosquitto_pub", "-p", "1883", "-q", "1", "-t", "v6", "-m", "hello"], check=False, timeout=60)
    time.sleep(0.2)
    assert sub.poll() is not None, "nothing has come"
    assert (sub.returncode, sub.stdout.read()) == (0, "hello\n")


def test_a_cluster_over_ipv6(w):
    """Nodes that have nothing but one name find each other by its AAAA records, over IPv6 alone; the least of them begins,
    once more than half are there, and messages go from one to another.  A fourth comes by a seed in brackets."""
    if not shutil.which("mosquitto_sub"):
        raise w.skip("mosquitto clients are not installed")
    with Island(w) as i:
        i.names(*["nodes.test AAAA fd00::%d" % k for k in (2, 3, 1)])
        only_name = 'insecure = true; clusterDomainName = "nodes.test";'
        nodes = [i.node("fd00::1", 7001, only_name)]
        until_logged(nodes[0], "joined 0 of 1 seeds: nodes.test ", 60)
        assert "founded by this node" not in log_of(nodes[0]), log_of(nodes[0])
        nodes += [i.node("fd00::%d" % k, 7001, only_name) for k in (2, 3)]
        i.until_members(3)
        three_voters(nodes)
        again(lambda: ready(nodes), 120)
        founders = [n for n in nodes if "founded by this node" in log_of(n)]
        assert founders == nodes[:1], [log_of(n)[-2000:] for n in founders]
        sub = subprocess.Popen([*i.inside, "mosquitto_sub", "-p", "1885", "-i", "there", "-c", "-q", "1", "-t", "v6", "-C", "1"],
                               stdout=subprocess.PIPE, text=True)
        try:
            again(lambda: heard(i, sub), 120)
        finally:
            sub.kill()
        fourth = i.node("fd00::4", 7004, 'insecure = true; seedEndpoints = "[fd00::1]:7001";')
        i.until_members(4)
        shown = subprocess.run([os.path.join(os.path.dirname(w.args.broker), "bilrostctl"), "-H", "unix:" + fourth.dir + "/api.sock", "cluster"],
                               capture_output=True, text=True, check=True).stdout
        for k in (1, 2, 3):
            assert "[fd00::%d]:7001" % k in shown, shown
        assert "[fd00::4]:7004" in shown, shown
