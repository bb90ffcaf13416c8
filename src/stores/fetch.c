/* The backlog of a session, read from its rows.  SPDX-License-Identifier: Apache-2.0
 *
 * Two steps: the session's rows; then, for messages whose body is stored once for many sessions,
 * the bodies, one query each and each body once. */
#include "base/mem.h"
#include "codec/msg.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define FETCH_BYTES_MAX                                                                            \
    (1u << 20) /* of rows in one fetch; matters: bounds what a slow client holds */

struct body {
    struct str name;    /* view into rows */
    struct buf message; /* yours */
};

struct fetch {
    struct stores_op op;
    stores_fetched_cb *cb;
    void *arg;
    struct str tenant, client; /* views into text */
    struct buf text;
    struct buf rows; /* the reply to the first step */
    struct body *body;
    size_t body_count, body_cap, body_at;
};

static void fetch_end(struct fetch *x, const struct stores_fetched *f)
{
    x->cb(x->arg, f);
    for (size_t i = 0; i < x->body_count; i++)
        buf_deinit(&x->body[i].message);
    mem_free(x->body);
    buf_deinit(&x->text);
    buf_deinit(&x->rows);
    stores_op_free(&x->op);
}

static void fetch_fail(struct fetch *x, enum stores_outcome outcome)
{
    struct stores_fetched f = {.outcome = outcome};
    fetch_end(x, &f);
}

static struct body *body_find(struct fetch *x, struct str name)
{
    for (size_t i = 0; i < x->body_count; i++)
        if (str_eq(x->body[i].name, name))
            return &x->body[i];
    return NULL;
}

/* All there is has been read: the rows become deliveries. */
static void fetch_deliver(struct fetch *x)
{
    struct inbox_fetch cur;
    struct inbox_fetched row;
    struct stores_delivery *d = NULL;
    struct codec_msg *msg = NULL;
    uint32_t *id = NULL;
    size_t count = 0, cap = 0, msg_cap = 0, ids = 0, id_cap = 0;
    bool ok = inbox_fetch_begin(buf_str(&x->rows), &cur);
    while (ok && inbox_fetch_next(&cur, &row)) {
        struct str bytes = row.message;
        struct body *b = row.body.n > 0 ? body_find(x, row.body) : NULL;
        if (b != NULL)
            bytes = buf_str(&b->message);
        d = mem_grow(d, &cap, count + 1, sizeof *d);
        msg = mem_grow(msg, &msg_cap, count + 1, sizeof *msg);
        if (codec_msg_decode(bytes, &msg[count]) != 0)
            continue; /* acknowledged between the two steps: its body is gone */
        d[count++] = (struct stores_delivery){.seq = row.head.seq,
                                              .qos = row.head.qos,
                                              .options = row.head.options,
                                              .sub_id_count = row.head.sub_id_count};
        id = mem_grow(id, &id_cap, ids + row.head.sub_id_count + 1, sizeof *id);
        memcpy(id + ids, row.head.sub_id, row.head.sub_id_count * sizeof *id);
        ids += row.head.sub_id_count;
    }
    const uint32_t *next_id = id;
    for (size_t i = 0; i < count; i++) {
        d[i].msg = &msg[i];
        d[i].sub_id = next_id;
        next_id += d[i].sub_id_count;
    }
    struct stores_fetched f = {
        .outcome = ok && !cur.is_bad ? STORES_OK : STORES_E_INVALID, .delivery = d, .count = count};
    fetch_end(x, &f);
    mem_free(d);
    mem_free(msg);
    mem_free(id);
}

static void body_ask(struct fetch *x);

static void body_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct fetch *x = container_of(op, struct fetch, op);
    struct str message;
    if (outcome != STORES_OK) {
        fetch_fail(x, outcome);
        return;
    }
    if (inbox_reply_body(kv->bytes, &message))
        buf_put_str(&x->body[x->body_at].message, message);
    x->body_at++;
    body_ask(x);
}

static void body_ask(struct fetch *x)
{
    if (x->body_at == x->body_count) {
        fetch_deliver(x);
        return;
    }
    x->op.bytes.n = 0;
    inbox_query_body(&x->op.bytes, x->tenant, x->client, x->body[x->body_at].name);
    x->op.end = body_read;
    stores_op_send(&x->op);
}

static void rows_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct fetch *x = container_of(op, struct fetch, op);
    struct inbox_fetch cur;
    struct inbox_fetched row;
    if (outcome == STORES_OK && !inbox_fetch_begin(kv->bytes, &cur))
        outcome = STORES_E_INVALID;
    if (outcome != STORES_OK) {
        fetch_fail(x, outcome);
        return;
    }
    if (cur.outcome == INBOX_E_MOVED) {
        stores_op_send_again(op);
        return;
    }
    if (cur.outcome != INBOX_OK) {
        fetch_fail(x, stores_inbox_outcome(cur.outcome));
        return;
    }
    buf_put_str(&x->rows, kv->bytes);
    if (!inbox_fetch_begin(buf_str(&x->rows), &cur)) {
        fetch_fail(x, STORES_E_INVALID);
        return;
    }
    while (inbox_fetch_next(&cur, &row)) {
        if (row.body.n == 0 || body_find(x, row.body) != NULL)
            continue;
        x->body = mem_grow(x->body, &x->body_cap, x->body_count + 1, sizeof *x->body);
        x->body[x->body_count++] = (struct body){.name = row.body};
    }
    body_ask(x);
}

void stores_fetch(struct stores_client *c, const struct stores_session *s, bool is_qos0,
                  uint64_t seq, uint32_t count_max, stores_fetched_cb *cb, void *arg)
{
    struct fetch *x = stores_op_new(c, STORES_TABLE_INBOX, sizeof *x, rows_read);
    struct inbox_ref ref = {s->tenant, s->client, s->incarnation, s->mod};
    x->cb = cb;
    x->arg = arg;
    x->op.is_query = true;
    buf_put_str(&x->text, s->tenant);
    buf_put_str(&x->text, s->client);
    x->tenant = str_view(x->text.p, s->tenant.n);
    x->client = str_view(x->text.p + s->tenant.n, s->client.n);
    inbox_key(&x->op.key, s->tenant, s->client);
    inbox_query_fetch(&x->op.bytes, &ref, is_qos0, seq, count_max, FETCH_BYTES_MAX);
    stores_op_send(&x->op);
}
