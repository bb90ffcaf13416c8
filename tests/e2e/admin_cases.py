"""The admin API from its table: each endpoint with each role, with each header missing, with bad bodies; what is
refused changes nothing and is written down.  SPDX-License-Identifier: Apache-2.0"""
import glob
import http.client
import json
import os
import re
import socket

from api_cases import ADMIN, OPERATE, READ, all_ready, ask, log_of, members_full, node, same, view, with_api
from cluster_cases import again
from mqtt import PUBLISH, Client

HERE = os.path.dirname(os.path.abspath(__file__))
ROLES = ["", "read", "operate", "admin"]
TOKEN = {"read": READ, "operate": OPERATE, "admin": ADMIN}
NOBODY = "00000000-0000-0000-0000-00000000000a"


def endpoints():
    """The rows of routes.def: method, path, role, is it open, {header: is it required}."""
    with open(os.path.join(HERE, "../../src/api/routes.def")) as f:
        text = f.read()
    row = r'^X\((\w+), "([^"]+)", (\w+), (\d),\s*\w+,\s*"([^"]*)"'
    for method, path, role, is_open, headers in re.findall(row, text, re.M):
        yield method, path, role.lower(), is_open == "1", {h.rstrip("!*"): h.endswith("!") for h in headers.split()}


# A request that would be done if its asker might: what refuses it must be the role, or what a case changes in it.
VALUE = dict(tenant_id="default", topic="roles/set", qos="1", client_type="test", client_id="kept", expiry_seconds="0",
             topic_filter="roles/more", sub_qos="1", node_id=NOBODY, order="add", service_name="session.dict", server_id=NOBODY,
             store_name="inbox.store", range_id="0" * 16 + "-" + "0" * 16, voters=NOBODY, confirm="may-lose-data",
             balancer_factory_class="ReplicaCntBalancer")
BODY = {"POST /pub": b"x", "POST /retain": b"x", "PUT /cluster/keyring": b"0" * 64, "PUT /service/traffic": b'{"":{"":2}}',
        "DELETE /service/traffic": b'[""]', "PUT /service/group": b'["g"]',
        "PUT /store/balancer/rules": b'{"votersPerRange":1}'}


def valid(path, headers):
    return {h: VALUE[h] for h, is_required in headers.items() if is_required}


class Grounds:
    """A cluster of one node with something of everything that a request could change."""

    def __init__(self, w):
        ports = []
        self.node = w.cluster(1, prepare=lambda n: ports.append(with_api(n)))[0]
        self.port = ports[0]
        again(lambda: all_ready(ports))
        self.live = Client(self.node.port, 5)
        self.live.connect("live")
        assert self.live.subscribe(("roles/#", 1)) == [1]
        kept = Client(self.node.port, 5)
        kept.connect("kept", clean=False, p=[(0x11, 3600)])
        assert kept.subscribe(("kept/#", 1)) == [1]
        kept.disconnect()
        head = dict(tenant_id="default", topic="roles/there", qos=1, client_type="t")
        again(lambda: same(self.ask("admin", "POST", "/retain", body=b"x", **head), (200, "RETAINED")))
        again(lambda: same(self.seen()["sessions"]["sessions"][0].get("online"), False))  # kept has gone
        self.before = self.seen()

    def ask(self, role, method, path, **kw):
        return ask(self.port, method, path, token=TOKEN.get(role, role), **kw)

    def seen(self):
        get = lambda path, **h: view(self.port, path, **h)
        sessions = get("/sessions", tenant_id="default")
        for s in sessions["sessions"]:
            s.pop("memoryBytes", None)
        return {"sessions": sessions, "subs": get("/subs", tenant_id="default"), "retained": get("/retain", tenant_id="default"),
                "drains": get("/drain"), "traffic": get("/service/traffic", service_name="session.dict"),
                "rules": get("/store/balancer", store_name="inbox.store"),
                "groups": [s["groups"] for s in get("/service/landscape", service_name="session.dict")],
                "revoked": [m.get("revoked") for m in get("/cluster")["nodes"]],
                "keys": get("/cluster/keyring")["keys"]}

    def unchanged(self):
        assert self.seen() == self.before, (self.seen(), self.before)
        self.live.nothing()


def audited(n, line):
    """One line of the journal, no more."""
    text = log_of(n)
    assert len(re.findall("api.audit.*" + line, text)) == 1, (line, [x for x in text.splitlines() if "api.audit" in x][-5:])


def one_sentence(text):
    assert text and "\n" not in text.strip() and len(text) < 300 and "<" not in text, text


def test_each_endpoint_asks_for_its_role(w):
    g = Grounds(w)
    for method, path, role, is_open, headers in endpoints():
        who = "%s %s" % (method, path)
        head = valid(path, headers)
        for given in ("", "a wrong token of this length", "read", "operate", "admin"):
            is_known = given in ROLES
            if is_known and ROLES.index(given) >= ROLES.index(role):
                if not any(headers.values()):
                    continue  # it would be done
                assert g.ask(given, method, path, body=BODY.get(who))[0] == 400, (who, given)  # it may, and is asked for more
                continue
            if is_open:
                assert g.ask(given, method, path)[0] == 200, (who, given)
                continue
            rid = "%d" % (abs(hash((who, given))) % 2**60)
            status, text = g.ask(given, method, path, body=BODY.get(who), req_id=rid, **head)
            assert status == (403 if is_known and given else 401), (who, given, status, text)
            one_sentence(text)
            audited(g.node, r"%s .*req_id=%s by %s at 127\.0\.0\.1: %d" % (
                re.escape(who), rid, given if is_known and given else "a wrong token" if given else "nobody", status))
    g.unchanged()
    assert READ not in log_of(g.node) and ADMIN not in log_of(g.node)


def test_each_endpoint_refuses_what_is_wrong(w):
    g = Grounds(w)
    for method, path, role, _, headers in endpoints():
        who, head = "%s %s" % (method, path), valid(path, headers)
        for h in head:
            rest = {k: v for k, v in head.items() if k != h}
            want = (400, "header not found: " + h)
            assert g.ask(role, method, path, body=BODY.get(who), **rest) == want, (who, h)
            assert g.ask(role, method, path, body=BODY.get(who), **dict(rest, **{h: ""})) == want, (who, h)
        wrong = {k: v for k, v in (("limit", "x"), ("expiry_seconds", "-1"), ("qos", "3"), ("sub_qos", "3"), ("node_id", "x"),
                                   ("server_id", "x"), ("store_id", "x"), ("range_id", "x"), ("voters", "x"), ("order", "x"),
                                   ("server_redirect", "x"), ("topic_filter", "a/#/b"), ("confirm", "yes"), ("version", "x"))
                 if k in headers and not (k == "topic_filter" and path == "/subs") and not (k == "confirm" and path == "/drain")}
        for h, v in wrong.items():
            status, text = g.ask(role, method, path, body=BODY.get(who), **dict(head, **{h: v}))
            assert status == 400, (who, h, status, text)
            one_sentence(text)
        for h, v in (("store_name", "nothing"), ("service_name", "nothing"), ("tenant_id", "nobody")):
            if h in head and (h != "tenant_id" or method == "POST"):
                assert g.ask(role, method, path, body=BODY.get(who), **dict(head, **{h: v}))[0] == 404, (who, h)
        if BODY.get(who, b"x")[:1] in b"{[":
            for bad in (b"", b"{", b"7", b"nonsense", b'[{"a":1}]', b'{"a":[1]}', b"\xff\xfe"):
                status, text = g.ask(role, method, path, body=bad, **dict(head, server_id=view(g.port, "/cluster")["local"]))
                is_rule = path == "/store/balancer/rules" and bad == b'{"a":[1]}'  # JSON, and no rule
                assert status == (409 if is_rule else 400), (who, bad, status, text)
                one_sentence(text)
        for other in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - {m for m, p, _, _, _ in endpoints() if p == path}:
            assert g.ask("admin", other, path, body=b"x", **head) == (400, "no such path and method"), (who, other)
    g.unchanged()


def raw(port, data):
    """All that is answered until the server closes: status, body."""
    got = b""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(60)
        s.sendall(data)
        while part := s.recv(65536):
            got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def test_what_is_no_request_is_answered_and_written_down(w):
    n, port = node(w)
    c = Client(n.port, 5)
    c.connect("c")
    assert c.subscribe(("#", 1)) == [1]
    auth = b"Authorization: Bearer " + ADMIN.encode() + b"\r\n"
    asked = b"POST /pub HTTP/1.1\r\n" + auth + b"tenant_id: default\r\ntopic: x\r\nqos: 1\r\nclient_type: t\r\n"
    for data, status, why in (
            (b"NONSENSE\r\n\r\n", 400, "this is not a request of HTTP/1.1"),
            (b"GET /cluster HTTP/1.1\r\nno colon\r\n\r\n", 400, "this is not a request of HTTP/1.1"),
            (b"FOO /cluster HTTP/1.1\r\n" + auth + b"\r\n", 400, "no such path and method"),
            (asked + b"Content-Length: 300000\r\n\r\n", 413, "the body is larger than 262144 bytes")):
        before = log_of(n).count("api.audit")
        got = raw(port, data)
        assert got == (status, why), (data, got)
        assert log_of(n).count("api.audit") == before + 1, data
    audited(n, "the body is larger than 262144 bytes by 127.0.0.1: 413")
    for path in ("/nonsense", "/cluster/", "//cluster", "/CLUSTER", "/%zz"):
        assert ask(port, "GET", path, token=READ) == (400, "no such path and method"), path
    audited(n, "GET /nonsense req_id=[0-9]+ by read at 127.0.0.1: 400")
    c.nothing()


def test_a_request_has_a_number_and_says_who_asks(w):
    n, port = node(w)
    live = Client(n.port, 5)
    live.connect("live")
    assert live.subscribe(("a/#", 1)) == [1]
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)  # kept alive: one connection for all

    def asked(method, path, body=None, **headers):
        c.request(method, path, body=body, headers=dict(headers, Authorization="Bearer " + ADMIN))
        a = c.getresponse()
        return a.status, a.read().decode(), a.getheader("req_id")
    assert asked("GET", "/services", req_id="77")[2] == "77"
    first, second = (int(asked("GET", "/services", **h)[2]) for h in ({}, {"req_id": "not a number"}))
    assert 0 < first < second
    head = dict(tenant_id="default", topic="a/b", qos="1", client_type="billing", client_meta_region="eu", client_meta_Build="7")
    assert asked("POST", "/pub", body=b"x", req_id="78", **head) == (200, "OK", "78")
    p = live.expect(PUBLISH)
    assert [v for k, v in p.props if k == 0x26] == [("region", "eu"), ("Build", "7")], p.props
    audited(n, "client_type=billing client_meta_region=eu client_meta_Build=7 req_id=78 by admin at 127.0.0.1: 200")
    assert asked("POST", "/retain", body=b"x", **dict(head, topic="elsewhere"))[:2] == (200, "RETAINED")
    assert live.subscribe(("elsewhere", 1)) == [1]
    assert ("region", "eu") in [v for k, v in live.expect(PUBLISH).props if k == 0x26]
    assert asked("DELETE", "/kill", tenant_id="default", client_type="ops", client_id="nobody", client_meta_why="test")[0] == 404
    audited(n, "DELETE /kill tenant_id=default client_type=ops client_id=nobody client_meta_why=test req_id=")
    assert asked("POST", "/pub", body=b"x", **dict(head, client_meta_bad="\xff"))[:2] == (
        400, "a client_meta_ header is not UTF-8")


def test_a_client_is_its_users(w):
    """user_id beside client_id: another user's client is not meant."""
    ctl = os.path.join(os.path.dirname(w.args.broker), "bilrostctl")
    n = w.node(auth="password", config='auth : { password_file = "@DIR@/passwords"; };\n')
    port, path = with_api(n), n.file("passwords", "")
    for name in ("ann", "bob"):
        w.tool(ctl, "passwd", path, name, stdin=name + "\n")
    n.start()
    clients = {}
    for cid, user in (("a1", "ann"), ("a2", "ann"), ("b1", "bob")):
        clients[cid] = Client(n.port, 5)
        clients[cid].connect(cid, user=user, password=user, clean=False, p=[(0x11, 600)])
    a1 = dict(tenant_id="default", client_id="a1")
    asked = lambda method, path, **h: ask(port, method, path, token=ADMIN, **h)
    assert view(port, "/session", user_id="ann", **a1)["userId"] == "ann"
    assert view(port, "/session/inbox", user_id="ann", **a1)["expirySeconds"] == 600
    assert [s["clientId"] for s in view(port, "/sessions", tenant_id="default", user_id="ann")["sessions"]] == ["a1", "a2"]
    for method, path, more in (("GET", "/session", {}), ("GET", "/session/inbox", {}), ("DELETE", "/session/inbox", {}),
                               ("PUT", "/sub", {"topic_filter": "x", "sub_qos": 0}), ("DELETE", "/unsub", {"topic_filter": "x"}),
                               ("DELETE", "/kill", {"client_type": "t"})):
        assert asked(method, path, user_id="bob", **a1, **more)[0] == 404, (method, path)
    clients["a1"].nothing()
    assert asked("DELETE", "/kill", tenant_id="default", client_type="t", user_id="ann") == (200, '{"killed":2}')
    assert [clients[c].closed() for c in ("a1", "a2")] == [0x98] * 2
    clients["b1"].nothing()
    assert asked("DELETE", "/session/inbox", user_id="ann", **a1) == (200, "OK")
    again(lambda: same(asked("GET", "/session/inbox", **a1), (404, "NO_INBOX")))


def test_what_an_admin_orders_is_done_on_all_nodes(w):
    ports, key = [], os.urandom(32).hex()

    def prepare(n):
        ports.append(with_api(n))
        n.edit("clusterConfig : {", 'clusterConfig : { keyFile = "%s";' % n.file("keys", key + "\n"))
    w.cluster(3, prepare=prepare)
    again(lambda: all_ready(ports), within=60)
    again(lambda: members_full(ports[0], 3), within=60)
    order = lambda i, method, path, body=None, **h: ask(ports[i], method, path, token=ADMIN, body=body, **h)
    # another key: given, used, and the old one is gone everywhere
    old = view(ports[0], "/cluster/keyring")["keys"]
    assert [(k["holders"], k["users"]) for k in old] == [(3, 3)], old
    fresh = os.urandom(32).hex().encode()
    again(lambda: same(order(1, "PUT", "/cluster/keyring", fresh, order="add"), (200, "OK: 3 of 3 members")), within=60)
    mine = next(k["key"] for k in view(ports[1], "/cluster/keyring")["keys"] if k["key"] != old[0]["key"])
    again(lambda: same(order(0, "PUT", "/cluster/keyring", order="use", key=mine), (200, "OK: 3 of 3 members")), within=60)
    again(lambda: same(order(2, "PUT", "/cluster/keyring", order="remove", key=old[0]["key"]), (200, "OK: 3 of 3 members")),
          within=60)
    for p in ports:
        again(lambda: same([(k["key"], k["holders"], k["users"]) for k in view(p, "/cluster/keyring")["keys"]], [(mine, 3, 3)]),
              within=60)
    # a range is split, and its members are changed
    for i in range(4):
        again(lambda: same(order(0, "POST", "/retain", b"x", tenant_id="default", topic="r/%d" % i, qos=1, client_type="t"),
                           (200, "RETAINED")), within=60)
    ranges = lambda i: view(ports[i], "/store/ranges", store_name="retain.store")
    r = ranges(1)[0]
    head = dict(store_name="retain.store", range_id=r["id"])
    again(lambda: same(order(1, "PUT", "/store/range/split", key="64", **head), (200, "OK")), within=60)
    for i in range(3):
        again(lambda: same([x["boundary"]["endKey"] for x in ranges(i)], ["64", None]), within=60)
    assert order(2, "PUT", "/store/range/config", voters=",".join(r["clusterConfig"]["voters"]), version=r["ver"], **head) == (
        409, "the range is at another version by now: look at it again")
    balancer = dict(store_name="retain.store", balancer_factory_class="ReplicaCntBalancer")
    rule = lambda i: json.loads(order(i, "GET", "/store/balancer", **balancer)[1])["disable"]
    assert order(0, "PUT", "/store/balancer/disable", **balancer) == (200, "OK")
    again(lambda: same([rule(i) for i in range(3)], [True] * 3), within=60)
    again(lambda: same(order(2, "PUT", "/store/range/config", voters=r["leader"], **head), (200, "OK")), within=60)
    again(lambda: same([len(x["clusterConfig"]["voters"]) for x in ranges(0) if x["id"] == r["id"]], [1]), within=60)
    assert order(1, "PUT", "/store/balancer/enable", **balancer) == (200, "OK")
    again(lambda: same([rule(i) for i in range(3)], [False] * 3), within=60)
    again(lambda: members_full(ports[2], 3), within=60)  # it was mended by itself
    # the certificate of a node that is lost
    revoked = lambda i: [m["id"] for m in view(ports[i], "/cluster")["nodes"] if m.get("revoked")]
    ids = [m["id"] for m in view(ports[0], "/cluster")["nodes"]]
    mine = view(ports[0], "/cluster")["local"]
    assert order(0, "PUT", "/cluster/revoked", node_id=mine) == (409, "a node cannot revoke itself: ask another one")
    lost = next(i for i in ids if i != mine)
    assert order(0, "PUT", "/cluster/revoked", node_id=lost) == (200, "OK")
    again(lambda: same([revoked(i) for i in range(3) if view(ports[i], "/cluster")["local"] != lost], [[lost]] * 2), within=60)
    assert order(0, "DELETE", "/cluster/revoked", node_id=lost) == (200, "OK")
    again(lambda: same([revoked(i) for i in range(3)], [[]] * 3), within=60)


def test_the_table_of_endpoints_names_their_tests(w):
    """README.md beside this file: every endpoint has a row, every test in it exists."""
    with open(os.path.join(HERE, "README.md")) as f:
        rows = dict(re.findall(r"^\| `(\w+ /[^`]*)` \| (.*) \|$", f.read(), re.M))
    assert list(rows) == ["%s %s" % (m, p) for m, p, _, _, _ in endpoints()]
    tests = "".join(open(p).read() for p in glob.glob(os.path.join(HERE, "*_cases.py")))
    for who, names in rows.items():
        assert names, who
        for name in names.split():
            assert re.search(r"^def %s\(" % name, tests, re.M), (who, name)
