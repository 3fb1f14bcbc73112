//! thresholds — too many deferrals at a provider: whoever wants to know is called once, and the
//! provider is left alone, slowed or halted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mailshot::outcome::Kind;

use crate::support::campaign::{Campaign, RUN};
use crate::support::wait_for;
use crate::world::{LONG, campaign, hosts, provider, recorded, times, with_rules};

/// Two hours in twelve seconds.
const SPEED: u32 = 600;
/// A hundred a second of real time.
const RATE: &str = "rate = \"600/h\"\nretry = [\"20h\"]\nexpire_after = \"30h\"\n";
/// One row in ten is put off.
const SOME: &str = "r*7@* = 451 4.3.0 Temporary failure";

/// So many rows at each of Google and Yahoo, and a threshold that does `action` and calls a script
/// that appends its environment to the file `called`.
fn watched(port: u16, rows: u32, whom: &str, action: &str) -> Campaign {
    let rows = [("gmail.test", rows), ("yahoo.test", rows)];
    let rates = format!("[rates.provider.google]\n{RATE}\n[rates.provider.yahoo]\n{RATE}\n");
    let campaign = campaign(port, &rows, "");
    let (script, called) = (campaign.path("notify"), campaign.path("called"));
    let text = format!("#!/bin/sh\n{{ echo \"ARGUMENT=$1\"; env; }} >> {}\n", called.display());
    campaign.put("notify", text);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    let threshold = format!(
        "[[threshold]]\nmeasure = \"deferral\"\nabove = \"8%\"\nwindow = \"2h\"\n\
         at_least = 100\n{whom}action = \"{action}\"\ncommand = [\"{}\", \"deliverability\"]\n",
        script.display()
    );
    campaign.sections(&(rates + &threshold))
}

/// The environment that the script saw, when it was called once.
fn called(campaign: &Campaign) -> Vec<String> {
    let text = wait_for("the script", LONG, || fs::read_to_string(campaign.path("called")).ok());
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let calls = lines.iter().filter(|line| *line == "ARGUMENT=deliverability").count();
    assert_eq!(calls, 1, "{text}");
    lines
}

/// That this variable has this value.
fn has(environment: &[String], variable: &str) {
    assert!(environment.iter().any(|line| line == variable), "{variable} in {environment:?}");
}

#[test]
fn a_threshold_that_stops_halts_its_provider_alone() {
    let mail_hosts = hosts(vec![with_rules("google", &[SOME]), provider("yahoo")]);
    let campaign = watched(mail_hosts.port(), 400, "", "stop");
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(6), "{}", finished.stderr);
    let environment = called(&campaign);
    let run = campaign.run_dir();
    let id = run.file_name().expect("a run has a name").to_string_lossy().into_owned();
    has(&environment, &format!("MAILSHOT_RUN={id}"));
    has(&environment, "MAILSHOT_PROVIDER=google");
    has(&environment, "MAILSHOT_MEASURE=deferral");
    has(&environment, "MAILSHOT_ACTION=stop");
    let percent = environment.iter().find_map(|line| line.strip_prefix("MAILSHOT_PERCENT="));
    let percent: f64 = percent.expect("a share").parse().expect("a number");
    assert!(percent > 8.0 && percent < 20.0, "{percent}");
    assert_eq!(recorded(&campaign), ["threshold halt google"]);
    assert!(finished.stderr.contains("google halted since"), "{}", finished.stderr);

    let delivered = |name: &str| {
        let of = |attempt: &&crate::support::campaign::Attempt| attempt.provider == name;
        let ends = campaign.ends();
        ends.values().filter(of).filter(|end| end.kind == Kind::Delivered).count()
    };
    assert_eq!(delivered("yahoo"), 400);
    let google = delivered("google");
    assert!((80..300).contains(&google), "{google} were delivered to google");
}

#[test]
fn a_threshold_of_all_together_stops_everything() {
    let mail_hosts =
        hosts(vec![with_rules("google", &[SOME, "r*3@* = 451 4.3.0 Not now"]), provider("yahoo")]);
    let campaign = watched(mail_hosts.port(), 400, "provider = \"all\"\n", "stop");
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(6), "{}", finished.stderr);
    has(&called(&campaign), "MAILSHOT_PROVIDER=all");
    assert_eq!(recorded(&campaign), ["threshold halt all"]);
    assert!(mail_hosts.witness().accepted() < 500, "both have stopped");
}

#[test]
fn a_threshold_that_warns_calls_once_and_changes_nothing() {
    let mail_hosts = hosts(vec![with_rules("google", &[SOME]), provider("yahoo")]);
    let campaign = watched(mail_hosts.port(), 200, "provider = \"google\"\n", "warn");
    let finished = campaign.start_at_speed(7200).finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    assert_eq!((campaign.sum("delivered"), campaign.sum("expired")), (380, 20));
    let environment = called(&campaign);
    has(&environment, "MAILSHOT_PROVIDER=google");
    has(&environment, "MAILSHOT_ACTION=warn");
    assert!(finished.stderr.contains("deferral rate"), "{}", finished.stderr);
    assert_eq!(recorded(&campaign), Vec::<String>::new());
}

#[test]
fn a_threshold_that_slows_halves_the_pace_of_its_provider() {
    let mail_hosts = hosts(vec![with_rules("google", &[SOME]), provider("yahoo")]);
    let campaign = watched(mail_hosts.port(), 500, "", "slow");
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(850, LONG);
    has(&called(&campaign), "MAILSHOT_ACTION=slow");
    drop(run);
    let seen = mail_hosts.end();
    let (google, yahoo) = (times(&seen, "google"), times(&seen, "yahoo"));
    let within = |times: &[u64], from: u64| {
        times.iter().filter(|at| (from..from + 1_000_000).contains(*at)).count()
    };
    // A quarter of an hour is a second and a half.
    let halved = google.iter().any(|from| {
        let (of_google, of_yahoo) = (within(&google, *from), within(&yahoo, *from));
        of_yahoo >= 50 && of_google * 100 <= of_yahoo * 65
    });
    assert!(halved, "google never went at half of yahoo's pace");
}
