/* The back room of cluster.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "cluster/acceptor_priv.h"
#include "cluster/host.h"
#include "cluster/identity.h"
#include "cluster/keyring_priv.h"
#include "cluster/link_priv.h"
#include "cluster/seal_priv.h"
#include "gossip/gossip.h"
#include "gossip/suspicion.h"
#include "net/address.h"
#include "net/dgram.h"
#include "net/listener.h"
#include "net/resolve.h"
#include "net/worker.h"

/* --- view.c: what seats read; immutable, shared by reference between loops --- */

struct view_member {
    _Atomic uint32_t refs;
    struct cluster_member pub;
    struct net_address rpc;
    char text[]; /* of the strings in pub */
};

struct view_row {
    _Atomic uint32_t refs;
    struct cluster_row pub;
    char bytes[];
};

struct view_list { /* sorted: members by uuid; rows by space, key, owner */
    _Atomic uint32_t refs;
    bool is_rows;
    size_t count;
    void *item[];
};

struct view_change { /* one event for the watchers */
    enum cluster_event_kind kind;
    struct view_member *member;
    struct view_row *row;
};

/* Everything that changed in a turn of home; one for all seats. */
struct view_news {
    _Atomic uint32_t refs;
    struct view_list *members, *rows; /* NULL: as before */
    bool is_joined, is_isolated, is_named_first;
    size_t count;
    struct view_change change[];
};

/* s: what is held against it, or NULL. */
struct view_member *cluster_view_member_new(const struct gossip_member *m,
                                            const struct gossip_suspicion *s) must_use;
struct view_row *cluster_view_row_new(const struct gossip_row *r) must_use;
struct view_member *cluster_view_member_unref(struct view_member *m);
struct view_row *cluster_view_row_unref(struct view_row *r);
struct view_list *cluster_view_list_new(void *const *item, size_t count,
                                        bool is_rows) must_use; /* refs the items */
struct view_list *cluster_view_list_unref(struct view_list *l);
struct view_news *cluster_view_news_unref(struct view_news *n);
int cluster_view_row_cmp(const struct cluster_row *a, uint8_t space, struct str key,
                         const struct uuid *owner);
/* The first place not before (space, key, owner). */
size_t cluster_view_lower(void *const *row, size_t count, uint8_t space, struct str key,
                          const struct uuid *owner);
const struct view_member *cluster_view_find(const struct view_list *l, const struct uuid *uuid);

/* --- meta.c: what a member says about itself --- */

struct meta {
    uint32_t loops;
    struct gossip_addr rpc;
    struct str api, release;
    uint64_t pid;
};

void cluster_meta_put(struct buf *b, const struct meta *m);
void cluster_meta_get(struct str s, struct meta *out); /* what is damaged stays zero */
void cluster_addr_of(const struct net_address *a, struct gossip_addr *out);
void cluster_addr_to(const struct gossip_addr *a, struct net_address *out);

/* --- mirror.c --- */

/* One event for the watchers; takes the references. */
void cluster_note(struct cluster *c, enum cluster_event_kind kind, struct view_member *m,
                  struct view_row *r);
/* Makes the mirror of one member anew; NULL: the mind does not know it any more. */
struct view_member *cluster_mirror_member(struct cluster *c, const struct uuid *uuid);
void cluster_mirror_fact(struct cluster *c, const struct gossip_effect *e); /* about a member */
void cluster_mirror_row(struct cluster *c, const struct gossip_effect *e);
void cluster_mirror_publish(void *cluster);
void cluster_mirror_refresh(void *cluster, usec_t now);
void cluster_log_member(struct cluster *c, const struct gossip_effect *e, enum log_level level,
                        const char *event, const char *what);

/* --- seat.c --- */

struct cluster_seat {
    struct cluster *c;
    struct net_loop *loop;
    unsigned index;
    struct cluster_link *link;
    struct view_list *members, *rows;
    size_t live_count;
    bool is_joined, is_isolated, is_named_first;
    struct list watchers;
    bool has_new_watcher;
    struct net_defer prime;
    struct net_timer sweep; /* gives up views that this turn may still look at */
    struct view_list **old;
    size_t old_count, old_cap;
    usec_t lost_at; /* not before: telling home of another lost link */
};

void cluster_seat_init(struct cluster_seat *s, struct cluster *c, unsigned index);
void cluster_seat_deinit(struct cluster_seat *s);
/* Sends news to all seats; takes n. */
void cluster_seat_publish(struct cluster *c, struct view_news *n);
bool cluster_seat_find(void *seat, const struct uuid *peer, struct link_peer *out);
bool cluster_seat_refuses(void *seat, const struct uuid *peer);
void cluster_seat_lost(void *seat, const struct uuid *peer);

/* --- seeds.c --- */

struct seed {
    struct cluster *c;
    char *text;
    struct str host;
    uint16_t port;
    bool is_srv; /* host is the name of SRV records */
    struct net_resolve *query;
    struct gossip_addr addr[NET_RESOLVE_COUNT_MAX];
    unsigned addr_count;
    char state[200]; /* what came of it, for a log line */
};

struct seeds {
    struct seed *seed, *domain; /* domain: the one that is the domain name, or NULL */
    size_t count;
    struct gossip_addr *cached; /* of the peer cache */
    size_t cached_count;
    struct net_timer timer, report;
};

void cluster_seeds_init(struct cluster *c, const struct cluster_host_conf *conf);
void cluster_seeds_deinit(struct cluster *c);
/* What cluster_is_named_first says, now. */
bool cluster_seeds_first(const struct cluster *c);
/* Of the addresses that a name has (at most NET_RESOLVE_COUNT_MAX): self is the least, and more than half of them are
 * among the met, which are others. */
bool cluster_seeds_are_led(const struct gossip_addr *named, size_t n,
                           const struct gossip_addr *self, const struct gossip_addr *met,
                           size_t met_n);
/* An exchange with this address failed, or was refused. */
void cluster_seeds_note(struct cluster *c, const struct gossip_addr *addr, const char *what);

/* --- keep.c: files --- */

void cluster_keep_load(struct cluster *c);
void cluster_keep_shared(struct cluster *c); /* shared rows changed */
void cluster_keep_peers(struct cluster *c);  /* members changed */
void cluster_keep_keyring(struct cluster *c);
void cluster_keep_deinit(struct cluster *c);

/* --- wire.c: sockets of gossip --- */

struct wire; /* one stream */

must_use int cluster_wire_open(struct cluster *c, const struct cluster_host_conf *conf,
                               char *error);
void cluster_wire_close(struct cluster *c);
void cluster_wire_effect(struct cluster *c, const struct gossip_effect *e, struct str bytes);

/* --- cluster.c --- */

#define FLOOD_SLOTS 256

struct cluster {
    struct net_loop *home;
    struct net_loop **loop;
    unsigned loop_count;
    const struct log *log;
    void (*fatal)(void *arg, const char *why);
    void *arg;
    struct cluster_identity id;
    char *data_path, *env;
    struct net_worker *worker;
    struct gossip *gossip;
    struct gossip_out out;
    bool is_stepping;
    struct gossip_addr *unsent; /* refused by the kernel during a step: told after it */
    size_t unsent_count, unsent_cap;
    struct cluster_seal *seal;
    struct keyring keyring;
    struct net_dgram *dgram;
    struct net_listener *listener;
    struct net_stream_limits wire_limits;
    struct list wires;
    uint64_t wire_ids;
    unsigned wire_in_count;
    struct net_address addr; /* announced */
    struct net_tls *tls_server, *tls_client;
    struct cluster_acceptor *acceptor;
    struct cluster_link **link;
    struct cluster_seat *seat;
    struct seeds seeds;
    struct net_timer timer;
    struct net_defer publish;
    struct buf scratch, plain;

    /* what the next news will say */
    void **member; /* view_member, by uuid */
    size_t member_count, member_cap;
    void **row; /* view_row */
    size_t row_count, row_cap;
    struct view_change *change;
    size_t change_count, change_cap;
    bool members_changed, rows_changed;
    bool is_joined, is_isolated, was_joined;
    bool is_named_first; /* as last published */
    bool is_twin;        /* our identity runs elsewhere, too */
    struct net_timer grace, refresh;

    struct keep {
        const char *name;
        bool is_dirty, is_busy;
        struct buf content;
        struct net_worker_job job;
        struct cluster *c;
        int result;
    } keep[3]; /* shared rows, peers, keyring */
    struct net_timer keep_timer;
    usec_t keep_next; /* peers are not written before */
    uint32_t flags;
    void (*left)(void *arg);
    void *left_arg;
    bool is_leaving;

    struct cluster_stats stats;
    struct {
        uint64_t source;
        usec_t since;
        unsigned count;
    } flood[FLOOD_SLOTS];
    usec_t warn_at; /* not before: a line about packets that do not open */
};

/* One event for the mind; its effects are carried out.  The only caller of gossip_step. */
void cluster_step(struct cluster *c, struct gossip_event *ev);
