/* Sockets of gossip: UDP and TCP on one port, sealed packets in and out.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * A packet that does not open changes nothing.  Over UDP it is never answered.  Over TCP, where the
 * asker cannot lie about its address, the answer is a REJECT that says what does not match.  A
 * stream frame is u32 length, sealed packet.  Never: lets a stranger hold more than WIRES_IN_MAX
 * streams or WIRE_IDLE_MAX of silence. */
#include <errno.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define WIRES_IN_MAX 128
#define WIRE_IDLE_MAX (15 * USEC_SEC)
#define FRAME_LEN_MAX ((uint32_t)(GOSSIP_FRAME_MAX + CLUSTER_SEAL_OVERHEAD))
#define PACKETS_PER_SEC_MAX 2000 /* from one source address */
#define WARN_EVERY (1 * USEC_SEC)
#define BIND_TRIES 16

struct wire {
    struct cluster *c;
    struct list link;
    struct net_stream *s;
    uint64_t id; /* of the mind: GOSSIP_STREAM_THEIRS in accepted ones */
    struct gossip_addr addr;
    struct net_timer idle;
    bool is_closing;
};

static void text_of(const struct gossip_addr *a, char out[NET_ADDRESS_TEXT])
{
    struct net_address n;
    cluster_addr_to(a, &n);
    (void)net_address_format(&n, out);
}

static bool may_warn(struct cluster *c)
{
    usec_t now = net_loop_now(c->home);
    if (now < c->warn_at)
        return false;
    c->warn_at = now + WARN_EVERY;
    return true;
}

/* --- what does not open --- */

/* Mine and theirs, in one line. */
static void explain(const struct cluster *c, const struct cluster_seal_reject *r, struct buf *out)
{
    if (r->why == CLUSTER_SEAL_E_LABEL) {
        buf_printf(out, "refused us: its clusterConfig.env is \"%.*s\", ours \"%s\"",
                   (int)(r->env.n > 63 ? 63 : r->env.n), r->env.p, c->env);
    } else if (r->why == CLUSTER_SEAL_E_VERSION) {
        buf_printf(out, "refused us: it speaks version %u of our packets, we version %u",
                   (unsigned)r->version, (unsigned)CLUSTER_SEAL_VERSION);
    } else {
        buf_put_str(out, STR("refused us: it has the keys number "));
        cluster_seal_key_numbers_format(r->keys, out);
        buf_put_str(out, STR(", we "));
        cluster_seal_keys_format(c->seal, out);
        buf_put_str(out, STR(" (clusterConfig.keyFile)"));
    }
    buf_put_u8(out, 0);
}

static void on_reject(struct cluster *c, const struct gossip_addr *from, struct str packet)
{
    char at[NET_ADDRESS_TEXT];
    struct cluster_seal_reject r;
    struct buf what = {0};
    if (!cluster_seal_reject_read(packet, &r))
        return;
    text_of(from, at);
    explain(c, &r, &what);
    cluster_seeds_note(c, from, (const char *)what.p);
    if (may_warn(c))
        log_line(c->log, LOG_LEVEL_WARN, "cluster.refused", "%s %s", at, (const char *)what.p);
    buf_deinit(&what);
}

static void count_bad(struct cluster *c, int why, const struct gossip_addr *from)
{
    char at[NET_ADDRESS_TEXT];
    const char *text = NULL;
    switch (why) {
    case CLUSTER_SEAL_E_LABEL:
        c->stats.foreign++;
        text = "belongs to another cluster (clusterConfig.env differs)";
        break;
    case CLUSTER_SEAL_E_VERSION:
        c->stats.junk++;
        text = "speaks another version of our packets";
        break;
    case CLUSTER_SEAL_E_KEY:
        c->stats.unkeyed++;
        text = "uses a key that we do not have, or none";
        break;
    case CLUSTER_SEAL_E_FORGED:
        c->stats.forged++;
        text = "sent a packet that does not authenticate (another key?)";
        break;
    case CLUSTER_SEAL_E_REPLAYED:
        c->stats.replayed++;
        break;
    default:
        c->stats.junk++;
        break;
    }
    if (text == NULL || !may_warn(c))
        return;
    text_of(from, at);
    log_line(c->log, LOG_LEVEL_WARN, "cluster.foreign", "%s %s", at, text);
}

/* --- datagrams --- */

/* False: this source sends too much. */
static bool admit(struct cluster *c, const struct gossip_addr *from)
{
    uint64_t h = hash_bytes(from->ip, sizeof from->ip, c->id.epoch);
    usec_t now = net_loop_now(c->home);
    size_t i = h % FLOOD_SLOTS;
    if (c->flood[i].source != h || now - c->flood[i].since >= USEC_SEC) {
        c->flood[i].source = h;
        c->flood[i].since = now;
        c->flood[i].count = 0;
    }
    return ++c->flood[i].count <= PACKETS_PER_SEC_MAX;
}

static void on_datagram(void *arg, const struct net_address *from, const uint8_t *p, size_t n)
{
    struct cluster *c = arg;
    struct gossip_addr addr;
    cluster_addr_of(from, &addr);
    if (!admit(c, &addr)) {
        c->stats.flooded++;
        return;
    }
    int r = cluster_seal_get(c->seal, str_view(p, n), &c->plain);
    if (r == CLUSTER_SEAL_E_REJECT) {
        on_reject(c, &addr, str_view(p, n));
        return;
    }
    if (r != 0) {
        count_bad(c, r, &addr);
        return;
    }
    struct gossip_event ev = {.kind = GOSSIP_EV_PACKET, .addr = addr, .bytes = buf_str(&c->plain)};
    cluster_step(c, &ev);
}

/* --- streams --- */

static void wire_free(struct wire *w)
{
    struct cluster *c = w->c;
    net_timer_del(c->home, &w->idle);
    list_del(&w->link);
    c->wire_in_count -= (w->id & GOSSIP_STREAM_THEIRS) != 0;
    if (w->s != NULL)
        net_stream_forget(w->s);
    mem_free(w);
}

/* The mind has it no more after this. */
static void wire_fail(struct wire *w, const char *what)
{
    struct cluster *c = w->c;
    struct gossip_event ev = {.kind = GOSSIP_EV_STREAM_FAILED, .stream = w->id};
    if (!(w->id & GOSSIP_STREAM_THEIRS) && what != NULL)
        cluster_seeds_note(c, &w->addr, what);
    wire_free(w);
    cluster_step(c, &ev);
}

static void on_idle(void *arg, usec_t now)
{
    (void)now;
    wire_fail(arg, "does not answer");
}

static void touch(struct wire *w)
{
    net_timer_set(w->c->home, &w->idle, net_loop_now(w->c->home) + WIRE_IDLE_MAX);
}

static void put_frame(struct wire *w, struct str packet)
{
    struct buf *b = net_stream_out(w->s);
    size_t at = b->n;
    buf_put_u32(b, 0);
    cluster_seal_put(w->c->seal, packet, b);
    uint32_t n = (uint32_t)(b->n - at - 4);
    for (unsigned i = 0; i < 4; i++)
        b->p[at + i] = (uint8_t)(n >> (8 * (3 - i)));
}

/* One frame; false: the wire is gone. */
static bool on_frame(struct wire *w, struct str sealed)
{
    struct cluster *c = w->c;
    int r = cluster_seal_get(c->seal, sealed, &c->plain);
    if (r == CLUSTER_SEAL_E_REJECT) {
        on_reject(c, &w->addr, sealed);
        wire_fail(w, NULL);
        return false;
    }
    if (r != 0) {
        count_bad(c, r, &w->addr);
        if (r != CLUSTER_SEAL_E_JUNK && r != CLUSTER_SEAL_E_REPLAYED) {
            struct buf *b = net_stream_out(w->s);
            c->scratch.n = 0;
            cluster_seal_reject(c->seal, r, &c->scratch);
            buf_put_u32(b, (uint32_t)c->scratch.n);
            buf_put_str(b, buf_str(&c->scratch));
        }
        wire_fail(w, NULL); /* what is wrong was logged, and the asker is told */
        return false;
    }
    /* the step may close this very wire: look for it again by its id */
    uint64_t id = w->id;
    struct gossip_event ev = {
        .kind = GOSSIP_EV_STREAM, .stream = id, .addr = w->addr, .bytes = buf_str(&c->plain)};
    cluster_step(c, &ev);
    list_each(&c->wires, it) if (container_of(it, struct wire, link)->id == id) return true;
    return false;
}

static size_t on_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct wire *w = arg;
    size_t done = 0;
    touch(w);
    while (n - done >= 4) {
        const uint8_t *f = p + done;
        uint32_t len = (uint32_t)f[0] << 24 | (uint32_t)f[1] << 16 | (uint32_t)f[2] << 8 | f[3];
        if (len > FRAME_LEN_MAX) {
            w->c->stats.junk++;
            wire_fail(w, "does not speak our protocol");
            return n;
        }
        if (n - done - 4 < len) {
            net_stream_want(s, 4 + (size_t)len);
            break;
        }
        done += 4 + (size_t)len;
        if (!on_frame(w, str_view(f + 4, len)))
            return n;
    }
    return done;
}

static void on_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct wire *w = arg;
    char what[64];
    int err = net_stream_error(s);
    w->s = NULL;
    (void)snprintf(what, sizeof what, "%s",
                   why == NET_STREAM_END_PEER || err == 0 ? "closed the connection"
                                                          : strerrordesc_np(-err));
    wire_fail(w, what);
}

static const struct net_stream_ops wire_ops = {.read = on_read, .closed = on_closed};

static struct wire *wire_new(struct cluster *c, uint64_t id, const struct gossip_addr *addr)
{
    struct wire *w = mem_new(sizeof *w);
    w->c = c;
    w->id = id;
    w->addr = *addr;
    net_timer_init(&w->idle, on_idle, w);
    list_push_back(&c->wires, &w->link);
    touch(w);
    return w;
}

static void on_accepted(void *arg, struct net_loop *here, struct net_stream *s)
{
    struct cluster *c = arg;
    struct gossip_addr addr;
    (void)here;
    if (c->wire_in_count >= WIRES_IN_MAX)
        return; /* nobody takes it: it is closed */
    cluster_addr_of(net_stream_peer(s), &addr);
    struct wire *w = wire_new(c, GOSSIP_STREAM_THEIRS | ++c->wire_ids, &addr);
    c->wire_in_count++;
    w->s = s;
    net_stream_set(s, &wire_ops, w);
}

static struct wire *find(struct cluster *c, uint64_t id)
{
    list_each(&c->wires, it)
    {
        struct wire *w = container_of(it, struct wire, link);
        if (w->id == id)
            return w;
    }
    return NULL;
}

/* A stream that could not even be dialled: told in the next turn. */
static void open_stream(struct cluster *c, const struct gossip_effect *e, struct str bytes)
{
    struct net_address to;
    struct wire *w = wire_new(c, e->stream, &e->addr);
    struct net_stream_conf conf = {
        .ops = &wire_ops,
        .arg = w,
        .limits = &c->wire_limits,
        .connect_usec_max = 3 * USEC_SEC,
    };
    cluster_addr_to(&e->addr, &to);
    if (net_stream_connect(c->home, &to, &conf, &w->s) != 0) {
        w->s = NULL;
        net_timer_set(c->home, &w->idle, net_loop_now(c->home));
        return;
    }
    put_frame(w, bytes);
}

static void send_datagram(struct cluster *c, const struct gossip_effect *e, struct str bytes)
{
    struct net_address to;
    cluster_addr_to(&e->addr, &to);
    c->scratch.n = 0;
    cluster_seal_put(c->seal, bytes, &c->scratch);
    int r = net_dgram_send(c->dgram, &to, c->scratch.p, c->scratch.n);
    if (r == 0 || r == -EAGAIN)
        return;
    c->unsent = mem_grow(c->unsent, &c->unsent_cap, c->unsent_count + 1, sizeof *c->unsent);
    c->unsent[c->unsent_count++] = e->addr;
}

void cluster_wire_effect(struct cluster *c, const struct gossip_effect *e, struct str bytes)
{
    struct wire *w;
    switch ((unsigned)e->kind) {
    case GOSSIP_OUT_PACKET:
        send_datagram(c, e, bytes);
        break;
    case GOSSIP_OUT_STREAM_OPEN:
        open_stream(c, e, bytes);
        break;
    case GOSSIP_OUT_STREAM_SEND:
        w = find(c, e->stream);
        if (w != NULL && w->s != NULL)
            put_frame(w, bytes);
        break;
    case GOSSIP_OUT_STREAM_CLOSE:
        w = find(c, e->stream);
        if (w != NULL)
            wire_free(w);
        break;
    default:
        break;
    }
}

/* --- life --- */

static int open_tcp(struct cluster *c, const struct net_address *at, char *error)
{
    char text[NET_ADDRESS_TEXT], why[NET_LISTENER_ERROR_MAX];
    struct net_loop *const home[] = {c->home};
    (void)net_address_format(at, text);
    struct net_listener_conf lc = {
        .kind = NET_LISTENER_TCP,
        .address = text,
        .limits = c->wire_limits,
        .loop = home,
        .loop_count = 1,
        .accepted = on_accepted,
        .arg = c,
        .log = c->log,
    };
    int r = net_listener_new(c->home, &lc, why, &c->listener);
    if (r != 0)
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX, "gossip cannot listen at %s: %.200s", text,
                       why);
    return r;
}

static int open_udp(struct cluster *c, const struct net_address *at, char *error)
{
    char text[NET_ADDRESS_TEXT];
    struct net_dgram_conf dc = {
        .bind = *at, .received = on_datagram, .arg = c, .socket_buffer_bytes = 1 << 20};
    int r = net_dgram_new(c->home, &dc, &c->dgram);
    if (r != 0) {
        (void)net_address_format(at, text);
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX, "gossip cannot bind UDP %s: %s", text,
                       strerrordesc_np(-r));
    }
    return r;
}

int cluster_wire_open(struct cluster *c, const struct cluster_host_conf *conf, char *error)
{
    struct net_address at = c->addr;
    int r = -EADDRINUSE;
    list_init(&c->wires);
    c->wire_limits = (struct net_stream_limits){.out_high_bytes = 8 << 20,
                                                .keep_bytes_max = FRAME_LEN_MAX + 4096,
                                                .handshake_usec_max = 3 * USEC_SEC};
    /* one port for both: where TCP chooses, UDP follows or another one is tried */
    for (unsigned i = 0; i < (conf->port == 0 ? BIND_TRIES : 1) && r == -EADDRINUSE; i++) {
        r = open_tcp(c, &c->addr, error);
        if (r != 0)
            return r;
        net_address_set_port(&at, net_address_port(net_listener_address(c->listener)));
        r = open_udp(c, &at, error);
        if (r != 0)
            c->listener = net_listener_free(c->listener);
    }
    if (r == 0)
        c->addr = at;
    return r;
}

void cluster_wire_close(struct cluster *c)
{
    if (c->wires.next != NULL)
        while (!list_empty(&c->wires))
            wire_free(container_of(c->wires.next, struct wire, link));
    c->listener = net_listener_free(c->listener);
    c->dgram = net_dgram_free(c->dgram);
}
