/* The subscribe road.  SPDX-License-Identifier: Apache-2.0
 *
 *   subscribe_admit   access rules, the session's limit
 *   subscribe_one     persistent: stores_sub; shared: a route of its own; else the hub
 *   subscribe_leg     one filter less; the last one gives SUBSCRIBED and so SUBACK
 *   subscribe_retained retained messages of the new subscriptions, page by page as the client takes
 * them
 *
 * Invariants: 1 every filter gets its code before SUBSCRIBED;  2 a filter of a clean session is in
 * c->subs once, and in
 * the hub exactly when its broker_sub has a filter.  It never looks at messages. */
#include "broker/subscribe_priv.h"

#include "base/mem.h"
#include "broker/deliver_priv.h"
#include "dist/index.h"

#define RETAINED_PAGE 64 /* does not matter much: retained messages of one page */

struct item {
    struct subscription *all;
    uint32_t index;
    uint64_t shared;   /* clean and shared: number of its broker_shared */
    struct str filter; /* heap, when retained messages are wanted */
    uint8_t qos;
    uint8_t retain_handling;
    bool is_shared;
    bool is_checked;
    bool is_new;
    bool as_published;
};

/* One SUBSCRIBE or UNSUBSCRIBE under way. */
struct subscription {
    struct broker_conn *conn;
    uint16_t packet_id;
    bool is_unsubscribe;
    uint32_t sub_id;
    uint32_t count, left;
    uint8_t *code;
    broker_subscribe_done *done; /* NULL: the client itself asked */
    void *arg;
    struct item item[];
};

/* Retained messages under way to one new subscription. */
struct retained {
    struct broker_conn *conn;
    struct str filter;
    struct buf after;
    uint32_t sub_id;
    int64_t left;
    uint8_t qos;
};

static struct stores_session session_of(const struct broker_conn *c)
{
    return (struct stores_session){c->tenant->name, session_client_id(c->session),
                                   c->inflow->incarnation, c->inflow->mod};
}

/* ---- retained messages ---- */

static void retained_next(struct retained *r);

static void retained_free(struct retained *r)
{
    struct broker_conn *c = r->conn;
    mem_free((void *)(uintptr_t)r->filter.p);
    buf_deinit(&r->after);
    mem_free(r);
    broker_conn_done(c);
}

static void retained_inserted(void *arg, const struct stores_inserted *r)
{
    struct broker_conn *c = arg;
    if (r->outcome != STORES_OK && c->is_open)
        broker_conn_report(c, BROKER_EV_MATCH_RETAIN_ERROR, "");
    broker_conn_done(c);
}

/* QoS 1 and 2 reach a persistent session through its inbox only, like all others. */
static void retained_give(struct retained *r, const struct codec_msg *msg)
{
    struct broker_conn *c = r->conn;
    if (!broker_conn_may_read(c, msg->topic))
        return;
    uint8_t qos = r->qos < msg->qos ? r->qos : msg->qos;
    if (qos == 0 || !session_is_persistent(c->session)) {
        struct broker_cross_send send = {.tenant = c->tenant,
                                         .msg = msg,
                                         .cookie = c->cookie,
                                         .sub_id = r->sub_id,
                                         .qos = r->qos,
                                         .is_retained = true};
        (void)broker_deliver_one(c->loop, &send);
        return;
    }
    struct codec_msg own;
    memcpy(&own, msg, sizeof(own));
    atomic_init(&own.refs, 0);
    own.incarnation = own.exchange = 0; /* it is no repetition of the publish that retained it */
    own.is_retain = true;
    struct stores_receiver to = {.client = session_client_id(c->session),
                                 .incarnation = c->inflow->incarnation,
                                 .qos = qos,
                                 .options = (uint8_t)(r->qos | DIST_OPTION_AS_PUBLISHED),
                                 .sub_id_count = r->sub_id ? 1 : 0,
                                 .sub_id = &r->sub_id};
    broker_conn_hold(c);
    stores_insert(c->loop->stores, c->tenant->name, &own, &(struct stores_origin){0}, &to, 1,
                  retained_inserted, c);
}

static void retained_page(void *arg, const struct stores_retained *page)
{
    struct retained *r = arg;
    struct broker_conn *c = r->conn;
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    if (page->outcome != STORES_OK && c->is_open)
        broker_conn_report(c, BROKER_EV_MATCH_RETAIN_ERROR, "");
    else if (page->msg_count && r->after.n == 0 && c->is_open)
        broker_conn_report(c, BROKER_EV_RETAIN_MSG_MATCHED, "");
    for (size_t i = 0; i < page->msg_count && c->is_open && r->left > 0; i++, r->left--) {
        retained_give(r, &page->msg[i]);
        broker_metric_bytes(m, BROKER_M_RETAIN_MATCHED,
                            page->msg[i].topic.n + page->msg[i].payload.n, 1);
    }
    if (page->outcome != STORES_OK || page->after.n == 0 || !c->is_open || r->left <= 0) {
        retained_free(r);
        return;
    }
    r->after.n = 0;
    buf_put_str(&r->after, page->after);
    retained_next(r);
}

static void retained_next(struct retained *r)
{
    struct broker_conn *c = r->conn;
    uint32_t max = r->left < RETAINED_PAGE ? (uint32_t)r->left : RETAINED_PAGE;
    stores_retain_match(c->loop->stores, c->tenant->name, r->filter, buf_str(&r->after), max,
                        retained_page, r);
}

static void subscribe_retained(struct subscription *s)
{
    struct broker_conn *c = s->conn;
    const struct session_settings *set = &c->settings->value;
    for (uint32_t i = 0; i < s->count && c->is_open; i++) {
        struct item *it = &s->item[i];
        if (!it->filter.p || s->code[i] > 2 || (it->retain_handling == 1 && !it->is_new))
            continue;
        struct retained *r = mem_new(sizeof(*r));
        *r =
            (struct retained){.conn = c, .filter = it->filter, .sub_id = s->sub_id, .qos = it->qos};
        r->left = set->retain_message_match_limit ? set->retain_message_match_limit : INT64_MAX;
        it->filter = str_view(NULL, 0);
        broker_conn_hold(c);
        broker_metric_add(broker_loop_metrics(c->loop, c->tenant), BROKER_M_RETAIN_MATCH, 1);
        retained_next(r);
    }
}

/* ---- the join of one packet's filters ---- */

/* One filter's fate, as events. */
static void subscribe_tell(const struct subscription *s, const struct item *it, uint8_t code)
{
    static const enum broker_event_id event[2][2] = {
        {BROKER_EV_MATCHED, BROKER_EV_MATCH_ERROR}, {BROKER_EV_UNMATCHED, BROKER_EV_UNMATCH_ERROR}};
    bool is_failed = code == CODEC_MQTT_RC_UNSPECIFIED_ERROR ||
                     code == CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR;
    bool is_done = s->is_unsubscribe ? code == 0 : code <= 2 && it->is_new;
    if (is_failed || is_done)
        broker_conn_report(s->conn, event[s->is_unsubscribe][is_failed], "");
}

static void subscribe_answer(struct subscription *s)
{
    broker_conn_report(s->conn, s->is_unsubscribe ? BROKER_EV_UNSUB_ACKED : BROKER_EV_SUB_ACKED,
                       "");
    struct session_event ev = {.type = s->is_unsubscribe ? SESSION_EV_UNSUBSCRIBED
                                                         : SESSION_EV_SUBSCRIBED};
    ev.subscribed.packet_id = s->packet_id;
    ev.subscribed.codes = s->code;
    ev.subscribed.count = s->count;
    broker_conn_step(s->conn, &ev);
}

static void subscribe_leg(struct subscription *s, uint32_t index, uint8_t code)
{
    struct broker_conn *c = s->conn;
    s->code[index] = code;
    if (index < s->count)
        subscribe_tell(s, &s->item[index], code);
    must(s->left > 0);
    if (--s->left > 0)
        return;
    if (s->done)
        s->done(s->arg, s->code[0], s->item[0].is_new);
    else
        subscribe_answer(s);
    if (!s->is_unsubscribe)
        subscribe_retained(s);
    for (uint32_t i = 0; i < s->count; i++)
        mem_free((void *)(uintptr_t)s->item[i].filter.p);
    mem_free(s->code);
    mem_free(s);
    broker_conn_done(c);
}

static struct subscription *
subscription_new(struct broker_conn *c, const struct session_subscribe *in, bool is_unsubscribe)
{
    struct subscription *s = mem_new(sizeof(*s) + in->count * sizeof(struct item));
    s->conn = c;
    s->packet_id = in->packet_id;
    s->is_unsubscribe = is_unsubscribe;
    s->sub_id = in->sub_id;
    s->count = in->count;
    s->left = in->count + 1; /* the walk itself */
    s->code = mem_new(in->count + 1);
    for (uint32_t i = 0; i < in->count; i++)
        s->item[i] = (struct item){.all = s, .index = i};
    broker_conn_hold(c);
    return s;
}

/* The walk over the filters is done. */
static void subscription_walked(struct subscription *s)
{
    /* A leg without a filter of its own: it must not overwrite a code. */
    subscribe_leg(s, s->count, 0);
}

/* ---- clean sessions: the hub ---- */

static bool has_text(const struct broker_conn *c, const struct broker_sub *sub, struct str text)
{
    return sub->filter && str_eq(broker_filter_text(c->loop->broker, sub->filter), text);
}

/* c's own subscription to this filter but not this one, or NULL.  Looks where there is less to look
 * at. */
static struct broker_sub *own_find(struct broker_conn *c, struct str text,
                                   const struct broker_sub *but)
{
    struct dist_filter *entry = dist_index_find(c->loop->routes, c->tenant->name, text);
    struct broker_filter *f = entry ? dist_filter_host(entry) : NULL;
    if (!f)
        return NULL;
    const struct broker_members *m = &f->loop[c->loop->index];
    if (m->count < c->sub_count) {
        for (uint32_t i = 0; i < m->count; i++)
            if (m->sub[i]->conn == c && m->sub[i] != but)
                return m->sub[i];
        return NULL;
    }
    for (struct broker_sub *s = c->subs; s; s = s->next)
        if (s != but && has_text(c, s, text))
            return s;
    return NULL;
}

static void own_remove(struct broker_conn *c, struct broker_sub *sub)
{
    for (struct broker_sub **at = &c->subs; *at; at = &(*at)->next)
        if (*at == sub) {
            *at = sub->next;
            c->sub_count--;
            break;
        }
    if (sub->filter)
        broker_hub_leave(c->loop, sub);
    broker_metric_sub(broker_loop_metrics(c->loop, c->tenant), BROKER_M_TSUB_NUM, 1);
    mem_free(sub);
}

static void own_set(const struct item *it, struct broker_sub *sub, const struct session_sub *in)
{
    sub->qos = in->qos & 3u;
    sub->no_local = in->is_no_local;
    sub->as_published = in->is_retain_as_published;
    sub->sub_id = it->all->sub_id & 0xfffffffu;
    sub->is_checked = it->is_checked;
    it->all->conn->loop->member_version++; /* targets made from it are old now */
}

static void hub_joined(struct broker_loop *l, struct broker_sub *sub, int outcome, void *arg)
{
    struct item *it = arg;
    struct broker_conn *c = sub->conn;
    if (outcome || !c->is_open) {
        own_remove(c, sub);
        subscribe_leg(it->all, it->index,
                      outcome ? broker_conn_reason_of((enum stores_outcome)outcome) : 0);
        return;
    }
    struct broker_sub *twin = own_find(c, broker_filter_text(l->broker, sub->filter), sub);
    if (twin) /* the same filter twice while the first was still joining: the later one counts */
        own_remove(c, twin);
    subscribe_leg(it->all, it->index, it->qos);
}

static void subscribe_hub(struct broker_conn *c, struct item *it, const struct session_sub *in)
{
    struct broker_sub *sub = own_find(c, in->filter.filter, NULL);
    if (sub) {
        own_set(it, sub, in);
        subscribe_leg(it->all, it->index, in->qos);
        return;
    }
    if (c->sub_count >= (uint64_t)c->settings->value.max_topic_filters_per_inbox) {
        subscribe_leg(it->all, it->index, CODEC_MQTT_RC_QUOTA_EXCEEDED);
        return;
    }
    sub = mem_new(sizeof(*sub));
    own_set(it, sub, in);
    sub->conn = c;
    sub->next = c->subs;
    c->subs = sub;
    c->sub_count++;
    it->is_new = true;
    broker_metric_add(broker_loop_metrics(c->loop, c->tenant), BROKER_M_TSUB_NUM, 1);
    broker_hub_join(c->loop, c->tenant, in->filter.filter, sub, hub_joined, it);
}

/* ---- clean sessions: shared ---- */

static struct stores_route shared_route(struct broker_conn *c, const struct broker_shared *s)
{
    return (struct stores_route){
        .tenant = c->tenant->name,
        .filter = s->filter,
        .group = s->group,
        .is_ordered = s->is_ordered,
        .cookie = c->cookie,
        .options = (uint8_t)(s->qos | (s->is_as_published ? DIST_OPTION_AS_PUBLISHED : 0)),
        .sub_id = s->sub_id,
        .member_max = (uint32_t)c->settings->value.max_shared_group_members};
}

bool broker_subscribe_restore(struct broker_conn *c, const struct stores_route *lost,
                              stores_done *done, void *arg)
{
    for (const struct broker_shared *s = c->shared; s; s = s->next) {
        if (s->is_ordered != lost->is_ordered || !str_eq(s->group, lost->group) ||
            !str_eq(s->filter, lost->filter))
            continue;
        struct stores_route r = shared_route(c, s);
        stores_route_add(c->loop->stores, &r, done, arg);
        return true;
    }
    return false;
}

static struct broker_shared *shared_find(struct broker_conn *c, struct str text)
{
    for (struct broker_shared *s = c->shared; s; s = s->next)
        if (str_eq(s->text, text))
            return s;
    return NULL;
}

static void route_gone(void *arg, enum stores_outcome outcome)
{
    (void)outcome; /* a route that stays points to a cookie nobody has: its messages are counted as
                      closed */
    broker_conn_done(arg);
}

static void shared_remove(struct broker_conn *c, struct broker_shared *s)
{
    for (struct broker_shared **at = &c->shared; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            c->sub_count--;
            break;
        }
    struct stores_route r = shared_route(c, s);
    broker_conn_hold(c);
    stores_route_del(c->loop->stores, &r, route_gone, c);
    broker_metric_sub(broker_loop_metrics(c->loop, c->tenant), BROKER_M_SHARED_NUM, 1);
    mem_free(s);
}

/* A member that was never let in is none, and counts against no limit. */
static void shared_settle(struct broker_conn *c, uint64_t number, bool is_added)
{
    struct broker_shared *s = c->shared;
    while (s && s->number != number)
        s = s->next;
    if (!s) /* gone with its connection, or unsubscribed */
        return;
    s->adding--;
    s->is_on = s->is_on || is_added;
    if (!s->is_on && s->adding == 0)
        shared_remove(c, s);
}

static void shared_added(void *arg, enum stores_outcome outcome)
{
    struct item *it = arg;
    shared_settle(it->all->conn, it->shared, outcome == STORES_OK);
    subscribe_leg(it->all, it->index,
                  outcome == STORES_OK ? it->qos : broker_conn_reason_of(outcome));
}

static void subscribe_shared(struct broker_conn *c, struct item *it, const struct session_sub *in)
{
    struct broker_shared *s = shared_find(c, in->filter.text);
    if (!s) {
        s = mem_new(sizeof(*s) + in->filter.text.n);
        memcpy(s->bytes, in->filter.text.p, in->filter.text.n);
        s->text = str_view(s->bytes, in->filter.text.n);
        s->group =
            str_view(s->bytes + (in->filter.group.p - in->filter.text.p), in->filter.group.n);
        s->filter =
            str_view(s->bytes + (in->filter.filter.p - in->filter.text.p), in->filter.filter.n);
        s->is_ordered = in->filter.kind == CODEC_TOPIC_OSHARE;
        s->number = ++c->shared_last;
        it->is_new = true;
        s->next = c->shared;
        c->shared = s;
        c->sub_count++;
        broker_metric_add(broker_loop_metrics(c->loop, c->tenant), BROKER_M_SHARED_NUM, 1);
    }
    s->qos = in->qos;
    s->sub_id = it->all->sub_id;
    s->is_as_published = in->is_retain_as_published;
    struct stores_route r = shared_route(c, s);
    it->shared = s->number;
    s->adding++;
    stores_route_add(c->loop->stores, &r, shared_added, it);
}

/* ---- persistent sessions ---- */

static struct stores_sub stored_sub(const struct broker_conn *c, const struct session_sub *in,
                                    uint32_t sub_id)
{
    const struct session_settings *set = &c->settings->value;
    return (struct stores_sub){
        .filter = in->filter,
        .options = (uint8_t)(in->qos | (in->is_no_local ? DIST_OPTION_NO_LOCAL : 0) |
                             (in->is_retain_as_published ? DIST_OPTION_AS_PUBLISHED : 0)),
        .sub_id = sub_id,
        .sub_max = (uint32_t)set->max_topic_filters_per_inbox,
        .member_max = (uint32_t)set->max_shared_group_members,
    };
}

static void stored_count(struct broker_conn *c, bool is_more)
{
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    if (!c->is_open || (!is_more && c->inflow->sub_count == 0))
        return;
    c->inflow->sub_count += is_more ? 1 : UINT32_MAX;
    broker_metric_add(m, BROKER_M_PSUB_NUM, is_more ? 1 : UINT64_MAX);
}

static void stored_subbed(void *arg, enum stores_outcome outcome)
{
    struct item *it = arg;
    it->is_new = outcome == STORES_OK;
    if (it->is_new)
        stored_count(it->all->conn, true);
    uint8_t code = outcome == STORES_OK || outcome == STORES_E_EXISTS
                       ? it->qos
                       : broker_conn_reason_of(outcome);
    subscribe_leg(it->all, it->index, code);
}

static void stored_unsubbed(void *arg, enum stores_outcome outcome)
{
    struct item *it = arg;
    if (outcome == STORES_OK)
        stored_count(it->all->conn, false);
    subscribe_leg(it->all, it->index, broker_conn_reason_of(outcome));
}

/* ---- the walk ---- */

/* Of what a filter matches the rules may allow a part: then each message is asked about.  Not for
 * shared ones, where a message that one member may not have would be lost to all. */
static uint8_t subscribe_admit(struct broker_conn *c, struct item *it, const struct session_sub *in)
{
    if (in->reason != SESSION_SUB_PERFORM)
        return in->reason;
    const struct broker_acl *acl = broker_conn_acl(c);
    enum broker_acl_cover cover = BROKER_ACL_ALL;
    if (acl)
        cover = broker_acl_covers(acl, c->user, session_client_id(c->session), in->filter.filter);
    if (cover == BROKER_ACL_NONE && broker_conn_may(c, acl, BROKER_ACL_READ, in->filter.filter))
        cover = BROKER_ACL_ALL; /* the rules cannot be asked about this client, and that is to count
                                   as a yes */
    it->is_checked = cover == BROKER_ACL_SOME;
    if (cover == BROKER_ACL_ALL ||
        (cover == BROKER_ACL_SOME && in->filter.kind == CODEC_TOPIC_NORMAL))
        return SESSION_SUB_PERFORM;
    broker_conn_report(c, BROKER_EV_SUB_ACTION_DISALLOW, "");
    return CODEC_MQTT_RC_NOT_AUTHORIZED;
}

static void subscribe_one(struct broker_conn *c, struct item *it, const struct session_sub *in)
{
    it->qos = in->qos;
    it->retain_handling = in->retain_handling;
    it->as_published = in->is_retain_as_published;
    it->is_shared = in->filter.kind != CODEC_TOPIC_NORMAL;
    if (!it->is_shared && in->retain_handling < 2 && c->settings->value.retain_enabled)
        it->filter = str_dup(in->filter.filter);
    if (session_is_persistent(c->session)) {
        struct stores_session s = session_of(c);
        struct stores_sub sub = stored_sub(c, in, it->all->sub_id);
        stores_sub(c->loop->stores, &s, &sub, stored_subbed, it);
    } else if (it->is_shared) {
        subscribe_shared(c, it, in);
    } else {
        subscribe_hub(c, it, in);
    }
}

static void subscribe_all(struct subscription *s, const struct session_subscribe *in)
{
    struct broker_conn *c = s->conn;
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    broker_metric_add(m, session_is_persistent(c->session) ? BROKER_M_PSUB : BROKER_M_TSUB,
                      in->count);
    for (uint32_t i = 0; i < in->count; i++) {
        uint8_t code = subscribe_admit(c, &s->item[i], &in->sub[i]);
        if (code == SESSION_SUB_PERFORM)
            subscribe_one(c, &s->item[i], &in->sub[i]);
        else
            subscribe_leg(s, i, code);
    }
    subscription_walked(s);
}

void broker_subscribe(struct broker_conn *c, const struct session_subscribe *in)
{
    subscribe_all(subscription_new(c, in, false), in);
}

static uint8_t unsubscribe_live(struct broker_conn *c, const struct session_sub *in)
{
    if (in->filter.kind != CODEC_TOPIC_NORMAL) {
        struct broker_shared *s = shared_find(c, in->filter.text);
        if (s)
            shared_remove(c, s);
        return s ? 0 : CODEC_MQTT_RC_NO_SUBSCRIPTION_EXISTED;
    }
    struct broker_sub *sub = own_find(c, in->filter.filter, NULL);
    if (sub)
        own_remove(c, sub);
    return sub ? 0 : CODEC_MQTT_RC_NO_SUBSCRIPTION_EXISTED;
}

static void unsubscribe_all(struct subscription *s, const struct session_subscribe *in)
{
    struct broker_conn *c = s->conn;
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    bool is_stored = session_is_persistent(c->session);
    broker_metric_add(m, is_stored ? BROKER_M_PUNSUB : BROKER_M_TUNSUB, in->count);
    for (uint32_t i = 0; i < in->count; i++) {
        if (in->sub[i].reason != SESSION_SUB_PERFORM) {
            subscribe_leg(s, i, in->sub[i].reason);
        } else if (is_stored) {
            struct stores_session who = session_of(c);
            struct stores_sub sub = stored_sub(c, &in->sub[i], 0);
            stores_unsub(c->loop->stores, &who, &sub, stored_unsubbed, &s->item[i]);
        } else {
            subscribe_leg(s, i, unsubscribe_live(c, &in->sub[i]));
        }
    }
    subscription_walked(s);
}

void broker_unsubscribe(struct broker_conn *c, const struct session_subscribe *in)
{
    unsubscribe_all(subscription_new(c, in, true), in);
}

void broker_subscribe_ask(struct broker_conn *c, const struct session_sub *sub, bool is_unsubscribe,
                          broker_subscribe_done *done, void *arg)
{
    struct session_sub one = *sub;
    struct session_subscribe in = {.sub = &one, .count = 1};
    struct subscription *s = subscription_new(c, &in, is_unsubscribe);
    s->done = done;
    s->arg = arg;
    if (is_unsubscribe)
        unsubscribe_all(s, &in);
    else
        subscribe_all(s, &in);
}

void broker_subscribe_drop(struct broker_conn *c)
{
    struct broker_sub *joining = NULL;
    while (c->subs) {
        struct broker_sub *s = c->subs;
        c->subs = s->next;
        if (!s->filter) { /* its join comes back to it */
            s->next = joining;
            joining = s;
            continue;
        }
        broker_hub_leave(c->loop, s);
        broker_metric_sub(broker_loop_metrics(c->loop, c->tenant), BROKER_M_TSUB_NUM, 1);
        mem_free(s);
        c->sub_count--;
    }
    c->subs = joining;
    while (c->shared)
        shared_remove(c, c->shared);
}
