/* Sealed packets: what opens and what does not.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "base/rng.h"
#include "cluster/seal_priv.h"

static const struct uuid a_name = {.b = {1}}, b_name = {.b = {2}};
static const struct cluster_key one = {.id = 1, .bytes = {1}}, other = {.id = 1, .bytes = {9}},
                                two = {.id = 2, .bytes = {2}};

static struct cluster_seal *a, *b;
static struct buf sealed, got;

static void pair(const struct cluster_key *of_a, const struct cluster_key *of_b, struct str env_b)
{
    a = cluster_seal_new(&a_name, 5, STR("env"), of_a, of_a != NULL);
    b = cluster_seal_new(&b_name, 6, env_b, of_b, of_b != NULL);
}

static void teardown(void)
{
    a = cluster_seal_free(a);
    b = cluster_seal_free(b);
    buf_deinit(&sealed);
    buf_deinit(&got);
}

static int carry(void)
{
    sealed.n = 0;
    cluster_seal_put(a, STR("hello"), &sealed);
    return cluster_seal_get(b, buf_str(&sealed), &got);
}

START_TEST(test_opens_once)
{
    pair(&one, &one, STR("env"));
    ck_assert_int_eq(carry(), 0);
    ck_str(buf_str(&got), STR("hello"));
    ck_assert_uint_eq(sealed.n, 5 + CLUSTER_SEAL_OVERHEAD);
    ck_assert_ptr_null(memmem(sealed.p, sealed.n, "hello", 5));
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&sealed), &got), CLUSTER_SEAL_E_REPLAYED);
}
END_TEST

START_TEST(test_the_window)
{
    struct buf p[3] = {0};
    pair(&one, &one, STR("env"));
    for (unsigned i = 0; i < 3; i++)
        cluster_seal_put(a, STR("x"), &p[i]);
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&p[2]), &got), 0);
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&p[0]), &got), 0); /* overtaken, and still new */
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&p[0]), &got), CLUSTER_SEAL_E_REPLAYED);
    for (unsigned i = 0; i < 1100; i++)
        ck_assert_int_eq(carry(), 0);
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&p[1]), &got),
                     CLUSTER_SEAL_E_REPLAYED); /* too old to tell */
    for (unsigned i = 0; i < 3; i++)
        buf_deinit(&p[i]);
}
END_TEST

START_TEST(test_an_earlier_life_is_not_heard)
{
    struct buf old = {0};
    pair(&one, &one, STR("env"));
    cluster_seal_put(a, STR("x"), &old);
    a = cluster_seal_free(a);
    a = cluster_seal_new(&a_name, 7, STR("env"), &one, 1);
    ck_assert_int_eq(carry(), 0);
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&old), &got), CLUSTER_SEAL_E_REPLAYED);
    buf_deinit(&old);
}
END_TEST

START_TEST(test_foreigners)
{
    struct cluster_seal_reject rej;
    struct buf numbers = {0};
    pair(&one, &other, STR("env"));
    ck_assert_int_eq(carry(), CLUSTER_SEAL_E_FORGED);
    teardown();
    pair(&one, &two, STR("env"));
    ck_assert_int_eq(carry(), CLUSTER_SEAL_E_KEY);
    teardown();
    pair(NULL, &two, STR("env")); /* without protection, to one that wants it */
    ck_assert_int_eq(carry(), CLUSTER_SEAL_E_KEY);
    teardown();
    pair(&one, &one, STR("another"));
    ck_assert_int_eq(carry(), CLUSTER_SEAL_E_LABEL);
    sealed.n = 0;
    cluster_seal_reject(b, CLUSTER_SEAL_E_LABEL, &sealed);
    ck_assert_int_eq(cluster_seal_get(a, buf_str(&sealed), &got), CLUSTER_SEAL_E_REJECT);
    ck_assert(cluster_seal_reject_read(buf_str(&sealed), &rej));
    ck_assert_int_eq(rej.why, CLUSTER_SEAL_E_LABEL);
    ck_assert_uint_eq(rej.version, CLUSTER_SEAL_VERSION);
    ck_str(rej.env, STR("another"));
    cluster_seal_key_numbers_format(rej.keys, &numbers);
    ck_str(buf_str(&numbers), STR("1"));
    numbers.n = 0;
    cluster_seal_key_numbers_format(STR("\3\7"), &numbers);
    ck_str(buf_str(&numbers), STR("3, 7"));
    buf_deinit(&numbers);
    for (size_t n = 0; n < sealed.n; n++) /* cut off */
        ck_assert(!cluster_seal_reject_read(str_view(sealed.p, n), &rej));
    sealed.p[2]++; /* an answer of another version is understood */
    ck_assert(cluster_seal_reject_read(buf_str(&sealed), &rej));
    ck_assert_uint_eq(rej.version, CLUSTER_SEAL_VERSION + 1);
    teardown();
    pair(&one, &one, STR("env"));
    sealed.n = 0;
    cluster_seal_put(a, STR("hello"), &sealed);
    sealed.p[2]++;
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&sealed), &got), CLUSTER_SEAL_E_VERSION);
    teardown();
    pair(NULL, NULL, STR("env"));
    ck_assert_int_eq(carry(), 0);
}
END_TEST

START_TEST(test_keys_change_without_a_gap)
{
    const struct cluster_key both[] = {one, two}, turned[] = {two, one};
    pair(&one, &one, STR("env"));
    ck_assert_int_eq(carry(), 0);
    cluster_seal_keys(b, both, 2); /* installed */
    ck_assert_int_eq(carry(), 0);
    cluster_seal_keys(a, turned, 2); /* used */
    ck_assert_int_eq(carry(), 0);
    cluster_seal_keys(b, turned, 2);
    cluster_seal_keys(b, &two, 1); /* the old one removed */
    ck_assert_int_eq(carry(), 0);
    cluster_seal_keys(a, &one, 1);
    ck_assert_int_eq(carry(), CLUSTER_SEAL_E_KEY);
}
END_TEST

/* A head alone, or with less behind it than a tag or checksum takes, is no packet. */
START_TEST(test_a_head_alone)
{
    for (unsigned keys = 0; keys < 2; keys++) {
        pair(keys ? &one : NULL, keys ? &one : NULL, STR("env"));
        sealed.n = 0;
        cluster_seal_put(a, STR(""), &sealed);
        for (size_t n = CLUSTER_SEAL_HEAD_LEN; n < sealed.n; n++)
            ck_assert_int_eq(cluster_seal_get(b, str_view(sealed.p, n), &got), CLUSTER_SEAL_E_JUNK);
        ck_assert_int_eq(cluster_seal_get(b, buf_str(&sealed), &got), 0);
        a = cluster_seal_free(a);
        b = cluster_seal_free(b);
    }
}
END_TEST

/* A million packets that are not ours, many of them nearly. */
START_TEST(test_junk)
{
    struct rng r;
    uint8_t p[128];
    struct buf good = {0};
    rng_init(&r, 1);
    pair(&one, &one, STR("env"));
    cluster_seal_put(a, STR("a packet like any other"), &good);
    for (unsigned i = 0; i < 1000000; i++) {
        size_t n = rng_below(&r, sizeof p);
        if (i % 2 == 0) {
            for (size_t k = 0; k < n; k++)
                p[k] = (uint8_t)rng_u64(&r);
        } else {
            n = good.n;
            memcpy(p, good.p, n);
            if (i % 64 == 1) /* costs a decryption: some are enough */
                p[rng_below(&r, n)] ^= (uint8_t)(1u << rng_below(&r, 8));
            else
                n = rng_below(&r, CLUSTER_SEAL_HEAD_LEN);
        }
        ck_assert_int_ne(cluster_seal_get(b, str_view(p, n), &got), 0);
    }
    ck_assert_int_eq(cluster_seal_get(b, buf_str(&good), &got),
                     0); /* and the true one still opens */
    buf_deinit(&good);
}
END_TEST

Suite *suite_seal(void);

Suite *suite_seal(void)
{
    Suite *s = suite_create("seal");
    TCase *t = tcase_create("seal");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, test_opens_once);
    tcase_add_test(t, test_the_window);
    tcase_add_test(t, test_an_earlier_life_is_not_heard);
    tcase_add_test(t, test_foreigners);
    tcase_add_test(t, test_keys_change_without_a_gap);
    tcase_add_test(t, test_a_head_alone);
    tcase_add_test(t, test_junk);
    suite_add_tcase(s, t);
    return s;
}
