//! runs — one row per run: its manifest and its sums as columns.
//!
//! It is written when a run ends and again when it goes on; the later file replaces the earlier.
//! Errors are those of the disk.

use std::path::Path;

use super::attempt::{filled, whole};
use super::column::{Column, Table};
use super::file::TableFile;
use super::layout::TableName;
use super::{AccountError, RunFacts, SCHEMA_VERSION, Written};
use crate::units::Utc;

/// A run, its times and its sums.
#[derive(Clone, Copy, Debug)]
pub struct RunRow<'a> {
    /// What the run was.
    pub run: &'a RunFacts,
    /// When it began for the first time.
    pub started: Utc,
    /// When it ended; `None` while rows are pending.
    pub ended: Option<Utc>,
    /// Data rows of the list.
    pub input_rows: u64,
    /// Rows excluded, those that could not be rendered included.
    pub excluded: u64,
    /// Messages taken by their receivers.
    pub delivered: u64,
    /// Messages refused for good.
    pub bounced: u64,
    /// Messages whose time ran out.
    pub expired: u64,
    /// Messages that are not final.
    pub pending: u64,
    /// Messages that may have arrived and are held.
    pub in_doubt: u64,
    /// Messages that the operator ended.
    pub cancelled: u64,
    /// User and system time of all its processes, in seconds; `None` when it is not known.
    pub cpu_seconds: Option<f64>,
}

impl RunRow<'_> {
    fn wall_seconds(&self) -> Option<f64> {
        self.ended.map(|ended| ended.since(self.started).as_secs_f64())
    }
}

/// The table.
struct Runs;

impl Table for Runs {
    const NAME: &'static str = TableName::Runs.word();
    type Row<'a> = RunRow<'a>;
    const COLUMNS: &'static [Column<Runs>] = &[
        Column::<Runs>::int32("schema_version", |_| Some(SCHEMA_VERSION)).required(),
        Column::<Runs>::word("run_id", |r| Some(&r.run.run_id)).required(),
        Column::word("campaign_id", |r| Some(&r.run.campaign_id)),
        Column::<Runs>::time("started", |r| Some(r.started)).required(),
        Column::time("ended", |r| r.ended),
        Column::int64("input_rows", |r| Some(whole(r.input_rows))),
        Column::int64("excluded", |r| Some(whole(r.excluded))),
        Column::int64("delivered", |r| Some(whole(r.delivered))),
        Column::int64("bounced", |r| Some(whole(r.bounced))),
        Column::int64("expired", |r| Some(whole(r.expired))),
        Column::int64("pending", |r| Some(whole(r.pending))),
        Column::int64("in_doubt", |r| Some(whole(r.in_doubt))),
        Column::word("template_sha256", |r| filled(&r.run.template_sha256)),
        Column::word("list_sha256", |r| filled(&r.run.list_sha256)),
        Column::word("rate_table_sha256", |r| filled(&r.run.rate_table_sha256)),
        Column::word("tool_version", |r| Some(&r.run.tool_version)),
        Column::double("cpu_seconds", |r| r.cpu_seconds),
        Column::double("wall_seconds", |r| r.wall_seconds()),
        Column::int64("cancelled", |r| Some(whole(r.cancelled))),
    ];
}

/// Writes the file of one run at `final_path`, by way of `work_dir` on the same file system.
///
/// # Errors
/// The disk is full or broken; there is no file then, or the one from before.
///
/// # Panics
/// When the sums do not add up to the rows of the list: such a table would prove nothing.
pub fn write_run(
    final_path: &Path,
    work_dir: &Path,
    row: &RunRow<'_>,
) -> Result<Written, AccountError> {
    let settled = row.delivered + row.bounced + row.expired + row.in_doubt + row.cancelled;
    let sum = row.excluded + settled + row.pending;
    assert_eq!(sum, row.input_rows, "every row of the list has one state");
    let mut file: TableFile<Runs> = TableFile::create(final_path, work_dir, row.run)?;
    file.push(row)?;
    file.finish()
}
