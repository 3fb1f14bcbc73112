//! lane — when the route may be approached: its rate, its pauses, its addresses in turn.
//!
//! After trouble that is about us or about the receiver as a whole the lane pauses, then probes:
//! one connection until a message is accepted, then one more at a time. The pause doubles with each
//! trouble. A receiver that refuses a further connection while others stand sets the number, and
//! from time to time one more is tried. Time is an argument.

use std::net::SocketAddr;
use std::time::Duration;

use super::Settings;
use crate::rates::Bucket;
use crate::units::{Rate, Tick};

/// The first pause after trouble.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause: a receiver that was down for a night is found within five minutes.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How much longer one message may be on its way than another. The bucket keeps its bound where
/// messages begin, to the nanosecond; the receiver counts where they arrive, and saw 201 within a
/// second of "200/s" over loopback on a busy machine (measured). Costs 1 % of a rate per second,
/// nothing of one per hour.
const TRANSIT_JITTER: Duration = Duration::from_millis(10);

/// Between two additions of one connection after trouble.
const GROW_EVERY: Duration = Duration::from_secs(1);

/// The state of the route.
pub(super) struct Lane {
    addresses: Vec<SocketAddr>,
    turn: usize,
    connections: u32,
    bucket: Option<Bucket>,
    paused_until: Tick,
    pause: Duration,
    /// Since when the receiver as a whole has been in trouble.
    down_since: Option<Tick>,
    /// Connections allowed for now.
    allowed: u32,
    grow_at: Tick,
}

impl Lane {
    pub(super) fn new(settings: &Settings, now: Tick) -> Lane {
        assert!(!settings.addresses.is_empty(), "a route has an address");
        Lane {
            addresses: settings.addresses.clone(),
            turn: 0,
            connections: settings.connections,
            bucket: settings.rate.map(|rate| {
                Bucket::resumed(as_it_arrives(rate), now, settings.recent.iter().copied())
            }),
            paused_until: Tick(0),
            pause: PAUSE_MIN,
            down_since: None,
            allowed: settings.connections,
            grow_at: Tick(0),
        }
    }

    /// The earliest moment at which the next message may begin.
    pub(super) fn opens_at(&self) -> Tick {
        let granted = self.bucket.as_ref().map_or(Tick(0), Bucket::next);
        granted.max(self.paused_until)
    }

    /// Takes the grant for one message.
    pub(super) fn take(&mut self, now: Tick) {
        if let Some(bucket) = &mut self.bucket {
            let granted = bucket.take(now);
            assert!(granted.is_ok(), "a message begins only when the lane is open");
        }
    }

    /// Connections allowed at this time.
    pub(super) fn allowed(&self) -> u32 {
        self.allowed
    }

    /// How many of `ready` messages could begin within a second of the lane's opening: as many
    /// connections are worth making at once.
    pub(super) fn soon(&self, ready: usize) -> usize {
        let Some(bucket) = &self.bucket else { return ready };
        let per_second = 1_000_000_000 / bucket.interval().as_nanos().max(1) + 1;
        ready.min(usize::try_from(per_second).unwrap_or(usize::MAX))
    }

    /// The address for the next connection.
    pub(super) fn next_address(&mut self) -> SocketAddr {
        let address = self.addresses[self.turn];
        self.turn = (self.turn + 1) % self.addresses.len();
        address
    }

    /// The receiver as a whole refused us or could not be reached. Whether this is news: the
    /// connections of one burst fail together, and that is one trouble.
    pub(super) fn trouble(&mut self, now: Tick) -> bool {
        if self.paused_until > now {
            return false;
        }
        self.down_since.get_or_insert(now);
        self.paused_until = now.after(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.allowed = 1;
        self.grow_at = self.paused_until.after(GROW_EVERY);
        true
    }

    /// The receiver wants no more than `standing` connections.
    pub(super) fn narrow(&mut self, standing: u32, now: Tick) {
        self.allowed = standing.clamp(1, self.connections);
        self.grow_at = now.after(GROW_EVERY);
    }

    /// How long the receiver as a whole has been in trouble without a message accepted between.
    pub(super) fn down_for(&self, now: Tick) -> Duration {
        self.down_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// A message was accepted.
    pub(super) fn success(&mut self, now: Tick) {
        self.down_since = None;
        self.pause = PAUSE_MIN;
        if self.allowed < self.connections && now >= self.grow_at {
            self.allowed += 1;
            self.grow_at = now.after(GROW_EVERY);
        }
    }
}

/// The rate at which messages begin so that they arrive at no more than `rate`.
fn as_it_arrives(rate: Rate) -> Rate {
    Rate { period: rate.period + TRANSIT_JITTER, ..rate }
}
