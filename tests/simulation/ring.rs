//! ring — the simulated ring under watch: kills and stops at a given wait, look-ups in the ledger
//! before octets leave, and notes of what the delivery stage asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use mailshot::deliver::Order;
use mailshot::ledger::{self, Record};
use mailshot::outcome::Row;
use mailshot::rates::Who;
use mailshot::ring::{ConnId, Event, Events, Parcel, Ring, RingError};
use mailshot::simulate::ring::STALLED;
use mailshot::simulate::{Chance, Far, Receivers, SimRing};
use mailshot::units::{Tick, Utc};

use crate::personality::{Deed, Personality};
use crate::receiver::{Act, Office, Receiver};

/// The wall clock at tick zero: 2026-11-21, 20:00 UTC, so that long runs pass midnight.
pub(crate) const BEGUN: Utc = Utc(1_795_291_200_000_000);
/// Waits of one run; a run of the tests needs a tenth of them.
const WAITS_MAX: u64 = 400_000;
/// How often the operator resumes what was halted, before the run is cancelled.
const RESUMES: u32 = 3;

/// A message was begun: its MAIL left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) at: Tick,
    /// A parcel was under way until this moment, so it may have been begun earlier.
    pub(crate) held_up: bool,
}

/// How a connection ended for us: when it was last heard of, and when it was closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) last_told: Tick,
    pub(crate) at: Tick,
}

/// What was noted while the ring worked.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) begins: Vec<Begin>,
    /// When somebody was called.
    pub(crate) calls: Vec<Tick>,
    pub(crate) closings: Vec<Closing>,
    pub(crate) open_most: usize,
    pub(crate) trace: u64,
}

/// What happens to the process.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The wait at which it is killed.
    pub(crate) killed_at: Option<u64>,
    /// The wait at which it is asked to stop.
    pub(crate) stopped_at: Option<u64>,
    /// Where the ledger is, and of how many messages one is looked up there; 0 for none.
    pub(crate) ledger: (PathBuf, u64),
}

/// A connection as the stage sees it.
#[derive(Clone, Copy)]
struct Link {
    /// The number of the wait in which its last parcel was told as sent.
    sent_in: u64,
    last_told: Tick,
}

/// A simulated ring whose caller is watched.
pub(crate) struct Watched<'a, R> {
    pub(crate) ring: SimRing<R>,
    pub(crate) notes: Notes,
    plan: Plan,
    stop: &'a AtomicBool,
    /// For the choice of what is looked up.
    chance: Chance,
    waits: u64,
    operator: Sender<Order>,
    resumed: u32,
    /// By connection number.
    links: Vec<Option<Link>>,
}

impl<'a, R: Receivers> Watched<'a, R> {
    pub(crate) fn new(
        ring: SimRing<R>,
        plan: Plan,
        chance: Chance,
        (stop, operator): (&'a AtomicBool, Sender<Order>),
    ) -> Watched<'a, R> {
        let (notes, links) = (Notes::default(), Vec::new());
        Watched { ring, notes, plan, stop, chance, waits: 0, operator, resumed: 0, links }
    }

    fn trace(&mut self, octets: &[u8]) {
        // FNV-1a.
        for octet in octets {
            self.notes.trace = (self.notes.trace ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn link(&mut self, conn: ConnId) -> &mut Link {
        let link = self.links[conn.0 as usize].as_mut();
        link.expect("a connection is used only until its close")
    }

    /// Before the first octet of a message leaves, the ledger says that it started.
    fn check_started(&mut self, body: &[u8]) {
        let (dir, every) = &self.plan.ledger;
        if *every == 0 || !self.chance.happens(1_000 / *every) {
            return;
        }
        let text = String::from_utf8_lossy(body);
        let mut words = text.lines().next().unwrap_or("").split(' ').skip(1);
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        let (row, attempt): (u32, u32) = (number(), number());
        let mut last = None;
        let mut see = |_, record: Record<'_>| match record {
            Record::Started { row: of, attempt, .. } if of.0 == row => last = Some(attempt),
            Record::Outcome(outcome) if outcome.row.0 == row => last = None,
            _ => {}
        };
        ledger::replay(dir, "sim", &mut see).expect("the ledger reads while it is written");
        assert_eq!(last.map(u32::from), Some(attempt), "row {row} leaves before it started");
    }

    /// Everything is halted: the operator says that the cause is mended, but not for ever.
    fn operate(&mut self) {
        self.resumed += 1;
        assert!(self.resumed <= RESUMES + 1, "the run waits for nothing: deadlock");
        let order = match self.resumed > RESUMES {
            true => Order::Cancel,
            false => Order::Resume(Who::Everything),
        };
        self.operator.send(order).expect("the stage hears while it waits");
    }

    fn told(&mut self, events: &Events) {
        let (now, waits) = (self.ring.now(), self.waits);
        for event in &events.list {
            match event {
                Event::Connected { conn, .. } | Event::Received { conn, .. } => {
                    self.link(*conn).last_told = now;
                }
                Event::Sent { conn } => *self.link(*conn) = Link { sent_in: waits, last_told: now },
                Event::Broken { .. } | Event::Deadline { .. } => {}
            }
        }
        self.trace(format!("{} {:?}\n", now.0, events.list).as_bytes());
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations of the tests are days")
}

/// The tick of a moment on the wall clock.
pub(crate) fn tick(utc: Utc) -> u64 {
    nanos(utc.since(BEGUN))
}

impl<R: Receivers> Ring for Watched<'_, R> {
    fn now(&self) -> Tick {
        self.ring.now()
    }

    fn utc(&self) -> Utc {
        self.ring.utc()
    }

    fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<ConnId> {
        let conn = self.ring.connect(to, from)?;
        if self.links.len() <= conn.0 as usize {
            self.links.resize(conn.0 as usize + 1, None);
        }
        let last_told = self.now();
        self.links[conn.0 as usize] = Some(Link { sent_in: 0, last_told });
        self.notes.calls.push(last_told);
        let open = self.links.iter().flatten().count();
        self.notes.open_most = self.notes.open_most.max(open);
        self.trace(format!("{} connect {to} {from:?}\n", last_told.0).as_bytes());
        Ok(conn)
    }

    fn send(&mut self, conn: ConnId, parcel: Parcel) {
        if let Some(body) = &parcel.body {
            self.check_started(body.octets());
        }
        let commands = [&parcel.head[..], &parcel.tail[..]].concat();
        self.trace(format!("{} send {} ", self.now().0, conn.0).as_bytes());
        self.trace(&commands);
        if commands.windows(5).any(|five| five == b"MAIL ") {
            let held_up = self.link(conn).sent_in == self.waits;
            self.notes.begins.push(Begin { at: self.ring.now(), held_up });
        }
        self.ring.send(conn, parcel);
    }

    fn deadline(&mut self, conn: ConnId, at: Tick) {
        self.ring.deadline(conn, at);
    }

    fn close(&mut self, conn: ConnId) {
        let last_told = self.link(conn).last_told;
        self.notes.closings.push(Closing { last_told, at: self.now() });
        self.links[conn.0 as usize] = None;
        self.trace(format!("{} close {}\n", self.now().0, conn.0).as_bytes());
        self.ring.close(conn);
    }

    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError> {
        self.waits += 1;
        assert!(self.waits < WAITS_MAX, "the run does not end: livelock");
        if self.plan.killed_at == Some(self.waits) {
            let source = io::ErrorKind::Interrupted.into();
            return Err(RingError::Broken { doing: "being killed", source });
        }
        if self.plan.stopped_at == Some(self.waits) {
            events.clear();
            self.stop.store(true, Ordering::Relaxed);
            self.ring.feeder.stop();
            return Ok(());
        }
        match self.ring.wait(until, events) {
            Err(RingError::Broken { doing: STALLED, .. }) => self.operate(),
            other => other?,
        }
        self.told(events);
        Ok(())
    }
}

/// Faulty receivers at the other end, one for each address from 127.0.0.1 on.
pub(crate) struct Crowd {
    pub(crate) office: Office,
    personalities: Vec<Rc<Personality>>,
    /// By connection.
    receivers: Vec<Option<Receiver>>,
    chance: Chance,
    /// The most MAIL commands that one connection carried.
    pub(crate) mails_most: u32,
}

impl Crowd {
    pub(crate) fn new(personalities: &[Rc<Personality>], office: Office, chance: Chance) -> Crowd {
        let personalities = personalities.to_vec();
        Crowd { office, personalities, receivers: Vec::new(), chance, mails_most: 0 }
    }

    fn receiver(&mut self, number: usize) -> &mut Receiver {
        self.receivers[number].as_mut().expect("somebody was called")
    }

    fn act(&mut self, far: &mut Far<'_>, acts: Vec<Act>) {
        let mut thought = Duration::ZERO;
        for act in acts {
            let latency = self.way(far.number());
            let drip = self.receiver(far.number()).personality().drip;
            match act {
                Act::Say(after, octets) => {
                    thought += after;
                    let Some(pause) = drip else {
                        far.say(thought + latency, &octets);
                        continue;
                    };
                    for (octet, count) in octets.chunks(1).zip(0..) {
                        far.say(thought + latency + pause * count, octet);
                    }
                }
                Act::Close => drop(far.close(thought + latency)),
                Act::Reset => far.fail(thought + latency, libc::ECONNRESET),
            }
        }
    }
}

impl Receivers for Crowd {
    fn called(&mut self, far: &mut Far<'_>, to: SocketAddr, _from: Option<IpAddr>) {
        let number = far.number();
        if self.receivers.len() <= number {
            self.receivers.resize_with(number + 1, || None);
        }
        let IpAddr::V4(ip) = to.ip() else { unreachable!("the tests have IPv4 addresses") };
        let receiver = Receiver::new(&self.personalities[usize::from(ip.octets()[3]) - 1]);
        let deed = receiver.unconnected(&mut self.chance);
        self.receivers[number] = Some(receiver);
        let latency = self.way(number);
        match deed {
            Some(Deed::Refuse) => far.fail(latency, libc::ECONNREFUSED),
            Some(Deed::Unread(late)) => far.stand(latency + late),
            Some(_reset) => {
                far.stand(latency);
                far.fail(latency, libc::ECONNRESET);
            }
            None => far.stand(latency),
        }
    }

    fn connected(&mut self, far: &mut Far<'_>) {
        let receiver = self.receivers[far.number()].as_mut().expect("somebody was called");
        let acts = receiver.greet(&mut self.chance);
        self.act(far, acts);
    }

    fn heard(&mut self, far: &mut Far<'_>, octets: &[u8]) {
        let now = Duration::from_nanos(far.now().0);
        let receiver = self.receivers[far.number()].as_mut().expect("somebody was called");
        let acts = receiver.hear(octets, now, &mut self.office, &mut self.chance);
        self.mails_most = self.mails_most.max(receiver.mails);
        self.act(far, acts);
    }

    fn left(&mut self, _number: usize, _now: Tick) {}

    fn way(&mut self, number: usize) -> Duration {
        let (low, high) = self.receiver(number).personality().latency;
        Duration::from_micros(self.chance.between(low, high))
    }

    fn backlog(&mut self, number: usize, parcel: &Parcel) -> Option<(usize, Duration)> {
        let receiver = self.receivers[number].as_mut().expect("somebody was called");
        let unread = parcel.body.as_ref().and_then(|_| receiver.unread(&mut self.chance));
        if let Some(pause) = unread {
            return Some((parcel.len() / 2, pause));
        }
        let splits = receiver.personality().splits;
        if !self.chance.happens(splits) || parcel.len() <= 2 {
            return None;
        }
        let at_once = self.chance.between(1, parcel.len() as u64 - 1) as usize;
        Some((at_once, Duration::from_nanos(self.chance.between(1, 50_000_000))))
    }
}

/// The message of a row: what it is, and as many lines as the row says.
pub(crate) fn message(row: u32, attempt: u16) -> String {
    let mut text = format!("X-Row: {row} {attempt}\r\n\r\n");
    for line in 0..row * 7 % 40 {
        text.push_str(&format!("line {line} of the message to row {row}\r\n"));
    }
    text
}

/// The same, for the feeder.
pub(crate) fn write_message(row: Row, attempt: u16, text: &mut Vec<u8>) {
    text.extend_from_slice(message(row.0, attempt).as_bytes());
}
