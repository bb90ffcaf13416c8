/* Are the sessions of this loop still ours?  SPDX-License-Identifier: Apache-2.0
 *
 * A process that nobody could reach for a while was taken for dead: the leaders of the inboxes have
 * detached its sessions, and have told it so on links that were cut.  Its clients would wait for ever.  So
 * whenever a member comes (back), every attached session is compared with its inbox: one that is no longer
 * ours ends, so that its client comes again; one that is learns what was pushed in vain.  The judgement may also be
 * one-sided, and then no member ever comes back here: so all are compared in turn, a few each second.
 *
 * 1. At most FLIGHT_MAX questions are under way; the others wait in order.
 * 2. What cannot be asked now is asked again later. */
#include "stores/verify_priv.h"

#include "base/mem.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define FLIGHT_MAX 64             /* matters: a million sessions are compared beside the traffic */
#define ROUND_SEC 30   /* matters: so long a client may wait for nothing, when there are few sessions */
#define ROUND_MAX 100u /* a second: a million sessions do not keep the leaders busy */
#define AGAIN_USEC (1 * USEC_SEC) /* for those that got no answer */

struct question {
    struct stores_op op;
    struct str tenant, client; /* yours */
    uint64_t cookie, incarnation, mod;
};

static void look(struct stores_client *c);

static void compare(struct stores_client *c, const struct question *q, const struct inbox_state *s)
{
    const struct stores_host *host = &c->stores->conf.host;
    const struct stores_held *h = stores_held_find(c, q->tenant, q->client);
    if (h == NULL || h->cookie != q->cookie || h->incarnation != q->incarnation || h->mod != q->mod)
        return; /* another connection by now */
    bool is_ours = s->outcome == INBOX_OK && s->incarnation == h->incarnation && s->mod == h->mod &&
                   s->detached_hlc == 0;
    if (is_ours)
        host->backlog(host->arg, c->loop, h->cookie, s->next);
    else
        host->quit(host->arg, c->loop, h->cookie, STORES_QUIT_GONE);
}

static void answered(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *kv)
{
    struct question *q = container_of(op, struct question, op);
    struct stores_client *c = op->client;
    struct inbox_state state;
    bool is_known = outcome == STORES_OK && inbox_reply_state(kv->bytes, &state) &&
                    state.outcome != INBOX_E_MOVED;
    struct stores_held *h = stores_held_find(c, q->tenant, q->client);
    if (is_known)
        compare(c, q, &state);
    else if (h != NULL && list_empty(&h->doubt))
        list_push_back(&c->verify.doubted, &h->doubt);
    mem_free((void *)(uintptr_t)q->tenant.p);
    mem_free((void *)(uintptr_t)q->client.p);
    stores_op_free(op);
    c->verify.flight_count--;
    if (is_known)
        look(c);
    else
        net_timer_set(c->net, &c->verify.timer, usec_add(net_loop_now(c->net), AGAIN_USEC));
}

static void ask(struct stores_client *c, const struct stores_held *h)
{
    struct question *q = stores_op_new(c, STORES_TABLE_INBOX, sizeof *q, answered);
    q->tenant = str_dup(h->tenant);
    q->client = str_dup(h->client);
    q->cookie = h->cookie;
    q->incarnation = h->incarnation;
    q->mod = h->mod;
    q->op.is_query = true;
    inbox_key(&q->op.key, h->tenant, h->client);
    inbox_query_state(&q->op.bytes, h->tenant, h->client);
    c->verify.flight_count++;
    stores_op_send(&q->op);
}

static void look(struct stores_client *c)
{
    while (c->verify.flight_count < FLIGHT_MAX && !list_empty(&c->verify.doubted)) {
        struct stores_held *h =
            container_of(list_pop_front(&c->verify.doubted), struct stores_held, doubt);
        if (h->incarnation != 0)
            ask(c, h);
    }
}

static void on_timer(void *arg, usec_t now)
{
    (void)now;
    look(arg);
}

void stores_verify_all(struct stores_client *c)
{
    size_t at = 0;
    for (struct stores_held *h; (h = map_next(&c->held, &at)) != NULL;)
        if (list_empty(&h->doubt))
            list_push_back(&c->verify.doubted, &h->doubt);
    look(c);
}

static void on_round(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    size_t n = c->held.count / ROUND_SEC + 1;
    for (n = n < ROUND_MAX ? n : ROUND_MAX; n > 0; n--) {
        struct stores_held *h = map_next(&c->held, &c->verify.round_at);
        if (h == NULL) {
            c->verify.round_at = 0;
            break;
        }
        if (list_empty(&h->doubt))
            list_push_back(&c->verify.doubted, &h->doubt);
    }
    look(c);
    net_timer_set(c->net, &c->verify.round, usec_add(now, USEC_SEC));
}

void stores_verify_init(struct stores_client *c)
{
    net_timer_init(&c->verify.round, on_round, c);
    list_init(&c->verify.doubted);
    net_timer_init(&c->verify.timer, on_timer, c);
}

void stores_verify_deinit(struct stores_client *c)
{
    net_timer_del(c->net, &c->verify.timer);
    net_timer_del(c->net, &c->verify.round);
}

void stores_verify_start(struct stores_client *c)
{
    net_timer_set(c->net, &c->verify.round, usec_add(net_loop_now(c->net), USEC_SEC));
}
