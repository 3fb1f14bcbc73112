//! layout — where the files of the accounting data are.
//!
//! ```text
//! accounting/
//!   v1/events/dt=2026-11-21/<campaign>_<run>_<n>.parquet     n: the number of the ledger file
//!   v1/messages/dt=2026-11-21/<campaign>_<run>_0.parquet     dt: the day on which the run started
//!   v1/runs/dt=2026-11-21/<campaign>_<run>_0.parquet
//!   .work/                                                   files being written
//! ```
//!
//! Only `*.parquet` is ever below `v1`, because Polars refuses a directory with anything else, and
//! `.work` is outside of it but on the same file system, so that a rename is atomic. The day is in
//! the path alone and never a column, since Hive and Athena do not take a name twice. Sweeping
//! fails when the work directory cannot be read or a file not be removed.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::key::rcpt_key;
use super::{AccountError, RunFacts};
use crate::units::Utc;

/// Octets of the campaign's name in a file name. File names have 255 (NAME_MAX of linux/limits.h);
/// the run's 26, the number and the prefix in `.work` need about 80.
const CAMPAIGN_MAX: usize = 128;

/// One of the three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableName {
    /// A row per attempt.
    Events,
    /// A row per row of the list.
    Messages,
    /// A row per run.
    Runs,
}

impl TableName {
    /// The name of its directory.
    pub const fn word(self) -> &'static str {
        match self {
            TableName::Events => "events",
            TableName::Messages => "messages",
            TableName::Runs => "runs",
        }
    }
}

/// The accounting directory, shared by all runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below the directory `accounting`.
    pub fn new(accounting: impl Into<PathBuf>) -> Layout {
        Layout { root: accounting.into() }
    }

    /// The directory of files being written.
    pub fn work_dir(&self) -> PathBuf {
        self.root.join(".work")
    }

    /// The secret behind the recipients' hashes, the same for all runs; made when there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn rcpt_key(&self) -> Result<[u8; 32], AccountError> {
        rcpt_key(&self.root)
    }

    /// The directory of a table, as a query engine is given it.
    pub fn table(&self, table: TableName) -> PathBuf {
        self.root.join("v1").join(table.word())
    }

    /// The file of `run` with this number in the partition of the day of `time`.
    pub fn file(&self, table: TableName, time: Utc, run: &RunFacts, number: u32) -> PathBuf {
        let campaign = file_word(&run.campaign_id);
        let name = format!("{campaign}_{}_{number}.parquet", file_word(&run.run_id));
        self.table(table).join(format!("dt={}", time.date())).join(name)
    }

    /// Removes what a killed process of the run `run_id` left in the work directory, and says how
    /// many files. The caller holds the lock of the run.
    ///
    /// # Errors
    /// The directory cannot be read, or a file cannot be removed.
    pub fn sweep(&self, run_id: &str) -> Result<usize, AccountError> {
        let dir = self.work_dir();
        let mine = format!("_{}_", file_word(run_id));
        let entries = match fs::read_dir(&dir) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(|source| AccountError::io(&dir, source))?,
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(|source| AccountError::io(&dir, source))?;
            let name = entry.file_name();
            if name.to_string_lossy().contains(&mine) {
                let path = entry.path();
                fs::remove_file(&path).map_err(|source| AccountError::io(&path, source))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A name as part of a file name: letters, digits, `.`, `-` and `_`, everything else `-`. It never
/// begins with `.` or `_`: Spark and Hive take such files for hidden ones.
fn file_word(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let word: String = name.chars().take(CAMPAIGN_MAX).map(plain).collect();
    if word.is_empty() || word.starts_with(['.', '_']) { format!("-{word}") } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_directory() {
        for (name, expected) in [
            ("spring-2026_a.b", "spring-2026_a.b"),
            ("../../etc/passwd", "-../..-etc-passwd"),
            ("_hidden", "-_hidden"),
            ("", "-"),
            ("Größe 5", "Gr--e-5"),
        ] {
            assert_eq!(file_word(name), expected.replace('/', "-"), "{name:?}");
        }
        assert_eq!(file_word(&"x".repeat(1000)).len(), CAMPAIGN_MAX);
    }

    #[test]
    fn sweeping_takes_the_files_of_one_run_only() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(layout.sweep("R1").unwrap(), 0, "there is no work directory yet");
        fs::create_dir(layout.work_dir()).unwrap();
        for name in ["events.dt=2026-11-21.c_R1_0.parquet", "runs.dt=2026-11-21.c_R12_0.parquet"] {
            fs::write(layout.work_dir().join(name), "").unwrap();
        }
        assert_eq!(layout.sweep("R1").unwrap(), 1);
        assert_eq!(fs::read_dir(layout.work_dir()).unwrap().count(), 1);
    }
}
