//! segment — one mapped file full of messages, filled by one stage and drained by the next.
//!
//! ```text
//!  0 magic "msSPOOL1"   8 version u32   12 records u32   16 run tag u64   24 sequence u64
//! 32 records, one after the other
//! ```
//!
//! The header is for [`dump`](super::dump); the segment itself keeps the offsets of its records
//! beside the mapping.

use std::ops::Range;

use memmap2::MmapMut;

use super::record::{self, Damaged, Flaw, Form, Record, RecordHead};

/// Octets of a segment before its first record.
pub(super) const HEADER: usize = 32;
/// The first octets of a segment file.
pub(super) const MAGIC: [u8; 8] = *b"msSPOOL1";
/// The version of this format.
pub(super) const VERSION: u32 = 1;

const RECORDS_AT: Range<usize> = 12..16;

/// A message did not fit; it goes to the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {needed} octets does not fit the {left} octets left in the segment")]
pub struct Full {
    /// Octets of its record.
    pub needed: usize,
    /// Octets that were left.
    pub left: usize,
}

/// A segment of the spool.
#[derive(Debug)]
pub struct Segment {
    number: usize,
    run_tag: u64,
    /// How often it was cleared.
    sequence: u64,
    mapping: MmapMut,
    end: usize,
    offsets: Vec<u32>,
}

impl Segment {
    /// An empty segment over a mapping of a preallocated file.
    pub(super) fn over(mapping: MmapMut, number: usize, run_tag: u64) -> Segment {
        let offsets = Vec::new();
        let mut segment = Segment { number, run_tag, sequence: 0, mapping, end: HEADER, offsets };
        segment.clear();
        segment
    }

    /// The number in its file's name.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.sequence += 1;
        self.end = HEADER;
        self.offsets.clear();
        let header = &mut self.mapping[..HEADER];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[RECORDS_AT].fill(0);
        header[16..24].copy_from_slice(&self.run_tag.to_le_bytes());
        header[24..32].copy_from_slice(&self.sequence.to_le_bytes());
    }

    /// Appends a message, whose octets come in `parts` (signature headers, then the rest).
    ///
    /// # Errors
    /// [`Full`], the segment is as before. A message within
    /// [`MESSAGE_MAX`](crate::limits::MESSAGE_MAX) always fits an empty segment.
    ///
    /// # Panics
    /// When the message does not end with CRLF or has a line that begins with a dot.
    pub fn push(
        &mut self,
        head: RecordHead,
        mail_from: &str,
        rcpt_to: &str,
        parts: &[&[u8]],
    ) -> Result<(), Full> {
        let needed = record::size(mail_from, rcpt_to, parts);
        let left = self.mapping.len() - self.end;
        if needed > left {
            return Err(Full { needed, left });
        }
        let octets = &mut self.mapping[self.end..self.end + needed];
        record::put(octets, &head, mail_from, rcpt_to, parts);
        self.offsets.push(u32::try_from(self.end).expect("create bounds segments to 4 GiB"));
        self.end += needed;
        let records = u32::try_from(self.offsets.len()).expect("each has at least 48 octets");
        self.mapping[RECORDS_AT].copy_from_slice(&records.to_le_bytes());
        Ok(())
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Message `index`, from 0, in the order of pushing.
    ///
    /// # Panics
    /// When there is none, or when its octets changed; [`verify`](Segment::verify) it first.
    pub fn record(&self, index: usize) -> Record<'_> {
        let octets = self.octets(index);
        self.form(index).record(octets).expect("verify comes before the first use of a record")
    }

    /// Whether message `index` is what was pushed. Looked at before its first octet leaves.
    ///
    /// # Errors
    /// [`Damaged`]: memory, or somebody who writes to the file.
    ///
    /// # Panics
    /// When there is none.
    pub fn verify(&self, index: usize) -> Result<(), Damaged> {
        let octets = self.octets(index);
        let verified = match Form::of(octets).filter(|form| form.length == octets.len()) {
            Some(form) => form.verify(octets),
            None => Err(Flaw::Form),
        };
        verified.map_err(|flaw| Damaged {
            segment: self.number,
            record: index,
            offset: self.start(index),
            flaw,
        })
    }

    /// Where in [`bytes`](Segment::bytes) the octets of message `index` are, for those who send
    /// straight from the mapping.
    ///
    /// # Panics
    /// As [`record`](Segment::record).
    pub fn message_range(&self, index: usize) -> Range<usize> {
        let start = self.start(index);
        let message = self.form(index).message();
        start + message.start..start + message.end
    }

    /// The whole mapping. It stays at its address until the segment is dropped, wherever the
    /// segment itself is moved.
    pub fn bytes(&self) -> &[u8] {
        &self.mapping
    }

    fn start(&self, index: usize) -> usize {
        usize::try_from(self.offsets[index]).expect("32 bits fit a usize on Linux")
    }

    fn octets(&self, index: usize) -> &[u8] {
        let end = if index + 1 < self.len() { self.start(index + 1) } else { self.end };
        &self.mapping[self.start(index)..end]
    }

    fn form(&self, index: usize) -> Form {
        Form::of(self.octets(index)).expect("verify comes before the first use of a record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::SiteNo;
    use crate::outcome::Row;
    use crate::spool::{create, dump};
    use crate::units::Utc;

    fn head(row: u32) -> RecordHead {
        RecordHead {
            row: Row(row),
            attempt: 1,
            spooled: Utc(5),
            first_attempt: None,
            site: SiteNo(0),
            source: None,
        }
    }

    fn segment(bytes: usize) -> (tempfile::TempDir, Segment) {
        let dir = tempfile::tempdir().unwrap();
        let segment = create(dir.path(), 42, 1, bytes).unwrap().remove(0);
        (dir, segment)
    }

    #[test]
    fn a_segment_takes_what_fits_and_is_recycled() {
        let (_dir, mut segment) = segment(HEADER + 2 * 72);
        for round in 0..3 {
            for row in 1..=2 {
                segment.push(head(row), "a@b", "c@d", &[b"hello\r\n", b"world\r\n"]).unwrap();
            }
            let full = segment.push(head(3), "", "", &[b"\r\n"]).unwrap_err();
            assert_eq!(full, Full { needed: 56, left: 0 }, "round {round}");
            assert_eq!(segment.len(), 2);
            let record = segment.record(1);
            assert_eq!((record.head.row, record.mail_from, record.rcpt_to), (Row(2), "a@b", "c@d"));
            assert_eq!(record.message, b"hello\r\nworld\r\n");
            assert_eq!(&segment.bytes()[segment.message_range(1)], record.message);
            assert_eq!((segment.verify(0), segment.verify(1)), (Ok(()), Ok(())));
            segment.clear();
            assert!(segment.is_empty());
        }
    }

    #[test]
    fn a_segment_stays_in_place_when_it_moves() {
        let (_dir, mut segment) = segment(4096);
        segment.push(head(1), "", "c@d", &[b"hello\r\n"]).unwrap();
        let before = segment.bytes().as_ptr();
        let moved = std::thread::spawn(move || segment).join().unwrap();
        assert_eq!(moved.bytes().as_ptr(), before);
        assert_eq!(moved.record(0).message, b"hello\r\n");
    }

    #[test]
    fn every_flipped_bit_is_found_before_it_leaves() {
        let (_dir, mut segment) = segment(4096);
        for row in 1..=3 {
            segment.push(head(row), "a@b", "c@d", &[b"hello\r\n"]).unwrap();
        }
        let (start, end) = (segment.start(1), segment.start(2));
        for bit in start * 8..end * 8 {
            segment.mapping[bit / 8] ^= 1 << (bit % 8);
            let damaged = segment.verify(1).unwrap_err();
            assert_eq!((damaged.segment, damaged.record, damaged.offset), (0, 1, start));
            assert_eq!((segment.verify(0), segment.verify(2)), (Ok(()), Ok(())));
            segment.mapping[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(segment.verify(1), Ok(()));
    }

    #[test]
    fn a_viewer_sees_what_the_file_holds() {
        let (dir, mut segment) = segment(4096);
        segment.push(head(1), "a@b", "c@d", &[b"old\r\n"]).unwrap();
        segment.push(head(2), "a@b", "c@d", &[b"older\r\n"]).unwrap();
        segment.clear();
        segment.push(head(3), "a@b", "c@d", &[b"new\r\n"]).unwrap();
        segment.push(head(4), "a@b", "c@d", &[b"damaged\r\n"]).unwrap();
        let at = segment.message_range(1).start;
        segment.mapping[at] ^= 1;
        let seen = dump(&dir.path().join("000000.seg")).unwrap();
        assert_eq!((seen.run_tag, seen.sequence), (42, 2));
        let records: Vec<_> = seen.records().collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0], Ok(segment.record(0)));
        assert!(matches!(records[1], Err(Damaged { record: 1, offset: 96, .. })), "{records:?}");
    }
}
