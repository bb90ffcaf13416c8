"""$SYS topics: what the broker tells about itself, as one, however many nodes it has.  SPDX-License-Identifier: Apache-2.0"""
import time

from cluster_cases import PATIENCE, again, connected
from mqtt import Client

TOPICS = {"clients/connected", "subscriptions/count", "messages/received", "messages/sent", "publish/messages/dropped", "uptime"}


def kept(port):
    """What a client that subscribes now gets, as numbers by topic."""
    c, found = Client(port, 5), {}
    c.connect()
    assert c.subscribe(("$SYS/#", 0)) == [0]
    end = time.monotonic() + 10
    while set(found) < TOPICS:
        t, value = c.message(end - time.monotonic())
        assert t.startswith("$SYS/broker/"), t
        found[t[len("$SYS/broker/"):]] = int(value)
    c.disconnect()
    assert set(found) == TOPICS, found
    return found


def counts(port, clients, subscriptions):
    """Until clients and subscriptions, without those of the one who looks, are told to whoever asks on this port."""
    def once():
        got = kept(port)
        assert got["clients/connected"] - clients in (0, 1), got  # the one who looks may be counted
        assert got["subscriptions/count"] - subscriptions in (0, 1), got
        return got
    return again(once)


def test_sys_topics_count_what_there_is(w):
    n = w.node(config="sys_interval_seconds = 1;\n").start()
    a, b = Client(n.port, 5), Client(n.port, 4)
    a.connect()
    b.connect()
    a.subscribe(("sys/a", 1), ("sys/b", 1))
    before = counts(n.port, 2, 2)
    for _ in range(20):
        assert b.publish("sys/a", "x", 1) == 0

    def grown():
        got = kept(n.port)
        assert got["messages/received"] >= before["messages/received"] + 20, got
        assert got["messages/sent"] >= before["messages/sent"] + 20 and got["uptime"] > before["uptime"], got
    again(grown)
    b.disconnect()
    counts(n.port, 1, 2)
    refused = Client(n.port, 5)
    refused.connect()
    code = refused.publish("$SYS/broker/uptime", "0", 1)
    assert code >= 0x80, code


def test_sys_topics_count_the_whole_cluster(w):
    """One of the nodes publishes the sums, another one when it is lost; those of the others are never taken for all."""
    nodes = w.cluster(3, prepare=lambda n: n.edit("data_dir", "sys_interval_seconds = 1;\ndata_dir"))
    clients = [connected(n, "sys%d" % i) for i, n in enumerate(nodes)] + [connected(nodes[0])]
    for c in clients[:3]:
        assert c.subscribe(("sys/of/%d" % clients.index(c), 0)) == [0]
    watcher = connected(nodes[2])
    for n in nodes:
        counts(n.port, 5, 3)
    assert watcher.subscribe(("$SYS/broker/clients/connected", 0)) == [0]
    more = [connected(nodes[i % 3]) for i in range(5)]

    value = 0
    while value != 10:  # and nobody ever tells the count of one node only
        t, text = watcher.message(PATIENCE)
        value = int(text)
        assert t == "$SYS/broker/clients/connected" and 5 <= value <= 12, value
    for c in more:
        c.disconnect()
    nodes[1].kill()  # its client is gone, and with it one subscription; maybe it was the one that publishes
    for n in (nodes[0], nodes[2]):
        counts(n.port, 4, 3)
