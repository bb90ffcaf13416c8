/* From CONNECT to CONNACK, and re-authentication.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 * 1. A client gets one CONNACK; one with a refusal is followed by the end of the connection [MQTT-3.2.2-5].
 * 2. The views of the pending CONNECT stay until CONNACK.
 * 3. What the tenant's settings forbid is refused before anything is attached. */
#include "session/session_priv.h"

#define RC(name) CODEC_MQTT_RC_##name

void session_pending_free(struct session *s)
{
    if (s->pending == NULL)
        return;
    buf_deinit(&s->pending->body);
    buf_deinit(&s->pending->scratch);
    buf_deinit(&s->pending->answer);
    s->pending = mem_free(s->pending);
}

/* The return code of 3.x that says it best; 0: none does, just close. */
static uint8_t return_code(uint8_t reason)
{
    switch (reason) {
    case RC(UNSUPPORTED_PROTOCOL_VERSION):
        return 1;
    case RC(CLIENT_IDENTIFIER_NOT_VALID):
        return 2;
    case RC(UNSPECIFIED_ERROR):
    case RC(IMPLEMENTATION_SPECIFIC_ERROR):
    case RC(SERVER_UNAVAILABLE):
    case RC(SERVER_BUSY):
    case RC(QUOTA_EXCEEDED):
    case RC(USE_ANOTHER_SERVER):
    case RC(SERVER_MOVED):
    case RC(CONNECTION_RATE_EXCEEDED):
    case RC(SERVER_SHUTTING_DOWN):
        return 3;
    case RC(BAD_USER_NAME_OR_PASSWORD):
    case RC(BAD_AUTHENTICATION_METHOD):
        return 4;
    case RC(NOT_AUTHORIZED):
    case RC(BANNED):
        return 5;
    default:
        return 0;
    }
}

void session_connack_refuse(struct session *s, struct session_out *out, const struct session_refused *r)
{
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_connack c = {.reason = r->reason};
    if (s->version == 0) /* it did not even say which MQTT */
        return;
    if (s->version != CODEC_MQTT_V5) {
        c.reason = return_code(r->reason);
        if (c.reason == 0)
            return;
    } else if (!codec_mqtt_reason_fits(r->reason, CODEC_MQTT_CONNACK)) {
        c.reason = RC(UNSPECIFIED_ERROR);
    }
    c.props.user = r->user;
    if (s->is_problem_info && r->reason_string.n > 0)
        CODEC_MQTT_SET(&c.props, REASON_STRING, reason_string, r->reason_string);
    if (r->server_reference.n > 0)
        CODEC_MQTT_SET(&c.props, SERVER_REFERENCE, server_reference, r->server_reference);
    if (codec_mqtt_connack_encode(out->bytes, &peer, &c) != 0)
        session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, STR("CONNACK"));
}

/* Everything that needs no tenant.  0 or the reason; *out_cause and *why with it. */
static uint8_t sanity(const struct session *s, const struct codec_mqtt_connect *c, enum session_end_cause *out_cause,
                      const char **why)
{
    uint32_t id_len_max = c->version == CODEC_MQTT_V5 ? s->pending->id5_len_max : s->pending->id3_len_max;
    bool is_v5 = c->version == CODEC_MQTT_V5;
    *out_cause = SESSION_END_IDENTIFIER_REJECTED;
    *why = "MQTT-3.1.3-8: client identifier";
    if (id_len_max != 0 && c->client_id.n > id_len_max)
        return RC(CLIENT_IDENTIFIER_NOT_VALID);
    if (c->client_id.n == 0 && !is_v5 && (c->version == CODEC_MQTT_V31 || !c->is_clean))
        return RC(CLIENT_IDENTIFIER_NOT_VALID);
    *out_cause = SESSION_END_MALFORMED_CLIENT_IDENTIFIER;
    if (!str_is_utf8(c->client_id) || (s->is_utf8_strict && codec_mqtt_has_control(c->client_id)))
        return is_v5 ? RC(CLIENT_IDENTIFIER_NOT_VALID) : RC(MALFORMED_PACKET);
    *out_cause = SESSION_END_MALFORMED_USERNAME;
    *why = "MQTT-3.1.3-11: user name";
    if (!str_is_utf8(c->username) || (s->is_utf8_strict && codec_mqtt_has_control(c->username)))
        return RC(MALFORMED_PACKET);
    *out_cause = SESSION_END_MALFORMED_WILL_TOPIC;
    *why = "MQTT-3.1.3-10: will topic";
    if (c->has_will && !str_is_utf8(c->will.topic))
        return RC(MALFORMED_PACKET);
    return 0;
}

/* What the client asked for that holds for the whole connection. */
static void note_wishes(struct session *s, const struct codec_mqtt_connect *c)
{
    const struct codec_mqtt_props *p = &c->props;
    s->version = c->version;
    s->keep_alive_sec = c->keep_alive_sec;
    s->is_clean = c->is_clean;
    if (CODEC_MQTT_HAS(p, REQUEST_PROBLEM_INFORMATION))
        s->is_problem_info = p->request_problem_info != 0;
    if (CODEC_MQTT_HAS(p, MAXIMUM_PACKET_SIZE))
        s->packet_len_max = p->packet_len_max;
    if (CODEC_MQTT_HAS(p, RECEIVE_MAXIMUM))
        s->receive_max = p->receive_max;
    if (CODEC_MQTT_HAS(p, TOPIC_ALIAS_MAXIMUM))
        s->alias_max = p->topic_alias_max;
    if (CODEC_MQTT_HAS(p, AUTHENTICATION_METHOD) && p->auth_method.n > 0)
        s->auth_method = str_dup(p->auth_method);
}

static void unsupported(struct session *s, struct session_out *out, uint8_t level, const char *why)
{
    if (level > CODEC_MQTT_V5 && level < 0x80)
        s->version = CODEC_MQTT_V5; /* the newest that we can say no in */
    else if (level != 0)
        s->version = CODEC_MQTT_V311;
    session_end(s, out, SESSION_END_UNACCEPTED_PROTOCOL_VER, RC(UNSUPPORTED_PROTOCOL_VERSION), why);
}

void session_connect(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    struct session_pending *w = s->pending;
    enum session_end_cause cause;
    const char *why;
    if (p->type != CODEC_MQTT_CONNECT) {
        session_end(s, out, SESSION_END_PROTOCOL_ERROR, RC(PROTOCOL_ERROR), "MQTT-3.1.0-1: CONNECT comes first");
        return;
    }
    if (session_charge(s, p->body.n) != 0) {
        session_end(s, out, SESSION_END_SERVER_BUSY, RC(SERVER_BUSY), "no memory for a CONNECT");
        return;
    }
    buf_put_str(&w->body, p->body);
    p->body = buf_str(&w->body);
    int r = codec_mqtt_connect_decode(p, &w->scratch, &w->connect);
    if (r == RC(UNSUPPORTED_PROTOCOL_VERSION)) {
        unsupported(s, out, w->connect.version, p->why);
        return;
    }
    if (r != 0) {
        s->version = w->connect.version;
        session_end_bad(s, out, r, p->why);
        return;
    }
    note_wishes(s, &w->connect);
    uint8_t reason = sanity(s, &w->connect, &cause, &why);
    if (reason != 0) {
        session_end(s, out, cause, reason, why);
        return;
    }
    s->state = SESSION_ST_AUTH;
    s->is_auth_running = true;
    session_effect_put(out, SESSION_FX_AUTHENTICATE)->connect = &w->connect;
}

void session_connect_auth(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    struct codec_mqtt_reasoned a;
    bool is_open = s->state == SESSION_ST_OPEN;
    int r = 0;
    if (p->type == CODEC_MQTT_DISCONNECT && !is_open) {
        session_end_by_client(s, out, SESSION_END_ENHANCED_AUTH_ABORT_BY_CLIENT, 0, false);
        return;
    }
    p->why = "MQTT-4.12.0-1: no AUTH is expected";
    if (p->type != CODEC_MQTT_AUTH)
        r = RC(PROTOCOL_ERROR);
    if (r == 0)
        r = codec_mqtt_reasoned_decode(p, s->version, &a);
    if (r == 0 && (s->auth_method.n == 0 || s->is_auth_running)) {
        p->why = "MQTT-4.12.0-7: no AUTH is expected";
        r = RC(PROTOCOL_ERROR);
    }
    if (r == 0 && a.reason != (s->wants_auth ? RC(CONTINUE_AUTHENTICATION) : RC(RE_AUTHENTICATE))) {
        p->why = "MQTT-4.12.0-3: reason of AUTH";
        r = RC(PROTOCOL_ERROR);
    }
    if (r == 0 && !(CODEC_MQTT_HAS(&a.props, AUTHENTICATION_METHOD) && str_eq(a.props.auth_method, s->auth_method))) {
        p->why = "MQTT-4.12.1-1: authentication method changed";
        r = RC(PROTOCOL_ERROR);
    }
    if (r != 0) {
        session_end_bad(s, out, r, p->why);
        return;
    }
    s->is_auth_running = true;
    s->wants_auth = false;
    struct session_effect *fx = session_effect_put(out, SESSION_FX_AUTH);
    fx->auth.method = s->auth_method;
    fx->auth.data = CODEC_MQTT_HAS(&a.props, AUTHENTICATION_DATA) ? a.props.auth_data : str_view("", 0);
    fx->auth.is_reauth = is_open;
}

static void auth_put(struct session *s, struct session_out *out, uint8_t reason, struct str data,
                     struct str reason_string, struct str user)
{
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_reasoned a = {.reason = reason};
    session_problem(s, &a.props, reason_string, user);
    CODEC_MQTT_SET(&a.props, AUTHENTICATION_METHOD, auth_method, s->auth_method);
    if (data.n > 0)
        CODEC_MQTT_SET(&a.props, AUTHENTICATION_DATA, auth_data, data);
    if (codec_mqtt_reasoned_encode(out->bytes, &peer, CODEC_MQTT_AUTH, &a) != 0)
        session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, STR("AUTH"));
}

void session_connect_continue(struct session *s, const struct session_event *ev, struct session_out *out)
{
    if (!s->is_auth_running)
        return;
    must(s->auth_method.n > 0); /* the host may not challenge who did not ask for it [MQTT-4.12.0-6] */
    s->is_auth_running = false;
    s->wants_auth = true;
    auth_put(s, out, RC(CONTINUE_AUTHENTICATION), ev->auth.data, ev->auth.reason_string, ev->auth.user);
}

static bool is_version_on(const struct session *s)
{
    return s->version == CODEC_MQTT_V5    ? s->settings->mqtt5_enabled
           : s->version == CODEC_MQTT_V31 ? s->settings->mqtt3_enabled
                                          : s->settings->mqtt4_enabled;
}

/* May this will be?  0 or the reason. */
static uint8_t will_check(const struct session *s, const struct codec_mqtt_will *w, enum session_end_cause *out_cause,
                          const char **why)
{
    const struct session_settings *t = s->settings;
    struct codec_topic_limits limits = {(uint32_t)t->max_topic_levels, (uint32_t)t->max_topic_level_length,
                                        (uint32_t)t->max_topic_length};
    *out_cause = SESSION_END_PROTOCOL_VIOLATION;
    *why = "will larger than MaxLastWillBytes or MaxUserPayloadBytes";
    if ((int64_t)w->len > t->max_last_will_bytes || (int64_t)w->payload.n > t->max_user_payload_bytes)
        return RC(PACKET_TOO_LARGE);
    *why = "MQTT-3.2.2-13: retained wills are switched off";
    if (w->is_retain && !t->retain_enabled)
        return RC(RETAIN_NOT_SUPPORTED);
    *why = "MQTT-3.2.2-12: will QoS above MaximumQoS";
    if (w->qos > t->maximum_qos)
        return RC(QOS_NOT_SUPPORTED);
    *why = "MQTT5 3.1.3.2.3: will payload is not UTF-8";
    if (w->is_utf8 && t->payload_format_validation_enabled && !str_is_utf8_text(w->payload))
        return RC(PAYLOAD_FORMAT_INVALID);
    *why = "MQTT-3.3.2-14: wildcard in the response topic";
    if (w->response_topic.n > 0 && codec_topic_name_check(w->response_topic, NULL) == CODEC_TOPIC_E_INVALID)
        return RC(PROTOCOL_ERROR);
    *out_cause = SESSION_END_INVALID_TOPIC;
    *why = "will topic";
    return codec_topic_name_check(w->topic, &limits) != 0 ? RC(TOPIC_NAME_INVALID) : 0;
}

static uint32_t expiry_of(const struct session *s, const struct codec_mqtt_connect *c, bool is_transient)
{
    const struct session_settings *t = s->settings;
    if (is_transient || t->force_transient)
        return 0;
    if (c->version != CODEC_MQTT_V5)
        return c->is_clean ? 0 : (uint32_t)t->max_session_expiry_seconds;
    int64_t wish = CODEC_MQTT_HAS(&c->props, SESSION_EXPIRY_INTERVAL) ? c->props.session_expiry_sec : 0;
    if (wish == 0)
        return 0;
    wish = wish < t->min_session_expiry_seconds ? t->min_session_expiry_seconds : wish;
    return (uint32_t)(wish > t->max_session_expiry_seconds ? t->max_session_expiry_seconds : wish);
}

static void will_keep(struct session *s, const struct codec_mqtt_connect *c)
{
    struct codec_msg m = {.topic = c->will.topic, .payload = c->will.payload, .props = c->will.props,
                          .publisher = s->client_id, .expiry_sec = c->will.expiry_sec,
                          .has_expiry = c->will.has_expiry, .qos = c->will.qos, .is_retain = c->will.is_retain,
                          .is_utf8 = c->will.is_utf8};
    s->will = codec_msg_keep(&m);
    s->will_delay_sec = c->will.delay_sec;
}

void session_connect_ack_user(struct session *s, struct str user)
{
    mem_free((void *)(uintptr_t)s->ack_user.p);
    s->ack_user = user.n > 0 && s->version == CODEC_MQTT_V5 ? str_dup(user) : str_view(NULL, 0);
}

/* The client may connect: now its tenant's settings decide. */
static void admitted(struct session *s, const struct session_authenticated *a, struct session_out *out)
{
    struct session_pending *w = s->pending;
    const struct codec_mqtt_connect *c = &w->connect;
    enum session_end_cause cause;
    const char *why;
    s->settings = a->settings;
    s->has_settings = true;
    if (!is_version_on(s)) {
        session_end(s, out, SESSION_END_UNACCEPTED_PROTOCOL_VER, RC(UNSUPPORTED_PROTOCOL_VERSION),
                    "MQTT-3.1.2-2: this version is switched off");
        return;
    }
    uint8_t reason = c->has_will ? will_check(s, &c->will, &cause, &why) : 0;
    if (reason != 0) {
        session_end(s, out, cause, reason, why);
        return;
    }
    s->is_assigned_id = c->client_id.n == 0;
    must(!s->is_assigned_id || a->assigned_client_id.n > 0);
    mem_free((void *)(uintptr_t)s->client_id.p);
    s->client_id = str_dup(s->is_assigned_id ? a->assigned_client_id : c->client_id);
    session_connect_ack_user(s, a->ack_user);
    if (s->keep_alive_sec > 0 && s->keep_alive_sec < s->settings->min_keep_alive_seconds)
        s->keep_alive_sec = (uint16_t)s->settings->min_keep_alive_seconds;
    s->expiry_sec = expiry_of(s, c, a->is_transient);
    s->is_clean = c->is_clean || a->is_transient || s->settings->force_transient;
    if (c->has_will)
        will_keep(s, c);
    buf_put_str(&w->answer, a->response_info);
    buf_put_str(&w->answer, a->auth_data);
    buf_put_str(&w->answer, a->user);
    w->response_info_len = a->response_info.n;
    w->auth_data_len = a->auth_data.n;
    s->state = SESSION_ST_ATTACH;
    session_effect_put(out, SESSION_FX_ATTACH)->attach = (struct session_attach){
        .client_id = s->client_id, .is_clean_start = s->is_clean, .is_persistent = s->expiry_sec > 0,
        .expiry_sec = s->expiry_sec, .will = s->will, .will_delay_sec = s->will_delay_sec,
        .keep_alive_sec = s->keep_alive_sec};
}

void session_connect_authenticated(struct session *s, const struct session_authenticated *a,
                                   struct session_out *out)
{
    if (!s->is_auth_running)
        return;
    s->is_auth_running = s->wants_auth = false;
    if (s->state == SESSION_ST_OPEN)
        auth_put(s, out, RC(SUCCESS), a->auth_data, str_view("", 0), a->user);
    else
        admitted(s, a, out);
}

void session_connect_refused(struct session *s, const struct session_refused *r, struct session_out *out)
{
    struct session_refused how = *r;
    if (s->state == SESSION_ST_OPEN) {
        if (!s->is_auth_running)
            return;
        how.cause = SESSION_END_RE_AUTH_FAILED; /* [MQTT-4.12.1-2] */
        if (!codec_mqtt_reason_fits(how.reason, CODEC_MQTT_DISCONNECT))
            how.reason = RC(NOT_AUTHORIZED);
    }
    session_end_with(s, out, &how, NULL);
}

/* What a 5.0 client is told about its session and about us. */
static void connack_props(const struct session *s, struct codec_mqtt_props *p)
{
    const struct session_pending *w = s->pending;
    const struct session_settings *t = s->settings;
    const struct codec_mqtt_props *c = &w->connect.props;
    struct str answer = buf_str(&w->answer);
    uint32_t wish = CODEC_MQTT_HAS(c, SESSION_EXPIRY_INTERVAL) ? c->session_expiry_sec : 0;
    if (s->expiry_sec != wish)
        CODEC_MQTT_SET(p, SESSION_EXPIRY_INTERVAL, session_expiry_sec, s->expiry_sec);
    if (t->receiving_maximum < UINT16_MAX)
        CODEC_MQTT_SET(p, RECEIVE_MAXIMUM, receive_max, (uint16_t)t->receiving_maximum);
    if (t->maximum_qos < 2)
        CODEC_MQTT_SET(p, MAXIMUM_QOS, maximum_qos, (uint8_t)t->maximum_qos);
    if (!t->retain_enabled)
        CODEC_MQTT_SET(p, RETAIN_AVAILABLE, retain_available, 0);
    CODEC_MQTT_SET(p, MAXIMUM_PACKET_SIZE, packet_len_max, (uint32_t)session_packet_len_max(s));
    if (s->is_assigned_id)
        CODEC_MQTT_SET(p, ASSIGNED_CLIENT_IDENTIFIER, assigned_client_id, s->client_id);
    if (t->max_topic_alias > 0)
        CODEC_MQTT_SET(p, TOPIC_ALIAS_MAXIMUM, topic_alias_max, (uint16_t)t->max_topic_alias);
    if (!t->wildcard_subscription_enabled)
        CODEC_MQTT_SET(p, WILDCARD_SUBSCRIPTION_AVAILABLE, wildcard_available, 0);
    if (!t->subscription_identifier_enabled)
        CODEC_MQTT_SET(p, SUBSCRIPTION_IDENTIFIER_AVAILABLE, subscription_id_available, 0);
    if (!t->shared_subscription_enabled)
        CODEC_MQTT_SET(p, SHARED_SUBSCRIPTION_AVAILABLE, shared_available, 0);
    if (s->keep_alive_sec != w->connect.keep_alive_sec)
        CODEC_MQTT_SET(p, SERVER_KEEP_ALIVE, server_keep_alive_sec, s->keep_alive_sec);
    bool wants_info = CODEC_MQTT_HAS(c, REQUEST_RESPONSE_INFORMATION) && c->request_response_info == 1;
    if (wants_info && w->response_info_len > 0) /* [MQTT-3.1.2-28] */
        CODEC_MQTT_SET(p, RESPONSE_INFORMATION, response_info, str_view(answer.p, w->response_info_len));
    if (s->auth_method.n > 0) /* [MQTT-4.12.0-5] */
        CODEC_MQTT_SET(p, AUTHENTICATION_METHOD, auth_method, s->auth_method);
    if (w->auth_data_len > 0 && s->auth_method.n > 0)
        CODEC_MQTT_SET(p, AUTHENTICATION_DATA, auth_data, str_view(answer.p + w->response_info_len, w->auth_data_len));
    size_t skip = w->response_info_len + w->auth_data_len;
    if (answer.n > skip)
        p->user = str_view(answer.p + skip, answer.n - skip);
}

void session_connect_attached(struct session *s, const struct session_attached *a, struct session_out *out)
{
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_connack c = {.is_session_present = a->is_session_present && s->version != CODEC_MQTT_V31};
    must(!(s->is_clean && a->is_session_present)); /* [MQTT-3.2.2-2] */
    must(s->expiry_sec == 0 || a->incarnation != 0);
    s->state = SESSION_ST_OPEN;
    s->incarnation = a->incarnation;
    s->last_in = out->now;
    if (s->version == CODEC_MQTT_V5)
        connack_props(s, &c.props);
    int r = codec_mqtt_connack_encode(out->bytes, &peer, &c);
    session_uncharge(s, s->pending->body.n);
    session_pending_free(s);
    if (r != 0) { /* it allows less than the answer to its own CONNECT */
        session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, RC(PACKET_TOO_LARGE),
                    "CONNACK is over the client's Maximum Packet Size");
        return;
    }
    session_incoming_restore(s, a->received, a->received_count);
    struct session_effect *fx = session_effect_put(out, SESSION_FX_CONNECTED);
    fx->connected.is_session_present = a->is_session_present;
    fx->connected.keep_alive_sec = s->keep_alive_sec;
    session_outgoing_restore(s, a, out);
}
