//! ring — the kernel's side of delivery: sockets, deadlines, the clock.
//!
//! [`Ring`] is what the delivery stage sees: connections that send a few octets and a slice of
//! mapped memory in one piece, receive into a shared arena, and have one deadline each. It has more
//! than one implementation (the kernel's io_uring here, a simulated world in the tests of the
//! stage), which is the only reason why it is a trait.
//!
//! Completions are queued first and acted upon later: [`Ring::wait`] only collects. That keeps the
//! caller free to call back into the ring while it works through the events.
//!
//! How it fails: what happens to a connection is an [`Event`]; only what ends the whole ring is a
//! [`RingError`]. It knows nothing of SMTP, campaigns or policy.

mod buffers;
pub mod clock;
mod deadlines;
mod socket;
mod uring;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use clock::Clock;
pub use deadlines::Deadlines;
pub use uring::{Uring, Waker};

use crate::units::{Tick, Utc};

/// One connection of one ring. Numbers are used again after the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// Octets that stay put while the kernel reads them: a range of somebody's mapped memory.
///
/// The clone of the owner is held until the send has completed, so the memory cannot be recycled
/// under the kernel's hands.
#[derive(Clone)]
pub struct Shared {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Shared {
    /// `range` of the owner's octets.
    ///
    /// # Panics
    /// When the range is not within the owner's octets.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Shared {
        assert!(range.start <= range.end, "a range runs forward");
        assert!(range.end <= (*owner).as_ref().len(), "the range lies within its owner");
        Shared { owner, range }
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

/// What one send puts on the wire, in this order and in one piece.
#[derive(Clone, Default)]
pub struct Parcel {
    /// Commands.
    pub head: Vec<u8>,
    /// The message, straight from the mapping.
    pub body: Option<Shared>,
    /// The final dot and what may follow it.
    pub tail: Vec<u8>,
}

impl Parcel {
    /// Octets in all.
    pub fn len(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.octets().len());
        self.head.len() + body + self.tail.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection stands; `source` is our address on it.
    Connected {
        /// Which connection.
        conn: ConnId,
        /// Our own address.
        source: Option<IpAddr>,
    },
    /// Octets arrived: a range of [`Events::arena`].
    Received {
        /// Which connection.
        conn: ConnId,
        /// Where they lie in the arena.
        octets: Range<usize>,
    },
    /// The parcel has left for the kernel as a whole.
    Sent {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection is unusable: the peer closed (`errno` 0), or an error. Of the unfinished
    /// parcel at most `sent` octets have left. No event follows for this connection, but the caller
    /// must still [`Ring::close`] it.
    Broken {
        /// Which connection.
        conn: ConnId,
        /// The error number, 0 for an orderly close.
        errno: i32,
        /// Octets of the parcel in flight that the kernel accepted, or may have.
        sent: usize,
    },
    /// The deadline passed.
    Deadline {
        /// Which connection.
        conn: ConnId,
    },
}

/// What one [`Ring::wait`] collected.
#[derive(Default)]
pub struct Events {
    /// In the order in which the kernel told them.
    pub list: Vec<Event>,
    /// Received octets; events point into it.
    pub arena: Vec<u8>,
}

impl Events {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.arena.clear();
    }
}

/// Sockets, deadlines and the clock of one delivery thread.
pub trait Ring {
    /// The monotonic time of the last [`Ring::wait`]'s return.
    fn now(&self) -> Tick;

    /// The wall clock's time of the same moment.
    fn utc(&self) -> Utc;

    /// Begins to connect; [`Event::Connected`] or [`Event::Broken`] follows.
    ///
    /// # Errors
    /// When no socket can be had (file descriptors, addresses); the errno tells.
    fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<ConnId>;

    /// Sends a parcel; [`Event::Sent`] or [`Event::Broken`] follows.
    ///
    /// # Panics
    /// When the connection still has a parcel in flight, or the parcel is empty.
    fn send(&mut self, conn: ConnId, parcel: Parcel);

    /// Sets the connection's one deadline; a later call replaces it.
    fn deadline(&mut self, conn: ConnId, at: Tick);

    /// Ends the connection; no event follows.
    fn close(&mut self, conn: ConnId);

    /// Submits what was asked for and collects at least one event, or returns at `until`, or when
    /// somebody woke the ring. `events` is cleared first.
    ///
    /// # Errors
    /// When the ring itself fails; no connection of it can be used then.
    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError>;
}

/// What ends or forbids a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel does not let us have a ring.
    #[error("io_uring cannot be used here: {cause} ({source})")]
    Refused {
        /// What the system says about why.
        cause: String,
        /// The error of `io_uring_setup`.
        source: io::Error,
    },
    /// Submitting or waiting failed.
    #[error("the ring broke while {doing}: {source}")]
    Broken {
        /// What it was doing.
        doing: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// Longest sleep of a ring without any deadline: a wake-up that finds nothing costs microseconds.
const IDLE_SLEEP: Duration = Duration::from_secs(1);
