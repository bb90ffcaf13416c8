/* One range becomes two.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The new bounds of the left half, the existence of the right one and the applied index are one
 *    batch of rows.
 *    The right half says nothing to anybody before that batch is on the disk for good: what it then
 *    promises must not be forgotten by a crash that takes the split back.
 * 2. No row moves: both halves keep their spaces, each reads its own part.
 * 3. The machine is cut in memory if it can be (range/machine.h): the left half goes on at once,
 * and the right one is ready when it is born.  Else, until both machines are loaded anew, neither
 * is ready; what the left one's log brings meanwhile is kept. */
#include "kv/kv_priv.h"

struct born { /* waits for the disk, then travels to the loop of the right half */
    struct net_mail mail;
    struct kv_state_job durable;
    struct kv_loop *from;
    struct kv_client *client;
    struct kv_birth birth;
    struct range range;
    struct raft_config *config;
    bool is_leader;
};

static void right_loaded(struct kv_replica *r)
{
    if (r->is_eager)
        kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_CAMPAIGN});
}

static void born_free(struct born *b)
{
    if (b->birth.machine)
        b->client->store->conf.ops->free(b->birth.machine);
    kv_parts_free(&b->birth.parts);
    range_deinit(&b->range);
    mem_free(b->config);
    mem_free(b);
}

static void on_born(struct net_loop *here, struct net_mail *mail)
{
    struct born *b = container_of(mail, struct born, mail);
    (void)here;
    struct kv_replica *is_here =
        kv_replica_find(b->client->loop, kv_tag(b->client->store, b->range.id));
    if (!is_here &&
        kv_meta_is_tombstone(b->client, kv_tag(b->client->store, b->range.id), b->birth.id))
        kv_meta_wipe_born(b->client, b->birth.group, &b->birth.parts, &b->range.bounds);
    else if (is_here)
        kv_meta_drop_born(is_here, b->birth.group, &b->birth.parts, &b->range.bounds);
    else {
        struct kv_replica *r = kv_meta_born(b->client, &b->birth);
        r->is_eager = b->is_leader;
        r->born_at = kv_loop_now(r->loop);
        if (b->birth.machine)
            kv_load_none(r, right_loaded);
        else
            kv_load_begin(r, right_loaded);
        b->birth.machine = NULL;
    }
    born_free(b);
}

static void on_durable(struct kv_state_job *job)
{
    struct born *b = container_of(job, struct born, durable);
    net_loop_post(b->from->loop, b->client->loop->loop, &b->mail, on_born);
}

static void on_drop(struct kv_state_job *job)
{
    born_free(container_of(job, struct born, durable));
}

/* The right half of the machine; NULL: both are to be loaded. */
static void *cut(struct kv_replica *r, const struct range *right)
{
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    void *machine = ops->split ? ops->split(r->machine, &r->range.bounds, &right->bounds) : NULL;
    if (!machine) {
        kv_load_begin(r, NULL);
        return NULL;
    }
    r->is_weighed = false; /* other rows than before */
    kv_fresh_end(r);
    return machine;
}

void kv_split_begin(struct kv_replica *r, const struct range *right)
{
    struct kv *kv = r->loop->kv;
    struct kv_store *s = r->home->store;
    struct born *b = mem_new(sizeof *b);
    uint64_t group = kv_meta_group_next(kv);
    struct kv_parts parts = kv_parts_cut(&r->parts, right->bounds.start);
    kv_meta_put_born(r, right, &parts, group);
    b->client = &s->client[kv_shard(s, right->id) % kv->loop_count];
    b->range = *right;
    b->range.bounds = range_bounds_dup(&right->bounds);
    b->config = raft_config_dup(r->config);
    b->is_leader = r->is_leader_told;
    b->birth = (struct kv_birth){.group = group,
                                 .id = r->id,
                                 .range_id = right->id,
                                 .range = &b->range,
                                 .config = b->config,
                                 .parts = parts,
                                 .machine = cut(r, right)};
    b->from = r->loop;
    b->durable.loop = r->loop;
    b->durable.fn = on_durable;
    b->durable.is_sync = true;
    b->durable.drop = on_drop;
    kv_load_view_soon(r, &b->durable);
}
