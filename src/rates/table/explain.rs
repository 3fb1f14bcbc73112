//! explain — the values of a row as text: what holds, where it stands, who says so, and what it
//! overrides.

use std::fmt::Display;
use std::time::Duration;

use crate::problem::Place;
use crate::units::{Human, Rate};

use super::{Layered, Values, forms};

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key, as it stands in the table.
    pub key: &'static str,
    /// The value, as people read it.
    pub value: String,
    /// Where it stands.
    pub place: Place,
    /// Who says so.
    pub source: String,
    /// What it overrides, the nearest first: where that stands, and its value.
    pub overrides: Vec<(Place, String)>,
}

/// Every value in force, one line each.
pub(super) fn lines(of: &Values) -> Vec<Line> {
    let number = |count: &u32| count.to_string();
    let messages = |count: &u32| match count {
        0 => "no limit".to_owned(),
        count => count.to_string(),
    };
    let rates = |rates: &Vec<Rate>| listed(rates);
    let wait = |wait: &Duration| Human(*wait).to_string();
    let waits = |waits: &Vec<Duration>| listed(waits.iter().map(|wait| Human(*wait)));
    let all = [
        line("connections", &of.connections, number),
        line("connections_total", &of.connections_total, number),
        line("rate", &of.rates, rates),
        line("rate_total", &of.rates_total, rates),
        line("rate_dkim", &of.rates_dkim, rates),
        line("messages_per_connection", &of.messages_per_connection, messages),
        line("ramp", &of.ramp, wait),
        line("retry", &of.retry, waits),
        line("expire_after", &of.expire_after, wait),
        line("tls", &of.tls, |tls| forms::word(forms::TLS, tls).to_owned()),
        line("ip", &of.ip, |ip| forms::word(forms::IP, ip).to_owned()),
        line("quirks", &of.quirks, |all| {
            listed(all.iter().map(|quirk| forms::word(forms::QUIRKS, quirk)))
        }),
    ];
    all.into_iter().flatten().collect()
}

fn line<T>(key: &'static str, of: &Layered<T>, text: impl Fn(&T) -> String) -> Option<Line> {
    let found = of.in_force()?;
    let (place, source) = (found.place.clone(), found.source.clone());
    let overridden = of.overridden().map(|below| (below.place.clone(), text(&below.value)));
    Some(Line { key, value: text(&found.value), place, source, overrides: overridden.collect() })
}

fn listed<T: Display>(elements: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = elements.into_iter().map(|element| element.to_string()).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
