//! progress — where a run stands, while it runs: a bar on a terminal, a line a minute into a log,
//! nothing with `-q`; and `status.json` for whoever asks from outside.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::deliver::Live;
use crate::outcome::Binding;
use crate::rundir::RunDir;
use crate::units::{Human, Tick, Utc};

/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Between two rewrites of `status.json`.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The content of `status.json`: counts of this process, on top of what earlier ones had settled.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) version: u32,
    pub(super) run: String,
    pub(super) updated: String,
    pub(super) pid: u32,
    pub(super) to_settle: u64,
    pub(super) settled: u64,
    pub(super) delivered: u64,
    pub(super) deferred_attempts: u64,
    pub(super) bounced: u64,
    pub(super) expired: u64,
    pub(super) in_doubt: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) connections: u64,
    pub(super) messages_per_second: u64,
    /// The groups with the most messages left.
    pub(super) providers: Vec<Provider>,
}

/// Where one group stands.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) left: u64,
    pub(super) delivered: u64,
    pub(super) deferred_attempts: u64,
    pub(super) bounced: u64,
    /// What keeps its messages waiting.
    pub(super) binding: String,
}

/// Groups in a status.
const PROVIDERS_SHOWN: usize = 20;

/// Shows and writes how far the run is.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    run: String,
    to_settle: u64,
    begun: Tick,
    next_line: Tick,
    next_status: Tick,
    last: (Tick, u64),
    rate: u64,
    groups: Vec<String>,
}

impl Progress {
    /// For a run in which `to_settle` rows have not met their outcome yet.
    pub(super) fn new(run: &str, to_settle: u64, quiet: bool, now: Tick) -> Progress {
        let terminal = !quiet && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(to_settle), ProgressDrawTarget::stderr());
            let form = "{bar:30} {pos}/{len} {percent}% · {msg} · ETA {eta}";
            bar.set_style(ProgressStyle::with_template(form).expect("a constant template"));
            bar
        });
        Progress {
            bar,
            quiet,
            run: run.to_owned(),
            to_settle,
            begun: now,
            next_line: now.after(LINE_EVERY),
            next_status: now,
            last: (now, 0),
            rate: 0,
            groups: Vec::new(),
        }
    }

    /// The names of the groups that are counted by themselves.
    pub(super) fn of_groups(self, groups: Vec<String>) -> Progress {
        Progress { groups, ..self }
    }

    /// Looks at the numbers; call it several times a second.
    pub(super) fn look(&mut self, live: &Live, dir: &RunDir, now: Tick, utc: Utc) {
        let status = self.status(live, now, utc);
        if let Some(bar) = &self.bar {
            bar.set_position(status.settled);
            bar.set_message(words(&status));
        } else if !self.quiet && now >= self.next_line {
            self.next_line = now.after(LINE_EVERY);
            let ran = Human(now.since(self.begun));
            eprintln!(
                "{utc} {}/{} after {ran} · {}",
                status.settled,
                self.to_settle,
                words(&status)
            );
        }
        if now >= self.next_status {
            self.next_status = now.after(STATUS_EVERY);
            self.write(&status, dir);
        }
    }

    /// The last look: the bar goes, the status stays.
    pub(super) fn end(&mut self, live: &Live, dir: &RunDir, now: Tick, utc: Utc) {
        let status = self.status(live, now, utc);
        self.write(&status, dir);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn write(&self, status: &Status, dir: &RunDir) {
        let text = serde_json::to_vec_pretty(status).expect("strings and numbers only");
        if let Err(error) = dir.write_soon("status.json", &text) {
            // The run does not depend on it; the next second tries again.
            eprintln!("mailshot: status not written: {error}");
        }
    }

    fn status(&mut self, live: &Live, now: Tick, utc: Utc) -> Status {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let delivered = read(&live.delivered);
        let (bounced, expired) = (read(&live.bounced), read(&live.expired));
        let (in_doubt, failed) = (read(&live.in_doubt), read(&live.failed));
        let cancelled = read(&live.cancelled);
        let settled = delivered + bounced + expired + in_doubt + failed + cancelled;
        let since = now.since(self.last.0);
        if since >= STATUS_EVERY {
            let more = settled.saturating_sub(self.last.1);
            self.rate = more * 1_000 / u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
            self.last = (now, settled);
        }
        Status {
            version: 1,
            run: self.run.clone(),
            updated: utc.to_string(),
            pid: std::process::id(),
            to_settle: self.to_settle,
            settled,
            delivered,
            deferred_attempts: read(&live.deferred),
            bounced,
            expired,
            in_doubt,
            failed,
            cancelled,
            providers: self.providers(live),
            connections: read(&live.connections),
            messages_per_second: self.rate,
        }
    }
}

impl Progress {
    fn providers(&self, live: &Live) -> Vec<Provider> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut most: Vec<(u64, usize)> =
            live.groups.iter().map(|group| read(&group.left)).zip(0..).collect();
        most.retain(|(left, at)| *left > 0 && *at < self.groups.len());
        most.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        most.truncate(PROVIDERS_SHOWN);
        let one = |(left, at): (u64, usize)| {
            let group = &live.groups[at];
            let number = group.binding.load(Ordering::Relaxed);
            let binding = Binding::from_number(number).unwrap_or(Binding::Nothing);
            Provider {
                name: self.groups[at].clone(),
                left,
                delivered: read(&group.delivered),
                deferred_attempts: read(&group.deferred),
                bounced: read(&group.bounced),
                binding: binding.word().to_owned(),
            }
        };
        most.into_iter().map(one).collect()
    }
}

/// The part of a status that people read.
pub(super) fn words(status: &Status) -> String {
    let mut words = format!(
        "{} delivered · {} deferrals · {} bounced",
        status.delivered, status.deferred_attempts, status.bounced
    );
    for (count, word) in [
        (status.expired, "expired"),
        (status.in_doubt, "in doubt"),
        (status.failed, "failed"),
        (status.cancelled, "cancelled"),
    ] {
        if count > 0 {
            words.push_str(&format!(" · {count} {word}"));
        }
    }
    let (rate, connections) = (status.messages_per_second, status.connections);
    words.push_str(&format!(" · {rate}/s · {connections} connections"));
    if let [first, _, ..] = &status.providers[..] {
        let Provider { name, left, binding, .. } = first;
        words.push_str(&format!(" · {name}: {left} left, waits for {binding}"));
    }
    words
}
