/* Streams of our own making.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: asks for names (net/resolve.h), calls back before it has returned. */
#include "net/stream_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define CONNECT_USEC_MAX (10 * USEC_SEC)

static char *text_dup(const char *z)
{
    return z ? mem_dup(z, strlen(z)) : NULL;
}

/* The stages that conf asks for; s starts in `stage` and goes on by events alone. */
static struct net_stream *begin(struct net_loop *l, int fd, const struct net_stream_conf *conf,
                                enum net_stream_stage stage)
{
    struct net_stream *s = net_stream_new(l, fd);
    s->ops = conf->ops;
    s->arg = conf->arg;
    s->limits = conf->limits;
    s->stage = (uint8_t)stage;
    struct net_stream_extra *x = net_stream_extra(s);
    x->tls = conf->tls ? net_tls_ref(conf->tls) : NULL;
    x->tls_name = text_dup(conf->tls_name);
    x->ws_path = text_dup(conf->ws_path);
    x->ws_protocol = text_dup(conf->ws_protocol);
    usec_t max = conf->connect_usec_max ? conf->connect_usec_max : CONNECT_USEC_MAX;
    net_stream_arm(s, usec_add(l->now, max));
    net_stream_interest(s);
    return s;
}

static int socket_new(int family, const struct net_stream_conf *conf)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int one = 1;
    if (family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (conf->bind) {
        socklen_t len =
            family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        /* the port is chosen at connect, so that one address gives 64,000 connections per target */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, &conf->bind->sa, len) < 0) {
            int r = -errno;
            close(fd);
            return r;
        }
    }
    return fd;
}

static int connect_to(struct net_loop *l, int fd, const struct sockaddr *to, socklen_t len,
                      const struct net_stream_conf *conf, struct net_stream **out_stream)
{
    if (connect(fd, to, len) < 0 && errno != EINPROGRESS) {
        int r = -errno;
        close(fd);
        return err_trace(r);
    }
    *out_stream = begin(l, fd, conf, NET_STREAM_CONNECT);
    return 0;
}

int net_stream_connect(struct net_loop *l, const struct net_address *to,
                       const struct net_stream_conf *conf, struct net_stream **out_stream)
{
    int fd = socket_new(to->sa.sa_family, conf);
    if (fd < 0)
        return err_trace(fd);
    socklen_t len = to->sa.sa_family == AF_INET ? sizeof to->v4 : sizeof to->v6;
    int r = connect_to(l, fd, &to->sa, len, conf, out_stream);
    if (r == 0)
        (*out_stream)->peer = *to;
    return r;
}

int net_stream_connect_unix(struct net_loop *l, const char *path,
                            const struct net_stream_conf *conf, struct net_stream **out_stream)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un.sun_path)
        return -ENAMETOOLONG;
    str_copy(un.sun_path, sizeof un.sun_path, str_of(path));
    int fd = socket_new(AF_UNIX, conf);
    if (fd < 0)
        return err_trace(fd);
    int r = connect_to(l, fd, (struct sockaddr *)&un, sizeof un, conf, out_stream);
    if (r == 0)
        (*out_stream)->peer.sa.sa_family = AF_UNIX;
    return r;
}

int net_stream_adopt(struct net_loop *l, int fd, const struct net_stream_conf *conf,
                     struct net_stream **out_stream)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    if (evutil_make_socket_nonblocking(fd) < 0 ||
        getpeername(fd, (struct sockaddr *)&ss, &len) < 0) {
        int r = -errno;
        close(fd);
        return err_trace(r);
    }
    /* A connected socket is writable: the next turn finds that there is nothing to wait for. */
    struct net_stream *s = begin(l, fd, conf, NET_STREAM_CONNECT);
    if (ss.ss_family == AF_UNIX)
        s->peer.sa.sa_family = AF_UNIX;
    else
        memcpy(&s->peer.v6, &ss, sizeof s->peer.v6);
    *out_stream = s;
    return 0;
}
