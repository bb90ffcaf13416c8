/* One client against a host that answers in any order: whatever it sends, the session stays in order, answers with
 * packets of its version that the client has room for, and ends once.  SPDX-License-Identifier: Apache-2.0
 *
 * The input is a script: a byte says what happens next, the bytes behind it with what. */
#include "base/mem.h"
#include "session/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define OPEN_MAX 64 /* requests that the host has not answered */

struct request {
    enum session_effect_type type;
    uint64_t token;
    uint16_t packet_id;
    uint32_t count;
};

struct world {
    const uint8_t *p, *end; /* the script */
    struct session *s;
    struct session_settings settings;
    struct session_out out;
    struct buf bytes, packet;
    struct budget budget;
    struct request request[OPEN_MAX];
    size_t request_count;
    uint64_t next_seq;      /* of the inbox */
    uint8_t flying[65536];  /* ids of what the client has not acknowledged: 0 none, else QoS */
    bool is_persistent, has_ended, is_committing;
};

static unsigned next(struct world *w)
{
    return w->p < w->end ? *w->p++ : 0;
}

/* ---- What came out ---------------------------------------------------------------------------------------------- */

/* A PUBLISH to the client: its id is free, unless it is sent again. */
static void sent_publish(struct world *w, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_publish pub;
    int r = codec_mqtt_publish_decode(p, session_version(w->s), &pub);
    must(r == 0);
    if (pub.qos == 0)
        return;
    must(w->flying[pub.packet_id] == 0);
    w->flying[pub.packet_id] = pub.qos;
}

static void check_bytes(struct world *w)
{
    struct str in = buf_str(&w->bytes);
    unsigned version = session_version(w->s);
    must(in.n == 0 || !w->has_ended);
    while (in.n > 0) {
        struct codec_mqtt_packet p;
        struct codec_mqtt_connack c;
        struct codec_mqtt_reasoned d;
        struct codec_mqtt_suback s;
        struct codec_mqtt_ack a;
        int r = codec_mqtt_frame(in, CODEC_MQTT_PACKET_MAX, &p);
        must(r == 0);
        if (p.type == CODEC_MQTT_PUBLISH)
            sent_publish(w, &p);
        else if (p.type == CODEC_MQTT_CONNACK)
            r = codec_mqtt_connack_decode(&p, version, &c);
        else if (p.type == CODEC_MQTT_SUBACK || p.type == CODEC_MQTT_UNSUBACK)
            r = codec_mqtt_suback_decode(&p, version, &s);
        else if (p.type == CODEC_MQTT_DISCONNECT || p.type == CODEC_MQTT_AUTH)
            r = version == CODEC_MQTT_V5 ? codec_mqtt_reasoned_decode(&p, version, &d) : 1;
        else if (p.type == CODEC_MQTT_PINGRESP)
            r = codec_mqtt_ping_decode(&p);
        else
            r = codec_mqtt_ack_decode(&p, version, &a);
        must(p.type != CODEC_MQTT_CONNECT && p.type != CODEC_MQTT_SUBSCRIBE && p.type != CODEC_MQTT_UNSUBSCRIBE);
        must(r == 0);
        in = str_view(in.p + p.len, in.n - p.len);
    }
    w->bytes.n = 0;
}

static void remember(struct world *w, struct request r)
{
    if (w->request_count < OPEN_MAX)
        w->request[w->request_count++] = r;
}

static void check(struct world *w)
{
    check_bytes(w);
    for (size_t i = 0; i < w->out.effect_count; i++) {
        const struct session_effect *fx = &w->out.effect[i];
        must(!w->has_ended);
        struct request r = {.type = fx->type};
        if (fx->type == SESSION_FX_PUBLISH) {
            must(fx->publish.msg.topic.n > 0 && fx->publish.msg.qos <= 2);
            must((fx->publish.token != 0) == (fx->publish.msg.qos > 0));
            r.token = fx->publish.token;
            if (r.token != 0)
                remember(w, r);
        } else if (fx->type == SESSION_FX_SUBSCRIBE || fx->type == SESSION_FX_UNSUBSCRIBE) {
            r.packet_id = fx->subscribe.packet_id;
            r.count = fx->subscribe.count;
            remember(w, r);
        } else if (fx->type == SESSION_FX_RELEASE) {
            r.packet_id = fx->release.packet_id;
            remember(w, r);
        } else if (fx->type == SESSION_FX_END) {
            w->has_ended = true;
            must(i + 1 == w->out.effect_count);
        } else if (fx->type != SESSION_FX_NOTE && fx->type != SESSION_FX_RESUME && fx->type != SESSION_FX_COMMIT &&
                   fx->type != SESSION_FX_CONNECTED) {
            remember(w, r); /* AUTHENTICATE, AUTH, ATTACH */
        }
    }
    w->out.effect_count = 0;
    must(w->has_ended == (session_state_get(w->s) == SESSION_ST_ENDED));
    session_check(w->s);
}

/* ---- What the client does --------------------------------------------------------------------------------------- */

/* Acknowledging frees an id, as a client sees it. */
static void note_ack(struct world *w, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_ack a;
    struct codec_mqtt_packet copy = *p;
    if (p->type != CODEC_MQTT_PUBACK && p->type != CODEC_MQTT_PUBREC && p->type != CODEC_MQTT_PUBCOMP)
        return;
    if (codec_mqtt_ack_decode(&copy, session_version(w->s), &a) != 0)
        return;
    if (p->type != CODEC_MQTT_PUBREC || a.reason >= 0x80)
        w->flying[a.packet_id] = 0;
}

static void give(struct world *w, struct str bytes)
{
    while (bytes.n > 0 && session_is_ready(w->s)) {
        struct codec_mqtt_packet p;
        int r = codec_mqtt_frame(bytes, session_packet_len_max(w->s), &p);
        if (r == CODEC_MQTT_E_MORE)
            return;
        if (r != 0) {
            struct session_event ev = {.type = SESSION_EV_BAD_FRAME};
            ev.bad_frame = r;
            session_step(w->s, &ev, &w->out);
            check(w);
            return;
        }
        /* a copy of the exact size, so that a sanitizer sees every read past the end */
        struct str body = str_dup(p.body);
        p.body = body;
        note_ack(w, &p);
        session_packet(w->s, &p, &w->out);
        check(w);
        mem_free((void *)(uintptr_t)body.p);
        bytes = str_view(bytes.p + p.len, bytes.n - p.len);
    }
}

static void client_connect(struct world *w)
{
    unsigned f = next(w), g = next(w);
    struct codec_mqtt_connect c = {.version = (uint8_t)(3 + f % 3), .is_clean = (f & 4) != 0, .client_id = STR("c1"),
                                   .keep_alive_sec = (uint16_t)(f >> 4), .has_will = (f & 8) != 0};
    c.will.topic = STR("w");
    c.will.qos = (uint8_t)(g % 3);
    c.will.delay_sec = g >> 4;
    if ((g & 8) != 0)
        CODEC_MQTT_SET(&c.props, SESSION_EXPIRY_INTERVAL, session_expiry_sec, g);
    if ((g & 16) != 0)
        CODEC_MQTT_SET(&c.props, RECEIVE_MAXIMUM, receive_max, (uint16_t)(1 + next(w) % 8));
    if ((g & 32) != 0)
        CODEC_MQTT_SET(&c.props, MAXIMUM_PACKET_SIZE, packet_len_max, 1 + next(w));
    if ((g & 64) != 0)
        CODEC_MQTT_SET(&c.props, TOPIC_ALIAS_MAXIMUM, topic_alias_max, (uint16_t)(next(w) % 4));
    if ((g & 128) != 0)
        CODEC_MQTT_SET(&c.props, AUTHENTICATION_METHOD, auth_method, STR("M"));
    must(codec_mqtt_connect_encode(&w->packet, &c) == 0);
}

static void client_publish(struct world *w)
{
    static const struct str topic[] = {{"a/b", 3}, {"c", 1}, {"", 0}, {"a/+", 3}, {"long/topic/name", 15}};
    unsigned f = next(w);
    struct codec_mqtt_peer peer = {.version = (uint8_t)session_version(w->s)};
    struct codec_msg m = {.topic = topic[f % countof(topic)], .payload = STR("payload")};
    struct codec_mqtt_delivery d = {.qos = (uint8_t)(f / 8 % 3), .is_dup = (f & 64) != 0, .is_retain = (f & 128) != 0};
    d.packet_id = d.qos > 0 ? (uint16_t)(1 + next(w) % 8) : 0;
    d.topic_alias = (f & 32) != 0 ? (uint16_t)(1 + next(w) % 12) : 0;
    must(codec_mqtt_publish_encode(&w->packet, &peer, &m, &d) == 0);
}

static void client_subscribe(struct world *w)
{
    static const struct str filter[] = {{"a/b", 3}, {"#", 1}, {"$share/g/a", 10}, {"a#", 2}};
    struct codec_mqtt_peer peer = {.version = (uint8_t)session_version(w->s)};
    struct codec_mqtt_sub sub[3];
    unsigned f = next(w);
    struct codec_mqtt_subscribe s = {.packet_id = (uint16_t)(1 + next(w) % 4), .count = 1 + f % 3};
    for (uint32_t i = 0; i < s.count; i++)
        sub[i] = (struct codec_mqtt_sub){.filter = filter[next(w) % countof(filter)], .qos = (uint8_t)((f >> 3) % 3),
                                         .is_no_local = (f & 64) != 0};
    must(codec_mqtt_subscribe_encode(&w->packet, &peer, (f & 128) != 0 ? CODEC_MQTT_UNSUBSCRIBE : CODEC_MQTT_SUBSCRIBE,
                                     &s, sub) == 0);
}

static void client_ack(struct world *w)
{
    static const uint8_t type[] = {CODEC_MQTT_PUBACK, CODEC_MQTT_PUBREC, CODEC_MQTT_PUBREL, CODEC_MQTT_PUBCOMP};
    unsigned f = next(w);
    uint16_t id = (uint16_t)(1 + next(w) % 16);
    codec_mqtt_ack_put(&w->packet, type[f % 4], id);
}

/* The right acknowledgement for something that is in flight, so that scripts get far. */
static void client_proper_ack(struct world *w)
{
    uint16_t from = (uint16_t)(1 + next(w));
    for (uint16_t i = 0; i < 300; i++) {
        uint16_t id = (uint16_t)(from + i);
        if (w->flying[id] == 1)
            codec_mqtt_ack_put(&w->packet, CODEC_MQTT_PUBACK, id);
        else if (w->flying[id] == 2)
            codec_mqtt_ack_put(&w->packet, CODEC_MQTT_PUBREC, id);
        else
            continue;
        return;
    }
}

/* ---- What the host does ----------------------------------------------------------------------------------------- */

static void connect_answer(struct world *w, enum session_effect_type type, unsigned f)
{
    struct session_event ev = {.type = SESSION_EV_REFUSED};
    if (f % 8 == 0) {
        ev.refused = (struct session_refused){.cause = SESSION_END_NOT_AUTHORIZED_CLIENT, .reason = 0x87};
    } else if (type == SESSION_FX_ATTACH) {
        static const uint64_t rec[] = {3, 4};
        static const uint16_t received[] = {1, 2};
        ev.type = SESSION_EV_ATTACHED;
        ev.attached.head_seq = w->next_seq = 2;
        if (session_is_persistent(w->s)) {
            w->is_persistent = true;
            ev.attached.incarnation = 5;
            ev.attached.rec_seq = rec;
            ev.attached.rec_count = f % 3;
            ev.attached.received = received;
            ev.attached.received_count = f / 4 % 3;
        }
    } else if (type == SESSION_FX_AUTH && f % 8 == 1) {
        ev.type = SESSION_EV_AUTH_CONTINUE;
        ev.auth.data = STR("x");
    } else {
        ev.type = SESSION_EV_AUTHENTICATED;
        ev.authenticated = (struct session_authenticated){.settings = &w->settings};
    }
    session_step(w->s, &ev, &w->out);
    check(w);
}

static void host_answer(struct world *w)
{
    static const uint8_t reason[] = {0, 0, 0, 0x10, 0x87, 0x83};
    unsigned f = next(w);
    uint8_t codes[3] = {0, (uint8_t)(f % 3), 0x87};
    if (w->request_count == 0)
        return;
    size_t k = next(w) % w->request_count;
    struct request r = w->request[k];
    memmove(w->request + k, w->request + k + 1, (--w->request_count - k) * sizeof *w->request);
    struct session_event ev = {.type = SESSION_EV_TICK};
    if (r.type == SESSION_FX_PUBLISH) {
        ev.type = SESSION_EV_PUBLISHED;
        ev.published = (struct session_published){.token = r.token, .reason = reason[f % countof(reason)]};
    } else if (r.type == SESSION_FX_SUBSCRIBE || r.type == SESSION_FX_UNSUBSCRIBE) {
        bool is_sub = r.type == SESSION_FX_SUBSCRIBE;
        ev.type = is_sub ? SESSION_EV_SUBSCRIBED : SESSION_EV_UNSUBSCRIBED;
        if (!is_sub)
            codes[1] = 0x11;
        ev.subscribed = (struct session_subscribed){.packet_id = r.packet_id, .codes = codes, .count = r.count};
    } else if (r.type == SESSION_FX_RELEASE) {
        ev.type = SESSION_EV_RELEASED;
        ev.released.packet_id = r.packet_id;
    } else {
        connect_answer(w, r.type, f);
        return;
    }
    session_step(w->s, &ev, &w->out);
    check(w);
}

static void host_deliver(struct world *w)
{
    unsigned f = next(w);
    static const uint32_t sub_id[] = {1, 300};
    struct codec_mqtt_images images = {0};
    struct codec_msg m = {.topic = (f & 1) != 0 ? STR("a/b") : STR("long/topic"), .payload = STR("x"),
                          .qos = (uint8_t)(f / 2 % 3), .has_expiry = (f & 8) != 0, .expiry_sec = 2,
                          .hlc = hlc_of_ms(w->out.wall_ms)};
    struct session_delivery d = {.msg = &m, .qos = m.qos, .images = (f & 16) != 0 ? &images : NULL, .sub_id = sub_id,
                                 .sub_id_count = f / 32 % 3};
    if (m.qos > 0 && w->is_persistent) {
        d.is_stored = true;
        d.is_dup = (f & 64) != 0;
        d.seq = w->next_seq;
    }
    codec_mqtt_images_begin(&images, &m, w->out.wall_ms);
    size_t effects = w->out.effect_count;
    int r = session_deliver(w->s, &d, &w->out);
    must(w->out.effect_count == effects);
    if (d.is_stored && r != SESSION_DELIVER_E_FULL)
        w->next_seq++;
    codec_mqtt_images_deinit(&images);
    check(w);
}

static void host_other(struct world *w)
{
    unsigned f = next(w);
    struct session_event ev = {.type = SESSION_EV_TICK};
    struct session_commit k;
    switch (f % 8) {
    case 0:
        w->out.bytes_max = (f & 128) != 0 ? 0 : 1 << 20;
        ev.type = SESSION_EV_WRITABLE;
        break;
    case 1:
        w->out.now += f * USEC_MSEC * 100;
        w->out.wall_ms += f * 100;
        break;
    case 2:
        w->is_committing = session_commit_take(w->s, &k) || w->is_committing;
        return;
    case 3:
        if (!w->is_committing)
            return;
        w->is_committing = false;
        ev.type = SESSION_EV_COMMITTED;
        break;
    case 4:
        if (next(w) % 8 != 0)
            return;
        ev.type = SESSION_EV_KICK;
        ev.kick = (struct session_refused){.cause = SESSION_END_KICKED, .reason = 0x8E, .reason_string = STR("why")};
        break;
    case 5:
        if (next(w) % 8 != 0)
            return;
        ev.type = SESSION_EV_LOST;
        break;
    default:
        break;
    }
    session_step(w->s, &ev, &w->out);
    check(w);
}

static void act(struct world *w)
{
    unsigned op = next(w);
    bool is_open = session_state_get(w->s) == SESSION_ST_OPEN;
    w->packet.n = 0;
    if (op % 16 == 0) { /* raw bytes */
        size_t n = next(w), left = (size_t)(w->end - w->p);
        n = n < left ? n : left;
        give(w, str_view(w->p, n));
        w->p += n;
        return;
    }
    if (!is_open && op % 2 == 0)
        client_connect(w);
    else if (is_open && op % 16 <= 3)
        client_publish(w);
    else if (is_open && op % 16 == 4)
        client_subscribe(w);
    else if (is_open && op % 16 == 5)
        client_ack(w);
    else if (is_open && op % 16 == 6)
        client_proper_ack(w);
    else if (op % 16 <= 9)
        host_answer(w);
    else if (op % 16 <= 12)
        host_deliver(w);
    else
        host_other(w);
    if (w->packet.n > 0)
        give(w, buf_str(&w->packet));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct world *w = mem_new(sizeof *w);
    w->p = data;
    w->end = data + n;
    session_settings_init(&w->settings);
    w->settings.session_inbox_size = 4;
    w->settings.receiving_maximum = 1 + next(w) % 8;
    w->settings.msg_pub_per_sec = next(w) % 16;
    budget_init(&w->budget, NULL, 4096);
    w->out.bytes = &w->bytes;
    w->out.bytes_max = 1 << 20;
    w->out.now = USEC_SEC;
    w->out.wall_ms = 1000000;
    struct session_conf conf = {.settings = &w->settings, .budget = &w->budget, .connect_timeout_usec = 60 * USEC_SEC,
                                .connect_len_max = 4096, .queue_bytes_max = 1000, .mqtt3_client_id_len_max = 100,
                                .mqtt5_client_id_len_max = 100, .is_utf8_strict = n % 2 == 0};
    w->s = session_new(&conf, w->out.now);
    while (w->p < w->end)
        act(w);
    session_free(w->s);
    must(budget_used(&w->budget) == 0);
    session_out_deinit(&w->out);
    buf_deinit(&w->bytes);
    buf_deinit(&w->packet);
    mem_free(w);
    return 0;
}
