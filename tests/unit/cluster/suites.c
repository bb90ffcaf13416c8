/* The suites of cluster.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *suite_link(void);
Suite *suite_cluster(void);

Suite *unit_suites(int i)
{
    return i == 0 ? suite_link() : i == 1 ? suite_cluster() : NULL;
}
