//! bounce — what a class of failure asks of the list's owner, in four words.
//!
//! The classes say what happened; an analyst who decides what to do with an address or with a
//! campaign needs less. The mapping follows SparkPost's "Bounce Classification Codes", whose
//! categories are Hard, Soft and Block; what is refused for a rule about the sender is split from
//! Block as `policy`, because it is mended at the sender's DNS and not by sending less.

use crate::outcome::Class;

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BounceKind {
    /// The address is dead: suppress it.
    Hard,
    /// The receiver or the mailbox has trouble that passes: try another time.
    Soft,
    /// Our reputation or our content is refused: look at what is sent, how fast and to whom.
    Block,
    /// A rule about the sender is broken (authentication, sender address): mend it.
    Policy,
}

impl BounceKind {
    /// The kind of a class; `None` where nothing came back from a receiver.
    pub fn of(class: Class) -> Option<BounceKind> {
        match class {
            Class::BadMailbox | Class::InactiveMailbox | Class::BadDomain => Some(BounceKind::Hard),
            Class::SpamRelated | Class::ContentRelated | Class::RelayingIssues => {
                Some(BounceKind::Block)
            }
            Class::PolicyRelated | Class::InvalidSender => Some(BounceKind::Policy),
            Class::QuotaIssues
            | Class::RoutingErrors
            | Class::ProtocolErrors
            | Class::BadConfiguration
            | Class::BadConnection
            | Class::NoAnswerFromHost
            | Class::MessageExpired
            | Class::RateLimited
            | Class::Greylisted
            | Class::ServerBusy
            | Class::Other => Some(BounceKind::Soft),
            Class::None | Class::RenderError => None,
        }
    }

    /// The word for it in Parquet.
    pub fn word(self) -> &'static str {
        match self {
            BounceKind::Hard => "hard",
            BounceKind::Soft => "soft",
            BounceKind::Block => "block",
            BounceKind::Policy => "policy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_a_dead_address_is_hard() {
        let hard: Vec<&str> = Class::ALL
            .iter()
            .filter(|class| BounceKind::of(**class) == Some(BounceKind::Hard))
            .map(|class| class.word())
            .collect();
        assert_eq!(hard, ["bad-mailbox", "inactive-mailbox", "bad-domain"]);
    }

    #[test]
    fn the_documentation_has_this_mapping() {
        let text = include_str!("../../docs/accounting.md");
        for class in Class::ALL {
            let kind = BounceKind::of(*class).map_or("null", BounceKind::word);
            let line = format!("| `{}` | {kind} |", class.word());
            assert!(text.contains(&line), "docs/accounting.md lacks the line {line}");
        }
    }
}
