/* How the log's segments, frames and records look on the disk.  SPDX-License-Identifier: Apache-2.0
 *
 * The reader believes nothing: a head that does not sum up, lengths that do not fit, records that
 * contradict themselves are -EBADMSG and never more. */
#include <errno.h>

#include "base/crc.h"
#include "engine/log_priv.h"

#define SEGMENT_MAGIC "BILRLOG1"
#define FRAME_MAGIC 0xb11f7a3eu
#define HEAD_USED 64u /* bytes of a segment's head before its checksum */

static void store32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void store64(uint8_t *p, uint64_t v)
{
    store32(p, (uint32_t)(v >> 32));
    store32(p + 4, (uint32_t)v);
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t load64(const uint8_t *p)
{
    return (uint64_t)load32(p) << 32 | load32(p + 4);
}

void engine_segment_head_encode(const struct engine_segment_head *h, uint8_t out[SEGMENT_HEAD])
{
    memset(out, 0, SEGMENT_HEAD);
    memcpy(out, SEGMENT_MAGIC, 8);
    store32(out + 8, h->format);
    memcpy(out + 12, h->node.b, 16);
    store64(out + 28, h->number);
    store64(out + 36, h->first_frame);
    store64(out + 44, h->salt);
    store32(out + HEAD_USED, crc_update(0, out, HEAD_USED));
    memcpy(out + SEGMENT_HEAD_COPY, out, SEGMENT_HEAD_COPY);
}

int engine_segment_head_decode(const uint8_t in[SEGMENT_HEAD], struct engine_segment_head *out)
{
    for (const uint8_t *p = in; p < in + SEGMENT_HEAD; p += SEGMENT_HEAD_COPY) {
        if (memcmp(p, SEGMENT_MAGIC, 8) != 0 ||
            load32(p + HEAD_USED) != crc_update(0, p, HEAD_USED))
            continue;
        out->format = load32(p + 8);
        memcpy(out->node.b, p + 12, 16);
        out->number = load64(p + 28);
        out->first_frame = load64(p + 36);
        out->salt = load64(p + 44);
        return 0;
    }
    return -EBADMSG;
}

uint32_t engine_segment_seed(const struct engine_segment_head *h)
{
    uint8_t b[32];
    memcpy(b, h->node.b, 16);
    store64(b + 16, h->number);
    store64(b + 24, h->salt);
    return crc_update(0, b, sizeof b);
}

static uint32_t record_seed(uint32_t seed, uint64_t number)
{
    uint8_t b[8];
    store64(b, number);
    return crc_update(seed, b, sizeof b);
}

void engine_frame_encode(uint32_t seed, uint64_t number, uint64_t synced,
                         const struct engine_frame_record *rec, size_t count, uint8_t *out)
{
    uint32_t start = record_seed(seed, number);
    uint64_t body = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t *t = out + FRAME_HEAD + i * FRAME_RECORD;
        store64(t, rec[i].group);
        store32(t + 8, rec[i].len);
        store32(t + 12, crc_update(start, rec[i].p, rec[i].len));
        body += rec[i].len;
    }
    must(body <= UINT32_MAX && count <= UINT32_MAX);
    store32(out, FRAME_MAGIC);
    store64(out + 8, number);
    store64(out + 16, synced);
    store32(out + 24, (uint32_t)body);
    store32(out + 28, (uint32_t)count);
    store32(out + 4, crc_update(seed, out + 8, FRAME_HEAD - 8 + count * FRAME_RECORD));
}

int engine_frame_decode(const uint8_t *p, size_t n, uint32_t seed, struct engine_frame *out)
{
    if (n < FRAME_HEAD || load32(p) != FRAME_MAGIC)
        return -EBADMSG;
    out->number = load64(p + 8);
    out->synced = load64(p + 16);
    out->body_len = load32(p + 24);
    out->record_count = load32(p + 28);
    uint64_t table = (uint64_t)out->record_count * FRAME_RECORD;
    uint64_t len = FRAME_HEAD + table + out->body_len;
    if (len > n || load32(p + 4) != crc_update(seed, p + 8, FRAME_HEAD - 8 + (size_t)table))
        return -EBADMSG;
    out->table = p + FRAME_HEAD;
    out->body = out->table + table;
    out->len = (size_t)(len + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
    out->seed = record_seed(seed, out->number);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < out->record_count; i++)
        sum += load32(out->table + (size_t)i * FRAME_RECORD + 8);
    return sum == out->body_len ? 0 : -EBADMSG;
}

bool engine_frame_record(const struct engine_frame *f, const uint8_t *frame, uint32_t i, size_t *at,
                         uint64_t *out_group, struct str *out_payload)
{
    const uint8_t *t = f->table + (size_t)i * FRAME_RECORD;
    size_t begin = i == 0 ? (size_t)(f->body - frame) : *at + load32(t - FRAME_RECORD + 8);
    *at = begin;
    *out_group = load64(t);
    *out_payload = str_view(frame + begin, load32(t + 8));
    return load32(t + 12) == crc_update(f->seed, frame + begin, load32(t + 8));
}

/* The length of the frame that may begin at p, as its head claims; 0: none begins here. */
uint64_t engine_frame_len(const uint8_t p[FRAME_HEAD])
{
    if (load32(p) != FRAME_MAGIC)
        return 0;
    return FRAME_HEAD + (uint64_t)load32(p + 28) * FRAME_RECORD + load32(p + 24);
}

size_t engine_frame_find(const uint8_t *p, size_t n)
{
    uint8_t magic[4];
    store32(magic, FRAME_MAGIC);
    size_t i = 0;
    for (; i + FRAME_ALIGN <= n; i += FRAME_ALIGN)
        if (p[i] == magic[0] && memcmp(p + i, magic, sizeof magic) == 0)
            return i;
    return n;
}

/* -- Records: tags are per kind, written here and nowhere else. */

enum { /* matters: the format */
       TAG_META = 1,
       TAG_TERM,
       TAG_COMMIT,
       TAG_VOTE,
       TAG_INDEX, /* first of entries, from of truncate, floor of compact and group */
       TAG_FLOOR_TERM,
       TAG_CONFIG,
       TAG_LAST,
       TAG_DAMAGED,
       TAG_ENTRY_TERM, /* of this and the following entries */
       TAG_ENTRY_KIND,
       TAG_ENTRY,
       TAG_ROLL_GROUP,
       TAG_ROLL_HAS,
       TAG_ROLL_FLOOR,
       TAG_ROLL_LAST,
       TAG_ROLL_FRAME, /* ends what is said of this group */
};

static void decode_bytes(struct engine_record *r, const struct codec_field *f, bool *bad)
{
    if (f->tag == TAG_META)
        r->meta = f->bytes;
    else if (f->tag == TAG_CONFIG)
        r->config = f->bytes;
    else if (f->tag == TAG_VOTE && f->bytes.n <= sizeof r->hard.vote) {
        r->hard.vote_n = (uint8_t)f->bytes.n;
        memcpy(r->hard.vote, f->bytes.p, f->bytes.n);
    } else if (f->tag == TAG_VOTE || (f->tag == TAG_ENTRY && f->bytes.n > ENGINE_LOG_ENTRY_MAX))
        *bad = true;
    else if (f->tag == TAG_ENTRY)
        r->entry_count++;
}

static void decode_number(struct engine_record *r, const struct codec_field *f, bool *bad)
{
    switch (f->tag) {
    case TAG_TERM:
        r->hard.term = f->u64;
        break;
    case TAG_COMMIT:
        r->hard.commit = f->u64;
        break;
    case TAG_INDEX:
        r->index = f->u64;
        break;
    case TAG_FLOOR_TERM:
        r->term = f->u64;
        break;
    case TAG_LAST:
        r->last = f->u64;
        break;
    case TAG_DAMAGED:
        r->is_damaged = f->u64 != 0;
        break;
    case TAG_ENTRY_KIND:
        *bad = *bad || f->u64 > ENGINE_LOG_KIND_MAX;
        break;
    default:
        break;
    }
}

int engine_record_decode(struct str payload, struct engine_record *out)
{
    *out = (struct engine_record){0};
    struct codec_cursor c = codec_cursor_of(payload);
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    if (c.bad || kind == 0 || kind >= RECORD_KIND_END || version != 1)
        return -EBADMSG;
    out->kind = (enum record_kind)kind;
    out->entries = c;
    bool bad = false;
    for (struct codec_field f; codec_record_next(&c, &f);)
        if (f.is_bytes)
            decode_bytes(out, &f, &bad);
        else
            decode_number(out, &f, &bad);
    bool is_entries = kind == RECORD_ENTRIES || kind == RECORD_MOVED;
    bad = bad || c.bad || is_entries != (out->entry_count > 0);
    /* Room above every index, so that no sum of ours wraps. */
    bad = bad || out->index > UINT64_MAX / 2 || out->last > UINT64_MAX / 2;
    return bad ? -EBADMSG : 0;
}

struct engine_record_walk engine_record_walk(const struct engine_record *r)
{
    return (struct engine_record_walk){.c = r->entries};
}

bool engine_record_entry(struct engine_record_walk *w, struct engine_log_entry *out)
{
    for (struct codec_field f; codec_record_next(&w->c, &f);) {
        if (f.tag == TAG_ENTRY_TERM && !f.is_bytes) {
            w->term = f.u64;
        } else if (f.tag == TAG_ENTRY_KIND && !f.is_bytes) {
            w->kind = (uint8_t)f.u64;
        } else if (f.tag == TAG_ENTRY && f.is_bytes) {
            *out = (struct engine_log_entry){w->term, w->kind, f.bytes};
            return true;
        }
    }
    return false;
}

void engine_record_entries(struct buf *b, enum record_kind kind, uint64_t first,
                           const struct engine_log_entry *entry, size_t count)
{
    codec_record_begin(b, (uint8_t)kind, 1);
    codec_record_u64(b, TAG_INDEX, first);
    uint64_t term = 0;
    uint8_t what = 0;
    for (size_t i = 0; i < count; i++) {
        must(entry[i].kind <= ENGINE_LOG_KIND_MAX);
        must(entry[i].data.n <= ENGINE_LOG_ENTRY_MAX);
        if (entry[i].term != term)
            codec_record_u64(b, TAG_ENTRY_TERM, term = entry[i].term);
        if (entry[i].kind != what)
            codec_record_u64(b, TAG_ENTRY_KIND, what = entry[i].kind);
        codec_record_bytes(b, TAG_ENTRY, entry[i].data);
    }
}

bool engine_record_rolled(struct engine_record_walk *w, struct engine_rolled *out)
{
    *out = (struct engine_rolled){0};
    for (struct codec_field f; codec_record_next(&w->c, &f);) {
        if (f.is_bytes)
            continue;
        if (f.tag == TAG_ROLL_GROUP)
            out->group = f.u64;
        else if (f.tag == TAG_ROLL_HAS)
            out->has = f.u64;
        else if (f.tag == TAG_ROLL_FLOOR)
            out->floor = f.u64;
        else if (f.tag == TAG_ROLL_LAST)
            out->last = f.u64;
        else if (f.tag == TAG_ROLL_FRAME && out->group != GROUP_OWN) {
            out->frame = f.u64;
            return out->floor <= out->last && out->last <= UINT64_MAX / 2;
        }
    }
    return false;
}

void engine_record_roll(struct buf *b, const struct engine_rolled *r)
{
    codec_record_u64(b, TAG_ROLL_GROUP, r->group);
    codec_record_u64(b, TAG_ROLL_HAS, r->has);
    codec_record_u64(b, TAG_ROLL_FLOOR, r->floor);
    codec_record_u64(b, TAG_ROLL_LAST, r->last);
    codec_record_u64(b, TAG_ROLL_FRAME, r->frame);
}

void engine_record_group(struct buf *b, const struct engine_record *r)
{
    codec_record_begin(b, (uint8_t)r->kind, 1);
    if (r->meta.n > 0)
        codec_record_bytes(b, TAG_META, r->meta);
    if (r->hard.term > 0)
        codec_record_u64(b, TAG_TERM, r->hard.term);
    if (r->hard.commit > 0)
        codec_record_u64(b, TAG_COMMIT, r->hard.commit);
    if (r->hard.vote_n > 0)
        codec_record_bytes(b, TAG_VOTE, str_view(r->hard.vote, r->hard.vote_n));
    if (r->index > 0)
        codec_record_u64(b, TAG_INDEX, r->index);
    if (r->term > 0)
        codec_record_u64(b, TAG_FLOOR_TERM, r->term);
    if (r->config.n > 0)
        codec_record_bytes(b, TAG_CONFIG, r->config);
    if (r->last > 0)
        codec_record_u64(b, TAG_LAST, r->last);
    if (r->is_damaged)
        codec_record_u64(b, TAG_DAMAGED, 1);
}
