/* The suites of gossip.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *suite_suspicion(void);
Suite *suite_spread(void);
Suite *suite_table(void);
Suite *suite_member(void);

Suite *unit_suites(int i)
{
    Suite *(*const all[])(void) = {suite_suspicion, suite_spread, suite_table, suite_member};
    return i < (int)(sizeof all / sizeof all[0]) ? all[i]() : NULL;
}
