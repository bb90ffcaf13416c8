/* Wills of the crowd: who has one, how it ends, and how often its will may be seen.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Included by crowd.h, whose types it uses. */
#pragma once

#define WILL_NOTICED_SEC 12 /* keep alive, and a node that is taken for dead */

static uint32_t life_new(struct crowd *c, const struct life *l)
{
    c->life = mem_grow(c->life, &c->life_cap, c->life_count + 1, sizeof *c->life);
    c->life[c->life_count] = *l;
    return (uint32_t)c->life_count++;
}

static void life_begins(struct crowd *c, struct device *d, unsigned node)
{
    static const uint32_t delay[] = {0, 0, 1, 3, 5}, expiry[] = {0, 0, 2, 30};
    struct life l = {.opened = c->world->now,
                     .delay_sec = delay[rng_below(&c->rng, countof(delay))],
                     .expiry_sec = expiry[rng_below(&c->rng, countof(expiry))],
                     .is_clean = rng_chance(&c->rng, 300000)};
    uint32_t id = life_new(c, &l);
    if (c->living[d->index])
        c->life[c->living[d->index]].next = id;
    c->living[d->index] = id;
    d->is_clean = l.is_clean;
    d->expiry_sec = l.expiry_sec;
    snprintf(d->will.topic, sizeof d->will.topic, "will/%u", d->index);
    d->will.id = id;
    d->will.delay_sec = l.delay_sec;
    device_connect(d, node);
}

static void life_confirmed(struct crowd *c, struct device *d)
{
    c->life[c->living[d->index]].confirmed = c->world->now;
}

static void life_ends(struct crowd *c, struct device *d, enum ending how)
{
    struct life *l = &c->life[c->living[d->index]];
    if (l->ended)
        return;
    l->ended = c->world->now;
    l->alive = d->alive_at;
    l->ending = how;
}

static void life_lost(struct crowd *c, struct device *d)
{
    life_ends(c, d, ENDING_NONE);
}

static void mortal_acts(struct crowd *c, struct device *d, unsigned node)
{
    size_t i = device_place(d);
    enum ending how = 1 + (enum ending)rng_below(&c->rng, ENDING_COUNT - 1);
    if (!device_is_on(d))
        return;
    life_ends(c, d, how);
    switch (how) {
    case ENDING_BREAK:
        device_break(d);
        break;
    case ENDING_MUTE:
        device_mute(d);
        c->act_at[i] = USEC_NEVER; /* until the broker has had enough */
        return;
    case ENDING_LEAVE:
    case ENDING_LEAVE_WITH_WILL:
        device_leave(d, how == ENDING_LEAVE ? 0 : 0x04);
        break;
    case ENDING_TAKEOVER:
        life_begins(c, d, node);
        return;
    case ENDING_NONE:
    case ENDING_COUNT:
    default:
        break;
    }
    c->retry_at[i] = c->world->now +
                     rng_below(&c->rng, rng_chance(&c->rng, 500000) ? 2 * USEC_SEC : 20 * USEC_SEC);
}

/* Seconds that the will of this life waits when it ends without DISCONNECT 0x00. */
static uint32_t life_delay_sec(const struct life *l)
{
    return l->delay_sec < l->expiry_sec ? l->delay_sec : l->expiry_sec;
}

static void will_got(struct crowd *c, const struct device *d, uint32_t id)
{
    if (id == 0 || id >= c->life_count) {
        fail(c->world, "a will that nobody made");
        return;
    }
    struct life *l = &c->life[id];
    c->wills++;
    if (++l->got[d->index] > 1)
        fail(c->world, "a will was sent twice");
    if (is_calm(c) && l->ended && l->opened >= (c->is_tame ? 0 : c->calm_from) && !l->next &&
        c->world->now < l->alive + life_delay_sec(l) * USEC_SEC)
        fail(c->world, "a will was sent before its delay was over");
}

/* How often the will of this life must have been seen, at least and at most. */
static void life_bounds(const struct crowd *c, const struct life *l, unsigned *out_min,
                        unsigned *out_max)
{
    bool is_strict = c->is_tame || l->opened >= c->calm_from;
    usec_t delay = life_delay_sec(l) * USEC_SEC;
    const struct life *next = l->next ? &c->life[l->next] : NULL;
    bool may_resume = false;
    *out_min = 0;
    *out_max = 1;
    if (!l->confirmed || !l->ended)
        return;
    if (l->ending == ENDING_LEAVE) {
        *out_max = is_strict && !c->is_tame ? 0 : 1; /* DISCONNECT may have been cut off */
        return;
    }
    for (const struct life *n = next; n; n = n->next ? &c->life[n->next] : NULL) {
        may_resume = may_resume || !n->is_clean;
        if (n->confirmed)
            break;
    }
    if (!may_resume || delay == 0 ||
        (is_strict && next->opened > l->ended + delay + WILL_NOTICED_SEC * USEC_SEC))
        *out_min = 1;
    else if (is_strict && next->confirmed && !next->is_clean && next->confirmed < l->alive + delay)
        *out_max = 0;
}

static void wills_judge(struct crowd *c)
{
    for (size_t i = 1; i < c->life_count && !c->world->failed; i++) {
        const struct life *l = &c->life[i];
        unsigned min, max;
        life_bounds(c, l, &min, &max);
        bool is_bad = false;
        for (unsigned k = 0; k < WATCHERS; k++)
            is_bad = is_bad || l->got[k] < min || l->got[k] > max || l->got[k] != l->got[0];
        if (!is_bad)
            continue;
        if (!c->world->canary)
            printf("will %zu: opened %.3f confirmed %.3f alive %.3f ended %.3f as %d delay %u "
                   "expiry %u clean %d next %u seen %u and %u, must be %u to %u\n",
                   i, (double)l->opened / 1e6, (double)l->confirmed / 1e6, (double)l->alive / 1e6,
                   (double)l->ended / 1e6, (int)l->ending, l->delay_sec, l->expiry_sec, l->is_clean,
                   l->next, l->got[0], l->got[1], min, max);
        fail(c->world, l->got[0] < min   ? "a will was not sent"
                       : l->got[0] > max ? "a will was sent though it was not due"
                                         : "a will reached one of two who wait for it");
    }
}
