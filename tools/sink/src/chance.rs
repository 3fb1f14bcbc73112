//! chance — misfortune by seed: the same seed and the same order of events, the same misfortunes.
//!
//! It must not know what a misfortune is.

/// Random numbers by splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// True with this probability. 0 is never and takes no number from the stream.
    pub(crate) fn strikes(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// A number from 0 to below 1, with 53 random bits.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_strikes_as_often_as_told() {
        for (probability, expected) in [(0.0, 0), (0.1, 1000), (0.5, 5000), (1.0, 10_000)] {
            let mut chance = Chance::new(42);
            let struck = (0..10_000).filter(|_| chance.strikes(probability)).count();
            let exactly = probability == 0.0 || probability == 1.0;
            assert!(struck.abs_diff(expected) <= if exactly { 0 } else { 150 }, "{struck}");
        }
    }
}
