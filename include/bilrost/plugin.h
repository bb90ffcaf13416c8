/* What a plugin of the Bilrost MQTT broker is built against.  SPDX-License-Identifier: Apache-2.0
 *
 * A plugin is one shared object that exports one constant, `bilrost_plugin`.  It says who may
 * connect, gives clients rules of their own, and hears of events.  It is built with
 *
 *     cc -shared -fPIC $(pkg-config --cflags bilrost) -o door.so door.c
 *
 * and named in the configuration: plugins = ["/usr/lib/bilrost/plugins/door.so=SETTINGS"]; the
 * listeners that shall ask it have auth = ["plugin"].
 *
 * The interface has one number, BILROST_PLUGIN_ABI.  A broker takes plugins of its own number only
 * and says so in one sentence at its start, in --test-config and before a package upgrade.
 *
 * Threads: open and close are called from the thread that starts and ends the broker; authenticate
 * and event from any of the event loops, several at the same time.  What they do delays all clients
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

#define BILROST_PLUGIN_ABI 1
#define BILROST_PLUGIN_ERROR_MAX 256

/* Not ended by a zero byte.  p == NULL: not given. */
struct bilrost_bytes {
    const char *p;
    size_t n;
};

/* A client that wants in.  All of it is good until its ask is answered. */
struct bilrost_client {
    struct bilrost_bytes tenant;      /* of the listener it came to */
    struct bilrost_bytes client_id;   /* empty: the broker will make one */
    struct bilrost_bytes user;        /* as in CONNECT */
    struct bilrost_bytes password;    /* as in CONNECT; any bytes */
    struct bilrost_bytes certificate; /* the name in its checked certificate */
    struct bilrost_bytes address;     /* "192.0.2.7:50123" */
};

enum bilrost_answer {
    BILROST_LET_IN = 0,
    BILROST_BAD_PASSWORD = 1,   /* 5.0: reason 0x86 */
    BILROST_NOT_AUTHORIZED = 2, /* 5.0: reason 0x87 */
    BILROST_NOT_MINE = 3,       /* the next plugin is asked, then the listener's other methods */
    BILROST_UNAVAILABLE = 4, /* it cannot be said now; 5.0: reason 0x88, the client may try again */
};

/* The answer.  user and rules are copied before the call returns. */
struct bilrost_verdict {
    enum bilrost_answer answer;
    struct bilrost_bytes user;  /* LET_IN: who it is; p == NULL: who it said it is */
    struct bilrost_bytes rules; /* LET_IN: what this client may do while it is connected, in the
                                   syntax of the ACL file, best with `pattern` lines; p == NULL:
                                   the ACL files say it.  Rules that cannot be read: UNAVAILABLE */
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
    uint32_t abi;            /* BILROST_PLUGIN_ABI of the broker */
    const char *version;     /* of the broker, for people */
    const void *reserved[2]; /* NULL */

    /* Exactly once for each ask, within authenticate or later.  After 30 s the client has been told
     * that nobody could say it; the answer is still wanted, and dropped. */
    void (*answer)(struct bilrost_ask *ask, const struct bilrost_verdict *verdict);

    /* A line in the broker's log. */
    void (*log)(const struct bilrost_host *host, enum bilrost_level level, const char *sentence);
};

/* Something that happened; good until event returns. */
struct bilrost_event {
    const char *name; /* "CLIENT_CONNECTED", as in the journal */
    enum bilrost_level level;
    struct bilrost_bytes tenant, client_id, user, address; /* empty: not known */
    struct bilrost_bytes text;                             /* what is special here */
};

struct bilrost_plugin {
    uint32_t abi;     /* BILROST_PLUGIN_ABI */
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
};

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const struct bilrost_plugin bilrost_plugin;

#ifdef __cplusplus
}
#endif
#endif
