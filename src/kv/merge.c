/* Two neighbours become one range.  SPDX-License-Identifier: Apache-2.0
 *
 * The left one, the merger, decides; range/range.h has the states.  Its leader
 *   1 writes BEGIN into the merger's log,
 *   2 asks the mergee's leader to FREEZE, who answers when every member's log has it,
 *   3 writes COMMIT, with the place up to which the mergee's log counts; or CANCEL when anything
 * went wrong or another leader finds what it has not begun, then has the mergee thawed and writes
 * END.
 *
 * 1. COMMIT is refused unless both have the same members; while a merge is under way those of
 * neither change.  So each member of the merger has the mergee beside it, with a log that reaches
 * COMMIT's place, whatever became of the mergee's other members.
 * 2. Before COMMIT is applied the mergee's replica here has applied everything up to that place and
 *    has ended; then its rows, which stay where they are, become the merger's in one batch with the
 *    applied index.
 * 3. A mergee that is gone for good has a tombstone for every replica id.
 * 4. A replica whose keys another range has at a higher boundary version was merged: a key's owners
 *    have rising versions, and a range's first key is its own until then. */
#include "kv/kv_priv.h"

#define FREEZE_USEC (5 * USEC_SEC)
#define THAW_USEC (3 * USEC_SEC)
#define ORPHAN_USEC                                                                                \
    (10 * USEC_SEC) /* so that all that is to be known of its neighbours has arrived */

/* ---- words between the leaders --------------------------------------------------------------- */

static bool get_order(struct str s, struct range_command *out)
{
    struct kv_wire_order o;
    if (kv_wire_order_decode(s, &o) != 0)
        return false;
    out->serial = o.serial;
    out->other = o.id;
    out->other_version = range_version_unpack(o.version);
    return true;
}

static void refuse(struct kv_replica *r, struct kv_ask *a, enum kv_wire_status status)
{
    a->answer.leader = kv_replica_leader(r);
    a->answer.term = raft_status_get(&r->raft).term;
    kv_ask_done(r->loop, a, status);
}

static void propose(struct kv_replica *r, struct range_command *c)
{
    struct buf payload = {0};
    c->hlc = kv_loop_hlc(r->loop);
    range_command_merge(&payload, c);
    kv_replica_command(r, buf_str(&payload));
    buf_deinit(&payload);
}

/* ---- the merger's leader --------------------------------------------------------------------- */

static const struct kv_route *neighbour(const struct kv_replica *r)
{
    const struct kv_route *n = kv_router_find(r->home, r->range.bounds.end);
    bool is_one = n && n->id.epoch == r->range_id.epoch && !range_id_eq(n->id, r->range_id) &&
                  str_eq(n->bounds.start, r->range.bounds.end);
    return is_one ? n : NULL;
}

bool kv_merge_run(struct kv_replica *r, struct kv_ask *a)
{
    const struct kv_route *n = r->range.bounds.is_open ? NULL : neighbour(r);
    if (!n || !r->is_leader_told || raft_config_get(&r->raft)->is_joint || r->range.frozen != 0 ||
        r->range.merge.state != RANGE_MERGE_NONE)
        return false;
    struct range_command c = {.kind = RANGE_CMD_MERGE_BEGIN,
                              .version = r->range.version,
                              .serial = kv_serial(r),
                              .other = n->id,
                              .other_version = n->version};
    propose(r, &c);
    r->merge_serial = c.serial;
    r->command_index = r->range.version.boundary;
    a->command.kind = KV_CMD_MERGE;
    return true;
}

bool kv_merge_is_over(const struct kv_replica *r, enum kv_wire_status *out)
{
    *out = KV_WIRE_OK;
    if (r->range.version.boundary != r->command_index)
        return true;
    *out = KV_WIRE_CONFLICT;
    return r->range.merge.state != RANGE_MERGE_BEGUN && !r->command_entry;
}

struct errand { /* to the mergee's leader */
    struct kv_client *client;
    uint64_t tag, serial;
    bool is_freeze;
};

static void decide(struct kv_replica *r, enum range_command_kind kind,
                   const struct kv_wire_frozen *f)
{
    const struct range_merge *m = &r->range.merge;
    struct range_command c = {
        .kind = kind, .version = r->range.version, .serial = m->serial, .other = m->mergee};
    if (f) {
        c.other_version = range_version_unpack(f->version);
        c.other_index = f->index;
        c.other_term = f->term;
        c.other_hlc = f->hlc;
        c.bounds = f->bounds;
    }
    propose(r, &c);
}

static void on_errand(void *arg, const struct kv_reply *reply)
{
    struct errand *e = arg;
    struct kv_replica *r = kv_replica_find(e->client->loop, e->tag);
    struct kv_wire_frozen f;
    bool is_ours = r && !r->is_closed && r->range.merge.serial == e->serial;
    if (r)
        r->is_merge_asking = false;
    if (is_ours && r->is_leader_told && !r->command_entry) {
        enum range_merge_state state = r->range.merge.state;
        bool is_good = reply->outcome == KV_OK;
        if (e->is_freeze && state == RANGE_MERGE_BEGUN)
            is_good &&kv_wire_frozen_decode(reply->bytes, &f) == 0 && f.serial == e->serial
                ? decide(r, RANGE_CMD_MERGE_COMMIT, &f)
                : decide(r, RANGE_CMD_MERGE_CANCEL, NULL);
        else if (!e->is_freeze && state == RANGE_MERGE_CANCELLED && is_good)
            decide(r, RANGE_CMD_MERGE_END, NULL);
    }
    mem_free(e);
}

static void ask(struct kv_replica *r, bool is_freeze)
{
    const struct range_merge *m = &r->range.merge;
    const struct raft_config *members = raft_config_get(&r->raft);
    struct buf order = {0};
    struct errand *e = mem_new(sizeof *e);
    *e = (struct errand){r->home, r->tag, m->serial, is_freeze};
    struct kv_wire_order o = {m->serial, r->range_id, range_version_pack(m->version)};
    kv_wire_order_encode(&o, &order);
    struct kv_command cmd = {
        .kind = is_freeze ? KV_CMD_FREEZE : KV_CMD_THAW,
        .id = {m->mergee.epoch, m->mergee.id},
        .key = buf_str(&order),
        .deadline = kv_loop_now(r->loop) + (is_freeze ? FREEZE_USEC : THAW_USEC),
    };
    for (size_t i = 0; i < members->count && i < KV_MEMBER_MAX; i++)
        cmd.node[cmd.node_count++] = members->member[i].store;
    r->is_merge_asking = true;
    kv_run(r->home, &cmd, on_errand, e);
    buf_deinit(&order);
}

void kv_merge_push(struct kv_replica *r)
{
    enum range_merge_state state = r->range.merge.state;
    if (state == RANGE_MERGE_NONE || !r->is_leader_told || r->is_closed || r->is_paused ||
        r->command_entry || r->is_merge_asking)
        return;
    if (state == RANGE_MERGE_CANCELLED)
        ask(r, false);
    else if (r->merge_serial == r->range.merge.serial) {
        r->merge_serial = 0; /* once */
        ask(r, true);
    } else
        decide(r, RANGE_CMD_MERGE_CANCEL, NULL);
}

/* ---- the mergee's leader --------------------------------------------------------------------- */

static bool is_same_members(const struct kv_replica *r, const struct kv_wire_command *cmd)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    for (unsigned i = 0; i < cmd->node_count; i++) {
        bool has = false;
        for (size_t k = 0; k < c->count; k++)
            has = has || uuid_eq(&c->member[k].store, &cmd->node[i]);
        if (!has)
            return false;
    }
    return c->count == cmd->node_count && !c->is_joint;
}

bool kv_merge_freeze(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    struct range_command c = {.kind = RANGE_CMD_MERGE_FREEZE};
    if (!get_order(cmd->key, &c) || !r->is_leader_told || !is_same_members(r, cmd))
        return false;
    c.version = c.other_version;
    if (r->range.frozen != c.serial)
        propose(r, &c);
    a->command.kind = KV_CMD_FREEZE;
    a->index = c.serial;
    r->command_index = 0;
    return true;
}

bool kv_merge_is_frozen(struct kv_replica *r, struct kv_ask *a, enum kv_wire_status *out)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    const struct range_bounds *b = &r->range.bounds;
    *out = KV_WIRE_CONFLICT;
    if (!kv_replica_is_leader(r) || r->range.frozen != a->index)
        return !kv_replica_is_leader(r) || !r->command_entry;
    if (r->command_index == 0)
        r->command_index = r->applied;
    for (size_t i = 0; i < c->count; i++) {
        struct raft_peer p;
        if (c->member[i].id != r->id &&
            (!raft_peer_get(&r->raft, c->member[i].id, &p) || p.match < r->command_index))
            return false;
    }
    struct kv_wire_frozen f = {a->index,         range_version_pack(r->range.version),
                               r->command_index, raft_term_at(&r->raft, r->command_index),
                               r->range.hlc,     *b};
    kv_wire_frozen_encode(&f, &a->reply);
    *out = KV_WIRE_OK;
    return true;
}

static bool is_thawed(const struct kv_replica *r, uint64_t serial, struct range_version expected)
{
    return r->range.frozen != serial &&
           range_version_pack(r->range.version) > range_version_pack(expected);
}

void kv_merge_thaw(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    struct range_command c = {.kind = RANGE_CMD_MERGE_THAW};
    enum kv_wire_status status = KV_WIRE_CONFLICT;
    if (!get_order(cmd->key, &c))
        status = KV_WIRE_INVALID;
    else if (is_thawed(r, c.serial, c.other_version))
        status = KV_WIRE_OK;
    else if (r->is_leader_told && !r->command_entry) {
        c.version = r->range.version;
        propose(r, &c); /* the merger asks again, until it is so */
    }
    refuse(r, a, status);
}

/* ---- taking over, on every member ------------------------------------------------------------ */

struct kv_handoff {
    struct net_mail mail;
    struct kv_store *store;
    struct kv_loop *home;      /* the merger's */
    uint64_t merger, index;    /* its tag, and COMMIT's place in its log */
    uint64_t tag, up_to, term; /* the mergee and how much of its log counts */
    bool is_found;
    uint64_t group, id;
    struct kv_parts parts;
    struct range_bounds bounds; /* owned when found */
    struct raft_config *config;
};

void kv_handoff_free(struct kv_handoff *h)
{
    if (!h)
        return;
    kv_parts_free(&h->parts);
    if (h->is_found)
        range_bounds_free(&h->bounds);
    mem_free(h->config);
    mem_free(h);
}

struct wipe { /* the mergee's log goes when the batch that made its rows ours is there for good */
    struct kv_state_job job;
    uint64_t group;
};

static void wiped(struct kv_state_job *job)
{
    struct wipe *w = container_of(job, struct wipe, job);
    engine_log_put_destroy(kv_loop_wal(job->loop, true), w->group);
    kv_loop_wake(job->loop);
    mem_free(w);
}

static void wipe_drop(struct kv_state_job *job)
{
    mem_free(container_of(job, struct wipe, job)); /* at the next start a group with a tombstone */
}

/* Everything of it but the rows. */
static void forget(struct kv_replica *r, const struct kv_handoff *h)
{
    struct wipe *w = mem_new(sizeof *w);
    w->group = h->group;
    w->job.loop = r->loop;
    w->job.fn = wiped;
    w->job.drop = wipe_drop;
    w->job.is_sync = true;
    kv_meta_bury(r->home, h->tag, h->group, kv_client_rows(r->home));
    kv_load_view_soon(r, &w->job);
}

static void on_handed(struct net_loop *here, struct net_mail *mail)
{
    struct kv_handoff *h = container_of(mail, struct kv_handoff, mail);
    struct kv_replica *r = kv_replica_find(h->home, h->merger);
    bool is_awaited = r && !r->is_closed && r->kept_count > 0 && r->kept[0].index == h->index;
    (void)here;
    if (is_awaited && h->is_found) {
        r->absorbed = h;
        r->is_paused = false;
        r->pins++;
        kv_apply_resume(r);
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_APPLIED, .index = r->applied});
        r->pins--;
        return;
    }
    if (is_awaited && r->config->count > 1) { /* an only copy waits for a person */
        log_line(h->home->kv->conf.log, LOG_LEVEL_ERROR, "kv.merge.missing",
                 "a range of %s cannot take in its neighbour, which is not here: this copy is "
                 "dropped and will be made anew from its peers",
                 h->store->name);
        kv_replica_close(r, true);
    }
    kv_handoff_free(
        h); /* found but no longer needed: what is on the disk goes after the next start */
}

static void answer(struct kv_handoff *h, struct kv_loop *from)
{
    net_loop_post(from->loop, h->home->loop, &h->mail, on_handed);
}

/* The machine of the mergee is not read by anybody any more. */
void kv_merge_released(void *machine, void *arg)
{
    struct kv_handoff *h = arg;
    struct kv_loop *from = kv_loop_of(h->store, h->tag);
    if (machine)
        h->store->conf.ops->free(machine);
    answer(h, from);
}

void kv_merge_hand(struct kv_replica *r)
{
    struct kv_handoff *h = r->handoff;
    if (!h || r->is_closed || r->is_paused || !r->is_ready || r->applied < h->up_to)
        return;
    h->is_found = true;
    h->group = r->group;
    h->id = r->id;
    h->bounds = range_bounds_dup(&r->range.bounds);
    h->parts = kv_parts_dup(&r->parts);
    r->is_absorbed = true;
    kv_meta_bury_all(r->home, r->tag);
    kv_replica_close(r, false);
}

void kv_merge_ended(struct kv_replica *r)
{
    struct kv_handoff *h = r->handoff;
    r->handoff = NULL;
    if (h)
        answer(h, r->loop);
}

static void on_wanted(struct net_loop *here, struct net_mail *mail)
{
    struct kv_handoff *h = container_of(mail, struct kv_handoff, mail);
    struct kv_loop *l = kv_loop_of(h->store, h->tag);
    struct kv_replica *r = kv_replica_find(l, h->tag);
    (void)here;
    if (!r || r->is_closed || r->handoff) {
        answer(h, l);
        return;
    }
    r->handoff = h;
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_COMMITTED,
                                            .snapshot = {0, h->up_to, h->term, NULL}});
}

bool kv_merge_awaits(struct kv_replica *r, const struct raft_entry *entry)
{
    struct range_command c;
    if (r->range.merge.state != RANGE_MERGE_BEGUN || entry->type != RAFT_ENTRY_DATA ||
        r->absorbed || range_command_decode(entry->payload, &c) != 0 ||
        c.kind != RANGE_CMD_MERGE_COMMIT || !range_can_commit(&r->range, &c))
        return false;
    struct kv_handoff *h = mem_new(sizeof *h);
    h->store = r->home->store;
    h->home = r->loop;
    h->merger = r->tag;
    h->index = entry->index;
    h->tag = kv_tag(h->store, c.other);
    h->up_to = c.other_index;
    h->term = c.other_term;
    r->is_paused = true;
    net_loop_post(r->loop->loop, kv_loop_of(h->store, h->tag)->loop, &h->mail, on_wanted);
    return true;
}

void kv_merge_apply(struct kv_replica *r)
{
    struct kv_handoff *h = r->absorbed;
    must(h != NULL);
    r->absorbed = NULL;
    r->is_meta_dirty = r->is_routed_dirty = true;
    kv_parts_join(&r->parts, h->bounds.start, &h->parts);
    forget(r, h);
    kv_handoff_free(h);
    kv_load_begin(r, NULL);
}

/* ---- those that a merge left behind ---------------------------------------------------------- */

/* A replica here that may still be told to take it in: it is older than what is known of its range,
 * or its keys reach ours and it is older than who has had our keys since. */
static bool is_wanted(const struct kv_client *c, const struct kv_replica *r,
                      const struct kv_route *owner)
{
    for (size_t i = 0; i < c->route_count; i++) {
        const struct kv_route *o = c->route[i];
        if (o->is_local && !range_id_eq(o->id, r->range_id) && o->id.epoch == r->range_id.epoch &&
            (o->local_boundary < o->version.boundary ||
             (str_eq(o->local_bounds.end, r->range.bounds.start) &&
              o->local_boundary < owner->version.boundary) ||
             (o->local_boundary <= r->range.version.boundary &&
              range_bounds_has(&o->local_bounds, r->range.bounds.start))))
            return true;
    }
    return false;
}

/* Another range has had its keys since. */
static bool is_orphan(const struct kv_replica *r)
{
    if (r->is_closed || !r->has_range || r->handoff || r->range.bounds.start.n == 0 ||
        (r->range.frozen == 0 && raft_status_get(&r->raft).leader != 0))
        return false;
    const struct kv_route *o = kv_router_find(r->home, r->range.bounds.start);
    return o && !range_id_eq(o->id, r->range_id) && o->id.epoch == r->range_id.epoch &&
           o->version.boundary > r->range.version.boundary && !is_wanted(r->home, r, o);
}

void kv_merge_sweep(struct kv_replica *r)
{
    usec_t now = kv_loop_now(r->loop);
    if (!is_orphan(r))
        r->orphan_at = 0;
    else if (r->orphan_at == 0)
        r->orphan_at = now;
    else if (now >= r->orphan_at + ORPHAN_USEC) {
        kv_meta_bury_all(r->home, r->tag);
        r->is_merged = true;
        kv_replica_close(r, true);
    }
}
