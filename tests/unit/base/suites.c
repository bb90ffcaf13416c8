/* The suites of base.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/base/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_containers, suite_bytes, suite_numbers};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
