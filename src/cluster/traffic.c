/* Traffic rules and server groups, as rows of the table.  SPDX-License-Identifier: Apache-2.0
 *
 * CLUSTER_SPACE_TRAFFIC: key service / prefix, value a record of (group, weight) pairs.
 * CLUSTER_SPACE_GROUP: key service / server uuid, value a record of groups.
 *
 * Who serves a key: first a group, by the hash's place on a line on which each group that has a
 * live server takes its weight; then, by rendezvous hashing, one of the group's servers.  So a
 * server that comes or goes moves only its own part of the keys, unless it was the last or first of
 * its group.
 *
 * Never: trusts a row: what does not decode is no rule. */
#include "cluster/traffic.h"

#include "base/hash.h"
#include "cluster/record_priv.h"

#define KEY_MAX (CLUSTER_TRAFFIC_NAME_MAX + 1 + CLUSTER_TRAFFIC_PREFIX_MAX)

const char *cluster_traffic_service(size_t i)
{
    static const char *const name[] = {"session.dict"};
    return i < countof(name) ? name[i] : NULL;
}

static bool is_name(struct str s)
{
    return s.n > 0 && s.n <= CLUSTER_TRAFFIC_NAME_MAX && memchr(s.p, '/', s.n) == NULL;
}

/* service / rest; false: too long. */
static bool make_key(struct str service, struct str rest, char out[KEY_MAX], struct str *out_key)
{
    if (!is_name(service) || rest.n > CLUSTER_TRAFFIC_PREFIX_MAX)
        return false;
    memcpy(out, service.p, service.n);
    out[service.n] = '/';
    if (rest.n > 0)
        memcpy(out + service.n + 1, rest.p, rest.n);
    *out_key = str_view(out, service.n + 1 + rest.n);
    return true;
}

/* --- rules --- */

bool cluster_traffic_next(const struct cluster_seat *s, struct str service, size_t *at,
                          struct cluster_traffic_rule *out)
{
    char key[KEY_MAX];
    struct str begin;
    const struct cluster_row *r;
    if (!make_key(service, STR(""), key, &begin))
        return false;
    while ((r = cluster_row_next(s, CLUSTER_SPACE_TRAFFIC, begin, at)) != NULL) {
        out->prefix = str_view(r->key.p + begin.n, r->key.n - begin.n);
        if (cluster_record_rule_get(r->value, out))
            return true;
    }
    return false;
}

bool cluster_traffic_find(const struct cluster_seat *s, struct str service, struct str tenant,
                          struct cluster_traffic_rule *out)
{
    struct cluster_traffic_rule r;
    bool hit = false;
    for (size_t at = 0; cluster_traffic_next(s, service, &at, &r);)
        if (str_has_prefix(tenant, r.prefix)) { /* by prefix: a longer one comes later */
            *out = r;
            hit = true;
        }
    return hit;
}

bool cluster_traffic_put(struct cluster_seat *s, struct str service,
                         const struct cluster_traffic_rule *rule)
{
    char bytes[KEY_MAX];
    struct str key;
    struct buf b = {0};
    if (!make_key(service, rule->prefix, bytes, &key) || rule->share_count == 0 ||
        rule->share_count > CLUSTER_TRAFFIC_GROUPS_MAX)
        return false;
    bool ok = true;
    for (size_t i = 0; i < rule->share_count; i++) {
        const struct cluster_traffic_share *x = &rule->share[i];
        ok &= (x->group.n == 0 || is_name(x->group)) && x->weight <= CLUSTER_TRAFFIC_WEIGHT_MAX;
    }
    cluster_record_rule_put(&b, rule);
    ok = ok && cluster_row_put(s, CLUSTER_SPACE_TRAFFIC, key, buf_str(&b));
    buf_deinit(&b);
    return ok;
}

void cluster_traffic_del(struct cluster_seat *s, struct str service, struct str prefix)
{
    char bytes[KEY_MAX];
    struct str key;
    if (make_key(service, prefix, bytes, &key))
        cluster_row_del(s, CLUSTER_SPACE_TRAFFIC, key);
}

/* --- groups --- */

static bool group_key(struct str service, const struct uuid *server, char out[KEY_MAX],
                      struct str *out_key)
{
    char uuid[UUID_TEXT];
    uuid_format(server, uuid);
    return make_key(service, str_of(uuid), out, out_key);
}

size_t cluster_group_get(const struct cluster_seat *s, struct str service,
                         const struct uuid *server,
                         struct str out_group[CLUSTER_TRAFFIC_GROUPS_MAX])
{
    char bytes[KEY_MAX];
    struct str key;
    const struct cluster_row *r = group_key(service, server, bytes, &key)
                                      ? cluster_row_find(s, CLUSTER_SPACE_GROUP, key, NULL)
                                      : NULL;
    return r == NULL ? 0 : cluster_record_groups_get(r->value, out_group);
}

bool cluster_group_put(struct cluster_seat *s, struct str service, const struct uuid *server,
                       const struct str *group, size_t count)
{
    char bytes[KEY_MAX];
    struct str key;
    struct buf b = {0};
    if (count > CLUSTER_TRAFFIC_GROUPS_MAX || !group_key(service, server, bytes, &key))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!is_name(group[i]))
            return false;
    if (count == 0) {
        cluster_row_del(s, CLUSTER_SPACE_GROUP, key);
        return true;
    }
    cluster_record_groups_put(&b, group, count);
    bool ok = cluster_row_put(s, CLUSTER_SPACE_GROUP, key, buf_str(&b));
    buf_deinit(&b);
    return ok;
}

/* --- who serves --- */

struct pick {
    const struct cluster_seat *s;
    struct str service;
    bool (*usable)(void *arg, const struct cluster_member *m);
    void *arg;
    bool has_groups; /* of this service, anywhere */
};

static bool can_serve(const struct pick *p, const struct cluster_member *m)
{
    return m->state <= CLUSTER_ST_SUSPECT && (p->usable == NULL || p->usable(p->arg, m));
}

/* group.p NULL: any. */
static bool is_in(const struct pick *p, const struct cluster_member *m, struct str group)
{
    struct str of[CLUSTER_TRAFFIC_GROUPS_MAX];
    if (group.p == NULL || (!p->has_groups && group.n == 0))
        return true;
    size_t count = p->has_groups ? cluster_group_get(p->s, p->service, &m->uuid, of) : 0;
    for (size_t i = 0; i < count; i++)
        if (str_eq(of[i], group))
            return true;
    return count == 0 && group.n == 0;
}

/* Rendezvous hashing: the one with the highest mix of its id and the key. */
static const struct cluster_member *best_of(const struct pick *p, struct str group, uint64_t hash)
{
    const struct cluster_member *m, *best = NULL;
    uint64_t best_mix = 0;
    for (size_t i = 0; (m = cluster_member_at(p->s, i)) != NULL; i++) {
        if (!can_serve(p, m) || !is_in(p, m, group))
            continue;
        uint64_t mix = hash_bytes(m->uuid.b, sizeof m->uuid.b, hash);
        if (best == NULL || mix > best_mix) {
            best = m;
            best_mix = mix;
        }
    }
    return best;
}

const struct cluster_member *
cluster_traffic_pick(const struct cluster_seat *s, struct str service, struct str tenant,
                     uint64_t hash, bool (*usable)(void *arg, const struct cluster_member *m),
                     void *arg)
{
    struct pick p = {.s = s, .service = service, .usable = usable, .arg = arg};
    const struct cluster_member *of[CLUSTER_TRAFFIC_GROUPS_MAX];
    struct cluster_traffic_rule rule;
    char bytes[KEY_MAX];
    struct str begin;
    size_t at = 0;
    uint64_t total = 0;
    p.has_groups = make_key(service, STR(""), bytes, &begin) &&
                   cluster_row_next(s, CLUSTER_SPACE_GROUP, begin, &at) != NULL;
    if (!cluster_traffic_find(s, service, tenant, &rule)) {
        const struct cluster_member *m = best_of(&p, STR(""), hash);
        return m != NULL ? m : best_of(&p, (struct str){0}, hash);
    }
    for (size_t i = 0; i < rule.share_count; i++) {
        of[i] = rule.share[i].weight > 0 ? best_of(&p, rule.share[i].group, hash) : NULL;
        total += of[i] != NULL ? rule.share[i].weight : 0;
    }
    if (total == 0)
        return best_of(&p, (struct str){0}, hash);
    uint64_t place = hash_u64(hash) % total;
    for (size_t i = 0; i < rule.share_count; i++) {
        if (of[i] == NULL)
            continue;
        if (place < rule.share[i].weight)
            return of[i];
        place -= rule.share[i].weight;
    }
    return NULL; /* not reached: the shares add up to total */
}
