/* Pages merged from several sources, and what nodes say to each other.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "api/list_priv.h"
#include "api/peer_priv.h"
#include "base/mem.h"
#include "base/rng.h"
#include "codec/json.h"
#include "stores/survey.h"
#include "unit/api/suites.h"

START_TEST(a_page_ends_where_a_source_falls_silent)
{
    struct api_merge m = {.count = 0};
    api_merge_put(&m, STR("d"), STR("{}"), false);
    api_merge_put(&m, STR("b"), STR("{}"), true);
    api_merge_put(&m, STR("a"), STR("{}"), false);
    api_merge_put(&m, STR("b"), STR("{}"), false);
    api_merge_put(&m, STR("c"), STR("{}"), true);
    api_merge_bound(&m, STR("x"));
    api_merge_bound(&m, STR("c"));
    api_merge_bound(&m, STR("d"));
    ck_assert_uint_eq(api_merge_end(&m, 10), 4); /* a, b and b, c: d may have others before it */
    ck_assert(m.is_more);
    ck_str(m.row[1].client, STR("b"));
    ck_assert(!m.row[1].is_stored && m.row[2].is_stored);
    ck_assert_uint_eq(api_merge_end(&m, 2), 3); /* two clients, three rows */
    api_merge_deinit(&m);
    m = (struct api_merge){.count = 0};
    ck_assert_uint_eq(api_merge_end(&m, 2), 0);
    ck_assert(!m.is_more);
    api_merge_put(&m, STR("a"), STR("{}"), false);
    ck_assert_uint_eq(api_merge_end(&m, 1), 1);
    ck_assert(!m.is_more);
    api_merge_deinit(&m);
}
END_TEST

#define SOURCES 4
#define CLIENTS 60

/* One source's page: its names behind `after`, at most limit. */
static void source_page(const uint8_t mask[CLIENTS], unsigned source, struct str after,
                        size_t limit, struct api_merge *m)
{
    char name[8];
    size_t n = 0;
    struct str last = {NULL, 0};
    for (unsigned i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof name, "c%02u", i);
        if (!(mask[i] >> source & 1) || str_cmp(str_of(name), after) <= 0)
            continue;
        if (n++ == limit) {
            api_merge_bound(m, last);
            return;
        }
        api_merge_put(m, str_of(name), STR(""), source == 0);
        last = m->row[m->count - 1].client;
    }
}

START_TEST(every_client_is_on_one_page)
{
    struct rng rng;
    rng_init(&rng, (uint64_t)_i + 1);
    uint8_t mask[CLIENTS], seen[CLIENTS] = {0};
    size_t limit = 1 + rng_below(&rng, 9);
    char after[8] = "";
    for (unsigned i = 0; i < CLIENTS; i++)
        mask[i] = (uint8_t)rng_below(&rng, 1 << SOURCES);
    for (unsigned pages = 0; pages < 200; pages++) {
        struct api_merge m = {.count = 0};
        for (unsigned s = 0; s < SOURCES; s++)
            source_page(mask, s, str_of(after), limit, &m);
        size_t n = api_merge_end(&m, limit);
        for (size_t i = 0; i < n; i++)
            if (i == 0 || !str_eq(m.row[i].client, m.row[i - 1].client))
                seen[(m.row[i].client.p[1] - '0') * 10 + m.row[i].client.p[2] - '0']++;
        bool is_more = m.is_more;
        ck_assert(!is_more || n > 0); /* or nobody could go on */
        if (n > 0)
            str_copy(after, sizeof after, m.row[n - 1].client);
        api_merge_deinit(&m);
        if (!is_more)
            break;
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        ck_assert_uint_eq(seen[i], mask[i] != 0);
}
END_TEST

START_TEST(orders_and_answers_come_back_equal)
{
    struct buf b = {0}, items = {0};
    struct api_peer_ask a = {.op = API_PEER_KILL,
                             .tenant = STR("t"),
                             .user = STR(""),
                             .client = STR("c"),
                             .after = STR("x"),
                             .reference = STR("r"),
                             .has_user = true,
                             .has_client = true,
                             .cookie = UINT64_MAX,
                             .reason = 0x98},
                        back;
    api_peer_ask_encode(&b, &a);
    ck_assert(api_peer_ask_decode(buf_str(&b), &back));
    ck_assert_int_eq(back.op, API_PEER_KILL);
    ck_str(back.tenant, STR("t"));
    ck_str(back.client, STR("c"));
    ck_str(back.reference, STR("r"));
    ck_assert(back.has_user && back.user.n == 0 && back.has_client && !back.wants_subs);
    ck_assert_uint_eq(back.cookie, UINT64_MAX);
    for (size_t n = 0; n < b.n; n++) /* cut short anywhere: refused, or without its tail */
        (void)!api_peer_ask_decode(str_view(b.p, n), &back);
    api_peer_item_put(&items, STR("c1"), STR("{}"));
    api_peer_item_put(&items, STR("c2"), STR(""));
    struct api_peer_answer answer = {.count = 3, .is_more = true, .items = buf_str(&items)}, got;
    struct api_peer_item item;
    b.n = 0;
    api_peer_answer_encode(&b, &answer);
    ck_assert(api_peer_answer_decode(buf_str(&b), &got));
    ck_assert(got.count == 3 && got.is_more && !got.is_new);
    struct str rest = got.items;
    ck_assert(api_peer_item(&rest, &item));
    ck_str(item.client, STR("c1"));
    ck_assert(api_peer_item(&rest, &item) && item.json.n == 0);
    ck_assert(!api_peer_item(&rest, &item));
    b.n = 0;
    a.op = (enum api_peer_op)99; /* of a later version */
    api_peer_ask_encode(&b, &a);
    ck_assert(!api_peer_ask_decode(buf_str(&b), &back));
    buf_deinit(&b);
    buf_deinit(&items);
}
END_TEST

/* Numbers of a stored session are drawn with all their bits: the reader's library refuses a number
 * above INT64_MAX. */
START_TEST(a_stored_session_can_be_read)
{
    char why[CODEC_JSON_ERROR_MAX];
    struct buf b = {0};
    buf_put_u8(&b, '{');
    api_put_stored(&b, &(struct stores_stored){.incarnation = UINT64_MAX,
                                               .created_ms = 1800000000000,
                                               .expiry_sec = UINT32_MAX});
    buf_put_u8(&b, '}');
    struct codec_json *j = codec_json_parse(buf_str(&b), why);
    ck_assert_ptr_nonnull(j);
    ck_str(codec_json_text(codec_json_get(j, "incarnation")), STR("18446744073709551615"));
    ck_assert_uint_eq(codec_json_u64(codec_json_get(j, "expirySeconds")), UINT32_MAX);
    codec_json_free(j);
    buf_deinit(&b);
}
END_TEST

Suite *list_suite(void)
{
    Suite *s = suite_create("list");
    TCase *t = tcase_create("all");
    tcase_add_test(t, a_page_ends_where_a_source_falls_silent);
    tcase_add_loop_test(t, every_client_is_on_one_page, 0, 50);
    tcase_add_test(t, orders_and_answers_come_back_equal);
    tcase_add_test(t, a_stored_session_can_be_read);
    suite_add_tcase(s, t);
    return s;
}
