/* A cluster on paper: a command is carried out at once and whole, learners catch up by the next
 * round.  Every command is checked: nothing may break a quorum.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "balance/balance.h"
#include "unit/unit.h"

#define NODES 7
#define RANGES 12

struct model {
    struct balance_node node[NODES];
    size_t nodes;
    struct range_descriptor range[RANGES]; /* by its id */
    size_t ranges;
    struct balance_rule rule;
    unsigned steps;
};

/* Live nodes, of which the first leads all ranges and votes alone. */
void model_init(struct model *m, size_t nodes, size_t ranges);
/* Of the i-th node; its first byte is i + 1. */
struct uuid model_name(size_t i);
bool model_is_live(const struct model *m, const struct uuid *u);
bool model_is_usable(const struct model *m, size_t i);
void model_member_put(struct range_descriptor *d, struct uuid node, bool is_voter);
/* Fails the test when the command would break a quorum or is for another version. */
void model_carry_out(struct model *m, const struct balance_step *s);
/* What this node would do next. */
void model_ask(const struct model *m, size_t node, struct balance_step *out);
/* Every live node asks in turn until nobody wants anything: the fixed point. */
void model_play(struct model *m, unsigned steps_max);
/* After nodes died or came back: dead leaders have a successor, members are as current as live. */
void model_elect(struct model *m);
unsigned model_voters(const struct range_descriptor *d);
void model_counts(const struct model *m, unsigned votes[NODES], unsigned leads[NODES]);
/* The most less the least that usable nodes have. */
unsigned model_spread(const struct model *m, const unsigned of[NODES]);
/* Leaders and votes are within one of even over the usable nodes. */
void model_check_even(const struct model *m);
