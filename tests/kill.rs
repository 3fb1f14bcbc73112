//! kill — a campaign whose process is killed again and again loses nothing and sends nothing twice.
//!
//! The witness is the sink. Whatever the process believed when it died, the sums of the last
//! process must agree with what arrived, row by row: in the ledger, in the Parquet files, in the
//! list of doubts.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use mailshot::outcome::{Kind, Stage};
use mailshot_sink::{Behaviour, Report};
use rustix::process::Signal;

use support::Deadline;
use support::campaign::{Attempt, Campaign, RUN};
use support::process::Process;
use support::tables::{self, Message};
use support::witness::{self, Witness};

/// The words of the resumed process for a message that the killed one had under way.
const DOUBT: &str = "the process ended before the reply to the message came";

/// SplitMix64 (Steele, Lea and Flood, 2014): the same moments for the same seed.
struct Random(u64);

impl Random {
    /// A number from 1 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1) + 1
    }
}

/// When the next kill strikes.
#[derive(Debug)]
enum Moment {
    /// As soon as the sink accepted so many more messages.
    Accepted(u64),
    /// This long after the start, whatever the process is doing.
    Late(Duration),
    /// As soon as the accounting files are begun: everything is sent, the books are not closed.
    Closing,
}

/// Runs the campaign, killed `kills` times at moments spread over its progress, then to its end;
/// the exit code of the end. A process that ends before its kill ends the sequence early.
fn run_killed(
    campaign: &Campaign,
    witness: &Witness,
    (rows, kills): (u64, u64),
    seed: u64,
) -> Option<i32> {
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    for left in (1..=kills).rev() {
        let begun_at = witness.accepted();
        // Every fifth kill is by time, so that starts and ends are hit as well.
        let moment = match left {
            1 => Moment::Closing,
            _ if left % 5 == 0 => Moment::Late(Duration::from_millis(random.up_to(400))),
            _ => {
                let share = rows.saturating_sub(begun_at) * 2 / (left + 1);
                Moment::Accepted(begun_at + random.up_to(share))
            }
        };
        let mut process = campaign.start();
        await_moment(campaign, witness, &mut process, &moment);
        if let Some(status) = process.ended() {
            let report = campaign.run_dir().join("report.json");
            assert!(report.exists(), "{status} before {moment:?}: {:?}", process.written());
            assert!(left <= kills / 10, "it ended with {left} of {kills} kills to come");
            return status.code();
        }
        process.signal(Signal::KILL);
        drop(process);
    }
    campaign.run().status.code()
}

/// Waits for the moment or the end of the process.
fn await_moment(campaign: &Campaign, witness: &Witness, process: &mut Process, moment: &Moment) {
    let books = campaign.path("accounting");
    let deadline = Deadline::after(match moment {
        Moment::Late(time) => *time,
        Moment::Accepted(_) | Moment::Closing => RUN,
    });
    while !deadline.passed() && process.ended().is_none() {
        let come = match moment {
            Moment::Accepted(count) => witness.accepted() >= *count,
            Moment::Closing => books.exists(),
            Moment::Late(_) => false,
        };
        if come {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let by_time = matches!(moment, Moment::Late(_));
    assert!(by_time || !deadline.passed(), "no progress: {:?}", process.written());
}

/// Checks everything that holds after any end: each row ended once, the same in ledger, Parquet
/// and report; nothing arrived that was not recorded. Returns the rows by their last outcome.
fn books_agree(campaign: &Campaign, report: &Report, rows: u32) -> BTreeMap<u32, Attempt> {
    let ends = campaign.ends();
    let of = |kind: Kind| -> BTreeSet<u32> {
        ends.values().filter(|end| end.kind == kind).map(|end| end.row).collect()
    };
    let (delivered, doubtful) = (of(Kind::Delivered), of(Kind::InDoubt));
    assert_eq!(ends.len(), rows as usize, "every row was tried");
    assert_eq!(delivered.len() + doubtful.len(), rows as usize, "every row ended as one of two");

    let arrived: BTreeSet<u32> = witness::arrived(report).into_iter().collect();
    assert_eq!(delivered.difference(&arrived).count(), 0, "what is delivered has arrived");
    let unrecorded: Vec<_> =
        arrived.iter().filter(|row| !delivered.contains(row) && !doubtful.contains(row)).collect();
    assert!(unrecorded.is_empty(), "arrived and neither delivered nor in doubt: {unrecorded:?}");
    let arrived_doubts = doubtful.intersection(&arrived).count();
    assert_eq!(arrived.len(), delivered.len() + arrived_doubts);

    for (sum, count) in [
        ("rows", rows as usize),
        ("delivered", delivered.len()),
        ("in_doubt", doubtful.len()),
        ("excluded", 0),
        ("bounced", 0),
        ("expired", 0),
        ("pending", 0),
    ] {
        assert_eq!(campaign.sum(sum), count as u64, "{sum}");
    }
    parquet_agrees(campaign, &ends);
    ends
}

/// The Parquet files hold what the ledger holds, and nothing else.
fn parquet_agrees(campaign: &Campaign, ends: &BTreeMap<u32, Attempt>) {
    let run = campaign.run_dir();
    let messages = tables::messages(campaign, &run);
    let expected: Vec<Message> = ends
        .values()
        .map(|end| Message {
            row: end.row,
            state: end.kind.word().to_owned(),
            reason: None,
            attempts: end.attempt.into(),
        })
        .collect();
    assert_eq!(messages.len(), expected.len());
    let different = messages.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(different, None, "messages (found, expected by the ledger)");
    let attempts = campaign.attempts().into_iter();
    let mut outcomes: Vec<_> =
        attempts.map(|end| (end.row, end.attempt, end.kind.word().to_owned())).collect();
    let mut events = tables::events(campaign, &run);
    outcomes.sort_unstable();
    events.sort_unstable();
    assert!(events == outcomes, "events are not the outcomes of the ledger");
}

#[test]
fn fifty_kills_lose_nothing_and_send_nothing_twice() {
    const ROWS: u32 = 20_000;
    // A millisecond a reply: some 5,000 messages a second, so that most kills hit a busy process.
    let slow = Behaviour { delay: Duration::from_millis(1), ..Behaviour::default() };
    let witness = Witness::start(slow, witness::keys());
    let campaign = Campaign::new(witness.port(), ROWS).delivery("on_doubt = \"hold\"");
    let exit = run_killed(&campaign, &witness, (ROWS.into(), 50), 1);
    let report = witness.end();
    let keys = report.keys.as_ref().expect("keys were looked at");
    assert_eq!((keys.duplicates, &keys.first_duplicates[..]), (0, &[][..]), "nothing came twice");

    let ends = books_agree(&campaign, &report, ROWS);
    let doubtful: Vec<&Attempt> = ends.values().filter(|end| end.kind == Kind::InDoubt).collect();
    assert!(!doubtful.is_empty(), "50 kills hit no message on its way: the test tests nothing");
    assert!(doubtful.iter().all(|end| end.stage == Stage::Dot && end.response == DOUBT));
    assert_eq!(exit, Some(5), "rows are in doubt");
    let listed = fs::read_to_string(campaign.run_dir().join("in_doubt.csv")).expect("a list");
    let mut listed: Vec<u32> =
        listed.lines().skip(1).map(|line| line.parse().expect("a row")).collect();
    listed.sort_unstable();
    assert_eq!(listed, doubtful.iter().map(|end| end.row).collect::<Vec<_>>());
    assert_eq!(campaign.runs().len(), 1, "all of it was one run");
}

#[test]
fn with_resend_everything_arrives_and_each_second_copy_is_on_record() {
    const ROWS: u32 = 3_000;
    let slow = Behaviour { delay: Duration::from_millis(1), ..Behaviour::default() };
    let witness = Witness::start(slow, witness::keys());
    // Eight connections, so that the sink names every duplicate: it names 100.
    let delivery = "on_doubt = \"resend\"\nconnections = 8";
    let campaign = Campaign::new(witness.port(), ROWS).delivery(delivery);
    let exit = run_killed(&campaign, &witness, (ROWS.into(), 10), 2);
    assert_eq!(exit, Some(0));
    let report = witness.end();
    let ends = books_agree(&campaign, &report, ROWS);
    assert!(ends.values().all(|end| end.kind == Kind::Delivered), "nothing is left in doubt");
    assert_eq!(witness::arrived(&report), (1..=ROWS).collect::<Vec<_>>());

    let resent: Vec<u32> = campaign
        .attempts()
        .into_iter()
        .filter(|end| end.kind == Kind::Deferred && end.response == DOUBT)
        .map(|end| end.row)
        .collect();
    assert!(!resent.is_empty(), "ten kills hit no message on its way: the test tests nothing");
    let keys = report.keys.as_ref().expect("keys were looked at");
    assert!(keys.duplicates <= resent.len() as u64, "{} > {}", keys.duplicates, resent.len());
    for key in &keys.first_duplicates {
        let (_, row) = key.rsplit_once('-').expect("a key has a row");
        let row: u32 = row.parse().expect("a row is a number");
        assert!(resent.contains(&row), "row {row} came twice and was never resent");
    }
    assert_eq!(keys.duplicates, keys.first_duplicates.len() as u64, "the sink named them all");
}
