"""The admin API: every endpoint, who may, and bad input.  SPDX-License-Identifier: Apache-2.0"""
import grp
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

from cluster_cases import again
from mqtt import DISCONNECT, PUBLISH, Client
from ports import free_port

READ, OPERATE, ADMIN = "read-token-0123456789", "operate-token-0123456789", "admin-token-0123456789"


def with_api(n, extra=""):
    """Gives a node that has not started an API over TCP and a unix socket; its port."""
    port = free_port()
    tokens = n.file("tokens", "# who may what\nread %s\noperate %s\nadmin %s\n" % (READ, OPERATE, ADMIN))
    with open(n.conf) as f:
        text = f.read()
    text = text.replace('apiServerConfig : { enable = false; unixSocket = ""; };',
                        'apiServerConfig: { httpPort = %d; unixSocket = "%s"; tokenFile = "%s"; %s };'
                        % (port, os.path.join(n.dir, "api.sock"), tokens, extra))
    with open(n.conf, "w") as f:
        f.write(text)
    return port


def node(w, extra="", **kw):
    n = w.node(**kw)
    port = with_api(n, extra)
    n.start()
    again(lambda: ask(port, "GET", "/healthz"))
    return n, port


def ask(port, method, path, token=None, body=None, scheme="http", context=None, **headers):
    q = urllib.request.Request("%s://127.0.0.1:%d%s" % (scheme, port, path), method=method, data=body)
    if token:
        q.add_header("Authorization", "Bearer " + token)
    for k, v in headers.items():
        q.add_header(k, str(v))
    try:
        with urllib.request.urlopen(q, timeout=20, context=context) as a:
            return a.status, a.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def view(port, path, **headers):
    status, text = ask(port, "GET", path, token=READ, **headers)
    assert status == 200, (path, status, text)
    return json.loads(text)


def log_of(n):
    with open(os.path.join(n.dir, "log")) as f:
        return f.read()


def test_api_asks_who_you_are(w):
    n, port = node(w)
    assert ask(port, "GET", "/healthz") == (200, "ok\n")
    assert ask(port, "HEAD", "/healthz")[0] == 200
    assert ask(port, "GET", "/readyz") == (200, "ready\n")
    status, text = ask(port, "GET", "/metrics")
    assert status == 200 and "mqtt_connect_count_total" in text and "bilrost_connections" in text
    assert ask(port, "GET", "/cluster")[0] == 401
    assert ask(port, "GET", "/nonsense")[0] == 401
    assert ask(port, "GET", "/cluster", token="wrong")[0] == 401
    assert ask(port, "GET", "/cluster", token=READ[:-1])[0] == 401
    assert ask(port, "GET", "/cluster", token=READ)[0] == 200
    assert ask(port, "GET", "/nonsense", token=READ) == (400, "no such path and method")
    head = dict(tenant_id="default", topic="a", qos=0, client_type="t")
    assert ask(port, "POST", "/pub", token=READ, body=b"x", **head) == (403, "the role of this token does not allow that")
    assert ask(port, "POST", "/pub", token=OPERATE, body=b"x", **head)[0] == 200
    assert ask(port, "DELETE", "/session/inbox", token=OPERATE, tenant_id="default", client_id="x")[0] == 403
    assert ask(port, "DELETE", "/session/inbox", token=ADMIN, tenant_id="default", client_id="x") == (404, "NO_SESSION")
    # what changes something, and who tried, is written down; what only looks is not
    text = log_of(n)
    for said in ("read at 127.0.0.1: 403", "operate at 127.0.0.1: 200"):
        assert re.search("POST /pub tenant_id=default topic=a qos=0 client_type=t req_id=[0-9]+ by " + said, text), text
    assert re.search("GET /cluster req_id=[0-9]+ by a wrong token at 127.0.0.1: 401", text), text
    assert "GET /metrics" not in text and READ not in text


def test_api_metrics_may_ask_for_a_token(w):
    _, port = node(w, extra="metricsWithoutToken = false;")
    for path in ("/metrics", "/healthz", "/readyz"):
        assert ask(port, "GET", path)[0] == 401
        assert ask(port, "GET", path, token=READ)[0] == 200


def test_api_publishes_and_retains(w):
    _, port = node(w)
    c = Client(_.port, 5)
    c.connect("c")
    assert c.subscribe(("a/#", 1)) == [1]
    head = dict(tenant_id="default", topic="a/b", qos=1, client_type="test")
    assert ask(port, "POST", "/pub", token=OPERATE, body=b"hello", **head) == (200, "OK")
    p = c.expect(PUBLISH)
    assert (p.topic, p.payload) == ("a/b", b"hello"), p
    assert ask(port, "POST", "/pub", token=OPERATE, body=b"x", **dict(head, topic="nobody")) == (200, "NO_MATCH")
    assert ask(port, "POST", "/retain", token=OPERATE, body=b"kept", **dict(head, topic="r/1")) == (200, "RETAINED")
    assert ask(port, "POST", "/retain", token=OPERATE, body=b"\xff\x00", **dict(head, topic="r/2", expiry_seconds=99)) \
        == (200, "RETAINED")
    assert c.subscribe(("r/1", 1)) == [1]
    p = c.expect(PUBLISH)
    assert (p.topic, p.payload, p.retain, p.qos) == ("r/1", b"kept", True, 1), p
    got = view(port, "/retain", tenant_id="default", payload="true")
    assert [(m["topic"], m["qos"], m["bytes"]) for m in got["messages"]] == [("r/1", 1, 4), ("r/2", 1, 2)], got
    assert got["messages"][0]["payload"] == "kept" and got["messages"][1]["payloadBase64"] == "/wA=", got
    assert got["messages"][1]["expirySeconds"] == 99 and "after" not in got
    first = view(port, "/retain", tenant_id="default", limit=1)
    assert [m["topic"] for m in first["messages"]] == ["r/1"] and "payload" not in first["messages"][0]
    rest = view(port, "/retain", tenant_id="default", limit=10, after=first["after"])
    assert [m["topic"] for m in rest["messages"]] == ["r/2"], rest
    assert [m["topic"] for m in view(port, "/retain", tenant_id="default", topic_filter="r/2")["messages"]] == ["r/2"]
    assert ask(port, "POST", "/retain", token=OPERATE, body=b"", **dict(head, topic="r/1")) == (200, "CLEARED")
    assert ask(port, "DELETE", "/retain", token=OPERATE, tenant_id="default", expiry_seconds=3600) == (200, '{"removed":0}')
    assert ask(port, "DELETE", "/retain", token=OPERATE, tenant_id="default", expiry_seconds=0) == (200, '{"removed":1}')
    assert view(port, "/retain", tenant_id="default") == {"messages": []}


def test_api_refuses_bad_input_and_changes_nothing(w):
    n, port = node(w)
    c = Client(n.port, 5)
    c.connect("c")
    assert c.subscribe(("#", 0)) == [0]
    head = dict(tenant_id="default", topic="a/b", qos=1, client_type="test")

    def pub(**change):
        h = dict(head, **change)
        return ask(port, "POST", "/pub", token=OPERATE, body=b"x", **{k: v for k, v in h.items() if v is not None})
    assert pub(qos=3) == (400, "INVALID_QOS")
    assert pub(qos="x") == (400, "INVALID_QOS")
    assert pub(topic="a/#") == (403, "UNACCEPTED_TOPIC")
    assert pub(topic="/".join("x" * 20)) == (403, "UNACCEPTED_TOPIC")
    assert pub(tenant_id="nobody") == (404, "no such tenant")
    for name in ("tenant_id", "topic", "qos", "client_type"):
        assert pub(**{name: None}) == (400, "header not found: " + name)
    for bad in ("0", "-1", "x", "4294967296", ""):
        assert pub(expiry_seconds=bad) == (400, "expiry_seconds must be a number from 1 to 4294967295")
    assert ask(port, "POST", "/pub", token=OPERATE, body=b"x" * 300000, **head)[0] == 413
    for path in ("/session", "/session/inbox", "/sessions", "/subs", "/retain"):
        assert ask(port, "GET", path, token=READ) == (400, "header not found: tenant_id"), path
    assert ask(port, "GET", "/sessions", token=READ, tenant_id="default", limit=0)[0] == 400
    assert ask(port, "GET", "/sessions", token=READ, tenant_id="default", limit=1001)[0] == 400
    assert ask(port, "GET", "/retain", token=READ, tenant_id="default", topic_filter="a/#/b") == (400, "TOPIC_FILTER_INVALID")
    kill = dict(tenant_id="default", client_type="t", client_id="c")
    assert ask(port, "DELETE", "/kill", token=OPERATE, **dict(kill, server_redirect="away"))[0] == 400
    assert ask(port, "DELETE", "/kill", token=OPERATE, tenant_id="default") == (400, "header not found: client_type")
    assert ask(port, "PUT", "/sub", token=OPERATE, tenant_id="default", client_id="c", topic_filter="a/#/b", sub_qos=1) \
        == (400, "TOPIC_FILTER_INVALID")
    assert ask(port, "PUT", "/sub", token=OPERATE, tenant_id="default", client_id="c", topic_filter="a", sub_qos=3)[0] == 400
    for method in ("PUT", "PATCH", "OPTIONS"):
        assert ask(port, method, "/pub", token=ADMIN, body=b"x", **head) == (400, "no such path and method"), method
    assert ask(port, "GET", "/store/ranges", token=READ, store_name="nothing")[0] == 404
    assert ask(port, "GET", "/service/landscape", token=READ, service_name="nothing")[0] == 404
    assert ask(port, "GET", "/cluster/", token=READ)[0] == 400
    c.nothing()
    assert view(port, "/subs", tenant_id="default", client_id="c")["subscriptions"][0]["topicFilter"] == "#"
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"NONSENSE\r\n\r\n")
        s.settimeout(10)
        assert b" 400 " in s.recv(4096)
    with socket.create_connection(("127.0.0.1", port)) as s:  # a head that does not end
        s.settimeout(10)
        s.sendall(b"GET /cluster HTTP/1.1\r\n" + b"x: " + b"y" * 20000 + b"\r\n\r\n")
        assert b" 400 " in s.recv(4096)
    assert ask(port, "GET", "/healthz") == (200, "ok\n")


def test_api_lets_no_slow_client_hold_it(w):
    n, port = node(w)
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for s in slow:
        s.sendall(b"POST /pub HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    assert ask(port, "GET", "/healthz") == (200, "ok\n")
    end = time.monotonic() + 60
    for s in slow:
        s.settimeout(max(0.1, end - time.monotonic()))
        got = b""
        while part := s.recv(4096):
            got += part
        assert b" 408 " in got and got.endswith(b"the request did not arrive whole within 10 s"), got
        s.close()
    assert ask(port, "GET", "/healthz") == (200, "ok\n")
    assert log_of(n).count("the request did not arrive whole within 10 s by 127.0.0.1: 408") == 20


def test_api_speaks_tls(w):
    n = w.node()
    key, cert = os.path.join(n.dir, "k.pem"), os.path.join(n.dir, "c.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    port = with_api(n, 'enableSSL = true; sslConfig: { certFile = "%s"; keyFile = "%s"; };' % (cert, key))
    n.start()
    end = time.monotonic() + 10
    while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < end:
        pass
    context = ssl.create_default_context(cafile=cert)
    assert ask(port, "GET", "/healthz", scheme="https", context=context) == (200, "ok\n")
    assert ask(port, "GET", "/cluster", scheme="https", context=context)[0] == 401
    assert ask(port, "GET", "/cluster", scheme="https", context=context, token=READ)[0] == 200
    try:
        ask(port, "GET", "/healthz")
        assert False, "answered without TLS"
    except (OSError, urllib.error.URLError):
        pass


def test_api_unix_socket_is_for_its_group(w):
    n, _ = node(w)
    path = os.path.join(n.dir, "api.sock")
    assert os.stat(path).st_mode & 0o777 == 0o660, oct(os.stat(path).st_mode)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"DELETE /kill HTTP/1.1\r\nHost: x\r\nConnection: close\r\ntenant_id: default\r\nclient_type: t\r\n"
                  b"client_id: x\r\n\r\n")
        got = b""
        while part := s.recv(4096):
            got += part
    assert b" 404 " in got and got.endswith(b"NO_SESSION"), got
    assert "by uid %d: 404" % os.getuid() in log_of(n)


def answers_as(path, gid):
    """What a process of nobody and this group gets: the status, or "" when it may not connect."""
    read, write = os.pipe()
    if os.fork() == 0:
        said = b""
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(b"GET /cluster HTTP/1.1\r\nConnection: close\r\n\r\n")
                said = s.recv(4096).split()[1]
        except PermissionError:
            pass
        finally:
            os.write(write, said)
            os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as f:
        return f.read()


def test_api_unix_socket_knows_root_its_group_and_nobody_else(w):
    if os.getuid() != 0:
        raise w.skip("needs root to be somebody else")
    n, _ = node(w, extra='unixGroup = "daemon";')
    os.chmod(n.dir, 0o755)
    path = os.path.join(n.dir, "api.sock")
    assert answers_as(path, grp.getgrnam("daemon").gr_gid) == "200"
    assert answers_as(path, 65534) == ""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET /cluster HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert s.recv(4096).split()[1] == b"200"


def test_api_lists_sessions_by_pages(w):
    n, port = node(w)
    live = []
    for i in range(7):
        c = Client(n.port, 5)
        c.connect("live-%d" % i)
        assert c.subscribe(("a/%d" % i, 1)) == [1]
        live.append(c)
    kept = Client(n.port, 5)
    kept.connect("kept-0", clean=False, p=[(0x11, 600)])
    assert kept.subscribe(("k/#", 2), ("$share/g/s", 1), ("all", 0)) == [2, 1, 0]
    kept.disconnect()
    back = Client(n.port, 5)
    back.connect("kept-1", clean=False, p=[(0x11, 600)])
    want = ["kept-0", "kept-1"] + ["live-%d" % i for i in range(7)]
    got = again(lambda: one_page(port, want))
    by_id = {s["clientId"]: s for s in got}
    assert not by_id["kept-0"]["online"] and by_id["kept-0"]["inbox"]["subscriptions"] == 3, by_id["kept-0"]
    assert by_id["kept-1"]["online"] and by_id["kept-1"]["persistent"] and "owner" in by_id["kept-1"]["inbox"]
    assert by_id["live-3"]["protocol"] == "5.0" and by_id["live-3"]["address"].startswith("127.0.0.1:")
    names, after, pages = [], "", 0
    while True:
        page = view(port, "/sessions", tenant_id="default", limit=2, **({"after": after} if after else {}))
        assert len(page["sessions"]) <= 2
        names += [s["clientId"] for s in page["sessions"]]
        pages += 1
        if "after" not in page:
            break
        after = page["after"]
    assert names == want and pages >= 5, names
    assert [s["clientId"] for s in view(port, "/sessions", tenant_id="default", prefix="kept-")["sessions"]] == want[:2]
    assert [s["clientId"] for s in view(port, "/sessions", tenant_id="default", online="true", limit=3)["sessions"]] \
        == ["kept-1", "live-0", "live-1"]
    assert view(port, "/sessions", tenant_id="other") == {"sessions": []}
    # what they subscribe to
    subs = view(port, "/subs", tenant_id="default")["subscriptions"]
    assert sorted((s["clientId"], s["topicFilter"], s["qos"]) for s in subs) == sorted(
        [("kept-0", "$share/g/s", 1), ("kept-0", "all", 0), ("kept-0", "k/#", 2)]
        + [("live-%d" % i, "a/%d" % i, 1) for i in range(7)]), subs
    assert [s["clientId"] for s in view(port, "/subs", tenant_id="default", topic_filter="a/4")["subscriptions"]] == ["live-4"]
    assert len(view(port, "/subs", tenant_id="default", client_id="kept-0")["subscriptions"]) == 3
    assert len(view(port, "/subs", tenant_id="default", limit=3)["subscriptions"]) == 4  # kept-0, kept-1 and live-0
    # one of each
    got = view(port, "/session", tenant_id="default", client_id="live-3")
    assert got["type"] == "MQTT" and got["tenantId"] == "default" and got["clientId"] == "live-3"
    assert ask(port, "GET", "/session", token=READ, tenant_id="default", client_id="kept-0") == (404, "NO_SESSION")
    assert ask(port, "GET", "/session", token=READ, tenant_id="default", client_id="live-3", user_id="x") == (404, "NO_SESSION")
    assert view(port, "/session/inbox", tenant_id="default", client_id="kept-0")["expirySeconds"] == 600
    assert ask(port, "GET", "/session/inbox", token=READ, tenant_id="default", client_id="live-3") == (404, "NO_INBOX")
    # stored sessions end by age
    assert ask(port, "DELETE", "/session", token=OPERATE, tenant_id="default", expiry_seconds=3600) == (200, '{"removed":0}')
    assert ask(port, "DELETE", "/session", token=OPERATE, tenant_id="default", expiry_seconds=0) == (200, '{"removed":1}')
    assert ask(port, "GET", "/session/inbox", token=READ, tenant_id="default", client_id="kept-0") == (404, "NO_INBOX")
    assert ask(port, "DELETE", "/session/inbox", token=ADMIN, tenant_id="default", client_id="kept-1") == (200, "OK")
    back.closed()


def one_page(port, want):
    got = view(port, "/sessions", tenant_id="default")
    assert [s["clientId"] for s in got["sessions"]] == want and "after" not in got, got
    return got["sessions"]


def test_api_subscribes_for_a_client(w):
    n, port = node(w)
    for cid, kw in (("clean", {}), ("kept", {"clean": False, "p": [(0x11, 600)]})):
        c = Client(n.port, 5)
        c.connect(cid, **kw)
        who = dict(token=OPERATE, tenant_id="default", client_id=cid)
        assert ask(port, "PUT", "/sub", topic_filter="s/+", sub_qos=1, **who) == (200, "OK"), cid
        assert ask(port, "PUT", "/sub", topic_filter="s/+", sub_qos=1, **who) == (200, "EXISTS"), cid
        assert ask(port, "POST", "/pub", token=OPERATE, body=b"x", tenant_id="default", topic="s/1", qos=1,
                   client_type="t") == (200, "OK")
        assert c.message() == ("s/1", "x")
        assert ask(port, "PUT", "/sub", topic_filter="$share/g/s/+", sub_qos=2, **who) == (200, "OK"), cid
        assert [(s["topicFilter"], s["qos"]) for s in view(port, "/subs", tenant_id="default", client_id=cid)["subscriptions"]] \
            in ([("s/+", 1), ("$share/g/s/+", 2)], [("$share/g/s/+", 2), ("s/+", 1)])
        assert ask(port, "DELETE", "/unsub", topic_filter="s/+", **who) == (200, "OK"), cid
        assert ask(port, "DELETE", "/unsub", topic_filter="s/+", **who) == (200, "NO_SUB"), cid
        assert ask(port, "DELETE", "/unsub", topic_filter="$share/g/s/+", **who) == (200, "OK"), cid
        c.publish("s/1", "y", 1)
        c.nothing()
    assert ask(port, "PUT", "/sub", token=OPERATE, tenant_id="default", client_id="kept", user_id="x", topic_filter="s",
               sub_qos=0) == (404, "NO_SESSION")
    assert ask(port, "PUT", "/sub", token=OPERATE, tenant_id="default", client_id="nobody", topic_filter="s", sub_qos=0) \
        == (404, "NO_SESSION")


def test_api_kills_a_client_a_user_a_tenant(w):
    n, port = node(w)

    def clients(*names):
        out = []
        for cid, user in names:
            c = Client(n.port, 5)
            c.connect(cid, user=user)
            out.append(c)
        return out
    head = dict(token=OPERATE, tenant_id="default", client_type="t")
    a, b, c = clients(("a", None), ("b", None), ("c", None))
    assert ask(port, "DELETE", "/kill", client_id="a", **head) == (200, '{"killed":1}')
    assert a.closed() == 0x98
    assert ask(port, "DELETE", "/kill", client_id="a", **head) == (404, "NO_SESSION")
    assert ask(port, "DELETE", "/kill", client_id="b", server_redirect="temp_use", server_reference="other:1883", **head) \
        == (200, '{"killed":1}')
    p = b.expect(DISCONNECT)
    assert p.reason == 0x9C and p.prop(0x1C) == "other:1883", (p.reason, p.props)
    assert ask(port, "DELETE", "/kill", client_id="c", server_redirect="move", server_reference="new:1883", **head)[0] == 200
    assert c.expect(DISCONNECT).reason == 0x9D
    many = clients(*[("m-%d" % i, None) for i in range(150)])
    assert ask(port, "DELETE", "/kill", user_id="somebody", **head) == (404, "NO_SESSION")
    many[0].nothing()
    assert ask(port, "DELETE", "/kill", **head) == (200, '{"killed":150}')
    assert [m.closed() for m in many] == [0x98] * 150
    assert ask(port, "DELETE", "/kill", **head) == (404, "NO_SESSION")
    assert view(port, "/sessions", tenant_id="default") == {"sessions": []}


def test_api_alone_has_no_cluster_to_change(w):
    _, port = node(w)
    got = view(port, "/cluster")
    assert got["nodes"] == [] and not got["joined"], got
    assert view(port, "/services") == ["mqtt.broker", "dist.server", "inbox.server", "retain.server", "session.dict"]
    assert view(port, "/stores") == ["dist.worker", "inbox.store", "retain.store"]
    assert [s["id"] for s in view(port, "/service/landscape", service_name="mqtt.broker")] == [got["local"]]
    assert [s["id"] for s in view(port, "/store/landscape", store_name="inbox.store")] == [got["local"]]
    assert view(port, "/service/traffic", service_name="mqtt.broker") == {}
    assert ask(port, "PUT", "/service/traffic", token=ADMIN, body=b"{}", service_name="mqtt.broker")[0] == 409
    assert ask(port, "DELETE", "/cluster", token=ADMIN, node_id=got["local"])[0] == 409
    assert view(port, "/status")["nodes"][0]["id"] == got["local"]


def cluster_with_api(w, count):
    ports = []
    nodes = w.cluster(count, prepare=lambda n: ports.append(with_api(n)))
    again(lambda: all_ready(ports))
    return nodes, ports


def all_ready(ports):
    for p in ports:
        status, text = ask(p, "GET", "/readyz")
        assert status == 200, text
        assert sum(m["state"] == "alive" for m in view(p, "/cluster")["nodes"]) == len(ports)


def members_full(port, count):
    for store in view(port, "/stores"):
        ranges = view(port, "/store/ranges", store_name=store)
        assert ranges, store
        for r in ranges:
            assert len(r["clusterConfig"]["voters"]) == count and r["state"] == "normal", r


def test_api_on_any_node_is_for_the_whole_cluster(w):
    nodes, ports = cluster_with_api(w, 3)
    clients = []
    for i in range(6):
        c = Client(nodes[i % 3].port, 5)
        again(lambda: Client(nodes[i % 3].port, 5).connect("probe"))
        c.connect("c-%d" % i)
        assert c.subscribe(("t/%d" % i, 1)) == [1]
        clients.append(c)
    for p in ports:
        names = [s["clientId"] for s in view(p, "/sessions", tenant_id="default", prefix="c-")["sessions"]]
        assert names == ["c-%d" % i for i in range(6)], names
        page = view(p, "/sessions", tenant_id="default", prefix="c-", limit=2)
        assert [s["clientId"] for s in page["sessions"]] == ["c-0", "c-1"] and page["after"] == "c-1"
        subs = view(p, "/subs", tenant_id="default", prefix="c-")["subscriptions"]
        assert [s["topicFilter"] for s in subs if s["clientId"].startswith("c-")] == ["t/%d" % i for i in range(6)]
    ids = [s["node"] for s in view(ports[0], "/sessions", tenant_id="default", prefix="c-")["sessions"]]
    assert len(set(ids)) == 3 and ids[0] == ids[3]
    assert view(ports[1], "/session", tenant_id="default", client_id="c-2")["node"] == ids[2]
    head = dict(token=OPERATE, tenant_id="default", client_type="t")
    # a message, a subscription, a kill from another node
    again(lambda: expect_ok(ask(ports[0], "POST", "/pub", body=b"x", topic="t/1", qos=1, **head)))
    assert clients[1].message() == ("t/1", "x")
    assert ask(ports[0], "PUT", "/sub", client_id="c-2", topic_filter="more", sub_qos=1, **head) == (200, "OK")
    again(lambda: expect_ok(ask(ports[1], "POST", "/pub", body=b"y", topic="more", qos=1, **head)))
    assert clients[2].message() == ("more", "y")
    assert ask(ports[0], "DELETE", "/unsub", client_id="c-2", topic_filter="more", **head) == (200, "OK")
    assert ask(ports[2], "DELETE", "/kill", client_id="c-0", **head) == (200, '{"killed":1}')
    assert clients[0].closed() == 0x98
    status, text = ask(ports[1], "DELETE", "/kill", **head)
    assert status == 200 and json.loads(text)["killed"] >= 5, text
    assert [c.closed() for c in clients[1:]] == [0x98] * 5
    # rules are the same everywhere
    rules = {"": {"": 1}, "acme": {"fast": 3}}
    assert ask(ports[0], "PUT", "/service/traffic", token=ADMIN, body=json.dumps(rules).encode(),
               service_name="inbox.server") == (200, "OK")
    for p in ports[1:]:
        again(lambda: same(view(p, "/service/traffic", service_name="inbox.server"), rules))
    for bad in (b"", b"[]", b"{", b'{"a":1}', b'{"a":{"g":-1}}', b'{"a":{"g":"x"}}', b'{"b":{"g":1},"a":7}'):
        assert ask(ports[0], "PUT", "/service/traffic", token=ADMIN, body=bad, service_name="inbox.server")[0] == 400, bad
    assert ask(ports[1], "DELETE", "/service/traffic", token=ADMIN, body=b'["acme"]', service_name="inbox.server") == (200, "OK")
    again(lambda: same(view(ports[2], "/service/traffic", service_name="inbox.server"), {"": {"": 1}}))
    assert ask(ports[0], "PUT", "/service/group", token=ADMIN, body=b'["fast"]', service_name="inbox.server",
               server_id=ids[1]) == (200, "OK")
    again(lambda: same({s["id"]: s["groups"] for s in view(ports[2], "/service/landscape", service_name="inbox.server")},
                       {ids[0]: [], ids[1]: ["fast"], ids[2]: []}))


def test_api_sees_what_is_stored_from_any_node(w):
    nodes, ports = cluster_with_api(w, 3)
    head = dict(token=OPERATE, tenant_id="default", client_type="t")
    mine = dict(tenant_id="default", client_id="kept")
    c = Client(nodes[0].port, 5)
    again(lambda: Client(nodes[0].port, 5).connect("probe"))
    c.connect("kept", clean=False, p=[(0x11, 3600)])
    assert c.subscribe(("q/+", 1)) == [1]
    for p in ports:
        again(lambda: same(view(p, "/session/inbox", **mine)["subscriptions"], 1))
        assert ask(p, "GET", "/session/inbox", token=READ, user_id="bob", **mine) == (404, "NO_INBOX")
    c.disconnect()
    for i, p in enumerate(ports):
        again(lambda: expect_ok(ask(p, "POST", "/pub", body=b"x", topic="q/%d" % i, qos=1, **head)))
        again(lambda: same(ask(p, "POST", "/retain", body=b"x", topic="r/%d" % i, qos=i, **head), (200, "RETAINED")))
    for p in ports:
        again(lambda: same(view(p, "/session/inbox", **mine)["queued"], 3))
        again(lambda: same([(m["topic"], m["qos"]) for m in view(p, "/retain", tenant_id="default")["messages"]],
                           [("r/0", 0), ("r/1", 1), ("r/2", 2)]))
        again(lambda: same([(s["topicFilter"], s["online"]) for s in view(p, "/subs", **mine)["subscriptions"]], [("q/+", False)]))
    for p in ports:
        again(lambda: some(view(p, "/store/landscape", store_name="retain.store"))) # what others lead comes by gossip
        local = view(p, "/cluster")["local"]
        assert all(r["role"] in ("leader", "follower", "learner", "candidate") and local in json.dumps(r["clusterConfig"])
                   for r in view(p, "/store/ranges", store_name="inbox.store", store_id=local))
        assert ask(p, "GET", "/store/ranges", token=READ, store_name="inbox.store",
                   store_id="00000000-0000-0000-0000-00000000000a") == (404, "no such node (bilrostctl cluster shows them)")
    assert again(lambda: same(ask(ports[1], "DELETE", "/retain", expiry_seconds=0, **head), (200, '{"removed":3}'))) is None
    again(lambda: same(view(ports[2], "/retain", tenant_id="default"), {"messages": []}))
    assert ask(ports[2], "DELETE", "/session", expiry_seconds=0, **head) == (200, '{"removed":1}')
    again(lambda: same(ask(ports[0], "GET", "/session/inbox", token=READ, **mine), (404, "NO_INBOX")))


def some(rows):
    assert rows


def same(got, want):
    assert got == want, (got, want)


def expect_ok(answer):
    assert answer == (200, "OK"), answer


def test_api_shows_and_steers_ranges(w):
    nodes, ports = cluster_with_api(w, 3)
    for p in ports:
        again(lambda: members_full(p, 3), within=60)
    ids = [m["id"] for m in view(ports[0], "/cluster")["nodes"]]
    r = view(ports[1], "/store/ranges", store_name="inbox.store")[0]
    assert r["boundary"] == {"startKey": None, "endKey": None} and sorted(r["clusterConfig"]["voters"]) == sorted(ids)
    other = next(i for i in ids if i != r["leader"])
    head = dict(token=ADMIN, store_name="inbox.store", range_id=r["id"])
    assert ask(ports[0], "PUT", "/store/range/transfer", node_id="x", **head)[0] == 400
    assert ask(ports[0], "PUT", "/store/range/transfer", token=ADMIN, store_name="inbox.store", range_id="1-2", node_id=other)[0] == 400
    two = ",".join(ids[:2])
    status, text = ask(ports[0], "PUT", "/store/range/config", voters=two, **head)
    assert status == 400 and "odd" in text, text
    assert ask(ports[0], "PUT", "/store/range/config", voters=ids[0] + "," + ids[0] + "," + ids[1], **head)[0] == 400
    assert ask(ports[0], "PUT", "/store/range/split", key="xyz", **head)[0] == 400
    status, text = ask(ports[0], "PUT", "/store/range/recover", confirm="yes", **head)
    assert status == 400 and "lost" in text, text
    again(lambda: expect_ok(ask(ports[0], "PUT", "/store/range/transfer", node_id=other, **head)))
    # the new leader is known to each a moment later
    got = again(lambda: status_of_three(ports[2]), within=60)
    assert all(n["memoryBytes"] > 1 << 20 and n["diskBytes"] > 0 for n in got["nodes"])
    # a node dies: the others say so, and what to do
    nodes[2].kill()
    dead = again(lambda: dead_alarm(ports[0]), within=60)
    assert "bilrostctl cluster forget" in dead["do"], dead
    assert ask(ports[0], "DELETE", "/cluster", token=ADMIN, node_id=ids[0] if ids[0] not in dead["what"] else ids[1])[0] == 409
    gone = next(i for i in ids if i in dead["what"])
    assert ask(ports[0], "DELETE", "/cluster", token=ADMIN, node_id=gone) == (200, "OK")
    again(lambda: same([m["state"] for m in view(ports[1], "/cluster")["nodes"] if m["id"] == gone], ["left"]))


def status_of_three(port):
    got = view(port, "/status")
    assert len(got["nodes"]) == 3 and all(n["ready"] for n in got["nodes"]), got["nodes"]
    assert got["ranges"]["total"] >= 3 and got["ranges"]["withoutQuorum"] == 0, got["ranges"]
    return got


def dead_alarm(port):
    found = [a for a in view(port, "/status")["alarms"] if "is dead" in a["what"]]
    assert found, "no alarm yet"
    return found[0]


def test_api_answers_while_it_stops(w):
    n, port = node(w)
    clients = []
    for i in range(50):
        c = Client(n.port, 4)
        c.connect("c-%d" % i)
        clients.append(c)
    socks = []
    for _ in range(10):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"GET /sessions HTTP/1.1\r\nHost: x\r\ntenant_id: default\r\nAuthorization: Bearer " + READ.encode() + b"\r\n\r\n")
        socks.append(s)
    n.process.terminate()
    assert n.process.wait(30) == 0


def test_a_bad_token_file_on_reload_leaves_all_as_it_was(w):
    """Everything is looked at before anything is taken on: neither tokens nor settings nor listeners change."""
    n, port = node(w)
    n.file("tokens", "nonsense\n")
    other = free_port()
    n.edit("listeners = ( ", 'listeners = ( { kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }, ' % other)
    with open(n.conf, "a") as f:
        f.write("tenants : { default : { MaximumQoS = 1; }; };\n")
    n.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 8
    while "nothing was changed" not in open(n.log.name).read():
        assert time.monotonic() < end
    assert ask(port, "GET", "/metrics", READ)[0] == 200
    c = Client(n.port, 5)
    assert c.connect().prop(0x24) is None
    try:
        Client(other)
        assert False, "the new listener is open"
    except ConnectionRefusedError:
        pass
