//! A run in which everything waits: every row is put off for hours. What it takes while it waits,
//! and that a process that is killed and started again knows when each row is due.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use mailshot::outcome::Kind;
use mailshot_sink::Behaviour;
use rustix::process::Signal;
use serde_json::Value;

use support::campaign::Campaign;
use support::process::Process;
use support::wait_for;
use support::witness::{Witness, keys};

/// How long the first attempts of a million rows may take on a busy machine.
const LONG: Duration = Duration::from_secs(300);
/// How soon after its start a process must know what is due.
const RECOVERED: Duration = Duration::from_secs(10);
/// Over how long its CPU time is measured while it waits.
const WAIT: Duration = Duration::from_secs(10);

/// How far apart two readings of a clock at speed 200 may be that belong together, in microseconds.
const READ_APART: i64 = 1_000_000;

/// The status that this process has written.
fn status(campaign: &Campaign, run: &Process) -> Option<Value> {
    let text = fs::read_to_string(campaign.runs().pop()?.join("status.json")).ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    (status["pid"] == run.id()).then_some(status)
}

/// The status of a process whose only group waits for retries.
fn waiting(campaign: &Campaign, run: &Process) -> Option<Value> {
    status(campaign, run).filter(|status| status["providers"][0]["binding"] == "retry")
}

/// The CPU time of a process, in clock ticks (a hundredth of a second, proc_pid_stat(5)).
fn ticks(run: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", run.id())).expect("it runs");
    // The second field is the name in brackets; user and system time are the 14th and 15th.
    let after = stat.rsplit_once(") ").expect("a name in brackets").1;
    after.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// The largest resident set of a process, in MiB (`VmHWM`, proc_pid_status(5)).
fn peak_mib(run: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", run.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.split_whitespace().next().expect("a number").parse::<u64>().expect("a number") / 1024
}

/// What waiting costs: less than a fiftieth of a core, at most so much memory.
fn waits_for_nothing(run: &Process, mib: u64, when: &str) {
    let before = ticks(run);
    std::thread::sleep(WAIT);
    let spent = ticks(run) - before;
    let peak = peak_mib(run);
    eprintln!("{when}: {spent} ticks of CPU in {WAIT:?}, at most {peak} MiB");
    assert!(spent * 50 < 100 * WAIT.as_secs(), "{when}: {spent} ticks of CPU in {WAIT:?}");
    assert!(peak <= mib, "{when}: {peak} MiB");
}

/// When each row is due, by the ledger.
fn due(campaign: &Campaign) -> BTreeMap<u32, i64> {
    let due = |attempt: support::campaign::Attempt| {
        assert_eq!((attempt.kind, attempt.attempt), (Kind::Deferred, 1), "{attempt:?}");
        (attempt.row, attempt.next_attempt_us.expect("what is deferred is due"))
    };
    campaign.attempts().into_iter().map(due).collect()
}

fn everything_waits(rows: u32, mib: u64) {
    let rules = vec!["* = 451 4.7.1 Greylisted, please try again later".parse().expect("a rule")];
    let receiver = Witness::start(Behaviour { rules, ..Behaviour::default() }, keys());
    let retry = "connections = 64\nmessages_per_connection = 0\nretry = [\"1h\", \"12h\"]\n";
    let source = "[[source]]\naddress = \"127.0.31.1\"\n";
    let campaign = Campaign::new(receiver.port(), rows).delivery(retry).sections(source);
    let start = || Process::start(&mut campaign.command("run", &["--loopback-only"]));

    let run = start();
    wait_for("everything to wait", LONG, || {
        waiting(&campaign, &run).filter(|status| status["deferred_attempts"] == rows)
    });
    waits_for_nothing(&run, mib, "after the first attempts");
    run.signal(Signal::KILL);
    drop(run);
    let before = due(&campaign);
    assert_eq!(before.len(), rows as usize, "every row waits");
    let seen = receiver.seen();

    let run = start();
    let known = wait_for("what is due", RECOVERED, || waiting(&campaign, &run));
    assert_eq!((&known["to_settle"], &known["settled"]), (&rows.into(), &0.into()));
    waits_for_nothing(&run, mib, "after a restart");
    assert_eq!(receiver.seen().connections, seen.connections, "nothing was due");
    run.signal(Signal::TERM);
    assert_eq!(run.finish(LONG).status.code(), Some(143));

    // An hour in 18 seconds: nothing comes before its time, everything then.
    let run = campaign.start_at_speed(200);
    wait_for("the second attempts", LONG, || {
        status(&campaign, &run).filter(|status| status["deferred_attempts"] == rows)
    });
    run.signal(Signal::KILL);
    drop(run);
    let mut again = 0;
    for attempt in campaign.attempts().iter().filter(|attempt| attempt.attempt == 2) {
        let (began, due) = (attempt.time_us - attempt.took_us, before[&attempt.row]);
        assert!(began + READ_APART >= due, "{attempt:?} was due at {due}");
        again += 1;
    }
    assert_eq!(again, rows);
}

#[test]
fn twenty_thousand_wait_without_work() {
    everything_waits(20_000, 128);
}

/// By hand, with `cargo test --release --test deferred -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes in a build without optimisation"]
fn a_million_wait_without_work() {
    everything_waits(1_000_000, 512);
}
