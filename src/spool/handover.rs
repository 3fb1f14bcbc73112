//! handover — what passes between the stage that fills segments and the stage that empties them.
//!
//! The stages do not know each other; they know these values. A segment travels to delivery full
//! and comes back empty, and everything else that crosses is a few words.

use super::Segment;
use crate::outcome::{Kind, Row};
use crate::units::Utc;

/// From preparation to delivery.
pub enum Feed {
    /// Messages to deliver.
    Segment(Segment),
    /// What became of a row without any connection; it only has to be recorded.
    Fate(Fate),
}

/// The end of a message that never reached a connection.
#[derive(Clone, Debug)]
pub struct Fate {
    /// Which row.
    pub row: Row,
    /// Which attempt would have been next.
    pub attempt: u16,
    /// [`Kind::Failed`] or [`Kind::Expired`].
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
    /// So many messages of those handed over have met their outcome.
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
    /// When the first attempt began.
    pub first_attempt: Utc,
}
