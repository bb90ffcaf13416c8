/* Turns, timers, deferred work, mails, reclaim.  SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "base/mem.h"
#include "net/clock.h"
#include "net/loop_priv.h"
#include "unit/net/net.h"

static char trace[64];
static size_t trace_n;

static void mark(char c)
{
    ck_assert_uint_lt(trace_n, sizeof trace);
    trace[trace_n++] = c;
}

struct one {
    struct net_timer timer;
    struct net_defer defer;
    struct net_mail mail;
    struct net_loop *loop;
    char name;
};

static void on_timer(void *arg, usec_t now)
{
    struct one *o = arg;
    ck_assert(now == net_loop_now(o->loop));
    mark(o->name);
}

START_TEST(timers_fire_in_order)
{
    struct net_loop *l = loop_new(0, NULL);
    struct one o[3] = {
        {.loop = l, .name = 'a'}, {.loop = l, .name = 'b'}, {.loop = l, .name = 'c'}};
    trace_n = 0;
    for (int i = 0; i < 3; i++)
        net_timer_init(&o[i].timer, on_timer, &o[i]);
    usec_t now = net_clock_now();
    net_timer_set(l, &o[0].timer, now + 30000);
    net_timer_set(l, &o[1].timer, now + 10000);
    net_timer_set(l, &o[2].timer, now + 20000);
    net_timer_del(l, &o[2].timer);
    turn_until(l, trace_n == 2);
    ck_str(str_view(trace, trace_n), STR("ba"));
    ck_assert(net_clock_now() >= now + 30000);
    ck_assert(!net_timer_is_set(&o[0].timer));
    net_loop_free(l);
}
END_TEST

static void on_defer(void *arg)
{
    struct one *o = arg;
    mark(o->name);
    if (o->name == 'd') {
        o->name = 'e';
        net_loop_defer(o->loop, &o->defer);
    }
}

static void on_mail(struct net_loop *here, struct net_mail *mail)
{
    struct one *o = container_of(mail, struct one, mail);
    ck_assert_ptr_eq(here, o->loop);
    mark(o->name);
    net_loop_defer(here, &o->defer);
    net_loop_defer(here, &o->defer); /* twice is once */
}

START_TEST(deferred_work_runs_in_the_turn)
{
    struct net_loop *l = loop_new(0, NULL);
    struct one o = {.loop = l, .name = 'd'};
    trace_n = 0;
    net_defer_init(&o.defer, on_defer, &o);
    net_loop_post(l, l, &o.mail, on_mail);
    net_loop_turn(l, 0); /* the mail leaves at its end */
    ck_assert_uint_eq(trace_n, 0);
    net_loop_turn(l, 5 * USEC_SEC); /* and is there without sleeping */
    ck_str(str_view(trace, trace_n), STR("dde"));
    net_loop_free(l);
}
END_TEST

struct node {
    struct net_reclaim reclaim;
    int value;
};

struct reader {
    struct net_timer timer;
    struct net_loop *loop;
    struct node *_Atomic *place;
    _Atomic int reads;
};

/* Reads what the other loop replaces all the time; freed memory would show under the sanitizers. */
static void on_read(void *arg, usec_t now)
{
    struct reader *r = arg;
    (void)now;
    for (int i = 0; i < 100; i++) {
        const struct node *n = atomic_load_explicit(r->place, memory_order_acquire);
        ck_assert_int_eq(n->value, 42);
    }
    atomic_fetch_add(&r->reads, 1);
    net_timer_set(r->loop, &r->timer, now + 1);
}

static int freed;

static void node_free(struct net_reclaim *item, void *arg)
{
    (void)arg;
    struct node *n = container_of(item, struct node, reclaim);
    n->value = 0;
    mem_free(n);
    freed++;
}

START_TEST(reclaim_waits_for_readers)
{
    struct net_grace *g = net_grace_new();
    struct net_loop *l = loop_new(0, g), *other = loop_new(1, g);
    struct node *first = mem_new(sizeof *first);
    first->value = 42;
    struct node *_Atomic place = first;
    struct reader r = {.loop = other, .place = &place};
    net_timer_init(&r.timer, on_read, &r);
    net_timer_set(other, &r.timer, 1);
    ck_assert_int_eq(net_loop_start(other), 0);
    freed = 0;
    for (int i = 0; i < 2000; i++) {
        struct node *n = mem_new(sizeof *n);
        n->value = 42;
        struct node *old = atomic_exchange_explicit(&place, n, memory_order_acq_rel);
        net_loop_reclaim(l, &old->reclaim, node_free, NULL);
        net_loop_turn(l, 0);
    }
    turn_until(l, freed == 2000 && atomic_load(&r.reads) > 10);
    net_loop_stop(other);
    net_loop_join(other);
    net_timer_del(other, &r.timer);
    net_loop_free(l);
    net_loop_free(other);
    net_grace_free(g);
    mem_free(place);
}
END_TEST

START_TEST(an_idle_loop_uses_no_processor)
{
    struct net_loop *l = loop_new(0, NULL);
    net_loop_turn(l, 0);
    (void)net_loop_pulse(l);
    uint64_t before = net_loop_pulse(l).turn_count;
    net_loop_turn(l, 50 * USEC_MSEC);
    ck_assert_uint_eq(net_loop_pulse(l).turn_count, before + 1);
    net_loop_free(l);
}
END_TEST

static void dawdle(void *arg, usec_t now)
{
    (void)arg;
    while (net_clock_now() < now + 30 * USEC_MSEC)
        ;
}

START_TEST(a_slow_turn_is_seen_by_all_who_ask)
{
    struct net_loop *l = loop_new(0, NULL);
    struct net_timer slow;
    net_timer_init(&slow, dawdle, NULL);
    net_timer_set(l, &slow, net_clock_now());
    net_loop_turn(l, 0);
    net_loop_turn(l, 0); /* a quick one does not hide it */
    usec_t first = net_loop_pulse(l).turn_longest_usec;
    usec_t second = net_loop_pulse(l).turn_longest_usec;
    ck_assert_uint_ge(first, 30 * USEC_MSEC);
    ck_assert_uint_eq(first, second);
    /* a loop that sleeps has no slow turns */
    l->turn_span -= 2;
    ck_assert_uint_eq(net_loop_pulse(l).turn_longest_usec, 0);
    net_loop_turn(l, 0);
    ck_assert_uint_lt(net_loop_pulse(l).turn_longest_usec, first);
    net_loop_free(l);
}
END_TEST

Suite *loop_suite(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    tcase_add_test(t, timers_fire_in_order);
    tcase_add_test(t, deferred_work_runs_in_the_turn);
    tcase_add_test(t, reclaim_waits_for_readers);
    tcase_add_test(t, an_idle_loop_uses_no_processor);
    tcase_add_test(t, a_slow_turn_is_seen_by_all_who_ask);
    suite_add_tcase(s, t);
    return s;
}
