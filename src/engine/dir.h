/* The data directory of a node: whose it is, which format, and one process at a time.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   FORMAT   "bilrost-data 1"      the format; a newer one is refused, never touched
 *   NODE     node, cluster, epoch  with a checksum; replaced whole
 *   LOCK     held while open
 *   log/     the Raft log (engine/log.h)
 *   state/<store>/                 the applied state of a store (engine/state.h) */
#pragma once

#include "base/log.h"
#include "base/uuid.h"
#include "engine/fs.h"

#define ENGINE_DIR_FORMAT 1u

struct engine_dir;

enum engine_dir_outcome {
    ENGINE_DIR_E_NEWER = 1, /* written by a newer version: exit 78 */
    ENGINE_DIR_E_LOCKED,    /* another process has it open */
    ENGINE_DIR_E_FOREIGN,   /* belongs to another cluster, or to another node than asked for */
    ENGINE_DIR_E_STRANGE,   /* not empty and not a data directory of ours */
    ENGINE_DIR_E_DAMAGED,   /* FORMAT or NODE cannot be read */
};

struct engine_dir_conf {
    const char *path; /* made when missing (its parent must be there) */
    struct engine_fs fs;
    struct str cluster; /* name of the cluster (at most 255 bytes): written on first use, compared
                           later; empty: not compared */
    struct uuid node;   /* zero: whoever it says; otherwise it must be this one, and a new directory
                           gets it */
    uint64_t epoch_min; /* the epoch is at least this: milliseconds since 1970 keep two copies of
                           one directory apart */
    uint8_t random[16]; /* a new directory of an unnamed node becomes a node of these bits */
    const struct log *log;
};

/* 0, -errno or an outcome; then out_why (may be NULL) holds a sentence for people. */
must_use int engine_dir_open(const struct engine_dir_conf *conf, struct engine_dir **out,
                             struct buf *out_why);

/* Whose directory it is, without a lock and without a change, also while it is in use.  As
 * engine_dir_open; -ENOENT when it was not made yet. */
must_use int engine_dir_whose(struct engine_fs fs, const char *path, struct uuid *out,
                              struct buf *out_why);

/* Gives the lock back.  Returns NULL. */
struct engine_dir *engine_dir_close(struct engine_dir *d);

struct uuid engine_dir_node(const struct engine_dir *d);

/* How often this directory was opened, this time included: a restarted node is told from its former
 * life by it. */
uint64_t engine_dir_epoch(const struct engine_dir *d);

/* True when this open made it. */
bool engine_dir_is_new(const struct engine_dir *d);

/* Writes the cluster's name into a directory that had none: 0, -errno, ENGINE_DIR_E_FOREIGN when it
 * has another. */
must_use int engine_dir_join(struct engine_dir *d, struct str cluster);

/* "<path>/<sub>" on the heap, made when missing (what is above it must be there): 0 or -errno.
 * Yours: mem_free. */
must_use int engine_dir_sub(struct engine_dir *d, const char *sub, char **out);
