/* What the balancers decide, carried out.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. One command of a loop is under way at a time, and the next view is taken after its end; the
 *    version in it makes an old view harmless.
 * 2. Views are taken from the gossiped landscape; of ranges with a replica on this loop we know
 *    better and say so: the configuration, and who leads since when.
 * 3. A store whose ranges here all sleep, of which nothing was heard and nothing was wanted the last
 *    time is looked at seldom. */
#include "balance/balance.h"
#include "cluster/mark.h"
#include "kv/kv_priv.h"

#define BALANCE_USEC (2 * USEC_SEC)        /* between looks */
#define BALANCE_NEXT_USEC (20 * USEC_MSEC) /* after one that was done: there may be more */
#define BALANCE_IDLE_USEC (10 * USEC_SEC)  /* between looks at what sleeps */
#define BALANCE_RETRY_USEC (5 * USEC_SEC)

struct view {
    struct balance_node *node;
    size_t node_count, node_cap;
    struct range_descriptor *range;
    size_t range_count, range_cap, mine_count;
    struct buf *fact; /* scratch of our own descriptors */
    struct map index; /* places in range, plus one, by id */
};

static void view_free(struct view *v)
{
    map_deinit(&v->index);
    mem_free(v->node);
    mem_free(v->range);
}

static void take_nodes(struct kv_loop *l, struct view *v)
{
    const struct cluster_member *m;
    usec_t now = kv_loop_now(l);
    for (size_t i = 0; (m = cluster_member_at(l->seat, i)); i++) {
        v->node = mem_grow(v->node, &v->node_cap, v->node_count + 1, sizeof *v->node);
        bool is_live = m->state == CLUSTER_ST_ALIVE || m->state == CLUSTER_ST_SUSPECT;
        enum cluster_mark mark = cluster_mark_get(l->seat, &m->uuid);
        v->node[v->node_count++] = (struct balance_node){
            .node = m->uuid,
            .is_live = is_live,
            .is_draining = mark == CLUSTER_MARK_DRAIN ||
                           (m->flags & (CLUSTER_FLAG_DRAINING | CLUSTER_FLAG_STORAGE_FAILED)),
            .is_removed = mark == CLUSTER_MARK_REMOVE,
            .dead_usec = !is_live && now > m->since ? now - m->since : 0,
        };
    }
}

struct range_key {
    const struct view *v;
    struct range_id id;
};

static bool is_range(const void *item, const void *key)
{
    const struct range_key *k = key;
    return range_id_eq(k->v->range[(uintptr_t)item - 1].id, k->id);
}

/* One leader per range: the one of the highest term. */
static void take_range(struct view *v, const struct range_descriptor *d)
{
    uint64_t hash = hash_u64(d->id.epoch + hash_u64(d->id.id));
    const void *had = map_find(&v->index, hash, is_range, &(struct range_key){v, d->id});
    if (had) {
        if (d->term > v->range[(uintptr_t)had - 1].term)
            v->range[(uintptr_t)had - 1] = *d;
        return;
    }
    v->range = mem_grow(v->range, &v->range_cap, v->range_count + 1, sizeof *v->range);
    v->range[v->range_count++] = *d;
    map_put(&v->index, hash, (void *)(uintptr_t)v->range_count);
}

/* Replicas of this loop: those that lead and may be told something, or the others. */
static void take_own(struct kv_loop *l, struct kv_store *s, struct view *v, bool is_free)
{
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        struct range_descriptor d;
        bool is_leader = r->is_leader_told && kv_replica_is_leader(r);
        if (r->home->store != s || r->is_closed || is_free != (is_leader && !r->command))
            continue;
        kv_landscape_describe(r, &d, v->fact);
        if (!is_leader)
            kv_landscape_members(r, &d);
        d.fact = STR("");
        if (!uuid_is_zero(&d.leader))
            take_range(v, &d);
    }
}

/* What leaders have told; but_own: not of ranges with a replica on this loop. */
static void take_told(struct kv_loop *l, struct kv_store *s, struct view *v, bool but_own)
{
    char prefix[KV_STORE_NAME_MAX + 2];
    const struct cluster_row *row;
    size_t at = 0;
    snprintf(prefix, sizeof prefix, "%s/", s->name);
    while ((row = cluster_row_next(l->seat, CLUSTER_SPACE_LANDSCAPE, str_of(prefix), &at))) {
        struct range_descriptor d;
        if (range_descriptor_decode(row->value, &d) != 0 || d.role != RANGE_ROLE_LEADER)
            continue;
        if (but_own && uuid_eq(&row->owner, &l->kv->conf.node) &&
            kv_replica_find(l, kv_tag(s, d.id)))
            continue;
        take_range(v, &d);
    }
}

static void take_ranges(struct kv_loop *l, struct kv_store *s, struct view *v)
{
    take_own(l, s, v, true);
    v->mine_count = v->range_count;
    if (v->range_count == 0)
        return; /* nothing here to act on */
    take_told(l, s, v, true);
    take_own(l, s, v, false);
}

static struct balance_node *node_of(struct view *v, const struct uuid *u)
{
    for (size_t i = 0; i < v->node_count; i++)
        if (uuid_eq(&v->node[i].node, u))
            return &v->node[i];
    return NULL;
}

/* What the nodes have of the stores whose names come before, as leaders tell. */
static void count_before(struct kv_loop *l, const struct kv_store *s, struct view *out)
{
    for (unsigned i = 0; i < l->kv->store_count; i++) {
        struct kv_store *o = l->kv->store[i];
        struct view v = {0};
        if (strcmp(o->name, s->name) >= 0)
            continue;
        take_told(l, o, &v, false);
        for (size_t k = 0; k < v.range_count; k++) {
            const struct range_descriptor *d = &v.range[k];
            struct balance_node *n = node_of(out, &d->leader);
            if (n)
                n->leads_before++;
            for (unsigned m = 0; m < d->member_count; m++)
                if (d->member[m].is_voter && (n = node_of(out, &d->member[m].node)))
                    n->votes_before++;
        }
        view_free(&v);
    }
}

static void on_done(void *arg, const struct kv_reply *reply)
{
    struct kv_loop *l = arg;
    l->is_balancing = false;
    if (l->kv->is_stopping)
        return; /* the timer is gone */
    usec_t pause = BALANCE_NEXT_USEC;
    if (reply->outcome != KV_OK)
        pause = BALANCE_RETRY_USEC / 2 + rng_below(&l->rng, BALANCE_RETRY_USEC);
    net_timer_set(l->loop, &l->balance_timer, kv_loop_now(l) + pause);
}

static void run(struct kv_loop *l, struct kv_store *s, const struct balance_step *step)
{
    static const enum kv_command_kind kind[] = {
        [BALANCE_DO_CONFIG] = KV_CMD_CONFIG,
        [BALANCE_DO_TRANSFER] = KV_CMD_TRANSFER,
        [BALANCE_DO_SPLIT] = KV_CMD_SPLIT,
        [BALANCE_DO_MERGE] = KV_CMD_MERGE,
    };
    char id[RANGE_ID_TEXT];
    struct kv_command cmd = {
        .kind = kind[step->action],
        .id = {step->id.epoch, step->id.id},
        .version = range_version_pack(step->version),
        .node_count = step->node_count,
        .voter_count = step->voter_count,
        .deadline = kv_loop_now(l) + 30 * USEC_SEC,
        .key = STR(""),
    };
    const struct kv_replica *r = kv_replica_find(l, kv_tag(s, step->id));
    if (step->is_beside_crowd && r)
        cmd.key = buf_str(&r->crowd); /* kv_run copies it */
    memcpy(cmd.node, step->node, sizeof cmd.node);
    range_id_format(step->id, id);
    log_line(l->kv->conf.log, LOG_LEVEL_INFO, "kv.balance",
             "%s %s: %s (%u members, %u of them vote): %s", s->name, id, balance_name(step->kind),
             step->node_count, step->voter_count, step->why);
    l->is_balancing = true;
    kv_run(&s->client[l->index], &cmd, on_done, l);
}

static void look(struct kv_loop *l, struct kv_store *s)
{
    struct buf fact = {0};
    struct view v = {.fact = &fact};
    struct balance_step step = {.action = BALANCE_DO_NOTHING};
    take_ranges(l, s, &v);
    if (v.range_count > 0) {
        take_nodes(l, &v);
        count_before(l, s, &v);
        struct balance_view view = {
            .self = l->kv->conf.node,
            .node = v.node,
            .node_count = v.node_count,
            .range = v.range,
            .range_count = v.range_count,
            .mine_count = v.mine_count,
            .known_usec = kv_loop_now(l) - l->known_at,
        };
        kv_rule_of(l, s, &view.rule);
        balance_next(&view, &step);
    }
    s->client[l->index].is_content = step.action == BALANCE_DO_NOTHING;
    if (step.action != BALANCE_DO_NOTHING)
        run(l, s, &step);
    view_free(&v);
    buf_deinit(&fact);
}

static bool is_asleep(const struct kv_client *c)
{
    list_each(&c->loop->replicas, x)
    {
        const struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (r->home == c && !r->is_closed && !r->raft.is_quiet)
            return false;
    }
    return true;
}

static void look_at(struct kv_loop *l, struct kv_store *s, usec_t now)
{
    struct kv_client *c = &s->client[l->index];
    if (c->is_content && c->looked_news == l->news &&
        now < usec_add(c->looked_at, BALANCE_IDLE_USEC) && is_asleep(c))
        return;
    c->looked_news = l->news;
    c->looked_at = now;
    look(l, s);
}

static void on_balance(void *arg, usec_t now)
{
    struct kv_loop *l = arg;
    net_timer_set(l->loop, &l->balance_timer, now + BALANCE_USEC);
    if (l->is_balancing || !cluster_is_joined(l->seat))
        return;
    if (l->known_at == 0)
        l->known_at = now;
    for (unsigned i = 0; i < l->kv->store_count && !l->is_balancing; i++)
        look_at(l, l->kv->store[i], now);
}

void kv_balance_init(struct kv_loop *l)
{
    net_timer_init(&l->balance_timer, on_balance, l);
    if (l->seat)
        net_timer_set(l->loop, &l->balance_timer, kv_loop_now(l) + BALANCE_USEC);
}

void kv_balance_deinit(struct kv_loop *l)
{
    net_timer_del(l->loop, &l->balance_timer);
}
