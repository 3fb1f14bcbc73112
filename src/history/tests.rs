//! tests — runs that ended, were killed or are being written, with real ledgers in a directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::runs::Extent;
use super::*;
use crate::ledger::{Tail, Writer};
use crate::outcome::{Binding, Class, Kind, Outcome, Row, Session, Stage};
use crate::rates::Bucket;
use crate::rundir::RunDir;
use crate::units::{Tick, rate};

/// 2020-03-21T12:00:00Z: before any file of a test is written.
const NOON: Utc = Utc(1_584_792_000_000_000);
const RUNS: [&str; 3] =
    ["01KAJ3ZC9M0S5V8Q2T4W6X8Y01", "01KAJ3ZC9M0S5V8Q2T4W6X8Y02", "01KAJ3ZC9M0S5V8Q2T4W6X8Y03"];

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn hours(later: i64) -> Utc {
    Utc(NOON.0 + later * HOUR)
}

/// Row `row` was tried from source `source` at `provider`.
fn outcome(row: u32, time: Utc, source: u8, provider: &str, kind: Kind) -> Outcome<'_> {
    Outcome {
        stage: Stage::Dot,
        next_attempt: (kind == Kind::Deferred).then_some(time),
        session: Session { key: 1, source: Some(ip(source)), ..Session::default() },
        provider,
        limit: Binding::Rate,
        ..Outcome::unconnected((Row(row), 1), (kind, Class::None), (time, time), "")
    }
}

fn open(runs: &Path, campaign: &str, run: &str, file_bytes: u64) -> (RunDir, Writer) {
    let dir = RunDir::open(runs.join(campaign).join(run));
    std::fs::create_dir_all(dir.file("ledger")).unwrap();
    let tail = Tail::default();
    let writer = Writer::open_sized(&dir.file("ledger"), run, NOON, &tail, file_bytes).unwrap();
    (dir, writer)
}

/// Notes rows `rows` as delivered at `time` from source 1 at google.
fn deliver(writer: &mut Writer, rows: std::ops::Range<u32>, time: Utc) {
    for row in rows {
        writer.outcome(&outcome(row, time, 1, "google", Kind::Delivered));
    }
    writer.commit(time).unwrap();
}

/// Two runs that ended, of two campaigns, and one that was killed: 100 at 10:00, 50 at 11:00, 20 at
/// 11:30, and a few that another source sent to another provider yesterday.
fn three_runs(runs: &Path) {
    let (first, mut writer) = open(runs, "spring", RUNS[0], 1 << 16);
    for row in 0..5 {
        let kind = if row < 2 { Kind::Deferred } else { Kind::Delivered };
        writer.outcome(&outcome(1000 + row, hours(-26), 2, "yahoo", kind));
    }
    deliver(&mut writer, 1..101, hours(-2));
    writer.close(NOON).unwrap();
    let summary = of_ledger(&first.file("ledger"), RUNS[0]).unwrap();
    save(&first, &summary).unwrap();

    let (second, mut writer) = open(runs, "autumn", RUNS[1], 1 << 16);
    deliver(&mut writer, 1..51, hours(-1));
    writer.close(NOON).unwrap();
    save(&second, &of_ledger(&second.file("ledger"), RUNS[1]).unwrap()).unwrap();

    let (_, mut writer) = open(runs, "autumn", RUNS[2], 1 << 16);
    deliver(&mut writer, 1..21, Utc(NOON.0 - HOUR / 2));
    writer.started(Row(21), 1, NOON);
    writer.outcome(&outcome(22, NOON, 1, "google", Kind::Delivered));
    drop(writer);
}

fn ages(past: &Past, provider: &str, period_hours: u64) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    let period = Duration::from_secs(3600 * period_hours);
    for age in past.recent(ip(1), provider, NOON, period) {
        *counts.entry(age.as_secs() / 60).or_default() += 1;
    }
    counts
}

#[test]
fn all_runs_count_however_they_ended() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let past = read(dir.path(), hours(-48), "").unwrap();
    // What was sent from 11:00 to 12:00 counts as sent at 12:00.
    assert_eq!(ages(&past, "google", 24), BTreeMap::from([(60, 100), (0, 70)]));
    assert_eq!(ages(&past, "google", 1), BTreeMap::from([(60, 100), (0, 70)]));
    assert_eq!(past.recent(ip(1), "google", NOON, Duration::from_secs(60)).count(), 170 - 100);
    assert_eq!(ages(&past, "yahoo", 24), BTreeMap::new(), "from another source");
    let day = Duration::from_secs(86_400);
    assert_eq!(past.recent_total("yahoo", NOON, day).count(), 0);
    assert_eq!(past.recent_total("yahoo", NOON, 2 * day).count(), 5);
    assert_eq!(past.today(ip(1), "google", hours(0)), (170, 0));
    assert_eq!(past.today(ip(1), "google", Utc(NOON.0 - 1)), (170, 70));
    let tally = Tally { attempts: 5, delivered: 3, deferred: 2, ..Tally::default() };
    assert_eq!(past.days(ip(2), "yahoo"), [Day { day: NOON.day() - 1, tally }]);
    assert_eq!(past.days_total("google")[0].tally.attempts, 170);
    assert_eq!(past.idle_since(ip(1), "google"), Some(NOON));
    assert_eq!(past.idle_since(ip(2), "yahoo"), Some(hours(-25)));
    assert_eq!(past.idle_since(ip(2), "google"), None);
}

#[test]
fn neither_this_run_nor_what_is_too_old_counts() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let past = read(dir.path(), hours(-48), RUNS[1]).unwrap();
    assert_eq!(ages(&past, "google", 24), BTreeMap::from([(60, 100), (0, 20)]));
    let past = read(dir.path(), hours(-1), "").unwrap();
    assert_eq!(ages(&past, "google", 24), BTreeMap::from([(0, 70)]));
    assert_eq!(past.days(ip(2), "yahoo"), []);
    let nothing = read(&dir.path().join("elsewhere"), NOON, "").unwrap();
    assert_eq!(nothing, Past::default());
}

#[test]
fn with_and_without_the_kept_files_the_answer_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let kept = read(dir.path(), hours(-48), "").unwrap();
    for (campaign, run) in [("spring", RUNS[0]), ("autumn", RUNS[1])] {
        let file = dir.path().join(campaign).join(run).join("history.tsv");
        let text = std::fs::read_to_string(&file).unwrap();
        // Found, by a trace in it that the ledger has not.
        std::fs::write(&file, text.replace("google", "goggle")).unwrap();
        assert_ne!(read(dir.path(), hours(-48), "").unwrap(), kept, "it was read");
        std::fs::write(&file, &text[..text.len() - 3]).unwrap();
        assert_eq!(read(dir.path(), hours(-48), "").unwrap(), kept, "a broken file is no file");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read(dir.path(), hours(-48), "").unwrap(), kept);
    }
}

#[test]
fn a_run_that_went_on_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let run = RunDir::open(dir.path().join("spring").join(RUNS[0]));
    let ledger = run.file("ledger");
    let tail = crate::ledger::replay(&ledger, RUNS[0], &mut |_, _| {}).unwrap();
    let mut writer = Writer::open_sized(&ledger, RUNS[0], NOON, &tail, 1 << 16).unwrap();
    deliver(&mut writer, 200..207, NOON);
    let now = read(dir.path(), hours(-48), "").unwrap();
    assert_eq!(now.days(ip(1), "google")[0].tally.attempts, 177, "while it is being written");
    writer.close(NOON).unwrap();
    let now = read(dir.path(), hours(-48), "").unwrap();
    assert_eq!(now.days(ip(1), "google")[0].tally.attempts, 177);
    save(&run, &of_ledger(&ledger, RUNS[0]).unwrap()).unwrap();
    assert_eq!(read(dir.path(), hours(-48), "").unwrap(), now);
}

#[test]
fn a_ledger_is_read_while_another_process_writes_it() {
    const FRAMES: u32 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    // Small files, so that many begin and end while they are read.
    let (_, mut writer) = open(dir.path(), "spring", RUNS[0], 16 << 10);
    let done = AtomicBool::new(false);
    let attempts = |past: &Past| past.days(ip(1), "google").first().map_or(0, |d| d.tally.attempts);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for frame in 0..FRAMES {
                deliver(&mut writer, frame..frame + 1, NOON);
            }
            done.store(true, Ordering::Release);
        });
        let (mut last, mut over) = (0, false);
        while !over {
            over = done.load(Ordering::Acquire);
            let now = attempts(&read(dir.path(), hours(-1), "").unwrap());
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        assert_eq!(last, u64::from(FRAMES));
    });
    writer.close(NOON).unwrap();
    assert_eq!(attempts(&read(dir.path(), hours(-1), "").unwrap()), u64::from(FRAMES));
}

#[test]
fn a_run_that_cannot_be_read_is_named_and_one_from_long_ago_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let run = dir.path().join("autumn").join(RUNS[2]);
    let file = run.join("ledger/000001.log");
    let mut octets = std::fs::read(&file).unwrap();
    octets[50] ^= 1;
    std::fs::write(&file, octets).unwrap();
    let refused = read(dir.path(), hours(-48), "").unwrap_err();
    assert!(matches!(&refused, HistoryError::Ledger { run: found, .. } if *found == run));
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for entry in std::fs::read_dir(run.join("ledger")).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let past = read(dir.path(), hours(-48), "").unwrap();
    assert_eq!(past.days(ip(1), "google")[0].tally.attempts, 150);
}

#[test]
fn a_resumed_rate_knows_the_runs_before() {
    let dir = tempfile::tempdir().unwrap();
    three_runs(dir.path());
    let past = read(dir.path(), hours(-48), "").unwrap();
    let day = Duration::from_secs(86_400);
    let at = |limit: &str| {
        let ages = past.recent(ip(1), "google", NOON, day);
        Bucket::resumed(rate(limit).unwrap(), Tick(0), ages).next()
    };
    let hour = 3600 * 1_000_000_000;
    let next = at("50000/24h").0;
    assert_eq!(next / 1_000_000_000, 120, "70 of 50,000 may have been sent just now");
    // 170 messages take 17 hours of 240 a day, and the oldest 100 have taken one of them.
    let next = at("240/24h").0;
    assert!((15 * hour..=17 * hour).contains(&next), "{next}");
}

proptest! {
    #[test]
    fn what_is_kept_comes_back(
        seen in prop::collection::vec(
            (0_i64..50, 1_u8..4, "[a-z\\t\\nü]{0,4}", prop::sample::select(Kind::ALL)),
            0..60,
        ),
        (file, octets) in any::<(u32, u64)>(),
    ) {
        let (mut whole, mut halves) = (Summary::default(), [(); 2].map(|()| Summary::default()));
        for (n, (hour, source, provider, kind)) in seen.iter().enumerate() {
            let outcome = outcome(1, hours(-*hour), *source, provider, *kind);
            whole.see(&outcome);
            halves[n % 2].see(&outcome);
        }
        let extent = Extent { file, octets };
        let text = whole.encode(extent);
        prop_assert_eq!(Summary::decode(&text), Some((extent, whole.clone())));
        for length in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            prop_assert_eq!(Summary::decode(&text[..length]), None, "{}", length);
        }
        let [mut first, second] = halves;
        first.add(&second);
        prop_assert_eq!(first, whole);
    }

    #[test]
    fn any_text_is_a_summary_or_nothing(text: String) {
        prop_assert_eq!(Summary::decode(&text), None);
    }
}
