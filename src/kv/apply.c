/* Committed entries to the machine, its rows to the engine, its answers to those who asked.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. Entries are applied in the order of the log, each once; the applied index goes with the rows
 *    of the turn.
 * 2. An entry of ours is answered with the machine's replies when index and term are those it was
 *    proposed at; with LOST
 *    when another term stands there.
 * 3. Effects go to the host only while it has been told that the range leads.
 * 4. A linear read is served at an index that was committed after it was asked; rows are read from
 *    a view that has them.
 * 5. A command that writes outside the range is refused on every replica alike, with an empty
 * reply, and the machine is loaded anew from its rows. Never reads rows on the loop. */
#include "kv/kv_priv.h"

/* ---- entries --------------------------------------------------------------------------------- */

/* Our own entry at this place, or NULL; what stood there or before and was overwritten is answered.
 */
static struct kv_entry *take_own(struct kv_replica *r, uint64_t index, uint64_t term)
{
    while (!list_empty(&r->entries)) {
        struct kv_entry *e = container_of(r->entries.next, struct kv_entry, link);
        if (e->index > index)
            return NULL;
        if (e->index == index && e->term == term)
            return e;
        kv_replica_entry_fail(r, e, e->index == index ? KV_WIRE_LOST : KV_WIRE_UNKNOWN);
    }
    return NULL;
}

void kv_apply_lost(struct kv_replica *r, uint64_t up_to, enum kv_wire_status status)
{
    while (!list_empty(&r->entries)) {
        struct kv_entry *e = container_of(r->entries.next, struct kv_entry, link);
        if (e->index > up_to)
            return;
        kv_replica_entry_fail(r, e, status);
    }
}

/* The machine wrote where it must not: nothing of it becomes rows, and what it remembers of it is
 * forgotten by loading it anew (5). */
static void refuse_rows(struct kv_replica *r, const struct range_apply *in, struct range_out *out)
{
    log_line(r->loop->kv->conf.log, LOG_LEVEL_ERROR, "kv.command.refused",
             "command %u of entry %llu of a range of %s wrote outside the range: nothing of it is "
             "kept, on any replica; please report it",
             in->sub, (unsigned long long)in->index, r->home->store->name);
    range_out_reset(out);
    r->is_tainted = true;
}

static void put_rows(struct kv_replica *r, const struct range_out *out)
{
    struct engine_batch *rows = out->row_count ? kv_client_rows(r->home) : NULL;
    for (size_t i = 0; i < out->row_count; i++) {
        struct range_write w = range_out_row(out, i);
        r->written_bytes += w.key.n + (w.is_del ? 0 : w.value.n);
        uint64_t space = kv_parts_at(&r->parts, w.key);
        if (w.is_del)
            engine_batch_del(rows, space, w.key);
        else
            engine_batch_put(rows, space, w.key, w.value);
    }
}

static void give_effects(struct kv_replica *r, const struct range_out *out)
{
    const struct kv_host *h = &r->home->store->conf.host;
    if (!h->effect || out->effect_count == 0)
        return;
    struct kv_range_view v;
    kv_replica_view(r, &v);
    for (size_t i = 0; i < out->effect_count; i++)
        h->effect(h->arg, &v, range_out_effect_get(out, i));
    r->has_effects = true;
}

/* The bundle that this command of the entry came with, if any did; walks forward. */
static struct kv_bundle *bundle_at(struct kv_entry *e, struct list **at, uint32_t sub)
{
    while (e && *at != &e->bundles) {
        struct kv_bundle *b = container_of(*at, struct kv_bundle, link);
        if (sub < b->first)
            return NULL;
        if (sub < b->first + b->count)
            return b;
        *at = (*at)->next;
    }
    return NULL;
}

static void apply_commands(struct kv_replica *r, const struct raft_entry *entry,
                           struct range_command *c, struct kv_entry *own)
{
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    struct range_out *out = &r->loop->machine_out;
    struct range_apply in = {.index = entry->index, .hlc = c->hlc, .has_host = r->is_leader_told};
    struct list *at = own ? own->bundles.next : NULL;

    while (range_command_next(c, &in.command)) {
        range_out_reset(out);
        ops->apply(r->machine, &in, out);
        if (!range_has_rows(&r->range, out))
            refuse_rows(r, &in, out);
        put_rows(r, out);
        struct kv_bundle *b = bundle_at(own, &at, in.sub);
        if (b)
            kv_wire_answer_put(&b->reply, buf_str(&out->reply));
        if (in.has_host)
            give_effects(r, out);
        in.sub++;
    }
    r->apply_count += in.sub;
    kv_count(&r->loop->count.apply_count, in.sub);
}

static void answer_own(struct kv_replica *r, struct kv_entry *own, enum kv_wire_status status)
{
    if (!own)
        return;
    if (status != KV_WIRE_OK) {
        kv_replica_entry_fail(r, own, status);
        return;
    }
    for (struct list *x; (x = list_pop_front(&own->bundles));)
        kv_bundle_done(r->loop, container_of(x, struct kv_bundle, link), KV_WIRE_OK);
    kv_replica_entry_end(r, own);
}

static void apply_data(struct kv_replica *r, const struct raft_entry *entry, struct kv_entry *own)
{
    struct range_command c;
    struct range right;
    if (range_command_decode(entry->payload, &c) != 0) {
        answer_own(r, own, KV_WIRE_INVALID);
        return;
    }
    int verdict = range_apply(&r->range, &c, &right);
    if (verdict != RANGE_OK) {
        answer_own(r, own, verdict == RANGE_E_VERSION ? KV_WIRE_VERSION : KV_WIRE_CONFLICT);
        return;
    }
    if (c.kind == RANGE_CMD_MERGE_COMMIT)
        kv_merge_apply(r);
    if (c.kind == RANGE_CMD_SPLIT) {
        r->is_meta_dirty = r->is_routed_dirty = true;
        kv_split_begin(r, &right);
        range_deinit(&right);
    } else if (c.kind == RANGE_CMD_WRITE)
        apply_commands(r, entry, &c, own);
    else {
        r->is_meta_dirty = r->is_routed_dirty = true;
        if (r->range.frozen != 0)
            kv_fresh_end(r);
    }
    answer_own(r, own, KV_WIRE_OK);
}

/* An operator can follow a change of members on each node that has it; one that is replayed is old.
 */
static void tell_members(const struct kv_replica *r)
{
    unsigned voters = 0;
    char id[RANGE_ID_TEXT];
    if (r->config->is_joint || r->applied < r->boot_commit)
        return;
    for (size_t i = 0; i < r->config->count; i++)
        voters += (r->config->member[i].role & RAFT_VOTER) != 0;
    range_id_format(r->range_id, id);
    log_line(r->loop->kv->conf.log, LOG_LEVEL_INFO, "kv.range.members",
             "range %s %s: %u voters, %u learners", r->home->store->name, id, voters,
             (unsigned)r->config->count - voters);
}

static void apply_config(struct kv_replica *r, const struct raft_entry *entry)
{
    struct raft_config *c = raft_config_decode(entry->payload);
    must(c != NULL); /* raft has accepted it */
    mem_free(r->config);
    r->config = c;
    tell_members(r);
    range_config_changed(&r->range);
    r->is_meta_dirty = r->is_routed_dirty = true;
}

static void apply_entry(struct kv_replica *r, const struct raft_entry *entry)
{
    struct kv_entry *own = take_own(r, entry->index, entry->term);
    must(entry->index == r->applied + 1);
    if (entry->type == RAFT_ENTRY_DATA)
        apply_data(r, entry, own);
    else if (entry->type == RAFT_ENTRY_CONFIG)
        apply_config(r, entry);
    r->applied = entry->index;
    r->applied_term = entry->term;
    list_del(&r->dirty_link);
    list_push_back(&r->home->dirty, &r->dirty_link);
    if (engine_batch_bytes(kv_client_rows(r->home)) > KV_APPLY_BATCH_BYTES)
        kv_client_rows_flush(r->home);
    r->is_applied_pending = true;
    if (r->is_tainted && !r->is_paused)
        kv_load_begin(r, NULL);
    r->is_tainted = false;
}

/* What raft hands over while a split loads its machines waits, with payloads of its own. */
static void keep(struct kv_replica *r, const struct raft_entry *entry)
{
    if (entry->index <= r->applied)
        return; /* the snapshot that is being loaded has it */
    r->kept = mem_grow(r->kept, &r->kept_cap, r->kept_count + 1, sizeof *r->kept);
    r->kept[r->kept_count] = *entry;
    r->kept[r->kept_count++].payload = str_dup(entry->payload);
}

void kv_apply(struct kv_replica *r, const struct raft_out *out)
{
    for (size_t i = 0; i < out->apply_count; i++)
        if (r->is_paused || kv_merge_awaits(r, &out->apply[i]))
            keep(r, &out->apply[i]);
        else
            apply_entry(r, &out->apply[i]);
    kv_apply_end(r);
}

void kv_apply_end(struct kv_replica *r)
{
    const struct kv_host *h = &r->home->store->conf.host;
    if (r->has_effects && h->effects_end) {
        struct kv_range_view v;
        kv_replica_view(r, &v);
        h->effects_end(h->arg, &v);
    }
    r->has_effects = false;
    if (r->is_loaded && !r->is_ready)
        kv_replica_ready(r, true);
    if (r->is_applied_pending)
        kv_replica_tick_soon(r);
}

void kv_apply_resume(struct kv_replica *r)
{
    size_t done = 0;
    while (done < r->kept_count && !r->is_paused && !kv_merge_awaits(r, &r->kept[done])) {
        if (r->kept[done].index > r->applied) /* a snapshot may have come meanwhile */
            apply_entry(r, &r->kept[done]);
        mem_free((void *)(uintptr_t)r->kept[done].payload.p);
        done++;
    }
    r->kept_count -= done;
    if (done > 0)
        memmove(r->kept, r->kept + done, r->kept_count * sizeof *r->kept);
    kv_apply_end(r);
}

void kv_apply_drop(struct kv_replica *r)
{
    for (size_t i = 0; i < r->kept_count; i++)
        mem_free((void *)(uintptr_t)r->kept[i].payload.p);
    r->kept = mem_free(r->kept);
    r->kept_count = r->kept_cap = 0;
}

/* ---- reads ----------------------------------------------------------------------------------- */

static struct str later(struct str a, struct str b)
{
    return str_cmp(a, b) < 0 ? b : a;
}

static void want_rows(struct kv_replica *r, struct kv_ask *a, const struct range_scan *scan)
{
    const struct range_bounds *b = &r->range.bounds;
    struct kv_client *c = r->home;
    struct str to = scan->to;
    if (!b->is_open && (to.n == 0 || str_cmp(b->end, to) < 0))
        to = b->end;
    kv_spans_free(&a->spans);
    a->spans = kv_spans_of(&r->parts, later(scan->from, b->start), to);
    a->row_max = scan->row_max > 0 ? scan->row_max : UINT32_MAX;
    a->byte_max = scan->byte_max > 0 ? scan->byte_max : UINT32_MAX;
    list_del(&a->link);
    list_push_back(&c->scans, &a->link);
    if (list_empty(&c->scan_link))
        list_push_back(&c->loop->scans, &c->scan_link);
    kv_loop_wake(c->loop);
    kv_count(&c->loop->count.scan_count, 1);
}

static void serve(struct kv_replica *r, struct kv_ask *a)
{
    struct range_scan scan = {.from = STR(""), .to = STR("")};
    const struct range_bounds *b = &r->range.bounds;
    uint64_t hlc = kv_loop_hlc(r->loop);

    if (r->range.frozen != 0 && a->read != KV_READ_STALE) {
        kv_ask_done(r->loop, a, KV_WIRE_FULL); /* the merger may have written since */
        return;
    }
    if (!range_bounds_has(b, buf_str(&a->key))) {
        kv_ask_done(r->loop, a, KV_WIRE_VERSION);
        return;
    }
    if (!b->is_open)
        buf_put_str(&a->end, b->end);
    a->is_last = b->is_open;
    int q = r->home->store->conf.ops->query(r->machine, hlc > r->range.hlc ? hlc : r->range.hlc,
                                            buf_str(&a->request), &a->reply, &scan);
    if (q == RANGE_QUERY_E_SCAN)
        want_rows(r, a, &scan);
    else
        kv_ask_done(r->loop, a, q == 0 ? KV_WIRE_OK : KV_WIRE_INVALID);
}

static void refuse_ask(struct kv_replica *r, struct kv_ask *a, enum kv_wire_status status)
{
    a->answer.leader = kv_replica_leader(r);
    a->answer.term = raft_status_get(&r->raft).term;
    kv_ask_done(r->loop, a, status);
}

void kv_apply_ask(struct kv_replica *r, struct kv_ask *a)
{
    if (r->is_closed || !r->is_ready)
        refuse_ask(r, a, KV_WIRE_NO_RANGE);
    else if (a->read == KV_READ_STALE)
        serve(r, a);
    else if (!kv_replica_is_leader(r))
        refuse_ask(r, a, KV_WIRE_NOT_LEADER);
    else if (raft_has_lease(&r->raft, kv_loop_now(r->loop)) &&
             r->applied >= raft_status_get(&r->raft).commit)
        serve(r, a);
    else {
        a->ctx = a->index = 0;
        list_del(&a->link);
        list_push_back(&r->asks_new, &a->link);
        if (list_empty(&r->gather_link))
            list_push_back(&r->loop->gathering, &r->gather_link);
        kv_loop_wake(r->loop);
    }
}

/* One question to the quorum for all that gathered. */
void kv_apply_asks_send(struct kv_replica *r)
{
    if (list_empty(&r->asks_new))
        return;
    uint64_t ctx = ++r->read_ctx;
    for (struct list *x; (x = list_pop_front(&r->asks_new));) {
        container_of(x, struct kv_ask, link)->ctx = ctx;
        list_push_back(&r->asks, x);
    }
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_READ, .read = {.ctx = ctx}});
    if (r->outcome == RAFT_OK)
        return;
    list_each(&r->asks, x)
    {
        struct kv_ask *a = container_of(x, struct kv_ask, link);
        if (a->ctx != ctx)
            continue;
        list_del(&a->link);
        refuse_ask(r, a, r->outcome == RAFT_E_NOT_LEADER ? KV_WIRE_NOT_LEADER : KV_WIRE_FULL);
    }
}

void kv_apply_reads(struct kv_replica *r, const struct raft_out *out)
{
    for (size_t i = 0; i < out->read_count; i++) {
        kv_fresh_read(r, &out->read[i]);
        list_each(&r->asks, x)
        {
            struct kv_ask *a = container_of(x, struct kv_ask, link);
            if (a->ctx != out->read[i].ctx || a->index != 0)
                continue;
            if (out->read[i].outcome == RAFT_OK) {
                a->index = out->read[i].index;
                continue;
            }
            list_del(&a->link);
            refuse_ask(r, a, KV_WIRE_NOT_LEADER);
        }
    }
}

void kv_apply_asks_ready(struct kv_replica *r)
{
    if (list_empty(&r->asks) || !r->is_ready)
        return;
    list_each(&r->asks, x)
    {
        struct kv_ask *a = container_of(x, struct kv_ask, link);
        if (a->index == 0 || a->index > r->applied)
            continue;
        list_del(&a->link);
        serve(r, a);
    }
}

void kv_apply_asks_fail(struct kv_replica *r, enum kv_wire_status status)
{
    struct list *heads[] = {&r->asks, &r->asks_new};
    for (size_t i = 0; i < countof(heads); i++)
        for (struct list *x; (x = list_pop_front(heads[i]));)
            refuse_ask(r, container_of(x, struct kv_ask, link), status);
}

/* ---- rows for reads -------------------------------------------------------------------------- */

struct scan_job {
    struct kv_state_job view;
    struct net_worker_job job;
    struct kv_client *client;
    struct list asks;
};

static bool scan_row(void *arg, struct str key, struct str value)
{
    struct kv_ask *a = arg;
    buf_put_varint(&a->reply, key.n);
    buf_put_str(&a->reply, key);
    buf_put_varint(&a->reply, value.n);
    buf_put_str(&a->reply, value);
    size_t n = key.n + value.n;
    a->row_max -= a->row_max > 0;
    a->byte_max = n < a->byte_max ? a->byte_max - (uint32_t)n : 0;
    return true;
}

/* Span after span, until a limit is met. */
static void scan_ask(struct scan_job *j, struct kv_ask *a)
{
    for (size_t i = 0; i < a->spans.count; i++) {
        const struct kv_span *s = &a->spans.at[i];
        bool is_first = i == 0;
        if (!is_first && (a->row_max == 0 || a->byte_max == 0)) {
            a->result = ENGINE_STATE_E_MORE;
            return;
        }
        struct engine_scan scan = {
            .space = s->space,
            .from = buf_str(&s->from),
            .to = buf_str(&s->to),
            .row_max = a->row_max,
            .byte_max = a->byte_max,
            .row = scan_row,
            .arg = a,
        };
        a->result = engine_state_scan(j->client->store->state, j->view.view, &scan);
        if (a->result != 0)
            return;
    }
}

static void scan_work(struct net_worker_job *job)
{
    struct scan_job *j = container_of(job, struct scan_job, job);
    list_each(&j->asks, x) scan_ask(j, container_of(x, struct kv_ask, link));
}

static void scan_done(struct net_worker_job *job)
{
    struct scan_job *j = container_of(job, struct scan_job, job);
    struct kv_client *c = j->client;
    engine_view_free(c->store->state, j->view.view);
    for (struct list *x; (x = list_pop_front(&j->asks));) {
        struct kv_ask *a = container_of(x, struct kv_ask, link);
        bool is_good = !job->is_cancelled && (a->result == 0 || a->result == ENGINE_STATE_E_MORE);
        kv_ask_done(c->loop, a, is_good ? KV_WIRE_OK : KV_WIRE_FULL);
    }
    mem_free(j);
}

static void scan_view(struct kv_state_job *view)
{
    struct scan_job *j = container_of(view, struct scan_job, view);
    if (net_worker_push(j->client->store->kv->conf.worker, j->client->loop->loop, &j->job,
                        scan_work, scan_done) == 0)
        return;
    j->job.is_cancelled = true;
    scan_done(&j->job);
}

static void scan_drop(struct kv_state_job *view)
{
    struct scan_job *j = container_of(view, struct scan_job, view);
    while (list_pop_front(&j->asks)) /* answered as calls under way */
        continue;
    mem_free(j);
}

void kv_scan_flush(struct kv_client *c)
{
    struct scan_job *j = mem_new(sizeof *j);
    list_init(&j->asks);
    for (struct list *x; (x = list_pop_front(&c->scans));)
        list_push_back(&j->asks, x);
    j->client = c;
    j->view.loop = c->loop;
    j->view.fn = scan_view;
    j->view.drop = scan_drop;
    kv_state_view(c->store, &j->view);
}
