/* Counters, their Prometheus text, and the event table.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "broker/event.h"
#include "broker/metric.h"
#include "unit/broker/suites.h"

START_TEST(adds_up_over_loops)
{
    struct broker_metrics a = {0}, b = {0}, sum = {0};
    broker_metric_add(&a, BROKER_M_CONNECTIONS, 5);
    broker_metric_sub(&b, BROKER_M_CONNECTIONS, 2); /* connected on one loop's count, gone on another's */
    broker_metric_bytes(&b, BROKER_M_INGRESS_QOS1, 100, 3);
    broker_metrics_add(&sum, &a);
    broker_metrics_add(&sum, &b);
    ck_assert_uint_eq(sum.sum[BROKER_M_CONNECTIONS], 3);
    ck_assert_uint_eq(sum.sum[BROKER_M_INGRESS_QOS1], 100);
    ck_assert_uint_eq(sum.count[BROKER_M_INGRESS_QOS1], 3);
}
END_TEST

static unsigned lines, others;

static void count_line(void *arg, enum log_level level, const char *event, struct str text,
                       const struct log_field *field, size_t field_count)
{
    (void)arg;
    (void)level;
    (void)event;
    (void)field;
    lines++;
    others += field_count == 0;
    ck_assert(field_count > 0 || memmem(text.p, text.n, "only counted", 12));
}

/* A client that makes trouble as fast as it can does not fill the journal. */
START_TEST(lines_of_one_kind_are_bounded)
{
    const struct log log = {LOG_LEVEL_INFO, count_line, NULL};
    struct broker_events *e = mem_new(sizeof *e);
    const struct broker_event_who who = {.tenant = STR("t"), .client_id = STR("c")};
    e->log = &log;
    lines = others = 0;
    for (unsigned i = 0; i < 5000; i++)
        broker_event_report(e, BROKER_EV_PUB_ACTION_DISALLOW, &who, "a/b");
    ck_assert_uint_eq(atomic_load(&e->count[BROKER_EV_PUB_ACTION_DISALLOW]), 5000);
    ck_assert_uint_eq(lines, BROKER_EVENT_LINES_MAX + 1);
    ck_assert_uint_eq(others, 1);
    broker_event_report(e, BROKER_EV_DIST_ERROR, &who, "a/b"); /* another kind has its own */
    ck_assert_uint_eq(lines, BROKER_EVENT_LINES_MAX + 2);
    /* the window is over */
    atomic_fetch_sub(&e->window[BROKER_EV_PUB_ACTION_DISALLOW].began, BROKER_EVENT_WINDOW_USEC);
    broker_event_report(e, BROKER_EV_PUB_ACTION_DISALLOW, &who, "a/b");
    ck_assert_uint_eq(lines, BROKER_EVENT_LINES_MAX + 3);
    /* clients that come and go are written each time */
    lines = 0;
    for (unsigned i = 0; i < 500; i++)
        broker_event_report(e, BROKER_EV_CLIENT_CHANNEL_ERROR, &who, "reset");
    ck_assert_uint_eq(lines, 500);
    mem_free(e);
}
END_TEST

START_TEST(prometheus_text)
{
    struct broker_metrics m[2] = {0};
    struct str name[2] = {STR("default"), STR("a\"b")};
    struct buf out = {0};
    broker_metric_add(&m[0], BROKER_M_CONNECT, 7);
    broker_metric_format(BROKER_M_CONNECT, name, m, 2, &out);
    ck_str(buf_str(&out), STR("# HELP mqtt_connect_count_total accepted CONNECT packets\n"
                              "# TYPE mqtt_connect_count_total counter\n"
                              "mqtt_connect_count_total{tenantId=\"default\"} 7\n"
                              "mqtt_connect_count_total{tenantId=\"a\\\"b\"} 0\n"));
    out.n = 0;
    broker_metric_bytes(&m[0], BROKER_M_EGRESS_QOS0, 64, 2);
    broker_metric_format(BROKER_M_EGRESS_QOS0, name, m, 1, &out);
    ck_str(buf_str(&out), STR("# HELP mqtt_egress_qos0_bytes QoS 0 publishes sent\n"
                              "# TYPE mqtt_egress_qos0_bytes summary\n"
                              "mqtt_egress_qos0_bytes_sum{tenantId=\"default\"} 64\n"
                              "mqtt_egress_qos0_bytes_count{tenantId=\"default\"} 2\n"));
    buf_deinit(&out);
}
END_TEST

static void keep_event(void *arg, enum log_level level, const char *event, struct str text,
                       const struct log_field *field, size_t field_count)
{
    struct buf *b = arg;
    buf_printf(b, "%d %s [%.*s]", (int)level, event, STR_ARG(text));
    for (size_t i = 0; i < field_count; i++)
        buf_printf(b, " %s=%.*s", field[i].key, STR_ARG(field[i].value));
}

START_TEST(events_are_counted_and_logged)
{
    struct buf line = {0};
    struct log log = {LOG_LEVEL_NOTICE, keep_event, &line};
    struct broker_events e = {.log = &log};
    struct broker_event_who who = {.tenant = STR("t"), .client_id = STR("c")};
    broker_event_report(&e, BROKER_EV_BY_CLIENT, &who, "%s", ""); /* info: counted, below the level */
    ck_assert_uint_eq(line.n, 0);
    broker_event_report(&e, BROKER_EV_QOS1_DROPPED, &who, "%s", "Overflow");
    ck_str(buf_str(&line), STR("5 QOS1_DROPPED [QoS 1 message dropped: Overflow] tenant=t client_id=c"));
    ck_assert_uint_eq(e.count[BROKER_EV_BY_CLIENT], 1);
    ck_assert_uint_eq(e.count[BROKER_EV_QOS1_DROPPED], 1);
    ck_assert_int_eq(BROKER_EVENT_COUNT, 84);
    buf_deinit(&line);
}
END_TEST

Suite *suite_metric(void)
{
    Suite *s = suite_create("metric");
    TCase *t = tcase_create("metric");
    tcase_add_test(t, adds_up_over_loops);
    tcase_add_test(t, lines_of_one_kind_are_bounded);
    tcase_add_test(t, prometheus_text);
    tcase_add_test(t, events_are_counted_and_logged);
    suite_add_tcase(s, t);
    return s;
}
