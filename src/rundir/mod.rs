//! rundir — the directory of a run: its lock, its manifest, its small files written atomically.
//!
//! ```text
//! runs/<campaign>/lock                 held while `run` or `account` works on the campaign
//! runs/<campaign>/<run-id>/
//!     manifest.json    frozen facts; a directory without it is a start that never got to sending
//!     recipients.idx   one entry per input row
//!     ledger/ spool/
//!     status.json      rewritten every second
//!     control.jsonl    what was ordered while the run went on, one order a line
//!     in_doubt.csv     the rows in doubt, if there are any
//!     report.json      written once: the run has ended
//! ```
//!
//! How it fails: every error names the path. It knows no campaign, no SMTP; only files.

pub mod control;
mod manifest;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

pub use manifest::{Digest, Frozen, Manifest, difference};

/// What can go wrong with a run's directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else works on this campaign.
    #[error("another mailshot works on this campaign (it holds {path})", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A line of the recorded orders is none.
    #[error("{path}:{line}: {why}", path = path.display())]
    NotAnOrder {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The manifest is not one.
    #[error("{path} is not a manifest of this version: {why}", path = path.display())]
    NotAManifest {
        /// Which file.
        path: PathBuf,
        /// What the reader says.
        why: String,
    },
}

/// Makes an [`RunDirError::Io`] of an error at `path`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> RunDirError + '_ {
    move |source| RunDirError::Io { path: path.to_owned(), source }
}

/// All runs of one campaign, locked for as long as this value lives.
#[derive(Debug)]
pub struct CampaignDir {
    path: PathBuf,
    _lock: File,
}

impl CampaignDir {
    /// Opens `runs/<campaign>`, makes it if need be, and takes its lock. With `wait`, tries again
    /// until that much time has gone; the kernel frees the lock of a process that is gone.
    ///
    /// # Errors
    /// [`RunDirError::Locked`] when another process holds it.
    pub fn lock(runs: &Path, campaign: &str, wait: Duration) -> Result<CampaignDir, RunDirError> {
        const TRY_EVERY: Duration = Duration::from_millis(100);
        let path = runs.join(campaign);
        fs::create_dir_all(&path).map_err(at(&path))?;
        sync_dir(runs)?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(&lock_path).map_err(at(&lock_path))?;
        let mut tries = wait.as_millis() / TRY_EVERY.as_millis();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(CampaignDir { path, _lock: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) if tries > 0 => tries -= 1,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(RunDirError::Locked { path: lock_path });
                }
                Err(errno) => return Err(at(&lock_path)(errno.into())),
            }
            std::thread::sleep(TRY_EVERY);
        }
    }

    /// The newest run that got as far as a manifest.
    ///
    /// # Errors
    /// When the directory or the manifest cannot be read.
    pub fn latest(&self) -> Result<Option<(RunDir, Manifest)>, RunDirError> {
        latest(&self.path)
    }

    /// Makes the directory of a new run. Directories of starts that never got to a manifest are
    /// removed: nothing was sent for them.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create(&self, run_id: &str) -> Result<RunDir, RunDirError> {
        for name in run_names(&self.path)? {
            let abandoned = self.path.join(name);
            if !abandoned.join("manifest.json").exists() {
                fs::remove_dir_all(&abandoned).map_err(at(&abandoned))?;
            }
        }
        let path = self.path.join(run_id);
        // Messages and addresses lie in it: nobody else reads them.
        DirBuilder::new().mode(0o700).create(&path).map_err(at(&path))?;
        sync_dir(&self.path)?;
        Ok(RunDir { path })
    }
}

/// Makes the names in a directory survive a power loss.
fn sync_dir(path: &Path) -> Result<(), RunDirError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

/// The newest run below `runs/<campaign>`, without taking the lock (for looking only).
///
/// # Errors
/// When a directory or the manifest cannot be read.
pub fn latest(campaign_dir: &Path) -> Result<Option<(RunDir, Manifest)>, RunDirError> {
    for name in run_names(campaign_dir)?.into_iter().rev() {
        let run = RunDir { path: campaign_dir.join(name) };
        if run.file("manifest.json").exists() {
            let manifest = Manifest::read(&run.file("manifest.json"))?;
            return Ok(Some((run, manifest)));
        }
    }
    Ok(None)
}

/// Names of run directories in the order of their making: a ULID sorts by time.
fn run_names(campaign_dir: &Path) -> Result<Vec<String>, RunDirError> {
    let entries = match fs::read_dir(campaign_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(campaign_dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(campaign_dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == ULID_LEN && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Characters of a ULID (its specification, "canonically encoded as a 26 character string").
const ULID_LEN: usize = 26;

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// A run's directory that is known to exist.
    pub fn open(path: PathBuf) -> RunDir {
        RunDir { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the run has ended.
    pub fn is_finished(&self) -> bool {
        self.file("report.json").exists()
    }

    /// Writes a file whole or not at all: a temporary beside it, synced, renamed, and the
    /// directory synced, so that it survives a power loss once this returns.
    ///
    /// # Errors
    /// When the disk does not take it; the former content stays.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), RunDirError> {
        let path = self.file(name);
        let temporary = self.file(&format!("{name}.tmp"));
        let mut file = File::create(&temporary).map_err(at(&temporary))?;
        file.write_all(content).map_err(at(&temporary))?;
        file.sync_all().map_err(at(&temporary))?;
        fs::rename(&temporary, &path).map_err(at(&path))?;
        sync_dir(&self.path)
    }

    /// Removes a directory of the run that is not needed any more; it may be gone already.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(&self, name: &str) -> Result<(), RunDirError> {
        let path = self.file(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// As [`RunDir::write`], but without waiting for the disk: for what the next second rewrites.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_soon(&self, name: &str, content: &[u8]) -> Result<(), RunDirError> {
        let temporary = self.file(&format!("{name}.tmp"));
        fs::write(&temporary, content).map_err(at(&temporary))?;
        fs::rename(&temporary, self.file(name)).map_err(at(&temporary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_exclusive_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = CampaignDir::lock(dir.path(), "spring", Duration::ZERO).expect("free");
        let second = CampaignDir::lock(dir.path(), "spring", Duration::ZERO);
        assert!(matches!(second, Err(RunDirError::Locked { .. })));
        assert!(CampaignDir::lock(dir.path(), "autumn", Duration::ZERO).is_ok());
        drop(first);
        assert!(CampaignDir::lock(dir.path(), "spring", Duration::ZERO).is_ok());
    }

    #[test]
    fn a_start_without_a_manifest_is_no_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let campaign = CampaignDir::lock(dir.path(), "spring", Duration::ZERO).expect("free");
        let first = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let second = "01BX5ZZKBKACTAV9WEVGEMMVRZ";
        campaign.create(first).expect("made");
        assert!(campaign.latest().expect("readable").is_none());
        campaign.create(second).expect("made");
        assert!(!dir.path().join("spring").join(first).exists());
    }
}
