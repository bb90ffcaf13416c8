/* The world of a Raft story: replicas, lines and disks that move only when told.  SPDX-License-
 * Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "raft/raft.h"

#define STORY_NODES 8

struct story_entry {
    uint64_t term;
    uint8_t type;
    struct str payload;
};

struct story_write {
    struct list link;
    struct raft_persist p; /* entries: own copy below */
    struct story_entry *entry;
};

struct story_node {
    uint64_t id; /* 0: not there */
    bool is_up, is_new, holds;
    struct raft raft;
    struct raft_out out;
    struct story_entry *disk;
    size_t count, cap;
    uint64_t base, base_term;
    struct raft_hard hard;
    struct list writes;
    uint64_t applied, applied_term;
    struct raft_config *config; /* at applied */
    struct raft_install install;
    struct buf install_config;
    uint64_t handed;
};

struct story_line {
    struct list link;
    uint8_t type;
    uint64_t from, to;
    struct buf record;
};

struct story {
    struct story_node node[STORY_NODES];
    struct raft_conf conf;
    struct list lines;
    struct raft_message_store store;
    bool cut[STORY_NODES][STORY_NODES];
    usec_t now;
    bool is_calm; /* heartbeats are not told */
    struct buf trace;
    struct arena payloads; /* of all that was ever on a disk */
    struct raft_member first[STORY_NODES];
    size_t first_count;
};

struct story_node *story_node(struct story *s, uint64_t id);
size_t story_place(const struct story *s, const struct story_node *n);

/* The one caller of raft_step. */
void story_step(struct story *s, struct story_node *n, struct raft_event ev);

/* Into the trace. */
void story_tell_config(struct story *s, const struct raft_config *c);
void story_tell_message(struct story *s, const struct raft_message *m);
const char *story_role(enum raft_role r);

/* Finishes up to count writes; false when there was none. */
bool story_disk(struct story *s, struct story_node *n, size_t count);

void story_send(struct story *s, const struct raft_message *m);

/* what: 'd'eliver, d'r'op, 'k'eep a copy. */
void story_move(struct story *s, char what, struct str which, struct str type);
void story_run(struct story *s);
void story_wait(struct story *s, usec_t until, bool lives);
