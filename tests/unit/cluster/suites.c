/* The suites of cluster.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *suite_link(void);
Suite *suite_cluster(void);
Suite *suite_seal(void);
Suite *suite_keyring(void);
Suite *suite_tls(void);
Suite *suite_wire(void);
Suite *suite_traffic(void);
Suite *suite_seeds(void);

Suite *unit_suites(int i)
{
    Suite *(*const all[])(void) = {suite_link, suite_cluster, suite_seal,    suite_keyring,
                                   suite_tls,  suite_wire,    suite_traffic, suite_seeds};
    return i < (int)(sizeof all / sizeof all[0]) ? all[i]() : NULL;
}
