//! files — making the segment files: preallocated, so that a full disk is an error and no SIGBUS.
//!
//! Copy-on-write filesystems need a new place for a page each time it is written again, so there
//! preallocation promises nothing for a recycled segment. On btrfs the NOCOW attribute turns that
//! off (btrfs(5), "NOCOW"); where it cannot be turned off the filesystem is refused.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{
    FallocateFlags, IFlags, fallocate, fstatfs, fstatvfs, ioctl_getflags, ioctl_setflags,
};
use rustix::io::Errno;

use super::segment::HEADER;
use super::{Segment, SpoolError, map};

/// `f_type` of btrfs: `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS: u64 = 0x9123_683E;
/// `f_type` of ZFS: `S_MAGIC_ZFS` of GNU coreutils' `src/stat.c`.
const ZFS: u64 = 0x2FC1_2FC1;
/// `f_type` of bcachefs: `BCACHEFS_SUPER_MAGIC` of linux/magic.h.
const BCACHEFS: u64 = 0xCA45_1A4E;

/// Makes `segments` segments of `bytes` octets in `dir` (which exists), or takes over the files
/// that an earlier process left there; what they hold is forgotten. `run_tag` is put into each
/// segment's header for people who look at the file.
///
/// # Errors
/// [`SpoolError::Space`], [`SpoolError::Unsupported`] or [`SpoolError::Io`].
///
/// # Panics
/// When `bytes` is no multiple of 8, or too small for a header or too large for 32-bit offsets.
pub fn create(
    dir: &Path,
    run_tag: u64,
    segments: usize,
    bytes: usize,
) -> Result<Vec<Segment>, SpoolError> {
    assert!(bytes.is_multiple_of(8) && bytes > HEADER, "a segment holds a header and records");
    assert!(u32::try_from(bytes).is_ok(), "offsets in a segment have 32 bits");
    (0..segments).map(|number| open(dir, number, run_tag, bytes)).collect()
}

fn open(dir: &Path, number: usize, run_tag: u64, bytes: usize) -> Result<Segment, SpoolError> {
    let path = dir.join(format!("{number:06}.seg"));
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(SpoolError::io("opening", &path))?;
    keep_in_place(&file, &path)?;
    let length = bytes as u64;
    file.set_len(length).map_err(SpoolError::io("resizing", &path))?;
    preallocate(&file, &path, length)?;
    let mapping = map::map(&file, bytes).map_err(SpoolError::io("mapping", &path))?;
    Ok(Segment::over(mapping, number, run_tag))
}

/// Makes sure that a page written again stays where it is.
fn keep_in_place(file: &File, path: &Path) -> Result<(), SpoolError> {
    let statfs = fstatfs(file).map_err(|errno| {
        let error = SpoolError::io("asking for the filesystem of", path);
        error(errno.into())
    })?;
    // The field is signed on some architectures and 32 bits wide on others; the magics are 32 bits.
    match statfs.f_type as u64 & 0xFFFF_FFFF {
        BTRFS => no_copy_on_write(file, path),
        ZFS | BCACHEFS => Err(SpoolError::Unsupported { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// Sets NOCOW, which btrfs takes for empty files only, and makes sure of it.
fn no_copy_on_write(file: &File, path: &Path) -> Result<(), SpoolError> {
    let flags = || ioctl_getflags(file).map_err(io::Error::from);
    let reading = "reading the attributes of";
    let before = flags().map_err(SpoolError::io(reading, path))?;
    if before.contains(IFlags::NOCOW) {
        return Ok(());
    }
    file.set_len(0).map_err(SpoolError::io("emptying", path))?;
    ioctl_setflags(file, before | IFlags::NOCOW)
        .map_err(io::Error::from)
        .map_err(SpoolError::io("setting NOCOW on", path))?;
    if flags().map_err(SpoolError::io(reading, path))?.contains(IFlags::NOCOW) {
        Ok(())
    } else {
        Err(SpoolError::Unsupported { path: path.to_owned() })
    }
}

fn preallocate(file: &File, path: &Path, needed: u64) -> Result<(), SpoolError> {
    match fallocate(file, FallocateFlags::empty(), 0, needed) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => {
            let statvfs = fstatvfs(file).map_err(io::Error::from);
            let statvfs = statvfs.map_err(SpoolError::io("asking for the free space of", path))?;
            let free = statvfs.f_bavail * statvfs.f_frsize;
            Err(SpoolError::Space { path: path.to_owned(), needed, free })
        }
        Err(Errno::OPNOTSUPP) => Err(SpoolError::Unsupported { path: path.to_owned() }),
        Err(errno) => Err(SpoolError::io("preallocating", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn all_room_is_taken_at_once_and_leftovers_are_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("000001.seg"), b"left by an earlier process").unwrap();
        let big = File::create(dir.path().join("000002.seg")).unwrap();
        big.set_len(1 << 20).unwrap();
        let segments = create(dir.path(), 1, 3, 1 << 16).unwrap();
        let numbers: Vec<_> = segments.iter().map(Segment::number).collect();
        assert_eq!(numbers, [0, 1, 2]);
        for name in ["000000.seg", "000001.seg", "000002.seg"] {
            let metadata = fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(metadata.len(), 1 << 16, "{name}");
            assert!(metadata.blocks() * 512 >= 1 << 16, "{name} is sparse");
        }
        assert!(segments.iter().all(Segment::is_empty));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = create(&dir.path().join("spool"), 1, 1, 4096).unwrap_err();
        assert!(missing.to_string().ends_with("spool/000000.seg"), "{missing}");
        fs::create_dir(dir.path().join("000000.seg")).unwrap();
        let directory = create(dir.path(), 1, 1, 4096).unwrap_err();
        assert!(matches!(directory, SpoolError::Io { doing: "opening", .. }), "{directory}");
    }

    #[test]
    fn files_without_room_are_refused_with_a_sentence() {
        let path = Path::new("/dev/null");
        let file = File::options().write(true).open(path).unwrap();
        let refused = preallocate(&file, path, 4096).unwrap_err();
        assert!(matches!(refused, SpoolError::Io { doing: "preallocating", .. }), "{refused:?}");
    }
}
