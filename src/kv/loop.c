/* All of kv on one loop: the end of a turn, and completions of the disk.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What a turn has gathered leaves at its end in this order: calls to their ranges, proposals to
 *    raft, rows to the
 *    engine, one batch per durability to the log, one frame per peer, answers to callers.
 * 2. A batch of the log that fails is the end of the process: what was promised cannot be kept
 *    (engine/log.h).
 * 3. Completions come in the order of submission, so the largest tag says all. */
#include <unistd.h>

#include "kv/kv_priv.h"

static void flush(void *arg);
static void wal_done(struct net_loop *here, struct net_mail *mail);

int kv_loop_init(struct kv_loop *l, struct kv *kv, unsigned index)
{
    l->kv = kv;
    l->index = index;
    l->loop = kv->conf.loop[index];
    l->seat = kv->conf.seat ? kv->conf.seat[index] : NULL;
    l->link = l->seat ? cluster_seat_link(l->seat) : NULL;
    rng_init(&l->rng, hash_u64(kv->conf.seed + index));
    l->life = rng_u64(&l->rng) | 1;
    struct list *heads[] = {&l->replicas,     &l->gathering, &l->stepped,  &l->open_clients,
                            &l->done_bundles, &l->done_asks, &l->to_close, &l->state_jobs,
                            &l->scans,        &l->peers};
    for (size_t i = 0; i < countof(heads); i++)
        list_init(heads[i]);
    net_defer_init(&l->flush, flush, l);
    l->wal_done = mem_new(sizeof *l->wal_done);
    l->wal_done->loop = l;
    return 0;
}

void kv_loop_deinit(struct kv_loop *l)
{
    net_defer_del(&l->flush);
    if (l->wal_done && atomic_load_explicit(&l->wal_done->is_posted, memory_order_acquire))
        l->wal_done->loop = NULL; /* the loop, which stopped, still holds it */
    else
        mem_free(l->wal_done);
    raft_out_deinit(&l->out);
    mem_free(l->messages.entry);
    range_out_deinit(&l->machine_out);
    buf_deinit(&l->scratch);
    for (int i = 0; i < 2; i++) {
        l->wal[i] = engine_log_batch_free(l->wal[i]);
        l->wal_gather[i] = mem_free(l->wal_gather[i]);
    }
    l->wal_wait = mem_free(l->wal_wait);
    map_deinit(&l->replica);
}

void kv_loop_wake(struct kv_loop *l)
{
    net_loop_defer(l->loop, &l->flush);
}

usec_t kv_loop_now(const struct kv_loop *l)
{
    return net_loop_now(l->loop);
}

uint64_t kv_loop_hlc(struct kv_loop *l)
{
    return hlc_now(&l->hlc, net_loop_wall(l->loop));
}

/* ---- the log --------------------------------------------------------------------------------- */

struct engine_log_batch *kv_loop_wal(struct kv_loop *l, bool is_synced)
{
    if (!l->wal[is_synced])
        l->wal[is_synced] = engine_log_batch_new();
    kv_loop_wake(l);
    return l->wal[is_synced];
}

void kv_loop_wal_wait(struct kv_loop *l, bool is_synced, struct kv_replica *r, uint64_t seq)
{
    size_t n = l->wal_gather_count[is_synced];
    l->wal_gather[is_synced] = mem_grow(l->wal_gather[is_synced], &l->wal_gather_cap[is_synced],
                                        n + 1, sizeof **l->wal_gather);
    l->wal_gather[is_synced][n] = (struct kv_wal_wait){r, seq, 0};
    l->wal_gather_count[is_synced]++;
    r->pins++;
}

static void wal_wait_push(struct kv_loop *l, struct kv_wal_wait w)
{
    if (l->wal_wait_count == l->wal_wait_cap) {
        size_t old = l->wal_wait_cap, cap = old ? old * 2 : 64;
        struct kv_wal_wait *grown = mem_alloc(cap * sizeof *grown);
        for (size_t i = 0; i < old; i++)
            grown[i] = l->wal_wait[(l->wal_wait_at + i) & (old - 1)];
        mem_free(l->wal_wait);
        l->wal_wait = grown;
        l->wal_wait_cap = cap;
        l->wal_wait_at = 0;
    }
    l->wal_wait[(l->wal_wait_at + l->wal_wait_count++) & (l->wal_wait_cap - 1)] = w;
}

static void wal_flush(struct kv_loop *l)
{
    for (int i = 0; i < 2; i++) {
        if (!l->wal[i])
            continue;
        struct engine_log_batch *b = l->wal[i];
        l->wal[i] = NULL;
        uint64_t tag = ++l->wal_tag;
        for (size_t k = 0; k < l->wal_gather_count[i]; k++) {
            struct kv_wal_wait w = l->wal_gather[i][k];
            w.tag = tag;
            wal_wait_push(l, w);
        }
        l->wal_gather_count[i] = 0;
        engine_log_submit(l->kv->log, b, i == 1, l, tag);
    }
}

void kv_log_done(void *arg, const struct engine_log_done *done, size_t count)
{
    struct kv *kv = arg;
    for (size_t i = 0; i < count; i++) {
        if (done[i].result < 0 && !kv->is_stopping) {
            log_line(kv->conf.log, LOG_LEVEL_ERROR, "kv.log.failed",
                     "the Raft log cannot be written (error %d): this node stops, the others go on",
                     -done[i].result);
            must(done[i].result == 0);
        }
        struct kv_loop *l = done[i].owner;
        if (!l || kv->is_stopping)
            continue;
        atomic_store_explicit(&l->wal_done->tag, done[i].tag, memory_order_release);
        if (!atomic_exchange_explicit(&l->wal_done->is_posted, true, memory_order_acq_rel))
            net_loop_post(NULL, l->loop, &l->wal_done->mail, wal_done);
    }
}

static void wal_done(struct net_loop *here, struct net_mail *mail)
{
    struct kv_disk_mail *m = container_of(mail, struct kv_disk_mail, mail);
    struct kv_loop *l = m->loop;
    struct list ready;
    (void)here;
    if (!l) { /* kv is gone */
        mem_free(m);
        return;
    }
    list_init(&ready);
    atomic_store_explicit(&m->is_posted, false, memory_order_release);
    uint64_t tag = atomic_load_explicit(&m->tag, memory_order_acquire);
    while (l->wal_wait_count > 0 && l->wal_wait[l->wal_wait_at].tag <= tag) {
        struct kv_wal_wait w = l->wal_wait[l->wal_wait_at];
        l->wal_wait_at = (l->wal_wait_at + 1) & (l->wal_wait_cap - 1);
        l->wal_wait_count--;
        w.replica->persisted = w.seq;
        list_del(&w.replica->persisted_link);
        list_push_back(&ready, &w.replica->persisted_link);
        w.replica->pins--;
    }
    for (struct list *x; (x = list_pop_front(&ready));) {
        struct kv_replica *r = container_of(x, struct kv_replica, persisted_link);
        if (r->is_closed)
            kv_replica_reap(r);
        else
            kv_replica_step(r,
                            &(struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = r->persisted});
    }
}

/* ---- the rows -------------------------------------------------------------------------------- */

static void job_begin(struct kv_store *s, struct kv_state_job *job)
{
    job->store = s;
    job->view = NULL;
    atomic_store_explicit(&job->is_done, false, memory_order_relaxed);
    list_init(&job->link);
    list_push_back(&job->loop->state_jobs, &job->link);
}

void kv_state_view(struct kv_store *s, struct kv_state_job *job)
{
    job_begin(s, job);
    engine_state_view(s->state, job, 0);
}

void kv_state_sync(struct kv_store *s, struct kv_state_job *job)
{
    job_begin(s, job);
    engine_state_sync(s->state, job, 0);
}

void kv_state_write(struct kv_store *s, struct engine_batch *b, struct kv_state_job *job)
{
    job_begin(s, job);
    engine_state_write(s->state, b, job, 0);
}

/* The loops have stopped: what the disk still answers is thrown away here. */
void kv_loop_end_jobs(struct kv_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->state_jobs));) {
        struct kv_state_job *job = container_of(x, struct kv_state_job, link);
        while (!atomic_load_explicit(&job->is_done, memory_order_acquire))
            if (!l->kv->conf.is_inline)
                usleep(1000);
            else
                (void)engine_state_step(job->store->state);
        if (job->view)
            job->view = engine_view_free(job->store->state, job->view);
        if (job->drop && !job->is_posted) /* else a loop that stopped still holds its mail */
            job->drop(job);
    }
}

struct engine_batch *kv_client_rows(struct kv_client *c)
{
    if (!c->rows) {
        c->rows = engine_batch_new();
        list_push_back(&c->loop->stepped, &c->step_link);
        kv_loop_wake(c->loop);
    }
    return c->rows;
}

void kv_client_rows_flush(struct kv_client *c)
{
    for (struct list *x; (x = list_pop_front(&c->dirty));) {
        struct kv_replica *r = container_of(x, struct kv_replica, dirty_link);
        if (r->is_meta_dirty)
            kv_meta_put(r, kv_client_rows(c));
        kv_meta_put_applied(r, kv_client_rows(c));
    }
    if (!c->rows)
        return;
    engine_state_write(c->store->state, c->rows, NULL, 0);
    c->rows = NULL;
    list_del(&c->step_link);
    while (c->views) {
        struct kv_state_job *job = c->views;
        c->views = job->next;
        if (job->asked)
            job->asked(job);
        if (job->is_sync)
            kv_state_sync(c->store, job);
        else
            kv_state_view(c->store, job);
    }
}

static void state_job_done(struct net_loop *here, struct net_mail *mail)
{
    struct kv_state_job *job = container_of(mail, struct kv_state_job, mail);
    (void)here;
    list_del(&job->link);
    job->fn(job);
}

void kv_state_done(void *arg, const struct engine_state_done *done, size_t count)
{
    struct kv_store *s = arg;
    for (size_t i = 0; i < count; i++) {
        if (done[i].result < 0) {
            log_line(
                s->kv->conf.log, LOG_LEVEL_ERROR, "kv.state.failed",
                "the rows of %s cannot be written (error %d): this node stops, the others go on",
                s->name, -done[i].result);
            must(done[i].result == 0);
        }
        struct kv_state_job *job = done[i].owner;
        if (!job)
            continue;
        job->result = done[i].result;
        job->view = done[i].view;
        job->is_posted = !s->kv->is_stopping;
        bool is_posted = job->is_posted;
        atomic_store_explicit(&job->is_done, true, memory_order_release);
        if (is_posted)
            net_loop_post(NULL, job->loop->loop, &job->mail, state_job_done);
    }
}

/* ---- the end of a turn ----------------------------------------------------------------------- */

static void flush_calls(struct kv_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->open_clients));)
        kv_client_flush(container_of(x, struct kv_client, open_link));
    for (struct list *x; (x = list_pop_front(&l->gathering));)
        kv_replica_propose(container_of(x, struct kv_replica, gather_link));
}

static void flush_rows(struct kv_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->stepped));)
        kv_client_rows_flush(container_of(x, struct kv_client, step_link));
    for (struct list *x; (x = list_pop_front(&l->scans));)
        kv_scan_flush(container_of(x, struct kv_client, scan_link));
}

static void flush_answers(struct kv_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->done_bundles));)
        kv_bundle_deliver(container_of(x, struct kv_bundle, link));
    for (struct list *x; (x = list_pop_front(&l->done_asks));)
        kv_ask_deliver(container_of(x, struct kv_ask, link));
}

static void flush(void *arg)
{
    struct kv_loop *l = arg;
    must(!l->is_stepping);
    flush_calls(l);
    wal_flush(l); /* first of all: the disk works while we do the rest */
    flush_rows(l);
    kv_peer_flush(l);
    flush_answers(l);
    for (struct list *x; (x = list_pop_front(&l->to_close));)
        kv_replica_reap(container_of(x, struct kv_replica, close_link));
    /* callbacks may have asked for more: it runs again in this turn */
}

void kv_loop_end_turn(struct kv_loop *l)
{
    for (int i = 0;
         i < 100 && (i == 0 || !list_empty(&l->done_bundles) || !list_empty(&l->to_close)); i++)
        flush(l);
    net_defer_del(&l->flush);
}

void kv_loop_end_pins(struct kv_loop *l)
{
    while (l->wal_wait_count > 0) {
        struct kv_replica *r = l->wal_wait[l->wal_wait_at].replica;
        l->wal_wait_at = (l->wal_wait_at + 1) & (l->wal_wait_cap - 1);
        l->wal_wait_count--;
        if (--r->pins == 0 && r->is_closed)
            kv_replica_reap(r);
    }
}
