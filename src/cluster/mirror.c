/* What the mind knows, kept in the shape that seats read.  SPDX-License-Identifier: Apache-2.0
 *
 * Runs on loop 0.  A change makes one new item and one event; all changes of a turn are published
 * together, at the end of its deferred work.
 *
 * Invariant: after each publish the lists are sorted (members by uuid, rows by space, key, owner)
 * and hold what the mind holds, but for round trips, which are taken over every REFRESH_EVERY.
 * Never: decides, or sends anything to another node. */
#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define REFRESH_EVERY (5 * USEC_SEC)

void cluster_note(struct cluster *c, enum cluster_event_kind kind, struct view_member *m,
                  struct view_row *r)
{
    c->change = mem_grow(c->change, &c->change_cap, c->change_count + 1, sizeof *c->change);
    c->change[c->change_count++] = (struct view_change){kind, m, r}; /* takes the references */
    net_loop_defer(c->home, &c->publish);
}

static struct view_member *ref_member(struct view_member *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

static struct view_row *ref_row(struct view_row *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

static size_t member_place(const struct cluster *c, const struct uuid *uuid, bool *out_hit)
{
    size_t lo = 0, hi = c->member_count;
    *out_hit = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct view_member *m = c->member[mid];
        int r = uuid_cmp(&m->pub.uuid, uuid);
        *out_hit |= r == 0;
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The mirror of one member, made anew.  epoch, when not 0: of the life the event is about. */
struct view_member *cluster_mirror_member(struct cluster *c, const struct uuid *uuid)
{
    const struct gossip_member *g = gossip_member_find(c->gossip, uuid);
    bool hit;
    size_t at = member_place(c, uuid, &hit);
    if (g == NULL) {
        if (hit) {
            cluster_view_member_unref(c->member[at]);
            c->member_count--;
            memmove(c->member + at, c->member + at + 1, (c->member_count - at) * sizeof *c->member);
        }
        return NULL;
    }
    struct view_member *m = cluster_view_member_new(g, gossip_member_suspicion(c->gossip, uuid));
    if (hit) {
        cluster_view_member_unref(c->member[at]);
    } else {
        c->member = mem_grow(c->member, &c->member_cap, c->member_count + 1, sizeof *c->member);
        memmove(c->member + at + 1, c->member + at, (c->member_count - at) * sizeof *c->member);
        c->member_count++;
    }
    c->member[at] = m;
    c->members_changed = true;
    return m;
}

void cluster_log_member(struct cluster *c, const struct gossip_effect *e, enum log_level level,
                        const char *event, const char *what)
{
    char uuid[UUID_TEXT], at[NET_ADDRESS_TEXT];
    struct net_address a;
    uuid_format(&e->uuid, uuid);
    cluster_addr_to(&e->addr, &a);
    (void)net_address_format(&a, at);
    log_line(c->log, level, event, "node %s at %s %s", uuid, at, what);
}

/* The life that ended, as it was: the mind may already hold the next one. */
static void member_down(struct cluster *c, const struct gossip_effect *e)
{
    bool hit;
    size_t at = member_place(c, &e->uuid, &hit);
    struct view_member *old = hit ? ref_member(c->member[at]) : NULL;
    struct view_member *now = cluster_mirror_member(c, &e->uuid);
    if (now == NULL || now->pub.epoch == e->epoch || old == NULL || old->pub.epoch != e->epoch) {
        cluster_view_member_unref(old);
        if (now != NULL)
            cluster_note(c, CLUSTER_EV_DOWN, ref_member(now), NULL);
        return;
    }
    struct view_member *dead = mem_dup(old, sizeof *old);
    dead->refs = 1;
    dead->pub.state = CLUSTER_ST_DEAD;
    dead->pub.host = dead->pub.rpc_host = dead->pub.api = dead->pub.release = "";
    cluster_view_member_unref(old);
    cluster_note(c, CLUSTER_EV_DOWN, dead, NULL);
}

void cluster_mirror_fact(struct cluster *c, const struct gossip_effect *e)
{
    struct view_member *m;
    switch ((unsigned)e->kind) {
    case GOSSIP_OUT_DEAD:
        cluster_log_member(c, e, LOG_LEVEL_WARN, "cluster.member.dead", "is dead");
        member_down(c, e);
        break;
    case GOSSIP_OUT_LEFT:
        cluster_log_member(c, e, LOG_LEVEL_NOTICE, "cluster.member.left", "has left");
        member_down(c, e);
        break;
    case GOSSIP_OUT_ALIVE:
        cluster_log_member(c, e, LOG_LEVEL_NOTICE, "cluster.member.alive", "is alive");
        m = cluster_mirror_member(c, &e->uuid);
        if (m != NULL)
            cluster_note(c, CLUSTER_EV_UP, ref_member(m), NULL);
        break;
    case GOSSIP_OUT_SUSPECT:
        cluster_log_member(c, e, LOG_LEVEL_INFO, "cluster.member.suspect", "does not answer");
        m = cluster_mirror_member(c, &e->uuid);
        if (m != NULL)
            cluster_note(c, CLUSTER_EV_SUSPECT, ref_member(m), NULL);
        break;
    default:
        m = cluster_mirror_member(c, &e->uuid);
        if (m != NULL)
            cluster_note(c, CLUSTER_EV_CHANGED, ref_member(m), NULL);
        break;
    }
    cluster_keep_peers(c);
}

void cluster_mirror_row(struct cluster *c, const struct gossip_effect *e)
{
    const struct gossip_row *g = &e->row;
    size_t at = cluster_view_lower(c->row, c->row_count, g->space, g->key, &g->owner);
    struct view_row *old = at < c->row_count ? c->row[at] : NULL;
    if (old != NULL && cluster_view_row_cmp(&old->pub, g->space, g->key, &g->owner) != 0)
        old = NULL;
    c->rows_changed = true;
    if (g->is_tombstone) {
        if (old == NULL)
            return;
        c->row_count--;
        memmove(c->row + at, c->row + at + 1, (c->row_count - at) * sizeof *c->row);
        cluster_note(c, CLUSTER_EV_ROW_GONE, NULL, old);
        return;
    }
    struct view_row *r = cluster_view_row_new(g);
    if (old != NULL) {
        cluster_view_row_unref(old);
    } else {
        c->row = mem_grow(c->row, &c->row_cap, c->row_count + 1, sizeof *c->row);
        memmove(c->row + at + 1, c->row + at, (c->row_count - at) * sizeof *c->row);
        c->row_count++;
    }
    c->row[at] = r;
    cluster_note(c, CLUSTER_EV_ROW, NULL, ref_row(r));
}

void cluster_mirror_publish(void *arg)
{
    struct cluster *c = arg;
    if (c->seat == NULL)
        return;
    struct view_news *n = mem_new(sizeof *n + c->change_count * sizeof n->change[0]);
    n->refs = 1;
    n->members =
        c->members_changed ? cluster_view_list_new(c->member, c->member_count, false) : NULL;
    n->rows = c->rows_changed ? cluster_view_list_new(c->row, c->row_count, true) : NULL;
    n->is_joined = c->is_joined;
    n->is_isolated = c->is_isolated;
    n->is_named_first = c->is_named_first = cluster_seeds_first(c);
    n->count = c->change_count;
    if (c->change_count > 0)
        memcpy(n->change, c->change, c->change_count * sizeof *c->change);
    c->change_count = 0;
    c->members_changed = c->rows_changed = false;
    cluster_seat_publish(c, n);
}

/* Round trips change with every probe, and nobody waits for them. */
void cluster_mirror_refresh(void *arg, usec_t now)
{
    struct cluster *c = arg;
    for (size_t i = 0; i < c->member_count; i++) {
        const struct view_member *m = c->member[i];
        const struct gossip_member *g = gossip_member_find(c->gossip, &m->pub.uuid);
        if (g != NULL && g->rtt != m->pub.rtt)
            (void)cluster_mirror_member(c, &g->uuid);
    }
    if (c->members_changed)
        net_loop_defer(c->home, &c->publish);
    net_timer_set(c->home, &c->refresh, now + REFRESH_EVERY);
}
