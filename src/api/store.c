/* Stores and their ranges: seen, and ordered about.  SPDX-License-Identifier: Apache-2.0
 *
 * Of a range with a replica here we speak exactly, of others as their leader gossips.
 *
 * Never: changes a range past its version when one was given. */
#include <stdio.h>

#include "api/api_priv.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "kv/kv.h"
#include "net/loop.h"

#define RUN_USEC (30 * USEC_SEC)
#define ID_TEXT 34

static const char *const stores[] = {"dist.worker", "inbox.store", "retain.store"};

void api_stores(struct api_ask *a)
{
    api_names(a, stores, countof(stores));
}

/* The store of the request; false: a 404 was sent. */
static bool store_of(struct api_ask *a, struct kv_client **out)
{
    struct str name = api_header(a, "store_name");
    struct kv *kv = a->api->conf.kv;
    struct kv_store *s = kv ? kv_store_of_name(kv, name) : NULL;
    for (size_t i = 0; !s && i < countof(stores); i++)
        if (str_eq(name, str_of(stores[i]))) { /* alone, in memory: there are no ranges */
            *out = NULL;
            return true;
        }
    *out = s ? kv_client_get(s, 0) : NULL;
    if (!s)
        api_text(a, 404, "no such store: dist.worker, inbox.store and retain.store are there");
    return s != NULL;
}

static void id_print(struct kv_range_id id, char out[ID_TEXT])
{
    snprintf(out, ID_TEXT, "%016llx-%016llx", (unsigned long long)id.epoch,
             (unsigned long long)id.id);
}

static bool hex_read(struct str s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        unsigned v = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                            : 16;
        if (v > 15)
            return false;
        *out = *out << 4 | v;
    }
    return true;
}

static bool id_read(struct str s, struct kv_range_id *out)
{
    return s.n == ID_TEXT - 1 && s.p[16] == '-' && hex_read(str_view(s.p, 16), &out->epoch) &&
           hex_read(str_view(s.p + 17, 16), &out->id);
}

/* ---- views ---- */

struct view {
    struct api_ask *ask;
    struct buf json;
    char store[40];
    struct uuid node;
    bool has_node;
    struct uuid *seen; /* landscape: nodes so far */
    size_t seen_count, seen_cap;
};

static struct view *view_new(struct api_ask *a)
{
    struct view *v = mem_new(sizeof *v);
    v->ask = a;
    str_copy(v->store, sizeof v->store, api_header(a, "store_name"));
    buf_put_u8(&v->json, '[');
    return v;
}

static void view_end(struct view *v)
{
    buf_put_u8(&v->json, ']');
    api_json(v->ask, 200, &v->json);
    buf_deinit(&v->json);
    mem_free(v->seen);
    mem_free(v);
}

static void put_server(struct view *v, const struct uuid *node)
{
    struct cluster_seat *seat = v->ask->api->conf.seat;
    const struct cluster_member *m = seat ? cluster_member_find(seat, node) : NULL;
    struct buf *b = &v->json;
    api_key(b, NULL);
    buf_put_u8(b, '{');
    api_put_uuid(b, "hostId", node);
    api_put_uuid(b, "id", node);
    api_put_text(b, "address", str_of(m ? m->rpc_host : ""));
    api_put_number(b, "port", m ? m->rpc_port : 0);
    api_key(b, "attributes");
    buf_put_str(b, STR("{}}"));
}

static void see(struct view *v, const struct uuid *node)
{
    for (size_t i = 0; i < v->seen_count; i++)
        if (uuid_eq(&v->seen[i], node))
            return;
    v->seen = mem_grow(v->seen, &v->seen_cap, v->seen_count + 1, sizeof *v->seen);
    v->seen[v->seen_count++] = *node;
    put_server(v, node);
}

static void landscape_one(void *arg, const struct kv_range_status *r)
{
    struct view *v = arg;
    if (!r || !v->ask->api) {
        if (!r)
            view_end(v);
        return;
    }
    for (unsigned i = 0; strcmp(r->store, v->store) == 0 && i < r->member_count; i++)
        see(v, &r->member[i].node);
}

void api_store_landscape(struct api_ask *a)
{
    struct kv_client *c;
    if (!store_of(a, &c))
        return;
    struct view *v = view_new(a);
    if (c) {
        kv_status(c, landscape_one, v);
        return;
    }
    see(v, &a->api->conf.node);
    view_end(v);
}

static void put_key(struct buf *b, const char *name, struct str key, bool is_there)
{
    api_key(b, name);
    if (!is_there) {
        buf_put_str(b, STR("null"));
        return;
    }
    buf_put_u8(b, '"');
    for (size_t i = 0; i < key.n; i++)
        buf_printf(b, "%02x", (uint8_t)key.p[i]);
    buf_put_u8(b, '"');
}

enum part { VOTERS, LEARNERS, NEXT_VOTERS, NEXT_LEARNERS };

static void put_part(struct buf *b, const char *name, const struct kv_range_status *r,
                     enum part part)
{
    bool is_joint = false;
    for (unsigned i = 0; i < r->member_count; i++)
        is_joint |= r->member[i].is_voter != r->member[i].is_next_voter;
    api_key(b, name);
    buf_put_u8(b, '[');
    for (unsigned i = 0; i < r->member_count; i++) {
        const struct kv_member *m = &r->member[i];
        bool is_in = part == VOTERS        ? m->is_voter
                     : part == LEARNERS    ? !m->is_voter && !m->is_next_voter
                     : part == NEXT_VOTERS ? is_joint && m->is_next_voter
                                           : is_joint && !m->is_next_voter && m->is_voter;
        if (is_in)
            api_put_uuid(b, NULL, &m->node);
    }
    buf_put_u8(b, ']');
}

static const struct kv_member *member_of(const struct kv_range_status *r, const struct uuid *node)
{
    for (unsigned i = 0; i < r->member_count; i++)
        if (uuid_eq(&r->member[i].node, node))
            return &r->member[i];
    return NULL;
}

/* What the range is to this node. */
static const char *role_at(const struct view *v, const struct kv_range_status *r)
{
    const struct uuid *node = v->has_node ? &v->node : &v->ask->api->conf.node;
    const struct kv_member *m = member_of(r, node);
    if (uuid_eq(node, &v->ask->api->conf.node) && r->is_local)
        return kv_role_name(r->role);
    return !m                                           ? "none"
           : r->has_leader && uuid_eq(&r->leader, node) ? "leader"
           : m->is_voter                                ? "follower"
                                                        : "learner";
}

static void put_range(struct buf *b, const struct kv_range_status *r)
{
    char id[ID_TEXT];
    uint64_t lag = 0;
    unsigned voters = 0, live = 0;
    id_print(r->id, id);
    for (unsigned i = 0; i < r->member_count; i++) {
        lag = r->member[i].lag > lag ? r->member[i].lag : lag;
        voters += r->member[i].is_voter;
        live += r->member[i].is_voter && r->member[i].is_live;
    }
    api_put_text(b, "store", str_of(r->store));
    api_put_text(b, "id", str_of(id));
    api_key(b, "ver");
    buf_printf(b, "%llu", (unsigned long long)r->boundary_version << 32 | r->config_version);
    api_key(b, "boundary");
    buf_put_u8(b, '{');
    put_key(b, "startKey", r->start, r->start.n > 0);
    put_key(b, "endKey", r->end, !r->is_open);
    buf_put_u8(b, '}');
    api_put_text(b, "state", r->reason.n ? STR("degraded") : STR("normal"));
    if (r->reason.n)
        api_put_text(b, "reason", r->reason);
    if (r->has_leader)
        api_put_uuid(b, "leader", &r->leader);
    api_put_number(b, "term", r->term);
    api_put_number(b, "commit", r->commit);
    api_put_number(b, "applied", r->applied);
    api_put_number(b, "bytes", r->bytes);
    api_put_number(b, "logBytes", r->log_bytes);
    api_put_number(b, "lag", lag);
    api_put_number(b, "liveVoters", live);
    api_put_number(b, "voterCount", voters);
    api_key(b, "clusterConfig");
    buf_put_u8(b, '{');
    put_part(b, "voters", r, VOTERS);
    put_part(b, "learners", r, LEARNERS);
    put_part(b, "nextVoters", r, NEXT_VOTERS);
    put_part(b, "nextLearners", r, NEXT_LEARNERS);
    buf_put_u8(b, '}');
}

static void range_one(void *arg, const struct kv_range_status *r)
{
    struct view *v = arg;
    if (!r) {
        view_end(v);
        return;
    }
    bool is_asked = v->store[0] == 0 || strcmp(r->store, v->store) == 0;
    if (!v->ask->api || !is_asked || (v->has_node && !member_of(r, &v->node)))
        return;
    api_key(&v->json, NULL);
    buf_put_u8(&v->json, '{');
    put_range(&v->json, r);
    api_put_text(&v->json, "role", str_of(role_at(v, r)));
    buf_put_u8(&v->json, '}');
}

static bool is_known(const struct api *api, const struct uuid *node)
{
    return uuid_eq(node, &api->conf.node) ||
           (api->conf.seat && cluster_member_find(api->conf.seat, node));
}

/* Without a store: whichever tells of all. */
static bool ranges_of(struct api_ask *a, struct kv_client **out)
{
    struct kv *kv = a->api->conf.kv;
    if (api_header(a, "store_name").n > 0)
        return store_of(a, out);
    struct kv_store *s = kv ? kv_store_of_name(kv, str_of(stores[0])) : NULL;
    *out = s ? kv_client_get(s, 0) : NULL;
    return true;
}

void api_store_ranges(struct api_ask *a)
{
    struct kv_client *c;
    struct uuid node;
    bool has_node = api_header(a, "store_id").n > 0;
    if (!ranges_of(a, &c) || (has_node && !api_uuid(a, "store_id", &node)))
        return;
    if (has_node && !is_known(a->api, &node)) {
        api_text(a, 404, "no such node (bilrostctl cluster shows them)");
        return;
    }
    struct view *v = view_new(a);
    v->has_node = has_node;
    if (has_node)
        v->node = node;
    if (c)
        kv_status(c, range_one, v);
    else
        view_end(v);
}

/* ---- orders ---- */

static void run_done(void *arg, const struct kv_reply *reply)
{
    struct api_ask *a = arg;
    switch (reply->outcome) {
    case KV_OK:
        api_text(a, 200, "OK");
        return;
    case KV_E_VERSION:
        api_text(a, 409, "the range is at another version by now: look at it again");
        return;
    case KV_E_CONFLICT:
        api_text(a, 409,
                 "refused in the present state of the range: another change is under way, the node "
                 "is no member, or a majority that is to be recovered is alive");
        return;
    case KV_E_NO_RANGE:
        api_text(a, 404, "no such range");
        return;
    case KV_E_NO_LEADER:
        api_text(a, 503, "the range has no leader");
        return;
    case KV_E_DEADLINE:
    case KV_E_UNKNOWN:
        api_text(a, 408, "no answer in time: it may be done or not, look at the range again");
        return;
    case KV_E_FULL:
        api_text(a, 429, "BACK_PRESSURE_REJECTED");
        return;
    case KV_E_INVALID:
        api_text(a, 400, "not a key or member list for this range");
        return;
    case KV_E_STOPPED:
        break;
    }
    api_text(a, 503, "this node stops");
}

/* The range of the request; false: an answer was sent. */
static bool command_of(struct api_ask *a, struct kv_command *cmd, struct kv_client **c)
{
    if (!store_of(a, c))
        return false;
    if (!*c) {
        api_text(a, 409, "this node keeps its tables in memory: there are no ranges");
        return false;
    }
    *cmd = (struct kv_command){.key = STR("")};
    cmd->deadline = usec_add(net_loop_now(a->api->conf.loop), RUN_USEC);
    if (id_read(api_header(a, "range_id"), &cmd->id))
        return true;
    api_text(a, 400, "range_id is not an id as in GET /store/ranges");
    return false;
}

void api_range_transfer(struct api_ask *a)
{
    struct kv_command cmd;
    struct kv_client *c;
    if (!command_of(a, &cmd, &c) || !api_uuid(a, "node_id", &cmd.node[0]))
        return;
    cmd.kind = KV_CMD_TRANSFER;
    cmd.node_count = 1;
    kv_run(c, &cmd, run_done, a);
}

static bool nodes_read(const struct api *api, struct str list, struct kv_command *cmd)
{
    struct str one;
    while (list.n && str_next(&list, ',', &one)) {
        if (cmd->node_count == KV_MEMBER_MAX ||
            !api_node_read(api, one, &cmd->node[cmd->node_count]))
            return false;
        for (unsigned i = 0; i < cmd->node_count; i++)
            if (uuid_eq(&cmd->node[i], &cmd->node[cmd->node_count]))
                return false;
        cmd->node_count++;
    }
    return true;
}

void api_range_config(struct api_ask *a)
{
    struct kv_command cmd;
    struct kv_client *c;
    struct api_number version = {"version", 0, UINT64_MAX, 0};
    if (!command_of(a, &cmd, &c) || !api_number(a, &version, &cmd.version))
        return;
    bool is_good = nodes_read(a->api, api_header(a, "voters"), &cmd);
    cmd.voter_count = cmd.node_count;
    is_good = is_good && nodes_read(a->api, api_header(a, "learners"), &cmd);
    if (!is_good) {
        api_text(a, 400,
                 "voters and learners are ids of different nodes, separated by commas, 16 at most");
    } else if (cmd.voter_count % 2 == 0) {
        api_text(a, 400,
                 "the number of voters must be odd: an even one survives no more deaths and loses "
                 "its quorum sooner");
    } else {
        cmd.kind = KV_CMD_CONFIG;
        kv_run(c, &cmd, run_done, a);
    }
}

void api_range_split(struct api_ask *a)
{
    struct kv_command cmd;
    struct kv_client *c;
    struct str hex = api_header(a, "key");
    struct buf key = {0};
    uint64_t byte;
    if (!command_of(a, &cmd, &c))
        return;
    for (size_t i = 0; i + 1 < hex.n && hex_read(str_view(hex.p + i, 2), &byte); i += 2)
        buf_put_u8(&key, (uint8_t)byte);
    if (key.n * 2 != hex.n) {
        api_text(a, 400, "key is not hexadecimal, as in boundary of GET /store/ranges");
    } else {
        cmd.kind = KV_CMD_SPLIT;
        cmd.key = buf_str(&key);
        kv_run(c, &cmd, run_done, a);
    }
    buf_deinit(&key);
}

void api_range_recover(struct api_ask *a)
{
    struct kv_command cmd;
    struct kv_client *c;
    if (!str_eq(api_header(a, "confirm"), STR("may-lose-data"))) {
        api_text(a, 400,
                 "confirm must be may-lose-data: what the lost majority alone knew is lost, also "
                 "what was acknowledged");
        return;
    }
    if (!command_of(a, &cmd, &c))
        return;
    cmd.kind = KV_CMD_RECOVER;
    cmd.node[0] = a->api->conf.node;
    cmd.node_count = cmd.voter_count = 1;
    kv_run(c, &cmd, run_done, a);
}
