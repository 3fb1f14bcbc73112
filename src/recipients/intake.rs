//! intake — the whole list in one pass: each row judged, numbered, indexed and counted.
//!
//! A row is accepted, or excluded with the first [`Reason`] that holds, in this order: damaged (too
//! long, quotes left open), not UTF-8, a wrong number of fields, no address, no mailbox, an unsafe
//! value for a header, a duplicate of an accepted row. Nothing is repaired or guessed, and no row
//! stops the others. `records` tells how reading goes on after a damaged row.
//!
//! Each accepted row gets the number of its domain and, if there is a column for it, its
//! engagement.
//!
//! Memory does not grow with the size of the rows, only with their number: 8 octets for each row's
//! offset, and what `seen` needs for each accepted one. Ten million rows take 483 MiB at their peak
//! (measured). `domains` tells what unique domains cost.
//!
//! Fails with [`IntakeError`] when the list cannot be read, the index cannot be written, or the
//! list changes while it is read.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::io::{self, Write};

use crc_fast::crc32_iscsi;

use super::dead::Excluded;
use super::domains::{Domains, Numbering};
use super::engagement::engagement;
use super::index::{Entry, IndexWriter, Reason};
use super::layout::Layout;
use super::record::Parser;
use super::records::{CHUNK_OCTETS, Records, Span};
use super::rows::read_up_to;
use super::seen::Seen;
use crate::address::{Fault, Mailbox, dedup_key, masked};
use crate::limits::{ROW_BYTES_MAX, ROWS_MAX};
use crate::outcome::Row;

/// Samples kept of each reason: enough to see the pattern, few enough to print.
pub const SAMPLES_PER_REASON: usize = 5;

/// Octets read of an earlier row to compare its address; most rows are shorter.
const EARLIER_ROW_OCTETS: usize = 4096;

/// What a list holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Data rows, excluded ones included.
    pub rows: u32,
    /// Rows that can be sent to.
    pub accepted: u32,
    /// Excluded rows by [`Reason`], in the order of [`Reason::ALL`].
    excluded: [u32; Reason::ALL.len()],
    /// Up to [`SAMPLES_PER_REASON`] excluded rows of each reason, in the order of rows.
    pub samples: Vec<Sample>,
    /// The unique domains of the accepted rows; their numbers are those of the index.
    pub domains: Domains,
    /// Accepted rows whose engagement is blank or no number or date; 0 if there is no column.
    pub engagement_unreadable: u32,
    /// Octets of the list.
    pub list_octets: u64,
    /// SHA-256 of the whole list, header and byte order mark included.
    pub list_digest: [u8; 32],
}

impl Counts {
    /// How many rows are excluded for `reason`.
    pub fn excluded(&self, reason: Reason) -> u32 {
        self.excluded[slot(reason)]
    }

    /// Counts the rows of dead domains as excluded, which were accepted.
    pub fn exclude(&mut self, dead: &Excluded) {
        for reason in Reason::ALL {
            self.excluded[slot(*reason)] += dead.count(*reason);
            self.accepted -= dead.count(*reason);
        }
        for row in &dead.samples {
            let domain = self.domains.name(row.domain);
            self.samples.push(Sample {
                row: row.row,
                line: row.line,
                reason: row.reason,
                address: format!("***@{domain}"),
                why: match row.reason {
                    Reason::NoSuchDomain => "the domain does not exist".into(),
                    Reason::NullMx => "the domain says that it takes no mail (RFC 7505)".into(),
                    _ => "the domain has no mail host with an address".into(),
                },
            });
        }
        self.samples.sort_by_key(|sample| sample.row);
    }
}

/// An excluded row for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its number.
    pub row: Row,
    /// The physical line on which it starts.
    pub line: u32,
    /// Why it is excluded.
    pub reason: Reason,
    /// The address, masked; empty when the row could not be read that far.
    pub address: String,
    /// What exactly is wrong: a sentence, lower case, no full stop.
    pub why: String,
}

/// Why intake stopped.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The list cannot be read.
    #[error("the list cannot be read after row {row}")]
    List {
        /// The last row that was read.
        row: Row,
        /// The system's error.
        source: io::Error,
    },
    /// The index cannot be written.
    #[error("the recipient index cannot be written")]
    Index(#[source] io::Error),
    /// An earlier row was no longer what it had been.
    #[error("row {row} of the list was modified while the list was read")]
    Changed {
        /// The row.
        row: Row,
    },
    /// Row numbers have 32 bits.
    #[error("the list has more than {ROWS_MAX} rows")]
    TooManyRows,
}

/// Reads the whole list, pushes an entry for each row to `index`, and counts.
///
/// `unsafe_columns` are those whose values go into headers. `progress` is told from time to time
/// how many octets of the list were read. The index is left for the caller to finish.
///
/// # Errors
/// [`IntakeError`]; what the index holds by then is worth nothing.
///
/// # Panics
/// When `unsafe_columns` names a column that the layout does not have.
pub fn intake(
    list: &File,
    layout: &Layout,
    unsafe_columns: &[usize],
    index: &mut IndexWriter<impl Write>,
    progress: &mut dyn FnMut(u64),
) -> Result<Counts, IntakeError> {
    let read = |source| IntakeError::List { row: Row(0), source };
    let records = Records::new(list, layout, CHUNK_OCTETS).map_err(read)?;
    Intake::new(list, layout, unsafe_columns).run(records, index, progress)
}

/// What exactly excludes a row; the reason and the sentence both come from it.
#[derive(Clone, Copy)]
enum Exclusion {
    Damaged(Reason),
    NotUtf8 {
        at: usize,
    },
    /// `None`: too many to count.
    Fields(Option<usize>),
    NoAddress,
    Address(Fault),
    Control {
        column: usize,
        octet: u8,
    },
    Duplicate {
        first: Row,
    },
}

impl Exclusion {
    fn reason(self) -> Reason {
        match self {
            Exclusion::Damaged(reason) => reason,
            Exclusion::NotUtf8 { .. } => Reason::NotUtf8,
            Exclusion::Fields(_) => Reason::FieldCount,
            Exclusion::NoAddress => Reason::MissingAddress,
            Exclusion::Address(Fault::NeedsSmtputf8) => Reason::NeedsSmtputf8,
            Exclusion::Address(_) => Reason::InvalidAddress,
            Exclusion::Control { .. } => Reason::UnsafeHeader,
            Exclusion::Duplicate { .. } => Reason::Duplicate,
        }
    }

    fn sentence(self, layout: &Layout) -> String {
        let columns = layout.columns.len();
        match self {
            Exclusion::Damaged(Reason::RowTooLong) => {
                format!("the row exceeds {ROW_BYTES_MAX} octets; look for a quote left open")
            }
            Exclusion::Damaged(_) => "a quote in the row is not closed or closes elsewhere".into(),
            Exclusion::NotUtf8 { at } => format!("octet {} of the row is not UTF-8", at + 1),
            Exclusion::Fields(None) => {
                format!("the header has {columns} columns, the row has more")
            }
            Exclusion::Fields(Some(found)) => {
                format!("the header has {columns} columns, the row has {found}")
            }
            Exclusion::NoAddress => "the address is empty".into(),
            Exclusion::Address(fault) => fault.to_string(),
            Exclusion::Control { column, octet } => {
                let name = &layout.columns[column];
                format!("column {name:?} goes into a header and holds the octet 0x{octet:02x}")
            }
            Exclusion::Duplicate { first } => format!("row {first} has the same address"),
        }
    }
}

/// The state of one intake.
struct Intake<'a> {
    list: &'a File,
    layout: &'a Layout,
    unsafe_columns: &'a [usize],
    parser: Parser,
    /// Where each row starts, by row number less one.
    offsets: Vec<u64>,
    seen: Seen<Row>,
    domains: Numbering,
    key: String,
    earlier: Earlier,
    counts: Counts,
}

impl<'a> Intake<'a> {
    fn new(list: &'a File, layout: &'a Layout, unsafe_columns: &'a [usize]) -> Intake<'a> {
        let columns = layout.columns.len();
        assert!(
            unsafe_columns.iter().all(|column| *column < columns),
            "the columns used in headers are those of the layout"
        );
        Intake {
            list,
            layout,
            unsafe_columns,
            parser: Parser::new(layout.delimiter, columns),
            offsets: Vec::new(),
            seen: Seen::new(RandomState::new()),
            domains: Numbering::new(),
            key: String::new(),
            earlier: Earlier::new(layout),
            counts: Counts {
                rows: 0,
                accepted: 0,
                excluded: [0; Reason::ALL.len()],
                samples: Vec::new(),
                domains: Domains::default(),
                engagement_unreadable: 0,
                list_octets: 0,
                list_digest: [0; 32],
            },
        }
    }

    fn run(
        mut self,
        mut records: Records,
        index: &mut IndexWriter<impl Write>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Counts, IntakeError> {
        let mut told = 0;
        loop {
            let next = records.next(&mut self.parser);
            let row = Row(self.counts.rows);
            if records.octets() != told {
                told = records.octets();
                progress(told);
            }
            match next.map_err(|source| IntakeError::List { row, source })? {
                Some(span) => {
                    let entry = self.take(&span, records.raw())?;
                    index.push(&entry).map_err(IntakeError::Index)?;
                }
                None => break,
            }
        }
        self.counts.list_octets = told;
        self.counts.list_digest = records.digest();
        self.counts.domains = self.domains.finish();
        Ok(self.counts)
    }

    /// Gives the next row its number and its entry.
    fn take(&mut self, span: &Span, raw: &[u8]) -> Result<Entry, IntakeError> {
        if self.counts.rows == ROWS_MAX {
            return Err(IntakeError::TooManyRows);
        }
        self.counts.rows += 1;
        let row = Row(self.counts.rows);
        self.offsets.push(span.offset);
        let mut entry = Entry {
            row,
            offset: span.offset,
            len: span.len,
            line: span.line,
            check: crc32_iscsi(raw),
            excluded: None,
            engagement: 0,
            detail: 0,
            domain: None,
        };
        match self.judge(row, span, raw)? {
            Ok(mailbox) => {
                self.counts.accepted += 1;
                entry.domain = Some(self.domains.number(mailbox.domain()));
                entry.engagement = self.engagement();
            }
            Err(exclusion) => {
                self.count(row, span, exclusion);
                entry.excluded = Some(exclusion.reason());
                if let Exclusion::Duplicate { first } = exclusion {
                    entry.detail = first.0;
                }
            }
        }
        Ok(entry)
    }

    /// The mailbox of the row, or why it is excluded.
    fn judge(
        &mut self,
        row: Row,
        span: &Span,
        raw: &[u8],
    ) -> Result<Result<Mailbox, Exclusion>, IntakeError> {
        let mailbox = match self.mailbox(span, raw) {
            Ok(mailbox) => mailbox,
            Err(exclusion) => return Ok(Err(exclusion)),
        };
        let first = self.first(row, &mailbox)?;
        Ok(first.map_or(Ok(mailbox), |first| Err(Exclusion::Duplicate { first })))
    }

    /// The engagement of the accepted row at hand, 0 for none.
    fn engagement(&mut self) -> u32 {
        let Some(column) = self.layout.engagement else { return 0 };
        let value = engagement(self.parser.field(column).expect("the row has all columns"));
        self.counts.engagement_unreadable += u32::from(value.is_none());
        value.unwrap_or(0)
    }

    /// The mailbox of a row that is sound in itself.
    fn mailbox(&self, span: &Span, raw: &[u8]) -> Result<Mailbox, Exclusion> {
        if let Some(damage) = span.damage {
            return Err(Exclusion::Damaged(damage));
        }
        // Of the raw octets, not of the fields: a character must not be split by a delimiter.
        if let Err(wrong) = std::str::from_utf8(raw) {
            return Err(Exclusion::NotUtf8 { at: wrong.valid_up_to() });
        }
        let count = self.parser.count();
        if count != Some(self.layout.columns.len()) {
            return Err(Exclusion::Fields(count));
        }
        let mailbox = match Mailbox::parse(self.address()) {
            Err(Fault::Empty) => return Err(Exclusion::NoAddress),
            mailbox => mailbox.map_err(Exclusion::Address)?,
        };
        for column in self.unsafe_columns {
            let value = self.parser.field(*column).expect("the row has all columns");
            if let Some(octet) = value.iter().find(|octet| octet.is_ascii_control()) {
                return Err(Exclusion::Control { column: *column, octet: *octet });
            }
        }
        Ok(mailbox)
    }

    /// The address field of the row at hand, blank when there is none.
    fn address(&self) -> &str {
        let field = self.parser.field(self.layout.address).unwrap_or_default();
        std::str::from_utf8(field).unwrap_or_default()
    }

    /// The earlier row with the same address, if there is one.
    fn first(&mut self, row: Row, mailbox: &Mailbox) -> Result<Option<Row>, IntakeError> {
        dedup_key(mailbox, &mut self.key);
        let Intake { list, offsets, seen, key, earlier, .. } = self;
        seen.first(key, row, |other| {
            let offset = offsets[other.0 as usize - 1];
            match earlier.key(list, offset) {
                Ok(Some(other_key)) => Ok(other_key == key),
                Ok(None) => Err(IntakeError::Changed { row: other }),
                Err(source) => Err(IntakeError::List { row, source }),
            }
        })
    }

    fn count(&mut self, row: Row, span: &Span, exclusion: Exclusion) {
        let reason = exclusion.reason();
        let so_far = &mut self.counts.excluded[slot(reason)];
        *so_far += 1;
        if *so_far as usize <= SAMPLES_PER_REASON {
            let address = if span.damage.is_some() { "" } else { self.address().trim() };
            let sample = Sample {
                row,
                line: span.line,
                reason,
                address: if address.is_empty() { String::new() } else { masked(address) },
                why: exclusion.sentence(self.layout),
            };
            self.counts.samples.push(sample);
        }
    }
}

/// The place of a reason in [`Reason::ALL`]; they are numbered from 1 without gaps.
pub(super) fn slot(reason: Reason) -> usize {
    usize::from(reason as u8) - 1
}

/// Reads accepted rows again, to compare addresses.
struct Earlier {
    parser: Parser,
    address: usize,
    octets: Vec<u8>,
    key: String,
}

impl Earlier {
    fn new(layout: &Layout) -> Earlier {
        Earlier {
            parser: Parser::new(layout.delimiter, layout.columns.len()),
            address: layout.address,
            octets: Vec::new(),
            key: String::new(),
        }
    }

    /// The key of the accepted row at `offset`; `None` when there is no such row any more.
    fn key(&mut self, list: &File, offset: u64) -> io::Result<Option<&String>> {
        for wanted in [EARLIER_ROW_OCTETS, ROW_BYTES_MAX] {
            self.octets.resize(wanted, 0);
            let read = read_up_to(list, &mut self.octets, offset)?;
            let last = read < wanted || wanted == ROW_BYTES_MAX;
            if self.parser.parse(&self.octets[..read], last).is_some() {
                break;
            }
        }
        let address = self.parser.field(self.address).unwrap_or_default();
        let mailbox = std::str::from_utf8(address).ok().and_then(|text| Mailbox::parse(text).ok());
        Ok(mailbox.map(|mailbox| {
            dedup_key(&mailbox, &mut self.key);
            &self.key
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_slots() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(slot(*reason), at);
        }
    }

    /// What intake makes of `list` in chunks of `chunk` octets: the index and the counts.
    fn taken(list: &[u8], chunk: usize) -> (Vec<u8>, Counts) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(list).unwrap();
        let options = super::super::Options {
            delimiter: None,
            address_column: "email",
            engagement_column: None,
        };
        let layout = Layout::read("list.csv", list, &options).unwrap();
        let mut index = IndexWriter::new(io::Cursor::new(Vec::new())).unwrap();
        let records = Records::new(&file, &layout, chunk).unwrap();
        let counts =
            Intake::new(&file, &layout, &[1]).run(records, &mut index, &mut |_| {}).unwrap();
        (index.finish().unwrap().into_inner(), counts)
    }

    proptest::proptest! {
        #[test]
        fn chunk_boundaries_never_change_the_result(
            lines in proptest::collection::vec(
                "(a@b\\.co|[ab]@x\\.org|\"a@b\\.co\"|\u{feff}|ü)?[,;\"\r\nü\0]{0,3}[x\"]?\r?\n?",
                0..12,
            ),
            chunk in 1_usize..40,
        ) {
            let list = format!("email,name\r\n{}", lines.concat());
            let whole = taken(list.as_bytes(), CHUNK_OCTETS);
            proptest::prop_assert_eq!(taken(list.as_bytes(), chunk), whole);
        }
    }

    #[test]
    fn an_earlier_row_longer_than_the_first_look_is_compared_all_the_same() {
        let long = "x".repeat(EARLIER_ROW_OCTETS * 3);
        let (_, counts) = taken(format!("pad,n,email\n{long},,a@b.co\n,,A@b.co\n").as_bytes(), 64);
        assert_eq!((counts.accepted, counts.excluded(Reason::Duplicate)), (1, 1));
    }
}
