/* map, heap, list, arena against simple models.  SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/skip.h"
#include "unit/base/suites.h"

#define KEYS 500

struct item {
    uint64_t key;
    struct heap_node at;
};

static bool item_eq(const void *item, const void *key)
{
    return ((const struct item *)item)->key == *(const uint64_t *)key;
}

/* A bad hash on purpose: long probe chains are where backward-shift deletion goes wrong. */
static uint64_t bad_hash(uint64_t key)
{
    return hash_u64(key) & 0x3F;
}

START_TEST(map_agrees_with_an_array)
{
    struct map m = {0};
    static struct item item[KEYS];
    bool there[KEYS] = {false};
    size_t count = 0;
    struct rng r;
    rng_init(&r, 7);
    for (int step = 0; step < 20000; step++) {
        uint64_t k = rng_below(&r, KEYS);
        item[k].key = k;
        struct item *found = map_find(&m, bad_hash(k), item_eq, &k);
        ck_assert_ptr_eq(found, there[k] ? &item[k] : NULL);
        if (there[k]) {
            ck_assert(map_del(&m, bad_hash(k), &item[k]));
            count--;
        } else {
            ck_assert(!map_del(&m, bad_hash(k), &item[k]));
            map_put(&m, bad_hash(k), &item[k]);
            count++;
        }
        there[k] = !there[k];
        ck_assert_uint_eq(m.count, count);
    }
    size_t walked = 0, at = 0;
    for (struct item *i; (i = map_next(&m, &at)) != NULL; walked++)
        ck_assert(there[i->key]);
    ck_assert_uint_eq(walked, count);
    map_deinit(&m);
}
END_TEST

START_TEST(heap_gives_the_earliest)
{
    struct heap h = {0};
    static struct item item[KEYS];
    memset(item, 0, sizeof item);
    struct rng r;
    rng_init(&r, 8);
    for (int step = 0; step < 20000; step++) {
        struct item *i = &item[rng_below(&r, KEYS)];
        if (rng_below(&r, 3) == 0)
            heap_del(&h, &i->at);
        else
            heap_put(&h, &i->at, rng_below(&r, 1000));
        usec_t first = USEC_NEVER;
        for (int k = 0; k < KEYS; k++)
            if (item[k].at.place != 0 && item[k].at.at < first)
                first = item[k].at.at;
        ck_assert_uint_eq(heap_deadline(&h), first);
    }
    usec_t last = 0;
    for (struct heap_node *n; (n = heap_top(&h)) != NULL; heap_del(&h, n)) {
        ck_assert_uint_ge(n->at, last);
        last = n->at;
    }
    heap_deinit(&h);
}
END_TEST

static bool is_odd(void *arg, void *item)
{
    ++*(size_t *)arg;
    return ((const struct item *)item)->key % 2 != 0;
}

static bool is_odd_node(void *arg, const struct heap_node *x)
{
    ++*(size_t *)arg;
    return container_of(x, const struct item, at)->key % 2 != 0;
}

/* Also with bad hashes, whose runs go round the end of the slots. */
START_TEST(map_and_heap_are_cut)
{
    static struct item item[KEYS];
    struct map m = {0}, odd = {0};
    struct heap h = {0}, odd_h = {0};
    struct rng r;
    size_t asked = 0, count = rng_below((rng_init(&r, (uint64_t)_i), &r), KEYS);
    memset(item, 0, sizeof item);
    for (uint64_t k = 0; k < count; k++) {
        item[k].key = k;
        map_put(&m, _i % 2 ? bad_hash(k) : hash_u64(k), &item[k]);
        heap_put(&h, &item[k].at, rng_below(&r, 1000));
    }
    map_cut(&m, &odd, is_odd, &asked);
    heap_cut(&h, &odd_h, is_odd_node, &asked);
    ck_assert_uint_eq(asked, 2 * count);
    ck_assert_uint_eq(odd.count, count / 2);
    ck_assert_uint_eq(m.count, count - count / 2);
    ck_assert_uint_eq(odd_h.count, odd.count);
    for (uint64_t k = 0; k < count; k++) {
        uint64_t hash = _i % 2 ? bad_hash(k) : hash_u64(k);
        ck_assert_ptr_eq(map_find(&m, hash, item_eq, &k), k % 2 ? NULL : &item[k]);
        ck_assert_ptr_eq(map_find(&odd, hash, item_eq, &k), k % 2 ? &item[k] : NULL);
    }
    usec_t last = 0;
    for (struct heap_node *n; (n = heap_top(&odd_h)) != NULL; heap_del(&odd_h, n)) {
        ck_assert_uint_eq(container_of(n, struct item, at)->key % 2, 1);
        ck_assert_uint_ge(n->at, last);
        last = n->at;
    }
    last = 0;
    for (struct heap_node *n; (n = heap_top(&h)) != NULL; heap_del(&h, n)) {
        ck_assert_uint_ge(n->at, last);
        last = n->at;
    }
    map_deinit(&m);
    map_deinit(&odd);
    heap_deinit(&h);
    heap_deinit(&odd_h);
}
END_TEST

struct named {
    char name[8];
    struct skip_node node; /* last: its pointers follow */
};

START_TEST(skip_is_cut)
{
    struct skip left, right;
    struct named *all[200];
    skip_init(&left, 3);
    skip_init(&right, 3);
    for (int i = 0; i < 200; i++) {
        unsigned height = skip_height(&left);
        struct named *x = all[i] = mem_new(sizeof *x + height * sizeof x->node.next[0]);
        x->node.key = str_view(x->name, (size_t)snprintf(x->name, sizeof x->name, "%03d", i));
        x->node.height = height;
        skip_put(&left, &x->node);
    }
    skip_cut(&left, STR("1495"), &right);
    for (int i = 0; i < 200; i++) {
        struct skip_node *x = &all[i]->node;
        ck_assert_ptr_eq(skip_find(&left, x->key), i < 150 ? x : NULL);
        ck_assert_ptr_eq(skip_find(&right, x->key), i < 150 ? NULL : x);
    }
    skip_put(&left, (skip_del(&right, &all[199]->node), &all[199]->node));
    ck_assert_ptr_eq(skip_find(&left, STR("199")), &all[199]->node);
    ck_assert_ptr_null(skip_find(&right, STR("199")));
    for (int i = 0; i < 200; i++)
        mem_free(all[i]);
}
END_TEST

START_TEST(list_keeps_order_and_survives_deletion_while_walking)
{
    struct list head, x[4];
    list_init(&head);
    for (int i = 0; i < 4; i++)
        list_push_back(&head, &x[i]);
    list_each(&head, it) if (it == &x[1] || it == &x[2]) list_del(it);
    ck_assert_ptr_eq(list_pop_front(&head), &x[0]);
    ck_assert_ptr_eq(list_pop_front(&head), &x[3]);
    ck_assert_ptr_null(list_pop_front(&head));
    list_del(&x[0]); /* a link that is in no list */
}
END_TEST

START_TEST(arena_pieces_do_not_overlap)
{
    struct arena a = {0};
    for (int turn = 0; turn < 3; turn++) {
        unsigned char *p[100];
        for (int i = 0; i < 100; i++) {
            size_t n = (size_t)(i * 997 % 40000);
            p[i] = arena_alloc(&a, n + 1);
            ck_assert_uint_eq((uintptr_t)p[i] % 16, 0);
            memset(p[i], i, n + 1);
        }
        for (int i = 0; i < 100; i++)
            ck_assert_int_eq(p[i][i * 997 % 40000], i);
        arena_reset(&a);
    }
    arena_deinit(&a);
}
END_TEST

Suite *suite_containers(void)
{
    Suite *s = suite_create("containers");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, map_agrees_with_an_array);
    tcase_add_loop_test(t, map_and_heap_are_cut, 0, 20);
    tcase_add_test(t, skip_is_cut);
    tcase_add_test(t, heap_gives_the_earliest);
    tcase_add_test(t, list_keeps_order_and_survives_deletion_while_walking);
    tcase_add_test(t, arena_pieces_do_not_overlap);
    suite_add_tcase(s, t);
    return s;
}
