//! clock — the only place that reads clocks; everything else gets the time as an argument.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since some fixed moment; it never runs backwards.
pub(crate) fn now() -> Duration {
    read_clock(ClockId::Monotonic)
}

/// Processor time of this thread.
pub(crate) fn cpu_time() -> Duration {
    read_clock(ClockId::ThreadCPUTime)
}

fn read_clock(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("these clocks are never negative")
}
