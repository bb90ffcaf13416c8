/* The suites of dist.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/dist/dist_unit.h"

Suite *unit_suites(int i)
{
    switch (i) {
    case 0:
        return index_suite();
    case 1:
        return dist_suite();
    case 2:
        return readers_suite();
    default:
        return NULL;
    }
}
