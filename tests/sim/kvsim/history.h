/* Is the history of one append-list linearizable?  Part of tests/sim/kv.c, whose types it uses.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every answer shows the whole list, so the order of all appends is known: what is left to check is
 * that each answer
 * is a prefix of the last list, in an order that respects real time, and that each append is there
 * as often as it was
 * answered. */
#pragma once

static int by_end(const void *a, const void *b)
{
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_start(const void *a, const void *b)
{
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static uint64_t id_at(struct str list, size_t i)
{
    struct codec_cursor c = codec_cursor_of(str_view(list.p + i * 8, 8));
    return codec_cursor_u64(&c);
}

/* The list of a key as it is at the end against all that was said about it. */
static void check_key(struct world *w, unsigned key, struct str list)
{
    unsigned *times = mem_new((game_of(w)->next_id + 1) * sizeof *times);
    struct op **of = mem_new(game_of(w)->op_count * sizeof(struct op *)),
              **started = mem_new(game_of(w)->op_count * sizeof(struct op *));
    size_t n = 0, at = 0, floor_len = 0;
    for (size_t i = 0; i < list.n / 8; i++)
        if (id_at(list, i) <= game_of(w)->next_id)
            times[id_at(list, i)]++;
    for (size_t i = 0; i < game_of(w)->op_count; i++) {
        struct op *o = game_of(w)->op[i];
        if (o->key != key || !o->is_done)
            continue;
        if (o->id && o->outcome == KV_OK && times[o->id] != 1)
            fail(w, times[o->id] ? "an append that was acknowledged is there twice"
                                 : "an append that was acknowledged is lost");
        if (o->id && times[o->id] > 1)
            fail(w, "an append is there twice");
        if (o->id && kv_is_not_executed(o->outcome) && times[o->id] != 0)
            fail(w, "an append that was refused is there");
        if (o->outcome != KV_OK)
            continue;
        if (o->len > list.n || hash_bytes(list.p, o->len, 5) != o->hash)
            fail(w, "a reply shows what never was");
        else if (o->id && (o->len < 8 || id_at(list, o->len / 8 - 1) != o->id))
            fail(w, "an append does not end in itself");
        of[n] = started[n] = o;
        n++;
    }
    qsort(of, n, sizeof *of, by_end);
    qsort(started, n, sizeof *started, by_start);
    for (size_t i = 0; i < n && !w->failed; i++) {
        while (at < n && of[at]->end < started[i]->start) {
            floor_len = of[at]->len > floor_len ? of[at]->len : floor_len;
            at++;
        }
        if (started[i]->len < floor_len)
            fail(w, "a call does not see what was answered before it began");
    }
    mem_free(times);
    mem_free(of);
    mem_free(started);
}
