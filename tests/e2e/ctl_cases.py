"""bilrostctl: every command against real nodes, and what it says when something is wrong.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import shutil
import socket
import subprocess
import threading

from api_cases import ADMIN, READ, cluster_with_api, members_full, node, same, with_api
from cluster_cases import again
from mqtt import PUBLISH, Client


def tool(w):
    return os.path.join(os.path.dirname(w.args.broker), "bilrostctl")


def run(w, *argv, stdin=None, env=None):
    r = subprocess.run([tool(w), *argv], capture_output=True, text=True, timeout=100, check=False,
                       stdin=subprocess.DEVNULL if stdin is None else None, input=stdin, env=env)
    return r.returncode, r.stdout, r.stderr


def ctl(w, n, *argv, **kw):
    return run(w, "-H", "unix:" + os.path.join(n.dir, "api.sock"), *argv, **kw)


def done(answer):
    code, out, err = answer
    assert code == 0 and err == "", answer
    return out


def test_ctl_sees_and_steers_one_node(w):
    n, port = node(w)
    c = Client(n.port, 5)
    c.connect("victim")
    out = done(ctl(w, n, "status"))
    assert out.startswith("one node alone, ready\n") and "no alarms" in out, out
    assert json.loads(done(ctl(w, n, "--json", "status")))["clients"] == 1
    assert done(ctl(w, n, "ready")) == "ready\n"
    assert "mqtt_connect_count_total" in done(ctl(w, n, "metrics"))
    assert "which is alone" in done(ctl(w, n, "cluster"))
    assert "dist.worker" in done(ctl(w, n, "store")) and "session.dict" in done(ctl(w, n, "service"))
    assert "ADDRESS" in done(ctl(w, n, "store", "landscape", "inbox.store"))
    assert "GROUPS" in done(ctl(w, n, "service", "landscape", "mqtt.broker"))
    assert "RANGE" in done(ctl(w, n, "range", "inbox.store"))
    assert "clientId: victim" in done(ctl(w, n, "session", "victim"))
    # subscriptions, messages
    assert done(ctl(w, n, "-q", "1", "sub", "add", "victim", "a/+")) == "OK\n"
    assert done(ctl(w, n, "sub", "add", "victim", "a/+")) == "EXISTS\n"
    out = done(ctl(w, n, "sub", "victim"))
    assert out.splitlines()[1].split()[:2] == ["victim", "a/+"], out
    assert done(ctl(w, n, "pub", "a/1", "hello")) == "OK\n"
    p = c.expect(PUBLISH)
    assert (p.topic, p.payload) == ("a/1", b"hello")
    assert done(ctl(w, n, "pub", "a/1", "-", stdin="from stdin")) == "OK\n"
    assert c.message() == ("a/1", "from stdin")
    assert done(ctl(w, n, "pub", "b", "x")) == "NO_MATCH\n"
    assert done(ctl(w, n, "sub", "remove", "victim", "a/+")) == "OK\n"
    assert done(ctl(w, n, "retain", "set", "r/1", "kept")) == "RETAINED\n"
    assert "r/1" in done(ctl(w, n, "retain")) and "r/1" in done(ctl(w, n, "retain", "r/+"))
    assert done(ctl(w, n, "retain", "expire", "3600")) == "removed: 0\n"
    assert done(ctl(w, n, "retain", "clear", "r/1")) == "CLEARED\n"
    assert done(ctl(w, n, "retain")).count("\n") == 1
    # sessions
    k = Client(n.port, 5)
    k.connect("kept", clean=False, p=[(0x11, 600)])
    k.disconnect()
    again(lambda: same("away" in done(ctl(w, n, "session", "list", "kept")), True))
    out = done(ctl(w, n, "session", "list"))
    assert [line.split()[0] for line in out.splitlines()] == ["CLIENT", "kept", "victim"], out
    assert "expirySeconds: 600" in done(ctl(w, n, "session", "inbox", "kept"))
    assert done(ctl(w, n, "session", "expire", "3600")) == "removed: 0\n"
    assert done(ctl(w, n, "session", "delete", "kept")) == "OK\n"
    assert ctl(w, n, "session", "inbox", "kept") == (1, "", "bilrostctl: NO_INBOX: there is no such persistent session\n")
    # kills
    assert done(ctl(w, n, "kill", "victim")) == "killed: 1\n"
    c.closed()
    assert ctl(w, n, "kill", "victim") == (1, "", "bilrostctl: NO_SESSION: no such client is connected\n")
    assert ctl(w, n, "session", "victim")[0] == 1
    assert ctl(w, n, "kill", "user", "joe")[0] == 1
    assert ctl(w, n, "kill", "all") == (64, "", "bilrostctl: kill all wants --yes\n")
    assert ctl(w, n, "kill", "all", "--yes") == (1, "", "bilrostctl: NO_SESSION: no such client is connected\n")
    # over TCP, with a token
    api = "http://127.0.0.1:%d" % port
    assert run(w, "-H", api, "cluster")[0] == 77
    assert run(w, "-H", api, "-t", READ, "kill", "x")[0] == 77
    assert run(w, "-H", api, "-t", ADMIN, "kill", "x")[0] == 1
    assert run(w, "-H", api, "cluster", env=dict(os.environ, BILROST_TOKEN=READ))[0] == 0


def test_ctl_lists_page_after_page(w):
    n, _ = node(w)
    clients = []
    for i in range(30):
        c = Client(n.port, 4)
        c.connect("c-%02d" % i)
        assert c.subscribe(("t/%d" % i, 0), ("all", 1)) == [0, 1]
        clients.append(c)
    out = done(ctl(w, n, "session", "list"))
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["c-%02d" % i for i in range(30)], out
    assert len(done(ctl(w, n, "--limit", "7", "session", "list")).splitlines()) == 8
    assert len(done(ctl(w, n, "sub")).splitlines()) == 61
    pages = [json.loads(line) for line in done(ctl(w, n, "--json", "--limit", "7", "session", "list")).splitlines()]
    assert [s["clientId"] for p in pages for s in p["sessions"]] == ["c-%02d" % i for i in range(7)]


def test_ctl_knows_its_commands(w):
    assert run(w) [0] == 64
    assert run(w, "--help")[0] == 0 and "session list [PREFIX]" in run(w, "--help")[1]
    assert "dead member" in done(run(w, "help", "cluster"))
    assert "dead member" in done(run(w, "cluster", "--help"))
    assert run(w, "help", "nothing")[0] == 64
    code, out, err = run(w, "nothing")
    assert code == 64 and out == "" and err == 'bilrostctl: no command "nothing": bilrostctl --help lists them\n'
    assert run(w, "config")[0] == 64 and run(w, "session")[0] == 64 and run(w, "kill", "a", "b", "c")[0] == 64
    assert run(w, "--limit", "x", "sub")[0] == 64 and run(w, "--nothing", "status")[0] == 64
    assert "event loops" in done(run(w, "config", "explain", "workers"))
    with open(os.path.join(os.path.dirname(__file__), "../../docs/man/bilrostctl.1")) as f:
        assert done(run(w, "manual")) == f.read()
    assert run(w, "completion", "tcsh")[0] == 64


def test_ctl_completes_in_bash(w):
    if shutil.which("bash") is None:
        raise w.skip("bash is not installed")
    script = done(run(w, "completion", "bash"))

    def completed(*words):
        code = script + "\nCOMP_WORDS=(bilrostctl %s)\nCOMP_CWORD=%d\n_bilrostctl\nprintf '%%s\\n' \"${COMPREPLY[@]}\"\n" \
            % (" ".join("'%s'" % x for x in words), len(words))
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert completed("sess") == ["session"]
    assert completed("-H", "x", "cluster", "for") == ["forget"]
    assert set(completed("kill", "")) == {"user", "all"}
    assert "--json" in completed("--")


def test_ctl_says_what_is_wrong_with_its_target(w):
    n, port = node(w)
    code, out, err = run(w, "-H", "unix:%s/nothing.sock" % n.dir, "status")
    assert code == 69 and out == "" and "is bilrostd running" in err and err.count("\n") == 1, err
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        dead = s.getsockname()[1]
    code, _, err = run(w, "-H", "http://127.0.0.1:%d" % dead, "status")
    assert code == 69 and "is bilrostd running" in err, err
    code, _, err = run(w, "-H", "nonsense", "status")
    assert code == 64 and "a target is" in err, err
    code, _, err = run(w, "-H", "unix:" + n.conf, "status")  # a file that is no socket
    assert code == 69 and "is bilrostd running" in err, err
    # another service: the MQTT port closes what is no MQTT
    code, _, err = run(w, "-H", "http://127.0.0.1:%d" % n.port, "status")
    assert code == 76 and "another service" in err and err.count("\n") == 1, (code, err)
    # HTTPS to a plain port
    code, _, err = run(w, "-H", "https://127.0.0.1:%d" % port, "status")
    assert code in (69, 76) and err.count("\n") == 1, (code, err)
    # an older node does not know the path
    old = socket.socket()
    old.bind(("127.0.0.1", 0))
    old.listen(1)

    def answer():
        s, _ = old.accept()
        s.recv(65536)
        s.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 23\r\n\r\nno such path and method")
        s.close()
    t = threading.Thread(target=answer)
    t.start()
    code, _, err = run(w, "-H", "http://127.0.0.1:%d" % old.getsockname()[1], "sub")
    t.join()
    old.close()
    assert code == 76 and "older" in err, err
    # a node that was killed leaves its socket behind
    n.kill()
    code, _, err = ctl(w, n, "status")
    assert code == 69 and "is bilrostd running" in err, err


def test_ctl_speaks_tls_to_whom_it_trusts(w):
    n = w.node()
    crt, key = n.certificate()
    port = with_api(n, 'enableSSL = true; sslConfig: { certFile = "%s"; keyFile = "%s"; };' % (crt, key))
    n.start()
    api = "https://127.0.0.1:%d" % port
    again(lambda: same(run(w, "-H", api, "--ca", crt, "-t", READ, "status")[0], 0))
    code, _, err = run(w, "-H", api, "--ca", crt, "status")
    assert code == 77 and "a token is needed" in err, (code, err)
    code, out, err = run(w, "-H", api, "-t", READ, "status")  # nobody vouches for it
    assert code == 76 and out == "" and err.count("\n") == 1 and "--ca FILE" in err, (code, err)
    code, _, err = run(w, "-H", "http" + api[5:], "-t", READ, "status")
    assert code in (69, 76) and err.count("\n") == 1, (code, err)


def test_ctl_steers_a_cluster(w):
    nodes, ports = cluster_with_api(w, 3)
    for p in ports:
        again(lambda: members_full(p, 3), within=60)

    def well():
        out = done(ctl(w, nodes[0], "status"))
        assert ": 3 of 3 nodes are ready" in out and "0 under-replicated, 0 without quorum" in out, out
    again(well, within=60)
    members = json.loads(done(ctl(w, nodes[0], "cluster", "--json")))["nodes"]
    assert [line.split()[0] for line in done(ctl(w, nodes[1], "cluster")).splitlines()[3:]] == [m["id"] for m in members]
    assert "not protected" in done(ctl(w, nodes[0], "cluster", "keyring"))
    # a node is named by how its id begins, as the screen shows it
    brief = members[1]["id"][:8]

    def served():
        return done(ctl(w, nodes[2], "service", "landscape", "mqtt.broker")).splitlines()[1:]
    again(lambda: same(sorted(line.split()[0] for line in served()), sorted(m["id"] for m in members)), within=60)
    assert done(ctl(w, nodes[2], "drain", "list")) == "all nodes are in service\n"
    assert done(ctl(w, nodes[2], "drain", brief)) == "OK\n"
    again(lambda: same([x.split() for x in done(ctl(w, nodes[0], "drain", "list")).splitlines()[1:]],
                       [[members[1]["id"], "drain", "yes", "0", "0", "3"]]),
          within=60)
    again(lambda: same("out of service" in ctl(w, nodes[0], "status")[1], True), within=60)
    assert "-> put it back when its work is done: bilrostctl undrain " + members[1]["id"] in ctl(w, nodes[0], "status")[1]
    assert done(ctl(w, nodes[2], "undrain", brief)) == "OK\n"
    assert "just one begins" in ctl(w, nodes[0], "drain", "abc")[2] and ctl(w, nodes[0], "drain", "abc")[0] == 1
    again(lambda: same("no alarms" in ctl(w, nodes[0], "status")[1], True), within=60)
    assert ctl(w, nodes[0], "cluster", "keyring-add", "00" * 32) == (
        1, "", "bilrostctl: this cluster runs without keys: the first one needs a restart of all nodes\n")
    assert ctl(w, nodes[0], "cluster", "keyring-add", "xyz")[0] == 1
    r = json.loads(done(ctl(w, nodes[0], "--json", "range", "retain.store")))[0]
    other = next(m["id"] for m in members if m["id"] != r["leader"])
    assert len(done(ctl(w, nodes[0], "range", "retain.store")).splitlines()) == 2
    every = [line.split()[:2] for line in done(ctl(w, nodes[1], "range")).splitlines()]
    assert every[0] == ["STORE", "RANGE"] and ["retain.store", r["id"]] in every and len(every) == 4, every
    again(lambda: same(ctl(w, nodes[0], "range", "transfer", "retain.store", r["id"], other)[:2], (0, "OK\n")))
    again(lambda: same(json.loads(done(ctl(w, nodes[0], "--json", "range", "retain.store")))[0]["leader"], other))
    code, _, err = ctl(w, nodes[0], "range", "config", "retain.store", r["id"], ",".join(m["id"] for m in members[:2]))
    assert code == 1 and "must be odd" in err, err
    assert ctl(w, nodes[0], "store", "recover", "retain.store", r["id"])[0] == 64
    assert done(ctl(w, nodes[0], "service", "traffic-set", "inbox.server", '{"acme":{"fast":3}}')) == "OK\n"
    again(lambda: same("fast: 3" in done(ctl(w, nodes[2], "service", "traffic", "inbox.server")), True))
    assert ctl(w, nodes[0], "service", "traffic-set", "inbox.server", "{")[0] == 1
    assert ctl(w, nodes[0], "cluster", "forget", other) == (
        1, "", "bilrostctl: only a dead member can be forgotten: stop it first\n")
    nodes[2].kill()
    code, out, _ = again(lambda: critical(ctl(w, nodes[0], "status")), within=60)
    gone = json.loads(done(ctl(w, nodes[0], "cluster", "--json")))
    dead = next(m["id"] for m in gone["nodes"] if m["state"] == "dead")
    assert "bilrostctl cluster forget " + dead in out, out
    assert done(ctl(w, nodes[0], "cluster", "forget", dead)) == "OK\n"
    again(lambda: same("is dead" in ctl(w, nodes[0], "status")[1], False))


def critical(answer):
    assert answer[0] == 1 and "is dead" in answer[1], answer
    return answer
