"""Who may come in, and who may do what.  SPDX-License-Identifier: Apache-2.0"""
import os

from mqtt import CONNACK, Client

ACL = """user alice
topic readwrite a/#
topic deny a/secret
pattern readwrite own/%u/#
"""


def refused(port, version, want, **kw):
    c = Client(port, version)
    c.connect("x", ok=False, **kw)
    assert c.expect(CONNACK).reason == want


def password_node(w):
    ctl = os.path.join(os.path.dirname(w.args.broker), "bilrostctl")
    if not os.path.exists(ctl):
        raise w.skip("bilrostctl is not built")
    n = w.node(auth="password",
               config='auth : { password_file = "@DIR@/passwords"; acl_file = "@DIR@/acl"; };\n')
    n.file("acl", ACL)
    path = n.file("passwords", "")
    w.tool(ctl, "passwd", path, "alice", stdin="secret\n")
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
