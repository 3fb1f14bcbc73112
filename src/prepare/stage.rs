//! stage — the loop of preparation: what is wanted, made, handed over, and what comes back.
//!
//! Each round hands at most one batch to the cores, for one delivery thread. Between rounds it
//! sleeps until something comes back, a wanted row is due, a segment that is not full may go, or a
//! channel that was full has room. It fails as [`super::run`] does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, TryRecvError};
use rayon::prelude::*;

use super::abandoned::Abandoned;
use super::outlet::Outlet;
use super::queue::{Address, Left, Queue, Turn};
use super::wants::Wants;
use super::{Made, PrepareError, Press, Scratch};
use crate::destination::GroupNo;
use crate::limits::SEGMENT_BYTES;
use crate::outcome::Kind;
use crate::rates::Retry;
use crate::ring::Clock;
use crate::spool::Segment;
use crate::spool::handover::{Again, Back, Fate, Feed};
use crate::units::{Tick, Utc};

/// Rows of the first batch, before the size of a message is known.
const FIRST_BATCH: usize = 64;
/// Rows of a batch at most. Small messages would otherwise make batches that take seconds.
const BATCH_MAX: usize = 1024;
/// Rows that a group gets in one turn while others want some too: enough to read neighbouring rows
/// together, few enough that a batch of some 350 serves ten groups.
const QUANTUM: usize = 32;
/// Rows given up at a time, between which delivery is listened to.
const GIVEN_UP: usize = 256;
/// The longest sleep; a stop is noticed after it.
const NAP: Duration = Duration::from_millis(200);
/// The shortest one that is worth it: a timer that rings a little early would else be followed by a
/// few sleeps of some microseconds.
const NAP_MIN: Duration = Duration::from_millis(1);

pub(super) struct Stage<'a> {
    press: &'a Press,
    queue: Queue,
    free: Vec<Segment>,
    /// By group.
    retry: Vec<Retry>,
    outlets: Vec<Outlet>,
    wants: Wants,
    abandoned: Abandoned,
    /// The outlet whose turn it is.
    turn: usize,
    /// The raw rows of a batch.
    octets: Vec<u8>,
    /// Rows that were taken from the queue and are not settled.
    ahead: u64,
    /// Rows of the next batch: what fills a segment, by the size of the last one's messages.
    batch: usize,
    made: Made,
}

/// Rows of one batch, with the group of each.
type Batch = Vec<(GroupNo, Turn)>;

impl<'a> Stage<'a> {
    pub(super) fn new(
        press: &'a Press,
        queue: Queue,
        free: Vec<Segment>,
        retry: Vec<Retry>,
        outlets: Vec<Outlet>,
    ) -> Stage<'a> {
        assert!(queue.groups() <= retry.len(), "each group has its retry schedule");
        Stage {
            press,
            queue,
            free,
            retry,
            wants: Wants::new(outlets.len()),
            outlets,
            abandoned: Abandoned::default(),
            turn: 0,
            octets: Vec::new(),
            ahead: 0,
            batch: FIRST_BATCH,
            made: Made::default(),
        }
    }

    pub(super) fn work(
        &mut self,
        back: &Receiver<Back>,
        (clock, stop): (Clock, &AtomicBool),
    ) -> Result<(), PrepareError> {
        while !stop.load(Ordering::Relaxed) {
            let nap = self.round(clock.utc(), clock.tick())?;
            if self.is_done() {
                break;
            }
            if !self.listen(back, nap)? {
                break; // delivery has ended; the caller learns why from it
            }
        }
        Ok(())
    }

    /// Closes the feeds.
    pub(super) fn end(self) -> Made {
        let segments = self.outlets.iter().map(Outlet::segments).sum();
        self.outlets.into_iter().for_each(Outlet::end);
        Made { segments, ..self.made }
    }

    fn is_done(&self) -> bool {
        self.ahead == 0 && self.queue.is_empty()
    }

    /// Does what can be done now; how long there is nothing more to do unless something comes back.
    fn round(&mut self, now: Utc, tick: Tick) -> Result<Duration, PrepareError> {
        self.made.rounds += 1;
        self.wants.wake(now);
        self.give_up(now);
        self.print(now)?;
        let partial = self.hand_over(now, tick);
        if self.may_print() || self.may_give_up() {
            return Ok(Duration::ZERO);
        }
        let due = self.wants.earliest().map(|due| due.since(now));
        let naps = [due, partial.map(|from| from.since(tick))];
        Ok(naps.into_iter().flatten().fold(NAP, Duration::min).max(NAP_MIN))
    }

    /// Prints a batch for the next outlet that may have one.
    fn print(&mut self, now: Utc) -> Result<(), PrepareError> {
        for _ in 0..self.outlets.len() {
            let thread = self.turn;
            self.turn = (self.turn + 1) % self.outlets.len();
            self.outlets[thread].fill(&mut self.free, now);
            if !self.may_have_batch(thread) {
                continue;
            }
            let batch = self.gather(thread, now)?;
            if !batch.is_empty() {
                return self.print_batch(thread, batch, now);
            }
        }
        Ok(())
    }

    /// Whether groups of the thread want messages and there is room for them.
    fn may_have_batch(&self, thread: usize) -> bool {
        let outlet = &self.outlets[thread];
        let room = outlet.is_open() || !self.free.is_empty();
        self.wants.is_ready(thread) && outlet.is_clear() && room
    }

    fn may_print(&self) -> bool {
        (0..self.outlets.len()).any(|thread| self.may_have_batch(thread))
    }

    /// The rows of the next batch, from the groups of a thread in turn. Those whose time ran out
    /// become fates, which nobody wanted.
    fn gather(&mut self, thread: usize, now: Utc) -> Result<Batch, PrepareError> {
        let mut batch = Batch::new();
        let mut over = 0;
        while batch.len() < self.batch
            && over < BATCH_MAX
            && let Some((group, open)) = self.wants.next(thread)
        {
            let open = usize::try_from(open).unwrap_or(usize::MAX);
            let most = open.min(QUANTUM).min(self.batch - batch.len());
            let turns = self.queue.take(group, most, now)?;
            let dry = turns.len() < most;
            let before = batch.len();
            for turn in turns {
                if self.is_over(group, &turn, now) {
                    over += 1;
                    self.expire(group, &turn, now);
                } else {
                    batch.push((group, turn));
                }
            }
            self.wants.served(group, (batch.len() - before) as u64, dry);
            if self.wants.turned(group, dry) {
                self.outlets[thread].tell(Feed::Dry(group, dry));
            }
            if dry && let Some(due) = self.queue.next_due(group) {
                self.wants.look_at(group, due);
            }
        }
        self.ahead += batch.len() as u64;
        Ok(batch)
    }

    fn is_over(&self, group: GroupNo, turn: &Turn, now: Utc) -> bool {
        let retry = &self.retry[group.index()];
        turn.first_attempt.is_some_and(|first| retry.is_over(first, now))
    }

    fn expire(&mut self, group: GroupNo, turn: &Turn, now: Utc) {
        self.ahead += 1;
        self.tell(&left(group, turn), Kind::Expired, "expired before its turn came".into(), now);
    }

    fn print_batch(&mut self, thread: usize, batch: Batch, now: Utc) -> Result<(), PrepareError> {
        let (groups, turns): (Vec<GroupNo>, Vec<Turn>) = batch.into_iter().unzip();
        let press = self.press;
        let ranges = press.read(&turns, &mut self.octets)?;
        let octets = &self.octets;
        let printed: Vec<_> = turns
            .par_iter()
            .zip(ranges)
            .map_init(
                || Scratch::new(press),
                |scratch, (turn, range)| press.print(scratch, turn, &octets[range], now),
            )
            .collect();
        let mut size = 0;
        for ((turn, group), printed) in turns.iter().zip(groups).zip(printed) {
            match printed {
                Ok(printed) => {
                    size += printed.signatures.len() + printed.message.len();
                    self.made.messages += 1;
                    self.outlets[thread].push(printed);
                }
                Err(fault) => {
                    self.tell(&left(group, turn), Kind::Failed, fault.to_string(), now);
                    // A message was wanted, and this is none.
                    self.wants.want(group, 1);
                }
            }
        }
        if let Some(each) = size.checked_div(turns.len()) {
            self.batch = (SEGMENT_BYTES / each.max(1)).clamp(1, BATCH_MAX);
        }
        self.outlets[thread].fill(&mut self.free, now);
        Ok(())
    }

    fn tell(&mut self, left: &Left, kind: Kind, reason: String, now: Utc) {
        let Left { row, attempt, group, .. } = *left;
        let first_attempt = left.first_attempt.unwrap_or(now);
        let thread = group.map_or(0, |group| self.wants.thread(group));
        let fate = Fate { row, group, attempt, kind, first_attempt, reason };
        self.made.fates += 1;
        self.outlets[thread].tell(Feed::Fate(fate));
    }

    /// Makes fates of some rows that are given up, unless those before are not yet sent.
    fn give_up(&mut self, now: Utc) {
        for _ in 0..self.abandoned.to_clear() {
            let Some(group) = self.abandoned.next() else { return };
            if !self.is_clear(group) {
                self.abandoned.clear(group);
                continue;
            }
            let rows = self.queue.give_up(group, GIVEN_UP);
            self.ahead += rows.len() as u64;
            for row in &rows {
                let (kind, reason) = self.abandoned.why(row.group);
                self.tell(row, kind, reason, now);
            }
            if rows.len() == GIVEN_UP {
                self.abandoned.clear(group);
            }
        }
    }

    fn may_give_up(&self) -> bool {
        self.abandoned.to_clear() > 0 && self.outlets.iter().all(Outlet::is_clear)
    }

    /// Whether the outlets that rows of the group, or of all, go to have sent everything.
    fn is_clear(&self, group: Option<GroupNo>) -> bool {
        match group {
            Some(group) => self.outlets[self.wants.thread(group)].full().is_none(),
            None => self.outlets.iter().all(|outlet| outlet.full().is_none()),
        }
    }

    /// Sends what is full, and what is not full when nothing more goes into it now. When the next
    /// segment may go that had to wait.
    fn hand_over(&mut self, now: Utc, tick: Tick) -> Option<Tick> {
        let in_hand: u64 = self.outlets.iter().map(Outlet::in_hand).sum();
        let idle = in_hand == self.ahead;
        let mut next = None;
        for (thread, outlet) in self.outlets.iter_mut().enumerate() {
            outlet.fill(&mut self.free, now);
            let more = self.wants.is_ready(thread) && outlet.is_clear();
            if let Some(from) = outlet.partial_from(idle, tick).filter(|_| !more) {
                if from <= tick {
                    outlet.close(tick);
                } else {
                    next = [next, Some(from)].into_iter().flatten().min();
                }
            }
            outlet.send();
        }
        next
    }

    /// Takes what comes back, waiting up to `nap` for something to do; false when delivery ended.
    fn listen(&mut self, back: &Receiver<Back>, nap: Duration) -> Result<bool, PrepareError> {
        if !nap.is_zero() {
            let mut select = Select::new();
            select.recv(back);
            for feed in self.outlets.iter().filter_map(Outlet::full) {
                select.send(feed);
            }
            // Which of them is ready shows when they are tried.
            select.ready_timeout(nap).ok();
        }
        loop {
            match back.try_recv() {
                Ok(back) => self.came_back(back)?,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn came_back(&mut self, back: Back) -> Result<(), PrepareError> {
        match back {
            Back::Segment(segment) => self.free.push(segment),
            Back::Again(again) => {
                self.queue.later(again);
                self.abandoned.came_back(again.group);
                self.wants.look_at(again.group, again.due);
            }
            Back::Returned(again) => self.returned(again),
            Back::Want(group, more) => {
                if !self.abandoned.has(group) {
                    self.wants.want(group, more);
                }
            }
            Back::GiveUp(group, kind, reason) => {
                self.wants.cancel(group);
                self.abandoned.add(group, kind, reason);
            }
            Back::Routed(domain, site, group, retry) => {
                if group.index() >= self.retry.len() {
                    self.retry.resize(group.index() + 1, retry.clone());
                }
                self.retry[group.index()] = retry;
                self.queue.routed(domain, Address { site, group })?;
                self.abandoned.came_back(group);
                self.wants.look_again(group);
            }
            Back::Settled(count) => {
                let ahead = self.ahead.checked_sub(u64::from(count));
                self.ahead = ahead.expect("no more is settled than was handed over");
            }
        }
        Ok(())
    }

    /// What comes back unattempted ends the wants of its group: delivery asks anew when it can go.
    fn returned(&mut self, again: Again) {
        self.wants.cancel(Some(again.group));
        self.queue.returned(again);
        self.abandoned.came_back(again.group);
        self.wants.look_again(again.group);
    }
}

fn left(group: GroupNo, turn: &Turn) -> Left {
    let Turn { attempt, first_attempt, .. } = *turn;
    Left { row: turn.entry.row, attempt, first_attempt, group: Some(group) }
}
