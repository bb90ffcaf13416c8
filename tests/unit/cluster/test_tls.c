/* Links under mutual TLS: who comes in and who does not.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cluster/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/mark.h"
#include "net/tls.h"
#include "unit/cert.h"

static char dir[64];
static struct cluster_identity id[2];

static void cert_of(unsigned i, const struct uuid *uuid, const char *ca)
{
    char name[16], text[UUID_TEXT], san[128];
    uuid_format(uuid, text);
    snprintf(name, sizeof name, "node%u", i);
    snprintf(san, sizeof san, "DNS:%s,URI:node:%s", text, text);
    cert_make(dir, name, "bilrost node", san, ca);
}

static struct net_tls *tls_of(unsigned i, bool is_server, const char *ca)
{
    char cert[96], key[96], bundle[96], error[NET_TLS_ERROR_MAX];
    struct net_tls *t = NULL;
    snprintf(cert, sizeof cert, "%s/node%u.crt", dir, i);
    snprintf(key, sizeof key, "%s/node%u.key", dir, i);
    snprintf(bundle, sizeof bundle, "%s/%s.crt", dir, ca);
    struct net_tls_conf conf = {.is_server = is_server,
                                .cert_file = cert,
                                .key_file = key,
                                .ca_file = bundle,
                                .verify = NET_TLS_VERIFY_REQUIRED,
                                .version_min = "1.3"};
    int r = net_tls_new(&conf, error, &t);
    ck_assert_msg(r == 0, "%s", error);
    return t;
}

static void setup(void)
{
    nodes_setup();
    snprintf(dir, sizeof dir, "/tmp/bilrost-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    cert_make(dir, "ca", "Cluster CA", NULL, NULL);
    cert_make(dir, "ca2", "Another CA", NULL, NULL);
    for (unsigned i = 0; i < 2; i++) {
        id[i] =
            (struct cluster_identity){.uuid = {.b = {(uint8_t)(i + 1)}}, .epoch = 1, .lock = -1};
        node[i].identity = &id[i];
        cert_of(i, &id[i].uuid, "ca");
    }
}

static void with_tls(unsigned i, const char *ca)
{
    node[i].tls_server = tls_of(i, true, ca);
    node[i].tls_client = tls_of(i, false, ca);
}

static void teardown(void)
{
    char cmd[96];
    nodes_teardown();
    for (unsigned i = 0; i < 2; i++) {
        net_tls_unref(node[i].tls_server);
        net_tls_unref(node[i].tls_client);
    }
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}

static void join(void)
{
    nodes_start(&node[0], "test", &nodes_key_a);
    nodes_seed(&node[1], &node[0]);
    nodes_start(&node[1], "test", &nodes_key_a);
    ck_assert(nodes_until(nodes_agree, 5));
}

static int call(unsigned from, unsigned to)
{
    return nodes_call(&node[from], &id[to].uuid);
}

START_TEST(test_certified_nodes_talk)
{
    with_tls(0, "ca");
    with_tls(1, "ca");
    join();
    ck_assert_int_eq(call(0, 1), 0);
    ck_assert_int_eq(call(1, 0), 0);
    struct cluster_link_stats st;
    cluster_link_stats_get(cluster_seat_link(cluster_seat(node[0].c, 0)), &st);
    ck_assert_uint_eq(st.connects_failed, 0);
}
END_TEST

START_TEST(test_another_ca_is_refused)
{
    cert_of(1, &id[1].uuid, "ca2");
    with_tls(0, "ca");
    with_tls(1, "ca2");
    join();
    ck_assert_int_eq(call(0, 1), CLUSTER_LINK_E_UNREACHABLE);
    ck_assert_int_eq(call(1, 0), CLUSTER_LINK_E_UNREACHABLE);
    ck_assert(nodes_logged(&node[0], "cluster.link.failed"));
    ck_assert(nodes_logged(&node[0], "certificate"));
}
END_TEST

/* A true certificate of the right CA, but not the node's own. */
START_TEST(test_another_nodes_certificate_is_refused)
{
    const struct uuid other = {.b = {7}};
    cert_of(1, &other, "ca");
    with_tls(0, "ca");
    with_tls(1, "ca");
    join();
    ck_assert_int_eq(call(0, 1), CLUSTER_LINK_E_UNREACHABLE); /* the one that dials finds out */
    ck_assert_int_eq(call(1, 0), CLUSTER_LINK_E_UNREACHABLE); /* the one that is dialled does */
    ck_assert(nodes_logged(&node[0], "the certificate is not that of this node"));
}
END_TEST

/* Right name, but no "node:" URI: a certificate that was made for something else. */
START_TEST(test_a_server_certificate_is_no_node)
{
    char text[UUID_TEXT], san[64];
    uuid_format(&id[1].uuid, text);
    snprintf(san, sizeof san, "DNS:%s", text);
    cert_make(dir, "node1", "a web server", san, "ca");
    with_tls(0, "ca");
    with_tls(1, "ca");
    join();
    ck_assert_int_eq(call(0, 1), CLUSTER_LINK_E_UNREACHABLE);
    ck_assert_int_eq(call(1, 0), CLUSTER_LINK_E_UNREACHABLE);
}
END_TEST

START_TEST(test_plain_and_tls_do_not_mix)
{
    with_tls(0, "ca");
    join();
    ck_assert_int_ne(call(0, 1), 0);
    ck_assert_int_ne(call(1, 0), 0);
}
END_TEST

static void reload(unsigned i)
{
    char error[NET_TLS_ERROR_MAX];
    ck_assert_int_eq(net_tls_reload(node[i].tls_server, error), 0);
    ck_assert_int_eq(net_tls_reload(node[i].tls_client, error), 0);
}

/* Node 0 comes anew, so that connections to it are dialled again. */
static void again(void)
{
    nodes_stop(&node[0]);
    id[0].epoch++;
    nodes_seed(&node[0], &node[1]);
    nodes_start(&node[0], "test", &nodes_key_a);
    ck_assert(nodes_until(nodes_agree, 5));
    nodes_run(0.2);
}

START_TEST(test_a_new_certificate_is_read)
{
    const struct uuid other = {.b = {7}};
    with_tls(0, "ca");
    with_tls(1, "ca");
    join();
    ck_assert_int_eq(call(0, 1), 0);
    cert_of(1, &other, "ca");
    reload(1);
    ck_assert_int_eq(call(0, 1), 0); /* what is open stays open */
    again();
    ck_assert_int_ne(call(0, 1), 0); /* the one of now is shown */
    cert_of(1, &id[1].uuid, "ca");
    reload(1);
    again();
    ck_assert_int_eq(call(0, 1), 0);
    ck_assert_int_eq(call(1, 0), 0);
}
END_TEST

static bool revoked_everywhere(void)
{
    for (unsigned i = 0; i < 2; i++)
        if (!cluster_is_revoked(cluster_seat(node[i].c, 0), &id[1].uuid))
            return false;
    return true;
}

static bool taken_again(void)
{
    for (unsigned i = 0; i < 2; i++)
        if (cluster_is_revoked(cluster_seat(node[i].c, 0), &id[1].uuid))
            return false;
    return true;
}

/* Its links end, none is opened in either direction, and it is told why; then it may come in again.
 */
START_TEST(test_a_revoked_node_has_no_link)
{
    with_tls(0, "ca");
    with_tls(1, "ca");
    join();
    ck_assert_int_eq(call(0, 1), 0);
    ck_assert_int_eq(call(1, 0), 0);
    cluster_revoked_put(cluster_seat(node[0].c, 0), &id[1].uuid, true);
    ck_assert(nodes_until(revoked_everywhere, 5));
    ck_assert_int_ne(call(0, 1), 0);
    ck_assert_int_ne(call(1, 0), 0);
    ck_assert(nodes_logged(&node[1], "cluster.node.revoked"));
    again();
    ck_assert(nodes_until(revoked_everywhere, 5));
    ck_assert_int_ne(call(0, 1), 0);
    ck_assert_int_ne(call(1, 0), 0);
    cluster_revoked_put(cluster_seat(node[0].c, 0), &id[1].uuid, false);
    ck_assert(nodes_until(taken_again, 5));
    again();
    ck_assert(nodes_until(taken_again, 5));
    ck_assert_int_eq(call(0, 1), 0);
}
END_TEST

Suite *suite_tls(void);

Suite *suite_tls(void)
{
    Suite *s = suite_create("tls");
    TCase *t = tcase_create("tls");
    tcase_set_timeout(t, TEST_PATIENCE(60));
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_certified_nodes_talk);
    tcase_add_test(t, test_another_ca_is_refused);
    tcase_add_test(t, test_another_nodes_certificate_is_refused);
    tcase_add_test(t, test_a_server_certificate_is_no_node);
    tcase_add_test(t, test_plain_and_tls_do_not_mix);
    tcase_add_test(t, test_a_new_certificate_is_read);
    tcase_add_test(t, test_a_revoked_node_has_no_link);
    suite_add_tcase(s, t);
    return s;
}
