/* Readers on other threads while one thread writes: run it under the thread and the address
 * sanitizer. SPDX-License-Identifier: Apache-2.0
 *
 * Reclaiming is by quiescent states: each reader counts its rounds, and what was unlinked is freed
 * when every reader has begun a round since. */
#include <pthread.h>

#include "base/mem.h"
#include "unit/dist/dist_unit.h"

#define READERS 2
#define STEPS 30000
#define GARBAGE_MAX 512
#define STABLE 64 /* filters that are there all the time */

struct stage {
    struct bench_index b;
    _Atomic uint64_t round[READERS]; /* UINT64_MAX: gone */
    _Atomic bool is_over;
};

struct reader {
    struct stage *stage;
    unsigned i;
    pthread_t thread;
    uint64_t matches, hosts;
    bool is_wrong;
};

/* What is left of a match that was kept: usable as long as the version stands, within a round. */
struct cached {
    struct str topic;
    char at[64];
    struct dist_match m;
};

static bool look_at(struct reader *r, const struct dist_match *m, struct str topic)
{
    char text[128];
    for (size_t i = 0; i < m->count; i++) {
        struct dist_filter *f = m->filter[i];
        size_t n = dist_filter_text(f, text);
        if (!naive_match(str_view(text, n), topic) || !str_eq(dist_filter_tenant(f), STR("t")))
            return false;
        for (const struct dist_receiver *c = dist_filter_receivers(f); c != NULL;
             c = dist_receiver_next(c)) {
            if (c->kind == DIST_KIND_INBOX && (c->client_len == 0 || c->client[0] != 'c'))
                return false;
        }
        for (const struct dist_group *g = dist_filter_groups(f); g != NULL;
             g = dist_group_next(g)) {
            const struct dist_receiver *c = dist_group_pick(g, r->matches, NULL, NULL);
            if (c == NULL || c->client[0] != 'c')
                return false;
        }
        if (dist_filter_host(f) == NULL && r->matches % 16 == 0 &&
            dist_filter_host_set(f, NULL, r) == 0) {
            r->hosts++;
            if (dist_filter_host_set(f, r, NULL) != 0) /* nobody else may have touched it */
                return false;
        }
        r->matches++;
    }
    return true;
}

static size_t stable_in(const struct dist_match *m)
{
    size_t n = 0;
    char text[128];
    for (size_t i = 0; i < m->count; i++)
        n += dist_filter_text(m->filter[i], text) > 7 && memcmp(text, "stable/", 7) == 0;
    return n;
}

static void *read_on(void *arg)
{
    struct reader *r = arg;
    struct stage *s = r->stage;
    struct rng rng;
    struct cached kept[8];
    struct dist_match m = {0};
    char at[64];
    memset(kept, 0, sizeof kept);
    rng_init(&rng, r->i + 10);
    for (uint64_t round = 1; !atomic_load(&s->is_over) && !r->is_wrong; round++) {
        atomic_store(&s->round[r->i], round);
        for (int k = 0; k < 8; k++) {
            struct cached *c = &kept[rng_below(&rng, countof(kept))];
            if (c->topic.p == NULL || c->m.version != dist_index_version(s->b.x)) {
                c->topic = random_topic(&rng, c->at);
                dist_index_match(s->b.x, STR("t"), c->topic, &c->m);
            }
            r->is_wrong |= !look_at(r, &c->m, c->topic);
            int n = (int)rng_below(&rng, STABLE);
            struct str topic = str_view(at, (size_t)snprintf(at, sizeof at, "stable/%d/x", n));
            dist_index_match(s->b.x, STR("t"), topic, &m);
            r->is_wrong |= stable_in(&m) != 2; /* stable/n/x and stable/n/+ */
        }
    }
    atomic_store(&s->round[r->i], UINT64_MAX);
    for (size_t i = 0; i < countof(kept); i++)
        dist_match_deinit(&kept[i].m);
    dist_match_deinit(&m);
    return NULL;
}

/* Waits until every reader began a round after now, then frees. */
static void grace(struct stage *s)
{
    for (unsigned i = 0; i < READERS; i++) {
        uint64_t seen = atomic_load(&s->round[i]);
        while (seen != UINT64_MAX && atomic_load(&s->round[i]) == seen)
            sched_yield();
    }
    index_grace(&s->b);
}

static void write_one(struct stage *s, struct rng *rng, uint64_t step)
{
    char at[64], client[8];
    struct dist_route r = {.tenant = rng_below(rng, 8) ? STR("t") : STR("other"),
                           .filter = random_filter(rng, at),
                           .kind = (enum dist_kind)rng_between(rng, 1, 3),
                           .incarnation = step + 1};
    if (r.kind == DIST_KIND_MEMBER || (r.kind == DIST_KIND_INBOX && rng_below(rng, 3) == 0)) {
        r.share = (enum dist_share)rng_between(rng, 1, 2);
        r.group = STR("g");
    }
    if (r.kind != DIST_KIND_NODE)
        r.client = str_view(client, (size_t)snprintf(client, 8, "c%d", (int)rng_below(rng, 30)));
    if (r.kind != DIST_KIND_INBOX)
        r.node.b[0] = (uint8_t)rng_between(rng, 1, 3);
    int got = rng_below(rng, 2) ? dist_index_add(s->b.x, 0, &r, 5) : dist_index_del(s->b.x, 0, &r);
    ck_assert_int_ne(got, DIST_E_INVALID);
}

START_TEST(readers)
{
    struct stage s = {.is_over = false};
    struct reader r[READERS];
    struct rng rng;
    char at[64];
    index_open(&s.b);
    rng_init(&rng, 1);
    for (int i = 0; i < 2 * STABLE; i++) {
        struct dist_route stable = route_node("t", "", 1, 1);
        stable.filter =
            str_view(at, (size_t)snprintf(at, sizeof at, "stable/%d/%s", i / 2, i % 2 ? "x" : "+"));
        ck_assert_int_eq(dist_index_add(s.b.x, 0, &stable, 0), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        r[i] = (struct reader){.stage = &s, .i = i};
        atomic_store(&s.round[i], 0);
        ck_assert_int_eq(pthread_create(&r[i].thread, NULL, read_on, &r[i]), 0);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        write_one(&s, &rng, step);
        if (s.b.dead_count >= GARBAGE_MAX)
            grace(&s);
        if (step % 5000 == 0)
            dist_index_check(s.b.x);
    }
    atomic_store(&s.is_over, true);
    uint64_t matches = 0;
    for (unsigned i = 0; i < READERS; i++) {
        ck_assert_int_eq(pthread_join(r[i].thread, NULL), 0);
        ck_assert(!r[i].is_wrong);
        matches += r[i].matches;
    }
    ck_assert_uint_gt(matches, 0);
    index_close(&s.b);
}
END_TEST

Suite *readers_suite(void)
{
    Suite *s = suite_create("dist readers");
    TCase *t = tcase_create("readers");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, readers);
    suite_add_tcase(s, t);
    return s;
}
