/* Answers for people.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

/* JSON as indented "name: value" lines; anything else as it is. */
void ctl_print_json(struct str json, struct buf *out);
