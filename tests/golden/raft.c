/* Plays the stories of tests/golden/raft/: commands that drive replicas by hand, then what they do.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A story is a comment, commands, a line of dashes and the trace.  REWRITE=1 writes the traces
 * anew: read the difference.  Nothing happens by itself: messages lie on the lines and writes in
 * the disks until a command moves them.
 *
 * Before:  group ID...            replicas that vote
 *          learner ID...          others that are members from the start
 *          empty ID               a replica that is member of nothing
 *          log ID TERM...         the terms of its log, nothing applied
 *          term ID TERM           its hard state
 *          base ID INDEX TERM     what is compacted away
 *          set NAME VALUE         a field of raft_conf
 *          start                  all come up
 * Events:  campaign ID, propose ID WORD..., read ID CTX [strict], transfer ID TO, wake ID,
 *          unreachable ID PEER, conf ID v1 l2... (members afterwards), recover ID v1...,
 *          compact ID INDEX
 * World:   deliver A>B [TYPE]     what lies there now (* is any)
 *          drop, dup              the same: lose it, deliver it and keep it
 *          disk ID [N]            finishes N writes, or all
 *          run                    messages and disks until all is still
 *          lead ID                campaign and run, not told
 *          wait MS, live MS       timers only; timers, messages and disks
 *          pass MS                time passes and no timer fires
 *          cut A B, heal
 *          crash ID, restart ID, wipe ID NEW-ID
 *          stream A B, install ID, broken ID, sent A B ok|bad     snapshots
 *          send A>B TYPE k=v...   a message of our own making
 *          hold ID, apply ID      application waits, goes on
 * Look:    show, status, peers ID */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "golden/lib/raft_story.h"

#define WORDS 40
#define U(x) ((unsigned long long)(x))

/* ---- replicas ---- */

static struct story_node *node_new(struct story *s, uint64_t id)
{
    struct story_node *n = story_node(s, id);
    for (size_t i = 0; n == NULL && i < STORY_NODES; i++)
        if (s->node[i].id == 0)
            n = &s->node[i];
    must(n != NULL);
    n->id = id;
    n->is_new = true;
    if (n->writes.next == NULL)
        list_init(&n->writes);
    return n;
}

static void start(struct story *s, struct story_node *n)
{
    struct buf runs = {0}, later = {0};
    for (size_t i = 0; i < n->count; i++) {
        uint64_t index = n->base + 1 + i;
        if (i == 0 || n->disk[i].term != n->disk[i - 1].term)
            buf_put(&runs, &(struct raft_run){index, n->disk[i].term}, sizeof(struct raft_run));
        struct raft_entry e = {index, n->disk[i].term, n->disk[i].payload, n->disk[i].type};
        if (e.type == RAFT_ENTRY_CONFIG && index > n->applied)
            buf_put(&later, &e, sizeof e);
    }
    struct raft_boot b = {
        .id = n->id,
        .now = s->now,
        .seed = n->id,
        .is_new = n->is_new,
        .hard = n->hard,
        .base = n->base,
        .base_term = n->base_term,
        .last = n->base + n->count,
        .run = (const struct raft_run *)(const void *)runs.p,
        .run_count = runs.n / sizeof(struct raft_run),
        .applied = n->applied,
        .config = n->config,
        .later = (const struct raft_entry *)(const void *)later.p,
        .later_count = later.n / sizeof(struct raft_entry),
    };
    b.hard.commit = 0;
    raft_init(&n->raft, &s->conf, &b);
    n->is_up = true;
    n->is_new = false;
    buf_deinit(&runs);
    buf_deinit(&later);
}

static void crash(struct story_node *n)
{
    n->is_up = false;
    raft_deinit(&n->raft);
    for (struct list *x; (x = list_pop_front(&n->writes)) != NULL;) {
        struct story_write *w = container_of(x, struct story_write, link);
        mem_free(w->entry);
        mem_free(w);
    }
}

static void start_all(struct story *s)
{
    struct raft_config *c = raft_config_new(s->first, s->first_count, 0);
    must(c != NULL);
    for (size_t i = 0; i < s->first_count; i++)
        story_node(s, s->first[i].id)->config = raft_config_dup(c);
    mem_free(c);
    for (size_t i = 0; i < STORY_NODES; i++)
        if (s->node[i].id != 0)
            start(s, &s->node[i]);
}

/* ---- commands ---- */

static uint64_t number(struct str s)
{
    uint64_t v = 0;
    if (!str_to_u64(s, &v))
        printf("not a number: %.*s\n", STR_ARG(s));
    return v;
}

static void set_conf(struct raft_conf *c, struct str name, uint64_t v)
{
    if (str_eq(name, STR("lease")))
        c->has_lease = v != 0;
    else if (str_eq(name, STR("hibernate_ms")))
        c->hibernate_usec = v * USEC_MSEC;
    else if (str_eq(name, STR("inflight")))
        c->inflight_max = (uint32_t)v;
    else if (str_eq(name, STR("inflight_bytes")))
        c->inflight_bytes_max = (uint32_t)v;
    else if (str_eq(name, STR("append_entries")))
        c->append_entry_max = (uint32_t)v;
    else if (str_eq(name, STR("append_bytes")))
        c->append_bytes_max = (uint32_t)v;
    else if (str_eq(name, STR("uncommitted_bytes")))
        c->uncommitted_bytes_max = (uint32_t)v;
    else if (str_eq(name, STR("entry_bytes")))
        c->entry_bytes_max = (uint32_t)v;
    else if (str_eq(name, STR("tail_bytes")))
        c->tail_bytes_max = (uint32_t)v;
    else if (str_eq(name, STR("reads")))
        c->read_max = (uint32_t)v;
    else
        printf("no such setting: %.*s\n", STR_ARG(name));
}

static size_t members(const struct str *w, size_t n, struct raft_member *out)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t id = number(str_view(w[i].p + 1, w[i].n - 1));
        out[i] =
            (struct raft_member){.id = id, .role = w[i].p[0] == 'v' ? RAFT_VOTER : RAFT_LEARNER};
    }
    return n;
}

static void status(struct story *s)
{
    for (size_t i = 0; i < STORY_NODES; i++) {
        const struct story_node *n = &s->node[i];
        if (n->id == 0)
            continue;
        if (!n->is_up) {
            buf_printf(&s->trace, "  %llu down\n", U(n->id));
            continue;
        }
        struct raft_status st = raft_status_get(&n->raft);
        buf_printf(&s->trace,
                   "  %llu %s t%llu leader %llu log %llu..%llu durable %llu commit %llu applied "
                   "%llu%s%s ",
                   U(n->id), story_role(st.role), U(st.term), U(st.leader), U(st.base + 1),
                   U(st.last), U(st.stable), U(st.commit), U(st.applied),
                   st.has_lease ? " lease" : "", st.is_quiet ? " quiet" : "");
        story_tell_config(s, raft_config_get(&n->raft));
        buf_printf(&s->trace, "\n");
    }
}

static void peers(struct story *s, const struct story_node *n)
{
    static const char *const name[] = {"probe", "replicate", "snapshot"};
    for (size_t i = 0; i < n->raft.peer_count; i++) {
        const struct raft_peer *p = &n->raft.peer[i];
        buf_printf(&s->trace, "  %llu: %llu %s match %llu next %llu in flight %u%s\n", U(n->id),
                   U(p->id), name[p->state], U(p->match), U(p->next), p->flight_count,
                   p->is_paused ? " paused" : "");
    }
}

/* send A>B TYPE k=v...  entries: e=TERM,TERM,... then their payloads: p=WORD,WORD,... */
static void send_made(struct story *s, const struct str *w, size_t n)
{
    struct raft_message m = {0};
    struct raft_entry e[WORDS];
    struct str a, b = w[1], k;
    (void)str_next(&b, '>', &a);
    m.from = number(a);
    m.to = number(b);
    for (uint8_t t = 1; t <= RAFT_MSG_REMOVED; t++)
        if (str_eq(w[2], str_of(raft_message_name(t))))
            m.type = t;
    for (size_t i = 3; i < n; i++) {
        struct str v = w[i], item;
        (void)str_next(&v, '=', &k);
        if (str_eq(k, STR("e"))) {
            while (str_next(&v, ',', &item)) {
                e[m.entry_count] = (struct raft_entry){.index = m.index + 1 + m.entry_count,
                                                       .term = number(item),
                                                       .payload = STR("made")};
                m.entry_count++;
            }
            m.entry = e;
            continue;
        }
        if (str_eq(k, STR("p"))) {
            for (uint32_t at = 0; at < m.entry_count && str_next(&v, ',', &item); at++)
                e[at].payload = item;
            continue;
        }
        uint64_t x = number(v), *field = str_eq(k, STR("t"))        ? &m.term
                                         : str_eq(k, STR("index"))  ? &m.index
                                         : str_eq(k, STR("lt"))     ? &m.log_term
                                         : str_eq(k, STR("commit")) ? &m.commit
                                         : str_eq(k, STR("round"))  ? &m.round
                                         : str_eq(k, STR("epoch"))  ? &m.epoch
                                         : str_eq(k, STR("hint"))   ? &m.hint
                                                                    : NULL;
        if (field != NULL)
            *field = x;
        else if (str_eq(k, STR("refused")))
            m.is_refused = x != 0;
        else
            printf("no such field: %.*s\n", STR_ARG(k));
    }
    story_send(s, &m);
}

static bool command_before(struct story *s, const struct str *w, size_t n)
{
    bool is_learner = str_eq(w[0], STR("learner"));
    if (is_learner || str_eq(w[0], STR("group"))) {
        for (size_t i = 1; i < n; i++) {
            (void)node_new(s, number(w[i]));
            s->first[s->first_count++] = (struct raft_member){
                .id = number(w[i]), .role = is_learner ? RAFT_LEARNER : RAFT_VOTER};
        }
    } else if (str_eq(w[0], STR("empty"))) {
        (void)node_new(s, number(w[1]));
    } else if (str_eq(w[0], STR("log"))) {
        struct story_node *x = story_node(s, number(w[1]));
        for (size_t i = 2; i < n; i++) {
            x->disk = mem_grow(x->disk, &x->cap, x->count + 1, sizeof *x->disk);
            x->disk[x->count++] = (struct story_entry){number(w[i]), RAFT_ENTRY_DATA, STR("old")};
            x->hard.term = number(w[i]);
        }
        x->is_new = false;
    } else if (str_eq(w[0], STR("term"))) {
        story_node(s, number(w[1]))->hard = (struct raft_hard){.term = number(w[2])};
    } else if (str_eq(w[0], STR("base"))) {
        struct story_node *x = story_node(s, number(w[1]));
        x->base = x->applied = number(w[2]);
        x->base_term = x->applied_term = x->hard.term = number(w[3]);
    } else if (str_eq(w[0], STR("set"))) {
        set_conf(&s->conf, w[1], number(w[2]));
    } else if (str_eq(w[0], STR("start"))) {
        start_all(s);
    } else {
        return false;
    }
    return true;
}

static bool command_world(struct story *s, const struct str *w, size_t n)
{
    struct str none = str_view("", 0);
    if (str_eq(w[0], STR("deliver"))) {
        story_move(s, 'd', n > 1 ? w[1] : none, n > 2 ? w[2] : none);
    } else if (str_eq(w[0], STR("drop"))) {
        story_move(s, 'r', n > 1 ? w[1] : none, n > 2 ? w[2] : none);
    } else if (str_eq(w[0], STR("dup"))) {
        story_move(s, 'k', n > 1 ? w[1] : none, n > 2 ? w[2] : none);
    } else if (str_eq(w[0], STR("run"))) {
        story_run(s);
    } else if (str_eq(w[0], STR("wait")) || str_eq(w[0], STR("live"))) {
        story_wait(s, s->now + number(w[1]) * USEC_MSEC, str_eq(w[0], STR("live")));
    } else if (str_eq(w[0], STR("pass"))) {
        s->now += number(w[1]) * USEC_MSEC;
    } else if (str_eq(w[0], STR("cut"))) {
        size_t a = story_place(s, story_node(s, number(w[1]))),
               b = story_place(s, story_node(s, number(w[2])));
        s->cut[a][b] = s->cut[b][a] = true;
    } else if (str_eq(w[0], STR("heal"))) {
        memset(s->cut, 0, sizeof s->cut);
    } else if (str_eq(w[0], STR("status"))) {
        status(s);
    } else if (str_eq(w[0], STR("send"))) {
        send_made(s, w, n);
    } else if (str_eq(w[0], STR("show"))) {
        list_each(&s->lines, x)
        {
            struct story_line *l = container_of(x, struct story_line, link);
            struct raft_message m;
            must(raft_message_decode(buf_str(&l->record), &s->store, &m) == 0);
            buf_printf(&s->trace, "  on the line: ");
            story_tell_message(s, &m);
        }
    } else {
        return false;
    }
    return true;
}

static bool command_host(struct story *s, const struct str *w, size_t n, struct story_node *x)
{
    uint64_t arg = n > 2 && w[2].p[0] >= '0' && w[2].p[0] <= '9' ? number(w[2]) : 0;
    if (str_eq(w[0], STR("lead"))) {
        size_t before = s->trace.n;
        story_step(s, x, (struct raft_event){.kind = RAFT_EV_CAMPAIGN});
        story_run(s);
        s->trace.n = before;
        status(s);
    } else if (str_eq(w[0], STR("disk"))) {
        (void)story_disk(s, x, n > 2 ? (size_t)arg : SIZE_MAX);
    } else if (str_eq(w[0], STR("crash"))) {
        crash(x);
    } else if (str_eq(w[0], STR("restart"))) {
        start(s, x);
    } else if (str_eq(w[0], STR("wipe"))) {
        if (x->is_up)
            crash(x);
        x->config = mem_free(x->config);
        mem_free(x->disk);
        buf_deinit(&x->install_config);
        *x = (struct story_node){.id = arg, .is_new = true, .out = x->out};
        list_init(&x->writes);
        start(s, x);
    } else if (str_eq(w[0], STR("hold"))) {
        x->holds = true;
    } else if (str_eq(w[0], STR("apply"))) {
        x->holds = false;
        story_step(s, x, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = x->handed});
    } else if (str_eq(w[0], STR("install"))) {
        struct raft_config *c = raft_config_decode(buf_str(&x->install_config));
        struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED};
        ev.snapshot = (struct raft_snapshot){0, x->install.index, x->install.term, c};
        x->applied = x->handed = x->install.index;
        x->applied_term = x->install.term;
        mem_free(x->config);
        x->config = raft_config_dup(c);
        story_step(s, x, ev);
        mem_free(c);
    } else if (str_eq(w[0], STR("broken"))) {
        story_step(s, x, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_FAILED});
    } else if (str_eq(w[0], STR("peers"))) {
        peers(s, x);
    } else {
        return false;
    }
    return true;
}

static bool command_event(struct story *s, const struct str *w, size_t n, struct story_node *x)
{
    struct raft_event ev = {0};
    struct raft_member m[WORDS];
    uint64_t arg = n > 2 && w[2].p[0] >= '0' && w[2].p[0] <= '9' ? number(w[2]) : 0;
    if (str_eq(w[0], STR("campaign"))) {
        ev.kind = RAFT_EV_CAMPAIGN;
    } else if (str_eq(w[0], STR("propose"))) {
        ev.kind = RAFT_EV_PROPOSE;
        ev.propose = (struct raft_propose){w + 2, n - 2};
    } else if (str_eq(w[0], STR("read"))) {
        ev.kind = RAFT_EV_READ;
        ev.read = (struct raft_read){arg, n > 3};
    } else if (str_eq(w[0], STR("conf")) || str_eq(w[0], STR("recover"))) {
        ev.kind = str_eq(w[0], STR("conf")) ? RAFT_EV_CONF : RAFT_EV_RECOVER;
        size_t count = members(w + 2, n - 2, m);
        ev.conf = (struct raft_conf_change){m, count};
    } else if (str_eq(w[0], STR("compact"))) {
        ev.kind = RAFT_EV_COMPACT;
        ev.index = arg;
    } else if (str_eq(w[0], STR("stream"))) {
        ev.kind = RAFT_EV_SNAPSHOT_BEGIN;
        ev.snapshot = (struct raft_snapshot){arg, x->applied, x->applied_term, x->config};
    } else if (str_eq(w[0], STR("sent"))) {
        ev.kind = RAFT_EV_SNAPSHOT_SENT;
        ev.peer = arg;
        ev.ok = str_eq(w[3], STR("ok"));
    } else if (str_eq(w[0], STR("wake"))) {
        ev.kind = RAFT_EV_WAKE;
    } else if (str_eq(w[0], STR("transfer")) || str_eq(w[0], STR("unreachable"))) {
        ev.kind = str_eq(w[0], STR("transfer")) ? RAFT_EV_TRANSFER : RAFT_EV_UNREACHABLE;
        ev.peer = arg;
    } else {
        return false;
    }
    story_step(s, x, ev);
    return true;
}

static bool command(struct story *s, struct str text)
{
    struct str w[WORDS], rest = text, word;
    size_t n = 0;
    while (n < WORDS && str_next(&rest, ' ', &word))
        if (word.n > 0)
            w[n++] = word;
    if (n == 0)
        return true;
    buf_printf(&s->trace, "> %.*s\n", STR_ARG(text));
    if (command_before(s, w, n) || command_world(s, w, n))
        return true;
    uint64_t id = 0;
    struct story_node *x = n > 1 && str_to_u64(w[1], &id) ? story_node(s, id) : NULL;
    if (x != NULL && (command_host(s, w, n, x) || command_event(s, w, n, x)))
        return true;
    printf("not understood: %.*s\n", STR_ARG(text));
    return false;
}

static bool play(struct str script, struct buf *out)
{
    struct story *s = mem_new(sizeof *s);
    struct str line;
    bool ok = true;
    raft_conf_default(&s->conf);
    s->conf.hibernate_usec = 0;
    s->now = 1000 * USEC_SEC;
    list_init(&s->lines);
    while (ok && str_next(&script, '\n', &line))
        if (line.n > 0 && line.p[0] != '#')
            ok = command(s, line);
    *out = s->trace;
    for (size_t i = 0; i < STORY_NODES; i++) {
        struct story_node *n = &s->node[i];
        if (n->is_up)
            crash(n);
        mem_free(n->disk);
        mem_free(n->config);
        raft_out_deinit(&n->out);
        buf_deinit(&n->install_config);
    }
    story_move(s, 'r', str_view("", 0), str_view("", 0));
    mem_free(s->store.entry);
    arena_deinit(&s->payloads);
    mem_free(s);
    return ok;
}

static struct buf read_file(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "rb");
    for (size_t n = 1; f != NULL && n > 0;) {
        n = fread(buf_reserve(&b, 65536), 1, 65536, f);
        b.n += n;
    }
    if (f != NULL)
        fclose(f);
    return b;
}

static bool play_file(const char *path, bool rewrite)
{
    static const char dashes[] = "----\n";
    struct buf file = read_file(path), trace = {0};
    buf_put_u8(&file, 0);
    char *cut = strstr((char *)file.p, dashes);
    size_t head = cut != NULL ? (size_t)(cut - (char *)file.p) : file.n - 1;
    bool ok = play(str_view(file.p, head), &trace);
    struct str want = cut != NULL ? str_of(cut + sizeof dashes - 1) : str_view("", 0);
    if (rewrite) {
        FILE *f = fopen(path, "wb");
        must(f != NULL);
        fprintf(f, "%.*s%s%.*s", (int)head, (const char *)file.p, dashes, STR_ARG(buf_str(&trace)));
        fclose(f);
    } else if (!str_eq(want, buf_str(&trace))) {
        struct str got = buf_str(&trace), a, b;
        for (unsigned line = 1; ok && (str_next(&want, '\n', &a) | str_next(&got, '\n', &b));
             line++) {
            if (str_eq(a, b))
                continue;
            printf("%s, line %u of the trace:\n  expected: %.*s\n  got:      %.*s\n", path, line,
                   STR_ARG(a), STR_ARG(b));
            ok = false;
        }
        ok = false;
    }
    buf_deinit(&file);
    buf_deinit(&trace);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    const char *dir = "tests/golden/raft";
    char *name[256];
    size_t count = 0;
    unsigned passed = 0, failed = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, ".txt") != NULL && count < countof(name) &&
            (argc < 2 || strstr(e->d_name, argv[1]) != NULL))
            name[count++] = mem_dup(e->d_name, strlen(e->d_name));
    if (d != NULL)
        closedir(d);
    qsort(name, count, sizeof *name, by_name);
    for (size_t i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        bool ok = play_file(path, getenv("REWRITE") != NULL);
        passed += ok;
        failed += !ok;
        mem_free(name[i]);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
