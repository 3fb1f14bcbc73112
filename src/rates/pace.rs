//! pace — when the next message of a group may begin, and over which source.
//!
//! A *lane* is one group over one source: the unit of rates and connections. [`Pace`] keeps all
//! lanes of a delivery thread and what stands above them: the totals of a group, a source as a
//! whole, the ceiling of the run. It is asked, never polled: a refusal names the time to come back
//! and the limit that binds.
//!
//! Trouble moves the scope that it is about ([`Who`]):
//!
//! ```text
//! pause   nothing begins until its end; then one connection until a message is accepted (the
//!         probe), then one more with each success. Again without a success between: twice as long
//! slow    half the pace and half the connections; a step back after a quarter of an hour
//! halt    nothing begins until somebody resumes it
//! ```
//!
//! Pause, one connection, then one more at a time is what Google asks of senders
//! (support.google.com/mail/answer/81126). It cannot fail; time is an argument. It must not know
//! sockets, messages, or what a reply says.

use std::time::Duration;

use super::warmup::{Cap, Quota};
use super::{Bucket, Limits};
use crate::destination::{GroupNo, SourceNo};
use crate::limits::TIMER_SLACK;
use crate::outcome::Binding;
use crate::units::{Rate, Tick, Utc};

/// The first pause where the receiver names none.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause: a receiver that was down for a night is found within five minutes.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// To what a pause that a rule names may grow when it is repeated: the longest that a provider
/// documents (Yahoo: four hours, help.yahoo.com SLN26151).
const NAMED_PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);

/// How much longer one message or connection may be on its way than another. A bucket keeps its
/// bound where messages begin, to the nanosecond; the receiver counts where they arrive, and saw
/// 201 within a second of "200/s" over loopback on a busy machine (measured). Costs 1 % of a rate
/// per second, nothing of one per hour.
const TRANSIT_JITTER: Duration = Duration::from_millis(10);

/// Between two additions of one connection after trouble.
const GROW_EVERY: Duration = Duration::from_secs(1);

/// How long a lane stays slowed after the last reply that asked for it.
const SLOW_FOR: Duration = Duration::from_secs(15 * 60);
/// Halvings at most: a thirty-second part of the pace.
const SLOW_MAX: u8 = 5;

/// The step of a source of weight 1 in the choice between sources.
const STRIDE: u64 = 1 << 20;

/// Which lanes something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Every lane.
    Everything,
    /// The lanes of one source.
    Source(SourceNo),
    /// The lanes of one group.
    Group(GroupNo),
    /// One lane.
    Lane(GroupNo, SourceNo),
}

/// By how much timers are late and the ways of messages differ, in the time of the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blur {
    /// See [`Bucket`].
    pub slack: Duration,
    /// How much longer one message may be on its way than another.
    pub transit: Duration,
}

impl Blur {
    /// That of a machine whose lanes' time runs `speed` times as fast as its clock.
    pub fn at_speed(speed: u32) -> Blur {
        Blur { slack: TIMER_SLACK * speed, transit: TRANSIT_JITTER * speed }
    }
}

/// Stops of one scope.
#[derive(Clone, Debug, Default)]
struct Hold {
    until: Tick,
    /// The length of the next pause, if the scope does not recover before.
    next: Duration,
    /// By a verdict, until somebody mends the cause.
    halted: bool,
    /// By the operator.
    parked: bool,
}

impl Hold {
    fn opens(&self) -> (Tick, Binding) {
        match self.halted || self.parked {
            true if self.halted => (Tick(u64::MAX), Binding::Halt),
            true => (Tick(u64::MAX), Binding::Pause),
            false => (self.until, Binding::Pause),
        }
    }

    /// Whether this is news: what was under way fails together, and that is one trouble.
    fn pause(&mut self, named: Duration, now: Tick) -> bool {
        if self.until > now {
            self.until = self.until.max(now.after(named));
            return false;
        }
        let (least, most) = match named.is_zero() {
            true => (PAUSE_MIN, PAUSE_MAX),
            false => (named, NAMED_PAUSE_MAX.max(named)),
        };
        let wait = self.next.clamp(least, most);
        self.until = now.after(wait);
        self.next = (wait * 2).min(most);
        true
    }

    fn recovered(&mut self, now: Tick) {
        if self.until <= now {
            self.next = Duration::ZERO;
        }
    }
}

struct Lane {
    buckets: Vec<Bucket>,
    hold: Hold,
    open: u32,
    /// Connections allowed for now.
    allowed: u32,
    grow_at: Tick,
    connect_at: Tick,
    /// Paused, and nothing accepted since.
    probing: bool,
    slow: u8,
    slow_until: Tick,
    /// Where a slowed lane goes on.
    slow_next: Tick,
    /// What the warm-up leaves to it; `None` once it is warm.
    quota: Option<Quota>,
    /// How much of its turn the source has had at this group.
    pass: u64,
}

struct Group {
    limits: Limits,
    totals: Vec<Bucket>,
    hold: Hold,
    open: u32,
    lanes: Vec<Lane>,
}

struct Source {
    weight: u32,
    hold: Hold,
}

/// The pace of all lanes of a delivery thread.
pub struct Pace {
    blur: Blur,
    sources: Vec<Source>,
    groups: Vec<Group>,
    hold: Hold,
    ceiling: Option<Bucket>,
    connections: u32,
    open: u32,
    /// One moment on both clocks: quotas are of days and hours.
    anchor: (Tick, Utc),
}

impl Pace {
    /// No group yet. `weights` are those of the sources; `connections` and `rate` are the run's own
    /// ceilings over all groups.
    pub fn new(
        weights: &[u32],
        (connections, rate): (u32, Option<Rate>),
        blur: Blur,
        now: Tick,
    ) -> Pace {
        assert!(!weights.is_empty(), "mail comes from at least one source");
        let hold = Hold::default;
        let source = |weight: &u32| Source { weight: (*weight).max(1), hold: hold() };
        Pace {
            blur,
            sources: weights.iter().map(source).collect(),
            groups: Vec::new(),
            hold: hold(),
            ceiling: rate.map(|rate| bucket(rate, blur, now)),
            connections,
            open: 0,
            anchor: (now, Utc(0)),
        }
    }

    /// What the wall clock says now; to be told before anything else is asked at this time.
    pub fn tell(&mut self, now: Tick, utc: Utc) {
        self.anchor = (now, utc);
    }

    /// The next group.
    pub fn add(&mut self, limits: Limits, now: Tick) -> GroupNo {
        let group = GroupNo(u32::try_from(self.groups.len()).expect("groups count in 32 bits"));
        let lane = || Lane {
            buckets: limits.rates.iter().map(|rate| bucket(*rate, self.blur, now)).collect(),
            hold: Hold::default(),
            open: 0,
            allowed: limits.connections,
            grow_at: Tick(0),
            connect_at: Tick(0),
            probing: false,
            slow: 0,
            slow_until: Tick(0),
            slow_next: Tick(0),
            quota: None,
            pass: 0,
        };
        let lanes = self.sources.iter().map(|_| lane()).collect();
        let totals = limits.rates_total.iter().chain(&limits.rates_dkim);
        let totals = totals.map(|rate| bucket(*rate, self.blur, now)).collect();
        self.groups.push(Group { limits, totals, hold: Hold::default(), open: 0, lanes });
        group
    }

    /// The group's limits.
    pub fn limits(&self, group: GroupNo) -> &Limits {
        &self.groups[group.index()].limits
    }

    /// The number of sources.
    pub fn sources(&self) -> u32 {
        u32::try_from(self.sources.len()).expect("sources count in 32 bits")
    }

    fn lane(&self, group: GroupNo, source: SourceNo) -> &Lane {
        &self.groups[group.index()].lanes[source.index()]
    }

    fn lane_mut(&mut self, group: GroupNo, source: SourceNo) -> &mut Lane {
        &mut self.groups[group.index()].lanes[source.index()]
    }

    /// The earliest time at which a message may begin on the lane, and what sets it.
    pub fn opens(&self, group: GroupNo, source: SourceNo) -> (Tick, Binding) {
        let Group { totals, hold, lanes, .. } = &self.groups[group.index()];
        let lane = &lanes[source.index()];
        let mut latest = (Tick(0), Binding::Nothing);
        let mut consider = |at: Tick, binding: Binding| {
            if at > latest.0 {
                latest = (at, binding);
            }
        };
        for hold in [&self.hold, &self.sources[source.index()].hold, hold, &lane.hold] {
            let (at, binding) = hold.opens();
            consider(at, binding);
        }
        for bucket in &lane.buckets {
            consider(bucket.next(), Binding::Rate);
        }
        if lane.slow > 0 {
            consider(lane.slow_next, Binding::Rate);
        }
        for bucket in totals {
            consider(bucket.next(), Binding::RateTotal);
        }
        if let Some(bucket) = &self.ceiling {
            consider(bucket.next(), Binding::Ceiling);
        }
        if let Some(quota) = &lane.quota {
            let (now, utc) = self.anchor;
            if quota.left(utc) == Some(0) {
                consider(now.after(quota.opens_at(utc).since(utc)), Binding::WarmUp);
            }
        }
        latest
    }

    /// Until when the lane is stopped, whatever its rates would allow.
    pub fn held(&self, group: GroupNo, source: SourceNo) -> Tick {
        let Group { hold, lanes, .. } = &self.groups[group.index()];
        let of_source = &self.sources[source.index()].hold;
        let holds = [&self.hold, of_source, hold, &lanes[source.index()].hold];
        holds.into_iter().map(|hold| hold.opens().0).max().unwrap_or_default()
    }

    /// Counts a message that begins on the lane.
    ///
    /// # Panics
    /// When the lane is not open.
    pub fn take(&mut self, group: GroupNo, source: SourceNo, now: Tick) {
        let stride = STRIDE / u64::from(self.sources[source.index()].weight);
        let Group { totals, lanes, .. } = &mut self.groups[group.index()];
        let least = lanes.iter().map(|lane| lane.pass).min().unwrap_or(0);
        let lane = &mut lanes[source.index()];
        // A source that could not take its turn does not catch up on it.
        lane.pass = lane.pass.max(least) + stride;
        for bucket in lane.buckets.iter_mut().chain(totals).chain(&mut self.ceiling) {
            let granted = bucket.take(now);
            assert!(granted.is_ok(), "a message begins only on an open lane");
        }
        if lane.slow > 0 {
            let interval = lane.buckets.iter().map(Bucket::interval).max().unwrap_or_default();
            lane.slow_next = now.after(interval * (1 << lane.slow));
        }
        if let Some(quota) = &mut lane.quota {
            quota.take(self.anchor.1);
        }
    }

    /// The sources in the order in which they are to be asked for the group's next message: those
    /// that warm up first, then by their share of what they have sent.
    pub fn order(&self, group: GroupNo, into: &mut Vec<SourceNo>) {
        into.clear();
        into.extend((0..self.sources()).map(SourceNo));
        let lanes = &self.groups[group.index()].lanes;
        into.sort_by_key(|source| {
            let lane = &lanes[source.index()];
            (lane.quota.is_none(), lane.pass)
        });
    }

    /// Whether a further connection may be made on the lane now; else when, and what forbids it.
    ///
    /// # Errors
    /// The time ([`u64::MAX`] when only a closed connection helps) and the limit.
    pub fn may_connect(
        &self,
        group: GroupNo,
        source: SourceNo,
        now: Tick,
    ) -> Result<(), (Tick, Binding)> {
        let Group { limits, open, lanes, .. } = &self.groups[group.index()];
        let lane = &lanes[source.index()];
        let never = Tick(u64::MAX);
        if lane.open >= lane.allowed {
            return Err((never, Binding::Connections));
        }
        if let Some(most) = limits.connections_total {
            // A lane that could begin and has no connection comes before the second one of another:
            // it has a rate of its own, and the others keep theirs for long.
            let kept = match lane.open {
                0 => 0,
                _ => self.unconnected(group, now),
            };
            if open + kept >= most {
                return Err((never, Binding::ConnectionsTotal));
            }
        }
        if self.open >= self.connections {
            return Err((never, Binding::Ceiling));
        }
        match lane.connect_at > now {
            true => Err((lane.connect_at, Binding::Connections)),
            false => Ok(()),
        }
    }

    /// Lanes of the group that are open now and have no connection.
    fn unconnected(&self, group: GroupNo, now: Tick) -> u32 {
        let lanes = (0..).map(SourceNo).zip(&self.groups[group.index()].lanes);
        let none = lanes.filter(|(_, lane)| lane.open == 0);
        let open = none.filter(|(source, _)| self.opens(group, *source).0 <= now).count();
        u32::try_from(open).expect("sources count in 32 bits")
    }

    /// A connection is being made on the lane.
    pub fn opened(&mut self, group: GroupNo, source: SourceNo, now: Tick) {
        self.open += 1;
        let group = &mut self.groups[group.index()];
        group.open += 1;
        let lane = &mut group.lanes[source.index()];
        lane.open += 1;
        if let Some(ramp) = group.limits.ramp {
            lane.connect_at = now.after(ramp + self.blur.transit);
        }
    }

    /// A connection of the lane is gone.
    pub fn closed(&mut self, group: GroupNo, source: SourceNo) {
        assert!(self.lane(group, source).open > 0, "only an open connection is closed");
        self.open -= 1;
        self.groups[group.index()].open -= 1;
        self.lane_mut(group, source).open -= 1;
    }

    /// Connections that the run's ceiling still allows.
    pub fn free(&self) -> u32 {
        self.connections.saturating_sub(self.open)
    }

    /// Connections that the lane has.
    pub fn open(&self, group: GroupNo, source: SourceNo) -> u32 {
        self.lane(group, source).open
    }

    /// Connections that the lane may have for now.
    pub fn allowed(&self, group: GroupNo, source: SourceNo) -> u32 {
        self.lane(group, source).allowed
    }

    /// Whether the lane had trouble and nothing was accepted since: one message at a time.
    pub fn is_probing(&self, group: GroupNo, source: SourceNo) -> bool {
        self.lane(group, source).probing
    }

    /// Messages of the group that could begin within `time`, were there connections enough; `None`
    /// when no rate bounds them.
    pub fn within(&self, group: GroupNo, now: Tick, time: Duration) -> Option<u64> {
        let Group { totals, lanes, .. } = &self.groups[group.index()];
        let end = now.after(time);
        let most = |buckets: &mut dyn Iterator<Item = &Bucket>| {
            let of = |bucket: &Bucket| {
                let interval = bucket.interval().as_nanos().max(1);
                let left = end.since(bucket.next().max(now)).as_nanos();
                u64::try_from(left / interval).unwrap_or(u64::MAX).saturating_add(1)
            };
            buckets.map(of).min()
        };
        let mut sum = Some(0_u64);
        for (number, lane) in (0..).zip(lanes) {
            if self.opens(group, SourceNo(number)).0 > end {
                continue;
            }
            let of_lane = most(&mut lane.buckets.iter()).map(|most| (most >> lane.slow).max(1));
            let left = lane.quota.and_then(|quota| quota.left(self.anchor.1));
            let of_lane = match (of_lane, left) {
                (Some(most), Some(left)) => Some(most.min(left)),
                (most, left) => most.or(left),
            };
            sum = sum.zip(of_lane).map(|(sum, most)| sum.saturating_add(most));
        }
        let total = most(&mut totals.iter().chain(&self.ceiling));
        match (sum, total) {
            (Some(sum), Some(total)) => Some(sum.min(total)),
            (sum, total) => sum.or(total),
        }
    }

    fn holds(&mut self, who: Who) -> &mut Hold {
        match who {
            Who::Everything => &mut self.hold,
            Who::Source(source) => &mut self.sources[source.index()].hold,
            Who::Group(group) => &mut self.groups[group.index()].hold,
            Who::Lane(group, source) => &mut self.lane_mut(group, source).hold,
        }
    }

    fn lanes(&mut self, who: Who) -> Vec<&mut Lane> {
        let groups = &mut self.groups;
        match who {
            Who::Everything => groups.iter_mut().flat_map(|group| &mut group.lanes).collect(),
            Who::Source(source) => {
                groups.iter_mut().map(|group| &mut group.lanes[source.index()]).collect()
            }
            Who::Group(group) => groups[group.index()].lanes.iter_mut().collect(),
            Who::Lane(group, source) => vec![&mut groups[group.index()].lanes[source.index()]],
        }
    }

    /// Stops the scope for a time, then probes it; zero leaves the time to us. Whether this is
    /// news.
    pub fn pause(&mut self, who: Who, named: Duration, now: Tick) -> bool {
        let news = self.holds(who).pause(named, now);
        let until = self.holds(who).until;
        for lane in self.lanes(who) {
            lane.probing = true;
            lane.allowed = 1;
            lane.grow_at = until.after(GROW_EVERY);
        }
        news
    }

    /// Halves pace and connections of the scope.
    pub fn slow(&mut self, who: Who, now: Tick) {
        for lane in self.lanes(who) {
            // Replies to what was under way when the lane was slowed say nothing new.
            if now.after(SLOW_FOR) <= lane.slow_until.after(GROW_EVERY) {
                continue;
            }
            lane.slow = (lane.slow + 1).min(SLOW_MAX);
            lane.slow_until = now.after(SLOW_FOR);
            lane.allowed = (lane.allowed / 2).max(1);
            lane.grow_at = now.after(GROW_EVERY);
        }
    }

    /// Stops the scope until it is resumed. Whether it was not stopped before.
    pub fn halt(&mut self, who: Who) -> bool {
        !std::mem::replace(&mut self.holds(who).halted, true)
    }

    /// Stops the scope by the operator's word, until it is resumed.
    pub fn park(&mut self, who: Who) {
        self.holds(who).parked = true;
    }

    /// Lifts halts, pauses and the operator's stops of the scope and of all below it.
    pub fn resume(&mut self, who: Who, now: Tick) {
        let lift = |hold: &mut Hold| *hold = Hold { until: hold.until.min(now), ..Hold::default() };
        lift(self.holds(who));
        match who {
            Who::Everything => {
                self.sources.iter_mut().for_each(|source| lift(&mut source.hold));
                self.groups.iter_mut().for_each(|group| lift(&mut group.hold));
            }
            Who::Source(_) | Who::Group(_) | Who::Lane(..) => {}
        }
        self.lanes(who).into_iter().for_each(|lane| lift(&mut lane.hold));
    }

    /// The receiver wants no more than `standing` connections on the lane.
    pub fn narrow(&mut self, group: GroupNo, source: SourceNo, standing: u32, now: Tick) {
        let most = self.limits(group).connections;
        let lane = self.lane_mut(group, source);
        lane.allowed = standing.clamp(1, most);
        lane.grow_at = now.after(GROW_EVERY);
    }

    /// A message was accepted on the lane.
    pub fn success(&mut self, group: GroupNo, source: SourceNo, now: Tick) {
        if self.held(group, source) > now {
            return; // it had begun before the pause and proves nothing
        }
        self.hold.recovered(now);
        self.sources[source.index()].hold.recovered(now);
        let group = &mut self.groups[group.index()];
        group.hold.recovered(now);
        let lane = &mut group.lanes[source.index()];
        lane.hold.recovered(now);
        lane.probing = false;
        if lane.slow > 0 && now >= lane.slow_until {
            lane.slow -= 1;
            lane.slow_until = now.after(SLOW_FOR);
        }
        let most = (group.limits.connections >> lane.slow).max(1);
        if lane.allowed < most && now >= lane.grow_at {
            lane.allowed += 1;
            lane.grow_at = now.after(GROW_EVERY.max(group.limits.ramp.unwrap_or_default()));
        }
    }

    /// Gives the group other limits; those of the past stay counted.
    pub fn change(&mut self, group: GroupNo, limits: Limits, now: Tick) {
        let blur = self.blur;
        let group = &mut self.groups[group.index()];
        for lane in &mut group.lanes {
            lane.buckets = changed(&lane.buckets, limits.rates.iter().copied(), blur, now);
            let as_before = lane.allowed == group.limits.connections;
            lane.allowed = match as_before {
                true => limits.connections,
                false => lane.allowed.min(limits.connections),
            };
        }
        let totals = limits.rates_total.iter().chain(&limits.rates_dkim).copied();
        group.totals = changed(&group.totals, totals, blur, now);
        group.limits = limits;
    }

    /// Counts what the lane sent before this process began: how long ago, the oldest first.
    pub fn remember(&mut self, group: GroupNo, source: SourceNo, now: Tick, ages: &[Duration]) {
        for bucket in &mut self.lane_mut(group, source).buckets {
            bucket.remember(now, ages.iter().copied());
        }
    }

    /// The same for the totals of the group.
    pub fn remember_total(&mut self, group: GroupNo, now: Tick, ages: &[Duration]) {
        for bucket in &mut self.groups[group.index()].totals {
            bucket.remember(now, ages.iter().copied());
        }
    }

    /// The same for the run's ceiling.
    pub fn remember_ceiling(&mut self, now: Tick, ages: &[Duration]) {
        if let Some(bucket) = &mut self.ceiling {
            bucket.remember(now, ages.iter().copied());
        }
    }

    /// What the warm-up leaves to the lane; `None` once it is warm.
    pub fn warm_up(&mut self, group: GroupNo, source: SourceNo, quota: Option<Quota>) {
        self.lane_mut(group, source).quota = quota;
    }

    /// Another share from now on, as on the next day; what was sent stays counted.
    pub fn set_cap(&mut self, group: GroupNo, source: SourceNo, cap: Option<Cap>) {
        let utc = self.anchor.1;
        let quota = &mut self.lane_mut(group, source).quota;
        match (quota.as_mut(), cap) {
            (Some(quota), Some(cap)) => quota.set_cap(cap),
            (_, None) => *quota = None,
            (None, Some(cap)) => *quota = Some(Quota::new(cap, utc, 0, 0)),
        }
    }
}

/// The bucket that keeps `rate` where messages arrive.
fn bucket(rate: Rate, blur: Blur, now: Tick) -> Bucket {
    let rate = Rate { period: rate.period + blur.transit, ..rate };
    Bucket::with_slack(rate, blur.slack, now)
}

/// Buckets for other rates that go on where the old ones were.
fn changed(
    old: &[Bucket],
    rates: impl Iterator<Item = Rate>,
    blur: Blur,
    now: Tick,
) -> Vec<Bucket> {
    let latest = old.iter().max_by_key(|bucket| bucket.next());
    rates
        .map(|rate| {
            let arriving = Rate { period: rate.period + blur.transit, ..rate };
            match latest {
                Some(latest) => latest.changed(arriving, now),
                None => bucket(rate, blur, now),
            }
        })
        .collect()
}
