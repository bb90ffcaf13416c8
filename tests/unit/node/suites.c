/* The suites of node.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *conf_suite(void);
Suite *health_suite(void);

Suite *unit_suites(int i)
{
    return i == 0 ? conf_suite() : i == 1 ? health_suite() : NULL;
}
