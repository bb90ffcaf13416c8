/* What the crowd must have got, and what must be left when everybody is gone: nothing.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"
#include "sim/nodesim/crowd.h"
#include "stores/stores_priv.h"

#define CROWD_NODES_MAX 8

struct mqtt { /* one node: what is above kv */
    struct broker *broker;
    struct stores *stores;
};

/* ---- messages -------------------------------------------------------------------------------- */

static const char *note_fault(const struct crowd *c, const struct note *n, usec_t calm)
{
    bool is_once = c->qos == 2;
    if (n->sent && !n->acked && !n->is_refused)
        return "a message of the crowd was never acknowledged";
    if (!n->acked)
        return NULL;
    switch (n->kind) {
    case NOTE_ROAM:
        return n->got == 0 ? "a message to one who roams was lost" : NULL;
    case NOTE_JOB:
        if (n->got == 0)
            return "a message to a group of stored sessions was lost";
        if (n->sent > calm &&
            (n->got_by_mixed == 0 || (is_once && (n->got_by_mixed > 1 || n->got > 1))))
            return "a message to a group was not delivered once, in all calm";
        return NULL;
    case NOTE_NAP:
        return n->got == 0 && n->expiry_sec == 0 ? "a message to one who sleeps was lost" : NULL;
    case NOTE_KEPT:
    default:
        return NULL;
    }
}

/* calm: messages sent since then met nobody who came or went. */
static void notes_judge(struct crowd *c, usec_t calm)
{
    for (size_t i = 1; i < c->note_count && !c->world->failed; i++) {
        const struct note *n = &c->note[i];
        const char *why = note_fault(c, n, calm);
        if (!why)
            continue;
        if (!c->world->canary)
            printf("note %zu: kind %d source %u target %u sent %.3f acked %.3f got %u and %u\n", i,
                   (int)n->kind, n->source, n->target, (double)n->sent / 1e6,
                   (double)n->acked / 1e6, n->got, n->got_by_mixed);
        fail(c->world, why);
    }
}

/* ---- retained messages ----------------------------------------------------------------------- */

struct reader {
    struct device device;
    struct crowd *crowd;
    unsigned node;
    uint32_t shown[WRITERS * KEPT_TOPICS];
    bool is_read;
};

static void reader_message(struct device *d, const struct codec_mqtt_publish *p, uint32_t id)
{
    struct reader *r = d->arg;
    struct crowd *c = r->crowd;
    if (id == 0 || id >= c->note_count || !p->is_retain || c->note[id].kind != NOTE_KEPT) {
        fail(c->world, "a retained message that nobody sent");
        return;
    }
    if (r->shown[c->note[id].target])
        fail(c->world, "two retained messages of one topic");
    r->shown[c->note[id].target] = id;
}

static void reader_ready(struct device *d, bool is_present)
{
    struct reader *r = d->arg;
    (void)is_present;
    r->is_read = true;
}

static const struct device_ops reader_ops = {.ready = reader_ready, .message = reader_message};

/* Every node answers with what was acknowledged last. */
static void kept_judge(struct crowd *c)
{
    struct reader *all = mem_new(c->world->node_count * sizeof *all);
    for (unsigned i = 0; i < c->world->node_count; i++) {
        struct reader *r = &all[i];
        device_init(&r->device, c->loop, &reader_ops);
        r->device.arg = r;
        r->crowd = c;
        snprintf(r->device.id, sizeof r->device.id, "reader%u", i);
        r->device.is_clean = true;
        r->device.sub = (struct device_sub){"ret/#", 1};
        device_connect(&r->device, i);
    }
    run_until(c->world, c->world->now + 3 * USEC_SEC);
    for (unsigned i = 0; i < c->world->node_count && !c->world->failed; i++) {
        if (!all[i].is_read)
            fail(c->world, "a node that answers nobody");
        for (unsigned k = 0; k < countof(all[i].shown) && !c->world->failed; k++) {
            const struct note *n = &c->note[c->kept[k].note];
            uint32_t want = n->is_empty || n->expiry_sec ? 0 : c->kept[k].note;
            if (all[i].shown[k] == want)
                continue;
            if (!c->world->canary)
                printf("topic %u: node %u shows %u, must be %u\n", k, i, all[i].shown[k], want);
            fail(c->world, "a node does not answer with the last retained message");
        }
    }
    for (unsigned i = 0; i < c->world->node_count; i++)
        device_deinit(&all[i].device);
    mem_free(all);
}

/* ---- everybody leaves ------------------------------------------------------------------------ */

static void leaver_ready(struct device *d, bool is_present)
{
    bool *is_gone = d->arg;
    (void)is_present;
    *is_gone = true;
    d->will.id = 0;
}

static const struct device_ops leaver_ops = {.ready = leaver_ready};

/* Ends the session of this client: a clean start and no expiry. */
static void session_ends(struct world *w, struct net_loop *loop, const char *client)
{
    struct device *d = mem_new(sizeof *d);
    bool is_gone = false;
    device_init(d, loop, &leaver_ops);
    d->arg = &is_gone;
    d->is_clean = true;
    str_copy(d->id, sizeof d->id, str_of(client));
    device_connect(d, (unsigned)rng_below(&w->rng, w->node_count));
    for (unsigned i = 0; i < 100 && !is_gone; i++)
        run_until(w, w->now + 20 * USEC_MSEC);
    if (!is_gone)
        fail(w, "a client could not begin anew");
    device_leave(d, 0);
    device_deinit(d);
    mem_free(d);
}

static void kept_end(struct crowd *c)
{
    for (unsigned i = 0; i < CROWD; i++) {
        struct device *d = &c->device[i];
        for (unsigned k = 0; d->role == ROLE_WRITER && k < KEPT_TOPICS; k++) {
            struct note n = {
                .kind = NOTE_KEPT, .target = d->index * KEPT_TOPICS + k, .is_empty = true};
            struct device_out o = {.qos = 1, .is_retain = true, .is_empty = true};
            o.id = note_new(c, &n);
            snprintf(o.topic, sizeof o.topic, "ret/%u/%u", d->index, k);
            device_publish(d, &o);
        }
    }
    run_until(c->world, c->world->now + 2 * USEC_SEC);
}

static void crowd_leaves(struct crowd *c)
{
    kept_end(c);
    c->is_over = true;
    for (unsigned i = 0; i < CROWD; i++)
        device_leave(&c->device[i], 0);
    for (unsigned i = 0; i < CROWD && !c->world->failed; i++)
        if (c->device[i].expiry_sec > SHORT_SEC)
            session_ends(c->world, c->loop, c->device[i].id);
}

/* ---- nothing is left ------------------------------------------------------------------------- */

static void left(struct world *w, unsigned node, const char *what, uint64_t count)
{
    if (count == 0)
        return;
    if (!w->canary)
        printf("node %u: %llu %s\n", node, (unsigned long long)count, what);
    fail(w, "something is left when everybody is gone");
}

static bool row_count(void *arg, struct str key, struct str value)
{
    (void)key, (void)value;
    ++*(uint64_t *)arg;
    return true;
}

static void replica_left(struct world *w, unsigned node, struct kv_replica *r)
{
    uint64_t rows = 0;
    struct engine_scan scan = {.space = r->parts.space, .row = row_count, .arg = &rows};
    struct kv_store *s = r->home->store;
    struct buf ask = {0}, reply = {0};
    int e = engine_state_scan(s->state, NULL, &scan);
    must(e == 0);
    left(w, node, s->conf.name, rows);
    if (s->conf.ops == inbox_machine()) {
        struct inbox_stat st = {0};
        inbox_query_stat(&ask, STR(""));
        e = s->conf.ops->query(r->machine, 0, buf_str(&ask), &reply, &(struct range_scan){0});
        must(e == 0 && inbox_reply_stat(buf_str(&reply), &st));
        left(w, node, "sessions", st.sessions);
        left(w, node, "stored messages", st.messages + st.bodies + st.bytes);
    }
    buf_deinit(&ask);
    buf_deinit(&reply);
}

static void node_left(struct world *w, unsigned i)
{
    struct sim_node *n = &w->node[i];
    const struct mqtt *m = n->game;
    const struct broker_loop *l = &m->broker->loop[0];
    const struct stores_client *c = &m->stores->client[0];
    struct dist_index_stat st;
    struct kv_stats kv;
    left(w, i, "connections", l->conn_count + m->broker->connection_count);
    left(w, i, "bytes of the budget", budget_used(&m->broker->memory));
    left(w, i, "bytes acknowledged early", l->early_bytes);
    left(w, i, "sessions by cookie", l->by_cookie.count);
    left(w, i, "filters on their way", l->transit.count);
    left(w, i, "held publishes", !list_empty(&l->held.waiting) || l->held.qos0_bytes > 0);
    left(w, i, "lookups", !list_empty(&l->lookups.open) || l->lookups.asked_count > 0);
    left(w, i, "attached sessions", c->held.count);
    left(w, i, "owners", c->dict.entry.count);
    left(w, i, "claims", c->dict.claim.count);
    dist_index_stat(m->stores->index, &st);
    left(w, i, "routes", st.node_routes + st.inbox_routes + st.members);
    left(w, i, "groups", st.groups);
    kv_stats_get(n->kv, &kv);
    left(w, i, "pending proposals", kv.pending_count + kv.pending_bytes);
    list_each(&n->kv->loop[0].replicas, x)
        replica_left(w, i, container_of(x, struct kv_replica, link));
}
