//! verdict — what a receiver's reply, or its silence, means for the message and for all others.
//!
//! All meaning of remote behaviour is here and in the table of [`rules`](super::rules). [`judge`]
//! takes a reply, [`judge_failure`] a connection that ended without one; both answer with what it
//! is about ([`Scope`]) and what to do ([`Action`]). They cannot fail: what nobody foresaw is
//! judged by stage and code.
//!
//! The law, which no rules file can break: a reply about *us* (address, name, signature, pace)
//! never suppresses a recipient, a reply about a *recipient* never slows a provider. Hence the
//! stage decides where the text does not:
//!
//! | stage | 4yz | 5yz |
//! |---|---|---|
//! | greeting, EHLO | this connection: retry | the receiver refuses us: pause |
//! | MAIL | this connection: retry | the receiver refuses our sender: pause |
//! | RCPT | this recipient: retry | this recipient: fail |
//! | DATA, final dot | this message: retry | this message: fail |
//!
//! A 5yz to MAIL is not a bounce although RFC 5321 would allow one. Every message of a campaign has
//! the same sender domain, so such a reply would fail the receiver's whole share of the list within
//! seconds and for a reason that is ours (a missing MX, a listed address). Deferred, the share
//! waits until somebody mends it, and at the worst expires: a record that accuses no recipient.
//!
//! It must not know retry times or how a pause is carried out. Providers are names to it: only the
//! rules file gives them a meaning.

use std::time::Duration;

use super::reply::{Reply, ReplyFault};
use super::rules::{RuleNo, Rules};

use crate::outcome::{Class, Enhanced, Stage};

/// What a reply or failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The category, as it is recorded.
    pub class: Class,
    /// What it is about.
    pub scope: Scope,
    /// What to do.
    pub action: Action,
    /// The rule that decided; `None` when stage and code did.
    pub rule: Option<RuleNo>,
}

/// What a verdict is about, and so what must be left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This recipient. The connection and all others go on.
    Recipient,
    /// This message: its content, size or form.
    Message,
    /// This connection: it is used up, broken or out of step, and must be closed.
    Connection,
    /// The recipient's domain, at a provider that has others.
    Domain,
    /// Our source at this provider: everything from it to this provider would get the same answer.
    SourceAtProvider,
    /// Our signing, From or return path domain at this provider.
    DomainAtProvider,
    /// This campaign at this provider: its content, its links.
    CampaignAtProvider,
    /// The provider, whoever sends.
    Provider,
    /// Our source, wherever it sends to: its name in DNS, its place on a list.
    Source,
    /// This campaign, wherever it goes: its form is broken.
    Campaign,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Go on; after the final dot, the message is delivered.
    Accept,
    /// Defer this recipient by its retry schedule.
    Retry,
    /// Give up this recipient for good.
    Fail,
    /// Put the message back at the head of the queue, no attempt counted, and go on with a new
    /// connection. See [`Verdict::for_message`].
    Reconnect,
    /// Never mail this address again; the message has failed.
    Suppress,
    /// Halve the pace and the connections of the scope; the message is deferred.
    Slow,
    /// Stop the scope for at least this time, then probe with one connection; the message is
    /// deferred.
    Pause(Duration),
    /// Stop the scope until somebody has mended the cause; the message is kept for then.
    Halt,
    /// The message may have arrived and nobody can tell (RFC 1047): neither delivered nor to be
    /// sent again without a decision.
    Doubt,
}

impl Verdict {
    /// Go on.
    pub const ACCEPT: Verdict = verdict(Class::None, Scope::Message, Action::Accept);

    /// The verdict as it holds for the `index`-th message of its connection, from 1.
    ///
    /// A receiver may close a connection on which it took messages (Yahoo does so after about 20,
    /// without a word); that costs the next message nothing. On the first message it counts as an
    /// attempt, or a receiver that always closes would be called for ever.
    pub fn for_message(self, index: u32) -> Verdict {
        match self.action {
            Action::Reconnect if index <= 1 => Verdict { action: Action::Retry, ..self },
            _ => self,
        }
    }
}

/// A connection or transaction that ended without a reply to judge. Its `Display` is what is
/// recorded in place of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The host refused the connection (ECONNREFUSED).
    #[error("the connection was refused")]
    Refused,
    /// No way to the host (ENETUNREACH, EHOSTUNREACH and their like).
    #[error("the host cannot be reached")]
    Unreachable,
    /// The connection was reset (ECONNRESET, EPIPE).
    #[error("the receiver reset the connection")]
    Reset,
    /// The receiver closed the connection without a reply.
    #[error("the receiver closed the connection without a reply")]
    ClosedByPeer,
    /// The stage's time limit passed.
    #[error("no answer within the time limit")]
    TimedOut,
    /// What came is no reply.
    #[error("not an SMTP reply: {0}")]
    Garbage(ReplyFault),
    /// A reply came that no command had asked for; which one answers what is unknown from here on.
    #[error("the receiver sent a reply to no command")]
    OutOfTurn,
    /// The message is larger than the announced SIZE (RFC 1870 §6.1); it was not offered.
    #[error("the message is larger than the receiver's announced limit")]
    TooLarge,
    /// The address needs SMTPUTF8 (RFC 6531 §3.2), which the receiver lacks; it was not offered.
    #[error("the address needs SMTPUTF8, which the receiver does not offer")]
    NeedsSmtpUtf8,
}

/// What a reply means at this stage. `provider` is the receiver's name in the rate table, or empty
/// when it has none there; then only the rules that hold for all may decide.
///
/// A reply for which [`Reply::is_closing`] holds ends the connection besides, whatever the scope.
pub fn judge(rules: &Rules, provider: &str, stage: Stage, reply: &Reply) -> Verdict {
    if is_expected(stage, reply) {
        return Verdict::ACCEPT;
    }
    if !reply.is_transient() && !reply.is_permanent() {
        return out_of_step(stage, Class::ProtocolErrors);
    }
    rules.verdict(provider, stage, reply).unwrap_or_else(|| by_stage(stage, reply))
}

/// What a failure means at this stage.
///
/// [`Stage::Dot`] stands here for "the final dot, or the last BDAT chunk, went to the kernel"; a
/// loss earlier, also in the middle of the message, is one at [`Stage::Data`]: without its end no
/// receiver may take the message (RFC 5321 §4.1.1.4).
pub fn judge_failure(stage: Stage, failure: Failure) -> Verdict {
    if stage == Stage::Quit {
        return Verdict::ACCEPT;
    }
    match failure {
        Failure::TooLarge => verdict(Class::ContentRelated, Scope::Message, Action::Fail),
        Failure::NeedsSmtpUtf8 => verdict(Class::BadConfiguration, Scope::Recipient, Action::Fail),
        Failure::Garbage(_) | Failure::OutOfTurn => out_of_step(stage, Class::ProtocolErrors),
        Failure::TimedOut => out_of_step(stage, Class::NoAnswerFromHost),
        Failure::Reset | Failure::ClosedByPeer if stage == Stage::Mail => {
            verdict(Class::BadConnection, Scope::Connection, Action::Reconnect)
        }
        Failure::Refused | Failure::Unreachable | Failure::Reset | Failure::ClosedByPeer => {
            out_of_step(stage, Class::BadConnection)
        }
    }
}

const fn verdict(class: Class, scope: Scope, action: Action) -> Verdict {
    Verdict { class, scope, action, rule: None }
}

/// Whether the reply is the one that lets the conversation go on.
fn is_expected(stage: Stage, reply: &Reply) -> bool {
    match stage {
        Stage::Quit => true,
        Stage::Data => reply.is_intermediate(),
        _ => reply.is_positive(),
    }
}

/// The connection can no longer be followed. After the final dot this leaves the message in doubt:
/// whatever was unreadable may have been its 250.
fn out_of_step(stage: Stage, class: Class) -> Verdict {
    let action = if stage == Stage::Dot { Action::Doubt } else { Action::Retry };
    verdict(class, Scope::Connection, action)
}

/// What a negative reply that no rule knows means, by the table in the head of this file.
fn by_stage(stage: Stage, reply: &Reply) -> Verdict {
    let class = class_of(reply).unwrap_or(match stage {
        Stage::Local | Stage::Connect | Stage::Banner | Stage::Ehlo => Class::PolicyRelated,
        Stage::Mail => Class::InvalidSender,
        _ => Class::Other,
    });
    if reply.code == 421 {
        return verdict(class, Scope::Connection, Action::Retry);
    }
    match (stage, reply.is_permanent()) {
        (Stage::Rcpt, true) => verdict(class, Scope::Recipient, Action::Fail),
        (Stage::Rcpt, false) => verdict(class, Scope::Recipient, Action::Retry),
        (Stage::Data | Stage::Dot | Stage::Quit, true) => {
            verdict(class, Scope::Message, Action::Fail)
        }
        (Stage::Data | Stage::Dot | Stage::Quit, false) => {
            verdict(class, Scope::Message, Action::Retry)
        }
        (_, true) => verdict(class, Scope::SourceAtProvider, Action::Pause(Duration::ZERO)),
        (_, false) => verdict(class, Scope::Connection, Action::Retry),
    }
}

/// The class that the enhanced status code names, else the code; `None` when neither says.
fn class_of(reply: &Reply) -> Option<Class> {
    reply.enhanced.and_then(class_of_status).or(match reply.code {
        421 | 451 | 452 => Some(Class::ServerBusy),
        500..=504 | 555 => Some(Class::ProtocolErrors),
        530 => Some(Class::PolicyRelated),
        552 => Some(Class::QuotaIssues),
        // RFC 7504: the host takes no mail at all, the domain takes none.
        521 | 556 => Some(Class::BadDomain),
        _ => None,
    })
}

/// RFC 3463 §3: subject and detail; the class is the code's business. `None` for the undefined
/// ones.
fn class_of_status(Enhanced(_, subject, detail): Enhanced) -> Option<Class> {
    Some(match (subject, detail) {
        (1, 2) => Class::BadDomain,
        (1, 7 | 8) => Class::InvalidSender,
        (1, 1..) => Class::BadMailbox,
        (2, 1) => Class::InactiveMailbox,
        (2, 2) => Class::QuotaIssues,
        (2, 3) | (3, 4) | (6, _) => Class::ContentRelated,
        (3, 3 | 5) => Class::BadConfiguration,
        (3, _) | (4, 5) => Class::ServerBusy,
        (4, 1) => Class::NoAnswerFromHost,
        (4, 2) => Class::BadConnection,
        (4, 3 | 4 | 6) => Class::RoutingErrors,
        (4, 7) => Class::MessageExpired,
        (5, _) => Class::ProtocolErrors,
        (7, _) => Class::PolicyRelated,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;

    const STAGES: [Stage; 8] = [
        Stage::Connect,
        Stage::Banner,
        Stage::Ehlo,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Dot,
        Stage::Quit,
    ];

    fn reply(line: &str) -> Reply {
        let line = format!("{line}\r\n");
        ReplyParser::new().feed(&mut line.as_bytes()).unwrap().unwrap()
    }

    fn scope_and_action(stage: Stage, line: &str) -> (Scope, Action) {
        let it = judge(Rules::shipped(), "", stage, &reply(line));
        (it.scope, it.action)
    }

    #[test]
    fn a_reply_without_words_is_judged_by_its_stage() {
        use {Action::*, Scope::*};
        for (stage, on_4yz, on_5yz) in [
            (Stage::Banner, (Connection, Retry), (SourceAtProvider, Pause(Duration::ZERO))),
            (Stage::Ehlo, (Connection, Retry), (SourceAtProvider, Pause(Duration::ZERO))),
            (Stage::Mail, (Connection, Retry), (SourceAtProvider, Pause(Duration::ZERO))),
            (Stage::Rcpt, (Recipient, Retry), (Recipient, Fail)),
            (Stage::Data, (Message, Retry), (Message, Fail)),
            (Stage::Dot, (Message, Retry), (Message, Fail)),
        ] {
            assert_eq!(scope_and_action(stage, "450"), on_4yz, "{stage:?}");
            assert_eq!(scope_and_action(stage, "470 x"), on_4yz, "{stage:?}");
            assert_eq!(scope_and_action(stage, "550"), on_5yz, "{stage:?}");
            assert_eq!(scope_and_action(stage, "585 x"), on_5yz, "{stage:?}");
            assert_eq!(scope_and_action(stage, "421"), (Connection, Retry), "{stage:?}");
        }
    }

    #[test]
    fn the_expected_reply_is_accepted_and_any_other_is_out_of_step() {
        for stage in STAGES {
            for code in ["199", "250", "299", "354", "650", "000"] {
                let expected = match (stage, code) {
                    (Stage::Quit, _) | (Stage::Data, "354") => Action::Accept,
                    (Stage::Data, _) => Action::Retry,
                    (_, "250" | "299") => Action::Accept,
                    (Stage::Dot, _) => Action::Doubt,
                    _ => Action::Retry,
                };
                assert_eq!(
                    judge(Rules::shipped(), "", stage, &reply(code)).action,
                    expected,
                    "{code} at {stage:?}"
                );
            }
        }
    }

    #[test]
    fn only_what_was_lost_after_the_dot_is_in_doubt() {
        let losses = [
            (Failure::Refused, Class::BadConnection),
            (Failure::Unreachable, Class::BadConnection),
            (Failure::Reset, Class::BadConnection),
            (Failure::ClosedByPeer, Class::BadConnection),
            (Failure::TimedOut, Class::NoAnswerFromHost),
            (Failure::Garbage(ReplyFault::TooManyLines), Class::ProtocolErrors),
            (Failure::OutOfTurn, Class::ProtocolErrors),
        ];
        for (failure, class) in losses {
            for stage in STAGES {
                let closed = matches!(failure, Failure::Reset | Failure::ClosedByPeer);
                let expected = match stage {
                    Stage::Quit => Verdict::ACCEPT,
                    Stage::Dot => verdict(class, Scope::Connection, Action::Doubt),
                    Stage::Mail if closed => verdict(class, Scope::Connection, Action::Reconnect),
                    _ => verdict(class, Scope::Connection, Action::Retry),
                };
                assert_eq!(judge_failure(stage, failure), expected, "{failure} at {stage:?}");
            }
        }
    }

    #[test]
    fn what_was_not_offered_fails_without_touching_the_connection() {
        let too_large = verdict(Class::ContentRelated, Scope::Message, Action::Fail);
        assert_eq!(judge_failure(Stage::Mail, Failure::TooLarge), too_large);
        let no_utf8 = verdict(Class::BadConfiguration, Scope::Recipient, Action::Fail);
        assert_eq!(judge_failure(Stage::Mail, Failure::NeedsSmtpUtf8), no_utf8);
    }

    #[test]
    fn reconnecting_is_free_only_after_the_first_message() {
        let closed = judge_failure(Stage::Mail, Failure::ClosedByPeer);
        assert_eq!(closed.for_message(20), closed);
        assert_eq!(closed.for_message(1), Verdict { action: Action::Retry, ..closed });
        assert_eq!(Verdict::ACCEPT.for_message(1), Verdict::ACCEPT);
    }

    #[test]
    fn statuses_name_classes_where_no_rule_does() {
        for (stage, line, class) in [
            (Stage::Rcpt, "550 5.1.0 x", Class::Other),
            (Stage::Rcpt, "550 5.1.4 x", Class::BadMailbox),
            (Stage::Rcpt, "550 5.2.1 x", Class::InactiveMailbox),
            (Stage::Rcpt, "450 4.3.0 x", Class::ServerBusy),
            (Stage::Rcpt, "550 5.3.5 x", Class::BadConfiguration),
            (Stage::Rcpt, "450 4.4.1 x", Class::NoAnswerFromHost),
            (Stage::Rcpt, "450 4.4.2 x", Class::BadConnection),
            (Stage::Rcpt, "450 4.4.3 x", Class::RoutingErrors),
            (Stage::Rcpt, "501 5.5.4 x", Class::ProtocolErrors),
            (Stage::Rcpt, "553 5.6.7 x", Class::ContentRelated),
            (Stage::Rcpt, "550 5.7.1 x", Class::PolicyRelated),
            (Stage::Rcpt, "552 x", Class::QuotaIssues),
            (Stage::Rcpt, "556 x", Class::BadDomain),
            (Stage::Mail, "553 x", Class::InvalidSender),
            (Stage::Mail, "530 x", Class::PolicyRelated),
            (Stage::Banner, "554 x", Class::PolicyRelated),
            (Stage::Dot, "550 5.0.0 x", Class::Other),
        ] {
            assert_eq!(
                judge(Rules::shipped(), "", stage, &reply(line)).class,
                class,
                "{line} at {stage:?}"
            );
        }
    }

    #[test]
    fn an_address_that_reads_like_a_listing_stops_no_route() {
        let line = "550 5.1.1 <spamhaus.blacklist@dkim.example>: Recipient address rejected: x";
        let it = judge(Rules::shipped(), "", Stage::Rcpt, &reply(line));
        assert_eq!((it.scope, it.action), (Scope::Recipient, Action::Suppress));
        assert_eq!(it.rule.map(|rule| Rules::shipped().name(rule)), Some("bad-mailbox"));
    }
}
