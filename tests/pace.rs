//! The laws of `rates::pace` over random histories: no lane, group or run ever exceeds a limit,
//! what is stopped stays silent, and a lane that is open with work and a connection is used.

#![allow(clippy::unwrap_used, reason = "what fails here ends the test")]

use std::time::Duration;

use mailshot::destination::{GroupNo, SourceNo};
use mailshot::outcome::Binding;
use mailshot::rates::{Blur, IpPolicy, Limits, Pace, Retry, Tls, Who};
use mailshot::units::{Rate, Tick};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// What is done to a pace at a moment.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Success,
    Pause(Who, u64),
    Slow(Who),
    Halt(Who),
    Resume(Who),
    /// Time goes on by so many milliseconds.
    Wait(u64),
}

fn scopes() -> impl Strategy<Value = Who> {
    prop_oneof![
        1 => Just(Who::Everything),
        2 => (0_u32..2).prop_map(|source| Who::Source(SourceNo(source))),
        2 => (0_u32..3).prop_map(|group| Who::Group(GroupNo(group))),
        4 => (0_u32..3, 0_u32..2).prop_map(|(g, s)| Who::Lane(GroupNo(g), SourceNo(s))),
    ]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => Just(Deed::Success),
        1 => (scopes(), 0_u64..60).prop_map(|(who, seconds)| Deed::Pause(who, seconds)),
        1 => scopes().prop_map(Deed::Slow),
        1 => scopes().prop_map(Deed::Halt),
        2 => scopes().prop_map(Deed::Resume),
        6 => (1_u64..20_000).prop_map(Deed::Wait),
    ];
    vec(deed, 1..60)
}

fn rates() -> impl Strategy<Value = Vec<Rate>> {
    let rate = (1_u32..50, 1_u64..30)
        .prop_map(|(messages, seconds)| Rate { messages, period: Duration::from_secs(seconds) });
    vec(rate, 0..3)
}

prop_compose! {
    fn limits()(
        connections in 1_u32..6,
        connections_total in option::of(1_u32..8),
        rates in rates(),
        rates_total in rates(),
        ramp in option::of((1_u64..5).prop_map(Duration::from_secs)),
    ) -> Limits {
        Limits {
            connections,
            connections_total,
            messages_per_connection: None,
            rates,
            rates_total,
            rates_dkim: Vec::new(),
            ramp,
            retry: Retry { steps: vec![], expire_after: Duration::ZERO },
            tls: Tls::Opportunistic,
            ip: IpPolicy::V4Only,
            quirks: vec![],
        }
    }
}

/// Stops as a naive reader of the rules keeps them.
#[derive(Default)]
struct Stops {
    halts: Vec<Who>,
    pauses: Vec<(Who, u64)>,
}

fn covers(who: Who, group: u32, source: u32) -> bool {
    match who {
        Who::Everything => true,
        Who::Source(of) => of.0 == source,
        Who::Group(of) => of.0 == group,
        Who::Lane(of, from) => of.0 == group && from.0 == source,
    }
}

/// Whether `inner` is what a resume of `outer` lifts.
fn within(inner: Who, outer: Who) -> bool {
    match (outer, inner) {
        (Who::Everything, _) => true,
        (Who::Group(of), Who::Lane(group, _)) => of == group,
        (Who::Source(of), Who::Lane(_, source)) => of == source,
        (outer, inner) => outer == inner,
    }
}

/// Asks every lane, takes what it gives, and gives back what was begun.
fn begin_all(pace: &mut Pace, now: Tick, begun: &mut Vec<(u32, u32, u64)>) {
    for group in 0..3 {
        for source in 0..2 {
            let lane = (GroupNo(group), SourceNo(source));
            for _ in 0..100 {
                if pace.opens(lane.0, lane.1).0 > now {
                    break;
                }
                pace.take(lane.0, lane.1, now);
                begun.push((group, source, now.0));
            }
        }
    }
}

fn no_window_exceeds(times: &[u64], rate: &Rate) -> Result<(), TestCaseError> {
    let period = u64::try_from(rate.period.as_nanos()).unwrap();
    for (first, last) in times.iter().zip(times.iter().skip(rate.messages as usize)) {
        prop_assert!(last - first > period, "{rate}: {first} to {last}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn limits_and_stops_hold_whatever_happens(
        all in vec(limits(), 3),
        ceiling in option::of((10_u32..80).prop_map(|messages| Rate {
            messages,
            period: Duration::from_secs(10),
        })),
        deeds in deeds(),
    ) {
        let mut pace = Pace::new(&[1, 3], (100, ceiling), Blur::at_speed(1), Tick(0));
        for limits in &all {
            pace.add(limits.clone(), Tick(0));
        }
        let (mut now, mut stops, mut begun) = (Tick(SECOND), Stops::default(), Vec::new());
        for deed in deeds {
            match deed {
                Deed::Wait(millis) => now = now.after(Duration::from_millis(millis)),
                Deed::Success => (0..3).for_each(|g| {
                    (0..2).for_each(|s| pace.success(GroupNo(g), SourceNo(s), now));
                }),
                Deed::Pause(who, seconds) => {
                    pace.pause(who, Duration::from_secs(seconds), now);
                    stops.pauses.push((who, now.0 + seconds.max(1) * SECOND));
                }
                Deed::Slow(who) => pace.slow(who, now),
                Deed::Halt(who) => {
                    pace.halt(who);
                    stops.halts.push(who);
                }
                Deed::Resume(who) => {
                    pace.resume(who, now);
                    stops.halts.retain(|halted| !within(*halted, who));
                    stops.pauses.retain(|(paused, _)| !within(*paused, who));
                }
            }
            let from = begun.len();
            begin_all(&mut pace, now, &mut begun);
            for (group, source, at) in &begun[from..] {
                let halted = stops.halts.iter().any(|who| covers(*who, *group, *source));
                prop_assert!(!halted, "group {group} source {source} is halted");
                // Pauses of zero seconds are as long as the pace wants, so they are not held here.
                let paused = stops.pauses.iter().find(|(who, until)| {
                    covers(*who, *group, *source) && at < until && *until > at + SECOND
                });
                prop_assert_eq!(paused, None, "group {} source {} at {}", group, source, at);
            }
        }
        for (group, limits) in (0..).zip(&all) {
            for source in 0..2 {
                let times: Vec<u64> = begun
                    .iter()
                    .filter(|(g, s, _)| (*g, *s) == (group, source))
                    .map(|(.., at)| *at)
                    .collect();
                for rate in &limits.rates {
                    no_window_exceeds(&times, rate)?;
                }
            }
            let times: Vec<u64> =
                begun.iter().filter(|(g, ..)| *g == group).map(|(.., at)| *at).collect();
            for rate in &limits.rates_total {
                no_window_exceeds(&times, rate)?;
            }
        }
        let times: Vec<u64> = begun.iter().map(|(.., at)| *at).collect();
        if let Some(rate) = ceiling {
            no_window_exceeds(&times, &rate)?;
        }
    }

    #[test]
    fn connections_stay_within_lane_total_and_ramp(
        limits in limits(),
        asks in vec((0_u32..2, 1_u64..3_000, any::<bool>()), 1..200),
    ) {
        let mut pace = Pace::new(&[1, 1], (7, None), Blur::at_speed(1), Tick(0));
        let group = pace.add(limits.clone(), Tick(0));
        let (mut now, mut open, mut last) = (Tick(SECOND), [0_u32; 2], [None; 2]);
        for (source, millis, close) in asks {
            now = now.after(Duration::from_millis(millis));
            let lane = SourceNo(source);
            let slot = source as usize;
            if close && open[slot] > 0 {
                pace.closed(group, lane);
                open[slot] -= 1;
            } else if pace.may_connect(group, lane, now).is_ok() {
                pace.opened(group, lane, now);
                open[slot] += 1;
                if let (Some(ramp), Some(before)) = (limits.ramp, last[slot]) {
                    prop_assert!(now.since(before) >= ramp);
                }
                last[slot] = Some(now);
            }
            let most = limits.connections_total.unwrap_or(u32::MAX).min(7);
            prop_assert!(open[slot] <= limits.connections && open[0] + open[1] <= most);
        }
    }
}

fn unlimited() -> Limits {
    Limits {
        connections: 4,
        connections_total: None,
        messages_per_connection: None,
        rates: vec![],
        rates_total: vec![],
        rates_dkim: vec![],
        ramp: None,
        retry: Retry { steps: vec![], expire_after: Duration::ZERO },
        tls: Tls::Opportunistic,
        ip: IpPolicy::V4Only,
        quirks: vec![],
    }
}

#[test]
fn sources_send_by_their_weights() {
    let mut pace = Pace::new(&[1, 3], (100, None), Blur::at_speed(1), Tick(0));
    let group = pace.add(unlimited(), Tick(0));
    let (mut order, mut sent) = (Vec::new(), [0_u32; 2]);
    for _ in 0..4_000 {
        pace.order(group, &mut order);
        pace.take(group, order[0], Tick(SECOND));
        sent[order[0].index()] += 1;
    }
    assert_eq!(sent, [1_000, 3_000]);
}

#[test]
fn a_pause_ends_in_a_probe_that_doubles_until_it_succeeds() {
    let mut pace = Pace::new(&[1], (100, None), Blur::at_speed(1), Tick(0));
    let (group, source) = (pace.add(unlimited(), Tick(0)), SourceNo(0));
    let lane = Who::Lane(group, source);
    let ten_minutes = Duration::from_secs(600);
    let mut now = Tick(SECOND);
    for minutes in [10_u64, 20, 40, 80, 160, 240, 240] {
        assert!(pace.pause(lane, ten_minutes, now));
        assert!(!pace.pause(lane, ten_minutes, now), "the same trouble is no news");
        let opens = pace.opens(group, source).0;
        assert_eq!(opens.since(now), Duration::from_secs(60 * minutes));
        assert!(pace.is_probing(group, source));
        assert_eq!(pace.allowed(group, source), 1);
        now = opens;
    }
    for allowed in [1, 2, 3, 4, 4] {
        now = now.after(Duration::from_secs(2));
        assert_eq!(pace.allowed(group, source), allowed.max(1));
        pace.success(group, source, now);
        assert!(!pace.is_probing(group, source));
    }
    assert!(pace.pause(lane, ten_minutes, now), "and begins with its first length again");
    assert_eq!(pace.opens(group, source).0.since(now), ten_minutes);
}

#[test]
fn a_source_without_a_connection_comes_before_the_second_one_of_another() {
    let mut pace = Pace::new(&[1, 1, 1], (100, None), Blur::at_speed(1), Tick(0));
    let limits = Limits { connections_total: Some(4), ..unlimited() };
    let (group, now) = (pace.add(limits, Tick(0)), Tick(SECOND));
    let [first, second, third] = [0, 1, 2].map(SourceNo);
    let refused = Err((Tick(u64::MAX), Binding::ConnectionsTotal));
    for _ in 0..2 {
        assert_eq!(pace.may_connect(group, first, now), Ok(()));
        pace.opened(group, first, now);
    }
    assert_eq!(pace.may_connect(group, first, now), refused, "two places are kept");
    assert_eq!(pace.may_connect(group, second, now), Ok(()));
    pace.opened(group, second, now);
    assert_eq!(pace.may_connect(group, second, now), refused);
    pace.halt(Who::Lane(group, third));
    assert_eq!(pace.may_connect(group, first, now), Ok(()), "nothing is kept for who is stopped");
}
