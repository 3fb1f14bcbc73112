//! attempts — a log of every connection and every recipient, for whoever counts afterwards.
//!
//! One line an event, fields separated by tabs: microseconds of the machine's monotonic clock (so
//! the logs of several sinks fit together), number of the connection, and `open` with listener and
//! source, `rcpt` with the code of the reply, or `close`. A connection that is refused at the door
//! is opened too. It is closed when the receiver hears that the client closed it, or ends it
//! itself, whichever is first; that is written before any later `open`.
//!
//! The last line is `end` with the number of events; without it, or if events were left out for
//! want of room, the log proves nothing and [`read`] refuses it. It must not know limits.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Events that are logged, of 25 octets on average: 400 MB.
const EVENTS_MAX: u64 = 1 << 24;
/// Octets that are collected before they are written.
const BUFFER: usize = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, in microseconds of the machine's monotonic clock.
    pub micros: u64,
    /// On which connection, from 0 in the order of their opening.
    pub connection: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A connection came.
    Open {
        /// To which address.
        listener: SocketAddr,
        /// From which address.
        source: IpAddr,
    },
    /// A recipient was answered with this code.
    Rcpt(u16),
    /// The connection ended.
    Close,
}

/// A log that is written.
#[derive(Debug)]
pub(crate) struct Log {
    out: BufWriter<File>,
    events: u64,
    left_out: u64,
    broken: Option<io::Error>,
}

impl Log {
    pub(crate) fn create(path: &Path) -> io::Result<Log> {
        let out = BufWriter::with_capacity(BUFFER, File::create(path)?);
        Ok(Log { out, events: 0, left_out: 0, broken: None })
    }

    pub(crate) fn note(&mut self, now: Duration, connection: u64, what: What) {
        if self.events == EVENTS_MAX || self.broken.is_some() {
            self.left_out += 1;
            return;
        }
        self.events += 1;
        let micros = now.as_micros();
        let written = match what {
            What::Open { listener, source } => {
                writeln!(self.out, "{micros}\t{connection}\topen\t{listener}\t{source}")
            }
            What::Rcpt(code) => writeln!(self.out, "{micros}\t{connection}\trcpt\t{code}"),
            What::Close => writeln!(self.out, "{micros}\t{connection}\tclose"),
        };
        self.broken = written.err();
    }

    /// Writes the end, if everything before it could be written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.broken {
            Some(error) => Err(error),
            None if self.left_out > 0 => {
                let message = format!("{} events too many for the log", self.left_out);
                Err(io::Error::other(message))
            }
            None => {
                writeln!(self.out, "end\t{}", self.events)?;
                self.out.flush()
            }
        }
    }
}

/// Reads a whole log.
///
/// # Errors
/// When it cannot be read, a line is no event, or its end is missing.
pub fn read(path: &Path) -> io::Result<Vec<Event>> {
    let text = std::fs::read_to_string(path)?;
    let wrong = |line: usize| {
        let message = format!("{}:{line}: not an event of a sink's log", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let mut events = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(count) = line.strip_prefix("end\t") {
            let whole = count.parse() == Ok(events.len()) && text.lines().count() == number;
            return if whole { Ok(events) } else { Err(wrong(number)) };
        }
        events.push(event(line).ok_or_else(|| wrong(number))?);
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{}: no end", path.display())))
}

fn event(line: &str) -> Option<Event> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [micros, connection, what @ ..] = &*fields else { return None };
    let what = match *what {
        ["open", listener, source] => {
            What::Open { listener: listener.parse().ok()?, source: source.parse().ok()? }
        }
        ["rcpt", code] => What::Rcpt(code.parse().ok()?),
        ["close"] => What::Close,
        _ => return None,
    };
    Some(Event { micros: micros.parse().ok()?, connection: connection.parse().ok()?, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_as_it_was_written_and_only_whole() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("log");
        let listener = "127.0.1.1:2525".parse().expect("an address");
        let source = "127.0.2.1".parse().expect("an address");
        let events = [
            Event { micros: 5, connection: 0, what: What::Open { listener, source } },
            Event { micros: 7, connection: 0, what: What::Rcpt(450) },
            Event { micros: 9, connection: 0, what: What::Close },
        ];
        let mut log = Log::create(&path).expect("writable");
        for event in events {
            log.note(Duration::from_micros(event.micros), event.connection, event.what);
        }
        log.finish().expect("writable");
        assert_eq!(read(&path).expect("whole"), events);
        let text = std::fs::read_to_string(&path).expect("readable");
        for bad in [
            text.replace("end\t3\n", ""),
            text.replace("end\t3", "end\t4"),
            text.replace("450", "x"),
            text.replace("close", "shut"),
            format!("{text}9\t0\tclose\n"),
        ] {
            std::fs::write(&path, &bad).expect("writable");
            assert!(read(&path).is_err(), "{bad}");
        }
    }
}
