//! steering — what changes while a run goes on: the operator's orders, the stops that replies
//! demanded, thresholds that were crossed, the next day of a warm-up. All of it is on record in the
//! run's `control.jsonl`, from which the next process takes up what stands.

use std::collections::HashSet;
use std::net::IpAddr;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Receiver;

use super::stages::Lines;
use super::warming::Warming;
use crate::campaign;
use crate::deliver::{Group, Live, LiveGroup, Notice, Order};
use crate::destination::{GroupNo, SourceNo};
use crate::outcome::{Class, Kind};
use crate::rates::threshold::{Action, Crossing, Threshold, Watch};
use crate::rates::{Limits, Who};
use crate::rundir::RunDir;
use crate::rundir::control::{self, By, Command, Entry, Fold, Follow, Scope, Standing};
use crate::units::Utc;

/// Why a run stops before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All that is left waits for a person.
    Halted,
    /// The operator cancelled it; it goes on until every row has its end.
    Cancelled,
}

/// What has been counted of a group.
#[derive(Clone, Copy, Default)]
struct Seen {
    delivered: u64,
    deferred: u64,
    bounced: u64,
    blocked_deferrals: u64,
    blocked_bounces: u64,
}

/// The state of all that steers a run.
pub(super) struct Steering<'a> {
    dir: &'a RunDir,
    run: String,
    follow: Follow,
    fold: Fold,
    groups: Vec<Group>,
    /// The limits in force, by group.
    limits: Vec<Limits>,
    sources: Vec<Option<IpAddr>>,
    /// Stops that delivery was told of, or told us of, wider than one lane.
    held: HashSet<Who>,
    thresholds: Vec<campaign::Threshold>,
    watch: Watch,
    seen: Vec<Seen>,
    warming: Warming,
    cancelled: bool,
    began: bool,
}

impl<'a> Steering<'a> {
    pub(super) fn new(
        (dir, run): (&'a RunDir, &str),
        groups: &[Group],
        sources: Vec<Option<IpAddr>>,
        thresholds: &[campaign::Threshold],
        warming: Warming,
    ) -> Steering<'a> {
        Steering {
            dir,
            run: run.to_owned(),
            follow: Follow::open(dir),
            fold: Fold::default(),
            limits: groups.iter().map(|group| group.limits.clone()).collect(),
            groups: groups.to_vec(),
            sources,
            held: HashSet::new(),
            thresholds: thresholds.to_vec(),
            watch: Watch::new(thresholds.iter().map(watched).collect()),
            seen: vec![Seen::default(); groups.len()],
            warming,
            cancelled: false,
            began: false,
        }
    }

    /// Looks at everything that may have changed; why the run is to stop, if it is.
    pub(super) fn step(
        &mut self,
        live: &Live,
        lines: &Lines,
        notices: &Receiver<Notice>,
        now: Utc,
    ) -> Option<End> {
        self.hear(lines, notices, now);
        match self.follow.next() {
            Ok(entries) => entries.iter().for_each(|entry| self.obey(entry, lines)),
            Err(error) => eprintln!("mailshot: an order cannot be read: {error}"),
        }
        self.began = true;
        self.count(live, now);
        for crossing in self.watch.look(now) {
            self.crossed(&crossing, lines, now);
        }
        for order in self.warming.look(now) {
            lines.tell(&order);
        }
        if self.cancelled {
            return Some(End::Cancelled);
        }
        self.is_halted(live).then_some(End::Halted)
    }

    /// Takes down what delivery tells.
    pub(super) fn hear(&mut self, lines: &Lines, notices: &Receiver<Notice>, now: Utc) {
        while let Ok(notice) = notices.try_recv() {
            match notice {
                Notice::Paused { who, time, group, why } => {
                    let (name, scope) = (self.name(group), self.scope(who));
                    let wait = match time.is_zero() {
                        true => String::new(),
                        false => format!(" for {}", crate::units::Human(time)),
                    };
                    eprintln!("{now} {scope} pauses{wait}: {name} says {why}");
                    self.elsewhere(who, lines, &|who| Order::Park(who));
                }
                Notice::Halted { who, group, why } => {
                    let (name, scope) = (self.name(group), self.scope(who));
                    eprintln!("{now} {scope} is halted: {name} says {why}");
                    eprintln!("    {}", help(self.dir, &scope));
                    self.held.insert(who);
                    self.elsewhere(who, lines, &|who| Order::Halt(who));
                    self.record(By::Verdict, Command::Halt(scope), why, now);
                }
            }
        }
    }

    /// A stop that reaches over the groups of one thread is told to the others. Pauses of such a
    /// scope end in each thread by its own replies.
    fn elsewhere(&self, who: Who, lines: &Lines, order: &dyn Fn(Who) -> Order) {
        if let (Who::Everything | Who::Source(_), Order::Halt(_)) = (who, order(who)) {
            lines.tell(&order(who));
        }
    }

    fn name(&self, group: GroupNo) -> &str {
        self.groups.get(group.index()).map_or("a later group", |group| &group.name)
    }

    fn record(&self, by: By, command: Command, why: String, now: Utc) {
        let entry = Entry { time: now, by, command, why };
        if let Err(error) = control::append(self.dir, &entry) {
            eprintln!("mailshot: a stop was not recorded: {error}");
        }
    }

    /// The words for a scope of delivery.
    fn scope(&self, who: Who) -> Scope {
        let address = |source: SourceNo| self.sources.get(source.index()).copied().flatten();
        let named = |group: GroupNo| self.name(group).to_owned();
        match who {
            Who::Everything => Scope::All,
            Who::Group(group) => Scope::Provider(named(group)),
            Who::Source(source) => address(source).map_or(Scope::All, Scope::Source),
            Who::Lane(group, source) => match address(source) {
                Some(address) => Scope::Lane(named(group), address),
                None => Scope::Provider(named(group)),
            },
        }
    }

    /// The scope of one lane, for asking what stands for it.
    fn lane(&self, group: usize, source: usize) -> Scope {
        let name = self.groups[group].name.clone();
        match self.sources[source] {
            Some(address) => Scope::Lane(name, address),
            None => Scope::Provider(name),
        }
    }

    /// Groups that a scope names: by their own name or by their provider's.
    fn groups_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = GroupNo> + 's {
        let named = move |group: &&(u32, &Group)| {
            group.1.name == name || group.1.provider.as_deref() == Some(name)
        };
        let numbered: Vec<(u32, &Group)> = (0..).zip(&self.groups).collect();
        let found: Vec<GroupNo> =
            numbered.iter().filter(named).map(|(number, _)| GroupNo(*number)).collect();
        found.into_iter()
    }

    fn sources_of(&self, address: IpAddr) -> Option<SourceNo> {
        let at = self.sources.iter().position(|source| *source == Some(address))?;
        u32::try_from(at).ok().map(SourceNo)
    }

    /// What a scope is in delivery.
    fn whos(&self, scope: &Scope) -> Vec<Who> {
        match scope {
            Scope::All => vec![Who::Everything],
            Scope::Provider(name) => self.groups_of(name).map(Who::Group).collect(),
            Scope::Source(address) => {
                self.sources_of(*address).map(Who::Source).into_iter().collect()
            }
            Scope::Lane(name, address) => {
                let source = self.sources_of(*address);
                let lane = |group| source.map(|source| Who::Lane(group, source));
                self.groups_of(name).filter_map(lane).collect()
            }
        }
    }

    fn obey(&mut self, entry: &Entry, lines: &Lines) {
        self.fold.apply(entry);
        if entry.by == By::Operator && self.began {
            eprintln!("{} operator: {:?} {}", entry.time, entry.command, entry.why);
        }
        match &entry.command {
            Command::Set { .. } => self.limit(lines),
            Command::Pause(scope) => {
                for who in self.whos(scope) {
                    self.held.insert(who);
                    lines.tell(&Order::Park(who));
                }
            }
            Command::Halt(scope) => {
                for who in self.whos(scope) {
                    self.held.insert(who);
                    lines.tell(&Order::Halt(who));
                }
            }
            Command::Resume(scope) => self.resume(scope, lines),
            Command::Cancel => {
                self.cancelled = true;
                lines.tell(&Order::Cancel);
            }
        }
    }

    /// Lifts the stops of a scope, and of a wider one for its part.
    fn resume(&mut self, scope: &Scope, lines: &Lines) {
        let whos = self.whos(scope);
        let wider: Vec<Who> = self.held.iter().copied().collect();
        let wider = wider.into_iter().filter(|held| whos.iter().any(|who| meet(*held, *who)));
        for who in wider.collect::<Vec<_>>().into_iter().chain(whos) {
            self.held.remove(&who);
            lines.tell(&Order::Resume(who));
        }
        for group in 0..self.groups.len() {
            for source in 0..self.sources.len() {
                let numbers = (u32::try_from(group), u32::try_from(source));
                let (Ok(number), Ok(from)) = numbers else { continue };
                let who = Who::Lane(GroupNo(number), SourceNo(from));
                if self.held.iter().any(|held| meet(*held, who)) {
                    continue;
                }
                let order = match self.fold.standing(&self.lane(group, source)) {
                    Standing::Going => continue,
                    Standing::Paused(_) => Order::Park(who),
                    Standing::Halted(_) => Order::Halt(who),
                };
                self.held.insert(who);
                lines.tell(&order);
            }
        }
    }

    /// Tells delivery the limits that were set.
    fn limit(&mut self, lines: &Lines) {
        for (number, group) in (0..).zip(&self.groups) {
            let mut limits = group.limits.clone();
            for name in [group.provider.as_ref(), Some(&group.name)].into_iter().flatten() {
                let set = self.fold.settings(&Scope::Provider(name.clone()));
                let rates = |rate: Option<crate::units::Rate>| rate.into_iter().collect();
                if let Some(rate) = set.rate {
                    limits.rates = rates(rate);
                }
                if let Some(rate) = set.rate_total {
                    limits.rates_total = rates(rate);
                }
                if let Some(most) = set.connections {
                    limits.connections = most;
                }
                if let Some(most) = set.connections_total {
                    limits.connections_total = most;
                }
                if let Some(most) = set.messages_per_connection {
                    limits.messages_per_connection = most;
                }
            }
            let in_force = &mut self.limits[number as usize];
            if *in_force != limits {
                lines.tell(&Order::Limits(GroupNo(number), limits.clone()));
                *in_force = limits;
            }
        }
    }

    /// Counts what has happened since the last look.
    fn count(&mut self, live: &Live, now: Utc) {
        if self.thresholds.is_empty() {
            return;
        }
        for ((group, live), seen) in self.groups.iter().zip(&live.groups).zip(&mut self.seen) {
            let is = counted(live);
            let provider = group.provider.as_deref().unwrap_or(&group.name);
            let more = [
                (Kind::Delivered, Class::None, is.delivered - seen.delivered),
                (
                    Kind::Deferred,
                    Class::Other,
                    (is.deferred - seen.deferred)
                        .saturating_sub(is.blocked_deferrals - seen.blocked_deferrals),
                ),
                (
                    Kind::Deferred,
                    Class::PolicyRelated,
                    is.blocked_deferrals - seen.blocked_deferrals,
                ),
                (
                    Kind::Bounced,
                    Class::Other,
                    (is.bounced - seen.bounced)
                        .saturating_sub(is.blocked_bounces - seen.blocked_bounces),
                ),
                (Kind::Bounced, Class::PolicyRelated, is.blocked_bounces - seen.blocked_bounces),
            ];
            for (kind, class, count) in more {
                (0..count).for_each(|_| self.watch.count(now, provider, kind, class));
            }
            *seen = is;
        }
    }

    /// A threshold was crossed: says so, acts, and calls whoever wants to know.
    fn crossed(&mut self, crossing: &Crossing, lines: &Lines, now: Utc) {
        let Crossing { threshold, provider, rate, counted } = crossing;
        let of = &self.thresholds[*threshold];
        let whom = provider.as_deref().unwrap_or("all");
        let measure = format!("{:?}", of.measure).to_lowercase();
        let percent = rate * 100.0;
        let why = format!("{}: {measure} rate {percent:.1} % of {counted}", of.place);
        eprintln!("{now} {whom}: {why}");
        let Ok(scope) = control::parse_scope(whom) else { return };
        let action = watched(of).action;
        match action {
            Action::Warn => {}
            Action::Slow => self.whos(&scope).iter().for_each(|who| lines.tell(&Order::Slow(*who))),
            Action::Stop => self.record(By::Threshold, Command::Halt(scope), why.clone(), now),
        }
        if let [program, arguments @ ..] = &of.command[..] {
            let called = Process::new(program)
                .args(arguments)
                .env("MAILSHOT_RUN", &self.run)
                .env("MAILSHOT_PROVIDER", whom)
                .env("MAILSHOT_MEASURE", &measure)
                .env("MAILSHOT_PERCENT", format!("{percent:.2}"))
                .env("MAILSHOT_ACTION", format!("{action:?}").to_lowercase())
                .stdin(std::process::Stdio::null())
                .spawn();
            match called {
                Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
                Err(error) => eprintln!("mailshot: {program} cannot be called: {error}"),
            }
        }
    }

    /// Whether everything that is left is halted, so that only a person can go on.
    fn is_halted(&self, live: &Live) -> bool {
        let mut any = false;
        for (number, group) in live.groups.iter().enumerate() {
            if group.left.load(Ordering::Relaxed) == 0 {
                continue;
            }
            any = true;
            let Some(known) = self.groups.get(number) else { return false };
            let halted = |source: usize| {
                matches!(self.fold.standing(&self.lane(number, source)), Standing::Halted(_))
            };
            let halted = (0..self.sources.len()).all(halted);
            if !halted || known.name.is_empty() {
                return false;
            }
        }
        any
    }
}

/// What to do about a scope that is halted.
pub(super) fn help(dir: &RunDir, scope: &Scope) -> String {
    format!("mend the cause, then: mailshot resume {} {scope}", dir.path().display())
}

/// Whether two scopes have lanes in common.
fn meet(a: Who, b: Who) -> bool {
    let parts = |who: Who| match who {
        Who::Everything => (None, None),
        Who::Source(source) => (None, Some(source)),
        Who::Group(group) => (Some(group), None),
        Who::Lane(group, source) => (Some(group), Some(source)),
    };
    let ((group_a, source_a), (group_b, source_b)) = (parts(a), parts(b));
    let same = group_a.is_none() || group_b.is_none() || group_a == group_b;
    same && (source_a.is_none() || source_b.is_none() || source_a == source_b)
}

fn counted(live: &LiveGroup) -> Seen {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Seen {
        delivered: read(&live.delivered),
        deferred: read(&live.deferred),
        bounced: read(&live.bounced),
        blocked_deferrals: read(&live.blocked_deferrals),
        blocked_bounces: read(&live.blocked_bounces),
    }
}

/// A threshold of the campaign as `rates` knows it.
fn watched(threshold: &campaign::Threshold) -> Threshold {
    use crate::rates::threshold::{Measure, Whose};
    Threshold {
        measure: match threshold.measure {
            campaign::Measure::Deferral => Measure::Deferral,
            campaign::Measure::Bounce => Measure::Bounce,
            campaign::Measure::Block => Measure::Block,
        },
        above: f64::from(threshold.above_ppm) / 1e6,
        window: threshold.window,
        sustained: std::time::Duration::ZERO,
        at_least: u64::from(threshold.at_least),
        whose: match &threshold.of {
            campaign::Watched::Each => Whose::Each,
            campaign::Watched::Provider(name) => Whose::Provider(name.value.clone()),
            campaign::Watched::Together => Whose::All,
        },
        action: match threshold.action {
            campaign::Reaction::Warn => Action::Warn,
            campaign::Reaction::Slow => Action::Slow,
            campaign::Reaction::Stop => Action::Stop,
        },
    }
}
