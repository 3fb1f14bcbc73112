//! table — the rate tables: which mail hosts make a provider, and what each provider bears.
//!
//! A table is read from layers of TOML, the later over the earlier, key by key: [`SHIPPED`] (the
//! file `datasets/rates.toml`), then those of the site, then the campaign's own `[rates]`. Every
//! number keeps where it stands and who says so. [`Table::read`] gives the whole table or every
//! problem of every layer at once, each with its line and column.
//!
//! A value that a provider's row does not give is that of the default row, whichever layer gives
//! that one: a provider's own number beats a default, however late the default comes.
//!
//! This room opens no file, and must not know how a host was found, what was sent, or how fast.

mod check;
mod explain;
mod forms;
mod import;
mod keys;
mod layer;
mod reader;

use std::time::Duration;

use crate::problem::{Place, Problem};
use crate::units::Rate;

use super::{IpPolicy, Limits, Quirk, Retry, Tls};

pub use explain::Line;
pub use forms::Suffix;
pub use import::import;

/// The table that comes with the program: layer 0 of every table.
pub const SHIPPED: Layer<'static> = Layer {
    file: "datasets/rates.toml",
    text: include_str!("../../../datasets/rates.toml"),
    section: None,
};

/// One file of a table.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Its name for places; each layer has one of its own.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The part that is meant (`rates` of a campaign file); the rest is not looked at. `None` for
    /// the whole file.
    pub section: Option<&'a str>,
}

/// A value, where it was written and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
    /// Who says so; `FILE:LINE` where a site's file does not tell.
    pub source: String,
}

/// A value as the layers give it, from the one that all others override to the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layered<T>(Vec<Sourced<T>>);

impl<T> Layered<T> {
    /// The value in force, if any layer gives one.
    pub fn in_force(&self) -> Option<&Sourced<T>> {
        self.0.last()
    }

    /// What the value in force overrides, the nearest first.
    pub fn overridden(&self) -> impl Iterator<Item = &Sourced<T>> {
        self.0.iter().rev().skip(1)
    }
}

impl<T> Default for Layered<T> {
    fn default() -> Self {
        Layered(Vec::new())
    }
}

impl<T: Clone> Layered<T> {
    /// These values over those of `base`.
    fn over(&self, base: &Layered<T>) -> Layered<T> {
        Layered(base.0.iter().chain(&self.0).cloned().collect())
    }
}

/// The values of a row, each with its provenance. Their meaning is that of [`Limits`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Key `connections`.
    pub connections: Layered<u32>,
    /// Key `connections_total`.
    pub connections_total: Layered<u32>,
    /// Key `rate`.
    pub rates: Layered<Vec<Rate>>,
    /// Key `rate_total`.
    pub rates_total: Layered<Vec<Rate>>,
    /// Key `rate_dkim`.
    pub rates_dkim: Layered<Vec<Rate>>,
    /// Key `messages_per_connection`; 0 for no limit.
    pub messages_per_connection: Layered<u32>,
    /// Key `ramp`.
    pub ramp: Layered<Duration>,
    /// Key `retry`.
    pub retry: Layered<Vec<Duration>>,
    /// Key `expire_after`.
    pub expire_after: Layered<Duration>,
    /// Key `tls`.
    pub tls: Layered<Tls>,
    /// Key `ip`.
    pub ip: Layered<IpPolicy>,
    /// Key `quirks`.
    pub quirks: Layered<Vec<Quirk>>,
}

impl Values {
    /// These values, and those of `base` where there are none.
    fn over(&self, base: &Values) -> Values {
        Values {
            connections: self.connections.over(&base.connections),
            connections_total: self.connections_total.over(&base.connections_total),
            rates: self.rates.over(&base.rates),
            rates_total: self.rates_total.over(&base.rates_total),
            rates_dkim: self.rates_dkim.over(&base.rates_dkim),
            messages_per_connection: self
                .messages_per_connection
                .over(&base.messages_per_connection),
            ramp: self.ramp.over(&base.ramp),
            retry: self.retry.over(&base.retry),
            expire_after: self.expire_after.over(&base.expire_after),
            tls: self.tls.over(&base.tls),
            ip: self.ip.over(&base.ip),
            quirks: self.quirks.over(&base.quirks),
        }
    }
}

/// One row: a provider, or the default for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The provider's name, or `default`. It has no dot, so it is never the name of a host.
    pub name: String,
    /// Which hosts are the provider's; empty for the default row.
    pub mx: Vec<Sourced<Suffix>>,
    /// Whether each MX set of the provider is a group of its own under these limits: a gateway for
    /// many customers, each with machines of its own.
    pub per_site: bool,
    /// What it bears.
    pub values: Values,
}

impl Row {
    /// The limits in force.
    ///
    /// # Panics
    /// Never for a row of a [`Table`]: its default row gives what each row must have.
    pub fn limits(&self) -> Limits {
        fn all<T: Clone>(values: &Layered<Vec<T>>) -> Vec<T> {
            values.in_force().map_or_else(Vec::new, |found| found.value.clone())
        }
        fn one<T: Copy>(value: &Layered<T>) -> Option<T> {
            value.in_force().map(|found| found.value)
        }
        let of = &self.values;
        Limits {
            connections: one(&of.connections).expect("the default row has connections"),
            connections_total: one(&of.connections_total),
            messages_per_connection: one(&of.messages_per_connection).filter(|limit| *limit > 0),
            rates: all(&of.rates),
            rates_total: all(&of.rates_total),
            rates_dkim: all(&of.rates_dkim),
            ramp: one(&of.ramp),
            retry: Retry {
                steps: all(&of.retry),
                expire_after: one(&of.expire_after).expect("the default row has expire_after"),
            },
            tls: one(&of.tls).unwrap_or_default(),
            ip: one(&of.ip).unwrap_or_default(),
            quirks: all(&of.quirks),
        }
    }

    /// Every value in force, one line each, in the order of the documentation.
    pub fn explain(&self) -> Vec<Line> {
        explain::lines(&self.values)
    }

    /// The suffix that makes `host` one of this provider's; case and a dot at the end do not count.
    pub fn claims(&self, host: &str) -> Option<&Sourced<Suffix>> {
        self.mx.iter().find(|suffix| suffix.value.matches(host))
    }
}

/// The rate table in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The providers, in the order in which the layers first name them.
    pub rows: Vec<Row>,
    /// The row of all hosts that no provider claims.
    pub default: Row,
}

impl Table {
    /// Reads a table; the first layer is [`SHIPPED`] (or, in tests, another whole table), and the
    /// later ones override it.
    ///
    /// # Errors
    /// Every problem of all layers, in the order of layers and places; never an empty list. While
    /// the syntax of a layer is broken, what seems to be missing is not reported.
    pub fn read(layers: &[Layer<'_>]) -> Result<Table, Vec<Problem>> {
        let mut drafts = layer::Drafts::new();
        let mut problems = Vec::new();
        let mut whole = true;
        for (number, layer) in layers.iter().enumerate() {
            let (found, unbroken) = layer::read(*layer, number == 0, &mut drafts);
            problems.extend(found);
            whole &= unbroken;
        }
        let (rows, default) = drafts.rows();
        let table = Table { rows, default };
        problems.extend(check::problems(&table, &drafts, layers, whole));
        problems.sort_by_key(|problem| check::rank(layers, &problem.place));
        problems.dedup();
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// The shipped table alone.
    ///
    /// # Panics
    /// Never: a test reads the shipped table.
    pub fn shipped() -> Table {
        Table::read(&[SHIPPED]).expect("the shipped table is good")
    }

    /// The provider that all of these mail hosts belong to; `None` for no hosts, for hosts that
    /// nobody claims, and for hosts of several operators.
    pub fn provider_of(&self, hosts: &[&str]) -> Option<&Row> {
        let first = hosts.first()?;
        // No two providers claim one host, so the first host's is the only one there can be.
        let row = self.rows.iter().find(|row| row.claims(first).is_some())?;
        hosts[1..].iter().all(|host| row.claims(host).is_some()).then_some(row)
    }

    /// The row of this name, `default` among them.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().chain([&self.default]).find(|row| row.name == name)
    }
}
