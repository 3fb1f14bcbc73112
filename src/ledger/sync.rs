//! sync — the thread that brings written frames to the disk, and keeps a spare file ready.
//!
//! It syncs at once and then rests for [`GROUP_COMMIT`], so under load one sync serves all frames
//! of that time, and a lone frame waits for nothing. A sync that does not succeed latches the
//! ledger and ends the thread: the kernel may have dropped the pages, so trying again would
//! report a success that is none. It never touches a frame; it must not know what is in one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::LedgerError;
use super::file::{LogFile, Origin};
use crate::limits::GROUP_COMMIT;
use crate::units::Utc;

/// Jobs that may wait. Any waiting job leads to a sync of what is current when it is done, so
/// further calls to sync need not queue.
const JOBS: usize = 4;

/// What the writer and the thread both see.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// The highest sequence known to be on disk.
    durable: AtomicU64,
    /// The first write or sync that did not succeed.
    trouble: OnceLock<Arc<LedgerError>>,
}

impl Belief {
    pub(super) fn new(durable: u64) -> Belief {
        Belief { durable: AtomicU64::new(durable), trouble: OnceLock::new() }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Latches; only the first trouble is kept.
    pub(super) fn lose(&self, trouble: LedgerError) -> LedgerError {
        LedgerError::Latched(Arc::clone(self.trouble.get_or_init(|| Arc::new(trouble))))
    }

    /// # Errors
    /// [`LedgerError::Latched`] once anything went wrong.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        match self.trouble.get() {
            None => Ok(()),
            Some(first) => Err(LedgerError::Latched(Arc::clone(first))),
        }
    }
}

/// A file made ahead, or why there is none.
pub(super) type Spare = Result<Arc<LogFile>, Arc<LedgerError>>;

enum Job {
    /// There is something to sync.
    Written,
    /// The writer went on to `next`; finish the one before and make another spare.
    Switched { next: Arc<LogFile>, now: Utc },
}

/// The thread, as the writer holds it.
#[derive(Debug)]
pub(super) struct Syncer {
    jobs: Sender<Job>,
    spares: Receiver<Spare>,
    thread: JoinHandle<()>,
}

impl Syncer {
    /// Starts the thread with `current` as the file being written.
    pub(super) fn start(
        origin: Origin,
        current: Arc<LogFile>,
        belief: Arc<Belief>,
    ) -> Result<Syncer, LedgerError> {
        let dir = origin.dir.clone();
        let (jobs, waiting) = bounded(JOBS);
        let (made, spares) = bounded(1);
        let desk = Desk { origin, current, belief, made };
        let thread = thread::Builder::new()
            .name("ledger-sync".into())
            .spawn(move || desk.work(&waiting))
            .map_err(LedgerError::io("starting the sync thread for", &dir))?;
        Ok(Syncer { jobs, spares, thread })
    }

    /// Says that a frame was written. Never blocks; whether the thread ended is in [`Belief`].
    pub(super) fn written(&self) {
        match self.jobs.try_send(Job::Written) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Says that `next` is written from now on. Whether the thread ended is in [`Belief`].
    pub(super) fn switched(&self, next: Arc<LogFile>, now: Utc) {
        drop(self.jobs.send(Job::Switched { next, now }));
    }

    /// The next spare, if it is there by now.
    pub(super) fn try_spare(&self) -> Option<Spare> {
        self.spares.try_recv().ok()
    }

    /// The next spare, waiting for it; `None` when the thread ended.
    pub(super) fn spare(&self) -> Option<Spare> {
        self.spares.recv().ok()
    }

    /// Syncs what is left, ends the thread, and gives back a spare that was not taken.
    pub(super) fn end(self) -> Option<Spare> {
        drop(self.jobs);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.spares.try_recv().ok()
    }
}

struct Desk {
    origin: Origin,
    current: Arc<LogFile>,
    belief: Arc<Belief>,
    made: Sender<Spare>,
}

impl Desk {
    fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let done = match job {
                Job::Written => self.sync(),
                Job::Switched { next, now } => self.switch(next, now),
            };
            if let Err(trouble) = done {
                self.belief.lose(trouble);
                return;
            }
            thread::sleep(GROUP_COMMIT);
        }
        if let Err(trouble) = self.sync() {
            self.belief.lose(trouble);
        }
    }

    fn sync(&self) -> Result<(), LedgerError> {
        let written = self.current.written();
        if written > self.belief.durable() {
            self.current.sync()?;
            self.belief.durable.store(written, Ordering::Release);
        }
        Ok(())
    }

    fn switch(&mut self, next: Arc<LogFile>, now: Utc) -> Result<(), LedgerError> {
        self.sync()?;
        self.current.finish()?;
        self.current = next;
        self.sync()?;
        let spare = LogFile::make(&self.origin, self.current.number.next(), now);
        // The channel holds one, and the writer took the one before; or the writer is gone, and
        // replay ignores a file without frames.
        drop(self.made.send(spare.map(Arc::new).map_err(Arc::new)));
        Ok(())
    }
}
