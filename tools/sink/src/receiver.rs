//! receiver — what all connections share: the behaviour, the checks and the counts.
//!
//! It decides what happens to a recipient and to a message. It must not know sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::attempts::{Log, What};
use crate::chance::Chance;
use crate::checks::rate::LaneId;
use crate::checks::{Envelope, Inspection};
use crate::config::Behaviour;
use crate::counters::{self, Counters};
use crate::guard::Guard;
use crate::reply::Reply;
use crate::rules::{self, Action};

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

/// Whom a conversation is with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Which provider it is with: the index of its behaviour.
    pub(crate) provider: usize,
    /// Where the client connects from.
    pub(crate) source: IpAddr,
    /// The number of the connection.
    pub(crate) connection: u64,
    /// The lane, if rates are measured.
    pub(crate) lane: Option<LaneId>,
}

/// The state of a whole sink apart from its connections.
#[derive(Debug)]
pub(crate) struct Receiver {
    behaviours: Vec<Behaviour>,
    pub(crate) inspection: Inspection,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Option<Log>,
    /// Of each behaviour.
    chances: Vec<Chance>,
    guard: Guard,
}

impl Receiver {
    pub(crate) fn new(
        behaviours: Vec<Behaviour>,
        inspection: Inspection,
        log: Option<Log>,
        counters: Arc<Counters>,
    ) -> Receiver {
        let chance = |behaviour: &Behaviour| Chance::new(behaviour.chances.seed);
        let chances = behaviours.iter().map(chance).collect();
        Receiver { behaviours, inspection, counters, log, chances, guard: Guard::default() }
    }

    /// How this client is treated.
    pub(crate) fn behaviour(&self, peer: &Peer) -> &Behaviour {
        &self.behaviours[peer.provider]
    }

    /// Whether it matters when exactly a connection ends.
    pub(crate) fn counts_connections(&self, provider: usize) -> bool {
        self.log.is_some() || self.behaviours[provider].connections_per_source_max.is_some()
    }

    /// A connection came; whether its source has too many now.
    pub(crate) fn opened(&mut self, peer: &Peer, listener: SocketAddr, now: Duration) -> bool {
        if let Some(log) = &mut self.log {
            let source = peer.source;
            log.note(now, peer.connection, What::Open { listener, source });
        }
        let most = self.behaviours[peer.provider].connections_per_source_max;
        most.is_some_and(|most| self.guard.open(peer.provider, peer.source) > most)
    }

    /// A connection went.
    pub(crate) fn closed(&mut self, peer: &Peer, now: Duration) {
        if let Some(log) = &mut self.log {
            log.note(now, peer.connection, What::Close);
        }
        if self.behaviours[peer.provider].connections_per_source_max.is_some() {
            self.guard.close(peer.provider, peer.source);
        }
    }

    /// What is said to a RCPT, and what is to happen to its message.
    pub(crate) fn recipient(
        &mut self,
        peer: &Peer,
        (from, to): (&[u8], &[u8]),
        now: Duration,
    ) -> (Reply, Action) {
        if let (Some(rate), Some(lane)) = (&mut self.inspection.rate, peer.lane) {
            rate.record(lane, now);
        }
        let (reply, action) = self.judge(peer, (from, to), now);
        counters::add(
            match reply.code() {
                200..400 => &self.counters.recipients,
                400..500 => &self.counters.recipients_deferred,
                _ => &self.counters.recipients_bounced,
            },
            1,
        );
        if let Some(log) = &mut self.log {
            log.note(now, peer.connection, What::Rcpt(reply.code()));
        }
        (reply, action)
    }

    fn judge(&mut self, peer: &Peer, (from, to): (&[u8], &[u8]), now: Duration) -> (Reply, Action) {
        let behaviour = &self.behaviours[peer.provider];
        if let Some(pace) = &behaviour.pace {
            let limit = (pace.recipients, pace.window);
            if self.guard.is_too_fast((peer.provider, peer.source), limit, now) {
                return (RECIPIENT_OK, Action::AtDot(pace.reply.clone()));
            }
        }
        let action = rules::action(&behaviour.rules, to).clone();
        let chances = behaviour.chances;
        let grey = match &action {
            Action::Grey => self.guard.is_grey(&by_domain(from, to), Duration::ZERO, now),
            Action::GreyFor(wait) => self.guard.is_grey(&by_source(peer, to), *wait, now),
            _ => false,
        };
        let chance = &mut self.chances[peer.provider];
        let reply = match &action {
            Action::AtRcpt(reply) => reply.clone(),
            _ if grey => GREYLISTED,
            _ if chance.strikes(chances.defer) => UNLUCKY_DEFER,
            _ if chance.strikes(chances.bounce) => UNLUCKY_BOUNCE,
            _ => RECIPIENT_OK,
        };
        (reply, action)
    }

    /// What a final dot leads to. An accepted message is counted and inspected.
    pub(crate) fn message(
        &mut self,
        peer: &Peer,
        envelope: &Envelope,
        action: &Action,
        (octets, kept): (u64, &[u8]),
    ) -> Fate {
        let (counters, behaviour) = (&self.counters, &self.behaviours[peer.provider]);
        if octets > behaviour.message_bytes_max {
            counters::add(&counters.messages_bounced, 1);
            return Fate::Refused(Reply::of(552, "5.3.4", "Message too large"));
        }
        if let Action::AtDot(reply) = action {
            let deferred = (400..500).contains(&reply.code());
            let (deferrals, bounces) = (&counters.messages_deferred, &counters.messages_bounced);
            counters::add(if deferred { deferrals } else { bounces }, 1);
            return Fate::Refused(reply.clone());
        }
        let unlucky = self.chances[peer.provider].strikes(behaviour.chances.drop);
        if *action == Action::DropBefore || unlucky {
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
            Action::Slow => Fate::Accepted(behaviour.slow),
            _ => Fate::Accepted(Duration::ZERO),
        }
    }
}

/// What greylisting by the sender's domain remembers.
fn by_domain(from: &[u8], to: &[u8]) -> Vec<u8> {
    let domain = memchr::memrchr(b'@', from).map_or(from, |at| &from[at + 1..]);
    [domain, b"\0", to].concat().to_ascii_lowercase()
}

/// What greylisting by the client's address remembers.
fn by_source(peer: &Peer, to: &[u8]) -> Vec<u8> {
    let source = format!("{}\0{}\0", peer.provider, peer.source);
    [source.as_bytes(), to].concat().to_ascii_lowercase()
}
