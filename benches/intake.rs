//! intake — rows per second of taking in a list of nine columns, what an address costs in it, what
//! unique domains cost in memory, and what it costs to queue the rows and to take them again.
//!
//! `cargo bench --bench intake` takes a million rows; run by `cargo test` it takes a thousand, to
//! show that it still works.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use mailshot::address::Mailbox;
use mailshot::destination::{DomainNo, GroupNo, SiteNo};
use mailshot::ledger::Book;
use mailshot::outcome::Row;
use mailshot::prepare::{Address, Queue};
use mailshot::recipients::{
    Entry, HEAD_OCTETS, Index, IndexWriter, Layout, Options, RowReader, intake, read_rows,
};
use mailshot::units::Utc;

fn main() {
    let rows = if std::env::args().any(|word| word == "--bench") { 1_000_000 } else { 1_000 };
    let list = list(rows);
    let directory = tempfile::tempdir().expect("a directory for the list");
    let path = directory.path().join("list.csv");
    std::fs::write(&path, &list).expect("room for the list");
    let file = File::open(&path).expect("the list just written");
    let index = directory.path().join("recipients.idx");
    let options = Options { delimiter: None, address_column: "email", engagement_column: None };
    let head = &list[..list.len().min(HEAD_OCTETS)];
    let layout = Layout::read("list.csv", head, &options).expect("a sound header");

    let took = timed(|| {
        let out = BufWriter::new(File::create(&index).expect("a new index"));
        let mut writer = IndexWriter::new(out).expect("a new index");
        let counts = intake(&file, &layout, &[1], &mut writer, &mut |_| {}).expect("a sound list");
        writer.finish().expect("room for the index");
        assert_eq!((counts.rows, counts.accepted), (rows, rows - rows / 100));
    });
    report("intake", rows, took);
    let took = timed(|| read_again(&file, &layout, &Index::open(&index).expect("the index")));
    report("read rows again, in batches of 350", rows, took);
    let took = timed(|| {
        for at in 0..rows {
            let text = black_box("Jane.Doe+news@Mail.Example.org");
            assert!(Mailbox::parse(text).is_ok(), "parse {at}");
        }
    });
    report("address", rows, took);
    queue(rows, &index);
    domains(rows, directory.path());
}

/// Queues the rows of an index and takes all of them, with few groups and with ten thousand.
fn queue(rows: u32, index: &Path) {
    let rows = rows - rows / 100;
    let mut counted = 0;
    let took = timed(|| {
        let index = Index::open(index).expect("the index");
        index.each(&mut |entry| counted += u32::from(entry.excluded.is_none())).expect("entries");
    });
    assert_eq!(counted, rows);
    report("count an index", rows, took);
    for groups in [1, 50, 10_000] {
        let spread = spread(index, groups);
        let place =
            |domain: DomainNo| Some(Address { site: SiteNo(domain.0), group: GroupNo(domain.0) });
        let mut queue = None;
        let took = timed(|| {
            let index = Index::open(spread.path()).expect("the index");
            let book = Book::new(index.rows());
            queue = Some(Queue::new(index, book, &place, &|_| None).expect("sound entries"));
        });
        report(&format!("queue, {groups} groups"), rows, took);
        let mut queue = queue.expect("it was just made");
        let took = timed(|| {
            let mut taken = 0;
            while !queue.is_empty() {
                for group in 0..groups {
                    let turns = queue.take(GroupNo(group), 32, Utc(0)).expect("entries");
                    taken += turns.len();
                }
            }
            assert_eq!(taken, rows as usize);
        });
        report(&format!("take, {groups} groups"), rows, took);
    }
}

/// An index with the same rows, of which each belongs to the domain of its number modulo `domains`.
fn spread(index: &Path, domains: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let out = BufWriter::new(file.reopen().expect("the file just made"));
    let mut writer = IndexWriter::new(out).expect("a new index");
    let index = Index::open(index).expect("the index");
    let entry = |entry: &Entry| Entry {
        domain: entry.domain.map(|_| DomainNo(entry.row.0 % domains)),
        ..*entry
    };
    index.each(&mut |old| writer.push(&entry(old)).expect("room for it")).expect("entries");
    writer.finish().expect("room for it");
    file
}

/// Takes in a list whose rows each have a domain of their own, and the same with one domain.
fn domains(rows: u32, directory: &Path) {
    let path = directory.join("domains.csv");
    for (what, many) in [("one domain", false), ("as many domains", true)] {
        let mut list = b"email\n".to_vec();
        for at in 0..rows {
            let domain = if many { at } else { 1_000_000 };
            writeln!(list, "jane.doe{at}@company{domain}.example").expect("a Vec takes any octets");
        }
        std::fs::write(&path, &list).expect("room for the list");
        let head = &list[..list.len().min(HEAD_OCTETS)];
        let options = Options { delimiter: None, address_column: "email", engagement_column: None };
        let layout = Layout::read("list.csv", head, &options).expect("a sound header");
        drop(list);
        let file = File::open(&path).expect("the list just written");
        std::fs::write("/proc/self/clear_refs", "5").expect("our own peak can be reset");
        let before = resident("VmHWM:");
        let mut index = IndexWriter::new(std::io::sink()).expect("a new index");
        let mut counts = None;
        let took = timed(|| {
            counts = Some(intake(&file, &layout, &[], &mut index, &mut |_| {}).expect("sound"));
        });
        let (peak, kept) = (resident("VmHWM:") - before, resident("VmRSS:") - before);
        report(&format!("intake, {what}"), rows, took);
        println!("    peak {peak} MiB, of which {kept} MiB are kept");
        drop(counts);
    }
}

/// A number of /proc/self/status in MiB (proc_pid_status(5)).
fn resident(key: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a known key");
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<i64>().ok());
    kib.expect("a number of KiB") / 1024
}

/// A list of nine columns, about 130 octets a row; each hundredth address occurred before.
fn list(rows: u32) -> Vec<u8> {
    let mut list =
        b"email,first_name,last_name,city,country,plan,since,score,\"coupon, if any\"\n".to_vec();
    for at in 1..=rows {
        let who = if at % 100 == 0 { at - 50 } else { at };
        writeln!(
            list,
            "jane.doe{who}@provider{}.example,Jane,Doe-Müller,\"Berlin, Mitte\",DE,premium,\
             2024-03-{:02},{}.{:02},SAVE{at:08}-AUTUMN",
            who % 50,
            at % 28 + 1,
            at % 1000,
            at % 100
        )
        .expect("a Vec takes any octets");
    }
    list
}

fn read_again(file: &File, layout: &Layout, index: &Index) {
    let mut reader = RowReader::new(layout);
    let mut fields = csv::StringRecord::new();
    let mut buffer = Vec::new();
    let end = index.rows() + 1;
    for first in (1..end).step_by(350) {
        let rows = Row(first)..Row((first + 350).min(end));
        let entries = index.read(rows).expect("entries of the index");
        let ranges = read_rows(file, &entries, &mut buffer).expect("an unchanged list");
        for (entry, range) in entries.iter().zip(ranges) {
            let raw = &buffer[range];
            black_box(reader.parse(entry.row, raw, &mut fields).expect("an unchanged list"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about the clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(what: &str, count: u32, took: Duration) {
    let seconds = took.as_secs_f64();
    let each = seconds * 1e9 / f64::from(count);
    println!("{what}: {:.0}/s, {each:.0} ns each", f64::from(count) / seconds);
}
