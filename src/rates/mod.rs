//! rates — how fast mail may go and when a deferred message is tried again.
//!
//! [`bucket`] says when the next message of a lane may go without ever passing the provider's
//! limit; [`schedule`] says when a message is due again. Both are arithmetic over a time that is
//! passed in; neither reads a clock, and neither knows what is sent or to whom.

pub mod bucket;
pub mod schedule;

pub use bucket::Bucket;
pub use schedule::Retry;
