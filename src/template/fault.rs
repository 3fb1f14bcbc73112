//! fault — why a part could not be rendered for one row.
//!
//! A fault excludes its row and says so in the ledger; the campaign goes on. Its reason may quote
//! the template, never a whole row.

use crate::problem::Place;

use super::{Part, Source};

/// Why a part could not be rendered for one row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The template failed on this row's values.
    #[error("{place}: {part} cannot be rendered: {reason}")]
    Render {
        /// Which part.
        part: Part,
        /// Where in its template.
        place: Place,
        /// Why, in minijinja's words.
        reason: String,
    },
    /// The rendered text would break out of its header, or out of the angle brackets of
    /// `List-Unsubscribe:`.
    #[error("{place}: {part} contains {character:?}, which has no place in its header")]
    UnsafeHeader {
        /// Which part.
        part: Part,
        /// Where its template begins.
        place: Place,
        /// The first offending character.
        character: char,
    },
}

impl Fault {
    /// The fault that minijinja reported while it rendered `source`.
    pub(super) fn of(source: &Source, error: &minijinja::Error) -> Fault {
        Fault::Render { part: source.part, place: source.place_of(error), reason: reason(error) }
    }
}

/// minijinja's words with those of its causes, without its own idea of the place.
pub(super) fn reason(error: &minijinja::Error) -> String {
    let mut reason = sentence(error);
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason.push_str(": ");
        match inner.downcast_ref::<minijinja::Error>() {
            Some(inner) => reason.push_str(&sentence(inner)),
            None => reason.push_str(&inner.to_string()),
        }
        cause = inner.source();
    }
    reason
}

fn sentence(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Whether this character must not stand in this part.
///
/// Headers take no control characters (RFC 5322 §2.2 rules out CR and LF; the others are never
/// meant). A URI in angle brackets takes visible ASCII without the brackets (RFC 3986 §2, Appendix
/// C).
pub(super) fn is_misplaced(part: Part, c: char) -> bool {
    match part {
        Part::Html | Part::Text => false,
        Part::UnsubscribeUrl | Part::UnsubscribeMailto => {
            !c.is_ascii_graphic() || matches!(c, '<' | '>' | '"')
        }
        _ => c.is_control(),
    }
}

/// The fault for the first misplaced character of a rendered part. The row and the template were
/// checked before; this is the second lock.
pub(super) fn misplaced(source: &Source, rendered: &str) -> Option<Fault> {
    let part = source.part;
    if !part.is_header() {
        return None;
    }
    let character = rendered.chars().find(|c| is_misplaced(part, *c))?;
    Some(Fault::UnsafeHeader { part, place: source.place.clone(), character })
}
