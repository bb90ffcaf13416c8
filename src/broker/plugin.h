/* Shared objects that say who may come in, and hear of events.  SPDX-License-Identifier: Apache-2.0
 *
 * Their side of the contract is include/bilrost/plugin.h.  Thread: broker_plugins_* the one that
 * builds and ends the broker; asking and its answers belong to one loop; telling any loop. */
#pragma once

#include "base/log.h"
#include "base/str.h"
#include "broker/acl.h"
#include "broker/event.h"
#include "net/loop.h"

#define BROKER_PLUGIN_ERROR_MAX 512

struct broker_plugins;
struct bilrost_plugin; /* bilrost/plugin.h */

struct broker_plugins_conf {
    unsigned loop_count;
    const char *version;
    const struct log *log; /* outlives them, as version does; NULL: silent */
    usec_t
        answer_usec_max; /* a plugin that says nothing for longer has not let the client in; 0: 30 s */
};

struct broker_plugins *broker_plugins_new(const struct broker_plugins_conf *conf) must_use;

/* Loads one, and opens it unless it is only a trial.  0, or -EINVAL with one plain sentence: not
 * there, no plugin, of another number, or its own words. */
must_use int broker_plugins_add(struct broker_plugins *p, const char *file, const char *settings,
                                bool is_trial, char out_error[BROKER_PLUGIN_ERROR_MAX]);

/* The same with a plugin that is in memory already; name stands in the sentence. */
must_use int broker_plugins_take(struct broker_plugins *p, const struct bilrost_plugin *ops,
                                 const char *name, const char *settings, bool is_trial,
                                 char out_error[BROKER_PLUGIN_ERROR_MAX]);

/* Closes all: no more asking.  What they answer last arrives when the loops turn once more. */
void broker_plugins_close(struct broker_plugins *p);

/* Closed, and the loops have turned.  NULL is fine; returns NULL. */
struct broker_plugins *broker_plugins_free(struct broker_plugins *p);

/* Does one of them want to be asked, with steps of enhanced authentication, to be told? */
bool broker_plugins_ask(const struct broker_plugins *p);
bool broker_plugins_step(const struct broker_plugins *p);
bool broker_plugins_listen(const struct broker_plugins *p);

void broker_plugins_tell(struct broker_plugins *p, enum broker_event_id id, enum log_level level,
                         const struct broker_event_who *who, struct str text);

enum broker_plugin_outcome {
    BROKER_PLUGIN_OK = 0,
    BROKER_PLUGIN_E_BAD_PASS,
    BROKER_PLUGIN_E_NOT_AUTHORIZED,
    BROKER_PLUGIN_E_UNKNOWN, /* none of them knows this client, or its method */
    BROKER_PLUGIN_E_ERROR,   /* no answer in time, too many wait, or it cannot be said */
    BROKER_PLUGIN_E_MORE,    /* a step: the client is to say more */
};

/* What a plugin said besides; the views are good within done. */
struct broker_plugin_said {
    struct str user;        /* OK: p == NULL: as it said */
    struct broker_acl *acl; /* OK: yours; NULL: none */
    struct str data;        /* OK, MORE: for the client */
    struct str state;       /* MORE: for the next step */
    size_t at;              /* MORE: which plugin */
};

/* One question, embedded in who asks.  done is called once, perhaps before broker_plugin_begin
 * returns. */
struct broker_plugin_ask {
    struct bilrost_ask *under_way; /* ours */
    void (*done)(struct broker_plugin_ask *ask, enum broker_plugin_outcome outcome,
                 const struct broker_plugin_said *said);
};

struct broker_plugin_client {
    struct str tenant, client_id, user, password, certificate, address; /* views, copied */
};

/* A step of enhanced authentication; views, copied. */
struct broker_plugin_step {
    struct str method, data;
    struct str state; /* said with MORE; p == NULL: the first step */
    size_t at;        /* said with MORE */
    bool is_again;
};

/* step: NULL when a name and a password, or nothing, are shown. */
void broker_plugin_begin(struct broker_plugins *p, struct broker_plugin_ask *ask,
                         const struct broker_plugin_client *client,
                         const struct broker_plugin_step *step, struct net_loop *here);

/* done is not called any more.  Fine when nothing is under way. */
void broker_plugin_cancel(struct broker_plugin_ask *ask);
