/* What tenants ask of acknowledgements, and what a node gives.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. There is one log for all tenants of a node: who asks for less than it does gets what it does.
 * 2. Who asks for more is refused, here, in words: never served with less.
 * 3. Who asks for nothing gets what the node gives. */
#include "node/conf_priv.h"
#include "session/settings.h"

static const char *const level_words[] = {"the disks of a quorum", "the memory of a quorum"};

int node_conf_durability(const struct node_conf *c)
{
    return strcmp(c->durability, "quorum_fsync") != 0 || !c->data_dir[0];
}

/* Why it is not more. */
static void reason_put(const struct node_conf *c, bool is_running, struct buf *out)
{
    const char *verb = is_running ? "runs with" : "has";
    if (strcmp(c->durability, "quorum_fsync") == 0)
        buf_printf(out, "this node %s an empty data_dir, with nothing on a disk", verb);
    else
        buf_printf(out, "this node %s durability = \"%s\"", verb, c->durability);
    if (is_running)
        buf_put_str(out, STR(" until its next restart"));
}

void node_conf_durability_settle(struct node_conf *c, const struct node_conf *by)
{
    size_t count,
        row = (size_t)(session_settings_find(STR("Durability")) - session_settings_table(&count));
    int given = node_conf_durability(by);
    for (size_t i = 0; i < c->tenant_count; i++) {
        struct node_conf_tenant *t = &c->tenant[i];
        bool is_own = t->is_set[row];
        if (!is_own && !c->tenant[0].is_set[row])
            t->settings->durability = given;
        if (t->settings->durability >= given)
            continue;
        struct buf why = {0};
        reason_put(by, by != c, &why);
        node_conf_error(c, (is_own ? t : c->tenant)->origin,
                        "tenant \"%s\": Durability is %lld (%s), but %.*s: give the node more "
                        "(durability, data_dir), or the tenant less (Durability = %d: %s)",
                        t->name, (long long)t->settings->durability,
                        level_words[t->settings->durability], STR_ARG(buf_str(&why)), given,
                        level_words[given]);
        buf_deinit(&why);
    }
}
