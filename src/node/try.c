/* Would this configuration serve?  SPDX-License-Identifier: Apache-2.0
 *
 * Opens what a start reads, and closes it again: certificates, password and ACL files, plugins,
 * tokens, the keys of the cluster, and the format of the data directory.
 *
 * Never: writes, locks or listens; so it may be asked while a node runs on the same files. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/dir.h"
#include "node/node_priv.h"

static int data_try(const struct node_conf *c, char error[NODE_ERROR_MAX])
{
    struct uuid uuid;
    struct buf why = {0};
    if (!c->data_dir[0])
        return 0;
    int r = engine_dir_whose(engine_fs_posix(), c->data_dir, &uuid, &why);
    /* Not there, or not for whoever asks: a start makes it, or says so itself. */
    bool is_fine = r == 0 || r == -ENOENT || r == -EACCES;
    if (!is_fine)
        snprintf(error, NODE_ERROR_MAX, "data_dir \"%s\": %.*s", c->data_dir,
                 why.n ? (int)why.n : 64, why.n ? (const char *)why.p : strerrordesc_np(-r));
    buf_deinit(&why);
    return is_fine ? 0 : r > 0 ? NODE_E_DATA : node_outcome_of(r);
}

int node_try(struct node_conf *c, char error[NODE_ERROR_MAX])
{
    struct node n = {.conf = c};
    struct broker_plugins *plugins =
        broker_plugins_new(&(struct broker_plugins_conf){.version = ""});
    int r = node_tls_open(&n, error);
    if (r == 0)
        r = node_plugins_open(c, plugins, true, error);
    if (r == 0)
        r = node_auth_open(&n, c, error, &n.auth);
    if (r == 0)
        r = node_admin_try(c, error);
    if (r == 0)
        r = node_cluster_try(c, error);
    if (r == 0)
        r = data_try(c, error);
    node_tls_close(&n);
    broker_auth_files_unref(n.auth);
    broker_plugins_free(plugins);
    return r;
}
