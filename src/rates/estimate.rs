//! estimate — how long a group's mail takes under its limits, and which limit makes it so.
//!
//! The plan's arithmetic: nothing is sent and no reply is foreseen, so what receivers defer or
//! refuse comes on top. Each limit alone gives a time, and the longest holds; the buckets spread
//! messages evenly ([`super::Bucket`]), so of several rates the one with the longest interval is
//! always the one that waits, whatever its period. It cannot fail.

use std::time::Duration;

use super::{Bucket, Limits};
use crate::outcome::Binding;
use crate::units::{Rate, Tick};

const DAY: Duration = Duration::from_secs(86_400);

/// How many days of a warm-up are walked one by one: ten years. The last one's cap holds from then
/// on.
const DAYS_MAX: u32 = 3_650;

/// What a group has to bear.
#[derive(Clone, Copy)]
pub struct Demand<'a> {
    /// Messages to attempt.
    pub recipients: u64,
    /// The group's limits.
    pub limits: &'a Limits,
    /// Sending addresses that share the work evenly; 0 counts as 1.
    pub sources: u32,
    /// The part of each permitted rate that is really used, above 0 and at most 1; 1.0 as planned.
    pub share: f64,
    /// How long one message occupies a connection.
    pub latency: Duration,
    /// How many messages the warm-up of all sources together admits on that day from the start,
    /// from 0; `None` for no cap.
    pub daily: &'a dyn Fn(u32) -> Option<u64>,
}

/// What comes of a demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// From the first message to the last reply; `Duration::MAX` for never.
    pub takes: Duration,
    /// The limit that makes it so: `Rate`, `RateTotal`, `Connections`, `ConnectionsTotal`, or
    /// `WarmUp` when its caps fill half of the time or more; `Nothing` without recipients.
    pub binding: Binding,
    /// Messages per hour: the mean over `takes`, and never above what the limits allow.
    pub per_hour: f64,
}

/// How long the demand takes.
pub fn estimate(demand: Demand<'_>) -> Estimate {
    let Demand { recipients, latency, .. } = demand;
    if recipients == 0 {
        return Estimate { takes: Duration::ZERO, binding: Binding::Nothing, per_hour: 0.0 };
    }
    let paces = paces(&demand);
    let (unhindered, limit) = longest(&paces, recipients);
    let per_second = paces.iter().map(Pace::per_second).fold(f64::INFINITY, f64::min);
    let (seconds, binding) = match warm_up(&demand, &paces, per_second) {
        None => (unhindered, limit),
        Some((seconds, capped)) if capped >= seconds / 2.0 => (seconds, Binding::WarmUp),
        Some((seconds, _)) => (seconds, limit),
    };
    let seconds = seconds + latency.as_secs_f64();
    let takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let mean = recipients as f64 / seconds;
    Estimate { takes, binding, per_hour: mean.min(per_second) * 3600.0 }
}

/// How many sources finish the demand within `deadline`, whatever its own `sources` are; `None`
/// when no number does, because a limit over all sources, the warm-up or one message's own time
/// forbids it.
pub fn sources_for(demand: Demand<'_>, deadline: Duration) -> Option<u32> {
    let meets = |sources| estimate(Demand { sources, ..demand }).takes <= deadline;
    // More sources are never slower, so the least that meet it are found by halving.
    let (mut too_few, mut enough) = (0, u32::MAX);
    if !meets(enough) {
        return None;
    }
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        *(if meets(middle) { &mut enough } else { &mut too_few }) = middle;
    }
    Some(enough)
}

/// One limit as a pace: so many work side by side, and each needs so long for a message.
struct Pace {
    binding: Binding,
    /// Sources or connections that share the messages.
    abreast: f64,
    /// Seconds from one message of one of them to its next.
    interval: f64,
}

impl Pace {
    fn per_second(&self) -> f64 {
        self.abreast / self.interval
    }

    /// Seconds from the first message to the start of the last.
    fn seconds(&self, messages: u64) -> f64 {
        let each = (messages as f64 / self.abreast).ceil();
        (each - 1.0).max(0.0) * self.interval
    }
}

/// Every limit that can bind.
fn paces(demand: &Demand<'_>) -> Vec<Pace> {
    let Demand { limits, share, latency, .. } = *demand;
    assert!(share > 0.0 && share <= 1.0, "a share of the rate is above 0 and at most 1");
    let sources = f64::from(demand.sources.max(1));
    let rate = |binding, abreast: f64| {
        move |rate: &Rate| {
            let interval = Bucket::new(*rate, Tick(0)).interval().as_secs_f64() / share;
            Pace { binding, abreast, interval }
        }
    };
    let connection = |binding, abreast| Pace { binding, abreast, interval: latency.as_secs_f64() };
    let mut paces: Vec<Pace> = limits.rates.iter().map(rate(Binding::Rate, sources)).collect();
    let total = limits.rates_total.iter().chain(&limits.rates_dkim);
    paces.extend(total.map(rate(Binding::RateTotal, 1.0)));
    let connections = sources * f64::from(limits.connections);
    paces.push(connection(Binding::Connections, connections));
    if let Some(total) = limits.connections_total {
        paces.push(connection(Binding::ConnectionsTotal, f64::from(total)));
    }
    paces
}

/// The longest time of all, in seconds, and its limit; the first of equals.
fn longest(paces: &[Pace], messages: u64) -> (f64, Binding) {
    let mut longest = (f64::NEG_INFINITY, Binding::Nothing);
    for pace in paces {
        let seconds = pace.seconds(messages);
        if seconds > longest.0 {
            longest = (seconds, pace.binding);
        }
    }
    longest
}

/// How many seconds it takes under the caps of the warm-up, and how many of these were spent at a
/// cap; `None` when no cap is ever reached.
fn warm_up(demand: &Demand<'_>, paces: &[Pace], per_second: f64) -> Option<(f64, f64)> {
    let day = DAY.as_secs_f64();
    let able = per_second * day;
    let (mut left, mut capped) = (demand.recipients as f64, 0.0);
    let (mut before, mut cap) = (0.0, f64::INFINITY);
    for number in 0..DAYS_MAX {
        before = f64::from(number) * day;
        cap = (demand.daily)(number).map_or(f64::INFINITY, |cap| cap as f64);
        let (last, _) = longest(paces, left.ceil() as u64);
        if left <= cap && last <= day {
            return (capped > 0.0).then_some((before + last, capped));
        }
        left -= cap.min(able);
        if cap < able {
            capped += day;
        }
        if left <= 0.0 {
            return (capped > 0.0).then_some((before + day, capped));
        }
    }
    let rest = if cap < able { left / cap * day } else { longest(paces, left.ceil() as u64).0 };
    if cap < able {
        capped += rest;
    }
    (capped > 0.0).then_some((before + day + rest, capped))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rates::{Retry, Table};
    use crate::units;

    const HOUR: f64 = 3600.0;

    fn uncapped(_day: u32) -> Option<u64> {
        None
    }

    fn limits(connections: u32, total: Option<u32>, rates: &[&str], totals: &[&str]) -> Limits {
        let read = |texts: &[&str]| texts.iter().map(|text| units::rate(text).unwrap()).collect();
        Limits {
            connections,
            connections_total: total,
            messages_per_connection: None,
            rates: read(rates),
            rates_total: read(totals),
            rates_dkim: Vec::new(),
            ramp: None,
            retry: Retry { steps: vec![DAY], expire_after: DAY },
            tls: Default::default(),
            ip: Default::default(),
            quirks: Vec::new(),
        }
    }

    fn demand(recipients: u64, limits: &Limits, sources: u32) -> Demand<'_> {
        let latency = Duration::from_millis(500);
        Demand { recipients, limits, sources, share: 1.0, latency, daily: &uncapped }
    }

    fn hours(estimate: Estimate) -> f64 {
        estimate.takes.as_secs_f64() / HOUR
    }

    #[test]
    fn a_million_with_three_quarters_at_gmail() {
        let limits = Table::shipped().row("google").unwrap().limits();
        let one = estimate(demand(760_000, &limits, 1));
        assert_eq!((hours(one).round(), one.binding), (217.0, Binding::Rate));
        assert_eq!(one.per_hour.round(), 3500.0);
        let sixteen = estimate(demand(760_000, &limits, 16));
        assert_eq!(((hours(sixteen) * 10.0).round(), sixteen.binding), (136.0, Binding::Rate));
        let sources = |hours: u64| {
            sources_for(demand(760_000, &limits, 1), Duration::from_secs(hours * 3600))
        };
        assert_eq!(
            (sources(218), sources(217), sources(14), sources(13)),
            (Some(1), Some(2), Some(16), Some(17))
        );
    }

    #[test]
    fn the_narrowest_limit_binds() {
        for (connections, total, rates, totals, binding, per_hour) in [
            (1, None, &["3600/h"][..], &[][..], Binding::Rate, 14_400),
            (1, None, &["3600/h", "2400/24h"], &[], Binding::Rate, 400),
            (1, None, &["2400/24h", "3600/h"], &[], Binding::Rate, 400),
            (1, None, &["3600/h"], &["7200/h"], Binding::RateTotal, 7_200),
            (1, None, &["36000/h"], &[], Binding::Connections, 28_800),
            (1, None, &[], &[], Binding::Connections, 28_800),
            (1, Some(3), &["36000/h"], &[], Binding::ConnectionsTotal, 21_600),
            (1, Some(3), &["3600/h"], &["72/h"], Binding::RateTotal, 72),
        ] {
            let limits = limits(connections, total, rates, totals);
            let found = estimate(demand(100_000, &limits, 4));
            let rounded = found.per_hour.round() as u64;
            assert_eq!((found.binding, rounded), (binding, per_hour), "{limits:?}");
        }
        let mut dkim = limits(9, None, &["3600/h"], &[]);
        dkim.rates_dkim = vec![units::rate("50000/d").unwrap()];
        assert_eq!(estimate(demand(100_000, &dkim, 4)).binding, Binding::RateTotal);
    }

    #[test]
    fn small_groups_do_not_wait_behind_their_last_message() {
        let limits = limits(3, None, &["60/h"], &[]);
        let takes = |recipients| estimate(demand(recipients, &limits, 1)).takes.as_secs_f64();
        assert_eq!(takes(1), 0.5);
        assert_eq!(takes(3).round(), 121.0, "two intervals, and the last message's own time");
        let none = estimate(demand(0, &limits, 1));
        assert_eq!((none.takes, none.binding), (Duration::ZERO, Binding::Nothing));
    }

    #[test]
    fn a_share_of_the_rate_takes_longer() {
        let limits = limits(50, None, &["1000/h"], &[]);
        let half = Demand { share: 0.5, ..demand(10_000, &limits, 1) };
        assert_eq!(hours(estimate(half)).round(), 20.0);
    }

    #[test]
    fn a_warm_up_caps_its_days() {
        let limits = limits(50, None, &["1000/h"], &[]);
        let schedule = |day: u32| [100, 200, 400].get(day as usize).copied();
        let warm = |recipients, daily| {
            let found = estimate(Demand { daily, ..demand(recipients, &limits, 1) });
            (hours(found).round(), found.binding)
        };
        assert_eq!(warm(100, &schedule), (0.0, Binding::Rate), "within the first day's cap");
        assert_eq!(warm(300, &schedule), (24.0, Binding::WarmUp));
        assert_eq!(warm(700, &schedule), (48.0, Binding::WarmUp));
        assert_eq!(warm(12_700, &schedule), (84.0, Binding::WarmUp));
        assert_eq!(warm(240_700, &schedule), (312.0, Binding::Rate), "ten days at full pace");
        let never = |_: u32| Some(0);
        let found = estimate(Demand { daily: &never, ..demand(5, &limits, 1) });
        assert_eq!((found.takes, found.binding), (Duration::MAX, Binding::WarmUp));
        let capped = Demand { daily: &schedule, ..demand(700, &limits, 1) };
        assert_eq!(sources_for(capped, DAY), None, "no source makes the day's cap larger");
        assert_eq!(sources_for(capped, DAY * 3), Some(1));
    }

    #[test]
    fn no_number_of_sources_beats_a_total() {
        let rates = limits(1, None, &["3600/h"], &["7200/h"]);
        let connections = limits(1, Some(1), &[], &[]);
        let two_hours = Duration::from_secs(7_300);
        assert_eq!(sources_for(demand(14_400, &rates, 1), two_hours), Some(2));
        assert_eq!(sources_for(demand(14_800, &rates, 1), two_hours), None);
        assert_eq!(sources_for(demand(14_800, &connections, 1), two_hours), None);
        assert_eq!(sources_for(demand(1, &rates, 1), Duration::from_millis(400)), None);
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        let rate = |most| {
            let text = (1..20_000_u32, prop::sample::select(vec!["s", "m", "h", "24h"]));
            let text = text.prop_map(|(count, per)| format!("{count}/{per}"));
            prop::collection::vec(text, 0..most)
        };
        let total = prop::option::of(1..200_u32);
        (1..50_u32, total, rate(3), rate(2)).prop_map(|(connections, total, rates, totals)| {
            let texts =
                |all: &[String]| all.iter().map(|text| units::rate(text).unwrap()).collect();
            Limits {
                rates: texts(&rates),
                rates_total: texts(&totals),
                ..limits(connections, total, &[], &[])
            }
        })
    }

    proptest! {
        #[test]
        fn more_sources_are_never_slower(
            limits in any_limits(),
            recipients in 1..5_000_000_u64,
            sources in 1..200_u32,
            caps in prop::collection::vec(prop::option::of(0..100_000_u64), 0..30),
        ) {
            let daily = |day: u32| caps.get(day as usize).copied().flatten();
            let with = |sources| {
                estimate(Demand { daily: &daily, ..demand(recipients, &limits, sources) }).takes
            };
            let (fewer, more) = (with(sources), with(sources + 1));
            // A million days in an f64 leave a microsecond to rounding.
            let bound = fewer.saturating_add(Duration::from_micros(1));
            prop_assert!(more <= bound, "{fewer:?} {more:?}");
        }

        #[test]
        fn time_and_pace_make_the_recipients(
            limits in any_limits(),
            recipients in 1..5_000_000_u64,
            sources in 1..200_u32,
            caps in prop::collection::vec(prop::option::of(0..100_000_u64), 0..30),
        ) {
            let daily = |day: u32| caps.get(day as usize).copied().flatten();
            let found = estimate(Demand { daily: &daily, ..demand(recipients, &limits, sources) });
            let sent = found.takes.as_secs_f64() / HOUR * found.per_hour;
            // Below only by the first message of each source or connection.
            let abreast = f64::from(sources) * f64::from(limits.connections.max(1));
            prop_assert!(sent <= recipients as f64 * 1.000_001, "{sent} of {recipients}");
            prop_assert!(sent >= recipients as f64 * 0.999 - abreast, "{sent} of {recipients}");
        }

        #[test]
        fn the_sources_for_a_deadline_are_the_least_that_meet_it(
            limits in any_limits(),
            recipients in 1..5_000_000_u64,
            deadline in 1..1_000_000_u64,
        ) {
            let deadline = Duration::from_secs(deadline);
            let demand = demand(recipients, &limits, 1);
            let meets = |sources| estimate(Demand { sources, ..demand }).takes <= deadline;
            match sources_for(demand, deadline) {
                None => prop_assert!(!meets(u32::MAX)),
                Some(sources) => {
                    prop_assert!(meets(sources));
                    prop_assert!(sources == 1 || !meets(sources - 1));
                }
            }
        }
    }
}
