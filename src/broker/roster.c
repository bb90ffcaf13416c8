/* Walks over the connections of all loops.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 a walk is on one loop at a time and owns what it carries; loop 0 alone begins and
 * ends it, and keeps all of them in broker.roster, so that those under way learn when the broker
 * goes;  2 between two turns on one loop it holds the connection at which it goes on (pending), so
 * that this one stays in the list; 3 a list never carries more than count_max + 1 entries.
 *
 * Never: keeps a connection's memory after the turn; decides what a client may do. */
#include "broker/roster_priv.h"

#include "base/mem.h"
#include "broker/conn_priv.h"
#include "broker/subscribe_priv.h"

#define STEP_MAX 512 /* does not matter much: connections looked at in one turn */
#define KILL_MAX 64  /* does not matter much: connections ended in one turn */

/* An entry that outlives its connection: the views point into text. */
struct entry {
    struct broker_roster_entry e;
    struct buf text;
    char address[NET_ADDRESS_TEXT];
    struct broker_roster_filter *sub;
};

struct walk {
    struct net_mail mail;
    struct list link;                 /* broker.roster */
    struct broker *broker;            /* NULL: it has gone */
    struct broker_roster_query query; /* views into text */
    struct buf text;
    struct broker_conn *at; /* held: where this loop's walk goes on */
    unsigned loop;
    struct entry **entry; /* in order of client identifiers */
    size_t count;
    bool is_more;
    bool is_kill;
    uint8_t reason;
    struct str reference;
    uint64_t killed;
    union {
        broker_roster_cb *listed;
        broker_roster_killed *ended;
    };
    void *arg;
};

static struct str keep(struct walk *w, struct str s, size_t *at)
{
    struct str kept = str_view(s.p ? (char *)w->text.p + *at : NULL, s.n);
    *at += s.n;
    return kept;
}

static struct walk *walk_new(struct broker *b, const struct broker_roster_query *q,
                             struct str reference)
{
    struct walk *w = mem_new(sizeof *w);
    size_t at = 0;
    w->broker = b;
    w->query = *q;
    const struct str part[] = {q->tenant, q->user, q->client, q->prefix, q->after, reference};
    (void)buf_reserve(&w->text, 1);
    for (size_t i = 0; i < countof(part); i++)
        buf_put_str(&w->text, part[i]);
    w->query.tenant = keep(w, q->tenant, &at);
    w->query.user = keep(w, q->user, &at);
    w->query.client = keep(w, q->client, &at);
    w->query.prefix = keep(w, q->prefix, &at);
    w->query.after = keep(w, q->after, &at);
    w->reference = keep(w, reference, &at);
    return w;
}

static void entry_free(struct entry *x)
{
    buf_deinit(&x->text);
    mem_free(x->sub);
    mem_free(x);
}

static bool is_meant(const struct walk *w, const struct broker_conn *c)
{
    const struct broker_roster_query *q = &w->query;
    if (!c->is_open || !str_eq(c->tenant->name, q->tenant))
        return false;
    struct str client = session_client_id(c->session);
    return (!q->user.p || str_eq(q->user, c->user)) &&
           (!q->client.p || str_eq(q->client, client)) && str_has_prefix(client, q->prefix) &&
           (w->is_kill || q->after.n == 0 || str_cmp(client, q->after) > 0);
}

/* ---- listing ---- */

static struct str text_put(struct entry *x, struct str s)
{
    buf_put_str(&x->text, s);
    return str_view(NULL, s.n);
}

/* The text no longer grows: views from now on. */
static void text_fix(struct entry *x)
{
    size_t at = 0;
    struct str *part[] = {&x->e.client, &x->e.user, &x->e.listener};
    for (size_t i = 0; i < countof(part); i++) {
        part[i]->p = (char *)x->text.p + at;
        at += part[i]->n;
    }
    for (uint32_t i = 0; x->sub && i < x->e.sub_count; i++) {
        x->sub[i].filter.p = (char *)x->text.p + at;
        at += x->sub[i].filter.n;
    }
    x->e.sub = x->sub;
    x->e.address = x->address;
}

static void subs_put(struct entry *x, const struct broker_conn *c)
{
    uint32_t n = 0;
    x->sub = mem_new((c->sub_count + 1) * sizeof *x->sub);
    for (const struct broker_sub *s = c->subs; s && n < c->sub_count; s = s->next)
        if (s->filter)
            x->sub[n++] = (struct broker_roster_filter){
                text_put(x, broker_filter_text(c->loop->broker, s->filter)), s->qos, s->no_local,
                s->as_published, s->sub_id};
    for (const struct broker_shared *s = c->shared; s && n < c->sub_count; s = s->next)
        x->sub[n++] = (struct broker_roster_filter){text_put(x, s->text), s->qos, false,
                                                    s->is_as_published, s->sub_id};
    x->e.sub_count = n;
}

static struct entry *entry_of(const struct walk *w, struct broker_conn *c)
{
    struct entry *x = mem_new(sizeof *x);
    x->e = (struct broker_roster_entry){
        .version = session_version(c->session),
        .loop = c->loop->index,
        .cookie = c->cookie,
        .since_ms = c->since_ms,
        .expiry_sec = session_expiry_sec(c->session),
        .sub_count = c->sub_count,
        .keep_alive_sec = session_keep_alive_sec(c->session),
        .is_persistent = session_is_persistent(c->session),
        .is_stalled = c->is_stalled,
        .queue_count = session_queue_count(c->session),
        .inflight_count = session_inflight_count(c->session),
        .memory = session_memory(c->session),
    };
    x->e.client = text_put(x, session_client_id(c->session));
    x->e.user = text_put(x, c->user);
    x->e.listener = text_put(x, str_of(c->listener->name));
    if (c->stream)
        (void)net_address_format(net_stream_peer(c->stream), x->address);
    if (w->query.wants_subs)
        subs_put(x, c);
    text_fix(x);
    return x;
}

/* Where this client identifier belongs in the list. */
static size_t place_of(const struct walk *w, struct str client)
{
    size_t lo = 0, hi = w->count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (str_cmp(w->entry[mid]->e.client, client) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void list_one(struct walk *w, struct broker_conn *c)
{
    size_t at = place_of(w, session_client_id(c->session));
    if (at >= w->query.count_max) {
        w->is_more = true;
        return;
    }
    memmove(w->entry + at + 1, w->entry + at, (w->count - at) * sizeof w->entry[0]);
    w->entry[at] = entry_of(w, c);
    if (++w->count > w->query.count_max) { /* 3 */
        entry_free(w->entry[--w->count]);
        w->is_more = true;
    }
}

/* ---- the walk ---- */

static void walk_end(struct net_loop *here, struct net_mail *mail)
{
    struct walk *w = container_of(mail, struct walk, mail);
    (void)here;
    if (w->is_kill) {
        w->ended(w->arg, w->killed);
    } else {
        struct broker_roster_entry *e = mem_new((w->count + 1) * sizeof *e);
        for (size_t i = 0; i < w->count; i++)
            e[i] = w->entry[i]->e;
        w->listed(w->arg, e, w->count, w->is_more);
        mem_free(e);
    }
    list_del(&w->link);
    for (size_t i = 0; i < w->count; i++)
        entry_free(w->entry[i]);
    mem_free(w->entry);
    buf_deinit(&w->text);
    mem_free(w);
}

static void walk_turn(struct net_loop *here, struct net_mail *mail)
{
    struct walk *w = container_of(mail, struct walk, mail);
    if (!w->broker) {
        walk_end(here, mail);
        return;
    }
    struct broker_loop *l = &w->broker->loop[w->loop];
    struct list *it = w->at ? &w->at->link : l->conns.next;
    uint64_t doomed[KILL_MAX];
    size_t doomed_count = 0;
    for (unsigned seen = 0; it != &l->conns && seen < STEP_MAX && doomed_count < KILL_MAX;
         it = it->next, seen++) {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        if (!is_meant(w, c))
            continue;
        if (w->is_kill)
            doomed[doomed_count++] = c->cookie;
        else
            list_one(w, c);
    }
    struct broker_conn *was = w->at;
    w->at = it != &l->conns ? container_of(it, struct broker_conn, link) : NULL;
    if (w->at)
        broker_conn_hold(w->at); /* 2 */
    if (was)
        broker_conn_done(was);
    for (size_t i = 0; i < doomed_count; i++) {
        struct broker_conn *c = broker_conn_find(l, doomed[i]);
        if (!c)
            continue;
        bool is_moved = w->reason == CODEC_MQTT_RC_USE_ANOTHER_SERVER ||
                        w->reason == CODEC_MQTT_RC_SERVER_MOVED;
        broker_conn_kick_to(c, is_moved ? SESSION_END_SERVER_REDIRECTED : SESSION_END_KICKED,
                            w->reason, w->reference);
        w->killed++;
    }
    if (!w->at)
        w->loop++;
    if (w->loop < w->broker->loop_count)
        net_loop_post(here, w->broker->loop[w->loop].net, &w->mail, walk_turn);
    else
        net_loop_post(here, w->broker->loop[0].net, &w->mail, walk_end);
}

static void walk_begin(struct walk *w)
{
    list_push_back(&w->broker->roster, &w->link);
    net_loop_post(w->broker->loop[0].net, w->broker->loop[0].net, &w->mail, walk_turn);
}

void broker_roster_list(struct broker *b, const struct broker_roster_query *q, broker_roster_cb *cb,
                        void *arg)
{
    struct walk *w = walk_new(b, q, STR(""));
    must(q->count_max > 0);
    w->entry = mem_new(((size_t)q->count_max + 1) * sizeof *w->entry);
    w->listed = cb;
    w->arg = arg;
    walk_begin(w);
}

void broker_roster_kill(struct broker *b, const struct broker_roster_kill *k,
                        broker_roster_killed *cb, void *arg)
{
    struct walk *w = walk_new(b, &k->query, k->reference);
    w->is_kill = true;
    w->reason = k->reason;
    w->ended = cb;
    w->arg = arg;
    walk_begin(w);
}

/* ---- subscriptions ---- */

struct sub {
    struct net_mail mail;
    struct list link;             /* broker.asked */
    struct broker *broker;        /* NULL: it has gone */
    struct broker_roster_sub ask; /* its filter is ours */
    broker_roster_subbed *cb;
    void *arg;
    uint8_t code;
    bool is_new;
};

static void sub_end(struct net_loop *here, struct net_mail *mail)
{
    struct sub *s = container_of(mail, struct sub, mail);
    (void)here;
    s->cb(s->arg, s->code, s->is_new);
    list_del(&s->link);
    mem_free((void *)(uintptr_t)s->ask.filter.p);
    mem_free((void *)(uintptr_t)s->ask.user.p);
    mem_free(s);
}

static void sub_done(void *arg, uint8_t code, bool is_new)
{
    struct sub *s = arg;
    s->code = code;
    s->is_new = is_new;
    if (s->broker)
        net_loop_post(s->broker->loop[s->ask.loop].net, s->broker->loop[0].net, &s->mail, sub_end);
    else
        sub_end(NULL, &s->mail);
}

/* What the client's own SUBSCRIBE would be judged by. */
static uint8_t judge(const struct session_settings *t, const struct sub *s, struct session_sub *out)
{
    struct codec_topic_limits limits = {(uint32_t)t->max_topic_levels,
                                        (uint32_t)t->max_topic_level_length,
                                        (uint32_t)t->max_topic_length};
    *out = (struct session_sub){.qos = s->ask.qos};
    if (codec_topic_filter_parse(s->ask.filter, &limits, &out->filter))
        return CODEC_MQTT_RC_TOPIC_FILTER_INVALID;
    if (s->ask.is_unsubscribe)
        return SESSION_SUB_PERFORM;
    if (out->filter.kind != CODEC_TOPIC_NORMAL && !t->shared_subscription_enabled)
        return CODEC_MQTT_RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
    if (out->filter.has_wildcard && !t->wildcard_subscription_enabled)
        return CODEC_MQTT_RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
    if (out->qos > t->maximum_qos)
        out->qos = (uint8_t)t->maximum_qos;
    return SESSION_SUB_PERFORM;
}

static void sub_here(struct net_loop *here, struct net_mail *mail)
{
    struct sub *s = container_of(mail, struct sub, mail);
    struct broker_conn *c =
        s->broker ? broker_conn_find(&s->broker->loop[s->ask.loop], s->ask.cookie) : NULL;
    struct session_sub sub;
    (void)here;
    if (!c || !c->is_open || (s->ask.user.p && !str_eq(s->ask.user, c->user))) {
        sub_done(s, BROKER_ROSTER_GONE, false);
        return;
    }
    sub.reason = judge(&c->settings->value, s, &sub);
    if (sub.reason == SESSION_SUB_PERFORM)
        broker_subscribe_ask(c, &sub, s->ask.is_unsubscribe, sub_done, s);
    else
        sub_done(s, sub.reason, false);
}

void broker_roster_sub(struct broker *b, const struct broker_roster_sub *ask,
                       broker_roster_subbed *cb, void *arg)
{
    struct sub *s = mem_new(sizeof *s);
    s->broker = b;
    s->ask = *ask;
    s->ask.filter = str_dup(ask->filter);
    s->ask.user = ask->user.p ? str_dup(ask->user) : str_view(NULL, 0);
    s->cb = cb;
    s->arg = arg;
    list_push_back(&b->asked, &s->link);
    if (ask->loop >= b->loop_count) {
        s->ask.loop = 0;
        sub_done(s, BROKER_ROSTER_GONE, false);
        return;
    }
    net_loop_post(b->loop[0].net, b->loop[ask->loop].net, &s->mail, sub_here);
}

void broker_roster_stop(struct broker *b)
{
    for (struct list *it; (it = list_pop_front(&b->roster)) != NULL;)
        container_of(it, struct walk, link)->broker = NULL;
    for (struct list *it; (it = list_pop_front(&b->asked)) != NULL;)
        container_of(it, struct sub, link)->broker = NULL;
}
