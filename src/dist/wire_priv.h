/* The record of a route, in commands, replies and rows.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/record.h"
#include "dist/index.h"

/* The fields of a route as the content of a bytes field `tag`; those that are 0 or empty are left
 * out. */
void dist_wire_put(struct buf *out, uint32_t tag, const struct dist_route *r, uint32_t member_max);

/* Views into fields.  False when it cannot be one; values are not judged here. */
must_use bool dist_wire_get(struct str fields, struct dist_route *out, uint32_t *out_member_max);
