/* The world of a Raft story.  SPDX-License-Identifier: Apache-2.0 */
#include "golden/lib/raft_story.h"

#include <stdio.h>

#include "base/mem.h"

#define U(x) ((unsigned long long)(x))

struct story_node *story_node(struct story *s, uint64_t id)
{
    for (size_t i = 0; i < STORY_NODES; i++)
        if (s->node[i].id == id && id != 0)
            return &s->node[i];
    return NULL;
}

size_t story_place(const struct story *s, const struct story_node *n)
{
    return (size_t)(n - s->node);
}

/* ---- telling ---- */

void story_tell_config(struct story *s, const struct raft_config *c)
{
    buf_printf(&s->trace, "{");
    for (size_t i = 0; i < c->count; i++) {
        uint8_t r = c->member[i].role;
        buf_printf(&s->trace, "%s%s%s%s%s%llu", i ? " " : "", r & RAFT_VOTER ? "v" : "",
                   r & RAFT_LEARNER ? "l" : "", r & RAFT_NEXT_VOTER ? ">v" : "",
                   r & RAFT_NEXT_LEARNER ? ">l" : "", U(c->member[i].id));
    }
    buf_printf(&s->trace, "}%s", c->is_joint ? " joint" : "");
}

static void tell_entry(struct story *s, const struct raft_entry *e)
{
    buf_printf(&s->trace, " %llu/%llu", U(e->index), U(e->term));
    if (e->type == RAFT_ENTRY_DATA)
        buf_printf(&s->trace, "=%.*s", STR_ARG(e->payload));
    if (e->type == RAFT_ENTRY_CONFIG) {
        struct raft_config *c = raft_config_decode(e->payload);
        must(c != NULL);
        story_tell_config(s, c);
        mem_free(c);
    }
}

void story_tell_message(struct story *s, const struct raft_message *m)
{
    struct buf *t = &s->trace;
    buf_printf(t, "%llu>%llu %s t%llu", U(m->from), U(m->to), raft_message_name(m->type),
               U(m->term));
    if (m->is_refused)
        buf_printf(t, " refused");
    switch ((enum raft_message_type)m->type) {
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE:
        buf_printf(t, " last %llu/%llu", U(m->index), U(m->log_term));
        if (m->epoch != 0)
            buf_printf(t, " asked for, epoch %llu", U(m->epoch));
        break;
    case RAFT_MSG_APPEND:
        buf_printf(t, " after %llu/%llu commit %llu:", U(m->index), U(m->log_term), U(m->commit));
        for (uint32_t i = 0; i < m->entry_count; i++)
            tell_entry(s, &m->entry[i]);
        break;
    case RAFT_MSG_APPEND_REPLY:
        buf_printf(t, " %llu", U(m->index));
        if (m->is_refused)
            buf_printf(t, " hint %llu/%llu", U(m->hint), U(m->hint_term));
        break;
    case RAFT_MSG_HEARTBEAT:
        buf_printf(t, " commit %llu round %llu epoch %llu%s", U(m->commit), U(m->round),
                   U(m->epoch), m->is_quiet ? " quiet" : "");
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        buf_printf(t, " round %llu last %llu", U(m->round), U(m->hint));
        break;
    case RAFT_MSG_COMMIT:
        buf_printf(t, " %llu", U(m->commit));
        break;
    case RAFT_MSG_SNAPSHOT:
        buf_printf(t, " %llu/%llu", U(m->index), U(m->log_term));
        break;
    case RAFT_MSG_TIMEOUT_NOW:
        buf_printf(t, " epoch %llu", U(m->epoch));
        break;
    case RAFT_MSG_READ_REPLY:
    case RAFT_MSG_REMOVED:
        buf_printf(t, " %llu", U(m->index));
        break;
    case RAFT_MSG_PREVOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
    case RAFT_MSG_READ:
        break;
    }
    buf_printf(t, "\n");
}

static void tell_persist(struct story *s, const struct story_node *n, const struct raft_persist *p)
{
    struct buf *t = &s->trace;
    buf_printf(t, "%llu: write %llu:", U(n->id), U(p->seq));
    if (p->reset != 0)
        buf_printf(t, " reset %llu/%llu", U(p->reset), U(p->reset_term));
    if (p->compact != 0)
        buf_printf(t, " compact %llu/%llu", U(p->compact), U(p->compact_term));
    if (p->truncate != 0)
        buf_printf(t, " void from %llu", U(p->truncate));
    for (size_t i = 0; i < p->entry_count; i++)
        tell_entry(s, &p->entry[i]);
    if (p->has_hard)
        buf_printf(t, " term %llu vote %llu", U(p->hard.term), U(p->hard.vote));
    buf_printf(t, "\n");
}

static const char *outcome_name(int outcome)
{
    static const char *const name[] = {"ok",      "not leader", "full",    "too big", "transfer",
                                       "pending", "behind",     "invalid", "timeout", "stale"};
    return name[outcome];
}

const char *story_role(enum raft_role r)
{
    static const char *const name[] = {"follower", "precandidate", "candidate", "leader"};
    return name[r];
}

/* ---- disk ---- */

static void store(struct story_node *n, struct story_write *w)
{
    const struct raft_persist *p = &w->p;
    if (p->reset != 0) {
        n->count = 0;
        n->base = p->reset;
        n->base_term = p->reset_term;
    }
    if (p->compact > n->base) {
        size_t drop = (size_t)(p->compact - n->base);
        n->count -= drop;
        memmove(n->disk, n->disk + drop, n->count * sizeof *n->disk);
        n->base = p->compact;
        n->base_term = p->compact_term;
    }
    if (p->truncate != 0)
        n->count = (size_t)(p->truncate - n->base - 1);
    for (size_t i = 0; i < p->entry_count; i++) {
        n->disk = mem_grow(n->disk, &n->cap, n->count + 1, sizeof *n->disk);
        n->disk[n->count++] = w->entry[i];
    }
    if (p->has_hard)
        n->hard = p->hard;
}

static void submit(struct story *s, struct story_node *n, const struct raft_persist *p)
{
    struct story_write *w = mem_new(sizeof *w);
    w->p = *p;
    w->entry = mem_new((p->entry_count + 1) * sizeof *w->entry);
    for (size_t i = 0; i < p->entry_count; i++)
        w->entry[i] = (struct story_entry){p->entry[i].term, p->entry[i].type,
                                           arena_str(&s->payloads, p->entry[i].payload)};
    list_push_back(&n->writes, &w->link);
}

bool story_disk(struct story *s, struct story_node *n, size_t count)
{
    uint64_t seq = 0;
    while (count-- > 0 && !list_empty(&n->writes)) {
        struct story_write *w = container_of(list_pop_front(&n->writes), struct story_write, link);
        store(n, w);
        seq = w->p.seq;
        mem_free(w->entry);
        mem_free(w);
    }
    if (seq != 0)
        story_step(s, n, (struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = seq});
    return seq != 0;
}

/* ---- the host's turn ---- */

void story_send(struct story *s, const struct raft_message *m)
{
    const struct story_node *from = story_node(s, m->from), *to = story_node(s, m->to);
    bool is_beat = m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_HEARTBEAT_REPLY;
    if (!s->is_calm || !is_beat || m->is_quiet)
        story_tell_message(s, m);
    if (to == NULL || (from != NULL && s->cut[story_place(s, from)][story_place(s, to)]))
        return;
    struct story_line *l = mem_new(sizeof *l);
    l->type = m->type;
    l->from = m->from;
    l->to = m->to;
    raft_message_encode(m, &l->record);
    list_push_back(&s->lines, &l->link);
}

static void fetch(struct story *s, struct story_node *n, struct raft_fetch f)
{
    struct raft_entry e[64];
    size_t count = 0;
    for (uint64_t i = f.first; i <= f.last && i > n->base && count < countof(e); i++, count++) {
        const struct story_entry *x = &n->disk[i - n->base - 1];
        e[count] = (struct raft_entry){i, x->term, x->payload, x->type};
    }
    buf_printf(&s->trace, "%llu: reads back %llu..%llu for %llu\n", U(n->id), U(f.first), U(f.last),
               U(f.peer));
    struct raft_event ev = {.kind = RAFT_EV_FETCHED};
    ev.fetched = (struct raft_fetched){f.peer, f.first, e, count};
    story_step(s, n, ev);
}

static void apply(struct story *s, struct story_node *n, const struct raft_out *out)
{
    if (out->apply_count == 0)
        return;
    buf_printf(&s->trace, "%llu: apply", U(n->id));
    for (size_t i = 0; i < out->apply_count; i++) {
        const struct raft_entry *e = &out->apply[i];
        tell_entry(s, e);
        n->applied = n->handed = e->index;
        n->applied_term = e->term;
        if (e->type == RAFT_ENTRY_CONFIG) {
            mem_free(n->config);
            n->config = raft_config_decode(e->payload);
        }
    }
    buf_printf(&s->trace, "\n");
}

static void tell_changes(struct story *s, struct story_node *n, const struct raft_out *out,
                         bool is_asked)
{
    struct buf *t = &s->trace;
    if (out->outcome != RAFT_OK)
        buf_printf(t, "%llu: %s\n", U(n->id), outcome_name(out->outcome));
    else if (is_asked && out->index != 0)
        buf_printf(t, "%llu: takes it at %llu/%llu\n", U(n->id), U(out->index), U(out->term));
    if (out->changed & RAFT_CH_ROLE)
        buf_printf(t, "%llu: %s in term %llu, leader %llu\n", U(n->id), story_role(n->raft.role),
                   U(n->raft.hard.term), U(n->raft.leader));
    if (out->changed & RAFT_CH_CONFIG) {
        buf_printf(t, "%llu: members ", U(n->id));
        story_tell_config(s, raft_config_get(&n->raft));
        buf_printf(t, "\n");
    }
    if (out->changed & RAFT_CH_QUIET)
        buf_printf(t, "%llu: %s\n", U(n->id), n->raft.is_quiet ? "goes quiet" : "wakes");
    if (out->changed & RAFT_CH_REMOVED)
        buf_printf(t, "%llu: is removed\n", U(n->id));
    if (out->changed & RAFT_CH_TRANSFER)
        buf_printf(t, "%llu: the transfer has ended\n", U(n->id));
}

static void tell_rest(struct story *s, struct story_node *n, const struct raft_out *out)
{
    struct buf *t = &s->trace;
    for (size_t i = 0; i < out->read_count; i++)
        buf_printf(t, "%llu: read %llu: %s, index %llu\n", U(n->id), U(out->read[i].ctx),
                   outcome_name(out->read[i].outcome), U(out->read[i].index));
    for (size_t i = 0; i < out->snapshot_count; i++)
        buf_printf(t, "%llu: %llu needs a snapshot\n", U(n->id), U(out->snapshot[i]));
    if (out->install.from != 0) {
        buf_printf(t, "%llu: wants the snapshot %llu/%llu of %llu\n", U(n->id),
                   U(out->install.index), U(out->install.term), U(out->install.from));
        n->install = out->install;
        n->install_config.n = 0;
        buf_put_str(&n->install_config, out->install.config);
    }
}

void story_step(struct story *s, struct story_node *n, struct raft_event ev)
{
    struct raft_out *out = &n->out;
    if (!n->is_up)
        return;
    ev.now = s->now;
    raft_out_reset(out);
    raft_step(&n->raft, &ev, out);
    raft_check(&n->raft);
    tell_changes(s, n, out, ev.kind != RAFT_EV_RECV && ev.kind != RAFT_EV_TICK);
    if (out->persist.seq != 0) {
        tell_persist(s, n, &out->persist);
        submit(s, n, &out->persist);
    }
    for (size_t i = 0; i < out->message_count; i++)
        story_send(s, &out->message[i]);
    apply(s, n, out);
    tell_rest(s, n, out);
    struct raft_fetch f[STORY_NODES];
    size_t count = out->fetch_count;
    for (size_t i = 0; i < count; i++)
        f[i] = out->fetch[i];
    bool applied = out->apply_count > 0;
    if (applied && !n->holds)
        story_step(s, n, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = n->applied});
    for (size_t i = 0; i < count; i++)
        fetch(s, n, f[i]);
}

/* ---- lines ---- */

static bool matches(const struct story_line *l, struct str which, struct str type)
{
    char key[48];
    struct str a, b = which;
    snprintf(key, sizeof key, "%llu", U(l->from));
    if (which.n > 0) {
        if (!str_next(&b, '>', &a) || (!str_eq(a, STR("*")) && !str_eq(a, str_of(key))))
            return false;
        snprintf(key, sizeof key, "%llu", U(l->to));
        if (!str_eq(b, STR("*")) && !str_eq(b, str_of(key)))
            return false;
    }
    return type.n == 0 || str_eq(type, str_of(raft_message_name(l->type)));
}

static void line_free(struct story_line *l)
{
    buf_deinit(&l->record);
    mem_free(l);
}

static void deliver(struct story *s, struct story_line *l)
{
    struct raft_message m;
    struct story_node *n = story_node(s, l->to);
    int r = raft_message_decode(buf_str(&l->record), &s->store, &m);
    must(r == 0);
    if (n != NULL && n->is_up)
        story_step(s, n, (struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
}

/* what: 'd'eliver, d'r'op, 'k'eep a copy. */
void story_move(struct story *s, char what, struct str which, struct str type)
{
    struct list old;
    list_init(&old);
    for (struct list *x; (x = list_pop_front(&s->lines)) != NULL;)
        list_push_back(&old, x);
    for (struct list *x; (x = list_pop_front(&old)) != NULL;) {
        struct story_line *l = container_of(x, struct story_line, link);
        bool match = matches(l, which, type);
        if (match && what != 'r')
            deliver(s, l);
        if (match && what != 'k')
            line_free(l);
        else
            list_push_back(&s->lines, x);
    }
}

void story_run(struct story *s)
{
    for (bool busy = true; busy;) {
        busy = false;
        for (size_t i = 0; i < STORY_NODES; i++)
            if (s->node[i].is_up)
                busy = story_disk(s, &s->node[i], SIZE_MAX) || busy;
        struct list *x = list_pop_front(&s->lines);
        if (x == NULL)
            continue;
        busy = true;
        struct story_line *l = container_of(x, struct story_line, link);
        deliver(s, l);
        line_free(l);
    }
}

void story_wait(struct story *s, usec_t until, bool lives)
{
    s->is_calm = lives;
    for (;;) {
        struct story_node *first = NULL;
        if (lives)
            story_run(s);
        for (size_t i = 0; i < STORY_NODES; i++)
            if (s->node[i].is_up &&
                (first == NULL || raft_deadline(&s->node[i].raft) < raft_deadline(&first->raft)))
                first = &s->node[i];
        if (first == NULL || raft_deadline(&first->raft) > until)
            break;
        if (s->now < raft_deadline(&first->raft))
            s->now = raft_deadline(&first->raft);
        story_step(s, first, (struct raft_event){.kind = RAFT_EV_TICK});
    }
    s->now = until;
    s->is_calm = false;
}
