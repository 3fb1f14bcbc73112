//! book — the standing of every row, folded from the ledger's records; 24 octets a row.
//!
//! ```text
//! state  ledger says                 standing          may become
//! S1     nothing                     Pending           S2 S3 S4
//! S2     Started(attempt)            InFlight          S2 by a later attempt (resend), S3, S4
//! S3     Deferred(attempt, until)    Waiting           S2 S3 S4 by a later attempt; Expired
//! S4     any other outcome           Final             nothing
//! ```
//!
//! Started is noted only before the last octets of a body leave, so an attempt that fails earlier
//! goes from S1 or S3 straight to its outcome. Attempts may skip numbers, since a torn ledger
//! may have lost records in between; they never go back. What cannot be is [`Impossible`].

use std::fmt;

use super::{At, FileNumber, Position, Record};
use crate::outcome::{Kind, Outcome, Row};
use crate::units::Utc;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// S1: not attempted, or nothing known of it.
    Pending,
    /// S2: the body may be on the wire; after a crash, in doubt.
    InFlight {
        /// The attempt.
        attempt: u16,
        /// When the first attempt began (or, if that was never recorded, when this one did).
        first_attempt: Utc,
    },
    /// S3: deferred.
    Waiting {
        /// The attempt that was deferred.
        attempt: u16,
        /// When the next one is due.
        until: Utc,
        /// When the first attempt began.
        first_attempt: Utc,
    },
    /// S4: over; `InDoubt` is held and not resent.
    Final(Kind),
}

/// What a record does to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Started.
    Started {
        /// Which attempt.
        attempt: u16,
        /// When.
        time: Utc,
    },
    /// An outcome.
    Ended {
        /// Which attempt.
        attempt: u16,
        /// What it ended in.
        kind: Kind,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Started { attempt, .. } => write!(f, "attempt {attempt} started"),
            Step::Ended { attempt, kind } => write!(f, "attempt {attempt} {}", kind.word()),
        }
    }
}

/// A record that cannot follow what is known of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A step that the state table does not have.
    #[error("row {row}: {step}, although it stood at {from:?}")]
    Step {
        /// The row.
        row: Row,
        /// Where it stood.
        from: Standing,
        /// What the record says.
        step: Step,
    },
    /// A row that the list does not have.
    #[error("row {row} in a list of {rows} rows")]
    Row {
        /// The row.
        row: Row,
        /// Rows of the list.
        rows: u32,
    },
}

/// How many rows stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// S1.
    pub pending: u32,
    /// S2.
    pub in_flight: u32,
    /// S3.
    pub waiting: u32,
    /// Final: delivered.
    pub delivered: u32,
    /// Final: bounced.
    pub bounced: u32,
    /// Final: expired.
    pub expired: u32,
    /// Final: held in doubt.
    pub in_doubt: u32,
    /// Final: could not be made.
    pub failed: u32,
    /// Final: ended by the operator.
    pub cancelled: u32,
}

impl Counts {
    fn of(&mut self, standing: Standing) -> &mut u32 {
        match standing {
            Standing::Pending => &mut self.pending,
            Standing::InFlight { .. } => &mut self.in_flight,
            Standing::Waiting { .. } | Standing::Final(Kind::Deferred) => &mut self.waiting,
            Standing::Final(Kind::Delivered) => &mut self.delivered,
            Standing::Final(Kind::Bounced) => &mut self.bounced,
            Standing::Final(Kind::Expired) => &mut self.expired,
            Standing::Final(Kind::InDoubt) => &mut self.in_doubt,
            Standing::Final(Kind::Failed) => &mut self.failed,
            Standing::Final(Kind::Cancelled) => &mut self.cancelled,
        }
    }
}

/// The state table: where a row stands after `step`, if that can be.
fn after(from: Standing, step: Step, outcome: Option<&Outcome<'_>>) -> Option<Standing> {
    use Standing::{Final, InFlight, Pending, Waiting};
    let ended = || outcome.map(ended);
    match (from, step) {
        (_, Step::Started { attempt: 0, .. } | Step::Ended { attempt: 0, .. }) => None,
        (Final(_), _) => None,
        (Pending, Step::Started { attempt, time }) => {
            Some(InFlight { attempt, first_attempt: time })
        }
        (
            InFlight { attempt: last, first_attempt }
            | Waiting { attempt: last, first_attempt, .. },
            Step::Started { attempt, .. },
        ) => (attempt > last).then_some(InFlight { attempt, first_attempt }),
        (Pending, Step::Ended { .. }) => ended(),
        (InFlight { attempt: last, .. }, Step::Ended { attempt, .. }) if attempt >= last => ended(),
        (Waiting { attempt: last, .. }, Step::Ended { attempt, .. }) if attempt > last => ended(),
        // Its time ran out while it waited: no further attempt was made.
        (Waiting { attempt: last, .. }, Step::Ended { attempt, kind: Kind::Expired }) => {
            if attempt == last { ended() } else { None }
        }
        (InFlight { .. } | Waiting { .. }, Step::Ended { .. }) => None,
    }
}

fn ended(outcome: &Outcome<'_>) -> Standing {
    let Outcome { attempt, first_attempt, .. } = *outcome;
    match outcome.next_attempt {
        Some(until) => Standing::Waiting { attempt, until, first_attempt },
        None => Standing::Final(outcome.kind),
    }
}

/// One row. `until` is kept as its distance from `first_attempt` in 48 bits of microseconds (8.9
/// years), the file's number in 24 bits.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    first_attempt: i64,
    until_low: u32,
    position: u32,
    until_high: u16,
    attempt: u16,
    file_low: u16,
    file_high: u8,
    /// 0 pending, 1 in flight, 2 waiting, 16 + kind final.
    state: u8,
}

const _: () = assert!(size_of::<Entry>() == 24);

const PENDING: u8 = 0;
const IN_FLIGHT: u8 = 1;
const WAITING: u8 = 2;
const FINAL: u8 = 16;

impl Entry {
    fn standing(&self) -> Standing {
        let (attempt, first_attempt) = (self.attempt, Utc(self.first_attempt));
        match self.state {
            PENDING => Standing::Pending,
            IN_FLIGHT => Standing::InFlight { attempt, first_attempt },
            WAITING => {
                let distance = i64::from(self.until_high) << 32 | i64::from(self.until_low);
                let until = Utc(self.first_attempt.saturating_add(distance));
                Standing::Waiting { attempt, until, first_attempt }
            }
            kind => Standing::Final(
                Kind::from_number(kind - FINAL).expect("states are only set from standings"),
            ),
        }
    }

    fn set(&mut self, standing: Standing) {
        match standing {
            Standing::Pending => self.state = PENDING,
            Standing::InFlight { attempt, first_attempt } => {
                self.state = IN_FLIGHT;
                (self.attempt, self.first_attempt) = (attempt, first_attempt.0);
            }
            Standing::Waiting { attempt, until, first_attempt } => {
                self.state = WAITING;
                (self.attempt, self.first_attempt) = (attempt, first_attempt.0);
                let distance = until.0.saturating_sub(first_attempt.0).clamp(0, (1 << 48) - 1);
                let [a, b, c, d, e, f, _, _] = distance.to_le_bytes();
                self.until_low = u32::from_le_bytes([a, b, c, d]);
                self.until_high = u16::from_le_bytes([e, f]);
            }
            Standing::Final(kind) => self.state = FINAL + kind as u8,
        }
    }

    fn at(&self) -> At {
        let file = u32::from(self.file_high) << 16 | u32::from(self.file_low);
        At { file: FileNumber(file), position: Position(self.position) }
    }

    fn set_at(&mut self, at: At) {
        let [a, b, c, d] = at.file.0.to_le_bytes();
        assert_eq!(d, 0, "a ledger has fewer than 2^24 files");
        (self.file_low, self.file_high) = (u16::from_le_bytes([a, b]), c);
        self.position = at.position.0;
    }
}

/// The standing of every row.
#[derive(Debug)]
pub struct Book {
    entries: Vec<Entry>,
    counts: Counts,
}

impl Book {
    /// A book of `rows` rows (1 to `rows`), all pending: 24 octets each.
    pub fn new(rows: u32) -> Book {
        let length = usize::try_from(rows).expect("32 bits fit a usize on Linux");
        let counts = Counts { pending: rows, ..Counts::default() };
        Book { entries: vec![Entry::default(); length], counts }
    }

    /// Enters a record. `at` is where it is recorded, for [`last`](Book::last); a run that keeps
    /// its book while it writes has no use for that and says `At::default()`.
    ///
    /// # Errors
    /// [`Impossible`]; the book is as before.
    pub fn apply(&mut self, at: At, record: &Record<'_>) -> Result<(), Impossible> {
        let (row, step, outcome) = match record {
            Record::Note { .. } => return Ok(()),
            Record::Started { row, attempt, time } => {
                (*row, Step::Started { attempt: *attempt, time: *time }, None)
            }
            Record::Outcome(outcome) => {
                let Outcome { attempt, kind, .. } = *outcome;
                (outcome.row, Step::Ended { attempt, kind }, Some(outcome))
            }
        };
        let rows = self.rows();
        let entry = index(row).and_then(|index| self.entries.get_mut(index));
        let entry = entry.ok_or(Impossible::Row { row, rows })?;
        let from = entry.standing();
        let to = after(from, step, outcome).ok_or(Impossible::Step { row, from, step })?;
        entry.set(to);
        if outcome.is_some() {
            entry.set_at(at);
        }
        *self.counts.of(from) -= 1;
        *self.counts.of(to) += 1;
        Ok(())
    }

    /// How many rows it has.
    pub fn rows(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("it was made with a 32-bit count")
    }

    /// Where a row stands.
    ///
    /// # Panics
    /// When the book has no such row.
    pub fn standing(&self, row: Row) -> Standing {
        self.entry(row).standing()
    }

    /// Where the last outcome of a row is recorded, if it has one that was replayed.
    ///
    /// # Panics
    /// When the book has no such row.
    pub fn last(&self, row: Row) -> Option<At> {
        Some(self.entry(row).at()).filter(|at| *at != At::default())
    }

    /// The rows at S2, in order.
    pub fn in_flight(&self) -> impl Iterator<Item = Row> {
        (1..).zip(&self.entries).filter(|(_, entry)| entry.state == IN_FLIGHT).map(|(n, _)| Row(n))
    }

    /// How many rows stand where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn entry(&self, row: Row) -> &Entry {
        let entry = index(row).and_then(|index| self.entries.get(index));
        entry.unwrap_or_else(|| panic!("row {row} in a book of {} rows", self.entries.len()))
    }
}

fn index(row: Row) -> Option<usize> {
    usize::try_from(row.0.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Binding;
    use crate::outcome::{Class, Session, Stage};

    const FIRST: Utc = Utc(1_795_284_252_000_000);
    const UNTIL: Utc = Utc(FIRST.0 + 900_000_000);

    fn outcome(row: u32, attempt: u16, kind: Kind) -> Record<'static> {
        Record::Outcome(Outcome {
            row: Row(row),
            attempt,
            kind,
            stage: Stage::Dot,
            class: Class::None,
            time: FIRST,
            spooled: FIRST,
            first_attempt: FIRST,
            next_attempt: (kind == Kind::Deferred).then_some(UNTIL),
            smtp_code: 250,
            enhanced: None,
            session: Session::default(),
            took: Duration::ZERO,
            waited: Duration::ZERO,
            data: Duration::ZERO,
            size: 0,
            host: "",
            provider: "",
            rule: "",
            limit: Binding::Nothing,
            response: "",
        })
    }

    fn started(row: u32, attempt: u16) -> Record<'static> {
        Record::Started { row: Row(row), attempt, time: FIRST }
    }

    /// Where row 1 stands after `history`, or the index of the record that cannot be.
    fn stand(history: &[Record<'_>]) -> Result<Standing, usize> {
        let mut book = Book::new(1);
        for (n, record) in history.iter().enumerate() {
            book.apply(At::default(), record).map_err(|_| n)?;
        }
        Ok(book.standing(Row(1)))
    }

    #[test]
    fn the_state_table_holds() {
        use Kind::*;
        let waiting = |attempt| Standing::Waiting { attempt, until: UNTIL, first_attempt: FIRST };
        let in_flight = |attempt| Standing::InFlight { attempt, first_attempt: FIRST };
        let (s, o) = (|attempt| started(1, attempt), |attempt, kind| outcome(1, attempt, kind));
        for (name, history, expected) in [
            ("nothing", vec![], Ok(Standing::Pending)),
            ("a body on the wire", vec![s(1)], Ok(in_flight(1))),
            ("deferred before the dot", vec![o(1, Deferred)], Ok(waiting(1))),
            ("deferred after the dot", vec![s(1), o(1, Deferred)], Ok(waiting(1))),
            ("second attempt", vec![o(1, Deferred), s(2)], Ok(in_flight(2))),
            ("deferred again", vec![o(1, Deferred), o(2, Deferred)], Ok(waiting(2))),
            ("resent in doubt", vec![s(1), s(2)], Ok(in_flight(2))),
            ("delivered", vec![s(1), o(1, Delivered)], Ok(Standing::Final(Delivered))),
            ("bounced at RCPT", vec![o(1, Bounced)], Ok(Standing::Final(Bounced))),
            ("held", vec![s(1), o(1, InDoubt)], Ok(Standing::Final(InDoubt))),
            ("never made", vec![o(1, Failed)], Ok(Standing::Final(Failed))),
            ("expired waiting", vec![o(1, Deferred), o(1, Expired)], Ok(Standing::Final(Expired))),
            ("a lost record between", vec![o(1, Deferred), o(3, Deferred)], Ok(waiting(3))),
            ("delivered twice", vec![o(1, Delivered), o(1, Delivered)], Err(1)),
            ("delivered again", vec![o(1, Delivered), o(2, Delivered)], Err(1)),
            ("started after the end", vec![o(1, Bounced), s(2)], Err(1)),
            ("started while held", vec![o(1, InDoubt), s(2)], Err(1)),
            ("started twice", vec![s(1), s(1)], Err(1)),
            ("started backwards", vec![s(2), s(1)], Err(1)),
            ("ended backwards", vec![s(2), o(1, Delivered)], Err(1)),
            ("deferred, then delivered", vec![o(1, Deferred), o(1, Delivered)], Err(1)),
            ("expired backwards", vec![o(2, Deferred), o(1, Expired)], Err(1)),
            ("attempt 0 started", vec![s(0)], Err(0)),
            ("attempt 0 ended", vec![o(0, Delivered)], Err(0)),
            ("row beyond the list", vec![started(2, 1)], Err(0)),
            ("row 0", vec![started(0, 1)], Err(0)),
        ] {
            assert_eq!(stand(&history), expected, "{name}");
        }
    }

    #[test]
    fn counts_and_places_follow_the_records() {
        let mut book = Book::new(4);
        let at = At { file: FileNumber(0x0012_3456), position: Position(4711) };
        for record in [
            started(1, 1),
            outcome(2, 1, Kind::Deferred),
            outcome(3, 1, Kind::Delivered),
            Record::Note { time: FIRST, text: "lunch" },
        ] {
            book.apply(at, &record).unwrap();
        }
        let counts =
            Counts { pending: 1, in_flight: 1, waiting: 1, delivered: 1, ..Counts::default() };
        assert_eq!(book.counts(), counts);
        assert_eq!(book.in_flight().collect::<Vec<_>>(), [Row(1)]);
        let last: Vec<_> = (1..=4).map(|row| book.last(Row(row))).collect();
        assert_eq!(last, [None, Some(at), Some(at), None]);

        let wrong = book.apply(at, &outcome(3, 1, Kind::Bounced)).unwrap_err();
        let from = Standing::Final(Kind::Delivered);
        let step = Step::Ended { attempt: 1, kind: Kind::Bounced };
        assert_eq!(wrong, Impossible::Step { row: Row(3), from, step });
        assert_eq!(book.counts(), counts);
        let wrong = book.apply(at, &started(5, 1)).unwrap_err();
        assert_eq!(wrong.to_string(), "row 5 in a list of 4 rows");
    }

    #[test]
    fn far_retries_are_kept_within_their_bits() {
        let mut entry = Entry::default();
        for (until, expected) in [
            (FIRST.0, FIRST.0),
            (FIRST.0 + (1 << 40) + 1, FIRST.0 + (1 << 40) + 1),
            (FIRST.0 - 5, FIRST.0),
            (i64::MAX, FIRST.0 + (1 << 48) - 1),
        ] {
            let waiting =
                |until| Standing::Waiting { attempt: 9, until: Utc(until), first_attempt: FIRST };
            entry.set(waiting(until));
            assert_eq!(entry.standing(), waiting(expected));
        }
    }
}
