/* SUBSCRIBE and UNSUBSCRIBE.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: an acknowledgement has one code per filter, in their order [MQTT-3.8.4-6]; a packet identifier has one
 * request under way; requests under way are bounded by pausing the reader. */
#include "session/session_priv.h"

#define RC(name) CODEC_MQTT_RC_##name

/* Of one filter: 0xFF to perform it, a reason to refuse it, or (*why set) a reason to end the session. */
static uint8_t judge(const struct session *s, unsigned type, const struct codec_mqtt_sub *in, struct session_sub *sub,
                     const char **why)
{
    const struct session_settings *t = s->settings;
    struct codec_topic_limits limits = {(uint32_t)t->max_topic_levels, (uint32_t)t->max_topic_level_length,
                                        (uint32_t)t->max_topic_length};
    int r = codec_topic_filter_parse(in->filter, &limits, &sub->filter);
    if (r == CODEC_TOPIC_E_MALFORMED || (s->is_utf8_strict && codec_mqtt_has_control(in->filter))) {
        *why = "MQTT-3.8.3-1: topic filter";
        return RC(MALFORMED_PACKET);
    }
    bool is_shared = sub->filter.kind != CODEC_TOPIC_NORMAL;
    if (is_shared && in->is_no_local) {
        *why = "MQTT-3.8.3-4: No Local on a shared subscription";
        return RC(PROTOCOL_ERROR);
    }
    if (r != 0)
        return RC(TOPIC_FILTER_INVALID);
    if (type == CODEC_MQTT_UNSUBSCRIBE)
        return SESSION_SUB_PERFORM;
    if (is_shared && !t->shared_subscription_enabled)
        return RC(SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
    if (sub->filter.has_wildcard && !t->wildcard_subscription_enabled)
        return RC(WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
    return SESSION_SUB_PERFORM;
}

/* Fills out->sub; the number of filters to perform, or -1 when the session ended. */
static int64_t list_filters(struct session *s, unsigned type, const struct codec_mqtt_subscribe *req,
                            struct session_out *out)
{
    struct codec_mqtt_sub in;
    int64_t performed = 0;
    uint32_t n = 0;
    out->sub = mem_grow(out->sub, &out->sub_cap, req->count, sizeof *out->sub);
    for (struct str rest = req->list; codec_mqtt_sub_next(&rest, type, &in); n++) {
        struct session_sub *sub = &out->sub[n];
        const char *why = NULL;
        *sub = (struct session_sub){.qos = in.qos, .is_no_local = in.is_no_local,
                                    .is_retain_as_published = in.is_retain_as_published,
                                    .retain_handling = in.retain_handling};
        if (sub->qos > s->settings->maximum_qos)
            sub->qos = (uint8_t)s->settings->maximum_qos;
        sub->reason = judge(s, type, &in, sub, &why);
        if (why != NULL) {
            session_end(s, out,
                        sub->reason == RC(MALFORMED_PACKET) ? SESSION_END_MALFORMED_TOPIC_FILTER
                                                            : SESSION_END_PROTOCOL_VIOLATION,
                        sub->reason, why);
            return -1;
        }
        if (sub->reason == RC(TOPIC_FILTER_INVALID))
            session_note(out, SESSION_NOTE_INVALID_TOPIC_FILTER, in.filter);
        performed += sub->reason == SESSION_SUB_PERFORM;
    }
    must(n == req->count);
    return performed;
}

static void suback_put(struct session *s, unsigned type, const struct codec_mqtt_suback *a, struct session_out *out)
{
    struct codec_mqtt_peer peer = session_peer(s);
    if (codec_mqtt_suback_encode(out->bytes, &peer, type, a) != 0)
        session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, RC(PACKET_TOO_LARGE),
                    "an acknowledgement is over the client's Maximum Packet Size");
}

/* One code for all filters, or (0) the code that each already has. */
static void refuse_all(struct session *s, unsigned type, const struct codec_mqtt_subscribe *req, uint8_t code,
                       struct session_out *out)
{
    size_t at = out->scratch.n;
    (void)buf_reserve(&out->scratch, req->count);
    for (uint32_t i = 0; i < req->count; i++)
        buf_put_u8(&out->scratch, code != 0 ? code : out->sub[i].reason);
    struct codec_mqtt_suback a = {.packet_id = req->packet_id, .codes = str_view(out->scratch.p + at, req->count)};
    suback_put(s, type, &a, out);
}

static int pending_find(const struct session_in *in, uint16_t packet_id)
{
    for (int i = 0; i < in->sub_pending_count; i++)
        if (in->sub_pending[i] == packet_id)
            return i;
    return -1;
}

void session_subscribe(struct session *s, struct codec_mqtt_packet *p, struct session_out *out)
{
    struct codec_mqtt_subscribe req;
    bool is_sub = p->type == CODEC_MQTT_SUBSCRIBE;
    unsigned ack = is_sub ? CODEC_MQTT_SUBACK : CODEC_MQTT_UNSUBACK;
    int r = codec_mqtt_subscribe_decode(p, s->version, &req);
    if (r != 0) {
        session_end_bad(s, out, r, p->why);
        return;
    }
    if (req.count > s->settings->max_topic_filters_per_sub) {
        session_end(s, out, is_sub ? SESSION_END_TOO_LARGE_SUBSCRIPTION : SESSION_END_TOO_LARGE_UNSUBSCRIPTION,
                    RC(ADMINISTRATIVE_ACTION), "more filters than MaxTopicFiltersPerSub");
        return;
    }
    struct session_in *in = session_incoming_get(s);
    if (pending_find(in, req.packet_id) >= 0) {
        refuse_all(s, ack, &req, RC(PACKET_IDENTIFIER_IN_USE), out);
        return;
    }
    uint32_t sub_id = CODEC_MQTT_HAS(&req.props, SUBSCRIPTION_IDENTIFIER) ? req.props.subscription_id : 0;
    if (sub_id != 0 && !s->settings->subscription_identifier_enabled) {
        refuse_all(s, ack, &req, RC(SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED), out);
        return;
    }
    int64_t performed = list_filters(s, p->type, &req, out);
    if (performed <= 0) {
        if (performed == 0)
            refuse_all(s, ack, &req, 0, out);
        return;
    }
    must(in->sub_pending_count < SUBS_PENDING_MAX);
    in->sub_pending[in->sub_pending_count++] = req.packet_id;
    session_effect_put(out, is_sub ? SESSION_FX_SUBSCRIBE : SESSION_FX_UNSUBSCRIBE)->subscribe =
        (struct session_subscribe){req.packet_id, sub_id, out->sub, req.count};
}

void session_subscribed(struct session *s, unsigned type, const struct session_subscribed *d,
                        struct session_out *out)
{
    int at = s->in != NULL ? pending_find(s->in, d->packet_id) : -1;
    if (at < 0)
        return;
    s->in->sub_pending[at] = s->in->sub_pending[--s->in->sub_pending_count];
    struct codec_mqtt_suback a = {.packet_id = d->packet_id, .codes = str_view(d->codes, d->count)};
    session_problem(s, &a.props, d->reason_string, d->user);
    suback_put(s, type, &a, out);
}
