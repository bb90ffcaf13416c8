/* bilrostctl: asks a node's admin API and tells a person.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: talks to the broker other than through the admin API. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl/ask.h"
#include "ctl/daemon.h"
#include "ctl/enrol.h"
#include "ctl/passwd.h"

#define SOCKET "unix:/run/bilrost/api.sock"

struct options {
    struct ctl_options ask;
    enum ctl_passwd_what passwd;
    bool is_help;
};

static int put(struct buf *text, FILE *to, int code)
{
    fwrite(text->p, 1, text->n, to);
    buf_deinit(text);
    return code;
}

static int usage(FILE *to, int code)
{
    struct buf b = {0};
    ctl_command_usage(&b);
    return put(&b, to, code);
}

static int help(const char *name)
{
    struct buf b = {0};
    if (ctl_command_help(name, &b))
        return put(&b, stdout, CTL_EXIT_OK);
    fprintf(stderr, "bilrostctl: no command \"%s\": bilrostctl --help lists them\n", name);
    return CTL_EXIT_USAGE;
}

static int complete(const char *shell)
{
    struct buf b = {0};
    if (ctl_command_complete(shell, &b))
        return put(&b, stdout, CTL_EXIT_OK);
    fputs("bilrostctl: completion is there for bash, zsh and fish\n", stderr);
    return CTL_EXIT_USAGE;
}

static int manual(void)
{
    struct buf b = {0};
    ctl_command_manual(&b);
    return put(&b, stdout, CTL_EXIT_OK);
}

/* Commands that ask no node. */
static int own_run(const struct options *o, const struct ctl_command *c, int argc, char **argv)
{
    if (strcmp(c->name, "passwd") == 0)
        return ctl_passwd(argv[0], argv[1], o->passwd);
    if (strcmp(c->name, "config") == 0 || strcmp(c->name, "store") == 0)
        return ctl_daemon(c->sub, argc, argv);
    if (strcmp(c->name, "help") == 0)
        return argc ? help(argv[0]) : usage(stdout, CTL_EXIT_OK);
    if (strcmp(c->name, "completion") == 0)
        return complete(argv[0]);
    if (strcmp(c->name, "manual") == 0)
        return manual();
    if (argc > 4) /* enrol */
        return ctl_enrol(argv[0], argv[1], argv[2], argv[3], argv + 4);
    fputs("bilrostctl: enrol ADDRESS CERT KEY TOKENS PROGRAM...\n", stderr);
    return CTL_EXIT_USAGE;
}

/* What cannot be taken back is asked about.  false: not now. */
static bool is_sure(const struct options *o, const struct ctl_command *c)
{
    bool is_hard = (strcmp(c->name, "kill") == 0 && strcmp(c->sub, "all") == 0) ||
                   strcmp(c->sub, "recover") == 0;
    char line[16] = "";
    if (!is_hard || o->ask.is_sure)
        return true;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "bilrostctl: %s %s wants --yes\n", c->name, c->sub);
        return false;
    }
    fprintf(stderr, "%s.  %s\nType yes to go on: ", c->what, c->more);
    if (!fgets(line, sizeof line, stdin))
        return false;
    return strcmp(line, "yes\n") == 0;
}

static int command_run(const struct options *o, int argc, char **argv)
{
    int used = 0, min, max;
    const struct ctl_command *c = ctl_command_find(argc, argv, &used);
    if (!c) {
        struct buf b = {0};
        if (!ctl_command_help(argv[0], &b)) {
            fprintf(stderr, "bilrostctl: no command \"%s\": bilrostctl --help lists them\n",
                    argv[0]);
            return CTL_EXIT_USAGE;
        }
        return put(&b, stderr, CTL_EXIT_USAGE); /* needs a second word */
    }
    if (o->is_help)
        return help(c->name);
    ctl_command_arity(c, &min, &max);
    argc -= used;
    if (argc < min || argc > max) {
        fprintf(stderr, "bilrostctl: %s%s%s takes %s%s; bilrostctl help %s says more\n", c->name,
                c->sub[0] ? " " : "", c->sub, c->args[0] ? c->args : "no arguments", "", c->name);
        return CTL_EXIT_USAGE;
    }
    if (strcmp(c->method, "NONE") == 0)
        return own_run(o, c, argc, argv + used);
    return is_sure(o, c) ? ctl_ask(&o->ask, c, argc, argv + used) : CTL_EXIT_USAGE;
}

static bool number(const char *text, uint64_t *out)
{
    if (str_to_u64(str_of(text), out) && *out > 0)
        return true;
    fputs("bilrostctl: --limit is a number from 1 on\n", stderr);
    return false;
}

/* 0, or an exit code.  Options may stand behind the command too; -- ends them. */
static int options_read(int argc, char **argv, struct options *o)
{
    enum { CA = 256, JSON, LIMIT, YES };
    static const struct option longs[] = {
        {"host", required_argument, NULL, 'H'},
        {"token", required_argument, NULL, 't'},
        {"tenant", required_argument, NULL, 'T'},
        {"qos", required_argument, NULL, 'q'},
        {"ca", required_argument, NULL, CA},
        {"limit", required_argument, NULL, LIMIT},
        {"json", no_argument, NULL, JSON},
        {"yes", no_argument, NULL, YES},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "H:t:T:q:sxVh", longs, NULL)) != -1;) {
        if (c == 'H')
            o->ask.target = optarg;
        else if (c == 't')
            o->ask.token = optarg;
        else if (c == 'T')
            o->ask.tenant = optarg;
        else if (c == 'q')
            o->ask.qos = optarg;
        else if (c == 'x')
            o->passwd = CTL_PASSWD_DELETE;
        else if (c == 's')
            o->passwd = CTL_PASSWD_SCRAM;
        else if (c == CA)
            o->ask.ca = optarg;
        else if (c == JSON)
            o->ask.is_json = true;
        else if (c == YES)
            o->ask.is_sure = true;
        else if (c == 'h')
            o->is_help = true;
        else if (c == 'V') {
            puts("bilrostctl " BILROST_VERSION);
            exit(CTL_EXIT_OK);
        } else if (c != LIMIT || !number(optarg, &o->ask.limit))
            return CTL_EXIT_USAGE;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .ask = {
            .target = SOCKET, .token = getenv("BILROST_TOKEN"), .tenant = "default", .qos = "0"}};
    if (options_read(argc, argv, &o))
        return CTL_EXIT_USAGE;
    if (optind < argc)
        return command_run(&o, argc - optind, argv + optind);
    return o.is_help ? usage(stdout, CTL_EXIT_OK) : usage(stderr, CTL_EXIT_USAGE);
}
