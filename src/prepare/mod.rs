//! prepare — stage 1: rows become signed messages in the spool, a bounded lead ahead of delivery.
//!
//! One thread decides what is next ([`Queue`]: retries that are due, then fresh rows), all cores
//! render, build and sign a batch ([`Press`]), and the messages go into a free segment in the order
//! of the batch, so the octets do not depend on the number of threads. Back-pressure is the lack of
//! free segments.
//!
//! How it fails: a row that cannot become a message is a [`Fate`] and hurts no other row. A list
//! that changed under the run, or cannot be read any more, ends the stage ([`PrepareError`]); what
//! was handed over is still delivered and the run can be resumed.
//!
//! It sees keys and templates, never a socket.

mod press;
mod queue;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use rayon::prelude::*;

pub use press::{Fault, Letterhead, Press, Printed, Scratch};
pub use queue::{Queue, Turn};

use crate::outcome::Kind;
use crate::rates::Retry;
use crate::recipients::{IndexError, ReadError};
use crate::ring::{Clock, Waker};
use crate::spool::handover::{Back, Fate, Feed};
use crate::spool::{RecordHead, Segment};
use crate::units::{Rate, Utc};

/// Rows of the first batch, before the size of a message is known.
const FIRST_BATCH: usize = 64;
/// Rows of a batch at most. Small messages would otherwise make batches that take seconds.
const BATCH_MAX: usize = 1024;
/// How far ahead of a rate messages are rendered: long enough for two batches, short enough for a
/// fresh `Date:` and signature.
const LEAD: Duration = Duration::from_secs(60);
/// Messages ahead at least, so that every connection finds one.
const LEAD_MIN: u64 = 256;
/// The longest sleep while nothing is due; a stop is noticed after it.
const NAP: Duration = Duration::from_millis(200);

/// What ends the stage early.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The row index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The list cannot be read, or is not the list that was taken in.
    #[error(transparent)]
    List(#[from] ReadError),
}

/// The stage's ends of the channels to delivery.
pub struct Channels {
    /// Full segments go here.
    pub feed: Sender<Feed>,
    /// Empty segments and messages for later come from here.
    pub back: Receiver<Back>,
    /// Wakes delivery when something was fed.
    pub waker: Waker,
}

/// What the stage must know about delivery's pace.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The route's rate, which bounds the lead.
    pub rate: Option<Rate>,
    /// When messages expire.
    pub retry: Retry,
}

/// Prepares every message that the queue holds or that comes back, until all are settled or `stop`
/// is set.
///
/// # Errors
/// When the list or its index cannot be read as they were.
pub fn run(
    press: &Press,
    queue: Queue,
    free: Vec<Segment>,
    pace: &Pace,
    channels: Channels,
    clocks: (Clock, &AtomicBool),
) -> Result<(), PrepareError> {
    let mut prepare = Prepare {
        press,
        queue,
        free,
        pace,
        channels: &channels,
        octets: Vec::new(),
        carry: VecDeque::new(),
        ahead: 0,
        batch: FIRST_BATCH,
    };
    let done = prepare.work(clocks);
    // Delivery ends when it sees the feed closed, so it is woken to look.
    let Channels { feed, waker, .. } = channels;
    drop(feed);
    waker.wake();
    done
}

struct Prepare<'a> {
    press: &'a Press,
    queue: Queue,
    free: Vec<Segment>,
    pace: &'a Pace,
    channels: &'a Channels,
    /// The raw rows of a batch.
    octets: Vec<u8>,
    /// Printed messages that found no room in their segment.
    carry: VecDeque<Printed>,
    /// Messages printed and not settled.
    ahead: u64,
    /// Rows of the next batch: what fills a segment, by the size of the last one's messages.
    batch: usize,
}

impl Prepare<'_> {
    fn work(&mut self, (clock, stop): (Clock, &AtomicBool)) -> Result<(), PrepareError> {
        while !stop.load(Ordering::Relaxed) {
            let now = clock.utc();
            let worked = self.fill(now) | self.print(now)?;
            if self.is_done() {
                break;
            }
            if !self.listen(if worked { Duration::ZERO } else { NAP }) {
                break; // delivery has ended; the caller learns why from it
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ahead == 0 && self.carry.is_empty() && self.queue.is_empty()
    }

    /// How many more messages may be printed now.
    fn room(&self) -> usize {
        let lead = match self.pace.rate {
            None => u64::MAX,
            Some(rate) => {
                let per_lead = u128::from(rate.messages) * LEAD.as_nanos() / rate.period.as_nanos();
                u64::try_from(per_lead).unwrap_or(u64::MAX).max(LEAD_MIN)
            }
        };
        let room = lead.saturating_sub(self.ahead);
        usize::try_from(room).unwrap_or(usize::MAX).min(self.batch)
    }

    /// Prints the next batch if there is room for it; whether it did.
    fn print(&mut self, now: Utc) -> Result<bool, PrepareError> {
        if !self.carry.is_empty() || self.free.is_empty() {
            return Ok(false);
        }
        let turns = self.queue.take(self.room(), now)?;
        if turns.is_empty() {
            return Ok(false);
        }
        let (live, old): (Vec<Turn>, Vec<Turn>) =
            turns.into_iter().partition(|turn| !self.is_over(turn, now));
        self.ahead += (live.len() + old.len()) as u64;
        for turn in old {
            let reason = "expired before its turn came".to_owned();
            self.tell(&turn, Kind::Expired, reason, now);
        }
        let press = self.press;
        let ranges = press.read(&live, &mut self.octets)?;
        let octets = &self.octets;
        let printed: Vec<_> = live
            .par_iter()
            .zip(ranges)
            .map_init(
                || Scratch::new(press),
                |scratch, (turn, range)| press.print(scratch, turn, &octets[range], now),
            )
            .collect();
        for (turn, printed) in live.iter().zip(printed) {
            match printed {
                Ok(printed) => self.carry.push_back(printed),
                Err(fault) => self.tell(turn, Kind::Failed, fault.to_string(), now),
            }
        }
        self.fill(now);
        Ok(true)
    }

    fn is_over(&self, turn: &Turn, now: Utc) -> bool {
        turn.first_attempt.is_some_and(|first| self.pace.retry.is_over(first, now))
    }

    fn tell(&self, turn: &Turn, kind: Kind, reason: String, now: Utc) {
        let first_attempt = turn.first_attempt.unwrap_or(now);
        let (row, attempt) = (turn.entry.row, turn.attempt);
        self.feed(Feed::Fate(Fate { row, attempt, kind, first_attempt, reason }));
    }

    /// Fills free segments with what was printed; whether any was handed over.
    fn fill(&mut self, now: Utc) -> bool {
        let mut handed = false;
        while !self.carry.is_empty() {
            let Some(mut segment) = self.free.pop() else { break };
            segment.clear();
            while let Some(printed) = self.carry.front() {
                let head = RecordHead {
                    row: printed.row,
                    attempt: printed.attempt,
                    spooled: now,
                    first_attempt: printed.first_attempt,
                };
                let parts = [&printed.signatures[..], &printed.message[..]];
                match segment.push(head, &printed.mail_from, &printed.rcpt_to, &parts) {
                    Ok(()) => drop(self.carry.pop_front()),
                    Err(_full) => break,
                }
            }
            assert!(!segment.is_empty(), "an empty segment has room for any message");
            if !self.carry.is_empty() {
                self.batch = segment.len().clamp(1, BATCH_MAX);
            } else if self.batch < BATCH_MAX {
                self.batch = (self.batch * 2).min(BATCH_MAX);
            }
            self.feed(Feed::Segment(segment));
            handed = true;
        }
        handed
    }

    fn feed(&self, feed: Feed) {
        // A closed channel means that delivery has ended; `listen` finds out.
        drop(self.channels.feed.send(feed));
        self.channels.waker.wake();
    }

    /// Takes what comes back, waiting up to `nap` for the first of it; false when delivery ended.
    fn listen(&mut self, nap: Duration) -> bool {
        match self.channels.back.recv_timeout(nap) {
            Ok(back) => self.came_back(back),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok(back) = self.channels.back.try_recv() {
            self.came_back(back);
        }
        true
    }

    fn came_back(&mut self, back: Back) {
        match back {
            Back::Segment(segment) => self.free.push(segment),
            Back::Again(again) => self.queue.later(again),
            Back::Settled(count) => {
                self.ahead -= u64::from(count);
            }
        }
    }
}
