/* A machine from its rows, and what a checker asks of it.  SPDX-License-Identifier: Apache-2.0
 *
 * Rows come in key order: bodies of a shelf before its sessions, of a session first taken wills
 * ('W'), then d i k m p q r s w x z. So the counters of 'k' are known before items come, and each
 * item extends its queue.  A row that cannot be read is skipped: damage is for the engine to find.
 */
#include "inbox/inbox_priv.h"

#include "base/hash.h"
#include "base/mem.h"

#define STATE_SEED 0x696e626f78u /* fixed: hashes are compared between processes */

struct row {
    struct str tenant, client;
    char letter;     /* 0: a body */
    struct str rest; /* of the key */
};

static bool key_get(struct str key, struct row *out)
{
    const char *nul = key.n > 0 ? memchr(key.p, 0, key.n) : NULL;
    if (nul == NULL || key.p + key.n - nul < 3)
        return false;
    out->tenant = str_view(key.p, (size_t)(nul - key.p));
    const char *from = nul + 2, *end = key.p + key.n;
    nul = memchr(from, 0, (size_t)(end - from));
    if (nul == NULL || out->tenant.n > UINT16_MAX || nul - from > UINT16_MAX)
        return false;
    out->client = str_view(from, (size_t)(nul - from));
    out->letter = 0;
    if (out->client.n > 0) {
        if (++nul == end)
            return false;
        out->letter = *nul;
    }
    out->rest = str_view(nul + 1, (size_t)(end - nul - 1));
    return true;
}

static uint64_t seq_get(struct str rest)
{
    struct codec_cursor c = codec_cursor_of(rest);
    return codec_cursor_u64(&c);
}

static void load_meta(struct inbox_machine *m, struct inbox_session *s,
                      const struct inbox_fields *f)
{
    struct inbox_owner owner;
    s->incarnation = f->u[INBOX_T_INCARNATION];
    s->mod = f->u[INBOX_T_MOD];
    s->expiry_sec = (uint32_t)f->u[INBOX_T_EXPIRY];
    s->limit = (uint32_t)f->u[INBOX_T_LIMIT];
    s->byte_max = f->u[INBOX_T_BYTE_MAX];
    s->window = (uint32_t)f->u[INBOX_T_WINDOW];
    s->qos0_drop_oldest = (f->u[INBOX_T_FLAGS] & INBOX_FLAG_DROP_OLDEST) != 0;
    s->created_hlc = f->u[INBOX_T_CREATED];
    s->detached_hlc = f->u[INBOX_T_HLC];
    s->sent = f->u[INBOX_T_SENT];
    if (s->holder == NULL && inbox_fields_owner(f, &owner) && !uuid_is_zero(&owner.node))
        inbox_session_own(m, s, &owner);
}

static void load_item(struct inbox_machine *m, struct inbox_session *s, const struct row *r,
                      const struct inbox_fields *f)
{
    uint64_t seq = seq_get(r->rest);
    bool is_qos0 = r->letter == 'z';
    uint64_t *acked = is_qos0 ? &s->qos0_acked : &s->acked,
             *next = is_qos0 ? &s->qos0_next : &s->next;
    struct inbox_ring *ring = &inbox_live_get(s)->queue;
    if (is_qos0) {
        ring = &s->live->qos0;
        if (ring->count == 0 &&
            seq > *acked) /* the oldest may have been dropped since 'k' was written */
            *acked = seq - 1;
    }
    if (seq <= *acked || seq - *acked > INBOX_LIMIT_MAX + UINT16_MAX)
        return;
    while (ring->count < seq - *acked) {
        (void)inbox_ring_push(ring);
        s->tenant->stat.messages++;
    }
    if (*next <= seq)
        *next = seq + 1;
    struct inbox_item *x = inbox_ring_at(ring, seq - *acked - 1);
    if (!is_qos0) {
        x->publisher = f->u[INBOX_T_PUBLISHER];
        x->exchange = f->u[INBOX_T_EXCHANGE];
        x->floor = f->u[INBOX_T_FLOOR];
    }
    if (r->letter == 'p') {
        x->phase = (uint8_t)f->u[INBOX_T_OUTCOME];
        return;
    }
    x->body = inbox_body_find(m, r->tenant, inbox_shelf(s->bucket), f->s[INBOX_T_BODY]);
    x->size = x->body != NULL ? x->body->size : (uint32_t)f->s[INBOX_T_MESSAGE].n;
    if (x->body != NULL)
        x->body->refs++;
    s->live->bytes += x->size;
    s->tenant->stat.bytes += x->size;
}

static void load_seen(struct inbox_session *s, struct str list)
{
    struct codec_cursor c = codec_cursor_of(list);
    struct inbox_live *l = inbox_live_get(s);
    while (codec_cursor_left(&c) > 0) {
        struct inbox_seen e;
        e.publisher = codec_cursor_varint(&c);
        e.exchange = codec_cursor_varint(&c);
        e.floor = codec_cursor_varint(&c);
        if (c.bad)
            return;
        l->seen = mem_grow(l->seen, &l->seen_cap, l->seen_count + 1, sizeof *l->seen);
        l->seen[l->seen_count++] = e;
    }
}

static void load_inbound(struct inbox_session *s, const struct row *r, const struct inbox_fields *f)
{
    struct codec_cursor c = codec_cursor_of(r->rest);
    uint64_t exchange = f->u[INBOX_T_EXCHANGE];
    inbox_inbound_put(inbox_live_get(s), codec_cursor_u16(&c), exchange);
    if (exchange >= s->exchange_next)
        s->exchange_next = exchange + 1;
}

static void load_row(struct inbox_machine *m, struct inbox_session *s, const struct row *r,
                     const struct inbox_fields *f)
{
    switch (r->letter) {
    case 'm':
        load_meta(m, s, f);
        break;
    case 'k':
        s->acked = f->u[INBOX_T_ACKED];
        s->next = f->u[INBOX_T_NEXT];
        s->qos0_acked = f->u[INBOX_T_QOS0_ACKED];
        s->qos0_next = f->u[INBOX_T_QOS0_NEXT];
        break;
    case 'q':
    case 'p':
    case 'z':
        load_item(m, s, r, f);
        break;
    case 'd':
        load_seen(s, f->s[INBOX_T_LIST]);
        break;
    case 'r':
        load_inbound(s, r, f);
        break;
    case 'x':
        if (f->u[INBOX_T_EXCHANGE] > s->exchange_next)
            s->exchange_next = f->u[INBOX_T_EXCHANGE];
        break;
    case 's':
        if (r->rest.n > 0)
            inbox_subs_add(s, &(struct inbox_sub){r->rest, (uint8_t)f->u[INBOX_T_OPTIONS],
                                                  (uint32_t)f->u[INBOX_T_SUB_ID]});
        break;
    case 'w':
        mem_free(s->will);
        s->will = inbox_will_new((uint32_t)f->u[INBOX_T_DELAY], f->s[INBOX_T_MESSAGE]);
        break;
    default:
        break;
    }
}

void inbox_load(void *arg, struct str key, struct str value)
{
    struct inbox_machine *m = arg;
    struct row r;
    struct inbox_fields f;
    uint8_t kind;
    if (!key_get(key, &r))
        return;
    if (r.letter == 0) {
        if (r.rest.n == INBOX_BODY_ID)
            (void)inbox_body_new(m, r.tenant, inbox_shelf((uint8_t)key.p[r.tenant.n + 1]), r.rest,
                                 (uint32_t)value.n);
        return;
    }
    if (r.letter == 'i' || !inbox_fields_get(value, &kind, &f) || kind != INBOX_K_ROW)
        return;
    if (r.letter == 'W') {
        if (r.rest.n == 8 && inbox_taken_find(m, r.tenant, r.client, seq_get(r.rest)) == NULL)
            (void)inbox_taken_new(m, r.tenant, &f, r.client, seq_get(r.rest));
        return;
    }
    struct inbox_session *s = inbox_session_find(m, r.tenant, r.client);
    if (s == NULL)
        s = inbox_session_new(m, r.tenant, r.client);
    load_row(m, s, &r, &f);
}

void inbox_loaded(void *arg)
{
    struct inbox_machine *m = arg;
    size_t at = 0;
    for (struct inbox_session *s; (s = map_next(&m->sessions, &at)) != NULL;) {
        inbox_session_arm(m, s);
        inbox_live_wait(m, s);
        inbox_live_trim(s);
    }
}

/* --- checkers
 * -----------------------------------------------------------------------------------------------
 */

static void mix(uint64_t *h, uint64_t v)
{
    *h = hash_u64(*h ^ v) + 1;
}

static uint64_t hash_ring(const struct inbox_ring *r)
{
    uint64_t h = r->count;
    for (size_t i = 0; i < r->count; i++) {
        const struct inbox_item *x = inbox_ring_at(r, i);
        mix(&h, x->publisher);
        mix(&h, x->exchange);
        mix(&h, x->floor);
        mix(&h, x->size);
        mix(&h, x->phase);
        mix(&h, x->body != NULL ? hash_bytes(x->body->id, INBOX_BODY_ID, STATE_SEED) : 0);
    }
    return h;
}

static uint64_t hash_live(const struct inbox_live *l)
{
    uint64_t h = 0, sum = 0;
    if (l == NULL)
        return 0;
    mix(&h, hash_ring(&l->queue));
    mix(&h, hash_ring(&l->qos0));
    mix(&h, l->bytes);
    for (size_t i = 0; i < l->seen_count; i++) {
        mix(&h, l->seen[i].publisher);
        mix(&h, l->seen[i].exchange);
        mix(&h, l->seen[i].floor);
    }
    for (size_t i = 0; i < l->inbound_count; i++)
        sum += hash_u64(l->inbound[i].exchange << 16 ^ l->inbound[i].packet_id);
    mix(&h, sum);
    return h;
}

static uint64_t hash_session(const struct inbox_session *s)
{
    uint64_t h = hash_str(inbox_session_client(s), hash_str(inbox_session_tenant(s), STATE_SEED));
    const uint64_t v[] = {s->incarnation, s->mod,           s->created_hlc,      s->detached_hlc,
                          s->acked,       s->next,          s->qos0_acked,       s->qos0_next,
                          s->byte_max,    s->exchange_next, s->expiry_sec,       s->limit,
                          s->window,      s->sub_count,     s->qos0_drop_oldest, s->sent};
    for (size_t i = 0; i < countof(v); i++)
        mix(&h, v[i]);
    if (s->holder != NULL) {
        mix(&h, hash_bytes(&s->holder->who.node, sizeof s->holder->who.node, STATE_SEED));
        mix(&h, s->holder->who.epoch);
        mix(&h, s->holder->who.shard);
    }
    if (s->will != NULL) {
        mix(&h, s->will->delay_sec);
        mix(&h, hash_bytes(s->will->message, s->will->len, STATE_SEED));
    }
    struct str rest = str_view(s->subs, s->subs_len);
    struct inbox_sub sub;
    uint64_t sum = 0;
    while (inbox_sub_next(&rest, &sub))
        sum += hash_str(sub.filter, (uint64_t)sub.sub_id << 8 | sub.options);
    mix(&h, sum);
    mix(&h, hash_live(s->live));
    return h;
}

uint64_t inbox_state_hash(void *arg)
{
    const struct inbox_machine *m = arg;
    uint64_t sum = 0;
    size_t at = 0;
    for (const struct inbox_session *s; (s = map_next(&m->sessions, &at)) != NULL;)
        sum += hash_session(s);
    at = 0;
    for (const struct inbox_taken *w; (w = map_next(&m->wills, &at)) != NULL;)
        sum += hash_str(w->message, hash_str(w->client, w->id ^ w->incarnation));
    at = 0;
    for (const struct inbox_body *b; (b = map_next(&m->bodies, &at)) != NULL;)
        sum += hash_bytes(b->id, INBOX_BODY_ID, b->refs) ^ b->size;
    return hash_u64(sum);
}

static void check_session(const struct inbox_session *s, struct inbox_stat *seen)
{
    must(s->acked < s->next && s->qos0_acked < s->qos0_next);
    const struct inbox_live *l = s->live;
    size_t queued = l != NULL ? l->queue.count : 0, qos0 = l != NULL ? l->qos0.count : 0;
    uint64_t bytes = 0;
    must(queued == s->next - s->acked - 1); /* 1 */
    must(qos0 == s->qos0_next - s->qos0_acked - 1);
    for (size_t i = 0; i < queued; i++) {
        const struct inbox_item *x = inbox_ring_at(&l->queue, i);
        must(x->phase == INBOX_PHASE_QUEUED || (x->size == 0 && x->body == NULL));
        bytes += x->size;
    }
    for (size_t i = 0; i < qos0; i++)
        bytes += inbox_ring_at(&l->qos0, i)->size;
    must(bytes == (l != NULL ? l->bytes : 0));
    must(l == NULL || l->seen_count <= INBOX_DEDUP_MAX);
    bool is_due = usec_min(inbox_session_will_ms(s), inbox_session_end_ms(s)) != USEC_NEVER;
    must(is_due == (s->due.place != 0)); /* 3 */
    seen->sessions++;
    seen->attached += s->holder != NULL;
    seen->subs += s->sub_count;
    seen->messages += queued + qos0;
    seen->bytes += bytes;
}

void inbox_machine_check(const void *arg)
{
    const struct inbox_machine *m = arg;
    struct inbox_stat seen = {0}, have = {0};
    size_t at = 0;
    uint64_t refs = 0, named = 0, waiting = 0, waits = 0;
    for (const struct inbox_session *s; (s = map_next(&m->sessions, &at)) != NULL;) {
        check_session(s, &seen);
        waits += s->holder != NULL && s->live != NULL && s->live->queue.count > 0;
        for (size_t i = 0; s->live != NULL && i < s->live->queue.count; i++)
            named += inbox_ring_at(&s->live->queue, i)->body != NULL;
        for (size_t i = 0; s->live != NULL && i < s->live->qos0.count; i++)
            named += inbox_ring_at(&s->live->qos0, i)->body != NULL;
    }
    at = 0;
    for (const struct inbox_body *b; (b = map_next(&m->bodies, &at)) != NULL; refs += b->refs) {
        must(b->refs > 0); /* 2 */
        seen.bodies++;
    }
    must(refs == named);
    at = 0;
    for (const struct inbox_tenant *t; (t = map_next(&m->tenants, &at)) != NULL;) {
        have.sessions += t->stat.sessions;
        have.attached += t->stat.attached;
        have.subs += t->stat.subs;
        have.messages += t->stat.messages;
        have.bytes += t->stat.bytes;
        have.bodies += t->stat.bodies;
    }
    must(memcmp(&seen, &have, sizeof seen) == 0); /* 5 */
    must(list_empty(&m->pushing));
    for (const struct list *l = m->waiting.next; l != &m->waiting; l = l->next)
        waiting++;
    must(waiting == waits);
}
