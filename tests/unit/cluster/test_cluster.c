/* Real nodes on loopback, in one thread, turned by hand.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cluster/host.h"
#include "net/clock.h"
#include "net/loop.h"

#define NODES 3
#define LOOPS 2

struct unit_node {
    struct net_loop *loop[LOOPS];
    struct cluster *c;
    char seed_text[32];
    const char *seed;
    char dir[64];
    unsigned ups, downs, rows, gones, fatal, left;
    struct uuid last_down;
    struct cluster_watch *watch;
};

static struct unit_node node[NODES];
static const struct cluster_host_key key_a = {.id = 1, .bytes = {1, 2, 3}};
static const struct cluster_host_key key_b = {.id = 1, .bytes = {3, 2, 1}};

static void on_fatal(void *arg, const char *why)
{
    (void)why;
    ((struct unit_node *)arg)->fatal++;
}

static void on_left(void *arg)
{
    ((struct unit_node *)arg)->left++;
}

static void on_event(void *arg, struct cluster_seat *s, const struct cluster_event *ev)
{
    struct unit_node *n = arg;
    (void)s;
    n->ups += ev->kind == CLUSTER_EV_UP;
    n->rows += ev->kind == CLUSTER_EV_ROW;
    n->gones += ev->kind == CLUSTER_EV_ROW_GONE;
    if (ev->kind == CLUSTER_EV_DOWN) {
        n->downs++;
        n->last_down = ev->member->uuid;
    }
}

static int try_start(struct unit_node *n, const char *env, const struct cluster_host_key *key,
                     char *error)
{
    for (unsigned i = 0; i < LOOPS && n->loop[i] == NULL; i++) {
        struct net_loop_conf lc = {.index = i, .seed = i + 1};
        ck_assert_int_eq(net_loop_new(&lc, &n->loop[i]), 0);
    }
    struct cluster_host_conf c = {
        .loop = n->loop,
        .loop_count = LOOPS,
        .data_path = n->dir[0] != 0 ? n->dir : NULL,
        .env = env,
        .host = "127.0.0.1",
        .seed = &n->seed,
        .seed_count = n->seed != NULL,
        .key = key,
        .key_count = key != NULL,
        .release = "1.2.3",
        .api = "127.0.0.1:8091",
        .fatal = on_fatal,
        .arg = n,
    };
    return cluster_new(&c, error, &n->c);
}

static void start(struct unit_node *n, const char *env, const struct cluster_host_key *key)
{
    char error[CLUSTER_HOST_ERROR_MAX] = "";
    int r = try_start(n, env, key, error);
    ck_assert_msg(r == 0, "%s", error);
    n->watch = cluster_watch_new(cluster_seat(n->c, 1), ~(uint64_t)0, on_event, n);
}

static void seed_of(struct unit_node *n, const struct unit_node *to)
{
    snprintf(n->seed_text, sizeof n->seed_text, "127.0.0.1:%u", (unsigned)cluster_port(to->c));
    n->seed = n->seed_text;
}

static void turn_all(void)
{
    unsigned first = 1;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < LOOPS; k++)
            if (node[i].loop[k] != NULL) {
                net_loop_turn(node[i].loop[k], first ? 1000 : 0);
                first = 0;
            }
}

static void stop(struct unit_node *n)
{
    n->c = cluster_free(n->c);
    for (unsigned k = 0; k < LOOPS; k++)
        n->loop[k] = net_loop_free(n->loop[k]);
}

static void setup(void)
{
    memset(node, 0, sizeof node);
}

static void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++)
        if (node[i].loop[0] != NULL)
            stop(&node[i]);
}

static bool until(bool (*done)(void), double seconds)
{
    usec_t end = net_clock_now() + (usec_t)(seconds * 1e6);
    while (!done() && net_clock_now() < end)
        turn_all();
    return done();
}

static void run_for(double seconds)
{
    usec_t end = net_clock_now() + (usec_t)(seconds * 1e6);
    while (net_clock_now() < end)
        turn_all();
}

static bool all_see_all(void)
{
    size_t running = 0;
    for (unsigned i = 0; i < NODES; i++)
        running += node[i].c != NULL;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < LOOPS && node[i].c != NULL; k++)
            if (cluster_live_count(cluster_seat(node[i].c, k)) != running)
                return false;
    return true;
}

static void start_three(const struct cluster_host_key *key)
{
    start(&node[0], "test", key);
    for (unsigned i = 1; i < NODES; i++) {
        seed_of(&node[i], &node[0]);
        start(&node[i], "test", key);
    }
    ck_assert(until(all_see_all, 5));
}

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

struct answer {
    unsigned count;
    int outcome;
};

static struct answer answer;

static void on_reply(void *arg, int outcome, struct str reply)
{
    (void)reply;
    ((struct answer *)arg)->count++;
    ((struct answer *)arg)->outcome = outcome;
}

static bool answered(void)
{
    return answer.count > 0;
}

START_TEST(test_three_nodes)
{
    start_three(&key_a);
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
    ck_assert(until(row_everywhere, 3));
    /* a call from one loop to another node's */
    answer = (struct answer){0};
    struct cluster_call call = {
        .peer = *cluster_uuid(node[2].c),
        .service = CLUSTER_SERVICE_ECHO,
        .shard = 1,
        .timeout = 3 * USEC_SEC,
        .payload = STR("x"),
    };
    struct cluster_link *l = cluster_seat_link(cluster_seat(node[0].c, 0));
    ck_assert_int_eq(cluster_link_call(l, &call, on_reply, &answer, NULL), 0);
    ck_assert(until(answered, 3));
    ck_assert_int_eq(answer.outcome, 0);
    /* it leaves: known at once, its rows are gone, a call to it is refused */
    struct uuid gone = *cluster_uuid(node[1].c);
    cluster_leave(node[1].c, on_left, &node[1]);
    ck_assert(until(row_nowhere, 1.5));
    run_for(0.5);
    ck_assert_uint_eq(node[1].left, 1);
    stop(&node[1]);
    ck_assert(until(all_see_all, 1));
    call.peer = gone;
    ck_assert_int_eq(cluster_link_call(l, &call, on_reply, &answer, NULL), CLUSTER_LINK_E_UNKNOWN);
    ck_assert_uint_eq(node[0].downs, 1);
    ck_assert(uuid_eq(&node[0].last_down, &gone));
}
END_TEST

START_TEST(test_a_death_is_noticed)
{
    start_three(NULL);
    ck_assert(cluster_row_put(cluster_seat(node[1].c, 0), CLUSTER_SPACE_SERVICE, STR("mqtt"),
                              STR("here")));
    ck_assert(until(row_everywhere, 3));
    stop(&node[1]); /* no good-bye */
    ck_assert(until(all_see_all, 9));
    ck_assert(row_nowhere());
    ck_assert_uint_eq(node[0].gones, 1);
}
END_TEST

START_TEST(test_foreign_nodes_stay_outside)
{
    start(&node[0], "one", &key_a);
    seed_of(&node[1], &node[0]);
    start(&node[1], "two", &key_a); /* another name */
    seed_of(&node[2], &node[0]);
    start(&node[2], "one", &key_b); /* another key */
    run_for(3);
    struct cluster_host_stats st;
    for (unsigned i = 0; i < NODES; i++)
        ck_assert_uint_eq(cluster_live_count(cluster_seat(node[i].c, 0)), 1);
    cluster_host_stats_get(node[0].c, &st);
    ck_assert_uint_ge(st.foreign, 1);
    ck_assert_uint_ge(st.forged, 1);
}
END_TEST

START_TEST(test_shared_rows_survive)
{
    char cmd[128];
    snprintf(node[0].dir, sizeof node[0].dir, "/tmp/bilrost-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(node[0].dir));
    start(&node[0], "test", NULL);
    struct uuid uuid = *cluster_uuid(node[0].c);
    uint64_t epoch = cluster_epoch(cluster_seat(node[0].c, 0));
    ck_assert(cluster_row_put(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("rule"),
                              STR("kept")));
    ck_assert(
        cluster_row_put(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("other"), STR("x")));
    run_for(0.1);
    cluster_row_del(cluster_seat(node[0].c, 0), CLUSTER_SPACE_TRAFFIC, STR("other"));
    run_for(0.1);
    /* the same directory a second time, while it is in use */
    char error[CLUSTER_HOST_ERROR_MAX];
    memcpy(node[1].dir, node[0].dir, sizeof node[0].dir);
    ck_assert_int_eq(try_start(&node[1], "test", NULL, error), -EBUSY);
    stop(&node[0]);
    start(&node[0], "test", NULL);
    ck_assert(uuid_eq(&uuid, cluster_uuid(node[0].c)));
    ck_assert_uint_gt(cluster_epoch(cluster_seat(node[0].c, 0)), epoch);
    const struct cluster_row *r =
        cluster_row_find(cluster_seat(node[0].c, 1), CLUSTER_SPACE_TRAFFIC, STR("rule"), NULL);
    ck_assert_ptr_nonnull(r);
    ck_str(r->value, STR("kept"));
    ck_assert_ptr_null(
        cluster_row_find(cluster_seat(node[0].c, 1), CLUSTER_SPACE_TRAFFIC, STR("other"), NULL));
    stop(&node[0]);
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
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_three_nodes);
    tcase_add_test(t, test_a_death_is_noticed);
    tcase_add_test(t, test_foreign_nodes_stay_outside);
    tcase_add_test(t, test_shared_rows_survive);
    tcase_add_test(t, test_what_is_refused_at_start);
    suite_add_tcase(s, t);
    return s;
}
