//! Lists are read back with an independent CSV reader and classified anew: the tally must agree.

use std::collections::{HashMap, HashSet};

use mailshot_gen::{Dirt, Kind, Plan, Share, Tally, write};

fn generate(plan: &Plan) -> (Vec<u8>, Tally) {
    let mut list = Vec::new();
    let tally = write(plan, &mut list).expect("memory takes every octet");
    (list, tally)
}

fn records(list: &[u8], delimiter: u8) -> Vec<csv::ByteRecord> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(list);
    reader.byte_records().map(|record| record.expect("memory has no faults")).collect()
}

/// FNV-1a, 64 bits: a short name for a whole file.
fn fingerprint(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a careful reader says about a record, knowing nothing of how it was made.
fn classify(record: &csv::ByteRecord, seen: &mut HashSet<Vec<u8>>) -> Option<Kind> {
    if record.len() != 9 {
        return Some(Kind::FieldCount);
    }
    if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
        return Some(Kind::NotUtf8);
    }
    if record[1].contains(&b'\n') {
        return Some(Kind::HeaderInjection);
    }
    if record[0].is_empty() {
        return Some(Kind::MissingAddress);
    }
    let at = record[0].iter().filter(|&&octet| octet == b'@').count();
    if at != 1 || record[0].contains(&b' ') || b".@".contains(&record[0][0]) {
        return Some(Kind::BadSyntax);
    }
    if !seen.insert(record[0].to_ascii_lowercase()) {
        let capitals = !record[0].iter().any(u8::is_ascii_lowercase);
        return Some(if capitals { Kind::CaseDuplicate } else { Kind::ExactDuplicate });
    }
    classify_oddity(record)
}

fn classify_oddity(record: &csv::ByteRecord) -> Option<Kind> {
    let text = |n: usize| std::str::from_utf8(&record[n]).expect("checked before");
    if text(3).contains("old town") {
        Some(Kind::QuotedDelimiter)
    } else if text(8).contains('\n') {
        Some(Kind::NewlineInNote)
    } else if text(1).contains('🌻') {
        Some(Kind::Emoji)
    } else if !text(1).is_ascii() {
        Some(Kind::Umlaut)
    } else if !text(0).is_ascii() {
        Some(Kind::IdnDomain)
    } else if text(0).contains('+') {
        Some(Kind::PlusAddress)
    } else if (1..9).all(|n| text(n).is_empty()) {
        Some(Kind::EmptyOptional)
    } else {
        None
    }
}

#[test]
fn the_tally_agrees_with_an_independent_reader() {
    for (seed, delimiter, crlf) in [(1, b',', false), (2, b';', true), (3, b'\t', false)] {
        let dirt = Kind::ALL.into_iter().fold(Dirt::none(), |dirt, kind| dirt.with(kind, 50));
        let plan = Plan { dirt, delimiter, crlf, ..Plan::new(20_000, seed) };
        let (list, tally) = generate(&plan);
        let mut found: HashMap<Option<Kind>, u64> = HashMap::new();
        let mut seen = HashSet::new();
        for record in records(&list, delimiter) {
            *found.entry(classify(&record, &mut seen)).or_default() += 1;
        }
        for kind in Kind::ALL {
            let count = found.get(&Some(kind)).copied().unwrap_or(0);
            assert_eq!(tally.of(kind), count, "seed {seed}, {kind:?}");
            assert!((800..1200).contains(&count), "seed {seed}, {kind:?}: {count} of 20,000");
        }
        let good = found.iter().filter(|(kind, _)| kind.is_none_or(|kind| !kind.is_dirt()));
        assert_eq!(tally.good, good.map(|(_, count)| count).sum::<u64>(), "seed {seed}");
        assert_eq!((tally.rows, tally.bytes), (20_000, list.len() as u64), "seed {seed}");
    }
}

#[test]
fn the_same_plan_gives_the_same_octets_on_every_machine() {
    let plan = Plan { dirt: Dirt::usual(), ..Plan::new(1000, 7) };
    let (list, _) = generate(&plan);
    assert_eq!(list, generate(&plan).0);
    assert_eq!(
        fingerprint(&list),
        9_092_099_285_242_658_608,
        "a change of the lists must be meant"
    );
    assert_ne!(list, generate(&Plan { seed: 8, ..plan }).0);
}

#[test]
fn the_mix_is_the_sampled_one() {
    let (list, tally) = generate(&Plan::new(100_000, 1));
    assert_eq!((tally.good, tally.dirty()), (100_000, 0));
    let mut domains: HashMap<String, u32> = HashMap::new();
    for record in records(&list, b',') {
        let address = String::from_utf8(record[0].to_vec()).expect("plain rows are ASCII");
        let (_, domain) = address.split_once('@').expect("plain rows have an address");
        assert!(domain.ends_with(".sink.test"), "{address}");
        *domains.entry(domain.to_owned()).or_default() += 1;
    }
    for (domain, share) in [("gmail.com", 67_400), ("hotmail.com", 8_800), ("yahoo.com", 5_900)] {
        let found = domains[&format!("{domain}.sink.test")];
        assert!(found.abs_diff(share) < 600, "{domain}: {found} instead of {share}");
    }
    assert!(domains.len() > 1000, "the tail is long: {}", domains.len());
}

#[test]
fn shares_take_their_part_and_leave_the_mix_of_the_others() {
    let share = |domain: &str, millionths| Share { domain: domain.to_owned(), millionths };
    let shares = vec![share("gmail.com", 760_000), share("example.net", 5_000)];
    let plan = Plan { shares, domain_suffix: String::new(), ..Plan::new(100_000, 1) };
    let (list, tally) = generate(&plan);
    assert_eq!((list == generate(&plan).0, tally.good), (true, 100_000));
    let mut domains: HashMap<String, u32> = HashMap::new();
    for record in records(&list, b',') {
        let address = String::from_utf8(record[0].to_vec()).expect("plain rows are ASCII");
        let (_, domain) = address.split_once('@').expect("plain rows have an address");
        *domains.entry(domain.to_owned()).or_default() += 1;
    }
    // Of 23,500 others 88 and 59 in each 326 have these domains: 1000 without Gmail's 674.
    let expected =
        [("gmail.com", 76_000), ("example.net", 500), ("hotmail.com", 6_344), ("yahoo.com", 4_253)];
    for (domain, share) in expected {
        assert!(domains[domain].abs_diff(share) < 300, "{domain}: {}", domains[domain]);
    }
}

#[test]
fn the_edges_of_the_file_are_as_planned() {
    let plan = Plan { bom: true, crlf: true, delimiter: b';', ..Plan::new(0, 1) };
    let (list, tally) = generate(&plan);
    let header = "\u{feff}email;first_name;last_name;city;country;plan;amount;signup_date;note\r\n";
    assert_eq!(String::from_utf8(list).expect("the header is text"), header);
    assert_eq!(tally.rows, 0);
}
