//! plan — `mailshot plan` as people run it: what it counts, what it says holds a campaign up, what
//! a deadline needs, and that it leaves nothing behind. Mail hosts come from a file, as in
//! `pipelines/million`; `rates explain` asks a real name server too.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mailshot_gen::{Share, write};
use serde_json::Value;

use support::campaign::Campaign;
use support::nameserver::NameServer;
use support::process::{Finished, Process, mailshot};
use support::witness::Witness;

/// How long a plan of a hundred thousand rows may take on a busy machine.
const PLAN: Duration = Duration::from_secs(60);

/// The mail hosts of the domains below; there is no line for `nowhere.test`.
const HOSTS: &str = "\
gmail.com gmail-smtp-in.l.google.com=127.0.0.11
customer.example aspmx.l.google.com=127.0.0.11
outlook.com outlook-com.olc.protection.outlook.com=127.0.0.12
gmx.de mx00.gmx.net=127.0.0.13
six.example mx.six.example=2001:db8::6
* mx.%d=127.0.0.14
";

/// A campaign in a folder of its own: so many rows at each domain, and these sections.
fn campaign(rows: &[(&str, u32)], sections: &str) -> Campaign {
    let addresses = rows
        .iter()
        .flat_map(|(domain, count)| (0..*count).map(move |number| format!("r{number}@{domain}")));
    let campaign = Campaign::to(1, addresses);
    campaign.put("mx.txt", HOSTS);
    let file = campaign.path("campaign.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    let text = text.replace("route = \"127.0.0.1:1\"", "route = \"mx\"");
    let dns = "[dns]\nhosts = \"mx.txt\"\n";
    fs::write(file, format!("{text}\n{dns}\n{sections}\n")).expect("scratch is writable");
    campaign
}

fn finish(command: &mut Command) -> Finished {
    Process::start(command).finish(PLAN)
}

fn plan(campaign: &Campaign, options: &[&str]) -> String {
    let finished = finish(&mut campaign.command("plan", options));
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.stdout
}

fn json(campaign: &Campaign, options: &[&str]) -> Value {
    serde_json::from_str(&plan(campaign, &[&["--json"], options].concat())).expect("it is JSON")
}

/// The line of a text plan that begins with this word, its blanks made one.
fn line(text: &str, word: &str) -> String {
    let found = text.lines().find(|line| line.split_whitespace().next() == Some(word));
    let found = found.unwrap_or_else(|| panic!("{word} has a line in:\n{text}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn provider<'p>(plan: &'p Value, name: &str) -> &'p Value {
    let all = plan["providers"].as_array().expect("a list");
    let found = all.iter().find(|provider| provider["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is in {plan:#}"))
}

fn hours(plan: &Value) -> f64 {
    plan["takes_seconds"].as_f64().expect("a time") / 3600.0
}

/// Every file below a folder, with its length.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path, entry.metadata().expect("it is there").len())),
        }
    }
    found
}

/// Where a value of the shipped table stands: the first line of that text after the section's.
fn shipped(section: &str, text: &str) -> String {
    let table = include_str!("../datasets/rates.toml");
    let mut lines = (1..).zip(table.lines()).skip_while(|(_, line)| *line != section);
    let (number, _) = lines.find(|(_, line)| line.starts_with(text)).expect("it stands there");
    format!("datasets/rates.toml:{number}")
}

#[test]
fn rows_are_counted_by_provider_and_the_slowest_is_named() {
    let rows =
        [("gmail.com", 700), ("customer.example", 60), ("outlook.com", 200), ("small.example", 41)];
    let campaign = campaign(&rows, "");
    let before = files(&campaign.path(""));
    let text = plan(&campaign, &[]);
    let json = json(&campaign, &[]);
    assert_eq!(files(&campaign.path("")), before, "a plan leaves nothing");

    let google = format!("rate 3500/h · {}", shipped("[provider.google]", "rate"));
    assert!(line(&text, "google").starts_with("google 760 2 1 3,500 8 13m 1s "), "{text}");
    assert!(line(&text, "google").ends_with(&google), "{text}");
    assert!(line(&text, "microsoft").starts_with("microsoft 200 1 1 2,000 5 5m 58s "), "{text}");
    assert!(line(&text, "mx.small.example").contains("41 1 1 800 3 3m "), "{text}");
    assert!(
        line(&text, "total").starts_with("total 0.2 h (13m 1s) for 1,001 recipients"),
        "{text}"
    );
    assert_eq!(line(&text, "binds"), format!("binds google: {google}"));

    let expected = 759.0 * 3600.0 / 3500.0 / 3600.0;
    assert!((hours(provider(&json, "google")) - expected).abs() < 0.001, "{json:#}");
    assert_eq!(provider(&json, "google")["binds"]["limit"], "rate");
    assert_eq!(provider(&json, "mx.small.example")["provider"], Value::Null);
    assert_eq!((&json["version"], &json["accepted"]), (&1.into(), &1001.into()));
    assert_eq!(json["total"]["takes_seconds"], provider(&json, "google")["takes_seconds"]);
}

#[test]
fn a_deadline_says_how_many_sources_it_needs_or_what_forbids_it() {
    let rates = "[rates.provider.gmx]\nrate_total = \"60/h\"\n";
    let campaign = campaign(&[("gmail.com", 3500), ("outlook.com", 900), ("gmx.de", 31)], rates);
    let met = plan(&campaign, &["--deadline", "61m"]);
    assert_eq!(line(&met, "deadline"), "deadline 1h 1m is met");
    let some = plan(&campaign, &["--deadline", "31m"]);
    assert_eq!(line(&some, "deadline"), "deadline 31m is missed; it needs 2 sources");
    assert!(some.contains("\n          google needs 2, has 1\n"), "{some}");
    assert!(!some.contains("microsoft needs"), "{some}");
    let none = plan(&campaign, &["--deadline", "10m"]);
    assert!(line(&none, "deadline").ends_with("missed, and no number of sources meets it"));
    let gmx = "\n          gmx: rate_total 60/h · campaign.toml:";
    assert!(none.replace(&campaign.path("").display().to_string(), "").contains(gmx), "{none}");
    assert!(none.contains("\n          microsoft needs 3, has 1\n"), "{none}");

    let json = json(&campaign, &["--deadline", "31m", "--sources", "4"]);
    assert_eq!((&json["deadline"]["met"], &json["deadline"]["sources"]), (&true.into(), &4.into()));
    assert_eq!(provider(&json, "google")["lanes"], 4);
    assert_eq!(provider(&json, "gmx")["binds"]["limit"], "rate_total");
}

#[test]
fn connections_the_whole_run_and_warm_ups_can_bind() {
    let rows = [("gmail.com", 700), ("gmx.de", 100)];
    let slow = plan(&campaign(&rows, ""), &["--latency", "20s"]);
    let google = format!("connections 8 at 20s a message · {}", shipped("[provider.google]", "co"));
    assert!(line(&slow, "google").ends_with(&google), "{slow}");

    let ceiling = campaign(&rows, "");
    let file = ceiling.path("campaign.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    fs::write(&file, text.replace("[delivery]", "[delivery]\nrate = \"400/h\"")).expect("written");
    let text = plan(&ceiling, &["--deadline", "1h"]);
    assert!(
        line(&text, "binds").starts_with("binds the whole run: rate 400/h to all · "),
        "{text}"
    );
    assert!(line(&text, "total").starts_with("total 2.0 h (1h 59m)"), "{text}");
    assert!(line(&text, "deadline").ends_with("no number of sources meets it"), "{text}");

    let warming = "[[source]]\naddress = \"127.0.0.2\"\nehlo_name = \"out1.sender.example\"\n\
                   warmup = \"careful\"\nwarmup_from = 2020-01-01\n\
                   [warmup]\nschedules = [\"careful.toml\"]\n";
    let warming = campaign(&rows, warming);
    warming.put(
        "careful.toml",
        "[[schedule]]\nname = \"careful\"\nsource = \"here\"\ndeferral_max = 0.08\n\
         block_max = 0.02\nbad_recipient_max = 0.02\nat_least = 50\nused_min = 0.5\n\
         rewarm_after = \"30d\"\n\
         stages = [{ day = 1, daily = 200 }, { day = 2, daily = 300 }]\n",
    );
    let text = plan(&warming, &["--deadline", "20m"]);
    let google = "warm-up careful, stage 1 of 2: 200 a day · ";
    assert!(line(&text, "google").contains(google), "{text}");
    assert!(line(&text, "google").contains("google 700 1 1 3,500 8 2d "), "{text}");
    assert!(
        text.contains("warm-up careful since 2020-01-01: stage 1 of 2, 200 a day at "),
        "{text}"
    );
    assert!(line(&text, "deadline").ends_with("it needs 1 source"), "{text}");
    assert!(text.contains("google needs 1, has 1, when they are warm"), "{text}");
}

#[test]
fn sources_send_where_their_addresses_reach() {
    let sources = "[[source]]\naddress = \"127.0.0.2\"\nehlo_name = \"out1.sender.example\"\n\
                   [[source]]\naddress = \"::1\"\nehlo_name = \"out2.sender.example\"\n";
    let campaign = campaign(&[("gmail.com", 10), ("six.example", 10)], sources);
    let text = plan(&campaign, &["--deadline", "1h"]);
    assert!(line(&text, "google").starts_with("google 10 1 1 3,500"), "{text}");
    let expected = "mx.six.example 10 1 0 0.0 0 never - no source has an address";
    assert!(line(&text, "mx.six.example").starts_with(expected), "{text}");
    assert_eq!(line(&text, "total"), "total never: some mail cannot be sent at all");
    assert!(line(&text, "deadline").ends_with("no number of sources meets it"), "{text}");
}

#[test]
fn dead_domains_are_excluded_and_silent_ones_are_named() {
    let zone = "alive A 127.0.0.14\n@ A 127.0.0.14\nnull MX 0 .\n";
    let Some(server) = NameServer::start(&[("zone.test", Some(zone)), ("mute.test", None)]) else {
        return;
    };
    let rows =
        [("alive.zone.test", 3), ("gone.zone.test", 2), ("null.zone.test", 4), ("mute.test", 5)];
    let campaign = campaign(&rows, "");
    let file = campaign.path("campaign.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    let servers = format!("servers = [\"{}\"]", server.address());
    fs::write(file, text.replace("hosts = \"mx.txt\"", &servers)).expect("written");
    let text = plan(&campaign, &[]);
    assert_eq!(line(&text, "list"), "list 14 rows, 8 good");
    assert!(text.contains("excluded  2 no_such_domain: gone.zone.test 2\n"), "{text}");
    assert!(text.contains("excluded  4 null_mx: null.zone.test 4\n"), "{text}");
    assert!(line(&text, "unknown").starts_with("unknown 5 rows at 1 domains"), "{text}");
    assert!(line(&text, "total").contains(" for 3 recipients"), "{text}");
    let json = json(&campaign, &[]);
    assert_eq!((&json["excluded"]["null_mx"], &json["accepted"]), (&4.into(), &8.into()));

    let explain = |arguments: &[&str]| {
        let server = server.address().to_string();
        let more = ["rates", "explain", "--dns", &server];
        finish(mailshot().args([&more[..], arguments].concat()))
    };
    let found = explain(&["alive.zone.test"]).stdout;
    assert!(found.starts_with("row default applies to alive.zone.test\nalive.zone.test  is no "));
    let dead = explain(&["null.zone.test"]);
    let expected = "no mail can be sent to null.zone.test: it says that it takes none (RFC 7505)\n";
    assert_eq!((dead.status.code(), dead.stdout.as_str()), (Some(0), expected));
    let silent = explain(&["mute.test"]);
    assert_eq!(silent.status.code(), Some(14));
    assert!(silent.stderr.contains("the mail hosts of mute.test are not known: "), "{silent:?}");
}

#[test]
fn explain_follows_the_campaign() {
    let campaign = campaign(&[("gmail.com", 1)], "[rates.provider.google]\nconnections = 2\n");
    let file = campaign.path("campaign.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    let tables = "[delivery]\nrate_tables = [\"site.toml\"]";
    fs::write(&file, text.replace("[delivery]", tables)).expect("written");
    campaign.put("site.toml", "[provider.google]\nconnections = 3\nrate = \"1000/h\"\n");
    campaign.put("own.toml", "[provider.google]\nrate = \"900/h\"\n");
    let mut explain = mailshot();
    explain.args(["rates", "explain", "customer.example", "--campaign"]).arg(file);
    let finished = finish(explain.arg("--rates").arg(campaign.path("own.toml")));
    let text = finished.stdout;
    assert!(text.starts_with("row google applies to customer.example\naspmx.l.google.com  is "));
    let (connections, rate) = (line(&text, "connections"), line(&text, "rate"));
    assert!(connections.starts_with("connections 2 ") && connections.contains("instead of 3, "));
    assert!(rate.starts_with("rate 1000/h ") && rate.contains("instead of 900/h, "), "{rate}");
}

#[test]
fn tables_and_rules_are_tested() {
    let campaign = campaign(&[("gmail.com", 1)], "");
    campaign.put("site.toml", "[provider.ours]\nmx = [\".ours.example\"]\nrate = \"10/h\"\n");
    let test = |file: &str| {
        let mut command = mailshot();
        finish(command.args(["rates", "test", "--rates"]).arg(campaign.path(file)))
    };
    let good = test("site.toml");
    assert_eq!(good.status.code(), Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("all judge their samples"), "{}", good.stdout);
    campaign.put("bad.toml", "[provider.google]\nrate = \"0/h\"\n");
    let bad = test("bad.toml");
    assert_eq!(bad.status.code(), Some(3));
    assert!(bad.stderr.contains("bad.toml:2:8: "), "{}", bad.stderr);
}

#[test]
fn what_is_wrong_ends_it_with_its_place() {
    let bad = campaign(&[("gmail.com", 1)], "[rates.provider.google]\nrate = \"0/h\"\n");
    let finished = finish(&mut bad.command("plan", &[]));
    assert_eq!(finished.status.code(), Some(3));
    let text = fs::read_to_string(bad.path("campaign.toml")).expect("it was written");
    let at = (1..).zip(text.lines()).find(|(_, line)| line.starts_with("rate = \"0/h\""));
    let place = format!("campaign.toml:{}:", at.expect("it stands there").0);
    assert!(finished.stderr.contains(&place), "{}", finished.stderr);

    let warm = "[[source]]\naddress = \"127.0.0.2\"\nehlo_name = \"out1.sender.example\"\n\
                warmup = \"mailtrop\"\nwarmup_from = 2020-01-01\n";
    let unknown = finish(&mut campaign(&[("gmail.com", 1)], warm).command("plan", &[]));
    assert_eq!(unknown.status.code(), Some(3));
    let words = "no warm-up schedule is called \"mailtrop\"\n    help: did you mean \"mailtrap\"?";
    assert!(unknown.stderr.contains(words), "{}", unknown.stderr);

    let empty = campaign(&[], "");
    empty.put("list.csv", "");
    assert_eq!(finish(&mut empty.command("plan", &[])).status.code(), Some(4));
    for wrong in [["--latency", "0s"], ["--deadline", "soon"], ["--sources", "0"]] {
        assert_eq!(finish(&mut empty.command("plan", &wrong)).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_smarthost_is_one_group_under_the_campaigns_own_limits() {
    let campaign = Campaign::new(25, 101).delivery("rate = \"100/h\"");
    let json = json(&campaign, &[]);
    let only = provider(&json, "127.0.0.1");
    assert!((hours(only) - 1.0).abs() < 0.001, "{json:#}");
    let place = only["binds"]["place"].as_str().expect("a place");
    assert!(place.ends_with("campaign.toml [delivery]"), "{place}");
}

#[test]
fn what_was_sent_before_counts() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 20);
    campaign.run();
    let campaign = campaign.delivery("rate = \"40/h\"");
    let before = files(&campaign.path(""));
    let json = json(&campaign, &["--deadline", "50m"]);
    assert_eq!(files(&campaign.path("")), before, "a plan leaves nothing");
    let only = provider(&json, "127.0.0.1");
    assert_eq!(only["binds"]["words"], "rate 40/h, 20 of it sent before");
    // 20 intervals of 90 s for the rows before, 19 for these.
    assert!((hours(only) - 39.0 * 90.0 / 3600.0).abs() < 0.001, "{json:#}");
    let need = &json["deadline"]["missed"][0];
    assert_eq!(need["why"], "when what was sent before does not count any more", "{json:#}");
}

/// A simulation of the campaign, with these options.
fn simulated(campaign: &Campaign, options: &[&str]) -> Value {
    json(campaign, &[&["--simulate"], options].concat())
}

#[test]
fn a_simulation_agrees_with_the_arithmetic_where_a_rate_binds() {
    let campaign = campaign(&[("gmail.com", 3500), ("gmx.de", 60)], "");
    let exact = ["--deferral", "0%", "--bad", "0%"];
    let plan = simulated(&campaign, &exact);
    let (simulation, wanted) = (&plan["simulation"], &plan["total"]["takes_seconds"]);
    let google = provider(simulation, "google");
    let (took, wanted) = (google["last_seconds"].as_f64(), wanted.as_f64());
    let (took, wanted) = (took.expect("a time"), wanted.expect("a time"));
    assert!((took / wanted - 1.0).abs() < 0.05, "{took} s, {wanted} s planned");
    assert_eq!((&google["binds"], &google["delivered"]), (&"rate".into(), &3500.into()));
    let total = &simulation["total"];
    assert_eq!((&total["name"], &total["last_seconds"]), (&"google".into(), &took.into()));
    assert_eq!((&total["delivered"], &total["unfinished"]), (&3560.into(), &0.into()));

    let file = campaign.path("campaign.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    fs::write(file, text.replace("[delivery]", "[delivery]\nrate = \"2000/h\"")).expect("written");
    let plan = simulated(&campaign, &exact);
    let (total, wanted) = (&plan["simulation"]["total"], &plan["total"]["takes_seconds"]);
    let took = total["last_seconds"].as_f64().expect("a time");
    assert!((took / wanted.as_f64().expect("a time") - 1.0).abs() < 0.05, "{plan:#}");
    assert_eq!(total["binds"], "ceiling");
}

#[test]
fn a_seed_makes_its_simulation_again_and_another_differs_a_little() {
    let campaign = campaign(&[("gmail.com", 1750), ("outlook.com", 300)], "");
    let of = |options: &[&str]| {
        let mut plan = simulated(&campaign, options);
        let simulation = &mut plan["simulation"];
        // The hour of the clock is another one each time.
        simulation["total"]["finish"].take();
        let providers = simulation["providers"].as_array_mut().expect("a list");
        providers.iter_mut().for_each(|of| drop(of["finish"].take()));
        simulation.take()
    };
    let (one, again, other) = (of(&[]), of(&[]), of(&["--seed", "2"]));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let took = |of: &Value| of["total"]["last_seconds"].as_f64().expect("a time");
    let (first, second) = (took(&one), took(&other));
    assert!((first / second - 1.0).abs() < 0.5, "{first} s and {second} s");
    let total = &one["total"];
    let count = |word: &str| total[word].as_u64().expect("a count");
    assert_eq!(count("delivered") + count("bounced"), 2050, "{total:#}");
}

#[test]
fn what_is_put_off_comes_again_in_a_simulation() {
    let campaign = campaign(&[("gmail.com", 1000)], "");
    let text = plan(&campaign, &["--simulate", "--deferral", "20%", "--bad", "0%"]);
    assert!(line(&text, "simulated").contains(" for 1,000 recipients, until "), "{text}");
    let plan = simulated(&campaign, &["--deferral", "20%", "--bad", "0%"]);
    let total = &plan["simulation"]["total"];
    assert_eq!((&total["delivered"], &total["bounced"]), (&1000.into(), &0.into()));
    // A fifth, a fifth of the fifth, and so on.
    let deferred = total["deferred"].as_u64().expect("a count");
    assert!((190..320).contains(&deferred), "{total:#}");
    let took = total["last_seconds"].as_f64().expect("a time");
    assert!(took > plan["total"]["takes_seconds"].as_f64().expect("a time") * 1.05, "{plan:#}");
    assert!(line(&text, "assumed").contains("comes on top"), "{text}");
    assert!(text.contains("assumed   20.0 % of the attempts are put off (--deferral)"), "{text}");

    for wrong in [["--deferral", "20"], ["--bad", "101%"], ["--deferral", "0.25%"]] {
        let options = [&["--simulate"], &wrong[..]].concat();
        let status = finish(&mut campaign.command("plan", &options)).status;
        assert_eq!(status.code(), Some(2), "{wrong:?}");
    }
    let alone = finish(&mut campaign.command("plan", &["--seed", "3"]));
    assert_eq!(alone.status.code(), Some(2), "a seed is of a simulation");
}

/// The worked example with a tenth of its rows: everything is proportional.
#[test]
fn the_million_takes_217_hours_from_one_source_and_14_from_16() {
    const TENTH: u64 = 100_000;
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/million");
    let folder = support::scratch();
    for name in ["campaign.toml", "letter.txt", "mx.txt"] {
        fs::copy(pipeline.join(name), folder.path().join(name)).expect("copied");
    }
    let share = Share { domain: "gmail.com".to_owned(), millionths: 760_000 };
    let mut wanted = mailshot_gen::Plan::new(TENTH, 1);
    (wanted.shares, wanted.domain_suffix) = (vec![share], String::new());
    let mut list = Vec::new();
    write(&wanted, &mut list).expect("memory takes every octet");
    fs::write(folder.path().join("list.csv"), list).expect("written");
    let json = |options: &[&str]| -> Value {
        let mut command = mailshot();
        let command = command.args(["plan", "campaign.toml", "--json"]).args(options);
        let finished = finish(command.current_dir(folder.path()));
        assert!(finished.status.success(), "{}", finished.stderr);
        serde_json::from_str(&finished.stdout).expect("it is JSON")
    };
    let expected = fs::read_to_string(pipeline.join("expected-plan.json")).expect("it is there");
    let expected: Value = serde_json::from_str(&expected).expect("it is JSON");
    for (sources, of) in expected.as_object().expect("by the number of sources") {
        let plan = json(&["--sources", sources, "--deadline", "2h24m"]);
        let hours = 10.0 * hours(&plan["total"]);
        let wanted = of["hours"].as_f64().expect("a number");
        assert!((hours / wanted - 1.0).abs() < 0.01, "{sources}: {hours}");
        assert_eq!(plan["total"]["provider"], of["provider"], "{sources}");
        let binds = &plan["total"]["binds"];
        assert_eq!((&binds["words"], &binds["limit"]), (&of["binds"], &"rate".into()), "{sources}");
        assert_eq!(plan["accepted"], TENTH);
        assert_eq!(plan["deadline"]["sources"], of["sources_for_24_hours"], "{sources}");
    }
}
