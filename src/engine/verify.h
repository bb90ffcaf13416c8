/* Looks over a data directory that nobody has open.  SPDX-License-Identifier: Apache-2.0
 *
 * Reads everything, changes no data (LevelDB may tidy its own files as on every opening). */
#pragma once

#include "base/log.h"
#include "engine/fs.h"

enum engine_verify_outcome {
    ENGINE_VERIFY_E_DAMAGED = 1, /* something was found */
    ENGINE_VERIFY_E_REFUSED,     /* not ours, newer, or in use: found() was told which */
};

struct engine_verify_conf {
    const char *path; /* the data directory */
    struct engine_fs fs;
    /* One sentence about one thing: which file, where in it, which group, what is wrong. */
    void (*found)(void *arg, struct str sentence);
    void *arg;
};

/* 0: all is well; an outcome; -errno. */
must_use int engine_verify(const struct engine_verify_conf *conf);
