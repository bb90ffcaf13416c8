/* SRV lookups, with a name server of the test's own.  SPDX-License-Identifier: Apache-2.0 */
#include "net/resolve.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/clock.h"
#include "unit/net/net.h"

#define WAIT_USEC (20 * USEC_SEC)

enum kind { TWO_TARGETS, NO_SUCH_NAME, SERVER_FAILS, CUT_RECORD, NO_TARGET };

static struct dns {
    int fd;
    struct net_address address;
    enum kind kind;
    unsigned asked;
    struct net_loop *loop;
    struct net_worker *worker;
    struct net_watch *watch;
    bool is_answered;
    int status;
    size_t count;
    struct net_address found[NET_RESOLVE_COUNT_MAX];
} dns;

/* A record: priority 1, weight 2, port, and a name whose labels are those of a numeric address. */
static size_t record(uint8_t *at, uint16_t port, uint8_t last)
{
    const uint8_t r[] = {0xc0,
                         12,
                         0,
                         33,
                         0,
                         1,
                         0,
                         0,
                         0,
                         9,
                         0,
                         18,
                         0,
                         1,
                         0,
                         2,
                         (uint8_t)(port >> 8),
                         (uint8_t)port,
                         3,
                         '1',
                         '2',
                         '7',
                         1,
                         '0',
                         1,
                         '0',
                         1,
                         last,
                         0};
    memcpy(at, r, sizeof r);
    at[11] = (uint8_t)(sizeof r - 12);
    return sizeof r;
}

static void on_question(void *arg, unsigned events)
{
    uint8_t p[1024];
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    (void)arg;
    (void)events;
    ssize_t got = recvfrom(dns.fd, p, 512, 0, (struct sockaddr *)&from, &len);
    if (got < 17)
        return;
    size_t n = 12;
    while (p[n] != 0)
        n += p[n] + 1u;
    n += 5; /* the question ends here; what follows it is not repeated */
    dns.asked++;
    p[2] = 0x81;
    p[3] = (uint8_t)(0x80 | (dns.kind == NO_SUCH_NAME ? 3 : dns.kind == SERVER_FAILS ? 2 : 0));
    memset(p + 6, 0, 6);
    if (dns.kind == TWO_TARGETS || dns.kind == CUT_RECORD) {
        p[7] = 2;
        n += record(p + n, 4001, '1');
        n += record(p + n, 4002, '2');
        if (dns.kind == CUT_RECORD)
            n -= 40; /* within the first one */
    } else if (dns.kind == NO_TARGET) {
        const uint8_t r[] = {0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, 7, 0, 1, 0, 2, 0, 80, 0};
        p[7] = 1;
        memcpy(p + n, r, sizeof r);
        n += sizeof r;
    }
    (void)sendto(dns.fd, p, n, 0, (struct sockaddr *)&from, len);
}

static void setup(void)
{
    socklen_t len = sizeof dns.address;
    struct net_loop_conf conf = {.seed = 1};
    memset(&dns, 0, sizeof dns);
    ck_assert_int_eq(net_loop_new(&conf, &dns.loop), 0);
    ck_assert_int_eq(net_worker_new(1, 8, "names", &dns.worker), 0);
    ck_assert_int_eq(net_address_parse(STR("127.0.0.1:0"), &dns.address), 0);
    dns.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(dns.fd, &dns.address.sa, sizeof dns.address.v4), 0);
    ck_assert_int_eq(getsockname(dns.fd, &dns.address.sa, &len), 0);
    dns.watch = net_watch_new(dns.loop, dns.fd, NET_WATCH_READ, on_question, NULL);
}

static void teardown(void)
{
    net_watch_free(dns.watch);
    close(dns.fd);
    net_worker_free(dns.worker);
    for (int i = 0; i < 3; i++)
        net_loop_turn(dns.loop, 0);
    net_loop_free(dns.loop);
}

static void on_answer(void *arg, int status, const struct net_address *address, size_t count)
{
    (void)arg;
    ck_assert(!dns.is_answered);
    dns.is_answered = true;
    dns.status = status;
    dns.count = count;
    for (size_t i = 0; i < count; i++)
        dns.found[i] = address[i];
}

static void ask(enum kind kind, const char *name)
{
    dns.kind = kind;
    dns.is_answered = false;
    (void)net_resolve_srv(dns.loop, dns.worker, str_of(name), &dns.address, on_answer, NULL);
    for (usec_t end = net_clock_now() + WAIT_USEC; !dns.is_answered && net_clock_now() < end;)
        net_loop_turn(dns.loop, 10 * USEC_MSEC);
    ck_assert(dns.is_answered);
}

START_TEST(targets_have_their_ports)
{
    ask(TWO_TARGETS, "_bilrost._tcp.example.org");
    ck_assert_int_eq(dns.status, 0);
    ck_assert_uint_eq(dns.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        bool is_second = net_address_port(&dns.found[i]) == 4002;
        char text[NET_ADDRESS_TEXT];
        net_address_format(&dns.found[i], text);
        ck_assert_str_eq(text, is_second ? "127.0.0.2:4002" : "127.0.0.1:4001");
    }
    ck_assert_uint_ne(net_address_port(&dns.found[0]), net_address_port(&dns.found[1]));
    ck_assert_uint_eq(dns.asked, 1);
}
END_TEST

START_TEST(what_has_no_targets)
{
    char longer[1100];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    ask(NO_SUCH_NAME, "_bilrost._tcp.example.org");
    ck_assert_int_eq(dns.status, -ENOENT);
    ask(NO_TARGET, "_bilrost._tcp.example.org");
    ck_assert_uint_eq(dns.count, 0);
    ck_assert_int_ne(dns.status, 0);
    ask(SERVER_FAILS, "_bilrost._tcp.example.org");
    ck_assert_int_eq(dns.status, -EAGAIN);
    ask(CUT_RECORD, "_bilrost._tcp.example.org");
    ck_assert_uint_eq(dns.count, 0);
    ck_assert_int_ne(dns.status, 0);
    ask(TWO_TARGETS, longer);
    ck_assert_int_eq(dns.status, -ENOENT);
    ask(TWO_TARGETS, "");
    ck_assert_int_eq(dns.status, -ENOENT);
}
END_TEST

/* Called off while the worker waits: no call, nothing leaks, and the next one is answered. */
START_TEST(a_query_that_is_called_off)
{
    net_resolve_cancel(net_resolve_srv(dns.loop, dns.worker, STR("_a._udp.example.org"),
                                       &dns.address, on_answer, NULL));
    ask(TWO_TARGETS, "_b._udp.example.org");
    ck_assert_uint_eq(dns.count, 2);
}
END_TEST

Suite *resolve_suite(void)
{
    Suite *s = suite_create("resolve");
    TCase *t = tcase_create("srv");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, targets_have_their_ports);
    tcase_add_test(t, what_has_no_targets);
    tcase_add_test(t, a_query_that_is_called_off);
    suite_add_tcase(s, t);
    return s;
}
