"""The admin API and bilrostctl.  SPDX-License-Identifier: Apache-2.0"""
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

from mqtt import PUBLISH, Client


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


READ, ADMIN = "read-token-0123456789", "admin-token-0123456789"


def node(w):
    port = free_port()
    n = w.node()
    tokens = n.file("tokens", "# who may what\nread %s\nadmin %s\n" % (READ, ADMIN))
    with open(n.conf) as f:
        text = f.read()
    text = text.replace('apiServerConfig : { enable = false; unixSocket = ""; };',
                        'apiServerConfig: { httpPort = %d; unixSocket = "%s"; tokenFile = "%s"; };'
                        % (port, os.path.join(n.dir, "api.sock"), tokens))
    with open(n.conf, "w") as f:
        f.write(text)
    n.start()
    return n, port


def ask(port, method, path, token=None, body=None, **headers):
    q = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), method=method, data=body)
    if token:
        q.add_header("Authorization", "Bearer " + token)
    for k, v in headers.items():
        q.add_header(k, str(v))
    end = time.monotonic() + 8
    while True:
        try:
            with urllib.request.urlopen(q, timeout=10) as a:
                return a.status, a.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except urllib.error.URLError as e:  # the API opens last
            if not isinstance(e.reason, ConnectionRefusedError) or time.monotonic() > end:
                raise


def ctl(w, n, *argv):
    path = os.path.join(os.path.dirname(w.args.broker), "bilrostctl")
    r = subprocess.run([path, "-H", "unix:" + os.path.join(n.dir, "api.sock"), *argv], capture_output=True, text=True,
                       timeout=15, check=False)
    return r.returncode, r.stdout + r.stderr


def test_api_asks_who_you_are(w):
    n, port = node(w)
    assert ask(port, "GET", "/healthz") == (200, "ok\n")
    assert ask(port, "GET", "/readyz") == (200, "ready\n")
    status, text = ask(port, "GET", "/metrics")
    assert status == 200 and "mqtt_connect_count_total" in text and "bilrost_connections" in text
    assert ask(port, "GET", "/cluster")[0] == 401
    assert ask(port, "GET", "/nonsense")[0] == 401
    assert ask(port, "GET", "/cluster", token="wrong")[0] == 401
    assert ask(port, "GET", "/cluster", token=READ)[0] == 200
    assert ask(port, "GET", "/nonsense", token=READ)[0] == 400
    assert ask(port, "POST", "/pub", token=READ, body=b"x", tenant_id="default", topic="a", qos=0, client_type="t")[0] == 403


def test_api_publishes_and_retains(w):
    n, port = node(w)
    c = Client(n.port, 5)
    c.connect("c")
    assert c.subscribe(("a/#", 1)) == [1]
    head = dict(tenant_id="default", topic="a/b", qos=1, client_type="test")
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"hello", **head) == (200, "OK")
    p = c.expect(PUBLISH)
    assert (p.topic, p.payload) == ("a/b", b"hello"), p
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x", **dict(head, qos=3)) == (400, "INVALID_QOS")
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x", **dict(head, topic="a/#"))[0] == 403
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x", **dict(head, tenant_id="nobody"))[0] == 404
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x", **dict(head, expiry_seconds=0))[0] == 400
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x", tenant_id="default") == (400, "header not found: topic")
    assert ask(port, "POST", "/pub", token=ADMIN, body=b"x" * 300000, **head)[0] == 413
    assert ask(port, "POST", "/retain", token=ADMIN, body=b"kept", **dict(head, topic="r/1")) == (200, "RETAINED")
    assert c.subscribe(("r/#", 0)) == [0]
    p = c.expect(PUBLISH)
    assert (p.topic, p.payload, p.retain) == ("r/1", b"kept", True), p
    assert ask(port, "POST", "/retain", token=ADMIN, body=b"", **dict(head, topic="r/1")) == (200, "CLEARED")


def test_ctl_finds_and_kills(w):
    n, port = node(w)
    c = Client(n.port, 5)
    c.connect("victim")
    code, text = ctl(w, n, "session", "victim")
    assert code == 0 and "clientId: victim" in text, text
    code, text = ctl(w, n, "--json", "status")
    assert code == 0 and json.loads(text)["clients"] == 1, text
    assert ctl(w, n, "kill", "victim")[0] == 0
    c.closed()
    assert ctl(w, n, "session", "victim") == (1, "NO_SESSION\n")
    assert ctl(w, n, "nonsense")[0] == 64
    assert ctl(w, n, "ready") == (0, "ready\n")
    code, text = ctl(w, n, "config", "explain", "workers")
    assert code == 0 and "event loops" in text, text
