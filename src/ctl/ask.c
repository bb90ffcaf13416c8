/* Asking the admin API.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: an exit code of 0 means that the node said 2xx.
 *
 * Never: shows a token; asks twice for something that changes anything. */
#include "ctl/ask.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/json.h"
#include "ctl/show.h"
#include "net/clock.h"
#include "net/http.h"

#define HEADERS_MAX 16
#define PAGE 500u      /* does not matter much: rows asked for at once */
#define PAGE_SUBS 200u /* the most there may be */
#define BODY_BYTES_MAX ((size_t)256 << 20)

/* One request being put together. */
struct ask {
    const struct ctl_options *options;
    const struct ctl_command *command;
    struct net_tls *tls;
    struct buf header[HEADERS_MAX];
    size_t header_count;
    struct buf body;
};

static void header_add(struct ask *a, const char *name, struct str value)
{
    must(a->header_count < HEADERS_MAX);
    struct buf *b = &a->header[a->header_count++];
    buf_printf(b, "%s: ", name);
    for (size_t i = 0; i < value.n; i++) /* a line end would begin another header */
        buf_put_u8(b, value.p[i] == '\r' || value.p[i] == '\n' ? ' ' : (uint8_t)value.p[i]);
}

static int complain(const char *target, int r)
{
    if (r == -EKEYREJECTED) {
        fprintf(stderr,
                "bilrostctl: %s: its certificate is not for this address, or is not trusted here; "
                "--ca FILE names who vouches for it\n",
                target);
        return CTL_EXIT_PROTOCOL;
    }
    const char *hint = "";
    int code = CTL_EXIT_UNAVAILABLE;
    if (r == -ENOENT || r == -ECONNREFUSED) {
        hint = "; is bilrostd running, and is this its address? (-H)";
    } else if (r == -EACCES || r == -EPERM) {
        hint = "; the socket is for root and the group bilrost";
        code = CTL_EXIT_PERMISSION;
    } else if (r == -EPROTO || r == -ECONNRESET || r == -ENOTSOCK || r == -EPROTOTYPE) {
        hint = "; this does not answer as the admin API does: is it another service's address?";
        code = CTL_EXIT_PROTOCOL;
    } else if (r == -EINVAL) {
        hint = "; a target is unix:PATH, http://HOST:PORT or https://HOST:PORT";
        code = CTL_EXIT_USAGE;
    } else if (r == -ETIMEDOUT) {
        hint = "; the node hangs, or this is not its admin API";
    }
    fprintf(stderr, "bilrostctl: %s: %s%s\n", target, strerrordesc_np(-r), hint);
    return code;
}

/* What the short words of the API mean; "" when it said a sentence itself. */
static const char *meaning_of(struct str word)
{
    static const struct {
        const char *word, *meaning;
    } row[] = {
        {"NO_SESSION", ": no such client is connected"},
        {"NO_INBOX", ": there is no such persistent session"},
        {"UNACCEPTED_TOPIC", ": no topic to publish to: it has wildcards, or is too long or deep"},
        {"TOPIC_FILTER_INVALID", ": this is no topic filter"},
        {"INVALID_QOS", ": a QoS is 0, 1 or 2, and the tenant may allow less"},
        {"EXCEED_LIMIT", ": a limit of the tenant is reached"},
        {"BACK_PRESSURE_REJECTED", ": too much to do: try again"},
        {"TRY_LATER", ": a store does not answer: try again"},
        {"NOT_AUTHORIZED", ": the client may not"},
        {"CONFLICT", ": it has changed meanwhile: try again"},
    };
    for (size_t i = 0; i < countof(row); i++)
        if (str_eq(word, str_of(row[i].word)))
            return row[i].meaning;
    return "";
}

static int refused(int status, struct str body)
{
    while (body.n && body.p[body.n - 1] == '\n')
        body.n--;
    fprintf(stderr, "bilrostctl: %.*s%s\n", STR_ARG(body.n ? body : STR("the node refused")),
            meaning_of(body));
    if (status == 400 && str_eq(body, STR("no such path and method"))) {
        fprintf(stderr, "bilrostctl: this node does not know the command: it may be older than "
                        "this bilrostctl; ask a newer one (-H)\n");
        return CTL_EXIT_PROTOCOL;
    }
    bool is_role = (status == 401 || status == 403) && meaning_of(body)[0] == 0;
    return is_role ? CTL_EXIT_PERMISSION : CTL_EXIT_REFUSED;
}

static int body_read(struct ask *a, const char *arg)
{
    if (strcmp(arg, "-") != 0) {
        buf_put_str(&a->body, str_of(arg));
        return 0;
    }
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buf_reserve(&a->body, 65536), 65536);
        if (n == 0)
            return 0;
        if (n < 0 || a->body.n > BODY_BYTES_MAX) {
            fprintf(stderr, "bilrostctl: standard input: %s\n",
                    n < 0 ? strerrordesc_np(errno) : "too long");
            return CTL_EXIT_USAGE;
        }
        a->body.n += (size_t)n;
    }
}

static struct str value_of(const struct ctl_options *o, struct str v)
{
    return str_eq(v, STR("@T")) ? str_of(o->tenant) : str_eq(v, STR("@Q")) ? str_of(o->qos) : v;
}

/* The command's words become headers and body. */
static int fill(struct ask *a, int argc, char *const *arg)
{
    struct str rest = str_of(a->command->headers), word, name;
    int at = 0, r = 0;
    while (r == 0 && rest.n && str_next(&rest, ' ', &word)) {
        char z[64];
        const char *eq = memchr(word.p, '=', word.n);
        if (eq) {
            struct str value = str_view(eq + 1, word.n - (size_t)(eq + 1 - word.p));
            name = str_view(word.p, (size_t)(eq - word.p));
            str_copy(z, sizeof z, name);
            header_add(a, z, value_of(a->options, value));
        } else if (at < argc && str_eq(word, STR("@"))) {
            r = body_read(a, arg[at++]);
        } else if (at < argc) {
            str_copy(z, sizeof z, word);
            header_add(a, z, str_of(arg[at++]));
        }
    }
    if (a->options->token) {
        struct buf b = {0};
        buf_printf(&b, "Bearer %s", a->options->token);
        header_add(a, "Authorization", buf_str(&b));
        buf_deinit(&b);
    }
    return r;
}

static int tls_open(struct ask *a)
{
    struct net_tls_conf conf = {.ca_file = a->options->ca, .verify = NET_TLS_VERIFY_REQUIRED};
    char error[NET_TLS_ERROR_MAX];
    if (strncmp(a->options->target, "https:", 6) != 0 || net_tls_new(&conf, error, &a->tls) == 0)
        return 0;
    fprintf(stderr, "bilrostctl: %s\n", error);
    return CTL_EXIT_USAGE;
}

/* One request; after and limit only for pages.  0 and the body, or an exit code after a complaint.
 */
static int fetch(struct ask *a, struct str after, uint64_t limit, struct buf *out)
{
    struct str header[HEADERS_MAX + 2];
    struct buf extra[2] = {{0}};
    size_t n = 0;
    int status = 0;
    for (; n < a->header_count; n++)
        header[n] = buf_str(&a->header[n]);
    if (limit) {
        buf_printf(&extra[0], "limit: %llu", (unsigned long long)limit);
        header[n++] = buf_str(&extra[0]);
    }
    if (after.n) {
        buf_printf(&extra[1], "after: %.*s", STR_ARG(after));
        header[n++] = buf_str(&extra[1]);
    }
    struct net_http_ask ask = {.target = a->options->target,
                               .method = a->command->method,
                               .path = a->command->path,
                               .header = header,
                               .header_count = n,
                               .body = buf_str(&a->body),
                               .tls = a->tls,
                               .timeout_usec = 70 * USEC_SEC};
    int r = net_http_fetch(&ask, &status, out);
    buf_deinit(&extra[0]);
    buf_deinit(&extra[1]);
    if (r)
        return complain(a->options->target, r);
    return status / 100 == 2 ? 0 : refused(status, buf_str(out));
}

static bool print(const struct ask *a, struct str body)
{
    struct buf out = {0};
    bool is_critical = false;
    if (a->options->is_json) {
        buf_put_str(&out, body);
        if (out.n == 0 || out.p[out.n - 1] != '\n')
            buf_put_u8(&out, '\n');
    } else {
        is_critical = ctl_show(a->command->show, body, net_clock_wall() / USEC_MSEC, &out);
    }
    fwrite(out.p, 1, out.n, stdout);
    buf_deinit(&out);
    return is_critical;
}

/* The member that holds the rows of a list, NULL: no list by pages. */
static const char *rows_of(const struct ctl_command *c)
{
    return c->show == CTL_SHOW_SESSIONS   ? "sessions"
           : c->show == CTL_SHOW_SUBS     ? "subscriptions"
           : c->show == CTL_SHOW_RETAINED ? "messages"
                                          : NULL;
}

/* Page after page. */
static int pages(struct ask *a)
{
    uint64_t left = a->options->limit ? a->options->limit : UINT64_MAX;
    uint64_t max = a->command->show == CTL_SHOW_SUBS ? PAGE_SUBS : PAGE;
    struct buf after = {0}, body = {0};
    int r = 0;
    do {
        char why[CODEC_JSON_ERROR_MAX];
        body.n = 0;
        r = fetch(a, buf_str(&after), left < max ? left : max, &body);
        if (r)
            break;
        (void)print(a, buf_str(&body));
        struct codec_json *j = codec_json_parse(buf_str(&body), why);
        size_t count = codec_json_count(codec_json_get(j, rows_of(a->command)));
        left -= count < left ? count : left;
        after.n = 0;
        buf_put_str(&after, codec_json_text(codec_json_get(j, "after")));
        codec_json_free(j);
    } while (after.n && left > 0);
    buf_deinit(&after);
    buf_deinit(&body);
    return r;
}

static int run(struct ask *a)
{
    struct buf body = {0};
    if (rows_of(a->command))
        return pages(a);
    int r = fetch(a, STR(""), 0, &body);
    if (r == 0 && print(a, buf_str(&body)))
        r = CTL_EXIT_REFUSED;
    buf_deinit(&body);
    return r;
}

int ctl_ask(const struct ctl_options *o, const struct ctl_command *c, int argc, char *const *arg)
{
    struct ask a = {.options = o, .command = c};
    int r = fill(&a, argc, arg);
    if (r == 0)
        r = tls_open(&a);
    if (r == 0)
        r = run(&a);
    net_tls_unref(a.tls);
    for (size_t i = 0; i < a.header_count; i++)
        buf_deinit(&a.header[i]);
    buf_deinit(&a.body);
    return r;
}
