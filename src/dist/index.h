/* The match index: which filters match a topic, and who wants what they match.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One thread writes (dist_index_add, _del, _node_*, _sweep*, _free); any thread reads in place
 * without a lock, inside a read section of the host's RCU: dist_index_match, _find, the
 * dist_filter_* and dist_group_* getters and the host slot.  What a reader got from them is good
 * until its read section ends.  The writer publishes with release stores; what it unlinked it hands
 * to conf.reclaim, which must free it after a grace period.
 *
 * A filter entry (struct dist_filter) keeps its address as long as it is linked.  It has routes:
 * nodes (all transient sessions of one node are one route), persistent sessions ("inboxes") one by
 * one, and shared groups.  Filters of one tenant are never seen by another.
 *
 * Beside the ranges' routes there may be the host's (DIST_OWNER_HOST): of this process, put there because no range here
 * holds them.  For everybody else who adds or removes they are not there, so that they change nothing of a table that
 * is the same on every replica.
 *
 * Costs: about 110 bytes for a filter with one node route (a trie node, an entry, a hash slot),
 * about 64 + the client id for a persistent receiver; add, del and find are O(levels); match visits
 * only trie nodes that match a prefix of the topic. */
#pragma once

#include <stdatomic.h>

#include "base/str.h"
#include "base/uuid.h"

#define DIST_LEVEL_MAX 256  /* levels in a filter or topic; more is refused, or matches nothing */
#define DIST_TEXT_MAX 65535 /* bytes of a filter */
#define DIST_SUB_ID_MAX 268435455u /* MQTT5 3.8.2.1.2 */

enum dist_outcome {
    DIST_E_OLD = 1, /* the route is there with the same or a newer incarnation: nothing changed */
    DIST_E_NONE,    /* del: no such route */
    DIST_E_FULL,    /* the shared group has member_max members */
    DIST_E_INVALID, /* not a filter, or a field out of its limits */
    DIST_E_GONE, /* host slot: the entry is being unlinked; find it again (or learn that it is gone)
                  */
    DIST_E_CHANGED, /* host slot: it did not hold what was expected */
};

enum dist_share {
    DIST_SHARE_NONE = 0,
    DIST_SHARE_UNORDERED, /* $share: any member, for each message anew */
    DIST_SHARE_ORDERED,   /* $oshare: a publisher sticks to a member */
};

enum dist_kind {
    DIST_KIND_NODE =
        1, /* all transient sessions of (node, epoch) that have this filter; share must be NONE */
    DIST_KIND_INBOX, /* the persistent session (client, session); alone or as a member of a group */
    DIST_KIND_MEMBER, /* the transient session `client` on (node, epoch); only as a member of a
                         group */
};

enum dist_option {                      /* bits of dist_route.options */
                   DIST_OPTION_QOS = 3, /* granted QoS: 0, 1, 2 */
                   DIST_OPTION_NO_LOCAL = 4,
                   DIST_OPTION_AS_PUBLISHED = 8, /* Retain As Published */
};

/* One route, as added, removed and stored.  All views; the index copies what it keeps.  Identity:
 * tenant, filter, share, group, kind and node + epoch (NODE, MEMBER) or client (INBOX, MEMBER).
 * session, incarnation, options and sub_id are what a newer incarnation replaces. */
struct dist_route {
    struct str tenant;
    struct str filter; /* without $share/<group>/ */
    enum dist_share share;
    struct str group; /* share name; empty when share is NONE */
    enum dist_kind kind;
    struct uuid node;  /* NODE, MEMBER */
    uint64_t epoch;    /* of that node's process */
    struct str client; /* INBOX: the inbox id; MEMBER: the session's name on its node; at most 65535
                          bytes */
    uint64_t session;  /* INBOX: incarnation of the session */
    uint64_t incarnation; /* order of add and del: an hlc; larger wins */
    uint8_t options;      /* INBOX, MEMBER */
    uint32_t sub_id;      /* INBOX, MEMBER: Subscription Identifier, 0 none */
};

/* A cluster node's process, interned: one address per (uuid, epoch) for the life of the index. */
struct dist_node {
    struct uuid uuid;
    uint64_t epoch;
    _Atomic bool is_dead;  /* its routes do not count from now on; dist_index_node_mark */
    _Atomic bool is_local; /* this process */
    uint64_t route_count;  /* writer only */
};

/* One receiver in a list, or a member of a group.  Immutable for readers except next. */
struct dist_receiver {
    struct dist_receiver *_Atomic next;
    struct dist_receiver *prev; /* writer only */
    struct dist_node *node;     /* NODE, MEMBER; else NULL */
    uint64_t session;
    uint64_t incarnation;
    uint32_t sub_id;
    uint16_t owner;      /* of the index; writer only */
    uint16_t generation; /* of the index; writer only */
    uint16_t client_len;
    uint8_t kind; /* enum dist_kind */
    uint8_t options;
    char client[];
};

/* The members of a group at one moment: an array to choose from. */
struct dist_members {
    uint32_t count;
    struct dist_receiver *member[];
};

struct dist_group {
    struct dist_group *_Atomic next;
    struct dist_members *_Atomic members; /* never NULL, never empty while linked */
    uint16_t name_len;
    uint8_t share; /* enum dist_share */
    char name[];
};

struct dist_filter;
struct dist_index;

struct dist_index_conf {
    uint64_t seed; /* of the hash; from a random source */
    /* Called by the writer for everything it unlinked: call fn(ptr) when no reader can hold it any
     * more. */
    void (*reclaim)(void *arg, void *ptr, void (*fn)(void *ptr));
    /* Called by the writer when a route of this process (dist_index_node_local) was removed, by
     * whomever: it knows whether it wanted that.  Not when an owner ends or orphans are swept:
     * those routes are still somewhere.  May be NULL; must not touch the index. */
    void (*lost)(void *arg, const struct dist_route *r);
    void *arg;
};

struct dist_index *dist_index_new(const struct dist_index_conf *conf) must_use;

/* Frees everything at once: no reader may be left. */
void dist_index_free(struct dist_index *x);

/* --- the writer
 * -------------------------------------------------------------------------------------------------
 */

#define DIST_OWNER_HOST 1

/* Owners let several writers' worth of routes (range replicas on the writing thread) share one
 * index: dist_index_owner gives a new one, and only its routes are swept by it. */
uint16_t dist_index_owner(struct dist_index *x) must_use;

/* Removes all its routes, but those of this process (dist_index_node_local) become the host's: they are still
 * somewhere.  The number may be given out again. */
void dist_index_owner_end(struct dist_index *x, uint16_t owner);

/* Adds or replaces.  member_max: most members of a shared group, 0 no limit.  0, DIST_E_OLD, _FULL,
 * _INVALID.  A route with the very incarnation that is there is taken over by this owner. */
must_use int dist_index_add(struct dist_index *x, uint16_t owner, const struct dist_route *r,
                            uint32_t member_max);

/* Removes, if the stored incarnation is not newer than r's.  0, DIST_E_OLD (newer is there), _NONE,
 * _INVALID.  owner: DIST_OWNER_HOST removes what is the host's, any other what is not. */
must_use int dist_index_del(struct dist_index *x, uint16_t owner, const struct dist_route *r);

/* The index has had every range for a while: what is still the host's is in no table.  Removes it and says so to
 * conf.lost. */
void dist_index_host_settle(struct dist_index *x);

/* A reload without a gap: begin, add every route that is, end.  end removes this owner's routes
 * that were not added again.  A route outside what the owner now has is kept, orphaned, when
 * is_ours says false for it, and goes with dist_index_sweep_orphans (call it when the other owner
 * had time to load). is_ours may be NULL: all are. */
void dist_index_reload_begin(struct dist_index *x, uint16_t owner);
void dist_index_reload_end(struct dist_index *x, uint16_t owner,
                           bool (*is_ours)(void *arg, struct str tenant, struct str filter),
                           void *arg);
/* The routes of an owner for which is_cut says true become another owner's, whose generation they
 * are; nothing that readers see changes. */
void dist_index_cut(struct dist_index *x, uint16_t owner, uint16_t to,
                    bool (*is_cut)(void *arg, struct str tenant, struct str filter), void *arg);
/* Removes them; those of this process become the host's.  Cheap when there are none. */
void dist_index_sweep_orphans(struct dist_index *x);

/* Which process is this one. */
void dist_index_node_local(struct dist_index *x, const struct uuid *node, uint64_t epoch);

/* The cluster says that (node, epoch) is dead, or that it is not after all: its routes stop, or
 * start again, to count for matching at once.  They stay in the index until removed by commands. */
void dist_index_node_mark(struct dist_index *x, const struct uuid *node, uint64_t epoch,
                          bool is_dead);

/* Walks the known processes that have routes or are marked: start with *at = 0; NULL at the end. */
const struct dist_node *dist_index_node_next(const struct dist_index *x, size_t *at);

/* Walks routes of one owner, in no order, filters inspected at most `max`: calls fn for each; *at
 * starts as 0 and is 0 again when all were seen.  Routes may be added or removed between calls
 * (such ones may be missed or seen twice), not by fn. */
void dist_index_walk(const struct dist_index *x, uint16_t owner, uint64_t *at, size_t max,
                     void (*fn)(void *arg, const struct dist_route *r), void *arg);

struct dist_index_stat {
    uint64_t tenants, filters, trie_nodes, node_routes, inbox_routes, groups, members;
};
void dist_index_stat(const struct dist_index *x, struct dist_index_stat *out);

/* Routes of one tenant; writer's thread. */
struct dist_tenant_stat {
    uint64_t filters, routes, groups, members;
};
void dist_index_tenant_stat(const struct dist_index *x, struct str tenant,
                            struct dist_tenant_stat *out);

void dist_index_check(const struct dist_index *x);

/* --- readers
 * ----------------------------------------------------------------------------------------------------
 */

/* The filters that match a topic; keep one per loop and use it again: the array only grows. */
struct dist_match {
    struct dist_filter **filter;
    size_t count, cap;
    uint64_t version; /* of the index before the walk */
};

/* All filters of this tenant that match, each once, in no order; count may be 0.  Topics that start
 * with $ are not matched by a wildcard in the first level [MQTT-4.7.2-1].  A filter being added or
 * removed meanwhile may be in or not. */
void dist_index_match(const struct dist_index *x, struct str tenant, struct str topic,
                      struct dist_match *out);
void dist_match_deinit(struct dist_match *m);

/* Counts changes.  Results of a match are good as long as this has not moved past the match's
 * version: compare inside a read section, then use the entries within that same section. */
uint64_t dist_index_version(const struct dist_index *x);

/* The entry of exactly this filter, or NULL. */
struct dist_filter *dist_index_find(const struct dist_index *x, struct str tenant,
                                    struct str filter);

/* The first node route (most filters have one and nothing else), or NULL; NULL too when that node
 * is dead. */
const struct dist_node *dist_filter_node(const struct dist_filter *f);

/* The other routes: more nodes and persistent receivers, in no order; test dist_receiver_is_live.
 */
const struct dist_receiver *dist_filter_receivers(const struct dist_filter *f);

const struct dist_group *dist_filter_groups(const struct dist_filter *f);

static inline const struct dist_receiver *dist_receiver_next(const struct dist_receiver *r)
{
    return atomic_load_explicit(&r->next, memory_order_acquire);
}

static inline const struct dist_group *dist_group_next(const struct dist_group *g)
{
    return atomic_load_explicit(&g->next, memory_order_acquire);
}

static inline const struct dist_members *dist_group_members(const struct dist_group *g)
{
    return atomic_load_explicit(&g->members, memory_order_acquire);
}

/* Whether its node, if it is bound to one, is not known to be dead. */
static inline bool dist_receiver_is_live(const struct dist_receiver *r)
{
    return r->node == NULL || !atomic_load_explicit(&r->node->is_dead, memory_order_relaxed);
}

/* The receiver as the route it was made of, but for tenant, filter and group, which stay as they are in *r.  The client
 * is a view of c. */
static inline void dist_receiver_route(const struct dist_receiver *c, struct dist_route *r)
{
    r->kind = (enum dist_kind)c->kind;
    r->node = c->node != NULL ? c->node->uuid : (struct uuid){{0}};
    r->epoch = c->node != NULL ? c->node->epoch : 0;
    r->client = str_view(c->client, c->client_len);
    r->session = c->session;
    r->incarnation = c->incarnation;
    r->options = c->options;
    r->sub_id = c->sub_id;
}

/* Chooses a live member for one message; NULL when none is.  $share: key is a random number;
 * members that `can` refuses (offline, stalled; NULL: none is) are taken only when no other is
 * left.  $oshare: key is a hash of the publisher; rendezvous hashing, so it moves only when its
 * member leaves. */
const struct dist_receiver *dist_group_pick(const struct dist_group *g, uint64_t key,
                                            bool (*can)(void *arg, const struct dist_receiver *r),
                                            void *arg);

/* The text of the filter, without its share prefix, appended to dst (at least DIST_TEXT_MAX bytes);
 * returns its length. */
size_t dist_filter_text(const struct dist_filter *f, char *dst);
struct str dist_filter_tenant(const struct dist_filter *f);

/* The host's slot: one pointer per entry that the index never looks into.  While it is not NULL the
 * entry stays linked, even with no route left.  set answers 0, DIST_E_CHANGED (it holds something
 * else than `from`) or DIST_E_GONE (the writer is unlinking it). When the host has set it back to
 * NULL and no route is left, dist_index_release unlinks it. */
void *dist_filter_host(const struct dist_filter *f);
must_use int dist_filter_host_set(struct dist_filter *f, void *from, void *to);

/* Writer: unlinks this filter if neither the host nor a route holds it. */
void dist_index_release(struct dist_index *x, struct str tenant, struct str filter);
