//! control — what people and the program itself order while a run goes on, recorded in the run's
//! directory as `control.jsonl`.
//!
//! One JSON object a line, in the order in which they were given:
//!
//! ```text
//! {"time":"2026-11-21T18:04:12Z","time_us":1795284252000000,"by":"operator","do":"set",
//!  "scope":"google","key":"rate","value":"1000/h","why":"complaints went up"}
//! ```
//!
//! Any process may [`append`]; the process that works on the run [`Follow`]s. The state of the run
//! is the [`Fold`] of all lines, so a run that is resumed reads them all again.
//!
//! How it fails: a line that was torn by a crash was never acknowledged; it is left unread, and the
//! next writer cuts it off. Any other line that is not understood is an error with its number, and
//! reading stops before it. It must not know providers, sources or what an order leads to.

mod fold;
mod scope;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{RunDir, RunDirError, at, sync_dir};
use crate::limits::CONNECTIONS_MAX;
use crate::units::{self, Rate, Utc};

pub use fold::{Fold, Settings, Standing};
pub use scope::Scope;

/// The file's name in the run's directory.
const NAME: &str = "control.jsonl";
/// The value of a limit that is lifted.
const NO_LIMIT: &str = "none";

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A limit, in place of what the rate table says.
    Set {
        /// Where; only [`Setting::is_total`] settings have no source.
        scope: Scope,
        /// Which limit, and how much.
        what: Setting,
    },
    /// Nothing new is sent there.
    Pause(Scope),
    /// Pauses and halts are lifted.
    Resume(Scope),
    /// Nothing new is sent there until a person says so.
    Halt(Scope),
    /// The run ends; what was not sent is not sent.
    Cancel,
}

/// A limit and its value; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `rate`: attempted recipients per period, of each source at each provider of the scope.
    Rate(Option<Rate>),
    /// `rate_total`: the same of all sources together at a provider; of `all`, of the whole run.
    RateTotal(Option<Rate>),
    /// `connections`: at a time, of each source at each provider of the scope; at least 1.
    Connections(u32),
    /// `connections_total`: the same of all sources together at a provider; of `all`, of the run.
    ConnectionsTotal(Option<u32>),
    /// `messages_per_connection`: before a connection is closed; at least 1.
    MessagesPerConnection(Option<u32>),
}

/// The keys of settings, as they are written.
const KEYS: [&str; 5] =
    ["rate", "rate_total", "connections", "connections_total", "messages_per_connection"];

impl Setting {
    /// Its key, as it is written.
    pub fn key(&self) -> &'static str {
        match self {
            Setting::Rate(_) => "rate",
            Setting::RateTotal(_) => "rate_total",
            Setting::Connections(_) => "connections",
            Setting::ConnectionsTotal(_) => "connections_total",
            Setting::MessagesPerConnection(_) => "messages_per_connection",
        }
    }

    /// Whether it is a sum over all sources.
    pub fn is_total(&self) -> bool {
        matches!(self, Setting::RateTotal(_) | Setting::ConnectionsTotal(_))
    }

    /// Its value, as it is written.
    pub fn value(&self) -> String {
        let number = |most: Option<u32>| most.map_or(NO_LIMIT.to_owned(), |most| most.to_string());
        match *self {
            Setting::Rate(rate) | Setting::RateTotal(rate) => {
                rate.map_or(NO_LIMIT.to_owned(), exact)
            }
            Setting::Connections(most) => most.to_string(),
            Setting::ConnectionsTotal(most) | Setting::MessagesPerConnection(most) => number(most),
        }
    }

    fn read(key: &str, value: &str) -> Result<Setting, String> {
        let rate = || match value {
            NO_LIMIT => Ok(None),
            _ => units::rate(value).map(Some),
        };
        let number =
            |most: u32| {
                value.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| {
                    format!("{value:?} is not a number for {key}; write 1 to {most}")
                })
            };
        let or_none = |most: u32| match value {
            NO_LIMIT => Ok(None),
            _ => number(most).map(Some).map_err(|why| format!("{why}, or \"{NO_LIMIT}\"")),
        };
        match key {
            "rate" => rate().map(Setting::Rate),
            "rate_total" => rate().map(Setting::RateTotal),
            "connections" => number(CONNECTIONS_MAX).map(Setting::Connections),
            "connections_total" => or_none(CONNECTIONS_MAX).map(Setting::ConnectionsTotal),
            "messages_per_connection" => or_none(u32::MAX).map(Setting::MessagesPerConnection),
            _ => Err(format!("{key:?} cannot be set; there are {}", KEYS.join(", "))),
        }
    }
}

/// A rate so that it reads back as itself; what people see may be rounded.
fn exact(rate: Rate) -> String {
    let shown = rate.to_string();
    if units::rate(&shown) == Ok(rate) {
        return shown;
    }
    format!("{}/{}ms", rate.messages, rate.period.as_millis())
}

/// Reads `rate.google=1000/h`, `connections.all=50` or `rate.google@192.0.2.1=none`.
///
/// # Errors
/// A sentence that says what is wrong and what may stand there.
pub fn parse_setting(text: &str) -> Result<Command, String> {
    let wrong = || {
        format!("{text:?} sets nothing; write for example rate.google=1000/h or connections.all=50")
    };
    let (place, value) = text.split_once('=').ok_or_else(wrong)?;
    let (key, scope) = place.split_once('.').ok_or_else(wrong)?;
    set(parse_scope(scope.trim())?, key.trim(), value.trim())
}

/// Reads `all`, `google`, `192.0.2.1` or `google@192.0.2.1`.
///
/// # Errors
/// A sentence that names these forms.
pub fn parse_scope(text: &str) -> Result<Scope, String> {
    text.parse()
}

fn set(scope: Scope, key: &str, value: &str) -> Result<Command, String> {
    let what = Setting::read(key, value)?;
    if what.is_total() && scope.source().is_some() {
        return Err(format!("{key} is over all sources; leave {scope}'s source out"));
    }
    Ok(Command::Set { scope, what })
}

/// Who gave an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A person.
    Operator,
    /// The meaning of a receiver's reply.
    Verdict,
    /// A threshold of the campaign.
    Threshold,
}

/// An order with who gave it, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Utc,
    /// Who.
    pub by: By,
    /// What.
    pub command: Command,
    /// Why, for people; may be empty.
    pub why: String,
}

/// An entry as its line has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// For people.
    time: String,
    time_us: i64,
    by: By,
    #[serde(rename = "do")]
    verb: String,
    scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    why: String,
}

impl Entry {
    /// Its line, with the line end.
    fn to_line(&self) -> String {
        let (verb, scope, what) = match &self.command {
            Command::Set { scope, what } => ("set", scope, Some(what)),
            Command::Pause(scope) => ("pause", scope, None),
            Command::Resume(scope) => ("resume", scope, None),
            Command::Halt(scope) => ("halt", scope, None),
            Command::Cancel => ("cancel", &Scope::All, None),
        };
        let line = Line {
            time: self.time.to_string(),
            time_us: self.time.0,
            by: self.by,
            verb: verb.to_owned(),
            scope: scope.to_string(),
            key: what.map(|what| what.key().to_owned()),
            value: what.map(Setting::value),
            why: self.why.clone(),
        };
        let mut text = serde_json::to_string(&line).expect("strings and numbers only");
        text.push('\n');
        text
    }

    /// The entry of a line without its line end.
    fn of_line(text: &[u8]) -> Result<Entry, String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let scope = parse_scope(&line.scope)?;
        let command = match (&*line.verb, line.key, line.value) {
            ("set", Some(key), Some(value)) => set(scope, &key, &value)?,
            ("pause", None, None) => Command::Pause(scope),
            ("resume", None, None) => Command::Resume(scope),
            ("halt", None, None) => Command::Halt(scope),
            ("cancel", None, None) if scope == Scope::All => Command::Cancel,
            (verb, ..) => {
                return Err(format!("{verb:?} with this scope, key and value is no order"));
            }
        };
        Ok(Entry { time: Utc(line.time_us), by: line.by, command, why: line.why })
    }
}

/// Records an order: one line in one write, on disk when this returns. Processes that do so at once
/// wait for each other.
///
/// # Errors
/// When the file cannot be opened, locked, written or synced.
pub fn append(dir: &RunDir, entry: &Entry) -> Result<(), RunDirError> {
    let path = dir.file(NAME);
    let mut options = OpenOptions::new();
    let options = options.create(true).read(true).append(true).mode(0o600);
    let mut file = options.open(&path).map_err(at(&path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| at(&path)(errno.into()))?;
    let whole = whole_lines(&mut file).map_err(at(&path))?;
    file.set_len(whole).map_err(at(&path))?;
    file.write_all(entry.to_line().as_bytes()).map_err(at(&path))?;
    file.sync_all().map_err(at(&path))?;
    sync_dir(dir.path())
}

/// The octets up to the last line end.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    Ok(memchr::memrchr(b'\n', &text).map_or(0, |end| end as u64 + 1))
}

/// Reads the orders of a run as they come.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// Octets read.
    read: u64,
    /// Lines read.
    lines: u64,
}

impl Follow {
    /// From the first order on; there need not be one yet.
    pub fn open(dir: &RunDir) -> Follow {
        Follow { path: dir.file(NAME), read: 0, lines: 0 }
    }

    /// The orders since the last call, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read, has a line that is no order, or lost lines that were read. The
    /// orders before such a line are given first; the call after that, and every further one,
    /// gives the error.
    #[expect(clippy::should_implement_trait, reason = "it has no end: more may come")]
    pub fn next(&mut self) -> Result<Vec<Entry>, RunDirError> {
        let text = self.unread()?;
        let mut entries = Vec::new();
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match Entry::of_line(line) {
                Ok(entry) => entries.push(entry),
                Err(_) if !entries.is_empty() => break,
                Err(why) => return Err(self.not_an_order(why)),
            }
            self.read += line.len() as u64 + 1;
            self.lines += 1;
        }
        Ok(entries)
    }

    fn unread(&self) -> Result<Vec<u8>, RunDirError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.read == 0 => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(at(&self.path)(error)),
        };
        let length = file.seek(SeekFrom::End(0)).map_err(at(&self.path))?;
        if length < self.read {
            return Err(self.not_an_order("lines that were read are gone".to_owned()));
        }
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.read)).map_err(at(&self.path))?;
        file.read_to_end(&mut text).map_err(at(&self.path))?;
        Ok(text)
    }

    fn not_an_order(&self, why: String) -> RunDirError {
        RunDirError::NotAnOrder { path: self.path.clone(), line: self.lines + 1, why }
    }
}

#[cfg(test)]
mod tests;
