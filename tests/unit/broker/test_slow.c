/* Publishers that wait go on when what they wait for has room, whatever loop they are on.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Clients over TCP.  Who waits is told here to wait for ever: then only the word of the other side
 * lets it go, never the time. */
#include "broker/slow_priv.h"

#include "unit/broker/clients.h"
#include "unit/broker/suites.h"

#define INBOX_SIZE 8 /* publishers wait from 3 on, and go on at 1 */

static void setup(void)
{
    clients_setup(INBOX_SIZE);
}

/* A subscriber of QoS 1 that takes all and acknowledges nothing. */
static unsigned subscriber_new(void)
{
    unsigned id = clients_new(0);
    clients_subscribe(id, 'f', 1);
    return id;
}

static void publish(unsigned id, unsigned packet_id)
{
    const uint8_t p[] = {0x32, 6, 0, 1, 'f', (uint8_t)(packet_id >> 8), (uint8_t)packet_id, 'x'};
    clients_say(id, p, sizeof p);
}

static void publish_until_slowed(unsigned id)
{
    for (unsigned i = 1; i <= UINT16_MAX && !clients_conn[id]->is_slowed; i++) {
        uint64_t was = net_stream_read_total(clients_conn[id]->stream);
        publish(id, i);
        TWO_UNTIL(net_stream_read_total(clients_conn[id]->stream) > was);
        for (unsigned k = 0; k < 4; k++) /* there and back */
            two_turn();
    }
    ck_assert(clients_conn[id]->is_slowed);
    clients_conn[id]->slow_until = USEC_NEVER;
}

START_TEST(a_receiver_that_catches_up)
{
    unsigned sub = subscriber_new();
    unsigned near = clients_on(clients_conn[sub], true, 0),
             far = clients_on(clients_conn[sub], false, 0);
    publish_until_slowed(near);
    publish_until_slowed(far);
    ck_assert(clients_conn[sub]->is_crowded);
    ck_assert_uint_eq(clients_conn[sub]->crowd_loops, 3);
    size_t unacked = session_inflight_count(clients_conn[sub]->session);
    for (size_t i = 1; i <= unacked; i++) {
        const uint8_t ack[] = {0x40, 2, (uint8_t)(i >> 8), (uint8_t)i};
        clients_say(sub, ack, sizeof ack);
    }
    TWO_UNTIL(!clients_conn[near]->is_slowed && !clients_conn[far]->is_slowed);
    ck_assert(!clients_conn[sub]->is_crowded);
    ck_assert_uint_eq(clients_conn[sub]->crowd_loops, 0);
}
END_TEST

START_TEST(a_receiver_that_goes_away)
{
    unsigned sub = subscriber_new();
    unsigned near = clients_on(clients_conn[sub], true, 0),
             far = clients_on(clients_conn[sub], false, 0);
    publish_until_slowed(near);
    publish_until_slowed(far);
    clients_leave(sub);
    TWO_UNTIL(!clients_conn[near]->is_slowed && !clients_conn[far]->is_slowed);
}
END_TEST

/* What is under way to another loop is bounded; the other loop says when it has taken it. */
START_TEST(a_loop_that_catches_up)
{
    unsigned sub = subscriber_new(), far = clients_on(clients_conn[sub], false, 0);
    struct broker_loop *to = clients_conn[sub]->loop, *from = clients_conn[far]->loop;
    uint64_t much = (uint64_t)2 << 20;
    atomic_fetch_add(&to->cross.pending[from->index], much);
    publish_until_slowed(far);
    ck_assert_uint_eq(clients_conn[far]->slow_key, broker_slow_key_of_loop(to->index));
    atomic_fetch_sub(&to->cross.pending[from->index], much);
    unsigned other = clients_on(clients_conn[far], true, 0);
    publish(other, 1);
    TWO_UNTIL(!clients_conn[far]->is_slowed);
    ck_assert_uint_eq(to->cross.waiting, 0);
}
END_TEST

START_TEST(only_for_a_time)
{
    unsigned id = clients_new(0);
    broker_slow_for(clients_conn[id], 1);
    ck_assert(clients_conn[id]->is_slowed);
    TWO_UNTIL(!clients_conn[id]->is_slowed);
    broker_slow(clients_conn[id], 77);
    broker_slow_go(clients_conn[id]->loop, 78, 3);
    for (unsigned i = 0; i < 4; i++)
        two_turn();
    ck_assert(clients_conn[id]->is_slowed);
    broker_slow_go(clients_conn[id]->loop, 77, 3);
    TWO_UNTIL(!clients_conn[id]->is_slowed);
}
END_TEST

Suite *suite_slow(void)
{
    Suite *s = suite_create("slow");
    TCase *t = tcase_create("slow");
    tcase_add_checked_fixture(t, setup, clients_teardown);
    tcase_add_test(t, a_receiver_that_catches_up);
    tcase_add_test(t, a_receiver_that_goes_away);
    tcase_add_test(t, a_loop_that_catches_up);
    tcase_add_test(t, only_for_a_time);
    suite_add_tcase(s, t);
    return s;
}
