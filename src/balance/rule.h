/* Rules of balancers that change at run time.  SPDX-License-Identifier: Apache-2.0
 *
 * The text is that of the cluster's row "<store>/<balancer>" (space BALANCER_RULE) and of the admin
 * API: a JSON object of names and whole numbers, or true and false.  "disable" is every balancer's.
 */
#pragma once

#include "balance/balance.h"

#define BALANCE_RULE_WHY_MAX 200
#define BALANCE_RULE_TEXT_MAX 1024

enum balance_rule_outcome {
    BALANCE_RULE_E_BAD = 1, /* not taken: out_why says why, in one sentence */
};

/* Puts the text's rules for balancer k over *r; on an outcome *r is as it was. */
must_use int balance_rule_put(struct balance_rule *r, enum balance_kind k, struct str text,
                              char out_why[BALANCE_RULE_WHY_MAX]);

/* The rules that balancer k has, with their present values: the same text. */
void balance_rule_print(const struct balance_rule *r, enum balance_kind k, struct buf *out);
