/* docs/API.md says what the table of endpoints says.  SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "api/api_priv.h"
#include "unit/api/suites.h"

static void row_of(const struct api_route *r, struct buf *out)
{
    static const char *const role[] = {"", "read", "operate", "admin"};
    struct str list = str_of(r->headers), name;
    out->n = 0;
    buf_printf(out, "| `%s %s` | %s |", r->method, r->path, r->is_open ? "open" : role[r->role]);
    while (list.n && str_next(&list, ' ', &name)) {
        bool is_required = name.p[name.n - 1] == '!';
        buf_printf(out, is_required ? " **%.*s**" : " %.*s", (int)(name.n - is_required), name.p);
    }
    buf_printf(out, " | %s%s%s |", r->body, r->body[0] ? ": " : "", r->what);
}

static void file_read(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    for (size_t n = 1; n > 0; out->n += n)
        n = fread(buf_reserve(out, 65536), 1, 65536, f);
    fclose(f);
}

START_TEST(the_manual_has_every_endpoint)
{
    struct buf text = {0}, row = {0};
    struct str rest, line;
    const struct api_route *r;
    size_t at = 0;
    file_read("docs/API.md", &text);
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line)) {
        if (!str_has_prefix(line, STR("| `")))
            continue;
        r = api_route_at(at++);
        ck_assert_msg(r != NULL, "no such endpoint: %.*s", STR_ARG(line));
        row_of(r, &row);
        ck_str(line, buf_str(&row));
    }
    r = api_route_at(at);
    ck_assert_msg(r == NULL, "not in docs/API.md: %s %s", r ? r->method : "", r ? r->path : "");
    buf_deinit(&text);
    buf_deinit(&row);
}
END_TEST

START_TEST(endpoints_are_told_apart)
{
    const struct api_route *a, *b;
    for (size_t i = 0; (a = api_route_at(i)) != NULL; i++) {
        ck_assert_int_ge(a->role, API_ROLE_READ);
        /* what changes something is for those who operate; what is open only looks */
        ck_assert(strcmp(a->method, "GET") == 0 || (a->role >= API_ROLE_OPERATE && !a->is_open));
        for (size_t k = i + 1; (b = api_route_at(k)) != NULL; k++)
            ck_assert(strcmp(a->method, b->method) != 0 || strcmp(a->path, b->path) != 0);
    }
}
END_TEST

Suite *routes_suite(void)
{
    Suite *s = suite_create("routes");
    TCase *t = tcase_create("all");
    tcase_add_test(t, the_manual_has_every_endpoint);
    tcase_add_test(t, endpoints_are_told_apart);
    suite_add_tcase(s, t);
    return s;
}
