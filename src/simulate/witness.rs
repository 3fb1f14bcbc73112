//! witness — what a simulated provider counts of what reaches it: the proof of a run's pace that
//! owes nothing to the sender's own counting.
//!
//! It cannot fail and stops nobody; it writes down. It must not know the sender's limits.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::units::{Rate, Tick};

/// The messages of one sliding window.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its length in nanoseconds.
    period: u64,
    /// So many messages may lie in it, for the provider; `None` when it only watches.
    limit: Option<u32>,
    times: VecDeque<u64>,
    /// The most messages that it ever held.
    pub most: u32,
}

impl Window {
    fn over(rate: Rate, enforced: bool) -> Window {
        Window {
            period: u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX),
            limit: enforced.then_some(rate.messages),
            times: VecDeque::new(),
            most: 0,
        }
    }

    /// Counts one message; whether the window then holds more than it may.
    fn count(&mut self, now: u64) -> bool {
        // Both ends belong to the window: what is exactly one period old still counts.
        while self.times.front().is_some_and(|at| now - at > self.period) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let held = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        self.most = self.most.max(held);
        self.limit.is_some_and(|limit| held > limit)
    }
}

/// Something that came when the provider had asked for silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// When the sender heard of it.
    pub heard: Tick,
    /// How long it was to be silent.
    pub until: Tick,
    /// When it spoke.
    pub at: Tick,
    /// What came.
    pub what: Spoken,
}

/// What a sender does that it should not do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// It began a message.
    Message,
    /// It opened a connection.
    Connection,
    /// After the silence and before a success, it began a message on a second connection.
    SecondConnection,
}

/// What a provider knows of one of our sources, or of all together.
#[derive(Clone, Debug)]
pub struct Counters {
    /// The source; `None` for whatever the kernel chose, and for all together.
    pub source: Option<IpAddr>,
    /// Connections open.
    pub connections: u32,
    /// The most connections open at a time.
    pub connections_most: u32,
    /// The windows of the rates, those that are enforced first.
    pub windows: Vec<Window>,
    /// Since when silence is asked for, and until when; it ends with the first success after that.
    silence: Option<(Tick, Tick)>,
    /// The connection that probes after the silence.
    probe: Option<usize>,
}

impl Counters {
    pub(super) fn new(source: Option<IpAddr>, enforced: &[Rate], watched: &[Rate]) -> Counters {
        let enforced = enforced.iter().map(|rate| Window::over(*rate, true));
        let watched = watched.iter().map(|rate| Window::over(*rate, false));
        Counters {
            source,
            connections: 0,
            connections_most: 0,
            windows: enforced.chain(watched).collect(),
            silence: None,
            probe: None,
        }
    }

    pub(super) fn opened(&mut self) {
        self.connections += 1;
        self.connections_most = self.connections_most.max(self.connections);
    }

    pub(super) fn closed(&mut self, line: usize) {
        self.connections -= 1;
        self.probe = self.probe.filter(|probe| *probe != line);
    }

    /// A message begins; whether that is more than a rate allows.
    pub(super) fn begun(&mut self, now: Tick) -> bool {
        self.windows.iter_mut().fold(false, |over, window| window.count(now.0) | over)
    }

    /// The sender hears at `heard` that it is to be silent until `until`.
    pub(super) fn silenced(&mut self, heard: Tick, until: Tick) {
        let since = self.silence.map_or(heard, |(since, _)| since.min(heard));
        let until = self.silence.map_or(until, |(_, other)| other.max(until));
        self.silence = Some((since, until));
    }

    /// The sender starts anew and knows of no silence.
    pub(super) fn forgotten(&mut self) {
        (self.silence, self.probe) = (None, None);
    }

    pub(super) fn accepted(&mut self, now: Tick) {
        self.silence = self.silence.filter(|(_, until)| now < *until);
        self.probe = None;
    }

    /// The silence that somebody breaks who does this now, on this connection.
    pub(super) fn broken(&mut self, line: usize, at: Tick, what: Spoken) -> Option<Breach> {
        let (heard, until) = self.silence?;
        let mut breach = Breach { heard, until, at, what };
        if heard < at && at < until {
            return Some(breach);
        }
        if at < until || what == Spoken::Connection {
            return None;
        }
        breach.what = Spoken::SecondConnection;
        let second = self.probe.replace(line).is_some_and(|first| first != line);
        second.then_some(breach)
    }
}

/// What a provider saw.
#[derive(Clone, Debug)]
pub struct Witness {
    /// By source, in the order in which they first came.
    pub sources: Vec<Counters>,
    /// All sources together.
    pub total: Counters,
    /// The most messages that one connection carried.
    pub messages_most: u32,
    /// Messages accepted, put off (also by a closed connection), and refused for good.
    pub accepted: u64,
    /// See `accepted`.
    pub deferred: u64,
    /// See `accepted`.
    pub refused: u64,
    /// When the first message began.
    pub first: Option<Tick>,
    /// When the last message was accepted.
    pub last: Option<Tick>,
    /// What came when it should not have.
    pub breaches: Vec<Breach>,
    /// Each message that began: when, and from which of `sources`; empty unless asked for.
    pub begins: Vec<(Tick, usize)>,
}

impl Witness {
    pub(super) fn new(enforced: &[Rate], watched: &[Rate]) -> Witness {
        Witness {
            sources: Vec::new(),
            total: Counters::new(None, enforced, watched),
            messages_most: 0,
            accepted: 0,
            deferred: 0,
            refused: 0,
            first: None,
            last: None,
            breaches: Vec::new(),
            begins: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::rate;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_window_holds_both_of_its_ends() {
        let mut counters = Counters::new(None, &[rate("2/s").unwrap()], &[rate("9/m").unwrap()]);
        let over: Vec<bool> =
            [0, 1, S, S + 1, S + 2].iter().map(|at| counters.begun(Tick(*at))).collect();
        assert_eq!(over, [false, false, true, true, true]);
        assert_eq!(counters.windows[0].most, 3);
        assert_eq!(counters.windows[1].most, 5);
    }

    #[test]
    fn a_silence_ends_with_the_first_success_after_it() {
        let mut counters = Counters::new(None, &[], &[]);
        let says = |counters: &mut Counters, line, at, what| {
            counters.broken(line, Tick(at), what).map(|breach| breach.what)
        };
        counters.silenced(Tick(10), Tick(20));
        counters.accepted(Tick(15));
        assert_eq!(says(&mut counters, 1, 10, Spoken::Message), None);
        assert_eq!(says(&mut counters, 1, 19, Spoken::Message), Some(Spoken::Message));
        assert_eq!(says(&mut counters, 1, 20, Spoken::Message), None);
        let second = says(&mut counters, 2, 21, Spoken::Message);
        assert_eq!(second, Some(Spoken::SecondConnection));
        counters.accepted(Tick(26));
        assert_eq!(says(&mut counters, 3, 27, Spoken::Message), None);
        assert_eq!(says(&mut counters, 4, 27, Spoken::Message), None);
    }
}
