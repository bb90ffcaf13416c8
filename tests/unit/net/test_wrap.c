/* TLS, WebSocket and the PROXY protocol around a stream.  SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/proxy_priv.h"
#include "net/ws_priv.h"
#include "unit/cert.h"
#include "unit/net/pair.h"

static char dir[64];

static const char *file(const char *name)
{
    static char path[8][128];
    static unsigned at;
    char *p = path[at++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void certs(void)
{
    snprintf(dir, sizeof dir, "/tmp/bilrost-cert-XXXXXX");
    ck_assert_ptr_ne(mkdtemp(dir), NULL);
    cert_make(dir, "ca", "Test CA", NULL, NULL);
    cert_make(dir, "server", "server", "DNS:broker.test", "ca");
    cert_make(dir, "other", "other", "DNS:other.test", "ca");
    cert_make(dir, "client", "sensor-7", "DNS:sensor.test,URI:urn:x:7", "ca");
    cert_make(dir, "ca2", "Stranger", NULL, NULL);
    cert_make(dir, "stranger", "stranger", NULL, "ca2");
}

static void certs_remove(void)
{
    static const char *const name[] = {"ca", "server", "other", "client", "ca2", "stranger"};
    for (size_t i = 0; i < countof(name); i++) {
        char n[32];
        snprintf(n, sizeof n, "%s.crt", name[i]);
        unlink(file(n));
        snprintf(n, sizeof n, "%s.key", name[i]);
        unlink(file(n));
    }
    rmdir(dir);
}

static struct net_tls *server_tls(enum net_tls_verify verify)
{
    static struct net_tls_name name;
    name = (struct net_tls_name){"*.test", file("other.crt"), file("other.key")};
    struct net_tls_conf conf = {.is_server = true,
                                .cert_file = file("server.crt"),
                                .key_file = file("server.key"),
                                .ca_file = file("ca.crt"),
                                .verify = verify,
                                .name = &name,
                                .name_count = 0};
    char error[NET_TLS_ERROR_MAX];
    struct net_tls *t = NULL;
    int r = net_tls_new(&conf, error, &t);
    ck_assert_msg(r == 0, "%s", error);
    return t;
}

static struct net_tls *client_tls(const char *name)
{
    char crt[32], key[32], error[NET_TLS_ERROR_MAX];
    snprintf(crt, sizeof crt, "%s.crt", name ? name : "");
    snprintf(key, sizeof key, "%s.key", name ? name : "");
    struct net_tls_conf conf = {.cert_file = name ? file(crt) : NULL,
                                .key_file = name ? file(key) : NULL,
                                .ca_file = file("ca.crt"),
                                .verify = NET_TLS_VERIFY_REQUIRED};
    struct net_tls *t = NULL;
    int r = net_tls_new(&conf, error, &t);
    ck_assert_msg(r == 0, "%s", error);
    return t;
}

/* Sends n bytes from the client, the server echoes them. */
static void echo(size_t n)
{
    pair_server.is_echo = true;
    uint8_t *big = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 13 + i / 255);
    pair_client.got.n = 0;
    for (size_t at = 0; at < n; at += 50000) {
        size_t step = n - at < 50000 ? n - at : 50000;
        buf_put(net_stream_out(pair_client.s), big + at, step);
        net_loop_turn(pair_loop, 0);
    }
    turn_until(pair_loop, pair_client.got.n == n || pair_client.is_closed);
    ck_assert_msg(pair_client.got.n == n, "got %zu of %zu", pair_client.got.n, n);
    ck_assert_int_eq(memcmp(pair_client.got.p, big, n), 0);
    mem_free(big);
}

START_TEST(tls_both_ways)
{
    certs();
    struct net_tls *st = server_tls(NET_TLS_VERIFY_REQUIRED), *ct = client_tls("client");
    pair_listen((struct net_listener_conf){.tls = st});
    pair_dial((struct net_stream_conf){.tls = ct, .tls_name = "broker.test"});
    echo(3);
    echo(2000000);
    struct net_stream_identity id;
    ck_assert(net_stream_identity(pair_server.s, &id));
    ck_str(id.cn, STR("sensor-7"));
    ck_str(id.san, STR("sensor.test"));
    ck_str(id.san_uri, STR("urn:x:7"));
    ck_assert_str_eq(net_stream_tls_version(pair_server.s), "TLSv1.3");
    ck_str(net_stream_tls_name(pair_server.s), STR("broker.test"));
    ck_assert_uint_gt(net_tls_expires(st), 1000000000);
    pair_finish();
    net_tls_unref(st);
    net_tls_unref(ct);
    certs_remove();
}
END_TEST

START_TEST(tls_refuses)
{
    static const struct {
        const char *client, *name;
        enum net_tls_verify verify;
        bool is_good;
    } table[] = {
        {"stranger", "broker.test", NET_TLS_VERIFY_REQUIRED, false},
        {NULL, "broker.test", NET_TLS_VERIFY_REQUIRED, false},
        {NULL, "broker.test", NET_TLS_VERIFY_OPTIONAL, true},
        {"client", "wrong.example", NET_TLS_VERIFY_REQUIRED, false},
    };
    certs();
    for (size_t i = 0; i < countof(table); i++) {
        struct net_tls *st = server_tls(table[i].verify), *ct = client_tls(table[i].client);
        pair_listen((struct net_listener_conf){.tls = st});
        pair_dial((struct net_stream_conf){.tls = ct, .tls_name = table[i].name});
        buf_put_str(net_stream_out(pair_client.s), STR("x"));
        turn_until(pair_loop, pair_client.is_closed || pair_server.got.n);
        ck_assert_msg((pair_server.got.n == 1) == table[i].is_good, "row %zu", i);
        if (!table[i].is_good) {
            ck_assert_int_eq(pair_client.why, NET_STREAM_END_ERROR);
            ck_assert_str_ne(pair_client.error, "");
            turn_until(pair_loop, net_listener_stats(pair_listener).connection_count == 0);
            ck_assert_uint_eq(net_listener_stats(pair_listener).failed_handshake_count, 1);
        }
        pair_finish();
        net_tls_unref(st);
        net_tls_unref(ct);
    }
    certs_remove();
}
END_TEST

START_TEST(tls_reload_drops_nobody)
{
    certs();
    struct net_tls *st = server_tls(NET_TLS_VERIFY_OPTIONAL), *ct = client_tls(NULL);
    char error[NET_TLS_ERROR_MAX];
    pair_listen((struct net_listener_conf){.tls = st});
    pair_dial((struct net_stream_conf){.tls = ct, .tls_name = "broker.test"});
    echo(10);
    cert_make(dir, "server", "server", "DNS:new.test", "ca");
    ck_assert_int_eq(net_tls_reload(st, error), 0);
    echo(100000); /* the old connection lives */
    struct end second = {0};
    struct net_stream_conf conf = {
        .ops = &pair_ops, .arg = &second, .tls = ct, .tls_name = "new.test"};
    struct end first = pair_server;
    memset(&pair_server, 0, sizeof pair_server);
    net_stream_set(first.s, &pair_ops, &first);
    ck_assert_int_eq(
        net_stream_connect(pair_loop, net_listener_address(pair_listener), &conf, &second.s), 0);
    turn_until(pair_loop, second.is_open || second.is_closed);
    ck_assert(second.is_open); /* and new ones see the new certificate */
    FILE *f = fopen(file("server.crt"), "w");
    fputs("nonsense", f);
    fclose(f);
    ck_assert_int_lt(net_tls_reload(st, error), 0);
    ck_assert_ptr_ne(strstr(error, "server.crt"), NULL);
    net_stream_abort(second.s);
    net_stream_abort(first.s);
    turn_until(pair_loop, second.is_closed && first.is_closed && pair_client.is_closed);
    buf_deinit(&first.got);
    pair_finish();
    net_tls_unref(st);
    net_tls_unref(ct);
    certs_remove();
}
END_TEST

START_TEST(tls_files_are_named)
{
    certs();
    char error[NET_TLS_ERROR_MAX];
    struct net_tls *t = NULL;
    struct net_tls_conf conf = {
        .is_server = true, .cert_file = file("server.crt"), .key_file = file("none.key")};
    ck_assert_int_eq(net_tls_new(&conf, error, &t), -ENOENT);
    ck_assert_ptr_ne(strstr(error, "none.key"), NULL);
    conf.key_file = file("other.key"); /* of another certificate */
    ck_assert_int_eq(net_tls_new(&conf, error, &t), -EINVAL);
    ck_assert_ptr_ne(strstr(error, "other.key"), NULL);
    certs_remove();
}
END_TEST

START_TEST(websocket_carries_bytes)
{
    pair_listen((struct net_listener_conf){.ws_path = "/mqtt", .ws_protocol = "mqtt,mqttv3.1"});
    pair_dial((struct net_stream_conf){.ws_path = "/mqtt", .ws_protocol = "mqtt"});
    echo(5);
    echo(125);
    echo(126);
    echo(70000);
    echo(3000000);
    net_stream_close(pair_client.s);
    turn_until(pair_loop, pair_server.is_closed && pair_client.is_closed);
    ck_assert_int_eq(pair_server.why, NET_STREAM_END_PEER);
    pair_finish();
}
END_TEST

START_TEST(websocket_over_tls)
{
    certs();
    struct net_tls *st = server_tls(NET_TLS_VERIFY_NONE), *ct = client_tls(NULL);
    pair_listen((struct net_listener_conf){.tls = st, .ws_path = "/mqtt", .ws_protocol = "mqtt"});
    pair_dial((struct net_stream_conf){
        .tls = ct, .tls_name = "broker.test", .ws_path = "/mqtt", .ws_protocol = "mqtt"});
    echo(300000);
    pair_finish();
    net_tls_unref(st);
    net_tls_unref(ct);
    certs_remove();
}
END_TEST

START_TEST(websocket_refuses)
{
    static const struct {
        const char *request, *status;
    } table[] = {
        {"GET /other HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 404"},
        {"POST /mqtt HTTP/1.1\r\n\r\n", "HTTP/1.1 405"},
        {"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400"},
        {"\x10\x0c\r\n\r\n", "HTTP/1.1 400"},
        {"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n",
         "HTTP/1.1 426"},
        {"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Protocol: chat\r\n\r\n",
         "HTTP/1.1 400"},
    };
    for (size_t i = 0; i < countof(table); i++) {
        pair_listen((struct net_listener_conf){.ws_path = "/mqtt", .ws_protocol = "mqtt"});
        pair_dial((struct net_stream_conf){0});
        buf_put_str(net_stream_out(pair_client.s), str_of(table[i].request));
        turn_until(pair_loop, pair_client.is_closed);
        ck_assert_msg(str_has_prefix(buf_str(&pair_client.got), str_of(table[i].status)),
                      "row %zu: %.*s", i, STR_ARG(buf_str(&pair_client.got)));
        ck_assert(!pair_server.is_open);
        pair_finish();
    }
}
END_TEST

/* RFC 6455 1.3's own example. */
START_TEST(websocket_accept_key)
{
    struct buf answer = {0};
    size_t used;
    ck_assert_int_eq(
        net_ws_accept(STR("GET /a?q HTTP/1.1\r\nupgrade: WebSocket\r\nconnection: Upgrade\r\n"
                          "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                          "sec-websocket-version: 13\r\n\r\nrest"),
                      "/a", NULL, &answer, &used),
        0);
    buf_put_u8(&answer, 0);
    ck_assert_ptr_ne(strstr((char *)answer.p, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), NULL);
    buf_deinit(&answer);
}
END_TEST

START_TEST(websocket_frames)
{
    static const struct {
        const char *in;
        size_t n;
        int r;
        const char *out;
        uint8_t answer[4];
    } table[] = {
        {"\x82\x83\0\0\0\0abc", 9, 0, "abc", {0}},
        {"\x02\x82\0\0\0\0ab\x80\x81\0\0\0\0c", 15, 0, "abc", {0}}, /* fragments */
        {"\x02\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b",
         20,
         0,
         "ab",
         {0x8a, 0}},                              /* a ping between */
        {"\x82\x81\1\2\3\4\x60", 7, 0, "a", {0}}, /* masked */
        {"\x82\x01"
         "a",
         3,
         -EPROTO,
         "",
         {0x88, 2, 0x03, 0xea}},                                      /* not masked */
        {"\x81\x81\0\0\0\0a", 7, -EPROTO, "", {0x88, 2, 0x03, 0xeb}}, /* text */
        {"\x80\x81\0\0\0\0a", 7, -EPROTO, "", {0x88, 2, 0x03, 0xea}}, /* continues nothing */
        {"\xc2\x81\0\0\0\0a", 7, -EPROTO, "", {0x88, 2, 0x03, 0xea}}, /* reserved bit */
        {"\x83\x81\0\0\0\0a", 7, -EPROTO, "", {0x88, 2, 0x03, 0xea}}, /* reserved opcode */
        {"\x88\x82\0\0\0\0\x03\xe8", 8, NET_WS_E_CLOSE, "", {0x88, 2, 0x03, 0xe8}},
    };
    for (size_t i = 0; i < countof(table); i++)
        for (size_t cut = 1; cut <= table[i].n; cut++) { /* in pieces of every size */
            struct net_ws *w = net_ws_new(true);
            struct buf got = {0}, answer = {0};
            int r = 0;
            for (size_t at = 0; at < table[i].n && r == 0; at += cut) {
                uint8_t piece[64];
                size_t n = table[i].n - at < cut ? table[i].n - at : cut, out_n = 0;
                memcpy(piece, table[i].in + at, n);
                r = net_ws_decode(w, piece, n, &out_n, &answer);
                buf_put(&got, piece, out_n);
            }
            ck_assert_msg(r == table[i].r, "row %zu cut %zu: %d", i, cut, r);
            ck_str(buf_str(&got), str_of(table[i].out));
            size_t want = table[i].answer[0] ? 2u + table[i].answer[1] : 0;
            ck_assert_msg(answer.n == want &&
                              (!want || memcmp(answer.p, table[i].answer, want) == 0),
                          "row %zu", i);
            buf_deinit(&got);
            buf_deinit(&answer);
            net_ws_free(w);
        }
}
END_TEST

START_TEST(proxy_headers)
{
    static const struct {
        const char *in;
        size_t n;
        int r;
        const char *peer;
        size_t used;
    } table[] = {
#define V1(s, r, peer) {s, sizeof(s) - 1, r, peer, r ? 0 : sizeof(s) - 1}
        V1("PROXY TCP4 192.0.2.1 192.0.2.2 5000 1883\r\n", 0, "192.0.2.1:5000"),
        V1("PROXY TCP6 2001:db8::1 ::1 5000 1883\r\n", 0, "[2001:db8::1]:5000"),
        V1("PROXY UNKNOWN\r\n", 0, NULL),
        V1("PROXY UNKNOWN a b c d\r\n", 0, NULL),
        V1("PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", NET_PROXY_E_BAD, NULL),
        V1("PROXY TCP4 nonsense 192.0.2.2 5000 1\r\n", NET_PROXY_E_BAD, NULL),
        V1("PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n", NET_PROXY_E_BAD, NULL),
        V1("PROXY TCP4 192.0.2.1 192.0.2.2 5 1\n", NET_PROXY_E_BAD, NULL),
        V1("PROX", NET_PROXY_E_MORE, NULL),
        V1("PROXY TCP4 192.0", NET_PROXY_E_MORE, NULL),
        V1("\x10\x0c", NET_PROXY_E_BAD, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x13\x88\x07\x5b", 0,
           "192.0.2.1:5000"),
        V1("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", NET_PROXY_E_LOCAL, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", 0, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", NET_PROXY_E_BAD, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\4abcd", NET_PROXY_E_BAD, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", NET_PROXY_E_BAD, NULL),
        V1("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", NET_PROXY_E_MORE, NULL),
    };
    for (size_t i = 0; i < countof(table); i++) {
        struct net_address a, was;
        size_t used = 0;
        char text[NET_ADDRESS_TEXT];
        ck_assert_int_eq(net_address_parse(STR("10.9.9.9:9"), &a), 0);
        was = a;
        int r = net_proxy_decode((const uint8_t *)table[i].in, table[i].n, &a, &used);
        ck_assert_msg(r == table[i].r, "row %zu: %d", i, r);
        if (r == 0)
            ck_assert_uint_eq(used, table[i].used);
        net_address_format(table[i].peer ? &a : &was, text);
        if (table[i].peer)
            ck_assert_str_eq(text, table[i].peer);
        else
            ck_assert(net_address_eq(&a, &was));
        for (size_t n = 1; r == 0 && n < table[i].n; n++) /* every beginning wants more */
            ck_assert_int_eq(net_proxy_decode((const uint8_t *)table[i].in, n, &a, &used),
                             NET_PROXY_E_MORE);
    }
}
END_TEST

START_TEST(proxy_gives_the_client)
{
    struct net_range from;
    char text[NET_ADDRESS_TEXT];
    ck_assert_int_eq(net_range_parse(STR("127.0.0.0/8"), &from), 0);
    pair_listen((struct net_listener_conf){.proxy_from = &from, .proxy_from_count = 1});
    pair_dial((struct net_stream_conf){0});
    struct str head = STR("PROXY TCP4 192.0.2.1 192.0.2.2 5000 1883\r\nhello");
    for (size_t i = 0; i < head.n; i++) { /* byte by byte */
        buf_put_u8(net_stream_out(pair_client.s), (uint8_t)head.p[i]);
        net_loop_turn(pair_loop, USEC_MSEC);
    }
    turn_until(pair_loop, pair_server.got.n == 5);
    ck_str(buf_str(&pair_server.got), STR("hello"));
    net_address_format(net_stream_peer(pair_server.s), text);
    ck_assert_str_eq(text, "192.0.2.1:5000");
    pair_finish();
}
END_TEST

START_TEST(proxy_is_wanted)
{
    struct net_range from;
    ck_assert_int_eq(net_range_parse(STR("127.0.0.1"), &from), 0);
    pair_listen((struct net_listener_conf){.proxy_from = &from, .proxy_from_count = 1});
    pair_dial((struct net_stream_conf){0});
    buf_put_str(net_stream_out(pair_client.s), STR("\x10\x0c no header"));
    turn_until(pair_loop, pair_client.is_closed);
    ck_assert(!pair_server.is_open);
    ck_assert_uint_eq(net_listener_stats(pair_listener).refused_proxy_count, 1);
    pair_finish();
}
END_TEST

START_TEST(handshakes_have_a_deadline)
{
    pair_listen((struct net_listener_conf){.ws_path = "/mqtt",
                                           .limits.handshake_usec_max = 50 * USEC_MSEC});
    pair_dial((struct net_stream_conf){0});
    buf_put_str(net_stream_out(pair_client.s), STR("GET /mqtt HT"));
    turn_until(pair_loop, pair_client.is_closed);
    ck_assert_uint_eq(net_listener_stats(pair_listener).failed_handshake_count, 1);
    ck_assert_uint_eq(net_listener_stats(pair_listener).connection_count, 0);
    pair_finish();
}
END_TEST

Suite *wrap_suite(void)
{
    Suite *s = suite_create("TLS, WebSocket, PROXY");
    TCase *t = tcase_create("wrap");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, tls_both_ways);
    tcase_add_test(t, tls_refuses);
    tcase_add_test(t, tls_reload_drops_nobody);
    tcase_add_test(t, tls_files_are_named);
    tcase_add_test(t, websocket_carries_bytes);
    tcase_add_test(t, websocket_over_tls);
    tcase_add_test(t, websocket_refuses);
    tcase_add_test(t, websocket_accept_key);
    tcase_add_test(t, websocket_frames);
    tcase_add_test(t, proxy_headers);
    tcase_add_test(t, proxy_gives_the_client);
    tcase_add_test(t, proxy_is_wanted);
    tcase_add_test(t, handshakes_have_a_deadline);
    suite_add_tcase(s, t);
    return s;
}
