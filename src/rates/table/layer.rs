//! layer — what one file says, put over what the files below it said.
//!
//! A [`Draft`] is a row under way. It also remembers which keys were named, be it wrongly: what a
//! mistake took away is not reported as missing a second time.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use crate::limits::CONNECTIONS_MAX;
use crate::problem::{Place, Problem, suggest};

use super::keys::{self, KEYS};
use super::reader::{Reader, Section};
use super::{Layer, Row, Sourced, Suffix, Values, forms};

/// Connections that all sources together may be allowed: a bound for the sums of a plan, above
/// what anybody gives (Microsoft's policy page names 500 for one sender).
const TOTAL_MAX: u32 = 1_000_000;

/// A row under way.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: String,
    /// The header that first names the provider.
    pub(super) place: Place,
    /// The keys that any layer names.
    pub(super) named: BTreeSet<&'static str>,
    mx: Vec<Sourced<Suffix>>,
    per_site: bool,
    values: Values,
}

/// A table under way.
pub(super) struct Drafts {
    pub(super) default: Draft,
    /// In the order in which the layers first name them.
    pub(super) providers: Vec<Draft>,
}

impl Drafts {
    /// Nothing yet.
    pub(super) fn new() -> Drafts {
        let default = Draft { name: "default".to_owned(), ..Draft::default() };
        Drafts { default, providers: Vec::new() }
    }

    /// The rows as they stand, the providers' values over those of the default row.
    pub(super) fn rows(&self) -> (Vec<Row>, Row) {
        let row = |draft: &Draft, values: Values| Row {
            name: draft.name.clone(),
            mx: draft.mx.clone(),
            per_site: draft.per_site,
            values,
        };
        let below = &self.default.values;
        let rows = self.providers.iter().map(|draft| row(draft, draft.values.over(below)));
        (rows.collect(), row(&self.default, below.clone()))
    }

    /// The row of this provider, a new one if need be.
    fn provider(&mut self, name: &str, place: &Place) -> &mut Draft {
        let known = self.providers.iter().position(|draft| draft.name == name);
        let at = known.unwrap_or_else(|| {
            let draft = Draft { name: name.to_owned(), place: place.clone(), ..Draft::default() };
            self.providers.push(draft);
            self.providers.len() - 1
        });
        &mut self.providers[at]
    }
}

/// Puts a layer over `drafts`; in the `lowest` each value must name its source. Gives its problems,
/// and whether its syntax is whole.
pub(super) fn read(layer: Layer<'_>, lowest: bool, drafts: &mut Drafts) -> (Vec<Problem>, bool) {
    let (root, errors) = DeTable::parse_recoverable(layer.text);
    let mut reader = Reader::new(layer, &errors);
    let (root, prefix) = match layer.section {
        None => (Some(root.get_ref()), String::new()),
        Some(name) => (reader.table(root.get_ref(), (name, name)), format!("{name}.")),
    };
    if let Some(root) = root {
        rows(&mut reader, root, &prefix, lowest, drafts);
    }
    let whole = reader.is_whole();
    (reader.finish(), whole)
}

/// The rows of a layer.
fn rows(
    reader: &mut Reader<'_>,
    root: &DeTable<'_>,
    prefix: &str,
    lowest: bool,
    drafts: &mut Drafts,
) {
    for (key, _) in root.iter() {
        let name: &str = key.get_ref();
        // Behind a broken header, the keys of its row seem to stand here.
        let strayed = KEYS.iter().any(|key| key.name == name) && !reader.is_whole();
        if !strayed && !matches!(name, "default" | "provider") {
            let help = format!("there are [{prefix}default] and [{prefix}provider.NAME]");
            let what = format!("unknown key {:?}", format!("{prefix}{name}"));
            reader.problem(reader.place(&key.span()), what, help);
        }
    }
    let title = format!("{prefix}default");
    if let Some(table) = reader.table(root, (&title, "default")) {
        let mut section = section(title, table);
        row(reader, &mut section, lowest, &mut drafts.default);
    }
    let title = format!("{prefix}provider");
    let Some(providers) = reader.table(root, (&title, "provider")) else { return };
    let mut sorted: Vec<_> = providers.keys().collect();
    sorted.sort_by_key(|key| key.span().start);
    for key in sorted {
        let name: &str = key.get_ref();
        let place = reader.place(&key.span());
        if let Err(why) = forms::provider(name) {
            let (what, help) = why.split_once("; ").unwrap_or((&why, ""));
            reader.problem(place, what.to_owned(), help);
            continue;
        }
        let title = format!("{title}.{name}");
        if let Some(table) = reader.table(providers, (&title, name)) {
            let draft = drafts.provider(name, &place);
            provider(reader, &mut section(title, table), lowest, draft);
        }
    }
}

fn section<'d>(title: String, table: &'d DeTable<'d>) -> Section<'d> {
    Section { title, table, source: None, sources: BTreeMap::new() }
}

/// A provider's row: its hosts and its values.
fn provider(reader: &mut Reader<'_>, section: &mut Section<'_>, lowest: bool, draft: &mut Draft) {
    row(reader, section, lowest, draft);
    if let Some(mx) = reader.elements(section, ("mx", 1), forms::suffix) {
        draft.mx = mx;
    }
    draft.mx.extend(reader.elements(section, ("mx_add", 1), forms::suffix).unwrap_or_default());
    draft.per_site = reader.flag(section, "per_site").unwrap_or(draft.per_site);
}

/// The values of a row.
fn row(reader: &mut Reader<'_>, section: &mut Section<'_>, lowest: bool, draft: &mut Draft) {
    names(reader, section, draft);
    reader.sources(section);
    if lowest {
        sources_are_named(reader, section);
    }
    let into = &mut draft.values;
    reader.count(section, "connections", 1..=CONNECTIONS_MAX, &mut into.connections);
    reader.count(section, "connections_total", 1..=TOTAL_MAX, &mut into.connections_total);
    reader.list(section, ("rate", 1), forms::rate, &mut into.rates);
    reader.list(section, ("rate_total", 1), forms::rate, &mut into.rates_total);
    reader.list(section, ("rate_dkim", 1), forms::rate, &mut into.rates_dkim);
    let messages = &mut into.messages_per_connection;
    reader.count(section, "messages_per_connection", 0..=u32::MAX, messages);
    reader.text(section, "ramp", forms::wait, &mut into.ramp);
    reader.list(section, ("retry", 1), forms::wait, &mut into.retry);
    reader.text(section, "expire_after", forms::wait, &mut into.expire_after);
    reader.text(section, "tls", forms::choice(forms::TLS), &mut into.tls);
    reader.text(section, "ip", forms::choice(forms::IP), &mut into.ip);
    // Without any, a layer takes back what a lower one says.
    reader.list(section, ("quirks", 0), forms::choice(forms::QUIRKS), &mut into.quirks);
}

/// Remembers the keys of a row and notes those that there are not.
fn names(reader: &mut Reader<'_>, section: &Section<'_>, draft: &mut Draft) {
    let is_default = draft.name == "default";
    let here = KEYS.iter().filter(|key| !(is_default && key.provider_only));
    let here: Vec<&str> = here.map(|key| key.name).collect();
    for (key, _) in section.table.iter() {
        let name: &str = key.get_ref();
        if let Some(known) = here.iter().find(|known| **known == name) {
            draft.named.insert(known);
            continue;
        }
        draft.named.extend(suggest(name, here.iter().copied()));
        let elsewhere = KEYS.iter().any(|key| key.name == name);
        let help = match elsewhere {
            true => "it belongs to the row of a provider".to_owned(),
            false => keys::instead_of(name, &here),
        };
        let what = format!("unknown key {name:?} in [{}]", section.title);
        reader.problem(reader.place(&key.span()), what, help);
    }
}

/// Notes the values of a row for which nobody stands, as one problem.
fn sources_are_named(reader: &mut Reader<'_>, section: &Section<'_>) {
    if section.table.contains_key("source") {
        return;
    }
    let known = |name: &str| KEYS.iter().any(|key| key.name == name) && name != "sources";
    let mut bare: Vec<_> = section
        .table
        .keys()
        .filter(|key| known(key.get_ref()) && !section.sources.contains_key(&**key.get_ref()))
        .collect();
    bare.sort_by_key(|key| key.span().start);
    let Some(first) = bare.first() else { return };
    let place = reader.place(&first.span());
    let names: Vec<&str> = bare.iter().map(|key| &**key.get_ref()).collect();
    let what = format!("nobody stands for {} in [{}]", names.join(", "), section.title);
    reader.problem(place, what, "say who gives the numbers, under source or sources");
}
