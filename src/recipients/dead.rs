//! dead — the rows of domains that no mail can reach are excluded from an index that is finished.
//!
//! Intake knows no DNS. Once the domains of a list were looked up, the states of their rows are
//! changed in place, before the run has a manifest and thus before anything relies on the index.
//! The header is zeroed (and synced) first and written last, so that an index whose change was cut
//! off is recognised as unfinished, as one whose intake was cut off.
//!
//! Fails with [`IndexError`]; the index is then unfinished, or as it was if it was no sound one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index::{
    BLOCK, ENTRY_OCTETS, Entry, Index, IndexError, Reason, STATE_AT, header, place,
};
use super::intake::{SAMPLES_PER_REASON, slot};
use crate::destination::DomainNo;
use crate::outcome::Row;

/// What [`exclude_domains`] excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded {
    counts: [u32; Reason::ALL.len()],
    /// Up to [`SAMPLES_PER_REASON`] rows of each reason, in the order of rows.
    pub samples: Vec<DeadRow>,
}

impl Excluded {
    /// How many rows were excluded for `reason`.
    pub fn count(&self, reason: Reason) -> u32 {
        self.counts[slot(reason)]
    }

    fn add(&mut self, row: DeadRow) {
        let count = &mut self.counts[slot(row.reason)];
        *count += 1;
        if *count as usize <= SAMPLES_PER_REASON {
            self.samples.push(row);
        }
    }
}

/// A row whose domain is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadRow {
    /// Its number.
    pub row: Row,
    /// The physical line on which it starts.
    pub line: u32,
    /// The domain of its address.
    pub domain: DomainNo,
    /// Why it is excluded.
    pub reason: Reason,
}

/// Excludes the accepted rows of the index at `path` whose domain `dead` has a reason for. The
/// file is synced.
///
/// # Errors
/// [`IndexError`] when the index cannot be read or written or is none.
pub fn exclude_domains(
    path: &Path,
    dead: &dyn Fn(DomainNo) -> Option<Reason>,
) -> Result<Excluded, IndexError> {
    let rows = Index::open(path)?.rows();
    let file = File::options().read(true).write(true).open(path)?;
    file.write_all_at(&[0; ENTRY_OCTETS], 0)?;
    file.sync_data()?;
    let mut excluded = Excluded::default();
    let mut block = vec![0; BLOCK.min(rows) as usize * ENTRY_OCTETS];
    let mut next = 1;
    while next <= rows {
        let count = BLOCK.min(rows - next + 1);
        let block = &mut block[..count as usize * ENTRY_OCTETS];
        file.read_exact_at(block, place(Row(next)))?;
        if change(Row(next), block, dead, &mut excluded)? {
            file.write_all_at(block, place(Row(next)))?;
        }
        next += count;
    }
    file.sync_data()?;
    file.write_all_at(&header(rows), 0)?;
    file.sync_data()?;
    Ok(excluded)
}

/// Changes the states of a block of entries; whether any did change.
fn change(
    first: Row,
    block: &mut [u8],
    dead: &dyn Fn(DomainNo) -> Option<Reason>,
    excluded: &mut Excluded,
) -> Result<bool, IndexError> {
    let mut changed = false;
    let (entries, _) = block.as_chunks_mut();
    for (number, octets) in (first.0..).zip(entries) {
        let entry = Entry::from_octets(Row(number), octets)?;
        let Some(domain) = entry.domain.filter(|_| entry.excluded.is_none()) else { continue };
        if let Some(reason) = dead(domain) {
            octets[STATE_AT] = reason as u8;
            changed = true;
            excluded.add(DeadRow { row: entry.row, line: entry.line, domain, reason });
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::super::IndexWriter;
    use super::*;

    /// An index whose row `n` has the domain `n % 7`; each tenth row is a duplicate.
    fn entries(rows: u32) -> Vec<Entry> {
        (1..=rows)
            .map(|row| Entry {
                row: Row(row),
                offset: u64::from(row) * 100,
                len: 100,
                line: row + 1,
                check: row ^ 0x5555,
                excluded: (row % 10 == 0).then_some(Reason::Duplicate),
                engagement: row % 1000,
                detail: if row % 10 == 0 { 1 } else { 0 },
                domain: (row % 10 != 0).then_some(DomainNo(row % 7)),
            })
            .collect()
    }

    fn written(entries: &[Entry]) -> tempfile::NamedTempFile {
        let mut writer = IndexWriter::new(Cursor::new(Vec::new())).unwrap();
        for entry in entries {
            writer.push(entry).unwrap();
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(writer.finish().unwrap().get_ref()).unwrap();
        file
    }

    fn reason(domain: DomainNo) -> Option<Reason> {
        match domain.0 {
            2 => Some(Reason::NullMx),
            5 => Some(Reason::NoSuchDomain),
            _ => None,
        }
    }

    #[test]
    fn rows_of_dead_domains_are_excluded_and_nothing_else_changes() {
        let mut entries = entries(2 * BLOCK + 100);
        let file = written(&entries);
        let excluded = exclude_domains(file.path(), &reason).unwrap();
        let mut counts = [0; 2];
        for entry in entries.iter_mut().filter(|entry| entry.excluded.is_none()) {
            entry.excluded = entry.domain.and_then(reason);
            counts[0] += u32::from(entry.excluded == Some(Reason::NullMx));
            counts[1] += u32::from(entry.excluded == Some(Reason::NoSuchDomain));
        }
        let index = Index::open(file.path()).unwrap();
        let mut found = Vec::new();
        index.each(&mut |entry| found.push(*entry)).unwrap();
        assert!(found == entries);
        let told = [Reason::NullMx, Reason::NoSuchDomain].map(|reason| excluded.count(reason));
        assert_eq!(told, counts);
        assert_eq!(excluded.count(Reason::Duplicate), 0);
        let samples: Vec<_> = excluded.samples.iter().map(|row| (row.row.0, row.line)).collect();
        assert_eq!(samples.len(), 2 * SAMPLES_PER_REASON);
        assert_eq!(samples[..4], [(2, 3), (5, 6), (9, 10), (12, 13)]);
        // Once more changes nothing: they are excluded already.
        assert_eq!(exclude_domains(file.path(), &reason).unwrap(), Excluded::default());
    }

    #[test]
    fn a_change_that_was_cut_off_leaves_an_unfinished_index() {
        let file = written(&entries(2 * BLOCK));
        // The second block holds an unknown state, at which the change ends.
        let at = place(Row(BLOCK + 5)) + STATE_AT as u64;
        file.as_file().write_all_at(&[77], at).unwrap();
        let failed = exclude_domains(file.path(), &reason).unwrap_err();
        assert!(matches!(failed, IndexError::State { number: 77, .. }), "{failed}");
        let found = Index::open(file.path()).map(|_| ()).unwrap_err();
        assert!(matches!(found, IndexError::Unfinished), "{found}");
        let again = exclude_domains(file.path(), &reason).unwrap_err();
        assert!(matches!(again, IndexError::Unfinished), "{again}");
    }

    #[test]
    fn an_empty_index_stays_one() {
        let file = written(&[]);
        assert_eq!(exclude_domains(file.path(), &reason).unwrap(), Excluded::default());
        assert_eq!(Index::open(file.path()).unwrap().rows(), 0);
    }
}
