/* Bounds, versions, commands, descriptors.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "range/descriptor.h"
#include "range/range.h"
#include "unit/range/suites.h"

static struct range_bounds span(const char *from, const char *to)
{
    return (struct range_bounds){str_of(from), str_of(to ? to : ""), to == NULL};
}

START_TEST(bounds)
{
    static const struct {
        const char *a0, *a1, *b0, *b1;
        bool overlap;
    } row[] = {
        {"", NULL, "", NULL, true},   {"a", "c", "c", "d", false}, {"a", "c", "b", "d", true},
        {"a", NULL, "z", NULL, true}, {"", "m", "m", NULL, false}, {"b", "c", "a", NULL, true},
        {"a", "b", "a", "aa", true},
    };
    for (size_t i = 0; i < countof(row); i++) {
        struct range_bounds a = span(row[i].a0, row[i].a1), b = span(row[i].b0, row[i].b1);
        ck_assert_int_eq(range_bounds_overlap(&a, &b), row[i].overlap);
        ck_assert_int_eq(range_bounds_overlap(&b, &a), row[i].overlap);
    }
    struct range_bounds b = span("b", "d");
    ck_assert(!range_bounds_has(&b, STR("a")) && range_bounds_has(&b, STR("b")) &&
              range_bounds_has(&b, STR("czzz")));
    ck_assert(!range_bounds_has(&b, STR("d")));
    ck_assert(!range_bounds_can_split(&b, STR("b")) && range_bounds_can_split(&b, STR("c")) &&
              !range_bounds_can_split(&b, STR("d")));
    b = span("d", "b");
    ck_assert(!range_bounds_is_valid(&b));
}
END_TEST

static int apply(struct range *r, struct buf *entry, struct range *right, struct range_command *c)
{
    ck_assert_int_eq(range_command_decode(buf_str(entry), c), 0);
    int v = range_apply(r, c, right);
    range_check(r);
    return v;
}

START_TEST(writes_are_fenced_by_the_boundary)
{
    struct range r, right;
    struct range_command c;
    struct buf e = {0};
    struct str cmd;
    range_init(&r, (struct range_id){5, 0});
    range_command_begin(&e, 1, 100);
    range_command_add(&e, STR("x"));
    range_command_add(&e, STR("yy"));
    ck_assert_int_eq(apply(&r, &e, &right, &c), RANGE_OK);
    ck_assert_uint_eq(c.hlc, 100);
    ck_assert(range_command_next(&c, &cmd));
    ck_str(cmd, STR("x"));
    ck_assert(range_command_next(&c, &cmd));
    ck_str(cmd, STR("yy"));
    ck_assert(!range_command_next(&c, &cmd));

    range_config_changed(&r); /* members may change under a writer */
    e.n = 0;
    range_command_begin(&e, 1, 50);
    ck_assert_int_eq(apply(&r, &e, &right, &c), RANGE_OK);
    ck_assert_uint_eq(c.hlc, 100); /* time does not go back */

    e.n = 0;
    range_command_begin(&e, 2, 200);
    ck_assert_int_eq(apply(&r, &e, &right, &c), RANGE_E_VERSION);
    buf_deinit(&e);
    range_deinit(&r);
}
END_TEST

START_TEST(split_gives_two_halves)
{
    struct range r, right, back;
    struct range_command c = {.version = {1, 0}, .hlc = 7, .key = STR("m"), .new_id = {5, 77}}, got;
    struct buf e = {0}, rec = {0};
    range_init(&r, (struct range_id){5, 0});
    range_command_split(&e, &c);
    ck_assert_int_eq(apply(&r, &e, &right, &got), RANGE_OK);
    ck_assert(right.id.id == 77 && right.version.boundary == 2 && r.version.boundary == 2);
    ck_str(r.bounds.end, STR("m"));
    ck_assert(!r.bounds.is_open && right.bounds.is_open);
    ck_str(right.bounds.start, STR("m"));
    ck_assert(!range_bounds_overlap(&r.bounds, &right.bounds));
    range_check(&right);

    ck_assert_int_eq(apply(&r, &e, &right, &got), RANGE_E_VERSION); /* the same again: nothing */
    e.n = 0;
    c.version.boundary = 2;
    range_command_split(&e, &c);
    struct range none;
    ck_assert_int_eq(apply(&r, &e, &none, &got), RANGE_E_KEY); /* its end is not inside */

    range_encode(&r, &rec);
    ck_assert_int_eq(range_decode(buf_str(&rec), &back), 0);
    ck_assert(range_bounds_eq(&back.bounds, &r.bounds) && back.version.boundary == 2 &&
              back.hlc == r.hlc);
    for (size_t n = 0; n < 4; n++)
        ck_assert_int_ne(range_decode(str_view(rec.p, n), &none), 0);
    range_deinit(&back);
    range_deinit(&right);
    range_deinit(&r);
    buf_deinit(&e);
    buf_deinit(&rec);
}
END_TEST

/* ---- merging --------------------------------------------------------------------------------- */

struct pair { /* two neighbours at boundary version 2, and one entry */
    struct range left, right;
    struct buf entry;
};

static void pair_init(struct pair *p)
{
    struct range_command c = {.version = {1, 0}, .hlc = 7, .key = STR("m"), .new_id = {5, 77}}, got;
    *p = (struct pair){0};
    range_init(&p->left, (struct range_id){5, 0});
    range_command_split(&p->entry, &c);
    ck_assert_int_eq(apply(&p->left, &p->entry, &p->right, &got), RANGE_OK);
}

static void pair_deinit(struct pair *p)
{
    range_deinit(&p->left);
    range_deinit(&p->right);
    buf_deinit(&p->entry);
}

/* Encoded, decoded, applied; then the range itself is encoded and decoded. */
static int merge(struct pair *p, struct range *r, struct range_command c)
{
    struct range_command got;
    struct range none = {0}, back;
    struct buf rec = {0};
    p->entry.n = 0;
    range_command_merge(&p->entry, &c);
    int v = apply(r, &p->entry, &none, &got);
    range_encode(r, &rec);
    ck_assert_int_eq(range_decode(buf_str(&rec), &back), 0);
    ck_assert(range_bounds_eq(&back.bounds, &r->bounds) && back.frozen == r->frozen &&
              back.merge.state == r->merge.state && back.merge.serial == r->merge.serial &&
              range_id_eq(back.merge.mergee, r->merge.mergee));
    range_deinit(&back);
    buf_deinit(&rec);
    return v;
}

static int begin(struct pair *p, uint64_t serial)
{
    return merge(p, &p->left,
                 (struct range_command){.kind = RANGE_CMD_MERGE_BEGIN,
                                        .version = p->left.version,
                                        .serial = serial,
                                        .other = p->right.id,
                                        .other_version = p->right.version});
}

static int freeze(struct pair *p, uint64_t serial, struct range_version at)
{
    return merge(
        p, &p->right,
        (struct range_command){
            .kind = RANGE_CMD_MERGE_FREEZE, .version = at, .serial = serial, .other = p->left.id});
}

static int commit(struct pair *p, uint64_t serial)
{
    return merge(p, &p->left,
                 (struct range_command){.kind = RANGE_CMD_MERGE_COMMIT,
                                        .version = p->left.version,
                                        .serial = serial,
                                        .other = p->right.id,
                                        .other_version = p->right.version,
                                        .other_index = 9,
                                        .other_term = 2,
                                        .other_hlc = 1000,
                                        .bounds = p->right.bounds});
}

static int say(struct pair *p, struct range *r, enum range_command_kind kind, uint64_t serial,
               struct range_version other)
{
    return merge(p, r,
                 (struct range_command){.kind = kind, .serial = serial, .other_version = other});
}

static int write_to(struct pair *p, struct range *r)
{
    struct range none;
    struct range_command c;
    p->entry.n = 0;
    range_command_begin(&p->entry, r->version.boundary, 8);
    range_command_add(&p->entry, STR("x"));
    return apply(r, &p->entry, &none, &c);
}

START_TEST(neighbours_merge)
{
    struct pair p;
    pair_init(&p);
    p.right.version.boundary = 9; /* it was split more often */
    ck_assert_int_eq(begin(&p, 0x51), RANGE_OK);
    ck_assert_int_eq(begin(&p, 0x52), RANGE_E_BUSY);
    ck_assert_int_eq(write_to(&p, &p.left), RANGE_OK); /* the merger goes on */
    ck_assert_int_eq(freeze(&p, 0x51, p.right.version), RANGE_OK);
    ck_assert_int_eq(freeze(&p, 0x51, p.right.version), RANGE_OK); /* asked twice */
    ck_assert_int_eq(freeze(&p, 0x53, p.right.version), RANGE_E_BUSY);
    ck_assert_int_eq(write_to(&p, &p.right), RANGE_E_VERSION);
    ck_assert_int_eq(commit(&p, 0x52), RANGE_E_BUSY);
    ck_assert_int_eq(commit(&p, 0x51), RANGE_OK);
    ck_assert(p.left.bounds.is_open && p.left.bounds.start.n == 0);
    ck_assert_uint_eq(p.left.version.boundary, 10); /* above both */
    ck_assert_uint_eq(p.left.hlc, 1000);
    ck_assert_int_eq(say(&p, &p.left, RANGE_CMD_MERGE_CANCEL, 0x51, (struct range_version){0}),
                     RANGE_E_BUSY); /* the first decision counts */
    ck_assert_int_eq(commit(&p, 0x51), RANGE_E_BUSY);
    pair_deinit(&p);
}
END_TEST

START_TEST(a_cancelled_merge_lets_go)
{
    struct pair p;
    struct range_command split = {.hlc = 9, .key = STR("c"), .new_id = {5, 99}}, got;
    struct range none = {0};
    pair_init(&p);
    struct range_version at = p.right.version;
    ck_assert_int_eq(begin(&p, 0x51), RANGE_OK);
    ck_assert_int_eq(freeze(&p, 0x51, at), RANGE_OK);
    ck_assert_int_eq(say(&p, &p.left, RANGE_CMD_MERGE_CANCEL, 0x51, at), RANGE_OK);
    ck_assert_int_eq(commit(&p, 0x51), RANGE_E_BUSY); /* late */
    split.version = p.left.version;
    p.entry.n = 0;
    range_command_split(&p.entry, &split); /* not while somebody may be frozen for us */
    ck_assert_int_eq(apply(&p.left, &p.entry, &none, &got), RANGE_E_BUSY);
    ck_assert_int_eq(say(&p, &p.right, RANGE_CMD_MERGE_THAW, 0x51, at), RANGE_OK);
    ck_assert_int_eq(write_to(&p, &p.right), RANGE_OK);
    ck_assert_int_eq(freeze(&p, 0x51, at), RANGE_E_VERSION); /* later still */
    struct range_version thawed = p.right.version;
    ck_assert_int_eq(say(&p, &p.right, RANGE_CMD_MERGE_THAW, 0x51, at), RANGE_OK);
    ck_assert_uint_eq(p.right.version.config, thawed.config);
    ck_assert_int_eq(say(&p, &p.left, RANGE_CMD_MERGE_END, 0x51, at), RANGE_OK);
    ck_assert_int_eq(begin(&p, 0x52), RANGE_OK); /* another time */
    pair_deinit(&p);
}
END_TEST

/* A THAW that overtakes its FREEZE must leave nothing for it to freeze. */
START_TEST(a_thaw_before_its_freeze)
{
    struct pair p;
    pair_init(&p);
    struct range_version at = p.right.version;
    ck_assert_int_eq(say(&p, &p.right, RANGE_CMD_MERGE_THAW, 0x51, at), RANGE_OK);
    ck_assert_int_eq(freeze(&p, 0x51, at), RANGE_E_VERSION);
    ck_assert_uint_eq(p.right.frozen, 0);
    pair_deinit(&p);
}
END_TEST

START_TEST(members_that_change_end_a_merge)
{
    struct pair p;
    pair_init(&p);
    ck_assert_int_eq(begin(&p, 0x51), RANGE_OK);
    struct range_version was = p.left.version;
    range_config_changed(&p.left);
    struct range_version now = p.left.version;
    p.left.version = was;
    struct range_command c = {.kind = RANGE_CMD_MERGE_COMMIT,
                              .version = was,
                              .serial = 0x51,
                              .other_index = 3,
                              .bounds = p.right.bounds};
    p.left.version = now;
    ck_assert_int_eq(merge(&p, &p.left, c), RANGE_E_BUSY);
    c.version = now;
    c.bounds.start = STR("n"); /* not our neighbour */
    ck_assert_int_eq(merge(&p, &p.left, c), RANGE_E_BUSY);
    pair_deinit(&p);
}
END_TEST

START_TEST(bad_entries_are_refused)
{
    struct range_command c;
    ck_assert_int_eq(range_command_decode(STR(""), &c), RANGE_COMMAND_E_BAD);
    ck_assert_int_eq(range_command_decode(STR("\x63\x01"), &c), RANGE_COMMAND_E_BAD);
    ck_assert_int_eq(range_command_decode(STR("\x01\x02"), &c), RANGE_COMMAND_E_BAD);
    ck_assert_int_eq(range_command_decode(STR("\x02\x01"), &c),
                     RANGE_COMMAND_E_BAD); /* a split without a key */
    ck_assert_int_eq(range_command_decode(STR("\x01\x01\x07\xff"), &c), RANGE_COMMAND_E_BAD);
}
END_TEST

START_TEST(descriptors)
{
    struct range_descriptor d =
                                {
                                    .id = {1, 2},
                                    .version = {3, 4},
                                    .bounds = span("a", "b"),
                                    .replica = 5,
                                    .role = RANGE_ROLE_LEADER,
                                    .term = 6,
                                    .commit = 7,
                                    .applied = 8,
                                    .bytes = 9,
                                    .rate = 10,
                                    .is_ready = true,
                                    .member_count = 2,
                                    .fact = STR("fact"),
                                },
                            g;
    struct buf b = {0};
    d.leader.b[0] = 1;
    d.member[0] =
        (struct range_member){.replica = 1, .is_voter = true, .is_current = true, .lag = 3};
    d.member[1] = (struct range_member){.replica = 2, .is_learner = true, .silent_ms = 4};
    range_descriptor_encode(&d, &b);
    ck_assert_int_eq(range_descriptor_decode(buf_str(&b), &g), 0);
    ck_assert(g.member_count == 2 && g.member[0].is_voter && g.member[1].silent_ms == 4 &&
              !g.member[1].is_voter);
    ck_assert(range_bounds_eq(&g.bounds, &d.bounds) && g.rate == 10 && g.is_ready && !g.is_joint);
    ck_str(g.fact, STR("fact"));
    for (size_t n = 0; n < b.n; n++) /* no cut crashes */
        (void)!range_descriptor_decode(str_view(b.p, n), &g);
    char text[RANGE_ID_TEXT];
    struct range_id id = {0x0123456789abcdef, UINT64_MAX}, back;
    range_id_format(id, text);
    ck_assert(range_id_parse(str_of(text), &back) && range_id_eq(id, back));
    ck_assert(!range_id_parse(STR("0123456789abcdef-ffffffffffffffxx"), &back));
    buf_deinit(&b);
}
END_TEST

Suite *suite_range(void)
{
    Suite *s = suite_create("range");
    TCase *t = tcase_create("range");
    tcase_add_test(t, bounds);
    tcase_add_test(t, writes_are_fenced_by_the_boundary);
    tcase_add_test(t, split_gives_two_halves);
    tcase_add_test(t, neighbours_merge);
    tcase_add_test(t, a_cancelled_merge_lets_go);
    tcase_add_test(t, a_thaw_before_its_freeze);
    tcase_add_test(t, members_that_change_end_a_merge);
    tcase_add_test(t, bad_entries_are_refused);
    tcase_add_test(t, descriptors);
    suite_add_tcase(s, t);
    return s;
}
