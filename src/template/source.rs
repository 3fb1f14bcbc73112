//! source — a template as it was read: which part it makes, its text, and where each octet of it
//! stands in the file that a person edits.
//!
//! A template may be a file of its own or a string inside the campaign file; problems and faults
//! name the place in that file.

use std::fmt;

use crate::problem::Place;

/// Which part of a message a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `Subject:`.
    Subject,
    /// The display name in `From:`.
    FromName,
    /// The display name in `Reply-To:`.
    ReplyToName,
    /// The display name in `To:`.
    ToName,
    /// The value of a header of the campaign's own, by its position in the campaign.
    Header(usize),
    /// The HTML body.
    Html,
    /// The plain text body.
    Text,
    /// The HTTPS URL of `List-Unsubscribe:`.
    UnsubscribeUrl,
    /// The mail address of `List-Unsubscribe:`.
    UnsubscribeMailto,
}

impl Part {
    /// Whether it ends up in the header section, where a line break would be an injection.
    pub fn is_header(self) -> bool {
        !matches!(self, Part::Html | Part::Text)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Subject => f.write_str("the subject"),
            Part::FromName => f.write_str("the sender's name"),
            Part::ReplyToName => f.write_str("the reply-to name"),
            Part::ToName => f.write_str("the recipient's name"),
            Part::Header(index) => write!(f, "header {}", index + 1),
            Part::Html => f.write_str("the HTML part"),
            Part::Text => f.write_str("the text part"),
            Part::UnsubscribeUrl => f.write_str("the unsubscribe URL"),
            Part::UnsubscribeMailto => f.write_str("the unsubscribe address"),
        }
    }
}

/// One template as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it makes.
    pub part: Part,
    /// Its text.
    pub text: String,
    /// Where its first character stands; `file:1:1` for a file of its own. Column 0 means that only
    /// the line of its beginning is known, as in a TOML string with escapes.
    pub place: Place,
}

impl Source {
    /// The place in the file of the octet at `offset` of this template.
    pub(super) fn place_at(&self, offset: usize) -> Place {
        if self.place.column == 0 {
            return self.place.clone();
        }
        let inner = Place::of(&self.place.file, &self.text, offset);
        let column = if inner.line == 1 {
            self.place.column.saturating_add(inner.column - 1)
        } else {
            inner.column
        };
        Place { column, ..self.place_at_line(inner.line) }
    }

    /// The place in the file of a line of this template, counted from 1.
    fn place_at_line(&self, line: u32) -> Place {
        if self.place.column == 0 {
            return self.place.clone();
        }
        let line = self.place.line.saturating_add(line.saturating_sub(1));
        Place { file: self.place.file.clone(), line, column: 0 }
    }

    /// Where minijinja met an error, as exactly as it says.
    pub(super) fn place_of(&self, error: &minijinja::Error) -> Place {
        match (error.range(), error.line()) {
            (Some(range), _) => self.place_at(range.start),
            (None, Some(line)) => self.place_at_line(u32::try_from(line).unwrap_or(u32::MAX)),
            (None, None) => self.place.clone(),
        }
    }
}
