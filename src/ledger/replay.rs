//! replay — reads the whole ledger back after any end, and tells a torn tail from lost data.
//!
//! Frames are numbered without gaps over all files. Where one cannot be read, the frames after it
//! decide: when any of them (of the same start of the run) was written in the knowledge that the
//! unreadable one was on disk, the medium lost durable data and replay refuses. Otherwise the
//! power failed before a sync, and the kernel had written later pages before earlier ones: what
//! remains is salvaged, because each whole frame is a true statement.
//!
//! A later start of the run confirms in its headers what it had read and what it knew to be lost,
//! after it made that durable; finding less than that is damage too.

use std::fs;
use std::path::Path;

use super::format::{FileHeader, Frame, Piece, Pieces, is_zero};
use super::{At, Book, Damage, FileNumber, LedgerError, Position, Record, Volume};

/// Where a ledger ends, for the [`Writer`](super::Writer) that continues it. The default is the
/// tail of a ledger that was never begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The highest file number in use.
    pub last_file: FileNumber,
    /// The sequence of the last frame.
    pub last_sequence: u64,
    /// How often the run was started.
    pub starts: u32,
    /// Frames that were torn away over all starts.
    pub lost: u64,
    /// The torn tail of the last start, if it has one.
    pub torn: Option<Torn>,
    /// Files with zeros behind their last frame, and where those begin.
    pub(super) loose: Vec<(FileNumber, u64)>,
}

/// What a power loss, or a kill in the middle of a write, left of the end of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where the first unreadable frame is.
    pub at: At,
    /// Unreadable frames that are known by the numbers of later ones. None of them was durable.
    pub lost: u64,
    /// Whole frames behind the first unreadable one.
    pub salvaged: u64,
}

/// Reads the ledger in `dir` and hands each record to `see`, in the order in which it was noted.
/// An empty directory is a ledger never begun.
///
/// # Errors
/// [`LedgerError::Io`] (also when `dir` is missing), [`LedgerError::Missing`],
/// [`LedgerError::OtherRun`], [`LedgerError::Version`], [`LedgerError::Damaged`]. `see` may have
/// had records by then; they prove nothing.
pub fn replay(
    dir: &Path,
    run_id: &str,
    see: &mut dyn FnMut(At, Record<'_>),
) -> Result<Tail, LedgerError> {
    replay_until(dir, run_id, &mut |at, record| {
        see(at, record);
        Ok(())
    })
}

/// Replays into a book of `rows` rows.
///
/// # Errors
/// As [`replay`], and [`LedgerError::Impossible`] when the records contradict each other.
pub fn recover(dir: &Path, run_id: &str, rows: u32) -> Result<(Book, Tail), LedgerError> {
    recover_seeing(dir, run_id, rows, &mut |_| {})
}

/// As [`recover`], and hands each record to `see` on the way, so that one reading serves both.
///
/// # Errors
/// As [`recover`].
pub fn recover_seeing(
    dir: &Path,
    run_id: &str,
    rows: u32,
    see: &mut dyn FnMut(&Record<'_>),
) -> Result<(Book, Tail), LedgerError> {
    let mut book = Book::new(rows);
    let tail = replay_until(dir, run_id, &mut |at, record| {
        see(&record);
        book.apply(at, &record).map_err(|source| LedgerError::Impossible { at, source })
    })?;
    Ok((book, tail))
}

type See<'a> = &'a mut dyn FnMut(At, Record<'_>) -> Result<(), LedgerError>;

fn replay_until(dir: &Path, run_id: &str, see: See<'_>) -> Result<Tail, LedgerError> {
    let mut chain = Chain::default();
    let last = last_file(dir)?;
    for number in (1..=last.0).map(FileNumber) {
        let volume = Volume::open(dir, run_id, number)?;
        chain.volume(&volume, see)?;
    }
    Ok(chain.tail(last))
}

/// The highest file number in `dir`; all lower ones are there.
fn last_file(dir: &Path) -> Result<FileNumber, LedgerError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(LedgerError::io("listing", dir))? {
        let name = entry.map_err(LedgerError::io("listing", dir))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        if let Some(number) = stem.and_then(|stem| stem.parse::<u32>().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    for (expected, found) in (1..).zip(&numbers) {
        if *found != expected {
            return Err(LedgerError::Missing { path: FileNumber(expected).path(dir) });
        }
    }
    Ok(FileNumber(numbers.last().copied().unwrap_or(0)))
}

/// How far the frames hang together.
#[derive(Debug, Default)]
struct Chain {
    last: u64,
    lost: u64,
    /// The start of the run that is being read, its first frame, and its known losses.
    start: u32,
    base: u64,
    /// The first lost frame of that start.
    first_lost: Option<u64>,
    torn: Option<Torn>,
    loose: Vec<(FileNumber, u64)>,
}

impl Chain {
    fn volume(&mut self, volume: &Volume, see: See<'_>) -> Result<(), LedgerError> {
        let octets = &volume.octets;
        let Some(header) = &volume.header else {
            if is_zero(octets) {
                self.loose.push((volume.number, 0));
            }
            return Ok(());
        };
        self.header(header).map_err(|damage| volume.damaged(0, damage))?;
        let mut pieces = Pieces::of(octets);
        for piece in pieces.by_ref() {
            match piece {
                Piece::Broken { offset } => self.broken(volume.number, offset),
                Piece::Frame(frame) => {
                    let place = |damage| volume.damaged(frame.offset, damage);
                    self.frame(volume.number, &frame).map_err(place)?;
                    for record in volume.records_of(frame) {
                        let (position, record) = record?;
                        see(At { file: volume.number, position }, record)?;
                    }
                }
            }
        }
        if pieces.offset() < octets.len() {
            self.loose.push((volume.number, pieces.offset() as u64));
        }
        Ok(())
    }

    /// A file begins: of this start of the run, or of a later one, which confirms all before it.
    fn header(&mut self, header: &FileHeader) -> Result<(), Damage> {
        let next = self.last + 1;
        if header.start == self.start {
            let (left, found) = (self.base, header.base);
            return if left == found { Ok(()) } else { Err(Damage::Seam { left, found }) };
        }
        if header.start < self.start || header.base != next {
            return Err(Damage::Seam { left: self.last, found: header.base });
        }
        if header.lost != self.lost {
            return Err(Damage::Losses { missing: self.lost, known: header.lost });
        }
        (self.start, self.base) = (header.start, header.base);
        (self.first_lost, self.torn) = (None, None);
        Ok(())
    }

    fn broken(&mut self, file: FileNumber, offset: usize) {
        let at = At { file, position: position(offset) };
        self.torn.get_or_insert(Torn { at, lost: 0, salvaged: 0 });
    }

    fn frame(&mut self, file: FileNumber, frame: &Frame<'_>) -> Result<(), Damage> {
        let expected = self.last + 1;
        let Some(gap) = frame.sequence.checked_sub(expected) else {
            return Err(Damage::Order { expected, found: frame.sequence });
        };
        if gap > 0 {
            self.broken(file, frame.offset);
            self.first_lost.get_or_insert(expected);
            self.lost = self.lost.saturating_add(gap);
        }
        if let Some(sequence) = self.first_lost.filter(|lost| *lost <= frame.synced) {
            return Err(Damage::Durable { sequence, synced: frame.synced });
        }
        if let Some(torn) = &mut self.torn {
            torn.lost = torn.lost.saturating_add(gap);
            torn.salvaged += 1;
        }
        self.last = frame.sequence;
        Ok(())
    }

    fn tail(self, last_file: FileNumber) -> Tail {
        Tail {
            last_file,
            last_sequence: self.last,
            starts: self.start,
            lost: self.lost,
            torn: self.torn,
            loose: self.loose,
        }
    }
}

fn position(offset: usize) -> Position {
    Position(u32::try_from(offset).expect("ledger files are below 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::format::VERSION;
    use crate::units::Utc;

    fn header(start: u32, base: u64, lost: u64) -> FileHeader {
        FileHeader {
            version: VERSION,
            number: FileNumber(start),
            start,
            base,
            lost,
            made: Utc(0),
            run_id: "run".into(),
        }
    }

    fn frame(sequence: u64, synced: u64) -> Frame<'static> {
        Frame { offset: 640, sequence, synced, time: Utc(0), records: 0, body: &[] }
    }

    /// Feeds frames `(sequence, synced)` to a chain that has begun with frame 1.
    fn frames(list: &[(u64, u64)]) -> Result<Chain, Damage> {
        let mut chain = Chain::default();
        chain.header(&header(1, 1, 0))?;
        for (sequence, synced) in list {
            chain.frame(FileNumber(1), &frame(*sequence, *synced))?;
        }
        Ok(chain)
    }

    #[test]
    fn gaps_are_torn_unless_they_were_durable() {
        let whole = frames(&[(1, 0), (2, 1), (3, 2)]).unwrap();
        assert_eq!((whole.last, whole.lost, whole.torn), (3, 0, None));

        let torn = frames(&[(1, 0), (4, 1), (6, 1)]).unwrap();
        let at = At { file: FileNumber(1), position: Position(640) };
        assert_eq!((torn.last, torn.lost), (6, 3));
        assert_eq!(torn.torn, Some(Torn { at, lost: 3, salvaged: 2 }));

        for (list, expected) in [
            (&[(1, 0), (3, 2)][..], Damage::Durable { sequence: 2, synced: 2 }),
            (&[(1, 0), (3, 1), (4, 3)], Damage::Durable { sequence: 2, synced: 3 }),
            (&[(2, 1)], Damage::Durable { sequence: 1, synced: 1 }),
            (&[(1, 0), (1, 0)], Damage::Order { expected: 2, found: 1 }),
        ] {
            assert_eq!(frames(list).unwrap_err(), expected, "{list:?}");
        }
    }

    #[test]
    fn a_later_start_confirms_what_was_read() {
        let list = [(1, 0), (4, 1)];
        let mut chain = frames(&list).unwrap();
        assert_eq!(chain.header(&header(1, 1, 0)), Ok(()), "same start");
        assert_eq!(chain.header(&header(2, 5, 2)), Ok(()), "confirms");
        assert_eq!((chain.torn, chain.first_lost), (None, None));
        assert_eq!(chain.frame(FileNumber(2), &frame(5, 4)), Ok(()), "old gaps are settled");

        for (header, expected) in [
            (header(2, 6, 2), Damage::Seam { left: 4, found: 6 }),
            (header(2, 4, 2), Damage::Seam { left: 4, found: 4 }),
            (header(2, 5, 1), Damage::Losses { missing: 2, known: 1 }),
            (header(1, 2, 0), Damage::Seam { left: 1, found: 2 }),
            (header(0, 5, 2), Damage::Seam { left: 4, found: 5 }),
        ] {
            assert_eq!(frames(&list).unwrap().header(&header), Err(expected), "{header:?}");
        }
    }

    #[test]
    fn an_empty_directory_is_a_ledger_never_begun_and_a_missing_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let see = &mut |_: At, _: Record<'_>| panic!("there is nothing to see");
        assert_eq!(replay(dir.path(), "run", see).unwrap(), Tail::default());
        let missing = replay(&dir.path().join("ledger"), "run", see).unwrap_err();
        assert!(matches!(missing, LedgerError::Io { doing: "listing", .. }), "{missing:?}");
    }
}
