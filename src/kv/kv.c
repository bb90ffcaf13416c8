/* One node's kv: assembling, starting, ending.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Stores are added before kv_start, replicas are found in it, loops run after it.
 * 2. kv_free comes when the loops have stopped: every call has ended then, every replica and the
 *    engine are closed. */
#include "kv/kv_priv.h"

#define MEM_SEGMENT_BYTES (4u << 20) /* of a log that lies in memory */
/* Matters: a message is delivered and acknowledged within some 100 ms, and its rows are gone before
 * they are written; a restart replays this much more of the log. */
#define STATE_HOLD USEC_SEC

static uint64_t name_hash(struct str name)
{
    return hash_u64((uint64_t)crc_update(0, name.p, name.n) << 32 | name.n);
}

uint64_t kv_tag(const struct kv_store *s, struct range_id id)
{
    return hash_u64(s->hash + hash_u64(id.epoch + hash_u64(id.id)));
}

uint32_t kv_shard_of(const struct kv_store *s, uint64_t tag)
{
    return (uint32_t)(s->conf.is_one_loop ? s->hash : tag);
}

uint32_t kv_shard(const struct kv_store *s, struct range_id id)
{
    return kv_shard_of(s, kv_tag(s, id));
}

struct kv_loop *kv_loop_of(const struct kv_store *s, uint64_t tag)
{
    return &s->kv->loop[kv_shard_of(s, tag) % s->kv->loop_count];
}

unsigned kv_store_loop(const struct kv_store *s)
{
    must(s->conf.is_one_loop);
    return kv_loop_of(s, 0)->index;
}

struct kv_store *kv_store_of_hash(const struct kv *kv, uint64_t hash)
{
    for (unsigned i = 0; i < kv->store_count; i++)
        if (kv->store[i]->hash == hash)
            return kv->store[i];
    return NULL;
}

struct kv_store *kv_store_of_name(const struct kv *kv, struct str name)
{
    return kv_store_of_hash(kv, name_hash(name));
}

static void defaults(struct kv_conf *c)
{
    struct kv_limits *l = &c->limits;
    l->command_bytes_max = l->command_bytes_max ? l->command_bytes_max : (4u << 20) + (64u << 10);
    l->batch_bytes_max = l->batch_bytes_max ? l->batch_bytes_max : 1u << 20;
    l->pending_bytes_max = l->pending_bytes_max ? l->pending_bytes_max : 64u << 20;
    l->pending_count_max = l->pending_count_max ? l->pending_count_max : 1000000;
    l->log_bytes_max = l->log_bytes_max ? l->log_bytes_max : 64u << 20;
    l->ship_bytes_per_sec = l->ship_bytes_per_sec ? l->ship_bytes_per_sec : 128u << 20;
    l->ship_part_bytes = l->ship_part_bytes ? l->ship_part_bytes : 128u << 10;
    l->range_count_max = l->range_count_max ? l->range_count_max : 1024;
    c->election_usec = c->election_usec ? c->election_usec : USEC_SEC;
    c->heartbeat_usec = c->heartbeat_usec ? c->heartbeat_usec : 100 * USEC_MSEC;
    if (c->heartbeat_usec >= c->election_usec)
        c->heartbeat_usec = c->election_usec / 5 + 1;
    c->dead_usec = c->dead_usec ? c->dead_usec : 300 * USEC_SEC;
    c->hibernate_usec = c->hibernate_usec ? c->hibernate_usec : 5 * USEC_SEC;
}

static void raft_settings(struct kv *kv)
{
    struct raft_conf *r = &kv->raft_conf;
    raft_conf_default(r);
    r->election_usec = kv->conf.election_usec;
    r->heartbeat_usec = kv->conf.heartbeat_usec;
    r->hibernate_usec = kv->conf.hibernate_usec == USEC_NEVER ? 0 : kv->conf.hibernate_usec;
    if (r->entry_bytes_max <
        kv->conf.limits.batch_bytes_max + kv->conf.limits.command_bytes_max + 1024)
        r->entry_bytes_max =
            (uint32_t)(kv->conf.limits.batch_bytes_max + kv->conf.limits.command_bytes_max + 1024);
}

int kv_new(const struct kv_conf *conf, struct kv **out)
{
    if (conf->loop_count == 0 || conf->loop_count > KV_LOOP_MAX)
        return -EINVAL;
    struct kv *kv = mem_new(sizeof *kv);
    kv->conf = *conf;
    kv->loop_count = conf->loop_count;
    defaults(&kv->conf);
    raft_settings(kv);
    kv->loop = mem_new(kv->loop_count * sizeof *kv->loop);
    for (unsigned i = 0; i < kv->loop_count; i++)
        kv_loop_init(&kv->loop[i], kv, i);
    *out = kv;
    return 0;
}

int kv_store_add(struct kv *kv, const struct kv_store_conf *conf, struct kv_store **out)
{
    struct str name = str_of(conf->name);
    if (name.n == 0 || name.n > KV_STORE_NAME_MAX || kv->store_count == KV_STORE_MAX ||
        kv->is_started)
        return -EINVAL;
    if (kv_store_of_name(kv, name))
        return -EEXIST;
    struct kv_store *s = mem_new(sizeof *s);
    s->kv = kv;
    s->conf = *conf;
    s->conf.voter_count = conf->voter_count ? conf->voter_count : 3;
    str_copy(s->name, sizeof s->name, name);
    s->conf.name = s->name;
    s->hash = name_hash(name);
    s->index = kv->store_count;
    s->client = mem_new(kv->loop_count * sizeof *s->client);
    for (unsigned i = 0; i < kv->loop_count; i++)
        kv_client_init(&s->client[i], s, &kv->loop[i]);
    kv->store[kv->store_count++] = s;
    *out = s;
    return 0;
}

struct kv_client *kv_client_get(struct kv_store *s, unsigned loop)
{
    must(loop < s->kv->loop_count);
    return &s->client[loop];
}

/* ---- starting -------------------------------------------------------------------------------- */

static int open_log(struct kv *kv)
{
    if (!kv->conf.log_path)
        kv->mem_fs = engine_fs_mem_new(kv->conf.seed);
    struct engine_log_conf conf = {
        .dir = kv->mem_fs ? "/log" : kv->conf.log_path,
        .fs = kv->mem_fs    ? engine_fs_mem_fs(kv->mem_fs)
              : kv->conf.fs ? *kv->conf.fs
                            : engine_fs_posix(),
        .node = kv->conf.node,
        .segment_bytes = kv->conf.limits.log_segment_bytes ? kv->conf.limits.log_segment_bytes
                         : kv->mem_fs                      ? MEM_SEGMENT_BYTES
                                                           : 0,
        .is_inline = kv->conf.is_inline,
        .log = kv->conf.log,
        .done = kv_log_done,
        .arg = kv,
    };
    int e = engine_log_open(&conf, &kv->log);
    if (e > 0)
        log_line(kv->conf.log, LOG_LEVEL_ERROR, "kv.log.refused", "the Raft log in %s %s", conf.dir,
                 e == ENGINE_LOG_E_NEWER
                     ? "was written by a newer version; install that version or a later one"
                     : "belongs to another node; put this node's own files back, or give it an "
                       "empty directory when other nodes have its data");
    return e > 0 ? -EPROTO : err_trace(e);
}

static int open_state(struct kv_store *s)
{
    struct kv *kv = s->kv;
    struct buf path = {0};
    struct engine_state_conf conf = {
        .fs = kv->conf.fs ? *kv->conf.fs : engine_fs_posix(),
        .is_inline = kv->conf.is_inline,
        .hold_usec = kv->conf.is_inline ? 0 : STATE_HOLD,
        .log = kv->conf.log,
        .done = kv_state_done,
        .arg = s,
    };
    if (kv->conf.state_path) {
        buf_printf(&path, "%s/%s", kv->conf.state_path, s->name);
        buf_put_u8(&path, 0);
        conf.dir = (const char *)path.p;
        int e = conf.fs.ops->mkdir(conf.fs.arg, kv->conf.state_path);
        if (e != 0) {
            buf_deinit(&path);
            return err_trace(e);
        }
    } else if (kv->conf.mem)
        conf.mem = kv->conf.mem(kv->conf.mem_arg, s->name);
    int e = engine_state_open(&conf, &s->state);
    if (e < 0)
        log_line(kv->conf.log, LOG_LEVEL_ERROR, "kv.state.refused",
                 "the rows of %s cannot be opened (error %d)", s->name, -e);
    buf_deinit(&path);
    return err_trace(e);
}

int kv_start(struct kv *kv)
{
    int e = open_log(kv);
    for (unsigned i = 0; i < kv->store_count && e == 0; i++)
        e = open_state(kv->store[i]);
    if (e == 0)
        e = kv_meta_open(kv);
    if (e != 0)
        return err_trace(e);
    kv->is_started = true;
    for (unsigned i = 0; i < kv->loop_count; i++) {
        struct kv_loop *l = &kv->loop[i];
        kv_peer_serve(l);
        kv_landing_serve(l);
        kv_landscape_init(l);
        kv_boss_init(l);
        kv_pulse_init(l);
        kv_balance_init(l);
        for (unsigned k = 0; k < kv->store_count; k++)
            kv_fresh_start(&kv->store[k]->client[i]);
        list_each(&l->replicas, x)
        {
            struct kv_replica *r = container_of(x, struct kv_replica, link);
            if (!r->is_closed)
                kv_router_tell(r, false, NULL, NULL);
        }
    }
    return 0;
}

bool kv_disk_step(struct kv *kv)
{
    bool did = engine_log_step(kv->log);
    for (unsigned i = 0; i < kv->store_count; i++)
        did = engine_state_step(kv->store[i]->state) || did;
    return did;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void stop_serving(struct kv_loop *l)
{
    kv_balance_deinit(l);
    kv_boss_deinit(l);
    kv_pulse_deinit(l);
    for (unsigned k = 0; k < l->kv->store_count; k++)
        kv_fresh_stop(&l->kv->store[k]->client[l->index]);
    kv_landscape_deinit(l);
    if (l->link) {
        cluster_link_serve(l->link, CLUSTER_SERVICE_RAFT, NULL, NULL);
        cluster_link_serve(l->link, CLUSTER_SERVICE_KV, NULL, NULL);
        cluster_link_serve_stream(l->link, CLUSTER_SERVICE_SNAPSHOT, NULL, NULL);
    }
}

/* Also when a start was refused: it may have found some of the replicas by then, and must leave
 * what is theirs on the disk as it was. */
static void end_replicas(struct kv_loop *l)
{
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        kv_replica_close(r, false);
        r->is_wiped = r->is_wiped && l->kv->is_started;
    }
    kv_loop_end_turn(l);
}

static void free_tombstones(struct kv_client *c)
{
    struct kv_tombstone *t;
    for (size_t at = 0; (t = map_next(&c->tombstone, &at));)
        mem_free(t);
}

struct kv *kv_free(struct kv *kv)
{
    if (!kv)
        return NULL;
    kv->is_stopping = true;
    for (unsigned i = 0; i < kv->loop_count; i++) {
        if (kv->is_started)
            stop_serving(&kv->loop[i]);
        if (kv->is_started || !list_empty(&kv->loop[i].replicas))
            end_replicas(&kv->loop[i]);
    }
    for (unsigned i = 0; i < kv->loop_count; i++)
        kv_loop_end_jobs(&kv->loop[i]);
    for (unsigned i = 0; i < kv->store_count; i++)
        if (kv->store[i]->state)
            engine_state_close(kv->store[i]->state);
    if (kv->log)
        engine_log_close(kv->log);
    kv->mem_fs = engine_fs_mem_free(kv->mem_fs);
    for (unsigned i = 0; i < kv->loop_count; i++)
        kv_loop_end_pins(&kv->loop[i]);
    for (unsigned i = 0; i < kv->store_count; i++) {
        struct kv_store *s = kv->store[i];
        for (unsigned k = 0; k < kv->loop_count; k++) {
            free_tombstones(&s->client[k]);
            kv_client_deinit(&s->client[k]);
        }
        mem_free(s->client);
        mem_free(s);
    }
    kv_drain_deinit(kv);
    for (unsigned i = 0; i < kv->loop_count; i++) {
        kv_peer_deinit(&kv->loop[i]);
        kv_loop_deinit(&kv->loop[i]);
    }
    mem_free(kv->loop);
    return mem_free(kv);
}

/* ---- figures --------------------------------------------------------------------------------- */

bool kv_is_not_executed(enum kv_outcome o)
{
    return o != KV_OK && o != KV_E_UNKNOWN;
}

const char *kv_outcome_name(enum kv_outcome o)
{
    static const char *const name[] = {
        [KV_OK] = "ok",
        [KV_E_DEADLINE] = "deadline",
        [KV_E_UNKNOWN] = "unknown",
        [KV_E_NO_RANGE] = "no range",
        [KV_E_NO_LEADER] = "no leader",
        [KV_E_FULL] = "full",
        [KV_E_INVALID] = "invalid",
        [KV_E_VERSION] = "version",
        [KV_E_CONFLICT] = "conflict",
        [KV_E_STOPPED] = "stopped",
    };
    return (size_t)o < countof(name) ? name[o] : "?";
}

const char *kv_role_name(enum kv_role r)
{
    static const char *const name[] = {"none", "learner", "follower", "candidate", "leader"};
    return (size_t)r < countof(name) ? name[r] : "?";
}

bool kv_is_ready(const struct kv *kv)
{
    for (unsigned i = 0; i < kv->loop_count; i++)
        if (!atomic_load_explicit(&kv->loop[i].is_seen_ready, memory_order_relaxed))
            return false;
    return kv->is_started;
}

enum kv_disk kv_disk_get(const struct kv *kv)
{
    int log = engine_log_admit(kv->log);
    bool is_busy = log != 0;
    if (log == ENGINE_LOG_E_FULL)
        return KV_DISK_FULL;
    for (unsigned i = 0; i < kv->store_count; i++)
        is_busy |= kv->store[i]->state && engine_state_stall(kv->store[i]->state) >= 100;
    return is_busy ? KV_DISK_BUSY : KV_DISK_GOOD;
}

void kv_stats_get(const struct kv *kv, struct kv_stats *out)
{
    *out = (struct kv_stats){0};
    for (unsigned i = 0; i < kv->loop_count; i++) {
        const struct kv_counters *c = &kv->loop[i].count;
#define ADD(field) out->field += atomic_load_explicit(&c->field, memory_order_relaxed)
        ADD(proposal_count);
        ADD(proposal_bytes);
        ADD(entry_count);
        ADD(apply_count);
        ADD(forward_count);
        ADD(retry_count);
        ADD(query_count);
        ADD(scan_count);
        ADD(elected_count);
        ADD(snapshot_in);
        ADD(snapshot_out);
        ADD(snapshot_resumed);
        ADD(snapshot_bytes_in);
        ADD(snapshot_bytes_out);
        ADD(pending_bytes);
        ADD(pending_count);
        ADD(replica_count);
        ADD(leader_count);
#undef ADD
    }
}
