/* Would the simulator see a fault?  Each planted one must be caught, and none when none is planted.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each seed is played in a process of its own: a failed must() is a way of being caught. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raft/canary_priv.h"
#include "sim/lib/group_play.h"

#define SEEDS_MAX 3000 /* within these each fault must be seen */
#define SEEDS_SOUND 20

static enum raft_canary_fault planted;

static const char *const name[RAFT_CANARY_COUNT] = {
    [RAFT_CANARY_NONE] = "none",
    [RAFT_CANARY_OVER_COMMIT] = "over-commit",
    [RAFT_CANARY_TRUNCATE] = "truncate",
    [RAFT_CANARY_DOUBLE_VOTE] = "double-vote",
    [RAFT_CANARY_ACK_UNFLUSHED] = "ack-unflushed",
    [RAFT_CANARY_NOT_ACK_CLOCKED] = "not-ack-clocked",
    [RAFT_CANARY_LYING_DISK] = "lying-disk",
    [RAFT_CANARY_ENDLESS_LEASE] = "endless-lease",
};

bool raft_canary(enum raft_canary_fault f)
{
    return f == planted;
}

/* True when the seed went well. */
static bool play(uint64_t seed)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct group_play_options o = {planted == RAFT_CANARY_LYING_DISK};
        struct world w = {.arg = &o};
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        group_play(&w, seed);
        if (w.failure[0] != 0)
            printf("  %s\n", w.failure);
        fflush(stdout);
        _exit(w.failure[0] != 0);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool is_seen(enum raft_canary_fault f, uint64_t from)
{
    uint64_t count = f == RAFT_CANARY_NONE ? SEEDS_SOUND : SEEDS_MAX;
    planted = f;
    for (uint64_t seed = from; seed < from + count; seed++) {
        if (play(seed))
            continue;
        printf("%s: seen with seed %llu\n", name[f], (unsigned long long)seed);
        return f != RAFT_CANARY_NONE;
    }
    printf("%s: nothing in %llu seeds\n", name[f], (unsigned long long)count);
    return f == RAFT_CANARY_NONE;
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    uint64_t from = 1;
    const char *only = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--short-count") == 0) {
            printf("1\n");
            return 0;
        }
        if (i + 1 < argc && (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--seeds") == 0))
            from = strtoull(argv[i + 1], NULL, 10);
        if (i + 1 < argc && strcmp(argv[i], "--canary") == 0)
            only = argv[i + 1];
    }
    for (int f = 0; f < RAFT_CANARY_COUNT; f++) {
        if (only != NULL && strcmp(only, name[f]) != 0)
            continue;
        bool ok = is_seen((enum raft_canary_fault)f, from);
        passed += ok;
        failed += !ok;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
