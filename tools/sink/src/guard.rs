//! guard — what a provider keeps about each source that connects to it: how many connections are
//! open, how many recipients came lately, and whom it has seen before.
//!
//! It counts on its own, so that what it refuses does not depend on any other count of the sink.
//! Memory is bounded by [`SOURCES_MAX`] and [`GREY_MAX`]; what comes beyond is let in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Sources of a provider that are counted.
const SOURCES_MAX: usize = 1 << 16;
/// Pairs of sender and recipient remembered for greylisting.
const GREY_MAX: usize = 1 << 20;

/// Everything that providers keep.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// By provider and source.
    sources: HashMap<(usize, IpAddr), Counts>,
    /// When a pair was first seen.
    grey: HashMap<Box<[u8]>, Duration>,
}

#[derive(Debug, Default)]
struct Counts {
    open: u64,
    /// When the recipients of the last window came.
    lately: VecDeque<Duration>,
}

impl Guard {
    fn counts(&mut self, provider: usize, source: IpAddr) -> Option<&mut Counts> {
        let key = (provider, source);
        let known = self.sources.len() < SOURCES_MAX || self.sources.contains_key(&key);
        known.then(|| self.sources.entry(key).or_default())
    }

    /// A connection came; how many are open now, it included.
    pub(crate) fn open(&mut self, provider: usize, source: IpAddr) -> u64 {
        self.counts(provider, source).map_or(0, |counts| {
            counts.open += 1;
            counts.open
        })
    }

    /// A connection went.
    pub(crate) fn close(&mut self, provider: usize, source: IpAddr) {
        if let Some(counts) = self.sources.get_mut(&(provider, source)) {
            counts.open = counts.open.saturating_sub(1);
        }
    }

    /// A recipient came at `now`; whether the source had `most` already within the last `window`.
    pub(crate) fn is_too_fast(
        &mut self,
        (provider, source): (usize, IpAddr),
        (most, window): (u64, Duration),
        now: Duration,
    ) -> bool {
        let Some(counts) = self.counts(provider, source) else { return false };
        while counts.lately.front().is_some_and(|first| *first + window <= now) {
            counts.lately.pop_front();
        }
        let too_fast = counts.lately.len() as u64 >= most;
        // One more than is allowed is as bad as any number.
        if too_fast {
            counts.lately.pop_front();
        }
        counts.lately.push_back(now);
        too_fast
    }

    /// Whether this is the first time that the pair is seen, or less than `wait` after it.
    pub(crate) fn is_grey(&mut self, pair: &[u8], wait: Duration, now: Duration) -> bool {
        match self.grey.get(pair) {
            Some(first) => now < *first + wait,
            None if self.grey.len() >= GREY_MAX => false,
            None => {
                self.grey.insert(pair.into(), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_pace_is_kept_per_source_in_any_window() {
        let mut guard = Guard::default();
        let other = IpAddr::from([127, 0, 0, 2]);
        let pace = (2, Duration::from_millis(100));
        let mut at =
            |source, millis| guard.is_too_fast((0, source), pace, Duration::from_millis(millis));
        let seen = [0, 50, 99, 100, 149, 250, 250, 250].map(|millis| at(SOURCE, millis));
        // What is refused counts too: at 100 the recipients of 50 and 99 are in the window.
        assert_eq!(seen, [false, false, true, true, true, false, false, true]);
        assert!(!at(other, 250));
    }

    #[test]
    fn connections_are_counted_per_provider_and_source() {
        let mut guard = Guard::default();
        assert_eq!(
            [guard.open(0, SOURCE), guard.open(0, SOURCE), guard.open(1, SOURCE)],
            [1, 2, 1]
        );
        guard.close(0, SOURCE);
        assert_eq!(guard.open(0, SOURCE), 2);
    }

    #[test]
    fn grey_pairs_have_to_wait() {
        let mut guard = Guard::default();
        let wait = Duration::from_secs(5);
        let mut grey = |pair: &[u8], at| guard.is_grey(pair, wait, Duration::from_secs(at));
        assert!(grey(b"a", 1) && grey(b"a", 5) && grey(b"b", 6));
        assert!(!grey(b"a", 6) && grey(b"b", 10) && !grey(b"b", 11));
    }
}
