"""Plugins: who may come in, what he may do there, and which shared objects are none.  SPDX-License-Identifier: Apache-2.0"""
import os
import shutil
import subprocess
import time

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


SLOW = r"""
#include <bilrost/plugin.h>
#include <pthread.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct bilrost_host *host;
static struct bilrost_ask *kept[16];
static int count;

static int open_it(const struct bilrost_host *h, const char *settings, char *error, void **self)
{
    (void)settings, (void)error, (void)self;
    host = h;
    return 0;
}

static void close_it(void *self)
{
    (void)self; /* against its word: what it kept is never answered */
}

/* Keeps them until one comes whose name is "go"; "rules" gets some that cannot be read. */
static void ask(void *self, const struct bilrost_client *c, struct bilrost_ask *a)
{
    struct bilrost_verdict v = {.answer = BILROST_LET_IN};
    (void)self;
    pthread_mutex_lock(&lock);
    if (c->user.n == 5)
        v.rules = (struct bilrost_bytes){"nonsense", 8};
    else if (c->user.n != 2)
        kept[count++] = a;
    if (c->user.n == 2)
        while (count > 0)
            host->answer(kept[--count], &v);
    if (c->user.n == 2 || c->user.n == 5)
        host->answer(a, &v);
    pthread_mutex_unlock(&lock);
}

const struct bilrost_plugin bilrost_plugin = {.abi = BILROST_PLUGIN_ABI, .size = sizeof(struct bilrost_plugin),
    .name = "slow", .open = open_it, .close = close_it, .authenticate = ask};
"""


def test_a_plugin_answers_when_it_likes(w):
    n = w.node(auth="plugin", config='plugins = ["@DIR@/slow.so"];\ndrain_seconds = 1;\n')
    build(w, n.file("slow.c", SLOW), os.path.join(n.dir, "slow.so"))
    n.start()
    gone, waits = Client(n.port, 5), Client(n.port, 4)
    gone.connect("gone", ok=False, user="left")
    waits.connect("waits", ok=False, user="wait")
    gone.drop()  # nobody is there any more when the answer comes
    refused(n.port, 0x88, user="rules")
    end, answer = time.monotonic() + 60, None
    while answer is None:  # until the plugin had it when somebody said go
        go = Client(n.port, 5)
        go.connect("go", user="go")
        answer = waits.recv(1)
        assert time.monotonic() < end
    assert answer.kind == CONNACK and answer.reason == 0
    assert waits.subscribe(("a", 1)) == [1]
    assert go.publish("a", "x", 1) == 0
    assert waits.message() == ("a", "x")
    Client(n.port, 5).connect("late", ok=False, user="late")  # nobody ever says anything about it
    code = n.terminate(60)
    n.log.seek(0)
    assert code == 0, (code, n.log.read()[-3000:])
