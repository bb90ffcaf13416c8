/* A look at a data directory from within the room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine/dir.h"

/* Locks and reads an existing directory; writes nothing.  As engine_dir_open; -ENOENT when there is
 * none. */
must_use int engine_dir_peek(struct engine_fs fs, const char *path, struct engine_dir **out,
                             struct buf *out_why);
