/* Once a second, on each loop: founding, durable marks and cutting of logs, descriptors.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. A store is founded only by a node that was told to found, has joined, sees no trace of the
 *    store anywhere and never
 *    had one itself; the mark of its group in the log comes before everything else.
 * 2. A log is cut only up to what the rows have for good. */
#include "kv/kv_priv.h"

#define BOSS_USEC USEC_SEC
#define FOUND_GRACE_USEC (2 * USEC_SEC) /* after joining, for rows to arrive */
#define UNLED_USEC (10 * USEC_SEC)      /* matters little: elections are over by then */
#define JOIN_USEC (3 * USEC_SEC)        /* matters little: who has just started knows nobody yet */
#define LINES_MAX 20u                   /* matters little: ranges told of in one look */
#define SYNC_USEC (5 * USEC_SEC)        /* between durable marks of a store that was written */
#define CUT_BYTES (4u << 20)            /* a shorter log is not worth cutting */

/* ---- founding -------------------------------------------------------------------------------- */

static bool has_trace(struct kv_loop *l, struct kv_store *s)
{
    char prefix[KV_STORE_NAME_MAX + 2];
    size_t at = 0;
    if (s->client[l->index].route_count > 0 || s->client[l->index].tombstone.count > 0)
        return true;
    if (atomic_load_explicit(&s->replica_count, memory_order_relaxed) > 0)
        return true;
    if (!l->seat)
        return false;
    snprintf(prefix, sizeof prefix, "%s/", s->name);
    return cluster_row_next(l->seat, CLUSTER_SPACE_LANDSCAPE, str_of(prefix), &at) != NULL;
}

static bool is_founder(const struct kv_loop *l)
{
    const struct kv_conf *c = &l->kv->conf;
    return c->is_founder || (c->is_founder_named && cluster_is_named_first(l->seat));
}

static void found(struct kv_loop *l)
{
    struct kv *kv = l->kv;
    usec_t now = kv_loop_now(l);
    if (l->seat) {
        if (!is_founder(l) || !cluster_is_joined(l->seat)) {
            l->joined_at = 0;
            return;
        }
        if (l->joined_at == 0)
            l->joined_at = now;
        if (now < l->joined_at + FOUND_GRACE_USEC)
            return;
    }
    for (unsigned i = 0; i < kv->store_count; i++) {
        struct kv_store *s = kv->store[i];
        unsigned home = s->conf.is_one_loop ? kv_shard_of(s, 0) : i;
        if (home % kv->loop_count != l->index || s->is_founded || has_trace(l, s))
            continue;
        uint64_t epoch = kv_loop_hlc(l); /* one whose first range lives here */
        while (kv_shard(s, (struct range_id){epoch, 0}) % kv->loop_count != l->index)
            epoch++;
        s->is_founded = true;
        kv_meta_found(&s->client[l->index], epoch);
    }
}

/* ---- durable marks and the log --------------------------------------------------------------- */

struct mark_job {
    struct kv_state_job job;
    struct kv_client *client;
};

static size_t cut_bytes(const struct kv_replica *r)
{
    size_t max = r->loop->kv->conf.limits.log_bytes_max;
    return max < CUT_BYTES ? max : CUT_BYTES;
}

static void cut(struct kv_replica *r)
{
    uint64_t keep = raft_compact_max(&r->raft), base = raft_status_get(&r->raft).base;
    uint64_t to = r->durable;
    if (r->log_bytes < r->loop->kv->conf.limits.log_bytes_max && keep < to)
        to = keep;
    if (!list_empty(&r->ships) || to <= base || r->log_bytes < cut_bytes(r))
        return;
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_COMPACT, .index = to});
}

static void marked(struct kv_state_job *job)
{
    struct mark_job *m = container_of(job, struct mark_job, job);
    struct kv_client *c = m->client;
    c->is_syncing = false;
    mem_free(m);
    list_each(&c->loop->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (r->home != c || r->is_closed || r->marked == 0)
            continue;
        r->durable = r->marked;
        r->marked = 0;
        cut(r);
    }
}

static void mark_drop(struct kv_state_job *job)
{
    mem_free(container_of(job, struct mark_job, job));
}

static void mark(struct kv_client *c, usec_t now)
{
    bool is_any = false;
    if (c->is_syncing || now < c->sync_at)
        return;
    kv_client_rows_flush(c);
    list_each(&c->loop->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (r->home != c || r->is_closed || r->applied == r->durable || r->log_bytes < cut_bytes(r))
            continue;
        r->marked = r->applied;
        is_any = true;
    }
    if (!is_any)
        return;
    struct mark_job *m = mem_new(sizeof *m);
    m->client = c;
    m->job.loop = c->loop;
    m->job.fn = marked;
    c->is_syncing = true;
    c->sync_at = now + SYNC_USEC;
    m->job.drop = mark_drop;
    kv_state_sync(c->store, &m->job);
}

/* ---- once a second --------------------------------------------------------------------------- */

static bool is_led(const struct kv_route *r)
{
    return !uuid_is_zero(&r->leader);
}

/* A leader that was heard of last and does not answer any more is none. */
static bool is_leader_live(const struct kv_loop *l, const struct kv_client *c)
{
    for (size_t i = 0; i < c->chain_count; i++)
        if (!uuid_eq(&c->chain[i]->leader, &l->kv->conf.node) &&
            !kv_node_is_live(l, &c->chain[i]->leader))
            return false;
    return true;
}

/* Every store has a chain without gaps, and each range of it a leader. */
static bool is_all_led(struct kv_loop *l)
{
    for (unsigned i = 0; i < l->kv->store_count; i++) {
        const struct kv_client *c = &l->kv->store[i]->client[l->index];
        if (!kv_router_is_whole(c, is_led) || !is_leader_live(l, c))
            return false;
    }
    return true;
}

/* A leader is missed: *why says the reason, once it is known. */
static enum kv_unled unled_of(const struct kv_replica *r, usec_t now, struct buf *why)
{
    struct kv_member m[KV_MEMBER_MAX];
    if (usec_until(r->unled_at, now) < JOIN_USEC)
        return KV_UNLED_NO;
    if (kv_status_no_quorum(r->loop, m, kv_status_members(r, m), why))
        return KV_UNLED_QUORUM;
    if (usec_until(r->unled_at, now) < UNLED_USEC)
        return KV_UNLED_NO;
    buf_printf(why, "no leader for %u s, and no majority of its voters is known to be dead",
               (unsigned)(UNLED_USEC / USEC_SEC));
    return KV_UNLED_LONG;
}

/* Who has a replica hears it: what waits for this range, and why. */
static void tell_unled(struct kv_replica *r, usec_t now, unsigned *left)
{
    struct buf why = {0};
    char id[RANGE_ID_TEXT];
    r->unled_at = r->unled_at ? r->unled_at : now;
    enum kv_unled is = unled_of(r, now, &why);
    if (*left > 0 && is > r->unled_told) {
        range_id_format(r->range_id, id);
        log_line(
            r->loop->kv->conf.log, LOG_LEVEL_ERROR, "kv.range.unled",
            "range %s %s: %.*s: what it stores can neither be read nor written until it has one",
            r->home->store->name, id, STR_ARG(buf_str(&why)));
        r->unled_told = is;
        --*left;
    }
    buf_deinit(&why);
}

static void tell_led(struct kv_replica *r, usec_t now, unsigned *left)
{
    struct uuid leader = kv_replica_leader(r);
    char id[RANGE_ID_TEXT];
    if (uuid_is_zero(&leader) || !kv_node_is_live(r->loop, &leader)) {
        tell_unled(r, now, left);
        return;
    }
    r->unled_at = 0;
    if (*left == 0 || r->unled_told == KV_UNLED_NO)
        return;
    range_id_format(r->range_id, id);
    log_line(r->loop->kv->conf.log, LOG_LEVEL_NOTICE, "kv.range.led",
             "range %s %s has a leader again", r->home->store->name, id);
    r->unled_told = KV_UNLED_NO;
    --*left;
}

/* What was known to be committed when this node started is in its machines. */
static bool is_replayed(const struct kv_loop *l)
{
    list_each(&l->replicas, x)
    {
        const struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (!r->is_closed && r->applied < r->boot_commit)
            return false;
    }
    return true;
}

static void on_boss(void *arg, usec_t now)
{
    struct kv_loop *l = arg;
    found(l);
    for (unsigned i = 0; i < l->kv->store_count; i++)
        mark(&l->kv->store[i]->client[l->index], now);
    unsigned lines = LINES_MAX;
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (!r->is_closed)
            tell_led(r, now, &lines);
        r->rate = (uint32_t)(r->apply_count - r->rate_mark);
        r->rate_mark = r->apply_count;
        kv_weigh_soon(r, now);
        kv_merge_push(r);
        kv_merge_sweep(r);
        kv_landscape_tell(r, false);
    }
    bool is_ready = is_replayed(l) && is_all_led(l);
    atomic_store_explicit(&l->is_seen_ready, is_ready, memory_order_relaxed);
    net_timer_set(l->loop, &l->boss_timer, now + (is_ready ? BOSS_USEC : BOSS_USEC / 5));
}

void kv_boss_init(struct kv_loop *l)
{
    net_timer_init(&l->boss_timer, on_boss, l);
    net_timer_set(l->loop, &l->boss_timer, kv_loop_now(l));
}

void kv_boss_deinit(struct kv_loop *l)
{
    net_timer_del(l->loop, &l->boss_timer);
}
