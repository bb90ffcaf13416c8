/* Who leads: pre-vote, vote, stepping down, handing over.  SPDX-License-Identifier: Apache-2.0
 *
 *   follower     -> precandidate  raft_campaign: silence for election_usec and a random part
 *   (Raft thesis 9.6)
 *   precandidate -> candidate     stand: a quorum would vote for us; term and own vote go to disk
 *   candidate    -> leader        lead: a quorum did, our own vote counted once durable
 *   follower     -> candidate     raft_recv_timeout_now: the leader asked for it, no pre-vote
 *   any          -> follower      raft_become_follower: a higher term, a leader of this term, a
 *   lost election,
 *                                 or a leader that no quorum answered for election_usec
 *
 * 1  A vote or pre-vote is never given within election_usec of the last word of a leader,
 * unless that leader asked for the
 *    election with its current epoch; nor within election_usec of a restart, because we forgot
 *    that word. 2  A vote, our own too, is durable before anybody learns of it. 3  One who is
 *    no voter of its configuration never stands, but answers those who do: its configuration
 *    may be old. */
#include "raft/raft_priv.h"

#define ASK_MAX 4 /* then the next election is near */

void raft_election_arm(struct raft *r)
{
    usec_t e = r->conf->election_usec;
    r->election_at = r->now + e + rng_below(&r->rng, e);
}

bool raft_is_promotable(const struct raft *r)
{
    if (r->is_removed || r->installing != 0)
        return false;
    /* A change that takes our vote away counts when it is committed: until then it may be that
     * only we have it, and that nobody else can be elected. */
    for (size_t i = 0; i < r->config_count; i++)
        if (raft_config_is_voter(r->config[i].config, r->id))
            return true;
    return false;
}

bool raft_in_lease(const struct raft *r)
{
    if (r->role == RAFT_LEADER || r->is_quiet)
        return true;
    return r->contact != 0 && r->now < r->contact + r->conf->election_usec;
}

static void set_role(struct raft *r, struct raft_out *out, enum raft_role role, uint64_t leader)
{
    if (r->role != role || r->leader != leader)
        out->changed |= RAFT_CH_ROLE;
    r->role = role;
    r->leader = leader;
}

static void set_term(struct raft *r, struct raft_out *out, uint64_t term, uint64_t vote)
{
    must(term > r->hard.term);
    r->hard.term = term;
    r->hard.vote = vote;
    raft_hard_changed(r, out);
    raft_held_drop(r, out);
    out->changed |= RAFT_CH_ROLE;
}

void raft_become_follower(struct raft *r, struct raft_out *out, uint64_t term, uint64_t leader)
{
    bool was_leader = r->role == RAFT_LEADER;
    if (term > r->hard.term)
        set_term(r, out, term, 0);
    if (was_leader)
        raft_transfer_end(r, out);
    set_role(r, out, RAFT_FOLLOWER, leader);
    if (leader == 0)
        raft_wake(r, out); /* nobody would */
    if (!was_leader)
        return;
    raft_read_fail(r, out, RAFT_E_NOT_LEADER);
    r->contact = 0;
    r->uncommitted_bytes = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        raft_peer_probe(&r->peer[i], r->peer[i].match + 1);
        raft_peer_flight_free(&r->peer[i]);
    }
    raft_election_arm(r);
}

static void lead(struct raft *r, struct raft_out *out)
{
    set_role(r, out, RAFT_LEADER, r->id);
    r->contact = 0;
    r->round = 0;
    r->epoch = 1;
    r->epoch_term = r->hard.term;
    r->epoch_since = 0;
    r->uncommitted_bytes = 0;
    r->transfer = 0;
    r->busy_at = r->now;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peer[i];
        p->match = p->commit_sent = p->round_acked = p->stamp_acked = 0;
        p->contact = r->now;
        p->is_fetching = false;
        raft_peer_probe(p, r->log.last + 1);
    }
    r->term_start = r->log.last + 1;
    raft_read_adopt(r);
    raft_append_own(r, out, RAFT_ENTRY_NOOP, str_view("", 0));
    raft_beat_round(r, out, false);
}

/* Asks the voters that have not answered, and plans to ask again, less and less often. */
static void ask(struct raft *r, struct raft_out *out)
{
    const struct raft_config *c = raft_config_get(r);
    bool is_pre = r->role == RAFT_PRECANDIDATE;
    r->ask_at = r->now + (r->conf->heartbeat_usec << r->asked_count++);
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peer[i].vote != 0 || !raft_config_is_voter(c, r->peer[i].id))
            continue;
        struct raft_message m = {
            .to = r->peer[i].id,
            .type = is_pre ? RAFT_MSG_PREVOTE : RAFT_MSG_VOTE,
            .term = r->hard.term + is_pre,
            .index = r->log.last,
            .log_term = raft_log_term(&r->log, r->log.last),
            .epoch = is_pre ? 0 : r->asked_epoch,
        };
        raft_send(r, out, m, RAFT_NEEDS_HARD);
    }
}

bool raft_is_asking(const struct raft *r)
{
    return (r->role == RAFT_PRECANDIDATE || r->role == RAFT_CANDIDATE) && r->asked_count < ASK_MAX;
}

void raft_ask_again(struct raft *r, struct raft_out *out)
{
    if (r->now < r->ask_at || !raft_is_asking(r))
        return;
    if (r->seq_durable >= r->hard_seq)
        ask(r, out);
    else
        r->ask_at = r->now + r->conf->heartbeat_usec; /* the first question is not out yet */
}

static void forget_votes(struct raft *r)
{
    r->own_vote = 0;
    r->asked_count = 0;
    for (size_t i = 0; i < r->peer_count; i++)
        r->peer[i].vote = 0;
}

static void stand(struct raft *r, struct raft_out *out, uint64_t epoch)
{
    set_term(r, out, r->hard.term + 1, r->id);
    set_role(r, out, RAFT_CANDIDATE, 0);
    forget_votes(r); /* our own counts when it is durable: raft_own_vote_durable */
    raft_election_arm(r);
    r->asked_epoch = epoch;
    ask(r, out);
}

static void count_votes(struct raft *r, struct raft_out *out)
{
    enum raft_tally t = raft_votes(r);
    if (t == RAFT_TALLY_LOST)
        set_role(r, out, RAFT_FOLLOWER, 0); /* until the timer runs out again */
    else if (t == RAFT_TALLY_WON && r->role == RAFT_PRECANDIDATE)
        stand(r, out, 0);
    else if (t == RAFT_TALLY_WON)
        lead(r, out);
}

void raft_campaign(struct raft *r, struct raft_out *out, uint64_t epoch)
{
    raft_election_arm(r);
    if (r->role == RAFT_LEADER || !raft_is_promotable(r))
        return;
    raft_wake(r, out);
    if (epoch != 0) {
        stand(r, out, epoch);
        return;
    }
    set_role(r, out, RAFT_PRECANDIDATE, 0);
    forget_votes(r);
    r->own_vote = 1;
    ask(r, out);
    count_votes(r, out);
}

void raft_own_vote_durable(struct raft *r, struct raft_out *out)
{
    if (r->role != RAFT_CANDIDATE || r->own_vote != 0 || r->seq_durable < r->hard_seq)
        return;
    r->own_vote = 1;
    count_votes(r, out);
}

/* Raft 5.4.1 */
static bool is_up_to_date(const struct raft *r, const struct raft_message *m)
{
    uint64_t term = raft_log_term(&r->log, r->log.last);
    return m->log_term > term || (m->log_term == term && m->index >= r->log.last);
}

void raft_recv_prevote(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    bool in_lease = raft_in_lease(r);
    if (r->is_quiet) {
        in_lease = m->from != r->leader; /* a leader that asks was restarted */
        raft_wake(r, out);
    }
    bool granted = m->term > r->hard.term && !in_lease && is_up_to_date(r, m);
    struct raft_message reply = {
        .to = m->from,
        .type = RAFT_MSG_PREVOTE_REPLY,
        .term = granted ? m->term : r->hard.term,
        .is_refused = !granted,
    };
    if (reply.term == 0)
        return; /* we have no term yet, and it asks for none */
    raft_send(r, out, reply, RAFT_NEEDS_HARD);
}

/* Did the leader that we last heard of ask for this election, and not give it up since? */
static bool is_asked(const struct raft *r, const struct raft_message *m)
{
    if (m->epoch == 0 || (r->born != 0 && r->now < r->born + r->conf->election_usec))
        return false;
    return m->term != r->epoch_term + 1 || m->epoch >= r->epoch;
}

void raft_recv_vote(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    bool is_again = m->term == r->hard.term && m->from == r->hard.vote;
    if (m->term >= r->hard.term && !is_again && raft_in_lease(r) && !is_asked(r, m))
        return;
    if (m->term > r->hard.term) {
        raft_become_follower(r, out, m->term, 0);
        raft_wake(r, out);
    }
    bool granted = m->term == r->hard.term && is_up_to_date(r, m) &&
                   (r->hard.vote == m->from || (r->hard.vote == 0 && r->leader == 0));
    if (granted && r->hard.vote == 0) {
        r->hard.vote = m->from;
        raft_hard_changed(r, out);
    }
    if (granted)
        raft_election_arm(r);
    struct raft_message reply = {
        .to = m->from, .type = RAFT_MSG_VOTE_REPLY, .is_refused = !granted};
    raft_send(r, out, reply, RAFT_NEEDS_HARD);
}

void raft_recv_vote_reply(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    bool is_pre = m->type == RAFT_MSG_PREVOTE_REPLY;
    struct raft_peer *p = raft_peer_find(r, m->from);
    if (p == NULL || r->role != (is_pre ? RAFT_PRECANDIDATE : RAFT_CANDIDATE))
        return;
    if (is_pre ? !m->is_refused && m->term != r->hard.term + 1 : m->term != r->hard.term)
        return;
    if (p->vote == 0)
        p->vote = m->is_refused ? -1 : 1;
    count_votes(r, out);
}

void raft_recv_timeout_now(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    bool is_over = r->epoch_term == m->term && m->epoch < r->epoch; /* given up since */
    if (m->term == r->hard.term && m->from == r->leader && r->role == RAFT_FOLLOWER && !is_over)
        raft_campaign(r, out, m->epoch);
}

void raft_transfer(struct raft *r, struct raft_out *out, uint64_t peer)
{
    if (r->role != RAFT_LEADER) {
        out->outcome = RAFT_E_NOT_LEADER;
    } else if (r->transfer != 0) {
        out->outcome = RAFT_E_TRANSFER;
    } else if (peer == r->id || raft_peer_find(r, peer) == NULL ||
               !raft_config_is_voter(raft_config_get(r), peer)) {
        out->outcome = RAFT_E_INVALID;
    } else if (r->log.commit < r->term_start || raft_config_get(r)->is_joint) {
        out->outcome = RAFT_E_PENDING;
    } else {
        raft_wake(r, out);
        r->transfer = peer; /* no lease from here on: raft_has_lease */
        r->transfer_sent = false;
        r->transfer_until = r->now + r->conf->election_usec;
        raft_transfer_push(r, out);
    }
}

void raft_transfer_push(struct raft *r, struct raft_out *out)
{
    struct raft_peer *p = r->transfer != 0 ? raft_peer_find(r, r->transfer) : NULL;
    if (p == NULL || r->transfer_sent || p->match != r->log.last)
        return;
    struct raft_message m = {.to = p->id, .type = RAFT_MSG_TIMEOUT_NOW, .epoch = r->epoch};
    raft_send(r, out, m, RAFT_NEEDS_NOTHING);
    r->transfer_sent = true;
}

void raft_transfer_end(struct raft *r, struct raft_out *out)
{
    if (r->transfer == 0)
        return;
    /* a late TIMEOUT_NOW may still be on its way: votes of its epoch must not break a new lease */
    if (r->transfer_sent) {
        r->epoch++;
        r->epoch_since = r->now + 1;
        for (size_t i = 0; i < r->peer_count; i++)
            r->peer[i].stamp_acked = 0;
    }
    r->transfer = 0;
    out->changed |= RAFT_CH_TRANSFER;
}
