/* Views: immutable lists that all loops read.  SPDX-License-Identifier: Apache-2.0
 *
 * Counted references, atomic; nothing changes after it was published. */
#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define TEXT_MAX 640

static bool drop_ref(_Atomic uint32_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static void add_ref(_Atomic uint32_t *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

/* Copies s into the text of m, ended by NUL. */
static const char *keep_text(struct view_member *m, size_t *at, struct str s)
{
    size_t room = TEXT_MAX - *at;
    char *to = m->text + *at;
    *at += str_copy(to, room, s) + 1;
    return to;
}

struct view_member *cluster_view_member_new(const struct gossip_member *g,
                                            const struct gossip_suspicion *s)
{
    struct view_member *m = mem_new(sizeof *m + TEXT_MAX);
    struct net_address addr;
    struct meta meta;
    char host[NET_ADDRESS_TEXT];
    size_t at = 0;
    cluster_meta_get(g->meta, &meta);
    m->refs = 1;
    m->pub = (struct cluster_member){
        .uuid = g->uuid,
        .epoch = g->epoch,
        .inc = g->inc,
        .state = (enum cluster_state)g->state,
        .flags = g->flags,
        .version_min = g->version_min,
        .version_max = g->version_max,
        .loops = meta.loops,
        .since = g->since,
        .rtt = g->rtt,
        .flaps = g->flaps,
        .accusers = g->accusers,
        .port = g->addr.port,
        .rpc_port = meta.rpc.port,
        .pid = meta.pid,
    };
    if (s != NULL) {
        m->pub.suspect_until = s->deadline;
        memcpy(m->pub.accuser, s->accuser, s->count * sizeof *s->accuser);
    }
    cluster_addr_to(&g->addr, &addr);
    (void)net_address_format_host(&addr, host);
    m->pub.host = keep_text(m, &at, str_of(host));
    cluster_addr_to(&meta.rpc, &m->rpc);
    (void)net_address_format_host(&m->rpc, host);
    m->pub.rpc_host = keep_text(m, &at, str_of(host));
    m->pub.api = keep_text(m, &at, meta.api);
    m->pub.release = keep_text(m, &at, meta.release);
    return m;
}

struct view_row *cluster_view_row_new(const struct gossip_row *g)
{
    struct view_row *r = mem_alloc(sizeof *r + g->key.n + g->value.n);
    r->refs = 1;
    memcpy(r->bytes, g->key.p, g->key.n);
    if (g->value.n > 0)
        memcpy(r->bytes + g->key.n, g->value.p, g->value.n);
    r->pub = (struct cluster_row){
        .owner = g->owner,
        .epoch = g->epoch,
        .space = g->space,
        .version = g->version,
        .key = str_view(r->bytes, g->key.n),
        .value = str_view(r->bytes + g->key.n, g->value.n),
    };
    return r;
}

struct view_member *cluster_view_member_unref(struct view_member *m)
{
    if (m != NULL && drop_ref(&m->refs))
        mem_free(m);
    return NULL;
}

struct view_row *cluster_view_row_unref(struct view_row *r)
{
    if (r != NULL && drop_ref(&r->refs))
        mem_free(r);
    return NULL;
}

struct view_list *cluster_view_list_new(void *const *item, size_t count, bool is_rows)
{
    struct view_list *l = mem_alloc(sizeof *l + count * sizeof *item);
    l->refs = 1;
    l->is_rows = is_rows;
    l->count = count;
    for (size_t i = 0; i < count; i++) {
        l->item[i] = item[i];
        if (is_rows)
            add_ref(&((struct view_row *)item[i])->refs);
        else
            add_ref(&((struct view_member *)item[i])->refs);
    }
    return l;
}

struct view_list *cluster_view_list_unref(struct view_list *l)
{
    if (l == NULL || !drop_ref(&l->refs))
        return NULL;
    for (size_t i = 0; i < l->count; i++) {
        if (l->is_rows)
            cluster_view_row_unref(l->item[i]);
        else
            cluster_view_member_unref(l->item[i]);
    }
    return mem_free(l);
}

struct view_news *cluster_view_news_unref(struct view_news *n)
{
    if (!drop_ref(&n->refs))
        return NULL;
    cluster_view_list_unref(n->members);
    cluster_view_list_unref(n->rows);
    for (size_t i = 0; i < n->count; i++) {
        cluster_view_member_unref(n->change[i].member);
        cluster_view_row_unref(n->change[i].row);
    }
    return mem_free(n);
}

int cluster_view_row_cmp(const struct cluster_row *a, uint8_t space, struct str key,
                         const struct uuid *owner)
{
    if (a->space != space)
        return a->space < space ? -1 : 1;
    int r = str_cmp(a->key, key);
    return r != 0 || space >= GOSSIP_SPACE_SHARED || owner == NULL ? r : uuid_cmp(&a->owner, owner);
}

size_t cluster_view_lower(void *const *row, size_t count, uint8_t space, struct str key,
                          const struct uuid *owner)
{
    static const struct uuid zero;
    size_t lo = 0, hi = count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct view_row *r = row[mid];
        if (cluster_view_row_cmp(&r->pub, space, key, owner != NULL ? owner : &zero) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct view_member *cluster_view_find(const struct view_list *l, const struct uuid *uuid)
{
    size_t lo = 0, hi = l != NULL ? l->count : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct view_member *m = l->item[mid];
        int r = uuid_cmp(&m->pub.uuid, uuid);
        if (r == 0)
            return m;
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
