//! tests — small campaigns whose end can be told with a pencil.

use super::*;
use crate::deliver::{Group, OnDoubt, Past, Source};
use crate::destination::SourceNo;
use crate::rates::warmup::{Cap, Quota};
use crate::rates::{IpPolicy, Limits, Retry, Tls};
use crate::units::rate;

/// 2026-11-21, 20:00 UTC.
const BEGUN: Utc = Utc(1_795_291_200_000_000);
/// Where the mail host is said to be.
const MX: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99));
const HOUR: f64 = 3_600.0;

fn limits(text: &str) -> Limits {
    Limits {
        connections: 8,
        connections_total: None,
        messages_per_connection: Some(100),
        rates: vec![rate(text).unwrap()],
        rates_total: Vec::new(),
        rates_dkim: Vec::new(),
        ramp: None,
        retry: Retry {
            steps: vec![Duration::from_secs(900)],
            expire_after: Duration::from_secs(86_400),
        },
        tls: Tls::None,
        ip: IpPolicy::V4First,
        quirks: Vec::new(),
    }
}

/// A group of one site for each rate, from so many sources.
fn campaign(rates: &[&str], sources: u8) -> Settings {
    let group = |text: &&str| Group { name: (*text).into(), provider: None, limits: limits(text) };
    let host = || Host { preference: 10, name: "mx.example".into(), addresses: vec![MX] };
    let site = |number| Site { group: GroupNo(number), hosts: vec![host()] };
    let source = |last| Source {
        address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))),
        ehlo_name: "out.example".into(),
        weight: 1,
    };
    Settings {
        sources: (1..=sources).map(source).collect(),
        groups: rates.iter().map(group).collect(),
        sites: (0..).take(rates.len()).map(site).collect(),
        port: 25,
        connections: 1_000,
        rate: None,
        on_doubt: OnDoubt::Hold,
        past: Past::default(),
        quotas: Vec::new(),
        thread: (1, 2),
        segments: 8,
        speed: 60,
        loopback_only: true,
    }
}

fn assume(deferred: u32, bad: u32) -> Assumptions {
    let latency = Latency { p50: Duration::from_millis(200), p95: Duration::from_millis(900) };
    Assumptions { usual: Assumed { latency, deferred, bad }, groups: Vec::new() }
}

fn predicted(settings: &Settings, rows: &[u32], assumptions: &Assumptions) -> Prediction {
    predict(&Plan { settings, rows, orders: &[], assumptions, begun: BEGUN, seed: 7 }).unwrap()
}

fn hours(predicted: &Predicted) -> f64 {
    predicted.last.unwrap().as_secs_f64() / HOUR
}

#[test]
fn a_rate_says_how_long_it_takes_and_that_it_binds() {
    let settings = campaign(&["3500/h"], 1);
    let one = predicted(&settings, &[7_000], &assume(0, 0));
    assert!((1.99..2.06).contains(&hours(&one.groups[0])), "{one:?}");
    assert_eq!(one.groups[0].delivered, 7_000);
    assert_eq!(one.groups[0].binding(), Binding::Rate);
    assert!(one.groups[0].share(Binding::Rate) > 0.9, "{one:?}");
    let four = predicted(&campaign(&["3500/h"], 4), &[7_000], &assume(0, 0));
    assert!((0.49..0.52).contains(&hours(&four.total)), "{four:?}");
}

#[test]
fn each_group_has_its_own_pace() {
    let settings = campaign(&["3600/h", "60/h"], 1);
    let both = predicted(&settings, &[1_800, 120], &assume(0, 0));
    assert!((0.49..0.52).contains(&hours(&both.groups[0])), "{both:?}");
    assert!((1.97..2.03).contains(&hours(&both.groups[1])), "{both:?}");
    assert_eq!(both.total.last, both.groups[1].last);
    assert_eq!(both.total.delivered, 1_920);
}

#[test]
fn deferrals_and_bad_recipients_are_as_assumed() {
    let settings = campaign(&["100/s"], 1);
    let some = predicted(&settings, &[20_000], &assume(100, 50));
    let group = &some.groups[0];
    assert!((900..1_100).contains(&group.bounced), "{group:?}");
    assert_eq!(group.delivered + group.bounced, 20_000);
    // A tenth of a tenth is deferred again, and so on.
    assert!((1_900..2_400).contains(&group.deferred), "{group:?}");
    assert_eq!(group.unfinished, 0);
}

#[test]
fn a_seed_makes_its_prediction_again() {
    let settings = campaign(&["20/s", "5/s"], 2);
    let twice = [(); 2].map(|()| predicted(&settings, &[900, 200], &assume(30, 10)));
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn a_new_day_brings_another_share() {
    let mut settings = campaign(&["20/s"], 1);
    let cap = |daily| Cap { daily: Some(daily), hourly: None };
    let quota = Quota::new(cap(100), BEGUN, 0, 0);
    settings.quotas = vec![(GroupNo(0), SourceNo(0), quota)];
    let midnight = |days: i64| Utc((BEGUN.day() + days) * 86_400_000_000);
    let order = |days, cap| (midnight(days), Order::Cap(GroupNo(0), SourceNo(0), cap));
    let orders = [order(1, Some(cap(200))), order(2, None)];
    let assumptions = assume(0, 0);
    let plan = Plan {
        settings: &settings,
        rows: &[900],
        orders: &orders,
        assumptions: &assumptions,
        begun: BEGUN,
        seed: 7,
    };
    let group = predict(&plan).unwrap().groups.remove(0);
    assert_eq!((group.delivered, group.binding()), (900, Binding::Rate));
    // The rest goes within a minute of the second midnight, which is 28 hours away.
    assert!((28.0..28.1).contains(&hours(&group)), "{group:?}");
}
