/* Writes "name:hash" lines.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The file is either the old one or the new one, also after a crash.
 * 2. What is not the line of NAME stays as it was, comments too.
 *
 * Never: takes a password from the command line, where everybody can read it. */
#include "ctl/passwd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/password.h"
#include "net/scram.h"

#define PASSWORD_MAX 1024
#define FILE_BYTES_MAX ((size_t)256 << 20)

static int complain(const char *what, const char *about, int err)
{
    fprintf(stderr, "bilrostctl: %s \"%s\": %s\n", what, about, strerrordesc_np(err));
    return err == EACCES || err == EPERM ? EX_NOPERM : EX_CANTCREAT;
}

/* A line without its end; false at the end of input. */
static bool line_read(const char *prompt, char line[PASSWORD_MAX])
{
    struct termios was, quiet;
    bool is_terminal = tcgetattr(STDIN_FILENO, &was) == 0;
    if (is_terminal) {
        quiet = was;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        fputs(prompt, stderr);
    }
    char *got = fgets(line, PASSWORD_MAX, stdin);
    if (is_terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
        fputc('\n', stderr);
    }
    if (got)
        line[strcspn(line, "\r\n")] = 0;
    return got != NULL;
}

static int password_ask(enum ctl_passwd_what what, char hash[NET_PASSWORD_TEXT_MAX])
{
    char first[PASSWORD_MAX], second[PASSWORD_MAX];
    if (!line_read("Password: ", first) || first[0] == 0) {
        fputs("bilrostctl: an empty password is none\n", stderr);
        return EX_USAGE;
    }
    if (isatty(STDIN_FILENO) && (!line_read("Again: ", second) || strcmp(first, second) != 0)) {
        fputs("bilrostctl: the two are not the same\n", stderr);
        return EX_USAGE;
    }
    int r = 0;
    if (what == CTL_PASSWD_SCRAM) {
        struct buf keys = {0};
        net_scram_store(str_of(first), 0, &keys);
        (void)str_copy(hash, NET_PASSWORD_TEXT_MAX, buf_str(&keys));
        buf_deinit(&keys);
    } else {
        r = net_password_hash(str_of(first), 0, 0, hash);
    }
    memset(first, 0, sizeof first);
    memset(second, 0, sizeof second);
    if (r)
        fprintf(stderr, "bilrostctl: cannot hash: %s\n", strerrordesc_np(-r));
    return r ? EX_OSERR : 0;
}

/* 0 and the content (empty when there is no file), or -errno. */
static int file_read(const char *file, struct buf *out, struct stat *st)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = fstat(fd, st) < 0 ? -errno : 0;
    while (r == 0 && out->n < FILE_BYTES_MAX) {
        ssize_t n = read(fd, buf_reserve(out, 65536), 65536);
        if (n <= 0) {
            r = n < 0 ? -errno : 0;
            break;
        }
        out->n += (size_t)n;
    }
    close(fd);
    return r;
}

static int file_replace(const char *file, const struct buf *content, const struct stat *was)
{
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.new.%d", file, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    int r = 0;
    if (was->st_mode &&
        (fchmod(fd, was->st_mode & 07777) < 0 || fchown(fd, was->st_uid, was->st_gid) < 0))
        r = -errno;
    for (size_t at = 0; r == 0 && at < content->n;) {
        ssize_t n = write(fd, content->p + at, content->n - at);
        r = n < 0 ? -errno : 0;
        at += n > 0 ? (size_t)n : 0;
    }
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    close(fd);
    if (r == 0 && rename(temporary, file) < 0)
        r = -errno;
    if (r)
        (void)unlink(temporary);
    return r;
}

static bool line_is_of(struct str line, struct str name)
{
    return line.n > name.n && line.p[name.n] == ':' && str_has_prefix(line, name);
}

int ctl_passwd(const char *file, const char *name, enum ctl_passwd_what what)
{
    bool is_delete = what == CTL_PASSWD_DELETE;
    char hash[NET_PASSWORD_TEXT_MAX] = "";
    struct buf old = {0}, fresh = {0};
    struct stat st = {0};
    struct str who = str_of(name), line;
    bool was_there = false;
    if (who.n == 0 || strpbrk(name, ":\n\r#")) {
        fputs("bilrostctl: a name has no colon, no line end and no #\n", stderr);
        return EX_USAGE;
    }
    int r = file_read(file, &old, &st);
    if (r) {
        buf_deinit(&old);
        return complain("cannot read", file, -r);
    }
    int code = is_delete ? 0 : password_ask(what, hash);
    struct str rest = buf_str(&old);
    while (code == 0 && rest.p && str_next(&rest, '\n', &line)) {
        if (line_is_of(line, who)) {
            was_there = true;
            continue;
        }
        if (line.n || rest.p) {
            buf_put_str(&fresh, line);
            buf_put_u8(&fresh, '\n');
        }
    }
    if (code == 0 && !is_delete)
        buf_printf(&fresh, "%s:%s\n", name, hash);
    if (code == 0 && is_delete && !was_there) {
        fprintf(stderr, "bilrostctl: no \"%s\" in \"%s\"\n", name, file);
        code = 1;
    }
    if (code == 0 && (r = file_replace(file, &fresh, &st)) < 0)
        code = complain("cannot write", file, -r);
    buf_deinit(&old);
    buf_deinit(&fresh);
    return code;
}
