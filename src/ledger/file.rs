//! file — making ledger files: preallocated, with their header, on disk before they are used.
//!
//! Preallocation is what turns a full disk into an error before there is anything to lose; zeros
//! follow what is written until the file is finished and cut to its length.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::format::{FILE_HEADER, FileHeader, VERSION};
use super::{FileNumber, LedgerError};
use crate::units::Utc;

/// What all files of one start of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) dir: PathBuf,
    pub(super) run_id: String,
    /// Which start of the run this is, from 1.
    pub(super) start: u32,
    /// The sequence of its first frame.
    pub(super) base: u64,
    /// Frames known to be lost before that.
    pub(super) lost: u64,
    /// Octets to preallocate for each file.
    pub(super) file_bytes: u64,
}

/// A ledger file while it is written: the writer appends, the sync thread syncs.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) number: FileNumber,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The sequence of the last frame written here; 0 before the first.
    written: AtomicU64,
    /// Octets written.
    end: AtomicU64,
}

impl LogFile {
    /// Makes the file: preallocated, its header and its directory entry on disk.
    ///
    /// # Errors
    /// [`LedgerError::Space`], [`LedgerError::Unsupported`] or [`LedgerError::Io`]; then no file
    /// is left behind, so that a preallocation that came halfway gives its room back.
    pub(super) fn make(
        origin: &Origin,
        number: FileNumber,
        made: Utc,
    ) -> Result<LogFile, LedgerError> {
        let path = number.path(&origin.dir);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(LedgerError::io("creating", &path))?;
        let header = FileHeader {
            version: VERSION,
            number,
            start: origin.start,
            base: origin.base,
            lost: origin.lost,
            made,
            run_id: origin.run_id.clone(),
        };
        match fill(&file, &path, &header, origin) {
            Ok(()) => Ok(LogFile::over(file, path, number)),
            Err(cause) => {
                remove(&path, &origin.dir)?;
                Err(cause)
            }
        }
    }

    /// A log file over an open file whose header is written.
    pub(super) fn over(file: File, path: PathBuf, number: FileNumber) -> LogFile {
        let end = AtomicU64::new(FILE_HEADER as u64);
        LogFile { number, path, file, written: AtomicU64::new(0), end }
    }

    /// Octets written, the header included.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// The last sequence written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Appends one frame with one `pwrite` (more only where the kernel writes short).
    pub(super) fn append(&self, frame: &[u8], sequence: u64) -> Result<(), LedgerError> {
        let end = self.end();
        self.file.write_all_at(frame, end).map_err(LedgerError::io("writing", &self.path))?;
        self.end.store(end + frame.len() as u64, Ordering::Relaxed);
        self.written.store(sequence, Ordering::Release);
        Ok(())
    }

    /// Brings what is written to the disk.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        self.file.sync_data().map_err(LedgerError::io("syncing", &self.path))
    }

    /// Syncs, cuts the preallocated rest off, and syncs that.
    pub(super) fn finish(&self) -> Result<(), LedgerError> {
        self.sync()?;
        self.file.set_len(self.end()).map_err(LedgerError::io("truncating", &self.path))?;
        self.sync()
    }
}

fn fill(file: &File, path: &Path, header: &FileHeader, origin: &Origin) -> Result<(), LedgerError> {
    preallocate(file, path, origin.file_bytes)?;
    file.write_all_at(&header.encode(), 0).map_err(LedgerError::io("writing", path))?;
    file.sync_all().map_err(LedgerError::io("syncing", path))?;
    sync_dir(&origin.dir)
}

fn preallocate(file: &File, path: &Path, needed: u64) -> Result<(), LedgerError> {
    match fallocate(file, FallocateFlags::empty(), 0, needed) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => {
            let free = fstatvfs(file).map_err(io::Error::from);
            let free = free.map_err(LedgerError::io("asking for the free space of", path))?;
            let free = free.f_bavail * free.f_frsize;
            Err(LedgerError::Space { path: path.to_owned(), needed, free })
        }
        Err(Errno::OPNOTSUPP) => Err(LedgerError::Unsupported { path: path.to_owned() }),
        Err(errno) => Err(LedgerError::io("preallocating", path)(errno.into())),
    }
}

/// Removes a file that holds no frame.
pub(super) fn remove(path: &Path, dir: &Path) -> Result<(), LedgerError> {
    fs::remove_file(path).map_err(LedgerError::io("removing", path))?;
    sync_dir(dir)
}

/// Brings the directory's entries to the disk.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LedgerError> {
    let opened = File::open(dir).map_err(LedgerError::io("opening", dir))?;
    opened.sync_all().map_err(LedgerError::io("syncing", dir))
}
