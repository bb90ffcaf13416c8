/* Which member of a shared subscription gets a message.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/loop_priv.h"
#include "broker/target_priv.h"
#include "dist/index.h"

/* A persistent session is now connected here, or no longer. */
void broker_share_held(struct broker *b, struct str client, uint64_t incarnation, bool is_held);

/* Persistent members that said of one message that they are away, by broker_share_member_id. */
struct broker_asked {
    const uint64_t *member;
    uint32_t count;
};
bool broker_share_was_asked(const struct broker_asked *a, const struct dist_receiver *r);

/* NULL: nobody is left.  $share: members in turn (an exchange of QoS 2: by its number, so that one
 * that comes again finds the same member), without those that do not read, or are persistent and
 * away, or were asked (asked: NULL, nobody was), while another can take it.  $oshare: the same
 * member for a publisher as long as it is there (rendezvous hashing: when one leaves, only its
 * publishers move). */
const struct dist_receiver *broker_share_pick(struct broker_loop *l, const struct dist_group *g,
                                              const struct codec_msg *msg,
                                              const struct broker_asked *asked);

/* In a cluster only its inbox knows whether a persistent member is connected somewhere.  Whether to
 * offer it the message only if it is, because another member might take it. */
bool broker_share_is_doubtful(const struct broker_loop *l, const struct dist_group *g,
                              const struct dist_receiver *r);

/* Its inbox said that this member is away: for a while it is passed over. */
void broker_share_away(struct broker_loop *l, uint64_t member);

/* Names for what a turn's pointers cannot be kept for: a member, a group. */
uint64_t broker_share_member_id(const struct dist_receiver *r);
uint64_t broker_share_group_id(const struct broker_target_group *g);

/* The name of a live member on its node. */
static inline uint64_t broker_share_cookie(const struct dist_receiver *r)
{
    uint64_t v = 0;
    for (uint16_t i = 0; i < r->client_len && i < 16; i++) {
        uint8_t x = (uint8_t)r->client[i];
        v = v << 4 | (uint64_t)(x <= '9' ? x - '0' : x - 'a' + 10);
    }
    return v;
}
