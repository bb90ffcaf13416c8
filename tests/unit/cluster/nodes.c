/* Real nodes on loopback, in one thread, turned by hand.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <stdio.h>

struct unit_node node[NODES];
const struct cluster_host_key nodes_key_a = {.bytes = {1, 2, 3}};
const struct cluster_host_key nodes_key_b = {.bytes = {3, 2, 1}};

static void on_fatal(void *arg, const char *why)
{
    (void)why;
    ((struct unit_node *)arg)->fatal++;
}

void nodes_on_left(void *arg)
{
    ((struct unit_node *)arg)->left++;
}

static void on_event(void *arg, struct cluster_seat *s, const struct cluster_event *ev)
{
    struct unit_node *n = arg;
    (void)s;
    n->ups += ev->kind == CLUSTER_EV_UP;
    n->rows += ev->kind == CLUSTER_EV_ROW;
    n->gones += ev->kind == CLUSTER_EV_ROW_GONE;
    if (ev->kind == CLUSTER_EV_DOWN) {
        n->downs++;
        n->last_down = ev->member->uuid;
    }
}

static void on_line(void *arg, enum log_level level, const char *event, struct str text,
                    const struct log_field *field, size_t field_count)
{
    struct unit_node *to = arg;
    size_t n = strlen(to->lines);
    (void)level;
    (void)field;
    (void)field_count;
    snprintf(to->lines + n, sizeof to->lines - n, "%s %.*s\n", event, (int)text.n, text.p);
}

bool nodes_logged(const struct unit_node *n, const char *what)
{
    return strstr(n->lines, what) != NULL;
}

int nodes_try(struct unit_node *n, const char *env, const struct cluster_host_key *key, char *error)
{
    for (unsigned i = 0; i < LOOPS && n->loop[i] == NULL; i++) {
        struct net_loop_conf lc = {.index = i, .seed = i + 1};
        ck_assert_int_eq(net_loop_new(&lc, &n->loop[i]), 0);
    }
    n->log = (struct log){.write = on_line, .level_max = LOG_LEVEL_DEBUG, .arg = n};
    struct cluster_host_conf c = {
        .loop = n->loop,
        .loop_count = LOOPS,
        .data_path = n->dir[0] != 0 ? n->dir : NULL,
        .env = env,
        .host = "127.0.0.1",
        .port = n->port,
        .seed = &n->seed,
        .seed_count = n->seed != NULL,
        .key = key,
        .key_count = key != NULL,
        .identity = n->identity,
        .tls_server = n->tls_server,
        .tls_client = n->tls_client,
        .log = &n->log,
        .release = "1.2.3",
        .api = "127.0.0.1:8091",
        .fatal = on_fatal,
        .arg = n,
    };
    return cluster_new(&c, error, &n->c);
}

void nodes_start(struct unit_node *n, const char *env, const struct cluster_host_key *key)
{
    char error[CLUSTER_HOST_ERROR_MAX] = "";
    int r = nodes_try(n, env, key, error);
    ck_assert_msg(r == 0, "%s", error);
    n->watch = cluster_watch_new(cluster_seat(n->c, 1), ~(uint64_t)0, on_event, n);
}

void nodes_seed(struct unit_node *n, const struct unit_node *to)
{
    snprintf(n->seed_text, sizeof n->seed_text, "127.0.0.1:%u", (unsigned)cluster_port(to->c));
    n->seed = n->seed_text;
}

void nodes_turn(void)
{
    unsigned first = 1;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < LOOPS; k++)
            if (node[i].loop[k] != NULL) {
                net_loop_turn(node[i].loop[k], first ? 1000 : 0);
                first = 0;
            }
}

void nodes_stop(struct unit_node *n)
{
    for (unsigned k = 0; n->c != NULL && k < 2 * LOOPS;
         k++) /* what the loops said to each other last arrives */
        net_loop_turn(n->loop[k % LOOPS], 0);
    n->c = cluster_free(n->c);
    for (unsigned k = 0; k < LOOPS; k++)
        n->loop[k] = net_loop_free(n->loop[k]);
}

void nodes_setup(void)
{
    memset(node, 0, sizeof node);
}

void nodes_teardown(void)
{
    for (unsigned i = 0; i < NODES; i++)
        if (node[i].loop[0] != NULL)
            nodes_stop(&node[i]);
}

bool nodes_until(bool (*done)(void), double seconds)
{
    usec_t end = net_clock_now() + (usec_t)(seconds * 1e6);
    while (!done() && net_clock_now() < end)
        nodes_turn();
    return done();
}

void nodes_run(double seconds)
{
    usec_t end = net_clock_now() + (usec_t)(seconds * 1e6);
    while (net_clock_now() < end)
        nodes_turn();
}

bool nodes_agree(void)
{
    size_t running = 0;
    for (unsigned i = 0; i < NODES; i++)
        running += node[i].c != NULL;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < LOOPS && node[i].c != NULL; k++)
            if (cluster_live_count(cluster_seat(node[i].c, k)) != running)
                return false;
    return true;
}

void nodes_start_three(const struct cluster_host_key *key)
{
    nodes_start(&node[0], "test", key);
    for (unsigned i = 1; i < NODES; i++) {
        nodes_seed(&node[i], &node[0]);
        nodes_start(&node[i], "test", key);
    }
    ck_assert(nodes_until(nodes_agree, 5));
}

struct answer nodes_answer;

void nodes_on_reply(void *arg, int outcome, struct str reply)
{
    (void)reply;
    ((struct answer *)arg)->count++;
    ((struct answer *)arg)->outcome = outcome;
}

bool nodes_answered(void)
{
    return nodes_answer.count > 0;
}

int nodes_call(struct unit_node *from, const struct uuid *to)
{
    struct cluster_call call = {
        .peer = *to,
        .service = CLUSTER_SERVICE_ECHO,
        .shard = 1,
        .timeout = 3 * USEC_SEC,
        .payload = STR("x"),
    };
    nodes_answer = (struct answer){0};
    int r = cluster_link_call(cluster_seat_link(cluster_seat(from->c, 0)), &call, nodes_on_reply,
                              &nodes_answer, NULL);
    if (r != 0)
        return r;
    ck_assert(nodes_until(nodes_answered, 4));
    return nodes_answer.outcome;
}
