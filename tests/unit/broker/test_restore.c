/* Routes that others removed are put again while somebody here wants them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "broker/restore_priv.h"

#include "base/mem.h"
#include "broker/hub_priv.h"
#include "broker/subscribe_priv.h"
#include "broker/tenant.h"
#include "dist/index.h"
#include "stores/route_priv.h"
#include "unit/broker/suites.h"
#include "unit/broker/two.h"

static struct broker_tenant *tenant;

static void setup(void)
{
    two_setup(0);
    tenant = broker_tenant_find(two_broker, STR("default"));
}

static bool has_route(const char *filter)
{
    const struct dist_filter *f =
        dist_index_find(stores_index(two_stores), STR("default"), str_of(filter));
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
    for (usec_t end = net_clock_now() + TWO_WAIT_USEC; ended == 0 && net_clock_now() < end;)
        two_turn();
    ck_assert_uint_eq(ended, 1);
    ended = 0;
}

/* As the command that collects what the dead left: the incarnation is the one that is there. */
static void collect(const char *filter)
{
    struct dist_route r = {.tenant = STR("default"),
                           .filter = str_of(filter),
                           .kind = DIST_KIND_NODE,
                           .node = {{1}},
                           .epoch = 7,
                           .incarnation = UINT64_MAX / 2};
    stores_route_drop(stores_client_get(two_stores, 0), &r, on_end, NULL);
    wait_ended();
}

START_TEST(a_filter_with_subscribers)
{
    struct broker_sub sub[2] = {0};
    for (unsigned i = 0; i < 2; i++) { /* each filter has a home loop of its own */
        static const char *const filter[] = {"a/+", "b/#"};
        broker_hub_join(&two_broker->loop[i], tenant, str_of(filter[i]), &sub[i], on_join, NULL);
        wait_ended();
        ck_assert(has_route(filter[i]));
        collect(filter[i]);
        for (usec_t end = net_clock_now() + TWO_WAIT_USEC;
             !has_route(filter[i]) && net_clock_now() < end;)
            two_turn();
        ck_assert(has_route(filter[i]));
        broker_hub_leave(&two_broker->loop[i], &sub[i]);
        for (usec_t end = net_clock_now() + TWO_WAIT_USEC;
             has_route(filter[i]) && net_clock_now() < end;)
            two_turn();
        ck_assert(!has_route(filter[i])); /* and its end came after */
    }
}
END_TEST

START_TEST(a_filter_nobody_has)
{
    struct stores_route r = {.tenant = STR("default"), .filter = STR("x")};
    stores_route_add(stores_client_get(two_stores, 0), &r, on_end, NULL);
    wait_ended();
    collect("x");
    for (unsigned i = 0; i < 20; i++)
        two_turn();
    ck_assert(!has_route("x"));
    ck_assert(list_empty(&two_broker->loop[0].restore));
    ck_assert(list_empty(&two_broker->loop[1].restore));
}
END_TEST

Suite *suite_restore(void)
{
    Suite *s = suite_create("restore");
    TCase *t = tcase_create("restore");
    tcase_add_checked_fixture(t, setup, two_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_filter_with_subscribers);
    tcase_add_test(t, a_filter_nobody_has);
    suite_add_tcase(s, t);
    return s;
}
