/* Tenants and their settings.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 a published snapshot never changes;  2 every loop always has one.
 * It never reads a file: the node brings names and values. */
#include "broker/tenant.h"

#include "base/mem.h"

static const struct {
    const char *name, *what;
    int64_t def, min, max;
    size_t offset;
} table[] = {
#define SETTING(name, field, def, min, max, what)                                                    \
    {#name, what, def, min, max, offsetof(struct broker_settings, field)},
#include "broker/setting.def"
#undef SETTING
};

static int64_t *place(struct broker_settings *s, size_t i)
{
    return (int64_t *)(void *)((char *)s + table[i].offset);
}

struct broker_settings *broker_settings_new(void)
{
    struct broker_settings *s = mem_new(sizeof(*s));
    atomic_init(&s->refs, 1);
    for (size_t i = 0; i < countof(table); i++)
        *place(s, i) = table[i].def;
    return s;
}

struct broker_settings *broker_settings_dup(const struct broker_settings *s)
{
    struct broker_settings *d = mem_dup(s, sizeof(*s));
    atomic_init(&d->refs, 1);
    return d;
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

static size_t find(struct str name)
{
    for (size_t i = 0; i < countof(table); i++)
        if (str_eq(str_of(table[i].name), name))
            return i;
    return countof(table);
}

int broker_settings_set(struct broker_settings *s, struct str name, int64_t value)
{
    size_t i = find(name);
    if (i == countof(table))
        return BROKER_SETTING_E_UNKNOWN;
    if (value < table[i].min || value > table[i].max)
        return BROKER_SETTING_E_RANGE;
    *place(s, i) = value;
    return 0;
}

int broker_settings_get(const struct broker_settings *s, struct str name, int64_t *out)
{
    size_t i = find(name);
    if (i == countof(table))
        return BROKER_SETTING_E_UNKNOWN;
    memcpy(out, (const char *)s + table[i].offset, sizeof(*out));
    return 0;
}

bool broker_setting_info(size_t i, struct broker_setting_info *out)
{
    if (i >= countof(table))
        return false;
    *out = (struct broker_setting_info){table[i].name, table[i].what, table[i].def, table[i].min,
                                        table[i].max};
    return true;
}

struct broker_tenant *broker_tenant_new(struct str name, uint32_t index, struct broker_settings *settings,
                                        size_t loop_count, struct budget *memory)
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
