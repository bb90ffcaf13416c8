/* One command carried out: the request, its pages, the answer.  SPDX-License-Identifier: Apache-2.0
 */
#pragma once

#include "ctl/command.h"

enum ctl_exit { /* of sysexits.h where it has one */
                CTL_EXIT_OK = 0,
                CTL_EXIT_REFUSED = 1, /* the node said no */
                CTL_EXIT_USAGE = 64,
                CTL_EXIT_UNAVAILABLE = 69, /* nobody answers */
                CTL_EXIT_PROTOCOL = 76,    /* it is no admin API, or that of another version */
                CTL_EXIT_PERMISSION = 77,
};

struct ctl_options {
    const char *target, *token, *tenant, *qos, *ca;
    uint64_t limit; /* 0: all */
    bool is_json, is_sure;
};

/* Prints to standard output, complaints to standard error; an exit code.  arg: as many as the
 * command takes. */
int ctl_ask(const struct ctl_options *o, const struct ctl_command *c, int argc, char *const *arg);
