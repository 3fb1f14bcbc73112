//! proof — what the run says of itself, held against two witnesses that know nothing of it: the
//! generator of the list, which counted its dirt, and the receiver, which counted what came.
//!
//! Values in, claims out: a claim holds or says what is wrong. It reads no file and sends nothing.

use std::collections::BTreeSet;

use mailshot_gen::{Kind as Dirt, Tally};
use mailshot_sink::Report as Seen;

use crate::recipients::Reason;
use crate::report::{Report, Sums, grouped};

/// What the witnesses and the run say.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// Rows that the generator made to be excluded, by reason.
    pub(super) dirt: Vec<(String, u64)>,
    /// Rows that the run excluded, by reason.
    pub(super) excluded: Vec<(String, u64)>,
    /// Rows that the generator made to be sent to.
    pub(super) good: u64,
    /// The sums of report.json.
    pub(super) sums: Sums,
    /// Rows that the ledger calls delivered.
    pub(super) delivered: BTreeSet<u32>,
    /// Rows that the ledger calls in doubt.
    pub(super) in_doubt: BTreeSet<u32>,
    /// Rows of this run that the receiver has seen.
    pub(super) arrived: BTreeSet<u32>,
    /// Messages that the receiver accepted, of whatever run.
    pub(super) messages: u64,
    /// Messages that the receiver had seen before.
    pub(super) duplicates: u64,
    /// Messages whose form a receiver could object to.
    pub(super) malformed: u64,
    /// Messages whose signatures were verified.
    pub(super) verified: u64,
    /// Messages among them of which every signature is good.
    pub(super) signed: u64,
}

/// A sentence that holds, or the sentence that holds instead.
pub(super) type Claim = Result<String, String>;

impl Evidence {
    /// What the generator, the run (its report, and the rows that its ledger calls delivered and
    /// in doubt) and the receiver say.
    pub(super) fn new(
        tally: &Tally,
        report: &Report,
        (delivered, in_doubt): (BTreeSet<u32>, BTreeSet<u32>),
        seen: &Seen,
    ) -> Evidence {
        let keys = seen.keys.as_ref().expect("the receiver was told to note keys");
        let form = seen.form.as_ref().expect("the receiver was told to look at the form");
        let dkim = seen.dkim.as_ref().expect("the receiver was told to verify signatures");
        let run = keys.runs.get(&report.run);
        Evidence {
            dirt: expected(tally),
            excluded: report.excluded.clone(),
            good: tally.good,
            sums: report.sums,
            delivered,
            in_doubt,
            arrived: run.map_or_else(BTreeSet::new, |run| run.rows.iter().collect()),
            messages: seen.counts.messages,
            duplicates: keys.duplicates,
            malformed: form.messages - form.flawless,
            verified: dkim.checked,
            signed: dkim.passed,
        }
    }

    /// Everything that has to hold.
    pub(super) fn claims(&self) -> Vec<Claim> {
        vec![
            self.exclusions(),
            self.sums(),
            self.arrivals(),
            self.doubts(),
            self.nothing_else(),
            self.signatures(),
        ]
    }

    fn exclusions(&self) -> Claim {
        let (written, found) = (in_words(&self.dirt), in_words(&self.excluded));
        let number: u64 = self.dirt.iter().map(|(_, count)| count).sum();
        claim(
            written == found,
            format!("{} dirty rows were written, the same excluded: {found}", grouped(number)),
            format!("the list has dirty rows {written}, but excluded were {found}"),
        )
    }

    fn sums(&self) -> Claim {
        let Sums { delivered, bounced, in_doubt, expired, pending, .. } = self.sums;
        let recorded = (self.delivered.len() as u64, self.in_doubt.len() as u64);
        let accepted = grouped(self.good);
        let sum = format!(
            "{} delivered + {} refused for good + {} in doubt",
            grouped(delivered),
            grouped(bounced),
            grouped(in_doubt)
        );
        claim(
            self.good == delivered + bounced + in_doubt
                && (expired, pending) == (0, 0)
                && recorded == (delivered, in_doubt),
            format!("each good row has one end: {accepted} = {sum}"),
            format!(
                "the {accepted} good rows are not {sum} ({expired} expired, {pending} pending; the \
                 ledger has {} delivered, {} in doubt)",
                recorded.0, recorded.1
            ),
        )
    }

    fn arrivals(&self) -> Claim {
        let missing: BTreeSet<u32> = self.delivered.difference(&self.arrived).copied().collect();
        claim(
            missing.is_empty(),
            format!(
                "each of the {} delivered messages arrived",
                grouped(self.delivered.len() as u64)
            ),
            format!("delivered, says the ledger, but the receiver never saw {}", rows(&missing)),
        )
    }

    fn doubts(&self) -> Claim {
        let came: BTreeSet<u32> = self.in_doubt.intersection(&self.arrived).copied().collect();
        let lost: BTreeSet<u32> = self.in_doubt.difference(&self.arrived).copied().collect();
        let parts: Vec<String> = [(came, "arrived"), (lost, "did not arrive")]
            .iter()
            .filter(|(set, _)| !set.is_empty())
            .map(|(set, word)| format!("{} {word}", rows(set)))
            .collect();
        Ok(match parts.is_empty() {
            true => "no message is in doubt".to_owned(),
            false => format!("in doubt, so not sent again: {}", parts.join("; ")),
        })
    }

    fn nothing_else(&self) -> Claim {
        let ours: BTreeSet<u32> = self.delivered.union(&self.in_doubt).copied().collect();
        let strange: BTreeSet<u32> = self.arrived.difference(&ours).copied().collect();
        let distinct = self.arrived.len() as u64;
        claim(
            strange.is_empty() && self.duplicates == 0 && self.messages == distinct,
            format!(
                "nothing else arrived and nothing twice: the receiver has {} messages, {} of them \
                 in doubt",
                grouped(self.messages),
                self.in_doubt.intersection(&self.arrived).count()
            ),
            format!(
                "the receiver has {} messages with {distinct} different keys of this run, {} \
                 duplicates; neither delivered nor in doubt, but arrived: {}",
                self.messages,
                self.duplicates,
                rows(&strange)
            ),
        )
    }

    fn signatures(&self) -> Claim {
        let Evidence { verified, signed, malformed, .. } = *self;
        claim(
            verified > 0 && verified == signed && malformed == 0,
            format!(
                "no message is malformed, and {} of {} verified are signed well",
                grouped(signed),
                grouped(verified)
            ),
            format!("{malformed} messages are malformed, {signed} of {verified} signed well"),
        )
    }
}

fn claim(holds: bool, claimed: String, instead: String) -> Claim {
    if holds { Ok(claimed) } else { Err(instead) }
}

/// The dirt of a list by the reason for which it has to be excluded, in the order of a report.
fn expected(tally: &Tally) -> Vec<(String, u64)> {
    let reasons: [(Reason, &[Dirt]); 6] = [
        (Reason::Duplicate, &[Dirt::ExactDuplicate, Dirt::CaseDuplicate]),
        (Reason::InvalidAddress, &[Dirt::BadSyntax]),
        (Reason::MissingAddress, &[Dirt::MissingAddress]),
        (Reason::NotUtf8, &[Dirt::NotUtf8]),
        (Reason::UnsafeHeader, &[Dirt::HeaderInjection]),
        (Reason::FieldCount, &[Dirt::FieldCount]),
    ];
    let count = |kinds: &[Dirt]| kinds.iter().map(|kind| tally.of(*kind)).sum::<u64>();
    let mut dirt: Vec<(String, u64)> = reasons
        .iter()
        .map(|(reason, kinds)| (reason.word().to_owned(), count(kinds)))
        .filter(|(_, count)| *count > 0)
        .collect();
    dirt.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    dirt
}

fn in_words(counts: &[(String, u64)]) -> String {
    let words: Vec<String> =
        counts.iter().map(|(word, count)| format!("{} {word}", grouped(*count))).collect();
    words.join(" · ")
}

/// Rows named one by one; the first of them if they are very many.
fn rows(rows: &BTreeSet<u32>) -> String {
    const NAMED_MAX: usize = 100;
    let named: Vec<String> = rows.iter().take(NAMED_MAX).map(u32::to_string).collect();
    let noun = if rows.len() == 1 { "row" } else { "rows" };
    let more = if rows.len() > NAMED_MAX { ", …" } else { "" };
    format!("{noun} {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of twelve rows, in which a kill left rows 7 and 8 in doubt.
    fn good() -> Evidence {
        Evidence {
            dirt: vec![("duplicate".to_owned(), 3)],
            excluded: vec![("duplicate".to_owned(), 3)],
            good: 9,
            sums: Sums {
                rows: 12,
                excluded: 3,
                delivered: 6,
                bounced: 1,
                in_doubt: 2,
                ..Sums::default()
            },
            delivered: BTreeSet::from([1, 2, 3, 4, 5, 6]),
            in_doubt: BTreeSet::from([7, 8]),
            arrived: BTreeSet::from([1, 2, 3, 4, 5, 6, 7]),
            messages: 7,
            duplicates: 0,
            malformed: 0,
            verified: 2,
            signed: 2,
        }
    }

    fn refuted(change: impl Fn(&mut Evidence)) -> Vec<String> {
        let mut evidence = good();
        change(&mut evidence);
        evidence.claims().into_iter().filter_map(Result::err).collect()
    }

    #[test]
    fn a_good_run_is_proved_in_six_sentences() {
        let claims: Result<Vec<String>, String> = good().claims().into_iter().collect();
        let expected = [
            "3 dirty rows were written, the same excluded: 3 duplicate",
            "each good row has one end: 9 = 6 delivered + 1 refused for good + 2 in doubt",
            "each of the 6 delivered messages arrived",
            "in doubt, so not sent again: row 7 arrived; row 8 did not arrive",
            "nothing else arrived and nothing twice: the receiver has 7 messages, 1 of them in \
             doubt",
            "no message is malformed, and 2 of 2 verified are signed well",
        ];
        assert_eq!(claims, Ok(expected.map(str::to_owned).to_vec()));
    }

    /// A change of the evidence and the words of the one claim that it refutes.
    type Lie = (fn(&mut Evidence), &'static str);

    const LIES: [Lie; 13] = [
        (|e| e.excluded[0].1 = 2, "dirty rows 3 duplicate, but excluded were 2 duplicate"),
        (|e| e.excluded.clear(), "dirty rows 3 duplicate, but excluded were "),
        (|e| e.good = 10, "the 10 good rows are not 6 delivered"),
        (|e| e.sums.pending = 1, "0 expired, 1 pending"),
        (|e| e.sums.expired = 1, "1 expired, 0 pending"),
        (|e| e.sums.delivered = 5, "the ledger has 6 delivered, 2 in doubt"),
        (|e| (e.sums.bounced, e.sums.in_doubt) = (2, 1), "the ledger has 6 delivered"),
        (|e| e.duplicates = 1, "7 messages with 7 different keys of this run, 1 duplicates"),
        (|e| e.messages = 8, "8 messages with 7 different keys"),
        (|e| (e.messages, _) = (8, e.arrived.insert(9)), "but arrived: row 9"),
        (|e| e.signed = 1, "1 of 2 signed well"),
        (|e| (e.verified, e.signed) = (0, 0), "0 of 0 signed well"),
        (|e| e.malformed = 3, "3 messages are malformed"),
    ];

    #[test]
    fn every_lie_is_found_by_one_claim() {
        for (at, (change, words)) in LIES.iter().enumerate() {
            let found = refuted(change);
            assert_eq!(found.len(), 1, "lie {at}: {found:?}");
            assert!(found[0].contains(words), "lie {at}: {found:?}");
        }
    }

    #[test]
    fn a_lost_message_is_named() {
        let found = refuted(|e| (e.messages, _) = (6, e.arrived.remove(&4)));
        assert_eq!(found, ["delivered, says the ledger, but the receiver never saw row 4"]);
    }
}
