//! tests of control — what is written is read, whole lines only, from several writers.

use std::net::IpAddr;
use std::process::Command as Process;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Names the directory to append to, for a process that this test started.
const APPEND_TO: &str = "MAILSHOT_TEST_APPEND_TO";
/// Orders of each writer.
const ORDERS: u32 = 200;

pub(super) fn entry(command: Command) -> Entry {
    Entry { time: Utc(1_795_284_252_000_001), by: By::Operator, command, why: String::new() }
}

pub(super) fn scope() -> impl Strategy<Value = Scope> {
    let provider = prop_oneof![Just("google".to_owned()), Just("mx.example.com".to_owned())];
    let source = prop_oneof![
        Just(IpAddr::from([192, 0, 2, 1])),
        Just(IpAddr::from([192, 0, 2, 2])),
        Just(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
    ];
    prop_oneof![
        Just(Scope::All),
        provider.clone().prop_map(Scope::Provider),
        source.clone().prop_map(Scope::Source),
        (provider, source).prop_map(|(provider, source)| Scope::Lane(provider, source)),
    ]
}

fn rate() -> impl Strategy<Value = Option<Rate>> {
    let period = prop_oneof![Just(1000), Just(60_000), Just(3_600_000), 1000..10_000_000_000_u64];
    prop::option::of(
        (1..=u32::MAX, period).prop_map(|(messages, millis)| Rate {
            messages,
            period: Duration::from_millis(millis),
        }),
    )
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let single = prop_oneof![
        rate().prop_map(Setting::Rate),
        (1..=CONNECTIONS_MAX).prop_map(Setting::Connections),
        prop::option::of(1..=u32::MAX).prop_map(Setting::MessagesPerConnection),
    ];
    let total = prop_oneof![
        rate().prop_map(Setting::RateTotal),
        prop::option::of(1..=CONNECTIONS_MAX).prop_map(Setting::ConnectionsTotal),
    ];
    let sourceless = scope().prop_filter("sums have no source", |scope| scope.source().is_none());
    prop_oneof![
        (scope(), single).prop_map(|(scope, what)| Command::Set { scope, what }),
        (sourceless, total).prop_map(|(scope, what)| Command::Set { scope, what }),
        scope().prop_map(Command::Pause),
        scope().prop_map(Command::Resume),
        scope().prop_map(Command::Halt),
        Just(Command::Cancel),
    ]
}

fn run_dir() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = RunDir::open(folder.path().to_owned());
    (folder, dir)
}

/// An order that says its number.
fn numbered(writer: &str, number: u32) -> Entry {
    Entry { why: format!("{writer} {number}"), ..entry(Command::Pause(Scope::All)) }
}

#[test]
fn settings_are_read_from_a_command_line() {
    for (text, key, value) in [
        ("rate.google=1000/h", "rate", "1000/h"),
        ("rate.google@192.0.2.1=500/h", "rate", "500/h"),
        ("rate_total.mx.example.com = none", "rate_total", "none"),
        ("connections.all=50", "connections", "50"),
        ("connections_total.all=none", "connections_total", "none"),
        ("messages_per_connection.2001:db8::1=7", "messages_per_connection", "7"),
        ("rate.all=10/61001ms", "rate", "10/61001ms"),
    ] {
        let Ok(Command::Set { what, .. }) = parse_setting(text) else { panic!("{text}") };
        assert_eq!((what.key(), &*what.value()), (key, value), "{text}");
    }
    for (text, why) in [
        ("rate", "sets nothing"),
        ("rate=1000/h", "sets nothing"),
        ("rate.google", "sets nothing"),
        ("rate.google=", "is not a rate"),
        ("rate.google=0/h", "allows no message"),
        ("rate.=1/h", "is not a scope"),
        ("speed.google=1/h", "cannot be set; there are rate, rate_total"),
        ("connections.all=0", "write 1 to 10000"),
        ("connections.all=none", "write 1 to 10000"),
        ("connections_total.all=10001", "write 1 to 10000, or \"none\""),
        ("rate_total.google@192.0.2.1=1/h", "over all sources"),
    ] {
        let found = parse_setting(text).expect_err(text);
        assert!(found.contains(why), "{text}: {found}");
    }
}

#[test]
fn a_line_is_readable_by_others() {
    let order = Entry {
        why: "4.7.28 \"slow\"\n".to_owned(),
        by: By::Verdict,
        ..entry(parse_setting("rate.google@192.0.2.1=500/h").expect("a setting"))
    };
    assert_eq!(
        order.to_line(),
        concat!(
            r#"{"time":"2026-11-21T18:04:12Z","time_us":1795284252000001,"by":"verdict","#,
            r#""do":"set","scope":"google@192.0.2.1","key":"rate","value":"500/h","#,
            r#""why":"4.7.28 \"slow\"\n"}"#,
            "\n"
        )
    );
    assert_eq!(
        entry(Command::Cancel).to_line(),
        concat!(
            r#"{"time":"2026-11-21T18:04:12Z","time_us":1795284252000001,"by":"operator","#,
            r#""do":"cancel","scope":"all","why":""}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_recorded_is_followed() {
    let (_folder, dir) = run_dir();
    let mut follow = Follow::open(&dir);
    assert_eq!(follow.next().expect("no file yet"), []);
    append(&dir, &numbered("a", 1)).expect("written");
    append(&dir, &numbered("a", 2)).expect("written");
    assert_eq!(follow.next().expect("good"), [numbered("a", 1), numbered("a", 2)]);
    assert_eq!(follow.next().expect("good"), []);
    append(&dir, &numbered("a", 3)).expect("written");
    assert_eq!(follow.next().expect("good"), [numbered("a", 3)]);
    std::fs::remove_file(dir.file(NAME)).expect("it was there");
    assert!(matches!(follow.next(), Err(RunDirError::Io { .. })));
    std::fs::write(dir.file(NAME), numbered("a", 1).to_line()).expect("writable");
    let found = follow.next().expect_err("it is shorter").to_string();
    assert!(found.ends_with("control.jsonl:4: lines that were read are gone"), "{found}");
}

#[test]
fn a_torn_line_waits_and_is_cut_off_by_the_next_writer() {
    let (_folder, dir) = run_dir();
    let (first, second) = (numbered("a", 1).to_line(), numbered("a", 2).to_line());
    let mut follow = Follow::open(&dir);
    for torn in 1..second.len() {
        let text = [first.as_bytes(), &second.as_bytes()[..torn]].concat();
        std::fs::write(dir.file(NAME), text).expect("writable");
        let expected = if torn == 1 { vec![numbered("a", 1)] } else { vec![] };
        assert_eq!(follow.next().expect("the torn line is not read"), expected);
    }
    append(&dir, &numbered("a", 3)).expect("written");
    assert_eq!(follow.next().expect("good"), [numbered("a", 3)]);
    let whole = [first, numbered("a", 3).to_line()].concat();
    assert_eq!(std::fs::read_to_string(dir.file(NAME)).expect("readable"), whole);
}

#[test]
fn a_bad_line_is_an_error_with_its_number_after_the_good_ones() {
    let (_folder, dir) = run_dir();
    let good = numbered("a", 1).to_line();
    for (bad, why) in [
        ("hello\n".to_owned(), "expected value"),
        ("\n".to_owned(), "EOF"),
        (good.replace("pause", "stop"), "\"stop\" with this scope"),
        (good.replace("pause", "set"), "\"set\" with this scope"),
        (good.replace("all", "a b"), "not a scope"),
        (good.replace("\"scope\":\"all\"", "\"scope\":\"x\"").replace("pause", "cancel"), "cancel"),
        (good.replace("operator", "nobody"), "unknown variant"),
        (good.replace("why", "reason"), "unknown field"),
    ] {
        std::fs::write(dir.file(NAME), format!("{good}{bad}{good}")).expect("writable");
        let mut follow = Follow::open(&dir);
        assert_eq!(follow.next().expect("the good one first"), [numbered("a", 1)]);
        for _ in 0..2 {
            let found = follow.next().expect_err("the bad one").to_string();
            assert!(found.contains("control.jsonl:2: ") && found.contains(why), "{found}");
        }
    }
}

#[test]
fn processes_that_append_at_once_lose_no_line() {
    let append_all = |dir: &RunDir, writer: &str| {
        for number in 0..ORDERS {
            append(dir, &numbered(writer, number)).expect("written");
        }
    };
    if let Some(path) = std::env::var_os(APPEND_TO) {
        return append_all(&RunDir::open(path.into()), "child");
    }
    let (_folder, dir) = run_dir();
    let this = std::env::current_exe().expect("a test is a file");
    let name = "rundir::control::tests::processes_that_append_at_once_lose_no_line";
    let mut child = Process::new(this);
    child.args(["--exact", name]).env(APPEND_TO, dir.path()).stdout(std::process::Stdio::null());
    let mut child = child.spawn().expect("it runs");
    append_all(&dir, "parent");
    assert!(child.wait().expect("our child").success());
    let found = Follow::open(&dir).next().expect("every line is whole");
    for writer in ["parent", "child"] {
        let theirs: Vec<&Entry> =
            found.iter().filter(|entry| entry.why.starts_with(writer)).collect();
        let expected: Vec<Entry> = (0..ORDERS).map(|number| numbered(writer, number)).collect();
        assert_eq!(theirs, expected.iter().collect::<Vec<_>>(), "{writer}");
    }
}

proptest! {
    #[test]
    fn an_entry_comes_back_from_its_line(
        micros in any::<i64>(), command in command(), why in any::<String>(),
        by in prop_oneof![Just(By::Operator), Just(By::Verdict), Just(By::Threshold)],
    ) {
        let entry = Entry { time: Utc(micros), by, command, why };
        let line = entry.to_line();
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(Entry::of_line(line.trim_end_matches('\n').as_bytes()), Ok(entry));
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Ok(scope) = parse_scope(&text) {
            prop_assert_eq!(parse_scope(&scope.to_string()), Ok(scope));
        }
        if let Ok(Command::Set { scope, what }) = parse_setting(&text) {
            let again = format!("{}.{scope}={}", what.key(), what.value());
            prop_assert_eq!(parse_setting(&again), Ok(Command::Set { scope, what }));
        }
    }
}
