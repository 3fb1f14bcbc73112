//! keys — every key of a campaign file, its accepted form, its default and what it is for.
//!
//! The decoder can only read keys that stand here, takes its defaults from here, and reports any
//! other key of the file as unknown. README.md shows each of them in an example.

use crate::problem::suggest;

/// Whether a key must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must be given; in a section that may be absent, once the section is there.
    Required,
    /// It may be absent; what then holds, if anything, its doc says.
    Optional,
    /// It may be absent and then has this value, in TOML.
    Default(&'static str),
}

/// One key of a campaign file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, or `key` at the top; `section.*` for a section whose keys are free.
    pub path: &'static str,
    /// What it accepts, to follow "it must be".
    pub form: &'static str,
    /// Whether it must be given.
    pub presence: Presence,
    /// What it is for.
    pub doc: &'static str,
}

impl Key {
    /// The section, empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key within its section.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
}

const fn key(path: &'static str, presence: Presence, form: &'static str, doc: &'static str) -> Key {
    Key { path, form, presence, doc }
}

use Presence::{Default, Optional, Required};

const MAILBOX: &str = "\"Name <address>\" or \"address\"";
const PATH: &str = "a path, relative to the campaign file";
const TEMPLATE: &str = "a template";
const FLAG: &str = "true or false";
const DOMAIN: &str = "a domain of at least two labels, such as \"example.com\"";
const DURATION: &str = "a duration, such as \"15m\", \"4h\" or \"5d\"";
const PATHS: &str = "a list of paths, relative to the campaign file";
const NAME: &str = "up to 64 letters, digits, \".\", \"_\" or \"-\"";

/// Every key of a campaign file, in the order in which the documentation explains them.
pub const KEYS: &[Key] = &[
    key(
        "id",
        Required,
        "up to 64 letters, digits, \".\", \"_\" or \"-\", not beginning with \".\"",
        "names the campaign in directories, file names and accounting",
    ),
    key("from", Required, MAILBOX, "the sender; the name is a template, the address is not"),
    key("reply_to", Optional, MAILBOX, "where answers go, if not to the sender"),
    key("to_name", Optional, TEMPLATE, "the recipient's display name"),
    key(
        "return_path",
        Required,
        "an address such as \"bounce@news.example.com\", with at most 23 octets before the @",
        "where bounces go; each message gets local+token@domain, so that they can be told apart",
    ),
    key("subject", Required, TEMPLATE, "the subject"),
    key(
        "unsigned",
        Default("false"),
        FLAG,
        "send without DKIM signatures, for tests against a receiver of your own",
    ),
    key(
        "headers.*",
        Optional,
        TEMPLATE,
        "more headers, by name; those that mailshot writes itself are refused",
    ),
    key("content.html", Optional, PATH, "the template file of the HTML part"),
    key(
        "content.text",
        Optional,
        PATH,
        "the template file of the plain text part; with html, both are sent as alternatives",
    ),
    key("recipients.file", Required, PATH, "the list, a CSV file with a header line"),
    key(
        "recipients.address",
        Default("\"email\""),
        "the name of a column",
        "the column that holds the mail address",
    ),
    key(
        "recipients.delimiter",
        Optional,
        "\",\", \";\", \"tab\" or \"|\"",
        "what separates the columns; told from the header line when absent",
    ),
    key(
        "recipients.engagement",
        Optional,
        "the name of a column",
        "a number per row, the higher the more engaged; those come first while sources warm up",
    ),
    key(
        "unsubscribe.url",
        Optional,
        "a template that begins with https:// and differs for each recipient",
        "the page or, with one_click, the endpoint that takes a recipient off the list",
    ),
    key(
        "unsubscribe.mailto",
        Optional,
        "a mail address or a template of one, perhaps with ?subject=…, without \"mailto:\"",
        "the address that takes a recipient off the list",
    ),
    key(
        "unsubscribe.one_click",
        Optional,
        FLAG,
        "whether the URL takes the POST of RFC 8058, which Gmail and Yahoo demand of bulk \
         senders; true when absent and there is a url",
    ),
    key("dkim.domain", Required, DOMAIN, "the signing domain (d=)"),
    key("dkim.selector", Required, "DNS labels, such as \"s2026\"", "the selector (s=)"),
    key("dkim.key_file", Required, PATH, "the private key, in PEM"),
    key(
        "delivery.route",
        Default("\"mx\""),
        "\"mx\", or the \"host:port\" of a smarthost; an IPv6 address stands in brackets",
        "where mail is delivered: to the recipients' own mail hosts, or all of it to one host",
    ),
    key(
        "delivery.port",
        Default("25"),
        "a whole number from 1 to 65535",
        "the port of the recipients' mail hosts; another one than 25 is for rehearsals",
    ),
    key(
        "delivery.ehlo_name",
        Optional,
        DOMAIN,
        "what to say in EHLO; the machine's name when absent",
    ),
    key(
        "delivery.connections",
        Optional,
        "a whole number from 1 to 10000",
        "connections at a time, to all providers together: 1000 when absent, which one process \
         bears easily. With a smarthost 20 when absent, which is what one receiver usually bears",
    ),
    key(
        "delivery.messages_per_connection",
        Default("100"),
        "a whole number from 0 to 4294967295",
        "with a smarthost: messages before a connection is closed, 0 for no limit; beyond 100 \
         there is little left to gain from reuse",
    ),
    key(
        "delivery.rate",
        Optional,
        "messages per period, such as \"3500/h\", \"100/10m\" or \"20/s\"",
        "attempted recipients per period, at all providers together; no limit when absent",
    ),
    key(
        "delivery.retry",
        Default(r#"["15m", "30m", "1h", "2h", "4h"]"#),
        "a list of durations, such as [\"15m\", \"1h\"]",
        "with a smarthost: the waits between attempts, the last one repeats; from greylisting \
         (minutes) to an outage (hours)",
    ),
    key(
        "delivery.expire_after",
        Default("\"3d\""),
        DURATION,
        "with a smarthost: when to give a message up, counted from its first attempt. RFC 5321 \
         section 4.5.4.1 asks for four to five days of mail that people wrote; a campaign is stale \
         sooner, and three days outlast a receiver that fails on Friday evening and is repaired on \
         Monday morning",
    ),
    key(
        "delivery.on_doubt",
        Default("\"hold\""),
        "\"hold\" or \"resend\"",
        "what becomes of a message whose final reply was lost: hold lists it and never sends it \
         twice, resend sends it again",
    ),
    key(
        "delivery.rate_tables",
        Optional,
        PATHS,
        "the site's own rate tables; a later one beats an earlier one, [rates] beats them all",
    ),
    key(
        "delivery.pool",
        Optional,
        "the pool of a [[source]]",
        "the pool of sources to send from; all sources when absent",
    ),
    key(
        "source.address",
        Required,
        "an IP address of this machine",
        "the address from which connections are made; without any [[source]] the system chooses",
    ),
    key(
        "source.ehlo_name",
        Optional,
        DOMAIN,
        "what this source says in EHLO; delivery.ehlo_name when absent",
    ),
    key(
        "source.weight",
        Default("1"),
        "a whole number from 1 to 1000",
        "its share of the messages where limits leave a choice",
    ),
    key("source.pool", Default("\"default\""), NAME, "the pool that it belongs to"),
    key(
        "source.warmup",
        Optional,
        "the name of a warm-up schedule",
        "the schedule by which a new address is warmed up; it is warm when absent",
    ),
    key(
        "source.warmup_from",
        Optional,
        "a date, YYYY-MM-DD",
        "the first day of its warm-up, UTC; needed with warmup",
    ),
    key(
        "dns.servers",
        Optional,
        "a list of \"address\" or \"address:port\"; an IPv6 address with a port stands in brackets",
        "the resolvers to ask; those of the system when absent",
    ),
    key(
        "dns.timeout",
        Default("\"5s\""),
        DURATION,
        "how long one answer may take; 5 s is what resolv.conf(5) has",
    ),
    key(
        "dns.attempts",
        Default("3"),
        "a whole number from 1 to 10",
        "how often a question is asked before its domain counts as out of reach",
    ),
    key("dns.ipv6", Default("false"), FLAG, "whether mail hosts are looked for at IPv6 addresses"),
    key(
        "dns.hosts",
        Optional,
        PATH,
        "a file of mail hosts that is asked before the DNS: a domain (or * for all others) and its \
         hosts as name=address, the most preferred first; %d in a name stands for the domain",
    ),
    key(
        "rates.*",
        Optional,
        "rows of a rate table",
        "the campaign's own rates: [rates.default], [rates.provider.NAME]",
    ),
    key("warmup.schedules", Optional, PATHS, "files of warm-up schedules besides those built in"),
    key(
        "warmup.overflow",
        Default("\"warm\""),
        "\"warm\" or \"tomorrow\"",
        "what becomes of messages beyond a source's cap of the day: they go from warm sources, or \
         they wait",
    ),
    key(
        "threshold.measure",
        Required,
        "\"deferral\", \"bounce\" or \"block\"",
        "the share of attempts that is watched",
    ),
    key(
        "threshold.above",
        Required,
        "a percentage above 0% and up to 100%, such as \"8%\" or \"0.3%\"",
        "the share above which the action is taken",
    ),
    key("threshold.window", Required, DURATION, "the time over which the share is taken"),
    key(
        "threshold.at_least",
        Default("100"),
        "a whole number from 1 to 4294967295",
        "outcomes in the window below which nothing is concluded: a share of 100 is good to one \
         in a hundred",
    ),
    key(
        "threshold.provider",
        Optional,
        "the name of a provider, or \"all\"",
        "the provider that is watched, or all together; each by itself when absent",
    ),
    key("threshold.action", Required, "\"warn\", \"slow\" or \"stop\"", "what is done about it"),
    key(
        "threshold.command",
        Optional,
        "a list of a program and its arguments",
        "a program to run when the action is taken",
    ),
    key("accounting.directory", Default("\"accounting\""), PATH, "the root of the Parquet files"),
    key(
        "accounting.addresses",
        Default("\"keep\""),
        "\"keep\" or \"drop\"",
        "whether the Parquet files hold mail addresses",
    ),
    key("run.directory", Default("\"runs\""), PATH, "the directory of the run directories"),
];

/// The key of this section and name; the decoder asks for no others.
pub(super) fn known(section: &str, name: &str) -> &'static Key {
    KEYS.iter()
        .find(|key| key.section() == section && key.name() == name)
        .expect("every key that is decoded stands in the table")
}

/// The names that may stand in `section`; at the top, the sections themselves too.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> =
        KEYS.iter().filter(|key| key.section() == section).map(Key::name).collect();
    if section.is_empty() {
        names.extend(KEYS.iter().map(Key::section).filter(|section| !section.is_empty()));
        names.dedup();
    }
    names
}

/// The help for an unknown key: the likeliest meant, or its section, or what there is.
pub(super) fn instead_of(name: &str, names: &[&str]) -> String {
    let elsewhere = KEYS.iter().find(|key| key.name() == name).map(|key| match key.section() {
        "" => "it belongs to the top of the file".to_owned(),
        section => format!("it belongs to [{section}]"),
    });
    let meant =
        suggest(name, names.iter().copied()).map(|meant| format!("did you mean {meant:?}?"));
    match (elsewhere, meant) {
        (Some(elsewhere), Some(meant)) => format!("{elsewhere}, or {meant}"),
        (Some(help), None) | (None, Some(help)) => help,
        (None, None) => format!("there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unique_and_sections_stand_together() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..at].iter().all(|other| other.path != key.path), "{}", key.path);
        }
        assert_eq!(
            names_in(""),
            [
                "id",
                "from",
                "reply_to",
                "to_name",
                "return_path",
                "subject",
                "unsigned",
                "headers",
                "content",
                "recipients",
                "unsubscribe",
                "dkim",
                "delivery",
                "source",
                "dns",
                "rates",
                "warmup",
                "threshold",
                "accounting",
                "run"
            ]
        );
        assert_eq!(names_in("content"), ["html", "text"]);
    }

    #[test]
    fn defaults_are_toml() {
        for key in KEYS {
            if let Default(text) = key.presence {
                assert!(toml::de::DeValue::parse(text).is_ok(), "{}", key.path);
            }
        }
    }
}
