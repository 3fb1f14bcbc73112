//! response — a reply's text as it may be kept: without local parts, and once more without
//! everything that differs from one message to the next.
//!
//! [`mask`] takes the local part out of every address. [`normalise`] replaces what counts,
//! numbers or names a single message, so that equal reasons become equal texts and can be grouped:
//!
//! | becomes | what |
//! |---|---|
//! | `{address}` | a word with `@` |
//! | `{ip}` | an IPv4 or IPv6 address |
//! | `{id}` | eight or more letters and digits that change at least twice, or hex digits |
//! | `{n}` | any other run of digits |
//!
//! Enhanced status codes (`5.1.1`) and reason codes such as `S3140`, `TSS04` or `OFR_506` stay:
//! they are the reason. A word of letters alone is never taken for an id. Both functions write
//! into a buffer of the caller, at most [`RESPONSE_TEXT_MAX`] octets, and cannot fail. A local
//! part that stands in the text without its `@` is not recognised.

use std::net::IpAddr;

use crate::limits::RESPONSE_TEXT_MAX;

/// Shortest `{id}`. Eight: Postfix' short queue ids have 10 or more characters, Exim's parts 6 but
/// 16 together; reason codes of providers have up to 8 but change only once.
const ID_MIN: usize = 8;

/// Copies `text` into `out` with `***` for every local part and a blank for every control
/// character.
pub(super) fn mask(text: &str, out: &mut String) {
    out.clear();
    let mut copied = 0;
    for at in memchr::memchr2_iter(b'@', b'%', text.as_bytes()) {
        if text.as_bytes()[at] == b'%' && !text[at..].starts_with("%40") {
            continue;
        }
        let local = text[copied..at].trim_end_matches(is_local).len() + copied;
        let local = if local == at { quoted(&text[copied..at]) + copied } else { local };
        if local < at {
            out.push_str(&text[copied..local]);
            out.push_str("***");
            copied = at;
        }
    }
    out.push_str(&text[copied..]);
    if out.bytes().any(|octet| octet.is_ascii_control()) {
        *out = out.replace(|c: char| c.is_ascii_control(), " ");
    }
    shorten(out);
}

/// Where the quoted string at the end of `text` begins; its length when there is none.
fn quoted(text: &str) -> usize {
    let inner = text.strip_suffix('"').and_then(|text| text.rfind('"'));
    inner.unwrap_or(text.len())
}

/// Atoms with dots (RFC 5322 §3.2.3), and everything beyond ASCII (RFC 6532 §3.2).
fn is_local(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
}

/// Copies the already masked `text` into `out` with words of the table above for what varies, and
/// one blank for several.
pub(super) fn normalise(text: &str, out: &mut String) {
    out.clear();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.bytes().position(|octet| !is_word(octet)).unwrap_or(rest.len());
        word(&rest[..end], out);
        rest = &rest[end..];
        let gap = rest.bytes().position(is_word).unwrap_or(rest.len());
        separators(&rest[..gap], out);
        rest = &rest[gap..];
    }
    shorten(out);
}

fn is_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || !octet.is_ascii() || b"@._-:+*%".contains(&octet)
}

fn separators(gap: &str, out: &mut String) {
    for c in gap.chars() {
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
}

fn word(text: &str, out: &mut String) {
    let varies = |octet: u8| octet.is_ascii_digit() || octet == b'@' || octet == b':';
    if !text.bytes().any(varies) {
        return out.push_str(text);
    }
    let bare = text.trim_end_matches(['.', ':', '-']);
    if bare.contains('@') {
        out.push_str("{address}");
    } else if is_status(bare) {
        out.push_str(bare);
    } else if is_ip(bare) {
        out.push_str("{ip}");
    } else if let Some((_, port)) = bare.rsplit_once(':').filter(|(ip, _)| is_ip(ip)) {
        out.push_str("{ip}:");
        part(port, true, out);
    } else {
        let alone = !bare.contains('.');
        for piece in bare.split_inclusive(['.', ':']) {
            let name = piece.trim_end_matches(['.', ':']);
            part(name, alone, out);
            out.push_str(&piece[name.len()..]);
        }
    }
    out.push_str(&text[bare.len()..]);
}

/// An enhanced status code: 2, 4 or 5, then two numbers of at most three digits (RFC 3463 §2).
fn is_status(text: &str) -> bool {
    let number = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
    };
    let mut parts = text.split('.');
    matches!(parts.next(), Some("2" | "4" | "5"))
        && parts.next().is_some_and(number)
        && parts.next().is_some_and(number)
        && parts.next().is_none()
}

fn is_ip(text: &str) -> bool {
    text.len() >= 3
        && text.bytes().all(|octet| octet.is_ascii_hexdigit() || octet == b'.' || octet == b':')
        && text.parse::<IpAddr>().is_ok()
}

/// One piece of a word between dots and colons; only a word without dots may be a reason code.
fn part(text: &str, alone: bool, out: &mut String) {
    if !text.bytes().any(|octet| octet.is_ascii_digit()) || alone && is_reason_code(text) {
        out.push_str(text);
    } else if is_id(text) {
        out.push_str("{id}");
    } else {
        digits(text, out);
    }
}

/// One to five capitals, perhaps a joint, then one to six digits: `S3140`, `OFR_506`, `BL000001`.
fn is_reason_code(text: &str) -> bool {
    let after = text.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let code = after.strip_prefix(['-', '_']).unwrap_or(after);
    (1..=5).contains(&(text.len() - after.len()))
        && (1..=6).contains(&code.len())
        && code.bytes().all(|octet| octet.is_ascii_digit())
}

fn is_id(text: &str) -> bool {
    if text.len() < ID_MIN {
        return false;
    }
    let mut changes = 0;
    let mut last = None;
    let mut hex = true;
    for octet in text.bytes().filter(u8::is_ascii_alphanumeric) {
        let digit = octet.is_ascii_digit();
        changes += u32::from(last.is_some_and(|last| last != digit));
        hex &= octet.is_ascii_hexdigit();
        last = Some(digit);
    }
    changes >= 2 || hex && changes == 1
}

fn digits(text: &str, out: &mut String) {
    let mut inside = false;
    for c in text.chars() {
        let digit = c.is_ascii_digit();
        if !digit {
            out.push(c);
        } else if !inside {
            out.push_str("{n}");
        }
        inside = digit;
    }
}

fn shorten(out: &mut String) {
    out.truncate(out.floor_char_boundary(RESPONSE_TEXT_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(text: &str) -> String {
        let mut out = String::from("left over");
        mask(text, &mut out);
        out
    }

    fn normalised(text: &str) -> String {
        let mut out = String::from("left over");
        normalise(&masked(text), &mut out);
        out
    }

    #[test]
    fn local_parts_are_taken_out() {
        for (text, expected) in [
            ("2.0.0 OK", "2.0.0 OK"),
            ("<anna.o'hara+x@example.com>: no such user", "<***@example.com>: no such user"),
            ("rfc822;a@b.example c@d.example", "rfc822;***@b.example ***@d.example"),
            ("bounce+anna=example.com@list.example", "***@list.example"),
            ("see https://x.example/?u=anna%40example.com", "see https:***%40example.com"),
            ("\"anna hara\"@example.com is full", "***@example.com is full"),
            ("jürgen@exämple.de", "***@exämple.de"),
            ("user @ example", "user @ example"),
            ("100% full", "100% full"),
            ("@", "@"),
            ("a@b@c", "***@***@c"),
            ("one\r\ntwo\0three", "one  two three"),
        ] {
            assert_eq!(masked(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_varies_becomes_a_word() {
        for (text, expected) in [
            ("", ""),
            ("2.0.0 OK  1700000000 x1-20020a05600c43.78 - gsmtp", "2.0.0 OK {n} {id}.{n} - gsmtp"),
            ("2.0.0 Ok: queued as 4BX7yZ1Qk2z9", "2.0.0 Ok: queued as {id}"),
            ("2.0.0 Ok: queued as 9F2B41C0A7", "2.0.0 Ok: queued as {id}"),
            ("OK id=1abCdE-0003Xy-2B", "OK id={id}"),
            ("5.1.1 <anna@example.com>: unknown", "5.1.1 <{address}>: unknown"),
            ("4.7.28 [192.0.2.1      15] rate", "4.7.28 [{ip} {n}] rate"),
            ("[2001:db8::1]:25 refused", "[{ip}]:{n} refused"),
            ("connect to 192.0.2.7:25: timed out", "connect to {ip}:{n}: timed out"),
            ("at 12:34:56 on 2026-11-21", "at {n}:{n}:{n} on {n}-{n}-{n}"),
            (
                "unblock (S3140) (TSS04) OFR_506 BL000001",
                "unblock (S3140) (TSS04) OFR_506 BL000001",
            ),
            ("RLY:B1 https://x.example/answer/188131", "RLY:B1 https://x.example/answer/{n}"),
            ("mail-ej1-f41.x.example", "{id}.x.example"),
            ("mx12.x.example", "mx{n}.x.example"),
            ("AM0EUR02FT042.mail.x.example", "{id}.mail.x.example"),
            ("deadbeef12 deadbeef decade", "{id} deadbeef decade"),
            ("outbound12345 busy, try in 300s.", "outbound{n} busy, try in {n}s."),
            ("Größe 12345 Ünïcode", "Größe {n} Ünïcode"),
            ("...: --- ::", "...: --- ::"),
        ] {
            assert_eq!(normalised(text), expected, "{text:?}");
        }
    }

    #[test]
    fn growing_texts_stay_within_the_limit() {
        assert_eq!(normalised(&"1 ".repeat(256)).len(), RESPONSE_TEXT_MAX);
        assert_eq!(masked(&"xé".repeat(200)).len(), RESPONSE_TEXT_MAX - 1);
    }

    proptest! {
        #[test]
        fn nothing_hostile_breaks_it(text in "[ -~\\r\\n\\té@:.%\"]{0,200}") {
            let once = masked(&text);
            prop_assert!(once.len() <= RESPONSE_TEXT_MAX);
            prop_assert!(!once.bytes().any(|octet| octet.is_ascii_control()));
            let norm = normalised(&text);
            prop_assert!(norm.len() <= RESPONSE_TEXT_MAX);
            prop_assert!(!norm.contains("  ") || once.contains("  "));
        }

        #[test]
        fn a_plain_address_never_survives(
            before in "[a-z :;<(,\\[]{0,20}[ :;<(,\\[]",
            local in "[a-z]{3}[0-9][a-z.+=-]{0,9}",
            after in "[ -~]{0,20}",
        ) {
            let text = format!("{before}{local}@example.org{after}");
            prop_assert!(!masked(&text).contains(&local), "{text:?} {:?}", masked(&text));
        }
    }
}
