//! seen — which texts (addresses, domains) occurred already, without keeping a single one.
//!
//! A table from a keyed 64-bit hash of the text to the number of what has it first, of an address
//! the row. When a hash is there already the caller compares the two texts themselves (it reads the
//! earlier row again), so that two different ones are never taken for one; a true collision takes
//! the next free hash. The hash is keyed (SipHash of std, random key), or a list could be made to
//! collide.
//!
//! Memory: 17 octets per slot (16 for the pair, 1 for hashbrown's tag) at between 7/16 and 7/8 full
//! slots, hence 20 to 39 octets per accepted row; while the table doubles, the old half as much
//! again. Ten million rows: 285 MB, 428 MB at the moment of doubling.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use crate::outcome::Row;

const _: () = assert!(size_of::<(u64, Row)>() == 16);

/// The texts that occurred, each with the number of its first owner.
pub(super) struct Seen<T, S = RandomState> {
    first: HashMap<u64, T, BuildHasherDefault<Identity>>,
    hasher: S,
}

impl<T: Copy, S: BuildHasher> Seen<T, S> {
    /// Nothing seen yet.
    pub(super) fn new(hasher: S) -> Seen<T, S> {
        Seen { first: HashMap::default(), hasher }
    }

    /// The owner that had `key` before, or `None`, and then `owner` has it from now on.
    ///
    /// `is_key` tells whether an earlier owner's key is `key`; its error ends the search.
    pub(super) fn first<E>(
        &mut self,
        key: &str,
        owner: T,
        mut is_key: impl FnMut(T) -> Result<bool, E>,
    ) -> Result<Option<T>, E> {
        let mut hash = self.hasher.hash_one(key);
        loop {
            match self.first.entry(hash) {
                Entry::Vacant(free) => {
                    free.insert(owner);
                    return Ok(None);
                }
                Entry::Occupied(taken) if is_key(*taken.get())? => return Ok(Some(*taken.get())),
                Entry::Occupied(_) => hash = hash.wrapping_add(1),
            }
        }
    }
}

/// Takes a `u64` that is a hash already as its own hash.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes everything collide.
    struct SameForAll;

    struct Same;

    impl Hasher for Same {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            u64::MAX
        }
    }

    impl BuildHasher for SameForAll {
        type Hasher = Same;

        fn build_hasher(&self) -> Same {
            Same
        }
    }

    /// Feeds `keys` as rows 1, 2, … and gives what each was told.
    fn told<S: BuildHasher>(mut seen: Seen<Row, S>, keys: &[&str]) -> Vec<Option<u32>> {
        let is_key = |key: &str, row: Row| Ok::<_, ()>(keys[row.0 as usize - 1] == key);
        (1..)
            .zip(keys)
            .map(|(row, key)| seen.first(key, Row(row), |row| is_key(key, row)).unwrap())
            .map(|first| first.map(|row| row.0))
            .collect()
    }

    #[test]
    fn the_first_row_keeps_its_address_even_when_all_hashes_collide() {
        let keys = ["a@x", "b@x", "a@x", "c@x", "b@x", "a@x", "c@x"];
        let expected = [None, None, Some(1), None, Some(2), Some(1), Some(4)];
        assert_eq!(told(Seen::new(RandomState::new()), &keys), expected);
        assert_eq!(told(Seen::new(SameForAll), &keys), expected);
    }

    #[test]
    fn a_failed_comparison_is_passed_on() {
        let mut seen = Seen::new(RandomState::new());
        assert_eq!(seen.first("a", Row(1), |_| Err("unread")), Ok(None));
        assert_eq!(seen.first("a", Row(2), |_| Err("unread")), Err("unread"));
    }
}
