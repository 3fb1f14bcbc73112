//! account — the third stage: outcomes become Parquet that any query engine reads.
//!
//! Three tables: `events` has a row per attempt ([`EventsWriter`], [`EventFiles`]), `messages` a
//! row per row of the list, the excluded ones too ([`MessagesWriter`]), `runs` a row per run
//! ([`write_run`]). [`Layout`] says where their files are. `docs/accounting.md` describes every
//! column, and a test holds the two together.
//!
//! The files are a function of the values given: the same outcomes in the same order give the
//! same octets, so any file can be rebuilt from the ledger and replaces itself. A file appears
//! under its name complete and synced, or not at all; every error is an [`AccountError`] with the
//! path at fault, after which the writer is of no further use.
//!
//! This room sees files and values only: no campaign, no key of a signature, no socket, no clock.

mod attempt;
mod books;
mod bounce;
mod column;
mod events;
mod file;
mod key;
mod layout;
mod messages;
mod recipient;
mod response;
mod runs;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use books::{Books, BooksError};
pub use bounce::BounceKind;
pub use events::{EventFiles, EventsWriter};
pub use layout::{Layout, TableName};
pub use messages::{Exclusion, FinalState, MessageRow, MessagesWriter};
pub use recipient::{RcptHash, RcptHasher};
pub use runs::{RunRow, write_run};

/// The version of all three tables; it names the directory `v1` too. Within a version columns
/// are only added, at the end and nullable.
pub const SCHEMA_VERSION: i32 = 1;

/// What is the same in every row of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// The run's ULID.
    pub run_id: String,
    /// The campaign's name.
    pub campaign_id: String,
    /// SHA-256 of the template, in hex.
    pub template_sha256: String,
    /// SHA-256 of the recipient list, in hex.
    pub list_sha256: String,
    /// SHA-256 of the rate table, in hex.
    pub rate_table_sha256: String,
    /// The version of mailshot that made the run.
    pub tool_version: String,
    /// The domain of the first DKIM signature; `None` when the run does not sign.
    pub dkim_domain: Option<String>,
    /// The selector of the first DKIM signature; `None` when the run does not sign.
    pub dkim_selector: Option<String>,
    /// The run's own addresses.
    pub sources: Vec<SourceFacts>,
}

impl RunFacts {
    /// The source with this address.
    fn source(&self, ip: IpAddr) -> Option<&SourceFacts> {
        self.sources.iter().find(|source| source.ip == ip)
    }
}

/// One of the run's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// The address that connections are made from.
    pub ip: IpAddr,
    /// The name it greets with.
    pub ehlo_name: String,
    /// The pool it belongs to, if any.
    pub pool: Option<String>,
}

/// What is known of a row of the list without any attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFacts<'a> {
    /// The line of the file on which the row begins, from 1, the header counted.
    pub line: u32,
    /// The address; `None` where the campaign does not keep addresses.
    pub rcpt_to: Option<&'a str>,
    /// Its domain; empty for a row without a valid address.
    pub rcpt_domain: &'a str,
    /// [`RcptHasher`]'s word for it.
    pub rcpt_hash: Option<&'a str>,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Rows in it.
    pub rows: u64,
    /// Its size in octets.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file system refused.
    #[error("{}: the accounting data cannot be written: {source}", path.display())]
    Io {
        /// The file or directory it was about.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The Parquet writer refused.
    #[error("{}: the rows cannot be encoded as Parquet: {source}", path.display())]
    Parquet {
        /// The file being written.
        path: PathBuf,
        /// What it said.
        source: parquet::errors::ParquetError,
    },
}

impl AccountError {
    fn io(path: &Path, source: io::Error) -> AccountError {
        AccountError::Io { path: path.to_owned(), source }
    }
}
