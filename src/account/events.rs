//! events — one row per attempt, as the ledger has it.
//!
//! [`EventsWriter`] writes one file; [`EventFiles`] writes those of one ledger file: as many as
//! the days (UTC) on which its attempts ended, almost always one, so that `dt` never lies.
//! Columns that version 1 names but this program does not know yet are there and null: giving
//! them a value later changes no type. Errors are those of the disk.

use std::path::Path;

use super::attempt::{Attempt, Texts, filled, millis};
use super::column::{Column, Table};
use super::file::TableFile;
use super::layout::{Layout, TableName};
use super::{AccountError, RowFacts, RunFacts, SCHEMA_VERSION, Written};
use crate::outcome::Outcome;
use crate::units::Utc;

/// What a row of `events` is made from.
pub(super) struct Event<'a> {
    run: &'a RunFacts,
    row: &'a RowFacts<'a>,
    attempt: Attempt<'a>,
}

/// The table.
pub(super) struct Events;

impl Table for Events {
    const NAME: &'static str = TableName::Events.word();
    type Row<'a> = Event<'a>;
    const COLUMNS: &'static [Column<Events>] = &[
        Column::<Events>::int32("schema_version", |_| Some(SCHEMA_VERSION)).required(),
        Column::<Events>::time("event_time", |e| Some(e.attempt.outcome.time)).required(),
        Column::<Events>::word("event_type", |e| Some(e.attempt.outcome.kind.word())).required(),
        Column::<Events>::word("run_id", |e| Some(&e.run.run_id)).required(),
        Column::<Events>::int64("msg_seq", |e| Some(i64::from(e.attempt.outcome.row.0))).required(),
        Column::word("campaign_id", |e| Some(&e.run.campaign_id)),
        Column::word("tenant", |_| None),
        Column::word("variant", |_| None),
        Column::word("template_version", |e| Some(&e.run.template_sha256)),
        Column::text("message_id_header", |_| None),
        Column::int64("input_line", |e| Some(i64::from(e.row.line))),
        Column::int32("attempt", |e| Some(i32::from(e.attempt.outcome.attempt))),
        Column::bool("is_final", |e| Some(e.attempt.outcome.kind.is_final())),
        Column::searched("rcpt_hash", |e| e.row.rcpt_hash),
        Column::text("rcpt_to", |e| e.row.rcpt_to),
        Column::word("rcpt_domain", |e| filled(e.row.rcpt_domain)),
        Column::word("provider", |e| e.attempt.provider()),
        Column::word("mx_group", |_| None),
        Column::word("mx_host", |e| e.attempt.mx_host()),
        Column::word("rate_rule", |e| e.attempt.rate_rule()),
        Column::word("remote_ip", |e| e.attempt.remote_ip()),
        Column::word("source_ip", |e| e.attempt.source_ip()),
        Column::word("ip_pool", |e| e.attempt.ip_pool()),
        Column::word("ehlo_name", |e| e.attempt.ehlo_name()),
        Column::int64("conn_key", |e| e.attempt.conn_key()),
        Column::int32("conn_msg_index", |e| e.attempt.conn_msg_index()),
        Column::word("smtp_stage", |e| Some(e.attempt.outcome.stage.word())),
        Column::int32("smtp_code", |e| e.attempt.smtp_code()),
        Column::word("enhanced_status", |e| e.attempt.enhanced_status()),
        Column::text("response_text", |e| e.attempt.response_text()),
        Column::word("response_norm", |e| e.attempt.response_norm()),
        Column::word("bounce_class", |e| e.attempt.bounce_class()),
        Column::word("bounce_kind", |e| e.attempt.bounce_kind()),
        Column::int32("classifier_version", |_| None),
        Column::time("spooled_time", |e| e.attempt.spooled_time()),
        Column::time("first_attempt_time", |e| e.attempt.first_attempt_time()),
        Column::time("next_attempt_time", |e| e.attempt.outcome.next_attempt),
        Column::int64("queue_ms", |e| e.attempt.queue_ms()),
        Column::int64("attempt_ms", |e| Some(millis(e.attempt.outcome.took))),
        Column::int64("throttle_wait_ms", |e| Some(millis(e.attempt.outcome.waited))),
        Column::int64("connect_ms", |e| e.attempt.connect_ms()),
        Column::int64("tls_ms", |_| None),
        Column::int64("data_ms", |e| e.attempt.data_ms()),
        Column::int64("msg_size", |e| e.attempt.msg_size()),
        Column::word("tls_version", |_| None),
        Column::word("tls_cipher", |_| None),
        Column::word("dkim_domain", |e| e.attempt.dkim_domain()),
        Column::word("dkim_selector", |e| e.attempt.dkim_selector()),
        Column::text("rcpt_attrs_json", |_| None),
    ];
}

/// Writes one file of `events`.
pub struct EventsWriter {
    run: RunFacts,
    file: TableFile<Events>,
    texts: Texts,
}

impl EventsWriter {
    /// Opens a file in `work_dir`, which must be on the file system of `final_path`.
    ///
    /// # Errors
    /// The directories or the file cannot be made.
    pub fn create(
        final_path: &Path,
        work_dir: &Path,
        run: RunFacts,
    ) -> Result<EventsWriter, AccountError> {
        let file = TableFile::create(final_path, work_dir, &run)?;
        Ok(EventsWriter { run, file, texts: Texts::default() })
    }

    /// Adds an attempt of the row that `row` describes.
    ///
    /// # Errors
    /// The disk is full or broken; drop the writer then, which removes the file.
    pub fn push(&mut self, outcome: &Outcome<'_>, row: &RowFacts<'_>) -> Result<(), AccountError> {
        self.texts.fill(outcome);
        let attempt = Attempt::new(&self.run, outcome, &self.texts);
        self.file.push(&Event { run: &self.run, row, attempt })
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// The disk is full or broken; there is no file then.
    pub fn finish(self) -> Result<Written, AccountError> {
        self.file.finish()
    }
}

/// Writes the events of one ledger file, one Parquet file for each day on which one ended.
pub struct EventFiles {
    layout: Layout,
    run: RunFacts,
    number: u32,
    /// By day since the epoch; in the order in which the days appeared.
    days: Vec<(i64, EventsWriter)>,
}

impl EventFiles {
    /// The files of the ledger file `number`.
    pub fn new(layout: Layout, run: RunFacts, number: u32) -> EventFiles {
        EventFiles { layout, run, number, days: Vec::new() }
    }

    /// Adds an attempt to the file of its day.
    ///
    /// # Errors
    /// As [`EventsWriter::create`] and [`EventsWriter::push`].
    pub fn push(&mut self, outcome: &Outcome<'_>, row: &RowFacts<'_>) -> Result<(), AccountError> {
        let day = outcome.time.day();
        let at = match self.days.iter().position(|(open, _)| *open == day) {
            Some(at) => at,
            None => self.open(day, outcome.time)?,
        };
        self.days[at].1.push(outcome, row)
    }

    fn open(&mut self, day: i64, time: Utc) -> Result<usize, AccountError> {
        let path = self.layout.file(TableName::Events, time, &self.run, self.number);
        let writer = EventsWriter::create(&path, &self.layout.work_dir(), self.run.clone())?;
        self.days.push((day, writer));
        Ok(self.days.len() - 1)
    }

    /// Completes the files; none when there was no attempt.
    ///
    /// # Errors
    /// As [`EventsWriter::finish`]. Days finished before the error keep their file; doing it all
    /// again replaces it by the same.
    pub fn finish(self) -> Result<Vec<Written>, AccountError> {
        self.days.into_iter().map(|(_, writer)| writer.finish()).collect()
    }
}
