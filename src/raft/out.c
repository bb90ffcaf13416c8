/* The effects of a step: collected while it runs, put in order at its end.  SPDX-License-
 * Identifier: Apache-2.0
 *
 * 1  A message that needs the disk is held until the write it needs, and all before it, are
 * durable. 2  Nothing that is not durable here is handed to apply. 3  A later acknowledgement
 * to the same peer replaces an earlier one that leaves in the same step. It decides nothing; it
 * never drops a write. */
#include "raft/raft_priv.h"

/* Held in this step; numbered when the step's own write has its number. */
#define HELD_ALL 0
#define HELD_HARD UINT64_MAX

void raft_out_reset(struct raft_out *out)
{
    out->outcome = RAFT_OK;
    out->index = out->term = 0;
    out->persist = (struct raft_persist){0};
    out->message_count = out->apply_count = out->read_count = out->fetch_count = 0;
    out->snapshot_count = out->entry_count = 0;
    out->install = (struct raft_install){0};
    out->changed = 0;
    out->bytes.n = 0;
    out->append_from = 0;
    out->held_from = 0;
}

void raft_out_deinit(struct raft_out *out)
{
    mem_free(out->message);
    mem_free(out->apply);
    mem_free(out->read);
    mem_free(out->fetch);
    mem_free(out->snapshot);
    mem_free(out->entry);
    buf_deinit(&out->bytes);
    *out = (struct raft_out){0};
}

static void put_message(struct raft_out *out, const struct raft_message *m)
{
    out->message =
        mem_grow(out->message, &out->message_cap, out->message_count + 1, sizeof *out->message);
    out->message[out->message_count++] = *m;
}

void raft_send(struct raft *r, struct raft_out *out, struct raft_message m, enum raft_needs needs)
{
    m.from = r->id;
    if (m.term == 0)
        m.term = r->hard.term;
    if (needs == RAFT_NEEDS_NOTHING) {
        put_message(out, &m);
        return;
    }
    r->held = mem_grow(r->held, &r->held_cap, r->held_count + 1, sizeof *r->held);
    r->held[r->held_count++] =
        (struct raft_held){needs == RAFT_NEEDS_ALL ? HELD_ALL : HELD_HARD, m};
}

size_t raft_out_entries(struct raft_out *out, const struct raft_log *l, uint64_t first,
                        uint64_t last)
{
    size_t count = (size_t)(last + 1 - first), at = out->entry_count;
    /* the same entries go to several peers and to the disk: once is enough */
    for (size_t i = 0; i + count <= out->entry_count; i++)
        if (out->entry[i].index == first && out->entry[i + count - 1].index == last)
            return i;
    out->entry = mem_grow(out->entry, &out->entry_cap, at + count, sizeof *out->entry);
    for (uint64_t i = first; i <= last; i++)
        out->entry[out->entry_count++] = raft_log_entry(l, i);
    return at;
}

void raft_out_read(struct raft_out *out, uint64_t ctx, uint64_t index, int outcome)
{
    out->read = mem_grow(out->read, &out->read_cap, out->read_count + 1, sizeof *out->read);
    out->read[out->read_count++] = (struct raft_read_done){ctx, index, outcome};
}

void raft_out_fetch(struct raft_out *out, struct raft_fetch f)
{
    out->fetch = mem_grow(out->fetch, &out->fetch_cap, out->fetch_count + 1, sizeof *out->fetch);
    out->fetch[out->fetch_count++] = f;
}

void raft_out_snapshot(struct raft_out *out, uint64_t peer)
{
    out->snapshot =
        mem_grow(out->snapshot, &out->snapshot_cap, out->snapshot_count + 1, sizeof *out->snapshot);
    out->snapshot[out->snapshot_count++] = peer;
}

void raft_hard_changed(struct raft *r, struct raft_out *out)
{
    (void)r;
    out->persist.has_hard = true;
}

void raft_held_drop(struct raft *r, struct raft_out *out)
{
    r->held_count = out->held_from = 0;
}

/* Committed and durable entries, as far as the host keeps up. */
static void hand_out(struct raft *r, struct raft_out *out)
{
    struct raft_log *l = &r->log;
    uint64_t to = l->commit < l->stable ? l->commit : l->stable;
    if (l->handed == l->applied)
        l->handed_bytes = 0;
    while (l->handed < to && !l->is_fetching) {
        uint64_t index = l->handed + 1;
        if (l->handed_bytes >= r->conf->apply_bytes_max)
            return;
        if (index < l->kept) {
            uint64_t last = to < l->kept - 1 ? to : l->kept - 1;
            l->is_fetching = true;
            raft_out_fetch(out, (struct raft_fetch){0, index, last, r->conf->append_bytes_max});
            return;
        }
        out->apply =
            mem_grow(out->apply, &out->apply_cap, out->apply_count + 1, sizeof *out->apply);
        out->apply[out->apply_count++] = raft_log_entry(l, index);
        l->handed_bytes += raft_log_len(l, index);
        l->handed = index;
    }
}

static void number_write(struct raft *r, struct raft_out *out)
{
    struct raft_persist *p = &out->persist;
    if (out->append_from == 0 && !p->has_hard && p->reset == 0 && p->compact == 0 &&
        p->truncate == 0)
        return;
    p->seq = ++r->seq;
    if (out->append_from != 0) {
        p->entry_count = (size_t)(r->log.last + 1 - out->append_from);
        /* the offset; the pointer follows when nothing grows any more */
        out->append_from = raft_out_entries(out, &r->log, out->append_from, r->log.last) + 1;
    }
    if (p->has_hard)
        r->hard_seq = p->seq;
    /* commit is a hint, written when something else is */
    r->hard.commit = r->log.commit;
    p->hard = r->hard;
    if (raft_canary(RAFT_CANARY_DOUBLE_VOTE) && p->hard.vote == r->id)
        p->hard.vote = 0;
    r->write = mem_grow(r->write, &r->write_cap, r->write_count + 1, sizeof *r->write);
    r->write[r->write_count++] = (struct raft_write){p->seq, r->log.last};
}

/* A later one to the same peer says all that this one says. */
static bool is_covered(const struct raft *r, size_t i, size_t end)
{
    const struct raft_message *m = &r->held[i].message;
    if (m->type != RAFT_MSG_APPEND_REPLY || m->is_refused)
        return false;
    for (size_t j = i + 1; j < end; j++) {
        const struct raft_message *o = &r->held[j].message;
        if (o->type == m->type && !o->is_refused && o->to == m->to && o->index >= m->index &&
            r->held[j].seq <= r->seq_durable)
            return true;
    }
    return false;
}

static void release_held(struct raft *r, struct raft_out *out)
{
    for (size_t i = out->held_from; i < r->held_count; i++)
        r->held[i].seq = r->held[i].seq == HELD_ALL ? r->seq : r->hard_seq;
    size_t kept = 0;
    for (size_t i = 0; i < r->held_count; i++) {
        struct raft_held *h = &r->held[i];
        if (h->seq > r->seq_durable)
            r->held[kept++] = *h;
        else if (!is_covered(r, i, r->held_count))
            put_message(out, &h->message);
    }
    r->held_count = kept;
}

void raft_out_finish(struct raft *r, struct raft_out *out)
{
    number_write(r, out);
    hand_out(r, out);
    release_held(r, out);
    if (out->append_from != 0)
        out->persist.entry = out->entry + (out->append_from - 1);
    for (size_t i = 0; i < out->message_count; i++) {
        struct raft_message *m = &out->message[i];
        if (m->type == RAFT_MSG_APPEND) { /* hint was the offset: raft_out_entries */
            m->entry = m->entry_count > 0 ? out->entry + m->hint : NULL;
            m->hint = 0;
        }
    }
}
