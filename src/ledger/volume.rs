//! volume — one ledger file read back: its records in order, or one of them by its position.
//!
//! A volume is held in memory ([`LEDGER_FILE_BYTES`](crate::limits), more only where no next file
//! could be made) and gives what stands in whole frames; what broken frames mean is for `replay`
//! to say.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::{FRAME_HEADER, FileHeader, Frame, Piece, Pieces, VERSION};
use super::record::{self, Record, decode};
use super::{At, Damage, FileNumber, LedgerError, Position};
use crate::outcome::Outcome;

/// A ledger file in memory.
#[derive(Debug)]
pub struct Volume {
    pub(super) number: FileNumber,
    pub(super) path: PathBuf,
    pub(super) octets: Vec<u8>,
    /// None in a file that a crash left before it was made.
    pub(super) header: Option<FileHeader>,
}

impl Volume {
    /// Reads the file `number` of the run `run_id`.
    ///
    /// # Errors
    /// [`LedgerError::Io`], [`LedgerError::Version`], [`LedgerError::OtherRun`], or
    /// [`LedgerError::Damaged`] when the header is unreadable and frames follow it.
    pub fn open(dir: &Path, run_id: &str, number: FileNumber) -> Result<Volume, LedgerError> {
        let path = number.path(dir);
        let octets = fs::read(&path).map_err(LedgerError::io("reading", &path))?;
        let header = FileHeader::decode(&octets);
        let volume = Volume { number, path, octets, header };
        match &volume.header {
            Some(header) => volume.check(header, run_id)?,
            None if volume.frames().next().is_some() => {
                return Err(volume.damaged(0, Damage::Header));
            }
            None => {}
        }
        Ok(volume)
    }

    fn check(&self, header: &FileHeader, run_id: &str) -> Result<(), LedgerError> {
        if header.version != VERSION {
            let (path, found) = (self.path.clone(), header.version);
            return Err(LedgerError::Version { path, found, known: VERSION });
        }
        if header.run_id != run_id {
            let (expected, found) = (run_id.to_owned(), header.run_id.clone());
            return Err(LedgerError::OtherRun { path: self.path.clone(), expected, found });
        }
        if header.number != self.number {
            return Err(self.damaged(0, Damage::Header));
        }
        Ok(())
    }

    /// The UTC day (since 1970-01-01) of everything in the file; none when it holds no frame.
    pub fn day(&self) -> Option<i64> {
        self.frames().next().map(|frame| frame.time.day())
    }

    /// The records of all whole frames, in the order in which they were noted.
    pub fn records(&self) -> Records<'_> {
        Records { volume: self, pieces: Pieces::of(&self.octets), frame: None }
    }

    /// The outcome at a position that replay gave.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] when no outcome begins there.
    pub fn outcome_at(&self, position: Position) -> Result<Outcome<'_>, LedgerError> {
        let offset = usize::try_from(position.0).expect("32 bits fit a usize on Linux");
        match self.octets.get(offset..).and_then(decode) {
            Some((Record::Outcome(outcome), _)) => Ok(outcome),
            _ => Err(self.damaged(offset, Damage::NoOutcome)),
        }
    }

    pub(super) fn damaged(&self, offset: usize, damage: Damage) -> LedgerError {
        LedgerError::Damaged { path: self.path.clone(), offset: offset as u64, damage }
    }

    fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        Pieces::of(&self.octets).filter_map(|piece| match piece {
            Piece::Frame(frame) => Some(frame),
            Piece::Broken { .. } => None,
        })
    }

    /// The records of one frame; stops after an error.
    pub(super) fn records_of<'a>(&'a self, frame: Frame<'a>) -> InFrame<'a> {
        let at = frame.offset + FRAME_HEADER;
        InFrame { volume: self, octets: frame.body, at, left: frame.records }
    }
}

/// The records of one frame.
#[derive(Debug)]
pub(super) struct InFrame<'a> {
    volume: &'a Volume,
    octets: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Iterator for InFrame<'a> {
    type Item = Result<(Position, Record<'a>), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.octets.is_empty() {
            return None;
        }
        let at = self.at;
        let Some((record, length)) = decode(self.octets).filter(|_| self.left > 0) else {
            (self.left, self.octets) = (0, &[]);
            return Some(Err(self.volume.damaged(at, Damage::Record)));
        };
        self.left -= 1;
        self.at += length;
        self.octets = &self.octets[length..];
        let position = Position(u32::try_from(at).expect("ledger files are below 4 GiB"));
        Some(Ok((position, record)))
    }
}

/// The records of a volume.
#[derive(Debug)]
pub struct Records<'a> {
    volume: &'a Volume,
    pieces: Pieces<'a>,
    frame: Option<InFrame<'a>>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Position, Record<'a>), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.frame.as_mut().and_then(Iterator::next) {
                return Some(record);
            }
            self.frame = None;
            if let Piece::Frame(frame) = self.pieces.next()? {
                self.frame = Some(self.volume.records_of(frame));
            }
        }
    }
}

/// One outcome taken out of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Box<[u8]>);

impl Kept {
    /// The outcome.
    pub fn outcome(&self) -> Outcome<'_> {
        match decode(&self.0) {
            Some((Record::Outcome(outcome), _)) => outcome,
            other => unreachable!("read_at kept it because it is an outcome, not {other:?}"),
        }
    }
}

/// Single outcomes of a ledger, as [`Book::last`](super::Book::last) finds them. Each file is
/// opened once.
#[derive(Debug)]
pub struct Shelf {
    dir: PathBuf,
    /// By file number.
    files: Vec<Option<File>>,
}

impl Shelf {
    /// The ledger in `dir`.
    pub fn new(dir: &Path) -> Shelf {
        Shelf { dir: dir.to_owned(), files: Vec::new() }
    }

    /// Reads the one outcome at `at`. Its frame's checksum is not looked at again.
    ///
    /// # Errors
    /// [`LedgerError::Io`], or [`LedgerError::Damaged`] when no outcome begins there.
    pub fn read(&mut self, at: At) -> Result<Kept, LedgerError> {
        let path = at.file.path(&self.dir);
        let file = self.file(at.file, &path)?;
        let offset = u64::from(at.position.0);
        let nothing = || {
            let (path, damage) = (path.clone(), Damage::NoOutcome);
            LedgerError::Damaged { path, offset, damage }
        };
        // Most outcomes are shorter, so that one read does.
        let mut octets = vec![0; 512];
        let mut read =
            file.read_at(&mut octets, offset).map_err(LedgerError::io("reading", &path))?;
        let head = octets.first_chunk::<4>().filter(|_| read >= 4).ok_or_else(nothing)?;
        let length = record::length(head).filter(|length| *length <= record::LENGTH_MAX);
        let length = length.ok_or_else(nothing)?;
        octets.resize(length, 0);
        if length > read {
            file.read_exact_at(&mut octets, offset).map_err(LedgerError::io("reading", &path))?;
            read = length;
        }
        match decode(&octets[..length.min(read)]) {
            Some((Record::Outcome(_), _)) => Ok(Kept(octets.into_boxed_slice())),
            _ => Err(nothing()),
        }
    }

    fn file(&mut self, number: FileNumber, path: &Path) -> Result<&File, LedgerError> {
        let index = number.0 as usize;
        if index >= self.files.len() {
            self.files.resize_with(index + 1, || None);
        }
        if self.files[index].is_none() {
            let file = File::open(path).map_err(LedgerError::io("opening", path))?;
            self.files[index] = Some(file);
        }
        Ok(self.files[index].as_ref().expect("it was opened just now"))
    }
}
