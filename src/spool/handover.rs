//! handover — what passes between the stage that fills segments and the stage that empties them.
//!
//! The stages do not know each other; they know these values. A segment travels to delivery full
//! and comes back empty, and everything else that crosses is a few words.

use super::Segment;
use crate::destination::{DomainNo, GroupNo, SiteNo, SourceNo};
use crate::outcome::{Kind, Row};
use crate::rates::Retry;
use crate::units::Utc;

/// From preparation to delivery.
pub enum Feed {
    /// Messages to deliver.
    Segment(Segment),
    /// What became of a row without any connection; it only has to be recorded.
    Fate(Fate),
    /// Whether a group wants more messages than can be made for now: its rows that are left wait
    /// for their next attempt, or are under way.
    Dry(GroupNo, bool),
}

/// The end of a message that never reached a connection.
#[derive(Clone, Debug)]
pub struct Fate {
    /// Which row.
    pub row: Row,
    /// The group that it had; `None` if its mail hosts were never found.
    pub group: Option<GroupNo>,
    /// Which attempt would have been next.
    pub attempt: u16,
    /// [`Kind::Failed`], [`Kind::Expired`], [`Kind::Cancelled`], or [`Kind::Bounced`] of a dead
    /// domain.
    pub kind: Kind,
    /// When the first attempt began; the time of this fate if there was none.
    pub first_attempt: Utc,
    /// Why, for the record.
    pub reason: String,
}

/// From delivery to preparation.
pub enum Back {
    /// A segment to fill again.
    Segment(Segment),
    /// A message that wants another attempt later.
    Again(Again),
    /// A message that was handed over and not attempted: it is the next of its group again. It ends
    /// the wants of that group.
    Returned(Again),
    /// So many more messages of this group could begin soon. Nothing is made that nobody wants.
    Want(GroupNo, u32),
    /// No message of this group (or, without one, of the run) is to be made any more; each of them
    /// that is left becomes a fate of this kind, for this reason.
    GiveUp(Option<GroupNo>, Kind, String),
    /// A domain whose mail hosts could not be found at first has them now. The group may be new, so
    /// its retry schedule comes along.
    Routed(DomainNo, SiteNo, GroupNo, Retry),
    /// So many messages and fates of those handed over are off delivery's hands: they have met
    /// their outcome, or went back before this, as [`Back::Again`] or [`Back::Returned`].
    Settled(u32),
}

/// A message that waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Again {
    /// When. First, so that the order is that of the due times.
    pub due: Utc,
    /// Which row.
    pub row: Row,
    /// Which attempt will be next.
    pub attempt: u16,
    /// When the first attempt began; `None` until there was one.
    pub first_attempt: Option<Utc>,
    /// The site that takes its mail.
    pub site: SiteNo,
    /// The group of that site.
    pub group: GroupNo,
    /// The source of the last attempt, where the next one should come from the same: a greylist
    /// knows the sender by it.
    pub source: Option<SourceNo>,
}
