/* The whole cluster on one page: nodes, ranges, and what is wrong.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Every node is asked for its facts while the ranges are looked at; an alarm says what is wrong and
 * what to do about it.
 *
 * Never: raises an alarm without saying what to do. */
#include <stdio.h>

#include "api/peer_priv.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "cluster/cluster.h"
#include "codec/json.h"
#include "kv/kv.h"
#include "net/clock.h"
#include "net/loop.h"

#define DISK_LOW_PERCENT 10u
#define MEMORY_HIGH_PERCENT 90u
#define QUEUED_HIGH_PERCENT 75u /* matters: from here on publishers are slowed (broker/limit.c) */
#define API_STORES_MAX 8u
#define DURABILITY_MAX 16u
#define RANGE_ALARMS_MAX 20u /* matters little: more of the same tell nobody more */

struct status {
    struct api_ask *ask;
    unsigned legs;
    struct buf nodes, critical, warnings;
    unsigned ranges, led, healthy, under, no_quorum, range_alarms;
    uint64_t lag;
    struct founding {
        const char *store;
        uint64_t epoch;
        bool is_told;
    } founding[API_STORES_MAX];
    unsigned founding_count;
    struct {
        char gives[DURABILITY_MAX], node[UUID_TEXT];
        bool is_told;
    } first; /* that told what it gives; the others are held against it */
};

static void alarm_put(struct status *s, const char *level, const char *what, const char *what_to_do)
{
    struct buf *b = strcmp(level, "critical") == 0 ? &s->critical : &s->warnings;
    if (b->n)
        buf_put_u8(b, ',');
    buf_put_u8(b, '{');
    api_put_text(b, "level", str_of(level));
    api_put_text(b, "what", str_of(what));
    api_put_text(b, "do", str_of(what_to_do));
    buf_put_u8(b, '}');
}

/* ---- ranges ---- */

static void range_alarm(struct status *s, const struct kv_range_status *r, unsigned live,
                        unsigned voters)
{
    char what[512];
    if (s->range_alarms++ >= RANGE_ALARMS_MAX)
        return;
    snprintf(what, sizeof what, "range %s %016llx-%016llx: %.*s", r->store,
             (unsigned long long)r->id.epoch, (unsigned long long)r->id.id, STR_ARG(r->reason));
    if (voters > 0 && live * 2 <= voters)
        alarm_put(
            s, "critical", what,
            "start the nodes that hold it; only when they are lost for ever: bilrostctl store "
            "recover");
    else if (live < voters)
        alarm_put(s, "warning", what,
                  "start the node again, or give the cluster another one: the range heals by "
                  "itself");
    else
        alarm_put(s, "warning", what,
                  "wait a minute; if it stays, look at the journal of its leader");
}

/* All ranges of a store come of one founding.  Of two, only a person can say which one counts. */
static void founding_check(struct status *s, const struct kv_range_status *r)
{
    char what[256];
    unsigned i = 0;
    while (i < s->founding_count && strcmp(s->founding[i].store, r->store) != 0)
        i++;
    if (i == API_STORES_MAX)
        return;
    if (i == s->founding_count)
        s->founding[s->founding_count++] = (struct founding){r->store, r->id.epoch, false};
    struct founding *f = &s->founding[i];
    if (f->epoch == r->id.epoch || f->is_told)
        return;
    f->is_told = true;
    snprintf(
        what, sizeof what,
        "store %s was founded twice (ranges %016llx-... and %016llx-...): two clusters have met, "
        "or a node without seedEndpoints came back with an empty disk",
        r->store, (unsigned long long)f->epoch, (unsigned long long)r->id.epoch);
    alarm_put(s, "critical", what,
              "bilrostctl range shows who holds which; stop the nodes whose data are not to count, "
              "empty their data_dir, start them again with seedEndpoints");
}

static void leg(struct status *s);

static void range_count(struct status *s, const struct kv_range_status *r)
{
    unsigned voters = 0, live = 0;
    for (unsigned i = 0; i < r->member_count; i++) {
        voters += r->member[i].is_voter;
        live += r->member[i].is_voter && r->member[i].is_live;
        if (r->member[i].lag > s->lag)
            s->lag = r->member[i].lag;
    }
    founding_check(s, r);
    s->ranges++;
    s->led += r->has_leader;
    s->under += live < voters;
    s->no_quorum += voters > 0 && live * 2 <= voters;
    if (r->reason.n)
        range_alarm(s, r, live, voters);
    else
        s->healthy++;
}

static void range_seen(void *arg, const struct kv_range_status *r)
{
    struct status *s = arg;
    if (r)
        range_count(s, r);
    else
        leg(s);
}

/* ---- nodes ---- */

/* What to do about a reason not to be ready (node/health.c), by how it begins. */
static const char *remedy_of(struct str reason)
{
    static const struct {
        const char *begin, *remedy;
    } row[] = {
        {"draining", "it stops: nothing, or wait for it to end"},
        {"out of service", "put it back when its work is done: bilrostctl undrain"},
        {"some ranges have no leader",
         "wait some seconds; if it stays, start the nodes that are missing, then look at its "
         "journal"},
        {"the disk is full",
         "free space under data_dir, or enlarge the disk: it goes on by itself"},
        {"not joined", "is another node running, and are seedEndpoints and the network right?"},
        {"isolated", "look at its network: it comes back by itself"},
    };
    for (size_t i = 0; i < countof(row); i++)
        if (str_has_prefix(reason, str_of(row[i].begin)))
            return row[i].remedy;
    return "wait a minute; if it stays, look at its journal";
}

static void memory_alarms(struct status *s, const struct codec_json *j, const char *id)
{
    char what[256];
    uint64_t used = codec_json_u64(codec_json_get(j, "memoryBytes"));
    uint64_t limit = codec_json_u64(codec_json_get(j, "memoryLimitBytes"));
    uint64_t queued = codec_json_u64(codec_json_get(j, "queuedBytes"));
    uint64_t max = codec_json_u64(codec_json_get(j, "memoryMaxBytes"));
    if (limit && used > limit / 100 * MEMORY_HIGH_PERCENT) {
        snprintf(what, sizeof what, "node %s uses %llu of the %llu MiB that its service may have",
                 id, (unsigned long long)(used >> 20), (unsigned long long)(limit >> 20));
        alarm_put(s, "critical", what,
                  "raise MemoryMax= of its service, or lower memory_max: beyond it it is killed");
    }
    if (max && queued > max / 100 * QUEUED_HIGH_PERCENT) {
        snprintf(what, sizeof what,
                 "node %s: %llu of the %llu MiB of memory_max wait for slow clients", id,
                 (unsigned long long)(queued >> 20), (unsigned long long)(max >> 20));
        alarm_put(s, "warning", what,
                  "publishers are slowed: look for slow subscribers (bilrostctl session list: "
                  "QUEUED), or raise memory_max");
    }
}

/* An acknowledgement is given by a quorum, and any of them may be in it: it is worth what the
 * weakest gives. */
static void durability_check(struct status *s, const struct codec_json *j, const char *id)
{
    char what[256];
    struct str gives = codec_json_text(codec_json_get(j, "durability"));
    if (!gives.n || gives.n >= DURABILITY_MAX) /* a node of a version that does not tell */
        return;
    if (!s->first.gives[0]) {
        snprintf(s->first.gives, sizeof s->first.gives, "%.*s", STR_ARG(gives));
        snprintf(s->first.node, sizeof s->first.node, "%s", id);
    }
    if (s->first.is_told || str_eq(gives, str_of(s->first.gives)))
        return;
    s->first.is_told = true;
    snprintf(what, sizeof what,
             "node %s gives durability %.*s, node %s gives %s: an acknowledgement of either may be "
             "worth only the lesser",
             id, STR_ARG(gives), s->first.node, s->first.gives);
    alarm_put(s, "critical", what,
              "give all nodes the same durability and a data_dir, and restart those that had less");
}

static void node_alarms(struct status *s, const struct codec_json *j, const char *id)
{
    char what[256], fix[256];
    uint64_t free_bytes = codec_json_u64(codec_json_get(j, "diskFreeBytes"));
    uint64_t bytes = codec_json_u64(codec_json_get(j, "diskBytes"));
    if (bytes && free_bytes < bytes / 100 * DISK_LOW_PERCENT) {
        snprintf(what, sizeof what, "node %s: %llu MiB of its disk are left", id,
                 (unsigned long long)(free_bytes >> 20));
        alarm_put(s, "warning", what, "free space under data_dir, or enlarge the disk");
    }
    memory_alarms(s, j, id);
    durability_check(s, j, id);
    const struct codec_json *why = codec_json_get(j, "reasons");
    for (size_t i = 0; i < codec_json_count(why); i++) {
        struct str text = codec_json_text(codec_json_at(why, i));
        snprintf(what, sizeof what, "node %s is not ready: %.*s", id, STR_ARG(text));
        bool is_drained = str_has_prefix(text, STR("out of service"));
        snprintf(fix, sizeof fix, "%s%s%s", remedy_of(text), is_drained ? " " : "",
                 is_drained ? id : "");
        alarm_put(s, "warning", what, fix);
    }
}

static bool is_dead(const struct status *s, const struct uuid *node)
{
    const struct cluster_seat *seat = s->ask->api ? s->ask->api->conf.seat : NULL;
    const struct cluster_member *m = seat ? cluster_member_find(seat, node) : NULL;
    return m && m->state == CLUSTER_ST_DEAD;
}

static void node_seen(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct status *s = arg;
    char id[UUID_TEXT], why[CODEC_JSON_ERROR_MAX], what[128];
    struct codec_json *j = answer ? codec_json_parse(answer->text, why) : NULL;
    uuid_format(node, id);
    if (s->nodes.n)
        buf_put_u8(&s->nodes, ',');
    if (j) {
        buf_put_str(&s->nodes, answer->text);
        node_alarms(s, j, id);
    } else {
        buf_put_u8(&s->nodes, '{');
        api_put_text(&s->nodes, "id", str_of(id));
        api_put_bool(&s->nodes, "silent", true);
        buf_put_u8(&s->nodes, '}');
        snprintf(what, sizeof what, "node %s did not answer within 5 s", id);
        if (!is_dead(s, node)) /* of the dead is said more below */
            alarm_put(s, "critical", what,
                      "look at its journal and load; restart it when it hangs");
    }
    codec_json_free(j);
}

static void member_alarm(struct status *s, const struct cluster_member *m)
{
    char id[UUID_TEXT], what[320], fix[160];
    struct buf why = {0};
    if (m->state == CLUSTER_ST_ALIVE || m->state == CLUSTER_ST_LEFT)
        return;
    uuid_format(&m->uuid, id);
    cluster_member_why(s->ask->api->conf.seat, m, &why);
    snprintf(what, sizeof what, "node %s (%s) is %s: %.*s", id, m->host,
             m->state == CLUSTER_ST_DEAD ? "dead" : "suspected to be dead", STR_ARG(buf_str(&why)));
    if (m->state == CLUSTER_ST_DEAD)
        snprintf(fix, sizeof fix,
                 "start it again, or, when it never comes back: bilrostctl cluster forget %s", id);
    else
        snprintf(fix, sizeof fix,
                 "wait some seconds; if it comes back again and again, look at its network");
    alarm_put(s, m->state == CLUSTER_ST_DEAD ? "critical" : "warning", what, fix);
    buf_deinit(&why);
}

/* ---- the page ---- */

static void status_end(struct status *s)
{
    const struct api *api = s->ask->api;
    struct buf b = {0};
    const struct cluster_member *m;
    for (size_t i = 0; api && api->conf.seat && (m = cluster_member_at(api->conf.seat, i)); i++)
        member_alarm(s, m);
    if (api) {
        api_put_facts(api, &b); /* of this node, at the top level */
        b.n--;
        api_key(&b, "cluster");
        api_put_members(api, &b);
        api_key(&b, "nodes");
        buf_printf(&b, "[%.*s]", STR_ARG(buf_str(&s->nodes)));
        api_key(&b, "ranges");
        buf_put_u8(&b, '{');
        api_put_number(&b, "total", s->ranges);
        api_put_number(&b, "led", s->led);
        api_put_number(&b, "healthy", s->healthy);
        api_put_number(&b, "underReplicated", s->under);
        api_put_number(&b, "withoutQuorum", s->no_quorum);
        api_put_number(&b, "lagMax", s->lag);
        buf_put_u8(&b, '}');
        api_key(&b, "alarms");
        const char *comma = s->critical.n && s->warnings.n ? "," : "";
        buf_printf(&b, "[%.*s%s%.*s]}", STR_ARG(buf_str(&s->critical)), comma,
                   STR_ARG(buf_str(&s->warnings))); /* what is worst comes first */
    }
    api_json(s->ask, 200, &b);
    buf_deinit(&b);
    buf_deinit(&s->nodes);
    buf_deinit(&s->critical);
    buf_deinit(&s->warnings);
    mem_free(s);
}

static void leg(struct status *s)
{
    if (--s->legs == 0)
        status_end(s);
}

static void nodes_end(void *arg)
{
    leg(arg);
}

void api_status(struct api_ask *a)
{
    struct status *s = mem_new(sizeof *s);
    struct kv *kv = a->api->conf.kv;
    struct kv_store *store = kv ? kv_store_of_name(kv, STR("dist.worker")) : NULL;
    struct api_peer_ask order = {.op = API_PEER_FACTS};
    s->ask = a;
    s->legs = store ? 2 : 1;
    if (store)
        kv_status(kv_client_get(store, 0), range_seen, s);
    api_peer_all(a->api, &order, node_seen, nodes_end, s);
}
