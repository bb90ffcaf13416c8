/* Names, bounds and meanings of the rules.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. No rule that is taken can break a quorum: voters are odd and at least one.
 * 2. What is not known, out of bounds or not a number is refused with its name. */
#include "balance/rule.h"

#include <stdio.h>
#include <string.h>

#define VOTERS_MAX 15

struct reader {
    struct str rest;
    char *why;
};

enum field {
    VOTERS,
    LEARNERS,
    MOVES,
    DEAD_SEC,
    UNREACHABLE_SEC,
    SPLIT_BYTES,
    SPLIT_RATE,
    SPLIT_FANOUT,
    MERGE_BYTES,
    MERGE_RATE,
};

static const struct {
    const char *name;
    enum balance_kind kind;
    enum field field;
    int64_t min, max;
} rules[] = {
    {"votersPerRange", BALANCE_REPLICAS, VOTERS, 1, VOTERS_MAX},
    {"learnersPerRange", BALANCE_REPLICAS, LEARNERS, -1, RANGE_MEMBER_MAX - 1},
    {"maxMoves", BALANCE_REPLICAS, MOVES, 1, 1000},
    {"deadSeconds", BALANCE_REPLICAS, DEAD_SEC, 1, 30 * 86400},
    {"unreachableSeconds", BALANCE_UNREACHABLE, UNREACHABLE_SEC, 1, 86400},
    {"maxBytesPerRange", BALANCE_SPLIT, SPLIT_BYTES, 0, INT64_MAX},
    {"maxCommandsPerSecond", BALANCE_SPLIT, SPLIT_RATE, 0, UINT32_MAX},
    {"maxFanoutPerRange", BALANCE_SPLIT, SPLIT_FANOUT, 0, UINT32_MAX},
    {"minBytesPerRange", BALANCE_MERGE, MERGE_BYTES, 0, INT64_MAX},
    {"minCommandsPerSecond", BALANCE_MERGE, MERGE_RATE, 0, UINT32_MAX},
};

static int64_t value_get(const struct balance_rule *r, enum field f)
{
    switch (f) {
    case VOTERS:
        return r->voter_count;
    case LEARNERS:
        return r->learner_count;
    case MOVES:
        return r->move_max;
    case DEAD_SEC:
        return (int64_t)(r->dead_usec / USEC_SEC);
    case UNREACHABLE_SEC:
        return (int64_t)(r->unreachable_usec / USEC_SEC);
    case SPLIT_BYTES:
        return (int64_t)r->split_bytes;
    case SPLIT_RATE:
        return (int64_t)r->split_rate;
    case SPLIT_FANOUT:
        return (int64_t)r->split_fanout;
    case MERGE_BYTES:
        return (int64_t)r->merge_bytes;
    case MERGE_RATE:
        return (int64_t)r->merge_rate;
    }
    must(false);
    return 0;
}

static void value_set(struct balance_rule *r, enum field f, int64_t v)
{
    switch (f) {
    case VOTERS:
        r->voter_count = (unsigned)v;
        break;
    case LEARNERS:
        r->learner_count = (int)v;
        break;
    case MOVES:
        r->move_max = (unsigned)v;
        break;
    case DEAD_SEC:
        r->dead_usec = (usec_t)v * USEC_SEC;
        break;
    case UNREACHABLE_SEC:
        r->unreachable_usec = (usec_t)v * USEC_SEC;
        break;
    case SPLIT_BYTES:
        r->split_bytes = (uint64_t)v;
        break;
    case SPLIT_RATE:
        r->split_rate = (uint64_t)v;
        break;
    case SPLIT_FANOUT:
        r->split_fanout = (uint64_t)v;
        break;
    case MERGE_BYTES:
        r->merge_bytes = (uint64_t)v;
        break;
    case MERGE_RATE:
        r->merge_rate = (uint64_t)v;
        break;
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static int refuse(struct reader *c, const char *why)
{
    if (!c->why[0])
        snprintf(c->why, BALANCE_RULE_WHY_MAX, "%s", why);
    return BALANCE_RULE_E_BAD;
}

static void skip(struct reader *c)
{
    while (c->rest.n && strchr(" \t\r\n", c->rest.p[0]))
        c->rest = str_view(c->rest.p + 1, c->rest.n - 1);
}

static bool take(struct reader *c, char what)
{
    skip(c);
    if (c->rest.n == 0 || c->rest.p[0] != what)
        return false;
    c->rest = str_view(c->rest.p + 1, c->rest.n - 1);
    return true;
}

static bool take_word(struct reader *c, const char *word)
{
    if (!str_has_prefix(c->rest, str_of(word)))
        return false;
    c->rest = str_view(c->rest.p + strlen(word), c->rest.n - strlen(word));
    return true;
}

static bool take_name(struct reader *c, struct str *out)
{
    size_t n = 0;
    if (!take(c, '"'))
        return false;
    while (n < c->rest.n && c->rest.p[n] != '"' && c->rest.p[n] != '\\')
        n++;
    *out = str_view(c->rest.p, n);
    c->rest = str_view(c->rest.p + n, c->rest.n - n);
    return take(c, '"');
}

static bool take_number(struct reader *c, int64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    bool is_negative = take(c, '-');
    while (n < c->rest.n && c->rest.p[n] >= '0' && c->rest.p[n] <= '9')
        n++;
    if (!str_to_u64(str_view(c->rest.p, n), &v) || v > INT64_MAX)
        return false;
    c->rest = str_view(c->rest.p + n, c->rest.n - n);
    *out = is_negative ? -(int64_t)v : (int64_t)v;
    return true;
}

static int refuse_bounds(struct reader *c, size_t i)
{
    snprintf(c->why, BALANCE_RULE_WHY_MAX, "%s must be %lld to %lld", rules[i].name,
             (long long)rules[i].min, (long long)rules[i].max);
    return BALANCE_RULE_E_BAD;
}

static int take_rule(struct reader *c, enum balance_kind k, struct str name, struct balance_rule *r)
{
    int64_t v;
    size_t i = 0;
    skip(c);
    if (str_eq(name, STR("disable"))) {
        r->is_off[k] = take_word(c, "true");
        return r->is_off[k] || take_word(c, "false") ? 0
                                                     : refuse(c, "disable must be true or false");
    }
    while (i < countof(rules) && (rules[i].kind != k || !str_eq(name, str_of(rules[i].name))))
        i++;
    if (i == countof(rules)) {
        snprintf(c->why, BALANCE_RULE_WHY_MAX, "%s has no rule \"%.*s\"", balance_name(k),
                 (int)(name.n < 64 ? name.n : 64), name.p);
        return BALANCE_RULE_E_BAD;
    }
    if (!take_number(c, &v) || v < rules[i].min || v > rules[i].max)
        return refuse_bounds(c, i);
    if (rules[i].field == VOTERS && v % 2 == 0)
        return refuse(c, "votersPerRange must be odd: an even number of voters survives no more "
                         "deaths than one less");
    value_set(r, rules[i].field, v);
    return 0;
}

int balance_rule_put(struct balance_rule *r, enum balance_kind k, struct str text,
                     char out_why[BALANCE_RULE_WHY_MAX])
{
    struct reader c = {text, out_why};
    struct balance_rule fresh = *r;
    struct str name;
    out_why[0] = 0;
    if (text.n > BALANCE_RULE_TEXT_MAX)
        return refuse(&c, "the rules are too long");
    if (!take(&c, '{'))
        return refuse(&c, "the rules must be a JSON object");
    for (bool is_end = take(&c, '}'); !is_end;) {
        if (!take_name(&c, &name) || !take(&c, ':'))
            return refuse(&c, "the rules must be a JSON object of names and whole numbers");
        int e = take_rule(&c, k, name, &fresh);
        if (e)
            return e;
        is_end = take(&c, '}');
        if (!is_end && !take(&c, ','))
            return refuse(&c, "the rules must be a JSON object of names and whole numbers");
    }
    skip(&c);
    if (c.rest.n > 0)
        return refuse(&c, "something follows the rules");
    *r = fresh;
    return 0;
}

void balance_rule_print(const struct balance_rule *r, enum balance_kind k, struct buf *out)
{
    buf_printf(out, "{\"disable\":%s", r->is_off[k] ? "true" : "false");
    for (size_t i = 0; i < countof(rules); i++)
        if (rules[i].kind == k)
            buf_printf(out, ",\"%s\":%lld", rules[i].name, (long long)value_get(r, rules[i].field));
    buf_put_u8(out, '}');
}
