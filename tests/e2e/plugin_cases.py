"""Plugins: who may come in, what he may do there, and which shared objects are none.  SPDX-License-Identifier: Apache-2.0"""
import os
import shutil
import subprocess
import time

from auth_cases import DATA, METHOD, auth_send
from mqtt import AUTH, CONNACK, Client

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
    says(so, "interface 99", "this broker has 1 to 2")
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


SUMS = r"""
#include <bilrost/plugin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* settings: its method.  A client says its client id, answers 2+2 and 3*3, and is let in; each reply comes from a
 * thread of its own.  What is to be answered next, and who said he was who, is the state. */
struct sums {
    const struct bilrost_host *host;
    char method[16];
    pthread_mutex_t lock;
    pthread_t thread;
    int has_thread;
};

struct work {
    struct sums *sums;
    const struct bilrost_client *client;
    const struct bilrost_step *step;
    struct bilrost_ask *ask;
};

static int is(struct bilrost_bytes b, const char *text)
{
    return b.n == strlen(text) && memcmp(b.p, text, b.n) == 0;
}

static struct bilrost_bytes say(const char *text)
{
    return (struct bilrost_bytes){text, strlen(text)};
}

static void first(const struct work *w, struct bilrost_reply *r)
{
    static const char much[BILROST_PLUGIN_DATA_MAX + 1];
    r->verdict.answer = is(w->step->method, w->sums->method) ? BILROST_CONTINUE : BILROST_NOT_MINE;
    r->data = say("2+2");
    r->state = say("4");
    if (is(w->step->data, "busy"))
        r->verdict.answer = BILROST_UNAVAILABLE;
    else if (is(w->step->data, "much"))
        r->data = (struct bilrost_bytes){much, sizeof much};
    else if (w->step->data.n != w->client->client_id.n ||
             memcmp(w->step->data.p, w->client->client_id.p, w->step->data.n) != 0)
        r->verdict.answer = BILROST_NOT_AUTHORIZED;
}

static void *answer(void *arg)
{
    struct work *w = arg;
    struct bilrost_reply r = {.verdict = {.answer = BILROST_BAD_PASSWORD}};
    if (!w->step->state.p) {
        first(w, &r);
    } else if (!is(w->step->method, w->sums->method)) {
        r.verdict.answer = BILROST_NOT_MINE; /* another plugin's exchange */
    } else if (is(w->step->state, "4") && is(w->step->data, "4")) {
        r.verdict.answer = BILROST_CONTINUE;
        r.data = say("3*3");
        r.state = say("9");
    } else if (is(w->step->state, "9") && is(w->step->data, "9")) {
        r.verdict.answer = BILROST_LET_IN;
        r.verdict.user = w->client->client_id;
        r.verdict.rules = say(w->step->is_again ? "pattern readwrite %u/#\npattern readwrite later/#\n"
                                                : "pattern readwrite %u/#\n");
        if (w->step->is_again && (w->client->user.n != w->client->client_id.n || w->client->password.p))
            r.verdict.answer = BILROST_NOT_AUTHORIZED;
        r.data = say("bye");
    } else if (is(w->step->state, "9") && is(w->step->data, "nine")) { /* somebody else */
        r.verdict.answer = BILROST_LET_IN;
        r.verdict.user = say("other");
    }
    w->sums->host->reply(w->ask, &r);
    free(w);
    return NULL;
}

static int open_it(const struct bilrost_host *host, const char *settings, char *error, void **self)
{
    struct sums *s = calloc(1, sizeof *s);
    (void)error;
    s->host = host;
    snprintf(s->method, sizeof s->method, "%s", settings);
    pthread_mutex_init(&s->lock, NULL);
    *self = s;
    return 0;
}

static void close_it(void *self)
{
    struct sums *s = self;
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void step(void *self, const struct bilrost_client *client, const struct bilrost_step *step,
                 struct bilrost_ask *ask)
{
    struct sums *s = self;
    struct work *w = malloc(sizeof *w);
    *w = (struct work){s, client, step, ask};
    pthread_mutex_lock(&s->lock);
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    s->has_thread = pthread_create(&s->thread, NULL, answer, w) == 0;
    pthread_mutex_unlock(&s->lock);
}

const struct bilrost_plugin bilrost_plugin = {.abi = BILROST_PLUGIN_ABI, .size = sizeof(struct bilrost_plugin),
    .name = "sums", .open = open_it, .close = close_it, .step = step};
"""


def sums_node(w):
    n = w.node(auth="plugin", config='plugins = ["@DIR@/one.so=ONE", "@DIR@/two.so=TWO"];\n')
    for name in ("one", "two"):
        build(w, n.file(name + ".c", SUMS), os.path.join(n.dir, name + ".so"))
    return n.start()


def sums_connect(port, cid, answers=(b"4", b"9"), method="TWO"):
    """The client and its CONNACK, after so many answers."""
    c = Client(port, 5)
    c.connect(cid, ok=False, p=[(METHOD, method), (DATA, cid.encode())])
    sums_answer(c, answers, method)
    return c, c.expect(CONNACK)


def sums_answer(c, answers, method="TWO"):
    for sum_, data in zip((b"2+2", b"3*3"), answers):
        ask = c.expect(AUTH)
        assert (ask.reason, ask.prop(METHOD), ask.prop(DATA)) == (0x18, method, sum_)
        auth_send(c, 0x18, data, method)


def test_a_plugin_has_a_method_of_enhanced_authentication(w):
    n = sums_node(w)
    for method in ("ONE", "TWO"):  # the first step goes from plugin to plugin, the next ones do not
        c, ack = sums_connect(n.port, "ann", method=method)
        assert (ack.reason, ack.prop(METHOD), ack.prop(DATA)) == (0, method, b"bye")
        assert c.subscribe(("ann/#", 1), ("bob/#", 1), ("later/#", 1)) == [1, 0x87, 0x87]
        assert c.publish("ann/x", "mine", 1) == 0
        assert c.message() == ("ann/x", "mine")
    for answers in ((b"5",), (b"4", b"8"), (b"",)):
        c, ack = sums_connect(n.port, "ann", answers)
        assert ack.reason == 0x86 and ack.prop(DATA) is None
        c.closed()
    gone = Client(n.port, 5)
    gone.connect("gone", ok=False, p=[(METHOD, "TWO"), (DATA, b"gone")])
    gone.expect(AUTH)
    gone.drop()  # nobody goes on with this exchange
    refused(n.port, 0x8C, p=[(METHOD, "THREE"), (DATA, b"x")])
    refused(n.port, 0x8C, p=[(METHOD, "SCRAM-SHA-256"), (DATA, b"x")])  # not in this listener's chain
    refused(n.port, 0x87, p=[(METHOD, "TWO"), (DATA, b"not its id")])
    refused(n.port, 0x88, p=[(METHOD, "TWO"), (DATA, b"busy")])
    refused(n.port, 0x88, p=[(METHOD, "ONE"), (DATA, b"much")])  # more than an AUTH can hold
    refused(n.port, 0x87, user="ann", password="x")  # no plugin looks at passwords
    assert n.terminate(60) == 0


def test_a_plugin_authenticates_again(w):
    n = sums_node(w)
    c, _ = sums_connect(n.port, "ann")
    c.subscribe(("ann/#", 1))
    assert c.publish("later/x", "no", 1) == 0x87
    for _ in range(2):
        auth_send(c, 0x19, b"ann", "TWO")
        ask = c.expect(AUTH)
        assert (ask.reason, ask.prop(DATA)) == (0x18, b"2+2")
        assert c.publish("ann/x", "meanwhile", 1) == 0
        assert c.message() == ("ann/x", "meanwhile")
        auth_send(c, 0x18, b"4", "TWO")
        assert c.expect(AUTH).prop(DATA) == b"3*3"
        auth_send(c, 0x18, b"9", "TWO")
        done = c.expect(AUTH)
        assert (done.reason, done.prop(METHOD), done.prop(DATA)) == (0, "TWO", b"bye")
        assert c.publish("later/x", "yes", 1) in (0, 0x10)  # its rules are new
    for answers in ((b"5",), (b"4", b"8"), (b"4", b"nine")):  # the last one is right, for somebody else
        c, ack = sums_connect(n.port, "bob")
        assert ack.reason == 0
        auth_send(c, 0x19, b"bob", "TWO")
        sums_answer(c, answers)
        assert c.closed() == 0x87, answers
    assert n.terminate(60) == 0
