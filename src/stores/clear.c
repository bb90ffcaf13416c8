/* What an older life of a client left is gone.  SPDX-License-Identifier: Apache-2.0
 *
 * Nearly every client that connects clean left nothing: to know that costs no write.  Only a session
 * that is there costs a command.  Without a leader the local replica is asked what it last knew, so
 * that clean clients can connect while the cluster has no quorum; it may then miss a session that was
 * made in the last moment before. */
#include "base/mem.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define PATIENCE_USEC                                                                              \
    (3 * USEC_SEC) /* matters: an election is over by then; what comes later answers from here */

struct clear {
    struct stores_op op;
    stores_done *done;
    void *arg;
    struct buf text; /* tenant, then client */
    size_t tenant_n;
};

static struct str tenant_of(const struct clear *x)
{
    return str_view(x->text.p, x->tenant_n);
}

static struct str client_of(const struct clear *x)
{
    return str_view(x->text.p + x->tenant_n, x->text.n - x->tenant_n);
}

static void clear_end(struct clear *x, enum stores_outcome outcome)
{
    stores_done *done = x->done;
    void *arg = x->arg;
    buf_deinit(&x->text);
    stores_op_free(&x->op);
    done(arg, outcome);
}

static void deleted(void *arg, enum stores_outcome outcome)
{
    clear_end(arg, outcome == STORES_E_NO_SESSION ? STORES_OK : outcome);
}

static void known(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct clear *x = container_of(op, struct clear, op);
    struct inbox_state state;
    bool is_known = outcome == STORES_OK && inbox_reply_state(kv->bytes, &state);
    if (is_known && state.outcome == INBOX_E_NONE) {
        clear_end(x, STORES_OK);
    } else if (is_known && state.outcome == INBOX_E_MOVED) {
        stores_op_send_again(op);
    } else if (is_known && !op->is_stale) {
        stores_delete(op->client, tenant_of(x), client_of(x), deleted, x);
    } else if (!is_known && !op->is_stale) {
        op->is_stale = true;
        op->deadline = usec_add(net_loop_now(op->client->net), USEC_SEC);
        stores_op_send_again(op);
    } else {
        clear_end(x, is_known || outcome == STORES_OK ? STORES_E_UNAVAILABLE : outcome);
    }
}

void stores_clear(struct stores_client *c, struct str tenant, struct str client, stores_done *done,
                  void *arg)
{
    struct clear *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, known);
    x->done = done;
    x->arg = arg;
    buf_put_str(&x->text, tenant);
    x->tenant_n = tenant.n;
    buf_put_str(&x->text, client);
    x->op.is_query = true;
    x->op.deadline = usec_add(net_loop_now(c->net), PATIENCE_USEC);
    inbox_key(&x->op.key, tenant, client);
    inbox_query_state(&x->op.bytes, tenant, client);
    stores_op_send(&x->op);
}
