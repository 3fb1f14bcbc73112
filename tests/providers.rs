//! providers — campaigns to mail hosts found in the DNS: a real name server, receivers of several
//! providers that count for themselves, the program from several sources in compressed time.
//!
//! What is proved is proved from the receivers' logs, which share no code with the sender. The
//! tests wait for real time and measure shares of it, so they run one after the other.

#![expect(clippy::disallowed_types, reason = "tests take turns by a mutex of the test binary")]

mod support;
#[path = "providers/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailshot::outcome::{Binding, Kind};
use mailshot_sink::Rule;
use rustix::process::Signal;
use serde_json::Value;

use support::campaign::{Attempt, Campaign, RUN};
use support::nameserver::NameServer;
use support::process::{Finished, Process, succeed};
use support::providers::{Providers, Seen, Spec};
use support::{tables, witness};
use world::{Place, SOURCES, SPEED};

/// How late the receivers may read a command on a busy machine, in real time. The check demands
/// the limits over every number of periods with the same lateness, so it hides no steady excess:
/// over the 20 seconds of a run, what is half a percent too fast is seen.
const LATE: Duration = Duration::from_millis(100);
/// The part of a permitted rate that must be used while work is left.
const SHARE: f64 = 0.97;
/// How far from the planned time a rehearsal may be, as a part of it.
const PLAN: f64 = 0.05;
/// Runs of which one must do both.
const TRIES: usize = 3;
/// Until all connections are there.
const RAMP_UP: Duration = Duration::from_secs(1);

/// One at a time: each of them needs the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_server(zones: &[(String, Option<String>)]) -> Option<NameServer> {
    let zones: Vec<(&str, Option<&str>)> =
        zones.iter().map(|(name, text)| (name.as_str(), text.as_deref())).collect();
    NameServer::start(&zones)
}

fn start(campaign: &Campaign, speed: u32, threads: u32) -> Process {
    let (speed, threads) = (speed.to_string(), threads.to_string());
    let options = ["--loopback-only", "--speed", &speed, "--delivery-threads", &threads];
    Process::start(&mut campaign.command("run", &options))
}

fn finish(process: Process, exit: i32) -> Finished {
    let finished = process.finish(RUN);
    assert_eq!(finished.status.code(), Some(exit), "{}", finished.stderr);
    finished
}

/// Each sum of the report, those that are 0 left out.
fn sums(campaign: &Campaign) -> Vec<(String, u64)> {
    let report = campaign.report();
    let sums = report["sums"].as_object().expect("a report has sums").clone();
    let number = |value: &Value| value.as_u64().expect("sums are counts");
    let all = sums.iter().map(|(name, value)| (name.clone(), number(value)));
    all.filter(|(_, count)| *count > 0).collect()
}

/// The part of a rate of the lanes' time that was used: from the first message that came a second
/// after the place's first one to its last, while there was always work left. n messages stand for
/// n - 1 intervals, on each of `abreast` lanes.
fn share(times: &[u64], abreast: usize, (count, period): (u64, Duration)) -> f64 {
    let ramp_up = u64::try_from(RAMP_UP.as_micros()).expect("a second");
    let from = times.partition_point(|time| *time < times[0] + ramp_up);
    let (came, time) = (times.len() - from, times[times.len() - 1] - times[from]);
    let permitted = time as f64 / (period / SPEED).as_micros() as f64 * count as f64;
    (came - abreast) as f64 / permitted
}

/// Each place that used less of its permitted rate than it should.
fn unused(places: &[Place], seen: &Seen) -> Vec<String> {
    let mut short = Vec::new();
    for place in places {
        let (each, total) = seen.arrivals(place.name);
        let abreast = if place.binding() == Binding::Rate { SOURCES.len() } else { 1 };
        let share = share(&total.recipients, abreast, place.permitted());
        let lanes = each.iter().map(|(_, lane)| lane.recipients.len());
        let lanes: Vec<usize> = lanes.collect();
        let (name, percent, open) = (place.name, 100.0 * share, total.most_open.1);
        let pause = total.recipients.windows(2).map(|pair| pair[1] - pair[0]).max();
        eprintln!(
            "{name:12} {percent:.2} % of its rate, {lanes:?} messages, {open} connections, \
             longest pause {} ms",
            pause.unwrap_or(0) / 1000
        );
        if share < SHARE {
            short.push(format!("{name} used {percent:.2} % of its rate"));
        }
    }
    short
}

/// Each place whose time was not the planned one.
fn unplanned(places: &[Place], plan: &Value, attempts: &[Attempt]) -> Vec<String> {
    let mut off = Vec::new();
    for place in places {
        let planned = plan["providers"].as_array().expect("a list");
        let planned = planned.iter().find(|provider| provider["name"] == place.name);
        let planned = planned.unwrap_or_else(|| panic!("{} is in {plan:#}", place.name));
        assert_eq!(planned["recipients"], place.rows);
        assert_eq!(planned["binds"]["limit"], place.binding().word(), "{}", place.name);
        let takes = planned["takes_seconds"].as_f64().expect("a time");
        let own = || attempts.iter().filter(|attempt| attempt.provider == place.name);
        let first = own().map(|attempt| attempt.began_us).min().expect("something was sent");
        let last = own().map(|attempt| attempt.ended_us).max().expect("something was sent");
        let took = (last - first) as f64 / 1e6;
        let more = 100.0 * (took / takes - 1.0);
        let (name, words) = (place.name, planned["binds"]["words"].as_str().expect("words"));
        eprintln!("{name:12} planned {takes:6.0} s by {words:16} took {took:6.0} s {more:+.2} %");
        if more.abs() > 100.0 * PLAN {
            off.push(format!("{name} took {took} s, not {takes} s"));
        }
    }
    off
}

/// What the ledger says of each attempt is what the receivers saw: so many from each source to each
/// place, and what bound most of them is the limit that is meant to.
fn ledger_agrees(places: &[Place], seen: &Seen, attempts: &[Attempt]) {
    for place in places {
        let own = || attempts.iter().filter(|attempt| attempt.provider == place.name);
        let (each, _) = seen.arrivals(place.name);
        for (source, came) in each {
            let sent = own().filter(|attempt| attempt.source == Some(source)).count();
            assert_eq!(sent, came.recipients.len(), "to {} from {source}", place.name);
            assert!(SOURCES.contains(&source), "{source}");
        }
        let bound = own().filter(|attempt| attempt.limit == place.binding()).count();
        assert!(bound > own().count() / 2, "{bound} to {} waited for its rate", place.name);
    }
    let known = |attempt: &&Attempt| places.iter().any(|place| place.name == attempt.provider);
    assert!(attempts.iter().all(|attempt| known(&attempt)), "each attempt was at one of them");
}

/// The place of each row of the list, by the domain of its address.
fn rows_are_at_their_places(places: &[Place], campaign: &Campaign, attempts: &[Attempt]) {
    let list = fs::read_to_string(campaign.path("list.csv")).expect("it was written");
    let domain = |line: &str| line.split_once(',')?.0.split_once('@').map(|(_, of)| of.to_owned());
    let domains: Vec<String> = list.lines().skip(1).filter_map(domain).collect();
    for attempt in attempts {
        let domain = &domains[attempt.row as usize - 1];
        let place = places.iter().find(|place| place.domains.contains(domain));
        assert_eq!(place.map(|place| place.name), Some(attempt.provider.as_str()), "{domain}");
    }
}

/// Runs the campaign once; what is to be held against it. What may not be whatever the machine does
/// besides is asserted, what a machine that is busy with others takes from it is returned.
fn shortcomings(threads: u32) -> Vec<String> {
    let places = world::places(Duration::from_secs(22));
    let Some(server) = name_server(&world::zones(&places)) else { return Vec::new() };
    let receivers = world::receivers(&places);
    let campaign = world::campaign(&places, receivers.port(), server.address());
    let rows: usize = places.iter().map(|place| place.rows).sum();
    let plan = succeed(&mut campaign.command("plan", &["--json"]), RUN);
    let plan: Value = serde_json::from_str(&plan).expect("it is JSON");

    finish(start(&campaign, SPEED, threads), 0);
    let seen = receivers.end();
    seen.kept_all_limits(LATE);

    let rows = rows as u64;
    assert_eq!(sums(&campaign), [("delivered".to_owned(), rows), ("rows".to_owned(), rows)]);
    assert_eq!(seen.report.counts.messages, rows);
    let attempts = campaign.attempts();
    assert_eq!(attempts.len() as u64, rows);
    assert!(attempts.iter().all(|attempt| attempt.kind == Kind::Delivered));
    ledger_agrees(&places, &seen, &attempts);
    rows_are_at_their_places(&places, &campaign, &attempts);

    eprintln!("{threads} delivery threads, {rows} rows, speed {SPEED}");
    let short = unused(&places, &seen);
    [short, unplanned(&places, &plan, &attempts)].concat()
}

/// A machine that is busy with others takes time from the run that it cannot make up for, because
/// no rate may be exceeded afterwards: one run of a few must use its rates in the planned time.
/// Every run must keep all limits.
fn limits_hold_and_are_used(threads: u32) {
    let _alone = alone();
    let mut short = Vec::new();
    for _ in 0..TRIES {
        short = shortcomings(threads);
        if short.is_empty() {
            return;
        }
        eprintln!("not used, or not as planned:\n{}", short.join("\n"));
    }
    panic!("{}", short.join("\n"));
}

#[test]
fn no_limit_is_exceeded_and_rates_are_used_from_one_thread() {
    limits_hold_and_are_used(1);
}

#[test]
fn no_limit_is_exceeded_and_rates_are_used_from_three_threads() {
    limits_hold_and_are_used(3);
}

#[test]
fn no_window_over_a_kill_and_a_restart_exceeds_a_rate() {
    let _alone = alone();
    let mut places = world::places(Duration::from_secs(8));
    places.push(world::slow());
    let Some(server) = name_server(&world::zones(&places)) else { return };
    let receivers = world::receivers(&places);
    let campaign = world::campaign(&places, receivers.port(), server.address());
    let rows: usize = places.iter().map(|place| place.rows).sum();
    let first = start(&campaign, SPEED, 2);
    receivers.witness().await_accepted(rows as u64 / 4, RUN);
    first.signal(Signal::KILL);
    first.finish(RUN);
    let before = campaign.attempts().len();
    let second = start(&campaign, SPEED, 2).finish(RUN);
    let seen = receivers.end();
    seen.kept_all_limits(LATE);

    let sums: BTreeMap<String, u64> = sums(&campaign).into_iter().collect();
    let in_doubt = sums.get("in_doubt").copied().unwrap_or(0);
    let exit = if in_doubt == 0 { 0 } else { 5 };
    assert_eq!(second.status.code(), Some(exit), "{}", second.stderr);
    assert_eq!(sums["delivered"] + in_doubt, rows as u64, "{sums:?}");
    let arrived = seen.report.counts.messages;
    eprintln!("{before} of {rows} before the kill, {in_doubt} in doubt, {arrived} arrived");
    assert!((sums["delivered"]..=rows as u64).contains(&arrived), "{arrived} of {sums:?}");
}

/// Refused for good, greylisted, accepted: each in the words of a provider, on all threads at once.
#[test]
fn many_threads_keep_one_ledger() {
    let _alone = alone();
    let mut places = world::places(Duration::from_secs(6));
    let rule = |text: &str| text.parse::<Rule>().expect("a rule of the sink");
    // Every row of one domain of the first two.
    places[0].rules = vec![rule(
        "*@g1.customers.test = 550 5.1.1 The email account that you tried \
                                 to reach does not exist",
    )];
    places[1].rules = vec![rule("*@m1.customers.test = grey")];
    let Some(server) = name_server(&world::zones(&places)) else { return };
    let receivers = world::receivers(&places);
    let campaign = world::campaign(&places, receivers.port(), server.address());
    finish(start(&campaign, SPEED, 3), 0);
    let seen = receivers.end();
    seen.kept_all_limits(LATE);
    let attempts = campaign.attempts();
    rows_are_at_their_places(&places, &campaign, &attempts);
    ledger_agrees(&places, &seen, &attempts);

    let at = |place: usize| places[place].rows.div_ceil(places[place].domains.len()) as u64;
    let rows: u64 = places.iter().map(|place| place.rows as u64).sum();
    let of = |kind: Kind| -> Vec<&Attempt> {
        attempts.iter().filter(|attempt| attempt.kind == kind).collect()
    };
    let (refused, grey) = (of(Kind::Bounced), of(Kind::Deferred));
    assert!(
        refused.iter().all(|of| (of.provider.as_str(), &*of.rule) == ("google", "bad-mailbox"))
    );
    assert!(grey.iter().all(|of| (of.provider.as_str(), &*of.rule) == ("microsoft", "greylist")));
    assert!(of(Kind::Delivered).iter().all(|attempt| attempt.rule.is_empty()));
    // The list gives each of their domains a tenth, the first ones the rest.
    let (bounced, deferred) = (refused.len() as u64, grey.len() as u64);
    assert!(at(0).abs_diff(bounced) <= 1 && at(1).abs_diff(deferred) <= 1);
    let expected = [("bounced", bounced), ("delivered", rows - bounced), ("rows", rows)];
    assert_eq!(sums(&campaign), expected.map(|(name, count)| (name.to_owned(), count)));
    for first in grey {
        let again = attempts.iter().find(|of| of.row == first.row && of.attempt == 2);
        let again = again.expect("what was greylisted was tried again");
        assert_eq!(again.source, first.source, "a greylist knows us by our address");
    }
    assert_eq!(attempts.len() as u64, rows + deferred);
}

/// The number of rows for each kind of domain.
const EACH: u64 = 5;

#[test]
fn dead_domains_get_nothing_and_silent_ones_wait() {
    let _alone = alone();
    let good = "@ MX 10 mx\nmx A 127.0.31.1";
    let dead = "null MX 0 .\ndangling MX 10 gone.dangling";
    // For a zone without a file the server answers SERVFAIL.
    let before = [("good.test", Some(good)), ("dead.test", Some(dead)), ("late.test", None)];
    let silent = [("joins.test", None), ("dies.test", None), ("never.test", None)];
    let Some(server) = NameServer::start(&[before, silent].concat()) else { return };
    let address = server.address();
    let providers = Providers::start(
        vec![Spec::friendly("good", 31, 1), Spec::friendly("late", 32, 1)],
        witness::keys(),
    );
    let domains = [
        "good.test",
        "null.dead.test",
        "dangling.dead.test",
        "missing.dead.test",
        "late.test",
        "joins.test",
        "dies.test",
        "never.test",
    ];
    let rows = domains.iter().flat_map(|of| (0..EACH).map(move |row| format!("r{row}@{of}")));
    let rates = "[rates.default]\nexpire_after = \"90m\"\n";
    let campaign = Campaign::to_mx(providers.port(), rows);
    let campaign = campaign.sections(&world::sections(address, rates));

    // Its five minutes between two look-ups are half a second.
    let run = start(&campaign, 600, 2);
    providers.witness().await_accepted(EACH, RUN);
    drop(server);
    let late = "@ MX 10 mx\nmx A 127.0.32.1";
    let joins = "@ MX 10 mx.good.test.";
    let after = [
        ("good.test", Some(good)),
        ("late.test", Some(late)),
        ("joins.test", Some(joins)),
        ("dies.test", Some("@ MX 0 .")),
        ("never.test", None),
    ];
    let _server = NameServer::start_at(address, &after);
    finish(run, 5);
    let seen = providers.end();
    seen.kept_all_limits(LATE); // which knows of mail hosts that nobody should have asked

    let expected = [
        ("bounced", EACH),
        ("delivered", 3 * EACH),
        ("excluded", 3 * EACH),
        ("expired", EACH),
        ("rows", 8 * EACH),
    ];
    assert_eq!(sums(&campaign), expected.map(|(name, count)| (name.to_owned(), count)));
    let came = |name: &str| seen.arrivals(name).1.recipients.len() as u64;
    assert_eq!((came("good"), came("late")), (2 * EACH, EACH));

    each_row_ended_as_its_domain(&campaign);
}

/// The rows of [`dead_domains_get_nothing_and_silent_ones_wait`], [`EACH`] of a domain: those of
/// dead ones have their reason and no attempt, the others their end, its place and its words.
fn each_row_ended_as_its_domain(campaign: &Campaign) {
    let ends = campaign.ends();
    let reasons = [(1, "null_mx"), (2, "no_mail_host"), (3, "no_such_domain")];
    for message in tables::messages(campaign, &campaign.run_dir()) {
        let of = u64::from(message.row - 1) / EACH;
        let reason = reasons.iter().find(|(at, _)| *at == of).map(|(_, reason)| *reason);
        assert_eq!(message.reason.as_deref(), reason, "{message:?}");
        if reason.is_some() {
            assert!((message.attempts, ends.get(&message.row)) == (0, None), "{message:?}");
            continue;
        }
        let end = &ends[&message.row];
        let (kind, provider, words) = match of {
            0 | 5 => (Kind::Delivered, "mx.good.test", ""),
            4 => (Kind::Delivered, "mx.late.test", ""),
            6 => (Kind::Bounced, "", "NullMx: no mail can be sent"),
            _ => (Kind::Expired, "", "the mail hosts could not be found: "),
        };
        assert_eq!((end.kind, end.provider.as_str()), (kind, provider), "{end:?}");
        assert!(end.response.contains(words), "{end:?}");
    }
}
