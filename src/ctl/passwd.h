/* The password file.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/* Sets (or with is_delete removes) NAME in FILE; the file is replaced whole.  Returns the exit
 * code. */
int ctl_passwd(const char *file, const char *name, bool is_delete);
