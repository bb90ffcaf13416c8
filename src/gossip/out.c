/* Effects of a step.  SPDX-License-Identifier: Apache-2.0 */
#include "gossip/gossip_priv.h"

#include "base/mem.h"

struct str gossip_effect_bytes(const struct gossip_out *out, const struct gossip_effect *e)
{
    return str_view(e->n > 0 ? (const void *)(out->bytes.p + e->at) : "", e->n);
}

void gossip_out_reset(struct gossip_out *out)
{
    out->count = 0;
    out->bytes.n = 0;
}

void gossip_out_deinit(struct gossip_out *out)
{
    buf_deinit(&out->bytes);
    out->effect = mem_free(out->effect);
    out->count = out->cap = 0;
}

struct gossip_effect *gossip_out_add(struct gossip_out *out, enum gossip_effect_kind kind)
{
    out->effect = mem_grow(out->effect, &out->cap, out->count + 1, sizeof *out->effect);
    struct gossip_effect *e = &out->effect[out->count++];
    *e = (struct gossip_effect){.kind = kind};
    return e;
}
