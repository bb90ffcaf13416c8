/* One replica of one Raft group: events in, effects out.  SPDX-License-Identifier: Apache-2.0
 *
 * Ongaro's thesis with pre-vote, check-quorum, a clocked leader lease, ReadIndex, joint
 * consensus, learners, leadership transfer, flow control clocked by acks, and hibernation.  It
 * reads no clock and keeps no thread: `now` comes with each event and never goes back
 * (CLOCK_BOOTTIME).  One thread at a time per replica.
 *
 * The host's turn, for every event, in this order:
 *   raft_out_reset; raft_step;
 *   1 persist   out->persist when its seq != 0: hand to the log, in order, never wait; when it and
 *               all before it are durable, give RAFT_EV_PERSISTED with the largest such seq.  A
 *               failed write is fatal: stop the replica.
 *   2 send      every out->message at once.  Messages that depend on a write are kept back by
 *               raft until PERSISTED.
 *   3 apply     out->apply; then RAFT_EV_APPLIED (at once, or later when applied elsewhere).
 *   4 fetch, snapshot, install, read, and what out->changed says.
 *   5 arm       one timer at raft_deadline(); it gives RAFT_EV_TICK.
 *
 * Memory.  raft keeps payloads only of entries that are not durable, not applied or not yet
 * sent to everybody who keeps up, and of the latest tail_bytes_max bytes.  Of all older entries
 * it knows the term (as runs) and nothing else: when one is needed again it asks with
 * out->fetch and the host answers with RAFT_EV_FETCHED.  An idle group costs about 1 KiB.
 *
 * Lifetimes.  Everything in an event is copied or done with when raft_step returns, except that
 * entries of FETCHED come back as views in out->apply or out->message.  Everything in out is
 * valid until the next raft_step of the same replica, except the payloads of out->apply, which
 * are valid until RAFT_EV_APPLIED covers them (if they came with FETCHED, they are the host's
 * own memory).
 *
 * Snapshots.  A peer that needs an entry we no longer have: out->snapshot names it.  The host
 * takes a view of its state at an applied index and steps SNAPSHOT_BEGIN with that index, its
 * term and configuration; the RAFT_MSG_SNAPSHOT that results goes at the head of the stream.
 * The stream's end, good or bad, is SNAPSHOT_SENT.  The receiving host steps the head as RECV
 * before it accepts the data: if out->install is set the snapshot is wanted (appends are
 * ignored until it is in or has failed); if not, raft has answered it and the host refuses the
 * stream.  After the switch to the new state is durable: SNAPSHOT_INSTALLED; when the stream
 * breaks: SNAPSHOT_FAILED.
 *
 * Hibernation.  A leader whose followers all have everything and that was idle for
 * hibernate_usec goes quiet with its followers: no deadline, no heartbeat.  The host must watch
 * the stores instead (one heartbeat per pair of stores) and step RAFT_EV_WAKE into every quiet
 * replica whose leader's store is suspected or was restarted, and into a quiet leader when that of a
 * member is. */
#pragma once

#include "base/rng.h"
#include "base/usec.h"
#include "raft/message.h"

/* One for all groups of a host; must outlive them.  raft_conf_default fills it. */
struct raft_conf {
    /* least silence of a leader before anybody stands or votes; a random part of up to the same
     * is added */
    usec_t election_usec;
    /* heartbeats fall on multiples of it, so those of all groups of a store leave in one turn */
    usec_t heartbeat_usec;
    usec_t lease_margin_usec; /* taken off the lease for what is measured late */
    /* bound on how much faster or slower than real time any clock of the cluster runs */
    uint32_t drift_ppm;
    bool has_lease;              /* false: every read asks a quorum */
    usec_t hibernate_usec;       /* idle time before going quiet; 0: never */
    usec_t read_timeout_usec;    /* a read not confirmed by then ends with RAFT_E_TIMEOUT */
    uint32_t append_bytes_max;   /* payload of one append (one entry may exceed it) */
    uint32_t append_entry_max;   /* entries of one append, <= RAFT_MESSAGE_ENTRY_MAX */
    uint32_t inflight_max;       /* appends not acknowledged, per peer, when replicating */
    uint32_t inflight_bytes_max; /* and their payload */
    /* proposals not committed; one proposal always fits an empty log */
    uint32_t uncommitted_bytes_max;
    uint32_t entry_bytes_max; /* one proposal */
    /* payloads kept although nobody waits for them; a follower with twice that not applied takes
     * no more */
    uint32_t tail_bytes_max;
    uint32_t apply_bytes_max; /* handed to apply and not APPLIED */
    uint32_t read_max;        /* reads waiting */
};
void raft_conf_default(struct raft_conf *c);

/* Entries first..(next run's first - 1) were written in this term. */
struct raft_run {
    uint64_t first;
    uint64_t term;
};

/* term and vote are what Raft must not forget; commit is a hint that spares work after a
 * restart. */
struct raft_hard {
    uint64_t term;
    uint64_t vote; /* replica id, 0: none */
    uint64_t commit;
};

/* What the host found on its disk.  raft copies it. */
struct raft_boot {
    uint64_t id; /* this replica, never 0 */
    usec_t now;
    uint64_t seed; /* for election timeouts and read numbers; different on every start */
    /* this replica never ran before: no lease can depend on it, so it need not sit out
     * election_usec */
    bool is_new;
    struct raft_hard hard;
    uint64_t base, base_term;   /* the last entry that was compacted away (0, 0: none) */
    uint64_t last;              /* the last entry of the log, durable; base when it is empty */
    const struct raft_run *run; /* terms of base + 1 .. last, ascending */
    size_t run_count;
    /* the state machine has applied this; base <= applied <= last */
    uint64_t applied;
    /* in force at `applied`; NULL or empty: not a member of anything yet */
    const struct raft_config *config;
    /* the RAFT_ENTRY_CONFIG entries after `applied`, ascending, with payload */
    const struct raft_entry *later;
    size_t later_count;
};

enum raft_role {
    RAFT_FOLLOWER, /* learners too */
    RAFT_PRECANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_event_kind {
    RAFT_EV_TICK = 1, /* is_unwatched: the deadline has come (early or late is fine) */
    RAFT_EV_RECV,     /* message: from the network, decoded */
    /* propose: a batch, which becomes consecutive entries, all or none */
    RAFT_EV_PROPOSE,
    RAFT_EV_PERSISTED,          /* seq: this out->persist and all before it are durable */
    RAFT_EV_APPLIED,            /* index: the state machine has applied up to here */
    RAFT_EV_READ,               /* read */
    RAFT_EV_CONF,               /* conf: the members wanted (roles RAFT_VOTER or RAFT_LEARNER) */
    RAFT_EV_TRANSFER,           /* peer: the voter that shall lead */
    RAFT_EV_FETCHED,            /* fetched: the answer to one out->fetch */
    RAFT_EV_SNAPSHOT_BEGIN,     /* snapshot: a stream to snapshot.peer starts */
    RAFT_EV_SNAPSHOT_SENT,      /* peer, ok: its end */
    RAFT_EV_SNAPSHOT_INSTALLED, /* snapshot: the state machine now is this */
    RAFT_EV_SNAPSHOT_FAILED,    /* the stream that out->install asked for has broken */
    RAFT_EV_COMPACT,            /* index: entries up to here (applied, and durably so) may go */
    RAFT_EV_UNREACHABLE,        /* peer: messages to it were dropped */
    RAFT_EV_WAKE,               /* leave hibernation */
    RAFT_EV_CAMPAIGN,           /* stand for election without waiting (the new half of a split) */
    /* conf: the operator states that only these voters survive (majority lost for good) */
    RAFT_EV_RECOVER,
    /* snapshot.index, .term: it is known from elsewhere that this entry is committed */
    RAFT_EV_COMMITTED,
};

struct raft_propose {
    const struct str *payload; /* count of them, each <= entry_bytes_max */
    size_t count;
};

struct raft_read {
    uint64_t ctx;   /* comes back in out->read */
    bool is_strict; /* ask a quorum even under a lease */
};

struct raft_conf_change {
    const struct raft_member *member; /* all members afterwards, not a difference */
    size_t count;
};

struct raft_fetched {
    uint64_t peer; /* as in the request */
    uint64_t first;
    /* count of them from first on; may be fewer than wanted; 0: they are gone */
    const struct raft_entry *entry;
    size_t count;
};

struct raft_snapshot {
    uint64_t peer;                    /* the receiver; 0 for INSTALLED */
    uint64_t index;                   /* of the last entry in it */
    uint64_t term;                    /* of that entry */
    const struct raft_config *config; /* in force at index */
};

struct raft_event {
    enum raft_event_kind kind;
    usec_t now;
    union {
        const struct raft_message *message;
        struct raft_propose propose;
        uint64_t seq;
        uint64_t index;
        struct raft_read read;
        struct raft_conf_change conf;
        struct raft_fetched fetched;
        struct raft_snapshot snapshot;
        bool is_unwatched; /* the host does not watch the stores of all members: no hibernation */
        struct {
            uint64_t peer;
            bool ok;
        };
    };
};

/* What became of the event itself, in out->outcome (and of a read, in out->read). */
enum raft_outcome {
    RAFT_OK = 0,
    RAFT_E_NOT_LEADER = 1, /* certainly not done; raft_status has the leader, if one is known */
    RAFT_E_FULL,           /* certainly not done: quota of uncommitted bytes, or of reads; later */
    RAFT_E_TOO_BIG,        /* certainly not done: over entry_bytes_max */
    RAFT_E_TRANSFER,       /* certainly not done: leadership is being handed over; later */
    /* another change of the configuration is under way, or the term's first entry is not
     * committed */
    RAFT_E_PENDING,
    RAFT_E_BEHIND, /* a new voter must be a learner that keeps up first */
    /* the configuration asked for is not well-formed, or the peer is no voter */
    RAFT_E_INVALID,
    RAFT_E_TIMEOUT, /* a read nobody confirmed in time */
    /* the event came too late to matter (a snapshot we are past, a fetch not wanted) */
    RAFT_E_STALE,
};

/* One batch for the log, atomic, to be done in the order of the fields. */
struct raft_persist {
    uint64_t seq; /* counts from 1 per raft_init; 0: nothing to write */
    /* != 0: drop all entries; the log now begins after reset (a snapshot) */
    uint64_t reset, reset_term;
    uint64_t compact, compact_term; /* != 0: entries <= compact may be dropped */
    uint64_t truncate;              /* != 0: entries >= truncate are void, for ever */
    const struct raft_entry *entry; /* entry_count of them, consecutive, right after what is left */
    size_t entry_count;
    bool has_hard;
    struct raft_hard hard;
};

struct raft_fetch {
    uint64_t peer; /* for whom; 0: to be applied here */
    uint64_t first, last;
    uint32_t bytes_max; /* stop when more than this; at least one entry */
};

struct raft_read_done {
    uint64_t ctx;
    uint64_t index; /* serve the read once applied >= index */
    int outcome;    /* RAFT_OK, RAFT_E_TIMEOUT, RAFT_E_NOT_LEADER */
};

struct raft_install {
    uint64_t from; /* 0: no install wanted */
    uint64_t index, term;
    struct str config; /* raft_config_encode; view into the message */
};

enum raft_changed {
    RAFT_CH_ROLE = 1,   /* role, term or known leader */
    RAFT_CH_CONFIG = 2, /* the configuration in force (may be rolled back) */
    RAFT_CH_QUIET = 4,  /* went into or out of hibernation */
    /* a committed configuration does not have us: the host asks for proof and then destroys */
    RAFT_CH_REMOVED = 8,
    RAFT_CH_TRANSFER = 16, /* a transfer that was under way has ended (the role says how) */
};

/* The effects of one step.  One per loop is enough: reset, step, carry out. */
struct raft_out {
    int outcome;
    /* PROPOSE, CONF, RECOVER done: of the first entry.  Applied at index with this term: it is
     * ours; with another: certainly lost */
    uint64_t index, term;
    struct raft_persist persist;
    struct raft_message *message;
    size_t message_count, message_cap;
    /* committed and durable here, ascending, no gaps, each once; types DATA, CONFIG and NOOP */
    struct raft_entry *apply;
    size_t apply_count, apply_cap;
    struct raft_read_done *read;
    size_t read_count, read_cap;
    struct raft_fetch *fetch;
    size_t fetch_count, fetch_cap;
    uint64_t *snapshot; /* peers that need one */
    size_t snapshot_count, snapshot_cap;
    struct raft_install install;
    uint32_t changed; /* raft_changed bits */
    /* private: entries of persist and messages, addressed by offset until the step ends */
    struct raft_entry *entry;
    size_t entry_count, entry_cap;
    struct buf bytes;     /* an encoded configuration */
    uint64_t append_from; /* first entry appended in this step, 0: none */
    size_t held_from;     /* messages held in this step, not numbered yet */
};
void raft_out_reset(struct raft_out *out);
void raft_out_deinit(struct raft_out *out);

/* ---- The replica itself.  Read it through the functions at the end; only raft's own files
 * touch the fields. ---- */

struct raft_block; /* payload bytes of one batch, shared by its entries */

struct raft_slot {
    struct raft_block *block; /* NULL: no payload */
    const char *p;
    uint32_t n;
    uint8_t type;
};

struct raft_log {
    uint64_t base, base_term; /* what is compacted away */
    uint64_t last;
    uint64_t stable; /* durable up to here */
    uint64_t commit;
    uint64_t handed;      /* given to apply */
    uint64_t applied;     /* confirmed by the host */
    struct raft_run *run; /* terms of base + 1 .. last */
    size_t run_count, run_cap;
    struct raft_slot *slot; /* ring: entries kept .. last */
    size_t slot_cap;        /* 0 or a power of two */
    uint64_t kept;          /* first entry in the ring; last + 1 when empty */
    uint64_t kept_bytes;
    uint64_t handed_bytes; /* handed since all that was handed was applied */
    bool is_fetching;      /* for apply */
};

enum raft_peer_state {
    RAFT_PEER_PROBE,     /* one append at a time, until we know where its log ends */
    RAFT_PEER_REPLICATE, /* many */
    RAFT_PEER_SNAPSHOT,  /* none, until the stream has ended */
};

struct raft_flight {
    uint64_t last;
    uint32_t bytes;
};

struct raft_peer {
    uint64_t id;
    uint64_t match, next;
    uint64_t commit_sent;
    uint64_t round_acked;
    uint64_t snapshot;          /* index of the stream under way, 0: not begun */
    usec_t contact;             /* last time we heard of it */
    usec_t stamp_acked;         /* our own time on the newest heartbeat it has answered */
    usec_t sent_at;             /* last append */
    struct raft_flight *flight; /* ring of appends not acknowledged */
    uint32_t flight_at, flight_count, flight_cap;
    uint64_t flight_bytes;
    uint8_t state;
    int8_t vote;
    bool is_paused;   /* probe sent, not answered */
    bool is_fetching; /* a fetch is under way */
};

struct raft_write {
    uint64_t seq;
    uint64_t last; /* what becomes durable with it, cut back by truncation */
};

struct raft_held {
    uint64_t seq; /* goes when this is durable */
    struct raft_message message;
};

struct raft_waiting_read {
    uint64_t ctx;   /* the host's, or the asker's round */
    uint64_t from;  /* 0: our own */
    uint64_t round; /* confirmed when a quorum has answered this; 0: not yet broadcast */
    uint64_t index;
    usec_t since;
};

struct raft_config_at {
    uint64_t index;
    struct raft_config *config;
};

struct raft {
    const struct raft_conf *conf;
    uint64_t id;
    struct rng rng;
    usec_t now;
    enum raft_role role;
    uint64_t leader;       /* 0: unknown */
    struct raft_hard hard; /* as it must become durable */
    struct raft_log log;

    uint64_t seq; /* of the last persist */
    uint64_t seq_durable;
    uint64_t hard_seq;        /* the last one with a new hard state */
    struct raft_write *write; /* not yet durable, ascending */
    size_t write_count, write_cap;
    struct raft_held *held;
    size_t held_count, held_cap;

    /* by log index, the last one is in force, the first is at or below commit */
    struct raft_config_at *config;
    size_t config_count, config_cap;
    struct raft_peer *peer; /* one per member other than us, by id; survives where ids do */
    size_t peer_count;

    usec_t election_at; /* when to stand, not leader */
    usec_t contact;     /* last word of the leader (or start) */
    /* of the leader's lease: a vote asked for with a lower one is refused within the lease */
    uint64_t epoch;
    uint64_t epoch_term;  /* of that leader */
    usec_t born;          /* time of start, 0: never ran before */
    usec_t ask_at;        /* candidates: when to ask those again who have not answered */
    uint64_t asked_epoch; /* and the epoch of the transfer that we stand for, 0: none */
    uint8_t asked_count;
    int8_t own_vote;

    /* leader only */
    uint64_t term_start; /* its NOOP */
    uint64_t round;
    usec_t epoch_since; /* answers to heartbeats before this do not count for the lease */
    usec_t beat_at;     /* next heartbeat; not leader: next time to ask again for a read */
    usec_t busy_at;     /* last time there was work */
    uint64_t uncommitted_bytes;
    uint64_t transfer; /* to whom, 0: none */
    bool transfer_sent;
    usec_t transfer_until;

    struct raft_waiting_read *read;
    size_t read_count, read_cap;
    uint64_t read_round; /* our number of the read asked of the leader */
    uint64_t installing; /* index of the snapshot on its way, 0: none */
    bool is_quiet;
    bool is_unwatched; /* as of the last TICK */
    bool is_removed;
};

void raft_init(struct raft *r, const struct raft_conf *conf, const struct raft_boot *boot);
void raft_deinit(struct raft *r);

/* out must be reset; events of the wrong role or time are answered with an outcome. */
void raft_step(struct raft *r, const struct raft_event *ev, struct raft_out *out);

/* When it next wants RAFT_EV_TICK; USEC_NEVER: only when something happens.  After a TICK it is
 * in the future. */
usec_t raft_deadline(const struct raft *r);

/* Asserts every invariant of README.md that one replica can see. */
void raft_check(const struct raft *r);

struct raft_status {
    uint64_t id, term, leader; /* leader 0: unknown */
    enum raft_role role;
    uint64_t base, last, stable, commit, applied;
    bool is_quiet;
    bool is_ready;     /* leader whose first entry is committed */
    bool has_lease;    /* as of the last event */
    uint64_t transfer; /* to whom, 0: none */
};
struct raft_status raft_status_get(const struct raft *r);

/* The configuration in force; never NULL (count 0: none yet).  Valid until the next step. */
const struct raft_config *raft_config_get(const struct raft *r);

/* May a linearizable read be served now without asking anybody?  Then at index commit. */
bool raft_has_lease(const struct raft *r, usec_t now);

/* The term of an entry, 0 when it is not in the log (base itself is known). */
uint64_t raft_term_at(const struct raft *r, uint64_t index);

/* The largest index that may be compacted without making anybody who keeps up need a snapshot,
 * <= applied.  A host may go beyond (up to applied) when the log gets too long, but not while a
 * stream needs what follows its index. */
uint64_t raft_compact_max(const struct raft *r);

/* What the leader knows of a peer; false when there is no such peer. */
bool raft_peer_get(const struct raft *r, uint64_t id, struct raft_peer *out);
