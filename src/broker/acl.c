/* ACL rules and how filters lie to each other.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 a rule's filter has no empty text;  2 rules keep the order of the file.
 * A user name or client id with '+', '#' or '/' in it never fills a %u or %c: it could reach beyond
 * its own topics. */
#include "broker/acl.h"

#include "base/buf.h"
#include "base/mem.h"

#define FILTER_MAX 65535 /* matters: no topic is longer (MQTT5 1.5.4) */

enum { ACCESS_DENY = 4 };

struct rule {
    struct str user;   /* p == NULL: clients without a name; is_pattern: everybody */
    struct str filter; /* view into text */
    uint8_t access;    /* BROKER_ACL_READ | BROKER_ACL_WRITE or ACCESS_DENY */
    bool is_pattern;
};

struct broker_acl {
    struct str text;
    struct rule *rule;
    size_t count, cap;
};

static struct str trim(struct str s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

/* Cuts the first word off. */
static struct str word(struct str *s)
{
    struct str w = {s->p, 0};
    while (w.n < s->n && s->p[w.n] != ' ' && s->p[w.n] != '\t')
        w.n++;
    *s = trim(str_view(s->p + w.n, s->n - w.n));
    return w;
}

static bool parse_access(struct str *rest, uint8_t *out)
{
    static const struct {
        const char *name;
        uint8_t access;
    } kind[] = {{"read", BROKER_ACL_READ},
                {"write", BROKER_ACL_WRITE},
                {"readwrite", BROKER_ACL_READ | BROKER_ACL_WRITE},
                {"deny", ACCESS_DENY}};
    struct str after = *rest, first = word(&after);
    *out = BROKER_ACL_READ | BROKER_ACL_WRITE;
    for (size_t i = 0; i < countof(kind) && after.n; i++)
        if (str_eq(first, str_of(kind[i].name))) {
            *out = kind[i].access;
            *rest = after;
        }
    return rest->n > 0 && rest->n <= FILTER_MAX;
}

static const char *parse_line(struct broker_acl *acl, struct str line, struct str *user)
{
    struct str rest = trim(line);
    if (rest.n == 0 || rest.p[0] == '#')
        return NULL;
    struct str key = word(&rest);
    if (str_eq(key, STR("user"))) {
        if (rest.n == 0)
            return "user needs a name";
        *user = rest;
        return NULL;
    }
    struct rule r = {.user = *user, .is_pattern = str_eq(key, STR("pattern"))};
    if (!r.is_pattern && !str_eq(key, STR("topic")))
        return "a line begins with user, topic, pattern or #";
    if (!parse_access(&rest, &r.access))
        return "a topic filter is missing";
    r.filter = rest;
    acl->rule = mem_grow(acl->rule, &acl->cap, acl->count + 1, sizeof(r));
    acl->rule[acl->count++] = r;
    return NULL;
}

int broker_acl_parse(struct str text, struct broker_acl **out_acl, size_t *out_line,
                     const char **out_error)
{
    struct broker_acl *acl = mem_new(sizeof(*acl));
    acl->text = str_dup(text);
    struct str left = acl->text, line, user = {NULL, 0};
    size_t number = 0;
    while (str_next(&left, '\n', &line)) {
        number++;
        const char *error = parse_line(acl, line, &user);
        if (error) {
            *out_line = number;
            *out_error = error;
            broker_acl_free(acl);
            return BROKER_ACL_E_SYNTAX;
        }
    }
    *out_acl = acl;
    return 0;
}

struct broker_acl *broker_acl_free(struct broker_acl *acl)
{
    if (!acl)
        return NULL;
    mem_free((void *)(uintptr_t)acl->text.p);
    mem_free(acl->rule);
    return mem_free(acl);
}

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '+' || s.p[i] == '#' || s.p[i] == '/')
            return false;
    return s.n > 0;
}

/* The rule's filter for this client; views into *scratch or the rule.  false: the rule is not about
 * this client. */
static bool rule_for(const struct rule *r, struct str user, struct str client_id,
                     struct buf *scratch, struct str *out)
{
    *out = r->filter;
    if (!r->is_pattern)
        return r->user.p == NULL ? user.n == 0 : str_eq(r->user, user);
    scratch->n = 0;
    for (size_t i = 0; i < r->filter.n; i++) {
        bool is_var = r->filter.p[i] == '%' && i + 1 < r->filter.n &&
                      (r->filter.p[i + 1] == 'u' || r->filter.p[i + 1] == 'c');
        if (!is_var) {
            buf_put_u8(scratch, (uint8_t)r->filter.p[i]);
            continue;
        }
        struct str with = r->filter.p[++i] == 'u' ? user : client_id;
        if (!is_plain(with))
            return false;
        buf_put_str(scratch, with);
    }
    *out = buf_str(scratch);
    return true;
}

enum relation { APART, OVERLAPS, COVERS };

/* How filter a lies to filter b: covers it (every topic of b is one of a), overlaps it, or is
 * apart.  A topic name is a filter without wildcards.  Wildcards at the front do not reach topics
 * that begin with $ [MQTT-4.7.2-1]. */
static enum relation relate(struct str a, struct str b)
{
    struct str la, lb;
    enum relation r = COVERS;
    if (a.n && b.n && (a.p[0] == '+' || a.p[0] == '#') && b.p[0] == '$')
        return APART;
    if (a.n && b.n && a.p[0] == '$' && (b.p[0] == '+' || b.p[0] == '#'))
        return APART;
    for (;;) {
        bool has_a = str_next(&a, '/', &la), has_b = str_next(&b, '/', &lb);
        if (has_a && str_eq(la, STR("#")))
            return r;
        if (has_b && str_eq(lb, STR("#")))
            return OVERLAPS;
        if (has_a != has_b) {
            /* "x/#" matches "x" too: the rest of the longer one may be a lone #. */
            return APART;
        }
        if (!has_a)
            return r;
        if (str_eq(la, STR("+")))
            continue;
        if (str_eq(lb, STR("+")))
            r = OVERLAPS;
        else if (!str_eq(la, lb))
            return APART;
    }
}

enum broker_acl_verdict broker_acl_check(const struct broker_acl *acl, struct str user,
                                         struct str client_id, enum broker_acl_action action,
                                         struct str topic)
{
    struct buf scratch = {0};
    bool is_allowed = false, is_denied = false, is_broken = false;
    for (size_t i = 0; i < acl->count && !is_denied; i++) {
        const struct rule *r = &acl->rule[i];
        struct str filter;
        if (!(r->access & ((unsigned)action | ACCESS_DENY)) ||
            (is_allowed && r->access != ACCESS_DENY))
            continue;
        if (!rule_for(r, user, client_id, &scratch, &filter)) {
            is_broken |= r->is_pattern && ((user.n > 0 && !is_plain(user)) || !is_plain(client_id));
            continue;
        }
        if (relate(filter, topic) != COVERS)
            continue;
        is_denied = r->access == ACCESS_DENY;
        is_allowed = true;
    }
    buf_deinit(&scratch);
    if (is_denied)
        return BROKER_ACL_NO;
    return is_allowed ? BROKER_ACL_YES : is_broken ? BROKER_ACL_ERROR : BROKER_ACL_NO;
}

bool broker_acl_allows(const struct broker_acl *acl, struct str user, struct str client_id,
                       enum broker_acl_action action, struct str topic)
{
    return broker_acl_check(acl, user, client_id, action, topic) == BROKER_ACL_YES;
}

enum broker_acl_cover broker_acl_covers(const struct broker_acl *acl, struct str user,
                                        struct str client_id, struct str filter)
{
    struct buf scratch = {0};
    enum broker_acl_cover best = BROKER_ACL_NONE;
    bool has_deny = false, is_denied = false;
    for (size_t i = 0; i < acl->count; i++) {
        const struct rule *r = &acl->rule[i];
        struct str own;
        if (!(r->access & (BROKER_ACL_READ | ACCESS_DENY)) ||
            !rule_for(r, user, client_id, &scratch, &own))
            continue;
        enum relation rel = relate(own, filter);
        if (r->access == ACCESS_DENY) {
            has_deny |= rel != APART;
            is_denied |= rel == COVERS;
        } else if (rel == COVERS) {
            best = BROKER_ACL_ALL;
        } else if (rel == OVERLAPS && best == BROKER_ACL_NONE) {
            best = BROKER_ACL_SOME;
        }
    }
    buf_deinit(&scratch);
    if (is_denied)
        return BROKER_ACL_NONE;
    return best == BROKER_ACL_ALL && has_deny ? BROKER_ACL_SOME : best;
}
