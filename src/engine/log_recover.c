/* Reads the log back at start.  SPDX-License-Identifier: Apache-2.0
 *
 * A frame that does not parse is a torn tail when nobody can have known of it: no later frame says
 * it was synced, and no later segment was begun.  Then it and all behind it never happened.
 * Otherwise it is damage: what can be read behind it is taken in, and whoever may have lost
 * something is marked.
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

struct recover {
    struct engine_log *log;
    void (*found)(void *arg, const struct engine_log_damage *d);
    void *arg;
    size_t found_count;
    uint64_t expected; /* number of the next frame */
    struct buf bytes;  /* of the segment at hand */
    struct engine_segment *segment;
    struct engine_segment_head *head; /* of each segment; format 0: unreadable */
    size_t index, head_count;
    bool is_closed; /* the last frame says so */
};

static void report(struct recover *r, uint64_t offset, uint64_t group, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%016llx.rlog", (unsigned long long)r->segment->number);
    r->found_count++;
    if (r->found != NULL)
        r->found(r->arg, &(struct engine_log_damage){name, offset, group, what});
    else
        log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.damaged",
                 "%s/%s at %llu: %s (group %lld)", r->log->conf.dir, name,
                 (unsigned long long)offset, what, (long long)group);
}

/* Whose it was cannot be told: everybody who exists now, or is first met later without a beginning.
 */
static void damage_all(struct recover *r, uint64_t offset, const char *what)
{
    report(r, offset, UINT64_MAX, what);
    r->log->is_suspect = true;
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&r->log->group, &at)) != NULL;)
        engine_index_damage(r->log, g->id);
}

static bool is_last(const struct recover *r)
{
    return r->index + 1 == r->head_count;
}

/* The first frame number that does not belong into this segment. */
static uint64_t limit(const struct recover *r)
{
    return is_last(r) ? UINT64_MAX : r->head[r->index + 1].first_frame;
}

/* The next sound frame at or after *at, with a number from `number` on; SIZE_MAX as *at when there
 * is none. */
static void scan(const struct recover *r, size_t *at, uint64_t number, struct engine_frame *out)
{
    for (size_t i = (*at + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
         i + FRAME_HEAD <= r->bytes.n; i += FRAME_ALIGN)
        if (engine_frame_decode(r->bytes.p + i, r->bytes.n - i, r->segment->seed, out) == 0 &&
            out->number >= number && out->number < limit(r)) {
            *at = i;
            return;
        }
    *at = SIZE_MAX;
}

/* Does anything behind `at` know that the frame `number` was on the disk? */
static bool is_proven(const struct recover *r, size_t at, uint64_t number)
{
    if (!is_last(r))
        return true;
    for (struct engine_frame f; scan(r, &at, number, &f), at != SIZE_MAX; at += FRAME_ALIGN)
        if (f.synced >= number)
            return true;
    return false;
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

static void take_frame(struct recover *r, const struct engine_frame *f, size_t begin)
{
    const uint8_t *p = r->bytes.p + begin;
    size_t at = 0;
    uint64_t group;
    struct str payload;
    r->is_closed = false;
    for (uint32_t i = 0; i < f->record_count; i++) {
        bool is_sound = engine_frame_record(f, p, i, &at, &group, &payload);
        struct engine_place where = {r->segment->number, (uint32_t)(begin + at), true};
        struct engine_record rec;
        if (!is_sound) {
            report(r, begin + at, group, "a record's checksum does not match");
            engine_index_damage(r->log, group);
        } else if (engine_index_apply(r->log, &where, group, payload) < 0) {
            report(r, begin + at, group, "a record contradicts what came before it");
            engine_index_damage(r->log, group);
        } else if (engine_record_decode(payload, &rec) == 0) {
            r->is_closed = rec.kind == RECORD_CLOSE;
        }
    }
}

static void take_segment(struct recover *r)
{
    size_t at = SEGMENT_HEAD;
    while (r->expected < limit(r)) {
        struct engine_frame f;
        bool is_frame =
            at < r->bytes.n &&
            engine_frame_decode(r->bytes.p + at, r->bytes.n - at, r->segment->seed, &f) == 0 &&
            f.number == r->expected;
        if (is_frame &&
            (records_are_sound(&f, r->bytes.p + at) || is_proven(r, at + FRAME_ALIGN, f.number))) {
            take_frame(r, &f, at);
            at += f.len;
            r->expected++;
            continue;
        }
        if (!is_proven(r, at, r->expected))
            break; /* torn, or simply the end */
        size_t next = at;
        scan(r, &next, r->expected, &f);
        damage_all(r, at,
                   next == SIZE_MAX ? "the rest of the segment cannot be read"
                                    : "frames are missing");
        r->expected = next == SIZE_MAX ? limit(r) : f.number;
        at = next == SIZE_MAX ? at : next;
    }
    r->segment->used = at < r->bytes.n ? at : r->bytes.n;
}

static int read_segment(struct recover *r)
{
    r->bytes.n = 0;
    uint8_t *p = buf_reserve(&r->bytes, r->segment->size + 1);
    int got = engine_segment_read(r->log, r->segment->f, p, r->segment->size, 0);
    r->bytes.n = r->segment->size;
    return err_trace(got);
}

static int take_all(struct recover *r)
{
    for (r->index = 0; r->index < r->head_count; r->index++) {
        const struct engine_segment_head *h = &r->head[r->index];
        r->segment = &r->log->segment[r->index];
        if (h->format == 0)
            damage_all(r, 0, "the head of the segment cannot be read");
        if (r->index == 0)
            r->expected = h->first_frame;
        if (h->first_frame != r->expected) {
            damage_all(r, 0, "frames before this segment are missing");
            r->expected = h->first_frame > r->expected ? h->first_frame : r->expected;
        }
        int e = read_segment(r);
        if (e < 0)
            return err_trace(e);
        take_segment(r);
    }
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
    e = size < 0              ? (int)size
        : size < SEGMENT_HEAD ? 0
                              : engine_segment_read(log, s.f, b, sizeof b, 0);
    if (e < 0)
        return err_trace(e);
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

/* A segment whose head is gone, or that is not there at all, holds nothing; the frames of its
 * neighbours tell what is missing. */
static void fill_heads(struct recover *r)
{
    for (size_t i = r->head_count; i-- > 0;)
        if (r->head[i].format == 0)
            r->head[i].first_frame = i + 1 < r->head_count ? r->head[i + 1].first_frame : 0;
    for (size_t i = 1; i < r->head_count; i++)
        if (r->head[i].first_frame < r->head[i - 1].first_frame)
            r->head[i].first_frame = r->head[i - 1].first_frame;
}

static int recover(struct recover *r, const uint64_t *number, size_t count, bool is_verify)
{
    int e = 0;
    r->head = mem_new((count + 1) * sizeof *r->head);
    for (size_t i = 0; i < count && e == 0; i++) {
        if (i > 0 && number[i] != number[i - 1] + 1) {
            log_line(r->log->conf.log, LOG_LEVEL_ERROR, "engine.log.gap",
                     "%s: segments between %016llx and %016llx are missing", r->log->conf.dir,
                     (unsigned long long)number[i - 1], (unsigned long long)number[i]);
            e = -EBADMSG;
            break;
        }
        e = open_segment(r, number[i],
                         i + 1 == count && !is_verify ? ENGINE_FS_WRITE : ENGINE_FS_READ);
    }
    if (e != 0)
        return e;
    fill_heads(r);
    e = take_all(r);
    if (e == 0)
        engine_index_settle(r->log);
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
    *out_count = r.found_count;
    mem_free(number);
    mem_free(r.head);
    buf_deinit(&r.bytes);
    return e;
}
