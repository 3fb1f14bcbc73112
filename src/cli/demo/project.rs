//! project — the sample campaign of the demo, in a directory of its own.
//!
//! The directory bears a mark, so that a later demo may replace what an earlier one made there and
//! nothing else; a directory with anything else in it is refused. Files that the user adds stay.
//! The list is dirty on purpose, and what is wrong with it is counted while it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mailshot_gen::{Dirt, Plan, Tally};
use rustix::fs::{FlockOperation, flock};

use super::super::{Exit, Failure};
use crate::campaign::{self, Campaign};
use crate::dkim::{self, Key};

/// The campaign file; its route is replaced by the receiver's address.
const CAMPAIGN: &str = include_str!("../../../datasets/demo/campaign.toml");
/// The route in [`CAMPAIGN`].
const ROUTE: &str = "127.0.0.1:2525";
/// The zone file, to which the DKIM records are appended.
const DNS_RECORDS: &str = include_str!("../../../datasets/demo/dns-records.txt");
/// The files that are the same in every demo.
const TEXTS: [(&str, &str); 5] = [
    ("template.html", include_str!("../../../datasets/demo/template.html")),
    ("template.txt", include_str!("../../../datasets/demo/template.txt")),
    ("queries/replies.sql", include_str!("../../../datasets/demo/queries/replies.sql")),
    ("queries/latency.sql", include_str!("../../../datasets/demo/queries/latency.sql")),
    ("queries/exclusions.sql", include_str!("../../../datasets/demo/queries/exclusions.sql")),
];
/// The file that says whose directory it is, and the lock of the demo that works in it.
const MARK: &str = ".mailshot-demo";
const MARK_TEXT: &str = "\
mailshot demo made this directory. Its next run replaces what it made here and leaves the rest.\n";
/// What a demo makes, and what the next one replaces.
const OURS: [&str; 9] = [
    "campaign.toml",
    "template.html",
    "template.txt",
    "recipients.csv",
    "dns-records.txt",
    "keys",
    "queries",
    "runs",
    "accounting",
];
/// The campaign file's name.
pub(super) const CAMPAIGN_FILE: &str = "campaign.toml";
/// Any number does; with this one the first row of the list is a good one.
const SEED: u64 = 2026;
/// Octets of one character string of a TXT record (RFC 1035 §3.3: one octet of length).
const TXT_STRING_MAX: usize = 255;

/// The sample campaign on disk, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct Project {
    /// Where it is.
    pub(super) directory: PathBuf,
    /// What the list holds, as its generator counted it.
    pub(super) tally: Tally,
    /// The campaign, its route not yet the receiver's.
    pub(super) campaign: Campaign,
    /// The campaign's keys.
    pub(super) keys: Vec<Key>,
    _mark: File,
}

impl Project {
    /// Writes everything but the campaign file, which needs the receiver's address.
    ///
    /// # Errors
    /// When the directory belongs to somebody else, or the disk does not take it.
    pub(super) fn write(directory: &Path, rows: u64) -> Result<Project, Failure> {
        let mark = claim(directory)?;
        let at = |name: &str| directory.join(name);
        for name in ["keys", "queries"] {
            fs::create_dir(at(name)).map_err(|error| unwritten(&at(name), error))?;
        }
        for (name, text) in TEXTS {
            fs::write(at(name), text).map_err(|error| unwritten(&at(name), error))?;
        }
        let tally = write_list(&at("recipients.csv"), rows)?;
        let campaign = campaign::parse(&at(CAMPAIGN_FILE).display().to_string(), CAMPAIGN)
            .map_err(|problems| Failure::problems(Exit::Internal, &problems))?;
        let keys = write_keys(&campaign)?;
        let records: String = keys.iter().map(zone_entry).collect();
        let path = at("dns-records.txt");
        fs::write(&path, format!("{DNS_RECORDS}{records}"))
            .map_err(|error| unwritten(&path, error))?;
        Ok(Project { directory: directory.to_owned(), tally, campaign, keys, _mark: mark })
    }

    /// Writes the campaign file with this route.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn write_campaign(&self, route: SocketAddr) -> Result<(), Failure> {
        let path = self.directory.join(CAMPAIGN_FILE);
        fs::write(&path, CAMPAIGN.replace(ROUTE, &route.to_string()))
            .map_err(|error| unwritten(&path, error))
    }
}

/// Makes the directory ours, and removes what an earlier demo made.
fn claim(directory: &Path) -> Result<File, Failure> {
    fs::create_dir_all(directory).map_err(|error| unwritten(directory, error))?;
    let path = directory.join(MARK);
    let mut entries = fs::read_dir(directory).map_err(|error| unwritten(directory, error))?;
    if !path.exists() && entries.next().is_some() {
        let message = format!(
            "{} holds files that no demo made; name another with --directory",
            directory.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut options = OpenOptions::new();
    let mark = options.create(true).truncate(false).write(true).open(&path);
    let mut mark = mark.map_err(|error| unwritten(&path, error))?;
    if flock(&mark, FlockOperation::NonBlockingLockExclusive).is_err() {
        let message = format!("another demo works in {}", directory.display());
        return Err(Failure::new(Exit::Locked, message));
    }
    mark.write_all(MARK_TEXT.as_bytes()).map_err(|error| unwritten(&path, error))?;
    for name in OURS {
        remove(&directory.join(name))?;
    }
    Ok(mark)
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| unwritten(path, error))
}

/// A list as a spreadsheet program exports it: byte order mark, CR LF, and the usual dirt.
fn write_list(path: &Path, rows: u64) -> Result<Tally, Failure> {
    let plan = Plan { dirt: Dirt::usual(), bom: true, crlf: true, ..Plan::new(rows, SEED) };
    let file = File::create(path).map_err(|error| unwritten(path, error))?;
    mailshot_gen::write(&plan, &mut BufWriter::new(file)).map_err(|error| unwritten(path, error))
}

/// Makes the keys that the campaign names: the first RSA-2048, the second Ed25519.
fn write_keys(campaign: &Campaign) -> Result<Vec<Key>, Failure> {
    let algorithms = [dkim::generate_rsa, dkim::generate_ed25519];
    assert_eq!(campaign.dkim.len(), algorithms.len(), "the sample names a key of each algorithm");
    let internal = |fault: dkim::KeyFault| Failure::new(Exit::Internal, fault);
    let mut keys = Vec::new();
    for (wanted, generate) in campaign.dkim.iter().zip(algorithms) {
        let path = &wanted.key_file.value;
        let pem = generate().map_err(internal)?;
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .map_err(|error| unwritten(path, error))?;
        keys.push(Key::load(&wanted.domain.value, &wanted.selector.value, path).map_err(internal)?);
    }
    Ok(keys)
}

/// The DKIM record of a key as a zone file has it, in strings that fit.
fn zone_entry(key: &Key) -> String {
    let record = key.public_record();
    let strings: Vec<&str> = (0..record.len())
        .step_by(TXT_STRING_MAX)
        .map(|at| &record[at..record.len().min(at + TXT_STRING_MAX)])
        .collect();
    format!("{}. IN TXT ( \"{}\" )\n", key.dns_name(), strings.join("\"\n    \""))
}

fn unwritten(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Storage, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_one_route_and_everything_that_it_names_is_ours() {
        assert_eq!(CAMPAIGN.matches(ROUTE).count(), 1);
        let campaign = campaign::parse("campaign.toml", CAMPAIGN).expect("the sample is good");
        let mut names = vec![&campaign.recipients.file, &campaign.runs];
        names.push(&campaign.accounting.directory);
        names.extend(campaign.content.html.iter().chain(&campaign.content.text));
        names.extend(campaign.dkim.iter().map(|key| &key.key_file));
        for name in names {
            let first = name.value.components().next().expect("a path has a component");
            let first = first.as_os_str().to_str().expect("the sample is UTF-8");
            assert!(OURS.contains(&first), "{first}");
        }
    }

    #[test]
    fn the_directory_of_somebody_else_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let letter = directory.path().join("campaign.toml");
        fs::write(&letter, "dear diary").expect("written");
        let refused = Project::write(directory.path(), 10).expect_err("not ours");
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(fs::read_to_string(letter).expect("still there"), "dear diary");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_second_demo_replaces_what_the_first_made_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Project::write(directory.path(), 10).expect("written");
        let locked = Project::write(directory.path(), 10).expect_err("the first is at work");
        assert_eq!(locked.exit, Exit::Locked);
        drop(first);
        let note = directory.path().join("my-note");
        fs::write(&note, "keep me").expect("written");
        let second = Project::write(directory.path(), 20).expect("written again");
        assert_eq!(second.tally.rows, 20);
        assert_eq!(fs::read_to_string(note).expect("still there"), "keep me");
        let mark = fs::read_to_string(directory.path().join(MARK)).expect("readable");
        assert_eq!(mark, MARK_TEXT);
    }

    #[test]
    fn long_records_are_cut_into_strings() {
        let pem = dkim::generate_rsa().expect("generated");
        let key = Key::from_pem("news.example", "s", &pem).expect("good");
        let entry = zone_entry(&key);
        let strings: Vec<&str> = entry.split('"').skip(1).step_by(2).collect();
        assert!(strings.iter().all(|string| string.len() <= TXT_STRING_MAX), "{entry}");
        assert_eq!(strings.concat(), key.public_record());
        assert!(entry.starts_with("s._domainkey.news.example. IN TXT ( \"v=DKIM1; "), "{entry}");
    }
}
