/* Hostile descriptors and ranges.  SPDX-License-Identifier: Apache-2.0 */
#include "range/descriptor.h"
#include "range/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct range_descriptor d;
    struct range r;
    if (range_descriptor_decode(str_view(data, size), &d) == 0) {
        struct buf b = {0};
        must(d.member_count <= RANGE_MEMBER_MAX);
        range_descriptor_encode(&d, &b);
        must(range_descriptor_decode(buf_str(&b), &d) == 0);
        buf_deinit(&b);
    }
    if (range_decode(str_view(data, size), &r) == 0) {
        range_check(&r);
        range_deinit(&r);
    }
    return 0;
}
