//! forms — the accepted forms of single values of a rate table.
//!
//! Each function takes the text of a value and gives what it means or a sentence; where the
//! sentence can say what to do instead, that stands behind the last `; `.

use std::fmt;
use std::time::Duration;

use crate::limits::{DOMAIN_MAX, LABEL_MAX};
use crate::rates::{IpPolicy, Quirk, Tls};
use crate::units::{self, Rate};

/// A mail host, or with a leading dot all hosts below a domain: lower case, A-labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suffix(String);

impl Suffix {
    /// Whether it means this host; case and a dot at the end do not count.
    pub fn matches(&self, host: &str) -> bool {
        let (host, own) = (host.strip_suffix('.').unwrap_or(host).as_bytes(), self.0.as_bytes());
        let Some(start) = host.len().checked_sub(own.len()) else { return false };
        let fits = if own[0] == b'.' { start > 0 } else { start == 0 };
        fits && host[start..].eq_ignore_ascii_case(own)
    }

    /// Whether there can be a host that both mean.
    pub fn overlaps(&self, other: &Suffix) -> bool {
        let within = |narrow: &str, wide: &str| wide.starts_with('.') && narrow.ends_with(wide);
        self == other || within(&self.0, &other.0) || within(&other.0, &self.0)
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name of at least two labels, perhaps behind a dot. Underscores occur in mail hosts.
pub(super) fn suffix(text: &str) -> Result<Suffix, String> {
    let wrong = || format!("{text:?} is no mail host");
    let (dot, name) = match text.strip_prefix('.') {
        Some(name) => (".", name),
        None => ("", text),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let ascii = idna::domain_to_ascii(name).map_err(|_| wrong())?;
    let label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    if ascii.len() > DOMAIN_MAX || !ascii.split('.').all(label) {
        return Err(wrong());
    }
    if !ascii.contains('.') {
        return Err(format!("{text:?} is a whole top-level domain; give at least two labels"));
    }
    Ok(Suffix(format!("{dot}{ascii}")))
}

/// The name of a provider. It has no dot, so that it is never the name of a host, and `rate.NAME`
/// can be told apart.
pub(super) fn provider(name: &str) -> Result<(), String> {
    /// As long as a label, so that it fits every column.
    const LENGTH_MAX: usize = LABEL_MAX;
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name == "default" {
        return Err("\"default\" is no provider; its row is [default]".to_owned());
    }
    if (1..=LENGTH_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{name:?} cannot name a provider; use lower case letters, digits and \"-\""))
}

/// A rate that lets messages pass.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let count = text.split('/').next().unwrap_or_default().trim();
    if !count.is_empty() && count.bytes().all(|c| c == b'0') && text.contains('/') {
        return Err(format!(
            "{text:?} allows no message at all; without the key the default row's rate holds"
        ));
    }
    units::rate(text)
}

/// A time longer than nothing.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wait = units::duration(text)?;
    if wait.is_zero() { Err(format!("{text:?} is no time at all")) } else { Ok(wait) }
}

/// A text that is not empty.
pub(super) fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// The words for [`Tls`].
pub(super) const TLS: &[(&str, Tls)] = &[
    ("none", Tls::None),
    ("opportunistic", Tls::Opportunistic),
    ("required", Tls::Required),
    ("verified", Tls::Verified),
];

/// The words for [`IpPolicy`].
pub(super) const IP: &[(&str, IpPolicy)] = &[
    ("v4", IpPolicy::V4Only),
    ("v6", IpPolicy::V6Only),
    ("v4-first", IpPolicy::V4First),
    ("v6-first", IpPolicy::V6First),
];

/// The words for [`Quirk`].
pub(super) const QUIRKS: &[(&str, Quirk)] = &[("no-pipelining", Quirk::NoPipelining)];

/// One of several words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is no choice"))
    }
}

/// The word for a value.
pub(super) fn word<'a, T: PartialEq>(words: &[(&'a str, T)], value: &T) -> &'a str {
    words.iter().find(|(_, own)| own == value).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_mean_hosts_below_and_names_mean_themselves() {
        for (text, host, expected) in [
            (".google.com", "smtp.google.com", true),
            (".google.com", "ASPMX.L.Google.com.", true),
            (".google.com", "google.com", false),
            (".google.com", ".google.com", false),
            (".google.com", "notgoogle.com", false),
            (".google.com", "google.com.example.net", false),
            ("mx.cox.net", "MX.cox.net.", true),
            ("mx.cox.net", "a.mx.cox.net", false),
            (".Bücher.example.", "mx.xn--bcher-kva.example", true),
            ("mx_1.example.com", "mx_1.example.com", true),
        ] {
            assert_eq!(suffix(text).unwrap().matches(host), expected, "{text} {host}");
        }
        for bad in ["", ".", "..a.b", "*.google.com", "a b.c", ".com", "com", "a..b", "-.-\0"] {
            assert!(suffix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overlaps_are_hosts_in_common() {
        for (one, other, expected) in [
            (".google.com", ".google.com", true),
            (".google.com", ".l.google.com", true),
            (".google.com", "smtp.google.com", true),
            (".google.com", "google.com", false),
            (".google.com", ".ogle.com", false),
            ("mx.cox.net", "mx.cox.net", true),
            ("mx.cox.net", "a.mx.cox.net", false),
        ] {
            let (one, other) = (suffix(one).unwrap(), suffix(other).unwrap());
            assert_eq!(one.overlaps(&other), expected, "{one} {other}");
            assert_eq!(other.overlaps(&one), expected, "{other} {one}");
        }
    }

    #[test]
    fn names_of_providers_are_words() {
        for good in ["google", "t-online", "163"] {
            assert_eq!(provider(good), Ok(()));
        }
        for bad in ["", "default", "Google", "mail.com", "gmx/web", &"a".repeat(64)] {
            assert!(provider(bad).is_err(), "{bad:?}");
        }
    }
}
