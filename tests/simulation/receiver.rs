//! receiver — the receiving side of one simulated connection: octets in, what it does out.
//!
//! It follows RFC 5321 strictly, writes down every breach of ours, and has the faults of its
//! [`Personality`]. What it stored is in the [`Office`], which all connections share.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use mailshot::simulate::Chance;

use crate::personality::{Deed, Personality, Point};

/// What a receiver does, after so much time.
pub(crate) enum Act {
    Say(Duration, Vec<u8>),
    Close,
    Reset,
}

/// A message as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) row: u32,
    pub(crate) attempt: u16,
}

/// What all receivers know together.
#[derive(Default)]
pub(crate) struct Office {
    pub(crate) stored: Vec<Stored>,
    /// What a correct sender never does.
    pub(crate) breaches: Vec<String>,
    /// Recipients that the greylist has seen, and when.
    seen: BTreeMap<u32, Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Commands,
    /// After 354, up to the dot; the message counts when it has a recipient.
    Data,
    /// After an early refusal: everything up to the dot is thrown away.
    Discard,
    /// It hears nothing any more.
    Deaf,
}

/// One connection at the receiver.
pub(crate) struct Receiver {
    personality: Rc<Personality>,
    state: State,
    input: Vec<u8>,
    mail_open: bool,
    /// The recipient that was accepted.
    rcpt: Option<u32>,
    /// Messages that ended on this connection, and MAIL commands.
    pub(crate) messages: u32,
    pub(crate) mails: u32,
    body_seen: bool,
    /// It said what it offers.
    extended: bool,
}

impl Receiver {
    pub(crate) fn new(personality: &Rc<Personality>) -> Receiver {
        Receiver {
            personality: Rc::clone(personality),
            state: State::Commands,
            input: Vec::new(),
            mail_open: false,
            rcpt: None,
            messages: 0,
            mails: 0,
            body_seen: false,
            extended: false,
        }
    }

    pub(crate) fn personality(&self) -> &Personality {
        &self.personality
    }

    /// What happens to a connection before it stands.
    pub(crate) fn unconnected(&self, chance: &mut Chance) -> Option<Deed> {
        self.fault(Point::Connect, chance)
    }

    /// Somebody connected.
    pub(crate) fn greet(&mut self, chance: &mut Chance) -> Vec<Act> {
        self.answer(Point::Banner, "220 sim.example ESMTP\r\n", chance).0
    }

    /// How long the message that begins now stays unread.
    pub(crate) fn unread(&self, chance: &mut Chance) -> Option<Duration> {
        match self.fault(Point::Body, chance) {
            Some(Deed::Unread(pause)) => Some(pause),
            _ => None,
        }
    }

    pub(crate) fn hear(
        &mut self,
        octets: &[u8],
        now: Duration,
        office: &mut Office,
        chance: &mut Chance,
    ) -> Vec<Act> {
        self.input.extend_from_slice(octets);
        let mut acts = Vec::new();
        loop {
            let more = match self.state {
                State::Deaf => return acts,
                State::Commands => self.command(now, office, chance),
                State::Data => self.data(office, chance),
                State::Discard => {
                    if self.take_message().is_some() {
                        self.state = State::Commands;
                        Some(Vec::new())
                    } else {
                        None
                    }
                }
            };
            match more {
                Some(more) => acts.extend(more),
                None => return acts,
            }
        }
    }

    fn command(
        &mut self,
        now: Duration,
        office: &mut Office,
        chance: &mut Chance,
    ) -> Option<Vec<Act>> {
        let end = self.input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..end + 2);
        let verb = line.get(..4).unwrap_or(&line).to_owned();
        let alone = !self.personality.pipelining || matches!(&*verb, "EHLO" | "DATA" | "QUIT");
        if alone && !self.input.is_empty() && self.personality.is_in_step() {
            office.breaches.push(format!("octets behind {line:?} before its reply"));
        }
        Some(match &*verb {
            "EHLO" | "HELO" => self.hello(&verb, chance),
            "MAIL" => self.mail(&line, office, chance),
            "RCPT" => self.recipient(&line, now, office, chance),
            "DATA" => self.begin_data(chance),
            "RSET" => {
                (self.mail_open, self.rcpt) = (false, None);
                self.answer(Point::Rset, "250 2.0.0 reset\r\n", chance).0
            }
            "QUIT" => {
                let (mut acts, done) = self.answer(Point::Quit, "221 2.0.0 bye\r\n", chance);
                acts.extend(done.then_some(Act::Close));
                self.state = State::Deaf;
                acts
            }
            _ => self.answer(Point::Other, "500 5.5.1 what\r\n", chance).0,
        })
    }

    fn hello(&mut self, verb: &str, chance: &mut Chance) -> Vec<Act> {
        let usual = match (verb, self.personality.ehlo) {
            ("EHLO", false) => "502 5.5.1 what is that\r\n".to_owned(),
            ("EHLO", true) => self.keywords(),
            _ => "250 sim.example\r\n".to_owned(),
        };
        let acts = self.answer(Point::Ehlo, &usual, chance).0;
        self.extended |= acts
            .iter()
            .any(|act| matches!(act, Act::Say(_, octets) if octets.starts_with(b"250-sim")));
        acts
    }

    fn keywords(&self) -> String {
        let mut text = String::from("250-sim.example\r\n");
        if self.personality.pipelining {
            text.push_str("250-PIPELINING\r\n");
        }
        if let Some(size) = self.personality.size {
            text.push_str(&format!("250-SIZE {size}\r\n"));
        }
        if let Some(most) = self.personality.mail_max {
            text.push_str(&format!("250-LIMITS MAILMAX={most}\r\n"));
        }
        text + "250 8BITMIME\r\n"
    }

    fn mail(&mut self, line: &str, office: &mut Office, chance: &mut Chance) -> Vec<Act> {
        self.mails += 1;
        if self.extended && self.personality.mail_max.is_some_and(|most| self.mails > most) {
            office.breaches.push(format!("message {} on a connection: {line:?}", self.mails));
        }
        if self.mail_open && self.personality.is_in_step() {
            office.breaches.push(format!("nested {line:?}"));
        }
        let (acts, done) = self.answer(Point::Mail, "250 2.1.0 ok\r\n", chance);
        self.mail_open = done;
        self.rcpt = None;
        acts
    }

    fn recipient(
        &mut self,
        line: &str,
        now: Duration,
        office: &mut Office,
        chance: &mut Chance,
    ) -> Vec<Act> {
        if !self.mail_open {
            return self.answer(Point::Other, "503 5.5.1 MAIL first\r\n", chance).0;
        }
        let digits = line.trim_start_matches("RCPT TO:<r").split('@').next();
        let row: u32 = digits.and_then(|digits| digits.parse().ok()).expect("a row's address");
        if let Some(wait) = self.personality.greylist
            && now < *office.seen.entry(row).or_insert(now) + wait
        {
            return self.answer(Point::Other, "450 4.2.0 greylisted\r\n", chance).0;
        }
        let (acts, done) = self.answer(Point::Rcpt, "250 2.1.5 ok\r\n", chance);
        self.rcpt = done.then_some(row);
        acts
    }

    fn begin_data(&mut self, chance: &mut Chance) -> Vec<Act> {
        let anyway = self.mail_open && self.personality.data_anyway;
        if self.rcpt.is_none() && !anyway {
            return self.answer(Point::Other, "503 5.5.1 RCPT first\r\n", chance).0;
        }
        let (acts, done) = self.answer(Point::Data, "354 go\r\n", chance);
        if done {
            self.state = State::Data;
            self.body_seen = false;
        }
        acts
    }

    fn data(&mut self, office: &mut Office, chance: &mut Chance) -> Option<Vec<Act>> {
        if !self.input.is_empty() && !self.body_seen && self.rcpt.is_some() {
            self.body_seen = true;
            if let Some(acts) = self.early(chance) {
                return Some(acts);
            }
        }
        let message = self.take_message()?;
        self.state = State::Commands;
        self.mail_open = false;
        self.messages += 1;
        let Some(row) = self.rcpt.take() else {
            if !message.is_empty() {
                office.breaches.push("a message for a refused recipient".to_owned());
            }
            return Some(self.answer(Point::Other, "554 5.5.1 no recipients\r\n", chance).0);
        };
        if message.is_empty() {
            return Some(self.answer(Point::Other, "554 5.6.0 nothing\r\n", chance).0);
        }
        if !self.personality.pipelining && !self.input.is_empty() {
            office.breaches.push("octets behind the final dot before its reply".to_owned());
        }
        let stored = stored(row, &message);
        let (acts, done) = match self.fault(Point::Dot, chance) {
            Some(Deed::StoreAndClose) => (self.end(Act::Close), true),
            Some(Deed::StoreAndReset) => (self.end(Act::Reset), true),
            Some(Deed::StoreInSilence) => {
                self.state = State::Deaf;
                (Vec::new(), true)
            }
            fault => self.react(fault, "250 2.0.0 stored\r\n", chance),
        };
        if done {
            office.stored.push(stored);
        }
        Some(acts)
    }

    /// A fault in the middle of the data.
    fn early(&mut self, chance: &mut Chance) -> Option<Vec<Act>> {
        // How long a message stays unread was the ring's to ask.
        let deed = self.fault(Point::Body, chance);
        let deed = deed.filter(|deed| !matches!(deed, Deed::Unread(_)))?;
        (self.mail_open, self.rcpt) = (false, None);
        self.state = State::Discard;
        Some(self.react(Some(deed), "", chance).0)
    }

    /// The message up to its final dot, once that is there.
    fn take_message(&mut self) -> Option<Vec<u8>> {
        if self.input.starts_with(b".\r\n") {
            self.input.drain(..3);
            return Some(Vec::new());
        }
        let end = self.input.windows(5).position(|five| five == b"\r\n.\r\n")?;
        let message = self.input[..end + 2].to_vec();
        self.input.drain(..end + 5);
        Some(message)
    }

    fn fault(&self, point: Point, chance: &mut Chance) -> Option<Deed> {
        let here = self.personality.faults.iter();
        here.filter(|fault| fault.point == point && fault.from_message <= self.messages)
            .find(|fault| chance.happens(fault.permille))
            .map(|fault| fault.deed.clone())
    }

    fn answer(&mut self, point: Point, usual: &str, chance: &mut Chance) -> (Vec<Act>, bool) {
        let fault = self.fault(point, chance);
        self.react(fault, usual, chance)
    }

    /// What is done, and whether the command was done.
    fn react(&mut self, fault: Option<Deed>, usual: &str, chance: &mut Chance) -> (Vec<Act>, bool) {
        let (low, high) = self.personality.thinks;
        let thought = Duration::from_micros(chance.between(low, high));
        let say = |text: &str| Act::Say(thought, text.as_bytes().to_vec());
        match fault {
            None => (vec![say(usual)], usual.as_bytes()[0] < b'4'),
            Some(Deed::Say(text)) => {
                let done = matches!(text.as_bytes().first(), Some(b'2'));
                (vec![say(&format!("{text}\r\n"))], done && text != "2x0 ok")
            }
            Some(Deed::SayAndClose(text)) => {
                self.state = State::Deaf;
                (vec![say(&format!("{text}\r\n")), Act::Close], false)
            }
            Some(Deed::Extra(text)) => {
                (vec![say(&format!("{usual}{text}\r\n"))], usual.as_bytes()[0] < b'4')
            }
            Some(Deed::Late(late)) => {
                let octets = usual.as_bytes().to_vec();
                (vec![Act::Say(thought + late, octets)], usual.as_bytes()[0] < b'4')
            }
            Some(Deed::Close) => (self.end(Act::Close), false),
            Some(Deed::Reset) => (self.end(Act::Reset), false),
            Some(Deed::Endless) => {
                let line = "250-still talking\r\n";
                self.state = State::Deaf;
                ((0..200).map(|_| say(line)).collect(), false)
            }
            Some(_silence) => {
                self.state = State::Deaf;
                (Vec::new(), false)
            }
        }
    }

    fn end(&mut self, act: Act) -> Vec<Act> {
        self.state = State::Deaf;
        vec![act]
    }
}

/// Reads row and attempt back out of a message, and that they came whole.
fn stored(row: u32, message: &[u8]) -> Stored {
    let text = std::str::from_utf8(message).expect("messages of the tests are ASCII");
    let mut words = text.lines().next().unwrap_or("").split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
    let (_, said, attempt) = (number(), number(), number());
    assert_eq!(said, Some(row), "the message of another row arrived: {text:?}");
    let attempt = attempt.and_then(|attempt| u16::try_from(attempt).ok()).expect("an attempt");
    assert_eq!(text, crate::ring::message(row, attempt), "a message arrives as it was made");
    Stored { row, attempt }
}
