//! runs — the summaries of all runs below a runs directory, from their files or from their ledgers.
//!
//! `runs/<campaign>/<run>/history.tsv` is taken if it was made from the ledger that is there now:
//! its last file has the same number and length. (Each start of a run makes new ledger files, and a
//! closed one is cut to its length; the file is only made of a closed ledger.) Nothing here writes
//! but [`save`].

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{HOUR, HistoryError, Past, Summary};
use crate::ledger::{LedgerError, Record, replay};
use crate::rundir::RunDir;
use crate::units::Utc;

/// The summary in a run's directory.
const FILE: &str = "history.tsv";

/// How often a ledger that seems broken is read. While another process writes it, a file read early
/// and the next one read late do not fit together; a moment later they do.
const TRIES: u32 = 5;

/// How far a ledger goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The number of its last file.
    pub(super) file: u32,
    /// Octets of that file.
    pub(super) octets: u64,
}

/// Reads what all runs below `runs` have sent since `since`, but for the run `except`, which counts
/// its own mail. A directory that is not there has no runs.
///
/// # Errors
/// [`HistoryError::Io`], and [`HistoryError::Ledger`] for a run that wrote to its ledger since
/// `since` and cannot be read. Older ones are not looked at.
pub fn read(runs: &Path, since: Utc, except: &str) -> Result<Past, HistoryError> {
    let mut past = Past::default();
    for campaign in directories(runs)? {
        for run in directories(&campaign)? {
            let id = run.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if id != except && run.join("ledger").is_dir() {
                past.add(&of_run(&run, id, since)?);
            }
        }
    }
    Ok(past)
}

/// Folds a whole ledger; `dir` is its directory.
///
/// # Errors
/// As [`replay`].
pub fn of_ledger(dir: &Path, run_id: &str) -> Result<Summary, LedgerError> {
    let mut summary = Summary::default();
    replay(dir, run_id, &mut |_, record| {
        if let Record::Outcome(outcome) = record {
            summary.see(&outcome);
        }
    })?;
    Ok(summary)
}

/// Keeps the summary of a run in its directory. The caller holds the campaign's lock and has closed
/// the ledger, from which `summary` was made.
///
/// # Errors
/// [`HistoryError::Io`] and [`HistoryError::Save`].
pub fn save(run: &RunDir, summary: &Summary) -> Result<(), HistoryError> {
    let (extent, _) = extent(&run.file("ledger"))?;
    run.write(FILE, summary.encode(extent).as_bytes())?;
    Ok(())
}

fn of_run(run: &Path, id: &str, since: Utc) -> Result<Summary, HistoryError> {
    let dir = run.join("ledger");
    let (extent, written) = extent(&dir)?;
    if written < since {
        return Ok(Summary::default());
    }
    let mut summary = match kept(run, extent)? {
        Some(summary) => summary,
        None => replayed(&dir, id)
            .map_err(|source| HistoryError::Ledger { run: run.to_owned(), source })?,
    };
    summary.forget_before(since.0.div_euclid(HOUR));
    Ok(summary)
}

/// The run's file, if it was made from the ledger that is there.
fn kept(run: &Path, extent: Extent) -> Result<Option<Summary>, HistoryError> {
    let path = run.join(FILE);
    let octets = match fs::read(&path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(HistoryError::Io { path, source }),
    };
    let decoded = str::from_utf8(&octets).ok().and_then(Summary::decode);
    Ok(decoded.filter(|(of, _)| *of == extent).map(|(_, summary)| summary))
}

fn replayed(dir: &Path, id: &str) -> Result<Summary, LedgerError> {
    for _ in 1..TRIES {
        match of_ledger(dir, id) {
            Err(LedgerError::Damaged { .. } | LedgerError::Missing { .. }) => {}
            Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            decided => return decided,
        }
    }
    of_ledger(dir, id)
}

/// How far the ledger in `dir` goes, and when it was last written to.
fn extent(dir: &Path) -> Result<(Extent, Utc), HistoryError> {
    let (mut last, mut written) = (Extent { file: 0, octets: 0 }, Utc(i64::MIN));
    for path in entries(dir)? {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A spare file that its writer has removed since.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(HistoryError::Io { path, source }),
        };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".log").and_then(|stem| stem.parse().ok());
        let Some(number) = number.filter(|number| *number > 0) else { continue };
        if number > last.file {
            last = Extent { file: number, octets: metadata.len() };
        }
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        // A time that cannot be had excuses nothing.
        written = written.max(modified.map_or(Utc(i64::MAX), |age| Utc(0).after(age)));
    }
    Ok((last, written))
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut found = entries(path)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// What is in a directory, sorted; nothing if it is not there.
fn entries(path: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let at = |source| HistoryError::Io { path: path.to_owned(), source };
    let listing = match fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(at(source)),
    };
    let mut found = Vec::new();
    for entry in listing {
        found.push(entry.map_err(at)?.path());
    }
    found.sort();
    Ok(found)
}
