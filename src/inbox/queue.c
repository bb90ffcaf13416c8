/* What waits for a client, and what came from it half way: queues, phases, inbound QoS 2, bodies.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   1. The queue holds the items of all seqs in (acked, next), in order; of QoS 0 likewise.
 *   2. An item in phase QUEUED has a row 'q' (or 'z' of QoS 0) and maybe a body; one in another
 * phase has a row 'p', no size, no body.
 *   3. A body's refs are the items that name it; at 0 its row is deleted in the same command.
 *   4. An exchange of a publisher is stored once: it is looked for in the queue and among those
 * that left it. It never reads a message: bytes are opaque. */
#include "inbox/inbox_priv.h"

#include "base/hash.h"
#include "base/mem.h"

/* --- rings
 * ---------------------------------------------------------------------------------------------- */

struct inbox_item *inbox_ring_at(const struct inbox_ring *r, size_t i)
{
    must(i < r->count);
    return &r->item[(r->head + i) & (r->cap - 1)];
}

struct inbox_item *inbox_ring_push(struct inbox_ring *r)
{
    if (r->count == r->cap) {
        size_t cap = r->cap > 0 ? r->cap * 2 : 4;
        struct inbox_item *item = mem_alloc(cap * sizeof *item);
        for (size_t i = 0; i < r->count; i++)
            item[i] = *inbox_ring_at(r, i);
        mem_free(r->item);
        *r = (struct inbox_ring){item, 0, r->count, cap};
    }
    struct inbox_item *x = &r->item[(r->head + r->count++) & (r->cap - 1)];
    *x = (struct inbox_item){.size = 0};
    return x;
}

void inbox_ring_shift(struct inbox_ring *r)
{
    must(r->count > 0);
    r->head = (r->head + 1) & (r->cap - 1);
    r->count--;
}

struct inbox_live *inbox_live_get(struct inbox_session *s)
{
    if (s->live == NULL) {
        s->live = mem_new(sizeof *s->live);
        s->live->session = s;
        s->live->nudged_acked = UINT64_MAX;
        list_init(&s->live->waiting);
    }
    return s->live;
}

void inbox_live_wait(struct inbox_machine *m, struct inbox_session *s)
{
    struct inbox_live *l = s->live;
    if (l == NULL)
        return;
    bool is_waiting = s->holder != NULL && l->queue.count > 0;
    if (is_waiting && list_empty(&l->waiting)) {
        l->nudged_acked = UINT64_MAX;
        list_push_back(&m->waiting, &l->waiting);
    } else if (!is_waiting) {
        list_del(&l->waiting);
    }
}

void inbox_tell_more(struct inbox_step *st, const struct inbox_session *s)
{
    struct buf *v = &st->m->value;
    if (!st->in->has_host)
        return;
    v->n = 0;
    codec_record_begin(v, INBOX_K_EFFECT, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OUTCOME, INBOX_EFFECT_MORE);
    inbox_put_owner(v, &s->holder->who);
    inbox_put_str(v, INBOX_T_TENANT, inbox_session_tenant(s));
    inbox_put_str(v, INBOX_T_CLIENT, inbox_session_client(s));
    inbox_put_u64(v, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(v, INBOX_T_MOD, s->mod);
    inbox_put_u64(v, INBOX_T_NEXT, s->next);
    range_out_effect(st->out, buf_str(v));
}

void inbox_nudge(struct inbox_step *st)
{
    struct inbox_machine *m = st->m;
    uint64_t now = hlc_ms(st->in->hlc);
    if (!st->in->has_host || m->nudge_ms > now)
        return;
    list_each(&m->waiting, l)
    {
        struct inbox_live *live = container_of(l, struct inbox_live, waiting);
        if (!m->is_hosted || live->nudged_acked == live->session->acked)
            inbox_tell_more(st, live->session);
        live->nudged_acked = live->session->acked;
    }
    m->is_hosted = true;
    m->nudge_ms = now + INBOX_NUDGE_MS;
}

void inbox_live_trim(struct inbox_session *s)
{
    struct inbox_live *l = s->live;
    if (l == NULL || l->queue.count + l->qos0.count + l->seen_count + l->inbound_count > 0)
        return;
    mem_free(l->queue.item);
    mem_free(l->qos0.item);
    mem_free(l->seen);
    mem_free(l->inbound);
    list_del(&l->waiting);
    s->live = mem_free(l);
}

/* --- bodies
 * -----------------------------------------------------------------------------------------------
 */

struct body_key {
    const struct inbox_tenant *tenant;
    uint8_t shelf;
    const char *id;
};

static bool body_eq(const void *item, const void *key)
{
    const struct inbox_body *b = item;
    const struct body_key *k = key;
    return b->tenant == k->tenant && b->shelf == k->shelf &&
           memcmp(b->id, k->id, INBOX_BODY_ID) == 0;
}

static uint64_t body_hash(const struct body_key *k)
{
    return hash_bytes(k->id, INBOX_BODY_ID, k->shelf) ^ hash_u64((uint64_t)(uintptr_t)k->tenant);
}

struct inbox_body *inbox_body_find(const struct inbox_machine *m, struct str tenant, uint8_t shelf,
                                   struct str id)
{
    struct body_key k = {inbox_tenant_find(m, tenant), shelf, id.p};
    if (id.n != INBOX_BODY_ID || k.tenant == NULL)
        return NULL;
    return map_find(&m->bodies, body_hash(&k), body_eq, &k);
}

struct inbox_body *inbox_body_new(struct inbox_machine *m, struct str tenant, uint8_t shelf,
                                  struct str id, uint32_t size)
{
    struct inbox_body *b = mem_new(sizeof *b);
    b->tenant = inbox_tenant_get(m, tenant);
    b->size = size;
    b->shelf = shelf;
    memcpy(b->id, id.p, INBOX_BODY_ID);
    struct body_key k = {b->tenant, shelf, id.p};
    map_put(&m->bodies, body_hash(&k), b);
    b->tenant->stat.bodies++;
    return b;
}

void inbox_body_forget(struct inbox_machine *m, struct inbox_body *b)
{
    struct body_key k = {b->tenant, b->shelf, (const char *)b->id};
    must(map_del(&m->bodies, body_hash(&k), b));
    b->tenant->stat.bodies--;
    inbox_tenant_drop(m, b->tenant);
    mem_free(b);
}

void inbox_body_move(struct inbox_machine *from, struct inbox_machine *to, struct inbox_body *b,
                     struct inbox_tenant *t)
{
    struct body_key k = {b->tenant, b->shelf, (const char *)b->id};
    must(map_del(&from->bodies, body_hash(&k), b));
    b->tenant->stat.bodies--;
    k.tenant = b->tenant = t;
    map_put(&to->bodies, body_hash(&k), b);
    t->stat.bodies++;
}

static void body_unref(struct inbox_step *st, struct inbox_body *b)
{
    if (b == NULL || --b->refs > 0)
        return;
    struct inbox_machine *m = st->m;
    m->key.n = 0;
    inbox_key_body(&m->key, str_view(b->tenant->name, b->tenant->len), b->shelf,
                   str_view(b->id, INBOX_BODY_ID));
    range_out_del(st->out, buf_str(&m->key));
    inbox_body_forget(m, b);
}

/* --- items leave
 * ----------------------------------------------------------------------------------------- */

/* The item's content goes: row, bytes, body.  Its place and its name against duplicates stay. */
static void item_empty(struct inbox_step *st, struct inbox_session *s, struct inbox_item *x,
                       char letter, uint64_t seq)
{
    range_out_del(st->out, inbox_row_key_seq(st->m, s, letter, seq));
    s->live->bytes -= x->size;
    s->tenant->stat.bytes -= x->size;
    body_unref(st, x->body);
    x->body = NULL;
    x->size = 0;
}

static void seen_add(struct inbox_live *l, uint64_t publisher, uint64_t exchange, uint64_t floor)
{
    l->seen = mem_grow(l->seen, &l->seen_cap, l->seen_count + 1, sizeof *l->seen);
    l->seen[l->seen_count++] = (struct inbox_seen){publisher, exchange, floor};
}

/* Forgets what its publisher has released, by the newest floor we know, and the oldest beyond the
 * limit. */
static void seen_prune(struct inbox_live *l)
{
    size_t kept = l->seen_count;
    for (size_t i = l->seen_count;
         i-- > 0;) { /* newest first: the first of a publisher has its floor */
        const struct inbox_seen *e = &l->seen[i];
        uint64_t floor = e->floor;
        for (size_t k = kept; k < l->seen_count; k++) {
            if (l->seen[k].publisher == e->publisher && l->seen[k].floor > floor)
                floor = l->seen[k].floor;
        }
        if (e->exchange >= floor && l->seen_count - kept < INBOX_DEDUP_MAX)
            l->seen[--kept] = *e;
    }
    l->seen_count -= kept;
    memmove(l->seen, l->seen + kept, l->seen_count * sizeof *l->seen);
}

static void seen_write(struct inbox_step *st, const struct inbox_session *s)
{
    struct inbox_machine *m = st->m;
    const struct inbox_live *l = s->live;
    if (l == NULL || l->seen_count == 0) {
        range_out_del(st->out, inbox_row_key(m, s, 'd'));
        return;
    }
    m->value.n = 0;
    codec_record_begin(&m->value, INBOX_K_ROW, INBOX_VERSION);
    size_t opened = codec_record_open(&m->value, INBOX_T_LIST);
    for (size_t i = 0; i < l->seen_count; i++) {
        buf_put_varint(&m->value, l->seen[i].publisher);
        buf_put_varint(&m->value, l->seen[i].exchange);
        buf_put_varint(&m->value, l->seen[i].floor);
    }
    codec_record_close(&m->value, opened);
    range_out_put(st->out, inbox_row_key(m, s, 'd'), buf_str(&m->value));
}

void inbox_seen_note(struct inbox_step *st, struct inbox_session *s, const struct inbox_fields *f)
{
    seen_add(inbox_live_get(s), f->u[INBOX_T_PUBLISHER], f->u[INBOX_T_EXCHANGE],
             f->u[INBOX_T_FLOOR]);
    seen_prune(s->live);
    seen_write(st, s);
}

void inbox_queue_clear(struct inbox_step *st, struct inbox_session *s)
{
    struct inbox_live *l = s->live;
    if (l == NULL)
        return;
    for (uint64_t seq = s->acked + 1; l->queue.count > 0; seq++) {
        struct inbox_item *x = inbox_ring_at(&l->queue, 0);
        item_empty(st, s, x, x->phase == INBOX_PHASE_QUEUED ? 'q' : 'p', seq);
        inbox_ring_shift(&l->queue);
        s->tenant->stat.messages--;
    }
    for (uint64_t seq = s->qos0_acked + 1; l->qos0.count > 0; seq++) {
        item_empty(st, s, inbox_ring_at(&l->qos0, 0), 'z', seq);
        inbox_ring_shift(&l->qos0);
        s->tenant->stat.messages--;
    }
}

/* --- commit
 * ------------------------------------------------------------------------------------------------
 */

static void mark_write(struct inbox_step *st, const struct inbox_session *s,
                       const struct inbox_item *x, uint64_t seq)
{
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OUTCOME, x->phase);
    inbox_put_u64(v, INBOX_T_PUBLISHER, x->publisher);
    inbox_put_u64(v, INBOX_T_EXCHANGE, x->exchange);
    inbox_put_u64(v, INBOX_T_FLOOR, x->floor);
    range_out_put(st->out, inbox_row_key_seq(st->m, s, 'p', seq), buf_str(v));
}

static void commit_marks(struct inbox_step *st, struct inbox_session *s, struct str marks)
{
    struct inbox_mark mark;
    while (inbox_reply_mark(&marks, &mark)) {
        if (mark.seq <= s->acked || mark.seq >= s->next || s->live == NULL)
            continue;
        struct inbox_item *x = inbox_ring_at(&s->live->queue, mark.seq - s->acked - 1);
        if (mark.phase <= x->phase) /* phases only go forward */
            continue;
        if (x->phase == INBOX_PHASE_QUEUED)
            item_empty(st, s, x, 'q', mark.seq);
        x->phase = mark.phase;
        mark_write(st, s, x, mark.seq);
    }
}

/* Everything up to acked leaves; true when something is remembered against duplicates. */
static bool commit_acked(struct inbox_step *st, struct inbox_session *s, uint64_t acked)
{
    bool has_seen = false;
    while (s->acked < acked && s->acked + 1 < s->next) {
        struct inbox_item *x = inbox_ring_at(&s->live->queue, 0);
        s->acked++;
        if (x->publisher != 0) {
            seen_add(s->live, x->publisher, x->exchange, x->floor);
            has_seen = true;
        }
        item_empty(st, s, x, x->phase == INBOX_PHASE_QUEUED ? 'q' : 'p', s->acked);
        inbox_ring_shift(&s->live->queue);
        s->tenant->stat.messages--;
    }
    return has_seen;
}

void inbox_qos0_drop(struct inbox_step *st, struct inbox_session *s)
{
    s->qos0_acked++;
    item_empty(st, s, inbox_ring_at(&s->live->qos0, 0), 'z', s->qos0_acked);
    inbox_ring_shift(&s->live->qos0);
    s->tenant->stat.messages--;
}

void inbox_counters_write(struct inbox_step *st, const struct inbox_session *s)
{
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_ACKED, s->acked);
    inbox_put_u64(v, INBOX_T_NEXT, s->next);
    inbox_put_u64(v, INBOX_T_QOS0_ACKED, s->qos0_acked);
    inbox_put_u64(v, INBOX_T_QOS0_NEXT, s->qos0_next);
    range_out_put(st->out, inbox_row_key(st->m, s, 'k'), buf_str(v));
}

void inbox_apply_commit(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    if (s == NULL)
        return;
    uint64_t acked = s->acked, qos0_acked = s->qos0_acked, queued = s->next - s->acked - 1;
    bool has_seen = commit_acked(st, s, f->u[INBOX_T_ACKED]);
    while (s->qos0_acked < f->u[INBOX_T_QOS0_ACKED] && s->qos0_acked + 1 < s->qos0_next)
        inbox_qos0_drop(st, s);
    commit_marks(st, s, f->s[INBOX_T_MARKS]);
    if (has_seen) {
        seen_prune(s->live);
        seen_write(st, s);
    }
    if (s->acked != acked || s->qos0_acked != qos0_acked)
        inbox_counters_write(st, s);
    inbox_live_wait(st->m, s);
    inbox_live_trim(s);
    if (queued > s->window && s->acked + 1 < s->next) /* what outgrew the window was not pushed */
        inbox_tell_more(st, s);
    struct buf *r = &st->out->reply;
    inbox_reply_outcome(st, INBOX_OK);
    inbox_put_u64(r, INBOX_T_ACKED, s->acked);
    inbox_put_u64(r, INBOX_T_NEXT, s->next);
    inbox_put_u64(r, INBOX_T_QOS0_ACKED, s->qos0_acked);
    inbox_put_u64(r, INBOX_T_QOS0_NEXT, s->qos0_next);
}

/* --- inbound QoS 2
 * ------------------------------------------------------------------------------------------ */

uint64_t inbox_inbound_floor(const struct inbox_session *s)
{
    uint64_t floor = s->exchange_next;
    for (size_t i = 0; s->live != NULL && i < s->live->inbound_count; i++) {
        if (s->live->inbound[i].exchange < floor)
            floor = s->live->inbound[i].exchange;
    }
    return floor;
}

void inbox_inbound_put(struct inbox_live *l, uint16_t packet_id, uint64_t exchange)
{
    l->inbound = mem_grow(l->inbound, &l->inbound_cap, l->inbound_count + 1, sizeof *l->inbound);
    size_t i = l->inbound_count++;
    for (; i > 0 && l->inbound[i - 1].packet_id > packet_id; i--)
        l->inbound[i] = l->inbound[i - 1];
    l->inbound[i] = (struct inbox_inbound){exchange, packet_id};
}

static struct inbox_inbound *inbound_find(const struct inbox_session *s, uint64_t packet_id)
{
    for (size_t i = 0; s->live != NULL && i < s->live->inbound_count; i++) {
        if (s->live->inbound[i].packet_id == packet_id)
            return &s->live->inbound[i];
    }
    return NULL;
}

static struct str inbound_key(struct inbox_step *st, const struct inbox_session *s,
                              uint16_t packet_id)
{
    (void)inbox_row_key(st->m, s, 'r');
    buf_put_u16(&st->m->key, packet_id);
    return buf_str(&st->m->key);
}

void inbox_apply_receive(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    if (s == NULL)
        return;
    uint64_t packet_id = f->u[INBOX_T_PACKET_ID];
    if (packet_id == 0 || packet_id > UINT16_MAX) {
        inbox_reply_outcome(st, INBOX_E_INVALID);
        return;
    }
    const struct inbox_inbound *x = inbound_find(s, packet_id);
    uint64_t exchange = x != NULL ? x->exchange : s->exchange_next;
    if (x == NULL) {
        inbox_inbound_put(inbox_live_get(s), (uint16_t)packet_id, exchange);
        s->exchange_next++;
        struct buf *v = &st->m->value;
        v->n = 0;
        codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
        inbox_put_u64(v, INBOX_T_EXCHANGE, exchange);
        range_out_put(st->out, inbound_key(st, s, (uint16_t)packet_id), buf_str(v));
    }
    inbox_reply_outcome(st, INBOX_OK);
    inbox_put_u64(&st->out->reply, INBOX_T_FLAGS, x != NULL ? INBOX_FLAG_PRESENT : 0u);
    inbox_put_u64(&st->out->reply, INBOX_T_EXCHANGE, exchange);
    inbox_put_u64(&st->out->reply, INBOX_T_FLOOR, inbox_inbound_floor(s));
}

void inbox_apply_release(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    if (s == NULL)
        return;
    struct inbox_inbound *x = inbound_find(s, f->u[INBOX_T_PACKET_ID]);
    bool is_present = x != NULL;
    if (is_present) {
        range_out_del(st->out, inbound_key(st, s, x->packet_id));
        if (x->exchange + 1 == s->exchange_next) { /* no row says it any more */
            struct buf *v = &st->m->value;
            v->n = 0;
            codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
            inbox_put_u64(v, INBOX_T_EXCHANGE, s->exchange_next);
            range_out_put(st->out, inbox_row_key(st->m, s, 'x'), buf_str(v));
        }
        struct inbox_live *l = s->live;
        size_t behind = (size_t)(l->inbound + l->inbound_count - (x + 1));
        memmove(x, x + 1, behind * sizeof *x);
        l->inbound_count--;
        inbox_live_trim(s);
    }
    inbox_reply_outcome(st, INBOX_OK);
    inbox_put_u64(&st->out->reply, INBOX_T_FLAGS, is_present ? INBOX_FLAG_PRESENT : 0u);
    inbox_put_u64(&st->out->reply, INBOX_T_FLOOR, inbox_inbound_floor(s));
}
