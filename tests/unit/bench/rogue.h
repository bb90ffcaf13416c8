/* A broker that loses, doubles and reorders what it is given, by a plan.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Of each publisher's messages to each subscriber, by their number modulo 10: 3 is lost; 5 comes
 * twice at once; 1 comes again after the next one; 7 comes only after the next one.  So of ten
 * messages eight come in order, one is lost, one is late, and two come twice. */
#pragma once

#include "net/listener.h"

#define ROGUE_CLIENT_MAX 16

struct rogue_client {
    struct rogue *rogue;
    struct net_stream *s; /* NULL: gone */
    uint8_t version;
    char id[64], filter[64];
    uint8_t sub_qos;
    uint16_t packet_id;                /* of the last message that went to it */
    uint64_t published;                /* messages that it gave */
    struct buf held[ROGUE_CLIENT_MAX]; /* of its messages, what a subscriber gets after the next */
};

struct rogue {
    struct net_listener *listener;
    struct rogue_client client[ROGUE_CLIENT_MAX];
    unsigned count;
    bool is_honest; /* everything comes once, in order */
    bool
        is_refusing; /* of ten, 3 is refused, and 7, which comes late all the same; the others once, in order */
    bool is_mute;               /* acknowledges and delivers nothing */
    uint16_t receive_max;       /* that it tells 5.0 clients; 0: none */
    struct str stray[4];        /* payloads that a subscriber gets as soon as it has subscribed */
    unsigned connects, cleaned; /* CONNECTs; those among them that are clean */
};

void rogue_init(struct rogue *r, struct net_loop *l);
void rogue_deinit(struct rogue *r, struct net_loop *l);
