//! desk — one ledger for several delivery threads.
//!
//! Each thread notes and commits as if it were alone. A commit takes along what others have noted
//! by then, which only makes their records durable earlier. It must not know who notes what.

#![expect(
    clippy::disallowed_types,
    reason = "the one thing that delivery threads share: the order of the records is that of its \
              file"
)]

use std::sync::{Mutex, MutexGuard};

use super::{LedgerError, Writer};
use crate::outcome::{Outcome, Row};
use crate::units::Utc;

/// A writer that several threads use.
pub struct Desk(Mutex<Writer>);

impl Desk {
    /// A desk for this writer.
    pub fn new(writer: Writer) -> Desk {
        Desk(Mutex::new(writer))
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().expect("no thread panics while it writes the ledger")
    }

    /// As [`Writer::started`].
    pub fn started(&self, row: Row, attempt: u16, time: Utc) {
        self.writer().started(row, attempt, time);
    }

    /// As [`Writer::outcome`].
    pub fn outcome(&self, outcome: &Outcome<'_>) {
        self.writer().outcome(outcome);
    }

    /// As [`Writer::commit`].
    ///
    /// # Errors
    /// When the ledger can no longer be written.
    pub fn commit(&self, now: Utc) -> Result<(), LedgerError> {
        self.writer().commit(now)
    }

    /// The writer again, when all threads have ended.
    pub fn into_writer(self) -> Writer {
        self.0.into_inner().expect("a panic of a thread has gone on in its starter")
    }
}
