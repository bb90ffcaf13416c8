/* Rules of balancers: configured, and changed at run time.  SPDX-License-Identifier: Apache-2.0
 *
 * Rows of CLUSTER_SPACE_BALANCER_RULE: key "<store>/<balancer>", value as balance/rule.h has it.
 *
 * 1. A row that is refused (of a newer release, say) changes nothing. */
#include "balance/rule.h"
#include "kv/kv_priv.h"

#define KEY_MAX 96

static struct str key_of(const struct kv_store *s, enum balance_kind k, char out[KEY_MAX])
{
    snprintf(out, KEY_MAX, "%s/%s", s->name, balance_name(k));
    return str_of(out);
}

void kv_rule_of(const struct kv_loop *l, const struct kv_store *s, struct balance_rule *out)
{
    char key[KEY_MAX], why[BALANCE_RULE_WHY_MAX];
    *out = balance_rule_default();
    out->voter_count = s->conf.voter_count;
    out->learner_count = s->conf.learner_count;
    out->dead_usec = l->kv->conf.dead_usec;
    out->split_bytes = s->conf.split_bytes;
    for (int k = 0; k < BALANCE_KIND_COUNT && l->seat; k++) {
        const struct cluster_row *row = cluster_row_find(
            l->seat, CLUSTER_SPACE_BALANCER_RULE, key_of(s, (enum balance_kind)k, key), NULL);
        if (row && balance_rule_put(out, (enum balance_kind)k, row->value, why) != 0)
            log_line(l->kv->conf.log, LOG_LEVEL_DEBUG, "kv.rule", "%s: %s", key, why);
    }
}

const char *kv_balancer_at(size_t i)
{
    return i < BALANCE_KIND_COUNT ? balance_name((enum balance_kind)i) : NULL;
}

int kv_rule_get(struct kv_client *c, struct str balancer, struct buf *out)
{
    struct balance_rule r;
    enum balance_kind k = balance_kind_of(balancer);
    if (k == BALANCE_KIND_COUNT)
        return KV_RULE_E_UNKNOWN;
    kv_rule_of(c->loop, c->store, &r);
    balance_rule_print(&r, k, out);
    return 0;
}

int kv_rule_put(struct kv_client *c, struct str balancer, struct str rules,
                char out_why[KV_RULE_WHY_MAX])
{
    struct balance_rule r;
    struct buf row = {0};
    char key[KEY_MAX];
    enum balance_kind k = balance_kind_of(balancer);
    out_why[0] = 0;
    if (k == BALANCE_KIND_COUNT)
        return KV_RULE_E_UNKNOWN;
    if (!c->loop->seat)
        return KV_RULE_E_ALONE;
    kv_rule_of(c->loop, c->store, &r);
    if (balance_rule_put(&r, k, rules, out_why) != 0)
        return KV_RULE_E_BAD;
    if (r.is_off[k] && (k == BALANCE_BOOTSTRAP || k == BALANCE_REDUNDANT)) {
        snprintf(out_why, KV_RULE_WHY_MAX, "%s cannot be switched off%s", balance_name(k),
                 k == BALANCE_REDUNDANT ? ", and deletes nothing by itself" : "");
        return KV_RULE_E_BAD;
    }
    balance_rule_print(&r, k, &row);
    must(cluster_row_put(c->loop->seat, CLUSTER_SPACE_BALANCER_RULE, key_of(c->store, k, key),
                         buf_str(&row)));
    buf_deinit(&row);
    if (k == BALANCE_RECOVERY) {
        snprintf(out_why, KV_RULE_WHY_MAX,
                 "RecoveryBalancer is deprecated and does nothing: for a range that has lost its "
                 "majority there is bilrostctl store recover");
        log_line(c->loop->kv->conf.log, LOG_LEVEL_WARN, "kv.rule.deprecated", "%s", out_why);
    }
    if (k == BALANCE_REDUNDANT)
        snprintf(
            out_why, KV_RULE_WHY_MAX,
            "RedundantEpochRemovalBalancer deletes nothing by itself: where a store was founded "
            "twice, bilrostctl status says so and what to do");
    return 0;
}

int kv_rule_reset(struct kv_client *c, struct str balancer)
{
    char key[KEY_MAX];
    enum balance_kind k = balance_kind_of(balancer);
    if (k == BALANCE_KIND_COUNT)
        return KV_RULE_E_UNKNOWN;
    if (!c->loop->seat)
        return KV_RULE_E_ALONE;
    cluster_row_del(c->loop->seat, CLUSTER_SPACE_BALANCER_RULE, key_of(c->store, k, key));
    return 0;
}
