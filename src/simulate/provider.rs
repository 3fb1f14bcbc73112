//! provider — what a simulated mailbox provider is like: several mail hosts with limits in common,
//! and the habits of real ones.
//!
//! These are values; the office acts on them. It must not know limits, rules or anything else
//! of the sender.

use std::net::IpAddr;
use std::time::Duration;

use super::chance::Latency;
use crate::outcome::Stage;
use crate::units::{Rate, Tick};

/// Google's reply to a source that sends too fast (support.google.com/a/answer/3726730).
pub const UNUSUAL_RATE: &str = "421-4.7.28 Gmail has detected an unusual rate of email \
originating from your IP\r\n421-4.7.28 address. To protect our users from spam, email sent from \
your IP\r\n421 4.7.28 address has been temporarily rate limited.";
/// How long a source is to be silent after [`UNUSUAL_RATE`]: "stop for at least ten minutes, then
/// one connection" (support.google.com/mail/answer/81126).
pub const UNUSUAL_RATE_SILENCE: Duration = Duration::from_secs(600);
/// Yahoo's reply to a source with complaints (senders.yahooinc.com/smtp-error-codes).
pub const COMPLAINTS: &str = "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due \
to unexpected volume or user complaints - 4.16.55.1";

/// What happens to a provider for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The host it happens to; `None` for all.
    pub host: Option<usize>,
    /// From when.
    pub from: Tick,
    /// Until when.
    pub to: Tick,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Connections are refused, those that stand break.
    Refuses,
    /// Nothing answers any more.
    Silent,
    /// Who connects is greeted with this line and the connection closes.
    Greets(&'static str),
    /// MAIL is answered with this line, the connection closes, and the source is to be silent for
    /// so long.
    Demands(&'static str, Duration),
}

/// How a provider is.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The addresses of its mail hosts.
    pub hosts: Vec<IpAddr>,
    /// Connections at a time from one source; a further one is turned away.
    pub connections: Option<u32>,
    /// Connections at a time from all sources.
    pub connections_total: Option<u32>,
    /// Messages in any window from one source; one more and the source is to be silent.
    pub rates: Vec<Rate>,
    /// Messages in any window from all sources.
    pub rates_total: Vec<Rate>,
    /// Windows that are only watched, from one source and from all; their `messages` mean nothing.
    pub watched: Vec<Rate>,
    /// Where it says that a rate was too high: at [`Stage::Mail`] or at [`Stage::Dot`].
    pub rate_at: Stage,
    /// After so many messages a connection is closed without a word.
    pub messages_per_connection: Option<u32>,
    /// A recipient is accepted so long after a source first named it.
    pub greylist: Option<Duration>,
    /// Recipients of a thousand that do not exist.
    pub bad: u32,
    /// Attempts of a thousand that are put off.
    pub deferred: u32,
    /// How long replies take.
    pub latency: Latency,
    /// How long octets travel to it at most; each time anything up to this.
    pub way: Duration,
    /// Commands may come in groups (RFC 2920).
    pub pipelining: bool,
    /// What happens to it.
    pub troubles: Vec<Trouble>,
    /// Whether the witness keeps the time of each message.
    pub noting: bool,
}

impl Habits {
    /// A provider without limits or troubles.
    pub fn plain(hosts: Vec<IpAddr>, latency: Latency) -> Habits {
        Habits {
            hosts,
            connections: None,
            connections_total: None,
            rates: Vec::new(),
            rates_total: Vec::new(),
            watched: Vec::new(),
            rate_at: Stage::Mail,
            messages_per_connection: None,
            greylist: None,
            bad: 0,
            deferred: 0,
            latency,
            way: Duration::ZERO,
            pipelining: true,
            troubles: Vec::new(),
            noting: false,
        }
    }

    pub(super) fn trouble(&self, host: usize, now: Tick) -> Option<&What> {
        let holds = |trouble: &&Trouble| {
            trouble.host.is_none_or(|of| of == host) && trouble.from <= now && now < trouble.to
        };
        self.troubles.iter().find(holds).map(|trouble| &trouble.what)
    }
}
