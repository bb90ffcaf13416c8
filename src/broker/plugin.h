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

/* log outlives it. */
struct broker_plugins *broker_plugins_new(unsigned loop_count, const char *version,
                                          const struct log *log) must_use;

/* Loads one, and opens it unless it is only a trial.  0, or -EINVAL with one plain sentence: not
 * there, no plugin, of another number, or its own words. */
must_use int broker_plugins_add(struct broker_plugins *p, const char *file, const char *settings,
                                bool is_trial, char out_error[BROKER_PLUGIN_ERROR_MAX]);

/* Closes all: no more asking.  What they answer last arrives when the loops turn once more. */
void broker_plugins_close(struct broker_plugins *p);

/* Closed, and the loops have turned.  NULL is fine; returns NULL. */
struct broker_plugins *broker_plugins_free(struct broker_plugins *p);

/* Does one of them want to be asked, to be told? */
bool broker_plugins_ask(const struct broker_plugins *p);
bool broker_plugins_listen(const struct broker_plugins *p);

void broker_plugins_tell(struct broker_plugins *p, enum broker_event_id id, enum log_level level,
                         const struct broker_event_who *who, struct str text);

enum broker_plugin_outcome {
    BROKER_PLUGIN_OK = 0,
    BROKER_PLUGIN_E_BAD_PASS,
    BROKER_PLUGIN_E_NOT_AUTHORIZED,
    BROKER_PLUGIN_E_UNKNOWN, /* none of them knows this client */
    BROKER_PLUGIN_E_ERROR,   /* no answer within 30 s, too many wait, or it cannot be said */
};

/* One question, embedded in who asks.  done is called once, perhaps before broker_plugin_begin
 * returns; user is a view that is good within done, p == NULL: as it said; acl: yours, NULL: none.
 */
struct broker_plugin_ask {
    struct bilrost_ask *under_way; /* ours */
    void (*done)(struct broker_plugin_ask *ask, enum broker_plugin_outcome outcome, struct str user,
                 struct broker_acl *acl);
};

struct broker_plugin_client {
    struct str tenant, client_id, user, password, certificate, address; /* views, copied */
};

void broker_plugin_begin(struct broker_plugins *p, struct broker_plugin_ask *ask,
                         const struct broker_plugin_client *client, struct net_loop *here);

/* done is not called any more.  Fine when nothing is under way. */
void broker_plugin_cancel(struct broker_plugin_ask *ask);
