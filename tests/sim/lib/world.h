/* What every simulator is made of: a clock that jumps, one chance, a trace hash, and the command
 * line. SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "base/heap.h"
#include "base/rng.h"
#include "base/usec.h"

/* Something that will happen; embedded, zeroed at birth.  Equal times: in no order, but the same
 * one in each run. */
struct world_event {
    struct heap_node node;
    void (*happen)(void *arg, struct world_event *ev); /* owns ev from then on */
};

struct world {
    usec_t now;
    struct rng rng;
    struct heap heap;
    uint64_t hash; /* of everything that was traced */
    bool is_loud;  /* --trace: print it */
    void *arg;     /* given to happen() */
    char failure[512];
};

void world_init(struct world *w, uint64_t seed, void *arg);

/* Pending events are given to free_event. */
void world_deinit(struct world *w, void (*free_event)(struct world_event *ev));

/* At w->now + in. */
void world_plan(struct world *w, struct world_event *ev, usec_t in,
                void (*happen)(void *arg, struct world_event *ev));
void world_unplan(struct world *w, struct world_event *ev);

/* Runs until `until` or until done says so (asked after each event; may be NULL) or something
 * failed. True when done said so. */
bool world_run(struct world *w, usec_t until, bool (*done)(void *arg));

/* Part of the trace: two runs of one seed must agree. */
void world_trace(struct world *w, const char *fmt, ...) print_like(2, 3);

/* Notes the first failure. */
void world_fail(struct world *w, const char *fmt, ...) print_like(2, 3);

/* Plays one seed: fills w->hash and w->failure. */
typedef void world_play(struct world *w, uint64_t seed);

/* --seed N | --seeds FROM COUNT | --short-count, --trace.  The first seed is played twice and must
 * give one hash. Ends with "N passed, N failed". */
int world_main(int argc, char **argv, unsigned short_count, world_play *play);
