/* The simulated world.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sim/lib/tally.h"

#define BEGIN (1000 * USEC_SEC) /* what clocks say when a world begins */

void world_init(struct world *w, uint64_t seed, void *arg)
{
    bool loud = w->is_loud;
    *w = (struct world){.arg = arg, .is_loud = loud, .now = BEGIN};
    rng_init(&w->rng, seed);
}

void world_deinit(struct world *w, void (*free_event)(struct world_event *ev))
{
    for (struct heap_node *n; (n = heap_top(&w->heap)) != NULL;) {
        heap_del(&w->heap, n);
        if (free_event != NULL)
            free_event(container_of(n, struct world_event, node));
    }
    heap_deinit(&w->heap);
}

void world_plan(struct world *w, struct world_event *ev, usec_t in,
                void (*happen)(void *arg, struct world_event *ev))
{
    ev->happen = happen;
    heap_put(&w->heap, &ev->node, w->now + in);
}

void world_unplan(struct world *w, struct world_event *ev)
{
    heap_del(&w->heap, &ev->node);
}

bool world_run(struct world *w, usec_t until, bool (*done)(void *arg))
{
    while (w->failure[0] == 0) {
        if (done != NULL && done(w->arg))
            return true;
        if (heap_deadline(&w->heap) > until)
            break;
        struct world_event *ev = container_of(heap_top(&w->heap), struct world_event, node);
        w->now = ev->node.at;
        heap_del(&w->heap, &ev->node);
        ev->happen(w->arg, ev);
    }
    if (w->now < until && w->failure[0] == 0)
        w->now = until;
    return false;
}

void world_trace(struct world *w, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    size_t len = n < (int)sizeof line ? (size_t)n : sizeof line - 1;
    w->hash = hash_bytes(line, len, w->hash + w->now);
    if (w->is_loud)
        printf("[%10.6f] %s\n", (double)(w->now - BEGIN) / 1e6, line);
}

void world_fail(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->failure[0] != 0)
        return;
    int n = snprintf(w->failure, sizeof w->failure, "at %.3f s: ", (double)(w->now - BEGIN) / 1e6);
    va_start(ap, fmt);
    vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, fmt, ap);
    va_end(ap);
}

static bool play_one(world_play *play, const char *name, uint64_t seed, struct world *w)
{
    bool loud = w->is_loud;
    *w = (struct world){.is_loud = loud, .now = BEGIN};
    play(w, seed);
    if (w->failure[0] == 0)
        return true;
    printf("%s --seed %llu: %s\n", name, (unsigned long long)seed, w->failure);
    return false;
}

int world_main(int argc, char **argv, unsigned short_count, world_play *play)
{
    uint64_t from = 1, count = short_count, hash = 0;
    struct world w = {.is_loud = false};
    struct tally tally;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--short-count") == 0) {
            printf("%u\n", short_count);
            return 0;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            from = strtoull(argv[++i], NULL, 10);
            count = 1;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            from = strtoull(argv[i + 1], NULL, 10);
            count = strtoull(argv[i + 2], NULL, 10);
            i += 2;
        } else if (strcmp(argv[i], "--trace") == 0) {
            w.is_loud = true;
        } else {
            fprintf(stderr, "usage: %s [--seed N | --seeds FROM COUNT | --short-count] [--trace]\n",
                    argv[0]);
            return 2;
        }
    }
    unsigned long long passed = 0, failed = 0;
    tally_begin(&tally);
    for (uint64_t s = from; s < from + count; s++) {
        bool ok = play_one(play, argv[0], s, &w);
        hash = w.hash;
        tally.played += w.now - BEGIN;
        if (ok && s == from && !w.is_loud) {
            ok = play_one(play, argv[0], s, &w);
            tally.played += w.now - BEGIN;
            if (ok && hash != w.hash) {
                printf("%s --seed %llu: two runs differ\n", argv[0], (unsigned long long)s);
                ok = false;
            }
        }
        passed += ok;
        failed += !ok;
    }
    tally_tell(&tally);
    printf("trace %016llx\n%llu passed, %llu failed\n", (unsigned long long)hash, passed, failed);
    return failed != 0;
}
