/* An example of a plugin: a door with one word.  SPDX-License-Identifier: Apache-2.0
 *
 * settings: the word.  Whoever has it as password may come in under his user name, and use the
 * topics below that name.  Users whose names begin with "guest" are somebody else's business.
 * Answers come from a thread of its own, as they would from a program that has to ask a database.
 * The log tells at the end how many were let in, and how many have connected.
 *
 *     cc -shared -fPIC -pthread $(pkg-config --cflags bilrost) -o door.so door.c
 *     plugins = ["/usr/lib/bilrost/plugins/door.so=swordfish"];
 *     listeners = ( { kind = "tcp"; address = "127.0.0.1:1883"; auth = ["plugin"]; } );
 */
#include <bilrost/plugin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct question {
    struct question *next;
    const struct bilrost_client *client;
    struct bilrost_ask *ask;
};

struct door {
    const struct bilrost_host *host;
    char *word;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_news;
    struct question *first, **last;
    int is_closing;
    unsigned let_in;
    atomic_uint connected;
};

static int begins(struct bilrost_bytes b, const char *with)
{
    return b.n >= strlen(with) && memcmp(b.p, with, strlen(with)) == 0;
}

static void decide(struct door *d, const struct bilrost_client *c, struct bilrost_ask *ask)
{
    char rules[512];
    struct bilrost_verdict v = {.answer = BILROST_BAD_PASSWORD};
    if (c->user.n == 0 || c->user.n > 200 || memchr(c->user.p, '\n', c->user.n)) {
        v.answer = BILROST_NOT_AUTHORIZED;
    } else if (begins(c->user, "guest")) {
        v.answer = BILROST_NOT_MINE;
    } else if (c->password.n == strlen(d->word) && begins(c->password, d->word)) {
        /* %u is the user name; a name with + or # in it gets nothing by it. */
        int n = snprintf(rules, sizeof rules, "pattern readwrite %%u/#\npattern read notice/#\n");
        v.answer = BILROST_LET_IN;
        v.rules = (struct bilrost_bytes){rules, (size_t)n};
        d->let_in++;
    }
    d->host->answer(ask, &v);
}

static void *answer_all(void *arg)
{
    struct door *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct question *q = d->first;
        if (q) {
            d->first = q->next;
            if (!d->first)
                d->last = &d->first;
            pthread_mutex_unlock(&d->lock);
            decide(d, q->client, q->ask);
            free(q);
            pthread_mutex_lock(&d->lock);
        } else if (d->is_closing) {
            break;
        } else {
            pthread_cond_wait(&d->has_news, &d->lock);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static int door_check(const char *settings, char error[BILROST_PLUGIN_ERROR_MAX])
{
    if (settings[0])
        return 0;
    snprintf(error, BILROST_PLUGIN_ERROR_MAX, "the word is missing: write door.so=WORD");
    return -1;
}

static int door_open(const struct bilrost_host *host, const char *settings,
                     char error[BILROST_PLUGIN_ERROR_MAX], void **out_self)
{
    struct door *d = calloc(1, sizeof *d);
    if (d)
        d->word = strdup(settings);
    if (!d || !d->word) {
        free(d);
        snprintf(error, BILROST_PLUGIN_ERROR_MAX, "out of memory");
        return -1;
    }
    d->host = host;
    d->last = &d->first;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->has_news, NULL);
    if (pthread_create(&d->thread, NULL, answer_all, d) != 0) {
        free(d->word);
        free(d);
        snprintf(error, BILROST_PLUGIN_ERROR_MAX, "cannot start a thread");
        return -1;
    }
    *out_self = d;
    return 0;
}

static void door_close(void *self)
{
    struct door *d = self;
    char text[100];
    pthread_mutex_lock(&d->lock);
    d->is_closing = 1;
    pthread_cond_signal(&d->has_news);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    snprintf(text, sizeof text, "let in %u, heard of %u connections", d->let_in,
             atomic_load(&d->connected));
    d->host->log(d->host, BILROST_NOTICE, text);
    pthread_cond_destroy(&d->has_news);
    pthread_mutex_destroy(&d->lock);
    free(d->word);
    free(d);
}

static void door_authenticate(void *self, const struct bilrost_client *client,
                              struct bilrost_ask *ask)
{
    struct door *d = self;
    struct question *q = malloc(sizeof *q);
    if (!q) {
        struct bilrost_verdict v = {.answer = BILROST_UNAVAILABLE};
        d->host->answer(ask, &v);
        return;
    }
    *q = (struct question){NULL, client, ask};
    pthread_mutex_lock(&d->lock);
    *d->last = q;
    d->last = &q->next;
    pthread_cond_signal(&d->has_news);
    pthread_mutex_unlock(&d->lock);
}

static void door_event(void *self, const struct bilrost_event *event)
{
    struct door *d = self;
    if (strcmp(event->name, "CLIENT_CONNECTED") == 0)
        atomic_fetch_add(&d->connected, 1);
}

const struct bilrost_plugin bilrost_plugin = {
    .abi = BILROST_PLUGIN_ABI,
    .size = sizeof(struct bilrost_plugin),
    .name = "door",
    .check = door_check,
    .open = door_open,
    .close = door_close,
    .authenticate = door_authenticate,
    .event = door_event,
};
