//! warming — sources that are new, and rates that are longer than a run: what earlier days, earlier
//! runs and earlier processes have sent counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mailshot::outcome::{Class, Kind};
use mailshot::ring::Clock;
use mailshot::units::Utc;
use rustix::process::Signal;

use crate::support::campaign::{Attempt, Campaign, RUN};
use crate::world::{
    FIRST, LONG, SECOND, arrived_once, await_binding, campaign, hosts, provider, source, times,
    times_from, with_rules,
};

/// A day in four seconds and a third.
const SPEED: u32 = 20_000;

/// Fifty, a hundred, two hundred a day.
const SCHEDULE: &str = "\
[[schedule]]
name = \"steps\"
source = \"these tests\"
deferral_max = 0.08
bad_recipient_max = 0.02
at_least = 10
used_min = 0.5
rewarm_after = \"30d\"
stages = [{ day = 1, daily = 50 }, { day = 2, daily = 100 }, { day = 3, daily = 200 }]
";

fn today() -> String {
    Clock::start().utc().date()
}

/// The first source is new today.
fn cold() -> String {
    source(FIRST, &format!("warmup = \"steps\"\nwarmup_from = {}", today()))
}

/// `[warmup]` with this overflow.
fn overflow(word: &str) -> String {
    format!("[warmup]\nschedules = [\"steps.toml\"]\noverflow = \"{word}\"\n")
}

fn warming(port: u16, rows: u32, sections: &str) -> Campaign {
    let campaign = campaign(port, &[("gmail.test", rows)], "");
    campaign.put("steps.toml", SCHEDULE);
    campaign.sections(sections)
}

/// What does not cross midnight UTC by accident begins after it.
fn not_before_midnight() {
    const DAY: i64 = 86_400_000_000;
    let left = DAY - Clock::start().utc().0.rem_euclid(DAY);
    if left < 120_000_000 {
        std::thread::sleep(Duration::from_micros(left.unsigned_abs() + 1_000_000));
    }
}

/// Attempts from a source by the day on which they ended.
fn by_day(campaign: &Campaign, from: IpAddr) -> BTreeMap<i64, Vec<Attempt>> {
    let mut days: BTreeMap<i64, Vec<Attempt>> = BTreeMap::new();
    for attempt in campaign.attempts().into_iter().filter(|a| a.source == Some(from)) {
        days.entry(Utc(attempt.time_us).day()).or_default().push(attempt);
    }
    days
}

/// The cap of each day by the schedule, told from what came of the days before; and what was sent.
fn caps_and_sent(days: &BTreeMap<i64, Vec<Attempt>>) -> Vec<(usize, usize)> {
    let mut stage = 0;
    let mut found = Vec::new();
    for attempts in days.values() {
        let cap = [50, 100, 200][stage.min(2)];
        let bad = attempts.iter().filter(|a| a.class == Class::BadMailbox).count();
        let (sent, used) = (attempts.len(), attempts.len() * 2 >= cap);
        found.push((cap, sent));
        if bad * 50 > sent * 2 {
            stage = usize::saturating_sub(stage, 1);
        } else if bad * 50 <= sent && used {
            stage += 1;
        }
    }
    found
}

#[test]
fn each_day_has_its_share_and_the_rest_waits_for_the_next() {
    let mail_hosts = hosts(vec![provider("google")]);
    let sections = cold() + &source(SECOND, "") + &overflow("tomorrow");
    let campaign = warming(mail_hosts.port(), 400, &sections);
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let days = caps_and_sent(&by_day(&campaign, FIRST));
    assert!(days.iter().all(|(cap, sent)| sent <= cap), "{days:?}");
    assert!(days.len() >= 4, "50, 100, 200 and the rest: {days:?}");
    assert!(days[1..days.len() - 1].iter().all(|(cap, sent)| sent == cap), "{days:?}");
    let seen = mail_hosts.end();
    assert_eq!(times_from(&seen, "google", FIRST).len(), 400);
    assert_eq!(times_from(&seen, "google", SECOND).len(), 0, "nobody takes what is for tomorrow");
    // At the receiver: no window of most of a day has more than a day's share and a burst.
    let times = times(&seen, "google");
    let bursts = times.windows(2).filter(|pair| pair[1] - pair[0] > 1_500_000).count() + 1;
    assert!(bursts + 1 >= days.len(), "{bursts} bursts of {days:?}");
    assert_eq!(arrived_once(&seen).len(), 400);
}

#[test]
fn what_is_beyond_the_share_goes_to_the_source_that_is_warm() {
    let mail_hosts = hosts(vec![provider("google")]);
    let table = "[rates.provider.google]\nrate = \"100/s\"\n";
    let sections = cold() + &source(SECOND, "") + &overflow("warm") + table;
    let campaign = warming(mail_hosts.port(), 300, &sections);
    not_before_midnight();
    let finished = campaign.start_at_speed(1).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let seen = mail_hosts.end();
    assert_eq!(times_from(&seen, "google", FIRST).len(), 50);
    assert_eq!(times_from(&seen, "google", SECOND).len(), 250);
}

#[test]
fn the_most_engaged_come_first_and_a_day_that_failed_is_repeated() {
    let unknown = "bad*@* = 550 5.1.1 No such user";
    let mail_hosts = hosts(vec![with_rules("google", &[unknown])]);
    let campaign = warming(mail_hosts.port(), 0, &(cold() + &overflow("warm")));
    // Rows 201 to 245 are the most engaged, then 246 to 250, which are unknown, then the others.
    let mut list = String::from("email,name,opens\n");
    for row in 1..=250 {
        let (who, opens) = match row {
            246..=250 => ("bad", 1000 - row),
            201..=245 => ("r", 1000 - row),
            _ => ("r", 300 - row),
        };
        list.push_str(&format!("{who}{row}@gmail.test,Name {row},{opens}\n"));
    }
    campaign.put("list.csv", list);
    let campaign = campaign.recipients("engagement = \"opens\"");
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let days = by_day(&campaign, FIRST);
    let shares = caps_and_sent(&days);
    assert!(shares.iter().all(|(cap, sent)| sent <= cap), "{shares:?}");
    let mut first: Vec<u32> = days.values().flatten().map(|a| a.row).take(50).collect();
    first.sort_unstable();
    assert_eq!(first, (201..=250).collect::<Vec<u32>>(), "the most engaged come first");
    // 5 of 50 are more than 2 %: the next day has no more than the first.
    let held = shares.iter().position(|(cap, sent)| (*cap, *sent) == (50, 50));
    let held = held.expect("the first whole day");
    assert_eq!(shares[held + 1].0, 50, "{shares:?}");
    assert!(shares.iter().any(|(cap, _)| *cap == 100), "then it goes on: {shares:?}");
}

#[test]
fn a_second_run_on_the_same_day_has_what_the_first_has_left_and_so_has_a_restart() {
    let mail_hosts = hosts(vec![provider("google")]);
    let table = "[rates.provider.google]\nrate = \"20/s\"\nconnections = 1\n";
    let sections = cold() + &overflow("tomorrow") + table;
    let campaign = warming(mail_hosts.port(), 20, &sections);
    not_before_midnight();
    let first = campaign.start_at_speed(1).finish(RUN);
    assert_eq!(first.status.code(), Some(0), "{}", first.stderr);
    let mut list = String::from("email,name\n");
    (1..=60).for_each(|row| list.push_str(&format!("s{row}@gmail.test,Name {row}\n")));
    campaign.put("list.csv", list);
    let again = |signal: Signal, until: &dyn Fn()| {
        let mut command = campaign.command("run", &["--loopback-only"]);
        if campaign.runs().len() < 2 {
            command.arg("--new-run");
        }
        let run = crate::support::process::Process::start(&mut command);
        until();
        run.signal(signal);
        drop(run.finish(RUN));
    };
    again(Signal::KILL, &|| mail_hosts.witness().await_accepted(35, LONG));
    again(Signal::TERM, &|| await_binding(&campaign, "google", "warm_up"));
    let sent = mail_hosts.witness().accepted();
    assert!((49..=51).contains(&sent), "{sent} were sent of 50; a kill may hide one");
    again(Signal::TERM, &|| {
        await_binding(&campaign, "google", "warm_up");
        std::thread::sleep(Duration::from_millis(500));
    });
    assert_eq!(mail_hosts.witness().accepted(), sent, "nothing is left of the day");
    let kinds: Vec<Kind> = campaign.attempts().iter().map(|attempt| attempt.kind).collect();
    assert!(kinds.iter().all(|kind| matches!(kind, Kind::Delivered | Kind::InDoubt)), "{kinds:?}");
}

#[test]
fn a_rate_of_a_day_counts_what_another_run_has_sent() {
    let mail_hosts = hosts(vec![provider("google")]);
    let rows = [("gmail.test", 30)];
    let quick = "[rates.provider.google]\nrate = \"100/s\"\n";
    let campaign = campaign(mail_hosts.port(), &rows, &(source(FIRST, "") + quick));
    let first = campaign.start_at_speed(1).finish(RUN);
    assert_eq!(first.status.code(), Some(0), "{}", first.stderr);
    let began = campaign.attempts()[0].time_us;
    let daily = "[rates.provider.google]\nrate = \"50/24h\"\n";
    let campaign = campaign.sections(&(source(FIRST, "") + daily));
    let options = ["--loopback-only", "--new-run", "--speed", "20000"];
    let mut command = campaign.command("run", &options);
    let second = crate::support::process::Process::start(&mut command).finish(RUN);
    assert_eq!(second.status.code(), Some(0), "{}", second.stderr);
    let day = 24 * 3_600_000_000;
    let attempts = campaign.attempts();
    assert_eq!(attempts.len(), 30);
    let same_day = attempts.iter().filter(|attempt| attempt.time_us - began <= day).count();
    // What the first sent counts as sent at the end of its hour, and a second in which a busy
    // machine does nothing is five hours here.
    assert!((10..=20).contains(&same_day), "{same_day} within the day of the first 30");
}
