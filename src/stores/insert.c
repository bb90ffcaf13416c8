/* One message into the inboxes of its persistent receivers.  SPDX-License-Identifier: Apache-2.0
 *
 * All receivers of one range share a command, so the payload crosses once.  Nobody here knows the
 * ranges' bounds: the command goes to the range of the first receiver that has no answer yet; that
 * range answers for those it has and says MOVED for the others, which go out again.  Usually one
 * round is all.
 *
 * Invariant: it ends when every receiver has an answer, or with the first outcome that is none. */
#include "base/mem.h"
#include "codec/msg.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

struct insert {
    struct stores_op op;
    stores_inserted_cb *cb;
    void *arg;
    struct stores_inserted result;
    struct buf text; /* tenant, then the message */
    size_t tenant_n;
    uint64_t publisher, exchange, floor;
    bool is_for_held;
    struct inbox_receiver *receiver; /* those without an answer */
    size_t count;
};

static void insert_end(struct insert *x, enum stores_outcome outcome)
{
    struct stores_inserted result = x->result;
    stores_inserted_cb *cb = x->cb;
    void *arg = x->arg;
    result.outcome = outcome;
    mem_free(x->receiver);
    buf_deinit(&x->text);
    stores_op_free(&x->op);
    if (cb != NULL)
        cb(arg, &result);
}

static void insert_send(struct insert *x)
{
    struct str tenant = str_view(x->text.p, x->tenant_n);
    struct inbox_message m = {.tenant = tenant,
                              .bytes = str_view(x->text.p + x->tenant_n, x->text.n - x->tenant_n),
                              .publisher = x->publisher,
                              .exchange = x->exchange,
                              .floor = x->floor,
                              .is_for_held = x->is_for_held};
    x->op.key.n = x->op.bytes.n = 0;
    inbox_key(&x->op.key, tenant, x->receiver[0].client);
    inbox_command_insert(&x->op.bytes);
    inbox_command_insert_message(&x->op.bytes, &m);
    for (size_t i = 0; i < x->count; i++)
        inbox_command_insert_receiver(&x->op.bytes, &x->receiver[i]);
    stores_op_send(&x->op);
}

/* Counts one fate; false: it has none yet. */
static bool count_fate(struct stores_inserted *r, uint8_t fate)
{
    switch ((enum inbox_outcome)fate) {
    case INBOX_OK:
        r->stored++;
        return true;
    case INBOX_E_PUSHED:
        r->pushed++;
        return true;
    case INBOX_E_DROPPED:
        r->dropped++;
        return true;
    case INBOX_E_DISPLACED:
        r->displaced++;
        return true;
    case INBOX_E_DUPLICATE:
        r->duplicate++;
        return true;
    case INBOX_E_AWAY:
        r->away++;
        return true;
    case INBOX_E_NONE:
    case INBOX_E_CONFLICT:
    case INBOX_E_INVALID:
        r->gone++;
        return true;
    case INBOX_E_MOVED:
    case INBOX_E_EXISTS:
    case INBOX_E_NO_SUB:
    case INBOX_E_FULL:
        break;
    }
    return false;
}

static void inserted(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct insert *x = container_of(op, struct insert, op);
    struct inbox_reply reply;
    if (outcome != STORES_OK) {
        insert_end(x, outcome);
        return;
    }
    if (!inbox_reply_decode(kv->bytes, &reply) || reply.outcome != INBOX_OK ||
        reply.results.n != x->count) {
        insert_end(x, STORES_E_INVALID);
        return;
    }
    size_t left = 0, before = x->count;
    for (size_t i = 0; i < x->count; i++)
        if (!count_fate(&x->result, (uint8_t)reply.results.p[i]))
            x->receiver[left++] = x->receiver[i];
    x->count = left;
    if (left == 0)
        insert_end(x, STORES_OK);
    else if (left == before)
        stores_op_send_again(op); /* not even the first one was where it should be */
    else
        insert_send(x);
}

/* The receivers with their clients and identifiers in one block behind them. */
static struct inbox_receiver *dup_receivers(const struct stores_receiver *r, size_t count)
{
    size_t ids = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        ids += r[i].sub_id_count;
        bytes += r[i].client.n;
    }
    struct inbox_receiver *to = mem_alloc(count * sizeof *to + ids * sizeof(uint32_t) + bytes);
    uint32_t *id = (uint32_t *)(void *)(to + count);
    char *text = (char *)(id + ids);
    for (size_t i = 0; i < count; i++) {
        to[i] = (struct inbox_receiver){.client = str_view(text, r[i].client.n),
                                        .incarnation = r[i].incarnation,
                                        .qos = r[i].qos,
                                        .options = r[i].options,
                                        .sub_id_count = r[i].sub_id_count,
                                        .sub_id = id};
        if (r[i].client.n > 0)
            memcpy(text, r[i].client.p, r[i].client.n);
        if (r[i].sub_id_count > 0)
            memcpy(id, r[i].sub_id, r[i].sub_id_count * sizeof *id);
        text += r[i].client.n;
        id += r[i].sub_id_count;
    }
    return to;
}

void stores_insert(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                   const struct stores_origin *from, const struct stores_receiver *r, size_t count,
                   stores_inserted_cb *cb, void *arg)
{
    must(count > 0);
    struct insert *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, inserted);
    x->cb = cb;
    x->arg = arg;
    x->publisher = msg->exchange != 0 ? msg->incarnation : 0;
    x->exchange = msg->exchange;
    x->floor = from->floor;
    x->is_for_held = from->is_for_held;
    x->op.lane = from->lane;
    buf_put_str(&x->text, tenant);
    x->tenant_n = tenant.n;
    codec_msg_encode(&x->text, msg);
    x->receiver = dup_receivers(r, count);
    x->count = count;
    insert_send(x);
}
