//! checks — what is made sure about each accepted message, by means that share nothing with the
//! sender.
//!
//! Each check is off unless wanted; with all of them off no message is kept. A check never refuses
//! a message: it counts, and the report tells. It must not know SMTP replies or sockets.

pub mod dkim;
pub mod form;
pub mod keys;
pub mod rate;
pub mod store;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dkim::{Dkim, DomainKeys};
use form::Form;
use keys::Keys;
use rate::Rate;
use store::Store;

/// Which checks are wanted.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// Count distinct and repeated `X-Mailshot-Key` headers.
    pub keys: bool,
    /// Verify DKIM signatures.
    pub dkim: Option<DkimCheck>,
    /// Look at line ends, line lengths and mandatory headers.
    pub form: bool,
    /// Measure the most recipients within any time of this length, per lane.
    pub rate_window: Option<Duration>,
    /// Write each message into this directory.
    pub store: Option<PathBuf>,
}

/// Which signatures to verify against which keys.
#[derive(Debug, Clone)]
pub struct DkimCheck {
    /// The published records.
    pub keys: DomainKeys,
    /// Every how many messages one is verified; 1 verifies all.
    pub every: u32,
}

/// The sender and the recipients of one message, as given in MAIL and RCPT.
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<Vec<u8>>,
}

/// The checks at work.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) keys: Option<Keys>,
    pub(crate) dkim: Option<Dkim>,
    pub(crate) form: Option<Form>,
    pub(crate) rate: Option<Rate>,
    pub(crate) store: Option<Store>,
}

impl Inspection {
    /// Fails if the directory for messages cannot be made.
    pub(crate) fn new(checks: &Checks) -> io::Result<Inspection> {
        Ok(Inspection {
            keys: checks.keys.then(Keys::default),
            dkim: checks.dkim.as_ref().map(Dkim::new).transpose()?,
            form: checks.form.then(Form::default),
            rate: checks.rate_window.map(Rate::new),
            store: checks.store.as_deref().map(Store::new).transpose()?,
        })
    }

    /// Whether any check looks at messages, so that they must be kept until their end.
    pub(crate) fn wants_messages(&self) -> bool {
        self.keys.is_some() || self.dkim.is_some() || self.form.is_some() || self.store.is_some()
    }

    /// Looks at one accepted message, as it came but without the final dot.
    pub(crate) fn inspect(&mut self, envelope: &Envelope, wire: &[u8]) {
        let message = &*without_stuffing(wire);
        if let Some(keys) = &mut self.keys {
            keys.inspect(message);
        }
        if let Some(dkim) = &mut self.dkim {
            dkim.inspect(message);
        }
        if let Some(form) = &mut self.form {
            form.inspect(message);
        }
        if let Some(store) = &mut self.store {
            store.keep(envelope, message);
        }
    }
}

/// Takes away the dot that a client put before each line that begins with one
/// (RFC 5321 §4.5.2).
fn without_stuffing(wire: &[u8]) -> Cow<'_, [u8]> {
    let first = wire.first() == Some(&b'.');
    let dots: Vec<usize> = first
        .then_some(0)
        .into_iter()
        .chain(memchr::memmem::find_iter(wire, b"\r\n.").map(|at| at + 2))
        .collect();
    if dots.is_empty() {
        return Cow::Borrowed(wire);
    }
    let mut message = Vec::with_capacity(wire.len());
    let mut from = 0;
    for dot in dots {
        message.extend_from_slice(&wire[from..dot]);
        from = dot + 1;
    }
    message.extend_from_slice(&wire[from..]);
    Cow::Owned(message)
}

/// The value of the first header field of this name, folded or not, without white space around it.
fn header<'a>(message: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(line) = message.get(at..).filter(|rest| !rest.is_empty()) {
        let end = memchr::memchr(b'\n', line).map_or(line.len(), |end| end + 1);
        if line[..end].trim_ascii().is_empty() {
            return None;
        }
        let (field, value) = line.split_at_checked(name.len())?;
        if let Some(value) = value.strip_prefix(b":").filter(|_| starts(field, name)) {
            return Some(value[..end_of_field(value)].trim_ascii());
        }
        at += end;
    }
    None
}

fn starts(field: &[u8], name: &str) -> bool {
    field.eq_ignore_ascii_case(name.as_bytes())
}

/// A field goes on where the next line begins with white space (RFC 5322 §2.2.3).
fn end_of_field(value: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', value)
        .find(|&end| !matches!(value.get(end + 1), Some(b' ' | b'\t')))
        .unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffed_dots_are_taken_away() {
        let cases = [
            ("", ""),
            ("a\r\n", "a\r\n"),
            ("..\r\n", ".\r\n"),
            ("a\r\n..b\r\n...\r\n", "a\r\n.b\r\n..\r\n"),
            ("a.\r\n.b", "a.\r\nb"),
            ("a\n.b", "a\n.b"),
        ];
        for (wire, message) in cases {
            assert_eq!(*without_stuffing(wire.as_bytes()), *message.as_bytes(), "{wire:?}");
        }
    }

    #[test]
    fn headers_are_found_in_the_head_only() {
        let message = b"From: a\r\nSubject: two\r\n  lines\r\nX-Key:  r-1 \r\n\r\nX-Body: no\r\n";
        let cases: [(&str, Option<&[u8]>); 6] = [
            ("from", Some(b"a")),
            ("SUBJECT", Some(b"two\r\n  lines")),
            ("x-key", Some(b"r-1")),
            ("X-Body", None),
            ("lines", None),
            ("X", None),
        ];
        for (name, expected) in cases {
            assert_eq!(header(message, name), expected, "{name}");
        }
        assert_eq!(header(b"", "From"), None);
        assert_eq!(header(b"From:", "From"), Some(&b""[..]));
    }
}
