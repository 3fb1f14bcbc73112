//! ledger — the truth: an append-only log of what was tried and what came of it.
//!
//! ```text
//! runs/<campaign>/<run>/ledger/000001.log     one file per start, size, UTC day or request
//!                              000002.log     the one being written
//!                              000003.log     the spare: preallocated, header only
//! ```
//!
//! [`Writer`] appends: records gather in a frame, [`Writer::commit`] writes the frame with one
//! `pwrite`, and a thread of its own syncs what was written every
//! [`GROUP_COMMIT`](crate::limits::GROUP_COMMIT). [`replay`] reads everything back after any kind
//! of end; [`Book`] folds it into the standing of every row; [`recover`] does both. [`Volume`] and
//! [`Shelf`] serve accounting.
//!
//! What was written survives `kill -9`; what was synced survives power loss. After a write or sync
//! that did not succeed the writer believes nothing any more ([`LedgerError::Latched`]) and never
//! tries again. Replay tells a torn tail, which every power loss may leave, from the loss of
//! durable data, which it refuses: each frame carries the highest sequence that was known to be
//! synced when it was written. The formats are drawn in `docs/formats.md`.
//!
//! The caller holds the run directory's lock: one writer at a time, and no writer during a replay.
//! This room knows nothing of SMTP, campaigns or policy.

mod book;
mod desk;
mod error;
mod file;
mod format;
mod record;
mod replay;
mod sync;
mod volume;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};

pub use book::{Book, Counts, Impossible, Standing, Step};
pub use desk::Desk;
pub use error::{Damage, LedgerError};
pub use format::RUN_ID_MAX;
pub use record::{NOTE_TEXT_MAX, Record};
pub use replay::{Tail, Torn, recover, recover_seeing, replay};
pub use volume::{Kept, Records, Shelf, Volume};
pub use writer::{FRAME_BYTES_MAX, Writer};

/// The number of a ledger file, from 1; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(pub u32);

impl FileNumber {
    /// Where the file with this number is: `000017.log` in the ledger's directory.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.log"))
    }

    /// The next file's number.
    pub(crate) fn next(self) -> FileNumber {
        FileNumber(self.0 + 1)
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// The octet of its file at which a record begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// Where a record is; the default is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// In which file.
    pub file: FileNumber,
    /// At which octet of it.
    pub position: Position,
}

impl fmt::Display for At {
    /// `000003.log:4711`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.log:{}", self.file, self.position.0)
    }
}
