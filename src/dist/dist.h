/* The table of routes as a machine: who wants which topic, on every replica the same.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rows, in one range each because a split falls between buckets (dist_key):
 *     tenant 00 bucket filter 00 'n' uuid epoch              node route
 *     tenant 00 bucket filter 00 'p' client                  persistent receiver
 *     tenant 00 bucket filter 00 's'|'o' group 00 'p' client, or 't' uuid epoch client     member
 * of a group bucket = one byte of a CRC of the filter, so that a large tenant can be split over
 * ranges.
 *
 * Every machine of a process writes into one struct dist_index (dist/index.h), so all of them are
 * applied by one thread. The machine keeps nothing beside it.  Incarnations order adds and removes
 * of one route, so late or repeated commands change nothing; whoever adds (a session, a node)
 * counts its own incarnations upwards. */
#pragma once

#include "dist/index.h"
#include "range/machine.h"

/* conf of dist_machine()->new: borrowed, must outlive the machines. */
struct dist_conf {
    struct dist_index *index;
};

const struct range_machine_ops *dist_machine(void);

/* The smallest key of a filter's routes: what a proposal about it is routed by.  Appends to out. */
void dist_key(struct buf *out, struct str tenant, struct str filter);

/* All keys of a tenant are in [from, to). */
void dist_key_tenant(struct buf *from, struct buf *to, struct str tenant);

/* --- commands: one may hold many operations; all of them on keys of one range
 * ------------------------------------ */

void dist_command_begin(struct buf *out);
/* member_max as in dist_index_add (MaxSharedGroupMembers of the tenant). */
void dist_command_add(struct buf *out, const struct dist_route *r, uint32_t member_max);
void dist_command_del(struct buf *out, const struct dist_route *r);

/* The reply: one byte per operation in order, 0 or enum dist_outcome; 0xFF: outside the bounds of
 * the range, ask the right one.  A command that cannot be decoded at all: an empty reply, nothing
 * changed. */
#define DIST_REPLY_MOVED 0xFFu

/* --- queries
 * ------------------------------------------------------------------------------------------------------
 */

/* The routes of a dead process, as a command to propose.  Asked of the leader with at 0, then again
 * with the reply's at until that is 0.  One reply names about route_max routes; the command is
 * empty when it found none. */
void dist_query_collect(struct buf *out, const struct uuid *node, uint64_t epoch, uint64_t at,
                        uint32_t route_max);
must_use bool dist_reply_collect(struct str reply, uint64_t *out_at, struct str *out_command);

/* The one effect: routes of this process were collected as dead.  Whoever hears it about itself is
 * not dead and adds its routes again, with newer incarnations. */
struct dist_collected {
    struct uuid node;
    uint64_t epoch;
    uint64_t count;
};
must_use bool dist_effect_decode(struct str effect, struct dist_collected *out);

/* Counts of one tenant in the whole index, or of all (empty tenant). */
void dist_query_stat(struct buf *out, struct str tenant);
must_use bool dist_reply_stat(struct str reply, struct dist_tenant_stat *out);

/* What matches this topic, for a node that has no replica: reply = routes, read by dist_reply_match
 * until false. */
void dist_query_match(struct buf *out, struct str tenant, struct str topic);
struct dist_reply_cursor {
    struct str rest;
    bool is_bad;
};
/* Views into the reply. */
must_use bool dist_reply_match(struct dist_reply_cursor *c, struct dist_route *out);
