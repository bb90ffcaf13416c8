/* The table of commands.  SPDX-License-Identifier: Apache-2.0
 *
 * Help, manual and completion are written from the table alone, so none of them can forget a
 * command. */
#include "ctl/command.h"

#define SOCKET "unix:/run/bilrost/api.sock"

static const struct ctl_command table[] = {
#define X(name, sub, args, method, path, show, headers, what, more)                                \
    {name, sub, args, #method, path, CTL_SHOW_##show, headers, what, more},
#include "ctl/command.def"
#undef X
};

static const struct {
    const char *name, *arg, *what;
} option[] = {
    {"-H, --host", "TARGET", "unix:PATH, http://HOST:PORT or https://HOST:PORT (" SOCKET ")"},
    {"-t, --token", "TOKEN",
     "for http and https; or BILROST_TOKEN in the environment, which others do not see"},
    {"-T, --tenant", "NAME", "whose clients and topics (default)"},
    {"-q, --qos", "QOS", "of pub, retain set and sub add (0)"},
    {"--ca", "FILE", "https: whom to trust"},
    {"--limit", "N", "lists: at most so many"},
    {"--json", "", "the answer as it came; a list by pages, one a line"},
    {"--yes", "", "do not ask"},
    {"-V, --version", "", "show the version"},
    {"-h, --help", "", "show this"},
};

static const struct {
    int code;
    const char *what;
} exits[] = {
    {0, "done"},
    {1, "the node said no; or status has a critical alarm"},
    {64, "wrong usage"},
    {69, "nobody answers"},
    {76, "it answers, but not as the admin API of this version"},
    {77, "not allowed"},
};

const struct ctl_command *ctl_command_at(size_t i)
{
    return i < countof(table) ? &table[i] : NULL;
}

const struct ctl_command *ctl_command_find(int argc, char *const *argv, int *out_used)
{
    const struct ctl_command *found = NULL;
    for (size_t i = 0; i < countof(table) && argc > 0; i++) {
        if (strcmp(table[i].name, argv[0]) != 0)
            continue;
        if (argc > 1 && table[i].sub[0] && strcmp(table[i].sub, argv[1]) == 0) {
            *out_used = 2;
            return &table[i];
        }
        if (!table[i].sub[0]) {
            found = &table[i];
            *out_used = 1;
        }
    }
    return found;
}

void ctl_command_arity(const struct ctl_command *c, int *out_min, int *out_max)
{
    struct str rest = str_of(c->args), word;
    *out_min = *out_max = 0;
    while (rest.n && str_next(&rest, ' ', &word)) {
        ++*out_max;
        *out_min += word.p[0] != '[' && word.p[0] != '.';
        if (word.p[0] == '.')
            *out_max = 1000;
    }
}

/* "name sub ARGS" */
static size_t title(const struct ctl_command *c, char out[80])
{
    struct buf b = {0};
    buf_printf(&b, "%s%s%s%s%s", c->name, c->sub[0] ? " " : "", c->sub, c->args[0] ? " " : "",
               c->args);
    size_t n = str_copy(out, 80, buf_str(&b));
    buf_deinit(&b);
    return n;
}

void ctl_command_usage(struct buf *out)
{
    char text[80];
    buf_put_str(out, STR("Usage: bilrostctl [OPTIONS] COMMAND\n\n"));
    for (size_t i = 0; i < countof(table); i++) {
        size_t n = title(&table[i], text);
        buf_printf(out, n > 32 ? "  %s\n  %-32s  %s\n" : "  %-32s  %s%s\n", text,
                   n > 32 ? "" : table[i].what, n > 32 ? table[i].what : "");
    }
    buf_put_u8(out, '\n');
    for (size_t i = 0; i < countof(option); i++)
        buf_printf(out, "  %-14s %-8s %s\n", option[i].name, option[i].arg, option[i].what);
    buf_put_str(out, STR("\nExit codes:\n"));
    for (size_t i = 0; i < countof(exits); i++)
        buf_printf(out, "  %2d  %s\n", exits[i].code, exits[i].what);
    buf_put_str(out, STR("\nbilrostctl help COMMAND says more about one.\n"));
}

bool ctl_command_help(const char *name, struct buf *out)
{
    char text[80];
    bool is_known = false;
    for (size_t i = 0; i < countof(table); i++) {
        const struct ctl_command *c = &table[i];
        if (strcmp(c->name, name) != 0)
            continue;
        title(c, text);
        buf_printf(out, "%sbilrostctl %s\n    %s\n", is_known ? "\n" : "", text, c->what);
        if (c->more[0])
            buf_printf(out, "    %s\n", c->more);
        is_known = true;
    }
    return is_known;
}

/* ---- the manual page ---- */

/* A text as roff takes it: what begins a line or an escape is kept from doing so. */
static void roff_put(struct buf *out, const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        buf_put_str(out, STR("\\&"));
    for (; *text; text++) {
        if (*text == '\\')
            buf_put_str(out, STR("\\e"));
        else if (*text == '-')
            buf_put_str(out, STR("\\-"));
        else
            buf_put_u8(out, (uint8_t)*text);
    }
}

static void roff_commands(struct buf *out)
{
    for (size_t i = 0; i < countof(table); i++) {
        const struct ctl_command *c = &table[i];
        buf_put_str(out, STR(".TP\n\\fB"));
        roff_put(out, c->name);
        if (c->sub[0])
            buf_put_u8(out, ' ');
        roff_put(out, c->sub);
        buf_put_str(out, STR("\\fR"));
        if (c->args[0]) {
            buf_put_str(out, STR(" \\fI"));
            roff_put(out, c->args);
            buf_put_str(out, STR("\\fR"));
        }
        buf_put_u8(out, '\n');
        roff_put(out, c->what);
        buf_put_str(out, STR(".\n"));
        if (c->more[0]) {
            roff_put(out, c->more);
            buf_put_u8(out, '\n');
        }
    }
}

void ctl_command_manual(struct buf *out)
{
    buf_put_str(
        out,
        STR(".\\\" SPDX-License-Identifier: Apache-2.0\n"
            ".TH BILROSTCTL 1 \"\" \"Bilrost\" \"User Commands\"\n"
            ".SH NAME\nbilrostctl \\- see and steer a Bilrost cluster\n"
            ".SH SYNOPSIS\n.B bilrostctl\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR\n"
            ".SH DESCRIPTION\nAsks the admin API of one node; any node answers for the whole "
            "cluster.\nOn a node itself root and the members of the group bilrost need nothing "
            "more;\nfrom elsewhere give \\fB\\-\\-host\\fR and a token.\n"
            ".SH COMMANDS\n"));
    roff_commands(out);
    buf_put_str(out, STR(".SH OPTIONS\n"));
    for (size_t i = 0; i < countof(option); i++) {
        buf_put_str(out, STR(".TP\n\\fB"));
        roff_put(out, option[i].name);
        buf_put_str(out, STR("\\fR"));
        if (option[i].arg[0])
            buf_printf(out, " \\fI%s\\fR", option[i].arg);
        buf_put_u8(out, '\n');
        roff_put(out, option[i].what);
        buf_put_str(out, STR(".\n"));
    }
    buf_put_str(out, STR(".SH EXIT STATUS\n"));
    for (size_t i = 0; i < countof(exits); i++) {
        buf_printf(out, ".TP\n\\fB%d\\fR\n", exits[i].code);
        roff_put(out, exits[i].what);
        buf_put_str(out, STR(".\n"));
    }
    buf_put_str(
        out,
        STR(".SH ENVIRONMENT\n.TP\n\\fBBILROST_TOKEN\\fR\nThe token, as "
            "\\fB\\-\\-token\\fR.\n"
            ".SH FILES\n.TP\n\\fI/run/bilrost/api.sock\\fR\nWhere a node's admin API "
            "listens for root and its group.\n"
            ".SH SEE ALSO\n\\fBbilrostd\\fR(8), \\fBbilrostd.conf\\fR(5), \\fBbilrost\\fR(7)\n"));
}

/* ---- completion ---- */

static bool is_first(size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(table[k].name, table[i].name) == 0)
            return false;
    return true;
}

static void names_put(struct buf *out)
{
    for (size_t i = 0; i < countof(table); i++)
        if (is_first(i))
            buf_printf(out, " %s", table[i].name);
}

static bool subs_put(const char *name, struct buf *out)
{
    bool has_any = false;
    for (size_t i = 0; i < countof(table); i++)
        if (strcmp(table[i].name, name) == 0 && table[i].sub[0]) {
            buf_printf(out, " %s", table[i].sub);
            has_any = true;
        }
    return has_any;
}

static const char longs[] =
    "--host --token --tenant --qos --ca --limit --json --yes --version --help";

static void complete_bash(struct buf *out)
{
    buf_put_str(out, STR("# bash completion for bilrostctl\n"
                         "_bilrostctl() {\n"
                         "    local cur=${COMP_WORDS[COMP_CWORD]} word cmd= i\n"
                         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                         "        word=${COMP_WORDS[i]}\n"
                         "        case $word in\n"
                         "        -H | -t | -T | -q | --host | --token | --tenant | --qos | --ca | "
                         "--limit) ((i++)) ;;\n"
                         "        -*) ;;\n"
                         "        *) cmd=$word; break ;;\n"
                         "        esac\n"
                         "    done\n"
                         "    case $cur in -*) COMPREPLY=($(compgen -W '"));
    buf_put_str(out, str_of(longs));
    buf_put_str(out, STR("' -- \"$cur\")); return ;; esac\n    case $cmd in\n"));
    buf_put_str(out, STR("    '') COMPREPLY=($(compgen -W '"));
    names_put(out);
    buf_put_str(out, STR("' -- \"$cur\")) ;;\n    help) COMPREPLY=($(compgen -W '"));
    names_put(out);
    buf_put_str(out, STR("' -- \"$cur\")) ;;\n"));
    for (size_t i = 0; i < countof(table); i++) {
        struct buf subs = {0};
        if (is_first(i) && subs_put(table[i].name, &subs))
            buf_printf(out, "    %s) COMPREPLY=($(compgen -W '%.*s' -- \"$cur\")) ;;\n",
                       table[i].name, STR_ARG(buf_str(&subs)));
        buf_deinit(&subs);
    }
    buf_put_str(out, STR("    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\n"
                         "complete -F _bilrostctl bilrostctl\n"));
}

/* A word of zsh between single quotes, with its meaning behind a colon. */
static void zsh_word(struct buf *out, const char *word, const char *what)
{
    buf_printf(out, " '%s:", word);
    for (; *what; what++)
        if (*what == '\'')
            buf_put_str(out, STR("'\\''"));
        else
            buf_put_u8(out, (uint8_t)*what);
    buf_put_u8(out, '\'');
}

static void complete_zsh(struct buf *out)
{
    buf_put_str(out, STR("#compdef bilrostctl\n_bilrostctl() {\n"
                         "    local -a names subs\n    names=("));
    for (size_t i = 0; i < countof(table); i++)
        if (is_first(i))
            zsh_word(out, table[i].name, table[i].what);
    buf_put_str(
        out,
        STR(")\n    _arguments -C '(-H --host)'{-H,--host}'[where the admin API is]:target:' "
            "'(-t --token)'{-t,--token}'[token]:token:' "
            "'(-T --tenant)'{-T,--tenant}'[tenant]:tenant:' "
            "'(-q --qos)'{-q,--qos}'[quality of service]:qos:(0 1 2)' "
            "'--ca[whom to trust]:file:_files' '--limit[at most so many]:number:' "
            "'--json[as it came]' '--yes[do not ask]' '1:command:->name' '*::argument:->rest'\n"
            "    case $state in\n    name) _describe command names ;;\n    rest)\n"
            "        case $words[1] in\n        help) _describe command names ;;\n"));
    for (size_t i = 0; i < countof(table); i++) {
        if (!is_first(i))
            continue;
        struct buf subs = {0};
        bool has_any = subs_put(table[i].name, &subs);
        buf_deinit(&subs);
        if (!has_any)
            continue;
        buf_printf(out, "        %s) subs=(", table[i].name);
        for (size_t k = i; k < countof(table); k++)
            if (strcmp(table[k].name, table[i].name) == 0 && table[k].sub[0])
                zsh_word(out, table[k].sub, table[k].what);
        buf_put_str(out, STR("); _describe command subs ;;\n"));
    }
    buf_put_str(out,
                STR("        *) _files ;;\n        esac ;;\n    esac\n}\n_bilrostctl \"$@\"\n"));
}

/* Words of fish between single quotes. */
static void fish_quote(struct buf *out, const char *text)
{
    buf_put_u8(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)*text);
    }
    buf_put_u8(out, '\'');
}

/* "-H, --host" as " -s H -l host", or as the two words that a case of fish names */
static void fish_option(struct buf *out, const char *flags, bool as_words)
{
    struct str rest = str_of(flags), word;
    while (rest.n && str_next(&rest, ' ', &word)) {
        bool is_long = word.p[1] == '-';
        if (word.p[word.n - 1] == ',')
            word.n--;
        if (as_words)
            buf_printf(out, " %.*s", STR_ARG(word));
        else
            buf_printf(out, is_long ? " -l %.*s" : " -s %.*s", (int)word.n - (is_long ? 2 : 1),
                       word.p + (is_long ? 2 : 1));
    }
}

/* A word that may stand behind `after`, with its meaning. */
static void fish_word(struct buf *out, const char *after, const char *word, const char *what)
{
    buf_printf(out, "complete -c bilrostctl -n '__bilrostctl_after %s' -f -a %s -d ", after, word);
    fish_quote(out, what);
    buf_put_u8(out, '\n');
}

static void complete_fish(struct buf *out)
{
    buf_put_str(out, STR("# fish completion for bilrostctl\n"
                         "function __bilrostctl_after\n"
                         "    set -l seen\n"
                         "    set -l skip 0\n"
                         "    for word in (commandline -opc)[2..-1]\n"
                         "        if test $skip = 1\n"
                         "            set skip 0\n"
                         "            continue\n"
                         "        end\n"
                         "        switch $word\n"
                         "            case"));
    for (size_t i = 0; i < countof(option); i++)
        if (option[i].arg[0])
            fish_option(out, option[i].name, true);
    buf_put_str(out, STR("\n                set skip 1\n"
                         "            case '-*'\n"
                         "            case '*'\n"
                         "                set -a seen $word\n"
                         "        end\n"
                         "    end\n"
                         "    test \"$seen\" = \"$argv\"\n"
                         "end\n"));
    for (size_t i = 0; i < countof(option); i++) {
        buf_put_str(out, STR("complete -c bilrostctl"));
        fish_option(out, option[i].name, false);
        buf_put_str(out, option[i].arg[0] ? STR(" -r -d ") : STR(" -d "));
        fish_quote(out, option[i].what);
        buf_put_u8(out, '\n');
    }
    for (size_t i = 0; i < countof(table); i++) {
        if (is_first(i)) {
            fish_word(out, "", table[i].name, table[i].what);
            fish_word(out, "help", table[i].name, table[i].what);
        }
        if (table[i].sub[0])
            fish_word(out, table[i].name, table[i].sub, table[i].what);
    }
}

bool ctl_command_complete(const char *shell, struct buf *out)
{
    if (strcmp(shell, "bash") == 0)
        complete_bash(out);
    else if (strcmp(shell, "zsh") == 0)
        complete_zsh(out);
    else if (strcmp(shell, "fish") == 0)
        complete_fish(out);
    else
        return false;
    return true;
}
