/* The transmit-limited queue.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants (gossip_spread_check):
 *   Q1  one rumour per subject.
 *   Q2  a rumour lies in the list of its rank and of its number of transmits. */
#include "gossip/spread.h"

#include "base/hash.h"
#include "base/mem.h"

#define ROOM_MIN 32 /* no rumour is shorter: stop looking */
#define MISS_MAX 64 /* rumours that do not fit behind one that did: the packet counts as full */
#define OVERHEAD 6  /* bytes a message costs in a packet beside itself: its field key and length */

struct rumour {
    struct list link;
    uint64_t subject;
    enum gossip_rank rank;
    unsigned transmits;
    size_t n;
    char bytes[];
};

static bool same_subject(const void *item, const void *key)
{
    const struct rumour *r = item;
    return r->subject == *(const uint64_t *)key;
}

static struct rumour *find(const struct gossip_spread *q, uint64_t subject)
{
    return map_find(&q->by_subject, hash_u64(subject), same_subject, &subject);
}

void gossip_spread_init(struct gossip_spread *q)
{
    *q = (struct gossip_spread){0};
    for (unsigned r = 0; r < GOSSIP_RANK_COUNT; r++)
        for (unsigned t = 0; t < GOSSIP_TRANSMITS_MAX; t++)
            list_init(&q->queue[r][t]);
}

static void drop(struct gossip_spread *q, struct rumour *r)
{
    must(map_del(&q->by_subject, hash_u64(r->subject), r));
    list_del(&r->link);
    q->rank_count[r->rank]--;
    mem_free(r);
}

void gossip_spread_deinit(struct gossip_spread *q)
{
    for (unsigned r = 0; r < GOSSIP_RANK_COUNT; r++)
        for (unsigned t = 0; t < GOSSIP_TRANSMITS_MAX; t++)
            list_each(&q->queue[r][t], it) drop(q, container_of(it, struct rumour, link));
    map_deinit(&q->by_subject);
}

static void make_room(struct gossip_spread *q)
{
    for (unsigned t = GOSSIP_TRANSMITS_MAX; t-- > 0;)
        if (!list_empty(&q->queue[GOSSIP_RANK_ROW][t])) {
            drop(q, container_of(q->queue[GOSSIP_RANK_ROW][t].prev, struct rumour, link));
            return;
        }
}

void gossip_spread_put(struct gossip_spread *q, uint64_t subject, enum gossip_rank rank,
                       struct str msg)
{
    gossip_spread_del(q, subject);
    if (rank == GOSSIP_RANK_ROW && q->rank_count[rank] >= GOSSIP_SPREAD_ROWS_MAX)
        make_room(q);
    struct rumour *r = mem_alloc(sizeof *r + msg.n);
    r->subject = subject;
    r->rank = rank;
    r->transmits = 0;
    r->n = msg.n;
    memcpy(r->bytes, msg.p, msg.n);
    list_push_front(&q->queue[rank][0], &r->link); /* the newest of the unsent first */
    q->rank_count[rank]++;
    map_put(&q->by_subject, hash_u64(subject), r);
}

void gossip_spread_clear(struct gossip_spread *q, enum gossip_rank rank)
{
    for (unsigned i = 0; i < GOSSIP_TRANSMITS_MAX; i++)
        while (!list_empty(&q->queue[rank][i]))
            drop(q, container_of(q->queue[rank][i].next, struct rumour, link));
}

void gossip_spread_del(struct gossip_spread *q, uint64_t subject)
{
    struct rumour *r = find(q, subject);
    if (r != NULL)
        drop(q, r);
}

bool gossip_spread_has(const struct gossip_spread *q, uint64_t subject)
{
    return find(q, subject) != NULL;
}

static void count_transmit(struct gossip_spread *q, struct rumour *r, unsigned limit)
{
    if (++r->transmits >= limit || r->transmits >= GOSSIP_TRANSMITS_MAX) {
        drop(q, r);
        return;
    }
    list_del(&r->link);
    list_push_back(&q->queue[r->rank][r->transmits], &r->link);
}

void gossip_spread_take(struct gossip_spread *q, unsigned limit, size_t room,
                        void (*put)(void *arg, struct str msg), void *arg)
{
    for (unsigned rank = 0; rank < GOSSIP_RANK_COUNT; rank++) {
        if (q->rank_count[rank] == 0 || room < ROOM_MIN)
            continue;
        unsigned missed = 0, upto = q->rank_count[rank] <= GOSSIP_SPREAD_FEW ? 2 * limit : limit;
        struct list sent; /* aside, so that none is met twice */
        list_init(&sent);
        for (unsigned t = 0; t < GOSSIP_TRANSMITS_MAX; t++)
            list_each(&q->queue[rank][t], it)
            {
                struct rumour *r = container_of(it, struct rumour, link);
                if (room < ROOM_MIN || missed == MISS_MAX)
                    break;
                if (r->n + OVERHEAD > room) {
                    missed += !list_empty(&sent); /* one too long for any packet hides nobody */
                    continue;
                }
                put(arg, str_view(r->bytes, r->n));
                room -= r->n + OVERHEAD;
                list_del(it);
                list_push_back(&sent, it);
            }
        list_each(&sent, it) count_transmit(q, container_of(it, struct rumour, link), upto);
    }
}

void gossip_spread_check(const struct gossip_spread *q)
{
    size_t count = 0;
    for (unsigned r = 0; r < GOSSIP_RANK_COUNT; r++)
        for (unsigned t = 0; t < GOSSIP_TRANSMITS_MAX; t++)
            list_each(&q->queue[r][t], it)
            {
                const struct rumour *m = container_of(it, struct rumour, link);
                must(m->rank == r && m->transmits == t); /* Q2 */
                must(find(q, m->subject) == m);          /* Q1 */
                count++;
            }
    must(count == q->by_subject.count);
}
