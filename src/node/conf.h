/* The configuration of a node: one table of keys, read from files, environment and command line.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Precedence: command line, environment, later file, earlier file, default.  Nothing here touches
 * the running node: a configuration is read and checked whole before anything is done with it. */
#pragma once

#include "base/buf.h"
#include "base/str.h"
struct session_settings;

#define NODE_CONF_SETTINGS_MAX 64 /* rows of session/settings.def, at most */
#define NODE_CONF_TYPE_STR char *
#define NODE_CONF_TYPE_ENUM char *
#define NODE_CONF_TYPE_LIST char *
#define NODE_CONF_TYPE_NUM int64_t
#define NODE_CONF_TYPE_BOOL int64_t

/* Strings are never NULL; an empty one is "not given". */
struct node_conf_listener {
#define X(field, path, KIND, def, min, max, unit, meaning) NODE_CONF_TYPE_##KIND field;
#include "node/conf_listener.def"
#undef X
    char *origin; /* "file:line" */
};

struct node_conf_tenant {
    char *name;
    char *origin;
    struct session_settings *settings;   /* owned */
    bool is_set[NODE_CONF_SETTINGS_MAX]; /* by row of settings.def; what is not set is that of
                                            "default" */
#define X(field, path, KIND, def, min, max, unit, meaning) NODE_CONF_TYPE_##KIND field;
#include "node/conf_tenant.def"
#undef X
};

struct node_conf {
#define X(field, path, KIND, def, min, max, unit, meaning) NODE_CONF_TYPE_##KIND field;
#include "node/conf.def"
#undef X
    struct node_conf_listener *listener;
    size_t listener_count, listener_cap;
    struct node_conf_tenant *tenant; /* the first one is "default" */
    size_t tenant_count, tenant_cap;
    struct buf errors; /* one sentence a line */
    size_t error_count;
    char **origin; /* by key: where its value comes from, NULL: the default */
    uint8_t *rank; /* by key: precedence of that */
};

/* All defaults; no listener. */
struct node_conf *node_conf_new(void) must_use;
struct node_conf *node_conf_free(struct node_conf *c);

/* Mistakes are gathered in errors; the call goes on to find them all. */
void node_conf_read_file(struct node_conf *c, const char *path);
/* All files of dir that end in .conf, in the order of their names; no such directory is fine. */
void node_conf_read_dir(struct node_conf *c, const char *dir);
/* Variables whose name is a system variable or a tenant setting (for the default tenant). */
void node_conf_read_environment(struct node_conf *c, char *const *environment);
/* "name=value" from the command line. */
void node_conf_read_argument(struct node_conf *c, const char *text);

/* What one key alone does not tell: contradictions, files that cannot be read.  Called last.  0 or
 * the count of errors. */
must_use size_t node_conf_check(struct node_conf *c);

/* What acknowledgements wait for on a node of this configuration, as the setting Durability has it: 0
 * or 1. */
int node_conf_durability(const struct node_conf *c);

/* Tenants of c that say nothing of Durability get what a node of `by` gives; those that ask for more
 * are errors of c.  by: c itself, or what the node runs with until its next restart. */
void node_conf_durability_settle(struct node_conf *c, const struct node_conf *by);

/* Everything in effect, in the file's own syntax; with comments: each key's meaning, bounds, and
 * where its value comes from. */
void node_conf_dump(const struct node_conf *c, bool with_comments, struct buf *out);

/* One key's page; false: no such key, and `out` has the nearest. */
bool node_conf_explain(struct str key, struct buf *out);

/* docs/CONFIG.md. */
void node_conf_document(struct buf *out);
