//! random — splitmix64: 64 bits of state, the same numbers on every machine.
//!
//! It cannot fail and is not for secrets. It must not know what its numbers are used for.

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
/// (OOPSLA 2014), with the constants of Vigna's public-domain `splitmix64.c`.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream that depends on the seed alone.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`. The bias of the multiplication is below `bound` / 2^32, which is
    /// nothing for lists.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// One of the entries.
    pub(crate) fn pick<T: Copy>(&mut self, entries: &[T]) -> T {
        entries[self.below(entries.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // The first outputs of splitmix64.c for seed 1234567, as many implementations cite them.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(random.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::new(7);
        for bound in [1, 2, 3, 1000, u32::MAX] {
            assert!((0..1000).all(|_| random.below(bound) < bound), "bound {bound}");
        }
    }
}
