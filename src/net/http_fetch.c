/* The blocking HTTP client of tools: one request, one answer, one connection.
 * SPDX-License-Identifier: Apache-2.0
 *
 * It asks with "Connection: close" as HTTP/1.0 does, so the answer has no chunks: it is what comes
 * until Content-Length or the end.
 *
 * Never: follows redirects, keeps a connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/clock.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/tls_priv.h"

#define TIMEOUT_USEC (10 * USEC_SEC)
#define ANSWER_BYTES_MAX ((size_t)64 << 20)

struct fetch {
    int fd;
    struct net_tls_link *tls;
    usec_t deadline;
};

static int wait_for(struct fetch *f, short events)
{
    usec_t left = usec_until(net_clock_now(), f->deadline);
    struct pollfd p = {.fd = f->fd, .events = events};
    int r;
    do
        r = poll(&p, 1, (int)(left / USEC_MSEC));
    while (r < 0 && errno == EINTR);
    return r > 0 ? 0 : r == 0 ? -ETIMEDOUT : -errno;
}

static int connect_to(struct fetch *f, const struct sockaddr *a, socklen_t len)
{
    f->fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->fd < 0)
        return -errno;
    if (connect(f->fd, a, len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    int r = wait_for(f, POLLOUT), err = 0;
    socklen_t n = sizeof err;
    if (r == 0 && getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0)
        r = -err;
    return r;
}

static int connect_unix(struct fetch *f, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un.sun_path)
        return -ENAMETOOLONG;
    str_copy(un.sun_path, sizeof un.sun_path, str_of(path));
    return connect_to(f, (struct sockaddr *)&un, sizeof un);
}

static int connect_name(struct fetch *f, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    if (getaddrinfo(host, port, &hints, &list))
        return -ENOENT;
    int r = -ENOENT;
    for (struct addrinfo *a = list; a && r; a = a->ai_next) {
        if (f->fd >= 0)
            close(f->fd);
        r = connect_to(f, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(list);
    return r;
}

/* Repeats what OpenSSL or the kernel could not do at once. */
static ssize_t move(struct fetch *f, void *in, const void *out, size_t n)
{
    for (;;) {
        ssize_t r;
        if (f->tls)
            r = in ? net_tls_link_read(f->tls, in, n) : net_tls_link_write(f->tls, out, n);
        else
            r = in ? recv(f->fd, in, n, 0) : send(f->fd, out, n, MSG_NOSIGNAL);
        if (r < 0 && !f->tls)
            r = -errno;
        if (r != -EAGAIN)
            return r;
        int w = wait_for(f, in ? POLLIN : POLLOUT);
        if (w)
            return w;
    }
}

static int tls_begin(struct fetch *f, struct net_tls *tls, const char *host)
{
    unsigned events = 0;
    int r;
    f->tls = net_tls_link_new(tls, f->fd, host);
    while ((r = net_tls_link_handshake(f->tls, &events)) == -EAGAIN) {
        r = wait_for(f, events == NET_WATCH_WRITE ? POLLOUT : POLLIN);
        if (r)
            return r;
    }
    return r && net_tls_link_is_distrusted(f->tls) ? -EKEYREJECTED : r;
}

static int open_target(struct fetch *f, const struct net_http_ask *ask, char host[256])
{
    struct str t = str_of(ask->target), name;
    bool is_tls = str_has_prefix(t, STR("https://"));
    str_copy(host, 256, STR("localhost"));
    if (str_has_prefix(t, STR("unix:")))
        return connect_unix(f, ask->target + 5);
    size_t skip = is_tls ? 8 : str_has_prefix(t, STR("http://")) ? 7 : 0;
    uint16_t port;
    char service[8];
    if (!skip || net_address_split(str_view(t.p + skip, t.n - skip), &name, &port))
        return -EINVAL;
    str_copy(host, 256, name);
    snprintf(service, sizeof service, "%u", port);
    int r = connect_name(f, host, service);
    if (r == 0 && is_tls)
        r = ask->tls ? tls_begin(f, ask->tls, host) : -EINVAL;
    return r;
}

static int send_request(struct fetch *f, const struct net_http_ask *ask, const char *host)
{
    struct buf b = {0};
    buf_printf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
               ask->method, ask->path, host, ask->body.n);
    for (size_t i = 0; i < ask->header_count; i++)
        buf_printf(&b, "%.*s\r\n", STR_ARG(ask->header[i]));
    buf_put_str(&b, STR("\r\n"));
    buf_put_str(&b, ask->body);
    ssize_t r = 1;
    for (size_t at = 0; at < b.n && r > 0;) {
        r = move(f, NULL, b.p + at, b.n - at);
        at += r > 0 ? (size_t)r : 0;
    }
    buf_deinit(&b);
    return r > 0 ? 0 : (int)r;
}

/* A server that does not want a body may say why and close before it has taken it. */
#define REFUSAL_BYTES_MAX ((size_t)64 * 1024)

/* All until the end. */
static int read_answer(struct fetch *f, size_t max, struct buf *all)
{
    for (;;) {
        uint8_t *at = buf_reserve(all, 16384);
        ssize_t r = move(f, at, NULL, 16384);
        if (r == 0)
            return 0;
        if (r < 0)
            return all->n ? 0 : (int)r;
        all->n += (size_t)r;
        if (all->n > max)
            return -EMSGSIZE;
    }
}

static int parse(struct buf *all, int *out_status)
{
    const char *end = memmem(all->p, all->n, "\r\n\r\n", 4);
    int status = 0;
    char first[64];
    str_copy(first, sizeof first, buf_str(all));
    if (!end || sscanf(first, "HTTP/1.%*1d %3d", &status) != 1)
        return -EPROTO;
    struct str head = str_view(all->p, (size_t)(end - (char *)all->p)), line;
    uint64_t len = UINT64_MAX;
    while (str_next(&head, '\n', &line))
        if (line.n > 16 && strncasecmp(line.p, "content-length:", 15) == 0) {
            struct str v = str_view(line.p + 15, line.n - 15);
            while (v.n && (*v.p == ' ' || v.p[v.n - 1] == '\r')) {
                if (*v.p == ' ')
                    v.p++;
                v.n--;
            }
            (void)str_to_u64(v, &len);
        }
    buf_drop(all, (size_t)(end - (char *)all->p) + 4);
    if (len != UINT64_MAX && all->n < len)
        return -EPROTO; /* cut short */
    *out_status = status;
    return 0;
}

int net_http_fetch(const struct net_http_ask *ask, int *out_status, struct buf *out_body)
{
    struct fetch f = {.fd = -1};
    char host[256];
    f.deadline = usec_add(net_clock_now(), ask->timeout_usec ? ask->timeout_usec : TIMEOUT_USEC);
    int r = open_target(&f, ask, host);
    if (r == 0)
        r = send_request(&f, ask, host);
    if (r == -EPIPE || r == -ECONNRESET)
        r = read_answer(&f, REFUSAL_BYTES_MAX, out_body) == 0 && out_body->n ? 0 : r;
    else if (r == 0)
        r = read_answer(&f, ask->answer_bytes_max ? ask->answer_bytes_max : ANSWER_BYTES_MAX,
                        out_body);
    if (r == 0)
        r = parse(out_body, out_status);
    net_tls_link_free(f.tls);
    if (f.fd >= 0)
        close(f.fd);
    return err_trace(r);
}
