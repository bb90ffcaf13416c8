/* A crowd of clients beside the pairs: who dies, roams, shares, sleeps, keeps.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each device plays one role (enum role) and what it should get is known from what the others did.
 * A note is one message of the crowd, a life one connection with a will.  The crowd stirs until it
 * is told to rest; what it got is judged by judge.h, wills by wills.h. */
#pragma once

#include "sim/nodesim/device.h"

#define TICK_USEC (100 * USEC_MSEC)
#define WATCHERS 2
#define MORTALS 5
#define ROAMERS 3
#define SOURCES 2
#define WRITERS 2
#define LOYALS 2 /* members of $share/p: their sessions stay */
#define MIXED 4  /* of $share/m: the first one's session stays */
#define SHORTS 3
#define KEPT_TOPICS 4 /* of one writer */
#define SHORT_SEC 3
#define RUMOUR_USEC (8 * USEC_SEC) /* the longest one, and a short session's time */
#define NAP_SEC 2
#define CROWD (WATCHERS + MORTALS + ROAMERS + SOURCES + WRITERS + LOYALS + MIXED + SHORTS + 1)

enum role {
    ROLE_WATCHER, /* of wills */
    ROLE_MORTAL,  /* has a will */
    ROLE_ROAMER,  /* takes its session from node to node */
    ROLE_SOURCE,  /* publishes to roamers, groups, the sleeper */
    ROLE_WRITER,  /* of retained messages; nobody else writes its topics */
    ROLE_LOYAL,
    ROLE_MIXED,
    ROLE_SHORT, /* its session ends soon after it leaves */
    ROLE_SLEEPER,
    ROLE_COUNT
};

static const unsigned role_count[ROLE_COUNT] = {WATCHERS, MORTALS, ROAMERS, SOURCES, WRITERS,
                                                LOYALS,   MIXED,   SHORTS,  1};
static const char *const role_name[ROLE_COUNT] = {"watcher", "mortal", "roamer", "source", "writer",
                                                  "loyal",   "mixed",  "short",  "sleeper"};

enum note_kind { NOTE_ROAM, NOTE_JOB, NOTE_NAP, NOTE_KEPT };

struct note {
    enum note_kind kind;
    unsigned source, target;
    uint32_t expiry_sec;
    bool is_empty, is_refused;
    usec_t sent, acked;         /* first; 0: not yet */
    unsigned got, got_by_mixed; /* as often */
};

enum ending {
    ENDING_NONE, /* it lives, or the network ended it */
    ENDING_BREAK,
    ENDING_MUTE,
    ENDING_LEAVE, /* DISCONNECT 0x00: no will */
    ENDING_LEAVE_WITH_WILL,
    ENDING_TAKEOVER,
    ENDING_COUNT
};

struct life {
    uint32_t next; /* of the same mortal; 0: none */
    usec_t opened, confirmed, alive, ended;
    uint32_t delay_sec, expiry_sec;
    bool is_clean;
    enum ending ending;
    unsigned got[WATCHERS];
};

struct kept {                 /* one retained topic: what it must hold when nothing is under way */
    uint32_t under_way, note; /* note 0: nothing */
};

struct crowd {
    struct world *world;
    struct net_loop *loop;
    struct rng rng;
    uint8_t qos;
    struct device device[CROWD];
    usec_t act_at[CROWD], retry_at[CROWD];
    bool was_on[CROWD]; /* it had its session once */
    bool is_open;       /* everybody who listens had; nothing is sent before */
    bool is_stirred, is_sourcing, is_over;
    usec_t calm_from; /* since then nothing was broken but by the clients; USEC_NEVER: not yet */
    bool is_tame;     /* nodes reach each other all the time */
    struct note *note;
    size_t note_count, note_cap;
    struct life *life;
    size_t life_count, life_cap;
    uint32_t living[MORTALS]; /* the life of now */
    struct kept kept[WRITERS * KEPT_TOPICS];
    uint32_t last_got[ROAMERS][SOURCES]; /* notes in order */
    struct {
        usec_t alive, ended; /* of the connection before; ended 0: none, or it is not over */
        bool was_calm;       /* the broker saw its end at once */
    } shorts[SHORTS];
    unsigned wills, takeovers, expired, kept_reads;
};

static struct crowd *crowd_of(const struct device *d)
{
    return d->arg;
}

static size_t device_place(const struct device *d)
{
    return (size_t)(d - crowd_of(d)->device);
}

static bool is_calm(const struct crowd *c)
{
    return c->is_tame || c->world->now >= c->calm_from;
}

static uint32_t note_new(struct crowd *c, const struct note *n)
{
    c->note = mem_grow(c->note, &c->note_cap, c->note_count + 1, sizeof *c->note);
    c->note[c->note_count] = *n;
    return (uint32_t)c->note_count++;
}

#include "sim/nodesim/wills.h"

/* ---- what arrives ---------------------------------------------------------------------------- */

static void roamer_got(struct crowd *c, unsigned roamer, uint32_t id)
{
    struct note *n = &c->note[id];
    if (n->got++ > 0) {
        if (c->qos == 2)
            fail(c->world, "a QoS 2 message arrived twice at one who roams");
        return;
    }
    if (n->target != roamer)
        fail(c->world, "a message for another one");
    if (n->is_refused) /* it has no place */
        return;
    if (id < c->last_got[roamer][n->source] && !c->world->canary)
        printf("roamer %u: note %u (sent %.3f, acked %.3f) after %u\n", roamer, id,
               (double)n->sent / 1e6, (double)n->acked / 1e6, c->last_got[roamer][n->source]);
    if (id < c->last_got[roamer][n->source])
        fail(c->world, "messages to one who roams changed places");
    c->last_got[roamer][n->source] = id;
}

static void job_got(struct crowd *c, const struct device *d, uint32_t id)
{
    struct note *n = &c->note[id];
    unsigned *got = d->role == ROLE_MIXED ? &n->got_by_mixed : &n->got;
    ++*got;
}

/* Its time runs from when the broker took it, at the latest when it was acknowledged; a cut link
 * may hold it, and what was begun to be delivered in time is delivered again, as a duplicate, at
 * any time. */
static void nap_got(struct crowd *c, uint32_t id, bool is_dup)
{
    struct note *n = &c->note[id];
    n->got++;
    if (n->expiry_sec && n->acked && !is_dup &&
        c->world->now > n->acked + (n->expiry_sec + 2) * USEC_SEC + STREAM_HELD_USEC)
        fail(c->world, "a message was delivered after its expiry");
}

static void on_message(struct device *d, const struct codec_mqtt_publish *p, uint32_t id)
{
    struct crowd *c = crowd_of(d);
    if (d->role == ROLE_WATCHER) {
        will_got(c, d, id);
        return;
    }
    if (id == 0 || id >= c->note_count || p->payload.n != 4) {
        fail(c->world, "a message that nobody sent");
        return;
    }
    if (d->role == ROLE_ROAMER)
        roamer_got(c, d->index, id);
    else if (d->role == ROLE_LOYAL || d->role == ROLE_MIXED)
        job_got(c, d, id);
    else if (d->role == ROLE_SLEEPER)
        nap_got(c, id, p->is_dup);
}

/* ---- connections ----------------------------------------------------------------------------- */

/* The leader of its inbox alone may have taken its node for dead, which did not hear of that before its session was
 * over, as such a session's time is short. */
static bool is_rumoured(const struct crowd *c, usec_t alive)
{
    return c->world->rumoured_at != 0 && c->world->rumoured_at + RUMOUR_USEC > alive;
}

static void short_is_back(struct device *d, bool is_present)
{
    struct crowd *c = crowd_of(d);
    usec_t end = c->shorts[d->index].ended;
    if (end == 0)
        return;
    usec_t alive = c->shorts[d->index].alive;
    if (!is_present && c->world->now < alive + SHORT_SEC * USEC_SEC && !is_rumoured(c, alive))
        fail(c->world, "a session was over before its time");
    if (is_present && c->world->now > end + (SHORT_SEC + 1) * USEC_SEC &&
        c->shorts[d->index].was_calm)
        fail(c->world, "a session is still there after its expiry");
    c->expired += !is_present;
    c->shorts[d->index].ended = 0;
}

static void on_ready(struct device *d, bool is_present)
{
    struct crowd *c = crowd_of(d);
    usec_t now = c->world->now;
    if (c->was_on[device_place(d)] && !is_present && d->expiry_sec > SHORT_SEC &&
        d->role != ROLE_MORTAL)
        fail(c->world, "a session of the crowd was forgotten");
    c->was_on[device_place(d)] = true;
    if (d->role == ROLE_MORTAL)
        life_confirmed(c, d);
    if (d->role == ROLE_SHORT)
        short_is_back(d, is_present);
    if (d->role == ROLE_SHORT || d->role == ROLE_MORTAL)
        c->act_at[device_place(d)] = now + 300 * USEC_MSEC + rng_below(&c->rng, 3 * USEC_SEC);
}

static void on_lost(struct device *d)
{
    struct crowd *c = crowd_of(d);
    size_t i = device_place(d);
    if (d->role == ROLE_MORTAL)
        life_lost(c, d);
    if (d->role == ROLE_SHORT && c->shorts[d->index].ended == 0 && d->is_subscribed) {
        c->shorts[d->index].alive = d->alive_at;
        c->shorts[d->index].ended = c->world->now;
        c->shorts[d->index].was_calm = c->world->now >= c->calm_from;
    }
    c->retry_at[i] = c->world->now + 50 * USEC_MSEC + rng_below(&c->rng, 400 * USEC_MSEC);
}

static void on_sent(struct device *d, const struct device_out *o)
{
    struct note *n = &crowd_of(d)->note[o->id];
    n->sent = n->sent ? n->sent : d->world->now;
}

static void on_acked(struct device *d, const struct device_out *o)
{
    struct crowd *c = crowd_of(d);
    struct note *n = &c->note[o->id];
    n->acked = c->world->now;
    if (n->kind == NOTE_KEPT)
        c->kept[n->target] = (struct kept){.note = o->id};
}

/* Its writer does not know what is kept now, so it writes again. */
static bool on_refused(struct device *d, const struct device_out *o)
{
    struct note *n = &crowd_of(d)->note[o->id];
    n->is_refused = n->kind != NOTE_KEPT;
    return n->is_refused;
}

static const struct device_ops crowd_ops = {.ready = on_ready,
                                            .message = on_message,
                                            .sent = on_sent,
                                            .acked = on_acked,
                                            .refused = on_refused,
                                            .lost = on_lost};

/* ---- what they do ---------------------------------------------------------------------------- */

static unsigned any_node(struct crowd *c)
{
    return (unsigned)rng_below(&c->rng, c->world->node_count);
}

static void source_acts(struct crowd *c, struct device *d)
{
    static const enum note_kind kind[] = {NOTE_ROAM, NOTE_ROAM, NOTE_JOB, NOTE_JOB, NOTE_NAP};
    struct note n = {.kind = kind[rng_below(&c->rng, countof(kind))], .source = d->index};
    struct device_out o = {.qos = c->qos};
    if (!c->is_sourcing || !c->is_open || d->out_count > 30)
        return;
    n.target = n.kind == NOTE_ROAM ? (unsigned)rng_below(&c->rng, ROAMERS) : 0;
    n.expiry_sec = n.kind == NOTE_NAP && rng_chance(&c->rng, 500000) ? NAP_SEC : 0;
    o.expiry_sec = n.expiry_sec;
    o.id = note_new(c, &n);
    snprintf(o.topic, sizeof o.topic, "%s/%u",
             n.kind == NOTE_ROAM  ? "roam"
             : n.kind == NOTE_JOB ? "job"
                                  : "nap",
             n.target);
    device_publish(d, &o);
}

/* One write under way per topic. */
static void writer_acts(struct crowd *c, struct device *d)
{
    unsigned at = d->index * KEPT_TOPICS + (unsigned)rng_below(&c->rng, KEPT_TOPICS);
    struct note n = {.kind = NOTE_KEPT, .target = at};
    struct device_out o = {.qos = c->qos, .is_retain = true};
    if (!c->is_sourcing || !c->is_open || c->kept[at].under_way)
        return;
    n.is_empty = o.is_empty = rng_chance(&c->rng, 200000);
    n.expiry_sec = o.expiry_sec = !o.is_empty && rng_chance(&c->rng, 200000) ? NAP_SEC : 0;
    c->kept[at].under_way = o.id = note_new(c, &n);
    snprintf(o.topic, sizeof o.topic, "ret/%u/%u", d->index, at % KEPT_TOPICS);
    device_publish(d, &o);
}

static void short_acts(struct crowd *c, struct device *d)
{
    size_t i = device_place(d);
    if (!device_is_on(d))
        return;
    device_break(d);
    c->retry_at[i] = c->world->now + (rng_chance(&c->rng, 500000)
                                          ? rng_below(&c->rng, 2 * USEC_SEC)
                                          : 5 * USEC_SEC + rng_below(&c->rng, 4 * USEC_SEC));
}

/* Loses its connection now and then; a sleeper stays away for a while. */
static void others_act(struct crowd *c, struct device *d)
{
    size_t i = device_place(d);
    if (device_is_on(d) && rng_chance(&c->rng, 300000))
        device_mute(d);
    else if (device_is_on(d))
        device_break(d);
    if (d->role == ROLE_SLEEPER)
        c->retry_at[i] = c->world->now + rng_below(&c->rng, 6 * USEC_SEC);
    c->act_at[i] = c->world->now + USEC_SEC + rng_below(&c->rng, 8 * USEC_SEC);
}

static void roamer_acts(struct crowd *c, struct device *d)
{
    if (device_is_on(d)) {
        device_connect(d, any_node(c));
        c->takeovers++;
    }
    c->act_at[device_place(d)] = c->world->now + 200 * USEC_MSEC + rng_below(&c->rng, 3 * USEC_SEC);
}

static void device_acts(struct crowd *c, struct device *d)
{
    size_t i = device_place(d);
    usec_t now = c->world->now;
    if (!d->line && now >= c->retry_at[i] &&
        (d->role != ROLE_MORTAL || (c->is_stirred && c->is_open))) {
        if (d->role == ROLE_MORTAL)
            life_begins(c, d, any_node(c));
        else
            device_connect(d, any_node(c));
        return;
    }
    if (d->role == ROLE_SOURCE)
        source_acts(c, d);
    if (d->role == ROLE_WRITER)
        writer_acts(c, d);
    if (now < c->act_at[i] || !c->is_stirred || !c->is_open)
        return;
    if (d->role == ROLE_MORTAL)
        mortal_acts(c, d, any_node(c));
    else if (d->role == ROLE_SHORT)
        short_acts(c, d);
    else if (d->role == ROLE_ROAMER)
        roamer_acts(c, d);
    else
        others_act(c, d);
}

static void crowd_tick(struct world_event *ev)
{
    struct crowd *c = ev->a;
    bool is_ping = ++ev->u % (DEVICE_PING_USEC / TICK_USEC) == 0;
    bool is_open = true;
    if (c->is_over)
        return;
    for (size_t i = 0; i < CROWD; i++)
        is_open = is_open && (!c->device[i].sub.filter || c->was_on[i]);
    c->is_open = c->is_open || is_open;
    for (size_t i = 0; i < CROWD; i++) {
        if (is_ping)
            device_ping(&c->device[i]);
        device_acts(c, &c->device[i]);
    }
    world_at(c->world, c->world->now + TICK_USEC, crowd_tick, c, NULL)->u = ev->u;
}

/* ---- begin and end --------------------------------------------------------------------------- */

static void device_role(struct crowd *c, struct device *d)
{
    static const char *const filter[ROLE_COUNT] = {
        [ROLE_WATCHER] = "will/#",
        [ROLE_LOYAL] = "$share/p/job/#",
        [ROLE_MIXED] = "$share/m/job/#",
        [ROLE_SLEEPER] = "nap/#",
    };
    static const char *const own[] = {"0", "roam/0", "roam/1", "roam/2"};
    d->expiry_sec = 1000;
    d->sub = (struct device_sub){filter[d->role], d->role == ROLE_WATCHER ? 2 : c->qos};
    if (d->role == ROLE_ROAMER)
        d->sub.filter = own[1 + d->index];
    if (d->role == ROLE_SHORT) {
        d->expiry_sec = SHORT_SEC;
        d->sub.filter = "short/#";
    }
    if (d->role == ROLE_MIXED && d->index > 0)
        d->expiry_sec = 0;
}

static void crowd_begin(struct crowd *c, struct net_loop *loop, uint8_t qos, bool is_tame)
{
    unsigned at = 0;
    c->world = sim_world;
    c->loop = loop;
    c->qos = qos;
    c->is_tame = is_tame;
    c->calm_from = USEC_NEVER;
    c->is_stirred = c->is_sourcing = true;
    rng_init(&c->rng, rng_u64(&c->world->rng));
    (void)note_new(c, &(struct note){0}); /* 0 is none */
    (void)life_new(c, &(struct life){0});
    for (unsigned r = 0; r < ROLE_COUNT; r++)
        for (unsigned i = 0; i < role_count[r]; i++, at++) {
            struct device *d = &c->device[at];
            device_init(d, loop, &crowd_ops);
            d->arg = c;
            d->role = r;
            d->index = i;
            snprintf(d->id, sizeof d->id, "%s%u", role_name[r], i);
            device_role(c, d);
            c->retry_at[at] = c->world->now + 3 * USEC_SEC + rng_below(&c->rng, 2 * USEC_SEC);
            c->act_at[at] = c->retry_at[at] + 2 * USEC_SEC;
        }
    must(at == CROWD);
    world_at(c->world, c->world->now + TICK_USEC, crowd_tick, c, NULL);
}

static void crowd_end(struct crowd *c)
{
    for (size_t i = 0; i < CROWD; i++)
        device_deinit(&c->device[i]);
    mem_free(c->note);
    mem_free(c->life);
}
