/* Bundles of one sender to one leader, taken in the order they were sent.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * A sender (a loop of a node) numbers what it sends for a range: a convoy, and the place in it from
 * 0.  When one is refused, or lost on the way, those behind it are refused as well, so that they
 * cannot overtake it; the sender waits for all answers, and what was not carried out goes again, in
 * order, in a new convoy.
 *
 * 1. In a term of this leader, and between two changes of the range's bounds, the bundles of a
 * convoy are taken in order of place, without a gap.
 * 2. A convoy that is followed by a newer one of its sender takes no bundle any more.
 * 3. Forgetting a convoy costs its sender a repetition, never the order. */
#include "base/hash.h"
#include "kv/kv_priv.h"

#define SENDER_MAX                                                                                 \
    4096 /* matters little: beyond it all are forgotten; twice the loops of 500 nodes */

struct sender {
    uint64_t id, convoy, next;
};

static bool has_id(const void *item, const void *key)
{
    return ((const struct sender *)item)->id == *(const uint64_t *)key;
}

void kv_convoy_forget(struct kv_replica *r)
{
    struct sender *s;
    for (size_t at = 0; (s = map_next(&r->senders, &at)) != NULL;)
        mem_free(s);
    map_deinit(&r->senders);
}

static struct sender *sender_get(struct kv_replica *r, const struct kv_convoy *c)
{
    struct sender *s = map_find(&r->senders, hash_u64(c->sender), has_id, &c->sender);
    if (s != NULL)
        return s;
    if (r->senders.count >= SENDER_MAX)
        kv_convoy_forget(r);
    s = mem_new(sizeof *s);
    s->id = c->sender;
    map_put(&r->senders, hash_u64(s->id), s);
    return s;
}

bool kv_convoy_take(struct kv_replica *r, const struct kv_convoy *c)
{
    uint64_t term = raft_status_get(&r->raft).term;
    if (c->sender == 0)
        return true; /* of a version that does not number them */
    if (term != r->convoy_term || r->range.version.boundary != r->convoy_boundary)
        kv_convoy_forget(r);
    r->convoy_term = term;
    r->convoy_boundary = r->range.version.boundary;
    struct sender *s = sender_get(r, c);
    if (c->place == 0 && c->id > s->convoy) {
        s->convoy = c->id;
        s->next = 0;
    }
    if (c->id != s->convoy || c->place != s->next)
        return false;
    s->next++;
    return true;
}
