/* The configuration: its table, its files, its mistakes.  SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "node/conf_priv.h"
#include "unit/unit.h"

static char path[64];

static void write_file(const char *text)
{
    snprintf(path, sizeof path, "/tmp/bilrost-conf-%d.conf", (int)getpid());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_ne(f, NULL);
    fputs(text, f);
    fclose(f);
}

static struct node_conf *read_text(const char *text)
{
    write_file(text);
    struct node_conf *c = node_conf_new();
    node_conf_read_file(c, path);
    unlink(path);
    return c;
}

START_TEST(defaults_are_good)
{
    struct node_conf *c = node_conf_new();
    ck_assert_uint_eq(node_conf_check(c), 0);
    ck_assert_str_eq(c->data_dir, "/var/lib/bilrost");
    ck_assert_int_eq(c->inbox_voters, 3);
    ck_assert_uint_eq(c->tenant_count, 1);
    node_conf_free(c);
}
END_TEST

START_TEST(credentials_are_found)
{
    ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1), 0);
    struct node_conf *c =
        read_text("auth: { password_file = \"$CREDENTIALS_DIRECTORY/keys_p\"; };");
    ck_assert_str_eq(c->password_file, "/run/credentials/x/keys_p");
    node_conf_free(c);
    ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}
END_TEST

START_TEST(reads_values)
{
    struct node_conf *c = read_text(
        "workers = 3; memory_max = \"64M\"; log_level = \"debug\";\n"
        "clusterConfig: { env = \"test\"; seedEndpoints = \"a:1,b:2\"; };\n"
        "mqttServiceConfig: { server: { connTimeoutSec = 7; }; };\n"
        "listeners = ( { kind = \"tcp\"; address = \"*:1883\"; auth = [\"anonymous\"]; },\n"
        "  { kind = \"unix\"; address = \"/run/x\"; auth = \"anonymous\"; maxConnections = 5; } "
        ");\n"
        "tenants: { a: { MaxTopicLevels = 5; maxConnections = 9; };\n"
        "  default: { MaxTopicLevels = 7; RetainEnabled = false; }; };\n");
    ck_assert_msg(node_conf_check(c) == 0, "%.*s", STR_ARG(buf_str(&c->errors)));
    ck_assert_int_eq(c->workers, 3);
    ck_assert_int_eq(c->memory_max, 64 << 20);
    ck_assert_str_eq(c->cluster_env, "test");
    ck_assert_str_eq(c->cluster_seeds, "a:1,b:2");
    ck_assert_int_eq(c->mqtt_conn_timeout, 7);
    ck_assert_uint_eq(c->listener_count, 2);
    ck_assert_int_eq(c->listener[1].connection_max, 5);
    ck_assert_int_eq(c->listener[0].conn_per_sec, -1);
    ck_assert_uint_eq(c->tenant_count, 2);
    ck_assert_str_eq(c->tenant[0].name, "default");
    ck_assert_int_eq(c->tenant[0].settings->max_topic_levels, 7);
    ck_assert_int_eq(c->tenant[1].settings->max_topic_levels, 5);
    ck_assert_int_eq(c->tenant[1].settings->retain_enabled,
                     0); /* from default, though that came later */
    ck_assert_int_eq(c->tenant[1].connection_max, 9);
    node_conf_free(c);
}
END_TEST

static void read_more(struct node_conf *c, const char *suffix, const char *text)
{
    char more[96];
    write_file(text);
    snprintf(more, sizeof more, "%s.%s", path, suffix);
    ck_assert_int_eq(rename(path, more), 0);
    node_conf_read_file(c, more);
    unlink(more);
}

/* A later file adds listeners, replaces one by its name, and takes one away. */
START_TEST(listeners_of_several_files)
{
    struct node_conf *c = node_conf_new();
    read_more(c, "1",
              "listeners = ( { name = \"a\"; address = \"127.0.0.1:1\"; auth = \"anonymous\"; "
              "maxConnections = 7; },\n"
              "  { name = \"b\"; address = \"127.0.0.1:2\"; auth = \"anonymous\"; },\n"
              "  { address = \"127.0.0.1:3\"; auth = \"anonymous\"; } );\n");
    read_more(c, "2",
              "listeners = ( { name = \"a\"; address = \"127.0.0.1:4\"; auth = \"anonymous\"; },\n"
              "  { name = \"b\"; enable = false; },\n"
              "  { name = \"c\"; address = \"127.0.0.1:5\"; auth = \"anonymous\"; } );\n");
    ck_assert_msg(node_conf_check(c) == 0, "%.*s", STR_ARG(buf_str(&c->errors)));
    ck_assert_uint_eq(c->listener_count, 3);
    ck_assert_str_eq(c->listener[0].address, "127.0.0.1:4");
    ck_assert_int_eq(c->listener[0].connection_max, 0); /* replaced as a whole */
    ck_assert_str_eq(c->listener[1].address, "127.0.0.1:3");
    ck_assert_str_eq(c->listener[2].address, "127.0.0.1:5");
    node_conf_free(c);
}
END_TEST

START_TEST(mistakes_are_named)
{
    static const struct {
        const char *text, *says;
    } table[] = {
        {"\n\nworkerz = 3;", ":3: unknown key \"workerz\"; did you mean \"workers\"?"},
        {"clusterConfig: { prot = 1; };",
         ":1: unknown key \"clusterConfig.prot\"; did you mean \"clusterConfig.port\"?"},
        {"workers = \"many\";", ":1: workers is \"many\", but must be a whole number"},
        {"workers = 65;", ":1: workers is 65, but must be between 0 and 64"},
        {"workers = 1.5;", ":1: workers is a number with a fraction, but must be number"},
        {"workers = { };", ":1: workers is a section { }, but must be number"},
        {"log_level = \"loud\";",
         "log_level is \"loud\", but must be one of error|warn|notice|info|debug"},
        {"workers = 1\nlog_level = ;", ":2: syntax error"},
        {"dist_worker_range_voter_count = 2;", "must be odd"},
        {"listeners = { };", "must be a list"},
        {"listeners = ( { name = \"a\"; auth = \"anonymous\"; },\n{ name = \"a\"; } );",
         ":2: listeners has two entries with the name \"a\""},
        {"listeners = ( { adress = \"x\"; } );",
         "unknown key \"adress\"; did you mean \"address\"?"},
        {"listeners = ( { address = \"localhost\"; auth = \"anonymous\"; } );",
         "must be ADDRESS:PORT"},
        {"listeners = ( { address = \"1.2.3.4:1\"; } );", "auth.password_file is not set"},
        {"listeners = ( { address = \"1.2.3.4:1\"; auth = \"magic\"; } );", "auth has \"magic\""},
        {"listeners = ( { kind = \"tls\"; address = \"1.2.3.4:1\"; auth = \"anonymous\"; } );",
         "certFile and keyFile are needed"},
        {"listeners = ( { kind = \"tls\"; address = \"1.2.3.4:1\"; auth = \"anonymous\"; certFile "
         "= \"/none\"; keyFile = \"/none\"; } );",
         "cannot read \"/none\": No such file or directory"},
        {"listeners = ( { address = \"1.2.3.4:1\"; auth = \"anonymous\"; proxyFrom = "
         "[\"10.0.0.0/99\"]; } );",
         "proxyFrom has \"10.0.0.0/99\""},
        {"tenants: { default: { MaxTopicLevel = 3; }; };", "did you mean \"MaxTopicLevels\"?"},
        {"tenants: { default: { MaximumQoS = 3; }; };",
         "MaximumQoS is 3, but must be between 0 and 2"},
        {"tenants: { default: { MinSessionExpirySeconds = 100; MaxSessionExpirySeconds = 5; }; };",
         "SessionExpirySeconds"},
        {"workers = 1;\n  workers = 2;", ":2: duplicate setting name at \"workers\""},
        {"tenants: { a: { MaximumQoS = 1;\nMaximumQoS = 2; }; };",
         ":2: duplicate setting name at \"MaximumQoS\""},
        {"log_level = \"a\";\nplugins = [ secret = ];", ":2: syntax error at \"plugins\" ("},
        {"mqttServiceConfig = 1;", ":1: mqttServiceConfig is a value, but must be a section { }"},
        {"@include \"/none.conf\"", ":1: cannot open include file"},
        {"tenants = 3;", ":1: tenants is a value, but must be a section { }"},
        {"tenants: { a = 3; };", ":1: tenant a is a value, but must be a section { }"},
        {"tenants: { a: { MaximumQoS = true; }; };",
         ":1: MaximumQoS is \"true\", but must be a whole number"},
        {"tenants: { a: { RetainEnabled = 3; }; };",
         ":1: RetainEnabled is \"3\", but must be true or false"},
        {"listeners = ( { address = \"1.2.3.4:1\"; auth = \"anonymous\"; keyFile = \"/k\"; } );",
         ":1: keyFile is given, but kind is \"tcp\": use tls or wss"},
        {"listeners = ( { address = \"1.2.3.4:1\"; auth = \"anonymous\"; clientAuth = "
         "\"REQUIRE\"; } );",
         ":1: clientAuth is given, but kind is \"tcp\": use tls or wss"},
        {"listeners = ( { kind = \"ws\"; address = \"1.2.3.4:1\"; auth = \"anonymous\"; path = "
         "\"mqtt\"; } );",
         ":1: path is \"mqtt\", but must begin with /"},
        {"listeners = ( { address = \"1.2.3.4:1\"; auth = \"anonymous\"; },\n{ kind = \"ws\"; "
         "address = \"1.2.3.4:1\"; auth = \"anonymous\"; } );",
         ":2: address is \"1.2.3.4:1\", but the listener at "},
        {"auth: { password_file = \"/none\"; };", "auth.password_file: cannot read \"/none\""},
        {"tenants: { greenhouse: { }; };\nlisteners = ( { address = \"1.2.3.4:1\"; auth = "
         "\"anonymous\"; tenant = \"greenhuose\"; } );",
         ":2: tenant is \"greenhuose\", but there is no such tenant: add it to tenants, which has "
         "default, greenhouse"},
        {"workers = 1;\nsys_tenant = \"defualt\";",
         ":2: sys_tenant is \"defualt\", but there is no such tenant"},
        {"listeners = ( { kind = \"unix\"; address = \"/tmp/x\"; auth = \"anonymous\"; group = "
         "\"no-such-group\"; } );",
         ":1: group is \"no-such-group\", but this machine has no such group: make it with "
         "groupadd"},
        {"apiServerConfig: {\nunixGroup = \"no-such-group\"; };",
         ":2: apiServerConfig.unixGroup is \"no-such-group\", but this machine has no such "
         "group"},
    };
    for (size_t i = 0; i < countof(table); i++) {
        struct node_conf *c = read_text(table[i].text);
        size_t n = node_conf_check(c);
        buf_put_u8(&c->errors, 0);
        ck_assert_msg(n > 0, "row %zu is no mistake: %s", i, table[i].text);
        ck_assert_msg(strstr((char *)c->errors.p, table[i].says) != NULL, "row %zu says: %s", i,
                      (char *)c->errors.p);
        node_conf_free(c);
    }
}
END_TEST

/* A tenant gets what it asks for or more, or the configuration is refused. */
START_TEST(durability_is_never_less_than_asked)
{
    static const char *const node[] = {"durability = \"quorum_fsync\";", "durability = \"quorum\";",
                                       "durability = \"memory\";", "data_dir = \"\";",
                                       "durability = \"quorum\"; data_dir = \"\";"};
    for (size_t i = 0; i < countof(node); i++)
        for (int asked = -1; asked <= 2; asked++)
            for (int of_default = 0; of_default < 2; of_default++) {
                int given = i > 0, got = asked < 0 ? given : asked;
                char text[256], wish[64] = "";
                if (asked >= 0)
                    snprintf(wish, sizeof wish, "Durability = %d;", asked);
                snprintf(text, sizeof text, "%s tenants: { %s: { %s }; x: { }; };", node[i],
                         of_default ? "default" : "a", wish);
                struct node_conf *c = read_text(text);
                size_t bad = node_conf_check(c);
                buf_put_u8(&c->errors, 0);
                /* a wish of the default tenant is one of x as well */
                ck_assert_msg(bad == (got >= given ? 0u : 1u + (unsigned)of_default), "%s %s", text,
                              (char *)c->errors.p);
                ck_assert_int_eq(node_conf_durability(c), given);
                if (bad)
                    ck_assert_msg(strstr((char *)c->errors.p,
                                         "Durability is 0 (the disks of a "
                                         "quorum), but this node has ") != NULL,
                                  "%s", (char *)c->errors.p);
                ck_assert_int_eq(c->tenant[of_default ? 0 : 1].settings->durability, got);
                ck_assert_int_eq(c->tenant[c->tenant_count - 1].settings->durability,
                                 of_default ? got : given);
                node_conf_free(c);
            }
}
END_TEST

/* Read again: what counts is what the node runs with, whatever the file says of its next start. */
START_TEST(durability_is_that_of_the_running_node)
{
    static const struct {
        const char *running, *again;
        int got; /* of the default tenant; -1: refused */
    } table[] = {
        {"durability = \"quorum\";", "durability = \"quorum_fsync\";", 1},
        {"durability = \"quorum\";",
         "durability = \"quorum_fsync\"; tenants: { default: { Durability = 0; }; };", -1},
        {"data_dir = \"\";", "tenants: { default: { Durability = 0; }; };", -1},
        {"durability = \"quorum_fsync\";", "durability = \"memory\";", 0},
    };
    for (size_t i = 0; i < countof(table); i++) {
        struct node_conf *by = read_text(table[i].running);
        ck_assert_uint_eq(node_conf_check(by), 0);
        struct node_conf *c = read_text(table[i].again);
        ck_assert_uint_eq(node_conf_check(c), 0);
        node_conf_durability_settle(c, by);
        ck_assert_uint_eq(c->error_count, table[i].got < 0 ? 1u : 0u);
        buf_put_u8(&c->errors, 0);
        if (table[i].got < 0)
            ck_assert_ptr_ne(strstr((char *)c->errors.p, "until its next restart"), NULL);
        else
            ck_assert_int_eq(c->tenant[0].settings->durability, table[i].got);
        node_conf_free(c);
        node_conf_free(by);
    }
}
END_TEST

START_TEST(missing_file_is_named)
{
    struct node_conf *c = node_conf_new();
    node_conf_read_file(c, "/nonexistent/x.conf");
    node_conf_read_file(c, "/tmp");
    node_conf_read_dir(c, "/nonexistent");
    ck_str(buf_str(&c->errors),
           STR("/nonexistent/x.conf: cannot read it: No such file or directory\n"
               "/tmp: cannot read it: Is a directory\n"));
    node_conf_free(c);
}
END_TEST

START_TEST(precedence)
{
    struct node_conf *c = read_text("workers = 1; blocking_threads = 1; log_level = \"warn\";");
    char one[] = "workers=2", two[] = "log_level=error", three[] = "MaximumQoS=1",
         four[] = "PATH=/bin", five[] = "clusterConfig.port=7";
    char *environment[] = {one, two, three, four, five, NULL};
    node_conf_read_environment(c, environment);
    node_conf_read_argument(c, "workers=3");
    node_conf_read_argument(c, "clusterConfig.port=5");
    node_conf_read_argument(c, "MaxTopicLevels=4");
    ck_assert_uint_eq(node_conf_check(c), 0);
    ck_assert_int_eq(c->workers, 3);
    ck_assert_int_eq(c->worker_threads, 1);
    ck_assert_str_eq(c->log_level, "error");
    ck_assert_int_eq(c->cluster_port, 5);
    ck_assert_int_eq(c->tenant[0].settings->maximum_qos, 1);
    ck_assert_int_eq(c->tenant[0].settings->max_topic_levels, 4);
    node_conf_read_argument(c, "wokers=3");
    node_conf_read_argument(c, "workers");
    ck_str(buf_str(&c->errors),
           STR("command line: unknown name \"wokers\"; did you mean \"workers\"?\n"
               "command line: -D workers has no value: write -D name=value\n"));
    node_conf_free(c);
}
END_TEST

/* What is dumped reads back to the same. */
START_TEST(dump_is_a_configuration)
{
    struct node_conf *c = read_text(
        "workers = 3; clusterConfig: { env = \"a\\\"b\\\\c\"; };\n"
        "listeners = ( { address = \"*:1883\"; auth = [\"anonymous\", \"password\"]; } );\n"
        "auth: { password_file = \"/dev/null\"; };\n"
        "tenants: { t: { MaxTopicLevels = 5; InBoundBandWidth = 5000000000L; }; };\n");
    ck_assert_msg(node_conf_check(c) == 0, "%.*s", STR_ARG(buf_str(&c->errors)));
    for (int with_comments = 0; with_comments < 2; with_comments++) {
        struct buf a = {0}, b = {0}, plain = {0};
        node_conf_dump(c, with_comments, &a);
        node_conf_dump(c, false, &plain);
        buf_put_u8(&a, 0);
        struct node_conf *d = read_text((char *)a.p);
        ck_assert_msg(node_conf_check(d) == 0, "%.*s", STR_ARG(buf_str(&d->errors)));
        node_conf_dump(d, false, &b);
        ck_str(buf_str(&b), buf_str(&plain));
        buf_deinit(&a);
        buf_deinit(&b);
        buf_deinit(&plain);
        node_conf_free(d);
    }
    node_conf_free(c);
}
END_TEST

START_TEST(explains)
{
    struct buf b = {0};
    ck_assert(node_conf_explain(STR("workers"), &b));
    ck_assert(node_conf_explain(STR("httpPort"), &b));
    ck_assert(node_conf_explain(STR("MaximumQoS"), &b));
    b.n = 0;
    ck_assert(!node_conf_explain(STR("wrkers"), &b));
    ck_str(buf_str(&b), STR("no key \"wrkers\"; did you mean \"workers\"?\n"));
    buf_deinit(&b);
}
END_TEST

Suite *conf_suite(void)
{
    Suite *s = suite_create("configuration");
    TCase *t = tcase_create("conf");
    tcase_add_test(t, defaults_are_good);
    tcase_add_test(t, credentials_are_found);
    tcase_add_test(t, reads_values);
    tcase_add_test(t, listeners_of_several_files);
    tcase_add_test(t, mistakes_are_named);
    tcase_add_test(t, durability_is_never_less_than_asked);
    tcase_add_test(t, durability_is_that_of_the_running_node);
    tcase_add_test(t, missing_file_is_named);
    tcase_add_test(t, precedence);
    tcase_add_test(t, dump_is_a_configuration);
    tcase_add_test(t, explains);
    suite_add_tcase(s, t);
    return s;
}
