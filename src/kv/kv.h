/* Replicated tables: stores made of ranges, each range one Raft group.  SPDX-License-Identifier: Apache-2.0
 *
 * The door of the room.  A store is a name and a state machine (range/machine.h); its key space is
 * cut
 * into ranges [start, end), every range has replicas on several nodes and one of them leads.
 * Callers
 * name a key, never a range or a node: a proposal finds its way by itself.
 *
 * Threads: everything here is called on one of the loops given to kv_new, and a callback comes on
 * the
 * loop of the client it was asked through, never before the asking function has returned.  What
 * needs
 * another rule says so.
 * Lifetime: keys, commands and requests are copied before the call returns.  Replies are views,
 * good
 * until the callback returns. */
#pragma once

#include "base/log.h"
#include "base/usec.h"
#include "base/uuid.h"

struct buf;
struct cluster_seat;
struct engine_fs;
struct engine_mem;
struct net_loop;
struct net_worker;
struct range_machine_ops;

struct kv;        /* the room on one node */
struct kv_store;  /* one store of it */
struct kv_client; /* one store seen from one loop */

/* ---- outcomes -------------------------------------------------------------------------------- */

/* How a call ended.  A machine's own refusals are not outcomes: they are in the reply of KV_OK. */
enum kv_outcome {
    KV_OK = 0,     /* committed and applied (proposal), read (query), done (command) */
    KV_E_DEADLINE, /* deadline passed; definitely not executed */
    KV_E_UNKNOWN, /* it may have been executed, or may yet be: ask, or repeat if that is harmless */
    KV_E_NO_RANGE,  /* until the deadline nobody owned the key; not executed */
    KV_E_NO_LEADER, /* until the deadline the range had no reachable leader; not executed */
    KV_E_FULL,      /* shed: too much is under way here or at the leader; not executed */
    KV_E_INVALID,   /* too large, or a request the machine does not know; not executed */
    KV_E_VERSION,   /* commands only: the range is not at the version expected; not executed */
    KV_E_CONFLICT,  /* commands only: refused in the present state of the range; not executed */
    KV_E_STOPPED,   /* the store stops; not executed */
};

/* true when the caller may repeat without fear of doing it twice */
bool kv_is_not_executed(enum kv_outcome o);
const char *kv_outcome_name(enum kv_outcome o);

/* ---- assembling ------------------------------------------------------------------------------ */

enum kv_durability {
    KV_DURABILITY_QUORUM_FSYNC, /* acked when a quorum has it on its disk */
    KV_DURABILITY_QUORUM,       /* acked when a quorum has it in memory or page cache */
    KV_DURABILITY_MEMORY,       /* as QUORUM: a write() costs nothing beside a round trip */
};

struct kv_limits {
    size_t command_bytes_max; /* one machine command; default 4 MiB + 64 KiB */
    size_t batch_bytes_max; /* commands put into one log entry; default 1 MiB (one may be larger) */
    size_t pending_bytes_max;   /* proposals under way in this node, per store; default 64 MiB */
    size_t pending_count_max;   /* default 1,000,000 */
    size_t log_bytes_max;       /* log of one range kept for slow followers; default 64 MiB */
    size_t ship_bytes_per_sec;  /* snapshots sent by this node, all ranges; default 128 MiB */
    size_t ship_part_bytes;     /* rows of a snapshot between two checksums; default 128 KiB */
    uint64_t log_segment_bytes; /* a file of the Raft log; default 64 MiB */
    unsigned range_count_max;   /* replicas on this node, per store; default 1024 */
};

/* Zero in a limit or timeout means its default. */
struct kv_conf {
    struct uuid node;       /* who we are; the same for the life of the data directory */
    struct net_loop **loop; /* replicas and clients are spread over these; not owned */
    unsigned loop_count;
    struct cluster_seat *
        *seat; /* of each loop: membership, table and link; NULL: this node is alone */
    struct net_worker *worker;  /* for what blocks on the disk; not owned */
    const char *log_path;       /* directory of the Raft log; NULL: in memory, with the rows */
    const char *state_path;     /* under it a directory for each store's rows; NULL: in memory */
    const struct engine_fs *fs; /* NULL: real files */
    bool
        is_founder; /* founds the stores that nobody has: exactly one node of a cluster may be told so (the first
                        one, or any node without seeds).  It does so once, after it has joined and found none */
    bool is_founder_named; /* whether it is is_founder is what cluster_is_named_first says */
    struct kv_limits limits;
    usec_t
        election_usec; /* silence after which a follower campaigns; default 1 s, up to twice that */
    usec_t heartbeat_usec; /* default 100 ms */
    usec_t dead_usec;      /* a voter gone this long is replaced; default 5 min */
    usec_t
        hibernate_usec; /* a range idle this long sleeps; default 5 s, USEC_NEVER: it never does */
    uint64_t seed;      /* of all chance in the room */
    const struct log *log;
    /* Simulators: no threads, kv_disk_step does their work; rows without state_path live in what mem gives. */
    bool is_inline;
    struct engine_mem *(*mem)(void *arg, const char *store);
    void *mem_arg;
};

/* One node's kv, without stores.  0 or -errno. */
must_use int kv_new(const struct kv_conf *conf, struct kv **out);

/* Opens the replicas that the engine has, replays their logs, takes part.  Called once after the stores are
 * registered, before the loops run.  0 or -errno (damaged or foreign data: logged by name). */
must_use int kv_start(struct kv *kv);

/* With is_inline: writes what was submitted to the disk.  True when it did something. */
bool kv_disk_step(struct kv *kv);

/* Hands leaderships away, as far as that is possible before the deadline, then calls done (may be NULL) on loop 0.  A
 * call while one is under way takes its place, and the done of that one is not called any more. */
void kv_hand_over(struct kv *kv, usec_t deadline, void (*done)(void *arg), void *arg);

/* The same, and waits until quorums without this node have everything. */
void kv_drain(struct kv *kv, usec_t deadline, void (*done)(void *arg), void *arg);

/* Ends the room once the loops have stopped; what is pending ends with KV_E_STOPPED or KV_E_UNKNOWN. */
struct kv *kv_free(struct kv *kv);

/* ---- stores ---------------------------------------------------------------------------------- */

struct kv_range_id {
    uint64_t epoch; /* generation of the key space: the hlc of its founding */
    uint64_t id; /* 0 the first range, else made of its left neighbour's and the hlc of the split */
};

/* What a host is told about; views, good until the callback returns. */
struct kv_range_view {
    struct kv_range_id id;
    struct str start, end; /* end is void when is_open */
    bool is_open;
    unsigned loop; /* the loop that owns the local replica */
    uint64_t term;
    void *machine; /* the local replica's; to be touched on that loop alone, unless the machine
                              says what else is safe */
};

/* The owner's ears.  Each is called on the loop of the replica; any may be NULL. */
struct kv_host {
    void *arg;
    /* One effect of an applied command, only where the range led when it was applied.  Not repeated after a crash or a
     * change of leader: what must not be lost is state, found again by the new leader's machine. */
    void (*effect)(void *arg, const struct kv_range_view *r, struct str effect);
    /* After the last effect of a batch, before the proposers are answered. */
    void (*effects_end)(void *arg, const struct kv_range_view *r);
    /* The local replica leads now and has applied every entry committed before it did; or leads no more. */
    void (*leader)(void *arg, const struct kv_range_view *r, bool is_leader);
    /* The local machine is complete (after start, snapshot, split): may be read; or is about to be reset or freed. */
    void (*ready)(void *arg, const struct kv_range_view *r, bool is_ready);
};

struct kv_store_conf {
    const char *name; /* "dist.worker"; at most 31 bytes, the same on all nodes */
    const struct range_machine_ops *ops;
    void *machine_conf; /* handed to ops->new of every local replica */
    struct kv_host host;
    enum kv_durability durability;
    unsigned voter_count; /* wanted replicas that vote: odd; default 3 */
    int learner_count;    /* wanted replicas that only listen; -1: on every other live node */
    uint64_t split_bytes; /* a range larger than this is split; 0: never by size */
    bool is_fresh_kept; /* kv_fresh_since tells; costs a question to each leader 20 times a second, 3 when idle */
    bool
        is_one_loop; /* all its ranges live on one loop of a node: what their machines share has one writer */
};

/* Before kv_start.  The conf is copied, what it points to is not.  0 or -EINVAL, -EEXIST. */
must_use int kv_store_add(struct kv *kv, const struct kv_store_conf *conf, struct kv_store **out);

/* The store of this name, or NULL. */
struct kv_store *kv_store_of_name(const struct kv *kv, struct str name);

/* The loop of all its ranges, of a store with is_one_loop; the same for the life of the process. */
unsigned kv_store_loop(const struct kv_store *s);

/* The store as seen from one loop (index into kv_conf.loop). */
struct kv_client *kv_client_get(struct kv_store *s, unsigned loop);

/* ---- proposals and queries ------------------------------------------------------------------- */

struct kv_reply {
    enum kv_outcome outcome;
    struct str bytes; /* the machine's reply; empty unless KV_OK */
    /* Queries and proposals that were KV_OK: the range that answered ends here, so that a caller who wants the whole
     * store asks again with this key until is_last. */
    struct str range_end;
    bool is_last;
};
typedef void kv_reply_cb(void *arg, const struct kv_reply *reply);

/* Has the command applied by the range that owns key, once.  What gathers in one turn of the loop goes out
 * together.  Within the deadline it is repeated while it is certain that it was not executed
 * (another leader,
 * moved bounds); what may have been executed is never repeated here but answered KV_E_UNKNOWN, so
 * commands that
 * must survive that carry their own dedup key.  Commands of one client for one range keep their
 * order as long as
 * none fails. */
void kv_propose(struct kv_client *c, struct str key, struct str command, usec_t deadline,
                kv_reply_cb *cb, void *arg);

/* A command that may be applied several times, or knows itself that it was.  Within the deadline it
 * is repeated also when it may have been carried out, so KV_E_UNKNOWN comes only at the end.  Those of one
 * client for one range take effect, for the first time each, in the order they were proposed, also when the
 * leader dies (but not when it sheds load).
 * lane: those of one lane (not 0) end together: when one misses its deadline, so do all behind it, as the
 * next attempt of whoever waits for it would come behind them. */
struct kv_proposal {
    struct str key, command;
    usec_t deadline;
    uint64_t lane;
};
void kv_propose_repeatable(struct kv_client *c, const struct kv_proposal *p, kv_reply_cb *cb,
                           void *arg);

/* What is under way in this lane ends soon, with KV_E_UNKNOWN, and is not sent (again). */
void kv_cancel(struct kv_client *c, uint64_t lane);

enum kv_read {
    KV_READ_LINEAR, /* sees every proposal that was answered before: asks the leader */
    KV_READ_STALE, /* whatever the nearest replica has applied; a local one if there is a ready one */
};

struct kv_query {
    struct str key;
    struct str request;
    enum kv_read read;
    usec_t deadline;
};

/* Asks the machine; rows that it names are read off the loop and appended to the reply. */
void kv_query(struct kv_client *c, const struct kv_query *q, kv_reply_cb *cb, void *arg);

/* The machine of the local replica that owns key, ready or NULL.  From any loop, valid until that loop's turn ends.
 * Only what the machine declares safe to read from other loops may be touched. */
void *kv_local_machine(struct kv_client *c, struct str key);

/* How fresh the local machines are, of a store with is_fresh_kept: together they hold the whole key
 * space and everything that was committed before this time (of this node's clock, net_loop_now).  0: not everything is
 * here, or nobody could be asked yet.  From any loop.  Who reads a machine in place looks here after
 * reading: a machine that was being replaced meanwhile is then seen.  While nobody looks, leaders are
 * asked less often: the answer may be a quarter of a second older then.  Raft thesis 6.4. */
usec_t kv_fresh_since(const struct kv_store *s);

/* ---- what is where --------------------------------------------------------------------------- */

enum kv_role {
    KV_ROLE_NONE, /* knows of the range, is no member (yet or any more) */
    KV_ROLE_LEARNER,
    KV_ROLE_FOLLOWER,
    KV_ROLE_CANDIDATE,
    KV_ROLE_LEADER,
};
const char *kv_role_name(enum kv_role r);

#define KV_MEMBER_MAX 16

struct kv_member {
    struct uuid node;
    uint64_t replica;
    bool is_voter, is_next_voter; /* is_next_voter differs during a joint change */
    bool is_live;                 /* the cluster believes the node alive */
    uint64_t lag;                 /* entries behind; known at the leader only, else 0 */
};

/* One range as this node knows it: exact where it has the leader, else as gossiped. */
struct kv_range_status {
    const char *store;
    struct kv_range_id id;
    struct str start, end;
    bool is_open;
    uint32_t boundary_version, config_version;
    enum kv_role role; /* of the local replica */
    bool is_local;
    bool has_leader;
    struct uuid leader; /* when has_leader */
    uint64_t term, commit, applied;
    uint64_t bytes; /* rows, about */
    uint64_t log_bytes;
    struct kv_member member[KV_MEMBER_MAX];
    unsigned member_count;
    struct str reason; /* why it is not healthy, for a person; empty: it is */
};

/* Calls each once for every range of every store, in order of store and start, then once with NULL; all on the
 * client's loop and within one turn.  The store of the client does not matter. */
typedef void kv_status_cb(void *arg, const struct kv_range_status *r);
void kv_status(struct kv_client *c, kv_status_cb *cb, void *arg);

/* Every store has all its ranges led, as far as this node knows.  From any loop. */
bool kv_is_ready(const struct kv *kv);

enum kv_disk {
    KV_DISK_GOOD,
    KV_DISK_BUSY, /* more waits to be written than may wait */
    KV_DISK_FULL, /* no space: what is new is refused until there is some */
};
/* How the disk under the Raft log and the rows is (one that fails ends the process).  From any loop. */
enum kv_disk kv_disk_get(const struct kv *kv);

struct kv_stats {
    uint64_t proposal_count, proposal_bytes; /* commands entered here */
    uint64_t entry_count;                    /* log entries those became */
    uint64_t apply_count;                    /* commands applied by local replicas */
    uint64_t forward_count;                  /* commands sent to other nodes */
    uint64_t retry_count;
    uint64_t query_count, scan_count;
    uint64_t elected_count;             /* times a local replica began to lead */
    uint64_t snapshot_in, snapshot_out; /* installed; begun to be sent */
    uint64_t snapshot_resumed; /* of those sent: went on where a broken link had cut them off */
    uint64_t snapshot_bytes_in, snapshot_bytes_out;
    uint64_t pending_bytes, pending_count;
    uint32_t replica_count, leader_count;
};
/* From any loop; figures of one moment, each right by itself. */
void kv_stats_get(const struct kv *kv, struct kv_stats *out);

/* ---- commands of operators and balancers ----------------------------------------------------- */

enum kv_command_kind {
    KV_CMD_TRANSFER, /* leadership to node[0] */
    KV_CMD_CONFIG,   /* voters node[0 .. voter_count), learners the rest */
    KV_CMD_SPLIT,    /* at key, or near the middle when key is empty */
    KV_CMD_RECOVER, /* a lost majority: this node's replica goes on with those that remain.  May lose what was acked */
    KV_CMD_SETTLE, /* answered when what is committed now is on a quorum without node[0] */
    KV_CMD_MERGE, /* with its right neighbour; both must have the same members, all of them up to date */
    KV_CMD_FREEZE, /* these two: kv's own, between the leaders of two that merge */
    KV_CMD_THAW,
};

struct kv_command {
    enum kv_command_kind kind;
    struct kv_range_id id;
    uint64_t version; /* expected: boundary << 32 | config; 0: any */
    struct uuid node[KV_MEMBER_MAX];
    unsigned node_count, voter_count;
    struct str key;
    usec_t deadline;
};

/* From any node for any range; runs at its leader (RECOVER: at the local replica).  The reply has no bytes. */
void kv_run(struct kv_client *c, const struct kv_command *cmd, kv_reply_cb *cb, void *arg);

/* ---- rules of balancers ---------------------------------------------------------------------- */

/* Cluster-wide and kept across restarts; the last writer wins.  On the client's loop. */

enum kv_rule_outcome {
    KV_RULE_E_UNKNOWN = 1, /* no balancer of this name */
    KV_RULE_E_BAD,         /* the rules are refused: why says it */
    KV_RULE_E_ALONE,       /* no cluster that could keep them */
};
#define KV_RULE_WHY_MAX 240

/* Appends what holds now: a JSON object. */
must_use int kv_rule_get(struct kv_client *c, struct str balancer, struct buf *out);

/* A JSON object with rules that shall hold instead of the configured ones ("disable" too); what it does not name
 * stays as it is.  With 0 out_why is empty, or what the operator should know of it. */
must_use int kv_rule_put(struct kv_client *c, struct str balancer, struct str rules,
                         char out_why[KV_RULE_WHY_MAX]);

/* As configured again. */
must_use int kv_rule_reset(struct kv_client *c, struct str balancer);

/* The names of the balancers, in the order in which they are asked; NULL past the end. */
const char *kv_balancer_at(size_t i);
