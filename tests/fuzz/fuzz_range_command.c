/* Hostile log entries: decoded or refused, applied without harm.  SPDX-License-Identifier: Apache-2.0 */
#include "range/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct range_command c;
    struct range r, right;
    struct str cmd;
    if (range_command_decode(str_view(data, size), &c) != 0)
        return 0;
    range_init(&r, (struct range_id){1, 0});
    c.version.config = 0;
    if (range_apply(&r, &c, &right) == RANGE_OK && c.kind == RANGE_CMD_SPLIT) {
        range_check(&right);
        range_deinit(&right);
    }
    range_check(&r);
    while (range_command_next(&c, &cmd))
        must(cmd.n <= size);
    range_deinit(&r);
    return 0;
}
