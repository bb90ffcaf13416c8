/* JSON that somebody else wrote: what is read prints, and what was printed reads the same.
 * SPDX-License-Identifier: Apache-2.0 */
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char why[CODEC_JSON_ERROR_MAX];
    struct buf once = {0}, twice = {0}, text = {0};
    struct codec_json *j = codec_json_parse(str_view(p, n), why);
    if (j) {
        codec_json_print(j, &once);
        j = codec_json_free(j);
        j = codec_json_parse(buf_str(&once), why);
        must(j != NULL);
        codec_json_print(j, &twice);
        must(str_eq(buf_str(&once), buf_str(&twice)));
        codec_json_free(j);
    }
    codec_json_put(&text, str_view(p, n)); /* any bytes become a text */
    j = codec_json_parse(buf_str(&text), why);
    must(j != NULL);
    must(codec_json_kind(j) == CODEC_JSON_TEXT);
    codec_json_free(j);
    buf_deinit(&once);
    buf_deinit(&twice);
    buf_deinit(&text);
    return 0;
}
