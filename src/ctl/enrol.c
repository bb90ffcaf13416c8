/* The door by which new nodes come in: open only while there is a token.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A token is a file of the directory: its name is the identifier, its lines are "secret TEXT" and
 * "expires SECONDS" (since 1970).
 *
 * 1. The program runs only for a request whose secret is that of a token that is valid now.
 * 2. Requests are answered one after the other; a program gets PROGRAM_SECONDS.
 * 3. The server outlives the last valid token by a second at most.
 *
 * Never: reads the CA's key; that is for the program. */
#include "ctl/enrol.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/password.h"

#define PROGRAM_SECONDS 60u /* matters little: signing takes a tenth of one */
#define BODY_MAX (64u << 10)   /* a certificate request has one KiB */
#define ANSWER_MAX (16u << 20) /* certificates, keys, the password file */
#define CONNECTIONS_MAX 32u
#define ARGUMENTS_MAX 32u
#define TOKEN_MAX 128u

struct enrol {
    struct net_loop *loop;
    const char *token_dir;
    char *const *program;
    struct net_timer timer;
};

struct token {
    char secret[TOKEN_MAX];
    long long expires;
};

static bool is_plain(struct str s)
{
    bool ok = s.n > 0 && s.n < TOKEN_MAX;
    for (size_t i = 0; ok && i < s.n; i++)
        ok = isxdigit((unsigned char)s.p[i]) != 0;
    return ok;
}

static bool token_read(const char *dir, struct str id, struct token *out)
{
    char path[4096], line[256];
    if (!is_plain(id)) /* so it cannot leave the directory */
        return false;
    snprintf(path, sizeof path, "%s/%.*s", dir, STR_ARG(id));
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    *out = (struct token){0};
    while (fgets(line, sizeof line, f)) {
        (void)sscanf(line, "secret %127s", out->secret);
        (void)sscanf(line, "expires %lld", &out->expires);
    }
    fclose(f);
    return out->secret[0] != 0;
}

static long long seconds_now(struct enrol *e)
{
    return (long long)(net_loop_wall(e->loop) / USEC_SEC);
}

/* NULL: the request may go on, and *out_id is whose it is; else why not. */
static const char *refusal(struct enrol *e, struct net_http_request *q, struct str *out_id)
{
    struct token t;
    struct str header = net_http_header(q, "Authorization");
    if (!str_has_prefix(header, STR("Bearer ")))
        return "a token is needed";
    struct str secret = str_view(header.p + 7, header.n - 7);
    (void)str_next(&secret, '-', out_id);
    if (!token_read(e->token_dir, *out_id, &t) || !net_password_eq(secret, str_of(t.secret)))
        return "the token is not one of this cluster's, or was withdrawn";
    return t.expires > seconds_now(e) ? NULL : "the token has expired";
}

/* ---- the program ------------------------------------------------------------------------------
 */

static void child(struct enrol *e, const char *id, int in, int out)
{
    const char *arg[ARGUMENTS_MAX + 2];
    size_t n = 0;
    while (n < ARGUMENTS_MAX && e->program[n]) {
        arg[n] = e->program[n];
        n++;
    }
    arg[n++] = id;
    arg[n] = NULL;
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(PROGRAM_SECONDS); /* stays over exec */
    execvp(arg[0], (char *const *)(uintptr_t)arg);
    _exit(127);
}

static bool fill(int fd, struct str s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n <= 0)
            return false;
        s = str_view(s.p + n, s.n - (size_t)n);
    }
    return lseek(fd, 0, SEEK_SET) == 0;
}

/* The program's exit code, its output in answer; -1: it did not run or was killed. */
static int run(struct enrol *e, struct str id, struct str body, struct buf *answer)
{
    int in = memfd_create("enrol-in", MFD_CLOEXEC), out = memfd_create("enrol-out", MFD_CLOEXEC);
    int status = -1;
    char *name = mem_dup(id.p, id.n);
    pid_t pid = in >= 0 && out >= 0 && fill(in, body) ? fork() : -1;
    if (pid == 0)
        child(e, name, in, out);
    if (pid > 0 && waitpid(pid, &status, 0) != pid)
        status = -1;
    if (pid > 0 && lseek(out, 0, SEEK_SET) == 0) {
        ssize_t n;
        while (answer->n < ANSWER_MAX && (n = read(out, buf_reserve(answer, 65536), 65536)) > 0)
            answer->n += (size_t)n;
    }
    mem_free(name);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return pid > 0 && status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void peer_tell(struct net_http_request *q)
{
    struct net_address peer;
    char text[NET_ADDRESS_TEXT] = "?";
    if (net_http_peer(q, &peer))
        (void)net_address_format_host(&peer, text);
    setenv("BILROST_PEER", text, 1);
}

static void on_request(void *arg, struct net_http_request *q)
{
    struct enrol *e = arg;
    struct str id = {0};
    struct buf answer = {0};
    if (!str_eq(net_http_method(q), STR("POST")) || !str_eq(net_http_path(q), STR("/enrol"))) {
        net_http_reply(q, 404, "text/plain", STR("no such path and method\n"));
        return;
    }
    peer_tell(q);
    const char *why = refusal(e, q, &id);
    if (why) {
        fprintf(stderr, "bilrostctl: enrolment refused to %s: %s\n", getenv("BILROST_PEER"), why);
        buf_printf(&answer, "%s\n", why);
        net_http_reply(q, 401, "text/plain", buf_str(&answer));
    } else {
        int code = run(e, id, net_http_body(q), &answer);
        if (code < 0 || code == 127)
            buf_printf(&answer, "the first host could not run its part\n");
        net_http_reply(q, code == 0 ? 200 : 409, "text/plain", buf_str(&answer));
    }
    buf_deinit(&answer);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static bool has_token(struct enrol *e)
{
    bool is_any = false;
    DIR *d = opendir(e->token_dir);
    for (struct dirent *f; d && !is_any && (f = readdir(d)) != NULL;) {
        struct token t;
        is_any = token_read(e->token_dir, str_of(f->d_name), &t) && t.expires > seconds_now(e);
    }
    if (d)
        closedir(d);
    return is_any;
}

static void on_second(void *arg, usec_t now)
{
    struct enrol *e = arg;
    if (has_token(e))
        net_timer_set(e->loop, &e->timer, usec_add(now, USEC_SEC));
    else
        net_loop_stop(e->loop);
}

int ctl_enrol(const char *address, const char *cert_file, const char *key_file,
              const char *token_dir, char *const *program)
{
    struct enrol e = {.token_dir = token_dir, .program = program};
    struct net_loop_conf loop = {0};
    struct net_tls_conf tls = {.is_server = true, .cert_file = cert_file, .key_file = key_file};
    struct net_http_conf conf = {.address = address,
                                 .body_bytes_max = BODY_MAX,
                                 .idle_usec_max = 2 * PROGRAM_SECONDS * USEC_SEC,
                                 .connection_count_max = CONNECTIONS_MAX,
                                 .request = on_request,
                                 .arg = &e};
    struct net_http *http = NULL;
    char error[NET_TLS_ERROR_MAX] = "";
    signal(SIGPIPE, SIG_IGN);
    int r = net_loop_new(&loop, &e.loop);
    if (r == 0)
        r = net_tls_new(&tls, error, &conf.tls);
    if (r == 0)
        r = net_http_new(e.loop, &conf, error, &http);
    if (r == 0) {
        net_timer_init(&e.timer, on_second, &e);
        net_timer_set(e.loop, &e.timer, 0);
        r = net_loop_run(e.loop);
        net_timer_del(e.loop, &e.timer);
    }
    if (r)
        fprintf(stderr, "bilrostctl: %s\n", error[0] ? error : strerrordesc_np(-r));
    net_http_free(http);
    net_tls_unref(conf.tls);
    net_loop_free(e.loop);
    return r ? EX_UNAVAILABLE : EX_OK;
}
