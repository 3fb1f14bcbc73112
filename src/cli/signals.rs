//! signals — SIGINT and SIGTERM: the first one drains, the second one ends the process at once.
//! SIGXFSZ, which a limit on file sizes sends, does nothing, so that the write says what is wrong.
//!
//! All ends are safe: the ledger survives a kill at any moment. Draining only saves the replies
//! that are under way from becoming rows in doubt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Exit, Failure};

/// Whether and by what the process was asked to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Stop, Failure> {
        let stop = Stop::default();
        for (signal, number) in [(SIGINT, 2), (SIGTERM, 15)] {
            let code = 128 + signal;
            let armed = flag::register_conditional_shutdown(signal, code, Arc::clone(&stop.asked))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.asked)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&stop.signal), number));
            armed.map_err(|error| Failure::new(Exit::Internal, error))?;
        }
        // Whoever handles it gets EFBIG instead of being killed (setrlimit(2), RLIMIT_FSIZE).
        flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        Ok(stop)
    }

    /// The flag that the stages watch.
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// The exit of the signal that came, if one came.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) {
            2 => Some(Exit::Interrupted),
            15 => Some(Exit::Terminated),
            _ => None,
        }
    }
}
