//! rules — the table that says what known replies mean: the first rule that fits decides.
//!
//! The rules are data, `datasets/rules.toml`, which its head explains. A rule fits a reply of one
//! of its providers, at one of its stages, with one of its codes, whose enhanced status code *or*
//! whose words are the rule's. Codes and words overlap on purpose and the order settles it: the
//! rules of providers come before those that hold for all; what names a cause on our side comes
//! before what names the recipient, because "rejected" and "denied" stand in both; narrow before
//! wide. What no rule fits is `verdict`'s to judge by stage and code.
//!
//! Each rule carries replies that it must judge and near misses that it must not; [`Rules::audit`]
//! holds the table to them and finds what is hidden by an earlier rule. A file with mistakes gives
//! all of them, with their places. A refusal costs up to 3 µs (`benches/judge.rs`).

mod audit;
mod cause;
mod forms;
mod parse;
mod phrases;

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::outcome::{Class, Stage};
use crate::problem::{Place, Problem};

use super::reply::Reply;
use super::verdict::{Action, Scope, Verdict};

pub use cause::{About, Cause};

use forms::Statuses;
use phrases::Phrases;

/// The number of a rule within its table, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleNo(pub u16);

/// A table of rules, ready to judge.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// The providers that the rules name, sorted.
    providers: Vec<String>,
    phrases: Phrases,
    statuses: Vec<(Statuses, u16)>,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    name: String,
    place: Place,
    /// Ordinals in [`Rules::providers`]; none for any provider.
    providers: Vec<u16>,
    stages: Vec<Stage>,
    codes: Vec<RangeInclusive<u16>>,
    statuses: Vec<Statuses>,
    phrases: Vec<String>,
    cause: Cause,
    class: Class,
    scope: Scope,
    deed: Deed,
    samples: Vec<Sample>,
    near_misses: Vec<Sample>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// As the code says: retry after 4yz, fail after 5yz.
    ByCode,
    /// The same after every code, but that only 5yz suppresses.
    Always(Action),
}

/// A reply to hold a rule to.
#[derive(Debug)]
struct Sample {
    place: Place,
    provider: String,
    stage: Stage,
    reply: Reply,
}

impl Rules {
    /// The rules that mailshot brings: `datasets/rules.toml`.
    pub fn shipped() -> &'static Rules {
        static SHIPPED: LazyLock<Rules> = LazyLock::new(|| {
            let text = include_str!("../../../datasets/rules.toml");
            Rules::parse("datasets/rules.toml", text).expect("the tests read the shipped rules")
        });
        &SHIPPED
    }

    /// Reads a rules file; `file` is its name in problems.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the places.
    pub fn parse(file: &str, text: &str) -> Result<Rules, Vec<Problem>> {
        parse::parse(file, text)
    }

    fn new(rules: Vec<Rule>, providers: Vec<String>) -> Rules {
        let numbered = || (0_u16..).zip(&rules);
        let phrases = numbered()
            .flat_map(|(no, rule)| rule.phrases.iter().map(move |phrase| (phrase.as_str(), no)));
        let phrases = Phrases::new(phrases);
        let statuses = numbered()
            .flat_map(|(no, rule)| rule.statuses.iter().map(move |statuses| (*statuses, no)))
            .collect();
        Rules { rules, providers, phrases, statuses }
    }

    /// A rule's name, as it is recorded; empty for a number of another table.
    pub fn name(&self, rule: RuleNo) -> &str {
        self.rules.get(usize::from(rule.0)).map_or("", |rule| &rule.name)
    }

    /// The cause that a rule stands for; `None` for a number of another table.
    pub fn cause(&self, rule: RuleNo) -> Option<Cause> {
        self.rules.get(usize::from(rule.0)).map(|rule| rule.cause)
    }

    /// What is wrong with rules that could be read: samples that another rule decides, near misses
    /// that a rule does judge, phrases and status codes that no reply can reach because an earlier
    /// rule takes them, rules without samples, providers that are not in `providers`.
    pub fn audit(&self, providers: &[&str]) -> Vec<Problem> {
        audit::audit(self, providers)
    }

    /// What the first rule that fits makes of a negative reply at this stage.
    pub(super) fn verdict(&self, provider: &str, stage: Stage, reply: &Reply) -> Option<Verdict> {
        let no = self.find(provider, stage, reply)?;
        Some(self.rules[usize::from(no.0)].verdict(no, reply.code))
    }

    /// The first rule that fits a reply of this provider at this stage.
    fn find(&self, provider: &str, stage: Stage, reply: &Reply) -> Option<RuleNo> {
        let provider = self.ordinal(provider);
        let mut first = None;
        let mut note = |no: u16| {
            if first.is_none_or(|first| no < first)
                && self.rules[usize::from(no)].may_judge(provider, stage, reply.code)
            {
                first = Some(no);
            }
        };
        if let Some(status) = reply.enhanced {
            let named = self.statuses.iter().filter(|(statuses, _)| statuses.contains(status));
            named.for_each(|(_, no)| note(*no));
        }
        self.phrases.each_in(&as_compared(&reply.text()), note);
        first.map(RuleNo)
    }

    fn ordinal(&self, provider: &str) -> Option<u16> {
        let at = self.providers.binary_search_by(|known| known.as_str().cmp(provider)).ok()?;
        u16::try_from(at).ok()
    }
}

impl Rule {
    /// Whether provider, stage and code are the rule's.
    fn may_judge(&self, provider: Option<u16>, stage: Stage, code: u16) -> bool {
        let named = |provider| self.providers.contains(&provider);
        (self.providers.is_empty() || provider.is_some_and(named))
            && self.stages.contains(&stage)
            && self.codes.iter().any(|range| range.contains(&code))
    }

    /// What the rule makes of a reply with this code.
    fn verdict(&self, no: RuleNo, code: u16) -> Verdict {
        let action = match self.deed {
            Deed::ByCode | Deed::Always(Action::Suppress) if code < 500 => Action::Retry,
            Deed::ByCode => Action::Fail,
            Deed::Always(action) => action,
        };
        Verdict { class: self.class, scope: self.scope, action, rule: Some(no) }
    }
}

/// The text in lower case without the words that hold an `@`. Replies quote addresses, and a row
/// `blacklist@example.com` must not look like a listing and stop a provider.
fn as_compared(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.contains('@')) {
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
    }
    kept.make_ascii_lowercase();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_addresses_say_nothing() {
        assert_eq!(as_compared("<Blacklist@spam.example>: User Unknown"), "user unknown");
        assert_eq!(as_compared("a@b"), "");
    }

    #[test]
    fn the_shipped_rules_can_be_read() {
        let text = include_str!("../../../datasets/rules.toml");
        let problems = Rules::parse("datasets/rules.toml", text).err().unwrap_or_default();
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }
}
