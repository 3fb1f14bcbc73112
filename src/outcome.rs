//! outcome — the words for what became of a message: one [`Outcome`] per attempt, as the ledger
//! keeps it.
//!
//! The stages share these values and nothing else: `deliver` makes them, the ledger stores them,
//! `account` reads them back. Nothing here decides anything; `smtp::verdict` decides. The numbers
//! of the enums are on disk: they are only ever added to.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::units::Utc;

/// The ordinal of a data row in the recipient list, the header not counted; the first row is 1.
///
/// `(run, Row)` is the key of a message everywhere: Message-ID, return path, ledger, Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u32);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes an enum whose values are numbers on disk and words in Parquet.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident = $number:literal $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number),+ }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word for it in Parquet, reports and JSON.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value with this number on disk, if there is one.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

pub(crate) use numbered;

numbered! {
    /// What an attempt ended in.
    Kind {
        /// The receiver took responsibility: 2yz after the final dot (RFC 5321 §4.2.5).
        Delivered = 1 "delivered",
        /// Not now; another attempt is due.
        Deferred = 2 "deferred",
        /// Refused for good by the receiver.
        Bounced = 3 "bounced",
        /// Deferred until its time (`expire_after`) or its retry schedule ran out.
        Expired = 4 "expired",
        /// The body may have arrived, the final reply was lost; held, not resent (RFC 1047
        /// describes the case).
        InDoubt = 5 "in_doubt",
        /// This row cannot be made into a message; nothing was sent. Counts as an exclusion.
        Failed = 6 "failed",
        /// The operator ended the run before its turn came; nothing was sent, or nothing was
        /// accepted.
        Cancelled = 7 "cancelled",
    }
}

impl Kind {
    /// Whether no further attempt follows.
    pub fn is_final(self) -> bool {
        self != Kind::Deferred
    }
}

numbered! {
    /// Where in the conversation an attempt ended.
    Stage {
        /// Rendering, building, signing: before any connection.
        Local = 0 "local",
        /// TCP connect.
        Connect = 1 "connect",
        /// The 220 greeting.
        Banner = 2 "banner",
        /// EHLO or HELO.
        Ehlo = 3 "ehlo",
        /// MAIL FROM.
        Mail = 4 "mail",
        /// RCPT TO.
        Rcpt = 5 "rcpt",
        /// DATA and the 354.
        Data = 6 "data",
        /// The message itself and the reply to its final dot.
        Dot = 7 "dot",
        /// QUIT.
        Quit = 8 "quit",
    }
}

numbered! {
    /// What a reply or a failure is about, in the words of PowerMTA's bounce categories.
    Class {
        /// Nothing went wrong.
        None = 0 "none",
        /// The mailbox does not exist.
        BadMailbox = 1 "bad-mailbox",
        /// The mailbox is disabled or expired.
        InactiveMailbox = 2 "inactive-mailbox",
        /// The mailbox is full.
        QuotaIssues = 3 "quota-issues",
        /// Refused as spam, or our address is listed.
        SpamRelated = 4 "spam-related",
        /// Blocked by a policy.
        PolicyRelated = 5 "policy-related",
        /// The content, its size or its form is refused.
        ContentRelated = 6 "content-related",
        /// Relaying denied.
        RelayingIssues = 7 "relaying-issues",
        /// Mail loop or no route.
        RoutingErrors = 8 "routing-errors",
        /// The domain does not exist or takes no mail.
        BadDomain = 9 "bad-domain",
        /// Our sender address is refused.
        InvalidSender = 10 "invalid-sender",
        /// Syntax or sequence errors.
        ProtocolErrors = 11 "protocol-errors",
        /// The receiver is misconfigured.
        BadConfiguration = 12 "bad-configuration",
        /// The connection was refused, reset or lost.
        BadConnection = 13 "bad-connection",
        /// No answer within the time limit.
        NoAnswerFromHost = 14 "no-answer-from-host",
        /// `expire_after` passed.
        MessageExpired = 15 "message-expired",
        /// Too many connections or messages; slow down.
        RateLimited = 16 "rate-limited",
        /// The greylist asks to come back.
        Greylisted = 17 "greylisted",
        /// The receiver has trouble of its own.
        ServerBusy = 18 "server-busy",
        /// Rendering or building the message failed here.
        RenderError = 19 "render-error",
        /// None of the above could be told.
        Other = 20 "other",
    }
}

numbered! {
    /// What keeps the messages of a group waiting; the limit in force when an attempt began.
    Binding {
        /// Nothing: it goes as fast as it comes.
        Nothing = 0 "nothing",
        /// The rate of one source at the provider.
        Rate = 1 "rate",
        /// The rate of all sources at the provider together.
        RateTotal = 2 "rate_total",
        /// The connections of one source to the provider.
        Connections = 3 "connections",
        /// The connections of all sources to the provider together.
        ConnectionsTotal = 4 "connections_total",
        /// The run's own ceiling over all providers.
        Ceiling = 5 "ceiling",
        /// The warm-up of the sources: the day's or the hour's share is used up.
        WarmUp = 6 "warm_up",
        /// A pause that the provider's replies demanded.
        Pause = 7 "pause",
        /// A stop until somebody acts.
        Halt = 8 "halt",
        /// Rendering and signing do not keep up.
        Preparation = 9 "preparation",
        /// The receiver cannot be reached.
        Unreachable = 10 "unreachable",
        /// Only retries are left, and none is due.
        Retry = 11 "retry",
    }
}

/// An enhanced status code: class, subject, detail (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The connection that an attempt used, as far as it got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The connection's number within the run, from 1; 0 when there was none.
    pub key: u64,
    /// Which message of its connection this was, from 1; 0 before the first.
    pub message_index: u32,
    /// The receiver's address.
    pub remote: Option<IpAddr>,
    /// Our address on that connection.
    pub source: Option<IpAddr>,
    /// How long the TCP connect took.
    pub connect: Duration,
}

/// One attempt of one message and what came of it: everything that accounting will ever know about
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Which message.
    pub row: Row,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// What it ended in.
    pub kind: Kind,
    /// Where it ended.
    pub stage: Stage,
    /// What the failure was about.
    pub class: Class,
    /// When it ended.
    pub time: Utc,
    /// When the message was rendered for this attempt.
    pub spooled: Utc,
    /// When the first attempt began.
    pub first_attempt: Utc,
    /// When the next attempt is due; `Some` exactly for [`Kind::Deferred`].
    pub next_attempt: Option<Utc>,
    /// The final reply's code, 0 if there was no reply.
    pub smtp_code: u16,
    /// The final reply's enhanced status code.
    pub enhanced: Option<Enhanced>,
    /// The connection.
    pub session: Session,
    /// From MAIL FROM to the end of the attempt.
    pub took: Duration,
    /// How long the message lay ready in the spool before its MAIL FROM, waiting for rate and
    /// connections.
    pub waited: Duration,
    /// From the first octet of the message to its final reply.
    pub data: Duration,
    /// Octets of the message as sent, without the final dot.
    pub size: u32,
    /// The receiver's host name, as routed.
    pub host: &'a str,
    /// The group of mail hosts whose limits held: the provider's name, or that of its first host.
    pub provider: &'a str,
    /// The rule that judged the reply; empty when none did.
    pub rule: &'a str,
    /// The limit for which the message had waited last.
    pub limit: Binding,
    /// The final reply's text (lines joined by a blank), or our own words for a failure without a
    /// reply. UTF-8, at most [`crate::limits::RESPONSE_TEXT_MAX`] octets.
    pub response: &'a str,
}

impl<'a> Outcome<'a> {
    /// An end that needed no connection: nothing was sent, and no host took part.
    pub fn unconnected(
        (row, attempt): (Row, u16),
        (kind, class): (Kind, Class),
        (time, first_attempt): (Utc, Utc),
        response: &'a str,
    ) -> Outcome<'a> {
        Outcome {
            row,
            attempt,
            kind,
            stage: Stage::Local,
            class,
            time,
            spooled: time,
            first_attempt,
            next_attempt: None,
            smtp_code: 0,
            enhanced: None,
            session: Session::default(),
            took: Duration::ZERO,
            waited: Duration::ZERO,
            data: Duration::ZERO,
            size: 0,
            host: "",
            provider: "",
            rule: "",
            limit: Binding::Nothing,
            response: clipped(response),
        }
    }
}

/// The beginning of a text, as much as a record keeps: at most
/// [`crate::limits::RESPONSE_TEXT_MAX`] octets, cut between two characters.
pub fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(crate::limits::RESPONSE_TEXT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(clipped("short"), "short");
        let long = "ü".repeat(300);
        assert_eq!(clipped(&long).len(), 512);
        assert_eq!(clipped(&format!("x{long}")).len(), 511);
    }

    #[test]
    fn numbers_on_disk_come_back_as_their_values() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(*kind as u8), Some(*kind));
        }
        for stage in Stage::ALL {
            assert_eq!(Stage::from_number(*stage as u8), Some(*stage));
        }
        for class in Class::ALL {
            assert_eq!(Class::from_number(*class as u8), Some(*class));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Class::from_number(255), None);
    }
}
