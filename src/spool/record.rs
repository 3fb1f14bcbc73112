//! record — one message of a segment as octets: head, envelope, message, checksum.
//!
//! ```text
//!  0 magic "msg1"   4 CRC-32C of all that follows, padding included
//!  8 length u32    12 row u32          16 attempt u16  18 mail_from u16  20 rcpt_to u16
//! 22 source u16, from 1, 0 for any     24 message u32  28 site u32
//! 32 spooled i64  40 first_attempt i64, the least of all for none
//! 48 mail_from, rcpt_to, message, zeros to a multiple of 8
//! ```
//!
//! All numbers are little-endian. Reading checks lengths against what is there before it slices.

use std::fmt;
use std::ops::Range;

use crc_fast::crc32_iscsi;
use memchr::memmem;

use crate::destination::{SiteNo, SourceNo};
use crate::outcome::Row;
use crate::units::Utc;

/// Octets of a record before its envelope.
pub(super) const HEAD: usize = 48;

const MAGIC: [u8; 4] = *b"msg1";
const COVERED_AT: usize = 8;
/// In place of the time of a first attempt that was not made.
const NEVER: i64 = i64::MIN;

/// What is known of a message beside its envelope and octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Which message.
    pub row: Row,
    /// Which attempt it was rendered for, from 1.
    pub attempt: u16,
    /// When it was rendered.
    pub spooled: Utc,
    /// When its first attempt began; `None` until there was one.
    pub first_attempt: Option<Utc>,
    /// The site that takes its mail.
    pub site: SiteNo,
    /// The source that it must come from, if its last attempt bound it to one.
    pub source: Option<SourceNo>,
}

/// One message of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What is known of it beside the following.
    pub head: RecordHead,
    /// The reverse path, without brackets; empty for the null path.
    pub mail_from: &'a str,
    /// The forward path, without brackets.
    pub rcpt_to: &'a str,
    /// The message as it goes on the wire, up to the CRLF before the final dot.
    pub message: &'a [u8],
}

/// A record that is not what was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Damaged {
    /// The segment's number; for [`dump`](super::dump) 0.
    pub segment: usize,
    /// The record's index in it.
    pub record: usize,
    /// Where in the segment it begins.
    pub offset: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damaged { segment, record, offset, flaw } = self;
        write!(f, "message {record} of segment {segment:06} (at octet {offset}) changed in the ")?;
        match flaw {
            Flaw::Form => f.write_str("spool: it has no proper head"),
            Flaw::Checksum { expected, found } => {
                write!(f, "spool: its checksum is {found:08x} and was {expected:08x}")
            }
        }
    }
}

/// What is wrong with a damaged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its magic or a length is none.
    Form,
    /// Its checksum does not hold.
    Checksum {
        /// The checksum noted when it was written.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
}

/// Octets of a record with these parts, padding included.
pub(super) fn size(mail_from: &str, rcpt_to: &str, parts: &[&[u8]]) -> usize {
    let message: usize = parts.iter().map(|part| part.len()).sum();
    (HEAD + mail_from.len() + rcpt_to.len() + message).next_multiple_of(8)
}

/// Writes a record; `octets` has exactly its [`size`].
pub(super) fn put(
    octets: &mut [u8],
    head: &RecordHead,
    mail_from: &str,
    rcpt_to: &str,
    parts: &[&[u8]],
) {
    let mut end = HEAD;
    for part in [mail_from.as_bytes(), rcpt_to.as_bytes()].iter().chain(parts) {
        octets[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    octets[end..].fill(0);
    let message = end - HEAD - mail_from.len() - rcpt_to.len();
    check_form(&octets[end - message..end]);

    let fits = "paths are far below 64 KiB and segments below 4 GiB";
    octets[0..4].copy_from_slice(&MAGIC);
    let length = u32::try_from(octets.len()).expect(fits);
    octets[8..12].copy_from_slice(&length.to_le_bytes());
    octets[12..16].copy_from_slice(&head.row.0.to_le_bytes());
    octets[16..18].copy_from_slice(&head.attempt.to_le_bytes());
    octets[18..20].copy_from_slice(&u16::try_from(mail_from.len()).expect(fits).to_le_bytes());
    octets[20..22].copy_from_slice(&u16::try_from(rcpt_to.len()).expect(fits).to_le_bytes());
    let source = head.source.map_or(0, |source| u16::try_from(source.0 + 1).expect(fits));
    octets[22..24].copy_from_slice(&source.to_le_bytes());
    octets[24..28].copy_from_slice(&u32::try_from(message).expect(fits).to_le_bytes());
    octets[28..32].copy_from_slice(&head.site.0.to_le_bytes());
    octets[32..40].copy_from_slice(&head.spooled.0.to_le_bytes());
    let first_attempt = head.first_attempt.map_or(NEVER, |first| first.0);
    octets[40..48].copy_from_slice(&first_attempt.to_le_bytes());
    let checksum = crc32_iscsi(&octets[COVERED_AT..]);
    octets[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Others build messages dot-safe and CRLF-terminated (RFC 5321 §4.5.2); a breach would cut mail
/// short on the wire, and looking for one costs less than the copy.
fn check_form(message: &[u8]) {
    assert!(message.ends_with(b"\r\n"), "a spooled message ends with CRLF");
    assert!(!message.starts_with(b"."), "no line of a spooled message begins with a dot");
    let dot = memmem::find(message, b"\r\n.");
    assert_eq!(dot, None, "no line of a spooled message begins with a dot");
}

/// The lengths and fields of a record, before its checksum was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) head: RecordHead,
    pub(super) length: usize,
    mail_from: usize,
    rcpt_to: usize,
    message: usize,
    checksum: u32,
}

impl Form {
    /// Reads the head of the record at the front of `octets`, if it is one that fits in there.
    pub(super) fn of(octets: &[u8]) -> Option<Form> {
        let head: &[u8; HEAD] = octets.first_chunk()?;
        if head[..4] != MAGIC {
            return None;
        }
        let form = Form {
            head: RecordHead {
                row: Row(u32_at(head, 12)),
                attempt: u16_at(head, 16),
                spooled: Utc(i64_at(head, 32)),
                first_attempt: Some(Utc(i64_at(head, 40))).filter(|first| first.0 != NEVER),
                site: SiteNo(u32_at(head, 28)),
                source: u16_at(head, 22).checked_sub(1).map(|source| SourceNo(source.into())),
            },
            length: usize::try_from(u32_at(head, 8)).ok()?,
            mail_from: u16_at(head, 18).into(),
            rcpt_to: u16_at(head, 20).into(),
            message: usize::try_from(u32_at(head, 24)).ok()?,
            checksum: u32_at(head, 4),
        };
        let content = HEAD + form.mail_from + form.rcpt_to + form.message;
        let fits = form.length == content.next_multiple_of(8) && form.length <= octets.len();
        fits.then_some(form)
    }

    /// Where the message is, from the beginning of the record.
    pub(super) fn message(&self) -> Range<usize> {
        let start = HEAD + self.mail_from + self.rcpt_to;
        start..start + self.message
    }

    /// Compares the checksum; `octets` is what [`of`](Form::of) was given.
    pub(super) fn verify(&self, octets: &[u8]) -> Result<(), Flaw> {
        let found = crc32_iscsi(&octets[COVERED_AT..self.length]);
        if found == self.checksum {
            Ok(())
        } else {
            Err(Flaw::Checksum { expected: self.checksum, found })
        }
    }

    /// The record; none when its envelope is not text.
    pub(super) fn record<'a>(&self, octets: &'a [u8]) -> Option<Record<'a>> {
        let (mail_from, rest) = octets[HEAD..].split_at(self.mail_from);
        Some(Record {
            head: self.head,
            mail_from: std::str::from_utf8(mail_from).ok()?,
            rcpt_to: std::str::from_utf8(&rest[..self.rcpt_to]).ok()?,
            message: &octets[self.message()],
        })
    }
}

fn u16_at(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

fn u32_at(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes(head[at..at + 4].try_into().expect("four octets"))
}

fn i64_at(head: &[u8; HEAD], at: usize) -> i64 {
    i64::from_le_bytes(head[at..at + 8].try_into().expect("eight octets"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: RecordHead = RecordHead {
        row: Row(7),
        attempt: 2,
        spooled: Utc(-3),
        first_attempt: Some(Utc(4)),
        site: SiteNo(70_000),
        source: Some(SourceNo(15)),
    };

    fn octets(message: &[&[u8]]) -> Vec<u8> {
        let (from, to) = ("bounce+7@example.org", "zoë@example.com");
        let mut octets = vec![0xAA; size(from, to, message)];
        put(&mut octets, &HEAD, from, to, message);
        octets
    }

    fn read(octets: &[u8]) -> Result<Record<'_>, Flaw> {
        let form = Form::of(octets).ok_or(Flaw::Form)?;
        form.verify(octets)?;
        form.record(octets).ok_or(Flaw::Form)
    }

    #[test]
    fn a_record_survives_only_whole() {
        let octets = octets(&[b"DKIM-Signature: v=1\r\n", b"\r\nhello\r\n"]);
        let expected = Record {
            head: HEAD,
            mail_from: "bounce+7@example.org",
            rcpt_to: "zoë@example.com",
            message: b"DKIM-Signature: v=1\r\n\r\nhello\r\n",
        };
        assert_eq!(read(&octets), Ok(expected));
        assert!(octets.len().is_multiple_of(8));
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..octets.len() {
            assert_eq!(read(&octets[..length]), Err(Flaw::Form), "length {length}");
        }
    }

    #[test]
    fn unsafe_messages_are_refused_also_across_parts() {
        for (name, parts) in [
            ("no CRLF", &[&b"a: b\r\n\r\nhello"[..]][..]),
            ("nothing", &[]),
            ("a dot first", &[b".a: b\r\n"]),
            ("a dot line", &[b"a: b\r\n\r\n.\r\nQUIT\r\n"]),
            ("a dot across parts", &[b"a: b\r", b"\n", b".\r\n"]),
        ] {
            let refused = std::panic::catch_unwind(|| octets(parts));
            assert!(refused.is_err(), "{name}");
        }
        octets(&[b"a: b. .\r\n", b"\r\n", b" .ok..\r\n"]);
    }

    proptest! {
        #[test]
        fn any_octets_are_a_record_or_none(noise: Vec<u8>) {
            let octets = [&MAGIC[..], &noise[..]].concat();
            prop_assert!(read(&octets).is_err());
        }
    }
}
