/* The sessions of a range, listed for people.  SPDX-License-Identifier: Apache-2.0
 *
 * Sessions lie in a hash table; a page is the smallest client identifiers behind the last one,
 * found in one pass.  Like every query it changes no state. */
#include "base/mem.h"
#include "inbox/inbox_priv.h"

void inbox_state_put(struct buf *v, const struct inbox_session *s)
{
    inbox_put_u64(v, INBOX_T_INCARNATION, s->incarnation);
    inbox_put_u64(v, INBOX_T_MOD, s->mod);
    inbox_put_u64(v, INBOX_T_CREATED, s->created_hlc);
    inbox_put_u64(v, INBOX_T_HLC, s->detached_hlc);
    inbox_put_u64(v, INBOX_T_ACKED, s->acked);
    inbox_put_u64(v, INBOX_T_NEXT, s->next);
    inbox_put_u64(v, INBOX_T_QOS0_ACKED, s->qos0_acked);
    inbox_put_u64(v, INBOX_T_QOS0_NEXT, s->qos0_next);
    inbox_put_u64(v, INBOX_T_BYTES, s->live != NULL ? s->live->bytes : 0);
    inbox_put_u64(v, INBOX_T_EXPIRY, s->expiry_sec);
    inbox_put_u64(v, INBOX_T_LIMIT, s->limit);
    inbox_put_u64(v, INBOX_T_WINDOW, s->sub_count);
    inbox_put_u64(v, INBOX_T_PACKET_ID, s->live != NULL ? s->live->inbound_count : 0);
    inbox_put_u64(v, INBOX_T_DELAY, s->will != NULL);
    if (s->holder != NULL)
        inbox_put_owner(v, &s->holder->who);
    inbox_put_str(v, INBOX_T_LIST, str_view(s->subs, s->subs_len));
}

bool inbox_state_get(const struct inbox_fields *f, struct inbox_state *out)
{
    out->incarnation = f->u[INBOX_T_INCARNATION];
    out->mod = f->u[INBOX_T_MOD];
    out->created_hlc = f->u[INBOX_T_CREATED];
    out->detached_hlc = f->u[INBOX_T_HLC];
    out->acked = f->u[INBOX_T_ACKED];
    out->next = f->u[INBOX_T_NEXT];
    out->qos0_acked = f->u[INBOX_T_QOS0_ACKED];
    out->qos0_next = f->u[INBOX_T_QOS0_NEXT];
    out->bytes = f->u[INBOX_T_BYTES];
    out->expiry_sec = (uint32_t)f->u[INBOX_T_EXPIRY];
    out->limit = (uint32_t)f->u[INBOX_T_LIMIT];
    out->sub_count = (uint32_t)f->u[INBOX_T_WINDOW];
    out->received_count = (uint32_t)f->u[INBOX_T_PACKET_ID];
    out->has_will = f->u[INBOX_T_DELAY] != 0;
    out->filters = f->s[INBOX_T_LIST];
    return inbox_fields_owner(f, &out->owner);
}

void inbox_query_list(struct buf *out, struct str tenant, struct str prefix, struct str after,
                      uint32_t count_max)
{
    codec_record_begin(out, INBOX_K_Q_LIST, INBOX_VERSION);
    inbox_put_str(out, INBOX_T_TENANT, tenant);
    inbox_put_str(out, INBOX_T_FILTER, prefix);
    inbox_put_str(out, INBOX_T_CLIENT, after);
    inbox_put_u64(out, INBOX_T_LIMIT, count_max);
}

/* The smallest ones so far, in order. */
struct page {
    const struct inbox_session **session;
    size_t count, max;
    bool is_more;
};

static void page_put(struct page *p, const struct inbox_session *s)
{
    struct str client = inbox_session_client(s);
    size_t lo = 0, hi = p->count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (str_cmp(inbox_session_client(p->session[mid]), client) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    p->is_more |= p->count == p->max;
    if (lo == p->max)
        return;
    size_t behind = (p->count < p->max ? p->count : p->max - 1) - lo;
    memmove(p->session + lo + 1, p->session + lo, behind * sizeof *p->session);
    p->session[lo] = s;
    p->count += p->count < p->max;
}

void inbox_census(const struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply)
{
    uint64_t max = f->u[INBOX_T_LIMIT];
    struct page p = {.max = max < 1 ? 1 : max < INBOX_LIST_MAX ? (size_t)max : INBOX_LIST_MAX};
    struct str prefix = f->s[INBOX_T_FILTER], after = f->s[INBOX_T_CLIENT];
    const struct inbox_tenant *t = inbox_tenant_find(m, f->s[INBOX_T_TENANT]);
    size_t at = 0;
    p.session = mem_new(p.max * sizeof *p.session);
    for (const struct inbox_session *s; t != NULL && (s = map_next(&m->sessions, &at)) != NULL;)
        if (s->tenant == t && str_has_prefix(inbox_session_client(s), prefix) &&
            (after.n == 0 || str_cmp(inbox_session_client(s), after) > 0))
            page_put(&p, s);
    buf_put_u8(reply, p.is_more);
    struct buf one = {0};
    for (size_t i = 0; i < p.count; i++) {
        one.n = 0;
        inbox_put_str(&one, INBOX_T_CLIENT, inbox_session_client(p.session[i]));
        inbox_state_put(&one, p.session[i]);
        buf_put_varint(reply, one.n);
        buf_put_str(reply, buf_str(&one));
    }
    buf_deinit(&one);
    mem_free(p.session);
}

uint64_t inbox_expire_count(struct str command)
{
    struct inbox_fields f;
    struct inbox_element e;
    uint8_t kind;
    uint64_t n = 0;
    if (!inbox_fields_get(command, &kind, &f) || kind != INBOX_K_EXPIRE)
        return 0;
    struct codec_cursor c = codec_cursor_of(f.s[INBOX_T_LIST]);
    while (codec_cursor_left(&c) > 0 && inbox_element_get(&c, &e))
        n++;
    return n;
}

bool inbox_list_begin(struct str reply, struct inbox_list *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    out->is_more = codec_cursor_u8(&c) != 0;
    out->rest = str_view(c.p, codec_cursor_left(&c));
    out->is_bad = c.bad;
    return !c.bad;
}

bool inbox_list_next(struct inbox_list *l, struct str *out_client, struct inbox_state *out)
{
    struct codec_cursor c = codec_cursor_of(l->rest);
    struct inbox_fields f;
    if (l->rest.n == 0 || l->is_bad)
        return false;
    uint64_t n = codec_cursor_varint(&c);
    struct str one = codec_cursor_bytes(&c, n <= codec_cursor_left(&c) ? (size_t)n : SIZE_MAX);
    struct codec_cursor in = codec_cursor_of(one);
    *out = (struct inbox_state){.outcome = INBOX_OK};
    l->is_bad = c.bad || !inbox_fields_rest(&in, &f) || !inbox_state_get(&f, out);
    if (l->is_bad)
        return false;
    *out_client = f.s[INBOX_T_CLIENT];
    l->rest = str_view(c.p, codec_cursor_left(&c));
    return true;
}
