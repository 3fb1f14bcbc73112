//! prepare — stage 1: rows become signed messages in the spool, as many as delivery wants.
//!
//! One thread decides what is next: delivery wants so many messages of a group ([`wants`]), the
//! [`Queue`] has the rows of each group in their order. All cores render, build and sign a batch
//! ([`Press`]), and its messages go into the open segment of one delivery thread ([`outlet`]) in
//! the order of the batch, so the octets do not depend on the number of threads. Nothing is made
//! that nobody wants, and wanting groups take turns: a slow one never holds back a fast one.
//!
//! A group that wants messages and has none due is looked at again when one is due or comes back;
//! nothing is polled. What delivery gives up ([`abandoned`]) becomes [`Fate`]s.
//!
//! How it fails: a row that cannot become a message is a fate and hurts no other row. A list that
//! changed under the run, or cannot be read any more, ends the stage ([`PrepareError`]); what was
//! handed over is still delivered and the run can be resumed.
//!
//! It sees keys and templates, never a socket.
//!
//! [`Fate`]: crate::spool::handover::Fate

mod abandoned;
mod outlet;
mod press;
mod queue;
mod sorting;
mod stage;
mod wants;

use std::sync::atomic::AtomicBool;

use crossbeam::channel::{Receiver, Sender};

pub use press::{Fault, Letterhead, Press, Printed, Scratch};
pub use queue::{Address, Left, Queue, Turn};

use crate::rates::Retry;
use crate::recipients::{IndexError, ReadError};
use crate::ring::{Clock, Waker};
use crate::spool::Segment;
use crate::spool::handover::{Back, Feed};
use outlet::Outlet;
use stage::Stage;

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
    /// For each delivery thread: where its segments and fates go, and what wakes it when something
    /// was fed. A group belongs to the thread of its number modulo their count.
    pub feeds: Vec<(Sender<Feed>, Waker)>,
    /// What comes from all of them.
    pub back: Receiver<Back>,
}

/// What the stage did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Messages put into segments.
    pub messages: u64,
    /// Segments handed over.
    pub segments: u64,
    /// Rows that ended without a message.
    pub fates: u64,
    /// How often the stage looked for something to do.
    pub rounds: u64,
}

/// Prepares the messages that delivery wants, until all that the queue holds or that comes back are
/// settled, delivery has ended, or `stop` is set.
///
/// `retry` has the schedule of each group, by which waiting messages expire. `free` are the
/// segments that all delivery threads share; there are more of them than threads.
///
/// # Errors
/// When the list or its index cannot be read as they were.
///
/// # Panics
/// When there is no delivery thread, when it has no schedule for a group of the queue, or when
/// more is settled than was handed over.
pub fn run(
    press: &Press,
    queue: Queue,
    free: Vec<Segment>,
    retry: Vec<Retry>,
    channels: Channels,
    clocks: (Clock, &AtomicBool),
) -> Result<Made, PrepareError> {
    let Channels { feeds, back } = channels;
    let outlets = feeds.into_iter().map(|(feed, waker)| Outlet::new(feed, waker)).collect();
    let mut stage = Stage::new(press, queue, free, retry, outlets);
    let done = stage.work(&back, clocks);
    // Delivery ends when it sees its feed closed.
    let made = stage.end();
    done.map(|()| made)
}
