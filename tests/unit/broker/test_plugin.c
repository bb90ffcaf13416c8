/* Plugins that say nothing, and those of older numbers.  SPDX-License-Identifier: Apache-2.0 */
#include "broker/plugin.h"

#include <bilrost/plugin.h>

#include "unit/broker/suites.h"

#define LIMIT_USEC (20 * USEC_MSEC) /* does not matter: how long the silent one may take */

static struct {
    const struct bilrost_host *host;
    struct bilrost_ask *asked;
    int late_lines;
} seen;

static int open_it(const struct bilrost_host *host, const char *settings,
                   char error[BILROST_PLUGIN_ERROR_MAX], void **out_self)
{
    (void)settings;
    (void)error;
    (void)out_self;
    seen.host = host;
    return 0;
}

static void close_it(void *self)
{
    (void)self;
}

static void keep(void *self, const struct bilrost_client *client, struct bilrost_ask *ask)
{
    (void)self;
    (void)client;
    seen.asked = ask;
}

static void keep_step(void *self, const struct bilrost_client *client,
                      const struct bilrost_step *step, struct bilrost_ask *ask)
{
    (void)step;
    keep(self, client, ask);
}

struct asked {
    struct broker_plugin_ask ask;
    enum broker_plugin_outcome outcome;
    int answers;
};

static void done(struct broker_plugin_ask *ask, enum broker_plugin_outcome outcome,
                 const struct broker_plugin_said *said)
{
    struct asked *a = container_of(ask, struct asked, ask);
    ck_assert_ptr_null(said->acl);
    a->outcome = outcome;
    a->answers++;
}

static void line(void *arg, enum log_level level, const char *event, struct str text,
                 const struct log_field *field, size_t field_count)
{
    (void)arg;
    (void)field;
    (void)field_count;
    if (strcmp(event, "plugin.late"))
        return;
    seen.late_lines++;
    ck_assert_int_eq(level, LOG_LEVEL_WARN);
    ck_str(text, STR("silent: no answer about a client within 20 ms"));
}

static struct net_loop *loop_of(void)
{
    struct net_loop_conf conf = {.seed = 1};
    struct net_loop *loop;
    ck_assert_int_eq(net_loop_new(&conf, &loop), 0);
    return loop;
}

static void turn_until(struct net_loop *loop, const int *count, int want)
{
    usec_t end = net_loop_now(loop) + 60 * USEC_SEC;
    while (*count < want && net_loop_now(loop) < end)
        net_loop_turn(loop, 10 * USEC_MSEC);
    ck_assert_int_eq(*count, want);
}

/* The client hears of it, once; what the plugin says after it is dropped. */
START_TEST(silence_ends)
{
    static const struct bilrost_plugin ops = {.abi = BILROST_PLUGIN_ABI,
                                              .size = sizeof ops,
                                              .name = "silent",
                                              .open = open_it,
                                              .close = close_it,
                                              .authenticate = keep,
                                              .step = keep_step};
    static const struct broker_plugin_step step = {.method = {"M", 1}};
    const struct log log = {.level_max = LOG_LEVEL_WARN, .write = line};
    struct broker_plugins_conf conf = {
        .loop_count = 1, .version = "1", .log = &log, .answer_usec_max = LIMIT_USEC};
    char error[BROKER_PLUGIN_ERROR_MAX] = "";
    struct net_loop *loop = loop_of();
    struct broker_plugins *p = broker_plugins_new(&conf);
    ck_assert_int_eq(broker_plugins_take(p, &ops, "silent.so", "", false, error), 0);
    memset(&seen.asked, 0, sizeof seen.asked);
    seen.late_lines = 0;
    struct asked a[2] = {{.ask.done = done}, {.ask.done = done}};
    struct broker_plugin_client client = {.user = STR("ann")};
    for (int i = 0; i < 2; i++) {
        usec_t began = net_loop_now(loop);
        broker_plugin_begin(p, &a[i].ask, &client, i ? &step : NULL, loop);
        ck_assert_ptr_nonnull(a[i].ask.under_way);
        turn_until(loop, &a[i].answers, 1);
        ck_assert_int_eq(a[i].outcome, BROKER_PLUGIN_E_ERROR);
        ck_assert_uint_ge(net_loop_now(loop) - began, LIMIT_USEC);
        ck_assert_int_eq(seen.late_lines, i + 1);
        ck_assert_ptr_null(a[i].ask.under_way);
        struct bilrost_verdict yes = {.answer = BILROST_LET_IN, .rules = {"topic x", 7}};
        seen.host->answer(seen.asked, &yes);
        net_loop_turn(loop, 0);
        ck_assert_int_eq(a[i].answers, 1);
    }
    struct asked in_time = {.ask.done = done};
    struct bilrost_verdict no = {.answer = BILROST_BAD_PASSWORD};
    broker_plugin_begin(p, &in_time.ask, &client, NULL, loop);
    seen.host->answer(seen.asked, &no);
    turn_until(loop, &in_time.answers, 1);
    ck_assert_int_eq(in_time.outcome, BROKER_PLUGIN_E_BAD_PASS);
    ck_assert_int_eq(seen.late_lines, 2);
    broker_plugins_free(p);
    net_loop_free(loop);
}
END_TEST

/* As a plugin of interface 1 has it in its memory: this never changes. */
struct plugin_1 {
    uint32_t abi, size;
    const char *name;
    int (*check)(const char *settings, char error[BILROST_PLUGIN_ERROR_MAX]);
    int (*open)(const struct bilrost_host *host, const char *settings,
                char error[BILROST_PLUGIN_ERROR_MAX], void **out_self);
    void (*close)(void *self);
    void (*authenticate)(void *self, const struct bilrost_client *client, struct bilrost_ask *ask);
    void (*event)(void *self, const struct bilrost_event *event);
};

START_TEST(numbers)
{
    struct plugin_1 old = {.abi = 1,
                           .size = sizeof old,
                           .name = "old",
                           .open = open_it,
                           .close = close_it,
                           .authenticate = keep};
    const struct bilrost_plugin *ops = (const void *)&old;
    struct broker_plugins_conf conf = {.loop_count = 1, .version = "1"};
    char error[BROKER_PLUGIN_ERROR_MAX] = "";
    struct broker_plugins *p = broker_plugins_new(&conf);
    struct net_loop *loop = loop_of();
    ck_assert_int_eq(broker_plugins_take(p, ops, "old.so", "", false, error), 0);
    ck_assert(broker_plugins_ask(p) && !broker_plugins_step(p));
    ck_assert_uint_eq(seen.host->abi, 1);
    struct asked a = {.ask.done = done};
    struct broker_plugin_client client = {.user = STR("ann")};
    static const struct broker_plugin_step step = {.method = {"M", 1}};
    broker_plugin_begin(p, &a.ask, &client, &step, loop); /* it has no steps, so it is not asked */
    ck_assert_int_eq(a.answers, 1);
    ck_assert_int_eq(a.outcome, BROKER_PLUGIN_E_UNKNOWN);
    static const struct {
        uint32_t abi, more; /* bytes than it has */
        const char *says;
    } bad[] = {{0, 0, "interface 0, and this broker has 1 to 2"},
               {3, 0, "interface 3, and this broker has 1 to 2"},
               {1, 8, "without size"},
               {2, 0, "without size"}};
    for (size_t i = 0; i < countof(bad); i++) {
        old.abi = bad[i].abi;
        old.size = (uint32_t)sizeof old + bad[i].more;
        ck_assert_int_lt(broker_plugins_take(p, ops, "old.so", "", false, error), 0);
        ck_assert_msg(strstr(error, bad[i].says) && strstr(error, "old.so"), "%s", error);
    }
    broker_plugins_free(p);
    net_loop_free(loop);
}
END_TEST

Suite *suite_plugin(void)
{
    Suite *s = suite_create("plugin");
    TCase *t = tcase_create("plugin");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, silence_ends);
    tcase_add_test(t, numbers);
    suite_add_tcase(s, t);
    return s;
}
