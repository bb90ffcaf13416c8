/* Effects of the inbox on their way to the owners of sessions.  SPDX-License-Identifier: Apache-2.0
 *
 * The leader's machine names the owner's node and loop; the bytes go there as they are: a mail to a
 * loop of ours, a cast to another node.  Casts may be lost: the owner sees the gap, or the next
 * commit's answer shows it.  Wills and the routes of ended sessions are work for the leader's own
 * node. */
#include "base/mem.h"
#include "cluster/cluster.h"
#include "codec/msg.h"
#include "codec/topic.h"
#include "stores/route_priv.h"
#include "stores/stores_priv.h"

struct parcel {
    struct net_mail mail;
    struct stores_client *to;
    struct str bytes;
    char data[];
};

static void arrive(struct net_loop *net, struct net_mail *mail)
{
    struct parcel *p = container_of(mail, struct parcel, mail);
    (void)net;
    stores_push_receive(p->to, p->bytes);
    mem_free(p);
}

static void forward(struct stores *s, unsigned from_loop, const struct inbox_owner *to,
                    struct str effect)
{
    struct stores_client *from = &s->client[from_loop];
    if (uuid_eq(&to->node, &s->conf.node)) {
        if (to->epoch != s->conf.epoch || to->shard >= s->conf.loop_count)
            return; /* a former life of this node */
        struct parcel *p = mem_alloc(sizeof *p + effect.n);
        p->to = &s->client[to->shard];
        p->bytes = str_view(p->data, effect.n);
        memcpy(p->data, effect.p, effect.n);
        net_loop_post(from->net, p->to->net, &p->mail, arrive);
        return;
    }
    if (s->conf.seat == NULL)
        return;
    struct cluster_call call = {.peer = to->node,
                                .service = CLUSTER_SERVICE_STORES,
                                .lane = CLUSTER_LANE_BULK,
                                .shard = to->shard,
                                .payload = effect};
    int r = cluster_link_cast(cluster_seat_link(s->conf.seat[from_loop]), &call);
    (void)r; /* as good as lost on the way; the session will fetch */
}

static void will_due(struct stores *s, unsigned loop, const struct inbox_effect *e)
{
    struct codec_msg will;
    struct stores_session session = {e->tenant, e->client, e->incarnation, e->mod};
    if (codec_msg_decode(e->message, &will) != 0)
        return;
    will.incarnation = e->incarnation;
    will.exchange = e->will_id;
    s->conf.host.will(s->conf.host.arg, loop, &session, &will, e->will_id);
}

/* A session ended: its routes go; it ended later, by the same clock, than any of them was put. */
static void session_gone(struct stores *s, unsigned loop, const struct inbox_effect *e)
{
    struct stores_client *c = &s->client[loop];
    struct str rest = e->rest;
    struct inbox_sub sub;
    while (inbox_effect_filter(&rest, &sub)) {
        struct codec_topic_filter f;
        if (codec_topic_filter_parse(sub.filter, NULL, &f) != 0)
            continue;
        struct dist_route route = {
            .tenant = e->tenant,
            .filter = f.filter,
            .share = stores_route_share(&f),
            .group = f.group,
            .kind = DIST_KIND_INBOX,
            .client = e->client,
            .session = e->incarnation,
            .incarnation = e->hlc,
        };
        stores_route_drop(c, &route, NULL, NULL);
    }
}

void stores_push_effect(void *arg, const struct kv_range_view *r, struct str effect)
{
    struct stores *s = arg;
    struct inbox_effect e;
    if (!inbox_effect_decode(effect, &e))
        return;
    switch (e.kind) {
    case INBOX_EFFECT_PUSH:
    case INBOX_EFFECT_MORE:
    case INBOX_EFFECT_TAKEN:
        forward(s, r->loop, &e.owner, effect);
        break;
    case INBOX_EFFECT_WILL:
        will_due(s, r->loop, &e);
        break;
    case INBOX_EFFECT_GONE:
        session_gone(s, r->loop, &e);
        break;
    default:
        break;
    }
}

/* ---- at the owner ---------------------------------------------------------------------------- */

static void deliver(struct stores_client *c, const struct inbox_effect *e)
{
    struct codec_msg msg;
    struct str rest = e->rest;
    struct inbox_push p;
    const struct stores_host *host = &c->stores->conf.host;
    if (codec_msg_decode(e->message, &msg) != 0)
        return;
    while (inbox_effect_push(&rest, &p)) {
        struct stores_held *h = stores_held_find(c, e->tenant, p.client);
        if (h == NULL)
            continue;
        if (h->incarnation == 0) { /* attaching: it will fetch */
            if (p.qos > 0 && p.seq >= h->missed_next)
                h->missed_next = p.seq + 1;
            continue;
        }
        if (h->incarnation != p.incarnation || h->mod != p.mod)
            continue;
        struct stores_delivery d = {.seq = p.seq,
                                    .msg = &msg,
                                    .qos = p.qos,
                                    .options = p.options,
                                    .sub_id = p.sub_id,
                                    .sub_id_count = p.sub_id_count};
        host->deliver(host->arg, c->loop, h->cookie, &d, 1);
    }
}

void stores_push_receive(struct stores_client *c, struct str effect)
{
    struct inbox_effect e;
    const struct stores_host *host = &c->stores->conf.host;
    if (!inbox_effect_decode(effect, &e))
        return;
    if (e.kind == INBOX_EFFECT_PUSH) {
        deliver(c, &e);
        return;
    }
    struct stores_held *h = stores_held_find(c, e.tenant, e.client);
    if (h == NULL)
        return;
    if (e.kind == INBOX_EFFECT_MORE) {
        if (h->incarnation == 0)
            h->missed_next = e.next > h->missed_next ? e.next : h->missed_next;
        else if (h->incarnation == e.incarnation && h->mod == e.mod)
            host->backlog(host->arg, c->loop, h->cookie, e.next);
    } else if (e.kind == INBOX_EFFECT_TAKEN && h->incarnation != 0 &&
               (h->incarnation != e.incarnation || h->mod < e.mod)) {
        host->quit(host->arg, c->loop, h->cookie, STORES_QUIT_GONE);
    }
}
