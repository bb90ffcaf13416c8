/* How a session ends.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: exactly one SESSION_FX_END per session, the last effect; what was queued is counted as dropped and its
 * charge given back; DISCONNECT goes only to 5.0 clients of open sessions, CONNACK only to those that wait for one. */
#include "session/session_priv.h"

const char *session_end_name(enum session_end_cause cause)
{
    static const char *const name[SESSION_END_COUNT] = {
#define X(NAME, meaning) #NAME,
#include "session/end.def"
#undef X
    };
    return cause < SESSION_END_COUNT ? name[cause] : "?";
}

static enum session_will_verdict verdict(const struct session *s, const struct session_end *end, bool has_disconnect)
{
    if (s->will == NULL || !end->was_open)
        return SESSION_WILL_NONE;
    if (has_disconnect && end->reason == CODEC_MQTT_RC_NORMAL_DISCONNECTION)
        return SESSION_WILL_NONE; /* [MQTT-3.1.2-10] [MQTT-3.14.4-3] */
    if (end->cause == SESSION_END_BY_SERVER && s->settings->no_lwt_when_server_shutting_down)
        return SESSION_WILL_SUPPRESS;
    return SESSION_WILL_DUE; /* [MQTT-3.1.2-8] */
}

/* The common last step. */
static void finish(struct session *s, struct session_out *out, struct session_end end, bool has_disconnect)
{
    end.was_open = s->state == SESSION_ST_OPEN;
    end.will = verdict(s, &end, has_disconnect);
    end.expiry_sec = s->expiry_sec;
    end.will_delay_sec = s->will_delay_sec < s->expiry_sec ? s->will_delay_sec : s->expiry_sec;
    s->state = SESSION_ST_ENDED;
    session_outgoing_close(s, &out->counts);
    session_alias_free(s);
    session_pending_free(s);
    session_uncharge(s, s->charged);
    session_effect_put(out, SESSION_FX_END)->end = end;
}

void session_end_with(struct session *s, struct session_out *out, const struct session_refused *how, const char *why)
{
    struct session_end end = {.cause = how->cause, .reason = how->reason, .why = why};
    if (s->state != SESSION_ST_OPEN) {
        session_connack_refuse(s, out, how);
    } else if (s->version == CODEC_MQTT_V5) { /* [MQTT-4.13.2-1] */
        struct codec_mqtt_peer peer = session_peer(s);
        struct codec_mqtt_reasoned d = {.reason = how->reason};
        d.props.user = how->user;
        if (s->is_problem_info && how->reason_string.n > 0)
            CODEC_MQTT_SET(&d.props, REASON_STRING, reason_string, how->reason_string);
        if (how->server_reference.n > 0)
            CODEC_MQTT_SET(&d.props, SERVER_REFERENCE, server_reference, how->server_reference);
        if (codec_mqtt_reasoned_encode(out->bytes, &peer, CODEC_MQTT_DISCONNECT, &d) != 0)
            session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, STR("DISCONNECT"));
    }
    finish(s, out, end, false);
}

void session_end(struct session *s, struct session_out *out, enum session_end_cause cause, uint8_t reason,
                 const char *why)
{
    struct session_refused how = {.cause = cause, .reason = reason, .reason_string = str_of(why)};
    session_end_with(s, out, &how, why);
}

void session_end_by_client(struct session *s, struct session_out *out, enum session_end_cause cause, uint8_t reason,
                           bool has_disconnect)
{
    bool is_by_client = cause != SESSION_END_CLIENT_CHANNEL_ERROR;
    struct session_end end = {.cause = cause, .reason = reason, .is_by_client = is_by_client};
    finish(s, out, end, has_disconnect);
}

void session_end_bad(struct session *s, struct session_out *out, int reason, const char *why)
{
    enum session_end_cause cause = SESSION_END_PROTOCOL_VIOLATION;
    if (s->state != SESSION_ST_OPEN)
        cause = SESSION_END_PROTOCOL_ERROR;
    else if (reason == CODEC_MQTT_RC_MALFORMED_PACKET || reason == CODEC_MQTT_RC_PACKET_TOO_LARGE)
        cause = SESSION_END_BAD_PACKET;
    session_end(s, out, cause, (uint8_t)reason, why);
}
