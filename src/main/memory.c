/* The memory limit of a control group.  SPDX-License-Identifier: Apache-2.0
 *
 * A line of /proc/self/cgroup is "0::/path" (version 2) or "N:controllers:/path" (version 1), see
 * cgroups(7).
 *
 * Never: fails; what cannot be read is no limit. */
#include "main/memory.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define PATH_BYTES 4096
#define NONE_BYTES (UINT64_C(1) << 60) /* version 1 says "no limit" by a number near 2^63 */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static uint64_t read_limit(const char *path)
{
    unsigned long long bytes = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int n = fscanf(f, "%llu", &bytes); /* "max" is no number */
    fclose(f);
    return n == 1 && bytes < NONE_BYTES ? bytes : 0;
}

/* group is cut shorter and shorter, up to the root. */
static uint64_t limit_of(const char *root, char *group, const char *file)
{
    char path[2 * PATH_BYTES];
    uint64_t limit = 0;
    for (char *end = group + strlen(group); end; end = strrchr(group, '/')) {
        *end = 0;
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        limit = least(limit, read_limit(path));
    }
    return limit;
}

static bool has_memory(const char *controllers)
{
    struct str all = str_of(controllers), one;
    while (all.n && str_next(&all, ',', &one))
        if (str_eq(one, STR("memory")))
            return true;
    return false;
}

uint64_t main_memory_limit(const char *proc, const char *sys)
{
    char line[PATH_BYTES], root[PATH_BYTES];
    uint64_t limit = 0;
    FILE *f = fopen(proc, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(++controllers, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        if (controllers[0] == 0) {
            limit = least(limit, limit_of(sys, group, "memory.max"));
        } else if (has_memory(controllers)) {
            snprintf(root, sizeof root, "%.2000s/memory", sys);
            limit = least(limit, limit_of(root, group, "memory.limit_in_bytes"));
        }
    }
    fclose(f);
    return limit;
}
