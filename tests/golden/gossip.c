/* Stories of gossip: who is believed to live, and which rows are seen.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Nodes are named a, b, c...; they talk over the network of the simulator, with one fixed chance.
 * What the nodes that are watched (all, unless said otherwise) tell their host is the trace.
 *
 * Before:  nodes COUNT, set of=A min=N max=N skew=SECONDS meta=WORD
 * Nodes:   start of=A seeds=B..., kill of=A, leave of=A
 *          wipe of=A (a new identity), move of=A port=N, copy of=A from=B (a copied directory)
 *          flags of=A is=ready,draining..., meta of=A is=WORD, forget of=A who=B
 *          put|del of=A space=N key=K [value=V] [long=BYTES]
 * World:   run ms=N, until WHAT [limit=MS]   what: agree, same
 *          group of=A is=N, mute|deaf|hears of=A, stall of=A ms=N, loss is=MILLION
 *          part of=A from=B, block of=A (datagrams), whole
 * Look:    watch of=A..., packets is=on|off, show of=A, rows of=A, health of=A
 * Lies:    say to=A by=B kind=K who=C [inc=N] [epoch=N] [port=N] [key=K value=V version=MS]
 *          a packet that B could have sent: alive, suspect, dead, left, ping, ack, row.  Times and
 *          epochs are milliseconds since the story began. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/cursor.h"
#include "golden/lib/story.h"
#include "gossip/packet.h"
#include "sim/lib/gossip_net.h"

#define NODES 26
#define OLD 8
#define BEGIN (1000 * USEC_SEC)                                  /* the world's first moment */
#define BEGIN_MS ((uint64_t)(1700000000ull + 1000ull) * 1000ull) /* and on its clocks */

struct tale {
    struct world w;
    struct gossip_net *net;
    struct buf *trace;
    bool is_watched[NODES];
    bool tells_packets;
    struct {
        struct uuid uuid;
        unsigned node;
    } old[OLD]; /* identities that were wiped */
    size_t old_count;
};

/* --- names --- */

static const char *name_of(const struct tale *t, const struct uuid *u)
{
    static char text[4][8];
    static unsigned at;
    char *p = text[at++ % 4];
    str_copy(p, 8, STR("?"));
    for (unsigned i = 0; i < t->net->count; i++)
        if (uuid_eq(&t->net->node[i].uuid, u))
            snprintf(p, 8, "%c", 'a' + (int)i);
    for (size_t i = 0; i < t->old_count && p[0] == '?'; i++)
        if (uuid_eq(&t->old[i].uuid, u))
            snprintf(p, 8, "old %c", 'a' + (int)t->old[i].node);
    if (uuid_is_zero(u))
        str_copy(p, 8, STR("nobody"));
    return p;
}

static char name_at(const struct tale *t, const struct gossip_addr *a)
{
    for (unsigned i = 0; i < t->net->count; i++)
        if (gossip_addr_eq(&t->net->node[i].addr, a))
            return (char)('a' + i);
    return '?';
}

static unsigned node_named(const struct tale *t, struct str name)
{
    unsigned i = name.n == 1 ? (unsigned)(name.p[0] - 'a') : t->net->count;
    if (i >= t->net->count)
        printf("no such node: %.*s\n", STR_ARG(name));
    return i < t->net->count ? i : 0;
}

static unsigned node_of(const struct tale *t, struct str line, const char *key)
{
    return node_named(t, story_str(line, key, "?"));
}

static long long since(uint64_t ms)
{
    return (long long)ms - (long long)BEGIN_MS;
}

/* --- the trace --- */

static void begin_line(struct tale *t, unsigned who)
{
    double now = (double)(t->w.now - BEGIN) / 1e6;
    buf_printf(t->trace, "[%8.3f] %c: ", now, 'a' + (int)who);
}

static void tell_flags(struct tale *t, uint32_t flags)
{
    static const char *const name[] = {"ready", "draining", "degraded", "storage failed"};
    for (unsigned i = 0; i < countof(name); i++)
        if (flags & 1u << i)
            buf_printf(t->trace, ", %s", name[i]);
}

static void tell_row(struct tale *t, const struct gossip_row *r)
{
    buf_printf(t->trace, "%u/%.*s ", r->space, STR_ARG(r->key));
    if (r->is_tombstone)
        buf_printf(t->trace, "is gone");
    else if (r->value.n > 40)
        buf_printf(t->trace, "= %zu bytes", r->value.n);
    else
        buf_printf(t->trace, "= %.*s", STR_ARG(r->value));
    buf_printf(t->trace, ", by %s", name_of(t, &r->owner));
}

static void tell_member(struct tale *t, const struct gossip_member *m)
{
    static const char *const state[] = {"alive", "suspect", "dead", "left"};
    buf_printf(t->trace, "%s %s, epoch %lld inc %u, port %u", name_of(t, &m->uuid), state[m->state],
               since(m->epoch), m->inc, m->addr.port);
    tell_flags(t, m->flags);
    if (m->meta.n > 0 && m->meta.n < 20)
        buf_printf(t->trace, ", meta %.*s", STR_ARG(m->meta));
    if (m->state == GOSSIP_ST_SUSPECT)
        buf_printf(t->trace, ", accusers %u, until %.3f", m->accusers,
                   (double)(m->suspect_until - BEGIN) / 1e6);
}

static void tell_msg(struct tale *t, const struct gossip_msg *m)
{
    static const char *const kind[] = {
        [GOSSIP_MSG_PING] = "ping",     [GOSSIP_MSG_PING_REQ] = "ask",
        [GOSSIP_MSG_ACK] = "ack",       [GOSSIP_MSG_NACK] = "nack",
        [GOSSIP_MSG_ALIVE] = "alive",   [GOSSIP_MSG_SUSPECT] = "suspect",
        [GOSSIP_MSG_DEAD] = "dead",     [GOSSIP_MSG_LEFT] = "left",
        [GOSSIP_MSG_ROW] = "row",       [GOSSIP_MSG_HINT] = "hint",
        [GOSSIP_MSG_SYNC] = "sync",     [GOSSIP_MSG_MEMBER] = "member",
        [GOSSIP_MSG_DIGEST] = "digest", [GOSSIP_MSG_SHARED] = "shared",
        [GOSSIP_MSG_DELTA] = "delta",
    };
    static const char *const phase[] = {"", " ask", " reply", " finish"};
    const char *k = m->kind < countof(kind) && kind[m->kind] != NULL ? kind[m->kind] : "unknown";
    buf_printf(t->trace, "%s", k);
    if (m->kind == GOSSIP_MSG_SYNC)
        buf_printf(t->trace, "%s%s", phase[(unsigned)m->state & 3],
                   m->flags & GOSSIP_SYNC_MORE ? " more" : "");
    else if (m->kind == GOSSIP_MSG_ROW || m->kind == GOSSIP_MSG_HINT)
        buf_printf(t->trace, " %u/%.*s", m->space, STR_ARG(m->key));
    else if (m->kind == GOSSIP_MSG_DIGEST)
        buf_printf(t->trace, " %s up to %llu", name_of(t, &m->uuid), (unsigned long long)m->seq);
    else if (m->kind == GOSSIP_MSG_SHARED)
        buf_printf(t->trace, " %zu", m->bytes.n / 20);
    else if (m->kind != GOSSIP_MSG_NACK)
        buf_printf(t->trace, " %s", name_of(t, &m->uuid));
    if (m->kind >= GOSSIP_MSG_ACK && m->kind <= GOSSIP_MSG_LEFT && m->kind != GOSSIP_MSG_NACK)
        buf_printf(t->trace, " inc %u", m->inc);
    if (m->kind == GOSSIP_MSG_MEMBER && m->state == GOSSIP_ST_SUSPECT)
        buf_printf(t->trace, " suspect");
    if (m->kind == GOSSIP_MSG_SUSPECT || m->kind == GOSSIP_MSG_DEAD ||
        (m->kind == GOSSIP_MSG_MEMBER && m->state == GOSSIP_ST_SUSPECT))
        buf_printf(t->trace, " by %s", name_of(t, &m->from));
}

static void tell_packet(struct tale *t, unsigned who, const struct gossip_effect *e)
{
    struct codec_cursor c = codec_cursor_of(gossip_effect_bytes(&t->net->out, e));
    struct gossip_head h;
    const char *sep = "";
    if (!gossip_head_decode(&c, &h))
        return;
    begin_line(t, who);
    if (e->kind == GOSSIP_OUT_PACKET)
        buf_printf(t->trace, "to %c ", name_at(t, &e->addr));
    else if (e->kind == GOSSIP_OUT_STREAM_OPEN)
        buf_printf(t->trace, "opens a stream to %c ", name_at(t, &e->addr));
    else
        buf_printf(t->trace, "on the stream ");
    for (struct gossip_msg m; gossip_msg_next(&c, &m); sep = "; ") {
        buf_printf(t->trace, "%s", sep);
        tell_msg(t, &m);
    }
    buf_printf(t->trace, "\n");
}

static void tell_about(struct tale *t, unsigned who, const struct gossip_effect *e)
{
    const struct gossip_member *m = gossip_member_find(t->net->node[who].g, &e->uuid);
    begin_line(t, who);
    if (e->kind == GOSSIP_OUT_DEAD && (m == NULL || m->epoch != e->epoch))
        buf_printf(t->trace, "epoch %lld of %s has ended", since(e->epoch), name_of(t, &e->uuid));
    else if (e->kind == GOSSIP_OUT_FORGOTTEN || m == NULL)
        buf_printf(t->trace, "%s is forgotten", name_of(t, &e->uuid));
    else
        tell_member(t, m);
    buf_printf(t->trace, "\n");
}

static void tell_simple(struct tale *t, unsigned who, const struct gossip_effect *e)
{
    begin_line(t, who);
    if (e->kind == GOSSIP_OUT_JOINED)
        buf_printf(t->trace, "joined\n");
    else if (e->kind == GOSSIP_OUT_ALONE)
        buf_printf(t->trace, "alone\n");
    else if (e->kind == GOSSIP_OUT_ISOLATED)
        buf_printf(t->trace, "is isolated\n");
    else if (e->kind == GOSSIP_OUT_RECOVERED)
        buf_printf(t->trace, "is no longer isolated\n");
    else if (e->kind == GOSSIP_OUT_REFUTED)
        buf_printf(t->trace, "refutes, accused by %s, now inc %u\n", name_of(t, &e->uuid),
                   gossip_self(t->net->node[who].g)->inc);
    else if (e->kind == GOSSIP_OUT_STALLED)
        buf_printf(t->trace, "slept for %.1f s\n", (double)e->epoch / 1e6);
    else if (e->kind == GOSSIP_OUT_SKEW && e->flags == GOSSIP_SKEW_VERSION)
        buf_printf(t->trace, "%s speaks versions %llu to %llu, which do not fit\n",
                   name_of(t, &e->uuid), (unsigned long long)(e->epoch >> 16),
                   (unsigned long long)(e->epoch & 0xFFFF));
    else if (e->kind == GOSSIP_OUT_SKEW)
        buf_printf(t->trace, "the clock of %s is wrong\n", name_of(t, &e->uuid));
    else if (e->kind == GOSSIP_OUT_STREAM_ONLY)
        buf_printf(t->trace, "%s answers over streams only\n", name_of(t, &e->uuid));
    else if (e->kind == GOSSIP_OUT_DUPLICATE)
        buf_printf(t->trace, "must stop: its identity runs at %c, port %u\n", name_at(t, &e->addr),
                   e->addr.port);
    else
        buf_printf(t->trace, "may go\n");
}

static void watch(struct gossip_net *n, unsigned who, const struct gossip_effect *e)
{
    struct tale *t = container_of(n->w, struct tale, w);
    if (!t->is_watched[who])
        return;
    switch (e->kind) {
    case GOSSIP_OUT_PACKET:
    case GOSSIP_OUT_STREAM_OPEN:
    case GOSSIP_OUT_STREAM_SEND:
        if (t->tells_packets)
            tell_packet(t, who, e);
        break;
    case GOSSIP_OUT_STREAM_CLOSE:
        break;
    case GOSSIP_OUT_ALIVE:
    case GOSSIP_OUT_SUSPECT:
    case GOSSIP_OUT_DEAD:
    case GOSSIP_OUT_LEFT:
    case GOSSIP_OUT_UPDATED:
    case GOSSIP_OUT_FORGOTTEN:
        tell_about(t, who, e);
        break;
    case GOSSIP_OUT_ROW:
    case GOSSIP_OUT_SHARED:
        begin_line(t, who);
        if (e->kind == GOSSIP_OUT_SHARED)
            buf_printf(t->trace, "to disk ");
        tell_row(t, &e->row);
        buf_printf(t->trace, "\n");
        break;
    case GOSSIP_OUT_JOINED:
    case GOSSIP_OUT_ALONE:
    case GOSSIP_OUT_ISOLATED:
    case GOSSIP_OUT_RECOVERED:
    case GOSSIP_OUT_REFUTED:
    case GOSSIP_OUT_STALLED:
    case GOSSIP_OUT_SKEW:
    case GOSSIP_OUT_STREAM_ONLY:
    case GOSSIP_OUT_DUPLICATE:
    case GOSSIP_OUT_GONE:
        tell_simple(t, who, e);
        break;
    }
}

/* --- commands --- */

typedef void command(struct tale *t, struct str line);

static void cmd_nodes(struct tale *t, struct str line)
{
    struct str rest = line, word = line;
    uint64_t count = 0;
    while (str_next(&rest, ' ', &word))
        (void)str_to_u64(word, &count);
    must(count > 0 && count <= NODES);
    gossip_net_init(t->net, &t->w, (unsigned)count);
    t->net->check_every = 1;
    t->net->watch = watch;
}

static void cmd_set(struct tale *t, struct str line)
{
    struct net_node *x = &t->net->node[node_of(t, line, "of")];
    x->version_min = (uint16_t)story_num(line, "min", x->version_min);
    x->version_max = (uint16_t)story_num(line, "max", x->version_max);
    struct str skew = story_str(line, "skew", "0");
    bool is_behind = str_has_prefix(skew, STR("-"));
    uint64_t s = 0;
    (void)str_to_u64(is_behind ? str_view(skew.p + 1, skew.n - 1) : skew, &s);
    x->skew = (is_behind ? -1 : 1) * (int64_t)(s * USEC_SEC);
}

static void cmd_start(struct tale *t, struct str line)
{
    unsigned seed[NODES], count = 0;
    size_t at = 0;
    struct str name;
    while (story_next(line, "seed", &at, &name))
        seed[count++] = node_named(t, name);
    for (unsigned i = 1; i < count; i++)
        must(seed[i] == seed[i - 1] + 1);
    at = 0;
    while (story_next(line, "of", &at, &name))
        gossip_net_start(t->net, node_named(t, name), count > 0 ? seed[0] : 0, count);
}

static void cmd_kill(struct tale *t, struct str line)
{
    gossip_net_kill(t->net, node_of(t, line, "of"));
}

static void step(struct tale *t, struct str line, struct gossip_event ev)
{
    gossip_net_step(t->net, node_of(t, line, "of"), &ev);
}

static void cmd_leave(struct tale *t, struct str line)
{
    step(t, line, (struct gossip_event){.kind = GOSSIP_EV_LEAVE});
}

static void cmd_wipe(struct tale *t, struct str line)
{
    unsigned i = node_of(t, line, "of");
    must(t->old_count < OLD);
    t->old[t->old_count].uuid = t->net->node[i].uuid;
    t->old[t->old_count++].node = i;
    t->net->node[i].uuid.b[0] ^= 0x55;
}

static void cmd_move(struct tale *t, struct str line)
{
    t->net->node[node_of(t, line, "of")].addr.port = (uint16_t)story_num(line, "port", 9999);
}

static void cmd_copy(struct tale *t, struct str line)
{
    struct net_node *to = &t->net->node[node_of(t, line, "of")];
    const struct net_node *from = &t->net->node[node_of(t, line, "from")];
    to->uuid = from->uuid;
    to->epoch = from->epoch;
}

static void cmd_flags(struct tale *t, struct str line)
{
    static const char *const name[] = {"ready", "draining", "degraded", "storage-failed"};
    struct str rest = story_str(line, "is", ""), word;
    uint32_t flags = 0;
    while (str_next(&rest, ',', &word))
        for (unsigned i = 0; i < countof(name); i++)
            flags |= str_eq(word, str_of(name[i])) ? 1u << i : 0;
    step(t, line, (struct gossip_event){.kind = GOSSIP_EV_FLAGS, .flags = flags});
}

static void cmd_meta(struct tale *t, struct str line)
{
    struct gossip_event ev = {.kind = GOSSIP_EV_META, .bytes = story_str(line, "is", "")};
    step(t, line, ev);
}

static void cmd_forget(struct tale *t, struct str line)
{
    unsigned who = node_of(t, line, "who");
    struct gossip_event ev = {.kind = GOSSIP_EV_FORGET, .uuid = t->net->node[who].uuid};
    step(t, line, ev);
}

static void cmd_put(struct tale *t, struct str line)
{
    static char big[65536];
    uint64_t length = story_num(line, "long", 0);
    memset(big, 'x', sizeof big);
    struct gossip_event ev = {
        .kind = GOSSIP_EV_ROW_PUT,
        .space = (uint8_t)story_num(line, "space", 1),
        .key = story_str(line, "key", ""),
        .bytes = length > 0 ? str_view(big, length) : story_str(line, "value", ""),
    };
    step(t, line, ev);
}

static void cmd_del(struct tale *t, struct str line)
{
    struct gossip_event ev = {
        .kind = GOSSIP_EV_ROW_DEL,
        .space = (uint8_t)story_num(line, "space", 1),
        .key = story_str(line, "key", ""),
        .bytes = STR(""),
    };
    step(t, line, ev);
}

static void cmd_run(struct tale *t, struct str line)
{
    world_run(&t->w, t->w.now + story_num(line, "ms", 0) * USEC_MSEC, NULL);
}

static void cmd_until(struct tale *t, struct str line)
{
    usec_t end = t->w.now + story_num(line, "ms", 30000) * USEC_MSEC;
    bool same = str_eq(story_str(line, "what", "agree"), STR("same"));
    while (!gossip_net_agrees(t->net) || (same && !gossip_net_same_table(t->net))) {
        if (t->w.now >= end || t->w.failure[0] != 0) {
            buf_printf(t->trace, "! not within the limit\n");
            return;
        }
        world_run(&t->w, t->w.now + 10 * USEC_MSEC, NULL);
    }
}

static void cmd_group(struct tale *t, struct str line)
{
    struct str name;
    for (size_t at = 0; story_next(line, "of", &at, &name);)
        t->net->node[node_named(t, name)].group = (unsigned)story_num(line, "is", 1);
}

static void cmd_mute(struct tale *t, struct str line)
{
    t->net->node[node_of(t, line, "of")].is_mute = true;
}

static void cmd_deaf(struct tale *t, struct str line)
{
    t->net->node[node_of(t, line, "of")].is_deaf = true;
}

static void cmd_stall(struct tale *t, struct str line)
{
    unsigned i = node_of(t, line, "of");
    t->net->node[i].stalled_until = t->w.now + story_num(line, "ms", 0) * USEC_MSEC;
}

static void cmd_part(struct tale *t, struct str line)
{
    t->net->cut[0] = true;
    t->net->cut_a = node_of(t, line, "of");
    t->net->cut_b = node_of(t, line, "from");
}

static void cmd_block(struct tale *t, struct str line)
{
    t->net->udp_blocked = true;
    t->net->cut_a = node_of(t, line, "of");
}

static void cmd_whole(struct tale *t, struct str line)
{
    (void)line;
    t->net->cut[0] = t->net->udp_blocked = false;
    for (unsigned i = 0; i < t->net->count; i++) {
        t->net->node[i].group = 0;
        t->net->node[i].is_mute = t->net->node[i].is_deaf = false;
    }
}

static void cmd_watch(struct tale *t, struct str line)
{
    struct str name;
    memset(t->is_watched, 0, sizeof t->is_watched);
    for (size_t at = 0; story_next(line, "of", &at, &name);)
        t->is_watched[node_named(t, name)] = true;
}

static void cmd_packets(struct tale *t, struct str line)
{
    t->tells_packets = str_eq(story_str(line, "is", "on"), STR("on"));
}

static void cmd_show(struct tale *t, struct str line)
{
    const struct gossip *g = t->net->node[node_of(t, line, "of")].g;
    for (unsigned i = 0; i < t->net->count + t->old_count; i++) {
        const struct uuid *u =
            i < t->net->count ? &t->net->node[i].uuid : &t->old[i - t->net->count].uuid;
        const struct gossip_member *m = gossip_member_find(g, u);
        if (m == NULL)
            continue;
        buf_printf(t->trace, "  ");
        tell_member(t, m);
        buf_printf(t->trace, "\n");
    }
}

static void cmd_rows(struct tale *t, struct str line)
{
    const struct gossip_table *table = gossip_table_of(t->net->node[node_of(t, line, "of")].g);
    const struct gossip_row *r;
    for (unsigned space = 1; space < 256; space++)
        for (size_t at = 0; (r = gossip_table_next(table, (uint8_t)space, STR(""), &at)) != NULL;) {
            buf_printf(t->trace, "  ");
            tell_row(t, r);
            buf_printf(t->trace, "\n");
        }
}

static void cmd_health(struct tale *t, struct str line)
{
    struct gossip_stats s;
    gossip_stats_get(t->net->node[node_of(t, line, "of")].g, &s);
    buf_printf(t->trace, "  score %u, false deaths %llu, probes over streams %llu, indirect %llu\n",
               s.score, (unsigned long long)s.false_deaths, (unsigned long long)s.probes_stream,
               (unsigned long long)s.probes_indirect);
}

static uint8_t kind_named(struct str name)
{
    static const char *const kind[] = {"",      "ping",    "ask",  "ack",  "nack",
                                       "alive", "suspect", "dead", "left", "row"};
    for (uint8_t i = 1; i < countof(kind); i++)
        if (str_eq(name, str_of(kind[i])))
            return i;
    printf("no such kind: %.*s\n", STR_ARG(name));
    return 0;
}

static void cmd_say(struct tale *t, struct str line)
{
    unsigned to = node_of(t, line, "to");
    const struct net_node *by = &t->net->node[node_of(t, line, "by")];
    const struct net_node *who = &t->net->node[node_of(t, line, "who")];
    struct gossip_head h = {
        .uuid = by->uuid,
        .epoch = by->epoch,
        .hlc = (BEGIN_MS + (t->w.now - BEGIN) / USEC_MSEC) << 16,
    };
    struct gossip_msg m = {
        .kind = kind_named(story_str(line, "kind", "")),
        .uuid = who->uuid,
        .from = by->uuid,
        .epoch = story_has(line, "epoch") ? BEGIN_MS + story_num(line, "epoch", 0) : who->epoch,
        .inc = (uint32_t)story_num(line, "inc", 0),
        .seq = story_num(line, "seq", 0),
        .addr = who->addr,
        .version_min = 1,
        .version_max = 1,
        .space = (uint8_t)story_num(line, "space", 1),
        .key = story_str(line, "key", ""),
        .bytes = story_str(line, "value", ""),
        .version = (BEGIN_MS + story_num(line, "version", 0)) << 16,
    };
    m.addr.port = (uint16_t)story_num(line, "port", who->addr.port);
    if (m.kind != GOSSIP_MSG_ALIVE)
        m.addr.port = 0;
    struct buf b = {0};
    gossip_head_encode(&b, &h);
    gossip_msg_encode(&b, &m);
    struct gossip_event ev = {.kind = GOSSIP_EV_PACKET, .addr = by->addr, .bytes = buf_str(&b)};
    gossip_net_step(t->net, to, &ev);
    buf_deinit(&b);
}

/* --- the player --- */

static void *begin(void)
{
    struct tale *t = mem_new(sizeof *t);
    t->net = mem_new(sizeof *t->net);
    world_init(&t->w, 1, t->net);
    t->net->w = &t->w;
    for (unsigned i = 0; i < NODES; i++)
        t->is_watched[i] = true;
    return t;
}

static void end(void *world)
{
    struct tale *t = world;
    gossip_net_deinit(t->net);
    mem_free(t->net);
    mem_free(t);
}

static void play(void *world, struct str line, struct buf *trace)
{
    static const struct {
        const char *verb;
        command *run;
    } verb[] = {
        {"nodes", cmd_nodes}, {"set", cmd_set},       {"start", cmd_start},
        {"kill", cmd_kill},   {"leave", cmd_leave},   {"wipe", cmd_wipe},
        {"move", cmd_move},   {"copy", cmd_copy},     {"flags", cmd_flags},
        {"meta", cmd_meta},   {"forget", cmd_forget}, {"put", cmd_put},
        {"del", cmd_del},     {"run", cmd_run},       {"until", cmd_until},
        {"group", cmd_group}, {"mute", cmd_mute},     {"deaf", cmd_deaf},
        {"stall", cmd_stall}, {"part", cmd_part},     {"block", cmd_block},
        {"whole", cmd_whole}, {"watch", cmd_watch},   {"packets", cmd_packets},
        {"show", cmd_show},   {"rows", cmd_rows},     {"health", cmd_health},
        {"say", cmd_say},
    };
    struct tale *t = world;
    t->trace = trace;
    for (size_t i = 0; i < countof(verb); i++)
        if (str_eq(story_verb(line), str_of(verb[i].verb))) {
            verb[i].run(t, line);
            if (t->w.failure[0] != 0)
                buf_printf(trace, "! %s\n", t->w.failure);
            return;
        }
    buf_printf(trace, "! no such command\n");
}

int main(void)
{
    return story_play("tests/golden/gossip", begin, play, end);
}
