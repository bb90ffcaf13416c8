/* Commands, rows, queries, replies and effects of inbox that somebody else made.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The input is a run of pieces, each a letter, a 16 bit length and bytes: c a command, q a query, a
 * an answer (reply, effect, fetch), r a row (key, then value behind a 16 bit length).  The machine
 * is checked at the end. */
#include "base/mem.h"
#include "codec/cursor.h"
#include "inbox/inbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void read_effect(struct str s)
{
    struct inbox_effect e;
    struct inbox_push push;
    struct inbox_sub sub;
    if (!inbox_effect_decode(s, &e))
        return;
    for (struct str rest = e.rest; inbox_effect_push(&rest, &push);)
        must(push.sub_id_count <= INBOX_SUB_IDS_MAX);
    for (struct str rest = e.rest; inbox_effect_filter(&rest, &sub);)
        must(sub.filter.n <= s.n);
}

static void read_answer(struct str s)
{
    struct inbox_reply r;
    struct inbox_mark mark;
    struct inbox_fetch f;
    struct inbox_fetched m;
    struct inbox_state state;
    struct inbox_stat stat;
    struct inbox_owner owner;
    struct str message;
    uint64_t n;
    uint16_t id;
    if (inbox_reply_decode(s, &r)) {
        for (struct str rest = r.marks; inbox_reply_mark(&rest, &mark);)
            must(mark.phase <= INBOX_PHASE_DONE);
        for (struct str rest = r.received; inbox_reply_received(&rest, &id, &n);)
            must(rest.n < s.n);
    }
    if (inbox_fetch_begin(s, &f)) {
        while (inbox_fetch_next(&f, &m))
            must(m.head.sub_id_count <= INBOX_SUB_IDS_MAX);
    }
    for (struct str rest = s; inbox_reply_owner(&rest, &owner, &n);)
        must(rest.n < s.n);
    struct inbox_list l;
    if (inbox_list_begin(s, &l))
        while (inbox_list_next(&l, &message, &state))
            must(l.rest.n < s.n);
    if (inbox_reply_state(s, &state) && inbox_reply_stat(s, &stat) && inbox_reply_body(s, &message))
        return;
    read_effect(s);
}

static void play(const struct range_machine_ops *ops, void *m, uint8_t letter, struct str s)
{
    static const uint64_t ms = UINT64_C(1000) << 16;
    struct range_out out = {.row_count = 0};
    struct buf reply = {0};
    struct range_scan scan;
    if (letter == 'c') {
        ops->apply(m, &(struct range_apply){.index = 1, .hlc = ms, .command = s, .has_host = true},
                   &out);
        for (size_t i = 0; i < out.effect_count; i++)
            read_effect(range_out_effect_get(&out, i));
        read_answer(buf_str(&out.reply));
    } else if (letter == 'q') {
        must(ops->query(m, ms, s, &reply, &scan) >= 0);
    } else if (letter == 'a') {
        read_answer(s);
    } else if (letter == 's') {
        ops->split_key(m, s, &reply);
    }
    range_out_deinit(&out);
    buf_deinit(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct range_machine_ops *ops = inbox_machine();
    void *m = ops->new (NULL);
    struct codec_cursor c = codec_cursor_of(str_view(p, n));
    ops->reset(m, &(struct range_bounds){.is_open = true});
    bool is_loading = true;
    while (codec_cursor_left(&c) > 0) {
        uint8_t letter = codec_cursor_u8(&c);
        struct str s = codec_cursor_str16(&c);
        if (letter == 'r' && is_loading) {
            ops->load(m, s, codec_cursor_str16(&c));
            continue;
        }
        if (is_loading)
            ops->loaded(m);
        is_loading = false;
        play(ops, m, letter, s);
    }
    if (is_loading)
        ops->loaded(m);
    struct buf due = {0};
    (void)ops->tick(m, UINT64_MAX, &due);
    if (due.n > 0)
        play(ops, m, 'c', buf_str(&due));
    (void)ops->state_hash(m);
    buf_deinit(&due);
    ops->free(m);
    return 0;
}
