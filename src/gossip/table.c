/* The overlay table.  SPDX-License-Identifier: Apache-2.0
 *
 * All rows lie in one array sorted by (space, key, owner); rows of one owner also in a list by seq.
 *
 * Invariants (gossip_table_check):
 *   T1  the array is strictly ascending.
 *   T2  rows of an owner: strictly ascending seq; all are of the owner's epoch.
 *   T3  the hash is the sum over visible owners and shared rows.
 *   T4  a remembered seq is at most upto + 64, or covered by `ahead`.
 * It never sends anything and never learns the time but from its caller. */
#include "gossip/table_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "gossip/gossip_priv.h"

#define TOMBSTONE_KEEP                                                                             \
    (600 * USEC_SEC) /* of an owner; a peer that is further behind gets a reset */
#define SHARED_TOMBSTONE_KEEP (7 * 86400 * USEC_SEC) /* matters: longer than a node stays away */
#define OWNER_HASH_SEED 0x6f776e6572u                /* does not matter, but for ever */

static int row_cmp(const struct gossip_row *a, uint8_t space, struct str key,
                   const struct uuid *owner)
{
    if (a->space != space)
        return a->space < space ? -1 : 1;
    int r = str_cmp(a->key, key);
    /* a shared key has one row, whoever wrote it */
    return r != 0 || space >= GOSSIP_SPACE_SHARED || owner == NULL ? r : uuid_cmp(&a->owner, owner);
}

/* The first place not before (space, key, owner). */
static size_t lower(const struct gossip_table *t, uint8_t space, struct str key,
                    const struct uuid *owner)
{
    static const struct uuid zero;
    size_t lo = 0, hi = t->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (row_cmp(&t->row[mid]->pub, space, key, owner ? owner : &zero) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct table_row *exact(const struct gossip_table *t, uint8_t space, struct str key,
                               const struct uuid *owner, size_t *out_at)
{
    size_t at = lower(t, space, key, owner);
    *out_at = at;
    bool hit = at < t->count && row_cmp(&t->row[at]->pub, space, key, owner) == 0;
    return hit ? t->row[at] : NULL;
}

static bool is_visible(const struct table_row *r)
{
    return !r->pub.is_tombstone && (r->owner == NULL || r->owner->is_visible);
}

const struct gossip_row *gossip_table_find(const struct gossip_table *t, uint8_t space,
                                           struct str key, const struct uuid *owner)
{
    for (size_t at = lower(t, space, key, owner); at < t->count; at++) {
        const struct table_row *r = t->row[at];
        if (row_cmp(&r->pub, space, key, owner) != 0)
            return NULL;
        if (is_visible(r))
            return &r->pub;
    }
    return NULL;
}

const struct gossip_row *gossip_table_next(const struct gossip_table *t, uint8_t space,
                                           struct str prefix, size_t *at)
{
    for (size_t i = *at > 0 ? *at : lower(t, space, prefix, NULL); i < t->count; i++) {
        const struct table_row *r = t->row[i];
        if (r->pub.space != space || !str_has_prefix(r->pub.key, prefix))
            break;
        if (is_visible(r)) {
            *at = i + 1;
            return &r->pub;
        }
    }
    *at = t->count + 1;
    return NULL;
}

const struct gossip_row *gossip_table_next_shared(const struct gossip_table *t, size_t *at)
{
    while (*at < t->count) {
        const struct gossip_row *r = &t->row[(*at)++]->pub;
        if (r->space >= GOSSIP_SPACE_SHARED)
            return r;
    }
    return NULL;
}

uint64_t gossip_table_hash(const struct gossip_table *t)
{
    return t->hash;
}

size_t gossip_table_count(const struct gossip_table *t)
{
    return t->count;
}

size_t gossip_table_bytes(const struct gossip_table *t)
{
    return t->bytes;
}

/* --- hashes --- */

static uint64_t owner_hash(const struct table_owner *o)
{
    uint64_t h = hash_bytes(o->uuid.b, sizeof o->uuid.b, OWNER_HASH_SEED);
    return o->is_visible && o->upto > 0 ? hash_u64(hash_u64(h ^ o->epoch) + o->upto) : 0;
}

uint64_t gossip_table_key_hash(uint8_t space, struct str key)
{
    return hash_str(key, OWNER_HASH_SEED + space);
}

static uint64_t shared_hash(const struct gossip_row *r)
{
    return hash_u64(gossip_table_key_hash(r->space, r->key) + hash_u64(r->version)) +
           hash_bytes(r->owner.b, sizeof r->owner.b, r->version);
}

/* --- owners --- */

static bool owner_eq(const void *item, const void *key)
{
    return uuid_eq(&((const struct table_owner *)item)->uuid, key);
}

static uint64_t uuid_hash(const struct uuid *u)
{
    return hash_bytes(u->b, sizeof u->b, 0);
}

struct table_owner *gossip_table_owner(const struct gossip_table *t, const struct uuid *uuid)
{
    return map_find(&t->owners, uuid_hash(uuid), owner_eq, uuid);
}

struct table_owner *gossip_table_owner_next(const struct gossip_table *t, size_t *at)
{
    return map_next(&t->owners, at);
}

static struct table_owner *owner_new(struct gossip_table *t, const struct uuid *uuid,
                                     uint64_t epoch)
{
    struct table_owner *o = mem_new(sizeof *o);
    o->uuid = *uuid;
    o->epoch = epoch;
    list_init(&o->by_seq);
    map_put(&t->owners, uuid_hash(uuid), o);
    return o;
}

/* Marks seq as present and moves upto over what is complete. */
static void owner_cover(struct gossip_table *t, struct table_owner *o, uint64_t seq)
{
    if (seq <= o->upto || seq - o->upto > 64)
        return;
    o->ahead |= (uint64_t)1 << (seq - o->upto - 1);
    t->hash -= owner_hash(o);
    while (o->ahead & 1) {
        o->upto++;
        o->ahead >>= 1;
    }
    t->hash += owner_hash(o);
}

static void owner_raise(struct gossip_table *t, struct table_owner *o, uint64_t upto)
{
    if (upto <= o->upto)
        return;
    t->hash -= owner_hash(o);
    uint64_t by = upto - o->upto;
    o->ahead = by >= 64 ? 0 : o->ahead >> by;
    o->upto = upto;
    while (o->ahead & 1) {
        o->upto++;
        o->ahead >>= 1;
    }
    t->hash += owner_hash(o);
}

/* --- rows --- */

static void tell(struct gossip_out *out, enum gossip_effect_kind kind, const struct gossip_row *r,
                 bool gone)
{
    struct gossip_effect *e = gossip_out_add(out, kind);
    e->row = *r;
    e->uuid = r->owner;
    e->epoch = r->epoch;
    e->row.is_tombstone = gone;
}

/* Out of every index, into the trash. */
static void row_drop(struct gossip_table *t, size_t at)
{
    struct table_row *r = t->row[at];
    t->count--;
    memmove(t->row + at, t->row + at + 1, (t->count - at) * sizeof *t->row);
    t->bytes -= r->pub.key.n + r->pub.value.n;
    list_del(&r->by_seq);
    if (r->owner != NULL) {
        r->owner->count--;
    } else {
        t->shared_count--;
        t->hash -= shared_hash(&r->pub);
    }
    list_push_back(&t->trash, &r->by_seq);
}

static void owner_link(struct table_owner *o, struct table_row *r)
{
    struct list *at = &o->by_seq;
    while (at->prev != &o->by_seq &&
           container_of(at->prev, struct table_row, by_seq)->pub.seq > r->pub.seq)
        at = at->prev;
    list_insert(at, &r->by_seq);
    o->count++;
}

static struct table_row *row_new(const struct gossip_row *r, struct table_owner *o, usec_t now)
{
    size_t value_n = r->is_tombstone ? 0 : r->value.n;
    struct table_row *n = mem_alloc(sizeof *n + r->key.n + value_n);
    n->pub = *r;
    n->owner = o;
    n->since = now;
    n->mark = 0;
    memcpy(n->bytes, r->key.p, r->key.n);
    n->pub.key = str_view(n->bytes, r->key.n);
    if (value_n > 0)
        memcpy(n->bytes + r->key.n, r->value.p, value_n);
    n->pub.value = str_view(n->bytes + r->key.n, value_n);
    list_init(&n->by_seq);
    return n;
}

/* Puts r in the place of old (or in a new one) and tells what can be seen of it. */
static struct table_row *row_put(struct gossip_table *t, const struct gossip_row *r,
                                 struct table_owner *o, usec_t now, struct gossip_out *out)
{
    size_t at;
    struct table_row *old = exact(t, r->space, r->key, &r->owner, &at);
    struct table_row *n = row_new(r, o, now);
    bool was_visible = old != NULL && is_visible(old);
    if (old != NULL)
        row_drop(t, at);
    t->row = mem_grow(t->row, &t->cap, t->count + 1, sizeof *t->row);
    memmove(t->row + at + 1, t->row + at, (t->count - at) * sizeof *t->row);
    t->row[at] = n;
    t->count++;
    t->bytes += n->pub.key.n + n->pub.value.n;
    if (o != NULL) {
        owner_link(o, n);
    } else {
        t->shared_count++;
        t->hash += shared_hash(&n->pub);
        tell(out, GOSSIP_OUT_SHARED, &n->pub, n->pub.is_tombstone);
    }
    if (is_visible(n))
        tell(out, GOSSIP_OUT_ROW, &n->pub, false);
    else if (was_visible)
        tell(out, GOSSIP_OUT_ROW, &old->pub, true);
    return n;
}

static void owner_clear(struct gossip_table *t, struct table_owner *o, struct gossip_out *out)
{
    for (size_t i = t->count; i-- > 0;) {
        if (t->row[i]->owner != o)
            continue;
        if (is_visible(t->row[i]))
            tell(out, GOSSIP_OUT_ROW, &t->row[i]->pub, true);
        row_drop(t, i);
    }
    t->hash -= owner_hash(o);
    o->upto = o->ahead = o->floor = 0;
    t->hash += owner_hash(o);
}

/* The owner at this epoch; a newer epoch empties it.  NULL: the epoch is old, or there are too many
 * owners. */
static struct table_owner *owner_at(struct gossip_table *t, const struct uuid *uuid, uint64_t epoch,
                                    struct gossip_out *out)
{
    struct table_owner *o = gossip_table_owner(t, uuid);
    if (o == NULL)
        return t->owners.count < GOSSIP_MEMBER_MAX ? owner_new(t, uuid, epoch) : NULL;
    if (epoch < o->epoch)
        return NULL;
    if (epoch > o->epoch) {
        owner_clear(t, o, out);
        t->hash -= owner_hash(o);
        o->is_visible = false;
        o->epoch = epoch;
        t->hash += owner_hash(o);
    }
    return o;
}

void gossip_table_init(struct gossip_table *t, const struct uuid *self, uint64_t epoch)
{
    *t = (struct gossip_table){.self = *self};
    list_init(&t->trash);
    owner_new(t, self, epoch)->is_visible = true;
}

void gossip_table_sweep(struct gossip_table *t)
{
    for (struct list *it; (it = list_pop_front(&t->trash)) != NULL;)
        mem_free(container_of(it, struct table_row, by_seq));
}

void gossip_table_deinit(struct gossip_table *t)
{
    gossip_table_sweep(t);
    for (size_t i = 0; i < t->count; i++)
        mem_free(t->row[i]);
    mem_free(t->row);
    size_t at = 0;
    for (struct table_owner *o; (o = map_next(&t->owners, &at)) != NULL;)
        mem_free(o);
    map_deinit(&t->owners);
}

static int check_size(const struct gossip_row *r)
{
    bool bad = r->key.n == 0 || r->key.n > GOSSIP_KEY_MAX || r->value.n > GOSSIP_VALUE_MAX;
    return bad ? GOSSIP_TABLE_E_TOO_LONG : 0;
}

/* Compares by what decides between two writers. */
static int shared_cmp(const struct gossip_row *a, const struct gossip_row *b)
{
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    return uuid_cmp(&a->owner, &b->owner);
}

static int shared_apply(struct gossip_table *t, const struct gossip_row *r, usec_t now,
                        struct gossip_out *out)
{
    size_t at;
    const struct table_row *old = exact(t, r->space, r->key, NULL, &at);
    if (old != NULL && shared_cmp(&old->pub, r) >= 0)
        return GOSSIP_TABLE_E_STALE;
    if (old == NULL && t->shared_count >= GOSSIP_SHARED_ROWS_MAX)
        return GOSSIP_TABLE_E_FULL;
    (void)row_put(t, r, NULL, now, out);
    return 0;
}

int gossip_table_write(struct gossip_table *t, const struct gossip_row *r, usec_t now,
                       struct gossip_out *out, const struct gossip_row **out_row)
{
    size_t at;
    int e = check_size(r);
    *out_row = NULL;
    if (e != 0)
        return e;
    struct table_row *old = exact(t, r->space, r->key, &t->self, &at);
    bool is_shared = r->space >= GOSSIP_SPACE_SHARED;
    if (old == NULL ? r->is_tombstone
                    : old->pub.is_tombstone == r->is_tombstone && str_eq(old->pub.value, r->value))
        return 0;
    struct gossip_row n = *r;
    n.owner = t->self;
    if (is_shared) {
        if (old == NULL && t->shared_count >= GOSSIP_SHARED_ROWS_MAX)
            return GOSSIP_TABLE_E_FULL;
        if (old != NULL && n.version <= old->pub.version)
            n.version = old->pub.version + 1;
        n.epoch = n.seq = n.replaces = 0;
        *out_row = &row_put(t, &n, NULL, now, out)->pub;
        return 0;
    }
    struct table_owner *self = gossip_table_owner(t, &t->self);
    if (old == NULL && self->count >= GOSSIP_OWNER_ROWS_MAX)
        return GOSSIP_TABLE_E_FULL;
    n.epoch = self->epoch;
    n.seq = self->upto + 1;
    n.replaces = old != NULL ? old->pub.seq : 0;
    *out_row = &row_put(t, &n, self, now, out)->pub;
    owner_cover(t, self, n.seq);
    return 0;
}

/* Does one of its rows have this number?  From the end: what is new comes last. */
static bool has_seq(const struct table_owner *o, uint64_t seq)
{
    const struct list *at = o->by_seq.prev;
    while (at != &o->by_seq && container_of(at, struct table_row, by_seq)->pub.seq > seq)
        at = at->prev;
    return at != &o->by_seq && container_of(at, struct table_row, by_seq)->pub.seq == seq;
}

int gossip_table_apply(struct gossip_table *t, const struct gossip_row *r, usec_t now,
                       struct gossip_out *out)
{
    size_t at;
    int e = check_size(r);
    if (e != 0)
        return e;
    if (r->space >= GOSSIP_SPACE_SHARED)
        return shared_apply(t, r, now, out);
    if (uuid_eq(&r->owner, &t->self))
        return GOSSIP_TABLE_E_STALE; /* nobody knows our rows better */
    struct table_owner *o = owner_at(t, &r->owner, r->epoch, out);
    if (o == NULL)
        return GOSSIP_TABLE_E_STALE;
    struct table_row *old = exact(t, r->space, r->key, &r->owner, &at);
    if (old != NULL && old->pub.seq >= r->seq) {
        old->mark = t->mark;
        owner_cover(t, o, r->seq);
        return GOSSIP_TABLE_E_STALE;
    }
    if (old == NULL && r->seq <= o->upto)
        return GOSSIP_TABLE_E_STALE; /* deleted since, and the tombstone is forgotten */
    if (has_seq(o, r->seq))
        return GOSSIP_TABLE_E_STALE; /* an owner numbers each change once: one of the two is a lie
                                      */
    if (old == NULL && o->count >= GOSSIP_OWNER_ROWS_MAX)
        return GOSSIP_TABLE_E_FULL;
    row_put(t, r, o, now, out)->mark = t->mark;
    owner_cover(t, o, r->replaces);
    owner_cover(t, o, r->seq);
    return 0;
}

void gossip_table_show(struct gossip_table *t, const struct uuid *uuid, uint64_t epoch,
                       bool visible, struct gossip_out *out)
{
    struct table_owner *o = visible ? owner_at(t, uuid, epoch, out) : gossip_table_owner(t, uuid);
    if (o == NULL || o->epoch != epoch || o->is_visible == visible)
        return;
    t->hash -= owner_hash(o);
    o->is_visible = visible;
    t->hash += owner_hash(o);
    list_each(&o->by_seq, it)
    {
        struct table_row *r = container_of(it, struct table_row, by_seq);
        if (!r->pub.is_tombstone)
            tell(out, GOSSIP_OUT_ROW, &r->pub, !visible);
    }
}

void gossip_table_forget(struct gossip_table *t, const struct uuid *uuid, struct gossip_out *out)
{
    struct table_owner *o = gossip_table_owner(t, uuid);
    if (o == NULL)
        return;
    owner_clear(t, o, out);
    t->hash -= owner_hash(o);
    must(map_del(&t->owners, uuid_hash(uuid), o));
    mem_free(o);
}

bool gossip_table_delta_begin(struct gossip_table *t, const struct uuid *uuid, uint64_t epoch,
                              uint64_t after, struct gossip_out *out)
{
    if (uuid_eq(uuid, &t->self))
        return false;
    struct table_owner *o = owner_at(t, uuid, epoch, out);
    t->mark++;
    return o != NULL && after <= o->upto;
}

void gossip_table_delta_end(struct gossip_table *t, const struct table_delta *d,
                            struct gossip_out *out)
{
    struct table_owner *o = gossip_table_owner(t, d->uuid);
    must(o != NULL);
    for (size_t i = t->count; d->reset && i-- > 0;) {
        struct table_row *r = t->row[i];
        if (r->owner != o || r->pub.seq <= d->after || r->pub.seq > d->upto || r->mark == t->mark)
            continue;
        if (is_visible(r))
            tell(out, GOSSIP_OUT_ROW, &r->pub, true);
        row_drop(t, i);
    }
    /* whoever is behind the sender's floor cannot learn those deletions from us either */
    if (d->reset && d->floor > o->floor)
        o->floor = d->floor;
    owner_raise(t, o, d->upto);
}

void gossip_table_expire(struct gossip_table *t, usec_t now, usec_t wall)
{
    for (size_t i = t->count; i-- > 0;) {
        struct table_row *r = t->row[i];
        if (!r->pub.is_tombstone)
            continue;
        if (r->owner == NULL) {
            if (usec_add(hlc_ms(r->pub.version) * USEC_MSEC, SHARED_TOMBSTONE_KEEP) < wall)
                row_drop(t, i);
        } else if (r->since + TOMBSTONE_KEEP < now && r->pub.seq <= r->owner->upto) {
            if (r->pub.seq > r->owner->floor)
                r->owner->floor = r->pub.seq;
            row_drop(t, i);
        }
    }
}

void gossip_table_check(const struct gossip_table *t)
{
    uint64_t hash = 0;
    size_t at = 0, shared = 0, counted = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct gossip_row *r = &t->row[i]->pub;
        must(i == 0 || row_cmp(&t->row[i - 1]->pub, r->space, r->key, &r->owner) < 0); /* T1 */
        if (r->space < GOSSIP_SPACE_SHARED)
            continue;
        hash += shared_hash(r);
        shared++;
    }
    for (const struct table_owner *o; (o = map_next(&t->owners, &at)) != NULL;) {
        uint64_t seq = 0;
        hash += owner_hash(o);
        list_each(&((struct table_owner *)(uintptr_t)o)->by_seq, it)
        {
            const struct table_row *r = container_of(it, struct table_row, by_seq);
            must(r->pub.seq > seq);         /* T2 */
            must(r->pub.epoch == o->epoch); /* T2 */
            seq = r->pub.seq;
            counted++;
        }
        must(!(o->ahead & 1)); /* T4 */
    }
    must(shared == t->shared_count);
    must(counted + shared == t->count);
    must(hash == t->hash); /* T3 */
}
