//! store — each accepted message as a file.
//!
//! A file is named after the message's key, `<run>-<row>.eml`, or `unkeyed-<n>.eml`; a repeated
//! key gets `.2`, `.3` and so on before the ending. The envelope stands on top as
//! `X-Envelope-From` and `X-Envelope-To`. A file that cannot be written is counted and the first
//! reason kept; the message has been accepted all the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Envelope, keys};

/// Files of one name. More copies than that are counted as failed.
const COPIES_MAX: u32 = 1000;

/// The directory at work.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    unkeyed: u64,
    report: StoreReport,
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StoreReport {
    /// Messages written.
    pub stored: u64,
    /// Messages not written.
    pub failed: u64,
    /// Why the first of these was not.
    pub first_failure: Option<String>,
}

impl Store {
    /// Makes the directory if there is none.
    pub(crate) fn new(directory: &Path) -> io::Result<Store> {
        fs::create_dir_all(directory)?;
        let report = StoreReport::default();
        Ok(Store { directory: directory.to_owned(), unkeyed: 0, report })
    }

    pub(crate) fn keep(&mut self, envelope: &Envelope, message: &[u8]) {
        match self.write(envelope, message) {
            Ok(()) => self.report.stored += 1,
            Err(error) => {
                self.report.failed += 1;
                self.report.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn write(&mut self, envelope: &Envelope, message: &[u8]) -> io::Result<()> {
        let name = match keys::key(message) {
            Some((run, row)) => format!("{run}-{row}"),
            None => {
                self.unkeyed += 1;
                format!("unkeyed-{}", self.unkeyed)
            }
        };
        let mut file = self.create(&name)?;
        let mut head = [b"X-Envelope-From: <", &*envelope.from, b">\r\n"].concat();
        for to in &envelope.to {
            head.extend_from_slice(&[b"X-Envelope-To: <", &**to, b">\r\n"].concat());
        }
        head.extend_from_slice(message);
        file.write_all(&head)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        for copy in 1..=COPIES_MAX {
            let ending = if copy == 1 { "eml".to_owned() } else { format!("{copy}.eml") };
            match File::create_new(self.directory.join(format!("{name}.{ending}"))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
        }
        Err(io::Error::other(format!("{COPIES_MAX} copies of {name} exist")))
    }

    pub(crate) fn report(self) -> StoreReport {
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_files_named_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(&directory.path().join("in/box")).unwrap();
        let to = vec![b"a@x.test".to_vec(), b"b@x.test".to_vec()];
        let envelope = Envelope { from: b"me@y.test".to_vec(), to };
        for message in
            ["X-Mailshot-Key: r-1\r\n\r\none\r\n", "X-Mailshot-Key: r-1\r\n\r\ntwo\r\n", "none"]
        {
            store.keep(&envelope, message.as_bytes());
        }
        let read = |name| fs::read_to_string(directory.path().join("in/box").join(name)).unwrap();
        let head = "X-Envelope-From: <me@y.test>\r\nX-Envelope-To: <a@x.test>\r\n\
                    X-Envelope-To: <b@x.test>\r\n";
        assert_eq!(read("r-1.eml"), format!("{head}X-Mailshot-Key: r-1\r\n\r\none\r\n"));
        assert_eq!(read("r-1.2.eml"), format!("{head}X-Mailshot-Key: r-1\r\n\r\ntwo\r\n"));
        assert_eq!(read("unkeyed-1.eml"), format!("{head}none"));
        assert_eq!(store.report().stored, 3);
    }

    #[test]
    fn a_lost_directory_is_told_not_fatal() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(&directory.path().join("box")).unwrap();
        fs::remove_dir(directory.path().join("box")).unwrap();
        store.keep(&Envelope::default(), b"x");
        let report = store.report();
        assert_eq!((report.stored, report.failed), (0, 1));
        assert!(report.first_failure.is_some());
    }
}
