//! tables — rate tables as the front reads them: good and bad ones, in layers, from real MX sets,
//! from CSV, and through the program itself.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use proptest::prelude::*;

use mailshot::problem::Problem;
use mailshot::rates::table::{self, Layer, Line, Row, SHIPPED, Table};
use mailshot::rates::{IpPolicy, Quirk, Tls};
use mailshot::units::Rate;

/// A site's table over the shipped one.
fn over_shipped(text: &str) -> Result<Table, Vec<Problem>> {
    Table::read(&[SHIPPED, layer("site.toml", text)])
}

fn layer<'a>(file: &'a str, text: &'a str) -> Layer<'a> {
    Layer { file, text, section: None }
}

fn row<'t>(table: &'t Table, name: &str) -> &'t Row {
    table.row(name).unwrap_or_else(|| panic!("there is a row {name}"))
}

fn line(row: &Row, key: &str) -> Line {
    let found = row.explain().into_iter().find(|line| line.key == key);
    found.unwrap_or_else(|| panic!("{} has {key}", row.name))
}

fn per_hour(messages: u32) -> Rate {
    Rate { messages, period: Duration::from_secs(3600) }
}

fn minutes(waits: &[u64]) -> Vec<Duration> {
    waits.iter().map(|wait| Duration::from_secs(wait * 60)).collect()
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Each table, the place of its only problem, and words that the problem says.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "[default]\nconnection = 5\n",
        "2:1",
        &["unknown key \"connection\" in [default]", "did you mean \"connections\"?"],
    ),
    ("[default]\nzebra = 5\n", "2:1", &["unknown key \"zebra\"", "there are connections, "]),
    (
        "[default]\nmx = [\".a.example\"]\n",
        "2:1",
        &["unknown key \"mx\"", "belongs to the row of a provider"],
    ),
    ("[google]\nrate = \"1/s\"\n", "1:2", &["unknown key \"google\"", "[provider.NAME]"]),
    (
        "[provider.google]\nrates = \"1/s\"\n",
        "2:1",
        &["\"rates\" in [provider.google]", "did you mean \"rate\"?"],
    ),
    ("default = 3\n", "1:11", &["default is a whole number", "a section, [default]"]),
    ("provider = []\n", "1:12", &["provider is a list", "a section, [provider]"]),
    ("[provider]\ngoogle = true\n", "2:10", &["provider.google is true or false", "a section"]),
    (
        "[provider.google]\nrate = 3500\n",
        "2:8",
        &["provider.google.rate is a whole number", "such as \"3500/h\""],
    ),
    ("[provider.google]\nrate = [3500]\n", "2:9", &["provider.google.rate is a whole number"]),
    (
        "[provider.google]\nconnections = \"8\"\n",
        "2:15",
        &["connections is a text", "from 1 to 10000"],
    ),
    ("[provider.google]\nconnections = 0\n", "2:15", &["connections: is 0, which allows nothing"]),
    (
        "[provider.google]\nconnections = 10001\n",
        "2:15",
        &["10001 is out of range", "from 1 to 10000"],
    ),
    ("[provider.google]\nconnections_total = 0\n", "2:21", &["is 0, which allows nothing"]),
    (
        "[provider.google]\nmessages_per_connection = -1\n",
        "2:27",
        &["-1 is out of range", "0 for no limit"],
    ),
    ("[provider.google]\nrate = \"0/h\"\n", "2:8", &["\"0/h\" allows no message at all"]),
    (
        "[provider.google]\nrate_total = [\"5/h\", \"0/d\"]\n",
        "2:22",
        &["\"0/d\" allows no message at all"],
    ),
    ("[provider.google]\nrate_dkim = \"fast\"\n", "2:13", &["\"fast\" is not a rate"]),
    ("[provider.google]\nrate = \"5/10ms\"\n", "2:8", &["below one second"]),
    ("[provider.google]\nretry = [\"15m\", \"1 fortnight\"]\n", "2:17", &["is not a duration"]),
    ("[provider.google]\nretry = [\"0s\"]\n", "2:10", &["\"0s\" is no time at all"]),
    ("[provider.google]\nramp = \"0s\"\n", "2:8", &["\"0s\" is no time at all"]),
    ("[provider.google]\nexpire_after = \"soon\"\n", "2:16", &["\"soon\" is not a duration"]),
    ("[provider.google]\nretry = []\n", "2:9", &["the list is empty", "a list of durations"]),
    ("[provider.google]\nrate = []\n", "2:8", &["the list is empty"]),
    ("[provider.google]\nmx = []\n", "2:6", &["the list is empty", "a list of mail hosts"]),
    (
        "[provider.google]\nmx_add = [\"*.google.com\"]\n",
        "2:11",
        &["\"*.google.com\" is no mail host", "leading dot"],
    ),
    (
        "[provider.google]\nmx_add = [\".com\"]\n",
        "2:11",
        &["whole top-level domain", "at least two labels"],
    ),
    ("[provider.google]\nper_site = 1\n", "2:12", &["per_site is a whole number", "true or false"]),
    ("[provider.google]\ntls = \"always\"\n", "2:7", &["\"always\" is no choice", "\"verified\""]),
    ("[provider.google]\nip = 4\n", "2:6", &["ip is a whole number", "\"v4-first\""]),
    (
        "[provider.google]\nquirks = [\"slow\"]\n",
        "2:11",
        &["\"slow\" is no choice", "\"no-pipelining\""],
    ),
    ("[provider.google]\nconnections = 8\nsource = \" \"\n", "3:10", &["source: it is empty"]),
    (
        "[provider.google]\nconnections = 8\nsources = { rate = \"x\" }\n",
        "3:20",
        &["names rate, which this row does not give"],
    ),
    (
        "[provider.google]\nconnections = 8\nsources = { connections = 1 }\n",
        "3:27",
        &["sources.connections is a whole number"],
    ),
    (
        "[provider.\"mail.com\"]\nmx = [\".x.example\"]\n",
        "1:11",
        &["\"mail.com\" cannot name a provider"],
    ),
    (
        "[provider.default]\nconnections = 3\n",
        "1:11",
        &["\"default\" is no provider", "its row is [default]"],
    ),
    (
        "[provider.gogle]\nrate = \"1/s\"\n",
        "1:11",
        &["provider gogle has no mx", "did you mean \"google\"?"],
    ),
    (
        "[provider.acme]\nmx = [\".acme.example\"]\n",
        "1:11",
        &["provider acme has no limits of its own"],
    ),
    (
        "[provider.acme]\nmx = [\".acme.example\"]\nretry = [\"1h\"]\n",
        "1:11",
        &["no limits of its own"],
    ),
    (
        "[provider.acme]\nmx = [\".l.google.com\"]\nconnections = 1\n",
        "2:7",
        &[
            "\".l.google.com\" of provider acme overlaps \".google.com\" of provider google",
            " (datasets/rates.toml:47:7)",
        ],
    ),
    ("[provider.acme]\nmx = [\"smtp.google.com\"]\nrate = \"1/s\"\n", "2:7", &["overlaps"]),
    (
        "[provider.gmx]\nmx_add = [\".google.com\"]\n",
        "2:11",
        &["of provider gmx overlaps \".google.com\" of provider google"],
    ),
    (
        "[provider.google]\nexpire_after = \"10m\"\n",
        "2:16",
        &["google: expire_after 10m is below the first retry, 15m (datasets/rates.toml:"],
    ),
    (
        "[default]\nretry = [\"4d\"]\n",
        "2:9",
        &["default: expire_after 3d is below the first retry, 4d"],
    ),
    (
        "[default]\nexpire_after = \"20m\"\n",
        "2:16",
        &["default: expire_after 20m is below the first retry, 30m"],
    ),
    ("[provider.google]\nrate = \"5/h\n", "2:12", &["not TOML"]),
    ("[provider.google\nrate = \"5/h\"\n", "1:17", &["not TOML"]),
    ("[default]\nconnections = 3\nconnections = 4\n", "3:1", &["not TOML", "duplicate key"]),
];

#[test]
fn each_bad_table_gives_one_clear_problem_with_its_place() {
    for (text, place, words) in BAD {
        let problems = over_shipped(text).expect_err(text);
        let shown = shown(&problems);
        assert_eq!(problems.len(), 1, "{text}\n{shown}");
        assert!(shown.starts_with(&format!("site.toml:{place}: ")), "{place} of {text}\n{shown}");
        for word in *words {
            assert!(shown.contains(word), "{word:?} is not said of {text}\n{shown}");
        }
    }
}

#[test]
fn every_problem_has_something_to_do() {
    for (text, _, _) in BAD {
        for problem in over_shipped(text).expect_err(text) {
            let parser = problem.what.starts_with("not TOML");
            assert!(parser || !problem.help.is_empty(), "{problem}");
        }
    }
}

#[test]
fn all_problems_of_all_layers_come_at_once_in_their_order() {
    let site = "[default]\nrate = \"0/h\"\n[provider.new]\nconections = 1\n";
    let own = "id = \"x\"\n[rates.provider.gmx]\nmx_add = [\".t-online.de\"]\nramp = 5\n";
    let layers = [
        SHIPPED,
        layer("site.toml", site),
        Layer { file: "campaign.toml", text: own, section: Some("rates") },
    ];
    let problems = Table::read(&layers).expect_err("four mistakes");
    let places: Vec<String> = problems.iter().map(|problem| problem.place.to_string()).collect();
    let expected = [
        "site.toml:2:8",
        "site.toml:3:11",
        "site.toml:4:1",
        "campaign.toml:3:11",
        "campaign.toml:4:8",
    ];
    assert_eq!(places, expected, "{}", shown(&problems));
    assert!(problems[4].what.starts_with("rates.provider.gmx.ramp"), "{}", problems[4]);
}

#[test]
fn the_lowest_layer_says_who_stands_for_each_number() {
    let whole = "[default]\nconnections = 3\nrate = \"800/h\"\nmessages_per_connection = 30\n\
                 retry = [\"30m\"]\nexpire_after = \"3d\"\n";
    let problems = Table::read(&[layer("t.toml", whole)]).expect_err("nobody stands for it");
    assert_eq!(
        shown(&problems),
        "t.toml:2:1: nobody stands for connections, rate, messages_per_connection, retry, \
         expire_after in [default]\n    help: say who gives the numbers, under source or sources\n"
    );
    let one = format!("{whole}sources = {{ connections = \"me\", rate = \"me\" }}\n");
    let problems = Table::read(&[layer("t.toml", &one)]).expect_err("nobody stands for three");
    assert!(problems[0].what.contains("for messages_per_connection, retry, expire_after in"));
    let all = format!("{whole}source = \"me\"\n");
    assert!(Table::read(&[layer("t.toml", &all)]).is_ok());
}

#[test]
fn a_table_has_a_default_row() {
    let text = "[default]\nconnections = 3\nretry = [\"30m\"]\nsource = \"me\"\n";
    let problems = Table::read(&[layer("t.toml", text)]).expect_err("no rate");
    let expected = "t.toml: the default row has no rate, messages_per_connection, expire_after\n";
    assert!(shown(&problems).starts_with(expected), "{}", shown(&problems));
    assert!(Table::read(&[]).is_err());
}

#[test]
fn later_layers_override_key_by_key() {
    let site = "[default]\nrate = [\"500/h\", \"5000/24h\"]\nquirks = \"no-pipelining\"\n\
                [provider.google]\nconnections = 2\nip = \"v6-first\"\nramp = \"10s\"\n\
                messages_per_connection = 0\nrate_dkim = \"9/s\"\nconnections_total = 64\n\
                [provider.acme]\nmx = [\"MX.Acme.example.\"]\nrate_total = \"7/m\"\n\
                per_site = true\n";
    let own = "[rates.provider.google]\nconnections = 1\ntls = \"verified\"\nquirks = []\n\
               mx_add = [\".google.example\"]\n[rates.provider.gmx]\nmx = [\"mx.gmx.example\"]\n";
    let table = Table::read(&[
        SHIPPED,
        layer("site.toml", site),
        Layer { file: "campaign.toml", text: own, section: Some("rates") },
    ])
    .expect("a good table");

    let google = row(&table, "google").limits();
    assert_eq!((google.connections, google.connections_total), (1, Some(64)));
    assert_eq!(google.rates, [per_hour(3500)], "its own beats a default, however late that is");
    assert_eq!(google.rates_dkim.len(), 1);
    assert_eq!(
        (google.messages_per_connection, google.ramp),
        (None, Some(Duration::from_secs(10)))
    );
    assert_eq!((google.tls, google.ip), (Tls::Verified, IpPolicy::V6First));
    assert_eq!(google.quirks, [], "an empty list takes back what lies below");
    assert_eq!(google.retry.steps, minutes(&[15, 30, 60, 120, 240]));

    let yahoo = row(&table, "yahoo").limits();
    assert_eq!((yahoo.quirks, yahoo.rates), (vec![Quirk::NoPipelining], vec![per_hour(2500)]));
    let apple = row(&table, "apple").limits();
    assert_eq!(apple.rates.iter().map(Rate::to_string).collect::<Vec<_>>(), ["500/h", "5000/d"]);
    assert_eq!(apple.connections, 10);
    let acme = row(&table, "acme");
    assert_eq!((acme.per_site, acme.limits().connections), (true, 3));

    let provider = |host| table.provider_of(&[host]).map(|row| row.name.as_str());
    assert_eq!(provider("mx.google.example"), Some("google"), "mx_add extends");
    assert_eq!(provider("smtp.google.com"), Some("google"));
    assert_eq!(provider("mx.gmx.example"), Some("gmx"), "mx replaces");
    assert_eq!(provider("mx00.gmx.net"), None);
    assert_eq!(provider("mx.acme.example"), Some("acme"));
}

#[test]
fn a_campaign_without_rates_changes_nothing() {
    let own = "id = \"x\"\n[delivery]\nrate = \"0/h\"\n";
    let own = Layer { file: "campaign.toml", text: own, section: Some("rates") };
    assert_eq!(Table::read(&[SHIPPED, own]), Ok(Table::shipped()));
    assert_eq!(over_shipped(""), Ok(Table::shipped()));
}

#[test]
fn a_moved_suffix_overlaps_no_more() {
    let moved = "[provider.google]\nmx = [\".googlemail.com\"]\n\
                 [provider.workspace]\nmx = [\".google.com\"]\nrate = \"100/h\"\n";
    let table = over_shipped(moved).expect("each host has one provider");
    let found = table.provider_of(&["aspmx.l.google.com"]).expect("somebody's");
    assert_eq!(found.name, "workspace");
}

#[test]
fn each_number_knows_its_place_its_source_and_what_it_overrides() {
    let site = "[provider.google]\nrate = \"1000/h\"\nconnections = 4\n\
                sources = { connections = \"postmaster, 3 May\" }\n[default]\nip = \"v6-first\"\n";
    let table = over_shipped(site).expect("a good table");
    let google = row(&table, "google");
    let shipped = |text: &str, of: &str| {
        let start = SHIPPED.text.find(of).expect("the row is there");
        let line = start + SHIPPED.text[start..].find(text).expect("the key is there");
        let number = SHIPPED.text[..line].matches('\n').count() + 1;
        format!("datasets/rates.toml:{number}:{}", text.find("= ").expect("a value") + 3)
    };

    let rate = line(google, "rate");
    assert_eq!((rate.value.as_str(), rate.place.to_string().as_str()), ("1000/h", "site.toml:2:8"));
    assert_eq!(rate.source, "site.toml:2", "a site's file stands for itself");
    let overrides: Vec<(String, &str)> =
        rate.overrides.iter().map(|(place, value)| (place.to_string(), value.as_str())).collect();
    let expected = [
        (shipped("rate = \"3500/h\"", "[provider.google]"), "3500/h"),
        (shipped("rate = \"800/h\"", "[default]"), "800/h"),
    ];
    assert_eq!(overrides, expected, "the nearest first");

    assert_eq!(line(google, "connections").source, "postmaster, 3 May");
    let messages = line(google, "messages_per_connection");
    assert_eq!(messages.source, "Cloud Server for Email, April 2026");
    assert_eq!(line(google, "ip").place.to_string(), "site.toml:6:6", "from the default row");
    let suffix = google.claims("SMTP.google.com.").expect("a host of theirs");
    assert_eq!(
        suffix.place.to_string(),
        shipped("mx = [", "[provider.google]").replace(":6", ":7")
    );
}

#[test]
fn the_shipped_table_has_the_numbers_it_promises() {
    let table = Table::shipped();
    for (name, connections, rate, wait, messages) in [
        ("google", 8, 3500, 15, 100),
        ("microsoft", 5, 2000, 25, 50),
        ("yahoo", 6, 2500, 20, 100),
        ("gmx", 4, 1500, 30, 50),
        ("t-online", 3, 1200, 30, 50),
        ("orange", 3, 1000, 30, 30),
        ("default", 3, 800, 30, 30),
    ] {
        let limits = row(&table, name).limits();
        assert_eq!((limits.connections, &limits.rates[..]), (connections, &[per_hour(rate)][..]));
        assert_eq!(limits.messages_per_connection, Some(messages), "{name}");
        assert_eq!(limits.retry.steps[0], minutes(&[wait])[0], "{name}");
        assert_eq!(limits.retry.expire_after, Duration::from_secs(3 * 86_400), "{name}");
        assert_eq!((limits.tls, limits.ip), (Tls::Opportunistic, IpPolicy::V4Only), "{name}");
    }
    for row in table.rows.iter().chain([&table.default]) {
        let steps = row.limits().retry.steps;
        let longest = minutes(&[240])[0];
        assert_eq!(steps.last(), Some(&longest), "{}", row.name);
        for pair in steps.windows(2) {
            assert_eq!(pair[1], (pair[0] * 2).min(longest), "the waits of {} double", row.name);
        }
        for line in row.explain() {
            assert!(!line.source.starts_with("datasets/"), "{} {}", row.name, line.key);
        }
    }
    let per_site: Vec<&str> =
        table.rows.iter().filter(|row| row.per_site).map(|row| row.name.as_str()).collect();
    assert_eq!(per_site, ["mimecast", "proofpoint"]);
}

/// MX sets as the DNS gives them, and whose they are.
const SETS: &[(&[&str], Option<&str>)] = &[
    (
        &[
            "gmail-smtp-in.l.google.com.",
            "alt1.gmail-smtp-in.l.google.com.",
            "alt2.gmail-smtp-in.l.google.com.",
            "alt3.gmail-smtp-in.l.google.com.",
            "alt4.gmail-smtp-in.l.google.com.",
        ],
        Some("google"),
    ),
    (
        &[
            "ASPMX.L.GOOGLE.COM",
            "ALT1.ASPMX.L.GOOGLE.COM",
            "ALT2.ASPMX.L.GOOGLE.COM",
            "ASPMX2.GOOGLEMAIL.COM",
            "ASPMX3.GOOGLEMAIL.COM",
        ],
        Some("google"),
    ),
    (&["smtp.google.com"], Some("google")),
    (&["outlook-com.olc.protection.outlook.com"], Some("microsoft")),
    (&["contoso-com.mail.protection.outlook.com"], Some("microsoft")),
    (&["contoso-com.r-v1.mx.microsoft"], Some("microsoft")),
    (&["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net", "mta7.am0.yahoodns.net"], Some("yahoo")),
    (&["mx-eu.mail.am0.yahoodns.net"], Some("yahoo")),
    (&["mx1.mail.yahoo.co.jp", "mx2.mail.yahoo.co.jp"], Some("yahoo-jp")),
    (&["mx00.gmx.net", "mx01.gmx.net"], Some("gmx")),
    (&["mx-ha02.web.de", "mx-ha03.web.de"], Some("gmx")),
    (&["mx00.t-online.de", "mx01.t-online.de", "mx02.t-online.de"], Some("t-online")),
    (&["smtp-in.orange.fr"], Some("orange")),
    (&["mx01.mail.icloud.com", "mx02.mail.icloud.com"], Some("apple")),
    (&["mx1.qq.com", "mx2.qq.com", "mx3.qq.com"], Some("tencent")),
    (&["163mx01.mxmail.netease.com"], Some("netease")),
    (&["us-smtp-inbound-1.mimecast.com", "us-smtp-inbound-2.mimecast.com"], Some("mimecast")),
    (&["mx0a-00123456.pphosted.com", "mx0b-00123456.pphosted.com"], Some("proofpoint")),
    (&["aspmx.l.google.com", "mx2.example.net"], None),
    (&["mx2.example.net", "aspmx.l.google.com"], None),
    (&["aspmx.l.google.com", "contoso-com.mail.protection.outlook.com"], None),
    (&["mail.example.net"], None),
    (&["google.com.example.net"], None),
    (&[""], None),
    (&[], None),
];

#[test]
fn a_domain_is_a_providers_when_all_its_hosts_are() {
    let table = Table::shipped();
    for (hosts, expected) in SETS {
        let found = table.provider_of(hosts).map(|row| row.name.as_str());
        assert_eq!(found, *expected, "{hosts:?}");
    }
}

/// The table of the PowerMTA-like source, as a spreadsheet writes it.
const CSV: &str = "\
ISP,max-smtp-out,max-msg-rate,retry-after,max-msg-per-conn
Gmail (gmail.com),8 (HIGH rep),\"3,500/h\",15m,100
Microsoft (outlook.com),5,\"2,000/h\",25m,50
Yahoo (yahoo.com),6,\"2,500/h\",20m,100
GMX / Web.de,4,\"1,500/h\",30m,50
T-Online (telekom.de),3,\"1,200/h\",30m,50
Orange.fr,3,\"1,000/h\",30m,30
Default (all others),3,800/h,30m,30
";

#[test]
fn the_imported_table_equals_the_shipped_numbers() {
    // What stands between quotes keeps its comma.
    let parts = CSV.split('"').enumerate();
    let semicolons: String = parts
        .map(|(at, part)| if at % 2 == 0 { part.replace(',', ";") } else { part.to_owned() })
        .collect();
    for csv in [CSV, &semicolons] {
        let toml = table::import("pmta.csv", csv).expect("a good table");
        let table = over_shipped(&toml).unwrap_or_else(|found| panic!("{}\n{toml}", shown(&found)));
        let shipped = Table::shipped();
        for row in shipped.rows.iter().chain([&shipped.default]) {
            let imported = table.row(&row.name).map(Row::limits);
            assert_eq!(imported, Some(row.limits()), "{}", row.name);
        }
        let google = line(row(&table, "google"), "connections");
        assert_eq!(
            (google.source.as_str(), &*google.place.file),
            ("pmta.csv, line 2", "site.toml")
        );
    }
}

#[test]
fn an_import_gives_what_the_csv_gives_and_no_more() {
    let csv = "\u{feff}max-msg-rate\tISP\tretry-after\n9/s\tiCloud\t5m 1h\n\tCOMCAST\t45m\n";
    assert_eq!(
        table::import("a\"b.csv", csv).as_deref(),
        Ok("# Made from a\"b.csv by `mailshot rates import`.\n\
            \n[provider.apple]\nrate = \"9/s\"\nretry = [\"5m\", \"1h\"]\n\
            source = 'a\"b.csv, line 2'\n\
            \n[provider.comcast]\n\
            retry = [\"45m\", \"90m\", \"3h\", \"4h\"]\n\
            source = 'a\"b.csv, line 3'\n")
    );
}

#[test]
fn each_bad_csv_gives_one_clear_problem_with_its_line() {
    let head = "ISP,max-smtp-out,max-msg-rate,retry-after,max-msg-per-conn\n";
    for (csv, place, words) in [
        (String::new(), "t.csv: ", &["the table is empty"][..]),
        (head.to_owned(), "t.csv: ", &["the table has no rows"]),
        (
            format!("{head}Gmial,1,1/s,1m,1\n"),
            "t.csv:2: ",
            &["unknown ISP \"Gmial\"", "did you mean \"gmail\"?", "google", "yahoo"],
        ),
        (
            format!("{head}Zzz,1,1/s,1m,1\n"),
            "t.csv:2: ",
            &["unknown ISP \"Zzz\"", "there are apple, att"],
        ),
        (
            format!("{head}Gmail,1,1/s,1m,1\ngoogle,1,1/s,1m,1\n"),
            "t.csv:3: ",
            &["a second row for google, after that of line 2"],
        ),
        (
            format!("{head}Gmail,0,1/s,1m,1\n"),
            "t.csv:2: ",
            &["connections: \"0\" is not a whole number from 1"],
        ),
        (
            format!("{head}Gmail,1,0/h,1m,1\n"),
            "t.csv:2: ",
            &["rate: \"0/h\" allows no message at all"],
        ),
        (format!("{head}Gmail,1,unlimited,1m,1\n"), "t.csv:2: ", &["\"unlimited\" is not a rate"]),
        (
            format!("{head}Gmail,1,1/s,later,1\n"),
            "t.csv:2: ",
            &["retry: \"later\" is not a duration"],
        ),
        (
            format!("{head}Gmail,1,1/s,1m,many\n"),
            "t.csv:2: ",
            &["\"many\" is not a whole number from 0"],
        ),
        (
            format!("{head}Gmail,8,3,500/h,15m,100\n"),
            "t.csv:2: ",
            &["6 fields, and 5 columns", "put quotes"],
        ),
        (
            "ISP,max-smtp-outs\nGmail,1\n".to_owned(),
            "t.csv:1: ",
            &["unknown column \"max-smtp-outs\"", "did you mean \"max-smtp-out\"?"],
        ),
        ("max-smtp-out\n1\n".to_owned(), "t.csv:1: ", &["there is no column ISP"]),
        ("ISP,isp\nGmail,Gmail\n".to_owned(), "t.csv:1: ", &["two columns \"isp\""]),
    ] {
        let problems = table::import("t.csv", &csv).expect_err(&csv);
        let shown = shown(&problems);
        assert_eq!(problems.len(), 1, "{csv}\n{shown}");
        assert!(shown.starts_with(place), "{place} of {csv}\n{shown}");
        for word in words {
            assert!(shown.contains(word), "{word:?} is not said of {csv}\n{shown}");
        }
    }
}

proptest! {
    #[test]
    fn a_damaged_table_is_read_or_refused_with_places(
        cut in 0..SHIPPED.text.len(),
        length in 0..40_usize,
        instead in prop::sample::select(vec!["", "\"", "[", "]", "=", "\n", "0", "{ x = 1 }", "#"]),
    ) {
        let start = SHIPPED.text.floor_char_boundary(cut);
        let end = SHIPPED.text.ceil_char_boundary((start + length).min(SHIPPED.text.len()));
        let text = [&SHIPPED.text[..start], instead, &SHIPPED.text[end..]].concat();
        let lines = u32::try_from(text.lines().count()).expect("few lines");
        for layers in [vec![layer("t.toml", &text)], vec![SHIPPED, layer("t.toml", &text)]] {
            match Table::read(&layers) {
                Ok(table) => {
                    let rows = table.rows.iter().chain([&table.default]);
                    let limits: Vec<_> = rows.map(Row::limits).collect();
                    prop_assert!(limits.iter().all(|limits| limits.connections > 0));
                    prop_assert!(limits.iter().all(|limits| !limits.retry.steps.is_empty()));
                }
                Err(problems) => {
                    prop_assert!(!problems.is_empty());
                    for problem in &problems {
                        prop_assert_eq!(&*problem.place.file, "t.toml", "{}", problem);
                        prop_assert!(problem.place.line <= lines + 1, "{}", problem);
                    }
                }
            }
        }
    }

    #[test]
    fn a_damaged_csv_is_refused_or_makes_a_good_table(
        cut in 0..CSV.len(),
        length in 0..30_usize,
        instead in "[\"',;0-9a-zA-Z\n/]{0,5}",
    ) {
        let end = (cut + length).min(CSV.len());
        let text = [&CSV[..cut], &instead, &CSV[end..]].concat();
        match table::import("pmta.csv", &text) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(toml) => {
                let read = over_shipped(&toml);
                prop_assert!(read.is_ok(), "{}\n{toml}", shown(&read.unwrap_err()));
            }
        }
    }
}

fn rates(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailshot"));
    command.current_dir(dir).arg("rates").args(arguments).output().expect("the program starts")
}

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = rates(dir, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

fn fails(dir: &Path, exit: i32, arguments: &[&str]) -> String {
    let output = rates(dir, arguments);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn the_program_explains_imports_and_lists() {
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = scratch.path();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
    write("site.toml", "[provider.google]\nrate = \"1000/h\"\n");
    let campaign = include_str!("data/campaign/minimal.toml");
    write("campaign.toml", &format!("{campaign}[rates.provider.google]\nconnections = 2\n"));
    write("pmta.csv", CSV);
    let over = ["--rates", "site.toml", "--campaign", "campaign.toml"];

    let named = succeeds(dir, &[&["explain", "google"], &over[..]].concat());
    let line = |key: &str| {
        let found = named.lines().find(|line| line.split_whitespace().next() == Some(key));
        let found = found.unwrap_or_else(|| panic!("{key} is explained: {named}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(named.starts_with("row google\nhas .google.com, datasets/rates.toml:"), "{named}");
    let expected = "rate 1000/h site.toml:2:8 this file; instead of 3500/h, datasets/rates.toml:";
    assert!(line("rate").starts_with(expected), "{named}");
    assert!(line("connections").starts_with("connections 2 campaign.toml:16:15 this"), "{named}");
    assert!(line("messages_per_connection").contains("Cloud Server for Email"), "{named}");

    let hosts = ["--mx", "aspmx.l.google.com", "--mx", "ALT1.aspmx.l.google.com."];
    let domain = succeeds(dir, &[&["explain", "example.com"], &hosts[..]].concat());
    assert!(
        domain.starts_with("row google applies to example.com\naspmx.l.google.com "),
        "{domain}"
    );
    assert!(domain.contains("ALT1.aspmx.l.google.com.  is .google.com of google, datasets/"));
    let mixed = succeeds(
        dir,
        &[&["explain", "example.com", "--mx", "mx.example.com"], &hosts[..]].concat(),
    );
    assert!(mixed.starts_with("row default applies to example.com\n"), "{mixed}");
    assert!(mixed.contains("mx.example.com            is no provider's\n"), "{mixed}");
    assert!(succeeds(dir, &["explain", "mimecast"]).contains("each set of mail hosts separately"));

    write("made.toml", &succeeds(dir, &["import", "pmta.csv"]));
    let list = |arguments: &[&str]| succeeds(dir, &[&["list"], arguments].concat());
    assert_eq!(list(&["--rates", "made.toml"]), list(&[]), "the same numbers");
    assert!(
        list(&over).lines().any(|line| line.starts_with("google      2            1000/h  100"))
    );
}

#[test]
fn the_program_refuses_bad_tables_and_unknown_names() {
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = scratch.path();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
    for (text, place, words) in BAD {
        write("site.toml", text);
        let stderr = fails(dir, 3, &["list", "--rates", "site.toml"]);
        assert!(stderr.contains(&format!("site.toml:{place}: ")), "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
        assert!(stderr.contains("\n1 problem; "), "{stderr}");
    }
    write("bad.csv", "ISP,max-smtp-out\nNobody,3\n");
    assert!(fails(dir, 3, &["import", "bad.csv"]).contains("bad.csv:2: unknown ISP \"Nobody\""));
    assert!(
        fails(dir, 3, &["list", "--rates", "none.toml"]).contains("none.toml: it cannot be read")
    );
    let unknown = fails(dir, 2, &["explain", "gogle"]);
    assert!(unknown.contains("no provider \"gogle\": did you mean \"google\"?"), "{unknown}");
}
