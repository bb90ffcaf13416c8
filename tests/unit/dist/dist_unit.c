/* What the suites of dist share.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/dist/dist_unit.h"

#include "base/mem.h"

static void keep(void *arg, void *ptr, void (*fn)(void *ptr))
{
    struct bench_index *b = arg;
    b->dead = mem_grow(b->dead, &b->dead_cap, b->dead_count + 1, sizeof *b->dead);
    b->dead[b->dead_count].ptr = ptr;
    b->dead[b->dead_count++].fn = fn;
}

void index_open(struct bench_index *b)
{
    *b = (struct bench_index){0};
    b->x = dist_index_new(&(struct dist_index_conf){.seed = 7, .reclaim = keep, .arg = b});
}

void index_grace(struct bench_index *b)
{
    for (size_t i = 0; i < b->dead_count; i++)
        b->dead[i].fn(b->dead[i].ptr);
    b->dead_count = 0;
}

void index_close(struct bench_index *b)
{
    dist_index_check(b->x);
    dist_index_free(b->x);
    index_grace(b);
    mem_free(b->dead);
}

bool naive_match(struct str filter, struct str topic)
{
    if (topic.n > 0 && topic.p[0] == '$' && (filter.p[0] == '+' || filter.p[0] == '#'))
        return false;
    struct str f, t;
    while (str_next(&filter, '/', &f)) {
        if (str_eq(f, STR("#")))
            return true;
        if (!str_next(&topic, '/', &t))
            return false;
        if (!str_eq(f, STR("+")) && !str_eq(f, t))
            return false;
    }
    return topic.p == NULL;
}

static struct str random_path(struct rng *r, char *at, bool is_filter)
{
    static const char *const level[] = {"a", "b", "c", "", "$s", "dd"};
    size_t n = 0;
    uint64_t levels = rng_between(r, 1, 5);
    for (uint64_t i = 0; i < levels; i++) {
        const char *l = level[rng_below(r, countof(level))];
        if (is_filter && rng_below(r, 4) == 0)
            l = "+";
        if (is_filter && i + 1 == levels && rng_below(r, 4) == 0)
            l = "#";
        if (i > 0)
            at[n++] = '/';
        memcpy(at + n, l, strlen(l));
        n += strlen(l);
    }
    if (n == 0)
        at[n++] = 'a';
    return str_view(at, n);
}

struct str random_topic(struct rng *r, char *at)
{
    return random_path(r, at, false);
}

struct str random_filter(struct rng *r, char *at)
{
    return random_path(r, at, true);
}

struct dist_route route_node(const char *tenant, const char *filter, uint8_t node,
                             uint64_t incarnation)
{
    return (struct dist_route){.tenant = str_of(tenant),
                               .filter = str_of(filter),
                               .kind = DIST_KIND_NODE,
                               .node = {{node}},
                               .epoch = 1,
                               .incarnation = incarnation};
}

struct dist_route route_inbox(const char *tenant, const char *filter, const char *client,
                              uint64_t incarnation)
{
    return (struct dist_route){.tenant = str_of(tenant),
                               .filter = str_of(filter),
                               .kind = DIST_KIND_INBOX,
                               .client = str_of(client),
                               .session = 5,
                               .options = 1,
                               .incarnation = incarnation};
}
