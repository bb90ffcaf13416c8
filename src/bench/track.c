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
    t->refused = mem_free(t->refused);
}

/* A set of numbers, large enough for one more. */
static void bits_reach(uint64_t **bits, uint64_t *have, uint64_t word)
{
    if (word < *have)
        return;
    uint64_t words = word + 1 > 2 * *have ? word + 1 : 2 * *have;
    *bits = mem_resize(*bits, words * sizeof **bits);
    memset(*bits + *have, 0, (words - *have) * sizeof **bits);
    *have = words;
}

static bool is_in(const uint64_t *bits, uint64_t words, uint64_t at)
{
    return at / 64 < words && (bits[at / 64] >> at % 64 & 1);
}

void bench_track_refused(struct bench_track *t, uint64_t seq)
{
    if (seq < t->from || is_in(t->seen, t->seen_words, seq - t->from) ||
        is_in(t->refused, t->refused_words, seq))
        return; /* it came before we heard that */
    bits_reach(&t->refused, &t->refused_words, seq / 64);
    t->refused[seq / 64] |= (uint64_t)1 << seq % 64;
    t->excused++;
}

/* It came all the same; true when it was refused. */
static bool unexcuse(struct bench_track *t, uint64_t seq)
{
    if (likely(t->excused == 0) || !is_in(t->refused, t->refused_words, seq))
        return false;
    t->excused--;
    return true;
}

bool bench_track_put(struct bench_track *t, uint64_t seq)
{
    if (likely(seq == t->next && t->seen == NULL)) {
        t->from = ++t->next;
        t->unique++;
        (void)unexcuse(t, seq);
        return true;
    }
    if (seq < t->from) {
        t->duplicate++;
        return false;
    }
    uint64_t at = seq - t->from, bit = (uint64_t)1 << at % 64;
    bits_reach(&t->seen, &t->seen_words, at / 64);
    if ((t->seen[at / 64] & bit) != 0) {
        t->duplicate++;
        return false;
    }
    t->seen[at / 64] |= bit;
    t->unique++;
    bool was_refused = unexcuse(t, seq);
    if (seq >= t->next)
        t->next = seq + 1;
    else
        t->reordered += !was_refused;
    return true;
}
