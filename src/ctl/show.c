/* Answers as tables.  SPDX-License-Identifier: Apache-2.0
 *
 * A member that is missing shows as "-": an older node may not send it.
 *
 * Never: fails on an answer that is not what was expected; it shows it as it came. */
#include "ctl/show.h"

#include "codec/json.h"
#include "ctl/print.h"
#include "ctl/screen.h"
#include "ctl/table.h"

#define GET(j, key) codec_json_get(j, key)

static struct str text_of(const struct codec_json *j, const char *key)
{
    return codec_json_text(GET(j, key));
}

static struct str short_id(struct str id)
{
    return str_view(id.p, id.n < 8 ? id.n : 8);
}

static void put_number(struct ctl_table *t, const struct codec_json *j, const char *key)
{
    if (GET(j, key))
        ctl_table_printf(t, "%llu", (unsigned long long)codec_json_u64(GET(j, key)));
    else
        ctl_table_put(t, STR(""));
}

static void put_yes(struct ctl_table *t, const struct codec_json *j, const char *key)
{
    ctl_table_put(t, codec_json_bool(GET(j, key)) ? STR("yes") : STR("no"));
}

/* How long ago a moment in milliseconds was. */
static void put_age(struct ctl_table *t, const struct codec_json *moment, uint64_t now_ms)
{
    char text[24];
    uint64_t at = codec_json_u64(moment);
    ctl_table_put(t, at ? ctl_span(now_ms > at ? (now_ms - at) / 1000 : 0, text) : STR(""));
}

/* "host:port", "[v6]:port"; nothing where no address is known. */
static void put_place(struct ctl_table *t, const struct codec_json *node)
{
    struct str host = text_of(node, "address");
    bool is_v6 = host.n && memchr(host.p, ':', host.n);
    if (host.n)
        ctl_table_printf(t, is_v6 ? "[%.*s]:%llu" : "%.*s:%llu", STR_ARG(host),
                         (unsigned long long)codec_json_u64(GET(node, "port")));
    else
        ctl_table_put(t, host);
}

static void show_members(const struct codec_json *j, struct buf *out)
{
    const struct codec_json *nodes = GET(j, "nodes");
    struct ctl_table t;
    char span[24];
    struct str env = text_of(j, "env");
    buf_printf(out, "cluster%s%.*s, asked at %.*s%s\n\n", env.n ? " " : "", STR_ARG(env),
               STR_ARG(text_of(j, "local")),
               codec_json_count(nodes) == 0        ? ", which is alone"
               : codec_json_bool(GET(j, "joined")) ? ""
                                                   : ", which has not joined yet");
    if (codec_json_count(nodes) == 0)
        return;
    ctl_table_begin(&t, "ID|ADDRESS|STATE|SINCE|ROUND TRIP|RELEASE|PROTOCOL|API|WHY");
    for (size_t i = 0; i < codec_json_count(nodes); i++) {
        const struct codec_json *n = codec_json_at(nodes, i);
        ctl_table_put(&t, text_of(n, "id"));
        put_place(&t, n);
        ctl_table_printf(&t, "%.*s%s%s%s%s", STR_ARG(text_of(n, "state")),
                         codec_json_bool(GET(n, "ready")) ? ", ready" : "",
                         codec_json_bool(GET(n, "draining")) ? ", draining" : "",
                         codec_json_bool(GET(n, "degraded")) ? ", degraded" : "",
                         codec_json_bool(GET(n, "storageFailed")) ? ", disk failed" : "");
        ctl_table_put(&t, ctl_span(codec_json_u64(GET(n, "sinceSeconds")), span));
        if (codec_json_u64(GET(n, "rttMicroseconds")))
            ctl_table_printf(&t, "%.1f ms", codec_json_number(GET(n, "rttMicroseconds")) / 1000);
        else
            ctl_table_put(&t, STR(""));
        ctl_table_put(&t, text_of(n, "release"));
        ctl_table_printf(&t, "%llu-%llu", (unsigned long long)codec_json_u64(GET(n, "protocolMin")),
                         (unsigned long long)codec_json_u64(GET(n, "protocolMax")));
        ctl_table_put(&t, text_of(n, "api"));
        ctl_table_put(&t, text_of(n, "why"));
    }
    ctl_table_end(&t, out);
}

static void show_keys(const struct codec_json *j, struct buf *out)
{
    const struct codec_json *keys = GET(j, "keys");
    struct ctl_table t;
    ctl_table_begin(&t, "KEY|HAVE IT|USE IT|HERE");
    for (size_t i = 0; i < codec_json_count(keys); i++) {
        const struct codec_json *k = codec_json_at(keys, i);
        unsigned long long all = codec_json_u64(GET(j, "members"));
        ctl_table_put(&t, text_of(k, "key"));
        ctl_table_printf(&t, "%llu of %llu", (unsigned long long)codec_json_u64(GET(k, "holders")),
                         all);
        ctl_table_printf(&t, "%llu of %llu", (unsigned long long)codec_json_u64(GET(k, "users")),
                         all);
        put_yes(&t, k, "here");
    }
    ctl_table_end(&t, out);
    if (codec_json_count(keys) == 0)
        buf_put_str(out, STR("packets are not protected: no keys\n"));
}

/* Are these ranges of more than one store? */
static bool is_mixed(const struct codec_json *j)
{
    for (size_t i = 1; i < codec_json_count(j); i++)
        if (!str_eq(text_of(codec_json_at(j, i), "store"), text_of(codec_json_at(j, 0), "store")))
            return true;
    return false;
}

static void show_ranges(const struct codec_json *j, struct buf *out)
{
    struct ctl_table t;
    char text[24];
    bool has_store = is_mixed(j);
    ctl_table_begin(&t, has_store ? "STORE|RANGE|FROM|TO|LEADER|VOTERS|LEARNERS|LAG|SIZE|STATE"
                                  : "RANGE|FROM|TO|LEADER|VOTERS|LEARNERS|LAG|SIZE|STATE");
    for (size_t i = 0; i < codec_json_count(j); i++) {
        const struct codec_json *r = codec_json_at(j, i), *bounds = GET(r, "boundary");
        struct str why = text_of(r, "reason");
        if (has_store)
            ctl_table_put(&t, text_of(r, "store"));
        ctl_table_put(&t, text_of(r, "id"));
        ctl_table_put(&t, text_of(bounds, "startKey"));
        ctl_table_put(&t, text_of(bounds, "endKey"));
        ctl_table_put(&t, short_id(text_of(r, "leader")));
        ctl_table_printf(&t, "%llu of %llu live",
                         (unsigned long long)codec_json_u64(GET(r, "liveVoters")),
                         (unsigned long long)codec_json_u64(GET(r, "voterCount")));
        ctl_table_printf(&t, "%zu", codec_json_count(GET(GET(r, "clusterConfig"), "learners")));
        put_number(&t, r, "lag");
        ctl_table_put(&t, ctl_size(codec_json_u64(GET(r, "bytes")), text));
        ctl_table_put(&t, why.n ? why : text_of(r, "state"));
    }
    ctl_table_end(&t, out);
}

static void show_sessions(const struct codec_json *j, uint64_t now_ms, struct buf *out)
{
    const struct codec_json *list = GET(j, "sessions");
    struct ctl_table t;
    char text[24];
    ctl_table_begin(&t, "CLIENT|USER|STATE|FOR|NODE|ADDRESS|MQTT|STORED|EXPIRES AFTER");
    for (size_t i = 0; i < codec_json_count(list); i++) {
        const struct codec_json *s = codec_json_at(list, i), *inbox = GET(s, "inbox");
        bool is_online = codec_json_bool(GET(s, "online"));
        uint64_t expiry = codec_json_u64(GET(inbox ? inbox : s, "expirySeconds"));
        ctl_table_put(&t, text_of(s, "clientId"));
        ctl_table_put(&t, text_of(s, "userId"));
        ctl_table_put(&t, !is_online                           ? STR("away")
                          : codec_json_bool(GET(s, "stalled")) ? STR("stalled")
                                                               : STR("connected"));
        put_age(&t, is_online ? GET(s, "connectedAt") : GET(inbox, "detachedAt"), now_ms);
        ctl_table_put(&t, short_id(text_of(s, "node")));
        ctl_table_put(&t, text_of(s, "address"));
        ctl_table_put(&t, text_of(s, "protocol"));
        put_number(&t, inbox, "queued");
        ctl_table_put(&t, expiry == UINT32_MAX ? STR("never")
                          : expiry             ? ctl_span(expiry, text)
                                               : STR(""));
    }
    ctl_table_end(&t, out);
}

static void show_subs(const struct codec_json *j, struct buf *out)
{
    const struct codec_json *list = GET(j, "subscriptions");
    struct ctl_table t;
    ctl_table_begin(&t, "CLIENT|FILTER|QOS|STORED|CONNECTED|NO LOCAL|AS PUBLISHED|ID");
    for (size_t i = 0; i < codec_json_count(list); i++) {
        const struct codec_json *s = codec_json_at(list, i);
        ctl_table_put(&t, text_of(s, "clientId"));
        ctl_table_put(&t, text_of(s, "topicFilter"));
        put_number(&t, s, "qos");
        put_yes(&t, s, "persistent");
        put_yes(&t, s, "online");
        put_yes(&t, s, "noLocal");
        put_yes(&t, s, "retainAsPublished");
        put_number(&t, s, "subscriptionId");
    }
    ctl_table_end(&t, out);
}

static void show_retained(const struct codec_json *j, uint64_t now_ms, struct buf *out)
{
    const struct codec_json *list = GET(j, "messages");
    struct ctl_table t;
    char text[24];
    ctl_table_begin(&t, "TOPIC|QOS|SIZE|AGE|EXPIRES AFTER|PUBLISHER");
    for (size_t i = 0; i < codec_json_count(list); i++) {
        const struct codec_json *m = codec_json_at(list, i);
        ctl_table_put(&t, text_of(m, "topic"));
        put_number(&t, m, "qos");
        ctl_table_put(&t, ctl_size(codec_json_u64(GET(m, "bytes")), text));
        put_age(&t, GET(m, "retainedAt"), now_ms);
        ctl_table_put(&t, GET(m, "expirySeconds")
                              ? ctl_span(codec_json_u64(GET(m, "expirySeconds")), text)
                              : STR(""));
        ctl_table_put(&t, text_of(m, "publisher"));
    }
    ctl_table_end(&t, out);
}

static void put_silent(const struct codec_json *j, struct buf *out)
{
    const struct codec_json *list = GET(j, "incomplete");
    for (size_t i = 0; i < codec_json_count(list); i++)
        buf_printf(out, "node %.*s did not answer: its connected clients are missing\n",
                   STR_ARG(codec_json_text(codec_json_at(list, i))));
}

static void show_servers(const struct codec_json *j, struct buf *out)
{
    struct ctl_table t;
    ctl_table_begin(&t, "NODE|ADDRESS|GROUPS");
    for (size_t i = 0; i < codec_json_count(j); i++) {
        const struct codec_json *n = codec_json_at(j, i), *groups = GET(n, "groups");
        struct buf names = {0};
        for (size_t k = 0; k < codec_json_count(groups); k++)
            buf_printf(&names, "%s%.*s", k ? ", " : "",
                       STR_ARG(codec_json_text(codec_json_at(groups, k))));
        ctl_table_put(&t, text_of(n, "id"));
        put_place(&t, n);
        ctl_table_put(&t, buf_str(&names));
        buf_deinit(&names);
    }
    ctl_table_end(&t, out);
}

static void show_drains(const struct codec_json *j, struct buf *out)
{
    struct ctl_table t;
    if (codec_json_count(j) == 0) {
        buf_put_str(out, STR("all nodes are in service\n"));
        return;
    }
    ctl_table_begin(&t, "NODE|WANTED|ALIVE|CLIENTS LEFT|LEADERS LEFT|REPLICAS LEFT");
    for (size_t i = 0; i < codec_json_count(j); i++) {
        const struct codec_json *n = codec_json_at(j, i), *left = GET(n, "left");
        ctl_table_put(&t, text_of(n, "node"));
        ctl_table_put(&t, text_of(n, "mark"));
        put_yes(&t, n, "alive");
        put_number(&t, left, "clients");
        put_number(&t, left, "leaders");
        put_number(&t, left, "replicas");
    }
    ctl_table_end(&t, out);
}

bool ctl_show(enum ctl_show how, struct str answer, uint64_t now_ms, struct buf *out)
{
    char why[CODEC_JSON_ERROR_MAX];
    bool is_table = how != CTL_SHOW_TEXT && how != CTL_SHOW_ROWS, is_critical = false;
    struct codec_json *j = is_table ? codec_json_parse(answer, why) : NULL;
    if (!j) {
        ctl_print_json(answer, out);
        return false;
    }
    switch (how) {
    case CTL_SHOW_STATUS:
        is_critical = ctl_screen(j, out);
        break;
    case CTL_SHOW_MEMBERS:
        show_members(j, out);
        break;
    case CTL_SHOW_KEYS:
        show_keys(j, out);
        break;
    case CTL_SHOW_RANGES:
        show_ranges(j, out);
        break;
    case CTL_SHOW_SESSIONS:
        show_sessions(j, now_ms, out);
        break;
    case CTL_SHOW_SUBS:
        show_subs(j, out);
        break;
    case CTL_SHOW_RETAINED:
        show_retained(j, now_ms, out);
        break;
    case CTL_SHOW_SERVERS:
        show_servers(j, out);
        break;
    case CTL_SHOW_DRAINS:
        show_drains(j, out);
        break;
    case CTL_SHOW_TEXT:
    case CTL_SHOW_ROWS:
        break;
    }
    put_silent(j, out);
    codec_json_free(j);
    return is_critical;
}
