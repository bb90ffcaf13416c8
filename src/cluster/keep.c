/* What survives a restart: the shared rows, and who the others were.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * shared.rows: "BLNKROW1", then per row u32 length and a record, then the CRC-32C of all before it.
 * peers: a line "address:port" per member that had not left; when all have left, those of before.
 * Written whole, by the worker, at most one write of each at a time; shared rows on every change,
 * peers a second after a change and at most every 10 s, and at the end. Never: refuses to start
 * over a damaged file: it says so and goes on without. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"
#include "cluster/record_priv.h"

#define SHARED 0
#define PEERS 1
#define KEYRING 2
#define PEERS_EVERY (10 * USEC_SEC)
#define PEERS_SOON USEC_SEC /* who has no seeds and ran for moments must find back, too */
#define FILE_MAX ((size_t)64 << 20)
#define PEERS_MAX 256

/* --- encoding --- */

static void fill_shared(struct cluster *c, struct buf *b)
{
    const struct gossip_table *t = gossip_table_of(c->gossip);
    cluster_record_rows_begin(b);
    size_t at = 0;
    for (const struct gossip_row *r; (r = gossip_table_next_shared(t, &at)) != NULL;)
        cluster_record_row_put(b, r);
    cluster_record_rows_end(b);
}

static void fill_peers(struct cluster *c, struct buf *b)
{
    size_t at = 0;
    unsigned count = 0;
    for (const struct gossip_member *m; (m = gossip_member_next(c->gossip, &at)) != NULL;) {
        struct net_address a;
        char text[NET_ADDRESS_TEXT];
        if (m == gossip_self(c->gossip) || m->state == GOSSIP_ST_LEFT || ++count > PEERS_MAX)
            continue;
        cluster_addr_to(&m->addr, &a);
        (void)net_address_format(&a, text);
        buf_printf(b, "%s\n", text);
    }
}

/* --- writing --- */

static void work(struct net_worker_job *job)
{
    struct keep *k = container_of(job, struct keep, job);
    k->result = cluster_file_write(k->c->data_path, k->name, buf_str(&k->content));
}

static void begin(struct keep *k);

static void done(struct net_worker_job *job)
{
    struct keep *k = container_of(job, struct keep, job);
    k->is_busy = false;
    if (!job->is_cancelled && k->result != 0)
        log_line(k->c->log, LOG_LEVEL_ERROR, "cluster.file.failed", "%s/%s cannot be written: %s",
                 k->c->data_path, k->name, strerrordesc_np(-k->result));
    if (k->is_dirty && !job->is_cancelled)
        begin(k);
}

static void begin(struct keep *k)
{
    struct cluster *c = k->c;
    if (c->data_path == NULL || k->is_busy)
        return;
    k->is_dirty = false;
    k->content.n = 0;
    if (k == &c->keep[SHARED])
        fill_shared(c, &k->content);
    else if (k == &c->keep[PEERS])
        fill_peers(c, &k->content);
    else
        cluster_keyring_fill(&c->keyring, &k->content);
    if (k == &c->keep[PEERS] && k->content.n == 0)
        return; /* those who left last are whom to ask after a restart */
    if (c->worker != NULL) {
        k->is_busy = net_worker_push(c->worker, c->home, &k->job, work, done) == 0;
        k->is_dirty = !k->is_busy; /* a full pool: with the next timer */
        return;
    }
    work(&k->job);
    done(&k->job);
}

static void on_timer(void *arg, usec_t now)
{
    struct cluster *c = arg;
    for (unsigned i = 0; i < countof(c->keep); i++)
        if (c->keep[i].is_dirty)
            begin(&c->keep[i]);
    c->keep_next = now + PEERS_EVERY;
    net_timer_set(c->home, &c->keep_timer, c->keep_next);
}

void cluster_keep_shared(struct cluster *c)
{
    c->keep[SHARED].is_dirty = true;
    begin(&c->keep[SHARED]);
}

void cluster_keep_peers(struct cluster *c)
{
    usec_t at = net_loop_now(c->home) + PEERS_SOON;
    if (!c->keep[PEERS].is_dirty && c->data_path != NULL)
        net_timer_set(c->home, &c->keep_timer, at > c->keep_next ? at : c->keep_next);
    c->keep[PEERS].is_dirty = true; /* written by the timer */
}

void cluster_keep_keyring(struct cluster *c)
{
    c->keep[KEYRING].is_dirty = true;
    begin(&c->keep[KEYRING]);
}

/* --- reading --- */

static void load_shared(struct cluster *c)
{
    struct buf b = {0};
    struct codec_cursor in = codec_cursor_of(STR(""));
    struct gossip_event ev;
    int r = cluster_file_read(c->data_path, c->keep[SHARED].name, FILE_MAX, &b);
    if (r == 0 && !cluster_record_rows_open(buf_str(&b), &in)) {
        in = codec_cursor_of(STR(""));
        r = -EINVAL;
    }
    if (r != 0 && r != -ENOENT)
        log_line(c->log, LOG_LEVEL_ERROR, "cluster.file.damaged", "%s/%s is not used: %s",
                 c->data_path, c->keep[SHARED].name,
                 r == -EINVAL ? "it is damaged" : strerrordesc_np(-r));
    while (cluster_record_row_next(&in, &ev))
        cluster_step(c, &ev);
    buf_deinit(&b);
}

static void load_peers(struct cluster *c)
{
    struct buf b = {0};
    struct str line;
    if (cluster_file_read(c->data_path, c->keep[PEERS].name, 1 << 20, &b) == 0) {
        struct str text = buf_str(&b);
        c->seeds.cached = mem_new(PEERS_MAX * sizeof *c->seeds.cached);
        while (str_next(&text, '\n', &line) && c->seeds.cached_count < PEERS_MAX) {
            struct net_address a;
            if (line.n > 0 && net_address_parse(line, &a) == 0)
                cluster_addr_of(&a, &c->seeds.cached[c->seeds.cached_count++]);
        }
    }
    buf_deinit(&b);
}

void cluster_keep_load(struct cluster *c)
{
    c->keep[SHARED].name = "shared.rows";
    c->keep[PEERS].name = "peers";
    c->keep[KEYRING].name = "keyring";
    for (unsigned i = 0; i < countof(c->keep); i++)
        c->keep[i].c = c;
    net_timer_init(&c->keep_timer, on_timer, c);
    if (c->data_path == NULL)
        return;
    net_timer_set(c->home, &c->keep_timer, net_loop_now(c->home) + PEERS_EVERY);
    load_peers(c);
    load_shared(c);
    c->keep[SHARED].is_dirty = false;
}

void cluster_keep_deinit(struct cluster *c)
{
    net_timer_del(c->home, &c->keep_timer);
    c->worker = NULL; /* nobody waits for a worker any more */
    if (c->keep[PEERS].is_dirty)
        begin(&c->keep[PEERS]);
    for (unsigned i = 0; i < countof(c->keep); i++)
        buf_deinit(&c->keep[i].content);
}
