//! message — one message from its rendered parts, ready to be signed and sent as it is.
//!
//! mail-builder writes the headers (encoded words, quoting, folding) and the multipart structure;
//! the bodies come encoded from `body`. The result is deterministic: the same [`Letter`] gives
//! the same octets. It is CRLF-only ASCII without a line that starts with a full stop, header
//! lines have at most 998 octets (78 where folding allows), body lines at most 76.
//!
//! It fails with a [`Fault`] when a rendered value must not become a header or the message is too
//! large; then nothing is written. It must not know recipients, templates, keys or the clock.

mod body;
mod header;
pub mod token;

use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};
use memchr::memchr_iter;

use crate::limits::{LINE_MAX, MESSAGE_MAX};
use crate::units::Utc;

/// Everything that makes one message: rendered text and the tokens of its row.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// Display name of the sender; may be empty.
    pub from_name: &'a str,
    /// Address of the sender, its domain in ASCII.
    pub from: &'a str,
    /// Display name of the recipient; may be empty.
    pub to_name: &'a str,
    /// Address of the recipient, its domain in ASCII.
    pub to: &'a str,
    /// Name (may be empty) and address for replies.
    pub reply_to: Option<(&'a str, &'a str)>,
    /// The subject.
    pub subject: &'a str,
    /// The `Date` header, to the second.
    pub date: Utc,
    /// The Message-ID without angle brackets, see [`token::Key::message_id`].
    pub message_id: &'a str,
    /// The value of `X-Mailshot-Key`, see [`token::Key`].
    pub key: &'a str,
    /// How to unsubscribe.
    pub list_unsubscribe: Option<ListUnsubscribe<'a>>,
    /// Further headers of the campaign, in this order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The plain text.
    pub text: Option<&'a str>,
    /// The HTML.
    pub html: Option<&'a str>,
    /// The multipart boundary, see [`token::Key::boundary`].
    pub boundary: &'a str,
}

/// The ways out of the list.
#[derive(Clone, Copy, Debug)]
pub struct ListUnsubscribe<'a> {
    /// An `https://` address; `http://` only without `one_click`.
    pub url: Option<&'a str>,
    /// A whole `mailto:` URI.
    pub mailto: Option<&'a str>,
    /// Whether a POST to `url` unsubscribes without further questions (RFC 8058).
    pub one_click: bool,
}

/// Why a letter cannot become a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value would end its header line or hide in it.
    #[error("the value for header {name} holds a line break or another control character")]
    UnsafeHeader {
        /// The header.
        name: String,
    },
    /// An address, URI or token cannot stand between angle brackets.
    #[error("the address for header {name} is not printable ASCII without blanks and <>")]
    Address {
        /// The header.
        name: String,
    },
    /// A header name of the campaign is not made of letters, digits and hyphens.
    #[error("{name:?} is not a header name")]
    HeaderName {
        /// The name as given.
        name: String,
    },
    /// A header of the campaign is one of those written here.
    #[error("header {name} cannot be set: it is written for every message")]
    ReservedHeader {
        /// The name as given.
        name: String,
    },
    /// The ways to unsubscribe are missing or of the wrong kind.
    #[error(
        "list-unsubscribe needs an https:// address for one-click, and otherwise \
         an http(s):// address or a mailto: URI"
    )]
    Unsubscribe,
    /// A header cannot be folded to lines that SMTP transports.
    #[error("header {name} has a line of {length} octets; at most {LINE_MAX} can be sent")]
    LineTooLong {
        /// The header.
        name: String,
        /// Octets of the line without its CRLF.
        length: usize,
    },
    /// The message does not fit a record of the spool.
    #[error("the message has {octets} octets; at most {MESSAGE_MAX} can be sent")]
    TooLarge {
        /// Octets of the message.
        octets: usize,
    },
    /// There is neither text nor HTML.
    #[error("the message has neither text nor html")]
    NoBody,
}

/// Appends the message for `letter` to `out`: headers, an empty line, the body.
///
/// With text and HTML it is multipart/alternative, text first (RFC 2046 §5.1.4: the richest last);
/// with one of them a single part.
///
/// # Errors
/// A [`Fault`]; `out` is then as it was.
///
/// # Panics
/// When the boundary does not begin with `=_`, which is what keeps it out of encoded bodies.
pub fn build(letter: &Letter<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    assert!(letter.boundary.starts_with("=_"), "a boundary begins with =_");
    let start = out.len();
    let mut message = headers(letter)?;
    message.body = Some(structure(letter)?);
    message.serialize(out);
    check(&out[start..]).inspect_err(|_| out.truncate(start))
}

fn headers<'a>(letter: &Letter<'a>) -> Result<MessageBuilder<'a>, Fault> {
    header::refuse_unprintable("Message-ID", letter.message_id)?;
    header::refuse_unprintable("X-Mailshot-Key", letter.key)?;
    let mut message = MessageBuilder::new()
        .header("From", header::mailbox("From", letter.from_name, letter.from)?)
        .header("To", header::mailbox("To", letter.to_name, letter.to)?);
    if let Some((name, address)) = letter.reply_to {
        message = message.header("Reply-To", header::mailbox("Reply-To", name, address)?);
    }
    message = message
        .header("Subject", header::text("Subject", letter.subject)?)
        .header("Date", mail_builder::headers::HeaderType::Date(Date::new(letter.date.seconds())))
        .header("Message-ID", MessageId::new(letter.message_id))
        .header("MIME-Version", Raw::new("1.0"));
    if let Some(list) = &letter.list_unsubscribe {
        message = message.header("List-Unsubscribe", header::unsubscribe(list)?);
        if list.one_click {
            let post = Raw::new("List-Unsubscribe=One-Click");
            message = message.header("List-Unsubscribe-Post", post);
        }
    }
    message = message.header("X-Mailshot-Key", Raw::new(letter.key));
    for &(name, value) in letter.headers {
        message = message.header(name, header::custom(name, value)?);
    }
    Ok(message)
}

fn structure<'a>(letter: &Letter<'a>) -> Result<MimePart<'a>, Fault> {
    let part = |kind, text| part(kind, text, letter.boundary);
    match (letter.text, letter.html) {
        (Some(text), Some(html)) => {
            let kind =
                ContentType::new("multipart/alternative").attribute("boundary", letter.boundary);
            Ok(MimePart::new(kind, vec![part("text/plain", text), part("text/html", html)]))
        }
        (Some(text), None) => Ok(part("text/plain", text)),
        (None, Some(html)) => Ok(part("text/html", html)),
        (None, None) => Err(Fault::NoBody),
    }
}

fn part<'a>(kind: &'static str, text: &str, boundary: &str) -> MimePart<'a> {
    let body = body::encode(text, boundary);
    let kind = ContentType::new(kind).attribute("charset", "utf-8");
    MimePart::new(kind, BodyPart::from(body.octets)).transfer_encoding(body.encoding)
}

fn check(message: &[u8]) -> Result<(), Fault> {
    if message.len() > MESSAGE_MAX {
        return Err(Fault::TooLarge { octets: message.len() });
    }
    let mut name: &[u8] = b"";
    let mut start = 0;
    for end in memchr_iter(b'\n', message) {
        let line = message[start..end].strip_suffix(b"\r").unwrap_or(&message[start..end]);
        if line.is_empty() {
            break;
        }
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            name = line.split(|&octet| octet == b':').next().unwrap_or(line);
        }
        if line.len() > LINE_MAX {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(Fault::LineTooLong { name, length: line.len() });
        }
        start = end + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
