/* The records of messages: their bytes are promised to other versions.  SPDX-License-
 * Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/mem.h"
#include "raft/message.h"
#include "unit/raft/suites.h"

static const struct raft_entry three[] = {
    {.index = 8, .term = 2, .payload = {"ab", 2}, .type = RAFT_ENTRY_DATA},
    {.index = 9, .term = 3, .type = RAFT_ENTRY_NOOP},
    {.index = 10, .term = 3, .payload = {"c", 1}, .type = RAFT_ENTRY_DATA},
};

/* One of each type with every field that it uses, and its record. */
static const struct golden {
    struct raft_message m;
    const char *hex;
} golden[] = {
#include "unit/raft/message_golden.inc"
};

static void hex_of(struct str s, char *out, size_t cap)
{
    out[0] = 0;
    for (size_t i = 0; i < s.n && 2 * i + 3 < cap; i++)
        snprintf(out + 2 * i, 3, "%02x", (unsigned)(uint8_t)s.p[i]);
}

static void check_same(const struct raft_message *a, const struct raft_message *b)
{
    ck_assert_uint_eq(a->type, b->type);
    ck_assert_uint_eq(a->to, b->to);
    ck_assert_uint_eq(a->from, b->from);
    ck_assert_uint_eq(a->term, b->term);
    ck_assert_uint_eq(a->index, b->index);
    ck_assert_uint_eq(a->log_term, b->log_term);
    ck_assert_uint_eq(a->commit, b->commit);
    ck_assert_uint_eq(a->round, b->round);
    ck_assert_uint_eq(a->stamp, b->stamp);
    ck_assert_uint_eq(a->epoch, b->epoch);
    ck_assert_uint_eq(a->hint, b->hint);
    ck_assert_uint_eq(a->hint_term, b->hint_term);
    ck_assert_int_eq(a->is_refused, b->is_refused);
    ck_assert_int_eq(a->is_quiet, b->is_quiet);
    ck_str(a->config, b->config);
    ck_assert_uint_eq(a->entry_count, b->entry_count);
    for (uint32_t i = 0; i < a->entry_count; i++) {
        ck_assert_uint_eq(a->entry[i].index, b->entry[i].index);
        ck_assert_uint_eq(a->entry[i].term, b->entry[i].term);
        ck_assert_uint_eq(a->entry[i].type, b->entry[i].type);
        ck_str(a->entry[i].payload, b->entry[i].payload);
    }
}

START_TEST(test_golden)
{
    struct raft_message_store store = {0};
    bool seen[RAFT_MSG_REMOVED + 1] = {0};
    for (size_t i = 0; i < countof(golden); i++) {
        struct buf b = {0};
        char hex[512];
        struct raft_message back;
        raft_message_encode(&golden[i].m, &b);
        hex_of(buf_str(&b), hex, sizeof hex);
        ck_assert_msg(strcmp(hex, golden[i].hex) == 0, "%s is now %s",
                      raft_message_name(golden[i].m.type), hex);
        ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), 0);
        check_same(&golden[i].m, &back);
        seen[back.type] = true;
        for (size_t n = 0; n < b.n; n++) /* cut short: refused, or sound with less */
            (void)!raft_message_decode(str_view(b.p, n), &store, &back);
        buf_deinit(&b);
    }
    for (size_t t = 1; t < countof(seen); t++)
        ck_assert_msg(seen[t], "no golden %s", raft_message_name((uint8_t)t));
    mem_free(store.entry);
}
END_TEST

START_TEST(test_refused)
{
    struct raft_message_store store = {0};
    struct raft_message m = {.type = RAFT_MSG_APPEND,
                             .to = 1,
                             .from = 2,
                             .term = 3,
                             .index = 7,
                             .log_term = 3,
                             .entry = three,
                             .entry_count = 3},
                        back;
    struct buf b = {0};
    raft_message_encode(&m, &b); /* the first entry's term is below log_term */
    ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), RAFT_MESSAGE_E_MALFORMED);
    b.n = 0;
    m.log_term = 2;
    m.term = 2; /* an entry of a later term than its sender's */
    raft_message_encode(&m, &b);
    ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), RAFT_MESSAGE_E_MALFORMED);
    static const struct raft_message bad[] = {
        {.type = RAFT_MSG_VOTE, .to = 0, .from = 2, .term = 3},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 0, .term = 3},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = 0},
        {.type = 99, .to = 1, .from = 2, .term = 3},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = 3, .index = UINT64_MAX},
    };
    for (size_t i = 0; i < countof(bad); i++) {
        b.n = 0;
        raft_message_encode(&bad[i], &b);
        ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), RAFT_MESSAGE_E_MALFORMED);
    }
    buf_deinit(&b);
    mem_free(store.entry);
}
END_TEST

START_TEST(test_too_many)
{
    struct raft_message_store store = {0};
    struct raft_entry *e = mem_new((RAFT_MESSAGE_ENTRY_MAX + 1) * sizeof *e);
    for (uint64_t i = 0; i <= RAFT_MESSAGE_ENTRY_MAX; i++)
        e[i] = (struct raft_entry){.index = i + 1, .term = 1};
    struct raft_message m = {.type = RAFT_MSG_APPEND,
                             .to = 1,
                             .from = 2,
                             .term = 1,
                             .entry = e,
                             .entry_count = RAFT_MESSAGE_ENTRY_MAX},
                        back;
    struct buf b = {0};
    raft_message_encode(&m, &b);
    ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), 0);
    m.entry_count++;
    b.n = 0;
    raft_message_encode(&m, &b);
    ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &back), RAFT_MESSAGE_E_TOO_LONG);
    buf_deinit(&b);
    mem_free(e);
    mem_free(store.entry);
}
END_TEST

Suite *suite_message(void)
{
    Suite *s = suite_create("message");
    TCase *t = tcase_create("message");
    tcase_add_test(t, test_golden);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_too_many);
    suite_add_tcase(s, t);
    return s;
}
