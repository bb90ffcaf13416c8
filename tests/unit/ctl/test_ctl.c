/* The tool: its table of commands against the manual, cells, names.  SPDX-License-Identifier:
 * Apache-2.0 */
#include <stdio.h>

#include "ctl/command.h"
#include "ctl/table.h"
#include "unit/unit.h"

START_TEST(the_manual_page_is_the_table)
{
    struct buf want = {0}, got = {0};
    FILE *f = fopen("docs/man/bilrostctl.1", "r");
    ck_assert_msg(f != NULL, "docs/man/bilrostctl.1 cannot be read");
    for (size_t n = 1; n > 0; got.n += n)
        n = fread(buf_reserve(&got, 65536), 1, 65536, f);
    fclose(f);
    ctl_command_manual(&want);
    ck_assert_msg(str_eq(buf_str(&got), buf_str(&want)),
                  "docs/man/bilrostctl.1 is not what \"bilrostctl manual\" prints");
    buf_deinit(&want);
    buf_deinit(&got);
}
END_TEST

START_TEST(commands_are_found_by_their_words)
{
    char *two[] = {(char *)"session", (char *)"list"}, *one[] = {(char *)"session", (char *)"bob"},
         *sub[] = {(char *)"config"}, *none[] = {(char *)"nothing"};
    int used = 0, min, max;
    const struct ctl_command *c = ctl_command_find(2, two, &used);
    ck_assert(c && strcmp(c->sub, "list") == 0 && used == 2);
    ctl_command_arity(c, &min, &max);
    ck_assert(min == 0 && max == 1);
    c = ctl_command_find(2, one, &used);
    ck_assert(c && c->sub[0] == 0 && used == 1);
    ctl_command_arity(c, &min, &max);
    ck_assert(min == 1 && max == 1);
    ck_assert(ctl_command_find(1, sub, &used) == NULL); /* needs a second word */
    ck_assert(ctl_command_find(1, none, &used) == NULL);
}
END_TEST

/* A row of the table that could not be carried out would be found by its user only. */
START_TEST(commands_can_be_carried_out)
{
    const struct ctl_command *c;
    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        struct str rest = str_of(c->headers), word;
        int min, max, taken = 0;
        ctl_command_arity(c, &min, &max);
        while (rest.n && str_next(&rest, ' ', &word))
            taken += memchr(word.p, '=', word.n) == NULL;
        if (strcmp(c->method, "NONE") == 0)
            ck_assert_msg(c->path[0] == 0, "%s %s", c->name, c->sub);
        else
            ck_assert_msg(taken == max && c->path[0] == '/', "%s %s: %d arguments, %d headers",
                          c->name, c->sub, max, taken);
        ck_assert(c->what[0]);
    }
}
END_TEST

START_TEST(sizes_and_spans_are_short)
{
    static const struct {
        uint64_t n;
        const char *size, *span;
    } want[] = {{0, "0 B", "0 s"},
                {59, "59 B", "59 s"},
                {1023, "1023 B", "17 min 3 s"},
                {1536, "1.5 KiB", "25 min 36 s"},
                {90061, "88.0 KiB", "1 d 1 h"},
                {UINT64_MAX, "16384 PiB", "213503982334601 d 7 h"}};
    char text[24];
    for (size_t i = 0; i < countof(want); i++) {
        ck_str(ctl_size(want[i].n, text), str_of(want[i].size));
        ck_str(ctl_span(want[i].n, text), str_of(want[i].span));
    }
}
END_TEST

Suite *unit_suites(int i)
{
    if (i > 0)
        return NULL;
    Suite *s = suite_create("ctl");
    TCase *t = tcase_create("all");
    tcase_add_test(t, the_manual_page_is_the_table);
    tcase_add_test(t, commands_are_found_by_their_words);
    tcase_add_test(t, commands_can_be_carried_out);
    tcase_add_test(t, sizes_and_spans_are_short);
    suite_add_tcase(s, t);
    return s;
}
