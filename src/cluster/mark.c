/* Marks of operators on nodes.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. No row means no mark; a row that is not understood counts as "drain": nothing is emptied by
 *    mistake. */
#include "cluster/mark.h"

#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "cluster/cluster.h"

#define DRAIN "drain/"
#define REVOKED "revoked/"
#define KEY_MAX (sizeof REVOKED + UUID_TEXT)

static const char *const mark_name[] = {
    [CLUSTER_MARK_NONE] = "none",
    [CLUSTER_MARK_DRAIN] = "drain",
    [CLUSTER_MARK_REMOVE] = "remove",
};

const char *cluster_mark_name(enum cluster_mark m)
{
    return mark_name[m];
}

static struct str key_of(const char *what, const struct uuid *node, char out[KEY_MAX])
{
    char id[UUID_TEXT];
    uuid_format(node, id);
    snprintf(out, KEY_MAX, "%s%s", what, id);
    return str_of(out);
}

enum cluster_mark cluster_mark_get(const struct cluster_seat *s, const struct uuid *node)
{
    char key[KEY_MAX];
    const struct cluster_row *row =
        cluster_row_find(s, CLUSTER_SPACE_SETTING, key_of(DRAIN, node, key), NULL);
    if (!row)
        return CLUSTER_MARK_NONE;
    return str_eq(row->value, str_of(mark_name[CLUSTER_MARK_REMOVE])) ? CLUSTER_MARK_REMOVE
                                                                      : CLUSTER_MARK_DRAIN;
}

void cluster_mark_put(struct cluster_seat *s, const struct uuid *node, enum cluster_mark m)
{
    char key[KEY_MAX];
    struct str k = key_of(DRAIN, node, key);
    if (m == CLUSTER_MARK_NONE)
        cluster_row_del(s, CLUSTER_SPACE_SETTING, k);
    else
        must(cluster_row_put(s, CLUSTER_SPACE_SETTING, k, str_of(mark_name[m])));
}

bool cluster_is_revoked(const struct cluster_seat *s, const struct uuid *node)
{
    char key[KEY_MAX];
    return cluster_row_find(s, CLUSTER_SPACE_SETTING, key_of(REVOKED, node, key), NULL) != NULL;
}

void cluster_revoked_put(struct cluster_seat *s, const struct uuid *node, bool is_revoked)
{
    char key[KEY_MAX];
    struct str k = key_of(REVOKED, node, key);
    if (is_revoked)
        must(cluster_row_put(s, CLUSTER_SPACE_SETTING, k, STR("1")));
    else
        cluster_row_del(s, CLUSTER_SPACE_SETTING, k);
}

bool cluster_revoked_key(struct str key, struct uuid *out_node)
{
    const struct str prefix = STR(REVOKED);
    return key.n > prefix.n && memcmp(key.p, prefix.p, prefix.n) == 0 &&
           uuid_parse(str_view(key.p + prefix.n, key.n - prefix.n), out_node);
}
