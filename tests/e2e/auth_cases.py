"""Who may come in, and who may do what.  SPDX-License-Identifier: Apache-2.0"""
import base64
import hashlib
import hmac
import os

from mqtt import AUTH, CONNACK, DISCONNECT, Client, props

ACL = """user alice
topic readwrite a/#
topic deny a/secret
pattern readwrite own/%u/#
"""


def refused(port, version, want, **kw):
    c = Client(port, version)
    c.connect("x", ok=False, **kw)
    assert c.expect(CONNACK).reason == want


def password_node(w, auth="password"):
    ctl = os.path.join(os.path.dirname(w.args.broker), "bilrostctl")
    if not os.path.exists(ctl):
        raise w.skip("bilrostctl is not built")
    n = w.node(auth=auth,
               config='auth : { password_file = "@DIR@/passwords"; acl_file = "@DIR@/acl"; };\n')
    n.file("acl", ACL)
    path = n.file("passwords", "")
    w.tool(ctl, "passwd", path, "alice", stdin="secret\n")
    w.tool(ctl, "passwd", "-s", path, "sam", stdin="pencil\n")
    return n.start()


def test_password_and_acl(w):
    n = password_node(w)
    refused(n.port, 4, 0x04, user="alice", password="wrong")
    refused(n.port, 5, 0x86, user="alice", password="wrong")
    refused(n.port, 5, 0x86, user="nobody", password="secret")
    refused(n.port, 5, 0x87)
    c = Client(n.port, 5)
    c.connect("c", user="alice", password="secret")
    assert c.subscribe(("a/b", 1), ("b/#", 1), ("a/secret", 0), ("own/alice/x", 2)) == [1, 0x87, 0x87, 2]
    assert c.subscribe(("#", 0)) == [0]  # some of it: what it may not read does not come
    assert c.unsubscribe("#") == [0]
    w2 = Client(n.port, 5)
    w2.connect("w2", user="alice", password="secret")
    assert w2.subscribe(("a/#", 1)) == [1]
    assert c.publish("a/b", "yes", 1) == 0
    assert w2.message() == ("a/b", "yes")
    assert c.message() == ("a/b", "yes")
    assert c.publish("b/c", "no", 1) == 0x87
    assert c.publish("a/secret", "no", 2) == 0x87


def test_a_will_needs_the_right_to_publish(w):
    """Else whoever may not publish would only have to vanish.  Refused when it connects; what may be published is."""
    n = password_node(w)
    alice = {"user": "alice", "password": "secret"}
    watch = Client(n.port, 5)
    watch.connect("watch", **alice)
    assert watch.subscribe(("a/#", 1)) == [1]
    for version, want in ((4, 0x05), (5, 0x87)):
        for t in ("b/c", "a/secret", "$SYS/broker/uptime"):
            refused(n.port, version, want, will=(t, "gone", 1, False), **alice)
        c = Client(n.port, version)
        c.connect("x", will=("a/b", "gone %d" % version, 1, False), **alice)
        c.drop()
        assert watch.message() == ("a/b", "gone %d" % version)


def test_a_stop_amid_password_checks_is_a_stop(w):
    """Also the second SIGTERM, which does not wait for anybody."""
    n = password_node(w)
    waiting = []
    for i in range(60):
        c = Client(n.port, 4)
        c.connect("w%d" % i, ok=False, user="alice", password="secret")
        waiting.append(c)
    n.process.terminate()
    n.process.terminate()
    assert n.process.wait(60) == 0


METHOD, DATA = 0x15, 0x16


class Scram:
    """The client's side of RFC 7677."""

    def __init__(self, user, password):
        self.password, self.first = password.encode(), "n=%s,r=fyko+d2lbbFgONRv9qkxdawL" % user

    def begin(self):
        return ("n,," + self.first).encode()

    def proof(self, challenge):
        self.nonce, salt, count = [x[2:] for x in challenge.decode().split(",")]
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(count))
        key = hmac.new(salted, b"Client Key", "sha256").digest()
        last = "c=biws,r=" + self.nonce
        self.text = (self.first + "," + challenge.decode() + "," + last).encode()
        sign = hmac.new(hashlib.sha256(key).digest(), self.text, "sha256").digest()
        self.server = hmac.new(hmac.new(salted, b"Server Key", "sha256").digest(), self.text, "sha256").digest()
        return last.encode() + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, sign)))

    def is_server(self, last):
        return last == b"v=" + base64.b64encode(self.server)


def auth_send(c, reason, data, method="SCRAM-SHA-256"):
    c.send(AUTH, 0, bytes([reason]) + props([(METHOD, method), (DATA, data)]))


def scram_connect(port, user, password):
    """The client and what it was answered: CONNACK."""
    c, s = Client(port, 5), Scram(user, password)
    c.connect("scram-" + user, ok=False, p=[(METHOD, "SCRAM-SHA-256"), (DATA, s.begin())])
    ask = c.expect(AUTH)
    assert ask.reason == 0x18 and ask.prop(METHOD) == "SCRAM-SHA-256"
    auth_send(c, 0x18, s.proof(ask.prop(DATA)))
    ack = c.expect(CONNACK)
    assert ack.reason or (s.is_server(ack.prop(DATA)) and ack.prop(METHOD) == "SCRAM-SHA-256")
    return c, ack


def test_scram_proves_both_sides(w):
    n = password_node(w, "scram")
    c, ack = scram_connect(n.port, "sam", "pencil")
    assert ack.reason == 0
    assert c.subscribe(("own/sam/x", 1), ("own/alice/x", 1)) == [1, 0x87]  # it is sam
    for user, password in (("sam", "wrong"), ("alice", "secret"), ("nobody", "pencil")):  # alice has no SCRAM keys
        c, ack = scram_connect(n.port, user, password)
        assert ack.reason == 0x86
        c.closed()
    refused(n.port, 5, 0x87, user="sam", password="pencil")  # password is not in this chain
    refused(n.port, 5, 0x8C, p=[(METHOD, "GS2-KRB5"), (DATA, b"x")])
    refused(n.port, 5, 0x87, p=[(METHOD, "SCRAM-SHA-256"), (DATA, b"nonsense")])
    refused(n.port, 5, 0x87, p=[(METHOD, "SCRAM-SHA-256")])


def test_scram_keys_serve_a_plain_password_too(w):
    n = password_node(w)
    refused(n.port, 5, 0x8C, p=[(METHOD, "SCRAM-SHA-256"), (DATA, b"n,,n=sam,r=x")])
    refused(n.port, 4, 0x04, user="sam", password="wrong")
    c = Client(n.port, 4)
    c.connect("c", user="sam", password="pencil")


def test_scram_again_on_the_open_connection(w):
    n = password_node(w, "scram")
    for user, password, want in (("sam", "pencil", 0), ("sam", "wrong", 0x87), ("alice", "secret", 0x87)):
        c, _ = scram_connect(n.port, "sam", "pencil")
        c.subscribe(("own/sam/x", 1))
        for _ in range(2):
            s = Scram(user, password)
            auth_send(c, 0x19, s.begin())
            ask = c.expect(AUTH)
            assert ask.reason == 0x18
            assert c.publish("own/sam/x", "meanwhile", 1) == 0
            assert c.message() == ("own/sam/x", "meanwhile")
            auth_send(c, 0x18, s.proof(ask.prop(DATA)))
            if want:
                assert c.closed() == want
                break
            ack = c.expect(AUTH)
            assert ack.reason == 0 and s.is_server(ack.prop(DATA))
    c, _ = scram_connect(n.port, "sam", "pencil")
    auth_send(c, 0x19, b"x", "OTHER")
    assert c.expect(DISCONNECT).reason == 0x82
