/* The overlay table.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "gossip/gossip_priv.h"

static const struct uuid us = {.b = {1}}, them = {.b = {2}};
static struct gossip_table t;
static struct gossip_out out;

static void setup(void)
{
    gossip_table_init(&t, &us, 10);
    out = (struct gossip_out){0};
}

static void teardown(void)
{
    gossip_table_check(&t);
    gossip_table_deinit(&t);
    gossip_out_deinit(&out);
}

static struct gossip_row row(const struct uuid *owner, uint64_t epoch, uint64_t seq,
                             const char *key, const char *value)
{
    return (struct gossip_row){
        .owner = *owner,
        .epoch = epoch,
        .space = 1,
        .seq = seq,
        .is_tombstone = value == NULL,
        .version = seq,
        .key = str_of(key),
        .value = str_of(value),
    };
}

static int apply(struct gossip_row r)
{
    gossip_out_reset(&out);
    return gossip_table_apply(&t, &r, 0, &out);
}

static const char *seen(const char *key)
{
    const struct gossip_row *r = gossip_table_find(&t, 1, str_of(key), NULL);
    static char text[64];
    if (r == NULL)
        return "-";
    str_copy(text, sizeof text, r->value);
    return text;
}

START_TEST(test_rows_live_with_their_owner)
{
    ck_assert_int_eq(apply(row(&them, 5, 1, "a", "x")), 0);
    ck_assert_str_eq(seen("a"), "-"); /* not a member yet */
    ck_assert_uint_eq(out.count, 0);
    gossip_table_show(&t, &them, 5, true, &out);
    ck_assert_str_eq(seen("a"), "x");
    ck_assert_uint_eq(out.count, 1);
    uint64_t hash = gossip_table_hash(&t);
    gossip_table_show(&t, &them, 5, false, &out);
    ck_assert_str_eq(seen("a"), "-");
    gossip_table_show(&t, &them, 5, true, &out);
    ck_assert_uint_eq(gossip_table_hash(&t), hash);
    /* a newer life begins with nothing */
    ck_assert_int_eq(apply(row(&them, 6, 1, "b", "y")), 0);
    ck_assert_str_eq(seen("a"), "-");
    ck_assert_str_eq(seen("b"), "-");
    ck_assert_int_eq(apply(row(&them, 5, 2, "a", "z")), GOSSIP_TABLE_E_STALE);
    gossip_table_show(&t, &them, 6, true, &out);
    ck_assert_str_eq(seen("b"), "y");
    gossip_table_forget(&t, &them, &out);
    ck_assert_str_eq(seen("b"), "-");
    ck_assert_uint_eq(gossip_table_count(&t), 0);
}
END_TEST

START_TEST(test_a_number_is_of_one_row)
{
    ck_assert_int_eq(apply(row(&them, 5, 4, "a", "x")), 0);
    ck_assert_int_eq(apply(row(&them, 5, 4, "b", "y")), GOSSIP_TABLE_E_STALE);
    ck_assert_int_eq(apply(row(&them, 5, 2, "b", "y")), 0);
    ck_assert_int_eq(apply(row(&them, 5, 4, "b", "z")), GOSSIP_TABLE_E_STALE);
    gossip_table_show(&t, &them, 5, true, &out);
    ck_assert_str_eq(seen("a"), "x");
    ck_assert_str_eq(seen("b"), "y");
    gossip_table_check(&t);
}
END_TEST

START_TEST(test_order_does_not_matter)
{
    gossip_table_show(&t, &them, 5, true, &out);
    ck_assert_int_eq(apply(row(&them, 5, 3, "a", "3")), 0);
    ck_assert_int_eq(apply(row(&them, 5, 1, "a", "1")), GOSSIP_TABLE_E_STALE);
    ck_assert_str_eq(seen("a"), "3");
    const struct table_owner *o = gossip_table_owner(&t, &them);
    ck_assert_uint_eq(o->upto, 1); /* 2 is missing */
    ck_assert_int_eq(apply(row(&them, 5, 2, "b", "2")), 0);
    ck_assert_uint_eq(o->upto, 3);
    struct gossip_row r = row(&them, 5, 5, "b", NULL); /* says that it took the place of 4 */
    r.replaces = 4;
    ck_assert_int_eq(apply(r), 0);
    ck_assert_uint_eq(o->upto, 5);
    ck_assert_str_eq(seen("b"), "-");
}
END_TEST

START_TEST(test_reset_drops_what_is_gone)
{
    gossip_table_show(&t, &them, 5, true, &out);
    ck_assert_int_eq(apply(row(&them, 5, 1, "a", "1")), 0);
    ck_assert_int_eq(apply(row(&them, 5, 2, "b", "2")), 0);
    /* the owner deleted a long ago: its tombstone is forgotten, the floor is 3 */
    ck_assert(gossip_table_delta_begin(&t, &them, 5, 0, &out));
    ck_assert_int_eq(apply(row(&them, 5, 2, "b", "2")), GOSSIP_TABLE_E_STALE);
    ck_assert_int_eq(apply(row(&them, 5, 4, "c", "4")), 0);
    struct table_delta d = {.uuid = &them, .after = 0, .upto = 4, .floor = 3, .reset = true};
    gossip_table_delta_end(&t, &d, &out);
    ck_assert_str_eq(seen("a"), "-");
    ck_assert_str_eq(seen("b"), "2");
    ck_assert_str_eq(seen("c"), "4");
    ck_assert_uint_eq(gossip_table_owner(&t, &them)->upto, 4);
    ck_assert_int_eq(apply(row(&them, 5, 1, "a", "1")),
                     GOSSIP_TABLE_E_STALE);                      /* it does not come back */
    ck_assert(!gossip_table_delta_begin(&t, &them, 5, 9, &out)); /* a gap */
    ck_assert(!gossip_table_delta_begin(&t, &us, 10, 0, &out));  /* nobody knows ours better */
}
END_TEST

START_TEST(test_last_writer_wins)
{
    struct gossip_row a = row(&us, 0, 0, "k", "old"), b = row(&them, 0, 0, "k", "new");
    a.space = b.space = 200;
    a.version = 100;
    b.version = 101;
    ck_assert_int_eq(apply(b), 0);
    ck_assert_int_eq(apply(a), GOSSIP_TABLE_E_STALE);
    a.version = 101; /* a tie: the larger uuid */
    ck_assert_int_eq(apply(a), GOSSIP_TABLE_E_STALE);
    const struct gossip_row *written;
    a.version = 50; /* our own clock is behind: what we write is later all the same */
    a.value = STR("newest");
    ck_assert_int_eq(gossip_table_write(&t, &a, 0, &out, &written), 0);
    ck_assert_uint_eq(written->version, 102);
    ck_str(gossip_table_find(&t, 200, STR("k"), NULL)->value, STR("newest"));
    ck_assert_int_eq(gossip_table_write(&t, &a, 0, &out, &written), 0);
    ck_assert_ptr_null(written); /* nothing new in it */
}
END_TEST

START_TEST(test_walks_and_limits)
{
    static char big[GOSSIP_VALUE_MAX + 1];
    const struct gossip_row *w;
    static const char *const keys[] = {"b/2", "a/1", "b/1", "c"};
    for (unsigned i = 0; i < countof(keys); i++) {
        struct gossip_row r = row(&us, 10, 0, keys[i], "v");
        ck_assert_int_eq(gossip_table_write(&t, &r, 0, &out, &w), 0);
    }
    size_t at = 0;
    ck_str(gossip_table_next(&t, 1, STR("b/"), &at)->key, STR("b/1"));
    ck_str(gossip_table_next(&t, 1, STR("b/"), &at)->key, STR("b/2"));
    ck_assert_ptr_null(gossip_table_next(&t, 1, STR("b/"), &at));
    struct gossip_row r = row(&us, 10, 0, "", "v");
    ck_assert_int_eq(gossip_table_write(&t, &r, 0, &out, &w), GOSSIP_TABLE_E_TOO_LONG);
    r.key = STR("big");
    r.value = str_view(big, sizeof big);
    ck_assert_int_eq(gossip_table_write(&t, &r, 0, &out, &w), GOSSIP_TABLE_E_TOO_LONG);
    for (unsigned i = 0; i < GOSSIP_OWNER_ROWS_MAX; i++) {
        char key[16];
        snprintf(key, sizeof key, "n%u", i);
        r = row(&us, 10, 0, key, "v");
        int e = gossip_table_write(&t, &r, 0, &out, &w);
        ck_assert_int_eq(e, i + countof(keys) < GOSSIP_OWNER_ROWS_MAX ? 0 : GOSSIP_TABLE_E_FULL);
    }
}
END_TEST

START_TEST(test_tombstones_are_forgotten)
{
    const struct gossip_row *w;
    struct gossip_row r = row(&us, 10, 0, "k", "v");
    ck_assert_int_eq(gossip_table_write(&t, &r, 0, &out, &w), 0);
    r = row(&us, 10, 0, "k", NULL);
    r.value = STR("");
    ck_assert_int_eq(gossip_table_write(&t, &r, 0, &out, &w), 0);
    ck_assert_uint_eq(gossip_table_count(&t), 1);
    gossip_table_expire(&t, 100 * USEC_SEC, 0);
    ck_assert_uint_eq(gossip_table_count(&t), 1);
    gossip_table_expire(&t, 700 * USEC_SEC, 0);
    ck_assert_uint_eq(gossip_table_count(&t), 0);
    ck_assert_uint_eq(gossip_table_owner(&t, &us)->floor, 2);
}
END_TEST

Suite *suite_table(void);

Suite *suite_table(void)
{
    Suite *s = suite_create("table");
    TCase *c = tcase_create("table");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_rows_live_with_their_owner);
    tcase_add_test(c, test_a_number_is_of_one_row);
    tcase_add_test(c, test_order_does_not_matter);
    tcase_add_test(c, test_reset_drops_what_is_gone);
    tcase_add_test(c, test_last_writer_wins);
    tcase_add_test(c, test_walks_and_limits);
    tcase_add_test(c, test_tombstones_are_forgotten);
    suite_add_tcase(s, c);
    return s;
}
