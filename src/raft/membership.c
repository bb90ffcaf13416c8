/* Configurations and quorums.  SPDX-License-Identifier: Apache-2.0
 *
 * 1  Members ascend by id; every one has a role; no one is voter and learner at the same time.
 * 2  Next roles exist in joint configurations only.
 * 3  id_max never shrinks from one configuration to the next.
 * It knows nothing of logs: which configuration is in force is confchange.c's business. */
#include "base/mem.h"
#include "codec/record.h"
#include "raft/membership.h"

#define RECORD_KIND 0x20
#define RECORD_VERSION 1

enum tag {
    TAG_ID_MAX = 1,
    TAG_JOINT = 2,
    TAG_MEMBER = 3, /* bytes: role u8, id u64, store 16 bytes */
};
#define MEMBER_LEN 25

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct raft_member *)a)->id, y = ((const struct raft_member *)b)->id;
    return x < y ? -1 : x > y;
}

static bool is_role(uint8_t role)
{
    uint8_t now = role & (RAFT_VOTER | RAFT_LEARNER);
    uint8_t next = role & (RAFT_NEXT_VOTER | RAFT_NEXT_LEARNER);
    return role != 0 && role == (now | next) && now != (RAFT_VOTER | RAFT_LEARNER) &&
           next != (RAFT_NEXT_VOTER | RAFT_NEXT_LEARNER);
}

struct raft_config *raft_config_new(const struct raft_member *member, size_t count, uint64_t id_max)
{
    if (count > RAFT_MEMBER_MAX)
        return NULL;
    struct raft_config *c = mem_new(raft_config_size(count));
    c->count = (uint16_t)count;
    c->id_max = id_max;
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        c->member[i] = member[i];
        ok = ok && member[i].id != 0 && is_role(member[i].role);
        if (member[i].role & (RAFT_NEXT_VOTER | RAFT_NEXT_LEARNER))
            c->is_joint = true;
        if (member[i].id > c->id_max)
            c->id_max = member[i].id;
    }
    if (count > 0)
        qsort(c->member, count, sizeof *c->member, by_id);
    for (size_t i = 1; i < count; i++)
        ok = ok && c->member[i - 1].id != c->member[i].id;
    return ok ? c : mem_free(c);
}

struct raft_config *raft_config_dup(const struct raft_config *c)
{
    return mem_dup(c, raft_config_size(c->count));
}

bool raft_config_eq(const struct raft_config *a, const struct raft_config *b)
{
    if (a->count != b->count || a->is_joint != b->is_joint || a->id_max != b->id_max)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->member[i].id != b->member[i].id || a->member[i].role != b->member[i].role ||
            !uuid_eq(&a->member[i].store, &b->member[i].store))
            return false;
    return true;
}

const struct raft_member *raft_config_find(const struct raft_config *c, uint64_t id)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].id == id)
            return &c->member[i];
    return NULL;
}

bool raft_config_is_voter(const struct raft_config *c, uint64_t id)
{
    const struct raft_member *m = raft_config_find(c, id);
    return m != NULL && (m->role & (RAFT_VOTER | RAFT_NEXT_VOTER)) != 0;
}

void raft_config_encode(const struct raft_config *c, struct buf *b)
{
    codec_record_begin(b, RECORD_KIND, RECORD_VERSION);
    codec_record_u64(b, TAG_ID_MAX, c->id_max);
    if (c->is_joint)
        codec_record_u64(b, TAG_JOINT, 1);
    for (size_t i = 0; i < c->count; i++) {
        const struct raft_member *m = &c->member[i];
        size_t at = codec_record_open(b, TAG_MEMBER);
        buf_put_u8(b, m->role);
        buf_put_u64(b, m->id);
        buf_put(b, m->store.b, sizeof m->store.b);
        codec_record_close(b, at);
    }
}

struct raft_config *raft_config_decode(struct str record)
{
    struct codec_cursor c = codec_cursor_of(record);
    struct raft_member member[RAFT_MEMBER_MAX];
    size_t count = 0;
    uint64_t id_max = 0, is_joint = 0;
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    if (kind != RECORD_KIND || version != RECORD_VERSION)
        return NULL;
    for (struct codec_field f; codec_record_next(&c, &f);) {
        if (f.tag == TAG_ID_MAX)
            id_max = f.u64;
        else if (f.tag == TAG_JOINT)
            is_joint = f.u64;
        if (f.tag != TAG_MEMBER || !f.is_bytes)
            continue;
        if (count == RAFT_MEMBER_MAX || f.bytes.n < MEMBER_LEN)
            return NULL;
        struct codec_cursor m = codec_cursor_of(f.bytes);
        member[count].role = codec_cursor_u8(&m);
        member[count].id = codec_cursor_u64(&m);
        memcpy(member[count].store.b, codec_cursor_bytes(&m, 16).p, 16);
        count++;
    }
    if (c.bad)
        return NULL;
    struct raft_config *out = raft_config_new(member, count, id_max);
    if (out != NULL && (out->is_joint ? 1u : 0u) != is_joint)
        return mem_free(out);
    return out;
}

/* Target as a plain configuration, or NULL when it is none that may follow c. */
static struct raft_config *plain(const struct raft_config *c, const struct raft_member *target,
                                 size_t count)
{
    struct raft_config *t = raft_config_new(target, count, c->id_max);
    if (t == NULL)
        return NULL;
    bool has_voter = false, ok = !t->is_joint;
    for (size_t i = 0; i < t->count; i++) {
        has_voter = has_voter || t->member[i].role == RAFT_VOTER;
        /* an id that was taken away is never given again */
        if (t->member[i].id <= c->id_max && raft_config_find(c, t->member[i].id) == NULL)
            ok = false;
    }
    return ok && has_voter ? t : mem_free(t);
}

static bool same_voters(const struct raft_config *a, const struct raft_config *b)
{
    for (size_t i = 0; i < a->count; i++)
        if (raft_config_is_voter(a, a->member[i].id) != raft_config_is_voter(b, a->member[i].id))
            return false;
    for (size_t i = 0; i < b->count; i++)
        if (raft_config_is_voter(a, b->member[i].id) != raft_config_is_voter(b, b->member[i].id))
            return false;
    return true;
}

struct raft_config *raft_config_enter(const struct raft_config *c, const struct raft_member *target,
                                      size_t count)
{
    must(!c->is_joint);
    struct raft_config *t = plain(c, target, count);
    if (t == NULL || same_voters(c, t))
        return t;
    struct raft_member all[2 * RAFT_MEMBER_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++)
        all[n++] = c->member[i];
    for (size_t i = 0; i < t->count; i++) {
        uint8_t next = t->member[i].role == RAFT_VOTER ? RAFT_NEXT_VOTER : RAFT_NEXT_LEARNER;
        size_t at = 0;
        while (at < c->count && all[at].id != t->member[i].id)
            at++;
        if (at == c->count) {
            all[n] = t->member[i];
            all[n++].role = next;
        } else {
            all[at].role |= next;
        }
    }
    struct raft_config *joint = raft_config_new(all, n, t->id_max);
    mem_free(t);
    return joint;
}

struct raft_config *raft_config_leave(const struct raft_config *c)
{
    must(c->is_joint);
    struct raft_member next[RAFT_MEMBER_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) {
        uint8_t role = c->member[i].role;
        if ((role & (RAFT_NEXT_VOTER | RAFT_NEXT_LEARNER)) == 0)
            continue;
        next[n] = c->member[i];
        next[n++].role = (role & RAFT_NEXT_VOTER) ? RAFT_VOTER : RAFT_LEARNER;
    }
    return raft_config_new(next, n, c->id_max);
}

static uint64_t majority_value(const struct raft_config *c, const uint64_t *value, uint8_t voter)
{
    uint64_t v[RAFT_MEMBER_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) {
        if ((c->member[i].role & voter) == 0)
            continue;
        size_t at = n++; /* descending, by insertion: few */
        for (; at > 0 && v[at - 1] < value[i]; at--)
            v[at] = v[at - 1];
        v[at] = value[i];
    }
    return n > 0 ? v[n / 2] : 0;
}

uint64_t raft_quorum_value(const struct raft_config *c, const uint64_t value[RAFT_MEMBER_MAX])
{
    uint64_t now = majority_value(c, value, RAFT_VOTER);
    if (!c->is_joint)
        return now;
    uint64_t next = majority_value(c, value, RAFT_NEXT_VOTER);
    return now < next ? now : next;
}

static enum raft_tally majority_tally(const struct raft_config *c, const int8_t *vote,
                                      uint8_t voter)
{
    size_t n = 0, yes = 0, no = 0;
    for (size_t i = 0; i < c->count; i++) {
        if ((c->member[i].role & voter) == 0)
            continue;
        n++;
        yes += vote[i] > 0;
        no += vote[i] < 0;
    }
    if (yes > n / 2)
        return RAFT_TALLY_WON;
    return n - no <= n / 2 ? RAFT_TALLY_LOST : RAFT_TALLY_OPEN;
}

enum raft_tally raft_quorum_tally(const struct raft_config *c, const int8_t vote[RAFT_MEMBER_MAX])
{
    enum raft_tally now = majority_tally(c, vote, RAFT_VOTER);
    if (!c->is_joint)
        return now;
    enum raft_tally next = majority_tally(c, vote, RAFT_NEXT_VOTER);
    if (now == RAFT_TALLY_LOST || next == RAFT_TALLY_LOST)
        return RAFT_TALLY_LOST;
    return now == RAFT_TALLY_WON && next == RAFT_TALLY_WON ? RAFT_TALLY_WON : RAFT_TALLY_OPEN;
}
