/* Clients over TCP of the broker with two loops.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/clients.h"

#include <sys/socket.h>
#include <unistd.h>

static int fd[CLIENTS_MAX];
static unsigned count;

struct broker_conn *clients_conn[CLIENTS_MAX];

void clients_setup(unsigned inbox_size)
{
    two_setup(inbox_size);
    char error[NET_LISTENER_ERROR_MAX];
    struct broker_listen_conf conf = {.name = "tcp",
                                      .net = {.address = "127.0.0.1:0"},
                                      .auth = {.methods = BROKER_AUTH_ANONYMOUS}};
    ck_assert_int_eq(broker_listen(two_broker, &conf, error), 0);
    count = 0;
}

void clients_teardown(void)
{
    for (unsigned i = 0; i < count; i++)
        close(fd[i]);
    TWO_UNTIL(list_empty(&two_broker->loop[0].conns) && list_empty(&two_broker->loop[1].conns));
    two_teardown();
}

static struct broker_conn *conn_of(unsigned id)
{
    char name[] = {(char)('0' + id), 0};
    for (unsigned i = 0; i < 2; i++)
        list_each(&two_broker->loop[i].conns, it)
        {
            struct broker_conn *c = container_of(it, struct broker_conn, link);
            if (c->is_open && str_eq(session_client_id(c->session), str_of(name)))
                return c;
        }
    return NULL;
}

void clients_say(unsigned id, const void *bytes, size_t n)
{
    ck_assert_int_eq(send(fd[id], bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

int clients_socket(int rcvbuf)
{
    const struct net_address *a = broker_listen_address(two_broker, 0);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(s, 0);
    if (rcvbuf)
        ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf), 0);
    ck_assert_int_eq(connect(s, &a->sa, sizeof a->v4), 0);
    return s;
}

unsigned clients_new(int rcvbuf)
{
    unsigned id = count++;
    ck_assert_uint_lt(id, CLIENTS_MAX);
    fd[id] = clients_socket(rcvbuf);
    char hello[] = "\x10\x0d\0\4MQTT\4\2\0\0\0\1?";
    hello[14] = (char)('0' + id);
    clients_say(id, hello, 15);
    TWO_UNTIL((clients_conn[id] = conn_of(id)) != NULL);
    return id;
}

unsigned clients_on(const struct broker_conn *like, bool is_same, int rcvbuf)
{
    unsigned id;
    do
        id = clients_new(rcvbuf);
    while ((clients_conn[id]->loop == like->loop) != is_same);
    return id;
}

void clients_subscribe(unsigned id, char topic, unsigned qos)
{
    const uint8_t p[] = {0x82, 6, 0, 1, 0, 1, (uint8_t)topic, (uint8_t)qos};
    clients_say(id, p, sizeof p);
    TWO_UNTIL(clients_conn[id]->sub_count == 1);
}

void clients_leave(unsigned id)
{
    ck_assert_int_eq(shutdown(fd[id], SHUT_WR), 0);
}
