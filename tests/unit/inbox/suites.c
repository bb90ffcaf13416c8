/* The suites of inbox.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/inbox/inbox_unit.h"

Suite *unit_suites(int i)
{
    switch (i) {
    case 0:
        return inbox_suite();
    case 1:
        return model_suite();
    default:
        return NULL;
    }
}
