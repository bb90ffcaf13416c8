/* Mailboxes between loops, and the worker pool.  SPDX-License-Identifier: Apache-2.0 */
#include "net/mailbox.h"

#include <pthread.h>

#include "base/mem.h"
#include "net/worker.h"
#include "unit/net/net.h"

struct item {
    struct net_mailbox_item box;
    int from, number;
};

struct sink {
    struct net_loop *loop;
    int last[2], count;
};

static void receive(void *arg, struct net_mailbox_item *box)
{
    struct sink *k = arg;
    struct item *i = container_of(box, struct item, box);
    ck_assert(net_loop_is_here(k->loop));
    ck_assert_int_eq(i->number, k->last[i->from] + 1);
    k->last[i->from] = i->number;
    k->count++;
    mem_free(i);
}

struct source {
    struct net_loop *loop;
    struct net_mailbox *box;
    struct net_timer timer;
    struct net_mailbox_waiter waiter;
    int id, sent, refused, resumed;
};

#define ITEMS 20000

static void on_room(void *arg);

static void produce(struct source *s)
{
    for (int n = 0; n < 100 && s->sent < ITEMS; n++) {
        struct item *i = mem_new(sizeof *i);
        i->from = s->id;
        i->number = s->sent + 1;
        if (net_mailbox_push(s->box, s->loop, &i->box) == NET_MAILBOX_E_FULL) {
            mem_free(i);
            s->refused++;
            net_mailbox_wait(s->box, s->loop, &s->waiter, on_room, s);
            return;
        }
        s->sent++;
    }
    net_timer_set(s->loop, &s->timer, net_loop_now(s->loop));
}

static void on_room(void *arg)
{
    struct source *s = arg;
    s->resumed++;
    produce(s);
}

static void on_timer(void *arg, usec_t now)
{
    struct source *s = arg;
    (void)now;
    if (s->sent < ITEMS)
        produce(s);
}

START_TEST(keeps_order_and_bound)
{
    struct net_loop *to = loop_new(0, NULL);
    struct sink k = {.loop = to};
    struct net_mailbox *box = net_mailbox_new(to, 300, receive, &k);
    struct source s[2] = {{.id = 0, .box = box}, {.id = 1, .box = box}};
    for (unsigned i = 0; i < 2; i++) {
        s[i].loop = loop_new(i + 1, NULL);
        net_timer_init(&s[i].timer, on_timer, &s[i]);
        net_timer_set(s[i].loop, &s[i].timer, 1);
        ck_assert_int_eq(net_loop_start(s[i].loop), 0);
    }
    while (k.count < 2 * ITEMS) {
        ck_assert_uint_le(net_mailbox_len(box), 302);
        net_loop_turn(to, USEC_SEC);
    }
    for (int i = 0; i < 2; i++) {
        net_loop_stop(s[i].loop);
        net_loop_join(s[i].loop);
        net_timer_del(s[i].loop, &s[i].timer);
        ck_assert_int_eq(s[i].refused, s[i].resumed);
    }
    ck_assert_uint_eq(net_mailbox_len(box), 0);
    net_mailbox_free(box);
    net_loop_free(s[0].loop);
    net_loop_free(s[1].loop);
    net_loop_free(to);
}
END_TEST

struct sum {
    struct net_worker_job job;
    int in, out;
    bool is_done;
};

static void work(struct net_worker_job *job)
{
    struct sum *s = container_of(job, struct sum, job);
    s->out = s->in * 2;
}

static void done(struct net_worker_job *job)
{
    struct sum *s = container_of(job, struct sum, job);
    s->is_done = true;
    if (!job->is_cancelled)
        ck_assert_int_eq(s->out, s->in * 2);
}

START_TEST(worker_comes_home)
{
    struct net_loop *l = loop_new(0, NULL);
    struct net_worker *w = NULL;
    ck_assert_int_eq(net_worker_new(2, 1000, "test", &w), 0);
    struct sum s[500];
    for (int i = 0; i < 500; i++) {
        s[i] = (struct sum){.in = i};
        ck_assert_int_eq(net_worker_push(w, l, &s[i].job, work, done), 0);
    }
    for (int i = 0; i < 500; i++)
        turn_until(l, s[i].is_done);
    net_worker_free(w);
    net_loop_free(l);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void work_slow(struct net_worker_job *job)
{
    (void)job;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

START_TEST(worker_is_bounded_and_cancels)
{
    struct net_loop *l = loop_new(0, NULL);
    struct net_worker *w = NULL;
    ck_assert_int_eq(net_worker_new(1, 2, "test", &w), 0);
    struct sum s[4] = {0};
    pthread_mutex_lock(&gate);
    ck_assert_int_eq(net_worker_push(w, l, &s[0].job, work_slow, done), 0);
    while (net_worker_len(w) > 0) /* until the thread has it */
        ;
    ck_assert_int_eq(net_worker_push(w, l, &s[1].job, work, done), 0);
    ck_assert_int_eq(net_worker_push(w, l, &s[2].job, work, done), 0);
    ck_assert_int_eq(net_worker_push(w, l, &s[3].job, work, done), NET_WORKER_E_FULL);
    pthread_mutex_unlock(&gate);
    net_worker_free(w);
    turn_until(l, s[0].is_done && s[1].is_done && s[2].is_done);
    ck_assert(!s[3].is_done);
    net_loop_free(l);
}
END_TEST

Suite *mailbox_suite(void)
{
    Suite *s = suite_create("mailbox and worker");
    TCase *t = tcase_create("mailbox");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, keeps_order_and_bound);
    tcase_add_test(t, worker_comes_home);
    tcase_add_test(t, worker_is_bounded_and_cancels);
    suite_add_tcase(s, t);
    return s;
}
