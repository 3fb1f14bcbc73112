//! problem — one thing that is wrong with the input, with its place, and all of them at once.
//!
//! Every room that reads what a person wrote (campaign, templates, list, keys) reports
//! [`Problem`]s. The front prints them one below the other as `file:line:column: what` with a line
//! of help, and ends with exit code 3 or 4. Nothing is sent while there is a problem.

use std::fmt;

/// A place in a file; line and column count from 1, 0 means that the file as a whole is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn whole(file: impl Into<String>) -> Place {
        Place { file: file.into(), line: 0, column: 0 }
    }

    /// The place of the octet at `offset` of `text`.
    pub fn of(file: &str, text: &str, offset: usize) -> Place {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        Place {
            file: file.to_owned(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong and why it matters: a sentence, lower case, no full stop.
    pub what: String,
    /// What to do, as a sentence; empty when `what` already says it.
    pub help: String,
}

impl Problem {
    /// A problem at `place`.
    pub fn new(place: Place, what: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { place, what: what.into(), help: help.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if !self.help.is_empty() {
            write!(f, "\n    help: {}", self.help)?;
        }
        Ok(())
    }
}

/// The candidate most like `word`, if one is like enough to be meant.
///
/// Jaro-Winkler above 0.8, the threshold that clap uses for its own suggestions.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "ab\nÜb\n";
        assert_eq!(Place::of("f", text, 0).to_string(), "f:1:1");
        assert_eq!(Place::of("f", text, 5).to_string(), "f:2:2");
        assert_eq!(Place::of("f", text, 999).to_string(), "f:3:1");
        assert_eq!(Place::whole("f").to_string(), "f");
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        let known = ["first_name", "last_name", "city"];
        assert_eq!(suggest("frist_name", known), Some("first_name"));
        assert_eq!(suggest("zebra", known), None);
    }
}
