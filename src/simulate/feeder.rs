//! feeder — plays preparation's part for the delivery stage: makes messages, takes them back for
//! later, in virtual time and on the stage's own thread.
//!
//! Messages are made of nothing but what a function says; rows wait in the queue of their group,
//! and none is made that delivery does not want. What comes back unattempted is the next of its
//! group again, what is deferred comes back when it is due. It cannot fail but by a broken promise
//! of the stage (a message settled twice), which is an assertion.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write;

use crossbeam::channel::{Receiver, Sender};

use crate::destination::{GroupNo, SiteNo};
use crate::outcome::{Kind, Row};
use crate::rates::Retry;
use crate::spool::handover::{Again, Back, Fate, Feed};
use crate::spool::{RecordHead, Segment};
use crate::units::Utc;

/// What a run finds to do.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Rows that were never attempted, by group, in the order of their turn.
    pub fresh: Vec<VecDeque<(Row, SiteNo)>>,
    /// Rows that wait for another attempt.
    pub waiting: Vec<Again>,
}

/// How messages are made.
#[derive(Clone, Debug)]
pub struct Making {
    /// When a message that waits is given up, by group.
    pub retry: Vec<Retry>,
    /// Appends the message of a row and attempt.
    pub message: fn(Row, u16, &mut Vec<u8>),
    /// Rows divisible by this cannot be made into a message; 0 for none.
    pub unmakeable: u32,
    /// Whether messages are made that nobody asked for, as long as there is room.
    pub unasked: bool,
}

/// The rows of a group.
#[derive(Default)]
struct Queue {
    /// So many messages more are wanted.
    wanted: u32,
    /// Came back unattempted; the last one is the next.
    returned: Vec<Again>,
    /// Deferred, and due by now.
    due: VecDeque<Again>,
    fresh: VecDeque<(Row, SiteNo)>,
    /// Nothing is made any more.
    given_up: Option<(Kind, String)>,
    /// It is among those that are looked at.
    listed: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.due.is_empty() && self.fresh.is_empty()
    }

    fn take(&mut self, group: GroupNo, now: Utc) -> Option<Again> {
        let again = self.returned.pop().or_else(|| self.due.pop_front());
        again.or_else(|| {
            let (row, site) = self.fresh.pop_front()?;
            let (attempt, first_attempt, source) = (1, None, None);
            Some(Again { due: now, row, attempt, first_attempt, site, group, source })
        })
    }
}

/// The other end of the delivery stage's channels.
pub struct Feeder {
    /// `None` once nothing more will come.
    feed: Option<Sender<Feed>>,
    back: Receiver<Back>,
    free: Vec<Segment>,
    queues: Vec<Queue>,
    /// Groups that have rows and are wanted.
    listed: VecDeque<GroupNo>,
    waiting: BinaryHeap<Reverse<Again>>,
    /// Handed over and not settled, and still to be handed over.
    ahead: u64,
    left: u64,
    now: Utc,
    making: Making,
    text: Vec<u8>,
    rcpt_to: String,
}

impl Feeder {
    /// A feeder with free segments and everything to do.
    pub fn new(
        (feed, back): (Sender<Feed>, Receiver<Back>),
        free: Vec<Segment>,
        work: Work,
        making: Making,
    ) -> Feeder {
        let fresh: usize = work.fresh.iter().map(VecDeque::len).sum();
        let left = (fresh + work.waiting.len()) as u64;
        let queue = |fresh| Queue { fresh, ..Queue::default() };
        let mut feeder = Feeder {
            feed: Some(feed),
            back,
            free,
            queues: work.fresh.into_iter().map(queue).collect(),
            listed: VecDeque::new(),
            waiting: work.waiting.into_iter().map(Reverse).collect(),
            ahead: 0,
            left,
            now: Utc(0),
            making,
            text: Vec::new(),
            rcpt_to: String::new(),
        };
        for group in 0..feeder.queues.len() {
            feeder.list(group);
        }
        feeder
    }

    /// Works off what came back and hands over what is wanted; whether delivery should look.
    pub fn step(&mut self, now: Utc) -> bool {
        self.now = now;
        let mut handed = self.hear();
        if self.feed.is_none() {
            return false;
        }
        while self.due().is_some_and(|due| due <= now)
            && let Some(Reverse(again)) = self.waiting.pop()
        {
            let group = self.queue_of(again.group);
            self.queues[group].due.push_back(again);
            handed |= self.list(group);
        }
        while !self.listed.is_empty()
            && let Some(mut segment) = self.free.pop()
        {
            segment.clear();
            handed |= self.fill(&mut segment);
            match segment.is_empty() {
                true => self.free.push(segment),
                false => self.send(Feed::Segment(segment)),
            }
        }
        if self.ahead == 0 && self.left == 0 {
            self.stop();
            return true;
        }
        handed
    }

    /// Nothing more comes.
    pub fn stop(&mut self) {
        self.feed = None;
    }

    /// Whether nothing more comes.
    pub fn is_done(&self) -> bool {
        self.feed.is_none()
    }

    /// When [`Feeder::step`] has something to do by itself.
    pub fn due(&self) -> Option<Utc> {
        let next = self.waiting.peek().map(|Reverse(again)| again.due);
        next.filter(|_| self.feed.is_some())
    }

    /// Segments that are here; all of them, once delivery has ended.
    pub fn segments(&mut self) -> usize {
        self.hear();
        self.free.len()
    }

    /// Whether this group has messages that could be made now.
    pub fn has_messages(&self, group: GroupNo) -> bool {
        !self.queues[group.index()].is_empty()
    }

    /// What came back; whether that made anything that delivery should look at.
    fn hear(&mut self) -> bool {
        let mut handed = false;
        while let Ok(back) = self.back.try_recv() {
            match back {
                Back::Segment(segment) => self.free.push(segment),
                Back::Again(again) => {
                    self.left += 1;
                    let group = self.queue_of(again.group);
                    match self.queues[group].given_up {
                        Some(_) => handed |= self.give_up(group, again),
                        None => self.waiting.push(Reverse(again)),
                    }
                }
                Back::Returned(again) => {
                    self.left += 1;
                    let group = self.queue_of(again.group);
                    self.queues[group].returned.push(again);
                    // It ends the wants of its group.
                    self.queues[group].wanted = 0;
                    handed |= self.list(group);
                }
                Back::Want(group, more) => {
                    let group = self.queue_of(group);
                    self.queues[group].wanted += more;
                    handed |= self.list(group);
                }
                Back::GiveUp(group, kind, why) => handed |= self.drain(group, kind, &why),
                Back::Routed(..) => {}
                Back::Settled(count) => {
                    self.ahead = self.ahead.checked_sub(u64::from(count)).expect("settled once");
                }
            }
        }
        handed
    }

    /// The queue of a group, which may be new.
    fn queue_of(&mut self, group: GroupNo) -> usize {
        if group.index() >= self.queues.len() {
            self.queues.resize_with(group.index() + 1, Queue::default);
        }
        group.index()
    }

    /// Puts a group on the list if it has something to make; or gives its rows up, if that is what
    /// became of it. Whether delivery should look.
    fn list(&mut self, group: usize) -> bool {
        let queue = &mut self.queues[group];
        let number = GroupNo(u32::try_from(group).expect("groups count in 32 bits"));
        if queue.given_up.is_some() {
            let mut some = false;
            while let Some(again) = self.queues[group].take(number, self.now) {
                some |= self.give_up(group, again);
            }
            return some;
        }
        let wanted = self.making.unasked || queue.wanted > 0;
        if wanted && !queue.listed && !queue.is_empty() {
            queue.listed = true;
            self.listed.push_back(number);
        }
        false
    }

    fn drain(&mut self, group: Option<GroupNo>, kind: Kind, why: &str) -> bool {
        let groups = match group {
            Some(group) => self.queue_of(group)..group.index() + 1,
            None => 0..self.queues.len(),
        };
        let mut handed = false;
        for group in groups.clone() {
            self.queues[group].given_up = Some((kind, why.to_owned()));
        }
        let ends = |again: &Again| groups.contains(&again.group.index());
        let (over, kept) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|Reverse(again)| ends(again));
        self.waiting = kept.into();
        for Reverse(again) in over {
            handed |= self.give_up(again.group.index(), again);
        }
        for group in groups {
            handed |= self.list(group);
        }
        handed
    }

    /// A row ends without an attempt.
    fn give_up(&mut self, group: usize, again: Again) -> bool {
        let Some((kind, reason)) = self.queues[group].given_up.clone() else { return false };
        let first_attempt = again.first_attempt.unwrap_or(again.due);
        let Again { row, attempt, .. } = again;
        let group = Some(again.group);
        self.fate(Fate { row, group, attempt, kind, first_attempt, reason });
        true
    }

    fn send(&mut self, feed: Feed) {
        if let Some(sender) = &self.feed {
            sender.send(feed).expect("delivery outlives the feed");
        }
    }

    fn fate(&mut self, fate: Fate) {
        self.ahead += 1;
        self.left -= 1;
        self.send(Feed::Fate(fate));
    }

    /// Fills a segment with what is wanted, one message of each group after the other; whether
    /// there was anything.
    fn fill(&mut self, segment: &mut Segment) -> bool {
        let (now, mut some) = (self.now, false);
        while let Some(group) = self.listed.pop_front() {
            let queue = &mut self.queues[group.index()];
            let more = self.making.unasked || queue.wanted > 0;
            let Some(again) = more.then(|| queue.take(group, now)).flatten() else {
                queue.listed = false;
                continue;
            };
            if let Some(fate) = self.making.fate(&again, now) {
                self.fate(fate);
            } else if self.push(segment, &again) {
                let queue = &mut self.queues[group.index()];
                queue.wanted = queue.wanted.saturating_sub(1);
                self.ahead += 1;
                self.left -= 1;
            } else {
                assert!(!segment.is_empty(), "a message fits an empty segment");
                self.queues[group.index()].returned.push(again);
                self.listed.push_front(group);
                return some;
            }
            some = true;
            self.listed.push_back(group);
        }
        some
    }

    fn push(&mut self, segment: &mut Segment, again: &Again) -> bool {
        let Again { row, attempt, first_attempt, site, source, .. } = *again;
        let head = RecordHead { row, attempt, spooled: self.now, first_attempt, site, source };
        self.rcpt_to.clear();
        write!(self.rcpt_to, "r{row}@s{site}.example").expect("strings take all");
        self.text.clear();
        (self.making.message)(row, attempt, &mut self.text);
        segment.push(head, "bounce@sender.example", &self.rcpt_to, &[&self.text]).is_ok()
    }
}

impl Making {
    /// The end of a row that no message is made for.
    fn fate(&self, again: &Again, now: Utc) -> Option<Fate> {
        let Again { row, attempt, first_attempt, .. } = *again;
        let unmakeable = self.unmakeable > 0 && row.0.is_multiple_of(self.unmakeable);
        let retry = self.retry.get(again.group.index());
        let is_over = |first| retry.is_some_and(|retry| retry.is_over(first, now));
        let kind = match first_attempt.is_some_and(is_over) {
            true => Kind::Expired,
            false if unmakeable => Kind::Failed,
            false => return None,
        };
        let first_attempt = first_attempt.unwrap_or(now);
        let (group, reason) = (Some(again.group), "made so".to_owned());
        Some(Fate { row, group, attempt, kind, first_attempt, reason })
    }
}
