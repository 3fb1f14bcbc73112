//! cache — a [`Directory`] as text, for the run directory: what a run knew of its domains when it
//! was interrupted, and what a person may want to look up.
//!
//! Lines of fields with tabs between them, the first field says what the line is:
//!
//! ```text
//! routes  1 <seed>                        format version
//! group   <number> shared|own <provider or empty> <name>
//! site    <number> <group>                then its hosts in the order in which they are tried
//! host    <preference> <name> <address> <address> …
//! domain  <number> <name> <expires> routed <site>
//! domain  <number> <name> <expires> dead <reason>
//! domain  <number> <name> <expires> unresolved <why>
//! end     <lines above>
//! ```
//!
//! Times are microseconds since 1970 (UTC). Whoever writes the file does it whole or not at all;
//! still, reading checks every line and that the last one is there ([`CacheError`] says which is
//! wrong), because a wrong number here would send mail to the wrong hosts.

use std::fmt::Write as _;
use std::str::{FromStr, Split};

use super::directory::{Directory, Domain, Group, site_key};
use super::{ADDRESSES_MAX, Death, HOSTS_MAX, Standing, host_name};
use crate::destination::{GroupNo, Host, Site, SiteNo};
use crate::units::Utc;

/// The only format there is.
const VERSION: u32 = 1;

/// A line of a route cache that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct CacheError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, lower case, no full stop.
    pub what: String,
}

impl Directory {
    /// The directory as text.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(self.domains.len() * 64);
        self.write(&mut text).expect("a string takes everything");
        let lines = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        writeln!(text, "end\t{lines}").expect("a string takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "routes\t{VERSION}\t{}", self.seed)?;
        for (number, group) in (0..).map(GroupNo).zip(&self.groups) {
            let provider = group.provider.as_deref().unwrap_or("");
            let is_shared = self.shared.get(provider) == Some(&number);
            let kind = if is_shared { "shared" } else { "own" };
            writeln!(text, "group\t{number}\t{kind}\t{provider}\t{}", group.name)?;
        }
        for (number, site) in self.sites.iter().enumerate() {
            writeln!(text, "site\t{number}\t{}", site.group)?;
            for host in &site.hosts {
                write!(text, "host\t{}\t{}", host.preference, host.name)?;
                for address in &host.addresses {
                    write!(text, "\t{address}")?;
                }
                text.push('\n');
            }
        }
        for (number, domain) in self.domains.iter().enumerate() {
            write!(text, "domain\t{number}\t{}\t{}\t", domain.name, domain.expires.0)?;
            match &domain.standing {
                Standing::Routed(site) => writeln!(text, "routed\t{site}")?,
                Standing::Dead(death) => writeln!(text, "dead\t{}", death.word())?,
                Standing::Unresolved { why } => writeln!(text, "unresolved\t{why}")?,
            }
        }
        Ok(())
    }

    /// Reads what [`encode`](Directory::encode) wrote.
    ///
    /// # Errors
    /// The first line that is not as it was written.
    pub fn decode(text: &str) -> Result<Directory, CacheError> {
        let mut reader = Reader::default();
        for (at, line) in text.split_terminator('\n').enumerate() {
            let wrong = |what| CacheError { line: at + 1, what };
            reader.line(at, line).map_err(wrong)?;
        }
        let lines = text.split_terminator('\n').count();
        reader.finish().map_err(|what| CacheError { line: lines, what })
    }
}

/// What the lines so far say.
#[derive(Default)]
struct Reader {
    seed: Option<u64>,
    groups: Vec<(Group, bool)>,
    sites: Vec<Site>,
    domains: Vec<Domain>,
    ended: bool,
}

impl Reader {
    /// Reads the line that has `at` lines above it.
    fn line(&mut self, at: usize, line: &str) -> Result<(), String> {
        let mut fields = Fields(line.split('\t'));
        let kind = fields.text()?;
        match (kind, self.seed) {
            _ if self.ended => return Err("something follows the end".into()),
            ("routes", None) => {
                if fields.number::<u32>()? != VERSION {
                    return Err(format!("only version {VERSION} can be read"));
                }
                self.seed = Some(fields.number()?);
            }
            (_, None) => return Err("this is no route cache".into()),
            ("group", _) => self.group(&mut fields)?,
            ("site", _) => {
                fields.ordinal(self.sites.len())?;
                let group = GroupNo(fields.below(self.groups.len())?);
                self.sites.push(Site { group, hosts: Vec::new() });
            }
            ("host", _) => self.host(&mut fields)?,
            ("domain", _) => self.domain(&mut fields)?,
            ("end", _) => {
                fields.ordinal(at)?;
                self.ended = true;
            }
            (other, _) => return Err(format!("{other:?} is no kind of line")),
        }
        match fields.0.next() {
            None => Ok(()),
            Some(more) => Err(format!("{more:?} is too much")),
        }
    }

    fn group(&mut self, fields: &mut Fields) -> Result<(), String> {
        fields.ordinal(self.groups.len())?;
        let kind = fields.text()?;
        let provider = Some(fields.text()?.to_owned()).filter(|provider| !provider.is_empty());
        let name = fields.text()?.to_owned();
        let is_shared = match (kind, &provider) {
            ("shared", Some(_)) => true,
            ("own", _) => false,
            _ => return Err(format!("{kind:?} is no kind of group")),
        };
        self.groups.push((Group { name, provider }, is_shared));
        Ok(())
    }

    fn host(&mut self, fields: &mut Fields) -> Result<(), String> {
        let preference = fields.number()?;
        let name = fields.text()?.to_owned();
        if host_name(&name).as_ref() != Some(&name) {
            return Err(format!("{name:?} is not the name of a host"));
        }
        let mut addresses = Vec::new();
        for field in fields.0.by_ref() {
            addresses.push(field.parse().map_err(|_| format!("{field:?} is no address"))?);
        }
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(format!("a host has 1 to {ADDRESSES_MAX} addresses"));
        }
        let site = self.sites.last_mut().filter(|_| self.domains.is_empty());
        let hosts = &mut site.ok_or("a host without a site")?.hosts;
        let in_order = hosts.last().is_none_or(|last| last.preference <= preference);
        let is_new = hosts.iter().all(|host| host.name != name);
        if !in_order || !is_new || hosts.len() >= HOSTS_MAX {
            return Err("a host out of order, given twice or one too many".into());
        }
        hosts.push(Host { preference, name, addresses });
        Ok(())
    }

    fn domain(&mut self, fields: &mut Fields) -> Result<(), String> {
        fields.ordinal(self.domains.len())?;
        let name = fields.text()?.to_owned();
        let expires = Utc(fields.number()?);
        let standing = match (fields.text()?, fields) {
            ("routed", fields) => Standing::Routed(SiteNo(fields.below(self.sites.len())?)),
            ("dead", fields) => {
                let word = fields.text()?;
                let death = Death::ALL.iter().find(|death| death.word() == word);
                Standing::Dead(*death.ok_or_else(|| format!("{word:?} is no reason"))?)
            }
            ("unresolved", fields) => Standing::Unresolved { why: fields.text()?.to_owned() },
            (other, _) => return Err(format!("{other:?} is no standing")),
        };
        self.domains.push(Domain { name, standing, expires });
        Ok(())
    }

    /// Builds the directory, with what is only there to find things faster.
    fn finish(self) -> Result<Directory, String> {
        let seed = self.seed.filter(|_| self.ended).ok_or("the end is missing")?;
        let mut directory = Directory::of(seed, self.domains);
        let mut names = directory.by_name.windows(2);
        if names.any(|two| directory.name(two[0]) == directory.name(two[1])) {
            return Err("a domain is given twice".into());
        }
        for (group, is_shared) in self.groups {
            let provider = group.provider.as_deref().unwrap_or("");
            if directory.group(&group.name).is_some()
                || is_shared && directory.shared.contains_key(provider)
            {
                return Err(format!("group {:?} is given twice", group.name));
            }
            directory.add_group(group, is_shared);
        }
        for (number, site) in (0..).map(SiteNo).zip(&self.sites) {
            let other = directory.by_hosts.insert(site_key(&site.hosts), number);
            if site.hosts.is_empty() || other.is_some() {
                return Err(format!("site {number} has no hosts or those of another"));
            }
        }
        directory.sites = self.sites;
        Ok(directory)
    }
}

/// The fields of one line that are still to be read.
struct Fields<'a>(Split<'a, char>);

impl<'a> Fields<'a> {
    fn text(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a field is missing".into())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("{text:?} is not the number that belongs here"))
    }

    /// A number that must be `expected`.
    fn ordinal(&mut self, expected: usize) -> Result<(), String> {
        match self.number::<usize>()? {
            number if number == expected => Ok(()),
            number => Err(format!("number {number} stands where {expected} belongs")),
        }
    }

    /// A number of something of which there are `count`.
    fn below(&mut self, count: usize) -> Result<u32, String> {
        let number: u32 = self.number()?;
        match (number as usize) < count {
            true => Ok(number),
            false => Err(format!("there is no number {number}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::destination::DomainNo;
    use crate::routes::{Answer, Claim};

    fn answers() -> impl Strategy<Value = Answer> {
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from)
        ];
        let host =
            (0_u16..3, "[abAB]\\.(big|mx)\\.Example\\.?", prop::collection::vec(address, 0..3))
                .prop_map(|(preference, name, addresses)| Host { preference, name, addresses });
        let hosts = (prop::collection::vec(host, 0..4), 0_u64..100_000)
            .prop_map(|(hosts, ttl)| Answer::Hosts { hosts, ttl: Duration::from_secs(ttl) });
        prop_oneof![
            4 => hosts,
            1 => Just(Answer::NullMx),
            1 => Just(Answer::NoSuchDomain),
            1 => Just(Answer::NoMailHost { why: "no".into() }),
            2 => "\\PC*|[\t\n\r\0x]*".prop_map(|why| Answer::Unknown { why }),
        ]
    }

    fn claim(hosts: &[&str]) -> Option<Claim> {
        let all = |part: &str| hosts.iter().all(|host| host.contains(part));
        let claim = |per_site| Claim { provider: "big\tone".into(), per_site };
        match (all(".big."), all("a.")) {
            (true, per_site) => Some(claim(per_site)),
            (false, _) => None,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(answers in prop::collection::vec(answers(), 0..40)) {
            let domains = (0..answers.len()).map(|at| format!("d{at}.example")).collect();
            let mut directory = Directory::new(domains, 5);
            for (number, answer) in (0..).zip(&answers) {
                directory.settle(DomainNo(number), answer, Utc(77), &claim);
            }
            let text = directory.encode();
            let mut again = Directory::decode(&text).expect("our own text");
            prop_assert_eq!(&again, &directory);
            // And it goes on as the other would have.
            for (number, answer) in (0..).zip(answers.iter().rev()) {
                let number = DomainNo(number);
                let change = directory.settle(number, answer, Utc(78), &claim);
                prop_assert_eq!(again.settle(number, answer, Utc(78), &claim), change);
            }
            prop_assert_eq!(again, directory);
        }

        #[test]
        fn what_is_cut_off_is_refused(keep in 0_usize..500) {
            let text = example();
            if keep < text.len() {
                let cut = Directory::decode(&text[..keep]);
                prop_assert_eq!(cut.is_ok(), keep == text.len() - 1, "only the last line end");
            }
        }
    }

    fn example() -> String {
        "routes\t1\t7\n\
         group\t0\tshared\tbig\tbig\n\
         group\t1\town\t\ta.mx.example\n\
         site\t0\t0\n\
         host\t10\ta.big.example\t192.0.2.1\t2001:db8::1\n\
         site\t1\t1\n\
         host\t10\ta.mx.example\t192.0.2.2\n\
         host\t20\tb.mx.example\t192.0.2.3\n\
         domain\t0\tx.example\t1000\trouted\t1\n\
         domain\t1\ty.example\t1000\tdead\tnull_mx\n\
         domain\t2\tz.example\t1000\tunresolved\tthe DNS said SERVFAIL\n\
         end\t11\n"
            .into()
    }

    #[test]
    fn the_format_is_this() {
        let directory = Directory::decode(&example()).unwrap();
        assert_eq!(directory.encode(), example());
        assert_eq!(directory.place(DomainNo(0)), Some((SiteNo(1), GroupNo(1))));
        assert_eq!(*directory.standing(DomainNo(1)), Standing::Dead(Death::NullMx));
    }

    #[test]
    fn every_wrong_line_is_named() {
        for (line, from, to, what) in [
            (1, "routes\t1", "routes\t2", "only version 1 can be read"),
            (1, "routes", "Routes", "this is no route cache"),
            (3, "group\t1", "group\t2", "number 2 stands where 1 belongs"),
            (3, "own\t", "shared\t", "\"shared\" is no kind of group"),
            (12, "own\t\ta.mx.example", "own\t\tbig", "group \"big\" is given twice"),
            (6, "site\t1\t1", "site\t1\t2", "there is no number 2"),
            (7, "192.0.2.2", "192.0.2", "\"192.0.2\" is no address"),
            (7, "\t192.0.2.2", "", "a host has 1 to 16 addresses"),
            (8, "20\tb", "5\tb", "a host out of order, given twice or one too many"),
            (8, "b.mx", "a.mx", "a host out of order, given twice or one too many"),
            (8, "b.mx", "B.mx", "\"B.mx.example\" is not the name of a host"),
            (9, "routed\t1", "routed\t9", "there is no number 9"),
            (9, "1000\trouted", "soon\trouted", "\"soon\" is not the number that belongs here"),
            (9, "routed\t1", "routed\t1\t2", "\"2\" is too much"),
            (10, "null_mx", "tired", "\"tired\" is no reason"),
            (12, "y.example", "x.example", "a domain is given twice"),
            (11, "unresolved\tthe DNS said SERVFAIL", "lost", "\"lost\" is no standing"),
            (11, "\tunresolved\tthe DNS said SERVFAIL", "", "a field is missing"),
            (12, "end\t11", "end\t10", "number 10 stands where 11 belongs"),
            (13, "end\t11\n", "end\t11\nend\t12\n", "something follows the end"),
            (12, "a.big.example\t", "a.mx.example\t", "site 1 has no hosts or those of another"),
        ] {
            let mut text = example();
            if what.contains("those of another") {
                text = text
                    .replace("host\t20\tb.mx.example\t192.0.2.3\n", "")
                    .replace("end\t11", "end\t10");
            }
            assert!(text.contains(from), "{from:?}");
            let wrong = Directory::decode(&text.replacen(from, to, 1)).unwrap_err();
            let line = if what.contains("those of another") { 11 } else { line };
            assert_eq!((wrong.line, wrong.what.as_str()), (line, what), "{from:?} → {to:?}");
        }
        let empty = Directory::decode("").unwrap_err();
        assert_eq!(empty.to_string(), "line 0: the end is missing");
    }
}
