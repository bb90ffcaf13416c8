/* Calls to ourselves: the same door, no socket.  SPDX-License-Identifier: Apache-2.0
 *
 * To our own loop a hop waits in a list until the deferred work of this turn; to another loop it
 * crosses in the mailbox of that loop's link.  So callbacks never come from inside the call, as
 * with a real peer. */
#include "base/hash.h"
#include "base/mem.h"
#include "cluster/link_priv.h"

#define HOPS_MAX 65536 /* hand-overs on their way into one loop */

static void run_hop(struct link_hop *p);

static void take_hop(void *arg, struct net_mailbox_item *item)
{
    (void)arg;
    run_hop(container_of(item, struct link_hop, item));
}

static void run_failed(struct cluster_link *l)
{
    struct list failed;
    list_init(&failed);
    for (struct list *it; (it = list_pop_front(&l->failed)) != NULL;)
        list_push_back(&failed, it);
    for (struct list *it; (it = list_pop_front(&failed)) != NULL;)
        cluster_call_end(l, container_of(it, struct link_call, link), CLUSTER_LINK_E_UNREACHABLE,
                         STR(""));
}

static void run_hops(void *arg)
{
    struct cluster_link *l = arg;
    struct list todo;
    list_init(&todo);
    for (struct list *it; (it = list_pop_front(&l->hops)) != NULL;)
        list_push_back(&todo, it);
    for (struct list *it; (it = list_pop_front(&todo)) != NULL;) {
        l->hop_count--;
        run_hop(container_of(it, struct link_hop, link));
    }
    run_failed(l);
}

void cluster_local_init(struct cluster_link *l)
{
    list_init(&l->hops);
    net_defer_init(&l->hop_defer, run_hops, l);
    l->box = net_mailbox_new(l->conf.loop, HOPS_MAX, take_hop, l);
}

void cluster_local_deinit(struct cluster_link *l)
{
    net_defer_del(&l->hop_defer);
    for (struct list *it; (it = list_pop_front(&l->hops)) != NULL;)
        mem_free(container_of(it, struct link_hop, link));
    l->box = net_mailbox_free(l->box);
}

void cluster_call_fail_later(struct cluster_link *l, struct link_call *k)
{
    list_push_back(&l->failed, &k->link);
    net_loop_defer(l->conf.loop, &l->hop_defer);
}

static struct link_hop *hop_new(struct cluster_link *from, struct cluster_link *to,
                                struct str payload)
{
    struct link_hop *p = mem_alloc(sizeof *p + payload.n);
    *p = (struct link_hop){.from = from, .to = to, .n = payload.n};
    if (payload.n > 0)
        memcpy(p->bytes, payload.p, payload.n);
    return p;
}

static int hop_send(struct link_hop *p)
{
    struct cluster_link *to = p->to, *from = p->from;
    if (to == from) {
        if (to->hop_count >= HOPS_MAX && !p->is_reply)
            return CLUSTER_LINK_E_OVERLOADED;
        to->hop_count++;
        list_push_back(&to->hops, &p->link);
        net_loop_defer(to->conf.loop, &to->hop_defer);
        return 0;
    }
    return net_mailbox_push(to->box, from->conf.loop, &p->item) == 0 ? 0
                                                                     : CLUSTER_LINK_E_OVERLOADED;
}

int cluster_local_send(struct cluster_link *l, const struct cluster_call *c, struct link_call *k)
{
    uint32_t loop = c->shard == CLUSTER_SHARD_ANY ? l->conf.index : c->shard % l->conf.count;
    struct cluster_link *to = l->sibling != NULL ? l->sibling[loop] : l;
    struct link_hop *p = hop_new(l, to, c->payload);
    p->is_cast = k == NULL;
    p->id = k != NULL ? k->id : 0;
    p->service = c->service;
    p->lane = c->lane;
    p->shard = c->shard;
    p->deadline = k != NULL ? k->deadline.at : USEC_NEVER;
    int r = hop_send(p);
    if (r != 0) {
        l->stats.rejected++;
        mem_free(p);
    }
    return r;
}

static bool call_eq(const void *item, const void *key)
{
    return ((const struct link_call *)item)->id == *(const uint64_t *)key;
}

static void run_request(struct link_hop *p)
{
    struct cluster_link *l = p->to;
    const struct link_service *sv = &l->service[p->service];
    struct cluster_from from = {
        .peer = l->conf.self,
        .epoch = l->conf.epoch,
        .lane = p->lane,
        .shard = p->shard,
        .deadline = p->deadline,
    };
    struct cluster_request *rq = NULL;
    if (!p->is_cast) {
        rq = mem_new(sizeof *rq);
        list_init(&rq->link);
        rq->l = l;
        rq->from = p->from;
        rq->id = p->id;
    }
    if (sv->handler != NULL)
        sv->handler(sv->arg, rq, &from, str_view(p->bytes, p->n));
    else if (rq != NULL)
        cluster_request_refuse(rq);
}

static void run_hop(struct link_hop *p)
{
    if (p->is_reply) {
        struct link_call *k = map_find(&p->to->calls, hash_u64(p->id), call_eq, &p->id);
        if (k != NULL)
            cluster_call_end(p->to, k, p->outcome, str_view(p->bytes, p->n));
    } else {
        run_request(p);
    }
    mem_free(p);
}

static void late_reply(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    run_hop(container_of(mail, struct link_hop, item.mail));
}

void cluster_local_reply(struct cluster_request *rq, int outcome, struct str payload)
{
    struct link_hop *p = hop_new(rq->l, rq->from, payload);
    p->is_reply = true;
    p->id = rq->id;
    p->outcome = outcome;
    if (hop_send(p) != 0) /* bounded by the open calls: it may always come */
        net_loop_post(rq->l->conf.loop, rq->from->conf.loop, &p->item.mail, late_reply);
    mem_free(rq);
}
