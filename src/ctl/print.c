/* JSON as lines.  SPDX-License-Identifier: Apache-2.0
 *
 * It rearranges what a JSON writer wrote and checks nothing: odd input gives odd lines, no more.
 *
 * Never: reads past its input. */
#include "ctl/print.h"

struct printer {
    struct buf *out;
    unsigned depth;
    bool is_fresh; /* nothing on this line yet */
};

static void line_end(struct printer *p)
{
    if (!p->is_fresh)
        buf_put_u8(p->out, '\n');
    p->is_fresh = true;
}

static void put(struct printer *p, uint8_t c)
{
    for (unsigned i = 0; p->is_fresh && i + 1 < p->depth; i++)
        buf_put_str(p->out, STR("  "));
    p->is_fresh = false;
    buf_put_u8(p->out, c);
}

/* A text from its opening quote on; returns where its closing one is. */
static size_t put_text(struct printer *p, struct str json, size_t at)
{
    for (at++; at < json.n && json.p[at] != '"'; at++) {
        if (json.p[at] == '\\' && at + 1 < json.n)
            at++;
        put(p, (uint8_t)json.p[at]);
    }
    if (p->is_fresh)
        put(p, '-'); /* empty */
    return at;
}

void ctl_print_json(struct str json, struct buf *out)
{
    struct printer p = {.out = out, .is_fresh = true};
    if (json.n == 0 || (json.p[0] != '{' && json.p[0] != '[')) {
        buf_put_str(out, json);
        if (json.n && json.p[json.n - 1] != '\n')
            buf_put_u8(out, '\n');
        return;
    }
    for (size_t i = 0; i < json.n; i++) {
        switch (json.p[i]) {
        case '{':
        case '[':
            line_end(&p);
            p.depth++;
            break;
        case '}':
        case ']':
            line_end(&p);
            p.depth -= p.depth > 0;
            break;
        case ',':
            line_end(&p);
            break;
        case ':':
            put(&p, ':');
            put(&p, ' ');
            break;
        case '"':
            i = put_text(&p, json, i);
            break;
        default:
            if ((uint8_t)json.p[i] > ' ')
                put(&p, (uint8_t)json.p[i]);
        }
    }
    line_end(&p);
}
