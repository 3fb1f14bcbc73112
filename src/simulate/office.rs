//! office — the providers of a world at work: they speak SMTP as far as our side does, and act on
//! their [`Habits`].
//!
//! A message is taken by its dot; what is in it does not matter. What reaches a provider is counted
//! by its [`Witness`], for itself, per source and over all sources. It cannot fail. It must not
//! know limits, rules or anything else of the sender.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use memchr::memmem;

use super::chance::{Chance, scattered};
use super::provider::{Habits, UNUSUAL_RATE, UNUSUAL_RATE_SILENCE, What};
use super::ring::{Far, Receivers};
use super::witness::{Counters, Spoken, Witness};
use crate::outcome::Stage;
use crate::units::Tick;

const TOO_MANY_CONNECTIONS: &str = "421 4.7.0 too many connections from your IP address";
const GREYLISTED: &str = "450 4.2.0 Greylisted, please come back later";
const NOT_NOW: &str = "450 4.2.1 The mailbox is busy, please try again later";
const NO_MAILBOX: &str = "550 5.1.1 No such user here";
const EHLO: &str = "250-provider.example\r\n250-PIPELINING\r\n250 8BITMIME";
const EHLO_PLAIN: &str = "250-provider.example\r\n250 8BITMIME";

/// What a connection expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Commands,
    /// After 354, up to the dot.
    Message,
    /// Nothing any more.
    Nothing,
}

/// One connection.
#[derive(Debug, Default)]
struct Line {
    number: usize,
    provider: usize,
    host: usize,
    /// Of its witness' sources.
    source: usize,
    expects: Expects,
    /// Octets of an unfinished command or message.
    input: Vec<u8>,
    mail: bool,
    /// A recipient was accepted.
    rcpt: bool,
    messages: u32,
    /// The rate was too high when its message began.
    too_fast: bool,
    open: bool,
}

impl Line {
    /// Where the command or message that begins at `start` ends, once it is there.
    fn end(&self, start: usize) -> Option<usize> {
        let rest = &self.input[start..];
        let length = match self.expects {
            Expects::Nothing => None,
            Expects::Commands => memchr::memchr(b'\n', rest).map(|at| at + 1),
            Expects::Message if rest.starts_with(b".\r\n") => Some(3),
            Expects::Message => memmem::find(rest, b"\r\n.\r\n").map(|at| at + 5),
        };
        length.map(|length| start + length)
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It goes on.
    Open,
    /// It is closed.
    Closed,
    /// It is closed, and its source is to be silent for so long.
    Silence(Duration),
}

/// A provider with what it knows.
struct Office {
    habits: Habits,
    chance: Chance,
    seed: u64,
    witness: Witness,
    /// When a source first named a recipient.
    seen: HashMap<(usize, u64), Tick>,
}

impl Office {
    /// The counters of a source.
    fn source(&mut self, from: Option<IpAddr>) -> usize {
        let sources = &mut self.witness.sources;
        sources.iter().position(|known| known.source == from).unwrap_or_else(|| {
            let Habits { rates, watched, .. } = &self.habits;
            sources.push(Counters::new(from, rates, watched));
            sources.len() - 1
        })
    }

    fn opened(&mut self, number: usize, source: usize, now: Tick) {
        let counters = &mut self.witness.sources[source];
        counters.opened();
        let breach = counters.broken(number, now, Spoken::Connection);
        self.witness.breaches.extend(breach);
        self.witness.total.opened();
    }

    fn left(&mut self, line: &mut Line) {
        if std::mem::take(&mut line.open) {
            self.witness.sources[line.source].closed(line.number);
            self.witness.total.closed(line.number);
        }
    }

    fn is_full(&self, source: usize) -> bool {
        let over = |counters: &Counters, most: Option<u32>| {
            most.is_some_and(|most| counters.connections > most)
        };
        over(&self.witness.sources[source], self.habits.connections)
            || over(&self.witness.total, self.habits.connections_total)
    }

    fn latency(&mut self) -> Duration {
        self.habits.latency.draw(&mut self.chance)
    }

    /// Answers one command, or the message with its dot.
    fn answer(&mut self, line: &mut Line, said: &[u8], now: Tick, reply: &mut Vec<u8>) -> After {
        if line.expects == Expects::Message {
            return self.dot(line, now, reply);
        }
        let words = match said.get(..4).unwrap_or(said) {
            b"MAIL" => return self.mail(line, now, reply),
            b"RCPT" => self.rcpt(line, said, now),
            b"DATA" if line.rcpt => {
                line.expects = Expects::Message;
                "354 Go ahead"
            }
            b"DATA" => "503 5.5.1 RCPT first",
            b"RSET" => {
                (line.mail, line.rcpt) = (false, false);
                "250 2.0.0 Flushed"
            }
            b"EHLO" if self.habits.pipelining => EHLO,
            b"EHLO" | b"HELO" => EHLO_PLAIN,
            b"QUIT" => {
                say(reply, "221 2.0.0 Bye");
                return After::Closed;
            }
            _ => "500 5.5.1 Unknown command",
        };
        say(reply, words);
        After::Open
    }

    /// Counts a message that begins, and answers its MAIL.
    fn mail(&mut self, line: &mut Line, now: Tick, reply: &mut Vec<u8>) -> After {
        let Habits { messages_per_connection, rate_at, noting, .. } = self.habits;
        let witness = &mut self.witness;
        line.messages += 1;
        witness.messages_most = witness.messages_most.max(line.messages);
        witness.first.get_or_insert(now);
        if noting {
            witness.begins.push((now, line.source));
        }
        let counters = &mut witness.sources[line.source];
        witness.breaches.extend(counters.broken(line.number, now, Spoken::Message));
        line.too_fast = counters.begun(now) | witness.total.begun(now);
        if messages_per_connection.is_some_and(|most| line.messages > most) {
            return After::Closed;
        }
        if let Some(What::Demands(words, silence)) = self.habits.trouble(line.host, now) {
            say(reply, words);
            witness.deferred += 1;
            return After::Silence(*silence);
        }
        if line.too_fast && rate_at == Stage::Mail {
            return self.slow_down(reply);
        }
        (line.mail, line.rcpt) = (true, false);
        say(reply, "250 2.1.0 OK");
        After::Open
    }

    fn slow_down(&mut self, reply: &mut Vec<u8>) -> After {
        say(reply, UNUSUAL_RATE);
        self.witness.deferred += 1;
        After::Silence(UNUSUAL_RATE_SILENCE)
    }

    fn rcpt(&mut self, line: &mut Line, said: &[u8], now: Tick) -> &'static str {
        if !line.mail {
            return "503 5.5.1 MAIL first";
        }
        let recipient = name(said);
        // A recipient is the same for ever, an attempt is not.
        if scattered(self.seed ^ recipient) % 1_000 < u64::from(self.habits.bad) {
            self.witness.refused += 1;
            return NO_MAILBOX;
        }
        let greylisted = self.habits.greylist.is_some_and(|wait| {
            now < self.seen.entry((line.source, recipient)).or_insert(now).after(wait)
        });
        if greylisted || self.chance.happens(self.habits.deferred.into()) {
            self.witness.deferred += 1;
            return if greylisted { GREYLISTED } else { NOT_NOW };
        }
        line.rcpt = true;
        "250 2.1.5 OK"
    }

    fn dot(&mut self, line: &mut Line, now: Tick, reply: &mut Vec<u8>) -> After {
        line.expects = Expects::Commands;
        (line.mail, line.rcpt) = (false, false);
        if line.too_fast && self.habits.rate_at == Stage::Dot {
            return self.slow_down(reply);
        }
        self.witness.accepted += 1;
        self.witness.last = Some(now);
        self.witness.sources[line.source].accepted(now);
        say(reply, "250 2.0.0 OK");
        After::Open
    }
}

/// All providers of a world.
pub struct Providers {
    offices: Vec<Office>,
    /// By address: which provider, and which of its hosts.
    hosts: HashMap<IpAddr, (usize, usize)>,
    lines: Vec<Line>,
    reply: Vec<u8>,
}

impl Providers {
    /// Providers with these habits; a seed makes the same world again.
    ///
    /// # Panics
    /// When two hosts have one address.
    pub fn new(habits: Vec<Habits>, seed: u64) -> Providers {
        let mut hosts = HashMap::new();
        for (provider, habits) in habits.iter().enumerate() {
            for (host, address) in habits.hosts.iter().enumerate() {
                let other = hosts.insert(*address, (provider, host));
                assert_eq!(other, None, "{address} is one mail host");
            }
        }
        let office = |(number, habits): (u64, Habits)| Office {
            witness: Witness::new(&habits.rates_total, &habits.watched),
            chance: Chance::new(scattered(seed ^ (number + 1).rotate_left(32))),
            seed: scattered(seed.wrapping_add(number)),
            habits,
            seen: HashMap::new(),
        };
        let offices = (0..).zip(habits).map(office).collect();
        Providers { offices, hosts, lines: Vec::new(), reply: Vec::new() }
    }

    /// What each of them saw, in the order of their habits.
    pub fn witnesses(&self) -> impl Iterator<Item = &Witness> {
        self.offices.iter().map(|office| &office.witness)
    }

    /// The sender's process came to its end: no connection of it is left, and the next one knows
    /// of no silence. What was counted stays.
    pub fn hung_up(&mut self) {
        for line in &mut self.lines {
            self.offices[line.provider].left(line);
        }
        for office in &mut self.offices {
            office.witness.sources.iter_mut().for_each(Counters::forgotten);
        }
    }
}

impl Receivers for Providers {
    fn called(&mut self, far: &mut Far<'_>, to: SocketAddr, from: Option<IpAddr>) {
        let number = far.number();
        if number >= self.lines.len() {
            self.lines.resize_with(number + 1, Line::default);
        }
        let mut input = std::mem::take(&mut self.lines[number].input);
        input.clear();
        let Some((provider, host)) = self.hosts.get(&to.ip()).copied() else {
            self.lines[number] = Line { input, ..Line::default() };
            return far.fail(Duration::ZERO, libc::EHOSTUNREACH);
        };
        let office = &mut self.offices[provider];
        let source = office.source(from);
        let line = Line { number, provider, host, source, input, open: true, ..Line::default() };
        self.lines[number] = line;
        office.opened(number, source, far.now());
        let after = office.latency();
        match office.habits.trouble(host, far.now()) {
            Some(What::Refuses) => far.fail(after, libc::ECONNREFUSED),
            Some(What::Silent) => {}
            Some(What::Greets(_) | What::Demands(..)) | None => far.stand(after),
        }
    }

    fn connected(&mut self, far: &mut Far<'_>) {
        let line = &mut self.lines[far.number()];
        let office = &mut self.offices[line.provider];
        let after = office.latency();
        let turned_away = match office.habits.trouble(line.host, far.now()) {
            Some(What::Greets(words)) => Some(*words),
            _ => office.is_full(line.source).then_some(TOO_MANY_CONNECTIONS),
        };
        self.reply.clear();
        say(&mut self.reply, turned_away.unwrap_or("220 provider.example ESMTP"));
        far.say(after, &self.reply);
        if turned_away.is_some() {
            line.expects = Expects::Nothing;
            far.close(after);
        }
    }

    fn heard(&mut self, far: &mut Far<'_>, octets: &[u8]) {
        let line = &mut self.lines[far.number()];
        let office = &mut self.offices[line.provider];
        match office.habits.trouble(line.host, far.now()) {
            Some(What::Refuses) => {
                line.expects = Expects::Nothing;
                far.fail(Duration::ZERO, libc::ECONNRESET);
            }
            Some(What::Silent) => line.expects = Expects::Nothing,
            Some(What::Greets(_) | What::Demands(..)) | None => {}
        }
        line.input.extend_from_slice(octets);
        self.reply.clear();
        let (mut done, mut becomes) = (0, After::Open);
        while becomes == After::Open
            && let Some(end) = line.end(done)
        {
            let input = std::mem::take(&mut line.input);
            becomes = office.answer(line, &input[done..end], far.now(), &mut self.reply);
            line.input = input;
            done = end;
        }
        line.input.drain(..done);
        let after = office.latency();
        let mut heard = far.now();
        if !self.reply.is_empty() {
            heard = far.say(after, &self.reply);
        }
        if becomes != After::Open {
            line.expects = Expects::Nothing;
            far.close(after);
        }
        if let After::Silence(silence) = becomes {
            office.witness.sources[line.source].silenced(heard, heard.after(silence));
        }
    }

    fn left(&mut self, number: usize, _now: Tick) {
        let line = &mut self.lines[number];
        self.offices[line.provider].left(line);
    }

    fn way(&mut self, number: usize) -> Duration {
        let office = &mut self.offices[self.lines[number].provider];
        match u64::try_from(office.habits.way.as_nanos()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            most => Duration::from_nanos(office.chance.between(0, most)),
        }
    }
}

/// Appends a reply.
fn say(reply: &mut Vec<u8>, words: &str) {
    reply.extend_from_slice(words.as_bytes());
    reply.extend_from_slice(b"\r\n");
}

/// A number for the path of a RCPT command: FNV-1a over what stands between its brackets.
fn name(command: &[u8]) -> u64 {
    let path = command.split(|octet| *octet == b'<').nth(1).unwrap_or(command);
    let path = path.split(|octet| *octet == b'>').next().unwrap_or(path);
    path.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3)
    })
}
