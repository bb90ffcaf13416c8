/* Reads the log back at start.  SPDX-License-Identifier: Apache-2.0
 *
 * A frame that does not parse is a torn tail when nobody can have known of it: no later frame says
 * it was synced, and no later segment was begun.  Then it and all behind it never happened.
 * Otherwise it is damage.
 *
 * Damage has a size.  A record whose checksum fails hurts the group that the frame's table names.
 * Frames or whole segments that are gone put everybody in doubt who was there; the next roll (every
 * segment begins with one) says who was last spoken of before the gap and so lost nothing.  What
 * can be read behind the gap is taken in.
 *
 * It never guesses and never skips in silence.  It writes nothing (the next write begins a new
 * segment when the log was not closed in peace, so what is left of a torn tail can never be taken
 * for a frame of ours). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define GAP_MAX 4096u /* matters little: more missing segments than this are a stray file */

struct recover {
    struct engine_log *log;
    void (*found)(void *arg, const struct engine_log_damage *d);
    void *arg;
    size_t found_count;
    uint64_t expected; /* number of the next frame */
    struct engine_window window;
    struct engine_segment *segment;
    struct engine_segment_head *head; /* of each segment; format 0: unreadable or missing */
    size_t index, head_count;
    bool is_closed;   /* the last frame says so */
    bool is_doubtful; /* frames from doubt_from on are missing, and no roll came since */
    uint64_t doubt_from;
};

static void report(struct recover *r, uint64_t offset, uint64_t group, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%016llx.rlog", (unsigned long long)r->segment->number);
    r->found_count++;
    if (r->found != NULL)
        r->found(r->arg, &(struct engine_log_damage){name, offset, group, what});
    else if (group == UINT64_MAX)
        log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.damaged", "%s/%s at %llu: %s",
                 r->log->conf.dir, name, (unsigned long long)offset, what);
    else
        log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.damaged",
                 "%s/%s at %llu: %s (group %llu)", r->log->conf.dir, name,
                 (unsigned long long)offset, what, (unsigned long long)group);
}

/* Frames are missing from here on. */
static void doubt(struct recover *r)
{
    if (!r->is_doubtful)
        r->doubt_from = r->expected;
    r->is_doubtful = true;
    engine_index_doubt(r->log);
}

/* How a gap ended. */
static void tell_gap(struct recover *r, size_t damaged)
{
    r->is_doubtful = false;
    if (r->found == NULL)
        log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.gap",
                 "%s: %zu of %zu groups may have lost something there and must be made anew from "
                 "their peers; if a file is missing and you have it, stop this node and put it "
                 "back first",
                 r->log->conf.dir, damaged, r->log->group.count);
}

static bool is_last(const struct recover *r)
{
    return r->index + 1 == r->head_count;
}

/* The first frame number that does not belong into this segment; UINT64_MAX: not known. */
static uint64_t limit(const struct recover *r)
{
    return is_last(r) ? UINT64_MAX : r->head[r->index + 1].first_frame;
}

/* The next sound frame at or after *at, with a number from `number` on; false when there is none.
 */
static bool scan(struct recover *r, uint64_t *at, uint64_t number, struct engine_frame *out)
{
    for (; engine_window_scan(&r->window, at, r->segment->seed, out); *at += FRAME_ALIGN)
        if (out->number >= number && out->number < limit(r))
            return true;
    return false;
}

/* Does anything behind `at` know that the frame `number` was on the disk?  What cannot be read may
 * have known. */
static bool is_proven(struct recover *r, uint64_t at, uint64_t number)
{
    if (!is_last(r))
        return true;
    for (struct engine_frame f; scan(r, &at, number, &f); at += FRAME_ALIGN)
        if (f.synced >= number)
            return true;
    return r->window.error < 0;
}

static bool records_are_sound(const struct engine_frame *f, const uint8_t *p)
{
    size_t at = 0;
    uint64_t group;
    struct str payload;
    for (uint32_t i = 0; i < f->record_count; i++)
        if (!engine_frame_record(f, p, i, &at, &group, &payload))
            return false;
    return true;
}

/* A record that cannot be taken: its group has lost something.  A roll lost lets a doubt last. */
static void hurt(struct recover *r, uint64_t offset, uint64_t group, const char *what)
{
    report(r, offset, group == GROUP_OWN ? UINT64_MAX : group, what);
    if (group != GROUP_OWN)
        engine_index_damage(r->log, group);
}

static void take_roll(struct recover *r, const struct engine_record *roll)
{
    size_t damaged = engine_index_roll(r->log, roll, r->is_doubtful ? r->doubt_from : UINT64_MAX);
    if (r->is_doubtful)
        tell_gap(r, damaged);
}

static void take_frame(struct recover *r, const struct engine_frame *f, const uint8_t *p,
                       uint64_t begin)
{
    size_t at = 0;
    uint64_t group;
    struct str payload;
    r->is_closed = false;
    for (uint32_t i = 0; i < f->record_count; i++) {
        bool is_sound = engine_frame_record(f, p, i, &at, &group, &payload);
        struct engine_place where = {r->segment->number, (uint32_t)(begin + at), true, f->number};
        struct engine_record rec;
        if (!is_sound) {
            hurt(r, begin + at, group, "a record's checksum does not match");
        } else if (engine_index_apply(r->log, &where, group, payload) < 0) {
            hurt(r, begin + at, group, "a record contradicts what came before it");
        } else if (engine_record_decode(payload, &rec) == 0) {
            r->is_closed = rec.kind == RECORD_CLOSE;
            if (rec.kind == RECORD_ROLL)
                take_roll(r, &rec);
        }
    }
}

/* The next frame of ours at `at`: is it there, and sound or at least known to have been? */
static bool is_next(struct recover *r, uint64_t at, struct engine_frame *f, const uint8_t **out_p)
{
    uint32_t seed = r->segment->seed;
    if (!engine_window_frame(&r->window, at, seed, f, out_p) || f->number != r->expected)
        return false;
    if (records_are_sound(f, *out_p))
        return true;
    return is_proven(r, at + FRAME_ALIGN, f->number) &&
           engine_window_frame(&r->window, at, seed, f, out_p);
}

/* Frames are missing at `at`: goes on with the next that can be read.  False: none here. */
static bool skip(struct recover *r, uint64_t *at)
{
    struct engine_frame f;
    uint64_t next = *at;
    bool is_there = scan(r, &next, r->expected, &f);
    if (is_there)
        report(r, *at, UINT64_MAX, "frames are missing");
    else if (r->window.error < 0)
        report(r, *at, UINT64_MAX, "the file cannot be read from here on");
    else if (is_last(r) || r->head[r->index + 1].format != 0)
        report(r, *at, UINT64_MAX, "the rest of the segment cannot be read");
    doubt(r); /* with the next segment gone, that one's report says it */
    if (is_there) {
        r->expected = f.number;
        *at = next;
    } else if (limit(r) != UINT64_MAX) {
        r->expected = limit(r);
    }
    return is_there;
}

static void take_segment(struct recover *r)
{
    uint64_t at = SEGMENT_HEAD;
    while (r->expected < limit(r)) {
        struct engine_frame f;
        const uint8_t *p;
        if (is_next(r, at, &f, &p)) {
            take_frame(r, &f, p, at);
            at += f.len;
            r->expected++;
            continue;
        }
        if (!is_proven(r, at, r->expected)) { /* torn, or simply the end */
            uint64_t behind = at; /* what was written after the close and lost must not come back */
            r->is_closed = r->is_closed && !scan(r, &behind, 0, &f);
            break;
        }
        if (!skip(r, &at))
            break;
    }
    r->segment->used = at < r->segment->size ? at : r->segment->size;
}

/* A segment without a head says nothing: its frames carry a secret that only the head knows. */
static void lose_segment(struct recover *r)
{
    report(r, 0, UINT64_MAX,
           r->segment->f == NULL ? "this segment is missing"
                                 : "the head of the segment cannot be read");
    doubt(r);
    if (limit(r) != UINT64_MAX && limit(r) > r->expected)
        r->expected = limit(r);
    r->segment->used = r->segment->size;
}

/* To whom asked what is damaged: the groups. */
static void tell_damaged(struct recover *r)
{
    size_t at = 0;
    for (const struct engine_group *g; (g = map_next(&r->log->group, &at)) != NULL;)
        if (g->is_damaged && r->found != NULL)
            r->found(r->arg, &(struct engine_log_damage){.group = g->id});
}

static int take_all(struct recover *r)
{
    for (r->index = 0; r->index < r->head_count; r->index++) {
        const struct engine_segment_head *h = &r->head[r->index];
        r->segment = &r->log->segment[r->index];
        if (r->index == 0 && h->first_frame != UINT64_MAX)
            r->expected = h->first_frame;
        if (h->format == 0) {
            lose_segment(r);
            continue;
        }
        if (h->first_frame != r->expected) {
            report(r, 0, UINT64_MAX, "frames before this segment are missing");
            doubt(r);
            r->expected = h->first_frame > r->expected ? h->first_frame : r->expected;
        }
        int e = engine_window_open(&r->window, r->log, r->segment);
        if (e < 0)
            return err_trace(e);
        take_segment(r);
    }
    if (r->is_doubtful)
        tell_gap(r, engine_index_condemn(r->log));
    return 0;
}

static int number_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The numbers of the segments in the directory, ascending; spare files are noted. */
static int list(struct engine_log *log, uint64_t **out, size_t *out_count)
{
    struct buf names = {0};
    int r = log->conf.fs.ops->list(log->conf.fs.arg, log->conf.dir, &names);
    size_t cap = 0;
    for (size_t at = 0; r == 0 && at < names.n;) {
        const char *name = (const char *)names.p + at;
        char *end;
        size_t n = strlen(name);
        at += n + 1;
        uint64_t v = strtoull(name, &end, 16);
        if (n == 21 && end == name + 16 && strcmp(end, ".rlog") == 0 && v > 0 && v < UINT32_MAX) {
            *out = mem_grow(*out, &cap, *out_count + 1, sizeof **out);
            (*out)[(*out_count)++] = v;
        }
        if (strncmp(name, "spare-", 6) == 0) {
            unsigned long spare = strtoul(name + 6, &end, 10);
            if (*end == '\0' && spare < log->conf.segment_spare_max)
                log->spares |= 1u << spare;
        }
    }
    if (*out_count > 0)
        qsort(*out, *out_count, sizeof **out, number_cmp);
    buf_deinit(&names);
    return err_trace(r);
}

/* Spares of another size than the usual one are forgotten; their name is used again. */
static int check_spares(struct engine_log *log)
{
    for (unsigned n = 0; n < log->conf.segment_spare_max; n++) {
        char path[PATH_BYTES];
        struct engine_file *f;
        if ((log->spares & (1u << n)) == 0)
            continue;
        engine_segment_spare_path(log, n, path);
        int r = log->conf.fs.ops->open(log->conf.fs.arg, path, ENGINE_FS_READ, &f);
        if (r < 0)
            return err_trace(r);
        if (log->conf.fs.ops->size(f) != (int64_t)log->conf.segment_bytes)
            log->spares &= ~(1u << n);
        log->conf.fs.ops->close(f);
    }
    return 0;
}

/* A name in the row of segments with no file behind it. */
static void open_nothing(struct recover *r, uint64_t number)
{
    engine_segment_push(r->log, &(struct engine_segment){.number = (uint32_t)number});
    r->head[r->head_count++] = (struct engine_segment_head){0};
}

static int open_segment(struct recover *r, uint64_t number, enum engine_fs_open how)
{
    struct engine_log *log = r->log;
    struct engine_segment s = {.number = (uint32_t)number};
    struct engine_segment_head *h = &r->head[r->head_count];
    char path[PATH_BYTES];
    engine_segment_path(log, number, path);
    int e = log->conf.fs.ops->open(log->conf.fs.arg, path, how, &s.f);
    if (e < 0)
        return err_trace(e);
    int64_t size = log->conf.fs.ops->size(s.f);
    s.size = size > 0 ? (uint64_t)size : 0;
    engine_segment_push(log, &s);
    r->segment = &log->segment[log->segment_count - 1];
    uint8_t b[SEGMENT_HEAD] = {0};
    if (size < 0)
        return err_trace((int)size);
    if (size >= SEGMENT_HEAD && engine_segment_read(log, s.f, b, sizeof b, 0) < 0)
        memset(b, 0, sizeof b); /* no head, as if it were damaged */
    if (engine_segment_head_decode(b, h) < 0 || h->number != number) {
        *h = (struct engine_segment_head){0};
    } else if (h->format > SEGMENT_FORMAT) {
        return ENGINE_LOG_E_NEWER;
    } else if (!uuid_eq(&h->node, &log->conf.node)) {
        return ENGINE_LOG_E_FOREIGN;
    }
    r->segment->seed = engine_segment_seed(h);
    r->segment->first_frame = h->first_frame;
    r->head_count++;
    return 0;
}

/* A segment whose head is gone, or that is not there at all, holds nothing; its neighbours tell
 * which frames are missing. */
static void fill_heads(struct recover *r)
{
    for (size_t i = r->head_count; i-- > 0;)
        if (r->head[i].format == 0)
            r->head[i].first_frame =
                i + 1 < r->head_count ? r->head[i + 1].first_frame : UINT64_MAX;
    for (size_t i = 1; i < r->head_count; i++)
        if (r->head[i].first_frame < r->head[i - 1].first_frame)
            r->head[i].first_frame = r->head[i - 1].first_frame;
}

/* How many segments there should be from the first to the last; 0: a file that cannot be ours. */
static size_t span(const struct recover *r, const uint64_t *number, size_t count)
{
    uint64_t n = count > 0 ? number[count - 1] - number[0] + 1 : 0;
    if (n - count <= GAP_MAX)
        return (size_t)n;
    log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.gap",
             "%s: between %016llx.rlog and %016llx.rlog too many segments are missing; one of the "
             "files does not belong here",
             r->log->conf.dir, (unsigned long long)number[0],
             (unsigned long long)number[count - 1]);
    return 0;
}

static int recover(struct recover *r, const uint64_t *number, size_t count, bool is_verify)
{
    int e = 0;
    size_t all = span(r, number, count);
    if (all < count)
        return -EBADMSG;
    r->head = mem_new((all + 1) * sizeof *r->head);
    for (size_t i = 0; i < count && e == 0; i++) {
        while (i > 0 && r->head_count < number[i] - number[0])
            open_nothing(r, number[0] + r->head_count);
        e = open_segment(r, number[i],
                         i + 1 == count && !is_verify ? ENGINE_FS_WRITE : ENGINE_FS_READ);
    }
    if (e != 0)
        return e;
    fill_heads(r);
    e = take_all(r);
    if (e == 0) {
        engine_index_settle(r->log);
        tell_damaged(r);
    }
    return err_trace(e);
}

int engine_log_recover(struct engine_log *log,
                       void (*found)(void *arg, const struct engine_log_damage *d), void *arg,
                       size_t *out_count)
{
    struct recover r = {.log = log, .found = found, .arg = arg, .expected = 1};
    bool is_verify = found != NULL;
    uint64_t *number = NULL;
    size_t count = 0;
    int e = list(log, &number, &count);
    if (e == 0 && !is_verify)
        e = check_spares(log);
    if (e == 0)
        e = recover(&r, number, count, is_verify);
    if (e == 0 && count > 0) {
        struct engine_segment *last = &log->segment[log->segment_count - 1];
        log->frame_number = r.expected > 0 ? r.expected - 1 : 0;
        /* What was read may still be in the page cache only; from now on it counts as durable. */
        if (!is_verify)
            e = engine_segment_sync(log);
        if (!r.is_closed || r.found_count > 0)
            last->used = last->size;
    }
    log->is_untouched = r.found_count > 0;
    *out_count = r.found_count;
    mem_free(number);
    mem_free(r.head);
    engine_window_deinit(&r.window);
    return e;
}
