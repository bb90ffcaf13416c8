/* Routes: who wants which topic.  SPDX-License-Identifier: Apache-2.0
 *
 * A route is answered OK when the leader has committed it and the index of this node matches it (a
 * follower may be some milliseconds behind: then we look again until it does).  Incarnations order
 * the adds and dels of one route: for live sessions they are this node's clock, which only grows;
 * for persistent ones the inbox's. */
#include "stores/route_priv.h"

#include "base/mem.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define LOOK_USEC                                                                                  \
    (1 * USEC_MSEC) /* does not matter much: how soon a lagging index is looked at again */

struct route_op {
    struct stores_op op;
    stores_done *done;
    void *arg;
    bool is_add;
    struct buf text; /* backing of route */
    struct dist_route route;
    struct net_timer look;
    struct stores_own own;
    bool is_own; /* the index was asked to have it without its range */
};

static struct str keep(struct buf *b, struct str s)
{
    buf_put_str(b, s);
    return str_view(b->p + b->n - s.n, s.n);
}

static void route_end(struct route_op *x, enum stores_outcome outcome)
{
    stores_done *done = x->done;
    void *arg = x->arg;
    net_timer_del(x->op.client->net, &x->look);
    buf_deinit(&x->text);
    stores_op_free(&x->op);
    if (done != NULL)
        done(arg, outcome);
}

static bool receiver_is(const struct dist_receiver *r, const struct dist_route *want)
{
    return r->kind == (uint8_t)want->kind && r->incarnation >= want->incarnation &&
           str_eq(str_view(r->client, r->client_len), want->client);
}

static bool group_has(const struct dist_filter *f, const struct dist_route *want)
{
    for (const struct dist_group *g = dist_filter_groups(f); g != NULL; g = dist_group_next(g)) {
        if (g->share != (uint8_t)want->share ||
            !str_eq(str_view(g->name, g->name_len), want->group))
            continue;
        const struct dist_members *m = dist_group_members(g);
        for (uint32_t i = 0; i < m->count; i++)
            if (receiver_is(m->member[i], want))
                return true;
    }
    return false;
}

/* Does this node's index have the route? */
static bool index_has(const struct stores *s, const struct dist_route *want)
{
    const struct dist_filter *f = dist_index_find(s->index, want->tenant, want->filter);
    if (f == NULL)
        return false;
    if (want->share != DIST_SHARE_NONE)
        return group_has(f, want);
    const struct dist_node *n = dist_filter_node(f);
    if (want->kind == DIST_KIND_NODE && n != NULL && n->epoch == want->epoch &&
        uuid_eq(&n->uuid, &want->node))
        return true;
    for (const struct dist_receiver *r = dist_filter_receivers(f); r != NULL;
         r = dist_receiver_next(r)) {
        if (want->kind != DIST_KIND_NODE
                ? receiver_is(r, want)
                : r->kind == DIST_KIND_NODE && r->node->epoch == want->epoch &&
                      uuid_eq(&r->node->uuid, &want->node))
            return true;
    }
    return false;
}

static void look(void *arg, usec_t now);

static void own_done(struct stores_own *o)
{
    struct route_op *x = container_of(o, struct route_op, own);
    if (x->is_add)
        look(x, net_loop_now(x->op.client->net));
    else
        route_end(x, STORES_OK);
}

static void own_send(struct route_op *x)
{
    x->is_own = true;
    x->own = (struct stores_own){
        .client = x->op.client, .route = &x->route, .is_add = x->is_add, .done = own_done};
    stores_own_send(&x->own);
}

/* Its range may not be here: then a live session's route is put into the index without it, and a persistent one's is
 * found by who asks (stores_match). */
static void look(void *arg, usec_t now)
{
    struct route_op *x = arg;
    bool is_part = stores_index_state_get(x->op.client) == STORES_INDEX_PART;
    if (index_has(x->op.client->stores, &x->route) || (is_part && x->route.kind == DIST_KIND_INBOX))
        route_end(x, STORES_OK);
    else if (is_part && !x->is_own)
        own_send(x);
    else if (now >= x->op.deadline)
        route_end(x, STORES_E_UNKNOWN);
    else
        net_timer_set(x->op.client->net, &x->look, now + LOOK_USEC);
}

static void committed(struct stores_op *op, enum stores_outcome outcome,
                      const struct kv_reply *reply)
{
    struct route_op *x = container_of(op, struct route_op, op);
    if (outcome != STORES_OK) {
        route_end(x, outcome);
        return;
    }
    uint8_t result = reply->bytes.n == 1 ? (uint8_t)reply->bytes.p[0] : DIST_E_INVALID;
    switch (result) {
    case 0:
    case DIST_E_OLD:
    case DIST_E_NONE:
        if (x->is_add && result == 0)
            look(x, net_loop_now(op->client->net));
        else if (!x->is_add && stores_index_state_get(op->client) == STORES_INDEX_PART)
            own_send(x);
        else
            route_end(x, STORES_OK);
        break;
    case DIST_REPLY_MOVED:
        stores_op_send_again(op);
        break;
    case DIST_E_FULL:
        route_end(x, STORES_E_LIMIT);
        break;
    default:
        route_end(x, STORES_E_INVALID);
        break;
    }
}

static void route_send(struct stores_client *c, const struct dist_route *r, bool is_add,
                       uint32_t member_max, stores_done *done, void *arg)
{
    struct route_op *x = stores_op_new(c, STORES_TABLE_DIST, sizeof *x, committed);
    x->done = done;
    x->arg = arg;
    x->is_add = is_add;
    net_timer_init(&x->look, look, x);
    (void)buf_reserve(&x->text, r->tenant.n + r->filter.n + r->group.n + r->client.n + 1);
    x->route = *r;
    x->route.tenant = keep(&x->text, r->tenant);
    x->route.filter = keep(&x->text, r->filter);
    x->route.group = keep(&x->text, r->group);
    x->route.client = keep(&x->text, r->client);
    dist_key(&x->op.key, r->tenant, r->filter);
    dist_command_begin(&x->op.bytes);
    if (is_add)
        dist_command_add(&x->op.bytes, r, member_max);
    else
        dist_command_del(&x->op.bytes, r);
    stores_op_send(&x->op);
}

void stores_route_put(struct stores_client *c, const struct dist_route *r, uint32_t member_max,
                      stores_done *done, void *arg)
{
    route_send(c, r, true, member_max, done, arg);
}

void stores_route_drop(struct stores_client *c, const struct dist_route *r, stores_done *done,
                       void *arg)
{
    route_send(c, r, false, 0, done, arg);
}

enum dist_share stores_route_share(const struct codec_topic_filter *f)
{
    switch (f->kind) {
    case CODEC_TOPIC_SHARE:
        return DIST_SHARE_UNORDERED;
    case CODEC_TOPIC_OSHARE:
        return DIST_SHARE_ORDERED;
    case CODEC_TOPIC_NORMAL:
        break;
    }
    return DIST_SHARE_NONE;
}

/* ---- the door: routes of live sessions ------------------------------------------------------- */

static struct dist_route live_route(struct stores_client *c, const struct stores_route *r,
                                    char cookie[16])
{
    const struct stores_conf *conf = &c->stores->conf;
    bool is_member = r->group.n > 0;
    for (unsigned i = 0; i < 16; i++) /* in hexadecimal: a client's name has no NUL in it */
        cookie[i] = "0123456789abcdef"[r->cookie >> (60 - 4 * i) & 15];
    return (struct dist_route){
        .tenant = r->tenant,
        .filter = r->filter,
        .share = !is_member      ? DIST_SHARE_NONE
                 : r->is_ordered ? DIST_SHARE_ORDERED
                                 : DIST_SHARE_UNORDERED,
        .group = r->group,
        .kind = is_member ? DIST_KIND_MEMBER : DIST_KIND_NODE,
        .node = conf->node,
        .epoch = conf->epoch,
        .client = is_member ? str_view(cookie, 16) : STR(""),
        .incarnation = stores_hlc(c),
        .options = is_member ? r->options : 0,
        .sub_id = is_member ? r->sub_id : 0,
    };
}

void stores_route_add(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg)
{
    char cookie[16];
    struct dist_route route = live_route(c, r, cookie);
    stores_route_put(c, &route, r->member_max, done, arg);
}

void stores_route_del(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg)
{
    char cookie[16];
    struct dist_route route = live_route(c, r, cookie);
    stores_route_drop(c, &route, done, arg);
}
