//! witness — the sink of `tools/sink` on a thread of the test: what it saw is what arrived.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mailshot_sink::{Behaviour, Checks, Config, Counters, Report, Sink, Tallies};

use super::wait_for;

/// A running sink; stopped on drop.
pub(crate) struct Witness {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Witness {
    /// A friendly receiver on a free port that looks for repeated keys.
    pub(crate) fn friendly() -> Witness {
        Witness::start(Behaviour::default(), keys())
    }

    /// A receiver on a free port.
    pub(crate) fn start(behaviour: Behaviour, checks: Checks) -> Witness {
        Witness::start_at(0, behaviour, checks)
    }

    /// A receiver on this port.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub(crate) fn start_at(port: u16, behaviour: Behaviour, checks: Checks) -> Witness {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Witness::with(Config { behaviour, checks, ..Config::plain(listen) })
    }

    /// A receiver with this configuration.
    ///
    /// # Panics
    /// When it cannot listen.
    pub(crate) fn with(config: Config) -> Witness {
        let sink = Sink::bind(config).unwrap_or_else(|error| panic!("{error}"));
        let (address, counters) = (sink.addresses()[0], sink.counters());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || sink.run(&stopped));
        Witness { address, counters, stop, thread: Some(thread) }
    }

    /// Where it listens; of several addresses the port of the first.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it counted so far.
    pub(crate) fn seen(&self) -> Tallies {
        self.counters.snapshot()
    }

    /// Messages accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.counters.messages.load(Ordering::Relaxed)
    }

    /// Waits until this many messages were accepted.
    pub(crate) fn await_accepted(&self, count: u64, limit: Duration) {
        let enough = || (self.accepted() >= count).then_some(());
        wait_for(&format!("{count} accepted messages"), limit, enough);
    }

    /// Asserts that nobody connected so far.
    pub(crate) fn saw_nothing(&self) {
        let seen = self.seen();
        assert_eq!((seen.connections, seen.connections_refused, seen.messages), (0, 0, 0));
    }

    /// Stops it; what it saw.
    pub(crate) fn end(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the sink does not panic")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Looks for repeated keys and nothing else.
pub(crate) fn keys() -> Checks {
    Checks { keys: true, ..Checks::default() }
}

/// The rows that arrived, of all runs together, ascending.
pub(crate) fn arrived(report: &Report) -> Vec<u32> {
    let keys = report.keys.as_ref().expect("the sink was told to look at keys");
    assert_eq!(keys.without, 0, "every message has its key");
    let mut rows: Vec<u32> = keys.runs.values().flat_map(|run| run.rows.iter()).collect();
    rows.sort_unstable();
    rows
}
