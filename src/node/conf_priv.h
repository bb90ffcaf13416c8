/* The table of keys, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "node/conf.h"
#include "session/settings.h"

enum node_key_kind { NODE_KEY_STR, NODE_KEY_NUM, NODE_KEY_BOOL, NODE_KEY_ENUM, NODE_KEY_LIST };

struct node_key {
    const char *path;
    enum node_key_kind kind;
    const char *value_default;
    int64_t min, max;
    const char *unit; /* or the choices */
    const char *meaning;
    size_t offset;
};

struct node_keys {
    const struct node_key *key;
    size_t count;
};

extern const struct node_keys node_keys_root, node_keys_listener, node_keys_tenant;

/* Where a value comes from; a lower one never replaces a higher one. */
enum node_rank { NODE_RANK_DEFAULT, NODE_RANK_FILE, NODE_RANK_ENVIRONMENT, NODE_RANK_ARGUMENT };

const struct node_key *node_key_find(const struct node_keys *t, struct str path);

/* Sets the value of k in the struct at base from text: NULL, or a sentence on why not (in `why`).
 */
const char *node_key_set(const struct node_key *k, void *base, struct str text, char why[256]);
void node_keys_init(const struct node_keys *t, void *base);
void node_keys_deinit(const struct node_keys *t, void *base);
/* The value as the file has it: quoted, a list in brackets. */
void node_key_format(const struct node_key *k, const void *base, struct buf *out);
void node_key_bounds(const struct node_key *k, struct buf *out);
const char *node_key_kind_name(const struct node_key *k);

/* The known name nearest to a wrong one, or NULL when none is near. */
const char *node_key_nearest(const struct node_keys *t, struct str wrong, bool with_settings);

/* "where: sentence" into the errors. */
void node_conf_error(struct node_conf *c, const char *where, const char *fmt, ...) print_like(3, 4);
void node_conf_put(struct node_conf *c, const struct node_key *k, struct str text,
                   const char *where, enum node_rank rank);
/* A tenant setting from text; a mistake becomes an error. */
void node_conf_setting_put(struct node_conf *c, struct node_conf_tenant *t,
                           const struct session_setting *s, struct str text, const char *where);
struct node_conf_tenant *node_conf_tenant_get(struct node_conf *c, struct str name,
                                              const char *where);
struct node_conf_listener *node_conf_listener_add(struct node_conf *c, const char *where);
struct node_conf_listener *node_conf_listener_find(struct node_conf *c, const char *name);
/* As it was when added, from somewhere else. */
void node_conf_listener_reset(struct node_conf_listener *l, const char *where);
