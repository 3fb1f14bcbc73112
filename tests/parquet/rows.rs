//! rows — 20,000 made-up attempts and rows of a list, and beside them what the tables must hold.
//!
//! Everything follows from the number of the row by plain formulas; what is expected is written
//! down a second time and takes nothing from the code under test.

use std::net::IpAddr;
use std::time::Duration;

use mailshot::account::{
    EventFiles, Exclusion, Layout, MessageRow, MessagesWriter, RowFacts, RunFacts, RunRow,
    SourceFacts, TableName, Written, write_run,
};
use mailshot::outcome::{Binding, Class, Enhanced, Kind, Outcome, Row, Session, Stage};
use mailshot::units::Utc;
use serde_json::{Value, json};

pub(crate) const ROWS: u32 = 20_000;
/// 2026-11-21T23:59:00Z; with 6 ms between events the day changes in the middle of them.
pub(crate) const START: i64 = 1_795_305_540_000_000;
const STEP: i64 = 6_000;

/// Columns and what they must hold; those left out must be null.
pub(crate) type ExpectedRow = Vec<(&'static str, Value)>;

/// What an attempt can end in, and the words that must come of it.
struct Shape {
    outcome: (Kind, Stage, Class),
    words: (&'static str, &'static str, Option<&'static str>, Option<&'static str>),
    state: &'static str,
    code: u16,
    enhanced: Option<Enhanced>,
    response: &'static str,
    masked: &'static str,
    normalised: &'static str,
    connected: bool,
}

const SHAPES: [Shape; 8] = [
    Shape {
        outcome: (Kind::Delivered, Stage::Dot, Class::None),
        words: ("delivered", "dot", None, None),
        state: "delivered",
        code: 250,
        enhanced: Some(Enhanced(2, 0, 0)),
        response: "2.0.0 Ok: queued as 4BX7yZ1Qk2z9",
        masked: "2.0.0 Ok: queued as 4BX7yZ1Qk2z9",
        normalised: "2.0.0 Ok: queued as {id}",
        connected: true,
    },
    Shape {
        outcome: (Kind::Deferred, Stage::Rcpt, Class::Greylisted),
        words: ("deferred", "rcpt", Some("greylisted"), Some("soft")),
        state: "pending",
        code: 450,
        enhanced: Some(Enhanced(4, 7, 1)),
        response: "4.7.1 <anna@example.com>: greylisted, wait 300 s",
        masked: "4.7.1 <***@example.com>: greylisted, wait 300 s",
        normalised: "4.7.1 <{address}>: greylisted, wait {n} s",
        connected: true,
    },
    Shape {
        outcome: (Kind::Bounced, Stage::Rcpt, Class::BadMailbox),
        words: ("bounced", "rcpt", Some("bad-mailbox"), Some("hard")),
        state: "bounced",
        code: 550,
        enhanced: Some(Enhanced(5, 1, 1)),
        response: "5.1.1 kein Empfänger dieses Namens",
        masked: "5.1.1 kein Empfänger dieses Namens",
        normalised: "5.1.1 kein Empfänger dieses Namens",
        connected: true,
    },
    Shape {
        outcome: (Kind::Expired, Stage::Connect, Class::NoAnswerFromHost),
        words: ("expired", "connect", Some("no-answer-from-host"), Some("soft")),
        state: "expired",
        code: 0,
        enhanced: None,
        response: "connect to 192.0.2.7:25: timed out",
        masked: "connect to 192.0.2.7:25: timed out",
        normalised: "connect to {ip}:{n}: timed out",
        connected: false,
    },
    Shape {
        outcome: (Kind::InDoubt, Stage::Dot, Class::BadConnection),
        words: ("in_doubt", "dot", Some("bad-connection"), Some("soft")),
        state: "in_doubt",
        code: 0,
        enhanced: None,
        response: "the connection was lost",
        masked: "the connection was lost",
        normalised: "the connection was lost",
        connected: true,
    },
    Shape {
        outcome: (Kind::Failed, Stage::Local, Class::RenderError),
        words: ("failed", "local", Some("render-error"), None),
        state: "excluded",
        code: 0,
        enhanced: None,
        response: "column \"city\" is empty",
        masked: "column \"city\" is empty",
        normalised: "column \"city\" is empty",
        connected: false,
    },
    Shape {
        outcome: (Kind::Cancelled, Stage::Local, Class::None),
        words: ("cancelled", "local", None, None),
        state: "cancelled",
        code: 0,
        enhanced: None,
        response: "cancelled by the operator",
        masked: "cancelled by the operator",
        normalised: "cancelled by the operator",
        connected: false,
    },
    Shape {
        outcome: (Kind::Deferred, Stage::Banner, Class::SpamRelated),
        words: ("deferred", "banner", Some("spam-related"), Some("block")),
        state: "pending",
        code: 421,
        enhanced: None,
        response: "",
        masked: "",
        normalised: "",
        connected: true,
    },
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn run() -> RunFacts {
    let text = str::to_owned;
    let source = |ip: IpAddr, ehlo: &str, pool: Option<&str>| SourceFacts {
        ip,
        ehlo_name: text(ehlo),
        pool: pool.map(text),
    };
    RunFacts {
        run_id: text("01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z"),
        campaign_id: text("spring"),
        template_sha256: "aa".repeat(32),
        list_sha256: "bb".repeat(32),
        rate_table_sha256: "cc".repeat(32),
        tool_version: text("0.1.0"),
        dkim_domain: Some(text("example.com")),
        dkim_selector: Some(text("s1")),
        sources: vec![
            source(ip("198.51.100.1"), "mta1.example.com", Some("bulk")),
            source(ip("2001:db8::2"), "mta2.example.com", None),
        ],
    }
}

/// The texts of row `i` that an outcome and its row borrow.
pub(crate) struct Texts {
    address: String,
    hash: String,
    host: String,
    message_id: String,
}

pub(crate) fn texts(i: u32) -> Texts {
    Texts {
        address: format!("user{i}@d{}.example", i % 50),
        hash: format!("{:032x}", u128::from(i) * 0x9e37_79b9_7f4a_7c15_f39c_c060),
        host: format!("mx{}.d{}.example", i % 3, i % 50),
        message_id: format!("<{i}.1@example.com>"),
    }
}

fn shape(i: u32) -> &'static Shape {
    &SHAPES[i as usize % SHAPES.len()]
}

fn attempt(i: u32) -> u16 {
    u16::try_from(i % 3).unwrap() + 1
}

fn time(i: u32) -> i64 {
    START + i64::from(i) * STEP
}

/// Outcome `i`: attempt 1 was rendered 2 s before its end and begun 1 s before it; a later one was
/// rendered 1 s before its end, its first attempt begun an hour before.
pub(crate) fn outcome(i: u32, texts: &Texts) -> Outcome<'_> {
    let (kind, stage, class) = shape(i).outcome;
    let connected = shape(i).connected;
    let local = stage == Stage::Local;
    let at = |source: &str| (!local).then(|| ip(source));
    Outcome {
        row: Row(i + 1),
        attempt: attempt(i),
        kind,
        stage,
        class,
        time: Utc(time(i)),
        spooled: Utc(time(i) - if attempt(i) == 1 { 2_000_000 } else { 1_000_000 }),
        first_attempt: Utc(time(i) - if attempt(i) == 1 { 1_000_000 } else { 3_600_000_000 }),
        next_attempt: (kind == Kind::Deferred).then_some(Utc(time(i) + 900_000_000)),
        smtp_code: shape(i).code,
        enhanced: shape(i).enhanced,
        session: Session {
            key: if connected { u64::from(i / 100 + 1) } else { 0 },
            message_index: if connected { i % 100 } else { 0 },
            remote: at(if i.is_multiple_of(2) { "192.0.2.7" } else { "2001:db8::7" }),
            source: at(["198.51.100.1", "2001:db8::2", "198.51.100.9"][i as usize % 3]),
            connect: Duration::from_micros(12_999),
        },
        took: Duration::from_millis(u64::from(i % 400)),
        waited: Duration::from_secs(u64::from(i % 90)),
        data: Duration::from_millis(if stage == Stage::Dot { 35 } else { 0 }),
        size: if local { 0 } else { 11_000 + i % 7 },
        host: if local { "" } else { &texts.host },
        provider: if local { "" } else { ["google", "yahoo"][i as usize % 2] },
        rule: "a-rule",
        limit: [Binding::Nothing, Binding::Rate, Binding::WarmUp][i as usize % 3],
        response: shape(i).response,
    }
}

pub(crate) fn facts(i: u32, texts: &Texts) -> RowFacts<'_> {
    RowFacts {
        line: i + 2,
        rcpt_to: (!i.is_multiple_of(5)).then_some(texts.address.as_str()),
        rcpt_domain: if i.is_multiple_of(13) { "" } else { &texts.host[4..] },
        rcpt_hash: (!i.is_multiple_of(11)).then_some(texts.hash.as_str()),
    }
}

/// What the columns that `events` and `messages` share must hold, where there was an attempt.
fn shared(i: u32, texts: &Texts) -> ExpectedRow {
    let local = shape(i).outcome.1 == Stage::Local;
    let unless_local = |value: Value| if local { Value::Null } else { value };
    let unless_empty = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let code = shape(i).code;
    let sources = ["198.51.100.1", "2001:db8::2", "198.51.100.9"];
    let first = time(i) - if attempt(i) == 1 { 1_000_000 } else { 3_600_000_000 };
    vec![
        ("spooled_time", {
            let before = if attempt(i) == 1 { 2_000_000 } else { 1_000_000 };
            unless_local(json!(time(i) - before))
        }),
        ("first_attempt_time", if local && attempt(i) == 1 { Value::Null } else { json!(first) }),
        ("provider", unless_local(json!(["google", "yahoo"][i as usize % 2]))),
        ("mx_host", unless_local(json!(texts.host))),
        ("smtp_code", if code == 0 { Value::Null } else { json!(code) }),
        (
            "enhanced_status",
            match code {
                250 => json!("2.0.0"),
                450 => json!("4.7.1"),
                550 => json!("5.1.1"),
                _ => Value::Null,
            },
        ),
        ("response_text", unless_empty(shape(i).masked)),
        ("response_norm", unless_empty(shape(i).normalised)),
        ("bounce_class", json!(shape(i).words.2)),
        ("bounce_kind", json!(shape(i).words.3)),
        ("smtp_stage", json!(shape(i).words.1)),
        ("source_ip", unless_local(json!(sources[i as usize % 3]))),
        ("remote_ip", unless_local(json!(["192.0.2.7", "2001:db8::7"][i as usize % 2]))),
        ("msg_size", unless_local(json!(11_000 + i % 7))),
        ("dkim_domain", unless_local(json!("example.com"))),
        ("dkim_selector", unless_local(json!("s1"))),
    ]
}

/// What the columns that describe the row of the list must hold.
fn listed(i: u32, texts: &Texts) -> ExpectedRow {
    let unless = |divisor: u32, value: Value| {
        if i.is_multiple_of(divisor) { Value::Null } else { value }
    };
    vec![
        ("schema_version", json!(1)),
        ("run_id", json!("01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z")),
        ("campaign_id", json!("spring")),
        ("msg_seq", json!(i + 1)),
        ("input_line", json!(i + 2)),
        ("rcpt_hash", unless(11, json!(texts.hash))),
        ("rcpt_to", unless(5, json!(texts.address))),
        ("rcpt_domain", unless(13, json!(format!("d{}.example", i % 50)))),
    ]
}

/// What row `i` of `events` must hold.
fn expected_event(i: u32) -> ExpectedRow {
    let texts = texts(i);
    let (kind, stage, _) = shape(i).outcome;
    let connected = |value: Value| if shape(i).connected { value } else { Value::Null };
    let only = |yes: bool, value: Value| if yes { value } else { Value::Null };
    let sender = if stage == Stage::Local { 2 } else { i as usize % 3 };
    let mut row = listed(i, &texts);
    row.extend(shared(i, &texts));
    row.extend([
        ("event_time", json!(time(i))),
        ("event_type", json!(shape(i).words.0)),
        ("template_version", json!("aa".repeat(32))),
        ("attempt", json!(attempt(i))),
        ("is_final", json!(kind != Kind::Deferred)),
        ("ip_pool", json!([Some("bulk"), None, None][sender])),
        ("ehlo_name", json!([Some("mta1.example.com"), Some("mta2.example.com"), None][sender])),
        ("conn_key", connected(json!(i / 100 + 1))),
        ("conn_msg_index", only(shape(i).connected && !i.is_multiple_of(100), json!(i % 100))),
        ("next_attempt_time", only(kind == Kind::Deferred, json!(time(i) + 900_000_000))),
        ("queue_ms", only(stage != Stage::Local, json!(queue_ms(i)))),
        ("rate_rule", json!([None, Some("rate"), Some("warm_up")][i as usize % 3])),
        ("attempt_ms", json!(i % 400)),
        ("throttle_wait_ms", json!(i % 90 * 1_000)),
        ("connect_ms", connected(json!(12))),
        ("data_ms", only(stage == Stage::Dot, json!(35))),
    ]);
    row
}

fn queue_ms(i: u32) -> u32 {
    if attempt(i) == 1 { 2_000 } else { 3_600_000 }
}

/// Every 9th row was excluded, half of those as duplicates; every 10th of the others never tried.
fn exclusion(i: u32) -> Option<Exclusion<'static>> {
    let duplicate = Exclusion { reason: "duplicate", duplicate_of: Some(Row(i / 2 + 1)) };
    match i % 18 {
        4 => Some(duplicate),
        13 => Some(Exclusion { reason: "suppressed", duplicate_of: None }),
        _ => None,
    }
}

fn tried(i: u32) -> bool {
    exclusion(i).is_none() && !i.is_multiple_of(10)
}

fn state(i: u32) -> &'static str {
    match (exclusion(i), tried(i)) {
        (Some(_), _) => "excluded",
        (None, true) => shape(i).state,
        (None, false) => "pending",
    }
}

/// What row `i` of `messages` must hold.
fn expected_message(i: u32) -> ExpectedRow {
    let texts = texts(i);
    let kind = shape(i).outcome.0;
    let unmade = matches!(kind, Kind::Failed | Kind::Cancelled);
    let mut row = listed(i, &texts);
    row.extend([
        ("final_state", json!(state(i))),
        ("is_final", json!(state(i) != "pending")),
        ("attempts", json!(if tried(i) { attempt(i) - u16::from(unmade) } else { 0 })),
    ]);
    if i % 9 == 4 {
        let duplicate = i % 18 == 4;
        row.push(("exclusion_reason", json!(if duplicate { "duplicate" } else { "suppressed" })));
        row.push(("duplicate_of", if duplicate { json!(i / 2 + 1) } else { Value::Null }));
    }
    if tried(i) {
        row.extend(shared(i, &texts));
        row.push(("message_id_header", json!(texts.message_id)));
        if state(i) != "pending" {
            row.push(("final_time", json!(time(i))));
        }
        if state(i) == "delivered" {
            row.push(("time_to_accept_ms", json!(queue_ms(i))));
        }
        if kind == Kind::Failed {
            row.push(("exclusion_reason", json!("render_error")));
        }
    }
    row
}

fn count(word: &str) -> u64 {
    (0..ROWS).filter(|i| state(*i) == word).count() as u64
}

fn expected_run() -> ExpectedRow {
    let mut row: Vec<(&str, Value)> =
        ["excluded", "delivered", "bounced", "expired", "pending", "in_doubt", "cancelled"]
            .map(|word| (word, json!(count(word))))
            .into();
    row.extend([
        ("schema_version", json!(1)),
        ("run_id", json!("01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z")),
        ("campaign_id", json!("spring")),
        ("started", json!(START)),
        ("ended", json!(START + 120_250_000)),
        ("input_rows", json!(ROWS)),
        ("template_sha256", json!("aa".repeat(32))),
        ("list_sha256", json!("bb".repeat(32))),
        ("rate_table_sha256", json!("cc".repeat(32))),
        ("tool_version", json!("0.1.0")),
        ("cpu_seconds", json!(4.5)),
        ("wall_seconds", json!(120.25)),
    ]);
    row
}

/// The rows that a table must hold, in the order of its files.
pub(crate) fn expected(table: TableName) -> Vec<ExpectedRow> {
    match table {
        TableName::Events => (0..ROWS).map(expected_event).collect(),
        TableName::Messages => (0..ROWS).map(expected_message).collect(),
        TableName::Runs => vec![expected_run()],
    }
}

fn write_events(layout: &Layout) -> Vec<Written> {
    let mut files = EventFiles::new(layout.clone(), run(), 3);
    for i in 0..ROWS {
        let texts = texts(i);
        files.push(&outcome(i, &texts), &facts(i, &texts)).unwrap();
    }
    files.finish().unwrap()
}

fn write_messages(layout: &Layout) -> Written {
    let path = layout.file(TableName::Messages, Utc(START), &run(), 0);
    let mut writer = MessagesWriter::create(&path, &layout.work_dir(), run()).unwrap();
    for i in 0..ROWS {
        let texts = texts(i);
        let last = outcome(i, &texts);
        let row = MessageRow {
            row: Row(i + 1),
            facts: facts(i, &texts),
            exclusion: exclusion(i),
            last: tried(i).then_some(&last),
            message_id: tried(i).then_some(texts.message_id.as_str()),
        };
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn write_all(layout: &Layout) -> Vec<Written> {
    let run = run();
    let row = RunRow {
        run: &run,
        started: Utc(START),
        ended: Some(Utc(START + 120_250_000)),
        input_rows: u64::from(ROWS),
        excluded: count("excluded"),
        delivered: count("delivered"),
        bounced: count("bounced"),
        expired: count("expired"),
        pending: count("pending"),
        in_doubt: count("in_doubt"),
        cancelled: count("cancelled"),
        cpu_seconds: Some(4.5),
    };
    let path = layout.file(TableName::Runs, Utc(START), &run, 0);
    let mut written = write_events(layout);
    written.push(write_messages(layout));
    written.push(write_run(&path, &layout.work_dir(), &row).unwrap());
    written
}
