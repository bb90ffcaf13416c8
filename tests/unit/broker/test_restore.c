/* Routes that others removed are put again while somebody here wants them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "broker/restore_priv.h"

#include "base/mem.h"
#include "broker/broker.h"
#include "broker/hub_priv.h"
#include "broker/subscribe_priv.h"
#include "broker/tenant.h"
#include "dist/index.h"
#include "net/clock.h"
#include "session/settings.h"
#include "stores/route_priv.h"
#include "unit/broker/suites.h"

#define WAIT_USEC TEST_PATIENCE(10 * USEC_SEC)

static struct net_loop *loop[2];
static struct broker *broker;
static struct stores *stores;
static struct broker_tenant *tenant;

static void turn(void)
{
    net_loop_turn(loop[0], 0);
    net_loop_turn(loop[1], 0);
}

static void setup(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct net_loop_conf lc = {.index = i, .seed = i + 1};
        ck_assert_int_eq(net_loop_new(&lc, &loop[i]), 0);
    }
    struct broker_conf bc = {.node = {{1}}, .epoch = 7, .loop = loop, .loop_count = 2, .seed = 3};
    broker = broker_new(&bc);
    struct stores_conf sc = {.node = {{1}},
                             .epoch = 7,
                             .loop = loop,
                             .loop_count = 2,
                             .host = *broker_stores_host(broker),
                             .seed = 5,
                             .timeout_usec = TEST_PATIENCE(USEC_SEC)};
    ck_assert_int_eq(stores_new(&sc, &stores), 0);
    struct session_settings values;
    session_settings_init(&values);
    struct broker_settings *settings = broker_settings_new(&values);
    broker_tenant_set(broker, STR("t"), settings, &(struct broker_tenant_limits){0});
    broker_settings_unref(settings);
    broker_start(broker, stores);
    tenant = broker_tenant_find(broker, STR("t"));
}

static void teardown(void)
{
    for (unsigned i = 0; i < 4; i++)
        turn();
    stores_stop(stores);
    broker = broker_free(broker);
    for (unsigned i = 0; i < 4; i++)
        turn();
    stores = stores_free(stores);
    for (unsigned i = 0; i < 4; i++)
        turn();
    for (unsigned i = 0; i < 2; i++)
        loop[i] = net_loop_free(loop[i]);
}

static bool has_route(const char *filter)
{
    const struct dist_filter *f = dist_index_find(stores_index(stores), STR("t"), str_of(filter));
    return f != NULL && dist_filter_node(f) != NULL;
}

static unsigned ended;

static void on_end(void *arg, enum stores_outcome outcome)
{
    (void)arg;
    ck_assert_int_eq(outcome, STORES_OK);
    ended++;
}

static void on_join(struct broker_loop *l, struct broker_sub *sub, int outcome, void *arg)
{
    (void)l;
    (void)sub;
    (void)arg;
    ck_assert_int_eq(outcome, 0);
    ended++;
}

static void wait_ended(void)
{
    for (usec_t end = net_clock_now() + WAIT_USEC; ended == 0 && net_clock_now() < end;)
        turn();
    ck_assert_uint_eq(ended, 1);
    ended = 0;
}

/* As the command that collects what the dead left: the incarnation is the one that is there. */
static void collect(const char *filter)
{
    struct dist_route r = {.tenant = STR("t"),
                           .filter = str_of(filter),
                           .kind = DIST_KIND_NODE,
                           .node = {{1}},
                           .epoch = 7,
                           .incarnation = UINT64_MAX / 2};
    stores_route_drop(stores_client_get(stores, 0), &r, on_end, NULL);
    wait_ended();
}

START_TEST(a_filter_with_subscribers)
{
    struct broker_sub sub[2] = {0};
    for (unsigned i = 0; i < 2; i++) { /* each filter has a home loop of its own */
        static const char *const filter[] = {"a/+", "b/#"};
        broker_hub_join(&broker->loop[i], tenant, str_of(filter[i]), &sub[i], on_join, NULL);
        wait_ended();
        ck_assert(has_route(filter[i]));
        collect(filter[i]);
        for (usec_t end = net_clock_now() + WAIT_USEC;
             !has_route(filter[i]) && net_clock_now() < end;)
            turn();
        ck_assert(has_route(filter[i]));
        broker_hub_leave(&broker->loop[i], &sub[i]);
        for (usec_t end = net_clock_now() + WAIT_USEC;
             has_route(filter[i]) && net_clock_now() < end;)
            turn();
        ck_assert(!has_route(filter[i])); /* and its end came after */
    }
}
END_TEST

START_TEST(a_filter_nobody_has)
{
    struct stores_route r = {.tenant = STR("t"), .filter = STR("x")};
    stores_route_add(stores_client_get(stores, 0), &r, on_end, NULL);
    wait_ended();
    collect("x");
    for (unsigned i = 0; i < 20; i++)
        turn();
    ck_assert(!has_route("x"));
    ck_assert(list_empty(&broker->loop[0].restore));
    ck_assert(list_empty(&broker->loop[1].restore));
}
END_TEST

Suite *suite_restore(void)
{
    Suite *s = suite_create("restore");
    TCase *t = tcase_create("restore");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_filter_with_subscribers);
    tcase_add_test(t, a_filter_nobody_has);
    suite_add_tcase(s, t);
    return s;
}
