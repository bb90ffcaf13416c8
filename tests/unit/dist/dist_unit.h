/* The suites of dist, and what they share.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/rng.h"
#include "dist/index.h"
#include "unit/unit.h"

Suite *index_suite(void);
Suite *dist_suite(void);
Suite *readers_suite(void);

/* An index whose garbage is kept until the test says that no reader is left. */
struct bench_index {
    struct dist_index *x;
    struct {
        void *ptr;
        void (*fn)(void *ptr);
    } * dead;
    size_t dead_count, dead_cap;
};
void index_open(struct bench_index *b);
void index_grace(struct bench_index *b);
void index_close(struct bench_index *b);

/* Whether a filter matches a topic, the slow and plain way. */
bool naive_match(struct str filter, struct str topic);

/* Random levels of a small alphabet, so that things meet. */
struct str random_topic(struct rng *r, char *at);
struct str random_filter(struct rng *r, char *at);

struct dist_route route_node(const char *tenant, const char *filter, uint8_t node,
                             uint64_t incarnation);
struct dist_route route_inbox(const char *tenant, const char *filter, const char *client,
                              uint64_t incarnation);
