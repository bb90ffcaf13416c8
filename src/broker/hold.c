/* Publishes that wait for who wants them.  SPDX-License-Identifier: Apache-2.0
 *
 * This node's index may be behind the cluster's: then QoS 1 and 2 wait until it has caught up.  Or it lacks ranges of
 * the table: then another node is asked, and QoS 0 waits for that, too.
 *
 * Invariants: 1 they go on in the order in which they came;  2 QoS 1 and 2: what nobody who has all subscriptions has
 * matched is refused, unless the cluster has been out of reach for BROKER_HOLD_USEC and the index was whole before. */
#include "broker/hold_priv.h"

#include "base/mem.h"
#include "broker/lookup_priv.h"

#define LOOK_USEC (5 * USEC_MSEC) /* how soon a held publish sees that the index has caught up */
#define TELL_USEC (60 * USEC_SEC) /* does not matter much: how often the journal hears of it */
#define QOS0_BYTES_MAX                                                                             \
    ((size_t)8 << 20) /* matters little: QoS 0 that waits on a loop; nothing slows its publishers */

struct held {
    struct list link; /* of loop.held.waiting: in the order they came */
    usec_t until;
    struct broker_join *join;
    struct broker_lookup *lookup; /* NULL: the index here was whole when it came */
    struct codec_msg *msg;
    uint64_t from_cookie, floor;
};

bool broker_hold_is_needed(const struct broker_road *p)
{
    struct broker_loop *l = p->loop;
    enum stores_index_state index = stores_index_state_get(l->stores);
    if (p->msg->qos > 0)
        return unlikely(index != STORES_INDEX_CURRENT || !list_empty(&l->held.waiting));
    return unlikely(l->held.qos0_bytes > 0) ||
           unlikely(index == STORES_INDEX_PART &&
                    !broker_lookup_is_vain(l, p->tenant, p->msg->topic));
}

static void hold_told(struct broker_loop *l, bool is_part, usec_t now)
{
    if (now < l->held.told_until)
        return;
    l->held.told_until = usec_add(now, TELL_USEC);
    if (is_part)
        log_line(l->broker->conf.log, LOG_LEVEL_NOTICE, "broker.publish.elsewhere",
                 "other nodes are asked who wants what is published here: this one does not have "
                 "all subscriptions");
    else
        log_line(l->broker->conf.log, LOG_LEVEL_NOTICE, "broker.publish.held",
                 "publishes wait: this node's subscriptions may be behind the cluster's");
}

static uint64_t qos0_bytes(const struct codec_msg *m)
{
    return m->qos > 0 ? 0 : sizeof(struct held) + m->topic.n + m->payload.n;
}

void broker_hold_put(struct broker_road *p)
{
    struct broker_loop *l = p->loop;
    uint64_t bytes = qos0_bytes(p->msg);
    bool is_part = stores_index_state_get(l->stores) == STORES_INDEX_PART;
    usec_t now = broker_loop_now(l);
    if (bytes + l->held.qos0_bytes > QOS0_BYTES_MAX && bytes > 0) {
        broker_metric_add(broker_loop_metrics(l, p->tenant), BROKER_M_DROP_OVERFLOW, 1);
        return;
    }
    struct held *h = mem_new(sizeof(*h));
    p->is_held = true;
    h->join = broker_road_leg_begin(p);
    h->msg = codec_msg_dup(p->msg);
    h->from_cookie = p->from_cookie;
    h->floor = p->floor;
    h->until = usec_add(now, BROKER_HOLD_USEC);
    if (is_part)
        h->lookup = broker_lookup_get(l, p->tenant, p->msg->topic);
    if (list_empty(&l->held.waiting)) {
        hold_told(l, is_part, now);
        net_timer_set(l->net, &l->held.timer, usec_add(now, LOOK_USEC));
    }
    l->held.qos0_bytes += bytes;
    list_push_back(&l->held.waiting, &h->link);
}

enum hold_verdict { HOLD_WAIT, HOLD_HERE, HOLD_ELSEWHERE, HOLD_REFUSE };

static enum hold_verdict hold_judge(const struct held *h, enum stores_index_state index, usec_t now)
{
    bool is_answered = h->lookup && h->lookup->is_done;
    if (index == STORES_INDEX_CURRENT)
        return HOLD_HERE;
    if (is_answered && h->lookup->index)
        return HOLD_ELSEWHERE;
    if (now < h->until && !(is_answered && index == STORES_INDEX_PART))
        return HOLD_WAIT;
    return index == STORES_INDEX_PART && h->msg->qos > 0 ? HOLD_REFUSE : HOLD_HERE;
}

static struct broker_join *hold_take(struct broker_loop *l, struct held *h)
{
    struct broker_join *j = h->join;
    l->held.qos0_bytes -= qos0_bytes(h->msg);
    broker_lookup_unref(h->lookup);
    codec_msg_unref(h->msg);
    mem_free(h);
    return j;
}

/* All are taken out before the first is refused: who is refused may publish, or be refused more. */
void broker_hold_refuse(struct broker_conn *c)
{
    struct broker_loop *l = c->loop;
    struct list refused;
    list_init(&refused);
    list_each(&l->held.waiting, it)
    {
        if (container_of(it, struct held, link)->join->conn != c)
            continue;
        list_del(it);
        list_push_back(&refused, it);
    }
    for (struct list *x; (x = list_pop_front(&refused));)
        broker_road_leg(hold_take(l, container_of(x, struct held, link)),
                        CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
}

/* What it waits for came, or will not come soon. */
static void hold_resume(struct broker_loop *l, struct held *h, enum hold_verdict verdict)
{
    struct broker_join *j = h->join;
    struct broker_road p = {.loop = l,
                            .tenant = j->tenant,
                            .conn = j->conn,
                            .token = j->token,
                            .from_cookie = h->from_cookie,
                            .floor = h->floor,
                            .msg = h->msg,
                            .join = j};
    bool is_left = j->conn && session_state_get(j->conn->session) == SESSION_ST_ENDED;
    if (verdict == HOLD_REFUSE || is_left) { /* who left brings it anew */
        broker_road_leg(hold_take(l, h), CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
        return;
    }
    p.lookup = verdict == HOLD_ELSEWHERE ? h->lookup : NULL;
    broker_road_fan(&p, p.lookup ? broker_targets_of(l, p.tenant, p.msg->topic, p.lookup->index)
                                 : broker_targets_get(l, p.tenant, p.msg->topic));
    uint8_t ignored;
    (void)!broker_road_end(&p, &ignored);
    (void)hold_take(l, h);
}

/* The index lost a range while they waited. */
static void hold_ask(struct broker_loop *l)
{
    list_each(&l->held.waiting, it)
    {
        struct held *h = container_of(it, struct held, link);
        if (!h->lookup)
            h->lookup = broker_lookup_get(l, h->join->tenant, h->msg->topic);
    }
}

void broker_hold_look(struct broker_loop *l)
{
    enum stores_index_state index = stores_index_state_get(l->stores);
    usec_t now = broker_loop_now(l);
    while (!list_empty(&l->held.waiting)) {
        struct held *h = container_of(l->held.waiting.next, struct held, link);
        if (index == STORES_INDEX_PART && !h->lookup)
            hold_ask(l);
        enum hold_verdict verdict = hold_judge(h, index, now);
        if (verdict == HOLD_WAIT)
            break;
        list_del(&h->link);
        hold_resume(l, h, verdict);
    }
    if (!list_empty(&l->held.waiting))
        net_timer_set(l->net, &l->held.timer, usec_add(now, LOOK_USEC));
}

static void look(void *arg, usec_t now)
{
    (void)now;
    broker_hold_look(arg);
}

void broker_hold_init(struct broker_loop *l)
{
    list_init(&l->held.waiting);
    net_timer_init(&l->held.timer, look, l);
    broker_lookup_init(l);
}

void broker_hold_deinit(struct broker_loop *l)
{
    net_timer_del(l->net, &l->held.timer);
    for (struct list *x; (x = list_pop_front(&l->held.waiting));)
        mem_free(hold_take(l, container_of(x, struct held, link)));
    broker_lookup_deinit(l);
}
