/* Stories of ranges: how bounds and versions move, who is refused, what a replica that was away
 * finds. SPDX-License-Identifier: Apache-2.0
 *
 *   range of=A                        a range of the whole key space
 *   copy of=B from=A                  what A's snapshot, or its rows after a restart, make of B
 *   write of=A key=K [boundary=B hlc=N]   a write to K, routed by that boundary version
 *   split of=A key=K as=C [boundary=B config=N]
 *   config of=A                       a change of members took effect
 *   merge of=A with=B do=WORD [serial=N boundary=B config=N]   an entry about a merge of A with B
 * behind it, into the log of A: begin, commit, cancel, end, or of B: freeze, thaw (which takes B
 * for that version, or for the one when A began) show of=A Every range is told after what changed
 * it, and range_check holds. */
#include "base/mem.h"
#include "golden/lib/story.h"
#include "range/range.h"

#define RANGES 16

struct named {
    char name[16];
    struct range range;
    bool is_there;
};

struct world {
    struct named range[RANGES];
    uint64_t id_last;
};

static struct named *named(struct world *w, struct str name, bool is_new)
{
    struct named *unused = NULL;
    for (size_t i = 0; i < RANGES; i++) {
        struct named *n = &w->range[i];
        if (n->is_there && str_eq(str_of(n->name), name))
            return n;
        if (!n->is_there && !unused)
            unused = n;
    }
    if (!is_new || !unused)
        return NULL;
    str_copy(unused->name, sizeof unused->name, name);
    unused->is_there = true;
    return unused;
}

static void tell(const struct named *n, struct buf *t)
{
    const struct range *r = &n->range;
    range_check(r);
    buf_printf(t, "= %s [%.*s, ", n->name, STR_ARG(r->bounds.start));
    if (!r->bounds.is_open)
        buf_printf(t, "%.*s", STR_ARG(r->bounds.end));
    buf_printf(t, ") version %u|%u, id %llu, time %llu%s%s\n", r->version.boundary,
               r->version.config, (unsigned long long)r->id.id, (unsigned long long)r->hlc,
               r->frozen ? ", frozen" : "",
               r->merge.state == RANGE_MERGE_BEGUN       ? ", merging"
               : r->merge.state == RANGE_MERGE_CANCELLED ? ", merge cancelled"
                                                         : "");
}

static const char *verdict(int v)
{
    static const char *const text[] = {
        [RANGE_OK] = "done",
        [RANGE_E_VERSION] = "refused: version",
        [RANGE_E_KEY] = "refused: key",
        [RANGE_E_BUSY] = "refused: busy",
    };
    must(v >= 0 && (size_t)v < countof(text));
    return text[v];
}

/* As through the log: what was encoded is decoded and applied. */
static int apply(struct range *r, struct str entry, struct range *right, struct range_command *c)
{
    int e = range_command_decode(entry, c);
    must(e == 0);
    return range_apply(r, c, right);
}

static void cmd_write(struct named *n, struct str line, struct buf *t)
{
    struct buf entry = {0};
    struct range_command c;
    struct range right;
    struct range_out out = {.row_count = 0};
    struct str key = story_str(line, "key", "");
    range_command_begin(&entry, (uint32_t)story_num(line, "boundary", n->range.version.boundary),
                        story_num(line, "hlc", n->range.hlc));
    range_command_add(&entry, key);
    int v = apply(&n->range, buf_str(&entry), &right, &c);
    range_out_put(&out, key, STR("v"));
    bool is_mine = range_has_rows(&n->range, &out);
    buf_printf(t, "= %s\n", v == RANGE_OK && !is_mine ? "refused: a row outside" : verdict(v));
    range_out_deinit(&out);
    buf_deinit(&entry);
}

static void cmd_split(struct world *w, struct named *n, struct str line, struct buf *t)
{
    struct buf entry = {0};
    struct range right;
    struct range_command out,
        c = {
            .kind = RANGE_CMD_SPLIT,
            .version = {(uint32_t)story_num(line, "boundary", n->range.version.boundary),
                        (uint32_t)story_num(line, "config", n->range.version.config)},
            .key = story_str(line, "key", ""),
            .new_id = {n->range.id.epoch, story_num(line, "id", w->id_last + 1)},
        };
    range_command_split(&entry, &c);
    int v = apply(&n->range, buf_str(&entry), &right, &out);
    buf_printf(t, "= %s\n", verdict(v));
    if (v == RANGE_OK) {
        struct named *r = named(w, story_str(line, "as", ""), true);
        must(r != NULL);
        r->range = right;
        w->id_last = c.new_id.id > w->id_last ? c.new_id.id : w->id_last;
        tell(n, t);
        tell(r, t);
    }
    buf_deinit(&entry);
}

static void cmd_merge(struct world *w, struct named *n, struct str line, struct buf *t)
{
    static const char *const words[] = {
        [RANGE_CMD_MERGE_BEGIN] = "begin",   [RANGE_CMD_MERGE_FREEZE] = "freeze",
        [RANGE_CMD_MERGE_COMMIT] = "commit", [RANGE_CMD_MERGE_CANCEL] = "cancel",
        [RANGE_CMD_MERGE_THAW] = "thaw",     [RANGE_CMD_MERGE_END] = "end"};
    struct named *with = named(w, story_str(line, "with", ""), false);
    struct str word = story_str(line, "do", "");
    size_t kind = RANGE_CMD_MERGE_BEGIN;
    while (kind < countof(words) && !str_eq(word, str_of(words[kind])))
        kind++;
    must(with && kind < countof(words));
    bool is_mergee = kind == RANGE_CMD_MERGE_FREEZE || kind == RANGE_CMD_MERGE_THAW;
    struct named *at = is_mergee ? with : n;
    struct range_version thought =
        n->range.merge.state == RANGE_MERGE_NONE || kind == RANGE_CMD_MERGE_COMMIT
            ? with->range.version
            : n->range.merge.version;
    thought.boundary = (uint32_t)story_num(line, "boundary", thought.boundary);
    thought.config = (uint32_t)story_num(line, "config", thought.config);
    struct range_command got, c = {.kind = (enum range_command_kind)kind,
                                   .version = is_mergee ? thought : n->range.version,
                                   .serial = story_num(line, "serial", 5),
                                   .other = is_mergee ? n->range.id : with->range.id,
                                   .other_version = thought,
                                   .other_index = 1,
                                   .other_term = 1,
                                   .other_hlc = with->range.hlc,
                                   .bounds = with->range.bounds};
    struct buf entry = {0};
    struct range none;
    range_command_merge(&entry, &c);
    buf_printf(t, "= %s\n", verdict(apply(&at->range, buf_str(&entry), &none, &got)));
    tell(at, t);
    buf_deinit(&entry);
}

/* As in a snapshot, or over a restart. */
static void carry(struct range *r, struct range *to)
{
    struct buf b = {0};
    range_encode(r, &b);
    int e = range_decode(buf_str(&b), to);
    must(e == 0);
    buf_deinit(&b);
}

static void cmd_copy(struct world *w, struct named *n, struct str line, struct buf *t)
{
    struct named *from = named(w, story_str(line, "from", ""), false);
    must(from && from != n);
    if (n->range.version.boundary)
        range_deinit(&n->range);
    carry(&from->range, &n->range);
    tell(n, t);
}

static void command(void *arg, struct str line, struct buf *t)
{
    struct world *w = arg;
    struct str verb = story_verb(line), name = story_str(line, "of", "");
    struct named *n =
        name.n ? named(w, name, str_eq(verb, STR("range")) || str_eq(verb, STR("copy"))) : NULL;
    if (!n) {
        buf_printf(t, "= no such range\n");
    } else if (str_eq(verb, STR("range"))) {
        range_init(&n->range, (struct range_id){1, 0});
        tell(n, t);
    } else if (str_eq(verb, STR("copy"))) {
        cmd_copy(w, n, line, t);
    } else if (str_eq(verb, STR("write"))) {
        cmd_write(n, line, t);
    } else if (str_eq(verb, STR("split"))) {
        cmd_split(w, n, line, t);
    } else if (str_eq(verb, STR("merge"))) {
        cmd_merge(w, n, line, t);
    } else if (str_eq(verb, STR("config"))) {
        range_config_changed(&n->range);
        tell(n, t);
    } else if (str_eq(verb, STR("show"))) {
        tell(n, t);
    } else {
        buf_printf(t, "= no such command\n");
    }
}

static void *begin(void)
{
    return mem_new(sizeof(struct world));
}

static void end(void *arg)
{
    struct world *w = arg;
    for (size_t i = 0; i < RANGES; i++)
        if (w->range[i].is_there && w->range[i].range.version.boundary)
            range_deinit(&w->range[i].range);
    mem_free(w);
}

int main(void)
{
    return story_play("tests/golden/range", begin, command, end);
}
