/* Commands and queries on their way.  SPDX-License-Identifier: Apache-2.0 */
#include "stores/op_priv.h"

#include "base/mem.h"
#include "stores/stores_priv.h"

#define AGAIN_USEC                                                                                 \
    (20 * USEC_MSEC) /* does not matter much: how soon a key is looked for where its range went */

static void send_again(void *arg, usec_t now)
{
    (void)now;
    stores_op_send(arg);
}

void *stores_op_new(struct stores_client *c, enum stores_table table, size_t size,
                    void (*end)(struct stores_op *op, enum stores_outcome outcome,
                                const struct kv_reply *reply))
{
    struct stores_op *op = mem_new(size);
    op->client = c;
    op->table = table;
    op->end = end;
    net_timer_init(&op->again, send_again, op);
    return op;
}

void stores_op_free(struct stores_op *op)
{
    net_timer_del(op->client->net, &op->again);
    buf_deinit(&op->key);
    buf_deinit(&op->bytes);
    mem_free(op);
}

static enum stores_outcome outcome_of(enum kv_outcome o)
{
    switch (o) {
    case KV_OK:
        return STORES_OK;
    case KV_E_UNKNOWN:
        return STORES_E_UNKNOWN;
    case KV_E_FULL:
        return STORES_E_FULL;
    case KV_E_INVALID:
        return STORES_E_INVALID;
    case KV_E_DEADLINE:
    case KV_E_NO_RANGE:
    case KV_E_NO_LEADER:
    case KV_E_VERSION:
    case KV_E_CONFLICT:
    case KV_E_STOPPED:
        return STORES_E_UNAVAILABLE;
    }
    return STORES_E_UNAVAILABLE;
}

static void answered(void *arg, const struct kv_reply *reply)
{
    struct stores_op *op = arg;
    op->end(op, outcome_of(reply->outcome), reply);
}

void stores_op_send_again(struct stores_op *op)
{
    usec_t now = net_loop_now(op->client->net);
    struct kv_reply nothing = {.outcome = KV_E_DEADLINE, .bytes = STR(""), .range_end = STR("")};
    if (now >= op->deadline)
        op->end(op, STORES_E_UNAVAILABLE, &nothing);
    else
        net_timer_set(op->client->net, &op->again, now + AGAIN_USEC);
}

bool stores_op_next_range(struct stores_op *op, const struct kv_reply *kv, const struct buf *to)
{
    if (kv->is_last || kv->range_end.n == 0 || str_cmp(kv->range_end, buf_str(to)) >= 0)
        return false;
    op->key.n = 0;
    buf_put_str(&op->key, kv->range_end);
    return true;
}

void stores_op_send(struct stores_op *op)
{
    struct stores_client *c = op->client;
    struct stores *s = c->stores;
    if (op->deadline == 0)
        op->deadline = usec_add(net_loop_now(c->net), s->conf.timeout_usec);
    if (s->conf.kv == NULL) {
        if (op->is_query)
            stores_solo_query(s->solo[op->table], c->loop, buf_str(&op->bytes), answered, op);
        else
            stores_solo_propose(s->solo[op->table], c->loop, buf_str(&op->bytes), answered, op);
        return;
    }
    if (!op->is_query) {
        struct kv_proposal p = {buf_str(&op->key), buf_str(&op->bytes), op->deadline, op->lane};
        if (op->is_once)
            kv_propose(c->kv[op->table], p.key, p.command, p.deadline, answered, op);
        else
            kv_propose_repeatable(c->kv[op->table], &p, answered, op);
        return;
    }
    struct kv_query q = {.key = buf_str(&op->key),
                         .request = buf_str(&op->bytes),
                         .read = op->is_stale ? KV_READ_STALE : KV_READ_LINEAR,
                         .deadline = op->deadline};
    kv_query(c->kv[op->table], &q, answered, op);
}

void stores_cancel(struct stores_client *c, uint64_t lane)
{
    if (c->kv[STORES_TABLE_INBOX] != NULL)
        kv_cancel(c->kv[STORES_TABLE_INBOX], lane);
}
