"""Clients that people use, through a cluster of three nodes.  SPDX-License-Identifier: Apache-2.0"""
import os
import random
import subprocess
import threading
import time

from basic_cases import topic
from cluster_cases import PATIENCE, acked, connected
from mqtt import Client

LISTEN = """
const mqtt = require('mqtt'), c = mqtt.connect('mqtt://127.0.0.1:%d', {protocolVersion: %d, reconnectPeriod: 0});
c.on('connect', () => c.subscribe('%s', {qos: 2}, (e, g) => console.log(e || g[0].qos > 2 ? 'refused' : 'Subscribed')));
c.on('message', (t, m) => console.log(m.toString()));
c.on('error', e => { console.error(e); process.exit(1); });
"""
SAY = """
const mqtt = require('mqtt'), c = mqtt.connect('mqtt://127.0.0.1:%d', {protocolVersion: %d, reconnectPeriod: 0});
let left = 9;
c.on('connect', () => { for (let i = 0; i < 9; i++) c.publish('%s', 'm' + i, {qos: i %% 3}, () => --left || c.end()); });
c.on('error', e => { console.error(e); process.exit(1); });
"""


class Heard:
    """A client in a process of its own: the lines it says, one when it has subscribed and one for each message."""

    def __init__(self, w, *argv):
        self.lines = []
        self.process = w.spawn("stdbuf", "-oL", *argv)
        threading.Thread(target=self.read, daemon=True).start()
        self.until(lambda: any(x.startswith("Subscribed") for x in self.lines))

    def read(self):
        try:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
        except ValueError:
            pass  # closed at the end of the case

    def until(self, is_true):
        end = time.monotonic() + 2 * PATIENCE
        while not is_true():
            assert time.monotonic() < end, self.lines
            time.sleep(0.02)

    def got(self):
        return [x for x in self.lines if x.startswith("m")]


def mosquitto_sub(w, node, version, qos, flt, *more):
    return Heard(w, "mosquitto_sub", "-p", str(node.port), "-V", version, "-q", qos, "-t", flt, "-d", *more)


def with_mqttjs(w):
    try:
        root = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        path = os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), root]))
        subprocess.run(["node", "-e", "require('mqtt')"], capture_output=True, timeout=60, check=True,
                       env=dict(os.environ, NODE_PATH=path))
    except (OSError, subprocess.SubprocessError):
        raise w.skip("MQTT.js is not installed (npm install -g mqtt)")
    return "NODE_PATH=" + path


def test_mosquitto_clients_on_three_nodes(w):
    """Published on one node, heard on the two others: 3.1.1 and 5.0, every QoS, in order."""
    nodes, t = w.cluster(3), topic("im")
    probe = connected(nodes[0])
    for version in ("mqttv311", "mqttv5"):
        for qos in "012":
            for i in (1, 2):
                here = "%s/%s%s%d" % (t, version, qos, i)
                sub = mosquitto_sub(w, nodes[i], version, qos, here + "/#")
                acked(probe, here + "/probe", "node 1 knows of it")
                w.tool("mosquitto_pub", "-p", "@PORT@", "-V", version, "-q", qos, "-t", here + "/x", "-l",
                       stdin="m1\nm2\nm3\n", within=2 * PATIENCE, port=nodes[0].port)
                sub.until(lambda: len(sub.got()) >= 3)
                assert sub.got() == ["m1", "m2", "m3"], sub.lines
                sub.process.kill()


def test_mosquitto_takes_a_session_over_from_another_node(w):
    nodes, t = w.cluster(3), topic("it")
    p = connected(nodes[0])
    for version, number in (("mqttv311", 4), ("mqttv5", 5)):
        cid = "take-%d" % random.getrandbits(30)
        old = Client(nodes[1].port, number)
        old.connect(cid, clean=False, p=[(0x11, 600)] if number == 5 else ())
        assert old.subscribe((t, 1)) == [1]
        acked(p, t, "m1")
        assert old.message(PATIENCE) == (t, "m1")
        new = mosquitto_sub(w, nodes[2], version, "1", t, "-i", cid, "-c")
        assert old.closed(PATIENCE) == (0x8E if number == 5 else None)
        acked(p, t, "m2")
        new.until(lambda: new.got()[-1:] == ["m2"])
        assert new.got().count("m2") == 1, new.lines
        new.process.kill()


def test_a_group_of_mosquitto_clients_on_three_nodes(w):
    nodes, t = w.cluster(3), topic("ig")
    versions = ("mqttv311", "mqttv5", "mqttv5")
    subs = [mosquitto_sub(w, n, v, "1", "$share/g/" + t) for n, v in zip(nodes, versions)]
    p, sent, end = connected(nodes[0]), 0, time.monotonic() + 2 * PATIENCE
    while sent < 60 or not all(s.got() for s in subs):  # node 1 hears of the others' membership in time
        assert time.monotonic() < end, [s.lines for s in subs]
        acked(p, t, "m%d" % sent)
        sent += 1
    subs[0].until(lambda: sum(len(s.got()) for s in subs) >= sent)
    assert sorted(m for s in subs for m in s.got()) == sorted("m%d" % i for i in range(sent))


def test_mqttjs_on_three_nodes(w):
    path = with_mqttjs(w)
    nodes, t = w.cluster(3), topic("ij")
    probe = connected(nodes[0])
    for i, version in ((1, 4), (2, 5)):
        here = "%s/%d" % (t, version)
        sub = Heard(w, "env", path, "node", "-e", LISTEN % (nodes[i].port, version, here + "/#"))
        acked(probe, here + "/probe", "node 1 knows of it")
        w.tool("env", path, "node", "-e", SAY % (nodes[0].port, version, here + "/x"), within=2 * PATIENCE)
        sub.until(lambda: len(sub.got()) >= 9)
        for qos in range(3):
            assert [m for m in sub.got() if int(m[1:]) % 3 == qos] == ["m%d" % k for k in range(qos, 9, 3)], sub.lines
        sub.process.kill()


def test_paho_on_three_nodes(w):
    try:
        import paho.mqtt.client as paho
    except ImportError:
        raise w.skip("python3-paho-mqtt is not installed")
    nodes, t, probe = w.cluster(3), topic("ip"), None

    def client(node, version):
        cid = "paho-%d" % random.getrandbits(30)
        try:
            c = paho.Client(paho.CallbackAPIVersion.VERSION1, cid, protocol=version)
        except AttributeError:
            c = paho.Client(cid, protocol=version)
        c.connect("127.0.0.1", node.port)
        return c

    def until(clients, is_true):
        end = time.monotonic() + 2 * PATIENCE
        while not is_true():
            assert time.monotonic() < end
            for c in clients:
                c.loop(0.02)
    probe = connected(nodes[0])
    for version in (paho.MQTTv311, paho.MQTTv5):
        for i in (1, 2):
            here, got, stands = "%s/%d%d" % (t, version, i), [], []
            sub, pub = client(nodes[i], version), client(nodes[0], version)
            sub.on_connect = lambda c, *_: c.subscribe(here + "/#", 2)
            sub.on_subscribe = lambda *_: stands.append(True)
            sub.on_message = lambda c, u, m: got.append(m.payload.decode())
            until([sub, pub], lambda: stands and pub.is_connected())
            acked(probe, here + "/probe", "node 1 knows of it")
            for k in range(9):
                pub.publish(here + "/x", "m%d" % k, k % 3)
            until([sub, pub], lambda: sum(m[0] == "m" for m in got) >= 9)
            assert sorted(m for m in got if m[0] == "m") == ["m%d" % k for k in range(9)], got
            sub.disconnect()
            pub.disconnect()
