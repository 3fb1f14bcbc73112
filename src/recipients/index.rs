//! index — `recipients.idx`: where each row of the list lies and what intake thought of it.
//!
//! All numbers are little-endian; every part is 32 octets, so entry `n` is at `32 × n`.
//!
//! ```text
//! header   0  8  magic "mshotidx"
//!          8  4  version, 2
//!         12  4  rows
//!         16 16  zero
//! entry    0  8  offset     of the record's first octet in the list
//!          8  4  len        octets of the record, its line end included (of CRLF only the CR)
//!         12  4  line       physical line on which the record starts, from 1
//!         16  4  check      CRC-32/ISCSI of these octets
//!         20  1  state      0 accepted, else the number of the reason for the exclusion
//!         21  3  engagement larger is more engaged; 0 when nothing is known
//!         24  4  detail     of a duplicate: the row that has the address first; else 0
//!         28  4  domain     of the address, in the order of the list; all ones for none
//! ```
//!
//! The header is written last, so that a file whose writer died is recognised: until then it is
//! zero. Version and size are verified when the file is opened, states when entries are read. The
//! digest of the list belongs to the manifest. Once a run has its manifest nobody changes its index
//! any more; before that, [`super::exclude_domains`] may.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::destination::DomainNo;
use crate::outcome::{Row, numbered};

/// Octets of the header and of each entry.
pub(super) const ENTRY_OCTETS: usize = 32;
/// Where in an entry its state stands.
pub(super) const STATE_AT: usize = 20;
const MAGIC: &[u8; 8] = b"mshotidx";
/// Since version 2 an entry has engagement and domain.
const VERSION: u32 = 2;
/// In place of the domain of a row that has none.
const NO_DOMAIN: u32 = u32::MAX;
/// The most engaged.
pub const ENGAGEMENT_MAX: u32 = 0x00ff_ffff;
/// Entries read at a time: 8192 × 32 octets are read in some 30 µs and fit the second-level cache.
pub(super) const BLOCK: u32 = 8192;
/// Entries between two wanted ones that are read along rather than cost a call of their own:
/// copying 4 KiB takes less than one `pread` from the page cache (about 0.5 µs).
const GAP: u32 = 128;

numbered! {
    /// Why a row is not sent to. The numbers are on disk: they are only ever added to.
    Reason {
        /// The address is no mailbox.
        InvalidAddress = 1 "invalid_address",
        /// The address field is blank.
        MissingAddress = 2 "missing_address",
        /// An earlier accepted row has the same address.
        Duplicate = 3 "duplicate",
        /// The row is not UTF-8.
        NotUtf8 = 4 "not_utf8",
        /// A column that goes into a header holds a control character, a line break for example.
        UnsafeHeader = 5 "unsafe_header",
        /// The row has more or fewer fields than the header.
        FieldCount = 6 "field_count",
        /// The row exceeds [`crate::limits::ROW_BYTES_MAX`].
        RowTooLong = 7 "row_too_long",
        /// The local part is not ASCII.
        NeedsSmtputf8 = 8 "needs_smtputf8",
        /// A quote that the row opens is never closed, or text follows where it closes lines later.
        UnclosedQuote = 9 "unclosed_quote",
        /// The DNS has no such domain (RFC 1035 §4.1.1: name error).
        NoSuchDomain = 10 "no_such_domain",
        /// The domain says that it takes no mail (RFC 7505).
        NullMx = 11 "null_mx",
        /// The domain exists, but no host with an address takes its mail (RFC 5321 §5.1).
        NoMailHost = 12 "no_mail_host",
    }
}

/// One row as intake found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub row: Row,
    /// Offset of its first octet in the list.
    pub offset: u64,
    /// Octets of the raw record.
    pub len: u32,
    /// The physical line on which it starts, from 1.
    pub line: u32,
    /// CRC-32/ISCSI of the raw record.
    pub check: u32,
    /// Why it is excluded; `None` when it is accepted.
    pub excluded: Option<Reason>,
    /// How engaged the recipient is, up to [`ENGAGEMENT_MAX`]; 0 when nothing is known.
    pub engagement: u32,
    /// Of a duplicate the row that has the address first; else 0.
    pub detail: u32,
    /// The domain of the address; `None` when intake excluded the row.
    pub domain: Option<DomainNo>,
}

impl Entry {
    fn to_octets(self) -> [u8; ENTRY_OCTETS] {
        let mut octets = [0; ENTRY_OCTETS];
        octets[0..8].copy_from_slice(&self.offset.to_le_bytes());
        octets[8..12].copy_from_slice(&self.len.to_le_bytes());
        octets[12..16].copy_from_slice(&self.line.to_le_bytes());
        octets[16..20].copy_from_slice(&self.check.to_le_bytes());
        assert!(self.engagement <= ENGAGEMENT_MAX, "engagement has 24 bits");
        let state = self.excluded.map_or(0, |reason| reason as u8);
        let fourth = self.engagement << 8 | u32::from(state);
        octets[STATE_AT..24].copy_from_slice(&fourth.to_le_bytes());
        octets[24..28].copy_from_slice(&self.detail.to_le_bytes());
        let domain = self.domain.map_or(NO_DOMAIN, |domain| domain.0);
        octets[28..32].copy_from_slice(&domain.to_le_bytes());
        octets
    }

    /// The entry of `row`, as it lies in the index.
    pub(super) fn from_octets(row: Row, octets: &[u8; ENTRY_OCTETS]) -> Result<Entry, IndexError> {
        let excluded = match octets[STATE_AT] {
            0 => None,
            number => Some(Reason::from_number(number).ok_or(IndexError::State { row, number })?),
        };
        let low = u64::from(number_at(octets, 0));
        let high = u64::from(number_at(octets, 4));
        Ok(Entry {
            row,
            offset: high << 32 | low,
            len: number_at(octets, 8),
            line: number_at(octets, 12),
            check: number_at(octets, 16),
            excluded,
            engagement: number_at(octets, STATE_AT) >> 8,
            detail: number_at(octets, 24),
            domain: Some(number_at(octets, 28)).filter(|number| *number != NO_DOMAIN).map(DomainNo),
        })
    }
}

fn number_at(octets: &[u8; ENTRY_OCTETS], at: usize) -> u32 {
    u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// Writes an index, row after row. The caller buffers, and syncs what [`IndexWriter::finish`] gives
/// back.
pub struct IndexWriter<W: Write> {
    out: W,
    rows: u32,
}

impl<W: Write> IndexWriter<W> {
    /// Starts an index in `out`, which is empty.
    ///
    /// # Errors
    /// What writing the place of the header gave.
    pub fn new(mut out: W) -> io::Result<IndexWriter<W>> {
        out.write_all(&[0; ENTRY_OCTETS])?;
        Ok(IndexWriter { out, rows: 0 })
    }

    /// Appends the entry of the next row.
    ///
    /// # Errors
    /// What writing gave; the index is then worth nothing.
    ///
    /// # Panics
    /// When the entry's row does not follow the last one: rows would be mistaken for each other.
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        assert_eq!(entry.row, Row(self.rows + 1), "index entries are written in the order of rows");
        self.rows += 1;
        self.out.write_all(&entry.to_octets())
    }

    /// How many rows were pushed.
    pub fn rows(&self) -> u32 {
        self.rows
    }
}

impl<W: Write + Seek> IndexWriter<W> {
    /// Writes the header, flushes, and gives the file back for the caller to sync.
    ///
    /// # Errors
    /// What seeking and writing gave.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.rows))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The header of a finished index.
pub(super) fn header(rows: u32) -> [u8; ENTRY_OCTETS] {
    let mut header = [0; ENTRY_OCTETS];
    header[0..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&rows.to_le_bytes());
    header
}

/// A finished index, read by position; any number of threads may read at once.
pub struct Index {
    file: File,
    rows: u32,
}

impl Index {
    /// Opens the index at `path`.
    ///
    /// # Errors
    /// [`IndexError`] when it cannot be read, is no index, is unfinished or has a wrong size.
    pub fn open(path: &Path) -> Result<Index, IndexError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut header = [0; ENTRY_OCTETS];
        if size < ENTRY_OCTETS as u64 {
            return Err(IndexError::NotAnIndex);
        }
        file.read_exact_at(&mut header, 0)?;
        if header == [0; ENTRY_OCTETS] {
            return Err(IndexError::Unfinished);
        }
        if !header.starts_with(MAGIC) {
            return Err(IndexError::NotAnIndex);
        }
        let version = number_at(&header, 8);
        if version != VERSION {
            return Err(IndexError::Version { found: version });
        }
        let rows = number_at(&header, 12);
        let expected = (u64::from(rows) + 1) * ENTRY_OCTETS as u64;
        if size != expected {
            return Err(IndexError::Size { expected, found: size });
        }
        Ok(Index { file, rows })
    }

    /// How many rows the list has, excluded ones included.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The entry of one row.
    ///
    /// # Errors
    /// As [`Index::read`].
    pub fn entry(&self, row: Row) -> Result<Entry, IndexError> {
        let mut octets = [0; ENTRY_OCTETS];
        self.known(row)?;
        self.file.read_exact_at(&mut octets, place(row))?;
        Entry::from_octets(row, &octets)
    }

    /// The entries of `rows`, the end excluded, with one read.
    ///
    /// # Errors
    /// [`IndexError`] for a row that the index does not have, a failed read, an unknown state.
    pub fn read(&self, rows: Range<Row>) -> Result<Vec<Entry>, IndexError> {
        if rows.start >= rows.end {
            return Ok(Vec::new());
        }
        self.known(rows.start)?;
        self.known(Row(rows.end.0 - 1))?;
        let mut octets = vec![0; (rows.end.0 - rows.start.0) as usize * ENTRY_OCTETS];
        self.file.read_exact_at(&mut octets, place(rows.start))?;
        let (entries, rest) = octets.as_chunks();
        assert!(rest.is_empty(), "the buffer was made of whole entries");
        (rows.start.0..)
            .zip(entries)
            .map(|(row, octets)| Entry::from_octets(Row(row), octets))
            .collect()
    }

    /// The entries of `rows`, in their order; ascending neighbours are read together.
    ///
    /// # Errors
    /// As [`Index::read`].
    pub fn entries(&self, rows: &[u32]) -> Result<Vec<Entry>, IndexError> {
        let mut entries = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let near = |pair: &[u32]| {
                let [before, after] = [pair[0], pair[1]];
                after > before && after - before <= GAP && after - first < BLOCK
            };
            let run = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let block = self.read(Row(*first)..Row(rest[run - 1].saturating_add(1)))?;
            entries.extend(rest[..run].iter().map(|row| block[(row - first) as usize]));
            rest = &rest[run..];
        }
        Ok(entries)
    }

    /// Shows `by` the entry of every row, in order: for whoever counts or sorts the whole list.
    ///
    /// # Errors
    /// As [`Index::read`]; `by` has then seen the rows before.
    pub fn each(&self, by: &mut dyn FnMut(&Entry)) -> Result<(), IndexError> {
        let mut octets = vec![0; BLOCK.min(self.rows) as usize * ENTRY_OCTETS];
        let mut next = 1;
        while next <= self.rows {
            let count = BLOCK.min(self.rows - next + 1);
            let octets = &mut octets[..count as usize * ENTRY_OCTETS];
            self.file.read_exact_at(octets, place(Row(next)))?;
            for (row, octets) in (next..).zip(octets.as_chunks().0) {
                by(&Entry::from_octets(Row(row), octets)?);
            }
            next += count;
        }
        Ok(())
    }

    fn known(&self, row: Row) -> Result<(), IndexError> {
        if row.0 == 0 || row.0 > self.rows {
            return Err(IndexError::NoRow { row, rows: self.rows });
        }
        Ok(())
    }
}

/// Where the entry of `row` lies; rows count from 1 and the header takes the place of row 0.
pub(super) fn place(row: Row) -> u64 {
    u64::from(row.0) * ENTRY_OCTETS as u64
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The system's error.
    #[error("the recipient index cannot be read")]
    Io(#[from] io::Error),
    /// Another kind of file.
    #[error("the file is no recipient index")]
    NotAnIndex,
    /// Its writer did not get to the end.
    #[error("the recipient index was never finished; intake was interrupted")]
    Unfinished,
    /// Written by another version of this program.
    #[error(
        "the recipient index has version {found}, this program reads {VERSION}; begin a new run"
    )]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// Cut off or grown.
    #[error("the recipient index should have {expected} octets and has {found}")]
    Size {
        /// What header and row count say.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// No such row.
    #[error("there is no row {row}; the list has {rows}")]
    NoRow {
        /// The row asked for.
        row: Row,
        /// How many there are.
        rows: u32,
    },
    /// A damaged entry.
    #[error("the recipient index has the unknown state {number} for row {row}")]
    State {
        /// Whose entry.
        row: Row,
        /// The number found.
        number: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(row: u32, excluded: Option<Reason>) -> Entry {
        Entry {
            row: Row(row),
            offset: 0x0123_4567_89ab_cdef,
            len: 71,
            line: row + 1,
            check: 0xdead_beef,
            excluded,
            engagement: 0x00ab_cdef,
            detail: 9,
            domain: excluded.is_none().then_some(DomainNo(row)),
        }
    }

    fn written(entries: &[Entry]) -> Vec<u8> {
        let mut writer = IndexWriter::new(io::Cursor::new(Vec::new())).unwrap();
        for entry in entries {
            writer.push(entry).unwrap();
        }
        assert_eq!(writer.rows() as usize, entries.len());
        writer.finish().unwrap().into_inner()
    }

    fn opened(octets: &[u8]) -> Result<Index, IndexError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(octets).unwrap();
        Index::open(file.path())
    }

    #[test]
    fn entries_come_back_alone_and_in_ranges() {
        let mut entries = vec![entry(1, None)];
        for reason in Reason::ALL {
            entries.push(entry(u32::from(*reason as u8) + 1, Some(*reason)));
        }
        let index = opened(&written(&entries)).unwrap();
        assert_eq!(index.rows() as usize, entries.len());
        assert_eq!(index.read(Row(1)..Row(14)).unwrap(), entries);
        assert_eq!(index.read(Row(3)..Row(5)).unwrap(), entries[2..4]);
        assert_eq!(index.read(Row(3)..Row(3)).unwrap(), []);
        assert_eq!(index.entry(Row(10)).unwrap(), entries[9]);
        let mut seen = Vec::new();
        index.each(&mut |entry| seen.push(*entry)).unwrap();
        assert_eq!(seen, entries);
    }

    #[test]
    fn picked_rows_come_in_the_order_asked_for() {
        let entries: Vec<Entry> = (1..=3 * BLOCK).map(|row| entry(row, None)).collect();
        let index = opened(&written(&entries)).unwrap();
        let far = 2 + BLOCK;
        for rows in [
            vec![],
            vec![7],
            vec![3, 4, 9, 9, 8, far, 1, 2 + GAP, 3 + 2 * GAP],
            (1..=3 * BLOCK).collect(),
            (1..=3 * BLOCK).rev().step_by(1000).collect(),
        ] {
            let expected: Vec<Entry> = rows.iter().map(|row| entries[*row as usize - 1]).collect();
            assert_eq!(index.entries(&rows).unwrap(), expected);
        }
        let none = index.entries(&[1, 3 * BLOCK + 1]).unwrap_err().to_string();
        assert_eq!(none, "there is no row 24577; the list has 24576");
        let mut seen = Vec::new();
        index.each(&mut |entry| seen.push(*entry)).unwrap();
        assert!(seen == entries);
    }

    #[test]
    fn the_format_is_the_one_drawn_above() {
        let octets = written(&[entry(1, Some(Reason::Duplicate)), entry(2, None)]);
        let mut expected = b"mshotidx\x02\0\0\0\x02\0\0\0".to_vec();
        expected.extend([0; 16]);
        expected.extend(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x47\0\0\0\x02\0\0\0\xef\xbe\xad\xde");
        expected.extend(b"\x03\xef\xcd\xab\x09\0\0\0\xff\xff\xff\xff");
        expected.extend(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x47\0\0\0\x03\0\0\0\xef\xbe\xad\xde");
        expected.extend(b"\0\xef\xcd\xab\x09\0\0\0\x02\0\0\0");
        assert_eq!(octets, expected);
    }

    #[test]
    fn what_is_no_sound_index_is_refused() {
        let good = written(&[entry(1, None), entry(2, None)]);
        let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = good.clone();
            change(&mut octets);
            opened(&octets).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(refusal(&|o| o.truncate(20)), "the file is no recipient index");
        assert_eq!(refusal(&|o| o[0] = b'M'), "the file is no recipient index");
        assert_eq!(
            refusal(&|o| o[..32].fill(0)),
            "the recipient index was never finished; intake was interrupted"
        );
        assert_eq!(
            refusal(&|o| o[8] = 1),
            "the recipient index has version 1, this program reads 2; begin a new run"
        );
        assert_eq!(
            refusal(&|o| o.truncate(95)),
            "the recipient index should have 96 octets and has 95"
        );
    }

    #[test]
    fn unknown_rows_and_states_are_errors() {
        let mut octets = written(&[entry(1, None), entry(2, None)]);
        octets[64 + 20] = 200;
        let index = opened(&octets).unwrap();
        for (rows, expected) in [
            (Row(0)..Row(1), "there is no row 0; the list has 2"),
            (Row(1)..Row(4), "there is no row 3; the list has 2"),
            (Row(1)..Row(3), "the recipient index has the unknown state 200 for row 2"),
        ] {
            assert_eq!(index.read(rows).unwrap_err().to_string(), expected);
        }
        assert_eq!(
            index.entry(Row(3)).unwrap_err().to_string(),
            "there is no row 3; the list has 2"
        );
    }

    #[test]
    #[should_panic(expected = "in the order of rows")]
    fn rows_cannot_be_left_out() {
        let mut writer = IndexWriter::new(Vec::new()).unwrap();
        writer.push(&entry(2, None)).unwrap();
    }
}
