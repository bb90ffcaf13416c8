/* What raft's files say to each other.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/mem.h"
#include "raft/canary_priv.h"
#include "raft/raft.h"

/* ---- log.c ---- */
void raft_log_init(struct raft_log *l, const struct raft_boot *b);
void raft_log_deinit(struct raft_log *l);
/* 0 when it is not there; base_term for base. */
uint64_t raft_log_term(const struct raft_log *l, uint64_t index);
/* The largest entry <= index (and <= last) whose term is <= term; base when there is none. */
uint64_t raft_log_find(const struct raft_log *l, uint64_t index, uint64_t term);
/* Appends with indices from last + 1; the payloads are copied once, into one block. */
void raft_log_append(struct raft_log *l, const struct raft_entry *e, size_t count);
/* Drops index and up; index > commit. */
void raft_log_truncate(struct raft_log *l, uint64_t index);
/* An empty log after index, all of it durable and applied. */
void raft_log_reset(struct raft_log *l, uint64_t index, uint64_t term);
void raft_log_compact(struct raft_log *l, uint64_t index);
/* Lets go of payloads from the front up to index. */
void raft_log_let_go(struct raft_log *l, uint64_t index);
/* An entry whose payload is in memory (index >= kept). */
struct raft_entry raft_log_entry(const struct raft_log *l, uint64_t index);
size_t raft_log_len(const struct raft_log *l, uint64_t index);
void raft_log_check(const struct raft_log *l);

/* ---- out.c ---- */
enum raft_needs {
    RAFT_NEEDS_NOTHING, /* may leave at once */
    RAFT_NEEDS_HARD,    /* when term and vote are durable */
    RAFT_NEEDS_ALL,     /* when everything written so far is */
};
/* Fills to, from and term (when 0). */
void raft_send(struct raft *r, struct raft_out *out, struct raft_message m, enum raft_needs needs);
/* Adds entries from first on out of memory to a message under construction; returns their
 * offset. */
size_t raft_out_entries(struct raft_out *out, const struct raft_log *l, uint64_t first,
                        uint64_t last);
void raft_out_read(struct raft_out *out, uint64_t ctx, uint64_t index, int outcome);
void raft_out_fetch(struct raft_out *out, struct raft_fetch f);
void raft_out_snapshot(struct raft_out *out, uint64_t peer);
void raft_hard_changed(struct raft *r, struct raft_out *out);
void raft_held_drop(struct raft *r, struct raft_out *out);
/* The end of a step: what to apply, what to write, which messages may go. */
void raft_out_finish(struct raft *r, struct raft_out *out);

/* ---- election.c ---- */
void raft_become_follower(struct raft *r, struct raft_out *out, uint64_t term, uint64_t leader);
void raft_election_arm(struct raft *r);
bool raft_is_promotable(const struct raft *r);
void raft_campaign(struct raft *r, struct raft_out *out, uint64_t epoch);
void raft_recv_prevote(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_vote(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_vote_reply(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_timeout_now(struct raft *r, struct raft_out *out, const struct raft_message *m);
/* A candidate whose question or answer may be lost. */
void raft_ask_again(struct raft *r, struct raft_out *out);
bool raft_is_asking(const struct raft *r);
void raft_own_vote_durable(struct raft *r, struct raft_out *out);
/* Was there a word of a leader so lately that no vote may be given? */
bool raft_in_lease(const struct raft *r);
void raft_transfer(struct raft *r, struct raft_out *out, uint64_t peer);
void raft_transfer_end(struct raft *r, struct raft_out *out);
/* Tells the target when it has everything. */
void raft_transfer_push(struct raft *r, struct raft_out *out);

/* ---- progress.c ---- */
struct raft_peer *raft_peer_find(const struct raft *r, uint64_t id);
void raft_peer_probe(struct raft_peer *p, uint64_t next);
void raft_peer_replicate(struct raft_peer *p);
void raft_peer_snapshot(struct raft_peer *p);
void raft_peer_flight_push(struct raft_peer *p, uint64_t last, uint32_t bytes);
void raft_peer_flight_pop(struct raft_peer *p, uint64_t acked);
void raft_peer_flight_free(struct raft_peer *p);
void raft_peers_rebuild(struct raft *r);
/* Values per member of the configuration in force, for raft_quorum_value; self is our own. */
enum raft_value {
    RAFT_VALUE_MATCH,
    RAFT_VALUE_CONTACT,
    RAFT_VALUE_STAMP,
    RAFT_VALUE_ROUND,
};
uint64_t raft_quorum_of(const struct raft *r, enum raft_value what, uint64_t self);
enum raft_tally raft_votes(const struct raft *r);

/* ---- replicate.c ---- */
void raft_propose(struct raft *r, struct raft_out *out, const struct raft_propose *p);
/* Appends one entry of ours and sends it. */
void raft_append_own(struct raft *r, struct raft_out *out, enum raft_entry_type type,
                     struct str payload);
void raft_pump(struct raft *r, struct raft_out *out, struct raft_peer *p);
void raft_pump_all(struct raft *r, struct raft_out *out);
void raft_commit_broadcast(struct raft *r, struct raft_out *out);
/* Leader: does a quorum have more than we thought? */
void raft_commit_advance(struct raft *r, struct raft_out *out);
void raft_commit_set(struct raft *r, struct raft_out *out, uint64_t commit);
void raft_recv_append(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_append_reply(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_heartbeat(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_heartbeat_reply(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_fetched(struct raft *r, struct raft_out *out, const struct raft_fetched *f);
void raft_beat(struct raft *r, struct raft_out *out);
/* A new round of heartbeats. */
void raft_beat_round(struct raft *r, struct raft_out *out, bool is_quiet);
void raft_wake(struct raft *r, struct raft_out *out);

/* ---- readindex.c ---- */
void raft_read_ask(struct raft *r, struct raft_out *out, const struct raft_read *read);
void raft_recv_read(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_recv_read_reply(struct raft *r, struct raft_out *out, const struct raft_message *m);
/* Leader: rounds were answered, or the term's first entry committed. */
void raft_read_advance(struct raft *r, struct raft_out *out);
/* A round leaves: all reads without one are confirmed by it. */
void raft_read_round(struct raft *r);
/* What we asked of another leader is now ours to answer. */
void raft_read_adopt(struct raft *r);
void raft_read_tick(struct raft *r, struct raft_out *out);
void raft_read_fail(struct raft *r, struct raft_out *out, int outcome);

/* ---- confchange.c ---- */
void raft_config_push(struct raft *r, struct raft_out *out, uint64_t index, struct raft_config *c);
/* Entries from index on are gone. */
void raft_config_rollback(struct raft *r, struct raft_out *out, uint64_t index);
/* The log starts anew: no configuration, until the snapshot's is pushed. */
void raft_config_rollback_all(struct raft *r);
void raft_config_committed(struct raft *r, struct raft_out *out);
void raft_conf_change(struct raft *r, struct raft_out *out, const struct raft_conf_change *c);
void raft_recover(struct raft *r, struct raft_out *out, const struct raft_conf_change *c);
/* The sender is gone for good and does not know: tell it.  True when the message is to be
 * ignored. */
bool raft_tell_removed(struct raft *r, struct raft_out *out, const struct raft_message *m);

/* ---- snapshot.c ---- */
void raft_snapshot_begin(struct raft *r, struct raft_out *out, const struct raft_snapshot *s);
void raft_snapshot_sent(struct raft *r, struct raft_out *out, uint64_t peer, bool ok);
void raft_snapshot_installed(struct raft *r, struct raft_out *out, const struct raft_snapshot *s);
void raft_recv_snapshot(struct raft *r, struct raft_out *out, const struct raft_message *m);
void raft_compact(struct raft *r, struct raft_out *out, uint64_t index);
