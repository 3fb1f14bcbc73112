//! deliver — stage 2: takes ready messages from the spool, sends them, records what came of them.
//!
//! One thread, one [`Ring`], one loop ([`run`]):
//!
//! ```text
//! orders, feed ► dispatch (lanes, sites) ► record Started ► commit ► send
//!              ► wait ► replies ► verdicts ► record
//! ```
//!
//! Messages wait at their *site* (the mail hosts of their domain), sites belong to a *group* (the
//! unit of limits), and `rates::Pace` says over which source the group's next message may begin.
//! Nothing is polled: a group that can go on is on a list, one that must wait is in a heap by time.
//! Preparation makes only what the stage asks for, shortly before it can go.
//!
//! The order is the promise: a message's `Started` is in the ledger before its octets leave, and
//! all records of a round go to the ledger in one commit.
//!
//! How it fails: whatever a receiver does is an outcome of a message. Only a broken ledger or ring
//! ends the stage ([`DeliverError`]); the ledger then says where to go on.
//!
//! It knows segments, limits, sites and sources; never the campaign, a key or a template.

mod conversation;
mod dispatch;
mod hearing;
mod orders;
mod settings;
mod site;
mod store;
mod tally;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender, TryRecvError};

pub use settings::{Group, Notice, OnDoubt, Order, Past, Settings, Source};
pub use tally::{Live, LiveGroup, Tally};

use crate::destination::{GroupNo, SiteNo, SourceNo};
use crate::ledger;
use crate::outcome::{Binding, Class, Kind, Outcome};
use crate::rates::{Blur, Pace};
use crate::ring::{ConnId, Event, Events, Ring, RingError};
use crate::smtp::rules::Rules;
use crate::smtp::session::Tag;
use crate::spool::handover::{Back, Fate, Feed};
use crate::units::Tick;
use conversation::Conversation;
use site::Site;
use store::Store;

/// Segments and fates taken in one round; what they record goes into one commit, which is bounded.
const FEED_PER_ROUND: usize = 256;

/// The stage's ends of its channels.
pub struct Channels {
    /// Full segments; the stage ends when this is closed and everything is settled.
    pub feed: Receiver<Feed>,
    /// Empty segments, wants, and messages for later.
    pub back: Sender<Back>,
    /// What the operator, the resolver or another delivery thread wants.
    pub orders: Receiver<Order>,
    /// What others should know.
    pub notices: Sender<Notice>,
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
    ledger: &ledger::Desk,
    live: &Live,
    stop: &AtomicBool,
) -> Result<Tally, DeliverError> {
    let mut delivery = Delivery::new(ring, settings, channels, ledger, live);
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

/// A group in delivery.
struct Line {
    name: String,
    /// Whose rules its replies are judged by; empty where no provider is known.
    provider: String,
    /// Sites with messages, in turn.
    sites: VecDeque<SiteNo>,
    /// All of its sites.
    all_sites: Vec<SiteNo>,
    /// Messages that wait here.
    ready: u32,
    /// Messages asked for that have not come yet.
    wanted: u32,
    /// Preparation has less for it than was asked for.
    dry: bool,
    /// It is on the list of groups that can go on.
    listed: bool,
    /// It is in the queue for a connection.
    queueing: bool,
    /// Its entry in the heap; later ones are void.
    wakes_at: Tick,
    binding: Binding,
    /// Since when nothing was accepted although it was tried.
    down_since: Option<Tick>,
    /// Whatever is left of it is being given up.
    given_up: bool,
}

/// What is under way on a lane.
#[derive(Clone, Copy, Default)]
struct Hands {
    /// Messages begun and not settled.
    messages: u32,
    /// Connections on which a message was begun.
    carrying: u32,
}

struct Delivery<'a, R: Ring> {
    ring: &'a mut R,
    settings: &'a Settings,
    channels: &'a Channels,
    ledger: &'a ledger::Desk,
    live: &'a Live,
    rules: &'static Rules,
    pace: Pace,
    store: Store,
    groups: Vec<Line>,
    /// By number; `None` for a site that no policy lets us reach.
    sites: Vec<Site>,
    /// By group and source.
    hands: Vec<Hands>,
    /// By connection number.
    conversations: Vec<Option<Conversation>>,
    /// Groups that can go on.
    active: VecDeque<GroupNo>,
    /// Groups that wait for any connection to end: the run has as many as it may have.
    queueing: VecDeque<GroupNo>,
    /// Connections that were idle while their site had no message.
    spare: VecDeque<ConnId>,
    /// Groups that wait for a time.
    sleeping: BinaryHeap<Reverse<(Tick, GroupNo)>>,
    /// Messages whose octets are asked for in this round.
    bodies: Vec<(ConnId, Tag)>,
    /// Connections that may have something to send.
    dirty: Vec<ConnId>,
    /// Messages of a segment that was just loaded.
    loaded: Vec<Tag>,
    /// The sources in the order in which they are asked.
    order: Vec<SourceNo>,
    settled: u32,
    wanting: u32,
    recorded: bool,
    feeding: bool,
    stopping: bool,
    tally: Tally,
}

impl<'a, R: Ring> Delivery<'a, R> {
    fn new(
        ring: &'a mut R,
        settings: &'a Settings,
        channels: &'a Channels,
        ledger: &'a ledger::Desk,
        live: &'a Live,
    ) -> Delivery<'a, R> {
        let now = ring.now();
        let weights: Vec<u32> = settings.sources.iter().map(|source| source.weight).collect();
        let ceiling = (settings.connections, settings.rate);
        let pace = Pace::new(&weights, ceiling, Blur::at_speed(settings.speed), now);
        let mut delivery = Delivery {
            rules: Rules::shipped(),
            pace,
            ring,
            settings,
            channels,
            ledger,
            live,
            store: Store::default(),
            groups: Vec::new(),
            sites: Vec::new(),
            hands: Vec::new(),
            conversations: Vec::new(),
            active: VecDeque::new(),
            queueing: VecDeque::new(),
            spare: VecDeque::new(),
            sleeping: BinaryHeap::new(),
            bodies: Vec::new(),
            dirty: Vec::new(),
            loaded: Vec::new(),
            order: Vec::new(),
            settled: 0,
            wanting: 0,
            recorded: false,
            feeding: true,
            stopping: false,
            tally: Tally::new(),
        };
        delivery.pace.tell(now, delivery.ring.utc());
        for group in &settings.groups {
            delivery.add_group(group.clone());
        }
        for site in &settings.sites {
            delivery.add_site(site.clone());
        }
        delivery.remember(&settings.past);
        delivery
    }
}

impl<R: Ring> Delivery<'_, R> {
    /// Everything between two waits except the events.
    fn round(&mut self) -> Result<(), DeliverError> {
        self.pace.tell(self.ring.now(), self.ring.utc());
        self.take_orders();
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
                Ok(Feed::Segment(segment)) => {
                    // A site that it names may have been announced just before.
                    self.take_orders();
                    self.load(segment);
                }
                Ok(Feed::Fate(fate)) => self.record_fate(&fate),
                Ok(Feed::Dry(group, dry)) => {
                    self.groups[group.index()].dry = dry;
                    self.activate(group);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.feeding = false,
            }
        }
    }

    fn conversation(&mut self, conn: ConnId) -> Option<&mut Conversation> {
        self.conversations.get_mut(conn.0 as usize).and_then(Option::as_mut)
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
            let (row, attempt) = (item.head.row, item.head.attempt);
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
        if self.wanting > 0 && self.store.held() >= self.settings.segments {
            self.store.vacate();
        }
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
        let more = self.feeding && !self.channels.feed.is_empty();
        if more || !self.channels.orders.is_empty() {
            return self.ring.now();
        }
        if self.stopping {
            return Tick(u64::MAX);
        }
        let place = !self.queueing.is_empty() && self.pace.free() > 0;
        match self.active.is_empty() && !place {
            false => self.ring.now(),
            true => self.sleeping.peek().map_or(Tick(u64::MAX), |Reverse((at, _))| *at),
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
                    let ours = &self.settings.sources[conversation.route.source.index()];
                    conversation.connected(*source, &ours.ehlo_name, now);
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
        let now = self.ring.utc();
        let class = match fate.kind {
            Kind::Expired => Class::MessageExpired,
            Kind::Cancelled => Class::None,
            Kind::Bounced => Class::BadDomain,
            _ => Class::RenderError,
        };
        let (message, end) = ((fate.row, fate.attempt), (fate.kind, class));
        let times = (now, fate.first_attempt);
        let provider = fate.group.map_or("", |group| &self.groups[group.index()].name).to_owned();
        let unconnected = Outcome::unconnected(message, end, times, &fate.reason);
        self.record(&Outcome { provider: &provider, ..unconnected });
        if let Some(live) = fate.group.and_then(|group| self.live.groups.get(group.index())) {
            live.count(fate.kind, class);
        }
        self.settled += 1;
    }

    fn record(&mut self, outcome: &Outcome<'_>) {
        self.ledger.outcome(outcome);
        self.recorded = true;
        self.tally.count(outcome);
        self.live.count(outcome.kind);
    }

    fn back(&self, back: Back) {
        // Preparation may have ended already.
        drop(self.channels.back.send(back));
    }
}
