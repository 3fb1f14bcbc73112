//! rules — which recipient is treated in which way.
//!
//! A rule is a pattern and an action; the first rule that fits decides. The personalities are a
//! set of ready rules over well-known local parts, in the style of the mailbox simulator of Amazon
//! SES. It must not know when an action takes place.

use std::str::FromStr;
use std::time::Duration;

use crate::reply::{NoReply, Reply};
use crate::time::time;

/// What happens to a recipient or to the message that was accepted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// As it should be.
    Accept,
    /// This reply to RCPT.
    AtRcpt(Reply),
    /// This reply to the final dot.
    AtDot(Reply),
    /// 450 at the first RCPT from this domain to this recipient, accepted later.
    Grey,
    /// 450 until this long after the first RCPT from this source to this recipient.
    GreyFor(Duration),
    /// The connection is closed at the final dot; the message is not accepted.
    DropBefore,
    /// The message is accepted, then the connection is closed without a reply: the sender cannot
    /// tell.
    DropAfter,
    /// The reply to the final dot comes late.
    Slow,
}

/// A pattern and what happens to the recipients that fit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `*` and `?` as in file names, in lower case. With an `@` it is held against the whole
    /// address, else against the local part.
    pattern: String,
    /// What happens.
    action: Action,
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRule {
    /// No `=`.
    #[error("expected PATTERN = ACTION, found {0:?}")]
    Form(String),
    /// Neither one of the words nor a reply.
    #[error(
        "expected accept, defer, bounce, full, baddata, deferdata, grey, grey and a time, \
         dropbefore, dropafter, slow, a reply, or data: and a reply: {0}"
    )]
    Action(NoReply),
}

const WORDS: [(&str, Action); 10] = [
    ("deferdata", Action::AtDot(Reply::of(451, "4.7.1", "Message deferred, try again later"))),
    ("defer", Action::AtRcpt(Reply::of(451, "4.7.1", "Recipient deferred, try again later"))),
    ("bounce", Action::AtRcpt(Reply::of(550, "5.1.1", "No such user"))),
    ("full", Action::AtRcpt(Reply::of(452, "4.2.2", "Mailbox full"))),
    ("baddata", Action::AtDot(Reply::of(554, "5.7.1", "Message refused as spam"))),
    ("grey", Action::Grey),
    ("dropbefore", Action::DropBefore),
    ("dropafter", Action::DropAfter),
    ("slow", Action::Slow),
    ("accept", Action::Accept),
];

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Rule, NoRule> {
        match text.split_once('=') {
            Some((pattern, action)) if !pattern.trim().is_empty() => {
                Ok(Rule { pattern: pattern.trim().to_lowercase(), action: action.trim().parse()? })
            }
            _ => Err(NoRule::Form(text.to_owned())),
        }
    }
}

impl FromStr for Action {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Action, NoRule> {
        if let Some((_, action)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(action.clone());
        }
        if let Some(wait) = text.strip_prefix("grey ").and_then(|wait| time(wait.trim()).ok()) {
            return Ok(Action::GreyFor(wait));
        }
        match text.strip_prefix("data:") {
            Some(reply) => reply.trim().parse().map(Action::AtDot),
            None => text.parse().map(Action::AtRcpt),
        }
        .map_err(NoRule::Action)
    }
}

impl Rule {
    /// The ready rules: a local part that begins with the word of an action meets that action.
    pub fn personalities() -> Vec<Rule> {
        // `deferdata` stands before `defer` in the table, so it is not taken for it.
        let with_pattern =
            |(word, action): (&str, Action)| Rule { pattern: format!("{word}*"), action };
        WORDS.into_iter().map(with_pattern).collect()
    }

    fn fits(&self, address: &[u8]) -> bool {
        let local = match memchr::memrchr(b'@', address) {
            Some(at) if !self.pattern.contains('@') => &address[..at],
            _ => address,
        };
        fits(self.pattern.as_bytes(), local)
    }
}

/// What happens to this address.
pub(crate) fn action<'a>(rules: &'a [Rule], address: &[u8]) -> &'a Action {
    rules.iter().find(|rule| rule.fits(address)).map_or(&Action::Accept, |rule| &rule.action)
}

/// Whether the text fits the pattern. It goes back to the last star only, which is enough, so the
/// time is at most the product of both lengths.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&octet) if octet == b'?' || octet == text[t].to_ascii_lowercase() => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|&octet| octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_file_names_do() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "Anna", true),
            ("a*", "banana", false),
            ("*na", "anna", true),
            ("a*n?", "anna", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("??", "ab", true),
            ("??", "abc", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_are_read() {
        let at_rcpt = |reply: &str| Action::AtRcpt(reply.parse().unwrap());
        let cases = [
            ("x* = grey", "x*", Action::Grey),
            ("X=slow", "x", Action::Slow),
            ("* = grey 300ms", "*", Action::GreyFor(Duration::from_millis(300))),
            ("*@gmail.* = 450 4.7.28 rate", "*@gmail.*", at_rcpt("450 4.7.28 rate")),
            ("* = data: 552 too big", "*", Action::AtDot("552 too big".parse().unwrap())),
            ("* = full", "*", at_rcpt("452 4.2.2 Mailbox full")),
        ];
        for (text, pattern, action) in cases {
            let expected = Rule { pattern: pattern.into(), action };
            assert_eq!(text.parse::<Rule>(), Ok(expected), "{text}");
        }
        for text in ["", "x", "= slow", "x = explode", "x = data:", "x =", "x = grey 5"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let mut rules: Vec<Rule> = vec!["defer9 = accept".parse().unwrap()];
        rules.extend(Rule::personalities());
        rules.push("*@full.test = full".parse().unwrap());
        let code = |address: &str| match action(&rules, address.as_bytes()) {
            Action::AtRcpt(reply) => reply.code(),
            Action::AtDot(reply) => reply.code() + 1000,
            Action::Accept => 0,
            _ => 1,
        };
        let cases = [
            ("defer1@x.test", 451),
            ("DEFER@x.test", 451),
            ("defer9@x.test", 0),
            ("deferdata@x.test", 1451),
            ("bounce+7@x.test", 550),
            ("full@x.test", 452),
            ("baddata@x.test", 1554),
            ("dropafter@x.test", 1),
            ("anna@x.test", 0),
            ("anna@full.test", 452),
            ("anna.defer@x.test", 0),
        ];
        for (address, expected) in cases {
            assert_eq!(code(address), expected, "{address}");
        }
    }
}
