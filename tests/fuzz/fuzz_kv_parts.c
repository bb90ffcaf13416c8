/* Hostile small records of kv: spaces of a range, words of a merge, meta rows, rows of a snapshot,
 * answers to proposals. SPDX-License-Identifier: Apache-2.0
 *
 * Input: a byte that chooses the decoder, then what it reads.  What decodes is encoded again and
 * must then decode to the same. */
#include "kv/kv_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void parts_try(struct str s)
{
    struct kv_parts a = kv_parts_decode(1, s);
    struct buf once = {0}, twice = {0};
    kv_parts_encode(&a, &once);
    struct kv_parts b = kv_parts_decode(1, buf_str(&once));
    kv_parts_encode(&b, &twice);
    must(a.count == b.count && str_eq(buf_str(&once), buf_str(&twice)));
    for (size_t i = 0; i < a.count; i++)
        must(kv_parts_at(&a, buf_str(&a.more[i].from)) ==
             kv_parts_at(&b, buf_str(&b.more[i].from)));
    struct kv_spans spans = kv_spans_of(&a, STR(""), STR(""));
    must(spans.count >= 1 && spans.at[spans.count - 1].to.n == 0);
    kv_spans_free(&spans);
    kv_parts_free(&a);
    kv_parts_free(&b);
    buf_deinit(&once);
    buf_deinit(&twice);
}

static void order_try(struct str s)
{
    struct kv_wire_order o;
    struct buf b = {0};
    if (kv_wire_order_decode(s, &o) == 0) {
        kv_wire_order_encode(&o, &b);
        must(str_has_prefix(s, buf_str(&b)));
    }
    buf_deinit(&b);
}

static void frozen_try(struct str s)
{
    struct kv_wire_frozen f, g;
    struct buf b = {0};
    if (kv_wire_frozen_decode(s, &f) == 0) {
        must(range_bounds_is_valid(&f.bounds));
        kv_wire_frozen_encode(&f, &b);
        must(kv_wire_frozen_decode(buf_str(&b), &g) == 0);
        must(g.serial == f.serial && g.hlc == f.hlc && range_bounds_eq(&f.bounds, &g.bounds));
    }
    buf_deinit(&b);
}

/* A key of 9 bytes or what is there, and its value. */
static void meta_try(struct str s)
{
    size_t at = s.n < KV_WIRE_KEY ? s.n : KV_WIRE_KEY;
    struct str key = str_view(s.p, at), value = str_view(s.p + at, s.n - at);
    enum kv_wire_key what;
    uint64_t number, id;
    char again[KV_WIRE_KEY];
    struct buf b = {0};
    if (kv_wire_key_decode(key, &what, &number) == 0) {
        kv_wire_key_encode(what, number, again);
        must(str_eq(key, str_view(again, sizeof again)));
    }
    if (kv_wire_tombstone_decode(value, &id) == 0) {
        kv_wire_tombstone_encode(id, &b);
        must(str_has_prefix(value, buf_str(&b)));
    }
    struct kv_wire_replica r, r2;
    struct kv_wire_applied a, a2;
    b.n = 0;
    if (kv_wire_replica_decode(value, &r) == 0) {
        kv_wire_replica_encode(&r, &b);
        must(kv_wire_replica_decode(buf_str(&b), &r2) == 0);
        must(r.replica == r2.replica && str_eq(r.parts, r2.parts) && r.space == r2.space &&
             r.is_founded == r2.is_founded && r.is_split_born == r2.is_split_born);
        parts_try(r.parts);
    }
    b.n = 0;
    if (kv_wire_applied_decode(value, &a) == 0) {
        kv_wire_applied_encode(&a, &b);
        must(kv_wire_applied_decode(buf_str(&b), &a2) == 0 && a.index == a2.index);
    }
    buf_deinit(&b);
}

/* What a stream brings, cut in two anywhere, says the same as at once. */
static enum kv_wire_piece rows_all(struct kv_wire_rows *r, struct str s, size_t *out_used)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct str key, value;
    enum kv_wire_piece piece;
    while ((piece = kv_wire_row_next(r, &c, &key, &value)) == KV_WIRE_PIECE_ROW)
        must(key.n + value.n <= s.n);
    *out_used = s.n - codec_cursor_left(&c);
    return piece;
}

static void rows_try(struct str s)
{
    struct kv_wire_rows whole = {0}, cut = {0};
    size_t used, first, rest = 0, at = s.n > 0 ? (uint8_t)s.p[s.n - 1] % s.n : 0;
    enum kv_wire_piece a = rows_all(&whole, s, &used);
    enum kv_wire_piece b = rows_all(&cut, str_view(s.p, at), &first);
    if (b == KV_WIRE_PIECE_SHORT)
        b = rows_all(&cut, str_view(s.p + first, s.n - first), &rest);
    must(a == b && used == first + rest);
    must(whole.count == cut.count && whole.crc == cut.crc && whole.is_end == cut.is_end);
}

/* Rows made of the input arrive as they were sent, and one changed byte does not pass unseen. */
static void rows_sent(struct str s)
{
    struct kv_wire_rows out = {0}, in = {0};
    struct buf b = {0};
    size_t used, want = 0;
    for (size_t at = 0, n; at < s.n; at += n, want++) {
        n = (size_t)(uint8_t)s.p[at] + 1 < s.n - at ? (size_t)(uint8_t)s.p[at] + 1 : s.n - at;
        kv_wire_row_put(&out, str_view(s.p + at, n / 2), str_view(s.p + at + n / 2, n - n / 2), &b);
    }
    kv_wire_rows_end(&out, &b);
    must(rows_all(&in, buf_str(&b), &used) == KV_WIRE_PIECE_END);
    must(used == b.n && in.count == want);
    in = (struct kv_wire_rows){0};
    b.p[(s.n > 0 ? (uint8_t)s.p[0] * 7919u : 0) % b.n] ^= 4;
    must(rows_all(&in, buf_str(&b), &used) != KV_WIRE_PIECE_END);
    buf_deinit(&b);
}

static void answers_try(struct str s)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct buf b = {0};
    uint64_t number;
    (void)!kv_wire_number_decode(s, &number);
    while (codec_cursor_left(&c) > 0) {
        struct str bytes = kv_wire_answer_next(&c);
        if (c.bad)
            break;
        b.n = 0;
        kv_wire_answer_put(&b, bytes);
        struct codec_cursor again = codec_cursor_of(buf_str(&b));
        must(str_eq(kv_wire_answer_next(&again), bytes) && !again.bad);
    }
    buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static void (*const try[])(struct str s) = {parts_try, order_try, frozen_try, meta_try,
                                                rows_try,  rows_sent, answers_try};
    if (n > 0)
        try[p[0] % countof(try)](str_view(p + 1, n - 1));
    return 0;
}
