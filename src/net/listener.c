/* Where clients come in.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. accept and all of `watch`, `token`, `pause` belong to the accept loop; counters are atomic.
 * 2. A connection counts in live[i] from accept until net_listener_gone, exactly once.
 * 3. refs is one for the owner, one for each stream and each connection on its way to its loop; the
 * memory goes with the last.
 *
 * Never: reads from a connection, keeps more than one turn's worth of accepting to itself. */
#include "net/listener.h"

#include <errno.h>
#include <grp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/listener_priv.h"
#include "net/stream_priv.h"

#define ACCEPT_COUNT_MAX 64                 /* a turn */
#define ACCEPT_PAUSE_USEC (100 * USEC_MSEC) /* when descriptors are short */
#define HANDSHAKE_USEC_MAX (10 * USEC_SEC)
#define BACKLOG 4096

struct net_listener {
    struct net_listener_conf conf;
    struct net_loop *accept_loop;
    struct net_loop **loop;
    _Atomic uint64_t *live; /* by position in loop[] */
    struct net_range *proxy_from;
    char *address, *ws_path, *ws_protocol;
    struct net_address bound;
    struct net_watch *watch;
    struct net_timer pause;
    uint64_t token; /* connections we may still take this second, in millionths */
    usec_t token_at;
    int fd;
    bool is_waiting, is_stopped, is_unix_ours;
    _Atomic unsigned rate;
    _Atomic uint64_t count_max;
    _Atomic uint64_t refs, connections;
    _Atomic uint64_t accepted, refused_full, refused_proxy, failed_handshake, accept_error;
};

struct arrival { /* a connection on its way to its loop */
    struct net_mail mail;
    struct net_listener *listener;
    struct net_address peer;
    int fd;
    uint32_t at; /* position in loop[] */
    bool is_proxied;
};

static void unref(struct net_listener *n)
{
    if (atomic_fetch_sub(&n->refs, 1) != 1)
        return;
    net_tls_unref(n->conf.tls);
    mem_free(n->loop);
    mem_free((void *)n->live);
    mem_free(n->proxy_from);
    mem_free(n->address);
    mem_free(n->ws_path);
    mem_free(n->ws_protocol);
    mem_free(n);
}

void net_listener_unref(struct net_listener *n)
{
    unref(n);
}

void net_listener_opened(struct net_stream *s)
{
    s->listener->conf.accepted(s->listener->conf.arg, s->loop, s);
}

void net_listener_gone(struct net_stream *s)
{
    struct net_listener *n = s->listener;
    if (s->is_gone)
        return;
    s->is_gone = true;
    if (s->stage == NET_STREAM_PROXY)
        atomic_fetch_add(&n->refused_proxy, 1);
    else if (s->stage < NET_STREAM_OPEN)
        atomic_fetch_add(&n->failed_handshake, 1);
    atomic_fetch_sub(&n->live[s->listener_at], 1);
    atomic_fetch_sub(&n->connections, 1);
}

/* On the connection's own loop. */
static void arrive(struct net_loop *here, const struct arrival *a)
{
    struct net_listener *n = a->listener;
    struct net_stream *s = net_stream_new(here, a->fd);
    s->is_accepted = true;
    s->peer = a->peer;
    s->listener = n; /* takes the arrival's ref */
    s->listener_at = a->at;
    s->limits = &n->conf.limits;
    list_push_back(&here->homeless, &s->flush);
    if (a->is_proxied || n->conf.tls || n->ws_path) {
        struct net_stream_extra *x = net_stream_extra(s);
        x->tls = n->conf.tls ? net_tls_ref(n->conf.tls) : NULL;
        x->ws_path = n->ws_path ? mem_dup(n->ws_path, strlen(n->ws_path)) : NULL;
        x->ws_protocol = n->ws_protocol ? mem_dup(n->ws_protocol, strlen(n->ws_protocol)) : NULL;
        usec_t max = n->conf.limits.handshake_usec_max;
        net_stream_arm(s, usec_add(here->now, max ? max : HANDSHAKE_USEC_MAX));
    }
    s->stage = NET_STREAM_PROXY;
    if (a->is_proxied)
        net_stream_interest(s);
    else
        net_stream_advance(s);
}

static void arrival_receive(struct net_loop *here, struct net_mail *mail)
{
    struct arrival *a = container_of(mail, struct arrival, mail);
    arrive(here, a);
    mem_free(a);
}

static size_t least_loaded(const struct net_listener *n)
{
    size_t best = 0;
    for (size_t i = 1; i < n->conf.loop_count; i++)
        if (atomic_load_explicit(&n->live[i], memory_order_relaxed) <
            atomic_load_explicit(&n->live[best], memory_order_relaxed))
            best = i;
    return best;
}

static bool is_proxied(const struct net_listener *n, const struct net_address *peer)
{
    for (size_t i = 0; i < n->conf.proxy_from_count; i++)
        if (net_range_has(&n->proxy_from[i], peer))
            return true;
    return false;
}

static void take(struct net_listener *n, int fd, const struct sockaddr_storage *ss)
{
    uint64_t max = atomic_load(&n->count_max);
    if (max && atomic_load(&n->connections) >= max) {
        atomic_fetch_add(&n->refused_full, 1);
        close(fd);
        return;
    }
    struct arrival *a = mem_new(sizeof *a);
    a->listener = n;
    a->fd = fd;
    if (ss->ss_family == AF_UNIX) {
        struct ucred c;
        socklen_t len = sizeof c;
        a->peer.sa.sa_family = AF_UNIX;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0)
            a->peer.pid = (uint32_t)c.pid;
    } else {
        memcpy(&a->peer.v6, ss, sizeof a->peer.v6);
    }
    a->is_proxied = is_proxied(n, &a->peer);
    a->at = (uint32_t)least_loaded(n);
    atomic_fetch_add(&n->refs, 1);
    atomic_fetch_add(&n->connections, 1);
    atomic_fetch_add(&n->live[a->at], 1);
    atomic_fetch_add(&n->accepted, 1);
    struct net_loop *to = n->loop[a->at];
    if (to == n->accept_loop) {
        arrive(to, a);
        mem_free(a);
    } else {
        net_loop_post(n->accept_loop, to, &a->mail, arrival_receive);
    }
}

static void pause_until(struct net_listener *n, usec_t at)
{
    n->watch = net_watch_free(n->watch);
    net_timer_set(n->accept_loop, &n->pause, at);
}

/* True when one more may come in now; else accepting pauses until it may. */
static bool token_take(struct net_listener *n)
{
    unsigned rate = atomic_load_explicit(&n->rate, memory_order_relaxed);
    if (rate == 0)
        return true;
    usec_t now = n->accept_loop->now;
    uint64_t full = (uint64_t)rate * USEC_SEC;
    n->token += usec_until(n->token_at, now) * rate;
    if (n->token > full)
        n->token = full;
    n->token_at = now;
    if (n->token < USEC_SEC) {
        pause_until(n, now + (USEC_SEC - n->token) / rate + 1);
        return false;
    }
    n->token -= USEC_SEC;
    return true;
}

static void on_acceptable(void *arg, unsigned events)
{
    (void)events;
    struct net_listener *n = arg;
    for (int i = 0; i < ACCEPT_COUNT_MAX; i++) {
        struct sockaddr_storage ss = {0};
        socklen_t len = sizeof ss;
        if (!token_take(n))
            return;
        int fd = accept4(n->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(n, fd, &ss);
            continue;
        }
        n->token += atomic_load(&n->rate) ? USEC_SEC : 0;
        if (errno == EAGAIN)
            return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            int r = errno;
            atomic_fetch_add(&n->accept_error, 1);
            log_line(n->conf.log, LOG_LEVEL_WARN, "listener.accept.failed",
                     "cannot accept on %s: %s; trying again", n->address, strerrordesc_np(r));
            pause_until(n, usec_add(n->accept_loop->now, ACCEPT_PAUSE_USEC));
            return;
        }
    }
}

static void on_pause_over(void *arg, usec_t now)
{
    (void)now;
    struct net_listener *n = arg;
    n->watch = net_watch_new(n->accept_loop, n->fd, NET_WATCH_READ, on_acceptable, n);
}

/* Making the socket. */

static int say(char out_error[NET_LISTENER_ERROR_MAX], int r, const char *where, const char *hint)
{
    snprintf(out_error, NET_LISTENER_ERROR_MAX, "cannot listen on %s: %s%s%s", where,
             strerrordesc_np(-r), hint[0] ? "; " : "", hint);
    return r;
}

static const char *hint_of(int r)
{
    if (r == -EADDRINUSE)
        return "another process already listens there";
    if (r == -EACCES)
        return "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit)";
    if (r == -EADDRNOTAVAIL)
        return "this machine does not have that address";
    return "";
}

static int tcp_address(struct str text, struct net_address *out, char *out_error)
{
    struct str host;
    uint16_t port;
    if (net_address_split(text, &host, &port) == 0 && (host.n == 0 || str_eq(host, STR("*")))) {
        memset(out, 0, sizeof *out);
        out->v6.sin6_family = AF_INET6;
        net_address_set_port(out, port);
        return 0;
    }
    if (net_address_parse(text, out) == 0)
        return 0;
    snprintf(out_error, NET_LISTENER_ERROR_MAX,
             "cannot listen on \"%.*s\": write ADDRESS:PORT, for example 127.0.0.1:1883, "
             "[::1]:1883 or *:1883",
             STR_ARG(text));
    return -EINVAL;
}

static int tcp_bind(struct net_address *a)
{
    int one = 1, off = 0;
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr)) {
        uint16_t port = net_address_port(a); /* no IPv6 on this machine: all of IPv4 */
        memset(a, 0, sizeof *a);
        a->v4.sin_family = AF_INET;
        net_address_set_port(a, port);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->sa.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    socklen_t len = a->sa.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
    if (bind(fd, &a->sa, len) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* A socket file nobody listens on is a leftover of a process that died. */
static bool unix_is_stale(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool is_stale =
        connect(fd, (const struct sockaddr *)un, sizeof *un) < 0 && errno == ECONNREFUSED;
    close(fd);
    return is_stale;
}

int net_listener_unix_bind(const char *path, unsigned mode, const char *group)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un.sun_path)
        return -ENAMETOOLONG;
    str_copy(un.sun_path, sizeof un.sun_path, str_of(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && unix_is_stale(&un))
        (void)unlink(path);
    int r = bind(fd, (struct sockaddr *)&un, sizeof un) < 0 ? -errno : 0;
    if (r == 0 && group) {
        struct group *g = getgrnam(group);
        if (!g || chown(path, (uid_t)-1, g->gr_gid) < 0)
            r = g ? -errno : -ESRCH;
    }
    if (r == 0 && chmod(path, mode ? mode : 0660) < 0)
        r = -errno;
    if (r) {
        close(fd);
        return r;
    }
    return fd;
}

static int socket_open(struct net_listener *n, const struct net_listener_conf *conf,
                       char *out_error)
{
    int fd = conf->fd, r = 0;
    struct net_address a = {0};
    switch (conf->kind) {
    case NET_LISTENER_TCP:
        r = tcp_address(str_of(conf->address), &a, out_error);
        if (r)
            return r;
        fd = tcp_bind(&a);
        break;
    case NET_LISTENER_UNIX:
        fd = net_listener_unix_bind(conf->address, conf->unix_mode, conf->unix_group);
        n->is_unix_ours = fd >= 0;
        break;
    case NET_LISTENER_FD:
        if (evutil_make_socket_nonblocking(fd) < 0)
            r = -errno;
        break;
    }
    if (fd < 0)
        r = fd;
    if (r == 0 && listen(fd, conf->backlog ? conf->backlog : BACKLOG) < 0)
        r = -errno;
    if (r) {
        if (fd >= 0)
            close(fd);
        return say(out_error, r, conf->address ? conf->address : "the socket handed over",
                   hint_of(r));
    }
    int one = 1; /* accepted sockets inherit both */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    must(getsockname(fd, (struct sockaddr *)&ss, &len) == 0);
    if (ss.ss_family == AF_UNIX)
        n->bound.sa.sa_family = AF_UNIX;
    else
        memcpy(&n->bound.v6, &ss, sizeof n->bound.v6);
    n->fd = fd;
    return 0;
}

static char *text_dup(const char *z)
{
    return z ? mem_dup(z, strlen(z)) : NULL;
}

int net_listener_new(struct net_loop *accept_loop, const struct net_listener_conf *conf,
                     char out_error[NET_LISTENER_ERROR_MAX], struct net_listener **out_listener)
{
    must(conf->loop_count >= 1);
    struct net_listener *n = mem_new(sizeof *n);
    int r = socket_open(n, conf, out_error);
    if (r) {
        mem_free(n);
        return err_trace(r);
    }
    char bound[NET_ADDRESS_TEXT];
    (void)net_address_format(&n->bound, bound);
    n->conf = *conf;
    n->accept_loop = accept_loop;
    n->address = text_dup(conf->address ? conf->address : bound);
    n->ws_path = text_dup(conf->ws_path);
    n->ws_protocol = text_dup(conf->ws_protocol);
    n->conf.tls = conf->tls ? net_tls_ref(conf->tls) : NULL;
    n->loop = mem_dup(conf->loop, conf->loop_count * sizeof *n->loop);
    n->live = mem_new(conf->loop_count * sizeof *n->live);
    n->proxy_from = mem_dup(conf->proxy_from, conf->proxy_from_count * sizeof *n->proxy_from);
    atomic_store(&n->rate, conf->connect_per_sec_max);
    atomic_store(&n->count_max, conf->connection_count_max);
    atomic_store(&n->refs, 1);
    n->token = (uint64_t)conf->connect_per_sec_max * USEC_SEC;
    n->token_at = accept_loop->now;
    net_timer_init(&n->pause, on_pause_over, n);
    n->is_waiting = conf->is_waiting;
    if (!n->is_waiting)
        n->watch = net_watch_new(accept_loop, n->fd, NET_WATCH_READ, on_acceptable, n);
    *out_listener = n;
    return 0;
}

void net_listener_begin(struct net_listener *n)
{
    if (!n->is_waiting || n->is_stopped)
        return;
    n->is_waiting = false;
    n->watch = net_watch_new(n->accept_loop, n->fd, NET_WATCH_READ, on_acceptable, n);
}

void net_listener_stop(struct net_listener *n)
{
    if (n->is_stopped)
        return;
    n->is_stopped = true;
    n->watch = net_watch_free(n->watch);
    net_timer_del(n->accept_loop, &n->pause);
    if (n->is_unix_ours)
        (void)unlink(n->address);
    close(n->fd);
}

struct net_listener *net_listener_free(struct net_listener *n)
{
    if (n) {
        net_listener_stop(n);
        unref(n);
    }
    return NULL;
}

const struct net_address *net_listener_address(const struct net_listener *n)
{
    return &n->bound;
}

void net_listener_set_rate(struct net_listener *n, unsigned connect_per_sec_max)
{
    atomic_store(&n->rate, connect_per_sec_max);
}

void net_listener_set_count(struct net_listener *n, size_t connection_count_max)
{
    atomic_store(&n->count_max, connection_count_max);
}

struct net_listener_stats net_listener_stats(struct net_listener *n)
{
    return (struct net_listener_stats){
        .accepted_count = atomic_load(&n->accepted),
        .refused_full_count = atomic_load(&n->refused_full),
        .refused_proxy_count = atomic_load(&n->refused_proxy),
        .failed_handshake_count = atomic_load(&n->failed_handshake),
        .accept_error_count = atomic_load(&n->accept_error),
        .connection_count = atomic_load(&n->connections),
    };
}
