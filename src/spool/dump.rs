//! dump — reads a segment file for people, by plain reads, with every checksum looked at.
//!
//! The file may belong to a run that is going on or has crashed: what is torn is shown as damaged.

use std::fs;
use std::path::Path;

use super::SpoolError;
use super::record::{Damaged, Flaw, Form, Record};
use super::segment::{HEADER, MAGIC, VERSION};

/// A segment file in memory.
#[derive(Debug)]
pub struct Dump {
    /// The tag of the run that wrote it.
    pub run_tag: u64,
    /// How often the segment had been cleared.
    pub sequence: u64,
    records: u32,
    octets: Vec<u8>,
}

/// Reads the segment file at `path`.
///
/// # Errors
/// [`SpoolError::Io`], or [`SpoolError::NoSegment`] when it does not begin like one.
pub fn dump(path: &Path) -> Result<Dump, SpoolError> {
    let octets = fs::read(path).map_err(SpoolError::io("reading", path))?;
    let no_segment = || SpoolError::NoSegment { path: path.to_owned() };
    let header: &[u8; HEADER] = octets.first_chunk().ok_or_else(no_segment)?;
    let (magic, rest) = header.split_first_chunk::<8>().expect("the header is longer");
    let (version, rest) = rest.split_first_chunk::<4>().expect("the header is longer");
    let (records, rest) = rest.split_first_chunk::<4>().expect("the header is longer");
    let (run_tag, rest) = rest.split_first_chunk::<8>().expect("the header is longer");
    let sequence = rest.first_chunk::<8>().expect("the header is as long");
    if *magic != MAGIC || u32::from_le_bytes(*version) != VERSION {
        return Err(no_segment());
    }
    Ok(Dump {
        run_tag: u64::from_le_bytes(*run_tag),
        sequence: u64::from_le_bytes(*sequence),
        records: u32::from_le_bytes(*records),
        octets,
    })
}

impl Dump {
    /// Its messages in order. One whose checksum does not hold is an error among them; one whose
    /// head is none is the last.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, Damaged>> {
        let mut offset = HEADER;
        let mut broken = false;
        (0..usize::try_from(self.records).unwrap_or(usize::MAX)).map_while(move |index| {
            if broken {
                return None;
            }
            let damaged = |flaw| Damaged { segment: 0, record: index, offset, flaw };
            let octets = self.octets.get(offset..).unwrap_or_default();
            let Some(form) = Form::of(octets) else {
                broken = true;
                return Some(Err(damaged(Flaw::Form)));
            };
            let verified = form.verify(octets).map_err(damaged);
            let record = form.record(octets).ok_or(damaged(Flaw::Form));
            offset += form.length;
            Some(verified.and(record))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_segment_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000000.seg");
        for (name, octets) in [
            ("empty", vec![]),
            ("zeros", vec![0; 4096]),
            ("short", b"msSPOOL1".to_vec()),
            ("later version", [&b"msSPOOL1\x02\0\0\0"[..], &[0; 64]].concat()),
        ] {
            fs::write(&path, octets).unwrap();
            let refused = dump(&path).unwrap_err();
            assert!(matches!(refused, SpoolError::NoSegment { .. }), "{name}: {refused:?}");
        }
        let missing = dump(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, SpoolError::Io { doing: "reading", .. }), "{missing:?}");
    }

    #[test]
    fn a_broken_head_ends_the_view() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000000.seg");
        let mut octets = b"msSPOOL1\x01\0\0\0\xFF\xFF\xFF\xFF".to_vec();
        octets.resize(4096, 0);
        fs::write(&path, octets).unwrap();
        let seen = dump(&path).unwrap();
        let flaw = Flaw::Form;
        let expected = Damaged { segment: 0, record: 0, offset: HEADER, flaw };
        assert_eq!(seen.records().collect::<Vec<_>>(), [Err(expected)]);
    }
}
