/* Calls of one loop on one store: gathered, sent, answered, repeated.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. Every call ends with exactly one callback, on this loop, never inside the function that asked.
 * 2. A call is repeated before its deadline, and only after an answer that says it was certainly
 * not executed, or when it bears being executed twice.
 * 3. What is repeated keeps its place: nothing is sent for a range while an older bundle waits, and
 *    what failed waits for the answers of what was sent behind it.
 * 4. What is under way is limited by bytes and count; beyond that calls end with KV_E_FULL at once.
 * 5. Commands of one turn for one range travel as one bundle. */
#include "kv/kv_priv.h"

#define SPARE_MAX 32

static void on_tick(void *arg, usec_t now);

void kv_client_init(struct kv_client *c, struct kv_store *s, struct kv_loop *l)
{
    struct list *heads[] = {&c->open_routes, &c->open_link,   &c->waiting,  &c->asks_waiting,
                            &c->flying,      &c->asks_flying, &c->spare,    &c->dirty,
                            &c->step_link,   &c->scans,       &c->scan_link};
    for (size_t i = 0; i < countof(heads); i++)
        list_init(heads[i]);
    c->store = s;
    c->loop = l;
    c->sender = rng_u64(&l->rng) | 1;
    net_timer_init(&c->tick, on_tick, c);
    kv_fresh_init(c);
}

static void arm(struct kv_client *c, usec_t wait)
{
    usec_t at = kv_loop_now(c->loop) + wait;
    if (!net_timer_is_set(&c->tick) || c->tick.node.at > at)
        net_timer_set(c->loop->loop, &c->tick, at);
}

static void open_turn(struct kv_client *c)
{
    if (list_empty(&c->open_link))
        list_push_back(&c->loop->open_clients, &c->open_link);
    kv_loop_wake(c->loop);
}

/* ---- bundles --------------------------------------------------------------------------------- */

struct kv_bundle *kv_bundle_new(struct kv_client *c)
{
    struct list *x = c ? list_pop_front(&c->spare) : NULL;
    struct kv_bundle *b = x ? container_of(x, struct kv_bundle, link) : mem_new(sizeof *b);
    if (x)
        c->spare_count--;
    else {
        list_init(&b->link);
        list_init(&b->fly);
    }
    b->client = c;
    b->deadline = USEC_NEVER;
    b->is_recalled = b->was_shed = false;
    b->tag = 0;
    if (c)
        b->order = ++c->order_last;
    return b;
}

void kv_bundle_free(struct kv_bundle *b)
{
    struct kv_client *c = b->client;
    list_del(&b->link);
    list_del(&b->fly);
    if (c && c->spare_count < SPARE_MAX && b->data.cap + b->keys.cap + b->reply.cap < 256 * 1024) {
        b->data.n = b->keys.n = b->reply.n = 0;
        b->count = b->first = 0;
        b->answer = (struct kv_wire_answer){0};
        list_push_front(&c->spare, &b->link);
        c->spare_count++;
        return;
    }
    buf_deinit(&b->data);
    buf_deinit(&b->keys);
    buf_deinit(&b->reply);
    mem_free(b->call);
    mem_free(b);
}

struct proposal {
    struct str key, command;
    usec_t deadline;
    bool is_repeatable, is_unsure;
    uint64_t lane;
    kv_reply_cb *cb;
    void *arg;
};

static void bundle_add(struct kv_bundle *b, const struct proposal *p)
{
    b->call = mem_grow(b->call, &b->call_cap, b->count + 1, sizeof *b->call);
    struct kv_call *call = &b->call[b->count++];
    range_command_add(&b->data, p->command);
    *call = (struct kv_call){
        .key_at = (uint32_t)b->keys.n,
        .key_n = (uint32_t)p->key.n,
        .command_at = (uint32_t)(b->data.n - p->command.n),
        .command_n = (uint32_t)p->command.n,
        .deadline = p->deadline,
        .is_repeatable = p->is_repeatable,
        .is_unsure = p->is_unsure,
        .lane = p->lane,
        .cb = p->cb,
        .arg = p->arg,
    };
    buf_put_str(&b->keys, p->key);
    b->deadline = usec_min(b->deadline, p->deadline);
}

static void send(struct kv_client *c, struct kv_route *r, struct kv_bundle *b);

/* Into the bundle of its range, or among the homeless. */
static void enlist(struct kv_client *c, const struct proposal *p)
{
    struct kv_route *r = kv_router_find(c, p->key);
    struct kv_bundle **at = r ? &r->open : &c->homeless;
    if (r && r->open &&
        (r->open->boundary != r->version.boundary || /* its keys were found in other bounds */
         r->open->data.n + p->command.n > c->store->kv->conf.limits.batch_bytes_max)) {
        struct kv_bundle *full = r->open;
        r->open = NULL;
        list_del(&r->link);
        send(c, r, full);
    }
    if (!*at) {
        *at = kv_bundle_new(c);
        if (r) {
            (*at)->boundary = r->version.boundary;
            list_del(&r->link);
            list_push_back(&c->open_routes, &r->link);
        }
        open_turn(c);
    }
    bundle_add(*at, p);
}

static void refuse(struct kv_client *c, const struct proposal *p, enum kv_wire_status status)
{
    struct kv_bundle *b = kv_bundle_new(c);
    bundle_add(b, p);
    b->is_final = true;
    kv_bundle_done(c->loop, b, status);
}

static void propose(struct kv_client *c, const struct proposal *p)
{
    const struct kv_limits *limits = &c->store->kv->conf.limits;
    size_t n = p->command.n;
    c->pending_bytes += n;
    c->pending_count++;
    kv_count(&c->loop->count.pending_bytes, n);
    kv_count(&c->loop->count.pending_count, 1);
    kv_count(&c->loop->count.proposal_count, 1);
    kv_count(&c->loop->count.proposal_bytes, n);
    if (n > limits->command_bytes_max || p->key.n > RANGE_KEY_MAX)
        refuse(c, p, KV_WIRE_INVALID);
    else if (c->pending_bytes > limits->pending_bytes_max ||
             c->pending_count > limits->pending_count_max)
        refuse(c, p, KV_WIRE_FULL);
    else
        enlist(c, p);
}

void kv_propose(struct kv_client *c, struct str key, struct str command, usec_t deadline,
                kv_reply_cb *cb, void *arg)
{
    struct proposal p = {
        .key = key, .command = command, .deadline = deadline, .cb = cb, .arg = arg};
    propose(c, &p);
}

void kv_propose_repeatable(struct kv_client *c, const struct kv_proposal *p, kv_reply_cb *cb,
                           void *arg)
{
    struct proposal own = {.key = p->key,
                           .command = p->command,
                           .deadline = p->deadline,
                           .is_repeatable = true,
                           .lane = p->lane,
                           .cb = cb,
                           .arg = arg};
    propose(c, &own);
}

/* ---- sending --------------------------------------------------------------------------------- */

static void take_here(struct kv_loop *l, struct kv_bundle *b)
{
    struct kv_replica *r = kv_replica_find(l, b->tag);
    if (r)
        kv_replica_take(r, b);
    else
        kv_bundle_done(l, b, KV_WIRE_NO_RANGE);
}

static void take_mail(struct net_loop *here, struct net_mail *mail)
{
    struct kv_bundle *b = container_of(mail, struct kv_bundle, mail);
    struct kv *kv = b->client->store->kv;
    (void)here;
    take_here(&kv->loop[b->shard % kv->loop_count], b);
}

static void on_remote(void *arg, int outcome, struct str reply)
{
    struct kv_bundle *b = arg;
    struct kv_wire_reply r;
    enum kv_wire_status status = KV_WIRE_UNKNOWN;
    if (outcome == CLUSTER_LINK_E_UNREACHABLE || outcome == CLUSTER_LINK_E_TIMEOUT)
        kv_router_avoid(b->client, b->tag, &b->peer);
    if (outcome == CLUSTER_LINK_E_NO_SERVICE)
        status = KV_WIRE_NO_RANGE;
    else if (outcome == 0 && kv_wire_reply_decode(reply, &r) == 0) {
        status = r.answer.status;
        b->answer = r.answer;
        b->reply.n = 0;
        buf_put_str(&b->reply, r.bytes);
    }
    kv_bundle_done(b->client->loop, b, status);
}

static usec_t timeout_of(const struct kv_client *c, usec_t deadline)
{
    usec_t t = usec_until(kv_loop_now(c->loop), deadline);
    return t < USEC_MSEC ? USEC_MSEC : t > 60 * USEC_SEC ? 60 * USEC_SEC : t;
}

static void send_remote(struct kv_client *c, struct kv_bundle *b, const struct kv_route *r)
{
    struct buf *out = &c->loop->scratch;
    struct kv_wire_propose p = {
        .store = c->store->hash,
        .tag = b->tag,
        .boundary = b->boundary,
        .convoy = b->convoy,
        .data = buf_str(&b->data),
    };
    out->n = 0;
    kv_wire_propose_encode(&p, out);
    struct cluster_call call = {
        .peer = r->leader,
        .service = CLUSTER_SERVICE_KV,
        .lane = CLUSTER_LANE_CONTROL,
        .shard = r->shard,
        .timeout = timeout_of(c, b->call[b->count - 1].deadline),
        .payload = buf_str(out),
    };
    kv_count(&c->loop->count.forward_count, b->count);
    if (cluster_link_call(c->loop->link, &call, on_remote, b, NULL) != 0)
        kv_bundle_done(c->loop, b, KV_WIRE_NO_RANGE);
}

/* Into its place among those that wait: repeated ones are older than what came meanwhile. */
static void wait_in_order(struct kv_client *c, struct kv_bundle *b)
{
    struct kv_route *r = kv_router_of_tag(c, b->tag);
    struct list *after = c->waiting.prev;
    while (after != &c->waiting && container_of(after, struct kv_bundle, link)->order > b->order)
        after = after->prev;
    list_del(&b->link);
    list_push_front(after, &b->link);
    if (r)
        r->waiting_count++;
    arm(c, KV_RETRY_USEC);
}

static void send(struct kv_client *c, struct kv_route *r, struct kv_bundle *b)
{
    struct kv *kv = c->store->kv;
    struct uuid leader = kv_router_leader(c, r);
    b->tag = r->tag;
    if (r->is_broken || r->waiting_count > 0 || uuid_is_zero(&leader)) {
        wait_in_order(c, b);
        return;
    }
    b->peer = leader;
    b->shard = r->shard;
    b->convoy = r->convoy;
    r->convoy.place++;
    list_push_back(&c->flying, &b->fly);
    arm(c, KV_TICK_USEC);
    if (!uuid_eq(&r->leader, &kv->conf.node)) {
        send_remote(c, b, r);
        return;
    }
    struct kv_loop *l = &kv->loop[r->shard % kv->loop_count];
    if (l == c->loop)
        take_here(l, b);
    else
        net_loop_post(c->loop->loop, l->loop, &b->mail, take_mail);
}

static void lanes_flush(struct kv_client *c);

void kv_client_flush(struct kv_client *c)
{
    lanes_flush(c);
    for (struct list *x; (x = list_pop_front(&c->open_routes));) {
        struct kv_route *r = container_of(x, struct kv_route, link);
        struct kv_bundle *b = r->open;
        r->open = NULL;
        send(c, r, b);
    }
    if (c->homeless) {
        wait_in_order(c, c->homeless);
        c->homeless = NULL;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void done_mail(struct net_loop *here, struct net_mail *mail)
{
    struct kv_bundle *b = container_of(mail, struct kv_bundle, mail);
    (void)here;
    list_push_back(&b->client->loop->done_bundles, &b->link);
    kv_loop_wake(b->client->loop);
}

static void reply_remote(struct kv_loop *l, struct kv_bundle *b)
{
    struct kv_wire_reply r = {.answer = b->answer, .bytes = STR(""), .end = STR("")};
    if (b->answer.status == KV_WIRE_OK)
        r.bytes = buf_str(&b->reply);
    l->scratch.n = 0;
    kv_wire_reply_encode(&r, &l->scratch);
    cluster_request_reply(b->rq, buf_str(&l->scratch));
    kv_bundle_free(b);
}

void kv_bundle_done(struct kv_loop *here, struct kv_bundle *b, enum kv_wire_status status)
{
    b->answer.status = status;
    list_del(&b->link);
    if (!b->client)
        reply_remote(here, b);
    else if (b->client->loop == here) {
        list_push_back(&here->done_bundles, &b->link);
        kv_loop_wake(here);
    } else
        net_loop_post(here->loop, b->client->loop->loop, &b->mail, done_mail);
}

static enum kv_outcome outcome_of(enum kv_wire_status s)
{
    switch (s) {
    case KV_WIRE_OK:
        return KV_OK;
    case KV_WIRE_UNKNOWN:
        return KV_E_UNKNOWN;
    case KV_WIRE_NO_RANGE:
        return KV_E_NO_RANGE;
    case KV_WIRE_NOT_LEADER:
        return KV_E_NO_LEADER;
    case KV_WIRE_VERSION:
        return KV_E_VERSION;
    case KV_WIRE_FULL:
        return KV_E_FULL;
    case KV_WIRE_LOST:
        return KV_E_NO_LEADER;
    case KV_WIRE_INVALID:
        return KV_E_INVALID;
    case KV_WIRE_CONFLICT:
        return KV_E_CONFLICT;
    case KV_WIRE_STOPPED:
        return KV_E_STOPPED;
    case KV_WIRE_STATUS_COUNT:
        break;
    }
    return KV_E_UNKNOWN;
}

static bool is_repeatable(enum kv_wire_status s)
{
    return s == KV_WIRE_NO_RANGE || s == KV_WIRE_NOT_LEADER || s == KV_WIRE_VERSION ||
           s == KV_WIRE_FULL || s == KV_WIRE_LOST;
}

static void answer(struct kv_client *c, struct kv_call *call, enum kv_outcome outcome,
                   struct str bytes)
{
    kv_reply_cb *cb = call->cb;
    if (!cb)
        return;
    call->cb = NULL;
    c->pending_bytes -= call->command_n;
    c->pending_count--;
    kv_count(&c->loop->count.pending_bytes, 0 - (uint64_t)call->command_n);
    kv_count(&c->loop->count.pending_count, 0 - (uint64_t)1);
    cb(call->arg, &(struct kv_reply){.outcome = outcome, .bytes = bytes});
}

static void deliver_ok(struct kv_client *c, struct kv_bundle *b)
{
    struct codec_cursor cur = codec_cursor_of(buf_str(&b->reply));
    for (uint32_t i = 0; i < b->count; i++) {
        struct str bytes = kv_wire_answer_next(&cur);
        /* a short reply is another node's fault: executed, the answer is lost */
        answer(c, &b->call[i], cur.bad ? KV_E_UNKNOWN : KV_OK, bytes);
    }
}

static struct proposal proposal_of(const struct kv_bundle *b, const struct kv_call *call)
{
    return (struct proposal){.key = str_view(b->keys.p + call->key_at, call->key_n),
                             .command = str_view(b->data.p + call->command_at, call->command_n),
                             .deadline = call->deadline,
                             .is_repeatable = call->is_repeatable,
                             .is_unsure = call->is_unsure,
                             .lane = call->lane,
                             .cb = call->cb,
                             .arg = call->arg};
}

/* The calls of a bundle that may be repeated, with its place in the order, wait for the next
 * attempt. */
static void again(struct kv_client *c, struct kv_bundle *b, bool is_unsure)
{
    struct kv_bundle *later = NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        struct kv_call *call = &b->call[i];
        struct proposal p = proposal_of(b, call);
        if (!call->cb || (is_unsure && !call->is_repeatable))
            continue;
        kv_count(&c->loop->count.retry_count, 1);
        p.is_unsure = p.is_unsure || is_unsure;
        call->cb = NULL;
        if (!later) {
            later = kv_bundle_new(c);
            later->order = b->order;
            later->tag = b->tag;
            later->was_shed = b->answer.status == KV_WIRE_FULL && !is_unsure;
        }
        bundle_add(later, &p);
    }
    if (later)
        wait_in_order(c, later);
}

static bool is_flying(const struct kv_client *c, uint64_t tag)
{
    list_each(&c->flying, x)
    {
        const struct kv_bundle *b = container_of(x, struct kv_bundle, fly);
        if (b->tag == tag && !b->is_recalled)
            return true;
    }
    return false;
}

/* Those behind a failed one may still succeed; the failed one goes again when all have their
 * answers. */
static void mend(struct kv_client *c, uint64_t tag, usec_t wait)
{
    struct kv_route *r = kv_router_of_tag(c, tag);
    if (!r || !r->is_broken || is_flying(c, tag))
        return;
    r->is_broken = false;
    kv_client_convoy(c, r);
    arm(c, wait);
}

void kv_client_convoy(struct kv_client *c, struct kv_route *r)
{
    r->convoy = (struct kv_convoy){.sender = c->sender, .id = ++c->convoy_last};
}

void kv_client_recall(struct kv_client *c, struct kv_route *r)
{
    if (is_flying(c, r->tag))
        r->is_broken =
            true; /* the new leader, or the same in a new term, begins with what is oldest */
    else
        kv_client_convoy(c, r);
    list_each(&c->flying, x)
    {
        struct kv_bundle *b = container_of(x, struct kv_bundle, fly);
        if (b->tag != r->tag || b->is_recalled || uuid_eq(&b->peer, &r->leader))
            continue;
        b->is_recalled = true;
        again(c, b, true);
    }
    mend(c, r->tag, 0);
}

static void lane_end(struct kv_client *c, uint64_t lane);

static enum kv_outcome failure_of(const struct kv_call *call, enum kv_outcome o)
{
    return call->is_unsure ? KV_E_UNKNOWN : o;
}

void kv_bundle_deliver(struct kv_bundle *b)
{
    struct kv_client *c = b->client;
    enum kv_wire_status status = b->answer.status;
    struct kv_route *r = kv_router_of_tag(c, b->tag);
    list_del(&b->fly);
    if (status == KV_WIRE_OK) {
        deliver_ok(c, b);
    } else {
        bool is_sure = is_repeatable(status);
        bool may_repeat = !b->is_final && !c->store->kv->is_stopping;
        if (r && may_repeat && !b->is_recalled && (is_sure || status == KV_WIRE_UNKNOWN))
            r->is_broken = true;
        if (may_repeat && (is_sure || status == KV_WIRE_UNKNOWN))
            again(c, b, !is_sure);
        if (status == KV_WIRE_NOT_LEADER)
            kv_router_hint(c, b->tag, &b->answer.leader, b->answer.term);
        for (uint32_t i = 0; i < b->count; i++)
            answer(c, &b->call[i], failure_of(&b->call[i], outcome_of(status)), STR(""));
    }
    bool is_better = status == KV_WIRE_NOT_LEADER && !uuid_is_zero(&b->answer.leader);
    mend(c, b->tag, is_better ? 0 : KV_RETRY_USEC);
    b->is_final = false;
    kv_bundle_free(b);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Calls past their deadline are answered; the bundle stays for the others. */
static bool expire(struct kv_client *c, struct kv_bundle *b, enum kv_outcome outcome)
{
    usec_t now = kv_loop_now(c->loop), next = USEC_NEVER;
    bool is_any = false;
    if (now < b->deadline)
        return true;
    for (uint32_t i = 0; i < b->count; i++) {
        struct kv_call *call = &b->call[i];
        if (call->cb && call->deadline <= now) {
            if (call->lane != 0)
                lane_end(c, call->lane);
            answer(c, call, failure_of(call, outcome), STR(""));
        }
        if (!call->cb)
            continue;
        is_any = true;
        next = usec_min(next, call->deadline);
    }
    b->deadline = next;
    return is_any;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static bool lane_has_ended(const struct kv_client *c, uint64_t lane)
{
    for (size_t i = 0; lane != 0 && i < c->lane_count; i++)
        if (c->lane_ended[i] == lane)
            return true;
    return false;
}

/* A lane ended: at the end of the turn nothing of it goes on. */
static void lane_end(struct kv_client *c, uint64_t lane)
{
    if (lane_has_ended(c, lane))
        return;
    c->lane_ended = mem_grow(c->lane_ended, &c->lane_cap, c->lane_count + 1, sizeof *c->lane_ended);
    c->lane_ended[c->lane_count++] = lane;
    open_turn(c);
}

static bool lanes_cut(struct kv_client *c, struct kv_bundle *b)
{
    struct kv_bundle *out = NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        struct kv_call *call = &b->call[i];
        if (!call->cb || !lane_has_ended(c, call->lane))
            continue;
        struct proposal p = proposal_of(b, call);
        call->cb = NULL;
        if (!out)
            out = kv_bundle_new(c);
        bundle_add(out, &p);
    }
    if (!out)
        return false;
    out->is_final = true;
    kv_bundle_done(c->loop, out, KV_WIRE_UNKNOWN);
    return true;
}

/* One that is about to go out is made anew from what is left of it. */
static void lanes_cut_open(struct kv_client *c, struct kv_route *r)
{
    struct kv_bundle *b = r->open;
    if (!b || !lanes_cut(c, b))
        return;
    r->open = NULL;
    list_del(&r->link);
    b->tag = r->tag;
    again(c, b, false);
    kv_bundle_free(b);
}

static void lanes_flush(struct kv_client *c)
{
    if (c->lane_count == 0)
        return;
    if (c->homeless) { /* without a route: it waits anyhow */
        wait_in_order(c, c->homeless);
        c->homeless = NULL;
    }
    for (size_t i = 0; i < c->route_count; i++)
        lanes_cut_open(c, c->route[i]);
    list_each(&c->waiting, x)(void) lanes_cut(c, container_of(x, struct kv_bundle, link));
    list_each(&c->flying, x)(void) lanes_cut(c, container_of(x, struct kv_bundle, fly));
    c->lane_count = 0;
}

void kv_cancel(struct kv_client *c, uint64_t lane)
{
    if (c->pending_count > 0)
        lane_end(c, lane);
}

/* All that waits is looked at anew, in order; what was gathered meanwhile for the same ranges lines
 * up behind. */
static void waiting_take(struct kv_client *c, struct list *todo)
{
    for (size_t i = 0; i < c->route_count; i++) {
        struct kv_route *r = c->route[i];
        if (r->waiting_count > 0 && r->open) {
            struct kv_bundle *b = r->open;
            r->open = NULL;
            list_del(&r->link);
            b->tag = r->tag;
            wait_in_order(c, b);
        }
    }
    for (size_t i = 0; i < c->route_count; i++)
        c->route[i]->waiting_count = 0;
    for (struct list *x; (x = list_pop_front(&c->waiting));)
        list_push_back(todo, x);
}

static void retry_waiting(struct kv_client *c)
{
    struct list todo;
    list_init(&todo);
    waiting_take(c, &todo);
    for (struct list *x; (x = list_pop_front(&todo));) {
        struct kv_bundle *b = container_of(x, struct kv_bundle, link);
        struct proposal first = proposal_of(b, &b->call[0]);
        struct kv_route *r = kv_router_find(c, first.key);
        if (!expire(c, b, !r ? KV_E_NO_RANGE : b->was_shed ? KV_E_FULL : KV_E_NO_LEADER)) {
            kv_bundle_free(b);
            continue;
        }
        struct uuid leader = r ? kv_router_leader(c, r) : (struct uuid){{0}};
        if (uuid_is_zero(&leader) || r->is_broken || r->waiting_count > 0) {
            b->tag = r ? r->tag : 0;
            wait_in_order(c, b);
            continue;
        }
        for (uint32_t i = 0; i < b->count; i++) {
            struct proposal p = proposal_of(b, &b->call[i]);
            if (p.cb)
                enlist(c, &p);
        }
        kv_bundle_free(b);
    }
}

void kv_client_routes_changed(struct kv_client *c)
{
    if (!list_empty(&c->waiting) || !list_empty(&c->asks_waiting))
        arm(c, 0);
}

static void on_tick(void *arg, usec_t now)
{
    struct kv_client *c = arg;
    (void)now;
    retry_waiting(c);
    list_each(&c->flying, x)(void) expire(c, container_of(x, struct kv_bundle, fly), KV_E_UNKNOWN);
    kv_asks_tick(c);
    if (!list_empty(&c->waiting) || !list_empty(&c->asks_waiting))
        arm(c, KV_RETRY_USEC);
    if (!list_empty(&c->flying) || !list_empty(&c->asks_flying))
        arm(c, KV_TICK_USEC);
}

static void drop(struct kv_bundle *b, enum kv_outcome outcome)
{
    struct kv_client *c = b->client;
    for (uint32_t i = 0; i < b->count; i++)
        answer(c, &b->call[i], outcome, STR(""));
    c->spare_count = SPARE_MAX; /* no keeping */
    kv_bundle_free(b);
}

/* What was gathered in this turn: who is told that a call has ended may ask for the next. */
static bool drop_gathered(struct kv_client *c)
{
    struct kv_bundle *b = c->homeless;
    c->homeless = NULL;
    for (size_t i = 0; !b && i < c->route_count; i++) {
        b = c->route[i]->open;
        c->route[i]->open = NULL;
        list_del(&c->route[i]->link);
    }
    if (b)
        drop(b, KV_E_STOPPED);
    return b != NULL;
}

void kv_client_deinit(struct kv_client *c)
{
    do {
        while (!list_empty(&c->waiting))
            drop(container_of(c->waiting.next, struct kv_bundle, link), KV_E_STOPPED);
        while (!list_empty(&c->flying))
            drop(container_of(c->flying.next, struct kv_bundle, fly), KV_E_UNKNOWN);
        kv_asks_drop(c);
    } while (drop_gathered(c));
    net_timer_del(c->loop->loop, &c->tick);
    list_del(&c->open_link);
    c->spare_count = SPARE_MAX;
    while (!list_empty(&c->spare))
        kv_bundle_free(container_of(c->spare.next, struct kv_bundle, link));
    kv_router_deinit(c);
    c->rows = engine_batch_free(c->rows);
    map_deinit(&c->tombstone);
    c->lane_ended = mem_free(c->lane_ended);
}
