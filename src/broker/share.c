/* Choosing a member of a shared subscription.  SPDX-License-Identifier: Apache-2.0
 *
 * It never sends: the publish road does.  Rendezvous hashing: Thaler and Ravishankar, 1998. */
#include "broker/share_priv.h"

#include "base/hash.h"
#include "broker/deliver_priv.h"

#define AWAY_USEC                                                                                  \
    (2 * USEC_SEC) /* does not matter much: a member that connected to another node                \
                      waits this long for its turn, one that stays away costs a detour */

static bool is_dead(const struct dist_receiver *r)
{
    return r->node && atomic_load_explicit(&r->node->is_dead, memory_order_relaxed);
}

static bool is_stalled(const struct broker_loop *l, const struct dist_receiver *r)
{
    return r->kind == DIST_KIND_MEMBER &&
           atomic_load_explicit(&r->node->is_local, memory_order_relaxed) &&
           broker_deliver_is_stalled(l->broker, broker_share_cookie(r));
}

static _Atomic uint16_t *held_slot(struct broker *b, struct str client, uint64_t incarnation)
{
    return &b->held_sessions[hash_str(client, incarnation) % BROKER_HELD_SLOTS];
}

void broker_share_held(struct broker *b, struct str client, uint64_t incarnation, bool is_held)
{
    atomic_fetch_add_explicit(held_slot(b, client, incarnation), is_held ? 1 : UINT16_MAX,
                              memory_order_relaxed);
}

uint64_t broker_share_member_id(const struct dist_receiver *r)
{
    return hash_bytes(r->client, r->client_len, r->session) | 1;
}

uint64_t broker_share_group_id(const struct broker_target_group *g)
{
    char text[DIST_TEXT_MAX];
    uint64_t filter = hash_bytes(text, dist_filter_text(g->filter, text), g->group->share);
    return hash_bytes(g->group->name, g->group->name_len, filter);
}

void broker_share_away(struct broker_loop *l, uint64_t member)
{
    struct broker_away *a = &l->away[member % BROKER_AWAY_SLOTS];
    a->member = member;
    a->until = usec_add(broker_loop_now(l), AWAY_USEC);
}

/* A persistent member that nobody is connected for, as far as is known: a member of a cluster may
 * be connected to another node, and is away when its inbox said so lately. */
static bool is_away(const struct broker_loop *l, const struct dist_receiver *r)
{
    if (r->kind != DIST_KIND_INBOX ||
        atomic_load_explicit(held_slot(l->broker, str_view(r->client, r->client_len), r->session),
                             memory_order_relaxed) != 0)
        return false;
    uint64_t member = broker_share_member_id(r);
    const struct broker_away *a = &l->away[member % BROKER_AWAY_SLOTS];
    return !l->broker->conf.seat || (a->member == member && broker_loop_now(l) < a->until);
}

bool broker_share_is_doubtful(const struct broker_loop *l, const struct dist_group *g,
                              const struct dist_receiver *r)
{
    return l->broker->conf.seat && g->share == DIST_SHARE_UNORDERED &&
           dist_group_members(g)->count > 1 && r->kind == DIST_KIND_INBOX && !is_away(l, r);
}

static const struct dist_receiver *pick_ordered(const struct dist_members *m, struct str publisher)
{
    uint64_t who = hash_str(publisher, 0), best_score = 0;
    const struct dist_receiver *best = NULL;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct dist_receiver *r = m->member[i];
        if (is_dead(r))
            continue;
        uint64_t score =
            hash_u64(who ^ hash_bytes(r->client, r->client_len, r->node ? r->node->epoch : 0));
        if (!best || score > best_score) {
            best = r;
            best_score = score;
        }
    }
    return best;
}

bool broker_share_was_asked(const struct broker_asked *a, const struct dist_receiver *r)
{
    uint64_t member = broker_share_member_id(r);
    uint32_t i = 0;
    while (i < a->count && a->member[i] != member)
        i++;
    return i < a->count;
}

/* What its inbox said of this message holds for this message, however long that took. */
static bool is_refused(const struct broker_asked *a, const struct dist_receiver *r)
{
    return a && r->kind == DIST_KIND_INBOX && broker_share_was_asked(a, r);
}

static bool is_able(const struct broker_loop *l, const struct broker_asked *asked,
                    const struct dist_receiver *r)
{
    return !is_stalled(l, r) && !is_away(l, r) && !is_refused(asked, r);
}

static const struct dist_receiver *pick_in_turn(struct broker_loop *l, const struct dist_members *m,
                                                const struct broker_asked *asked)
{
    const struct dist_receiver *second = NULL;
    uint32_t first = l->share_turn++ % m->count;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct dist_receiver *r = m->member[(first + i) % m->count];
        if (is_dead(r))
            continue;
        if (is_able(l, asked, r))
            return r;
        second = second ? second : r;
    }
    return second;
}

/* An exchange comes again when its publisher did not hear how it ended, maybe at another node: then
 * the same member must be picked, which knows that it has it. */
static const struct dist_receiver *pick_exchange(const struct broker_loop *l,
                                                 const struct dist_members *m,
                                                 const struct codec_msg *msg,
                                                 const struct broker_asked *asked)
{
    const struct dist_receiver *best = NULL;
    uint64_t key = hash_u64(msg->incarnation ^ hash_u64(msg->exchange)), best_score = 0;
    bool is_best_able = false;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct dist_receiver *r = m->member[i];
        if (is_dead(r))
            continue;
        bool is_now_able = is_able(l, asked, r);
        uint64_t score = hash_u64(
            key ^ hash_bytes(r->client, r->client_len, r->node ? r->node->epoch : r->session));
        if (best &&
            (is_best_able > is_now_able || (is_best_able == is_now_able && score <= best_score)))
            continue;
        best = r;
        best_score = score;
        is_best_able = is_now_able;
    }
    return best;
}

const struct dist_receiver *broker_share_pick(struct broker_loop *l, const struct dist_group *g,
                                              const struct codec_msg *msg,
                                              const struct broker_asked *asked)
{
    const struct dist_members *m = dist_group_members(g);
    if (g->share == DIST_SHARE_ORDERED)
        return pick_ordered(m, msg->publisher);
    return msg->exchange ? pick_exchange(l, m, msg, asked) : pick_in_turn(l, m, asked);
}
