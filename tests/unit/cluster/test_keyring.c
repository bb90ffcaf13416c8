/* Keys come and go while the nodes run.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct cluster_keyring_result result;
static unsigned results;

static void on_result(void *arg, const struct cluster_keyring_result *r)
{
    (void)arg;
    result = *r;
    results++;
}

static bool is_done(void)
{
    return results > 0;
}

static struct str print_of(const struct cluster_host_key *k)
{
    static char text[2][CLUSTER_KEY_PRINT];
    char *at = text[k == &nodes_key_b];
    cluster_key_print(k->bytes, at);
    return str_of(at);
}

/* The order given on node 0, to its end. */
static int give(enum cluster_keyring_order order, const struct cluster_host_key *k)
{
    struct cluster_keyring_change c = {.order = order, .key = k->bytes, .print = print_of(k)};
    results = 0;
    int r = cluster_keyring_give(cluster_seat(node[0].c, 0), &c, on_result, NULL);
    if (r != 0)
        return r;
    ck_assert_uint_eq(results, 0);
    ck_assert(nodes_until(is_done, 7));
    return 0;
}

static struct cluster_keyring_key key_on(unsigned i, const struct cluster_host_key *k)
{
    struct cluster_keyring_key list[CLUSTER_KEYRING_LIST_MAX], none = {0};
    size_t n = cluster_keyring_list(cluster_seat(node[i].c, 0), list);
    for (size_t j = 0; j < n; j++)
        if (str_eq(str_of(list[j].print), print_of(k)))
            return list[j];
    return none;
}

static unsigned want_holders, want_users;

static bool all_say_so(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (node[i].c == NULL)
            continue;
        struct cluster_keyring_key k = key_on(i, &nodes_key_b);
        if (k.holders != want_holders || k.users != want_users)
            return false;
    }
    return true;
}

static void until_b(unsigned holders, unsigned users)
{
    want_holders = holders;
    want_users = users;
    ck_assert(nodes_until(all_say_so, 5));
}

static void no_member_was_lost(void)
{
    nodes_run(3);
    for (unsigned i = 0; i < NODES; i++) {
        struct cluster_stats st;
        cluster_stats_get(cluster_seat(node[i].c, 0), &st);
        ck_assert_uint_eq(st.unkeyed + st.forged, 0);
        ck_assert_uint_eq(st.suspicions, 0);
        ck_assert_uint_eq(node[i].downs, 0);
    }
    ck_assert(nodes_agree());
}

START_TEST(test_a_key_is_replaced)
{
    char cmd[128];
    for (unsigned i = 0; i < NODES; i++) {
        snprintf(node[i].dir, sizeof node[i].dir, "/tmp/bilrost-unit-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(node[i].dir));
    }
    nodes_start_three(&nodes_key_a);
    ck_assert_int_eq(give(CLUSTER_KEYRING_USE, &nodes_key_b), CLUSTER_KEYRING_E_UNKNOWN);
    ck_assert_int_eq(give(CLUSTER_KEYRING_REMOVE, &nodes_key_a), CLUSTER_KEYRING_E_USED);
    ck_assert_int_eq(give(CLUSTER_KEYRING_ADD, &nodes_key_b), 0);
    ck_assert_uint_eq(result.asked, NODES);
    ck_assert_uint_eq(result.done, NODES);
    until_b(NODES, 0);
    ck_assert_int_eq(give(CLUSTER_KEYRING_ADD, &nodes_key_b), 0); /* again: fine */
    ck_assert_uint_eq(result.done, NODES);
    ck_assert_int_eq(give(CLUSTER_KEYRING_USE, &nodes_key_b), 0);
    until_b(NODES, NODES);
    ck_assert_int_eq(give(CLUSTER_KEYRING_REMOVE, &nodes_key_b), CLUSTER_KEYRING_E_USED);
    ck_assert_int_eq(give(CLUSTER_KEYRING_REMOVE, &nodes_key_a), 0);
    ck_assert_uint_eq(result.done, NODES);
    no_member_was_lost();
    ck_assert_uint_eq(key_on(1, &nodes_key_a).holders, 0);
    /* a restart with the old configuration: what was ordered since is newer */
    nodes_stop(&node[2]);
    nodes_start(&node[2], "test", &nodes_key_a);
    ck_assert(nodes_until(nodes_agree, 5));
    ck_assert(key_on(2, &nodes_key_b).is_ours);
    /* the configuration has changed: that is newer still */
    cluster_keys_set(node[2].c, &nodes_key_a, 1);
    ck_assert(key_on(2, &nodes_key_b).is_ours);
    const struct cluster_host_key both[] = {nodes_key_b, nodes_key_a};
    cluster_keys_set(node[2].c, both, 2);
    nodes_run(0.1);
    ck_assert(key_on(2, &nodes_key_a).is_ours);
    for (unsigned i = 0; i < NODES; i++) {
        nodes_stop(&node[i]);
        snprintf(cmd, sizeof cmd, "rm -r %s", node[i].dir);
        ck_assert_int_eq(system(cmd), 0);
    }
}
END_TEST

START_TEST(test_nobody_is_cut_off)
{
    nodes_start_three(&nodes_key_a);
    /* node 2 has not got the new key: it must not be used */
    const struct cluster_host_key both[] = {nodes_key_a, nodes_key_b};
    cluster_keys_set(node[0].c, both, 2);
    cluster_keys_set(node[1].c, both, 2);
    until_b(2, 0);
    ck_assert_int_eq(give(CLUSTER_KEYRING_USE, &nodes_key_b), CLUSTER_KEYRING_E_MISSING);
    /* one uses it: it must not be removed */
    const struct cluster_host_key turned[] = {nodes_key_b, nodes_key_a};
    cluster_keys_set(node[2].c, both, 2);
    cluster_keys_set(node[1].c, turned, 2);
    until_b(3, 1);
    ck_assert_int_eq(give(CLUSTER_KEYRING_REMOVE, &nodes_key_b), CLUSTER_KEYRING_E_USED);
    no_member_was_lost();
}
END_TEST

START_TEST(test_orders_that_are_refused)
{
    struct cluster_host_key k = {.bytes = {9}};
    nodes_start(&node[0], "test", &nodes_key_a);
    nodes_run(0.2);
    for (unsigned i = 1; i < CLUSTER_KEYRING_MAX; i++) {
        do
            k.bytes[1]++; /* until its number is not taken */
        while (give(CLUSTER_KEYRING_ADD, &k) != 0 || result.done == 0);
    }
    do
        k.bytes[2]++;
    while (give(CLUSTER_KEYRING_ADD, &k) != 0 || result.outcome == CLUSTER_KEYRING_E_CLASH);
    ck_assert_uint_eq(result.done, 0);
    ck_assert_int_eq(result.outcome, CLUSTER_KEYRING_E_FULL);
    nodes_start(&node[1], "open", NULL);
    struct cluster_keyring_change c = {.order = CLUSTER_KEYRING_ADD, .key = nodes_key_b.bytes};
    ck_assert_int_eq(cluster_keyring_give(cluster_seat(node[1].c, 0), &c, on_result, NULL),
                     CLUSTER_KEYRING_E_OPEN);
}
END_TEST

/* Whoever has no key of the ring may send what he likes to the service of orders. */
START_TEST(test_a_stranger_gives_no_orders)
{
    char junk[64];
    nodes_start_three(&nodes_key_a);
    memset(junk, 'x', sizeof junk);
    struct cluster_call call = {
        .peer = *cluster_uuid(node[1].c),
        .service = CLUSTER_SERVICE_KEYRING,
        .timeout = 3 * USEC_SEC,
        .payload = str_view(junk, sizeof junk),
    };
    nodes_answer = (struct answer){0};
    ck_assert_int_eq(cluster_link_call(cluster_seat_link(cluster_seat(node[0].c, 0)), &call,
                                       nodes_on_reply, &nodes_answer, NULL),
                     0);
    ck_assert(nodes_until(nodes_answered, 4));
    ck_assert_int_eq(nodes_answer.outcome, CLUSTER_LINK_E_NO_SERVICE);
    struct cluster_stats st;
    cluster_stats_get(cluster_seat(node[1].c, 0), &st);
    ck_assert_uint_eq(st.forged, 1);
}
END_TEST

START_TEST(test_parse_and_print)
{
    uint8_t key[CLUSTER_KEY_LEN];
    char text[2 * CLUSTER_KEY_LEN + 1], print[CLUSTER_KEY_PRINT];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    ck_assert(cluster_key_parse(str_of(text), key));
    ck_assert_uint_eq(key[31], 0xaa);
    ck_assert_uint_ge(cluster_key_id(key), 1);
    cluster_key_print(key, print);
    ck_assert_uint_eq(strlen(print), 16);
    ck_assert_ptr_null(strstr(print, "aaaa"));
    text[5] = 'g';
    ck_assert(!cluster_key_parse(str_of(text), key));
    ck_assert(!cluster_key_parse(STR("aa"), key));
}
END_TEST

Suite *suite_keyring(void);

Suite *suite_keyring(void)
{
    Suite *s = suite_create("keyring");
    TCase *t = tcase_create("keyring");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, nodes_setup, nodes_teardown);
    tcase_add_test(t, test_a_key_is_replaced);
    tcase_add_test(t, test_nobody_is_cut_off);
    tcase_add_test(t, test_orders_that_are_refused);
    tcase_add_test(t, test_a_stranger_gives_no_orders);
    tcase_add_test(t, test_parse_and_print);
    suite_add_tcase(s, t);
    return s;
}
