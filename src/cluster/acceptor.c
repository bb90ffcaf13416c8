/* Where links come in.  SPDX-License-Identifier: Apache-2.0
 *
 * A stranger may hold a slot for PREFACE_MAX at most, and there are PENDING_MAX of them; the
 * preface itself grants nothing, it only names a loop: who it is and whether it may come in is
 * judged there, behind TLS. Never: reads more than the preface. */
#include "cluster/acceptor_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define PENDING_MAX 256
#define PREFACE_MAX (2 * USEC_SEC)
#define ACCEPTS_A_TURN 64

struct cluster_acceptor {
    struct acceptor_conf conf;
    struct net_address bound;
    struct net_watch *watch;
    struct list pending;
    unsigned pending_count;
    int fd;
};

struct pending {
    struct cluster_acceptor *a;
    struct list link;
    struct net_watch *watch;
    struct net_timer timer;
    int fd;
};

struct handover {
    struct net_mail mail;
    struct cluster_link *to;
    struct net_tls *tls;
    enum cluster_lane lane;
    int fd;
};

static void pending_free(struct pending *p, bool close_fd)
{
    list_del(&p->link);
    p->a->pending_count--;
    net_timer_del(p->a->conf.loop, &p->timer);
    p->watch = net_watch_free(p->watch);
    if (close_fd)
        close(p->fd);
    mem_free(p);
}

static void take_over(struct net_loop *here, struct net_mail *mail)
{
    struct handover *h = container_of(mail, struct handover, mail);
    (void)here;
    cluster_link_adopt(h->to, h->fd, h->lane, h->tls);
    net_tls_unref(h->tls);
    mem_free(h);
}

static void hand_over(struct pending *p, const uint8_t *preface)
{
    struct cluster_acceptor *a = p->a;
    struct handover *h = mem_new(sizeof *h);
    uint32_t loop = (uint32_t)(preface[6] << 8 | preface[7]) % a->conf.link_count;
    h->to = a->conf.link[loop];
    h->tls = a->conf.tls != NULL ? net_tls_ref(a->conf.tls) : NULL;
    h->lane = (enum cluster_lane)preface[5];
    h->fd = p->fd;
    net_loop_post(a->conf.loop, h->to->conf.loop, &h->mail, take_over);
    pending_free(p, false);
}

static void on_preface(void *arg, unsigned events)
{
    struct pending *p = arg;
    uint8_t preface[LINK_PREFACE_LEN];
    (void)events;
    ssize_t n = recv(p->fd, preface, sizeof preface, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && n < (ssize_t)sizeof preface &&
        memcmp(preface, "BLNK", (size_t)(n < 4 ? n : 4)) == 0)
        return; /* the rest is on its way; the timer is running */
    bool ok = n == (ssize_t)sizeof preface && memcmp(preface, "BLNK", 4) == 0 &&
              preface[4] == LINK_VERSION && preface[5] < CLUSTER_LANE_COUNT &&
              recv(p->fd, preface, sizeof preface, 0) == (ssize_t)sizeof preface;
    if (ok)
        hand_over(p, preface);
    else
        pending_free(p, true);
}

static void on_late(void *arg, usec_t now)
{
    (void)now;
    pending_free(arg, true);
}

static void on_accept(void *arg, unsigned events)
{
    struct cluster_acceptor *a = arg;
    int one = 1;
    (void)events;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(a->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (a->pending_count >= PENDING_MAX) {
            close(fd);
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct pending *p = mem_new(sizeof *p);
        p->a = a;
        p->fd = fd;
        list_push_back(&a->pending, &p->link);
        a->pending_count++;
        net_timer_init(&p->timer, on_late, p);
        net_timer_set(a->conf.loop, &p->timer, net_loop_now(a->conf.loop) + PREFACE_MAX);
        p->watch = net_watch_new(a->conf.loop, fd, NET_WATCH_READ, on_preface, p);
    }
}

static int listen_at(const struct net_address *at, struct net_address *out_bound)
{
    int one = 1;
    socklen_t len = at->sa.sa_family == AF_INET6 ? sizeof at->v6 : sizeof at->v4;
    int fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socklen_t bound_len = sizeof out_bound->v6;
    if (bind(fd, &at->sa, len) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, &out_bound->sa, &bound_len) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int cluster_acceptor_new(const struct acceptor_conf *c, struct cluster_acceptor **out)
{
    struct net_address bound = {0};
    int fd = listen_at(&c->bind, &bound);
    if (fd < 0)
        return err_trace(fd);
    struct cluster_acceptor *a = mem_new(sizeof *a);
    a->conf = *c;
    a->bound = bound;
    a->fd = fd;
    list_init(&a->pending);
    a->watch = net_watch_new(c->loop, fd, NET_WATCH_READ, on_accept, a);
    *out = a;
    return 0;
}

struct cluster_acceptor *cluster_acceptor_free(struct cluster_acceptor *a)
{
    if (a == NULL)
        return NULL;
    list_each(&a->pending, it) pending_free(container_of(it, struct pending, link), true);
    net_watch_free(a->watch);
    close(a->fd);
    return mem_free(a);
}

const struct net_address *cluster_acceptor_address(const struct cluster_acceptor *a)
{
    return &a->bound;
}
