/* bilrostctl: asks a node's admin API and tells a person.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: talks to the broker other than through the admin API. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "ctl/enrol.h"
#include "ctl/passwd.h"
#include "ctl/print.h"
#include "net/http.h"

#define SOCKET "unix:/run/bilrost/api.sock"
#define HEADERS_MAX 16

struct options {
    const char *target, *token, *tenant, *ca;
    const char *qos;
    bool is_json, is_retain;
    enum ctl_passwd_what passwd;
};

/* One request being put together. */
struct ask {
    const struct options *options;
    struct str header[HEADERS_MAX];
    size_t header_count;
    struct str body;
};

static const char usage[] =
    "Usage: bilrostctl [OPTIONS] COMMAND\n\n"
    "  status                      this node and its cluster on one screen\n"
    "  cluster                     the members\n"
    "  stores | services           what the node serves\n"
    "  metrics                     all metrics, Prometheus text\n"
    "  ready                       exit 0 when the node serves; else the reasons\n"
    "  session CLIENT              where a client is connected\n"
    "  kill CLIENT                 disconnects a client\n"
    "  session-delete CLIENT       ends a client's stored session\n"
    "  pub TOPIC MESSAGE           publishes; -r retains, -q QOS\n"
    "  passwd FILE NAME            sets a password (-s: SCRAM keys); -x removes the name\n"
    "  enrol ...                   answers hosts that join; run by bilrost-setup serve\n"
    "  config check [FILE]         checks a configuration\n"
    "  config show [FILE]          what is in effect and where it comes from\n"
    "  config explain KEY          what a key means\n\n"
    "  -H, --host TARGET           unix:PATH, http://HOST:PORT or https://HOST:PORT (" SOCKET ")\n"
    "  -t, --token TOKEN           or BILROST_TOKEN in the environment\n"
    "  -T, --tenant NAME           (default)\n"
    "      --ca FILE               https: whom to trust\n"
    "      --json                  the answer as it came\n"
    "  -V, --version   -h, --help\n";

static void header_add(struct ask *a, const char *name, const char *value)
{
    struct buf b = {0};
    must(a->header_count < HEADERS_MAX);
    buf_printf(&b, "%s: %s", name, value);
    a->header[a->header_count++] = buf_str(&b);
}

static int complain(const char *target, int r)
{
    const char *hint = "";
    if (r == -ENOENT || r == -ECONNREFUSED)
        hint = "; is bilrostd running, and is this its address? (-H)";
    else if (r == -EACCES)
        hint = "; the socket is for root and the group bilrost";
    fprintf(stderr, "bilrostctl: %s: %s%s\n", target, strerrordesc_np(-r), hint);
    return r == -EACCES ? EX_NOPERM : r == -EINVAL ? EX_USAGE : EX_UNAVAILABLE;
}

static int answer_show(const struct options *o, int status, struct str body)
{
    struct buf out = {0};
    if (o->is_json)
        buf_put_str(&out, body);
    else
        ctl_print_json(body, &out);
    fwrite(out.p, 1, out.n, status / 100 == 2 ? stdout : stderr);
    buf_deinit(&out);
    if (status / 100 == 2)
        return EX_OK;
    return status == 401 || status == 403 ? EX_NOPERM : 1;
}

static int send_it(struct ask *a, const char *method, const char *path)
{
    const struct options *o = a->options;
    struct net_tls *tls = NULL;
    struct net_tls_conf conf = {.ca_file = o->ca, .verify = NET_TLS_VERIFY_REQUIRED};
    char error[NET_TLS_ERROR_MAX];
    struct buf body = {0};
    int status = 0, code;
    if (strncmp(o->target, "https:", 6) == 0 && net_tls_new(&conf, error, &tls)) {
        fprintf(stderr, "bilrostctl: %s\n", error);
        return EX_USAGE;
    }
    if (o->token) {
        struct buf b = {0};
        buf_printf(&b, "Bearer %s", o->token);
        buf_put_u8(&b, 0);
        header_add(a, "Authorization", (char *)b.p);
        buf_deinit(&b);
    }
    struct net_http_ask ask = {.target = o->target,
                               .method = method,
                               .path = path,
                               .header = a->header,
                               .header_count = a->header_count,
                               .body = a->body,
                               .tls = tls};
    int r = net_http_fetch(&ask, &status, &body);
    code = r ? complain(o->target, r) : answer_show(o, status, buf_str(&body));
    buf_deinit(&body);
    net_tls_unref(tls);
    for (size_t i = 0; i < a->header_count; i++)
        mem_free((void *)(uintptr_t)a->header[i].p);
    return code;
}

/* The configuration is bilrostd's business. */
static int config_run(int argc, char **argv)
{
    const char *what = argc > 0 ? argv[0] : "", *file = argc > 1 ? argv[1] : NULL;
    const char *arg[6] = {"bilrostd"};
    size_t n = 1;
    if (strcmp(what, "explain") == 0 && file) {
        arg[n++] = "--explain-config";
        arg[n++] = file;
    } else if (strcmp(what, "check") == 0 || strcmp(what, "show") == 0) {
        arg[n++] = strcmp(what, "check") == 0 ? "--test-config" : "--dump-config";
        if (file) {
            arg[n++] = "--config";
            arg[n++] = file;
        }
    } else {
        fputs("bilrostctl: config check, config show or config explain KEY\n", stderr);
        return EX_USAGE;
    }
    char own[4096], path[4200];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    own[len > 0 ? len : 0] = 0;
    char *slash = strrchr(own, '/');
    if (slash)
        *slash = 0;
    static const char *const places[] = {"%s/bilrostd", "%s/../sbin/bilrostd"};
    for (size_t i = 0; i < countof(places); i++) {
        snprintf(path, sizeof path, i ? "%s/../sbin/bilrostd" : "%s/bilrostd", own);
        execv(path, (char *const *)(uintptr_t)arg);
    }
    execvp("bilrostd", (char *const *)(uintptr_t)arg);
    fprintf(stderr, "bilrostctl: cannot run bilrostd: %s\n", strerrordesc_np(errno));
    return EX_UNAVAILABLE;
}

static int client_run(const struct options *o, const char *method, const char *path, int argc,
                      char **argv)
{
    struct ask a = {.options = o};
    if (argc != 1) {
        fputs("bilrostctl: needs one client identifier\n", stderr);
        return EX_USAGE;
    }
    header_add(&a, "tenant_id", o->tenant);
    header_add(&a, "client_id", argv[0]);
    header_add(&a, "client_type", "bilrostctl");
    return send_it(&a, method, path);
}

static int pub_run(const struct options *o, int argc, char **argv)
{
    struct ask a = {.options = o};
    if (argc != 2) {
        fputs("bilrostctl: pub TOPIC MESSAGE\n", stderr);
        return EX_USAGE;
    }
    header_add(&a, "tenant_id", o->tenant);
    header_add(&a, "topic", argv[0]);
    header_add(&a, "qos", o->qos);
    header_add(&a, "client_type", "bilrostctl");
    a.body = str_of(argv[1]);
    return send_it(&a, "POST", o->is_retain ? "/retain" : "/pub");
}

static int command_run(const struct options *o, int argc, char **argv)
{
    static const struct {
        const char *name, *path;
    } view[] = {{"status", "/status"},     {"cluster", "/cluster"}, {"stores", "/stores"},
                {"services", "/services"}, {"metrics", "/metrics"}, {"ready", "/readyz"}};
    const char *name = argv[0];
    struct ask a = {.options = o};
    argc--;
    argv++;
    for (size_t i = 0; i < countof(view); i++)
        if (strcmp(name, view[i].name) == 0 && argc == 0)
            return send_it(&a, "GET", view[i].path);
    if (strcmp(name, "session") == 0)
        return client_run(o, "GET", "/session", argc, argv);
    if (strcmp(name, "kill") == 0)
        return client_run(o, "DELETE", "/kill", argc, argv);
    if (strcmp(name, "session-delete") == 0)
        return client_run(o, "DELETE", "/session/inbox", argc, argv);
    if (strcmp(name, "pub") == 0)
        return pub_run(o, argc, argv);
    if (strcmp(name, "passwd") == 0 && argc == 2)
        return ctl_passwd(argv[0], argv[1], o->passwd);
    if (strcmp(name, "config") == 0)
        return config_run(argc, argv);
    if (strcmp(name, "enrol") == 0 && argc > 4) /* used by bilrost-setup */
        return ctl_enrol(argv[0], argv[1], argv[2], argv[3], argv + 4);
    fprintf(stderr, "bilrostctl: unknown command or wrong arguments: %s (try --help)\n", name);
    return EX_USAGE;
}

int main(int argc, char **argv)
{
    enum { CA = 256, JSON };
    static const struct option longs[] = {
        {"host", required_argument, NULL, 'H'},   {"token", required_argument, NULL, 't'},
        {"tenant", required_argument, NULL, 'T'}, {"ca", required_argument, NULL, CA},
        {"json", no_argument, NULL, JSON},        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct options o = {
        .target = SOCKET, .token = getenv("BILROST_TOKEN"), .tenant = "default", .qos = "0"};
    for (int c; (c = getopt_long(argc, argv, "H:t:T:q:rsxVh", longs, NULL)) != -1;) {
        switch (c) {
        case 'H':
            o.target = optarg;
            break;
        case 't':
            o.token = optarg;
            break;
        case 'T':
            o.tenant = optarg;
            break;
        case 'q':
            o.qos = optarg;
            break;
        case 'r':
            o.is_retain = true;
            break;
        case 'x':
            o.passwd = CTL_PASSWD_DELETE;
            break;
        case 's':
            o.passwd = CTL_PASSWD_SCRAM;
            break;
        case CA:
            o.ca = optarg;
            break;
        case JSON:
            o.is_json = true;
            break;
        case 'V':
            printf("bilrostctl %s\n", BILROST_VERSION);
            return EX_OK;
        case 'h':
            fputs(usage, stdout);
            return EX_OK;
        default:
            return EX_USAGE;
        }
    }
    if (optind >= argc) {
        fputs(usage, stderr);
        return EX_USAGE;
    }
    return command_run(&o, argc - optind, argv + optind);
}
