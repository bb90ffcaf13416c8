/* The suites of net.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/net/net.h"

Suite *unit_suites(int i)
{
    switch (i) {
    case 0:
        return loop_suite();
    case 1:
        return mailbox_suite();
    case 2:
        return stream_suite();
    case 3:
        return address_suite();
    case 4:
        return wrap_suite();
    case 5:
        return http_suite();
    case 6:
        return scram_suite();
    case 7:
        return resolve_suite();
    default:
        return NULL;
    }
}
