//! The same campaign, list and clock give the same octets, whatever the number of threads.

use std::fs::File;
use std::io::Write;

use mailshot::destination::SiteNo;
use mailshot::dkim::{Key, Signers, generate_ed25519, generate_rsa};
use mailshot::outcome::Row;
use mailshot::prepare::{Letterhead, Press, Scratch, Turn};
use mailshot::problem::Place;
use mailshot::recipients::{Entry, Index, IndexWriter, Layout, Options, intake};
use mailshot::template::{Part, Source, Templates};
use mailshot::units::Utc;
use rayon::prelude::*;

const ROWS: u32 = 300;
const NOW: Utc = Utc(1_795_284_252_000_000);

/// A list of so many rows, taken in; the index lies beside it.
fn list(folder: &std::path::Path) -> (File, Layout, Index) {
    let path = folder.join("list.csv");
    let mut file = File::create(&path).expect("a file");
    writeln!(file, "email,name,city").expect("written");
    for row in 1..=ROWS {
        writeln!(file, "r{row}@example.org,Jürgen {row},\"Köln, {}\"", row % 7).expect("written");
    }
    let list = File::open(&path).expect("the list");
    let head = std::fs::read(&path).expect("the list");
    let options = Options { delimiter: None, address_column: "email", engagement_column: None };
    let layout = Layout::read("list.csv", &head, &options).expect("a good list");
    let index_path = folder.join("recipients.idx");
    let mut index = IndexWriter::new(File::create(&index_path).expect("a file")).expect("begun");
    let counts = intake(&list, &layout, &[1], &mut index, &mut |_| {}).expect("taken in");
    index.finish().expect("finished");
    assert_eq!((counts.rows, counts.accepted), (ROWS, ROWS));
    (list, layout, Index::open(&index_path).expect("an index"))
}

fn press(list: File, layout: Layout) -> Press {
    let source = |part, text: &str| Source {
        part,
        text: text.to_owned(),
        place: Place::whole("campaign.toml"),
    };
    let sources = vec![
        source(Part::Subject, "Grüße, {{ name }}"),
        source(Part::ToName, "{{ name }}"),
        source(Part::Text, "Hello {{ name }},\n.a line with a dot\nfrom {{ city }}\n"),
        source(Part::Html, "<p>Hello {{ name }}</p><a href=\"{{ unsubscribe_url }}\">bye</a>"),
        source(Part::UnsubscribeUrl, "https://n.example/u/{{ token }}"),
    ];
    let keys = vec![
        Key::from_pem("n.example", "r", &generate_rsa().expect("a key")).expect("a good key"),
        Key::from_pem("n.example", "e", &generate_ed25519().expect("a key")).expect("a good key"),
    ];
    Press {
        head: Letterhead {
            campaign: "spring".into(),
            run: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N".into(),
            from: "news@n.example".into(),
            domain: "n.example".into(),
            reply_to: None,
            bounce_local: "bounce".into(),
            bounce_domain: "n.example".into(),
            headers: Vec::new(),
            one_click: true,
        },
        templates: Templates::compile(sources, &layout.columns).expect("good templates"),
        signers: Signers::new(keys),
        list,
        layout,
    }
}

fn turn(entry: Entry) -> Turn {
    Turn { entry, attempt: 1, first_attempt: None, site: SiteNo(0), source: None }
}

/// Envelope, signatures and message of every row, made by a pool of so many threads.
fn printed(press: &Press, index: &Index, threads: usize) -> Vec<(String, String, Vec<u8>)> {
    let entries = index.read(Row(1)..Row(ROWS + 1)).expect("entries");
    let turns: Vec<Turn> = entries.into_iter().map(turn).collect();
    let mut octets = Vec::new();
    let ranges = press.read(&turns, &mut octets).expect("rows");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        turns
            .par_iter()
            .zip(ranges)
            .map_init(
                || Scratch::new(press),
                |scratch, (turn, range)| {
                    let printed = press.print(scratch, turn, &octets[range], NOW);
                    let printed = printed.expect("a good row");
                    let whole = [printed.signatures, printed.message].concat();
                    (printed.mail_from, printed.rcpt_to, whole)
                },
            )
            .collect()
    })
}

#[test]
fn the_number_of_threads_changes_no_octet() {
    let folder = tempfile::tempdir().expect("a folder");
    let (list, layout, index) = list(folder.path());
    let press = press(list, layout);
    let alone = printed(&press, &index, 1);
    for threads in [2, 5] {
        assert!(printed(&press, &index, threads) == alone, "{threads} threads");
    }
    let distinct: std::collections::HashSet<&str> =
        alone.iter().map(|(mail_from, ..)| mail_from.as_str()).collect();
    assert_eq!(distinct.len(), ROWS as usize, "every message has a return path of its own");
    assert!(alone.iter().all(|(.., octets)| memchr::memmem::find(octets, b"\r\n.").is_none()));
}
