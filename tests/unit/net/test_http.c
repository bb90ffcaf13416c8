/* The HTTP server and the client of tools against each other.  SPDX-License-Identifier: Apache-2.0
 */
#include "net/http.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#include "unit/net/net.h"

#define HUGE_BYTES ((size_t)8 * 1024 * 1024) /* more than socket buffers hold */

struct late { /* an answer given in a later turn */
    struct net_timer timer;
    struct net_http_request *q;
};

static struct late late;

static void on_late(void *arg, usec_t now)
{
    (void)arg;
    (void)now;
    net_http_reply(late.q, 202, "text/plain", STR("late"));
}

static void on_request(void *arg, struct net_http_request *q)
{
    struct net_loop *l = *(struct net_loop **)arg;
    struct buf b = {0};
    if (str_eq(net_http_path(q), STR("/late"))) {
        late.q = q;
        net_timer_init(&late.timer, on_late, NULL);
        net_timer_set(l, &late.timer, net_loop_now(l) + 1000);
        return;
    }
    struct str h = net_http_header(q, "tenant_id"), v = net_http_query(q, "k"),
               body = net_http_body(q), m = net_http_method(q), p = net_http_path(q);
    uint32_t uid = 0, gid;
    bool has_cred = net_http_peer_cred(q, &uid, &gid);
    buf_printf(&b, "%.*s %.*s h=%.*s k=%.*s body=%.*s cred=%d", STR_ARG(m), STR_ARG(p), STR_ARG(h),
               STR_ARG(v), STR_ARG(body), has_cred ? (int)(uid == getuid()) : -1);
    net_http_reply_header(q, "X-One", STR("1"));
    net_http_reply(q, 200, "text/plain", buf_str(&b));
    buf_deinit(&b);
}

static int ask(const char *target, const char *method, const char *path, struct str body,
               struct buf *out)
{
    struct str header = STR("tenant_id: t1");
    struct net_http_ask a = {.target = target,
                             .method = method,
                             .path = path,
                             .header = &header,
                             .header_count = 1,
                             .body = body,
                             .timeout_usec = 5 * USEC_SEC};
    int status = 0;
    out->n = 0;
    int r = net_http_fetch(&a, &status, out);
    return r ? r : status;
}

START_TEST(asks_and_answers)
{
    struct net_loop *l = loop_new(0, NULL);
    char error[256], tcp[NET_ADDRESS_TEXT + 8], path[64], un[80];
    struct net_http *h = NULL, *u = NULL;
    struct net_http_conf conf = {
        .address = "127.0.0.1:0", .body_bytes_max = 1000, .request = on_request, .arg = &l};
    ck_assert_int_eq(net_http_new(l, &conf, error, &h), 0);
    snprintf(path, sizeof path, "/tmp/bilrost-http-%d.sock", (int)getpid());
    conf.address = NULL;
    conf.unix_path = path;
    ck_assert_int_eq(net_http_new(l, &conf, error, &u), 0);
    memcpy(tcp, "http://", 8);
    net_address_format(net_http_address(h), tcp + 7);
    snprintf(un, sizeof un, "unix:%s", path);
    ck_assert_int_eq(net_loop_start(l), 0);
    struct buf b = {0};
    ck_assert_int_eq(ask(tcp, "GET", "/a%20b?k=v%26w", STR(""), &b), 200);
    ck_str(buf_str(&b), STR("GET /a b h=t1 k=v&w body= cred=-1"));
    ck_assert_int_eq(ask(tcp, "PUT", "/x", STR("hello"), &b), 200);
    ck_str(buf_str(&b), STR("PUT /x h=t1 k= body=hello cred=-1"));
    ck_assert_int_eq(ask(un, "DELETE", "/y", STR(""), &b), 200);
    ck_str(buf_str(&b), STR("DELETE /y h=t1 k= body= cred=1"));
    ck_assert_int_eq(ask(tcp, "GET", "/late", STR(""), &b), 202);
    ck_str(buf_str(&b), STR("late"));
    char large[2000] = {0};
    ck_assert_int_eq(ask(tcp, "POST", "/x", str_view(large, sizeof large), &b), 413);
    char *huge = mem_new(HUGE_BYTES); /* refused before it is taken */
    ck_assert_int_eq(ask(un, "POST", "/x", str_view(huge, HUGE_BYTES), &b), 413);
    ck_str(buf_str(&b), STR("the body is larger than 1000 bytes"));
    ck_assert_int_eq(ask(tcp, "POST", "/x", str_view(huge, HUGE_BYTES), &b), 413);
    mem_free(huge);
    ck_assert_int_eq(ask("unix:/nonexistent", "GET", "/", STR(""), &b), -ENOENT);
    ck_assert_int_eq(ask("ftp://x", "GET", "/", STR(""), &b), -EINVAL);
    buf_deinit(&b);
    net_loop_stop(l);
    net_loop_join(l);
    net_http_free(h);
    net_http_free(u);
    ck_assert_int_eq(access(path, F_OK), -1);
    net_loop_free(l);
}
END_TEST

/* ---- limits: raw clients, the loop turns here ---- */

#define LARGE_BYTES ((size_t)32 * 1024 * 1024) /* more than socket buffers hold */

static void on_large(void *arg, struct net_http_request *q)
{
    (void)arg;
    char *p = mem_new(LARGE_BYTES);
    net_http_reply(q, 200, "text/plain", str_view(p, LARGE_BYTES));
    mem_free(p);
}

static struct net_loop *loop;
static struct net_http *http;

static void limits_open(struct net_http_conf conf)
{
    char error[256];
    loop = loop_new(0, NULL);
    conf.address = "127.0.0.1:0";
    conf.request = on_large;
    ck_assert_int_eq(net_http_new(loop, &conf, error, &http), 0);
}

static void limits_close(void)
{
    net_http_free(http);
    net_loop_free(loop);
}

static int client(void)
{
    size_t before = net_http_stat(http).connection_count + net_http_stat(http).closed_full;
    const struct net_address *a = net_http_address(http);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, &a->sa, sizeof a->v4), 0);
    turn_until(loop,
               net_http_stat(http).connection_count + net_http_stat(http).closed_full > before);
    return fd;
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Until the server closes: what it said. */
static void heard(int fd, char out[512])
{
    size_t n = 0;
    for (usec_t end = net_clock_now() + 10 * USEC_SEC;;) {
        ck_assert(net_clock_now() < end);
        ssize_t got = recv(fd, out + n, 511 - n, MSG_DONTWAIT);
        if (got == 0)
            break;
        if (got > 0)
            n += (size_t)got;
        else
            net_loop_turn(loop, USEC_MSEC);
    }
    out[n] = 0;
}

static bool is_ended(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static bool is_answered(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
}

START_TEST(one_too_many_ends_the_one_that_waits_longest)
{
    limits_open((struct net_http_conf){.connection_count_max = 2});
    int busy = client(), mute = client();
    say(busy, "GET / HTTP/1.1\r\n\r\n");
    turn_until(loop, is_answered(busy));
    int third = client();
    turn_until(loop, is_ended(mute));
    ck_assert(!is_ended(third));
    say(third, "GET / HTTP/1.1\r\n\r\n");
    turn_until(loop, is_answered(third));
    int fourth = client(); /* both places are taken by those who are answered */
    turn_until(loop, is_ended(fourth));
    ck_assert(is_answered(busy) && is_answered(third));
    struct net_http_stat s = net_http_stat(http);
    ck_assert_uint_eq(s.connection_count, 2);
    ck_assert_uint_eq(s.closed_full, 2);
    ck_assert_uint_eq(s.closed_slow, 0);
    limits_close();
    close(busy);
    close(mute);
    close(third);
    close(fourth);
}
END_TEST

static struct net_http_refusal refusal;
static char refusal_what[128], refusal_who[64];

static void on_refused(void *arg, const struct net_http_refusal *r)
{
    (void)arg;
    refusal = *r;
    str_copy(refusal_what, sizeof refusal_what, r->what);
    str_copy(refusal_who, sizeof refusal_who, str_of(r->who));
}

/* Each byte comes well before any timeout between two bytes. */
START_TEST(a_request_that_drips_is_cut)
{
    char text[512];
    limits_open((struct net_http_conf){.idle_usec_max = 200 * USEC_MSEC, .refused = on_refused});
    int fd = client();
    say(fd, "GET / HTTP/1.1\r\nX-Long: ");
    usec_t next = 0; /* not as fast as the machine can: a long header is another refusal */
    for (usec_t end = net_clock_now() + 10 * USEC_SEC; !is_answered(fd);) {
        usec_t now = net_clock_now();
        ck_assert(now < end);
        if (now >= next) {
            (void)send(fd, "x", 1, MSG_NOSIGNAL);
            next = now + USEC_MSEC;
        }
        net_loop_turn(loop, USEC_MSEC);
    }
    ck_assert_int_gt(recv(fd, text, 12, MSG_DONTWAIT), 0);
    ck_assert_mem_eq(text, "HTTP/1.1 408", 12);
    turn_until(loop, net_http_stat(http).connection_count == 0);
    ck_assert_uint_eq(net_http_stat(http).closed_slow, 1);
    ck_assert_int_eq(refusal.status, 408);
    ck_assert_str_eq(refusal_who, "127.0.0.1");
    limits_close();
    close(fd);
}
END_TEST

/* Nothing was asked: nothing is said. */
START_TEST(a_connection_that_asks_nothing_is_closed)
{
    char text[512];
    refusal.status = 0;
    limits_open((struct net_http_conf){.idle_usec_max = 100 * USEC_MSEC, .refused = on_refused});
    int fd = client();
    heard(fd, text);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(refusal.status, 0);
    limits_close();
    close(fd);
}
END_TEST

START_TEST(what_is_no_request_gets_one_sentence)
{
    static const struct {
        const char *text;
        int status;
        const char *what;
    } row[] = {
        {"NONSENSE\r\n\r\n", 400, "this is not a request of HTTP/1.1"},
        {"GET / HTTP/3.9\r\n\r\n", 400, "this is not a request of HTTP/1.1"},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "this is not a request of HTTP/1.1"},
        {"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, "this is not a request of HTTP/1.1"},
        {"FOO / HTTP/1.1\r\n\r\n", 400, "no such path and method"},
        {"TRACE / HTTP/1.1\r\n\r\n", 400, "no such path and method"},
        {"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413,
         "the body is larger than 100 bytes"},
        {"POST / HTTP/1.1\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n", 413,
         "the body is larger than 100 bytes"},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n70\r\n", 413,
         "the body is larger than 100 bytes"},
    };
    limits_open((struct net_http_conf){.body_bytes_max = 100, .refused = on_refused});
    for (size_t i = 0; i < countof(row); i++) {
        char text[512], begin[16];
        int fd = client();
        refusal.status = 0;
        say(fd, row[i].text);
        heard(fd, text);
        snprintf(begin, sizeof begin, "HTTP/1.1 %d", row[i].status);
        ck_assert_msg(strncmp(text, begin, strlen(begin)) == 0, "%zu: %s", i, text);
        const char *body = strstr(text, "\r\n\r\n");
        ck_assert_msg(body && strcmp(body + 4, row[i].what) == 0, "%zu: %s", i, text);
        ck_assert_msg(strstr(text, "text/plain") != NULL, "%zu: %s", i, text);
        ck_assert_int_eq(refusal.status, row[i].status);
        ck_assert_str_eq(refusal_what, row[i].what);
        close(fd);
    }
    limits_close();
}
END_TEST

START_TEST(an_answer_that_nobody_takes_is_cut)
{
    limits_open((struct net_http_conf){.leave_usec_max = 100 * USEC_MSEC});
    int fd = client();
    say(fd, "GET / HTTP/1.1\r\n\r\n");
    turn_until(loop, is_answered(fd));
    turn_until(loop, net_http_stat(http).connection_count == 0);
    ck_assert_uint_eq(net_http_stat(http).closed_slow, 1);
    limits_close();
    close(fd);
}
END_TEST

/* The server goes while connections are in each of their states. */
START_TEST(the_server_goes_first)
{
    limits_open((struct net_http_conf){0});
    int leaving = client(), waiting = client();
    say(leaving, "GET / HTTP/1.1\r\n\r\n");
    turn_until(loop, is_answered(leaving));
    limits_close();
    ck_assert(is_ended(waiting));
    close(leaving);
    close(waiting);
}
END_TEST

Suite *http_suite(void)
{
    Suite *s = suite_create("HTTP");
    TCase *t = tcase_create("http");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, asks_and_answers);
    tcase_add_test(t, one_too_many_ends_the_one_that_waits_longest);
    tcase_add_test(t, a_request_that_drips_is_cut);
    tcase_add_test(t, a_connection_that_asks_nothing_is_closed);
    tcase_add_test(t, what_is_no_request_gets_one_sentence);
    tcase_add_test(t, an_answer_that_nobody_takes_is_cut);
    tcase_add_test(t, the_server_goes_first);
    suite_add_tcase(s, t);
    return s;
}
