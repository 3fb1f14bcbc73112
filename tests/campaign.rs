//! campaign — whole campaign files and their templates, good and bad, as the front reads them.

#[path = "campaign/mistakes.rs"]
mod mistakes;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use mailshot::campaign::{
    Accounting, Addresses, At, Campaign, Content, Delivery, Dkim, Dns, Header, Host, KEYS, Mailbox,
    Measure, OnDoubt, Overflow, Presence, Reaction, Recipients, Route, Sender, Smarthost,
    Source as SendingSource, Threshold, Unsubscribe, Warming, Warmup, Watched, parse,
};
use mailshot::outcome::Row;
use mailshot::problem::{Place, Problem};
use mailshot::template::{Part, Source, Templates, Values};
use mailshot::units::{Rate, Utc};

const GOOD: &str = include_str!("data/campaign/good.toml");
const MINIMAL: &str = include_str!("data/campaign/minimal.toml");
const SMARTHOST: &str = include_str!("data/campaign/smarthost.toml");
const MISTAKES: &str = include_str!("data/campaign/mistakes.toml");
const HTML: &str = include_str!("data/campaign/letter.html");
const TEXT: &str = include_str!("data/campaign/letter.txt");

fn place(file: &str, line: u32, column: u32) -> Place {
    Place { file: file.to_owned(), line, column }
}

/// A value of `jobs/good.toml`.
fn at<T>(value: T, line: u32, column: u32) -> At<T> {
    At { value, place: place("jobs/good.toml", line, column) }
}

fn text(value: &str, line: u32, column: u32) -> At<String> {
    at(value.to_owned(), line, column)
}

fn mailbox(local: &str, domain: &str) -> Mailbox {
    Mailbox { local: local.to_owned(), domain: domain.to_owned() }
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The problems of the minimal campaign with `from` replaced by `to`.
fn problems_with(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    parse("c.toml", &MINIMAL.replacen(from, to, 1))
        .map_or_else(|found| shown(&found), |_| String::new())
}

fn good_keys() -> Vec<Dkim> {
    vec![
        Dkim {
            domain: text("example.com", 30, 10),
            selector: text("s2026", 31, 12),
            key_file: at(PathBuf::from("jobs/../keys/s2026.pem"), 32, 12),
        },
        Dkim {
            domain: text("bulk.example.net", 35, 10),
            selector: text("ed", 36, 12),
            key_file: at(PathBuf::from("jobs/../keys/ed.pem"), 37, 12),
        },
    ]
}

fn good_delivery() -> Delivery {
    Delivery {
        route: at(Route::Mx, 40, 9),
        port: 2525,
        ehlo_name: Some(text("out1.example.com", 42, 13)),
        connections: 50,
        rate: Some(Rate { messages: 3500, period: Duration::from_secs(3600) }),
        smarthost: None,
        rate_tables: vec![
            at(PathBuf::from("jobs/../site.toml"), 46, 16),
            at(PathBuf::from("/etc/mailshot/rates.toml"), 46, 32),
        ],
        pool: Some(text("fresh", 47, 8)),
        on_doubt: OnDoubt::Resend,
    }
}

fn good_sources() -> Vec<SendingSource> {
    vec![
        SendingSource {
            address: Some(at(IpAddr::from([192, 0, 2, 1]), 50, 11)),
            ehlo_name: Some(text("out1.example.com", 42, 13)),
            weight: 1,
            pool: "default".to_owned(),
            warmup: None,
        },
        SendingSource {
            address: Some(at(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]), 53, 11)),
            ehlo_name: Some(text("out2.example.com", 54, 13)),
            weight: 10,
            pool: "fresh".to_owned(),
            warmup: Some(Warming {
                schedule: text("slow", 57, 10),
                from: Utc(1_795_219_200_000_000),
            }),
        },
    ]
}

fn good_thresholds() -> Vec<Threshold> {
    vec![
        Threshold {
            measure: Measure::Deferral,
            above_ppm: 80_000,
            window: Duration::from_secs(7200),
            at_least: 100,
            of: Watched::Each,
            action: Reaction::Slow,
            command: Vec::new(),
            place: place("jobs/good.toml", 73, 1),
        },
        Threshold {
            measure: Measure::Block,
            above_ppm: 2_500,
            window: Duration::from_secs(3600),
            at_least: 1000,
            of: Watched::Provider(text("google", 84, 12)),
            action: Reaction::Stop,
            command: vec!["notify".to_owned(), "--loud".to_owned(), String::new()],
            place: place("jobs/good.toml", 79, 1),
        },
    ]
}

#[test]
fn a_good_file_is_the_whole_campaign() {
    let name = "{{ columns['Account Manager'] or 'Example News' }}";
    let expected = Campaign {
        id: text("spring-2026", 2, 6),
        from: Sender {
            name: Some(text(name, 3, 9)),
            mailbox: at(mailbox("news", "news.example.com"), 3, 9),
        },
        reply_to: Some(Sender {
            name: Some(text("Example, Support", 4, 0)),
            mailbox: at(mailbox("support", "example.com"), 4, 0),
        }),
        to_name: Some(text("{{ first_name }}", 5, 12)),
        return_path: at(mailbox("bounce", "news.example.com"), 6, 15),
        subject: text("{{ first_name or 'Friend' }}, spring is here", 7, 12),
        headers: vec![
            Header { name: text("X-Segment", 11, 1), template: text("{{ segment }}", 11, 14) },
            Header {
                name: text("Feedback-ID", 12, 1),
                template: text("{{ campaign }}:{{ run }}:example", 12, 16),
            },
        ],
        content: Content {
            html: Some(at(PathBuf::from("jobs/letter.html"), 15, 8)),
            text: Some(at(PathBuf::from("jobs/letter.txt"), 16, 8)),
        },
        recipients: Recipients {
            file: at(PathBuf::from("/srv/lists/spring.csv"), 19, 8),
            address: text("mail", 20, 11),
            delimiter: Some(b'\t'),
            engagement: Some(text("points", 22, 14)),
        },
        unsubscribe: Some(Unsubscribe {
            url: Some(text(
                "https://news.example.com/u/{{ token }}?m={{ address|urlencode }}",
                25,
                8,
            )),
            mailto: Some(text("unsubscribe+{{ token }}@news.example.com", 26, 11)),
            one_click: true,
        }),
        dkim: good_keys(),
        delivery: good_delivery(),
        sources: good_sources(),
        dns: Dns {
            servers: vec![
                SocketAddr::from(([127, 0, 0, 1], 5353)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 53)),
            ],
            timeout: Duration::from_secs(2),
            attempts: 2,
            ipv6: true,
            hosts: None,
        },
        warmup: Warmup {
            schedules: vec![at(PathBuf::from("jobs/slow.toml"), 70, 14)],
            overflow: Overflow::Tomorrow,
        },
        thresholds: good_thresholds(),
        accounting: Accounting {
            directory: at(PathBuf::from("/srv/accounting"), 89, 13),
            addresses: Addresses::Drop,
        },
        runs: at(PathBuf::from("jobs/out/runs"), 93, 13),
    };
    assert_eq!(parse("jobs/good.toml", GOOD), Ok(expected));
}

#[test]
fn what_is_left_out_has_the_default_of_the_key_table() {
    let campaign = parse("c.toml", MINIMAL).unwrap();
    assert_eq!(
        campaign.delivery,
        Delivery {
            route: At {
                value: Route::Host { host: Host::Name("localhost".to_owned()), port: 2525 },
                place: place("c.toml", 14, 9),
            },
            port: 25,
            ehlo_name: None,
            connections: 20,
            rate: None,
            smarthost: Some(Smarthost {
                messages_per_connection: Some(100),
                retry: [15, 30, 60, 120, 240]
                    .map(|minutes| Duration::from_secs(minutes * 60))
                    .to_vec(),
                expire_after: Duration::from_secs(3 * 86_400),
            }),
            rate_tables: vec![],
            pool: None,
            on_doubt: OnDoubt::Hold,
        }
    );
    let by_the_system = SendingSource {
        address: None,
        ehlo_name: None,
        weight: 1,
        pool: "default".to_owned(),
        warmup: None,
    };
    assert_eq!(campaign.sources, [by_the_system]);
    assert_eq!(
        campaign.dns,
        Dns {
            servers: vec![],
            timeout: Duration::from_secs(5),
            attempts: 3,
            ipv6: false,
            hosts: None
        }
    );
    assert_eq!(campaign.warmup, Warmup { schedules: vec![], overflow: Overflow::Warm });
    assert_eq!((campaign.thresholds, campaign.recipients.engagement), (vec![], None));
    let whole = Place::whole("c.toml");
    assert_eq!(campaign.runs, At { value: PathBuf::from("runs"), place: whole.clone() });
    assert_eq!(
        campaign.accounting,
        Accounting {
            directory: At { value: PathBuf::from("accounting"), place: whole },
            addresses: Addresses::Keep,
        }
    );
    assert_eq!(campaign.recipients.address.value, "email");
    assert_eq!((campaign.unsubscribe, campaign.dkim, campaign.headers), (None, vec![], vec![]));
}

#[test]
fn mail_goes_to_mail_hosts_unless_a_smarthost_is_named() {
    for with in ["route = \"mx\"\n", ""] {
        let campaign = parse("c.toml", &MINIMAL.replace("route = \"localhost:2525\"\n", with));
        let delivery = campaign.unwrap().delivery;
        assert_eq!(delivery.route.value, Route::Mx);
        assert_eq!((delivery.port, delivery.connections), (25, 1000));
        assert_eq!(delivery.smarthost, None);
    }
    let delivery = parse("c.toml", SMARTHOST).unwrap().delivery;
    let host = Host::Ip(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x25]));
    assert_eq!(delivery.route.value, Route::Host { host, port: 2525 });
    assert_eq!(
        delivery.smarthost,
        Some(Smarthost {
            messages_per_connection: None,
            retry: vec![Duration::from_secs(300), Duration::from_secs(5400)],
            expire_after: Duration::from_secs(172_800),
        })
    );
}

#[test]
fn ten_mistakes_are_ten_problems() {
    let problems = parse("mistakes.toml", MISTAKES).unwrap_err();
    assert_eq!(problems.len(), 10);
    assert_eq!(shown(&problems), include_str!("data/campaign/mistakes.txt"));
}

#[test]
fn each_mistake_is_told_where_it_stands() {
    for (from, to, expected) in mistakes::OF_THE_MINIMAL {
        let found = problems_with(from, to);
        assert!(found.contains(expected), "{to:?} gave:\n{found}");
    }
}

/// One mistake is one problem, also where a missing key would be a second one.
#[test]
fn a_misspelt_key_is_not_missing_too() {
    for (from, to) in [
        ("text = \"letter.txt\"", "texts = \"letter.txt\""),
        ("route = ", "rout = "),
        ("[recipients]", "[recipient]"),
        ("[delivery]", "[unsubscribe]\nurls = \"https://n.example/{{ token }}\"\n[delivery]"),
    ] {
        let found = problems_with(from, to);
        assert_eq!(found.matches("c.toml:").count(), 1, "{found}");
        assert!(found.contains("did you mean"), "{found}");
    }
}

#[test]
fn syntax_errors_come_with_the_mistakes_around_them() {
    let broken = MINIMAL
        .replace("subject = \"Hello\"", "subject = \"Hello")
        .replace("\"localhost:2525\"", "\"localhost\"");
    let problems = parse("c.toml", &broken).unwrap_err();
    assert_eq!(
        shown(&problems),
        "c.toml:4:17: not TOML: invalid basic string, expected `\"`\n\
         c.toml:14:9: delivery.route: \"localhost\" is not a host and port: there is no port\n    \
         help: it must be \"mx\", or the \"host:port\" of a smarthost; an IPv6 address stands in \
         brackets\n"
    );
    let twice = MINIMAL.replace("[delivery]", "[content]\nhtml = \"b\"\n[delivery]");
    let problems = parse("c.toml", &twice).unwrap_err();
    assert_eq!(shown(&problems), "c.toml:13:2: not TOML: duplicate key\n");
}

#[test]
fn domains_align_with_their_parents_and_children() {
    for domain in ["example.com", "bulk.example.com", "EXAMPLE.COM"] {
        let key = format!("[[dkim]]\ndomain = '{domain}'\nselector = 's'\nkey_file = 'k'");
        assert_eq!(problems_with("unsigned = true", &key), "", "{domain}");
    }
}

/// Every key is decoded: a table is no key's form, so a file of tables has one problem per key.
#[test]
fn every_key_of_the_table_is_decoded() {
    let mut keys: Vec<_> = KEYS.iter().filter(|key| key.name() != "*").collect();
    keys.sort_by_key(|key| key.section());
    let mut file = String::new();
    for (index, key) in keys.iter().enumerate() {
        let opens = index == 0 || keys[index - 1].section() != key.section();
        match key.section() {
            "dkim" | "source" | "threshold" if opens => {
                file.push_str(&format!("[[{}]]\n", key.section()));
            }
            section if opens && !section.is_empty() => file.push_str(&format!("[{section}]\n")),
            _ => {}
        }
        file.push_str(&format!("{} = {{}}\n", key.name()));
    }
    let found: Vec<String> =
        parse("c.toml", &file).unwrap_err().into_iter().map(|problem| problem.what).collect();
    let expected: Vec<String> =
        keys.iter().map(|key| format!("{} is a section", key.path)).collect();
    assert_eq!(found, expected);
}

/// What the table calls required is required, and nothing else is.
#[test]
fn required_keys_are_those_of_the_table() {
    let all = "[unsubscribe]\nmailto = 'a@b.example'\n[[dkim]]\n[[source]]\n[[threshold]]\n\
               [content]\ntext = 'a'\n";
    let found: Vec<String> =
        parse("c.toml", all).unwrap_err().into_iter().map(|problem| problem.what).collect();
    let mut expected: Vec<String> = KEYS
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| format!("{} is missing", key.path))
        .collect();
    // Those of sections that are there are told in the order of their lines.
    let lines = ["dkim.", "source.", "threshold."];
    expected.sort_by_key(|what| {
        let line = lines.iter().position(|section| what.starts_with(section));
        (line.map_or(0, |line| line + 1), what.clone())
    });
    assert_eq!(found, expected);
}

/// README.md's example is a campaign, and names every key that `route = "mx"` bears; those of a
/// smarthost stand in its comments.
#[test]
fn the_readme_shows_every_key() {
    let readme = include_str!("../README.md");
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("there is an example");
    assert_eq!(parse("c.toml", example).map_err(|found| shown(&found)).err(), None);
    for key in KEYS.iter().filter(|key| key.name() != "*") {
        let shown = example.lines().any(|line| {
            line.trim_start_matches("# ")
                .split('=')
                .next()
                .is_some_and(|it| it.trim() == key.name())
        });
        assert!(shown, "{}", key.path);
    }
}

fn source(part: Part, file: &str, text: &str) -> Source {
    Source { part, text: text.to_owned(), place: place(file, 1, 1) }
}

fn header(template: &At<String>, part: Part) -> Source {
    Source { part, text: template.value.clone(), place: template.place.clone() }
}

/// The problems of one template for a list with a few columns.
fn template_problems(part: Part, text: &str) -> String {
    let columns = ["email", "First Name", "user.name", "row", "city", "city"].map(str::to_owned);
    match Templates::compile(vec![source(part, "t", text)], &columns) {
        Ok(_) => String::new(),
        Err(found) => shown(&found),
    }
}

#[test]
fn a_campaign_renders_its_letter() {
    let campaign = parse("c.toml", GOOD).unwrap();
    let unsubscribe = campaign.unsubscribe.unwrap();
    let sources = vec![
        header(&campaign.subject, Part::Subject),
        header(&campaign.from.name.unwrap(), Part::FromName),
        header(&campaign.headers[0].template, Part::Header(0)),
        header(&unsubscribe.url.unwrap(), Part::UnsubscribeUrl),
        header(&unsubscribe.mailto.unwrap(), Part::UnsubscribeMailto),
        source(Part::Html, "letter.html", HTML),
        source(Part::Text, "letter.txt", TEXT),
    ];
    let columns = ["mail", "first_name", "Account Manager", "segment", "points", "unused"];
    let templates = Templates::compile(sources, &columns.map(str::to_owned)).unwrap();
    assert_eq!(templates.columns_used(Part::is_header), [1, 2, 3]);
    assert_eq!(templates.columns_used(|part| part == Part::Text), [1, 4]);
    assert!(templates.has(Part::Html) && !templates.has(Part::ToName));

    let cells = ["ada@example.org", "Ada <3", "", "\"gold\"", "12", "-"];
    let values = Values {
        cell: &|column| cells[column],
        address: "ada+x@example.org",
        row: Row(7),
        token: "TOKEN",
        run: "RUN",
        campaign: "spring-2026",
    };
    let row = templates.row(&values).unwrap();
    let url = "https://news.example.com/u/TOKEN?m=ada%2Bx%40example.org";
    assert_eq!(row.unsubscribe_url(), Some(url));
    for (part, expected) in [
        (Part::Subject, "Ada <3, spring is here".to_owned()),
        (Part::FromName, "Example News".to_owned()),
        (Part::Header(0), "\"gold\"".to_owned()),
        (Part::UnsubscribeMailto, "unsubscribe+TOKEN@news.example.com".to_owned()),
        (Part::Text, format!("Dear Ada <3,\nyou have 12 points.\n\nStop these letters: {url}\n")),
        (
            Part::Html,
            "<p>Dear Ada &lt;3,</p>\n\
             <p>you have <b title=\"&quot;gold&quot;\">12</b> points.</p>\n\
             <p><a href=\"https:&#x2f;&#x2f;news.example.com&#x2f;u&#x2f;TOKEN?m=\
             ada%2Bx%40example.org\">Stop these letters</a></p>\n"
                .to_owned(),
        ),
    ] {
        let mut out = String::new();
        assert_eq!(templates.render(part, &row, &mut out), Ok(()));
        assert_eq!(out, expected);
    }
}

#[test]
fn all_problems_of_all_templates_come_at_once() {
    let columns = ["first_name", "First Name"].map(str::to_owned);
    let mut subject = source(Part::Subject, "c.toml", "{{ frist_name }}");
    subject.place = place("c.toml", 7, 12);
    let html = "<p>\n{{ first_name|uper }} {{ strptime(1) }}\n{% if first_name is evenn %}x";
    let text = "{{ First_Name }}\n{% if 0 %}\n  {{ columns['Frist Name'] }}{{ columns.x }}\n\
                {% endif %}\n{{ unsubscribe_url }}";
    let sources = vec![
        source(Part::Text, "t.txt", text),
        source(Part::Html, "h.html", html),
        source(Part::ToName, "h2.html", &format!("{html}{{% endif %}}").replace('\n', "")),
        subject,
    ];
    let problems = Templates::compile(sources, &columns).unwrap_err();
    let expected = r#"
c.toml:7:15: unknown variable "frist_name"
    help: did you mean first_name?
    line: {{ frist_name }}
h.html:3:29: syntax error: unexpected end of input, expected end of block
    help: the line is {% if first_name is evenn %}x
h2.html:1:18: unknown filter "uper"
    help: did you mean upper?
    line: <p>{{ first_name|uper }} {{ strptime(1) }}{% if first_name is evenn…
h2.html:1:29: unknown function "strptime"
    help: there are dict, namespace, range and the template's own macros
    line: <p>{{ first_name|uper }} {{ strptime(1) }}{% if first_name is evenn %}x{% endi…
h2.html:1:63: unknown test "evenn"
    help: did you mean even?
    line: …name|uper }} {{ strptime(1) }}{% if first_name is evenn %}x{% endif %}
t.txt:1:4: unknown variable "First_Name"
    help: did you mean columns["First Name"]?
    line: {{ First_Name }}
t.txt:3:6: unknown column "Frist Name"
    help: did you mean columns["First Name"]?
    line: {{ columns['Frist Name'] }}{{ columns.x }}
t.txt:3:33: unknown column "x"
    help: the list has first_name, columns["First Name"]
    line: {{ columns['Frist Name'] }}{{ columns.x }}
t.txt:5:4: unsubscribe_url is used, but the campaign has none
    help: give [unsubscribe] a url
    line: {{ unsubscribe_url }}
"#;
    assert_eq!(shown(&problems), expected.trim_start());
}

#[test]
fn templates_are_refused_for_what_no_row_could_mend() {
    for (part, text, expected) in [
        (Part::Subject, "a{{ email }}\nb", "t:1:13: the subject has a line break"),
        (Part::Header(0), "a\u{7}", "t:1:2: header 1 cannot contain '\\u{7}'"),
        (
            Part::Text,
            "{{ email.upper() }}",
            "t:1:4: email has no method \"upper\"\n    help: write email|upper\n",
        ),
        (
            Part::Text,
            "{{ email.strip() }}",
            "t:1:4: email has no method \"strip\"\n    help: values have filters",
        ),
        (Part::Text, "{{ email.x }}", "t:1:4: email is a single value and has no attribute \"x\""),
        (
            Part::Text,
            "{{ user.name }}",
            "t:1:4: unknown variable \"user\"\n    help: write columns[\"user.name\"]\n",
        ),
        (
            Part::Text,
            "{{ row }}",
            "t:1:4: \"row\" is a column of the list and also a name of ours\n    \
             help: write columns[\"row\"]",
        ),
        (Part::Text, "{{ city }}", "t:1:4: the list has more than one column \"city\""),
        (Part::Text, "\n{% include 'x' %}", "t:2:4: a template cannot include"),
        (Part::Text, "{% if 0 %}{{ debug() }}{% endif %}", "t:1:14: unknown function \"debug\""),
        (Part::Text, "{{ email|list|map('uper')|join }}", "unknown filter \"uper\""),
        (Part::Text, "{{ email|list|select('evenn') }}", "unknown test \"evenn\""),
        (Part::Text, "{% for a in email %}{% endfor %}{{ a }}", "t:1:36: unknown variable \"a\""),
        (Part::Text, "{{ loop.index }}", "t:1:4: unknown variable \"loop\""),
        (Part::Text, "{% raw %}", "t:1:10: syntax error"),
        (
            Part::UnsubscribeUrl,
            "https://n.example/{{ run }}",
            "t:1:1: the unsubscribe URL is the same for everyone",
        ),
        (
            Part::UnsubscribeUrl,
            "https://n.example/{{ unsubscribe_url }}",
            "t:1:22: the unsubscribe URL refers to itself",
        ),
        (
            Part::UnsubscribeUrl,
            "https://n.example/ {{ token }}",
            "t:1:19: the unsubscribe URL cannot contain ' '",
        ),
    ] {
        let found = template_problems(part, text);
        assert!(found.contains(expected), "{text:?} gave:\n{found}");
        assert_eq!(found.matches("\nt:").count(), 0, "one problem:\n{found}");
    }
}

#[test]
fn what_templates_declare_themselves_is_known() {
    for text in [
        "{% set a = 1 %}{% if a %}{% set b = 2 %}{% endif %}{{ a }}{{ b }}",
        "{% for k, v in dict(a=email)|items %}{{ loop.index }}{{ loop.cycle(k, v) }}{% endfor %}",
        "{% macro m(a, b=email) %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}\
         {% call m(1) %}x{% endcall %}",
        "{% set ns = namespace(n=0) %}\
         {% for c in email %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{% with a = email, b = a %}{{ a ~ b }}{% endwith %}\
         {% set c %}{{ email }}{% endset %}{{ c }}",
        "{% filter upper %}{{ email }}{% endfilter %}{{ 'x' if email else columns['First Name'] }}",
        "{% block a %}{{ email[1:] }}{% endblock %}{{ self.a() }}",
        "{{ email is defined }}{{ range(3)|join(',') }}{{ address|urlencode }}",
    ] {
        assert_eq!(template_problems(Part::Text, text), "", "{text}");
    }
}

/// Where to cut, how many characters, and what to put there instead.
type Cut = (prop::sample::Index, usize, String);

fn cuts(inserted: &'static str) -> impl Strategy<Value = Vec<Cut>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..9usize, inserted), 1..6)
}

fn mutated(text: &str, cuts: Vec<Cut>) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (at, removed, inserted) in cuts {
        let at = at.index(text.len() + 1);
        let end = (at + removed).min(text.len());
        text.splice(at..end, inserted.chars());
    }
    text.into_iter().collect()
}

proptest! {
    #[test]
    fn parse_never_panics_on_any_text(text in any::<String>()) {
        if let Err(problems) = parse("c.toml", &text) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn parse_never_panics_on_a_mutated_file(
        cuts in cuts(".{0,3}|[\\[\\]{}=\"'.,#\n\\\\-]{0,3}")
    ) {
        let text = mutated(GOOD, cuts);
        if let Err(problems) = parse("c.toml", &text) {
            prop_assert!(!problems.is_empty());
            let last = u32::try_from(text.lines().count()).unwrap() + 1;
            prop_assert!(problems.iter().all(|problem| problem.place.line <= last));
        }
    }

    #[test]
    fn compile_never_panics_on_a_mutated_template(
        cuts in cuts(".{0,3}|[%{}|()\"'. a-c\n]{0,5}")
    ) {
        let text = mutated(HTML, cuts);
        let columns = ["first_name", "segment", "points"].map(str::to_owned);
        for part in [Part::Html, Part::Subject] {
            if let Err(problems) = Templates::compile(vec![source(part, "t", &text)], &columns) {
                prop_assert!(!problems.is_empty());
            }
        }
    }
}
