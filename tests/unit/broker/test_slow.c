/* Publishers that wait go on when what they wait for has room, whatever loop they are on.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Clients over TCP.  Who waits is told here to wait for ever: then only the word of the other side
 * lets it go, never the time. */
#include "broker/slow_priv.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit/broker/suites.h"
#include "unit/broker/two.h"

#define CLIENTS_MAX 64
#define INBOX_SIZE 8 /* publishers wait from 3 on, and go on at 1 */

static int fd[CLIENTS_MAX];
static struct broker_conn *conn[CLIENTS_MAX];
static unsigned count;

static void setup(void)
{
    two_setup(INBOX_SIZE);
    char error[NET_LISTENER_ERROR_MAX];
    struct broker_listen_conf conf = {.name = "tcp",
                                      .net = {.address = "127.0.0.1:0"},
                                      .auth = {.methods = BROKER_AUTH_ANONYMOUS}};
    ck_assert_int_eq(broker_listen(two_broker, &conf, error), 0);
    count = 0;
}

static void teardown(void)
{
    for (unsigned i = 0; i < count; i++)
        close(fd[i]);
    TWO_UNTIL(list_empty(&two_broker->loop[0].conns) && list_empty(&two_broker->loop[1].conns));
    two_teardown();
}

static struct broker_conn *conn_of(unsigned id)
{
    char name[] = {(char)('0' + id), 0};
    for (unsigned i = 0; i < 2; i++)
        list_each(&two_broker->loop[i].conns, it)
        {
            struct broker_conn *c = container_of(it, struct broker_conn, link);
            if (c->is_open && str_eq(session_client_id(c->session), str_of(name)))
                return c;
        }
    return NULL;
}

static void say(unsigned id, const void *bytes, size_t n)
{
    ck_assert_int_eq(send(fd[id], bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* A client with MQTT 3.1.1; returns its number. */
static unsigned client_new(void)
{
    unsigned id = count++;
    ck_assert_uint_lt(id, CLIENTS_MAX);
    const struct net_address *a = broker_listen_address(two_broker, 0);
    fd[id] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd[id], &a->sa, sizeof a->v4), 0);
    char hello[] = "\x10\x0d\0\4MQTT\4\2\0\0\0\1?";
    hello[14] = (char)('0' + id);
    say(id, hello, 15);
    TWO_UNTIL((conn[id] = conn_of(id)) != NULL);
    return id;
}

/* One on the loop of `like`, or on the other. */
static unsigned client_on(const struct broker_conn *like, bool is_same)
{
    unsigned id;
    do
        id = client_new();
    while ((conn[id]->loop == like->loop) != is_same);
    return id;
}

/* A subscriber of QoS 1 that takes all and acknowledges nothing. */
static unsigned subscriber_new(void)
{
    unsigned id = client_new();
    say(id, "\x82\x06\0\1\0\1f\1", 8);
    TWO_UNTIL(conn[id]->sub_count == 1);
    return id;
}

static void publish(unsigned id, unsigned packet_id)
{
    const uint8_t p[] = {0x32, 6, 0, 1, 'f', (uint8_t)(packet_id >> 8), (uint8_t)packet_id, 'x'};
    say(id, p, sizeof p);
}

static void publish_until_slowed(unsigned id)
{
    for (unsigned i = 1; i <= UINT16_MAX && !conn[id]->is_slowed; i++) {
        uint64_t was = net_stream_read_total(conn[id]->stream);
        publish(id, i);
        TWO_UNTIL(net_stream_read_total(conn[id]->stream) > was);
        for (unsigned k = 0; k < 4; k++) /* there and back */
            two_turn();
    }
    ck_assert(conn[id]->is_slowed);
    conn[id]->slow_until = USEC_NEVER;
}

START_TEST(a_receiver_that_catches_up)
{
    unsigned sub = subscriber_new();
    unsigned near = client_on(conn[sub], true), far = client_on(conn[sub], false);
    publish_until_slowed(near);
    publish_until_slowed(far);
    ck_assert(conn[sub]->is_crowded);
    ck_assert_uint_eq(conn[sub]->crowd_loops, 3);
    size_t unacked = session_inflight_count(conn[sub]->session);
    for (size_t i = 1; i <= unacked; i++) {
        const uint8_t ack[] = {0x40, 2, (uint8_t)(i >> 8), (uint8_t)i};
        say(sub, ack, sizeof ack);
    }
    TWO_UNTIL(!conn[near]->is_slowed && !conn[far]->is_slowed);
    ck_assert(!conn[sub]->is_crowded);
    ck_assert_uint_eq(conn[sub]->crowd_loops, 0);
}
END_TEST

START_TEST(a_receiver_that_goes_away)
{
    unsigned sub = subscriber_new();
    unsigned near = client_on(conn[sub], true), far = client_on(conn[sub], false);
    publish_until_slowed(near);
    publish_until_slowed(far);
    ck_assert_int_eq(shutdown(fd[sub], SHUT_WR), 0);
    TWO_UNTIL(!conn[near]->is_slowed && !conn[far]->is_slowed);
}
END_TEST

/* What is under way to another loop is bounded; the other loop says when it has taken it. */
START_TEST(a_loop_that_catches_up)
{
    unsigned sub = subscriber_new(), far = client_on(conn[sub], false);
    struct broker_loop *to = conn[sub]->loop, *from = conn[far]->loop;
    uint64_t much = (uint64_t)2 << 20;
    atomic_fetch_add(&to->cross.pending[from->index], much);
    publish_until_slowed(far);
    ck_assert_uint_eq(conn[far]->slow_key, broker_slow_key_of_loop(to->index));
    atomic_fetch_sub(&to->cross.pending[from->index], much);
    unsigned other = client_on(conn[far], true);
    publish(other, 1);
    TWO_UNTIL(!conn[far]->is_slowed);
    ck_assert_uint_eq(to->cross.waiting, 0);
}
END_TEST

START_TEST(only_for_a_time)
{
    unsigned id = client_new();
    broker_slow_for(conn[id], 1);
    ck_assert(conn[id]->is_slowed);
    TWO_UNTIL(!conn[id]->is_slowed);
    broker_slow(conn[id], 77);
    broker_slow_go(conn[id]->loop, 78, 3);
    for (unsigned i = 0; i < 4; i++)
        two_turn();
    ck_assert(conn[id]->is_slowed);
    broker_slow_go(conn[id]->loop, 77, 3);
    TWO_UNTIL(!conn[id]->is_slowed);
}
END_TEST

Suite *suite_slow(void)
{
    Suite *s = suite_create("slow");
    TCase *t = tcase_create("slow");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_receiver_that_catches_up);
    tcase_add_test(t, a_receiver_that_goes_away);
    tcase_add_test(t, a_loop_that_catches_up);
    tcase_add_test(t, only_for_a_time);
    suite_add_tcase(s, t);
    return s;
}
