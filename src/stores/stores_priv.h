/* What the files of this room share.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/hash.h"
#include "base/hlc.h"
#include "base/map.h"
#include "dist/dist.h"
#include "inbox/inbox.h"
#include "net/loop.h"
#include "stores/dict_priv.h"
#include "stores/orphan_priv.h"
#include "stores/own_priv.h"
#include "stores/port_priv.h"
#include "stores/stores.h"
#include "stores/verify_priv.h"

/* A persistent session that is attached (or attaching) on this loop: where pushes find it. */
struct stores_held {
    uint64_t hash;
    struct str tenant, client;
    uint64_t cookie;
    uint64_t incarnation, mod; /* 0: attaching */
    uint64_t missed_next;      /* a push or MORE came while attaching: the seq behind it */
    struct list doubt;         /* of stores_verify.doubted */
};

/* The room as seen from one loop. */
struct stores_client {
    struct stores *stores;
    unsigned loop;
    struct net_loop *net;
    struct stores_dict dict; /* the entries whose home is here, and the claims made here */
    struct stores_orphans orphans;
    struct stores_verify verify;
    struct map held;                          /* struct stores_held by tenant and client */
    struct kv_client *kv[STORES_TABLE_COUNT]; /* NULL without kv */
    struct net_timer own_doubt;               /* own.c */
    struct cluster_watch *watch;              /* NULL: alone */
    struct buf command;                       /* scratch of one call */
};

struct stores {
    struct stores_conf conf;
    struct stores_client *client;                 /* one per loop */
    struct stores_solo *solo[STORES_TABLE_COUNT]; /* without kv */
    struct kv_store *store[STORES_TABLE_COUNT];   /* with kv */
    struct dist_index *index;
    unsigned dist_loop;    /* the index's writer: where all ranges of dist are */
    struct dist_conf dist; /* of the dist machines: outlives them */
    _Atomic uint64_t hlc;  /* the last incarnation given, by any loop */
};

/* A time that is later than every one given before on this node, whatever the loop. */
uint64_t stores_hlc(struct stores_client *c);

struct stores_held *stores_held_find(struct stores_client *c, struct str tenant, struct str client);

/* Finds or makes it. */
struct stores_held *stores_held_get(struct stores_client *c, struct str tenant, struct str client);
void stores_held_free(struct stores_client *c, struct stores_held *h);

/* A route of this process is gone, on the loop of the index's writer: whoever asked for it may still want it. */
void stores_route_lost(struct stores *s, const struct dist_route *r);

/* What an inbox answered, as an outcome of this room. */
enum stores_outcome stores_inbox_outcome(uint8_t outcome);

/* Effects of the inbox on the leader's loop (struct kv_host). */
void stores_push_effect(void *arg, const struct kv_range_view *r, struct str effect);

/* An effect for sessions of this loop, from here or from another node. */
void stores_push_receive(struct stores_client *c, struct str effect);
