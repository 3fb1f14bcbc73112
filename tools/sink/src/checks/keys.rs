//! keys — which messages came, and which came twice.
//!
//! The sender puts `X-Mailshot-Key: <run>-<row>` into each message; the run is any word, the row a
//! decimal number of 32 bits. Rows are bits in pages, so 100 million of them take 13 MB. Messages
//! without a readable key are counted, never an error.

use std::collections::BTreeMap;

use serde::Serialize;

use super::header;

/// The header that carries the key.
pub const KEY_HEADER: &str = "X-Mailshot-Key";
/// Duplicates and gaps that a report names.
const NAMED_MAX: usize = 100;
/// Runs told apart. A sender with more of them puts something else into the header.
const RUNS_MAX: usize = 1000;
/// Octets of the run's name.
const RUN_NAME_MAX: usize = 64;
/// Rows of one page: 8 KiB of bits.
const PAGE_ROWS: u32 = 1 << 16;

/// A set of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pages: BTreeMap<u32, Vec<u64>>,
    distinct: u64,
}

impl Rows {
    /// Whether the row is in the set.
    pub fn contains(&self, row: u32) -> bool {
        let (page, word, bit) = place(row);
        self.pages.get(&page).is_some_and(|page| page[word] & bit != 0)
    }

    /// How many rows are in the set.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// All rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.pages.iter().flat_map(|(page, words)| {
            let used = words.iter().enumerate().filter(|(_, word)| **word != 0);
            let bits = used.flat_map(|(n, &word)| {
                (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n as u32 * 64 + bit)
            });
            bits.map(move |row| page * PAGE_ROWS + row)
        })
    }

    /// Adds a row; false if it was there.
    fn insert(&mut self, row: u32) -> bool {
        let (page, word, bit) = place(row);
        let words = self.pages.entry(page).or_insert_with(|| vec![0; PAGE_ROWS as usize / 64]);
        let new = words[word] & bit == 0;
        words[word] |= bit;
        self.distinct += u64::from(new);
        new
    }
}

fn place(row: u32) -> (u32, usize, u64) {
    let within = row % PAGE_ROWS;
    (row / PAGE_ROWS, within as usize / 64, 1 << (within % 64))
}

/// The keys seen.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    runs: BTreeMap<Box<str>, Rows>,
    duplicates: u64,
    first_duplicates: Vec<String>,
    without: u64,
}

impl Keys {
    pub(crate) fn inspect(&mut self, message: &[u8]) {
        let Some((run, row)) = key(message) else {
            self.without += 1;
            return;
        };
        if !self.runs.contains_key(run) {
            if self.runs.len() == RUNS_MAX {
                self.without += 1;
                return;
            }
            self.runs.insert(run.into(), Rows::default());
        }
        let new = self.runs.get_mut(run).is_some_and(|rows| rows.insert(row));
        if !new {
            self.duplicates += 1;
            if self.first_duplicates.len() < NAMED_MAX {
                self.first_duplicates.push(format!("{run}-{row}"));
            }
        }
    }

    pub(crate) fn report(self) -> KeyReport {
        KeyReport {
            distinct: self.runs.values().map(Rows::distinct).sum(),
            duplicates: self.duplicates,
            first_duplicates: self.first_duplicates,
            without: self.without,
            runs: self.runs.into_iter().map(|(run, rows)| (run.into(), run_report(rows))).collect(),
        }
    }
}

/// The key of a message, if it has a readable one. The run's name is safe in a file name.
pub(crate) fn key(message: &[u8]) -> Option<(&str, u32)> {
    let (run, row) = std::str::from_utf8(header(message, KEY_HEADER)?).ok()?.rsplit_once('-')?;
    let word = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let named = (1..=RUN_NAME_MAX).contains(&run.len()) && run.bytes().all(word);
    let decimal = row.bytes().all(|octet| octet.is_ascii_digit());
    if named && decimal && !run.starts_with('.') { Some((run, row.parse().ok()?)) } else { None }
}

fn run_report(rows: Rows) -> RunReport {
    let (lowest, highest) = (rows.iter().next().unwrap_or(0), rows.iter().last().unwrap_or(0));
    let gaps = u64::from(highest - lowest) + 1 - rows.distinct();
    let missing = if gaps == 0 { 0 } else { NAMED_MAX };
    let first_gaps = (lowest..highest).filter(|&row| !rows.contains(row)).take(missing).collect();
    RunReport { distinct: rows.distinct(), lowest, highest, gaps, first_gaps, rows }
}

/// Which messages came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Different keys.
    pub distinct: u64,
    /// Messages whose key had been seen before.
    pub duplicates: u64,
    /// The keys of the first 100 duplicates.
    pub first_duplicates: Vec<String>,
    /// Messages without a readable key.
    pub without: u64,
    /// What came of each run.
    pub runs: BTreeMap<String, RunReport>,
}

/// Which rows of one run came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// Different rows.
    pub distinct: u64,
    /// The first row.
    pub lowest: u32,
    /// The last row.
    pub highest: u32,
    /// Rows between the lowest and the highest that did not come. Rows that the sender excluded
    /// are among them.
    pub gaps: u64,
    /// The first 100 of these.
    pub first_gaps: Vec<u32>,
    /// All rows that came.
    #[serde(skip)]
    pub rows: Rows,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn message(key: &str) -> Vec<u8> {
        format!("From: a\r\nx-mailshot-KEY: {key}\r\n\r\nbody\r\n").into_bytes()
    }

    #[test]
    fn keys_are_read_from_the_right() {
        let cases = [
            ("01H-7", Some(("01H", 7))),
            ("a-b-4294967295", Some(("a-b", u32::MAX))),
            ("a-4294967296", None),
            ("a-+7", None),
            ("a-", None),
            ("-7", None),
            ("7", None),
            ("../x-7", None),
            ("a b-7", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(key(&message(value)), expected, "{value}");
        }
        assert_eq!(key(b"From: a\r\n\r\nX-Mailshot-Key: r-1\r\n"), None, "the body is no head");
    }

    #[test]
    fn duplicates_and_gaps_are_named() {
        let mut keys = Keys::default();
        for value in ["r-2", "r-5", "s-1", "r-2", "r-3", "r-2", "nonsense"] {
            keys.inspect(&message(value));
        }
        let report = keys.report();
        assert_eq!((report.distinct, report.duplicates, report.without), (4, 2, 1));
        assert_eq!(report.first_duplicates, ["r-2", "r-2"]);
        let run = &report.runs["r"];
        assert_eq!((run.distinct, run.lowest, run.highest, run.gaps), (3, 2, 5, 1));
        assert_eq!(run.first_gaps, [4]);
        assert_eq!(report.runs["s"].gaps, 0);
    }

    proptest! {
        #[test]
        fn rows_are_a_set(
            rows in prop::collection::vec(prop_oneof![0..200_u32, any::<u32>()], 0..50),
        ) {
            let (mut set, mut plain) = (Rows::default(), BTreeSet::new());
            for &row in &rows {
                prop_assert_eq!(set.insert(row), plain.insert(row));
            }
            let sorted: Vec<u32> = plain.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), sorted);
            prop_assert_eq!(set.distinct(), plain.len() as u64);
            prop_assert!(rows.iter().all(|&row| set.contains(row)));
            prop_assert_eq!(set.contains(77), plain.contains(&77));
        }
    }
}
