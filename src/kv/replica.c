/* The host of one replica: raft decides, this carries it out.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. kv_replica_step is the only caller of raft_step, never nested; its effects are carried out in
 *    the order persist,
 *    send, apply, fetch and reads, arm.
 * 2. What raft wants persisted goes to the loop's batch of this turn; the completion of that batch
 *    is the event.
 * 3. At most KV_ENTRY_FLIGHT_MAX proposed entries are not applied; what comes meanwhile gathers
 *    into the next one.
 * 4. Every bundle taken is answered once: kv_bundle_done.
 * Never decides anything about the group. */
#include "kv/kv_priv.h"

static bool is_synced(const struct kv_replica *r)
{
    return r->home->store->conf.durability == KV_DURABILITY_QUORUM_FSYNC;
}

/* ---- 1 persist ------------------------------------------------------------------------------- */

static void put_config_at_floor(struct kv_replica *r, struct engine_log_batch *b, uint64_t index,
                                uint64_t term)
{
    struct buf *s = &r->loop->scratch;
    s->n = 0;
    if (r->config)
        raft_config_encode(r->config, s);
    engine_log_put_compact(b, r->group, index, term, buf_str(s));
}

static void replica_persist(struct kv_replica *r, const struct raft_persist *p)
{
    struct engine_log_entry part[64];

    if (p->seq == 0)
        return;
    struct engine_log_batch *b = kv_loop_wal(r->loop, is_synced(r));
    if (p->reset) { /* what the log has from there on is not what the snapshot comes from */
        engine_log_put_truncate(b, r->group, p->reset);
        put_config_at_floor(r, b, p->reset, p->reset_term);
        r->log_bytes = 0;
    }
    if (p->compact) {
        put_config_at_floor(r, b, p->compact, p->compact_term);
        r->log_bytes = 0;
    }
    if (p->truncate)
        engine_log_put_truncate(b, r->group, p->truncate);
    for (size_t at = 0; at < p->entry_count;) {
        size_t n = 0;
        uint64_t first = p->entry[at].index;
        for (; n < countof(part) && at < p->entry_count; n++, at++) {
            const struct raft_entry *e = &p->entry[at];
            part[n] = (struct engine_log_entry){e->term, e->type, e->payload};
            r->log_bytes += e->payload.n + 32;
        }
        engine_log_put_entries(b, r->group, first, part, n);
    }
    if (p->has_hard) {
        struct engine_log_hard h = {.term = p->hard.term, .commit = p->hard.commit};
        if (p->hard.vote) {
            h.vote_n = 8;
            memcpy(h.vote, &p->hard.vote, 8);
        }
        engine_log_put_hard(b, r->group, &h);
    }
    kv_loop_wal_wait(r->loop, is_synced(r), r, p->seq);
}

/* ---- 2 send ---------------------------------------------------------------------------------- */

static void replica_send(struct kv_replica *r, const struct raft_out *out)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    uint32_t shard = kv_shard(r->home->store, r->range_id);
    for (size_t i = 0; i < out->message_count; i++) {
        const struct raft_message *m = &out->message[i];
        if (m->type == RAFT_MSG_SNAPSHOT) {
            kv_ship_head(r, m);
            continue;
        }
        const struct raft_member *to = raft_config_find(c, m->to);
        if (!to && r->config)
            to = raft_config_find(r->config, m->to);
        const struct uuid *node =
            to ? &to->store : r->loop->receiving; /* no member: whoever has just asked */
        if (node)
            kv_peer_send(r->loop, node, shard, KV_WIRE_FRAME_RAFT, r->tag, m, STR(""));
    }
}

/* ---- 4 fetch --------------------------------------------------------------------------------- */

struct fetch_job {
    struct net_worker_job job;
    struct kv_replica *replica;
    struct raft_fetch want;
    struct buf bytes;
    struct engine_log_entry entry[512];
    size_t count;
    int result;
};

static void fetch_work(struct net_worker_job *job)
{
    struct fetch_job *f = container_of(job, struct fetch_job, job);
    struct engine_log_want want = {.group = f->replica->group,
                                   .from = f->want.first,
                                   .count_max = countof(f->entry),
                                   .bytes_max = f->want.bytes_max,
                                   .may_wait = true};
    uint64_t span = f->want.last - f->want.first + 1;
    if (want.count_max > span)
        want.count_max = span;
    f->result = engine_log_read(f->replica->loop->kv->log, &want, &f->bytes, f->entry, &f->count);
}

static void fetch_give(struct fetch_job *f)
{
    struct raft_entry entry[countof(f->entry)];
    for (size_t i = 0; i < f->count; i++)
        entry[i] = (struct raft_entry){f->want.first + i, f->entry[i].term, f->entry[i].data,
                                       f->entry[i].kind};
    struct raft_event ev = {
        .kind = RAFT_EV_FETCHED,
        .fetched = {f->want.peer, f->want.first, entry, f->result == 0 ? f->count : 0}};
    kv_replica_step(f->replica, &ev);
}

static void fetch_done(struct net_worker_job *job)
{
    struct fetch_job *f = container_of(job, struct fetch_job, job);
    struct kv_replica *r = f->replica;
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
    else if (!job->is_cancelled) /* else the pool ends: nothing more can be read */
        fetch_give(f);
    buf_deinit(&f->bytes);
    mem_free(f);
}

static void fetched_here(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    fetch_done(container_of(mail, struct net_worker_job, mail));
}

static void replica_fetch(struct kv_replica *r, const struct raft_out *out)
{
    for (size_t i = 0; i < out->fetch_count; i++) {
        struct fetch_job *f = mem_new(sizeof *f);
        f->replica = r;
        f->want = out->fetch[i];
        r->pins++;
        if (net_worker_push(r->loop->kv->conf.worker, r->loop->loop, &f->job, fetch_work,
                            fetch_done) != 0) {
            /* the pool is full: read here, slow is better than never */
            fetch_work(&f->job);
            net_loop_post(r->loop->loop, r->loop->loop, &f->job.mail, fetched_here);
        }
    }
}

/* ---- 5 what changed -------------------------------------------------------------------------- */

bool kv_replica_is_leader(const struct kv_replica *r)
{
    return r->raft.role == RAFT_LEADER;
}

struct uuid kv_replica_leader(const struct kv_replica *r)
{
    struct raft_status st = raft_status_get(&r->raft);
    const struct raft_member *m =
        st.leader ? raft_config_find(raft_config_get(&r->raft), st.leader) : NULL;
    return m ? m->store : (struct uuid){{0}};
}

void kv_replica_view(const struct kv_replica *r, struct kv_range_view *out)
{
    *out = (struct kv_range_view){
        .id = {r->range_id.epoch, r->range_id.id},
        .start = r->range.bounds.start,
        .end = r->range.bounds.end,
        .is_open = r->range.bounds.is_open,
        .loop = r->loop->index,
        .term = r->applied_term,
        .machine = r->machine,
    };
}

void kv_replica_ready(struct kv_replica *r, bool is_ready)
{
    r->is_loaded = is_ready;
    is_ready = is_ready && r->applied >= r->boot_commit; /* else kv_apply_end says it */
    if (r->is_ready == is_ready)
        return;
    r->is_ready = is_ready;
    r->is_routed_dirty = true;
    r->is_weighed = r->is_weighed && !is_ready; /* other rows than before */
    if (!is_ready)
        kv_fresh_end(r);
    const struct kv_host *h = &r->home->store->conf.host;
    struct kv_range_view v;
    kv_replica_view(r, &v);
    if (h->ready)
        h->ready(h->arg, &v, is_ready);
}

/* Leads for its host: from the moment its own first entry is applied until raft says otherwise. */
static void replica_tell_leader(struct kv_replica *r)
{
    struct raft_status st = raft_status_get(&r->raft);
    bool leads = st.role == RAFT_LEADER && r->is_ready && r->applied_term == st.term;
    if (leads == r->is_leader_told)
        return;
    r->is_leader_told = leads;
    const struct kv_host *h = &r->home->store->conf.host;
    struct kv_range_view v;
    kv_replica_view(r, &v);
    if (leads) {
        atomic_fetch_add_explicit(&r->loop->count.leader_count, 1, memory_order_relaxed);
        kv_count(&r->loop->count.elected_count, 1);
        kv_replica_tick_soon(r);
    } else {
        atomic_fetch_sub_explicit(&r->loop->count.leader_count, 1, memory_order_relaxed);
        net_timer_del(r->loop->loop, &r->tick);
    }
    if (h->leader)
        h->leader(h->arg, &v, leads);
    kv_landscape_tell(r, true);
}

static void entry_fail(struct kv_replica *r, struct kv_entry *e, enum kv_wire_status status);

static void gather_fail(struct kv_replica *r, enum kv_wire_status status)
{
    while (!list_empty(&r->gather)) {
        struct kv_entry *e = container_of(r->gather.next, struct kv_entry, link);
        if (e == r->proposing)
            break;
        entry_fail(r, e, status);
    }
    if (!r->proposing)
        r->gather_bytes = 0;
}

static void replica_changed(struct kv_replica *r, uint32_t changed)
{
    if (changed & (RAFT_CH_ROLE | RAFT_CH_CONFIG))
        r->is_routed_dirty = true;
    if (changed & (RAFT_CH_ROLE | RAFT_CH_CONFIG | RAFT_CH_QUIET))
        kv_pulse_changed(r);
    replica_tell_leader(r);
    if ((changed & RAFT_CH_ROLE) && !kv_replica_is_leader(r)) {
        kv_ship_stop(r);
        gather_fail(r, KV_WIRE_NOT_LEADER);
    }
    kv_command_settle(r);
    if (r->is_routed_dirty) {
        r->is_routed_dirty = false;
        kv_router_tell(r, false, NULL, NULL);
        kv_landscape_tell(r, changed & RAFT_CH_ROLE);
    }
    if (changed & RAFT_CH_REMOVED)
        kv_replica_close(r, true);
}

static void proposed(struct kv_replica *r, const struct raft_out *out);

static void replica_arm(struct kv_replica *r)
{
    net_timer_set(r->loop->loop, &r->timer, raft_deadline(&r->raft));
}

/* ---- the step -------------------------------------------------------------------------------- */

static void step_once(struct kv_replica *r, struct raft_event *ev)
{
    struct kv_loop *l = r->loop;
    struct raft_out *out = &l->out;

    must(!l->is_stepping);
    l->is_stepping = true;
    raft_out_reset(out);
    ev->now = kv_loop_now(l);
    raft_step(&r->raft, ev, out);
    if (ev->kind == RAFT_EV_PROPOSE)
        proposed(r, out);
    if (ev->kind != RAFT_EV_APPLIED)
        r->outcome = out->outcome;
    if (ev->kind == RAFT_EV_CONF || ev->kind == RAFT_EV_TRANSFER || ev->kind == RAFT_EV_RECOVER) {
        r->outcome_command = out->outcome;
        r->outcome_index = out->index;
    }
    replica_persist(r, &out->persist);
    replica_send(r, out);
    kv_apply(r, out);
    replica_fetch(r, out);
    r->wants_install = r->wants_install || out->install.from != 0;
    for (size_t i = 0; i < out->snapshot_count; i++)
        kv_ship_out(r, out->snapshot[i]);
    kv_apply_reads(r, out);
    replica_changed(r, out->changed);
    if (!r->is_closed) /* else its timer would outlive it */
        replica_arm(r);
    l->is_stepping = false;
}

void kv_replica_step(struct kv_replica *r, struct raft_event *ev)
{
    must(!r->is_ended);
    step_once(r, ev);
    while (r->is_applied_pending && !r->is_closed) {
        r->is_applied_pending = false;
        step_once(r, &(struct raft_event){.kind = RAFT_EV_APPLIED, .index = r->applied});
    }
    if (!list_empty(&r->gather) && r->flight_count < KV_ENTRY_FLIGHT_MAX &&
        list_empty(&r->gather_link)) {
        list_push_back(&r->loop->gathering, &r->gather_link);
        kv_loop_wake(r->loop);
    }
    kv_apply_asks_ready(r);
    kv_fresh_applied(r);
    kv_merge_push(r);
    kv_merge_hand(r);
}

static void on_timer(void *arg, usec_t now)
{
    struct kv_replica *r = arg;
    (void)now;
    bool is_unwatched = kv_replica_is_leader(r) && !kv_pulse_is_watched(r);
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_TICK, .is_unwatched = is_unwatched});
}

/* ---- proposals ------------------------------------------------------------------------------- */

static struct kv_entry *entry_new(struct kv_replica *r)
{
    struct kv_entry *e = mem_new(sizeof *e);
    list_init(&e->bundles);
    list_push_back(&r->gather, &e->link);
    if (list_empty(&r->gather_link)) {
        list_push_back(&r->loop->gathering, &r->gather_link);
        kv_loop_wake(r->loop);
    }
    return e;
}

/* The entry that the next commands go into. */
static struct kv_entry *entry_open(struct kv_replica *r, size_t more)
{
    struct kv_entry *e =
        list_empty(&r->gather) ? NULL : container_of(r->gather.prev, struct kv_entry, link);
    if (e && e->count > 0 && e->payload.n + more <= r->loop->kv->conf.limits.batch_bytes_max)
        return e;
    e = entry_new(r);
    range_command_begin(&e->payload, r->range.version.boundary, kv_loop_hlc(r->loop));
    return e;
}

void kv_replica_take(struct kv_replica *r, struct kv_bundle *b)
{
    enum kv_wire_status bad = KV_WIRE_OK;
    if (r->is_closed || !r->has_range)
        bad = KV_WIRE_NO_RANGE;
    else if (!kv_replica_is_leader(r))
        bad = KV_WIRE_NOT_LEADER;
    else if (b->boundary != r->range.version.boundary)
        bad = KV_WIRE_VERSION;
    else if (r->range.frozen != 0)
        bad = KV_WIRE_FULL; /* until it is thawed, or its neighbour has its keys */
    else if (r->gather_bytes > r->loop->kv->conf.limits.pending_bytes_max ||
             engine_log_admit(r->loop->kv->log) != 0 ||
             engine_state_stall(r->home->store->state) >= 100)
        bad = KV_WIRE_FULL; /* the caller tries again: what comes is as slow as the disk */
    else if (!kv_convoy_take(r, &b->convoy))
        bad = KV_WIRE_LOST;
    if (bad != KV_WIRE_OK) {
        b->answer =
            (struct kv_wire_answer){bad, kv_replica_leader(r), raft_status_get(&r->raft).term};
        kv_bundle_done(r->loop, b, bad);
        return;
    }
    struct kv_entry *e = entry_open(r, b->data.n);
    buf_put_str(&e->payload, buf_str(&b->data));
    b->first = e->count;
    e->count += b->count;
    r->gather_bytes += b->data.n;
    list_del(&b->link);
    list_push_back(&e->bundles, &b->link);
}

void kv_replica_command(struct kv_replica *r, struct str payload)
{
    struct kv_entry *e = entry_new(r);
    buf_put_str(&e->payload, payload);
    r->gather_bytes += payload.n;
    r->command_entry = e;
}

static void entry_free(struct kv_replica *r, struct kv_entry *e)
{
    must(list_empty(&e->bundles));
    if (r->tick_entry == e) {
        r->tick_entry = NULL;
        if (!r->is_closed)
            kv_replica_tick_soon(r); /* also when raft refused it: what was due is due still */
    }
    if (r->command_entry == e)
        r->command_entry = NULL;
    list_del(&e->link);
    buf_deinit(&e->payload);
    mem_free(e);
}

static void entry_fail(struct kv_replica *r, struct kv_entry *e, enum kv_wire_status status)
{
    for (struct list *x; (x = list_pop_front(&e->bundles));) {
        struct kv_bundle *b = container_of(x, struct kv_bundle, link);
        b->answer =
            (struct kv_wire_answer){status, kv_replica_leader(r), raft_status_get(&r->raft).term};
        kv_bundle_done(r->loop, b, status);
    }
    entry_free(r, e);
}

static enum kv_wire_status status_of(int outcome)
{
    switch (outcome) {
    case RAFT_E_NOT_LEADER:
        return KV_WIRE_NOT_LEADER;
    case RAFT_E_TOO_BIG:
        return KV_WIRE_INVALID;
    default:
        return KV_WIRE_FULL; /* full, handing over: certainly not done, later */
    }
}

static void gather_took(struct kv_replica *r, const struct kv_entry *e)
{
    r->gather_bytes -= e->payload.n < r->gather_bytes ? e->payload.n : r->gather_bytes;
}

/* Raft has it: from now on the log decides what becomes of it. */
static void proposed(struct kv_replica *r, const struct raft_out *out)
{
    struct kv_entry *e = r->proposing;
    if (out->outcome != RAFT_OK)
        return;
    r->proposing = NULL;
    gather_took(r, e);
    e->index = out->index;
    e->term = out->term;
    buf_deinit(&e->payload);
    list_del(&e->link);
    list_push_back(&r->entries, &e->link);
    r->flight_count++;
    kv_count(&r->loop->count.entry_count, 1);
}

void kv_replica_propose(struct kv_replica *r)
{
    if (!r->is_closed)
        kv_apply_asks_send(r);
    while (!r->is_closed && !list_empty(&r->gather) && r->flight_count < KV_ENTRY_FLIGHT_MAX) {
        struct kv_entry *e = container_of(r->gather.next, struct kv_entry, link);
        struct str payload = buf_str(&e->payload);
        r->proposing = e;
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_PROPOSE, .propose = {&payload, 1}});
        if (!r->proposing)
            continue;
        r->proposing = NULL;
        gather_took(r, e);
        enum kv_wire_status status = status_of(r->outcome);
        entry_fail(r, e, status);
        kv_convoy_forget(r); /* nothing overtakes it */
        gather_fail(r, status);
    }
}

void kv_replica_entry_end(struct kv_replica *r, struct kv_entry *e)
{
    r->flight_count--;
    entry_free(r, e);
}

void kv_replica_entry_fail(struct kv_replica *r, struct kv_entry *e, enum kv_wire_status status)
{
    r->flight_count--;
    entry_fail(r, e, status);
}

/* ---- the machine's own commands -------------------------------------------------------------- */

void kv_replica_tick_soon(struct kv_replica *r)
{
    usec_t at = kv_loop_now(r->loop) + KV_MACHINE_TICK_USEC;
    if (r->is_leader_told && (!net_timer_is_set(&r->tick) || r->tick.node.at > at))
        net_timer_set(r->loop->loop, &r->tick, at);
}

static void on_machine_tick(void *arg, usec_t now)
{
    struct kv_replica *r = arg;
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    struct buf *command = &r->loop->scratch;

    if (!r->is_leader_told || r->is_closed || !ops->tick || r->tick_entry || r->range.frozen != 0)
        return; /* while one is under way the machine is asked again when it has been applied */
    uint64_t hlc = kv_loop_hlc(r->loop);
    command->n = 0;
    uint64_t next = ops->tick(r->machine, hlc > r->range.hlc ? hlc : r->range.hlc, command);
    if (command->n > 0) {
        struct kv_entry *e = entry_open(r, command->n);
        range_command_add(&e->payload, buf_str(command));
        e->count++;
        r->gather_bytes += command->n;
        r->tick_entry = e;
        return;
    }
    if (next == UINT64_MAX)
        return;
    uint64_t here = hlc_ms(hlc), wait = next > here ? next - here : 0;
    usec_t at = usec_add(now, wait > 3600000 ? 3600 * USEC_SEC : wait * USEC_MSEC);
    net_timer_set(r->loop->loop, &r->tick,
                  at > now + KV_MACHINE_TICK_USEC ? at : now + KV_MACHINE_TICK_USEC);
}

/* ---- birth and end --------------------------------------------------------------------------- */

static bool has_tag(const void *item, const void *key)
{
    return ((const struct kv_replica *)item)->tag == *(const uint64_t *)key;
}

struct kv_replica *kv_replica_find(struct kv_loop *l, uint64_t tag)
{
    return map_find(&l->replica, tag, has_tag, &tag);
}

struct kv_replica *kv_replica_new(struct kv_client *home, const struct kv_birth *b,
                                  struct raft_boot *boot)
{
    struct kv_replica *r = mem_new(sizeof *r);
    struct kv_loop *l = home->loop;
    struct list *heads[] = {&r->gather,      &r->entries,    &r->asks, &r->asks_new,
                            &r->ships,       &r->dirty_link, &r->link, &r->persisted_link,
                            &r->gather_link, &r->close_link};
    for (size_t i = 0; i < countof(heads); i++)
        list_init(heads[i]);
    r->home = home;
    r->loop = l;
    r->range_id = b->range_id;
    r->tag = kv_tag(home->store, b->range_id);
    r->group = b->group;
    r->id = b->id;
    r->parts = kv_parts_dup(&b->parts);
    r->applied = r->durable = b->applied;
    r->applied_term = b->applied_term;
    r->snapshot_index = b->snapshot_index;
    r->config = b->config ? raft_config_dup(b->config) : NULL;
    if (b->range) {
        r->range = *b->range;
        r->range.bounds = range_bounds_dup(&b->range->bounds);
        r->has_range = true;
        r->machine =
            b->machine ? b->machine : home->store->conf.ops->new (home->store->conf.machine_conf);
    }
    net_timer_init(&r->timer, on_timer, r);
    net_timer_init(&r->tick, on_machine_tick, r);
    boot->id = r->id;
    boot->now = kv_loop_now(l);
    boot->seed = rng_u64(&l->rng);
    boot->is_new = b->is_new;
    boot->applied = r->applied;
    boot->config = r->config;
    raft_init(&r->raft, &l->kv->raft_conf, boot);
    r->boot_commit = raft_status_get(&r->raft).commit;
    list_push_back(&l->replicas, &r->link);
    map_put(&l->replica, r->tag, r);
    r->is_routed_dirty = true;
    replica_arm(r);
    atomic_fetch_add_explicit(&l->count.replica_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&home->store->replica_count, 1, memory_order_relaxed);
    return r;
}

/* Its calls end, its host and the routers are told; freed at the end of the turn, when nobody holds
 * it. */
void kv_replica_close(struct kv_replica *r, bool is_wiped)
{
    struct kv_loop *l = r->loop;
    const struct kv_host *h = &r->home->store->conf.host;
    if (r->is_closed)
        return;
    r->is_closed = true;
    r->is_wiped = is_wiped;
    if (r->is_leader_told) {
        r->is_leader_told = false;
        atomic_fetch_sub_explicit(&l->count.leader_count, 1, memory_order_relaxed);
        struct kv_range_view v;
        kv_replica_view(r, &v);
        if (h->leader)
            h->leader(h->arg, &v, false);
    }
    if (r->has_range)
        kv_replica_ready(r, false);
    net_timer_del(l->loop, &r->timer);
    net_timer_del(l->loop, &r->tick);
    list_push_back(&l->to_close, &r->close_link);
    kv_loop_wake(l);
}

static void free_machine(void *machine, void *arg)
{
    const struct range_machine_ops *ops = arg;
    if (machine)
        ops->free(machine);
}

struct wipe { /* the log goes when the rows are gone for good */
    struct kv_state_job job;
    uint64_t group;
};

static void wiped(struct kv_state_job *job)
{
    struct wipe *w = container_of(job, struct wipe, job);
    engine_log_put_destroy(kv_loop_wal(job->loop, true), w->group);
    mem_free(w);
}

/* The group stays in the log; at the next start it has no rows, and goes. */
static void wipe_drop(struct kv_state_job *job)
{
    mem_free(container_of(job, struct wipe, job));
}

static void replica_wipe(struct kv_replica *r)
{
    struct wipe *w = mem_new(sizeof *w);
    w->group = r->group;
    w->job.loop = r->loop;
    w->job.fn = wiped;
    w->job.is_sync = true;
    w->job.drop = wipe_drop;
    kv_client_rows_flush(r->home);
    kv_meta_del(r, kv_client_rows(r->home));
    kv_load_view_soon(r, &w->job);
    kv_client_rows_flush(r->home);
    kv_landscape_untell(r);
}

static void replica_tell_end(struct kv_replica *r)
{
    void *ops = (void *)(uintptr_t)r->home->store->conf.ops;
    if (r->loop->kv->is_stopping) {
        free_machine(r->machine, ops);
        r->handoff = r->handoff ? (kv_handoff_free(r->handoff), NULL) : NULL;
    } else if (r->is_absorbed) {
        struct kv_handoff *h = r->handoff;
        r->handoff = NULL;
        kv_landscape_untell(r);
        kv_router_tell(r, true, kv_merge_released, h);
    } else {
        kv_merge_ended(r);
        kv_router_tell(r, true, free_machine, ops);
    }
    kv_handoff_free(r->absorbed);
    r->absorbed = NULL;
}

static void replica_end(struct kv_replica *r)
{
    if (r->is_absorbed)
        kv_client_rows_flush(
            r->home); /* what it applied comes before what the merger makes of it */
    gather_fail(r, KV_WIRE_NO_RANGE);
    kv_apply_lost(r, UINT64_MAX, KV_WIRE_UNKNOWN);
    kv_apply_asks_fail(r, KV_WIRE_NO_RANGE);
    kv_command_settle(r);
    kv_ship_stop(r);
    kv_landing_stop(r);
    list_del(&r->dirty_link);
    list_del(&r->gather_link);
    kv_pulse_forget(r);
    list_del(&r->close_link); /* a completion may have come before the turn's end */
    list_del(&r->link);
    map_del(&r->loop->replica, r->tag, r);
    atomic_fetch_sub_explicit(&r->loop->count.replica_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&r->home->store->replica_count, 1, memory_order_relaxed);
    if (r->is_wiped)
        replica_wipe(r);
    replica_tell_end(r);
}

void kv_replica_reap(struct kv_replica *r)
{
    if (!r->is_ended) {
        r->is_ended = true;
        r->pins++; /* streams that stop with it let go of it, and must not free it under our hands
                    */
        replica_end(r);
        r->pins--;
    }
    if (r->pins > 0)
        return;
    must(!net_timer_is_set(&r->timer) && !net_timer_is_set(&r->tick));
    must(list_empty(&r->persisted_link) && list_empty(&r->close_link));
    raft_deinit(&r->raft);
    kv_apply_drop(r);
    mem_free(r->config);
    buf_deinit(&r->middle);
    buf_deinit(&r->crowd);
    kv_convoy_forget(r);
    kv_parts_free(&r->parts);
    if (r->has_range)
        range_deinit(&r->range);
    mem_free(r);
}
