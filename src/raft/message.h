/* What replicas of one group say to each other, and the records they say it in.  SPDX-License-
 * Identifier: Apache-2.0
 *
 * A message names its sender and its receiver by replica id; the host adds the group (range)
 * and the store.  Messages may be lost, doubled, delayed and reordered.  The record has no
 * group and no checksum: that is the frame's part. */
#pragma once

#include "raft/membership.h"

/* Matters: bounds what a decoder makes room for; senders stay below. */
#define RAFT_MESSAGE_ENTRY_MAX 4096

enum raft_entry_type {
    RAFT_ENTRY_DATA = 0,   /* the host's command */
    RAFT_ENTRY_CONFIG = 1, /* payload: raft_config_encode */
    RAFT_ENTRY_NOOP = 2,   /* first of a leader's term; no payload */
};

struct raft_entry {
    uint64_t index; /* counts from 1 */
    uint64_t term;
    struct str payload;
    uint8_t type; /* raft_entry_type */
};

/* The numbers are on the wire. */
enum raft_message_type {
    /* term: the one it would stand for; index, log_term: its last entry */
    RAFT_MSG_PREVOTE = 1,
    /* term: echoed when granted, the voter's own when refused; is_refused */
    RAFT_MSG_PREVOTE_REPLY = 2,
    /* index, log_term: last entry; epoch != 0: a leader asked for it (TIMEOUT_NOW) */
    RAFT_MSG_VOTE = 3,
    RAFT_MSG_VOTE_REPLY = 4, /* is_refused */
    /* index, log_term: the entry before the first; commit; entries (may be none) */
    RAFT_MSG_APPEND = 5,
    /* index: durable up to here; or is_refused: index echoed, hint, hint_term */
    RAFT_MSG_APPEND_REPLY = 6,
    RAFT_MSG_HEARTBEAT = 7, /* commit; round; stamp; epoch; is_quiet */
    /* round, stamp echoed; hint: last entry it has, durable or not (never counts) */
    RAFT_MSG_HEARTBEAT_REPLY = 8,
    RAFT_MSG_COMMIT = 9, /* commit; no reply */
    /* head of a snapshot stream: index, log_term, config; read raft.h, "Snapshots" */
    RAFT_MSG_SNAPSHOT = 10,
    RAFT_MSG_TIMEOUT_NOW = 11, /* stand for election at once; epoch */
    /* round: the asker's number: which commit index is certain to be current? */
    RAFT_MSG_READ = 12,
    RAFT_MSG_READ_REPLY = 13, /* round echoed; index; is_refused: not now, ask again */
    /* a committed configuration no longer has you; index: of that configuration */
    RAFT_MSG_REMOVED = 14,
};

struct raft_message {
    uint64_t to, from; /* replica ids */
    uint64_t term;
    uint64_t index, log_term;
    uint64_t commit;
    uint64_t round;
    uint64_t stamp; /* microseconds of the leader's own clock; only the leader looks at it */
    uint64_t epoch;
    uint64_t hint, hint_term;
    const struct raft_entry *entry; /* entry_count of them, index + 1 and up */
    uint32_t entry_count;
    struct str config; /* raft_config_encode, for RAFT_MSG_SNAPSHOT */
    uint8_t type;      /* raft_message_type */
    bool is_refused;
    bool is_quiet;
};

/* Appends the record. */
void raft_message_encode(const struct raft_message *m, struct buf *b);

enum raft_message_outcome {
    RAFT_MESSAGE_E_MALFORMED = 1, /* not a message of a version that we read */
    RAFT_MESSAGE_E_TOO_LONG,      /* more than RAFT_MESSAGE_ENTRY_MAX entries */
};

/* Entries live in store, which is grown (mem_grow) and may be used again for the next message:
 * keep one per loop and mem_free(store->entry) at the end.  Payloads and the configuration are
 * views into the record. */
struct raft_message_store {
    struct raft_entry *entry;
    size_t cap;
};
must_use int raft_message_decode(struct str record, struct raft_message_store *store,
                                 struct raft_message *out);

/* The stable lower-case name of a type, for traces; "?" for an unknown one. */
const char *raft_message_name(uint8_t type);
