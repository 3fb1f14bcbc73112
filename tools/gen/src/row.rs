//! row — one record, written field by field into a buffer.
//!
//! The kind decides what is wrong with it. Good addresses end in the row number, so they are
//! unique by construction. It must not know files or counts.

use crate::dirt::Kind;
use crate::domains::{self, Share};
use crate::people::{CITIES, FIRST_NAMES, LAST_NAMES, NOTES, PLANS, UMLAUT_NAMES};
use crate::random::Random;

/// The header's columns.
pub(crate) const COLUMNS: [&str; 9] = [
    "email",
    "first_name",
    "last_name",
    "city",
    "country",
    "plan",
    "amount",
    "signup_date",
    "note",
];

/// How fields and records are separated, which domains are drawn and what ends each.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) delimiter: u8,
    pub(crate) line_end: &'static [u8],
    pub(crate) suffix: &'a str,
    pub(crate) shares: &'a [Share],
}

/// What sets one row apart.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) kind: Option<Kind>,
    /// The address to repeat, if the kind is a duplicate.
    pub(crate) earlier: &'a [u8],
}

impl Row<'_> {
    /// Appends the record and returns where its address stands in `out`.
    pub(crate) fn push(
        &self,
        out: &mut Vec<u8>,
        shape: &Shape,
        random: &mut Random,
    ) -> std::ops::Range<usize> {
        let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
        let start = out.len();
        self.push_address(out, shape, (first, last), random);
        let address = start..out.len();
        if self.kind == Some(Kind::EmptyOptional) {
            out.resize(out.len() + COLUMNS.len() - 1, shape.delimiter);
        } else {
            self.push_names(out, shape, (first, last), random);
            self.push_place(out, shape, random);
            self.push_account(out, shape, random);
        }
        out.extend_from_slice(shape.line_end);
        address
    }

    fn push_address(
        &self,
        out: &mut Vec<u8>,
        shape: &Shape,
        (first, last): (&str, &str),
        random: &mut Random,
    ) {
        match self.kind {
            Some(Kind::ExactDuplicate) => return out.extend_from_slice(self.earlier),
            Some(Kind::CaseDuplicate) => {
                return out.extend(self.earlier.iter().map(u8::to_ascii_uppercase));
            }
            Some(Kind::MissingAddress) => return,
            _ => {}
        }
        let flaw = (self.kind == Some(Kind::BadSyntax)).then_some(self.number % 5);
        if flaw == Some(0) {
            out.push(b'.');
        }
        if flaw != Some(1) {
            push_lower(out, first);
            out.push(if flaw == Some(2) { b' ' } else { b'.' });
            push_lower(out, last);
            push_number(out, self.number);
        }
        if self.kind == Some(Kind::PlusAddress) {
            out.extend_from_slice(b"+shop");
        }
        out.extend_from_slice(match flaw {
            Some(3) => b".",
            Some(4) => b"@@",
            _ => b"@",
        });
        if self.kind == Some(Kind::IdnDomain) {
            out.extend_from_slice(domains::INTERNATIONALISED.as_bytes());
        } else {
            domains::push(out, shape.shares, random);
        }
        out.extend_from_slice(shape.suffix.as_bytes());
    }

    fn push_names(
        &self,
        out: &mut Vec<u8>,
        shape: &Shape,
        (first, last): (&str, &str),
        random: &mut Random,
    ) {
        let mut last = last;
        out.push(shape.delimiter);
        match self.kind {
            Some(Kind::NotUtf8) => out.extend_from_slice(b"J\xfcrgen"),
            Some(Kind::HeaderInjection) => {
                out.extend_from_slice(b"\"Anna\r\nBcc: victim@example.test\"");
            }
            Some(Kind::Emoji) => out.extend_from_slice("Sunny 🌻".as_bytes()),
            Some(Kind::Umlaut) => {
                let name = random.pick(&UMLAUT_NAMES);
                out.extend_from_slice(name.0.as_bytes());
                last = name.1;
            }
            _ => out.extend_from_slice(first.as_bytes()),
        }
        out.push(shape.delimiter);
        out.extend_from_slice(last.as_bytes());
    }

    fn push_place(&self, out: &mut Vec<u8>, shape: &Shape, random: &mut Random) {
        let (city, country) = random.pick(&CITIES);
        out.push(shape.delimiter);
        if self.kind == Some(Kind::QuotedDelimiter) {
            out.push(b'"');
            out.extend_from_slice(city.as_bytes());
            out.push(shape.delimiter);
            out.extend_from_slice(b" \"\"old town\"\"\"");
        } else {
            out.extend_from_slice(city.as_bytes());
        }
        out.push(shape.delimiter);
        out.extend_from_slice(country.as_bytes());
    }

    fn push_account(&self, out: &mut Vec<u8>, shape: &Shape, random: &mut Random) {
        out.push(shape.delimiter);
        out.extend_from_slice(random.pick(&PLANS).as_bytes());
        out.push(shape.delimiter);
        push_number(out, u64::from(random.below(1000)));
        out.push(b'.');
        push_two_digits(out, random.below(100));
        out.push(shape.delimiter);
        push_number(out, u64::from(2019 + random.below(7)));
        out.push(b'-');
        push_two_digits(out, 1 + random.below(12));
        out.push(b'-');
        // Every month has a 28th.
        push_two_digits(out, 1 + random.below(28));
        let short = self.kind == Some(Kind::FieldCount) && self.number.is_multiple_of(2);
        if short {
            return;
        }
        out.push(shape.delimiter);
        if self.kind == Some(Kind::NewlineInNote) {
            out.extend_from_slice(b"\"first line\nsecond line\"");
        } else {
            out.extend_from_slice(random.pick(&NOTES).as_bytes());
        }
        if self.kind == Some(Kind::FieldCount) {
            out.push(shape.delimiter);
            out.extend_from_slice(b"surplus");
        }
    }
}

fn push_lower(out: &mut Vec<u8>, word: &str) {
    out.extend(word.bytes().map(|octet| octet.to_ascii_lowercase()));
}

fn push_two_digits(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 99, 1234, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    fn address(number: u64, kind: Option<Kind>) -> String {
        let shape = Shape { delimiter: b',', line_end: b"\n", suffix: ".test", shares: &[] };
        let row = Row { number, kind, earlier: b"an.na1@gmail.com.test" };
        let mut out = Vec::new();
        let range = row.push(&mut out, &shape, &mut Random::new(1));
        String::from_utf8(out[range].to_vec()).unwrap()
    }

    #[test]
    fn kinds_shape_the_address() {
        let cases = [
            (6, None, "ursula.xu6@btinternet.com.test"),
            (6, Some(Kind::PlusAddress), "ursula.xu6+shop@btinternet.com.test"),
            (6, Some(Kind::IdnDomain), "ursula.xu6@müller-post.de.test"),
            (6, Some(Kind::ExactDuplicate), "an.na1@gmail.com.test"),
            (6, Some(Kind::CaseDuplicate), "AN.NA1@GMAIL.COM.TEST"),
            (6, Some(Kind::MissingAddress), ""),
            (5, Some(Kind::BadSyntax), ".ursula.xu5@btinternet.com.test"),
            (6, Some(Kind::BadSyntax), "@btinternet.com.test"),
            (7, Some(Kind::BadSyntax), "ursula xu7@btinternet.com.test"),
            (8, Some(Kind::BadSyntax), "ursula.xu8.btinternet.com.test"),
            (9, Some(Kind::BadSyntax), "ursula.xu9@@btinternet.com.test"),
        ];
        for (number, kind, expected) in cases {
            assert_eq!(address(number, kind), expected, "row {number}, {kind:?}");
        }
    }
}
