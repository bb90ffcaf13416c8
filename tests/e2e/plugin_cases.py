"""Plugins: who may come in, what he may do there, and which shared objects are none.  SPDX-License-Identifier: Apache-2.0"""
import os
import shutil
import subprocess

from mqtt import CONNACK, Client

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOOR = os.path.join(ROOT, "etc/examples/plugin/door.c")


def build(w, source, to):
    cc = shutil.which("cc") or shutil.which("gcc")
    if cc is None:
        raise w.skip("no C compiler is installed")
    subprocess.run([cc, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread",
                    "-I" + os.path.join(ROOT, "include"), "-o", to, source], check=True)
    return to


def refused(port, reason, **kw):
    c = Client(port, 5)
    c.connect("x", ok=False, **kw)
    assert c.expect(CONNACK).reason == reason, kw


def check_config(w, n):
    """What --test-config says of n's configuration: (exit code, text)."""
    r = subprocess.run([w.args.broker, "--config", n.conf, "--test-config"], capture_output=True, text=True, timeout=60)
    return r.returncode, r.stdout + r.stderr


def test_a_plugin_lets_in_gives_rules_and_hears(w):
    n = w.node(auth="plugin", config='plugins = ["@DIR@/door.so=swordfish"];\n')
    build(w, DOOR, os.path.join(n.dir, "door.so"))
    n.start()
    refused(n.port, 0x86, user="ann", password="wrong")
    refused(n.port, 0x86, user="ann")
    refused(n.port, 0x87)  # it wants a name
    refused(n.port, 0x87, user="guest1", password="swordfish")  # not its own, and nobody else is asked
    ann, bob = Client(n.port, 5), Client(n.port, 4)
    ann.connect("ann", user="ann", password="swordfish")
    bob.connect("bob", user="bob", password="swordfish")
    assert ann.subscribe(("ann/#", 1), ("bob/#", 1), ("notice/x", 0), ("#", 1)) == [1, 0x87, 0, 1]
    assert ann.publish("ann/a", "mine", 1) == 0
    assert ann.message() == ("ann/a", "mine")
    assert ann.publish("bob/a", "his", 1) == 0x87
    assert ann.publish("notice/x", "to all", 1) == 0x87
    assert bob.subscribe(("bob/+", 1)) == [1]
    bob.publish("bob/b", "his", 1)  # what "#" of ann may not have does not come to her
    assert bob.message() == ("bob/b", "his")
    assert ann.publish("ann/c", "last", 1) == 0
    assert ann.message() == ("ann/c", "last")
    assert n.terminate(60) == 0
    n.log.seek(0)
    assert "let in 2, heard of 2 connections" in n.log.read()


def test_what_a_plugin_does_not_know_goes_on_along_the_chain(w):
    n = w.node(auth="plugin\", \"anonymous", config='plugins = ["@DIR@/door.so=swordfish"];\n')
    n.edit('auth = "plugin", "anonymous"', 'auth = ["plugin", "anonymous"]')
    build(w, DOOR, os.path.join(n.dir, "door.so"))
    n.start()
    c = Client(n.port, 5)
    c.connect("g", user="guest1")
    assert c.subscribe(("bob/#", 1)) == [1]  # no rules of its own
    refused(n.port, 0x86, user="ann", password="wrong")


def test_a_shared_object_that_is_no_plugin_is_refused_in_one_sentence(w):
    n = w.node(auth="plugin", config='plugins = ["@DIR@/door.so=swordfish"];\n')
    so, source = os.path.join(n.dir, "door.so"), os.path.join(n.dir, "other.c")

    def says(*words):
        code, text = check_config(w, n)
        assert code == 78, (code, text)
        for word in words + ("plugins",):
            assert word in text, text
        assert len(text.strip().splitlines()) == 1, text

    says(so, "No such file")
    n.file("other.c", "int x;\n")
    build(w, source, so)
    says(so, "does not export bilrost_plugin")
    with open(DOOR) as f:
        text = f.read()
    n.file("other.c", text.replace(".abi = BILROST_PLUGIN_ABI", ".abi = 99"))
    build(w, source, so)
    says(so, "interface 99", "this broker has 1")
    build(w, DOOR, so)
    assert check_config(w, n)[0] == 0
    n.edit("door.so=swordfish", "door.so")
    says("the word is missing")
    n.launch()  # and a start says the same
    assert n.process.wait(60) == 78
    n.log.seek(0)
    assert "the word is missing" in n.log.read()
    n.edit(n.dir + "/door.so", "door.so")
    says("must be a whole path")
