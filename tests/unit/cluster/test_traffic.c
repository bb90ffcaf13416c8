/* Groups and rules, and whom they choose.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "cluster/traffic.h"

#define SERVICE STR("session.dict")
#define PICKS 6000

static struct cluster_seat *seat(unsigned i)
{
    return cluster_seat(node[i].c, 1);
}

static void put_rule(const char *prefix, const char *a, uint32_t wa, const char *b, uint32_t wb)
{
    struct cluster_traffic_rule r = {
        .prefix = str_of(prefix),
        .share = {{str_of(a), wa}, {str_of(b), wb}},
        .share_count = 2,
    };
    ck_assert(cluster_traffic_put(seat(0), SERVICE, &r));
}

static void put_group(unsigned i, const char *group)
{
    struct str g = str_of(group);
    ck_assert(cluster_group_put(seat(0), SERVICE, cluster_uuid(node[i].c), &g, group[0] != 0));
}

static unsigned rows_wanted;

static size_t rows_of(unsigned i)
{
    size_t n = 0;
    for (size_t at = 0; cluster_row_next(seat(i), CLUSTER_SPACE_TRAFFIC, STR(""), &at) != NULL;)
        n++;
    for (size_t at = 0; cluster_row_next(seat(i), CLUSTER_SPACE_GROUP, STR(""), &at) != NULL;)
        n++;
    return n;
}

static bool rows_everywhere(void)
{
    for (unsigned i = 0; i < NODES; i++)
        if (node[i].c != NULL && rows_of(i) != rows_wanted)
            return false;
    return true;
}

static void settle(unsigned rows)
{
    rows_wanted = rows;
    ck_assert(nodes_until(rows_everywhere, 3));
}

/* How often each node is chosen for a tenant; all nodes must choose alike. */
static void count(const char *tenant, unsigned out[NODES])
{
    memset(out, 0, NODES * sizeof *out);
    for (unsigned k = 0; k < PICKS; k++) {
        uint64_t hash = hash_u64(k + 1);
        const struct cluster_member *m =
            cluster_traffic_pick(seat(0), SERVICE, str_of(tenant), hash, NULL, NULL);
        ck_assert_ptr_nonnull(m);
        for (unsigned i = 0; i < NODES; i++) {
            out[i] += uuid_eq(&m->uuid, cluster_uuid(node[i].c));
            const struct cluster_member *o =
                cluster_traffic_pick(seat(i), SERVICE, str_of(tenant), hash, NULL, NULL);
            ck_assert(uuid_eq(&o->uuid, &m->uuid));
        }
    }
}

static void about(unsigned got, unsigned percent)
{
    ck_assert_int_le(abs((int)(got * 100 / PICKS) - (int)percent), 5);
}

START_TEST(test_shares)
{
    unsigned n[NODES];
    nodes_start_three(NULL);
    count("any", n); /* nothing is said: all alike */
    for (unsigned i = 0; i < NODES; i++)
        about(n[i], 33);
    /* one server of gold, one of silver, one of the default group */
    put_group(1, "gold");
    put_group(2, "silver");
    put_rule("acme", "gold", 3, "silver", 1);
    put_rule("acme-eu", "gold", 0, "silver", 1);
    put_rule("lost", "nobody", 5, "", 0);
    settle(5);
    count("any", n); /* no rule: the default group */
    ck_assert_uint_eq(n[0], PICKS);
    count("acme-us", n);
    about(n[1], 75);
    about(n[2], 25);
    count("acme-eu-7", n); /* the longest prefix decides; weight 0 gets nothing */
    ck_assert_uint_eq(n[2], PICKS);
    count("lost", n); /* a group without servers: everybody serves */
    for (unsigned i = 0; i < NODES; i++)
        about(n[i], 33);
    /* a group's share does not grow with its servers */
    put_group(0, "gold");
    nodes_run(0.5);
    count("acme-us", n);
    about(n[0] + n[1], 75);
    about(n[2], 25);
    cluster_traffic_del(seat(2), SERVICE, STR("acme"));
    put_group(0, "");
    settle(4);
    count("acme-us", n);
    ck_assert_uint_eq(n[0], PICKS);
}
END_TEST

START_TEST(test_rules_are_read_back)
{
    struct cluster_traffic_rule r;
    struct str g[CLUSTER_TRAFFIC_GROUPS_MAX];
    size_t at = 0;
    nodes_start(&node[0], "test", NULL);
    put_rule("b", "x", 1, "y", CLUSTER_TRAFFIC_WEIGHT_MAX);
    put_rule("a", "x", 2, "", 0);
    put_group(0, "x");
    nodes_run(0.2);
    ck_assert(cluster_traffic_next(seat(0), SERVICE, &at, &r));
    ck_str(r.prefix, STR("a"));
    ck_assert_uint_eq(r.share_count, 2);
    ck_assert_uint_eq(r.share[0].weight, 2);
    ck_str(r.share[1].group, STR(""));
    ck_assert(cluster_traffic_next(seat(0), SERVICE, &at, &r));
    ck_str(r.prefix, STR("b"));
    ck_str(r.share[1].group, STR("y"));
    ck_assert_uint_eq(r.share[1].weight, CLUSTER_TRAFFIC_WEIGHT_MAX);
    ck_assert(!cluster_traffic_next(seat(0), SERVICE, &at, &r));
    at = 0;
    ck_assert(!cluster_traffic_next(seat(0), STR("another"), &at, &r));
    ck_assert(!cluster_traffic_find(seat(0), SERVICE, STR("c"), &r));
    ck_assert_uint_eq(cluster_group_get(seat(0), SERVICE, cluster_uuid(node[0].c), g), 1);
    ck_str(g[0], STR("x"));
}
END_TEST

START_TEST(test_what_is_out_of_bounds)
{
    char name[CLUSTER_TRAFFIC_PREFIX_MAX + 2];
    struct str many[CLUSTER_TRAFFIC_GROUPS_MAX + 1];
    memset(name, 'x', sizeof name);
    nodes_start(&node[0], "test", NULL);
    struct cluster_traffic_rule r = {
        .prefix = STR("p"), .share = {{STR("g"), 1}}, .share_count = 1};
    ck_assert(cluster_traffic_put(seat(0), SERVICE, &r));
    ck_assert(!cluster_traffic_put(seat(0), STR("a/b"), &r));
    ck_assert(!cluster_traffic_put(seat(0), STR(""), &r));
    r.share[0].weight = CLUSTER_TRAFFIC_WEIGHT_MAX + 1;
    ck_assert(!cluster_traffic_put(seat(0), SERVICE, &r));
    r.share[0] = (struct cluster_traffic_share){str_view(name, CLUSTER_TRAFFIC_NAME_MAX + 1), 1};
    ck_assert(!cluster_traffic_put(seat(0), SERVICE, &r));
    r.share_count = 0;
    ck_assert(!cluster_traffic_put(seat(0), SERVICE, &r));
    r = (struct cluster_traffic_rule){.prefix = str_view(name, CLUSTER_TRAFFIC_PREFIX_MAX + 1),
                                      .share = {{STR("g"), 1}},
                                      .share_count = 1};
    ck_assert(!cluster_traffic_put(seat(0), SERVICE, &r));
    for (unsigned i = 0; i < countof(many); i++)
        many[i] = STR("g");
    ck_assert(!cluster_group_put(seat(0), SERVICE, cluster_uuid(node[0].c), many, countof(many)));
    many[0] = STR("");
    ck_assert(!cluster_group_put(seat(0), SERVICE, cluster_uuid(node[0].c), many, 1));
    /* rows that are not ours to decode are no rules */
    ck_assert(cluster_row_put(seat(0), CLUSTER_SPACE_TRAFFIC, STR("session.dict/z"), STR("junk")));
    ck_assert(cluster_row_put(seat(0), CLUSTER_SPACE_GROUP, STR("session.dict/z"), STR("junk")));
    nodes_run(0.2);
    ck_assert(!cluster_traffic_find(seat(0), SERVICE, STR("z"), &r));
    ck_assert_ptr_nonnull(cluster_traffic_pick(seat(0), SERVICE, STR("z"), 1, NULL, NULL));
}
END_TEST

Suite *suite_traffic(void);

Suite *suite_traffic(void)
{
    Suite *s = suite_create("traffic");
    TCase *t = tcase_create("traffic");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, nodes_setup, nodes_teardown);
    tcase_add_test(t, test_shares);
    tcase_add_test(t, test_rules_are_read_back);
    tcase_add_test(t, test_what_is_out_of_bounds);
    suite_add_tcase(s, t);
    return s;
}
