//! simulate — a campaign's delivery in virtual time: the real delivery stage over a ring without a
//! kernel, against simulated mailbox providers.
//!
//! Nothing here waits: time jumps from one thing that happens to the next, so a campaign of days
//! takes seconds. Everything is decided by a seed; the same seed makes the same run. The plan uses
//! it to predict, the tests use it to prove.
//!
//! It knows no campaign, template or key: messages are made of nothing but their size.

mod calendar;
pub mod chance;
pub mod feeder;
pub mod office;
pub mod predict;
pub mod provider;
pub mod ring;
pub mod witness;

pub use chance::{Chance, Latency};
pub use feeder::{Feeder, Making, Work};
pub use office::Providers;
pub use predict::{Assumed, Assumptions, Plan, PredictError, Predicted, Prediction, predict};
pub use provider::{Habits, Trouble, What};
pub use ring::{Far, Receivers, SimRing};
pub use witness::Witness;
