/* Plays a fuzzer without a fuzzing engine: every file of its corpus, then mutations of them from a fixed seed.
 * SPDX-License-Identifier: Apache-2.0
 *
 * replay [runs [seed]]; the corpus is tests/fuzz/corpus/<name of this program without .replay>/. */
#include <dirent.h>
#include <libgen.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"

#define RUNS 20000      /* mutations when nothing else is said; a second or two under sanitizers */
#define INPUT_MAX 65536 /* no decoder input of interest is longer */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct corpus {
    struct buf *file;
    size_t count, cap;
};

static void read_corpus(struct corpus *c, const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[4096 + 256];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = fopen(path, "rb");
        if (f == NULL)
            continue;
        struct buf b = {0};
        (void)buf_reserve(&b, INPUT_MAX);
        b.n = fread(b.p, 1, INPUT_MAX, f);
        fclose(f);
        c->file = mem_grow(c->file, &c->cap, c->count + 1, sizeof *c->file);
        c->file[c->count++] = b;
    }
    if (d != NULL)
        closedir(d);
}

static void mutate(struct rng *r, struct buf *b, const struct corpus *c)
{
    static const uint8_t odd[] = {0, 1, 0x7F, 0x80, 0xFF, 0xFE, 0x10, 0x20};
    for (uint64_t k = rng_between(r, 1, 8); k > 0; k--) {
        switch (rng_below(r, 6)) {
        case 0: /* flip a bit */
            if (b->n > 0)
                b->p[rng_below(r, b->n)] ^= (uint8_t)(1u << rng_below(r, 8));
            break;
        case 1: /* an odd byte */
            if (b->n > 0)
                b->p[rng_below(r, b->n)] = odd[rng_below(r, sizeof odd)];
            break;
        case 2: /* cut */
            b->n = rng_below(r, b->n + 1);
            break;
        case 3: /* random tail */
            for (uint64_t n = rng_below(r, 16); n > 0 && b->n < INPUT_MAX; n--)
                buf_put_u8(b, (uint8_t)rng_u64(r));
            break;
        case 4: /* drop a head */
            buf_drop(b, rng_below(r, b->n + 1) / 4);
            break;
        default: /* splice with another */
            if (c->count > 0) {
                const struct buf *o = &c->file[rng_below(r, c->count)];
                size_t from = o->n > 0 ? rng_below(r, o->n) : 0;
                if (b->n + o->n - from <= INPUT_MAX)
                    buf_put(b, o->p + from, o->n - from);
            }
        }
    }
}

int main(int argc, char **argv)
{
    char dir[4096], *name = basename(argv[0]), *dot = strrchr(name, '.');
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%.*s", (int)(dot ? dot - name : (long)strlen(name)), name);
    struct corpus c = {0};
    read_corpus(&c, dir);
    unsigned long long runs = argc > 1 ? strtoull(argv[1], NULL, 10) : RUNS;
    struct rng r;
    rng_init(&r, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    if (c.count == 0) {
        printf("%s has no corpus\n0 passed, 1 failed\n", dir);
        return 1;
    }
    for (size_t i = 0; i < c.count; i++)
        (void)LLVMFuzzerTestOneInput(c.file[i].p, c.file[i].n);
    struct buf b = {0};
    for (unsigned long long i = 0; i < runs; i++) {
        b.n = 0;
        const struct buf *from = &c.file[rng_below(&r, c.count)];
        buf_put(&b, from->p, from->n);
        mutate(&r, &b, &c);
        /* a copy of the exact size, so that a sanitizer sees every read past the end */
        uint8_t *exact = mem_alloc(b.n);
        if (b.n > 0)
            memcpy(exact, b.p, b.n);
        (void)LLVMFuzzerTestOneInput(exact, b.n);
        mem_free(exact);
    }
    printf("%zu files of the corpus and %llu mutations\n1 passed, 0 failed\n", c.count, runs);
    for (size_t i = 0; i < c.count; i++)
        buf_deinit(&c.file[i]);
    mem_free(c.file);
    buf_deinit(&b);
    return 0;
}
