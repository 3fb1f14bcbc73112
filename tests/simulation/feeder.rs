//! feeder — plays preparation's part for the delivery stage: makes messages, takes them back for
//! later, in virtual time and on the stage's own thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crossbeam::channel::{Receiver, Sender};
use mailshot::outcome::{Kind, Row};
use mailshot::rates::Retry;
use mailshot::spool::handover::{Again, Back, Fate, Feed};
use mailshot::spool::{RecordHead, Segment};
use mailshot::units::Utc;

/// The message of a row: what it is, and as many lines as the row says.
pub(crate) fn message(row: u32, attempt: u16) -> String {
    let mut text = format!("X-Row: {row} {attempt}\r\n\r\n");
    for line in 0..row * 7 % 40 {
        text.push_str(&format!("line {line} of the message to row {row}\r\n"));
    }
    text
}

pub(crate) struct Feeder {
    /// `None` once nothing more will come.
    feed: Option<Sender<Feed>>,
    back: Receiver<Back>,
    free: Vec<Segment>,
    fresh: VecDeque<Row>,
    waiting: BinaryHeap<Reverse<Again>>,
    /// Handed over and not settled.
    ahead: u64,
    retry: Retry,
    begun: Utc,
    /// Rows divisible by this cannot be made into a message; 0 for none.
    unmakeable: u32,
}

impl Feeder {
    pub(crate) fn new(
        (feed, back): (Sender<Feed>, Receiver<Back>),
        free: Vec<Segment>,
        work: (VecDeque<Row>, Vec<Again>),
        (retry, begun): (Retry, Utc),
        unmakeable: u32,
    ) -> Feeder {
        let (fresh, waiting) = work;
        let waiting = waiting.into_iter().map(Reverse).collect();
        let feed = Some(feed);
        Feeder { feed, back, free, fresh, waiting, ahead: 0, retry, begun, unmakeable }
    }

    /// Works off what came back and hands over what is due; whether delivery should look.
    pub(crate) fn step(&mut self, now: Utc) -> bool {
        while let Ok(back) = self.back.try_recv() {
            match back {
                Back::Segment(segment) => self.free.push(segment),
                Back::Again(again) => self.waiting.push(Reverse(again)),
                Back::Settled(count) => {
                    self.ahead = self.ahead.checked_sub(u64::from(count)).expect("settled once");
                }
            }
        }
        let Some(feed) = self.feed.clone() else { return false };
        let mut handed = false;
        while self.is_due(now)
            && let Some(mut segment) = self.free.pop()
        {
            segment.clear();
            self.fill(&mut segment, &feed, now);
            feed.send(Feed::Segment(segment)).expect("delivery outlives the feed");
            handed = true;
        }
        if self.ahead == 0 && self.fresh.is_empty() && self.waiting.is_empty() {
            self.stop();
            return true;
        }
        handed
    }

    /// Nothing more comes.
    pub(crate) fn stop(&mut self) {
        self.feed = None;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.feed.is_none()
    }

    /// When [`Feeder::step`] has something to do by itself.
    pub(crate) fn due(&self) -> Option<Utc> {
        let next = self.waiting.peek().map(|Reverse(again)| again.due);
        next.filter(|_| !self.free.is_empty() && self.feed.is_some())
    }

    /// Segments that are here; all of them, once delivery has ended.
    pub(crate) fn segments(&mut self) -> usize {
        self.step(self.begun);
        self.free.len()
    }

    fn is_due(&self, now: Utc) -> bool {
        let waits = |Reverse(again): &Reverse<Again>| again.due <= now;
        !self.fresh.is_empty() || self.waiting.peek().is_some_and(waits)
    }

    fn fill(&mut self, segment: &mut Segment, feed: &Sender<Feed>, now: Utc) {
        while self.is_due(now) {
            let due = self.waiting.peek().filter(|Reverse(again)| again.due <= now);
            let again = due.map(|Reverse(again)| *again).unwrap_or_else(|| Again {
                due: now,
                row: self.fresh[0],
                attempt: 1,
                first_attempt: self.begun,
            });
            if let Some(fate) = self.fate(&again, now) {
                feed.send(Feed::Fate(fate)).expect("delivery outlives the feed");
            } else if !push(segment, &again, now) {
                return;
            }
            self.ahead += 1;
            match again.attempt {
                1 => drop(self.fresh.pop_front()),
                _ => drop(self.waiting.pop()),
            }
        }
    }

    fn fate(&self, again: &Again, now: Utc) -> Option<Fate> {
        let Again { row, attempt, first_attempt, .. } = *again;
        let unmakeable = self.unmakeable > 0 && row.0.is_multiple_of(self.unmakeable);
        let kind = match self.retry.is_over(first_attempt, now) {
            true => Kind::Expired,
            false if unmakeable => Kind::Failed,
            false => return None,
        };
        Some(Fate { row, attempt, kind, first_attempt, reason: "made so".to_owned() })
    }
}

fn push(segment: &mut Segment, again: &Again, now: Utc) -> bool {
    let Again { row, attempt, first_attempt, .. } = *again;
    let head = RecordHead { row, attempt, spooled: now, first_attempt };
    let rcpt_to = format!("r{row}@receiver.example");
    let text = message(row.0, attempt);
    segment.push(head, "bounce@sender.example", &rcpt_to, &[text.as_bytes()]).is_ok()
}
