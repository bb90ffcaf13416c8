/* The authentication chain and the files behind it.  SPDX-License-Identifier: Apache-2.0 */
#include "broker/auth.h"

#include <stdio.h>
#include <unistd.h>

#include "net/password.h"
#include "unit/broker/suites.h"

struct asked {
    struct broker_auth_ask ask;
    enum broker_auth_outcome outcome;
    int answers;
};

static void answered(struct broker_auth_ask *ask, enum broker_auth_outcome outcome)
{
    struct asked *a = container_of(ask, struct asked, ask);
    a->outcome = outcome;
    a->answers++;
}

static void write_file(char path[32], const char *text)
{
    memcpy(path, "/tmp/auth-XXXXXX", 17);
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq((int)write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
}

/* What the chain says to a client; the password goes over a worker. */
static enum broker_auth_outcome ask(struct broker_auth_files *files, unsigned methods,
                                    const char *user, const char *password, const char *certificate,
                                    struct str *out_user)
{
    struct net_loop_conf conf = {.seed = 1};
    struct net_loop *loop;
    struct net_worker *worker;
    ck_assert_int_eq(net_loop_new(&conf, &loop), 0);
    ck_assert_int_eq(net_worker_new(1, 10, "test", &worker), 0);
    struct broker_auth_chain chain = {.methods = methods};
    struct asked a = {0};
    a.ask.user = str_of(user);
    a.ask.password = str_of(password);
    a.ask.certificate = str_of(certificate);
    a.ask.done = answered;
    broker_auth_begin(&a.ask, &chain, files, worker, loop);
    for (int i = 0; i < 1000 && a.answers == 0; i++)
        net_loop_turn(loop, 10 * USEC_MSEC);
    ck_assert_int_eq(a.answers, 1);
    *out_user = a.ask.out_user;
    broker_auth_end(&a.ask);
    net_worker_free(worker);
    net_loop_turn(loop, 0);
    net_loop_free(loop);
    return a.outcome;
}

START_TEST(chain)
{
    char text[256], hash[NET_PASSWORD_TEXT_MAX], path[32], error[BROKER_AUTH_ERROR_MAX];
    ck_assert_int_eq(net_password_hash(STR("secret"), 8192, 1, hash), 0);
    snprintf(text, sizeof(text), "# people\nalice:%s\n", hash);
    write_file(path, text);
    struct broker_auth_conf conf = {.password_file = path};
    struct broker_auth_files *f;
    ck_assert_int_eq(broker_auth_files_new(&conf, error, &f), 0);
    static const struct {
        unsigned methods;
        const char *user, *password, *certificate;
        enum broker_auth_outcome want;
        const char *who;
    } c[] = {
        {BROKER_AUTH_PASSWORD, "alice", "secret", NULL, BROKER_AUTH_OK, "alice"},
        {BROKER_AUTH_PASSWORD, "alice", "wrong", NULL, BROKER_AUTH_E_BAD_PASS, "alice"},
        {BROKER_AUTH_PASSWORD, "nobody", "secret", NULL, BROKER_AUTH_E_BAD_PASS, "nobody"},
        {BROKER_AUTH_PASSWORD, NULL, NULL, NULL, BROKER_AUTH_E_NOT_AUTHORIZED, ""},
        {BROKER_AUTH_PASSWORD | BROKER_AUTH_ANONYMOUS, NULL, NULL, NULL, BROKER_AUTH_OK, ""},
        {BROKER_AUTH_PASSWORD | BROKER_AUTH_ANONYMOUS, "alice", "no", NULL, BROKER_AUTH_E_BAD_PASS,
         "alice"},
        {BROKER_AUTH_ANONYMOUS, "admin", "x", NULL, BROKER_AUTH_OK, ""},
        {BROKER_AUTH_CERTIFICATE, "admin", "x", "box7", BROKER_AUTH_OK, "box7"},
        {BROKER_AUTH_CERTIFICATE, "admin", "x", NULL, BROKER_AUTH_E_NOT_AUTHORIZED, ""},
    };
    for (size_t i = 0; i < countof(c); i++) {
        struct str who;
        ck_assert_msg(ask(f, c[i].methods, c[i].user, c[i].password, c[i].certificate, &who) ==
                          c[i].want,
                      "case %zu", i);
        ck_str(who, str_of(c[i].who));
    }
    broker_auth_files_unref(f);
    unlink(path);
}
END_TEST

START_TEST(bad_files_name_the_line)
{
    char path[32], error[BROKER_AUTH_ERROR_MAX], want[64];
    struct broker_auth_files *f;
    write_file(path, "# fine\nalice:plaintext\n");
    struct broker_auth_conf conf = {.password_file = path};
    ck_assert_int_lt(broker_auth_files_new(&conf, error, &f), 0);
    snprintf(want, sizeof(want), "%s:2:", path);
    ck_assert_ptr_nonnull(strstr(error, want));
    conf = (struct broker_auth_conf){.acl_file = path};
    ck_assert_int_lt(broker_auth_files_new(&conf, error, &f), 0);
    ck_assert_ptr_nonnull(strstr(error, want));
    unlink(path);
    ck_assert_int_lt(broker_auth_files_new(&conf, error, &f), 0);
    ck_assert_ptr_nonnull(strstr(error, "cannot be opened"));
}
END_TEST

Suite *suite_auth(void)
{
    Suite *s = suite_create("auth");
    TCase *t = tcase_create("auth");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, chain);
    tcase_add_test(t, bad_files_name_the_line);
    suite_add_tcase(s, t);
    return s;
}
