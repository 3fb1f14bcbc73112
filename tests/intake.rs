//! intake — lists as people export them, from the file to the index and back to the fields.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::{BufWriter, Write};

use mailshot::outcome::Row;
use mailshot::recipients::{
    Counts, Entry, HEAD_OCTETS, Index, IndexWriter, Layout, Options, Reason, RowReader, Sample,
    exclude_domains, intake, read_rows,
};
use proptest::prelude::*;

/// A list after intake.
struct Taken {
    list: File,
    layout: Layout,
    entries: Vec<Entry>,
    counts: Counts,
    /// What `progress` was told.
    told: Vec<u64>,
}

/// Takes in `octets`; the address is in `email`, and `subject`, if it is there, goes into a header.
fn take(octets: &[u8]) -> Taken {
    take_with(octets, None)
}

/// The same with a column for engagement.
fn take_with(octets: &[u8], engagement_column: Option<&str>) -> Taken {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recipients.idx");
    let mut list = tempfile::tempfile().unwrap();
    list.write_all(octets).unwrap();
    let options = Options { delimiter: None, address_column: "email", engagement_column };
    let head = &octets[..octets.len().min(HEAD_OCTETS)];
    let layout = Layout::read("list.csv", head, &options).unwrap();
    let unsafe_columns: Vec<_> = layout.column("subject").into_iter().collect();
    let out = BufWriter::new(File::create(&path).unwrap());
    let mut writer = IndexWriter::new(out).unwrap();
    let mut told = Vec::new();
    let mut progress = |octets| told.push(octets);
    let counts = intake(&list, &layout, &unsafe_columns, &mut writer, &mut progress).unwrap();
    writer.finish().unwrap();
    let index = Index::open(&path).unwrap();
    assert_eq!(index.rows(), counts.rows);
    let entries = index.read(Row(1)..Row(index.rows() + 1)).unwrap();
    Taken { list, layout, entries, counts, told }
}

impl Taken {
    /// Line and reason of each row; `""` for accepted ones.
    fn verdicts(&self) -> Vec<(u32, &'static str)> {
        let word = |entry: &Entry| entry.excluded.map_or("", Reason::word);
        self.entries.iter().map(|entry| (entry.line, word(entry))).collect()
    }

    /// The fields of the accepted rows, read again from the list.
    fn fields(&self) -> Vec<Vec<String>> {
        let accepted: Vec<_> =
            self.entries.iter().copied().filter(|entry| entry.excluded.is_none()).collect();
        let mut buffer = Vec::new();
        let ranges = read_rows(&self.list, &accepted, &mut buffer).unwrap();
        let mut reader = RowReader::new(&self.layout);
        let mut fields = csv::StringRecord::new();
        accepted
            .iter()
            .zip(ranges)
            .map(|(entry, range)| {
                reader.parse(entry.row, &buffer[range], &mut fields).unwrap();
                fields.iter().map(str::to_owned).collect()
            })
            .collect()
    }
}

#[test]
fn the_same_table_is_read_from_every_dialect() {
    let plain = "email,name\na@x.org,Ann\nb@x.org,\"B, b\"\n";
    let expected = [["a@x.org", "Ann"], ["b@x.org", "B, b"]];
    for list in [
        plain.to_owned(),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        plain.trim_end().to_owned(),
        format!("\u{feff}{plain}"),
        plain.replace("\nb", "\r\n\nb"),
        plain.replace(',', ";").replace("; ", ", "),
        plain.replace(',', "\t").replace("\t ", ", "),
        plain.replace(',', "|").replace("| ", ", "),
        format!("sep=,\r\n{plain}"),
    ] {
        let taken = take(list.as_bytes());
        assert_eq!(taken.fields(), expected, "{list:?}");
        assert_eq!((taken.counts.rows, taken.counts.accepted), (2, 2), "{list:?}");
        assert_eq!(taken.counts.list_octets, list.len() as u64);
        assert_eq!(taken.told, [list.len() as u64]);
    }
}

#[test]
fn lines_are_those_of_an_editor() {
    let taken = take(
        b"\xef\xbb\xbfemail,note\r\n\r\na@x.org,\"one\r\ntwo\nthree\"\r\n\
        b@x.org,x\n\n\nc@x.org,y\rd@x.org,",
    );
    assert_eq!(taken.verdicts(), [(3, ""), (6, ""), (9, ""), (10, "")]);
    assert_eq!(taken.fields()[0], ["a@x.org", "one\r\ntwo\nthree"]);
    assert_eq!(taken.fields()[3], ["d@x.org", ""]);
}

#[test]
fn a_header_alone_is_an_empty_list() {
    for list in ["email", "email\n", "\u{feff}email,name\r\n\r\n"] {
        let counts = take(list.as_bytes()).counts;
        assert_eq!((counts.rows, counts.accepted, counts.list_octets), (0, 0, list.len() as u64));
    }
}

#[test]
fn bad_rows_are_excluded_alone() {
    let taken = take(
        b"email,subject\n\
        a@x.org,fine\n\
        b@x.org,Stra\xdfe\n\
        c@x.org\n\
        d@x.org,one,two\n\
        e@x.org,1,2,3,4,5\n\
        ,nobody\n\
        \" \",nobody\n\
        nobody,x\n\
        j\xc3\xbcrgen@x.org,x\n\
        f@x.org,\"a\r\nBcc: g@x.org\"\n\
        g@x.org,a\0b\n\
        h@x.org,a\tb\n\
        A@X.org,again\n\
        i@x.org,\"Ann\n\
        k@x.org,\"Bob\"\n\
        l@x.org,fine",
    );
    assert_eq!(
        taken.verdicts(),
        [
            (2, ""),
            (3, "not_utf8"),
            (4, "field_count"),
            (5, "field_count"),
            (6, "field_count"),
            (7, "missing_address"),
            (8, "missing_address"),
            (9, "invalid_address"),
            (10, "needs_smtputf8"),
            (11, "unsafe_header"),
            (13, "unsafe_header"),
            (14, "unsafe_header"),
            (15, "duplicate"),
            (16, "unclosed_quote"),
            (17, ""),
            (18, ""),
        ]
    );
    assert_eq!(taken.counts.accepted, 3);
    assert_eq!(taken.counts.excluded(Reason::FieldCount), 3);
    assert_eq!(taken.counts.excluded(Reason::RowTooLong), 0);
    let total: u32 = Reason::ALL.iter().map(|reason| taken.counts.excluded(*reason)).sum();
    assert_eq!(total + taken.counts.accepted, taken.counts.rows);
    let said: Vec<_> = taken
        .counts
        .samples
        .iter()
        .map(|s| (s.row.0, s.address.as_str(), s.why.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (2, "b***@x.org", "octet 13 of the row is not UTF-8"),
            (3, "c***@x.org", "the header has 2 columns, the row has 1"),
            (4, "d***@x.org", "the header has 2 columns, the row has 3"),
            (5, "", "the header has 2 columns, the row has more"),
            (6, "", "the address is empty"),
            (7, "", "the address is empty"),
            (8, "n***", "the address has no @"),
            (9, "j***@x.org", "the part before the @ is not ASCII and would need SMTPUTF8"),
            (10, "f***@x.org", "column \"subject\" goes into a header and holds the octet 0x0d"),
            (11, "g***@x.org", "column \"subject\" goes into a header and holds the octet 0x00"),
            (12, "h***@x.org", "column \"subject\" goes into a header and holds the octet 0x09"),
            (13, "A***@X.org", "row 1 has the same address"),
            (14, "", "a quote in the row is not closed or closes elsewhere"),
        ]
    );
}

#[test]
fn control_characters_are_only_refused_where_they_can_harm() {
    let taken = take(b"email,subject,note\na@x.org,fine,\"two\nlines\tand\0all\"\n");
    assert_eq!(taken.verdicts(), [(2, "")]);
}

#[test]
fn one_person_is_sent_to_once() {
    let taken = take(
        "email\nJane@Example.org\njane@example.ORG\n jane@example.org. \n\
         \"\"\"jane\"\"@example.org\"\n\
         post@Bücher.example\npost@XN--BCHER-KVA.example\njane+x@example.org\nja.ne@example.org\n"
            .as_bytes(),
    );
    let firsts: Vec<_> = taken.entries.iter().map(|entry| entry.detail).collect();
    assert_eq!(firsts, [0, 1, 1, 1, 0, 5, 0, 0]);
    assert_eq!((taken.counts.accepted, taken.counts.excluded(Reason::Duplicate)), (4, 4));
}

#[test]
fn an_excluded_row_does_not_take_the_place_of_a_good_one() {
    let taken = take(b"email,subject\na@x.org,\"x\ny\"\na@x.org,x\na@x.org,y\n");
    assert_eq!(taken.verdicts(), [(2, "unsafe_header"), (4, ""), (5, "duplicate")]);
    assert_eq!(taken.entries[2].detail, 2);
}

#[test]
fn domains_are_numbered_as_the_list_first_names_them() {
    let taken = take(
        "email,subject\n\
         a@excluded.example,\"x\ny\"\n\
         a@b.example,\n\
         a@A.example.,\n\
         A@b.EXAMPLE,\n\
         b@b.Example,\n\
         a@Bücher.example,\n\
         b@xn--bcher-kva.example,\n\
         nobody,\n\
         b@a.example,\n"
            .as_bytes(),
    );
    let names: Vec<&str> = taken.counts.domains.iter().collect();
    assert_eq!(names, ["b.example", "a.example", "xn--bcher-kva.example"]);
    let numbers: Vec<_> =
        taken.entries.iter().map(|entry| entry.domain.map(|domain| domain.0)).collect();
    assert_eq!(
        numbers,
        [None, Some(0), Some(1), None, Some(0), Some(2), Some(2), None, Some(1)],
        "excluded rows have none, a duplicate among them"
    );
    for entry in taken.entries.iter().filter(|entry| entry.excluded.is_none()) {
        let domain = entry.domain.expect("an accepted row has a domain");
        assert_eq!(taken.counts.domains.name(domain), names[domain.index()]);
    }
    assert!(taken.entries.iter().all(|entry| entry.engagement == 0));
    assert_eq!(taken.counts.engagement_unreadable, 0, "there is no such column");
}

#[test]
fn engagement_keeps_its_order_and_what_cannot_be_read_is_counted() {
    let taken = take_with(
        b"email,opens\na@x.org,3\nb@x.org,2026-03-31T08:00:00Z\nc@x.org,\nd@x.org,often\n\
        e@x.org, 2.5 \na@x.org,9\nf@x.org,2026-04-01\ng@x.org,-1\n",
        Some("opens"),
    );
    assert_eq!(taken.counts.engagement_unreadable, 2);
    let mut rows: Vec<_> = taken.entries.iter().map(|e| (e.engagement, e.row.0)).collect();
    let of = |row: usize| taken.entries[row - 1].engagement;
    assert_eq!((of(3), of(4), of(6)), (0, 0, 0), "blank, no number, a duplicate");
    rows.retain(|(engagement, _)| *engagement > 0);
    rows.sort_unstable();
    let order: Vec<u32> = rows.into_iter().map(|(_, row)| row).collect();
    assert_eq!(order, [8, 5, 1, 2, 7]);
}

#[test]
fn rows_of_dead_domains_are_counted_as_excluded() {
    let Taken { mut counts, entries, .. } =
        take(b"email\na@x.org\nb@dead.example\nnobody\nc@x.org\nd@dead.example\n");
    let mut index = tempfile::NamedTempFile::new().unwrap();
    let mut writer = IndexWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    for entry in &entries {
        writer.push(entry).unwrap();
    }
    index.write_all(writer.finish().unwrap().get_ref()).unwrap();
    let name = |domain| counts.domains.name(domain) == "dead.example";
    let dead =
        exclude_domains(index.path(), &|domain| name(domain).then_some(Reason::NoSuchDomain));
    counts.exclude(&dead.unwrap());
    assert_eq!((counts.rows, counts.accepted, counts.excluded(Reason::NoSuchDomain)), (5, 2, 2));
    let said: Vec<_> =
        counts.samples.iter().map(|s| (s.row.0, s.line, s.address.as_str(), &*s.why)).collect();
    assert_eq!(
        said,
        [
            (2, 3, "***@dead.example", "the domain does not exist"),
            (3, 4, "n***", "the address has no @"),
            (5, 6, "***@dead.example", "the domain does not exist"),
        ]
    );
}

#[test]
fn samples_are_few_and_masked() {
    let list: String = (0..100).map(|at| format!("jane{at}\u{1b}[2J@x.org\n")).collect();
    let counts = take(format!("email\n{list}").as_bytes()).counts;
    assert_eq!(counts.excluded(Reason::InvalidAddress), 100);
    let sample = |row: u32| Sample {
        row: Row(row),
        line: row + 1,
        reason: Reason::InvalidAddress,
        address: "j***@x.org".into(),
        why: "the address contains a control character".into(),
    };
    assert_eq!(counts.samples, (1..=5).map(sample).collect::<Vec<_>>());
}

#[test]
fn a_thousand_columns_are_as_good_as_two() {
    let names: Vec<_> = (1..1000).map(|at| format!("c{at}")).collect();
    let row = vec!["v"; 999].join(";");
    let list = format!("{};email\n{row};a@x.org\n{row};v;b@x.org\n", names.join(";"));
    let taken = take(list.as_bytes());
    assert_eq!(taken.verdicts(), [(2, ""), (3, "field_count")]);
    assert_eq!(taken.fields()[0][998..], ["v", "a@x.org"]);
}

#[test]
fn the_digest_is_that_of_the_file() {
    let list = b"\xef\xbb\xbfemail\na@x.org\nbroken \xff\n";
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, list);
    assert_eq!(take(list).counts.list_digest, expected.as_ref());
}

#[test]
fn long_lists_are_taken_in_whole() {
    let rows: String = (0..40_000).map(|at| format!("u{at}@x.org,Ünï,\"a, b\"\r\n")).collect();
    let list = format!("email,a,b\r\n{rows}u7@x.org,,\r\n");
    let taken = take(list.as_bytes());
    assert_eq!((taken.counts.rows, taken.counts.accepted), (40_001, 40_000));
    assert_eq!((taken.entries[40_000].line, taken.entries[40_000].detail), (40_002, 8));
    let fields = taken.fields();
    for (at, row) in fields.iter().enumerate() {
        assert_eq!(row, &[format!("u{at}@x.org"), "Ünï".into(), "a, b".into()]);
    }
    assert!(taken.told.is_sorted() && taken.told.last() == Some(&(list.len() as u64)));
}

/// A table with an address in the middle column, and how to write it.
fn tables() -> impl Strategy<Value = (Vec<[String; 3]>, csv::WriterBuilder)> {
    let cell = || "[a-z ,;|\t\"\r\nüß€]{0,6}|\"[a-z\"]{0,3}";
    let rows = proptest::collection::vec((cell(), cell()), 0..20).prop_map(|cells| {
        let row = |(at, (left, right)): (usize, (String, String))| {
            [left, format!("u{at}@example.org"), right]
        };
        cells.into_iter().enumerate().map(row).collect()
    });
    let delimiter = proptest::sample::select(&b",;\t|"[..]);
    let style = proptest::sample::select(vec![
        csv::QuoteStyle::Necessary,
        csv::QuoteStyle::Always,
        csv::QuoteStyle::NonNumeric,
    ]);
    let end = proptest::sample::select(vec![
        csv::Terminator::CRLF,
        csv::Terminator::Any(b'\n'),
        csv::Terminator::Any(b'\r'),
    ]);
    let writer = (delimiter, style, end).prop_map(|(delimiter, style, end)| {
        let mut writer = csv::WriterBuilder::new();
        writer.delimiter(delimiter).quote_style(style).terminator(end);
        writer
    });
    (rows, writer)
}

proptest! {
    #[test]
    fn what_was_written_is_read_again((rows, builder) in tables()) {
        let mut writer = builder.from_writer(Vec::new());
        writer.write_record(["left", "email", "right, \"or so\""]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let list = writer.into_inner().unwrap();
        let taken = take(&list);
        prop_assert_eq!(&taken.layout.columns, &["left", "email", "right, \"or so\""]);
        prop_assert_eq!(taken.counts.accepted as usize, rows.len());
        prop_assert_eq!(taken.fields(), rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
        for (entry, row) in taken.entries.iter().zip(&rows) {
            let start = entry.offset as usize;
            let raw = &list[start..start + entry.len as usize];
            let mut oracle = csv::ReaderBuilder::new();
            oracle.has_headers(false).delimiter(taken.layout.delimiter);
            let read: Vec<_> = oracle.from_reader(raw).records().map(Result::unwrap).collect();
            prop_assert_eq!(read, [row.to_vec()]);
            let before = String::from_utf8_lossy(&list[..start]).replace("\r\n", "\n");
            let lines = before.matches(['\r', '\n']).count() + 1;
            prop_assert_eq!(entry.line as usize, lines);
        }
    }
}
