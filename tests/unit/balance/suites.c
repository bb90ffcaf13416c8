/* The suites of balance.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/balance/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_balance, suite_rule, suite_settle};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
