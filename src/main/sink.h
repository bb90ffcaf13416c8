/* Where log lines go: the journal with its fields, or stderr.  SPDX-License-Identifier: Apache-2.0
 */
#pragma once

#include "base/log.h"

struct main_sink {
    struct log log;
    bool is_journal;
};

/* level: a name of the configuration's log_level. */
void main_sink_init(struct main_sink *s, const char *level);
void main_sink_level(struct main_sink *s, const char *level);
