//! header — header values in the form that mail-builder writes, and the refusal of values that
//! must not become a header.
//!
//! A rendered value with a control character is refused, never cleaned: a line break in a name is
//! an attack or a broken list, and either way a person should look. mail-builder does the
//! quoting, encoding and folding; this file only chooses among its header kinds. It knows nothing
//! of bodies.

use std::borrow::Cow;

use encodify::{Fold, rfc2047};
use mail_builder::headers::HeaderType;
use mail_builder::headers::address::Address;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::headers::url::URL;

use super::{Fault, ListUnsubscribe};

/// Headers that [`super::build`] writes, that the signer adds, or that only a receiver may add.
const RESERVED: [&str; 16] = [
    "From",
    "To",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "X-Mailshot-Key",
    "DKIM-Signature",
    "Received",
    "Return-Path",
    "Bcc",
];

/// Octets of text that fit behind `Subject: ` on a line of 78 (RFC 5322 §2.1.1).
const SUBJECT_LINE: usize = 78 - "Subject: ".len();

/// Unstructured text such as a subject.
///
/// mail-builder encodes every text above 77 octets; plain ASCII is only folded here, because
/// filters score needless encoding (as SpamAssassin's `FROM_EXCESS_BASE64` does). ASCII that would
/// not survive as it is becomes encoded words: what looks like one already, blanks at the ends,
/// and runs of blanks that a fold may fall into.
pub(super) fn text<'a>(name: &str, value: &'a str) -> Result<HeaderType<'a>, Fault> {
    refuse_controls(name, value)?;
    if !value.is_ascii() {
        return Ok(Text::new(value).into());
    }
    let fits = value.len() <= SUBJECT_LINE && value.trim_ascii() == value;
    let folds = || value.split(' ').all(|word| (1..SUBJECT_LINE).contains(&word.len()));
    if !value.contains("=?") && (fits || folds()) {
        return Ok(Raw::new(value).into());
    }
    Ok(Raw::new(encoded_words(rfc2047::Q_TEXT, value)).into())
}

/// One mailbox; without a name, the address alone.
pub(super) fn mailbox<'a>(
    header: &str,
    name: &'a str,
    address: &'a str,
) -> Result<HeaderType<'a>, Fault> {
    refuse_controls(header, name)?;
    refuse_unprintable(header, address)?;
    if name.contains("=?") {
        let phrase = encoded_words(rfc2047::Q_PHRASE, name);
        return Ok(Raw::new(format!("{phrase} <{address}>")).into());
    }
    Ok(Address::new_address((!name.is_empty()).then_some(name), address).into())
}

/// A header of the campaign: ASCII is written as it is, because it may have a structure; anything
/// else as encoded words.
pub(super) fn custom<'a>(name: &str, value: &'a str) -> Result<HeaderType<'a>, Fault> {
    if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Err(Fault::HeaderName { name: name.to_owned() });
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(Fault::ReservedHeader { name: name.to_owned() });
    }
    refuse_controls(name, value)?;
    Ok(if value.is_ascii() { Raw::new(value).into() } else { Text::new(value).into() })
}

/// The value of `List-Unsubscribe` (RFC 2369 §3.2), the web address first.
///
/// One-click needs an `https` address (RFC 8058 §3.1).
pub(super) fn unsubscribe<'a>(list: &ListUnsubscribe<'a>) -> Result<HeaderType<'a>, Fault> {
    const NAME: &str = "List-Unsubscribe";
    let url_is_good = match list.url {
        Some(url) => url.starts_with("https://") || !list.one_click && url.starts_with("http://"),
        None => !list.one_click && list.mailto.is_some(),
    };
    if !url_is_good || list.mailto.is_some_and(|uri| !uri.starts_with("mailto:")) {
        return Err(Fault::Unsubscribe);
    }
    let addresses = list.url.into_iter().chain(list.mailto);
    for address in addresses.clone() {
        refuse_unprintable(NAME, address)?;
    }
    Ok(URL::new_list(addresses.map(Cow::Borrowed)).into())
}

/// Refuses what cannot stand between angle brackets: anything but printable ASCII, and brackets.
pub(super) fn refuse_unprintable(name: &str, value: &str) -> Result<(), Fault> {
    refuse_controls(name, value)?;
    let fits = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>');
    if value.is_empty() || !value.bytes().all(fits) {
        return Err(Fault::Address { name: name.to_owned() });
    }
    Ok(())
}

fn refuse_controls(name: &str, value: &str) -> Result<(), Fault> {
    if value.bytes().any(|octet| octet.is_ascii_control()) {
        return Err(Fault::UnsafeHeader { name: name.to_owned() });
    }
    Ok(())
}

fn encoded_words(engine: rfc2047::WordEncoder, value: &str) -> String {
    let mut words = String::new();
    let unfolded = Fold { separator: b" ", ..Fold::HEADER };
    engine.encode_words("utf-8", value, &mut 0, unfolded, &mut words);
    words
}
