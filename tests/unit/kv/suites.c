/* The suites of kv.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/kv/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_wire, suite_span, suite_status,
                                            suite_ship, suite_node, suite_three};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
