/* The machine of persistent sessions: commands in, rows and replies out.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Invariants:
 *   1. A command of an owner acts only when incarnation and mod are the session's.
 *   2. Whatever a command does to memory it does to rows, so that rows loaded anew give the same
 * state.
 *   3. has_host decides about effects alone.
 * It never reads the engine and never looks at a clock but the command's. */
#include "inbox/inbox_priv.h"

#include "base/hash.h"
#include "base/mem.h"

void inbox_reply_outcome(struct inbox_step *st, uint8_t outcome)
{
    codec_record_begin(&st->out->reply, INBOX_K_REPLY, INBOX_VERSION);
    inbox_put_u64(&st->out->reply, INBOX_T_OUTCOME, outcome);
}

static bool is_name(struct str s)
{
    return s.n <= UINT16_MAX && (s.n == 0 || memchr(s.p, 0, s.n) == NULL);
}

uint8_t inbox_place(struct inbox_machine *m, struct str tenant, struct str client)
{
    if (client.n == 0 || !is_name(client) || !is_name(tenant))
        return INBOX_E_INVALID;
    m->text.n = 0;
    inbox_key(&m->text, tenant, client);
    struct str key = buf_str(&m->text);
    bool is_inside =
        str_cmp(buf_str(&m->start), key) <= 0 && (m->is_open || str_cmp(key, buf_str(&m->end)) < 0);
    return is_inside ? 0 : INBOX_E_MOVED;
}

/* The session that is named, in any life; NULL: the reply says why. */
static struct inbox_session *named(struct inbox_step *st, const struct inbox_fields *f)
{
    uint8_t place = inbox_place(st->m, f->s[INBOX_T_TENANT], f->s[INBOX_T_CLIENT]);
    struct inbox_session *s =
        place == 0 ? inbox_session_find(st->m, f->s[INBOX_T_TENANT], f->s[INBOX_T_CLIENT]) : NULL;
    if (s == NULL)
        inbox_reply_outcome(st, place != 0 ? place : (uint8_t)INBOX_E_NONE);
    return s;
}

struct inbox_session *inbox_owned(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = named(st, f);
    if (s == NULL)
        return NULL;
    if (s->incarnation != f->u[INBOX_T_INCARNATION]) {
        inbox_reply_outcome(st, INBOX_E_NONE);
        return NULL;
    }
    if (s->mod != f->u[INBOX_T_MOD] || s->holder == NULL) {
        inbox_reply_outcome(st, INBOX_E_CONFLICT);
        return NULL;
    }
    return s;
}

/* --- attach
 * -------------------------------------------------------------------------------------------------
 */

static bool is_attach(const struct inbox_fields *f, struct inbox_owner *out_owner)
{
    return inbox_fields_owner(f, out_owner) && !uuid_is_zero(&out_owner->node) &&
           f->u[INBOX_T_EXPIRY] <= UINT32_MAX && f->u[INBOX_T_LIMIT] >= 1 &&
           f->u[INBOX_T_LIMIT] <= INBOX_LIMIT_MAX && f->u[INBOX_T_WINDOW] >= 1 &&
           f->u[INBOX_T_WINDOW] <= UINT16_MAX && f->u[INBOX_T_DELAY] <= UINT32_MAX &&
           f->s[INBOX_T_WILL].n <= UINT32_MAX;
}

static void effect_taken(struct inbox_step *st, const struct inbox_session *s,
                         const struct inbox_owner *old)
{
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_EFFECT, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OUTCOME, INBOX_EFFECT_TAKEN);
    inbox_put_owner(v, old);
    inbox_put_str(v, INBOX_T_TENANT, inbox_session_tenant(s));
    inbox_put_str(v, INBOX_T_CLIENT, inbox_session_client(s));
    inbox_put_u64(v, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(v, INBOX_T_MOD, s->mod);
    range_out_effect(st->out, buf_str(v));
}

/* The former connection is over: what becomes of its will.  A will with a delay that has not passed
 * is cancelled by the resume; else it is published [MQTT5 3.1.3.2.2]. */
static void settle_will(struct inbox_step *st, struct inbox_session *s)
{
    if (s->will == NULL)
        return;
    bool is_due = s->holder != NULL ? s->will->delay_sec == 0
                                    : inbox_session_will_ms(s) <= hlc_ms(st->in->hlc);
    if (is_due)
        inbox_session_take_will(st, s);
    else
        inbox_session_drop_will(st, s);
}

static void write_will(struct inbox_step *st, struct inbox_session *s, const struct inbox_fields *f)
{
    struct str will = f->s[INBOX_T_WILL];
    if (will.n == 0)
        return;
    s->will = inbox_will_new((uint32_t)f->u[INBOX_T_DELAY], will);
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_DELAY, s->will->delay_sec);
    inbox_put_str(v, INBOX_T_MESSAGE, will);
    range_out_put(st->out, inbox_row_key(st->m, s, 'w'), buf_str(v));
}

static void reply_attached(struct inbox_step *st, const struct inbox_session *s, bool is_present,
                           const struct inbox_owner *old)
{
    struct buf *r = &st->out->reply;
    inbox_reply_outcome(st, INBOX_OK);
    inbox_put_u64(r, INBOX_T_FLAGS, is_present ? INBOX_FLAG_PRESENT : 0u);
    inbox_put_u64(r, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(r, INBOX_T_MOD, s->mod);
    inbox_put_u64(r, INBOX_T_ACKED, s->acked);
    inbox_put_u64(r, INBOX_T_NEXT, s->next);
    inbox_put_u64(r, INBOX_T_QOS0_ACKED, s->qos0_acked);
    inbox_put_u64(r, INBOX_T_QOS0_NEXT, s->qos0_next);
    inbox_put_u64(r, INBOX_T_SENT, s->sent);
    inbox_put_u64(r, INBOX_T_HLC, st->in->hlc);
    inbox_put_u64(r, INBOX_T_FLOOR, inbox_inbound_floor(s));
    inbox_put_owner(r, old);
    if (s->live == NULL)
        return;
    size_t opened = codec_record_open(r, INBOX_T_MARKS);
    for (size_t i = 0; i < s->live->queue.count; i++) {
        const struct inbox_item *x = inbox_ring_at(&s->live->queue, i);
        if (x->phase != INBOX_PHASE_QUEUED) {
            buf_put_varint(r, s->acked + 1 + i);
            buf_put_u8(r, x->phase);
        }
    }
    codec_record_close(r, opened);
    opened = codec_record_open(r, INBOX_T_RECEIVED);
    for (size_t i = 0; i < s->live->inbound_count; i++) {
        buf_put_u16(r, s->live->inbound[i].packet_id);
        buf_put_varint(r, s->live->inbound[i].exchange);
    }
    codec_record_close(r, opened);
}

/* Names one life of one session, also among all sessions: publishers are told apart by it. */
static uint64_t incarnation_of(const struct inbox_session *s, uint64_t hlc, uint64_t former)
{
    uint64_t v = hash_str(inbox_session_client(s), hash_str(inbox_session_tenant(s), hlc));
    while (v == 0 || v == former)
        v++;
    return v;
}

static void apply_attach(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_machine *m = st->m;
    struct inbox_owner owner, old = {.epoch = 0};
    uint8_t place = inbox_place(m, f->s[INBOX_T_TENANT], f->s[INBOX_T_CLIENT]);
    if (place != 0 || !is_attach(f, &owner)) {
        inbox_reply_outcome(st, place != 0 ? place : (uint8_t)INBOX_E_INVALID);
        return;
    }
    struct inbox_session *s = inbox_session_find(m, f->s[INBOX_T_TENANT], f->s[INBOX_T_CLIENT]);
    uint64_t former = s != NULL ? s->incarnation : 0;
    if (s != NULL && s->holder != NULL) {
        old = s->holder->who;
        if (st->in->has_host)
            effect_taken(st, s, &old);
    }
    /* without expiry a session ends with its connection, also with one that is taken over here */
    bool is_over = s != NULL && (inbox_session_end_ms(s) <= hlc_ms(st->in->hlc) ||
                                 (s->holder != NULL && s->expiry_sec == 0));
    if (s != NULL && (is_over || (f->u[INBOX_T_FLAGS] & INBOX_FLAG_CLEAN))) {
        inbox_session_end(st, s);
        s = NULL;
    }
    bool is_present = s != NULL;
    if (is_present) {
        settle_will(st, s);
        inbox_session_disown(m, s);
    } else {
        s = inbox_session_new(m, f->s[INBOX_T_TENANT], f->s[INBOX_T_CLIENT]);
        s->incarnation = incarnation_of(s, st->in->hlc, former);
        s->created_hlc = st->in->hlc;
    }
    s->mod++;
    s->detached_hlc = 0;
    s->expiry_sec = (uint32_t)f->u[INBOX_T_EXPIRY];
    s->limit = (uint32_t)f->u[INBOX_T_LIMIT];
    s->byte_max = f->u[INBOX_T_BYTE_MAX];
    s->window = (uint32_t)f->u[INBOX_T_WINDOW];
    s->qos0_drop_oldest = (f->u[INBOX_T_FLAGS] & INBOX_FLAG_DROP_OLDEST) != 0;
    inbox_session_own(m, s, &owner);
    inbox_session_arm(m, s);
    reply_attached(st, s, is_present, &old);
    s->sent = 0; /* until its owner says so: it may die without a word */
    inbox_session_write(st, s);
    range_out_put(st->out, inbox_row_key(m, s, 'i'), f->s[INBOX_T_INFO]);
    write_will(st, s, f);
}

/* --- the other lives
 * ------------------------------------------------------------------------------------------- */

static void apply_detach(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    if (s == NULL)
        return;
    if (f->u[INBOX_T_EXPIRY] > UINT32_MAX) {
        inbox_reply_outcome(st, INBOX_E_INVALID);
        return;
    }
    if (!(f->u[INBOX_T_FLAGS] & INBOX_FLAG_KEEP_WILL))
        inbox_session_drop_will(st, s);
    s->expiry_sec = (uint32_t)f->u[INBOX_T_EXPIRY];
    s->sent = f->u[INBOX_T_SENT];
    inbox_session_detach(st, s);
    inbox_reply_outcome(st, INBOX_OK);
}

static void apply_delete(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = named(st, f);
    uint64_t incarnation = f->u[INBOX_T_INCARNATION], mod = f->u[INBOX_T_MOD];
    if (s == NULL)
        return;
    if ((incarnation != 0 && incarnation != s->incarnation) || (mod != 0 && mod != s->mod)) {
        inbox_reply_outcome(st, incarnation != s->incarnation ? INBOX_E_NONE : INBOX_E_CONFLICT);
        return;
    }
    if (s->holder != NULL && st->in->has_host)
        effect_taken(st, s, &s->holder->who);
    inbox_session_end(st, s);
    inbox_reply_outcome(st, INBOX_OK);
}

static void apply_will_done(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_machine *m = st->m;
    struct str tenant = f->s[INBOX_T_TENANT], client = f->s[INBOX_T_CLIENT];
    uint8_t place = inbox_place(m, tenant, client);
    struct inbox_taken *w =
        place == 0 ? inbox_taken_find(m, tenant, client, f->u[INBOX_T_WILL_ID]) : NULL;
    if (w != NULL) {
        m->key.n = 0;
        inbox_key_row(&m->key, tenant, client, 'W');
        buf_put_u64(&m->key, w->id);
        range_out_del(st->out, buf_str(&m->key));
        inbox_taken_forget(m, w);
    }
    inbox_reply_outcome(st, w == NULL && place == 0 ? (uint8_t)INBOX_E_NONE : place);
}

static void list_one(struct inbox_step *st, uint8_t kind, const struct inbox_element *e)
{
    struct inbox_machine *m = st->m;
    uint64_t now = hlc_ms(st->in->hlc);
    if (inbox_place(m, e->tenant, e->client) != 0)
        return;
    if (e->is_will) {
        struct inbox_taken *w = inbox_taken_find(m, e->tenant, e->client, e->mod);
        if (w != NULL)
            inbox_taken_offer(st, w);
        return;
    }
    struct inbox_session *s = inbox_session_find(m, e->tenant, e->client);
    if (s == NULL || s->incarnation != e->incarnation || s->mod != e->mod)
        return;
    if (kind == INBOX_K_ORPHAN) {
        if (s->holder != NULL)
            inbox_session_detach(st, s);
    } else if (s->holder == NULL && (kind == INBOX_K_EXPIRE || inbox_session_end_ms(s) <= now)) {
        inbox_session_end(st, s);
    } else if (inbox_session_will_ms(s) <= now) {
        inbox_session_take_will(st, s);
        inbox_session_arm(m, s);
    }
}

static void apply_list(struct inbox_step *st, uint8_t kind, const struct inbox_fields *f)
{
    struct codec_cursor c = codec_cursor_of(f->s[INBOX_T_LIST]);
    struct inbox_element e;
    if (kind == INBOX_K_DUE) {
        st->m->asked_ms = 0;
        inbox_nudge(st);
    }
    while (inbox_element_get(&c, &e))
        list_one(st, kind, &e);
    inbox_reply_outcome(st, c.bad ? INBOX_E_INVALID : INBOX_OK);
}

static void apply(void *arg, const struct range_apply *in, struct range_out *out)
{
    struct inbox_step st = {arg, in, out};
    struct inbox_fields f;
    uint8_t kind;
    if (!in->has_host) { /* whoever leads next tells the owners anew */
        st.m->is_hosted = false;
        st.m->nudge_ms = 0;
    }
    if (!inbox_fields_get(in->command, &kind, &f)) {
        inbox_reply_outcome(&st, INBOX_E_INVALID);
        return;
    }
    switch (kind) {
    case INBOX_K_ATTACH:
        apply_attach(&st, &f);
        break;
    case INBOX_K_DETACH:
        apply_detach(&st, &f);
        break;
    case INBOX_K_SUB:
        inbox_apply_sub(&st, &f);
        break;
    case INBOX_K_UNSUB:
        inbox_apply_unsub(&st, &f);
        break;
    case INBOX_K_INSERT:
        inbox_apply_insert(&st);
        break;
    case INBOX_K_COMMIT:
        inbox_apply_commit(&st, &f);
        break;
    case INBOX_K_RECEIVE:
        inbox_apply_receive(&st, &f);
        break;
    case INBOX_K_RELEASE:
        inbox_apply_release(&st, &f);
        break;
    case INBOX_K_DELETE:
        apply_delete(&st, &f);
        break;
    case INBOX_K_WILL_DONE:
        apply_will_done(&st, &f);
        break;
    case INBOX_K_DUE:
    case INBOX_K_ORPHAN:
    case INBOX_K_EXPIRE:
        apply_list(&st, kind, &f);
        break;
    default:
        inbox_reply_outcome(&st, INBOX_E_INVALID);
    }
}

/* --- life
 * -----------------------------------------------------------------------------------------------------------
 */

void *inbox_machine_new(void *conf)
{
    struct inbox_machine *m = mem_new(sizeof *m);
    (void)conf;
    m->is_open = true;
    list_init(&m->pushing);
    list_init(&m->waiting);
    return m;
}

static void forget_all(struct inbox_machine *m)
{
    size_t at;
    inbox_session_forget_all(m);
    for (struct inbox_taken *w; at = 0, (w = map_next(&m->wills, &at)) != NULL;)
        inbox_taken_forget(m, w);
    for (struct inbox_body *b; at = 0, (b = map_next(&m->bodies, &at)) != NULL;)
        inbox_body_forget(m, b);
    must(m->tenants.count == 0);
    must(m->holders.count == 0);
    map_deinit(&m->wills);
    map_deinit(&m->bodies);
    map_deinit(&m->tenants);
    map_deinit(&m->holders);
    heap_deinit(&m->due);
    heap_deinit(&m->retry);
}

static void machine_free(void *arg)
{
    struct inbox_machine *m = arg;
    forget_all(m);
    buf_deinit(&m->start);
    buf_deinit(&m->end);
    buf_deinit(&m->key);
    buf_deinit(&m->value);
    buf_deinit(&m->text);
    mem_free(m);
}

void inbox_machine_bound(struct inbox_machine *m, const struct range_bounds *b)
{
    m->start.n = m->end.n = 0;
    buf_put_str(&m->start, b->start);
    buf_put_str(&m->end, b->end);
    m->is_open = b->is_open;
}

static void machine_reset(void *arg, const struct range_bounds *b)
{
    struct inbox_machine *m = arg;
    forget_all(m);
    inbox_machine_bound(m, b);
    m->asked_ms = m->nudge_ms = 0;
    m->is_hosted = false;
}

/* Where a shelf begins: the one of wish, or the next when that is where we begin. */
static void split_key(void *arg, struct str wish, struct buf *out_key)
{
    const struct inbox_machine *m = arg;
    const char *nul = wish.n > 0 ? memchr(wish.p, 0, wish.n) : NULL;
    if (nul == NULL || nul + 1 == wish.p + wish.n)
        return;
    struct buf key = {0};
    buf_put(&key, wish.p, (size_t)(nul - wish.p) + 2);
    uint8_t *bucket = &key.p[key.n - 1];
    *bucket &= 0xF0;
    if (str_cmp(buf_str(&key), buf_str(&m->start)) <= 0 && *bucket < 0xF0)
        *bucket = (uint8_t)(*bucket + 0x10);
    if (str_cmp(buf_str(&m->start), buf_str(&key)) < 0 &&
        (m->is_open || str_cmp(buf_str(&key), buf_str(&m->end)) < 0))
        buf_put_str(out_key, buf_str(&key));
    buf_deinit(&key);
}

static void fact(void *arg, struct buf *out)
{
    (void)arg;
    (void)out;
}

const struct range_machine_ops *inbox_machine(void)
{
    static const struct range_machine_ops ops = {.name = "inbox",
                                                 .new = inbox_machine_new,
                                                 .free = machine_free,
                                                 .reset = machine_reset,
                                                 .load = inbox_load,
                                                 .loaded = inbox_loaded,
                                                 .split = inbox_split,
                                                 .apply = apply,
                                                 .query = inbox_query,
                                                 .split_key = split_key,
                                                 .tick = inbox_tick,
                                                 .fact = fact,
                                                 .state_hash = inbox_state_hash};
    return &ops;
}
