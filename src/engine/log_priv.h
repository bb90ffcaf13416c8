/* The log's back room: frames, the index, segments, the writer.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Who may touch what: `queue*` under queue_mutex; the index, the list of segments and the cache are
 * changed by the writer under index_mutex and read by it without, by all others under it;
 * everything else is the writer's. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "codec/record.h"
#include "engine/log.h"

/* -- Frames (log_frame.c) */

#define SEGMENT_HEAD 4096u /* matters: the format.  Two copies of the head, each in half of it */
#define SEGMENT_HEAD_COPY 2048u
#define SEGMENT_FORMAT 2u /* 1 had no RECORD_ROLL */
#define SEGMENT_BYTES_MIN 16384u
#define FRAME_HEAD 32u
#define FRAME_RECORD 16u /* of the table, per record */
#define FRAME_ALIGN 8u
#define FRAME_BODY_MAX                                                                             \
    (8u << 20) /* does not matter much: more batches than this go into the next frame */

enum record_kind { /* matters: the format */
                   RECORD_CREATE = 1,
                   RECORD_DESTROY,
                   RECORD_META,
                   RECORD_ENTRIES,
                   RECORD_HARD,
                   RECORD_TRUNCATE,
                   RECORD_COMPACT,
                   RECORD_GROUP, /* all of a group but its entries: written when the oldest segment
                                    is emptied */
                   RECORD_MOVED, /* entries at their place, nothing behind them changes */
                   RECORD_CLOSE, /* the log was closed in peace: nothing torn can follow */
                   RECORD_ROLL, /* every group there is, and the last frame that spoke of it: begins
                                   each segment, ends a log that is closed.  After a gap it tells
                                   whom the gap cannot have hurt */
                   RECORD_KIND_END,
};

#define GROUP_OWN 0u /* matters: the format.  Whose records CLOSE and ROLL are */

struct engine_segment_head {
    uint32_t format;
    struct uuid node;
    uint64_t number, first_frame, salt;
};

struct engine_frame {
    uint64_t number, synced;
    uint32_t body_len, record_count;
    const uint8_t *table, *body;
    size_t len;    /* all of it, padded */
    uint32_t seed; /* of the records' checksums */
};

struct engine_record {
    enum record_kind kind;
    struct engine_log_hard hard;
    struct str meta, config;
    uint64_t index, term, last; /* index: first, from, floor */
    bool is_damaged;
    uint64_t entry_count;
    struct codec_cursor entries; /* at the first entry's fields */
};

struct engine_record_walk {
    struct codec_cursor c;
    uint64_t term;
    uint8_t kind;
};

void engine_segment_head_encode(const struct engine_segment_head *h, uint8_t out[SEGMENT_HEAD]);
/* 0, -EBADMSG (both copies are bad). */
must_use int engine_segment_head_decode(const uint8_t in[SEGMENT_HEAD],
                                        struct engine_segment_head *out);
uint32_t engine_segment_seed(const struct engine_segment_head *h);

/* Fills head and table (FRAME_HEAD + count * FRAME_RECORD bytes) for these records. */
struct engine_frame_record {
    uint64_t group;
    uint32_t len;
    const void *p;
};
void engine_frame_encode(uint32_t seed, uint64_t number, uint64_t synced,
                         const struct engine_frame_record *rec, size_t count, uint8_t *out);
/* Looks for a frame at p: 0, or -EBADMSG when head or table are not sound or do not fit in n. */
must_use int engine_frame_decode(const uint8_t *p, size_t n, uint32_t seed,
                                 struct engine_frame *out);
/* The first place in p where a frame may begin, n when there is none.  p is at a multiple of
 * FRAME_ALIGN. */
size_t engine_frame_find(const uint8_t *p, size_t n);
uint64_t engine_frame_len(const uint8_t p[FRAME_HEAD]);
/* Record i: its group, payload, and whether its checksum holds.  *at is its offset from the frame's
 * begin; start with i = 0 and *at = 0, then in order. */
bool engine_frame_record(const struct engine_frame *f, const uint8_t *frame, uint32_t i, size_t *at,
                         uint64_t *out_group, struct str *out_payload);

/* 0 or -EBADMSG. */
must_use int engine_record_decode(struct str payload, struct engine_record *out);
struct engine_record_walk engine_record_walk(const struct engine_record *r);
bool engine_record_entry(struct engine_record_walk *w, struct engine_log_entry *out);

#define ROLLED_DAMAGED (1u << 7) /* matters: the format */

/* One group in a ROLL. */
struct engine_rolled {
    uint64_t group, frame;
    uint64_t has; /* bit n: its piece n was written; ROLLED_DAMAGED */
    uint64_t floor, last;
};
/* Behind codec_record_begin; and back. */
void engine_record_roll(struct buf *b, const struct engine_rolled *r);
bool engine_record_rolled(struct engine_record_walk *w, struct engine_rolled *out);

void engine_record_group(struct buf *b, const struct engine_record *r);
void engine_record_entries(struct buf *b, enum record_kind kind, uint64_t first,
                           const struct engine_log_entry *entry, size_t count);

/* -- The index (log_index.c) */

struct engine_slot {  /* one entry */
    uint32_t segment; /* 0: not there (only while recovering) */
    uint32_t at;      /* of the data in the segment */
    uint32_t kind_len;
    uint32_t crc; /* of the data */
    uint64_t term;
};

static inline uint32_t engine_slot_len(const struct engine_slot *s)
{
    return s->kind_len & 0x0fffffffu;
}

enum { PIECE_META, PIECE_HARD, PIECE_FLOOR, PIECES };

struct engine_piece { /* where a part of a group's state was last written, and what it takes there
                       */
    uint32_t segment, bytes;
};

struct engine_group {
    uint64_t id;
    struct engine_log_hard hard;
    uint64_t floor_index, floor_term, last;
    uint64_t base; /* index of slot[head] */
    struct engine_slot *slot;
    size_t head, count, cap;
    struct engine_piece piece[PIECES];
    struct str meta, config; /* heap */
    uint64_t bytes;
    bool is_damaged;
    bool is_stated;  /* its meta is known (always, once recovered) */
    bool is_doubted; /* while recovering: it may have lost something in a gap */
    uint8_t has;     /* while recovering: bits of enum piece that a roll says were written */
    uint64_t frame;  /* the last one with a record of this group */
};

struct engine_segment {
    uint32_t number;
    uint64_t first_frame, size, used, live;
    uint32_t seed;
    unsigned pins; /* readers at work in it */
    struct engine_file *f;
};

struct engine_chunk { /* the body of a written batch, kept for readers */
    uint32_t segment, at;
    struct buf body;
    atomic_uint refs;
};

struct engine_log {
    struct engine_log_conf conf;
    struct rng rng;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t queue_mutex;
    pthread_cond_t queue_cond;
    struct engine_log_batch *queue_first, **queue_last;
    bool is_stopping;
    _Atomic uint64_t queue_bytes;
    atomic_int state; /* 0, ENGINE_LOG_E_FULL, or -errno: poisoned */

    pthread_mutex_t index_mutex;
    struct map group;
    struct engine_segment *segment; /* oldest first, numbers consecutive */
    size_t segment_count, segment_cap;
    struct engine_chunk **chunk; /* ordered by (segment, at); a ring would do, the head moves */
    size_t chunk_head, chunk_count, chunk_cap;
    uint64_t cache_bytes, slot_count;

    uint64_t frame_number; /* of the last frame written */
    uint64_t synced;       /* of the last frame known to be on the disk */
    uint32_t spares;       /* bit n: the file spare-<n> is there and has the usual size */
    bool is_suspect;       /* recovery met damage that could be anybody's */
    bool is_untouched;     /* recovery met damage, and nobody has written since: a file that is put
                              back now still heals all, so nothing is moved and no end is written */
    struct engine_log_batch *waiting; /* taken from the queue, not yet written */
    struct engine_log_done *done;
    size_t done_cap;
    struct iovec *iov;
    size_t iov_cap;
    struct engine_frame_record *rec;
    size_t rec_cap;
    struct buf scratch;
    struct engine_log_stats stats; /* the counters of it; under index_mutex */
};

struct engine_log_batch {
    struct engine_log_batch *next;
    struct buf body;
    struct engine_frame_record *rec; /* p is not yet known */
    size_t rec_count, rec_cap;
    void *owner;
    uint64_t tag;
    bool is_synced;
    uint64_t queue_bytes; /* what it counted for in log->queue_bytes */
    bool is_silent;       /* of our own making: no completion, not cached */
};

/* Records that only the log itself writes (log_batch.c). */
void engine_batch_record(struct engine_log_batch *b, uint64_t group, const struct engine_record *r);
void engine_batch_roll(struct engine_log_batch *b, const struct engine_log *log);
void engine_batch_moved(struct engine_log_batch *b, uint64_t group, uint64_t first,
                        const struct engine_log_entry *entry, size_t count);

struct engine_group *engine_index_find(const struct engine_log *log, uint64_t group);
struct engine_segment *engine_index_segment(const struct engine_log *log, uint32_t number);
/* Applies one record that lies at `at` of a segment.  is_recovery forgives what a moved record
 * explains.  0, or -EBADMSG when the record cannot be right here. */
struct engine_place {
    uint32_t segment;
    uint32_t at;
    bool is_recovery;
    uint64_t frame;
};
must_use int engine_index_apply(struct engine_log *log, const struct engine_place *where,
                                uint64_t group, struct str payload);
void engine_index_damage(struct engine_log *log, uint64_t group);
/* Frames are missing here: everybody who is there may have lost something. */
void engine_index_doubt(struct engine_log *log);
/* A roll was read: who is there, and what of each was written.  After a doubt (from is the first
 * frame missing, else UINT64_MAX) it also says whom the gap cannot have hurt and who was destroyed
 * in it; the others are damaged: answers how many. */
size_t engine_index_roll(struct engine_log *log, const struct engine_record *roll, uint64_t from);
/* No roll came after a doubt: all who are doubted are damaged: answers how many. */
size_t engine_index_condemn(struct engine_log *log);
/* After recovery: whoever lacks something is damaged. */
void engine_index_settle(struct engine_log *log);
void engine_index_deinit(struct engine_log *log);
const struct engine_slot *engine_group_slot(const struct engine_group *g, uint64_t index);
/* Every invariant L1, L2 of README.md. */
void engine_log_check(struct engine_log *log);

void engine_cache_push(struct engine_log *log, uint32_t segment, uint32_t at, struct buf *body);
struct engine_chunk *engine_cache_find(const struct engine_log *log, uint32_t segment, uint32_t at);
void engine_chunk_unref(struct engine_chunk *c);
void engine_cache_deinit(struct engine_log *log);

/* -- Segments (log_segment.c) */

#define PATH_BYTES 4096u /* matters little: longer ones are refused at open */
#define SPARE_MAX 31u
void engine_segment_path(const struct engine_log *log, uint64_t number, char out[PATH_BYTES]);
void engine_segment_spare_path(const struct engine_log *log, unsigned n, char out[PATH_BYTES]);
/* Makes the next segment the current one, from a spare when there is one, of at least `need` bytes
 * of frames.  0, or -errno (-ENOSPC leaves all as it was). */
must_use int engine_segment_next(struct engine_log *log, uint64_t need);
/* Frees the oldest segments while nothing in them lives: how many, or -errno. */
must_use int engine_segment_free_dead(struct engine_log *log);
/* fdatasync of the current one when something in it is not yet known to be on the disk. */
must_use int engine_segment_sync(struct engine_log *log);
/* Keeps one spare file ready, so that votes and compactions find space on a full disk. */
must_use int engine_segment_prepare(struct engine_log *log);
/* Reads exactly n bytes; -EIO when there are fewer. */
must_use int engine_segment_read(const struct engine_log *log, struct engine_file *f, void *p,
                                 size_t n, uint64_t at);
/* -- A segment read back (log_window.c) */

struct engine_window {
    const struct engine_log *log;
    struct engine_file *f;
    uint64_t size, end; /* of the segment; of what was ever written in it */
    uint64_t base;      /* where bytes begins in the segment */
    struct buf bytes;
    int error; /* -errno: something could not be read */
};

/* Begins at another segment; the memory is kept.  0 or -errno. */
must_use int engine_window_open(struct engine_window *w, const struct engine_log *log,
                                const struct engine_segment *s);
void engine_window_deinit(struct engine_window *w);
/* At least n bytes at `at` (within the segment), good until the next call; NULL: error is set. */
const uint8_t *engine_window_at(struct engine_window *w, uint64_t at, size_t n, size_t *out_n);
/* Is there a frame at `at` whose head and table are sound?  out_p is where it begins in memory. */
bool engine_window_frame(struct engine_window *w, uint64_t at, uint32_t seed,
                         struct engine_frame *out, const uint8_t **out_p);
/* The next such frame at or after *at.  False: none, or error is set. */
bool engine_window_scan(struct engine_window *w, uint64_t *at, uint32_t seed,
                        struct engine_frame *out);

void engine_segment_push(struct engine_log *log, const struct engine_segment *s);
void engine_segment_deinit(struct engine_log *log);

/* -- Recovery (log_recover.c) */

must_use int engine_log_recover(struct engine_log *log,
                                void (*found)(void *arg, const struct engine_log_damage *d),
                                void *arg, size_t *out_count);

/* -- Garbage (log_gc.c) */

/* One bounded piece of work on the oldest segment: 1 it did something, 0 nothing to do, -errno. */
must_use int engine_log_collect(struct engine_log *log);

/* -- The writer (log_writer.c) */

/* Writes the batches as one frame and makes them visible; 0, -ENOSPC (nothing happened), or -errno.
 */
must_use int engine_writer_write(struct engine_log *log, struct engine_log_batch *first,
                                 size_t batch_count, bool is_synced);
/* Starts the thread, or nothing for an inline log. */
must_use int engine_writer_start(struct engine_log *log);
/* Writes what waits and says that the log was closed. */
void engine_writer_stop(struct engine_log *log);
