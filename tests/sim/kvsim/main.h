/* The command line of a simulator with a house.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/lib/tally.h"

struct sim_end { /* what one world ended with */
    uint64_t trace;
    usec_t now; /* of its clock, which began with one second */
};

struct sim_main {
    /* One world; canary 0: nothing is planted, else the k-th fault, which must be found out.
     * True: all is as demanded. */
    bool (*play)(uint64_t seed, bool is_verbose, unsigned canary, struct sim_end *out);
    unsigned short_count;       /* seeds in CI */
    const char *const *canary;  /* what is planted, in words; NULL at the end */
    unsigned canary_seed_count; /* within so many seeds each must be found */
    const uint64_t *
        found; /* seeds that once found a fault, played with those from 1 on; 0 at the end; or NULL */
};

static unsigned canaries_unseen(const struct sim_main *m, uint64_t from)
{
    unsigned unseen = 0;
    struct sim_end end_of;
    for (unsigned k = 0; m->canary[k]; k++) {
        uint64_t s = from, end = from + m->canary_seed_count;
        while (s < end && m->play(s, false, k + 1, &end_of))
            s++;
        if (s == end) {
            printf("not noticed in %u seeds: %s\n", m->canary_seed_count, m->canary[k]);
            unseen++;
        }
    }
    return unseen;
}

/* --seed N plays one and tells about it; --seeds FROM COUNT plays them, the first one twice, and
 * the canaries. */
static int sim_main(int argc, char **argv, const struct sim_main *m)
{
    uint64_t from = 1, count = 10;
    struct sim_end end = {0}, again = {0};
    struct tally tally;
    unsigned passed = 0, failed = 0, canary = 0;
    bool is_one = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--short-count") == 0) {
            printf("%u\n", m->short_count);
            return 0;
        } else if (strcmp(argv[i], "--canary") == 0 && i + 1 < argc) {
            canary = (unsigned)strtoul(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            from = strtoull(argv[++i], NULL, 0);
            count = 1;
            is_one = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            from = strtoull(argv[++i], NULL, 0);
            count = strtoull(argv[++i], NULL, 0);
        }
    tally_begin(&tally);
    for (uint64_t s = from; s < from + count; s++) {
        if (m->play(s, is_one, canary, &end))
            passed++;
        else
            failed++;
        tally.played += end.now;
    }
    for (const uint64_t *s = m->found; s && *s && from == 1 && !is_one; s++) {
        bool is_good = m->play(*s, false, 0, &end);
        passed += is_good;
        failed += !is_good;
        tally.played += end.now;
    }
    tally_tell(&tally);
    if (!is_one && failed == 0) { /* the same seed is the same world */
        (void)m->play(from, false, 0, &end);
        (void)m->play(from, false, 0, &again);
        if (end.trace != again.trace) {
            printf("seed %llu plays differently a second time\n", (unsigned long long)from);
            failed++;
        }
    }
    if (!is_one && failed == 0)
        failed += canaries_unseen(m, from);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
