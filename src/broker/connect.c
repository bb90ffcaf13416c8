/* The connect road.  SPDX-License-Identifier: Apache-2.0
 *
 *   connect_authenticate  who is it (broker/auth.h)                                     ->
 * AUTHENTICATED or REFUSED connect_attach        stores_dict_claim: an older connection of the
 * client has ended, everywhere connect_claimed       stores_attach (persistent, or with a will), or
 * stores_clear (what an older life left) connect_attached      the mind learns what the inbox
 * remembers                      -> ATTACHED or REFUSED connect_connected     CONNACK is written:
 * deliveries begin
 *
 * Invariants: 1 a claim that was granted is released exactly once, an attach that was granted is
 * detached exactly once,
 * also when the connection broke meanwhile. */
#include "broker/connect_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "broker/drain_priv.h"
#include "broker/durability_priv.h"
#include "broker/inflow_priv.h"
#include "broker/renew_priv.h"
#include "broker/share_priv.h"
#include "net/random.h"

struct broker_conn_ask {
    struct broker_conn *conn;
    struct broker_auth_ask auth;
    const struct codec_mqtt_connect *connect; /* the mind keeps it until CONNACK */
    struct session_attach attach;
    char assigned_id[40];
    char address[NET_ADDRESS_TEXT];
};

void broker_connect_ask_free(struct broker_conn *c)
{
    if (c->ask)
        broker_auth_end(&c->ask->auth);
    c->ask = mem_free(c->ask);
}

static void refuse(struct broker_conn *c, enum session_end_cause cause, uint8_t reason)
{
    struct session_event ev = {.type = SESSION_EV_REFUSED};
    ev.refused.cause = cause;
    ev.refused.reason = reason;
    broker_conn_step(c, &ev);
}

/* ---- who is it ---- */

static void accepted(struct broker_conn *c)
{
    struct broker_conn_ask *ask = c->ask;
    mem_free((void *)(uintptr_t)c->user.p);
    c->user = ask->auth.out_user.n ? str_dup(ask->auth.out_user) : str_view(NULL, 0);
    c->acl = ask->auth.out_acl;
    ask->auth.out_acl = NULL;
    broker_settings_unref(c->settings);
    c->settings = broker_settings_ref(c->tenant->loop[c->loop->index].settings);
    struct session_event ev = {.type = SESSION_EV_AUTHENTICATED};
    ev.authenticated.settings = &c->settings->value;
    ev.authenticated.assigned_client_id = str_of(ask->assigned_id);
    ev.authenticated.auth_data = buf_str(&ask->auth.out_data);
    struct buf user = {0};
    broker_durability_user_put(c->loop->broker, &c->settings->value, &user);
    ev.authenticated.ack_user = buf_str(&user);
    broker_conn_step(c, &ev);
    buf_deinit(&user);
}

/* Authenticated again on an open connection: it must be who it was. */
static void accepted_again(struct broker_conn *c)
{
    struct broker_auth_ask *auth = &c->ask->auth;
    if (!str_eq(auth->out_user, c->user)) {
        refuse(c, SESSION_END_RE_AUTH_FAILED, CODEC_MQTT_RC_NOT_AUTHORIZED);
        return;
    }
    if (auth->out_acl) {
        broker_acl_free(c->acl);
        c->acl = auth->out_acl;
        c->acl_hash = 0; /* the new rules may stand where the old ones stood */
        auth->out_acl = NULL;
    }
    struct session_event ev = {.type = SESSION_EV_AUTHENTICATED};
    ev.authenticated.auth_data = buf_str(&auth->out_data);
    broker_conn_step(c, &ev);
    broker_connect_ask_free(c);
}

static void challenged(struct broker_conn *c)
{
    struct session_event ev = {.type = SESSION_EV_AUTH_CONTINUE};
    ev.auth.data = buf_str(&c->ask->auth.out_data);
    broker_conn_step(c, &ev);
}

static void answered(struct broker_conn *c, enum broker_auth_outcome outcome)
{
    switch (outcome) {
    case BROKER_AUTH_OK:
        if (c->is_open)
            accepted_again(c);
        else
            accepted(c);
        break;
    case BROKER_AUTH_E_MORE:
        challenged(c);
        break;
    case BROKER_AUTH_E_BAD_PASS:
        refuse(c, SESSION_END_UNAUTHENTICATED_CLIENT, CODEC_MQTT_RC_BAD_USER_NAME_OR_PASSWORD);
        break;
    case BROKER_AUTH_E_NOT_AUTHORIZED:
        refuse(c, SESSION_END_NOT_AUTHORIZED_CLIENT, CODEC_MQTT_RC_NOT_AUTHORIZED);
        break;
    case BROKER_AUTH_E_BAD_METHOD:
        refuse(c, SESSION_END_AUTH_ERROR, CODEC_MQTT_RC_BAD_AUTHENTICATION_METHOD);
        break;
    case BROKER_AUTH_E_ERROR:
        refuse(c, SESSION_END_AUTH_ERROR, CODEC_MQTT_RC_SERVER_UNAVAILABLE);
        break;
    }
}

static void authenticated(struct broker_auth_ask *auth, enum broker_auth_outcome outcome)
{
    struct broker_conn *c = container_of(auth, struct broker_conn_ask, auth)->conn;
    if (session_state_get(c->session) != SESSION_ST_ENDED) {
        if (outcome != BROKER_AUTH_OK && outcome != BROKER_AUTH_E_MORE)
            broker_metric_add(broker_loop_metrics(c->loop, c->tenant), BROKER_M_AUTH_FAILURE, 1);
        answered(c, outcome);
    }
    broker_conn_done(c);
}

static struct broker_conn_ask *ask_new(struct broker_conn *c, struct str client_id)
{
    struct broker_conn_ask *ask = c->ask = mem_new(sizeof(*ask));
    struct net_stream_identity who;
    ask->conn = c;
    ask->auth.done = authenticated;
    if ((c->listener->auth.methods & (BROKER_AUTH_CERTIFICATE | BROKER_AUTH_PLUGIN)) &&
        net_stream_identity(c->stream, &who))
        ask->auth.certificate =
            c->listener->auth.identity == BROKER_AUTH_IDENTITY_CN ? who.cn : who.san;
    if (c->listener->auth.methods & BROKER_AUTH_PLUGIN) {
        (void)net_address_format(net_stream_peer(c->stream), ask->address);
        ask->auth.tenant = c->tenant->name;
        ask->auth.client_id = client_id;
        ask->auth.address = str_of(ask->address);
    }
    return ask;
}

static void ask_begin(struct broker_conn *c)
{
    struct broker_loop *l = c->loop;
    broker_conn_hold(c);
    broker_auth_begin(&c->ask->auth, &c->listener->auth, l->auth_files, l->broker->conf.worker,
                      l->net);
}

void broker_connect_authenticate(struct broker_conn *c, const struct codec_mqtt_connect *connect)
{
    char reference[BROKER_REFERENCE_MAX];
    struct session_event ev = {.type = SESSION_EV_REFUSED};
    if (broker_drain_refuses(c, &ev.refused, reference)) {
        broker_conn_step(c, &ev);
        return;
    }
    struct broker_conn_ask *ask = ask_new(c, connect->client_id);
    ask->connect = connect;
    if (CODEC_MQTT_HAS(&connect->props, AUTHENTICATION_METHOD))
        ask->auth.method = connect->props.auth_method;
    if (CODEC_MQTT_HAS(&connect->props, AUTHENTICATION_DATA))
        ask->auth.data = connect->props.auth_data;
    struct uuid id = net_random_uuid();
    memcpy(ask->assigned_id, "b-", 2);
    uuid_format(&id, ask->assigned_id + 2);
    if (connect->has_username)
        ask->auth.user = connect->username;
    if (connect->has_password)
        ask->auth.password = connect->password;
    ask_begin(c);
}

void broker_connect_auth(struct broker_conn *c, struct str method, struct str data)
{
    struct broker_loop *l = c->loop;
    if (!c->ask) { /* re-authentication begins */
        struct broker_auth_ask *auth = &ask_new(c, session_client_id(c->session))->auth;
        auth->method = method;
        auth->data = data;
        auth->user = c->user;
        auth->is_again = true;
        ask_begin(c);
        return;
    }
    c->ask->auth.data = data;
    broker_conn_hold(c);
    broker_auth_continue(&c->ask->auth, l->broker->conf.worker, l->net);
}

/* ---- one owner, one inbox ---- */

static void refuse_store(struct broker_conn *c, enum stores_outcome outcome)
{
    bool is_busy = outcome == STORES_E_UNAVAILABLE || outcome == STORES_E_FULL ||
                   outcome == STORES_E_CONFLICT || outcome == STORES_E_UNKNOWN;
    refuse(c, is_busy ? SESSION_END_SERVER_BUSY : SESSION_END_INBOX_TRANSIENT_ERROR,
           is_busy ? CODEC_MQTT_RC_SERVER_BUSY : CODEC_MQTT_RC_SERVER_UNAVAILABLE);
}

static bool is_gone(const struct broker_conn *c)
{
    return session_state_get(c->session) == SESSION_ST_ENDED;
}

static void release(struct broker_conn *c)
{
    c->is_claimed = false;
    stores_dict_release(c->loop->stores, c->tenant->name, session_client_id(c->session), c->cookie);
}

static void connect_released(void *arg, enum stores_outcome outcome)
{
    struct broker_conn *c = arg;
    (void)outcome;
    release(c);
    broker_conn_done(c);
}

static void attached_event(struct broker_conn *c, const struct stores_attached *a)
{
    struct arena *mem = net_loop_arena(c->loop->net);
    struct session_event ev = {.type = SESSION_EV_ATTACHED};
    uint64_t *rec = arena_alloc(mem, (a->mark_count + 1) * sizeof(*rec));
    uint16_t *received = arena_alloc(mem, (a->received_count + 1) * sizeof(*received));
    ev.attached.is_session_present = a->is_present;
    ev.attached.incarnation = a->incarnation;
    ev.attached.head_seq = a->acked_seq + 1;
    ev.attached.rec_seq = rec;
    for (size_t i = 0; i < a->mark_count; i++)
        if (a->mark[i].phase == STORES_PHASE_RECEIVED)
            rec[ev.attached.rec_count++] = a->mark[i].seq;
    for (size_t i = 0; i < a->received_count; i++)
        received[i] = a->received[i].packet_id;
    ev.attached.received = received;
    ev.attached.received_count = a->received_count;
    broker_conn_step(c, &ev);
}

/* Below it messages may have been sent before.  After a crash nobody knows: all that a window could
 * hold. */
static uint64_t dup_below(const struct stores_attached *a)
{
    return a->sent_seq ? a->sent_seq : usec_min(a->next_seq, a->acked_seq + 1 + SESSION_WINDOW_MAX);
}

static void connect_attached(void *arg, const struct stores_attached *a)
{
    struct broker_conn *c = arg;
    c->is_attaching = false;
    if (a->outcome != STORES_OK) {
        if (!is_gone(c))
            refuse_store(c, a->outcome);
        else
            release(c);
        broker_conn_done(c);
        return;
    }
    if (is_gone(c)) { /* it broke meanwhile: as if it had connected and broken */
        struct stores_session s = {c->tenant->name, session_client_id(c->session), a->incarnation,
                                   a->mod};
        struct stores_detach d = {session_expiry_sec(c->session), false,
                                  a->is_present ? dup_below(a) : a->acked_seq + 1};
        stores_detach(c->loop->stores, &s, &d, connect_released, c);
        return;
    }
    c->is_attached = true;
    c->inflow = mem_new(sizeof(*c->inflow));
    list_init(&c->inflow->receiving);
    c->inflow->incarnation = a->incarnation;
    c->inflow->mod = a->mod;
    c->inflow->next_seq = a->acked_seq + 1;
    c->inflow->known_seq = a->next_seq;
    if (a->is_present)
        c->inflow->dup_seq = dup_below(a);
    c->inflow->qos0_next_seq = a->qos0_acked_seq + 1;
    c->inflow->qos0_known_seq = a->qos0_next_seq;
    c->inflow->qos0_acked_seq = c->inflow->qos0_committed_seq = a->qos0_acked_seq;
    c->inflow->head_seq = a->acked_seq + 1;
    attached_event(c, a);
    broker_conn_done(c);
}

static void connect_cleaned(void *arg, enum stores_outcome outcome)
{
    struct broker_conn *c = arg;
    c->is_attaching = false;
    if (is_gone(c)) {
        release(c);
    } else if (outcome != STORES_OK) {
        refuse_store(c, outcome);
    } else {
        struct session_event ev = {.type = SESSION_EV_ATTACHED};
        broker_conn_step(c, &ev);
    }
    broker_conn_done(c);
}

static uint32_t receive_max(const struct codec_mqtt_connect *connect)
{
    return CODEC_MQTT_HAS(&connect->props, RECEIVE_MAXIMUM) ? connect->props.receive_max
                                                            : UINT16_MAX;
}

/* Else who may not publish would only have to vanish.  Rules that change later leave a will that is
 * stored alone, as they do messages. */
static bool may_leave(const struct broker_conn *c, const struct codec_msg *will)
{
    if (!will || broker_conn_may_publish(c, will->topic))
        return true;
    broker_conn_report(c, BROKER_EV_PUB_ACTION_DISALLOW, "the will");
    return false;
}

static void connect_claimed(void *arg, enum stores_outcome outcome)
{
    struct broker_conn *c = arg;
    if (outcome != STORES_OK) {
        if (!is_gone(c))
            refuse_store(c, outcome);
        broker_conn_done(c);
        return;
    }
    if (is_gone(c)) {
        release(c);
        broker_conn_done(c);
        return;
    }
    c->is_claimed = true;
    const struct session_attach *a = &c->ask->attach;
    if (!may_leave(c, a->will)) {
        refuse(c, SESSION_END_NOT_AUTHORIZED_CLIENT, CODEC_MQTT_RC_NOT_AUTHORIZED);
        broker_conn_done(c);
        return;
    }
    const struct session_settings *s = &c->settings->value;
    if (!a->is_persistent && !a->will && a->is_clean_start) {
        c->is_attaching = true;
        stores_clear(c->loop->stores, c->tenant->name, a->client_id, connect_cleaned, c);
        return;
    }
    struct stores_attach at = {
        .tenant = c->tenant->name,
        .client = a->client_id,
        .cookie = c->cookie,
        .is_clean = a->is_clean_start,
        .expiry_sec = a->is_persistent ? a->expiry_sec : 0,
        .receive_max = receive_max(c->ask->connect),
        .queue_len_max = (uint32_t)s->session_inbox_size,
        .is_drop_oldest = s->qos0_drop_oldest != 0,
        .info = c->user,
        .will = a->will,
        .will_delay_sec = a->will_delay_sec,
    };
    c->is_attaching = true;
    stores_attach(c->loop->stores, &at, connect_attached, c);
}

void broker_connect_attach(struct broker_conn *c, const struct session_attach *a)
{
    struct broker_loop *l = c->loop;
    c->ask->attach = *a;
    c->ask->attach.client_id = session_client_id(c->session);
    c->ask->attach.will = session_will(c->session);
    c->cookie = (uint64_t)l->index << 56 | ++l->cookie_last;
    map_put(&l->by_cookie, hash_u64(c->cookie), c);
    broker_conn_hold(c);
    stores_dict_claim(l->stores, c->tenant->name, c->ask->attach.client_id, c->cookie,
                      connect_claimed, c);
}

void broker_connect_connected(struct broker_conn *c, bool is_session_present)
{
    struct broker_metrics *m = broker_loop_metrics(c->loop, c->tenant);
    c->is_open = true;
    c->since_ms = broker_loop_wall_ms(c->loop);
    broker_metric_add(m, BROKER_M_CONNECTIONS, 1);
    broker_metric_add(m, BROKER_M_CONNECT, 1);
    if (session_is_persistent(c->session)) {
        broker_metric_add(m, BROKER_M_PSESSION_LIVE, 1);
        broker_share_held(c->loop->broker, session_client_id(c->session), c->inflow->incarnation,
                          true);
    }
    broker_renew_rates(c);
    broker_connect_ask_free(c);
    broker_conn_report(c, BROKER_EV_CLIENT_CONNECTED, is_session_present ? "session present" : "");
    if (!is_session_present)
        broker_conn_report(c, BROKER_EV_MQTT_SESSION_START, "");
    if (c->inflow)
        broker_inflow_pump(c);
}
