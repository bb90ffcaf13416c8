/* The life of a session: found, made, owned, detached, ended; its will.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Invariants:
 *   1. A session is in its holder's list exactly when it is attached, and in the heap of due ones
 * exactly when it is detached with a will or an end in sight.
 *   2. A will is in one place: with the session, or taken.  Taking it removes the one row and
 * writes the other in one command, so a new leader offers it again until it is done, and nobody
 * offers it twice under two names.
 *   3. A tenant, a holder, a body is kept as long as something points to it, and no longer.
 * It never publishes: an effect asks the host to. */
#include "inbox/inbox_priv.h"

#include "base/hash.h"
#include "base/mem.h"

/* --- tenants
 * ------------------------------------------------------------------------------------------ */

static bool tenant_eq(const void *item, const void *key)
{
    const struct inbox_tenant *t = item;
    return str_eq(str_view(t->name, t->len), *(const struct str *)key);
}

struct inbox_tenant *inbox_tenant_find(const struct inbox_machine *m, struct str name)
{
    return map_find(&m->tenants, hash_str(name, 0), tenant_eq, &name);
}

struct inbox_tenant *inbox_tenant_get(struct inbox_machine *m, struct str name)
{
    struct inbox_tenant *t = inbox_tenant_find(m, name);
    if (t == NULL) {
        t = mem_new(sizeof *t + name.n);
        t->len = (uint16_t)name.n;
        if (name.n > 0)
            memcpy(t->name, name.p, name.n);
        map_put(&m->tenants, hash_str(name, 0), t);
    }
    t->hold++;
    return t;
}

void inbox_tenant_drop(struct inbox_machine *m, struct inbox_tenant *t)
{
    must(t->hold > 0);
    if (--t->hold > 0)
        return;
    must(map_del(&m->tenants, hash_bytes(t->name, t->len, 0), t));
    mem_free(t);
}

/* --- holders
 * ------------------------------------------------------------------------------------------ */

static uint64_t holder_hash(const struct inbox_owner *o)
{
    return hash_bytes(&o->node, sizeof o->node, o->epoch ^ hash_u64(o->shard));
}

static bool holder_eq(const void *item, const void *key)
{
    const struct inbox_holder *h = item;
    const struct inbox_owner *o = key;
    return uuid_eq(&h->who.node, &o->node) && h->who.epoch == o->epoch && h->who.shard == o->shard;
}

void inbox_session_own(struct inbox_machine *m, struct inbox_session *s,
                       const struct inbox_owner *o)
{
    must(s->holder == NULL);
    struct inbox_holder *h = map_find(&m->holders, holder_hash(o), holder_eq, o);
    if (h == NULL) {
        h = mem_new(sizeof *h);
        h->who = *o;
        list_init(&h->sessions);
        list_init(&h->push_link);
        map_put(&m->holders, holder_hash(o), h);
    }
    s->holder = h;
    h->count++;
    list_push_back(&h->sessions, &s->owned);
    inbox_live_wait(m, s);
    s->tenant->stat.attached++;
}

void inbox_session_disown(struct inbox_machine *m, struct inbox_session *s)
{
    struct inbox_holder *h = s->holder;
    if (h == NULL)
        return;
    list_del(&s->owned);
    s->holder = NULL;
    inbox_live_wait(m, s);
    s->tenant->stat.attached--;
    if (--h->count > 0 || !list_empty(&h->push_link))
        return;
    must(map_del(&m->holders, holder_hash(&h->who), h));
    buf_deinit(&h->push);
    mem_free(h);
}

/* --- sessions in memory
 * --------------------------------------------------------------------------------- */

struct session_key {
    struct str tenant, client;
};

static uint64_t session_hash(struct str tenant, struct str client)
{
    return hash_str(client, hash_str(tenant, 0));
}

static bool session_eq(const void *item, const void *key)
{
    const struct inbox_session *s = item;
    const struct session_key *k = key;
    return str_eq(inbox_session_client(s), k->client) && str_eq(inbox_session_tenant(s), k->tenant);
}

struct inbox_session *inbox_session_find(const struct inbox_machine *m, struct str tenant,
                                         struct str client)
{
    struct session_key k = {tenant, client};
    return map_find(&m->sessions, session_hash(tenant, client), session_eq, &k);
}

struct inbox_session *inbox_session_new(struct inbox_machine *m, struct str tenant,
                                        struct str client)
{
    struct inbox_session *s = mem_new(sizeof *s + client.n);
    s->tenant = inbox_tenant_get(m, tenant);
    s->client_len = (uint16_t)client.n;
    memcpy(s->client, client.p, client.n);
    s->bucket = inbox_bucket(client);
    s->next = s->qos0_next = s->exchange_next = 1;
    list_init(&s->owned);
    map_put(&m->sessions, session_hash(tenant, client), s);
    s->tenant->stat.sessions++;
    return s;
}

static void live_free(struct inbox_live *l)
{
    if (l == NULL)
        return;
    list_del(&l->waiting);
    mem_free(l->queue.item);
    mem_free(l->qos0.item);
    mem_free(l->seen);
    mem_free(l->inbound);
    mem_free(l);
}

static void session_free(struct inbox_machine *m, struct inbox_session *s)
{
    inbox_session_disown(m, s);
    heap_del(&m->due, &s->due);
    s->tenant->stat.sessions--;
    s->tenant->stat.subs -= s->sub_count;
    if (s->live != NULL) {
        s->tenant->stat.messages -= s->live->queue.count + s->live->qos0.count;
        s->tenant->stat.bytes -= s->live->bytes;
    }
    live_free(s->live);
    mem_free(s->will);
    mem_free(s->subs);
    inbox_tenant_drop(m, s->tenant);
    mem_free(s);
}

void inbox_session_forget(struct inbox_machine *m, struct inbox_session *s)
{
    must(map_del(&m->sessions, session_hash(inbox_session_tenant(s), inbox_session_client(s)), s));
    session_free(m, s);
}

void inbox_session_forget_all(struct inbox_machine *m)
{
    size_t at = 0;
    for (struct inbox_session *s; (s = map_next(&m->sessions, &at)) != NULL;)
        session_free(m, s);
    map_deinit(&m->sessions);
}

static uint64_t after(uint64_t hlc, uint32_t sec)
{
    return sec == INBOX_NEVER ? USEC_NEVER : usec_add(hlc_ms(hlc), (uint64_t)sec * 1000);
}

uint64_t inbox_session_end_ms(const struct inbox_session *s)
{
    return s->holder == NULL ? after(s->detached_hlc, s->expiry_sec) : USEC_NEVER;
}

/* The will delay or the session's end, whichever is first [MQTT5 3.1.3.2.2]. */
uint64_t inbox_session_will_ms(const struct inbox_session *s)
{
    if (s->will == NULL || s->holder != NULL)
        return USEC_NEVER;
    return usec_min(after(s->detached_hlc, s->will->delay_sec), inbox_session_end_ms(s));
}

void inbox_session_arm(struct inbox_machine *m, struct inbox_session *s)
{
    uint64_t at = usec_min(inbox_session_will_ms(s), inbox_session_end_ms(s));
    if (at == USEC_NEVER)
        heap_del(&m->due, &s->due);
    else
        heap_put(&m->due, &s->due, at);
}

/* --- rows
 * ---------------------------------------------------------------------------------------------------
 */

struct str inbox_row_key(struct inbox_machine *m, const struct inbox_session *s, char letter)
{
    m->key.n = 0;
    inbox_key_row(&m->key, inbox_session_tenant(s), inbox_session_client(s), letter);
    return buf_str(&m->key);
}

struct str inbox_row_key_seq(struct inbox_machine *m, const struct inbox_session *s, char letter,
                             uint64_t seq)
{
    (void)inbox_row_key(m, s, letter);
    buf_put_u64(&m->key, seq);
    return buf_str(&m->key);
}

void inbox_session_write(struct inbox_step *st, const struct inbox_session *s)
{
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(v, INBOX_T_MOD, s->mod);
    inbox_put_u64(v, INBOX_T_EXPIRY, s->expiry_sec);
    inbox_put_u64(v, INBOX_T_LIMIT, s->limit);
    inbox_put_u64(v, INBOX_T_BYTE_MAX, s->byte_max);
    inbox_put_u64(v, INBOX_T_WINDOW, s->window);
    inbox_put_u64(v, INBOX_T_FLAGS, s->qos0_drop_oldest ? INBOX_FLAG_DROP_OLDEST : 0u);
    inbox_put_u64(v, INBOX_T_CREATED, s->created_hlc);
    inbox_put_u64(v, INBOX_T_HLC, s->detached_hlc);
    inbox_put_u64(v, INBOX_T_SENT, s->sent);
    if (s->holder != NULL)
        inbox_put_owner(v, &s->holder->who);
    range_out_put(st->out, inbox_row_key(st->m, s, 'm'), buf_str(v));
}

static void del(struct inbox_step *st, const struct inbox_session *s, char letter)
{
    range_out_del(st->out, inbox_row_key(st->m, s, letter));
}

/* --- wills
 * ----------------------------------------------------------------------------------------------------
 */

struct taken_key {
    struct str tenant, client;
    uint64_t id;
};

static bool taken_eq(const void *item, const void *key)
{
    const struct inbox_taken *w = item;
    const struct taken_key *k = key;
    return w->id == k->id && str_eq(w->client, k->client) &&
           str_eq(str_view(w->tenant->name, w->tenant->len), k->tenant);
}

static uint64_t taken_hash(struct str tenant, struct str client, uint64_t id)
{
    return session_hash(tenant, client) ^ hash_u64(id);
}

struct inbox_taken *inbox_taken_find(const struct inbox_machine *m, struct str tenant,
                                     struct str client, uint64_t id)
{
    struct taken_key k = {tenant, client, id};
    return map_find(&m->wills, taken_hash(tenant, client, id), taken_eq, &k);
}

struct inbox_taken *inbox_taken_new(struct inbox_machine *m, struct str tenant,
                                    const struct inbox_fields *f, struct str client, uint64_t id)
{
    struct inbox_taken *w = mem_new(sizeof *w);
    w->tenant = inbox_tenant_get(m, tenant);
    w->id = id;
    w->incarnation = f->u[INBOX_T_INCARNATION];
    w->client = str_dup(client);
    w->message = str_dup(f->s[INBOX_T_MESSAGE]);
    map_put(&m->wills, taken_hash(tenant, client, id), w);
    heap_put(&m->retry, &w->retry, 0);
    return w;
}

void inbox_taken_forget(struct inbox_machine *m, struct inbox_taken *w)
{
    struct str tenant = str_view(w->tenant->name, w->tenant->len);
    must(map_del(&m->wills, taken_hash(tenant, w->client, w->id), w));
    heap_del(&m->retry, &w->retry);
    inbox_tenant_drop(m, w->tenant);
    mem_free((void *)(uintptr_t)w->client.p);
    mem_free((void *)(uintptr_t)w->message.p);
    mem_free(w);
}

void inbox_taken_move(struct inbox_machine *from, struct inbox_machine *to, struct inbox_taken *w,
                      struct inbox_tenant *t)
{
    uint64_t hash = taken_hash(str_view(t->name, t->len), w->client, w->id);
    usec_t at = w->retry.at;
    must(map_del(&from->wills, hash, w));
    heap_del(&from->retry, &w->retry);
    w->tenant = t;
    map_put(&to->wills, hash, w);
    heap_put(&to->retry, &w->retry, at);
}

void inbox_taken_offer(struct inbox_step *st, struct inbox_taken *w)
{
    struct buf *v = &st->m->value;
    heap_put(&st->m->retry, &w->retry, hlc_ms(st->in->hlc) + INBOX_WILL_RETRY_MS);
    if (!st->in->has_host)
        return;
    v->n = 0;
    codec_record_begin(v, INBOX_K_EFFECT, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OUTCOME, INBOX_EFFECT_WILL);
    inbox_put_str(v, INBOX_T_TENANT, str_view(w->tenant->name, w->tenant->len));
    inbox_put_str(v, INBOX_T_CLIENT, w->client);
    inbox_put_u64(v, INBOX_T_INCARNATION, w->incarnation);
    inbox_put_u64(v, INBOX_T_WILL_ID, w->id);
    inbox_put_str(v, INBOX_T_MESSAGE, w->message);
    range_out_effect(st->out, buf_str(v));
}

struct inbox_will *inbox_will_new(uint32_t delay_sec, struct str message)
{
    struct inbox_will *w = mem_alloc(sizeof *w + message.n);
    w->delay_sec = delay_sec;
    w->len = (uint32_t)message.n;
    if (message.n > 0)
        memcpy(w->message, message.p, message.n);
    return w;
}

void inbox_session_drop_will(struct inbox_step *st, struct inbox_session *s)
{
    if (s->will == NULL)
        return;
    del(st, s, 'w');
    s->will = mem_free(s->will);
}

void inbox_session_take_will(struct inbox_step *st, struct inbox_session *s)
{
    if (s->will == NULL)
        return;
    struct inbox_machine *m = st->m;
    struct inbox_fields f = {{0}, {{0}}};
    f.u[INBOX_T_INCARNATION] = s->incarnation;
    f.s[INBOX_T_MESSAGE] = str_view(s->will->message, s->will->len);
    struct str tenant = inbox_session_tenant(s), client = inbox_session_client(s);
    uint64_t id =
        st->in->hlc; /* far beyond the exchanges of any session, whose numbers it shares */
    while (inbox_taken_find(m, tenant, client, id) != NULL)
        id++;
    struct inbox_taken *w = inbox_taken_new(m, tenant, &f, client, id);
    m->value.n = 0;
    codec_record_begin(&m->value, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(&m->value, INBOX_T_INCARNATION, w->incarnation);
    inbox_put_str(&m->value, INBOX_T_MESSAGE, w->message);
    range_out_put(st->out, inbox_row_key_seq(m, s, 'W', w->id), buf_str(&m->value));
    inbox_session_drop_will(st, s);
    inbox_taken_offer(st, w);
}

/* --- the end
 * ----------------------------------------------------------------------------------------------------
 */

static void effect_gone(struct inbox_step *st, const struct inbox_session *s)
{
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_EFFECT, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OUTCOME, INBOX_EFFECT_GONE);
    inbox_put_str(v, INBOX_T_TENANT, inbox_session_tenant(s));
    inbox_put_str(v, INBOX_T_CLIENT, inbox_session_client(s));
    inbox_put_u64(v, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(v, INBOX_T_MOD, s->mod);
    inbox_put_u64(v, INBOX_T_HLC, st->in->hlc);
    inbox_put_str(v, INBOX_T_LIST, str_view(s->subs, s->subs_len));
    range_out_effect(st->out, buf_str(v));
}

void inbox_session_end(struct inbox_step *st, struct inbox_session *s)
{
    struct inbox_machine *m = st->m;
    inbox_session_take_will(st, s);
    if (st->in->has_host)
        effect_gone(st, s);
    struct str rest = str_view(s->subs, s->subs_len);
    struct inbox_sub sub;
    while (inbox_sub_next(&rest, &sub)) {
        (void)inbox_row_key(m, s, 's');
        buf_put_str(&m->key, sub.filter);
        range_out_del(st->out, buf_str(&m->key));
    }
    inbox_queue_clear(st, s);
    if (s->live != NULL) {
        for (size_t i = 0; i < s->live->inbound_count; i++) {
            (void)inbox_row_key(m, s, 'r');
            buf_put_u16(&m->key, s->live->inbound[i].packet_id);
            range_out_del(st->out, buf_str(&m->key));
        }
    }
    static const char letters[] = {'m', 'i', 'k', 'x', 'd'};
    for (size_t i = 0; i < sizeof letters; i++)
        del(st, s, letters[i]);
    inbox_session_forget(m, s);
}

void inbox_session_detach(struct inbox_step *st, struct inbox_session *s)
{
    inbox_session_disown(st->m, s);
    s->detached_hlc = st->in->hlc;
    uint64_t now = hlc_ms(st->in->hlc);
    if (inbox_session_end_ms(s) <= now) {
        inbox_session_end(st, s);
        return;
    }
    if (inbox_session_will_ms(s) <= now)
        inbox_session_take_will(st, s);
    inbox_session_write(st, s);
    inbox_session_arm(st->m, s);
}
