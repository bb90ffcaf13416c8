/* Sessions and subscriptions of a tenant, by pages, from all nodes and the stores.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every source gives its smallest client identifiers behind the last page's end.  A source that has
 * more says nothing about what lies behind its last one, so the page ends there at the latest.
 *
 * Invariant: a client that is there throughout is on exactly one page. */
#include "api/list_priv.h"

#include "api/peer_priv.h"
#include "base/mem.h"
#include "stores/survey.h"

#define SESSIONS_MAX 1000u
#define SUBS_MAX 200u /* sessions of one page of subscriptions */

/* ---- the merge ---- */

void api_merge_put(struct api_merge *m, struct str client, struct str json, bool is_stored)
{
    m->row = mem_grow(m->row, &m->cap, m->count + 1, sizeof *m->row);
    m->row[m->count++] = (struct api_merge_row){str_dup(client), str_dup(json), is_stored};
}

void api_merge_bound(struct api_merge *m, struct str last)
{
    if (m->is_bounded && str_cmp(last, buf_str(&m->bound)) >= 0)
        return;
    m->is_bounded = true;
    m->bound.n = 0;
    buf_put_str(&m->bound, last);
}

static int by_client(const void *a, const void *b)
{
    const struct api_merge_row *x = a, *y = b;
    int r = str_cmp(x->client, y->client);
    return r ? r : (int)x->is_stored - (int)y->is_stored; /* the live one first */
}

size_t api_merge_end(struct api_merge *m, size_t limit)
{
    size_t sessions = 0, i = 0;
    if (m->count > 1)
        qsort(m->row, m->count, sizeof *m->row, by_client);
    for (; i < m->count; i++) {
        bool is_same = i > 0 && str_eq(m->row[i].client, m->row[i - 1].client);
        if (m->is_bounded && str_cmp(m->row[i].client, buf_str(&m->bound)) > 0)
            break;
        if (!is_same && sessions == limit)
            break;
        sessions += !is_same;
    }
    m->is_more = m->is_bounded || i < m->count;
    return i;
}

void api_merge_deinit(struct api_merge *m)
{
    for (size_t i = 0; i < m->count; i++) {
        mem_free((void *)(uintptr_t)m->row[i].client.p);
        mem_free((void *)(uintptr_t)m->row[i].json.p);
    }
    mem_free(m->row);
    buf_deinit(&m->bound);
}

/* ---- a list under way ---- */

struct list_ask {
    struct api_ask *ask;
    struct api_merge merge;
    struct str filter; /* ours */
    struct str client; /* ours; p NULL: all */
    uint64_t limit;
    bool is_subs;
    unsigned legs;
    enum stores_outcome outcome;
    struct buf silent; /* ids of nodes that did not answer, JSON */
};

/* The rows of one client from i on: live, then stored. */
static size_t put_client(const struct list_ask *l, size_t i, size_t count, struct buf *b)
{
    const struct api_merge_row *row = &l->merge.row[i], *stored = NULL;
    size_t next = i;
    for (; next < count && str_eq(l->merge.row[next].client, row->client); next++)
        if (l->merge.row[next].is_stored)
            stored = &l->merge.row[next];
    if (l->is_subs) {
        if (!row->is_stored && row->json.n) {
            api_key(b, NULL);
            buf_put_str(b, row->json);
        }
        if (stored && stored->json.n) {
            api_key(b, NULL);
            buf_put_str(b, stored->json);
        }
        return next;
    }
    api_key(b, NULL);
    if (row->is_stored) {
        buf_put_u8(b, '{');
        api_put_text(b, "clientId", row->client);
        api_put_bool(b, "online", false);
        api_put_bool(b, "persistent", true);
    } else {
        buf_put_str(b, str_view(row->json.p, row->json.n - 1));
    }
    if (stored) {
        api_key(b, "inbox");
        buf_put_str(b, stored->json);
    }
    buf_put_u8(b, '}');
    return next;
}

static void list_end(struct list_ask *l)
{
    struct buf b = {0};
    if (l->outcome != STORES_OK) {
        api_outcome(l->ask, l->outcome);
    } else {
        size_t count = api_merge_end(&l->merge, (size_t)l->limit);
        buf_printf(&b, "{\"%s\":[", l->is_subs ? "subscriptions" : "sessions");
        for (size_t i = 0; i < count;)
            i = put_client(l, i, count, &b);
        buf_put_u8(&b, ']');
        if (l->merge.is_more && count > 0)
            api_put_text(&b, "after", l->merge.row[count - 1].client);
        if (l->silent.n) {
            api_key(&b, "incomplete");
            buf_printf(&b, "[%.*s]", STR_ARG(buf_str(&l->silent)));
        }
        buf_put_u8(&b, '}');
        api_json(l->ask, 200, &b);
    }
    buf_deinit(&b);
    buf_deinit(&l->silent);
    api_merge_deinit(&l->merge);
    mem_free((void *)(uintptr_t)l->filter.p);
    mem_free((void *)(uintptr_t)l->client.p);
    mem_free(l);
}

static void list_leg(struct list_ask *l)
{
    if (--l->legs == 0)
        list_end(l);
}

static void live(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct list_ask *l = arg;
    struct api_peer_item item = {.client = STR("")};
    if (!answer) {
        char id[UUID_TEXT];
        uuid_format(node, id);
        buf_printf(&l->silent, "%s\"%s\"", l->silent.n ? "," : "", id);
        return;
    }
    for (struct str rest = answer->items; api_peer_item(&rest, &item);)
        api_merge_put(&l->merge, item.client, item.json, false);
    if (answer->is_more && item.client.n)
        api_merge_bound(&l->merge, item.client);
}

static void live_end(void *arg)
{
    list_leg(arg);
}

static void put_stored_subs(const struct list_ask *l, const struct stores_stored *s, struct buf *b)
{
    struct stores_stored_filter f;
    for (struct str rest = s->filters; stores_stored_filter(&rest, &f);) {
        if (l->filter.n && !str_eq(l->filter, f.filter))
            continue;
        if (b->n)
            buf_put_u8(b, ',');
        api_put_sub(b,
                    &(struct api_sub_view){s->client, f.filter, f.qos, f.is_no_local,
                                           f.is_as_published, true, s->detached_ms == 0, f.sub_id});
    }
}

static void put_stored(struct list_ask *l, const struct stores_stored *s)
{
    struct buf b = {0};
    if (l->client.p && !str_eq(l->client, s->client))
        return;
    if (l->is_subs) {
        put_stored_subs(l, s, &b);
    } else {
        buf_put_u8(&b, '{');
        api_put_stored(&b, s);
        buf_put_u8(&b, '}');
    }
    api_merge_put(&l->merge, s->client, buf_str(&b), true);
    buf_deinit(&b);
}

static void surveyed(void *arg, const struct stores_survey *s)
{
    struct list_ask *l = arg;
    l->outcome = s->outcome;
    for (size_t i = 0; i < s->count; i++)
        put_stored(l, &s->session[i]);
    if (s->is_more && s->count > 0 && !l->client.p)
        api_merge_bound(&l->merge, s->session[s->count - 1].client);
    list_leg(l);
}

static void stored_one(void *arg, enum stores_outcome o, const struct stores_stored *s)
{
    struct list_ask *l = arg;
    if (o == STORES_OK)
        put_stored(l, s);
    else if (o != STORES_E_NO_SESSION)
        l->outcome = o;
    list_leg(l);
}

/* ---- the endpoints ---- */

static void list_begin(struct api_ask *a, const struct api_peer_ask *order, bool wants_stored)
{
    struct stores_client *stores = stores_client_get(a->api->conf.stores, 0);
    struct list_ask *l = mem_new(sizeof *l);
    l->ask = a;
    l->limit = order->count_max;
    l->is_subs = order->wants_subs;
    l->filter = order->filter.n ? str_dup(order->filter) : str_view(NULL, 0);
    l->client = order->has_client ? str_dup(order->client) : str_view(NULL, 0);
    l->legs = wants_stored ? 2 : 1;
    if (wants_stored && order->has_client)
        stores_stored_find(stores, order->tenant, order->client, stored_one, l);
    else if (wants_stored)
        stores_survey_sessions(stores,
                               &(struct stores_survey_query){order->tenant, order->prefix,
                                                             order->after,
                                                             (uint32_t)order->count_max},
                               surveyed, l);
    api_peer_all(a->api, order, live, live_end, l);
}

/* Parameters that both lists have; false: a 400 was sent. */
static bool order_of(struct api_ask *a, uint64_t limit_max, struct api_peer_ask *out)
{
    struct api_number limit = {"limit", 1, limit_max, 100};
    *out = (struct api_peer_ask){.op = API_PEER_LIST,
                                 .tenant = api_header(a, "tenant_id"),
                                 .after = api_header(a, "after"),
                                 .prefix = api_header(a, "prefix")};
    return api_number(a, &limit, &out->count_max);
}

void api_session_list(struct api_ask *a)
{
    struct api_peer_ask order;
    if (!order_of(a, SESSIONS_MAX, &order))
        return;
    order.user = api_header(a, "user_id");
    order.has_user = order.user.n > 0;
    /* Whose a stored session was is known while it is connected only. */
    bool is_online = order.has_user || str_eq(api_header(a, "online"), STR("true"));
    list_begin(a, &order, !is_online);
}

void api_sub_list(struct api_ask *a)
{
    struct api_peer_ask order;
    if (!order_of(a, SUBS_MAX, &order))
        return;
    order.wants_subs = true;
    order.filter = api_header(a, "topic_filter");
    order.client = api_header(a, "client_id");
    order.has_client = order.client.n > 0;
    list_begin(a, &order, true);
}
