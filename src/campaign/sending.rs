//! sending — the sections that say how mail leaves: route, sources, resolvers, warm-up, thresholds.
//!
//! As in `decode.rs`, every key is read before anything is given up, and `None` means that the
//! reader has noted why. It must not know rate tables: `[rates]` is not looked into.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::limits::CONNECTIONS_MAX;
use crate::problem::suggest;
use crate::units;

use super::decode::placed;
use super::forms;
use super::reader::Reader;
use super::section::Section;
use super::{
    At, Delivery, Dns, Measure, OnDoubt, Overflow, Reaction, Route, Smarthost, Source, Threshold,
    Warming, Warmup, Watched,
};

/// Connections at a time to all providers together: the table's limits of each provider bind long
/// before it, and one process bears ten times as many.
const CONNECTIONS_TO_ALL: u32 = 1000;
/// Connections at a time to a smarthost: Postfix's default_destination_concurrency_limit.
const CONNECTIONS_TO_ONE: u32 = 20;
/// The pool of sources that name none, and of the source that the system chooses.
const POOL: &str = "default";
/// The largest weight of a source.
const WEIGHT_MAX: u32 = 1000;
/// The most times that one question is asked.
const ATTEMPTS_MAX: u32 = 10;

/// How mail leaves.
pub(super) struct Sending {
    pub(super) delivery: Option<Delivery>,
    pub(super) sources: Option<Vec<Source>>,
    pub(super) dns: Option<Dns>,
    pub(super) warmup: Option<Warmup>,
    pub(super) thresholds: Option<Vec<Threshold>>,
}

/// All sections that say how mail leaves.
pub(super) fn sending<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>, base: &Path) -> Sending {
    let section = reader.section(root, "delivery");
    let ehlo_name = reader.read(&section, "ehlo_name", forms::domain);
    let sources = sources(reader, root, ehlo_name.as_ref());
    let pool = pool(reader, &section, sources.as_deref());
    let tables = paths(reader, &section, "rate_tables", base);
    let delivery = delivery(reader, &section).map(|delivery| Delivery {
        ehlo_name,
        pool,
        rate_tables: tables,
        ..delivery
    });
    let thresholds = reader.sections(root, "threshold");
    let thresholds = thresholds.iter().map(|section| threshold(reader, section));
    // Each is read before one that cannot be had ends it.
    let thresholds = thresholds.collect::<Vec<_>>().into_iter().collect();
    Sending {
        delivery,
        sources,
        dns: dns(reader, root, base),
        warmup: warmup(reader, root, base),
        thresholds,
    }
}

/// The keys of `[delivery]` that stand for themselves.
fn delivery(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Delivery> {
    let route = reader.read(section, "route", forms::route);
    let port = reader.whole(section, "port", 1..=u32::from(u16::MAX));
    let connections = reader.whole(section, "connections", 1..=CONNECTIONS_MAX);
    let rate = reader.read(section, "rate", units::rate);
    let smarthost = smarthost(reader, section);
    let on_doubt =
        reader.choice(section, "on_doubt", &[("hold", OnDoubt::Hold), ("resend", OnDoubt::Resend)]);
    let route = route?;
    out_of_place(reader, section, &route.value);
    let (smarthost, usual) = match route.value {
        Route::Mx => (None, CONNECTIONS_TO_ALL),
        Route::Host { .. } => (Some(smarthost?), CONNECTIONS_TO_ONE),
    };
    let port = u16::try_from(port?).expect("it was held against the largest port");
    Some(Delivery {
        route,
        port,
        ehlo_name: None,
        connections: connections.unwrap_or(usual),
        rate: rate.map(|rate| rate.value),
        smarthost,
        rate_tables: Vec::new(),
        pool: None,
        on_doubt: on_doubt?,
    })
}

/// Keys that say nothing under this route.
fn out_of_place(reader: &mut Reader<'_>, section: &Section<'_>, route: &Route) {
    match route {
        Route::Host { .. } => {
            if let Some(place) = reader.given(section, "port") {
                let what = "delivery.port is the port of the recipients' mail hosts, and route \
                            names a smarthost";
                reader.problem(place, what, "the smarthost's port stands behind its name in route");
            }
        }
        Route::Mx => {
            for name in ["messages_per_connection", "retry", "expire_after"] {
                if let Some(place) = reader.given(section, name) {
                    let what = format!(
                        "delivery.{name} is for a smarthost, and mail goes to the recipients' own \
                         mail hosts"
                    );
                    let help = format!(
                        "put {name} under [rates.default], or under [rates.provider.NAME] for one \
                         provider"
                    );
                    reader.problem(place, what, help);
                }
            }
        }
    }
}

fn smarthost(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Smarthost> {
    let messages = reader.whole(section, "messages_per_connection", 0..=u32::MAX);
    let retry = reader.list(section, "retry", forms::wait);
    let expire_after = reader.read(section, "expire_after", forms::wait);
    let (retry, expire_after) = (retry?, expire_after?);
    if expire_after.value < retry[0].value {
        let what = "messages would expire before their first retry";
        let help = "make expire_after longer than the first wait of retry";
        reader.problem(expire_after.place.clone(), what, help);
    }
    Some(Smarthost {
        messages_per_connection: Some(messages?).filter(|messages| *messages > 0),
        retry: retry.into_iter().map(|wait| wait.value).collect(),
        expire_after: expire_after.value,
    })
}

/// A list of paths, empty when it is absent.
fn paths(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    base: &Path,
) -> Vec<At<PathBuf>> {
    let texts = reader.list(section, key, forms::path).unwrap_or_default();
    texts.into_iter().map(|text| placed(base, text)).collect()
}

/// The pool to send from, which must be one of the sources'.
fn pool(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    sources: Option<&[Source]>,
) -> Option<At<String>> {
    let pool = reader.read(section, "pool", forms::name)?;
    let mut pools: Vec<&str> = sources?.iter().map(|source| &*source.pool).collect();
    if !pools.contains(&&*pool.value) {
        pools.sort_unstable();
        pools.dedup();
        let what = format!("delivery.pool: no [[source]] is in the pool {:?}", pool.value);
        let help = match suggest(&pool.value, pools.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("there are {}", pools.join(", ")),
        };
        reader.problem(pool.place.clone(), what, help);
    }
    Some(pool)
}

fn sources<'d>(
    reader: &mut Reader<'_>,
    root: &'d DeTable<'d>,
    ehlo_name: Option<&At<String>>,
) -> Option<Vec<Source>> {
    let sections = reader.sections(root, "source");
    if !root.contains_key("source") {
        return Some(vec![Source {
            address: None,
            ehlo_name: ehlo_name.cloned(),
            weight: 1,
            pool: POOL.to_owned(),
            warmup: None,
        }]);
    }
    let sources: Vec<Option<Source>> =
        sections.iter().map(|section| source(reader, section, ehlo_name)).collect();
    let known: Vec<_> = sources.iter().flatten().filter_map(|it| it.address.as_ref()).collect();
    for (at, address) in known.iter().enumerate() {
        if let Some(first) = known[..at].iter().find(|first| first.value == address.value) {
            let what = format!("the source {} is given twice", address.value);
            let help = format!("it already stands in line {}", first.place.line);
            reader.problem(address.place.clone(), what, help);
        }
    }
    if sources.is_empty() { None } else { sources.into_iter().collect() }
}

fn source(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    ehlo_name: Option<&At<String>>,
) -> Option<Source> {
    let address = reader.read(section, "address", forms::source);
    let own_name = reader.read(section, "ehlo_name", forms::domain);
    let weight = reader.whole(section, "weight", 1..=WEIGHT_MAX);
    let pool = reader.read(section, "pool", forms::name);
    let warmup = warming(reader, section);
    Some(Source {
        address: Some(address?),
        ehlo_name: own_name.or_else(|| ehlo_name.cloned()),
        weight: weight?,
        pool: pool?.value,
        warmup,
    })
}

/// A schedule and its first day: neither means anything without the other.
fn warming(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Warming> {
    let schedule = reader.read(section, "warmup", forms::name);
    let from = reader.date(section, "warmup_from");
    let lone = match (section.has("warmup"), section.has("warmup_from")) {
        (true, false) => Some(("warmup", "warmup_from", "the first day of the warm-up")),
        (false, true) => Some(("warmup_from", "warmup", "the schedule of the warm-up")),
        _ => None,
    };
    if let Some((there, missing, meaning)) = lone
        && let Some(place) = reader.given(section, there)
    {
        let what = format!("source.{there} needs source.{missing}, {meaning}");
        reader.missing(place, what, format!("give both, or leave {there} out"));
    }
    Some(Warming { schedule: schedule?, from: from?.value })
}

fn dns<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>, base: &Path) -> Option<Dns> {
    let section = reader.section(root, "dns");
    let servers = reader.list(&section, "servers", forms::server).unwrap_or_default();
    let timeout = reader.read(&section, "timeout", forms::wait);
    let attempts = reader.whole(&section, "attempts", 1..=ATTEMPTS_MAX);
    let ipv6 = reader.flag(&section, "ipv6");
    let hosts = reader.read(&section, "hosts", forms::path).map(|text| placed(base, text));
    Some(Dns {
        servers: servers.into_iter().map(|server| server.value).collect(),
        timeout: timeout?.value,
        attempts: attempts?,
        ipv6: ipv6?.value,
        hosts,
    })
}

fn warmup<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>, base: &Path) -> Option<Warmup> {
    let section = reader.section(root, "warmup");
    let schedules = paths(reader, &section, "schedules", base);
    let overflow = reader.choice(
        &section,
        "overflow",
        &[("warm", Overflow::Warm), ("tomorrow", Overflow::Tomorrow)],
    );
    Some(Warmup { schedules, overflow: overflow? })
}

fn threshold(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Threshold> {
    let measure = reader.choice(
        section,
        "measure",
        &[("deferral", Measure::Deferral), ("bounce", Measure::Bounce), ("block", Measure::Block)],
    );
    let above = reader.read(section, "above", forms::share);
    let window = reader.read(section, "window", forms::wait);
    let at_least = reader.whole(section, "at_least", 1..=u32::MAX);
    let provider = reader.read(section, "provider", forms::name);
    let action = reader.choice(
        section,
        "action",
        &[("warn", Reaction::Warn), ("slow", Reaction::Slow), ("stop", Reaction::Stop)],
    );
    let command = reader.list(section, "command", forms::word).unwrap_or_default();
    if let Some(At { value, place }) = command.first()
        && value.is_empty()
    {
        reader.bad(section, "command", place.clone(), "the program has no name");
    }
    Some(Threshold {
        measure: measure?,
        above_ppm: above?.value,
        window: window?.value,
        at_least: at_least?,
        of: match provider {
            None => Watched::Each,
            Some(provider) if provider.value == "all" => Watched::Together,
            Some(provider) => Watched::Provider(provider),
        },
        action: action?,
        command: command.into_iter().map(|word| word.value).collect(),
        place: section.place.clone(),
    })
}
