//! cause — why a receiver says no, in the words of the rules file, and what a rule may do about it.
//!
//! One law stands above the table: a reply about *us* never suppresses a recipient, and one about a
//! *recipient* never slows a provider. [`Cause::about`] divides the causes for it, and
//! [`objections`] is the law; the parser refuses every rule that has one, so that no file can
//! break it.

use crate::outcome::{Class, Stage};
use crate::smtp::verdict::{Action, Scope};

use super::Deed;

/// Why a receiver says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too many connections, or too many messages on one.
    RateConn,
    /// Too many messages from us.
    RateMsg,
    /// Too many messages to this mailbox.
    RateRcpt,
    /// The reputation of our address.
    RepIp,
    /// The reputation of our domain.
    RepDom,
    /// A block list.
    Listed,
    /// What the message says or links to.
    Content,
    /// SPF, DKIM or DMARC.
    Auth,
    /// Our name in DNS: PTR, HELO.
    Dns,
    /// A connection without TLS.
    Tls,
    /// The mailbox does not exist.
    BadRcpt,
    /// The mailbox is disabled or abandoned.
    Inactive,
    /// The mailbox is full.
    Quota,
    /// A rule of the recipient or of its administrator.
    PolicyRcpt,
    /// Our own error in the protocol.
    Proto,
    /// A message that is malformed or too large.
    Msg,
    /// Not now, because it does not know us yet.
    Grey,
    /// The receiver has trouble of its own.
    Outage,
    /// The recipient's domain takes no mail.
    BadDom,
    /// Our sender's domain does not exist or takes no mail.
    Sender,
}

/// Whom a cause concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The sending side.
    Us,
    /// The recipient or its domain.
    Recipient,
    /// The receiver itself, which may spare anybody or everybody.
    Receiver,
}

use About::{Receiver, Recipient, Us};

/// Each cause, its word in the file, whom it concerns, and its usual bounce category.
const CAUSES: &[(Cause, &str, About, Class)] = &[
    (Cause::RateConn, "rate-conn", Us, Class::RateLimited),
    (Cause::RateMsg, "rate-msg", Us, Class::RateLimited),
    (Cause::RateRcpt, "rate-rcpt", Recipient, Class::RateLimited),
    (Cause::RepIp, "rep-ip", Us, Class::SpamRelated),
    (Cause::RepDom, "rep-dom", Us, Class::SpamRelated),
    (Cause::Listed, "listed", Us, Class::SpamRelated),
    (Cause::Content, "content", Us, Class::ContentRelated),
    (Cause::Auth, "auth", Us, Class::PolicyRelated),
    (Cause::Dns, "dns", Us, Class::PolicyRelated),
    (Cause::Tls, "tls", Us, Class::PolicyRelated),
    (Cause::BadRcpt, "badrcpt", Recipient, Class::BadMailbox),
    (Cause::Inactive, "inactive", Recipient, Class::InactiveMailbox),
    (Cause::Quota, "quota", Recipient, Class::QuotaIssues),
    (Cause::PolicyRcpt, "policy-rcpt", Recipient, Class::PolicyRelated),
    (Cause::Proto, "proto", Us, Class::ProtocolErrors),
    (Cause::Msg, "msg", Us, Class::ContentRelated),
    (Cause::Grey, "grey", Receiver, Class::Greylisted),
    (Cause::Outage, "outage", Receiver, Class::ServerBusy),
    (Cause::BadDom, "baddom", Recipient, Class::BadDomain),
    (Cause::Sender, "sender", Us, Class::InvalidSender),
];

impl Cause {
    /// All words, in the order of the documentation.
    pub fn words() -> impl Iterator<Item = &'static str> {
        CAUSES.iter().map(|row| row.1)
    }

    /// The cause with this word.
    pub fn from_word(word: &str) -> Option<Cause> {
        CAUSES.iter().find(|row| row.1 == word).map(|row| row.0)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    /// Whom it concerns.
    pub fn about(self) -> About {
        self.row().2
    }

    /// The category that PowerMTA's users expect for it.
    pub(super) fn class(self) -> Class {
        self.row().3
    }

    fn row(self) -> &'static (Cause, &'static str, About, Class) {
        CAUSES.iter().find(|row| row.0 == self).expect("the table has every cause")
    }
}

/// What speaks against a rule with this cause, scope, action and stages: the law as sentences.
pub(super) fn objections(
    cause: Cause,
    scope: Scope,
    deed: Deed,
    stages: &[Stage],
) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let word = cause.word();
    let narrow = matches!(scope, Scope::Recipient | Scope::Domain);
    let within = matches!(scope, Scope::Recipient | Scope::Message | Scope::Connection);
    let early = stages.iter().any(|stage| (*stage as u8) < Stage::Rcpt as u8);
    if cause.about() == Recipient && !narrow {
        found.push((
            format!("{word} is about a recipient and may not stop anything else"),
            "its scope must be \"recipient\" or \"domain\"",
        ));
    }
    if cause.about() == Recipient && early {
        found.push((
            format!("{word} is about a recipient, but at some of the stages none was named yet"),
            "its stages must be from \"rcpt\" on",
        ));
    }
    match deed {
        Deed::Always(Action::Suppress) if !matches!(cause, Cause::BadRcpt | Cause::Inactive) => {
            found.push((
                format!("{word} does not show that the mailbox is gone"),
                "only badrcpt and inactive may suppress; write \"fail\"",
            ));
        }
        Deed::Always(Action::Pause(_) | Action::Slow | Action::Halt) => {
            if cause.about() == Recipient {
                found.push((
                    format!("{word} is about a recipient and may not slow anything"),
                    "its action must be \"retry\", \"fail\", \"suppress\" or \"by-code\"",
                ));
            }
            if within {
                found.push((
                    "nothing can be stopped or slowed within a connection".to_owned(),
                    "the scope of pause, slow and halt must be wider than \"connection\"",
                ));
            }
        }
        Deed::Always(Action::Reconnect) if scope != Scope::Connection => found.push((
            "only a connection can be made anew".to_owned(),
            "the scope of \"reconnect\" must be \"connection\"",
        )),
        Deed::ByCode | Deed::Always(Action::Fail) => {
            if scope == Scope::Connection {
                found.push((
                    "the end of a connection does not decide a message".to_owned(),
                    "with scope \"connection\", the action must be \"retry\" or \"reconnect\"",
                ));
            }
            if early && cause != Cause::Msg {
                found.push((
                    "before a recipient was named, everything would fail for one cause".to_owned(),
                    "only msg may fail before \"rcpt\"; name later stages or \"pause\"",
                ));
            }
        }
        Deed::Always(_) => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_cause_has_one_word_that_leads_back_to_it() {
        for word in Cause::words() {
            assert_eq!(Cause::from_word(word).map(Cause::word), Some(word));
        }
        assert_eq!((Cause::words().count(), Cause::from_word("spam")), (20, None));
    }

    #[test]
    fn the_law_is_kept_for_every_combination() {
        use Scope::*;
        let scopes = [
            Scope::Recipient,
            Message,
            Connection,
            Domain,
            SourceAtProvider,
            DomainAtProvider,
            CampaignAtProvider,
            Provider,
            Source,
            Campaign,
        ];
        let pause = Action::Pause(Duration::ZERO);
        let deeds = [Action::Retry, Action::Fail, Action::Suppress, Action::Reconnect]
            .into_iter()
            .chain([Action::Slow, pause, Action::Halt])
            .map(Deed::Always)
            .chain([Deed::ByCode]);
        let mut allowed = 0;
        for deed in deeds {
            for (cause, _, about, _) in CAUSES {
                for scope in scopes {
                    if !objections(*cause, scope, deed, &[Stage::Rcpt]).is_empty() {
                        continue;
                    }
                    allowed += 1;
                    let slows = matches!(
                        deed,
                        Deed::Always(Action::Slow | Action::Pause(_) | Action::Halt)
                    );
                    assert!(!(slows && *about == About::Recipient), "{cause:?} slows");
                    let suppresses = deed == Deed::Always(Action::Suppress);
                    assert!(!suppresses || matches!(scope, Scope::Recipient | Domain));
                    assert!(!suppresses || *about == About::Recipient, "{cause:?} suppresses");
                }
            }
        }
        assert!(allowed > 300, "{allowed}");
    }

    #[test]
    fn before_rcpt_nothing_about_a_recipient_can_be_said() {
        let at_mail = |cause, deed| objections(cause, Scope::Recipient, deed, &[Stage::Mail]).len();
        assert_eq!(at_mail(Cause::Quota, Deed::Always(Action::Retry)), 1);
        assert_eq!(at_mail(Cause::Listed, Deed::ByCode), 1);
        assert_eq!(at_mail(Cause::Msg, Deed::ByCode), 0);
    }
}
