//! intake — rows per second of taking in a list of nine columns, and what an address costs in it.
//!
//! `cargo bench --bench intake` takes a million rows; run by `cargo test` it takes a thousand, to
//! show that it still works.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use mailshot::address::Mailbox;
use mailshot::outcome::Row;
use mailshot::recipients::{
    HEAD_OCTETS, Index, IndexWriter, Layout, Options, RowReader, intake, read_rows,
};

fn main() {
    let rows = if std::env::args().any(|word| word == "--bench") { 1_000_000 } else { 1_000 };
    let list = list(rows);
    let directory = tempfile::tempdir().expect("a directory for the list");
    let path = directory.path().join("list.csv");
    std::fs::write(&path, &list).expect("room for the list");
    let file = File::open(&path).expect("the list just written");
    let index = directory.path().join("recipients.idx");
    let options = Options { delimiter: None, address_column: "email" };
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
