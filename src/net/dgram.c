/* A UDP socket.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: queues; what the kernel does not take is lost and counted. */
#include "net/dgram.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/loop_priv.h"

#define RECEIVE_COUNT_MAX 64 /* packets a turn, so that a flood does not starve the streams */

struct net_dgram {
    struct net_dgram_conf conf;
    struct net_loop *loop;
    struct net_watch *watch;
    struct net_address bound;
    struct net_dgram_stats stats;
    int fd;
};

static void on_readable(void *arg, unsigned events)
{
    (void)events;
    struct net_dgram *d = arg;
    for (int i = 0; i < RECEIVE_COUNT_MAX; i++) {
        struct net_address from = {0};
        socklen_t len = sizeof from.v6;
        ssize_t n = recvfrom(d->fd, d->loop->read_buffer, NET_DGRAM_MAX, 0, &from.sa, &len);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            continue; /* an ICMP answer to something we sent: the next call may have a packet */
        d->stats.received_count++;
        d->stats.received_bytes += (uint64_t)n;
        d->conf.received(d->conf.arg, &from, d->loop->read_buffer, (size_t)n);
    }
}

int net_dgram_new(struct net_loop *l, const struct net_dgram_conf *conf,
                  struct net_dgram **out_dgram)
{
    must(l->read_buffer_bytes >= NET_DGRAM_MAX);
    bool is_v6 = conf->bind.sa.sa_family == AF_INET6;
    int fd = socket(conf->bind.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_trace(-errno);
    int off = 0, bytes = (int)conf->socket_buffer_bytes;
    if (is_v6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bytes > 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    struct net_dgram *d = mem_new(sizeof *d);
    socklen_t len = sizeof d->bound.v6;
    if (bind(fd, &conf->bind.sa, is_v6 ? sizeof conf->bind.v6 : sizeof conf->bind.v4) < 0 ||
        getsockname(fd, &d->bound.sa, &len) < 0) {
        int r = -errno;
        close(fd);
        mem_free(d);
        return err_trace(r);
    }
    d->conf = *conf;
    d->loop = l;
    d->fd = fd;
    d->watch = net_watch_new(l, fd, NET_WATCH_READ, on_readable, d);
    *out_dgram = d;
    return 0;
}

struct net_dgram *net_dgram_free(struct net_dgram *d)
{
    if (!d)
        return NULL;
    net_watch_free(d->watch);
    close(d->fd);
    return mem_free(d);
}

int net_dgram_send(struct net_dgram *d, const struct net_address *to, const void *p, size_t n)
{
    socklen_t len = to->sa.sa_family == AF_INET ? sizeof to->v4 : sizeof to->v6;
    if (sendto(d->fd, p, n, MSG_NOSIGNAL, &to->sa, len) < 0) {
        int r = -errno;
        d->stats.send_failed_count++;
        return r;
    }
    d->stats.sent_count++;
    d->stats.sent_bytes += n;
    return 0;
}

const struct net_address *net_dgram_address(const struct net_dgram *d)
{
    return &d->bound;
}

struct net_dgram_stats net_dgram_stats(const struct net_dgram *d)
{
    return d->stats;
}
