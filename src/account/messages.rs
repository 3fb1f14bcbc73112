//! messages — one row per row of the list, the excluded ones too, with what became of it.
//!
//! The table reconciles with the list line by line: every data row of the file is here once, and
//! the counts of `final_state` add up to the rows of the list. The caller sees to that; the order
//! of the rows is his. Errors are those of the disk.

use std::path::Path;

use super::attempt::{Attempt, Texts, filled};
use super::column::{Column, Table};
use super::file::TableFile;
use super::layout::TableName;
use super::{AccountError, RowFacts, RunFacts, SCHEMA_VERSION, Written};
use crate::outcome::{Kind, Outcome, Row};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalState {
    /// The receiver took responsibility.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Its time ran out.
    Expired,
    /// It may have arrived; held.
    InDoubt,
    /// Ended by the operator before a receiver took it.
    Cancelled,
    /// Not a message of this run.
    Excluded,
    /// Not final yet.
    Pending,
}

impl FinalState {
    /// The word for it in Parquet.
    pub fn word(self) -> &'static str {
        match self {
            FinalState::Delivered => "delivered",
            FinalState::Bounced => "bounced",
            FinalState::Expired => "expired",
            FinalState::InDoubt => "in_doubt",
            FinalState::Cancelled => "cancelled",
            FinalState::Excluded => "excluded",
            FinalState::Pending => "pending",
        }
    }
}

/// Why a row was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion<'a> {
    /// The word for it: `suppressed`, `invalid`, `duplicate`, `filtered`, …
    pub reason: &'a str,
    /// The row that is sent instead, for a duplicate.
    pub duplicate_of: Option<Row>,
}

/// One row of the list and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct MessageRow<'a> {
    /// Which row.
    pub row: Row,
    /// What the list says of it.
    pub facts: RowFacts<'a>,
    /// Why it was excluded; such a row has no attempts.
    pub exclusion: Option<Exclusion<'a>>,
    /// Its last outcome; `None` before the first.
    pub last: Option<&'a Outcome<'a>>,
    /// The Message-ID with its angle brackets, if it is kept.
    pub message_id: Option<&'a str>,
}

impl MessageRow<'_> {
    /// What became of it; an outcome that no message could be made counts as an exclusion.
    pub fn state(&self) -> FinalState {
        if self.exclusion.is_some() {
            return FinalState::Excluded;
        }
        match self.last.map(|outcome| outcome.kind) {
            None | Some(Kind::Deferred) => FinalState::Pending,
            Some(Kind::Delivered) => FinalState::Delivered,
            Some(Kind::Bounced) => FinalState::Bounced,
            Some(Kind::Expired) => FinalState::Expired,
            Some(Kind::InDoubt) => FinalState::InDoubt,
            Some(Kind::Failed) => FinalState::Excluded,
            Some(Kind::Cancelled) => FinalState::Cancelled,
        }
    }

    fn exclusion_reason(&self) -> Option<&str> {
        let unmade = self.last.is_some_and(|outcome| outcome.kind == Kind::Failed);
        self.exclusion.map(|exclusion| exclusion.reason).or(unmade.then_some("render_error"))
    }

    fn duplicate_of(&self) -> Option<i64> {
        self.exclusion?.duplicate_of.map(|row| i64::from(row.0))
    }
}

/// What a row of `messages` is made from.
pub(super) struct Message<'a> {
    run: &'a RunFacts,
    row: &'a MessageRow<'a>,
    last: Option<Attempt<'a>>,
}

impl Message<'_> {
    fn is_final(&self) -> bool {
        self.row.state() != FinalState::Pending
    }

    fn last(&self) -> Option<&Attempt<'_>> {
        self.last.as_ref()
    }

    fn time_to_accept_ms(&self) -> Option<i64> {
        self.last().filter(|_| self.row.state() == FinalState::Delivered)?.queue_ms()
    }
}

/// The table.
pub(super) struct Messages;

impl Table for Messages {
    const NAME: &'static str = TableName::Messages.word();
    type Row<'a> = Message<'a>;
    const COLUMNS: &'static [Column<Messages>] = &[
        Column::<Messages>::int32("schema_version", |_| Some(SCHEMA_VERSION)).required(),
        Column::<Messages>::word("run_id", |m| Some(&m.run.run_id)).required(),
        Column::word("campaign_id", |m| Some(&m.run.campaign_id)),
        Column::<Messages>::int64("msg_seq", |m| Some(i64::from(m.row.row.0))).required(),
        Column::int64("input_line", |m| Some(i64::from(m.row.facts.line))),
        Column::<Messages>::word("final_state", |m| Some(m.row.state().word())).required(),
        Column::word("exclusion_reason", |m| m.row.exclusion_reason()),
        Column::int64("duplicate_of", |m| m.row.duplicate_of()),
        Column::int32("attempts", |m| Some(m.last().map_or(0, Attempt::attempts))),
        Column::time("spooled_time", |m| m.last()?.spooled_time()),
        Column::time("first_attempt_time", |m| m.last()?.first_attempt_time()),
        Column::time("final_time", |m| m.last().filter(|_| m.is_final()).map(|a| a.outcome.time)),
        Column::int64("time_to_accept_ms", |m| m.time_to_accept_ms()),
        Column::searched("rcpt_hash", |m| m.row.facts.rcpt_hash),
        Column::text("rcpt_to", |m| m.row.facts.rcpt_to),
        Column::word("rcpt_domain", |m| filled(m.row.facts.rcpt_domain)),
        Column::word("provider", |m| m.last()?.provider()),
        Column::word("mx_host", |m| m.last()?.mx_host()),
        Column::int32("smtp_code", |m| m.last()?.smtp_code()),
        Column::word("enhanced_status", |m| m.last()?.enhanced_status()),
        Column::text("response_text", |m| m.last()?.response_text()),
        Column::word("response_norm", |m| m.last()?.response_norm()),
        Column::word("bounce_class", |m| m.last()?.bounce_class()),
        Column::word("bounce_kind", |m| m.last()?.bounce_kind()),
        Column::word("smtp_stage", |m| Some(m.last()?.outcome.stage.word())),
        Column::word("source_ip", |m| m.last()?.source_ip()),
        Column::word("remote_ip", |m| m.last()?.remote_ip()),
        Column::int64("msg_size", |m| m.last()?.msg_size()),
        Column::word("dkim_domain", |m| m.last()?.dkim_domain()),
        Column::word("dkim_selector", |m| m.last()?.dkim_selector()),
        Column::text("message_id_header", |m| m.row.message_id),
        Column::bool("is_final", |m| Some(m.is_final())),
    ];
}

/// Writes one file of `messages`.
pub struct MessagesWriter {
    run: RunFacts,
    file: TableFile<Messages>,
    texts: Texts,
}

impl MessagesWriter {
    /// Opens a file in `work_dir`, which must be on the file system of `final_path`.
    ///
    /// # Errors
    /// The directories or the file cannot be made.
    pub fn create(
        final_path: &Path,
        work_dir: &Path,
        run: RunFacts,
    ) -> Result<MessagesWriter, AccountError> {
        let file = TableFile::create(final_path, work_dir, &run)?;
        Ok(MessagesWriter { run, file, texts: Texts::default() })
    }

    /// Adds a row of the list.
    ///
    /// # Errors
    /// The disk is full or broken; drop the writer then, which removes the file.
    pub fn push(&mut self, row: &MessageRow<'_>) -> Result<(), AccountError> {
        if let Some(outcome) = row.last {
            assert_eq!(outcome.row, row.row, "an outcome belongs to its own row");
            self.texts.fill(outcome);
        }
        let last = row.last.map(|outcome| Attempt::new(&self.run, outcome, &self.texts));
        self.file.push(&Message { run: &self.run, row, last })
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// The disk is full or broken; there is no file then.
    pub fn finish(self) -> Result<Written, AccountError> {
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_outcome_has_its_state() {
        let mut outcome = super::super::attempt::tests::outcome();
        let facts = RowFacts { line: 2, rcpt_to: None, rcpt_domain: "", rcpt_hash: None };
        let untouched =
            MessageRow { row: outcome.row, facts, exclusion: None, last: None, message_id: None };
        assert_eq!(untouched.state(), FinalState::Pending);
        for (kind, state, reason) in [
            (Kind::Delivered, "delivered", None),
            (Kind::Deferred, "pending", None),
            (Kind::Bounced, "bounced", None),
            (Kind::Expired, "expired", None),
            (Kind::InDoubt, "in_doubt", None),
            (Kind::Failed, "excluded", Some("render_error")),
            (Kind::Cancelled, "cancelled", None),
        ] {
            outcome.kind = kind;
            let row = MessageRow { last: Some(&outcome), ..untouched };
            assert_eq!((row.state().word(), row.exclusion_reason()), (state, reason));
        }
        let exclusion = Some(Exclusion { reason: "duplicate", duplicate_of: Some(Row(7)) });
        let row = MessageRow { exclusion, ..untouched };
        assert_eq!(
            (row.state().word(), row.exclusion_reason(), row.duplicate_of()),
            ("excluded", Some("duplicate"), Some(7))
        );
    }
}
