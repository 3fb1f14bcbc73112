//! dirt — the kinds of rows that are not plain, how many of each are wanted and how many were
//! written.
//!
//! A kind is either dirt, which a sender must exclude, or an oddity, which it must accept. A row
//! has one kind at most, so the counts add up to the rows. `Dirt::with` refuses shares above 1.

use serde::Serialize;

/// Kinds of rows.
pub const KINDS: usize = Kind::ALL.len();

/// What is the matter with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The address of an earlier good row, octet by octet.
    ExactDuplicate,
    /// The address of an earlier good row in capitals.
    CaseDuplicate,
    /// No `@`, two `@`, a space, a leading dot, or nothing before the `@`, in turn.
    BadSyntax,
    /// The address column is empty.
    MissingAddress,
    /// A Latin-1 `ü` in `first_name`; the address is good.
    NotUtf8,
    /// A quoted CR LF and a `Bcc` line in `first_name`; the address is good.
    HeaderInjection,
    /// One field too few or one too many, in turn.
    FieldCount,
    /// The delimiter and doubled quotes within a quoted `city`.
    QuotedDelimiter,
    /// A line break within a quoted `note`.
    NewlineInNote,
    /// Names with letters outside ASCII.
    Umlaut,
    /// An emoji in `first_name`.
    Emoji,
    /// An address under an internationalised domain.
    IdnDomain,
    /// A local part with `+tag`.
    PlusAddress,
    /// Every column but the address is empty.
    EmptyOptional,
}

impl Kind {
    /// All kinds, dirt first.
    pub const ALL: [Kind; 14] = [
        Kind::ExactDuplicate,
        Kind::CaseDuplicate,
        Kind::BadSyntax,
        Kind::MissingAddress,
        Kind::NotUtf8,
        Kind::HeaderInjection,
        Kind::FieldCount,
        Kind::QuotedDelimiter,
        Kind::NewlineInNote,
        Kind::Umlaut,
        Kind::Emoji,
        Kind::IdnDomain,
        Kind::PlusAddress,
        Kind::EmptyOptional,
    ];

    /// Whether a sender must exclude the row.
    pub fn is_dirt(self) -> bool {
        (self as usize) <= Kind::FieldCount as usize
    }
}

/// How many rows in 1000 are of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dirt {
    per_mille: [u16; KINDS],
}

impl Dirt {
    /// Plain rows only.
    pub fn none() -> Dirt {
        Dirt::default()
    }

    /// What an export of a shop that never cleaned its list looks like, by our own estimate:
    /// 2.8 % dirt, 6 % oddities.
    pub fn usual() -> Dirt {
        Dirt { per_mille: [8, 5, 5, 4, 2, 2, 2, 10, 5, 20, 5, 5, 10, 5] }
    }

    /// The same with another share of one kind.
    ///
    /// # Panics
    /// If the shares exceed 1000 together.
    pub fn with(mut self, kind: Kind, per_mille: u16) -> Dirt {
        self.per_mille[kind as usize] = per_mille;
        let sum: u32 = self.per_mille.iter().map(|&share| u32::from(share)).sum();
        assert!(sum <= 1000, "the shares are of 1000 rows, not of {sum}");
        self
    }

    /// Which kind the `draw`, a number below 1000, stands for; none is a plain row.
    pub(crate) fn kind(&self, draw: u32) -> Option<Kind> {
        let mut upper = 0;
        Kind::ALL.into_iter().find(|&kind| {
            upper += u32::from(self.per_mille[kind as usize]);
            draw < upper
        })
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Data rows, the header not counted.
    pub rows: u64,
    /// Rows that a sender must accept: plain ones and oddities.
    pub good: u64,
    /// Octets of the file.
    pub bytes: u64,
    /// Rows of each kind, in the order of [`Kind::ALL`].
    #[serde(serialize_with = "named")]
    kinds: [u64; KINDS],
}

impl Tally {
    /// Rows of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize]
    }

    /// Rows that a sender must exclude.
    pub fn dirty(&self) -> u64 {
        self.rows - self.good
    }

    pub(crate) fn count(&mut self, kind: Option<Kind>) {
        self.rows += 1;
        self.good += u64::from(kind.is_none_or(|kind| !kind.is_dirt()));
        if let Some(kind) = kind {
            self.kinds[kind as usize] += 1;
        }
    }
}

fn named<S: serde::Serializer>(kinds: &[u64; KINDS], out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(Kind::ALL.into_iter().zip(kinds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fall_into_their_shares() {
        let dirt = Dirt::none().with(Kind::BadSyntax, 2).with(Kind::Emoji, 998);
        let cases = [
            (0, Some(Kind::BadSyntax)),
            (1, Some(Kind::BadSyntax)),
            (2, Some(Kind::Emoji)),
            (999, Some(Kind::Emoji)),
        ];
        for (draw, kind) in cases {
            assert_eq!(dirt.kind(draw), kind, "draw {draw}");
        }
        assert!((0..1000).all(|draw| Dirt::none().kind(draw).is_none()));
    }

    #[test]
    #[should_panic(expected = "the shares are of 1000 rows, not of 1001")]
    fn shares_above_one_are_refused() {
        let _ = Dirt::none().with(Kind::Umlaut, 1).with(Kind::Emoji, 1000);
    }

    #[test]
    fn kinds_are_numbered_as_listed() {
        assert!(Kind::ALL.iter().enumerate().all(|(n, &kind)| kind as usize == n));
        assert_eq!(Kind::ALL.iter().filter(|kind| kind.is_dirt()).count(), 7);
    }

    #[test]
    fn the_tally_reads_as_json() {
        let mut tally = Tally::default();
        tally.count(None);
        tally.count(Some(Kind::MissingAddress));
        tally.count(Some(Kind::Emoji));
        let json = serde_json::to_value(&tally).unwrap();
        assert_eq!((&json["rows"], &json["good"]), (&3.into(), &2.into()));
        assert_eq!(json["kinds"]["missing_address"], 1);
        assert_eq!((tally.of(Kind::Emoji), tally.dirty()), (1, 1));
    }
}
