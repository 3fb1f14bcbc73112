//! rate — the most recipients within any time of a given length, exactly.
//!
//! A lane is what a sender paces: the connections from one source address to one listener. Every
//! RCPT counts, accepted or not, since providers count attempts. Times are those at which the
//! receiver read the command. A window reaches from an event back to, but not including, the
//! moment one length earlier; so a sender that keeps "at most N per second" is never seen above N
//! unless two of its messages met on the way. It must not know replies.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

/// Moments kept per window; events of one microsecond share one. 16 MB at most.
const MOMENTS_MAX: usize = 1 << 20;
/// Lanes measured on their own; those beyond are part of the sum only.
const LANES_MAX: usize = 1024;

/// A sliding window over counted moments.
#[derive(Debug, Default)]
struct Window {
    moments: VecDeque<(u64, u32)>,
    inside: u64,
    most: u64,
    events: u64,
    overrun: bool,
}

impl Window {
    /// One event. Moments never run backwards.
    fn record(&mut self, micros: u64, length: u64) {
        while let Some(&(first, count)) = self.moments.front()
            && first + length <= micros
        {
            self.inside -= u64::from(count);
            self.moments.pop_front();
        }
        match self.moments.back_mut() {
            Some((last, count)) if *last == micros => *count += 1,
            _ => self.moments.push_back((micros, 1)),
        }
        self.inside += 1;
        self.events += 1;
        if self.moments.len() > MOMENTS_MAX
            && let Some((_, count)) = self.moments.pop_front()
        {
            self.inside -= u64::from(count);
            self.overrun = true;
        }
        self.most = self.most.max(self.inside);
    }
}

#[derive(Debug)]
struct Lane {
    listener: SocketAddr,
    source: IpAddr,
    window: Window,
    connections: u64,
    connections_max: u64,
}

/// Which lane a connection is on; none beyond [`LANES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneId(Option<usize>);

/// The measurement at work.
#[derive(Debug)]
pub(crate) struct Rate {
    length: Duration,
    total: Window,
    lanes: Vec<Lane>,
    ids: HashMap<(SocketAddr, IpAddr), usize>,
}

impl Rate {
    pub(crate) fn new(length: Duration) -> Rate {
        Rate { length, total: Window::default(), lanes: Vec::new(), ids: HashMap::new() }
    }

    /// A connection began.
    pub(crate) fn open(&mut self, listener: SocketAddr, source: IpAddr) -> LaneId {
        let known = self.ids.get(&(listener, source)).copied();
        if known.is_none() && self.lanes.len() == LANES_MAX {
            return LaneId(None);
        }
        let id = known.unwrap_or_else(|| {
            let window = Window::default();
            self.lanes.push(Lane { listener, source, window, connections: 0, connections_max: 0 });
            self.ids.insert((listener, source), self.lanes.len() - 1);
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[id];
        lane.connections += 1;
        lane.connections_max = lane.connections_max.max(lane.connections);
        LaneId(Some(id))
    }

    /// A connection ended.
    pub(crate) fn close(&mut self, lane: LaneId) {
        if let LaneId(Some(id)) = lane {
            self.lanes[id].connections -= 1;
        }
    }

    /// A RCPT was answered at `now`.
    pub(crate) fn record(&mut self, lane: LaneId, now: Duration) {
        let (micros, length) = (micros(now), micros(self.length));
        self.total.record(micros, length);
        if let LaneId(Some(id)) = lane {
            self.lanes[id].window.record(micros, length);
        }
    }

    pub(crate) fn report(&self) -> RateReport {
        let overrun = |lane: &Lane| lane.window.overrun;
        RateReport {
            window_ms: self.length.as_millis() as u64,
            recipients_max: self.total.most,
            lower_bound: self.total.overrun || self.lanes.iter().any(overrun),
            lanes: self.lanes.iter().map(lane_report).collect(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("584,000 years have not passed")
}

fn lane_report(lane: &Lane) -> LaneReport {
    LaneReport {
        listener: lane.listener,
        source: lane.source,
        recipients: lane.window.events,
        recipients_max: lane.window.most,
        connections_max: lane.connections_max,
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateReport {
    /// The length of the window.
    pub window_ms: u64,
    /// Most recipients within any window, over all lanes.
    pub recipients_max: u64,
    /// A window held more moments than are kept: its maximum is at least what is said.
    pub lower_bound: bool,
    /// Each lane, in the order of their first connections.
    pub lanes: Vec<LaneReport>,
}

/// What was measured on one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneReport {
    /// The receiver's address.
    pub listener: SocketAddr,
    /// The sender's address.
    pub source: IpAddr,
    /// All recipients.
    pub recipients: u64,
    /// Most recipients within any window.
    pub recipients_max: u64,
    /// Most connections at once.
    pub connections_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn most(moments: &[u64], length: u64) -> u64 {
        let mut window = Window::default();
        for &moment in moments {
            window.record(moment, length);
        }
        window.most
    }

    #[test]
    fn a_window_is_open_at_its_far_end() {
        let cases: [(&[u64], u64); 5] = [
            (&[], 0),
            (&[0, 1000, 2000], 1),
            (&[0, 999, 1998], 2),
            (&[0, 0, 0, 500, 999, 1000, 1001], 5),
            (&[0, 400, 800, 1200, 1600], 3),
        ];
        for (moments, expected) in cases {
            assert_eq!(most(moments, 1000), expected, "{moments:?}");
        }
    }

    #[test]
    fn lanes_are_measured_apart_and_together() {
        let mut rate = Rate::new(Duration::from_secs(1));
        let listener = "127.0.0.1:25".parse().unwrap();
        let sources: [IpAddr; 2] = ["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
        let lanes = [0, 1, 0].map(|n| rate.open(listener, sources[n]));
        for (lane, millis) in [(0, 0), (1, 100), (2, 200), (1, 1050)] {
            rate.record(lanes[lane], Duration::from_millis(millis));
        }
        rate.close(lanes[0]);
        let again = rate.open(listener, sources[0]);
        assert_eq!(again, lanes[0]);
        let report = rate.report();
        assert_eq!((report.recipients_max, report.lower_bound), (3, false));
        let seen: Vec<_> = report
            .lanes
            .iter()
            .map(|lane| (lane.recipients, lane.recipients_max, lane.connections_max))
            .collect();
        assert_eq!(seen, [(2, 2, 2), (2, 2, 1)]);
    }

    proptest! {
        #[test]
        fn the_maximum_is_that_of_a_plain_count(
            steps in prop::collection::vec(0_u64..50, 0..100), length in 1_u64..200,
        ) {
            let moments: Vec<u64> =
                steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            let plain = moments.iter().map(|&end| {
                moments.iter().filter(|&&at| at <= end && at + length > end).count() as u64
            });
            prop_assert_eq!(most(&moments, length), plain.max().unwrap_or(0));
        }
    }
}
