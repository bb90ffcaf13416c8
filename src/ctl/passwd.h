/* The password file.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

enum ctl_passwd_what {
    CTL_PASSWD_HASH,   /* Argon2id */
    CTL_PASSWD_SCRAM,  /* keys for SCRAM-SHA-256, which a plain password is checked against as well
                        */
    CTL_PASSWD_DELETE, /* removes the name */
};

/* Sets (or removes) NAME in FILE; the file is replaced whole.  Returns the exit code. */
int ctl_passwd(const char *file, const char *name, enum ctl_passwd_what what);
