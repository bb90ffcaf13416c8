/* Who this node is: kept in its data directory.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "base/uuid.h"

#define CLUSTER_ERROR_MAX 320

struct cluster_identity {
    struct uuid uuid;
    uint64_t epoch; /* higher than in any earlier life */
    int lock;       /* descriptor, -1 none */
};

/* Locks the directory, reads or invents the uuid, and writes the next epoch to the disk before it
 * returns. path NULL: a fresh identity that nobody keeps.  0, or -errno with one plain sentence;
 * -EBUSY: in use by another process. */
must_use int cluster_identity_open(const char *path, uint64_t wall_ms, struct cluster_identity *out,
                                   char error[CLUSTER_ERROR_MAX]);
void cluster_identity_close(struct cluster_identity *id);

/* A small file of this directory: written whole, beside, synced, renamed.  0 or -errno. */
must_use int cluster_file_write(const char *path, const char *name, struct str content);
/* 0, -ENOENT, or -errno; at most max bytes. */
must_use int cluster_file_read(const char *path, const char *name, size_t max, struct buf *out);
