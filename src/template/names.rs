//! names — what a variable of a template means: a column of the list, one of our own values, or
//! nothing.
//!
//! One table of our own names serves the check and its suggestions. This file does not know how
//! values are stored.

use crate::problem::suggest;

/// The variables that every template has besides the columns, with their meaning.
pub const OWN_NAMES: &[(&str, &str)] = &[
    ("address", "the recipient's mail address"),
    ("campaign", "the campaign's id"),
    ("columns", "all columns by name, for names with blanks: columns[\"First Name\"]"),
    ("row", "the number of the row in the list, from 1, without the header"),
    ("run", "the id of this run"),
    ("token", "the text that names run and row; it is no secret: the next row's is easily guessed"),
    ("unsubscribe_url", "the rendered [unsubscribe] url"),
];

/// The name of the map of all columns.
pub(super) const MAP: &str = "columns";
/// The name of the rendered unsubscribe URL.
pub(super) const URL: &str = "unsubscribe_url";
/// Our names whose values differ from row to row.
pub(super) const PER_ROW: [&str; 3] = ["address", "row", "token"];

/// The names that the templates of one campaign may use.
pub(super) struct Vocabulary<'a> {
    /// The columns of the list in their order.
    pub(super) columns: &'a [String],
    /// Whether there is an unsubscribe URL to refer to.
    pub(super) has_url: bool,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This column, counted from 0.
    Column(usize),
    /// One of [`OWN_NAMES`].
    Own(&'static str),
    /// A column and one of ours.
    Both,
    /// More than one column.
    Twice,
    /// Nothing.
    Unknown,
}

impl Vocabulary<'_> {
    /// What a plain variable means. The map itself is never hidden by a column: it is the way out.
    pub(super) fn variable(&self, name: &str) -> Meaning {
        if name == MAP {
            return Meaning::Own(MAP);
        }
        let own = OWN_NAMES.iter().find(|(own, _)| *own == name).map(|(own, _)| *own);
        match (self.column(name), own) {
            (Meaning::Unknown, Some(own)) => Meaning::Own(own),
            (Meaning::Unknown, None) => Meaning::Unknown,
            (_, Some(_)) => Meaning::Both,
            (column, None) => column,
        }
    }

    /// What a key of the map of columns means.
    pub(super) fn column(&self, name: &str) -> Meaning {
        let mut found = (0..self.columns.len()).filter(|index| self.columns[*index] == name);
        match (found.next(), found.next()) {
            (None, _) => Meaning::Unknown,
            (Some(column), None) => Meaning::Column(column),
            (Some(_), Some(_)) => Meaning::Twice,
        }
    }

    /// The help for a name that means nothing: the likeliest meant, or what there is.
    pub(super) fn instead_of(&self, name: &str, locals: &[&str]) -> String {
        let columns = self.columns.iter().map(String::as_str);
        let own = OWN_NAMES.iter().map(|(own, _)| *own);
        let candidates = columns.clone().chain(own).chain(locals.iter().copied());
        if let Some(meant) = suggest(name, candidates) {
            return format!("did you mean {}?", spelled(meant));
        }
        self.inventory()
    }

    /// The help for a key that is no column.
    pub(super) fn instead_of_column(&self, name: &str) -> String {
        match suggest(name, self.columns.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {MAP}[{meant:?}]?"),
            None => self.inventory(),
        }
    }

    /// The columns of the list in a sentence; wide lists are cut short.
    fn inventory(&self) -> String {
        const SHOWN: usize = 12;
        let mut shown: Vec<String> =
            self.columns.iter().take(SHOWN).map(|column| spelled(column)).collect();
        if self.columns.len() > SHOWN {
            shown.push(format!("{} more", self.columns.len() - SHOWN));
        }
        if shown.is_empty() {
            return "the list has no columns".to_owned();
        }
        format!("the list has {}", shown.join(", "))
    }
}

/// How a template refers to the column or variable of this name.
pub(super) fn spelled(name: &str) -> String {
    let identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if identifier { name.to_owned() } else { format!("{MAP}[{name:?}]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_meaning_or_is_refused() {
        let columns = ["email", "First Name", "row", "city", "city", "columns"].map(str::to_owned);
        let vocabulary = Vocabulary { columns: &columns, has_url: false };
        for (name, variable, column) in [
            ("email", Meaning::Column(0), Meaning::Column(0)),
            ("First Name", Meaning::Column(1), Meaning::Column(1)),
            ("row", Meaning::Both, Meaning::Column(2)),
            ("city", Meaning::Twice, Meaning::Twice),
            ("columns", Meaning::Own("columns"), Meaning::Column(5)),
            ("token", Meaning::Own("token"), Meaning::Unknown),
            ("Email", Meaning::Unknown, Meaning::Unknown),
        ] {
            assert_eq!((vocabulary.variable(name), vocabulary.column(name)), (variable, column));
        }
    }

    #[test]
    fn help_names_what_can_be_written() {
        let columns = ["email", "First Name"].map(str::to_owned);
        let vocabulary = Vocabulary { columns: &columns, has_url: false };
        assert_eq!(vocabulary.instead_of("emial", &[]), "did you mean email?");
        assert_eq!(
            vocabulary.instead_of("First_Name", &[]),
            "did you mean columns[\"First Name\"]?"
        );
        assert_eq!(vocabulary.instead_of("tokens", &[]), "did you mean token?");
        assert_eq!(
            vocabulary.instead_of("zip", &[]),
            "the list has email, columns[\"First Name\"]"
        );
    }
}
