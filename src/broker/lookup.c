/* Questions to other nodes: what matches?  SPDX-License-Identifier: Apache-2.0
 *
 *   get --turn ends, less than ASKED_MAX are asked--> asked --answer--> done
 *
 * Invariants: 1 a lookup that is open is in the map, one that is asked is not: who comes later gets a later answer;
 * 2 the index of one that is done changes no more.  It never sends a message. */
#include "broker/lookup_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "broker/hold_priv.h"
#include "dist/index.h"

#define ASKED_MAX 256 /* does not matter much: what waits meanwhile is asked together */

struct lookup_key {
    struct broker_tenant *tenant;
    struct str topic;
};

static bool lookup_eq(const void *item, const void *key)
{
    const struct broker_lookup *x = item;
    const struct lookup_key *k = key;
    return x->tenant == k->tenant && str_eq(x->topic, k->topic);
}

struct broker_lookup *broker_lookup_ref(struct broker_lookup *x)
{
    x->refs++;
    return x;
}

void broker_lookup_unref(struct broker_lookup *x)
{
    if (!x || --x->refs > 0)
        return;
    dist_index_free(x->index);
    mem_free(x);
}

struct broker_lookup *broker_lookup_get(struct broker_loop *l, struct broker_tenant *tenant,
                                        struct str topic)
{
    struct lookup_key key = {tenant, topic};
    uint64_t hash = hash_str(topic, l->broker->seed + tenant->index);
    struct broker_lookup *x = map_find(&l->lookups.by_topic, hash, lookup_eq, &key);
    if (x)
        return broker_lookup_ref(x);
    x = mem_new(sizeof(*x) + topic.n);
    memcpy(x->text, topic.p, topic.n);
    x->topic = str_view(x->text, topic.n);
    x->tenant = tenant;
    x->hash = hash;
    x->loop = l;
    x->refs = 1;
    map_put(&l->lookups.by_topic, hash, x);
    list_push_back(&l->lookups.open, &x->link);
    net_loop_defer(l->net, &l->turn_end);
    return broker_lookup_ref(x);
}

bool broker_lookup_is_vain(struct broker_loop *l, struct broker_tenant *tenant, struct str topic)
{
    if (l->lookups.is_vain && l->lookups.asked_count == 0)
        broker_lookup_unref(broker_lookup_get(l, tenant, topic));
    return l->lookups.is_vain;
}

static void answered(void *arg, enum stores_outcome outcome, struct dist_index *index)
{
    struct broker_lookup *x = arg;
    struct broker_loop *l = x->loop;
    x->is_done = true;
    x->index = index;
    if (l) {
        l->lookups.asked_count--;
        l->lookups.is_vain = outcome != STORES_OK;
        list_del(&x->link);
        broker_hold_look(l);
        net_loop_defer(l->net, &l->turn_end);
    }
    broker_lookup_unref(x);
}

void broker_lookup_flush(struct broker_loop *l)
{
    while (!list_empty(&l->lookups.open) && l->lookups.asked_count < ASKED_MAX) {
        struct broker_lookup *x =
            container_of(list_pop_front(&l->lookups.open), struct broker_lookup, link);
        must(map_del(&l->lookups.by_topic, x->hash, x));
        list_push_back(&l->lookups.asked, &x->link);
        l->lookups.asked_count++;
        stores_match(l->stores, x->tenant->name, x->topic,
                     usec_add(broker_loop_now(l), BROKER_HOLD_USEC), answered, x);
    }
}

void broker_lookup_init(struct broker_loop *l)
{
    list_init(&l->lookups.open);
    list_init(&l->lookups.asked);
}

void broker_lookup_deinit(struct broker_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->lookups.asked));)
        container_of(x, struct broker_lookup, link)->loop = NULL;
    for (struct list *x; (x = list_pop_front(&l->lookups.open));)
        broker_lookup_unref(container_of(x, struct broker_lookup, link));
    map_deinit(&l->lookups.by_topic);
}
