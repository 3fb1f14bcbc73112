//! records — the raw records of a list, one after the other, each with its place in the file.
//!
//! Reads by position in fixed chunks and hashes what it reads, so one pass gives the records and
//! the digest of the whole file. A record always lies in the buffer in one piece; only one of at
//! most [`ROW_BYTES_MAX`] octets plus one chunk is ever held.
//!
//! Lines without any octet are no records. A quote that is never closed would swallow the rest of
//! the file, and one that is closed by the next row's opening quote swallows rows unseen. So a
//! record that exceeds [`ROW_BYTES_MAX`], whose quote is still open at the end of the file, or that
//! spans lines and has text after a closing quote, is cut back: it is reported as damaged with its
//! first line only, and reading goes on at the start of the next line. What the quote had swallowed
//! is thus read as rows of its own. This costs each octet at most one more reading: an open quote
//! swallows only lines in which every run of quotes is even, and such lines open none themselves.
//! Text after a closing quote within one line harms no other row; it is read as csv-core reads it.
//!
//! Fails only with the system's errors. Fields are the business of [`super::record`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use aws_lc_rs::digest;

use super::index::Reason;
use super::layout::Layout;
use super::record::{BadQuote, Lines, Parser, field_starts};
use crate::limits::ROW_BYTES_MAX;

/// Octets read at once: large enough that the system call is lost in the parsing, small enough for
/// the second-level cache.
pub(super) const CHUNK_OCTETS: usize = 256 << 10;

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of its first octet in the file.
    pub(super) offset: u64,
    /// Octets, the line end included; of a damaged record those of its first line.
    pub(super) len: u32,
    /// The physical line on which it starts.
    pub(super) line: u32,
    /// Why it could not be read as a record: too long, or a quote that does not close.
    pub(super) damage: Option<Reason>,
}

/// A list being read.
pub(super) struct Records<'a> {
    list: &'a File,
    delimiter: u8,
    chunk: usize,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first octet.
    base: u64,
    /// How much of the buffer is done with.
    start: usize,
    /// Octets after `start` that belong to the record given out last.
    given: usize,
    /// The rest of the line after the record given out is to be passed over.
    cut: bool,
    /// The buffer reaches to the end of the file.
    ended: bool,
    lines: Lines,
    digest: digest::Context,
}

impl<'a> Records<'a> {
    /// The records after the header, read in chunks of `chunk` octets.
    pub(super) fn new(list: &'a File, layout: &Layout, chunk: usize) -> io::Result<Records<'a>> {
        assert!(chunk > 0, "a chunk of nothing would never reach the end");
        let mut records = Records {
            list,
            delimiter: layout.delimiter,
            chunk,
            buffer: Vec::with_capacity(2 * chunk),
            base: 0,
            start: 0,
            given: 0,
            cut: false,
            ended: false,
            lines: Lines { line: layout.first_line, after_cr: false },
            digest: digest::Context::new(&digest::SHA256),
        };
        let data = usize::try_from(layout.data).unwrap_or(usize::MAX);
        while records.buffer.len() < data && !records.ended {
            records.fill()?;
        }
        records.start = data.min(records.buffer.len());
        records.lines.after_cr = records.buffer[..records.start].ends_with(b"\r");
        Ok(records)
    }

    /// The next record, its fields left in `parser`; `None` at the end of the file.
    pub(super) fn next(&mut self, parser: &mut Parser) -> io::Result<Option<Span>> {
        self.pass(self.given);
        self.given = 0;
        if std::mem::take(&mut self.cut) {
            self.pass_while(|octet| !matches!(octet, b'\r' | b'\n'))?;
        }
        self.pass_while(|octet| matches!(octet, b'\r' | b'\n'))?;
        loop {
            let octets = &self.buffer[self.start..];
            let ended_by_line = parser.parse(octets, false);
            let parsed = match ended_by_line {
                None if self.ended => parser.parse(octets, true),
                parsed => parsed,
            };
            match parsed {
                None if octets.len() <= ROW_BYTES_MAX && self.ended => return Ok(None),
                None if octets.len() <= ROW_BYTES_MAX => self.fill()?,
                Some(len) if len <= ROW_BYTES_MAX => {
                    let swallows = self.swallows(&octets[..len], ended_by_line.is_none());
                    return Ok(Some(match swallows {
                        true => self.cut_back(Reason::UnclosedQuote),
                        false => self.give(len, None),
                    }));
                }
                _ => return Ok(Some(self.cut_back(Reason::RowTooLong))),
            }
        }
    }

    /// The octets of the record that was given out last.
    pub(super) fn raw(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.given]
    }

    /// How many octets of the file were read so far.
    pub(super) fn octets(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// The SHA-256 of the whole file, once [`Records::next`] has given `None`.
    pub(super) fn digest(self) -> [u8; 32] {
        assert!(self.ended, "the digest is that of the whole list");
        let digest = self.digest.finish();
        digest.as_ref().try_into().expect("SHA-256 has 32 octets")
    }

    /// Whether a quote has made more of the list into one record than it should have.
    fn swallows(&self, record: &[u8], at_end_of_file: bool) -> bool {
        let (_, inside) = record.split_last().expect("a record has at least one octet");
        let many_lines = memchr::memchr2(b'\r', b'\n', inside).is_some();
        (many_lines || at_end_of_file)
            && match field_starts(record, self.delimiter) {
                Ok(_) => false,
                Err(BadQuote::Open) => true,
                Err(BadQuote::Followed) => many_lines,
            }
    }

    /// Gives out only the first line of the record at hand.
    fn cut_back(&mut self, damage: Reason) -> Span {
        let octets = &self.buffer[self.start..];
        let octets = &octets[..octets.len().min(ROW_BYTES_MAX)];
        let line = memchr::memchr2(b'\r', b'\n', octets);
        self.cut = line.is_none();
        let len = line.map_or(octets.len(), |end| end + 1);
        self.give(len, Some(damage))
    }

    fn give(&mut self, len: usize, damage: Option<Reason>) -> Span {
        assert!(len <= ROW_BYTES_MAX, "longer records are cut back");
        self.given = len;
        Span {
            offset: self.base + self.start as u64,
            len: u32::try_from(len).expect("ROW_BYTES_MAX is far below 4 GiB"),
            line: self.lines.line,
            damage,
        }
    }

    /// Passes over octets as long as they are such.
    fn pass_while(&mut self, such: impl Fn(u8) -> bool) -> io::Result<()> {
        loop {
            let octets = &self.buffer[self.start..];
            let count = octets.iter().take_while(|octet| such(**octet)).count();
            let stopped = count < octets.len();
            self.pass(count);
            if stopped || self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Is done with the next `count` octets and counts their lines.
    fn pass(&mut self, count: usize) {
        self.lines.pass(&self.buffer[self.start..self.start + count]);
        self.start += count;
    }

    /// Reads one more chunk behind what is not done with.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.base += self.start as u64;
        self.start = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + self.chunk, 0);
        let place = self.base + kept as u64;
        let read = loop {
            match self.list.read_at(&mut self.buffer[kept..], place) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.truncate(kept + read);
        self.digest.update(&self.buffer[kept..]);
        self.ended = read == 0;
        Ok(())
    }
}

const _: () = assert!(ROW_BYTES_MAX < u32::MAX as usize);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The records of `list`, whose header is `e,n`, as (offset, line, raw, damage).
    fn records(list: &[u8], chunk: usize) -> Vec<(u64, u32, String, Option<Reason>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(list).unwrap();
        let layout = Layout {
            delimiter: b',',
            columns: vec!["e".into(), "n".into()],
            address: 0,
            engagement: None,
            data: 4,
            first_line: 2,
        };
        let mut records = Records::new(&file, &layout, chunk).unwrap();
        let mut parser = Parser::new(b',', 2);
        let mut found = Vec::new();
        while let Some(span) = records.next(&mut parser).unwrap() {
            let raw = String::from_utf8_lossy(records.raw()).into_owned();
            assert_eq!(raw.len() as u32, span.len);
            found.push((span.offset, span.line, raw, span.damage));
        }
        assert_eq!(records.octets(), list.len() as u64);
        let expected = digest::digest(&digest::SHA256, list);
        assert_eq!(records.digest(), expected.as_ref());
        found
    }

    /// What is expected, with `None` for damage left to the pairs that have it.
    fn check(list: &str, expected: &[(u64, u32, &str, Option<Reason>)]) {
        for chunk in [1, 2, 3, 5, 7, CHUNK_OCTETS] {
            let found = records(list.as_bytes(), chunk);
            let found: Vec<_> =
                found.iter().map(|(at, line, raw, why)| (*at, *line, raw.as_str(), *why)).collect();
            assert_eq!(found, expected, "{list:?} in chunks of {chunk}");
        }
    }

    #[test]
    fn records_have_their_place_whatever_the_line_ends() {
        check("e,n\na,1\nb,2\n", &[(4, 2, "a,1\n", None), (8, 3, "b,2\n", None)]);
        check("e,n\na,1\r\nb,2\r\n", &[(4, 2, "a,1\r", None), (9, 3, "b,2\r", None)]);
        check("e,n\na,1\rb,2", &[(4, 2, "a,1\r", None), (8, 3, "b,2", None)]);
        check("e,n\n\n\r\na,1\n\n\nb,2", &[(7, 4, "a,1\n", None), (13, 7, "b,2", None)]);
        check("e,n\n", &[]);
        check("e,n\n\r\n\n", &[]);
        check(
            "e,n\na,\"1\r\n2\n3\"\r\nb,2\n",
            &[(4, 2, "a,\"1\r\n2\n3\"\r", None), (16, 5, "b,2\n", None)],
        );
    }

    #[test]
    fn a_quote_left_open_costs_one_line() {
        let open = Some(Reason::UnclosedQuote);
        check(
            "e,n\na,\"1\nb,2\nc,3\n",
            &[(4, 2, "a,\"1\n", open), (9, 3, "b,2\n", None), (13, 4, "c,3\n", None)],
        );
        check(
            "e,n\r\na,\"Jane\r\nb,\"John\"\r\nc,3",
            &[(5, 2, "a,\"Jane\r", open), (14, 3, "b,\"John\"\r", None), (24, 4, "c,3", None)],
        );
        check("e,n\na,\"1", &[(4, 2, "a,\"1", open)]);
        check("e,n\na,\"1\"x", &[(4, 2, "a,\"1\"x", None)]);
        check("e,n\na,\"1\n", &[(4, 2, "a,\"1\n", open)]);
        check("e,n\na,\"1\"x\nb,2\n", &[(4, 2, "a,\"1\"x\n", None), (11, 3, "b,2\n", None)]);
    }

    #[test]
    fn a_row_without_end_is_cut_back_to_its_first_line() {
        let rest = "b,2\n".repeat(ROW_BYTES_MAX / 4 + 10);
        let list = format!("e,n\na,\"1\n{rest}");
        let found = records(list.as_bytes(), CHUNK_OCTETS);
        assert_eq!(found[0], (4, 2, "a,\"1\n".into(), Some(Reason::RowTooLong)));
        assert_eq!(found[1], (9, 3, "b,2\n".into(), None));
        assert_eq!(found.len(), ROW_BYTES_MAX / 4 + 11);
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_limit_and_passed_over() {
        let long = "x".repeat(3 * ROW_BYTES_MAX);
        for chunk in [100_000, CHUNK_OCTETS, 8 << 20] {
            let found = records(format!("e,n\n{long}\nb,2\n").as_bytes(), chunk);
            assert_eq!(found.len(), 2);
            assert_eq!((found[0].1, found[0].2.len()), (2, ROW_BYTES_MAX));
            assert_eq!(found[0].3, Some(Reason::RowTooLong));
            assert_eq!(found[1], (4 + long.len() as u64 + 1, 3, "b,2\n".into(), None));
        }
    }
}
