"""bilrost-bench as its users run it.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import pty
import select
import signal
import subprocess
import time

from basic_cases import topic
from client_cases import ways_in
from ports import free_port

WITHIN = 120  # s: no run here lasts longer than some seconds, but the machine may be busy


def command(w, *argv, port=None):
    path = os.path.join(os.path.dirname(w.args.broker), "bilrost-bench")
    if not os.path.exists(path):
        raise w.skip("bilrost-bench is not built")
    hosts = () if "--host" in argv else ("--host", "127.0.0.1:%d" % (port or w.port))
    return [path, *argv, *hosts]


def run(w, *argv, port=None):
    return subprocess.run(command(w, *argv, port=port), capture_output=True, text=True, timeout=WITHIN, check=False)


def bench(w, *argv, port=None):
    """What a run that must go well reports."""
    r = run(w, *argv, "--json", port=port)
    assert r.returncode == 0, (argv, r.stdout, r.stderr)
    assert r.stderr == "", r.stderr
    report = json.loads(r.stdout)
    assert report["ok"] and report["scenario"] == argv[0], report
    assert all(v >= 0 for v in report.values() if isinstance(v, (int, float))), report
    assert report["connect_ms"] < WITHIN * 1000 and report["run_ms"] < WITHIN * 1000, report
    return report


def test_bench_keeps_quiet_clients_alive(w):
    bench(w, "conn", "--subscribers", "20", "--publishers", "1", "--keep-alive", "1", "--hold", "4")


def test_bench_counts_what_it_sends(w):
    """Every scenario in every version runs to its end and finds nothing lost, doubled or out of order."""
    for v in ("3", "4", "5"):
        for qos in ("0", "1", "2"):
            common = ("--publishers", "3", "--subscribers", "3", "--size", "40", "--qos", qos, "--mqtt", v, "--count", "50")
            for scenario in ("pairs", "fanin", "fanout", "shared"):
                r = bench(w, scenario, *common, "--prefix", topic("bench"))
                sent = 50 if scenario == "fanout" else 150
                assert (r["mqtt"], r["qos"], r["published"], r["received"]) == (int(v), int(qos), sent, 150), r
                assert r["acknowledged"] == (sent if qos != "0" else 0), r
                assert (r["lost"], r["duplicate"], r["connections_lost"]) == (0, 0, 0), r
                assert r["reordered"] == 0 or scenario == "shared", r  # members of a group have no common order
                assert 0 < r["p50_ms"] <= r["p99_ms"] <= r["p999_ms"] <= r["max_ms"], r


def test_bench_reads_what_was_kept(w):
    for v in ("3", "4", "5"):
        r = bench(w, "subscribe", "--filters", "20", "--subscribers", "3", "--mqtt", v)
        assert r["received"] == 60, r
        # one publisher, whatever was asked for
        r = bench(w, "retain", "--filters", "50", "--publishers", "3", "--qos", "1", "--mqtt", v, "--prefix", topic("bench"))
        assert (r["publishers"], r["published"], r["received"], r["lost"], r["duplicate"]) == (1, 50, 50, 0, 0), r
        # fewer sessions than publishers
        for publishers in ("2", "9"):
            r = bench(w, "offline", "--qos", "1", "--publishers", publishers, "--subscribers", "4", "--count", "50", "--mqtt", v,
                      "--prefix", topic("bench"))
            sent = min(int(publishers), 4) * 50
            assert (r["published"], r["received"], r["lost"], r["duplicate"]) == (sent, sent, 0, 0), r
        r = bench(w, "conn", "--subscribers", "5", "--mqtt", v)
        assert r["connect_ms"] > 0, r
        r = bench(w, "failover", "--publishers", "2", "--count", "50", "--qos", "1", "--mqtt", v, "--prefix", topic("bench"))
        assert (r["received"], r["lost"], r["outages"]) == (100, 0, 0), r


def test_bench_counts_a_run_by_itself(w):
    """Sessions and retained messages of the run before, with the same names, change no count of the next."""
    for v in ("3", "4", "5"):
        name = topic("again")
        common = ("--qos", "1", "--mqtt", v, "--prefix", name)
        bench(w, "fanin", "--persistent", "--publishers", "3", "--count", "50", *common)
        bench(w, "fanout", "--count", "50", "--subscribers", "1", *common)  # and what that session is away for
        for scenario in ("pairs", "fanin", "offline"):
            r = bench(w, scenario, "--persistent", "--publishers", "3", "--subscribers", "3", "--count", "50", *common)
            assert (r["published"], r["received"], r["lost"], r["duplicate"], r["reordered"], r["stray"]) == (150, 150, 0, 0, 0, 0), r
        bench(w, "retain", "--filters", "60", *common)
        r = bench(w, "retain", "--filters", "50", *common)
        assert (r["received"], r["lost"], r["duplicate"]) == (50, 0, 0) and r["stray"] <= 10, r


def test_bench_over_tls_and_websocket(w):
    ports, crt = ways_in(w)
    for way, port in ports.items():
        how = (("--ca", crt) if way in ("mqtts", "wss") else ()) + (("--ws", "/mqtt") if way in ("ws", "wss") else ())
        for v in ("4", "5"):
            r = bench(w, "pairs", "--publishers", "3", "--qos", "1", "--count", "50", "--mqtt", v, *how, port=port)
            assert r["received"] == 150 and r["lost"] == 0, (way, r)
    few = ("conn", "--subscribers", "3")
    bench(w, *few, "--insecure", port=ports["mqtts"])
    bench(w, *few, "--ca", crt, "--host", "localhost:%d" % ports["mqtts"])
    bench(w, *few, "--ca", crt, "--tls-name", "localhost", port=ports["mqtts"])
    for why, argv in (("hostname mismatch", ("--ca", crt, "--tls-name", "another.example")), ("certificate", ("--tls",))):
        r = run(w, *few, *argv, port=ports["mqtts"])
        assert r.returncode == 69 and why in r.stdout + r.stderr, (argv, r)
    r = run(w, *few, "--ca", "/nonexistent/ca.pem")
    assert r.returncode == 66 and "/nonexistent/ca.pem" in r.stderr, r


def test_bench_spreads_clients_over_hosts(w):
    """Each of two listeners takes half of the clients and not one more."""
    n = w.node()
    ports = [n.listen_also("tcp", "maxConnections = 4;") for _ in range(2)]
    n.start()
    hosts = [x for p in ports for x in ("--host", "127.0.0.1:%d" % p)]
    assert bench(w, "conn", "--subscribers", "8", *hosts)["connections_lost"] == 0
    r = run(w, "conn", "--subscribers", "9", "--hold", "60", *hosts)
    assert r.returncode != 0, r
    r = bench(w, "pairs", "--publishers", "4", "--count", "50", "--qos", "1", *hosts)
    assert r["received"] == 200, r
    r = run(w, "conn", "--subscribers", "2", "--host", "127.0.0.1:%d" % ports[0], "--host", "127.0.0.1:%d" % free_port())
    assert r.returncode == 69 and "FAILED: " in r.stdout and "refused" in r.stdout.lower(), r


def test_bench_says_what_is_wrong(w):
    for argv in ((), ("nothing",), ("pairs", "fanin"), ("pairs", "--qos", "3"), ("pairs", "--mqtt", "6"), ("pairs", "--mqtt", "2"),
                 ("pairs", "--sub-qos", "3"), ("pairs", "--size", "x"), ("pairs", "--size", "300000000"), ("pairs", "--rate", "-1"),
                 ("pairs", "--host", "a:b"), ("pairs", "--host", ":1883"), ("retain", "--filters", "0"), ("pairs", "--no-such"),
                 ("conn", "--connect-window", "0"), ("pairs", "--prefix", "a/#"), ("pairs", "--password", "x"), ("pairs", "--qos"),
                 ("pairs", "--host", *("127.0.0.1 --host " * 17).split()[:-1])):
        r = run(w, *argv)
        assert r.returncode == 64 and r.stdout == "", (argv, r)
        assert len(r.stderr.strip().split("\n")) == 1 and "bilrost-bench: " in r.stderr, (argv, r)
    r = run(w, "conn", "--host", "no-such-host.invalid")
    assert r.returncode == 68 and "no-such-host.invalid" in r.stderr, r
    r = run(w, "conn", "--subscribers", "1", "--host", "127.0.0.1:%d" % free_port(), "--json")
    assert r.returncode == 69 and not json.loads(r.stdout)["ok"], r
    r = run(w, "--help")
    assert r.returncode == 0 and "failover" in r.stdout and "--connect-window" in r.stdout, r
    assert run(w, "--version").stdout.startswith("bilrost-bench ")


def test_bench_keeps_to_a_rate(w):
    r = bench(w, "pairs", "--publishers", "5", "--rate", "100", "--count", "20")
    assert r["received"] == 100 and r["run_ms"] >= 900, r


def test_bench_progress_line_on_a_terminal_only(w):
    """One line that is written over; SIGINT ends the run and the report comes."""
    long_run = ("pairs", "--publishers", "2", "--rate", "50", "--seconds", "600")
    here, there = pty.openpty()
    p = subprocess.Popen(command(w, *long_run), stdout=subprocess.PIPE, stderr=there, text=True)
    os.close(there)
    w.tools.append(p)
    seen, end = b"", time.monotonic() + WITHIN
    while seen.count(b"\rrunning") < 2:
        assert time.monotonic() < end and p.poll() is None, seen
        if select.select([here], [], [], 1)[0]:
            seen += os.read(here, 4096)
    assert b"\n" not in seen and b"received" in seen and b"p99" in seen, seen
    p.send_signal(signal.SIGINT)
    out = p.stdout.read()
    assert p.wait(WITHIN) == 0 and "lost 0, duplicate 0, reordered 0" in out, out
    os.close(here)
    for argv in (("--quiet",), ("--json",)):
        here, there = pty.openpty()
        p = subprocess.Popen(command(w, "conn", "--hold", "2", "--subscribers", "1", *argv), stdout=subprocess.PIPE, stderr=there, text=True)
        os.close(there)
        w.tools.append(p)
        assert p.wait(WITHIN) == 0
        try:
            assert os.read(here, 4096) == b""
        except OSError:
            pass  # the other end is gone and there was nothing
        os.close(here)
    r = run(w, "conn", "--hold", "2", "--subscribers", "1")  # a pipe is no terminal
    assert r.returncode == 0 and r.stderr == "" and "connected in" in r.stdout, r
