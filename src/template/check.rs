//! check — judges one template: every name that nothing stands behind is a problem.
//!
//! minijinja finds unknown filters, tests, functions and variables only when a row reaches them;
//! the walk (`walk.rs`) visits every branch of the syntax tree, and this file says what is wrong
//! with what it meets. It also collects which columns a template may print, for intake's check of
//! headers. What only values can tell (a division by zero, a text where a number is needed) stays
//! for rendering.

use std::collections::BTreeSet;

use minijinja::machinery::{self, Span};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, State};

use crate::problem::{Problem, suggest};

use super::fault::{is_misplaced, reason};
use super::names::{MAP, Meaning, PER_ROW, URL, Vocabulary, spelled};
use super::{Part, Source};

/// What minijinja calls every template; places come from [`Source`] instead.
pub(super) const NAME: &str = "template";

/// What a template may print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Columns, counted from 0.
    pub(super) columns: BTreeSet<usize>,
    /// Whether it may print any column, because it computes a column's name.
    pub(super) any_column: bool,
    /// Whether its result differs from row to row.
    pub(super) per_row: bool,
}

/// Parses and checks one template.
pub(super) fn check(
    source: &Source,
    syntax: SyntaxConfig,
    vocabulary: &Vocabulary<'_>,
    engine: &Environment<'_>,
) -> Result<Used, Vec<Problem>> {
    let tree = machinery::parse(&source.text, NAME, syntax)
        .map_err(|error| vec![broken(source, &error)])?;
    let mut walk = Walk {
        source,
        vocabulary,
        engine: engine.empty_state(),
        scopes: vec![vec!["self"]],
        used: Used::default(),
        problems: Vec::new(),
    };
    walk.statement(&tree);
    walk.identifies_the_recipient();
    if walk.problems.is_empty() { Ok(walk.used) } else { Err(walk.problems) }
}

/// A syntax error as a problem.
fn broken(source: &Source, error: &minijinja::Error) -> Problem {
    let offset = error.range().map_or_else(
        || line_offset(&source.text, error.line().unwrap_or(1)),
        |range| range.start.min(source.text.len()),
    );
    let help = format!("the line is {}", shown(&source.text, offset));
    Problem::new(source.place_of(error), reason(error), help)
}

/// Where a line, counted from 1, begins.
fn line_offset(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum()
}

/// The line of `text` around `offset`, as help shows it.
fn shown(text: &str, offset: usize) -> String {
    /// Characters shown on either side; HTML may have very long lines.
    const AROUND: usize = 50;
    let offset = text.floor_char_boundary(offset);
    let (before, after) = text.split_at(offset);
    let head = before.rsplit('\n').next().unwrap_or(before);
    let tail = after.split(['\r', '\n']).next().unwrap_or(after);
    let skipped = head.chars().count().saturating_sub(AROUND);
    let mut line: String = if skipped > 0 { "…" } else { "" }.to_owned();
    line.extend(head.chars().skip(skipped));
    line.extend(tail.chars().take(AROUND));
    if tail.chars().nth(AROUND).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

/// The walk through one template.
pub(super) struct Walk<'a> {
    source: &'a Source,
    vocabulary: &'a Vocabulary<'a>,
    engine: State<'a, 'a>,
    /// Names assigned by the template itself, the innermost scope last.
    pub(super) scopes: Vec<Vec<&'a str>>,
    used: Used,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn problem(&mut self, span: Span, what: String, help: &str) {
        let offset = span.start_offset as usize;
        let line = shown(&self.source.text, offset);
        let help = match help {
            "" => format!("the line is {line}"),
            help => format!("{help}\n    line: {line}"),
        };
        self.problems.push(Problem::new(self.source.place_at(offset), what, help));
    }

    /// RFC 8058 §3.1: the URI must hold enough to identify the recipient.
    fn identifies_the_recipient(&mut self) {
        if self.source.part == Part::UnsubscribeUrl
            && !self.used.per_row
            && self.problems.is_empty()
        {
            self.problems.push(Problem::new(
                self.source.place.clone(),
                "the unsubscribe URL is the same for everyone, so a click cannot tell who wants \
                 out (RFC 8058 section 3.1)",
                "put {{ token }} into it",
            ));
        }
    }

    /// A variable that the template did not assign itself.
    pub(super) fn variable(&mut self, name: &'a str, span: Span) {
        match self.vocabulary.variable(name) {
            Meaning::Column(column) => self.use_column(column),
            Meaning::Own(URL) if !self.vocabulary.has_url => {
                let what = format!("{URL} is used, but the campaign has none");
                self.problem(span, what, "give [unsubscribe] a url");
            }
            Meaning::Own(URL) if self.source.part == Part::UnsubscribeUrl => {
                self.problem(span, "the unsubscribe URL refers to itself".to_owned(), "");
            }
            Meaning::Own(MAP) => {
                self.used.any_column = true;
                self.used.per_row = true;
            }
            Meaning::Own(own) => self.used.per_row |= PER_ROW.contains(&own),
            Meaning::Both => {
                let what = format!("{name:?} is a column of the list and also a name of ours");
                let help = format!("write {MAP}[{name:?}] for the column, or rename it");
                self.problem(span, what, &help);
            }
            Meaning::Twice => self.twice(name, span),
            Meaning::Unknown => {
                let locals: Vec<&str> = self.scopes.iter().flatten().copied().collect();
                let help = self.vocabulary.instead_of(name, &locals);
                self.problem(span, format!("unknown variable {name:?}"), &help);
            }
        }
    }

    /// `columns["name"]` or `columns.name`.
    pub(super) fn key_of_map(&mut self, name: &str, span: Span) {
        match self.vocabulary.column(name) {
            Meaning::Column(column) => self.use_column(column),
            Meaning::Twice => self.twice(name, span),
            _ => {
                let help = self.vocabulary.instead_of_column(name);
                self.problem(span, format!("unknown column {name:?}"), &help);
            }
        }
    }

    /// `name.attribute` of something that the template did not assign itself.
    pub(super) fn attribute(&mut self, name: &'a str, attribute: &str, span: Span) {
        let dotted = format!("{name}.{attribute}");
        match self.vocabulary.variable(name) {
            Meaning::Own(MAP) => self.key_of_map(attribute, span),
            Meaning::Unknown if self.vocabulary.column(&dotted) != Meaning::Unknown => {
                let help = format!("write {}", spelled(&dotted));
                self.problem(span, format!("unknown variable {name:?}"), &help);
            }
            Meaning::Column(_) | Meaning::Own(_) => {
                let what = format!("{name} is a single value and has no attribute {attribute:?}");
                self.problem(span, what, "");
            }
            Meaning::Both | Meaning::Twice | Meaning::Unknown => self.variable(name, span),
        }
    }

    /// `name.method(…)` of something that the template did not assign itself.
    pub(super) fn method(&mut self, name: &'a str, method: &str, span: Span) {
        match self.vocabulary.variable(name) {
            Meaning::Column(_) | Meaning::Own(_) => {
                let what = format!("{name} has no method {method:?}");
                let help = if self.exists("filter", method) {
                    format!("write {name}|{method}")
                } else {
                    "values have filters, such as upper or trim, but no methods".to_owned()
                };
                self.problem(span, what, &help);
            }
            Meaning::Both | Meaning::Twice | Meaning::Unknown => self.variable(name, span),
        }
    }

    /// `name(…)` where the template did not assign the name itself.
    pub(super) fn function(&mut self, name: &str, span: Span) {
        if !FUNCTIONS.contains(&name) {
            let what = format!("unknown function {name:?}");
            let help = did_you_mean(name, FUNCTIONS).unwrap_or_else(|| {
                format!("there are {} and the template's own macros", FUNCTIONS.join(", "))
            });
            self.problem(span, what, &help);
        }
    }

    /// `…|name`.
    pub(super) fn filter(&mut self, name: &str, span: Span) {
        if !self.exists("filter", name) {
            let help = did_you_mean(name, FILTERS).unwrap_or_default();
            self.problem(span, format!("unknown filter {name:?}"), &help);
        }
    }

    /// `… is name`.
    pub(super) fn test(&mut self, name: &str, span: Span) {
        if !self.exists("test", name) {
            let help = did_you_mean(name, TESTS).unwrap_or_default();
            self.problem(span, format!("unknown test {name:?}"), &help);
        }
    }

    /// Text of the template itself: in a header, every row would fail over a misplaced character.
    pub(super) fn raw(&mut self, text: &str, span: Span) {
        let part = self.source.part;
        let Some((at, c)) = text.char_indices().find(|(_, c)| is_misplaced(part, *c)) else {
            return;
        };
        let offset = u32::try_from(at).unwrap_or(u32::MAX);
        let span = Span { start_offset: span.start_offset.saturating_add(offset), ..span };
        match c {
            '\r' | '\n' => {
                let what = format!("{part} has a line break");
                self.problem(span, what, "a header is one line of text");
            }
            _ => self.problem(span, format!("{part} cannot contain {c:?}"), ""),
        }
    }

    /// A statement that would read another file.
    pub(super) fn another_file(&mut self, span: Span) {
        let what = "a template cannot include, import or extend another one".to_owned();
        self.problem(span, what, "put all of it into one file");
    }

    fn twice(&mut self, name: &str, span: Span) {
        let what = format!("the list has more than one column {name:?}");
        self.problem(span, what, "rename one of them in the list");
    }

    fn use_column(&mut self, column: usize) {
        self.used.columns.insert(column);
        self.used.per_row = true;
    }

    /// Whether minijinja has a filter or test of this name; blanks in it do not count.
    fn exists(&mut self, kind: &str, name: &str) -> bool {
        let name: String = name.split_ascii_whitespace().collect();
        self.engine
            .perform_test(kind, &[Value::from(name)])
            .expect("the tests \"filter\" and \"test\" take a name")
    }
}

fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    suggest(name, known.iter().copied()).map(|meant| format!("did you mean {meant}?"))
}

/// The functions of minijinja that templates may call.
const FUNCTIONS: &[&str] = &["dict", "namespace", "range"];

/// The filters that are suggested; whether one exists, minijinja itself is asked.
const FILTERS: &[&str] = &[
    "abs",
    "batch",
    "bool",
    "capitalize",
    "count",
    "default",
    "dictsort",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
    "urlencode",
];

/// The tests that are suggested.
const TESTS: &[&str] = &[
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suggested_exists() {
        let engine = super::super::engine();
        let mut state = engine.empty_state();
        for (kind, names) in [("filter", FILTERS), ("test", TESTS)] {
            for name in names {
                let exists = state.perform_test(kind, &[Value::from(*name)]).unwrap();
                assert!(exists, "{kind} {name}");
            }
        }
        let globals: Vec<&str> = engine.globals().map(|(name, _)| name).collect();
        assert_eq!(globals, FUNCTIONS);
    }

    #[test]
    fn the_shown_line_is_cut_on_both_sides() {
        let text = format!("first\n{}ä{{{{ x }}}}{}\r\nlast", "a".repeat(60), "b".repeat(60));
        let offset = text.find("{{").unwrap();
        assert_eq!(
            shown(&text, offset),
            format!("…{}ä{{{{ x }}}}{}…", "a".repeat(49), "b".repeat(43))
        );
        assert_eq!(shown("", 7), "");
    }
}
