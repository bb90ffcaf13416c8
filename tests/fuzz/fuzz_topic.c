/* Topics and filters: checks are total, and a filter that equals a name matches it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The input is filter NUL name. */
#include "codec/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct codec_topic_limits limits = {.level_max = 5, .level_len_max = 8, .len_max = 30};
    const uint8_t *nul = n > 0 ? memchr(data, 0, n) : NULL;
    size_t cut = nul != NULL ? (size_t)(nul - data) : n;
    struct str text = str_view(data, cut), name = str_view(data + cut, n - cut);
    struct codec_topic_filter f, g;
    if (nul != NULL)
        name = str_view(nul + 1, name.n - 1);
    int r = codec_topic_filter_parse(text, NULL, &f), q = codec_topic_name_check(name, NULL);
    int with = codec_topic_filter_parse(text, &limits, &g);
    must(with == r || (r == 0 && with == CODEC_TOPIC_E_LIMIT));
    if (r == 0) {
        must(f.filter.n > 0 && str_eq(f.text, text));
        must(f.kind == CODEC_TOPIC_NORMAL ? f.group.n == 0 : f.group.n > 0);
        if (!f.has_wildcard)
            must(codec_topic_match(f.filter, f.filter));
    }
    if (q == 0) {
        struct str rest = name, level;
        uint32_t levels = 0;
        size_t bytes = 0;
        for (; codec_topic_next(&rest, &level); levels++)
            bytes += level.n;
        must(levels == codec_topic_levels(name));
        must(bytes + levels - 1 == name.n);
        must(codec_topic_match(STR("#"), name) == (name.p[0] != '$'));
    }
    if (r == 0 && q == 0)
        must(f.has_wildcard || codec_topic_match(f.filter, name) == str_eq(f.filter, name));
    return 0;
}
