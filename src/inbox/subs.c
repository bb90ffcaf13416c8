/* The subscriptions of a session.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: each filter is once in the run and has one row.  The run is in no order that matters.
 */
#include "inbox/inbox_priv.h"

#include "base/mem.h"

/* Where filter is in the run; false when it is not. */
static bool find(const struct inbox_session *s, struct str filter, size_t *out_at, size_t *out_len,
                 struct inbox_sub *out)
{
    struct str rest = str_view(s->subs, s->subs_len);
    while (rest.n > 0) {
        const char *from = rest.p;
        must(inbox_sub_next(&rest, out));
        if (str_eq(out->filter, filter)) {
            *out_at = (size_t)(from - s->subs);
            *out_len = (size_t)(rest.p - from);
            return true;
        }
    }
    return false;
}

static void cut(struct inbox_session *s, size_t at, size_t len)
{
    memmove(s->subs + at, s->subs + at + len, s->subs_len - at - len);
    s->subs_len -= (uint32_t)len;
    s->sub_count--;
    s->tenant->stat.subs--;
    if (s->subs_len == 0)
        s->subs = mem_free(s->subs);
}

void inbox_subs_add(struct inbox_session *s, const struct inbox_sub *sub)
{
    struct buf b = {0};
    inbox_sub_put(&b, sub);
    s->subs = mem_resize(s->subs, s->subs_len + b.n);
    memcpy(s->subs + s->subs_len, b.p, b.n);
    s->subs_len += (uint32_t)b.n;
    s->sub_count++;
    s->tenant->stat.subs++;
    buf_deinit(&b);
}

static struct str sub_key(struct inbox_step *st, const struct inbox_session *s, struct str filter)
{
    (void)inbox_row_key(st->m, s, 's');
    buf_put_str(&st->m->key, filter);
    return buf_str(&st->m->key);
}

static void reply(struct inbox_step *st, uint8_t outcome, const struct inbox_sub *old)
{
    inbox_reply_outcome(st, outcome);
    inbox_put_u64(&st->out->reply, INBOX_T_HLC, st->in->hlc);
    if (old != NULL) {
        inbox_put_u64(&st->out->reply, INBOX_T_OPTIONS, old->options);
        inbox_put_u64(&st->out->reply, INBOX_T_SUB_ID, old->sub_id);
    }
}

void inbox_apply_sub(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    if (s == NULL)
        return;
    struct inbox_sub old, sub = {.filter = f->s[INBOX_T_FILTER],
                                 .options = (uint8_t)f->u[INBOX_T_OPTIONS],
                                 .sub_id = (uint32_t)f->u[INBOX_T_SUB_ID]};
    if (sub.filter.n == 0 || sub.filter.n > UINT16_MAX || f->u[INBOX_T_OPTIONS] > UINT8_MAX ||
        f->u[INBOX_T_SUB_ID] > UINT32_MAX || s->subs_len > INBOX_SUBS_BYTES_MAX) {
        inbox_reply_outcome(st, INBOX_E_INVALID);
        return;
    }
    uint64_t sub_max = f->u[INBOX_T_LIMIT] > 0 ? f->u[INBOX_T_LIMIT] : INBOX_SUBS_MAX;
    size_t at, len;
    bool is_there = find(s, sub.filter, &at, &len, &old);
    if (!is_there && (s->sub_count >= sub_max || s->sub_count >= INBOX_SUBS_MAX)) {
        inbox_reply_outcome(st, INBOX_E_FULL);
        return;
    }
    reply(st, is_there ? INBOX_E_EXISTS : INBOX_OK, is_there ? &old : NULL);
    if (is_there)
        cut(s, at, len);
    inbox_subs_add(s, &sub);
    struct buf *v = &st->m->value;
    v->n = 0;
    codec_record_begin(v, INBOX_K_ROW, INBOX_VERSION);
    inbox_put_u64(v, INBOX_T_OPTIONS, sub.options);
    inbox_put_u64(v, INBOX_T_SUB_ID, sub.sub_id);
    range_out_put(st->out, sub_key(st, s, sub.filter), buf_str(v));
}

void inbox_apply_unsub(struct inbox_step *st, const struct inbox_fields *f)
{
    struct inbox_session *s = inbox_owned(st, f);
    struct inbox_sub old;
    size_t at, len;
    if (s == NULL)
        return;
    if (!find(s, f->s[INBOX_T_FILTER], &at, &len, &old)) {
        reply(st, INBOX_E_NO_SUB, NULL);
        return;
    }
    reply(st, INBOX_OK, &old);
    range_out_del(st->out, sub_key(st, s, f->s[INBOX_T_FILTER]));
    cut(s, at, len);
}
