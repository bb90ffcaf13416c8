/* The HTTP server, on libevent's.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A request is in http->live from its arrival until its answer is given; freeing the server
 * answers what is left with 503.
 * 2. A connection is in exactly one of fresh, waiting, busy and leaving; connection_count counts
 * all of them, from libevent's accepting to its closing.
 * 3. waiting and leaving are in the order in which their connections came there; one timer ends the
 * first of them when its time is up.
 * 4. What libevent answers by itself leaves as one sentence, and is told of.
 *
 * Never: parses HTTP itself; blocks. */
#include "net/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/listener_priv.h"
#include "net/loop_priv.h"
#include "net/tls_priv.h"

#define BODY_BYTES_MAX ((size_t)1024 * 1024)
#define HEAD_BYTES_MAX 16384
#define IDLE_USEC_MAX (30 * USEC_SEC)
#define LEAVE_USEC_MAX (60 * USEC_SEC)
#define CONNECTION_COUNT_MAX 256
#define BACKLOG 128

struct net_http {
    struct net_loop *loop;
    struct net_http_conf conf;
    struct evhttp *server;
    struct evhttp_bound_socket *bound;
    struct net_address address;
    struct list live;
    struct list fresh;   /* libevent is still making its own part */
    struct list waiting; /* for a request that is complete */
    struct list busy;    /* the request is being answered */
    struct list leaving; /* the answer is being taken */
    struct net_defer adopt;
    struct net_defer reword;
    struct net_timer timer;
    size_t connection_count;
    uint64_t closed_full, closed_slow;
    char *unix_path;
};

struct conn {
    struct list link;
    struct net_http *http;
    struct bufferevent *bev;
    struct evhttp_connection *ev; /* NULL while fresh */
    struct net_http_request *q;   /* while busy */
    const struct list *in;        /* the list it is in */
    usec_t since;                 /* in that list */
    bool has_begun;               /* waiting: a part of a request has come */
    bool is_answered;             /* waiting: libevent has written something by itself */
};

struct net_http_request {
    struct list link;
    struct net_http *http;
    struct conn *conn;
    struct evhttp_request *ev;
    struct evkeyvalq query;
    char *path;
    bool has_query;
};

static void request_free(struct net_http_request *q)
{
    list_del(&q->link);
    if (q->has_query)
        evhttp_clear_headers(&q->query);
    mem_free(q->path);
    mem_free(q);
}

/* ---- connections ---- */

static struct conn *first(const struct list *of)
{
    return list_empty(of) ? NULL : container_of(of->next, struct conn, link);
}

static void arm(struct net_http *h)
{
    const struct conn *w = first(&h->waiting), *o = first(&h->leaving);
    usec_t at = w ? w->since + h->conf.idle_usec_max : USEC_NEVER;
    if (o && o->since + h->conf.leave_usec_max < at)
        at = o->since + h->conf.leave_usec_max;
    net_timer_set(h->loop, &h->timer, at);
}

static void move(struct conn *c, struct list *to)
{
    list_del(&c->link);
    list_push_back(to, &c->link);
    c->in = to;
    c->has_begun = evbuffer_get_length(bufferevent_get_input(c->bev)) > 0;
    c->is_answered = false;
    c->since = net_loop_now(c->http->loop);
    arm(c->http);
}

/* Whoever waits for a request has no answer to send, so what is written then is an error page of
 * libevent.  It leaves in the next turn at the earliest. */
static void on_output(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    (void)b;
    if (info->n_added == 0 || c->in != &c->http->waiting || c->is_answered)
        return;
    net_loop_open(c->http->loop);
    c->is_answered = true;
    net_loop_defer(c->http->loop, &c->http->reword);
}

static void on_input(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    (void)b;
    c->has_begun |= info->n_added > 0;
}

/* libevent closes it, for whatever reason: an answer that is still to come will go nowhere. */
static void on_closed(struct evhttp_connection *ev, void *arg)
{
    struct conn *c = arg;
    struct net_http *h = c->http;
    (void)ev;
    if (c->q) {
        c->q->ev = NULL;
        c->q->conn = NULL;
    }
    (void)evbuffer_remove_cb(bufferevent_get_input(c->bev), on_input, c);
    (void)evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
    list_del(&c->link);
    h->connection_count--;
    arm(h);
    mem_free(c);
}

/* ---- requests that never become one ---- */

static void address_of(evutil_socket_t fd, struct net_address *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    memset(out, 0, sizeof *out);
    if (fd < 0 || getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
        return;
    if (ss.ss_family == AF_UNIX)
        out->sa.sa_family = AF_UNIX;
    else
        memcpy(&out->v6, &ss, sizeof out->v6);
}

static bool cred_of(evutil_socket_t fd, struct ucred *out)
{
    socklen_t len = sizeof *out;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &len) == 0;
}

static void tell(const struct conn *c, int status, struct str what)
{
    const struct net_http_conf *conf = &c->http->conf;
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    struct net_address a;
    struct ucred u;
    char who[NET_ADDRESS_TEXT] = "?";
    if (!conf->refused)
        return;
    address_of(fd, &a);
    if (a.sa.sa_family == AF_UNIX && cred_of(fd, &u))
        snprintf(who, sizeof who, "uid %u", u.uid);
    else if (a.sa.sa_family != AF_UNSPEC)
        (void)net_address_format_host(&a, who);
    conf->refused(conf->arg, &(struct net_http_refusal){status, what, who});
}

/* An answer and the end of the connection. */
static void last_words(struct buf *b, int status, const char *phrase, struct str what)
{
    buf_printf(b,
               "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nConnection: close\r\n"
               "Content-Length: %zu\r\n\r\n%.*s",
               status, phrase, what.n, STR_ARG(what));
}

/* A request whose time is up: libevent would only close. */
static void refuse_slow(const struct conn *c)
{
    SSL *ssl = c->http->conf.tls ? bufferevent_openssl_get_ssl(c->bev) : NULL;
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    struct buf b = {0}, what = {0};
    buf_printf(&what, "the request did not arrive whole within %llu s",
               (unsigned long long)(c->http->conf.idle_usec_max / USEC_SEC));
    last_words(&b, 408, "Request Timeout", buf_str(&what));
    if (ssl && SSL_is_init_finished(ssl))
        (void)SSL_write(ssl, b.p, (int)b.n); /* it takes it or not: nobody waits */
    else if (!ssl && fd >= 0)
        (void)send(fd, b.p, b.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    tell(c, 408, buf_str(&what));
    buf_deinit(&b);
    buf_deinit(&what);
}

/* The page that libevent has put into the output by itself becomes one sentence. */
static void reword(struct conn *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    struct buf b = {0}, what = {0};
    char head[16] = "";
    unsigned status = 0;
    (void)evbuffer_copyout(out, head, sizeof head - 1);
    c->is_answered = false;
    if (sscanf(head, "HTTP/1.%*1u %3u", &status) != 1 || status < 400)
        return; /* 100: it may go on */
    const char *phrase = "Bad Request";
    if (status == 413) {
        phrase = "Request Entity Too Large";
        buf_printf(&what, "the body is larger than %zu bytes", c->http->conf.body_bytes_max);
    } else if (status == 501) {
        status = 400;
        buf_printf(&what, "no such path and method");
    } else {
        status = 400;
        buf_printf(&what, "this is not a request of HTTP/1.1");
    }
    last_words(&b, (int)status, phrase, buf_str(&what));
    (void)evbuffer_unfreeze(out, 1); /* that of a socket lets nobody but itself take from it */
    must(evbuffer_drain(out, evbuffer_get_length(out)) == 0);
    must(evbuffer_add(out, b.p, b.n) == 0);
    if (!c->http->conf.tls)
        (void)evbuffer_freeze(out, 1);
    tell(c, (int)status, buf_str(&what));
    buf_deinit(&b);
    buf_deinit(&what);
}

static void on_reword(void *arg)
{
    struct net_http *h = arg;
    for (struct list *x = h->waiting.next; x != &h->waiting; x = x->next) {
        struct conn *c = container_of(x, struct conn, link);
        if (c->is_answered)
            reword(c);
    }
}

static void on_timer(void *arg, usec_t now)
{
    struct net_http *h = arg;
    for (struct conn *c; (c = first(&h->waiting)) && c->since + h->conf.idle_usec_max <= now;) {
        h->closed_slow++;
        if (c->has_begun)
            refuse_slow(c);
        evhttp_connection_free(c->ev);
    }
    for (struct conn *c; (c = first(&h->leaving)) && c->since + h->conf.leave_usec_max <= now;) {
        h->closed_slow++;
        evhttp_connection_free(c->ev);
    }
    arm(h);
}

/* ---- those who come ---- */

/* What libevent has made of the connections of this turn.  One too many: the one that has been
 * waiting longest for its request goes, so that connections which ask for nothing cannot keep out
 * those who do. */
static void on_adopt(void *arg)
{
    struct net_http *h = arg;
    for (struct conn *c; (c = first(&h->fresh)) != NULL;) {
        void *ev = NULL;
        bufferevent_getcb(c->bev, NULL, NULL, NULL, &ev);
        must(ev != NULL);
        c->ev = ev;
        evhttp_connection_set_closecb(c->ev, on_closed, c);
        must(evbuffer_add_cb(bufferevent_get_input(c->bev), on_input, c) != NULL);
        must(evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c) != NULL);
        move(c, &h->waiting);
        if (h->connection_count > h->conf.connection_count_max) {
            h->closed_full++;
            evhttp_connection_free(first(&h->waiting)->ev);
        }
    }
}

static struct bufferevent *tls_bev(struct event_base *base, const struct net_http *h)
{
    SSL *ssl = net_tls_ssl_new(h->conf.tls);
    /* libevent waits for the socket: what OpenSSL has read ahead together with the end of the
     * handshake would never be looked at. */
    if (ssl)
        SSL_set_read_ahead(ssl, 0);
    struct bufferevent *b = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                           BEV_OPT_CLOSE_ON_FREE);
    if (b)
        bufferevent_openssl_set_allow_dirty_shutdown(b, 1);
    return b;
}

/* libevent has accepted a connection and makes its own part of it next: that is looked for later in
 * this turn, before anything else can happen to it. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct net_http *h = arg;
    net_loop_open(h->loop);
    struct bufferevent *b =
        h->conf.tls ? tls_bev(base, h) : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    must(b != NULL);
    struct conn *c = mem_new(sizeof *c);
    *c = (struct conn){.http = h, .bev = b};
    list_push_back(&h->fresh, &c->link);
    h->connection_count++;
    net_loop_defer(h->loop, &h->adopt);
    return b;
}

static struct conn *conn_of(struct net_http *h, const struct evhttp_connection *ev)
{
    for (struct list *x = h->waiting.next; x != &h->waiting; x = x->next) {
        struct conn *c = container_of(x, struct conn, link);
        if (c->ev == ev)
            return c;
    }
    return NULL;
}

/* ---- requests ---- */

static void on_request(struct evhttp_request *ev, void *arg)
{
    struct net_http *h = arg;
    net_loop_open(h->loop);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(ev);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL,
               *query = uri ? evhttp_uri_get_query(uri) : NULL;
    char *decoded = evhttp_uridecode(path && path[0] ? path : "/", 0, NULL);
    if (!decoded) {
        evhttp_send_error(ev, 400, "Bad Request");
        return;
    }
    struct net_http_request *q = mem_new(sizeof *q);
    q->http = h;
    q->ev = ev;
    q->path = mem_dup(decoded, strlen(decoded));
    free(decoded);
    q->has_query = query && evhttp_parse_query_str(query, &q->query) == 0;
    list_push_back(&h->live, &q->link);
    q->conn = conn_of(h, evhttp_request_get_connection(ev));
    must(q->conn != NULL);
    q->conn->q = q;
    move(q->conn, &h->busy);
    h->conf.request(h->conf.arg, q);
}

/* The answer is with the kernel: the next request may come. */
static void on_taken(struct evhttp_request *ev, void *arg)
{
    struct conn *c = arg;
    (void)ev;
    net_loop_open(c->http->loop);
    move(c, &c->http->waiting);
}

static int say(char *out_error, int r, const char *where)
{
    snprintf(out_error, 256, "cannot listen on %s: %s%s", where, strerrordesc_np(-r),
             r == -EADDRINUSE ? "; another process already listens there" : "");
    return r;
}

static int socket_new(struct net_http *h, char out_error[256])
{
    if (h->conf.unix_path) {
        int fd = net_listener_unix_bind(h->conf.unix_path, h->conf.unix_mode, h->conf.unix_group);
        return fd < 0 ? say(out_error, fd, h->conf.unix_path) : fd;
    }
    struct net_address a;
    if (net_address_parse(str_of(h->conf.address), &a)) {
        snprintf(out_error, 256, "\"%s\" is not ADDRESS:PORT", h->conf.address);
        return -EINVAL;
    }
    int one = 1, fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return say(out_error, -errno, h->conf.address);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socklen_t len = a.sa.sa_family == AF_INET ? sizeof a.v4 : sizeof a.v6;
    if (bind(fd, &a.sa, len) < 0) {
        int r = -errno;
        close(fd);
        return say(out_error, r, h->conf.address);
    }
    return fd;
}

static void settings(struct net_http *h)
{
    usec_t idle = 2 * h->conf.idle_usec_max; /* our timer is first: it says why */
    struct timeval tv = {.tv_sec = (time_t)(idle / USEC_SEC),
                         .tv_usec = (suseconds_t)(idle % USEC_SEC)};
    evhttp_set_timeout_tv(h->server, &tv);
    evhttp_set_max_headers_size(h->server, HEAD_BYTES_MAX);
    evhttp_set_max_body_size(h->server, (ssize_t)h->conf.body_bytes_max);
    evhttp_set_allowed_methods(h->server, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                              EVHTTP_REQ_DELETE | EVHTTP_REQ_HEAD |
                                              EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
    evhttp_set_default_content_type(h->server, NULL);
    evhttp_set_gencb(h->server, on_request, h);
    evhttp_set_bevcb(h->server, on_accept, h);
}

static void defaults(struct net_http_conf *c)
{
    if (c->body_bytes_max == 0)
        c->body_bytes_max = BODY_BYTES_MAX;
    if (c->idle_usec_max == 0)
        c->idle_usec_max = IDLE_USEC_MAX;
    if (c->leave_usec_max == 0)
        c->leave_usec_max = LEAVE_USEC_MAX;
    if (c->connection_count_max == 0)
        c->connection_count_max = CONNECTION_COUNT_MAX;
}

int net_http_new(struct net_loop *l, const struct net_http_conf *conf, char out_error[256],
                 struct net_http **out_http)
{
    struct net_http *h = mem_new(sizeof *h);
    h->loop = l;
    h->conf = *conf;
    defaults(&h->conf);
    list_init(&h->live);
    list_init(&h->fresh);
    list_init(&h->waiting);
    list_init(&h->busy);
    list_init(&h->leaving);
    net_defer_init(&h->adopt, on_adopt, h);
    net_defer_init(&h->reword, on_reword, h);
    net_timer_init(&h->timer, on_timer, h);
    int fd = socket_new(h, out_error);
    if (fd < 0) {
        mem_free(h);
        return err_trace(fd);
    }
    h->server = evhttp_new(l->base);
    must(h->server != NULL);
    settings(h);
    h->bound = listen(fd, BACKLOG) == 0 ? evhttp_accept_socket_with_handle(h->server, fd) : NULL;
    if (!h->bound) {
        int r = errno ? -errno : -ENOMEM;
        close(fd);
        evhttp_free(h->server);
        mem_free(h);
        return say(out_error, r, conf->unix_path ? conf->unix_path : conf->address);
    }
    h->conf.tls = conf->tls ? net_tls_ref(conf->tls) : NULL;
    if (conf->unix_path) {
        h->unix_path = mem_dup(conf->unix_path, strlen(conf->unix_path));
        h->address.sa.sa_family = AF_UNIX;
    } else {
        socklen_t len = sizeof h->address.v6;
        must(getsockname(fd, &h->address.sa, &len) == 0);
    }
    *out_http = h;
    return 0;
}

struct net_http *net_http_free(struct net_http *h)
{
    if (!h)
        return NULL;
    for (struct list *x; (x = list_pop_front(&h->live)) != NULL;) {
        struct net_http_request *q = container_of(x, struct net_http_request, link);
        net_http_reply(q, 503, "text/plain", STR("stopping\n"));
    }
    on_adopt(h); /* so that each is told of its end */
    evhttp_free(h->server);
    must(h->connection_count == 0);
    net_defer_del(&h->adopt);
    net_defer_del(&h->reword);
    net_timer_del(h->loop, &h->timer);
    net_tls_unref(h->conf.tls);
    if (h->unix_path)
        (void)unlink(h->unix_path);
    mem_free(h->unix_path);
    return mem_free(h);
}

struct net_http_stat net_http_stat(const struct net_http *h)
{
    return (struct net_http_stat){.connection_count = h->connection_count,
                                  .closed_full = h->closed_full,
                                  .closed_slow = h->closed_slow};
}

const struct net_address *net_http_address(const struct net_http *h)
{
    return &h->address;
}

struct str net_http_method(const struct net_http_request *q)
{
    switch (q->ev ? evhttp_request_get_command(q->ev) : EVHTTP_REQ_GET) {
    case EVHTTP_REQ_POST:
        return STR("POST");
    case EVHTTP_REQ_PUT:
        return STR("PUT");
    case EVHTTP_REQ_DELETE:
        return STR("DELETE");
    case EVHTTP_REQ_HEAD:
        return STR("HEAD");
    case EVHTTP_REQ_OPTIONS:
        return STR("OPTIONS");
    case EVHTTP_REQ_TRACE:
        return STR("TRACE");
    case EVHTTP_REQ_CONNECT:
        return STR("CONNECT");
    case EVHTTP_REQ_PATCH:
        return STR("PATCH");
    case EVHTTP_REQ_GET:
        break;
    }
    return STR("GET");
}

struct str net_http_path(const struct net_http_request *q)
{
    return str_of(q->path);
}

struct str net_http_header(const struct net_http_request *q, const char *name)
{
    return str_of(q->ev ? evhttp_find_header(evhttp_request_get_input_headers(q->ev), name) : NULL);
}

bool net_http_header_at(const struct net_http_request *q, size_t i, struct str *out_name,
                        struct str *out_value)
{
    const struct evkeyval *kv = q->ev ? evhttp_request_get_input_headers(q->ev)->tqh_first : NULL;
    for (; kv && i > 0; i--)
        kv = kv->next.tqe_next;
    if (!kv)
        return false;
    *out_name = str_of(kv->key);
    *out_value = str_of(kv->value);
    return true;
}

struct str net_http_query(const struct net_http_request *q, const char *key)
{
    return str_of(q->has_query ? evhttp_find_header(&q->query, key) : NULL);
}

struct str net_http_body(struct net_http_request *q)
{
    struct evbuffer *b = q->ev ? evhttp_request_get_input_buffer(q->ev) : NULL;
    size_t n = b ? evbuffer_get_length(b) : 0;
    return n ? str_view(evbuffer_pullup(b, -1), n) : STR("");
}

static evutil_socket_t fd_of(const struct net_http_request *q)
{
    struct evhttp_connection *c = q->ev ? evhttp_request_get_connection(q->ev) : NULL;
    return c ? bufferevent_getfd(evhttp_connection_get_bufferevent(c)) : -1;
}

bool net_http_peer(const struct net_http_request *q, struct net_address *out)
{
    address_of(fd_of(q), out);
    return out->sa.sa_family != AF_UNSPEC;
}

bool net_http_peer_cred(const struct net_http_request *q, uint32_t *out_uid, uint32_t *out_gid)
{
    struct ucred c;
    if (q->http->address.sa.sa_family != AF_UNIX || !cred_of(fd_of(q), &c))
        return false;
    *out_uid = c.uid;
    *out_gid = c.gid;
    return true;
}

void net_http_reply_header(struct net_http_request *q, const char *name, struct str value)
{
    char z[512];
    if (!q->ev)
        return;
    str_copy(z, sizeof z, value);
    (void)evhttp_add_header(evhttp_request_get_output_headers(q->ev), name,
                            z); /* refuses line breaks */
}

void net_http_reply(struct net_http_request *q, int status, const char *content_type,
                    struct str body)
{
    struct evhttp_request *ev = q->ev;
    if (ev) {
        struct evbuffer *b = evbuffer_new();
        must(b != NULL);
        q->conn->q = NULL;
        move(q->conn, &q->http->leaving);
        evhttp_request_set_on_complete_cb(ev, on_taken, q->conn);
        if (content_type)
            (void)evhttp_add_header(evhttp_request_get_output_headers(ev), "Content-Type",
                                    content_type);
        must(evbuffer_add(b, body.p, body.n) == 0);
        evhttp_send_reply(ev, status, NULL, b);
        evbuffer_free(b);
    }
    request_free(q);
}
