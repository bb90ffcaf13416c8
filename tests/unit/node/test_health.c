/* Signs of life of a node, and whether a configuration would serve.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/node_priv.h"
#include "unit/unit.h"

#define SPAN (50 * USEC_MSEC)

struct bench {
    struct node *node;
    struct net_timer timer;
    struct net_mail mail;
    _Atomic bool is_held; /* loop 1 does not turn while this is true */
    unsigned stage, ready_count;
};

static void hold(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    struct bench *b = container_of(mail, struct bench, mail);
    while (atomic_load(&b->is_held))
        ;
}

static void on_ready(void *arg, const char *status)
{
    struct bench *b = arg;
    ck_assert_ptr_ne(strstr(status, "serving 0 clients"), NULL);
    b->ready_count++;
}

/* Alive; then held, until that is noticed and the node calls itself slow; then let go, until that is noticed. */
static void on_step(void *arg, usec_t now)
{
    struct bench *b = arg;
    bool is_alive = node_is_alive(b->node, SPAN);
    if (b->stage == 0 && is_alive && b->ready_count) {
        net_loop_post(b->node->loop[0], b->node->loop[1], &b->mail, hold);
        b->stage = 1;
    } else if (b->stage == 1 && !is_alive && b->node->is_slow) {
        atomic_store(&b->is_held, false);
        b->stage = 2;
    } else if (b->stage == 2 && is_alive) {
        b->stage = 3;
        node_stop(b->node);
        node_stop(b->node);
        return;
    }
    net_timer_set(node_loop(b->node), &b->timer, usec_add(now, SPAN / 10));
}

static struct node_conf *small_conf(void)
{
    struct node_conf *c = node_conf_new();
    node_conf_read_argument(c, "data_dir=");
    node_conf_read_argument(c, "workers=2");
    node_conf_read_argument(c, "apiServerConfig.enable=false");
    return c;
}

START_TEST(a_loop_that_stands_still_is_seen)
{
    struct bench b = {.is_held = true};
    struct node_conf_run run = {.conf = small_conf(), .version = "0"};
    run.events = (struct node_events){.ready = on_ready, .arg = &b};
    char error[NODE_ERROR_MAX] = "";
    ck_assert_uint_eq(node_conf_check(run.conf), 0);
    ck_assert_msg(node_new(&run, error, &b.node) == 0, "%s", error);
    net_timer_init(&b.timer, on_step, &b);
    net_timer_set(node_loop(b.node), &b.timer, 0);
    node_run(b.node);
    ck_assert_uint_eq(b.stage, 3);
    ck_assert_uint_eq(b.ready_count, 1);
    node_free(b.node);
}
END_TEST

static void try_with(const char *argument, const char *expected)
{
    struct node_conf *c = small_conf();
    char error[NODE_ERROR_MAX] = "";
    node_conf_read_argument(c, argument);
    ck_assert_uint_eq(node_conf_check(c), 0);
    int r = node_try(c, error);
    ck_assert_msg((r == 0) == (expected == NULL), "%s: %s", argument, error);
    if (expected)
        ck_assert_msg(strstr(error, expected) != NULL, "%s: %s", argument, error);
    node_conf_free(c);
}

START_TEST(what_a_start_would_refuse_is_found)
{
    char dir[] = "/tmp/bilrost-try-XXXXXX", file[64], argument[128];
    ck_assert_ptr_ne(mkdtemp(dir), NULL);
    snprintf(file, sizeof file, "%s/FORMAT", dir);
    snprintf(argument, sizeof argument, "data_dir=%s", dir);
    try_with("data_dir=", NULL);
    try_with("data_dir=/tmp/bilrost-try-not-there", NULL);
    try_with(argument, NULL);
    FILE *f = fopen(file, "w");
    ck_assert_ptr_ne(f, NULL);
    fputs("bilrost-data 4000000000\n", f);
    fclose(f);
    try_with(argument, "newer version");
    snprintf(argument, sizeof argument, "auth.password_file=%s", file);
    try_with(argument, file);
    (void)unlink(file);
    (void)rmdir(dir);
}
END_TEST

Suite *health_suite(void)
{
    Suite *s = suite_create("health");
    TCase *t = tcase_create("health");
    tcase_set_timeout(t, 20);
    tcase_add_test(t, a_loop_that_stands_still_is_seen);
    tcase_add_test(t, what_a_start_would_refuse_is_found);
    suite_add_tcase(s, t);
    return s;
}
