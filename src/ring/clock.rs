//! clock — the one place where the program reads the time.
//!
//! Everything else takes [`Utc`] and [`Tick`] as arguments. The wall clock may step; the ticks
//! never do.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::{Tick, Utc};

/// The system's clocks; copies count from the same beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Instant,
}

impl Clock {
    /// Begins to count.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Clock {
        Clock { begun: Instant::now() }
    }

    /// Nanoseconds since [`Clock::start`].
    pub fn tick(self) -> Tick {
        Tick(u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall clock; times before 1970 read as 1970.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn utc(self) -> Utc {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Utc(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}
