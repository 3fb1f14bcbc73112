//! million — what a simulated message costs: run by hand, in a release build, under `time`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam::channel::unbounded;
use mailshot::deliver::{self, Channels, Live};
use mailshot::destination::{GroupNo, SiteNo};
use mailshot::ledger::{Desk, Tail, Writer};
use mailshot::outcome::Row;
use mailshot::simulate::{
    self, Assumed, Assumptions, Feeder, Habits, Latency, Making, Providers, SimRing, Work, predict,
};
use mailshot::spool;
use mailshot::units::{self, Tick};

use crate::personality::Personality;
use crate::ring::BEGUN;
use crate::world::{World, room};

const ROWS: u32 = 1_000_000;
const SEGMENTS: usize = 64;

fn letter(_: Row, _: u16, text: &mut Vec<u8>) {
    text.extend_from_slice(b"Subject: x\r\n\r\nA message of the simulation.\r\n");
}

#[test]
#[ignore = "a measurement: takes some seconds in a release build"]
fn a_million_messages() {
    let mut settings = World::of(Personality::normal(), 1).settings;
    let limits = &mut settings.groups[0].limits;
    (limits.connections, limits.messages_per_connection) = (20, Some(100));
    limits.rates.extend(std::env::var("RATE").ok().map(|rate| units::rate(&rate).unwrap()));
    settings.segments = SEGMENTS;
    let dir = room();
    let (ledger_dir, spool_dir) = (dir.path().join("1"), dir.path().join("spool"));
    std::fs::create_dir(&ledger_dir).unwrap();
    std::fs::create_dir(&spool_dir).unwrap();
    let writer = Writer::open(&ledger_dir, "sim", BEGUN, &Tail::default()).unwrap();
    let (feed, fed) = unbounded();
    let (back, backed) = unbounded();
    let segments = spool::create(&spool_dir, 7, SEGMENTS, 16 << 10).unwrap();
    let fresh = (1..=ROWS).map(|row| (Row(row), SiteNo(0))).collect();
    let work = Work { fresh: vec![fresh], waiting: Vec::new() };
    let retry = vec![settings.groups[0].limits.retry.clone()];
    let making = Making { retry, message: letter, unmakeable: 0, unasked: false };
    let feeder = Feeder::new((feed, backed), segments, work, making);
    let latency = Latency { p50: Duration::from_millis(200), p95: Duration::from_millis(900) };
    let hosts = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let habits = Habits { deferred: 0, ..Habits::plain(hosts, latency) };
    let providers = Providers::new(vec![habits], 1);
    let mut ring = SimRing::new(providers, feeder, BEGUN, Tick(0));
    let (live, stop) = (Live::default(), AtomicBool::new(false));
    let (_order, orders) = unbounded();
    let (notices, _noticed) = unbounded();
    let channels = Channels { feed: fed, back, orders, notices };
    let tally =
        deliver::run(&mut ring, &settings, &channels, &Desk::new(writer), &live, &stop).unwrap();
    let witness = ring.receivers.witnesses().next().unwrap();
    println!("{} accepted, {:?}, {tally:?}", witness.accepted, witness.last);
    assert_eq!(witness.accepted, u64::from(ROWS));
}

/// Three quarters at one provider, some elsewhere, and two thousand sites of their own.
#[test]
#[ignore = "a measurement: takes some seconds in a release build"]
fn a_million_predicted() {
    let mut settings = World::of(Personality::normal(), 1).settings;
    let (group, site) = (settings.groups[0].clone(), settings.sites[0].clone());
    (settings.groups, settings.sites) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    let shares = [(760_000, 8, "3500/h"), (90_000, 5, "2000/h"), (50_000, 6, "2500/h")];
    for (count, connections, rate) in
        shares.into_iter().chain(std::iter::repeat_n((50, 3, "800/h"), 2_000))
    {
        let number = GroupNo(settings.groups.len() as u32);
        let mut group = group.clone();
        group.limits.connections = connections;
        group.limits.messages_per_connection = Some(50);
        group.limits.rates = vec![units::rate(rate).unwrap()];
        group.limits.retry.expire_after = Duration::from_secs(5 * 86_400);
        settings.groups.push(group);
        settings.sites.push(mailshot::destination::Site { group: number, ..site.clone() });
        rows.push(count);
    }
    let latency = Latency { p50: Duration::from_millis(200), p95: Duration::from_millis(900) };
    let usual = Assumed { latency, deferred: 20, bad: 10 };
    let assumptions = Assumptions { usual, groups: Vec::new() };
    let (rows, assumptions) = (&rows[..], &assumptions);
    let plan = simulate::Plan {
        settings: &settings,
        rows,
        assumptions,
        begun: BEGUN,
        orders: &[],
        seed: 1,
    };
    let prediction = predict(&plan).unwrap();
    println!("{:?}\n{:?}", prediction.total, prediction.groups[0]);
    assert_eq!(prediction.total.unfinished, 0);
}
