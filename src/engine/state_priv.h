/* What stands behind a state: a table of rows, over LevelDB or in memory.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A table is written by one thread and read by any.  Keys here are whole: [tag][space, 8 bytes big
 * endian][key of the caller], or [tag][key] for what is in no space. */
#pragma once

#include "base/map.h"
#include "engine/state.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TAG_DATA 'd'
#define TAG_DROP 'g' /* [g][space][varint length of from][from][to]: rows to be removed */
#define TAG_META 'm'
#define TAG_STORE 's'

struct engine_table;
struct engine_cursor;

struct engine_change {
    struct str key, value;
    bool is_del;
};

struct engine_row {
    struct str key, value;
};

struct engine_table_ops {
    /* Makes the changes, all or none: 0 or -errno. */
    int (*write)(struct engine_table *t, const struct engine_change *change, size_t count,
                 bool is_synced);
    /* 0, ENGINE_STATE_E_NONE, -errno. */
    int (*get)(struct engine_table *t, const void *snap, struct str key, struct buf *out);
    const void *(*snap)(struct engine_table *t);
    void (*release)(struct engine_table *t, const void *snap);
    struct engine_cursor *(*cursor)(struct engine_table *t, const void *snap);
    /* The first row at or after key, or with is_before the last one before it (an empty key: the
     * last of all).  Then on from there.  0, ENGINE_STATE_E_NONE, -errno. */
    int (*seek)(struct engine_cursor *c, struct str key, bool is_before, struct engine_row *out);
    int (*step)(struct engine_cursor *c, bool is_back, struct engine_row *out);
    void (*cursor_free)(struct engine_cursor *c);
    uint64_t (*size)(struct engine_table *t, struct str from, struct str to);
    /* Files that wait to be merged, 0 to 12: from 8 on writes are slowed, at 12 they stop. */
    int (*pressure)(struct engine_table *t);
    void (*close)(struct engine_table *t);
};

/* Each puts its own members behind this head. */
struct engine_table {
    const struct engine_table_ops *ops;
};

int engine_level_open(const struct engine_state_conf *conf, struct engine_table **out,
                      struct buf *out_why);
int engine_mem_open(struct engine_mem *mem, bool is_own, struct engine_table **out);

/* The changes of a batch, in order: start with at = 0; false at the end. */
bool engine_batch_next(const struct engine_batch *b, size_t *at, struct engine_change *out);

/* Changes of several batches, the last of each key.  Start with zeros. */
struct engine_merge {
    struct engine_change *change; /* views into the batches */
    size_t count, cap;
    struct map map;
};
void engine_merge_add(struct engine_merge *m, const struct engine_batch *b);
void engine_merge_deinit(struct engine_merge *m);

#ifdef __cplusplus
}
#endif
