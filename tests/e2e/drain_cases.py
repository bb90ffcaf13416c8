"""Nodes that go and come back: nothing is refused, nothing lost, nobody left alone.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import signal
import socket
import subprocess
import threading
import time

from api_cases import ADMIN, ask
from cluster_cases import again, connected, logged, three_voters
from mqtt import CONNACK, DISCONNECT, PUBLISH, Client, Closed
from ports import free_port

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/bilrost-bench")
PATIENCE = 60.0


def good_bye(client):
    """The DISCONNECT with which the node closes: its packet, or None."""
    last, end = None, time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            p = client.recv(1)
            if p is not None and p.kind == DISCONNECT:
                last = p
    except Closed:
        return last
    assert False, "not closed"


def slow_count(nodes):
    return sum(logged(n, "this node is slow") for n in nodes)


def test_a_node_that_stops_sends_its_clients_to_others(w):
    nodes = operated(w, 3)
    three_voters(nodes)
    until(lambda: not any(m["degraded"] for m in json.loads(asked(nodes[0], "GET", "/cluster")[1])["nodes"]))
    slow = slow_count(nodes)
    new = [connected(nodes[0], "away-%d" % i) for i in range(6)]
    old = Client(nodes[0].port, 4)
    old.connect("old")
    assert nodes[0].terminate(PATIENCE) == 0
    others, said = {"127.0.0.1:%d" % n.port for n in nodes[1:]}, set()
    for c in new:
        p = good_bye(c)
        assert p is not None and p.reason == 0x9C, p and p.reason
        said.add(p.prop(0x1C))
    # each in its turn, but for one that has become slow meanwhile
    assert said == others or (said and said < others and slow_count(nodes) > slow), said
    assert good_bye(old) is None
    # nobody is left for the last ones to be sent to
    alone = connected(nodes[1], "last")
    assert nodes[2].terminate(PATIENCE) == 0
    nodes[1].process.terminate()
    p = good_bye(alone)
    assert p is not None and p.reason == 0x8B, p and p.reason


def test_a_rolling_restart_loses_and_doubles_nothing(w):
    if not os.path.exists(BENCH):
        raise w.skip("bilrost-bench is not built")
    nodes = w.cluster(3)
    three_voters(nodes)
    hosts = [x for n in nodes for x in ("--host", "127.0.0.1:%d" % n.port)]
    loads = [w.spawn(BENCH, "failover", "--json", "--qos", str(q), "--mqtt", "5", "--publishers", "10", "--rate", "200",
                     "--prefix", "roll%d" % q, "--seconds", "30", "--drain", "60", *hosts) for q in (1, 2)]
    for n in nodes:
        time.sleep(2)  # of load
        code = n.terminate(PATIENCE)
        assert code == 0, (code, open(n.log.name).read()[-1500:])
        n.start()
    for q, load in zip((1, 2), loads):
        out, _ = load.communicate(timeout=150)
        r = json.loads(out[out.index("{"):])
        assert r["ok"] and r["lost"] == 0 and r["sessions_lost"] == 0, r
        assert r["acknowledged"] == r["published"], r
        assert q == 1 or r["duplicate"] == 0, r
        assert r["outage_max_ms"] < 5000, r  # nobody waited for an election, nor for a node to come back
    assert sum(logged(n, "they learn first") for n in nodes) == 3  # the beginning: a restart moves no data


def operated(w, count):
    """A cluster whose nodes have an admin API; the ports of those."""
    nodes = w.cluster(count)
    for n in nodes:
        assert n.terminate(PATIENCE) == 0
        tokens = n.file("tokens", "admin %s\n" % ADMIN)
        n.api = free_port()
        n.edit('apiServerConfig : { enable = false; unixSocket = ""; };',
               'apiServerConfig: { httpPort = %d; unixSocket = ""; tokenFile = "%s"; };' % (n.api, tokens))
    for n in nodes:
        n.launch()
    for n in nodes:
        n.wait()
        again(lambda: asked(n, "GET", "/healthz"))  # it opens last
    return nodes


def asked(n, method, path, body=None, **headers):
    return ask(n.api, method, path, token=ADMIN, body=body, **headers)


def until(what):
    def once():
        assert what()
    again(once, PATIENCE)


def test_nodes_drained_in_turn_under_load_lose_nothing(w):
    """bilrostctl drain, until nothing is left on the node but its replicas; stopped, as for work on its host; undrain."""
    if not os.path.exists(BENCH):
        raise w.skip("bilrost-bench is not built")
    nodes = operated(w, 3)
    three_voters(nodes)
    until(lambda: [m["ready"] for m in json.loads(asked(nodes[0], "GET", "/cluster")[1])["nodes"]] == [True] * 3)
    hosts = [x for n in nodes for x in ("--host", "127.0.0.1:%d" % n.port)]
    load = w.spawn(BENCH, "failover", "--json", "--qos", "2", "--mqtt", "5", "--publishers", "10", "--rate", "200", "--prefix", "drained",
                   "--seconds", "20", "--drain", "60", *hosts)
    for i, n in enumerate(nodes):
        uuid, other = json.loads(asked(n, "GET", "/cluster")[1])["local"], nodes[i - 1]
        marked = lambda: [x for x in json.loads(asked(other, "GET", "/drain")[1]) if x["node"] == uuid]
        until(lambda: asked(other, "PUT", "/drain", node_id=uuid) == (200, "OK"))
        until(lambda: [(x["left"]["clients"], x["left"]["leaders"]) for x in marked() if "left" in x] == [(0, 0)])
        assert n.terminate(PATIENCE) == 0
        until(lambda: [m["state"] for m in json.loads(asked(other, "GET", "/cluster")[1])["nodes"] if m["id"] == uuid] == ["left"])
        n.start()
        until(lambda: asked(n, "DELETE", "/drain", node_id=uuid) == (200, "OK"))
        until(lambda: asked(n, "GET", "/readyz")[0] == 200)
    out, _ = load.communicate(timeout=150)
    r = json.loads(out[out.index("{"):])
    assert r["ok"] and r["lost"] == 0 and r["duplicate"] == 0 and r["sessions_lost"] == 0, r
    assert r["acknowledged"] == r["published"], r


def test_rules_of_balancers_hold_everywhere_and_are_kept(w):
    nodes = operated(w, 3)
    head = {"store_name": "inbox.store", "balancer_factory_class": "ReplicaCntBalancer"}

    def rules(n):
        return json.loads(asked(n, "GET", "/store/balancer/rules", **head)[1])

    until(lambda: rules(nodes[0])["votersPerRange"] == 3)
    for body, why in ((b'{"votersPerRange":4}', "odd"), (b'{"votersPerRange":0}', "1 to 15"),
                      (b'{"voters":3}', "no rule")):
        status, text = asked(nodes[0], "PUT", "/store/balancer/rules", body=body, **head)
        assert status == 409 and why in text, (status, text)
    assert asked(nodes[0], "PUT", "/store/balancer/rules", body=b"{", **head)[0] == 400
    assert asked(nodes[0], "PUT", "/store/balancer/rules", body=b"{}", store_name="inbox.store",
                 balancer_factory_class="NoSuchBalancer")[0] == 404
    assert asked(nodes[0], "PUT", "/store/balancer/enable", store_name="nothing", balancer_factory_class="x")[0] == 404
    status, text = asked(nodes[0], "PUT", "/store/balancer/disable", store_name="inbox.store",
                         balancer_factory_class="RangeBootstrapBalancer")
    assert status == 409 and "cannot be switched off" in text
    for switch, code in (("enable", 200), ("disable", 409)):
        status, text = asked(nodes[0], "PUT", "/store/balancer/" + switch, store_name="inbox.store",
                             balancer_factory_class="RedundantEpochRemovalBalancer")
        assert status == code and "deletes nothing by itself" in text, (status, text)
    status, text = asked(nodes[0], "PUT", "/store/balancer/enable", store_name="dist.worker",
                         balancer_factory_class="RecoveryBalancer")
    assert status == 200 and "deprecated" in text and "bilrostctl store recover" in text, (status, text)
    assert logged(nodes[0], "RecoveryBalancer is deprecated") == 1
    assert asked(nodes[0], "PUT", "/store/balancer/rules", body=b'{"learnersPerRange":0}', **head)[0] == 200
    assert asked(nodes[1], "PUT", "/store/balancer/disable", store_name="dist.worker",
                 balancer_factory_class="org.apache.bifromq.RangeLeaderBalancerFactory")[0] == 200
    assert asked(nodes[0], "PUT", "/store/balancer/rules", body=b'{"votersPerRange":1}', **head)[0] == 200
    until(lambda: all(rules(n)["votersPerRange"] == 1 for n in nodes))
    until(lambda: all("RangeLeaderBalancer\":{\"disable\":true" in asked(n, "GET", "/store/balancer", store_name="dist.worker")[1]
                      for n in nodes))
    voters = lambda n: [len(r["clusterConfig"]["voters"]) for r in
                        json.loads(asked(n, "GET", "/store/ranges", store_name="inbox.store")[1])]
    until(lambda: voters(nodes[2]) == [1])  # they are followed
    for n in nodes:
        assert n.terminate(PATIENCE) == 0
    for n in nodes:
        n.launch()
    for n in nodes:
        n.wait()
    until(lambda: all(rules(n)["votersPerRange"] == 1 for n in nodes))
    assert asked(nodes[2], "DELETE", "/store/balancer/rules", **head)[0] == 200
    until(lambda: all(rules(n)["votersPerRange"] == 3 for n in nodes))
    until(lambda: voters(nodes[0]) == [3])


def test_a_filter_with_many_receivers_gets_its_own_range(w):
    n = operated(w, 1)[0]
    head = {"store_name": "dist.worker", "balancer_factory_class": "RangeSplitBalancer"}
    for i in range(30):
        c = Client(n.port, 5)
        c.connect("sub%d" % i, clean=False, p=[(0x11, 3600)])
        assert list(c.subscribe(("crowd/+", 1), ("own/%d" % i, 1))) == [1, 1]
        c.disconnect()
    bounds = lambda: [(r["boundary"]["startKey"], r["boundary"]["endKey"]) for r in
                      json.loads(asked(n, "GET", "/store/ranges", store_name="dist.worker")[1])]
    assert len(bounds()) == 1
    assert asked(n, "PUT", "/store/balancer/rules", body=b'{"maxFanoutPerRange":20}', **head)[0] == 200
    assert n.terminate(PATIENCE) == 0
    n.launch()  # it counts when it begins to lead
    n.wait()
    until(lambda: len(bounds()) == 3)  # what is before, the filter's bucket and nothing else, what is after
    p = Client(n.port, 5)
    p.connect("p")
    assert p.publish("crowd/x", "all", 1) == 0 and p.publish("own/7", "one", 1) == 0
    for i in range(30):
        c = Client(n.port, 5)
        c.connect("sub%d" % i, clean=False, p=[(0x11, 3600)])
        assert c.expect(PUBLISH).topic == "crowd/x"
        assert i != 7 or c.expect(PUBLISH).topic == "own/7"
    assert len(bounds()) == 3


def test_an_operator_takes_a_node_out_and_puts_it_back(w):
    nodes = operated(w, 3)
    # clients are sent to nodes that are known to be ready only
    until(lambda: [m["ready"] for m in json.loads(asked(nodes[0], "GET", "/cluster")[1])["nodes"]] == [True] * 3)
    uuid = json.loads(asked(nodes[0], "GET", "/cluster")[1])["local"]
    c = connected(nodes[0], "moves", clean=False, p=[(0x11, 300)])
    assert asked(nodes[1], "PUT", "/drain", node_id="00000000-0000-0000-0000-000000000001")[0] == 404
    until(lambda: "fewer than 3 nodes" in asked(nodes[1], "PUT", "/drain", node_id=uuid, remove="true")[1])
    assert asked(nodes[1], "PUT", "/drain", node_id=uuid) == (200, "OK")  # from another node
    p = good_bye(c)
    assert p is not None and p.reason == 0x9C and p.prop(0x1C) in ["127.0.0.1:%d" % n.port for n in nodes[1:]]
    late = Client(nodes[0].port, 5)
    late.connect("late", ok=False)
    assert late.expect(CONNACK).reason == 0x9C

    def left():
        return json.loads(asked(nodes[2], "GET", "/drain")[1])

    until(lambda: [n.get("left", {}).get(k) for n in left() for k in ("leaders", "clients")] == [0, 0])
    assert left()[0]["node"] == uuid and left()[0]["left"]["replicas"] > 0
    assert asked(nodes[0], "GET", "/readyz")[0] == 503
    nodes[0].terminate(PATIENCE)
    nodes[0].start()  # it is still out of service
    until(lambda: "out of service" in asked(nodes[0], "GET", "/readyz")[1])
    assert asked(nodes[0], "DELETE", "/drain") == (200, "OK")
    until(lambda: asked(nodes[0], "GET", "/readyz")[0] == 200)
    back = connected(nodes[0], "moves", clean=False, p=[(0x11, 300)])
    back.disconnect()
    until(lambda: left() == [])  # said on another node: gossip carries it


def handed_over(n, sock):
    """Starts the node as systemd does with a socket of its own: descriptor 3, which is called mqtt."""
    n.port = sock.getsockname()[1]
    n.process = subprocess.Popen(
        ["sh", "-c", 'exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=mqtt exec "$0" "$@"' % sock.fileno(), n.args.broker,
         "--config", n.conf], stdout=n.sink, stderr=n.sink, pass_fds=[sock.fileno()], start_new_session=True)


def test_a_restart_with_sockets_of_systemd_refuses_nobody(w):
    """Who connects while the old process ends, or while the new one has no ranges yet, waits and is served."""
    n = w.node(data=True, listeners='{ kind = "systemd"; address = "mqtt"; auth = "anonymous"; }',
               config='clusterConfig : { enable = true; env = "handed"; host = "127.0.0.1"; port = %d; };\n'
               'rpcConfig : { host = "127.0.0.1"; port = %d; };\n' % (free_port(), free_port()))
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    handed_over(n, sock)
    over, answers = threading.Event(), []

    def knock(k):
        i = 0
        while not over.is_set():
            c, i = Client(n.port, (4, 5)[k % 2]), i + 1
            try:
                c.connect("k%d-%d" % (k, i % 5), clean=i % 2 == 0, p=[(0x11, 60)] if k % 2 else (), ok=False)
                answers.append(c.expect(CONNACK).reason)
                c.publish("t/%d" % k, "x", 1)
                c.disconnect()
            except (Closed, OSError, AssertionError):
                pass  # cut off after it was in: it comes again
            c.s.close()
    threads = [threading.Thread(target=knock, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    try:
        for _ in range(2):
            count = len(answers)
            until(lambda: len(answers) > count + 40)
            n.process.terminate()
            assert n.process.wait(PATIENCE) == 0
            handed_over(n, sock)
        count = len(answers)
        until(lambda: len(answers) > count + 40)
    finally:
        over.set()
        for t in threads:
            t.join()
        sock.close()
    assert set(answers) == {0}, {a: answers.count(a) for a in set(answers)}


def test_a_closed_listener_is_named_no_more(w):
    nodes = operated(w, 2)
    uuid = json.loads(asked(nodes[0], "GET", "/cluster")[1])["local"]
    more = [n.listen_also("tcp", 'name = "second";') for n in nodes]

    def refused_by(port):
        c = Client(port, 5)
        c.connect("late", ok=False)
        p = c.expect(CONNACK)
        c.s.close()
        return p.reason, p.prop(0x1C)
    for n, port in zip(nodes, more):
        n.process.send_signal(signal.SIGHUP)
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    until(lambda: asked(nodes[1], "PUT", "/drain", node_id=uuid) == (200, "OK"))
    until(lambda: refused_by(more[0]) == (0x9C, "127.0.0.1:%d" % more[1]))
    nodes[1].edit('{ kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; name = "second"; }, ' % more[1], "")
    nodes[1].process.send_signal(signal.SIGHUP)
    until(lambda: refused_by(more[0]) == (0x88, None))  # there is nowhere to go
    assert refused_by(nodes[0].port) == (0x9C, "127.0.0.1:%d" % nodes[1].port)
