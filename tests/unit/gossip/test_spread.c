/* The queue of rumours.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "base/rng.h"
#include "gossip/spread.h"

static void take(void *arg, struct str msg)
{
    buf_put_str(arg, msg);
    buf_put_u8(arg, ' ');
}

/* Messages are 40 bytes long and known by their first letter. */
static struct str text(char letter)
{
    static char t[8][40];
    static unsigned at;
    char *p = t[at++ % 8];
    memset(p, '.', 40);
    p[0] = letter;
    return str_view(p, 40);
}

static struct str letters(struct buf *b)
{
    static char out[64];
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] >= 'A' && b->p[i] <= 'Z')
            out[n++] = (char)b->p[i];
    b->n = 0;
    return str_view(out, n);
}

START_TEST(test_order_and_limit)
{
    struct gossip_spread q;
    struct buf b = {0};
    gossip_spread_init(&q);
    gossip_spread_put(&q, 1, GOSSIP_RANK_ROW, text('R'));
    gossip_spread_put(&q, 2, GOSSIP_RANK_SUSPECT, text('S'));
    gossip_spread_put(&q, 3, GOSSIP_RANK_ALIVE, text('A'));
    gossip_spread_put(&q, 4, GOSSIP_RANK_GONE, text('D'));
    gossip_spread_put(&q, 5, GOSSIP_RANK_REFUTE, text('X'));
    gossip_spread_check(&q);
    gossip_spread_take(&q, 2, 1000, take, &b);
    ck_str(letters(&b), STR("XDASR"));
    for (unsigned i = 0; i < 3; i++) { /* few have twice the limit */
        ck_assert_uint_eq(gossip_spread_len(&q), 5);
        gossip_spread_take(&q, 2, 100, take, &b); /* room for two */
        ck_str(letters(&b), STR("XD"));
    }
    ck_assert_uint_eq(gossip_spread_len(&q), 3); /* those two have had their transmits */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(gossip_spread_len(&q), 3);
        gossip_spread_take(&q, 2, 1000, take, &b);
        ck_str(letters(&b), STR("ASR"));
    }
    ck_assert_uint_eq(gossip_spread_len(&q), 0);
    gossip_spread_deinit(&q);
    buf_deinit(&b);
}
END_TEST

START_TEST(test_newer_replaces_older)
{
    struct gossip_spread q;
    struct buf b = {0};
    gossip_spread_init(&q);
    gossip_spread_put(&q, 7, GOSSIP_RANK_SUSPECT, text('S'));
    gossip_spread_take(&q, 9, 1000, take, &b);
    b.n = 0;
    gossip_spread_put(&q, 7, GOSSIP_RANK_ALIVE, text('A'));
    ck_assert(gossip_spread_has(&q, 7));
    gossip_spread_take(&q, 9, 1000, take, &b);
    ck_str(letters(&b), STR("A"));
    /* what was sent less goes before what was sent more */
    gossip_spread_put(&q, 8, GOSSIP_RANK_ALIVE, text('B'));
    gossip_spread_take(&q, 9, 50, take, &b);
    ck_str(letters(&b), STR("B"));
    gossip_spread_del(&q, 7);
    ck_assert(!gossip_spread_has(&q, 7));
    gossip_spread_check(&q);
    gossip_spread_deinit(&q);
    buf_deinit(&b);
}
END_TEST

/* Many rows have the ordinary limit, so that a flood of them is not twice as long. */
START_TEST(test_many_rows_have_the_ordinary_limit)
{
    struct gossip_spread q;
    struct buf b = {0};
    gossip_spread_init(&q);
    for (uint64_t i = 0; i < GOSSIP_SPREAD_FEW + 1; i++)
        gossip_spread_put(&q, 1 + i, GOSSIP_RANK_ROW, text('R'));
    gossip_spread_take(&q, 2, 1000, take, &b);
    ck_assert_uint_eq(gossip_spread_len(&q), GOSSIP_SPREAD_FEW + 1);
    gossip_spread_take(&q, 2, 1000, take, &b);
    ck_assert_uint_eq(gossip_spread_len(&q), 0);
    gossip_spread_check(&q);
    gossip_spread_deinit(&q);
    buf_deinit(&b);
}
END_TEST

START_TEST(test_rows_are_bounded)
{
    struct gossip_spread q;
    struct rng r;
    rng_init(&r, 1);
    gossip_spread_init(&q);
    gossip_spread_put(&q, 1, GOSSIP_RANK_GONE, text('D'));
    for (uint64_t i = 0; i < GOSSIP_SPREAD_ROWS_MAX + 500; i++)
        gossip_spread_put(&q, 1000 + i, GOSSIP_RANK_ROW, text('R'));
    gossip_spread_check(&q);
    ck_assert_uint_eq(gossip_spread_len(&q), GOSSIP_SPREAD_ROWS_MAX + 1);
    ck_assert(gossip_spread_has(&q, 1));
    gossip_spread_deinit(&q);
}
END_TEST

/* However many are too long for the room there is, one that fits is found; behind one that was sent
 * it is not looked for for ever. */
START_TEST(test_long_ones_hide_nobody)
{
    struct gossip_spread q;
    struct buf b = {0};
    char large[400];
    memset(large, '.', sizeof large);
    gossip_spread_init(&q);
    gossip_spread_put(&q, 1, GOSSIP_RANK_ROW, text('A'));
    for (uint64_t i = 0; i < 200; i++)
        gossip_spread_put(&q, 10 + i, GOSSIP_RANK_ROW, str_view(large, sizeof large));
    gossip_spread_take(&q, 9, 300, take, &b);
    ck_str(letters(&b), STR("A"));
    gossip_spread_put(&q, 2, GOSSIP_RANK_ROW, text('B'));
    for (uint64_t i = 0; i < 20; i++)
        gossip_spread_put(&q, 300 + i, GOSSIP_RANK_ROW, str_view(large, sizeof large));
    gossip_spread_put(&q, 3, GOSSIP_RANK_ROW, text('C'));
    gossip_spread_take(&q, 9, 300, take, &b); /* 20 are too long between these two */
    ck_str(letters(&b), STR("CB"));
    gossip_spread_check(&q);
    gossip_spread_deinit(&q);
    buf_deinit(&b);
}
END_TEST

Suite *suite_spread(void);

Suite *suite_spread(void)
{
    Suite *s = suite_create("spread");
    TCase *t = tcase_create("spread");
    tcase_add_test(t, test_order_and_limit);
    tcase_add_test(t, test_newer_replaces_older);
    tcase_add_test(t, test_many_rows_have_the_ordinary_limit);
    tcase_add_test(t, test_rows_are_bounded);
    tcase_add_test(t, test_long_ones_hide_nobody);
    suite_add_tcase(s, t);
    return s;
}
