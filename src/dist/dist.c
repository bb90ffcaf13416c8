/* The machine of routes: commands into the index and into rows.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Invariants:
 *   1. The routes this machine owns in the index are exactly those of its rows.
 *   2. A command is decoded whole before anything of it is done.
 *   3. Nothing outside the bounds is touched.
 * It keeps no state of its own, marks nobody dead and never looks at is_dead: that is the host's
 * view of the cluster, not the replicated state. */
#include "dist/dist.h"

#include "base/crc.h"
#include "base/hash.h"
#include "base/mem.h"
#include "codec/record.h"
#include "dist/wire_priv.h"

enum {
    KIND_COMMAND = 0xD1,
    KIND_ROW = 0xD2,
    KIND_COLLECT = 0xD3,
    KIND_STAT = 0xD4,
    KIND_MATCH = 0xD5,
    KIND_COLLECTED = 0xD6,
    VERSION = 1,
};

enum { /* fields of all of them */
       TAG_ADD = 1,
       TAG_DEL,
       TAG_NODE,
       TAG_EPOCH,
       TAG_AT,
       TAG_MAX,
       TAG_TENANT,
       TAG_TOPIC,
       TAG_COUNT,
};

#define COLLECT_STEP 256      /* filters; small, so that a reply stays near route_max */
#define COLLECT_FILTERS 16384 /* inspected by one query: some milliseconds */
#define STATE_SEED 0x64697374 /* fixed: a state hash is compared between processes */

struct machine {
    struct dist_index *index;
    uint16_t owner;
    struct str start, end;
    bool is_open;
    struct buf scratch;
};

/* --- keys ---------------------------------------------------------------------------------------
 */

static uint8_t bucket_of(struct str filter)
{
    return (uint8_t)(crc_update(0, filter.p, filter.n) >> 24);
}

void dist_key(struct buf *out, struct str tenant, struct str filter)
{
    buf_put_str(out, tenant);
    buf_put_u8(out, 0);
    buf_put_u8(out, bucket_of(filter));
    buf_put_str(out, filter);
    buf_put_u8(out, 0);
}

void dist_key_tenant(struct buf *from, struct buf *to, struct str tenant)
{
    buf_put_str(from, tenant);
    buf_put_u8(from, 0);
    buf_put_str(to, tenant);
    buf_put_u8(to, 1);
}

static void row_key(struct buf *out, const struct dist_route *r)
{
    dist_key(out, r->tenant, r->filter);
    if (r->share != DIST_SHARE_NONE) {
        buf_put_u8(out, r->share == DIST_SHARE_UNORDERED ? 's' : 'o');
        buf_put_str(out, r->group);
        buf_put_u8(out, 0);
    }
    buf_put_u8(out, r->kind == DIST_KIND_NODE ? 'n' : r->kind == DIST_KIND_INBOX ? 'p' : 't');
    if (r->kind != DIST_KIND_INBOX) {
        buf_put(out, r->node.b, sizeof r->node.b);
        buf_put_u64(out, r->epoch);
    }
    buf_put_str(out, r->client);
}

static bool is_inside(struct machine *m, struct str tenant, struct str filter)
{
    m->scratch.n = 0;
    dist_key(&m->scratch, tenant, filter);
    struct str key = buf_str(&m->scratch);
    return str_cmp(m->start, key) <= 0 && (m->is_open || str_cmp(key, m->end) < 0);
}

/* --- commands -----------------------------------------------------------------------------------
 */

void dist_command_begin(struct buf *out)
{
    codec_record_begin(out, KIND_COMMAND, VERSION);
}

void dist_command_add(struct buf *out, const struct dist_route *r, uint32_t member_max)
{
    dist_wire_put(out, TAG_ADD, r, member_max);
}

void dist_command_del(struct buf *out, const struct dist_route *r)
{
    dist_wire_put(out, TAG_DEL, r, 0);
}

static bool head_is(struct codec_cursor *c, uint8_t want)
{
    uint8_t kind, version;
    codec_record_head(c, &kind, &version);
    return !c->bad && kind == want && version == VERSION;
}

static bool node_get(const struct codec_field *f, struct uuid *out)
{
    if (f->tag != TAG_NODE || !f->is_bytes || f->bytes.n != sizeof out->b)
        return false;
    memcpy(out->b, f->bytes.p, sizeof out->b);
    return true;
}

static bool is_command(struct str command)
{
    struct codec_cursor c = codec_cursor_of(command);
    struct codec_field f;
    if (!head_is(&c, KIND_COMMAND))
        return false;
    while (codec_record_next(&c, &f)) {
        struct dist_route r;
        uint32_t member_max;
        if ((f.tag == TAG_ADD || f.tag == TAG_DEL) &&
            (!f.is_bytes || !dist_wire_get(f.bytes, &r, &member_max)))
            return false;
    }
    return !c.bad;
}

/* One operation: the index decides, rows follow. */
static uint8_t apply_one(struct machine *m, const struct codec_field *f, struct range_out *out)
{
    struct dist_route r;
    uint32_t member_max;
    must(dist_wire_get(f->bytes, &r, &member_max));
    if (!is_inside(m, r.tenant, r.filter))
        return DIST_REPLY_MOVED;
    int got = f->tag == TAG_ADD ? dist_index_add(m->index, m->owner, &r, member_max)
                                : dist_index_del(m->index, m->owner, &r);
    if (got != 0)
        return (uint8_t)got;
    struct buf key = {0}, value = {0};
    row_key(&key, &r);
    if (f->tag == TAG_ADD) {
        codec_record_begin(&value, KIND_ROW, VERSION);
        dist_wire_put(&value, TAG_ADD, &r, 0);
        range_out_put(out, buf_str(&key), buf_str(&value));
    } else {
        range_out_del(out, buf_str(&key));
    }
    buf_deinit(&key);
    buf_deinit(&value);
    return 0;
}

static void apply(void *arg, const struct range_apply *in, struct range_out *out)
{
    struct machine *m = arg;
    if (!is_command(in->command))
        return;
    struct codec_cursor c = codec_cursor_of(in->command);
    struct codec_field f;
    struct dist_collected dead = {.count = 0};
    bool is_collecting = false;
    (void)head_is(&c, KIND_COMMAND);
    while (codec_record_next(&c, &f)) {
        if (f.tag == TAG_ADD || f.tag == TAG_DEL) {
            uint8_t got = apply_one(m, &f, out);
            dead.count += got == 0;
            buf_put_u8(&out->reply, got);
        } else if (node_get(&f, &dead.node)) {
            is_collecting = true;
        } else if (f.tag == TAG_EPOCH && !f.is_bytes) {
            dead.epoch = f.u64;
        }
    }
    if (is_collecting && dead.count > 0 && in->has_host) {
        struct buf effect = {0};
        codec_record_begin(&effect, KIND_COLLECTED, VERSION);
        codec_record_bytes(&effect, TAG_NODE, str_view(dead.node.b, sizeof dead.node.b));
        codec_record_u64(&effect, TAG_EPOCH, dead.epoch);
        codec_record_u64(&effect, TAG_COUNT, dead.count);
        range_out_effect(out, buf_str(&effect));
        buf_deinit(&effect);
    }
}

bool dist_effect_decode(struct str effect, struct dist_collected *out)
{
    struct codec_cursor c = codec_cursor_of(effect);
    struct codec_field f;
    *out = (struct dist_collected){.count = 0};
    if (!head_is(&c, KIND_COLLECTED))
        return false;
    while (codec_record_next(&c, &f)) {
        if (f.is_bytes)
            (void)node_get(&f, &out->node);
        else if (f.tag == TAG_EPOCH)
            out->epoch = f.u64;
        else if (f.tag == TAG_COUNT)
            out->count = f.u64;
    }
    return !c.bad;
}

/* --- life ---------------------------------------------------------------------------------------
 */

static struct machine *machine_of(struct dist_index *x)
{
    struct machine *m = mem_new(sizeof *m);
    m->index = x;
    m->owner = dist_index_owner(m->index);
    m->is_open = true;
    return m;
}

static void *machine_new(void *conf)
{
    return machine_of(((const struct dist_conf *)conf)->index);
}

static void forget_bounds(struct machine *m)
{
    mem_free((void *)(uintptr_t)m->start.p);
    mem_free((void *)(uintptr_t)m->end.p);
    m->start = m->end = (struct str){NULL, 0};
}

static void machine_free(void *arg)
{
    struct machine *m = arg;
    dist_index_owner_end(m->index, m->owner);
    forget_bounds(m);
    buf_deinit(&m->scratch);
    mem_free(m);
}

static void set_bounds(struct machine *m, const struct range_bounds *b)
{
    forget_bounds(m);
    m->start = str_dup(b->start);
    m->end = str_dup(b->end);
    m->is_open = b->is_open;
}

static void machine_reset(void *arg, const struct range_bounds *b)
{
    struct machine *m = arg;
    set_bounds(m, b);
    dist_index_reload_begin(m->index, m->owner);
}

static void load(void *arg, struct str key, struct str value)
{
    struct machine *m = arg;
    struct codec_cursor c = codec_cursor_of(value);
    struct codec_field f;
    (void)key;
    if (!head_is(&c, KIND_ROW))
        return;
    while (codec_record_next(&c, &f)) {
        struct dist_route r;
        uint32_t member_max;
        if (f.tag == TAG_ADD && f.is_bytes && dist_wire_get(f.bytes, &r, &member_max)) {
            /* what is no route was never written by us: damage is the engine's to find */
            if (dist_index_add(m->index, m->owner, &r, 0) == DIST_E_INVALID)
                return;
        }
    }
}

static bool is_ours(void *arg, struct str tenant, struct str filter)
{
    return is_inside(arg, tenant, filter);
}

static void loaded(void *arg)
{
    struct machine *m = arg;
    dist_index_reload_end(m->index, m->owner, is_ours, m);
}

/* The routes stay where they are and get another owner. */
static void *split(void *arg, const struct range_bounds *left, const struct range_bounds *right)
{
    struct machine *m = arg, *out = machine_of(m->index);
    set_bounds(m, left);
    set_bounds(out, right);
    dist_index_cut(m->index, m->owner, out->owner, is_ours, out);
    return out;
}

/* --- queries ------------------------------------------------------------------------------------
 */

void dist_query_collect(struct buf *out, const struct uuid *node, uint64_t epoch, uint64_t at,
                        uint32_t route_max)
{
    codec_record_begin(out, KIND_COLLECT, VERSION);
    codec_record_bytes(out, TAG_NODE, str_view(node->b, sizeof node->b));
    codec_record_u64(out, TAG_EPOCH, epoch);
    codec_record_u64(out, TAG_AT, at);
    codec_record_u64(out, TAG_MAX, route_max);
}

void dist_query_stat(struct buf *out, struct str tenant)
{
    codec_record_begin(out, KIND_STAT, VERSION);
    codec_record_bytes(out, TAG_TENANT, tenant);
}

void dist_query_match(struct buf *out, struct str tenant, struct str topic)
{
    codec_record_begin(out, KIND_MATCH, VERSION);
    codec_record_bytes(out, TAG_TENANT, tenant);
    codec_record_bytes(out, TAG_TOPIC, topic);
}

struct request {
    struct uuid node;
    uint64_t epoch, at, max;
    struct str tenant, topic;
};

static bool request_get(struct codec_cursor *c, struct request *out)
{
    struct codec_field f;
    *out = (struct request){.max = 1};
    while (codec_record_next(c, &f)) {
        if (f.is_bytes && f.tag == TAG_TENANT)
            out->tenant = f.bytes;
        else if (f.is_bytes && f.tag == TAG_TOPIC)
            out->topic = f.bytes;
        else if (f.is_bytes)
            (void)node_get(&f, &out->node);
        else if (f.tag == TAG_EPOCH)
            out->epoch = f.u64;
        else if (f.tag == TAG_AT)
            out->at = f.u64;
        else if (f.tag == TAG_MAX)
            out->max = f.u64;
    }
    return !c->bad;
}

struct collect {
    const struct request *q;
    struct buf command;
    uint64_t count;
};

static void collect_route(void *arg, const struct dist_route *r)
{
    struct collect *c = arg;
    if (r->kind == DIST_KIND_INBOX || r->epoch != c->q->epoch || !uuid_eq(&r->node, &c->q->node))
        return;
    if (c->count++ == 0) {
        dist_command_begin(&c->command);
        codec_record_bytes(&c->command, TAG_NODE, str_view(r->node.b, sizeof r->node.b));
        codec_record_u64(&c->command, TAG_EPOCH, r->epoch);
    }
    dist_command_del(&c->command, r);
}

static void query_collect(const struct machine *m, const struct request *q, struct buf *reply)
{
    struct collect c = {.q = q};
    uint64_t at = q->at;
    size_t seen = 0;
    do {
        dist_index_walk(m->index, m->owner, &at, COLLECT_STEP, collect_route, &c);
        seen += COLLECT_STEP;
    } while (at != 0 && c.count < q->max && seen < COLLECT_FILTERS);
    buf_put_varint(reply, at);
    buf_put_str(reply, buf_str(&c.command));
    buf_deinit(&c.command);
}

bool dist_reply_collect(struct str reply, uint64_t *out_at, struct str *out_command)
{
    struct codec_cursor c = codec_cursor_of(reply);
    *out_at = codec_cursor_varint(&c);
    *out_command = codec_cursor_bytes(&c, codec_cursor_left(&c));
    return !c.bad;
}

static void query_stat(const struct machine *m, const struct request *q, struct buf *reply)
{
    struct dist_tenant_stat s;
    if (q->tenant.n > 0) {
        dist_index_tenant_stat(m->index, q->tenant, &s);
    } else {
        struct dist_index_stat all;
        dist_index_stat(m->index, &all);
        s = (struct dist_tenant_stat){all.filters, all.node_routes + all.inbox_routes, all.groups,
                                      all.members};
    }
    buf_put_varint(reply, s.filters);
    buf_put_varint(reply, s.routes);
    buf_put_varint(reply, s.groups);
    buf_put_varint(reply, s.members);
}

bool dist_reply_stat(struct str reply, struct dist_tenant_stat *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    out->filters = codec_cursor_varint(&c);
    out->routes = codec_cursor_varint(&c);
    out->groups = codec_cursor_varint(&c);
    out->members = codec_cursor_varint(&c);
    return !c.bad;
}

static void put_receiver(struct buf *reply, struct dist_route *r, const struct dist_receiver *c)
{
    dist_receiver_route(c, r);
    if (dist_receiver_is_live(c))
        dist_wire_put(reply, TAG_ADD, r, 0);
}

static void put_filter(struct machine *m, struct buf *reply, const struct dist_filter *f,
                       char *text)
{
    struct str filter = {text, dist_filter_text(f, text)};
    struct dist_route r = {.tenant = dist_filter_tenant(f), .filter = filter};
    if (!is_inside(m, r.tenant, filter))
        return;
    const struct dist_node *n = dist_filter_node(f);
    if (n != NULL) {
        struct dist_route first = r;
        first.kind = DIST_KIND_NODE;
        first.node = n->uuid;
        first.epoch = n->epoch;
        dist_wire_put(reply, TAG_ADD, &first, 0);
    }
    const struct dist_receiver *c = dist_filter_receivers(f);
    for (; c != NULL; c = dist_receiver_next(c))
        put_receiver(reply, &r, c);
    const struct dist_group *g = dist_filter_groups(f);
    for (; g != NULL; g = dist_group_next(g)) {
        const struct dist_members *all = dist_group_members(g);
        r.share = (enum dist_share)g->share;
        r.group = str_view(g->name, g->name_len);
        for (uint32_t i = 0; i < all->count; i++)
            put_receiver(reply, &r, all->member[i]);
    }
}

/* Of this range only: of what else is in the index here, another knows the present state. */
static void query_match(struct machine *m, const struct request *q, struct buf *reply)
{
    struct dist_match found = {0};
    dist_index_match(m->index, q->tenant, q->topic, &found);
    char *text = mem_alloc(DIST_TEXT_MAX);
    for (size_t i = 0; i < found.count; i++)
        put_filter(m, reply, found.filter[i], text);
    mem_free(text);
    dist_match_deinit(&found);
}

bool dist_reply_match(struct dist_reply_cursor *c, struct dist_route *out)
{
    struct codec_cursor at = codec_cursor_of(c->rest);
    struct codec_field f;
    uint32_t member_max;
    bool is_one = codec_record_next(&at, &f);
    c->is_bad = at.bad || (is_one && (!f.is_bytes || !dist_wire_get(f.bytes, out, &member_max)));
    c->rest = str_view(at.p, codec_cursor_left(&at));
    return is_one && !c->is_bad;
}

static int query(void *arg, uint64_t hlc, struct str request, struct buf *reply,
                 struct range_scan *scan)
{
    struct machine *m = arg;
    struct codec_cursor c = codec_cursor_of(request);
    struct request q;
    uint8_t kind, version;
    (void)hlc;
    (void)scan;
    codec_record_head(&c, &kind, &version);
    if (c.bad || version != VERSION || !request_get(&c, &q))
        return RANGE_QUERY_E_INVALID;
    if (kind == KIND_COLLECT)
        query_collect(m, &q, reply);
    else if (kind == KIND_STAT)
        query_stat(m, &q, reply);
    else if (kind == KIND_MATCH)
        query_match(m, &q, reply);
    else
        return RANGE_QUERY_E_INVALID;
    return 0;
}

/* --- what the range asks ------------------------------------------------------------------------
 */

/* Between two buckets of a tenant: the one of wish, or the next when that is where we begin. */
static void split_key(void *arg, struct str wish, struct buf *out_key)
{
    const struct machine *m = arg;
    const char *nul = wish.n > 0 ? memchr(wish.p, 0, wish.n) : NULL;
    if (nul == NULL || nul + 1 == wish.p + wish.n)
        return;
    uint8_t bucket = (uint8_t)nul[1];
    struct buf key = {0};
    buf_put(&key, wish.p, (size_t)(nul - wish.p) + 2);
    if (str_cmp(buf_str(&key), m->start) <= 0 && bucket < UINT8_MAX)
        key.p[key.n - 1]++;
    if (str_cmp(m->start, buf_str(&key)) < 0 && (m->is_open || str_cmp(buf_str(&key), m->end) < 0))
        buf_put_str(out_key, buf_str(&key));
    buf_deinit(&key);
}

/* Members of a shared group are none: of them one receives. */
static size_t receiver(struct str key)
{
    const char *end = key.p + key.n;
    const char *nul = key.n > 0 ? memchr(key.p, 0, key.n) : NULL;
    if (nul == NULL || nul + 2 >= end) /* the bucket may be 0 as well */
        return 0;
    nul = memchr(nul + 2, 0, (size_t)(end - nul - 2));
    if (nul == NULL || nul + 1 == end || (nul[1] != 'n' && nul[1] != 'p'))
        return 0;
    return (size_t)(nul + 1 - key.p);
}

static uint64_t tick(void *arg, uint64_t hlc, struct buf *out_command)
{
    (void)arg;
    (void)hlc;
    (void)out_command;
    return UINT64_MAX; /* dead processes are the host's news */
}

static void fact(void *arg, struct buf *out)
{
    (void)arg;
    (void)out;
}

struct hashing {
    uint64_t sum;
    struct buf one;
};

static void hash_route(void *arg, const struct dist_route *r)
{
    struct hashing *h = arg;
    h->one.n = 0;
    dist_wire_put(&h->one, TAG_ADD, r, 0);
    h->sum += hash_bytes(h->one.p, h->one.n, STATE_SEED); /* in any order */
}

static uint64_t state_hash(void *arg)
{
    const struct machine *m = arg;
    struct hashing h = {.sum = 0};
    uint64_t at = 0;
    dist_index_walk(m->index, m->owner, &at, SIZE_MAX, hash_route, &h);
    buf_deinit(&h.one);
    return hash_u64(h.sum);
}

const struct range_machine_ops *dist_machine(void)
{
    static const struct range_machine_ops ops = {.name = "dist",
                                                 .new = machine_new,
                                                 .free = machine_free,
                                                 .reset = machine_reset,
                                                 .load = load,
                                                 .loaded = loaded,
                                                 .split = split,
                                                 .apply = apply,
                                                 .query = query,
                                                 .split_key = split_key,
                                                 .receiver = receiver,
                                                 .tick = tick,
                                                 .fact = fact,
                                                 .state_hash = state_hash};
    return &ops;
}
