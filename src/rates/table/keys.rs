//! keys — every key of a row and what it accepts. The reader reads no key that does not stand here,
//! and reports any other key of a table as unknown.

use crate::problem::suggest;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What it accepts, to follow "it must be".
    pub(super) form: &'static str,
    /// Whether only a provider's row has it.
    pub(super) provider_only: bool,
}

const fn key(name: &'static str, form: &'static str) -> Key {
    Key { name, form, provider_only: false }
}

const fn own(name: &'static str, form: &'static str) -> Key {
    Key { name, form, provider_only: true }
}

const RATES: &str = "messages per period, such as \"3500/h\", or a list of these";
const DURATION: &str = "a duration, such as \"15m\", \"4h\" or \"3d\"";
const HOSTS: &str = "a list of mail hosts; a leading dot, as in \".example.com\", means all below";

/// Every key of a row, in the order in which a row is explained.
pub(super) const KEYS: &[Key] = &[
    own("mx", HOSTS),
    own("mx_add", HOSTS),
    own("per_site", "true or false"),
    key("connections", "a whole number from 1 to 10000"),
    key("connections_total", "a whole number from 1 to 1000000"),
    key("rate", RATES),
    key("rate_total", RATES),
    key("rate_dkim", RATES),
    key("messages_per_connection", "a whole number from 0 to 4294967295; 0 for no limit"),
    key("ramp", DURATION),
    key("retry", "a list of durations, such as [\"15m\", \"1h\"]"),
    key("expire_after", DURATION),
    key("tls", "\"none\", \"opportunistic\", \"required\" or \"verified\""),
    key("ip", "\"v4\", \"v6\", \"v4-first\" or \"v6-first\""),
    key("quirks", "a list of \"no-pipelining\""),
    key("source", "a text: who gives these numbers"),
    key("sources", "a section of texts, such as { rate = \"https://…\" }"),
];

/// The key of this name; the reader asks for no others.
pub(super) fn known(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).expect("every key that is read stands in the table")
}

/// The help for a name that is none of `names`.
pub(super) fn instead_of(name: &str, names: &[&str]) -> String {
    match suggest(name, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("there are {}", names.join(", ")),
    }
}
