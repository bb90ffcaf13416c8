/* What the balancers decide, carried out.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/kv_priv.h"

void kv_balance_turn(struct kv_loop *l)
{
    (void)l;
}
