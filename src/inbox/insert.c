/* Putting messages into sessions: one command, many receivers, the payload once.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   1. Each receiver gets exactly one byte of the reply, in order, whatever became of it.
 *   2. A command is read whole before anything of it is done.
 *   3. A body is stored in a shelf when the command has INBOX_SHARE_MIN receivers or more there and
 * the message is longer than INBOX_INLINE_MAX; it is made with its first reference.
 *   4. What is pushed is a function of the state: an attached session with less than `window`
 * messages behind acked. */
#include "inbox/inbox_priv.h"

#include "base/hash.h"
#include "base/mem.h"

/* One message of the command and what it has led to so far. */
struct insert {
    struct inbox_step *st;
    struct inbox_fields f;
    struct str tenant, bytes;
    uint32_t in_shelf[INBOX_SHELVES]; /* receivers */
    struct inbox_body *body[INBOX_SHELVES];
};

/* --- reading
 * -------------------------------------------------------------------------------------------- */

static bool message_get(struct str bytes, struct inbox_fields *f)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    return inbox_fields_rest(&c, f) && f->s[INBOX_T_MESSAGE].n > 0 &&
           f->s[INBOX_T_MESSAGE].n <= UINT32_MAX;
}

static bool is_insert(struct str command)
{
    struct codec_cursor c = codec_cursor_of(command);
    struct codec_field field;
    struct inbox_fields f;
    struct inbox_receiver r;
    uint32_t sub_id[INBOX_SUB_IDS_MAX];
    bool has_message = false;
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &field)) {
        if (field.tag == INBOX_T_MESSAGE) {
            has_message = field.is_bytes && message_get(field.bytes, &f);
            if (!has_message)
                return false;
        } else if (field.tag == INBOX_T_LIST) {
            if (!has_message || !field.is_bytes || !inbox_receiver_get(field.bytes, &r, sub_id))
                return false;
        }
    }
    return !c.bad;
}

/* How many receivers of the message at hand each shelf has. */
static void count_shelves(struct insert *x, struct codec_cursor c)
{
    struct codec_field field;
    struct inbox_receiver r;
    uint32_t sub_id[INBOX_SUB_IDS_MAX];
    memset(x->in_shelf, 0, sizeof x->in_shelf);
    memset(x->body, 0, sizeof x->body);
    if (x->bytes.n <= INBOX_INLINE_MAX)
        return;
    while (codec_record_next(&c, &field) && field.tag != INBOX_T_MESSAGE) {
        if (field.tag == INBOX_T_LIST && inbox_receiver_get(field.bytes, &r, sub_id))
            x->in_shelf[inbox_shelf(inbox_bucket(r.client))]++;
    }
}

/* --- storing
 * -------------------------------------------------------------------------------------------- */

static struct inbox_body *body_for(struct insert *x, uint8_t shelf)
{
    struct inbox_machine *m = x->st->m;
    if (x->in_shelf[shelf] < INBOX_SHARE_MIN)
        return NULL;
    if (x->body[shelf] != NULL)
        return x->body[shelf];
    struct buf id = {0};
    buf_put_u64(&id, x->st->in->hlc);
    buf_put_u64(&id, x->st->in->index);
    buf_put_u32(&id, x->st->in->sub);
    /* several messages of one command: each shelf has one body of each, told apart by the last
     * bytes */
    while (inbox_body_find(m, x->tenant, shelf, buf_str(&id)) != NULL)
        id.p[INBOX_BODY_ID - 4]++;
    struct inbox_body *b = inbox_body_new(m, x->tenant, shelf, buf_str(&id), (uint32_t)x->bytes.n);
    m->key.n = 0;
    inbox_key_body(&m->key, x->tenant, shelf, buf_str(&id));
    range_out_put(x->st->out, buf_str(&m->key), x->bytes);
    buf_deinit(&id);
    x->body[shelf] = b;
    return b;
}

static void item_write(struct insert *x, const struct inbox_session *s, const struct inbox_item *i,
                       char letter, uint64_t seq, const struct inbox_receiver *r)
{
    struct buf *v = &x->st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    size_t opened = codec_record_open(v, INBOX_T_LIST);
    inbox_grant_put(v, r->qos, r->options, r->sub_id, r->sub_id_count);
    codec_record_close(v, opened);
    inbox_put_u64(v, INBOX_T_PUBLISHER, i->publisher);
    inbox_put_u64(v, INBOX_T_EXCHANGE, i->exchange);
    inbox_put_u64(v, INBOX_T_FLOOR, i->floor);
    if (i->body != NULL)
        inbox_put_str(v, INBOX_T_BODY, str_view(i->body->id, INBOX_BODY_ID));
    else
        inbox_put_str(v, INBOX_T_MESSAGE, x->bytes);
    range_out_put(x->st->out, inbox_row_key_seq(x->st->m, s, letter, seq), buf_str(v));
}

static void item_store(struct insert *x, struct inbox_session *s, struct inbox_ring *ring,
                       char letter, uint64_t seq, const struct inbox_receiver *r)
{
    struct inbox_item *i = inbox_ring_push(ring);
    i->size = (uint32_t)x->bytes.n;
    i->body = body_for(x, inbox_shelf(s->bucket));
    if (i->body != NULL)
        i->body->refs++;
    if (letter == 'q') {
        i->publisher = x->f.u[INBOX_T_PUBLISHER];
        i->exchange = x->f.u[INBOX_T_EXCHANGE];
        i->floor = x->f.u[INBOX_T_FLOOR];
    }
    s->live->bytes += i->size;
    s->tenant->stat.bytes += i->size;
    s->tenant->stat.messages++;
    item_write(x, s, i, letter, seq, r);
}

static bool is_duplicate(const struct insert *x, const struct inbox_session *s)
{
    uint64_t publisher = x->f.u[INBOX_T_PUBLISHER], exchange = x->f.u[INBOX_T_EXCHANGE];
    const struct inbox_live *l = s->live;
    if (publisher == 0 || l == NULL)
        return false;
    for (size_t i = l->queue.count; i-- > 0;) {
        const struct inbox_item *q = inbox_ring_at(&l->queue, i);
        if (q->publisher == publisher && q->exchange == exchange)
            return true;
    }
    for (size_t i = l->seen_count; i-- > 0;) {
        if (l->seen[i].publisher == publisher && l->seen[i].exchange == exchange)
            return true;
    }
    return false;
}

/* --- telling the owner
 * ------------------------------------------------------------------------------------ */

static void push(struct insert *x, struct inbox_session *s, uint64_t seq,
                 const struct inbox_receiver *r)
{
    struct inbox_holder *h = s->holder;
    if (!x->st->in->has_host)
        return;
    if (list_empty(&h->push_link))
        list_push_back(&x->st->m->pushing, &h->push_link);
    buf_put_varint(&h->push, s->client_len);
    buf_put(&h->push, s->client, s->client_len);
    buf_put_varint(&h->push, s->incarnation);
    buf_put_varint(&h->push, s->mod);
    buf_put_varint(&h->push, seq);
    inbox_grant_put(&h->push, r->qos, r->options, r->sub_id, r->sub_id_count);
}

/* One effect per owner with all its receivers of this message. */
static void flush_pushes(struct insert *x)
{
    struct inbox_machine *m = x->st->m;
    for (struct list *l; (l = list_pop_front(&m->pushing)) != NULL;) {
        struct inbox_holder *h = container_of(l, struct inbox_holder, push_link);
        m->value.n = 0;
        codec_record_begin(&m->value, INBOX_K_EFFECT, INBOX_VERSION);
        inbox_put_u64(&m->value, INBOX_T_OUTCOME, INBOX_EFFECT_PUSH);
        inbox_put_owner(&m->value, &h->who);
        inbox_put_str(&m->value, INBOX_T_TENANT, x->tenant);
        inbox_put_str(&m->value, INBOX_T_MESSAGE, x->bytes);
        inbox_put_str(&m->value, INBOX_T_LIST, buf_str(&h->push));
        range_out_effect(x->st->out, buf_str(&m->value));
        h->push.n = 0;
    }
}

/* --- one receiver
 * ------------------------------------------------------------------------------------------ */

static bool has_room(const struct inbox_session *s, const struct inbox_ring *ring, size_t size)
{
    return ring->count < s->limit && (s->byte_max == 0 || s->live->bytes + size <= s->byte_max);
}

static uint8_t store_qos0(struct insert *x, struct inbox_session *s, const struct inbox_receiver *r)
{
    uint8_t outcome = INBOX_OK;
    bool is_caught_up = s->holder != NULL && (s->live == NULL || s->live->qos0.count == 0);
    if (is_caught_up) { /* behind a queue it would overtake it */
        push(x, s, 0, r);
        return INBOX_E_PUSHED;
    }
    struct inbox_live *l = inbox_live_get(s);
    while (s->qos0_drop_oldest && l->qos0.count > 0 && !has_room(s, &l->qos0, x->bytes.n)) {
        inbox_qos0_drop(x->st, s);
        outcome = INBOX_E_DISPLACED;
    }
    if (!has_room(s, &l->qos0, x->bytes.n)) {
        if (outcome == INBOX_E_DISPLACED && l->qos0.count == 0) /* no row says where it was */
            inbox_counters_write(x->st, s);
        inbox_live_trim(s);
        return INBOX_E_DROPPED;
    }
    uint64_t seq = s->qos0_next++;
    item_store(x, s, &l->qos0, 'z', seq, r);
    if (s->holder != NULL) /* with its place in the queue: the owner sees the gap and fetches */
        push(x, s, seq, r);
    return outcome;
}

static uint8_t store(struct insert *x, const struct inbox_receiver *r)
{
    struct inbox_machine *m = x->st->m;
    uint8_t place = inbox_place(m, x->tenant, r->client);
    if (place != 0)
        return place == INBOX_E_MOVED ? place : (uint8_t)INBOX_E_NONE;
    struct inbox_session *s = inbox_session_find(m, x->tenant, r->client);
    if (s == NULL || s->incarnation != r->incarnation)
        return INBOX_E_NONE;
    if (is_duplicate(x, s))
        return INBOX_E_DUPLICATE;
    if (s->holder == NULL && x->f.u[INBOX_T_FLAGS] & INBOX_FLAG_FOR_HELD)
        return INBOX_E_AWAY;
    if (r->qos == 0) {
        uint8_t outcome = store_qos0(x, s, r);
        if (x->f.u[INBOX_T_PUBLISHER] != 0 && outcome != INBOX_E_DROPPED)
            inbox_seen_note(x->st, s, &x->f);
        return outcome;
    }
    struct inbox_live *l = inbox_live_get(s);
    if (!has_room(s, &l->queue, x->bytes.n)) {
        inbox_live_trim(s);
        return INBOX_E_DROPPED;
    }
    uint64_t seq = s->next++;
    item_store(x, s, &l->queue, 'q', seq, r);
    inbox_live_wait(m, s);
    if (s->holder == NULL)
        return INBOX_OK;
    if (l->queue.count <= s->window)
        push(x, s, seq, r);
    else if (l->queue.count ==
             (size_t)s->window + 1) /* once: what comes behind is found by fetching */
        inbox_tell_more(x->st, s);
    return INBOX_OK;
}

void inbox_apply_insert(struct inbox_step *st)
{
    struct codec_cursor c = codec_cursor_of(st->in->command);
    struct codec_field field;
    struct insert x = {.st = st};
    struct inbox_receiver r;
    uint32_t sub_id[INBOX_SUB_IDS_MAX];
    uint8_t kind, version;
    if (!is_insert(st->in->command)) {
        inbox_reply_outcome(st, INBOX_E_INVALID);
        return;
    }
    inbox_reply_outcome(st, INBOX_OK);
    size_t opened = codec_record_open(&st->out->reply, INBOX_T_LIST);
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &field)) {
        if (field.tag == INBOX_T_MESSAGE) {
            flush_pushes(&x);
            must(message_get(field.bytes, &x.f));
            x.tenant = x.f.s[INBOX_T_TENANT];
            x.bytes = x.f.s[INBOX_T_MESSAGE];
            count_shelves(&x, c);
        } else if (field.tag == INBOX_T_LIST) {
            must(inbox_receiver_get(field.bytes, &r, sub_id));
            buf_put_u8(&st->out->reply, store(&x, &r));
        }
    }
    flush_pushes(&x);
    codec_record_close(&st->out->reply, opened);
}
