/* What clients and operators are told when the stores do not answer.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * A whole broker with a client over TCP, above stores that fail as they are told (stores.h). */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "broker/broker.h"
#include "codec/msg.h"
#include "net/clock.h"
#include "net/loop.h"
#include "session/settings.h"
#include "unit/silent/stores.h"
#include "unit/unit.h"

#define WAIT_USEC (60 * USEC_SEC)
#define COUNT(name) atomic_load(&broker_events(broker)->count[BROKER_EV_##name])
#define RAISED(name) ck_assert_uint_gt(COUNT(name), 0)
#define NOT_RAISED(name) ck_assert_uint_eq(COUNT(name), 0)

static struct net_loop *loop;
static struct broker *broker;
static struct stores *stores;
static int fd;
static unsigned lines_failing, lines_back,
    lines_elsewhere; /* of the journal: $SYS, subscriptions */

static void on_line(void *arg, enum log_level level, const char *event, struct str text,
                    const struct log_field *field, size_t field_count)
{
    (void)arg;
    (void)level;
    (void)text;
    (void)field;
    (void)field_count;
    lines_failing += strcmp(event, "broker.sys.failing") == 0;
    lines_back += strcmp(event, "broker.sys.back") == 0;
    lines_elsewhere += strcmp(event, "broker.publish.elsewhere") == 0;
}

static const struct log journal = {LOG_LEVEL_INFO, on_line, NULL};

static void setup_with(usec_t sys_interval)
{
    struct net_loop_conf lc = {.seed = 1};
    ck_assert_int_eq(net_loop_new(&lc, &loop), 0);
    struct broker_conf bc = {.node = {{1}},
                             .epoch = 7,
                             .loop = &loop,
                             .loop_count = 1,
                             .seed = 3,
                             .log = &journal,
                             .sys_interval_usec = sys_interval};
    broker = broker_new(&bc);
    stores = silent_new(loop);
    struct session_settings values;
    session_settings_init(&values);
    struct broker_settings *settings = broker_settings_new(&values);
    broker_tenant_set(broker, STR("default"), settings, &(struct broker_tenant_limits){0});
    broker_settings_unref(settings);
    broker_start(broker, stores);
    char error[NET_LISTENER_ERROR_MAX];
    struct broker_listen_conf conf = {.name = "tcp",
                                      .net = {.address = "127.0.0.1:0"},
                                      .auth = {.methods = BROKER_AUTH_ANONYMOUS}};
    ck_assert_int_eq(broker_listen(broker, &conf, error), 0);
    const struct net_address *a = broker_listen_address(broker, 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, &a->sa, sizeof a->v4), 0);
}

static void setup(void)
{
    setup_with(0);
}

static void setup_sys(void)
{
    setup_with(USEC_MSEC);
}

/* A client that was refused is let go some seconds later: the broker does not wait for that. */
static void teardown(void)
{
    close(fd);
    for (unsigned i = 0; i < 8; i++)
        net_loop_turn(loop, 0);
    silent_stop(stores);
    broker = broker_free(broker);
    for (unsigned i = 0; i < 8; i++)
        net_loop_turn(loop, 0);
    stores = silent_free(stores);
    loop = net_loop_free(loop);
}

/* ---- a client ---- */

static void say(const char *bytes, size_t n)
{
    ck_assert_int_eq(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}
#define SAY(text) say(text, sizeof(text) - 1)

/* The next packet from the broker, which must be of this type and below 128 bytes; its body. */
static struct str hear(uint8_t type)
{
    static char p[130];
    size_t n = 0;
    for (usec_t end = net_clock_now() + WAIT_USEC; n < 2 || n < 2 + (size_t)p[1];) {
        ck_assert_msg(net_clock_now() < end, "no packet of type %d", type);
        net_loop_turn(loop, USEC_MSEC);
        ssize_t r = recv(fd, p + n, n < 2 ? 2 - n : 2 + (size_t)p[1] - n, MSG_DONTWAIT);
        ck_assert(r > 0 || (r < 0 && errno == EAGAIN));
        n += r > 0 ? (size_t)r : 0;
        ck_assert(n < 2 || p[1] >= 0);
    }
    ck_assert_uint_eq((uint8_t)p[0] >> 4, type);
    return str_view(p + 2, n - 2);
}

static void until_raised(enum broker_event_id id)
{
    for (usec_t end = net_clock_now() + WAIT_USEC;
         atomic_load(&broker_events(broker)->count[id]) == 0;) {
        ck_assert_msg(net_clock_now() < end, "%s was not raised", broker_event_name(id));
        net_loop_turn(loop, USEC_MSEC);
    }
}

static uint8_t connect_with(const char *body, size_t n)
{
    char p[64] = {0x10, (char)n};
    memcpy(p + 2, body, n);
    say(p, n + 2);
    return (uint8_t)hear(2).p[1];
}
#define CONNECT_CLEAN() connect_with("\0\4MQTT\5\2\0\0\0\0\1c", 14)
#define CONNECT_STORED() connect_with("\0\4MQTT\5\2\0\0\5\x11\0\0\1\0\0\1c", 19)

static uint8_t subscribe(void)
{
    SAY("\x82\x07\0\1\0\0\1f\1");
    struct str s = hear(9);
    return (uint8_t)s.p[s.n - 1];
}

#define TURN_UNTIL(cond)                                                                           \
    for (usec_t end = net_clock_now() + WAIT_USEC; !(cond); net_loop_turn(loop, USEC_MSEC))        \
    ck_assert_msg(net_clock_now() < end, "never: " #cond)

/* ---- what fails ---- */

START_TEST(a_client_that_nobody_can_own)
{
    silent_set(stores, SILENT_CLAIM, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(CONNECT_CLEAN(), 0x89);
    RAISED(SERVER_BUSY);
}
END_TEST

START_TEST(a_session_that_is_not_found)
{
    silent_set(stores, SILENT_ATTACH, STORES_E_NO_SESSION);
    ck_assert_uint_eq(CONNECT_STORED(), 0x88);
    RAISED(INBOX_TRANSIENT_ERROR);
}
END_TEST

START_TEST(an_authentication_method_nobody_knows)
{
    ck_assert_uint_eq(connect_with("\0\4MQTT\5\2\0\0\4\x15\0\1X\0\1c", 18), 0x8c);
    RAISED(AUTH_ERROR);
}
END_TEST

START_TEST(a_route_that_is_not_added)
{
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    silent_set(stores, SILENT_ROUTE_ADD, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(subscribe(), 0x83);
    RAISED(MATCH_ERROR);
    NOT_RAISED(MATCHED);
    silent_set(stores, SILENT_ROUTE_ADD, STORES_OK);
    ck_assert_uint_eq(subscribe(), 1);
    RAISED(MATCHED);
}
END_TEST

/* It is as if it had not been asked for: the next try is a new one, and nothing is left to end. */
START_TEST(a_group_that_is_full)
{
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    silent_set(stores, SILENT_ROUTE_ADD, STORES_E_LIMIT);
    SAY("\x82\x10\0\1\0\0\x0a$share/g/f\1");
    ck_assert_uint_eq((uint8_t)hear(9).p[3], 0x97);
    SAY("\xa2\x0f\0\2\0\0\x0a$share/g/f");
    ck_assert_uint_eq((uint8_t)hear(11).p[3], 0x11);
    silent_set(stores, SILENT_ROUTE_ADD, STORES_OK);
    SAY("\x82\x10\0\3\0\0\x0a$share/g/f\1");
    ck_assert_uint_eq((uint8_t)hear(9).p[3], 1);
    RAISED(MATCHED);
    silent_set(stores, SILENT_ROUTE_ADD, STORES_E_UNKNOWN);
    SAY("\x82\x10\0\4\0\0\x0a$share/g/f\0");
    ck_assert_uint_eq((uint8_t)hear(9).p[3], 0x83);
    SAY("\xa2\x0f\0\5\0\0\x0a$share/g/f"); /* the one before still stands */
    ck_assert_uint_eq((uint8_t)hear(11).p[3], 0);
}
END_TEST

START_TEST(a_stored_subscription_that_fails)
{
    ck_assert_uint_eq(CONNECT_STORED(), 0);
    silent_set(stores, SILENT_SUB, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(subscribe(), 0x83);
    RAISED(MATCH_ERROR);
    silent_set(stores, SILENT_UNSUB, STORES_E_UNKNOWN);
    SAY("\xa2\x06\0\2\0\0\1f");
    struct str s = hear(11);
    ck_assert_uint_eq((uint8_t)s.p[s.n - 1], 0x83);
    RAISED(UNMATCH_ERROR);
    NOT_RAISED(UNMATCHED);
}
END_TEST

START_TEST(retained_messages_that_cannot_be_looked_up)
{
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    silent_set(stores, SILENT_RETAIN_MATCH, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(subscribe(), 1); /* the subscription itself stands */
    until_raised(BROKER_EV_MATCH_RETAIN_ERROR);
    RAISED(MATCH_RETAIN_ERROR);
}
END_TEST

START_TEST(a_message_that_cannot_be_retained)
{
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    silent_set(stores, SILENT_RETAIN_PUT, STORES_E_UNAVAILABLE);
    SAY("\x33\x07\0\1t\0\1\0x");
    ck_assert_uint_eq((uint8_t)hear(4).p[2], 0x83);
    RAISED(MSG_RETAINED_ERROR);
    RAISED(QOS1_DIST_ERROR);
}
END_TEST

START_TEST(an_inbox_that_takes_nothing)
{
    silent_subscriber(stores, "default", "t");
    silent_set(stores, SILENT_INSERT, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    SAY("\x30\x05\0\1t\0x");
    until_raised(BROKER_EV_QOS0_DIST_ERROR);
    RAISED(QOS0_DIST_ERROR);
    RAISED(DELIVER_ERROR);
    RAISED(DIST_ERROR);
    NOT_RAISED(QOS1_DIST_ERROR);
    SAY("\x32\x07\0\1t\0\1\0x");
    ck_assert_uint_eq((uint8_t)hear(4).p[2], 0x83);
    RAISED(QOS1_DIST_ERROR);
    NOT_RAISED(QOS2_DIST_ERROR);
    SAY("\x34\x07\0\1t\0\2\0x");
    ck_assert_uint_eq((uint8_t)hear(5).p[2], 0x83);
    RAISED(QOS2_DIST_ERROR);
    ck_assert_uint_eq(COUNT(DIST_ERROR), 3);
    silent_set(stores, SILENT_INSERT, STORES_OK);
    SAY("\x32\x07\0\1t\0\3\0x");
    ck_assert_uint_eq(hear(4).n, 2); /* 0x00, left out */
    ck_assert_uint_eq(COUNT(DIST_ERROR), 3);
}
END_TEST

START_TEST(an_exchange_that_cannot_be_kept)
{
    ck_assert_uint_eq(CONNECT_STORED(), 0);
    silent_set(stores, SILENT_RECEIVE, STORES_E_UNAVAILABLE);
    SAY("\x34\x07\0\1t\0\2\0x");
    ck_assert_uint_eq((uint8_t)hear(5).p[2], 0x83);
    RAISED(QOS2_DIST_ERROR);
}
END_TEST

/* The inbox answers for the second packet identifier before it does for the first, as it may when it had to be asked
 * again: the messages keep their order. */
START_TEST(exchanges_that_are_answered_in_another_order)
{
    silent_subscriber(stores, "default", "t");
    silent_hold(stores, SILENT_RECEIVE);
    ck_assert_uint_eq(CONNECT_STORED(), 0);
    SAY("\x34\x07\0\1t\0\1\0a\x34\x07\0\1t\0\2\0b\x34\x07\0\1t\0\3\0c");
    TURN_UNTIL(silent_waiting(stores) == 3);
    while (silent_end_last(stores))
        net_loop_turn(loop, 0);
    for (char id = 1; id <= 3; id++)
        ck_assert_int_eq(hear(5).p[1], id);
    ck_assert(str_eq(silent_inserted(stores), STR("abc")));
}
END_TEST

/* This node does not have all subscriptions: another one is asked, each time, and nothing overtakes. */
START_TEST(subscriptions_that_are_elsewhere)
{
    silent_index(stores, STORES_INDEX_PART);
    silent_hold(stores, SILENT_MATCH);
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    SAY("\x32\x07\0\1t\0\1\0a");
    TURN_UNTIL(silent_waiting(stores) == 1);
    SAY("\x32\x07\0\1u\0\2\0b\x30\x05\0\1u\0c\x32\x07\0\1t\0\3\0d");
    TURN_UNTIL(silent_waiting(stores) == 3); /* u is asked once for both */
    ck_assert_uint_eq(silent_inserted(stores).n, 0);
    while (silent_end_last(stores))
        net_loop_turn(loop, 0);
    for (char id = 1; id <= 3; id++)
        ck_assert_int_eq(hear(4).p[1], id);
    ck_assert(str_eq(silent_inserted(stores), STR("abcd")));
    ck_assert_uint_eq(lines_elsewhere, 1);
}
END_TEST

/* Nobody answers: QoS 1 and 2 are refused, one with all behind it; QoS 0 goes to whom is known, and does not wait again
 * before somebody has answered. */
START_TEST(subscriptions_that_nobody_tells)
{
    silent_subscriber(stores, "default", "t");
    silent_index(stores, STORES_INDEX_PART);
    silent_hold(stores, SILENT_MATCH);
    silent_set(stores, SILENT_MATCH, STORES_E_UNAVAILABLE);
    ck_assert_uint_eq(CONNECT_CLEAN(), 0);
    SAY("\x30\x05\0\1t\0z\x32\x07\0\1t\0\1\0a\x32\x07\0\1u\0\2\0b");
    TURN_UNTIL(silent_waiting(stores) == 2);
    ck_assert(silent_end_last(stores) && silent_end_last(stores));
    for (char id = 1; id <= 2; id++) {
        struct str s = hear(4);
        ck_assert_int_eq(s.p[1], id);
        ck_assert_uint_eq((uint8_t)s.p[2], 0x83);
    }
    ck_assert(str_eq(silent_inserted(stores), STR("z")));
    SAY("\x30\x05\0\1t\0y");
    TURN_UNTIL(silent_inserted(stores).n == 2);
    ck_assert_uint_eq(silent_waiting(stores), 1); /* it asks on */
    silent_set(stores, SILENT_MATCH, STORES_OK);
    ck_assert(silent_end_last(stores));
    SAY("\x32\x07\0\1u\0\3\0c");
    TURN_UNTIL(silent_waiting(stores) == 1);
    ck_assert(silent_end_last(stores));
    ck_assert_uint_eq(hear(4).n, 2);
    ck_assert(str_eq(silent_inserted(stores), STR("zyc")));
}
END_TEST

START_TEST(a_will_that_cannot_be_published)
{
    const struct stores_host *host = broker_stores_host(broker);
    struct stores_session who = {.tenant = STR("default"), .client = STR("gone")};
    struct codec_msg will = {.topic = STR("t"), .payload = STR("w"), .qos = 1};
    silent_subscriber(stores, "default", "t");
    silent_set(stores, SILENT_INSERT, STORES_E_UNAVAILABLE);
    host->will(host->arg, 0, &who, &will, 5);
    until_raised(BROKER_EV_WILL_DIST_ERROR);
    RAISED(WILL_DIST_ERROR);
    NOT_RAISED(WILL_DISTED);
    ck_assert_uint_eq(silent_wills_done(stores), 0); /* the store brings it again */
    silent_set(stores, SILENT_INSERT, STORES_OK);
    host->will(host->arg, 0, &who, &will, 5);
    until_raised(BROKER_EV_WILL_DISTED);
    ck_assert_uint_eq(silent_wills_done(stores), 1);
}
END_TEST

/* What has not changed is not put again.  One topic tries, so that an outage does not fill the
 * journal, which has a line where it begins and one where it ends; then all are there again. */
START_TEST(figures_that_cannot_be_retained)
{
    TURN_UNTIL(silent_retain_puts(stores) >= 20);
    ck_assert_uint_eq(silent_retain_row(stores, "$SYS/broker/uptime"), silent_retain_puts(stores) - 5);
    silent_set(stores, SILENT_RETAIN_PUT, STORES_E_UNAVAILABLE);
    TURN_UNTIL(lines_failing == 1);
    unsigned puts = silent_retain_puts(stores);
    TURN_UNTIL(silent_retain_puts(stores) >= puts + 3);
    ck_assert_uint_eq(silent_retain_row(stores, "$SYS/broker/uptime"), silent_retain_puts(stores) - 5);
    ck_assert_uint_eq(lines_failing, 1);
    ck_assert_uint_eq(lines_back, 0);
    silent_set(stores, SILENT_RETAIN_PUT, STORES_OK);
    TURN_UNTIL(silent_retain_row(stores, "$SYS/broker/uptime") == 1); /* others between */
    ck_assert_uint_eq(lines_failing, 1);
    ck_assert_uint_eq(lines_back, 1);
}
END_TEST

Suite *unit_suites(int i)
{
    if (i > 0)
        return NULL;
    Suite *s = suite_create("silent stores");
    TCase *t = tcase_create("silent");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_client_that_nobody_can_own);
    tcase_add_test(t, a_session_that_is_not_found);
    tcase_add_test(t, an_authentication_method_nobody_knows);
    tcase_add_test(t, a_route_that_is_not_added);
    tcase_add_test(t, a_group_that_is_full);
    tcase_add_test(t, a_stored_subscription_that_fails);
    tcase_add_test(t, retained_messages_that_cannot_be_looked_up);
    tcase_add_test(t, a_message_that_cannot_be_retained);
    tcase_add_test(t, an_inbox_that_takes_nothing);
    tcase_add_test(t, an_exchange_that_cannot_be_kept);
    tcase_add_test(t, exchanges_that_are_answered_in_another_order);
    tcase_add_test(t, subscriptions_that_are_elsewhere);
    tcase_add_test(t, subscriptions_that_nobody_tells);
    tcase_add_test(t, a_will_that_cannot_be_published);
    suite_add_tcase(s, t);
    t = tcase_create("figures");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup_sys, teardown);
    tcase_add_test(t, figures_that_cannot_be_retained);
    suite_add_tcase(s, t);
    return s;
}
