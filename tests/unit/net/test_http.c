/* The HTTP server and the client of tools against each other.  SPDX-License-Identifier: Apache-2.0 */
#include "net/http.h"

#include <errno.h>
#include <unistd.h>

#include "unit/net/net.h"

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

Suite *http_suite(void)
{
    Suite *s = suite_create("HTTP");
    TCase *t = tcase_create("http");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, asks_and_answers);
    suite_add_tcase(s, t);
    return s;
}
