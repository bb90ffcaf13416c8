/* What the files of this room share.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hash.h"
#include "base/map.h"
#include "net/loop.h"
#include "stores/dict_priv.h"
#include "stores/port_priv.h"
#include "stores/stores.h"

/* The room as seen from one loop. */
struct stores_client {
    struct stores *stores;
    unsigned loop;
    struct net_loop *net;
    struct stores_dict dict; /* the entries whose home is here, and the claims made here */
    struct kv_client *kv[STORES_TABLE_COUNT]; /* NULL without kv */
    struct buf key, command;                  /* scratch of one call */
};

struct stores {
    struct stores_conf conf;
    struct stores_client *client;                 /* one per loop */
    struct stores_solo *solo[STORES_TABLE_COUNT]; /* without kv */
    struct kv_store *store[STORES_TABLE_COUNT];   /* with kv */
    struct dist_index *index;
};
