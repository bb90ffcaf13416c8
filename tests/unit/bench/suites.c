/* The suites of bench.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/bench/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_count, suite_load};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
