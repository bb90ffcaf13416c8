/* Tenants and their settings.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 a published snapshot never changes;  2 every loop always has one.
 * It never reads a file: the node brings names and values. */
#include "broker/tenant.h"

#include "base/mem.h"

struct broker_settings *broker_settings_new(const struct session_settings *value)
{
    session_settings_check(value);
    struct broker_settings *s = mem_new(sizeof(*s));
    atomic_init(&s->refs, 1);
    s->value = *value;
    return s;
}

struct broker_settings *broker_settings_ref(struct broker_settings *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

struct broker_settings *broker_settings_unref(struct broker_settings *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        mem_free(s);
    return NULL;
}

struct broker_tenant *broker_tenant_new(struct str name, uint32_t index,
                                        struct broker_settings *settings, size_t loop_count,
                                        struct budget *memory)
{
    struct broker_tenant *t = mem_new(sizeof(*t));
    t->name = str_dup(name);
    t->index = index;
    budget_init(&t->memory, memory, UINT64_MAX);
    t->loop_count = loop_count;
    t->loop = mem_new(loop_count * sizeof(*t->loop));
    for (size_t i = 0; i < loop_count; i++)
        t->loop[i].settings = broker_settings_ref(settings);
    return t;
}

struct broker_tenant *broker_tenant_free(struct broker_tenant *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->loop_count; i++)
        broker_settings_unref(t->loop[i].settings);
    mem_free(t->loop);
    mem_free((void *)(uintptr_t)t->name.p);
    return mem_free(t);
}

void broker_tenant_settings_set(struct broker_tenant *t, size_t loop, struct broker_settings *s)
{
    must(loop < t->loop_count);
    struct broker_settings *old = t->loop[loop].settings;
    t->loop[loop].settings = broker_settings_ref(s);
    broker_settings_unref(old);
}
