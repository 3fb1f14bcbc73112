//! hearing — what a conversation says, what the verdict makes of it, and what is done about it.
//!
//! The protocol only reports, `smtp::verdict` judges, and here the judgement becomes a record, a
//! pause of the lane, or another place in the queue.

use std::time::Duration;

use super::conversation::Heard;
use super::store::Item;
use super::{Delivery, OnDoubt};
use crate::outcome::{Class, Kind, Outcome, Session as SessionFacts, Stage, clipped};
use crate::ring::{ConnId, Ring};
use crate::smtp::reply::Reply;
use crate::smtp::session::{End, Event, Tag};
use crate::smtp::verdict::{Action, Failure, Scope, Verdict, judge, judge_failure};
use crate::spool::handover::Again;
use crate::units::Utc;

/// How often a message may come back from a connection unattempted before that counts as an
/// attempt: a receiver that closes before every message would otherwise be asked for ever.
const RELEASES_MAX: u8 = 3;

/// Why a message has this outcome: a verdict, and the words for the record.
struct Finding<'a> {
    verdict: Verdict,
    stage: Stage,
    reply: Option<&'a Reply>,
    words: &'a str,
}

impl<R: Ring> Delivery<'_, R> {
    /// Works off everything that a conversation has to say.
    pub(super) fn hear(&mut self, conn: ConnId) {
        while let Some(heard) = self.conversation(conn).and_then(|known| known.hear()) {
            match heard {
                Heard::Unconnected(failure) => {
                    self.unreached(conn, &End::Failed(Stage::Connect, failure));
                    self.closed(conn);
                }
                Heard::Said(event) => self.said(conn, event),
            }
        }
        if self.conversation(conn).is_some() {
            self.find_work(conn);
        }
    }

    fn greeted(&mut self, conn: ConnId) {
        if let Some(conversation) = self.conversation(conn) {
            conversation.greeted = true;
            self.greeted += 1;
        }
    }

    /// A connection came to nothing before any message was bound to it. While others carry
    /// messages, that tells how many the receiver wants; if none does, the receiver cannot be
    /// reached, and the message that would have been the next, given back here, is charged with the
    /// attempt.
    fn charged(&mut self) -> Option<Tag> {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        if self.carrying > 0 {
            self.lane.narrow(self.carrying, now);
            return None;
        }
        if !self.lane.trouble(now) || self.stopping {
            return None;
        }
        let tag = self.store.take_first_ready()?;
        self.store.item(tag).begin(now, utc);
        Some(tag)
    }

    fn unreached(&mut self, conn: ConnId, end: &End) {
        let Some(tag) = self.charged() else { return };
        match end {
            End::Refused(Stage::Quit, reply) => self.replied(conn, tag, Stage::Ehlo, reply),
            End::Refused(stage, reply) => self.replied(conn, tag, *stage, reply),
            End::Failed(Stage::Quit, failure) => self.failed(conn, tag, Stage::Ehlo, *failure),
            End::Failed(stage, failure) => self.failed(conn, tag, *stage, *failure),
            End::Finished => self.failed(conn, tag, Stage::Banner, Failure::ClosedByPeer),
        }
    }

    /// Not even a socket could be had.
    pub(super) fn no_socket(&mut self, to: std::net::SocketAddr, why: &std::io::Error) {
        let Some(tag) = self.charged() else { return };
        let verdict = judge_failure(Stage::Connect, Failure::Unreachable);
        let words = format!("no connection to {to}: {why}");
        let finding = Finding { verdict, stage: Stage::Connect, reply: None, words: &words };
        self.conclude(tag, SessionFacts::default(), &finding);
    }

    fn said(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::Ready => self.greeted(conn),
            Event::Body(tag) => {
                self.bodies.push((conn, tag));
                self.touched(conn);
            }
            Event::Accepted(tag, reply) => {
                self.lane.success(self.ring.now());
                self.replied(conn, tag, Stage::Dot, &reply);
            }
            Event::Refused(tag, stage, reply) => self.replied(conn, tag, stage, &reply),
            Event::Unfit(tag, failure) => self.failed(conn, tag, Stage::Mail, failure),
            Event::Lost(tag, stage, failure) => self.failed(conn, tag, stage, failure),
            Event::Released(tag) => self.released(conn, tag),
            Event::Over(end) => self.over(conn, &end),
        }
    }

    fn over(&mut self, conn: ConnId, end: &End) {
        let carried = self.conversation(conn).is_some_and(|known| known.has_carried());
        let verdict = match end {
            _ if !carried => None,
            End::Finished => None,
            End::Refused(stage, reply) => Some(judge(*stage, reply)),
            End::Failed(stage, failure) => Some(judge_failure(*stage, *failure)),
        };
        if verdict.is_some_and(|verdict| verdict.scope == Scope::Receiver) {
            self.lane.trouble(self.ring.now());
        }
        if !carried && *end != End::Finished {
            self.unreached(conn, end);
        }
        self.closed(conn);
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        self.ring.close(conn);
        self.bodies.retain(|(asking, _)| *asking != conn);
        if let Some(conversation) = self.conversations[conn.0 as usize].take() {
            self.greeted -= u32::from(conversation.greeted);
            self.carrying -= u32::from(conversation.has_carried());
        }
        self.tally.closed();
        let open = u64::from(self.tally.connections_open);
        self.live.connections.store(open, std::sync::atomic::Ordering::Relaxed);
    }

    /// Remembers that the connection could use another message, or ends it.
    fn find_work(&mut self, conn: ConnId) {
        let (settings, now) = (self.settings, self.ring.now());
        let Some(conversation) = self.conversation(conn) else { return };
        if conversation.is_used_up(settings) {
            conversation.quit_if_idle(now);
            self.touched(conn);
        } else if conversation.is_idle(settings) && !conversation.listed_idle {
            conversation.listed_idle = true;
            self.idle.push(conn);
        } else if conversation.has_room_behind(settings) && !conversation.listed_behind {
            conversation.listed_behind = true;
            self.behind.push_back(conn);
        }
    }

    /// A reply decided the message.
    fn replied(&mut self, conn: ConnId, tag: Tag, stage: Stage, reply: &Reply) {
        let verdict = judge(stage, reply).for_message(self.store.item(tag).index);
        let words = &reply.text();
        self.decide(conn, tag, &Finding { verdict, stage, reply: Some(reply), words });
    }

    /// A failure without a reply decided the message.
    fn failed(&mut self, conn: ConnId, tag: Tag, stage: Stage, failure: Failure) {
        let verdict = judge_failure(stage, failure).for_message(self.store.item(tag).index);
        let words = failure.to_string();
        self.decide(conn, tag, &Finding { verdict, stage, reply: None, words: &words });
    }

    /// The message was not attempted: it is the next again, unless that happens too often.
    fn released(&mut self, conn: ConnId, tag: Tag) {
        if self.store.item(tag).damaged {
            return self.remake(tag);
        }
        let exhausted = self.store.item(tag).releases >= RELEASES_MAX;
        if exhausted || !self.store.has_octets(tag) {
            self.failed(conn, tag, Stage::Mail, Failure::ClosedByPeer);
        } else {
            self.store.back_to_ready(tag);
        }
    }

    /// The message goes back to preparation, to be made again for the same attempt.
    fn remake(&mut self, tag: Tag) {
        let item = self.store.settle(tag);
        let due = self.ring.utc();
        let first_attempt = item.first_attempt.unwrap_or(due);
        self.again(Again { due, row: item.row, attempt: item.attempt, first_attempt });
        self.settled += 1;
    }

    fn decide(&mut self, conn: ConnId, tag: Tag, finding: &Finding<'_>) {
        let Verdict { scope, action, .. } = finding.verdict;
        if action != Action::Accept && scope == Scope::Receiver {
            self.lane.trouble(self.ring.now());
        }
        if action != Action::Accept
            && scope == Scope::Connection
            && let Some(conversation) = self.conversation(conn)
        {
            conversation.retire();
        }
        if action == Action::Reconnect && self.store.item(tag).releases < RELEASES_MAX {
            // Attempted in form only; its place in the queue is kept if its octets are.
            if self.store.has_octets(tag) {
                return self.store.back_to_ready(tag);
            }
        }
        let index = self.store.item(tag).index;
        let facts = match self.conversation(conn) {
            Some(conversation) => {
                conversation.forget(tag);
                conversation.facts(index)
            }
            None => SessionFacts::default(),
        };
        self.conclude(tag, facts, finding);
    }

    /// Records the outcome of an attempt.
    fn conclude(&mut self, tag: Tag, session: SessionFacts, finding: &Finding<'_>) {
        let item = self.store.settle(tag);
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let first_attempt = item.first_attempt.unwrap_or(utc);
        let (kind, next_attempt) = self.kind(&item, first_attempt, utc, finding);
        self.record(&Outcome {
            row: item.row,
            attempt: item.attempt,
            kind,
            stage: finding.stage,
            class: finding.verdict.class,
            time: utc,
            spooled: item.spooled,
            first_attempt,
            next_attempt,
            smtp_code: finding.reply.map_or(0, |reply| reply.code),
            enhanced: finding.reply.and_then(|reply| reply.enhanced),
            session,
            took: now.since(item.begun_at),
            waited: item.begun_at.since(item.ready_at),
            data: item.body_at.map_or(Duration::ZERO, |body_at| now.since(body_at)),
            size: item.size,
            host: &self.settings.host,
            response: clipped(finding.words),
        });
        self.settled += 1;
        if let Some(due) = next_attempt {
            let attempt = item.attempt + 1;
            self.again(Again { due, row: item.row, attempt, first_attempt });
        }
    }

    fn kind(
        &self,
        item: &Item,
        first_attempt: Utc,
        utc: Utc,
        finding: &Finding<'_>,
    ) -> (Kind, Option<Utc>) {
        let retry = || match self.settings.retry.next(item.row, item.attempt, first_attempt, utc) {
            Some(due) => (Kind::Deferred, Some(due)),
            None => (Kind::Expired, None),
        };
        match finding.verdict.action {
            Action::Accept => {
                assert_eq!(
                    finding.stage,
                    Stage::Dot,
                    "only the reply to its dot delivers a message"
                );
                (Kind::Delivered, None)
            }
            Action::Fail => (Kind::Bounced, None),
            Action::Doubt if self.settings.on_doubt == OnDoubt::Hold => (Kind::InDoubt, None),
            // It may have arrived: what cannot be sent again stays in doubt.
            Action::Doubt => match retry() {
                (Kind::Expired, _) => (Kind::InDoubt, None),
                again => again,
            },
            Action::Retry | Action::Reconnect | Action::Pause => retry(),
        }
    }

    /// A ready message whose time has run out is not begun any more; whether it was one. The time
    /// of a message that was never attempted runs out when nobody could be reached for as long.
    pub(super) fn expire_if_old(&mut self, tag: Tag) -> bool {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let retry = &self.settings.retry;
        let over = match self.store.item(tag).first_attempt {
            Some(first_attempt) => retry.is_over(first_attempt, utc),
            None => self.lane.down_for(now) > retry.expire_after,
        };
        if !over {
            return false;
        }
        let first_attempt = self.store.item(tag).first_attempt.unwrap_or(utc);
        self.store.take_first_ready();
        let item = self.store.settle(tag);
        let (message, end) = ((item.row, item.attempt), (Kind::Expired, Class::MessageExpired));
        let words = "expired before a connection could be had for it";
        self.record(&Outcome {
            spooled: item.spooled,
            waited: now.since(item.ready_at),
            size: item.size,
            host: &self.settings.host,
            ..Outcome::unconnected(message, end, (utc, first_attempt), words)
        });
        self.settled += 1;
        true
    }
}
