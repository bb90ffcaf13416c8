/* Who asks: tokens and unix users.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: the table of tokens is replaced whole, after all of the file was found good.
 *
 * Never: logs a token; tells by its time how much of a token was right. */
#include <errno.h>
#include <stdio.h>

#include "api/api_priv.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/password.h"

#define TOKENS_MAX 1024
#define TOKEN_LEN_MIN 16

static enum api_role role_of_token(const struct api *api, struct str token)
{
    enum api_role role = API_ROLE_NONE;
    for (size_t i = 0; i < api->token_count; i++) /* all are compared, so that time tells nothing */
        if (net_password_eq(token, str_of(api->token[i].text)))
            role = api->token[i].role;
    return role;
}

enum api_role api_token_role(struct api_ask *a)
{
    static const char *const name[] = {"nobody", "read", "operate", "admin"};
    uint32_t uid, gid;
    if (net_http_peer_cred(a->q, &uid, &gid)) {
        snprintf(a->who, sizeof a->who, "uid %u", uid);
        return API_ROLE_ADMIN; /* the socket's permissions let in root, the service and its group
                                  alone */
    }
    struct net_address peer;
    char text[NET_ADDRESS_TEXT] = "?";
    if (net_http_peer(a->q, &peer))
        (void)net_address_format_host(&peer, text);
    struct str header = net_http_header(a->q, "Authorization");
    enum api_role role = API_ROLE_NONE;
    if (str_has_prefix(header, STR("Bearer ")))
        role = role_of_token(a->api, str_view(header.p + 7, header.n - 7));
    snprintf(a->who, sizeof a->who, "%.20s at %.64s",
             header.n && role == API_ROLE_NONE ? "a wrong token" : name[role], text);
    return role;
}

static void tokens_free(struct api_token *token, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(token[i].text);
    mem_free(token);
}

void api_token_free(struct api *a)
{
    tokens_free(a->token, a->token_count);
}

static enum api_role role_named(struct str name)
{
    return str_eq(name, STR("admin"))     ? API_ROLE_ADMIN
           : str_eq(name, STR("operate")) ? API_ROLE_OPERATE
           : str_eq(name, STR("read"))    ? API_ROLE_READ
                                          : API_ROLE_NONE;
}

static int tokens_read(FILE *f, const char *file, struct api *into, char out_error[API_ERROR_MAX])
{
    char line[1024];
    for (unsigned number = 1; fgets(line, sizeof line, f); number++) {
        struct str rest = str_of(line), name;
        while (rest.n && (rest.p[rest.n - 1] == '\n' || rest.p[rest.n - 1] == ' '))
            rest.n--;
        if (rest.n == 0 || rest.p[0] == '#')
            continue;
        (void)str_next(&rest, ' ', &name);
        enum api_role role = role_named(name);
        if (role == API_ROLE_NONE || !rest.p || rest.n < TOKEN_LEN_MIN ||
            into->token_count == TOKENS_MAX) {
            snprintf(out_error, API_ERROR_MAX,
                     "%s:%u: needs ROLE TOKEN, the role read, operate or admin, the token at least "
                     "%d characters",
                     file, number, TOKEN_LEN_MIN);
            return -EINVAL;
        }
        into->token =
            mem_grow(into->token, &into->token_cap, into->token_count + 1, sizeof *into->token);
        into->token[into->token_count++] = (struct api_token){role, mem_dup(rest.p, rest.n)};
    }
    return 0;
}

/* fresh is empty and gets them. */
static int tokens_open(const char *file, struct api *fresh, char out_error[API_ERROR_MAX])
{
    FILE *f = fopen(file, "re");
    if (!f) {
        int r = -errno;
        snprintf(out_error, API_ERROR_MAX, "cannot read \"%s\": %s", file, strerrordesc_np(-r));
        return err_trace(r);
    }
    int r = tokens_read(f, file, fresh, out_error);
    fclose(f);
    if (r)
        tokens_free(fresh->token, fresh->token_count);
    return err_trace(r);
}

int api_tokens_check(const char *file, char out_error[API_ERROR_MAX])
{
    struct api fresh = {0};
    int r = tokens_open(file, &fresh, out_error);
    if (r == 0)
        tokens_free(fresh.token, fresh.token_count);
    return r;
}

int api_tokens_reload(struct api *a, char out_error[API_ERROR_MAX])
{
    struct api fresh = {0};
    if (!a->token_file)
        return 0;
    int r = tokens_open(a->token_file, &fresh, out_error);
    if (r)
        return r;
    tokens_free(a->token, a->token_count);
    a->token = fresh.token;
    a->token_count = fresh.token_count;
    a->token_cap = fresh.token_cap;
    return 0;
}
