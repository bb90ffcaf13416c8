/* A small world, played in every order.  SPDX-License-Identifier: Apache-2.0
 *
 * Three voters, a bag of messages, a disk each that writes when it is told to.  What can happen
 * next: any message arrives (from any place of the bag; a message that is never chosen is lost),
 * any disk comes round, any replica stands for election, the leader takes a proposal, a replica
 * crashes and comes back with what its disk had.  From some beginnings all of that is tried in all
 * orders up to a depth; a world that was met before (by fingerprint) with no less depth left is not
 * played again.  A raft cannot be copied, so a world is made anew from the choices that led to it.
 *
 * Checked after every step: what raft_check asserts; one leader a term; one vote a term and
 * replica, also across crashes; logs that agree in a term agree before it; what was applied
 * anywhere stays, is the same everywhere and is in every later leader's log; a commit is durable on
 * a majority. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "raft/raft_priv.h"
#include "unit/raft/suites.h"

#define NODES 3
#define BAG_MAX 12
#define LOG_MAX 8
#define TERM_MAX 8
#define PATH_MAX_LEN 64

struct disk {
    struct raft_hard hard;
    uint64_t last, term[LOG_MAX];
    uint64_t seq; /* durable up to here */
};

struct pending { /* one write */
    uint64_t seq, truncate, first, count, term[LOG_MAX];
    bool has_hard;
    struct raft_hard hard;
};

struct model {
    struct raft_conf conf;
    struct raft raft[NODES];
    struct raft_out out;
    struct disk disk[NODES];
    struct pending pending[NODES][LOG_MAX];
    size_t pending_count[NODES];
    struct buf bag[BAG_MAX];
    size_t bag_count;
    usec_t now;
    unsigned campaigns, proposals, crashes; /* left */
    uint64_t leader[TERM_MAX], vote[NODES][TERM_MAX];
    uint64_t applied, applied_term[LOG_MAX];
    unsigned lives;
};

struct seen {
    uint64_t print;
    unsigned left;
};

static struct seen *seen;
static size_t seen_cap, seen_count, step_count;

static void check_leader(struct model *m, unsigned n)
{
    struct raft_status s = raft_status_get(&m->raft[n]);
    ck_assert_uint_lt(s.term, TERM_MAX);
    if (s.role != RAFT_LEADER)
        return;
    ck_assert(m->leader[s.term] == 0 || m->leader[s.term] == s.id);
    m->leader[s.term] = s.id;
    for (uint64_t i = 1; i <= m->applied; i++) /* leader completeness */
        ck_assert(m->applied_term[i] > s.term ||
                  raft_term_at(&m->raft[n], i) == m->applied_term[i]);
}

static void check_logs(const struct model *m)
{
    for (unsigned a = 0; a < NODES; a++)
        for (unsigned b = 0; b < a; b++) {
            uint64_t la = m->raft[a].log.last, lb = m->raft[b].log.last;
            bool agree = false;
            for (uint64_t i = la < lb ? la : lb; i > 0; i--) {
                bool same = raft_term_at(&m->raft[a], i) == raft_term_at(&m->raft[b], i);
                ck_assert(!agree || same);
                agree = agree || same;
            }
        }
}

static void check_commit(const struct model *m, unsigned n)
{
    uint64_t commit = m->raft[n].log.commit;
    for (uint64_t i = 1; i <= commit; i++) {
        unsigned have = 0;
        for (unsigned k = 0; k < NODES; k++)
            have += m->disk[k].last >= i && m->disk[k].term[i] == raft_term_at(&m->raft[n], i);
        ck_assert_uint_ge(have, 2);
    }
}

static void note_vote(struct model *m, const struct raft_message *msg)
{
    uint64_t to = 0;
    if (msg->type == RAFT_MSG_VOTE)
        to = msg->from; /* who asks has voted for itself */
    if (msg->type == RAFT_MSG_VOTE_REPLY && !msg->is_refused)
        to = msg->to;
    if (to == 0)
        return;
    uint64_t *v = &m->vote[msg->from - 1][msg->term];
    ck_assert(*v == 0 || *v == to);
    *v = to;
}

static void note_persist(struct model *m, unsigned n, const struct raft_persist *p)
{
    if (p->seq == 0)
        return;
    ck_assert(p->reset == 0 && m->pending_count[n] < LOG_MAX);
    struct pending *w = &m->pending[n][m->pending_count[n]++];
    *w = (struct pending){p->seq, p->truncate, 0, p->entry_count, {0}, p->has_hard, p->hard};
    for (size_t i = 0; i < p->entry_count; i++) {
        w->first = w->first > 0 ? w->first : p->entry[i].index;
        w->term[i] = p->entry[i].term;
    }
}

static void step(struct model *m, unsigned n, struct raft_event ev)
{
    uint64_t applied = 0;
    ev.now = m->now;
    raft_out_reset(&m->out);
    raft_step(&m->raft[n], &ev, &m->out);
    raft_check(&m->raft[n]);
    step_count++;
    note_persist(m, n, &m->out.persist);
    for (size_t i = 0; i < m->out.message_count; i++) {
        note_vote(m, &m->out.message[i]);
        if (m->bag_count == BAG_MAX)
            continue; /* lost */
        m->bag[m->bag_count].n = 0;
        raft_message_encode(&m->out.message[i], &m->bag[m->bag_count++]);
    }
    for (size_t i = 0; i < m->out.apply_count; i++) {
        const struct raft_entry *e = &m->out.apply[i];
        ck_assert_uint_lt(e->index, LOG_MAX);
        ck_assert(e->index > m->applied || m->applied_term[e->index] == e->term);
        m->applied_term[e->index] = e->term;
        m->applied = e->index > m->applied ? e->index : m->applied;
        applied = e->index;
    }
    check_leader(m, n);
    check_logs(m);
    check_commit(m, n);
    if (applied > 0)
        step(m, n, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = applied});
}

static struct raft_config *voters(void)
{
    struct raft_member v[NODES];
    for (uint64_t i = 0; i < NODES; i++)
        v[i] = (struct raft_member){.id = i + 1, .role = RAFT_VOTER};
    return raft_config_new(v, NODES, 0);
}

static void boot(struct model *m, unsigned n)
{
    struct raft_run run[LOG_MAX];
    size_t runs = 0;
    const struct disk *d = &m->disk[n];
    struct raft_config *c = voters();
    for (uint64_t i = 1; i <= d->last; i++)
        if (runs == 0 || run[runs - 1].term != d->term[i])
            run[runs++] = (struct raft_run){i, d->term[i]};
    struct raft_boot b = {.id = n + 1,
                          .now = m->now,
                          .seed = ++m->lives,
                          .is_new = true,
                          .hard = d->hard,
                          .last = d->last,
                          .run = run,
                          .run_count = runs,
                          .config = c};
    b.hard.commit = 0; /* a hint only: nothing has been applied yet */
    raft_init(&m->raft[n], &m->conf, &b);
    mem_free(c);
}

static void model_init(struct model *m)
{
    *m = (struct model){.now = 1000 * USEC_SEC, .campaigns = 2, .proposals = 1, .crashes = 1};
    raft_conf_default(&m->conf);
    for (unsigned n = 0; n < NODES; n++)
        boot(m, n);
}

static void model_deinit(struct model *m)
{
    for (unsigned n = 0; n < NODES; n++)
        raft_deinit(&m->raft[n]);
    raft_out_deinit(&m->out);
    for (size_t i = 0; i < BAG_MAX; i++)
        buf_deinit(&m->bag[i]);
}

static void deliver(struct model *m, size_t i)
{
    struct raft_message_store store = {0};
    struct raft_message msg;
    struct buf b = m->bag[i];
    m->bag[i] = m->bag[--m->bag_count];
    m->bag[m->bag_count] = (struct buf){0};
    ck_assert_int_eq(raft_message_decode(buf_str(&b), &store, &msg), 0);
    step(m, (unsigned)msg.to - 1, (struct raft_event){.kind = RAFT_EV_RECV, .message = &msg});
    mem_free(store.entry);
    buf_deinit(&b);
}

static void persist(struct model *m, unsigned n)
{
    struct disk *d = &m->disk[n];
    for (size_t i = 0; i < m->pending_count[n]; i++) {
        const struct pending *w = &m->pending[n][i];
        if (w->truncate > 0 && d->last >= w->truncate)
            d->last = w->truncate - 1;
        for (uint64_t k = 0; k < w->count; k++) {
            ck_assert_uint_eq(w->first + k, d->last + 1);
            d->term[++d->last] = w->term[k];
        }
        d->hard = w->has_hard ? w->hard : d->hard;
        d->seq = w->seq;
    }
    m->pending_count[n] = 0;
    step(m, n, (struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = d->seq});
}

static void crash(struct model *m, unsigned n)
{
    raft_deinit(&m->raft[n]);
    m->pending_count[n] = 0;
    m->crashes--;
    boot(m, n);
}

/* Choices: a message of the bag; then for each replica its disk, a campaign, a proposal, a crash.
 */
static bool can(const struct model *m, unsigned c)
{
    unsigned n = c % NODES;
    if (c < BAG_MAX)
        return c < m->bag_count;
    switch ((c - BAG_MAX) / NODES) {
    case 0:
        return m->pending_count[n] > 0;
    case 1:
        return m->campaigns > 0 && m->raft[n].role != RAFT_LEADER;
    case 2:
        return m->proposals > 0 && m->raft[n].role == RAFT_LEADER;
    default:
        return m->crashes > 0;
    }
}

static void choose(struct model *m, unsigned c)
{
    static const struct str payload = {"p", 1};
    unsigned n = c % NODES;
    must(can(m, c));
    if (c < BAG_MAX) {
        deliver(m, c);
        return;
    }
    switch ((c - BAG_MAX) / NODES) {
    case 0:
        persist(m, n);
        break;
    case 1:
        m->campaigns--;
        m->now += 3 * m->conf.election_usec; /* every lease is over */
        step(m, n, (struct raft_event){.kind = RAFT_EV_CAMPAIGN});
        break;
    case 2:
        m->proposals--;
        step(m, n, (struct raft_event){.kind = RAFT_EV_PROPOSE, .propose = {&payload, 1}});
        break;
    default:
        crash(m, n);
    }
}
#define CHOICES (BAG_MAX + 4 * NODES)

static uint64_t mix(uint64_t h, uint64_t v)
{
    return hash_u64(h * 0x9e3779b97f4a7c15u + v);
}

static uint64_t print_node(const struct model *m, unsigned n)
{
    const struct raft *r = &m->raft[n];
    uint64_t h = mix(mix(mix(n, r->role), r->leader), (uint64_t)r->own_vote);
    h = mix(mix(mix(h, r->hard.term), r->hard.vote), r->log.commit);
    h = mix(mix(mix(h, r->log.last), r->log.stable), r->log.applied);
    h = mix(mix(mix(h, r->epoch), r->contact), r->held_count);
    for (uint64_t i = 1; i <= r->log.last; i++)
        h = mix(h, raft_term_at(r, i));
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peer[i];
        h = mix(mix(mix(mix(h, p->match), p->next), p->state), (uint64_t)p->vote);
        h = mix(mix(mix(h, p->flight_count), p->is_paused), p->contact);
    }
    h = mix(mix(mix(h, m->disk[n].hard.term), m->disk[n].hard.vote), m->disk[n].last);
    for (uint64_t i = 1; i <= m->disk[n].last; i++)
        h = mix(h, m->disk[n].term[i]);
    for (uint64_t t = 0; t < TERM_MAX; t++)
        h = mix(h, m->vote[n][t]);
    return mix(h, m->pending_count[n]);
}

static uint64_t print_of(const struct model *m)
{
    uint64_t h = 0, bag = 0;
    for (unsigned n = 0; n < NODES; n++)
        h = mix(h, print_node(m, n));
    for (size_t i = 0; i < m->bag_count; i++) /* the order does not matter */
        bag += hash_bytes(m->bag[i].p, m->bag[i].n, 1);
    h = mix(mix(mix(h, bag), m->now), m->applied);
    h = mix(mix(mix(h, m->campaigns), m->proposals), m->crashes);
    for (uint64_t t = 0; t < TERM_MAX; t++)
        h = mix(h, m->leader[t]);
    for (uint64_t i = 1; i <= m->applied; i++)
        h = mix(h, m->applied_term[i]);
    return h;
}

/* Was this world met with at least so much depth left? */
static bool is_known(uint64_t print, unsigned left)
{
    if (seen_count * 2 >= seen_cap) {
        struct seen *old = seen;
        size_t cap = seen_cap;
        seen_cap = cap > 0 ? cap * 2 : 1 << 16;
        seen = mem_new(seen_cap * sizeof *seen);
        for (size_t i = 0; i < cap; i++)
            for (size_t at = (size_t)old[i].print; old[i].print != 0; at++)
                if (seen[at & (seen_cap - 1)].print == 0) {
                    seen[at & (seen_cap - 1)] = old[i];
                    break;
                }
        mem_free(old);
    }
    size_t at = (size_t)print;
    while (seen[at & (seen_cap - 1)].print != 0 && seen[at & (seen_cap - 1)].print != print)
        at++;
    struct seen *s = &seen[at & (seen_cap - 1)];
    if (s->print == print && s->left >= left)
        return true;
    seen_count += s->print == 0;
    *s = (struct seen){print, left};
    return false;
}

static void model_make(struct model *m, const unsigned *path, unsigned len)
{
    model_init(m);
    for (unsigned i = 0; i < len; i++)
        choose(m, path[i]);
}

static void play(unsigned *path, unsigned len, unsigned depth)
{
    struct model m;
    bool is_open[CHOICES];
    model_make(&m, path, len);
    bool is_new = depth > 0 && !is_known(print_of(&m), depth);
    for (unsigned c = 0; c < CHOICES; c++)
        is_open[c] = is_new && can(&m, c);
    model_deinit(&m);
    for (unsigned c = 0; c < CHOICES; c++) {
        path[len] = c;
        if (is_open[c])
            play(path, len + 1, depth - 1);
    }
}

/* Goes on with the first disk that has something, or else the first message, `count` times. */
static unsigned settle(unsigned *path, unsigned len, unsigned count)
{
    struct model m;
    model_make(&m, path, len);
    for (unsigned c = BAG_MAX; count > 0 && c < 2 * BAG_MAX + NODES;) {
        unsigned next = c % (BAG_MAX + NODES);
        if (!can(&m, next)) {
            c++;
            continue;
        }
        choose(&m, next);
        path[len++] = next;
        count--;
        c = BAG_MAX;
    }
    model_deinit(&m);
    return len;
}

/* Beginnings: the first election at each of its stages, a leader with its entries on their way;
 * each also with the first one crashed there and another one standing. */
START_TEST(test_every_order)
{
    const char *deep = getenv("MODEL_DEPTH");
    unsigned depth = deep != NULL ? (unsigned)strtoul(deep, NULL, 10) : 4;
    depth = depth < 16 ? depth : 16;
    for (unsigned stage = 0; stage < 24; stage += 4) {
        unsigned path[PATH_MAX_LEN + 16] = {BAG_MAX + NODES}; /* the first one stands */
        unsigned len = settle(path, 1, stage);
        play(path, len, depth);
        path[len++] = BAG_MAX + 3 * NODES; /* and crashes; the second one stands */
        path[len++] = BAG_MAX + NODES + 1;
        for (unsigned more = 0; more < 6; more += 3)
            play(path, settle(path, len, more), depth);
    }
    ck_assert_uint_gt(seen_count, 1000);
    if (deep != NULL)
        printf("%zu worlds, %zu steps\n", seen_count, step_count);
    seen = mem_free(seen);
    seen_cap = seen_count = 0;
}
END_TEST

Suite *suite_model(void)
{
    Suite *s = suite_create("raft model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, test_every_order);
    suite_add_tcase(s, t);
    return s;
}
