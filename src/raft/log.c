/* The shape of the log: which term wrote which entry, and the payloads somebody still waits for.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1  Runs cover base + 1 .. last exactly; firsts and terms ascend strictly.
 * 2  The ring holds kept .. last; kept_bytes is the sum of their payloads.
 * 3  base <= applied <= handed <= commit <= last, handed <= stable <= last.
 * It never reads a payload and never forgets a term that is not compacted. */
#include "raft/raft_priv.h"

struct raft_block {
    uint32_t refs;
    char data[];
};

static void block_unref(struct raft_block *b)
{
    if (b != NULL && --b->refs == 0)
        mem_free(b);
}

static struct raft_slot *slot_at(const struct raft_log *l, uint64_t index)
{
    return &l->slot[index & (l->slot_cap - 1)];
}

void raft_log_init(struct raft_log *l, const struct raft_boot *b)
{
    *l = (struct raft_log){.base = b->base, .base_term = b->base_term, .last = b->last};
    must(b->base <= b->applied && b->applied <= b->last);
    must(b->run_count > 0 || b->last == b->base);
    l->run = mem_grow(NULL, &l->run_cap, b->run_count, sizeof *l->run);
    for (size_t i = 0; i < b->run_count; i++)
        l->run[i] = b->run[i];
    l->run_count = b->run_count;
    l->stable = b->last;
    l->handed = l->applied = b->applied;
    l->commit = b->hard.commit < b->last ? b->hard.commit : b->last;
    if (l->commit < b->applied)
        l->commit = b->applied;
    l->kept = b->last + 1;
    raft_log_check(l);
}

void raft_log_deinit(struct raft_log *l)
{
    raft_log_let_go(l, l->last);
    mem_free(l->slot);
    mem_free(l->run);
    *l = (struct raft_log){0};
}

/* The run that covers index, which is in base + 1 .. last. */
static size_t run_of(const struct raft_log *l, uint64_t index)
{
    size_t lo = 0, hi = l->run_count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->run[mid].first <= index)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

uint64_t raft_log_term(const struct raft_log *l, uint64_t index)
{
    if (index == l->base)
        return l->base_term;
    if (index < l->base || index > l->last)
        return 0;
    if (l->run[l->run_count - 1].first <= index)
        return l->run[l->run_count - 1].term;
    return l->run[run_of(l, index)].term;
}

uint64_t raft_log_find(const struct raft_log *l, uint64_t index, uint64_t term)
{
    if (index > l->last)
        index = l->last;
    for (size_t i = l->run_count; i > 0 && index > l->base; i--) {
        const struct raft_run *run = &l->run[i - 1];
        if (run->first > index)
            continue;
        if (run->term <= term)
            return index;
        index = run->first - 1;
    }
    return l->base;
}

static void ring_grow(struct raft_log *l, size_t need)
{
    size_t cap = l->slot_cap > 0 ? l->slot_cap : 8;
    while (cap < need)
        cap *= 2;
    if (cap == l->slot_cap)
        return;
    struct raft_slot *slot = mem_alloc(cap * sizeof *slot);
    for (uint64_t i = l->kept; i <= l->last; i++)
        slot[i & (cap - 1)] = *slot_at(l, i);
    mem_free(l->slot);
    l->slot = slot;
    l->slot_cap = cap;
}

void raft_log_append(struct raft_log *l, const struct raft_entry *e, size_t count)
{
    size_t bytes = 0;
    uint32_t refs = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += e[i].payload.n;
        refs += e[i].payload.n > 0;
    }
    struct raft_block *b = NULL;
    char *at = NULL;
    if (refs > 0) {
        b = mem_alloc(sizeof *b + bytes);
        b->refs = refs;
        at = b->data;
    }
    ring_grow(l, (size_t)(l->last + 1 - l->kept) + count);
    for (size_t i = 0; i < count; i++) {
        uint64_t term = e[i].term, index = ++l->last;
        if (l->run_count == 0 || l->run[l->run_count - 1].term != term) {
            must(l->run_count == 0 || l->run[l->run_count - 1].term < term);
            l->run = mem_grow(l->run, &l->run_cap, l->run_count + 1, sizeof *l->run);
            l->run[l->run_count++] = (struct raft_run){index, term};
        }
        size_t n = e[i].payload.n;
        *slot_at(l, index) = (struct raft_slot){n > 0 ? b : NULL, at, (uint32_t)n, e[i].type};
        if (n > 0) {
            memcpy(at, e[i].payload.p, n);
            at += n;
        }
    }
    l->kept_bytes += bytes;
}

void raft_log_let_go(struct raft_log *l, uint64_t index)
{
    for (; l->kept <= index && l->kept <= l->last; l->kept++) {
        struct raft_slot *s = slot_at(l, l->kept);
        l->kept_bytes -= s->n;
        block_unref(s->block);
    }
    if (l->kept > l->last && l->slot_cap > 64) {
        l->slot = mem_free(l->slot);
        l->slot_cap = 0;
    }
}

void raft_log_truncate(struct raft_log *l, uint64_t index)
{
    must(index > l->commit && index > l->base && index <= l->last);
    for (uint64_t i = l->last; i >= index && i >= l->kept; i--) {
        struct raft_slot *s = slot_at(l, i);
        l->kept_bytes -= s->n;
        block_unref(s->block);
    }
    l->last = index - 1;
    if (l->kept > index)
        l->kept = index;
    if (l->stable > l->last)
        l->stable = l->last;
    while (l->run_count > 0 && l->run[l->run_count - 1].first > l->last)
        l->run_count--;
}

void raft_log_reset(struct raft_log *l, uint64_t index, uint64_t term)
{
    must(index > l->commit);
    raft_log_let_go(l, l->last);
    l->run_count = 0;
    l->base = l->last = l->stable = l->commit = l->handed = l->applied = index;
    l->base_term = term;
    l->kept = index + 1;
    l->kept_bytes = l->handed_bytes = 0;
    l->is_fetching = false;
}

void raft_log_compact(struct raft_log *l, uint64_t index)
{
    must(index > l->base && index <= l->applied);
    uint64_t term = raft_log_term(l, index);
    raft_log_let_go(l, index);
    size_t drop = 0;
    while (drop + 1 < l->run_count && l->run[drop + 1].first <= index + 1)
        drop++;
    if (index == l->last)
        drop = l->run_count;
    l->run_count -= drop;
    memmove(l->run, l->run + drop, l->run_count * sizeof *l->run);
    if (l->run_count > 0 && l->run[0].first <= index)
        l->run[0].first = index + 1;
    l->base = index;
    l->base_term = term;
}

struct raft_entry raft_log_entry(const struct raft_log *l, uint64_t index)
{
    must(index >= l->kept && index <= l->last);
    const struct raft_slot *s = slot_at(l, index);
    return (struct raft_entry){index, raft_log_term(l, index), str_view(s->p, s->n), s->type};
}

size_t raft_log_len(const struct raft_log *l, uint64_t index)
{
    return slot_at(l, index)->n;
}

void raft_log_check(const struct raft_log *l)
{
    must(l->base <= l->applied);
    must(l->applied <= l->handed);
    must(l->handed <= l->commit);
    must(l->commit <= l->last);
    must(l->handed <= l->stable);
    must(l->stable <= l->last);
    must((l->run_count == 0) == (l->last == l->base));
    must(l->run_count == 0 || l->run[0].first == l->base + 1);
    for (size_t i = 1; i < l->run_count; i++)
        must(l->run[i].first > l->run[i - 1].first && l->run[i].term > l->run[i - 1].term);
    must(l->run_count == 0 || l->run[l->run_count - 1].first <= l->last);
    must(l->run_count == 0 || l->run[0].term >= l->base_term);
    must(l->kept >= 1 && l->kept <= l->last + 1);
    must(l->kept - 1 <= l->stable);
    uint64_t bytes = 0;
    for (uint64_t i = l->kept; i <= l->last; i++)
        bytes += slot_at(l, i)->n;
    must(bytes == l->kept_bytes);
}
