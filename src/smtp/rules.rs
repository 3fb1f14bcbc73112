//! rules — the table that says what known replies mean: the first rule that fits decides.
//!
//! A rule fits a reply at one of its stages, with one of its codes, whose enhanced status code *or*
//! whose words are the rule's. Codes and words overlap on purpose and the order settles it: what
//! names a cause on our side (a limit, a list, authentication) comes before what names the
//! recipient, because "rejected" and "denied" stand in both; narrow before wide.
//!
//! The table knows no provider: each phrase means the same whoever says it. `datasets/replies.tsv`
//! holds at least one real reply for each rule; a rule or a phrase that another one hides fails a
//! test. What no rule fits is `verdict`'s to judge by stage and code.
//!
//! The search is linear: 8 to 14 µs for a refusal, measured on one core of a cloud machine.
//! Accepted replies never come here.

use super::reply::Reply;
use super::verdict::{Action, Scope, Verdict};
use crate::outcome::{Class, Enhanced, Stage};

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    /// Its name in reports and in the samples.
    pub name: &'static str,
    stages: &'static [Stage],
    /// First and last code of each range.
    codes: &'static [(u16, u16)],
    /// Subject, first and last detail of enhanced status codes. Their class is not looked at: it
    /// may contradict the code, and then the code decides.
    statuses: &'static [(u16, u16, u16)],
    /// Phrases in lower case, found as whole words; `*` stands for anything.
    phrases: &'static [&'static str],
    class: Class,
    scope: Scope,
    /// `None`: as the code says, retry for 4yz and fail for 5yz.
    action: Option<Action>,
}

impl Rule {
    fn fits(&self, stage: Stage, code: u16, enhanced: Option<Enhanced>, text: &str) -> bool {
        self.stages.contains(&stage)
            && self.codes.iter().any(|(first, last)| (*first..=*last).contains(&code))
            && (enhanced.is_some_and(|status| self.names(status))
                || self.phrases.iter().any(|phrase| says(text, phrase)))
    }

    fn names(&self, Enhanced(_, subject, detail): Enhanced) -> bool {
        self.statuses
            .iter()
            .any(|(of, first, last)| *of == subject && (*first..=*last).contains(&detail))
    }

    /// What the rule makes of a reply with this code.
    pub(super) fn verdict(&self, code: u16) -> Verdict {
        let as_coded = if code < 500 { Action::Retry } else { Action::Fail };
        let action = self.action.unwrap_or(as_coded);
        Verdict { class: self.class, scope: self.scope, action }
    }
}

/// The first rule that fits a reply at this stage.
pub fn rule(stage: Stage, reply: &Reply) -> Option<&'static Rule> {
    let text = without_addresses(&reply.text());
    RULES.iter().find(|rule| rule.fits(stage, reply.code, reply.enhanced, &text))
}

/// The text in lower case without the words that hold an `@`. Replies quote addresses, and a row
/// `blacklist@example.com` must not look like a listing and stop the route.
fn without_addresses(text: &str) -> String {
    let words = text.split(' ').filter(|word| !word.contains('@'));
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// Whether the parts of a phrase stand in the text one after the other, each as whole words.
fn says(text: &str, phrase: &str) -> bool {
    let mut rest = text;
    phrase.split('*').all(|part| match end_of(rest, part) {
        Some(end) => {
            rest = &rest[end..];
            true
        }
        None => false,
    })
}

/// Where the first occurrence of `part` ends that no letter or digit touches.
fn end_of(text: &str, part: &str) -> Option<usize> {
    let touches = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    text.match_indices(part).map(|(start, _)| (start, start + part.len())).find_map(
        |(start, end)| {
            let before = start.checked_sub(1).and_then(|at| text.as_bytes().get(at));
            (!touches(before) && !touches(text.as_bytes().get(end))).then_some(end)
        },
    )
}

use Stage::{Banner, Connect, Data, Dot, Ehlo, Mail, Rcpt};

const ANY: &[Stage] = &[Connect, Banner, Ehlo, Mail, Rcpt, Data, Dot];
/// Before a recipient was named, everything is about us.
const BEFORE_RCPT: &[Stage] = &[Connect, Banner, Ehlo, Mail];
const UP_TO_RCPT: &[Stage] = &[Connect, Banner, Ehlo, Mail, Rcpt];
const FROM_MAIL: &[Stage] = &[Mail, Rcpt, Data, Dot];
const FROM_RCPT: &[Stage] = &[Rcpt, Data, Dot];
const CONTENT: &[Stage] = &[Data, Dot];

const NEGATIVE: &[(u16, u16)] = &[(400, 599)];
const TRANSIENT: &[(u16, u16)] = &[(400, 499)];

const BUSY: &[&str] = &[
    "temporarily unavailable",
    "temporary server error",
    "service unavailable",
    "server busy",
    "insufficient system",
    "try again later",
    "upstream error",
];

/// The template of the rows below: matches nothing, decides nothing.
const ROW: Rule = Rule {
    name: "",
    stages: ANY,
    codes: NEGATIVE,
    statuses: &[],
    phrases: &[],
    class: Class::Other,
    scope: Scope::Recipient,
    action: None,
};

/// A row about us: the route rests, the message waits.
const fn about_us(name: &'static str, class: Class) -> Rule {
    Rule { name, class, scope: Scope::Receiver, action: Some(Action::Pause), ..ROW }
}

/// A row about this connection only.
const fn connection(name: &'static str, class: Class, action: Action) -> Rule {
    Rule { name, class, scope: Scope::Connection, action: Some(action), ..ROW }
}

/// A row about the message, refused or deferred as the code says.
const fn message(name: &'static str, class: Class) -> Rule {
    Rule { name, stages: CONTENT, class, scope: Scope::Message, ..ROW }
}

/// A row about the recipient, refused or deferred as the code says.
const fn recipient(name: &'static str, class: Class) -> Rule {
    Rule { name, stages: FROM_RCPT, class, scope: Scope::Recipient, ..ROW }
}

/// A row about the recipient that is retried even after 5yz.
const fn later(name: &'static str, class: Class) -> Rule {
    Rule { action: Some(Action::Retry), ..recipient(name, class) }
}

/// All rules, in the order in which they are tried.
pub static RULES: &[Rule] = &[
    // Limits: of a connection, of their number, of one mailbox.
    Rule {
        phrases: &[
            "per connection",
            "messages per session",
            "on this connection",
            "connection expired, try reconnecting",
        ],
        ..connection("connection-used-up", Class::RateLimited, Action::Reconnect)
    },
    Rule {
        // An idle connection that the receiver closed is no fault of the next message.
        stages: &[Mail],
        codes: &[(421, 421)],
        statuses: &[(4, 2, 2)],
        phrases: &["timeout", "timed out", "idle"],
        ..connection("connection-idle", Class::BadConnection, Action::Reconnect)
    },
    Rule {
        // RFC 3463 §3.4: "system not accepting network messages".
        codes: TRANSIENT,
        statuses: &[(3, 2, 2)],
        phrases: &["shutting down"],
        ..connection("not-accepting", Class::ServerBusy, Action::Retry)
    },
    Rule {
        phrases: &[
            "too many connections",
            "too many concurrent",
            "too many simultaneous",
            "trop de connexions",
            "maximum number of connections",
            "maximum number of concurrent connections",
            "connection limit",
            "concurrency limit",
        ],
        ..about_us("too-many-connections", Class::RateLimited)
    },
    Rule {
        statuses: &[(2, 121, 122)],
        phrases: &["exceeded their limit for*messages per hour"],
        ..later("mailbox-hourly-limit", Class::RateLimited)
    },
    Rule {
        phrases: &[
            "receiving mail too quickly",
            "receiving mail at a rate",
            "messages to*deferred due to excessive volume",
        ],
        ..recipient("mailbox-too-fast", Class::RateLimited)
    },
    Rule {
        phrases: &["organization queue quota exceeded"],
        ..later("organization-queue", Class::ServerBusy)
    },
    Rule {
        stages: &[Rcpt],
        statuses: &[(5, 3, 3)],
        phrases: &["too many recipients"],
        ..later("too-many-recipients", Class::RateLimited)
    },
    Rule {
        phrases: &["multiple destination domains per transaction"],
        ..connection("mixed-domains", Class::ProtocolErrors, Action::Retry)
    },
    // What is wrong with us: the campaign as a whole, authentication, lists, reputation, pace.
    Rule {
        phrases: &["same message-id"],
        ..about_us("message-id-repeated", Class::ProtocolErrors)
    },
    Rule {
        codes: TRANSIENT,
        phrases: &["your url domains", "nature of the content"],
        ..about_us("campaign-suspicious", Class::ContentRelated)
    },
    Rule {
        phrases: &["content with spam-like characteristics"],
        ..message("content-spam-like", Class::SpamRelated)
    },
    Rule {
        phrases: &["unusual rate of email", "unusual rate of mail", "frequency limited"],
        ..about_us("unusual-rate", Class::RateLimited)
    },
    Rule {
        // RFC 7372 registers 7.20 to 7.26, RFC 7505 7.27; Google and Microsoft use the others.
        statuses: &[
            (7, 20, 24),
            (7, 26, 27),
            (7, 30, 32),
            (7, 40, 40),
            (7, 509, 509),
            (7, 515, 515),
        ],
        phrases: &[
            "dmarc",
            "dkim",
            "spf",
            "unauthenticated",
            "not authenticated",
            "authentication required",
            "authentication level",
        ],
        ..about_us("authentication", Class::PolicyRelated)
    },
    Rule {
        statuses: &[(7, 25, 25)],
        phrases: &[
            "ptr record",
            "ptr resource record",
            "reverse dns",
            "reverse hostname",
            "rdns",
            "valid sender domain",
            "helo command rejected",
        ],
        ..about_us("host-name", Class::PolicyRelated)
    },
    Rule {
        // RFC 5248 registers 7.10 "encryption needed"; Google uses 7.29.
        statuses: &[(7, 10, 10), (7, 29, 29)],
        phrases: &["starttls", "tls connection", "tls required", "encryption required"],
        ..about_us("encryption", Class::PolicyRelated)
    },
    Rule {
        phrases: &[
            "spamhaus",
            "spamcop",
            "cloudmark",
            "barracudacentral",
            "ipcheck.proofpoint.com",
            "dnsbl",
            "rbl",
            "blocked using",
            "block list",
            "blocklist",
            "blocklisted",
            "blacklist",
            "blacklisted",
            "banned sending ip",
            "client host blocked",
            "host network not allowed",
            "namespace mining",
            "open proxy",
            "spams from your ip",
            "originating from your ip netblock",
            "unsolicited email originating from your ip",
            "unsolicited mail originating from your ip",
        ],
        ..about_us("listed", Class::SpamRelated)
    },
    Rule {
        phrases: &[
            "reputation",
            "user complaints",
            "unexpected volume",
            "message from*temporarily deferred",
            "messages from*temporarily deferred",
            "messages from*permanently deferred",
            "your mail from*deferred",
            "policy restrictions (ip based",
            "policy restrictions (domain based",
        ],
        ..about_us("reputation", Class::SpamRelated)
    },
    Rule {
        phrases: &[
            "rate limit",
            "rate limited",
            "too many messages",
            "too many e-mails",
            "too many emails",
            "sending limit",
            "daily limit",
            "throttled",
            "slow down",
        ],
        ..about_us("too-fast", Class::RateLimited)
    },
    Rule {
        // RFC 3463 §3.2: 1.7 and 1.8 are the sender's mailbox and system.
        stages: FROM_MAIL,
        statuses: &[(1, 7, 8)],
        phrases: &[
            "sender address rejected",
            "sender rejected",
            "sender verify failed",
            "domain of sender address",
            "unresolvable rfc.5321 from domain",
            "invalid dns mx or a/aaaa",
        ],
        ..about_us("sender", Class::InvalidSender)
    },
    Rule {
        codes: TRANSIENT,
        stages: ANY,
        phrases: &["greylist", "greylisted", "greylisting", "grey listed", "graylisted"],
        ..recipient("greylist", Class::Greylisted)
    },
    // What is wrong with the message.
    Rule {
        stages: FROM_MAIL,
        statuses: &[(3, 4, 4), (2, 3, 3)],
        phrases: &["message size", "header size", "message too large", "message too big"],
        ..message("too-large", Class::ContentRelated)
    },
    Rule {
        statuses: &[(6, 0, 999)],
        phrases: &[
            "rfc 5322",
            "rfc compliant",
            "valid message-id",
            "multiple addresses in from",
            "policy restrictions (header based",
            "bare newline",
            "bare lf",
        ],
        ..message("form", Class::ContentRelated)
    },
    Rule {
        phrases: &["virus", "malware", "infected"],
        ..message("malware", Class::ContentRelated)
    },
    Rule { phrases: &["spam", "unsolicited", "junk mail"], ..message("spam", Class::SpamRelated) },
    Rule {
        stages: UP_TO_RCPT,
        phrases: &["spam", "spamming", "spammer", "spammers", "unsolicited"],
        ..about_us("spammer", Class::SpamRelated)
    },
    // What is wrong with the recipient.
    Rule {
        phrases: &[
            "relay access denied",
            "relaying denied",
            "relay not permitted",
            "relaying not permitted",
            "unable to relay",
        ],
        ..recipient("relay", Class::RelayingIssues)
    },
    Rule {
        statuses: &[(4, 6, 6)],
        phrases: &["too many hops", "hop count exceeded", "mail loop", "unrouteable", "unroutable"],
        ..recipient("routing", Class::RoutingErrors)
    },
    Rule { statuses: &[(4, 7, 7)], ..recipient("expired-there", Class::MessageExpired) },
    Rule {
        phrases: &["disabled", "inactive", "suspended", "deactivated", "account has been closed"],
        ..recipient("inactive", Class::InactiveMailbox)
    },
    Rule {
        statuses: &[(2, 2, 2)],
        phrases: &[
            "over quota",
            "quota exceeded",
            "exceeded storage allocation",
            "out of storage",
            "mailbox full",
            "mailbox is full",
        ],
        ..recipient("quota", Class::QuotaIssues)
    },
    Rule {
        // RFC 3463 §3.2: 1.2 is the recipient's system.
        statuses: &[(1, 2, 2)],
        phrases: &["domain not found", "host unknown", "domain does not exist", "null mx"],
        ..recipient("bad-domain", Class::BadDomain)
    },
    Rule {
        statuses: &[(1, 1, 1), (1, 3, 3), (1, 6, 6), (1, 10, 10)],
        phrases: &[
            "user unknown",
            "unknown user",
            "user not found",
            "no such user",
            "no such recipient",
            "no such mailbox",
            "does not exist",
            "doesn't exist",
            "doesn't have a*account",
            "mailbox not found",
            "mailbox unavailable",
            "invalid recipient",
            "recipient unknown",
            "recipient not found",
            "recipient address rejected",
        ],
        ..recipient("bad-mailbox", Class::BadMailbox)
    },
    // The rest: a conversation out of step, a policy that names no cause, a busy receiver.
    Rule {
        stages: FROM_MAIL,
        codes: &[(500, 500), (502, 503)],
        statuses: &[(5, 0, 2)],
        phrases: &["bad sequence", "out of sequence", "unrecognized command", "syntax error"],
        ..connection("out-of-step", Class::ProtocolErrors, Action::Retry)
    },
    Rule {
        stages: BEFORE_RCPT,
        phrases: &["policy", "blocked", "denied", "not allowed"],
        ..about_us("policy-on-us", Class::PolicyRelated)
    },
    Rule {
        stages: &[Rcpt],
        phrases: &["policy", "blocked", "denied", "not allowed"],
        ..recipient("policy-on-recipient", Class::PolicyRelated)
    },
    Rule {
        phrases: &["policy", "blocked", "denied", "not allowed"],
        ..message("policy-on-message", Class::PolicyRelated)
    },
    Rule {
        stages: BEFORE_RCPT,
        codes: TRANSIENT,
        statuses: &[(3, 1, 1)],
        phrases: BUSY,
        ..connection("busy-with-us", Class::ServerBusy, Action::Retry)
    },
    Rule {
        codes: TRANSIENT,
        statuses: &[(3, 1, 1)],
        phrases: BUSY,
        ..recipient("busy", Class::ServerBusy)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_as_whole_words_in_order() {
        for (text, phrase, expected) in [
            ("listed by spamhaus.", "spamhaus", true),
            ("the spamhausx list", "spamhaus", false),
            ("marblehead rbl", "rbl", true),
            ("marblehead", "rbl", false),
            ("messages from 192.0.2.1 temporarily deferred", "messages from*deferred", true),
            ("deferred messages from 192.0.2.1", "messages from*deferred", false),
            ("", "spam", false),
            ("spam", "spam", true),
            ("\u{e9}spam\u{e9}", "spam", true),
            ("restrictions (ip based)", "restrictions (ip based", true),
        ] {
            assert_eq!(says(text, phrase), expected, "{phrase:?} in {text:?}");
        }
    }

    #[test]
    fn quoted_addresses_say_nothing() {
        assert_eq!(without_addresses("<Blacklist@spam.example>: User Unknown"), "user unknown");
        assert_eq!(without_addresses("a@b"), "");
    }

    #[test]
    fn no_phrase_and_no_status_is_hidden_by_an_earlier_rule() {
        for rule in RULES {
            for phrase in rule.phrases {
                let text = phrase.replace('*', " some ");
                assert!(reaches(rule, None, &text), "{}: {phrase:?} is hidden", rule.name);
            }
            for (subject, first, last) in rule.statuses {
                for detail in [*first, *last] {
                    let status = Some(Enhanced(4, *subject, detail));
                    assert!(reaches(rule, status, ""), "{}: {status:?} is hidden", rule.name);
                }
            }
        }
    }

    /// Whether the rule is the first to fit at each of its stages for one of its codes.
    fn reaches(rule: &Rule, status: Option<Enhanced>, text: &str) -> bool {
        rule.stages.iter().all(|stage| {
            rule.codes.iter().flat_map(|(first, last)| [*first, *last]).any(|code| {
                let found = RULES.iter().find(|other| other.fits(*stage, code, status, text));
                found.is_some_and(|found| std::ptr::eq(found, rule))
            })
        })
    }

    #[test]
    fn a_reply_about_us_bounces_nobody_and_one_about_a_recipient_stops_no_route() {
        for rule in RULES {
            let name = rule.name;
            match rule.scope {
                Scope::Receiver => assert_eq!(rule.action, Some(Action::Pause), "{name}"),
                Scope::Connection => assert!(
                    matches!(rule.action, Some(Action::Retry | Action::Reconnect)),
                    "{name}"
                ),
                Scope::Recipient | Scope::Message => {
                    assert!(matches!(rule.action, None | Some(Action::Retry)), "{name}");
                }
            }
            assert!(!rule.phrases.is_empty() || !rule.statuses.is_empty(), "{name} fits nothing");
            assert!(rule.phrases.iter().all(|phrase| *phrase == phrase.to_lowercase()), "{name}");
            assert_eq!(RULES.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
    }
}
