//! conversation — a connection with what the stage knows of it: the SMTP session once it stands,
//! the message it was opened for, the parcel under way.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::store::Store;
use crate::destination::{GroupNo, SiteNo, SourceNo};
use crate::limits;
use crate::outcome::Session as SessionFacts;
use crate::ring::Parcel;
use crate::smtp::session::{Envelope, Event, Session, Tag, Wants};
use crate::smtp::verdict::Failure;
use crate::units::Tick;

/// Where the connection is.
enum Phase {
    /// TCP connect under way.
    Connecting,
    /// The conversation, from the greeting on.
    Talking(Box<Session>),
    /// TCP connect failed; told once.
    Unconnected(Option<Failure>),
}

/// To whom a connection goes, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) group: GroupNo,
    pub(super) site: SiteNo,
    pub(super) source: SourceNo,
    /// Which of the site's addresses.
    pub(super) address: usize,
}

/// What a conversation tells the stage.
pub(super) enum Heard {
    /// The connection could not be made.
    Unconnected(Failure),
    /// The session says this.
    Said(Event),
}

/// A connection of the stage.
pub(super) struct Conversation {
    phase: Phase,
    pub(super) route: Route,
    key: u64,
    remote: SocketAddr,
    source: Option<IpAddr>,
    begun: Tick,
    connect: Duration,
    offered: u32,
    /// Greeting and EHLO are through.
    pub(super) greeted: bool,
    /// No further message may begin on it.
    retired: bool,
    /// The message whose octets are in the parcel under way.
    body: Option<Tag>,
    /// Octets of the parcel up to and with the final dot.
    dot_end: usize,
    /// It is on the stage's list of connections to send on.
    pub(super) dirty: bool,
    /// It is on the stage's list of idle connections.
    pub(super) listed_idle: bool,
    /// It is on the stage's list of connections with room behind their message.
    pub(super) listed_behind: bool,
    /// It is on the stage's list of connections that could make place for others.
    pub(super) listed_spare: bool,
}

impl Conversation {
    pub(super) fn connecting(
        key: u64,
        route: Route,
        remote: SocketAddr,
        now: Tick,
    ) -> Conversation {
        Conversation {
            phase: Phase::Connecting,
            route,
            key,
            remote,
            source: None,
            begun: now,
            connect: Duration::ZERO,
            offered: 0,
            greeted: false,
            retired: false,
            body: None,
            dot_end: 0,
            dirty: false,
            listed_idle: false,
            listed_behind: false,
            listed_spare: false,
        }
    }

    fn session(&self) -> Option<&Session> {
        match &self.phase {
            Phase::Talking(session) => Some(session),
            _ => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Talking(session) => Some(session),
            _ => None,
        }
    }

    /// The connection as recorded with an attempt of its `message_index`-th message.
    pub(super) fn facts(&self, message_index: u32) -> SessionFacts {
        SessionFacts {
            key: self.key,
            message_index,
            remote: Some(self.remote.ip()),
            source: self.source,
            connect: self.connect,
        }
    }

    pub(super) fn deadline(&self) -> Tick {
        match self.session() {
            Some(session) => session.deadline(),
            None => self.begun.after(limits::CONNECT_TIMEOUT),
        }
    }

    pub(super) fn connected(&mut self, source: Option<IpAddr>, ehlo_name: &str, now: Tick) {
        if let Phase::Connecting = self.phase {
            self.source = source;
            self.connect = now.since(self.begun);
            self.phase = Phase::Talking(Box::new(Session::new(ehlo_name, now)));
        }
    }

    pub(super) fn receive(&mut self, octets: &[u8], now: Tick) {
        if let Some(session) = self.session_mut() {
            session.receive(octets, now);
        }
    }

    /// The parcel has left; the message whose octets it held.
    pub(super) fn sent(&mut self, now: Tick) -> Option<Tag> {
        if let Some(session) = self.session_mut() {
            session.sent(now);
        }
        self.body.take()
    }

    /// The connection broke; `sent` octets of the parcel under way had been taken by the kernel.
    pub(super) fn lost(&mut self, errno: i32, sent: usize) {
        let failure = failure_of(errno);
        let unsent = self.body.is_some() && sent < self.dot_end;
        match &mut self.phase {
            Phase::Connecting => self.phase = Phase::Unconnected(Some(failure)),
            Phase::Talking(session) => session.lost(failure, unsent),
            Phase::Unconnected(_) => {}
        }
    }

    /// The deadline passed, if it is still the one that was set.
    pub(super) fn timed_out(&mut self, now: Tick) {
        if now < self.deadline() {
            return;
        }
        match &mut self.phase {
            Phase::Connecting => self.phase = Phase::Unconnected(Some(Failure::TimedOut)),
            Phase::Talking(session) => session.timed_out(now),
            Phase::Unconnected(_) => {}
        }
    }

    /// Ends the connection from our side, with its messages unsent.
    pub(super) fn abandon(&mut self) {
        if let Some(session) = self.session_mut() {
            session.abandon();
        }
    }

    /// The next thing that happened.
    pub(super) fn hear(&mut self) -> Option<Heard> {
        if let Phase::Unconnected(failed) = &mut self.phase {
            return failed.take().map(Heard::Unconnected);
        }
        self.session_mut()?.next_event().map(Heard::Said)
    }

    /// Begins a message; which one of the connection it is.
    pub(super) fn offer(&mut self, tag: Tag, envelope: Envelope<'_>, now: Tick) -> u32 {
        self.offered += 1;
        let session = self.session_mut().expect("a message is offered to an open connection");
        session.offer(tag, envelope, now);
        self.offered
    }

    /// Whether a message was ever begun on it.
    pub(super) fn has_carried(&self) -> bool {
        self.offered > 0
    }

    /// Lets no further message begin: what the receiver said is about this connection.
    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    /// The table's limit and the receiver's own (RFC 9422 MAILMAX) both hold.
    fn has_quota(&self, most: Option<u32>) -> bool {
        let ours = most.unwrap_or(u32::MAX);
        let theirs = self.session().and_then(|session| session.capabilities().mail_max);
        !self.retired && self.offered < ours.min(theirs.unwrap_or(u32::MAX))
    }

    fn wants(&self) -> Wants {
        self.session().map_or(Wants::Nothing, Session::wants)
    }

    /// Whether a message may begin on it now.
    pub(super) fn is_idle(&self, most: Option<u32>) -> bool {
        self.wants() == Wants::Now && self.has_quota(most)
    }

    /// Whether an envelope may follow the message under way.
    pub(super) fn has_room_behind(&self, most: Option<u32>) -> bool {
        self.wants() == Wants::Behind && self.has_quota(most)
    }

    /// Whether it has carried all the messages that it may and is idle.
    pub(super) fn is_used_up(&self, most: Option<u32>) -> bool {
        self.wants() == Wants::Now && !self.has_quota(most)
    }

    /// Says QUIT when nothing is under way; whether it did.
    pub(super) fn quit_if_idle(&mut self, now: Tick) -> bool {
        let idle = self.wants() == Wants::Now;
        if idle && let Some(session) = self.session_mut() {
            session.quit(now);
        }
        idle
    }

    /// Whether the next parcel holds the octets of this message.
    pub(super) fn asks_for(&self, tag: Tag) -> bool {
        self.session().is_some_and(|session| session.asks_for(tag))
    }

    /// What to send now.
    pub(super) fn parcel(&mut self, store: &Store, now: Tick) -> Option<Parcel> {
        let outgoing = self.session_mut()?.take(now)?;
        let body = outgoing.body.map(|tag| store.octets(tag));
        let body_len = body.as_ref().map_or(0, |body| body.octets().len());
        self.body = outgoing.body;
        self.dot_end = outgoing.head.len() + body_len + b".\r\n".len();
        Some(Parcel { head: outgoing.head, body, tail: outgoing.tail })
    }

    /// The message has met its outcome; a parcel under way no longer speaks for it.
    pub(super) fn forget(&mut self, tag: Tag) {
        if self.body == Some(tag) {
            self.body = None;
        }
    }
}

/// What an error number of a connection means; 0 is the peer's orderly close.
pub(super) fn failure_of(errno: i32) -> Failure {
    match errno {
        0 => Failure::ClosedByPeer,
        libc::ECONNREFUSED => Failure::Refused,
        libc::ETIMEDOUT => Failure::TimedOut,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Failure::Reset,
        _ => Failure::Unreachable,
    }
}
