/* The one who writes: drains the queue, one pwritev, one fdatasync, completions.
 * SPDX-License-Identifier: Apache-2.0
 *
 * While it waits for the disk the next batches gather in the queue, so a busy log shares each
 * fdatasync among all that came meanwhile and an idle one waits for nobody: there is no timer.
 *
 * L3 completions come after the fdatasync that covers them and in the order of submission.  L5 a
 * poisoned log never writes again.  With a full disk the batches stay where they are, in order,
 * until there is space. */
#include <errno.h>
#include <sched.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define FULL_RETRY_NSEC 100000000 /* does not matter: how often a full disk is asked again */

static uint64_t frame_bytes(const struct engine_log_batch *first, size_t count, size_t *out_records)
{
    uint64_t n = FRAME_HEAD;
    size_t records = 0;
    for (const struct engine_log_batch *b = first; count > 0; b = b->next, count--) {
        n += engine_log_batch_bytes(b);
        records += b->rec_count;
    }
    *out_records = records;
    return (n + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

/* Head, table, bodies and padding into log->iov; returns how many. */
static int gather(struct engine_log *log, const struct engine_segment *s,
                  const struct engine_log_batch *first, size_t count, size_t records)
{
    static const uint8_t pad[FRAME_ALIGN];
    log->rec = mem_grow(log->rec, &log->rec_cap, records + 1, sizeof *log->rec);
    log->iov = mem_grow(log->iov, &log->iov_cap, count + 2, sizeof *log->iov);
    size_t n = 0, iovs = 1, bytes = FRAME_HEAD + records * FRAME_RECORD;
    log->scratch.n = 0;
    uint8_t *head = buf_reserve(&log->scratch, bytes);
    for (const struct engine_log_batch *b = first; count > 0; b = b->next, count--) {
        size_t at = 0;
        for (size_t i = 0; i < b->rec_count; i++, n++) {
            log->rec[n] = b->rec[i];
            log->rec[n].p = b->body.p + at;
            at += b->rec[i].len;
        }
        log->iov[iovs++] = (struct iovec){b->body.p, b->body.n};
        bytes += b->body.n;
    }
    engine_frame_encode(s->seed, log->frame_number + 1, log->synced, log->rec, n, head);
    log->iov[0] = (struct iovec){head, FRAME_HEAD + records * FRAME_RECORD};
    if (bytes % FRAME_ALIGN != 0)
        log->iov[iovs++] =
            (struct iovec){(void *)(uintptr_t)pad, FRAME_ALIGN - bytes % FRAME_ALIGN};
    return (int)iovs;
}

/* What was written becomes visible. */
static void install(struct engine_log *log, struct engine_log_batch *first, size_t count,
                    size_t records, uint64_t len)
{
    pthread_mutex_lock(&log->index_mutex);
    struct engine_segment *s = &log->segment[log->segment_count - 1];
    uint64_t at = s->used + FRAME_HEAD + records * FRAME_RECORD;
    s->used += len;
    for (struct engine_log_batch *b = first; count > 0; b = b->next, count--) {
        size_t begin = 0;
        for (size_t i = 0; i < b->rec_count; i++) {
            struct engine_place where = {s->number, (uint32_t)(at + begin), false,
                                         log->frame_number};
            int bad = engine_index_apply(log, &where, b->rec[i].group,
                                         str_view(b->body.p + begin, b->rec[i].len));
            must(bad == 0); /* the owner of the group contradicts what it wrote before */
            begin += b->rec[i].len;
        }
        log->stats.moved_bytes += b->is_silent ? b->body.n : 0;
        log->stats.batches += !b->is_silent;
        at += b->body.n;
        if (!b->is_silent && b->body.n > 0)
            engine_cache_push(log, s->number, (uint32_t)(at - b->body.n), &b->body);
    }
    log->stats.writes++;
    log->stats.written_bytes += len;
    pthread_mutex_unlock(&log->index_mutex);
}

/* One frame at the end of the current segment, where there is room for it; not yet visible. */
static int put_frame(struct engine_log *log, const struct engine_log_batch *first, size_t count,
                     size_t records)
{
    struct engine_segment *s = &log->segment[log->segment_count - 1];
    int iovs = gather(log, s, first, count, records);
    int r = log->conf.fs.ops->pwritev(s->f, log->iov, iovs, s->used);
    if (r < 0)
        return r == -EDQUOT ? -ENOSPC : err_trace(r);
    log->frame_number++;
    return 0;
}

/* Goes on in a new segment, which begins with the roll of all groups and has len bytes left. */
static int next_segment(struct engine_log *log, uint64_t len)
{
    struct engine_log_batch *roll = engine_log_batch_new();
    roll->is_silent = true;
    engine_batch_roll(roll, log);
    size_t records;
    uint64_t roll_len = frame_bytes(roll, 1, &records);
    int r = engine_segment_next(log, len + roll_len);
    if (r == 0) {
        r = put_frame(log, roll, 1, records);
        if (r == 0)
            install(log, roll, 1, records, roll_len);
        else if (r == -ENOSPC)
            r = -EIO; /* the space was there: this is another trouble */
    }
    engine_log_batch_free(roll);
    return err_trace(r);
}

int engine_writer_write(struct engine_log *log, struct engine_log_batch *first, size_t batch_count,
                        bool is_synced)
{
    size_t records;
    uint64_t len = frame_bytes(first, batch_count, &records);
    const struct engine_segment *s =
        log->segment_count > 0 ? &log->segment[log->segment_count - 1] : NULL;
    int r = 0;
    if (s == NULL || s->used + len > s->size)
        r = next_segment(log, len);
    if (r == 0)
        r = put_frame(log, first, batch_count, records);
    if (r < 0)
        return r == -ENOSPC ? r : err_trace(r);
    if (is_synced)
        r = engine_segment_sync(log);
    if (r < 0)
        return err_trace(r);
    install(log, first, batch_count, records, len);
    return 0;
}

/* Takes the first n batches off what waits and posts their completions. */
static void complete(struct engine_log *log, size_t n, int result)
{
    log->done = mem_grow(log->done, &log->done_cap, n + 1, sizeof *log->done);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct engine_log_batch *b = log->waiting;
        log->waiting = b->next;
        log->done[i] = (struct engine_log_done){b->owner, b->tag, result};
        bytes += b->queue_bytes;
        engine_log_batch_free(b);
    }
    atomic_fetch_sub_explicit(&log->queue_bytes, bytes, memory_order_relaxed);
    if (n > 0 && log->conf.done != NULL)
        log->conf.done(log->conf.arg, log->done, n);
}

static size_t waiting_count(const struct engine_log *log)
{
    size_t n = 0;
    for (const struct engine_log_batch *b = log->waiting; b != NULL; b = b->next)
        n++;
    return n;
}

static void state_set(struct engine_log *log, int state)
{
    int old = atomic_load(&log->state);
    if (old == state || old < 0)
        return;
    atomic_store(&log->state, state);
    if (state < 0)
        log_line(log->conf.log, LOG_LEVEL_ERROR, "engine.log.poisoned",
                 "the Raft log in %s failed (errno %d); this node must not go on", log->conf.dir,
                 -state);
    else if (state == ENGINE_LOG_E_FULL)
        log_line(log->conf.log, LOG_LEVEL_ERROR, "engine.log.full",
                 "no space left for the Raft log in %s; writes wait until there is", log->conf.dir);
    else
        log_line(log->conf.log, LOG_LEVEL_NOTICE, "engine.log.space",
                 "there is space again for the Raft log in %s", log->conf.dir);
}

/* Moves the queue behind what waits already. */
static void drain(struct engine_log *log)
{
    struct engine_log_batch **end = &log->waiting;
    while (*end != NULL)
        end = &(*end)->next;
    pthread_mutex_lock(&log->queue_mutex);
    *end = log->queue_first;
    log->queue_first = NULL;
    log->queue_last = &log->queue_first;
    pthread_mutex_unlock(&log->queue_mutex);
}

/* One frame of what waits.  True when something was completed. */
static bool write_some(struct engine_log *log)
{
    if (log->waiting == NULL)
        return false;
    if (atomic_load(&log->state) < 0) {
        complete(log, waiting_count(log), atomic_load(&log->state));
        return true;
    }
    size_t n = 0;
    uint64_t bytes = 0, frame_max = log->conf.segment_bytes / 4;
    bool is_synced = false;
    frame_max = frame_max < FRAME_BODY_MAX ? frame_max : FRAME_BODY_MAX;
    for (const struct engine_log_batch *b = log->waiting; b != NULL; b = b->next, n++) {
        if (n > 0 && bytes + engine_log_batch_bytes(b) > frame_max)
            break;
        bytes += engine_log_batch_bytes(b);
        is_synced = is_synced || b->is_synced;
    }
    log->is_untouched = false;
    int r = engine_writer_write(log, log->waiting, n, is_synced);
    if (r == -ENOSPC) {
        state_set(log, ENGINE_LOG_E_FULL);
        return false;
    }
    if (r < 0)
        state_set(log, r);
    complete(log, r < 0 ? waiting_count(log) : n, r);
    return true;
}

bool engine_log_step(struct engine_log *log)
{
    drain(log);
    bool did = write_some(log);
    if (atomic_load(&log->state) < 0 || (!did && log->waiting != NULL))
        return did;
    int r = log->waiting == NULL && !log->is_untouched ? engine_log_collect(log) : 0;
    if (r < 0 && r != -ENOSPC) {
        state_set(log, r);
        return did;
    }
    int space = log->spares == 0 ? engine_segment_prepare(log) : 0;
    if (space < 0 && space != -ENOSPC)
        state_set(log, space);
    else
        state_set(log, space < 0 || r < 0 ? ENGINE_LOG_E_FULL : 0);
    return did || r > 0;
}

/* Waits for work; false when it is time to go. */
static bool wait(struct engine_log *log)
{
    pthread_mutex_lock(&log->queue_mutex);
    bool is_full = atomic_load(&log->state) == ENGINE_LOG_E_FULL;
    if (is_full && !log->is_stopping) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += FULL_RETRY_NSEC;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&log->queue_cond, &log->queue_mutex, &t);
    }
    while (!is_full && log->queue_first == NULL && !log->is_stopping)
        pthread_cond_wait(&log->queue_cond, &log->queue_mutex);
    bool go_on = !log->is_stopping || log->queue_first != NULL;
    pthread_mutex_unlock(&log->queue_mutex);
    return go_on;
}

/* It has little to do and everybody waits for it: when the disk has answered it runs at once,
 * also where the other threads are batch threads. */
static void policy_at_once(void)
{
    struct sched_param param = {0};
    if (sched_getscheduler(0) == SCHED_BATCH)
        (void)sched_setscheduler(0, SCHED_OTHER, &param);
}

static void *writer_main(void *arg)
{
    struct engine_log *log = arg;
    pthread_setname_np(pthread_self(), "raft-log");
    policy_at_once();
    do
        while (engine_log_step(log))
            ;
    while (wait(log));
    return NULL;
}

int engine_writer_start(struct engine_log *log)
{
    if (log->conf.is_inline)
        return 0;
    int r = pthread_create(&log->thread, NULL, writer_main, log);
    log->has_thread = r == 0;
    return err_trace(-r);
}

void engine_writer_stop(struct engine_log *log)
{
    if (log->has_thread) {
        pthread_mutex_lock(&log->queue_mutex);
        log->is_stopping = true;
        pthread_cond_signal(&log->queue_cond);
        pthread_mutex_unlock(&log->queue_mutex);
        pthread_join(log->thread, NULL);
    }
    drain(log);
    while (log->waiting != NULL && write_some(log))
        ;
    if (log->waiting != NULL)
        complete(log, waiting_count(log), -ENOSPC);
    if (atomic_load(&log->state) < 0 || log->is_untouched)
        return;
    struct engine_log_batch *end = engine_log_batch_new();
    end->is_silent = true;
    engine_batch_roll(end, log);
    engine_batch_record(end, GROUP_OWN, &(struct engine_record){.kind = RECORD_CLOSE});
    int r = engine_segment_sync(
        log); /* so that the last frame can say that all before it was on the disk */
    if (r == 0)
        r = engine_writer_write(log, end, 1, true);
    if (r < 0 && r != -ENOSPC)
        state_set(log, r);
    engine_log_batch_free(end);
}

void engine_log_submit(struct engine_log *log, struct engine_log_batch *b, bool is_synced,
                       void *owner, uint64_t tag)
{
    b->next = NULL;
    b->is_synced = is_synced;
    b->owner = owner;
    b->tag = tag;
    b->queue_bytes = engine_log_batch_bytes(b);
    atomic_fetch_add_explicit(&log->queue_bytes, b->queue_bytes, memory_order_relaxed);
    pthread_mutex_lock(&log->queue_mutex);
    bool was_empty = log->queue_first == NULL;
    *log->queue_last = b;
    log->queue_last = &b->next;
    if (was_empty && log->has_thread)
        pthread_cond_signal(&log->queue_cond);
    pthread_mutex_unlock(&log->queue_mutex);
}
