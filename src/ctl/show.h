/* Answers for people.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ctl/command.h"

/* Appends the answer as this command shows it.  now_ms: since 1970, for ages.  Text that is no JSON
 * comes as it is. true: it tells of something critical. */
bool ctl_show(enum ctl_show how, struct str answer, uint64_t now_ms, struct buf *out);
