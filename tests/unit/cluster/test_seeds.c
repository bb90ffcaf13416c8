/* Whom the addresses of a name make the first.  SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster_priv.h"
#include "unit/unit.h"

static struct gossip_addr at(uint8_t host, uint16_t port)
{
    return (struct gossip_addr){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, host}, port};
}

START_TEST(the_least_address_is_first)
{
    struct gossip_addr named[] = {at(3, 7), at(1, 7), at(2, 7)},
                       met[] = {at(1, 7), at(2, 7), at(3, 7)};
    unsigned firsts = 0;
    for (unsigned i = 0; i < countof(named); i++)
        firsts += cluster_seeds_are_led(named, 3, &named[i], met, 3);
    ck_assert_uint_eq(firsts, 1);
    ck_assert(cluster_seeds_are_led(named, 3, &named[1], met, 3));
    /* several nodes of one host, by SRV records */
    struct gossip_addr ports[] = {at(1, 9), at(1, 8)};
    ck_assert(cluster_seeds_are_led(ports, 2, &ports[1], ports, 2));
    ck_assert(!cluster_seeds_are_led(ports, 2, &ports[0], ports, 2));
}
END_TEST

START_TEST(who_is_not_named_is_not_first)
{
    struct gossip_addr named[] = {at(2, 7), at(3, 7)}, self = at(1, 7), other_port = at(2, 8);
    ck_assert(!cluster_seeds_are_led(named, 2, &self, named, 2));
    ck_assert(!cluster_seeds_are_led(named, 2, &other_port, named, 2));
    ck_assert(!cluster_seeds_are_led(NULL, 0, &self, named, 2));
}
END_TEST

/* So the two halves of a cluster that is cut at its first start do not both begin. */
START_TEST(the_first_begins_with_more_than_half)
{
    struct gossip_addr named[] = {at(1, 7), at(2, 7), at(3, 7), at(4, 7)},
                       met[] = {at(2, 7), at(9, 7), at(3, 7)};
    ck_assert(!cluster_seeds_are_led(named, 4, &named[0], NULL, 0));
    ck_assert(!cluster_seeds_are_led(named, 4, &named[0], met, 2));
    ck_assert(cluster_seeds_are_led(named, 4, &named[0], met, 3));
    ck_assert(cluster_seeds_are_led(named, 3, &named[0], met, 1));
    ck_assert(cluster_seeds_are_led(named, 1, &named[0], NULL, 0));
    /* said twice it counts once */
    struct gossip_addr twice[] = {at(1, 7), at(1, 7), at(2, 7), at(3, 7)};
    ck_assert(!cluster_seeds_are_led(twice, 4, &twice[0], NULL, 0));
}
END_TEST

Suite *suite_seeds(void)
{
    Suite *s = suite_create("seeds");
    TCase *t = tcase_create("first of a name");
    tcase_add_test(t, the_least_address_is_first);
    tcase_add_test(t, who_is_not_named_is_not_first);
    tcase_add_test(t, the_first_begins_with_more_than_half);
    suite_add_tcase(s, t);
    return s;
}
