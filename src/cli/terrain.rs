//! terrain — where the mail of a run goes: groups, sites and limits, made of the campaign, the rate
//! tables and what the DNS says of the list's domains.

use std::fs;
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use super::opening::ehlo_name;
use super::{Exit, Failure};
use crate::campaign::{self, Campaign, Route, Smarthost};
use crate::deliver::{Group, OnDoubt, Past, Settings, Source};
use crate::destination::{DomainNo, GroupNo, Host, Site, SiteNo};
use crate::limits::segments;
use crate::problem::{Place, Problem};
use crate::rates::{IpPolicy, Layer, Limits, Retry, Row, SHIPPED, Table, Tls};
use crate::recipients::{Domains, Reason};
use crate::resolver::{Config, Progress, Resolver};
use crate::routes::{Claim, Death, Directory, Hosts, Standing};
use crate::units::Utc;

/// Where the mail of a run goes.
pub(super) struct Terrain {
    /// By number; with a directory, the last one is for what has no mail host.
    pub(super) groups: Vec<Group>,
    /// By number.
    pub(super) sites: Vec<Site>,
    /// The port of all mail hosts.
    pub(super) port: u16,
    /// What is known of each domain; none where all mail goes to one host.
    pub(super) directory: Option<Directory>,
}

impl Terrain {
    /// Where the mail of a domain goes, if that is known.
    pub(super) fn place(&self, domain: DomainNo) -> Option<(SiteNo, GroupNo)> {
        match &self.directory {
            Some(directory) => directory.place(domain),
            None => Some((SiteNo(0), GroupNo(0))),
        }
    }

    /// The groups and sites of a directory.
    pub(super) fn of(directory: Directory, table: &Table, port: u16) -> Terrain {
        let group = |group: &crate::routes::Group| Group {
            name: group.name.clone(),
            provider: group.provider.clone(),
            limits: row(table, group.provider.as_deref()).limits(),
        };
        let mut groups: Vec<Group> = directory.groups().iter().map(group).collect();
        // Rows of domains that turn out to be dead end here.
        let limits = table.default.limits();
        groups.push(Group { name: String::new(), provider: None, limits });
        Terrain { groups, sites: directory.sites().to_vec(), port, directory: Some(directory) }
    }

    /// All mail to one host.
    pub(super) fn smarthost(campaign: &Campaign, loopback_only: bool) -> Result<Terrain, Failure> {
        let route = &campaign.delivery.route;
        let (Route::Host { host, port }, Some(smarthost)) =
            (&route.value, &campaign.delivery.smarthost)
        else {
            unreachable!("a campaign with a smarthost's route says how to treat it");
        };
        let name = match host {
            campaign::Host::Ip(ip) => ip.to_string(),
            campaign::Host::Name(name) => name.clone(),
        };
        let addresses: Result<Vec<SocketAddr>, _> =
            (name.as_str(), *port).to_socket_addrs().map(Iterator::collect);
        let addresses = addresses.map_err(|error| {
            let (place, route) = (&route.place, &route.value);
            let message = format!("{place}: the route {route} has no address: {error}");
            Failure::new(Exit::System, message)
        })?;
        if let Some(foreign) = addresses.iter().find(|address| !address.ip().is_loopback())
            && loopback_only
        {
            let place = &route.place;
            let message =
                format!("{place}: the route leads to {foreign}, and --loopback-only forbids it");
            return Err(Failure::new(Exit::Campaign, message));
        }
        let addresses = addresses.iter().map(SocketAddr::ip).collect();
        let host = Host { preference: 0, name: name.clone(), addresses };
        let limits = smarthost_limits(campaign, smarthost);
        Ok(Terrain {
            groups: vec![Group { name, provider: None, limits }],
            sites: vec![Site { group: GroupNo(0), hosts: vec![host] }],
            port: *port,
            directory: None,
        })
    }
}

fn smarthost_limits(campaign: &Campaign, smarthost: &Smarthost) -> Limits {
    let Smarthost { messages_per_connection, retry, expire_after } = smarthost;
    Limits {
        connections: campaign.delivery.connections,
        connections_total: None,
        messages_per_connection: *messages_per_connection,
        rates: campaign.delivery.rate.into_iter().collect(),
        rates_total: Vec::new(),
        rates_dkim: Vec::new(),
        ramp: None,
        retry: Retry { steps: retry.clone(), expire_after: *expire_after },
        tls: Tls::Opportunistic,
        ip: IpPolicy::V4First,
        quirks: Vec::new(),
    }
}

/// The row of a provider; that of all others when it has none.
pub(super) fn row<'t>(table: &'t Table, provider: Option<&str>) -> &'t Row {
    provider.and_then(|provider| table.row(provider)).unwrap_or(&table.default)
}

/// The rate table in force: the shipped one, the site's own, the campaign's.
pub(super) fn table(campaign: &Campaign, file: &Path) -> Result<Table, Failure> {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    for table in &campaign.delivery.rate_tables {
        let shown = table.value.display().to_string();
        match fs::read_to_string(&table.value) {
            Ok(text) => texts.push((shown, text, None)),
            Err(error) => {
                let what = format!("the rate table {shown} cannot be read: {error}");
                let help = "paths are relative to the campaign file";
                problems.push(Problem::new(table.place.clone(), what, help));
            }
        }
    }
    let shown = file.display().to_string();
    match fs::read_to_string(file) {
        Ok(text) => texts.push((shown, text, Some("rates"))),
        Err(error) => {
            let what = format!("cannot be read: {error}");
            problems.push(Problem::new(Place::whole(shown), what, ""));
        }
    }
    let above = texts.iter().map(|(file, text, section)| Layer { file, text, section: *section });
    let layers: Vec<Layer<'_>> = [SHIPPED].into_iter().chain(above).collect();
    match Table::read(&layers) {
        Ok(table) if problems.is_empty() => Ok(table),
        Ok(_) => Err(Failure::problems(Exit::Campaign, &problems)),
        Err(more) => {
            problems.extend(more);
            Err(Failure::problems(Exit::Campaign, &problems))
        }
    }
}

/// What the table says of a set of hosts.
pub(super) fn claim(table: &Table, hosts: &[&str]) -> Option<Claim> {
    let row = table.provider_of(hosts)?;
    Some(Claim { provider: row.name.clone(), per_site: row.per_site })
}

/// Who says where mail goes: the campaign's file of hosts, and the DNS for what that does not know.
pub(super) struct Guide {
    hosts: Hosts,
    config: Config,
    /// Started when it is first asked.
    resolver: Option<Resolver>,
}

impl Guide {
    pub(super) fn new(campaign: &Campaign) -> Result<Guide, Failure> {
        Guide::of(&campaign.dns)
    }

    /// The same by what `[dns]` says alone.
    pub(super) fn of(dns: &campaign::Dns) -> Result<Guide, Failure> {
        let config = Config {
            servers: dns.servers.clone(),
            timeout: dns.timeout,
            attempts: dns.attempts as usize,
            ipv6: dns.ipv6,
            ..Config::default()
        };
        let hosts = match &dns.hosts {
            None => Hosts::default(),
            Some(path) => {
                let shown = path.value.display().to_string();
                let text = fs::read_to_string(&path.value).map_err(|error| {
                    let what = format!("the file of hosts {shown} cannot be read: {error}");
                    let help = "paths are relative to the campaign file";
                    let problem = Problem::new(path.place.clone(), what, help);
                    Failure::problems(Exit::Campaign, &[problem])
                })?;
                Hosts::parse(&shown, &text)
                    .map_err(|problems| Failure::problems(Exit::Campaign, &problems))?
            }
        };
        Ok(Guide { hosts, config, resolver: None })
    }

    /// Asks for these domains and takes down what is said of them.
    pub(super) fn ask(
        &mut self,
        directory: &mut Directory,
        domains: impl Iterator<Item = DomainNo>,
        table: &Table,
        (now, quiet): (Utc, bool),
    ) -> Result<(), Failure> {
        let claim = |hosts: &[&str]| claim(table, hosts);
        let (mut unknown, mut names) = (Vec::new(), Vec::new());
        for domain in domains {
            match self.hosts.answer(directory.name(domain)) {
                Some(answer) => drop(directory.settle(domain, &answer, now, &claim)),
                None => {
                    names.push(directory.name(domain).to_owned());
                    unknown.push(domain);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let resolver = match &self.resolver {
            Some(resolver) => resolver,
            None => {
                let sockets = self.config.sockets() as u64;
                super::run::allow_files(sockets, "look-ups")?;
                let started = Resolver::start(&self.config);
                let started = started.map_err(|error| Failure::new(Exit::System, error))?;
                self.resolver.insert(started)
            }
        };
        let bar = bar(names.len(), quiet);
        let answers = resolver.resolve(&names, &mut |progress: Progress| {
            bar.set_position(progress.done as u64);
            bar.set_message(format!("{} dead, {} unknown", progress.dead, progress.unresolved));
        });
        bar.finish_and_clear();
        for (domain, answer) in unknown.into_iter().zip(&answers) {
            directory.settle(domain, answer, now, &claim);
        }
        Ok(())
    }
}

fn bar(domains: usize, quiet: bool) -> indicatif::ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let form = "{pos}/{len} domains looked up · {msg} · {eta} left";
    let style = indicatif::ProgressStyle::with_template(form).expect("the form is a constant");
    indicatif::ProgressBar::new(domains as u64).with_style(style)
}

/// A directory of the list's domains, all of them asked for.
pub(super) fn directory(
    campaign: &Campaign,
    table: &Table,
    domains: &Domains,
    (now, quiet): (Utc, bool),
) -> Result<Directory, Failure> {
    let names: Vec<String> = domains.iter().map(str::to_owned).collect();
    let seed = u64::from(crc_fast::crc32_iscsi(campaign.id.value.as_bytes()));
    let mut directory = Directory::new(names, seed);
    let all = (0..directory.domains()).map(DomainNo);
    Guide::new(campaign)?.ask(&mut directory, all, table, (now, quiet))?;
    Ok(directory)
}

/// Why no mail can be sent to a domain, if that is certain.
pub(super) fn dead(directory: &Directory, domain: DomainNo) -> Option<Reason> {
    match directory.standing(domain) {
        Standing::Dead(Death::NoSuchDomain) => Some(Reason::NoSuchDomain),
        Standing::Dead(Death::NullMx) => Some(Reason::NullMx),
        Standing::Dead(Death::NoMailHost) => Some(Reason::NoMailHost),
        Standing::Routed(_) | Standing::Unresolved { .. } => None,
    }
}

/// What the campaign says of each source of its pool.
pub(super) fn pool(campaign: &Campaign) -> impl Iterator<Item = &campaign::Source> {
    let pool = campaign.delivery.pool.as_ref();
    let in_pool = move |source: &&campaign::Source| pool.is_none_or(|of| source.pool == of.value);
    // What is beyond the day's share of new sources waits for the next day: no other takes it.
    let tomorrow = campaign.warmup.overflow == campaign::Overflow::Tomorrow
        && campaign.sources.iter().filter(in_pool).any(|source| source.warmup.is_some());
    let in_pool = campaign.sources.iter().filter(in_pool);
    in_pool.filter(move |source| !tomorrow || source.warmup.is_some())
}

/// The sources of the campaign's pool.
pub(super) fn sources(campaign: &Campaign) -> Vec<Source> {
    let ours = |source: &campaign::Source| Source {
        address: source.address.as_ref().map(|address| address.value),
        ehlo_name: match &source.ehlo_name {
            Some(name) => name.value.clone(),
            None => ehlo_name(campaign),
        },
        weight: source.weight,
    };
    pool(campaign).map(ours).collect()
}

/// What delivery is told of a campaign before anything was sent: one thread, and the clock's pace.
pub(super) fn settings(campaign: &Campaign, terrain: &Terrain) -> Settings {
    let delivery = &campaign.delivery;
    let mx = terrain.directory.is_some();
    let mut settings = Settings {
        sources: sources(campaign),
        groups: terrain.groups.clone(),
        sites: terrain.sites.clone(),
        port: terrain.port,
        connections: delivery.connections,
        rate: delivery.rate.filter(|_| mx),
        on_doubt: match delivery.on_doubt {
            campaign::OnDoubt::Hold => OnDoubt::Hold,
            campaign::OnDoubt::Resend => OnDoubt::Resend,
        },
        past: Past::default(),
        quotas: Vec::new(),
        thread: (0, 1),
        segments: 0,
        speed: 1,
        loopback_only: false,
    };
    settings.segments = segments_for(&settings);
    settings
}

/// The spool's segments are for one message on each connection, and connections are rarely more
/// than what groups and sources allow together.
fn segments_for(settings: &Settings) -> usize {
    let sources = u32::try_from(settings.sources.len()).unwrap_or(u32::MAX);
    let of = |group: &Group| group.limits.connections.saturating_mul(sources);
    let all = settings.groups.iter().map(of).fold(0_u32, u32::saturating_add);
    segments(all.min(settings.connections))
}
