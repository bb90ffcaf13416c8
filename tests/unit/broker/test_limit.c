/* What is done as memory fills up, step by step up and down again.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * The figure is a pretence: what the clients really hold is nothing beside it.  So each step lasts
 * until the test takes the next one. */
#include "broker/limit_priv.h"

#include <sys/socket.h>
#include <unistd.h>

#include "unit/broker/clients.h"
#include "unit/broker/suites.h"

#define MEMORY_MAX ((uint64_t)1 << 34)
#define BODY_LEN 16000
#define FEW 4         /* messages that wait for the one who has little waiting */
#define MANY 16       /* for the one who has most: more than twice as much */
#define SEND_MAX 4096 /* does not matter: some megabytes fill any kernel's buffers */

static unsigned publisher, most, little, unacked;

static void setup(void)
{
    clients_setup(60000);
}

static uint64_t metric(enum broker_metric_id id)
{
    struct broker_tenant *t = broker_tenant_find(two_broker, STR("default"));
    return t->loop[0].metrics.sum[id] + t->loop[1].metrics.sum[id];
}

static uint64_t event(enum broker_event_id id)
{
    return atomic_load(&two_broker->events.count[id]);
}

/* Memory is used up to this many sixteenths, and half of one more. */
static void fill(unsigned sixteenths)
{
    uint64_t now = budget_used(&two_broker->memory), want = MEMORY_MAX / 32 * (2 * sixteenths + 1);
    if (want > now)
        budget_take(&two_broker->memory, want - now);
    else
        budget_return(&two_broker->memory, now - want);
}

static void empty(void)
{
    uint64_t real = budget_used(&broker_tenant_find(two_broker, STR("default"))->memory);
    budget_return(&two_broker->memory, budget_used(&two_broker->memory) - real);
}

/* Seen by the broker: all of it was read, and the publisher may go on. */
static void publish(char topic, unsigned qos, size_t len)
{
    static uint8_t p[BODY_LEN + 16];
    static uint16_t packet_id;
    struct broker_conn *c = clients_conn[publisher];
    size_t rest = (qos ? 5u : 3u) + len, n = 0;
    p[n++] = (uint8_t)(0x30 | qos << 1);
    for (size_t left = rest; n == 1 || left; left >>= 7)
        p[n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    p[n++] = 0;
    p[n++] = 1;
    p[n++] = (uint8_t)topic;
    if (qos) {
        packet_id++;
        p[n++] = (uint8_t)(packet_id >> 8);
        p[n++] = (uint8_t)packet_id;
    }
    TWO_UNTIL(!c->is_slowed);
    uint64_t want = net_stream_read_total(c->stream) + n + len;
    clients_say(publisher, p, n + len);
    TWO_UNTIL(net_stream_read_total(c->stream) == want);
    for (unsigned k = 0; k < 4; k++) /* there and back */
        two_turn();
}

static size_t waiting(unsigned id)
{
    return session_queue_count(clients_conn[id]->session);
}

static void publish_until_waiting(unsigned id, char topic, unsigned qos, size_t count)
{
    for (unsigned i = 0; i < SEND_MAX && waiting(id) < count; i++)
        publish(topic, qos, qos ? 1 : BODY_LEN);
    ck_assert_uint_ge(waiting(id), count);
}

static bool is_let_in(void)
{
    uint64_t was = metric(BROKER_M_REFUSED);
    struct broker_loop *l = two_broker->loop;
    uint64_t conns = l[0].conn_count + l[1].conn_count;
    int fd = clients_socket(0);
    TWO_UNTIL(metric(BROKER_M_REFUSED) > was || l[0].conn_count + l[1].conn_count > conns);
    bool is_in = metric(BROKER_M_REFUSED) == was;
    close(fd);
    TWO_UNTIL(l[0].conn_count + l[1].conn_count == conns);
    return is_in;
}

/* How often each step was taken since the last time this was asked. */
static void expect_steps(const char *where, bool is_slowed, unsigned shed, bool is_refused)
{
    static uint64_t was[3];
    static const enum broker_metric_id id[3] = {BROKER_M_MEMORY_SLOWED, BROKER_M_MEMORY_SHED,
                                                BROKER_M_MEMORY_REFUSED};
    uint64_t want[3] = {is_slowed, shed, is_refused};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t now = metric(id[i]);
        ck_assert_msg(!where || now - was[i] == want[i], "%s: %s counted %lu times, not %lu", where,
                      broker_metric_name(id[i]), now - was[i], want[i]);
        was[i] = now;
    }
}

static void clients_prepare(void)
{
    publisher = clients_new(0);
    most = clients_on(clients_conn[publisher], true, 4096);
    little = clients_on(clients_conn[publisher], true, 4096);
    unacked = clients_on(clients_conn[publisher], true, 0);
    clients_subscribe(most, 'm', 0);
    clients_subscribe(little, 'l', 0);
    clients_subscribe(unacked, 'u', 1);
    publish_until_waiting(little, 'l', 0, FEW);
    publish_until_waiting(most, 'm', 0, MANY);
    publish_until_waiting(unacked, 'u', 1, 1);
}

START_TEST(each_step_in_its_order_and_back)
{
    clients_prepare();
    atomic_store(&two_broker->memory.limit, MEMORY_MAX);
    expect_steps(NULL, 0, 0, 0);
    uint64_t throttled = event(BROKER_EV_RESOURCE_THROTTLED), qos1 = waiting(unacked);

    fill(11);
    publish('x', 0, 1);
    ck_assert(is_let_in());
    expect_steps("11/16", false, 0, false);

    fill(12);
    publish('x', 0, 1);
    ck_assert(is_let_in());
    expect_steps("12/16", true, 0, false);
    ck_assert_uint_ge(waiting(most), MANY);

    fill(13); /* who has most first, the other when it is the one who has most */
    uint64_t dropped = metric(BROKER_M_DROP_RESOURCE), gone = waiting(most), left = waiting(little);
    publish('x', 0, 1);
    TWO_UNTIL(waiting(most) == 0);
    ck_assert_uint_eq(event(BROKER_EV_QOS0_DROPPED) > 0, 1);
    ck_assert_uint_ge(metric(BROKER_M_DROP_RESOURCE), dropped + gone);
    TWO_UNTIL(waiting(little) == 0);
    ck_assert_uint_eq(metric(BROKER_M_DROP_RESOURCE), dropped + gone + left);
    ck_assert(is_let_in());
    expect_steps("13/16", true, 2, false);

    fill(14);
    publish('x', 0, 1);
    ck_assert(!is_let_in());
    ck_assert_uint_eq(event(BROKER_EV_RESOURCE_THROTTLED), throttled + 1);
    expect_steps("14/16", true, 0, true);
    publish('m', 0, BODY_LEN);
    ck_assert_uint_eq(metric(BROKER_M_DROP_RESOURCE), dropped + gone + left);
    publish('m', 0, BODY_LEN); /* the first one is a byte that waits: no other is put beside it */
    ck_assert_uint_le(waiting(most), 1);
    expect_steps(NULL, 0, 0, 0);

    fill(13);
    publish('x', 0, 1);
    ck_assert(is_let_in());
    fill(12);
    expect_steps(NULL, 0, 0, 0);
    publish('x', 0, 1);
    ck_assert(is_let_in());
    expect_steps("12/16 again", true, 0, false);
    TWO_UNTIL(clients_conn[most]->loop->qos0_bytes_max == 0);

    fill(11);
    publish('x', 0, 1);
    ck_assert(is_let_in());
    expect_steps("11/16 again", false, 0, false);
    publish_until_waiting(most, 'm', 0, MANY); /* as before */
    ck_assert_uint_eq(waiting(unacked), qos1);
    ck_assert_uint_eq(event(BROKER_EV_RESOURCE_THROTTLED), throttled + 1);
    empty();
}
END_TEST

Suite *suite_limit(void)
{
    Suite *s = suite_create("limit");
    TCase *t = tcase_create("limit");
    tcase_add_checked_fixture(t, setup, clients_teardown);
    tcase_add_test(t, each_step_in_its_order_and_back);
    suite_add_tcase(s, t);
    return s;
}
