/* Streams and listeners over loopback.  SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/listener.h"
#include "unit/net/net.h"

struct end { /* one side of a connection */
    struct net_stream *s;
    struct buf got;
    size_t take_max; /* read() uses up at most this a call; 0: all */
    bool is_echo, is_open, is_closed, is_drained, hold;
    enum net_stream_end why;
    unsigned reads;
};

static size_t on_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct end *e = arg;
    e->reads++;
    if (e->hold)
        return 0;
    size_t use = e->take_max && n > e->take_max ? e->take_max : n;
    buf_put(&e->got, p, use);
    if (e->is_echo)
        buf_put(net_stream_out(s), p, use);
    return use;
}

static void on_drained(void *arg, struct net_stream *s)
{
    (void)s;
    ((struct end *)arg)->is_drained = true;
}

static void on_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct end *e = arg;
    ck_assert(!e->is_closed);
    ck_assert_ptr_eq(e->s, s);
    e->is_closed = true;
    e->why = why;
    e->s = NULL;
}

static void on_opened(void *arg, struct net_stream *s)
{
    (void)s;
    ((struct end *)arg)->is_open = true;
}

static const struct net_stream_ops ops = {on_read, on_drained, on_closed, on_opened};

static struct end server, client;
static struct net_loop *l;
static struct net_listener *listener;

static void on_accepted(void *arg, struct net_loop *here, struct net_stream *s)
{
    struct end *e = arg;
    ck_assert_ptr_eq(here, l);
    e->s = s;
    e->is_open = true;
    net_stream_set(s, &ops, e);
}

static void listen_with(struct net_listener_conf conf)
{
    char error[NET_LISTENER_ERROR_MAX];
    memset(&server, 0, sizeof server);
    memset(&client, 0, sizeof client);
    l = loop_new(0, NULL);
    if (!conf.address)
        conf.address = "127.0.0.1:0";
    conf.loop = &l;
    conf.loop_count = 1;
    conf.accepted = on_accepted;
    conf.arg = &server;
    int r = net_listener_new(l, &conf, error, &listener);
    ck_assert_msg(r == 0, "%s", error);
}

static void dial(struct net_stream_conf conf)
{
    conf.ops = &ops;
    conf.arg = &client;
    ck_assert_int_eq(net_stream_connect(l, net_listener_address(listener), &conf, &client.s), 0);
}

static void finish(void)
{
    if (client.s)
        net_stream_abort(client.s);
    if (server.s)
        net_stream_abort(server.s);
    turn_until(l, !client.s && !server.s);
    buf_deinit(&client.got);
    buf_deinit(&server.got);
    listener = net_listener_free(listener);
    l = net_loop_free(l);
}

START_TEST(bytes_go_and_come_back)
{
    listen_with((struct net_listener_conf){0});
    server.is_echo = true;
    dial((struct net_stream_conf){0});
    buf_put_str(net_stream_out(client.s), STR("hello"));
    turn_until(l, client.got.n == 5);
    ck_str(buf_str(&client.got), STR("hello"));
    ck_assert(client.is_open);
    ck_assert_uint_eq(net_stream_read_total(server.s), 5);
    ck_assert_uint_eq(net_stream_written_total(server.s), 5);
    ck_assert_uint_eq(net_listener_stats(listener).connection_count, 1);
    finish();
}
END_TEST

/* Much more than the kernel's buffers, to a reader that is paused: water marks, then all of it arrives. */
START_TEST(slow_reader)
{
    listen_with(
        (struct net_listener_conf){.limits = {.out_high_bytes = 100000, .out_low_bytes = 1000}});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL && client.is_open);
    net_stream_pause(client.s);
    size_t n = 20 * 1000 * 1000, sum = 0;
    uint8_t *big = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 7 + i / 251);
    buf_put(net_stream_out(server.s), big, n);
    ck_assert(net_stream_is_high(server.s));
    for (int i = 0; i < 10; i++)
        net_loop_turn(l, USEC_MSEC);
    ck_assert_uint_eq(client.got.n, 0);
    ck_assert(net_stream_is_high(server.s));
    ck_assert(!server.is_drained);
    net_stream_resume(client.s);
    turn_until(l, client.got.n == n);
    ck_assert(server.is_drained);
    ck_assert(!net_stream_is_high(server.s));
    ck_assert_uint_eq(net_stream_out_len(server.s), 0);
    ck_assert_int_eq(memcmp(client.got.p, big, n), 0);
    (void)sum;
    mem_free(big);
    finish();
}
END_TEST

static int released;

static void on_release(void *owner)
{
    (void)owner;
    released++;
}

/* Copied and shared pieces in any mixture keep their order, also when the kernel takes them bit by bit. */
START_TEST(shared_pieces_keep_order)
{
    listen_with((struct net_listener_conf){0});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL && client.is_open);
    struct buf want = {0};
    static uint8_t piece[70000];
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (uint8_t)(i * 31);
    released = 0;
    for (int i = 0; i < 300; i++) {
        uint8_t copy[100];
        memset(copy, i, sizeof copy);
        size_t small = (size_t)(i * 37 % 100), large = (size_t)(i * 7919) % sizeof piece;
        buf_put(net_stream_out(server.s), copy, small);
        buf_put(&want, copy, small);
        net_stream_out_shared(server.s, piece, large, on_release, NULL);
        buf_put(&want, piece, large);
        if (i % 50 == 0)
            net_loop_turn(l, 0);
    }
    turn_until(l, client.got.n == want.n);
    ck_assert_int_eq(memcmp(client.got.p, want.p, want.n), 0);
    ck_assert_int_eq(released, 300);
    buf_deinit(&want);
    finish();
}
END_TEST

START_TEST(what_is_left_is_offered_again)
{
    listen_with((struct net_listener_conf){.limits = {.keep_bytes_max = 1000000}});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL);
    server.hold = true;
    buf_put_str(net_stream_out(client.s), STR("abc"));
    turn_until(l, server.reads == 1);
    buf_put_str(net_stream_out(client.s), STR("def"));
    turn_until(l, server.reads == 2);
    server.hold = false;
    server.take_max = 4;
    buf_put_str(net_stream_out(client.s), STR("gh"));
    turn_until(l, server.got.n == 4);
    net_stream_pause(server.s);
    net_stream_resume(server.s);
    turn_until(l, server.got.n == 8);
    ck_str(buf_str(&server.got), STR("abcdefgh"));
    /* A large packet: read() is not called before it is whole. */
    server.take_max = 0;
    server.got.n = 0;
    unsigned reads = server.reads;
    net_stream_want(server.s, 500000);
    uint8_t *big = mem_new(500000);
    buf_put(net_stream_out(client.s), big, 500000);
    turn_until(l, server.got.n == 500000);
    ck_assert_uint_eq(server.reads, reads + 1);
    mem_free(big);
    finish();
}
END_TEST

START_TEST(too_much_left_ends_it)
{
    listen_with((struct net_listener_conf){.limits = {.keep_bytes_max = 10}});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL);
    server.hold = true;
    buf_put_str(net_stream_out(client.s), STR("0123456789a"));
    turn_until(l, server.is_closed);
    ck_assert_int_eq(server.why, NET_STREAM_END_ERROR);
    turn_until(l, client.is_closed);
    finish();
}
END_TEST

/* The last words arrive although the peer keeps sending. */
START_TEST(close_delivers_what_was_written)
{
    listen_with((struct net_listener_conf){0});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL && client.is_open);
    buf_put_str(net_stream_out(server.s), STR("bye"));
    net_stream_close(server.s);
    buf_put_str(net_stream_out(server.s), STR("swallowed"));
    buf_put_str(net_stream_out(client.s), STR("noise"));
    turn_until(l, server.is_closed && client.is_closed);
    ck_assert_int_eq(server.why, NET_STREAM_END_CLOSED);
    ck_assert_int_eq(client.why, NET_STREAM_END_PEER);
    ck_str(buf_str(&client.got), STR("bye"));
    ck_assert_uint_eq(net_listener_stats(listener).connection_count, 0);
    finish();
}
END_TEST

START_TEST(close_later_waits)
{
    listen_with((struct net_listener_conf){0});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL && client.is_open);
    usec_t from = net_clock_now();
    buf_put_str(net_stream_out(server.s), STR("bye"));
    net_stream_close_later(server.s, 100 * USEC_MSEC);
    turn_until(l, client.is_closed);
    ck_assert(net_clock_now() - from >= 100 * USEC_MSEC);
    ck_str(buf_str(&client.got), STR("bye"));
    turn_until(l, server.is_closed);
    ck_assert_int_eq(server.why, NET_STREAM_END_CLOSED);
    finish();
}
END_TEST

START_TEST(rate_slows_reading)
{
    listen_with((struct net_listener_conf){.limits = {.read_bytes_per_sec = 1000000}});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL && client.is_open);
    usec_t from = net_clock_now();
    uint8_t *big = mem_new(600000);
    buf_put(net_stream_out(client.s), big, 600000);
    turn_until(l, server.got.n == 600000);
    usec_t took = net_clock_now() - from; /* 600 KB at 1 MB/s less a burst of 250 ms and one read */
    ck_assert_msg(took >= 150 * USEC_MSEC, "took %llu", (unsigned long long)took);
    mem_free(big);
    finish();
}
END_TEST

START_TEST(refused_connection)
{
    listen_with((struct net_listener_conf){0});
    struct net_address gone = *net_listener_address(listener);
    net_listener_stop(listener);
    struct net_stream_conf conf = {.ops = &ops, .arg = &client};
    ck_assert_int_eq(net_stream_connect(l, &gone, &conf, &client.s), 0);
    struct net_stream *s = client.s;
    turn_until(l, client.is_closed);
    ck_assert_ptr_ne(s, NULL);
    ck_assert_int_eq(client.why, NET_STREAM_END_ERROR);
    finish();
}
END_TEST

START_TEST(busy_port_says_so)
{
    listen_with((struct net_listener_conf){0});
    char error[NET_LISTENER_ERROR_MAX], address[NET_ADDRESS_TEXT];
    (void)net_address_format(net_listener_address(listener), address);
    struct net_listener_conf conf = {
        .address = address, .loop = &l, .loop_count = 1, .accepted = on_accepted};
    struct net_listener *second = NULL;
    ck_assert_int_eq(net_listener_new(l, &conf, error, &second), -EADDRINUSE);
    ck_assert_ptr_ne(strstr(error, address), NULL);
    ck_assert_ptr_ne(strstr(error, "already"), NULL);
    finish();
}
END_TEST

START_TEST(full_listener_refuses)
{
    listen_with((struct net_listener_conf){.connection_count_max = 1});
    dial((struct net_stream_conf){0});
    turn_until(l, server.s != NULL);
    struct end second = {0};
    struct net_stream_conf conf = {.ops = &ops, .arg = &second};
    ck_assert_int_eq(net_stream_connect(l, net_listener_address(listener), &conf, &second.s), 0);
    turn_until(l, second.is_closed);
    ck_assert_uint_eq(net_listener_stats(listener).refused_full_count, 1);
    ck_assert(!server.is_closed);
    finish();
}
END_TEST

START_TEST(unix_socket)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/bilrost-test-%d.sock", (int)getpid());
    listen_with((struct net_listener_conf){.kind = NET_LISTENER_UNIX, .address = path});
    server.is_echo = true;
    struct net_stream_conf conf = {.ops = &ops, .arg = &client};
    ck_assert_int_eq(net_stream_connect_unix(l, path, &conf, &client.s), 0);
    buf_put_str(net_stream_out(client.s), STR("hi"));
    turn_until(l, client.got.n == 2);
    uint32_t uid, gid;
    ck_assert(net_stream_peer_cred(server.s, &uid, &gid));
    ck_assert_uint_eq(uid, getuid());
    finish();
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
    tcase_add_test(t, shared_pieces_keep_order);
    tcase_add_test(t, what_is_left_is_offered_again);
    tcase_add_test(t, too_much_left_ends_it);
    tcase_add_test(t, close_delivers_what_was_written);
    tcase_add_test(t, close_later_waits);
    tcase_add_test(t, rate_slows_reading);
    tcase_add_test(t, refused_connection);
    tcase_add_test(t, busy_port_says_so);
    tcase_add_test(t, full_listener_refuses);
    tcase_add_test(t, unix_socket);
    suite_add_tcase(s, t);
    return s;
}
