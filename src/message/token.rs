//! token — the names that tie a message, its return path and its reports to one row of one run.
//!
//! A [`Key`] is (run, row). From it come the Message-ID, the MIME boundary, the `X-Mailshot-Key`
//! header and the return path, all of them the same each time the message is rendered. The two
//! that come back in reports, return path and key, are read back here; text that is not exactly
//! such a token gives `None`. This file knows neither campaigns nor messages.

use std::fmt;

use ulid::Ulid;

use crate::limits::LOCAL_PART_MAX;
use crate::outcome::Row;

/// Octets of a run's ULID in text.
const RUN_TEXT: usize = ulid::ULID_LEN;
/// Digits of the largest row (4294967295) in base 36.
const ROW_DIGITS_MAX: usize = 7;

/// Octets that the local part in front of the `+` of a return path may have, so that the whole
/// local part keeps RFC 5321's limit for every row.
pub const BOUNCE_LOCAL_MAX: usize =
    LOCAL_PART_MAX - "+".len() - RUN_TEXT - "-".len() - ROW_DIGITS_MAX;

/// One row of one run; displayed as `<run>-<row>`, the value of `X-Mailshot-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The run's ULID, 26 upper-case characters.
    pub run: &'a str,
    /// The row, from 1.
    pub row: Row,
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.row)
    }
}

impl Key<'_> {
    /// The Message-ID without its angle brackets: `<run>-<row>@<domain>`.
    pub fn message_id(&self, domain: &str) -> String {
        format!("{self}@{domain}")
    }

    /// The MIME boundary: `=_<run>-<row>`.
    ///
    /// `=_` cannot occur in quoted-printable or base64 (RFC 2045 §6.7, "one good strategy"); 7bit
    /// bodies are searched for it when they are built.
    pub fn boundary(&self) -> String {
        format!("=_{self}")
    }

    /// The return path `<local>+<run>-<row in base 36>@<domain>`, run in lower case because some
    /// receivers fold the case of what they return.
    ///
    /// `None` when `local` has more than [`BOUNCE_LOCAL_MAX`] octets, whatever the row.
    pub fn verp(&self, local: &str, domain: &str) -> Option<String> {
        if local.len() > BOUNCE_LOCAL_MAX {
            return None;
        }
        let mut path = String::with_capacity(LOCAL_PART_MAX + 1 + domain.len());
        path.push_str(local);
        path.push('+');
        path.extend(self.run.chars().map(|c| c.to_ascii_lowercase()));
        path.push('-');
        push_base36(&mut path, self.row.0);
        path.push('@');
        path.push_str(domain);
        Some(path)
    }
}

/// Reads the value of an `X-Mailshot-Key` header; blanks around it are allowed.
pub fn parse_key(value: &str) -> Option<Key<'_>> {
    let (run, row) = value.trim_ascii().split_once('-')?;
    if canonical(run)? != run || !is_number(row, 10) {
        return None;
    }
    Some(Key { run, row: Row(row.parse().ok()?) })
}

/// Reads run and row out of a return path made by [`Key::verp`], in any case, with or without its
/// domain. The local part in front of the last `+` is not looked at.
pub fn parse_verp(path: &str) -> Option<(String, Row)> {
    let local = path.rsplit_once('@').map_or(path, |(local, _)| local);
    let (_, token) = local.rsplit_once('+')?;
    let (run, row) = token.split_once('-')?;
    if !is_number(row, 36) {
        return None;
    }
    Some((canonical(run)?, Row(u32::from_str_radix(row, 36).ok()?)))
}

/// The ULID as the `ulid` crate writes it; `None` for anything else, overflow of 128 bits included.
fn canonical(run: &str) -> Option<String> {
    let text = Ulid::from_string(run).ok()?.to_string();
    text.eq_ignore_ascii_case(run).then_some(text)
}

/// Whether `digits` is a number from 1 without sign and leading zeros.
fn is_number(digits: &str, radix: u32) -> bool {
    !digits.starts_with('0') && !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))
}

fn push_base36(out: &mut String, mut number: u32) {
    let mut digits = [0u8; ROW_DIGITS_MAX];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[start..].iter().map(|&digit| char::from(digit)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N";

    #[test]
    fn tokens_are_what_is_documented() {
        let key = Key { run: RUN, row: Row(1_679_616) };
        assert_eq!(key.to_string(), "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-1679616");
        assert_eq!(key.message_id("news.example"), format!("{RUN}-1679616@news.example"));
        assert_eq!(key.boundary(), format!("=_{RUN}-1679616"));
        assert_eq!(
            key.verp("bounce", "b.example").as_deref(),
            Some("bounce+01kaj3y5zq8v7w6t5s4r3q2p1n-10000@b.example")
        );
    }

    #[test]
    fn the_longest_return_path_has_64_octets_before_the_at() {
        let key = Key { run: RUN, row: Row(u32::MAX) };
        let longest = "b".repeat(BOUNCE_LOCAL_MAX);
        let path = key.verp(&longest, "b.example").expect("fits");
        assert_eq!(path.find('@'), Some(LOCAL_PART_MAX));
        assert_eq!(Key { run: RUN, row: Row(1) }.verp(&format!("{longest}b"), "b.example"), None);
    }

    #[test]
    fn what_is_not_a_token_is_none() {
        for bad in [
            "",
            "bounce@b.example",
            "bounce+@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n-@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n-0@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n-01@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n--1@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1n-1z141z4@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1u-1@b.example",
            "bounce+81kaj3y5zq8v7w6t5s4r3q2p1n-1@b.example",
            "bounce+01kaj3y5zq8v7w6t5s4r3q2p1-1@b.example",
            "bounce+é1kaj3y5zq8v7w6t5s4r3q2p1-1@b.example",
        ] {
            assert_eq!(parse_verp(bad), None, "{bad:?}");
        }
        for bad in [
            "",
            RUN,
            "01kaj3y5zq8v7w6t5s4r3q2p1n-1",
            "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-0",
            "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-+1",
            "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-4294967296",
            "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-1 2",
        ] {
            assert_eq!(parse_key(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn tokens_come_back(run: u128, row in 1u32.., local in "[a-z+-]{1,29}", upper: bool) {
            let run = Ulid(run).to_string();
            let key = Key { run: &run, row: Row(row) };
            let value = format!(" {key}\r\n");
            prop_assert_eq!(parse_key(&value), Some(key));
            let path = key.verp(&local, "b.example").expect("29 octets fit");
            let path = if upper { path.to_ascii_uppercase() } else { path };
            prop_assert_eq!(parse_verp(&path), Some((run.clone(), Row(row))));
            let (local, _) = path.split_once('@').expect("a path has a domain");
            prop_assert_eq!(parse_verp(local), Some((run, Row(row))));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,80}") {
            let _ = (parse_key(&text), parse_verp(&text));
        }
    }
}
