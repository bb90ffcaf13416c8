/* What bilrostd alone knows: its configuration and its data.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Runs bilrostd in our place.  what: check, show, explain (config) or verify (store).  Returns only
 * when that cannot be: an exit code. */
int ctl_daemon(const char *what, int argc, char *const *arg);
