//! check — what can only be seen when all layers lie over each other: hosts of two providers, rows
//! without hosts or limits, mail that is given up before its first retry.

use std::collections::BTreeSet;

use crate::problem::{Place, Problem, suggest};
use crate::units::Human;

use super::layer::{Draft, Drafts};
use super::{Layer, Row, Sourced, Suffix, Table};

/// Where a place stands among the layers: which file, line, column.
pub(super) fn rank(layers: &[Layer<'_>], place: &Place) -> (usize, u32, u32) {
    let layer = layers.iter().position(|layer| layer.file == place.file);
    (layer.unwrap_or(layers.len()), place.line, place.column)
}

/// Every such problem; what is missing only if the syntax of all layers is `whole`.
pub(super) fn problems(
    table: &Table,
    drafts: &Drafts,
    layers: &[Layer<'_>],
    whole: bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if whole {
        problems.extend(default_is_complete(&drafts.default, layers));
        let known: Vec<&str> = drafts.providers.iter().map(|draft| draft.name.as_str()).collect();
        problems.extend(drafts.providers.iter().filter_map(|draft| stands_alone(draft, &known)));
    }
    problems.extend(overlaps(&table.rows, layers));
    problems.extend(retries_come_before_expiry(table, layers));
    problems
}

/// The default row gives what every row needs.
fn default_is_complete(draft: &Draft, layers: &[Layer<'_>]) -> Option<Problem> {
    let needed = ["connections", "rate", "messages_per_connection", "retry", "expire_after"];
    let missing: Vec<&str> = needed.into_iter().filter(|key| !draft.named.contains(key)).collect();
    let file = layers.first().map_or("", |layer| layer.file);
    let what = format!("the default row has no {}", missing.join(", "));
    let help = "[default] must give them, for all hosts that no provider claims";
    (!missing.is_empty()).then(|| Problem::new(Place::whole(file), what, help))
}

/// A provider has hosts, and limits of its own.
fn stands_alone(draft: &Draft, known: &[&str]) -> Option<Problem> {
    let names = |keys: &[&str]| keys.iter().any(|key| draft.named.contains(key));
    let name = &draft.name;
    if !names(&["mx", "mx_add"]) {
        let others = known.iter().copied().filter(|other| other != name);
        let help = match suggest(name, others) {
            Some(meant) => format!("did you mean {meant:?}? A new provider needs mx"),
            None => "a new provider needs mx, the list of its mail hosts".to_owned(),
        };
        return Some(Problem::new(draft.place.clone(), format!("provider {name} has no mx"), help));
    }
    if names(&["connections", "connections_total", "rate", "rate_total", "rate_dkim"]) {
        return None;
    }
    let what = format!("provider {name} has no limits of its own");
    let help = "give it a rate or connections, or leave it out: the default row holds then";
    Some(Problem::new(draft.place.clone(), what, help))
}

/// No host can belong to two providers. The suffix that came later is at fault.
fn overlaps(rows: &[Row], layers: &[Layer<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, row) in rows.iter().enumerate() {
        for other in &rows[at + 1..] {
            for (one, two) in row.mx.iter().flat_map(|one| other.mx.iter().map(move |x| (one, x))) {
                if !one.value.overlaps(&two.value) {
                    continue;
                }
                let swap = rank(layers, &one.place) > rank(layers, &two.place);
                let (first, late) = match swap {
                    false => ((row, one), (other, two)),
                    true => ((other, two), (row, one)),
                };
                if seen.insert(rank(layers, &late.1.place)) {
                    problems.push(overlap(first, late));
                }
            }
        }
    }
    problems
}

fn overlap(
    (first, claimed): (&Row, &Sourced<Suffix>),
    (late, claims): (&Row, &Sourced<Suffix>),
) -> Problem {
    let what = format!(
        "\"{}\" of provider {} overlaps \"{}\" of provider {} ({})",
        claims.value, late.name, claimed.value, first.name, claimed.place
    );
    let help = format!("a host has one provider; write mx under [provider.{}] anew", first.name);
    Problem::new(claims.place.clone(), what, help)
}

/// A deferred message gets a second attempt before it is given up. The number that came later is
/// at fault, once for all rows that have it.
fn retries_come_before_expiry(table: &Table, layers: &[Layer<'_>]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for row in [&table.default].into_iter().chain(&table.rows) {
        let (Some(expiry), Some(retry)) =
            (row.values.expire_after.in_force(), row.values.retry.in_force())
        else {
            continue;
        };
        let first = retry.value.first().copied().unwrap_or_default();
        if expiry.value >= first {
            continue;
        }
        let later = rank(layers, &expiry.place) > rank(layers, &retry.place);
        let (at, other) = if later {
            (expiry.place.clone(), &retry.place)
        } else {
            (retry.place.clone(), &expiry.place)
        };
        if seen.insert(rank(layers, &at)) {
            let (name, expiry) = (&row.name, Human(expiry.value));
            let what = format!(
                "{name}: expire_after {expiry} is below the first retry, {} ({other})",
                Human(first)
            );
            problems.push(Problem::new(at, what, "no message would get a second attempt"));
        }
    }
    problems
}
