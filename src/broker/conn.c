/* The connection: bytes in, the mind's effects out.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 session_step and its kin are called here only (deliveries apart), and their effects
 * carried out before
 * anything else happens to the connection;  2 is_open implies a stream and a cookie in
 * loop->by_cookie; 3 it is freed only without a stream and with pending == 0;  4 reading is paused
 * exactly while is_waiting or is_slowed says so.  It never decides what the protocol asks for: the
 * session mind does. */
#include "broker/conn_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "broker/connect_priv.h"
#include "broker/deliver_priv.h"
#include "broker/inflow_priv.h"
#include "broker/limit_priv.h"
#include "broker/publish_priv.h"
#include "broker/share_priv.h"
#include "broker/subscribe_priv.h"

#define CLOSE_DELAY_USEC_MAX                                                                       \
    (3 * USEC_SEC) /* does not matter: spreads those who come straight back */

static bool cookie_eq(const void *item, const void *key)
{
    return ((const struct broker_conn *)item)->cookie == *(const uint64_t *)key;
}

struct broker_conn *broker_conn_find(struct broker_loop *l, uint64_t cookie)
{
    return map_find(&l->by_cookie, hash_u64(cookie), cookie_eq, &cookie);
}

uint8_t broker_conn_reason_of(enum stores_outcome outcome)
{
    static const uint8_t reason[] = {
        [STORES_OK] = 0,
        [STORES_E_UNAVAILABLE] = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR,
        [STORES_E_UNKNOWN] = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR,
        [STORES_E_FULL] = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR,
        [STORES_E_NO_SESSION] = CODEC_MQTT_RC_UNSPECIFIED_ERROR,
        [STORES_E_CONFLICT] = CODEC_MQTT_RC_UNSPECIFIED_ERROR,
        [STORES_E_LIMIT] = CODEC_MQTT_RC_QUOTA_EXCEEDED,
        [STORES_E_EXISTS] = 0,
        [STORES_E_NO_SUB] = CODEC_MQTT_RC_NO_SUBSCRIPTION_EXISTED,
        [STORES_E_INVALID] = CODEC_MQTT_RC_QUOTA_EXCEEDED,
    };
    return (size_t)outcome < countof(reason) ? reason[outcome] : CODEC_MQTT_RC_UNSPECIFIED_ERROR;
}

void broker_conn_report(const struct broker_conn *c, enum broker_event_id id, const char *detail)
{
    char address[NET_ADDRESS_TEXT] = "";
    if (c->stream && broker_event_is_heard(&c->loop->broker->events, id))
        (void)net_address_format(net_stream_peer(c->stream), address);
    struct broker_event_who who = {c->tenant->name, c->user, session_client_id(c->session),
                                   str_of(address)};
    broker_event_report(&c->loop->broker->events, id, &who, "%s", detail ? detail : "");
}

void broker_conn_debug_report(const struct broker_conn *c, enum broker_event_id id,
                              struct str topic)
{
    char line[128];
    (void)str_copy(line, sizeof(line), topic);
    broker_conn_report(c, id, line);
}

const struct broker_acl *broker_conn_acl(const struct broker_conn *c)
{
    if (c->acl)
        return c->acl;
    return c->loop->auth_files ? broker_auth_acl_find(c->loop->auth_files, c->tenant->name) : NULL;
}

bool broker_conn_may_read(const struct broker_conn *c, struct str topic)
{
    const struct broker_acl *acl = broker_conn_acl(c);
    return !acl || broker_conn_may(c, acl, BROKER_ACL_READ, topic);
}

bool broker_conn_may_publish(const struct broker_conn *c, struct str topic)
{
    const struct broker_acl *acl = broker_conn_acl(c);
    if (str_has_prefix(topic, STR("$SYS/")))
        return false;
    return !acl || broker_conn_may(c, acl, BROKER_ACL_WRITE, topic);
}

bool broker_conn_may(const struct broker_conn *c, const struct broker_acl *acl,
                     enum broker_acl_action action, struct str topic)
{
    enum broker_acl_verdict v =
        broker_acl_check(acl, c->user, session_client_id(c->session), action, topic);
    if (likely(v != BROKER_ACL_ERROR))
        return v == BROKER_ACL_YES;
    broker_conn_report(c, BROKER_EV_ACCESS_CONTROL_ERROR,
                       "a rule with %u or %c cannot be asked about such a name");
    return c->settings->value.bypass_perm_check_error != 0;
}

/* ---- birth and death ---- */

static void conn_free(struct broker_conn *c)
{
    must(!c->stream && c->pending == 0 && !c->is_open); /* 3 */
    struct broker_loop *l = c->loop;
    list_del(&c->link);
    list_del(&c->slow);
    list_del(&c->dirty);
    net_timer_del(l->net, &c->timer);
    l->conn_count--;
    if (c->is_counted) {
        atomic_fetch_sub_explicit(&l->broker->connection_count, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&c->tenant->connection_count, 1, memory_order_relaxed);
    }
    session_free(c->session);
    broker_settings_unref(c->settings);
    mem_free(c->inflow);
    broker_connect_ask_free(c);
    broker_acl_free(c->acl);
    mem_free((void *)(uintptr_t)c->user.p);
    mem_free(c);
}

void broker_conn_done(struct broker_conn *c)
{
    must(c->pending > 0);
    if (--c->pending == 0 && !c->stream)
        conn_free(c);
}

void broker_conn_drop(struct broker_conn *c)
{
    if (c->stream)
        net_stream_forget(c->stream);
    c->stream = NULL;
    c->is_open = false;
    c->pending = 0;
    broker_subscribe_drop(c);
    conn_free(c);
}

static void detached(void *arg, enum stores_outcome outcome)
{
    struct broker_conn *c = arg;
    (void)outcome; /* fenced off or gone already: either way it is no longer ours */
    stores_dict_release(c->loop->stores, c->tenant->name, session_client_id(c->session), c->cookie);
    broker_conn_done(c);
}

static void conn_detach(struct broker_conn *c, const struct session_end *end)
{
    if (c->is_attaching)
        return; /* the answer finds that we are gone */
    if (c->is_attached) {
        struct stores_session s = {c->tenant->name, session_client_id(c->session),
                                   c->inflow->incarnation, c->inflow->mod};
        struct stores_detach d = {end->expiry_sec, end->will != SESSION_WILL_DUE,
                                  broker_inflow_sent(c->inflow)};
        broker_inflow_commit(c);
        broker_conn_hold(c);
        stores_detach(c->loop->stores, &s, &d, detached, c);
    } else if (c->is_claimed) {
        stores_dict_release(c->loop->stores, c->tenant->name, session_client_id(c->session),
                            c->cookie);
    }
    c->is_attached = c->is_claimed = false;
}

static void conn_end(struct broker_conn *c, const struct session_end *end)
{
    static const enum broker_event_id event[] = {
#define X(NAME, meaning) [SESSION_END_##NAME] = BROKER_EV_##NAME,
#include "session/end.def"
#undef X
    };
    struct broker_loop *l = c->loop;
    bool is_early = end->cause == SESSION_END_CLIENT_CHANNEL_ERROR && !end->was_open;
    broker_conn_report(c, is_early ? BROKER_EV_CHANNEL_ERROR : event[end->cause], end->why);
    if (c->is_open && end->expiry_sec == 0)
        broker_conn_report(c, BROKER_EV_MQTT_SESSION_STOP, "");
    broker_subscribe_drop(c);
    if (c->pending > 0)
        stores_cancel(l->stores, c->cookie);
    conn_detach(c, end);
    broker_deliver_resumed(c);
    if (c->is_open) {
        struct broker_metrics *m = broker_loop_metrics(l, c->tenant);
        broker_metric_sub(m, BROKER_M_CONNECTIONS, 1);
        if (session_is_persistent(c->session)) {
            broker_metric_sub(m, BROKER_M_PSESSION_LIVE, 1);
            broker_metric_sub(m, BROKER_M_PSUB_NUM, c->inflow->sub_count);
            broker_share_held(l->broker, session_client_id(c->session), c->inflow->incarnation,
                              false);
        }
        broker_metric_add(m, BROKER_M_DISCONNECT, 1);
    }
    if (c->cookie)
        (void)map_del(&l->by_cookie, hash_u64(c->cookie), c);
    c->is_open = false;
    net_timer_del(l->net, &c->timer);
    if (c->stream && !end->was_open && !end->is_by_client)
        net_stream_close_later(
            c->stream, rng_between(net_loop_rng(l->net), USEC_SEC / 10, CLOSE_DELAY_USEC_MAX));
    else if (c->stream)
        net_stream_close(c->stream);
}

/* ---- the mind's effects ---- */

void broker_conn_arm(struct broker_conn *c)
{
    usec_t at = session_deadline(c->session);
    if (at != USEC_NEVER && (!net_timer_is_set(&c->timer) || at < c->timer.node.at))
        net_timer_set(c->loop->net, &c->timer, at);
}

static void conn_resume(struct broker_conn *c)
{
    if (!c->is_waiting)
        return;
    c->is_waiting = false;
    if (c->stream)
        net_stream_resume(c->stream);
}

static void conn_note(struct broker_conn *c, const struct session_effect *fx)
{
    static const enum broker_event_id event[] = {
        [SESSION_NOTE_INVALID_TOPIC] = BROKER_EV_INVALID_TOPIC,
        [SESSION_NOTE_INVALID_TOPIC_FILTER] = BROKER_EV_INVALID_TOPIC_FILTER,
        [SESSION_NOTE_OVERSIZE_PACKET_DROPPED] = BROKER_EV_OVERSIZE_PACKET_DROPPED,
        [SESSION_NOTE_STALLED] = BROKER_EV_SUB_STALLED,
        [SESSION_NOTE_THROTTLED] = BROKER_EV_EXCEED_PUB_RATE,
    };
    struct str text = arena_str(net_loop_arena(c->loop->net), fx->note.text);
    char line[128];
    (void)str_copy(line, sizeof(line), text);
    if (fx->note.type == SESSION_NOTE_STALLED)
        broker_metric_add(broker_loop_metrics(c->loop, c->tenant), BROKER_M_EX_STALLED, 1);
    broker_conn_report(c, event[fx->note.type], line);
}

static void conn_release_done(void *arg, enum stores_outcome outcome)
{
    struct broker_release *r = arg;
    struct broker_conn *c = r->conn;
    struct session_event ev = {.type = SESSION_EV_RELEASED};
    ev.released.packet_id = r->packet_id;
    mem_free(r);
    if (outcome == STORES_OK || outcome == STORES_E_NO_SUB)
        broker_conn_step(c, &ev);
    else /* the client asks again when it comes back; no PUBCOMP for what is not committed */
        broker_conn_kick(c, SESSION_END_INBOX_TRANSIENT_ERROR,
                         CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
    broker_conn_done(c);
}

static void conn_release(struct broker_conn *c, uint16_t packet_id)
{
    struct broker_release *r = mem_new(sizeof(*r));
    *r = (struct broker_release){c, packet_id};
    struct stores_session s = {c->tenant->name, session_client_id(c->session),
                               c->inflow->incarnation, c->inflow->mod};
    broker_conn_hold(c);
    stores_release(c->loop->stores, &s, packet_id, conn_release_done, r);
}

/* A publish that was routed at once; told to the mind when its other effects are carried out. */
struct routed {
    uint64_t token;
    uint8_t reason;
};

static void conn_publish(struct broker_conn *c, const struct session_publish *p,
                         struct routed *routed, size_t *count)
{
    uint8_t reason = 0;
    c->has_published = true;
    broker_conn_debug(c, BROKER_EV_DISTED, p->msg.topic);
    if (broker_publish(c, p, &reason) == 0 && p->token)
        routed[(*count)++] = (struct routed){p->token, reason};
}

static void conn_carry_one(struct broker_conn *c, const struct session_effect *fx)
{
    switch (fx->type) {
    case SESSION_FX_AUTHENTICATE:
        broker_connect_authenticate(c, fx->connect);
        break;
    case SESSION_FX_AUTH:
        broker_connect_auth(c, fx->auth.method, fx->auth.data);
        break;
    case SESSION_FX_ATTACH:
        broker_connect_attach(c, &fx->attach);
        break;
    case SESSION_FX_CONNECTED:
        broker_connect_connected(c, fx->connected.is_session_present);
        break;
    case SESSION_FX_RELEASE:
        conn_release(c, fx->release.packet_id);
        break;
    case SESSION_FX_SUBSCRIBE:
        broker_subscribe(c, &fx->subscribe);
        break;
    case SESSION_FX_UNSUBSCRIBE:
        broker_unsubscribe(c, &fx->subscribe);
        break;
    case SESSION_FX_COMMIT:
        broker_conn_dirty(c);
        break;
    case SESSION_FX_RESUME:
        conn_resume(c);
        break;
    case SESSION_FX_NOTE:
        conn_note(c, fx);
        break;
    case SESSION_FX_END:
        conn_end(c, &fx->end);
        break;
    case SESSION_FX_PUBLISH:
        break;
    }
}

/* The times, once per turn; what this connection may have waiting. */
static void out_aim(struct broker_conn *c, struct session_out *out)
{
    struct broker_loop *l = c->loop;
    usec_t now = net_loop_now(l->net);
    if (unlikely(out->now != now)) {
        out->now = now;
        out->wall_ms = broker_loop_wall_ms(l);
        broker_limit_turn(l);
    }
    out->bytes_max = broker_limit_room(c);
    out->qos0_bytes_max = l->qos0_bytes_max;
}

static struct session_out *out_begin(struct broker_conn *c)
{
    struct broker_loop *l = c->loop;
    must(l->depth < BROKER_STEP_DEPTH);
    struct session_out *out = &l->out[l->depth++];
    out_aim(c, out);
    out->bytes = c->stream ? net_stream_out(c->stream) : &l->scratch;
    return out;
}

static void conn_carry(struct broker_conn *c, struct session_out *out);

static void conn_routed(struct broker_conn *c, const struct routed *routed, size_t count,
                        struct session_out *out)
{
    for (size_t i = 0; i < count; i++) {
        out->bytes = c->stream ? net_stream_out(c->stream) : &c->loop->scratch;
        session_published(c->session, routed[i].token, routed[i].reason, out);
        if (out->effect_count)
            conn_carry(c, out);
    }
}

/* All effects of one call, in order; then what was routed at once is told to the mind, which may
 * have more. */
static void conn_carry(struct broker_conn *c, struct session_out *out)
{
    size_t count = out->effect_count, routed_count = 0;
    if (count == 1 && likely(out->effect[0].type == SESSION_FX_PUBLISH)) {
        struct routed one;
        conn_publish(c, &out->effect[0].publish, &one, &routed_count);
        conn_routed(c, &one, routed_count, out);
        return;
    }
    struct routed *routed = arena_alloc(net_loop_arena(c->loop->net), count * sizeof(*routed));
    for (size_t i = 0; i < count; i++)
        if (out->effect[i].type == SESSION_FX_PUBLISH)
            conn_publish(c, &out->effect[i].publish, routed, &routed_count);
        else
            conn_carry_one(c, &out->effect[i]);
    conn_routed(c, routed, routed_count, out);
}

static void out_end(struct broker_conn *c, struct session_out *out)
{
    if (unlikely(out->effect_count))
        conn_carry(c, out);
    if (out->counts.is_news)
        broker_deliver_count(c, out);
    broker_conn_owe(c, out);
    c->loop->scratch.n = 0;
    c->loop->depth--;
}

void broker_conn_step(struct broker_conn *c, const struct session_event *ev)
{
    struct session_out *out = out_begin(c);
    session_step(c->session, ev, out);
    out_end(c, out);
    broker_deliver_count(c, out);
    if (session_state_get(c->session) != SESSION_ST_ENDED)
        broker_conn_arm(c);
    broker_deliver_resumed(c);
}

void broker_conn_published(struct broker_conn *c, uint64_t token, uint8_t reason, uint32_t dropped)
{
    if (unlikely(dropped > 0)) {
        struct session_event ev = {.type = SESSION_EV_PUBLISHED};
        ev.published.token = token;
        ev.published.reason = reason;
        ev.published.dropped = dropped;
        broker_conn_step(c, &ev);
        return;
    }
    struct session_out *out = out_begin(c);
    session_published(c->session, token, reason, out);
    out_end(c, out);
}

void broker_conn_kick_to(struct broker_conn *c, enum session_end_cause cause, uint8_t reason,
                         struct str reference)
{
    struct session_event ev = {.type = SESSION_EV_KICK};
    ev.kick.cause = cause;
    ev.kick.reason = reason;
    ev.kick.server_reference = reference;
    broker_conn_step(c, &ev);
}

void broker_conn_kick(struct broker_conn *c, enum session_end_cause cause, uint8_t reason)
{
    broker_conn_kick_to(c, cause, reason, STR(""));
}

struct session_out *broker_conn_out(struct broker_conn *c)
{
    struct session_out *out = &c->loop->deliver_out;
    out_aim(c, out);
    out->bytes = net_stream_out(c->stream);
    return out;
}

/* ---- the stream ---- */

static size_t conn_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct broker_conn *c = arg;
    size_t used = 0;
    struct session_out *out = out_begin(c);
    while (session_is_ready(c->session)) {
        struct codec_mqtt_packet packet;
        int r = codec_mqtt_frame(str_view(p + used, n - used), session_packet_len_max(c->session),
                                 &packet);
        if (r == CODEC_MQTT_E_MORE) {
            if (packet.len > n - used)
                net_stream_want(s, packet.len);
            break;
        }
        out->bytes = net_stream_out(s);
        if (r) {
            struct session_event ev = {.type = SESSION_EV_BAD_FRAME};
            ev.bad_frame = r;
            session_step(c->session, &ev, out);
        } else {
            session_packet(c->session, &packet, out);
            used += packet.len;
        }
        if (out->effect_count)
            conn_carry(c, out);
        if (used == n || r || c->is_slowed)
            break;
    }
    c->loop->depth--;
    if (session_state_get(c->session) == SESSION_ST_ENDED)
        return n;
    broker_conn_owe(c, out);
    if (!session_is_ready(c->session) && !c->is_waiting) {
        c->is_waiting = true;
        net_stream_pause(s);
    }
    broker_conn_arm(c);
    broker_limit_bytes(c, used, c->has_published);
    c->has_published = false;
    broker_deliver_count(c, out);
    broker_deliver_resumed(c);
    if (c->inflow)
        broker_inflow_pump(c);
    return used;
}

static void conn_drained(void *arg, struct net_stream *s)
{
    struct broker_conn *c = arg;
    (void)s;
    struct session_event ev = {.type = SESSION_EV_WRITABLE};
    broker_conn_step(c, &ev);
    if (c->inflow && c->is_open)
        broker_inflow_pump(c);
}

static void conn_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct broker_conn *c = arg;
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    broker_metric_bytes(m, BROKER_M_INGRESS_BYTES, net_stream_read_total(s), 1);
    broker_metric_bytes(m, BROKER_M_EGRESS_BYTES, net_stream_written_total(s), 1);
    c->stream = NULL;
    if (session_state_get(c->session) != SESSION_ST_ENDED) {
        struct session_event ev = {.type = SESSION_EV_LOST};
        ev.lost.is_by_client = why == NET_STREAM_END_PEER;
        broker_conn_step(c, &ev);
    }
    c->is_open = false;
    if (c->pending == 0)
        conn_free(c);
}

static void conn_timer(void *arg, usec_t now)
{
    struct broker_conn *c = arg;
    if (c->is_slowed) /* it may have sent what we do not read */
        session_excuse(c->session, now);
    usec_t at = session_deadline(c->session);
    if (at > now) {
        net_timer_set(c->loop->net, &c->timer, at);
        return;
    }
    struct session_event ev = {.type = SESSION_EV_TICK};
    broker_conn_step(c, &ev);
}

void broker_conn_accept(void *arg, struct net_loop *here, struct net_stream *s)
{
    static const struct net_stream_ops ops = {
        .read = conn_read, .drained = conn_drained, .closed = conn_closed};
    struct broker_listener *n = arg;
    struct broker *b = n->broker;
    struct broker_loop *l = &b->loop[net_loop_index(here)];
    struct broker_conn *c = mem_new(sizeof(*c));
    c->loop = l;
    c->listener = n;
    c->tenant = n->tenant;
    c->settings = broker_settings_ref(n->tenant->loop[l->index].settings);
    c->stream = s;
    c->session = session_new(&n->session_conf, net_loop_now(here));
    net_timer_init(&c->timer, conn_timer, c);
    list_init(&c->slow);
    list_init(&c->dirty);
    list_push_back(&l->conns, &c->link);
    l->conn_count++;
    net_stream_set(s, &ops, c);
    broker_conn_arm(c);
    const char *why = broker_limit_connect(c, net_loop_now(here));
    if (why) {
        broker_metric_add(broker_loop_metrics(l, c->tenant), BROKER_M_REFUSED, 1);
        broker_conn_report(c, BROKER_EV_RESOURCE_THROTTLED, why);
        net_stream_abort(s);
    }
}

/* ---- the end of the turn ---- */

void broker_conn_dirty(struct broker_conn *c)
{
    if (c->is_dirty)
        return;
    c->is_dirty = true;
    list_push_back(&c->loop->dirty, &c->dirty);
    net_loop_defer(c->loop->net, &c->loop->turn_end);
}

void broker_conn_turn_end(struct broker_loop *l)
{
    for (struct list *it; (it = list_pop_front(&l->dirty)) != NULL;) {
        struct broker_conn *c = container_of(it, struct broker_conn, dirty);
        c->is_dirty = false;
        if (c->inflow)
            broker_inflow_commit(c);
    }
}
