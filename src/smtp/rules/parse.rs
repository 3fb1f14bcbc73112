//! parse — a rules file to rules, or everything that is wrong with it.
//!
//! A value that cannot be had is noted with its place and taken as absent: parsing goes on, so that
//! one pass finds all problems. A rule is only made when its name, cause, scope and action can be
//! read; then it is held to the law in [`cause`](super::cause).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::outcome::Stage;
use crate::problem::{Place, Problem, suggest};
use crate::smtp::verdict::Action;

use super::{Deed, Rule, Rules, Sample, cause, forms, phrases};

/// A key of a table: its name, and what it must be.
type Key = (&'static str, &'static str);

const NAME: Key = ("name", "lower case letters, digits and \"-\"");
const PROVIDER: Key = ("provider", "a list of providers of the rate table");
const STAGES: Key = ("stages", "a list of banner, ehlo, mail, rcpt, data, dot");
const CODES: Key = ("codes", "a list of codes such as \"421\" or \"500-599\"");
const STATUSES: Key = ("statuses", "a list of status codes such as \"4.7.28\" or \"x.7.26-27\"");
const PHRASES: Key = ("phrases", "a list of words in lower case, \"*\" between parts");
const CAUSE: Key = ("cause", "a cause such as \"rep-ip\" or \"badrcpt\"");
const CLASS: Key = ("class", "a bounce category such as \"spam-related\"");
const SCOPE: Key = ("scope", "a scope such as \"recipient\" or \"source-at-provider\"");
const ACTION: Key = ("action", "an action such as \"retry\" or \"pause\"");
const WAIT: Key = ("wait", "a duration such as \"10m\", or \"back-off\"");
const SAMPLES: Key = ("samples", "a list of { stage = …, reply = …, source = … }");
const NOT: Key = ("not", "a list of { stage = …, reply = … }");
const RULE: &[Key] = &[
    NAME, PROVIDER, STAGES, CODES, STATUSES, PHRASES, CAUSE, CLASS, SCOPE, ACTION, WAIT, SAMPLES,
    NOT,
];

const OF_SAMPLE: Key = ("provider", "a provider of the rate table");
const STAGE: Key = ("stage", "banner, ehlo, mail, rcpt, data or dot");
const REPLY: Key = ("reply", "a reply from 400 to 599, \\n between its lines");
const SOURCE: Key = ("source", "who says so: an address, or a repository and its file");
const SAMPLE: &[Key] = &[OF_SAMPLE, STAGE, REPLY, SOURCE];

/// A rule whose providers have no ordinals yet.
type Read = (Rule, Vec<String>);

/// The rules of a file.
pub(super) fn parse(file: &str, text: &str) -> Result<Rules, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(file, text, &errors);
    let read = reader.rules(root.get_ref());
    reader.names_differ(&read);
    let problems = reader.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    let all: BTreeSet<&String> = read.iter().flat_map(|(_, providers)| providers).collect();
    let all: Vec<String> = all.into_iter().cloned().collect();
    let ordinal = |name: &String| (0..).zip(&all).find(|(_, known)| *known == name);
    let number = |(mut rule, names): Read| {
        rule.providers = names.iter().filter_map(ordinal).map(|(no, _)| no).collect();
        rule
    };
    let rules = read.into_iter().map(number).collect();
    Ok(Rules::new(rules, all))
}

/// The file and what is wrong with it so far.
struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    /// Lines with syntax errors: what else seems wrong there is a consequence.
    broken: BTreeSet<u32>,
    problems: Vec<Problem>,
}

/// A table of the file.
struct Table<'d> {
    keys: &'static [Key],
    values: &'d DeTable<'d>,
    place: Place,
}

impl Table<'_> {
    fn has(&self, (name, _): Key) -> bool {
        self.values.contains_key(name)
    }

    /// Whether it has an unknown key that was probably meant to be this one.
    fn misspells(&self, (name, _): Key) -> bool {
        let known = |key: &str| self.keys.iter().any(|(name, _)| *name == key);
        let mut unknown = self.values.keys().map(|key| &**key.get_ref()).filter(|key| !known(key));
        unknown.any(|key| meant(key, self.keys) == Some(name))
    }
}

fn meant(word: &str, keys: &'static [Key]) -> Option<&'static str> {
    suggest(word, keys.iter().map(|(name, _)| *name))
}

impl<'t> Reader<'t> {
    fn new(file: &'t str, text: &'t str, errors: &[toml::de::Error]) -> Reader<'t> {
        let mut reader = Reader { file, text, broken: BTreeSet::new(), problems: Vec::new() };
        for error in errors {
            let place = error.span().map_or_else(|| Place::whole(file), |span| reader.place(&span));
            reader.broken.insert(place.line);
            let what = format!("not TOML: {}", error.message());
            reader.problems.push(Problem::new(place, what, ""));
        }
        reader
    }

    fn finish(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.dedup();
        self.problems
    }

    /// Notes a problem, unless it stands on a line whose syntax is broken.
    fn problem(&mut self, place: Place, what: impl Into<String>, help: impl Into<String>) {
        if !self.broken.contains(&place.line) {
            self.problems.push(Problem::new(place, what, help));
        }
    }

    /// Notes that a value has not the form of its key; `why` may end in `; ` and what to do.
    fn bad(&mut self, (name, form): Key, place: Place, why: &str) {
        let (what, help) = match why.rsplit_once("; ") {
            Some((what, help)) => (what, help.to_owned()),
            None => (why, format!("it must be {form}")),
        };
        self.problem(place, format!("{name}: {what}"), help);
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.file, self.text, span.start)
    }

    fn rules(&mut self, root: &DeTable<'_>) -> Vec<Read> {
        const ROOT: Key = ("rule", "a list of sections, [[rule]]");
        for (key, _) in root.iter().filter(|(key, _)| key.get_ref() != ROOT.0) {
            let what = format!("unknown key {:?}", key.get_ref());
            self.problem(self.place(&key.span()), what, "the file has only sections [[rule]]");
        }
        match root.get(ROOT.0).map(|value| (value, value.get_ref())) {
            Some((_, DeValue::Array(array))) => {
                array.iter().filter_map(|value| self.rule(value)).collect()
            }
            Some((value, _)) => {
                self.bad(ROOT, self.place(&value.span()), "this is no list of sections");
                Vec::new()
            }
            None => {
                if self.broken.is_empty() {
                    let help = "see datasets/rules.toml of mailshot for how rules are written";
                    self.problem(Place::whole(self.file), "there is no [[rule]]", help);
                }
                Vec::new()
            }
        }
    }

    fn rule(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Read> {
        let table = self.table(value, "[[rule]]", RULE)?;
        let name = self.required(&table, NAME, forms::name);
        let providers = self.list(&table, PROVIDER, forms::name);
        let stages = match table.has(STAGES) {
            true => self.list(&table, STAGES, forms::stage),
            false => forms::STAGES.to_vec(),
        };
        let codes = match table.has(CODES) {
            true => self.list(&table, CODES, forms::codes),
            false => vec![400..=599],
        };
        let statuses = self.list(&table, STATUSES, forms::statuses);
        let phrases = self.list(&table, PHRASES, phrases::form);
        let cause = self.required(&table, CAUSE, forms::cause);
        let class = self.text(&table, CLASS, forms::class);
        let scope = self.required(&table, SCOPE, |text| forms::choice(text, forms::SCOPES));
        let deed = self.deed(&table);
        let default = providers.first().map_or("", String::as_str);
        let samples = self.samples(&table, SAMPLES, default);
        let near_misses = self.samples(&table, NOT, default);
        let silent =
            [STATUSES, PHRASES].iter().all(|key| !table.has(*key) && !table.misspells(*key));
        if silent {
            let help = "a rule fits by its statuses or its phrases; it needs one of them";
            self.problem(table.place.clone(), "this rule fits no reply", help);
        }
        let (name, cause, scope, deed) = (name?, cause?, scope?, deed?);
        for (what, help) in cause::objections(cause, scope, deed, &stages) {
            self.problem(table.place.clone(), format!("{name}: {what}"), help);
        }
        let class = class.unwrap_or(cause.class());
        let (place, none) = (table.place, Vec::new());
        #[rustfmt::skip]
        let rule = Rule {
            name, place, providers: none, stages, codes, statuses, phrases, cause, class, scope,
            deed, samples, near_misses,
        };
        Some((rule, providers))
    }

    /// Action and wait, which belong together.
    fn deed(&mut self, table: &Table<'_>) -> Option<Deed> {
        let word = self.required(table, ACTION, |text| forms::one_of(text, forms::ACTIONS));
        let wait = self.text(table, WAIT, forms::wait);
        let word = word?;
        if word == "pause" && !table.has(WAIT) && !table.misspells(WAIT) {
            let help = "write wait = \"10m\", or \"back-off\" to leave it to the pace";
            self.problem(table.place.clone(), "a pause needs a wait", help);
        }
        if word != "pause" && table.has(WAIT) {
            let what = format!("{word} has no wait");
            self.problem(table.place.clone(), what, "only action = \"pause\" takes one");
        }
        Some(match word {
            "by-code" => Deed::ByCode,
            "fail" => Deed::Always(Action::Fail),
            "suppress" => Deed::Always(Action::Suppress),
            "reconnect" => Deed::Always(Action::Reconnect),
            "slow" => Deed::Always(Action::Slow),
            "pause" => Deed::Always(Action::Pause(wait.unwrap_or(Duration::ZERO))),
            "halt" => Deed::Always(Action::Halt),
            _ => Deed::Always(Action::Retry),
        })
    }

    fn samples(&mut self, table: &Table<'_>, key: Key, provider: &str) -> Vec<Sample> {
        let Some(array) = self.array(table, key) else { return Vec::new() };
        array.iter().filter_map(|value| self.sample(value, key, provider)).collect()
    }

    fn sample(&mut self, value: &Spanned<DeValue<'_>>, key: Key, provider: &str) -> Option<Sample> {
        let table = self.table(value, key.0, SAMPLE)?;
        let own = self.text(&table, OF_SAMPLE, forms::name);
        let stage: Option<Stage> = self.required(&table, STAGE, forms::stage);
        let reply = self.required(&table, REPLY, forms::reply);
        let public = |text: &str| match text.contains('.') {
            true => Ok(()),
            false => Err(format!("{text:?} names no public source")),
        };
        match key == SAMPLES {
            true => drop(self.required(&table, SOURCE, public)),
            false => drop(self.text(&table, SOURCE, public)),
        }
        let provider = own.unwrap_or_else(|| provider.to_owned());
        Some(Sample { place: table.place, provider, stage: stage?, reply: reply? })
    }

    /// A table with only known keys; others are noted.
    fn table<'d>(
        &mut self,
        value: &'d Spanned<DeValue<'d>>,
        what: &str,
        keys: &'static [Key],
    ) -> Option<Table<'d>> {
        let place = self.place(&value.span());
        let DeValue::Table(values) = value.get_ref() else {
            self.problem(place, format!("{what} holds something that is no table"), "");
            return None;
        };
        for (key, _) in values.iter() {
            let name: &str = key.get_ref();
            if keys.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let names = || keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let help = match meant(name, keys) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("there are {}", names()),
            };
            self.problem(self.place(&key.span()), format!("unknown key {name:?} in {what}"), help);
        }
        Some(Table { keys, values, place })
    }

    /// The value of a key that must be there.
    fn required<T>(
        &mut self,
        table: &Table<'_>,
        key: Key,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !table.has(key) && !table.misspells(key) && self.broken.is_empty() {
            let help = format!("it must be {}", key.1);
            self.problem(table.place.clone(), format!("{} is missing", key.0), help);
        }
        self.text(table, key, form)
    }

    /// The value of a key, if it is there and has the form.
    fn text<T>(
        &mut self,
        table: &Table<'_>,
        key: Key,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.value(table.values.get(key.0)?, key, form)
    }

    fn value<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: Key,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let why = match value.get_ref() {
            DeValue::String(text) => match form(text) {
                Ok(value) => return Some(value),
                Err(why) => why,
            },
            _ => "this is no text".to_owned(),
        };
        self.bad(key, self.place(&value.span()), &why);
        None
    }

    /// The values of a list that have the form.
    fn list<T>(
        &mut self,
        table: &Table<'_>,
        key: Key,
        form: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(array) = self.array(table, key) else { return Vec::new() };
        array.iter().filter_map(|value| self.value(value, key, &form)).collect()
    }

    fn array<'d>(&mut self, table: &Table<'d>, key: Key) -> Option<&'d DeArray<'d>> {
        let value = table.values.get(key.0)?;
        match value.get_ref() {
            DeValue::Array(array) if !array.is_empty() => Some(array),
            DeValue::Array(_) => {
                self.bad(key, self.place(&value.span()), "the list is empty");
                None
            }
            _ => {
                self.bad(key, self.place(&value.span()), "this is no list");
                None
            }
        }
    }

    /// No two rules have one name: it is what records and samples know them by.
    fn names_differ(&mut self, read: &[Read]) {
        let mut lines = BTreeMap::new();
        for (rule, _) in read {
            if let Some(line) = lines.insert(&rule.name, rule.place.line) {
                let what = format!("a second rule is called {:?}", rule.name);
                let help = format!("the first stands at line {line}; find another name");
                self.problem(rule.place.clone(), what, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule with nothing wrong, its lines from 1.
    const GOOD: &str = r#"[[rule]]
name = "listed"
provider = ["google"]
stages = ["mail", "rcpt"]
codes = ["550-554"]
statuses = ["5.7.1"]
phrases = ["spamhaus"]
cause = "listed"
scope = "source-at-provider"
action = "pause"
wait = "1h"
samples = [{ stage = "rcpt", reply = "550 5.7.1 no", source = "a.example" }]
not = [{ stage = "dot", reply = "550 5.7.1 no" }]
"#;

    fn problems(text: &str) -> Vec<String> {
        let problems = parse("r.toml", text).err().unwrap_or_default();
        problems.iter().map(|it| it.to_string().replace("\n    help: ", " | ")).collect()
    }

    #[test]
    fn a_good_rule_is_read_in_full() {
        let rules = parse("r.toml", GOOD).unwrap();
        let rule = &rules.rules[0];
        assert_eq!(
            (rules.providers.as_slice(), rule.providers.as_slice()),
            (&["google".to_owned()][..], &[0][..])
        );
        assert_eq!((rule.place.line, rule.stages.len(), rule.codes[0].clone()), (1, 2, 550..=554));
        assert_eq!(rule.deed, Deed::Always(Action::Pause(Duration::from_secs(3_600))));
        assert_eq!((rule.samples.len(), rule.samples[0].provider.as_str()), (1, "google"));
        assert_eq!((rule.near_misses[0].stage, rule.near_misses[0].place.line), (Stage::Dot, 13));
    }

    #[test]
    fn each_mistake_has_its_place_and_its_help() {
        for (good, bad, expected) in [
            ("cause = \"listed\"", "cause = \"liste\"", "r.toml:8:9: cause: there is no \"liste\""),
            ("wait =", "wiat =", "r.toml:11:1: unknown key \"wiat\" in [[rule]] | did you mean"),
            ("wait = \"1h\"", "", "r.toml:1:1: a pause needs a wait | write wait"),
            ("wait = \"1h\"", "wait = \"0s\"", "r.toml:11:8: wait: \"0s\" is no pause | write"),
            ("\"pause\"", "\"halt\"", "r.toml:1:1: halt has no wait"),
            ("\"pause\"", "\"pasue\"", "r.toml:10:10: action: there is no \"pasue\""),
            ("550-554", "550-654", "r.toml:5:10: codes: \"550-654\" is not within 400 to 599"),
            ("\"rcpt\"]", "\"quit\"]", "r.toml:4:19: stages: there is no \"quit\""),
            ("source-at-provider", "source", ""),
            ("source-at-provider", "sources", "r.toml:9:9: scope: there is no \"sources\""),
            ("source-at-provider", "recipient", "r.toml:1:1: listed: nothing can be stopped"),
            ("\"listed\"\nscope", "\"quota\"\nscope", "r.toml:1:1: listed: quota is about a"),
            ("\"5.7.1\"", "\"5.7\"", "r.toml:6:13: statuses: \"5.7\" is no enhanced status"),
            ("\"spamhaus\"", "\"Spam\"", "r.toml:7:12: phrases: \"Spam\" has capitals"),
            ("[\"spamhaus\"]", "[]", "r.toml:7:11: phrases: the list is empty"),
            ("[\"spamhaus\"]", "\"x\"", "r.toml:7:11: phrases: this is no list | it must be a"),
            ("name = \"listed\"", "", "r.toml:1:1: name is missing | it must be lower case"),
            ("\"listed\"\nprovider", "7\nprovider", "r.toml:2:8: name: this is no text"),
            ("source = \"a.example\"", "source = \"me\"", "r.toml:12:63: source: \"me\" names no"),
            (", source = \"a.example\"", "", "r.toml:12:12: source is missing"),
            ("550 5.7.1 no\" }]", "250 ok\" }]", "r.toml:13:33: reply: \"250 ok\" refuses nothing"),
            ("stage = \"dot\"", "stage = 1", "r.toml:13:18: stage: this is no text"),
            ("[[rule]]", "[[rules]]", "r.toml:0: "),
            ("[[rule]]", "x = [", "r.toml:1:"),
        ] {
            let text = GOOD.replacen(good, bad, 1);
            assert_ne!(text, GOOD, "{good}");
            let found = problems(&text);
            match expected {
                "" => assert!(found.is_empty(), "{found:?}"),
                "r.toml:0: " => assert!(found.iter().any(|it| it.contains("no [[rule]]"))),
                _ => assert!(
                    found.iter().any(|it| it.starts_with(expected)),
                    "{expected:?} in {found:#?}"
                ),
            }
        }
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let second = GOOD.replace("\"pause\"", "\"stop\"").replace("\"mail\"", "\"hello\"");
        let third =
            "[[rule]]\nname = \"x\"\ncause = \"auth\"\nscope = \"message\"\naction = \"retry\"\n";
        let found = problems(&format!("{GOOD}{second}{third}other = 1"));
        let starts = [
            "r.toml:17:11: stages: there is no \"hello\"",
            "r.toml:23:10: action: there is no \"stop\"",
            "r.toml:27:1: this rule fits no reply",
            "r.toml:32:1: unknown key \"other\"",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
        let twice = problems(&format!("{GOOD}{GOOD}"));
        assert_eq!(
            twice,
            ["r.toml:14:1: a second rule is called \"listed\" | the first stands at \
                            line 1; find another name"]
        );
    }
}
