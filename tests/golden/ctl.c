/* What bilrostctl prints: answers as people see them, help, completion, the manual.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ctl/command.h"
#include "ctl/show.h"
#include "golden/lib/story.h"

#define NOW_MS UINT64_C(1700000100000)

static void *begin(void)
{
    return NULL;
}

static void end(void *world)
{
    (void)world;
}

static enum ctl_show show_named(struct str name)
{
    static const char *const text[] = {"text",     "rows", "status",   "members", "keys",  "ranges",
                                       "sessions", "subs", "retained", "servers", "drains"};
    for (size_t i = 0; i < countof(text); i++)
        if (str_eq(name, str_of(text[i])))
            return (enum ctl_show)i;
    return CTL_SHOW_TEXT;
}

/* show HOW JSON | usage | help NAME | complete SHELL */
static void command(void *world, struct str line, struct buf *trace)
{
    struct str rest = line, verb, word = STR("");
    struct buf out = {0};
    char z[64];
    (void)world;
    (void)str_next(&rest, ' ', &verb);
    if (str_eq(verb, STR("show"))) {
        (void)str_next(&rest, ' ', &word);
        bool is_critical = ctl_show(show_named(word), rest, NOW_MS, &out);
        if (is_critical)
            buf_put_str(&out, STR("(critical)\n"));
    } else {
        str_copy(z, sizeof z, rest.p ? rest : STR(""));
        if (str_eq(verb, STR("usage")))
            ctl_command_usage(&out);
        else if (str_eq(verb, STR("help")) ? !ctl_command_help(z, &out)
                                           : !ctl_command_complete(z, &out))
            buf_put_str(&out, STR("no\n"));
    }
    for (rest = buf_str(&out);
         rest.n && str_next(&rest, '\n', &word);) /* an empty line would end the story's */
        buf_printf(trace, "| %.*s\n", STR_ARG(word));
    buf_deinit(&out);
}

int main(void)
{
    return story_play("tests/golden/ctl", begin, command, end);
}
