/* The cluster on one screen: a line of summary, the nodes, what is wrong and what to do.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Never: wider than needed; hides a node or an alarm. */
#include "ctl/screen.h"

#include "codec/json.h"
#include "ctl/table.h"

#define GET(j, key) codec_json_get(j, key)

static uint64_t number(const struct codec_json *j, const char *key)
{
    return codec_json_u64(GET(j, key));
}

/* What the members' list says of this node, or NULL. */
static const struct codec_json *member_of(const struct codec_json *status, struct str id)
{
    const struct codec_json *nodes = GET(GET(status, "cluster"), "nodes");
    for (size_t i = 0; i < codec_json_count(nodes); i++)
        if (str_eq(codec_json_text(GET(codec_json_at(nodes, i), "id")), id))
            return codec_json_at(nodes, i);
    return NULL;
}

static void summary(const struct codec_json *s, struct buf *out)
{
    const struct codec_json *nodes = GET(s, "nodes"), *r = GET(s, "ranges"),
                            *members = GET(GET(s, "cluster"), "nodes");
    struct str env = codec_json_text(GET(GET(s, "cluster"), "env"));
    size_t ready = 0, count = codec_json_count(members) ? 0 : 1;
    for (size_t i = 0; i < codec_json_count(nodes); i++)
        ready += codec_json_bool(GET(codec_json_at(nodes, i), "ready"));
    for (size_t i = 0; i < codec_json_count(members); i++)
        count += !str_eq(codec_json_text(GET(codec_json_at(members, i), "state")), STR("left"));
    if (codec_json_count(members))
        buf_printf(out, "cluster %.*s: %zu of %zu nodes are ready\n", STR_ARG(env), ready, count);
    else
        buf_printf(out, "one node alone, %s\n", ready ? "ready" : "not ready");
    uint64_t total = number(r, "total");
    if (total == 0) {
        buf_put_str(out, STR("tables in memory of this process: nothing is replicated\n"));
        return;
    }
    buf_printf(out, "ranges: %llu, %llu have a leader", (unsigned long long)total,
               (unsigned long long)number(r, "led"));
    buf_printf(out, "; %llu under-replicated, %llu without quorum; largest lag %llu entries\n",
               (unsigned long long)number(r, "underReplicated"),
               (unsigned long long)number(r, "withoutQuorum"),
               (unsigned long long)number(r, "lagMax"));
}

static void node_put(struct ctl_table *t, const struct codec_json *status,
                     const struct codec_json *n)
{
    char text[24];
    struct str id = codec_json_text(GET(n, "id"));
    const struct codec_json *m = member_of(status, id), *kv = GET(n, "stores");
    struct str state = codec_json_text(GET(m, "state"));
    bool is_silent = codec_json_bool(GET(n, "silent"));
    ctl_table_put(t, str_view(id.p, id.n < 8 ? id.n : 8));
    ctl_table_put(t, codec_json_text(GET(m, "address")));
    if (is_silent)
        ctl_table_put(t, str_eq(state, STR("dead")) ? state : STR("no answer"));
    else if (codec_json_bool(GET(m, "draining")))
        ctl_table_put(t, STR("draining"));
    else if (state.n && !str_eq(state, STR("alive")))
        ctl_table_put(t, state);
    else
        ctl_table_put(t, codec_json_bool(GET(n, "ready")) ? STR("ready") : STR("not ready"));
    if (is_silent) {
        for (unsigned i = 3; i < 9; i++)
            ctl_table_put(t, STR(""));
        return;
    }
    ctl_table_printf(t, "%llu", (unsigned long long)number(n, "clients"));
    if (kv)
        ctl_table_printf(t, "%llu/%llu", (unsigned long long)number(kv, "leaders"),
                         (unsigned long long)number(kv, "replicas"));
    else
        ctl_table_put(t, STR(""));
    ctl_table_put(t, ctl_size(number(n, "memoryBytes"), text));
    ctl_table_put(t, GET(n, "diskBytes") ? ctl_size(number(n, "diskFreeBytes"), text) : STR(""));
    ctl_table_put(t, ctl_span(number(n, "uptimeSeconds"), text));
    ctl_table_put(t, codec_json_text(GET(n, "version")));
}

static bool has_row(const struct codec_json *nodes, struct str id)
{
    for (size_t i = 0; i < codec_json_count(nodes); i++)
        if (str_eq(codec_json_text(GET(codec_json_at(nodes, i), "id")), id))
            return true;
    return false;
}

static void gone_put(struct ctl_table *t, const struct codec_json *nodes,
                     const struct codec_json *m)
{
    struct str id = codec_json_text(GET(m, "id")), state = codec_json_text(GET(m, "state"));
    if (!str_eq(state, STR("dead")) || has_row(nodes, id))
        return; /* the living have a row, those who left are missed by nobody */
    ctl_table_put(t, str_view(id.p, id.n < 8 ? id.n : 8));
    ctl_table_put(t, codec_json_text(GET(m, "address")));
    ctl_table_put(t, state);
    for (unsigned i = 3; i < 8; i++)
        ctl_table_put(t, STR(""));
    ctl_table_put(t, codec_json_text(GET(m, "release")));
}

bool ctl_screen(const struct codec_json *s, struct buf *out)
{
    const struct codec_json *nodes = GET(s, "nodes"), *alarms = GET(s, "alarms"),
                            *members = GET(GET(s, "cluster"), "nodes");
    struct ctl_table t;
    bool is_critical = false;
    summary(s, out);
    buf_put_u8(out, '\n');
    ctl_table_begin(&t, "NODE|ADDRESS|STATE|CLIENTS|LEADS/HOLDS|MEMORY|DISK FREE|UP|VERSION");
    for (size_t i = 0; i < codec_json_count(nodes); i++)
        node_put(&t, s, codec_json_at(nodes, i));
    for (size_t i = 0; i < codec_json_count(members); i++)
        gone_put(&t, nodes, codec_json_at(members, i));
    ctl_table_end(&t, out);
    buf_put_str(out, codec_json_count(alarms) ? STR("\nalarms:\n") : STR("\nno alarms\n"));
    for (size_t i = 0; i < codec_json_count(alarms); i++) {
        const struct codec_json *a = codec_json_at(alarms, i);
        struct str level = codec_json_text(GET(a, "level"));
        is_critical |= str_eq(level, STR("critical"));
        buf_printf(out, "  %.*s: %.*s\n", STR_ARG(level), STR_ARG(codec_json_text(GET(a, "what"))));
        buf_printf(out, "    -> %.*s\n", STR_ARG(codec_json_text(GET(a, "do"))));
    }
    return is_critical;
}
