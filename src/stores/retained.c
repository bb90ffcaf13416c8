/* Retained messages.  SPDX-License-Identifier: Apache-2.0
 *
 * A page names large messages only; each of them is then read by itself, so a page is complete
 * before it is answered.  With several ranges the pages of one follow those of the one before it.
 */
#include "base/mem.h"
#include "codec/msg.h"
#include "codec/topic.h"
#include "retain/retain.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define PAGE_BYTES_MAX (1u << 20) /* matters: bounds what one subscribe holds in memory */

/* ---- put ------------------------------------------------------------------------------------- */

struct put {
    struct stores_op op;
    stores_done *done;
    void *arg;
};

static void put_end(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct put *x = container_of(op, struct put, op);
    uint8_t result =
        outcome == STORES_OK && kv->bytes.n == 1 ? (uint8_t)kv->bytes.p[0] : RETAIN_E_INVALID;
    if (outcome == STORES_OK && result == RETAIN_E_MOVED) {
        stores_op_send_again(op);
        return;
    }
    if (outcome == STORES_OK && result != 0 && result != RETAIN_E_OLD)
        outcome = result == RETAIN_E_FULL ? STORES_E_LIMIT : STORES_E_INVALID;
    stores_done *done = x->done;
    void *arg = x->arg;
    stores_op_free(op);
    if (done != NULL)
        done(arg, outcome);
}

void stores_retain_put(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                       uint64_t topic_max, uint64_t byte_max, stores_done *done, void *arg)
{
    struct put *x = stores_op_new(c, STORES_TABLE_RETAIN, sizeof *x, put_end);
    x->done = done;
    x->arg = arg;
    struct retain_message m = {.topic = msg->topic,
                               .payload = msg->payload,
                               .props = msg->props,
                               .publisher = msg->publisher,
                               .hlc = msg->hlc,
                               .expiry_sec = msg->has_expiry ? msg->expiry_sec : UINT32_MAX,
                               .qos = msg->qos};
    retain_key(&x->op.key, tenant, msg->topic);
    retain_command_begin(&x->op.bytes);
    retain_command_set(&x->op.bytes, tenant, &m, topic_max, byte_max);
    stores_op_send(&x->op);
}

/* ---- match ----------------------------------------------------------------------------------- */

struct match {
    struct stores_op op;
    stores_retained_cb *cb;
    void *arg;
    struct buf text; /* tenant, filter, after */
    struct str tenant, filter, after;
    uint32_t count_max;
    bool is_exact;
    struct buf page; /* the reply, kept while large messages are read */
    struct str next; /* where the next page begins */
    struct retain_message *found;
    size_t count, cap, at; /* at: the large one being read */
    struct buf *large;     /* replies of single reads, by index of found */
};

static void match_end(struct match *x, enum stores_outcome outcome)
{
    struct codec_msg *msg = mem_new((x->count + 1) * sizeof *msg);
    for (size_t i = 0; i < x->count; i++) {
        const struct retain_message *m = &x->found[i];
        msg[i].topic = m->topic;
        msg[i].payload = m->payload;
        msg[i].props = m->props;
        msg[i].publisher = m->publisher;
        msg[i].hlc = m->hlc;
        msg[i].has_expiry = m->expiry_sec != UINT32_MAX;
        msg[i].expiry_sec = m->expiry_sec;
        msg[i].qos = m->qos;
        msg[i].is_retain = true;
    }
    struct stores_retained r = {.outcome = outcome,
                                .msg = msg,
                                .msg_count = outcome == STORES_OK ? x->count : 0,
                                .after = outcome == STORES_OK ? x->next : STR("")};
    x->cb(x->arg, &r);
    for (size_t i = 0; i < x->count; i++)
        buf_deinit(&x->large[i]);
    mem_free(msg);
    mem_free(x->found);
    mem_free(x->large);
    buf_deinit(&x->text);
    buf_deinit(&x->page);
    stores_op_free(&x->op);
}

static void found_push(struct match *x, const struct retain_message *m)
{
    size_t cap = x->cap;
    x->found = mem_grow(x->found, &x->cap, x->count + 1, sizeof *x->found);
    x->large = mem_grow(x->large, &cap, x->count + 1, sizeof *x->large);
    x->large[x->count] = (struct buf){0};
    x->found[x->count++] = *m;
}

static void read_large(struct match *x);

static void large_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct match *x = container_of(op, struct match, op);
    if (outcome != STORES_OK) {
        match_end(x, outcome);
        return;
    }
    struct buf *b = &x->large[x->at];
    buf_put_str(b, kv->bytes);
    struct retain_message m;
    if (retain_reply_get(buf_str(b), stores_hlc(op->client), &m) == RETAIN_GET_FOUND) {
        x->found[x->at++] = m;
    } else { /* cleared or expired meanwhile */
        buf_deinit(b);
        x->count--;
        memmove(&x->found[x->at], &x->found[x->at + 1], (x->count - x->at) * sizeof *x->found);
        memmove(&x->large[x->at], &x->large[x->at + 1], (x->count - x->at) * sizeof *x->large);
    }
    read_large(x);
}

static void read_large(struct match *x)
{
    while (x->at < x->count && !x->found[x->at].is_large)
        x->at++;
    if (x->at == x->count) {
        match_end(x, STORES_OK);
        return;
    }
    x->op.key.n = x->op.bytes.n = 0;
    retain_key(&x->op.key, x->tenant, x->found[x->at].topic);
    retain_query_get(&x->op.bytes, x->tenant, x->found[x->at].topic);
    x->op.end = large_read;
    stores_op_send(&x->op);
}

static void page_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct match *x = container_of(op, struct match, op);
    struct retain_reply r;
    struct retain_message m;
    if (outcome != STORES_OK) {
        match_end(x, outcome);
        return;
    }
    buf_put_str(&x->page, kv->bytes);
    bool ok = retain_reply_begin(buf_str(&x->page), &r);
    while (ok && retain_reply_next(&r, &m))
        found_push(x, &m);
    x->next = ok ? r.after : STR("");
    if (!ok || r.is_bad)
        match_end(x, STORES_E_INVALID);
    else
        read_large(x);
}

static void exact_read(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct match *x = container_of(op, struct match, op);
    struct retain_message m;
    if (outcome == STORES_OK) {
        buf_put_str(&x->page, kv->bytes);
        if (retain_reply_get(buf_str(&x->page), stores_hlc(op->client), &m) == RETAIN_GET_FOUND)
            found_push(x, &m);
    }
    match_end(x, outcome);
}

void stores_retain_match(struct stores_client *c, struct str tenant, struct str filter,
                         struct str after, uint32_t count_max, stores_retained_cb *cb, void *arg)
{
    struct codec_topic_filter f;
    bool is_exact = codec_topic_filter_parse(filter, NULL, &f) == 0 && !f.has_wildcard;
    struct match *x =
        stores_op_new(c, STORES_TABLE_RETAIN, sizeof *x, is_exact ? exact_read : page_read);
    x->cb = cb;
    x->arg = arg;
    x->count_max = count_max;
    x->op.is_query = true;
    x->next = STR("");
    buf_put_str(&x->text, tenant);
    buf_put_str(&x->text, filter);
    buf_put_str(&x->text, after);
    x->tenant = str_view(x->text.p, tenant.n);
    x->filter = str_view(x->text.p + tenant.n, filter.n);
    x->after = str_view(x->text.p + tenant.n + filter.n, after.n);
    retain_key(&x->op.key, x->tenant, is_exact ? x->filter : x->after);
    if (is_exact)
        retain_query_get(&x->op.bytes, x->tenant, x->filter);
    else
        retain_query_match(&x->op.bytes, x->tenant, x->filter, x->after, count_max, PAGE_BYTES_MAX);
    stores_op_send(&x->op);
}
