/* What a replica keeps beside its rows, how it begins and how it is found again.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Meta rows of a store:  'r' group -> kv_wire_replica   'a' group -> kv_wire_applied   't' tag ->
 * destroyed replica id
 * Meta of a group in the log: kv_wire_replica without the row part.
 *
 * 1. The group in the log comes first, durable, before anything is said in its name; the rows
 *    follow.
 * 2. A founded replica is complete with its group alone: its floor has the first configuration, its
 *    state is empty.
 * 3. Rows without a group are what a destroyed replica left, or the right half of a split that is
 *    younger than its group.
 * 4. A replica whose log does not reach what its rows have applied has lost promises: it is
 *    destroyed, its id marked, and
 *    the group replaces it.
 * Runs before the loops do, except where a loop's own replica begins. */
#include "kv/kv_priv.h"

/* ---- writing --------------------------------------------------------------------------------- */

static void describe(const struct kv_replica *r, struct kv_wire_replica *out)
{
    *out = (struct kv_wire_replica){
        .store = str_of(r->home->store->name),
        .id = r->range_id,
        .replica = r->id,
        .space = r->parts.space,
        .snapshot_index = r->snapshot_index,
        .is_split_born = r->is_split_born,
        .config = STR(""),
        .range = STR(""),
        .parts = STR(""),
    };
}

void kv_meta_put(struct kv_replica *r, struct engine_batch *b)
{
    struct kv_wire_replica w;
    struct buf config = {0}, range = {0}, row = {0}, parts = {0};
    char key[KV_WIRE_KEY];
    describe(r, &w);
    if (r->config)
        raft_config_encode(r->config, &config);
    range_encode(&r->range, &range);
    w.config = buf_str(&config);
    w.range = buf_str(&range);
    kv_parts_encode(&r->parts, &parts);
    w.parts = buf_str(&parts);
    kv_wire_replica_encode(&w, &row);
    kv_wire_key_encode(KV_WIRE_KEY_REPLICA, r->group, key);
    engine_batch_put_meta(b, str_view(key, sizeof key), buf_str(&row));
    buf_deinit(&config);
    buf_deinit(&range);
    buf_deinit(&parts);
    buf_deinit(&row);
    r->is_meta_dirty = false;
}

void kv_meta_put_applied(struct kv_replica *r, struct engine_batch *b)
{
    uint8_t space[64];
    struct buf row = {.p = space, .cap = sizeof space};
    char key[KV_WIRE_KEY];
    kv_wire_applied_encode(&(struct kv_wire_applied){r->applied, r->applied_term, r->range.hlc},
                           &row);
    must(row.p == space);
    kv_wire_key_encode(KV_WIRE_KEY_APPLIED, r->group, key);
    engine_batch_put_meta(b, str_view(key, sizeof key), buf_str(&row));
}

static bool has_tag(const void *item, const void *key)
{
    return ((const struct kv_tombstone *)item)->tag == *(const uint64_t *)key;
}

static void bury(struct kv_client *c, uint64_t tag, uint64_t id)
{
    struct kv_tombstone *t = map_find(&c->tombstone, tag, has_tag, &tag);
    if (!t) {
        t = mem_new(sizeof *t);
        t->tag = tag;
        map_put(&c->tombstone, tag, t);
    }
    if (id > t->id)
        t->id = id;
}

bool kv_meta_is_tombstone(const struct kv_client *c, uint64_t tag, uint64_t replica_id)
{
    const struct kv_tombstone *t = map_find(&c->tombstone, tag, has_tag, &tag);
    return t && replica_id <= t->id;
}

void kv_meta_del(struct kv_replica *r, struct engine_batch *b)
{
    char key[KV_WIRE_KEY];
    struct buf id = {0};
    kv_wire_key_encode(KV_WIRE_KEY_REPLICA, r->group, key);
    engine_batch_del_meta(b, str_view(key, sizeof key));
    kv_wire_key_encode(KV_WIRE_KEY_APPLIED, r->group, key);
    engine_batch_del_meta(b, str_view(key, sizeof key));
    kv_wire_key_encode(KV_WIRE_KEY_TOMBSTONE, r->tag, key);
    bury(r->home, r->tag, r->is_merged ? UINT64_MAX : r->id);
    kv_wire_tombstone_encode(r->is_merged ? UINT64_MAX : r->id, &id);
    engine_batch_put_meta(b, str_view(key, sizeof key), buf_str(&id));
    buf_deinit(&id);
    if (r->has_range)
        kv_spans_drop(&r->parts, &r->range.bounds, b);
}

void kv_meta_bury_all(struct kv_client *c, uint64_t tag)
{
    bury(c, tag, UINT64_MAX);
}

void kv_meta_bury(struct kv_client *c, uint64_t tag, uint64_t group, struct engine_batch *b)
{
    char key[KV_WIRE_KEY];
    struct buf id = {0};
    bury(c, tag, UINT64_MAX);
    kv_wire_tombstone_encode(UINT64_MAX, &id);
    kv_wire_key_encode(KV_WIRE_KEY_REPLICA, group, key);
    engine_batch_del_meta(b, str_view(key, sizeof key));
    kv_wire_key_encode(KV_WIRE_KEY_APPLIED, group, key);
    engine_batch_del_meta(b, str_view(key, sizeof key));
    kv_wire_key_encode(KV_WIRE_KEY_TOMBSTONE, tag, key);
    engine_batch_put_meta(b, str_view(key, sizeof key), buf_str(&id));
    buf_deinit(&id);
}

/* Durable before whatever comes after it. */
void kv_meta_create_group(struct kv_replica *r, bool is_founded)
{
    struct engine_log_batch *b = engine_log_batch_new();
    struct kv_wire_replica w;
    struct buf meta = {0}, config = {0};
    describe(r, &w);
    w.is_founded = is_founded;
    kv_wire_replica_encode(&w, &meta);
    engine_log_put_create(b, r->group, buf_str(&meta));
    if (r->config) {
        raft_config_encode(r->config, &config);
        engine_log_put_compact(b, r->group, r->applied, r->applied_term, buf_str(&config));
    }
    engine_log_submit(r->loop->kv->log, b, true, NULL, 0);
    buf_deinit(&meta);
    buf_deinit(&config);
}

/* ---- beginnings ------------------------------------------------------------------------------ */

static uint64_t group_next(struct kv *kv)
{
    return atomic_fetch_add_explicit(&kv->group_last, 1, memory_order_relaxed) + 1;
}

static struct raft_config *config_of_self(const struct kv *kv)
{
    struct raft_member m = {.id = 1, .store = kv->conf.node, .role = RAFT_VOTER};
    return raft_config_new(&m, 1, 1);
}

/* A replica that begins at (1, 1), with this range and these members. */
static struct kv_replica *begin_at_one(struct kv_client *c, struct kv_birth *b)
{
    struct raft_boot boot = {
        .hard = {.term = 1, .commit = 1}, .base = 1, .base_term = 1, .last = 1};
    b->applied = b->applied_term = 1;
    b->is_new = true;
    return kv_replica_new(c, b, &boot);
}

void kv_meta_found(struct kv_client *c, uint64_t epoch)
{
    struct kv *kv = c->store->kv;
    struct range range;
    struct raft_config *config = config_of_self(kv);
    struct kv_birth b = {.group = group_next(kv),
                         .id = 1,
                         .range_id = {epoch, 0},
                         .config = config,
                         .range = &range};

    range_init(&range, b.range_id);
    b.parts.space = engine_state_space(c->store->state);
    struct kv_replica *r = begin_at_one(c, &b);
    range_deinit(&range);
    mem_free(config);
    kv_meta_create_group(r, true);
    kv_meta_put(r, kv_client_rows(c));
    kv_meta_put_applied(r, kv_client_rows(c));
    c->store->conf.ops->reset(r->machine, &r->range.bounds);
    c->store->conf.ops->loaded(r->machine);
    kv_replica_ready(r, true);
    log_line(kv->conf.log, LOG_LEVEL_NOTICE, "kv.store.founded", "store %s founded by this node",
             c->store->name);
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_CAMPAIGN});
}

struct kv_replica *kv_meta_ensure(struct kv_client *c, struct range_id id, uint64_t replica_id)
{
    struct kv_birth b = {
        .group = group_next(c->store->kv), .id = replica_id, .range_id = id, .is_new = true};
    struct raft_boot boot = {0};
    struct kv_replica *r = kv_replica_new(c, &b, &boot);
    kv_meta_create_group(r, false);
    return r;
}

/* The right half of a split: its rows, in the batch of the left one, which makes it exist. */
void kv_meta_put_born(struct kv_replica *left, const struct range *right,
                      const struct kv_parts *parts, uint64_t group)
{
    struct kv_replica r = {.home = left->home,
                           .loop = left->loop,
                           .range_id = right->id,
                           .range = *right,
                           .group = group,
                           .id = left->id,
                           .parts = *parts,
                           .config = left->config,
                           .applied = 1,
                           .applied_term = 1,
                           .is_split_born = true};
    kv_meta_put(&r, kv_client_rows(left->home));
    kv_meta_put_applied(&r, kv_client_rows(left->home));
}

/* The right half is here already, made by its leader's word: what the split left for it goes. */
void kv_meta_drop_born(const struct kv_replica *r, uint64_t group, const struct kv_parts *parts,
                       const struct range_bounds *b)
{
    struct kv_client *c = r->home;
    struct engine_batch *rows = kv_client_rows(c);
    char key[KV_WIRE_KEY];
    kv_wire_key_encode(KV_WIRE_KEY_REPLICA, group, key);
    engine_batch_del_meta(rows, str_view(key, sizeof key));
    kv_wire_key_encode(KV_WIRE_KEY_APPLIED, group, key);
    engine_batch_del_meta(rows, str_view(key, sizeof key));
    if (r->parts.space != parts->space)
        kv_spans_drop(parts, b, rows);
}

/* The same, of one that must not be here again. */
void kv_meta_wipe_born(struct kv_client *c, uint64_t group, const struct kv_parts *parts,
                       const struct range_bounds *b)
{
    struct kv_replica none = {.home = c};
    must(parts->space != 0);
    kv_meta_drop_born(&none, group, parts, b);
}

struct kv_replica *kv_meta_born(struct kv_client *c, struct kv_birth *b)
{
    struct kv_replica *r = begin_at_one(c, b);
    r->is_split_born = true;
    kv_meta_create_group(r, false);
    return r;
}

uint64_t kv_meta_group_next(struct kv *kv)
{
    return group_next(kv);
}

/* ---- found again at start -------------------------------------------------------------------- */

struct found_row {
    uint64_t group;
    struct buf replica;
    struct kv_wire_applied applied;
    bool has_applied, is_taken;
};

struct found {
    struct kv_store *store;
    struct found_row *row;
    size_t count, cap;
};

static struct found_row *found_at(struct found *f, uint64_t group)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->row[i].group == group)
            return &f->row[i];
    f->row = mem_grow(f->row, &f->cap, f->count + 1, sizeof *f->row);
    f->row[f->count] = (struct found_row){.group = group};
    return &f->row[f->count++];
}

static bool found_take(void *arg, struct str key, struct str value)
{
    struct found *f = arg;
    struct kv *kv = f->store->kv;
    enum kv_wire_key what;
    uint64_t n, id;
    if (kv_wire_key_decode(key, &what, &n) != 0)
        return true;
    if (what == KV_WIRE_KEY_TOMBSTONE) {
        for (unsigned i = 0; kv_wire_tombstone_decode(value, &id) == 0 && i < kv->loop_count; i++)
            bury(&f->store->client[i], n, id);
        return true;
    }
    struct found_row *row = found_at(f, n);
    if (n > atomic_load_explicit(&kv->group_last, memory_order_relaxed))
        atomic_store_explicit(&kv->group_last, n, memory_order_relaxed);
    if (what == KV_WIRE_KEY_REPLICA)
        buf_put_str(&row->replica, value);
    else
        row->has_applied = kv_wire_applied_decode(value, &row->applied) == 0;
    return true;
}

static void found_deinit(struct found *f)
{
    for (size_t i = 0; i < f->count; i++)
        buf_deinit(&f->row[i].replica);
    mem_free(f->row);
}

static bool load_row(void *arg, struct str key, struct str value)
{
    struct kv_replica *r = arg;
    r->home->store->conf.ops->load(r->machine, key, value);
    return true;
}

/* All rows of the range into its machine; blocks. */
static bool load_now(struct kv_replica *r, int *out_error)
{
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    struct kv_spans s = kv_spans_all(&r->parts, &r->range.bounds);
    int e = 0;
    ops->reset(r->machine, &r->range.bounds);
    for (size_t i = 0; i < s.count && e == 0; i++) {
        struct engine_scan scan = {.space = s.at[i].space,
                                   .from = buf_str(&s.at[i].from),
                                   .to = buf_str(&s.at[i].to),
                                   .row = load_row,
                                   .arg = r};
        e = engine_state_scan(r->home->store->state, NULL, &scan);
    }
    kv_spans_free(&s);
    if (e < 0) {
        *out_error = e;
        return false;
    }
    ops->loaded(r->machine);
    kv_replica_ready(r, true);
    return true;
}

/* The terms of base + 1 .. last. */
static void boot_runs(struct kv *kv, uint64_t group, struct raft_boot *boot, struct raft_run **out)
{
    size_t cap = 0;
    *out = NULL;
    boot->run_count = 0;
    for (uint64_t i = boot->base + 1; i <= boot->last; i++) {
        uint64_t term = 0;
        int e = engine_log_term(kv->log, group, i, &term);
        must(e == 0);
        if (boot->run_count > 0 && (*out)[boot->run_count - 1].term == term)
            continue;
        *out = mem_grow(*out, &cap, boot->run_count + 1, sizeof **out);
        (*out)[boot->run_count++] = (struct raft_run){i, term};
    }
    boot->run = *out;
}

struct later {
    struct raft_entry *entry;
    size_t count, cap;
};

/* The configurations after `applied`, with payloads of their own. */
static int boot_later(struct kv *kv, uint64_t group, uint64_t from, uint64_t last,
                      struct later *out)
{
    struct engine_log_entry part[256];
    struct buf bytes = {0};
    int e = 0;
    while (from <= last && e == 0) {
        struct engine_log_want want = {.group = group,
                                       .from = from,
                                       .count_max = countof(part),
                                       .bytes_max = 1u << 20,
                                       .may_wait = true};
        size_t n = 0;
        bytes.n = 0;
        e = engine_log_read(kv->log, &want, &bytes, part, &n);
        for (size_t i = 0; e == 0 && i < n; i++) {
            if (part[i].kind != RAFT_ENTRY_CONFIG)
                continue;
            out->entry = mem_grow(out->entry, &out->cap, out->count + 1, sizeof *out->entry);
            out->entry[out->count++] =
                (struct raft_entry){from + i, part[i].term, str_dup(part[i].data), part[i].kind};
        }
        from += n;
    }
    buf_deinit(&bytes);
    return e;
}

static void later_deinit(struct later *l)
{
    for (size_t i = 0; i < l->count; i++)
        mem_free((void *)(uintptr_t)l->entry[i].payload.p);
    mem_free(l->entry);
}

static int open_replica(struct kv_client *c, struct kv_birth *b, const struct engine_log_group *g)
{
    struct kv *kv = c->store->kv;
    struct raft_boot boot = {.hard = {.term = g->hard.term, .commit = g->hard.commit},
                             .base = g->floor_index,
                             .base_term = g->floor_term,
                             .last = g->last_index};
    struct raft_run *run;
    struct later later = {0};
    if (g->hard.vote_n == 8)
        memcpy(&boot.hard.vote, g->hard.vote, 8);
    if (boot.hard.term < g->last_term)
        boot.hard.term = g->last_term;
    int e = boot_later(kv, b->group, b->applied + 1, boot.last, &later);
    if (e != 0) {
        later_deinit(&later);
        return e < 0 ? err_trace(e) : -EBADMSG;
    }
    boot_runs(kv, b->group, &boot, &run);
    boot.later = later.entry;
    boot.later_count = later.count;
    struct kv_replica *r = kv_replica_new(c, b, &boot);
    r->is_split_born = b->is_split_born;
    r->log_bytes = g->bytes;
    later_deinit(&later);
    mem_free(run);
    if (!r->has_range || load_now(r, &e))
        return 0;
    kv_meta_unreadable(r, e); /* wiped when the loops run */
    return r->is_wiped ? 0 : e;
}

/* The replica cannot go on: what is left of it goes, its id is marked. */
static void destroy_rest(struct kv_client *c, const struct kv_birth *b, bool has_group,
                         const char *why)
{
    struct kv *kv = c->store->kv;
    struct engine_log_batch *log = engine_log_batch_new();
    struct engine_batch *rows = engine_batch_new();
    struct kv_replica r = {.home = c,
                           .tag = kv_tag(c->store, b->range_id),
                           .group = b->group,
                           .id = b->id,
                           .parts = b->parts,
                           .has_range = b->range != NULL};
    if (b->range)
        r.range = *b->range;
    log_line(
        kv->conf.log, LOG_LEVEL_ERROR, "kv.replica.lost",
        "a replica of %s cannot be used (%s): it is dropped and will be made anew from its peers",
        c->store->name, why);
    kv_meta_del(&r, rows);
    engine_state_write(c->store->state, rows, NULL, 0);
    if (has_group)
        engine_log_put_destroy(log, b->group);
    engine_log_submit(kv->log, log, true, NULL, 0);
}

/* Nobody else can have what this replica has. */
static bool is_only_copy(const struct kv_birth *b)
{
    size_t others = 0;
    if (!b->config)
        return b->range != NULL; /* rows, and who else has them cannot be read */
    for (unsigned i = 0; i < b->config->count; i++)
        others += b->config->member[i].id != b->id &&
                  raft_config_is_voter(b->config, b->config->member[i].id);
    return raft_config_is_voter(b->config, b->id) && others == 0;
}

/* Peers make up for what is damaged here; without any, nothing is thrown away. */
static int give_up(struct kv_client *c, const struct kv_birth *b, bool has_group, const char *why)
{
    if (!has_group || !is_only_copy(b)) {
        destroy_rest(c, b, has_group, why);
        return 0;
    }
    log_line(c->store->kv->conf.log, LOG_LEVEL_ERROR, "kv.replica.only",
             "the only copy of a range of %s is damaged (%s, group %llu): nothing was changed; put "
             "back what is missing or a backup of the whole data directory, or start with an empty "
             "one",
             c->store->name, why, (unsigned long long)b->group);
    return -EBADMSG;
}

void kv_meta_unreadable(struct kv_replica *r, int error)
{
    struct kv_birth b = {.id = r->id, .config = raft_config_get(&r->raft)};
    bool is_only = is_only_copy(&b);
    log_line(r->loop->kv->conf.log, LOG_LEVEL_ERROR,
             is_only ? "kv.replica.only" : "kv.replica.lost",
             "rows of a range of %s cannot be read (error %d, group %llu): %s; bilrostd "
             "--verify-data names the damaged file",
             r->home->store->name, -error, (unsigned long long)r->group,
             is_only ? "this is the only copy, so nothing was changed and the range is not served; "
                       "put back the file or a backup of the whole data directory"
                     : "the replica is dropped and will be made anew from its peers");
    kv_replica_close(r, !is_only);
}

/* The log has what the rows have applied last: not the remains of what a snapshot has replaced. */
static bool has_entry(const struct kv *kv, const struct engine_log_group *g,
                      const struct kv_birth *b)
{
    uint64_t term = g->floor_term;
    if (b->applied > g->last_index)
        return false;
    if (b->applied > g->floor_index && engine_log_term(kv->log, g->group, b->applied, &term) != 0)
        return false;
    return term == b->applied_term;
}

static void forget_group(struct kv *kv, uint64_t group)
{
    struct engine_log_batch *b = engine_log_batch_new();
    engine_log_put_destroy(b, group);
    engine_log_submit(kv->log, b, true, NULL, 0);
}

static int open_group(struct kv_store *s, struct engine_log_group *g,
                      const struct kv_wire_replica *meta, struct found_row *row)
{
    struct kv_client *c = &s->client[kv_shard(s, meta->id) % s->kv->loop_count];
    struct kv_birth b = {.group = g->group, .id = meta->replica, .range_id = meta->id};
    struct range range = {0};
    struct kv_wire_replica w = *meta;
    bool has_row = row && row->has_applied &&
                   kv_wire_replica_decode(buf_str(&row->replica), &w) == 0 &&
                   range_decode(w.range, &range) == 0;
    struct raft_config *config = raft_config_decode(has_row ? w.config : g->config);
    const char *why = NULL;
    int e = 0;

    if (row)
        row->is_taken = true;
    if (has_row) {
        range.hlc = row->applied.hlc;
        b.applied = row->applied.index;
        b.applied_term = row->applied.term;
        b.parts = kv_parts_decode(w.space, w.parts);
        b.snapshot_index = w.snapshot_index;
        b.is_split_born = w.is_split_born;
    } else if (meta->is_founded && g->floor_index == 1) {
        range_init(&range, meta->id);
        b.applied = b.applied_term = 1;
        b.parts.space = engine_state_space(s->state);
        has_row = true;
    } else if (g->floor_index > 0)
        why = "its rows are missing";
    b.range = has_row ? &range : NULL;
    b.config = config;
    if (has_row && !config)
        why = "its configuration cannot be read";
    else if (g->is_damaged)
        why = "its log is damaged";
    else if (has_row && b.applied < g->floor_index)
        why = "its rows are older than its log";
    else if (has_row && b.applied == b.snapshot_index && !has_entry(s->kv, g, &b)) {
        struct engine_log_batch *fix =
            engine_log_batch_new(); /* the snapshot is in, the log not yet emptied */
        if (b.applied <= g->last_index)
            engine_log_put_truncate(fix, g->group, b.applied);
        engine_log_put_compact(fix, g->group, b.applied, b.applied_term, w.config);
        engine_log_submit(s->kv->log, fix, true, NULL, 0);
        g->floor_index = g->last_index = b.applied;
        g->floor_term = g->last_term = b.applied_term;
    } else if (b.applied > g->last_index)
        why = "its log has lost its end";
    if (!has_row && kv_meta_is_tombstone(c, kv_tag(s, meta->id), meta->replica))
        forget_group(s->kv, g->group); /* its end was cut short: the rows are gone for good */
    else if (why)
        e = give_up(c, &b, true, why);
    else
        e = open_replica(c, &b, g);
    if (has_row)
        range_deinit(&range);
    kv_parts_free(&b.parts);
    mem_free(config);
    return e;
}

/* Rows that have no group: the younger half of a split gets one; of others the rest is removed. */
static int open_row(struct kv_store *s, struct found_row *row)
{
    struct kv_wire_replica w;
    struct range range;
    if (!row->has_applied || kv_wire_replica_decode(buf_str(&row->replica), &w) != 0 ||
        range_decode(w.range, &range) != 0)
        return 0;
    struct kv_client *c = &s->client[kv_shard(s, w.id) % s->kv->loop_count];
    struct kv_birth b = {.group = row->group,
                         .id = w.replica,
                         .range_id = w.id,
                         .range = &range,
                         .parts = kv_parts_decode(w.space, w.parts),
                         .is_split_born = true};
    int e = 0;
    struct raft_config *config = raft_config_decode(w.config);
    b.config = config;
    struct kv_replica *is_here = kv_replica_find(c->loop, kv_tag(s, w.id));
    if (is_here)
        kv_meta_drop_born(is_here, row->group, &b.parts, &range.bounds);
    else if (w.is_split_born && row->applied.index == 1 && config &&
             !kv_meta_is_tombstone(c, kv_tag(s, w.id), w.replica)) {
        struct kv_replica *r = begin_at_one(c, &b);
        r->is_split_born = true;
        kv_meta_create_group(r, false);
        if (!load_now(r, &e)) {
            kv_meta_unreadable(r, e);
            e = r->is_wiped ? 0 : e;
        }
    } else {
        struct engine_log_group g; /* there, but so damaged that it does not know whose it is */
        bool has_group = engine_log_group(s->kv->log, row->group, &g) == 0;
        if (has_group)
            engine_log_group_deinit(&g);
        e = give_up(c, &b, has_group, has_group ? "its log is damaged" : "its log is missing");
    }
    range_deinit(&range);
    kv_parts_free(&b.parts);
    mem_free(config);
    return e;
}

static int open_groups(struct kv_store *s, struct found *f, const uint64_t *group, size_t count)
{
    int e = 0;
    for (size_t i = 0; i < count && e == 0; i++) {
        struct engine_log_group g;
        struct kv_wire_replica meta;
        if (engine_log_group(s->kv->log, group[i], &g) != 0)
            continue;
        if (kv_wire_replica_decode(g.meta, &meta) == 0 && str_eq(meta.store, str_of(s->name))) {
            struct found_row *row = NULL;
            for (size_t k = 0; k < f->count; k++)
                if (f->row[k].group == group[i])
                    row = &f->row[k];
            e = open_group(s, &g, &meta, row);
        }
        engine_log_group_deinit(&g);
    }
    return e;
}

int kv_meta_open(struct kv *kv)
{
    size_t count = 0;
    uint64_t *group = engine_log_groups(kv->log, &count);
    int e = 0;
    for (size_t i = 0; i < count; i++)
        if (group[i] > atomic_load_explicit(&kv->group_last, memory_order_relaxed))
            atomic_store_explicit(&kv->group_last, group[i], memory_order_relaxed);
    for (unsigned i = 0; i < kv->store_count && e == 0; i++) {
        struct found f = {.store = kv->store[i]};
        struct engine_scan scan = {.is_meta = true, .row = found_take, .arg = &f};
        e = engine_state_scan(f.store->state, NULL, &scan);
        if (e == 0)
            e = open_groups(f.store, &f, group, count);
        for (size_t k = 0; k < f.count && e == 0; k++)
            if (!f.row[k].is_taken)
                e = open_row(f.store, &f.row[k]);
        found_deinit(&f);
    }
    mem_free(group);
    return e;
}
