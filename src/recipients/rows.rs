//! rows — the rows of a list read again, for rendering: in any order, and proved unchanged.
//!
//! [`read_rows`] fetches raw records by their index entries and compares each with the checksum
//! that intake took; [`RowReader`] makes fields of them. A list that was modified under the run is
//! the only thing that can be wrong, and it ends the run: the row numbers mean nothing any more.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crc_fast::crc32_iscsi;
use csv::StringRecord;

use super::index::Entry;
use super::layout::Layout;
use super::record::Parser;
use crate::address::Mailbox;
use crate::limits::ROW_BYTES_MAX;
use crate::outcome::Row;

/// Octets between two records that are read along rather than cost a call of their own: copying so
/// many takes about as long as one `pread` from the page cache (1–2 µs).
const GAP_OCTETS: u64 = 16 << 10;

/// Octets of one read, so that a batch far apart does not fetch the whole list.
const READ_OCTETS: u64 = ROW_BYTES_MAX as u64;

/// A row is no longer what intake saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the list was modified after intake")]
pub struct RowChanged {
    /// The row.
    pub row: Row,
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's error.
    #[error("the list cannot be read")]
    Io(#[from] io::Error),
    /// The list was modified under the run.
    #[error(transparent)]
    Changed(#[from] RowChanged),
}

/// Reads the raw records of `entries` into `buffer`, replacing what was there, and gives the range
/// of each in it, in the order of the entries.
///
/// Neighbours are read together; entries in the order of their rows need the fewest reads.
///
/// # Errors
/// [`ReadError::Changed`] with the first row whose octets are not those that intake saw or are not
/// there, [`ReadError::Io`] otherwise.
pub fn read_rows(
    list: &File,
    entries: &[Entry],
    buffer: &mut Vec<u8>,
) -> Result<Vec<Range<usize>>, ReadError> {
    buffer.clear();
    let mut ranges = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while let Some((start, end, run)) = neighbours(rest) {
        let at = buffer.len();
        let span = usize::try_from(end - start).expect("a run is at most READ_OCTETS or one row");
        buffer.resize(at + span, 0);
        let found = at + read_up_to(list, &mut buffer[at..], start)?;
        for entry in &rest[..run] {
            let from = at + (entry.offset - start) as usize;
            let range = from..from + entry.len as usize;
            if range.end > found || crc32_iscsi(&buffer[range.clone()]) != entry.check {
                return Err(RowChanged { row: entry.row }.into());
            }
            ranges.push(range);
        }
        rest = &rest[run..];
    }
    Ok(ranges)
}

/// The span of the list that the first entries share, and how many they are.
fn neighbours(entries: &[Entry]) -> Option<(u64, u64, usize)> {
    let first = entries.first()?;
    let start = first.offset;
    let mut end = start + u64::from(first.len);
    let mut count = 1;
    for entry in &entries[1..] {
        let entry_end = entry.offset + u64::from(entry.len);
        let near = entry.offset >= start && entry.offset <= end + GAP_OCTETS;
        if !near || entry_end - start > READ_OCTETS {
            break;
        }
        end = end.max(entry_end);
        count += 1;
    }
    Some((start, end, count))
}

/// Reads until `octets` is full or the file ends; how much was read.
pub(super) fn read_up_to(list: &File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < octets.len() {
        match list.read_at(&mut octets[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(read)
}

/// Makes fields of the raw records of accepted rows.
pub struct RowReader {
    parser: Parser,
    columns: usize,
    address: usize,
}

impl RowReader {
    /// A reader for the list with this layout.
    pub fn new(layout: &Layout) -> RowReader {
        let columns = layout.columns.len();
        RowReader {
            parser: Parser::new(layout.delimiter, columns),
            columns,
            address: layout.address,
        }
    }

    /// Parses the raw octets of accepted row `row` into `fields`, one for each column of the
    /// layout, and gives its mailbox.
    ///
    /// # Errors
    /// [`RowChanged`] when the octets are not those of an accepted row.
    pub fn parse(
        &mut self,
        row: Row,
        raw: &[u8],
        fields: &mut StringRecord,
    ) -> Result<Mailbox, RowChanged> {
        fields.clear();
        self.fill(raw, fields)
            .and_then(|()| Mailbox::parse(fields.get(self.address)?).ok())
            .ok_or(RowChanged { row })
    }

    /// Copies the fields, if they are UTF-8 and as many as there are columns.
    fn fill(&mut self, raw: &[u8], fields: &mut StringRecord) -> Option<()> {
        let length = self.parser.parse(raw, true)?;
        if length != raw.len() || self.parser.count() != Some(self.columns) {
            return None;
        }
        for column in 0..self.columns {
            fields.push_field(std::str::from_utf8(self.parser.field(column)?).ok()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(list: &[u8], row: u32, range: Range<usize>) -> Entry {
        Entry {
            row: Row(row),
            offset: range.start as u64,
            len: range.len() as u32,
            line: 0,
            check: crc32_iscsi(&list[range]),
            excluded: None,
            engagement: 0,
            detail: 0,
            domain: None,
        }
    }

    fn list(octets: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(octets).unwrap();
        file
    }

    #[test]
    fn rows_near_and_far_in_any_order_come_back() {
        let octets: Vec<u8> = (0..3 * ROW_BYTES_MAX).map(|at| (at * 7 + at / 251) as u8).collect();
        let file = list(&octets);
        let ranges = [10..20, 20..29, 60..90, 2_000_000..2_000_009, 40..50, 0..ROW_BYTES_MAX];
        let entries: Vec<_> =
            (1..).zip(ranges.clone()).map(|(row, range)| entry(&octets, row, range)).collect();
        let mut buffer = b"left over".to_vec();
        let found = read_rows(&file, &entries, &mut buffer).unwrap();
        let found: Vec<_> = found.into_iter().map(|range| &buffer[range]).collect();
        let expected: Vec<_> = ranges.into_iter().map(|range| &octets[range]).collect();
        assert_eq!(found, expected);
        assert_eq!(read_rows(&file, &[], &mut buffer).unwrap(), []);
        assert!(buffer.is_empty());
    }

    #[test]
    fn runs_of_neighbours_are_bounded() {
        let far = 100 + GAP_OCTETS as usize;
        let octets = vec![1; 3 * ROW_BYTES_MAX];
        let runs = |ranges: &[Range<usize>]| {
            let entries: Vec<_> =
                ranges.iter().map(|range| entry(&octets, 1, range.clone())).collect();
            neighbours(&entries)
        };
        assert_eq!(runs(&[]), None);
        assert_eq!(runs(&[0..100, 100..200, far..far + 9]), Some((0, far as u64 + 9, 3)));
        assert_eq!(runs(&[0..100, far + 1..far + 9]), Some((0, 100, 1)));
        assert_eq!(runs(&[50..100, 0..50]), Some((50, 100, 1)));
        assert_eq!(runs(&[0..ROW_BYTES_MAX, ROW_BYTES_MAX..ROW_BYTES_MAX + 1]).unwrap().2, 1);
    }

    #[test]
    fn a_modified_or_shortened_list_is_noticed() {
        let octets = b"e,n\na@b.co,1\nc@d.co,2\n";
        let entries = [entry(octets, 1, 4..13), entry(octets, 2, 13..22)];
        let mut buffer = Vec::new();
        let row = |file: &File, buffer: &mut Vec<u8>| match read_rows(file, &entries, buffer) {
            Err(ReadError::Changed(RowChanged { row })) => Some(row),
            _ => None,
        };
        assert_eq!(row(&list(octets), &mut buffer), None);
        assert_eq!(row(&list(b"e,n\na@b.co,1\nc@d.co,3\n"), &mut buffer), Some(Row(2)));
        assert_eq!(row(&list(&octets[..20]), &mut buffer), Some(Row(2)));
        assert_eq!(row(&list(b""), &mut buffer), Some(Row(1)));
    }

    #[test]
    fn fields_and_mailbox_of_a_row() {
        let layout = Layout {
            delimiter: b';',
            columns: vec!["n".into(), "e".into()],
            address: 1,
            engagement: None,
            data: 4,
            first_line: 2,
        };
        let mut reader = RowReader::new(&layout);
        let mut fields = StringRecord::from(vec!["left", "over", "fields"]);
        let mailbox = reader.parse(Row(7), b"\"a;\"\"b\"\"\"; Jane@X.org \r", &mut fields);
        assert_eq!(mailbox.map(|mailbox| mailbox.to_string()).as_deref(), Ok("Jane@x.org"));
        assert_eq!(fields, vec!["a;\"b\"", " Jane@X.org "]);
        for raw in [&b"a;b;c@d.co\n"[..], b"c@d.co", b"a;c\n", b"\xff;c@d.co", b"", b"a;b@c.d\nx"] {
            let changed = reader.parse(Row(7), raw, &mut fields).unwrap_err();
            assert_eq!(changed.to_string(), "row 7 of the list was modified after intake");
        }
    }
}
