//! summary — one run's mail by hour, source and provider, and the file that keeps it.
//!
//! A fold over outcomes in any order. As text it is `history.tsv`: a line that says what it was
//! made from, a header, and a line for each hour, source and provider. Reading fails with `None` on
//! anything that writing does not make; the ledger has it all.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::HOUR;
use super::runs::Extent;
use crate::outcome::Outcome;
use crate::rates::tally::{Tally, is_attempt};

/// The form of the file; another one is made anew from the ledger.
const FORM: &str = "mailshot-history-1";
const HEADER: &str = "hour\tsource\tprovider\tattempts\tdelivered\tdeferred\tblocked\tbad";

/// By hour (since 1970-01-01 UTC) and source.
pub(super) type Slots = BTreeMap<(i64, IpAddr), Tally>;

/// What was attempted, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    providers: BTreeMap<String, Slots>,
}

impl Summary {
    /// Counts an outcome by the hour in which it ended; one that came of no attempt, or of none
    /// from a known source, is not counted.
    pub fn see(&mut self, outcome: &Outcome<'_>) {
        let Some(source) = outcome.session.source else { return };
        if !is_attempt(outcome.kind, outcome.class) {
            return;
        }
        let slot = (outcome.time.0.div_euclid(HOUR), source.to_canonical());
        // Names are those of rate tables and hosts; another one must not break a line.
        let provider = match outcome.provider.contains(char::is_control) {
            true => &outcome.provider.replace(char::is_control, " "),
            false => outcome.provider,
        };
        let tally = self.slots(provider).entry(slot).or_default();
        tally.count(outcome.kind, outcome.class);
    }

    /// Counts what `other` has counted.
    pub fn add(&mut self, other: &Summary) {
        for (provider, slots) in &other.providers {
            let own = self.slots(provider);
            for (slot, tally) in slots {
                own.entry(*slot).or_default().add(tally);
            }
        }
    }

    /// Forgets all hours before `hour`.
    pub(super) fn forget_before(&mut self, hour: i64) {
        for slots in self.providers.values_mut() {
            slots.retain(|(at, _), _| *at >= hour);
        }
        self.providers.retain(|_, slots| !slots.is_empty());
    }

    pub(super) fn provider(&self, name: &str) -> Option<&Slots> {
        self.providers.get(name)
    }

    fn slots(&mut self, provider: &str) -> &mut Slots {
        if !self.providers.contains_key(provider) {
            self.providers.insert(provider.to_owned(), Slots::new());
        }
        self.providers.get_mut(provider).expect("it was made above if it was not there")
    }

    /// As the file has it, made from a ledger of this extent.
    pub(super) fn encode(&self, extent: Extent) -> String {
        let rows: usize = self.providers.values().map(Slots::len).sum();
        let Extent { file, octets } = extent;
        let mut text = format!("{FORM}\t{file}\t{octets}\t{rows}\n{HEADER}\n");
        for (provider, slots) in &self.providers {
            for ((hour, source), tally) in slots {
                let Tally { attempts, delivered, deferred, blocked, bad_recipients } = tally;
                writeln!(
                    text,
                    "{hour}\t{source}\t{provider}\t{attempts}\t{delivered}\t{deferred}\t{blocked}\
                     \t{bad_recipients}"
                )
                .expect("writing to a string does not fail");
            }
        }
        text
    }

    /// What the file says, and the extent of the ledger from which it was made.
    pub(super) fn decode(text: &str) -> Option<(Extent, Summary)> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut head = lines.next()?.split('\t');
        if head.next()? != FORM {
            return None;
        }
        let extent =
            Extent { file: head.next()?.parse().ok()?, octets: head.next()?.parse().ok()? };
        let rows: usize = head.next()?.parse().ok()?;
        if head.next().is_some() || lines.next()? != HEADER {
            return None;
        }
        let (mut summary, mut found) = (Summary::default(), 0);
        for line in lines {
            summary.line(line)?;
            found += 1;
        }
        (found == rows).then_some((extent, summary))
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [hour, source, provider, counts @ ..] = &fields[..] else { return None };
        let counts: Vec<u64> =
            counts.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        let [attempts, delivered, deferred, blocked, bad_recipients] = counts[..] else {
            return None;
        };
        let tally = Tally { attempts, delivered, deferred, blocked, bad_recipients };
        let slot = (hour.parse().ok()?, source.parse().ok()?);
        self.slots(provider).insert(slot, tally).is_none().then_some(())
    }
}
