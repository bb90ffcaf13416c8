/* Topic aliases, both ways (MQTT5 3.3.2.3.4).  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: several aliases may name one topic; an outgoing alias stands in the table only after a packet with topic
 * and alias was appended (README.md, 7).  Both tables end with the connection. */
#include "session/session_priv.h"

static void drop(struct session *s, struct str *topic)
{
    if (topic->p == NULL)
        return;
    session_uncharge(s, topic->n);
    mem_free((void *)(uintptr_t)topic->p);
    *topic = (struct str){NULL, 0};
}

static struct session_alias *alias_get(struct session *s)
{
    if (s->alias == NULL)
        s->alias = mem_new(sizeof *s->alias);
    return s->alias;
}

int session_alias_in(struct session *s, const struct codec_mqtt_publish *p, struct str *out_topic, const char **why)
{
    if (!p->has_alias) {
        *why = "MQTT5 3.3.2.1: neither topic nor alias";
        return CODEC_MQTT_RC_PROTOCOL_ERROR;
    }
    if (p->topic_alias > s->settings->max_topic_alias) {
        *why = "MQTT-3.3.2-9: alias above Topic Alias Maximum";
        return CODEC_MQTT_RC_TOPIC_ALIAS_INVALID;
    }
    if (p->topic.n > 0)
        return 0;
    if (s->alias == NULL || p->topic_alias >= s->alias->in_cap || s->alias->in[p->topic_alias].p == NULL) {
        *why = "MQTT5 3.3.2.3.4: an alias that was never set";
        return CODEC_MQTT_RC_PROTOCOL_ERROR;
    }
    *out_topic = s->alias->in[p->topic_alias];
    return 0;
}

int session_alias_set(struct session *s, uint16_t alias, struct str topic)
{
    struct session_alias *a = alias_get(s);
    if (alias >= a->in_cap) {
        uint32_t cap = alias + 1u;
        if (session_charge(s, (cap - a->in_cap) * sizeof *a->in) != 0)
            return BUDGET_E_FULL;
        a->in = mem_resize(a->in, cap * sizeof *a->in);
        memset(a->in + a->in_cap, 0, (cap - a->in_cap) * sizeof *a->in);
        a->in_cap = cap;
    }
    if (session_charge(s, topic.n) != 0)
        return BUDGET_E_FULL;
    struct str kept = str_dup(topic);
    drop(s, &a->in[alias]);
    a->in[alias] = kept;
    return 0;
}

/* Where the topic is, else the place to take for it: a free one, or the one unused for longest. */
static struct alias_out *place(const struct session_alias *a, uint64_t hash, struct str topic, bool *out_known)
{
    struct alias_out *oldest = NULL;
    for (uint32_t i = 0; i < a->out_count; i++) {
        struct alias_out *x = &a->out[i];
        *out_known = x->hash == hash && str_eq(x->topic, topic);
        if (*out_known)
            return x;
        if (oldest == NULL || x->used_at < oldest->used_at)
            oldest = x;
    }
    *out_known = false;
    return a->out_count == a->out_max ? oldest : &a->out[a->out_count];
}

/* How many aliases we use: what the client allows, what the tenant allows, what is quickly searched. */
static uint32_t out_max(const struct session *s)
{
    uint32_t n = s->alias_max;
    n = n > s->settings->max_topic_alias ? (uint32_t)s->settings->max_topic_alias : n;
    return n > ALIAS_OUT_MAX ? ALIAS_OUT_MAX : n;
}

int session_alias_publish(struct session *s, struct buf *b, const struct codec_msg *m, struct codec_mqtt_delivery *d)
{
    struct codec_mqtt_peer peer = session_peer(s);
    struct session_alias *a = s->alias_max > 0 && m->topic.n > 3 ? alias_get(s) : NULL; /* it takes 3 bytes itself */
    if (a != NULL && a->out == NULL && out_max(s) > 0) {
        a->out_max = out_max(s);
        a->out = mem_new(a->out_max * sizeof *a->out);
    }
    if (a == NULL || a->out == NULL)
        return codec_mqtt_publish_encode(b, &peer, m, d);
    bool is_known;
    uint64_t hash = hash_str(m->topic, 0);
    struct alias_out *x = place(a, hash, m->topic, &is_known);
    if (is_known || session_charge(s, m->topic.n) == 0) {
        d->topic_alias = (uint16_t)(x - a->out + 1);
        d->is_topic_omitted = is_known;
        int r = codec_mqtt_publish_encode(b, &peer, m, d);
        if (r == 0 && !is_known) {
            a->out_count += x->topic.p == NULL;
            drop(s, &x->topic);
            x->topic = str_dup(m->topic);
            x->hash = hash;
        }
        x->used_at = ++a->tick;
        if (r == 0 || is_known)
            return r;
        session_uncharge(s, m->topic.n);
        d->topic_alias = 0; /* without it, it may just fit */
    }
    return codec_mqtt_publish_encode(b, &peer, m, d);
}

void session_alias_free(struct session *s)
{
    struct session_alias *a = s->alias;
    if (a == NULL)
        return;
    for (uint32_t i = 0; i < a->in_cap; i++)
        drop(s, &a->in[i]);
    for (uint32_t i = 0; i < a->out_count; i++)
        drop(s, &a->out[i].topic);
    session_uncharge(s, a->in_cap * sizeof *a->in);
    mem_free(a->in);
    mem_free(a->out);
    s->alias = mem_free(a);
}
