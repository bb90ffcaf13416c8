"""What acknowledgements wait for: each pair of what a node gives and what a tenant asks.  SPDX-License-Identifier: Apache-2.0"""
import re
import signal
import subprocess

from api_cases import READ, ask, with_api
from basic_cases import topic
from mqtt import PUBACK, PUBREC, Client
from ports import free_port
from process_cases import log_has, refused, BARE, TCP
from status_cases import shows

LEVEL = ["quorum-fsync", "quorum", "memory"]  # as PUBACK names it; the number is that of Durability and of the gauge
NODES = (("durability = \"quorum_fsync\";\n", True, 0), ("durability = \"quorum\";\n", True, 1),
         ("durability = \"memory\";\n", True, 1), ("", True, 0), ("", False, 1))


def named(port):
    """What PUBACK and PUBREC say, of messages that a session keeps."""
    t, keeper, p = topic("dl"), Client(port, 5), Client(port, 5)
    keeper.connect(t.replace("/", "-"), clean=False, p=[(0x11, 600)])
    keeper.subscribe((t, 2))
    p.connect()
    found = set()
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        p.publish(t, "x", qos, wait=False)
        ack = p.expect(kind)
        assert ack.reason == 0
        found.add(ack.prop(0x26))
        assert keeper.message() == (t, "x")
    keeper.disconnect()
    assert len(found) == 1, found
    return found.pop()[1]


def wish(asked):
    return "a%s : { DurabilityInPubAck = true; %s };" % ("" if asked is None else asked, "" if asked is None else "Durability = %d;" % asked)


def test_no_tenant_gets_less_than_it_asks_for(w):
    """What a tenant gets is in PUBACK and PUBREC, in the metrics and in the journal; it is what it asked for or more, or the
    configuration is refused with a sentence."""
    for config, has_disk, given in NODES:
        for asked in range(given):
            refused(w, 78, 'Durability is %d (the disks of a quorum), but this node has ' % asked,
                    BARE.replace('data_dir = ""', 'data_dir = "%s"' % ("@DIR@/data" if has_disk else "")) + TCP % "127.0.0.1:0" + config
                    + "tenants : { %s };\n" % wish(asked))
        tenants = [None, *range(given, 3)]
        n = w.node(data=has_disk, config=config + "tenants : { %s };\n" % " ".join(map(wish, tenants)))
        api, tokens = free_port(), n.file("tokens", "read %s\n" % READ)
        n.edit('apiServerConfig : { enable = false; unixSocket = ""; };',
               'apiServerConfig: { httpPort = %d; unixSocket = ""; tokenFile = "%s"; };' % (api, tokens))
        ports = {a: n.listen_also("tcp", 'tenant = "a%s";' % ("" if a is None else a)) for a in tenants}
        n.start()
        for asked, port in ports.items():
            got = given if asked is None else 2 if asked == 2 else min(asked, given)
            assert got <= (asked if asked is not None else given), "more is fine, less is not"
            assert named(port) == LEVEL[got], (config, asked)
            tenant = "a%s" % ("" if asked is None else asked)
            _, metrics = ask(api, "GET", "/metrics", READ)
            assert 'mqtt_durability_gauge{tenantId="%s"} %d\n' % (tenant, got) in metrics, (config, asked)
            log_has(n, "acknowledgements of tenant %s wait for: %s" % (
                tenant, ["the disks of a quorum", "the memory of a quorum", "the memory of one node"][got]))
        assert n.stop() == 0


def test_a_reload_that_gives_a_tenant_less_than_it_asks_for_is_refused(w):
    """What counts is what the node runs with, whatever the file has for its next start."""
    n = w.node(data=True, config='durability = "quorum";\ntenants : { a : { DurabilityInPubAck = true; }; };\n')
    port = n.listen_also("tcp", 'tenant = "a";')
    n.start()
    assert named(port) == "quorum"

    def reload(old, new, says, bad):
        n.edit(old, new)
        r = subprocess.run([w.args.broker, "-c", n.conf, "--test-config"], capture_output=True, text=True, timeout=60, check=False)
        assert r.returncode == bad, r.stderr
        n.process.send_signal(signal.SIGHUP)
        log_has(n, says)
        assert named(port) == "quorum"
    reload("DurabilityInPubAck = true;", "DurabilityInPubAck = true; Durability = 0;",
           'Durability is 0 (the disks of a quorum), but this node has durability = "quorum"', 78)
    reload('durability = "quorum"', 'durability = "quorum_fsync"',
           'Durability is 0 (the disks of a quorum), but this node runs with durability = "quorum" until its next restart', 0)
    reload(" Durability = 0;", "", "durability changes with the next restart", 0)
    assert n.terminate() == 0
    n.edit("DurabilityInPubAck = true;", "DurabilityInPubAck = true; Durability = 0;")
    n.start()
    assert named(port) == "quorum-fsync"


def test_status_names_nodes_whose_durability_differs(w):
    """A cluster on disk with one node that has only memory, until that is restarted with what the others give."""
    def lesser(n):
        with_api(n)
        if len(w.nodes) == 3:
            n.edit('data_dir = ', 'durability = "quorum"; data_dir = ')
    nodes = w.cluster(3, prepare=lesser)
    for n in nodes:
        out = shows(w, n, r"^  critical: node \S+ gives durability \w+, node \S+ gives \w+: an ack.*\n    -> give all nodes the same", code=1)
        assert sorted(re.findall(r"gives (?:durability )?(quorum\w*)", out)) == ["quorum", "quorum_fsync"], out
    assert nodes[2].terminate(60) == 0
    nodes[2].edit('durability = "quorum"; ', '')
    nodes[2].start()
    for n in nodes:
        shows(w, n, "3 of 3 nodes are ready", "^no alarms$", code=0)
