//! ring — a [`Ring`] without a kernel: virtual time, and simulated receivers at the other end.
//!
//! One queue of things that happen, ordered by time; [`Ring::wait`] jumps to the next of them. It
//! keeps the contract of the real ring and holds its caller to it: one parcel at a time, no use
//! after close, memory read only while a parcel is under way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mailshot::ledger::{self, Record};
use mailshot::ring::{ConnId, Deadlines, Event, Events, Parcel, Ring, RingError};
use mailshot::units::{Tick, Utc};

use crate::chance::Chance;
use crate::feeder::Feeder;
use crate::personality::{Deed, Personality};
use crate::receiver::{Act, Office, Receiver};

/// The wall clock at tick zero: 2026-11-21, 20:00 UTC, so that long runs pass midnight.
pub(crate) const BEGUN: Utc = Utc(1_795_291_200_000_000);
/// Waits of one run; a run of the tests needs a tenth of them.
const WAITS_MAX: u64 = 400_000;

/// What happens on a link.
enum Happening {
    Connected,
    /// The kernel takes the parcel under way up to this octet.
    Taken(usize),
    /// Octets reach the receiver.
    Arrives(Vec<u8>),
    /// Octets reach us.
    Heard(Vec<u8>),
    /// The connection ends for us, by this error number.
    Ended(i32),
}

/// One TCP connection, from its beginning until the last octet under way has arrived.
struct Link {
    receiver: Receiver,
    /// Our end, until we close it.
    slot: Option<ConnId>,
    parcel: Option<Parcel>,
    taken: usize,
    /// When the last octets under way arrive, there and here.
    arrives: u64,
    heard: u64,
    /// Told as broken.
    silent: bool,
    connected: bool,
    /// The number of the wait in which its last parcel was told as sent.
    sent_in: u64,
    last_told: Tick,
}

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

/// What the ring noted while it worked.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) begins: Vec<Begin>,
    pub(crate) closings: Vec<Closing>,
    pub(crate) open_most: usize,
    /// The most MAIL commands that one connection carried.
    pub(crate) mails_most: u32,
    pub(crate) trace: u64,
}

/// What a run needs besides its receivers.
pub(crate) struct Plan {
    pub(crate) receivers: Vec<Rc<Personality>>,
    /// How late the process wakes at most, in microseconds.
    pub(crate) late: u64,
    /// The wait at which the process is killed.
    pub(crate) killed_at: Option<u64>,
    /// The wait at which it is asked to stop.
    pub(crate) stopped_at: Option<u64>,
    /// Where the ledger is, and of how many messages one is looked up there.
    pub(crate) ledger: (PathBuf, u64),
}

pub(crate) struct SimRing<'a> {
    pub(crate) office: Office,
    pub(crate) feeder: Feeder,
    pub(crate) notes: Notes,
    plan: Plan,
    stop: &'a std::sync::atomic::AtomicBool,
    chance: Chance,
    now: u64,
    waits: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// By order.
    happenings: std::collections::BTreeMap<u64, Happening>,
    links: Vec<Link>,
    /// The link of each connection.
    slots: Vec<Option<usize>>,
    free: Vec<u32>,
    deadlines: Deadlines,
}

impl<'a> SimRing<'a> {
    pub(crate) fn new(
        plan: Plan,
        (now, office): (Tick, Office),
        feeder: Feeder,
        chance: Chance,
        stop: &'a std::sync::atomic::AtomicBool,
    ) -> SimRing<'a> {
        SimRing {
            office,
            feeder,
            notes: Notes::default(),
            plan,
            stop,
            chance,
            now: now.0,
            waits: 0,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: std::collections::BTreeMap::new(),
            links: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: Deadlines::default(),
        }
    }

    /// What the kernel has taken arrives, whatever becomes of the process.
    pub(crate) fn run_dry(&mut self) {
        for link in 0..self.links.len() {
            self.links[link].slot = None;
        }
        let mut events = Events::default();
        while let Some(Reverse((at, order, link))) = self.queue.pop() {
            self.now = self.now.max(at);
            let happening = self.happenings.remove(&order).expect("queued with its order");
            if let Happening::Arrives(_) = happening {
                self.happen(link, happening, &mut events);
            }
        }
    }

    fn trace(&mut self, octets: &[u8]) {
        // FNV-1a.
        for octet in octets {
            self.notes.trace = (self.notes.trace ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn at(&mut self, at: u64, link: usize, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, link)));
        self.happenings.insert(self.order, happening);
    }

    fn link_of(&self, conn: ConnId) -> usize {
        self.slots[conn.0 as usize].expect("a connection is used only until its close")
    }

    fn latency(&mut self, link: usize) -> u64 {
        let (low, high) = self.links[link].receiver.personality().latency;
        self.chance.between(low, high) * 1_000
    }

    fn happen(&mut self, index: usize, happening: Happening, events: &mut Events) {
        match happening {
            Happening::Connected => self.connected(index, events),
            Happening::Taken(end) => self.taken(index, end, events),
            Happening::Arrives(octets) => {
                let link = &mut self.links[index];
                let now = Duration::from_nanos(self.now);
                let acts = link.receiver.hear(&octets, now, &mut self.office, &mut self.chance);
                self.notes.mails_most = self.notes.mails_most.max(link.receiver.mails);
                self.act(index, acts);
            }
            Happening::Heard(octets) => {
                let link = &mut self.links[index];
                if let Some(conn) = link.slot.filter(|_| !link.silent) {
                    link.last_told = Tick(self.now);
                    let start = events.arena.len();
                    events.arena.extend_from_slice(&octets);
                    let octets = start..events.arena.len();
                    events.list.push(Event::Received { conn, octets });
                }
            }
            Happening::Ended(errno) => {
                let link = &mut self.links[index];
                let sent = link.taken;
                if let Some(conn) = link.slot.filter(|_| !link.silent) {
                    link.silent = true;
                    self.deadlines.clear(conn);
                    events.list.push(Event::Broken { conn, errno, sent });
                }
            }
        }
    }

    fn connected(&mut self, index: usize, events: &mut Events) {
        let link = &mut self.links[index];
        let Some(conn) = link.slot.filter(|_| !link.silent) else { return };
        link.connected = true;
        link.last_told = Tick(self.now);
        let source = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        events.list.push(Event::Connected { conn, source });
        let acts = link.receiver.greet(&mut self.chance);
        self.act(index, acts);
    }

    /// The kernel takes octets; they are read from the caller's memory only now.
    fn taken(&mut self, index: usize, end: usize, events: &mut Events) {
        let link = &mut self.links[index];
        if link.silent || link.slot.is_none() {
            return;
        }
        let parcel = link.parcel.as_ref().expect("octets are taken from a parcel under way");
        let body = parcel.body.as_ref().map_or(&[][..], |body| body.octets());
        let whole = [&parcel.head[..], body, &parcel.tail[..]].concat();
        let octets = whole[link.taken..end].to_vec();
        link.taken = end;
        if end == whole.len() {
            link.parcel = None;
            link.taken = 0;
            link.sent_in = self.waits;
            link.last_told = Tick(self.now);
            let conn = link.slot.expect("checked above");
            events.list.push(Event::Sent { conn });
        }
        let arrives = (self.now + self.latency(index)).max(self.links[index].arrives);
        self.links[index].arrives = arrives;
        self.at(arrives, index, Happening::Arrives(octets));
    }

    fn act(&mut self, index: usize, acts: Vec<Act>) {
        let mut at = self.now;
        for act in acts {
            let latency = self.latency(index);
            let drip = self.links[index].receiver.personality().drip;
            match act {
                Act::Say(after, octets) => {
                    at += nanos(after);
                    let heard = (at + latency).max(self.links[index].heard);
                    self.links[index].heard = self.say(index, heard, drip, octets);
                }
                Act::Close => {
                    let heard = (at + latency).max(self.links[index].heard);
                    self.at(heard, index, Happening::Ended(0));
                }
                Act::Reset => self.at(at + latency, index, Happening::Ended(libc::ECONNRESET)),
            }
        }
    }

    /// Lets us hear octets; when the last of them comes.
    fn say(&mut self, index: usize, at: u64, drip: Option<Duration>, octets: Vec<u8>) -> u64 {
        let Some(pause) = drip else {
            self.at(at, index, Happening::Heard(octets));
            return at;
        };
        let mut last = at;
        for (octet, count) in octets.into_iter().zip(0..) {
            last = at + nanos(pause) * count;
            self.at(last, index, Happening::Heard(vec![octet]));
        }
        last
    }

    /// Makes the connection's happenings, or its absence.
    fn dial(&mut self, index: usize) {
        let begin = self.now + self.latency(index);
        match self.links[index].receiver.unconnected(&mut self.chance) {
            Some(Deed::Refuse) => self.at(begin, index, Happening::Ended(libc::ECONNREFUSED)),
            Some(Deed::Unread(late)) => self.at(begin + nanos(late), index, Happening::Connected),
            Some(_reset) => {
                self.at(begin, index, Happening::Connected);
                self.at(begin, index, Happening::Ended(libc::ECONNRESET));
            }
            None => self.at(begin, index, Happening::Connected),
        }
    }

    /// When the kernel takes how much of a parcel.
    fn plan_taking(&mut self, index: usize, length: usize, body: bool) {
        let unread = body.then(|| self.links[index].receiver.unread(&mut self.chance)).flatten();
        if let Some(pause) = unread {
            let middle = length / 2;
            self.at(self.now, index, Happening::Taken(middle));
            self.at(self.now + nanos(pause), index, Happening::Taken(length));
        } else if self.chance.happens(100) && length > 2 {
            let middle = self.chance.between(1, length as u64 - 1) as usize;
            let pause = self.chance.between(1, 50_000_000);
            self.at(self.now, index, Happening::Taken(middle));
            self.at(self.now + pause, index, Happening::Taken(length));
        } else {
            self.at(self.now, index, Happening::Taken(length));
        }
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

    /// The next moment at which anything happens by itself, `until` at the latest.
    fn next(&self, until: Tick) -> u64 {
        let happens = self.queue.peek().map(|Reverse((at, ..))| *at);
        let deadline = self.deadlines.next().map(|at| at.0);
        let due = self.feeder.due().map(tick);
        [happens, deadline, due].into_iter().flatten().min().unwrap_or(u64::MAX).min(until.0)
    }

    fn collect(&mut self, events: &mut Events) {
        while let Some(Reverse((at, order, link))) = self.queue.peek().copied() {
            if at > self.now {
                break;
            }
            self.queue.pop();
            let happening = self.happenings.remove(&order).expect("queued with its order");
            self.happen(link, happening, events);
        }
        while let Some(conn) = self.deadlines.pop(Tick(self.now)) {
            events.list.push(Event::Deadline { conn });
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations of the tests are days")
}

/// The tick of a moment on the wall clock.
pub(crate) fn tick(utc: Utc) -> u64 {
    nanos(utc.since(BEGUN))
}

impl Ring for SimRing<'_> {
    fn now(&self) -> Tick {
        Tick(self.now)
    }

    fn utc(&self) -> Utc {
        BEGUN.after(Duration::from_nanos(self.now))
    }

    fn connect(&mut self, to: SocketAddr, _from: Option<IpAddr>) -> io::Result<ConnId> {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a few")
        });
        let personality = &self.plan.receivers[usize::from(to.port())];
        let index = self.links.len();
        self.links.push(Link {
            receiver: Receiver::new(personality),
            slot: Some(ConnId(number)),
            parcel: None,
            taken: 0,
            arrives: 0,
            heard: 0,
            silent: false,
            connected: false,
            sent_in: 0,
            last_told: Tick(self.now),
        });
        self.slots[number as usize] = Some(index);
        let open = self.slots.iter().flatten().count();
        self.notes.open_most = self.notes.open_most.max(open);
        self.trace(format!("{} connect {to}\n", self.now).as_bytes());
        self.dial(index);
        Ok(ConnId(number))
    }

    fn send(&mut self, conn: ConnId, parcel: Parcel) {
        assert!(!parcel.is_empty(), "a parcel has octets");
        let index = self.link_of(conn);
        let link = &self.links[index];
        assert!(link.connected && link.parcel.is_none(), "one parcel at a time, when connected");
        if link.silent {
            return;
        }
        if let Some(body) = &parcel.body {
            let octets = body.octets().to_vec();
            self.check_started(&octets);
        }
        let commands = [&parcel.head[..], &parcel.tail[..]].concat();
        self.trace(format!("{} send {} ", self.now, conn.0).as_bytes());
        self.trace(&commands);
        let link = &mut self.links[index];
        if commands.windows(5).any(|five| five == b"MAIL ") {
            let held_up = link.sent_in == self.waits;
            self.notes.begins.push(Begin { at: Tick(self.now), held_up });
        }
        let (length, body) = (parcel.len(), parcel.body.is_some());
        link.parcel = Some(parcel);
        link.taken = 0;
        self.plan_taking(index, length, body);
    }

    fn deadline(&mut self, conn: ConnId, at: Tick) {
        let index = self.link_of(conn);
        if !self.links[index].silent {
            self.deadlines.set(conn, at);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let index = self.link_of(conn);
        self.deadlines.clear(conn);
        let link = &mut self.links[index];
        link.slot = None;
        link.parcel = None;
        self.notes.closings.push(Closing { last_told: link.last_told, at: Tick(self.now) });
        self.slots[conn.0 as usize] = None;
        self.free.push(conn.0);
        self.trace(format!("{} close {}\n", self.now, conn.0).as_bytes());
    }

    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError> {
        events.clear();
        self.waits += 1;
        assert!(self.waits < WAITS_MAX, "the run does not end: livelock");
        if self.plan.killed_at == Some(self.waits) {
            let source = io::ErrorKind::Interrupted.into();
            return Err(RingError::Broken { doing: "being killed", source });
        }
        if self.plan.stopped_at == Some(self.waits) {
            self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
            self.feeder.stop();
            return Ok(());
        }
        loop {
            if self.feeder.step(self.utc()) {
                return Ok(());
            }
            let next = self.next(until);
            assert_ne!(next, u64::MAX, "the run waits for nothing: deadlock");
            let late = match self.plan.late {
                0 => 0,
                most => self.chance.between(0, most) * 1_000,
            };
            self.now = self.now.max(next) + late;
            self.collect(events);
            if !events.list.is_empty() || self.now >= until.0 {
                self.trace(format!("{} {:?}\n", self.now, events.list).as_bytes());
                return Ok(());
            }
        }
    }
}
