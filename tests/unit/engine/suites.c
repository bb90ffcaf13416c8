/* The suites of engine.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

Suite *suite_dir(void);
Suite *suite_fs(void);
Suite *suite_log(void);
Suite *suite_state(void);
Suite *suite_verify(void);

Suite *unit_suites(int i)
{
    switch (i) {
    case 0:
        return suite_dir();
    case 1:
        return suite_fs();
    case 2:
        return suite_log();
    case 3:
        return suite_state();
    case 4:
        return suite_verify();
    default:
        return NULL;
    }
}
