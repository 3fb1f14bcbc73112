//! phrases — finds which of some thousand phrases stand in a text, in one pass over its words.
//!
//! A phrase is one or several parts with `*` between; each part stands in the text as whole words,
//! that is with no ASCII letter or digit touching it, and the parts stand in their order. The first
//! word of each phrase leads to it by a hash; only what begins with the right word is compared, so
//! the cost grows with the text and not with the table. Texts and phrases are in lower case.

use std::ops::Range;

/// All phrases, each with a number of the caller's.
#[derive(Debug, Default)]
pub(super) struct Phrases {
    /// Sorted by the slot of their first word.
    entries: Vec<Entry>,
    /// Where the entries of each slot begin; a power of two of them, and one more.
    starts: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    hash: u32,
    phrase: String,
    /// The first word within the phrase.
    word: Range<usize>,
    owner: u16,
}

impl Phrases {
    /// Phrases that have passed [`form`], each with its owner.
    pub(super) fn new<'a>(phrases: impl IntoIterator<Item = (&'a str, u16)>) -> Phrases {
        let entry = |(phrase, owner): (&str, u16)| {
            let word = words(phrase).next().unwrap_or(0..0);
            let hash = hash(&phrase.as_bytes()[word.clone()]);
            Entry { hash, phrase: phrase.to_owned(), word, owner }
        };
        let mut entries: Vec<Entry> = phrases.into_iter().map(entry).collect();
        // Four slots for a phrase: few words of a text that begin no phrase meet an entry at all.
        let slots = (entries.len() * 4).next_power_of_two();
        entries.sort_by_key(|entry| slot(entry.hash, slots));
        let before = |at: usize| entries.partition_point(|entry| slot(entry.hash, slots) < at);
        let starts = (0..=slots).map(|at| u32::try_from(before(at)).unwrap_or(u32::MAX)).collect();
        Phrases { entries, starts }
    }

    /// Calls `found` with the owner of each phrase that stands in the text.
    pub(super) fn each_in(&self, text: &str, mut found: impl FnMut(u16)) {
        let slots = self.starts.len() - 1;
        for word in words(text) {
            let hash = hash(&text.as_bytes()[word.clone()]);
            let at = slot(hash, slots);
            for entry in &self.entries[self.starts[at] as usize..self.starts[at + 1] as usize] {
                if entry.hash == hash && entry.stands_at(text, word.start) {
                    found(entry.owner);
                }
            }
        }
    }
}

impl Entry {
    /// Whether the phrase stands in the text with its first word at `at`.
    fn stands_at(&self, text: &str, at: usize) -> bool {
        let (first, rest) = self.phrase.split_once('*').unwrap_or((&self.phrase, ""));
        let Some(start) = at.checked_sub(self.word.start) else { return false };
        let end = start + first.len();
        text.as_bytes().get(start..end) == Some(first.as_bytes())
            && stands_free(text, start..end)
            && (rest.is_empty() || says(&text[end..], rest))
    }
}

/// Whether the parts of a phrase stand in the text one after the other, each as whole words.
pub(super) fn says(text: &str, phrase: &str) -> bool {
    let mut rest = text;
    phrase.split('*').all(|part| match end_of(rest, part) {
        Some(end) => {
            rest = &rest[end..];
            true
        }
        None => false,
    })
}

/// Where the first occurrence of `part` ends that no letter or digit touches. Occurrences overlap:
/// in "aa a a", the one of "a a" that counts begins within one that does not.
fn end_of(text: &str, part: &str) -> Option<usize> {
    let step = part.chars().next().map_or(1, char::len_utf8);
    let mut from = 0;
    loop {
        let start = from + text[from..].find(part)?;
        let end = start + part.len();
        if stands_free(text, start..end) {
            return Some(end);
        }
        from = start + step;
    }
}

fn stands_free(text: &str, place: Range<usize>) -> bool {
    let touches = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    let before = place.start.checked_sub(1).and_then(|at| text.as_bytes().get(at));
    !touches(before) && !touches(text.as_bytes().get(place.end))
}

/// The words of a text: its longest runs of ASCII letters and digits.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let octets = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while octets.get(at).is_some_and(|octet| !octet.is_ascii_alphanumeric()) {
            at += 1;
        }
        let start = at;
        while octets.get(at).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
        }
        (at > start).then_some(start..at)
    })
}

/// FNV-1a: short, and good enough to tell words apart; equal hashes are compared as text anyway.
fn hash(word: &[u8]) -> u32 {
    let mix = |hash: u32, octet: &u8| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
    word.iter().fold(0x811c_9dc5, mix)
}

fn slot(hash: u32, slots: usize) -> usize {
    hash as usize & (slots - 1)
}

/// Whether a text can be a phrase.
///
/// # Errors
///
/// A sentence, and what to write instead behind the last `; `.
pub(super) fn form(text: &str) -> Result<String, String> {
    if text != text.to_lowercase() {
        return Err(format!(
            "{text:?} has capitals, but replies are compared in lower case; write \
                            {:?}",
            text.to_lowercase()
        ));
    }
    if text.contains('@') {
        return Err(format!(
            "{text:?} has an \"@\", but words with one are not compared; replies quote addresses"
        ));
    }
    for part in text.split('*') {
        if words(part).next().is_none() {
            return Err(format!("{text:?} has a part without letters or digits; write words"));
        }
        if part.starts_with(' ') || part.ends_with(' ') || part.contains("  ") {
            return Err(format!(
                "{text:?} has blanks at an end or two together; write single ones \
                                between words and none beside \"*\""
            ));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(phrases: &[&str], text: &str) -> Vec<u16> {
        let table = Phrases::new(phrases.iter().copied().zip(0..));
        let mut owners = Vec::new();
        table.each_in(text, |owner| owners.push(owner));
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    #[test]
    fn phrases_are_found_as_whole_words_in_order() {
        for (text, phrase, expected) in [
            ("listed by spamhaus.", "spamhaus", true),
            ("the spamhausx list", "spamhaus", false),
            ("marblehead rbl", "rbl", true),
            ("marblehead", "rbl", false),
            ("messages from 192.0.2.1 temporarily deferred", "messages from*deferred", true),
            ("deferred messages from 192.0.2.1", "messages from*deferred", false),
            ("", "spam", false),
            ("spam", "spam", true),
            ("\u{e9}spam\u{e9}", "spam", true),
            ("restrictions (ip based)", "restrictions (ip based", true),
            ("- [bl21] x", "[bl21]", true),
            ("code 4.16.50.1", "4.16.50", true),
            ("code 4.16.501", "4.16.50", false),
            ("aa a a", "a a", true),
            ("x aa a a", "x*a a", true),
        ] {
            assert_eq!(says(text, phrase), expected, "{phrase:?} in {text:?}");
            assert_eq!(found(&[phrase], text).len() == 1, expected, "{phrase:?} in {text:?}");
        }
    }

    #[test]
    fn what_cannot_be_found_is_no_phrase() {
        for good in ["spam", "rbl*x", "restrictions (ip based", "[bl21]", "\u{fc}ber 1"] {
            assert_eq!(form(good), Ok(good.to_owned()));
        }
        for bad in ["", "Spam", "a@b", "*spam", "spam*", "a**b", " a", "a ", "a * b", "a  b", "[]"]
        {
            assert!(form(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// The table finds what a plain search for each phrase finds.
        #[test]
        fn the_table_agrees_with_a_plain_search(
            phrases in prop::collection::vec("[ab.(]{1,3}( [ab]{1,2})?([*][ab]{1,2})?", 1..12),
            text in "([ab]{1,3}[ .(-]){0,12}",
        ) {
            let usable = |phrase: &&str| form(phrase).is_ok();
            let phrases: Vec<&str> = phrases.iter().map(String::as_str).filter(usable).collect();
            let plain = (0..).zip(&phrases).filter(|(_, phrase)| says(&text, phrase));
            let plain: Vec<u16> = plain.map(|(owner, _)| owner).collect();
            prop_assert_eq!(found(&phrases, &text), plain);
        }
    }
}
