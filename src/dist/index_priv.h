/* The back room of the index: trie, hash of edges, tenants.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/map.h"
#include "dist/index.h"

/* A node of the trie is one level of filters.  Children by name are in the tenant's hash of edges.
 */
struct dist_trie {
    struct dist_trie *parent;           /* NULL: the root of a tenant */
    struct dist_inner *_Atomic inner;   /* NULL: nothing below */
    struct dist_filter *_Atomic filter; /* the filter that ends here */
    uint32_t hash;                      /* low bits of the edge's hash */
    uint16_t len;
    bool is_plus;
    char text[]; /* the level; of a root the tenant */
};

struct dist_inner {
    struct dist_trie *_Atomic plus;
    struct dist_filter *_Atomic multi; /* the filter that ends in # below this node */
    _Atomic uint32_t children;         /* by name */
};

/* What few filters have: more than one route, persistent receivers, groups. */
struct dist_more {
    struct dist_receiver *_Atomic receiver;
    struct dist_group *_Atomic group;
    struct map by_name; /* writer only: the receivers, once there are many */
    uint32_t receiver_count, group_count;
};

struct dist_filter {
    struct dist_trie *node;
    void *_Atomic host;
    struct dist_node *_Atomic first;
    struct dist_more *_Atomic more;
    uint64_t first_incarnation; /* of the route to first; writer only */
    uint16_t first_owner, first_generation;
    bool is_multi; /* node/# */
};

/* Open addressing with linear probing.  A slot is 16 bits of hash above 48 bits of address; 0 is
 * free, 1 was used. */
struct dist_table {
    size_t mask;
    _Atomic uint64_t slot[];
};

struct dist_edges {
    struct dist_table *_Atomic table;
    size_t live, used; /* used: live and once used */
};

struct dist_tenant {
    struct dist_edges edges;
    struct dist_tenant_stat stat;
    struct dist_trie root; /* last: it ends in the name */
};

struct dist_garbage {
    void *ptr;
    void (*fn)(void *ptr);
};

struct dist_index {
    struct dist_index_conf conf;
    struct dist_edges tenants; /* of roots, parent NULL */
    _Atomic uint64_t version;
    struct map nodes;
    uint16_t *generation; /* per owner; owner 0 holds the orphans */
    size_t owner_count, owner_cap;
    uint16_t *spare_owner;
    size_t spare_count, spare_cap;
    struct dist_garbage *garbage; /* unlinked by the operation under way */
    size_t garbage_count, garbage_cap;
    struct dist_index_stat stat;
    struct uuid local_node;
    uint64_t local_epoch;
    bool has_orphans;
};

#define DIST_SLOT_USED 1u
#define DIST_SLOT_MASK ((UINT64_C(1) << 48) - 1)

uint64_t dist_edge_hash(const struct dist_index *x, const struct dist_trie *parent,
                        struct str level);
struct dist_trie *dist_edge_find(const struct dist_edges *e, uint64_t hash,
                                 const struct dist_trie *parent, struct str level);
void dist_edge_put(struct dist_index *x, struct dist_edges *e, uint64_t hash, struct dist_trie *t);
void dist_edge_del(struct dist_edges *e, const struct dist_trie *t);

struct dist_tenant *dist_tenant_find(const struct dist_index *x, struct str name);

/* dist_index_del without a word to conf.lost. */
int dist_index_take(struct dist_index *x, uint16_t owner, const struct dist_route *r);

/* A route of this process? */
bool dist_route_is_local(const struct dist_index *x, const struct dist_route *r);

/* Gives p to reclaim at the end of the operation. */
void dist_index_drop(struct dist_index *x, void *p, void (*fn)(void *ptr));
/* The end of an operation that changed something. */
void dist_index_commit(struct dist_index *x);

/* The path of a filter, made if absent; and taken away again if nothing needs it. */
struct dist_filter *dist_path_get(struct dist_index *x, struct dist_tenant *t, struct str filter);
struct dist_tenant *dist_path_tenant(struct dist_index *x, struct str name);
/* True when the entry was unlinked. */
bool dist_path_release(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f);

static inline void *dist_load(void *const _Atomic *p)
{
    return atomic_load_explicit(p, memory_order_acquire);
}
