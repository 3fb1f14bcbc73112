//! queue — what is to be sent next: retries whose time has come, then rows never attempted.
//!
//! Fresh rows are not held in memory: they are found by walking the index once, in the order of the
//! list, past those that are excluded or already have a standing in the ledger.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::ledger::{Book, Standing};
use crate::outcome::Row;
use crate::recipients::{Entry, Index, IndexError};
use crate::spool::handover::Again;
use crate::units::Utc;

/// Index entries read at a time: 8192 × 32 octets.
const BLOCK: u32 = 8192;

/// A message whose turn has come.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its row.
    pub entry: Entry,
    /// Which attempt this is.
    pub attempt: u16,
    /// When the first attempt began, if there was one.
    pub first_attempt: Option<Utc>,
}

/// Everything that is left to send.
pub struct Queue {
    index: Index,
    /// The standing of every row when the process began.
    book: Book,
    /// The next row to read from the index.
    next: u32,
    block: VecDeque<Entry>,
    waiting: BinaryHeap<Reverse<Again>>,
}

impl Queue {
    /// All rows of `index` that have not met their outcome according to `book`.
    pub fn new(index: Index, book: Book) -> Queue {
        assert_eq!(index.rows(), book.rows(), "the book has a page for each row of the index");
        let mut waiting = BinaryHeap::new();
        for number in 1..=book.rows() {
            let row = Row(number);
            if let Standing::Waiting { attempt, until, first_attempt } = book.standing(row) {
                waiting.push(Reverse(Again {
                    due: until,
                    row,
                    attempt: attempt + 1,
                    first_attempt,
                }));
            }
        }
        Queue { index, book, next: 1, block: VecDeque::new(), waiting }
    }

    /// Another attempt of a message, later.
    pub fn later(&mut self, again: Again) {
        self.waiting.push(Reverse(again));
    }

    /// Whether nothing is left, not even for later.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.block.is_empty() && self.next > self.index.rows()
    }

    /// Up to `most` messages whose turn has come: due retries first, because they have waited.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn take(&mut self, most: usize, now: Utc) -> Result<Vec<Turn>, IndexError> {
        let mut turns = Vec::with_capacity(most.min(BLOCK as usize));
        while turns.len() < most
            && let Some(Reverse(again)) = self.waiting.peek()
            && again.due <= now
        {
            let entry = self.index.entry(again.row)?;
            let first_attempt = Some(again.first_attempt);
            turns.push(Turn { entry, attempt: again.attempt, first_attempt });
            self.waiting.pop();
        }
        while turns.len() < most {
            let Some(entry) = self.fresh()? else { break };
            turns.push(Turn { entry, attempt: 1, first_attempt: None });
        }
        Ok(turns)
    }

    /// The next row that was never attempted.
    fn fresh(&mut self) -> Result<Option<Entry>, IndexError> {
        loop {
            while let Some(entry) = self.block.pop_front() {
                let never = matches!(self.book.standing(entry.row), Standing::Pending);
                if entry.excluded.is_none() && never {
                    return Ok(Some(entry));
                }
            }
            if self.next > self.index.rows() {
                return Ok(None);
            }
            let end = self.next.saturating_add(BLOCK).min(self.index.rows() + 1);
            self.block = self.index.read(Row(self.next)..Row(end))?.into();
            self.next = end;
        }
    }
}
