/* Stories of one client: tests/golden/session/.  SPDX-License-Identifier: Apache-2.0
 *
 * Lines of the trace:  < a packet to the client;  * an effect;  = the answer of a question or a delivery.  The wall
 * clock begins at 1,000,000 ms; `time ms=N` moves both clocks.  session_check runs after every command. */
#include "base/mem.h"
#include "golden/lib/packet_text.h"
#include "golden/lib/story.h"
#include "session/session.h"

#define LIST_MAX 16

struct world {
    struct session *session;
    struct session_settings settings;
    struct session_out out;
    struct budget budget;
    struct buf bytes, packet, user;
    unsigned version;  /* of what the client sends, until the session knows */
    uint64_t rec[LIST_MAX];
};

static void *begin(void)
{
    struct world *w = mem_new(sizeof *w);
    session_settings_init(&w->settings);
    budget_init(&w->budget, NULL, 1 << 20);
    w->out.bytes = &w->bytes;
    w->out.bytes_max = 1 << 20;
    w->out.wall_ms = 1000000;
    w->out.now = 1000 * USEC_SEC;
    return w;
}

static void end(void *arg)
{
    struct world *w = arg;
    w->session = session_free(w->session);
    must(budget_used(&w->budget) == 0);
    session_out_deinit(&w->out);
    buf_deinit(&w->bytes);
    buf_deinit(&w->packet);
    buf_deinit(&w->user);
    mem_free(w);
}

/* ---- What came of it -------------------------------------------------------------------------------------------- */

static void put_field(struct buf *t, const char *name, struct str v)
{
    if (v.n == 0)
        return;
    buf_printf(t, " %s=", name);
    packet_text_str(t, v);
}

static void put_msg(struct buf *t, const struct codec_msg *m)
{
    put_field(t, "topic", m->topic);
    put_field(t, "payload", m->payload);
    buf_printf(t, " qos=%u%s", m->qos, m->is_retain ? " retain" : "");
    if (m->has_expiry)
        buf_printf(t, " expiry=%u", m->expiry_sec);
    if (m->is_utf8)
        buf_printf(t, " utf8");
    if (m->props.n > 0)
        buf_printf(t, " props=%zu", m->props.n);
}

static void put_subs(struct buf *t, const struct session_subscribe *s)
{
    buf_printf(t, " id=%u", s->packet_id);
    if (s->sub_id != 0)
        buf_printf(t, " sub_id=%u", s->sub_id);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct session_sub *x = &s->sub[i];
        put_field(t, "filter", x->filter.text);
        buf_printf(t, ":%u%s%s", x->qos, x->is_no_local ? ":nl" : "", x->is_retain_as_published ? ":rap" : "");
        if (x->retain_handling != 0)
            buf_printf(t, ":rh%u", x->retain_handling);
        if (x->filter.kind != CODEC_TOPIC_NORMAL)
            buf_printf(t, "%s(%.*s)", x->filter.kind == CODEC_TOPIC_SHARE ? ":share" : ":oshare",
                       STR_ARG(x->filter.group));
        if (x->reason != SESSION_SUB_PERFORM)
            buf_printf(t, ":refused(%02X)", x->reason);
    }
}

static void put_end(struct buf *t, const struct session_end *e)
{
    static const char *const will[] = {"none", "due", "suppress"};
    buf_printf(t, " %s reason=%02X%s%s will=%s", session_end_name(e->cause), e->reason,
               e->is_by_client ? " by_client" : "", e->was_open ? "" : " not_open", will[e->will]);
    if (e->will == SESSION_WILL_DUE)
        buf_printf(t, " will_delay=%u", e->will_delay_sec);
    buf_printf(t, " expiry=%u", e->expiry_sec);
    if (e->why != NULL)
        buf_printf(t, " why=\"%s\"", e->why);
}

static void put_attach(struct buf *t, const struct session_attach *a)
{
    put_field(t, "client_id", a->client_id);
    buf_printf(t, "%s%s expiry=%u keep_alive=%u", a->is_clean_start ? " clean" : "",
               a->is_persistent ? " persistent" : "", a->expiry_sec, a->keep_alive_sec);
    if (a->will != NULL) {
        buf_printf(t, " will_delay=%u will:", a->will_delay_sec);
        put_msg(t, a->will);
    }
}

static void put_effect(struct buf *t, const struct session_effect *fx)
{
    static const char *const name[] = {"AUTHENTICATE", "AUTH",    "ATTACH", "CONNECTED", "PUBLISH", "RELEASE",
                                       "SUBSCRIBE", "UNSUBSCRIBE", "COMMIT", "RESUME", "NOTE", "END"};
    static const char *const note[] = {"INVALID_TOPIC", "INVALID_TOPIC_FILTER", "OVERSIZE_PACKET_DROPPED", "STALLED",
                                       "THROTTLED"};
    buf_printf(t, "* %s", name[fx->type]);
    switch (fx->type) {
    case SESSION_FX_AUTHENTICATE:
        buf_printf(t, " v%u", fx->connect->version);
        put_field(t, "client_id", fx->connect->client_id);
        put_field(t, "user", fx->connect->username);
        put_field(t, "password", fx->connect->password);
        if (CODEC_MQTT_HAS(&fx->connect->props, AUTHENTICATION_METHOD))
            put_field(t, "method", fx->connect->props.auth_method);
        break;
    case SESSION_FX_AUTH:
        put_field(t, "method", fx->auth.method);
        put_field(t, "data", fx->auth.data);
        buf_printf(t, "%s", fx->auth.is_reauth ? " again" : "");
        break;
    case SESSION_FX_ATTACH:
        put_attach(t, &fx->attach);
        break;
    case SESSION_FX_CONNECTED:
        buf_printf(t, " present=%u keep_alive=%u", fx->connected.is_session_present, fx->connected.keep_alive_sec);
        break;
    case SESSION_FX_PUBLISH:
        put_msg(t, &fx->publish.msg);
        if (fx->publish.token != 0)
            buf_printf(t, " id=%u token=%u", fx->publish.packet_id, (unsigned)fx->publish.token);
        buf_printf(t, "%s%s", fx->publish.is_dup ? " dup" : "", fx->publish.is_stored ? " stored" : "");
        break;
    case SESSION_FX_RELEASE:
        buf_printf(t, " id=%u", fx->release.packet_id);
        break;
    case SESSION_FX_SUBSCRIBE:
    case SESSION_FX_UNSUBSCRIBE:
        put_subs(t, &fx->subscribe);
        break;
    case SESSION_FX_NOTE:
        buf_printf(t, " %s", note[fx->note.type]);
        put_field(t, "text", fx->note.text);
        break;
    case SESSION_FX_END:
        put_end(t, &fx->end);
        break;
    case SESSION_FX_COMMIT:
    case SESSION_FX_RESUME:
        break;
    }
    buf_put_u8(t, '\n');
}

static void show(struct world *w, struct buf *t)
{
    unsigned version = w->session != NULL ? session_version(w->session) : 0;
    packet_text(t, buf_str(&w->bytes), version);
    w->bytes.n = 0;
    for (size_t i = 0; i < w->out.effect_count; i++)
        put_effect(t, &w->out.effect[i]);
    w->out.effect_count = 0;
    if (w->session != NULL)
        session_check(w->session);
}

/* ---- What the client sends -------------------------------------------------------------------------------------- */

static void give(struct world *w)
{
    struct codec_mqtt_packet p;
    struct str in = buf_str(&w->packet);
    while (in.n > 0 && session_is_ready(w->session)) {
        int r = codec_mqtt_frame(in, session_packet_len_max(w->session), &p);
        if (r != 0) {
            struct session_event ev = {.type = SESSION_EV_BAD_FRAME};
            if (r == CODEC_MQTT_E_MORE) /* the rest never comes */
                return;
            ev.bad_frame = r;
            session_step(w->session, &ev, &w->out);
            return;
        }
        session_packet(w->session, &p, &w->out);
        in = str_view(in.p + p.len, in.n - p.len);
    }
    if (in.n > 0)
        buf_printf(&w->user, "not ready\n");
}

static struct codec_mqtt_peer peer(const struct world *w)
{
    return (struct codec_mqtt_peer){.version = (uint8_t)w->version};
}

static void set_u32(struct codec_mqtt_props *p, struct str line, const char *key, enum codec_mqtt_prop id, uint32_t *to)
{
    if (!story_has(line, key))
        return;
    *to = (uint32_t)story_num(line, key, 0);
    p->has |= (uint64_t)1 << id;
}

static void set_u16(struct codec_mqtt_props *p, struct str line, const char *key, enum codec_mqtt_prop id, uint16_t *to)
{
    uint32_t v = 0;
    set_u32(p, line, key, id, &v);
    *to = (uint16_t)v;
}

static void set_str(struct codec_mqtt_props *p, struct str line, const char *key, enum codec_mqtt_prop id,
                    struct str *to)
{
    if (!story_has(line, key))
        return;
    *to = story_str(line, key, "");
    p->has |= (uint64_t)1 << id;
}

static void cmd_connect(struct world *w, struct str line)
{
    struct codec_mqtt_connect c = {.version = (uint8_t)story_num(line, "v", 5)};
    struct codec_mqtt_props *p = &c.props;
    w->version = c.version;
    c.is_clean = story_num(line, "clean", 1) != 0;
    c.keep_alive_sec = (uint16_t)story_num(line, "ka", 0);
    c.client_id = story_str(line, "id", "c1");
    c.has_username = story_has(line, "user");
    c.username = story_str(line, "user", "");
    c.has_password = story_has(line, "password");
    c.password = story_str(line, "password", "");
    c.has_will = story_has(line, "will");
    c.will.topic = story_str(line, "will", "");
    c.will.payload = story_str(line, "will_payload", "gone");
    c.will.qos = (uint8_t)story_num(line, "will_qos", 0);
    c.will.is_retain = story_num(line, "will_retain", 0) != 0;
    c.will.delay_sec = (uint32_t)story_num(line, "will_delay", 0);
    c.will.has_expiry = story_has(line, "will_expiry");
    c.will.expiry_sec = (uint32_t)story_num(line, "will_expiry", 0);
    if (story_num(line, "will_utf8", 0) != 0)
        c.will.props = STR("\x01\x01");
    set_u32(p, line, "sei", CODEC_MQTT_P_SESSION_EXPIRY_INTERVAL, &p->session_expiry_sec);
    set_u16(p, line, "rmax", CODEC_MQTT_P_RECEIVE_MAXIMUM, &p->receive_max);
    set_u32(p, line, "pmax", CODEC_MQTT_P_MAXIMUM_PACKET_SIZE, &p->packet_len_max);
    set_u16(p, line, "amax", CODEC_MQTT_P_TOPIC_ALIAS_MAXIMUM, &p->topic_alias_max);
    set_str(p, line, "method", CODEC_MQTT_P_AUTHENTICATION_METHOD, &p->auth_method);
    set_str(p, line, "data", CODEC_MQTT_P_AUTHENTICATION_DATA, &p->auth_data);
    if (story_has(line, "problem"))
        CODEC_MQTT_SET(p, REQUEST_PROBLEM_INFORMATION, request_problem_info, (uint8_t)story_num(line, "problem", 1));
    if (story_has(line, "info"))
        CODEC_MQTT_SET(p, REQUEST_RESPONSE_INFORMATION, request_response_info, (uint8_t)story_num(line, "info", 1));
    must(codec_mqtt_connect_encode(&w->packet, &c) == 0);
}

static void cmd_publish(struct world *w, struct str line)
{
    struct codec_mqtt_peer to = peer(w);
    struct codec_msg m = {.topic = story_str(line, "topic", ""), .payload = story_str(line, "payload", "hi")};
    struct codec_mqtt_delivery d = {
        .qos = (uint8_t)story_num(line, "qos", 0), .is_dup = story_num(line, "dup", 0) != 0,
        .is_retain = story_num(line, "retain", 0) != 0, .has_expiry = story_has(line, "expiry"),
        .expiry_sec = (uint32_t)story_num(line, "expiry", 0), .packet_id = (uint16_t)story_num(line, "id", 0),
        .topic_alias = (uint16_t)story_num(line, "alias", 0)};
    uint32_t sub_id = (uint32_t)story_num(line, "sub_id", 0);
    if (sub_id != 0) {
        d.sub_id = &sub_id;
        d.sub_id_count = 1;
    }
    if (story_num(line, "utf8", 0) != 0)
        m.props = STR("\x01\x01");
    if (story_has(line, "user")) {
        w->user.n = 0;
        codec_mqtt_user_put(&w->user, story_str(line, "user", ""), STR("v"));
        m.props = buf_str(&w->user);
    }
    if (story_has(line, "response_plus"))
        m.props = STR("\x08\x00\x03r/+");
    must(codec_mqtt_publish_encode(&w->packet, &to, &m, &d) == 0);
    w->user.n = 0;
}

static void cmd_ack(struct world *w, struct str line, unsigned type)
{
    struct codec_mqtt_peer to = peer(w);
    struct codec_mqtt_ack a = {.packet_id = (uint16_t)story_num(line, "id", 0),
                               .reason = (uint8_t)story_num(line, "reason", 0)};
    must(codec_mqtt_ack_encode(&w->packet, &to, type, &a) == 0);
}

static bool has_word(struct str s, const char *word)
{
    return memmem(s.p, s.n, word, strlen(word)) != NULL;
}

/* f=filter:qos[:nl][:rap][:rh1] */
static void cmd_subscribe(struct world *w, struct str line, unsigned type)
{
    struct codec_mqtt_peer to = peer(w);
    struct codec_mqtt_sub sub[LIST_MAX] = {0};
    struct codec_mqtt_subscribe s = {.packet_id = (uint16_t)story_num(line, "id", 1)};
    struct str v;
    for (size_t at = 0; s.count < LIST_MAX && story_next(line, "f", &at, &v); s.count++) {
        struct codec_mqtt_sub *x = &sub[s.count];
        (void)str_next(&v, ':', &x->filter);
        x->qos = v.p != NULL && v.n > 0 ? (uint8_t)(v.p[0] - '0') : 0;
        x->is_no_local = v.p != NULL && has_word(v, ":nl");
        x->is_retain_as_published = v.p != NULL && has_word(v, ":rap");
        x->retain_handling = v.p != NULL && has_word(v, ":rh1") ? 1 : v.p != NULL && has_word(v, ":rh2") ? 2 : 0;
    }
    set_u32(&s.props, line, "sub_id", CODEC_MQTT_P_SUBSCRIPTION_IDENTIFIER, &s.props.subscription_id);
    must(codec_mqtt_subscribe_encode(&w->packet, &to, type, &s, sub) == 0);
}

static void cmd_reasoned(struct world *w, struct str line, unsigned type)
{
    struct codec_mqtt_peer to = peer(w);
    struct codec_mqtt_reasoned r = {.reason = (uint8_t)story_num(line, "reason", 0)};
    set_u32(&r.props, line, "sei", CODEC_MQTT_P_SESSION_EXPIRY_INTERVAL, &r.props.session_expiry_sec);
    set_str(&r.props, line, "method", CODEC_MQTT_P_AUTHENTICATION_METHOD, &r.props.auth_method);
    set_str(&r.props, line, "data", CODEC_MQTT_P_AUTHENTICATION_DATA, &r.props.auth_data);
    set_str(&r.props, line, "ref", CODEC_MQTT_P_SERVER_REFERENCE, &r.props.server_reference);
    must(codec_mqtt_reasoned_encode(&w->packet, &to, type, &r) == 0);
}

static unsigned digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

static void hex(struct buf *b, struct str s)
{
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != ',') {
            buf_put_u8(b, (uint8_t)(digit(s.p[i]) << 4 | digit(s.p[i + 1])));
            i++;
        }
}

/* A command of the client; false: it is the host's. */
static bool client_command(struct world *w, struct str verb, struct str line)
{
    static const struct {
        const char *verb;
        unsigned type;
    } ack[] = {{"puback", CODEC_MQTT_PUBACK}, {"pubrec", CODEC_MQTT_PUBREC}, {"pubrel", CODEC_MQTT_PUBREL},
               {"pubcomp", CODEC_MQTT_PUBCOMP}};
    w->packet.n = 0;
    if (str_eq(verb, STR("connect")))
        cmd_connect(w, line);
    else if (str_eq(verb, STR("publish")))
        cmd_publish(w, line);
    else if (str_eq(verb, STR("subscribe")))
        cmd_subscribe(w, line, CODEC_MQTT_SUBSCRIBE);
    else if (str_eq(verb, STR("unsubscribe")))
        cmd_subscribe(w, line, CODEC_MQTT_UNSUBSCRIBE);
    else if (str_eq(verb, STR("ping")))
        codec_mqtt_ping_encode(&w->packet, CODEC_MQTT_PINGREQ);
    else if (str_eq(verb, STR("disconnect")))
        cmd_reasoned(w, line, CODEC_MQTT_DISCONNECT);
    else if (str_eq(verb, STR("auth")))
        cmd_reasoned(w, line, CODEC_MQTT_AUTH);
    else if (str_eq(verb, STR("raw")))
        hex(&w->packet, str_view(line.p + 4, line.n - 4));
    for (size_t i = 0; i < countof(ack); i++)
        if (str_eq(verb, str_of(ack[i].verb)))
            cmd_ack(w, line, ack[i].type);
    if (w->packet.n == 0)
        return false;
    give(w);
    return true;
}

/* ---- What the host does ----------------------------------------------------------------------------------------- */

static void cmd_new(struct world *w, struct str line)
{
    w->session = session_free(w->session);
    must(budget_used(&w->budget) == 0);
    budget_init(&w->budget, NULL, story_num(line, "budget", 1 << 20));
    struct session_conf conf = {
        .settings = &w->settings, .budget = &w->budget, .connect_timeout_usec = 20 * USEC_SEC,
        .connect_len_max = (uint32_t)story_num(line, "connect_max", 65536),
        .queue_bytes_max = (uint32_t)story_num(line, "queue_bytes", 65536),
        .mqtt3_client_id_len_max = (uint32_t)story_num(line, "id_max", 65535),
        .mqtt5_client_id_len_max = (uint32_t)story_num(line, "id_max", 65535),
        .is_utf8_strict = story_num(line, "strict", 0) != 0};
    w->session = session_new(&conf, w->out.now);
    memset(&w->out.counts, 0, sizeof w->out.counts);
    w->bytes.n = 0;
}

static void cmd_set(struct world *w, struct str line)
{
    size_t n;
    const struct session_setting *row = session_settings_table(&n);
    for (size_t i = 0; i < n; i++)
        if (story_has(line, row[i].name)) {
            int64_t value = (int64_t)story_num(line, row[i].name, 0);
            must(session_settings_set(&w->settings, str_of(row[i].name), value) == 0);
        }
}

static enum session_end_cause cause_of(struct str s)
{
    for (unsigned i = 0; i < SESSION_END_COUNT; i++)
        if (str_eq(s, str_of(session_end_name((enum session_end_cause)i))))
            return (enum session_end_cause)i;
    return SESSION_END_BY_SERVER;
}

static struct str user_of(struct world *w, struct str line)
{
    w->user.n = 0;
    if (story_has(line, "user"))
        codec_mqtt_user_put(&w->user, story_str(line, "user", ""), STR("v"));
    return buf_str(&w->user);
}

static struct session_refused refused_of(struct world *w, struct str line)
{
    return (struct session_refused){
        .cause = cause_of(story_str(line, "cause", "BY_SERVER")), .reason = (uint8_t)story_num(line, "reason", 0x80),
        .reason_string = story_str(line, "text", ""), .server_reference = story_str(line, "ref", ""),
        .user = user_of(w, line)};
}

static size_t list_of(struct str line, const char *key, uint64_t *out)
{
    struct str v = story_str(line, key, ""), part;
    size_t n = 0;
    if (v.n == 0)
        return 0;
    while (n < LIST_MAX && str_next(&v, ',', &part))
        must(str_to_u64(part, &out[n++]));
    return n;
}

static void cmd_attached(struct world *w, struct str line)
{
    uint64_t received[LIST_MAX];
    uint16_t id[LIST_MAX];
    struct session_event ev = {.type = SESSION_EV_ATTACHED};
    ev.attached.is_session_present = story_num(line, "present", 0) != 0;
    ev.attached.incarnation = story_num(line, "inc", 0);
    ev.attached.head_seq = story_num(line, "head", 1);
    ev.attached.rec_seq = w->rec;
    ev.attached.rec_count = list_of(line, "rec", w->rec);
    ev.attached.received = id;
    ev.attached.received_count = list_of(line, "received", received);
    for (size_t i = 0; i < ev.attached.received_count; i++)
        id[i] = (uint16_t)received[i];
    session_step(w->session, &ev, &w->out);
}

static void cmd_subscribed(struct world *w, struct str line, enum session_event_type type)
{
    struct buf codes = {0};
    struct session_event ev = {.type = type};
    hex(&codes, story_str(line, "codes", "00"));
    ev.subscribed = (struct session_subscribed){
        .packet_id = (uint16_t)story_num(line, "id", 1), .codes = codes.p, .count = (uint32_t)codes.n,
        .reason_string = story_str(line, "text", ""), .user = user_of(w, line)};
    session_step(w->session, &ev, &w->out);
    buf_deinit(&codes);
}

static void cmd_deliver(struct world *w, struct str line, struct buf *t)
{
    static const char *const outcome[] = {"sent", "queued", "dropped", "full"};
    uint64_t list[LIST_MAX];
    uint32_t sub_id[LIST_MAX];
    struct codec_mqtt_images images = {0};
    struct codec_msg m = {
        .topic = story_str(line, "topic", "t"), .payload = story_str(line, "payload", "hi"),
        .qos = (uint8_t)story_num(line, "pub", story_num(line, "qos", 0)),
        .is_retain = story_num(line, "retain", 0) != 0,
        .has_expiry = story_has(line, "expiry"), .expiry_sec = (uint32_t)story_num(line, "expiry", 0),
        .hlc = hlc_of_ms(w->out.wall_ms - story_num(line, "age_ms", 0)), .props = user_of(w, line)};
    struct session_delivery d = {
        .msg = &m, .qos = (uint8_t)story_num(line, "qos", 0), .is_retained = story_num(line, "retained", 0) != 0,
        .is_retain_as_published = story_num(line, "rap", 0) != 0, .is_stored = story_has(line, "seq"),
        .is_dup = story_num(line, "dup", 0) != 0, .seq = story_num(line, "seq", 0), .sub_id = sub_id,
        .sub_id_count = list_of(line, "sub_id", list)};
    for (size_t i = 0; i < d.sub_id_count; i++)
        sub_id[i] = (uint32_t)list[i];
    codec_mqtt_images_begin(&images, &m, w->out.wall_ms);
    if (story_num(line, "images", 1) != 0)
        d.images = &images;
    int r = session_deliver(w->session, &d, &w->out);
    if (r != 0)
        buf_printf(t, "= %s\n", outcome[r]);
    codec_mqtt_images_deinit(&images);
}

static void cmd_commit(struct world *w, struct buf *t)
{
    struct session_commit k;
    if (!session_commit_take(w->session, &k)) {
        buf_printf(t, "= nothing\n");
        return;
    }
    buf_printf(t, "= head=%u sent=%u", (unsigned)k.head_seq, (unsigned)k.sent_seq);
    for (size_t i = 0; i < k.rec_count; i++)
        buf_printf(t, "%s%u", i > 0 ? "," : " rec=", (unsigned)k.rec_seq[i]);
    buf_put_u8(t, '\n');
}

static void cmd_state(struct world *w, struct buf *t)
{
    static const char *const state[] = {"WAIT_CONNECT", "AUTH", "ATTACH", "OPEN", "ENDED"};
    const struct session *s = w->session;
    const struct session_counts *c = &w->out.counts;
    buf_printf(t, "= %s%s inflight=%zu queued=%zu capacity=%u%s\n", state[session_state_get(s)],
               session_is_ready(s) ? " ready" : "", session_inflight_count(s), session_queue_count(s),
               session_capacity(s, &w->out), session_is_stalled(s, &w->out) ? " stalled" : "");
    for (unsigned q = 0; q < 3; q++)
        if (c->sent[q] + c->dropped_overflow[q] + c->dropped_expired[q] + c->dropped_oversize[q] +
                c->dropped_budget[q] + c->dropped_closed[q] > 0)
            buf_printf(t, "= qos%u sent=%u overflow=%u expired=%u oversize=%u budget=%u closed=%u\n", q,
                       (unsigned)c->sent[q], (unsigned)c->dropped_overflow[q], (unsigned)c->dropped_expired[q],
                       (unsigned)c->dropped_oversize[q], (unsigned)c->dropped_budget[q],
                       (unsigned)c->dropped_closed[q]);
}

static void cmd_deadline(struct world *w, struct buf *t)
{
    usec_t at = session_deadline(w->session);
    if (at == USEC_NEVER)
        buf_printf(t, "= never\n");
    else
        buf_printf(t, "= in %u ms\n", (unsigned)(usec_until(w->out.now, at) / USEC_MSEC));
}

static void simple(struct world *w, enum session_event_type type)
{
    struct session_event ev = {.type = type};
    session_step(w->session, &ev, &w->out);
}

/* Events with fields. */
static bool host_event(struct world *w, struct str verb, struct str line)
{
    struct session_event ev = {.type = SESSION_EV_TICK};
    if (str_eq(verb, STR("authenticated"))) {
        ev.type = SESSION_EV_AUTHENTICATED;
        ev.authenticated = (struct session_authenticated){
            .settings = &w->settings, .assigned_client_id = story_str(line, "assigned", ""),
            .response_info = story_str(line, "info", ""), .auth_data = story_str(line, "data", ""),
            .user = user_of(w, line), .is_transient = story_num(line, "transient", 0) != 0};
    } else if (str_eq(verb, STR("continue"))) {
        ev.type = SESSION_EV_AUTH_CONTINUE;
        ev.auth.data = story_str(line, "data", "");
        ev.auth.reason_string = story_str(line, "text", "");
        ev.auth.user = user_of(w, line);
    } else if (str_eq(verb, STR("refused")) || str_eq(verb, STR("kick"))) {
        ev.type = str_eq(verb, STR("kick")) ? SESSION_EV_KICK : SESSION_EV_REFUSED;
        if (ev.type == SESSION_EV_KICK)
            ev.kick = refused_of(w, line);
        else
            ev.refused = refused_of(w, line);
    } else if (str_eq(verb, STR("published"))) {
        ev.type = SESSION_EV_PUBLISHED;
        ev.published = (struct session_published){
            .token = story_num(line, "token", 0), .reason = (uint8_t)story_num(line, "reason", 0),
            .reason_string = story_str(line, "text", ""), .user = user_of(w, line),
            .dropped = (uint32_t)story_num(line, "dropped", 0)};
    } else if (str_eq(verb, STR("released"))) {
        ev.type = SESSION_EV_RELEASED;
        ev.released.packet_id = (uint16_t)story_num(line, "id", 0);
    } else if (str_eq(verb, STR("lost"))) {
        ev.type = SESSION_EV_LOST;
        ev.lost.is_by_client = story_num(line, "by_client", 0) != 0;
    } else if (str_eq(verb, STR("settings"))) {
        cmd_set(w, line);
        ev.type = SESSION_EV_SETTINGS;
        ev.renewed.settings = &w->settings;
    } else {
        return false;
    }
    session_step(w->session, &ev, &w->out);
    return true;
}

static bool host_command(struct world *w, struct str verb, struct str line, struct buf *t)
{
    if (str_eq(verb, STR("new")))
        cmd_new(w, line);
    else if (str_eq(verb, STR("set")))
        cmd_set(w, line);
    else if (str_eq(verb, STR("attached")))
        cmd_attached(w, line);
    else if (str_eq(verb, STR("subscribed")))
        cmd_subscribed(w, line, SESSION_EV_SUBSCRIBED);
    else if (str_eq(verb, STR("unsubscribed")))
        cmd_subscribed(w, line, SESSION_EV_UNSUBSCRIBED);
    else if (str_eq(verb, STR("deliver")))
        cmd_deliver(w, line, t);
    else if (str_eq(verb, STR("commit")))
        cmd_commit(w, t);
    else if (str_eq(verb, STR("committed")))
        simple(w, SESSION_EV_COMMITTED);
    else if (str_eq(verb, STR("room")))
        w->out.bytes_max = story_num(line, "bytes", 0);
    else if (str_eq(verb, STR("writable")))
        simple(w, SESSION_EV_WRITABLE);
    else if (str_eq(verb, STR("tick")))
        simple(w, SESSION_EV_TICK);
    else if (str_eq(verb, STR("state")))
        cmd_state(w, t);
    else if (str_eq(verb, STR("deadline")))
        cmd_deadline(w, t);
    else
        return false;
    return true;
}

static void command(void *arg, struct str line, struct buf *t)
{
    struct world *w = arg;
    struct str verb = story_verb(line);
    if (str_eq(verb, STR("time"))) {
        w->out.now += story_num(line, "ms", 0) * USEC_MSEC;
        w->out.wall_ms += story_num(line, "ms", 0);
    } else if (!client_command(w, verb, line) && !host_command(w, verb, line, t) && !host_event(w, verb, line)) {
        buf_printf(t, "= no such command\n");
    }
    show(w, t);
    if (w->user.n > 0 && str_eq(buf_str(&w->user), STR("not ready\n")))
        buf_printf(t, "= not ready\n");
    w->user.n = 0;
}

int main(void)
{
    return story_play("tests/golden/session", begin, command, end);
}
