//! row — one recipient's values as templates see them, and the filter of our own.
//!
//! A [`Row`] holds only the columns that some template uses, converted once and shared by all
//! parts: short values live inside minijinja's own value, longer ones are counted references, so a
//! part that prints a column copies nothing. Names were resolved when the templates were compiled;
//! a look-up is a binary search of a short table. Nothing here can fail.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, StringInput};

use crate::outcome;

use super::names::{MAP, URL};

/// What one message's templates may print, borrowed from the row and the run.
pub struct Values<'a> {
    /// The cell in the column with this index; asked once per used column.
    pub cell: &'a dyn Fn(usize) -> &'a str,
    /// The recipient's mail address, as intake normalised it.
    pub address: &'a str,
    /// The row.
    pub row: outcome::Row,
    /// The text that identifies run and recipient.
    pub token: &'a str,
    /// The run's id.
    pub run: &'a str,
    /// The campaign's id.
    pub campaign: &'a str,
}

/// Where each name's value lies in a row: made once per campaign.
#[derive(Debug)]
pub(super) struct Layout {
    /// The columns kept, in ascending order; their values come first in a row.
    kept: Vec<usize>,
    /// The names of the kept columns with the position of their value, sorted by name.
    cells: Vec<(Box<str>, usize)>,
    /// Columns of the list.
    total: usize,
}

/// Our own values, stored behind the cells in this order.
const OWN: [&str; 5] = ["row", "address", "token", "run", "campaign"];

impl Layout {
    pub(super) fn new(used: &BTreeSet<usize>, columns: &[String]) -> Layout {
        let kept: Vec<usize> = used.iter().copied().collect();
        let mut cells: Vec<(Box<str>, usize)> = kept
            .iter()
            .enumerate()
            .map(|(position, column)| (columns[*column].as_str().into(), position))
            .collect();
        cells.sort();
        Layout { kept, cells, total: columns.len() }
    }

    pub(super) fn columns_total(&self) -> usize {
        self.total
    }

    /// The position of the value of the column with this name.
    fn cell(&self, name: &str) -> Option<usize> {
        let at = self.cells.binary_search_by(|(cell, _)| (**cell).cmp(name)).ok()?;
        Some(self.cells[at].1)
    }

    /// The position of the value of a plain variable.
    fn variable(&self, name: &str) -> Option<usize> {
        let own = || OWN.iter().position(|own| *own == name).map(|at| self.kept.len() + at);
        self.cell(name).or_else(own)
    }
}

/// One recipient's values, ready for all parts of the message.
#[derive(Clone, Debug)]
pub struct Row {
    cells: Arc<Cells>,
}

impl Row {
    pub(super) fn new(layout: &Arc<Layout>, values: &Values<'_>) -> Row {
        let mut stored = Vec::with_capacity(layout.kept.len() + OWN.len());
        stored.extend(layout.kept.iter().map(|column| Value::from((values.cell)(*column))));
        let texts = [values.address, values.token, values.run, values.campaign];
        stored.push(Value::from(values.row.0));
        stored.extend(texts.map(Value::from));
        let cells = Cells { layout: Arc::clone(layout), values: stored, url: OnceLock::new() };
        Row { cells: Arc::new(cells) }
    }

    /// The rendered unsubscribe URL, if the campaign has one.
    pub fn unsubscribe_url(&self) -> Option<&str> {
        self.cells.url.get()?.as_str()
    }

    pub(super) fn set_unsubscribe_url(&self, url: String) {
        let first = self.cells.url.set(Value::from(url)).is_ok();
        assert!(first, "the unsubscribe URL of a row is rendered once");
    }

    pub(super) fn value(&self) -> Value {
        Value::from_dyn_object(Arc::clone(&self.cells))
    }
}

/// The values of a row, as the root of minijinja's look-ups.
struct Cells {
    layout: Arc<Layout>,
    values: Vec<Value>,
    url: OnceLock<Value>,
}

impl Object for Cells {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            MAP => Some(Value::from_object(Columns(Arc::clone(self)))),
            URL => self.url.get().cloned(),
            _ => self.layout.variable(key).map(|position| self.values[position].clone()),
        }
    }
}

impl fmt::Debug for Cells {
    /// Without the values: they are personal data and must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The map of columns by name.
#[derive(Debug)]
struct Columns(Arc<Cells>);

impl Object for Columns {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let position = self.0.layout.cell(key)?;
        Some(self.0.values[position].clone())
    }

    /// In the order of the list.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let mut names: Vec<&(Box<str>, usize)> = self.0.layout.cells.iter().collect();
        names.sort_by_key(|(_, position)| *position);
        Enumerator::Values(names.iter().map(|(name, _)| Value::from(&**name)).collect())
    }
}

/// Percent-encodes all octets but the unreserved characters of RFC 3986 §2.3.
pub(super) fn urlencode(text: StringInput<'_>) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.as_str().len());
    for octet in text.as_str().bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(octet));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(octet >> 4)]));
            encoded.push(char::from(HEX[usize::from(octet & 15)]));
        }
    }
    encoded
}
