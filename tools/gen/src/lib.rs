//! mailshot-gen — recipient lists for tests and measurements: any size, a realistic mix of
//! providers, and dirt that is counted.
//!
//! The same plan gives the same octets on every machine. Every domain ends in a suffix under
//! `.test` (RFC 6761 §6.2) unless told otherwise, so a mistake cannot reach a real host. It fails
//! only if writing fails. It must not know the sender: the tally is an independent statement of
//! what the sender has to exclude.

mod dirt;
mod domains;
mod people;
mod random;
mod row;

use std::io::{self, Write};

pub use dirt::{Dirt, KINDS, Kind, Tally};
pub use domains::Share;

use random::Random;
use row::{COLUMNS, Row, Shape};

/// The list that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Data rows, dirty ones included.
    pub rows: u64,
    /// Another seed, another list.
    pub seed: u64,
    /// Shares of the kinds that are not plain.
    pub dirt: Dirt,
    /// Domains with parts of the rows of their own; the others keep the usual mix without them.
    /// Together they are at most a million.
    pub shares: Vec<Share>,
    /// Put after every domain, its leading dot included.
    pub domain_suffix: String,
    /// Start with the UTF-8 byte order mark, as spreadsheet programs do.
    pub bom: bool,
    /// End records with CR LF (RFC 4180) instead of LF.
    pub crlf: bool,
    /// Between two fields.
    pub delimiter: u8,
}

impl Plan {
    /// Plain rows, commas, line feeds, and domains under `.sink.test`.
    pub fn new(rows: u64, seed: u64) -> Plan {
        Plan {
            rows,
            seed,
            dirt: Dirt::none(),
            shares: Vec::new(),
            domain_suffix: ".sink.test".to_owned(),
            bom: false,
            crlf: false,
            delimiter: b',',
        }
    }
}

/// Octets collected before they are written; larger ones gained nothing.
const CHUNK: usize = 64 << 10;
/// Good addresses kept for duplicates, so that these repeat rows from all over the list.
const EARLIER_MAX: usize = 1024;

/// Writes the list and tells what is in it.
///
/// # Errors
/// Those of `out`.
pub fn write(plan: &Plan, out: &mut impl Write) -> io::Result<Tally> {
    let line_end: &[u8] = if plan.crlf { b"\r\n" } else { b"\n" };
    let shape = Shape {
        delimiter: plan.delimiter,
        line_end,
        suffix: &plan.domain_suffix,
        shares: &plan.shares,
    };
    let mut random = Random::new(plan.seed);
    let mut tally = Tally::default();
    let mut earlier: Vec<Vec<u8>> = Vec::new();
    let mut buffer = Vec::with_capacity(CHUNK + 1024);
    push_header(&mut buffer, plan, line_end);
    for number in 1..=plan.rows {
        let kind = plan.dirt.kind(random.below(1000)).filter(|&kind| {
            // Nothing to repeat yet: the row becomes a plain one.
            !(duplicate(kind) && earlier.is_empty())
        });
        let repeated = match kind {
            Some(kind) if duplicate(kind) => &*earlier[random.below(earlier.len() as u32) as usize],
            _ => b"",
        };
        let row = Row { number, kind, earlier: repeated };
        let address = row.push(&mut buffer, &shape, &mut random);
        tally.count(kind);
        if kind.is_none() {
            remember(&mut earlier, &buffer[address], &mut random);
        }
        if buffer.len() >= CHUNK {
            tally.bytes += flush(&mut buffer, out)?;
        }
    }
    tally.bytes += flush(&mut buffer, out)?;
    out.flush()?;
    Ok(tally)
}

fn duplicate(kind: Kind) -> bool {
    matches!(kind, Kind::ExactDuplicate | Kind::CaseDuplicate)
}

fn push_header(buffer: &mut Vec<u8>, plan: &Plan, line_end: &[u8]) {
    if plan.bom {
        buffer.extend_from_slice("\u{feff}".as_bytes());
    }
    for (n, column) in COLUMNS.iter().enumerate() {
        if n > 0 {
            buffer.push(plan.delimiter);
        }
        buffer.extend_from_slice(column.as_bytes());
    }
    buffer.extend_from_slice(line_end);
}

/// Keeps every address until there are enough, then one in 32 in the place of another.
fn remember(earlier: &mut Vec<Vec<u8>>, address: &[u8], random: &mut Random) {
    if earlier.len() < EARLIER_MAX {
        earlier.push(address.to_vec());
    } else if random.below(32) == 0 {
        let slot = &mut earlier[random.below(EARLIER_MAX as u32) as usize];
        slot.clear();
        slot.extend_from_slice(address);
    }
}

fn flush(buffer: &mut Vec<u8>, out: &mut impl Write) -> io::Result<u64> {
    out.write_all(buffer)?;
    let octets = buffer.len() as u64;
    buffer.clear();
    Ok(octets)
}
