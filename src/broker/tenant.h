/* A tenant: whose clients, topics, limits and metrics these are.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Settings are an immutable snapshot.  Each loop holds its own pointer to the one in force, so that
 * reading it is a load; a connection keeps a reference to the snapshot it was born with.  A reload
 * hands a new snapshot to every loop. */
#pragma once

#include <stdatomic.h>

#include "base/budget.h"
#include "base/str.h"
#include "broker/metric.h"
#include "session/settings.h"

struct broker_settings {
    _Atomic uint32_t refs;
    struct session_settings value; /* session/settings.h: names, defaults, bounds */
};

/* A snapshot of these values, one reference.  Yours: broker_settings_unref. */
struct broker_settings *broker_settings_new(const struct session_settings *value) must_use;
struct broker_settings *broker_settings_ref(struct broker_settings *s);
/* NULL is fine; returns NULL. */
struct broker_settings *broker_settings_unref(struct broker_settings *s);

/* Limits of a tenant over all its clients on this node; 0: no limit. */
struct broker_tenant_limits {
    uint64_t connection_max;
    uint64_t connect_per_sec_max;
    uint64_t in_bytes_per_sec_max;
    uint64_t memory_max;
    uint64_t retained_max, retained_bytes_max; /* of the whole cluster */
};

/* A tenant's part on one loop: only that loop touches it, readers of metrics apart. */
struct broker_tenant_loop {
    struct broker_settings *settings;
    struct broker_metrics metrics;
    char pad[64]; /* keeps two loops off one cache line */
};

/* Occasions in the present window; all loops count. */
struct broker_rate {
    _Atomic uint64_t began; /* monotonic, microseconds */
    _Atomic uint64_t used;
};

struct broker_tenant {
    struct str name;
    uint32_t index; /* dense, in this node only */
    struct broker_tenant_limits limits;
    _Atomic int durability; /* enum broker_durability in force, as last told */
    _Atomic uint64_t connection_count;
    struct broker_rate connects, bytes;
    struct budget memory; /* parent: the process */
    size_t loop_count;
    struct broker_tenant_loop *loop;
};

/* settings: each loop takes its own reference.  memory may be NULL. */
struct broker_tenant *broker_tenant_new(struct str name, uint32_t index,
                                        struct broker_settings *settings, size_t loop_count,
                                        struct budget *memory) must_use;
struct broker_tenant *broker_tenant_free(struct broker_tenant *t);

/* On loop i: from now on these settings (takes its own reference). */
void broker_tenant_settings_set(struct broker_tenant *t, size_t loop, struct broker_settings *s);
