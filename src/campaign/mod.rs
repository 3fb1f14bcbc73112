//! campaign — the campaign file: one TOML file that says what is sent to whom, from whom and how
//! fast.
//!
//! [`parse`] takes the text and gives either the whole campaign or every problem at once, each with
//! its line and column: syntax errors, unknown keys, wrong types, missing keys, bad values and
//! keys that contradict each other. [`KEYS`] is the vocabulary: the decoder, the suggestions and
//! the documentation read the same table. Relative paths are relative to the campaign file.
//!
//! The section `[rates]` is a rate table of its own and has another reader: it may stand here, with
//! anything in it.
//!
//! Values that another room may complain about later carry their [`Place`]. Templates stay text
//! here; the place of a template is that of its first character.
//!
//! This room opens no file, and must not know what a template means, what a list holds, whether a
//! key exists or a host answers.

mod decode;
mod forms;
mod keys;
mod reader;
mod section;
mod sending;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use crate::problem::{Place, Problem};
use crate::units::{Rate, Utc};

pub use keys::{KEYS, Key, Presence};

/// Octets that a VERP token may have: the return path of a message is `local+token@domain`, and
/// its local part must fit [`crate::limits::LOCAL_PART_MAX`].
pub const TOKEN_MAX: usize = 40;

/// A value and where it was written; defaults have the place of their section, or of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// One campaign, as its file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// The campaign's name in directories, file names and accounting.
    pub id: At<String>,
    /// `From:`.
    pub from: Sender,
    /// `Reply-To:`.
    pub reply_to: Option<Sender>,
    /// Template of the recipient's display name in `To:`.
    pub to_name: Option<At<String>>,
    /// Where bounces go; each message gets a token of its own behind the local part.
    pub return_path: At<Mailbox>,
    /// Template of `Subject:`.
    pub subject: At<String>,
    /// Headers of the campaign's own, in the order of the file.
    pub headers: Vec<Header>,
    /// The bodies.
    pub content: Content,
    /// The list.
    pub recipients: Recipients,
    /// How to get off the list.
    pub unsubscribe: Option<Unsubscribe>,
    /// The keys to sign with; empty exactly when the campaign says `unsigned = true`.
    pub dkim: Vec<Dkim>,
    /// How to deliver.
    pub delivery: Delivery,
    /// Where to send from, in the order of the file; at least one.
    pub sources: Vec<Source>,
    /// Whom to ask for mail hosts.
    pub dns: Dns,
    /// How to warm sources up.
    pub warmup: Warmup,
    /// What to watch, in the order of the file.
    pub thresholds: Vec<Threshold>,
    /// What to keep.
    pub accounting: Accounting,
    /// The directory that holds the run directories.
    pub runs: At<PathBuf>,
}

/// A mailbox with the template of its display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Template of the display name.
    pub name: Option<At<String>>,
    /// The address; not a template.
    pub mailbox: At<Mailbox>,
}

/// A mail address: a dot-atom and a domain in A-labels, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Before the `@`, at most [`crate::limits::LOCAL_PART_MAX`] octets of ASCII.
    pub local: String,
    /// Behind the `@`, at most [`crate::limits::DOMAIN_MAX`] octets.
    pub domain: String,
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// A header of the campaign's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The field name as written.
    pub name: At<String>,
    /// Template of its value.
    pub template: At<String>,
}

/// The template files of the bodies; at least one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The HTML part.
    pub html: Option<At<PathBuf>>,
    /// The plain text part.
    pub text: Option<At<PathBuf>>,
}

/// The list of recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients {
    /// The list.
    pub file: At<PathBuf>,
    /// The column that holds the mail address.
    pub address: At<String>,
    /// What separates the columns; `None` to tell it from the file.
    pub delimiter: Option<u8>,
    /// The column of numbers by which warm-up begins with the most engaged.
    pub engagement: Option<At<String>>,
}

/// How to get off the list; at least one way is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Template of the HTTPS URL.
    pub url: Option<At<String>>,
    /// Template of the mail address, perhaps with a `?subject=…`.
    pub mailto: Option<At<String>>,
    /// Whether the URL takes an RFC 8058 POST; never without a URL.
    pub one_click: bool,
}

/// A key to sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// `d=`, in A-labels, lower case.
    pub domain: At<String>,
    /// `s=`.
    pub selector: At<String>,
    /// The private key.
    pub key_file: At<PathBuf>,
}

/// How to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where mail goes.
    pub route: At<Route>,
    /// The port of mail hosts, not 0; of use under [`Route::Mx`] only.
    pub port: u16,
    /// What to say in EHLO; `None` for the machine's own name.
    pub ehlo_name: Option<At<String>>,
    /// Connections at a time, to all providers together; at least 1.
    pub connections: u32,
    /// Attempted recipients per period, at all providers together; `None` for no limit.
    pub rate: Option<Rate>,
    /// How to treat the smarthost: there exactly under [`Route::Host`]. Mail hosts have their rate
    /// table instead.
    pub smarthost: Option<Smarthost>,
    /// The site's rate tables; a later one beats an earlier one.
    pub rate_tables: Vec<At<PathBuf>>,
    /// The pool of sources to send from, which has at least one; `None` for all sources.
    pub pool: Option<At<String>>,
    /// What becomes of messages that may or may not have arrived.
    pub on_doubt: OnDoubt,
}

/// How to treat a smarthost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// Messages before a connection is closed; `None` for no limit.
    pub messages_per_connection: Option<u32>,
    /// The waits before the second, third, … attempt, at least one; the last repeats.
    pub retry: Vec<Duration>,
    /// How long after its first attempt a message is given up.
    pub expire_after: Duration,
}

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the recipients' own mail hosts.
    Mx,
    /// All of it to one host.
    Host {
        /// The host.
        host: Host,
        /// The port, not 0.
        port: u16,
    },
}

/// A host by its address or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By name, lower case, to be resolved.
    Name(String),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Mx => f.write_str("mx"),
            Route::Host { host: Host::Ip(IpAddr::V6(ip)), port } => write!(f, "[{ip}]:{port}"),
            Route::Host { host: Host::Ip(IpAddr::V4(ip)), port } => write!(f, "{ip}:{port}"),
            Route::Host { host: Host::Name(name), port } => write!(f, "{name}:{port}"),
        }
    }
}

/// One address to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// No other source has it; `None`, of the only source, for what the system chooses.
    pub address: Option<At<IpAddr>>,
    /// What to say in EHLO, its own or that of the delivery; `None` for the machine's own name.
    pub ehlo_name: Option<At<String>>,
    /// Its share of the messages where limits leave a choice, from 1 to 1000.
    pub weight: u32,
    /// The pool that it belongs to.
    pub pool: String,
    /// How it is warmed up; `None` when it is warm.
    pub warmup: Option<Warming>,
}

/// How one source is warmed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warming {
    /// The name of the schedule.
    pub schedule: At<String>,
    /// The beginning of its first day, UTC.
    pub from: Utc,
}

/// Whom to ask for mail hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The resolvers; empty for those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How often a question is asked, at least once.
    pub attempts: u32,
    /// Whether mail hosts are looked for at IPv6 addresses.
    pub ipv6: bool,
    /// A file of mail hosts that is asked first.
    pub hosts: Option<At<PathBuf>>,
}

/// How sources are warmed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// Files of schedules besides those built in.
    pub schedules: Vec<At<PathBuf>>,
    /// What becomes of messages beyond a source's cap of the day.
    pub overflow: Overflow,
}

/// What becomes of messages beyond a source's cap of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// They go from sources that are warm.
    Warm,
    /// They wait for the next day.
    Tomorrow,
}

/// A share of outcomes that is watched, and what is done when it is exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// What is counted.
    pub measure: Measure,
    /// The share above which the action is taken, in millionths: 80,000 is 8 %. From 1 to
    /// 1,000,000.
    pub above_ppm: u32,
    /// The time over which the share is taken.
    pub window: Duration,
    /// Outcomes in the window below which nothing is concluded; at least 1.
    pub at_least: u32,
    /// Whose outcomes.
    pub of: Watched,
    /// What is done.
    pub action: Reaction,
    /// A program to run when the action is taken, and its arguments; empty for none.
    pub command: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// What a threshold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Attempts that were told to come again.
    Deferral,
    /// Recipients that were refused for good.
    Bounce,
    /// Refusals of us and not of the recipient.
    Block,
}

/// Whose outcomes a threshold counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Those of each provider by itself.
    Each,
    /// Those of all providers together.
    Together,
    /// Those of this provider.
    Provider(At<String>),
}

/// What a threshold does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is said.
    Warn,
    /// The provider is approached more slowly.
    Slow,
    /// Nothing more is sent there until somebody says so.
    Stop,
}

/// What becomes of a message whose final reply was lost (RFC 1047).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDoubt {
    /// It is listed and not sent again: nobody gets it twice.
    Hold,
    /// It is sent again: everybody gets it at least once.
    Resend,
}

/// What accounting keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// The root of the Parquet data set.
    pub directory: At<PathBuf>,
    /// Whether mail addresses are written into it.
    pub addresses: Addresses,
}

/// Whether accounting writes mail addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// As columns of their own.
    Keep,
    /// Not at all; rows are found by their number.
    Drop,
}

/// Reads a campaign file; `file` is its name for places, and the directory for relative paths.
///
/// # Errors
/// Every problem of the file, in the order of their places; never an empty list. While the syntax
/// is broken, missing keys are not reported: the parser may have lost them.
pub fn parse(file: &str, text: &str) -> Result<Campaign, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = reader::Reader::new(file, text, &errors);
    let campaign = decode::campaign(&mut reader, root.get_ref());
    let problems = reader.finish();
    match campaign {
        Some(campaign) if problems.is_empty() => Ok(campaign),
        _ => {
            assert!(!problems.is_empty(), "a campaign is incomplete only for a reported reason");
            Err(problems)
        }
    }
}
