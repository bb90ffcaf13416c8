/* The back room of kv: what its files share.  SPDX-License-Identifier: Apache-2.0
 *
 * struct kv        one node: the log, the stores, the loops
 * struct kv_loop   all of kv on one loop: replicas, frames to peers, what the turn has gathered for
 * the log
 * struct kv_client one store seen from one loop: calls under way, routes, rows the turn has
 * gathered
 * Each belongs to its loop's thread; what crosses threads is a mail or atomic, and says so. */
#pragma once

#include <stdatomic.h>

#include "base/crc.h"
#include "base/hash.h"
#include "base/hlc.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "cluster/link.h"
#include <errno.h>

#include "base/err.h"
#include "engine/log.h"
#include "engine/state.h"
#include "kv/kv.h"
#include "kv/wire_priv.h"
#include "net/loop.h"
#include "net/worker.h"
#include "raft/raft.h"
#include "range/descriptor.h"
#include "range/range.h"

#define KV_STORE_MAX 16
#define KV_LOOP_MAX 64
#define KV_STORE_NAME_MAX 31
/* Entries a range has in its log and not applied before it gathers on instead of making another.
 * Under load this is what makes batches: two keep the disk and the network busy at the same time.
 */
#define KV_ENTRY_FLIGHT_MAX 2
#define KV_APPLY_BATCH_BYTES (1u << 20) /* rows of one engine batch, about */
#define KV_FRAME_BYTES (1u << 20)      /* a frame to a peer that is larger leaves within the turn */
#define KV_RETRY_USEC (10 * USEC_MSEC) /* calls that wait for a route or a leader look again */
#define KV_MACHINE_TICK_USEC (5 * USEC_MSEC) /* a machine is asked no more often */
#define KV_AVOID_USEC (200 * USEC_MSEC)      /* a leader that could not be reached is let be */
#define KV_TICK_USEC (20 * USEC_MSEC)        /* how late a deadline may be noticed */

struct kv_ask;
struct kv_bundle;
struct kv_client;
struct kv_entry;
struct kv_handoff;
struct kv_peer;
struct kv_replica;
struct kv_ship;
struct kv_landing;

struct kv_counters { /* written by their loop, read by anybody */
    _Atomic uint64_t proposal_count, proposal_bytes, entry_count, apply_count, forward_count,
        retry_count;
    _Atomic uint64_t query_count, scan_count, elected_count, snapshot_in, snapshot_out,
        snapshot_resumed;
    _Atomic uint64_t snapshot_bytes_in, snapshot_bytes_out;
    _Atomic uint64_t pending_bytes, pending_count;
    _Atomic uint32_t replica_count, leader_count;
};

static inline void kv_count(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

struct kv_store {
    struct kv *kv;
    char name[KV_STORE_NAME_MAX + 1];
    struct kv_store_conf conf;
    uint64_t hash; /* of the name: on the wire */
    unsigned index;
    bool is_founded;
    _Atomic uint32_t replica_count; /* on all loops */
    struct engine_state *state;
    struct kv_client *client; /* loop_count of them */
};

struct kv {
    struct kv_conf conf;
    struct engine_log *log;
    struct engine_fs_mem *mem_fs; /* the log's files, when it has no directory */
    struct raft_conf raft_conf;
    struct kv_store *store[KV_STORE_MAX];
    unsigned store_count;
    struct kv_loop *loop; /* loop_count of them */
    unsigned loop_count;
    _Atomic uint64_t group_last; /* the largest group number in use or given */
    bool is_started;
    _Atomic bool is_stopping;
    struct kv_counters gone; /* of loops freed */
    _Atomic usec_t
        ship_free_at;       /* snapshots: what was sent is paid for until then, at their rate */
    struct kv_drain *drain; /* under way; of loop 0 */
};

/* Completions of the disk that await their turn; the writer threads raise `tag` and post the mail.
 */
struct kv_disk_mail {
    struct net_mail mail;
    _Atomic uint64_t tag;
    _Atomic bool is_posted;
    struct kv_loop *loop;
};

/* A write to the log that replicas wait for. */
struct kv_wal_wait {
    struct kv_replica *replica;
    uint64_t seq; /* raft's */
    uint64_t tag; /* the log's */
};

struct kv_peer { /* one loop of another node */
    struct list link;
    struct uuid node;
    uint32_t loop; /* of the peer */
    struct buf frame;
    usec_t used_at; /* when anything of a range was sent to it */
    /* pulse.c */
    uint64_t life; /* 0: not known */
    usec_t heard_at;
    uint32_t quiet_count; /* replicas here that sleep and rely on it, once for each */
};

struct kv_loop {
    struct kv *kv;
    unsigned index;
    uint64_t life; /* tells the starts of this loop apart; not 0 */
    struct net_loop *loop;
    struct cluster_seat *seat; /* NULL: alone */
    struct cluster_link *link;
    struct cluster_watch *watch;
    struct hlc hlc;
    struct rng rng;
    struct kv_counters count;

    struct map replica; /* by tag */
    struct list replicas;
    struct net_defer flush;   /* the end of the turn */
    struct list gathering;    /* replicas with commands to propose */
    struct list stepped;      /* clients with rows to write */
    struct list open_clients; /* clients with bundles to send */
    struct list done_bundles; /* answered, callbacks to come */
    struct list done_asks;
    struct list to_close; /* replicas that end with this turn */
    struct list scans;    /* clients whose asks want rows read */

    struct raft_out out;
    bool is_stepping;
    const struct uuid *receiving; /* whose frame is being stepped */
    struct raft_message_store messages;
    struct range_out machine_out;
    struct buf scratch;

    struct engine_log_batch *wal[2]; /* 0 unsynced, 1 synced */
    struct kv_wal_wait *wal_gather[2];
    size_t wal_gather_count[2], wal_gather_cap[2];
    struct kv_wal_wait *wal_wait; /* ring in order of tag */
    size_t wal_wait_at, wal_wait_count, wal_wait_cap;
    uint64_t wal_tag;
    struct kv_disk_mail *wal_done;

    struct list state_jobs; /* kv_state_job: asked, fn not yet called */
    struct list peers;
    struct net_timer pulse_timer;
    struct net_timer boss_timer;
    usec_t joined_at;
    struct net_timer balance_timer;
    usec_t known_at; /* since when we know the cluster */
    bool is_balancing;
    uint64_t news;              /* members and rows that changed, counted */
    bool is_weighing;           /* a range: one at a time */
    _Atomic bool is_seen_ready; /* every store known here has all its ranges led */
};

/* ---- where rows lie (span.c) ----------------------------------------------------------------- */

struct kv_part {
    uint64_t space;
    struct buf from;
};
struct kv_parts {
    uint64_t space;       /* from the start of the bounds */
    struct kv_part *more; /* and from these keys on, in order; mostly none */
    size_t count;
};
struct kv_span { /* [from, to) of one space; to empty: no end */
    uint64_t space;
    struct buf from, to;
};
struct kv_spans {
    struct kv_span *at;
    size_t count; /* at least one */
};
void kv_parts_free(struct kv_parts *p);
struct kv_parts kv_parts_dup(const struct kv_parts *p);
uint64_t kv_parts_at(const struct kv_parts *p, struct str key);
/* What lies from key on is returned, the rest stays. */
struct kv_parts kv_parts_cut(struct kv_parts *p, struct str key);
/* Right begins at key, where p ends. */
void kv_parts_join(struct kv_parts *p, struct str key, const struct kv_parts *right);
void kv_parts_encode(const struct kv_parts *p, struct buf *out); /* all but the first space */
struct kv_parts kv_parts_decode(uint64_t space, struct str s);
struct kv_spans kv_spans_of(const struct kv_parts *p, struct str from, struct str to);
struct kv_spans kv_spans_all(const struct kv_parts *p, const struct range_bounds *b);
void kv_spans_drop(const struct kv_parts *p, const struct range_bounds *b,
                   struct engine_batch *out);
void kv_spans_free(struct kv_spans *s);
struct engine_view;
/* engine_state_scan of one part of a span: row, arg and limits are the caller's, and its row may
 * move the span's beginning on. */
int kv_span_scan(const struct kv_store *s, struct engine_view *view, const struct kv_span *span,
                 struct engine_scan *scan);

/* ---- calls ---------------------------------------------------------------------------------- */

struct kv_call {
    uint32_t key_at, key_n;         /* in bundle.keys */
    uint32_t command_at, command_n; /* in bundle.data */
    usec_t deadline;
    bool is_repeatable; /* also when it may have been carried out */
    bool is_unsure;     /* an earlier attempt may have been carried out */
    uint64_t lane;
    kv_reply_cb *cb; /* NULL: answered */
    void *arg;
};

/* Commands for one range from one loop and turn, or from one request of another node. */
struct kv_bundle {
    struct list link; /* of whoever has it now: replica, done list, waiting list, spares */
    struct list fly;  /* of client.flying */
    struct net_mail mail;
    struct kv_client *client; /* whose calls these are; NULL: rq's */
    struct cluster_request *rq;
    uint64_t tag;      /* of the range */
    struct uuid peer;  /* whom it was sent to */
    uint32_t boundary; /* the range's version as the router knew it */
    uint32_t shard;
    struct kv_convoy convoy;
    uint64_t
        order; /* of its first call among all of the client: what waits goes out in this order */
    bool was_shed;    /* waits because there was too much under way at the leader */
    bool is_final;    /* the answer stands, whatever it is */
    bool is_recalled; /* its repeatable calls go another way; nobody waits for it */
    struct buf data;  /* the commands as fields of a write batch (range_command_add) */
    uint32_t count;
    uint32_t first; /* place of the first in the log entry */
    struct buf keys;
    struct kv_call *call;
    size_t call_cap;
    usec_t deadline; /* of the first call that has one */
    struct kv_wire_answer answer;
    struct buf reply; /* count of varint length and bytes, when answer.status is OK */
};

/* One log entry on its way. */
struct kv_entry {
    struct list link;
    struct buf payload;
    struct list bundles;
    uint32_t count;
    uint64_t index, term; /* 0: not proposed yet */
};

/* One query. */
struct kv_ask {
    struct list link; /* of whoever has it now */
    struct list fly;  /* of client.asks_flying */
    struct net_mail mail;
    struct kv_client *client; /* NULL: rq's */
    struct cluster_request *rq;
    struct buf key, request;
    enum kv_read read;
    usec_t deadline;
    kv_reply_cb *cb;
    void *arg;
    uint64_t tag;
    uint32_t shard;
    struct uuid peer;
    bool is_command;
    struct range_id range; /* commands */
    struct kv_wire_command command;
    uint64_t ctx, index; /* linear: raft's number, then the index to wait for; 0: not known */
    struct kv_wire_answer answer;
    struct buf reply;
    struct buf end; /* of the range that answered */
    bool is_last;
    struct kv_spans spans;      /* scan */
    uint32_t row_max, byte_max; /* left */
    int result;
};

/* ---- routes --------------------------------------------------------------------------------- */

struct kv_route {
    uint64_t tag;
    struct range_id id;
    struct range_version version;
    struct range_bounds bounds; /* owned */
    struct uuid leader;         /* zero: unknown */
    uint64_t term;
    usec_t avoid_until; /* the leader could not be reached: let it be until then */
    bool is_local;      /* a replica is on this node */
    bool is_ready;      /* and its machine may be read */
    void *machine;
    uint32_t shard;
    struct kv_bundle *open;           /* gathered in this turn */
    size_t waiting_count;             /* bundles of client.waiting that were for this range */
    uint32_t local_boundary;          /* of the replica here, as it is now, and its bounds */
    struct range_bounds local_bounds; /* owned */
    bool is_broken; /* one under way failed: nothing follows until the others have their answers */
    struct kv_convoy convoy; /* of the next bundle */
    struct list link;        /* of client.open_routes */
    uint32_t witness_count;  /* rows of the landscape that speak of it */
};

struct kv_tombstone {
    uint64_t tag, id;
};

struct kv_client {
    struct kv_store *store;
    struct kv_loop *loop;
    struct kv_route **route; /* all that is known, by tag order of arrival */
    size_t route_count, route_cap;
    struct kv_route **chain; /* the ones that count, by start, without overlap */
    size_t chain_count, chain_cap;
    struct list open_routes;
    struct list open_link; /* of loop.open_clients */
    struct list waiting;   /* bundles that cannot go out now, by order */
    uint64_t order_last;
    uint64_t sender, convoy_last; /* who it is to leaders; of all its routes */
    uint64_t *lane_ended;         /* in this turn: their calls end with it */
    size_t lane_count, lane_cap;
    struct list asks_waiting;
    struct list flying; /* bundles under way */
    struct list asks_flying;
    struct kv_bundle *homeless; /* calls of this turn without a route */
    struct list spare;          /* bundles to use again */
    size_t spare_count;
    struct net_timer tick;
    uint64_t pending_bytes, pending_count;

    struct engine_batch *rows;  /* of this turn */
    struct list dirty;          /* replicas whose applied index goes with them */
    struct list step_link;      /* of loop.stepped */
    struct kv_state_job *views; /* to be asked for after the rows */
    struct list scans;          /* asks that want rows */
    struct list scan_link;
    struct map tombstone; /* range tag -> largest replica id that was destroyed here */
    usec_t sync_at;       /* next durable mark */
    bool is_syncing;

    uint64_t looked_news; /* balance_host.c: at the last look, and when it was */
    usec_t looked_at;
    bool is_content; /* nothing was to be done then */

    struct net_timer fresh_tick;
    _Atomic uint64_t fresh_at; /* kv_fresh_since of this loop; UINT64_MAX: no replica here */
    _Atomic bool is_fresh_read; /* somebody looked since the last tick */
    usec_t fresh_read_at;       /* when the tick heard of it */
};

/* ---- replicas ------------------------------------------------------------------------------- */

enum kv_unled {
    KV_UNLED_NO,
    KV_UNLED_LONG,   /* nobody leads, for longer than elections take */
    KV_UNLED_QUORUM, /* nobody can: too many voters are dead */
};

struct kv_replica {
    struct kv_client *home;
    struct kv_loop *loop;
    struct list link;
    uint64_t tag, group, id;
    struct kv_parts parts;
    struct range_id range_id;
    struct range range; /* when has_range */
    bool has_range;
    struct raft raft;
    struct net_timer timer;
    void *machine;  /* NULL until has_range */
    bool is_loaded; /* the machine has the rows of all that is applied */
    bool is_ready;  /* and of all that was committed when the replica was opened */
    bool is_leader_told;
    bool is_closed;
    bool is_ended;
    bool is_split_born;
    usec_t born_at;
    bool is_wiped;      /* closing: rows and log go too */
    bool is_eager;      /* campaigns as soon as it can: the right half of a split we led */
    bool wants_install; /* raft has asked for the snapshot whose head it was given */
    uint32_t pins;

    uint64_t applied, applied_term, snapshot_index;
    struct raft_config *config; /* at applied */
    bool is_applied_pending, is_meta_dirty, is_routed_dirty, has_effects;
    struct list dirty_link;
    bool is_paused;  /* the machine is being loaded: entries are kept */
    usec_t unled_at; /* since when no living node leads, as far as is known here; 0: one does */
    enum kv_unled unled_told; /* in the log */
    uint64_t boot_commit; /* committed as far as was known when it was opened: not ready before that
                             is applied */
    bool
        is_tainted; /* the machine remembers what was refused: it is loaded anew after this entry */
    struct raft_entry *kept;
    size_t kept_count, kept_cap;
    uint64_t durable; /* applied index that the engine has for good */
    uint64_t marked;  /* what the mark under way will make durable */

    struct kv_entry *proposing, *tick_entry;
    int outcome;         /* of the last step */
    int outcome_command; /* of the last CONF, TRANSFER or RECOVER, and its entry */
    uint64_t outcome_index;
    struct list gather; /* entries not proposed */
    struct list gather_link, close_link;
    size_t gather_bytes;
    struct list entries; /* proposed */
    struct map senders;  /* convoy.c: since this term and boundary */
    uint64_t convoy_term;
    uint32_t convoy_boundary;
    uint32_t flight_count;
    struct list asks;     /* linear reads: waiting for raft, or for applied */
    struct list asks_new; /* of this turn */
    uint64_t read_ctx;
    uint64_t fresh_ctx, fresh_index; /* the question under way (fresh.c) and its answer; 0: none */
    usec_t fresh_asked, fresh_at;

    struct net_timer tick; /* the machine's */
    uint64_t persisted;    /* raft seq durable, to be stepped */
    struct list persisted_link;

    struct kv_ask *command;         /* an operator's, under way */
    uint64_t command_index;         /* CONFIG: of the entry; SPLIT: boundary version to leave */
    struct kv_entry *command_entry; /* SPLIT: until it was applied, refused or lost */

    /* merging (merge.c) */
    struct kv_handoff *handoff;  /* mergee: to be handed over to the merger's replica beside us */
    struct kv_handoff *absorbed; /* merger: handed over, COMMIT is about to be applied */
    uint64_t merge_serial;       /* begun by us and the mergee not asked yet */
    usec_t orphan_at;            /* since when another range has had our keys; 0: none */
    bool is_merge_asking;
    bool is_absorbed; /* mergee, closed: the rows belong to the merger */
    bool is_merged;   /* no replica of this range will ever be needed again */

    struct kv_landing *landing; /* a snapshot coming in, or what a broken link left of it */
    struct list ships; /* going out */

    struct kv_peer **watched; /* whom it relies on while it sleeps (pulse.c) */
    size_t watched_count;
    bool is_told_quiet; /* its descriptor has not changed since it sleeps */

    uint64_t log_bytes;              /* appended since the log was cut */
    uint64_t apply_count, rate_mark; /* commands */
    uint32_t rate;
    usec_t told_at; /* descriptor */
    uint64_t told_hash, told_applied;
    uint64_t bytes;         /* of rows, about: when last weighed (weigh.c) */
    uint64_t written_bytes; /* since then */
    usec_t weighed_at;
    struct buf middle;           /* half of the rows' bytes lie before it */
    bool is_weighed, has_middle; /* has_middle: the machine can be split there */
    uint64_t fanout;             /* receivers of what has the most of them */
    struct buf crowd;            /* where the machine can be split beside it; empty: nowhere */
    const char *reason;
};

/* kv.c */
uint64_t kv_tag(const struct kv_store *s, struct range_id id);
/* Modulo the count of loops, its own or a peer's: the loop that a range lives on, by its tag or its id. */
uint32_t kv_shard_of(const struct kv_store *s, uint64_t tag);
uint32_t kv_shard(const struct kv_store *s, struct range_id id);
/* The local one. */
struct kv_loop *kv_loop_of(const struct kv_store *s, uint64_t tag);
struct kv_store *kv_store_of_hash(const struct kv *kv, uint64_t hash);
/* loop.c */
int kv_loop_init(struct kv_loop *l, struct kv *kv, unsigned index);
void kv_loop_deinit(struct kv_loop *l);
void kv_loop_end_turn(struct kv_loop *l); /* at the end: answers and reaping without another turn */
void kv_loop_end_jobs(struct kv_loop *l); /* views and jobs of the rows that nobody will fetch */
void kv_loop_end_pins(struct kv_loop *l); /* the disk is closed: nobody waits any more */
void kv_loop_wake(struct kv_loop *l);     /* something awaits the end of the turn */
usec_t kv_loop_now(const struct kv_loop *l);
uint64_t kv_loop_hlc(struct kv_loop *l);
struct engine_log_batch *kv_loop_wal(struct kv_loop *l, bool is_synced);
void kv_loop_wal_wait(struct kv_loop *l, bool is_synced, struct kv_replica *r, uint64_t seq);
struct engine_batch *kv_client_rows(struct kv_client *c);
void kv_client_rows_flush(struct kv_client *c);
void kv_log_done(void *arg, const struct engine_log_done *done, size_t count);
void kv_state_done(void *arg, const struct engine_state_done *done, size_t count);
/* The engine's completion of one state job; owner of engine_state_view and _sync. */
struct kv_state_job {
    struct net_mail mail;
    struct list link; /* of loop.state_jobs, until fn is called */
    struct kv_store *store;
    _Atomic bool is_done;
    bool is_posted;
    void (*drop)(
        struct kv_state_job *job); /* instead of fn, when the room ends; the view is gone */
    struct kv_loop *loop;
    int result;
    struct engine_view *view;
    void (*fn)(struct kv_state_job *job);
    void (*asked)(
        struct kv_state_job *job); /* kv_load_view_soon: right before the view is asked for */
    bool is_sync; /* done when the rows are on the disk for good, instead of a view */
    struct kv_state_job *next;
};

/* How all of them are asked for; job->loop and fn are set. */
void kv_state_view(struct kv_store *s, struct kv_state_job *job);
void kv_state_sync(struct kv_store *s, struct kv_state_job *job);
void kv_state_write(struct kv_store *s, struct engine_batch *b, struct kv_state_job *job);

/* convoy.c */
/* Whether this is the next of its sender; if so, the one behind it is from now on. */
bool kv_convoy_take(struct kv_replica *r, const struct kv_convoy *c);
void kv_convoy_forget(struct kv_replica *r);

/* replica.c */
struct kv_birth {
    uint64_t group, id;
    struct kv_parts parts; /* the caller's */
    struct range_id range_id;
    const struct range *range;        /* NULL: nothing yet, a snapshot will bring it */
    const struct raft_config *config; /* at applied; NULL: none */
    uint64_t applied, applied_term, snapshot_index;
    bool is_new, is_split_born;
    void *machine; /* taken; NULL: an empty one */
};
struct kv_replica *kv_replica_new(struct kv_client *home, const struct kv_birth *b,
                                  struct raft_boot *boot);
void kv_replica_step(struct kv_replica *r, struct raft_event *ev);
void kv_replica_take(struct kv_replica *r, struct kv_bundle *b); /* ends with kv_bundle_done */
void kv_replica_propose(struct kv_replica *r);                   /* what was gathered */
/* An entry of its own, which r->command_entry names until it has ended. */
void kv_replica_command(struct kv_replica *r, struct str payload);
void kv_replica_close(struct kv_replica *r, bool is_wiped);
void kv_replica_reap(struct kv_replica *r); /* frees a closed one that nobody holds */
struct kv_replica *kv_replica_find(struct kv_loop *l, uint64_t tag);
bool kv_replica_is_leader(const struct kv_replica *r);
struct uuid kv_replica_leader(const struct kv_replica *r); /* zero: unknown */
void kv_replica_view(const struct kv_replica *r, struct kv_range_view *out);
void kv_replica_ready(struct kv_replica *r, bool is_ready);
void kv_replica_tick_soon(struct kv_replica *r);
void kv_replica_entry_end(struct kv_replica *r, struct kv_entry *e);
void kv_replica_entry_fail(struct kv_replica *r, struct kv_entry *e, enum kv_wire_status status);

/* apply.c */
void kv_apply(struct kv_replica *r, const struct raft_out *out);
void kv_apply_lost(struct kv_replica *r, uint64_t up_to, enum kv_wire_status status);
void kv_apply_ask(struct kv_replica *r, struct kv_ask *a); /* ends with kv_ask_done */
void kv_apply_reads(struct kv_replica *r, const struct raft_out *out);
void kv_apply_asks_ready(struct kv_replica *r);
void kv_apply_asks_fail(struct kv_replica *r, enum kv_wire_status status);
void kv_apply_asks_send(struct kv_replica *r);
void kv_apply_end(struct kv_replica *r);
void kv_apply_resume(struct kv_replica *r); /* after a pause: what was kept */
void kv_apply_drop(struct kv_replica *r);
void kv_scan_flush(struct kv_client *c);

/* load.c */
/* A view of the rows at the end of this turn, with everything that was applied until then. */
void kv_load_view_soon(struct kv_replica *r, struct kv_state_job *job);
void kv_load_begin(struct kv_replica *r, void (*fn)(struct kv_replica *r));
/* Its machine has all rows already. */
void kv_load_none(struct kv_replica *r, void (*fn)(struct kv_replica *r));

/* rule.c */
struct balance_rule;
void kv_rule_of(const struct kv_loop *l, const struct kv_store *s, struct balance_rule *out);

/* balance_host.c */
void kv_balance_init(struct kv_loop *l);
void kv_balance_deinit(struct kv_loop *l);

/* split.c */
void kv_split_begin(struct kv_replica *r, const struct range *right);

/* merge.c */
/* Commands of the merger's leader and of the mergee's; false: not now (a is the caller's), else
 * r->command awaits. */
bool kv_merge_run(struct kv_replica *r, struct kv_ask *a);
bool kv_merge_is_over(const struct kv_replica *r, enum kv_wire_status *out);
bool kv_merge_freeze(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a);
bool kv_merge_is_frozen(struct kv_replica *r, struct kv_ask *a, enum kv_wire_status *out);
void kv_merge_thaw(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a);
void kv_merge_push(struct kv_replica *r); /* the next step of one under way, if we lead it */
/* A COMMIT that is about to be applied: true when it has to wait for the mergee's rows. */
bool kv_merge_awaits(struct kv_replica *r, const struct raft_entry *entry);
void kv_merge_apply(struct kv_replica *r);
void kv_merge_hand(struct kv_replica *r);  /* if it is wanted and has applied enough */
void kv_merge_ended(struct kv_replica *r); /* without having been handed over */
void kv_merge_released(void *machine, void *arg);
void kv_merge_sweep(struct kv_replica *r);
void kv_handoff_free(struct kv_handoff *h);

/* meta.c */
/* No replica of the range comes back; with the rows of one group's meta gone. */
void kv_meta_bury_all(struct kv_client *c, uint64_t tag);
void kv_meta_bury(struct kv_client *c, uint64_t tag, uint64_t group, struct engine_batch *b);
void kv_meta_put(struct kv_replica *r, struct engine_batch *b);
void kv_meta_put_applied(struct kv_replica *r, struct engine_batch *b);
void kv_meta_del(struct kv_replica *r, struct engine_batch *b);
int kv_meta_open(struct kv *kv); /* every replica that the disk knows */
void kv_meta_create_group(struct kv_replica *r, bool is_founded);
void kv_meta_found(struct kv_client *c, uint64_t epoch);
struct kv_replica *kv_meta_ensure(struct kv_client *c, struct range_id id, uint64_t replica_id);
/* This replica was here and is destroyed for good. */
bool kv_meta_is_tombstone(const struct kv_client *c, uint64_t tag, uint64_t replica_id);
void kv_meta_put_born(struct kv_replica *left, const struct range *right,
                      const struct kv_parts *parts, uint64_t group);
void kv_meta_drop_born(const struct kv_replica *r, uint64_t group, const struct kv_parts *parts,
                       const struct range_bounds *b);
void kv_meta_wipe_born(struct kv_client *c, uint64_t group, const struct kv_parts *parts,
                       const struct range_bounds *b);
struct kv_replica *kv_meta_born(struct kv_client *c, struct kv_birth *b);
uint64_t kv_meta_group_next(struct kv *kv);
/* Its rows cannot be read (-errno): closed, and made anew from its peers unless nobody else has
 * them. */
void kv_meta_unreadable(struct kv_replica *r, int error);

/* client.c */
void kv_client_init(struct kv_client *c, struct kv_store *s, struct kv_loop *l);
void kv_client_deinit(struct kv_client *c);
void kv_client_flush(struct kv_client *c);
void kv_bundle_done(struct kv_loop *here, struct kv_bundle *b, enum kv_wire_status status);
void kv_bundle_deliver(struct kv_bundle *b);
struct kv_bundle *kv_bundle_new(struct kv_client *c);
void kv_bundle_free(struct kv_bundle *b);
void kv_ask_done(struct kv_loop *here, struct kv_ask *a, enum kv_wire_status status);
void kv_ask_deliver(struct kv_ask *a);
void kv_ask_free(struct kv_ask *a);
void kv_client_routes_changed(struct kv_client *c);
/* The range has another leader: what was sent to the former one is repeated where that does no
 * harm. */
void kv_client_recall(struct kv_client *c, struct kv_route *r);
void kv_client_convoy(struct kv_client *c, struct kv_route *r); /* a new one begins */

/* ask.c */
struct kv_ask *kv_ask_of_request(struct cluster_request *rq, const struct kv_wire_request *w);
void kv_asks_tick(struct kv_client *c);
void kv_asks_drop(struct kv_client *c);

/* router.c */
struct kv_route *kv_router_find(struct kv_client *c, struct str key);
struct kv_route *kv_router_of_tag(struct kv_client *c, uint64_t tag);
struct kv_route *kv_router_of_id(struct kv_client *c, struct range_id id);
struct kv_route_news { /* what became known; is_gone: the local replica ended */
    struct range_id id;
    struct range_version version;
    struct range_bounds bounds;
    struct uuid leader;
    uint64_t term;
    bool is_local, is_gone, is_ready;
    void *machine;
};
/* The chain has no gap, and every route of it is good. */
bool kv_router_is_whole(const struct kv_client *c, bool (*is_good)(const struct kv_route *r));

/* status.c: this node itself, or a member that is not dead. */
bool kv_node_is_live(const struct kv_loop *l, const struct uuid *node);
/* As its own configuration names them; how many. */
unsigned kv_status_members(const struct kv_replica *r, struct kv_member out[KV_MEMBER_MAX]);
/* Whether half of the voters or fewer are alive, of those of now or of those of next; then *out
 * says so, and who is missing. */
bool kv_status_no_quorum(const struct kv_loop *l, const struct kv_member *m, unsigned count,
                         struct buf *out);
void kv_router_learn(struct kv_client *c, const struct kv_route_news *n);
void kv_router_hint(struct kv_client *c, uint64_t tag, const struct uuid *leader, uint64_t term);
void kv_router_avoid(struct kv_client *c, uint64_t tag, const struct uuid *leader);
/* Whom to ask now; zero: nobody yet. */
struct uuid kv_router_leader(const struct kv_client *c, const struct kv_route *r);
void kv_router_unlead(struct kv_client *c, const struct uuid *node);
void kv_router_forget(struct kv_client *c,
                      struct range_id id); /* the landscape has no word of it left */
void kv_router_deinit(struct kv_client *c);
/* Tells all loops of this node; then, when fn is not NULL, calls it on l once all have heard. */
void kv_router_tell(struct kv_replica *r, bool is_gone, void (*fn)(void *machine, void *arg),
                    void *arg);

/* peer.c */
void kv_peer_send(struct kv_loop *l, const struct uuid *node, uint32_t shard,
                  enum kv_wire_frame kind, uint64_t tag, const struct raft_message *m,
                  struct str body);
/* The peer's loop that a shard lives on; made when it is new. */
struct kv_peer *kv_peer_of(struct kv_loop *l, const struct uuid *node, uint32_t shard);
struct kv_peer *kv_peer_find(struct kv_loop *l, const struct uuid *node, uint32_t loop);
void kv_peer_pulse(struct kv_loop *l, struct kv_peer *p, uint64_t life);
void kv_peer_flush(struct kv_loop *l);
void kv_peer_deinit(struct kv_loop *l);
void kv_peer_serve(struct kv_loop *l);

/* pulse.c */
void kv_pulse_init(struct kv_loop *l);
void kv_pulse_deinit(struct kv_loop *l);
bool kv_pulse_is_watched(struct kv_replica *r); /* may it sleep, if it leads? */
void kv_pulse_changed(struct kv_replica *r);    /* role, members, asleep or awake */
void kv_pulse_forget(struct kv_replica *r);
void kv_pulse_heard(struct kv_loop *l, const struct uuid *node, uint32_t loop, uint64_t life);
void kv_pulse_down(struct kv_loop *l, const struct uuid *node);

/* serve.c */
void kv_serve_init(struct kv_loop *l);

/* weigh.c */
void kv_weigh_soon(struct kv_replica *r, usec_t now); /* if it is time to */
/* For the descriptor: what cannot be split is never said to be larger than the limit for it. */
uint64_t kv_weigh_bytes(const struct kv_replica *r);
/* ship.c */
void kv_ship_out(struct kv_replica *r, uint64_t peer);
void kv_ship_head(struct kv_replica *r, const struct raft_message *m);
void kv_ship_stop(struct kv_replica *r);
/* Takes n bytes out of the node's rate: when they may leave, in the order of asking. */
usec_t kv_ship_pace(_Atomic usec_t *free_at, usec_t now, size_t n, size_t bytes_per_sec);

/* landing.c */
void kv_landing_serve(struct kv_loop *l);
void kv_landing_stop(struct kv_replica *r); /* it is closed */

/* landscape.c */
void kv_landscape_init(struct kv_loop *l);
void kv_landscape_deinit(struct kv_loop *l);
void kv_landscape_tell(struct kv_replica *r, bool is_forced);
void kv_landscape_untell(struct kv_replica *r);
/* Views into r and fact, which is used for scratch. */
void kv_landscape_describe(const struct kv_replica *r, struct range_descriptor *out,
                           struct buf *fact);
/* The members as its own configuration names them. */
void kv_landscape_members(const struct kv_replica *r, struct range_descriptor *out);

/* boss.c */
void kv_boss_init(struct kv_loop *l);
void kv_boss_deinit(struct kv_loop *l);

/* fresh.c */
void kv_fresh_init(struct kv_client *c);
void kv_fresh_start(struct kv_client *c);
void kv_fresh_stop(struct kv_client *c);
void kv_fresh_read(struct kv_replica *r, const struct raft_read_done *read);
void kv_fresh_applied(struct kv_replica *r);
void kv_fresh_beat(struct kv_replica *r); /* its leader has been heard */
void kv_fresh_end(struct kv_replica *r); /* its machine is not complete from now on */

/* drain.c */
void kv_drain_deinit(struct kv *kv);

/* command.c */
/* A number that no other range and no other moment gives; not 0. */
static inline uint64_t kv_serial(struct kv_replica *r)
{
    return hash_u64(kv_loop_hlc(r->loop) + hash_u64(r->tag + r->id)) | 1;
}
void kv_command_run(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a);
void kv_command_settle(struct kv_replica *r);
