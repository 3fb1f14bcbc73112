//! ring — a [`Ring`] without a kernel: virtual time, and simulated receivers at the other end.
//!
//! One queue of things that happen, ordered by time; [`Ring::wait`] jumps to the next of them. It
//! keeps the contract of the real ring and holds its caller to it: one parcel at a time, no use
//! after close, memory read only while a parcel is under way. The octets of all connections lie in
//! buffers that are used again, and what happens is a plain value, so that a message costs some
//! hundred nanoseconds here.
//!
//! How it fails: a run that waits for nothing at all would wait for ever; that is an error of
//! [`wait`](Ring::wait) with the words [`STALLED`]. It knows nothing of SMTP.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::chance::Chance;
use super::feeder::Feeder;
use crate::ring::{ConnId, Deadlines, Event, Events, Parcel, Ring, RingError};
use crate::units::{Tick, Utc};

/// What a run was doing that can never go on.
pub const STALLED: &str = "waiting, with nothing left that could happen";

/// Whoever is at the other end of all connections.
pub trait Receivers {
    /// Somebody calls. [`Far::stand`] or [`Far::fail`] answers; without either nobody does.
    /// `far.number()` may have been another connection before.
    fn called(&mut self, far: &mut Far<'_>, to: SocketAddr, from: Option<IpAddr>);

    /// The connection stands.
    fn connected(&mut self, far: &mut Far<'_>);

    /// Octets arrived.
    fn heard(&mut self, far: &mut Far<'_>, octets: &[u8]);

    /// The caller closed its end. What it had sent still arrives.
    fn left(&mut self, number: usize, now: Tick);

    /// How long the next octets travel to this end.
    fn way(&mut self, _number: usize) -> Duration {
        Duration::ZERO
    }

    /// How many octets of a parcel the kernel takes at once, and how long the others wait for the
    /// receiver to read; `None` when it takes them all.
    fn backlog(&mut self, _number: usize, _parcel: &Parcel) -> Option<(usize, Duration)> {
        None
    }
}

/// What happens on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Connected,
    /// The kernel takes the parcel under way up to this octet.
    Taken(u32),
    /// The octets of this buffer reach the receiver.
    Arrives(u32),
    /// The octets of this buffer reach us.
    Heard(u32),
    /// The connection ends for us, by this error number.
    Ended(i32),
}

/// What happens, when, in which order, on which link.
type Entry = Reverse<(u64, u64, u32, Happening)>;

/// What will happen, and the octets that travel.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Entry>,
    order: u64,
    buffers: Vec<Vec<u8>>,
    spare: Vec<u32>,
}

impl Queue {
    fn at(&mut self, at: u64, number: u32, link: &mut Link, happening: Happening) {
        self.order += 1;
        link.awaits += 1;
        self.heap.push(Reverse((at, self.order, number, happening)));
    }

    /// An empty buffer.
    fn buffer(&mut self) -> u32 {
        self.spare.pop().unwrap_or_else(|| {
            self.buffers.push(Vec::new());
            u32::try_from(self.buffers.len() - 1).expect("octets travel on a few connections")
        })
    }

    fn take_buffer(&mut self, index: u32) -> Vec<u8> {
        std::mem::take(&mut self.buffers[index as usize])
    }

    fn give_back(&mut self, index: u32, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers[index as usize] = buffer;
        self.spare.push(index);
    }
}

/// One TCP connection, from its beginning until the last octet under way has arrived.
#[derive(Default)]
struct Link {
    /// Our end, until we close it.
    slot: Option<ConnId>,
    /// Our address.
    from: Option<IpAddr>,
    parcel: Option<Parcel>,
    taken: u32,
    /// When the last octets under way arrive, there and here.
    arrives: u64,
    heard: u64,
    /// Things that will happen on it.
    awaits: u32,
    /// Told as broken.
    silent: bool,
    connected: bool,
}

/// The receiver's end of one connection: what it can do, each after some time.
pub struct Far<'a> {
    number: u32,
    now: u64,
    link: &'a mut Link,
    queue: &'a mut Queue,
}

impl Far<'_> {
    /// The connection's number; it names another one after it was [left](Receivers::left) and
    /// [called](Receivers::called) again.
    pub fn number(&self) -> usize {
        self.number as usize
    }

    /// The time.
    pub fn now(&self) -> Tick {
        Tick(self.now)
    }

    /// The connection will stand.
    pub fn stand(&mut self, after: Duration) {
        self.queue.at(self.now + nanos(after), self.number, self.link, Happening::Connected);
    }

    /// The caller will hear these octets, behind all that was said before; when.
    pub fn say(&mut self, after: Duration, octets: &[u8]) -> Tick {
        let at = self.in_turn(after);
        let buffer = self.queue.buffer();
        self.queue.buffers[buffer as usize].extend_from_slice(octets);
        self.queue.at(at, self.number, self.link, Happening::Heard(buffer));
        Tick(at)
    }

    /// The caller will find the connection closed, behind all that was said before; when.
    pub fn close(&mut self, after: Duration) -> Tick {
        let at = self.in_turn(after);
        self.queue.at(at, self.number, self.link, Happening::Ended(0));
        Tick(at)
    }

    /// The connection will break for the caller with this error number, whatever was said before.
    pub fn fail(&mut self, after: Duration, errno: i32) {
        self.queue.at(self.now + nanos(after), self.number, self.link, Happening::Ended(errno));
    }

    fn in_turn(&mut self, after: Duration) -> u64 {
        self.link.heard = self.link.heard.max(self.now + nanos(after));
        self.link.heard
    }
}

/// A ring in virtual time.
pub struct SimRing<R> {
    /// The other end of all connections.
    pub receivers: R,
    /// The other end of the delivery stage.
    pub feeder: Feeder,
    /// The wall clock at tick zero.
    begun: Utc,
    /// How late the process wakes at most, in microseconds.
    late: u64,
    chance: Chance,
    now: u64,
    queue: Queue,
    links: Vec<Link>,
    free_links: Vec<u32>,
    /// The link of each connection.
    slots: Vec<Option<u32>>,
    free: Vec<u32>,
    deadlines: Deadlines,
}

impl<R: Receivers> SimRing<R> {
    /// A ring that begins at `now`; the wall clock had `begun` at tick zero.
    pub fn new(receivers: R, feeder: Feeder, begun: Utc, now: Tick) -> SimRing<R> {
        SimRing {
            receivers,
            feeder,
            begun,
            late: 0,
            chance: Chance::new(0),
            now: now.0,
            queue: Queue::default(),
            links: Vec::new(),
            free_links: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: Deadlines::default(),
        }
    }

    /// The same, for a process that wakes up to so many microseconds late.
    #[must_use]
    pub fn waking_late(self, micros: u64, chance: Chance) -> SimRing<R> {
        SimRing { late: micros, chance, ..self }
    }

    /// What the kernel has taken arrives, whatever becomes of the process.
    pub fn run_dry(&mut self) {
        for link in &mut self.links {
            link.slot = None;
        }
        let mut events = Events::default();
        while let Some(Reverse((at, _, link, happening))) = self.queue.heap.pop() {
            self.now = self.now.max(at);
            if let Happening::Arrives(_) = happening {
                self.happen(link, happening, &mut events);
            }
        }
    }

    fn far(&mut self, number: u32) -> (&mut R, Far<'_>) {
        let link = &mut self.links[number as usize];
        (&mut self.receivers, Far { number, now: self.now, link, queue: &mut self.queue })
    }

    fn link_of(&self, conn: ConnId) -> u32 {
        self.slots[conn.0 as usize].expect("a connection is used only until its close")
    }

    fn happen(&mut self, number: u32, happening: Happening, events: &mut Events) {
        let link = &mut self.links[number as usize];
        link.awaits = link.awaits.saturating_sub(1);
        let conn = link.slot.filter(|_| !link.silent);
        match (happening, conn) {
            (Happening::Connected, Some(conn)) => {
                link.connected = true;
                let source = link.from.or(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
                events.list.push(Event::Connected { conn, source });
                let (receivers, mut far) = self.far(number);
                receivers.connected(&mut far);
            }
            (Happening::Taken(end), Some(conn)) => self.taken(number, end, conn, events),
            (Happening::Arrives(buffer), _) => {
                let octets = self.queue.take_buffer(buffer);
                let (receivers, mut far) = self.far(number);
                receivers.heard(&mut far, &octets);
                self.queue.give_back(buffer, octets);
            }
            (Happening::Heard(buffer), conn) => {
                let octets = self.queue.take_buffer(buffer);
                if let Some(conn) = conn {
                    let start = events.arena.len();
                    events.arena.extend_from_slice(&octets);
                    let octets = start..events.arena.len();
                    events.list.push(Event::Received { conn, octets });
                }
                self.queue.give_back(buffer, octets);
            }
            (Happening::Ended(errno), Some(conn)) => {
                link.silent = true;
                let sent = link.taken as usize;
                self.deadlines.clear(conn);
                events.list.push(Event::Broken { conn, errno, sent });
            }
            (Happening::Connected | Happening::Taken(_) | Happening::Ended(_), None) => {}
        }
        self.free_if_over(number);
    }

    /// A link that nobody holds and on which nothing will happen is free for another connection.
    fn free_if_over(&mut self, number: u32) {
        let link = &self.links[number as usize];
        if link.slot.is_none() && link.awaits == 0 {
            self.free_links.push(number);
        }
    }

    /// The kernel takes octets; they are read from the caller's memory only now.
    fn taken(&mut self, number: u32, end: u32, conn: ConnId, events: &mut Events) {
        let link = &mut self.links[number as usize];
        let buffer = self.queue.buffer();
        let parcel = link.parcel.as_ref().expect("octets are taken from a parcel under way");
        let octets = &mut self.queue.buffers[buffer as usize];
        copy(parcel, link.taken as usize..end as usize, octets);
        link.taken = end;
        if end as usize == parcel.len() {
            link.parcel = None;
            link.taken = 0;
            events.list.push(Event::Sent { conn });
        }
        let way = nanos(self.receivers.way(number as usize));
        link.arrives = link.arrives.max(self.now + way);
        self.queue.at(link.arrives, number, link, Happening::Arrives(buffer));
    }

    /// The next moment at which anything happens by itself, `until` at the latest.
    fn next(&self, until: Tick) -> u64 {
        let happens = self.queue.heap.peek().map(|Reverse((at, ..))| *at);
        let deadline = self.deadlines.next().map(|at| at.0);
        let due = self.feeder.due().map(|due| nanos(due.since(self.begun)));
        [happens, deadline, due].into_iter().flatten().min().unwrap_or(u64::MAX).min(until.0)
    }

    fn collect(&mut self, events: &mut Events) {
        while let Some(Reverse((at, _, link, happening))) = self.queue.heap.peek().copied() {
            if at > self.now {
                break;
            }
            self.queue.heap.pop();
            self.happen(link, happening, events);
        }
        while let Some(conn) = self.deadlines.pop(Tick(self.now)) {
            events.list.push(Event::Deadline { conn });
        }
    }
}

/// Appends this range of a parcel's octets.
fn copy(parcel: &Parcel, range: std::ops::Range<usize>, to: &mut Vec<u8>) {
    let body = parcel.body.as_ref().map_or(&[][..], |body| body.octets());
    let mut start = 0;
    for part in [&parcel.head[..], body, &parcel.tail[..]] {
        let end = start + part.len();
        let (from, until) = (range.start.max(start), range.end.min(end));
        if from < until {
            to.extend_from_slice(&part[from - start..until - start]);
        }
        start = end;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<R: Receivers> Ring for SimRing<R> {
    fn now(&self) -> Tick {
        Tick(self.now)
    }

    fn utc(&self) -> Utc {
        self.begun.after(Duration::from_nanos(self.now))
    }

    fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<ConnId> {
        let conn = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("connections count in 32 bits")
        });
        let number = self.free_links.pop().unwrap_or_else(|| {
            self.links.push(Link::default());
            u32::try_from(self.links.len() - 1).expect("connections count in 32 bits")
        });
        self.links[number as usize] = Link { slot: Some(ConnId(conn)), from, ..Link::default() };
        self.slots[conn as usize] = Some(number);
        let (receivers, mut far) = self.far(number);
        receivers.called(&mut far, to, from);
        Ok(ConnId(conn))
    }

    fn send(&mut self, conn: ConnId, parcel: Parcel) {
        assert!(!parcel.is_empty(), "a parcel has octets");
        let number = self.link_of(conn);
        let link = &mut self.links[number as usize];
        assert!(link.connected && link.parcel.is_none(), "one parcel at a time, when connected");
        if link.silent {
            return;
        }
        let length = u32::try_from(parcel.len()).expect("a parcel fits a segment");
        let backlog = self.receivers.backlog(number as usize, &parcel);
        link.parcel = Some(parcel);
        link.taken = 0;
        let mut last = self.now;
        if let Some((at_once, pause)) = backlog {
            let at_once = u32::try_from(at_once).expect("less than the parcel");
            self.queue.at(self.now, number, link, Happening::Taken(at_once));
            last += nanos(pause);
        }
        self.queue.at(last, number, link, Happening::Taken(length));
    }

    fn deadline(&mut self, conn: ConnId, at: Tick) {
        let link = self.link_of(conn);
        if !self.links[link as usize].silent {
            self.deadlines.set(conn, at);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let number = self.link_of(conn);
        self.deadlines.clear(conn);
        let link = &mut self.links[number as usize];
        link.slot = None;
        link.parcel = None;
        self.slots[conn.0 as usize] = None;
        self.free.push(conn.0);
        self.receivers.left(number as usize, Tick(self.now));
        self.free_if_over(number);
    }

    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError> {
        events.clear();
        loop {
            if self.feeder.step(self.utc()) {
                return Ok(());
            }
            let next = self.next(until);
            if next == u64::MAX {
                let source = io::ErrorKind::Deadlock.into();
                return Err(RingError::Broken { doing: STALLED, source });
            }
            let late = match self.late {
                0 => 0,
                most => self.chance.between(0, most) * 1_000,
            };
            self.now = self.now.max(next) + late;
            self.collect(events);
            if !events.list.is_empty() || self.now >= until.0 {
                return Ok(());
            }
        }
    }
}
