//! report — what a sink has seen, at its end.

use std::net::SocketAddr;

use serde::Serialize;

use crate::checks::dkim::DkimReport;
use crate::checks::form::FormReport;
use crate::checks::keys::KeyReport;
use crate::checks::rate::RateReport;
use crate::checks::store::StoreReport;
use crate::counters::Tallies;

/// Why a sink ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Its time was up.
    TimeUp,
    /// The expected messages came.
    Complete,
}

/// What a sink has seen. Checks that were off are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where it listened.
    pub listen: Vec<SocketAddr>,
    /// Why it ended.
    pub ended: Ended,
    /// How long it ran.
    pub seconds: f64,
    /// Processor time of its thread.
    pub cpu_seconds: f64,
    /// Connections, messages, refusals.
    pub counts: Tallies,
    /// Why the log of attempts is not whole, if one was wanted.
    pub log_error: Option<String>,
    /// Which messages came and which came twice.
    pub keys: Option<KeyReport>,
    /// Which signatures verify.
    pub dkim: Option<DkimReport>,
    /// How messages are formed.
    pub form: Option<FormReport>,
    /// How fast they came.
    pub rate: Option<RateReport>,
    /// What was written.
    pub store: Option<StoreReport>,
}
