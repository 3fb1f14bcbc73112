//! reader — takes single values out of the TOML tree and notes every problem with its place.
//!
//! A value that cannot be had is `None`, and its reason is noted: decoding goes on, so that one
//! pass finds all problems. Which keys there are, and their defaults, the key table says. This file
//! knows no key by name.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Place, Problem};
use crate::units::Utc;

use super::At;
use super::forms;
use super::keys::{self, Key, Presence};
use super::section::{Body, Section, misspells};

/// A value of the file or of the key table.
struct Found<'d> {
    key: &'static Key,
    value: Cow<'d, DeValue<'d>>,
    place: Place,
    /// Where it stands in the text; defaults stand nowhere.
    span: Option<Range<usize>>,
}

/// The file and what is wrong with it so far.
pub(super) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    /// Lines with syntax errors: what else seems wrong there is a consequence.
    broken: BTreeSet<u32>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &'t str, text: &'t str, errors: &[toml::de::Error]) -> Reader<'t> {
        let mut reader = Reader {
            file,
            text,
            broken: BTreeSet::new(),
            problems: Vec::with_capacity(errors.len()),
        };
        for error in errors {
            let place = error.span().map_or_else(|| Place::whole(file), |s| reader.place(&s));
            let what = format!("not TOML: {}", error.message());
            reader.problems.push(Problem::new(place, what, ""));
        }
        reader.broken = reader.problems.iter().map(|problem| problem.place.line).collect();
        reader
    }

    /// The directory of the file, where relative paths begin.
    pub(super) fn directory(&self) -> PathBuf {
        Path::new(self.file).parent().unwrap_or(Path::new("")).to_owned()
    }

    /// All problems in the order of their places.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.dedup();
        self.problems
    }

    /// Notes a problem, unless it stands on a line whose syntax is broken.
    pub(super) fn problem(
        &mut self,
        place: Place,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        if !self.broken.contains(&place.line) {
            self.problems.push(Problem::new(place, what, help));
        }
    }

    /// Notes that something is missing, unless a syntax error may have swallowed it.
    pub(super) fn missing(
        &mut self,
        place: Place,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.broken.is_empty() {
            self.problems.push(Problem::new(place, what, help));
        }
    }

    /// Notes that a value has not the form of its key; `why` may end in `; ` and what to do.
    pub(super) fn bad(&mut self, section: &Section<'_>, name: &str, place: Place, why: &str) {
        let key = keys::known(section.name, name);
        let (what, help) = match why.rsplit_once("; ") {
            Some((what, help)) => (what, help.to_owned()),
            None => (why, format!("it must be {}", key.form)),
        };
        let path = key.path.trim_end_matches(".*");
        self.problem(place, format!("{path}: {what}"), help);
    }

    /// The top of the file.
    pub(super) fn top<'d>(&mut self, root: &'d DeTable<'d>) -> Section<'d> {
        self.unknown_keys("", root);
        Section { name: "", place: Place::whole(self.file), body: Body::Present(root) }
    }

    /// The section `[name]`.
    pub(super) fn section<'d>(&mut self, root: &'d DeTable<'d>, name: &'static str) -> Section<'d> {
        match root.get(name) {
            None => {
                let body = if misspells("", root, name) { Body::Unreadable } else { Body::Absent };
                Section { name, place: Place::whole(self.file), body }
            }
            Some(value) => self.table(name, value, &format!("a section, [{name}]")),
        }
    }

    /// The sections `[[name]]`.
    pub(super) fn sections<'d>(
        &mut self,
        root: &'d DeTable<'d>,
        name: &'static str,
    ) -> Vec<Section<'d>> {
        let form = format!("a list of sections, [[{name}]]");
        match root.get(name).map(|value| (value, value.get_ref())) {
            None => Vec::new(),
            Some((_, DeValue::Array(array))) if !array.is_empty() => {
                array.iter().map(|value| self.table(name, value, &form)).collect()
            }
            Some((value, other)) => {
                self.wrong_type(self.place(&value.span()), name, other, &form);
                Vec::new()
            }
        }
    }

    fn table<'d>(
        &mut self,
        name: &'static str,
        value: &'d Spanned<DeValue<'d>>,
        form: &str,
    ) -> Section<'d> {
        let place = self.place(&value.span());
        let body = match value.get_ref() {
            DeValue::Table(table) => {
                self.unknown_keys(name, table);
                Body::Present(table)
            }
            other => {
                self.wrong_type(place.clone(), name, other, form);
                Body::Unreadable
            }
        };
        Section { name, place, body }
    }

    /// A text that `form` accepts.
    pub(super) fn read<T>(
        &mut self,
        section: &Section<'_>,
        name: &'static str,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let found = self.find(section, name)?;
        let text = self.text(&found)?;
        match form(text) {
            Ok(value) => Some(At { value, place: found.place }),
            Err(why) => {
                self.bad(section, name, found.place, &why);
                None
            }
        }
    }

    /// A template: a text whose place is that of its first character.
    pub(super) fn template(
        &mut self,
        section: &Section<'_>,
        name: &'static str,
    ) -> Option<At<String>> {
        let found = self.find(section, name)?;
        let value = self.text(&found)?.to_owned();
        let place = found.span.map_or(found.place, |span| self.place_inside(&span));
        Some(At { value, place })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &Section<'_>,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let chosen = self.read(section, name, |text| {
            let choice = choices.iter().find(|(word, _)| *word == text);
            choice.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is no choice"))
        })?;
        Some(chosen.value)
    }

    /// A whole number.
    pub(super) fn whole(
        &mut self,
        section: &Section<'_>,
        name: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let found = self.find(section, name)?;
        let DeValue::Integer(number) = found.value.as_ref() else {
            return self.mistyped(&found);
        };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let why = format!("{number} is out of range");
            self.bad(section, name, found.place, &why);
        }
        value
    }

    /// True or false.
    pub(super) fn flag(&mut self, section: &Section<'_>, name: &'static str) -> Option<At<bool>> {
        let found = self.find(section, name)?;
        match *found.value {
            DeValue::Boolean(value) => Some(At { value, place: found.place }),
            _ => self.mistyped(&found),
        }
    }

    /// A list of texts that `form` accepts, at least one.
    pub(super) fn list<T>(
        &mut self,
        section: &Section<'_>,
        name: &'static str,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<At<T>>> {
        let found = self.find(section, name)?;
        let DeValue::Array(array) = found.value.as_ref() else {
            return self.mistyped(&found);
        };
        if array.is_empty() {
            self.bad(section, name, found.place, "the list is empty");
            return None;
        }
        let mut values = Vec::with_capacity(array.len());
        for element in array.iter() {
            let place = self.place(&element.span());
            match element.get_ref() {
                DeValue::String(text) => match form(text) {
                    Ok(value) => values.push(At { value, place }),
                    Err(why) => self.bad(section, name, place, &why),
                },
                other => self.wrong_type(place, found.key.path, other, found.key.form),
            }
        }
        (values.len() == array.len()).then_some(values)
    }

    /// A date, in quotes or not: TOML has dates.
    pub(super) fn date(&mut self, section: &Section<'_>, name: &'static str) -> Option<At<Utc>> {
        let found = self.find(section, name)?;
        let text = match found.value.as_ref() {
            DeValue::Datetime(date) => date.to_string(),
            _ => self.text(&found)?.to_owned(),
        };
        match forms::date(&text) {
            Ok(value) => Some(At { value, place: found.place }),
            Err(why) => {
                self.bad(section, name, found.place, &why);
                None
            }
        }
    }

    /// Where the value of a key stands, if the file has the key.
    pub(super) fn given(&self, section: &Section<'_>, name: &str) -> Option<Place> {
        let Body::Present(table) = section.body else { return None };
        table.get(name).map(|value| self.place(&value.span()))
    }

    /// The texts of a section with free keys, in the order of the file: the name and its template.
    pub(super) fn entries(&mut self, section: &Section<'_>) -> Vec<(At<String>, At<String>)> {
        let Body::Present(table) = section.body else { return Vec::new() };
        let key = keys::known(section.name, "*");
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.sort_by_key(|(name, _)| name.span().start);
        let mut entries = Vec::with_capacity(sorted.len());
        for (name, value) in sorted {
            let path = format!("{}.{}", section.name, name.get_ref());
            match value.get_ref() {
                DeValue::String(text) => entries.push((
                    At { value: name.get_ref().to_string(), place: self.place(&name.span()) },
                    At { value: text.to_string(), place: self.place_inside(&value.span()) },
                )),
                other => self.wrong_type(self.place(&value.span()), &path, other, key.form),
            }
        }
        entries
    }

    /// The value of a key, or its default; a missing required key is noted.
    fn find<'d>(&mut self, section: &Section<'d>, name: &'static str) -> Option<Found<'d>> {
        let key = keys::known(section.name, name);
        let value = match section.body {
            Body::Present(table) => table.get(name),
            Body::Absent => None,
            Body::Unreadable => return None,
        };
        if let Some(value) = value {
            let span = value.span();
            // The parser stands in a value at the beginning of the file where there is none.
            return (span != (0..0)).then(|| Found {
                key,
                value: Cow::Borrowed(value.get_ref()),
                place: self.place(&span),
                span: Some(span),
            });
        }
        match key.presence {
            Presence::Optional => None,
            Presence::Default(text) => {
                let value = DeValue::parse(text).expect("defaults of the key table are TOML");
                let value = Cow::Owned(value.into_inner());
                Some(Found { key, value, place: section.place.clone(), span: None })
            }
            Presence::Required if section.misspells(name) => None,
            Presence::Required => {
                let what = format!("{} is missing", key.path);
                self.missing(section.place.clone(), what, format!("it must be {}", key.form));
                None
            }
        }
    }

    fn text<'f>(&mut self, found: &'f Found<'_>) -> Option<&'f str> {
        match found.value.as_str() {
            Some(text) => Some(text),
            None => self.mistyped(found),
        }
    }

    fn mistyped<T>(&mut self, found: &Found<'_>) -> Option<T> {
        self.wrong_type(found.place.clone(), found.key.path, &found.value, found.key.form);
        None
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

    /// Notes the keys of a section that the table does not have.
    fn unknown_keys(&mut self, section: &str, table: &DeTable<'_>) {
        let names = keys::names_in(section);
        if names.contains(&"*") {
            return;
        }
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if names.contains(&name) {
                continue;
            }
            let what = match section {
                "" => format!("unknown key {name:?}"),
                section => format!("unknown key {name:?} in [{section}]"),
            };
            self.problem(self.place(&key.span()), what, keys::instead_of(name, &names));
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.file, self.text, span.start)
    }

    /// The place of a string's first character, behind its quotes. Behind an escape the columns and
    /// lines of the value are not those of the file, so such a string has only its line.
    fn place_inside(&self, span: &Range<usize>) -> Place {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let triple = raw.starts_with("\"\"\"") || raw.starts_with("'''");
        let mut skipped = if triple { 3 } else { 1 };
        if triple {
            let rest = &raw[3..];
            skipped += rest.len() - rest.strip_prefix('\r').unwrap_or(rest).len();
            let rest = &raw[skipped..];
            skipped += rest.len() - rest.strip_prefix('\n').unwrap_or(rest).len();
        }
        let mut place = Place::of(self.file, self.text, span.start + skipped);
        if raw.starts_with('"') && raw.contains('\\') {
            place.column = 0;
        }
        place
    }
}
