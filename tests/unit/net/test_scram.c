/* SCRAM-SHA-256 against the example of RFC 7677 and against clients that do not keep to it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "net/password.h"
#include "net/scram.h"
#include "unit/net/net.h"

/* The keys of "pencil" with the salt of RFC 7677 section 3. */
#define PENCIL                                                                                     \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"    \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define BOTH "rOprNGfwEbeRWgbNEkqO" NONCE

static const uint8_t secret[NET_SCRAM_SECRET_LEN] = {7};

START_TEST(example_of_rfc_7677)
{
    struct net_scram *s;
    struct buf out = {0};
    ck_assert_int_eq(net_scram_begin(STR("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), &s), 0);
    ck_assert(str_eq(net_scram_user(s), STR("user")));
    net_scram_challenge(s, STR(PENCIL), secret, STR(NONCE), &out);
    ck_assert(str_eq(buf_str(&out), STR("r=" BOTH ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")));
    out.n = 0;
    ck_assert_int_eq(
        net_scram_finish(s, STR("c=biws,r=" BOTH ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
                         &out),
        0);
    ck_assert(str_eq(buf_str(&out), STR("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    net_scram_free(s);
    buf_deinit(&out);
}
END_TEST

START_TEST(first_messages)
{
    static const struct {
        const char *text, *user; /* NULL: refused */
    } c[] = {
        {"n,,n=user,r=abc", "user"},
        {"y,,n=user,r=abc", "user"},
        {"n,,n=a=2Cb=3Dc,r=abc", "a,b=c"},
        {"n,a=user,n=user,r=abc", "user"},
        {"n,,n=user,r=abc,x=more", "user"},
        {"n,a=other,n=user,r=abc", NULL},     /* we let nobody act for another */
        {"p=tls-unique,,n=user,r=abc", NULL}, /* no channel binding is offered */
        {"n,,m=ext,n=user,r=abc", NULL},      /* an extension we must know */
        {"n,,n=us=er,r=abc", NULL},
        {"n,,n=us=2,r=abc", NULL},
        {"n,,n=,r=abc", NULL},
        {"n,,n=user,r=", NULL},
        {"n,,n=user,r=a b", NULL},
        {"n,,n=user", NULL},
        {"n,,n=\xff,r=abc", NULL},
        {"n,", NULL},
        {"n", NULL},
        {"", NULL},
        {"n,,r=abc,n=user", NULL},
    };
    for (size_t i = 0; i < countof(c); i++) {
        struct net_scram *s = NULL;
        int r = net_scram_begin(str_of(c[i].text), &s);
        ck_assert_msg(r == (c[i].user ? 0 : NET_SCRAM_E_FORMAT), "case %zu", i);
        if (r == 0)
            ck_assert_msg(str_eq(net_scram_user(s), str_of(c[i].user)), "case %zu", i);
        net_scram_free(s);
    }
}
END_TEST

START_TEST(final_messages)
{
    static const struct {
        const char *text;
        int want;
    } c[] = {
        {"c=biws,r=" BOTH ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", 0},
        {"c=biws,r=" BOTH ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", NET_SCRAM_E_WRONG},
        {"c=eSws,r=" BOTH ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
         NET_SCRAM_E_FORMAT}, /* another header */
        {"c=biws,r=" BOTH "x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", NET_SCRAM_E_FORMAT},
        {"c=biws,r=" BOTH ",p=dHzbZapWIk4jUhN+", NET_SCRAM_E_FORMAT},
        {"c=biws,r=" BOTH ",p=", NET_SCRAM_E_FORMAT},
        {"c=biws,r=" BOTH, NET_SCRAM_E_FORMAT},
        {"c=biws", NET_SCRAM_E_FORMAT},
        {"", NET_SCRAM_E_FORMAT},
        {",,,,", NET_SCRAM_E_FORMAT},
    };
    for (size_t i = 0; i < countof(c); i++) {
        struct net_scram *s;
        struct buf out = {0};
        ck_assert_int_eq(net_scram_begin(STR("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), &s), 0);
        net_scram_challenge(s, STR(PENCIL), secret, STR(NONCE), &out);
        ck_assert_msg(net_scram_finish(s, str_of(c[i].text), &out) == c[i].want, "case %zu", i);
        net_scram_free(s);
        buf_deinit(&out);
    }
}
END_TEST

/* A name without keys looks like one with keys, each time the same, until the proof. */
START_TEST(nobody_learns_who_exists)
{
    struct buf out[3] = {{0}, {0}, {0}};
    static const char *const first[3] = {"n,,n=ghost,r=x", "n,,n=ghost,r=x", "n,,n=other,r=x"};
    for (size_t i = 0; i < 3; i++) {
        struct net_scram *s;
        struct buf last = {0};
        ck_assert_int_eq(net_scram_begin(str_of(first[i]), &s), 0);
        net_scram_challenge(s, i ? STR("") : STR("$argon2id$v=19$m=8,t=1,p=1$AA$AA"), secret,
                            STR("y"), &out[i]);
        ck_assert_int_eq(
            net_scram_finish(s, STR("c=biws,r=xy,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
                             &last),
            NET_SCRAM_E_WRONG);
        ck_assert_uint_eq(last.n, 0);
        net_scram_free(s);
        buf_deinit(&last);
    }
    ck_assert(str_has_prefix(buf_str(&out[0]), STR("r=xy,s=")));
    ck_assert(str_eq(buf_str(&out[0]), buf_str(&out[1])));
    ck_assert(!str_eq(buf_str(&out[0]), buf_str(&out[2])));
    for (size_t i = 0; i < 3; i++)
        buf_deinit(&out[i]);
}
END_TEST

START_TEST(what_is_stored)
{
    struct buf text = {0};
    net_scram_store(STR("pencil"), 1000, &text);
    ck_assert(net_scram_is_stored(buf_str(&text)) && net_password_is_hash(buf_str(&text)));
    ck_assert_uint_lt(text.n, NET_PASSWORD_TEXT_MAX);
    ck_assert_int_eq(net_password_check(STR("pencil"), buf_str(&text)), 0);
    ck_assert_int_eq(net_password_check(STR("Pencil"), buf_str(&text)), NET_PASSWORD_E_WRONG);
    ck_assert_int_eq(net_password_check(STR("pencil"), STR(PENCIL)), 0);
    static const char *const bad[] = {"",
                                      "SCRAM-SHA-256$",
                                      "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$AA==:AA==",
                                      "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$AA==:AA==",
                                      "SCRAM-SHA-1$4096:AA==$AA==:AA==",
                                      "SCRAM-SHA-256$4096:!$x:y",
                                      "SCRAM-SHA-256$99999999999:AA==$AA==:AA=="};
    for (size_t i = 0; i < countof(bad); i++)
        ck_assert_msg(!net_scram_is_stored(str_of(bad[i])), "case %zu", i);
    buf_deinit(&text);
}
END_TEST

Suite *scram_suite(void)
{
    Suite *s = suite_create("scram");
    TCase *t = tcase_create("scram");
    tcase_add_test(t, example_of_rfc_7677);
    tcase_add_test(t, first_messages);
    tcase_add_test(t, final_messages);
    tcase_add_test(t, nobody_learns_who_exists);
    tcase_add_test(t, what_is_stored);
    suite_add_tcase(s, t);
    return s;
}
