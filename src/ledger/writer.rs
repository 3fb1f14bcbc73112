//! writer — appends to the ledger: records gather in a frame, a commit writes it, a thread syncs.
//!
//! A file ends at its size, at UTC midnight (each file becomes one `dt=` partition) or on request,
//! and the next one is ready before: two are preallocated at the start and a spare is made at each
//! change, so a full disk shows as [`LedgerError::Next`] while there is still a whole file to
//! write to.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::file::{LogFile, Origin, remove, sync_dir};
use super::format::{FILE_HEADER, FRAME_HEADER, seal};
use super::record::{put_note, put_outcome, put_started};
use super::replay::Tail;
use super::sync::{Belief, Spare, Syncer};
use super::{FileNumber, LedgerError};
use crate::limits::{CONNECTIONS_MAX, LEDGER_FILE_BYTES};
use crate::outcome::{Outcome, Row};
use crate::units::Utc;

/// Octets of one frame. A delivery thread commits after each turn of its ring; a turn in which
/// every connection starts and ends a message makes some 10 MB at most.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(FRAME_BYTES_MAX as u64 * 2 <= LEDGER_FILE_BYTES);
const _: () = assert!(CONNECTIONS_MAX as usize * 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(LEDGER_FILE_BYTES < u32::MAX as u64);

/// The one who writes the ledger of a run. Dropped without [`close`](Writer::close) it leaves what
/// a crash leaves: everything committed, and no more.
#[derive(Debug)]
pub struct Writer {
    origin: Origin,
    current: Arc<LogFile>,
    /// The UTC day of the current file; none before its first frame.
    day: Option<i64>,
    /// The next file; none while the thread makes it.
    spare: Option<Spare>,
    sequence: u64,
    frame: Vec<u8>,
    records: u32,
    belief: Arc<Belief>,
    syncer: Syncer,
}

impl Writer {
    /// Opens the ledger in `dir` (which exists) for appending after `tail`.
    ///
    /// Brings the files that replay read to the disk first, because the new ones build on them,
    /// and frees what they had preallocated and not used.
    ///
    /// # Errors
    /// [`LedgerError::Space`], [`LedgerError::Unsupported`] or [`LedgerError::Io`].
    ///
    /// # Panics
    /// When `run_id` has more than [`RUN_ID_MAX`](super::RUN_ID_MAX) octets.
    pub fn open(dir: &Path, run_id: &str, now: Utc, tail: &Tail) -> Result<Writer, LedgerError> {
        Writer::open_sized(dir, run_id, now, tail, LEDGER_FILE_BYTES)
    }

    /// As [`open`](Writer::open), with files of `file_bytes` octets, for tests and small disks. A
    /// frame that is larger than that makes its file larger.
    ///
    /// # Errors
    /// As [`open`](Writer::open).
    pub fn open_sized(
        dir: &Path,
        run_id: &str,
        now: Utc,
        tail: &Tail,
        file_bytes: u64,
    ) -> Result<Writer, LedgerError> {
        settle(dir, tail)?;
        let origin = Origin {
            dir: dir.to_owned(),
            run_id: run_id.to_owned(),
            start: tail.starts + 1,
            base: tail.last_sequence + 1,
            lost: tail.lost,
            file_bytes: file_bytes.max(FILE_HEADER as u64),
        };
        let number = tail.last_file.next();
        let current = LogFile::make(&origin, number, now)?;
        let spare = match LogFile::make(&origin, number.next(), now) {
            Ok(spare) => spare,
            Err(cause) => {
                remove(&current.path, dir)?;
                return Err(cause);
            }
        };
        Writer::over(origin, current, Ok(Arc::new(spare)))
    }

    fn over(origin: Origin, current: LogFile, spare: Spare) -> Result<Writer, LedgerError> {
        let current = Arc::new(current);
        let sequence = origin.base - 1;
        let belief = Arc::new(Belief::new(sequence));
        let syncer = Syncer::start(origin.clone(), Arc::clone(&current), Arc::clone(&belief))?;
        Ok(Writer {
            origin,
            current,
            day: None,
            spare: Some(spare),
            sequence,
            frame: vec![0; FRAME_HEADER],
            records: 0,
            belief,
            syncer,
        })
    }

    /// Notes that the body of this attempt is about to leave. It may leave after the next
    /// [`commit`](Writer::commit).
    ///
    /// # Panics
    /// As all that append: when more than [`FRAME_BYTES_MAX`] is waiting for its commit.
    pub fn started(&mut self, row: Row, attempt: u16, time: Utc) {
        put_started(&mut self.frame, row, attempt, time);
        self.appended();
    }

    /// Notes what an attempt ended in.
    ///
    /// # Panics
    /// When the outcome breaks a promise of its type: a next attempt without a deferral or the
    /// reverse, or a longer response text than allowed.
    pub fn outcome(&mut self, outcome: &Outcome<'_>) {
        put_outcome(&mut self.frame, outcome);
        self.appended();
    }

    /// Notes what somebody did.
    ///
    /// # Panics
    /// When `text` has more than [`NOTE_TEXT_MAX`](super::NOTE_TEXT_MAX) octets.
    pub fn note(&mut self, time: Utc, text: &str) {
        put_note(&mut self.frame, time, text);
        self.appended();
    }

    fn appended(&mut self) {
        self.records += 1;
        assert!(self.frame.len() <= FRAME_BYTES_MAX, "commits come before 16 MiB are waiting");
    }

    /// Writes what was noted since the last commit as one frame; nothing when there is none. From
    /// then on it survives this process; about one group commit later it survives power loss.
    ///
    /// # Errors
    /// [`LedgerError::Next`]: written, but there is no file to go on with; stop sending and close.
    /// [`LedgerError::Latched`]: not written, and nothing will be.
    pub fn commit(&mut self, now: Utc) -> Result<(), LedgerError> {
        self.write(now)?;
        self.check_next()
    }

    /// Commits and goes on in a new file, so that all files before [`file`](Writer::file) are
    /// finished. Nothing happens when the current file has no frame.
    ///
    /// # Errors
    /// As [`commit`](Writer::commit).
    pub fn rotate(&mut self, now: Utc) -> Result<(), LedgerError> {
        self.write(now)?;
        if self.day.is_some() {
            self.switch(now)?;
        }
        self.check_next()
    }

    /// The file that the next frame goes to, unless it is full by then.
    pub fn file(&self) -> FileNumber {
        self.current.number
    }

    /// The sequence of the last frame written.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The highest sequence known to be on disk.
    pub fn durable(&self) -> u64 {
        self.belief.durable()
    }

    /// Commits, syncs, seals the file with an empty frame that says so, cuts it to its length and
    /// removes the spare.
    ///
    /// # Errors
    /// [`LedgerError::Latched`], or [`LedgerError::Io`] from the last steps; everything committed
    /// is as durable as it was, and replay reads it.
    pub fn close(mut self, now: Utc) -> Result<(), LedgerError> {
        let written = self.write(now);
        let Writer { origin, current, spare, sequence, belief, syncer, .. } = self;
        let last_made = syncer.end();
        written?;
        belief.check()?;
        let mut seal_frame = [0; FRAME_HEADER];
        seal(&mut seal_frame, sequence + 1, sequence, now, 0);
        current.append(&seal_frame, sequence + 1)?;
        current.finish()?;
        if let Some(Ok(spare)) = spare.or(last_made) {
            remove(&spare.path, &origin.dir)?;
        }
        Ok(())
    }

    fn write(&mut self, now: Utc) -> Result<(), LedgerError> {
        self.belief.check()?;
        if self.records == 0 {
            return Ok(());
        }
        let full = self.current.end() + self.frame.len() as u64 > self.origin.file_bytes;
        if self.day.is_some_and(|day| full || day != now.day()) {
            self.switch(now)?;
        }
        self.sequence += 1;
        seal(&mut self.frame, self.sequence, self.belief.durable(), now, self.records);
        let appended = self.current.append(&self.frame, self.sequence);
        appended.map_err(|trouble| self.belief.lose(trouble))?;
        self.day.get_or_insert(now.day());
        self.frame.truncate(FRAME_HEADER);
        self.records = 0;
        self.syncer.written();
        Ok(())
    }

    /// Goes on in the spare. Without one it stays in the current file, past its day and its size:
    /// the run is told to stop by `check_next`, and its last outcomes matter more than that.
    fn switch(&mut self, now: Utc) -> Result<(), LedgerError> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => self.await_spare()?,
        };
        match spare {
            Ok(next) => {
                self.current = Arc::clone(&next);
                self.day = None;
                self.syncer.switched(next, now);
            }
            Err(cause) => self.spare = Some(Err(cause)),
        }
        Ok(())
    }

    fn await_spare(&self) -> Result<Spare, LedgerError> {
        match self.syncer.spare() {
            Some(spare) => Ok(spare),
            None => Err(self.belief.check().expect_err("the thread ends early only in trouble")),
        }
    }

    fn check_next(&mut self) -> Result<(), LedgerError> {
        if self.spare.is_none() {
            self.spare = self.syncer.try_spare();
        }
        match &self.spare {
            Some(Err(cause)) => Err(LedgerError::Next(Arc::clone(cause))),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Makes what replay has read durable, before anything is built on it.
fn settle(dir: &Path, tail: &Tail) -> Result<(), LedgerError> {
    for number in (1..=tail.last_file.0).map(FileNumber) {
        let path = number.path(dir);
        let opened = File::options().write(true).open(&path);
        let file = opened.map_err(LedgerError::io("opening", &path))?;
        if let Some((_, end)) = tail.loose.iter().find(|(loose, _)| *loose == number) {
            file.set_len(*end).map_err(LedgerError::io("truncating", &path))?;
        }
        file.sync_all().map_err(LedgerError::io("syncing", &path))?;
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use super::*;
    use crate::ledger::{At, Record, replay};

    const NOON: Utc = Utc(1_795_262_400_000_000);
    const DAY: i64 = 86_400_000_000;

    fn open(dir: &Path, file_bytes: u64) -> Writer {
        Writer::open_sized(dir, "run", NOON, &Tail::default(), file_bytes).unwrap()
    }

    fn commit_row(writer: &mut Writer, row: u32, now: Utc) {
        writer.started(Row(row), 1, now);
        writer.commit(now).unwrap();
    }

    fn rows(dir: &Path) -> (Vec<(u32, u32)>, Tail) {
        let mut seen = Vec::new();
        let mut see = |at: At, record: Record<'_>| {
            let Record::Started { row, .. } = record else { panic!("{record:?}") };
            seen.push((at.file.0, row.0));
        };
        let tail = replay(dir, "run", &mut see).unwrap();
        (seen, tail)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_closed_ledger_is_as_long_as_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 1 << 16);
        assert_eq!(names(dir.path()), ["000001.log", "000002.log"]);
        commit_row(&mut writer, 7, NOON);
        writer.commit(NOON).unwrap();
        assert_eq!(writer.sequence(), 1);
        writer.close(NOON).unwrap();
        assert_eq!(names(dir.path()), ["000001.log"]);
        let length = std::fs::metadata(dir.path().join("000001.log")).unwrap().len();
        assert_eq!(length, 128 + (40 + 24) + 40);
        let (seen, tail) = rows(dir.path());
        assert_eq!(seen, [(1, 7)]);
        assert_eq!((tail.last_file, tail.last_sequence), (FileNumber(1), 2));
    }

    #[test]
    fn a_file_ends_at_midnight_at_its_size_and_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 128 + 2 * 64);
        writer.rotate(NOON).unwrap();
        commit_row(&mut writer, 1, NOON);
        commit_row(&mut writer, 2, Utc(NOON.0 + DAY));
        commit_row(&mut writer, 3, Utc(NOON.0 + DAY));
        commit_row(&mut writer, 4, Utc(NOON.0 + DAY));
        writer.rotate(Utc(NOON.0 + DAY)).unwrap();
        assert_eq!(writer.file(), FileNumber(4));
        commit_row(&mut writer, 5, Utc(NOON.0 + DAY));
        writer.close(Utc(NOON.0 + DAY)).unwrap();
        let (seen, tail) = rows(dir.path());
        assert_eq!(seen, [(1, 1), (2, 2), (2, 3), (3, 4), (4, 5)]);
        assert_eq!(tail.torn, None);
        assert_eq!(names(dir.path()).len(), 4);
    }

    #[test]
    fn frames_become_durable_and_later_frames_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 1 << 16);
        commit_row(&mut writer, 1, NOON);
        while writer.durable() < 1 {
            std::thread::yield_now();
        }
        commit_row(&mut writer, 2, NOON);
        drop(writer);
        let octets = std::fs::read(dir.path().join("000001.log")).unwrap();
        assert_eq!(octets[192 + 24..192 + 32], 1_u64.to_le_bytes());
    }

    #[test]
    fn a_new_start_goes_on_where_the_last_one_fell() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 1 << 16);
        commit_row(&mut writer, 1, NOON);
        drop(writer);
        let (_, tail) = rows(dir.path());
        let mut writer = Writer::open_sized(dir.path(), "run", NOON, &tail, 1 << 16).unwrap();
        let lengths: Vec<_> = (1..=4)
            .map(|n| std::fs::metadata(FileNumber(n).path(dir.path())).unwrap().len())
            .collect();
        assert_eq!(lengths, [192, 128, 1 << 16, 1 << 16]);
        assert_eq!(writer.file(), FileNumber(3));
        commit_row(&mut writer, 2, NOON);
        writer.close(NOON).unwrap();
        assert_eq!(rows(dir.path()).0, [(1, 1), (3, 2)]);
    }

    /// A writer over a device instead of a file: the kernel's own errors without a disk to break.
    fn over_device(device: &str) -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin {
            dir: dir.path().to_owned(),
            run_id: "run".into(),
            start: 1,
            base: 1,
            lost: 0,
            file_bytes: 1 << 16,
        };
        let file = File::options().write(true).open(device).unwrap();
        let current = LogFile::over(file, device.into(), FileNumber(1));
        let spare = LogFile::make(&origin, FileNumber(2), NOON).unwrap();
        let writer = Writer::over(origin, current, Ok(Arc::new(spare))).unwrap();
        (dir, writer)
    }

    fn cause(error: &LedgerError) -> (String, i32) {
        let LedgerError::Latched(first) = error else { panic!("{error:?}") };
        let source = first.source().and_then(|source| source.downcast_ref::<io::Error>());
        (first.to_string(), source.unwrap().raw_os_error().unwrap())
    }

    #[test]
    fn a_failed_write_latches() {
        let (_dir, mut writer) = over_device("/dev/full");
        writer.started(Row(1), 1, NOON);
        let first = writer.commit(NOON).unwrap_err();
        let no_space = rustix::io::Errno::NOSPC.raw_os_error();
        assert_eq!(cause(&first), ("writing /dev/full".into(), no_space));
        let second = writer.commit(NOON).unwrap_err();
        assert_eq!(cause(&second), cause(&first));
        assert_eq!(cause(&writer.rotate(NOON).unwrap_err()), cause(&first));
        assert_eq!(cause(&writer.close(NOON).unwrap_err()), cause(&first));
    }

    #[test]
    fn a_failed_sync_latches() {
        let (_dir, mut writer) = over_device("/dev/null");
        commit_row(&mut writer, 1, NOON);
        while writer.commit(NOON).is_ok() {
            std::thread::yield_now();
        }
        assert_eq!(writer.durable(), 0);
        let invalid = rustix::io::Errno::INVAL.raw_os_error();
        let found = cause(&writer.close(NOON).unwrap_err());
        assert_eq!(found, ("syncing /dev/null".into(), invalid));
    }

    #[test]
    #[should_panic(expected = "16 MiB")]
    fn a_frame_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 1 << 16);
        for row in 1..1_000_000 {
            writer.started(Row(row), 1, NOON);
        }
    }
}
