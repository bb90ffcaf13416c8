/* One client: events in, bytes and effects out.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants are numbered in README.md and asserted by session_check.  This file routes events to the parts: connect,
 * incoming, outgoing, subscribe, alias, end. */
#include "session/session_priv.h"

struct session_effect *session_effect_put(struct session_out *out, enum session_effect_type type)
{
    if (unlikely(out->effect_count == out->effect_cap))
        out->effect = mem_grow(out->effect, &out->effect_cap, out->effect_count + 1, sizeof *out->effect);
    struct session_effect *fx = &out->effect[out->effect_count++];
    fx->type = type;
    return fx;
}

void session_note(struct session_out *out, enum session_note_type type, struct str text)
{
    struct session_effect *fx = session_effect_put(out, SESSION_FX_NOTE);
    fx->note.type = type;
    fx->note.text = text;
}

void session_out_deinit(struct session_out *out)
{
    out->effect = mem_free(out->effect);
    out->sub = mem_free(out->sub);
    out->effect_count = out->effect_cap = out->sub_cap = 0;
    buf_deinit(&out->scratch);
}

struct codec_mqtt_peer session_peer(const struct session *s)
{
    return (struct codec_mqtt_peer){s->version, s->packet_len_max};
}

int session_charge(struct session *s, uint64_t n)
{
    if (s->budget != NULL && budget_charge(s->budget, n) != 0)
        return BUDGET_E_FULL;
    s->charged += n;
    return 0;
}

void session_uncharge(struct session *s, uint64_t n)
{
    must(s->charged >= n);
    s->charged -= n;
    if (s->budget != NULL)
        budget_return(s->budget, n);
}

void session_problem(const struct session *s, struct codec_mqtt_props *p, struct str reason_string, struct str user)
{
    p->has = 0;
    p->user = str_view("", 0);
    if (!s->is_problem_info)
        return;
    p->user = user.n > 0 ? user : p->user;
    if (reason_string.n > 0)
        CODEC_MQTT_SET(p, REASON_STRING, reason_string, reason_string);
}

struct session *session_new(const struct session_conf *conf, usec_t now)
{
    struct session *s = mem_new(sizeof *s);
    s->settings = conf->settings;
    s->budget = conf->budget;
    s->pending = mem_new(sizeof *s->pending);
    s->pending->deadline = usec_add(now, conf->connect_timeout_usec);
    s->pending->len_max = conf->connect_len_max;
    s->pending->id3_len_max = conf->mqtt3_client_id_len_max;
    s->pending->id5_len_max = conf->mqtt5_client_id_len_max;
    s->queue_bytes_max = conf->queue_bytes_max;
    s->is_utf8_strict = conf->is_utf8_strict;
    s->is_problem_info = true; /* the default [MQTT5 3.1.2.11.7] */
    s->receive_max = UINT16_MAX;
    s->client_id = str_dup(str_view("", 0));
    s->auth_method = str_view("", 0);
    s->last_in = now;
    return s;
}

struct session *session_free(struct session *s)
{
    if (s == NULL)
        return NULL;
    struct session_counts none = {0};
    session_outgoing_close(s, &none);
    session_outgoing_free(s);
    session_incoming_free(s);
    session_alias_free(s);
    session_pending_free(s);
    codec_msg_unref(s->will);
    mem_free((void *)(uintptr_t)s->client_id.p);
    mem_free((void *)(uintptr_t)s->ack_user.p);
    if (s->auth_method.n > 0)
        mem_free((void *)(uintptr_t)s->auth_method.p);
    session_uncharge(s, s->charged);
    return mem_free(s);
}

static bool is_ready(const struct session *s)
{
    switch ((enum session_state)s->state) {
    case SESSION_ST_WAIT_CONNECT:
        return true;
    case SESSION_ST_AUTH:
        return s->wants_auth;
    case SESSION_ST_OPEN:
        return s->in == NULL || !session_incoming_is_full(s);
    case SESSION_ST_ATTACH:
    case SESSION_ST_ENDED:
        break;
    }
    return false;
}

void session_excuse(struct session *s, usec_t now)
{
    s->last_in = now;
}

bool session_is_ready(const struct session *s)
{
    return is_ready(s);
}

static void ping(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    int r = codec_mqtt_ping_decode(p);
    if (r != 0) {
        session_end_bad(s, out, r, p->why);
        return;
    }
    COUNT(&out->counts, pings, 1);
    codec_mqtt_ping_encode(out->bytes, CODEC_MQTT_PINGRESP); /* [MQTT-3.12.4-1] */
}

/* MQTT5 3.14.2.1, the column "sent by". */
static bool is_clients_reason(uint8_t reason)
{
    switch (reason) {
    case CODEC_MQTT_RC_NORMAL_DISCONNECTION:
    case CODEC_MQTT_RC_DISCONNECT_WITH_WILL:
    case CODEC_MQTT_RC_UNSPECIFIED_ERROR:
    case CODEC_MQTT_RC_MALFORMED_PACKET:
    case CODEC_MQTT_RC_PROTOCOL_ERROR:
    case CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR:
    case CODEC_MQTT_RC_TOPIC_NAME_INVALID:
    case CODEC_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED:
    case CODEC_MQTT_RC_TOPIC_ALIAS_INVALID:
    case CODEC_MQTT_RC_PACKET_TOO_LARGE:
    case CODEC_MQTT_RC_MESSAGE_RATE_TOO_HIGH:
    case CODEC_MQTT_RC_QUOTA_EXCEEDED:
    case CODEC_MQTT_RC_ADMINISTRATIVE_ACTION:
    case CODEC_MQTT_RC_PAYLOAD_FORMAT_INVALID:
        return true;
    default:
        return false;
    }
}

static void disconnect(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    struct codec_mqtt_reasoned d;
    int r = codec_mqtt_reasoned_decode(p, s->version, &d);
    if (r == 0 && !is_clients_reason(d.reason)) {
        p->why = "MQTT5 3.14.2.1: only servers give this reason";
        r = CODEC_MQTT_RC_PROTOCOL_ERROR;
    }
    if (r == 0 && CODEC_MQTT_HAS(&d.props, SERVER_REFERENCE)) {
        p->why = "MQTT5 3.14.2.2.5: only servers refer to another";
        r = CODEC_MQTT_RC_PROTOCOL_ERROR;
    }
    if (r == 0 && CODEC_MQTT_HAS(&d.props, SESSION_EXPIRY_INTERVAL)) {
        if (s->expiry_sec == 0 && d.props.session_expiry_sec != 0 && !s->settings->force_transient) {
            p->why = "MQTT5 3.14.2.2.2: session expiry after none at CONNECT";
            r = CODEC_MQTT_RC_PROTOCOL_ERROR;
        } else if (s->expiry_sec != 0) {
            int64_t max = s->settings->max_session_expiry_seconds;
            s->expiry_sec = d.props.session_expiry_sec > max ? (uint32_t)max : d.props.session_expiry_sec;
        }
    }
    if (r != 0) {
        session_end_bad(s, out, r, p->why);
        return;
    }
    session_end_by_client(s, out, SESSION_END_BY_CLIENT, d.reason, true);
}

/* A packet in an open session. */
static void packet_open(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    switch ((enum codec_mqtt_type)p->type) {
    case CODEC_MQTT_PUBLISH:
        session_incoming_publish(s, p, out);
        return;
    case CODEC_MQTT_PUBACK:
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBCOMP:
        session_outgoing_ack(s, p, out);
        return;
    case CODEC_MQTT_PUBREL:
        session_incoming_pubrel(s, p, out);
        return;
    case CODEC_MQTT_SUBSCRIBE:
    case CODEC_MQTT_UNSUBSCRIBE:
        session_subscribe(s, p, out);
        return;
    case CODEC_MQTT_PINGREQ:
        ping(s, p, out);
        return;
    case CODEC_MQTT_DISCONNECT:
        disconnect(s, p, out);
        return;
    case CODEC_MQTT_AUTH:
        session_connect_auth(s, p, out);
        return;
    case CODEC_MQTT_CONNECT:
        session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, CODEC_MQTT_RC_PROTOCOL_ERROR,
                    "MQTT-3.1.0-2: second CONNECT");
        return;
    case CODEC_MQTT_CONNACK:
    case CODEC_MQTT_SUBACK:
    case CODEC_MQTT_UNSUBACK:
    case CODEC_MQTT_PINGRESP:
        break;
    }
    session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, CODEC_MQTT_RC_PROTOCOL_ERROR,
                "a packet that only servers send");
}

static void packet(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    if (unlikely(s->state == SESSION_ST_ENDED))
        return;
    must(is_ready(s));
    s->last_in = out->now;
    if (likely(s->state == SESSION_ST_OPEN))
        packet_open(s, p, out);
    else if (s->state == SESSION_ST_WAIT_CONNECT)
        session_connect(s, p, out);
    else
        session_connect_auth(s, p, out);
}

static void begin(struct session_out *out)
{
    out->effect_count = 0;
    out->scratch.n = 0;
}

void session_packet(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    begin(out);
    packet(s, p, out);
}

void session_published(struct session *s, uint64_t token, uint8_t reason, struct session_out *out)
{
    struct session_published p = {.token = token, .reason = reason};
    begin(out);
    if (s->state != SESSION_ST_OPEN)
        return;
    bool was_ready = is_ready(s);
    session_incoming_done(s, &p, out);
    if (!was_ready && is_ready(s))
        session_effect_put(out, SESSION_FX_RESUME);
}

/* One and a half keep alive times after the last packet [MQTT-3.1.2-22]. */
static usec_t idle_at(const struct session *s)
{
    return s->keep_alive_sec > 0 ? s->last_in + s->keep_alive_sec * (USEC_SEC * 3 / 2) : USEC_NEVER;
}

/* When a client that acknowledges nothing counts as stalled. */
static usec_t stall_at(const struct session *s)
{
    const struct session_flow *f = s->flow;
    usec_t patience = (usec_t)(s->settings->max_resend_times * s->settings->resend_timeout_seconds);
    if (f == NULL || f->inflight == 0 || f->is_stalled || patience == 0)
        return USEC_NEVER;
    return usec_add(f->progress_at, patience > USEC_NEVER / USEC_SEC ? USEC_NEVER : patience * USEC_SEC);
}

static void tick(struct session *s, struct session_out *out)
{
    if (s->state != SESSION_ST_OPEN) {
        if (out->now >= s->pending->deadline)
            session_end(s, out, SESSION_END_CONNECT_TIMEOUT, CODEC_MQTT_RC_UNSPECIFIED_ERROR, "no CONNECT in time");
        return;
    }
    if (!is_ready(s)) /* it is us who do not read */
        s->last_in = out->now;
    if (out->now >= idle_at(s)) {
        session_end(s, out, SESSION_END_IDLE, CODEC_MQTT_RC_KEEP_ALIVE_TIMEOUT, "MQTT-3.1.2-22: keep alive");
        return;
    }
    if (s->in != NULL && s->in->paused_until != 0 && out->now >= s->in->paused_until)
        s->in->paused_until = 0;
    if (out->now >= stall_at(s)) {
        s->flow->is_stalled = true;
        session_note(out, SESSION_NOTE_STALLED, s->client_id);
    }
}

usec_t session_deadline(const struct session *s)
{
    if (s->state == SESSION_ST_ENDED)
        return USEC_NEVER;
    if (s->state != SESSION_ST_OPEN)
        return s->pending->deadline;
    usec_t at = idle_at(s);
    if (s->in != NULL && s->in->paused_until != 0)
        at = usec_min(at, s->in->paused_until);
    return usec_min(at, stall_at(s));
}

static bool is_connecting(const struct session *s)
{
    return s->state == SESSION_ST_AUTH || s->state == SESSION_ST_ATTACH;
}

static void lost(struct session *s, bool is_by_client, struct session_out *out)
{
    enum session_end_cause cause = is_by_client ? SESSION_END_BY_CLIENT : SESSION_END_CLIENT_CHANNEL_ERROR;
    if (s->state == SESSION_ST_AUTH && s->auth_method.n > 0)
        cause = SESSION_END_ENHANCED_AUTH_ABORT_BY_CLIENT;
    session_end_by_client(s, out, cause, 0, false);
}

/* The answers of the host; those that come too late are nobody's. */
static void answer(struct session *s, const struct session_event *ev, struct session_out *out)
{
    bool is_open = s->state == SESSION_ST_OPEN;
    switch (ev->type) {
    case SESSION_EV_AUTH_CONTINUE:
        if (s->state == SESSION_ST_AUTH || is_open)
            session_connect_continue(s, ev, out);
        break;
    case SESSION_EV_AUTHENTICATED:
        if (s->state == SESSION_ST_AUTH || is_open)
            session_connect_authenticated(s, &ev->authenticated, out);
        break;
    case SESSION_EV_REFUSED:
        if (is_connecting(s) || is_open)
            session_connect_refused(s, &ev->refused, out);
        break;
    case SESSION_EV_ATTACHED:
        if (s->state == SESSION_ST_ATTACH)
            session_connect_attached(s, &ev->attached, out);
        break;
    case SESSION_EV_PUBLISHED:
        if (is_open)
            session_incoming_done(s, &ev->published, out);
        break;
    case SESSION_EV_RELEASED:
        if (is_open)
            session_incoming_released(s, ev->released.packet_id, out);
        break;
    case SESSION_EV_SUBSCRIBED:
    case SESSION_EV_UNSUBSCRIBED:
        if (is_open)
            session_subscribed(s, ev->type == SESSION_EV_SUBSCRIBED ? CODEC_MQTT_SUBACK : CODEC_MQTT_UNSUBACK,
                               &ev->subscribed, out);
        break;
    case SESSION_EV_COMMITTED:
        if (is_open)
            session_outgoing_committed(s, out);
        break;
    case SESSION_EV_PACKET:
    case SESSION_EV_BAD_FRAME:
    case SESSION_EV_WRITABLE:
    case SESSION_EV_TICK:
    case SESSION_EV_LOST:
    case SESSION_EV_KICK:
    case SESSION_EV_SETTINGS:
        break;
    }
}

void session_step(struct session *s, const struct session_event *ev, struct session_out *out)
{
    begin(out);
    if (s->state == SESSION_ST_ENDED)
        return;
    bool was_ready = is_ready(s);
    switch (ev->type) {
    case SESSION_EV_PACKET:
        packet(s, ev->packet, out);
        return;
    case SESSION_EV_BAD_FRAME:
        s->last_in = out->now;
        session_end_bad(s, out, ev->bad_frame,
                        ev->bad_frame == CODEC_MQTT_E_TOO_LARGE ? "longer than the Maximum Packet Size" : "no packet");
        return;
    case SESSION_EV_WRITABLE:
        if (s->state == SESSION_ST_OPEN)
            session_outgoing_pump(s, out);
        break;
    case SESSION_EV_TICK:
        tick(s, out);
        break;
    case SESSION_EV_LOST:
        lost(s, ev->lost.is_by_client, out);
        break;
    case SESSION_EV_KICK:
        session_end_with(s, out, &ev->kick, NULL);
        break;
    case SESSION_EV_SETTINGS:
        s->settings = ev->renewed.settings;
        session_connect_ack_user(s, ev->renewed.ack_user);
        break;
    case SESSION_EV_AUTH_CONTINUE:
    case SESSION_EV_AUTHENTICATED:
    case SESSION_EV_REFUSED:
    case SESSION_EV_ATTACHED:
    case SESSION_EV_PUBLISHED:
    case SESSION_EV_RELEASED:
    case SESSION_EV_SUBSCRIBED:
    case SESSION_EV_UNSUBSCRIBED:
    case SESSION_EV_COMMITTED:
        answer(s, ev, out);
        break;
    }
    if (!was_ready && is_ready(s))
        session_effect_put(out, SESSION_FX_RESUME);
}

void session_check(const struct session *s)
{
    must(s->state <= SESSION_ST_ENDED);
    must((s->state == SESSION_ST_OPEN || s->state == SESSION_ST_ENDED) == (s->pending == NULL));
    must(s->state != SESSION_ST_OPEN || s->version >= CODEC_MQTT_V31);
    must(s->state != SESSION_ST_ENDED || s->charged == 0); /* 8 */
    must(s->state != SESSION_ST_OPEN || s->client_id.n > 0);
    session_incoming_check(s);
    session_outgoing_check(s);
}

enum session_state session_state_get(const struct session *s)
{
    return (enum session_state)s->state;
}

size_t session_packet_len_max(const struct session *s)
{
    if (s->state != SESSION_ST_OPEN)
        return s->pending != NULL ? s->pending->len_max : 0;
    size_t n = (size_t)s->settings->max_user_payload_bytes + PACKET_HEADROOM;
    return n < CODEC_MQTT_PACKET_MAX ? n : CODEC_MQTT_PACKET_MAX;
}

struct str session_client_id(const struct session *s)
{
    return s->client_id;
}

unsigned session_version(const struct session *s)
{
    return s->version;
}

bool session_is_persistent(const struct session *s)
{
    return s->incarnation != 0 || (is_connecting(s) && s->expiry_sec > 0);
}

const struct codec_msg *session_will(const struct session *s)
{
    return s->will;
}

uint32_t session_expiry_sec(const struct session *s)
{
    return s->expiry_sec;
}

uint16_t session_keep_alive_sec(const struct session *s)
{
    return s->keep_alive_sec;
}
