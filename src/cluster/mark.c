/* Marks of operators on nodes.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. No row means no mark; a row that is not understood counts as "drain": nothing is emptied by
 *    mistake. */
#include "cluster/mark.h"

#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "cluster/cluster.h"

#define KEY_MAX (sizeof "drain/" + UUID_TEXT)

static const char *const mark_name[] = {
    [CLUSTER_MARK_NONE] = "none",
    [CLUSTER_MARK_DRAIN] = "drain",
    [CLUSTER_MARK_REMOVE] = "remove",
};

const char *cluster_mark_name(enum cluster_mark m)
{
    return mark_name[m];
}

static struct str key_of(const struct uuid *node, char out[KEY_MAX])
{
    char id[UUID_TEXT];
    uuid_format(node, id);
    snprintf(out, KEY_MAX, "drain/%s", id);
    return str_of(out);
}

enum cluster_mark cluster_mark_get(const struct cluster_seat *s, const struct uuid *node)
{
    char key[KEY_MAX];
    const struct cluster_row *row =
        cluster_row_find(s, CLUSTER_SPACE_SETTING, key_of(node, key), NULL);
    if (!row)
        return CLUSTER_MARK_NONE;
    return str_eq(row->value, str_of(mark_name[CLUSTER_MARK_REMOVE])) ? CLUSTER_MARK_REMOVE
                                                                      : CLUSTER_MARK_DRAIN;
}

void cluster_mark_put(struct cluster_seat *s, const struct uuid *node, enum cluster_mark m)
{
    char key[KEY_MAX];
    struct str k = key_of(node, key);
    if (m == CLUSTER_MARK_NONE)
        cluster_row_del(s, CLUSTER_SPACE_SETTING, k);
    else
        must(cluster_row_put(s, CLUSTER_SPACE_SETTING, k, str_of(mark_name[m])));
}
