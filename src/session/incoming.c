/* Publishes of the client: aliases, limits, acknowledgements in order, QoS 2 ids.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants (README.md):
 * 4. Acknowledgements leave in the order of the publishes [MQTT-4.6.0-2] [MQTT-4.6.0-3]: the ring is answered from its
 *    head only.
 * 5. A received QoS 2 id is in the table from its first PUBLISH to its PUBREL or its refusal [MQTT-4.3.3-10].
 *
 * QoS 1 ids are not remembered: a repeated PUBLISH is a new one, as the specification has it [MQTT-4.3.2-5]. */
#include "session/session_priv.h"

#define RC(name) CODEC_MQTT_RC_##name
#define COUNTED (1u << 24)

/* ---- The table of received QoS 2 ids ---------------------------------------------------------------------------- */

static enum received_state state_of(uint32_t slot)
{
    return (enum received_state)(slot >> 16 & 0xFF);
}

static uint32_t home(const struct session_in *in, uint16_t id)
{
    return (uint32_t)hash_u64(id) & (in->received_cap - 1);
}

static uint32_t *received_find(const struct session_in *in, uint16_t id)
{
    if (in->received_count == 0)
        return NULL;
    for (uint32_t i = home(in, id);; i = (i + 1) & (in->received_cap - 1)) {
        if (in->received[i] == 0)
            return NULL;
        if ((uint16_t)in->received[i] == id)
            return &in->received[i];
    }
}

static void received_place(struct session_in *in, uint32_t slot)
{
    uint32_t i = home(in, (uint16_t)slot);
    while (in->received[i] != 0)
        i = (i + 1) & (in->received_cap - 1);
    in->received[i] = slot;
}

static void received_put(struct session_in *in, uint16_t id, enum received_state state, uint32_t counted)
{
    if ((in->received_count + 1) * 4 > in->received_cap * 3) {
        uint32_t *old = in->received, cap = in->received_cap;
        in->received_cap = cap ? cap * 2 : 8;
        in->received = mem_new(in->received_cap * sizeof *in->received);
        for (uint32_t i = 0; i < cap; i++)
            if (old[i] != 0)
                received_place(in, old[i]);
        mem_free(old);
    }
    received_place(in, id | (uint32_t)state << 16 | counted);
    in->received_count++;
}

static void received_set(uint32_t *slot, enum received_state state)
{
    *slot = (*slot & ~0xFF0000u) | (uint32_t)state << 16;
}

/* Takes it out; what was displaced by it moves back. */
static void received_del(struct session_in *in, uint32_t *slot)
{
    uint32_t mask = in->received_cap - 1, hole = (uint32_t)(slot - in->received);
    in->received_count--;
    in->quota_used -= (*slot & COUNTED) != 0;
    for (uint32_t i = (hole + 1) & mask; in->received[i] != 0; i = (i + 1) & mask) {
        uint32_t want = home(in, (uint16_t)in->received[i]);
        if (((i - want) & mask) >= ((i - hole) & mask)) {
            in->received[hole] = in->received[i];
            hole = i;
        }
    }
    in->received[hole] = 0;
}

/* ---- Making and breaking ---------------------------------------------------------------------------------------- */

struct session_in *session_incoming_get(struct session *s)
{
    if (s->in == NULL) {
        s->in = mem_new(sizeof *s->in);
        s->in->head = s->in->next = 1;
    }
    return s->in;
}

void session_incoming_free(struct session *s)
{
    if (s->in == NULL)
        return;
    mem_free(s->in->ring);
    mem_free(s->in->received);
    s->in = mem_free(s->in);
}

void session_incoming_restore(struct session *s, const uint16_t *id, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct session_in *in = session_incoming_get(s);
        if (id[i] != 0 && received_find(in, id[i]) == NULL)
            received_put(in, id[i], RECEIVED_RESTORED, 0);
    }
}

bool session_incoming_is_full(const struct session *s)
{
    const struct session_in *in = s->in;
    if (in->paused_until != 0 || in->sub_pending_count == SUBS_PENDING_MAX)
        return true;
    /* 5.0 clients keep to our Receive Maximum or lose their connection; the others are slowed. */
    return s->version != CODEC_MQTT_V5 && in->next - in->head >= (uint64_t)s->settings->receiving_maximum;
}

void session_incoming_check(const struct session *s)
{
    const struct session_in *in = s->in;
    if (in == NULL)
        return;
    uint32_t count = 0, counted = 0;
    must(in->head <= in->next && in->next - in->head <= in->ring_cap);
    for (uint64_t t = in->head; t < in->next; t++) {
        const struct session_incoming *p = &in->ring[t & (in->ring_cap - 1)];
        must(t != in->head || !p->is_done || s->state == SESSION_ST_ENDED); /* 4: the head is what all wait for */
        counted += p->qos == 1;
        if (p->qos == 2)
            must(received_find(in, p->packet_id) != NULL || p->is_done); /* 5 */
    }
    for (uint32_t i = 0; i < in->received_cap; i++) {
        if (in->received[i] == 0)
            continue;
        count++;
        counted += (in->received[i] & COUNTED) != 0;
        must(received_find(in, (uint16_t)in->received[i]) == &in->received[i]);
    }
    must(count == in->received_count);
    must(counted <= in->quota_used);
}

/* ---- Acknowledging ---------------------------------------------------------------------------------------------- */

/* 3.x cannot be told why; what was not accepted may only be left unacknowledged, and then the connection has to end so
 * that the client tries again.  A publish that is not permitted is acknowledged instead [MQTT-3.3.5-2]. */
static bool is_refused_old(const struct session *s, uint8_t reason)
{
    return s->version != CODEC_MQTT_V5 && reason >= 0x80 && reason != RC(NOT_AUTHORIZED);
}

/* In out->scratch. */
static struct str user_with_dropped(struct session_out *out, struct str user, uint32_t dropped)
{
    char digit[10];
    size_t at = sizeof digit;
    do {
        digit[--at] = (char)('0' + dropped % 10);
        dropped /= 10;
    } while (dropped > 0);
    out->scratch.n = 0;
    buf_put_str(&out->scratch, user);
    codec_mqtt_user_put(&out->scratch, STR("queue_full"), str_view(digit + at, sizeof digit - at));
    return buf_str(&out->scratch);
}

static void ack_put(struct session *s, struct session_out *out, const struct session_incoming *p,
                    const struct session_published *more)
{
    unsigned type = p->qos == 1 ? CODEC_MQTT_PUBACK : CODEC_MQTT_PUBREC;
    COUNT(&out->counts, acked[p->qos], 1);
    struct str user = more != NULL && more->user.n > 0 ? more->user : s->ack_user;
    if (likely(s->version != CODEC_MQTT_V5 || (p->reason == 0 && user.n == 0 && p->dropped == 0))) {
        codec_mqtt_ack_put(out->bytes, type, p->packet_id);
        return;
    }
    if (p->dropped > 0)
        user = user_with_dropped(out, user, p->dropped);
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_ack a = {.packet_id = p->packet_id, .reason = p->reason};
    session_problem(s, &a.props, more != NULL ? more->reason_string : str_view("", 0), user);
    if (codec_mqtt_ack_encode(out->bytes, &peer, type, &a) != 0)
        session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, str_of(codec_mqtt_type_name(type)));
}

static void settle(struct session *s, struct session_out *out, const struct session_incoming *p,
                   const struct session_published *more)
{
    struct session_in *in = s->in;
    if (is_refused_old(s, p->reason)) {
        session_end(s, out, p->reason == RC(TOPIC_NAME_INVALID) ? SESSION_END_INVALID_TOPIC : SESSION_END_SERVER_BUSY,
                    p->reason, "a publish that could not be accepted");
        return;
    }
    if (p->qos == 1) {
        in->quota_used--;
    } else {
        uint32_t *slot = received_find(in, p->packet_id);
        must(slot != NULL);
        if (p->reason >= 0x80 && s->version == CODEC_MQTT_V5)
            received_del(in, slot);
        else
            received_set(slot, RECEIVED_DONE);
    }
    ack_put(s, out, p, more);
}

void session_incoming_done(struct session *s, const struct session_published *p, struct session_out *out)
{
    struct session_in *in = s->in;
    if (p->token == 0)
        return;
    must(in != NULL && p->token >= in->head && p->token < in->next);
    struct session_incoming *done = &in->ring[p->token & (in->ring_cap - 1)];
    must(!done->is_done);
    done->is_done = true;
    done->reason = p->reason;
    done->dropped = p->dropped;
    while (in->head < in->next && s->state == SESSION_ST_OPEN) {
        struct session_incoming *head = &in->ring[in->head & (in->ring_cap - 1)];
        if (!head->is_done)
            break;
        settle(s, out, head, in->head == p->token ? p : NULL);
        in->head++;
    }
}

/* Puts it at the end of the ring; its token. */
static uint64_t ring_push(struct session_in *in, uint16_t packet_id, uint8_t qos)
{
    if (unlikely(in->next - in->head == in->ring_cap)) {
        uint32_t cap = in->ring_cap ? in->ring_cap * 2 : 8;
        struct session_incoming *ring = mem_alloc(cap * sizeof *ring);
        for (uint64_t t = in->head; t < in->next; t++)
            ring[t & (cap - 1)] = in->ring[t & (in->ring_cap - 1)];
        mem_free(in->ring);
        in->ring = ring;
        in->ring_cap = cap;
    }
    in->ring[in->next & (in->ring_cap - 1)] = (struct session_incoming){.packet_id = packet_id, .qos = qos};
    return in->next++;
}

/* ---- PUBLISH ---------------------------------------------------------------------------------------------------- */

/* A publish that is refused but not worth the connection: the reason as its acknowledgement, where there is one. */
static void refuse(struct session *s, const struct codec_mqtt_publish *p, enum session_end_cause cause, uint8_t reason,
                   const char *why, struct session_out *out)
{
    if (p->qos == 0 || s->version != CODEC_MQTT_V5) {
        session_end(s, out, cause, reason, why);
        return;
    }
    struct session_in *in = session_incoming_get(s);
    struct session_published done = {.reason = reason, .reason_string = str_of(why)};
    if (p->qos == 2) {
        uint32_t *slot = received_find(in, p->packet_id);
        if (slot != NULL) { /* known: the answer of then stands */
            codec_mqtt_ack_put(out->bytes, CODEC_MQTT_PUBREC, p->packet_id);
            return;
        }
        received_put(in, p->packet_id, RECEIVED_ROUTING, COUNTED);
    }
    in->quota_used++;
    done.token = ring_push(in, p->packet_id, p->qos);
    session_incoming_done(s, &done, out);
}

/* What ends the session, whatever the QoS.  0 or the reason. */
static int forbidden(const struct session *s, const struct codec_mqtt_publish *p, const char **why)
{
    const struct session_settings *t = s->settings;
    if (unlikely(p->is_retain && !t->retain_enabled)) {
        *why = "MQTT-3.2.2-14: retained messages are switched off";
        return RC(RETAIN_NOT_SUPPORTED);
    }
    if (unlikely(p->qos > t->maximum_qos)) {
        *why = "MQTT-3.2.2-11: QoS above MaximumQoS";
        return RC(QOS_NOT_SUPPORTED);
    }
    if (unlikely((int64_t)p->payload.n > t->max_user_payload_bytes)) {
        *why = "payload above MaxUserPayloadBytes";
        return RC(PACKET_TOO_LARGE);
    }
    if (likely(!p->has_props))
        return 0;
    if (p->sub_id != 0) {
        *why = "MQTT-3.3.4-6: Subscription Identifier from a client";
        return RC(PROTOCOL_ERROR);
    }
    if (p->response_topic.n > 0 && codec_topic_name_check(p->response_topic, NULL) == CODEC_TOPIC_E_INVALID) {
        *why = "MQTT-3.3.2-14: wildcard in the response topic";
        return RC(PROTOCOL_ERROR);
    }
    return 0;
}

/* The full topic, and whether it may be published to.  false: it was answered. */
static bool topic_of(struct session *s, const struct codec_mqtt_publish *p, struct str *out_topic,
                     struct session_out *out)
{
    const struct session_settings *t = s->settings;
    struct codec_topic_limits limits = {(uint32_t)t->max_topic_levels, (uint32_t)t->max_topic_level_length,
                                        (uint32_t)t->max_topic_length};
    const char *why = "MQTT-4.7.3-1: empty topic";
    *out_topic = p->topic;
    if (unlikely(p->has_alias || p->topic.n == 0)) {
        int r = session_alias_in(s, p, out_topic, &why);
        if (r != 0) {
            session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, (uint8_t)r, why);
            return false;
        }
        if (p->topic.n == 0)
            return true;
    }
    int r = codec_topic_name_check(p->topic, &limits);
    if (unlikely(r == CODEC_TOPIC_E_MALFORMED || (s->is_utf8_strict && codec_mqtt_has_control(p->topic)))) {
        session_end(s, out, SESSION_END_MALFORMED_TOPIC, RC(MALFORMED_PACKET), "MQTT-3.3.2-1: topic");
        return false;
    }
    if (unlikely(r != 0)) {
        if (p->qos > 0 && s->version == CODEC_MQTT_V5)
            session_note(out, SESSION_NOTE_INVALID_TOPIC, p->topic);
        refuse(s, p, SESSION_END_INVALID_TOPIC, RC(TOPIC_NAME_INVALID), "MQTT-3.3.2-2: topic", out);
        return false;
    }
    if (p->has_alias && session_alias_set(s, p->topic_alias, p->topic) != 0) {
        session_end(s, out, SESSION_END_OUT_OF_TENANT_RESOURCE, RC(QUOTA_EXCEEDED), "no memory for an alias");
        return false;
    }
    return true;
}

/* Does this QoS 2 publish repeat one that is known?  Then it is answered from the table. */
static bool is_repeated(struct session *s, const struct codec_mqtt_publish *p, struct session_out *out)
{
    uint32_t *slot = s->in != NULL ? received_find(s->in, p->packet_id) : NULL;
    if (slot == NULL)
        return false;
    switch (state_of(*slot)) {
    case RECEIVED_ROUTING:
        return true; /* its PUBREC comes */
    case RECEIVED_DONE:
    case RECEIVED_RELEASING:
        codec_mqtt_ack_put(out->bytes, CODEC_MQTT_PUBREC, p->packet_id);
        return true;
    case RECEIVED_RESTORED:
        break;
    }
    return false; /* the inbox knows it: routing it once more does it once in all */
}

static uint64_t token_of(struct session *s, const struct codec_mqtt_publish *p)
{
    struct session_in *in = session_incoming_get(s);
    if (p->qos == 2) {
        uint32_t *slot = received_find(in, p->packet_id);
        if (slot == NULL) {
            received_put(in, p->packet_id, RECEIVED_ROUTING, COUNTED);
            in->quota_used++;
        } else {
            received_set(slot, RECEIVED_ROUTING);
        }
    } else {
        in->quota_used++;
    }
    return ring_push(in, p->packet_id, p->qos);
}

/* One more publish of this second; at the limit reading pauses until the next one: slowed, not dropped. */
static void rate_count(struct session *s, struct session_out *out)
{
    struct session_in *in = session_incoming_get(s);
    if (out->now - in->rate_at >= USEC_SEC) {
        in->rate_at = out->now;
        in->rate_count = 0;
    }
    if (++in->rate_count < s->settings->msg_pub_per_sec)
        return;
    in->paused_until = in->rate_at + USEC_SEC;
    session_note(out, SESSION_NOTE_THROTTLED, s->client_id);
}

static void route(struct session *s, const struct codec_mqtt_publish *p, struct str topic, struct session_out *out)
{
    struct session_effect *fx = session_effect_put(out, SESSION_FX_PUBLISH);
    struct session_publish *pub = &fx->publish;
    pub->token = p->qos > 0 ? token_of(s, p) : 0;
    pub->packet_id = p->packet_id;
    pub->is_dup = p->is_dup;
    pub->is_stored = p->qos == 2 && s->incarnation != 0;
    struct codec_msg *m = &pub->msg;
    m->topic = topic;
    m->payload = p->payload;
    m->props = p->has_props ? codec_mqtt_publish_props(p, &out->scratch) : str_view("", 0);
    m->publisher = s->client_id;
    m->hlc = 0;
    m->incarnation = s->incarnation;
    m->exchange = 0;
    m->expiry_sec = p->expiry_sec;
    m->has_expiry = p->has_expiry;
    m->qos = p->qos;
    m->is_retain = p->is_retain;
    m->is_utf8 = p->is_utf8;
    atomic_init(&m->refs, 0);
    if (unlikely(s->settings->msg_pub_per_sec > 0))
        rate_count(s, out);
}

void session_incoming_publish(struct session *s, struct codec_mqtt_packet *packet, struct session_out *out)
{
    struct codec_mqtt_publish p;
    struct str topic;
    const char *why;
    int r = codec_mqtt_publish_decode(packet, s->version, &p);
    if (unlikely(r != 0)) {
        session_end_bad(s, out, r, packet->why);
        return;
    }
    r = forbidden(s, &p, &why);
    if (unlikely(r != 0)) {
        session_end_bad(s, out, r, why);
        return;
    }
    if (p.qos == 2 && is_repeated(s, &p, out))
        return;
    if (p.qos > 0 && s->version == CODEC_MQTT_V5 && s->in != NULL &&
        s->in->quota_used >= s->settings->receiving_maximum) { /* [MQTT-3.3.4-7] */
        session_end(s, out, SESSION_END_EXCEED_RECEIVING_LIMIT, RC(RECEIVE_MAXIMUM_EXCEEDED),
                    "MQTT-3.3.4-9: Receive Maximum");
        return;
    }
    if (!topic_of(s, &p, &topic, out))
        return;
    if (unlikely(p.is_utf8) && s->settings->payload_format_validation_enabled && !str_is_utf8_text(p.payload)) {
        refuse(s, &p, SESSION_END_PROTOCOL_VIOLATION, RC(PAYLOAD_FORMAT_INVALID), "MQTT5 3.3.2.3.2: not UTF-8", out);
        return;
    }
    route(s, &p, topic, out);
}

/* ---- PUBREL ----------------------------------------------------------------------------------------------------- */

void session_incoming_pubrel(struct session *s, struct codec_mqtt_packet *packet, struct session_out *out)
{
    struct codec_mqtt_ack a;
    int r = codec_mqtt_ack_decode(packet, s->version, &a);
    if (r != 0) {
        session_end_bad(s, out, r, packet->why);
        return;
    }
    uint32_t *slot = s->in != NULL ? received_find(s->in, a.packet_id) : NULL;
    if (slot == NULL) {
        struct codec_mqtt_peer peer = session_peer(s);
        struct codec_mqtt_ack comp = {.packet_id = a.packet_id, .reason = RC(PACKET_IDENTIFIER_NOT_FOUND)};
        if (codec_mqtt_ack_encode(out->bytes, &peer, CODEC_MQTT_PUBCOMP, &comp) != 0)
            session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, STR("PUBCOMP"));
        return;
    }
    switch (state_of(*slot)) {
    case RECEIVED_ROUTING:
        session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, RC(PROTOCOL_ERROR), "MQTT-4.3.3-4: PUBREL before PUBREC");
        return;
    case RECEIVED_RELEASING:
        return; /* its PUBCOMP comes */
    case RECEIVED_DONE:
    case RECEIVED_RESTORED:
        break;
    }
    if (s->incarnation == 0) {
        received_del(s->in, slot);
        codec_mqtt_ack_put(out->bytes, CODEC_MQTT_PUBCOMP, a.packet_id); /* [MQTT-4.3.3-11] */
        return;
    }
    received_set(slot, RECEIVED_RELEASING);
    session_effect_put(out, SESSION_FX_RELEASE)->release.packet_id = a.packet_id;
}

void session_incoming_released(struct session *s, uint16_t packet_id, struct session_out *out)
{
    uint32_t *slot = s->in != NULL ? received_find(s->in, packet_id) : NULL;
    must(slot != NULL && state_of(*slot) == RECEIVED_RELEASING);
    received_del(s->in, slot);
    codec_mqtt_ack_put(out->bytes, CODEC_MQTT_PUBCOMP, packet_id);
}
