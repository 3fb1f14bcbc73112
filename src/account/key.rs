//! key — the secret behind the recipients' hashes: one for each data set, made when it is first
//! needed, readable by its owner only.
//!
//! The same key for all runs, so that a recipient has the same hash in all of them. It lies beside
//! the tables, not among them; who gets a copy of the tables does not get it. Lost, it is made anew
//! and old hashes match nothing any more.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::AccountError;

/// Octets of the key: as many as HMAC-SHA256 gives (RFC 2104 §3).
const OCTETS: usize = 32;

/// Reads the key of the data set below `root`, or makes it.
///
/// # Errors
/// When it cannot be read or written, or is no key.
pub(super) fn rcpt_key(root: &Path) -> Result<[u8; OCTETS], AccountError> {
    let dir = root.join(".key");
    let path = dir.join("rcpt_hash");
    read_or_make(&dir, &path).map_err(|source| AccountError::io(&path, source))
}

fn read_or_make(dir: &Path, path: &Path) -> io::Result<[u8; OCTETS]> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir, path)?,
        _ => {}
    }
    let octets = fs::read(path)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is not a key of 32 octets");
    octets.try_into().map_err(|_| wrong())
}

/// Two processes may make it at the same time; the first one's is kept.
fn make(dir: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut key = [0; OCTETS];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no random octets"))?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(lost) if lost.error.kind() != io::ErrorKind::AlreadyExists => Err(lost.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner() {
        let root = tempfile::tempdir().expect("a directory");
        let first = rcpt_key(root.path()).expect("made");
        assert_eq!(rcpt_key(root.path()).expect("read"), first);
        assert_ne!(first, [0; OCTETS]);
        let path = root.path().join(".key/rcpt_hash");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short").expect("written");
        assert!(rcpt_key(root.path()).is_err());
    }
}
