//! error — everything that can be wrong with a ledger, with its place and what to do about it.
//!
//! The cause of an error is its `source()`, not part of its sentence.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{At, Impossible};

/// Why a ledger cannot be written or believed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A system call on a ledger file or its directory.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, as a participle: `writing`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk has no room for a whole file.
    #[error(
        "{} needs {needed} octets and its disk has {free} free; make room or put the run directory \
         on a larger disk", path.display()
    )]
    Space {
        /// The file to be preallocated.
        path: PathBuf,
        /// Octets asked for.
        needed: u64,
        /// Octets free for us.
        free: u64,
    },
    /// The filesystem does not preallocate.
    #[error(
        "the filesystem of {} does not preallocate files, so outcomes could be lost on a full \
         disk; put the run directory on ext4, xfs, btrfs or tmpfs", path.display()
    )]
    Unsupported {
        /// The file to be preallocated.
        path: PathBuf,
    },
    /// No further file can follow the current one. **The frame has been written**, and so will the
    /// next ones be as long as the current file has room: stop sending, record what is open, close.
    #[error("the ledger cannot go on after its current file; stop, make room and resume the run")]
    Next(#[source] Arc<LedgerError>),
    /// A write or sync did not succeed, now or earlier: nothing is written any more.
    #[error(
        "the ledger stopped at a write or sync that did not succeed, and nothing after it is \
         recorded; stop, and resume the run when the disk is in order"
    )]
    Latched(#[source] Arc<LedgerError>),
    /// Data that was once read or synced is not there any more.
    #[error(
        "{} is damaged at octet {offset}: {damage}; recorded outcomes are gone and resuming could \
         send mail twice: restore the file from a copy and check the disk", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// A file of the series is gone.
    #[error(
        "{} is missing, though later files are there; recorded outcomes are gone and resuming \
         could send mail twice: restore it from a copy", path.display()
    )]
    Missing {
        /// The file that should be there.
        path: PathBuf,
    },
    /// The file belongs to another run.
    #[error("{} belongs to run {found:?}, not to {expected:?}; move it back", path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The run being resumed.
        expected: String,
        /// The run in the file's header.
        found: String,
    },
    /// The file was written by another version of this program.
    #[error(
        "{} has ledger format {found}, this program reads {known}; use the mailshot that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
        /// The version known here.
        known: u32,
    },
    /// The records contradict each other.
    #[error(
        "the record at {at} cannot follow what is recorded before it; keep the ledger and report it"
    )]
    Impossible {
        /// Where.
        at: At,
        /// The contradiction.
        source: Impossible,
    },
}

impl LedgerError {
    /// Turns the error of a system call into one with its place.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
        let path = path.to_owned();
        move |source| LedgerError::Io { doing, path, source }
    }
}

/// What is wrong at a place in a ledger file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Durable frames are unreadable.
    #[error("frame {sequence} is unreadable, though all up to {synced} were on disk before")]
    Durable {
        /// The first frame that is lost.
        sequence: u64,
        /// The highest durable frame, by the word of a later one.
        synced: u64,
    },
    /// A frame stands where an earlier one was due, or twice.
    #[error("frame {found} stands where {expected} was due")]
    Order {
        /// The sequence that was due.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// An earlier start of the run read more than can be read now.
    #[error("this start of the run began at frame {found}, but the files before it end at {left}")]
    Seam {
        /// The last frame that can be read now, with known losses counted in.
        left: u64,
        /// The first frame of the start, by its header.
        found: u64,
    },
    /// An earlier start of the run knew of fewer lost frames than are missing now.
    #[error("{missing} frames before it are unreadable, {known} when this start of the run began")]
    Losses {
        /// Lost frames counted now.
        missing: u64,
        /// Lost frames by the header.
        known: u64,
    },
    /// The header is unreadable and frames follow it, or it is another file's.
    #[error("the file's header is unreadable or another file's")]
    Header,
    /// A frame's checksum holds, but a record in it makes no sense.
    #[error("a record makes no sense, although its checksum holds")]
    Record,
    /// A record was asked for where none begins.
    #[error("no outcome begins there")]
    NoOutcome,
}
