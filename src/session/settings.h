/* The settings of a tenant that a session obeys.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"

/* A snapshot: whoever shares it does not change it any more. */
struct session_settings {
#define X(Name, field, KIND, def, min, max, WHEN, meaning) int64_t field;
#include "session/settings.def"
#undef X
};

enum session_setting_kind {
    SESSION_SETTING_BOOL,
    SESSION_SETTING_NUM,
};

enum session_setting_when { /* a change takes effect for a client that is connected */
    SESSION_SETTING_LIVE,    /* at once */
    SESSION_SETTING_CONNECT, /* when it connects again */
};

/* One row of the table, for configuration, documentation and the admin API. */
struct session_setting {
    const char *name;
    enum session_setting_kind kind;
    enum session_setting_when when;
    int64_t value_default, value_min, value_max;
    const char *meaning;
    size_t offset; /* of its int64_t in struct session_settings */
};

enum session_settings_outcome {
    SESSION_SETTINGS_E_UNKNOWN = 1, /* no setting of that name */
    SESSION_SETTINGS_E_BOUNDS,      /* outside [min, max] */
};

/* All rows in the order of settings.def. */
const struct session_setting *session_settings_table(size_t *out_count);

/* The row of this name, or NULL. */
const struct session_setting *session_settings_find(struct str name);

/* Every setting at its default. */
void session_settings_init(struct session_settings *s);

must_use int session_settings_set(struct session_settings *s, struct str name, int64_t value);

/* What is in force for a client that connected under `born` once its tenant has `now`: of each
 * setting the one or the other.  out may be born. */
void session_settings_renew(const struct session_settings *born, const struct session_settings *now,
                            struct session_settings *out);

/* must() every value inside its bounds and Min <= Max of the pairs. */
void session_settings_check(const struct session_settings *s);

/* The name of a setting that contradicts another (Min above Max), or NULL when all fit. */
const char *session_settings_conflict(const struct session_settings *s);
