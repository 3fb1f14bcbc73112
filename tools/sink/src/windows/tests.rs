//! tests of windows — small logs whose breaches can be counted by hand, and plain counts.

use proptest::prelude::*;

use super::*;

const GOOGLE: [u8; 4] = [127, 0, 1, 1];
const YAHOO: [u8; 4] = [127, 0, 1, 2];

fn source(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 2, last])
}

fn open(micros: u64, connection: u64, host: [u8; 4], from: u8) -> Event {
    let listener = (IpAddr::from(host), 25).into();
    Event { micros, connection, what: What::Open { listener, source: source(from) } }
}

fn rcpt(micros: u64, connection: u64) -> Event {
    Event { micros, connection, what: What::Rcpt(250) }
}

fn close(micros: u64, connection: u64) -> Event {
    Event { micros, connection, what: What::Close }
}

fn google(each: Limits, total: Limits) -> Bears {
    Bears { name: "google".to_owned(), hosts: vec![IpAddr::from(GOOGLE)], each, total }
}

fn per(messages: u64, micros: u64) -> Limits {
    Limits { rates: vec![(messages, Duration::from_micros(micros))], ..Limits::default() }
}

#[test]
fn the_most_in_a_window_is_open_at_its_far_end() {
    for (times, period, expected) in [
        (&[][..], 10, 0),
        (&[0, 10, 20], 10, 1),
        (&[0, 9, 18], 10, 2),
        (&[5, 5, 5], 1, 3),
        (&[0, 4, 8, 12, 16], 10, 3),
    ] {
        assert_eq!(most_in(times, period), expected, "{times:?}");
    }
}

#[test]
fn connections_are_counted_per_lane_and_per_provider() {
    let log = [
        open(0, 0, GOOGLE, 1),
        open(1, 1, GOOGLE, 2),
        open(2, 2, YAHOO, 1),
        rcpt(3, 0),
        rcpt(4, 0),
        rcpt(5, 2),
        close(6, 0),
        open(6, 3, GOOGLE, 1),
        rcpt(7, 3),
    ];
    let (each, total) = arrivals(&log, &[IpAddr::from(GOOGLE)]);
    assert_eq!((each[0].0, each[1].0, each.len()), (source(1), source(2), 2));
    assert_eq!((&*each[0].1.recipients, each[0].1.most_open), (&[3, 4, 7][..], (0, 1)));
    assert_eq!(total.most_open, (1, 2));
    assert_eq!(total.by_connection, [(0, 4, 2), (1, 1, 0), (3, 7, 1)]);

    let one =
        Limits { connections: Some(1), messages_per_connection: Some(1), ..Limits::default() };
    let breaches = check(&log, &[google(one.clone(), one)], Duration::ZERO);
    let shown: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert_eq!(
        shown,
        [
            " from 127.0.2.1 at 2 µs: a mail host of no provider",
            "google from 127.0.2.1 at 4 µs: 2 recipients on connection 0, not 1",
            "google from all sources at 1 µs: 2 connections, not 1",
            "google from all sources at 4 µs: 2 recipients on connection 0, not 1",
        ]
    );
}

#[test]
fn ramps_and_sums_are_held_against_their_limits() {
    let log = [open(0, 0, GOOGLE, 1), open(50, 1, GOOGLE, 2), rcpt(60, 0), rcpt(70, 1)];
    let ramp = Limits { ramp: Some(Duration::from_micros(100)), ..Limits::default() };
    let breaches = check(&log, &[google(ramp.clone(), ramp)], Duration::ZERO);
    let (limit, within) = (Duration::from_micros(100), Duration::from_micros(50));
    let expected = Breach {
        provider: "google".to_owned(),
        source: None,
        micros: 50,
        excess: Excess::Ramp { limit, within },
    };
    assert_eq!(breaches, [expected]);
    assert_eq!(check(&log, &[google(per(1, 20), Limits::default())], Duration::ZERO), []);
    let breaches = check(&log, &[google(per(1, 20), per(1, 20))], Duration::ZERO);
    assert_eq!(breaches.len(), 1);
    assert_eq!(breaches[0].source, None);
}

/// Steadily 1 % too fast: every short window is within the tolerance, a long one is not.
#[test]
fn a_tolerance_hides_no_steady_excess() {
    let times: Vec<u64> = (0..1000).map(|n| n * 990).collect();
    let limit = (10, Duration::from_micros(10_000));
    let of = |count: usize| too_fast(&times[..count], limit, Duration::from_micros(2_000));
    assert_eq!(of(200), None, "19 periods, 100 µs short each");
    let (micros, excess) = of(1000).expect("99 periods are 9.9 ms short");
    assert_eq!(micros, 990 * 990);
    let within = Duration::from_micros(990 * 990);
    assert_eq!(excess, Excess::Rate { limit, recipients: 991, within });
}

/// Whether some i and k break the demand: all of them, one by one.
fn naive(times: &[u64], messages: usize, period: u64, tolerance: u64) -> bool {
    (0..times.len()).any(|first| {
        let lasts = (first + messages..times.len()).step_by(messages);
        (1..).zip(lasts).any(|(k, last)| times[last] - times[first] + tolerance < k * period)
    })
}

proptest! {
    #[test]
    fn one_pass_finds_what_all_pairs_show(
        steps in prop::collection::vec(0_u64..30, 0..120), messages in 1_usize..8,
        period in 1_u64..200, tolerance in 0_u64..60,
    ) {
        let times: Vec<u64> =
            steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let limit = (messages as u64, Duration::from_micros(period));
        let found = too_fast(&times, limit, Duration::from_micros(tolerance));
        prop_assert_eq!(found.is_some(), naive(&times, messages, period, tolerance));
        if tolerance == 0 {
            prop_assert_eq!(found.is_some(), most_in(&times, period) > messages as u64);
        }
        if let Some((_, Excess::Rate { recipients, within, .. })) = found {
            let periods = (recipients - 1) / messages as u64;
            prop_assert_eq!((recipients - 1) % messages as u64, 0);
            prop_assert!(within.as_micros() + u128::from(tolerance) < u128::from(periods * period));
        }
    }

    #[test]
    fn a_kept_rate_bounds_windows_of_every_length(
        steps in prop::collection::vec(0_u64..30, 0..120), messages in 1_u64..8,
        period in 1_u64..100, length in 1_u64..500,
    ) {
        let times: Vec<u64> =
            steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let plain = times.iter().map(|start| {
            times.iter().filter(|time| *time >= start && **time < start + length).count() as u64
        });
        prop_assert_eq!(most_in(&times, length), plain.max().unwrap_or(0));
        if too_fast(&times, (messages, Duration::from_micros(period)), Duration::ZERO).is_none() {
            prop_assert!(most_in(&times, length) <= length.div_ceil(period) * messages);
        }
    }
}
