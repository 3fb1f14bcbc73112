//! file — one Parquet file: written out of sight, synced, and only then given its name.
//!
//! A Parquet file is unreadable until its footer is written, so a file is built in the work
//! directory, synced, renamed to its place, and the directory is synced. Whatever goes wrong
//! before the rename (a full disk, a killed process) leaves nothing at the final path; the part
//! in the work directory is removed at once or, after a kill, by
//! [`Layout::sweep`](super::Layout::sweep). It knows no table, only the [`Table`] it is given.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::column::{self, Batch, Table};
use super::{AccountError, RunFacts, SCHEMA_VERSION, Written};

/// Rows that are encoded together. Fewer cost more per row, more only memory (at most some 20 MB,
/// when every text has its full length).
const BATCH_ROWS: usize = 16_384;

/// A file of table `T` on its way.
pub(super) struct TableFile<T: Table> {
    schema: SchemaRef,
    batch: Batch<T>,
    arrow: ArrowWriter<File>,
    work: WorkFile,
    target: PathBuf,
    rows: u64,
}

impl<T: Table> TableFile<T> {
    /// Opens the file in `work_dir`; it will appear as `target`, with `run` in its footer.
    ///
    /// # Errors
    /// The directories or the file cannot be made.
    pub(super) fn create(
        target: &Path,
        work_dir: &Path,
        run: &RunFacts,
    ) -> Result<TableFile<T>, AccountError> {
        make_dir(work_dir)?;
        let path = work_dir.join(work_name::<T>(target));
        let file = File::create(&path).map_err(|source| AccountError::io(&path, source))?;
        let work = WorkFile { path, renamed: false };
        let schema = column::schema::<T>();
        let options = ArrowWriterOptions::new()
            .with_properties(column::properties::<T>(footer(run)))
            .with_skip_arrow_metadata(true)
            .with_schema_root(T::NAME.to_owned());
        let arrow = ArrowWriter::try_new_with_options(file, schema.clone(), options)
            .map_err(|source| parquet_error(&work.path, source))?;
        Ok(TableFile {
            schema,
            batch: Batch::new(),
            arrow,
            work,
            target: target.to_owned(),
            rows: 0,
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The disk is full or broken. The file must then be dropped, which removes it.
    pub(super) fn push(&mut self, row: &T::Row<'_>) -> Result<(), AccountError> {
        self.rows += 1;
        if self.batch.push(row) == BATCH_ROWS { self.encode() } else { Ok(()) }
    }

    fn encode(&mut self) -> Result<(), AccountError> {
        let batch = RecordBatch::try_new(self.schema.clone(), self.batch.take())
            .map_err(ParquetError::from)
            .and_then(|batch| self.arrow.write(&batch));
        batch.map_err(|source| parquet_error(&self.work.path, source))
    }

    /// Writes the footer, syncs, and gives the file its name.
    ///
    /// # Errors
    /// Any step before the name fails: then there is no file. Syncing the directory fails: then
    /// the file is there and complete, but a power loss may take it away again.
    pub(super) fn finish(mut self) -> Result<Written, AccountError> {
        self.encode()?;
        let TableFile { arrow, mut work, target, rows, .. } = self;
        let file = arrow.into_inner().map_err(|source| parquet_error(&work.path, source))?;
        let synced = file.sync_all().and_then(|()| file.metadata());
        let bytes = synced.map_err(|source| AccountError::io(&work.path, source))?.len();
        let dir = parent(&target);
        make_dir(dir)?;
        fs::rename(&work.path, &target).map_err(|source| AccountError::io(&target, source))?;
        work.renamed = true;
        sync_dir(dir)?;
        Ok(Written { rows, bytes, path: target })
    }
}

/// A file that is removed again unless it got its final name.
struct WorkFile {
    path: PathBuf,
    renamed: bool,
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        if !self.renamed {
            // A drop cannot report; what stays behind is swept at the next start of the run.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The name in the work directory: table, partition and name, so that no two are the same.
fn work_name<T: Table>(target: &Path) -> String {
    let part =
        |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    format!("{}.{}.{}", T::NAME, part(parent(target).file_name()), part(target.file_name()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a directory and its missing parents so that they survive a power loss.
fn make_dir(dir: &Path) -> Result<(), AccountError> {
    if dir.is_dir() {
        return Ok(());
    }
    make_dir(parent(dir))?;
    match fs::create_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(AccountError::io(dir, source))
        }
        _ => sync_dir(parent(dir)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), AccountError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| AccountError::io(dir, source))
}

/// What stands in every footer; DuckDB shows it with `parquet_kv_metadata()`.
fn footer(run: &RunFacts) -> Vec<KeyValue> {
    let pairs = [
        ("schema_version", SCHEMA_VERSION.to_string()),
        ("run_id", run.run_id.clone()),
        ("campaign_id", run.campaign_id.clone()),
        ("template_sha256", run.template_sha256.clone()),
        ("list_sha256", run.list_sha256.clone()),
        ("rate_table_sha256", run.rate_table_sha256.clone()),
        ("tool_version", run.tool_version.clone()),
    ];
    pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
}

/// The writer's error with its place; what the disk said is taken out of its wrapping.
fn parquet_error(path: &Path, source: ParquetError) -> AccountError {
    match source {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(disk) => AccountError::io(path, *disk),
            Err(other) => AccountError::Parquet {
                path: path.to_owned(),
                source: ParquetError::External(other),
            },
        },
        source => AccountError::Parquet { path: path.to_owned(), source },
    }
}
