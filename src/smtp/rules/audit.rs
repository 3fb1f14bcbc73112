//! audit — holds a table of rules to its own samples, and finds what can never be reached.
//!
//! `mailshot rates test` prints what it finds. A problem stands at the line of its rule or sample
//! and names the rule that is in the way.

use crate::outcome::{Enhanced, Stage};
use crate::problem::{Problem, suggest};

use super::forms::{self, Statuses};
use super::{Rule, RuleNo, Rules, Sample};

/// Everything that is wrong with these rules, given the providers that there are.
pub(super) fn audit(rules: &Rules, providers: &[&str]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (no, rule) in (0..).map(RuleNo).zip(&rules.rules) {
        unknown_providers(rules, rule, providers, &mut found);
        if rule.samples.is_empty() {
            let what = format!("{}: nothing shows that this rule ever judges a reply", rule.name);
            let help = "add samples = [{ stage = …, reply = …, source = … }]";
            found.push(Problem::new(rule.place.clone(), what, help));
        }
        if rule.near_misses.is_empty() {
            let what = format!("{}: nothing shows what this rule leaves alone", rule.name);
            let help = "add not = [{ stage = …, reply = … }]";
            found.push(Problem::new(rule.place.clone(), what, help));
        }
        found.extend(rule.samples.iter().filter_map(|sample| missed(rules, no, sample)));
        found.extend(rule.near_misses.iter().filter_map(|miss| caught(rules, no, miss)));
        hidden(rules, no, rule, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn unknown_providers(rules: &Rules, rule: &Rule, known: &[&str], found: &mut Vec<Problem>) {
    let own = rule.providers.iter().map(|no| rules.providers[usize::from(*no)].as_str());
    let own = own.map(|provider| (provider, &rule.place));
    let samples = rule.samples.iter().chain(&rule.near_misses);
    let samples = samples.map(|sample| (sample.provider.as_str(), &sample.place));
    for (provider, place) in own.chain(samples) {
        if provider.is_empty() || known.contains(&provider) {
            continue;
        }
        let what = format!("{}: no provider is called {provider:?}", rule.name);
        let help = match suggest(provider, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => "`mailshot rates` lists the providers of the rate table".to_owned(),
        };
        found.push(Problem::new(place.clone(), what, help));
    }
}

/// A sample that its rule does not judge.
fn missed(rules: &Rules, own: RuleNo, sample: &Sample) -> Option<Problem> {
    let found = rules.find(&sample.provider, sample.stage, &sample.reply);
    if found == Some(own) {
        return None;
    }
    let name = rules.name(own);
    let (what, help) = match found {
        Some(other) => (
            format!("{name} does not judge this sample: {} hides it", rules.name(other)),
            format!(
                "{} stands at {}; put one of them first, or make it narrower",
                rules.name(other),
                rules.rules[usize::from(other.0)].place
            ),
        ),
        None => (
            format!("{name} does not judge this sample, and no other rule does"),
            "compare provider, stage, code, statuses and phrases".to_owned(),
        ),
    };
    Some(Problem::new(sample.place.clone(), what, help))
}

/// A near miss that its rule judges.
fn caught(rules: &Rules, own: RuleNo, miss: &Sample) -> Option<Problem> {
    let found = rules.find(&miss.provider, miss.stage, &miss.reply)?;
    (found == own).then(|| {
        let what = format!("{} judges this near miss", rules.name(own));
        Problem::new(miss.place.clone(), what, "make the rule narrower, or put another before it")
    })
}

/// Phrases and status codes that an earlier rule takes away at one of the stages.
fn hidden(rules: &Rules, no: RuleNo, rule: &Rule, found: &mut Vec<Problem>) {
    let phrases = rule.phrases.iter().map(|phrase| (format!("{phrase:?}"), None, phrase.as_str()));
    let ends = |statuses: &Statuses| {
        let class = statuses.class.unwrap_or(4);
        [statuses.first, statuses.last].map(|detail| Enhanced(class, statuses.subject, detail))
    };
    let statuses = rule.statuses.iter().flat_map(ends);
    let statuses = statuses.map(|status| (status.to_string(), Some(status), "x"));
    let named = rule.providers.iter().map(|no| rules.providers[usize::from(*no)].as_str());
    let providers: Vec<&str> = match rule.providers.is_empty() {
        true => vec![""],
        false => named.collect(),
    };
    for (what, status, text) in phrases.chain(statuses) {
        for (provider, stage) in providers
            .iter()
            .flat_map(|provider| rule.stages.iter().map(move |stage| (*provider, *stage)))
        {
            let Some(by) = in_the_way(rules, no, (provider, stage), (status, text)) else {
                continue;
            };
            let what = format!(
                "{}: {what} is never reached at {}: {} hides it",
                rule.name,
                stage.word(),
                rules.name(by)
            );
            let help = "an earlier rule judges every such reply; take it out, or put it there";
            found.push(Problem::new(rule.place.clone(), what, help));
        }
    }
}

/// The rule that takes what this one should have at a stage, if it does so with every code.
fn in_the_way(
    rules: &Rules,
    own: RuleNo,
    (provider, stage): (&str, Stage),
    (status, text): (Option<Enhanced>, &str),
) -> Option<RuleNo> {
    let status = status.map_or(String::new(), |status| format!("{status} "));
    let text = text.replace('*', " some ");
    let codes = rules.rules[usize::from(own.0)].codes.iter();
    let mut by = None;
    for code in codes.flat_map(|range| [*range.start(), *range.end()]) {
        let reply = forms::reply(&format!("{code} {status}{text}")).ok()?;
        match rules.find(provider, stage, &reply) {
            Some(found) if found != own => by = Some(found),
            _ => return None,
        }
    }
    by
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of one line of keys.
    fn rule(name: &str, keys: &str) -> String {
        format!(
            "[[rule]]\nname = \"{name}\"\ncause = \"listed\"\nscope = \"source-at-provider\"\n\
             action = \"halt\"\n{keys}\n"
        )
    }

    fn found(text: &str) -> Vec<String> {
        let rules = Rules::parse("r", text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let problems = rules.audit(&["google", "yahoo"]);
        problems.iter().map(|it| it.to_string().replace("\n    help: ", " | ")).collect()
    }

    const SHOWN: &str = r#"samples = [{ stage = "mail", reply = "550 spam x", source = "a.b" }]
not = [{ stage = "mail", reply = "550 ham" }]"#;

    #[test]
    fn a_table_in_order_has_no_problems() {
        assert_eq!(found(&rule("a", &format!("phrases = [\"spam\"]\n{SHOWN}"))), [""; 0]);
    }

    #[test]
    fn what_is_hidden_is_named_with_what_hides_it() {
        let first = rule("a", &format!("phrases = [\"spam\"]\n{SHOWN}"));
        let second = rule("b", &format!("phrases = [\"spam x\"]\nstatuses = [\"x.7.1\"]\n{SHOWN}"));
        let found = found(&format!("{first}{second}"));
        let hidden =
            |stage: &str| format!("r:9:1: b: \"spam x\" is never reached at {stage}: a hid");
        let stages = ["banner", "data", "dot", "ehlo", "mail", "rcpt"];
        assert_eq!(found.len(), stages.len() + 1, "{found:#?}");
        assert!(stages.iter().zip(&found).all(|(stage, it)| it.starts_with(&hidden(stage))));
        let missed = "r:16:12: b does not judge this sample: a hides it | a stands at r:1:1";
        assert!(found[6].starts_with(missed), "{found:#?}");
    }

    /// A rule for one code of two is not hidden by one for the other.
    #[test]
    fn what_one_code_still_reaches_is_not_hidden() {
        let first = rule("a", &format!("codes = [\"500-599\"]\nphrases = [\"spam\"]\n{SHOWN}"));
        let shown = SHOWN.replace("550", "450");
        assert_eq!(
            found(&format!("{first}{}", rule("b", &format!("phrases = [\"spam\"]\n{shown}")))),
            [""; 0]
        );
    }

    #[test]
    fn rules_without_proof_and_with_false_proof_are_found() {
        let silent = found(&rule("a", "phrases = [\"spam\"]"));
        assert_eq!(silent.len(), 2, "{silent:#?}");
        assert!(silent[0].contains("ever judges a reply") && silent[1].contains("leaves alone"));

        let samples = SHOWN.replace("550 ham", "550 a spam");
        let caught = found(&rule("a", &format!("phrases = [\"spam\"]\n{samples}")));
        assert_eq!(caught.len(), 1, "{caught:#?}");
        assert!(caught[0].starts_with("r:8:8: a judges this near miss"), "{caught:#?}");

        let samples = SHOWN.replace("550 spam x", "550 eggs");
        let unjudged = found(&rule("a", &format!("phrases = [\"spam\"]\n{samples}")));
        assert!(unjudged[0].starts_with("r:7:12: a does not judge this sample, and no other"));
    }

    #[test]
    fn unknown_providers_are_found_with_the_likeliest_meant() {
        let keys = format!("provider = [\"gogle\"]\nphrases = [\"spam\"]\n{SHOWN}");
        let found = found(&rule("a", &keys));
        assert!(
            found[0].starts_with(
                "r:1:1: a: no provider is called \"gogle\" | did you mean \"google\"?"
            )
        );
    }
}
