/* The suites of main.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *memory_suite(void);

Suite *unit_suites(int i)
{
    return i == 0 ? memory_suite() : NULL;
}
