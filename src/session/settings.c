/* The settings of a tenant.  SPDX-License-Identifier: Apache-2.0 */
#include "session/settings.h"

static const struct session_setting table[] = {
#define X(Name, field, KIND, def, min, max, WHEN, meaning) \
    {#Name, SESSION_SETTING_##KIND, SESSION_SETTING_##WHEN, def, min, max, meaning, \
     offsetof(struct session_settings, field)},
#include "session/settings.def"
#undef X
};

const struct session_setting *session_settings_table(size_t *out_count)
{
    *out_count = countof(table);
    return table;
}

const struct session_setting *session_settings_find(struct str name)
{
    for (size_t i = 0; i < countof(table); i++)
        if (str_eq(name, str_of(table[i].name)))
            return &table[i];
    return NULL;
}

static int64_t *value_of(struct session_settings *s, const struct session_setting *row)
{
    return (int64_t *)(void *)((char *)s + row->offset);
}

void session_settings_init(struct session_settings *s)
{
    for (size_t i = 0; i < countof(table); i++)
        *value_of(s, &table[i]) = table[i].value_default;
}

int session_settings_set(struct session_settings *s, struct str name, int64_t value)
{
    const struct session_setting *row = session_settings_find(name);
    if (row == NULL)
        return SESSION_SETTINGS_E_UNKNOWN;
    if (value < row->value_min || value > row->value_max)
        return SESSION_SETTINGS_E_BOUNDS;
    *value_of(s, row) = value;
    return 0;
}

const char *session_settings_conflict(const struct session_settings *s)
{
    if (s->min_session_expiry_seconds > s->max_session_expiry_seconds)
        return "MinSessionExpirySeconds";
    return NULL;
}

void session_settings_renew(const struct session_settings *born, const struct session_settings *now,
                            struct session_settings *out)
{
    struct session_settings s = *now;
    for (size_t i = 0; i < countof(table); i++)
        if (table[i].when == SESSION_SETTING_CONNECT)
            *value_of(&s, &table[i]) = *(const int64_t *)(const void *)((const char *)born + table[i].offset);
    *out = s;
}

void session_settings_check(const struct session_settings *s)
{
    for (size_t i = 0; i < countof(table); i++) {
        int64_t v = *(const int64_t *)(const void *)((const char *)s + table[i].offset);
        must(v >= table[i].value_min && v <= table[i].value_max);
    }
    must(session_settings_conflict(s) == NULL);
}
