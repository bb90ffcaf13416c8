"""What bilrost-setup does, and what it does with what is wrong.  SPDX-License-Identifier: Apache-2.0"""
import os
import re
import socket
import ssl
import subprocess
import time

from mqtt import Client, Closed
from run import BROKER, SETUP, TOP, answers, free_port, until

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"


def seeds_of(h):
    return re.search(r"seedEndpoints = \[(.*)\]", h.read("conf.d/50-cluster.conf")).group(1).replace('"', "").split(", ")


def test_three_commands_make_a_cluster(w):
    h = [w.host("n%d" % i) for i in (1, 2, 3)]
    line = h[0].init("--env", "Three", "--user", "u", "--password-file", "-", stdin="secret\n")
    h[0].start()
    for n in h[1:]:
        r = n.join(line)
        assert r.returncode == 0, r.said
        n.start()
    for n in h:
        until(n.ready, "%s is not ready" % n.name)
    # the one who was there before the third learns of it
    until(lambda: h[1].setup("sync").returncode == 0 and len(seeds_of(h[1])) == 3, "sync does not find the third")
    assert seeds_of(h[0]) == seeds_of(h[1]) == seeds_of(h[2]) == ["127.0.0.1:%d" % n.gossip for n in h]
    # a message goes from the first to the last
    sub, pub = Client(h[2].mqtt, 5), Client(h[0].mqtt, 5)
    sub.connect("s")
    pub.connect("p")
    assert sub.subscribe(("a/b", 1)) == [1]
    until(lambda: pub.publish("a/b", "x", 1) == 0, "nobody is told")
    assert sub.message() == ("a/b", "x")
    for n in h:
        r = n.setup("check")
        assert "ok    service: serves" in r.stdout and r.stdout.count("answers over udp") == 2 and r.stdout.count("(links, tcp) answers") == 3, r.said
    # each has its own certificate with its own name, keys that nobody else may read, and the users of the first
    uuid = w.tool(BROKER, "-c", h[1].etc + "/bilrostd.conf", "--node-id").strip()
    text = w.tool("openssl", "x509", "-in", h[1].etc + "/cluster/node.pem", "-noout", "-text")
    assert "URI:node:%s, DNS:%s" % (uuid, uuid) in text, text
    assert h[1].read("passwords") == h[0].read("passwords") and h[1].read("passwords").startswith("u:")
    for f in ("ca/ca.key", "cluster/node.key", "cluster/gossip.keys", "passwords", "api-tokens"):
        assert os.stat(os.path.join(h[0].etc, f)).st_mode & 0o027 == 0, f
    assert not os.path.exists(h[1].etc + "/ca")
    # one goes: the others do not follow it, and the seeds without it are told
    h[1].processes[-1].terminate()
    h[1].processes[-1].wait(30)
    r = h[1].setup("leave")
    assert r.returncode == 0 and not os.path.exists(h[1].etc + "/conf.d/50-cluster.conf"), r.said
    until(lambda: h[2].setup("sync", "--prune").returncode == 0 and len(seeds_of(h[2])) == 2, "the seeds keep one that left")


def test_a_lost_node_is_forgotten(w):
    """Its certificate and its key open nothing any more; a new host joins with the new key."""
    h = [w.host("n%d" % i) for i in (1, 2)]
    line = h[0].init()
    h[0].start()
    r = h[1].join(line)
    assert r.returncode == 0, r.said
    h[1].start()
    lost, uuid = "127.0.0.1:%d" % h[1].gossip, w.tool(BROKER, "-c", h[1].etc + "/bilrostd.conf", "--node-id").strip()

    def state():
        return next((m["state"] for m in h[0].members() if m["id"] == uuid), None)
    until(lambda: state() == "alive", "it does not join")
    h[0].refused(78, "is (alive|suspect): bilrost-setup leave on that host first", "forget", lost)
    h[0].refused(64, "there is no node 10.9.9.9", "forget", "10.9.9.9")
    h[0].refused(64, "127.0.0.1 is more than one node", "forget", "127.0.0.1")
    h[0].refused(78, "is this host itself", "forget", "127.0.0.1:%d" % h[0].gossip)
    h[0].refused(64, "forget needs one node", "forget")
    h[1].refused(78, "key of the cluster's CA is not on this host", "forget", lost)
    h[1].processes[-1].kill()
    until(lambda: state() == "dead", "its death is not noticed")
    old = h[0].read("cluster/gossip.keys")
    r = h[0].setup("forget", lost)
    assert r.returncode == 0 and "is no node any more" in r.said, r.said
    assert h[0].read("cluster/gossip.keys") != old and lost not in h[0].read("conf.d/50-cluster.conf")
    # started again, with the certificate and the key that it had, it meets nobody
    h[1].start()
    until(lambda: "refused us: it has the keys number" in open(h[1].root + "/log").read(), "it is not told that its key is an old one")
    assert state() in ("left", None), h[0].members()
    new, line = w.host("n3"), h[0].setup("token").stdout.split()[2]
    r = new.join(line)
    assert r.returncode == 0, r.said
    new.start()
    until(lambda: len([m for m in h[0].members() if m["state"] == "alive"]) == 2, "a new one does not come in")


def test_password_is_asked_for(w):
    h = w.host("n1")
    r = h.setup("init", *h.place(), "--user", "u", "--password-file", "-", stdin="secret\n")
    assert r.returncode == 0 and "secret" not in r.said, r.said
    text = h.read("bilrostd.conf").replace('auth = ["anonymous"]', 'auth = ["password"]')
    h.write("bilrostd.conf", text)
    h.start()
    c = Client(h.mqtt, 5)
    c.connect("x", user="u", password="secret")
    c = Client(h.mqtt, 5)
    try:
        c.connect("y", user="u", password="wrong")
        raise RuntimeError("a wrong password is let in")
    except (AssertionError, Closed):
        pass


def test_dry_run_writes_nothing(w):
    h = w.host("n1")
    for argv in (("init", *h.place()), ("expose", "--self-signed", "--name", "h")):
        before = h.files()
        r = h.setup(*argv, "--dry-run")
        assert r.returncode == 0 and "makes     " in r.said and h.files() == before, r.said
    assert not os.path.exists(h.root + "/var/lib/bilrost")
    line = h.init()
    other = w.host("n2")
    before = other.files()
    r = other.join(line, "--dry-run")
    assert r.returncode == 0 and other.files() == before and not os.path.exists(other.root + "/var/lib/bilrost"), r.said


def test_init_twice(w):
    h = w.host("n1")
    h.init(serve=False)
    before = h.files()
    r = h.setup("init", *h.place())
    assert r.returncode == 0 and "already: nothing was changed" in r.said and h.files() == before, r.said
    h.refused(78, 'node of the cluster "Prod" already, not of "Other": bilrost-setup leave', "init", *h.place(), "--env", "Other")


def test_what_the_user_wrote_stays(w):
    h = w.host("n1")
    h.write("conf.d/90-own.conf", "drain_seconds = 3;\nclusterConfig: { env = \"Mine\"; };\n")
    h.write("passwords-of-mine", "")
    before = {k: v for k, v in h.files().items()}
    h.init(serve=False)
    after = h.files()
    assert all(after[k] == v for k, v in before.items())
    dump = w.tool(BROKER, "-c", h.etc + "/bilrostd.conf", "--dump-config")
    assert 'env = "Mine"' in dump and "drain_seconds = 3" in dump
    r = h.setup("reset", "--force")
    assert r.returncode == 0, r.said
    kept = {k: v for k, v in h.files().items() if "/removed-" not in k}
    assert sorted(set(kept) ^ set(before)) == ["etc/bilrost/api-tokens", "etc/bilrost/passwords"]
    assert any(k.endswith("ca/ca.key") for k in h.files())  # a copy is kept


def test_leave_that_fails_changes_nothing(w):
    h = w.host("n1")
    h.init(serve=False)
    env = w.shim("mv", 'case "$*" in *removed-*cluster) exit 1 ;; esac\nexec /bin/mv "$@"\n')
    h.refused(73, "cannot move .*/cluster to", "leave", "--force", env=env)
    # that needs what reset takes away
    h.write("conf.d/90-own.conf", 'listeners = ( { name = "x"; address = "127.0.0.1:%d"; auth = ["password"]; } );\n' % free_port())
    h.refused(78, "what would be left of the configuration has a mistake: .*auth.password_file is not set", "reset", "--force")
    os.remove(h.etc + "/conf.d/90-own.conf")
    assert h.setup("leave", "--force").returncode == 0 and not os.path.exists(h.etc + "/cluster")


# ---- bad input of join ----


def test_tokens(w):
    h, n = w.host("n1"), w.host("n2")
    line = h.init("--uses", 1)
    at, token, pin, expires = line.split("/")
    wrong = "/".join((at, token[:-1] + ("0" if token[-1] != "0" else "1"), pin, expires))
    n.refused(77, "127.0.0.1 refuses: the token is not one of this cluster's.*bilrost-setup token", "join", wrong, *n.place())
    n.refused(77, "does not show the certificate that the join line names", "join", "/".join((at, token, "0" * 64, expires)), *n.place())
    n.refused(77, "this join line expired at .*bilrost-setup token", "join", "/".join((at, token, pin, "1000")), *n.place())
    n.refused(64, "join needs the whole line", "join", at + "/" + token, *n.place())
    n.refused(64, "join needs the whole line", "join", *n.place())
    n.refused(78, 'this is the cluster "Prod", not "Test"', "join", line, *n.place(), "--env", "Test")
    n.refused(78, "is the first host itself", "join", line, *h.place()[:5], "--rpc-port", n.rpc)
    r = n.join(line)
    assert r.returncode == 0, r.said
    # the same host again: a new certificate, nothing else
    before, cert = n.files(), n.read("cluster/node.pem")
    r = n.join(line)
    changed = [k for k, v in n.files().items() if before.get(k) != v]
    assert r.returncode == 0 and sorted(os.path.basename(k) for k in changed) == ["node.key", "node.pem"], (r.said, changed)
    assert cert != n.read("cluster/node.pem")
    assert int(re.search(r"expires (\d+)", h.read("ca/tokens/" + token[:8])).group(1)) <= time.time() + 600  # used up: soon over
    third = w.host("n3")
    third.refused(78, r"used by as many hosts as it was made for \(1\)", "join", line, *third.place())
    r = h.setup("token", "--valid", 3600)
    assert r.returncode == 0 and third.join(r.stdout.split()[2]).returncode == 0


def test_expired_on_the_first_host(w):
    h, n = w.host("n1"), w.host("n2")
    line = h.init("--valid", 1, serve=False)
    assert h.setup("token", "--valid", 3600).returncode == 0
    h.serve()
    until(lambda: time.time() > int(line.split("/")[3]) + 0.1, "time stands still")
    later = "/".join(line.split("/")[:3] + [str(int(time.time()) + 600)])
    n.refused(77, "refuses: the token has expired; bilrost-setup token", "join", later, *n.place())


def test_enrolment_ends_with_the_last_token(w):
    h = w.host("n1")
    h.init("--valid", 3, serve=False)
    p = h.serve()
    assert p.wait(20) == 0


def test_wrong_clock(w):
    h, n = w.host("n1"), w.host("n2")
    line = h.init()
    for offset, says in ((-3600, "3[56]... s behind that of the first host"), (3600, "3[56].. s ahead of that of the first host|3600 s ahead")):
        env = w.shim("date", 'if [ "$*" = +%%s ]; then echo $(($(/bin/date +%%s) + %d)); else exec /bin/date "$@"; fi\n' % offset)
        n.refused(78, "your clock is .* that of the first host: set it", "join", line, *n.place(), env=env)


def test_unreachable_peer(w):
    h, n = w.host("n1"), w.host("n2")
    line = h.init(serve=False)
    n.refused(69, "nobody answers at 127.0.0.1:%d.*bilrost-setup token.*tcp port %d open" % (h.enrol, h.enrol), "join", line, *n.place())


def test_ports_taken(w):
    h = w.host("n1")
    for kind, name, option in ((socket.SOCK_DGRAM, "udp", "port"), (socket.SOCK_STREAM, "tcp", "rpc-port"), (socket.SOCK_STREAM, "tcp", "enrol-port")):
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                s.listen()
            port = s.getsockname()[1]
            h.refused(69, r"port %d \(%s\) is taken( by \S+)?: stop what listens there, or choose another with --%s" % (port, name, option),
                      "init", *h.place(), "--" + option, port)


def test_addresses(w):
    h = w.host("n1")
    h.refused(69, "localhost is (127.0.0.1|::1), which no other host reaches: give the address", "init", "--host", "localhost")
    h.refused(69, "which no other host reaches", "init", "--host", "127.0.1.1")
    h.refused(69, "192.0.2.77 is not an address of this host", "init", "--host", "192.0.2.77")
    h.refused(69, "the name no-such-host.invalid has no address", "init", "--host", "no-such-host.invalid")


def test_wrong_usage(w):
    h = w.host("n1")
    h.refused(64, "unknown option --prot", "init", "--prot", "1")
    h.refused(64, "--port needs a value", "init", "--port")
    h.refused(64, '--port is "x", but must be a number', "init", "--port", "x")
    h.refused(64, "a port is at most 65535", "init", "--port", "70000")
    h.refused(64, '--env is "a b"', "init", "--env", "a b")
    h.refused(64, "unknown command inti", "inti")


def test_a_mistake_made_by_hand(w):
    h = w.host("n1")
    h.write("conf.d/10-own.conf", "\nclusterConfig: { prot = 1; };\n")
    says = r'has a mistake already, correct it first: .*10-own.conf:2: unknown key "clusterConfig.prot"; did you mean "clusterConfig.port"'
    h.refused(78, says, "init", *h.place())
    h.refused(78, says, "expose", "--self-signed", "--name", "x")
    r = h.setup("check")
    assert r.returncode == 1 and "BAD   configuration: " in r.stdout and "10-own.conf:2" in r.stdout
    h.write("conf.d/10-own.conf", "")
    # one that only bites together with what setup writes is found before anything stays
    h.write("conf.d/10-own.conf", 'rpcConfig: { enableSSL = false; };\n')
    h.write("conf.d/99-own.conf", 'rpcConfig: { sslConfig: { certFile = ""; }; };\n')
    r = h.refused(78, "with these changes the configuration has a mistake: .*rpcConfig.enableSSL needs", "init", *h.place())
    assert "the files are as they were before" in r.said


def test_a_cluster_made_by_hand(w):
    h = w.host("n1")
    h.write("conf.d/10-own.conf", 'clusterConfig: { enable = true; env = "x"; };\n')
    h.refused(78, "written by hand", "init", *h.place())


def test_interrupted(w):
    """Killed in the middle of the renames: the next run takes back what was done."""
    h = w.host("n1")
    before = h.files()
    count = os.path.join(w.dir, "count")
    env = w.shim("mv", 'echo x >>%s\n[ $(wc -l <%s) -lt 20 ] || { up=$(awk "/^PPid/ {print \\$2}" /proc/$PPID/status); '
                 'grep -q bilrost-setup /proc/$up/cmdline && kill -9 $up; kill -9 $PPID; exit 1; }\nexec /bin/mv "$@"\n' % (count, count))
    r = h.setup("init", *h.place(), env=env)
    assert r.returncode == -9, r.said
    assert any("/ca/ca.key" in k or "50-cluster" in k for k in h.files()), "it was killed too early to show anything"
    assert os.path.exists(h.etc + "/.setup/committing")
    r = h.setup("check")
    assert r.returncode == 1 and "did not get to its end" in r.stdout
    r = h.setup("init", "--dry-run", *h.place())
    h.refused(64, "expose needs one of", "expose")
    r = h.setup("expose", "--self-signed", "--name", "x", "--cert", "y")
    r = h.setup("reset")
    assert "its changes are taken back" in r.said
    after = {k: v for k, v in h.files().items()}
    assert after == before, sorted(set(after) ^ set(before))
    assert h.setup("init", *h.place()).returncode == 0


def test_two_at_once(w):
    h = w.host("n1")
    with open(h.etc + "/.setup.lock", "w") as f:
        import fcntl
        fcntl.flock(f, fcntl.LOCK_EX)
        h.refused(75, "another bilrost-setup is at work", "init", *h.place())


def mounted(w, h, options, then):
    """Runs `then` where etc/bilrost is a file system of its own, in a mount namespace."""
    script = ('set -e; cp -a "$1" "$1.copy"; mount -t tmpfs -o %s none "$1"; cp -a "$1.copy"/. "$1"; %s; shift; exec "$@"'
              % (options, then))
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        raise w.skip("needs the right to mount")
    r = subprocess.run(["unshare", "-m", "bash", "-c", script + "; true", "_", h.etc, SETUP, "init", "--root", h.root, *map(str, h.place())],
                       capture_output=True, text=True, timeout=60, check=False)
    return r


def test_read_only_etc(w):
    h = w.host("n1")
    r = mounted(w, h, "size=4m", 'mount -o remount,ro "$1"')
    assert r.returncode == 73 and "is read-only: mount it read-write" in r.stderr, r.stderr
    assert len([s for s in r.stderr.splitlines() if s.startswith("bilrost-setup: ")]) == 1, r.stderr


def test_no_space(w):
    h = w.host("n1")
    listing = os.path.join(w.dir, "left")
    for pages in range(2, 40, 12):  # it runs out at different points
        for d in ("copy",):
            subprocess.run(["rm", "-rf", h.etc + "." + d], check=True)
        r = mounted(w, h, "size=256k", 'head -c $((256 * 1024 - 4096 * %d)) /dev/zero >"$1/fill" 2>/dev/null || true; '
                    'find "$1" -type f | sort >%s; trap "" TERM; d=$1; shift; "$@" || code=$?; find "$d" -type f ! -name .setup.lock | sort >%s.after; exit ${code:-0}; set --'
                    % (pages, listing, listing))
        if r.returncode == 0:
            break
        assert r.returncode == 73 and "no space left" in r.stderr, "%d pages: %d %s" % (pages, r.returncode, r.stderr)
        assert open(listing).read() == open(listing + ".after").read(), "%d pages: %s" % (pages, open(listing + ".after").read())
    assert pages > 2


# ---- expose ----


def tls(port, cafile, name="localhost"):
    context = ssl.create_default_context(cafile=cafile)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        with context.wrap_socket(raw, server_hostname=name) as s:
            s.sendall(CONNECT)
            return s.recv(4)


def test_expose_self_signed(w):
    h = w.host("n1")
    port, wss = free_port(), free_port()
    at = ("--bind", "127.0.0.1", "--tls-port", port, "--wss-port", wss)
    r = h.setup("expose", "--self-signed", "--name", "localhost", *at)
    assert r.returncode == 0 and re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", r.said), r.said
    h.start()
    assert tls(port, h.etc + "/tls/server.pem") == b"\x20\x02\x00\x05"  # over the network nobody is let in without a password
    assert answers(wss) and Client(h.mqtt).connect("x")  # and what was open stays open
    before = h.files()
    r = h.setup("expose", "--self-signed", *at)
    assert r.returncode == 0 and h.files() == before, r.said


def test_expose_own_certificate(w):
    h = w.host("n1")
    crt, key, other = (os.path.join(w.dir, f) for f in ("c.pem", "k.pem", "o.pem"))
    for c, k in ((crt, key), (os.path.join(w.dir, "x.pem"), other)):
        w.tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", k, "-out", c,
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    port = free_port()
    at = ("--bind", "127.0.0.1", "--tls-port", port, "--wss-port", 0)
    h.refused(78, "o.pem is not that of the certificate", "expose", "--cert", crt, "--key", other, *at)
    h.refused(78, "cannot read the certificate /none", "expose", "--cert", "/none", "--key", key, *at)
    h.refused(78, "is no certificate in PEM form", "expose", "--cert", key, "--key", key, *at)
    h.refused(64, "--cert and --key belong together", "expose", "--cert", crt, *at)
    h.refused(64, "expose needs one of", "expose", *at)
    h.refused(78, "no /etc/letsencrypt/live/h.example: certbot", "expose", "--acme", "h.example", *at)
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        h.refused(69, r"port %d \(tcp\) is taken" % port, "expose", "--cert", crt, "--key", key, *at)
    assert h.setup("expose", "--cert", crt, "--key", key, *at).returncode == 0
    h.start()
    assert tls(port, crt) == b"\x20\x02\x00\x05"
    # certbot's files, and the hook that brings renewed ones
    live = h.root + "/etc/letsencrypt/live/h.example"
    os.makedirs(live)
    w.tool("cp", crt, live + "/fullchain.pem")
    w.tool("cp", key, live + "/privkey.pem")
    assert h.setup("expose", "--acme", "h.example", *at).returncode == 0
    hook = h.root + "/etc/letsencrypt/renewal-hooks/deploy/bilrost"
    assert os.access(hook, os.X_OK) and "expose --acme h.example" in open(hook).read()


# ---- the files we ship ----


def test_examples_are_good(w):
    h = w.host("n1")
    crt, key = os.path.join(h.etc, "cluster/node.pem"), os.path.join(h.etc, "cluster/node.key")
    for d in ("cluster", "tls"):
        os.makedirs(os.path.join(h.etc, d))
    w.tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", crt,
           "-days", "2", "-subj", "/CN=x")
    for f in ("cluster/ca.pem", "tls/server.pem"):
        w.tool("cp", crt, os.path.join(h.etc, f))
    w.tool("cp", key, h.etc + "/tls/server.key")
    h.write("cluster/gossip.keys", "ab" * 32 + "\n")
    h.write("passwords", "")
    h.write("acl", "")
    h.write("api-tokens", "admin " + "x" * 32 + "\n")
    seen = set()
    for i in (1, 2, 3):
        with open(os.path.join(TOP, "etc/examples/prod-3-nodes/node%d.conf" % i)) as f:
            text = f.read().replace("/etc/bilrost/", h.etc + "/")
        h.write("node%d/node.conf" % i, text)
        r = subprocess.run([BROKER, "-c", h.etc + "/node%d/node.conf" % i, "--test-config"], capture_output=True, text=True, check=False)
        assert r.returncode == 0, r.stderr
        seen.add(text.replace("10.0.0.1%d" % i, "10.0.0.1N").replace("Node %d" % i, "Node N"))
        dump = w.tool(BROKER, "-c", h.etc + "/node%d/node.conf" % i, "--dump-config")
        for want in ('env = "Prod"', 'host = "10.0.0.1%d"' % i, "10.0.0.11:8899", "10.0.0.12:8899", "10.0.0.13:8899", "voter_count = 3"):
            assert want in dump, want
    h.write("x/bilrostd.conf", open(os.path.join(TOP, "etc/bilrostd.conf")).read())
    w.tool(BROKER, "-c", h.etc + "/x/bilrostd.conf", "--test-config")
    assert 'address = "*' not in h.read("x/bilrostd.conf")


def test_help_names_every_option(w):
    text = w.tool(SETUP, "--help")
    source = open(SETUP).read()
    source = source[source.index("while [ $# -gt 0 ]"):source.index("    -*) fail 64")].replace("\\\n", " ")
    options = set(re.findall(r"(--[a-z-]+)(?= *[|)])", source))
    assert len(options) > 20
    for option in options:
        assert option in text, option
