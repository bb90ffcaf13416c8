/* Configuration and data are bilrostd's business: it runs in our place.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * The one beside us or in ../sbin is taken before one of the path, so that both are of one version.
 */
#include "ctl/daemon.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

int ctl_daemon(const char *what, int argc, char *const *given)
{
    const char *arg[6] = {"bilrostd"};
    size_t n = 1;
    if (strcmp(what, "explain") == 0 || strcmp(what, "verify") == 0) {
        arg[n++] = what[0] == 'e' ? "--explain-config" : "--verify-data";
        arg[n++] = given[0];
    } else {
        arg[n++] = strcmp(what, "check") == 0 ? "--test-config" : "--dump-config";
        if (argc > 0) {
            arg[n++] = "--config";
            arg[n++] = given[0];
        }
    }
    char own[4096], path[4200];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    own[len > 0 ? len : 0] = 0;
    char *slash = strrchr(own, '/');
    if (slash)
        *slash = 0;
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, i ? "%s/../sbin/bilrostd" : "%s/bilrostd", own);
        execv(path, (char *const *)(uintptr_t)arg);
    }
    execvp("bilrostd", (char *const *)(uintptr_t)arg);
    fprintf(stderr, "bilrostctl: cannot run bilrostd: %s\n", strerrordesc_np(errno));
    return EX_UNAVAILABLE;
}
