//! domains — which share of a list lives where.
//!
//! The first six shares are those of the sample that comes with KumoMTA's traffic generator; the
//! next ones are our own estimate of a European and American consumer list; the rest is a tail of
//! small domains, put together from words. It must not know rows.

use crate::random::Random;

/// Domains with their share of 1000 rows.
pub(crate) const PROVIDERS: [(&str, u16); 28] = [
    ("gmail.com", 674),
    ("hotmail.com", 88),
    ("yahoo.com", 59),
    ("aol.com", 15),
    ("outlook.com", 12),
    ("icloud.com", 12),
    ("comcast.net", 12),
    ("gmx.de", 9),
    ("web.de", 9),
    ("msn.com", 8),
    ("live.com", 8),
    ("t-online.de", 6),
    ("orange.fr", 6),
    ("att.net", 6),
    ("sbcglobal.net", 5),
    ("me.com", 5),
    ("verizon.net", 4),
    ("ymail.com", 4),
    ("gmx.net", 4),
    ("free.fr", 4),
    ("libero.it", 4),
    ("proton.me", 4),
    ("wanadoo.fr", 3),
    ("wp.pl", 3),
    ("seznam.cz", 2),
    ("bluewin.ch", 2),
    ("freenet.de", 2),
    ("btinternet.com", 2),
];

/// An internationalised name, `xn--mller-post-9db.de` in its A-label form.
pub(crate) const INTERNATIONALISED: &str = "müller-post.de";

const FIRST: [&str; 24] = [
    "alpine", "amber", "berg", "blue", "cedar", "city", "delta", "east", "fern", "grand", "harbor",
    "iron", "kiel", "linden", "maple", "nord", "oak", "polar", "river", "silver", "stone", "sud",
    "valley", "west",
];
const SECOND: [&str; 24] = [
    "apotheke", "atelier", "bakery", "bikes", "books", "cafe", "clinic", "dental", "design",
    "farm", "garden", "hotel", "immo", "kanzlei", "lab", "logistik", "media", "optik", "praxis",
    "reisen", "studio", "tools", "verein", "works",
];
const ENDINGS: [&str; 8] = ["com", "de", "net", "fr", "org", "at", "ch", "co.uk"];

const fn table() -> [u8; 1000] {
    let mut table = [u8::MAX; 1000];
    let (mut at, mut provider) = (0, 0);
    while provider < PROVIDERS.len() {
        let end = at + PROVIDERS[provider].1 as usize;
        while at < end {
            table[at] = provider as u8;
            at += 1;
        }
        provider += 1;
    }
    table
}

static TABLE: [u8; 1000] = table();

/// A domain that has another part of the rows than the usual mix gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The domain, in lower case.
    pub domain: String,
    /// Its part of the rows, in millionths.
    pub millionths: u32,
}

/// Appends a domain: one of `shares` by its part, else one of the usual mix without these.
pub(crate) fn push(out: &mut Vec<u8>, shares: &[Share], random: &mut Random) {
    if !shares.is_empty() {
        let draw = random.below(1_000_000);
        let mut upper = 0;
        let drawn = shares.iter().find(|share| {
            upper += share.millionths;
            draw < upper
        });
        if let Some(share) = drawn {
            return out.extend_from_slice(share.domain.as_bytes());
        }
    }
    let start = out.len();
    loop {
        push_usual(out, random);
        // It ends: the tail has more domains than anybody gives shares.
        if !shares.iter().any(|share| share.domain.as_bytes() == &out[start..]) {
            return;
        }
        out.truncate(start);
    }
}

/// Appends a domain of the usual mix: a provider's by its share, else one of 4608 small ones.
fn push_usual(out: &mut Vec<u8>, random: &mut Random) {
    match PROVIDERS.get(usize::from(TABLE[random.below(1000) as usize])) {
        Some((domain, _)) => out.extend_from_slice(domain.as_bytes()),
        None => {
            let (first, second) = (random.pick(&FIRST), random.pick(&SECOND));
            for part in [first, "-", second, ".", random.pick(&ENDINGS)] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_shares() {
        for (n, (domain, share)) in PROVIDERS.iter().enumerate() {
            let held = TABLE.iter().filter(|&&entry| usize::from(entry) == n).count();
            assert_eq!(held, usize::from(*share), "{domain}");
        }
        assert_eq!(TABLE.iter().filter(|&&entry| entry == u8::MAX).count(), 28, "the tail");
    }

    #[test]
    fn small_domains_are_names() {
        let mut random = Random::new(3);
        for _ in 0..10_000 {
            let mut domain = Vec::new();
            push(&mut domain, &[], &mut random);
            let domain = String::from_utf8(domain).unwrap();
            assert_eq!(idna::domain_to_ascii_strict(&domain).ok(), Some(domain));
        }
        let ascii = idna::domain_to_ascii_strict(INTERNATIONALISED).unwrap();
        assert_eq!(ascii, "xn--mller-post-9db.de");
    }
}
