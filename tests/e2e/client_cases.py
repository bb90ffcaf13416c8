"""Clients that people use.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import random
import subprocess

from basic_cases import topic
from mqtt import Client

MQTTJS = """
const mqtt = require('mqtt'), fs = require('fs');
const c = mqtt.connect('%s', {protocolVersion: %d, clientId: 'js-%d', ca: %s});
const t = '%s', got = [];
c.on('connect', () => c.subscribe({[t]: {qos: 2}}, () => { for (let i = 0; i < 30; i++) c.publish(t, 'm' + i, {qos: i %% 3}); }));
c.on('message', (topic, m) => { got.push(m.toString()); if (got.length === 30) { console.log(JSON.stringify(got)); c.end(); } });
c.on('error', e => { console.error(e); process.exit(1); });
setTimeout(() => { console.error('only ' + got.length); process.exit(2); }, 10000).unref();
"""


def test_mosquitto_pub_and_sub(w):
    for v in ("mqttv31", "mqttv311", "mqttv5"):
        for q in "012":
            t = topic("mosq")
            sub = w.spawn("stdbuf", "-oL", "mosquitto_sub", "-p", "@PORT@", "-V", v, "-q", q, "-t", t, "-C", "3", "-d", "-W", "10")
            while True:  # -d tells (line by line thanks to stdbuf) when the subscription stands
                line = sub.stdout.readline()
                assert line, "mosquitto_sub ended"
                if line.startswith("Subscribed"):
                    break
            w.tool("mosquitto_pub", "-p", "@PORT@", "-V", v, "-q", q, "-t", t, "-l", stdin="one\ntwo\nthree\n")
            out = sub.stdout.read()  # to its end: -C and -W see to that
            assert [x for x in out.split("\n") if x in ("one", "two", "three")] == ["one", "two", "three"], out


def test_mosquitto_rr(w):
    t = topic("rr")
    s = Client(w.port, 5)
    s.connect()
    s.subscribe((t, 1))
    rr = w.spawn("mosquitto_rr", "-p", "@PORT@", "-V", "mqttv5", "-t", t, "-e", t + "/re", "-m", "ask", "-W", "10")
    m = s.expect(3)
    assert m.prop(0x08) == t + "/re"
    s.publish(m.prop(0x08), "answer", 1)
    out, _ = rr.communicate(timeout=15)
    assert "answer" in out, out


def ways_in(w):
    """A node with every kind of listener: URLs, and the certificate to trust."""
    n = w.node()
    crt, key = n.certificate()
    files = 'certFile = "%s"; keyFile = "%s";' % (crt, key)
    ports = {kind: n.listen_also(kind, files if kind in ("tls", "wss") else "") for kind in ("tls", "ws", "wss")}
    n.start()
    return {"mqtt": n.port, "mqtts": ports["tls"], "ws": ports["ws"], "wss": ports["wss"]}, crt


def test_paho(w):
    try:
        import paho.mqtt.client as paho
    except ImportError:
        raise w.skip("python3-paho-mqtt is not installed")
    ports, crt = ways_in(w)
    for way, port in ports.items():
        for version in (paho.MQTTv31, paho.MQTTv311, paho.MQTTv5):
            t, got = topic("paho"), []
            cid = "paho-%d" % random.getrandbits(30)
            transport = "websockets" if way in ("ws", "wss") else "tcp"
            try:
                c = paho.Client(paho.CallbackAPIVersion.VERSION1, cid, protocol=version, transport=transport)
            except AttributeError:
                c = paho.Client(cid, protocol=version, transport=transport)
            if way in ("mqtts", "wss"):
                c.tls_set(crt)
            c.on_connect = lambda c, *_: c.subscribe(t, 2)
            c.on_subscribe = lambda c, *_: [c.publish(t, "m%d" % i, i % 3) for i in range(30)]
            c.on_message = lambda c, u, m: (got.append(m.payload.decode()), len(got) == 30 and c.disconnect())
            c.connect("localhost", port)
            for _ in range(200):
                if c.loop(0.1) != 0:
                    break
            assert sorted(got) == sorted("m%d" % i for i in range(30)), (way, version, got)


def test_mqttjs(w):
    env = dict(os.environ)
    try:
        root = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        env["NODE_PATH"] = os.pathsep.join(filter(None, [env.get("NODE_PATH"), root]))
        subprocess.run(["node", "-e", "require('mqtt')"], capture_output=True, timeout=20, check=True, env=env)
    except (OSError, subprocess.SubprocessError):
        raise w.skip("MQTT.js is not installed (npm install -g mqtt)")
    ports, crt = ways_in(w)
    for way, port in ports.items():
        url = "%s://localhost:%d%s" % (way, port, "/mqtt" if way in ("ws", "wss") else "")
        ca = "fs.readFileSync('%s')" % crt if way in ("mqtts", "wss") else "undefined"
        for v in (4, 5):
            t = topic("js")
            r = subprocess.run(["node", "-e", MQTTJS % (url, v, random.getrandbits(30), ca, t)], capture_output=True, text=True,
                               timeout=30, env=env, check=False)
            assert r.returncode == 0, (way, v, r.stderr)
            assert len(json.loads(r.stdout)) == 30
