//! windows — whether a log of attempts shows that limits were kept, in windows of every length.
//!
//! # What is proved
//!
//! Let N recipients be allowed per period P, and let t(0) ≤ t(1) ≤ … be the times at which those
//! of one lane came. "No window [t, t + P) holds more than N" says t(i + N) − t(i) ≥ P for all i:
//! otherwise a window that begins at t(i) would hold the N + 1 recipients i … i + N, and a window
//! that holds N + 1 gives such an i. Put k of these steps together: t(i + k·N) − t(i) ≥ k·P for
//! all k, so a window of any length w holds at most ⌈w / P⌉ · N. Without a tolerance k = 1 is
//! enough.
//!
//! A receiver reads a command some time after it was sent, never before; if that takes e at most,
//! a sender that keeps its limit is seen with t(i + k·N) − t(i) ≥ k·P − e. This holds for each k
//! with the same e, while k steps of the first check would allow k·e. So [`check`] demands it for
//! every k: what a tolerance hides in one window shows in a longer one, and a rate that is exceeded
//! steadily is found however large e is, if the log is long enough.
//!
//! All i and k are looked at in one pass: for each residue r below N, with
//! u(j) = t(r + j·N) − j·P, the demand is u(j') ≥ u(j) − e for all j < j', so it is enough to hold
//! each u against the largest before it.
//!
//! Connections are counted in the order of the log, where an end stands before any later beginning,
//! so they need no tolerance. It must not know how the log came about.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::attempts::{Event, What};

/// What may come, from one source or from all together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Recipients per period; each of them holds.
    pub rates: Vec<(u64, Duration)>,
    /// Connections at a time.
    pub connections: Option<u64>,
    /// Recipients on one connection.
    pub messages_per_connection: Option<u64>,
    /// The shortest time between the beginnings of two connections.
    pub ramp: Option<Duration>,
}

/// The mail hosts of one provider and what they bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bears {
    /// For the breaches.
    pub name: String,
    /// The addresses of its mail hosts.
    pub hosts: Vec<IpAddr>,
    /// From each source.
    pub each: Limits,
    /// From all sources together.
    pub total: Limits,
}

/// A limit that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// At which provider; empty for a mail host that none of them has.
    pub provider: String,
    /// From which source; `None` for all together.
    pub source: Option<IpAddr>,
    /// When, in microseconds of the log: at the event that was one too many.
    pub micros: u64,
    /// How.
    pub excess: Excess,
}

/// How a limit was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// So many recipients in so short a time.
    Rate {
        /// The limit.
        limit: (u64, Duration),
        /// Recipients, one more than so many periods allow.
        recipients: u64,
        /// From the first to the last of them.
        within: Duration,
    },
    /// So many connections at a time.
    Connections {
        /// The limit.
        limit: u64,
        /// The most that were open.
        open: u64,
    },
    /// So many recipients on one connection.
    MessagesPerConnection {
        /// The limit.
        limit: u64,
        /// The number of the connection.
        connection: u64,
        /// Its recipients.
        recipients: u64,
    },
    /// Two connections began in so short a time.
    Ramp {
        /// The limit.
        limit: Duration,
        /// The shortest time.
        within: Duration,
    },
    /// A connection to a mail host that no provider has.
    Stray,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.map_or("all sources".to_owned(), |source| source.to_string());
        write!(f, "{} from {source} at {} µs: ", self.provider, self.micros)?;
        match &self.excess {
            Excess::Rate { limit: (messages, period), recipients, within } => {
                write!(f, "{recipients} recipients within {within:?}, not {messages}/{period:?}")
            }
            Excess::Connections { limit, open } => write!(f, "{open} connections, not {limit}"),
            Excess::MessagesPerConnection { limit, connection, recipients } => {
                write!(f, "{recipients} recipients on connection {connection}, not {limit}")
            }
            Excess::Ramp { limit, within } => {
                write!(f, "two connections within {within:?}, not {limit:?}")
            }
            Excess::Stray => f.write_str("a mail host of no provider"),
        }
    }
}

/// What came, in the order of the log, from one source or from all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// When each recipient came, in microseconds.
    pub recipients: Vec<u64>,
    /// When each connection began.
    pub connections: Vec<u64>,
    /// When most connections were open, and how many.
    pub most_open: (u64, u64),
    /// Recipients of each connection: its number, when the last one came, how many.
    pub by_connection: Vec<(u64, u64, u64)>,
    open: u64,
}

impl Arrivals {
    fn open(&mut self, event: &Event) {
        self.connections.push(event.micros);
        self.open += 1;
        if self.open > self.most_open.1 {
            self.most_open = (event.micros, self.open);
        }
    }
}

/// What came to these hosts: from each source, in the order in which they first came, and from all
/// sources together.
pub fn arrivals(log: &[Event], hosts: &[IpAddr]) -> (Vec<(IpAddr, Arrivals)>, Arrivals) {
    let (mut each, mut total): (Vec<(IpAddr, Arrivals)>, _) = (Vec::new(), Arrivals::default());
    // Of each connection: its source's place in `each`, and its own place among those of the
    // source and of all.
    let mut known: HashMap<u64, (usize, usize, usize)> = HashMap::new();
    for event in log {
        if let What::Open { listener, source } = event.what {
            if !hosts.contains(&listener.ip()) {
                continue;
            }
            let place = each.iter().position(|(other, _)| *other == source).unwrap_or_else(|| {
                each.push((source, Arrivals::default()));
                each.len() - 1
            });
            let own = &mut each[place].1;
            let places = (place, own.by_connection.len(), total.by_connection.len());
            known.insert(event.connection, places);
            for arrivals in [own, &mut total] {
                arrivals.open(event);
                arrivals.by_connection.push((event.connection, event.micros, 0));
            }
            continue;
        }
        let Some((place, own, among)) = known.get(&event.connection).copied() else { continue };
        for (arrivals, at) in [(&mut each[place].1, own), (&mut total, among)] {
            match event.what {
                What::Rcpt(_) => {
                    arrivals.recipients.push(event.micros);
                    let (_, last, count) = &mut arrivals.by_connection[at];
                    (*last, *count) = (event.micros, *count + 1);
                }
                What::Close => arrivals.open -= 1,
                What::Open { .. } => {}
            }
        }
    }
    (each, total)
}

/// The most of these times, which ascend, in any window [t, t + period).
pub fn most_in(times: &[u64], period: u64) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for (last, time) in times.iter().enumerate() {
        while times[first] + period <= *time {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most as u64
}

/// Every limit that was exceeded, of rates the worst case each. `tolerance` is how late a command
/// may have been read; zero demands the limits exactly.
pub fn check(log: &[Event], providers: &[Bears], tolerance: Duration) -> Vec<Breach> {
    let mut breaches = strays(log, providers);
    for provider in providers {
        let (each, total) = arrivals(log, &provider.hosts);
        let lanes = each.iter().map(|(source, came)| (Some(*source), came, &provider.each));
        for (source, came, limits) in lanes.chain([(None, &total, &provider.total)]) {
            let found = exceeded(came, limits, tolerance);
            breaches.extend(found.into_iter().map(|(micros, excess)| Breach {
                provider: provider.name.clone(),
                source,
                micros,
                excess,
            }));
        }
    }
    breaches
}

fn strays(log: &[Event], providers: &[Bears]) -> Vec<Breach> {
    let known = |host: &IpAddr| providers.iter().any(|provider| provider.hosts.contains(host));
    let stray = |event: &Event| match event.what {
        What::Open { listener, source } if !known(&listener.ip()) => Some(Breach {
            provider: String::new(),
            source: Some(source),
            micros: event.micros,
            excess: Excess::Stray,
        }),
        _ => None,
    };
    log.iter().filter_map(stray).collect()
}

fn exceeded(came: &Arrivals, limits: &Limits, tolerance: Duration) -> Vec<(u64, Excess)> {
    let mut found: Vec<(u64, Excess)> = limits
        .rates
        .iter()
        .filter_map(|rate| too_fast(&came.recipients, *rate, tolerance))
        .collect();
    if let Some(limit) = limits.connections {
        let (micros, open) = came.most_open;
        found.extend((open > limit).then_some((micros, Excess::Connections { limit, open })));
    }
    if let Some(limit) = limits.messages_per_connection {
        let full = came.by_connection.iter().filter(|(_, _, recipients)| *recipients > limit);
        found.extend(full.map(|&(connection, micros, recipients)| {
            (micros, Excess::MessagesPerConnection { limit, connection, recipients })
        }));
    }
    if let Some(limit) = limits.ramp {
        let steps = came.connections.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
        found.extend(steps.min().and_then(|(step, micros)| {
            let within = Duration::from_micros(step);
            (within + tolerance < limit).then_some((micros, Excess::Ramp { limit, within }))
        }));
    }
    found
}

/// The worst case of a rate that was exceeded: see the head of this file.
fn too_fast(times: &[u64], limit: (u64, Duration), tolerance: Duration) -> Option<(u64, Excess)> {
    let messages = usize::try_from(limit.0).ok().filter(|messages| *messages > 0)?;
    let (period, tolerance) = (micros(limit.1), micros(tolerance));
    let mut worst = (tolerance, 0, 0);
    for residue in 0..messages.min(times.len()) {
        let mut largest = (i128::MIN, residue);
        for (step, at) in (residue..times.len()).step_by(messages).enumerate() {
            let ideal = i128::from(times[at]) - step as i128 * period;
            if ideal > largest.0 {
                largest = (ideal, at);
            }
            if largest.0 - ideal > worst.0 {
                worst = (largest.0 - ideal, largest.1, at);
            }
        }
    }
    let (_, first, last) = worst;
    (last > first).then(|| {
        let within = Duration::from_micros(times[last] - times[first]);
        (times[last], Excess::Rate { limit, recipients: (last - first + 1) as u64, within })
    })
}

fn micros(time: Duration) -> i128 {
    i128::try_from(time.as_micros()).expect("a duration has fewer microseconds than an i128")
}

#[cfg(test)]
mod tests;
