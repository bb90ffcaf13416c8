/* Three nodes, and what is refused at the start.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool row_everywhere(void)
{
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < LOOPS && node[i].c != NULL; k++) {
            const struct cluster_row *r = cluster_row_find(
                cluster_seat(node[i].c, k), CLUSTER_SPACE_SERVICE, STR("mqtt"), NULL);
            if (r == NULL || !str_eq(r->value, STR("here")))
                return false;
        }
    return true;
}

/* Not on the others of node 1. */
static bool row_nowhere(void)
{
    for (unsigned i = 0; i < NODES; i++)
        if (i != 1 && node[i].c != NULL &&
            cluster_row_find(cluster_seat(node[i].c, 1), CLUSTER_SPACE_SERVICE, STR("mqtt"),
                             NULL) != NULL)
            return false;
    return true;
}

START_TEST(test_three_nodes)
{
    nodes_start_three(&nodes_key_a);
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert(cluster_is_joined(cluster_seat(node[i].c, 1)));
        const struct cluster_member *m =
            cluster_member_find(cluster_seat(node[i].c, 1), cluster_uuid(node[(i + 1) % NODES].c));
        ck_assert_str_eq(m->host, "127.0.0.1");
        ck_assert_str_eq(m->release, "1.2.3");
        ck_assert_uint_eq(m->loops, LOOPS);
        ck_assert_uint_eq(m->rpc_port, cluster_rpc_port(node[(i + 1) % NODES].c));
    }
    /* a row of one is seen by all, on every loop */
    ck_assert(cluster_row_put(cluster_seat(node[1].c, 1), CLUSTER_SPACE_SERVICE, STR("mqtt"),
                              STR("here")));
    ck_assert(nodes_until(row_everywhere, 3));
    /* a call from one loop to another node's */
    ck_assert_int_eq(nodes_call(&node[0], cluster_uuid(node[2].c)), 0);
    /* it leaves: known at once, its rows are gone, a call to it is refused */
    struct uuid gone = *cluster_uuid(node[1].c);
    cluster_leave(node[1].c, nodes_on_left, &node[1]);
    ck_assert(nodes_until(row_nowhere, 1.5));
    nodes_run(0.5);
    ck_assert_uint_eq(node[1].left, 1);
    nodes_stop(&node[1]);
    ck_assert(nodes_until(nodes_agree, 1));
    ck_assert_int_eq(nodes_call(&node[0], &gone), CLUSTER_LINK_E_UNKNOWN);
    ck_assert_uint_eq(node[0].downs, 1);
    ck_assert(uuid_eq(&node[0].last_down, &gone));
}
END_TEST

START_TEST(test_a_death_is_noticed)
{
    nodes_start_three(NULL);
    ck_assert(cluster_row_put(cluster_seat(node[1].c, 0), CLUSTER_SPACE_SERVICE, STR("mqtt"),
                              STR("here")));
    ck_assert(nodes_until(row_everywhere, 3));
    nodes_stop(&node[1]); /* no good-bye */
    ck_assert(nodes_until(nodes_agree, 9));
    ck_assert(row_nowhere());
    ck_assert_uint_eq(node[0].gones, 1);
}
END_TEST

START_TEST(test_foreign_nodes_stay_outside)
{
    nodes_start(&node[0], "one", &nodes_key_a);
    nodes_seed(&node[1], &node[0]);
    nodes_start(&node[1], "two", &nodes_key_a); /* another name */
    nodes_seed(&node[2], &node[0]);
    nodes_start(&node[2], "one", &nodes_key_b); /* another key */
    nodes_run(3);
    struct cluster_stats st;
    for (unsigned i = 0; i < NODES; i++)
        ck_assert_uint_eq(cluster_live_count(cluster_seat(node[i].c, 0)), 1);
    cluster_stats_get(cluster_seat(node[0].c, 0), &st);
    ck_assert_uint_ge(st.foreign, 1);
    ck_assert_uint_ge(st.unkeyed, 1);
}
END_TEST

START_TEST(test_shared_rows_survive)
{
    char cmd[128];
    snprintf(node[0].dir, sizeof node[0].dir, "/tmp/bilrost-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(node[0].dir));
    nodes_start(&node[0], "test", NULL);
    struct uuid uuid = *cluster_uuid(node[0].c);
    uint64_t epoch = cluster_epoch(cluster_seat(node[0].c, 0));
    ck_assert(cluster_row_put(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("rule"),
                              STR("kept")));
    ck_assert(
        cluster_row_put(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("other"), STR("x")));
    nodes_run(0.1);
    cluster_row_del(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("other"));
    nodes_run(0.1);
    /* the same directory a second time, while it is in use */
    char error[CLUSTER_HOST_ERROR_MAX];
    memcpy(node[1].dir, node[0].dir, sizeof node[0].dir);
    ck_assert_int_eq(nodes_try(&node[1], "test", NULL, error), -EBUSY);
    nodes_stop(&node[0]);
    nodes_start(&node[0], "test", NULL);
    ck_assert(uuid_eq(&uuid, cluster_uuid(node[0].c)));
    ck_assert_uint_gt(cluster_epoch(cluster_seat(node[0].c, 0)), epoch);
    const struct cluster_row *r =
        cluster_row_find(cluster_seat(node[0].c, 1), CLUSTER_SPACE_TRAFFIC, STR("rule"), NULL);
    ck_assert_ptr_nonnull(r);
    ck_str(r->value, STR("kept"));
    ck_assert_ptr_null(
        cluster_row_find(cluster_seat(node[0].c, 1), CLUSTER_SPACE_TRAFFIC, STR("other"), NULL));
    nodes_stop(&node[0]);
    snprintf(cmd, sizeof cmd, "rm -r %s", node[0].dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

/* It ran for a moment only, has no seeds, and nobody else knows where it will be. */
START_TEST(test_without_seeds_it_finds_back)
{
    char cmd[128];
    snprintf(node[0].dir, sizeof node[0].dir, "/tmp/bilrost-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(node[0].dir));
    nodes_start(&node[0], "test", NULL);
    nodes_seed(&node[1], &node[0]);
    nodes_start(&node[1], "test", NULL);
    ck_assert(nodes_until(nodes_agree, 20));
    cluster_leave(node[0].c, nodes_on_left, &node[0]);
    nodes_run(0.2);
    nodes_stop(&node[0]);
    nodes_start(&node[0], "test", NULL); /* on another port */
    ck_assert(nodes_until(nodes_agree, 20));
    nodes_stop(&node[0]);
    snprintf(cmd, sizeof cmd, "rm -r %s", node[0].dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

START_TEST(test_what_is_refused_at_start)
{
    struct net_loop_conf lc = {.seed = 1};
    char error[CLUSTER_HOST_ERROR_MAX];
    struct cluster *c;
    ck_assert_int_eq(net_loop_new(&lc, &node[0].loop[0]), 0);
    struct cluster_host_conf conf = {
        .loop = node[0].loop, .loop_count = 1, .env = "", .host = "127.0.0.1"};
    ck_assert_int_eq(cluster_new(&conf, error, &c), -EINVAL); /* no name */
    conf.env = "x";
    conf.host = "192.0.2.7"; /* not loopback, no keys */
    ck_assert_int_eq(cluster_new(&conf, error, &c), -EACCES);
    conf.host = "0.0.0.0"; /* nobody can reach that */
    ck_assert_int_eq(cluster_new(&conf, error, &c), -EINVAL);
    conf.host = "localhost"; /* numeric only */
    ck_assert_int_eq(cluster_new(&conf, error, &c), -EINVAL);
}
END_TEST

Suite *suite_cluster(void);

Suite *suite_cluster(void)
{
    Suite *s = suite_create("cluster");
    TCase *t = tcase_create("cluster");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, nodes_setup, nodes_teardown);
    tcase_add_test(t, test_three_nodes);
    tcase_add_test(t, test_a_death_is_noticed);
    tcase_add_test(t, test_foreign_nodes_stay_outside);
    tcase_add_test(t, test_shared_rows_survive);
    tcase_add_test(t, test_without_seeds_it_finds_back);
    tcase_add_test(t, test_what_is_refused_at_start);
    suite_add_tcase(s, t);
    return s;
}
