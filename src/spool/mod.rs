//! spool — a ring of recycled, preallocated, mapped segments of signed messages on their way out.
//!
//! ```text
//! prepare ──full segments──► deliver
//!    ▲                          │
//!    └─────empty segments───────┘
//! ```
//!
//! [`create`] makes all segments of a run at once; from then on a [`Segment`] is a value that
//! moves between the stages over channels, so nothing is shared and nothing is locked. When none is
//! free, `prepare` waits: that is the back-pressure.
//!
//! The spool is a cache. It is never synced and never recovered: after a crash its messages are
//! rendered again, and the next process overwrites the files. Checksums guard the way through
//! memory, not the way through a crash. [`dump`] reads a segment file for people.
//!
//! A full disk shows in [`create`] and nowhere later, because writing to a mapping cannot return an
//! error: it would end the process with SIGBUS. This room knows nothing of SMTP or campaigns.

mod dump;
mod files;
pub mod handover;
mod map;
mod record;
mod segment;

use std::io;
use std::path::{Path, PathBuf};

pub use dump::{Dump, dump};
pub use files::create;
pub use record::{Damaged, Flaw, Record, RecordHead};
pub use segment::{Full, Segment};

/// Why the spool cannot be had. The cause of an error is its `source()`.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A system call on a segment file.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, as a participle: `mapping`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk has no room for a segment.
    #[error(
        "{} needs {needed} octets and its disk has {free} free; make room or put the run directory \
         on a larger disk", path.display()
    )]
    Space {
        /// The segment file.
        path: PathBuf,
        /// Octets asked for.
        needed: u64,
        /// Octets free for us.
        free: u64,
    },
    /// The filesystem does not preallocate, or not in a way that later writes can rely on.
    #[error(
        "the filesystem of {} does not keep room for a file that is written again and again, so a \
         full disk would end the program in the middle of a message; put the run directory on \
         ext4, xfs, btrfs or tmpfs", path.display()
    )]
    Unsupported {
        /// The segment file.
        path: PathBuf,
    },
    /// The file is no segment of this format.
    #[error("{} is no spool segment of this program's format", path.display())]
    NoSegment {
        /// The file.
        path: PathBuf,
    },
}

impl SpoolError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
        let path = path.to_owned();
        move |source| SpoolError::Io { doing, path, source }
    }
}
