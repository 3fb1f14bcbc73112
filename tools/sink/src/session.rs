//! session — one SMTP conversation: octets in, replies out.
//!
//! The caller feeds what it received and does what it is told: read on, wait, or drop the
//! connection. Replies collect in `out` until the caller sends them, so those to pipelined commands
//! leave together (RFC 2920 §3.2); when they are sent and the session [`Session::is_over`], the
//! caller closes. Nothing fails: whatever the client says has a reply. It must not know sockets or
//! clocks; the time is an argument.

use std::time::Duration;

use crate::checks::Envelope;
use crate::command::{self, Command, Fault};
use crate::counters;
use crate::receiver::{Fate, Peer, Receiver};
use crate::reply::Reply;
use crate::rules::Action;
use crate::wire::{DOT, Piece, Wire};

/// Recipients of one message: what RFC 5321 §4.5.3.1.8 demands at least, times ten.
const RECIPIENTS_MAX: usize = 1000;

const OK: Reply = Reply::of(250, "2.0.0", "Ok");
const SENDER_OK: Reply = Reply::of(250, "2.1.0", "Sender ok");
const GO_AHEAD: Reply = Reply::of(354, "", "End with a dot");
const BYE: Reply = Reply::of(221, "2.0.0", "Bye");
const OUT_OF_TURN: Reply = Reply::of(503, "5.5.1", "Bad sequence of commands");
const NO_RECIPIENTS: Reply = Reply::of(554, "5.5.1", "No valid recipients");
const TOO_MANY_RECIPIENTS: Reply = Reply::of(452, "4.5.3", "Too many recipients");
const TOO_LARGE: Reply = Reply::of(552, "5.3.4", "Message too large");
const TOO_MANY_MESSAGES: Reply = Reply::of(421, "4.7.0", "Too many messages on this connection");
const TOO_MANY_CONNECTIONS: Reply = Reply::of(421, "4.3.2", "Too many connections");

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the replies and read on.
    Read,
    /// Send the replies after this time, then go on with the rest of the input.
    Wait(Duration),
    /// Close at once; replies to earlier commands may still go.
    Drop,
}

impl Next {
    /// What follows a reply: a slow receiver takes its time for each.
    fn after(delay: Duration) -> Next {
        match delay {
            Duration::ZERO => Next::Read,
            delay => Next::Wait(delay),
        }
    }
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No EHLO yet.
    Fresh,
    /// Ready for MAIL.
    Ready,
    /// A sender is known, and recipients as they are accepted.
    Mail,
    /// Between DATA and the final dot.
    Body,
    /// Nothing more will be said.
    Over,
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Session {
    wire: Wire,
    talk: Talk,
}

#[derive(Debug)]
struct Talk {
    stage: Stage,
    out: Vec<u8>,
    /// EHLO was used, so extensions are in force.
    extended: bool,
    peer: Peer,
    envelope: Envelope,
    /// What is to happen to the message: the first action of a recipient that is not `Accept`.
    action: Action,
    /// The body so far, if a check wants it and it did not come in one piece.
    kept: Vec<u8>,
    /// Octets of the body so far.
    octets: u64,
    messages: u64,
}

impl Session {
    pub(crate) fn new(peer: Peer) -> Session {
        Session {
            wire: Wire::default(),
            talk: Talk {
                stage: Stage::Fresh,
                out: Vec::new(),
                extended: false,
                peer,
                envelope: Envelope::default(),
                action: Action::Accept,
                kept: Vec::new(),
                octets: 0,
                messages: 0,
            },
        }
    }

    /// Whom it is with.
    pub(crate) fn peer(&self) -> &Peer {
        &self.talk.peer
    }

    /// The greeting.
    pub(crate) fn greet(&mut self, receiver: &Receiver) -> Next {
        let greeting = &receiver.behaviour(&self.talk.peer).greeting;
        if greeting.code() == 220 {
            self.talk.say(greeting, receiver)
        } else {
            self.talk.say_last(greeting, receiver)
        }
    }

    /// The greeting of a receiver that has too many connections already.
    pub(crate) fn refuse(&mut self, receiver: &Receiver) -> Next {
        self.talk.say_last(&TOO_MANY_CONNECTIONS, receiver)
    }

    /// Nothing more will be said after what is in `out`.
    pub(crate) fn is_over(&self) -> bool {
        self.talk.stage == Stage::Over
    }

    /// Replies that wait to be sent.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.talk.out
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn in_body(&self) -> bool {
        self.wire.in_body()
    }

    /// Takes octets of the client, received at `now`; returns how many were used. Those left over
    /// are to be fed again after the wait.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        receiver: &mut Receiver,
        now: Duration,
    ) -> (usize, Next) {
        let mut used = 0;
        while used < input.len() && self.talk.stage != Stage::Over {
            let (taken, piece) = self.wire.next(&input[used..]);
            used += taken;
            let replied = matches!(piece, Piece::Line { .. } | Piece::End(_));
            let next = match piece {
                Piece::Nothing => Next::Read,
                Piece::Line { text, bare } => {
                    counters::add(&receiver.counters.bare_lf_commands, u64::from(bare));
                    self.talk.line(text, receiver, now)
                }
                Piece::Overlong => self.talk.overlong(receiver),
                Piece::Body(part) => self.talk.part(part, receiver),
                Piece::End(part) => self.talk.end(part, receiver),
            };
            if replied && used < input.len() {
                self.talk.note_haste(receiver);
            }
            if self.talk.stage == Stage::Body && !self.wire.in_body() {
                self.wire.expect_body();
            }
            if next != Next::Read {
                return (used, next);
            }
        }
        (used, Next::Read)
    }
}

impl Talk {
    fn say(&mut self, reply: &Reply, receiver: &Receiver) -> Next {
        let behaviour = receiver.behaviour(&self.peer);
        let codes = behaviour.extensions.enhanced_status_codes;
        reply.push(&mut self.out, codes && self.extended);
        Next::after(behaviour.delay)
    }

    fn say_last(&mut self, reply: &Reply, receiver: &Receiver) -> Next {
        self.stage = Stage::Over;
        self.say(reply, receiver)
    }

    fn drop(&mut self) -> Next {
        self.stage = Stage::Over;
        Next::Drop
    }

    /// More octets followed a command whose reply was not yet out.
    fn note_haste(&self, receiver: &Receiver) {
        if self.stage == Stage::Body {
            counters::add(&receiver.counters.eager_bodies, 1);
        } else if !(self.extended && receiver.behaviour(&self.peer).extensions.pipelining) {
            counters::add(&receiver.counters.unasked_pipelining, 1);
        }
    }

    fn line(&mut self, text: &[u8], receiver: &mut Receiver, now: Duration) -> Next {
        match command::parse(text) {
            Ok(Command::Ehlo) if receiver.behaviour(&self.peer).helo_only => {
                self.bad(&Reply::of(502, "5.5.1", "Command not implemented"), receiver)
            }
            Ok(Command::Ehlo) => self.ehlo(receiver),
            Ok(Command::Helo) => {
                self.extended = false;
                self.reset(Stage::Ready);
                self.say(&Reply::of(250, "", "sink.test"), receiver)
            }
            Ok(Command::Mail { from, size, body }) => self.mail(from, size, body, receiver),
            Ok(Command::Rcpt { to }) => self.rcpt(to, receiver, now),
            Ok(Command::Data) => self.data(receiver),
            Ok(Command::Rset) => {
                let stage = if self.stage == Stage::Fresh { Stage::Fresh } else { Stage::Ready };
                self.reset(stage);
                self.say(&OK, receiver)
            }
            Ok(Command::Noop) => self.say(&OK, receiver),
            Ok(Command::Quit) => self.say_last(&BYE, receiver),
            Err(fault) => self.bad(&fault_reply(fault), receiver),
        }
    }

    fn bad(&mut self, reply: &Reply, receiver: &Receiver) -> Next {
        counters::add(&receiver.counters.bad_commands, 1);
        self.say(reply, receiver)
    }

    fn overlong(&mut self, receiver: &Receiver) -> Next {
        counters::add(&receiver.counters.bad_commands, 1);
        self.say_last(&Reply::of(500, "5.5.2", "Line too long"), receiver)
    }

    fn ehlo(&mut self, receiver: &Receiver) -> Next {
        self.extended = true;
        self.reset(Stage::Ready);
        let behaviour = receiver.behaviour(&self.peer);
        let offers = behaviour.extensions;
        let size = format!("SIZE {}", behaviour.message_bytes_max);
        let lines = [
            (true, "sink.test"),
            (offers.pipelining, "PIPELINING"),
            (offers.eight_bit_mime, "8BITMIME"),
            (offers.size, &*size),
            (offers.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
        ];
        let mut offered = lines.iter().filter(|(offered, _)| *offered).peekable();
        while let Some((_, line)) = offered.next() {
            let dash = if offered.peek().is_some() { '-' } else { ' ' };
            self.out.extend_from_slice(format!("250{dash}{line}\r\n").as_bytes());
        }
        Next::after(behaviour.delay)
    }

    fn mail(&mut self, from: &[u8], size: Option<u64>, body: bool, receiver: &Receiver) -> Next {
        let behaviour = receiver.behaviour(&self.peer);
        if self.stage != Stage::Ready {
            return self.bad(&OUT_OF_TURN, receiver);
        }
        if behaviour.messages_per_connection_max.is_some_and(|most| self.messages >= most) {
            if behaviour.close_silently {
                return self.drop();
            }
            return self.say_last(&TOO_MANY_MESSAGES, receiver);
        }
        let offers = behaviour.extensions;
        let sized = self.extended && offers.size;
        let bodied = self.extended && offers.eight_bit_mime;
        if size.is_some() && !sized || body && !bodied {
            return self.bad(&fault_reply(Fault::Parameter), receiver);
        }
        if size.is_some_and(|size| size > behaviour.message_bytes_max) {
            return self.say(&TOO_LARGE, receiver);
        }
        self.envelope.from.extend_from_slice(from);
        self.stage = Stage::Mail;
        self.say(&SENDER_OK, receiver)
    }

    fn rcpt(&mut self, to: &[u8], receiver: &mut Receiver, now: Duration) -> Next {
        if self.stage != Stage::Mail {
            return self.bad(&OUT_OF_TURN, receiver);
        }
        if self.envelope.to.len() == RECIPIENTS_MAX {
            return self.say(&TOO_MANY_RECIPIENTS, receiver);
        }
        let (reply, action) = receiver.recipient(&self.peer, (&self.envelope.from, to), now);
        if reply.code() < 300 {
            self.envelope.to.push(to.to_vec());
            if self.action == Action::Accept {
                self.action = action;
            }
        }
        if reply.code() == 421 {
            return self.say_last(&reply, receiver);
        }
        self.say(&reply, receiver)
    }

    fn data(&mut self, receiver: &Receiver) -> Next {
        if self.stage != Stage::Mail {
            return self.bad(&OUT_OF_TURN, receiver);
        }
        if self.envelope.to.is_empty() {
            // Expected of a client that pipelines (RFC 2920 §3.1), so not a bad command.
            return self.say(&NO_RECIPIENTS, receiver);
        }
        self.stage = Stage::Body;
        self.say(&GO_AHEAD, receiver)
    }

    fn part(&mut self, part: &[u8], receiver: &Receiver) -> Next {
        self.octets += part.len() as u64;
        let fits = self.octets <= receiver.behaviour(&self.peer).message_bytes_max + DOT as u64;
        if receiver.inspection.wants_messages() && fits {
            self.kept.extend_from_slice(part);
        }
        Next::Read
    }

    fn end(&mut self, part: &[u8], receiver: &mut Receiver) -> Next {
        let in_one_piece = self.octets == 0;
        if in_one_piece {
            self.octets = part.len() as u64;
        } else {
            self.part(part, receiver);
        }
        let octets = self.octets - DOT as u64;
        let kept = if in_one_piece { part } else { &self.kept };
        let kept = &kept[..kept.len().saturating_sub(DOT)];
        let fate = receiver.message(&self.peer, &self.envelope, &self.action, (octets, kept));
        if matches!(fate, Fate::Accepted(_) | Fate::AcceptedUnsaid) {
            self.messages += 1;
            counters::raise(&receiver.counters.messages_per_connection_max, self.messages);
        }
        self.reset(Stage::Ready);
        if receiver.behaviour(&self.peer).close_after_each {
            self.stage = Stage::Over;
        }
        match fate {
            Fate::Dropped | Fate::AcceptedUnsaid => self.drop(),
            // 421 is the receiver's farewell (RFC 5321 §3.8).
            Fate::Refused(reply) if reply.code() == 421 => self.say_last(&reply, receiver),
            Fate::Refused(reply) => self.say(&reply, receiver),
            Fate::Accepted(late) => slower(self.say(&OK, receiver), late),
        }
    }

    fn reset(&mut self, stage: Stage) {
        self.stage = stage;
        self.envelope.from.clear();
        self.envelope.to.clear();
        self.action = Action::Accept;
        // Not cleared but freed: 10,000 idle connections shall not keep a message each.
        self.kept = Vec::new();
        self.octets = 0;
    }
}

fn slower(next: Next, late: Duration) -> Next {
    match next {
        next if late.is_zero() => next,
        Next::Wait(delay) => Next::Wait(delay + late),
        _ => Next::Wait(late),
    }
}

fn fault_reply(fault: Fault) -> Reply {
    match fault {
        Fault::Unknown => Reply::of(502, "5.5.1", "Command not implemented"),
        Fault::Arguments => Reply::of(501, "5.5.4", "Syntax error in arguments"),
        Fault::NotAscii => Reply::of(553, "5.6.7", "Address outside ASCII"),
        Fault::Parameter => Reply::of(555, "5.5.4", "Parameter not recognised"),
    }
}

#[cfg(test)]
mod tests;
