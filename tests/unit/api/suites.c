/* The suites of api.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/api/suites.h"

Suite *unit_suites(int i)
{
    return i == 0 ? routes_suite() : i == 1 ? list_suite() : NULL;
}
