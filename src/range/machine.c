/* What one applied command did: rows, a reply, effects.  SPDX-License-Identifier: Apache-2.0 */
#include "range/machine.h"

#include "base/mem.h"

static uint32_t keep(struct range_out *out, struct str s)
{
    must(out->bytes.n + s.n <= UINT32_MAX);
    uint32_t at = (uint32_t)out->bytes.n;
    buf_put_str(&out->bytes, s);
    return at;
}

void range_out_put(struct range_out *out, struct str key, struct str value)
{
    out->row = mem_grow(out->row, &out->row_cap, out->row_count + 1, sizeof *out->row);
    out->row[out->row_count++] = (struct range_row){.key_at = keep(out, key),
                                                    .key_n = (uint32_t)key.n,
                                                    .value_at = keep(out, value),
                                                    .value_n = (uint32_t)value.n};
}

void range_out_del(struct range_out *out, struct str key)
{
    range_out_put(out, key, STR(""));
    out->row[out->row_count - 1].is_del = true;
}

void range_out_effect(struct range_out *out, struct str effect)
{
    out->effect = mem_grow(out->effect, &out->effect_cap, out->effect_count + 1, sizeof *out->effect);
    out->effect[out->effect_count++] = (struct range_effect){keep(out, effect), (uint32_t)effect.n};
}

/* No bytes may mean no buffer yet. */
static struct str kept(const struct range_out *out, uint32_t at, uint32_t n)
{
    return n ? str_view(out->bytes.p + at, n) : STR("");
}

struct range_write range_out_row(const struct range_out *out, size_t i)
{
    must(i < out->row_count);
    const struct range_row *r = &out->row[i];
    return (struct range_write){kept(out, r->key_at, r->key_n), kept(out, r->value_at, r->value_n),
                                r->is_del};
}

struct str range_out_effect_get(const struct range_out *out, size_t i)
{
    must(i < out->effect_count);
    return kept(out, out->effect[i].at, out->effect[i].n);
}

void range_out_reset(struct range_out *out)
{
    out->bytes.n = out->reply.n = 0;
    out->row_count = out->effect_count = 0;
}

void range_out_deinit(struct range_out *out)
{
    buf_deinit(&out->bytes);
    buf_deinit(&out->reply);
    out->row = mem_free(out->row);
    out->effect = mem_free(out->effect);
    out->row_count = out->row_cap = out->effect_count = out->effect_cap = 0;
}
