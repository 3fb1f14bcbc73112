//! deliver — stage 2: takes ready messages from the spool, sends them, records what came of them.
//!
//! One thread, one [`Ring`], one loop ([`run`]):
//!
//! ```text
//! feed ► dispatch (rate, connections) ► record Started ► commit ► send
//!      ► wait ► replies ► verdicts ► record
//! ```
//!
//! The order is the promise: a message's `Started` is in the ledger before its octets leave, and
//! all records of a round go to the ledger in one commit.
//!
//! How it fails: whatever a receiver does is an outcome of a message. Only a broken ledger or ring
//! ends the stage ([`DeliverError`]); the ledger then says where to go on.
//!
//! It knows segments, the rate and the route; never the campaign, a key or a template.

mod conversation;
mod hearing;
mod lane;
mod store;
mod tally;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError};

pub use tally::{Live, Tally};

use crate::ledger;
use crate::outcome::{Class, Kind, Outcome};
use crate::rates::Retry;
use crate::ring::{ConnId, Event, Events, Ring, RingError};
use crate::smtp::session::Tag;
use crate::spool::handover::{Again, Back, Fate, Feed};
use crate::units::{Rate, Tick};
use conversation::Conversation;
use lane::Lane;
use store::Store;

/// What to do with a message whose final reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDoubt {
    /// Keep it as in doubt, list it, do not send it again.
    Hold,
    /// Send it again; it may arrive twice.
    Resend,
}

/// Segments and fates taken in one round; what they record goes into one commit, which is bounded.
const FEED_PER_ROUND: usize = 256;

/// Where and how fast to deliver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The route's host name, as recorded with each attempt.
    pub host: String,
    /// The route's addresses, tried in turn.
    pub addresses: Vec<SocketAddr>,
    /// Our name in EHLO.
    pub ehlo_name: String,
    /// Connections at the same time.
    pub connections: u32,
    /// Messages on one connection; 0 means no limit.
    pub messages_per_connection: u32,
    /// Attempted recipients per period; `None` means no limit.
    pub rate: Option<Rate>,
    /// When deferred messages are tried again, and when they expire.
    pub retry: Retry,
    /// What to do when a final reply is lost.
    pub on_doubt: OnDoubt,
    /// Our address for the connections; `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// The number of the last connection of earlier processes of this run.
    pub last_connection: u64,
    /// How long ago the attempts of the last rate period began, the oldest first: those of earlier
    /// processes of this run.
    pub recent: Vec<Duration>,
    /// Refuse to connect anywhere but to loopback (rehearsals).
    pub loopback_only: bool,
}

/// The stage's ends of the channels to preparation.
pub struct Channels {
    /// Full segments; the stage ends when this is closed and everything is settled.
    pub feed: Receiver<Feed>,
    /// Empty segments and messages for later.
    pub back: Sender<Back>,
}

/// What ends the stage early.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Outcomes can no longer be recorded, so nothing more may be sent.
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    /// The ring is unusable.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Delivers until the feed ends and every message is settled, or until `stop` is set and the
/// messages under way are settled.
///
/// # Errors
/// When the ledger or the ring can no longer be used.
pub fn run<R: Ring>(
    ring: &mut R,
    settings: &Settings,
    channels: &Channels,
    ledger: &mut ledger::Writer,
    live: &Live,
    stop: &AtomicBool,
) -> Result<Tally, DeliverError> {
    let mut delivery = Delivery {
        lane: Lane::new(settings, ring.now()),
        ring,
        settings,
        channels,
        ledger,
        live,
        store: Store::default(),
        conversations: Vec::new(),
        idle: Vec::new(),
        behind: VecDeque::new(),
        bodies: Vec::new(),
        dirty: Vec::new(),
        settled: 0,
        recorded: false,
        feeding: true,
        stopping: false,
        last_connection: settings.last_connection,
        greeted: 0,
        carrying: 0,
        tally: Tally::new(),
    };
    let mut events = Events::default();
    loop {
        delivery.stopping |= stop.load(Ordering::Relaxed);
        delivery.round()?;
        if delivery.finished() {
            return Ok(delivery.tally);
        }
        let until = delivery.wake_at();
        delivery.ring.wait(until, &mut events)?;
        delivery.work_off(&events);
    }
}

struct Delivery<'a, R: Ring> {
    ring: &'a mut R,
    settings: &'a Settings,
    channels: &'a Channels,
    ledger: &'a mut ledger::Writer,
    live: &'a Live,
    lane: Lane,
    store: Store,
    /// By connection number.
    conversations: Vec<Option<Conversation>>,
    /// Connections that may be idle; checked when used.
    idle: Vec<ConnId>,
    /// Connections that may take an envelope behind their message; checked when used.
    behind: VecDeque<ConnId>,
    /// Messages whose octets are asked for in this round.
    bodies: Vec<(ConnId, Tag)>,
    /// Connections that may have something to send.
    dirty: Vec<ConnId>,
    settled: u32,
    recorded: bool,
    feeding: bool,
    stopping: bool,
    last_connection: u64,
    /// Connections that have greeted.
    greeted: u32,
    /// Connections on which a message was begun.
    carrying: u32,
    tally: Tally,
}

impl<R: Ring> Delivery<'_, R> {
    /// Everything between two waits except the events.
    fn round(&mut self) -> Result<(), DeliverError> {
        self.take_feed();
        self.dispatch();
        self.record_bodies();
        if self.recorded {
            self.ledger.commit(self.ring.utc())?;
            self.recorded = false;
        }
        self.transmit();
        self.give_back();
        if self.ending() {
            self.say_goodbye();
        }
        Ok(())
    }

    fn take_feed(&mut self) {
        for _ in 0..FEED_PER_ROUND {
            if !self.feeding {
                return;
            }
            match self.channels.feed.try_recv() {
                Ok(Feed::Segment(segment)) => self.store.load(segment, self.ring.now()),
                Ok(Feed::Fate(fate)) => self.record_fate(&fate),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.feeding = false,
            }
        }
    }

    /// Gives ready messages to connections, as far as rate, pauses and connections allow, and makes
    /// connections for those that find none. A message is bound to a connection only when that has
    /// greeted: one that never does holds back nobody.
    fn dispatch(&mut self) {
        let now = self.ring.now();
        while !self.stopping {
            let Some(tag) = self.store.first_ready() else { return };
            if self.expire_if_old(tag) {
                continue;
            }
            if self.lane.opens_at() > now {
                return;
            }
            let Some(conn) = self.place() else { return self.connect() };
            self.lane.take(now);
            self.store.take_first_ready();
            self.offer(conn, tag);
        }
    }

    /// A connection that is idle; or, when no further one may be made, one that can take the
    /// envelope behind the message it sends.
    fn place(&mut self) -> Option<ConnId> {
        let settings = self.settings;
        while let Some(conn) = self.idle.pop() {
            let Some(known) = self.conversation(conn) else { continue };
            known.listed_idle = false;
            if known.is_idle(settings) {
                return Some(conn);
            }
        }
        while let Some(conn) = self.behind.pop_front() {
            let Some(known) = self.conversation(conn) else { continue };
            known.listed_behind = false;
            if known.has_room_behind(settings) {
                return Some(conn);
            }
        }
        None
    }

    fn conversation(&mut self, conn: ConnId) -> Option<&mut Conversation> {
        self.conversations.get_mut(conn.0 as usize).and_then(Option::as_mut)
    }

    /// Makes connections, as many as are allowed and could be used soon.
    fn connect(&mut self) {
        let open = self.tally.connections_open;
        let greeting = (open - self.greeted) as usize;
        let useful = self.lane.soon(self.store.ready()).saturating_sub(greeting);
        let allowed = self.lane.allowed().saturating_sub(open);
        for _ in 0..useful.min(allowed as usize) {
            let now = self.ring.now();
            let to = self.lane.next_address();
            let made = match self.settings.loopback_only && !to.ip().is_loopback() {
                true => Err(std::io::ErrorKind::PermissionDenied.into()),
                false => self.ring.connect(to, self.settings.source),
            };
            match made {
                Ok(conn) => self.connecting(conn, to, now),
                Err(error) => return self.no_socket(to, &error),
            }
        }
    }

    fn connecting(&mut self, conn: ConnId, to: SocketAddr, now: Tick) {
        self.last_connection += 1;
        let index = conn.0 as usize;
        if index >= self.conversations.len() {
            self.conversations.resize_with(index + 1, || None);
        }
        let conversation = Conversation::connecting(self.last_connection, to, now);
        self.ring.deadline(conn, conversation.deadline());
        self.conversations[index] = Some(conversation);
        self.tally.opened();
        self.live.connections.store(self.tally.connections_open.into(), Ordering::Relaxed);
    }

    fn offer(&mut self, conn: ConnId, tag: Tag) {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        self.store.item(tag).begin(now, utc);
        let Some(conversation) = self.conversations[conn.0 as usize].as_mut() else {
            unreachable!("a message is offered to a connection that was just checked");
        };
        self.carrying += u32::from(!conversation.has_carried());
        let index = conversation.offer(tag, self.store.envelope(tag), now);
        self.store.item(tag).index = index;
        self.touched(conn);
        self.hear(conn);
    }

    /// Writes `Started` for every message whose octets are about to leave. Nothing is sent before
    /// the commit that follows.
    fn record_bodies(&mut self) {
        for (conn, tag) in std::mem::take(&mut self.bodies) {
            if !self.conversation(conn).is_some_and(|known| known.asks_for(tag)) {
                continue; // the connection ended before the octets could leave
            }
            if let Err(damage) = self.store.verify(tag) {
                self.damaged(conn, tag, &damage.to_string());
                continue;
            }
            let now = self.ring.now();
            let item = self.store.item(tag);
            item.body_at = Some(now);
            let (row, attempt) = (item.row, item.attempt);
            self.ledger.started(row, attempt, self.ring.utc());
            self.recorded = true;
        }
    }

    /// A message that is not what was written into the spool must not leave; the connection waits
    /// for its octets, so it ends too, and the message is made again.
    fn damaged(&mut self, conn: ConnId, tag: Tag, damage: &str) {
        self.tally.damaged(damage);
        self.store.item(tag).damaged = true;
        if let Some(conversation) = self.conversation(conn) {
            conversation.abandon();
        }
        self.hear(conn);
    }

    fn transmit(&mut self) {
        let now = self.ring.now();
        for conn in std::mem::take(&mut self.dirty) {
            let Some(conversation) = self.conversations[conn.0 as usize].as_mut() else { continue };
            conversation.dirty = false;
            if let Some(parcel) = conversation.parcel(&self.store, now) {
                self.ring.send(conn, parcel);
            }
            self.ring.deadline(conn, conversation.deadline());
        }
    }

    fn touched(&mut self, conn: ConnId) {
        if let Some(conversation) = self.conversation(conn)
            && !conversation.dirty
        {
            conversation.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Empty segments and counts go back to preparation. It may have ended already.
    fn give_back(&mut self) {
        while let Some(segment) = self.store.emptied() {
            drop(self.channels.back.send(Back::Segment(segment)));
        }
        if self.settled > 0 {
            drop(self.channels.back.send(Back::Settled(self.settled)));
            self.settled = 0;
        }
    }

    fn ending(&self) -> bool {
        self.stopping || (!self.feeding && self.store.is_empty())
    }

    /// Idle connections say QUIT, those that have not greeted are closed; busy ones follow when
    /// they become idle.
    fn say_goodbye(&mut self) {
        let now = self.ring.now();
        for index in 0..self.conversations.len() {
            let Some(conversation) = self.conversations[index].as_mut() else { continue };
            let conn = ConnId(u32::try_from(index).expect("connections count in 32 bits"));
            if !conversation.greeted {
                self.closed(conn);
            } else if conversation.quit_if_idle(now) {
                self.touched(conn);
            }
        }
        self.transmit();
    }

    fn finished(&self) -> bool {
        self.ending() && self.tally.connections_open == 0 && !self.recorded
    }

    /// When to look again if nothing happens.
    fn wake_at(&self) -> Tick {
        if self.feeding && !self.channels.feed.is_empty() {
            return self.ring.now();
        }
        match self.store.ready() > 0 && !self.stopping {
            true if self.lane.opens_at() > self.ring.now() => self.lane.opens_at(),
            _ => Tick(u64::MAX),
        }
    }

    fn work_off(&mut self, events: &Events) {
        for event in &events.list {
            let conn = match event {
                Event::Connected { conn, .. }
                | Event::Received { conn, .. }
                | Event::Sent { conn }
                | Event::Broken { conn, .. }
                | Event::Deadline { conn } => *conn,
            };
            let now = self.ring.now();
            let Some(conversation) = self.conversations[conn.0 as usize].as_mut() else { continue };
            match event {
                Event::Connected { source, .. } => {
                    conversation.connected(*source, &self.settings.ehlo_name, now);
                }
                Event::Received { octets, .. } => {
                    conversation.receive(&events.arena[octets.clone()], now);
                }
                Event::Sent { .. } => {
                    if let Some(tag) = conversation.sent(now) {
                        self.store.sent(tag);
                    }
                }
                Event::Broken { errno, sent, .. } => conversation.lost(*errno, *sent),
                Event::Deadline { .. } => conversation.timed_out(now),
            }
            self.touched(conn);
            self.hear(conn);
        }
    }

    /// Records the end of a row that needed no connection.
    fn record_fate(&mut self, fate: &Fate) {
        let expired = fate.kind == Kind::Expired;
        let now = self.ring.utc();
        let class = if expired { Class::MessageExpired } else { Class::RenderError };
        let (message, end) = ((fate.row, fate.attempt), (fate.kind, class));
        let times = (now, fate.first_attempt);
        self.record(&Outcome::unconnected(message, end, times, &fate.reason));
        self.settled += 1;
    }

    fn record(&mut self, outcome: &Outcome<'_>) {
        self.ledger.outcome(outcome);
        self.recorded = true;
        self.tally.count(outcome);
        self.live.count(outcome.kind);
    }

    fn again(&mut self, again: Again) {
        drop(self.channels.back.send(Back::Again(again)));
    }
}
