/* The session dict: at most one owner of a client in the cluster.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Each (tenant, client) has a home: a node, by rendezvous hashing over the live ones, and there a
 * loop.  The home knows the owner.  Nothing here is replicated or stored: when a home dies, the
 * owners register at the next one.  Persistent sessions are fenced by their inbox as well. */
#pragma once

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "net/loop.h"
#include "stores/stores.h"

#define STORES_DICT_AVOID_MAX 8
#define STORES_DICT_UNSAID_MAX 16384

struct stores_dict {
    struct { /* processes that did not answer lately: no homes, and no owners worth waiting for */
        struct uuid node;
        uint64_t epoch;
        usec_t until;
    } avoid[STORES_DICT_AVOID_MAX];
    unsigned avoid_next;
    struct net_timer settle; /* when nobody is avoided any more */
    struct net_timer again;  /* while there is something unsaid */
    struct list unsaid;      /* struct receipt: RELEASEs that nobody confirmed */
    size_t unsaid_count;
    struct map entry; /* struct entry, those whose home is this loop */
    struct map claim; /* struct claim by cookie: sessions of this loop, pending and held */
    struct heap due;  /* pending claims by deadline */
    struct net_timer timer;
};

void stores_dict_init(struct stores_client *c);
/* All claims and questions end and nobody is told: the host goes. */
void stores_dict_stop(struct stores_client *c);
void stores_dict_deinit(struct stores_client *c);

/* A member came or went: claims whose home moved register anew, entries of dead owners are freed.
 * On every loop. */
void stores_dict_members_changed(struct stores_client *c);

/* What arrived from another node for this loop. */
void stores_dict_receive(struct stores_client *c, struct str message);
