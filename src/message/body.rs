//! body — turns a rendered text into the octets of a MIME body: CRLF-only, lines of at most 76
//! octets, dot-safe by construction.
//!
//! Dot-safe means that no line starts with a full stop, so SMTP's transparency (RFC 5321 §4.5.2)
//! never adds an octet and what is on the wire is what was signed. Line endings LF, CRLF and CR
//! all become CRLF; blank lines at the end are dropped, and text that is not empty ends with
//! exactly one CRLF (DKIM's treatment of blank last lines differs between implementations).
//! Nothing here can fail. It knows nothing of headers and messages.

use std::borrow::Cow;

use encodify::base64::MIME;
use encodify::qp;
use memchr::{memchr_iter, memmem};

/// Octets of a body line without its CRLF (RFC 2045 §6.7 rule 5 and §6.8).
const BODY_LINE_MAX: usize = 76;
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// An encoded body and the value of its Content-Transfer-Encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) octets: Vec<u8>,
    pub(super) encoding: &'static str,
}

/// Encodes `text` as 7bit if it can travel as it is, as base64 if it is mostly not ASCII and that
/// is shorter, else as quoted-printable.
///
/// `boundary` is the multipart boundary; the octets never contain a line that starts with it.
pub(super) fn encode(text: &str, boundary: &str) -> Body {
    let text = settle(text);
    if text.is_ascii() {
        if is_plain(text.as_bytes()) && memmem::find(text.as_bytes(), boundary.as_bytes()).is_none()
        {
            return Body { octets: crlf_lines(&text), encoding: "7bit" };
        }
        return quoted_printable(&text);
    }
    if is_shorter_quoted(&text) { quoted_printable(&text) } else { base64(&text) }
}

/// Whether quoted-printable is no longer than base64.
///
/// Counting exactly takes half as long as encoding, so text with few octets that are not ASCII is
/// not counted: below 1 in 16 continuation octets, those make less than a quarter more, and base64
/// makes 37 % more.
fn is_shorter_quoted(text: &str) -> bool {
    let continuation_octets = text.len() - text.chars().count();
    continuation_octets < text.len() / 16
        || qp::BODY.encoded_len_within(text, MIME.encoded_len(text.len())).is_some()
}

/// Drops blank lines at the end, the last line ending included, and turns lone CR into LF.
fn settle(text: &str) -> Cow<'_, str> {
    let end = text.trim_end_matches(BLANKS).len();
    let last_line_end = match end {
        0 => 0,
        _ => text[end..].find(['\r', '\n']).map_or(text.len(), |at| end + at),
    };
    let text = &text[..last_line_end];
    let octets = text.as_bytes();
    if memchr_iter(b'\r', octets).all(|at| octets.get(at + 1) == Some(&b'\n')) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    }
}

/// Whether ASCII text may travel unencoded: short lines, no leading full stop, no trailing blank
/// (receivers strip them), no control characters.
fn is_plain(text: &[u8]) -> bool {
    text.split(|&octet| octet == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= BODY_LINE_MAX
            && line.first() != Some(&b'.')
            && !matches!(line.last(), Some(b' ' | b'\t'))
            && line.iter().all(|&octet| matches!(octet, b' '..=b'~' | b'\t'))
    })
}

/// Each line with CRLF; nothing for no text.
fn crlf_lines(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 16 + 2);
    if text.is_empty() {
        return out;
    }
    for line in text.split('\n') {
        out.extend_from_slice(line.strip_suffix('\r').unwrap_or(line).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn base64(text: &str) -> Body {
    let mut octets = Vec::new();
    MIME.encode_append(crlf_lines(text), &mut octets);
    Body { octets, encoding: "base64" }
}

fn quoted_printable(text: &str) -> Body {
    let mut octets = Vec::with_capacity(text.len() + text.len() / 8 + 128);
    qp::BODY.encode_append(text, &mut octets);
    octets.extend_from_slice(b"\r\n");
    let dotted = octets.first() == Some(&b'.') || memmem::find(&octets, b"\n.").is_some();
    let octets = if dotted { hide_leading_dots(&octets) } else { octets };
    Body { octets, encoding: "quoted-printable" }
}

/// Writes a full stop at the start of a quoted-printable line as `=2E`.
///
/// Where the line has no room for two more octets it is broken behind the `=2E`; the next octet
/// may be a full stop again.
fn hide_leading_dots(encoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len() + encoded.len() / 16);
    for whole in encoded.split_inclusive(|&octet| octet == b'\n') {
        let mut line = whole;
        while let Some(rest) = line.strip_prefix(b".") {
            out.extend_from_slice(b"=2E");
            let fits = line.len() - b"\r\n".len() + b"2E".len() <= BODY_LINE_MAX;
            line = rest;
            if fits {
                break;
            }
            out.extend_from_slice(b"=\r\n");
        }
        out.extend_from_slice(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> (&'static str, String) {
        let body = encode(text, "=_b");
        (body.encoding, String::from_utf8(body.octets).expect("encodings are ASCII"))
    }

    #[test]
    fn plain_text_travels_as_it_is() {
        for (text, octets) in [
            ("", ""),
            ("  \r\n\t\n", ""),
            ("Hi", "Hi\r\n"),
            ("Hi\n\n \n", "Hi\r\n"),
            ("a\nb\r\nc\rd\r", "a\r\nb\r\nc\r\nd\r\n"),
            ("a\n\n\nb.", "a\r\n\r\n\r\nb.\r\n"),
            (" a\tb", " a\tb\r\n"),
            (&"x".repeat(76), &format!("{}\r\n", "x".repeat(76))),
        ] {
            assert_eq!(encoded(text), ("7bit", octets.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn what_transport_would_change_is_quoted() {
        let long = "x".repeat(77);
        for (text, octets) in [
            (".", "=2E\r\n"),
            ("a\n..b", "a\r\n=2E.b\r\n"),
            ("a \nb", "a=20\r\nb\r\n"),
            ("a\n \nb", "a\r\n=20\r\nb\r\n"),
            ("end \n\n", "end=20\r\n"),
            ("a\0b", "a=00b\r\n"),
            ("a\u{b}", "a=0B\r\n"),
            ("--=_b", "--=3D_b\r\n"),
            ("café, s'il vous plaît", "caf=C3=A9, s'il vous pla=C3=AEt\r\n"),
            (&long, &format!("{}=\r\nxx\r\n", "x".repeat(75))),
        ] {
            assert_eq!(encoded(text), ("quoted-printable", octets.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn mostly_foreign_text_is_base64() {
        let octets = "zpPOtc65zqwNCs+Dzr/PhQ0K\r\n".to_owned();
        assert_eq!(encoded("Γειά\nσου"), ("base64", octets));
    }

    #[test]
    fn a_full_line_of_dots_is_broken_behind_each_hidden_one() {
        let (encoding, octets) = encoded(&".".repeat(80));
        assert_eq!(encoding, "quoted-printable");
        let expected = format!("=2E=\r\n=2E=\r\n=2E{}=\r\n=2E....\r\n", ".".repeat(72));
        assert_eq!(octets, expected);
        assert!(octets.lines().all(|line| line.len() <= BODY_LINE_MAX));
    }
}
