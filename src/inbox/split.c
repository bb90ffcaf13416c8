/* One machine becomes two in memory.  SPDX-License-Identifier: Apache-2.0
 *
 * A range is cut between two shelves of a tenant, so a session, its queue, its taken wills and the
 * bodies it names go the same way.  Nothing is copied but tenants and holders, which both may need.
 *
 * Invariants:
 *   1. Both halves are as if they had been loaded from their rows.
 *   2. What has no part in the state (nudges, questions asked) begins anew in the right half. */
#include "base/mem.h"
#include "inbox/inbox_priv.h"

struct cut {
    struct inbox_machine *left, *right;
    struct str tenant; /* of the first key of the right half */
    uint8_t bucket;
    const struct inbox_tenant *from; /* the last one, and what it is in the right half */
    struct inbox_tenant *to;
    int side; /* of from against tenant */
};

static bool is_right(struct cut *c, const struct inbox_tenant *t, uint8_t bucket)
{
    if (t != c->from) {
        c->side = str_cmp(str_view(t->name, t->len), c->tenant);
        c->from = t;
        c->to = NULL;
    }
    return c->side > 0 || (c->side == 0 && bucket >= c->bucket);
}

/* The right half's tenant of this name, held once more. */
static struct inbox_tenant *tenant_to(struct cut *c, const struct inbox_tenant *from)
{
    if (from != c->from || c->to == NULL) {
        (void)is_right(c, from, 0);
        c->to = inbox_tenant_get(c->right, str_view(from->name, from->len));
    } else {
        c->to->hold++;
    }
    return c->to;
}

/* The left half lets go of its own, which may end with it. */
static void tenant_from(struct cut *c, struct inbox_tenant *from)
{
    if (from->hold == 1)
        c->from = NULL;
    inbox_tenant_drop(c->left, from);
}

static void count(struct inbox_stat *s, const struct inbox_session *x, uint64_t one)
{
    s->sessions += one;
    s->subs += one * x->sub_count;
    if (x->live != NULL) {
        s->messages += one * (x->live->queue.count + x->live->qos0.count);
        s->bytes += one * x->live->bytes;
    }
}

static bool move_session(void *arg, void *item)
{
    struct cut *c = arg;
    struct inbox_session *s = item;
    struct inbox_tenant *from = s->tenant;
    if (!is_right(c, from, s->bucket))
        return false;
    struct inbox_owner owner;
    bool is_owned = s->holder != NULL;
    if (is_owned) {
        owner = s->holder->who;
        inbox_session_disown(c->left, s);
    }
    count(&from->stat, s, UINT64_MAX); /* minus one */
    s->tenant = tenant_to(c, from);
    tenant_from(c, from);
    count(&s->tenant->stat, s, 1);
    if (is_owned)
        inbox_session_own(c->right, s, &owner);
    return true;
}

static bool is_due_right(void *arg, const struct heap_node *x)
{
    const struct inbox_session *s = container_of(x, const struct inbox_session, due);
    return is_right(arg, s->tenant, s->bucket);
}

/* Bodies and wills are fewer, and found by what changes with the machine: each is taken out and put
 * in. */
static void move_bodies(struct cut *c)
{
    struct inbox_body **go = NULL, *b;
    size_t n = 0, cap = 0, at = 0;
    while ((b = map_next(&c->left->bodies, &at)) != NULL)
        if (is_right(c, b->tenant, (uint8_t)(b->shelf << 4))) {
            go = mem_grow(go, &cap, n + 1, sizeof(struct inbox_body *));
            go[n++] = b;
        }
    for (size_t i = 0; i < n; i++) {
        struct inbox_tenant *from = go[i]->tenant;
        inbox_body_move(c->left, c->right, go[i], tenant_to(c, from));
        tenant_from(c, from);
    }
    mem_free(go);
}

static void move_wills(struct cut *c)
{
    struct inbox_taken **go = NULL, *w;
    size_t n = 0, cap = 0, at = 0;
    while ((w = map_next(&c->left->wills, &at)) != NULL)
        if (is_right(c, w->tenant, inbox_bucket(w->client))) {
            go = mem_grow(go, &cap, n + 1, sizeof(struct inbox_taken *));
            go[n++] = w;
        }
    for (size_t i = 0; i < n; i++) {
        struct inbox_tenant *from = go[i]->tenant;
        inbox_taken_move(c->left, c->right, go[i], tenant_to(c, from));
        tenant_from(c, from);
    }
    mem_free(go);
}

void *inbox_split(void *arg, const struct range_bounds *left, const struct range_bounds *right)
{
    struct inbox_machine *m = arg;
    struct str key = right->start;
    const char *nul = key.n > 1 ? memchr(key.p, 0, key.n - 1) : NULL;
    bool is_shelf = nul != NULL && nul + 2 == key.p + key.n && (nul[1] & 0x0F) == 0;
    if (!is_shelf || !list_empty(&m->pushing))
        return NULL;
    struct cut c = {.left = m,
                    .right = inbox_machine_new(NULL),
                    .tenant = str_view(key.p, (size_t)(nul - key.p)),
                    .bucket = (uint8_t)nul[1]};
    inbox_machine_bound(c.left, left);
    inbox_machine_bound(c.right, right);
    map_cut(&m->sessions, &c.right->sessions, move_session, &c);
    heap_cut(&m->due, &c.right->due, is_due_right, &c);
    move_bodies(&c);
    move_wills(&c);
    return c.right;
}
