/* A broker with two loops.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/two.h"

#include "session/settings.h"
#include "stores/stores.h"

struct net_loop *two_loop[2];
struct broker *two_broker;
struct stores *two_stores;

void two_turn(void)
{
    net_loop_turn(two_loop[0], 0);
    net_loop_turn(two_loop[1], 0);
}

void two_setup(unsigned inbox_size)
{
    for (unsigned i = 0; i < 2; i++) {
        struct net_loop_conf lc = {.index = i, .seed = i + 1};
        ck_assert_int_eq(net_loop_new(&lc, &two_loop[i]), 0);
    }
    struct broker_conf bc = {
        .node = {{1}}, .epoch = 7, .loop = two_loop, .loop_count = 2, .seed = 3};
    two_broker = broker_new(&bc);
    struct stores_conf sc = {.node = {{1}},
                             .epoch = 7,
                             .loop = two_loop,
                             .loop_count = 2,
                             .host = *broker_stores_host(two_broker),
                             .seed = 5,
                             .timeout_usec = TEST_PATIENCE(USEC_SEC)};
    ck_assert_int_eq(stores_new(&sc, &two_stores), 0);
    struct session_settings values;
    session_settings_init(&values);
    if (inbox_size > 0)
        values.session_inbox_size = inbox_size;
    struct broker_settings *settings = broker_settings_new(&values);
    broker_tenant_set(two_broker, STR("default"), settings, &(struct broker_tenant_limits){0});
    broker_settings_unref(settings);
    broker_start(two_broker, two_stores);
}

static void turns(void)
{
    for (unsigned i = 0; i < 8; i++)
        two_turn();
}

void two_teardown(void)
{
    turns();
    stores_stop(two_stores);
    two_broker = broker_free(two_broker);
    turns();
    two_stores = stores_free(two_stores);
    turns();
    for (unsigned i = 0; i < 2; i++)
        two_loop[i] = net_loop_free(two_loop[i]);
}
