/* Orders and answers between nodes, as records.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: trusts a length. */
#include "api/peer_priv.h"
#include "codec/record.h"

enum {
    KIND_ASK = 0xA1,
    KIND_ANSWER = 0xA2,
    VERSION = 1,
};

enum {
    TAG_OP = 1,
    TAG_TENANT,
    TAG_USER,
    TAG_CLIENT,
    TAG_PREFIX,
    TAG_AFTER,
    TAG_FILTER,
    TAG_REFERENCE,
    TAG_SUBS,
    TAG_UNSUBSCRIBE,
    TAG_COUNT,
    TAG_COOKIE,
    TAG_LOOP,
    TAG_QOS,
    TAG_REASON,
    TAG_CODE,
    TAG_NEW,
    TAG_MORE,
    TAG_TEXT,
    TAG_ITEMS,
    TAG_END,
};

static void put_bytes(struct buf *b, uint32_t tag, struct str s)
{
    if (s.n)
        codec_record_bytes(b, tag, s);
}

static void put_u64(struct buf *b, uint32_t tag, uint64_t v)
{
    if (v)
        codec_record_u64(b, tag, v);
}

void api_peer_ask_encode(struct buf *b, const struct api_peer_ask *a)
{
    codec_record_begin(b, KIND_ASK, VERSION);
    put_u64(b, TAG_OP, a->op);
    put_bytes(b, TAG_TENANT, a->tenant);
    if (a->has_user)
        codec_record_bytes(b, TAG_USER, a->user);
    if (a->has_client)
        codec_record_bytes(b, TAG_CLIENT, a->client);
    put_bytes(b, TAG_PREFIX, a->prefix);
    put_bytes(b, TAG_AFTER, a->after);
    put_bytes(b, TAG_FILTER, a->filter);
    put_bytes(b, TAG_REFERENCE, a->reference);
    put_u64(b, TAG_SUBS, a->wants_subs);
    put_u64(b, TAG_UNSUBSCRIBE, a->is_unsubscribe);
    put_u64(b, TAG_COUNT, a->count_max);
    put_u64(b, TAG_COOKIE, a->cookie);
    put_u64(b, TAG_LOOP, a->loop);
    put_u64(b, TAG_QOS, a->qos);
    put_u64(b, TAG_REASON, a->reason);
}

/* Fields by tag; of a repeated one the last counts. */
struct fields {
    uint64_t u[TAG_END];
    struct str s[TAG_END];
};

static bool fields_get(struct str bytes, uint8_t want, struct fields *out)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    struct codec_field f;
    uint8_t kind, version;
    *out = (struct fields){.u = {0}};
    codec_record_head(&c, &kind, &version);
    if (c.bad || kind != want || version != VERSION)
        return false;
    while (codec_record_next(&c, &f)) {
        if (f.tag >= TAG_END)
            continue;
        if (f.is_bytes)
            out->s[f.tag] = f.bytes;
        else
            out->u[f.tag] = f.u64;
    }
    return !c.bad;
}

bool api_peer_ask_decode(struct str bytes, struct api_peer_ask *out)
{
    struct fields f;
    if (!fields_get(bytes, KIND_ASK, &f))
        return false;
    *out = (struct api_peer_ask){
        .op = (enum api_peer_op)(f.u[TAG_OP] <= API_PEER_FACTS ? f.u[TAG_OP] : 0),
        .tenant = f.s[TAG_TENANT],
        .user = f.s[TAG_USER],
        .client = f.s[TAG_CLIENT],
        .prefix = f.s[TAG_PREFIX],
        .after = f.s[TAG_AFTER],
        .filter = f.s[TAG_FILTER],
        .reference = f.s[TAG_REFERENCE],
        .has_user = f.s[TAG_USER].p != NULL,
        .has_client = f.s[TAG_CLIENT].p != NULL,
        .wants_subs = f.u[TAG_SUBS] != 0,
        .is_unsubscribe = f.u[TAG_UNSUBSCRIBE] != 0,
        .count_max = f.u[TAG_COUNT],
        .cookie = f.u[TAG_COOKIE],
        .loop = f.u[TAG_LOOP],
        .qos = f.u[TAG_QOS],
        .reason = f.u[TAG_REASON],
    };
    return out->op != 0;
}

void api_peer_answer_encode(struct buf *b, const struct api_peer_answer *a)
{
    codec_record_begin(b, KIND_ANSWER, VERSION);
    put_u64(b, TAG_COUNT, a->count);
    put_u64(b, TAG_CODE, a->code);
    put_u64(b, TAG_NEW, a->is_new);
    put_u64(b, TAG_MORE, a->is_more);
    put_bytes(b, TAG_TEXT, a->text);
    put_bytes(b, TAG_ITEMS, a->items);
}

bool api_peer_answer_decode(struct str bytes, struct api_peer_answer *out)
{
    struct fields f;
    if (!fields_get(bytes, KIND_ANSWER, &f))
        return false;
    *out = (struct api_peer_answer){
        .count = f.u[TAG_COUNT],
        .code = f.u[TAG_CODE],
        .is_new = f.u[TAG_NEW] != 0,
        .is_more = f.u[TAG_MORE] != 0,
        .text = f.s[TAG_TEXT],
        .items = f.s[TAG_ITEMS],
    };
    return true;
}

void api_peer_item_put(struct buf *b, struct str client, struct str json)
{
    buf_put_varint(b, client.n);
    buf_put_str(b, client);
    buf_put_varint(b, json.n);
    buf_put_str(b, json);
}

static struct str run_get(struct codec_cursor *c)
{
    uint64_t n = codec_cursor_varint(c);
    if (n > codec_cursor_left(c)) {
        codec_cursor_fail(c);
        n = 0;
    }
    return codec_cursor_bytes(c, (size_t)n);
}

bool api_peer_item(struct str *rest, struct api_peer_item *out)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    out->client = run_get(&c);
    out->json = run_get(&c);
    *rest = str_view(c.p, codec_cursor_left(&c));
    return !c.bad;
}
