/* Processor time of other processes, from the scheduler's own nanoseconds. SPDX-License-Identifier:
 * Apache-2.0 */
#include "bench/cpu.h"

#include <dirent.h>
#include <stdio.h>

static uint64_t task_nsec(const char *path)
{
    unsigned long long nsec = 0;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu", &nsec) != 1)
        nsec = 0;
    fclose(f);
    return nsec;
}

uint64_t bench_cpu_of(const int *pid, unsigned count)
{
    uint64_t nsec = 0;
    for (unsigned i = 0; i < count; i++) {
        char dir[64], path[400];
        snprintf(dir, sizeof dir, "/proc/%d/task", pid[i]);
        DIR *d = opendir(dir);
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s/schedstat", dir, e->d_name);
            nsec += task_nsec(path);
        }
        if (d != NULL)
            closedir(d);
    }
    return nsec / 1000;
}
