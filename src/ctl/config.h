/* `bilrostctl config`: bilrostd says it.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Runs bilrostd in our place; returns only when that cannot be: an exit code. */
int ctl_config(const char *what, int argc, char *const *arg);
