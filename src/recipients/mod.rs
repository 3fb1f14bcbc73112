//! recipients — the list: a CSV file as people export it, read once in full, then row by row.
//!
//! The way of a list:
//!
//! 1. [`Layout::read`] looks at the first octets: encoding, delimiter, header, where data begin.
//!    What is wrong there is a [`crate::problem::Problem`] and nothing is sent.
//! 2. [`intake`] reads the whole file in one pass and judges each row. A row that cannot be sent to
//!    is excluded with a [`Reason`] and counted; it never stops the others. Each row, good or not,
//!    becomes one [`Entry`] of the index and has its number for good.
//!    So are, once the DNS has been asked, the rows of dead domains ([`exclude_domains`]).
//! 3. [`Index`] gives the entries back, and [`read_rows`] with [`RowReader`] the rows behind them,
//!    in any order, with proof that the file is still the one that was judged.
//!
//! Rows are never held in memory: ten million of them fit 1 GiB (`seen` has the sum). The only
//! things kept are where each row starts, which addresses were seen, and the names of the domains.
//!
//! This room has no clock, no thread and no socket. It does not know what the columns are for, save
//! the address, the engagement and those that it is told go into headers.

mod dead;
mod domains;
mod engagement;
mod index;
mod intake;
mod layout;
mod record;
mod records;
mod rows;
mod seen;

pub use dead::{DeadRow, Excluded, exclude_domains};
pub use domains::Domains;
pub use index::{ENGAGEMENT_MAX, Entry, Index, IndexError, IndexWriter, Reason};
pub use intake::{Counts, IntakeError, SAMPLES_PER_REASON, Sample, intake};
pub use layout::{HEAD_OCTETS, Layout, Options};
pub use rows::{ReadError, RowChanged, RowReader, read_rows};
