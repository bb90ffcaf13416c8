/* Commands of operators and balancers, at the replica they are for.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. One at a time per replica; each names the version it expects, and is refused at another.
 * 2. A new voter must have been a learner that keeps up: raft refuses otherwise, and so do we.
 * 3. A member keeps its replica id as long as it stays; who comes, or comes back, gets a new one.
 *    */
#include "kv/kv_priv.h"

static void refuse(struct kv_replica *r, struct kv_ask *a, enum kv_wire_status status)
{
    a->answer.leader = kv_replica_leader(r);
    a->answer.term = raft_status_get(&r->raft).term;
    kv_ask_done(r->loop, a, status);
}

static enum kv_wire_status status_of(int outcome)
{
    switch (outcome) {
    case RAFT_OK:
        return KV_WIRE_OK;
    case RAFT_E_NOT_LEADER:
        return KV_WIRE_NOT_LEADER;
    case RAFT_E_INVALID:
        return KV_WIRE_INVALID;
    default:
        return KV_WIRE_CONFLICT;
    }
}

static const struct raft_member *member_at(const struct raft_config *c, const struct uuid *node)
{
    for (size_t i = 0; i < c->count; i++)
        if (uuid_eq(&c->member[i].store, node))
            return &c->member[i];
    return NULL;
}

/* The members asked for, with the ids they have or get. */
static size_t members_of(const struct kv_replica *r, const struct kv_wire_command *cmd,
                         struct raft_member *out)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    uint64_t next = c->id_max + 1;
    for (unsigned i = 0; i < cmd->node_count; i++) {
        const struct raft_member *m = member_at(c, &cmd->node[i]);
        out[i] = (struct raft_member){.id = m ? m->id : next++,
                                      .store = cmd->node[i],
                                      .role = i < cmd->voter_count ? RAFT_VOTER : RAFT_LEARNER};
    }
    return cmd->node_count;
}

static void await(struct kv_replica *r, struct kv_ask *a)
{
    r->command = a;
    list_del(&a->link);
}

/* With a live majority there is nothing to recover: a second history would begin beside the first.
 */
static bool is_majority_live(const struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    unsigned voters = 0, live = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].role & RAFT_VOTER) {
            voters++;
            live += c->member[i].id == r->id || kv_node_is_live(r->loop, &c->member[i].store);
        }
    return live * 2 > voters;
}

static void run_config(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a,
                       bool is_recover)
{
    struct raft_member m[RANGE_MEMBER_MAX];
    struct raft_event ev = {.kind = is_recover ? RAFT_EV_RECOVER : RAFT_EV_CONF};
    ev.conf.member = m;
    ev.conf.count = members_of(r, cmd, m);
    if (cmd->voter_count == 0 || r->range.version.boundary == 0) {
        refuse(r, a, KV_WIRE_INVALID);
        return;
    }
    /* who has just begun to lead does not know yet what its log holds */
    if (r->range.frozen != 0 || r->range.merge.state == RANGE_MERGE_BEGUN ||
        (is_recover ? is_majority_live(r) : !r->is_leader_told)) {
        refuse(r, a, KV_WIRE_CONFLICT);
        return;
    }
    kv_replica_step(r, &ev);
    if (r->outcome_command != RAFT_OK) {
        refuse(r, a, status_of(r->outcome_command));
        return;
    }
    r->command_index = r->outcome_index;
    a->command.kind = cmd->kind;
    await(r, a);
    kv_command_settle(r);
}

static void run_transfer(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    const struct raft_member *m =
        cmd->node_count > 0 ? member_at(raft_config_get(&r->raft), &cmd->node[0]) : NULL;
    if (!m) {
        refuse(r, a, KV_WIRE_INVALID);
        return;
    }
    if (m->id == r->id) {
        kv_ask_done(r->loop, a, KV_WIRE_OK);
        return;
    }
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = m->id});
    if (r->outcome_command != RAFT_OK) {
        refuse(r, a, status_of(r->outcome_command));
        return;
    }
    a->command.kind = cmd->kind;
    await(r, a);
    kv_command_settle(r);
}

/* Do enough voters, without that one, have everything up to index?  *out_can: they may yet. */
static bool is_settled(const struct kv_replica *r, const struct uuid *without, uint64_t index,
                       bool *out_can)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    unsigned voters = 0, have = 0, live = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct raft_member *m = &c->member[i];
        struct raft_peer p;
        if (!(m->role & RAFT_VOTER))
            continue;
        voters++;
        if (uuid_eq(&m->store, without))
            continue;
        have += m->id == r->id || (raft_peer_get(&r->raft, m->id, &p) && p.match >= index);
        live += m->id == r->id || !r->loop->seat || cluster_is_live(r->loop->seat, &m->store, 0);
    }
    *out_can = live > voters / 2;
    return have > voters / 2;
}

static void run_settle(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    if (cmd->node_count == 0) {
        refuse(r, a, KV_WIRE_INVALID);
        return;
    }
    a->command.kind = cmd->kind;
    a->command.node[0] = cmd->node[0];
    r->command_index = raft_status_get(&r->raft).commit;
    await(r, a);
    kv_command_settle(r);
}

/* The id of the new right half.  The time alone would not do: leaders of two ranges may split them
 * at one moment. */
static struct range_id new_id(struct kv_replica *r)
{
    return (struct range_id){r->range_id.epoch, kv_serial(r)};
}

static void run_split(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    struct buf key = {0}, payload = {0};
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    if (ops->split_key)
        ops->split_key(r->machine, cmd->key.n > 0 ? cmd->key : buf_str(&r->middle), &key);
    if (key.n == 0 || !range_bounds_can_split(&r->range.bounds, buf_str(&key)) ||
        raft_config_get(&r->raft)->is_joint || r->range.frozen != 0 ||
        r->range.merge.state != RANGE_MERGE_NONE)
        refuse(r, a, KV_WIRE_CONFLICT);
    else {
        struct range_command c = {.version = r->range.version,
                                  .hlc = kv_loop_hlc(r->loop),
                                  .key = buf_str(&key),
                                  .new_id = new_id(r)};
        range_command_split(&payload, &c);
        kv_replica_command(r, buf_str(&payload));
        a->command.kind = cmd->kind;
        r->command_index = r->range.version.boundary;
        await(r, a);
    }
    buf_deinit(&key);
    buf_deinit(&payload);
}

static void run_merge(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    bool is_begun = cmd->kind == KV_CMD_MERGE ? kv_merge_run(r, a) : kv_merge_freeze(r, cmd, a);
    if (!is_begun) {
        refuse(r, a, KV_WIRE_CONFLICT);
        return;
    }
    await(r, a);
    kv_command_settle(r);
}

void kv_command_run(struct kv_replica *r, const struct kv_wire_command *cmd, struct kv_ask *a)
{
    if (r->is_closed || !r->is_ready)
        refuse(r, a, KV_WIRE_NO_RANGE);
    else if (cmd->kind != KV_CMD_RECOVER && !kv_replica_is_leader(r))
        refuse(r, a, KV_WIRE_NOT_LEADER);
    else if (cmd->version != 0 && cmd->version != range_version_pack(r->range.version))
        refuse(r, a, KV_WIRE_VERSION);
    else if (cmd->kind == KV_CMD_THAW)
        kv_merge_thaw(r, cmd, a);
    else if (r->command || r->command_entry)
        refuse(r, a, KV_WIRE_CONFLICT);
    else if (cmd->kind == KV_CMD_CONFIG || cmd->kind == KV_CMD_RECOVER)
        run_config(r, cmd, a, cmd->kind == KV_CMD_RECOVER);
    else if (cmd->kind == KV_CMD_TRANSFER)
        run_transfer(r, cmd, a);
    else if (cmd->kind == KV_CMD_SPLIT)
        run_split(r, cmd, a);
    else if (cmd->kind == KV_CMD_SETTLE)
        run_settle(r, cmd, a);
    else if (cmd->kind == KV_CMD_MERGE || cmd->kind == KV_CMD_FREEZE)
        run_merge(r, cmd, a);
    else
        refuse(r, a, KV_WIRE_INVALID);
}

static bool is_over(struct kv_replica *r, enum kv_wire_status *out)
{
    struct raft_status st = raft_status_get(&r->raft);
    struct kv_ask *a = r->command;
    if (a->command.kind == KV_CMD_FREEZE)
        return kv_merge_is_frozen(r, a, out);
    if (a->command.kind == KV_CMD_MERGE && kv_merge_is_over(r, out))
        return true;
    *out = KV_WIRE_OK;
    if (a->command.kind == KV_CMD_TRANSFER) {
        *out = st.role == RAFT_LEADER ? KV_WIRE_CONFLICT : KV_WIRE_OK;
        return st.transfer == 0;
    }
    if (a->command.kind == KV_CMD_SETTLE) {
        bool can = true, is = is_settled(r, &a->command.node[0], r->command_index, &can);
        *out = st.role != RAFT_LEADER ? KV_WIRE_NOT_LEADER /* ask the next one */
               : is                   ? KV_WIRE_OK
                                      : KV_WIRE_CONFLICT;
        return st.role != RAFT_LEADER || is || !can;
    }
    if (a->command.kind == KV_CMD_SPLIT && r->range.version.boundary != r->command_index)
        return true;
    if (a->command.kind == KV_CMD_SPLIT && !r->command_entry && st.role == RAFT_LEADER) {
        *out = KV_WIRE_CONFLICT; /* another command came first */
        return true;
    }
    if (a->command.kind != KV_CMD_SPLIT && a->command.kind != KV_CMD_MERGE &&
        r->applied >= r->command_index && !raft_config_get(&r->raft)->is_joint)
        return true;
    *out = KV_WIRE_UNKNOWN; /* another leader may finish it, or not */
    return st.role != RAFT_LEADER && a->command.kind != KV_CMD_RECOVER;
}

void kv_command_settle(struct kv_replica *r)
{
    enum kv_wire_status status = KV_WIRE_UNKNOWN;
    struct kv_ask *a = r->command;
    if (!a || (!r->is_closed && !is_over(r, &status)))
        return;
    r->command = NULL;
    refuse(r, a, status);
}
