/* One Raft group in a simulated world: replicas, their hosts, disks and the lines between them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A host here does what any host must do (raft/raft.h, "The host's turn"), with every freedom
 * it has drawn from the seed: late disks, late application, lost streams, entries forgotten and
 * read back.  The checker looks at what is on the disks and on the lines, not at what the
 * replicas think. */
#pragma once

#include "base/list.h"
#include "raft/raft.h"
#include "sim/lib/faults.h"
#include "sim/lib/linear.h"
#include "sim/lib/world.h"

#define GROUP_KEYS 32
#define GROUP_TERM_MAX 4096
#define GROUP_INDEX_MAX (1 << 17)

/* The state machine: numbered values that are written or appended to. */
struct group_app {
    uint64_t applied, term; /* and the term of that entry */
    uint64_t hash;          /* of all commands in order */
    uint64_t value[GROUP_KEYS];
    struct raft_config *config; /* at applied */
};

struct group_command {
    uint64_t op; /* the client's number of it, 0: filler */
    uint8_t kind, key;
    uint64_t arg;
};

struct group_entry {
    uint64_t term;
    uint8_t type;
    struct str payload; /* own copy */
};

struct group_write {
    struct list link;
    uint64_t seq, reset, reset_term, compact, compact_term, truncate;
    bool has_hard;
    struct raft_hard hard;
    struct group_entry *entry;
    size_t count;
};

struct group_disk {
    uint64_t base, base_term;
    struct group_entry *entry; /* base + 1 and up */
    size_t count, cap;
    struct raft_hard hard;
    struct list queue;    /* group_write: handed over, not durable */
    uint64_t flushing;    /* seq of the last in the batch under way, 0: idle */
    struct group_app app; /* the durable state machine */
};

/* A client's call on a node that waits for its end. */
struct group_wait {
    uint64_t op;
    uint64_t index, term; /* proposal; or read: index to wait for, term 0 */
    uint8_t key;
};

struct group_hold { /* a payload read back from disk, lent to raft until applied */
    uint64_t last;
    char *data;
};

struct group_node {
    struct group *g;
    size_t place;
    uint64_t id;   /* of the replica; a wiped disk takes a new one */
    uint32_t life; /* grows with every crash: events of a former life do nothing */
    bool is_up;
    bool is_new;
    usec_t paused_until;
    struct sim_clock clock;
    struct raft raft;
    struct raft_out out;
    struct group_disk disk;
    struct group_app app;
    struct world_event timer;
    bool is_applying;        /* later applications are planned */
    struct raft_entry *todo; /* handed out, not applied */
    size_t todo_count, todo_cap;
    struct group_hold *hold;
    size_t hold_count, hold_cap;
    struct group_wait *wait;
    size_t wait_count, wait_cap;
    uint64_t commit_seen;
    bool was_leader;
    uint64_t leader_life; /* of the leader's node when we went quiet */
};

/* What must stay true of the whole: invariants 11 to 13 of src/raft/README.md. */
struct group_truth {
    uint64_t *leader; /* by term: replica */
    uint64_t *term;   /* by index: of the committed entry */
    uint64_t *by; /* by index: the term of the leader that committed it */
    uint64_t *hash;   /* by index: of the state after it */
    uint64_t committed;
    struct group_fact { /* every entry that was ever written: what it is and what came before */
        uint64_t index, term, payload, before;
    } * fact;
    size_t fact_cap, fact_count;
    struct group_vote {
        uint64_t id, term, to;
    } * vote;
    size_t vote_count, vote_cap;
    struct raft_config *config; /* latest committed */
    uint64_t config_index;
};

struct group_options {
    size_t nodes, voters;
    usec_t disk_min, disk_max; /* one flush */
    bool has_late_apply;
    /* chance that the applied state becomes durable, per application */
    uint32_t keep_app_ppm;
    uint32_t stream_fail_ppm;
    usec_t stream_max;
    uint32_t compact_ppm; /* chance of a compaction per application */
    struct raft_conf conf;
};

struct group {
    struct world w;
    struct group_options o;
    struct sim_net net;
    struct group_node node[SIM_NODE_MAX];
    size_t count;
    uint64_t next_id;
    struct group_truth truth;
    struct raft_message_store store;
    bool is_nested; /* a replica is being stepped */
    /* end of a client's call */
    void (*done)(struct group *g, uint64_t op, bool ok, uint64_t value);
    uint64_t messages, snapshots;
    bool has_lying_disk; /* planted fault: says durable before it is */
};

void group_init(struct group *g, const struct group_options *o);
void group_deinit(struct group *g);

/* The one caller of raft_step.  ev->now is filled in. */
void group_step(struct group_node *n, struct raft_event ev);

/* When a stopped node will get to something that waits for it. */
usec_t group_resumes_in(struct group_node *n);

void group_crash(struct group_node *n);
void group_start(struct group_node *n);
/* The disk is gone: a new replica, member of nothing. */
void group_wipe(struct group_node *n);

struct group_node *group_by_id(struct group *g, uint64_t id);
/* The node that leads with the highest term, or NULL. */
struct group_node *group_leader(struct group *g);

/* A client's call, at the node now; g->done says how it ends, or never.  False: certainly not
 * done. */
bool group_call(struct group_node *n, uint64_t op, enum linear_kind kind, uint8_t key,
                uint64_t arg);

/* ---- disk.c ---- */
void group_disk_init(struct group_disk *d);
void group_disk_deinit(struct group_disk *d);
void group_disk_submit(struct group_node *n, const struct raft_persist *p);
void group_disk_crash(struct group_node *n);
/* Term of a durable entry, 0 when it is not there. */
uint64_t group_disk_term(const struct group_disk *d, uint64_t index);
void group_disk_boot(struct group_node *n, struct raft_boot *b, struct buf *runs,
                     struct buf *later);
void group_app_copy(struct group_app *to, const struct group_app *from);

/* ---- group_check.c ---- */
void group_truth_init(struct group_truth *t);
void group_truth_deinit(struct group_truth *t);
void group_check_out(struct group_node *n, const struct raft_out *out);
void group_check_message(struct group_node *n, const struct raft_message *m);
void group_check_applied(struct group_node *n, const struct raft_entry *e);
