/* Topic Names and Topic Filters.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 * 1. A name or filter that passed is non-empty UTF-8 without U+0000, within the limits, with wildcards only where the
 *    specification has them [MQTT-4.7.1-2] [MQTT-4.7.1-3].
 * 2. Checks read each byte once and allocate nothing. */
#include "codec/topic.h"

#define SHARE STR("$share/")
#define OSHARE STR("$oshare/")

enum class {
    PLAIN,
    SLASH,
    WILD,
    MULTI, /* first byte of a longer character, or junk */
    NUL,
};

static enum class class_of(unsigned char c)
{
    static const uint8_t table[256] = {
        [0] = NUL, ['/'] = SLASH, ['+'] = WILD, ['#'] = WILD, [0x80 ... 0xFF] = MULTI};
    return (enum class)table[c];
}

/* Bytes of the character at p, or 0 when it is none. */
static size_t character_len(const char *p, size_t left)
{
    unsigned char c = (unsigned char)p[0];
    size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    return n <= left && str_is_utf8(str_view(p, n)) ? n : 0;
}

/* A level is over: its characters and the number of levels. */
struct tally {
    uint32_t levels;
    size_t level_at;  /* first byte of the level */
    size_t tail;      /* bytes in the level that do not begin a character */
    size_t tail_all;
    bool is_over;
};

static void end_level(struct tally *t, const struct codec_topic_limits *l, size_t at)
{
    t->levels++;
    if (l->level_len_max != 0 && at - t->level_at - t->tail > l->level_len_max)
        t->is_over = true;
    if (l->level_max != 0 && t->levels > l->level_max)
        t->is_over = true;
    t->level_at = at + 1;
    t->tail = 0;
}

/* + stands alone in its level, # alone in the last one. */
static bool is_wildcard_placed(struct str s, size_t i)
{
    bool begins = i == 0 || s.p[i - 1] == '/';
    bool ends = i + 1 == s.n || (s.p[i] == '+' && s.p[i + 1] == '/');
    return begins && ends;
}

static int check(struct str s, const struct codec_topic_limits *limits, bool is_filter, bool *out_wildcard)
{
    static const struct codec_topic_limits none;
    const struct codec_topic_limits *l = limits != NULL ? limits : &none;
    struct tally t = {0};
    bool is_invalid = s.n == 0; /* [MQTT-4.7.3-1] */
    *out_wildcard = false;
    if (s.n > UINT16_MAX)
        return CODEC_TOPIC_E_LIMIT;
    for (size_t i = 0, n; i < s.n; i++) {
        switch (class_of((unsigned char)s.p[i])) {
        case PLAIN:
            break;
        case SLASH:
            end_level(&t, l, i);
            break;
        case WILD:
            *out_wildcard = true;
            is_invalid = is_invalid || !is_filter || !is_wildcard_placed(s, i);
            break;
        case MULTI:
            n = character_len(s.p + i, s.n - i);
            if (n == 0)
                return CODEC_TOPIC_E_MALFORMED;
            t.tail += n - 1;
            t.tail_all += n - 1;
            i += n - 1;
            break;
        case NUL:
            return CODEC_TOPIC_E_MALFORMED; /* [MQTT-4.7.3-2] */
        }
    }
    end_level(&t, l, s.n);
    if (is_invalid)
        return CODEC_TOPIC_E_INVALID;
    if (t.is_over || (l->len_max != 0 && s.n - t.tail_all > l->len_max))
        return CODEC_TOPIC_E_LIMIT;
    return 0;
}

int codec_topic_name_check(struct str name, const struct codec_topic_limits *limits)
{
    bool has_wildcard;
    int r = check(name, limits, false, &has_wildcard);
    if (r == 0 && name.p[0] == '$' && (str_has_prefix(name, SHARE) || str_has_prefix(name, OSHARE)))
        return CODEC_TOPIC_E_INVALID;
    return r;
}

int codec_topic_filter_parse(struct str text, const struct codec_topic_limits *limits,
                             struct codec_topic_filter *out)
{
    *out = (struct codec_topic_filter){.kind = CODEC_TOPIC_NORMAL, .group = str_view("", 0), .filter = text,
                                       .text = text};
    size_t prefix = 0;
    if (str_has_prefix(text, SHARE)) {
        out->kind = CODEC_TOPIC_SHARE;
        prefix = SHARE.n;
    } else if (str_has_prefix(text, OSHARE)) {
        out->kind = CODEC_TOPIC_OSHARE;
        prefix = OSHARE.n;
    }
    if (prefix > 0) {
        struct str rest = str_view(text.p + prefix, text.n - prefix);
        if (!str_is_utf8(text))
            return CODEC_TOPIC_E_MALFORMED;
        if (!codec_topic_next(&rest, &out->group) || out->group.n == 0 || rest.p == NULL)
            return CODEC_TOPIC_E_INVALID; /* [MQTT-4.8.2-1] [MQTT-4.8.2-2] */
        if (memchr(out->group.p, '+', out->group.n) != NULL || memchr(out->group.p, '#', out->group.n) != NULL)
            return CODEC_TOPIC_E_INVALID;
        out->filter = rest;
    }
    return check(out->filter, limits, true, &out->has_wildcard);
}

uint32_t codec_topic_levels(struct str topic)
{
    uint32_t n = 1;
    for (size_t i = 0; i < topic.n; i++)
        n += topic.p[i] == '/';
    return n;
}

bool codec_topic_match(struct str filter, struct str name)
{
    struct str f, t, filters = filter, levels = name;
    if (name.n > 0 && name.p[0] == '$' && filter.n > 0 && (filter.p[0] == '+' || filter.p[0] == '#'))
        return false;
    while (codec_topic_next(&filters, &f)) {
        if (f.n == 1 && f.p[0] == '#')
            return true; /* the parent too, of which no level is left (MQTT5 4.7.1.2) */
        if (!codec_topic_next(&levels, &t) || !((f.n == 1 && f.p[0] == '+') || str_eq(f, t)))
            return false;
    }
    return levels.p == NULL;
}
