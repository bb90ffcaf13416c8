/* Topic Names and Topic Filters (MQTT 5.0 4.7, 4.8).  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"

/* Limits on top of the specification's, counted in characters (code points), of the part behind a share prefix.  0: no
 * limit of ours (a topic is never longer than 65535 bytes). */
struct codec_topic_limits {
    uint32_t level_max;     /* levels in one topic or filter */
    uint32_t level_len_max; /* characters in one level */
    uint32_t len_max;       /* characters in all, separators included */
};

enum codec_topic_outcome {
    CODEC_TOPIC_E_MALFORMED = 1, /* not UTF-8, a surrogate, or U+0000: a malformed packet (0x81) */
    CODEC_TOPIC_E_INVALID,       /* empty, a wildcard where none may be, or a bad share: 0x90 or 0x8F */
    CODEC_TOPIC_E_LIMIT,         /* well formed but over a limit: 0x90 or 0x8F */
};

/* May this be published to?  No wildcards; names under $share/ and $oshare/ are refused, other $ names are the caller's
 * matter.  limits may be NULL. */
must_use int codec_topic_name_check(struct str name, const struct codec_topic_limits *limits);

enum codec_topic_kind {
    CODEC_TOPIC_NORMAL,
    CODEC_TOPIC_SHARE,  /* $share/group/filter: one member per message */
    CODEC_TOPIC_OSHARE, /* $oshare/group/filter: one member per publisher, keeps order */
};

/* A subscription's filter taken apart; views into the text. */
struct codec_topic_filter {
    enum codec_topic_kind kind;
    struct str group;     /* ShareName; empty when NORMAL */
    struct str filter;    /* what topics are matched with */
    struct str text;      /* as subscribed, with the prefix */
    bool has_wildcard;
};

/* Checks and takes apart.  limits may be NULL. */
must_use int codec_topic_filter_parse(struct str text, const struct codec_topic_limits *limits,
                                      struct codec_topic_filter *out);

/* Walks the levels: start with *rest = the topic; false behind the last.  "a//b" has three levels, "/" two. */
static inline bool codec_topic_next(struct str *rest, struct str *out_level)
{
    if (rest->p == NULL)
        return false;
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    if (slash == NULL) {
        *out_level = *rest;
        *rest = (struct str){NULL, 0};
    } else {
        *out_level = str_view(rest->p, (size_t)(slash - rest->p));
        *rest = str_view(slash + 1, rest->n - out_level->n - 1);
    }
    return true;
}

/* Levels of a non-empty topic or filter. */
uint32_t codec_topic_levels(struct str topic);

/* Does the filter (no share prefix, already checked) match the name?  A wildcard at the first level does not match a
 * name that begins with $ [MQTT-4.7.2-1]. */
bool codec_topic_match(struct str filter, struct str name);
