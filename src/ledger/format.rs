//! format — the file header and the frame of the ledger as octets, and the search for frames.
//!
//! All numbers are little-endian, everything is aligned to 8 octets, and checksums are CRC-32C
//! (RFC 3720 appendix B.4). Reading never fails: what is not a header or frame is simply not found,
//! and `replay` decides what that means. `docs/formats.md` draws it.

use crc_fast::crc32_iscsi;
use memchr::memmem;

use super::FileNumber;
use crate::units::Utc;

/// Octets of the file header.
pub(super) const FILE_HEADER: usize = 128;
/// Octets of a frame before its records.
pub(super) const FRAME_HEADER: usize = 40;
/// The version of this format: 2 since outcomes name their provider, rule and limit.
pub(super) const VERSION: u32 = 2;
/// Octets of a run id that fit the file header.
pub const RUN_ID_MAX: usize = 76;

const FILE_MAGIC: [u8; 8] = *b"msLEDGER";
/// No UTF-8 text contains 0xFF, so no reply of a server can look like a frame.
const FRAME_MAGIC: [u8; 4] = [0xFF, b'F', b'r', 0xFF];
const CHECKSUM_AT: usize = FILE_HEADER - 4;
const RUN_AT: usize = CHECKSUM_AT - RUN_ID_MAX;

const _: () = assert!(RUN_AT == 48 && FRAME_HEADER.is_multiple_of(8));

/// The first octets of every file; written and synced before the file takes its first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) version: u32,
    pub(super) number: FileNumber,
    /// Which start of the run made this file, from 1.
    pub(super) start: u32,
    /// The sequence of the first frame of that start.
    pub(super) base: u64,
    /// Frames before `base` that replay had found lost when that start began.
    pub(super) lost: u64,
    /// When the file was made.
    pub(super) made: Utc,
    pub(super) run_id: String,
}

impl FileHeader {
    /// The header as octets.
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        assert!(self.run_id.len() <= RUN_ID_MAX, "a run id has at most {RUN_ID_MAX} octets");
        let length = u32::try_from(self.run_id.len()).expect("checked above");
        let mut octets = Vec::with_capacity(FILE_HEADER);
        octets.extend_from_slice(&FILE_MAGIC);
        octets.extend_from_slice(&self.version.to_le_bytes());
        octets.extend_from_slice(&self.number.0.to_le_bytes());
        octets.extend_from_slice(&self.start.to_le_bytes());
        octets.extend_from_slice(&length.to_le_bytes());
        octets.extend_from_slice(&self.base.to_le_bytes());
        octets.extend_from_slice(&self.lost.to_le_bytes());
        octets.extend_from_slice(&self.made.0.to_le_bytes());
        octets.extend_from_slice(self.run_id.as_bytes());
        octets.resize(CHECKSUM_AT, 0);
        let checksum = crc32_iscsi(&octets);
        octets.extend_from_slice(&checksum.to_le_bytes());
        octets.try_into().expect("the header has exactly its size")
    }

    /// The header at the beginning of `file`, if its magic and checksum hold.
    pub(super) fn decode(file: &[u8]) -> Option<FileHeader> {
        let octets = file.get(..FILE_HEADER)?;
        let (covered, checksum) = octets.split_at(CHECKSUM_AT);
        if crc32_iscsi(covered).to_le_bytes() != checksum {
            return None;
        }
        let mut octets = Octets(covered);
        if octets.take()? != FILE_MAGIC {
            return None;
        }
        let version = octets.u32()?;
        let number = FileNumber(octets.u32()?);
        let start = octets.u32()?;
        let length = usize::try_from(octets.u32()?).ok()?;
        let (base, lost, made) = (octets.u64()?, octets.u64()?, Utc(octets.i64()?));
        let run_id = octets.text(length)?.to_owned();
        Some(FileHeader { version, number, start, base, lost, made, run_id })
    }
}

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Where in the file it begins.
    pub(super) offset: usize,
    /// Its number in the ledger, from 1.
    pub(super) sequence: u64,
    /// The highest sequence known to be on disk when it was written.
    pub(super) synced: u64,
    /// When it was committed.
    pub(super) time: Utc,
    /// How many records it holds.
    pub(super) records: u32,
    /// The records.
    pub(super) body: &'a [u8],
}

/// Fills in the head of a frame whose records begin at [`FRAME_HEADER`].
pub(super) fn seal(octets: &mut [u8], sequence: u64, synced: u64, time: Utc, records: u32) {
    let length = u32::try_from(octets.len()).expect("a frame is bounded by FRAME_BYTES_MAX");
    octets[0..4].copy_from_slice(&FRAME_MAGIC);
    octets[8..12].copy_from_slice(&length.to_le_bytes());
    octets[12..16].copy_from_slice(&records.to_le_bytes());
    octets[16..24].copy_from_slice(&sequence.to_le_bytes());
    octets[24..32].copy_from_slice(&synced.to_le_bytes());
    octets[32..40].copy_from_slice(&time.0.to_le_bytes());
    let checksum = crc32_iscsi(&octets[8..]);
    octets[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The frame that begins at `offset` of `file`, if one does.
fn frame_at(file: &[u8], offset: usize) -> Option<Frame<'_>> {
    let rest = file.get(offset..)?;
    let mut head = Octets(rest);
    if head.take()? != FRAME_MAGIC {
        return None;
    }
    let checksum = head.u32()?;
    let length = usize::try_from(head.u32()?).ok()?;
    if length < FRAME_HEADER || !length.is_multiple_of(8) {
        return None;
    }
    let frame = rest.get(..length)?;
    if crc32_iscsi(&frame[8..]) != checksum {
        return None;
    }
    let records = head.u32()?;
    let (sequence, synced, time) = (head.u64()?, head.u64()?, Utc(head.i64()?));
    Some(Frame { offset, sequence, synced, time, records, body: &frame[FRAME_HEADER..] })
}

/// What stands in a file one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// From here to the next piece, or to the end, there is something that is no frame.
    Broken { offset: usize },
}

/// The pieces of a file after its header.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'a> {
    file: &'a [u8],
    offset: usize,
}

impl<'a> Pieces<'a> {
    /// Begins after the header.
    pub(super) fn of(file: &'a [u8]) -> Pieces<'a> {
        Pieces { file, offset: FILE_HEADER.min(file.len()) }
    }

    /// How far it has read; at the end, where the preallocated zeros begin.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let offset = self.offset;
        if let Some(frame) = frame_at(self.file, offset) {
            self.offset += FRAME_HEADER + frame.body.len();
            return Some(Piece::Frame(frame));
        }
        if is_zero(&self.file[offset..]) {
            return None;
        }
        self.offset = next_frame(self.file, offset + 8);
        Some(Piece::Broken { offset })
    }
}

/// Where the next frame begins, at `from` or later; the file's length when there is none.
fn next_frame(file: &[u8], from: usize) -> usize {
    let Some(rest) = file.get(from..) else { return file.len() };
    memmem::find_iter(rest, &FRAME_MAGIC)
        .map(|at| from + at)
        .find(|at| at.is_multiple_of(8) && frame_at(file, *at).is_some())
        .unwrap_or(file.len())
}

/// Whether there is nothing but zeros, as in the preallocated part of a file.
pub(super) fn is_zero(octets: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    octets.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

/// Octets being read from the front; `None` when there are not enough.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl<'a> Octets<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    pub(super) fn text(&mut self, length: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            version: VERSION,
            number: FileNumber(7),
            start: 3,
            base: 1_000,
            lost: 2,
            made: Utc(1_795_284_252_000_000),
            run_id: "01JD8Z6Q4ZK9WX".into(),
        }
    }

    fn frame(sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; FRAME_HEADER];
        octets.extend_from_slice(body);
        seal(&mut octets, sequence, sequence - 1, Utc(5), 1);
        octets
    }

    #[test]
    fn a_header_survives_only_whole() {
        let octets = header().encode();
        assert_eq!(FileHeader::decode(&octets), Some(header()));
        assert_eq!(FileHeader::decode(&octets[..127]), None);
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_survives_only_whole() {
        let octets = frame(9, b"sixteen octets..");
        let whole = frame_at(&octets, 0).unwrap();
        assert_eq!((whole.sequence, whole.synced, whole.time, whole.records), (9, 8, Utc(5), 1));
        assert_eq!(whole.body, b"sixteen octets..");
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(frame_at(&flipped, 0), None, "bit {bit}");
        }
        for length in 0..octets.len() {
            assert_eq!(frame_at(&octets[..length], 0), None, "length {length}");
        }
    }

    #[test]
    fn frames_behind_a_broken_one_are_found() {
        let mut file = header().encode().to_vec();
        for sequence in 1..=3 {
            file.extend_from_slice(&frame(sequence, b"eight..."));
        }
        file.resize(1024, 0);
        file[FILE_HEADER + 48 + 20] ^= 1;
        let mut pieces = Pieces::of(&file);
        let seen: Vec<_> = pieces
            .by_ref()
            .map(|piece| match piece {
                Piece::Frame(frame) => ("frame", frame.offset, frame.sequence),
                Piece::Broken { offset } => ("broken", offset, 0),
            })
            .collect();
        assert_eq!(seen, [("frame", 128, 1), ("broken", 176, 0), ("frame", 224, 3)]);
        assert_eq!(pieces.offset(), 272);
    }

    #[test]
    fn zeros_end_a_file_and_anything_else_breaks_it() {
        let mut file = vec![0; 1000];
        assert_eq!(Pieces::of(&file).next(), None);
        file[999] = 1;
        assert_eq!(Pieces::of(&file).next(), Some(Piece::Broken { offset: 128 }));
        assert_eq!(Pieces::of(&[]).next(), None);
        assert_eq!(Pieces::of(&file[..130]).next(), None);
    }
}
