//! threshold — notices when too many attempts at a provider are deferred, bounced or blocked.
//!
//! A [`Watch`] counts outcomes and is looked at now and then; a [`Crossing`] is told once, when the
//! share has been above its threshold for as long as the threshold demands. It is told again only
//! after the share was well below ([`REARM`]), or one that wavers around its threshold would be
//! told all day. It cannot fail, reads no clock, and leaves to others what to do about it.
//!
//! Memory: each provider heard of within the longest window has at most [`BUCKETS`] + 1 counters of
//! 32 octets for each threshold that watches it; one that is not heard of any more is forgotten.
//! Counts are by buckets of a sixtieth of the window, so a window is up to a sixtieth too long.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::tally::{is_attempt, is_block, is_bounce, is_deferral};
use crate::outcome::{Class, Kind};
use crate::units::Utc;

/// Into how many parts a window is cut: one minute of an hour's window.
const BUCKETS: u32 = 60;

/// The part of its threshold at or below which a share is told anew when it is above again. Ours:
/// 8 % must fall to 6 %, four times the wavering of 8 % of 3,500 attempts (a standard deviation of
/// 0.46 %).
const REARM: f64 = 0.75;

/// Of which attempts the share is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Those put off.
    Deferral,
    /// Those refused for good.
    Bounce,
    /// Those refused, for now or for good, because of us.
    Block,
}

impl Measure {
    fn counts(self, kind: Kind, class: Class) -> bool {
        match self {
            Measure::Deferral => is_deferral(kind, class),
            Measure::Bounce => is_bounce(kind),
            Measure::Block => is_block(kind, class),
        }
    }
}

/// Whose attempts are added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Those at each provider for itself.
    Each,
    /// Those at this provider.
    Provider(String),
    /// All of them together.
    All,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell somebody.
    Warn,
    /// Send less to the provider.
    Slow,
    /// Send nothing more until somebody acts.
    Stop,
}

/// A share of outcomes that is too high.
///
/// "The hourly deferral rate of a provider is above 8 % for two hours" is a `window` of an hour and
/// `sustained` for two.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Of which attempts.
    pub measure: Measure,
    /// The share above which it is too high, between 0 and 1.
    pub above: f64,
    /// Over how long the share is taken; at least a minute, or its parts are too short to matter.
    pub window: Duration,
    /// For how long it must have been too high; zero for at once.
    pub sustained: Duration,
    /// Below so many attempts in the window it is not looked at.
    pub at_least: u64,
    /// Whose attempts.
    pub whose: Whose,
    /// What to do.
    pub action: Action,
}

/// A threshold that was crossed.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// Which threshold, as an index into those that the watch was made with.
    pub threshold: usize,
    /// At which provider; `None` when all were added up.
    pub provider: Option<String>,
    /// The share in the window.
    pub rate: f64,
    /// Attempts in the window.
    pub counted: u64,
}

/// Outcomes of some time, and what has been told of them.
#[derive(Debug)]
pub struct Watch {
    watched: Vec<Watched>,
}

/// A threshold, and the providers that it looks at.
#[derive(Debug)]
struct Watched {
    threshold: Threshold,
    /// By provider; the empty name when all are added up.
    series: HashMap<String, Series>,
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(thresholds: Vec<Threshold>) -> Watch {
        let watched = |threshold| Watched { threshold, series: HashMap::new() };
        Watch { watched: thresholds.into_iter().map(watched).collect() }
    }

    /// Counts an outcome; one that came of no attempt is none.
    pub fn count(&mut self, now: Utc, provider: &str, kind: Kind, class: Class) {
        if !is_attempt(kind, class) {
            return;
        }
        for Watched { threshold, series } in &mut self.watched {
            let name = match &threshold.whose {
                Whose::Each => provider,
                Whose::Provider(name) if name == provider => provider,
                Whose::Provider(_) => continue,
                Whose::All => "",
            };
            if !series.contains_key(name) {
                series.insert(name.to_owned(), Series::default());
            }
            let one = series.get_mut(name).expect("it was made above if it was not there");
            one.count(threshold.bucket(now), threshold.measure.counts(kind, class));
        }
    }

    /// What has crossed its threshold since the last look, in the order of thresholds and names.
    ///
    /// To be called at least once in a sixtieth of the shortest window: a share that rises and
    /// falls between two looks is not seen.
    pub fn look(&mut self, now: Utc) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for (index, Watched { threshold, series }) in self.watched.iter_mut().enumerate() {
            let first = crossings.len();
            for (name, one) in series.iter_mut() {
                if let Some((rate, counted)) = one.look(threshold, now) {
                    let provider = (threshold.whose != Whose::All).then(|| name.clone());
                    crossings.push(Crossing { threshold: index, provider, rate, counted });
                }
            }
            series.retain(|_, one| !one.is_idle());
            crossings[first..].sort_by(|a, b| a.provider.cmp(&b.provider));
        }
        crossings
    }

    /// Whether the threshold was told to be crossed at this provider and has not been well below
    /// since; for what is to be undone then.
    pub fn stands(&self, threshold: usize, provider: &str) -> bool {
        let watched = &self.watched[threshold];
        let name = if watched.threshold.whose == Whose::All { "" } else { provider };
        watched.series.get(name).is_some_and(|series| series.told)
    }
}

impl Threshold {
    /// The number of the bucket that holds `now`.
    fn bucket(&self, now: Utc) -> i64 {
        let part = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX) / i64::from(BUCKETS);
        now.0.div_euclid(part.max(1))
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    number: i64,
    counted: u64,
    hits: u64,
}

/// What came of the attempts at one provider.
#[derive(Debug, Default)]
struct Series {
    /// Those that are not empty, oldest first.
    buckets: VecDeque<Bucket>,
    counted: u64,
    hits: u64,
    /// Since when the share is above.
    since: Option<Utc>,
    told: bool,
}

impl Series {
    fn count(&mut self, number: i64, hit: bool) {
        // A clock that stepped back: it counts as the latest time that was seen.
        let number = self.buckets.back().map_or(number, |last| last.number.max(number));
        if self.buckets.back().is_none_or(|last| last.number < number) {
            self.forget(number);
            self.buckets.push_back(Bucket { number, counted: 0, hits: 0 });
        }
        let last = self.buckets.back_mut().expect("it was made above if it was not there");
        last.counted += 1;
        last.hits += u64::from(hit);
        self.counted += 1;
        self.hits += u64::from(hit);
    }

    /// Drops what is older than a window that ends in bucket `number`.
    fn forget(&mut self, number: i64) {
        let old = |bucket: &Bucket| bucket.number < number - i64::from(BUCKETS);
        while let Some(bucket) = self.buckets.pop_front_if(|bucket| old(bucket)) {
            self.counted -= bucket.counted;
            self.hits -= bucket.hits;
        }
        debug_assert!(self.buckets.len() <= BUCKETS as usize + 1);
    }

    /// Share and attempts, if the crossing is to be told now.
    fn look(&mut self, threshold: &Threshold, now: Utc) -> Option<(f64, u64)> {
        self.forget(threshold.bucket(now));
        let enough = self.counted > 0 && self.counted >= threshold.at_least;
        let rate = if enough { self.hits as f64 / self.counted as f64 } else { 0.0 };
        if rate <= threshold.above {
            self.since = None;
            self.told &= rate > threshold.above * REARM;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if self.told || now.since(since) < threshold.sustained {
            return None;
        }
        self.told = true;
        Some((rate, self.counted))
    }

    fn is_idle(&self) -> bool {
        self.buckets.is_empty() && !self.told && self.since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Utc = Utc(1_795_262_400_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const NEVER: [u32; 0] = [];

    fn minute(after: u32) -> Utc {
        NOON.after(MINUTE * after)
    }

    /// The hourly deferral rate of a provider is above 8 % for two hours.
    fn rule() -> Threshold {
        Threshold {
            measure: Measure::Deferral,
            above: 0.08,
            window: 60 * MINUTE,
            sustained: 120 * MINUTE,
            at_least: 100,
            whose: Whose::Each,
            action: Action::Warn,
        }
    }

    fn count(watch: &mut Watch, now: Utc, provider: &str, attempts: u32, deferred: u32) {
        for n in 0..attempts {
            let kind = if n < deferred { Kind::Deferred } else { Kind::Delivered };
            watch.count(now, provider, kind, Class::None);
        }
    }

    /// Sends 50 messages a minute from minute `from` to `to`, so many of them deferred, and gives
    /// the minutes at which something was told.
    fn run(watch: &mut Watch, from: u32, to: u32, deferred: u32) -> Vec<u32> {
        let mut told = Vec::new();
        for at in from..to {
            count(watch, minute(at), "google", 50, deferred);
            told.extend(watch.look(minute(at)).iter().map(|_| at));
        }
        told
    }

    #[test]
    fn eight_percent_an_hour_for_two_hours_is_told_once() {
        let mut watch = Watch::new(vec![rule()]);
        assert_eq!(run(&mut watch, 0, 300, 4), NEVER, "8 % is not above 8 %");
        // Of the 61 buckets of an hour, the first with 5 of 50 brings the share above 8 %.
        assert_eq!(run(&mut watch, 300, 600, 5), [420], "two hours after it rose");
        assert!(watch.stands(0, "google"));
        assert!(!watch.stands(0, "yahoo"));
    }

    #[test]
    fn an_hour_of_calm_begins_the_two_hours_anew() {
        let mut watch = Watch::new(vec![rule()]);
        assert_eq!(run(&mut watch, 0, 60, 10), NEVER);
        assert_eq!(run(&mut watch, 60, 170, 0), NEVER, "above until minute 96 only");
        assert_eq!(run(&mut watch, 170, 400, 10), [314], "above since minute 194");
    }

    #[test]
    fn what_wavers_is_told_once_and_what_was_low_again() {
        let at_once = Threshold { sustained: Duration::ZERO, ..rule() };
        let mut watch = Watch::new(vec![at_once]);
        assert_eq!(run(&mut watch, 0, 120, 5), [1], "when there are 100 attempts");
        for hour in 2..12 {
            let deferred = if hour % 2 == 0 { 4 } else { 6 };
            assert_eq!(run(&mut watch, hour * 60, hour * 60 + 60, deferred), NEVER, "hour {hour}");
        }
        assert!(watch.stands(0, "google"));
        assert_eq!(run(&mut watch, 720, 840, 2), NEVER, "4 % is well below");
        assert!(!watch.stands(0, "google"));
        assert_eq!(run(&mut watch, 840, 1000, 6).len(), 1);
    }

    #[test]
    fn each_provider_one_provider_and_all_are_added_up_apart() {
        let at_once = Threshold { sustained: Duration::ZERO, at_least: 1, ..rule() };
        let yahoo = Threshold { whose: Whose::Provider("yahoo".into()), ..at_once.clone() };
        let all = Threshold { whose: Whose::All, ..at_once.clone() };
        let mut watch = Watch::new(vec![at_once, yahoo, all]);
        count(&mut watch, NOON, "yahoo", 100, 50);
        count(&mut watch, NOON, "google", 300, 30);
        let crossing = |threshold, provider: Option<&str>, rate, counted| Crossing {
            threshold,
            provider: provider.map(str::to_owned),
            rate,
            counted,
        };
        assert_eq!(
            watch.look(NOON),
            [
                crossing(0, Some("google"), 0.1, 300),
                crossing(0, Some("yahoo"), 0.5, 100),
                crossing(1, Some("yahoo"), 0.5, 100),
                crossing(2, None, 0.2, 400),
            ]
        );
        assert_eq!(watch.look(NOON), []);
        assert!(watch.stands(2, "anybody"));
    }

    #[test]
    fn measures_look_at_what_they_name() {
        for (measure, kind, class, told) in [
            (Measure::Deferral, Kind::Deferred, Class::Greylisted, true),
            (Measure::Deferral, Kind::Bounced, Class::BadMailbox, false),
            (Measure::Bounce, Kind::Bounced, Class::BadMailbox, true),
            (Measure::Bounce, Kind::Deferred, Class::SpamRelated, false),
            (Measure::Block, Kind::Deferred, Class::SpamRelated, true),
            (Measure::Block, Kind::Bounced, Class::PolicyRelated, true),
            (Measure::Block, Kind::Bounced, Class::BadMailbox, false),
            (Measure::Bounce, Kind::Failed, Class::RenderError, false),
        ] {
            let at_least = 1;
            let rule = Threshold { measure, sustained: Duration::ZERO, at_least, ..rule() };
            let mut watch = Watch::new(vec![rule]);
            watch.count(NOON, "google", kind, class);
            assert_eq!(watch.look(NOON).len(), usize::from(told), "{measure:?} {kind:?} {class:?}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut watch = Watch::new(vec![rule()]);
        for n in 0..1000 {
            watch.count(NOON, &format!("site{n}.example"), Kind::Deferred, Class::None);
        }
        assert_eq!(watch.watched[0].series.len(), 1000);
        assert_eq!(watch.look(minute(62)), []);
        assert_eq!(watch.watched[0].series.len(), 0);
        for at in 0..10_000 {
            count(&mut watch, minute(at), "google", 1, 0);
        }
        assert_eq!(watch.watched[0].series["google"].buckets.len(), 61);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_naive_one(
            steps in prop::collection::vec((0_u32..20, any::<bool>()), 1..200),
        ) {
            let rule = Threshold { sustained: Duration::ZERO, at_least: 1, ..rule() };
            let mut watch = Watch::new(vec![rule.clone()]);
            let (mut now, mut seen) = (0, Vec::new());
            for (step, deferred) in steps {
                now += step;
                seen.push((now, deferred));
                count(&mut watch, minute(now), "google", 1, u32::from(deferred));
                watch.look(minute(now));
                let window = seen.iter().filter(|(at, _)| at + BUCKETS >= now);
                let deferrals = window.clone().filter(|(_, deferred)| *deferred).count() as u64;
                let series = &watch.watched[0].series["google"];
                prop_assert_eq!((series.counted, series.hits), (window.count() as u64, deferrals));
            }
        }
    }
}
