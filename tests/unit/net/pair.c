/* Two ends of one connection.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/net/pair.h"

#include "base/mem.h"

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
    str_copy(e->error, sizeof e->error, str_of(net_stream_error_text(s)));
    e->s = NULL;
}

static void on_opened(void *arg, struct net_stream *s)
{
    (void)s;
    ((struct end *)arg)->is_open = true;
}

const struct net_stream_ops pair_ops = {on_read, on_drained, on_closed, on_opened};

struct end pair_server, pair_client;
struct net_loop *pair_loop;
struct net_listener *pair_listener;

void pair_accepted(void *arg, struct net_loop *here, struct net_stream *s)
{
    struct end *e = arg;
    ck_assert_ptr_eq(here, pair_loop);
    e->s = s;
    e->is_open = true;
    net_stream_set(s, &pair_ops, e);
}

void pair_listen(struct net_listener_conf conf)
{
    char error[NET_LISTENER_ERROR_MAX];
    memset(&pair_server, 0, sizeof pair_server);
    memset(&pair_client, 0, sizeof pair_client);
    pair_loop = loop_new(0, NULL);
    if (!conf.address)
        conf.address = "127.0.0.1:0";
    conf.loop = &pair_loop;
    conf.loop_count = 1;
    conf.accepted = pair_accepted;
    conf.arg = &pair_server;
    int r = net_listener_new(pair_loop, &conf, error, &pair_listener);
    ck_assert_msg(r == 0, "%s", error);
}

void pair_dial(struct net_stream_conf conf)
{
    conf.ops = &pair_ops;
    conf.arg = &pair_client;
    ck_assert_int_eq(
        net_stream_connect(pair_loop, net_listener_address(pair_listener), &conf, &pair_client.s),
        0);
}

void pair_finish(void)
{
    if (pair_client.s)
        net_stream_abort(pair_client.s);
    if (pair_server.s)
        net_stream_abort(pair_server.s);
    turn_until(pair_loop, !pair_client.s && !pair_server.s);
    buf_deinit(&pair_client.got);
    buf_deinit(&pair_server.got);
    pair_listener = net_listener_free(pair_listener);
    pair_loop = net_loop_free(pair_loop);
}
