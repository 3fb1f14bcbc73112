//! Real replies, judged: `datasets/replies.tsv` says what each means, `datasets/rules.toml` by
//! which rule. The reply parser's laws, and its agreement with an independent parser.

use std::collections::BTreeSet;
use std::time::Duration;

use mailshot::limits::{REPLY_BYTES_MAX, REPLY_TEXT_MAX};
use mailshot::outcome::{Enhanced, Stage};
use mailshot::smtp::reply::{Reply, ReplyFault, ReplyParser};
use mailshot::smtp::rules::{About, Cause, Rules};
use mailshot::smtp::verdict::{Action, Failure, Scope, Verdict, judge, judge_failure};
use mailshot::units::duration;
use proptest::prelude::*;
use smtp_proto::response::parser::ResponseReceiver;

/// The providers of the rate table that the rules may name.
const PROVIDERS: [&str; 24] = [
    "google",
    "microsoft",
    "yahoo",
    "apple",
    "gmx",
    "t-online",
    "orange",
    "comcast",
    "att",
    "cox",
    "spectrum",
    "tencent",
    "netease",
    "free",
    "mail-ru",
    "yandex",
    "mimecast",
    "proofpoint",
    "cloudflare",
    "wp",
    "yahoo-jp",
    "laposte",
    "telstra",
    "o2-uk",
];

/// Entries of the collection that the data set covers.
const ENTRIES: u32 = 96;

/// One line of the data set.
struct Sample {
    line: &'static str,
    entry: Option<u32>,
    /// What it is listed as, and how it is judged where that differs.
    listed: Judgement,
    judged: Option<Judgement>,
    found: Judgement,
}

/// A judgement in words: rule, cause, class, scope, action.
type Judgement = [String; 5];

fn samples() -> Vec<Sample> {
    let lines = include_str!("../datasets/replies.tsv").lines();
    lines.filter(|line| !line.starts_with('#')).skip(1).map(sample).collect()
}

fn sample(line: &'static str) -> Sample {
    let fields: Vec<&str> = line.split('\t').collect();
    let [entry, provider, stage, reply, rule, cause, class, scope, action, judged, source] =
        fields[..]
    else {
        panic!("{line:?} has not eleven columns")
    };
    assert!(source.contains('.'), "{line:?} names no public source");
    let stage = *Stage::ALL.iter().find(|it| it.word() == stage).expect("a stage's word");
    let verdict = match reply {
        // As Yahoo does after some twenty messages.
        "(closed)" => judge_failure(stage, Failure::ClosedByPeer).for_message(20),
        reply => judge(Rules::shipped(), provider, stage, &one(&reply.replace("\\n", "\r\n"))),
    };
    let judgement = |cause: &str, scope: &str, action: &str| {
        [rule, cause, class, scope, action].map(str::to_owned)
    };
    let judged = (judged != "-").then(|| {
        let (words, why) = judged.split_once(": ").expect("a judgement and its reason");
        assert!(why.len() > 10, "{line:?} says why it is judged otherwise");
        let words: Vec<&str> = words.splitn(3, ' ').collect();
        judgement(words[0], words[1], words[2])
    });
    let entry = (entry != "-").then(|| entry.parse().expect("a number"));
    let listed = judgement(cause, scope, action);
    Sample { line, entry, listed, judged, found: words(verdict) }
}

fn one(reply: &str) -> Reply {
    let octets = format!("{reply}\r\n");
    let reply = ReplyParser::new().feed(&mut octets.as_bytes());
    reply.expect("SMTP").expect("a whole reply")
}

/// A verdict as the data set has it.
fn words(verdict: Verdict) -> Judgement {
    let rules = Rules::shipped();
    let rule = verdict.rule.map_or("-", |rule| rules.name(rule));
    let cause = verdict.rule.and_then(|rule| rules.cause(rule)).map_or("-", Cause::word);
    let scope = match verdict.scope {
        Scope::Recipient => "recipient",
        Scope::Message => "message",
        Scope::Connection => "connection",
        Scope::Domain => "domain",
        Scope::SourceAtProvider => "source-at-provider",
        Scope::DomainAtProvider => "domain-at-provider",
        Scope::CampaignAtProvider => "campaign-at-provider",
        Scope::Provider => "provider",
        Scope::Source => "source",
        Scope::Campaign => "campaign",
    };
    let waits = ["5m", "10m", "15m", "30m", "1h", "2h", "4h", "24h"];
    let action = match verdict.action {
        Action::Accept => "accept",
        Action::Retry => "retry",
        Action::Fail => "fail",
        Action::Suppress => "suppress",
        Action::Reconnect => "reconnect",
        Action::Slow => "slow",
        Action::Pause(Duration::ZERO) => "pause back-off",
        Action::Pause(wait) => {
            let word = waits.into_iter().find(|word| duration(word) == Ok(wait));
            &format!("pause {}", word.expect("a wait that the data set uses"))
        }
        Action::Halt => "halt",
        Action::Doubt => "doubt",
    };
    [rule, cause, verdict.class.word(), scope, action].map(str::to_owned)
}

#[test]
fn real_replies_are_judged_as_listed() {
    let samples = samples();
    let mut wrong = Vec::new();
    let (mut listed, mut as_listed) = (0, 0);
    for sample in &samples {
        let expected = sample.judged.as_ref().unwrap_or(&sample.listed);
        if sample.found != *expected {
            wrong.push(format!("{:?} for {}", sample.found, sample.line));
        }
        assert!(sample.judged.as_ref() != Some(&sample.listed), "no exception: {}", sample.line);
        listed += u32::from(sample.entry.is_some());
        as_listed += u32::from(sample.entry.is_some() && sample.found == sample.listed);
    }
    let share = f64::from(as_listed) * 100.0 / f64::from(listed);
    println!("{as_listed} of {listed} listed replies ({share:.1} %) are judged as listed");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(share >= 97.0, "{share:.1} %");
    let entries: BTreeSet<u32> = samples.iter().filter_map(|sample| sample.entry).collect();
    assert!(entries.into_iter().eq(1..=ENTRIES), "every entry of the collection has a line");
}

#[test]
fn the_shipped_rules_prove_themselves() {
    let problems = Rules::shipped().audit(&PROVIDERS);
    let problems: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Rule, scope and action of a reply, as words.
fn judged(provider: &str, stage: Stage, reply: &str) -> String {
    let reply = one(&reply.replace("\\n", "\r\n"));
    let [rule, _, _, scope, action] = words(judge(Rules::shipped(), provider, stage, &reply));
    format!("{rule} {scope} {action}")
}

/// The traps that the replies of the collection hold: provider (or anybody), stage and reply, and
/// below it who decides and how.
const TRAPS: &str = r"
# 1. 4yz that must not be retried, 5yz that must, and 5yz that accuses no mailbox.
yahoo mail 421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred
    yahoo-permanent source-at-provider halt
tencent dot 550 Ip frequency limited
    tencent-rate source-at-provider pause 1h
microsoft dot 554 5.2.122 x
    mailbox-hourly-limit recipient retry
google rcpt 550 5.2.1 The user is receiving mail at a rate that prevents additional messages
    mailbox-too-fast recipient fail

# 2. The code and the class of the enhanced status code disagree, or that stands inside the text.
google dot 421 5.7.32 x
    google-authentication domain-at-provider halt
yahoo mail 553 Mail from 192.0.2.1 not allowed - 5.7.1 [BL23] x
    yahoo-listed source halt
anybody dot 550 4.4.7 x
    expired-there recipient fail
anybody dot 554 4.4.7 x
    expired-there recipient fail

# 3. One code, several meanings.
apple rcpt 552 5.2.2 user is over quota
    quota recipient fail
anybody dot 552 5.3.4 Message too large
    too-large message fail
yahoo rcpt 552 1 Requested mail action aborted, mailbox not found
    bad-mailbox recipient suppress
orange rcpt 552 5.1.1 x OFR_417
    orange-full recipient fail

# 4. The status code on every line, text that goes on, codes that no RFC has.
google dot 421-4.7.28 an unusual rate of email originating from your\n421 4.7.28 DKIM domain. To
    google-domain-rate domain-at-provider pause 10m
wp mail 470 you sent too many e-mails
    too-many-messages-1h source-at-provider pause 1h
anybody rcpt 498 x
    - recipient retry
anybody dot 585 x
    - message fail

# 5. What changes from reply to reply: ids, addresses, times.
google dot 421 4.7.28 an unusual rate of email originating from your IP address. 5b1f17b1f8f - gsmtp
    google-ip-rate source-at-provider pause 10m
google dot 421 4.7.28 [2001:db8::1  15] an unusual rate of email originating from your IP address.
    google-ip-rate source-at-provider pause 10m

# 6. Words in other languages beside an ASCII code.
orange mail 421 4.2.0 Service refusé. Réessayez plus tard. OFR_999
    orange-refused source-at-provider pause 30m
netease dot 554 DT:SPM 邮件被拒绝
    netease-content campaign-at-provider fail
anybody rcpt 550 5.1.1 Konto nie istnieje, brak użytkownika
    bad-mailbox recipient suppress

# 7. A 5yz in the place of a greeting is about us.
apple banner 554 mx.example.net ESMTP not accepting connections
    - source-at-provider pause back-off
proofpoint banner 554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1
    gateway-listed source-at-provider halt

# 9. The same words at another stage are about somebody else.
anybody mail 550 5.7.1 Blocked by policy
    policy-on-us source-at-provider pause back-off
anybody rcpt 550 5.7.1 Blocked by policy
    policy-on-recipient recipient fail
anybody dot 550 5.7.1 Blocked by policy
    policy-on-message message fail
anybody banner 550 x
    - source-at-provider pause back-off
";

#[test]
fn traps_catch_nobody() {
    let mut lines = TRAPS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let (Some(case), Some(expected)) = (lines.next(), lines.next()) {
        let [provider, stage, reply] = case.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{case:?} is no case")
        };
        let stage = *Stage::ALL.iter().find(|it| it.word() == stage).expect("a stage's word");
        assert_eq!(judged(provider, stage, reply), expected.trim(), "{case}");
    }
    // 8. A connection that ends without a word after some messages is a limit, not an error.
    for failure in [Failure::ClosedByPeer, Failure::Reset] {
        let verdict = judge_failure(Stage::Mail, failure).for_message(20);
        assert_eq!((verdict.scope, verdict.action), (Scope::Connection, Action::Reconnect));
    }
}

#[test]
fn a_provider_is_judged_by_its_own_rules_and_a_stranger_by_none_of_them() {
    let reply = "421 4.7.28 Gmail has detected an unusual rate of email originating from your IP";
    let ours = "google-ip-rate source-at-provider pause 10m";
    assert_eq!(judged("google", Stage::Dot, reply), ours);
    for stranger in ["", "nobody", "yahoo", "googl", "google "] {
        let general = "unusual-rate source-at-provider pause back-off";
        assert_eq!(judged(stranger, Stage::Dot, reply), general, "{stranger:?}");
    }
}

/// What is said of the sender or the message takes nobody off the list, whatever status code it
/// has, and neither does what may pass.
#[test]
fn words_about_us_suppress_nobody() {
    for reply in [
        "550 5.1.1 Sender domain does not exist",
        "550 Domain of sender address does not exist",
        "550 5.1.1 blocked using zen.spamhaus.org",
        "550 5.1.1 rejected, SPF check failed",
        "553 5.1.1 no reverse DNS for your address",
        "550 5.1.1 your message looks like spam",
        "550 5.1.1 message too large",
        "550 relaying disabled",
        "450 5.1.1 User unknown",
    ] {
        for stage in [Stage::Rcpt, Stage::Data, Stage::Dot] {
            let found = judged("", stage, reply);
            assert!(!found.ends_with("suppress"), "{found} for {reply} at {stage:?}");
        }
    }
    assert!(judged("", Stage::Rcpt, "550 5.1.1 User unknown").ends_with("suppress"));
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

/// Texts of words that rules look for, so that most of them meet some rule.
fn texts() -> impl Strategy<Value = String> {
    let rules = include_str!("../datasets/rules.toml");
    let quoted = rules.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        line.split('"').skip(1).step_by(2).filter(|text| !text.contains(['\\', '\n']))
    });
    let known: Vec<&'static str> = quoted.collect();
    let piece = prop_oneof![
        4 => prop::sample::select(known).prop_map(|text| text.replace('*', " x ")),
        1 => "[ -~]{0,30}",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.join(" "))
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
                let action = judge(Rules::shipped(), "", *stage, &reply).action;
                let accepted = action == Action::Accept && *stage != Stage::Quit;
                prop_assert!(!accepted || reply.is_positive() || reply.is_intermediate());
            }
        }
    }

    /// Whatever a receiver says: a verdict about us suppresses nobody, one about a recipient slows
    /// nothing, and nothing fails before a recipient was named but what is wrong with the message.
    #[test]
    fn every_verdict_obeys_the_law(
        provider in 0..=PROVIDERS.len(),
        code in 400_u16..600,
        status in "([245]\\.([0-9]|[0-9]\\.[0-9]{1,3}) )?",
        text in texts(),
    ) {
        let provider = PROVIDERS.get(provider).copied().unwrap_or("");
        let reply = one(&format!("{code} {status}{text}"));
        for stage in Stage::ALL.iter().copied().filter(|it| (2..8).contains(&(*it as u8))) {
            let rules = Rules::shipped();
            let it = judge(rules, provider, stage, &reply);
            let cause = it.rule.and_then(|rule| rules.cause(rule));
            let about = cause.map(Cause::about);
            let early = matches!(stage, Stage::Banner | Stage::Ehlo | Stage::Mail);
            let narrow = matches!(it.scope, Scope::Recipient | Scope::Domain);
            let within =
                matches!(it.scope, Scope::Recipient | Scope::Message | Scope::Connection);
            let stops = matches!(it.action, Action::Pause(_) | Action::Slow | Action::Halt);
            if it.action == Action::Suppress {
                prop_assert!(matches!(cause, Some(Cause::BadRcpt | Cause::Inactive)));
                prop_assert!(it.scope == Scope::Recipient && code >= 500 && !early);
            }
            if about == Some(About::Recipient) {
                prop_assert!(narrow && !stops && !early, "{it:?}");
            }
            prop_assert!(!stops || !within, "{it:?}");
            prop_assert!(!stops || about.is_some() || early, "{it:?}");
            let fails = it.action == Action::Fail;
            prop_assert!(!fails || !early || cause == Some(Cause::Msg), "{it:?}");
            prop_assert!(!matches!(it.action, Action::Accept | Action::Doubt), "{it:?}");
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
