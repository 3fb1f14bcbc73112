//! receiver — the mail receiver of the demo: a thread of this process, and the independent witness
//! of what the sender did.
//!
//! It shares no code with the sender, listens on the loopback address alone and keeps no mail. It
//! notes the key of every message, verifies signatures and measures the pace by itself. Like real
//! receivers it greylists and has unknown mailboxes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mailshot_sink::{
    Behaviour, Checks, Config, Counters, DkimCheck, DomainKeys, Report, Rule, Sink,
};

use super::super::{Exit, Failure};
use crate::dkim::Key;

/// Whose mail is treated how; the domains are those of the list.
const RULES: [&str; 2] = ["*@gmx.de.sink.test=grey", "*77@*=bounce"];
/// The same in words.
pub(super) const RULES_IN_WORDS: &str =
    "it greylists gmx.de, and knows no mailbox whose name ends in 77";
/// Every how many messages the signatures of one are verified: enough to find a wrong key at once,
/// and below 1 % of the receiver's time.
pub(super) const VERIFY_EVERY: u32 = 50;
/// How long each reply takes: as in a machine room. It keeps messages under way when the sender is
/// killed, so that there is something to be in doubt about.
const REPLY_DELAY: Duration = Duration::from_millis(1);
/// The window in which the pace is measured.
const PACE_WINDOW: Duration = Duration::from_secs(1);

/// A running receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Receiver {
    /// Listens on a free port of 127.0.0.1; the keys are what DNS would tell it.
    ///
    /// # Errors
    /// When the system gives no port or no event queue.
    pub(super) fn start(keys: &[Key]) -> Result<Receiver, Failure> {
        let sink = Sink::bind(config(keys)).map_err(|error| Failure::new(Exit::System, error))?;
        let address = sink.addresses()[0];
        let counters = sink.counters();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || sink.run(&told));
        Ok(Receiver { address, counters, stop, thread })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many messages it has accepted so far.
    pub(super) fn arrived(&self) -> u64 {
        self.counters.messages.load(Ordering::Relaxed)
    }

    /// Ends it; what it saw.
    pub(super) fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn config(keys: &[Key]) -> Config {
    let records: String =
        keys.iter().map(|key| format!("{}={}\n", key.dns_name(), key.public_record())).collect();
    let keys: DomainKeys = records.parse().expect("our records are well-formed");
    let rules = RULES.map(|rule| rule.parse::<Rule>().expect("a constant rule"));
    Config {
        behaviour: Behaviour { rules: rules.to_vec(), delay: REPLY_DELAY, ..Behaviour::default() },
        checks: Checks {
            keys: true,
            dkim: Some(DkimCheck { keys, every: VERIFY_EVERY }),
            form: true,
            rate_window: Some(PACE_WINDOW),
            store: None,
        },
        ..Config::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}
