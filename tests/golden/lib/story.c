/* Plays golden stories.  SPDX-License-Identifier: Apache-2.0 */
#include "golden/lib/story.h"

#include <dirent.h>

#include "base/mem.h"

static bool find(struct str line, const char *key, size_t *at, struct str *out)
{
    size_t n = strlen(key);
    for (size_t i = *at; i + n < line.n; i++) {
        if ((i == 0 || line.p[i - 1] == ' ') && memcmp(line.p + i, key, n) == 0 &&
            line.p[i + n] == '=') {
            size_t from = i + n + 1, to = from;
            while (to < line.n && line.p[to] != ' ')
                to++;
            *out = str_view(line.p + from, to - from);
            *at = to;
            return true;
        }
    }
    return false;
}

bool story_next(struct str line, const char *key, size_t *at, struct str *out)
{
    return find(line, key, at, out);
}

struct str story_str(struct str line, const char *key, const char *def)
{
    size_t at = 0;
    struct str v;
    return find(line, key, &at, &v) ? v : str_of(def);
}

bool story_has(struct str line, const char *key)
{
    size_t at = 0;
    struct str v;
    return find(line, key, &at, &v);
}

uint64_t story_num(struct str line, const char *key, uint64_t def)
{
    char z[32];
    struct str v = story_str(line, key, "");
    if (v.n == 0)
        return def;
    str_copy(z, sizeof z, v);
    return strtoull(z, NULL, 0);
}

struct str story_verb(struct str line)
{
    struct str rest = line, word = line;
    (void)str_next(&rest, ' ', &word);
    return word;
}

static bool read_file(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    for (size_t n = 1; n > 0; b->n += n)
        n = fread(buf_reserve(b, 4096), 1, 4096, f);
    fclose(f);
    return true;
}

static void first_difference(const char *path, struct str want, struct str got)
{
    struct str a = want, b = got, x = {0}, y = {0};
    for (unsigned line = 1;; line++) {
        bool has_a = str_next(&a, '\n', &x), has_b = str_next(&b, '\n', &y);
        if (has_a && has_b && str_eq(x, y))
            continue;
        printf("%s:%u:\n  expected: %.*s\n  happened: %.*s\n", path, line,
               STR_ARG(has_a ? x : STR("(end)")), STR_ARG(has_b ? y : STR("(end)")));
        return;
    }
}

static bool play(const char *path, story_begin *begin, story_command *command, story_end *end)
{
    struct buf want = {0}, got = {0};
    if (!read_file(path, &want))
        return false;
    struct str rest = buf_str(&want), line;
    void *world = begin();
    while (str_next(&rest, '\n', &line)) {
        bool is_command = str_has_prefix(line, STR("> ")),
             is_comment = line.n > 0 && line.p[0] == '#';
        if (!is_command && !is_comment && line.n > 0)
            continue;
        if (line.n == 0 && rest.p == NULL)
            break;
        buf_put_str(&got, line);
        buf_put_u8(&got, '\n');
        if (is_command)
            command(world, str_view(line.p + 2, line.n - 2), &got);
    }
    end(world);
    bool is_same = str_eq(buf_str(&want), buf_str(&got));
    if (!is_same && getenv("REWRITE") != NULL) {
        FILE *f = fopen(path, "wb");
        must(f != NULL);
        must(fwrite(got.p, 1, got.n, f) == got.n);
        fclose(f);
        printf("%s: written anew\n", path);
        is_same = true;
    } else if (!is_same) {
        first_difference(path, buf_str(&want), buf_str(&got));
    }
    buf_deinit(&want);
    buf_deinit(&got);
    return is_same;
}

int story_play(const char *dir, story_begin *begin, story_command *command, story_end *end)
{
    struct dirent **entry;
    int n = scandir(dir, &entry, NULL, alphasort), passed = 0, failed = 0;
    for (int i = 0; i < n; i++) {
        char path[4096 + 256];
        struct str name = str_of(entry[i]->d_name);
        snprintf(path, sizeof path, "%s/%s", dir, entry[i]->d_name);
        if (name.n > 4 && str_eq(str_view(name.p + name.n - 4, 4), STR(".txt"))) {
            if (play(path, begin, command, end))
                passed++;
            else
                failed++;
        }
        free(entry[i]);
    }
    if (n > 0)
        free(entry);
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
