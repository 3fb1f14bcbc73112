//! outlet — the way to one delivery thread: a segment that is being filled, and what waits to be
//! sent.
//!
//! Sending never waits, or one thread that is slow to take would hold up the others: what finds the
//! channel full is kept, and nothing more is made for that thread until it has left. A thread that
//! has ended takes nothing; its messages stay in the ledger's books as not sent.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};

use super::Printed;
use crate::ring::Waker;
use crate::spool::handover::Feed;
use crate::spool::{RecordHead, Segment};
use crate::units::{Tick, Utc};

/// Between two segments that are handed over before they are full. A segment is used again only
/// when its last message has left, so a stream of nearly empty ones would use up the ring of
/// segments; 50 a second of them leave it time, and no provider's pace notices 20 ms.
const PARTIAL_EVERY: Duration = Duration::from_millis(20);

/// The way to one delivery thread.
pub(super) struct Outlet {
    feed: Sender<Feed>,
    waker: Waker,
    /// Messages that found no room yet.
    carry: VecDeque<Printed>,
    /// The segment being filled.
    open: Option<Segment>,
    /// What is to be sent.
    out: VecDeque<Feed>,
    /// When the last segment was handed over that was not full.
    partial_at: Option<Tick>,
    /// Segments sent.
    segments: u64,
}

impl Outlet {
    /// A way that nothing has gone yet.
    pub(super) fn new(feed: Sender<Feed>, waker: Waker) -> Outlet {
        Outlet {
            feed,
            waker,
            carry: VecDeque::new(),
            open: None,
            out: VecDeque::new(),
            partial_at: None,
            segments: 0,
        }
    }

    /// Whether everything made for it could be sent; only then more is made.
    pub(super) fn is_clear(&self) -> bool {
        self.carry.is_empty() && self.out.is_empty()
    }

    /// Whether a segment is being filled.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Messages that were made and are not handed over.
    pub(super) fn in_hand(&self) -> u64 {
        (self.carry.len() + self.open.as_ref().map_or(0, Segment::len)) as u64
    }

    /// Segments that were handed over.
    pub(super) fn segments(&self) -> u64 {
        self.segments
    }

    /// A message to be sent with the next segment.
    pub(super) fn push(&mut self, printed: Printed) {
        self.carry.push_back(printed);
    }

    /// Something to be sent as it is.
    pub(super) fn tell(&mut self, feed: Feed) {
        self.out.push_back(feed);
    }

    /// Puts messages into segments, as long as there are `free` ones. Full ones are to be sent.
    pub(super) fn fill(&mut self, free: &mut Vec<Segment>, now: Utc) {
        while let Some(printed) = self.carry.front() {
            let Some(mut segment) = self.open.take().or_else(|| cleared(free)) else { return };
            let head = RecordHead {
                row: printed.row,
                attempt: printed.attempt,
                spooled: now,
                first_attempt: printed.first_attempt,
                site: printed.site,
                source: printed.source,
            };
            let parts = [&printed.signatures[..], &printed.message[..]];
            match segment.push(head, &printed.mail_from, &printed.rcpt_to, &parts) {
                Ok(()) => {
                    self.carry.pop_front();
                    self.open = Some(segment);
                }
                Err(_full) => {
                    assert!(!segment.is_empty(), "an empty segment has room for any message");
                    self.segments += 1;
                    self.out.push_back(Feed::Segment(segment));
                }
            }
        }
    }

    /// Whether, and from when on, the segment being filled may be handed over although it is not
    /// full. `idle`: delivery has nothing else from us.
    pub(super) fn partial_from(&self, idle: bool, now: Tick) -> Option<Tick> {
        self.open.as_ref()?;
        let from = self.partial_at.filter(|_| !idle).map(|last| last.after(PARTIAL_EVERY));
        Some(from.unwrap_or(now))
    }

    /// Hands over the segment being filled as it is.
    pub(super) fn close(&mut self, now: Tick) {
        if let Some(segment) = self.open.take() {
            self.partial_at = Some(now);
            self.segments += 1;
            self.out.push_back(Feed::Segment(segment));
        }
    }

    /// Sends what there is room for; how much was sent.
    pub(super) fn send(&mut self) {
        let mut sent = false;
        while let Some(feed) = self.out.pop_front() {
            match self.feed.try_send(feed) {
                Ok(()) => sent = true,
                Err(TrySendError::Full(feed)) => {
                    self.out.push_front(feed);
                    break;
                }
                // The thread has ended; the caller learns why from it.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        if sent {
            self.waker.wake();
        }
    }

    /// The channel, if it was too full for what is to be sent.
    pub(super) fn full(&self) -> Option<&Sender<Feed>> {
        (!self.out.is_empty()).then_some(&self.feed)
    }

    /// Nothing more will come; the thread is woken to see it.
    pub(super) fn end(self) {
        let Outlet { feed, waker, .. } = self;
        drop(feed);
        waker.wake();
    }
}

fn cleared(free: &mut Vec<Segment>) -> Option<Segment> {
    let mut segment = free.pop()?;
    segment.clear();
    Some(segment)
}
