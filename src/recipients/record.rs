//! record — one CSV record out of octets: its fields, its end, its quotes, its lines.
//!
//! `csv-core` does the parsing. Each record is parsed from the parser's initial state, so that the
//! octets of a record alone always give the fields that they gave within the file; intake and
//! rendering rely on that. Nothing here can fail: csv-core prefers any parse to none, and
//! [`field_starts`] tells whether the quotes are those of CSV.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// The UTF-8 byte order mark. csv-core skips it at the start of what it is given.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Parses single records and keeps the fields of the last one.
pub(super) struct Parser {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    /// The record has more fields than `ends` has room for.
    over: bool,
}

impl Parser {
    /// A parser for records of up to `columns` fields.
    pub(super) fn new(delimiter: u8, columns: usize) -> Parser {
        Parser {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            text: vec![0; 4096],
            // One more than wanted, so that a single field too many is seen as such.
            ends: vec![0; columns + 1],
            count: 0,
            over: false,
        }
    }

    /// Parses the record at the start of `octets`; its length there, line end included.
    ///
    /// Of a CRLF only the CR belongs to the record. `None` when the octets stop before the record
    /// does; with `last` they are all there are, and `None` means that they hold no record.
    pub(super) fn parse(&mut self, octets: &[u8], last: bool) -> Option<usize> {
        self.reader.reset();
        (self.count, self.over) = (0, false);
        let (mut read, mut written) = (0, 0);
        while last || read < octets.len() {
            let (result, taken, put, ended) = self.reader.read_record(
                &octets[read..],
                &mut self.text[written..],
                &mut self.ends[self.count..],
            );
            (read, written, self.count) = (read + taken, written + put, self.count + ended);
            match result {
                ReadRecordResult::Record => return Some(read),
                ReadRecordResult::End => return None,
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => (self.count, self.over) = (0, true),
            }
        }
        None
    }

    /// How many fields the last record has, `None` when there was no room to count them.
    pub(super) fn count(&self) -> Option<usize> {
        (!self.over).then_some(self.count)
    }

    /// A field of the last record, unquoted.
    pub(super) fn field(&self, column: usize) -> Option<&[u8]> {
        let ends = if self.over { &[][..] } else { &self.ends[..self.count] };
        let end = *ends.get(column)?;
        let start = if column == 0 { 0 } else { ends[column - 1] };
        Some(&self.text[start..end])
    }
}

/// How the quotes of a record are wrong (RFC 4180 §2 rule 5). csv-core takes both for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadQuote {
    /// It is never closed.
    Open,
    /// It is closed, and text follows: `"a"b`.
    Followed,
}

/// Where the fields of a record start, quotes included.
///
/// # Errors
/// The first wrong quote.
pub(super) fn field_starts(record: &[u8], delimiter: u8) -> Result<Vec<usize>, BadQuote> {
    let mut starts = Vec::new();
    let mut at = if record.starts_with(BOM) { BOM.len() } else { 0 };
    loop {
        starts.push(at);
        if record.get(at) == Some(&b'"') {
            at = after_quote(record, at + 1).ok_or(BadQuote::Open)?;
        } else {
            let rest = &record[at..];
            at += memchr::memchr3(delimiter, b'\r', b'\n', rest).unwrap_or(rest.len());
        }
        match record.get(at) {
            Some(octet) if *octet == delimiter => at += 1,
            None | Some(b'\r' | b'\n') => return Ok(starts),
            Some(_) => return Err(BadQuote::Followed),
        }
    }
}

/// The offset after the quote that closes a field whose content starts at `at`.
fn after_quote(record: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'"', &record[at..])? + 1;
        if record.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Counts physical lines over consecutive pieces: LF, CR and CRLF each end one.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// The line on which the next octet stands, from 1.
    pub(super) line: u32,
    /// The octet before was a CR, so that an LF now belongs to it.
    pub(super) after_cr: bool,
}

impl Lines {
    /// Moves behind `octets`.
    pub(super) fn pass(&mut self, octets: &[u8]) {
        for at in memchr::memchr2_iter(b'\r', b'\n', octets) {
            let before_is_cr = if at == 0 { self.after_cr } else { octets[at - 1] == b'\r' };
            let second_half = octets[at] == b'\n' && before_is_cr;
            self.line = self.line.saturating_add(u32::from(!second_half));
        }
        if let Some(last) = octets.last() {
            self.after_cr = *last == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(parser: &Parser) -> Vec<&str> {
        let count = parser.count().unwrap();
        (0..count).map(|at| std::str::from_utf8(parser.field(at).unwrap()).unwrap()).collect()
    }

    #[test]
    fn records_end_where_csv_says() {
        for (octets, last, expected) in [
            ("a,b\nc", false, Some((4, vec!["a", "b"]))),
            ("a,b\r\nc", false, Some((4, vec!["a", "b"]))),
            ("a,b", false, None),
            ("a,b", true, Some((3, vec!["a", "b"]))),
            ("a,", true, Some((2, vec!["a", ""]))),
            ("\"x\ny\",\"q\"\"q\"\n", false, Some((13, vec!["x\ny", "q\"q"]))),
            ("\u{feff}a,b\n", false, Some((7, vec!["a", "b"]))),
            ("", true, None),
            ("", false, None),
        ] {
            let mut parser = Parser::new(b',', 2);
            let length = parser.parse(octets.as_bytes(), last);
            assert_eq!(length.map(|length| (length, fields(&parser))), expected, "{octets:?}");
        }
    }

    #[test]
    fn too_many_fields_are_noticed_and_do_not_end_the_record_early() {
        let mut parser = Parser::new(b',', 2);
        assert_eq!(parser.parse(b"a,b,c\nx", false), Some(6));
        assert_eq!(parser.count(), Some(3));
        assert_eq!(parser.parse(b"a,b,c,d,e,f\nx", false), Some(12));
        assert_eq!((parser.count(), parser.field(0)), (None, None));
        assert_eq!(parser.parse(b"a,b,c,d", true), Some(7));
        assert_eq!(parser.count(), None);
    }

    #[test]
    fn long_fields_grow_the_room() {
        let long = "x".repeat(100_000);
        let mut parser = Parser::new(b';', 2);
        assert_eq!(parser.parse(format!("{long};y\n").as_bytes(), false), Some(100_003));
        assert_eq!(fields(&parser), [&long, "y"]);
    }

    #[test]
    fn quotes_close_or_not() {
        for (record, expected) in [
            ("a,b\n", Ok(vec![0, 2])),
            ("\"a\",\"b\"\r", Ok(vec![0, 4])),
            ("\"a\"\"\",b", Ok(vec![0, 6])),
            ("\"\",\"\"", Ok(vec![0, 3])),
            ("\u{feff}a,b", Ok(vec![3, 5])),
            ("a,\"b,\nc\"\n", Ok(vec![0, 2])),
            ("a, \"b\"c\n", Ok(vec![0, 2])),
            ("", Ok(vec![0])),
            ("a,\"b", Err(BadQuote::Open)),
            ("a,\"b\"\"", Err(BadQuote::Open)),
            ("a,\"b\"c\n", Err(BadQuote::Followed)),
            ("a,\"Jane\njohn,\"John\"\n", Err(BadQuote::Followed)),
        ] {
            assert_eq!(field_starts(record.as_bytes(), b','), expected, "{record:?}");
        }
    }

    #[test]
    fn lines_are_counted_across_pieces() {
        let mut lines = Lines { line: 1, after_cr: false };
        for (piece, expected) in
            [("a\n", 2), ("b\r", 3), ("\nc", 3), ("\r\n\r\n", 5), ("\r\r", 7), ("", 7), ("\n", 7)]
        {
            lines.pass(piece.as_bytes());
            assert_eq!(lines.line, expected, "{piece:?}");
        }
    }
}
