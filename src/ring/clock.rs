//! clock — the one place where the program reads the time.
//!
//! Everything else takes [`Utc`] and [`Tick`] as arguments. The wall clock may step; the ticks
//! never do. In a rehearsal time runs faster: a clock at speed 100 tells a day in a quarter of an
//! hour, and everything that waits by it waits so much less.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::{Tick, Utc};

/// The system's clocks; copies count from the same beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Instant,
    /// The wall clock's time when it began; only a clock at speed 1 follows its later steps.
    begun_utc: Utc,
    speed: u32,
}

impl Clock {
    /// Begins to count.
    pub fn start() -> Clock {
        Clock::at_speed(1)
    }

    /// Begins to count, so many times as fast as time goes.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn at_speed(speed: u32) -> Clock {
        Clock { begun: Instant::now(), begun_utc: system_time(), speed: speed.max(1) }
    }

    /// This clock, telling no time before `utc`: what a rehearsal has on record is then in the past
    /// of the process that goes on with it.
    pub fn not_before(self, utc: Utc) -> Clock {
        Clock { begun_utc: self.begun_utc.max(utc), ..self }
    }

    /// How many times as fast as time it goes.
    pub fn speed(self) -> u32 {
        self.speed
    }

    /// How long to sleep so that this clock goes on by `duration`.
    pub fn sleep(self, duration: Duration) -> Duration {
        duration / self.speed
    }

    /// Nanoseconds since the clock began.
    pub fn tick(self) -> Tick {
        let nanos = self.begun.elapsed().as_nanos().saturating_mul(self.speed.into());
        Tick(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The wall clock; times before 1970 read as 1970.
    pub fn utc(self) -> Utc {
        match self.speed {
            1 => system_time(),
            _ => self.begun_utc.after(self.tick().since(Tick(0))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_time() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Utc(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
