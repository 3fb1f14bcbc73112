//! fold — the commands of a run in their order, and what stands after them.
//!
//! A scope is stopped while some pause or halt that covers it has not been lifted. A later resume
//! lifts a stop of its own scope or of a narrower one altogether (`resume all` lifts everything),
//! and a stop of a wider scope for its own part: after `pause all`, `resume google`, mail to Google
//! goes. It does not lift what is beside it: after `pause google`, `resume 192.0.2.1`, Google stays
//! paused from that source too. A halt is stronger than a pause, whichever came first.
//!
//! Of settings the last one that covers a scope is in force, so `set rate.all` after
//! `set rate.google` replaces it. Nothing here grows but with the number of distinct scopes. It
//! must not know the numbers of the rate tables, which hold where nothing was set.

use super::{Command, Entry, Scope, Setting};
use crate::units::Rate;

/// Whether mail may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It may.
    Going,
    /// It waits; the entry says who said so and why.
    Paused(&'a Entry),
    /// It waits for a person.
    Halted(&'a Entry),
}

/// What was set for one scope; `None` where the number of the rate table or of the campaign holds.
/// The inner `None` is "no limit".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`Setting::Rate`].
    pub rate: Option<Option<Rate>>,
    /// [`Setting::RateTotal`].
    pub rate_total: Option<Option<Rate>>,
    /// [`Setting::Connections`].
    pub connections: Option<u32>,
    /// [`Setting::ConnectionsTotal`].
    pub connections_total: Option<Option<u32>>,
    /// [`Setting::MessagesPerConnection`].
    pub messages_per_connection: Option<Option<u32>>,
}

/// A pause or halt that was not lifted altogether.
#[derive(Clone, Debug)]
struct Stop {
    scope: Scope,
    halts: bool,
    entry: Entry,
    /// Narrower scopes for which it was lifted.
    lifted: Vec<Scope>,
}

/// What stands after the commands so far.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    stops: Vec<Stop>,
    /// In the order in which they were set; of one scope and kind the last only.
    settings: Vec<(Scope, Setting)>,
    cancelled: bool,
}

impl Fold {
    /// The next command.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.command {
            Command::Set { scope, what } => {
                let replaced = |(other, old): &(Scope, Setting)| {
                    old.key() == what.key() && reaches(scope, what, other)
                };
                self.settings.retain(|old| !replaced(old));
                self.settings.push((scope.clone(), *what));
            }
            Command::Pause(scope) => self.stop(scope, false, entry),
            Command::Halt(scope) => self.stop(scope, true, entry),
            Command::Resume(scope) => self.resume(scope),
            Command::Cancel => self.cancelled = true,
        }
    }

    fn stop(&mut self, scope: &Scope, halts: bool, entry: &Entry) {
        self.stops.retain(|stop| (&stop.scope, stop.halts) != (scope, halts));
        let (scope, entry) = (scope.clone(), entry.clone());
        self.stops.push(Stop { scope, halts, entry, lifted: Vec::new() });
    }

    fn resume(&mut self, scope: &Scope) {
        self.stops.retain(|stop| !scope.covers(&stop.scope));
        for stop in self.stops.iter_mut().filter(|stop| stop.scope.covers(scope)) {
            stop.lifted.retain(|other| !scope.covers(other));
            stop.lifted.push(scope.clone());
        }
    }

    /// Whether mail of this scope may go; of a wide one, whether it is stopped as a whole. It does
    /// not say whether the run was cancelled.
    pub fn standing(&self, scope: &Scope) -> Standing<'_> {
        let holds = |stop: &&Stop| {
            stop.scope.covers(scope) && !stop.lifted.iter().any(|lifted| lifted.covers(scope))
        };
        let mut holding = self.stops.iter().filter(holds);
        match (holding.clone().find(|stop| stop.halts), holding.next()) {
            (Some(halt), _) => Standing::Halted(&halt.entry),
            (None, Some(pause)) => Standing::Paused(&pause.entry),
            (None, None) => Standing::Going,
        }
    }

    /// What is set for this scope.
    pub fn settings(&self, scope: &Scope) -> Settings {
        let mut found = Settings::default();
        for (_, what) in self.settings.iter().filter(|(set, what)| reaches(set, what, scope)) {
            match *what {
                Setting::Rate(rate) => found.rate = Some(rate),
                Setting::RateTotal(rate) => found.rate_total = Some(rate),
                Setting::Connections(most) => found.connections = Some(most),
                Setting::ConnectionsTotal(most) => found.connections_total = Some(most),
                Setting::MessagesPerConnection(most) => found.messages_per_connection = Some(most),
            }
        }
        found
    }

    /// Every pause and halt that still holds for something, in the order in which they were given.
    pub fn stops(&self) -> impl Iterator<Item = &Entry> {
        self.stops.iter().map(|stop| &stop.entry)
    }

    /// Whether the run is to end without sending what is left. Nothing takes that back.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

/// Whether a setting of one scope is in force in another. A sum over all sources belongs to its
/// provider, and the sum over all providers to the run as a whole.
fn reaches(set: &Scope, what: &Setting, scope: &Scope) -> bool {
    if !what.is_total() {
        return set.covers(scope);
    }
    match set {
        Scope::All => *scope == Scope::All,
        set => set.covers(scope),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{command, entry, scope};
    use super::super::{parse_scope, parse_setting};
    use super::*;

    fn fold(commands: &[&str]) -> Fold {
        let mut fold = Fold::default();
        for text in commands {
            let of = |scope: &str| parse_scope(scope).expect("a scope");
            let command = match text.split_once(' ') {
                Some(("pause", scope)) => Command::Pause(of(scope)),
                Some(("halt", scope)) => Command::Halt(of(scope)),
                Some(("resume", scope)) => Command::Resume(of(scope)),
                Some((_, setting)) => parse_setting(setting).expect("a setting"),
                None => Command::Cancel,
            };
            fold.apply(&entry(command));
        }
        fold
    }

    /// `g`, `p` or `h` for each of these scopes.
    fn standings(fold: &Fold) -> String {
        let scopes = ["all", "google", "192.0.2.1", "google@192.0.2.1", "yahoo@192.0.2.1"];
        let letter = |scope: &&str| match fold.standing(&parse_scope(scope).expect("a scope")) {
            Standing::Going => 'g',
            Standing::Paused(_) => 'p',
            Standing::Halted(_) => 'h',
        };
        scopes.iter().map(letter).collect()
    }

    #[test]
    fn a_resume_lifts_what_it_covers_and_its_part_of_what_covers_it() {
        for (commands, expected) in [
            (&[][..], "ggggg"),
            (&["pause google"], "gpgpg"),
            (&["halt google@192.0.2.1"], "ggghg"),
            (&["pause all", "resume google"], "pgpgp"),
            (&["pause all", "resume google", "pause all"], "ppppp"),
            (&["pause google", "resume 192.0.2.1"], "gpgpg"),
            (&["halt google", "pause google", "resume google"], "ggggg"),
            (&["halt google", "pause all"], "phphp"),
            (&["halt google", "pause 192.0.2.1", "resume all"], "ggggg"),
            (&["halt google", "resume google@192.0.2.1"], "ghggg"),
            (&["resume all", "pause 192.0.2.1"], "ggppp"),
        ] {
            assert_eq!(standings(&fold(commands)), expected, "{commands:?}");
        }
    }

    #[test]
    fn the_last_setting_that_covers_a_scope_is_in_force() {
        let rate = |text: &str| Some(Some(crate::units::rate(text).expect("a rate")));
        let fold = fold(&[
            "set rate.google=1000/h",
            "set rate.google@192.0.2.1=500/h",
            "set rate_total.all=9/s",
            "set rate_total.google=8/s",
            "set connections.all=50",
            "set connections.google=3",
            "set connections_total.google=none",
            "set connections.all=40",
            "set messages_per_connection.192.0.2.1=10",
        ]);
        let of = |text: &str| fold.settings(&parse_scope(text).expect("a scope"));
        let google = Settings {
            rate: rate("1000/h"),
            rate_total: rate("8/s"),
            connections: Some(40),
            connections_total: Some(None),
            messages_per_connection: None,
        };
        assert_eq!(of("google"), google);
        let lane =
            Settings { rate: rate("500/h"), messages_per_connection: Some(Some(10)), ..google };
        assert_eq!(of("google@192.0.2.1"), lane);
        let yahoo = Settings { connections: Some(40), ..Settings::default() };
        assert_eq!(of("yahoo@192.0.2.2"), yahoo);
        assert_eq!(of("all"), Settings { rate_total: rate("9/s"), ..yahoo });
    }

    #[test]
    fn nothing_takes_back_a_cancel() {
        assert!(fold(&["cancel", "resume all"]).is_cancelled());
        assert!(!fold(&["halt all"]).is_cancelled());
    }

    /// The same, from the whole history: some stop holds that no later resume has lifted.
    fn naive(history: &[Entry], scope: &Scope) -> (bool, bool) {
        let holds = |at: usize, stop: &Scope| {
            let lifted = history[at..].iter().any(|later| match &later.command {
                Command::Resume(other) => {
                    other.covers(scope) && (other.covers(stop) || stop.covers(other))
                }
                _ => false,
            });
            stop.covers(scope) && !lifted
        };
        let any = |halts: bool| {
            history.iter().enumerate().any(|(at, entry)| match &entry.command {
                Command::Pause(stop) => !halts && holds(at, stop),
                Command::Halt(stop) => halts && holds(at, stop),
                _ => false,
            })
        };
        (any(false), any(true))
    }

    proptest! {
        #[test]
        fn the_fold_is_the_history(
            history in prop::collection::vec(command().prop_map(entry), 0..30),
            scopes in prop::collection::vec(scope(), 1..8),
        ) {
            let mut fold = Fold::default();
            history.iter().for_each(|entry| fold.apply(entry));
            for scope in scopes {
                let expected = naive(&history, &scope);
                let found = match fold.standing(&scope) {
                    Standing::Going => (false, false),
                    Standing::Paused(_) => (true, false),
                    Standing::Halted(_) => (expected.0, true),
                };
                prop_assert_eq!(found, expected, "{}", scope);
            }
        }

        #[test]
        fn the_last_setting_wins_as_in_the_history(
            history in prop::collection::vec(command().prop_map(entry), 0..30), scope in scope(),
        ) {
            let mut fold = Fold::default();
            history.iter().for_each(|entry| fold.apply(entry));
            let last = history.iter().rev().find_map(|entry| match &entry.command {
                Command::Set { scope: set, what: Setting::Rate(rate) } if set.covers(&scope) => {
                    Some(*rate)
                }
                _ => None,
            });
            prop_assert_eq!(fold.settings(&scope).rate, last);
        }
    }
}
