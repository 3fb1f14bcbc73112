//! Real replies, judged: `datasets/replies.tsv` says what each means. The reply parser's laws, and
//! its agreement with an independent parser.

use mailshot::limits::{REPLY_BYTES_MAX, REPLY_TEXT_MAX};
use mailshot::outcome::{Enhanced, Stage};
use mailshot::smtp::reply::{Reply, ReplyFault, ReplyParser};
use mailshot::smtp::rules::{RULES, rule};
use mailshot::smtp::verdict::{Action, Scope, judge};
use proptest::prelude::*;
use smtp_proto::response::parser::ResponseReceiver;

/// One line of the data set.
struct Sample {
    line: &'static str,
    stage: Stage,
    reply: Reply,
    rule: &'static str,
    /// Class, scope and action, as words.
    expected: [&'static str; 3],
}

fn samples() -> Vec<Sample> {
    let lines = include_str!("../datasets/replies.tsv").lines();
    lines.filter(|line| !line.starts_with('#')).skip(1).map(sample).collect()
}

fn sample(line: &'static str) -> Sample {
    let fields: Vec<&str> = line.split('\t').collect();
    let [_, stage, reply, rule, class, scope, action, source] = fields[..] else {
        panic!("{line:?} has not eight columns")
    };
    assert!(source.contains('.'), "{line:?} names no public source");
    let octets = format!("{}\r\n", reply.replace("\\n", "\r\n"));
    Sample {
        line,
        stage: *Stage::ALL.iter().find(|it| it.word() == stage).expect("a stage's word"),
        reply: one(&octets),
        rule,
        expected: [class, scope, action],
    }
}

fn one(octets: &str) -> Reply {
    let reply = ReplyParser::new().feed(&mut octets.as_bytes());
    reply.expect("SMTP").expect("a whole reply")
}

fn judged(sample: &Sample) -> [&'static str; 3] {
    let verdict = judge(sample.stage, &sample.reply);
    let scope = match verdict.scope {
        Scope::Recipient => "recipient",
        Scope::Message => "message",
        Scope::Connection => "connection",
        Scope::Receiver => "receiver",
    };
    let action = match verdict.action {
        Action::Accept => "accept",
        Action::Retry => "retry",
        Action::Fail => "fail",
        Action::Reconnect => "reconnect",
        Action::Pause => "pause",
        Action::Doubt => "doubt",
    };
    [verdict.class.word(), scope, action]
}

#[test]
fn real_replies_are_judged_as_expected() {
    let (samples, mut right, mut wrong) = (samples(), 0, Vec::new());
    for sample in &samples {
        let found = judged(sample);
        right += usize::from(found == sample.expected);
        if (found == sample.expected) == (sample.rule == "provider") {
            wrong.push(format!("{found:?} for {}", sample.line));
        }
    }
    println!(
        "{right} of {} replies ({}%) judged as expected without knowing the provider",
        samples.len(),
        right * 100 / samples.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_rule_decides_the_replies_that_were_collected_for_it() {
    let (samples, mut wrong) = (samples(), Vec::new());
    for sample in samples.iter().filter(|sample| sample.rule != "provider") {
        let found = match judge(sample.stage, &sample.reply).action {
            Action::Accept => "-",
            _ => rule(sample.stage, &sample.reply).map_or("-", |rule| rule.name),
        };
        if found != sample.rule {
            wrong.push(format!("{found} decides {}", sample.line));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let unproved = RULES.iter().filter(|rule| samples.iter().all(|it| it.rule != rule.name));
    let names: Vec<_> = unproved.map(|rule| rule.name).collect();
    assert!(names.is_empty(), "no reply in the data set reaches {names:?}");
}

#[test]
fn no_reply_about_us_bounces_a_recipient_even_where_the_provider_is_needed_to_tell() {
    let mut bounced = Vec::new();
    for sample in samples().iter().filter(|sample| sample.expected[1] == "receiver") {
        if judged(sample)[2] == "fail" {
            bounced.push(sample.line);
        }
    }
    // Yahoo's [PH01] is a plain "not accepted for policy reasons" to whoever does not know it.
    let known = bounced.iter().filter(|line| line.contains("[PH01]")).count();
    assert_eq!((bounced.len(), known), (1, 1), "{bounced:#?}");
}

/// All replies of a stream that comes in pieces of the given lengths, and the fault that ended it.
fn read(bytes: &[u8], cuts: &[usize]) -> (Vec<Reply>, Option<ReplyFault>) {
    let (mut parser, mut replies, mut rest) = (ReplyParser::new(), Vec::new(), bytes);
    let mut lengths = cuts.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |cut| (*cut).min(rest.len()));
        let (mut piece, after) = rest.split_at(length);
        rest = after;
        loop {
            match parser.feed(&mut piece) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(fault) => return (replies, Some(fault)),
            }
        }
        assert!(piece.is_empty(), "a reply that goes on leaves nothing over");
    }
    (replies, None)
}

/// Streams that look like replies most of the time, so that the parser gets beyond the first line.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "[245][0-9]{2}[ -]([245]\\.[0-9]{1,3}\\.[0-9]{1,3} )?[ -~]{0,60}\r\n"
            .prop_map(String::into_bytes),
        2 => "[0-9]{3}[ -]?\r?\n".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (3_000_usize..5_000)
            .prop_map(|length| [b"250-".to_vec(), vec![b'x'; length]].concat()),
        1 => (1_usize..200).prop_map(|lines| b"250-x\n".repeat(lines)),
        1 => (1_usize..12).prop_map(|lines| {
            [b"250-".to_vec(), vec![0xff; 4_000], b"\n".to_vec()].concat().repeat(lines)
        }),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn how_a_stream_is_cut_makes_no_difference(
        bytes in streams(),
        cuts in prop::collection::vec(1_usize..3_000, 1..8),
    ) {
        let whole = read(&bytes, &[]);
        prop_assert_eq!(&read(&bytes, &cuts), &whole);
        prop_assert_eq!(&read(&bytes, &[1]), &whole);
    }

    #[test]
    fn no_octets_make_a_reply_too_large_or_a_verdict_impossible(bytes in streams()) {
        for reply in read(&bytes, &[]).0 {
            let kept: usize = reply.lines().map(|line| line.len() + 1).sum();
            prop_assert!(kept <= REPLY_TEXT_MAX + 1 && reply.text().len() <= 512);
            for stage in Stage::ALL {
                let action = judge(*stage, &reply).action;
                let accepted = action == Action::Accept && *stage != Stage::Quit;
                prop_assert!(!accepted || reply.is_positive() || reply.is_intermediate());
                let about_recipient = matches!(stage, Stage::Rcpt | Stage::Data | Stage::Dot);
                let too_large = rule(*stage, &reply).is_some_and(|rule| rule.name == "too-large");
                prop_assert!(action != Action::Fail || about_recipient || too_large);
            }
        }
    }

    /// An endless reply ends in a fault before it has cost more than its limit.
    #[test]
    fn endless_input_is_refused(octet: u8, prefix in "(250-)?") {
        let mut parser = ReplyParser::new();
        let mut fed = 0;
        loop {
            let piece = [prefix.as_bytes(), &[octet; 500]].concat();
            fed += piece.len();
            match parser.feed(&mut &piece[..]) {
                Ok(reply) => prop_assert!(reply.is_none() && fed <= REPLY_BYTES_MAX),
                Err(_) => break,
            }
        }
    }

    /// The replies are what RFC 5321 and RFC 2034 allow: the same code, and the same or no enhanced
    /// status code, on every line.
    #[test]
    fn an_independent_parser_reads_the_same(
        code in 200_u16..600,
        status in prop::option::of((2_u8..6, 0_u16..256, 0_u16..256)),
        lines in prop::collection::vec("([!-~]([ -~]{0,40}[!-~])?)?", 1..6),
    ) {
        let status = status.filter(|(class, ..)| *class != 3 && code / 100 != 3);
        let marked: Vec<String> = lines
            .iter()
            .map(|line| status.map_or(line.clone(), |(a, b, c)| format!("{a}.{b}.{c} {line}")))
            .collect();
        let (last, others) = marked.split_last().unwrap();
        let mut bytes: String = others.iter().map(|line| format!("{code}-{line}\r\n")).collect();
        bytes += &format!("{code} {last}\r\n");

        let ours = one(&bytes);
        let theirs = ResponseReceiver::default().parse(&mut bytes.as_bytes().iter()).unwrap();
        prop_assert_eq!(ours.code, theirs.code);
        let [class, subject, detail] = theirs.esc;
        let theirs_enhanced = (class > 0).then(|| Enhanced(class, subject.into(), detail.into()));
        prop_assert_eq!(ours.enhanced, theirs_enhanced);
        let ours: Vec<&str> = ours.lines().collect();
        let theirs: Vec<&str> = theirs.message.split('\n').map(str::trim).collect();
        prop_assert_eq!(ours, &theirs[..lines.len()]);
    }
}
