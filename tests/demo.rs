//! demo — `mailshot demo` as a newcomer meets it: in an empty folder, twice, and interrupted.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process_group};
use serde_json::Value;
use support::process::{Finished, Process, mailshot, succeed};

/// How long a demo of few rows may take without optimisation on a busy machine.
const DEMO: Duration = Duration::from_secs(300);
/// How long DuckDB may take to start and answer.
const QUERY: Duration = Duration::from_secs(60);
/// The smallest demo that the tests can count on to be killed half-way.
const ROWS: &str = "2000";

/// The sentences of a proof, in their order, with `#` for every number.
const PROOF: [&str; 6] = [
    "✓ # dirty rows were written, the same excluded: # duplicate · # invalid_address · \
     # missing_address · # not_utf# · # unsafe_header · # field_count",
    "✓ each good row has one end: # = # delivered + # refused for good + # in doubt",
    "✓ each of the # delivered messages arrived",
    "in doubt",
    "✓ nothing else arrived and nothing twice: the receiver has # messages, # of them in doubt",
    "✓ no message is malformed, and # of # verified are signed well",
];

/// The demo in `home`, which is also where all that it could write elsewhere would go.
fn demo(home: &Path) -> Command {
    let mut command = mailshot();
    command.arg("demo").current_dir(home).env("HOME", home).env("TMPDIR", home);
    // A setting of the caller's that would begin a second run instead of resuming the first.
    command.env("MAILSHOT_NEW_RUN", "true");
    command
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The text with `#` for every number, whose groups of digits are separated by commas.
fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    let mut octets = text.chars().peekable();
    while let Some(octet) = octets.next() {
        if !octet.is_ascii_digit() {
            shown.push(octet);
            continue;
        }
        shown.push('#');
        while octets.next_if(|next| next.is_ascii_digit() || *next == ',').is_some() {}
    }
    shown
}

/// The numbers of a text.
fn numbers(text: &str) -> Vec<u64> {
    text.replace(',', "")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The lines of the demo's step with this number, without their indentation.
fn step(stdout: &str, number: u32) -> Vec<&str> {
    let head = format!("{number}  ");
    let lines = stdout.lines().skip_while(move |line| !line.starts_with(&head)).skip(1);
    lines.take_while(|line| !line.is_empty()).map(str::trim_start).collect()
}

#[test]
fn a_demo_proves_itself_and_leaves_one_directory() {
    let home = support::scratch();
    let Finished { status, stdout, stderr } =
        Process::start(demo(home.path()).args(["--rows", ROWS])).finish(DEMO);
    assert_eq!((status.code(), &*stderr), (Some(0), ""), "{stdout}");

    let proof = step(&stdout, 6);
    assert!(proof.len() > PROOF.len(), "{stdout}");
    for (line, expected) in proof.iter().zip(PROOF) {
        assert!(without_numbers(line).contains(expected), "{line}\nis not\n{expected}");
    }
    let [dirt, sum] = [numbers(proof[0]), numbers(proof[1])];
    assert_eq!(dirt[0] + sum[0], 2000, "{stdout}");
    assert_eq!(sum[0], sum[1] + sum[2] + sum[3], "{stdout}");
    assert!(sum[2] > 0, "unknown mailboxes are refused: {stdout}");
    let killed = step(&stdout, 4);
    assert_eq!(numbers(killed[0]), [sum[0] * 40 / 100], "{stdout}");

    assert_eq!(entries(home.path()), ["mailshot-demo"]);
    let project = home.path().join("mailshot-demo");
    let expected = [
        ".mailshot-demo",
        "accounting",
        "campaign.toml",
        "dns-records.txt",
        "keys",
        "queries",
        "recipients.csv",
        "runs",
        "template.html",
        "template.txt",
    ];
    assert_eq!(entries(&project), expected);
    for key in ["rsa2026.pem", "ed2026.pem"] {
        let mode = fs::metadata(project.join("keys").join(key)).expect("a key").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{key}");
    }
    assert_eq!(fs::read_dir(project.join("runs/spring-demo")).expect("runs").count(), 2);
    next_steps_work(&project);
    queries_answer(&project, &stdout, (&dirt, &sum));
}

/// The commands that the demo proposes do what it says.
fn next_steps_work(project: &Path) {
    let said = |words: &[&str]| {
        let finished = Process::start(mailshot().args(words).current_dir(project)).finish(QUERY);
        assert_eq!(finished.status.code(), Some(0), "{words:?}: {}", finished.stderr);
        finished
    };
    let message = said(&["render", "campaign.toml", "--row", "1"]).stdout;
    assert_eq!(message.matches("DKIM-Signature:").count(), 2, "{message}");
    let page = said(&["render", "campaign.toml", "--row", "1", "--form", "html"]).stdout;
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    let nothing = said(&["run", "campaign.toml"]).stderr;
    assert!(nothing.contains("has ended; nothing to do"), "{nothing}");
    let report = said(&["report", "campaign.toml"]).stdout;
    assert!(report.contains("reconciled   ✓ 2000 = "), "{report}");
}

/// The three queries agree with the proof: `dirt` and `sum` are the numbers of its first lines.
fn queries_answer(project: &Path, stdout: &str, (dirt, sum): (&[u64], &[u64])) {
    let Some(python) = support::python() else { return };
    let proposed: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("duckdb < ")?.split_whitespace().next())
        .collect();
    assert_eq!(proposed, ["queries/replies.sql", "queries/latency.sql", "queries/exclusions.sql"]);
    let ask = |file: &str| -> Vec<Vec<Value>> {
        const SCRIPT: &str = "import duckdb, json, sys\n\
            print(json.dumps(duckdb.sql(open(sys.argv[1]).read()).fetchall()))";
        let mut query = Command::new(&python);
        query.args(["-c", SCRIPT, file]).current_dir(project);
        serde_json::from_str(&succeed(&mut query, QUERY)).expect("rows in JSON")
    };
    let column = |rows: &[Vec<Value>], at: usize| -> Vec<u64> {
        rows.iter().map(|row| row[at].as_u64().expect("a count")).collect()
    };

    let replies = ask(proposed[0]);
    assert_eq!(column(&replies, 3).iter().sum::<u64>(), sum[2], "bounced: {replies:?}");
    let deferring: Vec<&Vec<Value>> = replies.iter().filter(|row| row[2] != 0).collect();
    assert_eq!(deferring.len(), 1, "{replies:?}");
    assert_eq!(deferring[0][0], "gmx.de.sink.test");
    assert_eq!(deferring[0][5], "Greylisted, try again later");

    let latency = ask(proposed[1]);
    assert_eq!(column(&latency, 0), [1, 2], "attempts: {latency:?}");
    assert_eq!(column(&latency, 1).iter().sum::<u64>(), sum[1], "delivered: {latency:?}");
    for row in &latency {
        let quantiles: Vec<u64> = column(std::slice::from_ref(row), 2);
        assert!(quantiles[0] <= row[5].as_u64().expect("a maximum"), "{row:?}");
    }
    assert!(column(&latency, 2)[1] >= 1000, "greylisted mail waits a second: {latency:?}");

    let exclusions = ask(proposed[2]);
    let words: Vec<&str> = exclusions.iter().filter_map(|row| row[0].as_str()).collect();
    let expected = ["duplicate", "invalid_address", "missing_address", "not_utf8", "unsafe_header"];
    assert_eq!(words[..5], expected);
    assert_eq!(column(&exclusions, 1).iter().sum::<u64>(), dirt[0], "{exclusions:?}");
}

#[test]
fn a_directory_with_other_files_is_refused() {
    let home = support::scratch();
    let mine = home.path().join("mailshot-demo");
    fs::create_dir(&mine).expect("a new folder");
    fs::write(mine.join("campaign.toml"), "mine").expect("written");
    let refused = Process::start(&mut demo(home.path())).finish(DEMO);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("holds files that no demo made"), "{}", refused.stderr);
    assert_eq!(entries(&mine), ["campaign.toml"]);
    assert_eq!(fs::read_to_string(mine.join("campaign.toml")).expect("still there"), "mine");
}

#[test]
fn an_interrupted_demo_leaves_no_sender_and_can_be_begun_again() {
    let home = support::scratch();
    let mut first = Process::start(demo(home.path()).args(["--rows", "50000"]));
    let group = i32::try_from(first.id()).ok().and_then(Pid::from_raw).expect("a process id");
    support::wait_for("the demo to send", DEMO, || {
        assert_eq!(first.ended(), None, "{:?}", first.written());
        first.written().0.contains("\n4  $ ").then_some(())
    });
    first.signal(Signal::TERM);
    let status = support::wait_for("the demo to end", DEMO, || first.ended());
    assert_eq!(status.code(), Some(143), "{:?}", first.written());
    assert!(test_kill_process_group(group).is_err(), "the sender outlived the demo");
    let again = Process::start(demo(home.path()).args(["--rows", ROWS])).finish(DEMO);
    assert_eq!(again.status.code(), Some(0), "{}{}", again.stdout, again.stderr);
}
