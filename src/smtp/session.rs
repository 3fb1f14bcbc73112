//! session — one SMTP conversation as a machine: octets in, octets and events out, one deadline.
//!
//! The caller owns the socket. It calls, in this order and as often as it likes:
//!
//! 1. in: [`Session::receive`], [`Session::sent`], [`Session::lost`], [`Session::timed_out`],
//! 2. [`Session::next_event`] until it is `None`,
//! 3. [`Session::offer`] when [`Session::wants`] says so, [`Session::quit`] to end,
//! 4. out: [`Session::take`] for what to send, then [`Session::deadline`].
//!
//! Pipelining is two cursors over one list: commands run ahead, replies follow, and `awaited` is
//! what lies between. The sender must wait in exactly two places: for the EHLO reply, and for the
//! 354 before a message. While the reply to a final dot is awaited, the next envelope may already
//! be under way, in the same send as the message before it (RFC 2920 §3.1).
//!
//! Replies come in the order of the commands, so each reply is about the oldest message that is
//! not settled: `messages.front()`.
//!
//! How it fails: every end of the conversation is told as [`Event::Over`], and what that means for
//! each message as [`Event::Refused`], [`Event::Lost`] or [`Event::Released`]. It never judges;
//! `verdict` does. It knows no sockets, clocks, campaigns or files.

use std::collections::VecDeque;
use std::time::Duration;

use super::capabilities::Capabilities;
use super::reply::{Reply, ReplyParser};
use super::verdict::Failure;
use crate::limits;
use crate::outcome::Stage;
use crate::units::Tick;

/// The caller's name for a message, given back in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

/// What the envelope of a message says.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The return path, without angle brackets; empty for the null path.
    pub mail_from: &'a str,
    /// The recipient, without angle brackets.
    pub rcpt_to: &'a str,
    /// Octets of the message (RFC 1870 counts them without the final dot).
    pub size: usize,
}

/// What a session tells its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Greeting and EHLO are through.
    Ready,
    /// The receiver said 354: the next [`Session::take`] sends this message's octets. Whatever must
    /// be on record before they leave must be recorded first.
    Body(Tag),
    /// The receiver took the message: 2yz to the final dot.
    Accepted(Tag, Reply),
    /// A reply refused the message, for now or for good.
    Refused(Tag, Stage, Reply),
    /// The message was not offered to the receiver, because it cannot take it.
    Unfit(Tag, Failure),
    /// The connection was lost while the message was at this stage.
    Lost(Tag, Stage, Failure),
    /// The message was not attempted after all; it belongs to another connection.
    Released(Tag),
    /// The conversation has ended; close the connection. No event follows.
    Over(End),
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// We had said all, or the receiver closed between two messages.
    Finished,
    /// The receiver refused the conversation itself (greeting, EHLO, or 421) by this reply.
    Refused(Stage, Reply),
    /// The connection failed at this stage.
    Failed(Stage, Failure),
}

/// Whether, and how, a session could use another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// It is idle.
    Now,
    /// It is sending a message and could pipeline the next envelope behind it.
    Behind,
    /// Not now.
    Nothing,
}

/// What to put on the wire: commands, a message, and what follows it, in one piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Commands before the message.
    pub head: Vec<u8>,
    /// The message whose octets go here.
    pub body: Option<Tag>,
    /// The final dot, and commands after it.
    pub tail: Vec<u8>,
}

/// What a reply will be the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Banner,
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Dot,
    /// A dot or RSET that only cleans up; its reply means nothing for any message.
    CleanUp,
    Quit,
}

impl Awaited {
    fn stage(self) -> Stage {
        match self {
            Awaited::Banner => Stage::Banner,
            Awaited::Ehlo | Awaited::Helo => Stage::Ehlo,
            Awaited::Mail => Stage::Mail,
            Awaited::Rcpt => Stage::Rcpt,
            Awaited::Data => Stage::Data,
            Awaited::Dot => Stage::Dot,
            Awaited::CleanUp | Awaited::Quit => Stage::Quit,
        }
    }

    fn timeout(self) -> Duration {
        match self {
            Awaited::Banner => limits::BANNER_TIMEOUT,
            Awaited::Ehlo | Awaited::Helo => limits::EHLO_TIMEOUT,
            Awaited::Mail => limits::MAIL_TIMEOUT,
            Awaited::Rcpt => limits::RCPT_TIMEOUT,
            Awaited::Data => limits::DATA_TIMEOUT,
            Awaited::Dot => limits::DOT_TIMEOUT,
            Awaited::CleanUp => limits::MAIL_TIMEOUT,
            Awaited::Quit => limits::QUIT_TIMEOUT,
        }
    }
}

/// A message between its offer and its last event.
struct Message {
    tag: Tag,
    rcpt_to: Box<str>,
    /// The first reply that refused it; the rest of a pipelined group is still awaited.
    refusal: Option<(Stage, Reply)>,
    mail_accepted: bool,
    answered: bool,
    /// Its octets were taken to be sent, so its final dot may have left.
    body_left: bool,
}

/// A parcel on its way to the kernel.
#[derive(Clone, Copy)]
struct Flight {
    since: Tick,
    /// It holds the octets of the oldest message.
    body: bool,
    /// The oldest awaited reply is to a command in it.
    leads: bool,
}

/// One SMTP conversation.
pub struct Session {
    ehlo_name: Box<str>,
    parser: ReplyParser,
    capabilities: Capabilities,
    awaited: VecDeque<Awaited>,
    messages: VecDeque<Message>,
    events: VecDeque<Event>,
    out: Outgoing,
    /// Awaited replies whose commands are still in `out`.
    unsent: usize,
    flight: Option<Flight>,
    /// A positive reply to a dot whose parcel is still on its way, and the octets that came behind
    /// it. It counts when the parcel has left: not before has the receiver the whole message.
    early: Option<(Reply, Vec<u8>)>,
    /// Since when the oldest awaited reply has been the one that we wait for.
    since: Tick,
    /// Messages accepted on this connection.
    accepted: u32,
    /// The receiver still has a transaction open that no message uses.
    reset_needed: bool,
    ready: bool,
    over: bool,
}

impl Session {
    /// A session on a connection that has just been made; it waits for the greeting.
    pub fn new(ehlo_name: &str, now: Tick) -> Session {
        Session {
            ehlo_name: ehlo_name.into(),
            parser: ReplyParser::new(),
            capabilities: Capabilities::default(),
            awaited: VecDeque::from([Awaited::Banner]),
            messages: VecDeque::with_capacity(2),
            events: VecDeque::with_capacity(4),
            out: Outgoing::default(),
            unsent: 0,
            flight: None,
            early: None,
            since: now,
            accepted: 0,
            reset_needed: false,
            ready: false,
            over: false,
        }
    }

    /// What the receiver offered in its EHLO reply.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Octets that arrived.
    pub fn receive(&mut self, mut octets: &[u8], now: Tick) {
        while !self.over && !octets.is_empty() && self.early.is_none() {
            match self.parser.feed(&mut octets) {
                Ok(Some(reply)) => self.replied(reply, now),
                Ok(None) => assert!(octets.is_empty(), "a parser without a reply takes it all"),
                Err(fault) => self.fail(Failure::Garbage(fault)),
            }
        }
        if let Some((_, behind)) = &mut self.early {
            behind.extend_from_slice(octets);
            if behind.len() > limits::REPLY_BYTES_MAX {
                self.fail(Failure::OutOfTurn);
            }
        }
    }

    /// The parcel of the last [`Session::take`] has left.
    pub fn sent(&mut self, now: Tick) {
        if self.flight.take().is_some_and(|flight| flight.leads) {
            self.since = now;
        }
        if let Some((reply, behind)) = self.early.take() {
            self.replied(reply, now);
            self.receive(&behind, now);
        }
    }

    /// The connection is gone. `unsent` tells that the final dot of the parcel under way has
    /// certainly not left.
    pub fn lost(&mut self, failure: Failure, unsent: bool) {
        let body = self.flight.is_some_and(|flight| flight.body);
        if let Some(message) = self.messages.front_mut().filter(|_| unsent && body) {
            message.body_left = false;
        }
        self.fail(failure);
    }

    /// The deadline passed. When it was moved since it was set (a reply came at the last moment)
    /// nothing happens.
    pub fn timed_out(&mut self, now: Tick) {
        if now < self.deadline() {
            return;
        }
        match self.awaited.front() {
            None if self.flight.is_none() => self.quit(now),
            _ => self.fail(Failure::TimedOut),
        }
    }

    /// Ends the conversation from our side; a message whose octets were asked for is not sent.
    pub fn abandon(&mut self) {
        self.finish(End::Finished);
    }

    /// When to call [`Session::timed_out`], unless something happens before.
    pub fn deadline(&self) -> Tick {
        match (self.flight, self.awaited.front()) {
            (Some(flight), _) => flight.since.after(limits::BLOCK_TIMEOUT),
            (None, Some(awaited)) => self.since.after(awaited.timeout()),
            (None, None) => self.since.after(limits::IDLE_TIMEOUT),
        }
    }

    /// The next thing that the caller must know.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether another message may be offered.
    pub fn wants(&self) -> Wants {
        if !self.ready || self.over || self.awaited.contains(&Awaited::Quit) {
            return Wants::Nothing;
        }
        match (self.messages.len(), self.awaited.back()) {
            (0, None) => Wants::Now,
            (1, Some(Awaited::Dot)) if self.capabilities.pipelining => Wants::Behind,
            _ => Wants::Nothing,
        }
    }

    /// Begins a message. Its octets are asked for by [`Event::Body`].
    ///
    /// # Panics
    /// When the session wants nothing.
    pub fn offer(&mut self, tag: Tag, envelope: Envelope<'_>, now: Tick) {
        assert_ne!(self.wants(), Wants::Nothing, "a session is offered what it wants");
        let safe = is_safe_path(envelope.mail_from) && is_safe_path(envelope.rcpt_to);
        assert!(safe, "addresses were checked when they were taken in");
        if !self.capabilities.admits(envelope.size as u64) {
            self.events.push_back(Event::Unfit(tag, Failure::TooLarge));
            return;
        }
        if self.awaited.is_empty() {
            self.since = now;
        }
        if self.reset_needed {
            self.reset();
        }
        let size = self.capabilities.size.map(|_| format!(" SIZE={}", envelope.size));
        let size = size.unwrap_or_default();
        self.command(&format!("MAIL FROM:<{}>{size}\r\n", envelope.mail_from), Awaited::Mail);
        if self.capabilities.pipelining {
            self.command(&format!("RCPT TO:<{}>\r\n", envelope.rcpt_to), Awaited::Rcpt);
            self.command("DATA\r\n", Awaited::Data);
        }
        self.messages.push_back(Message {
            tag,
            rcpt_to: envelope.rcpt_to.into(),
            refusal: None,
            mail_accepted: false,
            answered: false,
            body_left: false,
        });
    }

    /// Ends the conversation politely; only when no message is under way.
    pub fn quit(&mut self, now: Tick) {
        if self.over || self.awaited.contains(&Awaited::Quit) {
            return;
        }
        assert!(self.messages.is_empty(), "quit follows the last message");
        self.since = now;
        self.command("QUIT\r\n", Awaited::Quit);
    }

    /// Whether the next [`Session::take`] sends this message's octets.
    pub fn asks_for(&self, tag: Tag) -> bool {
        self.out.body == Some(tag)
    }

    /// What to send now, if anything; [`Session::sent`] must follow before the next.
    pub fn take(&mut self, now: Tick) -> Option<Outgoing> {
        let nothing = self.out.head.is_empty() && self.out.tail.is_empty();
        if self.flight.is_some() || self.over || nothing {
            return None;
        }
        let body = self.out.body.is_some();
        if body {
            self.message().body_left = true;
        }
        self.flight = Some(Flight { since: now, body, leads: self.unsent == self.awaited.len() });
        self.unsent = 0;
        Some(std::mem::take(&mut self.out))
    }

    /// Appends a command behind whatever is to be sent already.
    fn command(&mut self, line: &str, awaited: Awaited) {
        let out = match self.out.body {
            Some(_) => &mut self.out.tail,
            None => &mut self.out.head,
        };
        out.extend_from_slice(line.as_bytes());
        self.await_reply(awaited);
    }

    fn await_reply(&mut self, awaited: Awaited) {
        self.awaited.push_back(awaited);
        self.unsent += 1;
    }

    fn reset(&mut self) {
        self.reset_needed = false;
        self.command("RSET\r\n", Awaited::CleanUp);
    }

    fn replied(&mut self, reply: Reply, now: Tick) {
        // A reply cannot be about what the receiver has not heard yet, unless it takes its leave.
        let answers = self.awaited.len() > self.unsent || reply.is_closing();
        let Some(awaited) = self.awaited.front().copied().filter(|_| answers) else {
            return self.unexpected(reply);
        };
        let body_under_way = self.flight.is_some_and(|flight| flight.body);
        if awaited == Awaited::Dot && reply.is_positive() && body_under_way {
            // The next envelope behind the message may still be on its way, or the message itself:
            // which of them, the end of the send tells.
            self.early = Some((reply, Vec::new()));
            return;
        }
        self.awaited.pop_front();
        self.since = now;
        if reply.is_closing() {
            return self.closing(awaited, reply);
        }
        match awaited {
            Awaited::Banner => self.banner(reply),
            Awaited::Ehlo => self.ehlo(&reply),
            Awaited::Helo if reply.is_positive() => self.greeted(),
            Awaited::Helo => self.finish(End::Refused(Stage::Ehlo, reply)),
            Awaited::Mail => self.mail(reply),
            Awaited::Rcpt => self.rcpt(reply),
            Awaited::Data => self.data(reply),
            Awaited::Dot => self.dot(reply),
            Awaited::CleanUp => {}
            Awaited::Quit => self.finish(End::Finished),
        }
    }

    /// A reply to nothing: a 421 announces a shutdown (RFC 5321 §3.8), anything else means that we
    /// no longer agree with the receiver on what is answered.
    fn unexpected(&mut self, reply: Reply) {
        match reply.is_closing() {
            true if self.accepted > 0 => self.finish(End::Finished),
            true => self.finish(End::Refused(Stage::Mail, reply)),
            false => self.fail(Failure::OutOfTurn),
        }
    }

    /// 421 instead of any reply: the message in question is refused by it, unless it was before;
    /// the others go back, and so does one that RSET only made room for.
    fn closing(&mut self, awaited: Awaited, reply: Reply) {
        let stage = self.stage(awaited);
        let refused = self.messages.pop_front_if(|_| awaited != Awaited::CleanUp);
        if let Some(message) = refused {
            let (stage, reply) = message.refusal.unwrap_or_else(|| (stage, reply.clone()));
            self.events.push_back(Event::Refused(message.tag, stage, reply));
        }
        self.finish(End::Refused(stage, reply));
    }

    /// Where a message is whose next reply is this one. RSET before a message belongs to it.
    fn stage(&self, awaited: Awaited) -> Stage {
        match awaited {
            Awaited::CleanUp if !self.messages.is_empty() => Stage::Mail,
            _ => awaited.stage(),
        }
    }

    fn banner(&mut self, reply: Reply) {
        if reply.is_positive() {
            let line = format!("EHLO {}\r\n", self.ehlo_name);
            self.command(&line, Awaited::Ehlo);
        } else {
            self.finish(End::Refused(Stage::Banner, reply));
        }
    }

    fn ehlo(&mut self, reply: &Reply) {
        if reply.is_positive() {
            self.capabilities = Capabilities::of(reply);
            self.greeted();
        } else if reply.is_permanent() {
            // RFC 5321 §3.2: a receiver that does not know EHLO may know HELO.
            let line = format!("HELO {}\r\n", self.ehlo_name);
            self.command(&line, Awaited::Helo);
        } else {
            self.finish(End::Refused(Stage::Ehlo, reply.clone()));
        }
    }

    fn greeted(&mut self) {
        self.ready = true;
        self.events.push_back(Event::Ready);
    }

    fn message(&mut self) -> &mut Message {
        self.messages.front_mut().expect("MAIL, RCPT, DATA and dot are about a message")
    }

    fn mail(&mut self, reply: Reply) {
        let pipelining = self.capabilities.pipelining;
        let message = self.message();
        message.answered = true;
        message.mail_accepted = reply.is_positive();
        match (message.mail_accepted, pipelining) {
            (true, true) => {}
            (true, false) => {
                let line = format!("RCPT TO:<{}>\r\n", message.rcpt_to);
                self.command(&line, Awaited::Rcpt);
            }
            (false, true) => message.refusal = Some((Stage::Mail, reply)),
            (false, false) => self.refused(Stage::Mail, reply),
        }
    }

    fn rcpt(&mut self, reply: Reply) {
        let pipelining = self.capabilities.pipelining;
        let message = self.message();
        match (reply.is_positive(), pipelining) {
            (true, true) => {}
            (true, false) => self.command("DATA\r\n", Awaited::Data),
            (false, true) => {
                message.refusal.get_or_insert((Stage::Rcpt, reply));
            }
            (false, false) => self.refused(Stage::Rcpt, reply),
        }
    }

    fn data(&mut self, reply: Reply) {
        let refusal = self.message().refusal.take();
        match (reply.code == 354, refusal) {
            (true, None) => {
                let tag = self.message().tag;
                self.out.body = Some(tag);
                self.out.tail.extend_from_slice(b".\r\n");
                self.await_reply(Awaited::Dot);
                self.events.push_back(Event::Body(tag));
            }
            // The receiver refused the recipient, yet wants data: an empty message ends it.
            (true, Some((stage, refusal))) => {
                self.command(".\r\n", Awaited::CleanUp);
                self.refused(stage, refusal);
                self.reset_needed = false;
            }
            (false, Some((stage, refusal))) => self.refused(stage, refusal),
            (false, None) => self.refused(Stage::Data, reply),
        }
    }

    fn dot(&mut self, reply: Reply) {
        let message = self.messages.pop_front().expect("a dot ends a message");
        let early = self.flight.is_some_and(|flight| flight.body);
        if reply.is_positive() {
            self.accepted += 1;
            self.events.push_back(Event::Accepted(message.tag, reply));
        } else {
            self.events.push_back(Event::Refused(message.tag, Stage::Dot, reply));
        }
        if early {
            // Refused in the middle of its data: the rest is still on its way, so the
            // conversation cannot go on.
            self.finish(End::Finished);
        }
    }

    /// The oldest message is refused; the transaction may still be open at the receiver.
    fn refused(&mut self, stage: Stage, reply: Reply) {
        let message = self.messages.pop_front().expect("a refusal is about a message");
        self.reset_needed = message.mail_accepted;
        if self.reset_needed && !self.capabilities.pipelining {
            // MAIL may not follow RSET in one send then, so RSET does not wait for it.
            self.reset();
        }
        self.events.push_back(Event::Refused(message.tag, stage, reply));
    }

    /// The connection is of no use any more.
    fn fail(&mut self, failure: Failure) {
        if self.over {
            return;
        }
        let stage = self.awaited.front().map_or(Stage::Quit, |awaited| self.stage(*awaited));
        if let Some(message) = self.messages.pop_front() {
            let between = !message.answered && self.accepted > 0;
            let event = match message {
                // Closed between two messages, as receivers do at their limit per connection.
                Message { tag, .. } if between => Event::Released(tag),
                Message { tag, refusal: Some((stage, reply)), .. } => {
                    Event::Refused(tag, stage, reply)
                }
                Message { tag, body_left: true, .. } => Event::Lost(tag, Stage::Dot, failure),
                Message { tag, .. } if stage == Stage::Dot => {
                    Event::Lost(tag, Stage::Data, failure)
                }
                Message { tag, .. } => Event::Lost(tag, stage, failure),
            };
            let end = if between { End::Finished } else { End::Failed(stage, failure) };
            self.events.push_back(event);
            self.finish(end);
        } else if self.awaited.front() == Some(&Awaited::Quit) || self.accepted > 0 {
            self.finish(End::Finished);
        } else {
            self.finish(End::Failed(stage, failure));
        }
    }

    /// The end: messages that were only begun go back.
    fn finish(&mut self, end: End) {
        while let Some(message) = self.messages.pop_front() {
            self.events.push_back(match message.body_left {
                true => Event::Lost(message.tag, Stage::Dot, Failure::ClosedByPeer),
                false => Event::Released(message.tag),
            });
        }
        self.awaited.clear();
        self.unsent = 0;
        self.out = Outgoing::default();
        self.over = true;
        self.events.push_back(Event::Over(end));
    }
}

/// Whether a path can stand in a command: no line break or other control can end it early.
/// Addresses were checked at intake; this is where they meet the wire.
fn is_safe_path(path: &str) -> bool {
    path.bytes().all(|octet| octet >= b' ' && octet != 0x7f)
}

#[cfg(test)]
mod tests;
