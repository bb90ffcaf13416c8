/* Streams of numbered messages.  SPDX-License-Identifier: Apache-2.0
 *
 * While everything is in order only `next` moves.  From the first number that is not, a bit for
 * each remembers which ones came, to the end of the run: however late one is, a late one counts as
 * reordered and a second one as duplicate.  A bit a message is little beside what it cost to send.
 *
 * It never guesses: no window, no limit but the numbers that were sent (the caller's to check). */
#include "bench/track.h"

#include <string.h>

#include "base/mem.h"

void bench_track_deinit(struct bench_track *t)
{
    t->seen = mem_free(t->seen);
}

static void seen_reach(struct bench_track *t, uint64_t word)
{
    if (word < t->seen_words)
        return;
    uint64_t words = word + 1 > 2 * t->seen_words ? word + 1 : 2 * t->seen_words;
    t->seen = mem_resize(t->seen, words * sizeof *t->seen);
    memset(t->seen + t->seen_words, 0, (words - t->seen_words) * sizeof *t->seen);
    t->seen_words = words;
}

bool bench_track_put(struct bench_track *t, uint64_t seq)
{
    if (likely(seq == t->next && t->seen == NULL)) {
        t->from = ++t->next;
        t->unique++;
        return true;
    }
    if (seq < t->from) {
        t->duplicate++;
        return false;
    }
    uint64_t at = seq - t->from, bit = (uint64_t)1 << at % 64;
    seen_reach(t, at / 64);
    if ((t->seen[at / 64] & bit) != 0) {
        t->duplicate++;
        return false;
    }
    t->seen[at / 64] |= bit;
    t->unique++;
    if (seq < t->next)
        t->reordered++;
    else
        t->next = seq + 1;
    return true;
}
