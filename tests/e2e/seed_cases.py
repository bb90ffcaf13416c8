"""Where a node looks for the others: names, records, addresses that nobody holds.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

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
                                        "ip link set lo up && echo ready && exec cat" % resolv], stdin=subprocess.PIPE,
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
