/* What is asked of a leader: backlog, state, what is due, what must be cleared.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A query changes no state.  Messages are read from rows by the host: the reply starts with an
 * outcome and the two keys of the scan, the rows follow behind. */
#include "inbox/inbox_priv.h"

#include "base/mem.h"

#define DUE_MAX 256        /* sessions and wills in one command */
#define ASK_AGAIN_MS 1000u /* a proposal that is not applied by then was lost */
#define EXPIRE_MAX 4096u

static void begin(struct buf *out, enum inbox_kind kind, struct str tenant, struct str client)
{
    codec_record_begin(out, (uint8_t)kind, INBOX_VERSION);
    inbox_put_str(out, INBOX_T_TENANT, tenant);
    inbox_put_str(out, INBOX_T_CLIENT, client);
}

void inbox_query_fetch(struct buf *out, const struct inbox_ref *ref, bool is_qos0, uint64_t seq,
                       uint32_t row_max, uint32_t byte_max)
{
    begin(out, INBOX_K_Q_FETCH, ref->tenant, ref->client);
    inbox_put_u64(out, INBOX_T_INCARNATION, ref->incarnation);
    inbox_put_u64(out, INBOX_T_QOS, is_qos0 ? 0 : 1);
    inbox_put_u64(out, INBOX_T_SEQ, seq);
    inbox_put_u64(out, INBOX_T_LIMIT, row_max);
    inbox_put_u64(out, INBOX_T_BYTE_MAX, byte_max);
}

void inbox_query_body(struct buf *out, struct str tenant, struct str client, struct str body)
{
    begin(out, INBOX_K_Q_BODY, tenant, client);
    inbox_put_str(out, INBOX_T_BODY, body);
}

void inbox_query_state(struct buf *out, struct str tenant, struct str client)
{
    begin(out, INBOX_K_Q_STATE, tenant, client);
}

void inbox_query_dead(struct buf *out, const struct inbox_owner *owner, uint32_t max)
{
    begin(out, INBOX_K_Q_DEAD, STR(""), STR(""));
    inbox_put_owner(out, owner);
    inbox_put_u64(out, INBOX_T_LIMIT, max);
}

void inbox_query_owners(struct buf *out)
{
    begin(out, INBOX_K_Q_OWNERS, STR(""), STR(""));
}

void inbox_query_expire(struct buf *out, struct str tenant, uint32_t age_sec, uint32_t max)
{
    begin(out, INBOX_K_Q_EXPIRE, tenant, STR(""));
    inbox_put_u64(out, INBOX_T_EXPIRY, age_sec);
    inbox_put_u64(out, INBOX_T_LIMIT, max);
}

void inbox_query_stat(struct buf *out, struct str tenant)
{
    begin(out, INBOX_K_Q_STAT, tenant, STR(""));
}

/* --- scans
 * --------------------------------------------------------------------------------------------------
 */

/* The keys of a scan go into the reply, where they stay: from m->key to m->text. */
static int scan_of(struct inbox_machine *m, struct buf *reply, struct range_scan *scan)
{
    size_t from_n = m->key.n, to_n = m->text.n;
    buf_put_varint(reply, from_n + to_n);
    size_t at = reply->n;
    buf_put_str(reply, buf_str(&m->key));
    buf_put_str(reply, buf_str(&m->text));
    scan->from = str_view(reply->p + at, from_n);
    scan->to = str_view(reply->p + at + from_n, to_n);
    return RANGE_QUERY_E_SCAN;
}

static int no_scan(struct buf *reply)
{
    buf_put_varint(reply, 0);
    return 0;
}

static int query_fetch(struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply,
                       struct range_scan *scan)
{
    struct str tenant = f->s[INBOX_T_TENANT], client = f->s[INBOX_T_CLIENT];
    uint8_t outcome = inbox_place(m, tenant, client);
    const struct inbox_session *s = outcome == 0 ? inbox_session_find(m, tenant, client) : NULL;
    if (outcome == 0 && (s == NULL || s->incarnation != f->u[INBOX_T_INCARNATION]))
        outcome = INBOX_E_NONE;
    buf_put_u8(reply, outcome);
    if (outcome != 0)
        return no_scan(reply);
    bool is_qos0 = f->u[INBOX_T_QOS] == 0;
    uint64_t from = f->u[INBOX_T_SEQ], acked = is_qos0 ? s->qos0_acked : s->acked;
    char letter = is_qos0 ? 'z' : 'q';
    (void)inbox_row_key_seq(m, s, letter, from > acked ? from : acked + 1);
    m->text.n = 0;
    inbox_key_row(&m->text, tenant, client, (char)(letter + 1));
    scan->row_max = f->u[INBOX_T_LIMIT] < UINT32_MAX ? (uint32_t)f->u[INBOX_T_LIMIT] : UINT32_MAX;
    scan->byte_max =
        f->u[INBOX_T_BYTE_MAX] < UINT32_MAX ? (uint32_t)f->u[INBOX_T_BYTE_MAX] : UINT32_MAX;
    return scan_of(m, reply, scan);
}

static int query_body(struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply,
                      struct range_scan *scan)
{
    struct str tenant = f->s[INBOX_T_TENANT], client = f->s[INBOX_T_CLIENT];
    uint8_t outcome = inbox_place(m, tenant, client);
    if (f->s[INBOX_T_BODY].n != INBOX_BODY_ID)
        outcome = INBOX_E_INVALID;
    buf_put_u8(reply, outcome);
    if (outcome != 0)
        return no_scan(reply);
    m->key.n = m->text.n = 0;
    inbox_key_body(&m->key, tenant, inbox_shelf(inbox_bucket(client)), f->s[INBOX_T_BODY]);
    buf_put_str(&m->text, buf_str(&m->key));
    buf_put_u8(&m->text, 0);
    scan->row_max = 1;
    scan->byte_max = UINT32_MAX;
    return scan_of(m, reply, scan);
}

static int query_state(struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply,
                       struct range_scan *scan)
{
    struct str tenant = f->s[INBOX_T_TENANT], client = f->s[INBOX_T_CLIENT];
    uint8_t outcome = inbox_place(m, tenant, client);
    const struct inbox_session *s = outcome == 0 ? inbox_session_find(m, tenant, client) : NULL;
    if (outcome == 0 && s == NULL)
        outcome = INBOX_E_NONE;
    buf_put_u8(reply, outcome);
    if (outcome != 0)
        return no_scan(reply);
    struct buf *v = &m->value;
    v->n = 0;
    inbox_state_put(v, s);
    buf_put_varint(reply, v->n);
    buf_put_str(reply, buf_str(v));
    (void)inbox_row_key(m, s, 'i');
    m->text.n = 0;
    inbox_key_row(&m->text, tenant, client, 'i' + 1);
    scan->row_max = 1;
    scan->byte_max = UINT32_MAX;
    return scan_of(m, reply, scan);
}

/* --- commands for the host to propose
 * --------------------------------------------------------------------------- */

static void list_session(struct buf *out, const struct inbox_session *s)
{
    inbox_element_put(out, &(struct inbox_element){inbox_session_tenant(s), inbox_session_client(s),
                                                   s->incarnation, s->mod, false});
}

/* A list command whose elements are in m->value; nothing when there are none. */
static void list_finish(struct inbox_machine *m, enum inbox_kind kind, struct buf *out)
{
    if (m->value.n == 0)
        return;
    codec_record_begin(out, (uint8_t)kind, INBOX_VERSION);
    inbox_put_str(out, INBOX_T_LIST, buf_str(&m->value));
}

static void query_dead(struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply)
{
    struct inbox_owner who;
    uint64_t left = f->u[INBOX_T_LIMIT];
    size_t at = 0;
    m->value.n = 0;
    if (!inbox_fields_owner(f, &who))
        return;
    for (struct inbox_holder *h; (h = map_next(&m->holders, &at)) != NULL;) {
        if (h->who.epoch != who.epoch || !uuid_eq(&h->who.node, &who.node))
            continue;
        for (struct list *l = h->sessions.next; l != &h->sessions && left > 0; l = l->next, left--)
            list_session(&m->value, container_of(l, struct inbox_session, owned));
    }
    list_finish(m, INBOX_K_ORPHAN, reply);
}

static void query_owners(const struct inbox_machine *m, struct buf *reply)
{
    size_t at = 0;
    for (const struct inbox_holder *h; (h = map_next(&m->holders, &at)) != NULL;) {
        buf_put(reply, h->who.node.b, sizeof h->who.node.b);
        buf_put_u64(reply, h->who.epoch);
        buf_put_u32(reply, h->who.shard);
        buf_put_varint(reply, h->count);
    }
}

static void query_expire(struct inbox_machine *m, uint64_t hlc, const struct inbox_fields *f,
                         struct buf *reply)
{
    uint64_t now = hlc_ms(hlc), age_ms = f->u[INBOX_T_EXPIRY] * 1000, left = f->u[INBOX_T_LIMIT];
    size_t at = 0;
    m->value.n = 0;
    left = left < EXPIRE_MAX ? left : EXPIRE_MAX;
    for (const struct inbox_session *s; left > 0 && (s = map_next(&m->sessions, &at)) != NULL;) {
        if (s->holder != NULL || !str_eq(inbox_session_tenant(s), f->s[INBOX_T_TENANT]) ||
            usec_add(hlc_ms(s->detached_hlc), age_ms) > now)
            continue;
        list_session(&m->value, s);
        left--;
    }
    list_finish(m, INBOX_K_EXPIRE, reply);
}

/* When something is to be done. */
static uint64_t deadline(const struct inbox_machine *m)
{
    uint64_t at = usec_min(heap_deadline(&m->due), heap_deadline(&m->retry));
    return list_empty(&m->waiting) ? at : usec_min(at, m->nudge_ms);
}

uint64_t inbox_tick(void *arg, uint64_t hlc, struct buf *out_command)
{
    struct inbox_machine *m = arg;
    uint64_t now = hlc_ms(hlc), next = deadline(m);
    if (next > now)
        return next;
    if (m->asked_ms > now) /* already proposed */
        return m->asked_ms;
    m->value.n = 0;
    /* The heap's tree is walked from its top: a due child is behind a due parent. */
    unsigned count = 0;
    for (size_t i = 0; i < m->due.count && i < 4 * DUE_MAX && count < DUE_MAX; i++) {
        if (m->due.node[i]->at <= now) {
            list_session(&m->value, container_of(m->due.node[i], struct inbox_session, due));
            count++;
        }
    }
    for (size_t i = 0; i < m->retry.count && i < 4 * DUE_MAX && count < 2 * DUE_MAX; i++) {
        const struct inbox_taken *w = container_of(m->retry.node[i], struct inbox_taken, retry);
        if (w->retry.at > now)
            continue;
        inbox_element_put(&m->value,
                          &(struct inbox_element){str_view(w->tenant->name, w->tenant->len),
                                                  w->client, w->incarnation, w->id, true});
        count++;
    }
    codec_record_begin(out_command, INBOX_K_DUE, INBOX_VERSION); /* empty: for the nudge alone */
    inbox_put_str(out_command, INBOX_T_LIST, buf_str(&m->value));
    m->asked_ms = now + ASK_AGAIN_MS;
    return m->asked_ms;
}

static void query_stat(const struct inbox_machine *m, struct str tenant, struct buf *reply)
{
    struct inbox_stat sum = {0};
    size_t at = 0;
    for (const struct inbox_tenant *t; (t = map_next(&m->tenants, &at)) != NULL;) {
        if (tenant.n > 0 && !str_eq(tenant, str_view(t->name, t->len)))
            continue;
        sum.sessions += t->stat.sessions;
        sum.attached += t->stat.attached;
        sum.subs += t->stat.subs;
        sum.messages += t->stat.messages;
        sum.bytes += t->stat.bytes;
        sum.bodies += t->stat.bodies;
    }
    const uint64_t v[] = {sum.sessions, sum.attached, sum.subs,
                          sum.messages, sum.bytes,    sum.bodies};
    for (size_t i = 0; i < countof(v); i++)
        buf_put_varint(reply, v[i]);
}

int inbox_query(void *arg, uint64_t hlc, struct str request, struct buf *reply,
                struct range_scan *scan)
{
    struct inbox_machine *m = arg;
    struct inbox_fields f;
    uint8_t kind;
    if (!inbox_fields_get(request, &kind, &f))
        return RANGE_QUERY_E_INVALID;
    switch (kind) {
    case INBOX_K_Q_FETCH:
        return query_fetch(m, &f, reply, scan);
    case INBOX_K_Q_BODY:
        return query_body(m, &f, reply, scan);
    case INBOX_K_Q_STATE:
        return query_state(m, &f, reply, scan);
    case INBOX_K_Q_DEAD:
        query_dead(m, &f, reply);
        return 0;
    case INBOX_K_Q_OWNERS:
        query_owners(m, reply);
        return 0;
    case INBOX_K_Q_EXPIRE:
        query_expire(m, hlc, &f, reply);
        return 0;
    case INBOX_K_Q_STAT:
        query_stat(m, f.s[INBOX_T_TENANT], reply);
        return 0;
    case INBOX_K_Q_LIST:
        inbox_census(m, &f, reply);
        return 0;
    default:
        return RANGE_QUERY_E_INVALID;
    }
}

/* --- replies
 * -------------------------------------------------------------------------------------------------------
 */

static struct str get_run(struct codec_cursor *c)
{
    uint64_t n = codec_cursor_varint(c);
    if (n > codec_cursor_left(c)) {
        codec_cursor_fail(c);
        n = 0;
    }
    return codec_cursor_bytes(c, (size_t)n);
}

bool inbox_fetch_begin(struct str reply, struct inbox_fetch *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    out->outcome = codec_cursor_u8(&c);
    (void)get_run(&c);
    out->rest = str_view(c.p, codec_cursor_left(&c));
    out->is_bad = c.bad;
    return !c.bad;
}

static bool row_next(struct inbox_fetch *f, struct str *out_key, struct str *out_value)
{
    struct codec_cursor c = codec_cursor_of(f->rest);
    if (f->rest.n == 0)
        return false;
    *out_key = get_run(&c);
    *out_value = get_run(&c);
    f->is_bad = c.bad;
    f->rest = str_view(c.p, codec_cursor_left(&c));
    return !c.bad;
}

bool inbox_fetch_next(struct inbox_fetch *f, struct inbox_fetched *out)
{
    struct str key, value;
    struct inbox_fields v;
    uint8_t kind;
    if (!row_next(f, &key, &value))
        return false;
    *out = (struct inbox_fetched){.message = {NULL, 0}};
    bool is_good = key.n >= 8 && inbox_fields_get(value, &kind, &v) && kind == INBOX_K_ROW;
    if (is_good) {
        struct codec_cursor c = codec_cursor_of(v.s[INBOX_T_LIST]);
        is_good = inbox_grant_get(&c, &out->head);
        c = codec_cursor_of(str_view(key.p + key.n - 8, 8));
        out->head.seq = codec_cursor_u64(&c);
        out->message = v.s[INBOX_T_MESSAGE];
        out->body = v.s[INBOX_T_BODY];
    }
    f->is_bad = !is_good;
    return is_good;
}

bool inbox_reply_body(struct str reply, struct str *out_message)
{
    struct inbox_fetch f;
    struct str key;
    return inbox_fetch_begin(reply, &f) && f.outcome == 0 && row_next(&f, &key, out_message);
}

bool inbox_reply_state(struct str reply, struct inbox_state *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    struct inbox_fields f;
    *out = (struct inbox_state){.outcome = codec_cursor_u8(&c)};
    if (c.bad || out->outcome != INBOX_OK)
        return !c.bad;
    struct codec_cursor in = codec_cursor_of(get_run(&c));
    (void)get_run(&c);
    if (c.bad || !inbox_fields_rest(&in, &f) || !inbox_state_get(&f, out))
        return false;
    struct inbox_fetch rows = {.rest = str_view(c.p, codec_cursor_left(&c))};
    struct str key;
    (void)row_next(&rows, &key, &out->info);
    return !rows.is_bad;
}

bool inbox_reply_owner(struct str *rest, struct inbox_owner *out, uint64_t *out_sessions)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    struct str node = codec_cursor_bytes(&c, sizeof out->node.b);
    if (!c.bad)
        memcpy(out->node.b, node.p, node.n);
    out->epoch = codec_cursor_u64(&c);
    out->shard = codec_cursor_u32(&c);
    *out_sessions = codec_cursor_varint(&c);
    *rest = str_view(c.p, codec_cursor_left(&c));
    return !c.bad;
}

bool inbox_reply_stat(struct str reply, struct inbox_stat *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    out->sessions = codec_cursor_varint(&c);
    out->attached = codec_cursor_varint(&c);
    out->subs = codec_cursor_varint(&c);
    out->messages = codec_cursor_varint(&c);
    out->bytes = codec_cursor_varint(&c);
    out->bodies = codec_cursor_varint(&c);
    return !c.bad;
}
