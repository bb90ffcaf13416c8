/* What strangers may send to a member: nothing changes, nobody answers, everything is counted.
 * SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rng.h"
#include "cluster/seal_priv.h"

#define SOURCES 64

static int udp[SOURCES];
static struct sockaddr_in to;
static struct cluster_key key_a, key_b;
static struct buf sealed;

static int socket_at(unsigned last)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    a.sin_addr.s_addr = htonl(0x7F000000u | last);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void key_of(const struct cluster_host_key *from, struct cluster_key *out)
{
    out->id = cluster_key_id(from->bytes);
    memcpy(out->bytes, from->bytes, sizeof out->bytes);
}

static void setup(void)
{
    nodes_setup();
    key_of(&nodes_key_a, &key_a);
    key_of(&nodes_key_b, &key_b);
    for (unsigned i = 0; i < SOURCES; i++)
        udp[i] = socket_at(100 + i);
}

static void teardown(void)
{
    for (unsigned i = 0; i < SOURCES; i++)
        close(udp[i]);
    buf_deinit(&sealed);
    nodes_teardown();
}

static void aim(const struct unit_node *n)
{
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(cluster_port(n->c))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static void shoot(unsigned source, const void *p, size_t n)
{
    ssize_t r = sendto(udp[source], p, n, 0, (struct sockaddr *)&to, sizeof to);
    ck_assert(r == (ssize_t)n || errno == EAGAIN);
}

static bool answered(void)
{
    char p[2048];
    for (unsigned i = 0; i < SOURCES; i++)
        if (recv(udp[i], p, sizeof p, 0) >= 0)
            return true;
    return false;
}

struct facts {
    size_t live;
    uint64_t suspicions, refutes, false_deaths;
    size_t rows;
    unsigned ups, downs;
    uint32_t inc;
};

static struct facts facts_of(struct unit_node *n)
{
    struct cluster_stats st;
    struct cluster_seat *s = cluster_seat(n->c, 0);
    cluster_stats_get(s, &st);
    return (struct facts){cluster_live_count(s),
                          st.suspicions,
                          st.refutes,
                          st.false_deaths,
                          st.rows,
                          n->ups,
                          n->downs,
                          cluster_member_find(s, cluster_self(s))->inc};
}

static struct cluster_stats stats(void)
{
    struct cluster_stats st;
    cluster_stats_get(cluster_seat(node[0].c, 0), &st);
    return st;
}

static void same(const struct facts *was)
{
    struct facts now = facts_of(&node[0]);
    ck_assert_uint_eq(now.live, was->live);
    ck_assert_uint_eq(now.suspicions, was->suspicions);
    ck_assert_uint_eq(now.refutes, was->refutes);
    ck_assert_uint_eq(now.false_deaths, was->false_deaths);
    ck_assert_uint_eq(now.rows, was->rows);
    ck_assert_uint_eq(now.ups, was->ups);
    ck_assert_uint_eq(now.downs, was->downs);
    ck_assert_uint_eq(now.inc, was->inc);
    ck_assert(!answered());
}

/* A packet as this identity would seal it. */
static void seal_as(const struct uuid *uuid, uint64_t epoch, const struct cluster_key *k,
                    const char *env)
{
    struct cluster_seal *s = cluster_seal_new(uuid, epoch, str_of(env), k, k != NULL);
    sealed.n = 0;
    cluster_seal_put(s, STR("\x47\x01 not much of a packet"), &sealed);
    cluster_seal_free(s);
}

START_TEST(test_a_million_packets)
{
    struct rng r;
    uint8_t p[1500];
    nodes_start_three(&nodes_key_a);
    nodes_run(0.5);
    aim(&node[0]);
    struct facts was = facts_of(&node[0]);
    /* a copy: the view of it may be replaced with any turn */
    const struct cluster_member one = *cluster_member_find(cluster_seat(node[0].c, 0),
                                                           cluster_uuid(node[1].c)),
                                *m = &one;
    rng_init(&r, 1);
    for (unsigned i = 0; i < 1000000; i++) {
        size_t n = rng_below(&r, 256);
        for (size_t k = 0; k < n; k += 8) {
            uint64_t x = rng_u64(&r);
            memcpy(p + k, &x, 8);
        }
        if (i % 4 == 0) { /* looks like one of a member, and is not */
            /* of a later life, so that it is no replay */
            seal_as(&m->uuid, m->epoch + 1, i % 8 == 0 ? &key_b : NULL, "test");
            if (i % 16 == 0)
                sealed.n = rng_below(&r, sealed.n);
            n = sealed.n;
            memcpy(p, sealed.p, n);
        }
        shoot((unsigned)rng_below(&r, SOURCES), p, n);
        if (i % 32 == 31)
            net_loop_turn(node[0].loop[0], 0);
        if (i % 1000 == 999)
            nodes_turn();
    }
    nodes_run(1);
    same(&was);
    struct cluster_stats st = stats();
    ck_assert_uint_gt(st.junk, 10000);
    ck_assert_uint_gt(st.unkeyed, 10000);
    ck_assert_uint_gt(st.junk + st.unkeyed + st.flooded + st.forged + st.foreign + st.replayed,
                      500000);
    ck_assert(nodes_agree());
}
END_TEST

/* As node 1, with the right key, but changed on the way. */
START_TEST(test_changed_and_cut_packets)
{
    nodes_start_three(&nodes_key_a);
    nodes_run(0.5);
    aim(&node[0]);
    struct facts was = facts_of(&node[0]);
    /* a copy: the view of it may be replaced with any turn */
    const struct cluster_member one = *cluster_member_find(cluster_seat(node[0].c, 0),
                                                           cluster_uuid(node[1].c)),
                                *m = &one;
    struct buf p = {0};
    /* of a later life, so that only the tag stands between it and us */
    seal_as(&m->uuid, m->epoch + 1, &key_a, "test");
    buf_put_str(&p, buf_str(&sealed));
    uint64_t refused = 0;
    for (size_t bit = 32; bit < 8 * p.n; bit += 3, refused++) { /* behind magic, version, key */
        p.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        shoot((unsigned)(bit % SOURCES), p.p, p.n);
        p.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < p.n; n++, refused++)
        shoot((unsigned)(n % SOURCES), p.p, n);
    nodes_run(0.5);
    struct cluster_stats st = stats();
    ck_assert_uint_eq(st.forged + st.foreign + st.junk + st.flooded + st.replayed, refused);
    ck_assert_uint_gt(st.forged, 100);
    same(&was);
    buf_deinit(&p);
}
END_TEST

START_TEST(test_a_replay)
{
    const struct uuid stranger = {.b = {77}};
    nodes_start_three(&nodes_key_a);
    nodes_run(0.5);
    aim(&node[0]);
    seal_as(&stranger, 1, &key_a, "test");
    shoot(0, sealed.p, sealed.n);
    nodes_run(0.2);
    struct facts was = facts_of(&node[0]);
    ck_assert_uint_eq(stats().replayed, 0);
    for (unsigned i = 0; i < 100; i++)
        shoot(i % SOURCES, sealed.p, sealed.n);
    nodes_run(0.2);
    ck_assert_uint_eq(stats().replayed, 100);
    same(&was);
}
END_TEST

static int tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Sends one frame and reads to the end; the bytes that came. */
static size_t ask(const void *p, size_t n, char *out, size_t max)
{
    size_t got = 0;
    uint8_t len[4] = {0, 0, (uint8_t)(n >> 8), (uint8_t)n};
    int fd = tcp();
    ck_assert_int_eq(send(fd, len, sizeof len, 0), 4);
    ck_assert_int_eq(send(fd, p, n, 0), (ssize_t)n);
    for (unsigned i = 0; i < 200; i++) {
        nodes_turn();
        ssize_t r = recv(fd, out + got, max - got, MSG_DONTWAIT);
        if (r == 0)
            break;
        got += r > 0 ? (size_t)r : 0;
    }
    close(fd);
    return got;
}

START_TEST(test_who_asks_is_told)
{
    const struct uuid stranger = {.b = {77}};
    char got[512];
    struct cluster_seal_reject rej;
    nodes_start(&node[0], "test", &nodes_key_a);
    nodes_run(0.2);
    aim(&node[0]);
    struct facts was = facts_of(&node[0]);
    for (unsigned i = 0; i < 500; i++) { /* not over UDP, where anybody may speak for another */
        seal_as(&stranger, i + 1, &key_a, "another");
        shoot(0, sealed.p, sealed.n);
    }
    nodes_run(0.3);
    ck_assert_uint_eq(stats().foreign, 500);
    ck_assert(nodes_logged(&node[0], "belongs to another cluster"));
    same(&was);
    seal_as(&stranger, 1, &key_a, "another");
    size_t n = ask(sealed.p, sealed.n, got, sizeof got);
    ck_assert(n > 4 && cluster_seal_reject_read(str_view(got + 4, n - 4), &rej));
    ck_assert_int_eq(rej.why, CLUSTER_SEAL_E_LABEL);
    ck_str(rej.env, STR("test"));
    seal_as(&stranger, 1, &key_b, "test");
    n = ask(sealed.p, sealed.n, got, sizeof got);
    ck_assert(n > 4 && cluster_seal_reject_read(str_view(got + 4, n - 4), &rej));
    ck_assert_int_eq(rej.why, CLUSTER_SEAL_E_KEY);
    ck_assert_uint_eq((uint8_t)rej.keys.p[0], key_a.id);
    seal_as(&stranger, 1, &key_a, "test");
    sealed.p[2] = CLUSTER_SEAL_VERSION + 1;
    n = ask(sealed.p, sealed.n, got, sizeof got);
    ck_assert(n > 4 && cluster_seal_reject_read(str_view(got + 4, n - 4), &rej));
    ck_assert_int_eq(rej.why, CLUSTER_SEAL_E_VERSION);
    ck_assert_uint_eq(rej.version, CLUSTER_SEAL_VERSION);
    /* what is no packet at all gets no answer */
    ck_assert_uint_eq(ask("GET / HTTP/1.1\r\n\r\n", 18, got, sizeof got), 0);
    same(&was);
}
END_TEST

static bool alone_is_reported(void)
{
    return nodes_logged(&node[1], "joined 0 of 1 seeds: ");
}

/* Where no name server answers, that takes longer than the first report. */
static bool unresolved_is_reported(void)
{
    return nodes_logged(&node[1], "joined 0 of 1 seeds: no-such-host.invalid:8899 no address");
}

static bool both_said(void)
{
    return nodes_logged(&node[0], "belongs to another cluster") &&
           nodes_logged(&node[1], "its clusterConfig.env is \"one\", ours \"two\"") &&
           nodes_logged(&node[2], "refused us: it has the keys number ");
}

/* The operator of the node that does not fit reads within a second what does not: mine, theirs. */
START_TEST(test_the_operator_is_told)
{
    char line[128];
    nodes_start(&node[0], "one", &nodes_key_a);
    nodes_run(0.2);
    nodes_seed(&node[1], &node[0]);
    nodes_start(&node[1], "two", &nodes_key_a);
    nodes_seed(&node[2], &node[0]);
    nodes_start(&node[2], "one", &nodes_key_b);
    ck_assert(nodes_until(both_said, 1));
    snprintf(line, sizeof line, "refused us: it has the keys number %u, we %u", key_a.id, key_b.id);
    ck_assert(nodes_logged(&node[2], line));
    ck_assert(nodes_until(alone_is_reported, 5));
    ck_assert(nodes_logged(&node[1], "joined 0 of 1 seeds: 127.0.0.1:"));
    ck_assert(!nodes_logged(&node[1], "cluster.joined"));
}
END_TEST

static bool third_is_dead(void)
{
    return cluster_live_count(cluster_seat(node[0].c, 0)) == 2 &&
           cluster_live_count(cluster_seat(node[1].c, 0)) == 2;
}

/* An address that was a member's is now that of a node of another cluster. */
START_TEST(test_a_foreign_node_at_a_members_address)
{
    nodes_start_three(&nodes_key_a);
    struct uuid gone = *cluster_uuid(node[2].c);
    uint16_t port = cluster_port(node[2].c);
    nodes_stop(&node[2]);
    node[2].seed = NULL;
    node[2].port = port;
    nodes_start(&node[2], "other", &nodes_key_a);
    ck_assert(nodes_until(third_is_dead, 10));
    ck_assert_uint_eq(cluster_live_count(cluster_seat(node[2].c, 0)), 1);
    for (unsigned i = 0; i < 2; i++) {
        struct cluster_seat *s = cluster_seat(node[i].c, 0);
        ck_assert_uint_eq(cluster_live_count(s), 2);
        ck_assert_int_eq(cluster_member_find(s, &gone)->state, CLUSTER_ST_DEAD);
        ck_assert_ptr_null(cluster_member_find(s, cluster_uuid(node[2].c)));
    }
}
END_TEST

START_TEST(test_seeds_that_do_not_resolve)
{
    nodes_start(&node[0], "test", &nodes_key_a);
    node[1].seed = "no-such-host.invalid:8899";
    nodes_start(&node[1], "test", &nodes_key_a);
    ck_assert(nodes_until(unresolved_is_reported, 100));
    ck_assert(!cluster_is_joined(cluster_seat(node[1].c, 0)));
}
END_TEST

Suite *suite_wire(void);

Suite *suite_wire(void)
{
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("wire");
    tcase_set_timeout(t, TEST_PATIENCE(120));
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_a_million_packets);
    tcase_add_test(t, test_changed_and_cut_packets);
    tcase_add_test(t, test_a_replay);
    tcase_add_test(t, test_who_asks_is_told);
    tcase_add_test(t, test_the_operator_is_told);
    tcase_add_test(t, test_a_foreign_node_at_a_members_address);
    tcase_add_test(t, test_seeds_that_do_not_resolve);
    suite_add_tcase(s, t);
    return s;
}
