"""bilrostctl status: each thing that can be wrong is provoked and must be on the screen, with what to do.
SPDX-License-Identifier: Apache-2.0"""
import json
import os
import re
import signal
import subprocess

from api_cases import cluster_with_api, members_full, with_api
from cluster_cases import again, connected
from ctl_cases import ctl
from mqtt import PUBLISH, Client
from overload_cases import narrow
from ports import free_port
from secure_cases import gossip_port


def shows(w, n, *patterns, code=None):
    """Asks until the screen has all of them."""
    def once():
        got, out, err = ctl(w, n, "status")
        for p in patterns:
            assert re.search(p, out, re.M), (p, out, err)
        assert code is None or got == code, (got, out)
        return out
    return again(once, within=90)


def test_status_shows_a_node_that_hangs_and_comes_back(w):
    nodes, ports = cluster_with_api(w, 3)
    again(lambda: members_full(ports[0], 3), within=60)

    def well():
        out = shows(w, nodes[0], "^cluster e2e[0-9]+: 3 of 3 nodes are ready$", "^no alarms$",
                    "^ranges: 3, 3 have a leader; 0 under-replicated, 0 without quorum; largest lag [0-9]+ entries$", code=0)
        rows = re.findall(r"^([0-9a-f]{8}) .* ready +(\d+) +(\d)/(\d) +[\d.]+ MiB +[\d.]+ [MGT]iB ", out, re.M)
        assert len(rows) == 3 and sum(int(r[2]) for r in rows) == 3 and {r[3] for r in rows} == {"3"}, out
    again(well, within=90)
    c = Client(nodes[0].port, 5)
    c.connect("c")
    nodes[2].process.send_signal(signal.SIGSTOP)

    def lags():
        for i in range(20):
            assert c.publish("lag/%d" % i, "x", 1, retain=True) in (0, 0x10)
        out = ctl(w, nodes[0], "status")[1]
        assert re.search("largest lag [1-9][0-9]* entries", out), out
    again(lags, within=90)
    out = shows(w, nodes[0], "2 of 3 nodes are ready", "; [1-9] under-replicated, 0 without quorum", code=1)
    hung = re.search(r"^([0-9a-f]{8}) .* dead +-", out, re.M)
    assert hung and len(re.findall("^%s " % hung.group(1), out, re.M)) == 1, out
    assert re.search("warning: range retain.store .*2 of 3 voters are alive\n    -> start the node again", out), out
    assert re.search("critical: node %s.* is dead: .*\n    -> start it again, or, .*bilrostctl cluster forget %s" % (
        hung.group(1), hung.group(1)), out), out
    assert out.index("critical: ") < out.index("warning: "), out
    nodes[2].process.send_signal(signal.SIGCONT)
    shows(w, nodes[0], "3 of 3 nodes are ready", " 0 under-replicated, 0 without quorum; largest lag 0 entries", "^no alarms$", code=0)


def test_status_shows_memory_and_disk_that_run_out(w):
    n = w.node(data=True, config="memory_max = 8000000;\ntenants : { default : { SessionInboxSize = 65535; }; };\n")
    with_api(n)
    data = os.path.join(n.dir, "data")
    os.mkdir(data)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", data], capture_output=True, check=False).returncode:
        raise w.skip("may not mount")
    try:
        n.start()
        shows(w, n, "^one node alone, ready$", "^ranges: 3, 3 have a leader; ", "^no alarms$", code=0)
        with open(os.path.join(data, "filler"), "wb") as f:
            f.write(b"x" * (60 << 20))
        shows(w, n, r"^  warning: node \S+: [0-9]+ MiB of its disk are left\n    -> free space under data_dir, or enlarge the disk$", code=0)
        os.unlink(os.path.join(data, "filler"))
        stalled, p = [narrow(n.port) for _ in range(8)], Client(n.port, 4)
        p.connect("p")
        for c in stalled:
            c.connect()
            c.subscribe(("slow", 0))

        def fill():
            for _ in range(10):
                p.publish("slow", b"x" * 20000, 0)
            return shows_once(w, n, r"^  warning: node \S+: [0-9] of the 7 MiB of memory_max wait for slow clients\n    -> .*slow subscribers")
        again(fill, within=90)
        for c in stalled:
            c.s.close()
        shows(w, n, "^no alarms$", code=0)
    finally:
        if n.process:
            n.kill()
        subprocess.run(["umount", data], capture_output=True, check=False)


def looked_at(w, n):
    """All ranges are there, and the balancers of both foundings have seen the other's node: dist and retain want it to learn."""
    ranges = json.loads(ctl(w, n, "--json", "range")[1])
    assert len({(r["store"], r["id"]) for r in ranges}) == 6, ranges
    assert all(r["ver"] & 0xffffffff for r in ranges if r["store"] != "inbox.store"), ranges


def test_status_shows_two_clusters_that_have_met(w):
    """Each was founded by itself: nobody may throw away the data of one, so a person is told, and nothing is deleted."""
    first = w.cluster(1, prepare=with_api)[0]
    shows(w, first, "^no alarms$", code=0)
    seed = gossip_port(first)
    env = re.search(r'env = "(\w+)"', open(first.conf).read()).group(1)
    lone = w.node(data=True, config='clusterConfig : { enable = true; env = "%s"; host = "127.0.0.1"; port = %d; };\n'
                  'rpcConfig : { host = "127.0.0.1"; port = %d; };\n' % (env, free_port(), free_port()))
    lone.start()
    for n, said in ((first, b"first"), (lone, b"lone")):
        assert connected(n).publish("founded/by", said, 1, retain=True) in (0, 0x10)
    assert lone.terminate(60) == 0
    lone.edit('env = ', 'seedEndpoints = "127.0.0.1:%d"; env = ' % seed)
    lone.start()
    out = shows(w, first, *(r"^  critical: store %s was founded twice \(ranges (\w{16})-... and (?!\1)\w{16}-...\): two clusters"
                            r".*\n    -> bilrostctl range shows" % re.escape(store)
                            for store in ("dist.worker", "inbox.store", "retain.store")), code=1)
    assert out.count("was founded twice") == 3, out
    again(lambda: looked_at(w, first), within=90)
    assert lone.terminate(60) == 0 and first.terminate(60) == 0
    lone.edit('seedEndpoints = "127.0.0.1:%d"; ' % seed, '')
    for n, said in ((first, b"first"), (lone, b"lone")):  # parted again, each has its own
        n.start()
        c = connected(n)
        c.subscribe(("founded/by", 1))
        got = c.expect(PUBLISH)
        assert got.payload == said, got
        assert n.terminate(60) == 0


def shows_once(w, n, pattern):
    out = ctl(w, n, "status")[1]
    assert re.search(pattern, out, re.M), out
