"""Real nodes whose network is cut, whose process sleeps, dies and comes back.  SPDX-License-Identifier: Apache-2.0

Those with a network of their own need root and network namespaces; without them they are skipped."""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

from basic_cases import topic
from cluster_cases import acked, again
from mqtt import Client

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "../../scripts/virtualcluster")


class Nodes:
    """A throw-away cluster of scripts/virtualcluster."""

    def __init__(self, w, count=3, netns=False):
        if w.args.port:
            raise w.skip("needs nodes of its own")
        self.w, self.count, self.netns = w, count, netns
        self.dir = tempfile.mkdtemp(prefix="bilrost-vc-")
        self.env = dict(os.environ, BILROSTD=os.path.abspath(w.args.broker), EXTRA_CONF="drain_seconds = 2;")

    def __enter__(self):
        if self.netns:
            self.need_namespaces()
        lines = self.run("up", "-n", str(self.count), *(["--netns"] if self.netns else []))
        self.mqtt, self.api = {}, {}
        for i, mqtt, api in re.findall(r"^n(\d+) pid=\d+ mqtt=(\S+) api=(\S+)", lines, re.M):
            self.mqtt[int(i)], self.api[int(i)] = mqtt, api
        assert len(self.mqtt) == self.count, lines
        return self

    def __exit__(self, *_):
        subprocess.run([SCRIPT, "down", "-d", self.dir], env=self.env, capture_output=True, timeout=60, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def need_namespaces(self):
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise self.w.skip("needs root and ip")
        name = "bvprobe%d" % os.getpid()
        ok = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        if not ok:
            raise self.w.skip("network namespaces are not allowed here")

    def run(self, command, *argv):
        r = subprocess.run([SCRIPT, command, "-d", self.dir, *argv], env=self.env, capture_output=True, text=True,
                           timeout=120, check=False)
        assert r.returncode == 0, "%s: %s%s" % (command, r.stdout, r.stderr)
        return r.stdout

    def home(self, i):
        return os.path.join(self.dir, "n%d" % i)

    def log(self, i):
        with open(os.path.join(self.home(i), "log")) as f:
            return f.read()

    def count_of(self, i, text):
        return self.log(i).count(text)

    def until(self, what, within, done):
        """within: seconds on a machine with nothing else to do; here it may be much slower."""
        end = time.monotonic() + 6 * within
        while not done():
            assert time.monotonic() < end, "%s: not within %s s\n%s" % (
                what, 6 * within, "\n".join("n%d: %s" % (i, self.log(i)[-1500:]) for i in self.mqtt))
            time.sleep(0.05)

    def live(self, i):
        """How many members node i counts as alive; -1 when it does not answer."""
        try:
            with urllib.request.urlopen("http://%s/metrics" % self.api[i], timeout=30) as r:
                m = re.search(r"^bilrost_cluster_live_members (\d+)", r.read().decode(), re.M)
                return int(m.group(1))
        except OSError:
            return -1

    def until_live(self, want, nodes, within):
        self.until("%d members" % want, within, lambda: all(self.live(i) == want for i in nodes))

    def client(self, i, cid="", **kw):
        host, port = self.mqtt[i].split(":")

        def once():
            c = Client(int(port), 5, host=host)
            c.connect(cid, **kw)
            return c
        return again(once)

    def namespace(self, i, *argv):
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
        tag = "bv%s" % subprocess.run("printf %%s '%s' | cksum | cut -c1-5" % self.dir, shell=True, capture_output=True,
                                      text=True, check=True).stdout.strip()
        assert "%s-%d" % (tag, i) in names, names
        return subprocess.run(["ip", "netns", "exec", "%s-%d" % (tag, i), *argv], capture_output=True, text=True, check=True)


def test_a_throw_away_cluster_obeys_and_ends_only_what_it_started(w):
    with Nodes(w, 2) as n:
        def status():
            return n.run("status").splitlines()

        def fails(says, *argv):
            r = subprocess.run([SCRIPT, *argv, "-d", n.dir], env=n.env, capture_output=True, text=True, timeout=60, check=False)
            assert r.returncode != 0 and says in r.stderr, (argv, r)

        def pid_of(i):
            with open(os.path.join(n.home(i), "pid")) as f:
                return f.read().strip()
        line = "n1 pid=%s mqtt=%s api=%s running" % (pid_of(1), n.mqtt[1], n.api[1])
        assert status()[0] == line and len(status()) == 2, (line, status())
        fails("has a cluster", "up")
        fails("there is no n7", "kill", "7")
        fails("needs a node number", "stop")
        fails("made with up --netns", "cut", "1")
        fails("n1 runs", "wipe", "1")
        out = subprocess.run([SCRIPT, "exec", "-d", n.dir, "--", "sh", "-c", "echo $NODES $MQTT_1 $API_2"], env=n.env,
                             capture_output=True, text=True, timeout=60, check=True).stdout.split()
        assert out == ["2", n.mqtt[1], n.api[2]], out
        n.run("pause", "2")
        assert status()[1].endswith(" paused"), status()
        n.run("resume", "2")
        assert status()[1].endswith(" running"), status()
        old = pid_of(2)
        n.run("kill", "2")
        assert status()[1] == "n2 stopped mqtt=%s api=%s" % (n.mqtt[2], n.api[2]), status()
        n.run("start", "2")
        assert pid_of(2) != old and status()[1].endswith(" running"), status()
        assert "runs already" in n.run("start", "2")
        n.run("stop", "2")
        # the process whose number is in the file is not ours: nothing reaches it
        with subprocess.Popen(["sleep", "600"]) as other:
            with open(os.path.join(n.home(2), "pid"), "w") as f:
                f.write("%d\n" % other.pid)
            fails("n2 does not run", "kill", "2")
            one = int(pid_of(1))
            n.run("down")
            assert other.poll() is None
            other.kill()
        assert not os.path.exists(n.dir)
        assert not os.path.exists("/proc/%d" % one) or open("/proc/%d/stat" % one).read().split(")")[1].split()[0] == "Z"


def test_a_node_that_is_cut_off_dies_and_comes_back(w):
    with Nodes(w, netns=True) as n:
        n.until_live(3, (1, 2, 3), 10)
        t = topic("cut")
        s, p = n.client(2), n.client(1)
        again(lambda: s.subscribe((t, 1)))
        acked(p, t, "before")
        assert s.message() == (t, "before")
        there = n.client(3)  # stays connected to the node that is cut off
        again(lambda: there.subscribe((t + "/far", 1)))
        acked(p, t + "/far", "before")
        assert there.message() == (t + "/far", "before")
        n.run("cut", "3")
        n.until_live(2, (1, 2), 12)
        n.until("n3 says that it is cut off", 20, lambda: readiness(n, 3)[0] == 503)
        assert re.search("isolated|no leader", readiness(n, 3)[1]), readiness(n, 3)
        for k in range(20):
            acked(p, t, "during %d" % k)
            assert s.message() == (t, "during %d" % k)
        n.until("the lonely one notices too", 12, lambda: n.count_of(3, "is dead") >= 2)
        n.run("heal", "3")
        n.until_live(3, (1, 2, 3), 25)
        late = n.client(3)
        again(lambda: late.subscribe((t, 1)))
        acked(p, t, "after")
        assert late.message(20) == (t, "after")
        acked(p, t + "/far", "after")  # its subscribers are not forgotten
        assert there.message(20) == (t + "/far", "after")
        for i in (1, 2):  # nobody else died of it
            assert n.count_of(i, "is dead") == 1, n.log(i)


def test_two_networks_at_once_are_strangers(w):
    with Nodes(w, 2, netns=True) as a, Nodes(w, 2, netns=True) as b:
        for one, other in ((a, b), (b, a)):
            one.until_live(2, (1, 2), 60)
            assert one.mqtt[1].rsplit(".", 1)[0] != other.mqtt[1].rsplit(".", 1)[0]
            other.client(1).disconnect()


def test_datagrams_are_blocked_and_streams_are_not(w):
    if shutil.which("nft") is None:
        raise w.skip("needs nft")
    with Nodes(w, netns=True) as n:
        n.until_live(3, (1, 2, 3), 10)
        n.namespace(2, "nft", "add table inet t; add chain inet t i { type filter hook input priority 0; };"
                    "add rule inet t i meta l4proto udp drop; add chain inet t o { type filter hook output priority 0; };"
                    "add rule inet t o meta l4proto udp drop")
        end = time.monotonic() + 15
        while time.monotonic() < end:
            assert all(n.live(i) == 3 for i in (1, 2, 3))
            time.sleep(0.2)
        for i in (1, 2, 3):
            assert n.count_of(i, "is dead") == 0, n.log(i)
        n.until("an operator is told", 60, lambda: all(n.count_of(i, "answers over TCP and never over UDP") for i in (1, 2, 3)))


def test_a_process_that_slept_comes_back_as_itself(w):
    with Nodes(w) as n:
        n.until_live(3, (1, 2, 3), 10)
        n.run("pause", "3")
        n.until_live(2, (1, 2), 12)
        n.run("resume", "3")
        n.until_live(3, (1, 2, 3), 5)
        assert n.count_of(3, "cluster.stalled") >= 1, n.log(3)
        assert n.count_of(3, "is dead") == 0, n.log(3)  # it was itself that slept


def test_leaving_is_known_at_once(w):
    with Nodes(w) as n:
        n.until_live(3, (1, 2, 3), 10)
        n.run("stop", "3")
        n.until_live(2, (1, 2), 2)
        for i in (1, 2):
            assert n.count_of(i, "has left") == 1 and n.count_of(i, "does not answer") == 0, n.log(i)


def test_restarts_of_one_node(w):
    with Nodes(w) as n:
        n.until_live(3, (1, 2, 3), 10)
        for i in (3, 1):  # the second one is the seed of the others, and has no seeds itself
            others = [k for k in (1, 2, 3) if k != i]
            was = {k: n.count_of(k, "is alive") for k in others}
            n.run("kill", str(i))
            n.run("start", str(i))
            n.until("the new life of n%d is known" % i, 10, lambda: all(n.count_of(k, "is alive") > was[k] for k in others))
            n.until_live(3, (1, 2, 3), 10)
        # a new identity at the address of the old one: the old one is dead at once
        n.run("kill", "2")
        shutil.rmtree(os.path.join(n.home(2), "data"))
        was = {k: n.count_of(k, "is dead") for k in (1, 3)}
        n.run("start", "2")
        n.until("the old identity is dead", 4, lambda: all(n.count_of(k, "is dead") > was[k] for k in (1, 3)))
        n.until_live(3, (1, 2, 3), 5)


def said_by(n, i, path, method="GET", **headers):
    """Status and text of what the admin API of node i says."""
    return said_at(n.home(i), path, method, **headers)


def said_at(home, path, method="GET", **headers):
    """Of the node with its files there, over its socket, which no cut of its network reaches."""
    c = http.client.HTTPConnection("localhost", timeout=10)
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.settimeout(10)
    c.sock.connect(os.path.join(home, "api.sock"))
    c.request(method, path, headers=headers)
    r = c.getresponse()
    said = r.read().decode()
    c.close()
    return r.status, said


def asked(n, i, path, method="GET", **headers):
    status, said = said_by(n, i, path, method, **headers)
    assert status == 200, (path, status, said)
    return json.loads(said) if method == "GET" else None


def expect(ok):
    assert ok


def members_of(n, i):
    """What node i says of each member: uuid to its facts, and its own uuid."""
    said = asked(n, i, "/cluster")
    return {m["id"]: m for m in said["nodes"]}, said["local"]


def readiness(n, i):
    return said_by(n, i, "/readyz")


def test_a_full_disk_is_told(w):
    """The node with the full disk stays a member, says what is wrong, and leads nothing; then there is space again."""
    with Nodes(w) as n:
        data = os.path.join(n.home(3), "data")
        n.until_live(3, (1, 2, 3), 10)
        n.run("stop", "3")
        kept = data + ".kept"
        os.rename(data, kept)
        os.mkdir(data)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", data], capture_output=True,
                          check=False).returncode:
            raise w.skip("may not mount")
        try:
            shutil.copytree(kept, data, dirs_exist_ok=True)
            n.run("start", "3")
            n.until_live(3, (1, 2, 3), 30)
            _, three = members_of(n, 3)
            n.until("n3 is well", 30, lambda: not members_of(n, 1)[0][three]["storageFailed"])

            def ranges():
                return [r for x in ("dist.worker", "inbox.store", "retain.store")
                        for r in asked(n, 1, "/store/ranges", store_name=x)]

            def leads():
                found = ranges()
                assert found
                r = found[0]
                if r.get("leader") != three:
                    asked(n, 1, "/store/range/transfer", "PUT", store_name=r["store"], range_id=r["id"], node_id=three)
                return r.get("leader") == three
            again(lambda: expect(leads()))
            filler = os.path.join(data, "filler")
            with open(filler, "wb", buffering=0) as f:
                try:
                    while f.write(b"x" * 65536):
                        pass
                except OSError:
                    pass
            # the log has a spare segment: only what is written beyond it meets the full disk
            c = n.client(1)
            t = topic("full")
            keeps = n.client(1, "keeps-full", clean=False)  # what is published reaches every log
            again(lambda: keeps.subscribe((t, 1)))

            def told():
                acked(c, t, "x" * 60000)
                return members_of(n, 1)[0][three]["storageFailed"]
            n.until("n1 hears of the full disk", 60, told)
            n.until("n3 is not ready", 10, lambda: readiness(n, 3)[0] == 503)
            assert "the disk is full" in readiness(n, 3)[1], readiness(n, 3)
            screen = subprocess.run([os.path.join(os.path.dirname(w.args.broker), "bilrostctl"), "-H",
                                     "unix:" + os.path.join(n.home(1), "api.sock"), "status"], capture_output=True, text=True,
                                    check=False).stdout
            assert re.search("warning: node %s is not ready: the disk is full .*\n    -> free space under data_dir" % three, screen), screen
            n.until("n3 leads nothing", 60, lambda: three not in [r.get("leader") for r in ranges()])
            assert members_of(n, 1)[0][three]["state"] in ("alive", "suspect"), members_of(n, 1)
            os.unlink(filler)
            n.until("n3 is well again", 30, lambda: not members_of(n, 1)[0][three]["storageFailed"])
        finally:
            n.run("kill", "3")
            subprocess.run(["umount", data], capture_output=True, check=False)
