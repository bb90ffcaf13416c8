/* The table of commands, and what is made of it.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

enum ctl_show {
    CTL_SHOW_TEXT, /* as it came */
    CTL_SHOW_ROWS, /* JSON as "name: value" lines */
    CTL_SHOW_STATUS,
    CTL_SHOW_MEMBERS,
    CTL_SHOW_KEYS,
    CTL_SHOW_RANGES,
    CTL_SHOW_SESSIONS,
    CTL_SHOW_SUBS,
    CTL_SHOW_RETAINED,
    CTL_SHOW_SERVERS,
    CTL_SHOW_DRAINS,
};

struct ctl_command {
    const char *name, *sub, *args;
    const char *method; /* "NONE": no request */
    const char *path;
    enum ctl_show show;
    const char *headers, *what, *more; /* command.def says how they read */
};

/* In the order of command.def; NULL behind the last. */
const struct ctl_command *ctl_command_at(size_t i);

/* The command that these words begin with: with its sub word when there is such a command, else
 * without.  NULL: none. out_used: how many words named it. */
const struct ctl_command *ctl_command_find(int argc, char *const *argv, int *out_used);

/* How many arguments it takes. */
void ctl_command_arity(const struct ctl_command *c, int *out_min, int *out_max);

/* Texts for people, appended: all commands; one (false: no such name); the manual page (roff);
 * completion of a shell
 * ("bash", "zsh"; false: another). */
void ctl_command_usage(struct buf *out);
bool ctl_command_help(const char *name, struct buf *out);
void ctl_command_manual(struct buf *out);
bool ctl_command_complete(const char *shell, struct buf *out);
