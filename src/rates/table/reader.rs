//! reader — takes single values out of the TOML of one layer and notes every problem with its
//! place.
//!
//! A value that cannot be had is left out and its reason is noted: reading goes on, so that one
//! pass finds all problems. What each key accepts, the key table says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Place, Problem};

use super::keys::{self, Key};
use super::{Layer, Layered, Sourced, forms};

/// One row of the file as the reader sees it.
pub(super) struct Section<'d> {
    /// How problems name it: `default`, `provider.google`, `rates.provider.google`.
    pub(super) title: String,
    /// Its keys.
    pub(super) table: &'d DeTable<'d>,
    /// Who says so, for the whole row.
    pub(super) source: Option<String>,
    /// Who says so, for single keys; beats `source`.
    pub(super) sources: BTreeMap<String, String>,
}

/// A layer and what is wrong with it so far.
pub(super) struct Reader<'t> {
    layer: Layer<'t>,
    /// Lines with syntax errors: what else seems wrong there is a consequence.
    broken: BTreeSet<u32>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(layer: Layer<'t>, errors: &[toml::de::Error]) -> Reader<'t> {
        let mut reader = Reader { layer, broken: BTreeSet::new(), problems: Vec::new() };
        for error in errors {
            let whole = || Place::whole(layer.file);
            let place = error.span().map_or_else(whole, |span| reader.place(&span));
            let what = format!("not TOML: {}", error.message());
            reader.problems.push(Problem::new(place, what, ""));
        }
        reader.broken = reader.problems.iter().map(|problem| problem.place.line).collect();
        reader
    }

    /// Whether the syntax has no mistake.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    /// All problems.
    pub(super) fn finish(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes a problem, unless it stands on a line whose syntax is broken.
    pub(super) fn problem(&mut self, place: Place, what: String, help: impl Into<String>) {
        if !self.broken.contains(&place.line) {
            self.problems.push(Problem::new(place, what, help));
        }
    }

    /// The place of the first octet of a span.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.layer.file, self.layer.text, span.start)
    }

    /// The table that stands under `name`, if one does.
    pub(super) fn table<'d>(
        &mut self,
        table: &'d DeTable<'d>,
        (title, name): (&str, &str),
    ) -> Option<&'d DeTable<'d>> {
        let value = table.get(name)?;
        match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            other => {
                let place = self.place(&value.span());
                self.wrong_type(place, title, other, &format!("a section, [{title}]"));
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn count(
        &mut self,
        section: &Section<'_>,
        name: &str,
        range: RangeInclusive<u32>,
        into: &mut Layered<u32>,
    ) {
        let key = keys::known(name);
        let Some(value) = find(section, name) else { return };
        let DeValue::Integer(number) = value.get_ref() else {
            return self.mistyped(section, key, value);
        };
        let found = u32::from_str_radix(number.as_str(), number.radix()).ok();
        match found.filter(|found| range.contains(found)) {
            Some(found) => into.0.push(self.sourced(section, name, value, found)),
            None => {
                let why = match number.as_str() {
                    "0" => "is 0, which allows nothing".to_owned(),
                    _ => format!("{number} is out of range"),
                };
                self.bad(section, key, value, &why);
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, section: &Section<'_>, name: &str) -> Option<bool> {
        let value = find(section, name)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.mistyped(section, keys::known(name), value);
                None
            }
        }
    }

    /// A text that `form` accepts.
    pub(super) fn text<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        form: impl Fn(&str) -> Result<T, String>,
        into: &mut Layered<T>,
    ) {
        let Some(value) = find(section, name) else { return };
        match value.get_ref() {
            DeValue::String(text) => match form(text) {
                Ok(found) => into.0.push(self.sourced(section, name, value, found)),
                Err(why) => self.bad(section, keys::known(name), value, &why),
            },
            _ => self.mistyped(section, keys::known(name), value),
        }
    }

    /// A text that `form` accepts, or a list of at least `least` of them.
    pub(super) fn list<T>(
        &mut self,
        section: &Section<'_>,
        (name, least): (&str, usize),
        form: impl Fn(&str) -> Result<T, String>,
        into: &mut Layered<Vec<T>>,
    ) {
        let found = self.elements(section, (name, least), form);
        if let (Some(found), Some(value)) = (found, find(section, name)) {
            let all = found.into_iter().map(|element| element.value).collect();
            into.0.push(self.sourced(section, name, value, all));
        }
    }

    /// The same, each element with its own place.
    pub(super) fn elements<T>(
        &mut self,
        section: &Section<'_>,
        (name, least): (&str, usize),
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Sourced<T>>> {
        let key = keys::known(name);
        let value = find(section, name)?;
        let elements: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(array) if array.len() < least => {
                self.bad(section, key, value, "the list is empty");
                return None;
            }
            DeValue::Array(array) => array.iter().collect(),
            DeValue::String(_) => vec![value],
            _ => {
                self.mistyped(section, key, value);
                return None;
            }
        };
        let mut good = Vec::with_capacity(elements.len());
        for element in &elements {
            match element.get_ref() {
                DeValue::String(text) => match form(text) {
                    Ok(found) => good.push(self.sourced(section, name, element, found)),
                    Err(why) => self.bad(section, key, element, &why),
                },
                _ => self.mistyped(section, key, element),
            }
        }
        (good.len() == elements.len()).then_some(good)
    }

    /// `source` and `sources` of a row.
    pub(super) fn sources(&mut self, section: &mut Section<'_>) {
        let mut whole = Layered::default();
        self.text(section, "source", forms::filled, &mut whole);
        section.source = whole.0.pop().map(|found| found.value);
        let title = format!("{}.sources", section.title);
        let Some(table) = self.table(section.table, (&title, "sources")) else { return };
        for (name, value) in table.iter() {
            let name: &str = name.get_ref();
            if !section.table.contains_key(name) {
                let what = format!("{title} names {name}, which this row does not give");
                let given = section.table.keys().map(|key| &**key.get_ref());
                let given: Vec<&str> =
                    given.filter(|key| !matches!(*key, "source" | "sources")).collect();
                self.problem(self.place(&value.span()), what, keys::instead_of(name, &given));
                continue;
            }
            match value.get_ref() {
                DeValue::String(text) if !text.trim().is_empty() => {
                    section.sources.insert(name.to_owned(), text.to_string());
                }
                DeValue::String(_) => {
                    let what = format!("{title}.{name}: it is empty");
                    self.problem(self.place(&value.span()), what, "it must be a text");
                }
                other => {
                    let (place, path) = (self.place(&value.span()), format!("{title}.{name}"));
                    self.wrong_type(place, &path, other, "a text");
                }
            }
        }
    }

    /// A value with its place and source.
    fn sourced<T>(
        &self,
        section: &Section<'_>,
        name: &str,
        found: &Spanned<DeValue<'_>>,
        value: T,
    ) -> Sourced<T> {
        let place = self.place(&found.span());
        let source = section.sources.get(name).or(section.source.as_ref());
        let source = source.cloned().unwrap_or_else(|| format!("{}:{}", place.file, place.line));
        Sourced { value, place, source }
    }

    /// Notes that a value has not the form of its key; `why` may end in `; ` and what to do.
    fn bad(&mut self, section: &Section<'_>, key: &Key, value: &Spanned<DeValue<'_>>, why: &str) {
        let (what, help) = match why.rsplit_once("; ") {
            Some((what, help)) => (what, help.to_owned()),
            None => (why, format!("it must be {}", key.form)),
        };
        let what = format!("{}.{}: {what}", section.title, key.name);
        self.problem(self.place(&value.span()), what, help);
    }

    fn mistyped(&mut self, section: &Section<'_>, key: &Key, value: &Spanned<DeValue<'_>>) {
        let path = format!("{}.{}", section.title, key.name);
        self.wrong_type(self.place(&value.span()), &path, value.get_ref(), key.form);
    }

    fn wrong_type(&mut self, place: Place, path: &str, value: &DeValue<'_>, form: &str) {
        let kind = match value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        self.problem(place, format!("{path} is {kind}"), format!("it must be {form}"));
    }
}

/// What stands under a key. Where the syntax is broken and there is no value, the parser puts one
/// at the beginning of the file; that one does not count.
fn find<'d>(section: &Section<'d>, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
    section.table.get(name).filter(|value| value.span() != (0..0))
}
