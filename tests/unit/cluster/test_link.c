/* Two nodes' links on loopback, turned by hand.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "base/mem.h"
#include "cluster/acceptor_priv.h"
#include "net/clock.h"

#define PATIENCE (5 * USEC_SEC)

struct side {
    struct net_loop *loop[2];
    struct cluster_link *link[2];
    struct cluster_acceptor *acceptor;
    struct uuid uuid;
    unsigned lost;
};

static struct side a, b;
static bool b_is_known = true;

static bool find(void *arg, const struct uuid *peer, struct link_peer *out)
{
    struct side *to = uuid_eq(peer, &a.uuid) ? &a : &b;
    (void)arg;
    if (!uuid_eq(peer, &to->uuid) || !b_is_known || to->acceptor == NULL)
        return false;
    *out =
        (struct link_peer){.addr = *cluster_acceptor_address(to->acceptor), .epoch = 1, .loops = 2};
    return true;
}

static void lost(void *arg, const struct uuid *peer)
{
    (void)peer;
    ((struct side *)arg)->lost++;
}

static void side_init(struct side *s, uint8_t name, uint64_t label)
{
    *s = (struct side){0};
    s->uuid.b[0] = name;
    for (unsigned i = 0; i < 2; i++) {
        struct net_loop_conf lc = {.index = i, .seed = name};
        ck_assert_int_eq(net_loop_new(&lc, &s->loop[i]), 0);
        struct link_conf c = {
            .loop = s->loop[i],
            .index = i,
            .count = 2,
            .self = s->uuid,
            .epoch = 1,
            .label = label,
            .find = find,
            .lost = lost,
            .arg = s,
        };
        s->link[i] = cluster_link_new(&c);
    }
    for (unsigned i = 0; i < 2; i++)
        cluster_link_siblings(s->link[i], s->link);
    struct acceptor_conf ac = {.loop = s->loop[0], .link = s->link, .link_count = 2};
    ck_assert_int_eq(net_address_parse(STR("127.0.0.1:0"), &ac.bind), 0);
    ck_assert_int_eq(cluster_acceptor_new(&ac, &s->acceptor), 0);
}

static void turn_all(void)
{
    for (unsigned i = 0; i < 2; i++) {
        net_loop_turn(a.loop[i], i == 0 ? 500 : 0);
        net_loop_turn(b.loop[i], 0);
    }
}

static void side_deinit(struct side *s)
{
    s->acceptor = cluster_acceptor_free(s->acceptor);
    for (unsigned i = 0; i < 2; i++)
        s->link[i] = cluster_link_free(s->link[i]);
}

static void setup(void)
{
    b_is_known = true;
    side_init(&a, 1, 7);
    side_init(&b, 2, 7);
}

static void teardown(void)
{
    side_deinit(&a);
    side_deinit(&b);
    for (unsigned i = 0; i < 20; i++)
        turn_all();
    for (unsigned i = 0; i < 2; i++) {
        a.loop[i] = net_loop_free(a.loop[i]);
        b.loop[i] = net_loop_free(b.loop[i]);
    }
}

/* Turns until *flag, or fails. */
static void until(const unsigned *flag, unsigned want)
{
    usec_t end = net_clock_now() + PATIENCE;
    while (*flag < want && net_clock_now() < end)
        turn_all();
    ck_assert_uint_eq(*flag, want);
}

struct answer {
    unsigned count;
    int outcome;
    struct buf reply;
};

static void on_reply(void *arg, int outcome, struct str reply)
{
    struct answer *w = arg;
    w->count++;
    w->outcome = outcome;
    w->reply.n = 0;
    buf_put_str(&w->reply, reply);
}

static struct cluster_call call_to(const struct side *s, uint16_t service, uint32_t shard,
                                   struct str payload)
{
    return (struct cluster_call){
        .peer = s->uuid,
        .service = service,
        .lane = CLUSTER_LANE_CONTROL,
        .shard = shard,
        .timeout = 3 * USEC_SEC,
        .payload = payload,
    };
}

struct served {
    struct cluster_link *link;
    unsigned count;
    struct buf got;
    struct cluster_request *rq; /* kept for later */
    bool keep, refuse;
};

static void serve(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                  struct str payload)
{
    struct served *s = arg;
    ck_assert_uint_eq(from->peer.b[0], 1);
    s->count++;
    buf_put_str(&s->got, payload);
    if (rq == NULL)
        return;
    if (s->keep) {
        s->rq = rq;
        return;
    }
    if (s->refuse)
        cluster_request_refuse(rq);
    else
        cluster_request_reply(rq, payload);
}

START_TEST(test_call_reaches_the_loop_of_its_shard)
{
    struct served on[2] = {0};
    for (unsigned shard = 0; shard < 4; shard++) {
        struct answer w = {0};
        for (unsigned i = 0; i < 2; i++)
            cluster_link_serve(b.link[i], CLUSTER_SERVICE_KV, serve, &on[i]);
        struct cluster_call c = call_to(&b, CLUSTER_SERVICE_KV, shard, STR("hello"));
        ck_assert_int_eq(cluster_link_call(a.link[1], &c, on_reply, &w, NULL), 0);
        ck_assert_uint_eq(w.count, 0);
        until(&w.count, 1);
        ck_assert_int_eq(w.outcome, 0);
        ck_str(buf_str(&w.reply), STR("hello"));
        buf_deinit(&w.reply);
    }
    ck_assert_uint_eq(on[0].count, 2);
    ck_assert_uint_eq(on[1].count, 2);
    buf_deinit(&on[0].got);
    buf_deinit(&on[1].got);
}
END_TEST

START_TEST(test_calls_to_ourselves)
{
    struct served on[2] = {0};
    struct answer w[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        cluster_link_serve(a.link[i], CLUSTER_SERVICE_KV, serve, &on[i]);
        struct cluster_call c = call_to(&a, CLUSTER_SERVICE_KV, i, STR("me"));
        ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w[i], NULL), 0);
        ck_assert_uint_eq(w[i].count, 0); /* never from inside the call */
    }
    until(&w[0].count, 1);
    until(&w[1].count, 1);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(w[i].outcome, 0);
        ck_assert_uint_eq(on[i].count, 1);
        buf_deinit(&on[i].got);
        buf_deinit(&w[i].reply);
    }
}
END_TEST

START_TEST(test_casts_keep_their_order)
{
    struct served on = {0};
    struct buf want = {0};
    cluster_link_serve(b.link[0], CLUSTER_SERVICE_RAFT, serve, &on);
    for (unsigned i = 0; i < 500; i++) {
        char text[8];
        int n = snprintf(text, sizeof text, "%u,", i);
        struct cluster_call c = call_to(&b, CLUSTER_SERVICE_RAFT, 0, str_view(text, (size_t)n));
        ck_assert_int_eq(cluster_link_cast(a.link[0], &c), 0);
        buf_put(&want, text, (size_t)n);
        if (i % 50 == 0)
            turn_all();
    }
    until(&on.count, 500);
    ck_str(buf_str(&on.got), buf_str(&want));
    struct cluster_link_stats st;
    cluster_link_stats_get(a.link[0], &st);
    ck_assert_uint_eq(st.connects, 1);
    buf_deinit(&on.got);
    buf_deinit(&want);
}
END_TEST

START_TEST(test_deadline_refusal_unknown)
{
    struct served on = {.keep = true};
    struct answer w = {0};
    cluster_link_serve(b.link[0], CLUSTER_SERVICE_KV, serve, &on);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_KV, 0, STR("x"));
    c.timeout = 200 * USEC_MSEC;
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 1);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_TIMEOUT);
    cluster_request_reply(on.rq, STR("too late")); /* must vanish */
    on.keep = false;
    on.refuse = true;
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 2);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_NO_SERVICE);
    c.service = CLUSTER_SERVICE_STORES; /* nobody serves it */
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 3);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_NO_SERVICE);
    b_is_known = false;
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), CLUSTER_LINK_E_UNKNOWN);
    uint64_t id;
    b_is_known = true;
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, &id), 0);
    cluster_link_cancel(a.link[0], id);
    for (unsigned i = 0; i < 50; i++)
        turn_all();
    ck_assert_uint_eq(w.count, 3);
    buf_deinit(&on.got);
    buf_deinit(&w.reply);
}
END_TEST

START_TEST(test_broken_connection_fails_calls_once)
{
    struct served on = {.keep = true};
    struct answer w = {0};
    cluster_link_serve(b.link[0], CLUSTER_SERVICE_KV, serve, &on);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_KV, 0, STR("x"));
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&on.count, 1);
    for (unsigned i = 0; i < 2; i++)
        b.link[i] = cluster_link_free(b.link[i]);
    cluster_request_reply(on.rq, STR("nobody hears it"));
    b.acceptor = cluster_acceptor_free(b.acceptor);
    until(&w.count, 1);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_UNREACHABLE);
    ck_assert_uint_eq(a.lost, 1);
    buf_deinit(&on.got);
    buf_deinit(&w.reply);
}
END_TEST

START_TEST(test_a_foreign_cluster_is_refused)
{
    struct answer w = {0};
    side_deinit(&b);
    for (unsigned i = 0; i < 2; i++)
        b.loop[i] = net_loop_free(b.loop[i]);
    side_init(&b, 2, 8); /* another env */
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_ECHO, 0, STR("x"));
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 1);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_UNREACHABLE);
    buf_deinit(&w.reply);
}
END_TEST

START_TEST(test_large_payloads)
{
    struct answer w = {0};
    size_t n = 3 << 20;
    char *big = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (char)(i * 7);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_ECHO, 0, str_view(big, n));
    c.lane = CLUSTER_LANE_BULK;
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 1);
    ck_assert_int_eq(w.outcome, 0);
    ck_assert(str_eq(buf_str(&w.reply), str_view(big, n)));
    buf_deinit(&w.reply);
    mem_free(big);
}
END_TEST

/* A queue that is not taken rejects, it does not grow. */
START_TEST(test_full_queues_reject)
{
    struct answer w = {0};
    static char piece[1 << 20];
    int r = 0;
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_ECHO, 0, str_view(piece, sizeof piece));
    for (unsigned i = 0; i < 100 && r == 0; i++)
        r = cluster_link_call(a.link[0], &c, on_reply, &w, NULL);
    ck_assert_int_eq(r, CLUSTER_LINK_E_OVERLOADED);
    a.link[0] = cluster_link_free(a.link[0]); /* and all that were taken end */
    ck_assert_uint_ge(w.count, 30);
    ck_assert_int_eq(w.outcome, CLUSTER_LINK_E_UNREACHABLE);
    buf_deinit(&w.reply);
}
END_TEST

struct copy {
    struct cluster_stream *s;
    size_t sent, want, got;
    unsigned closed, accepted, finished;
    int outcome;
    struct buf word;
};

static void writable(void *arg, struct cluster_stream *s)
{
    struct copy *x = arg;
    static char piece[10000];
    while (x->sent < x->want && cluster_stream_credit(s) >= sizeof piece) {
        ck_assert_int_eq(cluster_stream_write(s, str_view(piece, sizeof piece)), 0);
        x->sent += sizeof piece;
    }
    if (x->sent >= x->want)
        cluster_stream_end(s);
}

static void data(void *arg, struct cluster_stream *s, struct str piece)
{
    struct copy *x = arg;
    x->got += piece.n;
    cluster_stream_consume(s, piece.n);
}

static void writer_closed(void *arg, struct cluster_stream *s, int outcome, struct str word)
{
    struct copy *x = arg;
    (void)s;
    x->closed++;
    x->outcome = outcome;
    buf_put_str(&x->word, word);
}

static void reader_closed(void *arg, struct cluster_stream *s, int outcome, struct str word)
{
    struct copy *x = arg;
    (void)word;
    x->outcome = outcome;
    if (outcome == 0)
        cluster_stream_finish(s, STR("all here"));
    x->finished++;
}

static const struct cluster_stream_ops writer_ops = {.writable = writable, .closed = writer_closed};
static const struct cluster_stream_ops reader_ops = {.data = data, .closed = reader_closed};

static bool take(void *arg, struct cluster_stream *s, const struct cluster_from *from,
                 struct str first, const struct cluster_stream_ops **out_ops, void **out_arg)
{
    struct copy *x = arg;
    (void)from;
    x->s = s;
    x->accepted++;
    *out_ops = &reader_ops;
    *out_arg = x;
    return str_eq(first, STR("snapshot"));
}

START_TEST(test_stream_with_credit)
{
    struct copy in = {0}, out = {.want = 3000000};
    int outcome;
    cluster_link_serve_stream(b.link[1], CLUSTER_SERVICE_SNAPSHOT, take, &in);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_SNAPSHOT, 1, STR("snapshot"));
    c.lane = CLUSTER_LANE_BULK;
    ck_assert_ptr_nonnull(cluster_stream_open(a.link[0], &c, &writer_ops, &out, &outcome));
    until(&out.closed, 1);
    ck_assert_int_eq(out.outcome, 0);
    ck_str(buf_str(&out.word), STR("all here"));
    ck_assert_uint_eq(in.got, 3000000);
    buf_deinit(&out.word);

    struct copy refused = {0};
    c.payload = STR("no");
    ck_assert_ptr_nonnull(cluster_stream_open(a.link[0], &c, &writer_ops, &refused, &outcome));
    until(&refused.closed, 1);
    ck_assert_int_eq(refused.outcome, CLUSTER_LINK_E_NO_SERVICE);
}
END_TEST

START_TEST(test_stream_breaks_with_its_connection)
{
    struct copy in = {0}, out = {.want = SIZE_MAX};
    int outcome;
    cluster_link_serve_stream(b.link[0], CLUSTER_SERVICE_SNAPSHOT, take, &in);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_SNAPSHOT, 0, STR("snapshot"));
    ck_assert_ptr_nonnull(cluster_stream_open(a.link[0], &c, &writer_ops, &out, &outcome));
    until(&in.accepted, 1);
    cluster_link_down(a.link[0], &b.uuid);
    ck_assert_uint_eq(out.closed, 1);
    ck_assert_int_eq(out.outcome, CLUSTER_LINK_E_UNREACHABLE);
    until(&in.finished, 1);
    ck_assert_int_eq(in.outcome, CLUSTER_LINK_E_UNREACHABLE);
}
END_TEST

static struct answer second;

/* As kv does with what it may repeat. */
static void call_again(void *arg, int outcome, struct str reply)
{
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_ECHO, 0, STR("again"));
    on_reply(arg, outcome, reply);
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &second, NULL), 0);
}

START_TEST(test_who_hears_of_a_death_may_call_at_once)
{
    struct served on = {.keep = true};
    struct answer first = {0};
    second = (struct answer){0};
    cluster_link_serve(b.link[0], CLUSTER_SERVICE_KV, serve, &on);
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_KV, 0, STR("wait"));
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, call_again, &first, NULL), 0);
    until(&on.count, 1);
    cluster_link_down(a.link[0], &b.uuid);
    ck_assert_uint_eq(first.count, 1);
    ck_assert_int_eq(first.outcome, CLUSTER_LINK_E_UNREACHABLE);
    until(&second.count, 1);
    ck_assert_int_eq(second.outcome, 0);
    ck_str(buf_str(&second.reply), STR("again"));
    cluster_request_reply(on.rq, STR("nobody hears it"));
    buf_deinit(&first.reply);
    buf_deinit(&second.reply);
    buf_deinit(&on.got);
}
END_TEST

static size_t read_all(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    (void)arg;
    (void)s;
    (void)p;
    return n;
}

static void forget(void *arg, struct net_stream *s, enum net_stream_end why)
{
    (void)s;
    (void)why;
    *(struct net_stream **)arg = NULL;
}

/* Strangers at the door: nothing happens, nothing leaks. */
START_TEST(test_strangers)
{
    struct net_stream *s;
    static const struct net_stream_ops ops = {.read = read_all, .closed = forget};
    struct net_stream_conf conf = {.ops = &ops, .arg = &s};
    static const char *const words[] = {"GET / HTTP/1.1\r\n\r\n", "BLN",
                                        "BLNK\1\0\0\0junkjunkjunkjunkjunkjunkjunk", "BLNK\1\7\0\0",
                                        "BLNK\1\0\0\1\377\377\377\377\1"};
    for (unsigned i = 0; i < countof(words); i++) {
        ck_assert_int_eq(
            net_stream_connect(a.loop[0], cluster_acceptor_address(b.acceptor), &conf, &s), 0);
        size_t n = i < 2 ? strlen(words[i]) : i == 2 ? 36 : i == 3 ? 8 : 13;
        buf_put(net_stream_out(s), words[i], n);
        for (unsigned k = 0; k < 20; k++)
            turn_all();
        if (s != NULL)
            net_stream_forget(s);
    }
    struct answer w = {0};
    struct cluster_call c = call_to(&b, CLUSTER_SERVICE_ECHO, 0, STR("still there"));
    ck_assert_int_eq(cluster_link_call(a.link[0], &c, on_reply, &w, NULL), 0);
    until(&w.count, 1);
    ck_str(buf_str(&w.reply), STR("still there"));
    buf_deinit(&w.reply);
}
END_TEST

Suite *suite_link(void)
{
    Suite *s = suite_create("link");
    TCase *t = tcase_create("link");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_call_reaches_the_loop_of_its_shard);
    tcase_add_test(t, test_calls_to_ourselves);
    tcase_add_test(t, test_casts_keep_their_order);
    tcase_add_test(t, test_deadline_refusal_unknown);
    tcase_add_test(t, test_broken_connection_fails_calls_once);
    tcase_add_test(t, test_a_foreign_cluster_is_refused);
    tcase_add_test(t, test_large_payloads);
    tcase_add_test(t, test_full_queues_reject);
    tcase_add_test(t, test_stream_with_credit);
    tcase_add_test(t, test_stream_breaks_with_its_connection);
    tcase_add_test(t, test_who_hears_of_a_death_may_call_at_once);
    tcase_add_test(t, test_strangers);
    suite_add_tcase(s, t);
    return s;
}
