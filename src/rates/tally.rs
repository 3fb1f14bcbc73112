//! tally — what an attempt counts as, where rates of outcomes are compared with a limit.
//!
//! Warm-up, thresholds and the history of past runs must mean the same by "deferred" and "blocked",
//! so it is said here once. Nothing fails. It must not know where outcomes come from.

use crate::outcome::{Class, Kind};

/// Whether an outcome came of an attempt to reach a receiver. What could not be made, what the
/// operator ended and what ran out of time while it waited are none.
pub fn is_attempt(kind: Kind, class: Class) -> bool {
    match kind {
        Kind::Delivered | Kind::Deferred | Kind::Bounced | Kind::InDoubt => true,
        Kind::Expired => class != Class::MessageExpired,
        Kind::Failed | Kind::Cancelled => false,
    }
}

/// Whether the attempt ended in "not now". The last "not now", after which the message is given up,
/// is one like those before it.
pub fn is_deferral(kind: Kind, class: Class) -> bool {
    kind == Kind::Deferred || kind == Kind::Expired && is_attempt(kind, class)
}

/// Whether the attempt was refused for good.
pub fn is_bounce(kind: Kind) -> bool {
    kind == Kind::Bounced
}

/// Whether the attempt was refused, for now or for good, because of us: our reputation, our content
/// taken for spam, or a rule about senders.
pub fn is_block(kind: Kind, class: Class) -> bool {
    is_attempt(kind, class) && matches!(class, Class::SpamRelated | Class::PolicyRelated)
}

/// Whether the attempt was refused for good because the address is dead: what the list is to blame
/// for.
pub fn is_bad_recipient(kind: Kind, class: Class) -> bool {
    let dead = matches!(class, Class::BadMailbox | Class::InactiveMailbox | Class::BadDomain);
    is_bounce(kind) && dead
}

/// How many attempts there were, and what some of them ended in; a deferral may be a block as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts to reach a receiver.
    pub attempts: u64,
    /// Those that a receiver took.
    pub delivered: u64,
    /// Those put off.
    pub deferred: u64,
    /// Those refused, for now or for good, because of us.
    pub blocked: u64,
    /// Those refused because the address is dead.
    pub bad_recipients: u64,
}

impl Tally {
    /// Counts one outcome; nothing if it is none of an attempt.
    pub fn count(&mut self, kind: Kind, class: Class) {
        self.attempts += u64::from(is_attempt(kind, class));
        self.delivered += u64::from(kind == Kind::Delivered);
        self.deferred += u64::from(is_deferral(kind, class));
        self.blocked += u64::from(is_block(kind, class));
        self.bad_recipients += u64::from(is_bad_recipient(kind, class));
    }

    /// Counts what `other` has counted.
    pub fn add(&mut self, other: &Tally) {
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.deferred = self.deferred.saturating_add(other.deferred);
        self.blocked = self.blocked.saturating_add(other.blocked);
        self.bad_recipients = self.bad_recipients.saturating_add(other.bad_recipients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_counts_as_what_it_is() {
        for (kind, class, expected) in [
            (Kind::Delivered, Class::None, [1, 1, 0, 0, 0]),
            (Kind::Deferred, Class::Greylisted, [1, 0, 1, 0, 0]),
            (Kind::Deferred, Class::SpamRelated, [1, 0, 1, 1, 0]),
            (Kind::Deferred, Class::BadMailbox, [1, 0, 1, 0, 0]),
            (Kind::Bounced, Class::PolicyRelated, [1, 0, 0, 1, 0]),
            (Kind::Bounced, Class::BadDomain, [1, 0, 0, 0, 1]),
            (Kind::Expired, Class::RateLimited, [1, 0, 1, 0, 0]),
            (Kind::Expired, Class::MessageExpired, [0; 5]),
            (Kind::InDoubt, Class::BadConnection, [1, 0, 0, 0, 0]),
            (Kind::Failed, Class::RenderError, [0; 5]),
            (Kind::Cancelled, Class::None, [0; 5]),
        ] {
            let mut tally = Tally::default();
            tally.count(kind, class);
            let Tally { attempts, delivered, deferred, blocked, bad_recipients } = tally;
            let found = [attempts, delivered, deferred, blocked, bad_recipients];
            assert_eq!(found, expected, "{kind:?} {class:?}");
        }
    }

    #[test]
    fn every_class_is_at_most_one_of_block_and_bad_recipient() {
        for class in Class::ALL {
            let block = is_block(Kind::Bounced, *class);
            assert!(!(block && is_bad_recipient(Kind::Bounced, *class)), "{class:?}");
        }
    }
}
