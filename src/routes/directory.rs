//! directory — the domains of a run, the sites that take their mail and the groups whose limits
//! hold for the sites.
//!
//! Two domains share a site when their mail hosts have the same names, whatever their preferences:
//! the first one's count. Sites and groups are numbered in the order in which they come to be and
//! never go; so the numbers in the ledger and in queues stay true. It cannot fail. It must not know
//! rate tables: a function says who runs a set of hosts.

use std::collections::HashMap;
use std::net::IpAddr;

use super::lookup::{distinct, most_preferred};
use super::names::host_name;
use super::{Answer, Claim, Death, Standing, TTL_DEAD, TTL_MAX, TTL_MIN};
use crate::destination::{DomainNo, GroupNo, Host, Site, SiteNo};
use crate::units::Utc;

/// Characters of a sentence that are kept; an answer may contain long names.
const WHY_MAX: usize = 200;

/// All domains of a run and where their mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub(super) seed: u64,
    pub(super) domains: Vec<Domain>,
    /// The domains in the order of their names.
    pub(super) by_name: Vec<DomainNo>,
    pub(super) sites: Vec<Site>,
    pub(super) groups: Vec<Group>,
    /// Sites by the names of their hosts, as [`site_key`] joins them.
    pub(super) by_hosts: HashMap<String, SiteNo>,
    pub(super) by_group_name: HashMap<String, GroupNo>,
    /// The groups of providers whose limits hold for all their sites together.
    pub(super) shared: HashMap<String, GroupNo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) standing: Standing,
    pub(super) expires: Utc,
}

/// The unit of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// No other group has it: a provider's name, or the name of a site's most preferred host.
    pub name: String,
    /// The provider whose limits hold; `None` for those of all others.
    pub provider: Option<String>,
}

/// What an answer changed besides the domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// A site that was not there before.
    pub site: Option<SiteNo>,
    /// A group that was not there before.
    pub group: Option<GroupNo>,
    /// A site known before, whose hosts now have other addresses.
    pub readdressed: Option<SiteNo>,
}

impl Directory {
    /// A directory in which every domain is unresolved.
    ///
    /// `domains` are in wire form (see [`crate::address`]), each named once. `seed` orders hosts of
    /// equal preference (RFC 5321 §5.1 wants them shuffled); the same one gives the same order.
    pub fn new(domains: Vec<String>, seed: u64) -> Directory {
        let unresolved = |name| Domain {
            name,
            standing: Standing::Unresolved { why: "it was not asked for yet".into() },
            expires: Utc(i64::MIN),
        };
        Directory::of(seed, domains.into_iter().map(unresolved).collect())
    }

    /// A directory of these domains, without sites.
    pub(super) fn of(seed: u64, domains: Vec<Domain>) -> Directory {
        let count = u32::try_from(domains.len()).expect("rows are 32 bits, domains no more");
        let mut by_name: Vec<DomainNo> = (0..count).map(DomainNo).collect();
        by_name.sort_by(|a, b| domains[a.index()].name.cmp(&domains[b.index()].name));
        Directory {
            seed,
            domains,
            by_name,
            sites: Vec::new(),
            groups: Vec::new(),
            by_hosts: HashMap::new(),
            by_group_name: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    /// Takes what the DNS said of `domain` at `now`.
    ///
    /// `claim` is asked once for each new site, with the names of its hosts, sorted. An answer that
    /// could not be had changes nothing that is already known.
    pub fn settle(
        &mut self,
        domain: DomainNo,
        answer: &Answer,
        now: Utc,
        claim: &dyn Fn(&[&str]) -> Option<Claim>,
    ) -> Change {
        let mut change = Change::default();
        let (standing, ttl) = match answer {
            Answer::Hosts { hosts, ttl } => match self.site(hosts, claim, &mut change) {
                Some(site) => (Some(Standing::Routed(site)), (*ttl).clamp(TTL_MIN, TTL_MAX)),
                None => (Some(Standing::Dead(Death::NoMailHost)), TTL_DEAD),
            },
            Answer::NullMx => (Some(Standing::Dead(Death::NullMx)), TTL_DEAD),
            Answer::NoSuchDomain => (Some(Standing::Dead(Death::NoSuchDomain)), TTL_DEAD),
            Answer::NoMailHost { .. } => (Some(Standing::Dead(Death::NoMailHost)), TTL_DEAD),
            Answer::Unknown { why } => match self.domains[domain.index()].standing {
                Standing::Unresolved { .. } => {
                    (Some(Standing::Unresolved { why: one_line(why) }), TTL_MIN)
                }
                Standing::Routed(_) | Standing::Dead(_) => (None, TTL_MIN),
            },
        };
        let entry = &mut self.domains[domain.index()];
        entry.standing = standing.unwrap_or_else(|| entry.standing.clone());
        entry.expires = now.after(ttl);
        change
    }

    /// The number of a domain in wire form.
    pub fn domain(&self, name: &str) -> Option<DomainNo> {
        let found = self.by_name.binary_search_by(|no| self.name(*no).cmp(name));
        found.ok().map(|at| self.by_name[at])
    }

    /// The name of a domain.
    pub fn name(&self, domain: DomainNo) -> &str {
        &self.domains[domain.index()].name
    }

    /// What is known of a domain.
    pub fn standing(&self, domain: DomainNo) -> &Standing {
        &self.domains[domain.index()].standing
    }

    /// When a domain is to be asked for again; before everything, if it never was.
    pub fn expires(&self, domain: DomainNo) -> Utc {
        self.domains[domain.index()].expires
    }

    /// How many domains there are; their numbers are below this.
    pub fn domains(&self) -> u32 {
        u32::try_from(self.domains.len()).expect("checked when the directory was made")
    }

    /// Every site, by number.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Every group, by number.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group with this name.
    pub fn group(&self, name: &str) -> Option<GroupNo> {
        self.by_group_name.get(name).copied()
    }

    /// Where the mail of a domain goes, if that is known.
    pub fn place(&self, domain: DomainNo) -> Option<(SiteNo, GroupNo)> {
        match *self.standing(domain) {
            Standing::Routed(site) => Some((site, self.sites[site.index()].group)),
            Standing::Dead(_) | Standing::Unresolved { .. } => None,
        }
    }

    /// The domains of which nothing is known yet.
    pub fn unresolved(&self) -> impl Iterator<Item = DomainNo> {
        let unresolved = |no: &DomainNo| matches!(self.standing(*no), Standing::Unresolved { .. });
        (0..self.domains()).map(DomainNo).filter(unresolved)
    }

    /// The site with these hosts, made if it is new; none without hosts.
    fn site(
        &mut self,
        hosts: &[Host],
        claim: &dyn Fn(&[&str]) -> Option<Claim>,
        change: &mut Change,
    ) -> Option<SiteNo> {
        let mut hosts = normalised(hosts);
        let first = hosts.first()?.name.clone();
        let key = site_key(&hosts);
        if let Some(&known) = self.by_hosts.get(&key) {
            if readdress(&mut self.sites[known.index()].hosts, hosts) {
                change.readdressed = Some(known);
            }
            return Some(known);
        }
        let names: Vec<&str> = key.split(' ').collect();
        let group = self.group_for(&first, claim(&names), change);
        let seed = self.seed;
        hosts.sort_by_cached_key(|host| (host.preference, rank(seed, &host.name)));
        let site = SiteNo(ordinal(self.sites.len()));
        self.sites.push(Site { group, hosts });
        self.by_hosts.insert(key, site);
        change.site = Some(site);
        Some(site)
    }

    /// The group of a new site whose most preferred host is `first`.
    fn group_for(&mut self, first: &str, claim: Option<Claim>, change: &mut Change) -> GroupNo {
        let (name, provider, is_shared) = match claim {
            None => (first.to_owned(), None, false),
            Some(Claim { provider, per_site }) => {
                let provider = one_line(&provider);
                if let Some(&known) = self.shared.get(&provider).filter(|_| !per_site) {
                    return known;
                }
                let name = if per_site { format!("{provider}/{first}") } else { provider.clone() };
                (name, Some(provider), !per_site)
            }
        };
        let group = GroupNo(ordinal(self.groups.len()));
        self.add_group(Group { name: self.unique(name, group), provider }, is_shared);
        change.group = Some(group);
        group
    }

    /// Appends a group whose name is unique.
    pub(super) fn add_group(&mut self, group: Group, is_shared: bool) {
        let number = GroupNo(ordinal(self.groups.len()));
        if let Some(provider) = group.provider.clone().filter(|_| is_shared) {
            self.shared.insert(provider, number);
        }
        self.by_group_name.insert(group.name.clone(), number);
        self.groups.push(group);
    }

    /// `name`, with the group's number behind it if another group has that name.
    fn unique(&self, name: String, group: GroupNo) -> String {
        let mut unique = name;
        while self.by_group_name.contains_key(&unique) {
            unique = format!("{unique}#{group}");
        }
        unique
    }
}

fn ordinal(length: usize) -> u32 {
    u32::try_from(length).expect("no more sites and groups than domains")
}

/// Hosts in the order of preference and name: each once, in one form, with addresses.
fn normalised(hosts: &[Host]) -> Vec<Host> {
    let mut addresses: HashMap<String, Vec<IpAddr>> = HashMap::new();
    let mut names = Vec::new();
    for host in hosts.iter().filter(|host| !host.addresses.is_empty()) {
        if let Some(name) = host_name(&host.name) {
            addresses.entry(name.clone()).or_default().extend(&host.addresses);
            names.push((host.preference, name));
        }
    }
    let with_addresses = |(preference, name): (u16, String)| {
        let addresses = distinct(&addresses[&name]);
        Host { preference, name, addresses }
    };
    most_preferred(names).into_iter().map(with_addresses).collect()
}

/// The identity of a site: the sorted names of its hosts, which have no blanks.
pub(super) fn site_key(hosts: &[Host]) -> String {
    let mut names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}

/// Gives hosts the addresses that the same hosts have in `newer`; whether any has others now.
fn readdress(hosts: &mut [Host], newer: Vec<Host>) -> bool {
    let mut changed = false;
    for newer in newer {
        let host = hosts.iter_mut().find(|host| host.name == newer.name);
        let host = host.expect("sites with the same key have the same hosts");
        // Servers rotate the addresses in their answers; their order says nothing.
        let same = host.addresses.len() == newer.addresses.len()
            && newer.addresses.iter().all(|address| host.addresses.contains(address));
        if !same {
            host.addresses = newer.addresses;
            changed = true;
        }
    }
    changed
}

/// Where a host stands among those of its preference: FNV-1a over the seed and its name, mixed by
/// the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators"), because the low octets of a seed must reach all bits.
fn rank(seed: u64, name: &str) -> u64 {
    let octets = seed.to_le_bytes().into_iter().chain(name.bytes());
    let hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Text from outside as it may stand in one field of one line.
fn one_line(text: &str) -> String {
    let kept = text.chars().take(WHY_MAX);
    kept.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Utc = Utc(1_000_000_000);

    fn nobody(_: &[&str]) -> Option<Claim> {
        None
    }

    /// Everything below `.big.example` is Big's, below `.shared.example` Shared's by site.
    fn claims(hosts: &[&str]) -> Option<Claim> {
        let claim = |suffix: &str, provider: &str, per_site| {
            let all = hosts.iter().all(|host| host.ends_with(suffix));
            all.then(|| Claim { provider: provider.into(), per_site })
        };
        claim(".big.example", "big", false).or_else(|| claim(".shared.example", "hosted", true))
    }

    fn answer(text: &str) -> Answer {
        let host = |(at, host): (usize, &str)| {
            let (preference, name) = host.split_once(' ').unwrap();
            let addresses = vec![IpAddr::from([192, 0, 2, u8::try_from(at).unwrap() + 1])];
            Host { preference: preference.parse().unwrap(), name: name.into(), addresses }
        };
        let hosts = text.split(", ").enumerate().map(host).collect();
        Answer::Hosts { hosts, ttl: Duration::from_secs(7_200) }
    }

    fn directory(count: usize) -> Directory {
        Directory::new((0..count).map(|at| format!("d{at}.example")).collect(), 7)
    }

    fn names(site: &Site) -> Vec<&str> {
        site.hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn domains_with_the_same_hosts_share_a_site() {
        let mut directory = directory(4);
        let mut settle = |domain: u32, text: &str| {
            directory.settle(DomainNo(domain), &answer(text), NOW, &nobody)
        };
        let first = Change { site: Some(SiteNo(0)), group: Some(GroupNo(0)), readdressed: None };
        assert_eq!(settle(0, "10 a.mx.example, 20 b.mx.example"), first);
        assert_eq!(settle(1, "5 A.MX.example., 5 b.mx.Example."), Change::default());
        assert_eq!(settle(2, "10 a.mx.example, 20 b.mx.example, 30 B.mx.example").site, None);
        assert_eq!(settle(3, "10 a.mx.example").site, Some(SiteNo(1)));
        assert_eq!(names(&directory.sites()[0]), ["a.mx.example", "b.mx.example"]);
        assert_eq!(directory.place(DomainNo(1)), Some((SiteNo(0), GroupNo(0))));
        let groups: Vec<_> = directory.groups().iter().map(|group| group.name.as_str()).collect();
        assert_eq!(groups, ["a.mx.example", "a.mx.example#1"], "names are unique");
        assert_eq!(directory.group("a.mx.example#1"), Some(GroupNo(1)));
    }

    #[test]
    fn groups_are_those_of_the_claim() {
        let mut directory = directory(6);
        for (domain, text) in [
            "10 a.big.example, 10 b.big.example",
            "10 c.big.example",
            "20 z.shared.example, 30 a.shared.example",
            "10 y.shared.example",
            "10 a.big.example, 20 mx.other.example",
        ]
        .into_iter()
        .enumerate()
        {
            directory.settle(DomainNo(ordinal(domain)), &answer(text), NOW, &claims);
        }
        let groups: Vec<_> = directory
            .groups()
            .iter()
            .map(|group| (group.name.as_str(), group.provider.as_deref()))
            .collect();
        let expected = [
            ("big", Some("big")),
            ("hosted/z.shared.example", Some("hosted")),
            ("hosted/y.shared.example", Some("hosted")),
            ("a.big.example", None),
        ];
        assert_eq!(groups, expected);
        let placed: Vec<_> =
            (0..6).map(|no| directory.place(DomainNo(no)).map(|(_, group)| group.0)).collect();
        assert_eq!(placed, [Some(0), Some(0), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn equal_preferences_are_shuffled_by_the_seed_and_others_kept_in_order() {
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let mut directory = Directory::new(vec!["x.example".into()], seed);
            let text = "20 d.mx, 10 a.mx, 10 b.mx, 10 c.mx, 5 z.mx";
            directory.settle(DomainNo(0), &answer(text), NOW, &nobody);
            let order: Vec<String> =
                names(&directory.sites()[0]).iter().map(|n| (*n).to_owned()).collect();
            assert_eq!((order[0].as_str(), order[4].as_str()), ("z.mx", "d.mx"));
            assert_eq!(directory.groups()[0].name, "z.mx");
            orders.insert(order);
        }
        assert_eq!(orders.len(), 6, "every order of three comes up");
    }

    #[test]
    fn only_the_dns_can_declare_a_domain_dead() {
        let mut directory = directory(5);
        let unknown = Answer::Unknown { why: "SERVFAIL\n".into() };
        let no_host = Answer::NoMailHost { why: String::new() };
        let no_address = Answer::Hosts {
            hosts: vec![Host { preference: 1, name: "a.mx".into(), addresses: vec![] }],
            ttl: Duration::ZERO,
        };
        let answers = [unknown.clone(), Answer::NullMx, Answer::NoSuchDomain, no_host, no_address];
        for (domain, answer) in (0..).zip(&answers) {
            directory.settle(DomainNo(domain), answer, NOW, &nobody);
        }
        let standings: Vec<_> = (0..5).map(|no| directory.standing(DomainNo(no)).clone()).collect();
        let unresolved = Standing::Unresolved { why: "SERVFAIL ".into() };
        let dead = [Death::NullMx, Death::NoSuchDomain, Death::NoMailHost, Death::NoMailHost];
        assert_eq!(standings[0], unresolved);
        assert_eq!(standings[1..], dead.map(Standing::Dead));
        assert_eq!(directory.unresolved().collect::<Vec<_>>(), [DomainNo(0)]);

        directory.settle(DomainNo(1), &unknown, NOW, &nobody);
        assert_eq!(*directory.standing(DomainNo(1)), Standing::Dead(Death::NullMx));
        directory.settle(DomainNo(0), &answer("10 a.mx"), NOW, &nobody);
        directory.settle(DomainNo(0), &unknown, NOW, &nobody);
        assert_eq!(*directory.standing(DomainNo(0)), Standing::Routed(SiteNo(0)));
        directory.settle(DomainNo(0), &Answer::NoSuchDomain, NOW, &nobody);
        assert_eq!(directory.place(DomainNo(0)), None);
        assert_eq!(directory.sites().len(), 1, "sites never go");
    }

    #[test]
    fn answers_hold_for_five_minutes_to_a_day() {
        let mut directory = directory(1);
        assert_eq!(directory.expires(DomainNo(0)), Utc(i64::MIN));
        for (ttl, expected) in [(0, 300), (301, 301), (86_401, 86_400)] {
            let Answer::Hosts { hosts, .. } = answer("10 a.mx") else { unreachable!() };
            let answer = Answer::Hosts { hosts, ttl: Duration::from_secs(ttl) };
            directory.settle(DomainNo(0), &answer, NOW, &nobody);
            assert_eq!(directory.expires(DomainNo(0)).since(NOW), Duration::from_secs(expected));
        }
    }

    #[test]
    fn new_addresses_reach_the_site() {
        let mut directory = directory(1);
        let with = |addresses: &[&str]| Answer::Hosts {
            hosts: vec![Host {
                preference: 1,
                name: "a.mx".into(),
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            }],
            ttl: Duration::ZERO,
        };
        let mut settle = |addresses: &[&str]| {
            let change = directory.settle(DomainNo(0), &with(addresses), NOW, &nobody);
            (change.readdressed, directory.sites()[0].hosts[0].addresses.len())
        };
        assert_eq!(settle(&["192.0.2.1", "192.0.2.2"]), (None, 2));
        assert_eq!(settle(&["192.0.2.2", "192.0.2.1"]), (None, 2), "servers rotate");
        assert_eq!(settle(&["192.0.2.3"]), (Some(SiteNo(0)), 1));
    }

    #[test]
    fn domains_are_found_by_name() {
        let names = ["b.example", "a.example", "xn--bcher-kva.example"];
        let directory = Directory::new(names.map(String::from).into(), 0);
        for (number, name) in (0..).zip(names) {
            assert_eq!(directory.domain(name), Some(DomainNo(number)));
            assert_eq!(directory.name(DomainNo(number)), name);
        }
        assert_eq!(directory.domain("c.example"), None);
        assert_eq!(directory.unresolved().count(), 3);
    }
}
