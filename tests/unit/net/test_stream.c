/* Streams and listeners over loopback.  SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "unit/net/pair.h"

START_TEST(bytes_go_and_come_back)
{
    pair_listen((struct net_listener_conf){0});
    pair_server.is_echo = true;
    pair_dial((struct net_stream_conf){0});
    buf_put_str(net_stream_out(pair_client.s), STR("hello"));
    turn_until(pair_loop, pair_client.got.n == 5);
    ck_str(buf_str(&pair_client.got), STR("hello"));
    ck_assert(pair_client.is_open);
    ck_assert_uint_eq(net_stream_read_total(pair_server.s), 5);
    ck_assert_uint_eq(net_stream_written_total(pair_server.s), 5);
    ck_assert_uint_eq(net_listener_stats(pair_listener).connection_count, 1);
    pair_finish();
}
END_TEST

/* Much more than the kernel's buffers, to a reader that is paused: water marks, then all of it
 * arrives. */
START_TEST(slow_reader)
{
    pair_listen(
        (struct net_listener_conf){.limits = {.out_high_bytes = 100000, .out_low_bytes = 1000}});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    net_stream_pause(pair_client.s);
    size_t n = 20 * 1000 * 1000, sum = 0;
    uint8_t *big = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 7 + i / 251);
    buf_put(net_stream_out(pair_server.s), big, n);
    ck_assert(net_stream_is_high(pair_server.s));
    for (int i = 0; i < 10; i++)
        net_loop_turn(pair_loop, USEC_MSEC);
    ck_assert_uint_eq(pair_client.got.n, 0);
    ck_assert(net_stream_is_high(pair_server.s));
    ck_assert(!pair_server.is_drained);
    net_stream_resume(pair_client.s);
    turn_until(pair_loop, pair_client.got.n == n);
    ck_assert(pair_server.is_drained);
    ck_assert(!net_stream_is_high(pair_server.s));
    ck_assert_uint_eq(net_stream_out_len(pair_server.s), 0);
    ck_assert_int_eq(memcmp(pair_client.got.p, big, n), 0);
    (void)sum;
    mem_free(big);
    pair_finish();
}
END_TEST

/* What waits is counted as long as it waits, in both directions; and when the writer is told how
 * much is too much for it, the way is told to be free although the high mark was never reached. */
START_TEST(what_waits_is_charged)
{
    struct budget budget;
    budget_init(&budget, NULL, 1000);
    pair_listen(
        (struct net_listener_conf){.limits = {.budget = &budget, .keep_bytes_max = 1000000}});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    net_stream_pause(pair_client.s);
    size_t n = 10 * 1000 * 1000;
    uint8_t *big = mem_new(n);
    buf_put(net_stream_out(pair_server.s), big, n);
    net_stream_owe_drained(pair_server.s, n + 1); /* not yet so much */
    for (int i = 0; i < 10; i++)
        net_loop_turn(pair_loop, USEC_MSEC);
    ck_assert_uint_ge(budget_used(&budget), net_stream_out_len(pair_server.s));
    ck_assert_uint_gt(budget_used(&budget), 1000); /* counted, also above the limit */
    net_stream_resume(pair_client.s);
    turn_until(pair_loop, pair_client.got.n == n);
    ck_assert_uint_eq(budget_used(&budget), 0);
    pair_server.is_drained = false;
    buf_put(net_stream_out(pair_server.s), big, 1000);
    net_stream_owe_drained(pair_server.s, 1000);
    turn_until(pair_loop, pair_server.is_drained);
    pair_server.hold = true;
    buf_put(net_stream_out(pair_client.s), big, 100000);
    turn_until(pair_loop, budget_used(&budget) >= 100000);
    net_stream_abort(pair_client.s);
    turn_until(pair_loop, pair_server.is_closed);
    ck_assert_uint_eq(budget_used(&budget), 0);
    mem_free(big);
    pair_finish();
}
END_TEST

static int released;

static void on_release(void *owner)
{
    (void)owner;
    released++;
}

/* Copied and shared pieces in any mixture keep their order, also when the kernel takes them bit by
 * bit. */
START_TEST(shared_pieces_keep_order)
{
    pair_listen((struct net_listener_conf){0});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    struct buf want = {0};
    static uint8_t piece[70000];
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (uint8_t)(i * 31);
    released = 0;
    for (int i = 0; i < 300; i++) {
        uint8_t copy[100];
        memset(copy, i, sizeof copy);
        size_t small = (size_t)(i * 37 % 100), large = (size_t)(i * 7919) % sizeof piece;
        buf_put(net_stream_out(pair_server.s), copy, small);
        buf_put(&want, copy, small);
        net_stream_out_shared(pair_server.s, piece, large, on_release, NULL);
        buf_put(&want, piece, large);
        if (i % 50 == 0)
            net_loop_turn(pair_loop, 0);
    }
    turn_until(pair_loop, pair_client.got.n == want.n);
    ck_assert_int_eq(memcmp(pair_client.got.p, want.p, want.n), 0);
    ck_assert_int_eq(released, 300);
    buf_deinit(&want);
    pair_finish();
}
END_TEST

START_TEST(what_is_left_is_offered_again)
{
    pair_listen((struct net_listener_conf){.limits = {.keep_bytes_max = 1000000}});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL);
    pair_server.hold = true;
    buf_put_str(net_stream_out(pair_client.s), STR("abc"));
    turn_until(pair_loop, pair_server.reads == 1);
    buf_put_str(net_stream_out(pair_client.s), STR("def"));
    turn_until(pair_loop, pair_server.reads == 2);
    pair_server.hold = false;
    pair_server.take_max = 4;
    buf_put_str(net_stream_out(pair_client.s), STR("gh"));
    turn_until(pair_loop, pair_server.got.n == 4);
    net_stream_pause(pair_server.s);
    net_stream_resume(pair_server.s);
    turn_until(pair_loop, pair_server.got.n == 8);
    ck_str(buf_str(&pair_server.got), STR("abcdefgh"));
    /* A large packet: read() is not called before it is whole. */
    pair_server.take_max = 0;
    pair_server.got.n = 0;
    unsigned reads = pair_server.reads;
    net_stream_want(pair_server.s, 500000);
    uint8_t *big = mem_new(500000);
    buf_put(net_stream_out(pair_client.s), big, 500000);
    turn_until(pair_loop, pair_server.got.n == 500000);
    ck_assert_uint_eq(pair_server.reads, reads + 1);
    mem_free(big);
    pair_finish();
}
END_TEST

START_TEST(too_much_left_ends_it)
{
    pair_listen((struct net_listener_conf){.limits = {.keep_bytes_max = 10}});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL);
    pair_server.hold = true;
    buf_put_str(net_stream_out(pair_client.s), STR("0123456789a"));
    turn_until(pair_loop, pair_server.is_closed);
    ck_assert_int_eq(pair_server.why, NET_STREAM_END_ERROR);
    turn_until(pair_loop, pair_client.is_closed);
    pair_finish();
}
END_TEST

/* The last words arrive although the peer keeps sending. */
START_TEST(close_delivers_what_was_written)
{
    pair_listen((struct net_listener_conf){0});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    buf_put_str(net_stream_out(pair_server.s), STR("bye"));
    net_stream_close(pair_server.s);
    buf_put_str(net_stream_out(pair_server.s), STR("swallowed"));
    buf_put_str(net_stream_out(pair_client.s), STR("noise"));
    turn_until(pair_loop, pair_server.is_closed && pair_client.is_closed);
    ck_assert_int_eq(pair_server.why, NET_STREAM_END_CLOSED);
    ck_assert_int_eq(pair_client.why, NET_STREAM_END_PEER);
    ck_str(buf_str(&pair_client.got), STR("bye"));
    ck_assert_uint_eq(net_listener_stats(pair_listener).connection_count, 0);
    pair_finish();
}
END_TEST

START_TEST(close_later_waits)
{
    pair_listen((struct net_listener_conf){0});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    usec_t from = net_loop_now(pair_loop); /* what the delay counts from */
    buf_put_str(net_stream_out(pair_server.s), STR("bye"));
    net_stream_close_later(pair_server.s, 100 * USEC_MSEC);
    turn_until(pair_loop, pair_client.is_closed);
    ck_assert(net_clock_now() - from >= 100 * USEC_MSEC);
    ck_str(buf_str(&pair_client.got), STR("bye"));
    turn_until(pair_loop, pair_server.is_closed);
    ck_assert_int_eq(pair_server.why, NET_STREAM_END_CLOSED);
    pair_finish();
}
END_TEST

/* Owner and loop go while a close is still to come, and while last bytes wait for a peer that does
 * not read. */
START_TEST(a_close_that_is_not_over_when_the_loop_goes)
{
    for (int is_delayed = 0; is_delayed < 2; is_delayed++) {
        pair_listen((struct net_listener_conf){0});
        pair_dial((struct net_stream_conf){0});
        turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
        net_stream_pause(pair_client.s);
        size_t n = 20 * 1000 * 1000;
        uint8_t *big = mem_new(n);
        if (is_delayed) {
            net_stream_close_later(pair_server.s, USEC_SEC);
        } else {
            buf_put(net_stream_out(pair_server.s), big, n);
            net_stream_close(pair_server.s);
        }
        mem_free(big);
        for (int i = 0; i < 10; i++)
            net_loop_turn(pair_loop, 0);
        ck_assert(!pair_server.is_closed);
        net_stream_forget(pair_server.s);
        pair_server.s = NULL;
        net_stream_forget(pair_client.s);
        pair_client.s = NULL;
        net_loop_turn(pair_loop, 0);
        pair_finish();
    }
}
END_TEST

START_TEST(rate_slows_reading)
{
    pair_listen((struct net_listener_conf){.limits = {.read_bytes_per_sec = 1000000}});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    usec_t from = net_clock_now();
    uint8_t *big = mem_new(600000);
    buf_put(net_stream_out(pair_client.s), big, 600000);
    turn_until(pair_loop, pair_server.got.n == 600000);
    usec_t took = net_clock_now() - from; /* 600 KB at 1 MB/s less a burst of 250 ms and one read */
    ck_assert_msg(took >= 150 * USEC_MSEC, "took %llu", (unsigned long long)took);
    net_stream_set_rate(pair_server.s, 1000);
    buf_put(net_stream_out(pair_client.s), big, 600000); /* minutes */
    turn_until(pair_loop, pair_server.got.n > 600000);
    net_stream_set_rate(pair_server.s, 0); /* what waited goes on, at the limits' rate */
    turn_until(pair_loop, pair_server.got.n == 1200000);
    mem_free(big);
    pair_finish();
}
END_TEST

START_TEST(rate_slows_writing)
{
    pair_listen((struct net_listener_conf){0});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL && pair_client.is_open);
    net_stream_set_write_rate(pair_server.s, 1000000);
    uint8_t *big = mem_new(800000);
    usec_t began = net_clock_now();
    buf_put(net_stream_out(pair_server.s), big, 400000);
    net_loop_turn(pair_loop, 0);
    buf_put(net_stream_out(pair_server.s), big, 400000);
    buf_put_str(net_stream_out(pair_client.s), STR("up")); /* the other direction goes on */
    turn_until(pair_loop, pair_server.got.n == 2);
    ck_assert_uint_lt(pair_client.got.n, 800000);
    turn_until(pair_loop, pair_client.got.n == 800000);
    ck_assert_uint_ge(net_clock_now() - began, 250 * USEC_MSEC);
    net_stream_set_write_rate(pair_server.s, 1000);
    buf_put(net_stream_out(pair_server.s), big, 200000);
    net_loop_turn(pair_loop, 0);
    net_stream_set_write_rate(pair_server.s, 0); /* what waited goes on */
    began = net_clock_now();
    turn_until(pair_loop, pair_client.got.n == 1000000);
    ck_assert_uint_lt(net_clock_now() - began, 5 * USEC_SEC);
    net_stream_set_write_rate(pair_server.s, 1000);
    buf_put(net_stream_out(pair_server.s), big, 100000);
    net_loop_turn(pair_loop, 0);
    net_stream_close(pair_server.s); /* the last bytes do not wait for the rate */
    began = net_clock_now();
    turn_until(pair_loop, pair_client.is_closed);
    ck_assert_uint_eq(pair_client.got.n, 1100000);
    ck_assert_uint_lt(net_clock_now() - began, 5 * USEC_SEC);
    mem_free(big);
    pair_finish();
}
END_TEST

START_TEST(refused_connection)
{
    pair_listen((struct net_listener_conf){0});
    struct net_address gone = *net_listener_address(pair_listener);
    net_listener_stop(pair_listener);
    struct net_stream_conf conf = {.ops = &pair_ops, .arg = &pair_client};
    ck_assert_int_eq(net_stream_connect(pair_loop, &gone, &conf, &pair_client.s), 0);
    struct net_stream *s = pair_client.s;
    turn_until(pair_loop, pair_client.is_closed);
    ck_assert_ptr_ne(s, NULL);
    ck_assert_int_eq(pair_client.why, NET_STREAM_END_ERROR);
    pair_finish();
}
END_TEST

START_TEST(busy_port_says_so)
{
    pair_listen((struct net_listener_conf){0});
    char error[NET_LISTENER_ERROR_MAX], address[NET_ADDRESS_TEXT];
    (void)net_address_format(net_listener_address(pair_listener), address);
    struct net_listener_conf conf = {
        .address = address, .loop = &pair_loop, .loop_count = 1, .accepted = pair_accepted};
    struct net_listener *second = NULL;
    ck_assert_int_eq(net_listener_new(pair_loop, &conf, error, &second), -EADDRINUSE);
    ck_assert_ptr_ne(strstr(error, address), NULL);
    ck_assert_ptr_ne(strstr(error, "already"), NULL);
    pair_finish();
}
END_TEST

START_TEST(full_listener_refuses)
{
    pair_listen((struct net_listener_conf){.connection_count_max = 1});
    pair_dial((struct net_stream_conf){0});
    turn_until(pair_loop, pair_server.s != NULL);
    struct end second = {0};
    struct net_stream_conf conf = {.ops = &pair_ops, .arg = &second};
    ck_assert_int_eq(
        net_stream_connect(pair_loop, net_listener_address(pair_listener), &conf, &second.s), 0);
    turn_until(pair_loop, second.is_closed);
    ck_assert_uint_eq(net_listener_stats(pair_listener).refused_full_count, 1);
    ck_assert(!pair_server.is_closed);
    pair_finish();
}
END_TEST

START_TEST(unix_socket)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/bilrost-test-%d.sock", (int)getpid());
    pair_listen((struct net_listener_conf){.kind = NET_LISTENER_UNIX, .address = path});
    pair_server.is_echo = true;
    struct net_stream_conf conf = {.ops = &pair_ops, .arg = &pair_client};
    ck_assert_int_eq(net_stream_connect_unix(pair_loop, path, &conf, &pair_client.s), 0);
    buf_put_str(net_stream_out(pair_client.s), STR("hi"));
    turn_until(pair_loop, pair_client.got.n == 2);
    uint32_t uid, gid;
    ck_assert(net_stream_peer_cred(pair_server.s, &uid, &gid));
    ck_assert_uint_eq(uid, getuid());
    pair_finish();
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

Suite *stream_suite(void)
{
    Suite *s = suite_create("stream");
    TCase *t = tcase_create("stream");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, bytes_go_and_come_back);
    tcase_add_test(t, slow_reader);
    tcase_add_test(t, what_waits_is_charged);
    tcase_add_test(t, shared_pieces_keep_order);
    tcase_add_test(t, what_is_left_is_offered_again);
    tcase_add_test(t, too_much_left_ends_it);
    tcase_add_test(t, close_delivers_what_was_written);
    tcase_add_test(t, close_later_waits);
    tcase_add_test(t, a_close_that_is_not_over_when_the_loop_goes);
    tcase_add_test(t, rate_slows_reading);
    tcase_add_test(t, rate_slows_writing);
    tcase_add_test(t, refused_connection);
    tcase_add_test(t, busy_port_says_so);
    tcase_add_test(t, full_listener_refuses);
    tcase_add_test(t, unix_socket);
    suite_add_tcase(s, t);
    return s;
}
