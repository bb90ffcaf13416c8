/* Records of kv: there and back, and nothing else is believed.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/wire_priv.h"
#include "range/command.h"
#include "unit/kv/suites.h"

START_TEST(requests)
{
    struct buf data = {0}, b = {0};
    struct kv_wire_request w;
    range_command_add(&data, STR("one"));
    range_command_add(&data, STR(""));
    kv_wire_propose_encode(
        &(struct kv_wire_propose){
            .store = 7, .tag = 8, .boundary = 9, .convoy = {3, 4, 5}, .data = buf_str(&data)},
        &b);
    ck_assert_int_eq(kv_wire_request_decode(buf_str(&b), &w), 0);
    ck_assert_int_eq(w.kind, KV_WIRE_PROPOSE);
    ck_assert_uint_eq(w.propose.count, 2);
    ck_assert_uint_eq(w.propose.boundary, 9);
    ck_assert(w.propose.convoy.sender == 3 && w.propose.convoy.id == 4 &&
              w.propose.convoy.place == 5);
    ck_str(w.propose.data, buf_str(&data));
    for (size_t n = 0; n < b.n; n++) /* every cut is refused */
        ck_assert_int_ne(kv_wire_request_decode(str_view(b.p, n), &w), 0);

    b.n = 0;
    kv_wire_query_encode(&(struct kv_wire_query){1, 2, true, STR("k"), STR("req")}, &b);
    ck_assert_int_eq(kv_wire_request_decode(buf_str(&b), &w), 0);
    ck_assert(w.kind == KV_WIRE_QUERY && w.query.is_stale);
    ck_str(w.query.request, STR("req"));

    b.n = 0;
    struct kv_wire_command cmd = {.store = 1,
                                  .tag = 2,
                                  .kind = 3,
                                  .version = 4,
                                  .node_count = 2,
                                  .voter_count = 1,
                                  .key = STR("x")};
    cmd.node[0].b[0] = 1;
    cmd.node[1].b[0] = 2;
    kv_wire_command_encode(&cmd, &b);
    ck_assert_int_eq(kv_wire_request_decode(buf_str(&b), &w), 0);
    ck_assert(w.kind == KV_WIRE_COMMAND && w.command.node_count == 2 && w.command.voter_count == 1);
    ck_assert(uuid_eq(&w.command.node[1], &cmd.node[1]));
    buf_deinit(&b);
    buf_deinit(&data);
}
END_TEST

START_TEST(frames)
{
    struct buf b = {0};
    enum kv_wire_frame kind;
    uint64_t tag;
    struct str body;
    size_t at = kv_wire_frame_open(&b, KV_WIRE_FRAME_RAFT, 5);
    buf_put_str(&b, STR("hello"));
    kv_wire_frame_close(&b, at);
    at = kv_wire_frame_open(&b, KV_WIRE_FRAME_UNKNOWN, 6);
    kv_wire_frame_close(&b, at);
    struct codec_cursor c = codec_cursor_of(buf_str(&b));
    ck_assert(kv_wire_frame_next(&c, &kind, &tag, &body));
    ck_assert(kind == KV_WIRE_FRAME_RAFT && tag == 5);
    ck_str(body, STR("hello"));
    ck_assert(kv_wire_frame_next(&c, &kind, &tag, &body));
    ck_assert(kind == KV_WIRE_FRAME_UNKNOWN && tag == 6 && body.n == 0);
    ck_assert(!kv_wire_frame_next(&c, &kind, &tag, &body));
    ck_assert(!c.bad);
    c = codec_cursor_of(str_view(b.p, b.n - 1));
    ck_assert(kv_wire_frame_next(&c, &kind, &tag, &body));
    ck_assert(!kv_wire_frame_next(&c, &kind, &tag, &body));
    ck_assert(c.bad);
    buf_deinit(&b);
}
END_TEST

START_TEST(replies_and_disk)
{
    struct buf b = {0};
    struct kv_wire_reply r = {.answer = {.status = KV_WIRE_NOT_LEADER, .term = 3},
                              .bytes = STR("x"),
                              .end = STR("e")},
                         g;
    r.answer.leader.b[3] = 9;
    kv_wire_reply_encode(&r, &b);
    ck_assert_int_eq(kv_wire_reply_decode(buf_str(&b), &g), 0);
    ck_assert(g.answer.status == KV_WIRE_NOT_LEADER && g.answer.term == 3 &&
              uuid_eq(&g.answer.leader, &r.answer.leader));
    ck_str(g.bytes, STR("x"));
    ck_str(g.end, STR("e"));
    ck_assert(kv_wire_reply_is_of(&g, STR("dz")) && !kv_wire_reply_is_of(&g, STR("e")));
    g.is_last = true;
    ck_assert(kv_wire_reply_is_of(&g, STR("f")));
    b.n = 0;
    kv_wire_applied_encode(&(struct kv_wire_applied){UINT64_MAX, UINT64_MAX, UINT64_MAX}, &b);
    ck_assert_uint_le(b.n, 64);
    struct kv_wire_applied a;
    ck_assert_int_eq(kv_wire_applied_decode(buf_str(&b), &a), 0);
    ck_assert_uint_eq(a.hlc, UINT64_MAX);
    b.n = 0;
    kv_wire_replica_encode(&(struct kv_wire_replica){.store = STR("s"),
                                                     .id = {1, 2},
                                                     .replica = 3,
                                                     .is_founded = true,
                                                     .space = 4,
                                                     .config = STR("c"),
                                                     .range = STR("r")},
                           &b);
    struct kv_wire_replica p;
    ck_assert_int_eq(kv_wire_replica_decode(buf_str(&b), &p), 0);
    ck_assert(p.is_founded && !p.is_split_born && p.id.id == 2 && p.space == 4);
    ck_str(p.config, STR("c"));
    buf_deinit(&b);
}
END_TEST

/* Takes pieces of the kinds that are wanted, R, M, E and B, off s; short: what is left is not enough for one more. */
static void ck_pieces(struct str s, struct kv_wire_rows *r, const char *wanted, bool is_short)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct str key, value;
    for (; *wanted; wanted++) {
        enum kv_wire_piece piece = kv_wire_row_next(r, &c, &key, &value);
        ck_assert_int_eq(piece, *wanted == 'R'   ? KV_WIRE_PIECE_ROW
                                : *wanted == 'M' ? KV_WIRE_PIECE_MARK
                                : *wanted == 'E' ? KV_WIRE_PIECE_END
                                                 : KV_WIRE_PIECE_BAD);
    }
    if (is_short)
        ck_assert_int_eq(kv_wire_row_next(r, &c, &key, &value), KV_WIRE_PIECE_SHORT);
}

START_TEST(rows_are_summed_up_at_marks)
{
    struct buf b = {0};
    struct kv_wire_rows out = {0}, in = {0}, half;
    kv_wire_row_put(&out, STR("a"), STR("1"), &b);
    kv_wire_row_put(&out, STR("b"), STR(""), &b);
    kv_wire_rows_mark(&out, &b);
    size_t mark = b.n;
    kv_wire_row_put(&out, STR("c"), STR("3"), &b);
    kv_wire_rows_end(&out, &b);
    ck_pieces(buf_str(&b), &in, "RRMRE", false);
    ck_assert(in.count == 3 && in.is_end);

    in = (struct kv_wire_rows){0}; /* cut off before the end, and gone on with from the mark */
    ck_pieces(str_view(b.p, b.n - 1), &in, "RRMR", true);
    in = (struct kv_wire_rows){0};
    ck_pieces(str_view(b.p, mark), &in, "RRM", true);
    half = in;
    ck_pieces(str_view(b.p + mark, b.n - mark), &in, "RE", false);
    ck_pieces(str_view(b.p, b.n), &half, "RRB",
              false); /* from the beginning on: that is not the rest */

    for (size_t i = 0; i < mark;
         i++) { /* each damaged byte is found at the mark at the latest, or waits for more */
        b.p[i] ^= 0x10;
        struct codec_cursor c = codec_cursor_of(str_view(b.p, mark));
        enum kv_wire_piece piece;
        struct str key, value;
        in = (struct kv_wire_rows){0};
        do
            piece = kv_wire_row_next(&in, &c, &key, &value);
        while (piece == KV_WIRE_PIECE_ROW);
        ck_assert(piece == KV_WIRE_PIECE_BAD || piece == KV_WIRE_PIECE_SHORT);
        b.p[i] ^= 0x10;
    }
    buf_deinit(&b);
}
END_TEST

START_TEST(heads_of_snapshots)
{
    struct buf b = {0}, held = {0};
    struct kv_wire_ship h;
    struct kv_wire_held k;
    kv_wire_held_encode(&(struct kv_wire_held){7, 2, 1000, UINT32_MAX, STR("key")}, &held);
    kv_wire_ship_encode(&(struct kv_wire_ship){.store = 1,
                                               .id = {2, 3},
                                               .range = STR("r"),
                                               .message = STR("m"),
                                               .held = buf_str(&held)},
                        &b);
    ck_assert_int_eq(kv_wire_ship_decode(buf_str(&b), &h), 0);
    ck_assert(h.store == 1 && h.id.id == 3 && !h.is_question);
    ck_assert_int_eq(kv_wire_held_decode(h.held, &k), 0);
    ck_assert(k.index == 7 && k.term == 2 && k.count == 1000 && k.crc == UINT32_MAX);
    ck_str(k.key, STR("key"));
    b.n = 0;
    kv_wire_ship_encode(&(struct kv_wire_ship){.store = 1, .id = {2, 3}, .range = STR("r")}, &b);
    ck_assert_int_ne(kv_wire_ship_decode(buf_str(&b), &h), 0); /* of what raft knows nothing */
    b.n = 0;
    kv_wire_ship_encode(&(struct kv_wire_ship){.store = 1, .id = {2, 3}, .is_question = true}, &b);
    ck_assert_int_eq(kv_wire_ship_decode(buf_str(&b), &h), 0);
    ck_assert(h.is_question && h.held.n == 0);
    ck_assert_int_ne(kv_wire_held_decode(buf_str(&b), &k), 0);
    buf_deinit(&held);
    buf_deinit(&b);
}
END_TEST

Suite *suite_wire(void)
{
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("records");
    tcase_add_test(t, requests);
    tcase_add_test(t, frames);
    tcase_add_test(t, replies_and_disk);
    tcase_add_test(t, rows_are_summed_up_at_marks);
    tcase_add_test(t, heads_of_snapshots);
    suite_add_tcase(s, t);
    return s;
}
