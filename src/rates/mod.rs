//! rates — how fast mail may go and when a deferred message is tried again.
//!
//! [`table`] says what each provider bears and who says so, [`bucket`] when the next message may go
//! without ever passing a limit, [`pace`] over which source; [`schedule`] says when a message is
//! due again, [`warmup`] how much a new source may send today, [`threshold`] when too much goes
//! wrong, and [`estimate`] how long a list takes. All is arithmetic over a time that is passed in;
//! nothing reads a clock, and nothing knows what is sent or to whom.

pub mod bucket;
pub mod estimate;
pub mod limits;
pub mod pace;
pub mod schedule;
pub mod table;
pub mod tally;
pub mod threshold;
pub mod warmup;

pub use bucket::Bucket;
pub use estimate::{Demand, Estimate, estimate, sources_for};
pub use limits::{IpPolicy, Limits, Quirk, Tls};
pub use pace::{Blur, Pace, Who};
pub use schedule::Retry;
pub use table::{Layer, Row, SHIPPED, Table};
