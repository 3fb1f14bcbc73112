//! world — mail hosts of four providers, campaigns to them, and where a run stands.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::campaign::Campaign;
use crate::support::providers::{Providers, Seen, Spec};
use crate::support::wait_for;
use crate::support::witness::keys;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The mail hosts of all domains here, by the suffixes of the shipped table.
const HOSTS: &str = "\
gmail.test mx.gmail.google.com=127.0.21.1
yahoo.test mta5.am0.yahoodns.net=127.0.22.1
outlook.test mx.olc.protection.outlook.com=127.0.23.1
other.test mx.other.test=127.0.24.1
";

/// Sources of the tests.
pub(crate) const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 31, 1));
pub(crate) const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 31, 2));

/// A friendly provider of [`HOSTS`].
pub(crate) fn provider(name: &'static str) -> Spec {
    let network = match name {
        "google" => 21,
        "yahoo" => 22,
        "microsoft" => 23,
        "mx.other.test" => 24,
        other => panic!("no host of {other}"),
    };
    Spec::friendly(name, network, 1)
}

/// A provider that treats recipients by these rules.
pub(crate) fn with_rules(name: &'static str, rules: &[&str]) -> Spec {
    let mut spec = provider(name);
    spec.behaviour.rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    spec
}

/// Running mail hosts.
pub(crate) fn hosts(specs: Vec<Spec>) -> Providers {
    Providers::start(specs, keys())
}

/// A campaign to so many recipients of each domain, `r<row>@<domain>`, domain after domain, with
/// these sections.
pub(crate) fn campaign(port: u16, rows: &[(&str, u32)], sections: &str) -> Campaign {
    let domains = rows.iter().flat_map(|(domain, count)| (0..*count).map(move |_| *domain));
    let addresses = (1..).zip(domains).map(|(row, domain)| format!("r{row}@{domain}"));
    Campaign::to(port, addresses).mx(HOSTS).sections(sections)
}

/// A source of a campaign.
pub(crate) fn source(address: IpAddr, more: &str) -> String {
    format!("[[source]]\naddress = \"{address}\"\nehlo_name = \"out.sender.example\"\n{more}\n")
}

/// The status of the campaign's newest run, once there is one.
pub(crate) fn status(campaign: &Campaign) -> Option<Value> {
    let run = campaign.runs().pop()?;
    let text = std::fs::read_to_string(run.join("status.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// What the status says of a group, as long as it has rows left.
pub(crate) fn group(campaign: &Campaign, name: &str) -> Option<Value> {
    let status = status(campaign)?;
    let groups = status["providers"].as_array()?;
    groups.iter().find(|group| group["name"] == name).cloned()
}

/// Waits until a group has no rows left.
pub(crate) fn await_end_of(campaign: &Campaign, name: &str) {
    let ended = || {
        let status = status(campaign)?;
        let groups = status["providers"].as_array()?;
        let gone = groups.iter().all(|group| group["name"] != name);
        (gone && status["settled"].as_u64() > Some(0)).then_some(())
    };
    wait_for(&format!("the end of {name}"), LONG, ended);
}

/// Waits until the status says so of a group.
pub(crate) fn await_binding(campaign: &Campaign, name: &str, binding: &str) {
    let binds = || (group(campaign, name)?["binding"] == binding).then_some(());
    wait_for(&format!("{name} to wait for {binding}"), LONG, binds);
}

/// The orders on record, without their times: who, what, where, which setting, and why.
pub(crate) fn recorded(campaign: &Campaign) -> Vec<String> {
    let text = std::fs::read_to_string(campaign.run_dir().join("control.jsonl"));
    let lines = text.unwrap_or_default();
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    lines
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).expect("a line is JSON");
            assert!(entry["time_us"].as_i64() > Some(0), "{line}");
            ["by", "do", "scope", "key", "value"].map(|key| word(&entry, key)).join(" ")
        })
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// When recipients came to a provider from all sources, in microseconds.
pub(crate) fn times(seen: &Seen, name: &str) -> Vec<u64> {
    seen.arrivals(name).1.recipients
}

/// The same from one source.
pub(crate) fn times_from(seen: &Seen, name: &str, source: IpAddr) -> Vec<u64> {
    let (by_source, _) = seen.arrivals(name);
    let found = by_source.into_iter().find(|(of, _)| *of == source);
    found.map(|(_, arrivals)| arrivals.recipients).unwrap_or_default()
}

/// The longest time without a recipient: when it began and when it ended.
pub(crate) fn longest_silence(times: &[u64]) -> (u64, u64) {
    let gaps = times.windows(2).map(|pair| (pair[0], pair[1]));
    gaps.max_by_key(|(from, to)| to - from).expect("two recipients at least")
}

/// How many of the times lie between these two.
pub(crate) fn between(times: &[u64], (from, to): (u64, u64)) -> usize {
    times.iter().filter(|at| (from..=to).contains(*at)).count()
}

/// The rows whose messages arrived; none came twice.
pub(crate) fn arrived_once(seen: &Seen) -> Vec<u32> {
    let keys = seen.report.keys.as_ref().expect("keys are looked at");
    assert_eq!(keys.duplicates, 0, "{:?}", keys.first_duplicates);
    crate::support::witness::arrived(&seen.report)
}
