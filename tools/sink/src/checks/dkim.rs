//! dkim — whether signatures verify, by an independent verifier and without any DNS.
//!
//! The published records are given beforehand; a name that is not among them does not exist. A
//! message passes if it has signatures and each of them verifies. It must not know how messages
//! are signed.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;
use std::pin::pin;
use std::str::FromStr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DnsError, Error, MessageAuthenticator,
    Parameters, ResolverCache, Txt,
};
use serde::Serialize;

use super::DkimCheck;

/// Failures that a report names.
const NAMED_MAX: usize = 20;
/// Selectors told apart; the header's author decides what stands there.
const SELECTORS_MAX: usize = 1000;

/// Published DKIM records by name.
#[derive(Clone, Default)]
pub struct DomainKeys {
    records: HashMap<Box<str>, Txt>,
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// Not `selector._domainkey.domain=record`.
    #[error("line {line}: expected selector._domainkey.domain=record")]
    Form {
        /// Counted from 1.
        line: usize,
    },
    /// The record's text is no DKIM key.
    #[error("line {line}: {name} is no DKIM key: {reason}")]
    Record {
        /// Counted from 1.
        line: usize,
        /// The record's name.
        name: String,
        /// What the verifier says.
        reason: String,
    },
}

impl FromStr for DomainKeys {
    type Err = NoKey;

    /// Reads `selector._domainkey.domain=record` from each line that is neither empty nor begins
    /// with `#`.
    fn from_str(text: &str) -> Result<DomainKeys, NoKey> {
        let mut keys = DomainKeys::default();
        for (n, entry) in text.lines().map(str::trim).enumerate() {
            let line = n + 1;
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            let (name, record) = entry.split_once('=').ok_or(NoKey::Form { line })?;
            let name = name.trim().trim_end_matches('.').to_ascii_lowercase();
            if !name.contains("._domainkey.") {
                return Err(NoKey::Form { line });
            }
            let key =
                DomainKey::parse(record.trim().trim_matches('"').as_bytes()).map_err(|reason| {
                    NoKey::Record { line, name: name.clone(), reason: reason.to_string() }
                })?;
            keys.records.insert(format!("{name}.").into(), key.into());
        }
        Ok(keys)
    }
}

impl std::fmt::Debug for DomainKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.records.keys()).finish()
    }
}

/// The verifier asks here before it asks the network; every question is answered here.
impl ResolverCache<Box<str>, Txt> for DomainKeys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let missing = || Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
        Some(self.records.get(name).cloned().unwrap_or_else(missing))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

/// The check at work.
pub(crate) struct Dkim {
    keys: DomainKeys,
    verifier: MessageAuthenticator,
    every: u32,
    until_next: u32,
    report: DkimReport,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DkimReport {
    /// Messages looked at.
    pub checked: u64,
    /// Messages of which every signature verified.
    pub passed: u64,
    /// Messages without a signature that can be read.
    pub unsigned: u64,
    /// Signatures by `selector._domainkey.domain`.
    pub selectors: BTreeMap<String, SelectorReport>,
    /// The first 20 failures: selector and reason.
    pub first_failures: Vec<String>,
}

/// What was verified with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SelectorReport {
    /// Signatures that verified.
    pub passed: u64,
    /// Signatures that did not.
    pub failed: u64,
}

impl Dkim {
    pub(crate) fn new(check: &DkimCheck) -> io::Result<Dkim> {
        let verifier =
            MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default())
                .map_err(io::Error::other)?;
        let (keys, every) = (check.keys.clone(), check.every.max(1));
        Ok(Dkim { keys, verifier, every, until_next: 0, report: DkimReport::default() })
    }

    pub(crate) fn inspect(&mut self, message: &[u8]) {
        if self.until_next > 0 {
            self.until_next -= 1;
            return;
        }
        self.until_next = self.every - 1;
        self.report.checked += 1;
        let Some(message) = AuthenticatedMessage::parse(message) else {
            self.report.unsigned += 1;
            return;
        };
        let parameters = Parameters::new(&message).with_txt_cache(&self.keys);
        let outputs = at_once(self.verifier.verify_dkim(parameters));
        self.report.record(&outputs);
    }

    pub(crate) fn report(self) -> DkimReport {
        self.report
    }
}

impl std::fmt::Debug for Dkim {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Dkim").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl DkimReport {
    fn record(&mut self, outputs: &[DkimOutput]) {
        self.unsigned += u64::from(outputs.is_empty());
        let all = outputs.iter().filter(|output| self.record_signature(output)).count();
        self.passed += u64::from(!outputs.is_empty() && all == outputs.len());
    }

    fn record_signature(&mut self, output: &DkimOutput) -> bool {
        let passed = *output.result() == DkimResult::Pass;
        let name = output.signature().map_or_else(
            || "unreadable".to_owned(),
            |signature| format!("{}._domainkey.{}", signature.s, signature.d),
        );
        if !passed && self.first_failures.len() < NAMED_MAX {
            self.first_failures.push(format!("{name}: {}", reason(output.result())));
        }
        if self.selectors.len() < SELECTORS_MAX || self.selectors.contains_key(&name) {
            let selector = self.selectors.entry(name).or_default();
            selector.passed += u64::from(passed);
            selector.failed += u64::from(!passed);
        }
        passed
    }
}

fn reason(result: &DkimResult) -> String {
    match result {
        DkimResult::Pass => "pass".to_owned(),
        DkimResult::None => "no result".to_owned(),
        DkimResult::Neutral(error)
        | DkimResult::Fail(error)
        | DkimResult::PermError(error)
        | DkimResult::TempError(error) => error.to_string(),
    }
}

/// Runs a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("every record lookup is answered from memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8463 appendix A.3 without its RSA signature, with the key of A.2.
    const SIGNED: &str = "\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r
 d=football.example.com; i=@football.example.com;\r
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r
 subject : date : message-id : from : subject : date;\r
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r
From: Joe SixPack <joe@football.example.com>\r
To: Suzie Q <suzie@shopping.example.net>\r
Subject: Is dinner ready?\r
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r
Message-ID: <20030712040037.46341.5F8J@football.example.com>\r
\r
Hi.\r
\r
We lost the game.  Are you hungry yet?\r
\r
Joe.\r
";
    const NAME: &str = "brisbane._domainkey.football.example.com";
    const RECORD: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn verify(keys: &str, every: u32, messages: &[&str]) -> DkimReport {
        let check = DkimCheck { keys: keys.parse().unwrap(), every };
        let mut dkim = Dkim::new(&check).unwrap();
        for message in messages {
            dkim.inspect(message.as_bytes());
        }
        dkim.report()
    }

    #[test]
    fn the_published_example_verifies_and_a_changed_one_does_not() {
        let keys = format!("# comment\n\n{NAME}={RECORD}\n");
        let changed = SIGNED.replace("hungry", "thirsty");
        let report = verify(&keys, 1, &[SIGNED, &changed, "From: a\r\n\r\nunsigned\r\n"]);
        assert_eq!((report.checked, report.passed, report.unsigned), (3, 1, 1));
        let expected = SelectorReport { passed: 1, failed: 1 };
        assert_eq!(report.selectors, BTreeMap::from([(NAME.to_owned(), expected)]));
        assert_eq!(report.first_failures.len(), 1);
        assert!(report.first_failures[0].starts_with(NAME), "{:?}", report.first_failures);
    }

    #[test]
    fn an_unknown_key_fails_without_the_network() {
        let report = verify("", 1, &[SIGNED]);
        assert_eq!((report.checked, report.passed), (1, 0));
        assert_eq!(
            report.first_failures,
            [format!("{NAME}: DNS record not found: Non-Existent Domain")]
        );
    }

    #[test]
    fn every_third_message_can_be_enough() {
        let report = verify(&format!("{NAME}=\"{RECORD}\""), 3, &[SIGNED; 7]);
        assert_eq!((report.checked, report.passed), (3, 3));
    }

    #[test]
    fn wrong_records_are_refused_with_their_line() {
        let cases = [
            ("nonsense", NoKey::Form { line: 1 }),
            ("\nexample.com=v=DKIM1", NoKey::Form { line: 2 }),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<DomainKeys>().unwrap_err(), expected, "{text:?}");
        }
        let error = "a._domainkey.b=v=DKIM1; p=!".parse::<DomainKeys>().unwrap_err();
        assert!(matches!(error, NoKey::Record { line: 1, .. }), "{error}");
    }
}
