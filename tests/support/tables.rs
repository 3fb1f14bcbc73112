//! tables — the Parquet files of a campaign, read by parquet's own reader.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array as _, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::campaign::Campaign;

/// A row of `messages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) row: u32,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) attempts: i32,
}

/// A row of `events`: row, attempt, what it ended in.
pub(crate) type Event = (u32, u16, String);

/// All rows of `messages` of one run, by row.
pub(crate) fn messages(campaign: &Campaign, run: &Path) -> Vec<Message> {
    let mut messages = Vec::new();
    for batch in batches(campaign, "messages", run) {
        let (rows, states) = (longs(&batch, "msg_seq"), texts(&batch, "final_state"));
        let (reasons, attempts) = (texts(&batch, "exclusion_reason"), ints(&batch, "attempts"));
        for at in 0..batch.num_rows() {
            messages.push(Message {
                row: u32::try_from(rows[at]).expect("rows have 32 bits"),
                state: states[at].clone().expect("every row has a state"),
                reason: reasons[at].clone(),
                attempts: attempts[at],
            });
        }
    }
    messages.sort_by_key(|message| message.row);
    messages
}

/// All rows of `events` of one run, in no order.
pub(crate) fn events(campaign: &Campaign, run: &Path) -> Vec<Event> {
    let mut events = Vec::new();
    for batch in batches(campaign, "events", run) {
        let (rows, kinds) = (longs(&batch, "msg_seq"), texts(&batch, "event_type"));
        let attempts = ints(&batch, "attempt");
        for at in 0..batch.num_rows() {
            let row = u32::try_from(rows[at]).expect("rows have 32 bits");
            let attempt = u16::try_from(attempts[at]).expect("attempts have 16 bits");
            events.push((row, attempt, kinds[at].clone().expect("every event has a type")));
        }
    }
    events
}

/// The files of a table, path and octets.
pub(crate) fn octets(campaign: &Campaign, table: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    collect(&campaign.path("accounting/v1").join(table), &mut files);
    files.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("the file is readable"));
    files.into_iter().map(read).collect()
}

/// The batches of a table's files of one run.
fn batches(campaign: &Campaign, table: &str, run: &Path) -> Vec<RecordBatch> {
    let run = run.file_name().expect("a run has a name").to_string_lossy().into_owned();
    let mut files = Vec::new();
    collect(&campaign.path("accounting/v1").join(table), &mut files);
    files.retain(|path| path.to_string_lossy().contains(&run));
    files.sort();
    let read = |path: PathBuf| {
        let file = File::open(&path).expect("the file is readable");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("it is Parquet");
        reader.build().expect("it has columns").map(|batch| batch.expect("it can be read"))
    };
    files.into_iter().flat_map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a arrow_array::ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("there is a column {name}"))
}

fn longs(batch: &RecordBatch, name: &str) -> Vec<i64> {
    column(batch, name).as_primitive::<Int64Type>().values().to_vec()
}

fn ints(batch: &RecordBatch, name: &str) -> Vec<i32> {
    column(batch, name).as_primitive::<Int32Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = column(batch, name).as_string::<i32>();
    (0..column.len()).map(|at| column.is_valid(at).then(|| column.value(at).to_owned())).collect()
}
