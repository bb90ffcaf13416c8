"""A cluster that grows and shrinks under load: by itself, evenly, and nothing acknowledged is lost.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import signal
import time

from cluster_cases import again
from drain_cases import ADMIN, BENCH, asked
from ports import free_port

ONLY_WHEN_NAMED = True  # make scale
STORES = ("dist.worker", "inbox.store", "retain.store")
RANGES = 6  # of the inbox store: enough for five nodes to have different numbers of them
PATIENCE = 150.0


def with_api(n):
    tokens = n.file("tokens", "admin %s\n" % ADMIN)
    n.api = free_port()
    n.edit('apiServerConfig : { enable = false; unixSocket = ""; };',
           'apiServerConfig: { httpPort = %d; unixSocket = ""; tokenFile = "%s"; };' % (n.api, tokens))


def view(n, path, **headers):
    status, text = asked(n, "GET", path, **headers)
    assert status == 200, (path, status, text)
    return json.loads(text)


def even(counts, ids):
    """Within one of each other, over these nodes and nobody else."""
    assert set(counts) <= set(ids), (counts, ids)
    all_of = [counts.get(i, 0) for i in ids]
    assert max(all_of) - min(all_of) <= 1, counts


def is_arranged(n, ids, ranges=RANGES):
    """As one asks a cluster of these nodes: every range has three living voters, votes and leaders are even."""
    led = {}
    for store in STORES:
        votes, leads = {}, {}
        all_of = view(n, "/store/ranges", store_name=store)
        assert len(all_of) == (ranges if store == "inbox.store" else 1), (store, len(all_of))
        for r in all_of:
            assert r["liveVoters"] == r["voterCount"] == 3 and not r["clusterConfig"]["nextVoters"], r
            assert r.get("leader"), r  # between two of them nobody is
            leads[r["leader"]] = leads.get(r["leader"], 0) + 1
            led[r["leader"]] = led.get(r["leader"], 0) + 1
            for v in r["clusterConfig"]["voters"]:
                votes[v] = votes.get(v, 0) + 1
        even(votes, ids)
        even(leads, ids)
    s = view(n, "/status")
    assert not [a for a in s["alarms"] if a["level"] == "critical"], s["alarms"]
    assert s["ranges"]["underReplicated"] == 0 and s["ranges"]["withoutQuorum"] == 0, s["ranges"]


def split_inbox(n):
    """Until there are so many ranges: near the middle of what the load has put there.  That one is split is told by gossip, so the
    next is not asked for before it is seen."""
    def once(count):
        all_of = view(n, "/store/ranges", store_name="inbox.store")
        if len(all_of) < count:
            assert any(asked(n, "PUT", "/store/range/split", store_name="inbox.store", range_id=r["id"])[0] == 200
                       for r in sorted(all_of, key=lambda r: -r["bytes"])), all_of

    def seen(count):
        all_of = view(n, "/store/ranges", store_name="inbox.store")
        assert len(all_of) >= count, (len(all_of), count)

    for count in range(2, RANGES + 1):
        again(lambda: once(count), PATIENCE)
        again(lambda: seen(count), PATIENCE)


def test_out_to_five_and_in_to_three_under_load(w):
    if not os.path.exists(BENCH):
        raise w.skip("bilrost-bench is not built")
    nodes = w.cluster(5, prepare=with_api, started=3)
    id_of = [again(lambda n=n: view(n, "/cluster")["local"]) for n in nodes[:3]]
    hosts = [x for n in nodes for x in ("--host", "127.0.0.1:%d" % n.port)]
    again(lambda: is_arranged(nodes[0], id_of, 1), PATIENCE)
    loads = [w.spawn(BENCH, "failover", "--json", "--qos", str(q), "--mqtt", "5", "--publishers", "16", "--rate", "150",
                     "--prefix", "scale%d" % q, "--seconds", "900", "--drain", "60", *hosts) for q in (1, 2)]
    begun = time.monotonic()

    def step(what, is_done):
        again(is_done, PATIENCE)
        w.note("%s after %.1f s" % (what, time.monotonic() - begun))

    split_inbox(nodes[0])
    step("%d ranges, even over three nodes" % RANGES, lambda: is_arranged(nodes[0], id_of))
    for n in nodes[3:]:
        n.start()
    id_of += [again(lambda n=n: view(n, "/cluster")["local"]) for n in nodes[3:]]
    step("even over five nodes", lambda: is_arranged(nodes[1], id_of))
    for i in (0, 4):  # one that founded it and one that came
        status, text = asked(nodes[1], "PUT", "/drain", node_id=id_of[i], remove="true")
        assert status == 200, (status, text)
    step("even over three again", lambda: is_arranged(nodes[1], id_of[1:4]))
    again(lambda: [n.get("left") for n in view(nodes[1], "/drain")] == [{"leaders": 0, "clients": 0, "replicas": 0}] * 2)
    for i in (0, 4):
        assert nodes[i].terminate(PATIENCE) == 0
    step("the two are stopped", lambda: is_arranged(nodes[2], id_of[1:4]))
    for load in loads:
        load.send_signal(signal.SIGINT)
    for q, load in zip((1, 2), loads):
        out, _ = load.communicate(timeout=150)
        r = json.loads(out[out.index("{"):])
        assert r["ok"] and r["lost"] == 0 and r["sessions_lost"] == 0, r
        assert r["acknowledged"] > 0 and (q == 1 or r["duplicate"] == 0), r
        w.note("QoS %d: %d acknowledged, longest outage %.0f ms" % (q, r["acknowledged"], r["outage_max_ms"]))
