/* Exchanges: members and table, both ways, over a stream.  SPDX-License-Identifier: Apache-2.0
 *
 * Three frames: ASK (what I know, digests of my rows), REPLY (the same, and the rows you lack),
 * FINISH (the rows you lack). The side that answers keeps no state.  Exchanges repair what rumours
 * lost, join newcomers, heal partitions, and carry rows too large for a packet. */
#include "base/hash.h"
#include "base/mem.h"
#include "gossip/gossip_priv.h"

#include <stdlib.h>

#define EXCHANGE_MAX (10 * USEC_SEC) /* an exchange that takes longer is given up */
#define DELTA_BYTES_MAX                                                                            \
    ((size_t)600 << 10) /* rows in one frame; matters: members and digests fit beside them */
#define PUSH_MAX 512    /* a longer row is announced by a hint */
#define HEAL_EVERY (5 * USEC_SEC)
#define HEAL_MAX 3 /* doors in a round */
#define HEAL_WAIT                                                                                  \
    (10 * USEC_SEC) /* matters: with HEAL_EVERY, two halves find each other within 20 s */
#define SEED_EVERY (30 * USEC_SEC)
#define SEED_EVERY_ALONE (5 * USEC_SEC)
#define SEEDS_AT_ONCE 3
#define FRUITLESS_WAIT_MAX (30 * USEC_SEC)
#define STRANGERS_MIN 4 /* matters: one exchange of members costs as much as many probes */
#define SHARED_ENTRY 20 /* bytes: key hash, version, hash of the writer */

struct seen_owner { /* a DIGEST that the other side sent */
    struct uuid uuid;
    uint64_t epoch, upto;
};

struct seen_shared {
    uint64_t key_hash, version;
    uint32_t writer;
};

struct digest {
    struct seen_owner *owner;
    size_t owner_count, owner_cap;
    struct seen_shared *shared;
    size_t shared_count, shared_cap;
    bool has_more; /* rows were left out of the frame */
};

/* --- encoding --- */

static uint32_t writer_hash(const struct uuid *u)
{
    return (uint32_t)hash_bytes(u->b, sizeof u->b, 2);
}

static void add_members(struct gossip *g)
{
    size_t at = 0;
    struct gossip_msg m;
    for (const struct gossip_peer *p; (p = map_next(&g->peers, &at)) != NULL;) {
        if (p->pub.addr.port == 0)
            continue; /* a death we only heard of */
        gossip_msg_of_peer(p, GOSSIP_MSG_MEMBER, &m);
        /* who told us of a suspicion must not hear it from us as a second opinion */
        m.from = p->pub.state == GOSSIP_ST_SUSPECT ? p->suspicion.accuser[0] : g->self->pub.uuid;
        gossip_packet_add(g, &m);
    }
}

static void add_digests(struct gossip *g)
{
    size_t at = 0;
    for (const struct table_owner *o; (o = gossip_table_owner_next(&g->table, &at)) != NULL;) {
        struct gossip_msg m = {
            .kind = GOSSIP_MSG_DIGEST, .uuid = o->uuid, .epoch = o->epoch, .seq = o->upto};
        gossip_packet_add(g, &m);
    }
    g->msg.n = 0;
    for (size_t i = 0; i < g->table.count; i++) {
        const struct gossip_row *r = &g->table.row[i]->pub;
        if (r->space < GOSSIP_SPACE_SHARED)
            continue;
        buf_put_u64(&g->msg, gossip_table_key_hash(r->space, r->key));
        buf_put_u64(&g->msg, r->version);
        buf_put_u32(&g->msg, writer_hash(&r->owner));
    }
    struct gossip_msg m = {.kind = GOSSIP_MSG_SHARED, .bytes = buf_str(&g->msg)};
    gossip_packet_add(g, &m);
}

static void msg_of_row(const struct gossip_row *r, struct gossip_msg *out)
{
    *out = (struct gossip_msg){
        .kind = GOSSIP_MSG_ROW,
        .uuid = r->owner,
        .epoch = r->epoch,
        .space = r->space,
        .key = r->key,
        .bytes = r->value,
        .version = r->version,
        .seq = r->seq,
        .replaces = r->replaces,
        .state = r->is_tombstone ? GOSSIP_ST_SUSPECT : GOSSIP_ST_ALIVE, /* 1: deleted */
    };
}

void gossip_row_of_msg(const struct gossip_msg *m, struct gossip_row *out)
{
    *out = (struct gossip_row){
        .owner = m->uuid,
        .epoch = m->epoch,
        .space = m->space,
        .is_tombstone = m->state != GOSSIP_ST_ALIVE,
        .seq = m->seq,
        .replaces = m->replaces,
        .version = m->version,
        .key = m->key,
        .value = m->bytes,
    };
}

static void begin_delta(struct gossip *g, const struct table_owner *o, uint64_t after,
                        uint64_t upto)
{
    struct gossip_msg m = {
        .kind = GOSSIP_MSG_DELTA,
        .uuid = o->uuid,
        .epoch = o->epoch,
        .replaces = after,
        .seq = upto,
        .version = o->floor,
        .flags = after < o->floor ? GOSSIP_DELTA_RESET : 0,
    };
    gossip_packet_add(g, &m);
}

/* Rows after `after`, as many as fit; the span ends where we stop. */
static bool add_delta(struct gossip *g, const struct table_owner *o, uint64_t after, size_t end)
{
    size_t n = 0;
    uint64_t upto = o->upto;
    bool cut = false;
    list_each(&((struct table_owner *)(uintptr_t)o)->by_seq, it)
    {
        const struct gossip_row *r = &container_of(it, struct table_row, by_seq)->pub;
        if (r->seq <= after || r->seq > o->upto)
            continue;
        n += r->key.n + r->value.n + 96;
        if (g->pkt.n + n > end) {
            upto = r->seq - 1;
            cut = true;
            break;
        }
    }
    if (upto <= after)
        return cut;
    begin_delta(g, o, after, upto);
    list_each(&((struct table_owner *)(uintptr_t)o)->by_seq, it)
    {
        const struct gossip_row *r = &container_of(it, struct table_row, by_seq)->pub;
        if (r->seq <= after || r->seq > upto)
            continue;
        struct gossip_msg m;
        msg_of_row(r, &m);
        gossip_packet_add(g, &m);
        g->stats.rows_sent++;
    }
    return cut;
}

static int by_uuid(const void *a, const void *b)
{
    return uuid_cmp(&((const struct seen_owner *)a)->uuid, &((const struct seen_owner *)b)->uuid);
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct seen_shared *)a)->key_hash,
             y = ((const struct seen_shared *)b)->key_hash;
    return x < y ? -1 : x > y;
}

static bool add_shared(struct gossip *g, const struct digest *d, size_t end)
{
    for (size_t i = 0; i < g->table.count; i++) {
        const struct gossip_row *r = &g->table.row[i]->pub;
        if (r->space < GOSSIP_SPACE_SHARED)
            continue;
        struct seen_shared want = {.key_hash = gossip_table_key_hash(r->space, r->key)};
        const struct seen_shared *s =
            d->shared_count > 0 ? bsearch(&want, d->shared, d->shared_count, sizeof want, by_key)
                                : NULL;
        if (s != NULL && (s->version > r->version ||
                          (s->version == r->version && s->writer == writer_hash(&r->owner))))
            continue;
        if (g->pkt.n + r->key.n + r->value.n + 96 > end)
            return true;
        struct gossip_msg m;
        msg_of_row(r, &m);
        gossip_packet_add(g, &m);
        g->stats.rows_sent++;
    }
    return false;
}

/* Everything the other side lacks; true when something had to be left out. */
static bool add_rows(struct gossip *g, struct digest *d)
{
    size_t at = 0, end = g->pkt.n + DELTA_BYTES_MAX;
    bool more = false;
    if (d->owner_count > 0)
        qsort(d->owner, d->owner_count, sizeof *d->owner, by_uuid);
    if (d->shared_count > 0)
        qsort(d->shared, d->shared_count, sizeof *d->shared, by_key);
    for (const struct table_owner *o; (o = gossip_table_owner_next(&g->table, &at)) != NULL;) {
        struct seen_owner want = {.uuid = o->uuid};
        const struct seen_owner *s =
            d->owner_count > 0 ? bsearch(&want, d->owner, d->owner_count, sizeof want, by_uuid)
                               : NULL;
        if (s != NULL && s->epoch > o->epoch)
            continue;
        uint64_t after = s != NULL && s->epoch == o->epoch ? s->upto : 0;
        if (after < o->upto) /* behind a forgotten deletion: everything, from the beginning */
            more |= add_delta(g, o, after < o->floor ? 0 : after, end);
    }
    more |= add_shared(g, d, end);
    return more;
}

/* --- decoding --- */

static void digest_deinit(struct digest *d)
{
    mem_free(d->owner);
    mem_free(d->shared);
}

static void digest_shared(struct digest *d, struct str bytes)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    while (codec_cursor_left(&c) >= SHARED_ENTRY && d->shared_count < GOSSIP_SHARED_ROWS_MAX) {
        d->shared = mem_grow(d->shared, &d->shared_cap, d->shared_count + 1, sizeof *d->shared);
        struct seen_shared *s = &d->shared[d->shared_count++];
        s->key_hash = codec_cursor_u64(&c);
        s->version = codec_cursor_u64(&c);
        s->writer = codec_cursor_u32(&c);
    }
}

static void digest_owner(struct digest *d, const struct gossip_msg *m)
{
    if (d->owner_count >= GOSSIP_MEMBER_MAX)
        return;
    d->owner = mem_grow(d->owner, &d->owner_cap, d->owner_count + 1, sizeof *d->owner);
    d->owner[d->owner_count++] = (struct seen_owner){m->uuid, m->epoch, m->seq};
}

static void take_row(struct gossip *g, const struct gossip_msg *m, struct gossip_out *out)
{
    struct gossip_row r;
    gossip_row_of_msg(m, &r);
    if (r.space >= GOSSIP_SPACE_SHARED && hlc_update(&g->hlc, g->wall, r.version) != 0)
        return; /* a clock too far ahead must not win for hours */
    if (gossip_table_apply(&g->table, &r, g->now, out) == 0)
        g->stats.rows_in++;
}

struct span { /* the delta being read */
    bool is_open;
    struct gossip_msg m;
};

static void end_span(struct gossip *g, struct span *s, struct gossip_out *out)
{
    if (s->is_open)
        gossip_table_delta_end(&g->table,
                               &(struct table_delta){&s->m.uuid, s->m.replaces, s->m.seq,
                                                     s->m.version, s->m.flags & GOSSIP_DELTA_RESET},
                               out);
    s->is_open = false;
}

/* Reads the rest of a frame: facts and rows are taken, digests collected. */
static void read_frame(struct gossip *g, struct codec_cursor *c, struct digest *d,
                       struct gossip_out *out)
{
    struct span span = {0};
    bool skipping = false;
    for (struct gossip_msg m; gossip_msg_next(c, &m);) {
        switch (m.kind) {
        case GOSSIP_MSG_MEMBER:
            gossip_fact(g, &m, true, out);
            break;
        case GOSSIP_MSG_DIGEST:
            digest_owner(d, &m);
            break;
        case GOSSIP_MSG_SHARED:
            digest_shared(d, m.bytes);
            break;
        case GOSSIP_MSG_SYNC:
            d->has_more |= m.flags & GOSSIP_SYNC_MORE;
            break;
        case GOSSIP_MSG_DELTA:
            end_span(g, &span, out);
            span.m = m;
            span.is_open = gossip_table_delta_begin(&g->table, &m.uuid, m.epoch, m.replaces, out);
            skipping = !span.is_open;
            break;
        case GOSSIP_MSG_ROW:
            if (m.space >= GOSSIP_SPACE_SHARED || !skipping)
                take_row(g, &m, out);
            break;
        default:
            break;
        }
    }
    if (!c->bad)
        end_span(g, &span, out); /* a span that was cut short is not complete */
}

/* --- the three frames --- */

static void fill_frame(struct gossip *g, enum gossip_sync_phase phase, struct digest *d,
                       uint32_t flags)
{
    struct gossip_msg m = {
        .kind = GOSSIP_MSG_SYNC, .state = (enum gossip_state)phase, .flags = flags};
    gossip_packet_begin(g);
    gossip_packet_add(g, &m);
    if (phase != GOSSIP_SYNC_FINISH) {
        if (!(flags & GOSSIP_SYNC_NO_MEMBERS))
            add_members(g);
        add_digests(g);
    }
    if (d != NULL && add_rows(g, d)) {
        m.flags |= GOSSIP_SYNC_MORE; /* last, when it is known */
        gossip_packet_add(g, &m);
    }
}

void gossip_sync_open(struct gossip *g, const struct gossip_addr *addr, const struct uuid *peer,
                      uint32_t flags, struct gossip_out *out)
{
    struct gossip_sync *s = NULL;
    for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++) {
        if (g->sync[i].stream == 0)
            s = s == NULL ? &g->sync[i] : s;
        else if (gossip_addr_eq(&g->sync[i].addr, addr))
            return; /* one at a time with each */
    }
    if (s == NULL || addr->port == 0)
        return;
    *s = (struct gossip_sync){
        .stream = ++g->stream,
        .addr = *addr,
        .deadline = g->now + EXCHANGE_MAX,
        .rows_in = g->stats.rows_in,
    };
    if (peer != NULL)
        s->peer = *peer;
    g->stats.syncs++;
    fill_frame(g, GOSSIP_SYNC_ASK, NULL, flags);
    gossip_frame_send(g, GOSSIP_OUT_STREAM_OPEN, s->stream, addr, out);
}

static void answer(struct gossip *g, struct codec_cursor *c, uint64_t stream,
                   const struct gossip_msg *first, struct gossip_out *out)
{
    struct digest d = {0};
    read_frame(g, c, &d, out);
    if (!c->bad) {
        fill_frame(g, GOSSIP_SYNC_REPLY, &d, first->flags & GOSSIP_SYNC_NO_MEMBERS);
        gossip_frame_send(g, GOSSIP_OUT_STREAM_SEND, stream, NULL, out);
    }
    digest_deinit(&d);
}

static void forget_seed(struct gossip *g, const struct gossip_addr *addr)
{
    for (size_t i = g->seed_count; i-- > 0;)
        if (gossip_addr_eq(&g->seed[i], addr))
            g->seed[i] = g->seed[--g->seed_count];
}

static void finish(struct gossip *g, const struct gossip_head *h, struct codec_cursor *c,
                   struct gossip_sync *s, struct gossip_out *out)
{
    struct digest d = {0};
    struct gossip_sync done = *s;
    s->stream = 0;
    if (uuid_eq(&h->uuid, &g->self->pub.uuid) && h->epoch == g->self->pub.epoch) {
        read_frame(g, c, &d, out); /* ourselves, or a twin: the addresses in there tell */
        digest_deinit(&d);
        forget_seed(g, &done.addr);
        gossip_stream_close(done.stream, out);
        return;
    }
    size_t live = g->ring_count;
    read_frame(g, c, &d, out);
    if (g->ring_count > live + live / 8) /* much was new: others may know still more */
        g->sync_at = usec_min(g->sync_at, g->now + rng_between(&g->rng, USEC_SEC, 2 * USEC_SEC));
    fill_frame(g, GOSSIP_SYNC_FINISH, &d, 0);
    gossip_frame_send(g, GOSSIP_OUT_STREAM_SEND, done.stream, NULL, out);
    gossip_stream_close(done.stream, out);
    struct gossip_peer *p = gossip_peer_find(g, &h->uuid);
    if (p != NULL && g->stats.rows_in != done.rows_in)
        p->sync_wait = 0;
    if (p != NULL && d.has_more && g->stats.rows_in != done.rows_in)
        gossip_sync_open(g, &done.addr, &h->uuid, GOSSIP_SYNC_NO_MEMBERS, out);
    digest_deinit(&d);
}

void gossip_sync_frame(struct gossip *g, const struct gossip_head *h, struct codec_cursor *c,
                       uint64_t stream, const struct gossip_msg *first, struct gossip_out *out)
{
    struct digest d = {0};
    switch ((unsigned)first->state) {
    case GOSSIP_SYNC_ASK:
        if (stream & GOSSIP_STREAM_THEIRS)
            answer(g, c, stream, first, out);
        break;
    case GOSSIP_SYNC_REPLY:
        for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++)
            if (g->sync[i].stream == stream && stream != 0) {
                finish(g, h, c, &g->sync[i], out);
                break;
            }
        break;
    case GOSSIP_SYNC_FINISH:
        if (stream & GOSSIP_STREAM_THEIRS)
            read_frame(g, c, &d, out);
        digest_deinit(&d);
        break;
    default:
        break;
    }
}

void gossip_sync_failed(struct gossip *g, uint64_t stream)
{
    for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++)
        if (g->sync[i].stream == stream)
            g->sync[i].stream = 0;
}

/* --- when --- */

static usec_t stretch(const struct gossip *g, usec_t t)
{
    unsigned log = 0;
    for (size_t n = g->ring_count; n > 0; n >>= 1)
        log++;
    return log > 5 ? t * (log - 4) : t; /* as memberlist above 32 */
}

/* The dead one that has waited longest for a knock at its door, or NULL. */
static struct gossip_peer *most_overdue(struct gossip *g)
{
    struct gossip_peer *best = NULL;
    size_t at = 0;
    for (struct gossip_peer *p; (p = map_next(&g->peers, &at)) != NULL;)
        if (p->pub.state == GOSSIP_ST_DEAD && p->heal_at <= g->now && p->pub.addr.port != 0 &&
            !gossip_addr_eq(&p->pub.addr, &g->self->pub.addr) &&
            (best == NULL || p->heal_at < best->heal_at))
            best = p;
    return best;
}

static void heal(struct gossip *g, struct gossip_out *out)
{
    struct gossip_peer *p;
    for (unsigned i = 0; i < HEAL_MAX && (p = most_overdue(g)) != NULL; i++) {
        p->heal_at = g->now + HEAL_WAIT;
        gossip_sync_open(g, &p->pub.addr, &p->pub.uuid, 0, out);
    }
}

static bool is_member_address(const struct gossip *g, const struct gossip_addr *a)
{
    if (gossip_addr_eq(a, &g->self->pub.addr))
        return true;
    for (size_t i = 0; i < g->ring_count; i++)
        if (gossip_addr_eq(a, &g->ring[i]->pub.addr))
            return true;
    return false;
}

static void try_seeds(struct gossip *g, struct gossip_out *out)
{
    unsigned count = 0;
    size_t from = g->seed_count > 0 ? rng_below(&g->rng, g->seed_count) : 0;
    for (size_t i = 0; i < g->seed_count && count < SEEDS_AT_ONCE; i++) {
        const struct gossip_addr *a = &g->seed[(from + i) % g->seed_count];
        if (is_member_address(g, a))
            continue;
        gossip_sync_open(g, a, NULL, 0, out);
        count++;
    }
    usec_t every = g->ring_count == 0 ? SEED_EVERY_ALONE : SEED_EVERY;
    g->seed_at = g->now + every * rng_between(&g->rng, 80, 120) / 100;
}

static void sync_timeouts(struct gossip *g, struct gossip_out *out)
{
    for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++)
        if (g->sync[i].stream != 0 && g->sync[i].deadline <= g->now) {
            gossip_stream_close(g->sync[i].stream, out);
            g->sync[i].stream = 0;
        }
}

void gossip_sync_tick(struct gossip *g, struct gossip_out *out)
{
    sync_timeouts(g, out);
    if (!uuid_is_zero(&g->hinted)) {
        const struct gossip_peer *p = gossip_peer_find(g, &g->hinted);
        if (p != NULL && gossip_is_live(p))
            gossip_sync_open(g, &p->pub.addr, &p->pub.uuid,
                             g->hinted_members ? 0 : GOSSIP_SYNC_NO_MEMBERS, out);
        g->hinted = (struct uuid){0};
        g->hinted_members = false;
    }
    if (g->sync_at <= g->now) {
        g->sync_at =
            g->now + stretch(g, g->conf.sync_interval) * rng_between(&g->rng, 80, 120) / 100;
        if (g->ring_count > 0) {
            const struct gossip_peer *p = g->ring[rng_below(&g->rng, g->ring_count)];
            gossip_sync_open(g, &p->pub.addr, &p->pub.uuid, 0, out);
        }
    }
    if (g->seed_at <= g->now)
        try_seeds(g, out);
    if (g->heal_at <= g->now) {
        heal(g, out);
        g->heal_at = g->now + HEAL_EVERY * rng_between(&g->rng, 80, 120) / 100;
    }
}

usec_t gossip_sync_deadline(const struct gossip *g)
{
    usec_t at = usec_min(g->sync_at, usec_min(g->seed_at, g->heal_at));
    for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++)
        if (g->sync[i].stream != 0)
            at = usec_min(at, g->sync[i].deadline);
    return uuid_is_zero(&g->hinted) ? at : g->now;
}

void gossip_sync_hash(struct gossip *g, const struct gossip_head *h)
{
    bool same_table = h->table_hash == gossip_table_hash(&g->table);
    bool same_members = h->member_hash == g->member_hash || h->member_hash == 0;
    g->mismatches = same_table ? 0 : g->mismatches + 1;
    g->strangers = same_members ? 0 : g->strangers + 1;
    struct gossip_peer *p = gossip_peer_find(g, &h->uuid);
    /* rumours may still be on their way, those about members longer than others */
    if ((g->mismatches < 2 && g->strangers < STRANGERS_MIN) || p == NULL || p->sync_at > g->now)
        return;
    g->hinted_members = g->strangers >= STRANGERS_MIN;
    p->sync_wait = p->sync_wait == 0 ? USEC_SEC : usec_min(2 * p->sync_wait, FRUITLESS_WAIT_MAX);
    p->sync_at = g->now + p->sync_wait;
    g->hinted = h->uuid;
}

/* --- rows as rumours --- */

static uint64_t row_subject(const struct gossip_row *r)
{
    uint64_t h = gossip_table_key_hash(r->space, r->key);
    return r->space >= GOSSIP_SPACE_SHARED ? hash_u64(h + 3)
                                           : hash_bytes(r->owner.b, sizeof r->owner.b, h);
}

void gossip_row_queue(struct gossip *g, const struct gossip_row *r)
{
    struct gossip_msg m;
    msg_of_row(r, &m);
    if (r->key.n + r->value.n > PUSH_MAX) {
        m.kind = GOSSIP_MSG_HINT;
        m.bytes = STR("");
        m.replaces = 0;
    }
    g->msg.n = 0;
    gossip_msg_bare(&g->msg, &m);
    gossip_spread_put(&g->spread, row_subject(r), GOSSIP_RANK_ROW, buf_str(&g->msg));
}

static void hint_heard(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m)
{
    struct gossip_row r;
    gossip_row_of_msg(m, &r);
    if (m->space >= GOSSIP_SPACE_SHARED) {
        size_t at = 0;
        const struct gossip_row *have = gossip_table_next(&g->table, m->space, m->key, &at);
        if (have != NULL && str_eq(have->key, m->key) && have->version >= m->version)
            return;
    } else {
        const struct table_owner *o = gossip_table_owner(&g->table, &m->uuid);
        if (uuid_eq(&m->uuid, &g->self->pub.uuid) || (o != NULL && o->epoch > m->epoch) ||
            (o != NULL && o->epoch == m->epoch && o->upto >= m->seq))
            return;
    }
    g->msg.n = 0;
    gossip_msg_bare(&g->msg, m);
    if (!gossip_spread_has(&g->spread, row_subject(&r)))
        gossip_spread_put(&g->spread, row_subject(&r), GOSSIP_RANK_ROW, buf_str(&g->msg));
    g->hinted = h->uuid;
}

void gossip_row_heard(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      struct gossip_out *out)
{
    if (m->kind == GOSSIP_MSG_HINT) {
        hint_heard(g, h, m);
        return;
    }
    struct gossip_row r;
    gossip_row_of_msg(m, &r);
    if (r.space >= GOSSIP_SPACE_SHARED && hlc_update(&g->hlc, g->wall, r.version) != 0)
        return;
    if (gossip_table_apply(&g->table, &r, g->now, out) != 0)
        return;
    g->stats.rows_in++;
    gossip_row_queue(g, &r);
}
