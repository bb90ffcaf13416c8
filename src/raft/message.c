/* The records of messages.  SPDX-License-Identifier: Apache-2.0
 *
 * A field of value 0 is left out.  Entries follow each other from index + 1, so that their
 * index is not written. */
#include "raft/message.h"

#include "base/mem.h"
#include "codec/record.h"

#define RECORD_KIND 0x21
#define RECORD_VERSION 1

enum tag {
    TAG_TYPE = 1,
    TAG_TO = 2,
    TAG_FROM = 3,
    TAG_TERM = 4,
    TAG_INDEX = 5,
    TAG_LOG_TERM = 6,
    TAG_COMMIT = 7,
    TAG_ROUND = 8,
    TAG_STAMP = 9,
    TAG_EPOCH = 10,
    TAG_HINT = 11,
    TAG_HINT_TERM = 12,
    TAG_FLAGS = 13,
    TAG_CONFIG = 14,
    TAG_ENTRY = 15, /* bytes: varint term << 2 | type, payload */
};

enum flag {
    FLAG_REFUSED = 1,
    FLAG_QUIET = 2,
};

static void put(struct buf *b, uint32_t tag, uint64_t v)
{
    if (v != 0)
        codec_record_u64(b, tag, v);
}

void raft_message_encode(const struct raft_message *m, struct buf *b)
{
    codec_record_begin(b, RECORD_KIND, RECORD_VERSION);
    put(b, TAG_TYPE, m->type);
    put(b, TAG_TO, m->to);
    put(b, TAG_FROM, m->from);
    put(b, TAG_TERM, m->term);
    put(b, TAG_INDEX, m->index);
    put(b, TAG_LOG_TERM, m->log_term);
    put(b, TAG_COMMIT, m->commit);
    put(b, TAG_ROUND, m->round);
    put(b, TAG_STAMP, m->stamp);
    put(b, TAG_EPOCH, m->epoch);
    put(b, TAG_HINT, m->hint);
    put(b, TAG_HINT_TERM, m->hint_term);
    put(b, TAG_FLAGS, (m->is_refused ? FLAG_REFUSED : 0u) | (m->is_quiet ? FLAG_QUIET : 0u));
    if (m->config.n > 0)
        codec_record_bytes(b, TAG_CONFIG, m->config);
    for (uint32_t i = 0; i < m->entry_count; i++) {
        const struct raft_entry *e = &m->entry[i];
        must(e->index == m->index + 1 + i);
        size_t at = codec_record_open(b, TAG_ENTRY);
        buf_put_varint(b, e->term << 2 | e->type);
        buf_put_str(b, e->payload);
        codec_record_close(b, at);
    }
}

static void take_number(struct raft_message *m, uint32_t tag, uint64_t v)
{
    switch (tag) {
    case TAG_TYPE:
        m->type = v <= RAFT_MSG_REMOVED ? (uint8_t)v : 0;
        break;
    case TAG_TO:
        m->to = v;
        break;
    case TAG_FROM:
        m->from = v;
        break;
    case TAG_TERM:
        m->term = v;
        break;
    case TAG_INDEX:
        m->index = v;
        break;
    case TAG_LOG_TERM:
        m->log_term = v;
        break;
    case TAG_COMMIT:
        m->commit = v;
        break;
    case TAG_ROUND:
        m->round = v;
        break;
    case TAG_STAMP:
        m->stamp = v;
        break;
    case TAG_EPOCH:
        m->epoch = v;
        break;
    case TAG_HINT:
        m->hint = v;
        break;
    case TAG_HINT_TERM:
        m->hint_term = v;
        break;
    case TAG_FLAGS:
        m->is_refused = v & FLAG_REFUSED;
        m->is_quiet = v & FLAG_QUIET;
        break;
    default: /* from a newer version */
        break;
    }
}

static bool take_entry(struct raft_message_store *s, uint32_t i, struct str bytes)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    uint64_t head = codec_cursor_varint(&c);
    if (c.bad || (head & 3) > RAFT_ENTRY_NOOP || head >> 2 == 0)
        return false;
    size_t n = codec_cursor_left(&c);
    s->entry = mem_grow(s->entry, &s->cap, i + 1, sizeof *s->entry);
    s->entry[i] = (struct raft_entry){
        .term = head >> 2, .payload = codec_cursor_bytes(&c, n), .type = head & 3};
    return true;
}

int raft_message_decode(struct str record, struct raft_message_store *store,
                        struct raft_message *out)
{
    struct codec_cursor c = codec_cursor_of(record);
    struct raft_message m = {0};
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    if (kind != RECORD_KIND || version != RECORD_VERSION)
        return RAFT_MESSAGE_E_MALFORMED;
    for (struct codec_field f; codec_record_next(&c, &f);) {
        if (f.tag == TAG_CONFIG && f.is_bytes) {
            m.config = f.bytes;
        } else if (f.tag == TAG_ENTRY && f.is_bytes) {
            if (m.entry_count == RAFT_MESSAGE_ENTRY_MAX)
                return RAFT_MESSAGE_E_TOO_LONG;
            if (!take_entry(store, m.entry_count++, f.bytes))
                return RAFT_MESSAGE_E_MALFORMED;
        } else if (!f.is_bytes) {
            take_number(&m, f.tag, f.u64);
        }
    }
    if (c.bad || m.type == 0 || m.to == 0 || m.from == 0 || m.term == 0)
        return RAFT_MESSAGE_E_MALFORMED;
    /* no index near the end of numbers: sums of it never wrap */
    if ((m.index | m.hint | m.commit | m.term) >> 62 != 0)
        return RAFT_MESSAGE_E_MALFORMED;
    uint64_t term = m.log_term;
    for (uint32_t i = 0; i < m.entry_count; i++) {
        struct raft_entry *e = &store->entry[i];
        e->index = m.index + 1 + i;
        if (e->term < term || e->term > m.term)
            return RAFT_MESSAGE_E_MALFORMED;
        term = e->term;
    }
    m.entry = m.entry_count > 0 ? store->entry : NULL;
    *out = m;
    return 0;
}

const char *raft_message_name(uint8_t type)
{
    static const char *const name[] = {
        "?",
        "prevote",
        "prevote-reply",
        "vote",
        "vote-reply",
        "append",
        "append-reply",
        "heartbeat",
        "heartbeat-reply",
        "commit",
        "snapshot",
        "timeout-now",
        "read",
        "read-reply",
        "removed",
    };
    return name[type < countof(name) ? type : 0];
}
