/* The suites of range.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/range/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_range};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
