//! chance — one stream of numbers from one seed, so that a world can be made again.
//!
//! It cannot fail. It must not know what its numbers are for.

use std::f64::consts::TAU;
use std::time::Duration;

/// A stream of random numbers: SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scattered(self.0)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.any() % (high - low + 1)
    }

    /// Whether something happens that happens `permille` times of a thousand.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.any() % 1_000 < permille
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        let last = choices.len() as u64 - 1;
        let at = usize::try_from(self.between(0, last)).expect("below the length of a slice");
        choices[at].clone()
    }

    /// From 0 to 1, without 0.
    fn fraction(&mut self) -> f64 {
        // 53 bits are what a double holds.
        ((self.any() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution (Box, Muller, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (TAU * self.fraction()).cos()
    }
}

/// Spreads neighbouring numbers over all 64 bits: the output function of SplitMix64.
pub(super) fn scattered(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How long a receiver takes for a reply: a log-normal distribution, given by two of its
/// percentiles. Times of servers under load are of this kind: never negative, a long tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half of the replies take no longer.
    pub p50: Duration,
    /// Nineteen of twenty replies take no longer; at least `p50`.
    pub p95: Duration,
}

/// The 95th percentile of the standard normal distribution.
const Z95: f64 = 1.644_853_626_951_472_2;
/// No reply takes longer, or one of a million would stretch every prediction.
const TAIL: f64 = 4.0;

impl Latency {
    /// Always the same time.
    pub fn fixed(time: Duration) -> Latency {
        Latency { p50: time, p95: time }
    }

    /// One time of the distribution, at most as long as one in 30,000 takes.
    pub fn draw(&self, chance: &mut Chance) -> Duration {
        if self.p50 >= self.p95 {
            return self.p50;
        }
        let spread = self.p95.as_secs_f64() / self.p50.as_secs_f64().max(1e-9);
        let deviation = spread.ln() / Z95;
        let times = (deviation * chance.normal().min(TAIL)).exp();
        Duration::from_nanos((self.p50.as_nanos() as f64 * times) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_has_its_percentiles() {
        let latency = Latency { p50: Duration::from_millis(200), p95: Duration::from_millis(900) };
        let mut chance = Chance::new(7);
        let mut times: Vec<u128> =
            (0..20_000).map(|_| latency.draw(&mut chance).as_millis()).collect();
        times.sort_unstable();
        assert!((195..=205).contains(&times[10_000]), "{}", times[10_000]);
        assert!((870..=930).contains(&times[19_000]), "{}", times[19_000]);
        let fixed = Latency::fixed(Duration::from_millis(5));
        assert_eq!(fixed.draw(&mut chance), Duration::from_millis(5));
    }

    #[test]
    fn a_seed_makes_its_stream_again() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            [chance.any(), chance.between(3, 9), chance.one_of(&[5, 6])]
        };
        assert_eq!(draw(4), draw(4));
        assert_ne!(draw(4), draw(5));
    }
}
