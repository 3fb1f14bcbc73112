//! books — a run's ledger, index and list become its accounting files.
//!
//! Each ledger file becomes one events file for each day in it, and the index with every row's last
//! outcome becomes the messages file. All are functions of the run's directory: doing it again, or
//! after a crash, gives the same files.
//!
//! How it fails: nothing is left half-written, and the ledger still has everything
//! ([`BooksError`]).

use std::fs::File;
use std::path::Path;

use csv::StringRecord;

use super::{
    AccountError, EventFiles, Exclusion, Layout, MessageRow, MessagesWriter, RcptHash, RcptHasher,
    RowFacts, RunFacts, TableName, Written,
};
use crate::address::dedup_key;
use crate::ledger::{Book, FileNumber, LedgerError, Record, Shelf, Volume};
use crate::outcome::{Outcome, Row};
use crate::recipients::{self, Entry, Index, IndexError, ReadError, RowReader, read_rows};
use crate::units::Utc;

/// Rows looked up together.
const BLOCK: usize = 4096;

/// What the accounting of a run is made from.
pub struct Books<'a> {
    /// The directory of the ledger.
    pub ledger: &'a Path,
    /// The run and what is the same in all its rows.
    pub run: &'a RunFacts,
    /// The row index.
    pub index: &'a Index,
    /// The list.
    pub list: &'a File,
    /// Where its columns are.
    pub columns: &'a recipients::Layout,
    /// Makes recipients' hashes.
    pub hasher: &'a RcptHasher,
    /// Whether addresses are written.
    pub keep_addresses: bool,
    /// Where the files go.
    pub layout: &'a Layout,
}

/// Why the accounting files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The files cannot be written.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The list is not what it was.
    #[error(transparent)]
    List(#[from] ReadError),
}

/// What the list says of one row.
struct Facts {
    line: u32,
    address: Option<String>,
    domain: String,
    hash: Option<RcptHash>,
}

impl Facts {
    fn row(&self) -> RowFacts<'_> {
        RowFacts {
            line: self.line,
            rcpt_to: self.address.as_deref(),
            rcpt_domain: &self.domain,
            rcpt_hash: self.hash.as_ref().map(RcptHash::as_str),
        }
    }
}

impl Books<'_> {
    /// Writes the events of the ledger files up to `last`.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn events(&self, last: FileNumber) -> Result<Vec<Written>, BooksError> {
        let mut written = Vec::new();
        for number in 1..=last.0 {
            let volume = Volume::open(self.ledger, &self.run.run_id, FileNumber(number))?;
            written.extend(self.events_of(&volume, number)?);
        }
        Ok(written)
    }

    fn events_of(&self, volume: &Volume, number: u32) -> Result<Vec<Written>, BooksError> {
        let mut files = EventFiles::new(self.layout.clone(), self.run.clone(), number);
        let mut block: Vec<Outcome<'_>> = Vec::with_capacity(BLOCK);
        for record in volume.records() {
            if let (_, Record::Outcome(outcome)) = record? {
                block.push(outcome);
            }
            if block.len() == BLOCK {
                self.push_events(&mut files, &block)?;
                block.clear();
            }
        }
        self.push_events(&mut files, &block)?;
        Ok(files.finish()?)
    }

    fn push_events(&self, files: &mut EventFiles, block: &[Outcome<'_>]) -> Result<(), BooksError> {
        let mut rows: Vec<Row> = block.iter().map(|outcome| outcome.row).collect();
        rows.sort_unstable();
        rows.dedup();
        let facts = self.facts(&self.entries(&rows)?)?;
        for outcome in block {
            let at = rows.binary_search(&outcome.row).expect("every outcome's row is among them");
            files.push(outcome, &facts[at].row())?;
        }
        Ok(())
    }

    /// The index entries of ascending rows: in one read where they are close together.
    fn entries(&self, rows: &[Row]) -> Result<Vec<Entry>, IndexError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        let span = (last.0 - first.0) as usize + 1;
        if span > 8 * rows.len() {
            return rows.iter().map(|row| self.index.entry(*row)).collect();
        }
        let all = self.index.read(*first..Row(last.0 + 1))?;
        Ok(rows.iter().map(|row| all[(row.0 - first.0) as usize]).collect())
    }

    /// What the list says of these rows; an excluded row may have no address to speak of.
    fn facts(&self, entries: &[Entry]) -> Result<Vec<Facts>, BooksError> {
        let mut octets = Vec::new();
        let ranges = read_rows(self.list, entries, &mut octets)?;
        let mut reader = RowReader::new(self.columns);
        let (mut fields, mut key) = (StringRecord::new(), String::new());
        let mut facts = Vec::with_capacity(entries.len());
        for (entry, range) in entries.iter().zip(ranges) {
            let mailbox = reader.parse(entry.row, &octets[range], &mut fields).ok();
            facts.push(match mailbox {
                None => {
                    Facts { line: entry.line, address: None, domain: String::new(), hash: None }
                }
                Some(mailbox) => {
                    key.clear();
                    dedup_key(&mailbox, &mut key);
                    Facts {
                        line: entry.line,
                        address: self.keep_addresses.then(|| mailbox.as_str().to_owned()),
                        domain: mailbox.domain().to_owned(),
                        hash: Some(self.hasher.hash(key.as_bytes())),
                    }
                }
            });
        }
        Ok(facts)
    }

    /// Writes one row for each row of the list, as `book` has them. `began` decides the day.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn messages(&self, book: &Book, began: Utc) -> Result<Written, BooksError> {
        let path = self.layout.file(TableName::Messages, began, self.run, 0);
        let work_dir = self.layout.work_dir();
        let mut writer = MessagesWriter::create(&path, &work_dir, self.run.clone())?;
        let mut shelf = Shelf::new(self.ledger);
        let end = self.index.rows() + 1;
        for start in (1..end).step_by(BLOCK) {
            let stop = end.min(start + u32::try_from(BLOCK).expect("a small constant"));
            let entries = self.index.read(Row(start)..Row(stop))?;
            let facts = self.facts(&entries)?;
            for (entry, facts) in entries.iter().zip(&facts) {
                let last = book.last(entry.row).map(|at| shelf.read(at)).transpose()?;
                let outcome = last.as_ref().map(|kept| kept.outcome());
                writer.push(&MessageRow {
                    row: entry.row,
                    facts: facts.row(),
                    exclusion: exclusion(entry),
                    last: outcome.as_ref(),
                    message_id: None,
                })?;
            }
        }
        Ok(writer.finish()?)
    }
}

fn exclusion(entry: &Entry) -> Option<Exclusion<'static>> {
    entry.excluded.map(|reason| Exclusion {
        reason: reason.word(),
        duplicate_of: (entry.detail > 0).then_some(Row(entry.detail)),
    })
}
