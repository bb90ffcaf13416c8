/* Listing and clearing over all ranges of a tenant.  SPDX-License-Identifier: Apache-2.0
 *
 * One range after the other, from the tenant's first key to its last; a page takes of each range
 * what it may need and keeps the smallest.  Clearing repeats on one range until it finds nothing,
 * so a range never has more than some hundred rows to change at once.
 *
 * Invariant: an answer says OK only when every range has answered. */
#include "stores/survey.h"

#include "base/mem.h"
#include "retain/retain.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define EXPIRE_STEP 500u                /* matters: rows changed by one command */
#define EXPIRE_USEC_MAX (60 * USEC_SEC) /* does not matter much: nobody waits longer */

bool stores_stored_filter(struct str *rest, struct stores_stored_filter *out)
{
    struct inbox_sub s;
    if (!inbox_effect_filter(rest, &s))
        return false;
    *out = (struct stores_stored_filter){s.filter, s.options & DIST_OPTION_QOS,
                                         s.options & DIST_OPTION_NO_LOCAL,
                                         s.options & DIST_OPTION_AS_PUBLISHED, s.sub_id};
    return true;
}

static struct stores_stored stored_of(struct str client, const struct inbox_state *s)
{
    return (struct stores_stored){
        .client = client,
        .incarnation = s->incarnation,
        .mod = s->mod,
        .created_ms = hlc_ms(s->created_hlc),
        .detached_ms = uuid_is_zero(&s->owner.node) ? hlc_ms(s->detached_hlc) : 0,
        .queue_count = s->next > s->acked ? s->next - s->acked - 1 : 0,
        .qos0_count = s->qos0_next > s->qos0_acked ? s->qos0_next - s->qos0_acked - 1 : 0,
        .bytes = s->bytes,
        .expiry_sec = s->expiry_sec,
        .limit = s->limit,
        .sub_count = s->sub_count,
        .received_count = s->received_count,
        .has_will = s->has_will,
        .node = s->owner.node,
        .filters = s->filters,
    };
}

/* ---- one session ----------------------------------------------------------------------------- */

struct find {
    struct stores_op op;
    struct str client; /* ours */
    stores_stored_cb *cb;
    void *arg;
};

static void found(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct find *x = container_of(op, struct find, op);
    struct inbox_state s = {.outcome = INBOX_OK};
    if (outcome == STORES_OK && !inbox_reply_state(kv->bytes, &s))
        outcome = STORES_E_INVALID;
    if (outcome == STORES_OK && s.outcome == INBOX_E_MOVED) {
        stores_op_send_again(op);
        return;
    }
    if (outcome == STORES_OK)
        outcome = stores_inbox_outcome(s.outcome);
    struct stores_stored stored = stored_of(x->client, &s);
    x->cb(x->arg, outcome, &stored);
    mem_free((void *)(uintptr_t)x->client.p);
    stores_op_free(op);
}

void stores_stored_find(struct stores_client *c, struct str tenant, struct str client,
                        stores_stored_cb *cb, void *arg)
{
    struct find *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, found);
    x->client = str_dup(client);
    x->cb = cb;
    x->arg = arg;
    x->op.is_query = true;
    inbox_key(&x->op.key, tenant, client);
    inbox_query_state(&x->op.bytes, tenant, client);
    stores_op_send(&x->op);
}

/* ---- from range to range --------------------------------------------------------------------- */

/* On to the range behind this one, with a deadline of its own, or false: the tenant has no more. */
static bool range_next(struct stores_op *op, const struct kv_reply *kv, const struct buf *to)
{
    bool is_more = stores_op_next_range(op, kv, to);
    if (is_more)
        op->deadline = 0;
    return is_more;
}

/* ---- a page of sessions ---------------------------------------------------------------------- */

struct page {
    struct stores_op op;
    struct buf to;
    uint32_t count_max;
    struct buf *reply; /* one per range */
    size_t reply_count, reply_cap;
    struct stores_stored *session; /* views into replies */
    size_t count, cap;
    bool is_more;
    stores_survey_cb *cb;
    void *arg;
};

static int by_client(const void *a, const void *b)
{
    return str_cmp(((const struct stores_stored *)a)->client,
                   ((const struct stores_stored *)b)->client);
}

static void page_end(struct page *x, enum stores_outcome outcome)
{
    if (x->count > 1)
        qsort(x->session, x->count, sizeof *x->session, by_client);
    if (x->count > x->count_max) {
        x->count = x->count_max;
        x->is_more = true;
    }
    struct stores_survey s = {.outcome = outcome,
                              .session = x->session,
                              .count = outcome == STORES_OK ? x->count : 0,
                              .is_more = x->is_more};
    x->cb(x->arg, &s);
    for (size_t i = 0; i < x->reply_count; i++)
        buf_deinit(&x->reply[i]);
    mem_free(x->reply);
    mem_free(x->session);
    buf_deinit(&x->to);
    stores_op_free(&x->op);
}

static void page_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct page *x = container_of(op, struct page, op);
    struct inbox_list l = {.is_bad = false};
    struct inbox_state s;
    struct str client;
    if (outcome != STORES_OK) {
        page_end(x, outcome);
        return;
    }
    x->reply = mem_grow(x->reply, &x->reply_cap, x->reply_count + 1, sizeof *x->reply);
    struct buf *b = &x->reply[x->reply_count++];
    *b = (struct buf){0};
    buf_put_str(b, kv->bytes);
    bool is_good = inbox_list_begin(buf_str(b), &l);
    while (is_good && inbox_list_next(&l, &client, &s)) {
        x->session = mem_grow(x->session, &x->cap, x->count + 1, sizeof *x->session);
        x->session[x->count++] = stored_of(client, &s);
    }
    x->is_more |= l.is_more;
    if (!is_good || l.is_bad)
        page_end(x, STORES_E_INVALID);
    else if (range_next(op, kv, &x->to))
        stores_op_send(op);
    else
        page_end(x, STORES_OK);
}

void stores_survey_sessions(struct stores_client *c, const struct stores_survey_query *q,
                            stores_survey_cb *cb, void *arg)
{
    struct page *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, page_read);
    x->count_max = q->count_max;
    x->cb = cb;
    x->arg = arg;
    x->op.is_query = true;
    inbox_key_tenant(&x->op.key, &x->to, q->tenant);
    inbox_query_list(&x->op.bytes, q->tenant, q->prefix, q->after, q->count_max);
    stores_op_send(&x->op);
}

/* ---- clearing by age ------------------------------------------------------------------------- */

struct expire {
    struct stores_op op;
    struct buf to, tenant;
    uint32_t age_sec;
    usec_t until;
    uint64_t count, named; /* named: by the command under way */
    stores_expired_cb *cb;
    void *arg;
};

static void expire_read(struct stores_op *op, enum stores_outcome outcome,
                        const struct kv_reply *kv);
static void expire_removed(struct stores_op *op, enum stores_outcome outcome,
                           const struct kv_reply *kv);

static void expire_end(struct expire *x, enum stores_outcome outcome)
{
    x->cb(x->arg, outcome, x->count);
    buf_deinit(&x->to);
    buf_deinit(&x->tenant);
    stores_op_free(&x->op);
}

/* Asks this range once more. */
static void expire_step(struct expire *x)
{
    x->op.bytes.n = 0;
    x->op.deadline = 0;
    if (net_loop_now(x->op.client->net) >= x->until) {
        expire_end(x, STORES_E_UNAVAILABLE);
        return;
    }
    if (x->op.table == STORES_TABLE_RETAIN) {
        retain_command_expire(&x->op.bytes, buf_str(&x->tenant), x->age_sec, EXPIRE_STEP);
        x->op.end = expire_removed;
    } else {
        inbox_query_expire(&x->op.bytes, buf_str(&x->tenant), x->age_sec, EXPIRE_STEP);
        x->op.end = expire_read;
    }
    x->op.is_query = x->op.table == STORES_TABLE_INBOX;
    stores_op_send(&x->op);
}

static void expire_next(struct expire *x, const struct kv_reply *kv)
{
    if (range_next(&x->op, kv, &x->to))
        expire_step(x);
    else
        expire_end(x, STORES_OK);
}

/* Retained messages: the reply is how many went. */
static void expire_removed(struct stores_op *op, enum stores_outcome outcome,
                           const struct kv_reply *kv)
{
    struct expire *x = container_of(op, struct expire, op);
    uint64_t n = 0;
    if (outcome == STORES_OK && !retain_reply_expired(kv->bytes, &n))
        outcome = STORES_E_INVALID;
    x->count += n;
    if (outcome != STORES_OK)
        expire_end(x, outcome);
    else if (n > 0)
        expire_step(x);
    else
        expire_next(x, kv);
}

/* Sessions: the command that was asked for has been carried out. */
static void expire_done(struct stores_op *op, enum stores_outcome outcome,
                        const struct kv_reply *kv)
{
    struct expire *x = container_of(op, struct expire, op);
    (void)kv;
    if (outcome != STORES_OK) {
        expire_end(x, outcome);
        return;
    }
    x->count += x->named;
    expire_step(x);
}

/* Sessions: what is to be proposed; empty: nothing is left here. */
static void expire_read(struct stores_op *op, enum stores_outcome outcome,
                        const struct kv_reply *kv)
{
    struct expire *x = container_of(op, struct expire, op);
    if (outcome != STORES_OK) {
        expire_end(x, outcome);
        return;
    }
    x->named = inbox_expire_count(kv->bytes);
    if (x->named == 0) {
        expire_next(x, kv);
        return;
    }
    op->bytes.n = 0;
    buf_put_str(&op->bytes, kv->bytes);
    op->is_query = false;
    op->end = expire_done;
    stores_op_send(op);
}

static void expire(struct stores_client *c, enum stores_table table, struct str tenant,
                   uint32_t age_sec, stores_expired_cb *cb, void *arg)
{
    struct expire *x = stores_op_new(c, table, sizeof *x, expire_read);
    x->age_sec = age_sec;
    x->until = usec_add(net_loop_now(c->net), EXPIRE_USEC_MAX);
    x->cb = cb;
    x->arg = arg;
    buf_put_str(&x->tenant, tenant);
    if (table == STORES_TABLE_INBOX)
        inbox_key_tenant(&x->op.key, &x->to, tenant);
    else
        retain_key_tenant(&x->op.key, &x->to, tenant);
    expire_step(x);
}

void stores_expire_sessions(struct stores_client *c, struct str tenant, uint32_t age_sec,
                            stores_expired_cb *cb, void *arg)
{
    expire(c, STORES_TABLE_INBOX, tenant, age_sec, cb, arg);
}

void stores_expire_retained(struct stores_client *c, struct str tenant, uint32_t age_sec,
                            stores_expired_cb *cb, void *arg)
{
    expire(c, STORES_TABLE_RETAIN, tenant, age_sec, cb, arg);
}
