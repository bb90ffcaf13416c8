/* Which retained messages a filter matches, page by page.  SPDX-License-Identifier: Apache-2.0
 *
 * Topics are in bytewise order.  All topics that begin with "a/b/" lie together, so a walk can
 * leave out a whole branch with one search.  For each topic it meets the walk knows one of: it
 * matches; go on with the next; nothing can match before such and such a key; nothing can match any
 * more.
 *
 * Invariant: a search target is greater than the topic that led to it, so the walk ends. */
#include "retain/retain_priv.h"

enum verdict { VERDICT_MATCH, VERDICT_NEXT, VERDICT_SEEK, VERDICT_END };

/* The key behind everything that begins with prefix, which ends in '/': '0' is the character after
 * it. */
static enum verdict seek_behind(struct buf *to, struct str prefix)
{
    buf_put(to, prefix.p, prefix.n - 1);
    buf_put_u8(to, '/' + 1);
    return VERDICT_SEEK;
}

/* A literal level differs from the topic's; prefix is the topic before that level. */
static enum verdict differ(struct buf *to, struct str topic, struct str prefix, struct str literal)
{
    buf_put_str(to, prefix);
    buf_put_str(to, literal);
    if (str_cmp(topic, buf_str(to)) < 0)
        return VERDICT_SEEK;
    buf_put_u8(to, '/');
    if (str_cmp(topic, buf_str(to)) < 0)
        return VERDICT_SEEK;
    to->n = 0;
    return prefix.n == 0 ? VERDICT_END : seek_behind(to, prefix);
}

static enum verdict judge(struct str filter, struct str topic, struct buf *to)
{
    struct str rest = filter, level;
    size_t pos = 0;
    bool is_over = false; /* the topic has no further level */
    to->n = 0;
    while (str_next(&rest, '/', &level)) {
        bool is_many = level.n == 1 && level.p[0] == '#',
             is_one = level.n == 1 && level.p[0] == '+';
        if (pos == 0 && !is_over && (is_many || is_one) && topic.n > 0 && topic.p[0] == '$') {
            buf_put_u8(to, '$' + 1); /* [MQTT-4.7.2-1] */
            return VERDICT_SEEK;
        }
        if (is_many)
            return VERDICT_MATCH; /* the parent level included (4.7.1.2) */
        if (is_over)
            return VERDICT_NEXT;
        const char *slash = topic.n > pos ? memchr(topic.p + pos, '/', topic.n - pos) : NULL;
        size_t end = slash != NULL ? (size_t)(slash - topic.p) : topic.n;
        if (!is_one && !str_eq(level, str_view(topic.p + pos, end - pos)))
            return differ(to, topic, str_view(topic.p, pos), level);
        is_over = slash == NULL;
        pos = is_over ? topic.n : end + 1;
    }
    return is_over ? VERDICT_MATCH : seek_behind(to, str_view(topic.p, pos));
}

static void found(const struct retain_item *i, struct buf *out)
{
    struct str topic = retain_item_topic(i);
    buf_put_varint(out, topic.n);
    buf_put_str(out, topic);
    buf_put_varint(out, i->small.n);
    buf_put_str(out, i->small);
}

void retain_match(const struct retain_machine *m, const struct retain_page *p,
                  struct buf *out_messages, struct buf *out_after)
{
    struct buf key = {0}, to = {0};
    uint32_t messages = 0;
    retain_key(&key, p->tenant, p->after);
    if (p->after.n > 0)
        buf_put_u8(&key, 0); /* behind it */
    size_t prefix_n = p->tenant.n + 1;
    struct skip_node *n = skip_seek(&m->item, buf_str(&key));
    for (uint32_t steps = 1; n != NULL; steps++) {
        const struct retain_item *i = container_of(n, struct retain_item, node);
        if (!str_has_prefix(n->key, str_view(key.p, prefix_n)))
            break;
        struct str topic = str_view(n->key.p + prefix_n, n->key.n - prefix_n);
        enum verdict v = judge(p->filter, topic, &to);
        if (v == VERDICT_END)
            break;
        if (v == VERDICT_MATCH && (i->due.place == 0 || i->due.at > p->now_ms)) {
            found(i, out_messages);
            messages++;
        }
        if (steps == RETAIN_PAGE_STEPS || messages == p->message_max ||
            out_messages->n >= p->byte_max) {
            buf_put_str(out_after, topic);
            break;
        }
        if (v == VERDICT_SEEK) {
            key.n = prefix_n;
            buf_put_str(&key, buf_str(&to));
            n = skip_seek(&m->item, buf_str(&key));
        } else {
            n = n->next[0];
        }
    }
    buf_deinit(&key);
    buf_deinit(&to);
}
