/* One Raft log for all groups of a node.  SPDX-License-Identifier: Apache-2.0
 *
 * Groups (replicas of ranges) of all stores share one stream of segments: what many of them want to
 * write in the same moment costs one write and one fdatasync.  Hard state, entries and truncations
 * travel in the same stream, so a vote and the entries beside it become durable together.
 *
 * Threads: any thread may submit and read.  Batches are written in the order they were submitted;
 * completions come back in that order.  A log has one writer thread, or none (conf.is_inline): then
 * engine_log_step does its work.
 *
 * What a reader sees: all batches whose completion was posted, perhaps more.  Raft keeps what is
 * not yet persisted itself.
 *
 * A failed write or fdatasync poisons the log for good: the batch and all later ones complete with
 * -errno and the host must die; nothing is tried again (Rebello et al., "Can Applications Recover
 * from fsync Failures?").  A full disk does not poison: batches wait and go on when there is space;
 * ask engine_log_admit before taking on new proposals. */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "base/uuid.h"
#include "engine/fs.h"

#define ENGINE_LOG_ENTRY_MAX (64u << 20) /* bytes of one entry; a writer splits what is larger */
#define ENGINE_LOG_KIND_MAX 15           /* of an entry's kind */

struct engine_log;

enum engine_log_outcome {
    ENGINE_LOG_E_FULL = 1, /* no space on the disk; passes when space returns */
    ENGINE_LOG_E_BUSY,     /* more bytes wait than queue_bytes_max */
    ENGINE_LOG_E_NONE,     /* no such group */
    ENGINE_LOG_E_GONE,     /* the first index asked for was compacted away */
    ENGINE_LOG_E_BEYOND,   /* the first index asked for is after the last */
    ENGINE_LOG_E_DISK,     /* not in memory and the caller does not want to wait for the disk */
    ENGINE_LOG_E_DAMAGED,  /* this group's content is damaged on disk: the replica must be made anew
                              from its peers */
    ENGINE_LOG_E_NEWER,    /* written by a newer version of the format */
    ENGINE_LOG_E_FOREIGN,  /* the segments belong to another node */
};

/* What became of a batch. */
struct engine_log_done {
    void *owner; /* both as submitted */
    uint64_t tag;
    int result; /* 0 durable (or written, for an unsynced batch); -errno: the log is poisoned */
};

struct engine_log_conf {
    const char *dir; /* the log's own directory; made when missing */
    struct engine_fs fs;
    struct uuid node; /* seeds the checksums: another node's segment is never taken for ours */
    uint64_t segment_bytes;     /* 0: 64 MiB; at least 16 KiB */
    uint64_t cache_bytes;       /* of the tail kept in memory; 0: 64 MiB */
    uint64_t queue_bytes_max;   /* of batches not yet written, for engine_log_admit; 0: 64 MiB */
    uint32_t segment_spare_max; /* freed segments kept for reuse; 0: 2 */
    uint32_t segment_soft_max;  /* above this many, live records of the oldest are moved however
                                   many; 0: 32 */
    uint64_t seed;              /* of the segments' salts; 0: from the system */
    bool is_inline;             /* no thread: the owner calls engine_log_step */
    const struct log *log;
    /* Batches that are done, in order of submission.  Called by the writer thread (or in
     * engine_log_step); must be quick; may call engine_log_submit, nothing else. */
    void (*done)(void *arg, const struct engine_log_done *done, size_t count);
    void *arg;
};

/* Opens and recovers: reads every segment, drops a torn tail, names damage in the log.  Damaged or
 * missing segments do not stop it: the groups that may have lost something are marked, the others
 * are whole.  0, -errno (-EBADMSG: files that cannot belong together),
 * ENGINE_LOG_E_NEWER, ENGINE_LOG_E_FOREIGN. */
must_use int engine_log_open(const struct engine_log_conf *conf, struct engine_log **out);

/* Writes what was submitted, posts its completions and stops.  After a poison the rest completes
 * with the error.  With a full disk what waits completes with -ENOSPC.  Returns NULL. */
struct engine_log *engine_log_close(struct engine_log *log);

/* -- Writing */

struct engine_log_entry {
    uint64_t term;
    uint8_t kind; /* the caller's own, at most ENGINE_LOG_KIND_MAX */
    struct str data;
};

struct engine_log_hard {
    uint64_t term;
    uint64_t commit;
    uint8_t vote_n;   /* bytes of vote used; 0: no vote */
    uint8_t vote[32]; /* the caller's own encoding of a replica */
};

/* A batch is atomic: after a crash all of it is there or nothing.  It may hold records of many
 * groups; they take effect in the order they were put.  Yours until engine_log_submit takes it. */
struct engine_log_batch;
struct engine_log_batch *engine_log_batch_new(void) must_use;
struct engine_log_batch *engine_log_batch_free(struct engine_log_batch *b);
size_t engine_log_batch_bytes(const struct engine_log_batch *b);

/* Begins a group that does not exist, of any number but 0: empty log, floor 0 in term 0.  meta is
 * the owner's description of it. */
void engine_log_put_create(struct engine_log_batch *b, uint64_t group, struct str meta);

/* The group and all of it is gone; the number may be used again. */
void engine_log_put_destroy(struct engine_log_batch *b, uint64_t group);

/* Replaces the description. */
void engine_log_put_meta(struct engine_log_batch *b, uint64_t group, struct str meta);

/* Entries first, first + 1, ...; whatever was at or after first is gone.  first is at most the last
 * index + 1 and above the floor.  The data are copied. */
void engine_log_put_entries(struct engine_log_batch *b, uint64_t group, uint64_t first,
                            const struct engine_log_entry *entry, size_t count);

void engine_log_put_hard(struct engine_log_batch *b, uint64_t group,
                         const struct engine_log_hard *hard);

/* Entries at and after from are gone. */
void engine_log_put_truncate(struct engine_log_batch *b, uint64_t group, uint64_t from);

/* Entries up to and including index are gone; (index, term) is the new floor, config the membership
 * in force there.  An index beyond the last (an installed snapshot) empties the log.  When the log
 * holds index with another term, put a truncate before it.  Never lowers the floor. */
void engine_log_put_compact(struct engine_log_batch *b, uint64_t group, uint64_t index,
                            uint64_t term, struct str config);

/* Takes the batch.  is_synced false: done when written, survives the death of the process but not
 * of the machine.  Never refuses and never blocks; the answer comes through conf.done. */
void engine_log_submit(struct engine_log *log, struct engine_log_batch *b, bool is_synced,
                       void *owner, uint64_t tag);

/* May new work be taken on?  0, ENGINE_LOG_E_FULL, ENGINE_LOG_E_BUSY, or -errno of a poisoned log.
 */
must_use int engine_log_admit(const struct engine_log *log);

/* Inline logs: writes everything that was submitted (one write, one fdatasync), then moves some
 * garbage.  True when it did something.  With a thread it must not be called. */
bool engine_log_step(struct engine_log *log);

/* -- Reading */

struct engine_log_group {
    uint64_t group;
    struct engine_log_hard hard;
    uint64_t floor_index, floor_term; /* what was compacted away, inclusive */
    uint64_t last_index, last_term;   /* the floor's when there is no entry */
    uint64_t bytes;                   /* of its entries */
    bool is_damaged;                  /* trust nothing but the group's number and meta */
    struct str meta, config;          /* heap copies: engine_log_group_deinit */
};
void engine_log_group_deinit(struct engine_log_group *g);

/* 0 or ENGINE_LOG_E_NONE. */
must_use int engine_log_group(struct engine_log *log, uint64_t group, struct engine_log_group *out);

/* All groups' numbers, ascending: an array of *out_count, yours (mem_free). */
uint64_t *engine_log_groups(struct engine_log *log, size_t *out_count) must_use;

/* The term at an index from the floor to the last: 0, _NONE, _GONE, _BEYOND, _DAMAGED.  Never
 * touches the disk. */
must_use int engine_log_term(struct engine_log *log, uint64_t group, uint64_t index, uint64_t *out);

/* Entries from `from` on: at least one, then more while count_max and bytes_max (of data) allow.
 * Appends the data to bytes and fills entry[]; entry[i].data points into bytes and is good until
 * bytes changes.  Answers 0 and *out_count, or _NONE, _GONE, _BEYOND, _DAMAGED, -errno; with
 * may_wait false also _DISK. */
struct engine_log_want {
    uint64_t group, from;
    size_t count_max, bytes_max;
    bool may_wait; /* the thread may block on the disk */
};
must_use int engine_log_read(struct engine_log *log, const struct engine_log_want *want,
                             struct buf *bytes, struct engine_log_entry *entry, size_t *out_count);

/* -- Looking after it */

struct engine_log_stats {
    uint64_t segments; /* files in use; some more are kept for reuse */
    uint64_t live_bytes, disk_bytes;
    uint64_t batches, writes, syncs; /* submitted, pwritev calls, fdatasync calls */
    uint64_t written_bytes, moved_bytes;
    uint64_t queue_bytes;
    uint64_t index_bytes, cache_bytes;
    uint64_t groups, groups_damaged;
};
void engine_log_stats(struct engine_log *log, struct engine_log_stats *out);

/* Groups that keep the oldest segment alive, the largest first: compact these and it can be freed
 * without moving their entries.  Returns how many of group[max] and index[max] were filled:
 * compacting group[i] up to index[i] is enough. */
size_t engine_log_pins(struct engine_log *log, uint64_t *group, uint64_t *index, size_t max);

/* One finding of engine_log_verify. */
struct engine_log_damage {
    const char *file; /* a name in the directory; NULL: this group is damaged, all told */
    uint64_t offset;
    uint64_t group; /* UINT64_MAX: the place alone does not tell whose it was */
    const char *what;
};

/* Reads a closed log and reports what is damaged, the places first and then the groups; a torn tail
 * is not damage.  The number of places is in *out_count.  Changes nothing.  0 or as
 * engine_log_open. */
must_use int engine_log_verify(const struct engine_log_conf *conf,
                               void (*found)(void *arg, const struct engine_log_damage *d),
                               void *arg, size_t *out_count);
