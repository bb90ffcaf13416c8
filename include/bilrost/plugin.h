/* What a plugin of the Bilrost MQTT broker is built against.  SPDX-License-Identifier: Apache-2.0
 *
 * A plugin is one shared object that exports one constant, `bilrost_plugin`.  It says who may
 * connect, by name and password or by steps of its own, gives clients rules of their own, and hears
 * of events.  It is built with
 *
 *     cc -shared -fPIC $(pkg-config --cflags bilrost) -o door.so door.c
 *
 * and named in the configuration: plugins = ["/usr/lib/bilrost/plugins/door.so=SETTINGS"]; the
 * listeners that shall ask it have auth = ["plugin"].
 *
 * The interface has one number, BILROST_PLUGIN_ABI.  A broker takes plugins of its own number and of
 * the older ones since BILROST_PLUGIN_ABI_MIN, and refuses others in one sentence at its start, in
 * --test-config and before a package upgrade.  2: step, reply and BILROST_CONTINUE.
 *
 * Threads: open and close are called from the thread that starts and ends the broker; authenticate,
 * step and event from any of the event loops, several at the same time.  What they do delays all clients
 * of that loop, so they never wait: what takes time goes to a thread of the plugin.  Plugins are in
 * the same process and the same sandbox (systemd unit) as the broker: no file outside its
 * directories can be written, no program started, and a crash of the plugin is one of the broker.
 */
#ifndef BILROST_PLUGIN_H
#define BILROST_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BILROST_PLUGIN_ABI 2
#define BILROST_PLUGIN_ABI_MIN 1
#define BILROST_PLUGIN_ERROR_MAX 256
#define BILROST_PLUGIN_DATA_MAX 65535

/* Not ended by a zero byte.  p == NULL: not given. */
struct bilrost_bytes {
    const char *p;
    size_t n;
};

/* A client that wants in.  All of it is good until its ask is answered. */
struct bilrost_client {
    struct bilrost_bytes tenant;      /* of the listener it came to */
    struct bilrost_bytes client_id;   /* empty: the broker will make one */
    struct bilrost_bytes user;        /* as in CONNECT; step is_again: who it is */
    struct bilrost_bytes password;    /* as in CONNECT; any bytes; step is_again: none */
    struct bilrost_bytes certificate; /* the name in its checked certificate */
    struct bilrost_bytes address;     /* "192.0.2.7:50123" */
};

/* What a client says in enhanced authentication (MQTT 5.0, 4.12).  Good until its ask is answered.
 */
struct bilrost_step {
    struct bilrost_bytes method; /* Authentication Method, the same in all steps; never empty */
    struct bilrost_bytes data;   /* Authentication Data; any bytes */
    struct bilrost_bytes state;  /* what the plugin said of the step before; p == NULL: the first */
    int is_again;                /* 1: it is connected, and shows anew who it is */
};

enum bilrost_answer {
    BILROST_LET_IN = 0,
    BILROST_BAD_PASSWORD = 1,   /* 5.0: reason 0x86 */
    BILROST_NOT_AUTHORIZED = 2, /* 5.0: reason 0x87 */
    BILROST_NOT_MINE = 3,       /* the next plugin is asked, then the listener's other methods;
                                   of a first step: nobody knows the method, reason 0x8C */
    BILROST_UNAVAILABLE = 4, /* it cannot be said now; 5.0: reason 0x88, the client may try again */
    BILROST_CONTINUE = 5,    /* of a step: the client is to say more */
};

/* The answer.  user and rules are copied before the call returns. */
struct bilrost_verdict {
    enum bilrost_answer answer;
    struct bilrost_bytes user;  /* LET_IN: who it is; p == NULL: who it said it is */
    struct bilrost_bytes rules; /* LET_IN: what this client may do while it is connected, in the
                                   syntax of the ACL file, best with `pattern` lines; p == NULL:
                                   the ACL files say it, or, when it is_again, as before.  Rules
                                   that cannot be read: UNAVAILABLE */
};

/* The answer to a step.  All of it is copied before the call returns. */
struct bilrost_reply {
    struct bilrost_verdict verdict;
    struct bilrost_bytes data;  /* CONTINUE, LET_IN: Authentication Data for the client, at most
                                   BILROST_PLUGIN_DATA_MAX bytes; p == NULL: none */
    struct bilrost_bytes state; /* CONTINUE: what the next step shall bring back.  The broker keeps
                                   it, and drops it with a client that goes away */
};

/* One question; the broker's. */
struct bilrost_ask;

/* syslog(3)'s numbers. */
enum bilrost_level {
    BILROST_ERROR = 3,
    BILROST_WARNING = 4,
    BILROST_NOTICE = 5,
    BILROST_INFO = 6,
    BILROST_DEBUG = 7,
};

/* What the plugin may call, from any thread, from the beginning of open to the end of close. */
struct bilrost_host {
    uint32_t abi;            /* the plugin's own number: how the broker speaks with it */
    const char *version;     /* of the broker, for people */
    const void *reserved[2]; /* NULL */

    /* Or reply: exactly once for each ask, within authenticate or step or later.  After 30 s the client has been told
     * that nobody could say it; the answer is still wanted, and dropped. */
    void (*answer)(struct bilrost_ask *ask, const struct bilrost_verdict *verdict);

    /* A line in the broker's log. */
    void (*log)(const struct bilrost_host *host, enum bilrost_level level, const char *sentence);

    /* Since 2.  Instead of answer, for an ask of step. */
    void (*reply)(struct bilrost_ask *ask, const struct bilrost_reply *reply);
};

/* Something that happened; good until event returns. */
struct bilrost_event {
    const char *name; /* "CLIENT_CONNECTED", as in the journal */
    enum bilrost_level level;
    struct bilrost_bytes tenant, client_id, user, address; /* empty: not known */
    struct bilrost_bytes text;                             /* what is special here */
};

struct bilrost_plugin {
    uint32_t abi;     /* BILROST_PLUGIN_ABI it was built with */
    uint32_t size;    /* sizeof(struct bilrost_plugin) */
    const char *name; /* for people: "door" */

    /* Are these settings good?  Asked by --test-config too, so it starts nothing and keeps nothing.
     * 0, or one plain sentence in error.  NULL: all are. */
    int (*check)(const char *settings, char error[BILROST_PLUGIN_ERROR_MAX]);

    /* settings: what stands behind "=" in the configuration, "" if nothing does.  0 and whatever
     * the other calls shall get as self, or one plain sentence in error: the broker does not start.
     * host lives until close returns. */
    int (*open)(const struct bilrost_host *host, const char *settings,
                char error[BILROST_PLUGIN_ERROR_MAX], void **out_self);

    /* Everything has been answered, and no thread of the plugin is left, when this returns. */
    void (*close)(void *self);

    /* NULL: it lets nobody in and is not asked. */
    void (*authenticate)(void *self, const struct bilrost_client *client, struct bilrost_ask *ask);

    /* NULL: it is not told. */
    void (*event)(void *self, const struct bilrost_event *event);

    /* Since 2.  NULL: it knows no method of enhanced authentication.  A first step goes from plugin
     * to plugin; the next ones go to the plugin that said CONTINUE. */
    void (*step)(void *self, const struct bilrost_client *client, const struct bilrost_step *step,
                 struct bilrost_ask *ask);
};

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const struct bilrost_plugin bilrost_plugin;

#ifdef __cplusplus
}
#endif
#endif
