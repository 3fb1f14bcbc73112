//! replies — what a reply stops, for how long, and what goes on beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mailshot::outcome::{Class, Kind};
use mailshot_sink::attempts::What;
use rustix::process::Signal;

use crate::support::campaign::{Campaign, RUN};
use crate::support::providers::{Providers, Seen};
use crate::support::wait_for;
use crate::support::witness::keys;
use crate::world::{
    FIRST, LONG, SECOND, arrived_once, between, campaign, hosts, longest_silence, provider,
    recorded, source, status, times, times_from, with_rules,
};

/// Ten minutes in a second.
const SPEED: u32 = 600;
/// Those ten minutes at the receiver, in microseconds, less what a message may be on its way.
const PAUSE: u64 = 950_000;

/// What Google says of an address and of a signing domain (support.google.com/a/answer/3726730).
const TOO_FAST: &str =
    "421 4.7.28 Gmail has detected an unusual rate of email originating from your";

fn two_sources() -> String {
    source(FIRST, "") + &source(SECOND, "")
}

/// Connections from a source, and its recipients, in their order: whether it is a connection, and
/// when.
fn events_from(seen: &Seen, source: IpAddr) -> Vec<(bool, u64)> {
    let mut ours = Vec::new();
    let mut events = Vec::new();
    for event in &seen.log {
        match event.what {
            What::Open { source: from, .. } if from == source => {
                ours.push(event.connection);
                events.push((true, event.micros));
            }
            What::Rcpt(_) if ours.contains(&event.connection) => events.push((false, event.micros)),
            _ => {}
        }
    }
    events
}

#[test]
fn an_address_that_is_too_fast_rests_and_is_probed_while_the_other_goes_on() {
    let reply = format!("r9@* = data: {TOO_FAST} IP address");
    let mut google = with_rules("google", &[&reply]);
    google.behaviour.delay = Duration::from_millis(20);
    let mail_hosts = hosts(vec![google]);
    // Ten a second of real time from each source. The row that is refused is tried twice.
    let table = "[rates.provider.google]\nconnections = 6\nrate = \"60/h\"\n\
                 retry = [\"30m\"]\nexpire_after = \"45m\"\n";
    let sections = two_sources() + table;
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 90)], &sections);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    assert_eq!((campaign.sum("delivered"), campaign.sum("expired")), (89, 1));

    let refused: Vec<_> = campaign.attempts().into_iter().filter(|a| a.row == 9).collect();
    let [first, .., last] = &refused[..] else { panic!("tried twice: {refused:?}") };
    assert_eq!((first.kind, last.kind), (Kind::Deferred, Kind::Expired));
    let rested = first.source.expect("it came from a source");
    let other = if rested == FIRST { SECOND } else { FIRST };
    let said = format!("google@{rested} pauses for 10m");
    assert!(finished.stderr.contains(&said), "{}", finished.stderr);

    let seen = mail_hosts.end();
    let silence = longest_silence(&times_from(&seen, "google", rested));
    assert!(silence.1 - silence.0 >= PAUSE, "{silence:?}");
    assert!(between(&times_from(&seen, "google", other), silence) >= 6, "the other went on");
    // Then one connection, and a second one only when its message was accepted: after banner, EHLO,
    // MAIL, RCPT, DATA and the dot, each a fiftieth of a second.
    let events = events_from(&seen, rested);
    let after: Vec<_> =
        events.iter().skip_while(|(opened, at)| !opened || *at <= silence.0).collect();
    let opened = after.iter().filter(|(opened, _)| *opened).map(|(_, at)| *at).take(2);
    let opened: Vec<u64> = opened.collect();
    assert!(opened[0] <= silence.1 && opened[0] >= silence.0 + PAUSE, "{opened:?} {silence:?}");
    assert!(opened.get(1).is_none_or(|at| *at >= opened[0] + 110_000), "{opened:?}");
    let probe = after.iter().filter(|(opened, _)| !opened).map(|(_, at)| *at).take(2);
    let probe: Vec<u64> = probe.collect();
    assert!(probe[1] >= probe[0] + 50_000, "one message until it is accepted: {probe:?}");
}

#[test]
fn a_domain_that_is_too_fast_rests_from_all_sources_and_only_there() {
    let reply = format!("r9@* = data: {TOO_FAST} DKIM domain");
    let mail_hosts = hosts(vec![with_rules("google", &[&reply]), provider("yahoo")]);
    let rate = "rate = \"60/h\"\nretry = [\"30m\"]\nexpire_after = \"45m\"\n";
    let sections =
        two_sources() + &format!("[rates.provider.google]\n{rate}\n[rates.provider.yahoo]\n{rate}");
    let rows = [("gmail.test", 60), ("yahoo.test", 80)];
    let campaign = campaign(mail_hosts.port(), &rows, &sections);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    assert!(finished.stderr.contains("google pauses for 10m"), "{}", finished.stderr);
    assert_eq!((campaign.sum("delivered"), campaign.sum("expired")), (139, 1));
    let seen = mail_hosts.end();
    let silence = longest_silence(&times(&seen, "google"));
    assert!(silence.1 - silence.0 >= PAUSE, "{silence:?}");
    assert!(between(&times(&seen, "yahoo"), silence) >= 10, "yahoo went on");
}

/// Mail hosts at the same port that accept everything.
fn mended(before: Providers) -> Providers {
    let port = before.port();
    drop(before.end());
    Providers::start_at(
        port,
        vec![provider("google"), provider("yahoo"), provider("microsoft")],
        keys(),
    )
}

/// A provider halts at its third row; everything else is delivered, and the rest when somebody has
/// resumed it.
fn halts(name: &'static str, domain: &str, reply: &str, sources: &str, scope: &str) {
    let rule = format!("r3@{domain} = {reply}");
    let refusing = with_rules(name, &[&rule]);
    let mail_hosts = hosts(vec![refusing, provider("google")]);
    let table = format!("[rates.provider.{name}]\nconnections = 1\nrate = \"2400/h\"\n");
    let rows = [(domain, 40), ("gmail.test", 60)];
    let campaign = campaign(mail_hosts.port(), &rows, &(sources.to_owned() + &table));
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(6), "{}", finished.stderr);
    let run = campaign.run_dir();
    let help = format!("mailshot resume {} {scope}", run.display());
    for words in [&format!("{scope} is halted: {name} says"), &help] {
        assert!(finished.stderr.contains(words), "{words} in {}", finished.stderr);
    }
    let ends = campaign.ends();
    assert_eq!(ends[&3].kind, Kind::Deferred, "kept, not bounced: {:?}", ends[&3]);
    let google = ends.values().filter(|end| end.provider == "google");
    assert_eq!(google.filter(|end| end.kind == Kind::Delivered).count(), 60);
    let kinds: Vec<Kind> = ends.values().map(|end| end.kind).collect();
    assert!(kinds.iter().all(|kind| matches!(kind, Kind::Delivered | Kind::Deferred)), "{kinds:?}");
    assert_eq!(recorded(&campaign), [format!("verdict halt {scope}")]);
    let shown = campaign.order("status", &[]).stdout;
    assert!(shown.contains(&format!("{scope} halted since ")), "{shown}");

    let before = mail_hosts.witness().seen().connections;
    let again = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(again.status.code(), Some(6), "{}", again.stderr);
    assert!(again.stderr.contains(&help), "{}", again.stderr);
    assert_eq!(mail_hosts.witness().seen().connections, before, "nobody was approached");

    let mail_hosts = mended(mail_hosts);
    let resumed = campaign.order("resume", &[scope]);
    assert!(resumed.status.success(), "{}", resumed.stderr);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(campaign.sum("delivered"), 100);
    arrived_once(&mail_hosts.end());
}

#[test]
fn yahoo_halts_an_address_until_somebody_acts() {
    let reply = "421 4.7.1 [TS03] All messages from 127.0.31.1 will be permanently deferred; \
                 Retrying will NOT succeed";
    halts("yahoo", "yahoo.test", reply, &source(FIRST, ""), "yahoo@127.0.31.1");
}

#[test]
fn microsoft_halts_until_somebody_acts_where_the_kernel_chooses_the_address() {
    let reply = "550 5.7.1 Unfortunately, messages from [127.0.0.1] weren't sent. Please contact \
                 your Internet service provider since part of their network is on our block list \
                 (S3150)";
    halts("microsoft", "outlook.test", reply, "", "microsoft");
}

#[test]
fn one_halted_address_leaves_the_rest_to_the_other() {
    // Yahoo refuses the first source only: what is answered depends on who asks.
    let reply = "r3@* = 421 4.7.1 [TS03] All messages from you will be permanently deferred";
    let mail_hosts = hosts(vec![with_rules("yahoo", &[reply])]);
    let table = "[rates.provider.yahoo]\nrate = \"600/h\"\nretry = [\"2h\"]\n";
    let sections = two_sources() + table;
    let campaign = campaign(mail_hosts.port(), &[("yahoo.test", 60)], &sections);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    // The row is refused from the other address too, two hours later, when all else is delivered.
    assert_eq!(finished.status.code(), Some(6), "{}", finished.stderr);
    let ends = campaign.ends();
    assert_eq!(ends.values().filter(|end| end.kind == Kind::Delivered).count(), 59);
    assert_eq!((ends[&3].kind, ends[&3].attempt), (Kind::Deferred, 2));
    assert_eq!(arrived_once(&mail_hosts.end()).len(), 59);
}

#[test]
fn a_silent_close_is_no_deferral() {
    let mut yahoo = provider("yahoo");
    yahoo.behaviour.messages_per_connection_max = Some(20);
    yahoo.behaviour.close_silently = true;
    let mail_hosts = hosts(vec![yahoo]);
    let table = "[rates.provider.yahoo]\nconnections = 2\nrate = \"3600/h\"\n";
    let campaign = campaign(mail_hosts.port(), &[("yahoo.test", 130)], table);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let attempts = campaign.attempts();
    assert!(attempts.iter().all(|attempt| attempt.kind == Kind::Delivered), "{attempts:?}");
    let seen = mail_hosts.end();
    let connections = seen.arrivals("yahoo").1.connections.len();
    assert!(connections >= 7, "{connections} connections");
    assert_eq!(arrived_once(&seen).len(), 130);
}

#[test]
fn unknown_users_never_slow_a_provider() {
    let unknown = "r*@gmail.test = 550 5.1.1 The email account that you tried to reach does not \
                   exist";
    let mail_hosts = hosts(vec![with_rules("google", &["r*5@* = accept", unknown])]);
    // Twenty a second of real time.
    let table = "[rates.provider.google]\nconnections = 3\nrate = \"120/h\"\n";
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 80)], table);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!((campaign.sum("delivered"), campaign.sum("bounced")), (8, 72));
    for stop in ["pauses", "halted"] {
        assert!(!finished.stderr.contains(stop), "{}", finished.stderr);
    }
    let times = times(&mail_hosts.end(), "google");
    let share = Seen::share_used(&times, (20, Duration::from_secs(1)));
    assert!(share > 0.9, "{share} of the rate was used");
}

/// The source of each attempt of each row.
fn sources_of(campaign: &Campaign) -> BTreeMap<u32, Vec<IpAddr>> {
    let mut sources: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for attempt in campaign.attempts() {
        let source = attempt.source.expect("every attempt came from a source");
        sources.entry(attempt.row).or_default().push(source);
    }
    sources
}

#[test]
fn what_is_greylisted_comes_again_from_the_same_source_also_after_a_kill() {
    let mail_hosts = hosts(vec![with_rules("google", &["* = grey 300ms"])]);
    let table = "[rates.provider.google]\nrate = \"7200/h\"\nretry = [\"20m\"]\n";
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 120)], &(two_sources() + table));
    let run = campaign.start_at_speed(SPEED);
    let all_deferred = || (status(&campaign)?["deferred_attempts"] == 120).then_some(());
    wait_for("120 deferrals", LONG, all_deferred);
    run.signal(Signal::KILL);
    drop(run);
    let before = sources_of(&campaign);
    assert!(campaign.attempts().iter().all(|attempt| attempt.class == Class::Greylisted));
    assert_eq!(mail_hosts.witness().accepted(), 0, "it was killed before any retry");

    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    for (row, sources) in sources_of(&campaign) {
        assert_eq!(sources.len(), 2, "row {row}: {sources:?}");
        assert_eq!(sources[1], before[&row][0], "row {row}: {sources:?}");
    }
    let used: Vec<IpAddr> = before.values().map(|sources| sources[0]).collect();
    assert!(used.contains(&FIRST) && used.contains(&SECOND), "both sources took part");
    assert_eq!(arrived_once(&mail_hosts.end()).len(), 120);
}
