/* Hostile log entries: decoded or refused, applied without harm.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "lib/kv_machine.h"
#include "range/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The commands as a replica applies them whose range is less than everything: rows outside are
 * found. */
static void apply(struct range *r, struct range_command *c)
{
    const struct range_machine_ops *ops = test_machine_ops();
    struct range_apply in = {.index = 1, .hlc = c->hlc};
    struct range_out out = {.row_count = 0};
    struct range part = *r;
    void *m = ops->new (NULL);
    part.bounds = (struct range_bounds){STR("b"), STR("m"), false};
    ops->reset(m, &part.bounds);
    while (range_command_next(c, &in.command)) {
        range_out_reset(&out);
        ops->apply(m, &in, &out);
        bool is_good = range_has_rows(&part, &out);
        for (size_t i = 0; is_good && i < out.row_count; i++)
            must(range_bounds_has(&part.bounds, range_out_row(&out, i).key));
        in.sub++;
    }
    range_out_deinit(&out);
    ops->free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct range_command c;
    struct range r, right;
    if (range_command_decode(str_view(data, size), &c) != 0)
        return 0;
    range_init(&r, (struct range_id){1, 0});
    c.version.config = 0;
    if (range_apply(&r, &c, &right) == RANGE_OK && c.kind == RANGE_CMD_SPLIT) {
        range_check(&right);
        range_deinit(&right);
    }
    range_check(&r);
    apply(&r, &c);
    range_deinit(&r);
    return 0;
}
