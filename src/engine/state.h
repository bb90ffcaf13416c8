/* The applied state of one store: ordered rows, written in order by its own thread.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rows live in spaces.  A space is a number that one replica got for its rows and that is never
 * used again, so that a snapshot is installed, and a range dropped, by a few meta rows in one
 * batch.  A range that was merged has its rows in several spaces; which ones is in the range's own
 * meta row, the business of the caller.
 *
 * Promise: batches are applied in the order they were written, each whole or not at all, and after
 * any crash, power loss too, the state is that after a prefix of the batches, never with a hole.
 * Nothing is synced unless asked: replay the Raft log from the applied index that lies in the same
 * batch.
 *
 * Threads: any thread may write; completions are posted by the state's own thread (or in
 * engine_state_step).  get, scan and the views block on the disk: use them on a worker.  An error
 * of the disk poisons the state: everything completes with -errno from then on and the host must
 * die.  A disk that is nearly full is not an error: batches wait, engine_state_stall says 100 and
 * reads go on. */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "base/usec.h"
#include "engine/fs.h"

struct engine_state;
struct engine_view; /* the rows as they were at one moment */
struct engine_mem; /* the rows of a state without files; outlives engine_state_close, for simulators
                    */

enum engine_state_outcome {
    ENGINE_STATE_E_NONE = 1, /* no such row */
    ENGINE_STATE_E_MORE,     /* a limit was reached before the end */
};

struct engine_state_done {
    void *owner;
    uint64_t tag;
    int result;               /* 0 or -errno */
    struct engine_view *view; /* of engine_state_view: yours now, else NULL */
};

struct engine_state_conf {
    const char *dir; /* of the database; NULL: in memory */
    struct engine_mem
        *mem;            /* with dir NULL: rows to go on with, or NULL: fresh ones, gone at close */
    struct engine_fs fs; /* with a dir */
    uint64_t write_buffer_bytes; /* 0: 32 MiB */
    uint64_t cache_bytes;        /* 0: 64 MiB */
    uint64_t queue_bytes_max;    /* of batches not yet applied, for engine_state_stall; 0: 64 MiB */
    uint64_t space_min_bytes; /* with less free on the disk batches wait; 0: four write buffers */
    /* Batches without an owner may wait this long, up to so many bytes (0: 16 MiB), so that rows
     * that are soon removed again never reach the disk: what is behind a batch that waits (a view,
     * a sync, a batch with an owner) has it written at once.  0: no waiting. */
    usec_t hold_usec;
    uint64_t hold_bytes_max;
    uint64_t drop_bytes_per_sec; /* pace of the removal of dropped rows; 0: 16 MiB */
    bool is_inline;    /* no thread: the owner calls engine_state_step; only with dir NULL */
    bool is_unordered; /* tests only: leaves out what keeps the promise above across a power loss */
    const struct log *log;
    void (*done)(void *arg, const struct engine_state_done *done,
                 size_t count); /* as in engine/log.h */
    void *arg;
};

/* 0 or -errno (-EBADMSG: the database is damaged, the text is in the log). */
must_use int engine_state_open(const struct engine_state_conf *conf, struct engine_state **out);

/* Applies what was written, posts the completions, stops.  All views must be gone.  Returns NULL.
 */
struct engine_state *engine_state_close(struct engine_state *s);

/* -- Writing */

struct engine_batch; /* yours until engine_state_write takes it */
struct engine_batch *engine_batch_new(void) must_use;
struct engine_batch *engine_batch_free(struct engine_batch *b);
size_t engine_batch_bytes(const struct engine_batch *b);

void engine_batch_put(struct engine_batch *b, uint64_t space, struct str key, struct str value);
void engine_batch_del(struct engine_batch *b, uint64_t space, struct str key);

/* Rows beside the spaces: descriptions of ranges, applied indexes, tombstones of replicas. */
void engine_batch_put_meta(struct engine_batch *b, struct str key, struct str value);
void engine_batch_del_meta(struct engine_batch *b, struct str key);

/* The rows of a space in [from, to) will never be asked for again and are removed in the
 * background, also after a restart.  to of length 0: to the end of the space. */
void engine_batch_drop(struct engine_batch *b, uint64_t space, struct str from, struct str to);

/* Takes the batch; never refuses, never blocks: heed engine_state_stall.  When done, readers see
 * it.  owner NULL: nobody waits for it (it is completed all the same). */
void engine_state_write(struct engine_state *s, struct engine_batch *b, void *owner, uint64_t tag);

/* Done when every batch written before is on the disk for good (the durable mark: the Raft log may
 * be compacted up to the applied index of those). */
void engine_state_sync(struct engine_state *s, void *owner, uint64_t tag);

/* Done with the view of the rows right after the batches written before. */
void engine_state_view(struct engine_state *s, void *owner, uint64_t tag);

/* A number that no space had before.  Any thread. */
uint64_t engine_state_space(struct engine_state *s);

/* How much the writers should hold back: 0 not at all ... 100 no further write now.  -errno:
 * poisoned. */
int engine_state_stall(const struct engine_state *s);

/* Inline states: applies all that was written and some removal.  True when it did something. */
bool engine_state_step(struct engine_state *s);

/* -- Reading; view NULL means now */

/* Appends the value to out.  0, _NONE, -errno. */
must_use int engine_state_get(struct engine_state *s, const struct engine_view *view,
                              uint64_t space, struct str key, struct buf *out);
must_use int engine_state_get_meta(struct engine_state *s, struct str key, struct buf *out);

struct engine_scan {
    uint64_t space;
    bool is_meta;             /* the meta rows; space is ignored */
    bool is_reverse;          /* from the end downwards */
    struct str from, to;      /* [from, to); to of length 0: to the end */
    size_t row_max, byte_max; /* 0: no limit; at least one row is given */
    /* One row; views are good during the call.  false ends the scan. */
    bool (*row)(void *arg, struct str key, struct str value);
    void *arg;
};

/* 0: all rows of the span were given; ENGINE_STATE_E_MORE: a limit or row() ended it; -errno. */
must_use int engine_state_scan(struct engine_state *s, const struct engine_view *view,
                               const struct engine_scan *scan);

struct engine_view *engine_view_free(struct engine_state *s, struct engine_view *v);

/* Walks a view row by row, for a long transfer that must pause: key and value are good until the
 * next call. */
struct engine_iter;
struct engine_iter *engine_iter_new(struct engine_state *s, const struct engine_view *view,
                                    uint64_t space, struct str from, struct str to) must_use;
/* 0 and a row, ENGINE_STATE_E_NONE at the end, -errno. */
must_use int engine_iter_next(struct engine_iter *it, struct str *out_key, struct str *out_value);
struct engine_iter *engine_iter_free(struct engine_iter *it);

/* About how many bytes the span takes on the disk (what is still in the write buffer does not
 * count). */
uint64_t engine_state_size(struct engine_state *s, uint64_t space, struct str from, struct str to);

/* -- Rows without files */

struct engine_mem *engine_mem_new(void) must_use;
struct engine_mem *engine_mem_free(struct engine_mem *m);

/* Power was lost: of the batches after the last completed sync a suffix is forgotten; keep is how
 * many of them stay (UINT64_MAX: all).  The state that used it must be closed before. */
void engine_mem_crash(struct engine_mem *m, uint64_t keep);

/* From now on reading rows answers this -errno (meta rows and writing
 * are as ever); 0: as usual. */
void engine_mem_spoil(struct engine_mem *m, int error);

/* Writes after the last completed sync. */
uint64_t engine_mem_unsynced(const struct engine_mem *m);

/* Reads a closed database and reports the first damage: 0, -EBADMSG and a sentence in out_what,
 * -errno. */
must_use int engine_state_verify(const struct engine_state_conf *conf, struct buf *out_what);
