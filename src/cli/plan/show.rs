//! show — a plan as text: what is sent, from where, the slowest providers, and the verdict.
//!
//! It cannot fail, and must not know where the numbers come from.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::rates::aligned;
use super::simulation::{Simulated, Simulation};
use super::{Deadline, Forecast, Origin, Plan};
use crate::report::grouped;
use crate::units::Human;

/// Providers that are shown without `--all`.
const SHOWN: usize = 30;
/// Providers that are late and named without `--all`.
const LATE_SHOWN: usize = 10;

/// The whole plan.
pub(super) fn text(plan: &Plan, all: bool) -> String {
    let mut text = format!("campaign  {}, planned at {}\n", plan.campaign, plan.at);
    left_out(&mut text, plan);
    plan.sources.iter().for_each(|source| from(&mut text, source));
    if !plan.providers.is_empty() {
        text.push('\n');
        text.push_str(&table(&plan.providers, if all { usize::MAX } else { SHOWN }));
        text.push('\n');
    }
    verdict(&mut text, plan, all);
    if let Some(of) = &plan.simulation {
        simulated(&mut text, of, all);
    }
    text
}

fn line(text: &mut String, title: &str, words: &str) {
    writeln!(text, "{title:<10}{words}").expect("texts take everything");
}

/// Rows, what is excluded of them, and what is not known yet.
fn left_out(text: &mut String, plan: &Plan) {
    let (rows, good) = (grouped(plan.rows.into()), grouped(plan.accepted));
    line(text, "list", &format!("{rows} rows, {good} good"));
    for (reason, count) in &plan.excluded {
        let named = plan.dead.iter().filter(|(_, why, _)| why == reason);
        let named: Vec<String> =
            named.map(|(domain, _, rows)| format!("{domain} {}", grouped(*rows))).collect();
        let colon = if named.is_empty() { "" } else { ": " };
        let words = format!("{} {reason}{colon}{}", grouped(*count), named.join(", "));
        line(text, "excluded", &words);
    }
    if plan.unresolved.domains > 0 {
        let (rows, domains) = (grouped(plan.unresolved.rows), grouped(plan.unresolved.domains));
        let words = format!(
            "{rows} rows at {domains} domains for which the DNS had no answer: they are good, are \
             asked again while the run goes on, and are not in the times below"
        );
        line(text, "unknown", &words);
    }
}

fn from(text: &mut String, source: &Origin) {
    let address = source.address.as_deref().unwrap_or("the system's address");
    let times = if source.count == 1 { String::new() } else { format!("{} like ", source.count) };
    let words = format!("{times}{address} {}, weight {}", source.ehlo_name, source.weight);
    line(text, "source", &words);
    for warmth in &source.warm_up {
        let mut at = warmth.such_as.join(", ");
        let more = warmth.providers - warmth.such_as.len() as u64;
        if more > 0 {
            write!(at, " and {} more", grouped(more)).expect("texts take everything");
        }
        let (schedule, since, of) = (&warmth.schedule, &warmth.since, warmth.stages);
        let stage = match warmth.stage {
            Some(stage) => format!("stage {stage} of {of}, {}", warmth.cap),
            None => format!("all {of} stages passed"),
        };
        line(text, "", &format!("warm-up {schedule} since {since}: {stage} at {at}"));
    }
}

/// One line for each provider, and one for those that are not shown.
fn table(providers: &[Forecast], most: usize) -> String {
    let head = [
        "provider",
        "recipients",
        "domains",
        "lanes",
        "rate/h",
        "connections",
        "takes",
        "until",
        "what binds",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    let (shown, rest) = providers.split_at(providers.len().min(most));
    for of in shown {
        let mut binds = of.binds.words.clone();
        if !of.binds.place.is_empty() {
            write!(binds, " · {}", of.binds.place).expect("texts take everything");
        }
        lines.push([
            of.name.clone(),
            grouped(of.recipients),
            grouped(of.domains),
            of.lanes.to_string(),
            of.permitted_per_hour.map_or_else(|| "-".to_owned(), hourly),
            grouped(of.connections),
            human(of.takes),
            of.finish.clone().unwrap_or_else(|| "-".to_owned()),
            binds,
        ]);
    }
    if let Some(slowest) = rest.first() {
        let sum = |of: fn(&Forecast) -> u64| grouped(rest.iter().map(of).sum());
        lines.push([
            format!("{} more", grouped(rest.len() as u64)),
            sum(|of| of.recipients),
            sum(|of| of.domains),
            String::new(),
            String::new(),
            String::new(),
            human(slowest.takes),
            slowest.finish.clone().unwrap_or_else(|| "-".to_owned()),
            "the slowest of them; --all shows each".to_owned(),
        ]);
    }
    (1..=6).for_each(|column| to_the_right(&mut lines, column));
    aligned(&lines)
}

/// Moves the cells of a column to its right edge.
fn to_the_right<const N: usize>(lines: &mut [[String; N]], column: usize) {
    let width = lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    for cells in lines {
        cells[column] = format!("{:>width$}", cells[column]);
    }
}

fn hourly(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

fn human(takes: Duration) -> String {
    if takes == Duration::MAX { "never".to_owned() } else { Human(takes).to_string() }
}

/// How long it takes, what binds, what a deadline needs, and what was assumed.
fn verdict(text: &mut String, plan: &Plan, all: bool) {
    let total = &plan.total;
    match (plan.providers.is_empty(), total.takes_seconds, &total.finish) {
        (true, ..) => line(text, "total", "nothing to send"),
        (_, Some(seconds), Some(finish)) => {
            let (recipients, hours) = (grouped(total.recipients), seconds / 3600.0);
            let human = Human(total.takes);
            let words =
                format!("{hours:.1} h ({human}) for {recipients} recipients, until {finish}");
            line(text, "total", &words);
        }
        _ => line(text, "total", "never: some mail cannot be sent at all"),
    }
    if !total.binds.place.is_empty() {
        let who = total.provider.as_deref().unwrap_or("the whole run");
        let words = format!("{who}: {} · {}", total.binds.words, total.binds.place);
        line(text, "binds", &words);
    }
    if let Some(of) = &plan.deadline {
        deadline(text, of, all);
    }
    let latency = Human(Duration::from_millis(u64::try_from(plan.latency_ms).unwrap_or(u64::MAX)));
    let words = format!(
        "each message is taken to occupy a connection for {latency} (--latency); what receivers \
         put off comes on top"
    );
    line(text, "assumed", &words);
}

/// What the simulation showed: the providers, all together, and what was assumed.
fn simulated(text: &mut String, of: &Simulation, all: bool) {
    if of.providers.is_empty() {
        return;
    }
    text.push('\n');
    text.push_str(&simulated_table(&of.providers, if all { usize::MAX } else { SHOWN }));
    text.push('\n');
    let total = &of.total;
    let took = total.last.unwrap_or_default();
    let (recipients, hours) = (grouped(total.recipients), took.as_secs_f64() / 3600.0);
    let until = match &total.finish {
        Some(finish) => format!("until {finish}, {} last", total.name),
        None => format!("and {} never end", grouped(total.unfinished)),
    };
    let words = format!("{hours:.1} h ({}) for {recipients} recipients, {until}", Human(took));
    line(text, "simulated", &words);
    let counts = [
        (total.delivered, "delivered"),
        (total.bounced, "bounced"),
        (total.expired, "expired"),
        (total.deferred, "attempts deferred"),
    ];
    let counts = counts.map(|(count, word)| format!("{} {word}", grouped(count)));
    line(text, "", &counts.join(", "));
    let (deferral, bad) = (of.deferral * 100.0, of.bad * 100.0);
    let words = format!(
        "{deferral:.1} % of the attempts are put off (--deferral), {bad:.1} % of the recipients \
         do not exist (--bad), days of a warm-up pass; seed {}",
        of.seed
    );
    line(text, "assumed", &words);
}

/// One line for each provider, and one for those that are not shown.
fn simulated_table(providers: &[Simulated], most: usize) -> String {
    let head =
        ["provider", "first", "last", "delivered", "bounced", "expired", "deferred", "what bound"];
    let mut lines = vec![head.map(str::to_owned)];
    let (shown, rest) = providers.split_at(providers.len().min(most));
    let time = |time| Option::map_or(time, "-".to_owned(), |time| Human(time).to_string());
    for of in shown {
        lines.push([
            of.name.clone(),
            time(of.first),
            time(of.last),
            grouped(of.delivered),
            grouped(of.bounced),
            grouped(of.expired),
            grouped(of.deferred),
            format!("{}, {:.0} % of the attempts", of.binds, of.share * 100.0),
        ]);
    }
    if let Some(last) = rest.first() {
        let sum = |of: fn(&Simulated) -> u64| grouped(rest.iter().map(of).sum());
        lines.push([
            format!("{} more", grouped(rest.len() as u64)),
            time(rest.iter().filter_map(|of| of.first).min()),
            time(last.last),
            sum(|of| of.delivered),
            sum(|of| of.bounced),
            sum(|of| of.expired),
            sum(|of| of.deferred),
            "--all shows each".to_owned(),
        ]);
    }
    (1..=6).for_each(|column| to_the_right(&mut lines, column));
    aligned(&lines)
}

fn deadline(text: &mut String, of: &Deadline, all: bool) {
    let wanted = Human(of.wanted);
    let late = of.missed.len() as u64;
    let verdict = match (of.met, of.sources) {
        (true, _) => format!("{wanted} is met"),
        (false, Some(sources)) => {
            let plural = if sources == 1 { "" } else { "s" };
            format!("{wanted} is missed; it needs {} source{plural}", grouped(sources.into()))
        }
        (false, None) => format!("{wanted} is missed, and no number of sources meets it"),
    };
    line(text, "deadline", &verdict);
    if let Some(ceiling) = &of.ceiling {
        line(text, "", &format!("the whole run: {} · {}", ceiling.words, ceiling.place));
    }
    let shown = if all { usize::MAX } else { LATE_SHOWN };
    for need in of.missed.iter().take(shown) {
        let (name, has) = (&need.name, need.has);
        let words = match need.sources {
            Some(sources) => {
                let comma = if need.why.is_empty() { "" } else { ", " };
                format!("{name} needs {}, has {has}{comma}{}", grouped(sources.into()), need.why)
            }
            None => format!("{name}: {}", need.why),
        };
        line(text, "", &words);
    }
    let more = late.saturating_sub(shown as u64);
    if more > 0 {
        line(text, "", &format!("and {} more are late (--all)", grouped(more)));
    }
}
