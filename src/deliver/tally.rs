//! tally — what the stage counts: live numbers for whoever watches, and the sums for the end.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::outcome::{Class, Kind, Outcome};
use crate::rates::tally::is_block;

/// Numbers that other threads read while the stage works. They are for looking at; the proof is in
/// the ledger.
#[derive(Debug, Default)]
pub struct Live {
    /// Messages accepted.
    pub delivered: AtomicU64,
    /// Attempts deferred.
    pub deferred: AtomicU64,
    /// Messages refused for good.
    pub bounced: AtomicU64,
    /// Messages whose time ran out.
    pub expired: AtomicU64,
    /// Messages in doubt.
    pub in_doubt: AtomicU64,
    /// Rows that could not be made into a message.
    pub failed: AtomicU64,
    /// Messages ended by the operator.
    pub cancelled: AtomicU64,
    /// Connections open.
    pub connections: AtomicU64,
    /// The number of the run's last connection.
    pub last_connection: AtomicU64,
    /// The same by group, for the groups known at the start.
    pub groups: Vec<LiveGroup>,
}

/// Numbers of one group.
#[derive(Debug, Default)]
pub struct LiveGroup {
    /// Messages accepted.
    pub delivered: AtomicU64,
    /// Attempts deferred.
    pub deferred: AtomicU64,
    /// Messages refused for good.
    pub bounced: AtomicU64,
    /// Of the deferrals, those because of us.
    pub blocked_deferrals: AtomicU64,
    /// Of the refusals, those because of us.
    pub blocked_bounces: AtomicU64,
    /// Messages that have not met their outcome; whoever starts the stage sets it.
    pub left: AtomicU64,
    /// What keeps its messages waiting: the number of a [`crate::outcome::Binding`].
    pub binding: AtomicU8,
}

impl LiveGroup {
    pub(super) fn count(&self, kind: Kind, class: Class) {
        if kind.is_final() {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        let blocked = is_block(kind, class);
        let (counter, of_us) = match kind {
            Kind::Delivered => (&self.delivered, None),
            Kind::Deferred => (&self.deferred, Some(&self.blocked_deferrals)),
            Kind::Bounced => (&self.bounced, Some(&self.blocked_bounces)),
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(counter) = of_us.filter(|_| blocked) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Live {
    /// Messages that have met their outcome.
    pub fn settled(&self) -> u64 {
        let ends = [
            &self.delivered,
            &self.bounced,
            &self.expired,
            &self.in_doubt,
            &self.failed,
            &self.cancelled,
        ];
        ends.into_iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn count(&self, kind: Kind) {
        let counter = match kind {
            Kind::Delivered => &self.delivered,
            Kind::Deferred => &self.deferred,
            Kind::Bounced => &self.bounced,
            Kind::Expired => &self.expired,
            Kind::InDoubt => &self.in_doubt,
            Kind::Failed => &self.failed,
            Kind::Cancelled => &self.cancelled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The sums of a stage's work.
#[derive(Debug)]
pub struct Tally {
    /// Connections made, failed ones included.
    pub connections: u64,
    /// Connections open at this time.
    pub connections_open: u32,
    /// Octets of accepted messages.
    pub octets: u64,
    /// From being rendered to being accepted, in microseconds.
    pub to_accept: Histogram<u64>,
    /// From MAIL FROM to the outcome, in microseconds.
    pub attempt: Histogram<u64>,
    /// Spool records that were not what had been written, with the first few descriptions.
    pub damage: Vec<String>,
}

/// Damage descriptions kept; more of them say the same.
const DAMAGE_MAX: usize = 10;

impl Tally {
    /// Nothing yet.
    #[expect(clippy::new_without_default, reason = "it is made where a stage begins")]
    pub fn new() -> Tally {
        Tally {
            connections: 0,
            connections_open: 0,
            octets: 0,
            to_accept: histogram(),
            attempt: histogram(),
            damage: Vec::new(),
        }
    }

    /// Adds what another thread did.
    pub fn add(&mut self, other: Tally) {
        self.connections += other.connections;
        self.connections_open += other.connections_open;
        self.octets += other.octets;
        self.to_accept += other.to_accept;
        self.attempt += other.attempt;
        self.damage.extend(other.damage);
        self.damage.truncate(DAMAGE_MAX);
    }

    pub(super) fn opened(&mut self) {
        self.connections += 1;
        self.connections_open += 1;
    }

    pub(super) fn closed(&mut self) {
        assert!(self.connections_open > 0, "only an open connection is closed");
        self.connections_open -= 1;
    }

    pub(super) fn damaged(&mut self, description: &str) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(description.to_owned());
        }
    }

    pub(super) fn count(&mut self, outcome: &Outcome<'_>) {
        if outcome.kind == Kind::Delivered {
            self.octets += u64::from(outcome.size);
            self.to_accept.saturating_record(micros(outcome.time.since(outcome.spooled)));
        }
        if outcome.session.key > 0 {
            self.attempt.saturating_record(micros(outcome.took));
        }
    }
}

/// One microsecond to one day at two significant digits: 30 KB each.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 86_400_000_000, 2).expect("the bounds are constants in range")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
