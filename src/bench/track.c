/* Streams of numbered messages.  SPDX-License-Identifier: Apache-2.0
 *
 * While everything is in order only `next` moves.  Behind the newest number a ring of bits
 * remembers which ones came, so that a late one counts as reordered and a second one as duplicate.
 */
#include "bench/track.h"

#include "base/mem.h"

static uint64_t *word(struct bench_track *t, uint64_t seq)
{
    return &t->seen[seq % BENCH_TRACK_WINDOW / 64];
}

static uint64_t bit(uint64_t seq)
{
    return (uint64_t)1 << (seq % 64);
}

void bench_track_deinit(struct bench_track *t)
{
    t->seen = mem_free(t->seen);
}

static void window_make(struct bench_track *t)
{
    t->seen = mem_new(BENCH_TRACK_WINDOW / 8);
    uint64_t from = t->next > BENCH_TRACK_WINDOW ? t->next - BENCH_TRACK_WINDOW : 0;
    for (uint64_t s = from; s < t->next; s++)
        *word(t, s) |= bit(s);
}

void bench_track_put(struct bench_track *t, uint64_t seq)
{
    if (likely(seq == t->next && t->seen == NULL)) {
        t->next++;
        t->unique++;
        return;
    }
    if (t->seen == NULL)
        window_make(t);
    if (seq >= t->next) {
        uint64_t from =
            seq - t->next >= BENCH_TRACK_WINDOW ? seq - BENCH_TRACK_WINDOW + 1 : t->next;
        for (uint64_t s = from; s <= seq; s++)
            *word(t, s) &= ~bit(s);
        *word(t, seq) |= bit(seq);
        t->next = seq + 1;
        t->unique++;
    } else if (t->next - seq > BENCH_TRACK_WINDOW || (*word(t, seq) & bit(seq)) != 0) {
        t->duplicate++;
    } else {
        *word(t, seq) |= bit(seq);
        t->unique++;
        t->reordered++;
    }
}
