/* The hosts of a simulated group.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/group.h"

#include "base/hash.h"
#include "base/mem.h"

static void turn(struct group_node *n);

/* ---- things that happen later ---- */

enum later_kind {
    LATER_MESSAGE,
    LATER_APPLY,
    LATER_FETCH,
    LATER_STREAM_HEAD,
    LATER_STREAM_END,
    LATER_STREAM_SENT,
    LATER_REPLY,
};

struct later {
    struct world_event ev;
    enum later_kind kind;
    struct group *g;
    struct group_node *n;
    uint32_t life;
    struct buf bytes;
    struct raft_fetch fetch;
    struct raft_snapshot snapshot;
    struct group_app app;
    struct group_node *from;
    uint32_t from_life;
    bool ok;
    uint64_t op, value;
};

static void later_free(struct later *l)
{
    buf_deinit(&l->bytes);
    mem_free(l->app.config);
    mem_free(l);
}

static void happen(void *arg, struct world_event *ev);

static struct later *later_new(struct group_node *n, enum later_kind kind)
{
    struct later *l = mem_new(sizeof *l);
    l->kind = kind;
    l->g = n->g;
    l->n = n;
    l->life = n->life;
    return l;
}

static void later_plan(struct later *l, usec_t in)
{
    world_plan(&l->g->w, &l->ev, in, happen);
}

/* ---- applying ---- */

static void end_wait(struct group_node *n, uint64_t op, bool ok, uint64_t value)
{
    struct later *l = later_new(n, LATER_REPLY);
    l->op = op;
    l->ok = ok;
    l->value = value;
    later_plan(l, rng_below(&n->g->w.rng, 2 * USEC_MSEC));
}

static void wake_waits(struct group_node *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->wait_count; i++) {
        struct group_wait w = n->wait[i];
        if (w.term == 0 && w.index != 0 && w.index <= n->app.applied) {
            end_wait(n, w.op, true, n->app.value[w.key]);
            continue;
        }
        n->wait[kept++] = w;
    }
    n->wait_count = kept;
}

/* The call whose entry this is has taken effect; one whose place was taken by another never
 * will. */
static void settle(struct group_node *n, const struct raft_entry *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->wait_count; i++) {
        struct group_wait w = n->wait[i];
        if (w.term == 0 || w.index != e->index)
            n->wait[kept++] = w;
        else if (w.term == e->term)
            end_wait(n, w.op, true, 0);
        else
            end_wait(n, w.op, false, 0);
    }
    n->wait_count = kept;
}

static void apply_one(struct group_node *n, const struct raft_entry *e)
{
    struct group_app *a = &n->app;
    must(e->index == a->applied + 1);
    a->applied = e->index;
    a->term = e->term;
    a->hash = hash_bytes(e->payload.p, e->payload.n, a->hash + e->index + e->term * 3 + e->type);
    struct group_command c;
    if (e->type == RAFT_ENTRY_DATA && e->payload.n >= sizeof c) {
        memcpy(&c, e->payload.p, sizeof c);
        uint64_t *v = &a->value[c.key % GROUP_KEYS];
        if (c.op != 0)
            *v = c.kind == LINEAR_WRITE ? c.arg : linear_append(*v, c.arg);
    } else if (e->type == RAFT_ENTRY_CONFIG) {
        mem_free(a->config);
        a->config = raft_config_decode(e->payload);
    }
    group_check_applied(n, e);
    settle(n, e);
    if (rng_chance(&n->g->w.rng, n->g->o.keep_app_ppm))
        group_app_copy(&n->disk.app, a);
}

static void apply_todo(struct group_node *n, size_t count)
{
    for (size_t i = 0; i < count; i++)
        apply_one(n, &n->todo[i]);
    n->todo_count -= count;
    memmove(n->todo, n->todo + count, n->todo_count * sizeof *n->todo);
    size_t kept = 0;
    for (size_t i = 0; i < n->hold_count; i++) {
        if (n->hold[i].last <= n->app.applied)
            mem_free(n->hold[i].data);
        else
            n->hold[kept++] = n->hold[i];
    }
    n->hold_count = kept;
    wake_waits(n);
    group_step(n, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = n->app.applied});
    if (rng_chance(&n->g->w.rng, n->g->o.compact_ppm)) {
        uint64_t to = raft_compact_max(&n->raft);
        if (rng_chance(&n->g->w.rng, 300000))
            to = n->app.applied; /* the log got too long: some will need a snapshot */
        if (to > n->disk.app.applied)
            group_app_copy(&n->disk.app, &n->app);
        group_step(n, (struct raft_event){.kind = RAFT_EV_COMPACT, .index = to});
    }
}

static void carry_apply(struct group_node *n, const struct raft_out *out)
{
    n->todo = mem_grow(n->todo, &n->todo_cap, n->todo_count + out->apply_count, sizeof *n->todo);
    for (size_t i = 0; i < out->apply_count; i++)
        n->todo[n->todo_count++] = out->apply[i];
}

/* ---- sending ---- */

static void carry_send(struct group_node *n, const struct raft_message *m)
{
    struct group *g = n->g;
    struct group_node *to = group_by_id(g, m->to);
    usec_t delay[2];
    group_check_message(n, m);
    if (m->type == RAFT_MSG_SNAPSHOT || to == NULL)
        return; /* travels at the head of its stream */
    g->messages++;
    unsigned copies = sim_net_route(&g->net, &g->w.rng, n->place, to->place, delay);
    for (unsigned i = 0; i < copies; i++) {
        struct later *l = later_new(to, LATER_MESSAGE);
        l->from = n;
        raft_message_encode(m, &l->bytes);
        later_plan(l, delay[i]);
    }
}

static void carry_snapshot(struct group_node *n, uint64_t peer)
{
    struct later *l = later_new(n, LATER_STREAM_SENT); /* first the view: it may take a while */
    l->snapshot.peer = peer;
    l->ok = true;
    l->op = 1; /* not begun */
    later_plan(l, rng_below(&n->g->w.rng, 20 * USEC_MSEC));
}

/* The leader's host begins to stream its present state. */
static void stream_begin(struct group_node *n, uint64_t peer)
{
    struct group *g = n->g;
    struct group_node *to = group_by_id(g, peer);
    if (n->app.applied == 0)
        return;
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_BEGIN};
    ev.snapshot = (struct raft_snapshot){peer, n->app.applied, n->app.term, n->app.config};
    g->snapshots++;
    struct later *head = to != NULL ? later_new(to, LATER_STREAM_HEAD) : NULL;
    if (head != NULL) {
        head->from = n;
        head->from_life = n->life;
        head->snapshot = ev.snapshot;
        group_app_copy(&head->app, &n->app);
    }
    group_step(n, ev);
    bool begun = false;
    for (size_t i = 0; i < n->out.message_count; i++) {
        const struct raft_message *m = &n->out.message[i];
        if (m->type != RAFT_MSG_SNAPSHOT || m->to != peer || head == NULL)
            continue;
        raft_message_encode(m, &head->bytes);
        begun = true;
    }
    if (begun && !rng_chance(&g->w.rng, g->o.stream_fail_ppm) && !g->net.cut[n->place][to->place]) {
        later_plan(head, rng_between(&g->w.rng, g->net.delay_min, g->net.delay_max));
        return;
    }
    if (head != NULL)
        later_free(head);
    struct later *sent = later_new(n, LATER_STREAM_SENT);
    sent->snapshot.peer = peer;
    later_plan(sent, rng_below(&g->w.rng, g->o.stream_max + 1));
}

static void carry_fetch(struct group_node *n, struct raft_fetch f)
{
    struct later *l = later_new(n, LATER_FETCH);
    l->fetch = f;
    later_plan(l, rng_below(&n->g->w.rng, 5 * USEC_MSEC));
}

static void carry_reads(struct group_node *n, const struct raft_out *out)
{
    for (size_t i = 0; i < out->read_count; i++) {
        const struct raft_read_done *r = &out->read[i];
        for (size_t k = 0; k < n->wait_count; k++) {
            struct group_wait *w = &n->wait[k];
            if (w->op != r->ctx || w->term != 0)
                continue;
            if (r->outcome == RAFT_OK) {
                w->index = r->index > 0 ? r->index : 1;
            } else {
                end_wait(n, w->op, false, 0);
                *w = n->wait[--n->wait_count];
            }
            break;
        }
    }
}

/* ---- the turn ---- */

usec_t group_resumes_in(struct group_node *n)
{
    /* what has piled up is taken in no order; now and then something comes before all else */
    usec_t in = usec_until(n->g->w.now, n->paused_until);
    return in + (rng_chance(&n->g->w.rng, 200000) ? 0 : rng_below(&n->g->w.rng, 2 * USEC_MSEC));
}

static void timer_fires(void *arg, struct world_event *ev)
{
    (void)arg;
    struct group_node *n = container_of(ev, struct group_node, timer);
    if (n->is_up && n->g->w.now < n->paused_until)
        world_plan(&n->g->w, &n->timer, group_resumes_in(n), timer_fires);
    else if (n->is_up)
        group_step(n, (struct raft_event){.kind = RAFT_EV_TICK});
}

static void arm(struct group_node *n)
{
    usec_t at = raft_deadline(&n->raft);
    world_unplan(&n->g->w, &n->timer);
    if (at != USEC_NEVER)
        world_plan(&n->g->w, &n->timer, sim_clock_until(&n->clock, n->g->w.now, at), timer_fires);
}

static void note_quiet(struct group_node *n)
{
    struct group_node *leader = group_by_id(n->g, raft_status_get(&n->raft).leader);
    n->leader_life = leader != NULL ? leader->life : 0;
}

void group_step(struct group_node *n, struct raft_event ev)
{
    struct group *g = n->g;
    struct raft_out *out = &n->out;
    if (g->w.failure[0] != 0)
        return;
    must(!g->is_nested);
    g->is_nested = true;
    ev.now = sim_clock_at(&n->clock, g->w.now);
    raft_out_reset(out);
    raft_step(&n->raft, &ev, out);
    raft_check(&n->raft);
    if (ev.kind == RAFT_EV_TICK && raft_deadline(&n->raft) <= ev.now)
        world_fail(&g->w, "%zu would tick for ever", n->place);
    if (out->persist.seq != 0)
        group_disk_submit(n, &out->persist);
    group_check_out(n, out);
    for (size_t i = 0; i < out->message_count; i++)
        carry_send(n, &out->message[i]);
    carry_apply(n, out);
    for (size_t i = 0; i < out->fetch_count; i++)
        carry_fetch(n, out->fetch[i]);
    for (size_t i = 0; i < out->snapshot_count; i++)
        carry_snapshot(n, out->snapshot[i]);
    carry_reads(n, out);
    wake_waits(n);
    if (out->changed & RAFT_CH_QUIET)
        note_quiet(n);
    arm(n);
    g->is_nested = false;
    turn(n);
}

static void turn(struct group_node *n)
{
    struct group *g = n->g;
    uint64_t seq = n->raft.seq;
    if (g->has_lying_disk && seq > n->raft.seq_durable)
        group_step(n, (struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = seq});
    if (n->todo_count == 0 || n->is_applying)
        return;
    if (!g->o.has_late_apply) {
        apply_todo(n, n->todo_count);
        return;
    }
    n->is_applying = true;
    later_plan(later_new(n, LATER_APPLY), rng_below(&g->w.rng, 10 * USEC_MSEC));
}

/* ---- later has come ---- */

static void get_message(struct later *l)
{
    struct raft_message m;
    int r = raft_message_decode(buf_str(&l->bytes), &l->g->store, &m);
    must(r == 0);
    group_step(l->n, (struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
}

static void answer_fetch(struct later *l)
{
    struct group_node *n = l->n;
    struct group_disk *d = &n->disk;
    struct raft_entry e[256];
    size_t count = 0, bytes = 0;
    uint64_t i = l->fetch.first;
    struct buf data = {0};
    (void)buf_reserve(&data, 1);
    for (; i <= l->fetch.last && count < countof(e) && i > d->base && i <= d->base + d->count;
         i++) {
        const struct group_entry *x = &d->entry[i - d->base - 1];
        if (count > 0 && bytes + x->payload.n > l->fetch.bytes_max)
            break;
        bytes += x->payload.n;
        e[count++] = (struct raft_entry){i, x->term, x->payload, x->type};
        buf_put_str(&data, x->payload);
    }
    size_t at = 0;
    for (size_t k = 0; k < count; k++) { /* lent, until applied */
        e[k].payload.p = (const char *)data.p + at;
        at += e[k].payload.n;
    }
    struct raft_event ev = {.kind = RAFT_EV_FETCHED};
    ev.fetched = (struct raft_fetched){l->fetch.peer, l->fetch.first, e, count};
    if (l->fetch.peer == 0 && count > 0) {
        n->hold = mem_grow(n->hold, &n->hold_cap, n->hold_count + 1, sizeof *n->hold);
        n->hold[n->hold_count++] = (struct group_hold){i - 1, (char *)data.p};
        data = (struct buf){0};
    }
    group_step(n, ev);
    buf_deinit(&data);
}

static void stream_sent(struct group_node *leader, uint32_t life, uint64_t peer, bool ok)
{
    struct later *l = later_new(leader, LATER_STREAM_SENT);
    l->life = life;
    l->snapshot.peer = peer;
    l->ok = ok;
    later_plan(l, rng_below(&leader->g->w.rng, 10 * USEC_MSEC));
}

static void stream_head(struct later *l)
{
    struct group_node *n = l->n;
    struct raft_message m;
    int r = raft_message_decode(buf_str(&l->bytes), &l->g->store, &m);
    must(r == 0);
    group_step(n, (struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
    if (n->out.install.from == 0 || n->out.install.index != m.index) {
        stream_sent(l->from, l->from_life, l->snapshot.peer, true);
        return;
    }
    struct later *end = later_new(n, LATER_STREAM_END);
    end->from = l->from;
    end->from_life = l->from_life;
    end->snapshot = l->snapshot;
    end->ok = !rng_chance(&l->g->w.rng, l->g->o.stream_fail_ppm);
    group_app_copy(&end->app, &l->app);
    later_plan(end, rng_below(&l->g->w.rng, l->g->o.stream_max + 1));
}

static void stream_end(struct later *l)
{
    struct group_node *n = l->n;
    stream_sent(l->from, l->from_life, l->snapshot.peer, l->ok);
    if (n->raft.installing != l->snapshot.index)
        return; /* another one has taken its place */
    if (!l->ok) {
        group_step(n, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_FAILED});
        return;
    }
    must(l->app.applied > n->app.applied);
    n->todo_count = 0;
    for (size_t i = 0; i < n->hold_count; i++)
        mem_free(n->hold[i].data);
    n->hold_count = 0;
    group_app_copy(&n->app, &l->app);
    group_app_copy(&n->disk.app, &l->app); /* the switch is durable */
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED};
    ev.snapshot = (struct raft_snapshot){0, l->app.applied, l->app.term, l->app.config};
    n->is_applying = false;
    n->life += 0;
    group_step(n, ev);
}

static void happen(void *arg, struct world_event *ev)
{
    struct later *l = container_of(ev, struct later, ev);
    struct group_node *n = l->n;
    (void)arg;
    if (l->kind == LATER_REPLY) {
        l->g->done(l->g, l->op, l->ok, l->value);
    } else if (n->is_up && l->life == n->life && l->g->w.now < n->paused_until) {
        later_plan(l, group_resumes_in(n)); /* stopped: all waits */
        return;
    } else if (!n->is_up || (l->life != n->life && l->kind != LATER_MESSAGE)) {
        if (l->kind == LATER_STREAM_HEAD || l->kind == LATER_STREAM_END)
            stream_sent(l->from, l->from_life, l->snapshot.peer, false);
    } else if (l->kind == LATER_MESSAGE) {
        get_message(l);
    } else if (l->kind == LATER_APPLY) {
        n->is_applying = false;
        if (n->todo_count > 0)
            apply_todo(n, 1 + (size_t)rng_below(&l->g->w.rng, n->todo_count));
        turn(n);
    } else if (l->kind == LATER_FETCH) {
        answer_fetch(l);
    } else if (l->kind == LATER_STREAM_HEAD) {
        stream_head(l);
    } else if (l->kind == LATER_STREAM_END) {
        stream_end(l);
    } else if (l->op == 1) {
        stream_begin(n, l->snapshot.peer);
    } else {
        struct raft_event sent = {.kind = RAFT_EV_SNAPSHOT_SENT};
        sent.peer = l->snapshot.peer;
        sent.ok = l->ok;
        group_step(n, sent);
    }
    later_free(l);
}

/* ---- life and death ---- */

struct group_node *group_by_id(struct group *g, uint64_t id)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->node[i].id == id && id != 0)
            return &g->node[i];
    return NULL;
}

struct group_node *group_leader(struct group *g)
{
    struct group_node *best = NULL;
    for (size_t i = 0; i < g->count; i++) {
        struct group_node *n = &g->node[i];
        if (n->is_up && n->raft.role == RAFT_LEADER &&
            (best == NULL || n->raft.hard.term > best->raft.hard.term))
            best = n;
    }
    return best;
}

void group_start(struct group_node *n)
{
    struct group *g = n->g;
    struct buf runs = {0}, later = {0};
    must(!n->is_up);
    struct raft_boot b = {
        .id = n->id,
        .now = sim_clock_at(&n->clock, g->w.now),
        .seed = rng_u64(&g->w.rng),
        .is_new = n->is_new,
    };
    group_disk_boot(n, &b, &runs, &later);
    raft_init(&n->raft, &g->o.conf, &b);
    raft_check(&n->raft);
    buf_deinit(&runs);
    buf_deinit(&later);
    group_app_copy(&n->app, &n->disk.app);
    n->is_up = true;
    n->is_new = false;
    n->is_applying = false;
    n->was_leader = false;
    n->paused_until = 0;
    n->commit_seen = n->raft.log.commit;
    world_trace(&g->w, "start %zu as %llu", n->place, (unsigned long long)n->id);
    arm(n);
}

void group_crash(struct group_node *n)
{
    must(n->is_up);
    world_trace(&n->g->w, "crash %zu", n->place);
    n->is_up = false;
    n->life++;
    world_unplan(&n->g->w, &n->timer);
    group_disk_crash(n);
    n->todo_count = n->wait_count = 0;
    for (size_t i = 0; i < n->hold_count; i++)
        mem_free(n->hold[i].data);
    n->hold_count = 0;
    raft_deinit(&n->raft);
}

void group_wipe(struct group_node *n)
{
    if (n->is_up)
        group_crash(n);
    group_disk_deinit(&n->disk);
    group_disk_init(&n->disk);
    n->disk.app = (struct group_app){0};
    n->id = n->g->next_id++;
    n->is_new = true;
    world_trace(&n->g->w, "wipe %zu, now %llu", n->place, (unsigned long long)n->id);
}

void group_init(struct group *g, const struct group_options *o)
{
    g->o = *o;
    g->count = g->net.count = o->nodes;
    g->next_id = o->nodes + 1;
    group_truth_init(&g->truth);
    struct raft_member member[SIM_NODE_MAX];
    for (size_t i = 0; i < o->voters; i++)
        member[i] = (struct raft_member){.id = i + 1, .store.b[0] = (uint8_t)i, .role = RAFT_VOTER};
    struct raft_config *c = raft_config_new(member, o->voters, o->nodes);
    g->truth.config = raft_config_dup(c);
    for (size_t i = 0; i < g->count; i++) {
        struct group_node *n = &g->node[i];
        n->g = g;
        n->place = i;
        n->id = i < o->voters ? i + 1 : g->next_id++;
        n->is_new = true;
        n->clock.offset = rng_below(&g->w.rng, 1000 * USEC_SEC);
        group_disk_init(&n->disk);
        if (i < o->voters)
            n->disk.app.config = raft_config_dup(c);
    }
    mem_free(c);
}

static void free_event(struct world_event *ev)
{
    if (ev->happen == happen)
        later_free(container_of(ev, struct later, ev));
    else if (ev->happen != timer_fires)
        mem_free(ev); /* a flush: its event comes first */
}

void group_deinit(struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct group_node *n = &g->node[i];
        if (n->is_up)
            group_crash(n);
        group_disk_deinit(&n->disk);
        mem_free(n->app.config);
        mem_free(n->todo);
        mem_free(n->hold);
        mem_free(n->wait);
        raft_out_deinit(&n->out);
    }
    world_deinit(&g->w, free_event);
    group_truth_deinit(&g->truth);
    mem_free(g->store.entry);
}

/* ---- clients ---- */

bool group_call(struct group_node *n, uint64_t op, enum linear_kind kind, uint8_t key, uint64_t arg)
{
    if (!n->is_up)
        return false;
    struct group_wait w = {.op = op, .key = key};
    n->wait = mem_grow(n->wait, &n->wait_cap, n->wait_count + 1, sizeof *n->wait);
    if (kind == LINEAR_READ) {
        n->wait[n->wait_count++] = w;
        struct raft_event ev = {.kind = RAFT_EV_READ};
        ev.read = (struct raft_read){op, rng_chance(&n->g->w.rng, 200000)};
        group_step(n, ev);
        return true;
    }
    struct group_command c;
    memset(&c, 0, sizeof c);
    c.op = op;
    c.kind = (uint8_t)kind;
    c.key = key;
    c.arg = arg;
    struct group_command filler;
    memset(&filler, 0, sizeof filler);
    struct str payload[8];
    size_t count = 1 + rng_below(&n->g->w.rng, 4) * rng_below(&n->g->w.rng, 3);
    payload[0] = str_view(&c, sizeof c);
    for (size_t i = 1; i < countof(payload); i++)
        payload[i] = str_view(&filler, rng_below(&n->g->w.rng, sizeof filler + 1));
    struct raft_event ev = {.kind = RAFT_EV_PROPOSE};
    ev.propose = (struct raft_propose){payload, count};
    uint64_t index = n->raft.log.last + 1, term = n->raft.hard.term;
    bool leads = n->raft.role == RAFT_LEADER;
    w.index = index;
    w.term = term;
    if (leads) /* before the step: it may be applied within */
        n->wait[n->wait_count++] = w;
    group_step(n, ev);
    if (leads && n->raft.log.last < index) {
        for (size_t i = 0; i < n->wait_count; i++)
            if (n->wait[i].op == op)
                n->wait[i] = n->wait[--n->wait_count];
        return false;
    }
    return leads;
}
