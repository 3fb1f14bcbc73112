//! receiver — what all connections share: the behaviour, the checks and the counts.
//!
//! It decides what happens to a recipient and to a message. It must not know sockets.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::chance::Chance;
use crate::checks::rate::LaneId;
use crate::checks::{Envelope, Inspection};
use crate::config::Behaviour;
use crate::counters::{self, Counters};
use crate::reply::Reply;
use crate::rules::{self, Action};

/// Pairs of sender domain and recipient remembered for greylisting; later ones are let in.
const GREY_MAX: usize = 1 << 20;

const GREYLISTED: Reply = Reply::of(450, "4.7.1", "Greylisted, try again later");
const UNLUCKY_DEFER: Reply = Reply::of(451, "4.3.0", "Deferred at random");
const UNLUCKY_BOUNCE: Reply = Reply::of(550, "5.1.1", "Bounced at random");
const RECIPIENT_OK: Reply = Reply::of(250, "2.1.5", "Recipient ok");

/// What a final dot leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Accepted; the reply comes after this time.
    Accepted(Duration),
    /// Accepted, and the connection closed without a reply.
    AcceptedUnsaid,
    /// Not accepted, with this reply.
    Refused(Reply),
    /// Not accepted, and the connection closed without a reply.
    Dropped,
}

/// The state of a whole sink apart from its connections.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) behaviour: Behaviour,
    pub(crate) inspection: Inspection,
    pub(crate) counters: Arc<Counters>,
    chance: Chance,
    grey: HashSet<Box<[u8]>>,
}

impl Receiver {
    pub(crate) fn new(
        behaviour: Behaviour,
        inspection: Inspection,
        counters: Arc<Counters>,
    ) -> Receiver {
        let chance = Chance::new(behaviour.chances.seed);
        Receiver { behaviour, inspection, counters, chance, grey: HashSet::new() }
    }

    /// What is said to a RCPT, and what is to happen to its message.
    pub(crate) fn recipient(
        &mut self,
        from: &[u8],
        to: &[u8],
        lane: Option<LaneId>,
        now: Duration,
    ) -> (Reply, Action) {
        if let (Some(rate), Some(lane)) = (&mut self.inspection.rate, lane) {
            rate.record(lane, now);
        }
        let action = rules::action(&self.behaviour.rules, to).clone();
        let chances = self.behaviour.chances;
        let reply = match &action {
            Action::AtRcpt(reply) => reply.clone(),
            Action::Grey if self.is_new(from, to) => GREYLISTED,
            _ if self.chance.strikes(chances.defer) => UNLUCKY_DEFER,
            _ if self.chance.strikes(chances.bounce) => UNLUCKY_BOUNCE,
            _ => RECIPIENT_OK,
        };
        counters::add(
            match reply.code() {
                200..400 => &self.counters.recipients,
                400..500 => &self.counters.recipients_deferred,
                _ => &self.counters.recipients_bounced,
            },
            1,
        );
        (reply, action)
    }

    fn is_new(&mut self, from: &[u8], to: &[u8]) -> bool {
        let domain = memchr::memrchr(b'@', from).map_or(from, |at| &from[at + 1..]);
        let pair = [domain, b"\0", to].concat().to_ascii_lowercase();
        self.grey.len() < GREY_MAX && self.grey.insert(pair.into())
    }

    /// What a final dot leads to. An accepted message is counted and inspected.
    pub(crate) fn message(
        &mut self,
        envelope: &Envelope,
        action: &Action,
        octets: u64,
        kept: &[u8],
    ) -> Fate {
        let counters = &self.counters;
        if octets > self.behaviour.message_bytes_max {
            counters::add(&counters.messages_bounced, 1);
            return Fate::Refused(Reply::of(552, "5.3.4", "Message too large"));
        }
        if let Action::AtDot(reply) = action {
            let deferred = (400..500).contains(&reply.code());
            let (deferrals, bounces) = (&counters.messages_deferred, &counters.messages_bounced);
            counters::add(if deferred { deferrals } else { bounces }, 1);
            return Fate::Refused(reply.clone());
        }
        if *action == Action::DropBefore || self.chance.strikes(self.behaviour.chances.drop) {
            counters::add(&counters.dropped_before, 1);
            return Fate::Dropped;
        }
        counters::add(&counters.messages, 1);
        counters::add(&counters.message_bytes, octets);
        if self.inspection.wants_messages() {
            self.inspection.inspect(envelope, kept);
        }
        match action {
            Action::DropAfter => {
                counters::add(&self.counters.dropped_after, 1);
                Fate::AcceptedUnsaid
            }
            Action::Slow => Fate::Accepted(self.behaviour.slow),
            _ => Fate::Accepted(Duration::ZERO),
        }
    }
}
