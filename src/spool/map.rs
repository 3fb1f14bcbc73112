//! map — a segment file as memory: shared with the page cache, all its pages present.
//!
//! The file must be preallocated before it is mapped; `files` does that.

#![expect(unsafe_code, reason = "a file mapping is sound only by what other processes do not do")]

use std::fs::File;
use std::hint::black_box;
use std::io;

use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::io::Errno;

/// The smallest page of any Linux architecture; touching more often than needed does no harm.
const PAGE: usize = 4096;

/// The first `bytes` octets of `file`, mapped shared, every page present and writable.
///
/// # Errors
/// The kernel's; EFAULT or EHWPOISON when a page cannot be had.
pub(super) fn map(file: &File, bytes: usize) -> io::Result<MmapMut> {
    // SAFETY: the mapping is valid as long as nobody truncates the file or writes to it by another
    // way. Nobody else has a reason to open a segment for writing: the run directory is locked by
    // this process, this process opens each segment once, and `dump` only reads, by plain reads.
    let mut mapping = unsafe { MmapOptions::new().len(bytes).map_mut(file) }?;
    populate(&mut mapping)?;
    Ok(mapping)
}

/// Faults every page in for writing, so that filling a segment costs a copy and no page faults.
fn populate(mapping: &mut MmapMut) -> io::Result<()> {
    match mapping.advise(Advice::PopulateWrite) {
        // Linux before 5.14 does not know the advice.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            touch(mapping);
            Ok(())
        }
        other => other,
    }
}

/// Writes to every page. What a segment file held before is of no interest.
fn touch(octets: &mut [u8]) {
    for page in octets.chunks_mut(PAGE) {
        page[0] = black_box(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_the_mapping_is_in_the_file() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = path.reopen().unwrap();
        file.set_len(10_000).unwrap();
        let mut mapping = map(&file, 10_000).unwrap();
        mapping[9_999] = 7;
        assert_eq!(std::fs::read(path.path()).unwrap()[9_998..], [0, 7]);
    }

    #[test]
    fn touching_reaches_every_page() {
        let mut octets = vec![1; 2 * PAGE + 1];
        touch(&mut octets);
        assert_eq!(octets.iter().filter(|octet| **octet == 0).count(), 3);
    }
}
