/* What matches a topic, asked of the ranges' leaders: for a node that does not have all of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One range after the other, from the tenant's first key to its last.  A linear read: a route that was answered before
 * we asked is in the answer.
 *
 * Invariant: an answer has every range's, or is none. */
#include "base/mem.h"
#include "dist/dist.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

struct match {
    struct stores_op op;
    struct buf to; /* the end of the tenant's keys */
    struct dist_index *index;
    stores_match_cb *cb;
    void *arg;
};

/* Nobody but the asker reads it, and not while it is filled. */
static void reclaim_now(void *arg, void *ptr, void (*fn)(void *ptr))
{
    (void)arg;
    fn(ptr);
}

static void match_end(struct match *x, enum stores_outcome outcome)
{
    if (outcome != STORES_OK) {
        dist_index_free(x->index);
        x->index = NULL;
    }
    x->cb(x->arg, outcome, x->index);
    buf_deinit(&x->to);
    stores_op_free(&x->op);
}

static bool take(struct match *x, struct str reply)
{
    struct dist_reply_cursor c = {.rest = reply};
    struct dist_route r;
    bool is_good = true;
    while (dist_reply_match(&c, &r))
        is_good = dist_index_add(x->index, DIST_OWNER_HOST, &r, 0) != DIST_E_INVALID && is_good;
    return is_good && !c.is_bad;
}

static void answered(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct match *x = container_of(op, struct match, op);
    if (outcome == STORES_OK && !take(x, kv->bytes))
        outcome = STORES_E_INVALID;
    if (outcome == STORES_OK && stores_op_next_range(op, kv, &x->to))
        stores_op_send(op);
    else
        match_end(x, outcome);
}

void stores_match(struct stores_client *c, struct str tenant, struct str topic, usec_t deadline,
                  stores_match_cb *cb, void *arg)
{
    struct stores *s = c->stores;
    struct match *x = stores_op_new(c, STORES_TABLE_DIST, sizeof *x, answered);
    struct dist_index_conf conf = {.seed = s->conf.seed, .reclaim = reclaim_now};
    x->cb = cb;
    x->arg = arg;
    x->index = dist_index_new(&conf);
    dist_index_node_local(x->index, &s->conf.node, s->conf.epoch);
    x->op.is_query = true;
    x->op.deadline = deadline;
    dist_key_tenant(&x->op.key, &x->to, tenant);
    dist_query_match(&x->op.bytes, tenant, topic);
    stores_op_send(&x->op);
}
