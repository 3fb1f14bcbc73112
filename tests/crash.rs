//! crash — what is left of ledger and spool after power loss, bit rot, `kill -9` and a full disk.
//!
//! Images of a ledger are damaged in every way that a disk can think of, and a naive model says
//! what replay must answer: it knows the format of docs/formats.md and nothing of the code. The
//! tests that need a process to die or to hit a limit run this binary again as their child.

#![expect(clippy::unwrap_used, reason = "the functions that the tests share are tests too")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use mailshot::ledger::{
    At, Book, Counts, Damage, FileNumber, LedgerError, Record, Shelf, Standing, Tail, Volume,
    Writer, recover, replay,
};
use mailshot::outcome::{Binding, Class, Enhanced, Kind, Outcome, Row, Session, Stage};
use mailshot::spool::{self, SpoolError};
use mailshot::units::Utc;
use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};

const RUN: &str = "01JD8Z6Q4ZK9WX0000000000";
const NOON: Utc = Utc(1_795_262_400_000_000);

fn outcome(row: u32, attempt: u16, kind: Kind, response: &str) -> Outcome<'_> {
    let ended = NOON.after(Duration::from_millis(row.into()));
    Outcome {
        row: Row(row),
        attempt,
        kind,
        stage: Stage::Dot,
        class: if kind == Kind::Delivered { Class::None } else { Class::Greylisted },
        time: ended,
        spooled: NOON,
        first_attempt: NOON,
        next_attempt: (kind == Kind::Deferred).then(|| ended.after(Duration::from_secs(900))),
        smtp_code: 250,
        enhanced: Some(Enhanced(2, 0, 0)),
        session: Session {
            key: 3,
            message_index: row,
            remote: Some(IpAddr::from([192, 0, 2, 7])),
            source: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7])),
            connect: Duration::from_millis(20),
        },
        took: Duration::from_millis(130),
        waited: Duration::from_secs(4),
        data: Duration::from_millis(90),
        size: 11_264,
        host: "mx1.example.net",
        provider: "example",
        rule: if kind == Kind::Delivered { "" } else { "greylist" },
        limit: Binding::Rate,
        response,
    }
}

/// All that replay says, in words.
fn facts(dir: &Path) -> Result<(Vec<String>, Tail), LedgerError> {
    let mut facts = Vec::new();
    let tail = replay(dir, RUN, &mut |_, record| facts.push(format!("{record:?}")))?;
    Ok((facts, tail))
}

// ---- Images -------------------------------------------------------------------------------------

/// A frame as docs/formats.md draws it.
#[derive(Clone, Debug)]
struct Frame {
    file: usize,
    octets: Range<usize>,
    sequence: u64,
    synced: u64,
    facts: Vec<String>,
}

/// The ledger that a crash left: the files' octets, and what was in them.
#[derive(Clone, Debug)]
struct Image {
    files: Vec<Vec<u8>>,
    frames: Vec<Frame>,
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(octets[at..at + 8].try_into().unwrap())
}

/// One history in files of 8, 16 and 64 KiB; making them costs syncs, so they are made once.
static IMAGES: LazyLock<[Image; 3]> =
    LazyLock::new(|| [8, 16, 64].map(|kib| Image::of_history(10, kib << 10)));

impl Image {
    /// Commits `frames` frames of very different sizes and falls. Frames are made to claim that
    /// every third one was followed by a sync.
    fn of_history(frames: u32, file_bytes: u64) -> Image {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::default();
        let mut writer = Writer::open_sized(dir.path(), RUN, NOON, &tail, file_bytes).unwrap();
        let long = "x".repeat(512);
        let mut said = Vec::new();
        for frame in 1..=frames {
            let mut facts = Vec::new();
            for row in frame * 100..frame * 100 + [1, 1, 9, 2, 14][frame as usize % 5] {
                let ended = outcome(row, 1, Kind::Delivered, if row % 2 == 0 { &long } else { "" });
                writer.started(Row(row), 1, NOON);
                writer.outcome(&ended);
                let started = Record::Started { row: Row(row), attempt: 1, time: NOON };
                facts.extend([format!("{started:?}"), format!("{:?}", Record::Outcome(ended))]);
            }
            writer.commit(NOON).unwrap();
            said.push(facts);
        }
        let last = writer.file().0;
        drop(writer);
        Image::read(dir.path(), last, said)
    }

    fn read(dir: &Path, last: u32, said: Vec<Vec<String>>) -> Image {
        let files: Vec<_> =
            (1..=last).map(|n| fs::read(FileNumber(n).path(dir)).unwrap()).collect();
        let mut image = Image { files, frames: Vec::new() };
        for file in 0..image.files.len() {
            let mut at = 128;
            while image.files[file].get(at) == Some(&0xFF) {
                let length = &image.files[file][at + 8..at + 12];
                let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                let octets = at..at + length;
                at += length;
                let sequence = u64_at(&image.files[file], octets.start + 16);
                let facts = said[image.frames.len()].clone();
                let synced = (sequence - 1) / 3 * 3;
                image.claim(file, octets.clone(), synced);
                image.frames.push(Frame { file, octets, sequence, synced, facts });
            }
        }
        assert_eq!(image.frames.len(), said.len());
        image
    }

    /// Makes the frame say that all up to `synced` was on disk when it was written.
    fn claim(&mut self, file: usize, octets: Range<usize>, synced: u64) {
        let frame = &mut self.files[file][octets];
        frame[24..32].copy_from_slice(&synced.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&frame[8..]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    fn write(&self, dir: &Path) {
        for (number, octets) in (1..).zip(&self.files) {
            fs::write(FileNumber(number).path(dir), octets).unwrap();
        }
    }

    /// What replay has to say of `damaged`, a damaged copy of this image: the facts of all frames
    /// that are as they were, or none when a frame that should be durable is not.
    fn expected(&self, damaged: &Image) -> Option<Vec<String>> {
        let whole = |frame: &&Frame| {
            let octets = frame.octets.clone();
            self.files[frame.file][octets.clone()] == damaged.files[frame.file][octets]
        };
        let left: Vec<_> = self.frames.iter().filter(whole).collect();
        let lost = |sequence| left.iter().all(|frame| frame.sequence != sequence);
        let refused = left
            .iter()
            .any(|frame| (1..frame.sequence).any(|gone| lost(gone) && gone <= frame.synced));
        (!refused).then(|| left.into_iter().flat_map(|frame| frame.facts.clone()).collect())
    }

    /// Replays `damaged` and compares; then goes on with a new start, which must not be in the way
    /// of a third.
    fn check(&self, damaged: &Image) {
        let dir = tempfile::tempdir().unwrap();
        damaged.write(dir.path());
        match (self.expected(damaged), facts(dir.path())) {
            (Some(mut expected), Ok((found, tail))) => {
                assert_eq!(found, expected);
                let mut writer = Writer::open_sized(dir.path(), RUN, NOON, &tail, 8192).unwrap();
                writer.note(NOON, "resumed");
                writer.commit(NOON).unwrap();
                writer.close(NOON).unwrap();
                let (again, tail) = facts(dir.path()).unwrap();
                expected.push(format!("{:?}", Record::Note { time: NOON, text: "resumed" }));
                assert_eq!(again, expected);
                assert_eq!(tail.torn, None);
            }
            (None, Err(LedgerError::Damaged { damage, .. })) => {
                assert!(matches!(damage, Damage::Durable { .. }), "{damage}");
            }
            (expected, found) => panic!("expected {expected:?}, found {found:?}"),
        }
    }

    fn cut(&self, file: usize, at: usize) -> Image {
        let mut damaged = self.clone();
        damaged.files[file][at..].fill(0);
        for later in &mut damaged.files[file + 1..] {
            later[128..].fill(0);
        }
        damaged
    }
}

#[test]
fn an_unharmed_image_is_read_whole() {
    let image = Image::of_history(12, 16 << 10);
    assert!(image.files.len() > 2, "the history fills several files");
    assert!(image.frames.iter().any(|frame| frame.octets.len() > 4096), "and spans pages");
    image.check(&image);
    let dir = tempfile::tempdir().unwrap();
    image.write(dir.path());
    assert_eq!(facts(dir.path()).unwrap().1.torn, None);
}

#[test]
fn a_write_that_stopped_anywhere_leaves_a_prefix() {
    let image = Image::of_history(7, 64 << 10);
    for frame in &image.frames {
        let Range { start, end } = frame.octets;
        let inside = [start + 1, start + 8, start + 39, start + 41, (start + end) / 2, end - 9];
        for at in [start, end].into_iter().chain(inside) {
            let damaged = image.cut(frame.file, at);
            assert!(image.expected(&damaged).is_some(), "a cut is never damage");
            image.check(&damaged);
        }
    }
}

#[test]
fn the_tail_says_what_is_torn() {
    let image = Image::of_history(9, 64 << 10);
    let mut damaged = image.clone();
    let torn = image.frames[7].octets.clone();
    damaged.files[0][torn.start..torn.start + 64].fill(0);
    let dir = tempfile::tempdir().unwrap();
    damaged.write(dir.path());
    let tail = facts(dir.path()).unwrap().1;
    assert_eq!((tail.last_sequence, tail.lost), (9, 1));
    let torn_at = tail.torn.map(|it| (it.at.position.0 as usize, it.lost, it.salvaged));
    assert_eq!(torn_at, Some((torn.start, 1, 1)));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn zeroed_sectors_and_flipped_bits_are_salvaged_or_refused(
        size in 0_usize..3,
        zeroed in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40), 0..3),
        flipped in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let image = &IMAGES[size];
        let mut damaged = image.clone();
        for (file, sector) in zeroed {
            let octets = damaged.files.get_mut(file.index(image.files.len())).unwrap();
            let start = (sector * 512).max(128).min(octets.len());
            let end = ((sector + 1) * 512).min(octets.len()).max(start);
            octets[start..end].fill(0);
        }
        for at in flipped {
            let frame = &image.frames[at.index(image.frames.len())];
            let bit = at.index(frame.octets.len() * 8);
            damaged.files[frame.file][frame.octets.start + bit / 8] ^= 1 << (bit % 8);
        }
        image.check(&damaged);
    }

    #[test]
    fn a_power_loss_never_looks_like_damage(
        fallen in 1_usize..10,
        lost_sectors in prop::collection::vec(any::<bool>(), 128),
    ) {
        let [.., image] = &*IMAGES;
        let fallen_at = image.frames[fallen].octets.end;
        let mut damaged = image.cut(0, fallen_at);
        let synced = image.frames[fallen].synced;
        let durable = image.frames.iter().find(|frame| frame.sequence == synced);
        let from = durable.map_or(128, |frame| frame.octets.end);
        for (sector, _) in lost_sectors.iter().enumerate().filter(|(_, lost)| **lost) {
            let start = (sector * 512).max(from);
            damaged.files[0][start..((sector + 1) * 512).max(start)].fill(0);
        }
        prop_assert!(image.expected(&damaged).is_some());
        image.check(&damaged);
    }
}

/// Two starts of a run, the first of which was killed.
fn two_starts(dir: &Path) -> Image {
    let image = Image::of_history(5, 64 << 10);
    image.write(dir);
    let tail = facts(dir).unwrap().1;
    let mut writer = Writer::open_sized(dir, RUN, NOON, &tail, 8192).unwrap();
    writer.note(NOON, "resumed");
    writer.commit(NOON).unwrap();
    drop(writer);
    image
}

#[test]
fn what_a_later_start_has_read_is_never_torn() {
    let dir = tempfile::tempdir().unwrap();
    let image = two_starts(dir.path());
    facts(dir.path()).unwrap();
    let first = FileNumber(1).path(dir.path());
    for frame in &image.frames {
        let mut octets = fs::read(&first).unwrap();
        octets[frame.octets.start + 20] ^= 1;
        fs::write(&first, &octets).unwrap();
        let refused = facts(dir.path()).unwrap_err();
        let damaged = matches!(refused, LedgerError::Damaged { .. });
        assert!(damaged, "frame {}: {refused:?}", frame.sequence);
        octets[frame.octets.start + 20] ^= 1;
        fs::write(&first, &octets).unwrap();
    }
}

#[test]
fn files_that_are_gone_foreign_or_of_another_version_are_named() {
    let dir = tempfile::tempdir().unwrap();
    two_starts(dir.path());
    let first = FileNumber(1).path(dir.path());
    let octets = fs::read(&first).unwrap();
    let patched = |at: usize, octet: u8| {
        let mut header = octets.clone();
        header[at] = octet;
        let checksum = crc_fast::crc32_iscsi(&header[..124]);
        header[124..128].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&first, header).unwrap();
        facts(dir.path()).unwrap_err()
    };
    for found in [1, 3] {
        let other = patched(8, found).to_string();
        let expected = format!("000001.log has ledger format {found}, this program reads 2;");
        assert!(other.contains(&expected), "{other}");
    }
    let renamed = patched(12, 9);
    assert!(matches!(renamed, LedgerError::Damaged { damage: Damage::Header, .. }), "{renamed:?}");
    let foreign = patched(48, b'Z');
    assert!(matches!(&foreign, LedgerError::OtherRun { found, .. } if found.starts_with('Z')));
    assert!(foreign.to_string().contains("000001.log belongs to run"), "{foreign}");

    let mut unreadable = octets.clone();
    unreadable[50] ^= 1;
    fs::write(&first, unreadable).unwrap();
    let unreadable = facts(dir.path()).unwrap_err();
    assert!(matches!(unreadable, LedgerError::Damaged { offset: 0, damage: Damage::Header, .. }));

    fs::remove_file(&first).unwrap();
    let gone = facts(dir.path()).unwrap_err();
    assert!(matches!(&gone, LedgerError::Missing { path } if *path == first), "{gone:?}");
}

#[test]
fn accounting_finds_each_outcome_where_the_book_says() {
    let dir = tempfile::tempdir().unwrap();
    let image = two_starts(dir.path());
    let (book, tail) = recover(dir.path(), RUN, 1000).unwrap();
    let rows = image.frames.iter().map(|frame| frame.facts.len() / 2).sum::<usize>() as u32;
    assert_eq!(
        book.counts(),
        Counts { delivered: rows, pending: 1000 - rows, ..Counts::default() }
    );
    let volume = Volume::open(dir.path(), RUN, FileNumber(1)).unwrap();
    assert_eq!(volume.day(), Some(NOON.day()));
    let mut seen = 0;
    for record in volume.records() {
        let (position, record) = record.unwrap();
        let Record::Outcome(outcome) = record else { continue };
        let at = At { file: FileNumber(1), position };
        assert_eq!(book.last(outcome.row), Some(at));
        assert_eq!(volume.outcome_at(position).unwrap(), outcome);
        assert_eq!(Shelf::new(dir.path()).read(at).unwrap().outcome(), outcome);
        seen += 1;
    }
    assert_eq!(seen, rows);
    assert_eq!(tail.last_file, FileNumber(3), "one of the first start, one and a spare");
    let nothing = Shelf::new(dir.path()).read(At::default()).unwrap_err();
    assert!(matches!(nothing, LedgerError::Io { .. }), "{nothing:?}");
}

#[test]
fn contradicting_records_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open_sized(dir.path(), RUN, NOON, &Tail::default(), 8192).unwrap();
    writer.outcome(&outcome(1, 1, Kind::Delivered, ""));
    writer.outcome(&outcome(1, 1, Kind::Delivered, ""));
    writer.commit(NOON).unwrap();
    writer.close(NOON).unwrap();
    let twice = recover(dir.path(), RUN, 1).unwrap_err();
    assert!(twice.to_string().starts_with("the record at 000001.log:"), "{twice}");
    let cause = std::error::Error::source(&twice).unwrap().to_string();
    let expected = "row 1: attempt 1 delivered, although it stood at Final(Delivered)";
    assert_eq!(cause, expected);
}

// ---- The book -----------------------------------------------------------------------------------

/// A row's history, and nothing else.
#[derive(Clone, Debug, Default)]
struct Naive {
    /// Attempts and kinds, a start without kind.
    steps: Vec<(u16, Option<Kind>)>,
}

impl Naive {
    /// Whether `step` may follow, said as rules over the whole history.
    fn allows(&self, (attempt, kind): (u16, Option<Kind>)) -> bool {
        let over = self.steps.iter().any(|(_, kind)| kind.is_some_and(Kind::is_final));
        let highest = self.steps.iter().map(|(attempt, _)| *attempt).max().unwrap_or(0);
        let open = self.steps.last().is_some_and(|(_, kind)| kind.is_none());
        let same_attempt = attempt == highest
            && highest > 0
            && match kind {
                None => false,
                Some(Kind::Expired) => true,
                Some(_) => open,
            };
        !over && attempt > 0 && (attempt > highest || same_attempt)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_book_agrees_with_a_naive_one(
        steps in prop::collection::vec(
            (1_u32..5, 0_u16..5, prop::option::of(prop::sample::select(Kind::ALL))),
            0..40,
        ),
    ) {
        let mut book = Book::new(4);
        let mut naive: HashMap<u32, Naive> = HashMap::new();
        for (row, attempt, kind) in steps {
            let record = match kind {
                None => Record::Started { row: Row(row), attempt, time: NOON },
                Some(kind) => Record::Outcome(outcome(row, attempt, kind, "")),
            };
            let history = naive.entry(row).or_default();
            let allowed = history.allows((attempt, kind));
            prop_assert_eq!(book.apply(At::default(), &record).is_ok(), allowed, "{:?}", history);
            if allowed {
                history.steps.push((attempt, kind));
            }
        }
        let mut open = Vec::new();
        for row in 1..=4 {
            let last = naive.get(&row).and_then(|history| history.steps.last());
            let ended = NOON.after(Duration::from_millis(row.into()));
            let until = ended.after(Duration::from_secs(900));
            let expected = match last {
                None => Standing::Pending,
                Some((attempt, None)) => {
                    open.push(Row(row));
                    Standing::InFlight { attempt: *attempt, first_attempt: NOON }
                }
                Some((attempt, Some(Kind::Deferred))) => {
                    Standing::Waiting { attempt: *attempt, until, first_attempt: NOON }
                }
                Some((_, Some(kind))) => Standing::Final(*kind),
            };
            prop_assert_eq!(book.standing(Row(row)), expected);
        }
        prop_assert_eq!(book.in_flight().collect::<Vec<_>>(), open);
        let Counts { pending, in_flight, waiting, delivered, .. } = book.counts();
        let Counts { bounced, expired, in_doubt, failed, cancelled, .. } = book.counts();
        let open_sum = pending + in_flight + waiting;
        let final_sum = delivered + bounced + expired + in_doubt + failed + cancelled;
        prop_assert_eq!(open_sum + final_sum, 4);
    }
}

// ---- Children -----------------------------------------------------------------------------------

const ROLE: &str = "MAILSHOT_CRASH_ROLE";
const DIR: &str = "MAILSHOT_CRASH_DIR";

/// Not a test of its own: what this binary does as a child.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::env::var(DIR).unwrap();
    let dir = Path::new(&dir);
    match role.as_str() {
        "commit until killed" => commit_until_killed(dir),
        "small spool" => spool_beyond_the_limit(dir),
        "small ledger" => ledger_beyond_the_limit(dir),
        "full disk" => fill_the_disk(dir),
        other => panic!("no such role: {other}"),
    }
}

/// `wrapper` is a program and its arguments that ends by running the rest of its command line.
fn spawn(wrapper: &[&str], role: &str, dir: &Path) -> Child {
    let this = std::env::current_exe().unwrap();
    let line = wrapper.iter().map(Into::into).chain([this.into_os_string()]);
    let line: Vec<_> = line.chain(["--exact", "child", "--nocapture"].map(Into::into)).collect();
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).env(ROLE, role).env(DIR, dir).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn run(wrapper: &[&str], role: &str, dir: &Path) {
    let output = spawn(wrapper, role, dir).wait_with_output().unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stdout));
}

fn commit_until_killed(dir: &Path) {
    let (book, tail) = recover(dir, RUN, 10_000_000).unwrap();
    let done = book.counts().delivered;
    let mut writer = Writer::open_sized(dir, RUN, NOON, &tail, 32 << 10).unwrap();
    let mut stdout = std::io::stdout().lock();
    for row in done + 1.. {
        writer.started(Row(row), 1, NOON);
        writer.outcome(&outcome(row, 1, Kind::Delivered, &"x".repeat(row as usize % 512)));
        writer.commit(NOON).unwrap();
        writeln!(stdout, "committed {row}").unwrap();
    }
}

#[test]
fn what_was_committed_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for lines in [1, 2, 150, 151, 700, 40, 1000, 3] {
        let mut child = spawn(&[], "commit until killed", dir.path());
        let mut committed = before;
        let mut lines_left = i64::from(lines);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((_, row)) = line.split_once("committed ") else { continue };
            committed = row.parse().unwrap();
            lines_left -= 1;
            if lines_left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(committed >= before + lines, "{committed} rows after {lines} more");
        let (book, _) = recover(dir.path(), RUN, 10_000_000).unwrap();
        let delivered = book.counts().delivered;
        assert!(delivered == committed || delivered == committed + 1, "{delivered}, {committed}");
        assert_eq!(book.standing(Row(delivered)), Standing::Final(Kind::Delivered));
        assert_eq!(book.standing(Row(delivered + 1)), Standing::Pending);
        before = delivered;
    }
}

/// SIGXFSZ ends a process unless it is ignored; then writes beyond the limit give EFBIG.
const IGNORING_XFSZ: [&str; 3] = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

fn limit_files_to(octets: u64) {
    let limit = Rlimit { current: Some(octets), maximum: Some(octets) };
    setrlimit(Resource::Fsize, limit).unwrap();
}

fn spool_beyond_the_limit(dir: &Path) {
    limit_files_to(1 << 20);
    spool::create(dir, 1, 2, 1 << 20).unwrap();
    let refused = spool::create(dir, 1, 2, 2 << 20).unwrap_err();
    let SpoolError::Io { path, source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(path, dir.join("000000.seg"));
    assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::FBIG.raw_os_error()));
}

#[test]
fn a_spool_that_cannot_be_had_is_an_error_and_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    run(&IGNORING_XFSZ, "small spool", dir.path());
}

fn ledger_beyond_the_limit(dir: &Path) {
    let mut writer = Writer::open_sized(dir, RUN, NOON, &Tail::default(), 64 << 10).unwrap();
    limit_files_to(40_000);
    let mut row = 0;
    let refused = loop {
        row += 1;
        writer.outcome(&outcome(row, 1, Kind::Delivered, "ok"));
        if let Err(refused) = writer.commit(NOON) {
            break refused;
        }
        fs::write(dir.join("committed"), row.to_string()).unwrap();
    };
    assert!(
        matches!(&refused, LedgerError::Latched(first)
        if matches!(**first, LedgerError::Io { doing: "writing", .. })),
        "{refused:?}"
    );
    let again = writer.commit(NOON).unwrap_err();
    assert!(matches!(again, LedgerError::Latched(_)), "{again:?}");
    let closed = writer.close(NOON).unwrap_err();
    assert!(matches!(closed, LedgerError::Latched(_)), "{closed:?}");

    let other = dir.join("other");
    fs::create_dir(&other).unwrap();
    let refused = Writer::open_sized(&other, RUN, NOON, &Tail::default(), 64 << 10).unwrap_err();
    assert!(matches!(refused, LedgerError::Io { doing: "preallocating", .. }), "{refused:?}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_ledger_at_its_limit_latches_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    run(&IGNORING_XFSZ, "small ledger", dir.path());
    let committed = fs::read_to_string(dir.path().join("committed")).unwrap();
    let (book, tail) = recover(dir.path(), RUN, 1000).unwrap();
    assert_eq!(book.counts().delivered.to_string(), committed);
    assert!(tail.torn.is_some(), "the write that hit the limit stopped in a frame");
}

fn fill_the_disk(dir: &Path) {
    let refused = spool::create(dir, 1, 4, 512 << 10).unwrap_err();
    let SpoolError::Space { path, needed, free } = &refused else { panic!("{refused:?}") };
    assert_eq!((path, *needed), (&dir.join("000002.seg"), 512 << 10));
    assert!(*free < 512 << 10, "{free}");
    for number in 0..3 {
        fs::remove_file(dir.join(format!("{number:06}.seg"))).unwrap();
    }

    let refused = Writer::open_sized(dir, RUN, NOON, &Tail::default(), 768 << 10).unwrap_err();
    assert!(matches!(refused, LedgerError::Space { .. }), "{refused:?}");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "the first file is given back too");

    let mut writer = Writer::open_sized(dir, RUN, NOON, &Tail::default(), 192 << 10).unwrap();
    let mut row = 0;
    let mut commit = |writer: &mut Writer| {
        row += 1;
        writer.outcome(&outcome(row, 1, Kind::Delivered, &"x".repeat(512)));
        writer.commit(NOON)
    };
    let stopped = loop {
        if let Err(stopped) = commit(&mut writer) {
            break stopped;
        }
    };
    assert!(
        matches!(&stopped, LedgerError::Next(cause)
        if matches!(**cause, LedgerError::Space { needed: 196_608, .. })),
        "{stopped:?}"
    );
    // Beyond what the last file was to hold, into the 64 KiB that the disk has left.
    let last = writer.file().path(dir);
    let length = || fs::metadata(&last).unwrap().len();
    for _ in 0..300 {
        if length() < 208 << 10 {
            let again = commit(&mut writer).unwrap_err();
            assert!(matches!(again, LedgerError::Next(_)), "{again:?}");
        }
    }
    assert!(length() >= 208 << 10, "{}", length());
    writer.close(NOON).unwrap();
    let (book, tail) = recover(dir, RUN, row).unwrap();
    assert_eq!(book.counts(), Counts { delivered: row, ..Counts::default() });
    assert_eq!(tail.torn, None);
}

#[test]
fn a_full_disk_is_told_while_there_is_room_for_the_last_outcomes() {
    let dir = tempfile::tempdir().unwrap();
    let mounting =
        format!("mount -t tmpfs -o size=1m none '{}' && exec \"$0\" \"$@\"", dir.path().display());
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mounting];
    let possible = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mounting a small tmpfs needs user namespaces, which are not allowed");
        return;
    }
    run(&wrapper, "full disk", dir.path());
}
